//! Telling of calls: `insula run --isolation sentry --strace`.

use insula_kernel::cpu::Call;
use insula_kernel::task::Task;
use insula_kernel::{Errno, Result};
use insula_seccomp::Sysno;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether calls are told of. A process of the host's has one sandbox.
static ON: AtomicBool = AtomicBool::new(false);

/// Calls are told of from now on.
pub fn switch_on() {
    ON.store(true, Ordering::Relaxed);
}

pub(super) fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

fn name(call: &Call) -> String {
    let number = usize::try_from(call.number).unwrap_or(usize::MAX);
    Sysno::new(number).map_or_else(|| format!("call {:#x}", call.number), |call| call.name().to_owned())
}

/// A call that was made.
pub(super) fn called(task: &Task, call: &Call) {
    let [a, b, c, d, e, f] = call.arguments;
    tell(&format!("[{}] {}({a:#x}, {b:#x}, {c:#x}, {d:#x}, {e:#x}, {f:#x})", task.tid(), name(call)));
}

/// What it was answered.
pub(super) fn answered(task: &Task, call: &Call, result: Result<u64>) {
    let text = match result {
        Ok(value) => format!("{value:#x}"),
        Err(errno @ Errno(512..)) => format!("? (restarts: {})", errno.0),
        Err(errno) => format!("-1 {errno}"),
    };
    tell(&format!("[{}] … {} = {text}", task.tid(), name(call)));
}

/// A line, whole.
fn tell(line: &str) {
    let _ = rustix::io::write(rustix::stdio::stderr(), format!("{line}\n").as_bytes());
}
