//! A tracee's own part: all of this runs in its own thread.

use super::{Pace, Stop, Trace};
use crate::cpu::Cpu;
use crate::flow::Blocked;
use crate::signal::send::{Target, send};
use crate::signal::stop::ticks;
use crate::task::Task;
use crate::wait::Events;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::future::poll_fn;
use core::task::Poll;
use insula_abi::general as c;
use insula_abi::ptrace as p;
use insula_abi::signal::Siginfo;

/// What a tracee tells its tracer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It is about to make a call.
    Entry,
    /// It has made one.
    Exit,
    /// Something has happened, `PTRACE_EVENT_*`; with a message.
    Event(u32, u64),
    /// A filter says that the tracer decides about a call, with this value (`SECCOMP_RET_TRACE`).
    Filter(u32),
    /// It takes a signal.
    Signal(Siginfo),
    /// Its group stops by this signal, or, if that is `SIGTRAP`, it was asked to stop.
    Group(i32),
}

impl Report {
    /// What wait(2) is told.
    fn status(&self, trace: &Trace) -> i32 {
        const TRAP: i32 = c::SIGTRAP as i32;
        let (signal, event) = match self {
            Report::Entry | Report::Exit => (if trace.has(p::PTRACE_O_TRACESYSGOOD) { TRAP | 0x80 } else { TRAP }, 0),
            Report::Event(event, _) => (TRAP, *event),
            Report::Filter(_) => (TRAP, p::PTRACE_EVENT_SECCOMP),
            Report::Signal(info) => (info.signo, 0),
            Report::Group(signal) => (*signal, if trace.is_seized() { p::PTRACE_EVENT_STOP } else { 0 }),
        };
        signal << 8 | 0x7f | (event as i32) << 16
    }

    /// What `PTRACE_GETSIGINFO` tells.
    fn info(&self, status: i32, trace: &Trace, task: &Task) -> Option<Siginfo> {
        match self {
            Report::Signal(info) => Some(*info),
            Report::Group(_) if !trace.is_seized() => None,
            // The status without its lowest byte, as Linux has it.
            _ => Some(Siginfo::sent(c::SIGTRAP as i32, status >> 8, task.tid(), task.credentials().uid.real)),
        }
    }

    /// What `PTRACE_GETEVENTMSG` tells.
    pub(super) fn message(&self) -> u64 {
        match self {
            Report::Entry => p::PTRACE_EVENTMSG_SYSCALL_ENTRY.into(),
            Report::Exit => p::PTRACE_EVENTMSG_SYSCALL_EXIT.into(),
            Report::Event(_, message) => *message,
            Report::Filter(data) => (*data).into(),
            Report::Signal(_) | Report::Group(_) => 0,
        }
    }
}

/// How a tracee goes on.
pub struct Resumed {
    report: Report,
    /// The signal that the tracer gave along; 0 is none.
    signal: i32,
    /// What is told of it.
    info: Option<Siginfo>,
}

/// Stops, with this to tell; the future ends when the tracee is to go on, by [`resume`]. None if nobody traces it any more.
pub fn stop(task: &Arc<Task>, cpu: &mut dyn Cpu, report: Report) -> Option<Blocked> {
    let extended = cpu.extended();
    let tracer = {
        let mut trace = task.trace.lock();
        let tracer = trace.by.as_ref()?.task.upgrade()?;
        let status = report.status(&trace);
        let info = report.info(status, &trace, task);
        let (regs, resumed) = (*cpu.regs(), None);
        trace.stop =
            Some(Stop { report, status, told: false, info, regs, extended, extended_changed: false, listening: false, resumed });
        tracer
    };
    if let Report::Group(_) = report {
        crate::signal::stop::take_part(task);
    }
    tell(&tracer, task, report);
    let task = task.clone();
    Some(Box::pin(poll_fn(move |context| {
        task.wait_with(context.waker());
        let gone_on = task.trace.lock().stop.as_ref().is_none_or(|stop| stop.resumed.is_some());
        // Who is to end doesn't stand still, unless that is what it tells.
        let ends = task.ends().is_some() && !matches!(report, Report::Event(p::PTRACE_EVENT_EXIT, _));
        if gone_on || ends { Poll::Ready(Ok(0)) } else { Poll::Pending }
    })))
}

/// The tracer may wait for this, and is sent `SIGCHLD` unless it doesn't want it.
fn tell(tracer: &Arc<Task>, task: &Task, report: Report) {
    let process = &tracer.process;
    let action = process.actions().lock().get(c::SIGCHLD as i32);
    if action.flags & u64::from(c::SA_NOCLDSTOP) == 0 {
        let (code, signal) = match report {
            Report::Group(signal) => (c::CLD_STOPPED, signal),
            Report::Signal(info) => (c::CLD_TRAPPED, info.signo),
            _ => (c::CLD_TRAPPED, c::SIGTRAP as i32),
        };
        let (user, system) = task.times();
        let uid = task.credentials().uid.real;
        let info = Siginfo::child(code as i32, task.tid(), uid, signal, ticks(user), ticks(system));
        // The state itself can be waited for, if the queue is full.
        let _ = send(Target::Process(process), info);
    }
    process.children.wake(Events::READABLE);
}

/// Goes on after a stop: takes over what the tracer has changed. None if it hasn't stopped.
pub fn resume(task: &Arc<Task>, cpu: &mut dyn Cpu) -> Option<Resumed> {
    let stop = task.trace.lock().stop.take()?;
    *cpu.regs() = stop.regs;
    if stop.extended_changed {
        // It was looked at when it was set; a processor that doesn't take it keeps what it has.
        cpu.set_extended(&stop.extended);
    }
    let signal = stop.resumed.unwrap_or(0);
    if task.trace.lock().by.is_none() {
        task.confinement.set_traced(false);
    }
    match stop.report {
        // A signal that comes with it is a new one.
        Report::Entry | Report::Exit if signal != 0 => {
            let by = task.tracer().map_or((0, 0), |tracer| (tracer.process.pid, tracer.credentials().uid.real));
            let _ = send(Target::Task(task), Siginfo::sent(signal, c::SI_USER as i32, by.0, by.1));
        }
        Report::Group(_) if task.process.lock().stop.is_some() => task.trace.lock().passed_group_stop = true,
        _ => {}
    }
    Some(Resumed { report: stop.report, signal, info: stop.info })
}

impl Resumed {
    /// The signal that is to be taken now, if it came to a stop by one: that, or the one that the tracer gave in its place.
    pub(crate) fn signal(self, task: &Task) -> Option<Siginfo> {
        let Report::Signal(_) = self.report else { return None };
        let info = self.info.filter(|_| self.signal != 0)?;
        if info.signo == self.signal {
            return Some(info);
        }
        let by = task.tracer().map_or((0, 0), |tracer| (tracer.process.pid, tracer.credentials().uid.real));
        Some(Siginfo::sent(self.signal, c::SI_USER as i32, by.0, by.1))
    }
}

/// At the beginning of a call: what is to be told of it.
pub fn entering(task: &Task) -> Option<Report> {
    let trace = task.trace.lock();
    (trace.by.is_some() && trace.pace == Pace::Calls).then_some(Report::Entry)
}

/// What is to be told before a call goes on: of a child that was made.
pub fn next(task: &Task) -> Option<Report> {
    task.trace.lock().reports.pop_front()
}

/// The child that vfork(2) waited for has memory of its own.
pub fn vfork_is_over(task: &Task, child: u64) {
    let mut trace = task.trace.lock();
    if trace.has(p::PTRACE_O_TRACEVFORKDONE) {
        trace.reports.push_back(Report::Event(p::PTRACE_EVENT_VFORK_DONE, child));
    }
}

/// At the end of a call, its result being set: what is to be told of it is told on the way back.
pub fn left(task: &Arc<Task>, ip: u64) {
    let stepped = {
        let mut trace = task.trace.lock();
        if trace.by.is_some() && trace.pace == Pace::Calls {
            trace.reports.push_back(Report::Exit);
        }
        if !trace.reports.is_empty() {
            task.set_attention(true);
        }
        trace.by.is_some() && trace.pace == Pace::Step
    };
    if stepped {
        // The instruction was the call's.
        let info = Siginfo::fault(c::SIGTRAP as i32, c::TRAP_BRKPT as i32, ip);
        crate::signal::send::force(task, info);
    }
}

/// On its way back: what a task that is traced has to tell, before signals; `ends` if it is about to end.
pub(crate) fn due(task: &Arc<Task>, ends: Option<i32>) -> Option<Report> {
    if !task.is_traced() {
        return None;
    }
    let group = task.process.lock().stop.as_ref().map(|stop| stop.signal);
    let mut trace = task.trace.lock();
    trace.by.as_ref()?;
    if let Some(status) = ends {
        let tells = trace.has(p::PTRACE_O_TRACEEXIT) && !core::mem::replace(&mut trace.exit_reported, true);
        return tells.then_some(Report::Event(p::PTRACE_EVENT_EXIT, status as u64));
    }
    if let Some(report) = trace.reports.pop_front() {
        return Some(report);
    }
    match group {
        Some(signal) if !trace.passed_group_stop || trace.trap => {
            trace.trap = false;
            Some(Report::Group(signal))
        }
        Some(_) => None,
        None => {
            trace.passed_group_stop = false;
            core::mem::take(&mut trace.trap).then_some(Report::Group(c::SIGTRAP as i32))
        }
    }
}

/// Whether its program is to go on by one instruction.
pub fn steps(task: &Task) -> bool {
    let trace = task.trace.lock();
    trace.by.is_some() && trace.pace == Pace::Step
}
