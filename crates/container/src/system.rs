//! A whole system in a container: how its init is asked to shut it down.
//!
//! | init | is asked by |
//! |---|---|
//! | systemd | SIGRTMIN+3, systemd(1) |
//! | busybox | SIGUSR2: power off (`init/init.c` there) |
//! | OpenRC's | SIGTERM, openrc-init(8) |
//! | sysvinit | `init 0`, init(8): what a signal does is up to its inittab |
//! | others | SIGPWR, which LXC sends |

use crate::channel::failed;
use insula_boundary::{Error, Job};
use insula_spec::plan::Shutdown;
use insula_sys::process::{self, Ended};
use insula_sys::{Context, Errno, mount};
use rustix::fd::OwnedFd;
use rustix::fs::OFlags;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SIGRTMIN: i32 = 34;
const SIGUSR2: i32 = 12;
const SIGTERM: i32 = 15;
const SIGPWR: i32 = 30;

/// How long a program may take that asks an init: it writes a line into a pipe.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the init of the system in a root directory is asked to shut it down, by what its program is.
///
/// # Errors
/// There is no such program.
pub fn shutdown_of(root: &Path, init: &str) -> Result<Shutdown, Error> {
    let dir = open(root)?;
    let program = resolve(&dir, Path::new(init)).map_err(|errno| {
        let text = insula_sys::error::describe(errno);
        Error::NoProgram(format!("{init} in {}: {text}; name the system's init behind the options", root.display()))
    })?;
    Ok(match program.file_name().and_then(OsStr::to_str).unwrap_or_default() {
        "systemd" => Shutdown::Signal(SIGRTMIN + 3),
        "busybox" => Shutdown::Signal(SIGUSR2),
        "openrc-init" => Shutdown::Signal(SIGTERM),
        // Both name themselves so.
        "init" if has(&dir, "/etc/inittab") => Shutdown::Program(vec![init.to_owned(), "0".to_owned()]),
        _ => Shutdown::Signal(SIGPWR),
    })
}

/// By which name the system of a root directory knows its container: OpenRC leaves out the services that make no sense in one only where it finds a
/// name that it knows (`rc_sys` in its `librc.c`).
///
/// # Errors
/// There is no such directory.
pub fn container_name(root: &Path) -> Result<&'static str, Error> {
    let dir = open(root)?;
    Ok(if has(&dir, "/sbin/openrc") { "lxc" } else { "insula" })
}

/// Waits for the program that asks an init to shut down. As long as nobody has taken note of its end, the namespace it joined doesn't end either.
pub(crate) fn await_asking(asking: &Job, program: &str) -> Result<(), Error> {
    let in_time = process::wait_ended(&asking.pidfd, Some(PATIENCE)).map_err(failed)?;
    if !in_time {
        process::kill(&asking.pidfd);
    }
    let ended = process::reap(&asking.pidfd).map_err(failed)?;
    let problem = match ended {
        _ if !in_time => format!("hasn't ended after {} s", PATIENCE.as_secs()),
        Ended::Exited(code) if code != 0 => format!("ended with exit code {code}"),
        // The system may have ended before it did.
        Ended::Exited(_) | Ended::Killed(_) => return Ok(()),
    };
    Err(Error::Failed(format!(
        "`{program}`, which asks the system to shut down, {problem}; `insula stop --kill` ends the system"
    )))
}

fn open(root: &Path) -> Result<OwnedFd, Error> {
    mount::open_place(root, OFlags::DIRECTORY).on("use as root", root.display()).map_err(failed)
}

fn has(root: &OwnedFd, path: &str) -> bool {
    mount::open_inside(root, Path::new(path), OFlags::PATH).is_ok()
}

/// Where a program of a root is when every link has been followed.
fn resolve(root: &OwnedFd, program: &Path) -> Result<PathBuf, Errno> {
    use std::os::fd::AsRawFd;
    let found = mount::open_inside(root, program, OFlags::PATH)?;
    // The kernel tells its path on the host.
    let path = rustix::fs::readlink(format!("/proc/self/fd/{}", found.as_raw_fd()), Vec::new())?;
    Ok(PathBuf::from(OsStr::new(path.to_str().map_err(|_| Errno::ILSEQ)?)))
}
