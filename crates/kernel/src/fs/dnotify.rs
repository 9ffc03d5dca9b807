//! Directories that tell by a signal what happens in them: `F_NOTIFY` of fcntl(2).
//!
//! The events are those of [`notify`](super::notify). As with `O_ASYNC` ([`sigio`](super::sigio)), the signal is sent a moment later: whoever
//! tells of an event may hold locks that sending one needs.

use super::locks::Owner as Table;
use super::notify::{Told, Watches};
use super::sigio::Owner;
use super::{Description, FileType};
use crate::signal::send::send;
use crate::sync::Mutex;
use crate::task::Task;
use crate::time::Alarm;
use crate::{Errno, Kernel, Result};
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use insula_abi::general as c;
use insula_abi::signal::Siginfo;

/// Events that wait to be told at most: more of them are one.
const MOST: u32 = 64;

/// What `si_band` says: there is something to read, and a message.
const BAND: u32 = 0x441;

/// An open directory that tells.
pub(crate) struct Dnotify {
    kernel: Weak<Kernel>,
    this: Weak<Dnotify>,
    watches: Arc<Watches>,
    description: Weak<Description>,
    /// The table of descriptors that it was asked by; what others close is nothing to it.
    table: Table,
    /// The descriptor.
    fd: AtomicI32,
    /// `DN_*`.
    asked: Mutex<u32>,
    /// Events that happened and weren't told.
    waiting: AtomicU32,
}

/// The events of `DN_*`, `IN_*`.
fn events(asked: u32) -> u32 {
    let kinds = [
        (c::DN_ACCESS, c::IN_ACCESS),
        (c::DN_MODIFY, c::IN_MODIFY),
        (c::DN_CREATE, c::IN_CREATE | c::IN_MOVED_TO),
        (c::DN_DELETE, c::IN_DELETE | c::IN_MOVED_FROM),
        (c::DN_RENAME, c::IN_MOVED_FROM),
        (c::DN_ATTRIB, c::IN_ATTRIB),
    ];
    kinds.iter().filter(|(kind, _)| asked & kind != 0).fold(0, |all, (_, events)| all | events)
}

/// `F_NOTIFY`: from now on the open directory tells of these, too; if of none, of nothing any more.
///
/// # Errors
/// `ENOTDIR`: it is no directory. `ENOSPC`: there are too many watches.
pub(crate) fn ask(task: &Arc<Task>, description: &Arc<Description>, fd: i32, asked: u32) -> Result<()> {
    let table = task.descriptors().as_owner();
    if asked & !c::DN_MULTISHOT == 0 {
        end(description, table);
        return Ok(());
    }
    let place = description.path.as_ref().filter(|place| place.inode().file_type() == FileType::Directory);
    let place = place.ok_or(Errno::ENOTDIR)?;
    let kernel = task.kernel();
    let mut slot = description.dnotify.lock();
    let dnotify = slot.get_or_insert_with(|| {
        Arc::new_cyclic(|this| Dnotify {
            kernel: Arc::downgrade(kernel),
            this: this.clone(),
            watches: kernel.file_systems.watches().clone(),
            description: Arc::downgrade(description),
            table,
            fd: AtomicI32::new(fd),
            asked: Mutex::default(),
            waiting: AtomicU32::new(0),
        })
    });
    dnotify.fd.store(fd, Ordering::Relaxed);
    let mut all = dnotify.asked.lock();
    let told: Arc<dyn Told> = dnotify.clone();
    let once = if (*all | asked) & c::DN_MULTISHOT == 0 { c::IN_ONESHOT } else { 0 };
    dnotify.watches.add(&told, &place.dentry, events(*all | asked) | once, || 0)?;
    *all |= asked;
    let ids = task.credentials().uid;
    let mut owner = description.owner.lock();
    if owner.id == 0 {
        *owner = Owner { kind: c::F_OWNER_PID as i32, id: task.process.pid, uids: (ids.real, ids.effective), ..*owner };
    }
    Ok(())
}

/// A table of descriptors has closed the open directory, or wants to hear no more.
pub(crate) fn end(description: &Description, table: Table) {
    let mut slot = description.dnotify.lock();
    let ended = if slot.as_ref().is_some_and(|dnotify| dnotify.table == table) { slot.take() } else { None };
    drop(slot);
    drop(ended);
}

impl Drop for Dnotify {
    fn drop(&mut self) {
        self.watches.forget(core::ptr::from_ref(self).cast());
    }
}

impl Told for Dnotify {
    fn tell(&self, _: i32, event: u32, _: u32, _: &[u8]) {
        if event & c::IN_IGNORED != 0 {
            // It was asked for one event.
            *self.asked.lock() = 0;
            return;
        }
        if self.waiting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| (count < MOST).then_some(count + 1)) == Ok(0)
            && let Some(kernel) = self.kernel.upgrade()
        {
            let alarm: Weak<dyn Alarm> = self.this.clone();
            kernel.timers.set(0, alarm);
        }
    }
}

impl Alarm for Dnotify {
    fn expire(&self, _: u64) -> Option<u64> {
        let count = self.waiting.swap(0, Ordering::SeqCst);
        let (kernel, description) = (self.kernel.upgrade()?, self.description.upgrade()?);
        let owner = *description.owner.lock();
        let info = match owner.signal {
            0 => Siginfo { signo: c::SIGIO as i32, code: c::SI_KERNEL as i32, ..Siginfo::default() },
            signal => Siginfo::poll(signal, c::POLL_MSG as i32, BAND, self.fd.load(Ordering::Relaxed)),
        };
        for _ in 0..count {
            // Nobody can be told that there was no room.
            let _ = owner.each(&kernel, |target| send(target, info));
        }
        None
    }
}
