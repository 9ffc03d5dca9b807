//! A process beside a container that serves its network: it has nothing of the host's but a few sockets, and ends with the process that stays with
//! the container.

use crate::error::{Error, Result};
use crate::state::Process;
use insula_seccomp::Sysno;
use insula_spec::seccomp::{Action, Condition, Test};
use insula_sys::process::{self, Child, Fork, Spaces};
use insula_sys::{Context, seccomp};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};
use std::io::{Read, Write};
use std::path::PathBuf;

/// Who it is once it is confined.
const NOBODY: u32 = 65534;
/// What it says when all has gone well, if nothing follows.
const READY: u8 = b'R';

/// What such a process does.
pub(crate) trait Service {
    /// What it is called in messages.
    const NAME: &'static str;
    /// The system calls that are left to it, beside those of every process.
    const CALLS: &'static [Call];

    /// Descriptors of the caller's that it needs.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>>;

    /// The directory that is to be its root, if it reads files.
    fn root(&self) -> Option<PathBuf>;

    /// Makes all that takes a right, while it has rights; gives what it does then, until `end` is readable.
    fn prepare(self, end: OwnedFd) -> Result<Box<dyn FnOnce()>>;
}

/// A call that is allowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call(pub(crate) Sysno, pub(crate) &'static [Condition]);

/// A call with any arguments.
pub(crate) const fn any(call: Sysno) -> Call {
    Call(call, &[])
}

/// An argument, counted from 0, is this.
pub(crate) const fn is(argument: u8, value: u64) -> Condition {
    Condition { argument, test: Test::Eq, value }
}

/// Of these bits, an argument has those.
pub(crate) const fn masked(argument: u8, bits: u64, value: u64) -> Condition {
    Condition { argument, test: Test::MaskedEq(bits), value }
}

const PROT_EXEC: u64 = 4;
const NOT_EXECUTABLE: &[Condition] = &[masked(2, PROT_EXEC, 0)];
const SIGABRT: u64 = 6;

/// What any of them needs: memory, threads, and its end.
const EVERYBODYS: &[Call] = &[
    any(Sysno::futex),
    any(Sysno::close),
    any(Sysno::munmap),
    any(Sysno::brk),
    any(Sysno::mremap),
    any(Sysno::madvise),
    Call(Sysno::mmap, NOT_EXECUTABLE),
    Call(Sysno::mprotect, NOT_EXECUTABLE),
    any(Sysno::clock_gettime),
    any(Sysno::restart_syscall),
    any(Sysno::rt_sigreturn),
    any(Sysno::rt_sigprocmask),
    any(Sysno::sigaltstack),
    any(Sysno::sched_yield),
    any(Sysno::exit),
    any(Sysno::exit_group),
    any(Sysno::getpid),
    any(Sysno::gettid),
    Call(Sysno::tgkill, &[is(2, SIGABRT)]),
    // Builds for debugging look whether what they close is open.
    Call(Sysno::fcntl, &[is(1, 1)]),
];

/// Such a process, from outside.
#[derive(Debug)]
pub(crate) struct Attendant {
    child: Child,
    /// At its other end it hears that we are gone.
    _end: OwnedFd,
}

impl Attendant {
    /// Starts one, and waits until it serves. This process must have one thread, as the other is a copy of it.
    pub(crate) fn start<S: Service>(service: S) -> Result<Attendant> {
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).on("make", "a pipe");
        let ((status, tell), (end, ours)) = (pipe()?, pipe()?);
        // A plain user may not make namespaces, and is nobody to others already.
        let spaces = if rustix::process::geteuid().is_root() { Spaces::PID | Spaces::IPC | Spaces::UTS } else { Spaces::empty() };
        match process::fork(spaces, None)? {
            Fork::Child => {
                drop((status, ours));
                be(service, end, tell.into())
            }
            Fork::Parent(child) => {
                drop((tell, end));
                let attendant = Attendant { child, _end: ours };
                let mut said = Vec::new();
                std::fs::File::from(status).read_to_end(&mut said).on("hear from", S::NAME)?;
                if said == [READY] {
                    return Ok(attendant);
                }
                attendant.end();
                let said = said.strip_prefix(&[READY]).unwrap_or(&said);
                Err(Error::Failed(match said {
                    [] => format!("{} has ended as soon as it began", S::NAME),
                    said => String::from_utf8_lossy(said).into_owned(),
                }))
            }
        }
    }

    /// The process, for the record.
    pub(crate) fn process(&self) -> Result<Process> {
        Process::of(self.child.pid)
    }

    /// Ends it.
    pub(crate) fn end(self) {
        process::kill(&self.child.pidfd);
        let _ = process::reap(&self.child.pidfd);
    }
}

/// That process's life.
fn be<S: Service>(service: S, end: OwnedFd, mut tell: std::fs::File) -> ! {
    let ready = stand_alone(&service, &end, tell.as_fd()).and_then(|()| {
        let root = service.root();
        let serve = service.prepare(end)?;
        give_up_privileges(root)?;
        let calls = S::CALLS.iter().chain(EVERYBODYS).map(|Call(call, conditions)| (*call, *conditions));
        // The kernel's log tells what was called.
        let program = insula_seccomp::allow_only(calls, Action::KillProcess)
            .map_err(|error| Error::Failed(format!("can't make the system-call filter of {}: {error}", S::NAME)))?;
        Ok((serve, program))
    });
    let confined = ready.and_then(|(serve, program)| {
        // Said before, as nothing can be written there when it is confined; but believed when the pipe is closed, which is then.
        tell.write_all(&[READY]).on("tell of", S::NAME)?;
        seccomp::confine_all(&program, S::NAME)?;
        Ok(serve)
    });
    match confined {
        Ok(serve) => {
            drop(tell);
            serve();
            process::exit(0)
        }
        Err(error) => {
            let _ = tell.write_all(error.to_string().as_bytes());
            process::exit(1)
        }
    }
}

/// Nothing of who made us is left but what it needs; and no core file tells of it.
fn stand_alone(service: &impl Service, end: &OwnedFd, tell: BorrowedFd<'_>) -> Result<()> {
    let mut keep = service.descriptors();
    keep.extend([end.as_fd(), tell]);
    process::leave_caller(&keep)?;
    // What goes wrong is told by the pipe. Whoever reads the caller's errors to their end must not have to wait for ours.
    rustix::stdio::dup2_stderr(rustix::stdio::stdin()).on("replace", "standard error")?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    Ok(rustix::process::setrlimit(Resource::Core, none).on("limit", "core files")?)
}

fn follow_caller() -> Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).on("be tied to", "the caller")?)
}

fn give_up_privileges(root: Option<PathBuf>) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        if let Some(root) = root {
            rustix::process::chroot(&root).on("make the root", root.display())?;
        }
        rustix::process::chdir("/").on("go to", "/")?;
        process::set_ids(NOBODY, NOBODY, Some(&[]))?;
        // The change of user has undone it.
        follow_caller()?;
    }
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).on("hide", "this process")?)
}
