//! Names, mounts, and the way from a path to a file.

use super::Inode;
use alloc::sync::Arc;

/// A place in the tree.
#[derive(Clone)]
pub struct Path {
    /// The file there.
    pub inode: Arc<dyn Inode>,
}

/// Where a process stands in the tree.
#[derive(Clone)]
pub struct Context {
    /// Its `/`.
    pub root: Path,
    /// Its working directory.
    pub cwd: Path,
    /// Permission bits that new files don't get.
    pub umask: u32,
}
