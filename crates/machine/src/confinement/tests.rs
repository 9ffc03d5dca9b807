//! Each filter is tried in a process of its own, as it ends who does what it forbids.

use super::*;
use insula_sys::process;
use rustix::net::{AddressFamily, SocketType};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use vm_memory::MmapRegion;

/// Says in a new process of this test's program what is to be tried there: a thread and a wish, by their places.
const TRIAL: &str = "INSULA_TRIAL";

/// What somebody who has taken a thread over would like to do, and the call by which it is done.
const WISHES: [(&str, fn()); 10] = [
    ("execve", || _ = process::exec(Path::new("/bin/true"), &[], &[])),
    ("openat", || drop(std::fs::File::open("/etc/passwd"))),
    ("socket", || drop(rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None))),
    ("socket", || drop(rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None))),
    ("mmap", || drop(MmapRegion::<()>::build(None, 4096, 5, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS))),
    ("ioctl", || _ = rustix::termios::tcgetwinsize(rustix::stdio::stdin())),
    ("prctl", || _ = rustix::thread::set_name(c"innocent")),
    ("kill", || _ = rustix::process::test_kill_current_process_group()),
    ("unshare", || _ = process::unshare(process::Spaces::empty())),
    ("io_uring_setup", || drop(insula_sys::uring::Ring::new(1, Vec::new()))),
];

/// A machine that has all parts: its threads may do the most.
fn filters() -> Filters {
    Filters::new(Part::ALL.into()).unwrap()
}

/// Nothing, except in a process that [`a_forbidden_call_ends_the_process_and_is_named`] has started.
#[test]
fn trial() {
    let Ok(trial) = std::env::var(TRIAL) else { return };
    let (thread, wish) = trial.split_once(' ').unwrap();
    let (thread, wish): (usize, usize) = (thread.parse().unwrap(), wish.parse().unwrap());
    filters().confine(Thread::ALL[thread], "tried").unwrap();
    if let Some((_, wish)) = WISHES.get(wish) {
        wish();
    }
    // Whoever gets here has done it. The end of a test needs more than what is allowed.
    process::exit(0);
}

fn tried(thread: usize, wish: usize) -> std::process::Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "confinement::tests::trial", "--nocapture"]).env(TRIAL, format!("{thread} {wish}"));
    command.output().unwrap()
}

#[test]
fn a_forbidden_call_ends_the_process_and_is_named() {
    for thread in 0..Thread::ALL.len() {
        for (wish, (call, _)) in WISHES.iter().enumerate() {
            let output = tried(thread, wish);
            let text = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{:?}, {call}: {text}", Thread::ALL[thread]);
            let line = format!("insula: the thread tried asked for the system call {call} (");
            assert!(text.lines().count() == 1 && text.starts_with(&line), "{text}");
        }
    }
}

/// The trial itself does nothing that is forbidden.
#[test]
fn what_is_allowed_goes_on() {
    let ends = Thread::ALL.iter().position(|thread| *thread == Thread::Loop).unwrap();
    assert_eq!(tried(ends, WISHES.len()).status.code(), Some(0));
}

#[test]
fn a_call_for_a_part_is_forbidden_without_it() {
    let length = |parts: &[Part]| program(Thread::Loop, parts).unwrap().len();
    let (least, some, all) = (length(&[Part::Any]), length(&[Part::Any, Part::Card]), length(&Part::ALL));
    assert!(least < some && some < all);
}

/// What `docs/security.md` says is what the list says.
#[test]
fn the_documents_list_is_this_one() {
    let document = include_str!("../../../../docs/security.md");
    let (_, rest) = document.split_once("<!-- calls -->\n").expect("a mark before the list");
    let (written, _) = rest.split_once("<!-- end of calls -->").expect("a mark behind the list");
    let expected = table();
    assert!(written == expected, "docs/security.md should have between its marks:\n{expected}");
}

fn table() -> String {
    use std::fmt::Write;
    let mut table = String::from("| call | threads | machines with | what for |\n|---|---|---|---|\n");
    for call in CALLS {
        let threads = if call.threads.len() == Thread::ALL.len() {
            "all".to_owned()
        } else {
            call.threads.iter().map(|thread| format!("{thread:?}").to_lowercase()).collect::<Vec<_>>().join(", ")
        };
        let part = if call.part == Part::Any { String::new() } else { format!("{:?}", call.part).to_lowercase() };
        let only = if call.only.is_empty() { String::new() } else { format!(": {}", call.only) };
        let rare = call.rare.map(|rare| format!("; seldom: {rare}")).unwrap_or_default();
        writeln!(table, "| `{}`{only} | {threads} | {part} | {}{rare} |", call.call.name(), call.purpose).unwrap();
    }
    table
}
