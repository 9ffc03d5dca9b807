//! System V IPC, sysvipc(7), and POSIX message queues, mq_overview(7): objects that outlive who made them.
//!
//! | module | holds |
//! |---|---|
//! | [`shm`] | segments of shared memory |
//! | [`sem`] | sets of semaphores |
//! | [`msg`] | queues of messages |
//! | [`mqueue`] | queues of messages with names of their own |
//!
//! The three kinds of System V have numbers and keys in common ([`Ids`]), and who may do what ([`Perm`]).

pub mod mqueue;
pub mod msg;
pub mod sem;
pub mod shm;

use crate::sync::Mutex;
use crate::task::Task;
use crate::{Errno, Kernel, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use insula_abi::general as c;
use insula_abi::ipc::{IPC_CREAT, IPC_EXCL, IPC_PRIVATE, IpcPerm};
use insula_abi::time::SECOND;

/// How many numbers lie between two uses of one place: a number that is old isn't taken for a new object's.
const STEP: i32 = 32768;

/// All objects of a kernel.
#[derive(Default)]
pub struct Ipc {
    /// Segments of shared memory.
    pub segments: Mutex<Ids<shm::Segment>>,
    /// Sets of semaphores.
    pub semaphores: sem::Semaphores,
    /// Queues of messages.
    pub messages: msg::Messages,
    /// POSIX queues.
    pub queues: mqueue::Queues,
}

/// What can be found by a number or a key.
pub trait Object {
    /// Who may do what with it.
    fn perm(&self) -> &Mutex<Perm>;
}

/// Objects of one kind, by number.
pub struct Ids<T> {
    places: BTreeMap<i32, (i32, Arc<T>)>,
    sequence: i32,
}

impl<T> Default for Ids<T> {
    fn default() -> Self {
        Ids { places: BTreeMap::new(), sequence: 0 }
    }
}

/// An object's owner and mode.
#[derive(Clone, Copy, Debug, Default)]
pub struct Perm {
    /// `IPC_PRIVATE` is none.
    pub key: i32,
    /// Its number.
    pub id: i32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Who made it, and its group.
    pub creator: (u32, u32),
    /// Permission bits, and some marks.
    pub mode: u32,
}

impl Perm {
    fn new(task: &Task, key: i32, flags: u32) -> Self {
        let credentials = task.credentials();
        let ids = (credentials.uid.effective, credentials.gid.effective);
        Perm { key, id: 0, owner: ids, creator: ids, mode: flags & 0o777 }
    }

    /// Whether the rights of `wanted`, permission bits in any of the three classes, are there.
    ///
    /// # Errors
    /// `EACCES`.
    pub fn check(&self, task: &Task, wanted: u32) -> Result<()> {
        let credentials = task.credentials();
        let wanted = (wanted >> 6 | wanted >> 3 | wanted) & 7;
        let uid = credentials.uid.effective;
        let in_group = |gid: u32| credentials.gid.effective == gid || credentials.groups.contains(&gid);
        let granted = match () {
            () if uid == self.creator.0 || uid == self.owner.0 => self.mode >> 6,
            () if in_group(self.creator.1) || in_group(self.owner.1) => self.mode >> 3,
            () => self.mode,
        };
        if wanted & !granted == 0 || credentials.has_in(&task.spaces().ipc.owner, c::CAP_IPC_OWNER) {
            Ok(())
        } else {
            Err(Errno::EACCES)
        }
    }

    /// Whether it may be changed or removed.
    ///
    /// # Errors
    /// `EPERM`.
    pub fn check_owner(&self, task: &Task) -> Result<()> {
        let credentials = task.credentials();
        let uid = credentials.uid.effective;
        let own = uid == self.creator.0 || uid == self.owner.0;
        if own || credentials.has_in(&task.spaces().ipc.owner, c::CAP_SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// Has another owner and mode, `IPC_SET`.
    ///
    /// # Errors
    /// `EINVAL`: an owner that is nobody where `task` is.
    pub fn set(&mut self, task: &Task, new: &IpcPerm) -> Result<()> {
        let space = &task.credentials().space;
        self.owner = (space.user(new.uid)?, space.group(new.gid)?);
        self.mode = self.mode & !0o777 | new.mode & 0o777;
        Ok(())
    }

    /// As a program is told it.
    pub fn to_abi(&self, task: &Task) -> IpcPerm {
        let space = &task.credentials().space;
        IpcPerm {
            key: self.key,
            uid: space.show_user(self.owner.0),
            gid: space.show_group(self.owner.1),
            cuid: space.show_user(self.creator.0),
            cgid: space.show_group(self.creator.1),
            mode: self.mode,
            seq: (self.id / STEP) as u16,
            ..IpcPerm::default()
        }
    }
}

impl<T: Object> Ids<T> {
    /// The object of a number.
    ///
    /// # Errors
    /// `EINVAL`: there is none.
    pub fn get(&self, id: i32) -> Result<Arc<T>> {
        let place = if id < 0 { None } else { self.places.get(&(id % STEP)) };
        place.filter(|(known, _)| *known == id).map(|(_, object)| object.clone()).ok_or(Errno::EINVAL)
    }

    /// The object at a place, `*_STAT`; and its number.
    ///
    /// # Errors
    /// `EINVAL`: there is none.
    pub fn at(&self, place: i32) -> Result<(i32, Arc<T>)> {
        self.places.get(&place).cloned().ok_or(Errno::EINVAL)
    }

    /// All of them.
    pub fn all(&self) -> Vec<Arc<T>> {
        self.places.values().map(|(_, object)| object.clone()).collect()
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.places.len()
    }

    /// The highest place that is taken, or 0.
    pub fn highest(&self) -> i32 {
        self.places.last_key_value().map_or(0, |(place, _)| *place)
    }

    /// What the `get` calls do: the number of the object of a key, which `make` makes if it isn't there and `flags` say so. `fits` looks at one that is.
    ///
    /// # Errors
    /// `ENOENT`, `EEXIST`, `EACCES`; `ENOSPC`: there are `most` already; what the two say.
    pub fn find_or_make(
        &mut self,
        task: &Task,
        key: i32,
        flags: u32,
        most: usize,
        fits: impl FnOnce(&T) -> Result<()>,
        make: impl FnOnce(Perm) -> Result<T>,
    ) -> Result<i32> {
        let of_key = |object: &&Arc<T>| object.perm().lock().key == key;
        let found = if key == IPC_PRIVATE { None } else { self.places.values().map(|(_, object)| object).find(of_key) };
        if let Some(object) = found {
            if flags & (IPC_CREAT | IPC_EXCL) == IPC_CREAT | IPC_EXCL {
                return Err(Errno::EEXIST);
            }
            fits(object)?;
            let perm = *object.perm().lock();
            perm.check(task, flags & 0o777)?;
            return Ok(perm.id);
        }
        if key != IPC_PRIVATE && flags & IPC_CREAT == 0 {
            return Err(Errno::ENOENT);
        }
        let object = make(Perm::new(task, key, flags))?;
        if self.places.len() >= most {
            return Err(Errno::ENOSPC);
        }
        let place = (0..).find(|place| !self.places.contains_key(place)).ok_or(Errno::ENOSPC)?;
        let id = self.sequence * STEP + place;
        object.perm().lock().id = id;
        self.places.insert(place, (id, Arc::new(object)));
        Ok(id)
    }

    /// Takes an object away.
    pub fn remove(&mut self, id: i32) -> Option<Arc<T>> {
        // The next at this place has another number.
        self.sequence = (self.sequence + 1) % (i32::MAX / STEP);
        self.places.remove(&(id % STEP)).map(|(_, object)| object)
    }
}

/// Now, in seconds since 1970.
pub fn seconds(kernel: &Kernel) -> i64 {
    (kernel.host.clock.realtime() / SECOND) as i64
}
