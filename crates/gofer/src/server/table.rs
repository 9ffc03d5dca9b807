//! The places that the sentry has handles of.

use crate::protocol::{Attr, Device, Id};
use rustix::fd::OwnedFd;
use rustix::fs::FileType;
use rustix::io::Errno;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An open place: a file, whatever its name becomes. None of what is kept of it ever changes, as the descriptor keeps its number
/// in the file system from being used again.
#[derive(Debug)]
pub(crate) struct Node {
    /// `O_PATH`: it reads and writes nothing, and opening it has woken nobody.
    pub(crate) place: OwnedFd,
    /// Which export it belongs to.
    pub(crate) export: usize,
    pub(crate) kind: FileType,
    device: Device,
    inode: u64,
}

impl Node {
    pub(crate) fn new(place: OwnedFd, export: usize, attr: &Attr) -> Node {
        Node { place, export, kind: FileType::from_raw_mode(attr.mode), device: attr.device, inode: attr.inode }
    }

    /// Whether these are the attributes of this file.
    pub(crate) fn is(&self, attr: &Attr) -> bool {
        (self.device, self.inode) == (attr.device, attr.inode)
    }
}

/// Nodes by handle.
#[derive(Debug)]
pub(crate) struct Table {
    slots: Mutex<Slots>,
    most: usize,
}

#[derive(Debug, Default)]
struct Slots {
    all: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Slot {
    /// How often the slot has been used: a part of the handle, so that an old one is noticed.
    generation: u32,
    node: Option<Arc<Node>>,
}

impl Table {
    /// For at most so many.
    pub(crate) fn new(most: u32) -> Table {
        Table { slots: Mutex::default(), most: most as usize }
    }

    /// What a handle stands for, or `EBADF`.
    pub(crate) fn get(&self, id: Id) -> Result<Arc<Node>, Errno> {
        let (index, generation) = split(id);
        let slots = self.lock();
        let slot = slots.all.get(index as usize).filter(|slot| slot.generation == generation).ok_or(Errno::BADF)?;
        slot.node.clone().ok_or(Errno::BADF)
    }

    /// A handle for a node, or `EMFILE`.
    pub(crate) fn insert(&self, node: Arc<Node>) -> Result<Id, Errno> {
        let slots = &mut *self.lock();
        let index = match slots.free.pop() {
            Some(index) => index,
            None if slots.all.len() < self.most => {
                slots.all.push(Slot::default());
                (slots.all.len() - 1) as u32
            }
            None => return Err(Errno::MFILE),
        };
        let slot = slots.all.get_mut(index as usize).ok_or(Errno::MFILE)?;
        slot.generation = slot.generation.wrapping_add(1);
        slot.node = Some(node);
        Ok(Id(u64::from(slot.generation) << 32 | u64::from(index)))
    }

    /// Forgets handles; what is none is passed over.
    pub(crate) fn remove(&self, ids: impl Iterator<Item = Id>) {
        for id in ids {
            let (index, generation) = split(id);
            let slots = &mut *self.lock();
            let slot = slots.all.get_mut(index as usize).filter(|slot| slot.generation == generation);
            let node = slot.and_then(|slot| slot.node.take());
            if node.is_some() {
                slots.free.push(index);
            }
            // The lock goes first, then the node: closing may take its time.
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn split(id: Id) -> (u32, u32) {
    (id.0 as u32, (id.0 >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, OFlags};

    fn node() -> Arc<Node> {
        let place = rustix::fs::openat(CWD, "/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let none = Device { major: 0, minor: 0 };
        Arc::new(Node { place, export: 0, kind: FileType::Directory, device: none, inode: 1 })
    }

    #[test]
    fn an_old_handle_is_never_another_file() {
        let table = Table::new(1);
        let first = table.insert(node()).unwrap();
        assert!(table.get(first).is_ok());
        assert_eq!(table.insert(node()), Err(Errno::MFILE));
        table.remove([first, first].into_iter());
        let second = table.insert(node()).unwrap();
        assert_ne!(first, second);
        assert_eq!(table.get(first).unwrap_err(), Errno::BADF);
        table.remove(std::iter::once(first));
        assert!(table.get(second).is_ok());
    }

    #[test]
    fn numbers_that_were_never_given_stand_for_nothing() {
        let table = Table::new(4);
        let one = table.insert(node()).unwrap();
        for id in [0, 1, u64::MAX, one.0 + 1, one.0 ^ 1 << 63] {
            assert_eq!(table.get(Id(id)).unwrap_err(), Errno::BADF);
        }
    }
}
