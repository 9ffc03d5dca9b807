//! What a sandbox could leave on the host, looked for by what only this test's sandboxes carry: the path of its directory, and the
//! name of that directory in the sandboxes' names. So other tests may run beside it.

#![allow(dead_code, reason = "each test uses a part of this")]

use super::support::{PATIENCE, World, read};
use rustix::event::{PollFd, PollFlags};
use std::ffi::OsStr;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A name for a sandbox that no other test's has in it.
pub(crate) fn id(world: &World, name: &str) -> String {
    format!("{}-{name}", tag(world))
}

fn tag(world: &World) -> String {
    let dir = world.path("");
    dir.file_name().unwrap().to_string_lossy().trim_start_matches('.').to_owned()
}

/// Runs the program to its end, within our patience. Its errors go through a file: a container that is made keeps the streams of who
/// made it, so the end of a pipe would be long in coming.
#[track_caller]
pub(crate) fn run<S: AsRef<OsStr>>(world: &World, args: impl IntoIterator<Item = S>) -> Output {
    run_command(&mut world.insula(args))
}

/// The same with any command.
#[track_caller]
pub(crate) fn run_command(command: &mut Command) -> Output {
    let mut errors = tempfile::tempfile().unwrap();
    let mut child = command.stdout(Stdio::null()).stderr(errors.try_clone().unwrap()).spawn().unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    let patience = rustix::event::Timespec::try_from(PATIENCE).unwrap();
    let ended = rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&patience)).unwrap();
    if ended == 0 {
        let _ = child.kill();
        panic!("doesn't end: {command:?}");
    }
    let status = child.wait().unwrap();
    let mut stderr = Vec::new();
    errors.seek(SeekFrom::Start(0)).unwrap();
    errors.read_to_end(&mut stderr).unwrap();
    Output { status, stdout: Vec::new(), stderr }
}

/// All that is left of the world's sandboxes right now.
pub(crate) fn left(world: &World) -> Vec<String> {
    let dir = world.path("").to_string_lossy().trim_end_matches('/').to_owned();
    let mut found = files(&world.store());
    found.extend(read("/proc/self/mountinfo").lines().filter(|line| line.contains(&dir)).map(|line| format!("mount {line}")));
    cgroups(Path::new("/sys/fs/cgroup"), &tag(world), &mut found);
    found.extend(processes(&dir));
    found
}

fn files(store: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(store).into_iter().flatten().flatten();
    entries.map(|entry| format!("in the store: {}", entry.path().display())).collect()
}

fn cgroups(dir: &Path, tag: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy().contains(tag) {
            found.push(format!("cgroup {}", entry.path().display()));
        }
        cgroups(&entry.path(), tag, found);
    }
}

/// A process that is ours before its program runs has the directory in its arguments; afterwards its root comes from there. (The
/// directory is in no other process's mounts, or it was found above.)
fn processes(dir: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|byte| byte.is_ascii_digit()) || name == std::process::id().to_string() {
            continue;
        }
        let bytes = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let mentions = |file: &str| String::from_utf8_lossy(&bytes(file)).contains(dir);
        if mentions("cmdline") || mentions("environ") || mentions("mountinfo") {
            let words = String::from_utf8_lossy(&bytes("cmdline")).replace('\0', " ");
            found.push(format!("process {name}: {words}"));
        }
    }
    found
}

/// Nothing is left. A process that has been killed may take a moment to go.
#[track_caller]
pub(crate) fn assert_none(world: &World, after: impl std::fmt::Display) {
    let deadline = Instant::now() + PATIENCE / 12;
    loop {
        let found = left(world);
        if found.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "left behind after {after}:\n{}", found.join("\n"));
        std::thread::sleep(Duration::from_millis(2));
    }
}
