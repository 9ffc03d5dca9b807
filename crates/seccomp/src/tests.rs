//! Programs are run by a small machine of the tests' own and compared with the policy read word by word.

use super::program::value;
use super::*;
use insula_spec::CapSet;
use insula_spec::seccomp::{Rule, default_policy};

/// Of both instruction sets; made once, as it is asked for thousands of times.
static NUMBERS: std::sync::OnceLock<[fnv::FnvHashMap<&str, u32>; 2]> = std::sync::OnceLock::new();

/// What the kernel gives a program: `struct seccomp_data`.
struct Call {
    number: u32,
    arch: u32,
    arguments: [u64; 6],
}

fn run(program: &[Instruction], call: &Call) -> u32 {
    let mut data = Vec::new();
    data.extend(call.number.to_le_bytes());
    data.extend(call.arch.to_le_bytes());
    data.extend(0_u64.to_le_bytes());
    call.arguments.iter().for_each(|argument| data.extend(argument.to_le_bytes()));
    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        let i = program[at];
        at += 1;
        let jump = |holds: bool| usize::from(if holds { i.jt } else { i.jf });
        match i.code {
            0x20 => accumulator = u32::from_le_bytes(data[i.k as usize..][..4].try_into().unwrap()),
            0x54 => accumulator &= i.k,
            0x05 => at += i.k as usize,
            0x15 => at += jump(accumulator == i.k),
            0x25 => at += jump(accumulator > i.k),
            0x35 => at += jump(accumulator >= i.k),
            0x06 => return i.k,
            code => panic!("unknown instruction {code:#x}"),
        }
    }
}

/// The policy, read as its documentation says it.
fn oracle(policy: &Policy, call: &Call) -> u32 {
    let Some(arch) = policy.arches.iter().find(|arch| audit_arch(**arch) == call.arch) else { return value(Action::KillProcess) };
    if *arch == Arch::X86_64 && call.number >= X32_BIT {
        return value(Action::Errno(ENOSYS));
    }
    let numbers = &NUMBERS.get_or_init(|| [Arch::X86_64, Arch::X86].map(numbers))[usize::from(*arch == Arch::X86)];
    let named = |rule: &&Rule| rule.calls.iter().any(|name| numbers.get(name.as_str()) == Some(&call.number));
    let holds = |c: &Condition| {
        let argument = call.arguments[usize::from(c.argument)];
        match c.test {
            Test::Eq => argument == c.value,
            Test::Ne => argument != c.value,
            Test::Lt => argument < c.value,
            Test::Le => argument <= c.value,
            Test::Gt => argument > c.value,
            Test::Ge => argument >= c.value,
            Test::MaskedEq(mask) => argument & mask == c.value,
            Test::MaskedNe(mask) => argument & mask != c.value,
        }
    };
    let rules: Vec<&Rule> = policy.rules.iter().filter(named).collect();
    if let Some(rule) = rules.iter().find(|rule| rule.conditions.is_empty()) {
        return value(rule.action);
    }
    if let Some(rule) = rules.iter().find(|rule| rule.conditions.iter().all(holds)) {
        return value(rule.action);
    }
    let beyond = rules.is_empty() && call.number >= first_unknown(*arch) && policy.default == Action::Errno(EPERM);
    value(if beyond { Action::Errno(ENOSYS) } else { policy.default })
}

fn agree(policy: &Policy, call: &Call) {
    let program = compile(policy).unwrap();
    assert_eq!(
        run(&program, call),
        oracle(policy, call),
        "{policy:?}, call {} of {:#x}, {:x?}",
        call.number,
        call.arch,
        call.arguments
    );
}

/// Numbers without a library: the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    /// Values at the edges of what comparisons of halves get wrong.
    fn word(&mut self) -> u64 {
        let edges = [0, 1, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, u64::MAX, 0x8000_0000, 0x5412, 0xffff_ffff_0000_5412];
        self.pick(&edges)
    }

    fn policy(&mut self) -> Policy {
        let actions = [
            Action::Allow,
            Action::Errno(1),
            Action::Errno(13),
            Action::KillThread,
            Action::KillProcess,
            Action::Log,
            Action::Trap,
        ];
        let names: Vec<&str> = syscalls::x86_64::Sysno::iter().map(|call| call.name()).collect();
        let arches = self.pick(&[&[Arch::X86_64][..], &[Arch::X86_64, Arch::X86]]).to_vec();
        let rules = (0..self.below(16))
            .map(|_| Rule {
                calls: (0..self.below(12) + 1).map(|_| self.pick(&names).to_owned()).collect(),
                conditions: (0..self.below(4)).map(|_| self.condition()).collect(),
                action: self.pick(&actions),
            })
            .collect();
        Policy { default: self.pick(&actions), arches, flags: 0, rules, listener: None }
    }

    fn condition(&mut self) -> Condition {
        let mask = self.word();
        let tests = [Test::Eq, Test::Ne, Test::Lt, Test::Le, Test::Gt, Test::Ge, Test::MaskedEq(mask), Test::MaskedNe(mask)];
        Condition { argument: self.below(6) as u8, test: self.pick(&tests), value: self.word() }
    }

    fn call(&mut self) -> Call {
        let near = self.below(700) as u32;
        Call {
            number: self.pick(&[near, near, near, X32_BIT, X32_BIT + near, u32::MAX]),
            arch: self.pick(&[audit_arch(Arch::X86_64), audit_arch(Arch::X86_64), audit_arch(Arch::X86), 0, 0xc000_00b7]),
            arguments: std::array::from_fn(|_| self.word()),
        }
    }
}

#[test]
fn random_policies_answer_as_they_read() {
    let mut random = Random(7);
    for _ in 0..300 {
        let policy = random.policy();
        let program = compile(&policy).unwrap();
        for _ in 0..200 {
            let call = random.call();
            assert_eq!(run(&program, &call), oracle(&policy, &call), "{policy:?} {:?} {:?}", call.number, call.arguments);
        }
    }
}

#[test]
fn every_call_of_the_default_policy_answers_as_it_reads() {
    for caps in [CapSet::DEFAULT, CapSet::EMPTY, CapSet::ALL] {
        let policy = default_policy(caps);
        let program = compile(&policy).unwrap();
        for arch in [Arch::X86_64, Arch::X86] {
            for number in 0..600 {
                let call = Call { number, arch: audit_arch(arch), arguments: [0; 6] };
                assert_eq!(run(&program, &call), oracle(&policy, &call), "{number}");
            }
        }
    }
}

#[test]
fn terminal_injection_is_refused_whatever_the_high_bits() {
    let policy = default_policy(CapSet::DEFAULT);
    for command in [0x5412, 0xffff_ffff_0000_5412, 0x541c, 0x1_0000_541c] {
        let call = Call { number: 16, arch: audit_arch(Arch::X86_64), arguments: [0, command, 0, 0, 0, 0] };
        assert_eq!(run(&compile(&policy).unwrap(), &call), value(Action::Errno(1)));
    }
    agree(&policy, &Call { number: 16, arch: audit_arch(Arch::X86_64), arguments: [0, 0x5413, 0, 0, 0, 0] });
}

#[test]
fn a_list_allows_what_is_in_it_and_nothing_else() {
    let request = |value| Condition { argument: 1, test: Test::Eq, value };
    let not_executable = [Condition { argument: 2, test: Test::MaskedEq(4), value: 0 }];
    let (first, second) = ([request(0xae80)], [request(0x5402)]);
    let list: [(Sysno, &[Condition]); 4] =
        [(Sysno::ioctl, &first), (Sysno::mmap, &not_executable), (Sysno::read, &[]), (Sysno::ioctl, &second)];
    let program = allow_only(list, Action::Trap).unwrap();
    let ask = |number: u32, arch, arguments: [u64; 3]| {
        let [a, b, c] = arguments;
        run(&program, &Call { number, arch: audit_arch(arch), arguments: [a, b, c, 0, 0, 0] })
    };
    let (allow, trap) = (value(Action::Allow), value(Action::Trap));
    for number in (0..600).filter(|number| ![0, 9, 16].contains(number)) {
        assert_eq!(ask(number, Arch::X86_64, [0; 3]), trap, "{number}");
        assert_eq!(ask(number | X32_BIT, Arch::X86_64, [0; 3]), trap, "{number}");
    }
    assert_eq!(ask(0, Arch::X86_64, [u64::MAX; 3]), allow);
    assert_eq!(ask(0, Arch::X86, [0; 3]), value(Action::KillProcess));
    for (command, answer) in [(0xae80, allow), (0x5402, allow), (0xae81, trap), (0xae80 | 1 << 32, trap), (0, trap)] {
        assert_eq!(ask(16, Arch::X86_64, [3, command, 0]), answer, "{command:#x}");
    }
    for (protection, answer) in [(0, allow), (3, allow), (4, trap), (7, trap), (4 | 1 << 32, trap)] {
        assert_eq!(ask(9, Arch::X86_64, [0, 4096, protection]), answer, "{protection}");
    }
}

#[test]
fn a_policy_that_is_too_long_is_refused() {
    let condition = |n| Condition { argument: 0, test: Test::Eq, value: n };
    let rule = |n| Rule { calls: vec!["read".into()], conditions: vec![condition(n)], action: Action::Allow };
    let policy = Policy {
        default: Action::Errno(1),
        arches: vec![Arch::X86_64],
        flags: 0,
        rules: (0..2000).map(rule).collect(),
        listener: None,
    };
    assert!(compile(&policy).is_err());
}
