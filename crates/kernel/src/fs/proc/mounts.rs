//! Mounts, as a task sees them.

use crate::Result;
use crate::fs::tree::{Mount, MountFlags, Path};
use crate::task::Task;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Mounts that a task can reach, with where they are to it.
fn seen(task: &Task) -> Vec<(Arc<Mount>, Vec<u8>)> {
    let (namespace, root) = {
        let fs = task.fs();
        let fs = fs.lock();
        (fs.namespace.clone(), fs.root.clone())
    };
    let mut seen = Vec::new();
    for mount in namespace.all() {
        // A root that isn't the top of its mount shows as the mount's own.
        let own = Arc::ptr_eq(&mount, &root.mount);
        let place: Path = if own { root.clone() } else { mount.path() };
        if own || place.is_below(&root) {
            let text = if own { b"/".to_vec() } else { place.text(&root) };
            seen.push((mount, text));
        }
    }
    seen
}

/// A text as mount tables have it: without what separates fields.
fn escaped(text: &[u8]) -> String {
    text.iter().fold(String::new(), |mut all, byte| {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' | b'#' => all.push_str(&format!("\\{byte:03o}")),
            byte => all.push(*byte as char),
        }
        all
    })
}

fn flags(mount: &Mount) -> String {
    let flags = mount.flags();
    let mut text = String::from(if flags.contains(MountFlags::READ_ONLY) { "ro" } else { "rw" });
    for (flag, name) in [
        (MountFlags::NO_SUID, ",nosuid"),
        (MountFlags::NO_DEV, ",nodev"),
        (MountFlags::NO_EXEC, ",noexec"),
        (MountFlags::NO_ATIME, ",noatime"),
        (MountFlags::NO_DIR_ATIME, ",nodiratime"),
        (MountFlags::REL_ATIME, ",relatime"),
        (MountFlags::NO_SYMFOLLOW, ",nosymfollow"),
    ] {
        if flags.contains(flag) {
            text.push_str(name);
        }
    }
    text
}

fn options(mount: &Mount) -> String {
    let own = escaped(&mount.options.lock());
    if own.is_empty() { own } else { format!(",{own}") }
}

fn source(mount: &Mount) -> String {
    let source = escaped(&mount.source);
    if source.is_empty() { String::from("none") } else { source }
}

/// `/proc/PID/mounts`, fstab(5).
pub(super) fn table(task: &Task, _: &Arc<Task>) -> Result<Vec<u8>> {
    let lines = seen(task).into_iter().map(|(mount, place)| {
        let kind = mount.root.fs().kind;
        format!("{} {} {kind} {}{} 0 0\n", source(&mount), escaped(&place), flags(&mount), options(&mount))
    });
    Ok(lines.collect::<String>().into_bytes())
}

/// `/proc/PID/mountinfo`.
pub(super) fn info(task: &Task, _: &Arc<Task>) -> Result<Vec<u8>> {
    let mut text = String::new();
    for (mount, place) in seen(task) {
        let parent = mount.place().map_or(mount.id, |place| place.mount.id);
        let (dev, _) = mount.root.inode().identity()?;
        let (major, minor) = super::maps::numbers(dev);
        let kind = mount.root.fs().kind;
        let access = if mount.flags().contains(MountFlags::READ_ONLY) { "ro" } else { "rw" };
        text.push_str(&format!(
            "{} {parent} {major}:{minor} {} {} {} {}- {kind} {} {access}{}\n",
            mount.id,
            escaped(&inner_root(&mount)),
            escaped(&place),
            flags(&mount),
            mount.show_propagation(),
            source(&mount),
            options(&mount),
        ));
    }
    Ok(text.into_bytes())
}

/// Which part of its file system a mount shows.
fn inner_root(mount: &Mount) -> Vec<u8> {
    let mut names = Vec::new();
    let mut here = mount.root.clone();
    while let Some((parent, name)) = here.place() {
        names.push(name);
        here = parent;
    }
    // A namespace has a name, and no root.
    let mut text = here.name();
    for name in names.iter().rev() {
        text.push(b'/');
        text.extend_from_slice(name);
    }
    if text.is_empty() { b"/".to_vec() } else { text }
}

/// `/proc/PID/mountstats`.
pub(super) fn statistics(task: &Task, _: &Arc<Task>) -> Result<Vec<u8>> {
    let lines = seen(task).into_iter().map(|(mount, place)| {
        format!("device {} mounted on {} with fstype {}\n", source(&mount), escaped(&place), mount.root.fs().kind)
    });
    Ok(lines.collect::<String>().into_bytes())
}
