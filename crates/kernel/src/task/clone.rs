//! New tasks, clone(2).

use super::cpu_limit::CpuLimit;
use super::pids::Node;
use super::spaces::Spaces;
use super::{Credentials, Parts, PidNamespace, Process, Task};
use crate::flow::{Blocked, Newborn, NewbornMemory};
use crate::fs::{Description, Descriptors};
use crate::signal::SigSet;
use crate::sync::Mutex;
use crate::syscall::Cx;
use crate::{Errno, Flow, Regs, Result, SysResult};
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::future::poll_fn;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Poll;
use insula_abi::general as c;

/// What a new task is to be.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `CLONE_*`, without the exit signal.
    pub flags: u64,
    /// What its parent is sent when it ends; 0 is nothing.
    pub exit_signal: i32,
    /// Its stack pointer; 0 is its maker's.
    pub stack: u64,
    /// Its thread-local storage (`CLONE_SETTLS`).
    pub tls: u64,
    /// Where its number goes in its maker's memory (`CLONE_PARENT_SETTID`).
    pub parent_tid: u64,
    /// Where its number goes in its own (`CLONE_CHILD_SETTID`), or is cleared when it ends.
    pub child_tid: u64,
    /// Where a descriptor for it goes (`CLONE_PIDFD`).
    pub pidfd: u64,
    /// The number it is to have; 0 is any.
    pub number: i32,
}

/// Somebody waits, in vfork(2), until a task has memory of its own or has ended.
pub struct Vfork {
    done: AtomicBool,
    maker: Weak<Task>,
}

/// Flags that ask for namespaces of its own.
pub(crate) const NAMESPACES: u64 = (c::CLONE_NEWNS
    | c::CLONE_NEWCGROUP
    | c::CLONE_NEWUTS
    | c::CLONE_NEWIPC
    | c::CLONE_NEWUSER
    | c::CLONE_NEWPID
    | c::CLONE_NEWNET) as u64
    | c::CLONE_NEWTIME as u64;

impl Request {
    /// Whether a flag is set.
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag as u64 != 0
    }

    fn check(&self, task: &Task) -> Result<Arc<Credentials>> {
        let contradiction = self.has(c::CLONE_THREAD) && !self.has(c::CLONE_SIGHAND)
            || self.has(c::CLONE_SIGHAND) && !self.has(c::CLONE_VM)
            || self.has(c::CLONE_SIGHAND) && self.flags & c::CLONE_CLEAR_SIGHAND != 0
            || self.has(c::CLONE_PIDFD) && self.flags & u64::from(c::CLONE_THREAD | c::CLONE_DETACHED) != 0
            || self.has(c::CLONE_FS) && self.flags & u64::from(c::CLONE_NEWNS | c::CLONE_NEWUSER) != 0
            || self.has(c::CLONE_THREAD) && self.flags & u64::from(c::CLONE_NEWPID | c::CLONE_NEWUSER) != 0
            || self.flags & c::CLONE_INTO_CGROUP != 0;
        let of_first = self.has(c::CLONE_PARENT) && (task.process.pid == 1 || task.process.is_first_of_namespace());
        if contradiction || of_first {
            return Err(Errno::EINVAL);
        }
        super::spaces::check(task, self.flags)
    }
}

/// Makes a new task.
///
/// # Errors
/// See clone(2).
pub fn clone(cx: &mut Cx<'_>, request: &Request) -> SysResult {
    let credentials = request.check(cx.task)?;
    if cx.task.ends().is_some() {
        return Err(Errno::RESTARTNOINTR);
    }
    check_count(cx.task)?;
    let space = super::pid_namespaces::of_child(cx.task, request.flags, &credentials.space)?;
    let tid = reserve(cx.task, request.number, &space)?;
    match make(cx, request, tid, (credentials, space)) {
        Ok(newborn) => Ok(Flow::Clone(Box::new(newborn))),
        Err(errno) => {
            cx.kernel.pids.lock().release(tid);
            Err(errno)
        }
    }
}

/// A number for a new task; in its namespace it is to be `wanted`, if that isn't 0.
fn reserve(task: &Arc<Task>, wanted: i32, space: &PidNamespace) -> Result<i32> {
    let mut tree = task.kernel().pids.lock();
    if wanted != 0 {
        let may = |capability| task.credentials().has_in(&space.owner(), capability);
        if !may(c::CAP_SYS_ADMIN) && !may(c::CAP_CHECKPOINT_RESTORE) {
            return Err(Errno::EPERM);
        }
        if !(1..super::pids::MOST).contains(&wanted) {
            return Err(Errno::EINVAL);
        }
        if space.is_first() {
            return tree.reserve(wanted).map(|()| wanted);
        }
    }
    let number = tree.allocate()?;
    if let Err(errno) = tree.enroll(number, space, wanted) {
        tree.release(number);
        return Err(errno);
    }
    Ok(number)
}

/// Whether the user may have one process more (`RLIMIT_NPROC`).
fn check_count(task: &Arc<Task>) -> Result<()> {
    let limit = task.process.limit(c::RLIMIT_NPROC);
    let credentials = task.credentials();
    let uid = credentials.uid.real;
    if uid == 0 || limit == super::limits::INFINITE || credentials.has(c::CAP_SYS_RESOURCE) || credentials.has(c::CAP_SYS_ADMIN) {
        return Ok(());
    }
    let tasks: Vec<_> = task.kernel().pids.lock().tasks().collect();
    let count = tasks.iter().filter(|task| task.credentials().uid.real == uid).count();
    if count as u64 >= limit { Err(Errno::EAGAIN) } else { Ok(()) }
}

fn make(cx: &mut Cx<'_>, request: &Request, tid: i32, (credentials, space): (Arc<Credentials>, PidNamespace)) -> Result<Newborn> {
    let maker = cx.task;
    let shared = request.has(c::CLONE_VM);
    let mm = if shared { maker.mm() } else { maker.mm().fork()? };
    let process = if request.has(c::CLONE_THREAD) { maker.process.clone() } else { new_process(maker, request, tid, &space) };
    let descriptors = maker.descriptors();
    let fs = maker.fs();
    let parts = Parts {
        tid,
        process: process.clone(),
        mm,
        descriptors: if request.has(c::CLONE_FILES) { descriptors } else { descriptors.copy() },
        fs: if request.has(c::CLONE_FS) { fs } else { Arc::new(Mutex::new(fs.lock().clone())) },
        spaces: Some(Spaces { pids: space, ..maker.spaces() }),
        credentials,
        name: *maker.name.lock(),
        blocked: blocked(maker),
    };
    let task = Task::new(cx.kernel, parts);
    inherit(maker, &task, request);
    super::spaces::renew(&task, request.flags, &task.credentials().space)?;
    write_numbers(maker, &task, request)?;
    let pidfd = if request.has(c::CLONE_PIDFD) { Some(give_pidfd(maker, &process, request.pidfd)?) } else { None };
    if let Err(errno) = join(maker, &task, request) {
        if let Some(fd) = pidfd {
            // Nobody but a hostile thread can have closed it by now.
            let _ = maker.descriptors().take(fd);
        }
        return Err(errno);
    }
    let wait = request.has(c::CLONE_VFORK).then(|| wait_for(maker, &task));
    let memory = if shared { NewbornMemory::Shared } else { NewbornMemory::Copied };
    Ok(Newborn { regs: registers(cx.cpu.regs(), request), task, memory, wait })
}

fn blocked(maker: &Task) -> SigSet {
    let own = maker.signals();
    own.saved.unwrap_or(own.blocked)
}

fn new_process(maker: &Arc<Task>, request: &Request, pid: i32, space: &PidNamespace) -> Arc<Process> {
    let ours = &maker.process;
    let mut actions = ours.actions();
    if !request.has(c::CLONE_SIGHAND) {
        let mut copy = actions.lock().clone();
        if request.flags & c::CLONE_CLEAR_SIGHAND != 0 {
            copy.reset();
        }
        actions = Arc::new(Mutex::new(copy));
    }
    let limits = ours.limits.lock().clone();
    let process = Process::new(pid, space.clone(), limits, actions, maker.kernel().host.clock.monotonic());
    *process.program.lock() = ours.program.lock().clone();
    process.dumpable.store(ours.dumpable.load(Ordering::Relaxed), Ordering::Relaxed);
    *process.memory_owner.lock() = ours.memory_owner.lock().clone();
    process.oom_adjustment.store(ours.oom_adjustment.load(Ordering::Relaxed), Ordering::Relaxed);
    process.thp_disabled.store(ours.thp_disabled.load(Ordering::Relaxed), Ordering::Relaxed);
    process
}

fn inherit(maker: &Task, task: &Task, request: &Request) {
    *task.scheduling.lock() = maker.scheduling.lock().of_child();
    task.confinement.inherit(&maker.confinement);
    task.personality.store(maker.personality.load(Ordering::Relaxed), Ordering::Relaxed);
    task.memory_errors.store(maker.memory_errors.load(Ordering::Relaxed), Ordering::Relaxed);
    // A thread on a stack of its own must not run handlers on its maker's alternate one.
    if !request.has(c::CLONE_VM) || request.has(c::CLONE_VFORK) {
        let stack = maker.signals().alternate;
        task.signals().alternate = stack;
    }
    if request.has(c::CLONE_CHILD_CLEARTID) {
        task.clear_child_tid.store(request.child_tid, Ordering::Relaxed);
    }
}

fn write_numbers(maker: &Task, task: &Task, request: &Request) -> Result<()> {
    if request.has(c::CLONE_PARENT_SETTID) {
        maker.mm().put(request.parent_tid, &maker.name_of(task.tid()))?;
    }
    if request.has(c::CLONE_CHILD_SETTID) {
        // As on Linux, where the child itself writes it, nobody is told that it couldn't.
        let _ = task.mm().put(request.child_tid, &task.name_of(task.tid()));
    }
    Ok(())
}

fn give_pidfd(maker: &Task, process: &Arc<Process>, address: u64) -> Result<i32> {
    let file = crate::task::pidfd::Pidfd::new(process.clone());
    let description = Description::new(file, None, c::O_RDWR);
    let fd = maker.descriptors().add(description, true, 0, maker.process.limit(c::RLIMIT_NOFILE))?;
    if let Err(errno) = maker.mm().put(address, &fd) {
        let _ = maker.descriptors().take(fd);
        return Err(errno);
    }
    Ok(fd)
}

/// Makes the new task known to all.
fn join(maker: &Arc<Task>, task: &Arc<Task>, request: &Request) -> Result<()> {
    let thread = request.has(c::CLONE_THREAD);
    let process = &task.process;
    let mut tree = maker.kernel().pids.lock();
    {
        let mut state = maker.process.lock();
        if state.ending.is_some() || state.replacing.is_some() {
            return Err(Errno::RESTARTNOINTR);
        }
        if thread {
            state.threads.insert(task.tid(), task.clone());
            if state.stop.is_some() {
                task.set_attention(true);
            }
        }
    }
    tree.adopt(task);
    if maker.is_traced() {
        crate::trace::relation::inherit(maker, task, request);
    }
    if !thread {
        CpuLimit::watch(maker.kernel(), process);
        process.lock().threads.insert(task.tid(), task.clone());
        let ours = tree.nodes.get(&maker.process.pid).ok_or(Errno::ESRCH)?;
        let (parent, by, exit_signal) = if request.has(c::CLONE_PARENT) {
            (ours.parent, ours.maker, ours.exit_signal)
        } else {
            (maker.process.pid, maker.tid(), request.exit_signal)
        };
        let node = Node {
            process: process.clone(),
            parent,
            maker: by,
            children: BTreeSet::new(),
            group: ours.group,
            session: ours.session.clone(),
            exit_signal,
            ended: false,
            report: None,
            executed: false,
            adopted: false,
            tracer_first: false,
            job: false,
        };
        tree.insert(node);
    }
    Ok(())
}

fn registers(maker: &Regs, request: &Request) -> Regs {
    let mut regs = Regs { rax: 0, orig_rax: u64::MAX, ..*maker };
    if request.stack != 0 {
        regs.rsp = request.stack;
    }
    if request.has(c::CLONE_SETTLS) {
        regs.fs_base = request.tls;
    }
    regs
}

/// The maker goes on once the child has memory of its own, or if it has to end itself.
fn wait_for(maker: &Arc<Task>, child: &Arc<Task>) -> Blocked {
    let vfork = Arc::new(Vfork { done: AtomicBool::new(false), maker: Arc::downgrade(maker) });
    *child.vfork.lock() = Some(vfork.clone());
    let (maker, tid) = (maker.clone(), maker.name_of(child.tid()));
    Box::pin(poll_fn(move |context| {
        maker.wait_with(context.waker());
        if vfork.done.load(Ordering::SeqCst) || maker.ends().is_some() { Poll::Ready(Ok(tid as u64)) } else { Poll::Pending }
    }))
}

impl Task {
    /// It has memory of its own now, or has ended: who waits in vfork(2) goes on.
    pub(crate) fn release_vfork(&self) {
        let vfork = self.vfork.lock().take();
        if let Some(vfork) = vfork {
            vfork.done.store(true, Ordering::SeqCst);
            if let Some(maker) = vfork.maker.upgrade() {
                maker.wake();
            }
        }
    }
}

impl Newborn {
    /// The placement has no room for it: it never was. The maker's call answers `EAGAIN`.
    pub fn abandon(self, maker: &Task) {
        let task = &self.task;
        crate::trace::relation::abandon(maker, task);
        let tid = task.tid();
        task.ended.store(true, Ordering::SeqCst);
        task.mm().leave();
        *task.descriptors.lock() = Descriptors::new();
        let mut tree = task.kernel().pids.lock();
        task.process.lock().threads.remove(&tid);
        if tid == task.process.pid {
            tree.remove(tid);
        } else {
            tree.release(tid);
        }
    }
}
