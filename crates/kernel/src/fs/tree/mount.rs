//! Mounts, and the namespace that holds them.
//!
//! A mount covers a dentry of another mount; what is mounted there again covers the root of the first. So at most one mount covers a place,
//! and piles need no list. All changes of a namespace are made under one lock; who walks takes none but that of a covered mount's children.

use super::{Dentry, Path};
use crate::sync::Mutex;
use crate::task::users::Kind;
use crate::task::{Credentials, UserNamespace};
use crate::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};

bitflags::bitflags! {
    /// What holds for all that is seen through a mount, `MS_*` of mount(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct MountFlags: u32 {
        /// Nothing may be changed.
        const READ_ONLY = 1;
        /// Set-ID bits and file capabilities don't count.
        const NO_SUID = 2;
        /// Device nodes can't be opened.
        const NO_DEV = 4;
        /// No program can be executed.
        const NO_EXEC = 8;
        /// Reading leaves no trace.
        const NO_ATIME = 1024;
        /// Nor does reading directories.
        const NO_DIR_ATIME = 2048;
        /// Reading leaves a trace once a day, or after a change.
        const REL_ATIME = 1 << 21;
        /// Symbolic links aren't followed.
        const NO_SYMFOLLOW = 256;
        /// Which traces reading leaves.
        const TIMES = 1024 | 2048 | 1 << 21;
        /// It is in no tree, and shown as if it were at the root of each: what holds files without names.
        const INTERNAL = 1 << 30;
    }
}

/// A file system, or a part of one, at a place.
pub struct Mount {
    /// Its number.
    pub id: i32,
    /// What is seen there.
    pub root: Arc<Dentry>,
    /// Where it is said to come from.
    pub source: Vec<u8>,
    /// More options, as `/proc/mounts` shows them.
    pub options: Vec<u8>,
    /// Who mounted the file system: whose capabilities count for it as a whole.
    pub owner: UserNamespace,
    flags: AtomicU32,
    /// Which of them were set in a namespace of mounts above, so that who is below can't clear them; [`LOCKED`]: nor take it away from its place.
    locked: AtomicU32,
    /// Files that are open for writing through it.
    pub(super) writers: AtomicU32,
    place: Mutex<Option<(Weak<Mount>, Arc<Dentry>)>>,
    /// What covers its dentries, by their addresses.
    children: Mutex<BTreeMap<usize, Arc<Mount>>>,
}

/// What can't be cleared, once it is locked.
const KEPT: u32 = MountFlags::READ_ONLY.union(MountFlags::NO_SUID).union(MountFlags::NO_DEV).union(MountFlags::NO_EXEC).bits();

/// That is locked.
const LOCKED_TIMES: u32 = 1 << 28;

/// So is the place.
const LOCKED: u32 = 1 << 29;

static NEXT: AtomicI32 = AtomicI32::new(20);

impl Mount {
    /// Whether a file is open for writing through it.
    pub fn is_written(&self) -> bool {
        self.writers.load(Ordering::SeqCst) > 0
    }

    /// A mount that isn't anywhere yet.
    pub fn new(root: Arc<Dentry>, flags: MountFlags, source: &[u8], options: &[u8]) -> Arc<Self> {
        Self::owned(root, flags, source, options, &UserNamespace::default())
    }

    /// A mount that isn't anywhere yet, of a file system that was mounted in this user namespace.
    pub fn owned(root: Arc<Dentry>, flags: MountFlags, source: &[u8], options: &[u8], owner: &UserNamespace) -> Arc<Self> {
        Arc::new(Mount {
            // Numbers only tell mounts apart; that two kernels in one process share the counter does no harm.
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            root,
            source: source.to_vec(),
            options: options.to_vec(),
            owner: owner.clone(),
            flags: AtomicU32::new(flags.bits()),
            locked: AtomicU32::new(0),
            writers: AtomicU32::new(0),
            place: Mutex::default(),
            children: Mutex::default(),
        })
    }

    /// What holds for it.
    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_truncate(self.flags.load(Ordering::Relaxed))
    }

    /// What holds for it from now on (`MS_REMOUNT`).
    pub fn set_flags(&self, flags: MountFlags) {
        self.flags.store(flags.bits(), Ordering::Relaxed);
    }

    /// Sets that, for somebody of the user namespace that the mounts belong to.
    ///
    /// # Errors
    /// `EPERM`: that would clear what was set above.
    pub fn change_flags(&self, flags: MountFlags) -> Result<()> {
        let (locked, now) = (self.locked.load(Ordering::Relaxed), self.flags().bits());
        let kept = locked & KEPT & !flags.bits() == 0
            && (locked & LOCKED_TIMES == 0 || (now ^ flags.bits()) & MountFlags::TIMES.bits() == 0);
        if !kept {
            return Err(Errno::EPERM);
        }
        self.set_flags(flags);
        Ok(())
    }

    /// Whether who makes files in it is somebody where the file system was mounted.
    pub fn knows(&self, who: &Credentials) -> bool {
        self.owner.is_first() || self.owner.knows(Kind::Users, who.uid.fs) && self.owner.knows(Kind::Groups, who.gid.fs)
    }

    /// Whether device nodes can be opened through it. Who may mount a file system of their own must not make them in it; a devpts has none but its own.
    pub fn shows_devices(&self) -> bool {
        !self.flags().contains(MountFlags::NO_DEV) && (self.owner.is_first() || self.root.fs().kind == "devpts")
    }

    /// Whether it must not be taken away from its place: what it covers would come to light.
    pub fn is_locked(&self) -> bool {
        self.locked.load(Ordering::Relaxed) & LOCKED != 0
    }

    /// It belongs to a namespace of mounts below that where it was made.
    fn lock(&self, place: bool) {
        let flags = self.flags().bits() & KEPT | LOCKED_TIMES | if place { LOCKED } else { 0 };
        self.locked.fetch_or(flags, Ordering::Relaxed);
    }

    /// Whether it hides nothing of its file system, and lets it be used as `flags` do: who sees it may see all of another.
    pub fn shows_all(&self, flags: MountFlags) -> bool {
        let locked = self.locked.load(Ordering::Relaxed);
        self.root.parent().is_none()
            && locked & MountFlags::READ_ONLY.bits() & !flags.bits() == 0
            && !self.children.lock().values().any(|child| child.is_locked())
    }

    /// The place it covers; none at the top, or once it is unmounted.
    pub fn place(&self) -> Option<Path> {
        let place = self.place.lock();
        let (mount, dentry) = place.as_ref()?;
        Some(Path { mount: mount.upgrade()?, dentry: dentry.clone() })
    }

    /// What covers one of its dentries.
    pub fn child(&self, dentry: &Arc<Dentry>) -> Option<Arc<Mount>> {
        self.children.lock().get(&(Arc::as_ptr(dentry) as usize)).cloned()
    }

    /// All that covers its dentries, oldest first.
    pub fn children(&self) -> Vec<Arc<Mount>> {
        let mut all: Vec<_> = self.children.lock().values().cloned().collect();
        all.sort_by_key(|mount| mount.id);
        all
    }

    /// Its root, as a place.
    pub fn path(self: &Arc<Self>) -> Path {
        Path { mount: self.clone(), dentry: self.root.clone() }
    }

    /// Puts it at a place where nothing is mounted.
    fn attach(self: &Arc<Self>, place: &Path) {
        *self.place.lock() = Some((Arc::downgrade(&place.mount), place.dentry.clone()));
        place.mount.children.lock().insert(Arc::as_ptr(&place.dentry) as usize, self.clone());
        place.dentry.covered(true);
    }

    /// Takes it away from its place.
    fn detach(self: &Arc<Self>) {
        let Some((mount, dentry)) = self.place.lock().take() else { return };
        dentry.covered(false);
        if let Some(mount) = mount.upgrade() {
            mount.children.lock().remove(&(Arc::as_ptr(&dentry) as usize));
        }
    }

    /// A copy that isn't anywhere, showing `root`.
    fn copy(&self, root: Arc<Dentry>) -> Arc<Mount> {
        let copy = Mount::owned(root, self.flags(), &self.source, &self.options, &self.owner);
        copy.locked.store(self.locked.load(Ordering::Relaxed), Ordering::Relaxed);
        copy
    }

    /// A copy with all that is mounted within `root` (`MS_REC`).
    fn copy_all(&self, root: &Arc<Dentry>) -> Arc<Mount> {
        let copy = self.copy(root.clone());
        // Mounts can be nested as deep as paths are long; so this is a list, not recursion.
        let mut todo: Vec<(Vec<Arc<Mount>>, Arc<Mount>)> = alloc::vec![(self.children(), copy.clone())];
        while let Some((children, parent)) = todo.pop() {
            for child in children {
                let Some(place) = child.place() else { continue };
                if Arc::ptr_eq(&parent, &copy) && !place.dentry.is_within(root) {
                    continue;
                }
                let twin = child.copy(child.root.clone());
                twin.attach(&Path { mount: parent.clone(), dentry: place.dentry });
                todo.push((child.children(), twin));
            }
        }
        copy
    }
}

impl Drop for Mount {
    /// In a loop: a deep pile must not end in deep recursion.
    fn drop(&mut self) {
        let mut todo: Vec<Arc<Mount>> = core::mem::take(&mut *self.children.lock()).into_values().collect();
        while let Some(mount) = todo.pop() {
            if let Some((_, dentry)) = mount.place.lock().take() {
                dentry.covered(false);
            }
            if let Some(last) = Arc::into_inner(mount) {
                todo.extend(core::mem::take(&mut *last.children.lock()).into_values());
            }
        }
    }
}

/// The most mounts of a namespace (Linux: `fs.mount-max`).
const MOST: usize = 100_000;

/// Mounts as a group of processes sees them.
pub struct Namespace {
    /// What tells it from others.
    pub number: u64,
    /// Whose capabilities count for what is mounted in it.
    pub owner: UserNamespace,
    root: Mutex<Arc<Mount>>,
    /// Taken while mounts come or go.
    change: Mutex<()>,
}

impl Namespace {
    /// A namespace in which `root` is the top.
    pub fn new(root: Arc<Mount>) -> Arc<Self> {
        Self::numbered(root, crate::task::spaces::FIRST_MOUNTS, UserNamespace::default())
    }

    fn numbered(root: Arc<Mount>, number: u64, owner: UserNamespace) -> Arc<Self> {
        Arc::new(Namespace { number, owner, root: Mutex::new(root), change: Mutex::new(()) })
    }

    /// The top, with all that covers it.
    pub fn root(&self) -> Path {
        self.root.lock().path().down()
    }

    /// Whether a mount is one of its.
    pub fn shows(&self, mount: &Arc<Mount>) -> bool {
        let mut top = mount.clone();
        while let Some(place) = top.place() {
            top = place.mount;
        }
        Arc::ptr_eq(&top, &self.root.lock())
    }

    /// All mounts, each before what is mounted in it.
    pub fn all(&self) -> Vec<Arc<Mount>> {
        let mut all = Vec::new();
        let mut todo = alloc::vec![self.root.lock().clone()];
        while let Some(mount) = todo.pop() {
            todo.extend(mount.children().into_iter().rev());
            all.push(mount);
        }
        all
    }

    /// Mounts at a place.
    ///
    /// # Errors
    /// `EINVAL`: the place is of another namespace. `ENOSPC`: there are too many. `ENOENT`: the place is gone. `ENOTDIR`: one is a directory, the other isn't.
    pub fn mount(&self, mount: &Arc<Mount>, place: &Path) -> Result<()> {
        use crate::fs::FileType::Directory;
        if !self.shows(&place.mount) {
            return Err(Errno::EINVAL);
        }
        let _change = self.change.lock();
        if place.dentry.is_gone() {
            return Err(Errno::ENOENT);
        }
        if (mount.root.inode().file_type() == Directory) != (place.inode().file_type() == Directory) {
            return Err(Errno::ENOTDIR);
        }
        if self.all().len() >= MOST {
            return Err(Errno::ENOSPC);
        }
        mount.attach(&place.clone().down());
        Ok(())
    }

    /// Shows a place at another, with what is mounted in it if `deep` (`MS_BIND`, `MS_REC`).
    ///
    /// # Errors
    /// Those of [`mount`](Self::mount). `EINVAL`: `from` is seen through another namespace, or without what would be left out it shows what is hidden.
    pub fn bind(&self, from: &Path, place: &Path, deep: bool) -> Result<()> {
        let hides =
            |child: &Arc<Mount>| child.is_locked() && child.place().is_some_and(|place| place.dentry.is_within(&from.dentry));
        if !self.shows(&from.mount) || !deep && from.mount.children().iter().any(hides) {
            return Err(Errno::EINVAL);
        }
        let copy = if deep { from.mount.copy_all(&from.dentry) } else { from.mount.copy(from.dentry.clone()) };
        copy.locked.fetch_and(!LOCKED, Ordering::Relaxed);
        self.mount(&copy, place)
    }

    /// Moves a mount (`MS_MOVE`).
    ///
    /// # Errors
    /// `EINVAL`: `from` isn't the root of a mount, or is the top. `ELOOP`: the place is within it.
    pub fn shift(&self, from: &Path, place: &Path) -> Result<()> {
        let _change = self.change.lock();
        let ours = self.shows(&from.mount) && self.shows(&place.mount);
        if !ours || from.mount.is_locked() || !Arc::ptr_eq(&from.dentry, &from.mount.root) || from.mount.place().is_none() {
            return Err(Errno::EINVAL);
        }
        let mut above = Some(place.mount.clone());
        while let Some(mount) = above {
            if Arc::ptr_eq(&mount, &from.mount) {
                return Err(Errno::ELOOP);
            }
            above = mount.place().map(|place| place.mount);
        }
        from.mount.detach();
        from.mount.attach(&place.clone().down());
        Ok(())
    }

    /// Takes a mount away; `lazily` even if it is in use (`MNT_DETACH`), with all that is mounted in it.
    ///
    /// # Errors
    /// `EINVAL`: not the root of a mount. `EBUSY`: in use, or the top.
    pub fn unmount(&self, at: Path, lazily: bool) -> Result<()> {
        let _change = self.change.lock();
        let Path { mount, dentry } = at;
        if !Arc::ptr_eq(&dentry, &mount.root) || !self.shows(&mount) || mount.is_locked() {
            return Err(Errno::EINVAL);
        }
        drop(dentry);
        if mount.place.lock().is_none() {
            return Err(if Arc::ptr_eq(&mount, &self.root.lock()) { Errno::EBUSY } else { Errno::EINVAL });
        }
        if !lazily {
            // Ours, and its place's; any more is an open file, or somebody who stands there.
            if !mount.children.lock().is_empty() || Arc::strong_count(&mount) > 2 {
                return Err(Errno::EBUSY);
            }
            mount.detach();
            return Ok(());
        }
        let mut todo = alloc::vec![mount];
        while let Some(mount) = todo.pop() {
            todo.extend(mount.children());
            mount.detach();
        }
        Ok(())
    }

    /// Makes `new` the top, and puts the old top at `put_old` (pivot_root(2)); answers the old top. Both are known to be directories.
    ///
    /// # Errors
    /// `EINVAL`: `new` isn't the root of a mount, or `put_old` isn't in it. `EBUSY`: `new` is the top, or `put_old` is.
    pub fn pivot(&self, root: &Path, new: &Path, put_old: &Path) -> Result<Path> {
        let _change = self.change.lock();
        let old = root.mount.clone();
        if Arc::ptr_eq(&new.mount, &old) || Arc::ptr_eq(&put_old.mount, &old) {
            return Err(Errno::EBUSY);
        }
        let is_root = |path: &Path| Arc::ptr_eq(&path.dentry, &path.mount.root);
        let ours = self.shows(&old) && self.shows(&new.mount) && !new.mount.is_locked();
        if !ours
            || !is_root(new)
            || !is_root(root)
            || new.mount.place().is_none()
            || !put_old.is_below(new)
            || !new.is_below(root)
        {
            return Err(Errno::EINVAL);
        }
        // What the old one hides, the new one has to.
        let locked = old.locked.fetch_and(!LOCKED, Ordering::Relaxed) & LOCKED;
        new.mount.locked.fetch_or(locked, Ordering::Relaxed);
        let above = old.place();
        new.mount.detach();
        old.detach();
        match &above {
            Some(place) => new.mount.attach(place),
            None => *self.root.lock() = new.mount.clone(),
        }
        old.attach(&put_old.clone().down());
        Ok(old.path())
    }

    /// A copy of all mounts (`CLONE_NEWNS`) with this number and owner, and for each place in the old one the same in the new.
    pub fn copy(&self, number: u64, owner: &UserNamespace) -> (Arc<Self>, impl Fn(&Path) -> Path + use<>) {
        let _change = self.change.lock();
        let top = self.root.lock().clone();
        let copy = top.copy_all(&top.root);
        let mut twins: Vec<(Arc<Mount>, Arc<Mount>)> = Vec::new();
        let mut todo = alloc::vec![(top, copy.clone())];
        while let Some((old, new)) = todo.pop() {
            for child in old.children() {
                if let Some(twin) = child.place().and_then(|place| new.child(&place.dentry)) {
                    todo.push((child, twin));
                }
            }
            if *owner != self.owner {
                new.lock(!Arc::ptr_eq(&new, &copy));
            }
            twins.push((old, new));
        }
        let twin = move |path: &Path| {
            let found = twins.iter().find(|(old, _)| Arc::ptr_eq(old, &path.mount));
            Path { mount: found.map_or(&path.mount, |(_, new)| new).clone(), dentry: path.dentry.clone() }
        };
        (Namespace::numbered(copy, number, owner.clone()), twin)
    }
}
