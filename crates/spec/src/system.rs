//! What a whole system gets when nobody says otherwise: more than a container's program, as its init mounts, makes groups and starts
//! services; and still not what acts on the host.
//!
//! The sets are systemd-nspawn's and LXC's, whichever is less. Sources: systemd-nspawn(1) `--capability`, lxc.container.conf(5),
//! LXC's `common.conf` and `common.seccomp`, <https://systemd.io/CONTAINER_INTERFACE>.

use crate::CapSet;
use crate::defaults::{attr, fs, mount};
use crate::plan::{Mount, MountKind};
use crate::seccomp::{Action, Policy, Rule, default_policy};
use std::path::PathBuf;

/// The init that is run when none is named.
pub const INIT: &str = "/sbin/init";

/// Of the default masks: what `/proc/sys` holds of the network belongs to the network namespace.
pub const WRITABLE_PATHS: [&str; 1] = ["/proc/sys/net"];

/// What an init and its services may do. Left out are the capabilities that act on the host, whatever the namespace: modules, the
/// clock, raw hardware, swap and accounting, the kernel's log, wake-ups, security labels, programs in the kernel.
const CAPABILITIES: [&str; 25] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "SETFCAP",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_NICE",
    "SYS_PTRACE",
    "SYS_RESOURCE",
    "SYS_TTY_CONFIG",
    // Logins are told to the audit log; without, PAM refuses them.
    "AUDIT_WRITE",
    // Nodes that the rules for devices let nobody open are harmless, and packages make them.
    "MKNOD",
];

/// System calls that the capabilities above would open, and that act on the host.
const REFUSED: [&str; 9] = [
    "bpf",
    "perf_event_open",
    "swapon",
    "swapoff",
    "syslog",
    "quotactl",
    "quotactl_fd",
    // By a file's number alone it reaches files outside the root.
    "open_by_handle_at",
    "fanotify_init",
];

/// Keyrings that go by user belong to a user namespace; without one they are the host's.
const KEYRINGS: [&str; 3] = ["add_key", "keyctl", "request_key"];

/// The capabilities of an init; with a network of its own, of that too.
pub fn capabilities(own_network: bool) -> CapSet {
    let of_network = own_network.then_some("NET_ADMIN");
    CAPABILITIES.into_iter().chain(of_network).fold(CapSet::EMPTY, |set, name| set.with(name).unwrap_or(set))
}

/// The policy of a system whose processes can have these capabilities.
pub fn policy(caps: CapSet, own_users: bool) -> Policy {
    // What this one opens would also start another kernel on the host.
    let boots = caps.has("SYS_BOOT");
    let mut policy = default_policy(caps.without("SYS_BOOT").unwrap_or(caps));
    for rule in &mut policy.rules {
        rule.calls.retain(|name| !REFUSED.contains(&name.as_str()));
    }
    policy.rules.retain(|rule| !rule.calls.is_empty());
    let mut allow = |calls: &[&str]| {
        let calls = calls.iter().map(|name| (*name).to_owned()).collect();
        policy.rules.push(Rule { calls, conditions: Vec::new(), action: Action::Allow });
    };
    if boots {
        // In a PID namespace it ends the init, and nothing else.
        allow(&["reboot"]);
    }
    if own_users {
        allow(&KEYRINGS);
    }
    policy
}

/// The file systems of a system.
pub fn mounts() -> Vec<Mount> {
    use attr::{NODEV, NOEXEC, NOSUID, RDONLY};
    let strict = NOSUID | NODEV | NOEXEC;
    vec![
        fs("/proc", "proc", &[], strict),
        fs("/dev", "tmpfs", &["mode=755", "size=4m"], NOSUID | NOEXEC | attr::STRICTATIME),
        fs("/dev/pts", "devpts", &["newinstance", "ptmxmode=0666", "mode=0620", "gid=5"], NOSUID | NOEXEC),
        fs("/dev/shm", "tmpfs", &["mode=1777"], NOSUID | NODEV),
        fs("/dev/mqueue", "mqueue", &[], strict),
        // Read-only: by that an init sees that devices aren't its own, and starts no udev.
        fs("/sys", "sysfs", &[], strict | RDONLY),
        mount(PathBuf::from("/sys/fs/cgroup"), MountKind::Cgroup, strict),
        fs("/run", "tmpfs", &["mode=755"], NOSUID | NODEV),
        fs("/tmp", "tmpfs", &["mode=1777"], NOSUID | NODEV),
    ]
}

/// Those that an init with privilege mounts besides, by a program for each, which takes it time: so they are there when it begins, as far as
/// they are among these that the host's kernel knows.
pub fn privileged_mounts(known: &[String]) -> Vec<Mount> {
    use attr::{NODEV, NOEXEC, NOSUID};
    let all = [
        fs("/dev/hugepages", "hugetlbfs", &[], NOSUID | NODEV),
        fs("/sys/fs/fuse/connections", "fusectl", &[], NOSUID | NODEV | NOEXEC),
    ];
    let has = |name: &str| known.iter().any(|known| known == name);
    all.into_iter().filter(|mount| matches!(&mount.kind, MountKind::Fs { name, .. } if has(name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_capability() {
        assert_eq!(capabilities(true).numbers().count(), CAPABILITIES.len() + 1);
        assert!(!capabilities(false).has("NET_ADMIN"), "the host's network isn't the system's");
    }

    #[test]
    fn what_the_host_has_not_is_not_mounted() {
        let paths = |known: &[&str]| {
            let known: Vec<String> = known.iter().map(|name| (*name).to_owned()).collect();
            privileged_mounts(&known).into_iter().map(|mount| mount.target).collect::<Vec<_>>()
        };
        assert_eq!(paths(&["proc", "fusectl"]), [PathBuf::from("/sys/fs/fuse/connections")]);
        assert_eq!((paths(&[]).len(), paths(&["fusectl", "hugetlbfs"]).len()), (0, 2));
    }

    #[test]
    fn what_acts_on_the_host_is_shut() {
        let policy = policy(capabilities(true), false);
        let open = |name: &str| {
            policy.rules.iter().any(|rule| rule.action == Action::Allow && rule.calls.iter().any(|call| call == name))
        };
        for shut in REFUSED.into_iter().chain(KEYRINGS).chain(["kexec_load", "kexec_file_load", "init_module", "clock_settime"]) {
            assert!(!open(shut), "{shut}");
        }
        assert!(["reboot", "mount", "unshare", "setns", "chroot"].into_iter().all(open), "what an init needs");
    }
}
