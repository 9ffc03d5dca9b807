//! The container's root: its mounts are put together below one directory, which then becomes `/`.

use super::{console, devices, mounts, overlay};
use crate::cgroup::Groups;
use crate::channel::{Channel, failed};
use crate::hooks;
use insula_boundary::Error;
use insula_spec::Plan;
use insula_spec::defaults::attr;
use insula_spec::plan::{Namespace, Propagation, PropagationKind, RootSource};
use insula_sys::mount::{self, Change};
use insula_sys::{Context, Errno, defence};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountPropagationFlags;
use std::io::Write;
use std::path::Path;

/// Makes the plan's root the root of this process, with everything mounted; gives back the terminal, if it has one.
pub(super) fn change(
    plan: &Plan,
    groups: &Groups,
    anchor: &Path,
    channel: &Channel,
    mut mapped: mounts::Mapped,
    no_pivot: bool,
) -> Result<Option<OwnedFd>, Error> {
    keep_mounts_from_host(plan.propagation)?;
    let covered = mounts::open_covered(plan, &mapped, anchor)?;
    let most = plan.resources.layer_limit();
    let root = match &plan.root.source {
        RootSource::Dir(path) => directory(path, plan, mapped.root.take())?,
        RootSource::Host { keep } if in_user_namespace(plan) => overlay::in_user_namespace(anchor, keep.as_deref(), most)?,
        RootSource::Host { keep } => overlay::privileged(anchor, keep.as_deref(), most)?,
        RootSource::Over { lower, keep } => overlay::over(lower, keep)?,
    };
    make_working_directory(&root, plan);
    mounts::mount_all(&root, plan, groups, mapped, covered)?;
    devices::make(&root, plan)?;
    let terminal = plan.process.terminal.then(|| console::make(&root, &plan.process, channel)).transpose()?;
    hide(&root, plan)?;
    hooks::run_inside(&plan.hooks.create_container, "createContainer", plan)?;
    if no_pivot { mount::cover_root(&root) } else { mount::pivot(&root) }.map_err(failed)?;
    Ok(terminal)
}

/// Whether the host's mounts belong to who has more rights than we.
fn in_user_namespace(plan: &Plan) -> bool {
    plan.namespaces.has(Namespace::User) || !insula_sys::host::kernel::in_initial_user_namespace()
}

/// What is done once it is the root: what would have been in the way before.
pub(super) fn finish(plan: &Plan) -> Result<(), Error> {
    if plan.propagation.kind != PropagationKind::Slave {
        rustix::mount::mount_change("/", flags(plan.propagation)).on("set the propagation of", "/").map_err(failed)?;
    }
    if plan.root.readonly {
        let root = mount::open_place(Path::new("/"), OFlags::empty()).on("open", "/").map_err(failed)?;
        let change = Change { set: attr::RDONLY, ..Change::default() };
        mount::set_attributes(&root, change).on("make read-only", "/").map_err(failed)?;
    }
    Ok(())
}

/// The copy of the host's mounts we work in must not pass ours on. What the plan asks for comes last ([`finish`]): a root can only be
/// changed where nothing is shared.
fn keep_mounts_from_host(wanted: Propagation) -> Result<(), Error> {
    if wanted.kind == PropagationKind::Shared {
        // What is mounted inside is to reach the host: leave its mounts as they are; the root's own place is cut off below.
        return Ok(());
    }
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", slave).on("cut off", "the mounts of the host").map_err(failed)
}

pub(super) fn flags(propagation: Propagation) -> MountPropagationFlags {
    let kind = match propagation.kind {
        PropagationKind::Private => MountPropagationFlags::PRIVATE,
        PropagationKind::Slave => MountPropagationFlags::DOWNSTREAM,
        PropagationKind::Shared => MountPropagationFlags::SHARED,
        PropagationKind::Unbindable => MountPropagationFlags::UNBINDABLE,
    };
    if propagation.recursive { kind | MountPropagationFlags::REC } else { kind }
}

/// A directory as root: a copy of its mount on top of itself, as the root must be a mount.
fn directory(path: &Path, plan: &Plan, mapped: Option<OwnedFd>) -> Result<OwnedFd, Error> {
    let wrong = |errno: Errno| {
        let text = insula_sys::error::describe(errno);
        Error::Failed(format!(
            "root.path: can't use {} as root: {text}; it must be a directory with the container's files",
            path.display()
        ))
    };
    // A mapped one lies on top of the root we have: the way to its directory may be shut to the container's users.
    let place = mount::open_place(if mapped.is_some() { Path::new("/") } else { path }, OFlags::DIRECTORY).map_err(wrong)?;
    let root = match mapped {
        Some(mapped) => mapped,
        None => mount::copy(&place, Path::new(""), true).map_err(wrong)?,
    };
    // Nodes that the image brings are devices of the host's. Without rules for devices nothing else keeps the program from them.
    let own_dev = plan.mounts.iter().any(|mount| mount.target == Path::new("/dev"));
    if plan.resources.devices.is_empty() && own_dev && defence::stands("no-nodes-of-images") {
        mount::set_attributes(&root, Change { set: attr::NODEV, ..Change::default() }).map_err(wrong)?;
    }
    if plan.propagation.kind == PropagationKind::Shared {
        make_parent_private(path)?;
    }
    mount::attach(&root, &place).map_err(wrong)?;
    Ok(root)
}

/// Cuts off the mount in which a path lies: the first directory upwards that is one.
fn make_parent_private(path: &Path) -> Result<(), Error> {
    let path = std::fs::canonicalize(path).on("find", path.display()).map_err(failed)?;
    let cut = |dir: &Path| rustix::mount::mount_change(dir, MountPropagationFlags::PRIVATE).is_ok();
    let found = path.ancestors().any(cut);
    if found { Ok(()) } else { Err(Error::Failed(format!("can't cut off the mount of {}", path.display()))) }
}

/// The directory the program starts in is made when it isn't there, as runc does; on a read-only root it just isn't.
fn make_working_directory(root: &OwnedFd, plan: &Plan) {
    let _ = mount::make_dirs_inside(root, &plan.process.cwd, 0o755);
}

/// Covers paths with nothing, and makes others read-only.
fn hide(root: &OwnedFd, plan: &Plan) -> Result<(), Error> {
    if !defence::stands("hidden-paths") {
        return Ok(());
    }
    let mut empty: Option<OwnedFd> = None;
    for path in &plan.masked_paths {
        let Some(target) = existing(root, path)? else { continue };
        let is_dir = mount::is_dir(&target).on("look at", path.display()).map_err(failed)?;
        let cover = match &empty {
            _ if !is_dir => devices::null(root).and_then(|null| mount::copy(null, Path::new(""), false)),
            // One empty directory covers them all. It is copied from where it is attached: kernels before 6.15 copy no other.
            Some(empty) => mount::copy(empty, Path::new(""), false),
            None => Ok(empty_directory()?),
        };
        let cover = cover.on("cover", path.display()).map_err(failed)?;
        mount::attach(&cover, &target).on("cover", path.display()).map_err(failed)?;
        if is_dir {
            empty.get_or_insert(cover);
        }
    }
    let writable = plan.writable_paths.iter().map(|path| Ok((path, copy_of_existing(root, path)?)));
    let writable = writable.collect::<Result<Vec<_>, Error>>()?;
    for path in &plan.readonly_paths {
        let Some(target) = existing(root, path)? else { continue };
        let copy = mount::copy(&target, Path::new(""), true).on("make read-only", path.display()).map_err(failed)?;
        let change = Change { set: attr::RDONLY, ..Change::default() };
        mount::set_attributes(&copy, change).on("make read-only", path.display()).map_err(failed)?;
        mount::attach(&copy, &target).on("make read-only", path.display()).map_err(failed)?;
    }
    for (path, copy) in writable {
        let (Some(copy), Some(target)) = (copy, existing(root, path)?) else { continue };
        mount::attach(&copy, &target).on("leave writable", path.display()).map_err(failed)?;
    }
    if plan.system.is_some() { boot_id(root) } else { Ok(()) }
}

/// A boot of its own to tell from others: a journal goes by that.
fn boot_id(root: &OwnedFd) -> Result<(), Error> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let Some(target) = existing(root, Path::new(PATH))? else { return Ok(()) };
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).on("make up", PATH).map_err(failed)?;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-") + "\n";
    // What is mounted there is a file that loses its name.
    let dev = mount::make_dirs_inside(root, Path::new("/dev"), 0o755).on("make", "/dev").map_err(failed)?;
    let (name, flags) = (".boot-id", OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC);
    let file = rustix::fs::openat(&dev, name, flags, Mode::from_raw_mode(0o444)).on("make", PATH).map_err(failed)?;
    std::fs::File::from(file).write_all(text.as_bytes()).on("write", PATH).map_err(failed)?;
    let copy = mount::copy(&dev, Path::new(name), false).on("cover", PATH).map_err(failed)?;
    let change = Change { set: attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC, ..Change::default() };
    mount::set_attributes(&copy, change).on("make read-only", PATH).map_err(failed)?;
    mount::attach(&copy, &target).on("cover", PATH).map_err(failed)?;
    rustix::fs::unlinkat(&dev, name, rustix::fs::AtFlags::empty()).on("take the name from", PATH).map_err(failed)
}

/// A copy of what is mounted at a path, if something is there.
fn copy_of_existing(root: &OwnedFd, path: &Path) -> Result<Option<OwnedFd>, Error> {
    let copy = |target: OwnedFd| mount::copy(&target, Path::new(""), true).on("copy", path.display()).map_err(failed);
    existing(root, path)?.map(copy).transpose()
}

fn empty_directory() -> Result<OwnedFd, Error> {
    let set = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
    mount::make("tmpfs", "tmpfs", &["nr_blocks=1".into(), "nr_inodes=1".into()], set).map_err(failed)
}

/// Opens a path that is to be hidden; there is nothing to hide where there is nothing.
fn existing(root: &OwnedFd, path: &Path) -> Result<Option<OwnedFd>, Error> {
    match mount::open_inside(root, path, OFlags::PATH) {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        result => result.map(Some).on("open", path.display()).map_err(failed),
    }
}
