//! Calls of tasks that others trace, ptrace(2): at their borders the task may have something to tell, and what it is told there may change the call.
//!
//! A task's own thread does all of it: nothing is made without a stop, and the program's own code is back in its place.

use super::cpu::StubCpu;
use super::{Seat, copies, strace};
use crate::platform::{Context, Exception};
use insula_abi::general as c;
use insula_kernel::cpu::Call;
use insula_kernel::signal;
use insula_kernel::syscall::{self, dispatch_confined};
use insula_kernel::task::InCall;
use insula_kernel::trace::Report;
use insula_kernel::trace::stop;
use insula_kernel::{Errno, Flow, Result};
use std::ops::ControlFlow;

/// What a call came to.
enum Made {
    /// Its result.
    Result(Result<u64>),
    /// The registers say it.
    Registers,
    /// The task's end.
    End,
}

/// Number of no call: the tracer has it left out, and the result is what the register says.
const NONE: u64 = u64::MAX;

impl<C: Context> Seat<C>
where
    C::Seed: 'static,
{
    /// The call that the registers tell of.
    pub(super) fn traced_call(&mut self) -> ControlFlow<()> {
        self.token.lock().undo(&self.mm);
        if let Some(report) = stop::entering(&self.task) {
            self.report(report)?;
        }
        let mut asked = false;
        let (made, call) = loop {
            let (call, result) = self.called()?;
            if self.strace {
                strace::called(&self.task, &call);
            }
            if self.task.ends().is_some() {
                return self.settle(false);
            }
            if call.number == NONE {
                break (Made::Result(Ok(result)), call);
            }
            match self.make_traced(&call, asked)? {
                Ok(made) => break (made, call),
                Err(report) => self.report(report)?,
            }
            asked = true;
        };
        self.report_of_call()?;
        let Ok(regs) = self.context.registers_mut() else { return self.gone() };
        let restarts = match made {
            Made::Result(result) => {
                regs.rax = syscall::result(result);
                if self.strace {
                    strace::answered(&self.task, &call, result);
                }
                result.is_err_and(Errno::restarts)
            }
            Made::Registers => false,
            Made::End => return ControlFlow::Break(()),
        };
        stop::left(&self.task, regs.rip);
        self.settle(restarts)
    }

    /// Tells what has happened in the call: of a child, or of a new program, whose registers are the task's by then.
    fn report_of_call(&mut self) -> ControlFlow<()> {
        let mut cpu = StubCpu::new(&mut self.context);
        signal::enter_program(&self.task, &mut cpu);
        if cpu.finish(|ip| ip).is_err() {
            return self.gone();
        }
        while let Some(report) = stop::next(&self.task) {
            self.report(report)?;
        }
        ControlFlow::Continue(())
    }

    /// The call as the registers have it, and what is in the result's place.
    fn called(&mut self) -> ControlFlow<(), (Call, u64)> {
        match self.context.registers() {
            Ok(regs) => {
                let arguments = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
                // As with Linux: of a number, the lower half counts, with its sign.
                let number = i64::from(regs.orig_rax as i32) as u64;
                ControlFlow::Continue((Call { number, arguments }, regs.rax))
            }
            Err(_) => {
                self.gone()?;
                ControlFlow::Break(())
            }
        }
    }

    /// Where it is made.
    fn place(&mut self, call: &Call) -> ControlFlow<(), InCall> {
        match self.context.registers() {
            Ok(regs) => ControlFlow::Continue(InCall { call: *call, sp: regs.rsp, ip: regs.rip }),
            Err(_) => {
                self.gone()?;
                ControlFlow::Break(())
            }
        }
    }

    /// Makes it; or answers what is to be told first.
    fn make_traced(&mut self, call: &Call, asked: bool) -> ControlFlow<(), std::result::Result<Made, Report>> {
        let token = copies(call.number).then(|| self.token.clone());
        let mut turn = token.as_ref().map(super::Token::lock);
        let mut outcome = self.make(|kernel, task, cpu| dispatch_confined(kernel, task, cpu, call, asked))?;
        if let Ok(Flow::Asked(decision)) = outcome {
            drop(turn.take());
            let place = self.place(call)?;
            outcome = self.decided(decision, place, || turn = token.as_ref().map(super::Token::lock))?;
        }
        ControlFlow::Continue(Ok(Made::Result(match outcome {
            Ok(Flow::Done(value)) => Ok(value),
            Ok(Flow::Block(future)) => {
                drop(turn);
                let place = self.place(call)?;
                self.wait_in(place, future)
            }
            Ok(Flow::Clone(newborn)) => {
                let born = self.bear(*newborn, turn.as_deref());
                drop(turn.take());
                match born {
                    Ok((tid, wait)) => {
                        // Of the child it tells before it waits for it: that one may wait for the tracer.
                        self.report_of_call()?;
                        let result = wait.map(|future| (self.wait(future), stop::vfork_is_over(&self.task, tid)));
                        result.map_or(Ok(tid), |(result, ())| result)
                    }
                    Err(errno) => Err(errno),
                }
            }
            Ok(Flow::Registers) => return ControlFlow::Continue(Ok(Made::Registers)),
            Ok(Flow::Exit) => return ControlFlow::Continue(Ok(Made::End)),
            Ok(Flow::Traced(Some(report))) => return ControlFlow::Continue(Err(*report)),
            Ok(Flow::Traced(None) | Flow::Asked(_)) => Err(Errno::ENOSYS),
            Err(errno) => Err(errno),
        })))
    }

    /// From now on the program goes on by one instruction, or doesn't.
    pub(super) fn pace(&mut self, steps: bool) {
        self.steps = steps;
        self.context.step(steps);
    }

    /// Stands still to tell something.
    fn report(&mut self, report: Report) -> ControlFlow<()> {
        let mut cpu = StubCpu::new(&mut self.context);
        let future = stop::stop(&self.task, &mut cpu, report);
        if cpu.finish(|ip| ip).is_err() {
            return self.gone();
        }
        if let Some(future) = future {
            self.hold(future);
            self.pace(false);
            let mut cpu = StubCpu::new(&mut self.context);
            let _ = stop::resume(&self.task, &mut cpu);
            if cpu.finish(|ip| ip).is_err() {
                return self.gone();
            }
        }
        ControlFlow::Continue(())
    }

    /// Whether the program has only gone on by one instruction, for somebody who doesn't trace it any more.
    pub(super) fn is_stale_step(&mut self, exception: &Exception) -> bool {
        let trap = exception.signal == c::SIGTRAP as i32 && exception.code == c::TRAP_TRACE as i32;
        std::mem::take(&mut self.steps) && trap && !self.task.is_traced()
    }
}
