//! What has changed in an address space, for the placement to carry out.

use super::area::{Area, Protection};
use super::frames::Hold;
use crate::host::HostFile;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// One change of an address space, as the placement makes it real. Numbers are multiples of the page's size.
#[derive(Clone, Debug)]
pub enum MapOp {
    /// From now on `start..start + len` shows `source` from `offset` on; whatever was there before is gone.
    Map {
        /// First address.
        start: u64,
        /// Bytes.
        len: u64,
        /// How it may be used.
        protection: Protection,
        /// What it shows.
        source: MapSource,
        /// From where on.
        offset: u64,
    },
    /// From now on what is mapped there, all of it, may be used so.
    Protect {
        /// First address.
        start: u64,
        /// Bytes.
        len: u64,
        /// How it may be used.
        protection: Protection,
    },
    /// From now on nothing is there.
    Unmap {
        /// First address.
        start: u64,
        /// Bytes.
        len: u64,
    },
}

/// What a mapping shows.
#[derive(Clone, Debug)]
pub enum MapSource {
    /// The sandbox's memory.
    Memory,
    /// A file of the host's.
    Host(Arc<dyn HostFile>),
}

impl PartialEq for MapSource {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (MapSource::Memory, MapSource::Memory) => true,
            (MapSource::Host(a), MapSource::Host(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// Changes that wait to be made, in order, and what may only be given back once they are.
#[derive(Default)]
pub struct Log {
    /// The changes.
    pub ops: Vec<MapOp>,
    /// To be dropped after they are made: until then, a program that still runs may touch it.
    pub kept: Vec<Kept>,
}

/// What may be given back once changes are made.
#[allow(dead_code)] // They are there to be dropped.
pub enum Kept {
    /// Pages of one's own.
    Own(Hold),
    /// Pages of an object, which several address spaces lose.
    Lost(Arc<Vec<Hold>>),
    /// An area, and with it perhaps the last use of its object.
    Area(Area),
}

impl Log {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.kept.is_empty()
    }

    /// Moves all of `later` behind what is here.
    pub fn append(&mut self, later: &mut Log) {
        if self.is_empty() {
            core::mem::swap(self, later);
        } else {
            self.ops.append(&mut later.ops);
            self.kept.append(&mut later.kept);
        }
    }

    /// Adds a change; one that only continues the last is joined to it.
    pub fn push(&mut self, op: MapOp) {
        match (self.ops.last_mut(), &op) {
            (
                Some(MapOp::Map { start, len, protection, source, offset }),
                MapOp::Map { start: start2, len: len2, protection: protection2, source: source2, offset: offset2 },
            ) if *start + *len == *start2 && *offset + *len == *offset2 && protection == protection2 && source == source2 => {
                *len += len2
            }
            (
                Some(MapOp::Protect { start, len, protection }),
                MapOp::Protect { start: start2, len: len2, protection: protection2 },
            ) if *start + *len == *start2 && protection == protection2 => *len += len2,
            (Some(MapOp::Unmap { start, len }), MapOp::Unmap { start: start2, len: len2 }) if *start + *len == *start2 => {
                *len += len2
            }
            _ => self.ops.push(op),
        }
    }
}
