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
use insula_boundary::Error;
use insula_spec::plan::Shutdown;
use insula_sys::{Context, Errno, mount};
use rustix::fd::OwnedFd;
use rustix::fs::OFlags;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

const SIGRTMIN: i32 = 34;
const SIGUSR2: i32 = 12;
const SIGTERM: i32 = 15;
const SIGPWR: i32 = 30;

/// How the init of the system in a root directory is asked to shut it down, by what its program is.
///
/// # Errors
/// There is no such program.
pub fn shutdown_of(root: &Path, init: &str) -> Result<Shutdown, Error> {
    let dir = mount::open_place(root, OFlags::DIRECTORY).on("use as root", root.display()).map_err(failed)?;
    let program = resolve(&dir, Path::new(init)).map_err(|errno| {
        let text = insula_sys::error::describe(errno);
        Error::NoProgram(format!("{init} in {}: {text}; name the system's init behind the options", root.display()))
    })?;
    let has = |path: &str| mount::open_inside(&dir, Path::new(path), OFlags::PATH).is_ok();
    Ok(match program.file_name().and_then(OsStr::to_str).unwrap_or_default() {
        "systemd" => Shutdown::Signal(SIGRTMIN + 3),
        "busybox" => Shutdown::Signal(SIGUSR2),
        "openrc-init" => Shutdown::Signal(SIGTERM),
        // Both name themselves so.
        "init" if has("/etc/inittab") => Shutdown::Program(vec![init.to_owned(), "0".to_owned()]),
        _ => Shutdown::Signal(SIGPWR),
    })
}

/// Where a program of a root is when every link has been followed.
fn resolve(root: &OwnedFd, program: &Path) -> Result<PathBuf, Errno> {
    use std::os::fd::AsRawFd;
    let found = mount::open_inside(root, program, OFlags::PATH)?;
    // The kernel tells its path on the host.
    let path = rustix::fs::readlink(format!("/proc/self/fd/{}", found.as_raw_fd()), Vec::new())?;
    Ok(PathBuf::from(OsStr::new(path.to_str().map_err(|_| Errno::ILSEQ)?)))
}
