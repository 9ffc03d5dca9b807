//! What a container gets when nobody says otherwise.

use crate::plan::{Mount, MountKind};
use std::path::PathBuf;

/// Where programs are looked for.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Mount attributes, `include/uapi/linux/mount.h`.
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-ID bits have no effect.
    pub const NOSUID: u64 = 0x2;
    /// Device nodes can't be opened.
    pub const NODEV: u64 = 0x4;
    /// Programs can't be run.
    pub const NOEXEC: u64 = 0x8;
    /// The bits that hold how access times are kept.
    pub const ATIME: u64 = 0x70;
    /// Access times are not kept.
    pub const NOATIME: u64 = 0x10;
    /// Access times are kept always.
    pub const STRICTATIME: u64 = 0x20;
    /// Access times of directories are not kept.
    pub const NODIRATIME: u64 = 0x80;
    /// Owners are mapped.
    pub const IDMAP: u64 = 0x10_0000;
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// Paths that tell of the host or act on it, made unreadable.
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/kernel/security",
];

/// Paths that act on the host when written, made read-only.
pub const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The file systems every container has.
pub fn mounts() -> Vec<Mount> {
    use attr::{NODEV, NOEXEC, NOSUID, RDONLY};
    let strict = NOSUID | NODEV | NOEXEC;
    vec![
        fs("/proc", "proc", &[], strict),
        fs("/dev", "tmpfs", &["mode=755", "size=65536k"], NOSUID | NOEXEC | attr::STRICTATIME),
        fs("/dev/pts", "devpts", &["newinstance", "ptmxmode=0666", "mode=0620", "gid=5"], NOSUID | NOEXEC),
        fs("/dev/shm", "tmpfs", &["mode=1777", "size=65536k"], strict),
        fs("/dev/mqueue", "mqueue", &[], strict),
        fs("/sys", "sysfs", &[], strict | RDONLY),
    ]
}

/// A file system made for a mount.
pub fn fs(target: &str, name: &str, options: &[&str], set: u64) -> Mount {
    let kind = MountKind::Fs {
        name: name.to_owned(),
        source: name.to_owned(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        copy_up: false,
    };
    mount(PathBuf::from(target), kind, set)
}

/// A mount with these attributes and nothing unusual.
pub fn mount(target: PathBuf, kind: MountKind, set: u64) -> Mount {
    let clear = if set & attr::ATIME != 0 { attr::ATIME } else { 0 };
    Mount { target, kind, set, clear, set_recursive: 0, clear_recursive: 0, propagation: None, id_map: None }
}
