//! A container's processes, as the host's `/proc` shows them to this user.

use insula_boundary::{Error, Init, Result};
use insula_sys::Errno;
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{Pid, PidfdFlags};

/// The process whose namespaces somebody joins who comes later: the first one, or its program where that is a reaper of ours. Such a
/// one can't be looked at but by root: it is a copy of us, made before the container was, and no process in there may see its file.
pub(crate) fn to_join(init: Init, pidfd: &OwnedFd) -> Result<(i32, OwnedFd)> {
    if namespace(init.pid, "mnt") != Err(Errno::ACCESS) {
        let same =
            pidfd.as_fd().try_clone_to_owned().map_err(|error| Error::Failed(format!("can't copy a descriptor: {error}")))?;
        return Ok((init.pid, same));
    }
    let open = |pid: i32| {
        let pidfd = rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        // It was the program when the descriptor was there already.
        let so = parent_of(pid) == Some(init.pid) && namespace(pid, "mnt").is_ok();
        so.then_some((pid, pidfd))
    };
    program_of(init.pid).and_then(open).ok_or_else(|| {
        let problem = "its first process can only be looked at by root; try again when its program runs, or as root";
        Error::Failed(format!("can't join the namespaces of process {}: {problem}", init.pid))
    })
}

/// The child of a reaper that is the program: the second process of its namespace, as long as that lives.
fn program_of(reaper: i32) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{reaper}/task/{reaper}/children")).unwrap_or_default();
    let second = |pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let inside = status.lines().find_map(|line| line.strip_prefix("NSpid:")?.split_whitespace().last());
        inside == Some("2")
    };
    children.split_whitespace().filter_map(|word| word.parse().ok()).find(second)
}

fn namespace(pid: i32, kind: &str) -> std::result::Result<std::ffi::CString, Errno> {
    rustix::fs::readlink(format!("/proc/{pid}/ns/{kind}"), Vec::new())
}

/// The processes in the PID namespace of a container's first process and in those below it, as numbers here; none that has ended.
pub(crate) fn in_pid_namespace_of(init: i32) -> Vec<i32> {
    let of_program = || namespace(program_of(init)?, "pid").ok();
    let wanted = namespace(init, "pid").ok().or_else(of_program);
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut inside = Vec::new();
    let mut elsewhere = Vec::new();
    for pid in pids {
        // One that has ended in the meantime isn't in there either.
        let Some(parent) = parent_of(pid) else { continue };
        let theirs = namespace(pid, "pid").ok();
        let there = pid == init || theirs.is_some() && theirs == wanted;
        if there { inside.push(pid) } else { elsewhere.push((pid, parent)) }
    }
    // A namespace made inside has other processes' children only; and so are those that this user may not look at.
    loop {
        let (children, rest): (Vec<_>, Vec<_>) = elsewhere.into_iter().partition(|(_, parent)| inside.contains(parent));
        if children.is_empty() {
            return inside;
        }
        inside.extend(children.iter().map(|(pid, _)| *pid));
        elsewhere = rest;
    }
}

/// The parent of a process that hasn't ended.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X");
    if ended { None } else { fields.next()?.parse().ok() }
}
