//! Opening files, open(2) and openat2(2).

use super::tree::change::{self, Wanted};
use super::tree::walk::{Last, NAME_MAX};
use super::tree::{ContentsHold, Lookup, MountFlags, Walk, access};
use super::{AlwaysReady, Changes, Description, File, FileType, Opening, Path, notify};
use crate::task::Task;
use crate::{Errno, Result};
use alloc::borrow::Cow;
use alloc::sync::Arc;
use insula_abi::general as c;

/// How a file is opened.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// `O_*`.
    pub flags: u32,
    /// Permission bits of a new file, before the umask.
    pub mode: u32,
    /// `RESOLVE_*`.
    pub resolve: u64,
}

/// `O_TMPFILE` without the `O_DIRECTORY` in it.
const TMPFILE: u32 = c::O_TMPFILE & !c::O_DIRECTORY;

/// Flags that open(2) knows; it ignores others.
pub const KNOWN: u32 = c::O_ACCMODE
    | c::O_CREAT
    | c::O_EXCL
    | c::O_NOCTTY
    | c::O_TRUNC
    | c::O_APPEND
    | c::O_NONBLOCK
    | c::O_SYNC
    | c::O_DSYNC
    | c::FASYNC
    | c::O_DIRECT
    | c::O_LARGEFILE
    | c::O_DIRECTORY
    | c::O_NOFOLLOW
    | c::O_NOATIME
    | c::O_CLOEXEC
    | c::O_PATH
    | TMPFILE;

/// Flags that count beside `O_PATH`.
pub const WITH_PATH: u32 = c::O_DIRECTORY | c::O_NOFOLLOW | c::O_PATH | c::O_CLOEXEC;

/// What is left of them in an open file.
const LASTING: u32 = !(c::O_CREAT | c::O_EXCL | c::O_NOCTTY | c::O_TRUNC | c::O_CLOEXEC);

/// A file that is only named (`O_PATH`): nothing can be done with it.
pub struct Named(FileType);

impl AlwaysReady for Named {}

impl File for Named {
    fn file_type(&self) -> FileType {
        self.0
    }

    fn read(&self, _: &super::Io<'_>, _: u64, _: &mut crate::mm::UserBuf) -> Result<usize> {
        Err(Errno::EBADF)
    }

    fn sync(&self, _: bool) -> Result<()> {
        Err(Errno::EBADF)
    }
}

/// Opens a file by its path.
///
/// # Errors
/// As open(2) and openat2(2) say.
pub fn open(task: &Arc<Task>, dirfd: i32, path: &[u8], how: &How) -> Result<Arc<Description>> {
    let flags = how.flags;
    if flags & TMPFILE != 0 {
        return open_unnamed(task, dirfd, path, how);
    }
    let mut lookup = Lookup::empty();
    lookup.set(Lookup::FOLLOW, flags & c::O_NOFOLLOW == 0 && flags & (c::O_CREAT | c::O_EXCL) != c::O_CREAT | c::O_EXCL);
    lookup.set(Lookup::DIRECTORY, flags & c::O_DIRECTORY != 0);
    for (resolve, flag) in [
        (c::RESOLVE_NO_XDEV, Lookup::NO_XDEV),
        (c::RESOLVE_NO_MAGICLINKS, Lookup::NO_MAGIC),
        (c::RESOLVE_NO_SYMLINKS, Lookup::NO_SYMLINKS),
        (c::RESOLVE_BENEATH, Lookup::BENEATH),
        (c::RESOLVE_IN_ROOT, Lookup::IN_ROOT),
    ] {
        lookup.set(flag, how.resolve & u64::from(resolve) != 0);
    }
    let walk = Walk::begin(task, dirfd, path, lookup)?;
    if flags & c::O_CREAT == 0 {
        let place = walk.to_end(path)?;
        return open_place(task, place, flags, false);
    }
    let (place, made) = find_or_make(task, walk, path, how)?;
    open_place(task, place, flags, made)
}

/// The place of a file that is made if it isn't there; and whether it was made.
fn find_or_make(task: &Arc<Task>, mut walk: Walk, path: &[u8], how: &How) -> Result<(Path, bool)> {
    let mut text = Cow::Borrowed(path);
    let exclusive = how.flags & c::O_EXCL != 0;
    loop {
        let last = walk.to_parent(core::mem::take(&mut text))?;
        let (name, slash) = match last {
            Last::Name(name, slash) => (name, slash),
            other => {
                walk.finish(other, false)?;
                return Err(if exclusive { Errno::EEXIST } else { Errno::EISDIR });
            }
        };
        walk.searchable()?;
        if slash {
            return Err(Errno::EISDIR);
        }
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        match walk.at.dentry.child(&name) {
            Ok(_) if exclusive => return Err(Errno::EEXIST),
            Ok(child) => {
                let follow = how.flags & c::O_NOFOLLOW == 0;
                match walk.enter(child, follow)? {
                    Some(link) => text = Cow::Owned(link),
                    None => return Ok((walk.at, false)),
                }
            }
            Err(Errno::ENOENT) => {
                let wanted = Wanted { mode: c::S_IFREG | how.mode & 0o7777, rdev: 0, target: &[] };
                match change::make_here(&walk, task, &name, &wanted) {
                    // Somebody else made it meanwhile.
                    Err(Errno::EEXIST) if !exclusive => text = Cow::Owned(name),
                    made => return made.map(|place| (place, true)),
                }
            }
            Err(errno) => return Err(errno),
        }
    }
}

/// Opens a new file without a name (`O_TMPFILE`).
fn open_unnamed(task: &Arc<Task>, dirfd: i32, path: &[u8], how: &How) -> Result<Arc<Description>> {
    let walk = Walk::begin(task, dirfd, path, Lookup::FOLLOW | Lookup::DIRECTORY)?;
    let credentials = walk.credentials.clone();
    let directory = walk.to_end(path)?;
    access::change_names(&credentials, &directory)?;
    let wanted = Wanted { mode: c::S_IFREG | how.mode & 0o7777, rdev: 0, target: &[] };
    let inode = directory.inode().create_unnamed(&change::new_file(task, &credentials, directory.inode(), &wanted)?)?;
    let (_, number) = inode.identity()?;
    let name = alloc::format!("#{number}").into_bytes();
    let dentry = super::tree::Dentry::unnamed(&directory.dentry, inode, name, how.flags & c::O_EXCL == 0);
    open_place(task, Path { mount: directory.mount, dentry }, how.flags, true)
}

/// What a file is opened for, as permissions say it.
fn wanted(flags: u32) -> u32 {
    let wanted = match flags & c::O_ACCMODE {
        c::O_RDONLY => access::READ,
        c::O_WRONLY => access::WRITE,
        _ => access::READ | access::WRITE,
    };
    if flags & c::O_TRUNC != 0 { wanted | access::WRITE } else { wanted }
}

/// Opens what is at a place. Of a file that was `made` for this, permissions aren't asked.
///
/// # Errors
/// As open(2) says.
pub fn open_place(task: &Arc<Task>, place: Path, flags: u32, made: bool) -> Result<Arc<Description>> {
    let kind = place.inode().file_type();
    if flags & c::O_PATH != 0 {
        return Ok(Description::new(Arc::new(Named(kind)), Some(place), flags & WITH_PATH & LASTING));
    }
    let wanted = wanted(flags);
    if !made {
        match kind {
            FileType::Symlink => return Err(Errno::ELOOP),
            FileType::Directory if wanted & access::WRITE != 0 || flags & c::O_CREAT != 0 => return Err(Errno::EISDIR),
            FileType::Character | FileType::Block if !place.mount.shows_devices() => {
                return Err(Errno::EACCES);
            }
            _ => {}
        }
        let credentials = task.credentials();
        access::check_path(&credentials, &place, wanted)?;
        if flags & c::O_NOATIME != 0 && !access::owns(&credentials, &place.inode().attributes()?) {
            return Err(Errno::EPERM);
        }
    }
    let writes = wanted & access::WRITE != 0 && kind == FileType::Regular;
    let hold = if writes { Some(ContentsHold::to_write(&place)?) } else { None };
    let file = open_inode(task, &place, flags)?;
    let description = Description::holding(file, Some(place.clone()), flags & LASTING | c::O_LARGEFILE, hold);
    notify::opened(task, &description);
    if flags & c::O_TRUNC != 0 && !made && kind == FileType::Regular {
        place.inode().set_attributes(&Changes { size: Some(0), ..Changes::default() })?;
        notify::modified(task, &place);
    }
    Ok(description)
}

fn open_inode(task: &Arc<Task>, place: &Path, flags: u32) -> Result<Arc<dyn File>> {
    let inode = place.inode();
    let mut flags = flags;
    let quiet = MountFlags::NO_ATIME | MountFlags::READ_ONLY;
    if place.mount.flags().intersects(quiet) {
        flags |= c::O_NOATIME;
    }
    let opening = Opening { task, flags };
    if let Some(outcome) = inode.reopen(&opening) {
        return outcome;
    }
    match inode.file_type() {
        kind @ (FileType::Character | FileType::Block) => {
            let number = inode.attributes()?.rdev;
            task.kernel().file_systems.open_device(kind == FileType::Block, number, &opening)
        }
        FileType::Fifo => Ok(task.kernel().fifos.open(task, inode.identity()?, flags)?),
        FileType::Socket => Err(Errno::ENXIO),
        _ => place.dentry.open_with(|| inode.clone().open(&opening)),
    }
}
