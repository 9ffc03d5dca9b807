//! The files of a group.

use crate::channel::failed;
use insula_boundary::Error;
use insula_sys::{Context, Errno};
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags};
use std::io::Write;
use std::path::Path;

pub(super) fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).on("read", path.display()).map_err(failed)
}

/// Writes a value; the kernel's refusal names the file and the value.
pub(super) fn write(path: &Path, value: &str) -> Result<(), Error> {
    write_to(&open_write(path)?, path, value)
}

pub(super) fn open_write(path: &Path) -> Result<std::fs::File, Error> {
    let opened = rustix::fs::openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    opened.on("open the cgroup file", path.display()).map(std::fs::File::from).map_err(failed)
}

/// Writes one value of several into a file that is open; `path` is its name, for the message.
pub(super) fn write_to(mut file: &std::fs::File, path: &Path, value: &str) -> Result<(), Error> {
    file.write_all(value.as_bytes()).on("write", format_args!("{value:?} into {}", path.display())).map_err(failed)
}

pub(super) fn open_dir(path: &Path) -> Result<OwnedFd, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty()).on("open", path.display()).map_err(failed)
}

pub(super) fn writable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

/// Makes a group, with those above it. One that exists already and has processes is somebody else's.
pub(super) fn make(path: &Path) -> Result<(), Error> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => check_free(path),
        Err(Errno::NOENT) => std::fs::create_dir_all(path).on("make the cgroup", path.display()).map_err(failed),
        Err(errno) => Err(errno).on("make the cgroup", path.display()).map_err(failed),
    }
}

/// Refuses a group that holds processes: they are somebody else's.
pub(super) fn check_free(path: &Path) -> Result<(), Error> {
    if processes(path).is_empty() {
        return Ok(());
    }
    let problem = "is in use by other processes; choose another name, or another linux.cgroupsPath";
    Err(Error::Failed(format!("the cgroup {} {problem}", path.display())))
}

/// The processes in a group and in those below it.
pub(super) fn processes(path: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    children(path).for_each(|child| pids.extend(processes(&child)));
    pids
}

fn children(path: &Path) -> impl Iterator<Item = std::path::PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

/// Kills what is in a group and below, where the kernel can't do it in one go.
pub(super) fn kill_all(path: &Path) {
    for pid in processes(path) {
        if let Some(pid) = rustix::process::Pid::from_raw(pid) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Removes a group and those below it, deepest first.
pub(super) fn remove_tree(path: &Path) -> Result<(), Error> {
    match rustix::fs::rmdir(path) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::BUSY) => {}
        Err(errno) => return Err(errno).on("remove the cgroup", path.display()).map_err(failed),
    }
    for child in children(path) {
        remove_tree(&child)?;
    }
    match rustix::fs::rmdir(path) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno).on("remove the cgroup", path.display()).map_err(failed),
    }
}
