//! Mounts.
//!
//! A mount covers a dentry of another mount; what is mounted there again covers the root of the first. So at most one mount covers a place,
//! and piles need no list. All changes of a namespace are made under one lock; who walks takes none but that of a covered mount's children.

use super::propagation::{self, Propagation, Sharing};
use super::{Dentry, Path};
use crate::sync::Mutex;
use crate::task::users::Kind;
use crate::task::{Credentials, UserNamespace};
use crate::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

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
    pub options: Mutex<Vec<u8>>,
    /// Who mounted the file system: whose capabilities count for it as a whole.
    pub owner: UserNamespace,
    flags: AtomicU32,
    /// Which of them were set in a namespace of mounts above, so that who is below can't clear them; [`LOCKED`]: nor take it away from its place.
    pub(super) locked: AtomicU32,
    /// Files that are open for writing through it.
    pub(super) writers: AtomicU32,
    /// Who asked for it to go once nobody uses it (`MNT_EXPIRE`) did so since it was last used.
    pub(super) expires: AtomicBool,
    pub(super) sharing: Mutex<Sharing>,
    pub(super) place: Mutex<Option<(Weak<Mount>, Arc<Dentry>)>>,
    /// What covers its dentries, by their addresses.
    pub(super) children: Mutex<BTreeMap<usize, Arc<Mount>>>,
}

/// What can't be cleared, once it is locked.
const KEPT: u32 = MountFlags::READ_ONLY.union(MountFlags::NO_SUID).union(MountFlags::NO_DEV).union(MountFlags::NO_EXEC).bits();

/// That is locked.
const LOCKED_TIMES: u32 = 1 << 28;

/// It has no place yet, but an open file that stands for it.
const LOOSE: u32 = 1 << 27;

/// So is the place.
pub(super) const LOCKED: u32 = 1 << 29;

/// The type of file system that namespaces are in, each as one file.
pub const NAMESPACES: &str = "nsfs";

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
            options: Mutex::new(options.to_vec()),
            owner: owner.clone(),
            flags: AtomicU32::new(flags.bits()),
            locked: AtomicU32::new(0),
            writers: AtomicU32::new(0),
            expires: AtomicBool::new(false),
            sharing: Mutex::default(),
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
    pub(super) fn lock(&self, place: bool) {
        let flags = self.flags().bits() & KEPT | LOCKED_TIMES | if place { LOCKED } else { 0 };
        self.locked.fetch_or(flags, Ordering::Relaxed);
    }

    /// If nothing may be changed through it, that stays so: there is no other like it where it was made.
    pub fn keep_read_only(&self) {
        self.locked.fetch_or((self.flags() & MountFlags::READ_ONLY).bits(), Ordering::Relaxed);
    }

    /// Whether it hides nothing of its file system, and lets it be used as `flags` do: who sees it may see all of another.
    pub fn shows_all(&self, flags: MountFlags) -> bool {
        let locked = self.locked.load(Ordering::Relaxed);
        self.root.parent().is_none()
            && locked & MountFlags::READ_ONLY.bits() & !flags.bits() == 0
            && !self.children.lock().values().any(|child| child.is_locked())
    }

    /// Whether it shows a namespace, as a file.
    pub(super) fn is_of_namespace(&self) -> bool {
        self.root.fs().kind == NAMESPACES
    }

    /// The number of the namespace of mounts that it shows, as a file.
    pub(super) fn shown_mounts(&self) -> Option<u64> {
        let file = Some(&self.root).filter(|_| self.is_of_namespace())?;
        crate::task::spaces::mounts_of(crate::fs::proc::files::without_name(&**file.inode())?)
    }

    /// Whether it is in a namespace of mounts below that where it was made.
    pub(super) fn is_below(&self) -> bool {
        self.locked.load(Ordering::Relaxed) & LOCKED_TIMES != 0
    }

    /// It comes, with all that is in it, from a namespace of mounts above: as one it may be taken away, but not in parts.
    pub(super) fn lock_tree(self: &Arc<Self>) {
        self.all().iter().for_each(|mount| mount.lock(!Arc::ptr_eq(mount, self)));
    }

    /// An open file stands for it until it comes to a place.
    pub fn set_loose(&self) {
        self.locked.fetch_or(LOOSE, Ordering::Relaxed);
    }

    /// Whether that is so.
    pub fn is_loose(&self) -> bool {
        self.locked.load(Ordering::Relaxed) & LOOSE != 0
    }

    /// It is used.
    pub fn touch(&self) {
        if self.expires.load(Ordering::Relaxed) {
            self.expires.store(false, Ordering::Relaxed);
        }
    }

    /// It, and all that is mounted in it, each before what is mounted in that.
    pub fn all(self: &Arc<Self>) -> Vec<Arc<Mount>> {
        let mut all = Vec::new();
        let mut todo = alloc::vec![self.clone()];
        while let Some(mount) = todo.pop() {
            todo.extend(mount.children().into_iter().rev());
            all.push(mount);
        }
        all
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
    pub(super) fn attach(self: &Arc<Self>, place: &Path) {
        *self.place.lock() = Some((Arc::downgrade(&place.mount), place.dentry.clone()));
        place.mount.children.lock().insert(Arc::as_ptr(&place.dentry) as usize, self.clone());
        place.dentry.covered(true);
    }

    /// Puts it at a place of a mount that heard of it: what is there already comes to lie on it.
    fn attach_below(self: &Arc<Self>, place: &Path) {
        let above = place.mount.child(&place.dentry);
        above.iter().for_each(|above| above.detach());
        self.attach(place);
        above.iter().for_each(|above| above.attach(&self.path()));
    }

    /// It comes to a place, and to all places that hear of that.
    pub(super) fn spread(self: &Arc<Self>, place: &Path) {
        let copies = propagation::copies(self, place);
        self.locked.fetch_and(!LOOSE, Ordering::Relaxed);
        self.attach(place);
        copies.iter().for_each(|(copy, place)| copy.attach_below(place));
    }

    /// Takes it away from its place for good.
    pub(super) fn remove(self: &Arc<Self>) {
        self.set_propagation(Propagation::Private);
        self.detach();
    }

    /// Takes it away from its place.
    pub(super) fn detach(self: &Arc<Self>) {
        let Some((mount, dentry)) = self.place.lock().take() else { return };
        dentry.covered(false);
        if let Some(mount) = mount.upgrade() {
            mount.children.lock().remove(&(Arc::as_ptr(&dentry) as usize));
        }
    }

    /// A copy that isn't anywhere, showing `root`.
    fn copy(&self, root: Arc<Dentry>) -> Arc<Mount> {
        let copy = Mount::owned(root, self.flags() - MountFlags::INTERNAL, &self.source, &self.options.lock(), &self.owner);
        copy.locked.store(self.locked.load(Ordering::Relaxed) & !LOOSE, Ordering::Relaxed);
        copy
    }

    /// A copy to be shown at another place, with all that is mounted within `root` if it is to be `deep`.
    pub(super) fn copied(&self, root: &Arc<Dentry>, deep: bool) -> Arc<Mount> {
        let copy = if deep {
            self.copy_all(root, Copying::Bind)
        } else {
            let copy = self.copy(root.clone());
            copy.share_as(self, false);
            copy
        };
        copy.locked.fetch_and(!LOCKED, Ordering::Relaxed);
        copy
    }

    /// A copy with all that is mounted within `root` (`MS_REC`).
    pub(super) fn copy_all(&self, root: &Arc<Dentry>, how: Copying) -> Arc<Mount> {
        let slave = how == Copying::Slave;
        let copy = self.copy(root.clone());
        copy.share_as(self, slave);
        // Mounts can be nested as deep as paths are long; so this is a list, not recursion.
        let mut todo: Vec<(Vec<Arc<Mount>>, Arc<Mount>)> = alloc::vec![(self.children(), copy.clone())];
        while let Some((children, parent)) = todo.pop() {
            for child in children {
                let Some(place) = child.place() else { continue };
                if Arc::ptr_eq(&parent, &copy) && !place.dentry.is_within(root) {
                    continue;
                }
                // What shows a namespace of mounts could come into that with a copy of this one.
                if how == Copying::Bind && child.is_unbindable() || how != Copying::Bind && child.shown_mounts().is_some() {
                    continue;
                }
                let twin = child.copy(child.root.clone());
                twin.share_as(&child, slave);
                twin.attach(&Path { mount: parent.clone(), dentry: place.dentry });
                todo.push((child.children(), twin));
            }
        }
        copy
    }
}

/// What mounts are copied for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Copying {
    /// To be shown at another place: without those that can't be.
    Bind,
    /// A namespace.
    All,
    /// One that only hears of this one.
    Slave,
}

impl Drop for Mount {
    /// In a loop: a deep pile must not end in deep recursion.
    fn drop(&mut self) {
        self.sharing.lock().end();
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
