//! A task as a placement has it: its processor, what it waits for, and what it bears.

use super::super::Task;
use super::HERE;
use crate::cpu::Call;
use crate::flow::{Blocked, Flow};
use crate::signal::{Next, deliver};
use crate::testing::{Registers, memory};
use crate::{Errno, Regs};
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use insula_abi::Sysno;
use insula_abi::general as c;
use insula_abi::signal::{FPX_SW_OFFSET, Sigaction};

pub(super) struct Flag(pub(super) AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A task with its processor.
pub(super) struct Placed {
    pub(super) task: Arc<Task>,
    pub(super) cpu: Registers,
    pub(super) waits: Option<Blocked>,
    pub(super) held: Option<Blocked>,
    pub(super) woken: Arc<Flag>,
    pub(super) born: Vec<Placed>,
}

/// Where a task is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum At {
    /// In its program, with this in `rax`.
    Program(u64),
    /// In a call.
    Waiting,
    /// Stopped.
    Stopped,
    /// At the first instruction of a new program.
    Beginning,
    Ended,
}

impl Placed {
    pub(super) fn new(task: Arc<Task>) -> Placed {
        let mut extended = vec![0; 832];
        extended[FPX_SW_OFFSET] = 7;
        let general =
            Regs { rip: HERE, rsp: 0x7000_0000, cs: 0x33, ss: 0x2b, eflags: 0x246, orig_rax: u64::MAX, ..Regs::default() };
        let cpu = Registers { general, extended };
        let woken = Arc::new(Flag(AtomicBool::new(false)));
        Placed { task, cpu, waits: None, held: None, woken, born: Vec::new() }
    }

    /// Makes a call.
    pub(super) fn call(&mut self, number: Sysno, arguments: &[u64]) -> At {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        self.cpu.general.orig_rax = number as u64;
        let kernel = self.task.kernel().clone();
        match crate::syscall::dispatch(
            &kernel,
            &self.task.clone(),
            &mut self.cpu,
            &Call { number: number as u64, arguments: all },
        ) {
            Ok(Flow::Done(value)) => self.back(Ok(value)),
            Ok(Flow::Block(future)) => {
                self.waits = Some(future);
                self.go_on()
            }
            Ok(Flow::Registers) => self.deliver(false),
            Ok(Flow::Clone(newborn)) => {
                let tid = newborn.task.tid();
                let mut child = Placed::new(newborn.task);
                child.cpu.general = newborn.regs;
                self.born.push(child);
                self.waits = newborn.wait;
                if self.waits.is_some() { self.go_on() } else { self.back(Ok(tid as u64)) }
            }
            Ok(Flow::Exit) => At::Ended,
            Ok(Flow::Traced(_)) => panic!("nobody traces here"),
            Ok(Flow::Asked(_)) => panic!("nobody is asked here"),
            Err(errno) => self.back(Err(errno)),
        }
    }

    /// What comes of waiting, if the task was woken or hasn't waited yet.
    pub(super) fn go_on(&mut self) -> At {
        let waker = Waker::from(self.woken.clone());
        let mut context = Context::from_waker(&waker);
        if let Some(held) = &mut self.held {
            match held.as_mut().poll(&mut context) {
                Poll::Pending => return At::Stopped,
                Poll::Ready(_) => self.held = None,
            }
            return self.deliver(true);
        }
        let Some(waits) = &mut self.waits else { return self.deliver(false) };
        match waits.as_mut().poll(&mut context) {
            Poll::Pending => At::Waiting,
            Poll::Ready(outcome) => {
                self.waits = None;
                self.back(outcome)
            }
        }
    }

    pub(super) fn back(&mut self, outcome: crate::Result<u64>) -> At {
        self.cpu.general.rax = crate::syscall::result(outcome);
        self.deliver(outcome.is_err_and(Errno::restarts))
    }

    pub(super) fn deliver(&mut self, restarts: bool) -> At {
        match deliver(&self.task.clone(), &mut self.cpu, restarts) {
            Next::Enter | Next::Step => At::Program(self.cpu.general.rax),
            Next::Begin => At::Beginning,
            Next::End => At::Ended,
            Next::Wait(future) => {
                self.held = Some(future);
                self.go_on()
            }
        }
    }

    /// A call that is done at once.
    pub(super) fn now(&mut self, number: Sysno, arguments: &[u64]) -> Result<u64, Errno> {
        match self.call(number, arguments) {
            At::Program(value) => Errno::from_result(value).map_or(Ok(value), Err),
            other => panic!("{number:?}: {other:?}"),
        }
    }

    pub(super) fn fork(&mut self) -> Placed {
        self.now(Sysno::fork, &[]).expect("a child");
        self.born.pop().expect("a child")
    }

    /// A thread with the same of everything.
    pub(super) fn thread(&mut self) -> Placed {
        let flags = c::CLONE_VM | c::CLONE_THREAD | c::CLONE_SIGHAND | c::CLONE_FILES | c::CLONE_FS | c::CLONE_SYSVSEM;
        self.now(Sysno::clone, &[u64::from(flags)]).expect("a thread");
        self.born.pop().expect("a thread")
    }

    /// Sets an action.
    pub(super) fn action(&mut self, signal: u32, handler: u64, flags: u32, mask: u64) {
        let action = Sigaction { handler, flags: u64::from(flags | c::SA_RESTORER), restorer: 0x1234, mask };
        let at = memory(&self.task, 4096);
        self.task.mm().put(at, &action).expect("memory");
        assert_eq!(self.now(Sysno::rt_sigaction, &[u64::from(signal), at, 0, 8]), Ok(0));
    }

    /// Gives it a stack.
    pub(super) fn with_stack(mut self) -> Placed {
        self.cpu.general.rsp = memory(&self.task, 64 << 10) + (60 << 10);
        self
    }

    /// Waits for a child; answers its number and status.
    pub(super) fn wait(&mut self, pid: i64, options: u32) -> Result<(u64, i32), Errno> {
        let status = memory(&self.task, 4096);
        let pid = self.now(Sysno::wait4, &[pid as u64, status, u64::from(options), 0])?;
        Ok((pid, self.task.mm().get(status).expect("memory")))
    }
}
