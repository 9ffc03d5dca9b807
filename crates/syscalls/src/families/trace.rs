//! ptrace(2): whom a task traces, where they stop, and what it is told. What it sees and changes then: [`super::tracee`].

use super::prelude::*;

tests!("trace":
    a_child_asks_to_be_traced, signals_stop_a_tracee, calls_stop_at_both_borders, a_call_is_changed_or_left_out, what_a_call_is,
    attaching_stops, seizing_doesnt_stop, a_stopped_group_is_listened_to, children_are_traced_too, vfork_tells_before_and_after,
    a_new_program_and_the_end_are_told, ends_of_threads_are_told, the_tracer_waits_before_the_parent, the_end_of_a_tracer,
    who_may_trace, calls_ask_by_real_numbers_and_files_by_others, arguments_are_checked, proc_tells_of_it,
);

/// `__WALL` with nothing else.
const ALL: usize = __WALL as usize;

/// Waits for one of ours, and answers the whole word.
#[track_caller]
pub(super) fn word(pid: c_int) -> c_int {
    let mut word = 0;
    gives!(wait4(pid, &mut word, ALL, 0) => pid);
    word
}

/// What wait4 tells of a stop.
pub(super) const fn stop(signal: c_int, event: c_int) -> c_int {
    signal << 8 | 0x7f | event << 16
}

/// A child that is traced by us, and stands still.
#[track_caller]
pub(super) fn tracee(body: impl FnOnce()) -> c_int {
    let pid = child(|| {
        gives!(ptrace(PTRACE_TRACEME, 0, 0, 0) => 0);
        gives!(kill(process::id(), SIGSTOP) => 0);
        body();
    });
    eq!(word(pid), stop(SIGSTOP, 0));
    pid
}

#[track_caller]
pub(super) fn go(request: c_uint, pid: c_int, signal: c_int) -> c_int {
    gives!(ptrace(request, pid, 0, signal) => 0);
    word(pid)
}

#[track_caller]
pub(super) fn registers(pid: c_int) -> user_regs_struct {
    let mut regs: user_regs_struct = zeroed();
    gives!(ptrace(PTRACE_GETREGS, pid, 0, &mut regs) => 0);
    regs
}

/// The message of the last event.
#[track_caller]
fn message(pid: c_int) -> u64 {
    let mut message = 0u64;
    gives!(ptrace(PTRACE_GETEVENTMSG, pid, 0, &mut message) => 0);
    message
}

fn a_child_asks_to_be_traced() {
    let pid = tracee(|| ());
    eq!(process::status(go(PTRACE_CONT, pid, 0)), Status::Exited(0));
    in_child(|| {
        gives!(ptrace(PTRACE_TRACEME, 0, 0, 0) => 0);
        fails!(ptrace(PTRACE_TRACEME, 0, 0, 0) => EPERM);
    });
    // Who doesn't look further than its own children's ends sees the stops of those that it traces.
    let pid = tracee(|| ());
    gives!(wait4(-1, 0, WNOHANG, 0) => 0);
    gives!(ptrace(PTRACE_KILL, pid, 0, 0) => 0);
    eq!(process::status(word(pid)), Status::Killed(SIGKILL));
}

fn signals_stop_a_tracee() {
    let pid = tracee(|| {
        signal::on(SIGUSR1, 0);
        signal::ignore(SIGUSR2);
        for signal in [SIGUSR1, SIGUSR1, SIGUSR2, SIGTERM] {
            gives!(kill(process::id(), signal) => 0);
        }
        eq!(signal::caught(), [SIGUSR1]);
        process::exit(5);
    });
    eq!(go(PTRACE_CONT, pid, 0), stop(SIGUSR1, 0));
    // Given along, it is taken; not given along, it never was.
    eq!(go(PTRACE_CONT, pid, SIGUSR1), stop(SIGUSR1, 0));
    eq!(go(PTRACE_CONT, pid, 0), stop(SIGUSR2, 0));
    eq!(go(PTRACE_CONT, pid, SIGUSR2), stop(SIGTERM, 0));
    eq!(process::status(go(PTRACE_CONT, pid, 0)), Status::Exited(5));
    // Another may be put in its place.
    let pid = tracee(|| {
        works!(kill(process::id(), SIGUSR1));
    });
    eq!(go(PTRACE_CONT, pid, 0), stop(SIGUSR1, 0));
    eq!(process::status(go(PTRACE_CONT, pid, SIGTERM)), Status::Killed(SIGTERM));
}

fn calls_stop_at_both_borders() {
    let pid = tracee(|| {
        works!(getppid());
    });
    // The kill(2) that stopped it is over.
    eq!(go(PTRACE_SYSCALL, pid, 0), stop(SIGTRAP, 0));
    gives!(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD) => 0);
    let regs = registers(pid);
    eq!((regs.orig_rax, regs.rax as i64), (SYS_getppid as u64, -i64::from(ENOSYS)));
    eq!(go(PTRACE_SYSCALL, pid, 0), stop(SIGTRAP | 0x80, 0));
    let regs = registers(pid);
    eq!((regs.orig_rax, regs.rax), (SYS_getppid as u64, process::id() as u64));
    eq!(go(PTRACE_SYSCALL, pid, 0), stop(SIGTRAP | 0x80, 0));
    eq!(registers(pid).orig_rax, SYS_exit_group as u64);
    eq!(process::status(go(PTRACE_CONT, pid, 0)), Status::Exited(0));
}

fn a_call_is_changed_or_left_out() {
    let pid = tracee(|| {
        // One is answered otherwise, another is made in its place, the third isn't made.
        gives!(getppid() => 42);
        gives!(getppid() => process::id());
        fails!(getppid() => ENOSYS);
        gives!(getppid() => 7);
    });
    gives!(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD) => 0);
    type Change = fn(c_int, bool);
    let mut left: Vec<Change> = vec![
        |pid, entry| set(pid, |regs| regs.rax = if entry { regs.rax } else { 42 }),
        |pid, entry| set(pid, |regs| regs.orig_rax = if entry { SYS_getpid as u64 } else { regs.orig_rax }),
        |pid, entry| set(pid, |regs| regs.orig_rax = if entry { u64::MAX } else { regs.orig_rax }),
        |pid, entry| set(pid, |regs| (regs.orig_rax, regs.rax) = if entry { (u64::MAX, 7) } else { (regs.orig_rax, regs.rax) }),
    ];
    left.reverse();
    while let Some(change) = left.last() {
        eq!(go(PTRACE_SYSCALL, pid, 0), stop(SIGTRAP | 0x80, 0));
        if registers(pid).orig_rax != SYS_getppid as u64 || registers(pid).rax as i64 != -i64::from(ENOSYS) {
            continue;
        }
        change(pid, true);
        eq!(go(PTRACE_SYSCALL, pid, 0), stop(SIGTRAP | 0x80, 0));
        change(pid, false);
        left.pop();
    }
    eq!(process::status(go(PTRACE_CONT, pid, 0)), Status::Exited(0));
}

#[track_caller]
fn set(pid: c_int, change: impl FnOnce(&mut user_regs_struct)) {
    let mut regs = registers(pid);
    change(&mut regs);
    gives!(ptrace(PTRACE_SETREGS, pid, 0, &regs) => 0);
}

fn what_a_call_is() {
    let pid = tracee(|| {
        works!(getppid());
        fails!(lseek(-1, 2, 3, 4, 5, 6) => EBADF);
    });
    let info = |pid: c_int| {
        let mut words = [0u64; 11];
        let len = works!(ptrace(PTRACE_GET_SYSCALL_INFO, pid, 88, &mut words));
        (len, words)
    };
    let (len, words) = info(pid);
    eq!((len, words[0] & 0xff), (24, 0));
    eq!(go(PTRACE_SYSCALL, pid, 0), stop(SIGTRAP, 0));
    // Without the option a border of a call is a stop like others.
    eq!(info(pid).0, 24);
    eq!(message(pid), 1);
    gives!(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD) => 0);
    eq!(go(PTRACE_SYSCALL, pid, 0), stop(SIGTRAP | 0x80, 0));
    eq!(message(pid), 2);
    eq!(go(PTRACE_SYSCALL, pid, 0), stop(SIGTRAP | 0x80, 0));
    let (len, words) = info(pid);
    let regs = registers(pid);
    eq!((len, words[0]), (80, 0xc000_003e << 32 | 1));
    eq!(words[1..10], [regs.rip, regs.rsp, SYS_lseek as u64, u64::from(u32::MAX) << 32 | u64::from(u32::MAX), 2, 3, 4, 5, 6]);
    eq!(go(PTRACE_SYSCALL, pid, 0), stop(SIGTRAP | 0x80, 0));
    let (len, words) = info(pid);
    eq!((len, words[0] & 0xff, words[3] as i64, words[4] & 0xff), (33, 2, -i64::from(EBADF), 1));
    // As much as is asked for.
    let mut short = [0u64; 2];
    gives!(ptrace(PTRACE_GET_SYSCALL_INFO, pid, 8, &mut short) => 33);
    eq!((short[0] & 0xff, short[1]), (2, 0));
    eq!(process::status(go(PTRACE_CONT, pid, 0)), Status::Exited(0));
}

/// A child that sleeps until it is told to end.
fn sleeper() -> (c_int, &'static AtomicU32) {
    let end = shared_word();
    let pid = child(|| until_is(end, 1));
    (pid, end)
}

fn attaching_stops() {
    let (pid, end) = sleeper();
    fails!(ptrace(PTRACE_CONT, pid, 0, 0) => ESRCH);
    gives!(ptrace(PTRACE_ATTACH, pid, 0, 0) => 0);
    fails!(ptrace(PTRACE_ATTACH, pid, 0, 0) => EPERM);
    eq!(word(pid), stop(SIGSTOP, 0));
    fails!(ptrace(PTRACE_INTERRUPT, pid, 0, 0) => EIO);
    gives!(ptrace(PTRACE_CONT, pid, 0, 0) => 0);
    fails!(ptrace(PTRACE_DETACH, pid, 0, 0) => ESRCH);
    gives!(kill(pid, SIGSTOP) => 0);
    eq!(word(pid), stop(SIGSTOP, 0));
    gives!(ptrace(PTRACE_DETACH, pid, 0, 0) => 0);
    fails!(ptrace(PTRACE_CONT, pid, 0, 0) => ESRCH);
    end.store(1, SeqCst);
    join(pid);
}

fn seizing_doesnt_stop() {
    const EVENT: c_int = PTRACE_EVENT_STOP;
    let (pid, end) = sleeper();
    gives!(ptrace(PTRACE_SEIZE, pid, 0, 0) => 0);
    gives!(wait4(pid, 0, __WALL | WNOHANG, 0) => 0);
    fails!(ptrace(PTRACE_LISTEN, pid, 0, 0) => ESRCH);
    gives!(ptrace(PTRACE_INTERRUPT, pid, 0, 0) => 0);
    eq!(word(pid), stop(SIGTRAP, EVENT));
    eq!(message(pid), 0);
    gives!(ptrace(PTRACE_CONT, pid, 0, 0) => 0);
    end.store(1, SeqCst);
    eq!(process::status(word(pid)), Status::Exited(0));
    fails!(ptrace(PTRACE_SEIZE, pid, 0, 0) => ESRCH);
}

fn a_stopped_group_is_listened_to() {
    const EVENT: c_int = PTRACE_EVENT_STOP;
    let (pid, end) = sleeper();
    gives!(ptrace(PTRACE_SEIZE, pid, 0, 0) => 0);
    gives!(kill(pid, SIGSTOP) => 0);
    eq!(word(pid), stop(SIGSTOP, 0));
    eq!(go(PTRACE_CONT, pid, SIGSTOP), stop(SIGSTOP, EVENT));
    gives!(ptrace(PTRACE_LISTEN, pid, 0, 0) => 0);
    fails!(ptrace(PTRACE_CONT, pid, 0, 0) => ESRCH);
    gives!(wait4(pid, 0, __WALL | WNOHANG, 0) => 0);
    gives!(kill(pid, SIGCONT) => 0);
    eq!(word(pid), stop(SIGTRAP, EVENT));
    eq!(go(PTRACE_CONT, pid, 0), stop(SIGCONT, 0));
    end.store(1, SeqCst);
    eq!(process::status(go(PTRACE_CONT, pid, SIGCONT)), Status::Exited(0));
    // Without PTRACE_SEIZE the stop looks like another signal, but nothing is known of it.
    let pid = tracee(|| gives!(kill(process::id(), SIGSTOP) => 0));
    eq!(go(PTRACE_CONT, pid, 0), stop(SIGSTOP, 0));
    eq!(go(PTRACE_CONT, pid, SIGSTOP), stop(SIGSTOP, 0));
    let mut info: siginfo_t = zeroed();
    fails!(ptrace(PTRACE_GETSIGINFO, pid, 0, &mut info) => EINVAL);
    fails!(ptrace(PTRACE_LISTEN, pid, 0, 0) => EIO);
    eq!(process::status(go(PTRACE_CONT, pid, 0)), Status::Exited(0));
}

fn children_are_traced_too() {
    let pid = tracee(|| in_child(|| ()));
    gives!(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEFORK) => 0);
    eq!(go(PTRACE_CONT, pid, 0), stop(SIGTRAP, PTRACE_EVENT_FORK));
    let born = message(pid) as c_int;
    eq!(word(born), stop(SIGSTOP, 0));
    eq!(process::status(go(PTRACE_CONT, born, 0)), Status::Exited(0));
    eq!(go(PTRACE_CONT, pid, 0), stop(SIGCHLD, 0));
    eq!(process::status(go(PTRACE_CONT, pid, 0)), Status::Exited(0));
    // Of one that was seized they stop without a signal.
    let begin = shared_word();
    let pid = child(|| {
        until_is(begin, 1);
        in_child(|| ());
    });
    gives!(ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACEFORK) => 0);
    begin.store(1, SeqCst);
    eq!(word(pid), stop(SIGTRAP, PTRACE_EVENT_FORK));
    let born = message(pid) as c_int;
    eq!(word(born), stop(SIGTRAP, PTRACE_EVENT_STOP));
    gives!(ptrace(PTRACE_DETACH, born, 0, 0) => 0);
    eq!(go(PTRACE_CONT, pid, 0), stop(SIGCHLD, 0));
    eq!(process::status(go(PTRACE_CONT, pid, 0)), Status::Exited(0));
}

extern "C" fn ends_well(_: usize) -> c_int {
    0
}

fn vfork_tells_before_and_after() {
    let pid = tracee(|| {
        let born = process::vfork(ends_well, 0).unwrap_or(0) as c_int;
        join(born);
    });
    gives!(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE) => 0);
    eq!(go(PTRACE_CONT, pid, 0), stop(SIGTRAP, PTRACE_EVENT_VFORK));
    let born = message(pid) as c_int;
    eq!(word(born), stop(SIGSTOP, 0));
    gives!(ptrace(PTRACE_CONT, pid, 0, 0) => 0);
    gives!(wait4(pid, 0, __WALL | WNOHANG, 0) => 0);
    eq!(process::status(go(PTRACE_CONT, born, 0)), Status::Exited(0));
    let mut seen = word(pid);
    while seen == stop(SIGCHLD, 0) {
        seen = go(PTRACE_CONT, pid, 0);
    }
    eq!((seen, message(pid) as c_int), (stop(SIGTRAP, PTRACE_EVENT_VFORK_DONE), born));
    let mut seen = go(PTRACE_CONT, pid, 0);
    while seen == stop(SIGCHLD, 0) {
        seen = go(PTRACE_CONT, pid, 0);
    }
    eq!(process::status(seen), Status::Exited(0));
}

/// Executes something that isn't there to be found in the end.
fn execute_nothing() {
    let path = process::own_file();
    let arguments = [path.as_ptr(), c"list".as_ptr(), std::ptr::null()].map(|text| text.expose_provenance());
    let null = works!(openat(AT_FDCWD, c"/dev/null", O_WRONLY));
    gives!(dup2(null, 1) => 1);
    works!(execve(&*path, &arguments, 0));
}

fn a_new_program_and_the_end_are_told() {
    let pid = tracee(execute_nothing);
    // By a signal, where nothing else was asked for.
    eq!(go(PTRACE_CONT, pid, 0), stop(SIGTRAP, 0));
    eq!(process::status(go(PTRACE_CONT, pid, 0)), Status::Exited(0));
    let pid = tracee(execute_nothing);
    gives!(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT) => 0);
    eq!(go(PTRACE_CONT, pid, 0), stop(SIGTRAP, PTRACE_EVENT_EXEC));
    eq!(message(pid), pid as u64);
    eq!(go(PTRACE_SYSCALL, pid, 0), stop(SIGTRAP, 0));
    let regs = registers(pid);
    eq!((regs.orig_rax, regs.rax), (SYS_execve as u64, 0));
    eq!(go(PTRACE_CONT, pid, 0), stop(SIGTRAP, PTRACE_EVENT_EXIT));
    eq!(message(pid), 0);
    eq!(process::status(go(PTRACE_CONT, pid, 0)), Status::Exited(0));
    // Also of who is killed.
    let pid = tracee(|| gives!(kill(process::id(), SIGTERM) => 0));
    gives!(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEEXIT) => 0);
    eq!(go(PTRACE_CONT, pid, 0), stop(SIGTERM, 0));
    eq!(go(PTRACE_CONT, pid, SIGTERM), stop(SIGTRAP, PTRACE_EVENT_EXIT));
    eq!(message(pid), SIGTERM as u64);
    eq!(process::status(go(PTRACE_CONT, pid, 0)), Status::Killed(SIGTERM));
}

extern "C" fn waits_for_it(word: usize) -> c_int {
    until_is(word_at(word), 1);
    9
}

fn ends_of_threads_are_told() {
    let word_of_thread = shared_word();
    let address = std::ptr::from_ref(word_of_thread).expose_provenance();
    let pid = tracee(|| {
        let stack = pages(16) + 16 * PAGE;
        works_clone(stack, address);
        until_is(word_of_thread, 2);
    });
    gives!(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACECLONE) => 0);
    eq!(go(PTRACE_CONT, pid, 0), stop(SIGTRAP, PTRACE_EVENT_CLONE));
    let thread = message(pid) as c_int;
    eq!(word(thread), stop(SIGSTOP, 0));
    gives!(ptrace(PTRACE_CONT, pid, 0, 0) => 0);
    gives!(ptrace(PTRACE_CONT, thread, 0, 0) => 0);
    gives!(wait4(-1, 0, __WALL | WNOHANG, 0) => 0);
    word_of_thread.store(1, SeqCst);
    eq!(process::status(word(thread)), Status::Exited(9));
    fails!(wait4(thread, 0, ALL, 0) => ECHILD);
    word_of_thread.store(2, SeqCst);
    eq!(process::status(word(pid)), Status::Exited(0));
}

#[track_caller]
fn works_clone(stack: usize, argument: usize) {
    let how = process::Clone { flags: process::THREAD, stack, ..process::Clone::default() };
    is!(process::clone(how, waits_for_it, argument).is_ok(), "a thread");
}

fn the_tracer_waits_before_the_parent() {
    let (pid, end) = sleeper();
    let attached = shared_word();
    let tracer = child(|| {
        gives!(ptrace(PTRACE_SEIZE, pid, 0, 0) => 0);
        attached.store(1, SeqCst);
        until_is(attached, 2);
        eq!(process::status(word(pid)), Status::Exited(0));
        attached.store(3, SeqCst);
    });
    until_is(attached, 1);
    end.store(1, SeqCst);
    until(|| process::state(pid) == Some('Z'));
    // It has ended, but that isn't ours to hear yet.
    gives!(wait4(pid, 0, WNOHANG, 0) => 0);
    attached.store(2, SeqCst);
    join(pid);
    join(tracer);
    eq!(attached.load(SeqCst), 3);
}

fn the_end_of_a_tracer() {
    // Lets its tracees go on,
    let (pid, end) = sleeper();
    in_child(|| {
        gives!(ptrace(PTRACE_ATTACH, pid, 0, 0) => 0);
        eq!(word(pid), stop(SIGSTOP, 0));
    });
    end.store(1, SeqCst);
    join(pid);
    // or takes them along.
    let (pid, _) = sleeper();
    in_child(|| gives!(ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_EXITKILL) => 0));
    eq!(wait(pid), Status::Killed(SIGKILL));
}

fn who_may_trace() {
    fails!(ptrace(PTRACE_ATTACH, process::id(), 0, 0) => EPERM);
    need_root();
    let (pid, end) = sleeper();
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(ptrace(PTRACE_ATTACH, pid, 0, 0) => EPERM);
        fails!(ptrace(PTRACE_SEIZE, pid, 0, 0) => EPERM);
    });
    end.store(1, SeqCst);
    join(pid);
    let end = shared_word();
    in_child(|| {
        gives!(setresgid(1000, 1000, 1000) => 0);
        gives!(setresuid(1000, 1000, 1000) => 0);
        gives!(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) => 0);
        let other = child(|| until_is(end, 1));
        gives!(ptrace(PTRACE_SEIZE, other, 0, 0) => 0);
        end.store(1, SeqCst);
        eq!(process::status(word(other)), Status::Exited(0));
        // One that doesn't want to be looked into.
        let ready = shared_word();
        let other = child(|| {
            gives!(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) => 0);
            ready.store(1, SeqCst);
            until_is(ready, 2);
        });
        until_is(ready, 1);
        fails!(ptrace(PTRACE_SEIZE, other, 0, 0) => EPERM);
        ready.store(2, SeqCst);
        join(other);
    });
}

fn calls_ask_by_real_numbers_and_files_by_others() {
    need_root();
    let (ready, end) = (shared_word(), shared_word());
    let at = pages(1);
    put(at, &[7; 8]);
    in_child(|| {
        gives!(setresgid(1000, 1000, 1000) => 0);
        let other = child(|| {
            gives!(setresuid(1000, 1000, 1000) => 0);
            gives!(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) => 0);
            ready.store(1, SeqCst);
            until_is(end, 1);
        });
        until_is(ready, 1);
        gives!(setresuid(1000, 1001, 1001) => 0);
        let mut seen = [0u8; 8];
        let near = iovec { iov_base: seen.as_mut_ptr().cast(), iov_len: 8 };
        let far = iovec { iov_base: at as *mut c_void, iov_len: 8 };
        gives!(process_vm_readv(other, &near, 1, &far, 1, 0) => 8);
        // KCMP_VM.
        gives!(kcmp(other, other, 1, 0, 0) => 0);
        let path = std::ffi::CString::new(format!("/proc/{other}/mem")).unwrap_or_default();
        fails!(openat(AT_FDCWD, &*path, O_RDONLY) => EACCES);
        gives!(ptrace(PTRACE_SEIZE, other, 0, 0) => 0);
        end.store(1, SeqCst);
        eq!(process::status(word(other)), Status::Exited(0));
    });
}

fn arguments_are_checked() {
    let (pid, end) = sleeper();
    fails!(ptrace(PTRACE_SEIZE, pid, 1, 0) => EIO);
    fails!(ptrace(PTRACE_SEIZE, pid, 0, 1 << 30) => EIO);
    fails!(ptrace(PTRACE_ATTACH, 0, 0, 0) => ESRCH);
    fails!(ptrace(PTRACE_ATTACH, -1, 0, 0) => ESRCH);
    end.store(1, SeqCst);
    join(pid);
    let pid = tracee(|| ());
    fails!(ptrace(PTRACE_SETOPTIONS, pid, 0, 1 << 30) => EINVAL);
    fails!(ptrace(PTRACE_CONT, pid, 0, 65) => EIO);
    fails!(ptrace(PTRACE_DETACH, pid, 0, 65) => EIO);
    fails!(ptrace(0x4299, pid, 0, 0) => EIO);
    fails!(ptrace(PTRACE_GETREGS, pid, 0, BAD) => EFAULT);
    eq!(process::status(go(PTRACE_CONT, pid, 0)), Status::Exited(0));
}

fn proc_tells_of_it() {
    let pid = tracee(|| ());
    let line = |name: &str| {
        let status = contents(&format!("/proc/{pid}/status"));
        status.lines().find_map(|line| line.strip_prefix(name).map(|rest| rest.trim().to_owned())).unwrap_or_default()
    };
    eq!(line("TracerPid:"), process::id().to_string());
    eq!(line("State:"), "t (tracing stop)");
    eq!(process::state(pid), Some('t'));
    gives!(ptrace(PTRACE_DETACH, pid, 0, SIGSTOP) => 0);
    until(|| process::state(pid) == Some('T'));
    eq!(line("TracerPid:"), "0");
    gives!(kill(pid, SIGCONT) => 0);
    join(pid);
}
