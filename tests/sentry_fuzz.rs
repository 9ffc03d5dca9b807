//! A hostile program behind the boundary sentry: calls at random, from inside (`insula-syscalls fuzz`). The kernel lives on, doesn't grow
//! without bound, and lets nothing of the host be reached.
//!
//! `INSULA_FUZZ_CALLS=10000000 cargo test -p insula --test sentry_fuzz` makes more of them; `INSULA_FUZZ_SEED` others.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use support::{World, read};

/// Calls that are made if nothing else is asked for.
const CALLS: &str = "100000";

/// What all processes of the sandbox may hold afterwards, in KiB: many times what one does that was never attacked, and a small part of what
/// the calls have asked for.
const MOST_MEMORY: u64 = 512 << 10;

/// Descriptors and threads that they may have.
const MOST_DESCRIPTORS: usize = 2000;
const MOST_THREADS: usize = 200;

/// The suite's program: beside ours, made anew if it isn't of this source.
fn suite() -> PathBuf {
    let ours = Path::new(env!("CARGO_BIN_EXE_insula"));
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "insula-syscalls"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let status = cargo.stdin(Stdio::null()).status().expect("cargo starts");
    assert!(status.success(), "building insula-syscalls: {status}");
    ours.parent().expect("programs are in a directory").join("insula-syscalls")
}

fn asked(variable: &str, otherwise: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| otherwise.to_owned())
}

/// A process and all below it, on the host.
fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(pid) = all.get(at).copied() {
        at += 1;
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(children.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    all
}

/// A number of `/proc/PID/status`; 0 of who is gone.
fn status(pid: u32, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.trim_start_matches(':').split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// What the processes of a sandbox that stands still hold on the host.
fn assert_bounded(child: &Child) {
    let all = family(child.id());
    let memory: u64 = all.iter().map(|pid| status(*pid, "VmRSS")).sum();
    let threads: u64 = all.iter().map(|pid| status(*pid, "Threads")).sum();
    let descriptors = all.iter().map(|pid| std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)).max();
    assert!(memory > 0 && memory <= MOST_MEMORY, "{memory} KiB in {} processes", all.len());
    assert!(threads as usize <= MOST_THREADS, "{threads} threads in {} processes", all.len());
    assert!(descriptors.unwrap_or(0) <= MOST_DESCRIPTORS, "{descriptors:?} descriptors");
}

/// The line in which the program says what it has done. Guests write between, as may happen.
fn outcome(mut said: impl BufRead) -> String {
    loop {
        let mut line = Vec::new();
        let count = said.read_until(b'\n', &mut line).expect("it can be read");
        let line = String::from_utf8_lossy(&line).into_owned();
        if count == 0 || line.contains(" workers lost a process") {
            return line;
        }
    }
}

/// Attacks a sandbox that has these options.
fn attack(options: &[&str]) {
    let Some(world) = World::new() else { return };
    let root = world.directory("root");
    for directory in ["proc", "dev", "sys", "tmp"] {
        std::fs::create_dir(root.join(directory)).expect("a directory");
    }
    std::fs::copy(suite(), root.join("fuzz")).expect("the program is copied");
    // Beside the root, where paths with enough `..` would lead.
    let secret = world.file("secret", "not for guests");
    let before = std::fs::metadata(&secret).expect("it is there");
    let (calls, seed) = (asked("INSULA_FUZZ_CALLS", CALLS), asked("INSULA_FUZZ_SEED", "1"));
    let mut command = world.insula(["run", "--isolation", "sentry", "--rootfs"]);
    command.arg(&root).args(options).args(["-w", "/tmp", "--", "/fuzz", "fuzz", "--wait", "--calls", &calls, "--seed", &seed]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    // Guests write there too, and who loses a process says so there: full, it would hold both up.
    let mut complaints = child.stderr.take().expect("a pipe");
    let complaints = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        complaints.read_to_end(&mut bytes).map(|_| String::from_utf8_lossy(&bytes).into_owned())
    });
    let line = outcome(BufReader::new(child.stdout.take().expect("a pipe")));
    if line.contains(" calls, 0 of ") {
        assert_bounded(&child);
    }
    // The end of its input is what it waits for.
    drop(child.stdin.take());
    let status = child.wait().expect("it ends");
    let complaints = complaints.join().expect("a reader ends").expect("it can be read");
    assert!(status.success() && line.contains(" calls, 0 of "), "{status}: {line}{complaints}");
    // What else is there, guests may have written: among millions of calls some find the descriptor.
    let is_ours = |line: &&str| line.contains("panicked at") || line.starts_with("insula");
    assert_eq!(complaints.lines().find(is_ours), None);
    let after = std::fs::metadata(&secret).expect("it is still there");
    assert_eq!((read(&secret).as_str(), after.modified().ok()), ("not for guests", before.modified().ok()));
}

#[test]
fn a_kernel_bears_calls_at_random() {
    attack(&[]);
}

#[test]
fn a_kernel_bears_them_from_who_may_do_everything() {
    attack(&["--cap-add", "ALL", "--security-opt", "no-new-privileges=false"]);
}
