//! Processes: made with namespaces, found again without mistaking one for another, waited for.

use crate::error::{Context, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::ffi::{CString, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

bitflags::bitflags! {
    /// Namespaces to make, join or leave: `CLONE_NEW*`, clone(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Spaces: u64 {
        /// Time; takes effect on children only.
        const TIME = libc::CLONE_NEWTIME as u64;
        /// Mounts.
        const MNT = libc::CLONE_NEWNS as u64;
        /// Control groups.
        const CGROUP = libc::CLONE_NEWCGROUP as u64;
        /// Host name.
        const UTS = libc::CLONE_NEWUTS as u64;
        /// System V IPC and message queues.
        const IPC = libc::CLONE_NEWIPC as u64;
        /// Users.
        const USER = libc::CLONE_NEWUSER as u64;
        /// Process numbers; takes effect on children only.
        const PID = libc::CLONE_NEWPID as u64;
        /// Network.
        const NET = libc::CLONE_NEWNET as u64;
    }
}

/// A child process of ours.
#[derive(Debug)]
pub struct Child {
    /// Its number in our PID namespace.
    pub pid: Pid,
    /// A handle that stays its own even when the number is used again; readable when it has ended.
    pub pidfd: OwnedFd,
}

/// Which side of a [`fork`] we are on.
#[derive(Debug)]
pub enum Fork {
    /// In the new process.
    Child,
    /// In the old one.
    Parent(Child),
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Makes a copy of this process in new namespaces and, on cgroup v2, directly in a cgroup (no later move, which would wait).
///
/// The process must have one thread: a lock held by another would stay locked for ever in the copy.
///
/// # Errors
/// The kernel refuses a namespace or the cgroup, or has no room for a process. Source: clone(2).
pub fn fork(spaces: Spaces, cgroup: Option<BorrowedFd<'_>>) -> Result<Fork> {
    let mut pidfd: i32 = -1;
    let into = if cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 };
    // SAFETY: clone_args is plain data for which all zeros is the documented empty value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = spaces.bits() | into | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = cgroup.map_or(0, |fd| fd.as_raw_fd() as u64);
    // SAFETY: without CLONE_VM and a stack the call copies this process like fork(2); `args` and `pidfd` outlive it. The copy shares
    // no memory with us, and this program has one thread wherever it forks (see above).
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    let pid = Errno::result(result).on("make a process", "")?;
    let Some(pid) = Pid::from_raw(pid as i32) else { return Ok(Fork::Child) };
    // SAFETY: the call succeeded, so the kernel has stored a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Fork::Parent(Child { pid, pidfd }))
}

/// Turns the C convention (−1 and errno) into a result.
pub(crate) trait FromC: Sized {
    fn result(value: i64) -> rustix::io::Result<i64>;
}

impl FromC for Errno {
    fn result(value: i64) -> rustix::io::Result<i64> {
        if value >= 0 { Ok(value) } else { Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)) }
    }
}

/// Joins the namespaces of a process, all at once, by its pidfd. Source: setns(2).
///
/// # Errors
/// No right to one of them, or the process has ended.
pub fn join_process(pidfd: impl AsFd, spaces: Spaces) -> Result<()> {
    set_namespace(pidfd.as_fd(), spaces).on("join the namespaces of", "the process")
}

/// Joins the namespace that a file of `/proc/PID/ns` (or a bind mount of one) stands for; it must be of this kind.
///
/// # Errors
/// The file is no such namespace, or no right to join it.
pub fn join_namespace(file: impl AsFd, kind: Spaces) -> rustix::io::Result<()> {
    set_namespace(file.as_fd(), kind)
}

fn set_namespace(fd: BorrowedFd<'_>, kind: Spaces) -> rustix::io::Result<()> {
    // SAFETY: setns reads no memory of ours; which namespaces a process is in is no matter of memory safety.
    let result = unsafe { libc::setns(fd.as_raw_fd(), kind.bits() as i32) };
    Errno::result(i64::from(result)).map(drop)
}

/// Moves this process into new namespaces.
///
/// # Errors
/// No right to make one.
pub fn unshare(spaces: Spaces) -> rustix::io::Result<()> {
    // SAFETY: only CLONE_NEW* flags can be in `spaces`; none of them unshares memory or descriptors under Rust's feet.
    let result = unsafe { libc::unshare(spaces.bits() as i32) };
    Errno::result(i64::from(result)).map(drop)
}

/// When a process was started, in clock ticks after boot: with its number, what tells it from a later one.
///
/// # Errors
/// There is no such process.
pub fn start_time(pid: Pid) -> Result<u64> {
    let path = format!("/proc/{}/stat", pid.as_raw_pid());
    let stat = std::fs::read(&path).on("read", &path)?;
    parse_start_time(&stat).ok_or(Errno::INVAL).on("read", &path)
}

/// The processors that a thread might use before it stayed on one: see [`stay_here`].
#[derive(Clone, Copy, Debug)]
pub struct Processors(rustix::thread::CpuSet);

/// Keeps this thread, and who is forked from it, on the processor it is on: who hands work to and fro with its child is woken there without
/// an interrupt of another, which on some machines takes longer than all the work. None if the kernel refuses.
pub fn stay_here() -> Option<Processors> {
    let before = rustix::thread::sched_getaffinity(None).ok()?;
    let mut here = rustix::thread::CpuSet::new();
    here.set(rustix::thread::sched_getcpu());
    rustix::thread::sched_setaffinity(None, &here).ok()?;
    Some(Processors(before))
}

/// Lets this thread use them again.
pub fn roam(before: Option<Processors>) {
    if let Some(Processors(before)) = before {
        let _ = rustix::thread::sched_setaffinity(None, &before);
    }
}

/// Has a program that is started by this thread be killed when the thread ends, however that comes about.
pub fn dies_with_us(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let ours = rustix::process::getpid();
    let tie = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // We may have ended before it was tied.
        if rustix::process::getppid() == Some(ours) { Ok(()) } else { Err(Errno::SRCH.into()) }
    };
    // SAFETY: between fork and exec it makes two system calls, and touches no memory that a lock guards.
    unsafe { command.pre_exec(tie) };
}

/// How long a thread of this process has been on a processor; none if it has ended. Source: clock_getcpuclockid(3), and the kernel's
/// `posix-timers.h` for what is in the number of such a clock.
pub fn thread_time(task: Pid) -> Option<std::time::Duration> {
    const PER_THREAD: i32 = 4;
    const TIME_ON_PROCESSOR: i32 = 2;
    let clock = !task.as_raw_pid() << 3 | PER_THREAD | TIME_ON_PROCESSOR;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time lives through the call; a clock of a thread that isn't ours, or isn't there, is an error.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    Errno::result(i64::from(result)).ok()?;
    Some(std::time::Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32))
}

/// Field 22 of proc_pid_stat(5). The name, field 2, stands in parentheses and may hold anything, so the count starts after the last.
fn parse_start_time(stat: &[u8]) -> Option<u64> {
    let after = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let text = std::str::from_utf8(stat.get(after..)?).ok()?;
    text.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The state letter of a process (`R`, `S`, `T`, `Z`, …), or none when there is no such process.
pub fn state(pid: Pid) -> Option<char> {
    parse_state(&read_stat(pid)?)
}

/// When a process was started, if it hasn't ended.
fn lives_since(pid: Pid) -> Option<u64> {
    let stat = read_stat(pid)?;
    parse_state(&stat).filter(|state| !matches!(state, 'Z' | 'X')).and_then(|_| parse_start_time(&stat))
}

fn read_stat(pid: Pid) -> Option<Vec<u8>> {
    std::fs::read(format!("/proc/{}/stat", pid.as_raw_pid())).ok()
}

fn parse_state(stat: &[u8]) -> Option<char> {
    let after = stat.iter().rposition(|byte| *byte == b')')? + 2;
    stat.get(after).map(|letter| char::from(*letter))
}

/// A pidfd of the process with this number and start time; none if it has ended, whether or not its number is in use again.
///
/// # Errors
/// The kernel gives no pidfd for another reason.
pub fn find(pid: Pid, started: u64) -> Result<Option<OwnedFd>> {
    match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
        // The number can't be reused while we look, if it was still right after the descriptor was there.
        Ok(pidfd) if lives_since(pid) == Some(started) => Ok(Some(pidfd)),
        Ok(_) | Err(Errno::SRCH) => Ok(None),
        Err(errno) => Err(errno).on("open the process", pid.as_raw_pid()),
    }
}

/// Sends a signal, given as its number, to the process of a pidfd; `Ok(false)` when it has ended.
///
/// # Errors
/// No right to, or no such signal.
pub fn signal(pidfd: impl AsFd, signal: i32) -> Result<bool> {
    // SAFETY: the call reads no memory: the siginfo pointer is null.
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_fd().as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    match Errno::result(result) {
        Ok(_) => Ok(true),
        Err(Errno::SRCH) => Ok(false),
        Err(errno) => Err(errno).on("send a signal to", "the process"),
    }
}

/// Kills the process of a pidfd; one that has ended is no error.
pub fn kill(pidfd: impl AsFd) {
    let _ = signal(pidfd, Signal::KILL.as_raw());
}

/// Waits until the process of a pidfd, which needn't be a child, has ended, at most so long; whether it has.
///
/// # Errors
/// The kernel refuses to wait.
pub fn wait_ended(pidfd: impl AsFd, timeout: Option<std::time::Duration>) -> Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let deadline = timeout.map(|t| std::time::Instant::now() + t);
    loop {
        let left = deadline.map(|at| at.saturating_duration_since(std::time::Instant::now()));
        let left = left.map(|t| Timespec { tv_sec: t.as_secs() as i64, tv_nsec: i64::from(t.subsec_nanos()) });
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], left.as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).on("wait for", "the process"),
        }
    }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

impl Ended {
    /// The code a shell gives: 128 and the signal for a killed process.
    pub fn code(self) -> u8 {
        match self {
            Ended::Exited(code) => code as u8,
            Ended::Killed(signal) => 128_u8.wrapping_add(signal as u8),
        }
    }
}

/// Takes note of the end of a child, which must have come or comes now: waits for it.
///
/// # Errors
/// It is no child of ours, or was waited for already.
pub fn reap(pidfd: impl AsFd) -> Result<Ended> {
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
            Ok(Some(status)) => {
                let killed = status.terminating_signal().map(Ended::Killed);
                return Ok(killed.unwrap_or_else(|| Ended::Exited(status.exit_status().unwrap_or(0))));
            }
            Ok(None) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).on("wait for", "the child"),
        }
    }
}

/// Replaces this process by a program.
///
/// Returns only on failure, with the kernel's reason. Arguments and environment are passed as they are; a NUL byte ends one.
pub fn exec(program: &Path, args: &[String], env: &[String]) -> Errno {
    let path = c_string(program.as_os_str().as_bytes());
    let args: Vec<CString> = args.iter().map(|text| c_string(text.as_bytes())).collect();
    let env: Vec<CString> = env.iter().map(|text| c_string(text.as_bytes())).collect();
    let pointers = |list: &[CString]| -> Vec<*const c_char> {
        list.iter().map(|text| text.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
    };
    let (args, env) = (pointers(&args), pointers(&env));
    // SAFETY: path, arguments and environment are NUL-terminated strings that live until the call returns, in null-terminated lists.
    unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

fn c_string(bytes: &[u8]) -> CString {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    CString::new(&bytes[..end]).unwrap_or_default()
}

/// Ends this process at once, without running what was registered for its end: for copies made by [`fork`].
pub fn exit(code: i32) -> ! {
    // SAFETY: _exit has no precondition.
    unsafe { libc::_exit(code) }
}

const CLOSE_RANGE_CLOEXEC: libc::c_uint = 1 << 2;

/// Has exec close every descriptor from this number on. Source: close_range(2).
///
/// # Errors
/// The kernel is older than 5.11.
pub fn close_on_exec_from(first: u32) -> rustix::io::Result<()> {
    // SAFETY: the descriptors stay open until exec; nothing that owns one notices.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Closes descriptors by number, from `first` on, whoever owns them: for a process that goes on to do one small thing with
/// descriptors it knows.
pub fn close_all_except(mut first: u32, keep: &[BorrowedFd<'_>]) {
    let mut keep: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().unsigned_abs()).collect();
    keep.sort_unstable();
    for last in keep.into_iter().chain([u32::MAX]) {
        if last > first {
            // SAFETY: the caller's promise: nothing in this process uses the others again; it ends without dropping their owners.
            unsafe { libc::syscall(libc::SYS_close_range, first, last - 1, 0) };
        }
        first = first.max(last.saturating_add(1));
    }
}

/// What kind of namespace an open file stands for, wherever it is mounted.
///
/// # Errors
/// It stands for none. Source: ioctl_ns(2), `NS_GET_NSTYPE`.
pub fn namespace_kind(file: impl AsFd) -> rustix::io::Result<Spaces> {
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: the descriptor is open; the request takes no argument and answers with a number.
    let kind = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), NS_GET_NSTYPE as _) };
    Errno::result(kind.into()).map(|kind| Spaces::from_bits_retain(kind as _))
}

/// Whether this program was started with rights that its caller hasn't: its file is set-user-ID or set-group-ID, or has capabilities.
/// Source: getauxval(3), `AT_SECURE`, which a security module sets, too, where a program begins another domain; capabilities(7).
///
/// # Errors
/// None that a Linux since 4.3 gives.
pub fn is_privileged_by_file() -> Result<bool> {
    use rustix::process::{getegid, geteuid, getgid, getuid};
    // SAFETY: it reads a value that the kernel has left in this process's memory.
    if unsafe { libc::getauxval(libc::AT_SECURE) } == 0 {
        return Ok(false);
    }
    let becomes_other = getuid() != geteuid() || getgid() != getegid();
    // Who isn't root keeps over an exec what is ambient; all else is the file's.
    Ok(becomes_other || !geteuid().is_root() && crate::capability::get()?.1 & !crate::capability::ambient()? != 0)
}

/// Leaves what a process that serves a sandbox has from who forked it: signals, terminal, standard input and output, the mask of new files, and all
/// descriptors but these and standard error. It is killed when the thread that forked it ends.
///
/// # Errors
/// The kernel refuses.
pub fn leave_caller(keep: &[BorrowedFd<'_>]) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).on("be tied to", "the caller")?;
    crate::signals::reset();
    // What is typed at the caller's terminal is for the sandbox.
    rustix::process::setsid().on("make", "a session")?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).on("open", "/dev/null")?;
    rustix::stdio::dup2_stdin(&null).on("replace", "standard input")?;
    rustix::stdio::dup2_stdout(&null).on("replace", "standard output")?;
    // Also the one just opened, unless it is one of the first three.
    let _ = null.into_raw_fd();
    close_all_except(3, keep);
    rustix::process::umask(Mode::empty());
    Ok(())
}

/// Takes descriptors over that came from who called us, by their numbers, `count` from `first` on: each gets another number, is closed on exec, and
/// its old number is free.
///
/// # Errors
/// `EBADF`: one isn't open. `EMFILE`: no more can be.
pub fn take_descriptors(first: u32, count: u32) -> rustix::io::Result<Vec<OwnedFd>> {
    let mut taken = Vec::new();
    for number in first..first.saturating_add(count) {
        let above = first.saturating_add(count);
        // SAFETY: neither call reads memory. Nothing in this process owns what came with these numbers, and `OwnedFd` the new ones alone.
        let copy = unsafe {
            let copy = Errno::result(i64::from(libc::fcntl(number as i32, libc::F_DUPFD_CLOEXEC, above)))?;
            libc::close(number as i32);
            OwnedFd::from_raw_fd(copy as i32)
        };
        taken.push(copy);
    }
    Ok(taken)
}

/// Sets the limit of a resource by the kernel's number.
///
/// # Errors
/// The hard limit is above the present one and CAP_SYS_RESOURCE is missing, or there is no such limit.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> rustix::io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `limit` lives through the call, and no old limit is asked for.
    let result = unsafe { libc::prlimit64(0, resource as _, &raw const limit, std::ptr::null_mut()) };
    Errno::result(i64::from(result)).map(drop)
}

/// Sets user, group and further groups of this process for good. Source: credentials(7).
///
/// # Errors
/// No right to, or an ID that isn't mapped in the user namespace (then the kernel says "invalid argument").
pub fn set_ids(uid: u32, gid: u32, groups: Option<&[u32]>) -> Result<()> {
    if let Some(groups) = groups {
        // SAFETY: the list and its length belong together.
        let result = unsafe { libc::setgroups(groups.len(), groups.as_ptr()) };
        Errno::result(i64::from(result)).on("set the groups", format_args!("{groups:?}"))?;
    }
    // SAFETY: no memory is read. The C library changes the IDs of all threads; here there is one.
    Errno::result(i64::from(unsafe { libc::setresgid(gid, gid, gid) })).on("become group", gid)?;
    // SAFETY: as above.
    Errno::result(i64::from(unsafe { libc::setresuid(uid, uid, uid) })).on("become user", uid)?;
    Ok(())
}

/// Has this thread, alone, make and find files as this user and group. Source: setfsuid(2).
///
/// # Errors
/// `EPERM`: no right to, or an ID that isn't mapped in the user namespace. One of the two may have been set.
pub fn set_fs_ids(uid: u32, gid: u32) -> rustix::io::Result<()> {
    // SAFETY: neither call reads memory, and each acts on this thread only. They give the ID before, even if they change nothing.
    let set = unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
        // An ID that nobody can have: this asks.
        (libc::setfsuid(u32::MAX), libc::setfsgid(u32::MAX))
    };
    if set == (uid.cast_signed(), gid.cast_signed()) { Ok(()) } else { Err(Errno::PERM) }
}

/// Leaves the session keyring that came from the caller for the one of this name, which is made if it isn't there yet. Source: keyctl(2).
///
/// A kernel without keys, and one that forbids us to ask, keeps keys from everybody who comes after us too: then there is nothing to do.
///
/// # Errors
/// The limit of keys is reached.
pub fn join_session_keyring(name: &str) -> Result<()> {
    const JOIN: libc::c_int = 1;
    const SET_PERMISSIONS: libc::c_int = 5;
    /// The default, and that processes of the same user may find it by its name: who is added to the sandbox later.
    const PERMISSIONS: u32 = 0x3f1b_0000;
    let name = c_string(name.as_bytes());
    // SAFETY: the name is NUL-terminated and lives through the call.
    match Errno::result(unsafe { libc::syscall(libc::SYS_keyctl, JOIN, name.as_ptr()) }) {
        Err(Errno::NOSYS | Errno::PERM) => Ok(()),
        joined => {
            let keyring = joined.on("make", "a session keyring")?;
            // SAFETY: no memory is read. One that another process of the sandbox has made has the permissions already.
            unsafe { libc::syscall(libc::SYS_keyctl, SET_PERMISSIONS, keyring, PERMISSIONS) };
            Ok(())
        }
    }
}

/// Sets the execution domain, personality(2).
///
/// # Errors
/// The kernel doesn't know it.
pub fn set_personality(bits: u32) -> rustix::io::Result<()> {
    // SAFETY: no memory is read; the domain acts on calls of the program to come.
    Errno::result(i64::from(unsafe { libc::personality(libc::c_ulong::from(bits)) })).map(drop)
}

/// Sets class (1 realtime, 2 best effort, 3 idle) and level (0 to 7) of this process's I/O, ioprio_set(2).
///
/// # Errors
/// The real-time class needs CAP_SYS_ADMIN or CAP_SYS_NICE.
pub fn set_io_priority(class: u8, level: u8) -> rustix::io::Result<()> {
    const WHO_PROCESS: i32 = 1;
    let priority = i32::from(class) << 13 | i32::from(level);
    // SAFETY: no memory is read.
    Errno::result(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, priority) }).map(drop)
}

/// What sched_setattr(2) takes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SchedAttr {
    /// Bytes of this structure.
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// −20 to 19.
    pub nice: i32,
    /// 0 to 99.
    pub priority: u32,
    /// Nanoseconds.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
}

/// Sets how this process is scheduled.
///
/// # Errors
/// Needs CAP_SYS_NICE for most, or the values don't go together.
pub fn set_scheduler(mut attr: SchedAttr) -> rustix::io::Result<()> {
    attr.size = size_of::<SchedAttr>() as u32;
    // SAFETY: `attr` has the kernel's layout and lives through the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) }).map(drop)
}

/// From now on the allocator has this many places to take memory from, however many threads there are: fewer hold less that nobody
/// uses. It also needn't ask how many processors there are, for which it would open a file. Source: mallopt(3).
pub fn limit_arenas(count: i32) {
    // SAFETY: sets a number; before other threads exist nobody reads it at the same time.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, count) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_survives_a_hostile_name() {
        let stat = b"7 (a) R 1) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 424242 1 2";
        assert_eq!(parse_start_time(stat), Some(424242));
        assert_eq!(parse_start_time(b"garbage"), None);
    }

    #[test]
    fn codes_are_a_shells() {
        assert_eq!((Ended::Exited(3).code(), Ended::Killed(9).code()), (3, 137));
    }
}
