//! The boundary `sentry`: from a container's first process to a program that runs behind a kernel of ours.
//!
//! 1. [`exports`]: what is mounted in the container becomes the gofer's exports, and the gofer is started.
//! 2. Memory and the first stub.
//! 3. The root is left, privileges are given up, the filter is loaded: only then is anything of the guest's looked at.
//! 4. The kernel, its tree of files, a first process without a program. From here on processes can be added.
//! 5. Once the start is said, the program is loaded, its task started; this thread passes signals on and waits for the end.

mod control;
mod exec;
mod exports;
mod list;
mod policy;
mod sandbox;
mod signals;
mod streams;
mod tree;

use insula_boundary::{Error, ExecOptions, Job, Result, Summary};
use insula_container::runner::{Inside, Runner};
use insula_spec::Plan;
use insula_spec::plan::{MountKind, Process};
use rustix::fd::OwnedFd;
use std::path::Path;

/// The kernel core in a host process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sentry {
    /// Every system call is told of on standard error.
    pub strace: bool,
}

/// File systems that are a view of a kernel: the sentry has its own.
pub(crate) const OF_KERNEL: [&str; 8] = ["proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "devtmpfs", "securityfs"];

impl Runner for Sentry {
    fn boundary(&self) -> &'static str {
        "sentry"
    }

    fn container_plan(&self, plan: &Plan) -> Result<Plan> {
        refuse(plan)?;
        let mut container = plan.clone();
        // The container's own `/proc` stays: while it is put together, its descriptors are reached through it.
        let of_kernel = |kind: &MountKind| match kind {
            MountKind::Cgroup => true,
            MountKind::Fs { name, .. } => OF_KERNEL.contains(&name.as_str()) && name != "proc" && name != "devpts",
            MountKind::Bind { .. } => false,
        };
        container.mounts.retain(|mount| !of_kernel(&mount.kind));
        let in_kernel = |path: &Path| path.starts_with("/proc") || path.starts_with("/sys");
        container.masked_paths.retain(|path| !in_kernel(path));
        container.readonly_paths.retain(|path| !in_kernel(path));
        container.process.seccomp = None;
        container.process.reaper = false;
        container.process.rlimits.clear();
        container.sysctl.clear();
        Ok(container)
    }

    fn run(&self, inside: Inside<'_>) -> Error {
        if self.strace {
            crate::driver::strace::switch_on();
        }
        sandbox::run(inside)
    }

    fn exec(&self, _: &Plan, control: OwnedFd, process: Process, options: ExecOptions) -> Result<Job> {
        // "unconfined" is no profile.
        if process.apparmor.as_ref().is_some_and(|name| name != "unconfined") || process.selinux.is_some() {
            return Err(Error::Unsupported(NO_LABELS.into()));
        }
        exec::exec(control, process, options)
    }

    fn processes(&self, control: OwnedFd) -> Result<Vec<Summary>> {
        exec::processes(control)
    }

    fn signal_all(&self, control: OwnedFd, signal: i32) -> Result<()> {
        exec::signal_all(control, signal)
    }

    fn limit_memory(&self, control: OwnedFd, most: Option<u64>, now: bool) -> Result<()> {
        exec::limit_memory(control, most, now)
    }
}

const NO_LABELS: &str = "process.apparmorProfile, process.selinuxLabel: the sentry has no security modules; leave them out";

/// What neither the container nor the sentry would heed.
fn refuse(plan: &Plan) -> Result<()> {
    let unsupported = |field: &str, why: &str| Err(Error::Unsupported(format!("{field}: {why}")));
    let process = &plan.process;
    if process.apparmor.as_ref().is_some_and(|name| name != "unconfined") || process.selinux.is_some() {
        return Err(Error::Unsupported(NO_LABELS.into()));
    }
    if process.seccomp.as_ref().is_some_and(|policy| policy.listener.is_some()) {
        return unsupported("linux.seccomp.listenerPath", "the sentry's filters ask nobody; leave it out");
    }
    if process.scheduler.is_some() || process.io_priority.is_some() || process.personality.is_some() {
        let fields = "process.scheduler, process.ioPriority, linux.personality";
        return unsupported(fields, "the sentry has one way of scheduling and one personality; leave them out");
    }
    if !plan.time_offsets.is_empty() {
        return unsupported("linux.timeOffsets", "the sentry's clocks are the host's; leave them out");
    }
    if let Some((name, _)) = plan.sysctl.first_key_value() {
        return unsupported("linux.sysctl", &format!("the sentry has no kernel parameter {name}; leave it out"));
    }
    Ok(())
}

/// Tells the caller one byte of news: the signal that stopped the program, or 128 and the signal that killed it.
fn tell(news: &OwnedFd, word: u8) {
    let _ = rustix::io::write(news, &[word]);
}

/// Ends this process as the program has ended, by its status of wait(2): with its exit code, or 128 and the signal that killed it.
fn end(status: i32, news: Option<&OwnedFd>) -> ! {
    let signal = status & 0x7f;
    if signal == 0 {
        insula_sys::process::exit(status >> 8 & 0xff)
    }
    // A code of its own could be the same.
    news.inspect(|news| tell(news, 128 + signal as u8));
    insula_sys::process::exit(128 + signal)
}

/// An error of the kernel's, as the host has it.
fn host_errno(errno: insula_kernel::Errno) -> rustix::io::Errno {
    rustix::io::Errno::from_raw_os_error(i32::from(errno.0))
}

/// An error of the kernel's in the host's words.
fn describe(errno: insula_kernel::Errno) -> String {
    insula_sys::error::describe(host_errno(errno))
}
