//! Our own program file, out of a container's reach.
//!
//! A process in a container can open the program of any process it sees through `/proc/PID/exe` and, being root, write to it when it
//! isn't in use: ours, if it ever sees a process that runs it (CVE-2019-5736). What is opened that way comes with the mount that our
//! program was started from. Two measures, neither of which copies the file:
//!
//! - [`seal`] starts us once more from a private, read-only, detached copy of that mount. It costs an exec, so it is for the cases in
//!   which a container's processes can see ours at all: joining one that runs, or a PID namespace that others share. Whether it has
//!   been done is asked of the kernel, not of a variable that could be forged.
//! - A new container is alone with us in its PID namespace, so nobody can look before the program runs. What is left is that the
//!   program *is* us: an image whose program (or its interpreter) is `/proc/self/exe`. [`check`] finds that at our start.

use crate::defence;
use crate::error::{Context, Result};
use crate::mount::{self, Change};
use crate::process::FromC;
use rustix::fd::AsRawFd;
use rustix::fs::{CWD, StatVfsMountFlags};
use rustix::io::Errno;
use std::path::Path;

const RDONLY: u64 = 1;
const SELF: &str = "/proc/self/exe";

/// Makes sure that our program file is one of our own root's, or can't be written through us: first thing at every start.
///
/// # Errors
/// We were started from a file outside our root, by who has no right to seal it.
pub fn check() -> Result<()> {
    if sealed()? {
        return Ok(());
    }
    let file = rustix::fs::stat(SELF).on("look at", SELF)?;
    let path = rustix::fs::readlink(SELF, Vec::new()).on("look at", SELF)?;
    let named = rustix::fs::stat(&path).ok();
    if named.is_some_and(|named| (named.st_dev, named.st_ino) == (file.st_dev, file.st_ino)) {
        return Ok(());
    }
    start_anew()
}

/// Returns when our program file can't be written through us, having started it anew if need be.
///
/// # Errors
/// The mount can't be copied or the copy not be run; without CAP_SYS_ADMIN there is nothing to protect from (a container then has
/// no more rights to the file than its user), so that is none.
pub fn seal() -> Result<()> {
    if sealed()? {
        return Ok(());
    }
    start_anew().or_else(|error| if error.errno == Errno::PERM { Ok(()) } else { Err(error) })
}

fn sealed() -> Result<bool> {
    let mounted = rustix::fs::statvfs(SELF).on("look at", SELF)?;
    Ok(mounted.f_flag.contains(StatVfsMountFlags::RDONLY) || !defence::stands("sealed-program"))
}

fn start_anew() -> Result<()> {
    let copy = mount::copy(CWD, Path::new(SELF), false).on("copy the mount of", SELF)?;
    mount::set_attributes(&copy, Change { set: RDONLY, ..Change::default() }).on("make read-only", SELF)?;
    let args: Vec<std::ffi::CString> = std::env::args_os()
        .map(|arg| std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(arg.as_os_str())).unwrap_or_default())
        .collect();
    let mut pointers: Vec<*const libc::c_char> = args.iter().map(|arg| arg.as_ptr()).collect();
    pointers.push(std::ptr::null());
    // SAFETY: the descriptor is open, the path empty and NUL-terminated, and arguments and environment are null-terminated lists of
    // NUL-terminated strings that live until the call returns; this process has one thread, so nobody changes the environment.
    let result = unsafe {
        libc::syscall(libc::SYS_execveat, copy.as_raw_fd(), c"".as_ptr(), pointers.as_ptr(), environ, libc::AT_EMPTY_PATH)
    };
    Errno::result(result).on("start anew", SELF).map(drop)
}

// SAFETY: the C library defines this variable with this type, environ(7).
unsafe extern "C" {
    static environ: *const *const libc::c_char;
}
