//! What is mounted in the container, as the gofer's exports: each mount that holds files is one, and is mounted in the sentry's own tree of
//! files at the same place.

use super::OF_KERNEL;
use super::tree;
use insula_gofer::Export;
use insula_kernel::fs::tree::MountFlags;
use insula_spec::Plan;
use insula_spec::plan::{MountKind, RootSource};
use insula_sys::host::cgroup::parse_mountinfo;
use std::path::{Path, PathBuf};

/// An export, and where the guest finds it.
#[derive(Debug)]
pub(super) struct Exported {
    /// What the gofer serves.
    pub(super) export: Export,
    /// Where.
    pub(super) at: PathBuf,
    /// What holds for all of it.
    pub(super) flags: MountFlags,
    /// What is written there stays in memory.
    pub(super) in_memory: bool,
}

/// All of them, each before those that lie in it. This process must be in the container's root.
pub(super) fn find(plan: &Plan) -> std::io::Result<Vec<Exported>> {
    let text = std::fs::read_to_string("/proc/self/mountinfo")?;
    let mut found: Vec<Exported> = Vec::new();
    let thrown_away = matches!(plan.root.source, RootSource::Host { keep: None });
    for mounted in parse_mountinfo(&text) {
        let at = mounted.mount_point;
        let shared =
            plan.mounts.iter().any(|mount| matches!(mount.kind, MountKind::Bind { .. }) && at.starts_with(&mount.target));
        let of_kernel = tree::of_kernel(plan).iter().any(|view| view.at == at);
        if OF_KERNEL.contains(&mounted.fs_type.as_str()) || (of_kernel || lies_in_kernel(&at)) && !shared {
            continue;
        }
        let flags = flags(&mounted.options);
        let read_only = flags.contains(MountFlags::READ_ONLY);
        let export = Export { read_only, recursive: false, shared, pipes: shared, ..Export::new(&at) };
        let in_memory = thrown_away && !shared && mounted.fs_type == "overlay";
        // What is mounted later in the same place covers what was there.
        found.retain(|known| known.at != at);
        found.push(Exported { export, at, flags, in_memory });
    }
    for device in plan.devices.iter().filter(|device| device.kind != 'p') {
        // A single file. Whether it may be opened is for the container's rules of devices to say, which hold for the gofer.
        let export = Export { devices: true, recursive: false, ..Export::new(&device.path) };
        found.retain(|known| known.at != device.path);
        let flags = MountFlags::NO_SUID | MountFlags::NO_EXEC;
        found.push(Exported { export, at: device.path.clone(), flags, in_memory: false });
    }
    found.sort_by_key(|exported| exported.at.components().count());
    Ok(found)
}

/// A mount's options, as mountinfo has them; see proc_pid_mountinfo(5).
fn flags(options: &[String]) -> MountFlags {
    let flag = |option: &String| match option.as_str() {
        "ro" => MountFlags::READ_ONLY,
        "nosuid" => MountFlags::NO_SUID,
        "nodev" => MountFlags::NO_DEV,
        "noexec" => MountFlags::NO_EXEC,
        "noatime" => MountFlags::NO_ATIME,
        "nodiratime" => MountFlags::NO_DIR_ATIME,
        "relatime" => MountFlags::REL_ATIME,
        "nosymfollow" => MountFlags::NO_SYMFOLLOW,
        _ => MountFlags::empty(),
    };
    options.iter().map(flag).collect()
}

/// Whether it lies in what the sentry shows of its own.
fn lies_in_kernel(path: &Path) -> bool {
    ["/proc", "/sys", "/dev"].iter().any(|top| path.starts_with(top))
}
