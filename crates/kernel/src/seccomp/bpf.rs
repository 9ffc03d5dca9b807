//! Programs of a system-call filter: the classic packet filter's machine, looking at a call instead of a packet.
//!
//! A program is checked once, so that running it can't go wrong: jumps lead forwards and end within it, words that are looked at are
//! there, and it ends with an answer. Source: seccomp(2), and Linux's `Documentation/networking/filter.rst`.

use crate::{Errno, Result};
use alloc::vec::Vec;
use insula_abi::process::SockFilter;

/// The longest program (`BPF_MAXINSNS`).
pub const LONGEST: usize = 4096;

/// Words of memory that a program has (`BPF_MEMWORDS`).
const MEMORY: usize = 16;

/// Bytes of what a program looks at: `struct seccomp_data`.
const DATA: usize = 64;

/// A call as a program sees it, `struct seccomp_data` in words.
#[derive(Clone, Copy, Debug)]
pub struct Data([u32; DATA / 4]);

impl Data {
    /// Of a call of the x86-64 interface, made at this address.
    pub fn new(number: u32, instruction: u64, arguments: &[u64; 6]) -> Self {
        let mut words = [0; DATA / 4];
        (words[0], words[1]) = (number, super::ARCH);
        let rest = core::iter::once(&instruction).chain(arguments);
        for (index, value) in rest.enumerate() {
            (words[2 + index * 2], words[3 + index * 2]) = (*value as u32, (value >> 32) as u32);
        }
        Data(words)
    }

    /// As programs see it, in words.
    pub(super) fn words(&self) -> [u32; DATA / 4] {
        self.0
    }
}

/// A program that was checked.
pub struct Program(Vec<SockFilter>);

// Classes of instructions, and what they are made of, from linux/bpf_common.h.
const LD: u16 = 0;
const LDX: u16 = 1;
const ST: u16 = 2;
const STX: u16 = 3;
const ALU: u16 = 4;
const JMP: u16 = 5;
const RET: u16 = 6;
const MISC: u16 = 7;
const IMM: u16 = 0x00;
const ABS: u16 = 0x20;
const MEM: u16 = 0x60;
const LEN: u16 = 0x80;
const X: u16 = 0x08;
const A: u16 = 0x10;
const ADD: u16 = 0x00;
const SUB: u16 = 0x10;
const MUL: u16 = 0x20;
const DIV: u16 = 0x30;
const OR: u16 = 0x40;
const AND: u16 = 0x50;
const LSH: u16 = 0x60;
const RSH: u16 = 0x70;
const NEG: u16 = 0x80;
const XOR: u16 = 0xa0;
const JA: u16 = 0x00;
const JEQ: u16 = 0x10;
const JGT: u16 = 0x20;
const JGE: u16 = 0x30;
const JSET: u16 = 0x40;
const TXA: u16 = 0x80;
const LD_ABS: u16 = LD | ABS;
const LD_LEN: u16 = LD | LEN;
const LDX_LEN: u16 = LDX | LEN;
const LDX_MEM: u16 = LDX | MEM;
const LD_MEM: u16 = LD | MEM;
const LDX_IMM: u16 = LDX | IMM;
const RET_A: u16 = RET | A;
const MISC_TXA: u16 = MISC | TXA;
const JMP_ALWAYS: u16 = JMP | JA;

impl Program {
    /// Checks a program.
    ///
    /// # Errors
    /// `EINVAL`: it isn't one.
    pub fn new(instructions: Vec<SockFilter>) -> Result<Self> {
        if instructions.is_empty() || instructions.len() > LONGEST {
            return Err(Errno::EINVAL);
        }
        for (at, instruction) in instructions.iter().enumerate() {
            check(instruction, at, instructions.len())?;
        }
        check_memory(&instructions)?;
        match instructions.last() {
            Some(last) if matches!(last.code, RET | RET_A) => Ok(Program(instructions)),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Its instructions.
    pub fn instructions(&self) -> &[SockFilter] {
        &self.0
    }

    /// How many instructions it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none, which can't be.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What it answers to a call.
    pub fn run(&self, data: &Data) -> u32 {
        self.execute(|offset| data.0.get(offset as usize / 4).copied()).unwrap_or(0)
    }

    /// What it answers to all calls of a number; none if that depends on anything else.
    pub fn always(&self, number: u32) -> Option<u32> {
        self.execute(|offset| match offset {
            0 => Some(number),
            4 => Some(super::ARCH),
            _ => None,
        })
    }

    /// Its answer, unless it looks at a word that isn't known.
    fn execute(&self, word: impl Fn(u32) -> Option<u32>) -> Option<u32> {
        let (mut a, mut x, mut memory) = (0u32, 0u32, [0u32; MEMORY]);
        let mut at = 0;
        // Jumps lead forwards, and the last instruction answers; so this ends.
        while let Some(SockFilter { code, jump_true, jump_false, k }) = self.0.get(at).copied() {
            at += 1;
            match code {
                RET => return Some(k),
                RET_A => return Some(a),
                LD => a = k,
                LD_LEN => a = DATA as u32,
                LD_ABS => a = word(k)?,
                LD_MEM => a = memory[k as usize % MEMORY],
                LDX_IMM => x = k,
                LDX_LEN => x = DATA as u32,
                LDX_MEM => x = memory[k as usize % MEMORY],
                ST => memory[k as usize % MEMORY] = a,
                STX => memory[k as usize % MEMORY] = x,
                MISC => x = a,
                MISC_TXA => a = x,
                JMP_ALWAYS => at += k as usize,
                _ => {
                    let operand = if code & X != 0 { x } else { k };
                    if code & 7 == JMP {
                        at += usize::from(if holds(code & 0xf0, a, operand) { jump_true } else { jump_false });
                    } else {
                        match calculate(code & 0xf0, a, operand) {
                            Some(value) => a = value,
                            // As Linux: who divides by nothing is answered with 0.
                            None => return Some(0),
                        }
                    }
                }
            }
        }
        Some(0)
    }
}

fn holds(condition: u16, a: u32, operand: u32) -> bool {
    match condition {
        JEQ => a == operand,
        JGT => a > operand,
        JGE => a >= operand,
        _ => a & operand != 0,
    }
}

fn calculate(operation: u16, a: u32, operand: u32) -> Option<u32> {
    Some(match operation {
        ADD => a.wrapping_add(operand),
        SUB => a.wrapping_sub(operand),
        MUL => a.wrapping_mul(operand),
        DIV => return a.checked_div(operand),
        OR => a | operand,
        AND => a & operand,
        XOR => a ^ operand,
        LSH => a.wrapping_shl(operand),
        RSH => a.wrapping_shr(operand),
        _ => a.wrapping_neg(),
    })
}

/// Looks at one instruction of `len`.
fn check(instruction: &SockFilter, at: usize, len: usize) -> Result<()> {
    let SockFilter { code, jump_true, jump_false, k } = *instruction;
    let within = |distance: usize| at.checked_add(1).and_then(|next| next.checked_add(distance)).is_some_and(|to| to < len);
    let fine = match code {
        RET | RET_A | LD | LD_LEN | LDX_IMM | LDX_LEN | MISC | MISC_TXA => true,
        LD_ABS => (k as usize) < DATA && k.is_multiple_of(4),
        LD_MEM | LDX_MEM | ST | STX => (k as usize) < MEMORY,
        JMP_ALWAYS => within(k as usize),
        _ => match (code & 7, code & 0xf0, code & !0xff) {
            (JMP, JEQ | JGT | JGE | JSET, 0) => within(usize::from(jump_true)) && within(usize::from(jump_false)),
            (ALU, DIV, 0) => code & X != 0 || k != 0,
            (ALU, LSH | RSH, 0) => code & X != 0 || k < 32,
            (ALU, NEG, 0) => code & X == 0,
            (ALU, ADD | SUB | MUL | OR | AND | XOR, 0) => true,
            _ => false,
        },
    };
    if fine { Ok(()) } else { Err(Errno::EINVAL) }
}

/// No word of memory may be read that wasn't written before, whichever way led there.
fn check_memory(instructions: &[SockFilter]) -> Result<()> {
    // Words that were written on every way to an instruction, as far as ways are known.
    let mut known = alloc::vec![u16::MAX; instructions.len()];
    let mut written = 0u16;
    for (at, instruction) in instructions.iter().enumerate() {
        written &= known[at];
        let bit = 1u16.checked_shl(instruction.k).unwrap_or(0);
        let mut leads = |distance: usize, written: u16| {
            if let Some(there) = known.get_mut(at + 1 + distance) {
                *there &= written;
            }
        };
        match instruction.code {
            ST | STX => written |= bit,
            LD_MEM | LDX_MEM if written & bit == 0 => return Err(Errno::EINVAL),
            JMP_ALWAYS => {
                leads(instruction.k as usize, written);
                written = u16::MAX;
            }
            code if code & 7 == JMP => {
                leads(usize::from(instruction.jump_true), written);
                leads(usize::from(instruction.jump_false), written);
                written = u16::MAX;
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn op(code: u16, jump_true: u8, jump_false: u8, k: u32) -> SockFilter {
        SockFilter { code, jump_true, jump_false, k }
    }

    fn run(instructions: Vec<SockFilter>) -> u32 {
        let program = Program::new(instructions).expect("a program");
        program.run(&Data::new(39, 0x1234_5678_9abc, &[1, 2, 3, 4, 5, 6 << 32]))
    }

    #[test]
    fn calls_are_seen_as_they_were_made() {
        let word = |k: u32| run(vec![op(LD_ABS, 0, 0, k), op(RET_A, 0, 0, 0)]);
        assert_eq!([0, 4, 8, 12, 16, 56, 60].map(word), [39, super::super::ARCH, 0x5678_9abc, 0x1234, 1, 0, 6]);
    }

    #[test]
    fn arithmetic_jumps_and_memory() {
        let program = vec![
            op(LD, 0, 0, 7),
            op(ALU | MUL, 0, 0, 6),
            op(ST, 0, 0, 3),
            op(MISC, 0, 0, 0),
            op(JMP | JEQ, 1, 0, 42),
            op(RET, 0, 0, 1),
            op(LD, 0, 0, 0),
            op(LD_MEM, 0, 0, 3),
            op(ALU | SUB | X, 0, 0, 0),
            op(JMP | JGT, 0, 1, 0),
            op(RET, 0, 0, 2),
            op(ALU | DIV | X, 0, 0, 0),
            op(RET_A, 0, 0, 0),
        ];
        assert_eq!(run(program), 0);
        let by_zero = vec![op(LD, 0, 0, 7), op(ALU | DIV | X, 0, 0, 0), op(RET, 0, 0, 9)];
        assert_eq!(run(by_zero), 0);
    }

    #[test]
    fn what_depends_on_the_number_alone_is_known() {
        // Number 1: allowed. Number 2: by an argument. Others: refused.
        let program = Program::new(vec![
            op(LD_ABS, 0, 0, 4),
            op(JMP | JEQ, 0, 5, super::super::ARCH),
            op(LD_ABS, 0, 0, 0),
            op(JMP | JEQ, 2, 0, 1),
            op(JMP | JEQ, 0, 2, 2),
            op(LD_ABS, 0, 0, 16),
            op(RET, 0, 0, 7),
            op(RET, 0, 0, 9),
        ])
        .expect("a program");
        assert_eq!([1, 2, 3].map(|number| program.always(number)), [Some(7), None, Some(9)]);
    }

    #[test]
    fn what_could_go_wrong_is_no_program() {
        let end = op(RET, 0, 0, 0);
        for bad in [
            vec![],
            vec![op(LD, 0, 0, 0)],
            vec![op(0xffff, 0, 0, 0), end],
            vec![op(JMP_ALWAYS, 0, 0, 1), end],
            vec![op(JMP_ALWAYS, 0, 0, u32::MAX), end],
            vec![op(JMP | JEQ, 0, 1, 0), end],
            vec![op(LD_ABS, 0, 0, 64), end],
            vec![op(LD_ABS, 0, 0, 2), end],
            vec![op(LD_MEM, 0, 0, 1), end],
            vec![op(ST, 0, 0, 16), end],
            vec![op(JMP | JEQ, 1, 0, 0), op(ST, 0, 0, 1), op(LD_MEM, 0, 0, 1), end],
            vec![op(ALU | DIV, 0, 0, 0), end],
            vec![op(ALU | LSH, 0, 0, 32), end],
            vec![end; LONGEST + 1],
        ] {
            assert_eq!(Program::new(bad.clone()).err(), Some(Errno::EINVAL), "{bad:?}");
        }
        assert!(Program::new(vec![end; LONGEST]).is_ok());
    }
}
