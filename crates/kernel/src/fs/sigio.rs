//! Signals for events of files: `O_ASYNC`, `F_SETOWN` and `F_SETSIG` of fcntl(2).
//!
//! Whoever tells of an event may hold locks that sending a signal needs, so the signal is sent a moment later, by whoever serves the
//! kernel's timers.

use super::{Description, FileType};
use crate::signal::send::{Target, send};
use crate::sync::Mutex;
use crate::task::{Process, Task};
use crate::time::Alarm;
use crate::wait::{Events, Observer, Registration};
use crate::{Errno, Kernel, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use insula_abi::general as c;
use insula_abi::signal::Siginfo;

/// Who is told of a file's events.
#[derive(Clone, Copy, Debug, Default)]
pub struct Owner {
    /// `F_OWNER_*`, and the number; 0 is nobody.
    pub kind: i32,
    /// The number of a task, a process or a process group.
    pub id: i32,
    /// The signal; 0 is `SIGIO` without details.
    pub signal: i32,
    /// Real and effective user of who said so: only whom they may signal is told.
    pub uids: (u32, u32),
}

/// An open file's wish to tell of events.
pub struct Asynchronous {
    kernel: Weak<Kernel>,
    this: Weak<Asynchronous>,
    description: Weak<Description>,
    /// The descriptor by which it was asked for.
    fd: i32,
    /// Events that are to be told of.
    waiting: AtomicU32,
    /// In the file's queues; they end with this.
    registered: Mutex<Vec<Registration>>,
}

impl Asynchronous {
    /// Tells the owner of an open file of its events from now on; none for a kind of file that can't.
    pub(super) fn begin(kernel: &Arc<Kernel>, description: &Arc<Description>, fd: i32) -> Option<Arc<Self>> {
        let known = matches!(description.file.file_type(), FileType::Fifo | FileType::Socket | FileType::Character);
        if !known && description.as_file::<super::inotify::Inotify>().is_none() {
            return None;
        }
        let asynchronous = Arc::new_cyclic(|this| Asynchronous {
            kernel: Arc::downgrade(kernel),
            this: this.clone(),
            description: Arc::downgrade(description),
            fd,
            waiting: AtomicU32::new(0),
            registered: Mutex::default(),
        });
        let observer: Arc<dyn Observer> = asynchronous.clone();
        let all = Events::READABLE | Events::WRITABLE | Events::PRI | Events::ALWAYS;
        // A queue of the file must not keep what the file keeps.
        let weakly: Arc<dyn Observer> = Arc::new(Weakly(Arc::downgrade(&observer)));
        *asynchronous.registered.lock() = description.file.observe(all, &weakly);
        Some(asynchronous)
    }

    fn tell(&self, events: Events) {
        let (Some(kernel), Some(description)) = (self.kernel.upgrade(), self.description.upgrade()) else { return };
        let owner = *description.owner.lock();
        let info = if owner.signal == 0 {
            Siginfo { signo: c::SIGIO as i32, code: c::SI_KERNEL as i32, ..Siginfo::default() }
        } else {
            Siginfo::poll(owner.signal, code_of(events), events.bits(), self.fd)
        };
        // Nobody can be told that there was no room.
        let _ = owner.each(&kernel, |target| send(target, info));
    }
}

/// What `si_code` says of events, the first that is there.
fn code_of(events: Events) -> i32 {
    let codes =
        [(Events::PRI, c::POLL_PRI), (Events::READABLE, c::POLL_IN), (Events::WRITABLE, c::POLL_OUT), (Events::HUP, c::POLL_HUP)];
    codes.iter().find(|(event, _)| events.intersects(*event)).map_or(c::POLL_ERR, |(_, code)| *code) as i32
}

/// Passes on to somebody who may be gone.
struct Weakly(Weak<dyn Observer>);

impl Observer for Weakly {
    fn notify(&self, events: Events) {
        if let Some(observer) = self.0.upgrade() {
            observer.notify(events);
        }
    }
}

impl Observer for Asynchronous {
    fn notify(&self, events: Events) {
        if self.waiting.fetch_or(events.bits(), Ordering::SeqCst) == 0
            && let Some(kernel) = self.kernel.upgrade()
        {
            let alarm: Weak<dyn Alarm> = self.this.clone();
            kernel.timers.set(0, alarm);
        }
    }
}

impl Alarm for Asynchronous {
    fn expire(&self, _: u64) -> Option<u64> {
        let events = Events::from_bits_truncate(self.waiting.swap(0, Ordering::SeqCst));
        let description = self.description.upgrade()?;
        // A queue may be told of more than is there: a reader of a pipe hears of the end of its writers by the same call.
        let there = description.file.poll() & events;
        if !there.is_empty() {
            self.tell(there);
        }
        None
    }
}

impl Owner {
    fn may_signal(&self, process: &Process) -> bool {
        let Some(other) = process.leader().map(|task| task.credentials()) else { return false };
        let same = |uid: u32| uid == other.uid.saved || uid == other.uid.real;
        self.uids.1 == 0 || same(self.uids.1) || same(self.uids.0)
    }

    /// Calls `each` for all that are meant and may be signalled.
    pub(super) fn each(&self, kernel: &Kernel, mut each: impl FnMut(Target<'_>) -> Result<()>) -> Result<()> {
        if self.id == 0 {
            return Ok(());
        }
        match self.kind as u32 {
            c::F_OWNER_TID => {
                let task: Arc<Task> = kernel.pids.task(self.id).ok_or(Errno::ESRCH)?;
                if self.may_signal(&task.process) { each(Target::Task(&task)) } else { Ok(()) }
            }
            c::F_OWNER_PID => {
                let process = kernel.pids.process(self.id).ok_or(Errno::ESRCH)?;
                if self.may_signal(&process) { each(Target::Process(&process)) } else { Ok(()) }
            }
            _ => {
                let members = kernel.pids.lock().members(self.id);
                members.iter().filter(|process| self.may_signal(process)).try_for_each(|process| each(Target::Process(process)))
            }
        }
    }
}
