//! File systems and the interface that mounts them: overlayfs, the file-descriptor based mount calls, idmapped mounts.

use super::cgroup::parse_mountinfo;
use super::files;
use super::trial::{self, Failure, IdMaps, Line, Step, Trial, syscall, unshare};
use rustix::fs::{CWD, Mode, OFlags, mkdir};
use rustix::io::Errno;
use rustix::mount::{self, FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags};
use rustix::thread::UnshareFlags;
use serde::Serialize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What is known about mounting.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// File systems the kernel knows now; one whose module isn't loaded yet isn't listed.
    pub filesystems: Vec<String>,
    /// The type of the root file system.
    pub root_type: Option<String>,
    /// Mounting overlayfs as we are, over a tmpfs, and writing through it.
    pub overlay: Trial,
    /// Mounting it in a user namespace (Linux 5.11).
    pub overlay_in_user_namespace: Trial,
    /// `fsopen`, `fsconfig`, `fsmount`, `mount_setattr`, `move_mount`, `open_tree` in one go (Linux 5.2 and 5.12).
    pub descriptor_api: Trial,
    /// An idmapped mount of a tmpfs (Linux 6.3).
    pub idmapped_tmpfs: Trial,
    /// An idmapped mount of the root file system (Linux 5.12, by file system).
    pub idmapped_root: Trial,
}

pub(super) fn gather() -> Facts {
    let me = IdMaps::root_is_me();
    let as_needed = IdMaps::if_unprivileged();
    let mounts = parse_mountinfo(&files::text("/proc/self/mountinfo").unwrap_or_default());
    let root = mounts.iter().rev().find(|mount| mount.mount_point.as_os_str() == "/");
    Facts {
        filesystems: files::filesystems(),
        root_type: root.map(|mount| mount.fs_type.clone()),
        overlay: trial::run(|| overlay(None)),
        overlay_in_user_namespace: trial::run(|| overlay(Some(&me))),
        descriptor_api: trial::run(|| descriptor_api(as_needed.as_ref())),
        idmapped_tmpfs: trial::run(|| {
            unshare(UnshareFlags::NEWNS).step("creating a mount namespace")?;
            trial::private_stage()?;
            idmapped(c".", &me)
        }),
        idmapped_root: trial::run(|| {
            unshare(UnshareFlags::NEWNS).step("creating a mount namespace")?;
            idmapped(c"/", &me)
        }),
    }
}

fn overlay(maps: Option<&IdMaps>) -> Result<(), Failure> {
    trial::become_root(maps)?;
    unshare(UnshareFlags::NEWNS).step("creating a mount namespace")?;
    trial::private_stage()?;
    for name in [c"lower", c"upper", c"work", c"merged", c"lower/here"] {
        mkdir(name, Mode::RWXU).step("making a directory in a tmpfs")?;
    }
    let layers = c"lowerdir=lower,upperdir=upper,workdir=work";
    mount::mount(c"overlay", c"merged", c"overlay", MountFlags::empty(), layers).step("mounting overlayfs")?;
    rustix::fs::stat(c"merged/here").step("seeing the lower layer through overlayfs")?;
    mkdir(c"merged/new", Mode::RWXU).step("writing through overlayfs")?;
    rustix::fs::unlinkat(CWD, c"merged/here", rustix::fs::AtFlags::REMOVEDIR).step("removing through overlayfs")
}

fn descriptor_api(maps: Option<&IdMaps>) -> Result<(), Failure> {
    trial::become_root(maps)?;
    unshare(UnshareFlags::NEWNS).step("creating a mount namespace")?;
    trial::private_stage()?;
    mkdir(c"point", Mode::RWXU).step("making a directory in a tmpfs")?;
    let context = mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).step("fsopen")?;
    mount::fsconfig_create(context.as_fd()).step("fsconfig")?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    let tmpfs = mount::fsmount(context.as_fd(), flags, MountAttrFlags::MOUNT_ATTR_NODEV).step("fsmount")?;
    set_attributes(tmpfs.as_fd(), libc::MOUNT_ATTR_RDONLY, None).step("mount_setattr")?;
    let whole = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    mount::move_mount(tmpfs.as_fd(), c"", CWD, c"point", whole).step("move_mount")?;
    clone_tree(c"point").map(drop).step("open_tree")
}

/// Clones a mount and maps its owners into another user namespace.
fn idmapped(path: &std::ffi::CStr, maps: &IdMaps) -> Result<(), Failure> {
    let tree = clone_tree(path).step("open_tree")?;
    let users = foreign_user_namespace(maps)?;
    set_attributes(tree.as_fd(), libc::MOUNT_ATTR_IDMAP, Some(users.as_fd())).step("mount_setattr with an id map")
}

fn clone_tree(path: &std::ffi::CStr) -> Result<OwnedFd, Errno> {
    mount::open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
}

/// A user namespace other than our own: a child makes one and stays until we have taken hold of it.
fn foreign_user_namespace(maps: &IdMaps) -> Result<OwnedFd, Failure> {
    let cloexec = rustix::pipe::PipeFlags::CLOEXEC;
    let (ready, tell) = rustix::pipe::pipe_with(cloexec).step("making a pipe")?;
    let (hold, release) = rustix::pipe::pipe_with(cloexec).step("making a pipe")?;
    let mut namespace = Err(Failure::new("opening a child's user namespace", Errno::CHILD));
    trial::nested_with(
        || {
            trial::become_root(Some(maps))?;
            rustix::io::write(&tell, b"!").step("writing to a pipe")?;
            // Ends when the parent writes, or dies.
            rustix::io::read(&hold, &mut [0u8; 1]).map(drop).step("reading from a pipe")
        },
        |child| {
            // If the child fails it never writes; its own end of the pipe is ours too, so wait with a deadline.
            let mut fds = [rustix::event::PollFd::new(&ready, rustix::event::PollFlags::IN)];
            let second = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
            let _ = rustix::event::poll(&mut fds, Some(&second));
            let link = Line::<64>::format(format_args!("/proc/{}/ns/user\0", child.as_raw_nonzero()));
            if let Ok(link) = std::ffi::CStr::from_bytes_with_nul(link.bytes()) {
                let opened = rustix::fs::open(link, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
                namespace = opened.step("opening a child's user namespace");
            }
            let _ = rustix::io::write(&release, b"!");
        },
    )?;
    namespace
}

/// mount_setattr(2) on the mount a descriptor names.
fn set_attributes(mount: BorrowedFd<'_>, set: u64, users: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: 0,
        userns_fd: users.map_or(0, |users| users.as_raw_fd() as u64),
    };
    let arguments = [
        mount.as_raw_fd() as usize,
        c"".as_ptr() as usize,
        libc::AT_EMPTY_PATH as usize,
        (&raw const attributes) as usize,
        size_of_val(&attributes),
        0,
    ];
    // SAFETY: the path is a C string, and the structure is as long as said and only read.
    unsafe { syscall(libc::SYS_mount_setattr, arguments) }.map(drop)
}
