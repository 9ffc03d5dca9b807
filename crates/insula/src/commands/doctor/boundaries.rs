//! A verdict for each boundary: what it would get from this host, and what it would have to do without.

use super::finding::{Boundary, Limit, Status, and, sentence};
use super::{cgroups, namespaces, privileges, virtualisation};
use insula_sys::host::Facts;
use insula_sys::host::cgroup::{Hierarchy, Layout};
use insula_sys::host::kvm::HostKind;

/// In the order in which the documentation presents them.
pub(super) fn verdicts(facts: &Facts) -> Vec<Boundary> {
    vec![native(), container(facts), system(facts), sentry(facts), microvm(facts), unikernel(facts)]
}

fn native() -> Boundary {
    Boundary {
        name: "native",
        status: Status::Ok,
        in_this_version: true,
        what: "a plain process, no boundary: the baseline",
        why: "works".into(),
        limits: Vec::new(),
    }
}

fn container(facts: &Facts) -> Boundary {
    let verdict = |status, why: String, limits| Boundary {
        name: "container",
        status,
        in_this_version: true,
        what: "the host's kernel behind namespaces, cgroups, seccomp, capabilities",
        why,
        limits,
    };
    let rehearsal = &facts.rehearsal;
    if !rehearsal.container.works() {
        let reason = sentence(&rehearsal.container.reason());
        let limit = Limit::new(format!("{reason}."), namespaces::users_remedy(facts));
        return verdict(Status::Missing, "a rehearsal of a container's set-up failed".into(), vec![limit]);
    }
    let limits = container_limits(facts);
    let how = if rehearsal.in_user_namespace { "rootless, in a user namespace" } else { "as root" };
    match limits.as_slice() {
        [] => verdict(Status::Ok, format!("works, {how}"), limits),
        _ => verdict(Status::Limited, format!("works, {how}, with limits"), limits),
    }
}

/// What a container that starts still can't have.
fn container_limits(facts: &Facts) -> Vec<Limit> {
    let mut limits = Vec::new();
    let unlimited = cgroups::unlimited(&facts.cgroup);
    if !unlimited.is_empty() {
        limits.push(Limit::new(format!("No limit can be set on {}.", and(&unlimited)), cgroups::limits_remedy(facts)));
    }
    if facts.rehearsal.in_user_namespace {
        if let Some(why) = namespaces::no_ids(&facts.namespaces.subordinate) {
            let remedy =
                "Install newuidmap and newgidmap (package uidmap) and give this user a range in /etc/subuid and /etc/subgid.";
            limits.push(Limit::new(why, remedy));
        }
        limits.push(Limit {
            why: "No device nodes but the harmless ones, bound from the host; no raised limits.".into(),
            remedy: None,
        });
    } else if let Some(lack) = privileges::fixed_limits(facts) {
        let highest = privileges::limit(facts, "nofile");
        let why = format!("Resource limits can't be raised above this process's own (open files: {highest}): {lack}.");
        limits.push(Limit::new(why, "See privileges, below."));
    }
    let mounts = &facts.mounts;
    let overlay = if facts.rehearsal.in_user_namespace { &mounts.overlay_in_user_namespace } else { &mounts.overlay };
    if !overlay.works() {
        let why = format!("Image layers can't be stacked ({}): only directories serve as roots.", overlay.reason());
        limits.push(Limit::new(why, "See file systems, below."));
    }
    limits
}

/// A boundary that is to come: the host's side of it.
fn later(name: &'static str, what: &'static str, status: Status, why: String, limits: Vec<Limit>) -> Boundary {
    Boundary { name, status, in_this_version: false, what, why: format!("not in this version yet; {why}"), limits }
}

fn system(facts: &Facts) -> Boundary {
    let verdict = |status, why: String, limits| Boundary {
        name: "system",
        status,
        in_this_version: true,
        what: "a whole system boots behind the host's kernel, with its init and its own cgroups",
        why,
        limits,
    };
    if facts.kernel.uid != 0 || !facts.rehearsal.container.works() {
        let why = if facts.kernel.uid != 0 { "root makes its cgroups".into() } else { facts.rehearsal.container.reason() };
        let limit = Limit::new(format!("{}.", sentence(&why)), "Run it as root (sudo); --userns makes its own root nobody here.");
        return verdict(Status::Missing, "this user can't start one".into(), vec![limit]);
    }
    let hierarchies = &facts.cgroup.hierarchies;
    let keeps_apart = |h: &Hierarchy| h.version == 2 || h.controllers.iter().any(|name| name == "name=systemd");
    if !hierarchies.iter().any(|hierarchy| keeps_apart(hierarchy) && hierarchy.writable) {
        let limit = Limit::new(
            "No cgroup hierarchy in which an init can keep its services apart (cgroup2, or name=systemd).",
            "mount -t cgroup2 none /sys/fs/cgroup/unified, or boot with cgroup v2 alone.",
        );
        return verdict(Status::Missing, "an init would not start".into(), vec![limit]);
    }
    let mut limits = Vec::new();
    if facts.cgroup.layout != Layout::V2 {
        let why =
            "Controllers are in cgroup v1: with --userns its services can't be limited, and systemd from 256 on doesn't start.";
        limits.push(Limit::new(why, "Boot with cgroup v2 alone (see control groups)."));
    }
    if !facts.namespaces.users.as_me.works() {
        let why = format!("No user namespace, so no --userns: {}.", facts.namespaces.users.as_me.reason());
        limits.push(Limit::new(why, namespaces::users_remedy(facts)));
    }
    match limits.as_slice() {
        [] => verdict(Status::Ok, "works".into(), limits),
        _ => verdict(Status::Limited, "works, with limits".into(), limits),
    }
}

fn sentry(facts: &Facts) -> Boundary {
    let verdict = |status, why: String, limits| Boundary {
        name: "sentry",
        status,
        in_this_version: true,
        what: "Insula's own kernel in a confined process answers the system calls",
        why,
        limits,
    };
    // The sentry is what a container's first process becomes.
    if !facts.rehearsal.container.works() {
        let reason = sentence(&facts.rehearsal.container.reason());
        let limit = Limit::new(format!("{reason}."), namespaces::users_remedy(facts));
        return verdict(Status::Missing, "a rehearsal of the set-up around it failed".into(), vec![limit]);
    }
    if !facts.process.ptrace_child.works() {
        let limit = Limit::new(
            format!("Platform ptrace: {}.", facts.process.ptrace_child.reason()),
            "sysctl kernel.yama.ptrace_scope=1, or a sandbox around us that allows it.",
        );
        return verdict(Status::Missing, "its platform ptrace isn't to be had".into(), vec![limit]);
    }
    if !facts.security.seccomp.filter.works() {
        let limit = Limit::new("No seccomp filter: the sentry would not be confined.", "A kernel with CONFIG_SECCOMP_FILTER.");
        return verdict(Status::Missing, "it can't be confined".into(), vec![limit]);
    }
    verdict(Status::Ok, "works, on the platform ptrace; systrap and kvm aren't in this version yet".into(), Vec::new())
}

fn no_guests(kind: HostKind) -> &'static str {
    match kind {
        HostKind::HardwareKvm => "guests run on the processor",
        HostKind::KvmWithoutAccess => "this user may not open /dev/kvm",
        HostKind::KvmPvm => "this KVM (PVM) interprets guests one instruction at a time",
        HostKind::NoKvm => "there is no usable KVM",
    }
}

fn microvm(facts: &Facts) -> Boundary {
    const WHAT: &str = "a guest Linux in a virtual machine with few devices";
    if facts.kvm.kind == HostKind::HardwareKvm {
        let mut limits = Vec::new();
        let tun = facts.devices.nodes.iter().find(|node| node.path == "/dev/net/tun");
        if !tun.is_some_and(insula_sys::host::devices::Node::usable) {
            limits.push(Limit::new("No tap devices: guests have no network.", "See devices, below."));
        }
        let boundary = served("microvm", WHAT, limits);
        let why = format!("{}; `insula vm run` runs plain virtual machines", boundary.why);
        return Boundary { why, ..boundary };
    }
    let limit = Limit::new(format!("{}.", sentence(no_guests(facts.kvm.kind))), virtualisation::remedy(facts));
    let qemu = facts.peers.iter().any(|peer| peer.name == "qemu" && peer.path.is_some());
    if qemu {
        let why = "`insula vm run --accel tcg` runs plain virtual machines on QEMU's software emulation, many times slower";
        later("microvm", WHAT, Status::Limited, why.into(), vec![limit])
    } else {
        let emulation =
            Limit::new("No QEMU for software emulation either.", "Install qemu-system-x86 (Debian and Ubuntu), or qemu-kvm.");
        later("microvm", WHAT, Status::Missing, "this host can't run guests".into(), vec![limit, emulation])
    }
}

fn unikernel(facts: &Facts) -> Boundary {
    const WHAT: &str = "Insula's own kernel beside the application, alone in a virtual machine";
    match facts.kvm.kind {
        HostKind::HardwareKvm => served("unikernel", WHAT, Vec::new()),
        kind => {
            let limit = Limit::new(format!("{}.", sentence(no_guests(kind))), virtualisation::remedy(facts));
            later("unikernel", WHAT, Status::Missing, "this host can't run its guests".into(), vec![limit])
        }
    }
}

/// The verdict on a boundary to come that the host serves, with or without limits.
fn served(name: &'static str, what: &'static str, limits: Vec<Limit>) -> Boundary {
    if limits.is_empty() {
        later(name, what, Status::Ok, "this host has all it needs".into(), limits)
    } else {
        later(name, what, Status::Limited, "this host has most of what it needs".into(), limits)
    }
}
