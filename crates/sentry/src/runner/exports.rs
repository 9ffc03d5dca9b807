//! What is mounted in the container, as the gofer's exports: each mount that holds files is one, and is mounted in the sentry's own tree of
//! files at the same place.

use super::OF_KERNEL;
use insula_gofer::Export;
use insula_spec::Plan;
use insula_spec::plan::MountKind;
use insula_sys::host::cgroup::parse_mountinfo;
use std::path::{Path, PathBuf};

/// An export, and where the guest finds it.
#[derive(Debug)]
pub(super) struct Exported {
    /// What the gofer serves.
    pub(super) export: Export,
    /// Where.
    pub(super) at: PathBuf,
    /// Nothing in it can be changed.
    pub(super) read_only: bool,
}

/// All of them, each before those that lie in it. This process must be in the container's root.
pub(super) fn find(plan: &Plan) -> std::io::Result<Vec<Exported>> {
    let text = std::fs::read_to_string("/proc/self/mountinfo")?;
    let mut found: Vec<Exported> = Vec::new();
    for mounted in parse_mountinfo(&text) {
        let at = mounted.mount_point;
        if OF_KERNEL.contains(&mounted.fs_type.as_str()) || at == Path::new("/dev") || lies_in_kernel(&at) {
            continue;
        }
        let read_only = mounted.options.iter().any(|option| option == "ro");
        let shared =
            plan.mounts.iter().any(|mount| matches!(mount.kind, MountKind::Bind { .. }) && at.starts_with(&mount.target));
        let export = Export { read_only, recursive: false, shared, pipes: shared, ..Export::new(&at) };
        // What is mounted later in the same place covers what was there.
        found.retain(|known| known.at != at);
        found.push(Exported { export, at, read_only });
    }
    found.sort_by_key(|exported| exported.at.components().count());
    Ok(found)
}

/// Whether it lies in what the sentry shows of its own.
fn lies_in_kernel(path: &Path) -> bool {
    ["/proc", "/sys", "/dev"].iter().any(|top| path.starts_with(top)) && !path.starts_with("/dev/shm")
}
