//! `/dev`: the nodes and links every container has, and those the plan adds.

use crate::channel::failed;
use insula_boundary::Error;
use insula_spec::Plan;
use insula_spec::plan::{Device, MountKind, Namespace};
use insula_sys::mount;
use insula_sys::{Context, Errno, defence};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, makedev};
use std::path::{Path, PathBuf};

/// Nodes every container has, runtime-spec `config-linux.md#default-devices`.
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// Links every container has.
const LINKS: [(&str, &str); 4] =
    [("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2")];

/// Makes nodes and links, unless the plan binds a `/dev` of its own.
pub(super) fn make(root: &OwnedFd, plan: &Plan) -> Result<(), Error> {
    let own_dev = plan.mounts.iter().any(|m| m.target == Path::new("/dev") && matches!(m.kind, MountKind::Bind { .. }));
    if own_dev {
        return Ok(());
    }
    // In a user namespace the kernel makes no nodes; the host's are bound in.
    let bind = plan.namespaces.has(Namespace::User);
    let dev = mount::make_dirs_inside(root, Path::new("/dev"), 0o755).on("make", "/dev").map_err(failed)?;
    for (name, major, minor) in NODES {
        let path = PathBuf::from(format!("/dev/{name}"));
        node(root, &Device { path, kind: 'c', major, minor, mode: 0o666, uid: 0, gid: 0 }, bind)?;
    }
    for device in &plan.devices {
        node(root, device, bind)?;
    }
    for (name, to) in LINKS {
        link(&dev, name, to)?;
    }
    let has_pts = plan.mounts.iter().any(|m| m.target == Path::new("/dev/pts"));
    if has_pts { link(&dev, "ptmx", "pts/ptmx") } else { Ok(()) }
}

/// The container's `/dev/null`, made sure to be that: the image could have put anything there.
pub(super) fn null(root: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let null = mount::open_inside(root, Path::new("/dev/null"), OFlags::PATH | OFlags::NOFOLLOW);
    match null {
        _ if !defence::stands("checked-null") => mount::open_inside(root, Path::new("/dev/null"), OFlags::PATH),
        Ok(null) if is_node(&null, 'c', 1, 3)? => Ok(null),
        // A bound /dev without one: the host's does the same.
        _ => {
            let host = rustix::fs::openat(CWD, "/dev/null", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            if is_node(&host, 'c', 1, 3)? { Ok(host) } else { Err(Errno::NODEV) }
        }
    }
}

fn link(dev: &OwnedFd, name: &str, to: &str) -> Result<(), Error> {
    match rustix::fs::symlinkat(to, dev, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno).on("make the link /dev/", name).map_err(failed),
    }
}

fn node(root: &OwnedFd, device: &Device, bind: bool) -> Result<(), Error> {
    if bind {
        return bind_node(root, device);
    }
    let parent = device.path.parent().unwrap_or(Path::new("/"));
    let name = device.path.file_name().ok_or_else(|| Error::Failed(format!("{} can't be a device", device.path.display())))?;
    let dir = mount::make_dirs_inside(root, parent, 0o755).on("make", parent.display()).map_err(failed)?;
    let kind = match device.kind {
        'b' => FileType::BlockDevice,
        'p' => FileType::Fifo,
        _ => FileType::CharacterDevice,
    };
    let mode = Mode::from_raw_mode(device.mode);
    match rustix::fs::mknodat(&dir, name, kind, mode, makedev(device.major, device.minor)) {
        Ok(()) if device.uid == 0 && device.gid == 0 => Ok(()),
        Ok(()) => {
            let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
            let owned = rustix::fs::chownat(&dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW);
            owned.on("set the owner of", device.path.display()).map_err(failed)
        }
        Err(Errno::EXIST) => {
            let there = rustix::fs::openat(&dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
            let there = there.on("open", device.path.display()).map_err(failed)?;
            if is_node(&there, device.kind, device.major, device.minor).unwrap_or(false) {
                return Ok(());
            }
            let problem = "is in the root already, and isn't that device; remove it there, or mount a tmpfs on /dev";
            Err(Error::Failed(format!("{} {problem}", device.path.display())))
        }
        Err(Errno::PERM) => bind_node(root, device),
        Err(errno) => Err(errno).on("make the device", device.path.display()).map_err(failed),
    }
}

/// Binds the host's node of the same name, after a look whether it is the same device.
fn bind_node(root: &OwnedFd, device: &Device) -> Result<(), Error> {
    let path = &device.path;
    let host = mount::copy(CWD, path, false).on("bind the host's", path.display()).map_err(failed)?;
    if !is_node(&host, device.kind, device.major, device.minor).unwrap_or(false) {
        let problem = format!("{} of the host is another device; nodes can't be made in a user namespace", path.display());
        return Err(Error::Failed(problem));
    }
    let place = mount::make_file_inside(root, path).on("make", path.display()).map_err(failed)?;
    mount::attach(&host, place).on("bind", path.display()).map_err(failed)
}

fn is_node(file: &OwnedFd, kind: char, major: u32, minor: u32) -> rustix::io::Result<bool> {
    let stat = rustix::fs::statat(file, "", AtFlags::EMPTY_PATH)?;
    let wanted = match kind {
        'b' => FileType::BlockDevice,
        'p' => return Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Fifo),
        _ => FileType::CharacterDevice,
    };
    Ok(FileType::from_raw_mode(stat.st_mode) == wanted && stat.st_rdev == makedev(major, minor))
}
