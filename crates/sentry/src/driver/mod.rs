//! Runs tasks: one host thread for each, for ever.
//!
//! A [`Seat`] is that thread's loop: make the changes of the address space, let the program run, see what it wants, give signals the
//! last word. The stub and this thread take turns; while one works, the other waits.
//!
//! | module | holds |
//! |---|---|
//! | `cpu` | a task's registers, as the kernel reaches them |
//! | `dispatcher` | calls that are made without a stop |
//! | `park` | waiting for what a call waits for |
//! | `patch` | where a program makes such calls |
//! | [`strace`] | telling of calls |
//! | `traced` | calls of tasks that others trace |

mod cpu;
mod dispatcher;
mod park;
mod patch;
pub mod strace;
mod traced;

use crate::platform::{self, Access, Call, Context, Event, Seed, SpawnKind};
use cpu::StubCpu;
use dispatcher::Desk;
use insula_abi::Sysno;
use insula_abi::general as c;
use insula_abi::signal::Siginfo;
use insula_kernel::cpu::Cpu;
use insula_kernel::flow::{Blocked, Newborn, NewbornMemory, SysResult, Undecided};
use insula_kernel::mm::{self, Log, MapOp, MapSource, Mm};
use insula_kernel::signal::{self, Next};
use insula_kernel::syscall::{self, carry_out, dispatch};
use insula_kernel::task::{Busy, InCall, Task};
use insula_kernel::{Errno, Flow, Kernel, Regs};
use park::Waiter;
use patch::{Count, Patches, Places};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Stack of a task's thread, in bytes: calls are shallow, and what is never touched costs nothing.
const STACK: usize = 256 << 10;

/// Starts a task's thread, which takes the seed over and runs the task to its end.
///
/// # Errors
/// The host has no room for a thread.
pub fn start<S: Seed + 'static>(seed: S, task: Arc<Task>, regs: Regs, token: Token) -> std::io::Result<()> {
    let name = format!("task-{}", task.tid());
    let run = move || match seed.attach() {
        Ok(context) => Seat::new(context, task, token).run(&regs),
        // The host killed it before it ran.
        Err(_) => lose(&task),
    };
    std::thread::Builder::new().name(name).stack_size(STACK).spawn(run).map(drop)
}

/// The status of who was killed, as wait(2) tells it.
const KILLED: i32 = c::SIGKILL as i32;

/// Tells who shares a stub: all that have a copy of its token do. They make changes of the address space one after the other, in the order
/// of the log.
#[derive(Clone, Debug, Default)]
pub struct Token(Arc<Mutex<Patches>>);

impl Token {
    /// For a copy of an address space.
    fn with(patches: Option<&Patches>) -> Token {
        Token(Arc::new(Mutex::new(patches.cloned().unwrap_or_default())))
    }

    /// Whether anybody shares it.
    fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    fn lock(&self) -> MutexGuard<'_, Patches> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The host has killed a task's stub, most likely for want of memory: as if by `SIGKILL`.
fn lose(task: &Arc<Task>) {
    signal::send::force_fatal(task, KILLED);
    task.exit(KILLED);
}

/// A task in its thread.
struct Seat<C: Context> {
    kernel: Arc<Kernel>,
    task: Arc<Task>,
    context: C,
    token: Token,
    /// The address space the stub shows.
    mm: Arc<Mm>,
    waiter: Waiter,
    places: Places,
    /// Where others make its calls; none before it makes many.
    desk: Option<Arc<Desk>>,
    /// Calls of traps that were made here after all: how many, and since when by the monotonic clock.
    missed: (u32, u64),
    /// Its calls are told on standard error.
    strace: bool,
    /// Its program goes on by one instruction.
    steps: bool,
}

/// Lets a task be brought back from its program.
struct Kicker(Arc<dyn platform::Kick>);

impl insula_kernel::task::Kick for Kicker {
    fn kick(&self) {
        self.0.kick();
    }
}

impl<C: Context> Seat<C>
where
    C::Seed: 'static,
{
    fn new(context: C, task: Arc<Task>, token: Token) -> Self {
        task.placed(Arc::new(Kicker(context.kick())));
        Seat {
            kernel: task.kernel().clone(),
            mm: task.mm(),
            task,
            context,
            token,
            waiter: Waiter::new(),
            places: Places::new(),
            desk: None,
            missed: (0, 0),
            strace: strace::is_on(),
            steps: false,
        }
    }

    /// Runs the task to its end.
    fn run(mut self, regs: &Regs) {
        match self.context.registers_mut() {
            Ok(host) => *host = cpu::to_host(regs),
            Err(_) => return lose(&self.task),
        }
        self.context.rest(false);
        // A signal may have come before the task could be kicked.
        let mut going = self.settle(false);
        while going.is_continue() {
            going = self.turn();
        }
        // The stub ends before its memory is anybody else's.
        let Seat { context, mm, .. } = self;
        drop(context);
        drop(mm);
    }

    /// Lets the program run until it wants something, and gives it that.
    fn turn(&mut self) -> ControlFlow<()> {
        if self.show().is_err() {
            return self.gone();
        }
        if let Some(processors) = self.task.moved() {
            self.context.allow(processors);
        }
        self.task.busy(Busy::Program);
        let event = self.context.enter();
        self.task.busy(Busy::Kernel);
        match event {
            Event::Syscall(call) => self.call(&call),
            Event::Fault(fault) => self.fault(&fault),
            Event::Exception(exception)
                if exception.signal == c::SIGILL as i32 && self.token.lock().is_halfway(exception.address) =>
            {
                self.halfway()
            }
            Event::Exception(exception) => {
                if self.is_stale_step(&exception) {
                    return ControlFlow::Continue(());
                }
                let info = Siginfo::fault(exception.signal, exception.code, exception.address);
                signal::send::force(&self.task, info);
                self.settle(false)
            }
            Event::Interrupted => self.settle(false),
            Event::Gone => self.gone(),
        }
    }

    fn gone(&self) -> ControlFlow<()> {
        lose(&self.task);
        ControlFlow::Break(())
    }

    /// Makes the changes of the address space that wait.
    fn show(&mut self) -> platform::Result<()> {
        // What another has taken out of the log counts once it is made: this one may have caused it, and must not see what was before.
        let _turn = self.token.is_shared().then(|| self.token.lock());
        if !self.mm.has_changes() {
            return Ok(());
        }
        let Log { ops, kept } = self.mm.take_log();
        self.context.apply(&translated(&ops))?;
        drop(kept);
        Ok(())
    }

    /// A system call.
    fn call(&mut self, call: &Call) -> ControlFlow<()> {
        let handed = self.desk.as_ref().and_then(|desk| desk.take()).or_else(|| call.answer.map(|value| Ok(Flow::Done(value))));
        let missed = handed.is_none();
        let made = insula_kernel::cpu::Call { number: call.number, arguments: call.args };
        if self.strace {
            strace::called(&self.task, &made);
        }
        // A copy is of one moment: from where the core has taken it until the stub can't write to what is shared, who has got a page of its
        // own doesn't go on. It could write both to that, unseen by the child, and to others, seen.
        let token = copies(call.number).then(|| self.token.clone());
        let mut turn = token.as_ref().map(Token::lock);
        let mut outcome = match handed {
            Some(outcome) => outcome,
            None => self.make(|kernel, task, cpu| dispatch(kernel, task, cpu, &made))?,
        };
        let place = InCall { call: made, sp: call.sp, ip: call.ip };
        if let Ok(Flow::Asked(decision)) = outcome {
            // Who decides may need it.
            drop(turn.take());
            outcome = self.decided(decision, place, || turn = token.as_ref().map(Token::lock))?;
        }
        let result = match outcome {
            Ok(Flow::Done(value)) => Ok(value),
            Ok(Flow::Block(future)) => self.wait_in(place, future),
            Ok(Flow::Clone(newborn)) => {
                let born = self.bear(*newborn, turn.as_deref());
                // The child may need it while the maker waits.
                drop(turn.take());
                born.and_then(|(tid, wait)| wait.map_or(Ok(tid), |future| self.wait(future)))
            }
            Ok(Flow::Registers) => return self.settle(false),
            Ok(Flow::Exit) => return ControlFlow::Break(()),
            Ok(Flow::Traced(_)) => {
                drop(turn);
                return self.traced_call();
            }
            Ok(Flow::Asked(_)) => Err(Errno::ENOSYS),
            Err(errno) => Err(errno),
        };
        drop(turn);
        if self.strace {
            strace::answered(&self.task, &made, result);
        }
        self.context.set_result(syscall::result(result));
        if missed && self.hasten(call).is_err() {
            return self.gone();
        }
        self.settle(result.is_err_and(Errno::restarts))
    }

    /// Has the kernel work at a call.
    fn make(&mut self, work: impl FnOnce(&Arc<Kernel>, &Arc<Task>, &mut dyn Cpu) -> SysResult) -> ControlFlow<(), SysResult> {
        let mut cpu = StubCpu::new(&mut self.context);
        let outcome = work(&self.kernel, &self.task, &mut cpu);
        // Who has the turn knows where its program is.
        if cpu.finish(|ip| ip).is_err() {
            self.gone()?;
        }
        ControlFlow::Continue(outcome)
    }

    /// Waits for what somebody decides about a call, and makes it, after `prepare`, if that is to be.
    fn decided(&mut self, decision: Undecided, place: InCall, prepare: impl FnOnce()) -> ControlFlow<(), SysResult> {
        match self.wait_in(place, decision) {
            Some(result) => ControlFlow::Continue(result.map(Flow::Done)),
            None => {
                prepare();
                self.make(|kernel, task, cpu| carry_out(kernel, task, cpu, &place.call))
            }
        }
    }

    /// Sees to it that calls that are made often are made without a stop.
    fn hasten(&mut self, call: &Call) -> platform::Result<()> {
        const MISSED: u32 = 32;
        const SOON: u64 = 2_000_000;
        if self.task.confinement.sends_back() {
            // From where calls are made says what becomes of them.
            self.token.lock().forbid(&self.mm);
            return Ok(());
        }
        if call.trapped {
            self.missed.0 += 1;
            if self.missed.0 >= MISSED {
                let now = self.kernel.host.clock.monotonic();
                let soon = now - self.missed.1 < SOON;
                self.missed = (0, now);
                if soon {
                    self.be_served()?;
                }
            }
            return Ok(());
        }
        let count = self.places.count(call.ip);
        if count != Count::Other && !self.strace {
            let alone = !self.token.is_shared();
            if let Some(traps) = self.context.traps() {
                let mut patches = self.token.lock();
                let _ = patches.add(traps, &self.mm, call, count, alone);
                let onward = patches.onward(call.ip);
                drop(patches);
                if onward != call.ip {
                    self.context.registers_mut()?.rip = onward;
                }
            }
        }
        Ok(())
    }

    /// Has others make this task's calls.
    fn be_served(&mut self) -> platform::Result<()> {
        if self.desk.is_none() {
            let mailbox = self.context.mailbox()?;
            self.desk = mailbox.map(|mailbox| Desk::new(&self.task, mailbox));
        }
        if let Some(desk) = &self.desk {
            dispatcher::watch(desk, || self.context.cpus());
        }
        Ok(())
    }

    /// A call whose instruction was replaced when the program was about to come to it.
    fn halfway(&mut self) -> ControlFlow<()> {
        let Ok(regs) = self.context.registers_mut() else { return self.gone() };
        regs.rip += 2;
        regs.orig_rax = regs.rax;
        let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
        let call = Call { number: regs.rax, args, ip: regs.rip, sp: regs.rsp, trapped: true, answer: None };
        self.call(&call)
    }

    /// Places a new task; answers its number, and what its maker waits for. The turn at the address space is this task's.
    fn bear(&mut self, newborn: Newborn, patches: Option<&Patches>) -> insula_kernel::Result<(u64, Option<Blocked>)> {
        let (kind, token, log) = match newborn.memory {
            NewbornMemory::Shared => (SpawnKind::Thread, self.token.clone(), self.mm.take_log()),
            NewbornMemory::Copied => (SpawnKind::Copy, Token::with(patches), self.mm.take_copied()),
        };
        let Log { ops, kept } = log;
        let seed = self.context.spawn(kind, &translated(&ops));
        drop(kept);
        let started = seed.is_ok_and(|seed| start(seed, newborn.task.clone(), newborn.regs, token).is_ok());
        if !started {
            newborn.abandon(&self.task);
            return Err(Errno::EAGAIN);
        }
        let Newborn { task, wait, .. } = newborn;
        Ok((self.task.name_of(task.tid()) as u64, wait))
    }

    /// The program touched memory that the stub doesn't have.
    fn fault(&mut self, fault: &platform::Fault) -> ControlFlow<()> {
        const SEGV_ACCERR: i32 = 2;
        let access = match fault.access {
            Access::Execute => mm::Access::Execute,
            // What may be read is read without a fault once it is there.
            Access::Unknown if fault.code == SEGV_ACCERR => mm::Access::Write,
            Access::Unknown => mm::Access::Read,
        };
        let outcome = match fault.signal as u32 {
            // The file under a mapping is shorter than the mapping.
            c::SIGBUS => Err(mm::Fault::PastEnd),
            _ => self.mm.fault(fault.address, access),
        };
        let Err(why) = outcome else { return ControlFlow::Continue(()) };
        self.task.signals().fault = told_of(fault, access);
        let (signo, code) = match why {
            mm::Fault::NotMapped => (c::SIGSEGV, c::SEGV_MAPERR),
            mm::Fault::NotAllowed => (c::SIGSEGV, c::SEGV_ACCERR),
            mm::Fault::PastEnd => (c::SIGBUS, c::BUS_ADRERR),
            mm::Fault::NoMemory => {
                signal::send::force_fatal(&self.task, KILLED);
                return self.settle(false);
            }
        };
        signal::send::force(&self.task, Siginfo::fault(signo as i32, code as i32, fault.address));
        self.settle(false)
    }

    /// Signals, stops and ends have their say; after it the program goes on, or not.
    fn settle(&mut self, mut restarts: bool) -> ControlFlow<()> {
        loop {
            let mut cpu = StubCpu::new(&mut self.context);
            let next = signal::deliver(&self.task, &mut cpu, restarts);
            if cpu.finish(|ip| self.token.lock().onward(ip)).is_err() {
                return self.gone();
            }
            restarts = false;
            match next {
                Next::Enter => return ControlFlow::Continue(()),
                Next::Step => {
                    self.pace(true);
                    return ControlFlow::Continue(());
                }
                Next::Begin => return self.begin(),
                Next::Wait(future) => {
                    self.hold(future);
                    self.pace(false);
                }
                Next::End => return ControlFlow::Break(()),
            }
        }
    }

    fn hold(&self, future: Blocked) {
        // It ends when it may; what it says doesn't matter.
        let _ = self.wait(future);
    }

    fn wait<T>(&self, future: Pin<Box<dyn Future<Output = T> + Send>>) -> T {
        self.context.rest(true);
        let result = self.waiter.wait(&self.task, future);
        self.context.rest(false);
        result
    }

    /// Waits in a call, and lets others know in which.
    fn wait_in<T>(&self, place: InCall, future: Pin<Box<dyn Future<Output = T> + Send>>) -> T {
        *self.task.in_call.lock() = Some(place);
        let result = self.wait(future);
        *self.task.in_call.lock() = None;
        result
    }

    /// The task has another address space, by execve(2).
    fn begin(&mut self) -> ControlFlow<()> {
        let before = std::mem::replace(&mut self.mm, self.task.mm());
        if Arc::ptr_eq(&before, &self.mm) {
            return ControlFlow::Continue(());
        }
        let done = if self.token.is_shared() { self.move_out() } else { self.clear() };
        self.places = Places::new();
        // Nothing of the old one may be given to others before it is out of sight.
        drop(before);
        if done.is_err() { self.gone() } else { ControlFlow::Continue(()) }
    }

    /// Takes everything out of the stub's address space.
    fn clear(&mut self) -> platform::Result<()> {
        *self.token.lock() = Patches::default();
        self.context.apply(&[platform::MapOp::Unmap { start: 0, len: platform::GUEST_END }])
    }

    /// Leaves the stub to those who share it, for one of its own.
    fn move_out(&mut self) -> platform::Result<()> {
        let regs = *self.context.registers()?;
        let mut fresh = self.context.spawn(SpawnKind::Empty, &[])?.attach()?;
        *fresh.registers_mut()? = regs;
        self.task.placed(Arc::new(Kicker(fresh.kick())));
        fresh.rest(false);
        self.context = fresh;
        self.token = Token::default();
        self.desk = None;
        // Who kicked the old one meant this task.
        self.task.interrupt();
        Ok(())
    }
}

/// Whether a call may copy the address space.
fn copies(number: u64) -> bool {
    [Sysno::fork, Sysno::vfork, Sysno::clone, Sysno::clone3].iter().any(|call| *call as u64 == number)
}

/// What a signal frame tells of a fault: the processor's exception for pages, its error code as far as it is known, the address.
fn told_of(fault: &platform::Fault, access: mm::Access) -> signal::FaultRegisters {
    const PAGE_FAULT: u64 = 14;
    const PRESENT: u64 = 1;
    const FROM_USER: u64 = 4;
    let why = match access {
        mm::Access::Read => 0,
        mm::Access::Write => PRESENT | 2,
        mm::Access::Execute => PRESENT | 16,
    };
    signal::FaultRegisters { trap: PAGE_FAULT, error: FROM_USER | why, address: fault.address }
}

/// As the platform has them.
fn translated(ops: &[MapOp]) -> Vec<platform::MapOp> {
    let translate = |op: &MapOp| match op {
        MapOp::Map { start, len, protection, source, offset } => platform::MapOp::Map {
            start: *start,
            len: *len,
            prot: u32::from(protection.bits()),
            source: match source {
                MapSource::Memory => platform::Source::Memory,
                MapSource::Host(file) => platform::Source::File(file.token() as i32),
            },
            offset: *offset,
        },
        MapOp::Unmap { start, len } => platform::MapOp::Unmap { start: *start, len: *len },
        MapOp::Protect { start, len, protection } => {
            platform::MapOp::Protect { start: *start, len: *len, prot: u32::from(protection.bits()) }
        }
    };
    ops.iter().map(translate).collect()
}
