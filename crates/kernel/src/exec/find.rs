//! The file of a program.

use crate::fs::tree::access::{self, EXECUTE};
use crate::fs::tree::walk::{self, Lookup};
use crate::fs::tree::{ContentsHold, MountFlags, Path};
use crate::fs::{Attributes, Description, FileType, Opening};
use crate::task::Task;
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use insula_abi::general as c;

/// A program's file, open for reading.
pub struct Found {
    /// It.
    pub file: Arc<Description>,
    /// Where it is.
    path: Path,
    /// What stat(2) tells of it.
    pub attributes: Attributes,
    /// Whether its set-ID bits and capabilities count: its mount may say that they don't.
    pub trusted: bool,
    /// Whether who executes it may read it, too.
    pub readable: bool,
}

impl Found {
    /// Whether it is seen through one of the mounts that a task has: what others show gives it no rights.
    pub fn is_shown_to(&self, task: &Task) -> bool {
        task.fs().lock().namespace.shows(&self.path.mount)
    }

    /// An extended attribute of it.
    pub fn xattr(&self, name: &[u8]) -> Option<Vec<u8>> {
        self.path.inode().xattr(name).ok()
    }
}

/// Finds a file that is to be executed. `flags` are `AT_*` of execveat(2).
///
/// # Errors
/// Those of path_resolution(7). `EACCES`: not a regular file, or one that may not be executed. `ELOOP`: a symbolic link, which isn't
/// followed. `ETXTBSY`: somebody writes it.
pub fn find(task: &Arc<Task>, at: i32, path: &[u8], flags: u32) -> Result<Found> {
    let mut lookup = Lookup::empty();
    lookup.set(Lookup::FOLLOW, flags & c::AT_SYMLINK_NOFOLLOW == 0);
    lookup.set(Lookup::EMPTY, flags & c::AT_EMPTY_PATH != 0);
    let path = walk::resolve(task, at, path, lookup)?;
    let inode = path.inode().clone();
    match inode.file_type() {
        FileType::Symlink => return Err(Errno::ELOOP),
        FileType::Regular => {}
        _ => return Err(Errno::EACCES),
    }
    let flags = path.mount.flags();
    if flags.contains(MountFlags::NO_EXEC) {
        return Err(Errno::EACCES);
    }
    let credentials = task.credentials();
    access::check_path(&credentials, &path, EXECUTE)?;
    let attributes = inode.attributes()?;
    let readable = access::check_path(&credentials, &path, access::READ).is_ok();
    let hold = ContentsHold::to_execute(&path.dentry)?;
    let file = inode.open(&Opening { task, flags: c::O_RDONLY })?;
    let file = Description::holding(file, Some(path.clone()), c::O_RDONLY, Some(hold));
    // What was mounted in a user namespace below gives nobody rights.
    let trusted = !flags.contains(MountFlags::NO_SUID) && credentials.space.is_within(&path.mount.owner);
    Ok(Found { file, path, attributes, trusted, readable })
}
