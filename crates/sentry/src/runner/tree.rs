//! The tree of files that the guest sees: the container's mounts, and views of the sentry's own kernel.

use super::describe;
use super::exports::Exported;
use crate::hostfs::HostInode;
use insula_abi::general as c;
use insula_container::runner::Inside;
use insula_kernel::fs::tree::{Mount, MountFlags, Namespace};
use insula_kernel::fs::types::Making;
use insula_kernel::fs::{Context, FileType, Inode, NewFile, Path};
use insula_kernel::{Errno, Kernel, Result};
use insula_spec::Plan;
use insula_spec::defaults::attr;
use insula_spec::plan::MountKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path as HostPath, PathBuf};
use std::sync::Arc;

/// Puts it together; the place where the first process stands.
///
/// # Errors
/// What can't be done, with which path, and why.
pub(super) fn build(
    kernel: &Arc<Kernel>,
    exported: &[Exported],
    roots: Vec<Arc<HostInode>>,
    inside: &Inside<'_>,
) -> std::result::Result<Context, String> {
    let mut mounts = exported.iter().zip(roots);
    let (first, root) = mounts.next().ok_or("the container has no root")?;
    let namespace = kernel.file_systems.namespace("rootfs", root, first.flags, b"rootfs");
    let mut places: Vec<(&HostPath, Source<'_>)> =
        mounts.map(|(exported, root)| (&*exported.at, Source::Host(exported, root))).collect();
    let views = of_kernel(inside.plan);
    places.extend(views.iter().map(|view| (&*view.at, Source::Kernel(view))));
    // Each after what it lies in, whosever that is: a volume in /dev/shm lies in the kernel's /dev.
    places.sort_by_key(|(at, _)| at.components().count());
    for (at, source) in places {
        let mounted = mount(kernel, &namespace, at, source);
        mounted.map_err(|errno| format!("can't mount on {}: {}", at.display(), describe(errno)))?;
    }
    if !(inside.terminal || rustix::termios::isatty(rustix::stdio::stdin())) {
        // Who has no terminal has no console.
        let _ = find(&namespace, HostPath::new("/dev")).and_then(|dev| dev.inode().unlink(b"console"));
    }
    let cwd = &inside.plan.process.cwd;
    let mut context = Context::new(&namespace);
    context.cwd =
        directory(&namespace, cwd).map_err(|errno| format!("process.cwd: can't enter {}: {}", cwd.display(), describe(errno)))?;
    context.umask = inside.user.umask.unwrap_or(0o022);
    Ok(context)
}

fn mount(kernel: &Arc<Kernel>, namespace: &Arc<Namespace>, at: &HostPath, source: Source<'_>) -> Result<()> {
    match source {
        Source::Host(exported, root) => {
            let kind = root.file_type();
            let dentry = kernel.file_systems.root("hostfs", root);
            namespace.mount(&Mount::new(dentry, exported.flags, b"hostfs", b""), &find_or_make(namespace, at, kind)?)
        }
        Source::Kernel(view) => {
            // An image without the place does without the view, as on Linux where nobody mounts it.
            let Ok(place) = find(namespace, at) else { return Ok(()) };
            let kind = view.kind.as_bytes();
            let mount = kernel.file_systems.mount(
                kind,
                view.flags,
                Making { kernel, task: None, source: kind, data: view.data.as_bytes() },
            )?;
            namespace.mount(&mount, &place)
        }
    }
}

/// The place of a path, for something of this kind to be mounted on: the container has made it, but for what lies in the kernel's own `/dev`.
fn find_or_make(namespace: &Arc<Namespace>, path: &HostPath, kind: FileType) -> Result<Path> {
    match find(namespace, path) {
        Err(Errno::ENOENT) => {}
        found => return found,
    }
    let mut here = namespace.root().down();
    let mut names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.as_bytes()),
        _ => None,
    });
    let mut next = names.next();
    while let Some(name) = next {
        next = names.next();
        let directory = next.is_some() || kind == FileType::Directory;
        let mode = if directory { c::S_IFDIR | 0o755 } else { c::S_IFREG | 0o644 };
        let new = NewFile { mode, uid: 0, gid: 0, rdev: 0, target: &[] };
        let dentry = match here.dentry.child(name) {
            Err(Errno::ENOENT) => here.dentry.make(name, |inode| inode.create(name, &new)),
            found => found,
        }?;
        here = Path { mount: here.mount.clone(), dentry }.down();
    }
    Ok(here)
}

/// What is mounted somewhere.
enum Source<'a> {
    /// Files of the host's.
    Host(&'a Exported, Arc<HostInode>),
    /// A file system of the kernel's own.
    Kernel(&'a View),
}

/// A file system of the kernel's own.
pub(super) struct View {
    /// Where.
    pub(super) at: PathBuf,
    kind: &'static str,
    flags: MountFlags,
    data: String,
}

/// File systems of the kernel's own: those the plan mounts, and a `/dev` in any case.
pub(super) fn of_kernel(plan: &Plan) -> Vec<View> {
    let mut views = vec![View { at: "/dev".into(), kind: "devtmpfs", flags: MountFlags::NO_SUID, data: String::new() }];
    for mount in &plan.mounts {
        let MountKind::Fs { name, options, copy_up, .. } = &mount.kind else { continue };
        let (kind, data) = match name.as_str() {
            "proc" => ("proc", String::new()),
            "sysfs" => ("sysfs", String::new()),
            "devpts" => ("devpts", options.join(",")),
            // What begins with something in it (a copy, a place to mount on) is the container's work.
            "tmpfs" if !copy_up && mount.target != HostPath::new("/dev") && !holds_others(plan, &mount.target) => {
                ("tmpfs", options.join(","))
            }
            _ => continue,
        };
        views.push(View { at: mount.target.clone(), kind, flags: flags(mount), data });
    }
    views
}

fn holds_others(plan: &Plan, place: &HostPath) -> bool {
    plan.mounts.iter().any(|mount| mount.target != place && mount.target.starts_with(place))
}

/// What a plan says of a mount.
fn flags(mount: &insula_spec::plan::Mount) -> MountFlags {
    let known = [
        (attr::RDONLY, MountFlags::READ_ONLY),
        (attr::NOSUID, MountFlags::NO_SUID),
        (attr::NODEV, MountFlags::NO_DEV),
        (attr::NOEXEC, MountFlags::NO_EXEC),
        (attr::NODIRATIME, MountFlags::NO_DIR_ATIME),
        (attr::NOSYMFOLLOW, MountFlags::NO_SYMFOLLOW),
    ];
    let set = mount.set | mount.set_recursive;
    let atime = match set & attr::ATIME {
        attr::NOATIME => MountFlags::NO_ATIME,
        attr::STRICTATIME => MountFlags::empty(),
        _ => MountFlags::REL_ATIME,
    };
    known.iter().filter(|(bit, _)| set & bit != 0).map(|(_, flag)| *flag).collect::<MountFlags>() | atime
}

/// The place of a directory.
fn directory(namespace: &Arc<Namespace>, path: &HostPath) -> Result<Path> {
    let found = find(namespace, path)?;
    if found.inode().file_type() == FileType::Directory { Ok(found) } else { Err(Errno::ENOTDIR) }
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
