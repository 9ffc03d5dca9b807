//! What a group of processes sees mounted, mount_namespaces(7).

use super::Path;
use super::mount::{Copying, LOCKED, Mount};
use super::propagation::Propagation;
use crate::sync::Mutex;
use crate::task::UserNamespace;
use crate::task::spaces::Counted;
use crate::{Errno, Result};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

/// How a mount is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmounting {
    /// If it isn't in use.
    Now,
    /// The same, if it wasn't used since somebody asked last (`MNT_EXPIRE`).
    Unused,
    /// Even if it is in use (`MNT_DETACH`), with all that is mounted in it.
    Lazily,
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
    /// Taken while mounts come or go: by all namespaces that are copies of each other.
    change: Arc<Mutex<()>>,
    /// Those that files have let go, likewise.
    left: Arc<Mutex<Left>>,
    _counted: Option<Counted>,
}

/// Namespaces that nothing but this may hold any more.
#[derive(Default)]
struct Left {
    all: Vec<Arc<Namespace>>,
    /// Somebody drops them.
    busy: bool,
}

impl Namespace {
    /// A namespace in which `root` is the top.
    pub fn new(root: Arc<Mount>) -> Arc<Self> {
        Self::numbered(root, crate::task::spaces::FIRST_MOUNTS, UserNamespace::default(), Default::default(), None)
    }

    fn numbered(
        root: Arc<Mount>,
        number: u64,
        owner: UserNamespace,
        (change, left): (Arc<Mutex<()>>, Arc<Mutex<Left>>),
        counted: Option<Counted>,
    ) -> Arc<Self> {
        Arc::new(Namespace { number, owner, root: Mutex::new(root), change, left, _counted: counted })
    }

    /// A file held it, maybe as the last. What was mounted in it may be the file of another, and so on: so they go one after the other, for a
    /// stack isn't long.
    pub fn let_go(self: Arc<Self>) {
        let left = self.left.clone();
        {
            let mut left = left.lock();
            left.all.push(self);
            if core::mem::replace(&mut left.busy, true) {
                return;
            }
        }
        loop {
            let next = {
                let mut left = left.lock();
                let next = left.all.pop();
                left.busy = next.is_some();
                next
            };
            match next {
                Some(namespace) => drop(namespace),
                None => return,
            }
        }
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
        let top = self.root.lock().clone();
        top.all()
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
        // Two may want to put one that is in no place to some.
        if mount.place().is_some() {
            return Err(Errno::EINVAL);
        }
        self.spread(mount, place)
    }

    /// A mount comes to the top of what is at a place.
    fn spread(&self, mount: &Arc<Mount>, place: &Path) -> Result<()> {
        let to = place.clone().down();
        self.check_shown(mount, &to)?;
        self.check_room(mount, &to)?;
        mount.spread(&to);
        Ok(())
    }

    /// Whether no namespace holds itself then, however indirectly: each may show only those that are newer, and not where others would, too.
    fn check_shown(&self, mount: &Arc<Mount>, to: &Path) -> Result<()> {
        let newest_first = |number: u64| number > self.number && to.mount.hearers().is_empty();
        if mount.all().iter().filter_map(|one| one.shown_mounts()).all(newest_first) { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// Whether there may be so many more: all that is in a mount, once for each that hears of the place it comes to.
    fn check_room(&self, mount: &Arc<Mount>, to: &Path) -> Result<()> {
        let more = mount.all().len().saturating_mul(to.mount.hearers().len() + 1);
        if self.all().len().saturating_add(more) > MOST { Err(Errno::ENOSPC) } else { Ok(()) }
    }

    /// Shows a place at another, with what is mounted in it if `deep` (`MS_BIND`, `MS_REC`).
    ///
    /// # Errors
    /// Those of [`mount`](Self::mount). `EINVAL`: `from` is seen through another namespace, or without what would be left out it shows what is hidden.
    pub fn bind(&self, from: &Path, place: &Path, deep: bool) -> Result<()> {
        let copy = self.copied(from, deep)?;
        self.mount(&copy, place)
    }

    /// What [`bind`](Self::bind) shows, in no place yet.
    ///
    /// # Errors
    /// `EINVAL`, as there.
    pub fn copied(&self, from: &Path, deep: bool) -> Result<Arc<Mount>> {
        let hides =
            |child: &Arc<Mount>| child.is_locked() && child.place().is_some_and(|place| place.dentry.is_within(&from.dentry));
        if !(self.shows(&from.mount) || from.mount.is_of_namespace())
            || from.mount.is_unbindable()
            || !deep && from.mount.children().iter().any(hides)
        {
            return Err(Errno::EINVAL);
        }
        let _change = self.change.lock();
        Ok(from.mount.copied(&from.dentry, deep))
    }

    /// Moves a mount (`MS_MOVE`).
    ///
    /// # Errors
    /// `EINVAL`: `from` isn't the root of a mount, or is the top, or lies in one that others hear of. `ELOOP`: the place is within it.
    pub fn shift(&self, from: &Path, place: &Path) -> Result<()> {
        let _change = self.change.lock();
        let ours = self.shows(&from.mount) && self.shows(&place.mount);
        if !ours || from.mount.is_locked() || !Arc::ptr_eq(&from.dentry, &from.mount.root) || from.mount.place().is_none() {
            return Err(Errno::EINVAL);
        }
        let directory = |place: &Path| place.inode().file_type() == crate::fs::FileType::Directory;
        if directory(from) != directory(place) {
            return Err(Errno::EINVAL);
        }
        // What others hear of doesn't leave for where they don't; and what can't be copied can't come to where they would hear of it.
        let left = from.mount.place().is_some_and(|place| place.mount.is_shared());
        if left || place.mount.is_shared() && from.mount.all().iter().any(|mount| mount.is_unbindable()) {
            return Err(Errno::EINVAL);
        }
        let mut above = Some(place.mount.clone());
        while let Some(mount) = above {
            if Arc::ptr_eq(&mount, &from.mount) {
                return Err(Errno::ELOOP);
            }
            above = mount.place().map(|place| place.mount);
        }
        let to = place.clone().down();
        self.check_room(&from.mount, &to)?;
        from.mount.detach();
        from.mount.spread(&to);
        Ok(())
    }

    /// Takes a mount away, and its like from all that hear of where it lies.
    ///
    /// # Errors
    /// `EINVAL`: not the root of a mount. `EBUSY`: in use, or the top. `EAGAIN`: it was used lately.
    pub fn unmount(&self, at: Path, how: Unmounting) -> Result<()> {
        let _change = self.change.lock();
        let Path { mount, dentry } = at;
        if !Arc::ptr_eq(&dentry, &mount.root) || !self.shows(&mount) || mount.is_locked() {
            return Err(Errno::EINVAL);
        }
        drop(dentry);
        if mount.place.lock().is_none() {
            return Err(if Arc::ptr_eq(&mount, &self.root.lock()) { Errno::EBUSY } else { Errno::EINVAL });
        }
        if how != Unmounting::Lazily {
            // Ours, and its place's; any more is an open file, or somebody who stands there.
            let busy = |mount: &Arc<Mount>| Arc::strong_count(mount) > 2;
            if !mount.children.lock().is_empty() || busy(&mount) {
                return Err(Errno::EBUSY);
            }
            if how == Unmounting::Unused && !mount.expires.swap(true, Ordering::Relaxed) {
                return Err(Errno::EAGAIN);
            }
            if mount.twins().iter().any(|twin| twin.children.lock().is_empty() && busy(twin)) {
                return Err(Errno::EBUSY);
            }
        }
        // What must not be taken away alone goes along with what it lies in, and goes on hiding something from who still stands there.
        let mut along: BTreeSet<*const Mount> = BTreeSet::new();
        for one in mount.all().iter().rev() {
            let goes = |twin: &Arc<Mount>| twin.children.lock().values().all(|child| along.contains(&Arc::as_ptr(child)));
            for twin in one.twins().iter().filter(|twin| goes(twin)).cloned().collect::<Vec<_>>() {
                if twin.is_locked() && !Arc::ptr_eq(one, &mount) {
                    along.insert(Arc::as_ptr(&twin));
                } else {
                    twin.remove();
                }
            }
            if one.is_locked() {
                one.set_propagation(Propagation::Private);
            } else {
                one.remove();
            }
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
        let above_shared = |mount: &Arc<Mount>| mount.place().is_some_and(|place| place.mount.is_shared());
        if above_shared(&new.mount) || above_shared(&old) || put_old.mount.is_shared() {
            return Err(Errno::EINVAL);
        }
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

    /// What a mount, and if `deep` each that is in it, does from now on with what happens in it.
    pub fn set_propagation(&self, mount: &Arc<Mount>, to: Propagation, deep: bool) {
        let _change = self.change.lock();
        let all = if deep { mount.all() } else { alloc::vec![mount.clone()] };
        all.iter().for_each(|mount| mount.set_propagation(to));
    }

    /// A copy of all mounts (`CLONE_NEWNS`) with this number and owner, and for each place in the old one the same in the new.
    pub fn copy(&self, number: u64, owner: &UserNamespace, counted: Counted) -> (Arc<Self>, impl Fn(&Path) -> Path + use<>) {
        let _change = self.change.lock();
        let top = self.root.lock().clone();
        // Who has fewer rights hears of others, but isn't heard.
        let how = if *owner == self.owner { Copying::All } else { Copying::Slave };
        let copy = top.copy_all(&top.root, how);
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
        let shared = (self.change.clone(), self.left.clone());
        (Namespace::numbered(copy, number, owner.clone(), shared, Some(counted)), twin)
    }
}
