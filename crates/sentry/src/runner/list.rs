//! What is told of the sandbox's processes to who asks from outside.

use super::control::{Answer, tell};
use insula_boundary::Summary;
use insula_kernel::Kernel;
use insula_kernel::fs::proc::status;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// Processes in one answer, and the longest text about one, in bytes: together less than a socket carries at once.
const AT_ONCE: usize = 16;
const LONGEST: usize = 512;

/// How long to wait for somebody who asks, but doesn't listen.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Sends all processes, in a thread of its own: who asks may be slow to listen.
pub(super) fn tell_of_all(kernel: &Arc<Kernel>, connection: Arc<OwnedFd>) {
    let now = kernel.host.clock.monotonic();
    let all: Vec<Summary> = status::processes(kernel).into_iter().map(|summary| translate(summary, now)).collect();
    let run = move || {
        for list in all.chunks(AT_ONCE).chain([&[][..]]) {
            let ready = poll(&mut [PollFd::new(&*connection, PollFlags::OUT)], Some(&PATIENCE));
            if !matches!(ready, Ok(1..)) {
                return;
            }
            tell(&connection, &Answer::Processes { list: list.to_vec() });
        }
    };
    let _ = std::thread::Builder::new().name("list".into()).stack_size(128 << 10).spawn(run);
}

fn translate(summary: status::Summary, now: u64) -> Summary {
    let words: Vec<_> = summary.arguments.split(|byte| *byte == 0).filter(|word| !word.is_empty()).collect();
    let text = if words.is_empty() { [b"[", &*summary.name, b"]"].concat() } else { words.join(&b' ') };
    Summary {
        pid: summary.pid,
        parent: summary.parent,
        uid: summary.uid,
        age: Duration::from_nanos(now.saturating_sub(summary.started)),
        time: Duration::from_nanos(summary.time),
        terminal: summary.terminal,
        command: String::from_utf8_lossy(&text[..text.len().min(LONGEST)]).into_owned(),
    }
}
