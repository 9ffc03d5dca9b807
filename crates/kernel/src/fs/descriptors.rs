//! A process's descriptors.

use super::Description;
use crate::sync::Mutex;
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

/// The most descriptors one table may have (Linux: `fs.nr_open`).
const MOST: usize = 1 << 20;

/// A table of descriptors; threads share one.
pub struct Descriptors {
    slots: Mutex<Slots>,
    /// By which POSIX locks know it: never that of another table.
    id: u64,
}

impl Default for Descriptors {
    fn default() -> Self {
        Descriptors::with(Slots::default())
    }
}

impl Drop for Descriptors {
    /// Who has the table has ended, and with it its POSIX locks.
    fn drop(&mut self) {
        for slot in self.slots.lock().entries.iter().flatten() {
            slot.description.unlock_own(self.id);
        }
    }
}

#[derive(Clone, Default)]
struct Slots {
    entries: Vec<Option<Slot>>,
    /// No slot before this is free.
    lowest: usize,
}

#[derive(Clone)]
struct Slot {
    description: Arc<Description>,
    close_on_exec: bool,
}

impl Descriptors {
    fn with(slots: Slots) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Descriptors { slots: Mutex::new(slots), id: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    /// Itself, as an owner of locks.
    pub(crate) fn as_owner(&self) -> super::locks::Owner {
        super::locks::Owner::Table(self.id)
    }

    /// An empty table.
    pub fn new() -> Arc<Self> {
        Arc::new(Descriptors::default())
    }

    /// A table with the same open files, for a child.
    pub fn copy(&self) -> Arc<Self> {
        Arc::new(Descriptors::with(self.slots.lock().clone()))
    }

    /// The open file of a descriptor.
    ///
    /// # Errors
    /// `EBADF`: there is none.
    pub fn get(&self, fd: i32) -> Result<Arc<Description>> {
        let slots = self.slots.lock();
        let slot = usize::try_from(fd).ok().and_then(|fd| slots.entries.get(fd)).and_then(Option::as_ref);
        slot.map(|slot| slot.description.clone()).ok_or(Errno::EBADF)
    }

    /// Gives it the lowest number from `from` on.
    ///
    /// # Errors
    /// `EMFILE`: numbers must stay below `limit` (`RLIMIT_NOFILE`).
    pub fn add(&self, description: Arc<Description>, close_on_exec: bool, from: i32, limit: u64) -> Result<i32> {
        let limit = usize::try_from(limit).unwrap_or(MOST).min(MOST);
        let mut slots = self.slots.lock();
        let first = slots.lowest.max(usize::try_from(from).map_err(|_| Errno::EINVAL)?);
        let entries = &slots.entries;
        let fd = (first..entries.len()).find(|fd| entries[*fd].is_none()).unwrap_or_else(|| entries.len().max(first));
        if fd >= limit {
            return Err(Errno::EMFILE);
        }
        if fd >= slots.entries.len() {
            slots.entries.resize(fd + 1, None);
        }
        slots.entries[fd] = Some(Slot { description, close_on_exec });
        if fd == slots.lowest {
            slots.lowest = fd + 1;
        }
        Ok(fd as i32)
    }

    /// Whether a number is free, for who would lose something if it weren't.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn check_room(&self, limit: u64) -> Result<()> {
        let limit = usize::try_from(limit).unwrap_or(MOST).min(MOST);
        let slots = self.slots.lock();
        let free = |fd: &usize| slots.entries.get(*fd).is_none_or(Option::is_none);
        if (slots.lowest..limit).any(|fd| free(&fd)) { Ok(()) } else { Err(Errno::EMFILE) }
    }

    /// Puts it at this very number; what was there is answered, to be closed.
    ///
    /// # Errors
    /// `EBADF`: the number isn't below `limit`.
    pub fn put(
        &self,
        fd: i32,
        description: Arc<Description>,
        close_on_exec: bool,
        limit: u64,
    ) -> Result<Option<Arc<Description>>> {
        let index = usize::try_from(fd).ok().filter(|fd| (*fd as u64) < limit && *fd < MOST).ok_or(Errno::EBADF)?;
        let mut slots = self.slots.lock();
        if index >= slots.entries.len() {
            slots.entries.resize(index + 1, None);
        }
        let before = slots.entries[index].replace(Slot { description, close_on_exec });
        Ok(before.map(|slot| slot.description))
    }

    /// Takes it out.
    ///
    /// # Errors
    /// `EBADF`: there is none.
    pub fn take(&self, fd: i32) -> Result<Arc<Description>> {
        let mut slots = self.slots.lock();
        let index = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        let slot = slots.entries.get_mut(index).and_then(Option::take).ok_or(Errno::EBADF)?;
        slots.lowest = slots.lowest.min(index);
        Ok(slot.description)
    }

    /// A table lost a descriptor of this file: POSIX locks of the table on the file go with it, fcntl_locking(2).
    pub(crate) fn unlock(&self, description: &Description, locks: &super::locks::Locks) {
        description.unlock_for(self.id, locks);
    }

    /// Whether it is closed by execve(2).
    ///
    /// # Errors
    /// `EBADF`.
    pub fn close_on_exec(&self, fd: i32) -> Result<bool> {
        let slots = self.slots.lock();
        let slot = usize::try_from(fd).ok().and_then(|fd| slots.entries.get(fd)).and_then(Option::as_ref);
        slot.map(|slot| slot.close_on_exec).ok_or(Errno::EBADF)
    }

    /// Changes whether it is.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn set_close_on_exec(&self, fd: i32, close: bool) -> Result<()> {
        let mut slots = self.slots.lock();
        let index = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        let slot = slots.entries.get_mut(index).and_then(Option::as_mut).ok_or(Errno::EBADF)?;
        slot.close_on_exec = close;
        Ok(())
    }

    /// Takes out all of `first..=last`, or marks them to be closed by execve(2).
    pub fn take_range(&self, first: u32, last: u32, only_mark: bool) -> Vec<Arc<Description>> {
        let mut slots = self.slots.lock();
        let end = (last as usize).saturating_add(1).min(slots.entries.len());
        let start = (first as usize).min(end);
        let mut taken = Vec::new();
        for entry in &mut slots.entries[start..end] {
            match entry {
                Some(slot) if only_mark => slot.close_on_exec = true,
                _ => taken.extend(entry.take().map(|slot| slot.description)),
            }
        }
        if !only_mark {
            slots.lowest = slots.lowest.min(start);
        }
        taken
    }

    /// Takes out all that execve(2) closes.
    pub fn take_close_on_exec(&self) -> Vec<Arc<Description>> {
        let mut slots = self.slots.lock();
        let mut taken = Vec::new();
        for index in 0..slots.entries.len() {
            if slots.entries[index].as_ref().is_some_and(|slot| slot.close_on_exec) {
                taken.extend(slots.entries[index].take().map(|slot| slot.description));
                slots.lowest = slots.lowest.min(index);
            }
        }
        taken
    }

    /// All numbers in use, with their open files.
    pub fn all(&self) -> Vec<(i32, Arc<Description>)> {
        let slots = self.slots.lock();
        let used = slots.entries.iter().enumerate();
        used.filter_map(|(fd, slot)| slot.as_ref().map(|slot| (fd as i32, slot.description.clone()))).collect()
    }
}
