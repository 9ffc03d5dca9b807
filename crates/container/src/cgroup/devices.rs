//! Which device nodes may be opened: rules, and the program that judges by them on cgroup v2.

use insula_spec::resources::DeviceRule;
use insula_sys::bpf::Instruction;

/// The devices every container may use: null, zero, full, tty, random, urandom, ptmx, terminals; and making any node.
const ALWAYS: [(char, Option<u32>, Option<u32>, &str); 11] = [
    ('c', None, None, "m"),
    ('b', None, None, "m"),
    ('c', Some(1), Some(3), "rwm"),
    ('c', Some(1), Some(5), "rwm"),
    ('c', Some(1), Some(7), "rwm"),
    ('c', Some(1), Some(8), "rwm"),
    ('c', Some(1), Some(9), "rwm"),
    ('c', Some(5), Some(0), "rwm"),
    ('c', Some(5), Some(1), "rwm"),
    ('c', Some(5), Some(2), "rwm"),
    ('c', Some(136), None, "rwm"),
];

/// The rules with those for the devices the specification promises to every container; it adds them whatever is asked.
pub(super) fn with_defaults(rules: &[DeviceRule]) -> Vec<DeviceRule> {
    let always = ALWAYS.map(|(kind, major, minor, access)| DeviceRule { allow: true, kind, major, minor, access: access.into() });
    rules.iter().cloned().chain(always).collect()
}

// Of `include/uapi/linux/bpf.h`: registers, operations.
const LOAD_WORD: u8 = 0x61;
const MOVE_CONSTANT: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND_CONSTANT: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_NOT_EQUAL: u8 = 0x55;
const JUMP_NOT_EQUAL_REGISTER: u8 = 0x5d;
const EXIT: u8 = 0x95;

/// A program that gives 1 for an access the rules allow and 0 for another: the last rule that fits decides, so the program asks
/// from the last to the first.
///
/// Registers: 2 kind, 3 access, 4 major, 5 minor; the context is `struct bpf_cgroup_dev_ctx`.
pub(super) fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    let op = |code, destination: u8, source: u8, offset, constant| Instruction {
        code,
        registers: destination | source << 4,
        offset,
        constant,
    };
    let mut program = vec![
        op(LOAD_WORD, 2, 1, 0, 0),
        op(AND_CONSTANT, 2, 0, 0, 0xffff),
        op(LOAD_WORD, 3, 1, 0, 0),
        op(SHIFT_RIGHT, 3, 0, 0, 16),
        op(LOAD_WORD, 4, 1, 4, 0),
        op(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let mut tests: Vec<Instruction> = Vec::new();
        if rule.kind != 'a' {
            tests.push(op(JUMP_NOT_EQUAL, 2, 0, 0, if rule.kind == 'b' { 1 } else { 2 }));
        }
        let access = rule
            .access
            .chars()
            .map(|c| {
                if c == 'm' {
                    1
                } else if c == 'r' {
                    2
                } else {
                    4
                }
            })
            .fold(0, |all, bit| all | bit);
        if access != 7 {
            // An allowing rule must cover all that is asked, a denying one any of it; as runc has it, both cover all.
            tests.push(op(MOVE_REGISTER, 1, 3, 0, 0));
            tests.push(op(AND_CONSTANT, 1, 0, 0, access));
            tests.push(op(JUMP_NOT_EQUAL_REGISTER, 1, 3, 0, 0));
        }
        for (register, number) in [(4, rule.major), (5, rule.minor)] {
            if let Some(number) = number {
                tests.push(op(JUMP_NOT_EQUAL, register, 0, 0, number as i32));
            }
        }
        // A test that fails goes on behind the two instructions that answer.
        let length = tests.len();
        for (i, test) in tests.iter_mut().enumerate() {
            if [JUMP_NOT_EQUAL, JUMP_NOT_EQUAL_REGISTER].contains(&test.code) {
                test.offset = (length - i - 1 + 2) as i16;
            }
        }
        program.extend(tests);
        program.extend([op(MOVE_CONSTANT, 0, 0, 0, i32::from(rule.allow)), op(EXIT, 0, 0, 0, 0)]);
        // Nothing behind a rule that always fits can be reached, and the kernel refuses what can't be.
        if length == 0 {
            return program;
        }
    }
    // Without a rule that fits, as in v1: everything is allowed.
    program.extend([op(MOVE_CONSTANT, 0, 0, 0, 1), op(EXIT, 0, 0, 0, 0)]);
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program on an access.
    fn allows(program: &[Instruction], kind: i64, access: i64, major: i64, minor: i64) -> bool {
        let mut registers = [0_i64; 11];
        let context = [kind | access << 16, major, minor];
        let mut at = 0;
        loop {
            let i = program[at];
            at += 1;
            let (to, from) = (usize::from(i.registers & 15), usize::from(i.registers >> 4));
            let constant = i64::from(i.constant);
            let skip = usize::try_from(i.offset).unwrap_or(0);
            match i.code {
                LOAD_WORD => registers[to] = context[i.offset as usize / 4],
                MOVE_CONSTANT => registers[to] = constant,
                MOVE_REGISTER => registers[to] = registers[from],
                AND_CONSTANT => registers[to] &= constant,
                SHIFT_RIGHT => registers[to] >>= constant,
                JUMP_NOT_EQUAL => at += if registers[to] != constant { skip } else { 0 },
                JUMP_NOT_EQUAL_REGISTER => at += if registers[to] != registers[from] { skip } else { 0 },
                EXIT => return registers[0] == 1,
                code => panic!("unknown instruction {code:#x}"),
            }
        }
    }

    #[test]
    fn the_last_rule_that_fits_decides() {
        let rule = |allow, kind, major, minor, access: &str| DeviceRule { allow, kind, major, minor, access: access.into() };
        let deny_all = rule(false, 'a', None, None, "rwm");
        let program = program(&with_defaults(&[deny_all, rule(true, 'c', Some(10), Some(229), "r")]));
        assert!(allows(&program, 2, 2 | 4, 1, 3), "null, read and write");
        assert!(allows(&program, 2, 2, 10, 229), "fuse, read");
        assert!(!allows(&program, 2, 2 | 4, 10, 229), "fuse, write");
        assert!(!allows(&program, 1, 2, 8, 0), "a disk");
        assert!(allows(&program, 1, 1, 8, 0), "making a node");
        assert!(allows(&program, 2, 4, 136, 7), "a terminal");
    }
}
