//! Our own program file, out of a container's reach.
//!
//! A process in a container can open the program of any process it sees through `/proc/PID/exe`, and, being root, write to it:
//! ours, while we start something there (CVE-2019-5736). What is opened that way comes with the mount our program was started
//! from. So when that mount is writable we start ourselves once more from a private, read-only, detached copy of it: one `exec`,
//! where others copy the file. Whether that has happened is asked of the kernel, not of a variable that could be forged.

use crate::error::{Context, Result};
use crate::mount::{self, Change};
use crate::process::FromC;
use rustix::fd::AsRawFd;
use rustix::fs::{CWD, StatVfsMountFlags};
use rustix::io::Errno;
use std::path::Path;

const RDONLY: u64 = 1;
const SELF: &str = "/proc/self/exe";

/// Returns when our program file can't be written through us, having started it anew if need be.
///
/// # Errors
/// The mount can't be copied or the copy not be run; without CAP_SYS_ADMIN there is nothing to protect from (a container then has
/// no more rights to the file than its user), so that is none.
pub fn seal() -> Result<()> {
    let mounted = rustix::fs::statvfs(SELF).on("look at", SELF)?;
    if mounted.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(());
    }
    let copy = match mount::copy(CWD, Path::new(SELF), false) {
        Err(Errno::PERM) => return Ok(()),
        result => result.on("copy the mount of", SELF)?,
    };
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
