//! The host's files in the kernel's tree: inodes over handles of the gofer's, open files over descriptors it hands out.
//!
//! Names cost a trip to the gofer, so what is known is kept: the kernel keeps names ([`Inode::names_are_stable`]), an [`HostInode`] its
//! attributes and one open descriptor for reading and one for writing, which all who open the file share, as each carries its own
//! position. Data moves between the host's file and the guests' memory without the gofer, and without a copy here.
//!
//! An export that others change too (*shared*) is asked each time.
//!
//! | module | holds |
//! |---|---|
//! | `inode` | files apart from their names |
//! | `file` | open regular files |
//! | `directory` | open directories |

mod directory;
mod file;
mod inode;

pub use inode::HostInode;

use crate::host::{Room, Watcher, errno};
use crate::platform::Memory;
use insula_abi::time::Timespec;
use insula_gofer::{Attr, Client, Device};
use insula_kernel::Result;
use insula_kernel::fs::Attributes;
use insula_kernel::sync::Mutex;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// One export.
pub struct HostFs {
    memory: Arc<Memory>,
    /// For what is kept in memory of the sandbox's.
    room: Option<Arc<Room>>,
    /// Others change it too.
    shared: bool,
    /// Devices in it are the host's; who waits for them waits with this.
    devices: Option<Arc<Watcher>>,
    /// Files that are in use, by device and number: a file with two names is one.
    inodes: Mutex<BTreeMap<(u64, u64), Weak<HostInode>>>,
}

impl HostFs {
    /// The root of an export, by its number. With `devices`, those in it are opened on the host; with `room`, what is written counts as memory.
    ///
    /// # Errors
    /// The gofer can't be asked.
    pub fn attach(
        client: &Client,
        export: u32,
        memory: &Arc<Memory>,
        room: Option<&Arc<Room>>,
        devices: Option<Arc<Watcher>>,
    ) -> Result<Arc<HostInode>> {
        let attached = client.attach(export).map_err(errno)?;
        let inodes = Mutex::new(BTreeMap::new());
        let fs = Arc::new(HostFs { memory: memory.clone(), room: room.cloned(), shared: attached.shared, devices, inodes });
        Ok(fs.inode(attached.root, &attached.attr))
    }
}

/// A device's number as stat(2) has it.
pub(crate) fn device_number(device: Device) -> u64 {
    rustix::fs::makedev(device.major, device.minor)
}

/// What the gofer knows of a file, as the kernel has it.
fn attributes(attr: &Attr) -> Attributes {
    let time = |time: insula_gofer::Time| Timespec { sec: time.seconds, nsec: i64::from(time.nanoseconds) };
    let born = attr.born.seconds != 0 || attr.born.nanoseconds != 0;
    Attributes {
        dev: device_number(attr.device),
        ino: attr.inode,
        mode: attr.mode,
        nlink: attr.links,
        uid: attr.uid,
        gid: attr.gid,
        rdev: device_number(attr.special),
        size: attr.size,
        blksize: attr.block_size,
        blocks: attr.blocks,
        atime: time(attr.accessed),
        mtime: time(attr.modified),
        ctime: time(attr.changed),
        btime: born.then(|| time(attr.born)),
    }
}

/// What the host knows of an open file.
pub(crate) fn attributes_of(stat: &rustix::fs::Stat) -> Attributes {
    let time = |sec: i64, nsec: u64| Timespec { sec, nsec: nsec as i64 };
    Attributes {
        dev: stat.st_dev,
        ino: stat.st_ino,
        mode: stat.st_mode,
        nlink: stat.st_nlink as u32,
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: stat.st_rdev,
        size: stat.st_size as u64,
        blksize: stat.st_blksize as u32,
        blocks: stat.st_blocks as u64,
        atime: time(stat.st_atime, stat.st_atime_nsec),
        mtime: time(stat.st_mtime, stat.st_mtime_nsec),
        ctime: time(stat.st_ctime, stat.st_ctime_nsec),
        btime: None,
    }
}
