//! Sets of capabilities, as the kernel keeps them: one bit each.
//!
//! Source: capabilities(7), `include/uapi/linux/capability.h`.

use crate::Error;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Names in the order of their numbers; a kernel may know fewer.
#[rustfmt::skip]
const NAMES: [&str; 41] = [
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
];

/// A set of capabilities.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CapSet(u64);

impl CapSet {
    /// No capability.
    pub const EMPTY: CapSet = CapSet(0);
    /// Every capability this program knows by name.
    pub const ALL: CapSet = CapSet((1 << NAMES.len()) - 1);
    /// What a container gets unless told otherwise: Docker's set without `MKNOD` (device nodes are bound in, never made),
    /// `NET_RAW` (raw sockets forge packets of others) and `AUDIT_WRITE` (the host's audit log is not the workload's).
    pub const DEFAULT: CapSet = CapSet::of(&[0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 31]);

    const fn of(numbers: &[u8]) -> CapSet {
        let mut bits = 0;
        let mut i = 0;
        while i < numbers.len() {
            bits |= 1 << numbers[i];
            i += 1;
        }
        CapSet(bits)
    }

    /// The set with these bits, one a capability, bit 0 being `CAP_CHOWN`.
    pub const fn from_bits(bits: u64) -> CapSet {
        CapSet(bits)
    }

    /// The set as the kernel's bit mask.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether the capability with this name (`CAP_CHOWN` or `chown`) is in the set.
    pub fn has(self, name: &str) -> bool {
        number(name).is_some_and(|n| self.0 & (1 << n) != 0)
    }

    /// The set with one more capability, by name with or without `CAP_`, in any case; `ALL` is every one.
    ///
    /// # Errors
    /// No capability has that name.
    pub fn with(self, name: &str) -> Result<CapSet, Error> {
        Ok(CapSet(self.0 | named(name)?.0))
    }

    /// The set with one capability less; `ALL` empties it.
    ///
    /// # Errors
    /// No capability has that name.
    pub fn without(self, name: &str) -> Result<CapSet, Error> {
        Ok(CapSet(self.0 & !named(name)?.0))
    }

    /// What both sets hold.
    pub const fn and(self, other: CapSet) -> CapSet {
        CapSet(self.0 & other.0)
    }

    /// What this set holds and the other doesn't.
    pub const fn minus(self, other: CapSet) -> CapSet {
        CapSet(self.0 & !other.0)
    }

    /// Whether no capability is in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The numbers of the capabilities in the set.
    pub fn numbers(self) -> impl Iterator<Item = u32> {
        (0..64).filter(move |n| self.0 & (1 << n) != 0)
    }

    /// The names of the capabilities in the set, with `CAP_`.
    pub fn names(self) -> Vec<String> {
        self.numbers().map(|n| NAMES.get(n as usize).map_or_else(|| format!("CAP_{n}"), |name| format!("CAP_{name}"))).collect()
    }
}

/// Every capability's name, with `CAP_`, in the order of their numbers.
pub fn all_names() -> Vec<String> {
    CapSet::ALL.names()
}

fn number(name: &str) -> Option<usize> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|known| *known == bare)
}

fn named(name: &str) -> Result<CapSet, Error> {
    if name.eq_ignore_ascii_case("ALL") {
        return Ok(CapSet::ALL);
    }
    let known = number(name).map(|n| CapSet(1 << n));
    known.ok_or_else(|| Error::field("capability", format!("no capability is named {name:?}; capabilities(7) lists them")))
}

impl fmt::Debug for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_bits_agree_with_the_kernel() {
        assert_eq!(CapSet::EMPTY.with("CAP_SYS_ADMIN").unwrap().bits(), 1 << 21);
        assert_eq!(CapSet::EMPTY.with("checkpoint_restore").unwrap().bits(), 1 << 40);
        assert!(CapSet::EMPTY.with("CAP_NONSENSE").is_err());
    }

    #[test]
    fn the_default_set_is_less_than_dockers() {
        let docker = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE";
        let docker = docker.split(' ').try_fold(CapSet::EMPTY, CapSet::with).unwrap();
        assert!(CapSet::DEFAULT.minus(docker).is_empty());
        assert!(!CapSet::DEFAULT.has("MKNOD"));
    }
}
