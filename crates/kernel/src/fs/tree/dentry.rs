//! Names that are known.
//!
//! A directory's dentry knows the children that were looked up, weakly; the cache holds those used last. A child holds its parent, so the way up
//! is always there. That a name is *not* there is known, too, by a dentry without a file, if nobody but this kernel changes the directory.
//!
//! The lock on a directory's names is the lock of the directory: names are looked up, made and removed under it, so that what is
//! known and what the file system has don't part.

use super::contents::Uses;
use crate::fs::Inode;
use crate::fs::inode::{Attributes, Changes, FileType, Opening};
use crate::fs::notify::Watches;
use crate::sync::{Mutex, MutexGuard};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use insula_abi::file::Statfs;
use insula_abi::general as c;

/// A file system, apart from where it is mounted: what all its dentries share.
pub struct FileSystem {
    /// Its type, as `/proc/mounts` names it.
    pub kind: &'static str,
    /// Taken while a name moves from one directory to another: directories don't change places meanwhile.
    rename: Mutex<()>,
    /// Names change behind the dentries' back: it is the upper layer of an overlay.
    covered: AtomicBool,
    cache: Arc<Cache>,
    watches: Arc<Watches>,
}

/// Dentries that were used lately.
pub struct Cache {
    ring: Mutex<Ring>,
    most: usize,
    /// What stands for a file that isn't there.
    absent: Arc<dyn Inode>,
}

/// Dentries by their turns, oldest first; who was used since it came here gets a second turn.
#[derive(Default)]
struct Ring {
    turns: BTreeMap<u64, Arc<Dentry>>,
    last: u64,
}

impl Ring {
    fn push(&mut self, dentry: Arc<Dentry>) {
        self.last += 1;
        dentry.turn.store(self.last, Ordering::Relaxed);
        self.turns.insert(self.last, dentry);
    }

    fn take(&mut self, turn: u64) -> Option<Arc<Dentry>> {
        let taken = self.turns.remove(&turn)?;
        taken.turn.store(0, Ordering::Relaxed);
        Some(taken)
    }

    fn take_oldest(&mut self) -> Option<Arc<Dentry>> {
        let (turn, _) = self.turns.first_key_value()?;
        let turn = *turn;
        self.take(turn)
    }
}

/// A name of a file, or the knowledge that there is none.
pub struct Dentry {
    fs: Arc<FileSystem>,
    inode: Arc<dyn Inode>,
    place: Mutex<Place>,
    names: Mutex<Names>,
    absent: bool,
    gone: AtomicBool,
    linkable: AtomicBool,
    used: AtomicBool,
    /// Its turn in the cache, changed under the cache's lock; zero if it isn't there.
    turn: AtomicU64,
    /// How many open files it is.
    opens: AtomicU32,
    /// How many mounts cover it, in all namespaces.
    mounts: AtomicU32,
    /// Who writes or executes the file.
    pub(super) uses: Uses,
}

struct Place {
    parent: Option<Arc<Dentry>>,
    name: Box<[u8]>,
}

/// A child, if there is one; and a dentry that is new, to be kept once the lock on the names is given back.
type Found = (Option<Arc<Dentry>>, Option<Arc<Dentry>>);

/// Children that are known.
#[derive(Default)]
struct Names(BTreeMap<Box<[u8]>, Weak<Dentry>>);

impl FileSystem {
    /// The root of a file system whose topmost directory (or only file) is `root`.
    /// It may have a name, though it is in no directory.
    pub fn dentry(
        cache: &Arc<Cache>,
        watches: &Arc<Watches>,
        kind: &'static str,
        root: Arc<dyn Inode>,
        name: &[u8],
    ) -> Arc<Dentry> {
        let (cache, watches) = (cache.clone(), watches.clone());
        let fs = Arc::new(FileSystem { kind, rename: Mutex::new(()), covered: AtomicBool::new(false), cache, watches });
        Dentry::new(&fs, root, Place { parent: None, name: name.into() }, false)
    }
}

impl FileSystem {
    /// Does what needs room for one file more. A host that has none may have some once files are given back that nobody uses.
    ///
    /// # Errors
    /// Those of `attempt`; `ENFILE`: the host has no room.
    fn with_room<T>(&self, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let full = |errno: &Errno| matches!(*errno, Errno::EMFILE | Errno::ENFILE);
        let first = attempt();
        if !first.as_ref().is_err_and(full) {
            return first;
        }
        self.cache.clear();
        // It isn't the program that has too many open.
        attempt().map_err(|errno| if full(&errno) { Errno::ENFILE } else { errno })
    }
}

impl Cache {
    /// Keeps at most `most` dentries that nobody uses.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Cache { ring: Mutex::default(), most, absent: Arc::new(Absent) })
    }

    /// Keeps this one for a while, unless its name is gone.
    fn keep(&self, dentry: Arc<Dentry>) {
        let mut ring = self.ring.lock();
        if dentry.is_gone() || dentry.turn.load(Ordering::Relaxed) != 0 {
            drop(ring);
            return;
        }
        ring.push(dentry);
        let mut evicted = Vec::new();
        // Each turn ends: a second meeting finds the mark gone.
        while ring.turns.len() > self.most {
            match ring.take_oldest() {
                Some(old) if old.used.swap(false, Ordering::Relaxed) => ring.push(old),
                old => evicted.extend(old),
            }
        }
        // A dentry that ends takes locks of its own.
        drop(ring);
    }

    /// Forgets one whose name is gone: nobody finds it any more, and what its file holds is to be free as soon as nobody uses that.
    fn forget(&self, dentry: &Dentry) {
        let forgotten = {
            let mut ring = self.ring.lock();
            let turn = dentry.turn.load(Ordering::Relaxed);
            ring.take(turn)
        };
        drop(forgotten);
    }

    /// Forgets all that nobody uses (`/proc/sys/vm/drop_caches`, and umount of a file system).
    pub fn clear(&self) {
        let all = {
            let mut ring = self.ring.lock();
            ring.turns.values().for_each(|dentry| dentry.turn.store(0, Ordering::Relaxed));
            core::mem::take(&mut ring.turns)
        };
        drop(all);
    }
}

impl Dentry {
    fn new(fs: &Arc<FileSystem>, inode: Arc<dyn Inode>, place: Place, absent: bool) -> Arc<Self> {
        Arc::new(Dentry {
            fs: fs.clone(),
            inode,
            place: Mutex::new(place),
            names: Mutex::default(),
            absent,
            gone: AtomicBool::new(false),
            linkable: AtomicBool::new(false),
            used: AtomicBool::new(false),
            turn: AtomicU64::new(0),
            opens: AtomicU32::new(0),
            mounts: AtomicU32::new(0),
            uses: Uses::default(),
        })
    }

    /// A name of a file that never had one in any directory (`O_TMPFILE`, a memfd): as if it were deleted.
    /// It `may_get_a_name` by link(2), or never.
    pub fn unnamed(near: &Arc<Dentry>, inode: Arc<dyn Inode>, name: Vec<u8>, may_get_a_name: bool) -> Arc<Self> {
        let place = Place { parent: Some(near.clone()), name: name.into() };
        let dentry = Dentry::new(&near.fs, inode, place, false);
        dentry.gone.store(true, Ordering::Release);
        dentry.linkable.store(may_get_a_name, Ordering::Release);
        dentry
    }

    /// Whether it was made without a name, and may get one.
    pub fn may_get_a_name(&self) -> bool {
        self.linkable.load(Ordering::Acquire)
    }

    /// The file.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    /// The file system.
    pub fn fs(&self) -> &Arc<FileSystem> {
        &self.fs
    }

    /// Whether its name was removed.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Whether anything may be mounted on it.
    pub fn is_mount_point(&self) -> bool {
        self.mounts.load(Ordering::Acquire) > 0
    }

    /// One open file more.
    pub(crate) fn opened(&self) {
        self.opens.fetch_add(1, Ordering::AcqRel);
    }

    /// One open file less; answers whether it was the last.
    pub(crate) fn closed(&self) -> bool {
        self.opens.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        self.opens.load(Ordering::Acquire) > 0
    }

    /// A mount more covers it, or one less.
    pub(super) fn covered(&self, more: bool) {
        if more {
            self.mounts.fetch_add(1, Ordering::AcqRel);
        } else {
            self.mounts.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// The directory it is in; none at the root of a file system.
    pub fn parent(&self) -> Option<Arc<Dentry>> {
        self.place.lock().parent.clone()
    }

    /// The directory it is in, and its name there.
    pub fn place(&self) -> Option<(Arc<Dentry>, Vec<u8>)> {
        let place = self.place.lock();
        place.parent.clone().map(|parent| (parent, place.name.to_vec()))
    }

    /// Its name, which at the root of a file system is none, but of a namespace.
    pub fn name(&self) -> Vec<u8> {
        self.place.lock().name.to_vec()
    }

    /// Whether `other` is it, or a directory above it.
    pub fn is_within(self: &Arc<Self>, other: &Arc<Dentry>) -> bool {
        let mut here = Some(self.clone());
        while let Some(dentry) = here {
            if Arc::ptr_eq(&dentry, other) {
                return true;
            }
            here = dentry.parent();
        }
        false
    }

    /// The child of this name.
    ///
    /// # Errors
    /// `ENOENT`: there is none. What the file system says.
    pub fn child(self: &Arc<Self>, name: &[u8]) -> Result<Arc<Dentry>> {
        let (found, kept) = self.fs.with_room(|| self.find(&mut self.names.lock(), name))?;
        self.fs.keep(kept);
        found.ok_or(Errno::ENOENT)
    }

    /// The child of this name, or none; and a dentry that is new, to be kept once the lock is given back.
    fn find(self: &Arc<Self>, names: &mut Names, name: &[u8]) -> Result<Found> {
        let known = names.0.get(name).and_then(Weak::upgrade);
        let stable = self.has_stable_names();
        if let Some(known) = &known
            && (stable || known.is_mount_point())
        {
            known.used.store(true, Ordering::Relaxed);
            return Ok(((!known.absent).then(|| known.clone()), None));
        }
        match self.inode.lookup(name) {
            Ok(inode) => {
                if let Some(known) = known
                    && !known.absent
                    && same(&known.inode, &inode)
                {
                    return Ok((Some(known), None));
                }
                let child = self.add(names, name, inode, false);
                Ok((Some(child.clone()), stable.then_some(child)))
            }
            Err(Errno::ENOENT) if stable => {
                let absent = self.fs.cache.absent.clone();
                Ok((None, Some(self.add(names, name, absent, true))))
            }
            Err(Errno::ENOENT) => {
                if let Some(known) = known {
                    known.gone.store(true, Ordering::Release);
                    names.0.remove(name);
                }
                Ok((None, None))
            }
            Err(errno) => Err(errno),
        }
    }

    fn add(self: &Arc<Self>, names: &mut Names, name: &[u8], inode: Arc<dyn Inode>, absent: bool) -> Arc<Dentry> {
        let child = Dentry::new(&self.fs, inode, Place { parent: Some(self.clone()), name: name.into() }, absent);
        names.0.insert(name.into(), Arc::downgrade(&child));
        child
    }

    /// Whether nobody but this kernel's dentries changes names in it.
    fn has_stable_names(&self) -> bool {
        self.inode.names_are_stable() && !self.fs.covered.load(Ordering::Relaxed)
    }

    /// From now on names of its file system change without its dentries.
    pub(in crate::fs) fn set_covered(&self) {
        self.fs.covered.store(true, Ordering::Relaxed);
    }

    /// Opens its file in one way or another, as [`Inode::open`](crate::fs::Inode::open) does.
    ///
    /// # Errors
    /// Those of `open`; `ENFILE`: the host has no room for one more.
    pub fn open_with<T>(&self, open: impl FnMut() -> Result<T>) -> Result<T> {
        self.fs.with_room(open)
    }

    /// Makes the child of this name by `make`, which may assume that there is none.
    ///
    /// # Errors
    /// `EEXIST`. `ENOENT`: the directory itself is gone. What `make` says.
    pub fn make(
        self: &Arc<Self>,
        name: &[u8],
        mut make: impl FnMut(&Arc<dyn Inode>) -> Result<Arc<dyn Inode>>,
    ) -> Result<Arc<Dentry>> {
        let made = self.fs.with_room(|| {
            let mut names = self.names.lock();
            let (found, kept) = self.find(&mut names, name)?;
            let made = match found {
                Some(_) => Err(Errno::EEXIST),
                None if self.is_gone() => Err(Errno::ENOENT),
                None => make(&self.inode).map(|inode| self.add(&mut names, name, inode, false)),
            };
            drop(names);
            self.fs.keep(kept);
            made
        });
        if let Ok(child) = &made
            && self.has_stable_names()
        {
            self.fs.keep(Some(child.clone()));
        }
        made
    }

    /// Removes the child of this name by `remove`, which may say that it must not be.
    ///
    /// # Errors
    /// `ENOENT`. `EBUSY`: something is mounted there. What `remove` says.
    pub fn remove(
        self: &Arc<Self>,
        name: &[u8],
        remove: impl FnOnce(&Arc<dyn Inode>, &Arc<Dentry>) -> Result<()>,
    ) -> Result<Arc<Dentry>> {
        let mut names = self.names.lock();
        let (found, kept) = self.find(&mut names, name)?;
        let removed = found.ok_or(Errno::ENOENT).and_then(|child| {
            if child.is_mount_point() {
                return Err(Errno::EBUSY);
            }
            remove(&self.inode, &child)?;
            child.gone.store(true, Ordering::Release);
            child.inode.names_changed();
            names.0.remove(name);
            Ok(child)
        });
        drop(names);
        self.fs.keep(kept);
        if let Ok(child) = &removed {
            self.fs.cache.forget(child);
        }
        removed
    }

    /// Moves a name, `RENAME_*`, once `check` has seen what is moved, and what is replaced. Answers both.
    ///
    /// # Errors
    /// As rename(2), as far as names go; what `check` and the file system say.
    pub fn rename(
        self: &Arc<Self>,
        name: &[u8],
        to: &Arc<Dentry>,
        new_name: &[u8],
        flags: u32,
        check: impl FnOnce(&Arc<Dentry>, Option<&Arc<Dentry>>) -> Result<()>,
    ) -> Result<(Arc<Dentry>, Option<Arc<Dentry>>)> {
        let _still = (!Arc::ptr_eq(self, to)).then(|| self.fs.rename.lock());
        let (mut first, mut second) = lock_two(self, to);
        let (found, kept) = self.find(&mut first, name)?;
        let moved = found.ok_or(Errno::ENOENT)?;
        let (target, kept_target) = to.find(second.as_mut().unwrap_or(&mut first), new_name)?;
        let outcome = (|| {
            if to.is_gone() {
                return Err(Errno::ENOENT);
            }
            if !Arc::ptr_eq(self, to) {
                // A directory must not become its own descendant, nor replace its own ancestor.
                if to.is_within(&moved) {
                    return Err(Errno::EINVAL);
                }
                if let Some(target) = &target
                    && self.is_within(target)
                {
                    return Err(if flags & c::RENAME_EXCHANGE != 0 { Errno::EINVAL } else { Errno::ENOTEMPTY });
                }
            }
            if flags & c::RENAME_EXCHANGE != 0 && target.is_none() {
                return Err(Errno::ENOENT);
            }
            if flags & c::RENAME_NOREPLACE != 0 && target.is_some() {
                return Err(Errno::EEXIST);
            }
            check(&moved, target.as_ref())?;
            if target.as_ref().is_some_and(|target| target.is_mount_point()) || moved.is_mount_point() {
                return Err(Errno::EBUSY);
            }
            // Two names of one file: nothing happens (POSIX).
            if target.as_ref().is_some_and(|target| same(&target.inode, &moved.inode)) {
                return Ok(false);
            }
            self.inode.rename(name, &to.inode, new_name, flags).map(|()| true)
        })();
        if matches!(outcome, Ok(true)) {
            first.0.remove(name);
            if let Some(target) = &target {
                target.inode.names_changed();
            }
            moved.inode.names_changed();
            let exchanged = target.as_ref().filter(|_| flags & c::RENAME_EXCHANGE != 0);
            if let Some(target) = exchanged {
                target.put(self, name);
                first.0.insert(name.into(), Arc::downgrade(target));
            } else if let Some(target) = &target {
                target.gone.store(true, Ordering::Release);
            }
            moved.put(to, new_name);
            second.as_mut().unwrap_or(&mut first).0.insert(new_name.into(), Arc::downgrade(&moved));
        }
        drop((first, second));
        self.fs.keep(kept);
        self.fs.keep(kept_target);
        if let Some(target) = target.as_ref().filter(|target| target.is_gone()) {
            self.fs.cache.forget(target);
        }
        outcome.map(|_| (moved, target))
    }

    /// It has another name from now on.
    fn put(&self, parent: &Arc<Dentry>, name: &[u8]) {
        let before = core::mem::replace(&mut *self.place.lock(), Place { parent: Some(parent.clone()), name: name.into() });
        drop(before);
    }
}

impl FileSystem {
    /// Who watches its files.
    pub fn watches(&self) -> &Watches {
        &self.watches
    }

    fn keep(&self, dentry: Option<Arc<Dentry>>) {
        if let Some(dentry) = dentry {
            self.cache.keep(dentry);
        }
    }
}

/// Locks the names of two directories, in an order that all keep to; those of one directory once.
fn lock_two<'a>(one: &'a Arc<Dentry>, other: &'a Arc<Dentry>) -> (MutexGuard<'a, Names>, Option<MutexGuard<'a, Names>>) {
    if Arc::ptr_eq(one, other) {
        return (one.names.lock(), None);
    }
    if Arc::as_ptr(one) < Arc::as_ptr(other) {
        let first = one.names.lock();
        (first, Some(other.names.lock()))
    } else {
        let second = other.names.lock();
        (one.names.lock(), Some(second))
    }
}

/// Whether both are the same file.
pub fn same(one: &Arc<dyn Inode>, other: &Arc<dyn Inode>) -> bool {
    if core::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(other)) {
        return true;
    }
    match (one.identity(), other.identity()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

impl Dentry {
    /// Takes its name out of its parent, and the parent out of it.
    fn leave(&mut self) -> Option<Arc<Dentry>> {
        let this: *const Dentry = self;
        let place = core::mem::replace(&mut *self.place.lock(), Place { parent: None, name: Box::default() });
        let parent = place.parent?;
        // If somebody is at the names now, the dead entry stays until the name is looked up again, or the parent goes.
        if let Some(mut names) = parent.names.try_lock()
            && names.0.get(&place.name).is_some_and(|child| child.as_ptr() == this)
        {
            names.0.remove(&place.name);
        }
        Some(parent)
    }
}

impl Drop for Dentry {
    /// Goes up in a loop: a deep tree must not end in deep recursion.
    fn drop(&mut self) {
        let mut parent = self.leave();
        while let Some(dentry) = parent {
            parent = Arc::into_inner(dentry).and_then(|mut last| last.leave());
        }
    }
}

/// What stands for a file that isn't there.
struct Absent;

impl Inode for Absent {
    fn attributes(&self) -> Result<Attributes> {
        Err(Errno::ENOENT)
    }

    fn file_type(&self) -> FileType {
        FileType::Anonymous
    }

    fn set_attributes(&self, _: &Changes) -> Result<()> {
        Err(Errno::ENOENT)
    }

    fn open(self: Arc<Self>, _: &Opening<'_>) -> Result<Arc<dyn crate::fs::File>> {
        Err(Errno::ENOENT)
    }

    fn statfs(&self) -> Result<Statfs> {
        Err(Errno::ENOENT)
    }
}
