//! Capabilities and limits of this process, and what follows from those it lacks.

use super::finding::{Finding, Group, and};
use insula_sys::host::Facts;
use insula_sys::host::privileges::Limit;

const GROUP: Group = Group::Privileges;

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut all = capabilities(facts);
    if facts.privileges.no_new_privs {
        all.push(
            Finding::limited(GROUP, "no_new_privs", "set on this process")
                .why("Set-user-id helpers have no effect: newuidmap, newgidmap, sudo.")
                .remedy(
                    "Start insula from a process without it (systemd: NoNewPrivileges=no; Docker: without no-new-privileges).",
                ),
        );
    }
    all.push(limits(&facts.privileges.limits));
    all
}

/// Whether the process lacks a capability.
pub(super) fn lacks(facts: &Facts, capability: &str) -> bool {
    facts.privileges.missing.iter().any(|name| name == capability)
}

/// Why hard resource limits can't be raised, if they can't: the kernel asks for the capability in the host's user namespace.
pub(super) fn fixed_limits(facts: &Facts) -> Option<&'static str> {
    if lacks(facts, "CAP_SYS_RESOURCE") {
        Some("root lacks CAP_SYS_RESOURCE")
    } else if !facts.kernel.initial_user_namespace {
        Some("root of a user namespace isn't the host's")
    } else {
        None
    }
}

/// A hard limit as text.
pub(super) fn limit(facts: &Facts, name: &str) -> String {
    facts.privileges.limits.iter().find(|limit| limit.name == name).map_or_else(|| "unknown".into(), |limit| bound(limit.hard))
}

fn capabilities(facts: &Facts) -> Vec<Finding> {
    let privileges = &facts.privileges;
    if privileges.effective.is_empty() {
        return vec![
            Finding::limited(GROUP, "capabilities", "none: an ordinary user")
                .why("Namespaces and mounts only inside a user namespace; no tap devices, device nodes or id-mapped mounts outside it.")
                .remedy("Run as root (sudo insula …) for what a user namespace doesn't give."),
        ];
    }
    let total = privileges.effective.len() + privileges.missing.len();
    if privileges.missing.is_empty() {
        let what = format!("all {total}");
        return vec![match facts.kernel.initial_user_namespace {
            true => Finding::ok(GROUP, "capabilities", what),
            false => Finding::limited(GROUP, "capabilities", format!("{what}, over a user namespace"))
                .why("They reach no further than what belongs to this namespace: no devices, no raised limits, no modules.")
                .remedy("Run as the host's root."),
        }];
    }
    let mut all = vec![Finding::limited(GROUP, "capabilities", format!("{} of {total}", privileges.effective.len()))];
    let mut others = Vec::new();
    for name in &privileges.missing {
        match consequence(facts, name) {
            Some(consequence) => all.push(Finding::missing(GROUP, name, consequence).remedy(how_to_get(facts, name))),
            None => others.push(name.as_str()),
        }
    }
    if let Some(first) = all.first_mut() {
        let named = and(&privileges.missing);
        first.why = Some(format!("Lacking: {named}."));
        if !others.is_empty() {
            first.remedy = Some(format!("Nothing here needs {}.", and(&others)));
        }
    }
    all
}

fn how_to_get(facts: &Facts, name: &str) -> String {
    if facts.privileges.outside_bounding_set.iter().any(|outside| outside == name) {
        format!(
            "It was taken out of the bounding set before this shell started: only who started it (the machine's init, a container \
             program: --cap-add {}) can leave it in.",
            name.trim_start_matches("CAP_")
        )
    } else {
        "Run as root, or with the capability raised.".into()
    }
}

/// What can't be done without a capability; `None` if nothing of ours needs it.
fn consequence(facts: &Facts, name: &str) -> Option<String> {
    let text = match name {
        "CAP_SYS_RESOURCE" => {
            return Some(format!(
                "hard resource limits can't be raised: a workload gets at most nofile {}, nproc {}, memlock {}, whatever it asks for",
                limit(facts, "nofile"),
                limit(facts, "nproc"),
                limit(facts, "memlock")
            ));
        }
        "CAP_SYS_ADMIN" => "no mounts, and no namespaces but in a user namespace",
        "CAP_NET_ADMIN" => "no tap devices, bridges or packet filters on the host's network",
        "CAP_SYS_PTRACE" => "no look into another user's sandbox (exec, debug)",
        "CAP_SETUID" | "CAP_SETGID" => "workloads can't run as another user, nor id ranges be mapped",
        "CAP_SETPCAP" => "capabilities can't be taken out of a workload's bounding set",
        "CAP_SETFCAP" => "root can't be mapped into a user namespace, nor file capabilities unpacked from images",
        "CAP_MKNOD" => "no device nodes: /dev of a container is made of bind mounts",
        "CAP_SYS_CHROOT" => "no chroot, and no joining of mount namespaces",
        "CAP_CHOWN" | "CAP_FOWNER" | "CAP_FSETID" => "images can't be unpacked with their files' owners and modes",
        "CAP_DAC_OVERRIDE" | "CAP_DAC_READ_SEARCH" => "files of other users in images and bundles are out of reach",
        "CAP_KILL" => "a workload under another user can't be signalled",
        "CAP_NET_RAW" => "no raw sockets: ping and packet capture fail in a workload that shares the host's network",
        "CAP_NET_BIND_SERVICE" => "ports below 1024 can't be published",
        "CAP_IPC_LOCK" => "guest memory can't be locked beyond the memlock limit",
        "CAP_SYS_NICE" => "no real-time scheduling or raised priority for vCPUs and workloads",
        "CAP_SYS_MODULE" => "missing kernel modules (kvm, vhost, overlay) can't be loaded from here",
        "CAP_BPF" | "CAP_PERFMON" => {
            "no eBPF and no kernel profile: device filters of cgroup v2 and `bench`'s attack profile need them"
        }
        "CAP_SYSLOG" => "kernel addresses and messages are hidden, which the attack profile reads",
        _ => return None,
    };
    Some(text.to_owned())
}

fn limits(limits: &[Limit]) -> Finding {
    let show = |limit: &Limit| {
        let (soft, hard) = (bound(limit.soft), bound(limit.hard));
        if soft == hard { format!("{} {soft}", limit.name) } else { format!("{} {soft} (up to {hard})", limit.name) }
    };
    Finding::ok(GROUP, "resource limits", limits.iter().map(show).collect::<Vec<_>>().join(", "))
}

fn bound(value: Option<u64>) -> String {
    const MEBIBYTE: u64 = 1 << 20;
    match value {
        None => "unlimited".into(),
        Some(value) if value >= MEBIBYTE && value % MEBIBYTE == 0 => format!("{} MiB", value / MEBIBYTE),
        Some(value) => value.to_string(),
    }
}
