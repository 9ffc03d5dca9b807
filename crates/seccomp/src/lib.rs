//! System-call policies as programs of the kernel's.
//!
//! Two kinds come in: a [`Policy`] names calls, as an OCI configuration does; a program of ours that confines itself has a list of what it
//! may do ([`allow_only`]). Both become rules by number, and these a program.
//!
//! A program first asks for the instruction set, then searches the call's number by halves, so that even a policy of four hundred
//! names costs a call nine comparisons (and none at all where the kernel can prove that the answer doesn't depend on arguments,
//! as it has since Linux 5.11). libseccomp and its kin test the numbers one after another.
//!
//! The program is written from its end: then each jump's target is already there, and its distance known.

mod program;
#[cfg(test)]
mod tests;

use fnv::FnvHashMap;
use insula_spec::seccomp::{Action, Arch, Condition, Policy, Test};
use insula_sys::seccomp::Instruction;
use program::{Label, Writer};
pub use syscalls::x86_64::Sysno;

/// The kernel takes no more (BPF_MAXINSNS).
const MOST: usize = 4096;
const EPERM: u16 = 1;
const ENOSYS: u16 = 38;
/// Calls of the x32 interface have this bit in their number.
const X32_BIT: u32 = 0x4000_0000;

/// A policy that can't be a program.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It would be longer than what the kernel takes.
    #[error("{0} instructions are more than the {MOST} the kernel takes; use fewer rules")]
    TooLong(usize),
}

/// If all these conditions hold, a call of this number gets this answer.
type Rule<'p> = (u32, &'p [Condition], Action);

/// Compiles a policy.
///
/// # Errors
/// The program would be longer than the kernel takes.
pub fn compile(policy: &Policy) -> Result<Vec<Instruction>, Error> {
    let mut writer = Writer::default();
    // The kernel runs a filter for calls of any instruction set; numbers mean nothing without it.
    let mut next = writer.answer(Action::KillProcess);
    for arch in &policy.arches {
        let ranges = ranges(&mut writer, policy.default, rules(policy, *arch), &beyond(policy.default, *arch));
        next = arch_program(&mut writer, *arch, &ranges, next);
    }
    finish(writer, next)
}

/// Compiles a list of what a thread may do: a call is allowed if the conditions of one of its places in the list hold (none are always
/// met), and answered otherwise by `otherwise`. One of another instruction set ends the process.
///
/// # Errors
/// The program would be longer than the kernel takes.
pub fn allow_only<'p>(
    calls: impl IntoIterator<Item = (Sysno, &'p [Condition])>,
    otherwise: Action,
) -> Result<Vec<Instruction>, Error> {
    let rules = calls.into_iter().map(|(call, conditions)| (call.id() as u32, conditions, Action::Allow)).collect();
    let mut writer = Writer::default();
    let foreign = writer.answer(Action::KillProcess);
    let ranges = ranges(&mut writer, otherwise, rules, &[]);
    let start = arch_program(&mut writer, Arch::X86_64, &ranges, foreign);
    finish(writer, start)
}

fn finish(mut writer: Writer, first: Label) -> Result<Vec<Instruction>, Error> {
    writer.load(program::OFFSET_ARCH, first);
    let program = writer.finish();
    if program.len() > MOST { Err(Error::TooLong(program.len())) } else { Ok(program) }
}

fn audit_arch(arch: Arch) -> u32 {
    match arch {
        Arch::X86_64 => 0xc000_003e,
        Arch::X86 => 0x4000_0003,
    }
}

/// What a policy says, by number.
fn rules(policy: &Policy, arch: Arch) -> Vec<Rule<'_>> {
    let numbers = numbers(arch);
    let mut rules = Vec::with_capacity(numbers.len());
    for rule in &policy.rules {
        let known = rule.calls.iter().filter_map(|name| numbers.get(name.as_str()));
        rules.extend(known.map(|number| (*number, &*rule.conditions, rule.action)));
    }
    rules
}

/// Numbers by name. The library finds one name by comparing it with all, which for the hundreds of names of a policy takes longer than
/// everything else here; and the standard library's hash, which resists attackers, takes most of the rest. These keys are constants.
fn numbers(arch: Arch) -> FnvHashMap<&'static str, u32> {
    // As many as 512 buckets hold; one more name would double the table, and most of it would be pages for nothing.
    let mut numbers = FnvHashMap::with_capacity_and_hasher(448, Default::default());
    match arch {
        Arch::X86_64 => numbers.extend(syscalls::x86_64::Sysno::iter().map(|call| (call.name(), call.id() as u32))),
        Arch::X86 => numbers.extend(syscalls::x86::Sysno::iter().map(|call| (call.name(), call.id() as u32))),
    }
    numbers
}

/// The first number that no table of ours knows.
fn first_unknown(arch: Arch) -> u32 {
    match arch {
        Arch::X86_64 => syscalls::x86_64::Sysno::last().id() as u32 + 1,
        Arch::X86 => syscalls::x86::Sysno::last().id() as u32 + 1,
    }
}

/// Answers to numbers that no table knows, from these numbers on.
fn beyond(default: Action, arch: Arch) -> Vec<(u32, Action)> {
    // Calls newer than the policy: "not there" lets programs fall back, where "not permitted" makes them fail.
    let newer = if default == Action::Errno(EPERM) { Action::Errno(ENOSYS) } else { default };
    let mut answers = vec![(first_unknown(arch), newer)];
    answers.extend((arch == Arch::X86_64).then_some((X32_BIT, Action::Errno(ENOSYS))));
    answers
}

/// Where answers begin, by number: each holds up to the next.
fn ranges(writer: &mut Writer, default: Action, mut rules: Vec<Rule<'_>>, beyond: &[(u32, Action)]) -> Vec<(u32, Label)> {
    // Those of one call stay in their order.
    rules.sort_by_key(|(number, ..)| *number);
    let mut ranges: Vec<(u32, Label)> = Vec::new();
    let mut put = |start: u32, label: Label| {
        if ranges.last().is_none_or(|(_, last)| *last != label) {
            ranges.push((start, label));
        }
    };
    let otherwise = writer.answer(default);
    let mut position = 0;
    for alternatives in rules.chunk_by(|(number, ..), (next, ..)| number == next) {
        let number = alternatives[0].0;
        if number > position {
            put(position, otherwise);
        }
        put(number, answer(writer, default, alternatives));
        position = number + 1;
    }
    put(position, otherwise);
    for (start, action) in beyond.iter().filter(|(start, _)| *start > position) {
        put(*start, writer.answer(*action));
    }
    ranges
}

/// The part of the program for one instruction set; calls of others go on at `others`.
fn arch_program(writer: &mut Writer, arch: Arch, ranges: &[(u32, Label)], others: Label) -> Label {
    let search = search(writer, ranges);
    let start = writer.load(program::OFFSET_NUMBER, search);
    writer.if_equal(audit_arch(arch), start, others)
}

/// Finds the range a number lies in by halves. Each range ends where the next starts.
fn search(writer: &mut Writer, ranges: &[(u32, Label)]) -> Label {
    match ranges {
        [] => writer.answer(Action::KillProcess),
        [(_, label)] => *label,
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let (low_label, high_label) = (search(writer, low), search(writer, high));
            writer.if_at_least(high[0].0, high_label, low_label)
        }
    }
}

/// The answer to one call: of the first rule that has no conditions, else of the first whose conditions hold, else the default.
fn answer(writer: &mut Writer, default: Action, rules: &[Rule<'_>]) -> Label {
    if let Some((_, _, action)) = rules.iter().find(|(_, conditions, _)| conditions.is_empty()) {
        return writer.answer(*action);
    }
    let mut otherwise = writer.answer(default);
    for (_, conditions, action) in rules.iter().rev() {
        let mut then = writer.answer(*action);
        for condition in conditions.iter().rev() {
            then = test(writer, *condition, then, otherwise);
        }
        otherwise = then;
    }
    otherwise
}

/// One condition on a 64-bit argument, of which the machine loads 32 bits at a time.
fn test(writer: &mut Writer, condition: Condition, yes: Label, no: Label) -> Label {
    let (low, high) = program::offsets_of_argument(condition.argument);
    let (value_low, value_high) = (condition.value as u32, (condition.value >> 32) as u32);
    let mut equal = |mask: u64, yes: Label, no: Label| {
        let (mask_low, mask_high) = (mask as u32, (mask >> 32) as u32);
        let second = writer.if_equal(value_low & mask_low, yes, no);
        let second = writer.masked(mask_low, second);
        let second = writer.load(low, second);
        if mask_high == 0 {
            return second;
        }
        let first = writer.if_equal(value_high & mask_high, second, no);
        let first = writer.masked(mask_high, first);
        writer.load(high, first)
    };
    match condition.test {
        Test::Eq => equal(u64::MAX, yes, no),
        Test::Ne => equal(u64::MAX, no, yes),
        // A value with bits outside the mask can never be met.
        Test::MaskedEq(mask) if condition.value & !mask != 0 => no,
        Test::MaskedEq(mask) => equal(mask, yes, no),
        Test::MaskedNe(mask) if condition.value & !mask != 0 => yes,
        Test::MaskedNe(mask) => equal(mask, no, yes),
        Test::Ge => at_least(writer, (low, high), (value_low, value_high), yes, no),
        Test::Lt => at_least(writer, (low, high), (value_low, value_high), no, yes),
        Test::Gt => more(writer, (low, high), (value_low, value_high), yes, no),
        Test::Le => more(writer, (low, high), (value_low, value_high), no, yes),
    }
}

fn at_least(writer: &mut Writer, offset: (u32, u32), value: (u32, u32), yes: Label, no: Label) -> Label {
    let second = writer.if_at_least(value.0, yes, no);
    let second = writer.load(offset.0, second);
    let equal = writer.if_equal(value.1, second, no);
    let first = writer.if_more(value.1, yes, equal);
    writer.load(offset.1, first)
}

fn more(writer: &mut Writer, offset: (u32, u32), value: (u32, u32), yes: Label, no: Label) -> Label {
    let second = writer.if_more(value.0, yes, no);
    let second = writer.load(offset.0, second);
    let equal = writer.if_equal(value.1, second, no);
    let first = writer.if_more(value.1, yes, equal);
    writer.load(offset.1, first)
}
