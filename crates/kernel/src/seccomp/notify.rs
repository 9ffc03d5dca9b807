//! Calls about which a filter asks somebody else, seccomp_unotify(2).
//!
//! A filter with a listener has a [`Notifier`]. A task whose call it is to decide about leaves a notification there and waits; who has the
//! [`Listener`], an open file, takes notifications up one after the other, and says what becomes of each call. A notification is there as long as its
//! task waits, so there are never more than tasks.

use super::bpf::Data;
use crate::fs::{File, FileType, Io};
use crate::signal::send::is_doomed;
use crate::sync::{Mutex, MutexGuard};
use crate::syscall::{open, structure};
use crate::task::Task;
use crate::wait::{Events, Observer, Pollable, Queue, Registration, until};
use crate::{Errno, Flow, Result, SysResult};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::task::Poll;
use insula_abi::PAGE;
use insula_abi::general as c;
use insula_abi::ptrace::SECCOMP_USER_NOTIF_FLAG_CONTINUE;
use insula_abi::seccomp::{AddDescriptor, Notification, Response, Sizes};

/// The listener's requests, from linux/seccomp.h.
mod request {
    pub(super) const RECEIVE: u32 = 0xc050_2100;
    pub(super) const SEND: u32 = 0xc018_2101;
    pub(super) const IS_VALID: u32 = 0x4008_2102;
    /// As it was first defined, with the wrong direction.
    pub(super) const IS_VALID_OLD: u32 = 0x8008_2102;
    /// Without a direction and a size, as the structure may grow.
    pub(super) const ADD_DESCRIPTOR: u32 = 0x2103;
    /// Which bits are the request's kind and number, and where its size begins.
    pub(super) const KIND: u32 = 0xffff;
    pub(super) const SIZE: u32 = 16;
    pub(super) const SIZE_BITS: u32 = 0x3fff;
}

/// What `ADDFD` is to do beside: give this very number, and answer the call with it.
const AT_NUMBER: u32 = 1;
const AND_SEND: u32 = 2;

/// What programs are told of sizes, `SECCOMP_GET_NOTIF_SIZES`.
pub(crate) const SIZES: Sizes = Sizes {
    notification: size_of::<Notification>() as u16,
    response: size_of::<Response>() as u16,
    data: size_of::<Data>() as u16,
};

/// Where a filter's tasks and its listener meet.
pub(crate) struct Notifier {
    state: Mutex<State>,
    queue: Arc<Queue>,
    /// Who waits for an answer that somebody works on waits through signals (`SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`).
    patient: bool,
}

struct State {
    /// In the order in which they came.
    waiting: Vec<Waiting>,
    /// The number of the next.
    next: u64,
    /// How many were left and not asked for. As with Linux, those count whose tasks wait no more, too.
    requests: u64,
    /// Tasks have the filter.
    used: bool,
    /// There is a listener.
    open: bool,
}

/// A task that waits.
struct Waiting {
    id: u64,
    task: Arc<Task>,
    data: Data,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nobody knows of it.
    New,
    /// Somebody does.
    Taken,
    /// The result; none if the call is to be made.
    Decided(Option<Result<u64>>),
}

impl Notifier {
    /// For a new filter; the first notification has this number.
    pub(crate) fn new(first: u64, patient: bool) -> Arc<Self> {
        let state = State { waiting: Vec::new(), next: first, requests: 0, used: true, open: true };
        Arc::new(Notifier { state: Mutex::new(state), queue: Queue::new(), patient })
    }

    /// Whether there is a listener.
    pub(super) fn is_open(&self) -> bool {
        self.state.lock().open
    }

    /// No task has the filter any more.
    pub(super) fn unused(&self) {
        self.state.lock().used = false;
        self.queue.wake(Events::HUP);
    }

    /// Whether this task waits, and no signal but one that ends it makes a difference.
    pub(super) fn holds(&self, task: &Task) -> bool {
        let is = |waiting: &Waiting| waiting.stage == Stage::Taken && core::ptr::eq(&*waiting.task, task);
        self.patient && self.state.lock().waiting.iter().any(is)
    }

    /// Asks about a call.
    ///
    /// # Errors
    /// `ENOSYS`: nobody listens.
    pub(super) fn ask(self: &Arc<Self>, task: &Arc<Task>, data: Data) -> SysResult {
        let asked = {
            let mut state = self.state.lock();
            if !state.open {
                return Err(Errno::ENOSYS);
            }
            let id = state.next;
            state.next = id.wrapping_add(1);
            state.requests += 1;
            state.waiting.push(Waiting { id, task: task.clone(), data, stage: Stage::New });
            Asked { notifier: self.clone(), id }
        };
        self.queue.wake(Events::READABLE);
        let task = task.clone();
        Ok(Flow::Asked(Box::pin(poll_fn(move |context| {
            task.wait_with(context.waker());
            let wanted = task.interrupted();
            match asked.stage() {
                Stage::Decided(decision) => Poll::Ready(decision),
                stage => {
                    let patient = asked.notifier.patient && stage == Stage::Taken;
                    let leaves = wanted && (!patient || is_doomed(&task)) || task.ends().is_some();
                    if leaves { Poll::Ready(Some(Err(Errno::RESTARTSYS))) } else { Poll::Pending }
                }
            }
        }))))
    }

    /// Takes the next one up; its task is told by the number that `reader` knows it by.
    ///
    /// # Errors
    /// `EAGAIN`: there is none. `ENOENT`: it is gone, or none will ever come.
    fn take_up(&self, reader: &Task) -> Result<Notification> {
        let mut state = self.state.lock();
        if state.requests == 0 && state.used {
            return Err(Errno::EAGAIN);
        }
        state.requests = state.requests.saturating_sub(1);
        let next = state.waiting.iter_mut().find(|waiting| waiting.stage == Stage::New).ok_or(Errno::ENOENT)?;
        next.stage = Stage::Taken;
        let taken = Notification { id: next.id, pid: reader.name_of(next.task.tid()) as u32, flags: 0, data: next.data.words() };
        drop(state);
        self.queue.wake(Events::WRITABLE);
        Ok(taken)
    }

    /// Who took it up couldn't be told.
    fn put_back(&self, id: u64) {
        let mut state = self.state.lock();
        if let Some(waiting) = state.waiting.iter_mut().find(|waiting| waiting.id == id) {
            waiting.stage = Stage::New;
            state.requests += 1;
            drop(state);
            self.queue.wake(Events::READABLE);
        }
    }

    /// One that somebody has taken up and not answered.
    ///
    /// # Errors
    /// `ENOENT`: there is no such. `EINPROGRESS`: nobody has, or it is answered.
    fn taken(state: &mut State, id: u64) -> Result<&mut Waiting> {
        let waiting = state.waiting.iter_mut().find(|waiting| waiting.id == id).ok_or(Errno::ENOENT)?;
        if waiting.stage == Stage::Taken { Ok(waiting) } else { Err(Errno::EINPROGRESS) }
    }

    /// Decides about a call.
    fn decide(mut state: MutexGuard<'_, State>, id: u64, decision: Option<Result<u64>>) -> Result<()> {
        let waiting = Notifier::taken(&mut state, id)?;
        waiting.stage = Stage::Decided(decision);
        let task = waiting.task.clone();
        drop(state);
        task.wake();
        Ok(())
    }

    /// Nobody will decide any more.
    fn close(&self) {
        let mut state = self.state.lock();
        state.open = false;
        let mut left = Vec::new();
        for waiting in state.waiting.iter_mut().filter(|waiting| !matches!(waiting.stage, Stage::Decided(_))) {
            waiting.stage = Stage::Decided(Some(Err(Errno::ENOSYS)));
            left.push(waiting.task.clone());
        }
        drop(state);
        left.iter().for_each(|task| task.wake());
    }
}

/// A notification of a task that waits; dropping it takes it back.
struct Asked {
    notifier: Arc<Notifier>,
    id: u64,
}

impl Asked {
    fn stage(&self) -> Stage {
        let state = self.notifier.state.lock();
        state.waiting.iter().find(|waiting| waiting.id == self.id).map_or(Stage::New, |waiting| waiting.stage)
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut state = self.notifier.state.lock();
        let index = state.waiting.iter().position(|waiting| waiting.id == self.id);
        let waiting = index.map(|index| state.waiting.remove(index));
        drop(state);
        drop(waiting);
    }
}

impl Pollable for Notifier {
    fn poll(&self) -> Events {
        let state = self.state.lock();
        let mut events = Events::empty();
        for waiting in &state.waiting {
            match waiting.stage {
                Stage::New => events |= Events::READABLE,
                Stage::Taken => events |= Events::OUT | Events::WRNORM,
                Stage::Decided(_) => {}
            }
        }
        if !state.used {
            events |= Events::HUP;
        }
        events
    }

    fn observe(&self, interest: Events, observer: &Arc<dyn Observer>) -> Vec<Registration> {
        alloc::vec![self.queue.register(interest, observer.clone())]
    }
}

/// The open file of who decides.
pub(crate) struct Listener(Arc<Notifier>);

impl Listener {
    /// The one of a filter.
    pub(crate) fn new(notifier: &Arc<Notifier>) -> Arc<Self> {
        Arc::new(Listener(notifier.clone()))
    }

    fn receive(&self, task: &Arc<Task>, address: u64) -> SysResult {
        // What programs don't set to zero can't get a meaning later.
        if task.mm().get::<[u8; size_of::<Notification>()]>(address)? != [0; size_of::<Notification>()] {
            return Err(Errno::EINVAL);
        }
        let (notifier, mm) = (self.0.clone(), task.mm());
        let tell = move |notifier: &Notifier, taken: Notification| {
            mm.put(address, &taken).map(|()| 0).inspect_err(|_| notifier.put_back(taken.id))
        };
        match notifier.take_up(task) {
            Err(Errno::EAGAIN) => {}
            taken => return tell(&notifier, taken?).map(Flow::Done),
        }
        let (source, reader) = (notifier.clone(), task.clone());
        let wait = until(task, &[(&*notifier, Events::READABLE)], None, move || source.take_up(&reader));
        Ok(Flow::block(async move {
            match wait.await {
                Ok(taken) => tell(&notifier, taken?),
                Err(_) => Err(Errno::RESTARTSYS),
            }
        }))
    }

    fn send(&self, response: Response) -> Result<()> {
        let goes_on = response.flags & SECCOMP_USER_NOTIF_FLAG_CONTINUE != 0;
        let other_flags = response.flags & !SECCOMP_USER_NOTIF_FLAG_CONTINUE != 0;
        if other_flags || goes_on && (response.error != 0 || response.value != 0) {
            return Err(Errno::EINVAL);
        }
        // As Linux: what is given is what the register holds.
        let result = if response.error != 0 { i64::from(response.error) } else { response.value };
        Notifier::decide(self.0.state.lock(), response.id, (!goes_on).then_some(Ok(result as u64)))
    }

    fn is_valid(&self, id: u64) -> Result<()> {
        Notifier::taken(&mut self.0.state.lock(), id).map(drop).map_err(|_| Errno::ENOENT)
    }

    fn add_descriptor(&self, task: &Arc<Task>, wanted: AddDescriptor) -> Result<i32> {
        let flags = wanted.flags;
        let at_number = flags & AT_NUMBER != 0;
        if wanted.number_flags & !c::O_CLOEXEC != 0 || flags & !(AT_NUMBER | AND_SEND) != 0 || wanted.number != 0 && !at_number {
            return Err(Errno::EINVAL);
        }
        let file = open::real(task, wanted.source as i32)?;
        let close_on_exec = wanted.number_flags & c::O_CLOEXEC != 0;
        // As long as the state is held, its task waits.
        let mut state = self.0.state.lock();
        let target = Notifier::taken(&mut state, wanted.id)?.task.clone();
        let limit = target.process.limit(c::RLIMIT_NOFILE);
        let (number, before) = if at_number {
            let number = wanted.number as i32;
            (number, target.descriptors().put(number, file, close_on_exec, limit)?)
        } else {
            (target.descriptors().add(file, close_on_exec, 0, limit)?, None)
        };
        if flags & AND_SEND != 0 {
            Notifier::decide(state, wanted.id, Some(Ok(number as u64)))?;
        } else {
            drop(state);
        }
        if let Some(before) = before {
            open::closed(&target, &before);
        }
        Ok(number)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Pollable for Listener {
    fn poll(&self) -> Events {
        self.0.poll()
    }

    fn observe(&self, interest: Events, observer: &Arc<dyn Observer>) -> Vec<Registration> {
        self.0.observe(interest, observer)
    }
}

impl File for Listener {
    fn file_type(&self) -> FileType {
        FileType::Anonymous
    }

    fn ioctl(&self, io: &Io<'_>, asked: u32, argument: u64) -> SysResult {
        let mm = io.task.mm();
        match asked {
            request::RECEIVE => self.receive(io.task, argument),
            request::SEND => self.send(mm.get(argument)?).map(Flow::from),
            request::IS_VALID | request::IS_VALID_OLD => self.is_valid(mm.get(argument)?).map(Flow::from),
            _ if asked & request::KIND == request::ADD_DESCRIPTOR => {
                let size = asked >> request::SIZE & request::SIZE_BITS;
                let least = size_of::<AddDescriptor>();
                if u64::from(size) >= PAGE {
                    return Err(Errno::EINVAL);
                }
                self.add_descriptor(io.task, structure(io.task, argument, size.into(), least)?).map(Flow::from)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn describe(&self) -> Vec<u8> {
        b"anon_inode:seccomp notify".to_vec()
    }
}
