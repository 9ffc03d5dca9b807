//! Making and holding processes, resolving paths, and asynchronous I/O: clone3, pidfd, openat2, io_uring, ptrace.

use super::trial::{self, Step, Trial, syscall};
use super::{cgroup, files};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use serde::Serialize;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// What is known about the interfaces that make processes.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// clone3(2), Linux 5.3. Programs fall back on clone(2) and fork(2).
    pub clone3: Trial,
    /// Starting a process right inside a v2 cgroup (Linux 5.7); tried with our own group.
    pub clone_into_cgroup: Trial,
    /// Opening a descriptor of a process and signalling through it (Linux 5.3).
    pub pidfd: Trial,
    /// Resolving a path that can't leave a directory (Linux 5.6).
    pub openat2: Trial,
    /// close_range(2), Linux 5.9.
    pub close_range: Trial,
    /// A ring of io_uring(7).
    pub io_uring: Trial,
    /// `kernel.io_uring_disabled`: 0 for all, 1 for members of a group, 2 for nobody.
    pub io_uring_disabled: Option<i64>,
    /// Tracing a child of one's own, as a sentry on the `ptrace` platform does.
    pub ptrace_child: Trial,
}

pub(super) fn gather(cgroup: &cgroup::Facts) -> Facts {
    Facts {
        clone3: Trial::of("clone3", clone3(None)),
        clone_into_cgroup: clone_into_cgroup(cgroup),
        pidfd: Trial::of("pidfd_open and pidfd_send_signal", pidfd()),
        openat2: Trial::of("openat2", openat2()),
        close_range: Trial::of("close_range", close_range()),
        io_uring: Trial::of("io_uring_setup", io_uring()),
        io_uring_disabled: files::number("/proc/sys/kernel/io_uring_disabled"),
        ptrace_child: trial::run(|| {
            // SAFETY: PTRACE_TRACEME takes no pointers. It makes our parent the tracer, which only waits; we exit without a stop.
            let traced = unsafe { syscall(libc::SYS_ptrace, [libc::PTRACE_TRACEME as usize, 0, 0, 0, 0, 0]) };
            traced.map(drop).step("ptrace")
        }),
    }
}

/// `struct clone_args`, of which only what a plain fork needs is set; see clone(2).
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Starts a child that ends at once, and reaps it.
fn clone3(group: Option<&OwnedFd>) -> Result<(), Errno> {
    /// `include/uapi/linux/sched.h`; the C library's constant is too narrow for it.
    const CLONE_INTO_CGROUP: u64 = 1 << 33;
    let flag = if group.is_some() { CLONE_INTO_CGROUP } else { 0 };
    let arguments = CloneArguments {
        flags: flag,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: group.map_or(0, |group| group.as_raw_fd() as u64),
        ..Default::default()
    };
    // Without the cgroup the older, shorter structure does, which the first kernels with clone3 take (CLONE_ARGS_SIZE_VER0).
    let size = if group.is_some() { size_of::<CloneArguments>() } else { 64 };
    // SAFETY: the structure is at least `size` long and only read. Without CLONE_VM the child has a copy of our memory, as after
    // fork; it makes no call but `_exit`.
    let pid = unsafe { syscall(libc::SYS_clone3, [(&raw const arguments) as usize, size, 0, 0, 0, 0]) }?;
    if pid == 0 {
        // SAFETY: `_exit` has no preconditions.
        unsafe { libc::_exit(0) }
    }
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    rustix::io::retry_on_intr(|| rustix::process::waitpid(pid, WaitOptions::empty())).map(drop)
}

fn clone_into_cgroup(cgroup: &cgroup::Facts) -> Trial {
    let Some(group) = cgroup.unified().and_then(|unified| unified.own_group.as_ref()) else {
        return Trial::untried("no v2 hierarchy is mounted here");
    };
    match rustix::fs::open(group, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(group) => Trial::of("clone3 with CLONE_INTO_CGROUP", clone3(Some(&group))),
        Err(errno) => Trial::fails("opening our own cgroup", errno),
    }
}

fn pidfd() -> Result<(), Errno> {
    let own = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
    // SIGCONT does nothing to a process that runs and doesn't handle it.
    rustix::process::pidfd_send_signal(&own, Signal::CONT)
}

fn openat2() -> Result<(), Errno> {
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(CWD, c"/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), inside).map(drop)
}

fn close_range() -> Result<(), Errno> {
    let beyond = u32::MAX as usize;
    // SAFETY: the range holds one number that no descriptor can have.
    unsafe { syscall(libc::SYS_close_range, [beyond, beyond, 0, 0, 0, 0]) }.map(drop)
}

fn io_uring() -> Result<(), Errno> {
    // `struct io_uring_params` is 120 bytes; all zero asks for the defaults.
    let mut parameters = [0u64; 15];
    // SAFETY: the structure is as long as the call expects, and writable.
    let ring = unsafe { syscall(libc::SYS_io_uring_setup, [1, parameters.as_mut_ptr() as usize, 0, 0, 0, 0]) }?;
    let ring = i32::try_from(ring).map_err(|_| Errno::BADF)?;
    // SAFETY: the call gave us this descriptor; nobody else owns it.
    drop(unsafe { OwnedFd::from_raw_fd(ring) });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_interfaces_answer_on_any_kernel_we_run_on() {
        let facts = gather(&cgroup::gather());
        assert!(facts.pidfd.works(), "{:?}", facts.pidfd);
        assert!(facts.openat2.works(), "{:?}", facts.openat2);
    }
}
