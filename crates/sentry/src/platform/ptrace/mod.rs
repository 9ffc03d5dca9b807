//! The platform that works everywhere: guest code runs in processes that the sentry traces.
//!
//! One stub process per address space, one thread in it per guest task, each traced by the task's own thread of the sentry ([`stub`] says what else
//! is in a stub, and why guests can't use it). The guest runs under PTRACE_SYSEMU: a system call stops it and isn't made. To change the address
//! space, the same thread is sent into the stub's code, which makes a batch of calls, and stops.
//!
//! A stop and go is as few calls as can be: resume, look, set rax. On one CPU, resuming the stub puts it in front of us, so that the look
//! mostly finds it stopped again; only if not, wait4(2) is called ([decision 0080](../../../../../docs/decisions/0080-ptrace-fast-path.md)).

mod kick;
mod orders;
mod placement;
mod raw;
mod space;
mod stub;
mod vdso;

use super::mailbox::{self, Left};
use super::traps::{self, MAILBOXES, Traps};
use super::{Access, Call, Error, Event, Exception, Fault, Kick, Mailbox, MapOp, Memory, Registers, Result, SpawnKind, Tried};
use kick::Kicker;
use placement::{Cpus, Seat};
use raw::{Go, Stop, StopKind, Tid};
use rustix::io::Errno;
use space::{Farewell, Place, Slots, Space};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stub::{Order, StubFile, Then};
use vdso::Vdso;

/// The platform of one sandbox.
#[derive(Debug)]
pub struct Ptrace {
    shared: Arc<Shared>,
}

/// What all its contexts use.
#[derive(Debug)]
struct Shared {
    memory: Arc<Memory>,
    slots: Arc<Slots>,
    cpus: Arc<Cpus>,
    vdso: Option<Vdso>,
    vdso_code: Option<Vec<u8>>,
    vsyscall: bool,
    traps: Option<Arc<Traps>>,
}

impl Ptrace {
    /// Prepares it. From now on, SIGCHLD doesn't tell of stopped children any more.
    ///
    /// # Errors
    /// No room for the stub file.
    pub fn new(memory: Arc<Memory>) -> Result<Ptrace> {
        raw::no_signal_for_stops().tried("turn off signals for stops")?;
        let slots = Arc::new(Slots::new(StubFile::new()?));
        let cpus = Cpus::new().tried("ask for our CPUs")?;
        let traps = Traps::new()?;
        let vdso = Vdso::find();
        // Read now, for soon files can't be opened any more.
        let vdso_code = vdso.as_ref().and_then(Vdso::read);
        Ok(Ptrace {
            shared: Arc::new(Shared { memory, slots, cpus, vdso, vdso_code, vsyscall: vdso::answers_old_calls(), traps }),
        })
    }

    /// Whether the host's kernel answers guests' old calls (`[vsyscall]`), as far as `/proc` told when this was made.
    pub fn vsyscall(&self) -> bool {
        self.shared.vsyscall
    }

    /// Where guests find the vDSO, and its code; none if this process had no `/proc` to look for it when this was made, or has none itself.
    pub fn vdso(&self) -> Option<(u64, Vec<u8>)> {
        Some((self.shared.vdso.as_ref()?.address(), self.shared.vdso_code.clone()?))
    }

    /// Makes a task in an empty address space, with a process of its own. That process, and all that come from it, are the calling
    /// thread's children and end with it: it must be one that stays, and has the user and the namespaces that the sentry is to have.
    ///
    /// # Errors
    /// The host has no room for a process.
    pub fn first(&self) -> Result<Seed> {
        let slot = self.shared.slots.take().ok_or(Errno::AGAIN).tried("make a stub")?;
        match stub::first(self.shared.slots.file(), slot, self.shared.vdso) {
            Ok(pid) => Ok(Seed::of_process(&self.shared, pid, slot)),
            Err(error) => {
                self.shared.slots.give_back(slot);
                Err(error)
            }
        }
    }
}

/// A stub thread that nobody traces yet.
#[derive(Debug)]
struct Unattached {
    shared: Arc<Shared>,
    space: Arc<Space>,
    place: Place,
    tid: Tid,
}

/// A task that waits for its thread. Dropping it ends the task.
#[derive(Debug)]
pub struct Seed(Option<Unattached>);

impl Seed {
    fn of_process(shared: &Arc<Shared>, pid: Tid, slot: u64) -> Seed {
        let (space, place) = Space::new(Arc::clone(&shared.slots), pid, slot);
        Seed(Some(Unattached { shared: Arc::clone(shared), space, place, tid: pid }))
    }
}

impl super::Seed for Seed {
    type Context = Context;

    fn attach(mut self) -> Result<Context> {
        self.0.take().ok_or(Error::Gone).and_then(Context::attach)
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if let Some(unattached) = self.0.take() {
            drop(Context::attach(unattached));
        }
    }
}

/// A stub thread, traced by the thread that has this.
#[derive(Debug)]
pub struct Context {
    shared: Arc<Shared>,
    space: Arc<Space>,
    place: Place,
    tid: Tid,
    kicker: Arc<Kicker>,
    /// Until the stub's number may be another's.
    seat: Option<Seat>,
    registers: Registers,
    state: Loaded,
    life: Life,
    orders: Vec<Order>,
    mailbox: Option<Arc<Mailbox>>,
    /// The guest goes on by one instruction.
    steps: bool,
    /// Only the tracer may ask for anything.
    _not_send: PhantomData<*const ()>,
}

/// What we know of a stub thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Alive,
    /// It is about to end.
    Killed,
    /// It has ended, and its number may be another's.
    Reaped,
}

/// Where the guest's registers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loaded {
    /// In the stub, all of them.
    There,
    /// In the stub, but rax, which is to be this.
    Result(u64),
    /// In the stub, and we have a copy.
    Both,
    /// We have them.
    Here,
}

impl Context {
    fn attach(unattached: Unattached) -> Result<Context> {
        let Unattached { shared, space, place, tid } = unattached;
        let seat = shared.cpus.seat(tid);
        let kicker = Arc::new(Kicker::new(space.pid, tid));
        let registers = stub::initial();
        let mut context = Context {
            shared,
            space,
            place,
            tid,
            kicker,
            seat: Some(seat),
            registers,
            state: Loaded::Here,
            life: Life::Alive,
            orders: Vec::new(),
            mailbox: None,
            steps: false,
            _not_send: PhantomData,
        };
        let options = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACESECCOMP;
        if let Err(errno) = seize(tid, options).and_then(|()| raw::interrupt(tid)) {
            context.abandon();
            return Err(errno).tried("trace a stub");
        }
        while !context.is_ready()? {
            context.host(|tid| raw::resume(tid, Go::Stub))?;
        }
        Ok(context)
    }

    /// Waits for the next stop, and gives whether the stub is done with how it came to be.
    fn is_ready(&mut self) -> Result<bool> {
        let stop = self.wait()?;
        Ok(match stop.kind {
            StopKind::Filter => stop.number == stub::READY,
            StopKind::Other => stub::is_parked(stop.ip),
            StopKind::Syscall => false,
        })
    }

    /// Asks the host about the stub, which must be stopped; any failure means that it was killed.
    fn host<T>(&mut self, ask: impl FnOnce(Tid) -> rustix::io::Result<T>) -> Result<T> {
        if self.life != Life::Alive {
            return Err(Error::Gone);
        }
        ask(self.tid).map_err(|_| self.abandon())
    }

    /// The stub doesn't do what we want: its process ends, and we have nothing to do with it any more.
    fn abandon(&mut self) -> Error {
        if self.life == Life::Alive {
            self.life = Life::Killed;
            self.space.kill();
        }
        Error::Gone
    }

    /// The stop after a resumption.
    fn wait(&mut self) -> Result<Stop> {
        loop {
            if let Ok(stop) = raw::stop(self.tid) {
                return Ok(stop);
            }
            // Most likely it only runs.
            if raw::wait(self.tid).unwrap_or(true) {
                self.life = Life::Reaped;
                return Err(Error::Gone);
            }
        }
    }

    /// Has a copy of the registers.
    fn fetch(&mut self) -> Result<()> {
        let result = match self.state {
            _ if self.life != Life::Alive => return Err(Error::Gone),
            Loaded::Both | Loaded::Here => return Ok(()),
            Loaded::There => None,
            Loaded::Result(rax) => Some(rax),
        };
        let mut registers = self.registers;
        self.host(|tid| raw::registers(tid, &mut registers))?;
        self.registers = registers;
        self.state = Loaded::Both;
        if self.mailbox.is_some() && registers.gs_base == self.mailbox_address() {
            self.registers.gs_base = 0;
        }
        if let Some(next) = self.shared.traps.as_ref().and_then(|traps| traps.made_for(registers.rip)) {
            self.registers.rip = next;
            self.state = Loaded::Here;
        }
        if let Some(rax) = result {
            self.registers.rax = rax;
            self.state = Loaded::Here;
        }
        Ok(())
    }

    /// The stub has the registers.
    fn load(&mut self) -> Result<()> {
        match self.state {
            Loaded::There | Loaded::Both => return Ok(()),
            // For these, the host would restart the call if a signal stops the stub on its way out.
            Loaded::Result(rax) if (-516..=-512).contains(&(rax as i64)) => {
                self.fetch()?;
                return self.load();
            }
            Loaded::Result(rax) => self.host(|tid| raw::set_rax(tid, rax))?,
            Loaded::Here => {
                let mut registers = stub::loadable(&self.registers);
                // Where its traps find the mailbox; nobody has set another.
                if self.mailbox.is_some() && registers.gs_base == 0 && registers.gs == 0 {
                    registers.gs_base = self.mailbox_address();
                }
                self.host(|tid| raw::set_registers(tid, &registers))?;
            }
        }
        self.state = Loaded::There;
        Ok(())
    }

    /// Runs the guest to its next stop; none if that means nothing.
    fn run(&mut self) -> Result<Option<Event>> {
        self.load()?;
        let go = if self.steps { Go::Step } else { Go::Guest };
        self.host(|tid| raw::resume(tid, go))?;
        let stop = self.wait()?;
        self.state = Loaded::There;
        match stop.kind {
            StopKind::Syscall if stop.arch == stub::AUDIT_ARCH_X86_64 => {}
            // As on a kernel without 32-bit programs: the instruction is forbidden.
            StopKind::Syscall => {
                self.fetch()?;
                self.registers.rip = stop.ip - 2;
                self.state = Loaded::Here;
                return Ok(Some(Event::Exception(Exception { signal: libc::SIGSEGV, code: SI_KERNEL, address: 0 })));
            }
            // A call of the vsyscall page's, which the host makes for us unless it is told that it is over.
            StopKind::Filter => {
                self.fetch()?;
                self.state = Loaded::Here;
            }
            StopKind::Other => return self.signal(stop),
        }
        Ok(Some(Event::Syscall(made(&stop))))
    }

    /// What a signal means; none if it is from outside.
    fn signal(&mut self, stop: Stop) -> Result<Option<Event>> {
        let raised = self.host(raw::signal)?;
        let raw::Signal { number: signal, code, address } = raised;
        if !raised.is_exception() {
            let kicked = signal == kick::SIGNAL && self.kicker.is_kicked();
            return if kicked { self.leave_trap(stop.ip).map(Some) } else { Ok(None) };
        }
        let about_memory = matches!(signal, libc::SIGSEGV | libc::SIGBUS) && code != SI_KERNEL;
        Ok(Some(if about_memory {
            let fetched = (stop.ip..stop.ip.saturating_add(LONGEST_INSTRUCTION)).contains(&address);
            let access = if fetched { Access::Execute } else { Access::Unknown };
            Event::Fault(Fault { signal, code, address, access })
        } else {
            Event::Exception(Exception { signal, code, address })
        }))
    }

    /// Lets a guest that was interrupted in a trap go on until it is out of it, or makes its call.
    fn leave_trap(&mut self, mut ip: u64) -> Result<Event> {
        if traps::AREA.contains(&ip)
            && let Some(mailbox) = &self.mailbox
        {
            mailbox.close();
            mailbox.turn_away();
        }
        for _ in 0..traps::LONGEST {
            if !traps::AREA.contains(&ip) {
                break;
            }
            self.host(|tid| raw::resume(tid, Go::Step))?;
            let stop = self.wait()?;
            if stop.kind == StopKind::Syscall {
                return Ok(Event::Syscall(made(&stop)));
            }
            ip = stop.ip;
        }
        Ok(Event::Interrupted)
    }

    /// Where the guest has its mailbox, if it has one.
    fn mailbox_address(&self) -> u64 {
        MAILBOXES + self.place.local * mailbox::SIZE
    }
}

impl super::Context for Context {
    type Seed = Seed;

    fn enter(&mut self) -> Event {
        if !self.kicker.begin() {
            return Event::Interrupted;
        }
        if let Some(mailbox) = &self.mailbox {
            mailbox.open();
        }
        let mut event = loop {
            match self.run() {
                Ok(Some(event)) => break event,
                Ok(None) if self.kicker.is_kicked() => break Event::Interrupted,
                Ok(None) => {}
                Err(_) => break Event::Gone,
            }
        };
        match event {
            Event::Interrupted => self.kicker.obey(),
            _ => self.kicker.end(),
        }
        if self.steps && !matches!(event, Event::Fault(_) | Event::Interrupted) {
            self.steps = false;
        }
        if let Some(mailbox) = &self.mailbox {
            mailbox.close();
            match (mailbox.take(), &mut event) {
                (Left::Answer(result), Event::Syscall(call)) if call.trapped => call.answer = Some(result),
                // Who looks here has too much to do.
                (Left::Unasked, _) => mailbox.set_watched(false),
                _ => {}
            }
        }
        event
    }

    fn registers(&mut self) -> Result<&Registers> {
        self.fetch()?;
        Ok(&self.registers)
    }

    fn registers_mut(&mut self) -> Result<&mut Registers> {
        self.fetch()?;
        self.state = Loaded::Here;
        Ok(&mut self.registers)
    }

    fn set_result(&mut self, rax: u64) {
        match self.state {
            Loaded::Here => self.registers.rax = rax,
            Loaded::There | Loaded::Both | Loaded::Result(_) => self.state = Loaded::Result(rax),
        }
    }

    fn fpu(&mut self) -> Result<Vec<u8>> {
        self.host(raw::xstate)
    }

    fn set_fpu(&mut self, state: &[u8]) -> Result<()> {
        if self.life != Life::Alive {
            return Err(Error::Gone);
        }
        raw::set_xstate(self.tid, state).tried("set floating-point state")
    }

    fn step(&mut self, steps: bool) {
        self.steps = steps;
    }

    fn apply(&mut self, ops: &[MapOp]) -> Result<()> {
        self.orders.clear();
        let wrong = self.encode(ops);
        if !self.orders.is_empty() {
            self.make(0, Then::Nothing)?;
        }
        wrong.map_or(Ok(()), |index| Err(Error::Map { index, errno: Errno::INVAL }))
    }

    fn spawn(&mut self, kind: SpawnKind, ops: &[MapOp]) -> Result<Seed> {
        self.orders.clear();
        match self.encode(ops) {
            None => self.clone_stub(kind),
            Some(index) => Err(Error::Map { index, errno: Errno::INVAL }),
        }
    }

    fn rest(&self, rests: bool) {
        if let Some(seat) = &self.seat {
            seat.rest(rests);
        }
    }

    fn allow(&self, processors: u64) {
        if let Some(seat) = &self.seat {
            seat.allow(processors);
        }
    }

    fn traps(&self) -> Option<&Arc<Traps>> {
        self.shared.traps.as_ref()
    }

    fn mailbox(&mut self) -> Result<Option<Arc<Mailbox>>> {
        if self.mailbox.is_none() && self.shared.traps.is_some() {
            self.orders.clear();
            self.orders.extend(self.space.map_mailboxes());
            if !self.orders.is_empty() {
                self.make(0, Then::Nothing)?;
            }
            self.fetch()?;
            self.state = Loaded::Here;
            self.mailbox = self.space.mailbox(self.place).map(Arc::new);
        }
        Ok(self.mailbox.clone())
    }

    fn cpus(&self) -> Arc<dyn super::Cpus> {
        Arc::clone(&self.shared.cpus) as _
    }

    fn kick(&self) -> Arc<dyn Kick> {
        Arc::clone(&self.kicker) as Arc<dyn Kick>
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.seat = None;
        let reaped = self.life == Life::Reaped;
        let reap = |tid| while let Ok(false) = raw::wait(tid) {};
        // Where something fails, the stub is gone already.
        match self.space.leave(self.place, self.tid, reaped) {
            Farewell::Kill { leader } => {
                if leader || !reaped {
                    self.space.kill();
                    reap(self.tid);
                }
                if leader {
                    reap(self.space.pid);
                }
            }
            Farewell::Leave if self.life == Life::Alive => drop(self.leave()),
            Farewell::Park if self.life == Life::Alive => drop(self.park()),
            Farewell::Leave => reap(self.tid),
            Farewell::Park => {}
        }
    }
}

/// Becomes the tracer of a stub. The first one may still be on its way to where it can be traced: we have no right to others any more, and it has
/// to give up its own.
fn seize(tid: Tid, options: i32) -> rustix::io::Result<()> {
    let start = Instant::now();
    loop {
        match raw::seize(tid, options) {
            Err(Errno::PERM) if start.elapsed() < PATIENCE => std::thread::park_timeout(Duration::from_millis(1)),
            result => return result,
        }
    }
}

/// How long the first stub may take on a busy machine. One that is dead, or may not be traced, looks the same.
const PATIENCE: Duration = Duration::from_secs(10);

/// The call of a stop.
fn made(stop: &Stop) -> Call {
    let trapped = traps::AREA.contains(&stop.ip);
    Call { number: stop.number, args: stop.args, ip: stop.ip, sp: stop.sp, trapped, answer: None }
}

/// `si_code` of a signal for what a processor forbids without an address.
const SI_KERNEL: i32 = 0x80;

/// In bytes; a fault so close behind the instruction pointer is most likely the instruction's own.
const LONGEST_INSTRUCTION: u64 = 15;
