//! What a tracer asks for, ptrace(2).

use super::relation;
use super::state;
use super::{Pace, Report, Stop, Trace};
use crate::seccomp::{ARCH, DISABLED};
use crate::signal::send::{Target, send_from_outside};
use crate::signal::{LAST, SigSet};
use crate::syscall::{Args, Cx};
use crate::task::Task;
use crate::{Errno, Flow, Regs, Result, SysResult};
use alloc::sync::Arc;
use alloc::vec::Vec;
use insula_abi::elf_uapi as elf;
use insula_abi::general as c;
use insula_abi::memory::Iovec;
use insula_abi::ptrace as p;
use insula_abi::ptrace_info::SyscallInfo;
use insula_abi::signal::Siginfo;
use insula_abi::zerocopy::IntoBytes;

/// ptrace(2).
///
/// # Errors
/// See there.
pub(crate) fn ptrace(cx: &mut Cx<'_>, [request, pid, address, data, ..]: Args) -> SysResult {
    let request = request as u32;
    if request == p::PTRACE_TRACEME {
        return relation::by_parent(cx.task).map(|()| Flow::Done(0));
    }
    let task = cx.kernel.pids.task(cx.task.number_of(pid as i32)).filter(|task| !task.has_ended()).ok_or(Errno::ESRCH)?;
    match request {
        p::PTRACE_ATTACH => return relation::attach(cx.task, &task, false, 0).map(Flow::from),
        p::PTRACE_SEIZE => {
            if address != 0 || data & !u64::from(p::PTRACE_O_MASK) != 0 {
                return Err(Errno::EIO);
            }
            check_options(cx.task, data)?;
            return relation::attach(cx.task, &task, true, data as u32).map(Flow::from);
        }
        _ => {}
    }
    let ours = task.tracer().is_some_and(|tracer| Arc::ptr_eq(&tracer, cx.task));
    if !ours {
        return Err(Errno::ESRCH);
    }
    match request {
        p::PTRACE_KILL => {
            let info = Siginfo::sent(c::SIGKILL as i32, c::SI_USER as i32, cx.task.process.pid, cx.task.credentials().uid.real);
            send_from_outside(Target::Process(&task.process), info).map(Flow::from)
        }
        p::PTRACE_INTERRUPT => interrupt(&task).map(Flow::from),
        // It stands still from here on: only its tracer lets it go on, and that is who asks.
        _ if task.ends().is_some() && task.trace.lock().stopped().is_none_or(|stop| !tells_end(stop)) => Err(Errno::ESRCH),
        p::PTRACE_PEEKTEXT | p::PTRACE_PEEKDATA => {
            still(&task, |_, _| Ok(()))?;
            cx.task.mm().put(data, &state::peek_memory(&task.mm(), address)?).map(Flow::from)
        }
        p::PTRACE_POKETEXT | p::PTRACE_POKEDATA => {
            still(&task, |_, _| Ok(()))?;
            state::poke_memory(&task.mm(), address, data).map(Flow::from)
        }
        _ => match registers(cx, &task, request, address, data) {
            Err(Errno::ENOSYS) => others(cx, &task, request, address, data),
            outcome => outcome.map(Flow::Done),
        },
    }
}

const fn tells_end(stop: &Stop) -> bool {
    matches!(stop.report, Report::Event(p::PTRACE_EVENT_EXIT, _))
}

/// Does something with a tracee that stands still.
///
/// # Errors
/// `ESRCH`: it doesn't.
fn still<T>(task: &Task, ask: impl FnOnce(&mut Stop, &Task) -> Result<T>) -> Result<T> {
    ask(task.trace.lock().stopped().ok_or(Errno::ESRCH)?, task)
}

fn interrupt(task: &Arc<Task>) -> Result<()> {
    {
        let mut trace = task.trace.lock();
        if !trace.is_seized() {
            return Err(Errno::EIO);
        }
        trace.trap = true;
        if let Some(stop) = trace.stop.as_mut().filter(|stop| stop.listening) {
            stop.resumed = Some(0);
        }
    }
    task.interrupt();
    Ok(())
}

/// Requests about registers.
///
/// # Errors
/// `ENOSYS`: it is another.
fn registers(cx: &Cx<'_>, task: &Arc<Task>, request: u32, address: u64, data: u64) -> Result<u64> {
    let own = cx.task.mm();
    match request {
        p::PTRACE_PEEKUSR => own.put(data, &still(task, |stop, _| state::peek(stop, address))?)?,
        p::PTRACE_POKEUSR => still(task, |stop, _| state::poke(stop, address, data))?,
        p::PTRACE_GETREGS => own.put(data, &still(task, |stop, _| Ok(stop.regs))?)?,
        p::PTRACE_SETREGS => {
            let wanted: Regs = own.get(data)?;
            still(task, |stop, _| state::set_regs(stop, wanted))?;
        }
        p::PTRACE_GETFPREGS => own.write(data, &still(task, |stop, _| Ok(state::legacy(stop)))?)?,
        p::PTRACE_SETFPREGS => {
            let mut bytes = alloc::vec![0; state::LEGACY];
            own.read(data, &mut bytes)?;
            still(task, |stop, _| state::set_legacy(stop, &bytes))?;
        }
        p::PTRACE_GETREGSET | p::PTRACE_SETREGSET => {
            let mut iov: Iovec = own.get(data)?;
            let set = still(task, |stop, _| set_of(stop, address))?;
            let len = iov.len.min(set.len() as u64);
            // As Linux: registers are whole.
            if !iov.len.is_multiple_of(8) {
                return Err(Errno::EINVAL);
            }
            if request == p::PTRACE_GETREGSET {
                own.write(iov.base, &set[..len as usize])?;
            } else {
                let mut bytes = alloc::vec![0; len as usize];
                own.read(iov.base, &mut bytes)?;
                still(task, |stop, _| change_set(stop, address, bytes))?;
            }
            iov.len = len;
            own.put(data, &iov)?;
        }
        _ => return Err(Errno::ENOSYS),
    }
    Ok(0)
}

/// The registers of a kind, `NT_*`.
///
/// # Errors
/// `EINVAL`: there are none.
fn set_of(stop: &Stop, kind: u64) -> Result<Vec<u8>> {
    match u32::try_from(kind) {
        Ok(elf::NT_PRSTATUS) => Ok(stop.regs.as_bytes().to_vec()),
        Ok(elf::NT_PRFPREG) => Ok(state::legacy(stop)),
        Ok(elf::NT_X86_XSTATE) => Ok(stop.extended.clone()),
        _ => Err(Errno::EINVAL),
    }
}

fn change_set(stop: &mut Stop, kind: u64, bytes: Vec<u8>) -> Result<()> {
    match u32::try_from(kind) {
        Ok(elf::NT_PRSTATUS) => state::set_regs_bytes(stop, 0, &bytes),
        Ok(elf::NT_PRFPREG) => state::set_legacy(stop, &bytes),
        Ok(elf::NT_X86_XSTATE) => state::set_extended(stop, bytes),
        _ => Err(Errno::EINVAL),
    }
}

/// All other requests to a tracee that stands still.
fn others(cx: &Cx<'_>, task: &Arc<Task>, request: u32, address: u64, data: u64) -> SysResult {
    let own = cx.task.mm();
    still(task, |_, _| Ok(()))?;
    match request {
        p::PTRACE_CONT | p::PTRACE_SYSCALL | p::PTRACE_SINGLESTEP => {
            let pace = match request {
                p::PTRACE_SYSCALL => Pace::Calls,
                p::PTRACE_SINGLESTEP => Pace::Step,
                _ => Pace::Free,
            };
            let signal = signal_of(data)?;
            let mut trace = task.trace.lock();
            trace.stopped().ok_or(Errno::ESRCH)?.resumed = Some(signal);
            trace.pace = pace;
            drop(trace);
            task.wake();
        }
        p::PTRACE_DETACH => {
            let signal = signal_of(data)?;
            cx.task.process.tracees.lock().remove(&task.tid());
            relation::release(task, signal);
        }
        p::PTRACE_LISTEN => {
            let mut trace = task.trace.lock();
            let again = trace.trap;
            let seized = trace.is_seized();
            let stop = trace.stopped().filter(|stop| seized && matches!(stop.report, Report::Group(_))).ok_or(Errno::EIO)?;
            stop.listening = true;
            // Something has happened since it stopped, and is to be told.
            if again {
                stop.resumed = Some(0);
            }
            drop(trace);
            task.wake();
        }
        p::PTRACE_SETOPTIONS => {
            check_options(cx.task, data)?;
            if let Some(by) = &mut task.trace.lock().by {
                by.options = data as u32;
            }
        }
        p::PTRACE_GETEVENTMSG => own.put(data, &still(task, |stop, _| Ok(stop.report.message()))?)?,
        p::PTRACE_GETSIGINFO => own.put(data, &still(task, |stop, _| stop.info.ok_or(Errno::EINVAL))?)?,
        p::PTRACE_SETSIGINFO => {
            let info: Siginfo = own.get(data)?;
            still(task, |stop, _| stop.info.replace(info).map(drop).ok_or(Errno::EINVAL))?;
        }
        p::PTRACE_GETSIGMASK | p::PTRACE_SETSIGMASK => {
            if address != 8 {
                return Err(Errno::EINVAL);
            }
            if request == p::PTRACE_GETSIGMASK {
                let mask = {
                    let signals = task.signals();
                    signals.saved.unwrap_or(signals.blocked)
                };
                own.put(data, &mask.0)?;
            } else {
                task.set_blocked(SigSet::blockable(own.get(data)?));
            }
        }
        p::PTRACE_GET_SYSCALL_INFO => {
            let (info, len) = syscall_info(&mut task.trace.lock())?;
            let count = address.min(len as u64) as usize;
            own.write(data, &info.as_bytes()[..count])?;
            return Ok(Flow::Done(len as u64));
        }
        p::PTRACE_PEEKSIGINFO => return super::inspect::pending(cx, task, address, data),
        p::PTRACE_SECCOMP_GET_FILTER => return super::inspect::filter(cx, task, address, data),
        p::PTRACE_SECCOMP_GET_METADATA => return super::inspect::metadata(cx, task, address, data),
        _ => return Err(Errno::EIO),
    }
    Ok(Flow::Done(0))
}

/// Whether a tracer may set these options.
///
/// # Errors
/// `EINVAL`: there are none such. `EPERM`: it may not lift its tracee's confinement.
fn check_options(tracer: &Task, options: u64) -> Result<()> {
    if options & !u64::from(p::PTRACE_O_MASK) != 0 {
        return Err(Errno::EINVAL);
    }
    let lifts = options & u64::from(p::PTRACE_O_SUSPEND_SECCOMP) != 0;
    let may = || tracer.confinement.mode() == DISABLED && tracer.credentials().has(c::CAP_SYS_ADMIN);
    if lifts && !may() { Err(Errno::EPERM) } else { Ok(()) }
}

/// A signal that goes along.
///
/// # Errors
/// `EIO`: there is no such.
fn signal_of(data: u64) -> Result<i32> {
    i32::try_from(data).ok().filter(|signal| (0..=LAST).contains(signal)).ok_or(Errno::EIO)
}

/// `PTRACE_GET_SYSCALL_INFO`: what is known of the call, and how many bytes of that mean something.
fn syscall_info(trace: &mut Trace) -> Result<(SyscallInfo, usize)> {
    // Without the option, a call's border isn't told from other stops here, either.
    let told = trace.has(p::PTRACE_O_TRACESYSGOOD);
    let stop = trace.stopped().ok_or(Errno::ESRCH)?;
    let regs = &stop.regs;
    let mut info = SyscallInfo { arch: ARCH, ip: regs.rip, sp: regs.rsp, ..SyscallInfo::default() };
    let [a, b, c, d, e, f] = regs.arguments();
    // Of a number, the lower half counts, with its sign.
    let number = i64::from(regs.orig_rax as i32) as u64;
    let words = match stop.report {
        Report::Entry if told => {
            info.op = p::PTRACE_SYSCALL_INFO_ENTRY as u8;
            info.union = [number, a, b, c, d, e, f, 0];
            7
        }
        Report::Exit if told => {
            info.op = p::PTRACE_SYSCALL_INFO_EXIT as u8;
            let failed = Errno::from_result(regs.rax).is_some();
            info.union = [regs.rax, u64::from(failed), 0, 0, 0, 0, 0, 0];
            // The second is a byte.
            return Ok((info, SyscallInfo::HEAD + 9));
        }
        Report::Filter(data) => {
            info.op = p::PTRACE_SYSCALL_INFO_SECCOMP as u8;
            info.union = [number, a, b, c, d, e, f, u64::from(data)];
            return Ok((info, SyscallInfo::HEAD + 60));
        }
        _ => {
            info.op = p::PTRACE_SYSCALL_INFO_NONE as u8;
            0
        }
    };
    Ok((info, SyscallInfo::HEAD + words * 8))
}
