//! `linux.seccomp` of a configuration.

use super::refuse;
use crate::Error;
use crate::seccomp::{Action, Arch, Condition, Listener, Policy, Rule, Test};
use oci_spec::runtime as oci;

const EPERM: u32 = 1;

/// The policy. Calls of instruction sets this machine doesn't run can't be made, so their names in `architectures` change nothing;
/// the x32 calls answer "not there" whatever the policy says.
pub(super) fn plan(seccomp: &oci::LinuxSeccomp) -> Result<Policy, Error> {
    let mut arches = vec![Arch::X86_64];
    if seccomp.architectures().iter().flatten().any(|arch| *arch == oci::Arch::ScmpArchX86) {
        arches.push(Arch::X86);
    }
    let mut flags = 0;
    for flag in seccomp.flags().iter().flatten() {
        flags |= match flag {
            oci::LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 1 << 0,
            oci::LinuxSeccompFilterFlag::SeccompFilterFlagLog => 1 << 1,
            oci::LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => 1 << 2,
            oci::LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 1 << 5,
        };
    }
    let mut rules = Vec::new();
    for (i, syscall) in seccomp.syscalls().iter().flatten().enumerate() {
        rule(&format!("linux.seccomp.syscalls[{i}]"), syscall, &mut rules)?;
    }
    let default = action("linux.seccomp.defaultAction", seccomp.default_action(), seccomp.default_errno_ret())?;
    let listener = seccomp.listener_path().clone().filter(|path| !path.as_os_str().is_empty());
    if let Some(path) = &listener {
        refuse(!path.is_absolute(), "linux.seccomp.listenerPath", "is not absolute")?;
    }
    let notifies = rules.iter().any(|rule| rule.action == Action::Notify);
    refuse(notifies && listener.is_none(), "linux.seccomp.listenerPath", "is missing; SCMP_ACT_NOTIFY needs it")?;
    // The process itself sends what is to be decided on, when its filter holds already.
    let sends = |rule: &Rule| rule.action == Action::Notify && rule.calls.iter().any(|call| call == "sendmsg");
    let problem = "SCMP_ACT_NOTIFY for sendmsg would wait for a listener that nothing has reached yet; leave sendmsg out";
    refuse(rules.iter().any(sends), "linux.seccomp.syscalls", problem)?;
    refuse(default == Action::Notify, "linux.seccomp.defaultAction", "SCMP_ACT_NOTIFY can't be the default")?;
    let metadata = seccomp.listener_metadata().clone().unwrap_or_default();
    let listener = listener.map(|path| Listener { path, metadata });
    Ok(Policy { default, arches, flags, rules, listener })
}

fn rule(field: &str, syscall: &oci::LinuxSyscall, rules: &mut Vec<Rule>) -> Result<(), Error> {
    refuse(syscall.names().is_empty(), &format!("{field}.names"), "is empty; name at least one call")?;
    let action = action(&format!("{field}.action"), syscall.action(), syscall.errno_ret())?;
    let mut conditions = Vec::new();
    for arg in syscall.args().iter().flatten() {
        conditions.push(condition(&format!("{field}.args"), arg)?);
    }
    let mut push = |conditions| rules.push(Rule { calls: syscall.names().clone(), conditions, action });
    // Several conditions on one argument are alternatives, on several arguments all must hold: so runc and crun read it.
    let repeated = conditions.iter().enumerate().any(|(i, c)| conditions[..i].iter().any(|d| d.argument == c.argument));
    if repeated {
        conditions.into_iter().for_each(|condition| push(vec![condition]))
    } else {
        push(conditions)
    }
    Ok(())
}

fn action(field: &str, action: oci::LinuxSeccompAction, errno: Option<u32>) -> Result<Action, Error> {
    use oci::LinuxSeccompAction as Name;
    let value = |default: u32| {
        let value = errno.unwrap_or(default);
        refuse(value > 4095, field, format!("errno {value} is outside 0 to 4095"))?;
        Ok::<u16, Error>(value as u16)
    };
    Ok(match action {
        Name::ScmpActKill | Name::ScmpActKillThread => Action::KillThread,
        Name::ScmpActKillProcess => Action::KillProcess,
        Name::ScmpActTrap => Action::Trap,
        Name::ScmpActErrno => Action::Errno(value(EPERM)?),
        Name::ScmpActNotify => Action::Notify,
        Name::ScmpActTrace => Action::Trace(value(EPERM)?),
        Name::ScmpActLog => Action::Log,
        Name::ScmpActAllow => Action::Allow,
    })
}

fn condition(field: &str, arg: &oci::LinuxSeccompArg) -> Result<Condition, Error> {
    use oci::LinuxSeccompOperator as Op;
    let argument = u8::try_from(arg.index()).ok().filter(|index| *index < 6);
    let argument =
        argument.ok_or_else(|| Error::field(format!("{field}.index"), format!("{} is outside 0 to 5", arg.index())))?;
    let (test, value) = match arg.op() {
        Op::ScmpCmpNe => (Test::Ne, arg.value()),
        Op::ScmpCmpLt => (Test::Lt, arg.value()),
        Op::ScmpCmpLe => (Test::Le, arg.value()),
        Op::ScmpCmpEq => (Test::Eq, arg.value()),
        Op::ScmpCmpGe => (Test::Ge, arg.value()),
        Op::ScmpCmpGt => (Test::Gt, arg.value()),
        Op::ScmpCmpMaskedEq => (Test::MaskedEq(arg.value()), arg.value_two().unwrap_or(0)),
    };
    Ok(Condition { argument, test, value })
}
