//! Processes as a placement drives them: calls, what becomes of them, and signals on the way back.

mod placed;

use super::Boot;
use crate::Errno;
use crate::cpu::Cpu;
use crate::testing::{World, bytes, memory};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use insula_abi::Sysno;
use insula_abi::general as c;
use insula_abi::signal::{FPX_SW_OFFSET, FpxSwBytes, Sigframe, Siginfo, Stack};
use insula_abi::zerocopy::FromBytes;
use placed::{At, Placed};

/// Where programs seem to be when they make a call.
const HERE: u64 = 0x5000_0002;

/// A world, its first process, and a child of that, which may be signalled as anybody.
fn family() -> (World, Placed, Placed) {
    let world = World::new();
    let mut first = Placed::new(world.process());
    let child = first.fork().with_stack();
    (world, first, child)
}

const fn all_ones() -> u64 {
    u64::MAX
}

#[test]
fn a_child_is_waited_for() {
    let (_world, mut first, mut child) = family();
    assert_eq!(child.now(Sysno::getppid, &[]), Ok(1));
    assert_eq!(first.wait(-1, c::WNOHANG).map(|(pid, _)| pid), Ok(0));
    let status = memory(&first.task, 4096);
    assert_eq!(first.call(Sysno::wait4, &[all_ones(), status]), At::Waiting);
    assert!(!first.woken.0.load(Ordering::SeqCst));
    assert_eq!(child.call(Sysno::exit_group, &[3]), At::Ended);
    assert!(first.woken.0.load(Ordering::SeqCst));
    assert_eq!(first.go_on(), At::Program(2));
    assert_eq!(first.task.mm().get::<i32>(status), Ok(0x300));
    assert_eq!(first.wait(-1, 0), Err(Errno::ECHILD));
    assert!(first.task.kernel().pids.process(2).is_none());
}

#[test]
fn who_ignores_children_need_not_wait() {
    let (_world, mut first, mut child) = family();
    first.action(c::SIGCHLD, 1, 0, 0);
    assert_eq!(child.call(Sysno::exit_group, &[0]), At::Ended);
    assert_eq!(first.wait(-1, 0), Err(Errno::ECHILD));
}

#[test]
fn waitid_leaves_or_takes_and_says_what_happened() {
    let (_world, mut first, mut child) = family();
    child.call(Sysno::exit_group, &[7]);
    let info = memory(&first.task, 4096);
    for options in [c::WEXITED | c::WNOWAIT, c::WEXITED] {
        assert_eq!(first.now(Sysno::waitid, &[u64::from(c::P_PID), 2, info, u64::from(options)]), Ok(0));
        let told: Siginfo = first.task.mm().get(info).expect("memory");
        assert_eq!((told.signo, told.code, told.pid(), told.status()), (17, c::CLD_EXITED as i32, 2, 7));
    }
    assert_eq!(first.now(Sysno::waitid, &[u64::from(c::P_ALL), 0, info, u64::from(c::WEXITED)]), Err(Errno::ECHILD));
    assert_eq!(first.now(Sysno::waitid, &[9, 0, info, u64::from(c::WEXITED)]), Err(Errno::EINVAL));
    assert_eq!(first.now(Sysno::waitid, &[0, 0, info, 0]), Err(Errno::EINVAL));
}

#[test]
fn a_handler_gets_the_frame_that_linux_lays_and_returns_from_it() {
    let (_world, mut first, mut child) = family();
    child.action(c::SIGUSR1, 0x4444, c::SA_SIGINFO, 1 << 9);
    let before = child.cpu.general;
    assert_eq!(first.now(Sysno::kill, &[2, u64::from(c::SIGUSR1)]), Ok(0));
    child.cpu.general.orig_rax = all_ones();
    assert_eq!(child.deliver(false), At::Program(0));
    let regs = child.cpu.general;
    let mm = child.task.mm();
    assert_eq!((regs.rip, regs.rdi), (0x4444, u64::from(c::SIGUSR1)));
    assert_eq!(regs.rsp % 16, 8, "as after a call");
    assert_eq!((regs.rsi, regs.rdx), (regs.rsp + 312, regs.rsp + 8));
    let frame: Sigframe = mm.get(regs.rsp).expect("a frame");
    assert_eq!(frame.restorer, 0x1234);
    assert_eq!((frame.info.signo, frame.info.code, frame.info.pid()), (10, 0, 1));
    assert_eq!((frame.context.mcontext.rip, frame.context.mcontext.rsp), (before.rip, before.rsp));
    assert_eq!(frame.context.flags, 7);
    assert_eq!(frame.context.sigmask, 0);
    let state = frame.context.mcontext.fpstate;
    assert_eq!(state % 64, 0);
    assert!(state + 836 <= before.rsp - 128, "the red zone is left alone");
    let marks = mm.get::<[u8; 48]>(state + FPX_SW_OFFSET as u64).expect("marks");
    let marks = FpxSwBytes::read_from_bytes(&marks).expect("as long");
    assert_eq!((marks.magic1, marks.xstate_size, marks.extended_size, marks.xfeatures), (0x4650_5853, 832, 836, 7));
    assert_eq!(mm.get::<u32>(state + 832), Ok(0x4650_5845));
    assert_eq!(child.task.signals().blocked.0, 1 << 9, "its mask, and the signal itself");
    // The handler changes what it was interrupted with, and returns.
    mm.put(regs.rsp + 8 + 40 + 13 * 8, &77u64).expect("rax");
    child.cpu.general.rsp += 8;
    assert_eq!(child.call(Sysno::rt_sigreturn, &[]), At::Program(77));
    assert_eq!((child.cpu.general.rip, child.cpu.general.rsp), (before.rip, before.rsp));
    assert!(child.task.signals().blocked.is_empty());
}

#[test]
fn a_hostile_frame_can_not_leave_the_program() {
    let (_world, _first, mut child) = family();
    let frame = memory(&child.task, 4096);
    let mut lie = Sigframe::default();
    lie.context.mcontext.cs = 0x10;
    lie.context.mcontext.eflags = u64::MAX;
    lie.context.sigmask = u64::MAX;
    child.task.mm().put(frame, &lie).expect("memory");
    child.cpu.general.rsp = frame + 8;
    assert_eq!(child.call(Sysno::rt_sigreturn, &[]), At::Program(0));
    assert_eq!((child.cpu.general.cs, child.cpu.general.ss), (0x33, 0x2b));
    assert_eq!(child.cpu.general.eflags & 0x3000, 0, "no rights to ports");
    assert_eq!(child.task.signals().blocked.0, !(1 << 8 | 1 << 18), "SIGKILL and SIGSTOP stay");
    // A frame that isn't there is a fault.
    child.cpu.general.rsp = 16;
    assert_eq!(child.call(Sysno::rt_sigreturn, &[]), At::Ended);
    assert_eq!(child.task.process.status(), Some(11));
}

#[test]
fn interrupted_calls_are_made_again_or_not() {
    let (_world, mut first, mut child) = family();
    let ends = memory(&child.task, 4096);
    child.now(Sysno::pipe, &[ends]).expect("a pipe");
    let fd: i32 = child.task.mm().get(ends).expect("memory");
    let read = [fd as u64, ends, 1];
    for (flags, result, rip) in [(c::SA_RESTART, Sysno::read as u64, HERE - 2), (0, Errno::EINTR.to_result(), HERE)] {
        child.action(c::SIGUSR1, 0x4444, flags, 0);
        assert_eq!(child.call(Sysno::read, &read), At::Waiting);
        first.now(Sysno::kill, &[2, u64::from(c::SIGUSR1)]).expect("may");
        assert_eq!(child.go_on(), At::Program(0));
        let frame: Sigframe = child.task.mm().get(child.cpu.general.rsp).expect("a frame");
        assert_eq!((frame.context.mcontext.rax, frame.context.mcontext.rip), (result, rip));
        child.cpu.general.rsp += 8;
        child.call(Sysno::rt_sigreturn, &[]);
        child.cpu.general.rip = HERE;
    }
    // What is ignored interrupts nobody; what does nothing by default, neither.
    child.action(c::SIGUSR1, 1, 0, 0);
    assert_eq!(child.call(Sysno::read, &read), At::Waiting);
    first.now(Sysno::kill, &[2, u64::from(c::SIGUSR1)]).expect("may");
    first.now(Sysno::kill, &[2, u64::from(c::SIGWINCH)]).expect("may");
    assert_eq!(child.go_on(), At::Waiting);
    // Stopping and going on makes the call again.
    first.now(Sysno::kill, &[2, u64::from(c::SIGSTOP)]).expect("may");
    assert_eq!(child.go_on(), At::Stopped);
    first.now(Sysno::kill, &[2, u64::from(c::SIGCONT)]).expect("may");
    assert_eq!(child.go_on(), At::Program(Sysno::read as u64));
    assert_eq!(child.cpu.general.rip, HERE - 2);
}

#[test]
fn stops_and_their_ends_are_told_to_the_parent() {
    let (_world, mut first, mut child) = family();
    first.now(Sysno::kill, &[2, u64::from(c::SIGTSTP)]).expect("may");
    assert_eq!(child.deliver(false), At::Program(0), "an orphaned group doesn't stop");
    let _ = child.now(Sysno::setpgid, &[0, 0]);
    first.now(Sysno::kill, &[2, u64::from(c::SIGTSTP)]).expect("may");
    assert_eq!(first.wait(2, c::WUNTRACED | c::WNOHANG), Ok((0, 0)));
    assert_eq!(child.deliver(false), At::Stopped);
    assert_eq!(first.wait(2, c::WUNTRACED), Ok((2, 20 << 8 | 0x7f)));
    assert_eq!(first.wait(2, c::WUNTRACED | c::WNOHANG), Ok((0, 0)), "told once");
    first.now(Sysno::kill, &[2, u64::from(c::SIGCONT)]).expect("may");
    assert_eq!(first.wait(2, c::WCONTINUED), Ok((2, 0xffff)));
    assert!(matches!(child.go_on(), At::Program(_)));
    // A stopped process can be killed.
    first.now(Sysno::kill, &[2, u64::from(c::SIGSTOP)]).expect("may");
    assert_eq!(child.deliver(false), At::Stopped);
    first.now(Sysno::kill, &[2, u64::from(c::SIGKILL)]).expect("may");
    assert_eq!(child.go_on(), At::Ended);
    assert_eq!(first.wait(2, 0), Ok((2, 9)));
}

#[test]
fn the_first_process_is_only_told_what_it_listens_to() {
    let (_world, mut first, mut child) = family();
    for signal in [c::SIGKILL, c::SIGSTOP, c::SIGTERM, c::SIGSEGV] {
        child.now(Sysno::kill, &[1, u64::from(signal)]).expect("may");
        assert!(matches!(first.deliver(true), At::Program(_)), "{signal}");
    }
    let info = Siginfo::sent(c::SIGKILL as i32, 0, 0, 0);
    crate::signal::send::send_from_outside(crate::signal::Target::Process(&first.task.process), info).expect("sent");
    assert_eq!(first.deliver(false), At::Ended);
    assert_eq!(first.task.process.status(), Some(9));
    // And the rest goes with it.
    assert_eq!(child.deliver(false), At::Ended);
}

#[test]
fn all_threads_end_together_and_the_first_to_say_so_decides() {
    let (_world, mut first, mut child) = family();
    let mut other = child.thread();
    assert_eq!(other.now(Sysno::getpid, &[]), Ok(2));
    assert_eq!(other.now(Sysno::gettid, &[]), Ok(3));
    let wait = other.call(Sysno::pause, &[]);
    assert_eq!(wait, At::Waiting);
    assert_eq!(child.call(Sysno::exit_group, &[4]), At::Ended);
    assert_eq!(first.wait(2, c::WNOHANG), Ok((0, 0)), "one is left");
    assert_eq!(other.go_on(), At::Ended);
    assert_eq!(first.wait(2, 0), Ok((2, 0x400)));
}

#[test]
fn a_process_outlives_its_first_thread() {
    let (_world, mut first, mut child) = family();
    let mut other = child.thread();
    assert_eq!(child.call(Sysno::exit, &[5]), At::Ended);
    assert_eq!(first.wait(2, c::WNOHANG), Ok((0, 0)));
    assert_eq!(first.now(Sysno::kill, &[2, 0]), Ok(0));
    assert_eq!(other.call(Sysno::exit, &[6]), At::Ended);
    assert_eq!(first.wait(2, 0), Ok((2, 0x600)), "the last one's status is the process's");
}

#[test]
fn a_thread_that_ends_says_so_in_memory() {
    let (_world, _first, mut child) = family();
    let at = bytes(&child.task, &1u32.to_ne_bytes());
    let flags = c::CLONE_VM | c::CLONE_THREAD | c::CLONE_SIGHAND | c::CLONE_CHILD_SETTID | c::CLONE_CHILD_CLEARTID;
    let tid = child.now(Sysno::clone, &[u64::from(flags), 0x9000, 0, at, 0]).expect("a thread");
    let mut thread = child.born.pop().expect("a thread");
    assert_eq!(thread.cpu.general.rsp, 0x9000);
    assert_eq!(child.task.mm().get::<u32>(at), Ok(tid as u32));
    assert_eq!(child.call(Sysno::futex, &[at, u64::from(c::FUTEX_WAIT), tid, 0]), At::Waiting);
    assert_eq!(thread.call(Sysno::exit, &[0]), At::Ended);
    assert_eq!(child.go_on(), At::Program(0));
    assert_eq!(child.task.mm().get::<u32>(at), Ok(0));
}

#[test]
fn memory_is_a_childs_own_unless_it_is_shared() {
    let (_world, mut first, _child) = family();
    let at = bytes(&first.task, b"before");
    let child = first.fork();
    first.task.mm().write(at, b"parent").expect("memory");
    assert_eq!(child.task.mm().get::<[u8; 6]>(at), Ok(*b"before"));
    child.task.mm().write(at, b"child!").expect("memory");
    assert_eq!(first.task.mm().get::<[u8; 6]>(at), Ok(*b"parent"));
}

#[test]
fn vfork_waits_for_the_end_or_the_program() {
    let (_world, mut first, _) = family();
    assert_eq!(first.call(Sysno::vfork, &[]), At::Waiting);
    let mut child = first.born.pop().expect("a child");
    assert!(Arc::ptr_eq(&child.task.mm(), &first.task.mm()));
    // A signal does not end this wait.
    child.now(Sysno::kill, &[1, u64::from(c::SIGWINCH)]).expect("may");
    assert_eq!(first.go_on(), At::Waiting);
    assert_eq!(child.call(Sysno::exit, &[0]), At::Ended);
    assert_eq!(first.go_on(), At::Program(3));
}

#[test]
fn orphans_go_to_the_first_process_or_to_who_takes_them() {
    let (_world, mut first, mut child) = family();
    let mut grandchild = child.fork();
    let signal = u64::from(c::SIGUSR2);
    grandchild.now(Sysno::prctl, &[1, signal]).expect("PR_SET_PDEATHSIG");
    grandchild.action(c::SIGUSR2, 1, 0, 0);
    let mut fourth = grandchild.fork();
    child.call(Sysno::exit_group, &[0]);
    assert_eq!(grandchild.now(Sysno::getppid, &[]), Ok(1));
    first.wait(2, 0).expect("it ended");
    first.now(Sysno::prctl, &[36, 0]).expect("PR_SET_CHILD_SUBREAPER");
    grandchild.call(Sysno::exit_group, &[0]);
    assert_eq!(fourth.now(Sysno::getppid, &[]), Ok(1));
    assert_eq!(first.wait(-1, 0), Ok((3, 0)));
    assert_eq!(fourth.call(Sysno::exit_group, &[1]), At::Ended);
    assert_eq!(first.wait(-1, 0), Ok((4, 0x100)));
}

#[test]
fn groups_and_sessions_keep_their_rules() {
    let (_world, mut first, mut child) = family();
    assert_eq!(first.now(Sysno::setsid, &[]), Err(Errno::EPERM), "it leads one already");
    assert_eq!(first.now(Sysno::setpgid, &[0, 0]), Err(Errno::EPERM));
    assert_eq!(child.now(Sysno::getpgrp, &[]), Ok(1));
    assert_eq!(first.now(Sysno::setpgid, &[2, 2]), Ok(0));
    assert_eq!(first.now(Sysno::setpgid, &[2, 77]), Err(Errno::EPERM));
    assert_eq!(first.now(Sysno::setpgid, &[77, 0]), Err(Errno::ESRCH));
    assert_eq!(first.now(Sysno::setpgid, &[2, all_ones()]), Err(Errno::EINVAL));
    assert_eq!(child.now(Sysno::setsid, &[]), Err(Errno::EPERM), "it leads a group");
    let mut grandchild = child.fork();
    assert_eq!(grandchild.now(Sysno::setsid, &[]), Ok(3));
    assert_eq!(first.now(Sysno::getsid, &[3]), Ok(3));
    assert_eq!(child.now(Sysno::setpgid, &[3, 2]), Err(Errno::EPERM));
    assert_eq!(first.now(Sysno::kill, &[-2i64 as u64, 0]), Ok(0));
    assert_eq!(first.now(Sysno::kill, &[-9i64 as u64, 0]), Err(Errno::ESRCH));
}

#[test]
fn strangers_may_not_signal() {
    let (_world, mut first, mut child) = family();
    let mut other = first.fork();
    child.now(Sysno::setresuid, &[1000, 1000, 1000]).expect("may");
    other.now(Sysno::setresuid, &[1001, 1001, 1001]).expect("may");
    assert_eq!(child.now(Sysno::kill, &[3, u64::from(c::SIGTERM)]), Err(Errno::EPERM));
    assert_eq!(child.now(Sysno::kill, &[3, u64::from(c::SIGCONT)]), Ok(0), "of one session");
    assert_eq!(child.now(Sysno::kill, &[3, 65]), Err(Errno::EINVAL));
    assert_eq!(first.now(Sysno::tgkill, &[1, 3, 0]), Err(Errno::ESRCH));
    assert_eq!(first.now(Sysno::tgkill, &[3, 3, 0]), Ok(0));
    assert_eq!(first.now(Sysno::tkill, &[0, 0]), Err(Errno::EINVAL));
    // Who gives up all users loses what the superuser may.
    assert_eq!(child.task.credentials().capabilities.effective, 0);
    assert_eq!(child.now(Sysno::setuid, &[0]), Err(Errno::EPERM));
}

#[test]
fn masks_hold_signals_back_and_sigsuspend_lets_them_in() {
    let (_world, mut first, mut child) = family();
    child.action(c::SIGUSR1, 0x4444, 0, 0);
    let set = bytes(&child.task, &(1u64 << 9).to_ne_bytes());
    let none = bytes(&child.task, &0u64.to_ne_bytes());
    assert_eq!(child.now(Sysno::rt_sigprocmask, &[0, set, 0, 8]), Ok(0));
    first.now(Sysno::kill, &[2, u64::from(c::SIGUSR1)]).expect("may");
    assert!(child.now(Sysno::getpid, &[]).is_ok(), "held back");
    let pending = memory(&child.task, 4096);
    assert_eq!(child.now(Sysno::rt_sigpending, &[pending, 8]), Ok(0));
    assert_eq!(child.task.mm().get::<u64>(pending), Ok(1 << 9));
    assert_eq!(child.call(Sysno::rt_sigsuspend, &[none, 8]), At::Program(0));
    let frame: Sigframe = child.task.mm().get(child.cpu.general.rsp).expect("a frame");
    assert_eq!(frame.context.mcontext.rax, Errno::EINTR.to_result());
    assert_eq!(frame.context.sigmask, 1 << 9, "what it returns to");
    assert_eq!(child.now(Sysno::rt_sigprocmask, &[0, set, 0, 4]), Err(Errno::EINVAL));
    assert_eq!(child.now(Sysno::rt_sigprocmask, &[7, set, 0, 8]), Err(Errno::EINVAL));
}

#[test]
fn sigtimedwait_takes_what_is_blocked() {
    let (world, mut first, mut child) = family();
    let set = bytes(&child.task, &(1u64 << 9).to_ne_bytes());
    child.now(Sysno::rt_sigprocmask, &[0, set, 0, 8]).expect("a mask");
    let info = memory(&child.task, 4096);
    assert_eq!(child.call(Sysno::rt_sigtimedwait, &[set, info, 0, 8]), At::Waiting);
    first.now(Sysno::kill, &[2, u64::from(c::SIGUSR1)]).expect("may");
    assert_eq!(child.go_on(), At::Program(10));
    assert_eq!(child.task.mm().get::<Siginfo>(info).map(|info| info.pid()), Ok(1));
    let limit = bytes(&child.task, &[0; 16]);
    assert_eq!(child.call(Sysno::rt_sigtimedwait, &[set, info, limit, 8]), At::Program(Errno::EAGAIN.to_result()));
    let limit = bytes(&child.task, &[1u64.to_ne_bytes(), 0u64.to_ne_bytes()].concat());
    assert_eq!(child.call(Sysno::rt_sigtimedwait, &[set, info, limit, 8]), At::Waiting);
    world.advance(1_000_000_000);
    assert_eq!(child.go_on(), At::Program(Errno::EAGAIN.to_result()));
}

#[test]
fn alternate_stacks_are_used_and_guarded() {
    let (_world, mut first, mut child) = family();
    let low = memory(&child.task, 16384);
    let stack = memory(&child.task, 4096);
    child.task.mm().put(stack, &Stack { sp: low, flags: 0, pad: 0, size: 16384 }).expect("memory");
    assert_eq!(child.now(Sysno::sigaltstack, &[stack, 0]), Ok(0));
    child.action(c::SIGUSR1, 0x4444, c::SA_ONSTACK, 0);
    first.now(Sysno::kill, &[2, u64::from(c::SIGUSR1)]).expect("may");
    assert_eq!(child.deliver(false), At::Program(0));
    assert!((low..low + 16384).contains(&child.cpu.general.rsp));
    assert_eq!(child.now(Sysno::sigaltstack, &[stack, 0]), Err(Errno::EPERM), "it is on it");
    assert_eq!(child.now(Sysno::sigaltstack, &[0, stack]), Ok(0));
    assert_eq!(child.task.mm().get::<Stack>(stack).map(|stack| stack.flags), Ok(c::SS_ONSTACK as i32));
    // Without a stack that takes a frame, the program ends.
    child.cpu.general.rsp = 64;
    child.action(c::SIGUSR2, 0x4444, 0, 0);
    first.now(Sysno::kill, &[2, u64::from(c::SIGUSR2)]).expect("may");
    assert_eq!(child.deliver(false), At::Ended);
    assert_eq!(child.task.process.status(), Some(11));
}

#[test]
fn clone_refuses_contradictions() {
    let (_world, mut first, mut child) = family();
    let mut clone = |flags: u32| child.now(Sysno::clone, &[u64::from(flags), 0, 0, 0, 0]);
    assert_eq!(clone(c::CLONE_THREAD), Err(Errno::EINVAL));
    assert_eq!(clone(c::CLONE_SIGHAND), Err(Errno::EINVAL));
    assert_eq!(clone(c::CLONE_NEWNS | c::CLONE_FS), Err(Errno::EINVAL));
    assert_eq!(clone(c::CLONE_PIDFD | c::CLONE_PARENT_SETTID), Err(Errno::EINVAL));
    assert_eq!(clone(c::CLONE_PARENT_SETTID), Err(Errno::EFAULT));
    assert_eq!(first.now(Sysno::clone, &[u64::from(c::CLONE_PARENT)]), Err(Errno::EINVAL));
    assert_eq!(child.now(Sysno::clone3, &[16, 32]), Err(Errno::EINVAL));
    assert_eq!(child.now(Sysno::clone3, &[16, 88]), Err(Errno::EFAULT));
    // Nothing of all that is left.
    assert_eq!(first.task.kernel().pids.processes().len(), 2);
    assert_eq!(first.task.kernel().pids.lock().count(), 2);
}

#[test]
fn a_pidfd_tells_the_end_and_survives_the_number() {
    let (_world, mut first, mut child) = family();
    let fd = first.now(Sysno::pidfd_open, &[2, 0]).expect("a descriptor");
    let file = first.task.file(fd as i32).expect("it is open");
    assert!(file.file.poll().is_empty());
    assert_eq!(first.now(Sysno::pidfd_send_signal, &[fd, 0, 0, 0]), Ok(0));
    child.call(Sysno::exit_group, &[0]);
    assert!(!file.file.poll().is_empty());
    let info = memory(&first.task, 4096);
    assert_eq!(first.now(Sysno::waitid, &[u64::from(c::P_PIDFD), fd, info, u64::from(c::WEXITED)]), Ok(0));
    assert_eq!(first.now(Sysno::pidfd_send_signal, &[fd, 0, 0, 0]), Err(Errno::ESRCH));
    assert_eq!(first.now(Sysno::pidfd_open, &[99, 0]), Err(Errno::ESRCH));
    assert_eq!(first.now(Sysno::pidfd_open, &[0, 0]), Err(Errno::EINVAL));
}

#[test]
fn a_process_put_beside_the_first_has_no_parent() {
    let (world, first, _child) = family();
    let boot = Boot {
        program: b"/nothing".to_vec(),
        arguments: vec![b"x".to_vec()],
        environment: vec![],
        fs: first.task.fs().lock().clone(),
        credentials: (*first.task.credentials()).clone(),
        limits: first.task.process.limits.lock().clone(),
        descriptors: first.task.descriptors().copy(),
    };
    let before = world.kernel.pids.lock().count();
    assert_eq!(world.kernel.boot(boot).err(), Some(Errno::ENOENT));
    assert_eq!(world.kernel.pids.lock().count(), before);
}

#[test]
fn a_thread_that_executes_becomes_the_process() {
    let (_world, _first, mut child) = family();
    let mut other = child.thread();
    let path = bytes(&child.task, b"/script\0");
    let fd = child.now(Sysno::open, &[path, u64::from(c::O_CREAT | c::O_WRONLY), 0o755]).expect("a file");
    let program = crate::exec::tests::smallest();
    let from = bytes(&child.task, &program);
    child.now(Sysno::write, &[fd, from, program.len() as u64]).expect("room");
    assert_eq!(other.now(Sysno::execve, &[path, 0, 0]), Err(Errno::ETXTBSY), "it is open for writing");
    child.now(Sysno::close, &[fd]).expect("it is open");
    assert_eq!(other.call(Sysno::execve, &[path, 0, 0]), At::Waiting, "for the first to end");
    assert_eq!(child.deliver(false), At::Ended);
    assert_eq!(other.go_on(), At::Beginning);
    assert_eq!((other.task.tid(), other.cpu.general.rip), (2, 0x40_0200));
    assert!(other.task.kernel().pids.task(3).is_none());
    assert_eq!(other.now(Sysno::gettid, &[]), Ok(2));
    assert_eq!(other.now(Sysno::truncate, &[16, 0]), Err(Errno::EFAULT));
    let path = bytes(&other.task, b"/script\0");
    assert_eq!(other.now(Sysno::open, &[path, u64::from(c::O_WRONLY)]), Err(Errno::ETXTBSY));
    assert_eq!(other.cpu.extended()[..2], [0x7f, 0x03], "as a new program finds it");
    assert_eq!(other.call(Sysno::exit, &[9]), At::Ended);
    assert_eq!(other.task.process.status(), Some(0x900));
}

/// Numbers that are as good as random, and the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[(self.roll() % of.len() as u64) as usize]
    }
}

#[test]
fn hostile_calls_do_no_harm() {
    use crate::syscall::{exec, identity, limits, prctl, process, scheduling, signal, system};
    let tables = [
        exec::CALLS,
        identity::CALLS,
        limits::CALLS,
        prctl::CALLS,
        process::CALLS,
        scheduling::CALLS,
        signal::CALLS,
        system::CALLS,
    ];
    let calls: Vec<Sysno> = tables.iter().flat_map(|table| table.iter().map(|entry| entry.number)).collect();
    let (_world, mut first, mut child) = family();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut at = memory(&child.task, 16384);
    for _ in 0..4000 {
        let call = dice.one_of(&calls);
        let arguments: Vec<u64> = (0..6)
            .map(|_| match dice.roll() % 6 {
                0 => dice.roll(),
                1 => dice.roll() % 70,
                2 => at + dice.roll() % 16384,
                3 => dice.one_of(&[0, 1, 2, u64::MAX, i64::MIN as u64, i32::MIN as u32 as u64, 1 << 31, 4096, 1 << 47]),
                4 => 1 << (dice.roll() % 64),
                _ => dice.roll() & dice.roll() & 0xffff_ffff,
            })
            .collect();
        if dice.roll().is_multiple_of(4) {
            let words: Vec<u8> = (0..64).flat_map(|_| dice.one_of(&[0u64, 1, 88, u64::MAX, 1 << 40]).to_ne_bytes()).collect();
            let _ = child.task.mm().write(at + dice.roll() % 8192, &words);
        }
        let after = child.call(call, &arguments);
        for mut born in child.born.drain(..) {
            born.task.process.end(9);
            born.deliver(true);
        }
        if !matches!(after, At::Program(_)) || child.task.ends().is_some() {
            child.task.process.end(9);
            child.waits = None;
            child.held = None;
            child.deliver(true);
            assert_eq!(first.deliver(true), At::Program(first.cpu.general.rax));
            while first.wait(-1, c::WNOHANG | c::__WALL).is_ok_and(|(pid, _)| pid != 0) {}
            child = first.fork().with_stack();
            at = memory(&child.task, 16384);
        }
    }
    assert!(first.task.kernel().pids.lock().count() < 50, "what ended is gone");
}
