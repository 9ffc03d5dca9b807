//! Names in directories of a tmpfs.

use super::node::{Body, Node};
use crate::fs::{FileType, Inode, NewFile};
use crate::sync::{Mutex, MutexGuard};
use crate::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use insula_abi::general as c;

/// What a directory's size says of each entry (Linux: `BOGO_DIRENT_SIZE`).
const ENTRY_SIZE: u64 = 20;

/// Names of a directory. Each has a place in the order in which they were made, so that who reads the directory while it changes
/// misses nothing that stays.
#[derive(Default)]
pub(super) struct Entries {
    by_name: BTreeMap<Arc<[u8]>, (u64, Arc<Node>)>,
    by_place: BTreeMap<u64, Arc<[u8]>>,
    last: u64,
    /// The directory was removed: it gets no names any more.
    dead: bool,
}

impl Entries {
    pub(super) fn get(&self, name: &[u8]) -> Option<Arc<Node>> {
        self.by_name.get(name).map(|(_, node)| node.clone())
    }

    pub(super) fn size(&self) -> u64 {
        (self.by_name.len() as u64 + 2) * ENTRY_SIZE
    }

    /// The first name behind a place, with its own place.
    pub(super) fn after(&self, place: u64) -> Option<(u64, Arc<[u8]>, Arc<Node>)> {
        let (place, name) = self.by_place.range(place + 1..).next()?;
        let (_, node) = self.by_name.get(name)?;
        Some((*place, name.clone(), node.clone()))
    }

    fn insert(&mut self, name: &[u8], node: Arc<Node>) {
        self.remove(name);
        self.last += 1;
        let name: Arc<[u8]> = name.into();
        self.by_place.insert(self.last, name.clone());
        self.by_name.insert(name, (self.last, node));
    }

    fn remove(&mut self, name: &[u8]) -> Option<Arc<Node>> {
        let (place, node) = self.by_name.remove(name)?;
        self.by_place.remove(&place);
        Some(node)
    }

    /// Puts another file in a name's place.
    fn replace(&mut self, name: &[u8], node: Arc<Node>) {
        if let Some((_, entry)) = self.by_name.get_mut(name) {
            *entry = node;
        }
    }

    pub(super) fn take_all(&mut self) -> Vec<Arc<Node>> {
        self.by_place.clear();
        core::mem::take(&mut self.by_name).into_values().map(|(_, node)| node).collect()
    }
}

impl Node {
    pub(super) fn entries(&self) -> Result<&Mutex<Entries>> {
        match &self.body {
            Body::Directory(entries) => Ok(entries),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn is_directory(&self) -> bool {
        self.file_type() == FileType::Directory
    }

    pub(super) fn create_node(&self, name: &[u8], new: &NewFile<'_>) -> Result<Arc<Node>> {
        let mut entries = self.entries()?.lock();
        if entries.dead {
            return Err(Errno::ENOENT);
        }
        if entries.by_name.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let node = Node::new(&self.fs, new)?;
        entries.insert(name, node.clone());
        drop(entries);
        self.modified();
        if node.is_directory() {
            self.count_links(1);
        }
        Ok(node)
    }

    pub(super) fn link_node(&self, name: &[u8], to: &Arc<Node>) -> Result<()> {
        let mut entries = self.entries()?.lock();
        if entries.dead {
            return Err(Errno::ENOENT);
        }
        if !Arc::ptr_eq(&to.fs, &self.fs) {
            return Err(Errno::EXDEV);
        }
        if entries.by_name.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        // A file counts by itself; each further name counts, too. One made without a name has its first for free.
        if to.meta.lock().nlink > 0 {
            self.fs.charge()?;
        }
        entries.insert(name, to.clone());
        drop(entries);
        to.count_links(1);
        self.modified();
        Ok(())
    }

    /// A name of `node` is gone.
    fn unlinked(&self) {
        if self.is_directory() {
            self.count_links(-2);
            return;
        }
        self.count_links(-1);
        if self.meta.lock().nlink > 0 {
            self.fs.refund();
        }
    }

    pub(super) fn remove(&self, name: &[u8], directory: bool) -> Result<()> {
        let mut entries = self.entries()?.lock();
        let node = entries.get(name).ok_or(Errno::ENOENT)?;
        match (node.is_directory(), directory) {
            (true, false) => return Err(Errno::EISDIR),
            (false, true) => return Err(Errno::ENOTDIR),
            (true, true) => node.bury()?,
            (false, false) => {}
        }
        entries.remove(name);
        drop(entries);
        self.modified();
        if directory {
            self.count_links(-1);
        }
        node.unlinked();
        Ok(())
    }

    /// It gets no names any more, if it has none.
    fn bury(&self) -> Result<()> {
        let mut entries = self.entries()?.lock();
        if !entries.by_name.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        entries.dead = true;
        Ok(())
    }

    pub(super) fn rename_node(&self, name: &[u8], to: &Arc<Node>, new_name: &[u8], flags: u32) -> Result<()> {
        let (mut from, mut other) = lock_two(self, to)?;
        let node = from.get(name).ok_or(Errno::ENOENT)?;
        let into = other.as_mut().unwrap_or(&mut from);
        if into.dead {
            return Err(Errno::ENOENT);
        }
        let target = into.get(new_name);
        let across = !core::ptr::eq(self, &**to);
        if flags & c::RENAME_EXCHANGE != 0 {
            let target = target.ok_or(Errno::ENOENT)?;
            into.replace(new_name, node.clone());
            from.replace(name, target.clone());
            drop((from, other));
            if across {
                self.count_links(i32::from(target.is_directory()) - i32::from(node.is_directory()));
                to.count_links(i32::from(node.is_directory()) - i32::from(target.is_directory()));
            }
            target.changed();
        } else {
            if let Some(target) = &target {
                match (node.is_directory(), target.is_directory()) {
                    (true, false) => return Err(Errno::ENOTDIR),
                    (false, true) => return Err(Errno::EISDIR),
                    (true, true) => target.bury()?,
                    (false, false) => {}
                }
            }
            let whiteout = if flags & c::RENAME_WHITEOUT != 0 {
                Some(Node::new(&self.fs, &NewFile { mode: c::S_IFCHR, uid: 0, gid: 0, rdev: 0, target: &[] })?)
            } else {
                None
            };
            into.insert(new_name, node.clone());
            from.remove(name);
            if let Some(whiteout) = whiteout {
                from.insert(name, whiteout);
            }
            drop((from, other));
            if node.is_directory() {
                self.count_links(-1);
                to.count_links(1);
            }
            if let Some(target) = target {
                if target.is_directory() {
                    to.count_links(-1);
                }
                target.unlinked();
            }
        }
        self.modified();
        to.modified();
        node.changed();
        Ok(())
    }
}

/// Locks the names of two directories, in an order that all keep to; those of one directory once.
fn lock_two<'a>(one: &'a Node, two: &'a Node) -> Result<(MutexGuard<'a, Entries>, Option<MutexGuard<'a, Entries>>)> {
    let (first, second) = (one.entries()?, two.entries()?);
    if core::ptr::eq(one, two) {
        return Ok((first.lock(), None));
    }
    if core::ptr::from_ref(one) < core::ptr::from_ref(two) {
        let first = first.lock();
        Ok((first, Some(second.lock())))
    } else {
        let second = second.lock();
        Ok((first.lock(), Some(second)))
    }
}
