//! Tasks and processes.
//!
//! A [`Task`] is what is scheduled: a thread. A [`Process`] is a group of them, with one address space and one set of signal actions; it has a
//! parent, and belongs to a process group in a session. All relations between processes change under one lock, the process tree's
//! ([`pids::Pids`]).
//!
//! | module | holds |
//! |---|---|
//! | [`pids`] | numbers, and who is related to whom |
//! | [`process`] | what a group of tasks has together |
//! | [`access`] | who may look into another |
//! | [`boot`] | the first process |
//! | [`clone`](mod@clone) | new tasks |
//! | [`exit`] | ends of tasks and processes |
//! | [`wait`] | what a parent learns of its children |
//! | [`cpu_limit`] | `RLIMIT_CPU` |
//! | [`credentials`] | users, groups, capabilities |
//! | [`spaces`], [`users`], [`pid_namespaces`] | namespaces; those of users, and of numbers |
//! | [`limits`] | resource limits |
//! | [`pidfd`] | descriptors of processes |
//! | [`scheduling`] | policies and priorities, which are remembered |

pub mod access;
pub mod account;
pub mod boot;
pub mod clone;
pub mod cpu_limit;
pub mod credentials;
pub mod exit;
pub mod limits;
pub mod meter;
pub mod pid_namespaces;
pub mod pidfd;
pub mod pids;
pub mod process;
pub mod scheduling;
pub mod spaces;
pub mod users;
pub mod wait;

#[cfg(test)]
mod tests;

pub use boot::Boot;
pub use credentials::Credentials;
pub use limits::Limits;
pub use meter::{Busy, Meter};
pub use pid_namespaces::PidNamespace;
pub use pids::{Session, Terminal};
pub use process::{Process, Usage};
pub use scheduling::Scheduling;
use spaces::Spaces;
pub use users::UserNamespace;

use crate::cpu::Call;
use crate::flow::Restart;
use crate::fs::{Context, Descriptors};
use crate::mm::Mm;
use crate::seccomp::Confinement;
use crate::signal::{Own, SigSet};
use crate::sync::{Mutex, MutexGuard};
use crate::syscall::Cx;
use crate::syscall::user_dispatch::UserDispatch;
use crate::trace::Trace;
use crate::{Errno, Kernel, Result, SysResult};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use core::task::Waker;
use insula_abi::general as c;
use insula_abi::signal::Stack;

/// Makes a task come back from its program to the kernel, wherever it runs.
pub trait Kick: Send + Sync {
    /// Soon, and once: a program that isn't entered yet comes back right after it is.
    fn kick(&self);
}

/// A call in which a task waits, as others see it (`/proc/PID/syscall`).
#[derive(Clone, Copy, Debug)]
pub struct InCall {
    /// The call.
    pub call: Call,
    /// The stack pointer.
    pub sp: u64,
    /// The address after the instruction.
    pub ip: u64,
}

/// A task: a thread of a process.
pub struct Task {
    kernel: Arc<Kernel>,
    /// Its number; execve(2) may give it that of its process.
    tid: AtomicI32,
    /// Its process.
    pub process: Arc<Process>,
    mm: Mutex<Arc<Mm>>,
    descriptors: Mutex<Arc<Descriptors>>,
    fs: Mutex<Arc<Mutex<Context>>>,
    spaces: Mutex<Spaces>,
    credentials: Mutex<Arc<Credentials>>,
    signals: Mutex<Own>,
    /// What ptrace(2) has to do with it.
    pub(crate) trace: Mutex<Trace>,
    /// How it wants to be scheduled.
    pub scheduling: Mutex<Scheduling>,
    /// What it may call, seccomp(2).
    pub confinement: Confinement,
    /// Which of its calls are its program's own to answer.
    pub(crate) user_dispatch: Mutex<UserDispatch>,
    /// personality(2).
    pub personality: AtomicU32,
    /// When it is killed for memory that broke, which none does here (prctl(2), `PR_MCE_KILL`).
    pub memory_errors: AtomicU32,
    /// What it is sent when the task that made its process ends (prctl(2), `PR_SET_PDEATHSIG`); 0 is nothing.
    pub parent_death_signal: AtomicI32,
    /// Who waits, in vfork(2), until it has memory of its own or ends.
    vfork: Mutex<Option<Arc<clone::Vfork>>>,
    ended: AtomicBool,
    /// What prctl(2) calls it.
    pub name: Mutex<[u8; 16]>,
    /// Cleared, and its waiters woken, when the task ends (set_tid_address(2)).
    pub clear_child_tid: AtomicU64,
    /// Head of the list of robust futexes (set_robust_list(2)).
    pub robust_list: AtomicU64,
    /// Somebody wants it: a signal, a stop, an end. Looked at before it waits, and before it goes back to its program.
    attention: AtomicBool,
    /// What restart_syscall(2) does, after a call that said `RESTARTBLOCK`.
    pub restart: Mutex<Option<Restart>>,
    waker: Mutex<Option<Waker>>,
    kick: Mutex<Option<Arc<dyn Kick>>>,
    /// The call in which it waits.
    pub in_call: Mutex<Option<InCall>>,
    /// The moment at which its future wants to be polled, even if nobody wakes it.
    deadline: AtomicU64,
    /// Processor time that it used.
    pub meter: Meter,
    /// What it read and wrote.
    pub account: account::Account,
    /// The processor that it runs on; the placement says so.
    pub processor: AtomicU32,
    /// It may have other processors than before, sched_setaffinity(2); the placement has it go there.
    moved: AtomicBool,
}

/// What a new task starts with.
pub struct Parts {
    /// Its number.
    pub tid: i32,
    /// Its process.
    pub process: Arc<Process>,
    /// Its memory.
    pub mm: Arc<Mm>,
    /// Its descriptors.
    pub descriptors: Arc<Descriptors>,
    /// Where it stands.
    pub fs: Arc<Mutex<Context>>,
    /// Its namespaces; those of the kernel's first task if none are given.
    pub spaces: Option<Spaces>,
    /// Who it is.
    pub credentials: Arc<Credentials>,
    /// What it is called.
    pub name: [u8; 16],
    /// Signals that it blocks.
    pub blocked: SigSet,
}

impl Task {
    /// A task that isn't placed yet.
    pub fn new(kernel: &Arc<Kernel>, parts: Parts) -> Arc<Self> {
        parts.mm.join();
        Arc::new(Task {
            kernel: kernel.clone(),
            tid: AtomicI32::new(parts.tid),
            process: parts.process,
            mm: Mutex::new(parts.mm),
            descriptors: Mutex::new(parts.descriptors),
            fs: Mutex::new(parts.fs),
            spaces: Mutex::new(parts.spaces.unwrap_or_else(|| kernel.spaces.clone())),
            credentials: Mutex::new(parts.credentials),
            signals: Mutex::new(Own::new(parts.blocked)),
            trace: Mutex::default(),
            scheduling: Mutex::default(),
            confinement: Confinement::default(),
            user_dispatch: Mutex::default(),
            personality: AtomicU32::new(0),
            memory_errors: AtomicU32::new(insula_abi::prctl::PR_MCE_KILL_DEFAULT),
            parent_death_signal: AtomicI32::new(0),
            vfork: Mutex::default(),
            ended: AtomicBool::new(false),
            name: Mutex::new(parts.name),
            clear_child_tid: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            attention: AtomicBool::new(false),
            restart: Mutex::default(),
            waker: Mutex::default(),
            kick: Mutex::default(),
            in_call: Mutex::default(),
            deadline: AtomicU64::new(u64::MAX),
            meter: Meter::default(),
            account: account::Account::default(),
            processor: AtomicU32::new(0),
            // A child may begin with its maker's.
            moved: AtomicBool::new(true),
        })
    }

    /// Its kernel.
    pub fn kernel(&self) -> &Arc<Kernel> {
        &self.kernel
    }

    /// Its number.
    pub fn tid(&self) -> i32 {
        self.tid.load(Ordering::Relaxed)
    }

    /// It has another number of its process, by execve(2).
    pub(crate) fn renumber(&self, tid: i32) {
        self.tid.store(tid, Ordering::Relaxed);
    }

    /// Its memory.
    pub fn mm(&self) -> Arc<Mm> {
        self.mm.lock().clone()
    }

    /// Other memory, by execve(2).
    pub fn set_mm(&self, mm: Arc<Mm>) {
        mm.join();
        let before = core::mem::replace(&mut *self.mm.lock(), mm);
        before.leave();
    }

    /// Its descriptors.
    pub fn descriptors(&self) -> Arc<Descriptors> {
        self.descriptors.lock().clone()
    }

    /// Other descriptors (unshare(2), `CLONE_FILES`).
    pub fn set_descriptors(&self, descriptors: Arc<Descriptors>) {
        *self.descriptors.lock() = descriptors;
    }

    /// The open file of a descriptor.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn file(&self, fd: i32) -> Result<Arc<crate::fs::Description>> {
        self.descriptors.lock().get(fd)
    }

    /// Where it stands in the tree of files; shared with threads, or by `CLONE_FS`.
    pub fn fs(&self) -> Arc<Mutex<Context>> {
        self.fs.lock().clone()
    }

    /// Stands there on its own from now on (unshare(2), `CLONE_FS`).
    pub fn set_fs(&self, fs: Arc<Mutex<Context>>) {
        *self.fs.lock() = fs;
    }

    /// Who it is.
    pub fn credentials(&self) -> Arc<Credentials> {
        self.credentials.lock().clone()
    }

    /// Somebody else from now on.
    pub fn set_credentials(&self, credentials: Credentials) {
        *self.credentials.lock() = Arc::new(credentials);
    }

    /// Who brings it back from its program; told by the placement.
    pub fn placed(&self, kick: Arc<dyn Kick>) {
        *self.kick.lock() = Some(kick);
    }

    /// Whether somebody wants it: what waits is to stop waiting.
    pub fn interrupted(&self) -> bool {
        self.attention.load(Ordering::SeqCst)
    }

    /// Somebody wants it, or nobody does any more.
    pub fn set_attention(&self, wanted: bool) {
        self.attention.store(wanted, Ordering::SeqCst);
    }

    /// Brings it to where it looks who wants it: out of its wait, or out of its program.
    pub fn interrupt(&self) {
        self.set_attention(true);
        self.wake();
        self.kick();
    }

    fn kick(&self) {
        let kick = self.kick.lock().clone();
        if let Some(kick) = kick {
            kick.kick();
        }
    }

    /// Lets it have these processors, a bit each.
    pub fn move_to(&self, processors: u64) {
        self.scheduling.lock().processors = processors;
        self.moved.store(true, Ordering::SeqCst);
        self.kick();
    }

    /// The processors it may have, if they aren't those that were answered last.
    pub fn moved(&self) -> Option<u64> {
        (self.moved.load(Ordering::Relaxed) && self.moved.swap(false, Ordering::SeqCst))
            .then(|| self.scheduling.lock().processors)
    }

    /// A call that ends with what this answers goes on by `restart`, unless a handler runs.
    pub fn restart_with(&self, restart: impl FnOnce(&mut Cx<'_>) -> SysResult + Send + 'static) -> Errno {
        *self.restart.lock() = Some(Box::new(restart));
        Errno::RESTARTBLOCK
    }

    /// Whether it waits for something.
    pub fn waits(&self) -> bool {
        self.waker.lock().is_some()
    }

    /// It waits no more: its future has come to its end.
    pub fn waited(&self) {
        let waker = self.waker.lock().take();
        drop(waker);
    }

    /// Has its future polled.
    pub fn wake(&self) {
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// How its future is woken.
    pub(crate) fn wait_with(&self, waker: &Waker) {
        let mut slot = self.waker.lock();
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    /// The moment at which its future wants to be polled even if nobody wakes it; `u64::MAX` is never.
    pub fn deadline(&self) -> u64 {
        self.deadline.load(Ordering::Relaxed)
    }

    /// Sets that moment.
    pub fn set_deadline(&self, at: u64) {
        self.deadline.store(at, Ordering::Relaxed);
    }

    /// Its own part in signals.
    pub fn signals(&self) -> MutexGuard<'_, Own> {
        self.signals.lock()
    }

    /// These are blocked from now on.
    pub fn set_blocked(&self, blocked: SigSet) {
        self.signals.lock().blocked = blocked.without(SigSet::UNSTOPPABLE);
        self.look_again();
    }

    /// These are blocked for the time of one call, which then answers [`Errno::RESTARTNOHAND`] or `EINTR` if a signal ends it (sigsuspend(2),
    /// ppoll(2)); a handler that runs finds the old ones blocked again when it returns.
    pub fn set_temporary_mask(&self, blocked: SigSet) {
        {
            let mut own = self.signals.lock();
            let before = core::mem::replace(&mut own.blocked, blocked.without(SigSet::UNSTOPPABLE));
            own.saved.get_or_insert(before);
        }
        self.look_again();
    }

    /// The call with a mask of its own is over, and no signal ended it.
    pub fn end_temporary_mask(&self) {
        let saved = self.signals.lock().saved.take();
        if let Some(saved) = saved {
            self.set_blocked(saved);
        }
    }

    /// Signals that it would take now.
    pub fn deliverable(&self) -> SigSet {
        let pending = self.process.lock().pending.set();
        let own = self.signals.lock();
        own.pending.set().with(pending).without(own.blocked)
    }

    /// It wants attention if it may take a signal now.
    fn look_again(&self) {
        if !self.deliverable().is_empty() {
            self.set_attention(true);
        }
    }

    /// Sets the alternate stack, sigaltstack(2); `sp` is its stack pointer.
    ///
    /// # Errors
    /// `EPERM`: it is on the present one. `EINVAL`: flags. `ENOMEM`: too small.
    pub fn set_alternate_stack(&self, stack: Stack, sp: u64) -> Result<()> {
        let mut own = self.signals.lock();
        if crate::signal::frame::is_on(&own.alternate, sp) {
            return Err(Errno::EPERM);
        }
        let flags = stack.flags as u32;
        // What is left of the flags: whether it is one, its size says.
        let kept = (flags & c::SS_AUTODISARM) as i32;
        own.alternate = match flags & !c::SS_AUTODISARM {
            c::SS_DISABLE => Stack { sp: 0, flags: kept, pad: 0, size: 0 },
            0 | c::SS_ONSTACK => {
                if stack.size < u64::from(c::MINSIGSTKSZ) {
                    return Err(Errno::ENOMEM);
                }
                Stack { flags: kept, pad: 0, ..stack }
            }
            _ => return Err(Errno::EINVAL),
        };
        Ok(())
    }

    /// The status with which it is to end, if it is to.
    pub fn ends(&self) -> Option<i32> {
        let state = self.process.lock();
        match state.replacing {
            _ if state.ending.is_some() => state.ending,
            Some(other) if other != self.tid() => Some(0),
            _ => None,
        }
    }
}
