//! Writes classic BPF from the end to the start.
//!
//! Source: `Documentation/networking/filter.rst`, seccomp(2).

use insula_spec::seccomp::Action;
use insula_sys::seccomp::Instruction;

/// Offsets in `struct seccomp_data`.
pub(crate) const OFFSET_NUMBER: u32 = 0;
pub(crate) const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGUMENTS: u32 = 16;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_MORE: u16 = 0x25;
const JUMP_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Offsets of the low and the high half of an argument on a little-endian machine.
pub(crate) fn offsets_of_argument(index: u8) -> (u32, u32) {
    let low = OFFSET_ARGUMENTS + 8 * u32::from(index);
    (low, low + 4)
}

/// An instruction that is written already: its distance from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label(usize);

/// A program in the making, last instruction first.
#[derive(Default)]
pub(crate) struct Writer {
    backwards: Vec<Instruction>,
    answers: Vec<(Action, Label)>,
}

impl Writer {
    /// Ends with an answer; each is in the program once.
    pub(crate) fn answer(&mut self, action: Action) -> Label {
        if let Some((_, label)) = self.answers.iter().find(|(known, _)| *known == action) {
            return *label;
        }
        let label = self.push(RETURN, 0, 0, value(action));
        self.answers.push((action, label));
        label
    }

    /// Loads a word, then goes on at `next`.
    pub(crate) fn load(&mut self, offset: u32, next: Label) -> Label {
        self.go(next);
        self.push(LOAD, 0, 0, offset)
    }

    /// Keeps the bits of a mask, then goes on at `next`.
    pub(crate) fn masked(&mut self, mask: u32, next: Label) -> Label {
        if mask == u32::MAX {
            return next;
        }
        self.go(next);
        self.push(AND, 0, 0, mask)
    }

    /// Goes on by whether the loaded word is this.
    pub(crate) fn if_equal(&mut self, value: u32, yes: Label, no: Label) -> Label {
        self.branch(JUMP_EQUAL, value, yes, no)
    }

    /// Goes on by whether the loaded word is this or more.
    pub(crate) fn if_at_least(&mut self, value: u32, yes: Label, no: Label) -> Label {
        self.branch(JUMP_AT_LEAST, value, yes, no)
    }

    /// Goes on by whether the loaded word is more than this.
    pub(crate) fn if_more(&mut self, value: u32, yes: Label, no: Label) -> Label {
        self.branch(JUMP_MORE, value, yes, no)
    }

    /// The program in the order in which it runs. It starts with what was written last.
    pub(crate) fn finish(mut self) -> Vec<Instruction> {
        self.backwards.reverse();
        self.backwards
    }

    fn branch(&mut self, code: u16, k: u32, yes: Label, no: Label) -> Label {
        // A test can skip 255 instructions; what lies farther is reached by a jump that stands right behind the test.
        let far = |writer: &Writer, label: Label| writer.distance(label) + 2 > 255;
        let yes = if far(self, yes) { self.jump(yes) } else { yes };
        let no = if far(self, no) { self.jump(no) } else { no };
        let (jt, jf) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.push(code, jt, jf, k)
    }

    /// Makes sure that the next instruction written runs into `next`.
    fn go(&mut self, next: Label) {
        if self.distance(next) > 0 {
            self.jump(next);
        }
    }

    fn jump(&mut self, to: Label) -> Label {
        let distance = self.distance(to) as u32;
        self.push(JUMP, 0, 0, distance)
    }

    /// Instructions between one written now and `label`.
    fn distance(&self, label: Label) -> usize {
        self.backwards.len() - label.0 - 1
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.backwards.push(Instruction { code, jt, jf, k });
        Label(self.backwards.len() - 1)
    }
}

/// The kernel's value for an answer, `SECCOMP_RET_*`.
pub(crate) fn value(action: Action) -> u32 {
    match action {
        Action::KillThread => 0,
        Action::KillProcess => 0x8000_0000,
        Action::Trap => 0x0003_0000,
        Action::Errno(errno) => 0x0005_0000 | u32::from(errno),
        Action::Notify => 0x7fc0_0000,
        Action::Trace(value) => 0x7ff0_0000 | u32::from(value),
        Action::Log => 0x7ffc_0000,
        Action::Allow => 0x7fff_0000,
    }
}
