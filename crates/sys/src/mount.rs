//! Mounts, by the interface that takes descriptors: no path is walked twice, so no symbolic link can be slipped in between.
//!
//! Source: fsopen(2), open_tree(2), move_mount(2), mount_setattr(2), openat2(2).

use crate::defence;
use crate::error::{Context, Error, Result};
use crate::process::FromC;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};
use std::path::{Component, Path};

/// A mount that is attached nowhere yet; it goes with the descriptor unless it is attached.
pub type Detached = OwnedFd;

/// Makes a file system.
///
/// # Errors
/// The kernel has no such file system, or refuses an option: then its own words are in the message.
pub fn make(name: &str, source: &str, options: &[String], attributes: u64) -> Result<Detached> {
    let fs = rustix::mount::fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC).on("make the file system", name)?;
    let said = |error: Errno, what: &'static str, on: String| {
        let words = words(&fs);
        Error { what, on: if words.is_empty() { on } else { format!("{on} ({words})") }, errno: error }
    };
    if !source.is_empty() {
        // Some have no source; then only the display in mountinfo misses it.
        let _ = rustix::mount::fsconfig_set_string(&fs, "source", source);
    }
    for option in options {
        let result = match option.split_once('=') {
            Some((key, value)) => rustix::mount::fsconfig_set_string(&fs, key, value),
            None => rustix::mount::fsconfig_set_flag(&fs, option.as_str()),
        };
        result.map_err(|error| said(error, "use the option", format!("{option} of {name}")))?;
    }
    rustix::mount::fsconfig_create(&fs).map_err(|error| said(error, "make the file system", name.to_owned()))?;
    let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
    rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).on("mount", name)
}

/// What the kernel wrote on the descriptor of a file system that it refused to make.
fn words(fs: &OwnedFd) -> String {
    let mut buffer = [0; 512];
    let mut all = Vec::new();
    while let Ok(length) = rustix::io::read(fs, &mut buffer) {
        let line: String = String::from_utf8_lossy(&buffer[..length]).trim().chars().filter(|c| !c.is_control()).collect();
        // Each line starts with its weight: "e " for errors.
        all.push(line.strip_prefix("e ").unwrap_or(&line).to_owned());
        if length == 0 || all.len() == 8 {
            break;
        }
    }
    all.retain(|line| !line.is_empty());
    all.join("; ")
}

/// A copy of a mount (or of any file or directory as a mount), with what is mounted below it or not.
///
/// # Errors
/// There is no such file, or no right to.
pub fn copy(dir: impl AsFd, path: &Path, recursive: bool) -> rustix::io::Result<Detached> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(dir, path, flags)
}

/// Attaches a mount on an open file or directory.
///
/// # Errors
/// A directory on a file, or the other way round.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", target, "", flags)
}

/// What [`set_attributes`] changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change<'fd> {
    /// `MOUNT_ATTR_*` bits to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` bits to clear.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED` or `MS_UNBINDABLE`; 0 leaves it.
    pub propagation: u64,
    /// A user namespace whose mapping the mount gets, with `MOUNT_ATTR_IDMAP` in `set`.
    pub user_namespace: Option<BorrowedFd<'fd>>,
    /// Also for all mounts below.
    pub recursive: bool,
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Changes attributes or propagation of a mount.
///
/// # Errors
/// The mount can't have them, or a user namespace has locked them.
pub fn set_attributes(mount: impl AsFd, change: Change<'_>) -> rustix::io::Result<()> {
    let attr = MountAttr {
        set: change.set,
        clear: change.clear,
        propagation: change.propagation,
        user_namespace: change.user_namespace.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if change.recursive { libc::AT_RECURSIVE } else { 0 };
    let fd = mount.as_fd().as_raw_fd();
    // SAFETY: `attr` has the kernel's layout and lives through the call; the empty path is NUL-terminated.
    let result =
        unsafe { libc::syscall(libc::SYS_mount_setattr, fd, c"".as_ptr(), flags, &raw const attr, size_of::<MountAttr>()) };
    Errno::result(result).map(drop)
}

/// Makes `mount` the root of this mount namespace and lets go of the old root.
///
/// # Errors
/// The mount is not the top of one, or the root is no mount at all (an initramfs).
pub fn pivot(mount: impl AsFd) -> Result<()> {
    rustix::process::fchdir(mount).on("enter", "the new root")?;
    // Both roots on one directory: the old one lies on top, and the next line takes it away. Source: pivot_root(2), NOTES.
    rustix::process::pivot_root(".", ".").on("change the root to", "the new root")?;
    rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH).on("let go of", "the old root")?;
    rustix::process::chdir("/").on("enter", "/")
}

/// Moves `mount` over the root of this mount namespace and makes it this process's root. The old one stays below: whoever is root in
/// this namespace can get at it. For hosts whose root is in memory, where [`pivot`] is refused.
///
/// # Errors
/// The mount is not the top of one.
pub fn cover_root(mount: impl AsFd) -> Result<()> {
    rustix::process::fchdir(mount).on("enter", "the new root")?;
    rustix::mount::mount_move(".", "/").on("move over /", "the new root")?;
    rustix::process::chroot(".").on("change the root to", "the new root")?;
    rustix::process::chdir("/").on("enter", "/")
}

/// Opens an absolute path of this process's own root as a place (`O_PATH`).
///
/// # Errors
/// There is no such file.
pub fn open_place(path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(rustix::fs::CWD, path, flags | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

/// Opens a path below a root as a place (`O_PATH`); symbolic links lead nowhere outside, magic ones nowhere at all.
///
/// # Errors
/// There is no such file.
pub fn open_inside(root: impl AsFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let resolve = if defence::stands("in-root") { inside } else { ResolveFlags::empty() };
    loop {
        match rustix::fs::openat2(&root, relative, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // Something was renamed in between; the kernel asks for another try.
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
}

/// Opens a directory below a root, making those that are missing.
///
/// # Errors
/// Something on the way is no directory, or can't be made.
pub fn make_dirs_inside(root: impl AsFd, path: &Path, mode: u32) -> rustix::io::Result<OwnedFd> {
    let place = OFlags::PATH | OFlags::DIRECTORY;
    match open_inside(&root, path, place) {
        Err(Errno::NOENT) => {}
        result => return result,
    }
    // From the top: each step opens what is there below the root, so a link in the middle still can't lead out.
    let mut done = std::path::PathBuf::new();
    let mut dir = open_inside(&root, &done, place)?;
    for part in path.components() {
        let Component::Normal(name) = part else { continue };
        done.push(name);
        dir = match open_inside(&root, &done, place) {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(mode)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
                open_inside(&root, &done, place)?
            }
            result => result?,
        };
    }
    Ok(dir)
}

/// Opens a file below a root as a place, making it (empty) and the directories above it when they are missing.
///
/// # Errors
/// Something on the way is no directory, or can't be made.
pub fn make_file_inside(root: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    match open_inside(&root, path, OFlags::PATH) {
        Err(Errno::NOENT) => {}
        result => return result,
    }
    let name = path.file_name().ok_or(Errno::ISDIR)?;
    let dir = make_dirs_inside(&root, path.parent().unwrap_or(Path::new("/")), 0o755)?;
    let flags = OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY | OFlags::NONBLOCK;
    drop(rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o644))?);
    open_inside(root, path, OFlags::PATH)
}

/// Whether an open file is a directory.
///
/// # Errors
/// The kernel can't say.
pub fn is_dir(file: impl AsFd) -> rustix::io::Result<bool> {
    let stat = rustix::fs::statat(file, "", AtFlags::EMPTY_PATH)?;
    Ok(rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
}
