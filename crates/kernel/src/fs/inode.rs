//! What a file system offers of each of its files.

use super::File;
use crate::task::{Credentials, Task};
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use insula_abi::file::Statfs;
use insula_abi::general as c;
use insula_abi::time::Timespec;

/// Kinds of files, by the bits of `st_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum FileType {
    /// A named pipe.
    Fifo = c::S_IFIFO,
    /// A character device.
    Character = c::S_IFCHR,
    /// A directory.
    Directory = c::S_IFDIR,
    /// A block device.
    Block = c::S_IFBLK,
    /// A regular file.
    Regular = c::S_IFREG,
    /// A symbolic link.
    Symlink = c::S_IFLNK,
    /// A socket.
    Socket = c::S_IFSOCK,
    /// None of these: an eventfd, an epoll.
    Anonymous = 0,
}

impl FileType {
    /// From `st_mode`.
    pub const fn of_mode(mode: u32) -> FileType {
        match mode & c::S_IFMT {
            c::S_IFIFO => FileType::Fifo,
            c::S_IFCHR => FileType::Character,
            c::S_IFDIR => FileType::Directory,
            c::S_IFBLK => FileType::Block,
            c::S_IFREG => FileType::Regular,
            c::S_IFLNK => FileType::Symlink,
            c::S_IFSOCK => FileType::Socket,
            _ => FileType::Anonymous,
        }
    }

    /// As `getdents64(2)` says it, `DT_*`.
    pub const fn dirent(self) -> u8 {
        (self as u32 >> 12) as u8
    }
}

/// What stat(2) tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Number of the file system.
    pub dev: u64,
    /// Number of the file.
    pub ino: u64,
    /// Kind and permission bits.
    pub mode: u32,
    /// Names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Which device it is.
    pub rdev: u64,
    /// Bytes.
    pub size: u64,
    /// Best size of transfers.
    pub blksize: u32,
    /// Blocks of 512 bytes given out.
    pub blocks: u64,
    /// Last read.
    pub atime: Timespec,
    /// Last written.
    pub mtime: Timespec,
    /// Last changed.
    pub ctime: Timespec,
    /// Made, where that is known.
    pub btime: Option<Timespec>,
}

impl Attributes {
    /// The kind.
    pub const fn file_type(&self) -> FileType {
        FileType::of_mode(self.mode)
    }

    /// Permission bits, with set-ID and sticky.
    pub const fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }
}

/// A time that is to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The moment of the change.
    Now,
    /// This one.
    To(Timespec),
}

/// Attributes that are to be changed; permission to do so has been checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Bytes.
    pub size: Option<u64>,
    /// Last read.
    pub atime: Option<SetTime>,
    /// Last written.
    pub mtime: Option<SetTime>,
}

/// A file that is to be made.
#[derive(Clone, Debug)]
pub struct NewFile<'a> {
    /// Kind and permission bits, after the umask.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Which device, for device nodes.
    pub rdev: u64,
    /// Where a symbolic link leads, for who reads it.
    pub target: &'a [u8],
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The name.
    pub name: Vec<u8>,
    /// Number of the file.
    pub ino: u64,
    /// Its kind.
    pub kind: FileType,
}

/// How a file is opened.
pub struct Opening<'a> {
    /// Who opens it.
    pub task: &'a Arc<Task>,
    /// `O_*`.
    pub flags: u32,
}

/// A mode as it is after a write, or a change of owner, by somebody without `CAP_FSETID`. Set-group-ID without the right of the group to
/// execute is a mark for mandatory locks, and stays.
pub const fn without_set_id(mode: u32) -> u32 {
    let drop_group = mode & c::S_ISGID != 0 && mode & c::S_IXGRP != 0;
    mode & !c::S_ISUID & if drop_group { !c::S_ISGID } else { !0 }
}

/// A file of a file system, apart from its names. Names are single components, neither empty nor `.` nor `..`; permissions are checked by
/// the caller, who knows the mount as well.
#[allow(unused_variables)]
pub trait Inode: Send + Sync + Any {
    /// What stat(2) tells.
    fn attributes(&self) -> Result<Attributes>;

    /// The kind, which never changes.
    fn file_type(&self) -> FileType;

    /// What tells it from all other files: the numbers of its file system, and of it there.
    fn identity(&self) -> Result<(u64, u64)> {
        self.attributes().map(|attributes| (attributes.dev, attributes.ino))
    }

    /// Kind and permission bits, owner and group: what each step of a path looks at.
    fn permission_bits(&self) -> Result<(u32, u32, u32)> {
        self.attributes().map(|attributes| (attributes.mode, attributes.uid, attributes.gid))
    }

    /// Changes attributes.
    fn set_attributes(&self, changes: &Changes) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// The file of this name in a directory.
    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        Err(Errno::ENOTDIR)
    }

    /// Makes a file of any kind.
    fn create(&self, name: &[u8], new: &NewFile<'_>) -> Result<Arc<dyn Inode>> {
        Err(Errno::EROFS)
    }

    /// Makes a regular file without a name (`O_TMPFILE`).
    fn create_unnamed(&self, new: &NewFile<'_>) -> Result<Arc<dyn Inode>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Gives a file one name more.
    fn link(&self, name: &[u8], to: &Arc<dyn Inode>) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Removes a name of anything but a directory.
    fn unlink(&self, name: &[u8]) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Removes an empty directory.
    fn rmdir(&self, name: &[u8]) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Moves a name, `RENAME_*`; both directories are of one file system.
    fn rename(&self, name: &[u8], to: &Arc<dyn Inode>, new_name: &[u8], flags: u32) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// Where a symbolic link leads.
    fn read_link(&self) -> Result<Vec<u8>> {
        Err(Errno::EINVAL)
    }

    /// Where it leads who reads it, if that is not the same for all: `/proc/self`.
    fn read_link_for(&self, task: &Arc<Task>) -> Result<Vec<u8>> {
        self.read_link()
    }

    /// Where a link leads that doesn't go by its text: `/proc/PID/cwd`.
    fn follow(&self, task: &Arc<Task>) -> Option<Result<super::Path>> {
        None
    }

    /// Opens it in a way of its own, whatever its kind says: an open file that never had a name, once more.
    fn reopen(&self, opening: &Opening<'_>) -> Option<Result<Arc<dyn File>>> {
        None
    }

    /// Opens it.
    fn open(self: Arc<Self>, opening: &Opening<'_>) -> Result<Arc<dyn File>>;

    /// Reads a regular file on the kernel's own behalf, when nobody has it open: to copy it to another layer.
    fn read_bytes(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Writes a regular file likewise.
    fn write_bytes(&self, at: u64, from: &[u8]) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// All names in a directory, without `.` and `..`, likewise.
    fn names(&self) -> Result<Vec<Name>> {
        Err(Errno::ENOTDIR)
    }

    /// An extended attribute.
    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Sets an extended attribute, `XATTR_*`.
    fn set_xattr(&self, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Names of all extended attributes.
    fn xattrs(&self) -> Result<Vec<Vec<u8>>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Removes an extended attribute.
    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// What statfs(2) tells of its file system.
    fn statfs(&self) -> Result<Statfs>;

    /// A name of it has gone or come: what is known of how many it has doesn't hold any more.
    fn names_changed(&self) {}

    /// Whether what `lookup` said holds as long as this kernel doesn't change it. If not, names are looked up each time.
    fn names_are_stable(&self) -> bool {
        true
    }

    /// Whether it may be read, written or executed, if its file system decides otherwise than by permission bits.
    fn permission(&self, credentials: &Credentials, wanted: u32) -> Option<Result<()>> {
        None
    }
}
