//! Names, mounts, and the way from a path to a file.
//!
//! A file system offers [`Inode`](super::Inode)s, which know nothing of where they are. A [`Dentry`] is one name of one of them: it knows its
//! parent, and the children that were looked up. A [`Mount`] makes a file system (or a part of one) visible at a place. A [`Path`] is a
//! dentry as seen through a mount: only the two together have a way up to the root.
//!
//! | module | holds |
//! |---|---|
//! | [`dentry`] | names that are known, and changes of names |
//! | [`mount`] | mounts |
//! | [`namespace`] | what a group of processes sees mounted |
//! | [`propagation`] | how mounts hear of each other |
//! | [`walk`] | from a path to a place |
//! | [`access`] | who may do what |
//! | [`contents`] | writers and programs keep each other out |
//! | [`change`] | making, removing and moving names, with all checks |

pub mod access;
pub mod change;
pub mod contents;
pub mod dentry;
pub mod mount;
pub mod namespace;
pub mod propagation;
pub mod walk;

pub use contents::ContentsHold;
pub use dentry::{Cache, Dentry, FileSystem, same};
pub use mount::{Mount, MountFlags};
pub use namespace::{Namespace, Unmounting};
pub use propagation::Propagation;
pub use walk::{Lookup, Walk};

use super::Inode;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A place in the tree.
#[derive(Clone)]
pub struct Path {
    /// Through which mount it is seen.
    pub mount: Arc<Mount>,
    /// Which name it is.
    pub dentry: Arc<Dentry>,
}

impl Path {
    /// The file there.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        self.dentry.inode()
    }

    /// Whether both are the same place.
    pub fn is(&self, other: &Path) -> bool {
        Arc::ptr_eq(&self.dentry, &other.dentry) && Arc::ptr_eq(&self.mount, &other.mount)
    }

    /// One step up: the parent, or, where a mount begins, the place it covers. None at the very top.
    pub fn up(&self) -> Option<Path> {
        let mut here = self.clone();
        while Arc::ptr_eq(&here.dentry, &here.mount.root) {
            here = here.mount.place()?;
        }
        let dentry = here.dentry.parent()?;
        Some(Path { mount: here.mount, dentry })
    }

    /// What is mounted here, at the top of the pile; or itself.
    pub fn down(mut self) -> Path {
        while self.dentry.is_mount_point()
            && let Some(mount) = self.mount.child(&self.dentry)
        {
            let dentry = mount.root.clone();
            self = Path { mount, dentry };
        }
        self
    }

    /// The text that leads here from `root`. A file whose name is gone ends in ` (deleted)`; what can't be reached from `root` begins
    /// with `(unreachable)`. As Linux shows it in `/proc`.
    pub fn text(&self, root: &Path) -> Vec<u8> {
        let (mut text, reachable) = self.raw_text(root);
        if !reachable {
            text.splice(0..0, *b"(unreachable)");
        }
        if self.dentry.is_gone() {
            text.extend_from_slice(b" (deleted)");
        }
        text
    }

    /// The text, and whether `root` was met.
    fn raw_text(&self, root: &Path) -> (Vec<u8>, bool) {
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut here = self.clone();
        let reachable = loop {
            if here.is(root) {
                break true;
            }
            if Arc::ptr_eq(&here.dentry, &here.mount.root) {
                match here.mount.place() {
                    Some(place) => here = place,
                    None => break here.mount.flags().contains(MountFlags::INTERNAL),
                }
                continue;
            }
            let Some((parent, name)) = here.dentry.place() else { break false };
            names.push(name);
            here.dentry = parent;
        };
        let mut text = Vec::new();
        for name in names.iter().rev() {
            text.push(b'/');
            text.extend_from_slice(name);
        }
        if text.is_empty() {
            text.push(b'/');
        }
        (text, reachable)
    }

    /// Whether `root` is on its way up.
    pub fn is_below(&self, root: &Path) -> bool {
        self.raw_text(root).1
    }
}

impl core::fmt::Debug for Path {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (_, name) = self.dentry.place().unwrap_or((self.dentry.clone(), b"/".to_vec()));
        write!(f, "Path({}:{})", self.mount.id, alloc::string::String::from_utf8_lossy(&name))
    }
}

/// Where a process stands in the tree.
#[derive(Clone)]
pub struct Context {
    /// The mounts it sees.
    pub namespace: Arc<Namespace>,
    /// Its `/`.
    pub root: Path,
    /// Its working directory.
    pub cwd: Path,
    /// Permission bits that new files don't get.
    pub umask: u32,
}

impl Context {
    /// At the root of a namespace.
    pub fn new(namespace: &Arc<Namespace>) -> Self {
        let root = namespace.root();
        Context { namespace: namespace.clone(), cwd: root.clone(), root, umask: 0o022 }
    }

    /// Whether its `/` isn't that of the namespace, chroot(2).
    pub fn is_confined(&self) -> bool {
        !self.root.is(&self.namespace.root())
    }
}
