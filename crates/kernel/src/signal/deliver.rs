//! The last word on a task's registers before it goes back to its program.

use super::action::{BY_DEFAULT, IGNORE};
use super::frame;
use super::send::{Target, force, is_protected, send, status_of};
use super::{DefaultAction, SigSet, stop};
use crate::cpu::Cpu;
use crate::flow::Blocked;
use crate::task::Task;
use crate::trace::{self, Report};
use crate::{Errno, Regs};
use alloc::sync::Arc;
use insula_abi::Sysno;
use insula_abi::general as c;
use insula_abi::signal::{Sigaction, Siginfo};

/// What a task does next.
pub enum Next {
    /// It goes back to its program.
    Enter,
    /// The same, for one instruction.
    Step,
    /// It begins a program: in a new address space ([`Task::mm`]), with registers and extended state that are set already.
    Begin,
    /// It waits for this future, and then [`deliver`] is asked again.
    Wait(Blocked),
    /// It has ended.
    End,
}

/// Bytes of the instruction `syscall`.
const SYSCALL: u64 = 2;

/// Takes signals, stops, and whatever else wants the task. To be called each time before a task goes back to its program, after the result of
/// a call is in its registers; `orig_rax` is the call's number, or all ones if it didn't come by a call.
///
/// `restarts` says that the call's result [restarts](Errno::restarts); without, and if nobody wants the task, nothing is looked at.
pub fn deliver(task: &Arc<Task>, cpu: &mut dyn Cpu, restarts: bool) -> Next {
    if !task.interrupted() && !restarts {
        return Next::Enter;
    }
    // Before looking: who comes later sets it again.
    task.set_attention(false);
    enter_program(task, cpu);
    if task.is_traced() {
        let resumed = trace::stop::resume(task, cpu);
        if let Some(info) = resumed.and_then(|resumed| resumed.signal(task)) {
            take_over(task, cpu, info);
        }
    }
    loop {
        let ends = ends(task);
        if ends.is_none() && core::mem::take(&mut task.signals().returning) {
            give_back(task, cpu);
            continue;
        }
        if let Some(report) = trace::stop::due(task, ends)
            && let Some(wait) = trace::stop::stop(task, cpu, report)
        {
            task.set_attention(true);
            return Next::Wait(wait);
        }
        if let Some(status) = ends {
            task.exit(status);
            return Next::End;
        }
        if let Some(wait) = stop::hold(task) {
            task.set_attention(true);
            return Next::Wait(wait);
        }
        let Some(info) = take(task) else { break };
        if task.is_traced()
            && let Some(wait) = trace::stop::stop(task, cpu, Report::Signal(info))
        {
            task.set_attention(true);
            return Next::Wait(wait);
        }
        act(task, cpu, &info);
    }
    restart(cpu.regs());
    let saved = task.signals().saved.take();
    if let Some(mask) = saved {
        task.set_blocked(mask);
    }
    if core::mem::take(&mut task.signals().begins) {
        return Next::Begin;
    }
    if task.is_traced() && trace::stop::steps(task) { Next::Step } else { Next::Enter }
}

/// What execve(2) begins with is what the task has from here on.
pub fn enter_program(task: &Task, cpu: &mut dyn Cpu) {
    let Some(entry) = task.signals().entry.take() else { return };
    // Of the call, a tracer sees the end.
    let call = if task.is_traced() { cpu.regs().orig_rax } else { u64::MAX };
    *cpu.regs() = Regs { orig_rax: call, ..*entry };
    let state = frame::initial(cpu.extended().len());
    cpu.set_extended(&state);
    task.signals().begins = true;
}

/// The status with which the task is to end, if it is to: with all of its process, or by itself.
fn ends(task: &Task) -> Option<i32> {
    task.ends().or_else(|| if task.is_traced() { task.trace.lock().leaving } else { None })
}

/// Takes the signal that its tracer gave back, or another in its place.
fn take_over(task: &Arc<Task>, cpu: &mut dyn Cpu, info: Siginfo) {
    if task.signals().blocked.has(info.signo) {
        let _ = send(Target::Task(task), info);
        return;
    }
    act(task, cpu, &info);
}

/// Takes the next signal that isn't blocked.
fn take(task: &Arc<Task>) -> Option<Siginfo> {
    let mut state = task.process.lock();
    let mut own = task.signals();
    let wanted = SigSet(!own.blocked.0);
    own.pending.take(wanted).or_else(|| state.pending.take(wanted))
}

/// rt_sigreturn(2).
fn give_back(task: &Arc<Task>, cpu: &mut dyn Cpu) {
    let popped = frame::pop(task, cpu).and_then(|(mask, stack, extended)| {
        task.set_blocked(mask);
        // The handler of what follows a frame that is wrong finds all else as the frame has it.
        extended?;
        // As Linux: a stack that isn't one is passed over.
        let _ = task.set_alternate_stack(stack, cpu.regs().rsp);
        Ok(())
    });
    if popped.is_err() {
        force(task, Siginfo { signo: c::SIGSEGV as i32, code: c::SI_KERNEL as i32, ..Siginfo::default() });
    }
}

/// Does what a signal does.
fn act(task: &Arc<Task>, cpu: &mut dyn Cpu, info: &Siginfo) {
    let signal = info.signo;
    let action = {
        let actions = task.process.actions();
        let mut actions = actions.lock();
        let action = actions.get(signal);
        if action.handler > IGNORE && action.flags & u64::from(c::SA_RESETHAND) != 0 {
            actions.set(signal, Sigaction { handler: BY_DEFAULT, ..action });
        }
        action
    };
    match action.handler {
        IGNORE => {}
        BY_DEFAULT => by_default(task, signal),
        _ => call(task, cpu, &action, info),
    }
}

fn by_default(task: &Arc<Task>, signal: i32) {
    let default = DefaultAction::of(signal);
    if matches!(default, DefaultAction::Ignore | DefaultAction::Continue) || is_protected(&task.process, signal, true) {
        return;
    }
    if default != DefaultAction::Stop {
        // No image of memory is written: its limit is there to be 0, and where it would go is the host's.
        task.process.end(status_of(signal, false));
        return;
    }
    let orphaned = signal != c::SIGSTOP as i32 && {
        let tree = task.kernel().pids.lock();
        tree.is_orphaned(tree.group_of(task.process.pid), None)
    };
    if !orphaned {
        stop::begin(task, signal);
    }
}

/// Lays a frame for the handler.
fn call(task: &Arc<Task>, cpu: &mut dyn Cpu, action: &Sigaction, info: &Siginfo) {
    let regs = cpu.regs();
    if is_in_call(regs) {
        match Errno::from_result(regs.rax) {
            Some(Errno::RESTARTNOHAND | Errno::RESTARTBLOCK) => regs.rax = Errno::EINTR.to_result(),
            Some(Errno::RESTARTSYS) if action.flags & u64::from(c::SA_RESTART) == 0 => regs.rax = Errno::EINTR.to_result(),
            Some(Errno::RESTARTSYS | Errno::RESTARTNOINTR) => again(regs, regs.orig_rax),
            _ => {}
        }
        regs.orig_rax = u64::MAX;
    }
    let mut own = task.signals();
    let mask = own.saved.take().unwrap_or(own.blocked);
    if frame::push(task, &mut own, cpu, action, info, mask).is_err() {
        drop(own);
        // A stack that can't take a handler for SIGSEGV ends the program.
        if info.signo == c::SIGSEGV as i32 {
            task.process.actions().lock().set(info.signo, Sigaction::default());
        }
        force(task, Siginfo { signo: c::SIGSEGV as i32, code: c::SI_KERNEL as i32, ..Siginfo::default() });
        return;
    }
    let mut blocked = own.blocked.with(SigSet::blockable(action.mask));
    if action.flags & u64::from(c::SA_NODEFER) == 0 {
        blocked = blocked.with(SigSet::blockable(SigSet::one(info.signo).0));
    }
    own.blocked = blocked;
}

/// Whether they are those of a call: of its number, the lower half counts.
const fn is_in_call(regs: &Regs) -> bool {
    regs.orig_rax as i32 != -1
}

/// No handler has run: an interrupted call is made again.
fn restart(regs: &mut Regs) {
    if !is_in_call(regs) {
        return;
    }
    match Errno::from_result(regs.rax) {
        Some(Errno::RESTARTSYS | Errno::RESTARTNOINTR | Errno::RESTARTNOHAND) => again(regs, regs.orig_rax),
        Some(Errno::RESTARTBLOCK) => again(regs, Sysno::restart_syscall as u64),
        _ => return,
    }
    regs.orig_rax = u64::MAX;
}

fn again(regs: &mut Regs, number: u64) {
    regs.rax = number;
    regs.rip = regs.rip.wrapping_sub(SYSCALL);
}
