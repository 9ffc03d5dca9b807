//! Capabilities and resource limits of this process.

use super::files;
use rustix::process::{Resource, getrlimit};
use serde::Serialize;

/// What this process may do.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// Names of the capabilities in force (`CAP_…`).
    pub effective: Vec<String>,
    /// Names of those this kernel knows and this process lacks.
    pub missing: Vec<String>,
    /// Names of those that no program started from here can ever get back, not even one run by root.
    pub outside_bounding_set: Vec<String>,
    /// `no_new_privs`: set-user-id programs and file capabilities are without effect.
    pub no_new_privs: bool,
    /// The limits that matter for sandboxes.
    pub limits: Vec<Limit>,
}

/// A resource limit; `None` is unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// Its name in getrlimit(2), in lower case.
    pub name: String,
    /// What is in force.
    pub soft: Option<u64>,
    /// How far it may be raised without `CAP_SYS_RESOURCE`.
    pub hard: Option<u64>,
}

/// Capabilities by number: `include/uapi/linux/capability.h`.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

pub(super) fn gather() -> Facts {
    let status = files::text("/proc/self/status").unwrap_or_default();
    let mask = |key| files::field(&status, key).and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0);
    let last = files::number("/proc/sys/kernel/cap_last_cap").and_then(|last| u32::try_from(last).ok()).unwrap_or(40).min(63);
    let known = u64::MAX >> (63 - last);
    Facts {
        effective: names(mask("CapEff") & known),
        missing: names(!mask("CapEff") & known),
        outside_bounding_set: names(!mask("CapBnd") & known),
        no_new_privs: files::field(&status, "NoNewPrivs") == Some("1"),
        limits: limits(),
    }
}

/// Names of the bits of a mask; one that is newer than this program goes by its number.
fn names(mask: u64) -> Vec<String> {
    let name = |bit: usize| NAMES.get(bit).map_or_else(|| format!("CAP_{bit}"), |name| (*name).to_owned());
    (0..64).filter(|bit| mask >> bit & 1 == 1).map(name).collect()
}

fn limits() -> Vec<Limit> {
    const RESOURCES: [(&str, Resource); 5] = [
        ("nofile", Resource::Nofile),
        ("nproc", Resource::Nproc),
        ("memlock", Resource::Memlock),
        ("core", Resource::Core),
        ("stack", Resource::Stack),
    ];
    let limit = |(name, resource): (&str, Resource)| {
        let value = getrlimit(resource);
        Limit { name: name.into(), soft: value.current, hard: value.maximum }
    };
    RESOURCES.into_iter().map(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_have_names() {
        assert_eq!(names(0), Vec::<String>::new());
        assert_eq!(names(1 << 24 | 1), ["CAP_CHOWN", "CAP_SYS_RESOURCE"]);
        assert_eq!(names(1 << 40), ["CAP_CHECKPOINT_RESTORE"]);
        assert_eq!(names(1 << 63), ["CAP_63"]);
    }

    #[test]
    fn what_is_held_and_what_is_missing_make_the_whole() {
        let facts = gather();
        assert!(facts.effective.len() + facts.missing.len() >= NAMES.len() - 4);
        assert!(facts.effective.iter().all(|name| !facts.missing.contains(name)));
    }
}
