//! Seccomp, Landlock, security modules, and a few sysctls.

use super::finding::{Finding, Group};
use insula_sys::host::Facts;
use insula_sys::host::security::{self, Source};

const GROUP: Group = Group::Confinement;

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let security = &facts.security;
    let mut all = seccomp(security);
    all.push(landlock(security));
    all.push(modules(security));
    all.push(lockdown(security));
    all.push(ptrace_scope(security));
    all.push(bpf(security));
    all.push(profile(facts));
    all
}

fn seccomp(security: &security::Facts) -> Vec<Finding> {
    let seccomp = &security.seccomp;
    let over = seccomp.filters_over_us.filter(|count| *count > 0);
    let over = over.map_or_else(String::new, |count| format!("; {count} already over this process"));
    let actions = if seccomp.actions.is_empty() { "actions unknown".to_owned() } else { seccomp.actions.join(" ") };
    let what = format!("system-call filters: {actions}{over}");
    let notification = "a supervisor may answer a workload's system calls";
    vec![
        Finding::tried(GROUP, "seccomp", what, &seccomp.filter).remedy("A kernel with CONFIG_SECCOMP_FILTER."),
        Finding::tried(GROUP, "seccomp notification", notification, &seccomp.user_notification).remedy(
            "Linux 5.0 or newer; a process can have one supervisor only, so a sandbox around us that supervises takes the place.",
        ),
    ]
}

fn landlock(security: &security::Facts) -> Finding {
    // What each version added: Documentation/userspace-api/landlock.rst.
    let scope = |abi: i32| match abi {
        ..=3 => "files",
        4 => "files, TCP ports",
        5 => "files, TCP ports, device ioctls",
        _ => "files, TCP ports, device ioctls, abstract sockets and signals",
    };
    match security.landlock_abi {
        Some(abi) => Finding::ok(GROUP, "Landlock", format!("ABI {abi}: a process confines itself ({})", scope(abi))),
        None => Finding::tried(GROUP, "Landlock", "a process confines itself without privilege", &security.landlock)
            .remedy("Linux 5.13 or newer with landlock in the lsm= list of the kernel's command line."),
    }
}

fn modules(security: &security::Facts) -> Finding {
    let names = security.modules.names.join(", ");
    let confines = |name: &String| matches!(name.as_str(), "apparmor" | "selinux" | "smack" | "tomoyo");
    let source = match security.modules.source {
        Source::Traces => " (from their traces: securityfs isn't mounted)",
        _ => "",
    };
    let what = format!("{names}{source}");
    if security.modules.names.iter().any(confines) {
        Finding::ok(GROUP, "security modules", what)
    } else {
        Finding::limited(GROUP, "security modules", what)
            .why("No module that confines a container by a profile or a label; an AppArmor profile or SELinux label in a bundle is refused.")
            .remedy("A kernel with AppArmor or SELinux, in the lsm= list of its command line.")
    }
}

fn lockdown(security: &security::Facts) -> Finding {
    match security.lockdown.as_deref() {
        Some("none") => Finding::ok(GROUP, "kernel lockdown", "off"),
        Some(mode) => Finding::limited(GROUP, "kernel lockdown", mode)
            .why("Root can't change the running kernel: no unsigned modules; in confidentiality mode no tracing, which the attack profile needs.")
            .remedy("Switch Secure Boot off, or boot without lockdown=."),
        None if security.modules.names.iter().any(|name| name == "lockdown") => {
            Finding::ok(GROUP, "kernel lockdown", "the kernel has it; its mode can't be read, since securityfs isn't mounted")
        }
        None => Finding::ok(GROUP, "kernel lockdown", "the kernel has none, or doesn't tell"),
    }
}

fn ptrace_scope(security: &security::Facts) -> Finding {
    let subject = "Yama ptrace_scope";
    match security.ptrace_scope {
        None => Finding::ok(GROUP, subject, "no Yama: any process may trace others of its user"),
        Some(0) => Finding::ok(GROUP, subject, "0: any process may trace others of its user"),
        Some(1) => Finding::ok(GROUP, subject, "1: a process may trace its descendants"),
        Some(2) => Finding::limited(GROUP, subject, "2: only root traces")
            .why("A sentry on the ptrace platform needs root.")
            .remedy("As root: sysctl kernel.yama.ptrace_scope=1."),
        Some(_) => Finding::missing(GROUP, subject, "3: nobody traces")
            .why("No sentry on the ptrace platform, and no debugger.")
            .remedy("Set kernel.yama.ptrace_scope=1 in sysctl.conf and reboot: 3 can't be taken back."),
    }
}

fn bpf(security: &security::Facts) -> Finding {
    let subject = "unprivileged BPF";
    match security.unprivileged_bpf_disabled {
        Some(0) => Finding::limited(GROUP, subject, "allowed")
            .why("Any workload that is let near bpf(2) may load programs into the kernel; the default filter keeps it away.")
            .remedy("As root: sysctl kernel.unprivileged_bpf_disabled=2."),
        Some(_) => Finding::ok(GROUP, subject, "disabled, as it should be"),
        None => Finding::ok(GROUP, subject, "the kernel has no such switch: probably no BPF"),
    }
}

fn profile(facts: &Facts) -> Finding {
    let paranoid = facts.security.perf_event_paranoid.map_or_else(String::new, |level| format!(" (perf_event_paranoid {level})"));
    let what = format!("counting the kernel functions a workload reaches, for `insula bench`{paranoid}");
    if facts.security.function_tracing {
        return Finding::ok(GROUP, "function tracing", what);
    }
    let why = if facts.kernel.uid == 0 {
        "There is no tracefs with function tracing at /sys/kernel/tracing."
    } else {
        "It needs root."
    };
    Finding::missing(GROUP, "function tracing", what)
        .why(why)
        .remedy("As root: mount -t tracefs tracefs /sys/kernel/tracing, on a kernel with CONFIG_FUNCTION_TRACER.")
}
