//! The plan's mounts, each attached below the root by descriptor.

use super::root;
use crate::cgroup::Groups;
use crate::channel::failed;
use insula_boundary::Error;
use insula_spec::Plan;
use insula_spec::defaults::attr;
use insula_spec::plan::{IdMapped, Mount, MountKind, Namespace, RootSource};
use insula_sys::mount::{self, Change};
use insula_sys::{Context, Errno, defence};
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use std::path::{Path, PathBuf};

/// Mounts with mapped IDs.
#[derive(Debug, Default)]
pub(crate) struct Mapped {
    /// The root.
    pub(super) root: Option<OwnedFd>,
    /// The others, by their place in the plan.
    mounts: Vec<(usize, OwnedFd)>,
}

/// Makes what only the caller can: to map a mount's IDs takes a right over its file system, which a container's user namespace hasn't,
/// and a user namespace whose process the host's `/proc` shows. And what lies in the store, root's users can't get at.
pub(crate) fn map_all(plan: &Plan, store: &Path) -> Result<Mapped, Error> {
    let shut = plan.namespaces.creates(Namespace::User) && rustix::process::geteuid().is_root();
    let make = |(index, mount): (usize, &Mount)| {
        let MountKind::Bind { source, recursive } = &mount.kind else { return Ok(None) };
        if mount.id_map.is_none() && !(shut && source.starts_with(store)) {
            return Ok(None);
        }
        let copy = mount::copy(CWD, source, *recursive).map_err(|errno| missing_source(source, errno));
        let ready = |copy: OwnedFd| {
            match &mount.id_map {
                Some(mapped) => map_ids(&copy, plan, mapped)?,
                None => cut_off(&copy)?,
            }
            Ok(Some((index, copy)))
        };
        copy.and_then(ready).map_err(|error| in_place(index, mount, &error))
    };
    let mounts = plan.mounts.iter().enumerate().map(make).filter_map(Result::transpose).collect::<Result<_, _>>()?;
    let root = match &plan.root.source {
        RootSource::Dir(path) if plan.root.mapped => Some(map_root(path, plan)?),
        _ => None,
    };
    Ok(Mapped { root, mounts })
}

/// Has a copy of a mount pass nothing on to the one it was made of.
fn cut_off(copy: &OwnedFd) -> Result<(), Error> {
    let propagation = u64::from(rustix::mount::MountPropagationFlags::PRIVATE.bits());
    let change = Change { propagation, recursive: true, ..Change::default() };
    mount::set_attributes(copy, change).on("cut off", "the mount").map_err(failed)
}

/// The root directory with owners as the container numbers them.
fn map_root(path: &Path, plan: &Plan) -> Result<OwnedFd, Error> {
    let copy = mount::copy(CWD, path, true).on("use as root", path.display()).map_err(failed)?;
    let own = IdMapped { uid_map: Vec::new(), gid_map: Vec::new(), recursive: true };
    map_ids(&copy, plan, &own).map(|()| copy).map_err(|error| {
        let advice =
            "; its file system must allow mapped mounts (ext4, xfs, btrfs, tmpfs), or its files belong to the mapped IDs";
        Error::Failed(format!("can't map the owners of the files in {}: {error}{advice}", path.display()))
    })
}

/// Opens what lies in the store and is to be bound in, before an overlay's layers cover it.
pub(super) fn open_covered(plan: &Plan, mapped: &Mapped, anchor: &Path) -> Result<Vec<(usize, OwnedFd)>, Error> {
    let made = |wanted: usize| mapped.mounts.iter().any(|(index, _)| *index == wanted);
    let covered = plan.mounts.iter().enumerate().filter_map(|(index, mount)| match &mount.kind {
        MountKind::Bind { source, .. } if source.starts_with(anchor) && !made(index) => Some((index, source)),
        _ => None,
    });
    let open = |(index, source): (usize, &PathBuf)| {
        let place = mount::open_place(source, OFlags::empty()).map_err(|errno| missing_source(source, errno));
        place.map(|place| (index, place)).map_err(|error| in_place(index, &plan.mounts[index], &error))
    };
    covered.map(open).collect()
}

fn in_place(index: usize, mount: &Mount, error: &Error) -> Error {
    Error::Failed(format!("mounts[{index}] ({}): {error}", mount.target.display()))
}

/// Mounts everything in order.
pub(super) fn mount_all(
    root: &OwnedFd,
    plan: &Plan,
    groups: &Groups,
    mapped: Mapped,
    covered: Vec<(usize, OwnedFd)>,
) -> Result<(), Error> {
    let mut mapped = mapped.mounts.into_iter().peekable();
    let mut covered = covered.into_iter().peekable();
    for (index, mount) in plan.mounts.iter().enumerate() {
        let mut made = mapped.next_if(|(place, _)| *place == index).map(|(_, made)| made);
        let source = covered.next_if(|(place, _)| *place == index);
        if let (None, Some((_, source)), MountKind::Bind { recursive, .. }) = (&made, source, &mount.kind) {
            made = Some(mount::copy(source, Path::new(""), *recursive).on("bind", mount.target.display()).map_err(failed)?);
        }
        one(root, groups, mount, made).map_err(|error| in_place(index, mount, &error))?;
    }
    Ok(())
}

fn one(root: &OwnedFd, groups: &Groups, mount: &Mount, made: Option<OwnedFd>) -> Result<(), Error> {
    match &mount.kind {
        MountKind::Bind { source, recursive } => {
            let copy = match made {
                Some(made) => made,
                None => mount::copy(CWD, source, *recursive).map_err(|errno| missing_source(source, errno))?,
            };
            let is_dir = mount::is_dir(&copy).on("look at", source.display()).map_err(failed)?;
            set(&copy, mount)?;
            attach(root, &copy, &mount.target, is_dir)?;
            propagate(&copy, mount)
        }
        MountKind::Fs { name, source, options, copy_up } => {
            let made = match mount::make(name, source, options, mount.set) {
                // Who shares the host's network in a user namespace may see its /sys, but mount none.
                Err(error) if error.errno == Errno::PERM && name == "sysfs" => hosts_sysfs(mount)?,
                made => made.map_err(failed)?,
            };
            let target = target(root, &mount.target, true)?;
            if ["proc", "sysfs"].contains(&name.as_str()) && defence::stands("plain-proc") {
                refuse_link(root, &mount.target)?;
            }
            if *copy_up {
                // Not what the path leads to on the host (CVE-2022-23648).
                let covered = if defence::stands("copied-in-root") { &target } else { &by_path(root, &mount.target)? };
                copy_tree(covered, &made).map_err(|errno| Error::Failed(format!("can't copy what tmpcopyup covers: {errno}")))?;
            }
            mount::attach(&made, &target).on("mount on", mount.target.display()).map_err(failed)?;
            propagate(&made, mount)
        }
        MountKind::Cgroup => cgroups(root, mount, groups),
    }
}

/// What a path leads to from a root, also outside it, as a build without the defence takes it.
fn by_path(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Error> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    rustix::fs::openat(root, relative, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).on("open", path.display()).map_err(failed)
}

/// The host's `/sys`, with the attributes of a mount on all of it.
fn hosts_sysfs(mount: &Mount) -> Result<OwnedFd, Error> {
    let copy = mount::copy(CWD, Path::new("/sys"), true).on("bind the host's", "/sys").map_err(failed)?;
    let change = Change { set: mount.set, recursive: defence::stands("all-of-sysfs"), ..Change::default() };
    mount::set_attributes(&copy, change).on("set the attributes of", "/sys").map_err(failed)?;
    Ok(copy)
}

fn missing_source(source: &Path, errno: Errno) -> Error {
    let text = insula_sys::error::describe(errno);
    Error::Failed(format!("can't bind {}: {text}; the source of a bind mount must be there on the host", source.display()))
}

/// Attributes of a mount before it can be seen.
fn set(copy: &OwnedFd, mount: &Mount) -> Result<(), Error> {
    let changes = [(mount.set, mount.clear, false), (mount.set_recursive, mount.clear_recursive, true)];
    for (set, clear, recursive) in changes {
        if set | clear != 0 {
            let change = Change { set, clear, recursive, ..Change::default() };
            mount::set_attributes(copy, change).on("set the attributes of", mount.target.display()).map_err(failed)?;
        }
    }
    Ok(())
}

fn propagate(mounted: &OwnedFd, mount: &Mount) -> Result<(), Error> {
    let Some(propagation) = mount.propagation else { return Ok(()) };
    let bits = root::flags(insula_spec::plan::Propagation { recursive: false, ..propagation }).bits();
    let change = Change { propagation: u64::from(bits), recursive: propagation.recursive, ..Change::default() };
    mount::set_attributes(mounted, change).on("set the propagation of", mount.target.display()).map_err(failed)
}

/// The place for a mount, made if need be: symbolic links in the image lead nowhere outside it.
fn target(root: &OwnedFd, path: &Path, is_dir: bool) -> Result<OwnedFd, Error> {
    let made = if is_dir { mount::make_dirs_inside(root, path, 0o755) } else { mount::make_file_inside(root, path) };
    made.on("make the mount point", path.display()).map_err(failed)
}

fn attach(root: &OwnedFd, mounted: &OwnedFd, path: &Path, is_dir: bool) -> Result<(), Error> {
    let place = target(root, path, is_dir)?;
    mount::attach(mounted, place).on("mount on", path.display()).map_err(failed)
}

/// An image that makes `/proc` a link would have us hide and write the wrong files later (CVE-2019-19921, CVE-2023-27561).
fn refuse_link(root: &OwnedFd, path: &Path) -> Result<(), Error> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let opened = rustix::fs::openat2(root, relative, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve);
    match opened {
        Err(Errno::LOOP) => {
            Err(Error::Failed("is reached through a symbolic link in the root; it must be a plain directory".into()))
        }
        result => result.on("open", path.display()).map(drop).map_err(failed),
    }
}

/// Shows the container its own groups. Each is bound in by its directory, so no other can be seen, whatever the cgroup namespace.
fn cgroups(root: &OwnedFd, mount: &Mount, groups: &Groups) -> Result<(), Error> {
    let bind = |group: &crate::cgroup::Group| {
        let copy = mount::copy(CWD, &group.path, true).on("show", group.path.display()).map_err(failed)?;
        if defence::stands("read-only-groups") {
            set(&copy, mount)?;
        }
        Ok::<_, Error>(copy)
    };
    let alone = groups.iter().next().filter(|group| group.is_unified() && groups.iter().count() == 1);
    if let Some(group) = alone {
        attach(root, &bind(group)?, &mount.target, true)?;
        return Ok(());
    }
    let tmpfs = mount::make("tmpfs", "cgroup", &["mode=755".into()], mount.set & !attr::RDONLY).map_err(failed)?;
    attach(root, &tmpfs, &mount.target, true)?;
    for group in groups.iter().filter(|group| !group.hidden) {
        attach(root, &bind(group)?, &mount.target.join(&group.name), true)?;
    }
    let change = Change { set: mount.set & attr::RDONLY, ..Change::default() };
    mount::set_attributes(&tmpfs, change).on("make read-only", mount.target.display()).map_err(failed)
}

/// Gives a mount the mapping of a user namespace: the container's own, or one made for the purpose.
fn map_ids(copy: &OwnedFd, plan: &Plan, mapped: &IdMapped) -> Result<(), Error> {
    let (uid_map, gid_map) = if mapped.uid_map.is_empty() {
        (&plan.namespaces.uid_map, &plan.namespaces.gid_map)
    } else {
        (&mapped.uid_map, &mapped.gid_map)
    };
    if uid_map.is_empty() {
        let problem = "idmap without uidMappings and gidMappings takes those of the container, which has none";
        return Err(Error::Failed(problem.into()));
    }
    let namespace = crate::userns::holder(uid_map, gid_map)?;
    let change = Change {
        set: attr::IDMAP,
        user_namespace: Some(std::os::fd::AsFd::as_fd(&namespace)),
        recursive: mapped.recursive,
        ..Change::default()
    };
    mount::set_attributes(copy, change).on("map the IDs of", "the mount").map_err(failed)
}

/// Copies what is below one directory into another: files, directories and links, with mode and owner.
fn copy_tree(from: &OwnedFd, to: &OwnedFd) -> rustix::io::Result<()> {
    use rustix::fs::{AtFlags, Dir, FileType, Gid, Uid};
    let readable = rustix::fs::openat(from, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for entry in Dir::read_from(&readable)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                rustix::fs::mkdirat(to, name, mode)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let (inner_from, inner_to) =
                    (rustix::fs::openat(from, name, flags, Mode::empty())?, rustix::fs::openat(to, name, flags, Mode::empty())?);
                copy_tree(&inner_from, &inner_to)?;
            }
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(link, to, name)?;
            }
            FileType::RegularFile => {
                let source = rustix::fs::openat(from, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let copy = rustix::fs::openat(to, name, flags, mode)?;
                let copied = std::io::copy(&mut std::fs::File::from(source), &mut std::fs::File::from(copy));
                copied.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            }
            // Sockets, pipes and devices have no content to copy.
            _ => continue,
        }
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}
