//! Processes that nobody in the sandbox makes: the first, and others that are put beside it from outside.

use super::pids::Node;
use super::{Credentials, Limits, Parts, PidNamespace, Process, Task};
use crate::fs::{Context, Descriptors};
use crate::mm::Mm;
use crate::signal::{Actions, SigSet};
use crate::sync::Mutex;
use crate::tty::Tty;
use crate::{Errno, Kernel, Regs, Result};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use insula_abi::general as c;

/// What such a process begins with.
pub struct Boot {
    /// Its program; a path that begins in its own root or working directory.
    pub program: Vec<u8>,
    /// Its arguments, with its name as the first.
    pub arguments: Vec<Vec<u8>>,
    /// Its environment.
    pub environment: Vec<Vec<u8>>,
    /// Where it stands.
    pub fs: Context,
    /// Who it is.
    pub credentials: Credentials,
    /// What it may use.
    pub limits: Limits,
    /// Its open files.
    pub descriptors: Arc<Descriptors>,
}

/// How such a process stands to the world outside.
#[derive(Default)]
pub struct Manner {
    /// If it is the first, it is nevertheless no init ([`Process::ordinary`]): signals it doesn't handle end or stop it, and nobody waits for
    /// orphans.
    pub ordinary: bool,
    /// The world outside stops and continues it, as a shell does its jobs.
    pub job: bool,
    /// The controlling terminal of its session.
    pub terminal: Option<Arc<Tty>>,
}

impl Kernel {
    /// Makes a process with a session of its own, and loads its program: the first one made is the sandbox's first process, number 1. It has
    /// no parent here: [`Process::status`] tells how it ended, and the process is [ready](crate::wait::Pollable) then.
    ///
    /// Answers its task, and the registers it begins with, in the address space that it has ([`Task::mm`]).
    ///
    /// # Errors
    /// Those of execve(2). `EAGAIN`: no number is left.
    pub fn boot(self: &Arc<Self>, boot: Boot) -> Result<(Arc<Task>, Regs)> {
        self.boot_as(boot, Manner::default())
    }

    /// The same, as something else than an init.
    ///
    /// # Errors
    /// Those of [`Kernel::boot`]. `EPERM`: its terminal is another session's.
    pub fn boot_as(self: &Arc<Self>, boot: Boot, manner: Manner) -> Result<(Arc<Task>, Regs)> {
        self.with_number(|pid| {
            let task = self.make(pid, &boot)?;
            let regs = self.load(&task, &boot)?;
            self.admit(&task, manner)?;
            Ok((task, regs))
        })
    }

    /// Makes such a process without a program yet: others see it, and are sent to it. [`Kernel::load`] is to give it one; until then nothing runs
    /// it, and who made it has to see to it that it ends when it [is to](Task::ends).
    ///
    /// # Errors
    /// As [`Kernel::boot_as`].
    pub fn boot_without_program(self: &Arc<Self>, boot: &Boot, manner: Manner) -> Result<Arc<Task>> {
        self.with_number(|pid| {
            let task = self.make(pid, boot)?;
            self.admit(&task, manner)?;
            Ok(task)
        })
    }

    /// Gives a process its first program; answers the registers it begins with.
    ///
    /// # Errors
    /// Those of execve(2).
    pub fn load(&self, task: &Arc<Task>, boot: &Boot) -> Result<Regs> {
        let image = crate::exec::Request {
            at: c::AT_FDCWD,
            path: boot.program.clone(),
            flags: 0,
            arguments: boot.arguments.clone(),
            environment: boot.environment.clone(),
        };
        let loaded = crate::exec::load(task, image)?;
        Ok(crate::exec::begin(task, loaded))
    }

    /// Calls `make` with a new process's number, which is free again if that fails.
    fn with_number<T>(&self, make: impl FnOnce(i32) -> Result<T>) -> Result<T> {
        let pid = self.pids.allocate()?;
        make(pid).inspect_err(|_| self.pids.lock().release(pid))
    }

    /// Makes a process known to all, in its manner.
    fn admit(&self, task: &Arc<Task>, manner: Manner) -> Result<()> {
        let pid = task.process.pid;
        task.process.ordinary.store(manner.ordinary, Ordering::Relaxed);
        self.enlist(task);
        if let Some(node) = self.pids.lock().nodes.get_mut(&pid) {
            node.job = manner.job;
        }
        match manner.terminal {
            Some(terminal) => terminal.take_control(task, false).inspect_err(|_| drop(self.pids.lock().remove(pid))),
            None => Ok(()),
        }
    }

    fn make(self: &Arc<Self>, pid: i32, boot: &Boot) -> Result<Arc<Task>> {
        if boot.arguments.is_empty() {
            return Err(Errno::EINVAL);
        }
        let actions = Arc::new(Mutex::new(Actions::default()));
        let process = Process::new(pid, PidNamespace::default(), boot.limits.clone(), actions, self.host.clock.monotonic());
        let parts = Parts {
            tid: pid,
            process,
            mm: Mm::new(&self.frames, self.host.machine.layout(0)),
            descriptors: boot.descriptors.clone(),
            fs: Arc::new(Mutex::new(boot.fs.clone())),
            spaces: None,
            credentials: Arc::new(boot.credentials.clone()),
            name: [0; 16],
            blocked: SigSet::EMPTY,
        };
        Ok(Task::new(self, parts))
    }

    /// Makes a process without a parent known to all.
    pub(crate) fn enlist(&self, task: &Arc<Task>) {
        let process = &task.process;
        let pid = process.pid;
        let mut tree = self.pids.lock();
        tree.adopt(task);
        process.lock().threads.insert(pid, task.clone());
        let session = tree.new_session(pid);
        tree.insert(Node {
            process: process.clone(),
            parent: 0,
            maker: 0,
            children: BTreeSet::new(),
            group: pid,
            session,
            exit_signal: c::SIGCHLD as i32,
            ended: false,
            report: None,
            executed: true,
            adopted: false,
            tracer_first: false,
            job: false,
        });
    }
}
