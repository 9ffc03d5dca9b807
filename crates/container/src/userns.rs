//! User namespaces: which IDs inside are which outside. Source: user_namespaces(7).

use crate::channel::failed;
use insula_boundary::Error;
use insula_spec::Plan;
use insula_spec::plan::{IdMap, Namespace};
use insula_sys::process::{self, Fork, Spaces};
use insula_sys::{Context, Errno};
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::Pid;
use std::process::Command;

/// Maps the IDs of the new user namespace that a process is in.
pub(crate) fn map(pid: Pid, uid_map: &[IdMap], gid_map: &[IdMap]) -> Result<(), Error> {
    let dir = format!("/proc/{}", pid.as_raw_pid());
    let privileged = rustix::process::geteuid().is_root();
    if !privileged {
        // The kernel lets a plain user map a group only after giving up setgroups; newgidmap keeps it.
        let alone = gid_map.len() == 1 && gid_map[0].count == 1;
        if alone {
            std::fs::write(format!("{dir}/setgroups"), "deny").on("give up setgroups in", &dir).map_err(failed)?;
        }
    }
    write(&format!("{dir}/uid_map"), "newuidmap", pid, uid_map)?;
    write(&format!("{dir}/gid_map"), "newgidmap", pid, gid_map)
}

/// Who acts for us in a plan's user namespace; in one that others made, its root.
pub(crate) fn builder(plan: &Plan) -> (u32, u32) {
    if !plan.namespaces.creates(Namespace::User) {
        return (0, 0);
    }
    plan.namespaces.builder(rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

fn write(path: &str, helper: &str, pid: Pid, map: &[IdMap]) -> Result<(), Error> {
    let lines: Vec<String> = map.iter().map(|range| format!("{} {} {}", range.inside, range.outside, range.count)).collect();
    match std::fs::write(path, lines.join("\n")) {
        Ok(()) => Ok(()),
        // Ranges of /etc/subuid and /etc/subgid are handed out by programs that have the right to.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::PERM) => {
            let mut command = Command::new(helper);
            command.arg(pid.as_raw_pid().to_string());
            command.args(map.iter().flat_map(|r| [r.inside, r.outside, r.count].map(|n| n.to_string())));
            let output = command.output().map_err(|error| {
                Error::Failed(format!("can't map IDs: {helper}: {error}; install uidmap, or map only your own ID"))
            })?;
            if output.status.success() {
                return Ok(());
            }
            let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            Err(Error::Failed(format!("can't map IDs: {said}")))
        }
        Err(error) => Err(error).on("map IDs in", path).map_err(failed),
    }
}

/// A user namespace with this mapping that no process lives in, for a mount.
pub(crate) fn holder(uid_map: &[IdMap], gid_map: &[IdMap]) -> Result<OwnedFd, Error> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).on("make", "a pipe").map_err(failed)?;
    match process::fork(Spaces::USER, None).map_err(failed)? {
        Fork::Child => {
            drop(write);
            // Until the parent closes its end.
            let _ = rustix::io::read(&read, &mut [0; 1]);
            process::exit(0)
        }
        Fork::Parent(child) => {
            let path = format!("/proc/{}/ns/user", child.pid.as_raw_pid());
            let namespace = map(child.pid, uid_map, gid_map).and_then(|()| {
                rustix::fs::openat(CWD, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).on("open", &path).map_err(failed)
            });
            drop(write);
            let _ = process::reap(&child.pidfd);
            namespace
        }
    }
}
