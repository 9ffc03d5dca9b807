//! The tree of files that the guest sees: the container's mounts, and views of the sentry's own kernel.

use super::exports::Exported;
use crate::hostfs::HostInode;
use insula_container::runner::Inside;
use insula_kernel::fs::tree::{Mount, MountFlags, Namespace};
use insula_kernel::fs::{Context, FileType, Path};
use insula_kernel::{Errno, Kernel, Result};
use insula_spec::plan::MountKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path as HostPath};
use std::sync::Arc;

/// Puts it together; the place where the first process stands.
///
/// # Errors
/// A place that isn't there, which would be the container's fault: it has made them.
pub(super) fn build(
    kernel: &Arc<Kernel>,
    exported: &[Exported],
    roots: Vec<Arc<HostInode>>,
    inside: &Inside<'_>,
) -> Result<Context> {
    let mut mounts = exported.iter().zip(roots);
    let (first, root) = mounts.next().ok_or(Errno::ENOENT)?;
    let namespace = kernel.file_systems.namespace("rootfs", root, flags(first), b"rootfs");
    for (exported, root) in mounts {
        let dentry = kernel.file_systems.root("hostfs", root);
        let mount = Mount::new(dentry, flags(exported), b"hostfs", b"");
        namespace.mount(&mount, &find(&namespace, &exported.at)?)?;
    }
    for (at, kind, data) in of_kernel(inside) {
        if !kernel.file_systems.types().contains(&kind) {
            continue;
        }
        // An image without the place does without the view, as on Linux where nobody mounts it.
        let Ok(place) = find(&namespace, HostPath::new(&at)) else { continue };
        let mount = kernel.file_systems.mount(kernel, kind.as_bytes(), kind.as_bytes(), MountFlags::empty(), data.as_bytes())?;
        namespace.mount(&mount, &place)?;
    }
    let mut context = Context::new(&namespace);
    context.cwd = find(&namespace, &inside.plan.process.cwd)?;
    if context.cwd.inode().file_type() != FileType::Directory {
        return Err(Errno::ENOTDIR);
    }
    context.umask = inside.user.umask.unwrap_or(0o022);
    Ok(context)
}

fn flags(exported: &Exported) -> MountFlags {
    if exported.read_only { MountFlags::READ_ONLY } else { MountFlags::empty() }
}

/// Views of the kernel: those the plan mounts, and a `/dev` in any case.
fn of_kernel(inside: &Inside<'_>) -> Vec<(String, &'static str, String)> {
    let mut views = vec![("/dev".to_owned(), "devtmpfs", String::new())];
    for mount in &inside.plan.mounts {
        let MountKind::Fs { name, options, .. } = &mount.kind else { continue };
        let at = mount.target.to_string_lossy().into_owned();
        match name.as_str() {
            "proc" => views.push((at, "proc", String::new())),
            "sysfs" => views.push((at, "sysfs", String::new())),
            "devpts" => views.push((at, "devpts", options.join(","))),
            "tmpfs" if mount.target.starts_with("/dev") && mount.target != HostPath::new("/dev") => {
                views.push((at, "tmpfs", "mode=1777".into()));
            }
            _ => {}
        }
    }
    views
}

/// The place of a path, from the top, through mounts, and without symbolic links: paths of mounts have none.
pub(super) fn find(namespace: &Arc<Namespace>, path: &HostPath) -> Result<Path> {
    let mut here = namespace.root().down();
    for component in path.components() {
        if let Component::Normal(name) = component {
            let dentry = here.dentry.child(name.as_bytes())?;
            here = Path { mount: here.mount.clone(), dentry }.down();
        }
    }
    Ok(here)
}
