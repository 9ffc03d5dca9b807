//! A container's processes, as the host's `/proc` shows them to this user.

use crate::init::space;
use insula_boundary::{Error, Init, Result};
use insula_spec::plan::Namespace;
use insula_sys::process::{self, Spaces};
use insula_sys::{Context, Errno};
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{Pid, PidfdFlags};

/// How whoever comes later reaches the namespaces of a container.
pub(crate) enum Door {
    /// By a process that is in all of them.
    Process(i32, OwnedFd),
    /// By files of them, in the order of [`Namespace::ALL`].
    Files(Vec<(Namespace, OwnedFd)>),
}

impl Door {
    /// By the first process, or by its program where that is a reaper of ours. Such a one can't be looked at but by root: it is a copy of us, made before
    /// the container was, and no process in there may see its file. As long as there is no program, it is asked.
    pub(crate) fn find(
        init: Init,
        pidfd: &OwnedFd,
        ask: impl FnOnce() -> Result<Option<Vec<(Namespace, OwnedFd)>>>,
    ) -> Result<Door> {
        if namespace(init.pid, "mnt") != Err(Errno::ACCESS) {
            let same =
                pidfd.as_fd().try_clone_to_owned().map_err(|error| Error::Failed(format!("can't copy a descriptor: {error}")))?;
            return Ok(Door::Process(init.pid, same));
        }
        let open = |pid: i32| {
            let pidfd = rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
            // It was the program when the descriptor was there already.
            let so = parent_of(pid) == Some(init.pid) && namespace(pid, "mnt").is_ok();
            so.then_some(Door::Process(pid, pidfd))
        };
        if let Some(door) = program_of(init.pid).and_then(open) {
            return Ok(door);
        }
        ask()?.map(Door::Files).ok_or_else(|| {
            let problem = "its first process can only be looked at by root; try again when its program runs, or as root";
            Error::Failed(format!("can't join the namespaces of process {}: {problem}", init.pid))
        })
    }

    /// Whether this process is in the container's namespace of a kind already.
    pub(crate) fn is_ours(&self, kind: Namespace) -> insula_sys::Result<bool> {
        let stat = |path: &str| rustix::fs::stat(path).on("look at", path);
        let own = stat(&format!("/proc/self/ns/{}", kind.file()))?;
        let theirs = match self {
            Door::Process(pid, _) => stat(&format!("/proc/{pid}/ns/{}", kind.file()))?,
            Door::Files(files) => match files.iter().find(|(of, _)| *of == kind) {
                Some((_, file)) => rustix::fs::fstat(file).on("look at the namespace", kind.file())?,
                None => return Ok(true),
            },
        };
        Ok((own.st_dev, own.st_ino) == (theirs.st_dev, theirs.st_ino))
    }

    /// Joins these.
    pub(crate) fn join(&self, spaces: Spaces) -> insula_sys::Result<()> {
        match self {
            Door::Process(_, pidfd) => process::join_process(pidfd, spaces),
            // In the order of `Namespace::ALL`: the user namespace gives the right to join the others.
            Door::Files(files) => files
                .iter()
                .filter(|(kind, _)| spaces.contains(space(*kind)))
                .try_for_each(|(kind, file)| process::join_namespace(file, space(*kind)).on("join the namespace", kind.file())),
        }
    }
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
