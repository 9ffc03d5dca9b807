//! The line discipline, termios(3): what becomes of bytes between a terminal and its programs.
//!
//! Bytes typed at the terminal are *fed*; they turn into lines that can be read (canonical mode) or are there as they are, into signals, and into
//! echo. What programs write is processed and lies in the output until the terminal takes it.

use crate::fs::pipe::Ring;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use insula_abi::general as c;
use insula_abi::tty::{Termios, Termios2};

/// The longest line, and the most bytes that wait to be read (Linux: `N_TTY_BUF_SIZE`).
const MOST: usize = 4096;

/// The most bytes of output that wait for the terminal.
const MOST_OUTPUT: usize = 16384;

/// One terminal's discipline.
pub struct Line {
    termios: Termios2,
    /// Lines that can be read; an empty one is an end of file.
    lines: VecDeque<Vec<u8>>,
    /// The line that is being edited.
    edit: Vec<u8>,
    /// What can be read without regard to lines.
    raw: VecDeque<u8>,
    /// What the terminal is to show.
    output: Ring,
    /// Where its cursor is, and where it was when the line was begun.
    column: usize,
    begun: usize,
    /// The terminal wants nothing to be shown for now.
    stopped: bool,
    /// The next byte is to be taken as it is.
    literal: bool,
    /// What a terminal in packet mode is to be told, `TIOCPKT_*`.
    pub(super) told: u8,
}

/// A terminal's settings at first, as Linux has them.
pub fn initial() -> Termios2 {
    let mut cc = [0; 19];
    for (index, byte) in [
        (c::VINTR, 3),
        (c::VQUIT, 28),
        (c::VERASE, 127),
        (c::VKILL, 21),
        (c::VEOF, 4),
        (c::VMIN, 1),
        (c::VSTART, 17),
        (c::VSTOP, 19),
        (c::VSUSP, 26),
        (c::VREPRINT, 18),
        (c::VDISCARD, 15),
        (c::VWERASE, 23),
        (c::VLNEXT, 22),
    ] {
        cc[index as usize] = byte;
    }
    let termios = Termios {
        iflag: c::ICRNL | c::IXON,
        oflag: c::OPOST | c::ONLCR,
        cflag: c::B38400 | c::CS8 | c::CREAD,
        lflag: c::ISIG | c::ICANON | c::ECHO | c::ECHOE | c::ECHOK | c::ECHOCTL | c::ECHOKE | c::IEXTEN,
        line: 0,
        cc,
    };
    Termios2 { termios, ispeed: 38400, ospeed: 38400 }
}

impl Default for Line {
    fn default() -> Self {
        Line {
            termios: initial(),
            lines: VecDeque::new(),
            edit: Vec::new(),
            raw: VecDeque::new(),
            output: Ring::default(),
            column: 0,
            begun: 0,
            stopped: false,
            literal: false,
            told: 0,
        }
    }
}

impl Line {
    fn input(&self, flag: u32) -> bool {
        self.termios.termios.iflag & flag != 0
    }

    fn out(&self, flag: u32) -> bool {
        self.termios.termios.oflag & flag != 0
    }

    pub(super) fn local(&self, flag: u32) -> bool {
        self.termios.termios.lflag & flag != 0
    }

    pub(super) fn control(&self, index: u32) -> u8 {
        self.termios.termios.cc[index as usize]
    }

    /// Whether a byte is this control character; one that is 0 is switched off.
    fn is(&self, byte: u8, index: u32) -> bool {
        byte != 0 && self.control(index) == byte
    }

    /// Its settings.
    pub fn termios(&self) -> Termios2 {
        self.termios
    }

    /// Changes them.
    pub fn set_termios(&mut self, new: Termios2) {
        let was = self.local(c::ICANON);
        let flow = self.input(c::IXON);
        self.termios = new;
        match (was, self.local(c::ICANON)) {
            (true, false) => {
                let lines = core::mem::take(&mut self.lines);
                self.raw.extend(lines.into_iter().flatten());
                self.raw.extend(core::mem::take(&mut self.edit));
            }
            (false, true) if !self.raw.is_empty() => self.lines.push_back(self.raw.drain(..).collect()),
            _ => {}
        }
        if flow != self.input(c::IXON) {
            self.told |= if flow { c::TIOCPKT_NOSTOP } else { c::TIOCPKT_DOSTOP } as u8;
            if flow {
                self.start();
            }
        }
    }

    /// How many of `bytes` fit; the rest waits until something is read.
    fn room(&self) -> usize {
        let waiting = self.waiting() + self.edit.len();
        // A line that is too long loses what comes before its end, else that end could never come.
        if self.local(c::ICANON) && self.lines.is_empty() { MOST } else { MOST.saturating_sub(waiting) }
    }

    /// Whether it takes bytes from the terminal.
    pub fn takes(&self) -> bool {
        self.room() > 0
    }

    /// Bytes that can be read.
    pub fn waiting(&self) -> usize {
        self.lines.iter().map(Vec::len).sum::<usize>() + self.raw.len()
    }

    /// Bytes that the terminal has yet to show.
    pub fn unshown(&self) -> usize {
        self.output.len()
    }

    /// Takes bytes typed at the terminal, as far as there is room; answers how many, and adds signals that they mean.
    pub fn feed(&mut self, bytes: &[u8], signals: &mut Vec<i32>) -> usize {
        for (index, byte) in bytes.iter().enumerate() {
            if !self.takes() {
                return index;
            }
            self.feed_one(*byte, signals);
        }
        bytes.len()
    }

    fn feed_one(&mut self, byte: u8, signals: &mut Vec<i32>) {
        if core::mem::take(&mut self.literal) {
            return self.ordinary(byte);
        }
        let mut byte = if self.input(c::ISTRIP) { byte & 0x7f } else { byte };
        if self.input(c::IUCLC) && self.local(c::IEXTEN) {
            byte = byte.to_ascii_lowercase();
        }
        if self.input(c::IXON) {
            if self.is(byte, c::VSTART) {
                return self.start();
            }
            if self.is(byte, c::VSTOP) {
                return self.stop();
            }
            if self.stopped && self.input(c::IXANY) {
                self.start();
            }
        }
        if self.local(c::ISIG) {
            for (index, signal) in [(c::VINTR, c::SIGINT), (c::VQUIT, c::SIGQUIT), (c::VSUSP, c::SIGTSTP)] {
                if self.is(byte, index) {
                    signals.push(signal as i32);
                    return self.interrupted(byte);
                }
            }
        }
        match byte {
            b'\r' if self.input(c::IGNCR) => return,
            b'\r' if self.input(c::ICRNL) => byte = b'\n',
            b'\n' if self.input(c::INLCR) => byte = b'\r',
            _ => {}
        }
        if self.local(c::ICANON) { self.edit_with(byte) } else { self.ordinary(byte) }
    }

    /// A byte that means a signal: what was typed before it is forgotten.
    fn interrupted(&mut self, byte: u8) {
        if !self.local(c::NOFLSH) {
            self.flush_input();
            self.flush_output();
        }
        self.start();
        if self.local(c::ECHO) {
            self.echo(byte);
        }
    }

    /// A byte in canonical mode.
    fn edit_with(&mut self, byte: u8) {
        let extended = self.local(c::IEXTEN);
        if self.is(byte, c::VERASE) {
            return self.erase(byte, |line| line.edit.len() - 1);
        }
        if self.is(byte, c::VKILL) {
            return self.kill(byte);
        }
        if extended && self.is(byte, c::VWERASE) {
            return self.erase(byte, |line| {
                let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80;
                let end = line.edit.iter().rposition(word).map_or(0, |last| last + 1);
                line.edit[..end].iter().rposition(|byte| !word(byte)).map_or(0, |before| before + 1)
            });
        }
        if extended && self.is(byte, c::VLNEXT) {
            self.literal = true;
            if self.local(c::ECHO) && self.local(c::ECHOCTL) {
                self.show(b"^\x08");
            }
            return;
        }
        if extended && self.is(byte, c::VREPRINT) && self.local(c::ECHO) {
            self.echo(byte);
            self.process(b'\n');
            let line = self.edit.clone();
            return line.into_iter().for_each(|byte| self.echo(byte));
        }
        if self.is(byte, c::VEOF) {
            let line = core::mem::take(&mut self.edit);
            return self.lines.push_back(line);
        }
        let ends = byte == b'\n' || self.is(byte, c::VEOL) || extended && self.is(byte, c::VEOL2);
        if !ends {
            return self.ordinary(byte);
        }
        if byte == b'\n' && (self.local(c::ECHO) || self.local(c::ECHONL)) {
            self.process(b'\n');
        } else if byte != b'\n' && self.local(c::ECHO) {
            self.echo(byte);
        }
        let mut line = core::mem::take(&mut self.edit);
        line.push(byte);
        self.lines.push_back(line);
    }

    /// A byte that means itself.
    fn ordinary(&mut self, byte: u8) {
        if self.local(c::ICANON) {
            if self.edit.len() >= MOST - 1 {
                if self.input(c::IMAXBEL) {
                    self.show(b"\x07");
                }
                return;
            }
            if self.edit.is_empty() {
                self.begun = self.column;
            }
            self.edit.push(byte);
        } else {
            self.raw.push_back(byte);
        }
        if self.local(c::ECHO) {
            if byte == b'\n' { self.process(byte) } else { self.echo(byte) }
        }
    }

    /// Takes bytes off the line, down to the length that `to` says, and off the screen.
    fn erase(&mut self, byte: u8, to: fn(&Self) -> usize) {
        if self.edit.is_empty() {
            return;
        }
        let mut len = to(self);
        // A character of several bytes goes as a whole.
        while self.input(c::IUTF8) && len > 0 && self.edit[len] & 0xc0 == 0x80 {
            len -= 1;
        }
        let before = self.width(self.edit.len());
        let after = self.width(len);
        self.edit.truncate(len);
        if !self.local(c::ECHO) {
            return;
        }
        if self.local(c::ECHOE) {
            (after..before).for_each(|_| self.show(b"\x08 \x08"));
        } else {
            self.echo(byte);
        }
    }

    fn kill(&mut self, byte: u8) {
        if self.local(c::ECHO) && self.local(c::ECHOK) && self.local(c::ECHOKE) && self.local(c::ECHOE) {
            return self.erase(byte, |_| 0);
        }
        self.edit.clear();
        if self.local(c::ECHO) {
            self.echo(byte);
            if self.local(c::ECHOK) {
                self.process(b'\n');
            }
        }
    }

    /// Columns that the first `len` bytes of the line take on the screen.
    fn width(&self, len: usize) -> usize {
        self.edit[..len].iter().fold(self.begun, |column, byte| {
            column
                + match byte {
                    b'\t' => 8 - column % 8,
                    0..32 | 127 if self.local(c::ECHOCTL) => 2,
                    0..32 | 127 => 0,
                    0x80..0xc0 if self.input(c::IUTF8) => 0,
                    _ => 1,
                }
        }) - self.begun
    }

    /// Shows a byte that was typed.
    fn echo(&mut self, byte: u8) {
        if self.local(c::ECHOCTL) && (byte < 32 && byte != b'\t' || byte == 127) {
            self.show(&[b'^', byte ^ 0x40]);
        } else {
            self.process(byte);
        }
    }

    /// Shows bytes as they are. Echo that nobody looks at is dropped in the end.
    fn show(&mut self, bytes: &[u8]) {
        if self.output.len() + bytes.len() > 2 * MOST_OUTPUT {
            return;
        }
        self.output.push(bytes);
        for byte in bytes {
            match byte {
                b'\r' => self.column = 0,
                b'\x08' => self.column = self.column.saturating_sub(1),
                b'\t' => self.column += 8 - self.column % 8,
                0..32 | 127 => {}
                0x80..0xc0 if self.input(c::IUTF8) => {}
                _ => self.column += 1,
            }
        }
    }

    /// Processes a byte of output.
    fn process(&mut self, byte: u8) {
        if !self.out(c::OPOST) {
            return self.show(&[byte]);
        }
        match byte {
            b'\n' if self.out(c::ONLCR) => self.show(b"\r\n"),
            b'\n' => {
                self.show(b"\n");
                if self.out(c::ONLRET) {
                    self.column = 0;
                }
            }
            b'\r' if self.out(c::ONOCR) && self.column == 0 => {}
            b'\r' if self.out(c::OCRNL) => self.show(b"\n"),
            b'\t' if self.termios.termios.oflag & c::TABDLY == c::XTABS => {
                let spaces = 8 - self.column % 8;
                self.show(&b"        "[..spaces]);
            }
            byte if self.out(c::OLCUC) => self.show(&[byte.to_ascii_uppercase()]),
            byte => self.show(&[byte]),
        }
    }

    /// Takes what a program writes, as far as there is room; answers how much.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() && self.writable() {
            self.process(bytes[done]);
            done += 1;
        }
        done
    }

    /// Whether it takes what programs write.
    pub fn writable(&self) -> bool {
        !self.stopped && self.output.len() < MOST_OUTPUT
    }

    /// What the terminal is to show now.
    pub fn shown(&mut self) -> Option<&mut Ring> {
        (!self.stopped && !self.output.is_empty()).then_some(&mut self.output)
    }

    /// The terminal shows nothing for now.
    pub fn stop(&mut self) {
        if !self.stopped {
            self.stopped = true;
            self.told = self.told & !(c::TIOCPKT_START as u8) | c::TIOCPKT_STOP as u8;
        }
    }

    /// It goes on.
    pub fn start(&mut self) {
        if self.stopped {
            self.stopped = false;
            self.told = self.told & !(c::TIOCPKT_STOP as u8) | c::TIOCPKT_START as u8;
        }
    }

    /// What was typed and not read is forgotten.
    pub fn flush_input(&mut self) {
        self.lines.clear();
        self.edit.clear();
        self.raw.clear();
        self.told |= c::TIOCPKT_FLUSHREAD as u8;
    }

    /// What was written and not shown is forgotten.
    pub fn flush_output(&mut self) {
        self.output = Ring::default();
        self.told |= c::TIOCPKT_FLUSHWRITE as u8;
    }

    /// What a read of up to `most` bytes gets, which isn't taken yet; none if it must wait.
    pub fn next(&self, most: usize) -> Option<Vec<u8>> {
        if self.local(c::ICANON) {
            return self.lines.front().map(|line| line[..line.len().min(most)].to_vec());
        }
        (!self.raw.is_empty()).then(|| self.raw.iter().take(most).copied().collect())
    }

    /// A read took so many bytes of that.
    pub fn took(&mut self, count: usize) {
        if !self.local(c::ICANON) {
            self.raw.drain(..count.min(self.raw.len()));
            return;
        }
        let Some(line) = self.lines.front_mut() else { return };
        line.drain(..count.min(line.len()));
        if line.is_empty() {
            self.lines.pop_front();
        }
    }

    /// Whether there is enough for a read, if nothing limits how long it waits.
    pub fn readable(&self) -> bool {
        if self.local(c::ICANON) {
            return !self.lines.is_empty();
        }
        let least = if self.control(c::VTIME) == 0 { usize::from(self.control(c::VMIN)).max(1) } else { 1 };
        self.raw.len() >= least
    }
}
