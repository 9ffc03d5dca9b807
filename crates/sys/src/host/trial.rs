//! Trying something in a throw-away child: the only honest answer to "may I?", and one that leaves nothing behind.
//!
//! [`run`] forks; the child takes the steps and writes the first failure, if any, into a pipe; the parent reads it with a deadline
//! and reaps the child. Namespaces and mounts made by the child die with it. Between `fork` and exit a child may only make system
//! calls (no allocation, no locks: another thread of the parent may have held them), which is why steps carry static text and
//! file contents are formatted before the fork (`IdMaps`) or on the stack (`Line`).

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::UnshareFlags;
use serde::Serialize;
use std::io::Write;
use std::os::fd::OwnedFd;

/// What came of a trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Trial {
    /// Every step succeeded.
    Works,
    /// A step failed.
    Fails {
        /// The step, as a phrase that completes "could not …".
        step: String,
        /// The error number; 0 if the child ended without a word.
        errno: i32,
        /// The error in words.
        error: String,
    },
    /// It wasn't tried.
    Untried {
        /// Why not.
        why: String,
    },
}

impl Trial {
    /// Whether it was tried and every step succeeded.
    pub fn works(&self) -> bool {
        *self == Trial::Works
    }

    /// The error number of the failed step.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Trial::Fails { errno, .. } => Some(Errno::from_raw_os_error(*errno)),
            _ => None,
        }
    }

    /// Why it doesn't work, as a clause: `mounting overlayfs: Operation not permitted`. Empty if it works.
    pub fn reason(&self) -> String {
        match self {
            Trial::Works => String::new(),
            Trial::Fails { step, error, .. } => format!("{step}: {error}"),
            Trial::Untried { why } => why.clone(),
        }
    }

    pub(super) fn fails(step: impl Into<String>, errno: Errno) -> Trial {
        let step = step.into();
        // std's words for an error number, without its "(os error N)" tail: the number has its own field.
        let words = std::io::Error::from(errno).to_string();
        let error = words.split(" (os error").next().unwrap_or_default().to_owned();
        Trial::Fails { step, errno: errno.raw_os_error(), error }
    }

    pub(super) fn untried(why: impl Into<String>) -> Trial {
        Trial::Untried { why: why.into() }
    }

    /// The outcome of a single call that needs no child.
    pub(super) fn of<T>(step: &str, result: Result<T, Errno>) -> Trial {
        match result {
            Ok(_) => Trial::Works,
            Err(errno) => Trial::fails(step, errno),
        }
    }
}

/// A failed step inside a child.
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    step: &'static str,
    errno: Errno,
}

impl Failure {
    pub(super) fn new(step: &'static str, errno: Errno) -> Self {
        Failure { step, errno }
    }
}

/// Names the step a result belongs to.
pub trait Step<T> {
    /// Turns an error into the failure of `step`, a phrase such as "mounting overlayfs".
    fn step(self, step: &'static str) -> Result<T, Failure>;
}

impl<T> Step<T> for Result<T, Errno> {
    fn step(self, step: &'static str) -> Result<T, Failure> {
        self.map_err(|errno| Failure { step, errno })
    }
}

/// How long a child may take before it is killed. Generous: it only bounds a hang, every trial here takes about a millisecond.
const DEADLINE: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// Forks, runs `attempt` in the child, and tells what came of it.
///
/// `attempt` must only make system calls and touch the stack: no allocation, no locks, no panics. Call it from a process with one
/// thread if you can't promise that.
pub fn run(attempt: impl FnOnce() -> Result<(), Failure>) -> Trial {
    match fork_and_wait(attempt) {
        Ok(trial) => trial,
        Err(errno) => Trial::fails("starting a child process for the trial", errno),
    }
}

/// As [`run`], for use inside a child (a PID namespace needs a second one): nothing is allocated.
pub(super) fn nested(attempt: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    nested_with(attempt, |_| ())
}

/// As [`nested`], and does something in the parent while the second child runs.
pub(super) fn nested_with(attempt: impl FnOnce() -> Result<(), Failure>, meanwhile: impl FnOnce(Pid)) -> Result<(), Failure> {
    let (reader, writer) = pipe().step("making a pipe")?;
    let child = fork(writer, attempt).step("starting a second child process")?;
    meanwhile(child);
    let mut message = [0; MESSAGE];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(&reader, &mut message));
    reap(child);
    decode(length.unwrap_or(0), &message).unwrap_or(Err(Failure { step: KILLED, errno: Errno::CHILD }))
}

const KILLED: &str = "surviving the trial";

/// The length of a child's message: an error number, and where the step's name stands. All zero is success.
const MESSAGE: usize = 20;

fn fork_and_wait(attempt: impl FnOnce() -> Result<(), Failure>) -> Result<Trial, Errno> {
    let (reader, writer) = pipe()?;
    let child = fork(writer, attempt)?;
    let mut message = [0; MESSAGE];
    let mut fds = [PollFd::new(&reader, PollFlags::IN)];
    let length = match rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, Some(&DEADLINE))) {
        Ok(1..) => rustix::io::retry_on_intr(|| rustix::io::read(&reader, &mut message)).unwrap_or(0),
        // It hangs, or polling failed: either way it must not outlive us.
        _ => {
            let _ = rustix::process::kill_process(child, Signal::KILL);
            reap(child);
            return Ok(Trial::fails("finishing in time", Errno::TIMEDOUT));
        }
    };
    reap(child);
    Ok(match decode(length, &message) {
        Some(Ok(())) => Trial::Works,
        Some(Err(failure)) => Trial::fails(failure.step, failure.errno),
        // For example by a seccomp filter over all of us.
        None => Trial::Fails { step: KILLED.into(), errno: 0, error: "the kernel killed the process that tried it".into() },
    })
}

/// Writes the outcome as one message; a pipe takes it whole.
fn report(writer: &OwnedFd, outcome: Result<(), Failure>) {
    let mut message = [0; MESSAGE];
    if let Err(Failure { step, errno }) = outcome {
        message[..4].copy_from_slice(&errno.raw_os_error().to_ne_bytes());
        message[4..12].copy_from_slice(&(step.as_ptr() as usize).to_ne_bytes());
        message[12..].copy_from_slice(&step.len().to_ne_bytes());
    }
    let _ = rustix::io::write(writer, &message);
}

/// What [`report`] wrote; `None` if the child ended before it wrote.
fn decode(length: usize, message: &[u8; MESSAGE]) -> Option<Result<(), Failure>> {
    if length != MESSAGE {
        return None;
    }
    let errno = i32::from_ne_bytes(message[..4].try_into().ok()?);
    if errno == 0 {
        return Some(Ok(()));
    }
    let start = usize::from_ne_bytes(message[4..12].try_into().ok()?);
    let length = usize::from_ne_bytes(message[12..].try_into().ok()?);
    // SAFETY: only `report` writes to this pipe (both ends are ours and closed on exec), and what it writes is the address and
    // length of a `&'static str`. A forked child is the same program at the same addresses, so they name the same text here.
    let step = unsafe { std::str::from_utf8_unchecked(std::slice::from_raw_parts(start as *const u8, length)) };
    Some(Err(Failure { step, errno: Errno::from_raw_os_error(errno) }))
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
}

fn reap(child: Pid) {
    let _ = rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(child), WaitOptions::empty()));
}

fn fork(writer: OwnedFd, attempt: impl FnOnce() -> Result<(), Failure>) -> Result<Pid, Errno> {
    // SAFETY: the child runs `attempt` (bound by contract to system calls and the stack) and `report`, and ends by `_exit`: it takes
    // no lock that another thread could have held, runs no destructor of the parent's frames and no exit handler.
    let pid = unsafe { libc::fork() };
    match pid {
        0 => {
            let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
            report(&writer, attempt());
            // SAFETY: `_exit` has no preconditions.
            unsafe { libc::_exit(0) }
        }
        _ => Pid::from_raw(pid).filter(|_| pid > 0).ok_or_else(last_errno),
    }
}

/// The error number of the C library's last failed call in this thread.
pub(super) fn last_errno() -> Errno {
    std::io::Error::last_os_error().raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}

/// A raw system call; the result, or the error number.
///
/// # Safety
///
/// As for the system call itself: pointers among the arguments must be valid for what it does with them.
pub(super) unsafe fn syscall(number: libc::c_long, arguments: [usize; 6]) -> Result<usize, Errno> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the caller's promise; surplus arguments are ignored by the kernel.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    usize::try_from(result).map_err(|_| last_errno())
}

/// A short text on the stack, for children that may not allocate. What doesn't fit is cut off.
pub(super) struct Line<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Line<N> {
    pub(super) fn format(arguments: std::fmt::Arguments<'_>) -> Self {
        let mut bytes = [0; N];
        let mut rest = bytes.as_mut_slice();
        // Writing to a slice fails with nothing but "full".
        let _ = rest.write_fmt(arguments);
        let length = N - rest.len();
        Line { bytes, length }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// The maps that make the caller root of a new user namespace: one id each, which needs no helper and no privilege.
#[derive(Debug, Clone)]
pub(super) struct IdMaps {
    uid: String,
    gid: String,
}

impl IdMaps {
    /// Maps 0 in the namespace to these ids outside.
    pub(super) fn root_is(uid: u32, gid: u32) -> Self {
        IdMaps { uid: format!("0 {uid} 1\n"), gid: format!("0 {gid} 1\n") }
    }

    /// Maps 0 in the namespace to who we are.
    pub(super) fn root_is_me() -> Self {
        Self::root_is(rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    }

    /// What [`become_root`] needs: nothing for who has `CAP_SYS_ADMIN` already.
    pub(super) fn if_unprivileged() -> Option<Self> {
        let admin = |sets: rustix::thread::CapabilitySets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN);
        let privileged = rustix::thread::capabilities(None).is_ok_and(admin);
        (!privileged).then(Self::root_is_me)
    }

    /// Writes the maps of the calling process, which has just entered a new user namespace.
    pub(super) fn write(&self) -> Result<(), Failure> {
        // A process without CAP_SETGID outside must give up setgroups(2) before it may map a group (CVE-2014-8989).
        write_file(c"/proc/self/setgroups", b"deny").step("giving up setgroups in a user namespace")?;
        write_file(c"/proc/self/uid_map", self.uid.as_bytes()).step("mapping a user into a user namespace")?;
        write_file(c"/proc/self/gid_map", self.gid.as_bytes()).step("mapping a group into a user namespace")
    }
}

/// Moves the calling child into new namespaces.
pub(super) fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    debug_assert!(!flags.contains(UnshareFlags::FILES));
    // SAFETY: only `CLONE_FILES` could take descriptors away from other threads, and it isn't among the flags used here.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// A fresh user namespace of the caller's own where it lacks privilege, nothing where it has it: the way to all other namespaces.
pub(super) fn become_root(maps: Option<&IdMaps>) -> Result<(), Failure> {
    let Some(maps) = maps else { return Ok(()) };
    unshare(UnshareFlags::NEWUSER).step("creating a user namespace")?;
    maps.write()
}

/// Detaches the calling child's mounts from the host's, and puts an empty tmpfs under its working directory: a stage on which to
/// build, which vanishes with the child. It needs a new mount namespace.
pub(super) fn private_stage() -> Result<(), Failure> {
    use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
    /// Any directory will do as a mount point; `/proc` is one that must exist.
    const PLACES: [&std::ffi::CStr; 4] = [c"/tmp", c"/run", c"/mnt", c"/proc"];
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change(c"/", private).step("making the mounts of a new mount namespace private")?;
    let mut outcome = Err(Errno::NOENT);
    for place in PLACES {
        outcome =
            mount(c"insula-doctor", place, c"tmpfs", MountFlags::empty(), None).and_then(|()| rustix::process::chdir(place));
        if outcome.is_ok() {
            break;
        }
    }
    outcome.step("mounting a tmpfs")
}

/// Writes to an existing file in one go, without allocating.
pub(super) fn write_file(path: &std::ffi::CStr, bytes: &[u8]) -> Result<(), Errno> {
    use rustix::fs::{Mode, OFlags};
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, bytes).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_reports_the_first_failed_step() {
        assert!(run(|| Ok(())).works());
        let trial = run(|| Err(Errno::PERM).step("opening the vault"));
        assert_eq!(trial.errno(), Some(Errno::PERM));
        assert_eq!(trial.reason(), "opening the vault: Operation not permitted");
    }

    #[test]
    fn a_killed_child_is_told_from_a_failed_one() {
        let trial = run(|| {
            let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
            Ok(())
        });
        assert!(matches!(trial, Trial::Fails { errno: 0, .. }), "{trial:?}");
    }

    #[test]
    fn a_child_of_a_child_reports_through_both() {
        assert!(run(|| nested(|| Ok(()))).works());
        let trial = run(|| nested(|| Err(Errno::NOENT).step("looking")));
        assert_eq!(trial.reason(), "looking: No such file or directory");
    }

    #[test]
    fn a_line_cuts_what_does_not_fit() {
        assert_eq!(Line::<4>::format(format_args!("abc{}", "def")).bytes(), b"abcd");
        assert_eq!(Line::<8>::format(format_args!("/{}/", 12)).bytes(), b"/12/");
    }
}
