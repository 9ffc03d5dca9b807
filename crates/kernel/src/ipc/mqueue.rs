//! POSIX message queues, mq_overview(7).

use crate::fs::{Attributes, File, FileType, Io};
use crate::mm::UserBuf;
use crate::signal::send::{Target, send};
use crate::sync::Mutex;
use crate::task::{Credentials, Process, Task};
use crate::wait::{Events, Observer, Pollable, Queue as WaitQueue, Registration};
use crate::{Errno, Result};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use insula_abi::general as c;
use insula_abi::ipc::MqAttr;
use insula_abi::signal::Siginfo;

/// The most queues (`fs.mqueue.queues_max`).
pub const MOST_QUEUES: usize = 256;
/// Messages and their bytes that a queue gets if nothing is said (`fs.mqueue.msg_default`, `msgsize_default`), which is also what everybody
/// may ask for at most (`msg_max`, `msgsize_max`).
pub const ORDINARY: (i64, i64) = (10, 8192);
/// What nobody may exceed (`HARD_MSGMAX`, `HARD_MSGSIZEMAX`).
const MOST: (i64, i64) = (65536, 16 << 20);
/// Priorities are below this (`MQ_PRIO_MAX`).
pub const PRIORITIES: u32 = 32768;
/// The longest name.
const LONGEST_NAME: usize = 255;
/// Bytes of all queues: what the superuser may ask for is more than there should be.
const MOST_BYTES: u64 = 64 << 20;
/// What a message takes beside its text.
const OVERHEAD: u64 = 64;

/// All queues of a kernel, by name.
#[derive(Default)]
pub struct Queues {
    names: Mutex<BTreeMap<Vec<u8>, Arc<Queue>>>,
    /// Bytes that queues may hold, of all.
    promised: Arc<AtomicU64>,
}

/// A queue.
pub struct Queue {
    /// Its number, for fstat(2).
    ino: u64,
    mode: u32,
    owner: (u32, u32),
    /// Messages, and bytes of each, at most.
    limits: (i64, i64),
    promised: Arc<AtomicU64>,
    state: Mutex<State>,
    readers: Arc<WaitQueue>,
    writers: Arc<WaitQueue>,
}

#[derive(Default)]
struct State {
    /// By priority, in the order in which they came.
    messages: BTreeMap<u32, VecDeque<Vec<u8>>>,
    count: i64,
    bytes: u64,
    /// Who waits for a message, in order: what is sent goes to the first, and to nobody else.
    receivers: VecDeque<Arc<Slot>>,
    notice: Option<Notice>,
}

/// Who is told when a message comes to an empty queue.
pub struct Notice {
    /// The process that asked for it.
    pub process: Weak<Process>,
    /// The signal; 0 is nothing, but nobody else may ask either.
    pub signal: i32,
    /// What is sent along.
    pub value: u64,
}

/// Where a message for somebody who waits is laid.
type Slot = Mutex<Option<Received>>;

/// A message that was received, with its priority.
pub type Received = (u32, Vec<u8>);

impl Queues {
    /// Opens a queue, mq_open(2), or makes it.
    ///
    /// # Errors
    /// As the manual page says.
    pub fn open(&self, task: &Arc<Task>, name: &[u8], flags: u32, mode: u32, attributes: Option<MqAttr>) -> Result<Arc<Queue>> {
        check_name(name)?;
        let credentials = task.credentials();
        let mut names = self.names.lock();
        if let Some(queue) = names.get(name) {
            if flags & (c::O_CREAT | c::O_EXCL) == c::O_CREAT | c::O_EXCL {
                return Err(Errno::EEXIST);
            }
            let wanted = match flags & c::O_ACCMODE {
                c::O_RDONLY => 4,
                c::O_WRONLY => 2,
                c::O_RDWR => 6,
                _ => return Err(Errno::EINVAL),
            };
            queue.check(&credentials, wanted)?;
            return Ok(queue.clone());
        }
        if flags & c::O_CREAT == 0 {
            return Err(Errno::ENOENT);
        }
        let limits = limits(&credentials, attributes)?;
        if names.len() >= MOST_QUEUES && !credentials.has(c::CAP_SYS_RESOURCE) {
            return Err(Errno::ENOSPC);
        }
        let bytes = limits.0 as u64 * (limits.1 as u64 + OVERHEAD);
        let most =
            MOST_BYTES.min(task.process.limit(c::RLIMIT_MSGQUEUE).max(if credentials.uid.real == 0 { MOST_BYTES } else { 0 }));
        let fits = |promised: u64| promised.checked_add(bytes).filter(|promised| *promised <= most);
        self.promised.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).map_err(|_| Errno::EMFILE)?;
        let umask = task.fs().lock().umask;
        let queue = Arc::new(Queue {
            ino: task.kernel().anonymous_inode(),
            mode: mode & 0o7777 & !umask,
            owner: (credentials.uid.fs, credentials.gid.fs),
            limits,
            promised: self.promised.clone(),
            state: Mutex::default(),
            readers: WaitQueue::new(),
            writers: WaitQueue::new(),
        });
        names.insert(name.to_vec(), queue.clone());
        Ok(queue)
    }

    /// Takes a name away, mq_unlink(2).
    ///
    /// # Errors
    /// `ENOENT`, `EPERM`, `EACCES`.
    pub fn unlink(&self, task: &Task, name: &[u8]) -> Result<()> {
        check_name(name)?;
        let credentials = task.credentials();
        let mut names = self.names.lock();
        let queue = names.get(name).ok_or(Errno::ENOENT)?;
        if credentials.uid.fs != queue.owner.0 && !credentials.has_for(queue.owner, c::CAP_FOWNER) {
            return Err(Errno::EPERM);
        }
        names.remove(name);
        Ok(())
    }
}

fn check_name(name: &[u8]) -> Result<()> {
    match name {
        [] => Err(Errno::ENOENT),
        _ if name.contains(&b'/') || name == b"." || name == b".." => Err(Errno::EACCES),
        _ if name.len() > LONGEST_NAME => Err(Errno::ENAMETOOLONG),
        _ => Ok(()),
    }
}

fn limits(credentials: &Credentials, attributes: Option<MqAttr>) -> Result<(i64, i64)> {
    let Some(asked) = attributes else { return Ok(ORDINARY) };
    let most = if credentials.has(c::CAP_SYS_RESOURCE) { MOST } else { ORDINARY };
    let fits = (1..=most.0).contains(&asked.maxmsg) && (1..=most.1).contains(&asked.msgsize);
    if fits { Ok((asked.maxmsg, asked.msgsize)) } else { Err(Errno::EINVAL) }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.promised.fetch_sub(self.limits.0 as u64 * (self.limits.1 as u64 + OVERHEAD), Ordering::Relaxed);
    }
}

impl Queue {
    fn check(&self, credentials: &Credentials, wanted: u32) -> Result<()> {
        let granted = match () {
            () if credentials.uid.fs == self.owner.0 => self.mode >> 6,
            () if credentials.in_group(self.owner.1) => self.mode >> 3,
            () => self.mode,
        };
        if wanted & !granted == 0 || credentials.has_for(self.owner, c::CAP_DAC_OVERRIDE) { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// Messages, and bytes of each, at most.
    pub fn limits(&self) -> (i64, i64) {
        self.limits
    }

    /// How many messages there are.
    pub fn count(&self) -> i64 {
        self.state.lock().count
    }

    /// Adds a message, which is taken if that was done.
    ///
    /// # Errors
    /// `EAGAIN`: it is full.
    pub fn send(&self, task: &Task, priority: u32, text: &mut Vec<u8>) -> Result<()> {
        let mut state = self.state.lock();
        if state.count >= self.limits.0 {
            return Err(Errno::EAGAIN);
        }
        let mut notice = None;
        match state.receivers.pop_front() {
            Some(slot) => *slot.lock() = Some((priority, core::mem::take(text))),
            None => {
                if state.count == 0 {
                    notice = state.notice.take();
                }
                state.count += 1;
                state.bytes += text.len() as u64;
                state.messages.entry(priority).or_default().push_back(core::mem::take(text));
            }
        }
        drop(state);
        self.readers.wake(Events::READABLE);
        if let Some(notice) = notice
            && let Some(process) = notice.process.upgrade()
            && notice.signal != 0
        {
            let uid = task.credentials().uid.real;
            let info = Siginfo::sent(notice.signal, c::SI_MESGQ, task.process.pid, uid).with_value(notice.value);
            // There is nobody to be told that the process's queue is full.
            let _ = send(Target::Process(&process), info);
        }
        Ok(())
    }

    /// Takes the oldest message of the highest priority.
    ///
    /// # Errors
    /// `EAGAIN`: there is none.
    pub fn receive(&self) -> Result<Received> {
        let mut state = self.state.lock();
        let mut highest = state.messages.last_entry().ok_or(Errno::EAGAIN)?;
        let (priority, text) = (*highest.key(), highest.get_mut().pop_front().unwrap_or_default());
        if highest.get().is_empty() {
            highest.remove();
        }
        state.count -= 1;
        state.bytes -= text.len() as u64;
        drop(state);
        self.writers.wake(Events::WRITABLE);
        Ok((priority, text))
    }

    /// One more waits for a message, until what this answers is dropped.
    pub fn waits(self: &Arc<Self>) -> Receiver {
        let slot = Arc::new(Slot::default());
        self.state.lock().receivers.push_back(slot.clone());
        Receiver { queue: self.clone(), slot }
    }

    /// Asks to be told of a message, mq_notify(2), or no more.
    ///
    /// # Errors
    /// `EBUSY`: another process asked.
    pub fn notify(&self, process: &Arc<Process>, notice: Option<Notice>) -> Result<()> {
        let mut state = self.state.lock();
        let other = state.notice.as_ref().and_then(|notice| notice.process.upgrade()).filter(|other| !other.has_ended());
        match (notice, other) {
            (Some(_), Some(_)) => return Err(Errno::EBUSY),
            (None, Some(other)) if !Arc::ptr_eq(&other, process) => {}
            (notice, _) => state.notice = notice,
        }
        Ok(())
    }
}

/// Who waits for a message.
pub struct Receiver {
    queue: Arc<Queue>,
    slot: Arc<Slot>,
}

impl Receiver {
    /// The message that came for it, or any that is there.
    ///
    /// # Errors
    /// `EAGAIN`: there is none.
    pub fn receive(&self) -> Result<Received> {
        let own = self.slot.lock().take();
        own.map_or_else(|| self.queue.receive(), Ok)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = self.queue.state.lock();
        state.receivers.retain(|slot| !Arc::ptr_eq(slot, &self.slot));
        // It came, and nobody looked: it is the next of its priority again.
        let left = self.slot.lock().take();
        if let Some((priority, text)) = left {
            state.count += 1;
            state.bytes += text.len() as u64;
            state.messages.entry(priority).or_default().push_front(text);
            drop(state);
            self.queue.readers.wake(Events::READABLE);
        }
    }
}

/// An open queue.
pub struct Open(pub Arc<Queue>);

impl Pollable for Open {
    fn poll(&self) -> Events {
        let count = self.0.count();
        let mut events = Events::empty();
        events.set(Events::READABLE, count > 0);
        events.set(Events::OUT | Events::WRNORM, count < self.0.limits.0);
        events
    }

    fn observe(&self, interest: Events, observer: &Arc<dyn Observer>) -> Vec<Registration> {
        alloc::vec![self.0.readers.register(interest, observer.clone()), self.0.writers.register(interest, observer.clone())]
    }
}

impl File for Open {
    fn file_type(&self) -> FileType {
        FileType::Regular
    }

    fn can_be_watched(&self) -> bool {
        true
    }

    /// How it stands, as mq_overview(7) describes it.
    fn read(&self, _: &Io<'_>, at: u64, buffer: &mut UserBuf) -> Result<usize> {
        let text = {
            let state = self.0.state.lock();
            let told =
                state.notice.as_ref().map(|notice| (notice.signal, notice.process.upgrade().map_or(0, |process| process.pid)));
            let (signal, pid) = told.unwrap_or((0, 0));
            format!("QSIZE:{:<10} NOTIFY:{:<5} SIGNO:{signal:<5} NOTIFY_PID:{pid:<6}\n", state.bytes, 0)
        };
        buffer.put(text.as_bytes().get(usize::try_from(at).unwrap_or(usize::MAX)..).unwrap_or_default())
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(Attributes {
            ino: self.0.ino,
            mode: c::S_IFREG | self.0.mode,
            nlink: 1,
            uid: self.0.owner.0,
            gid: self.0.owner.1,
            size: 80,
            blksize: 4096,
            ..Attributes::default()
        })
    }

    fn describe(&self) -> Vec<u8> {
        b"mqueue".to_vec()
    }

    /// Who closes it is told no more.
    fn flush(&self, task: &Arc<Task>) {
        let _ = self.0.notify(&task.process, None);
    }
}
