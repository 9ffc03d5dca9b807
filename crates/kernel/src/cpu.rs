//! The processor of a task, as its placement has it.

use crate::Regs;
use alloc::vec::Vec;

/// What a task's program has in its processor. Reaching it may cost the placement something, so who doesn't need it doesn't ask: most
/// calls need their arguments, and set a result.
pub trait Cpu {
    /// The general registers, to be read and changed.
    fn regs(&mut self) -> &mut Regs;

    /// The extended state (floating point, vectors), as `xsave` stores it in its standard form.
    fn extended(&mut self) -> Vec<u8>;

    /// Sets the extended state; answers whether the processor takes it. It comes from the program and may be anything.
    fn set_extended(&mut self, state: &[u8]) -> bool;
}

/// A system call as it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its number.
    pub number: u64,
    /// Its arguments.
    pub arguments: [u64; 6],
}
