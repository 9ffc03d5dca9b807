//! How mounts hear of each other, mount_namespaces(7): what is mounted or unmounted in one of a group of peers is in all of them, and in their
//! slaves. All changes are made under the one lock of the namespaces that descend from each other.

use super::mount::{Copying, Mount};
use super::{Dentry, Path};
use crate::sync::Mutex;
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, Ordering};

/// What a mount does with what happens in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// It tells its peers, and hears of them.
    Shared,
    /// It hears of its masters.
    Slave,
    /// Neither.
    Private,
    /// Neither, nor can it be shown at another place.
    Unbindable,
}

/// Mounts that tell each other, and those that hear of them.
pub(super) struct Group {
    id: i32,
    peers: Mutex<Vec<Weak<Mount>>>,
    slaves: Mutex<Vec<Weak<Mount>>>,
}

static NEXT: AtomicI32 = AtomicI32::new(1);

fn living(list: &Mutex<Vec<Weak<Mount>>>) -> Vec<Arc<Mount>> {
    list.lock().iter().filter_map(Weak::upgrade).collect()
}

/// Puts a mount on a list; those that are gone leave it.
fn enlist(list: &Mutex<Vec<Weak<Mount>>>, mount: &Arc<Mount>) {
    let mut list = list.lock();
    list.retain(|other| other.strong_count() > 0);
    list.push(Arc::downgrade(mount));
}

fn strike(list: &Mutex<Vec<Weak<Mount>>>, mount: &Arc<Mount>) {
    list.lock().retain(|other| other.as_ptr() != Arc::as_ptr(mount));
}

/// To whom a mount belongs.
#[derive(Clone, Default)]
pub(super) struct Sharing {
    group: Option<Arc<Group>>,
    master: Option<Arc<Group>>,
    pub(super) unbindable: bool,
}

impl Sharing {
    /// The last of a group is gone: its slaves hear of whom it heard.
    fn bequeath(&self) {
        let Some(group) = self.group.as_ref().filter(|group| living(&group.peers).is_empty()) else { return };
        for slave in living(&group.slaves) {
            slave.sharing.lock().master = self.master.clone();
            self.master.iter().for_each(|master| enlist(&master.slaves, &slave));
        }
    }

    /// A mount is dropped.
    pub(super) fn end(&self) {
        self.bequeath();
    }
}

impl Mount {
    /// Whether it tells others what happens in it.
    pub fn is_shared(&self) -> bool {
        self.sharing.lock().group.is_some()
    }

    /// Whether it can't be shown at another place.
    pub fn is_unbindable(&self) -> bool {
        self.sharing.lock().unbindable
    }

    /// How it is from now on; only under the lock on changes.
    pub(super) fn set_propagation(self: &Arc<Self>, to: Propagation) {
        let mut sharing = self.sharing.lock().clone();
        sharing.unbindable = to == Propagation::Unbindable;
        if to == Propagation::Shared {
            let group = sharing.group.get_or_insert_with(|| {
                let peers = Mutex::new(alloc::vec![Arc::downgrade(self)]);
                Arc::new(Group { id: NEXT.fetch_add(1, Ordering::Relaxed), peers, slaves: Mutex::default() })
            });
            debug_assert!(group.id > 0);
        } else {
            if let Some(group) = &sharing.group {
                strike(&group.peers, self);
                sharing.bequeath();
            }
            let others = sharing.group.take().filter(|group| !living(&group.peers).is_empty());
            match others {
                Some(group) if to == Propagation::Slave => sharing.follow(self, Some(group)),
                _ if to == Propagation::Slave => {}
                _ => sharing.follow(self, None),
            }
        }
        *self.sharing.lock() = sharing;
    }

    /// A copy belongs to whom the original belongs to; as a slave, it hears of the original's peers.
    pub(super) fn share_as(self: &Arc<Self>, original: &Mount, slave: bool) {
        let from = original.sharing.lock().clone();
        let mut own = Sharing { unbindable: from.unbindable, ..Sharing::default() };
        match from.group {
            Some(group) if slave => own.follow(self, Some(group)),
            group => {
                group.iter().for_each(|group| enlist(&group.peers, self));
                own.group = group;
                own.follow(self, from.master);
            }
        }
        *self.sharing.lock() = own;
    }

    /// All that hear of what happens in it, but itself.
    pub(super) fn hearers(self: &Arc<Self>) -> Vec<Arc<Mount>> {
        let mut todo: Vec<Arc<Group>> = self.sharing.lock().group.iter().cloned().collect();
        let (mut seen, mut found): (Vec<i32>, Vec<Arc<Mount>>) = (Vec::new(), Vec::new());
        while let Some(group) = todo.pop() {
            if seen.contains(&group.id) {
                continue;
            }
            seen.push(group.id);
            found.extend(living(&group.peers).into_iter().filter(|peer| !Arc::ptr_eq(peer, self)));
            for slave in living(&group.slaves) {
                match slave.sharing.lock().group.clone() {
                    Some(group) => todo.push(group),
                    None => found.push(slave.clone()),
                }
            }
        }
        found
    }

    /// What covers the same place in all that hear of the mount that this one lies in.
    pub(super) fn twins(self: &Arc<Self>) -> Vec<Arc<Mount>> {
        let Some(Path { mount: above, dentry }) = self.place() else { return Vec::new() };
        above.hearers().iter().filter_map(|hearer| hearer.child(&dentry)).collect()
    }

    /// How `/proc/PID/mountinfo` tells of it.
    pub fn show_propagation(&self) -> String {
        let Sharing { group, master, unbindable } = self.sharing.lock().clone();
        let mut text = group.map(|group| format!("shared:{} ", group.id)).unwrap_or_default();
        if let Some(master) = master {
            text += &format!("master:{} ", master.id);
        }
        if unbindable { text + "unbindable " } else { text }
    }
}

impl Sharing {
    /// `own` hears of these, and no longer of others.
    fn follow(&mut self, own: &Arc<Mount>, master: Option<Arc<Group>>) {
        self.master.iter().for_each(|before| strike(&before.slaves, own));
        master.iter().for_each(|master| enlist(&master.slaves, own));
        self.master = master;
    }
}

/// Whether a mount shows a dentry.
fn shows(mount: &Mount, dentry: &Arc<Dentry>) -> bool {
    Arc::ptr_eq(dentry.fs(), mount.root.fs()) && dentry.is_within(&mount.root)
}

/// What comes to a shared place: the same is at that place in all that hear of it. Answers where, with what; nothing is attached yet.
///
/// Each group gets one copy as a slave of what its masters got, and the peers of that for the others.
pub(super) fn copies(tree: &Arc<Mount>, at: &Path) -> Vec<(Arc<Mount>, Path)> {
    let Some(first) = at.mount.sharing.lock().group.clone() else { return Vec::new() };
    let new = tree.all();
    new.iter().for_each(|mount| mount.set_propagation(Propagation::Shared));
    // What comes hears of its own coming by being there.
    let hears = |mount: &Arc<Mount>| shows(mount, &at.dentry) && !new.iter().any(|own| Arc::ptr_eq(own, mount));
    let mut made = Vec::new();
    let mut copy = |from: &Arc<Mount>, to: Arc<Mount>, slave: bool| {
        let copy = from.copy_all(&from.root, if slave { Copying::Slave } else { Copying::Bind });
        if to.is_below() {
            copy.lock_tree();
        }
        made.push((copy.clone(), Path { mount: to, dentry: at.dentry.clone() }));
        copy
    };
    let mut todo = alloc::vec![(first, tree.clone(), true)];
    let mut seen: Vec<i32> = Vec::new();
    while let Some((group, mut model, mut among)) = todo.pop() {
        if seen.contains(&group.id) {
            continue;
        }
        seen.push(group.id);
        for peer in living(&group.peers).into_iter().filter(|peer| !Arc::ptr_eq(peer, &at.mount) && hears(peer)) {
            let new = copy(&model, peer, !among);
            if !among {
                new.all().iter().for_each(|mount| mount.set_propagation(Propagation::Shared));
                (model, among) = (new, true);
            }
        }
        for slave in living(&group.slaves) {
            let own = slave.sharing.lock().group.clone();
            match own {
                Some(group) => todo.push((group, model.clone(), false)),
                None if hears(&slave) => drop(copy(&model, slave, true)),
                None => {}
            }
        }
    }
    made
}
