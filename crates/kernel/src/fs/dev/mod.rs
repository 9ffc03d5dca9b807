//! Character devices, and `/dev`.
//!
//! Devices are opened by number, wherever their nodes are. [`populate`] makes the usual nodes in a directory; the file system type `devtmpfs` is a
//! tmpfs that begins with them.
//!
//! | module | holds |
//! |---|---|
//! | [`memory`] | `null`, `zero`, `full` |
//! | [`random`] | `random`, `urandom` |

pub mod memory;
pub mod random;
#[cfg(test)]
mod tests;

use super::tmpfs::{Options, Tmpfs};
use super::types::{Device, Making};
use super::{File, Inode, NewFile, Opening};
use crate::{Kernel, Result};
use alloc::sync::Arc;
use insula_abi::general as c;

/// A device's number, from major and minor (makedev(3)).
pub const fn number(major: u32, minor: u32) -> u64 {
    let (major, minor) = (major as u64, minor as u64);
    minor & 0xff | (major & 0xfff) << 8 | (minor & !0xff) << 12 | (major & !0xfff) << 32
}

/// Devices in `/dev`: name, major and minor number, permission bits.
const NODES: [(&str, u32, u32, u32); 8] = [
    ("null", 1, 3, 0o666),
    ("zero", 1, 5, 0o666),
    ("full", 1, 7, 0o666),
    ("random", 1, 8, 0o666),
    ("urandom", 1, 9, 0o666),
    ("tty", 5, 0, 0o666),
    ("console", 5, 1, 0o600),
    ("ptmx", 5, 2, 0o666),
];

/// Symbolic links in `/dev`.
const LINKS: [(&str, &str); 4] =
    [("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"), ("stderr", "/proc/self/fd/2")];

/// Directories in `/dev`, for others to be mounted on.
const DIRECTORIES: [(&str, u32); 3] = [("pts", 0o755), ("shm", 0o1777), ("mqueue", 0o1777)];

/// A device that is the same to all who open it.
pub(crate) struct Simple(pub(crate) fn() -> Arc<dyn File>);

impl Device for Simple {
    fn open(&self, _: &Opening<'_>) -> Result<Arc<dyn File>> {
        Ok(self.0())
    }
}

/// Makes known what this module has.
pub fn register(kernel: &Kernel) {
    let systems = &kernel.file_systems;
    systems.register("devtmpfs", devtmpfs);
    systems.register_device(false, number(1, 3), Arc::new(Simple(|| Arc::new(memory::Null))));
    systems.register_device(false, number(1, 5), Arc::new(Simple(|| Arc::new(memory::Zero { full: false }))));
    systems.register_device(false, number(1, 7), Arc::new(Simple(|| Arc::new(memory::Zero { full: true }))));
    for minor in [8, 9] {
        systems.register_device(false, number(1, minor), Arc::new(Simple(|| Arc::new(random::Random))));
    }
}

fn devtmpfs(Making { kernel, data, .. }: &Making<'_>) -> Result<Arc<dyn Inode>> {
    let options = Options { mode: 0o755, ..Options::parse(data, kernel.host.memory.limit())? };
    let root: Arc<dyn Inode> = Tmpfs::root(kernel, &options);
    populate(&root)?;
    Ok(root)
}

/// Makes the usual nodes in a directory; what is there already stays.
///
/// # Errors
/// What the file system says.
pub fn populate(directory: &Arc<dyn Inode>) -> Result<()> {
    let make = |name: &str, mode: u32, rdev: u64, target: &str| {
        let new = NewFile { mode, uid: 0, gid: 0, rdev, target: target.as_bytes() };
        match directory.create(name.as_bytes(), &new) {
            Err(crate::Errno::EEXIST) => Ok(()),
            made => made.map(|_| ()),
        }
    };
    for (name, major, minor, mode) in NODES {
        make(name, c::S_IFCHR | mode, number(major, minor), "")?;
    }
    for (name, target) in LINKS {
        make(name, c::S_IFLNK | 0o777, 0, target)?;
    }
    for (name, mode) in DIRECTORIES {
        make(name, c::S_IFDIR | mode, 0, "")?;
    }
    Ok(())
}
