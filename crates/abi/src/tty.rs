//! What is said of terminals.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct termios` as the kernel has it (`TCGETS`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)] // termios(3) describes each.
pub struct Termios {
    pub iflag: u32,
    pub oflag: u32,
    pub cflag: u32,
    pub lflag: u32,
    pub line: u8,
    pub cc: [u8; 19],
}

/// `struct termios2` (`TCGETS2`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)]
pub struct Termios2 {
    pub termios: Termios,
    pub ispeed: u32,
    pub ospeed: u32,
}

/// `struct termio`, of System V (`TCGETA`): the lower halves, and the first characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)] // ioctl_tty(2) names each.
pub struct Termio {
    pub iflag: u16,
    pub oflag: u16,
    pub cflag: u16,
    pub lflag: u16,
    pub line: u8,
    pub cc: [u8; 8],
    pub pad: u8,
}

impl From<Termios> for Termio {
    fn from(all: Termios) -> Self {
        let mut cc = [0; 8];
        cc.copy_from_slice(&all.cc[..8]);
        let low = |flags: u32| flags as u16;
        let (iflag, oflag, cflag, lflag) = (low(all.iflag), low(all.oflag), low(all.cflag), low(all.lflag));
        Termio { iflag, oflag, cflag, lflag, line: all.line, cc, pad: 0 }
    }
}

impl Termio {
    /// With what it doesn't have from `old`.
    pub fn over(self, old: Termios) -> Termios {
        let join = |new: u16, old: u32| old & 0xffff_0000 | u32::from(new);
        let mut cc = old.cc;
        cc[..8].copy_from_slice(&self.cc);
        Termios {
            iflag: join(self.iflag, old.iflag),
            oflag: join(self.oflag, old.oflag),
            cflag: join(self.cflag, old.cflag),
            lflag: join(self.lflag, old.lflag),
            line: self.line,
            cc,
        }
    }
}

impl Termios {
    /// Itself, but for what is locked, which stays as in `old` (`TIOCSLCKTRMIOS`): bits of flags, and characters that aren't 0.
    pub fn within(self, locked: &Termios, old: &Termios) -> Termios {
        let keep = |new: u32, locked: u32, old: u32| new & !locked | old & locked;
        let mut cc = self.cc;
        for (at, _) in locked.cc.iter().enumerate().filter(|(_, locked)| **locked != 0) {
            cc[at] = old.cc[at];
        }
        Termios {
            iflag: keep(self.iflag, locked.iflag, old.iflag),
            oflag: keep(self.oflag, locked.oflag, old.oflag),
            cflag: keep(self.cflag, locked.cflag, old.cflag),
            lflag: keep(self.lflag, locked.lflag, old.lflag),
            line: if locked.line != 0 { old.line } else { self.line },
            cc,
        }
    }
}

/// `struct winsize` (`TIOCGWINSZ`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)] // ioctl_tty(2) describes each.
pub struct Winsize {
    pub row: u16,
    pub col: u16,
    pub xpixel: u16,
    pub ypixel: u16,
}
