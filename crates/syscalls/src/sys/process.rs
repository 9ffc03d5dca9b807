//! Processes: children that run a closure, how they ended, and tasks made without the C library.

use super::{plain::zeroed, sys};
use crate::check::{fail, name};
use libc::{c_int, siginfo_t};
use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use syscalls::Errno;

/// Ends all threads of this process, without running anything of the program's.
pub(crate) fn exit(code: i32) -> ! {
    loop {
        let _ = sys!(exit_group(code));
    }
}

/// This process's number.
pub(crate) fn id() -> c_int {
    sys!(getpid()).unwrap_or(0) as c_int
}

/// The processor that this thread is on, as the C library knows it, which makes no system call for that.
pub(crate) fn processor() -> Option<usize> {
    // SAFETY: no memory of ours is touched.
    usize::try_from(unsafe { libc::sched_getcpu() }).ok()
}

/// This thread's number.
pub(crate) fn thread_id() -> c_int {
    sys!(gettid()).unwrap_or(0) as c_int
}

/// Forks a child that runs `body` and exits with 0, unless it ends itself otherwise.
#[track_caller]
pub(crate) fn child(body: impl FnOnce()) -> c_int {
    match sys!(fork()) {
        Ok(0) => {
            body();
            exit(0)
        }
        Ok(pid) => pid as c_int,
        Err(error) => fail(&format!("fork: {}", name(error))),
    }
}

/// How a child ended, as wait4 tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Exited(i32),
    Killed(i32),
    Stopped(i32),
    Continued,
}

/// Takes wait4's status apart.
pub(crate) fn status(word: c_int) -> Status {
    match word & 0xff {
        0 => Status::Exited((word >> 8) & 0xff),
        0x7f => Status::Stopped((word >> 8) & 0xff),
        _ if word == 0xffff => Status::Continued,
        _ => Status::Killed(word & 0x7f),
    }
}

/// Waits for this child's end, as often as signals interrupt.
#[track_caller]
pub(crate) fn wait(pid: c_int) -> Status {
    let mut word = 0;
    loop {
        match sys!(wait4(pid, &mut word, 0, 0)) {
            Ok(_) => return status(word),
            Err(Errno::EINTR) => continue,
            Err(error) => fail(&format!("wait4({pid}): {}", name(error))),
        }
    }
}

/// Waits for this child's end, which must be an exit with 0.
#[track_caller]
pub(crate) fn join(pid: c_int) {
    match wait(pid) {
        Status::Exited(0) => {}
        other => fail(&format!("the child's end: expected Exited(0), got {other:?}")),
    }
}

/// Runs `body` in a child, and waits for its end, which must be an exit with 0.
#[track_caller]
pub(crate) fn in_child(body: impl FnOnce()) {
    join(child(body));
}

/// Waits until a condition holds; the test's timeout is what ends it otherwise.
pub(crate) fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        let _ = sys!(nanosleep(&libc::timespec { tv_sec: 0, tv_nsec: 500_000 }, 0));
    }
}

/// Waits until the word has this value.
pub(crate) fn until_is(word: &AtomicU32, value: u32) {
    until(|| word.load(SeqCst) == value);
}

/// The letter that /proc has for how a thread is: `S` asleep, `T` stopped, `Z` a zombie.
pub(crate) fn state(pid: c_int) -> Option<char> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Waits until a process or thread sleeps in a call, or has ended: on a slow machine it may be through already.
pub(crate) fn until_asleep(pid: c_int) {
    until(|| matches!(state(pid), Some('S' | 'Z' | 'X') | None));
}

/// Waits until a child has ended, and leaves it to be waited for.
#[track_caller]
pub(crate) fn until_ended(pid: c_int) {
    loop {
        match sys!(waitid(libc::P_PID, pid, &mut zeroed::<siginfo_t>(), libc::WEXITED | libc::WNOWAIT, 0)) {
            Ok(_) => return,
            Err(Errno::EINTR) => continue,
            Err(error) => fail(&format!("waitid({pid}): {}", name(error))),
        }
    }
}

/// Skips the test if it isn't run as root.
pub(crate) fn need_root() {
    if sys!(geteuid()) != Ok(0) {
        crate::check::end_skipped("needs root");
    }
}

/// This program's own file, for execve.
pub(crate) fn own_file() -> CString {
    let path = std::env::current_exe().map(std::path::PathBuf::into_os_string).unwrap_or_else(|_| "/proc/self/exe".into());
    CString::new(path.into_encoded_bytes()).unwrap_or_else(|_| c"/proc/self/exe".to_owned())
}

/// Where [`copy`] puts a copy of this program.
pub(crate) const COPY: &CStr = c"copy";

/// Copies this program into the working directory: where the original lies, other users may not come.
pub(crate) fn copy() {
    let copied = std::fs::read(own_file().to_string_lossy().as_ref()).and_then(|bytes| std::fs::write("copy", bytes));
    if let Err(error) = copied {
        fail(&format!("copying {:?}: {error}", own_file()));
    }
    let _ = sys!(chmod(COPY, 0o755));
}

// Makes a task that runs a function on a stack of its own (or, with none, on its copy of ours) and ends.
std::arch::global_asm!(
    ".globl insula_clone, insula_clone3, insula_vfork",
    // flags, stack, parent_tid, child_tid, tls, function, argument
    "insula_clone:",
    "push rbx",
    "mov rbx, [rsp + 16]",
    "mov r10, rcx",
    "mov eax, 56",
    "syscall",
    "test rax, rax",
    "jz 2f",
    "pop rbx",
    "ret",
    // clone_args, size, function, argument
    "insula_clone3:",
    "push rbx",
    "mov rbx, rcx",
    "mov r9, rdx",
    "mov eax, 435",
    "syscall",
    "test rax, rax",
    "jz 2f",
    "pop rbx",
    "ret",
    // function, argument. The child runs below us on our stack, and we go on when it has ended.
    "insula_vfork:",
    "push rbx",
    "mov rbx, rsi",
    "mov r9, rdi",
    "mov eax, 58",
    "syscall",
    "test rax, rax",
    "jz 2f",
    "pop rbx",
    "ret",
    "2:",
    "xor ebp, ebp",
    "and rsp, -16",
    "mov rdi, rbx",
    "call r9",
    "mov edi, eax",
    "mov eax, 60",
    "syscall",
    "hlt",
);

/// What a task runs. It may share all memory with us, also the C library's idea of a thread: only calls, atomics and assertions.
pub(crate) type Body = extern "C" fn(usize) -> c_int;

unsafe extern "C" {
    fn insula_clone(flags: usize, stack: usize, parent: usize, child: usize, tls: usize, body: Body, argument: usize) -> usize;
    fn insula_clone3(args: usize, size: usize, body: Body, argument: usize) -> usize;
    fn insula_vfork(body: Body, argument: usize) -> usize;
}

/// The flags of clone that make a thread of this process, as the C library makes one, but without registers of its own.
pub(crate) const THREAD: c_int =
    libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD | libc::CLONE_SYSVSEM;

/// What clone takes beside flags.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Clone {
    pub(crate) flags: c_int,
    /// The stack's upper end, a multiple of 16; 0 for a copy of ours.
    pub(crate) stack: usize,
    pub(crate) parent_tid: usize,
    pub(crate) child_tid: usize,
}

/// `clone(2)`: the task runs `body(argument)`, and its value is its exit code.
pub(crate) fn clone(how: Clone, body: Body, argument: usize) -> Result<usize, Errno> {
    crate::board::record_call(syscalls::Sysno::clone.id() as usize);
    let flags = how.flags as u32 as usize;
    // SAFETY: the body keeps to what its type says, and the stack is memory that the test mapped for it.
    Errno::from_ret(unsafe { insula_clone(flags, how.stack, how.parent_tid, how.child_tid, 0, body, argument) })
}

/// `clone3(2)`: likewise. The size is the caller's, as the call checks it.
pub(crate) fn clone3(args: &libc::clone_args, size: usize, body: Body, argument: usize) -> Result<usize, Errno> {
    crate::board::record_call(syscalls::Sysno::clone3.id() as usize);
    let args = std::ptr::from_ref(args).expose_provenance();
    // SAFETY: as above; the kernel reads no more of the arguments than their size, or refuses.
    Errno::from_ret(unsafe { insula_clone3(args, size, body, argument) })
}

/// `vfork(2)`: the child runs `body(argument)` in our memory and on our stack, while we wait for it to end or to start a program.
pub(crate) fn vfork(body: Body, argument: usize) -> Result<usize, Errno> {
    crate::board::record_call(syscalls::Sysno::vfork.id() as usize);
    // SAFETY: the body keeps to what its type says; it touches the stack only below our frame, and we don't run meanwhile.
    Errno::from_ret(unsafe { insula_vfork(body, argument) })
}

/// What a clock says, in nanoseconds, as the C library tells it: without the kernel, where there is a vDSO.
pub(crate) fn library_clock(clock: c_int) -> i128 {
    let mut time: libc::timespec = super::zeroed();
    // SAFETY: the library writes one `timespec`, which is there.
    let outcome = unsafe { libc::clock_gettime(clock, &mut time) };
    assert_eq!(outcome, 0, "clock_gettime of the library");
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}
