//! Making, removing and moving names, with all checks of the manual pages.

use super::walk::{self, Last, Lookup, NAME_MAX, Walk};
use super::{Dentry, Path, access};
use crate::fs::notify;
use crate::fs::{FileType, Inode, NewFile};
use crate::task::{Credentials, Task};
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use insula_abi::general as c;

/// A file that is to be made: what the caller of mkdir(2), mknod(2) or symlink(2) says.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Kind and permission bits, before the umask.
    pub mode: u32,
    /// Which device, for device nodes.
    pub rdev: u64,
    /// Where a symbolic link leads.
    pub target: &'a [u8],
}

/// What a new file in a directory is like: of its maker; of the directory's group, if that is set-group-ID.
///
/// # Errors
/// What the directory's file system says.
pub fn new_file<'a>(
    task: &Arc<Task>,
    credentials: &Credentials,
    directory: &Arc<dyn Inode>,
    wanted: &Wanted<'a>,
) -> Result<NewFile<'a>> {
    let umask = task.fs().lock().umask;
    let kind = FileType::of_mode(wanted.mode);
    let mut mode = if kind == FileType::Symlink { wanted.mode } else { wanted.mode & !umask };
    let mut gid = credentials.gid.fs;
    let (directory_mode, directory_uid, directory_gid) = directory.permission_bits()?;
    if directory_mode & c::S_ISGID != 0 {
        gid = directory_gid;
        if kind == FileType::Directory {
            mode |= c::S_ISGID;
        } else if mode & (c::S_ISGID | c::S_IXGRP) == c::S_ISGID | c::S_IXGRP
            && !credentials.in_group(gid)
            && !credentials.has_for((directory_uid, directory_gid), c::CAP_FSETID)
        {
            mode &= !c::S_ISGID;
        }
    }
    Ok(NewFile { mode, uid: credentials.uid.fs, gid, rdev: wanted.rdev, target: wanted.target })
}

/// Makes a file where `walk` has come to. That there is none is checked first, then the right to make one.
///
/// # Errors
/// `EEXIST`, and as mkdir(2) and others.
pub fn make_here(walk: &Walk, task: &Arc<Task>, name: &[u8], wanted: &Wanted<'_>) -> Result<Path> {
    walk.searchable()?;
    if name.len() > NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    let directory = &walk.at;
    if !directory.mount.knows(&walk.credentials) {
        return Err(Errno::EOVERFLOW);
    }
    let dentry = directory.dentry.make(name, |inode| {
        access::change_names(&walk.credentials, directory)?;
        inode.create(name, &new_file(task, &walk.credentials, inode, wanted)?)
    })?;
    notify::named(task, &directory.dentry, name, &dentry, notify::CREATE);
    Ok(Path { mount: directory.mount.clone(), dentry })
}

/// Makes a file of any kind: mkdir(2), mknod(2), symlink(2).
///
/// # Errors
/// As the manual pages say.
pub fn make(task: &Arc<Task>, dirfd: i32, path: &[u8], wanted: &Wanted<'_>) -> Result<Path> {
    let (walk, last) = walk::parent(task, dirfd, path)?;
    let Last::Name(name, slash) = last else {
        walk.searchable()?;
        return Err(Errno::EEXIST);
    };
    if slash && FileType::of_mode(wanted.mode) != FileType::Directory {
        walk.searchable()?;
        // `link/` can't be made, unless what is there says so first.
        return Err(if walk.at.dentry.child(&name).is_ok() { Errno::EEXIST } else { Errno::ENOENT });
    }
    make_here(&walk, task, &name, wanted)
}

/// Gives a file one name more, link(2).
///
/// # Errors
/// As the manual page says.
pub fn link(task: &Arc<Task>, from: &Path, dirfd: i32, path: &[u8]) -> Result<()> {
    let (walk, last) = walk::parent(task, dirfd, path)?;
    let Last::Name(name, slash) = last else { return Err(Errno::EEXIST) };
    walk.searchable()?;
    if name.len() > NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    if slash {
        return Err(if walk.at.dentry.child(&name).is_ok() { Errno::EEXIST } else { Errno::ENOENT });
    }
    let directory = &walk.at;
    let inode = from.inode();
    // Nobody keeps by a name of their own what they could not open (`/proc/sys/fs/protected_hardlinks`).
    let attributes = inode.attributes()?;
    let harmless = attributes.file_type() == FileType::Regular
        && attributes.mode & c::S_ISUID == 0
        && attributes.mode & (c::S_ISGID | c::S_IXGRP) != c::S_ISGID | c::S_IXGRP
        && access::check(&walk.credentials, inode, access::READ | access::WRITE).is_ok();
    let protected = attributes.file_type() != FileType::Directory && !harmless && !access::owns(&walk.credentials, &attributes);
    let dentry = directory.dentry.make(&name, |into| {
        if !Arc::ptr_eq(&from.mount, &directory.mount) {
            return Err(Errno::EXDEV);
        }
        access::change_names(&walk.credentials, directory)?;
        if protected || inode.file_type() == FileType::Directory {
            return Err(Errno::EPERM);
        }
        if inode.attributes()?.nlink == 0 && !from.dentry.may_get_a_name() {
            return Err(Errno::ENOENT);
        }
        into.link(&name, inode)?;
        Ok(inode.clone())
    })?;
    notify::attributes(task, from);
    notify::named(task, &directory.dentry, &name, &dentry, notify::CREATE);
    Ok(())
}

/// Removes a name: unlink(2), or rmdir(2).
///
/// # Errors
/// As the manual pages say.
pub fn remove(task: &Arc<Task>, dirfd: i32, path: &[u8], directory: bool) -> Result<()> {
    let (walk, last) = walk::parent(task, dirfd, path)?;
    let (name, slash) = match last {
        Last::Name(name, slash) => (name, slash),
        _ if !directory => return Err(Errno::EISDIR),
        Last::Root => return Err(Errno::EBUSY),
        Last::Dot => return Err(Errno::EINVAL),
        Last::DotDot => return Err(Errno::ENOTEMPTY),
    };
    walk.searchable()?;
    if name.len() > NAME_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    let at = &walk.at;
    let removed = at.dentry.remove(&name, |inode, victim| {
        access::change_names(&walk.credentials, at)?;
        access::take_name(&walk.credentials, inode, victim.inode())?;
        match (victim.inode().file_type() == FileType::Directory, directory) {
            (true, true) => inode.rmdir(&name),
            (true, false) => Err(Errno::EISDIR),
            (false, true) => Err(Errno::ENOTDIR),
            (false, false) if slash => Err(Errno::ENOTDIR),
            (false, false) => inode.unlink(&name),
        }
    })?;
    notify::removed(task, &at.dentry, &name, &removed);
    Ok(())
}

/// A name that rename(2) is about.
struct End {
    walk: Walk,
    name: Vec<u8>,
    slash: bool,
}

fn end(task: &Arc<Task>, dirfd: i32, path: &[u8], otherwise: Errno) -> Result<End> {
    let (walk, last) = walk::parent(task, dirfd, path)?;
    walk.searchable()?;
    match last {
        Last::Name(name, _) if name.len() > NAME_MAX => Err(Errno::ENAMETOOLONG),
        Last::Name(name, slash) => Ok(End { walk, name, slash }),
        _ => Err(otherwise),
    }
}

/// Moves a name, renameat2(2).
///
/// # Errors
/// As the manual page says.
pub fn rename(task: &Arc<Task>, old: (i32, &[u8]), new: (i32, &[u8]), flags: u32) -> Result<()> {
    let exchange = flags & c::RENAME_EXCHANGE != 0;
    let known = c::RENAME_NOREPLACE | c::RENAME_EXCHANGE | c::RENAME_WHITEOUT;
    if flags & !known != 0 || exchange && flags & (c::RENAME_NOREPLACE | c::RENAME_WHITEOUT) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & c::RENAME_WHITEOUT != 0 && !task.credentials().has(c::CAP_MKNOD) {
        return Err(Errno::EPERM);
    }
    let from = end(task, old.0, old.1, Errno::EBUSY)?;
    let occupied = if flags & c::RENAME_NOREPLACE != 0 { Errno::EEXIST } else { Errno::EBUSY };
    let to = end(task, new.0, new.1, occupied)?;
    if !Arc::ptr_eq(&from.walk.at.mount, &to.walk.at.mount) {
        return Err(Errno::EXDEV);
    }
    let credentials = &from.walk.credentials;
    let (source, target) = (&from.walk.at, &to.walk.at);
    let check = |moved: &Arc<Dentry>, replaced: Option<&Arc<Dentry>>| {
        let is_directory = |dentry: &Arc<Dentry>| dentry.inode().file_type() == FileType::Directory;
        let directory = is_directory(moved);
        if !directory && (from.slash || !exchange && to.slash) {
            return Err(Errno::ENOTDIR);
        }
        if exchange && to.slash && !replaced.is_some_and(is_directory) {
            return Err(Errno::ENOTDIR);
        }
        access::change_names(credentials, source)?;
        access::change_names(credentials, target)?;
        access::take_name(credentials, source.inode(), moved.inode())?;
        let across = !Arc::ptr_eq(&source.dentry, &target.dentry);
        // A directory that gets another parent is changed itself.
        if across && directory {
            access::check(credentials, moved.inode(), access::WRITE)?;
        }
        let Some(replaced) = replaced else { return Ok(()) };
        access::take_name(credentials, target.inode(), replaced.inode())?;
        if exchange {
            if across && is_directory(replaced) {
                access::check(credentials, replaced.inode(), access::WRITE)?;
            }
            return Ok(());
        }
        match (directory, is_directory(replaced)) {
            (true, false) => Err(Errno::ENOTDIR),
            (false, true) => Err(Errno::EISDIR),
            _ => Ok(()),
        }
    };
    let (moved, replaced) = source.dentry.rename(&from.name, &target.dentry, &to.name, flags, check)?;
    let (old, new) = ((&source.dentry, &*from.name), (&target.dentry, &*to.name));
    notify::moved(task, old, new, &moved);
    match replaced {
        Some(replaced) if exchange => notify::moved(task, new, old, &replaced),
        Some(replaced) => notify::replaced(task, &replaced),
        None => {}
    }
    Ok(())
}

/// How a file's name is looked up that is to be changed or looked at: the last link is followed if `follow`, and an empty path means the
/// descriptor if `empty`.
pub fn lookup_flags(follow: bool, empty: bool) -> Lookup {
    let mut flags = Lookup::empty();
    flags.set(Lookup::FOLLOW, follow);
    flags.set(Lookup::EMPTY, empty);
    flags
}
