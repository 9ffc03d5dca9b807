//! Which system calls a jump can take the place of.
//!
//! The instruction is two bytes long and a jump to anywhere is seven, so its neighbours make room: the `mov $number, %eax` in front of it, or
//! instructions behind it that do the same anywhere, and to which nothing jumps.

/// Bytes of the jump that takes a call's place.
pub const JUMP: usize = 7;

/// Most bytes of instructions that are moved.
const MOST_MOVED: usize = 20;

/// A system call that a jump can take the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Site {
    /// The first of [`JUMP`] bytes that are replaced.
    pub start: u64,
    /// The call's number.
    pub number: u32,
    /// Instructions behind it that give way.
    pub moved: Option<Moved>,
}

/// Instructions that are somewhere else from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Moved {
    bytes: [u8; MOST_MOVED],
    len: usize,
    /// Which of them begin one.
    begins: u32,
    /// The condition of a jump behind them that is moved, too, and its distance from its end.
    branch: Option<(u8, i32)>,
    /// Of all of them, with the jump.
    size: usize,
}

impl Moved {
    /// All but a jump at the end.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The condition of the jump at the end, as opcodes have it.
    pub(super) fn condition(&self) -> Option<u8> {
        self.branch.map(|(condition, _)| condition)
    }
}

/// Bytes of code around a call: so many before its end, and behind it.
pub type Code = [u8; Site::BEFORE + MOST_MOVED];

impl Site {
    /// See [`Code`].
    pub const BEFORE: usize = 7;

    /// From the code around a call of this number that ends at `ip`; and the bytes that a jump replaces.
    pub fn find(code: &Code, ip: u64, number: u64) -> Option<(Site, [u8; JUMP])> {
        let number = u32::try_from(number).ok().filter(|number| *number <= 0xfff)?;
        let (before, behind) = code.split_at(Self::BEFORE);
        let (start, moved) = match before {
            [0xb8, n @ .., 0x0f, 0x05] if *n == number.to_le_bytes() => (0, None),
            [.., 0x0f, 0x05] => (Self::BEFORE - 2, Some(movable(behind)?)),
            _ => return None,
        };
        let replaced = code.get(start..start + JUMP)?.try_into().ok()?;
        let start = ip.wrapping_sub(Self::BEFORE as u64).wrapping_add(start as u64);
        Some((Site { start, number, moved }, replaced))
    }

    /// Where a thread may be that was on its way when the call was replaced: it is to make the call now. What stands there is no instruction.
    pub fn halfway(&self) -> Option<u64> {
        self.moved.is_none().then_some(self.start + 5)
    }

    /// Where the program goes on behind what was moved, and where if the jump at the end is taken.
    pub(super) fn behind(&self) -> (u64, u64) {
        let Some(moved) = &self.moved else { return (self.start + JUMP as u64, 0) };
        let next = self.start + 2 + moved.size as u64;
        (next, moved.branch.map_or(0, |(_, distance)| next.wrapping_add_signed(distance.into())))
    }

    /// Where instructions were that are at `to` from now on.
    pub(super) fn onward(&self, ip: u64, to: u64) -> Option<u64> {
        let offset = ip.checked_sub(self.start + 2)?;
        self.moved.is_some_and(|moved| offset < moved.size as u64 && offset <= moved.len as u64).then(|| to + offset)
    }

    /// Whether something in `code`, which is at `at`, may jump to an instruction that is moved. What looks like it need not be it.
    pub fn is_target(&self, code: &[u8], at: u64) -> bool {
        let Some(moved) = &self.moved else { return false };
        let own = self.start + 2;
        let hit = |end: usize, distance: i64| {
            let target = at.wrapping_add(end as u64).wrapping_add_signed(distance);
            target.checked_sub(own).is_some_and(|offset| offset < moved.size as u64 && moved.begins >> offset & 1 == 1)
        };
        let short = |index: usize, pair: &[u8]| {
            matches!(pair, [0x70..=0x7f | 0xe0..=0xe3 | 0xeb, _]) && hit(index + 2, i64::from(i8::from_le_bytes([pair[1]])))
        };
        let long = |index: usize, five: &[u8]| match *five {
            [0xe8 | 0xe9 | 0x80..=0x8f, a, b, c, d] => hit(index + 5, i64::from(i32::from_le_bytes([a, b, c, d]))),
            _ => false,
        };
        // Distances of one byte don't reach further than this.
        let index = |address: u64| (address.saturating_sub(at) as usize).min(code.len());
        let from = index(self.start.saturating_sub(192));
        let window = from..index(self.start.saturating_add(192));
        code.get(window).unwrap_or_default().windows(2).enumerate().any(|(index, pair)| short(from + index, pair))
            || code.windows(5).enumerate().any(|(index, five)| long(index, five))
    }
}

/// The instructions at the beginning of `code` that must give way to a jump whose first two bytes are the call's.
fn movable(code: &[u8]) -> Option<Moved> {
    let mut moved = Moved { bytes: [0; MOST_MOVED], len: 0, begins: 0, branch: None, size: 0 };
    while moved.size < JUMP - 2 {
        let rest = code.get(moved.len..)?;
        if let Some((size, condition, distance)) = branch(rest) {
            moved.begins |= 1 << moved.len;
            moved.branch = Some((condition, distance));
            moved.size += size;
            // What is behind it isn't reached from it.
            return (moved.size >= JUMP - 2).then_some(moved);
        }
        let length = length(rest)?;
        moved.begins |= 1 << moved.len;
        let bytes = code.get(moved.len..moved.len + length)?;
        moved.bytes.get_mut(moved.len..moved.len + length)?.copy_from_slice(bytes);
        moved.len += length;
        moved.size = moved.len;
    }
    Some(moved)
}

/// A jump on a condition: its length, the condition, and how far.
fn branch(code: &[u8]) -> Option<(usize, u8, i32)> {
    match *code {
        [opcode @ 0x70..=0x7f, distance, ..] => Some((2, opcode & 15, i8::from_le_bytes([distance]).into())),
        [0x0f, opcode @ 0x80..=0x8f, a, b, c, d, ..] => Some((6, opcode & 15, i32::from_le_bytes([a, b, c, d]))),
        _ => None,
    }
}

/// The length of an instruction, if it is one of those that compilers put behind a system call, and does the same anywhere.
fn length(code: &[u8]) -> Option<usize> {
    let rex = usize::from(matches!(code.first()?, 0x40..=0x4f));
    let operand = |at: usize| {
        let modrm = *code.get(at)?;
        let (mode, register) = (modrm >> 6, modrm & 7);
        if mode == 3 {
            return Some(1);
        }
        let indexed = register == 4;
        // Without a base there would be a longer address, or one relative to the instruction.
        let base = if indexed { *code.get(at + 1)? & 7 } else { register };
        let address = match mode {
            0 if base == 5 => return None,
            0 => 0,
            1 => 1,
            _ => 4,
        };
        Some(1 + usize::from(indexed) + address)
    };
    let opcode = rex + 1;
    Some(match *code.get(rex)? {
        // add, or, and, sub, xor, cmp, movsxd, test, mov between registers, or with memory; lea
        0x01 | 0x03 | 0x09 | 0x0b | 0x21 | 0x23 | 0x29 | 0x2b | 0x31 | 0x33 | 0x39 | 0x3b | 0x63 | 0x85 | 0x88 | 0x89 | 0x8b
        | 0x8d => opcode + operand(opcode)?,
        // The first eight with a number: of 8 bits, of 32 bits; cmp, test with rax; mov of a number.
        0x83 => opcode + operand(opcode)? + 1,
        0x81 => opcode + operand(opcode)? + 4,
        0x3d => opcode + 4,
        0xb8..=0xbf if rex == 0 || code.first()? & 8 == 0 => opcode + 4,
        0xc7 => opcode + operand(opcode)? + 4,
        // set on a condition; move on a condition
        0x0f if matches!(code.get(opcode)?, 0x90..=0x9f | 0x40..=0x4f) => opcode + 1 + operand(opcode + 1)?,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Code around a call: what is in front of its end, and what is behind.
    fn code(before: &[u8], behind: &[u8]) -> Code {
        let mut code = [0xcc; Site::BEFORE + MOST_MOVED];
        code[Site::BEFORE - before.len()..Site::BEFORE].copy_from_slice(before);
        code[Site::BEFORE..Site::BEFORE + behind.len()].copy_from_slice(behind);
        code
    }

    #[test]
    fn a_number_in_front_makes_room() {
        let getppid = [0xb8, 110, 0, 0, 0, 0x0f, 0x05];
        let (site, replaced) = Site::find(&code(&getppid, &[]), 0x1007, 110).expect("a site");
        assert_eq!((site, replaced), (Site { start: 0x1000, number: 110, moved: None }, getppid));
        assert_eq!(site.halfway(), Some(0x1005));
        assert!(Site::find(&code(&getppid, &[]), 0x1007, 111).is_none(), "the number came from elsewhere");
        assert!(Site::find(&code(&[0xcd, 0x80], &[]), 0x1007, 110).is_none(), "another instruction");
    }

    #[test]
    fn instructions_behind_make_room() {
        // mov %rax, %rbx; test %rax, %rax; jns
        let behind = [0x48, 0x89, 0xc3, 0x48, 0x85, 0xc0, 0x79, 0x10];
        let (site, replaced) = Site::find(&code(&[0x31, 0xc0, 0x0f, 0x05], &behind), 0x1007, 0).expect("a site");
        assert_eq!((site.start, replaced), (0x1005, [0x0f, 0x05, 0x48, 0x89, 0xc3, 0x48, 0x85]));
        assert_eq!(site.moved.expect("some moved").bytes(), &behind[..6]);
        assert_eq!(site.onward(0x1007, 0x9000), Some(0x9000));
        assert_eq!(site.onward(0x100a, 0x9000), Some(0x9003));
        assert_eq!((site.onward(0x100d, 0x9000), site.onward(0x1005, 0x9000)), (None, None));
        assert_eq!((site.behind(), site.moved.and_then(|moved| moved.condition())), ((0x100d, 0), None));
        // test %rax, %rax; jns
        let (site, _) = Site::find(&code(&[0x0f, 0x05], &[0x48, 0x85, 0xc0, 0x79, 0xf0]), 0x1007, 0).expect("a site");
        assert_eq!((site.behind(), site.moved.and_then(|moved| moved.condition())), ((0x100c, 0xffc), Some(9)));
        assert_eq!((site.onward(0x100a, 0x9000), site.onward(0x100c, 0x9000)), (Some(0x9003), None));
        for behind in [&[0x79, 0x10][..], &[0xc3], &[0x48, 0x8b, 0x05, 0, 0, 0, 0], &[0xe8, 0, 0, 0, 0]] {
            assert!(Site::find(&code(&[0x31, 0xc0, 0x0f, 0x05], behind), 0x1007, 0).is_none(), "{behind:x?}");
        }
    }

    #[test]
    fn what_is_jumped_to_stays() {
        let behind = [0x48, 0x89, 0xc3, 0x48, 0x85, 0xc0];
        let (site, _) = Site::find(&code(&[0x31, 0xc0, 0x0f, 0x05], &behind), 0x1007, 0).expect("a site");
        let with = |at: u64, jump: &[u8]| {
            let mut text = vec![0xcc; 0x2000];
            text[at as usize..at as usize + jump.len()].copy_from_slice(jump);
            site.is_target(&text, 0)
        };
        assert!(!with(0, &[]));
        assert!(with(0x1010, &[0x75, 0xf8]), "to the second instruction");
        assert!(with(0x1010, &[0xeb, 0xf5]), "to the first");
        assert!(!with(0x1010, &[0xeb, 0xf3]), "to the call itself");
        assert!(!with(0x1010, &[0xeb, 0xf6]), "into the midst of one");
        assert!(with(0x20, &[0x0f, 0x84, 0xe1, 0x0f, 0, 0]), "from afar");
        assert!(with(0x1f00, &[0xe9, 0x02, 0xf1, 0xff, 0xff]), "back from afar");
        assert!(!with(0x20, &[0x75, 0xe5]));
    }

    #[test]
    fn lengths_are_the_processors() {
        for (code, expected) in [
            (&[0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff][..], Some(6)),
            (&[0x85, 0xc0], Some(2)),
            (&[0x41, 0x89, 0xc4], Some(3)),
            (&[0x89, 0x44, 0x24, 0x0c], Some(4)),
            (&[0x89, 0x84, 0x24, 0x48, 0x01, 0x00, 0x00], Some(7)),
            (&[0x48, 0x83, 0xf8, 0xff], Some(4)),
            (&[0x0f, 0x9c, 0xc1], Some(3)),
            (&[0xb9, 1, 0, 0, 0], Some(5)),
            (&[0x48, 0xb9, 1, 0, 0, 0, 0, 0, 0, 0], None),
            (&[0xc7, 0x04, 0x24, 1, 0, 0, 0], Some(7)),
            (&[0x8b, 0x04, 0x25, 0, 0, 0, 0], None),
            (&[0xff, 0xd0], None),
            (&[0x48], None),
        ] {
            assert_eq!(length(code), expected, "{code:x?}");
        }
    }
}
