//! Segments of shared memory, shmget(2).
//!
//! An attached segment is an area whose file is the segment; so a fork, an end, and an unmapped part need nothing said here. How often it is
//! attached is counted when somebody asks.

use super::{Object, Perm};
use crate::Result;
use crate::fs::{AlwaysReady, Attributes, Description, File, FileType};
use crate::mm;
use crate::sync::Mutex;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use insula_abi::general as c;

/// A segment.
pub struct Segment {
    perm: Mutex<Perm>,
    /// Its memory, whole pages.
    pub memory: Arc<mm::Object>,
    /// Bytes that were asked for.
    pub size: u64,
    /// Who made it.
    pub creator: i32,
    /// Who attached or detached it last, and when that was.
    pub last: Mutex<Last>,
}

/// What happened last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Last {
    /// The process that attached or detached it.
    pub pid: i32,
    /// When it was attached, in seconds.
    pub attached: i64,
    /// When it was detached.
    pub detached: i64,
    /// When its owner or mode was set.
    pub changed: i64,
}

impl Segment {
    /// A new one.
    pub fn new(perm: Perm, memory: Arc<mm::Object>, size: u64, creator: i32, now: i64) -> Self {
        let last = Mutex::new(Last { changed: now, ..Last::default() });
        Segment { perm: Mutex::new(perm), memory, size, creator, last }
    }

    /// How often it is attached.
    pub fn attached(&self) -> u64 {
        self.memory.mapped_areas()
    }
}

impl Object for Segment {
    fn perm(&self) -> &Mutex<Perm> {
        &self.perm
    }
}

/// A segment as the file of an area.
pub struct Attached(pub Arc<Segment>);

impl Attached {
    /// An open file for one attachment.
    pub fn open(segment: &Arc<Segment>, writable: bool) -> Arc<Description> {
        Description::new(Arc::new(Attached(segment.clone())), None, if writable { c::O_RDWR } else { c::O_RDONLY })
    }
}

impl AlwaysReady for Attached {}

impl File for Attached {
    fn file_type(&self) -> FileType {
        FileType::Regular
    }

    fn sync(&self, _: bool) -> Result<()> {
        Ok(())
    }

    fn attributes(&self) -> Result<Attributes> {
        let perm = *self.0.perm.lock();
        Ok(Attributes {
            ino: perm.id as u64,
            mode: c::S_IFREG | perm.mode & 0o777,
            nlink: 1,
            uid: perm.owner.0,
            gid: perm.owner.1,
            size: self.0.size,
            blksize: 4096,
            ..Attributes::default()
        })
    }

    fn describe(&self) -> Vec<u8> {
        format!("/SYSV{:08x} (deleted)", self.0.perm.lock().key).into_bytes()
    }
}
