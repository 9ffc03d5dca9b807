//! Who may do what, path_resolution(7) and capabilities(7).

use super::Path;
use super::mount::MountFlags;
use crate::fs::{Attributes, FileType, Inode};
use crate::task::Credentials;
use crate::{Errno, Result};
use alloc::sync::Arc;
use insula_abi::general as c;

/// To execute a file, or look up names in a directory.
pub const EXECUTE: u32 = 1;
/// To write.
pub const WRITE: u32 = 2;
/// To read.
pub const READ: u32 = 4;

/// Whether a file may be used as `wanted` says.
///
/// # Errors
/// `EACCES`; what the file system says.
pub fn check(credentials: &Credentials, inode: &Arc<dyn Inode>, wanted: u32) -> Result<()> {
    if let Some(decided) = inode.permission(credentials, wanted) {
        return decided;
    }
    by_bits(credentials, inode.permission_bits()?, wanted)
}

/// As [`check`], and whether the mount lets it be changed.
///
/// # Errors
/// `EROFS` too.
pub fn check_path(credentials: &Credentials, path: &Path, wanted: u32) -> Result<()> {
    let inode = path.inode();
    if wanted & WRITE != 0 && matches!(inode.file_type(), FileType::Regular | FileType::Directory | FileType::Symlink) {
        writable(path)?;
    }
    check(credentials, inode, wanted)
}

/// Whether the mount lets anything be changed.
///
/// # Errors
/// `EROFS`.
pub fn writable(path: &Path) -> Result<()> {
    if path.mount.flags().contains(MountFlags::READ_ONLY) { Err(Errno::EROFS) } else { Ok(()) }
}

/// By permission bits and capabilities.
fn by_bits(credentials: &Credentials, (mode, uid, gid): (u32, u32, u32), wanted: u32) -> Result<()> {
    let bits = if uid == credentials.uid.fs {
        mode >> 6
    } else if credentials.in_group(gid) {
        mode >> 3
    } else {
        mode
    };
    if bits & wanted == wanted {
        return Ok(());
    }
    let directory = FileType::of_mode(mode) == FileType::Directory;
    // Not even the superuser executes what nobody may.
    let executable = directory || mode & 0o111 != 0;
    if credentials.has_for((uid, gid), c::CAP_DAC_OVERRIDE) && (wanted & EXECUTE == 0 || executable) {
        return Ok(());
    }
    let looks = if directory { READ | EXECUTE } else { READ };
    if credentials.has_for((uid, gid), c::CAP_DAC_READ_SEARCH) && wanted & !looks == 0 {
        return Ok(());
    }
    Err(Errno::EACCES)
}

/// Whether a name in `directory` may be made or removed.
///
/// # Errors
/// `EROFS`, `EACCES`.
pub fn change_names(credentials: &Credentials, directory: &Path) -> Result<()> {
    check_path(credentials, directory, WRITE | EXECUTE)
}

/// Whether a name of `victim` may be removed, or moved away: in a sticky directory only by an owner of either.
///
/// # Errors
/// `EPERM`.
pub fn take_name(credentials: &Credentials, directory: &Arc<dyn Inode>, victim: &Arc<dyn Inode>) -> Result<()> {
    let (mode, uid, _) = directory.permission_bits()?;
    let me = credentials.uid.fs;
    if mode & c::S_ISVTX == 0 || uid == me {
        return Ok(());
    }
    let (_, uid, gid) = victim.permission_bits()?;
    if uid == me || credentials.has_for((uid, gid), c::CAP_FOWNER) { Ok(()) } else { Err(Errno::EPERM) }
}

/// Whether they own the file, or may act as if.
pub fn owns(credentials: &Credentials, attributes: &Attributes) -> bool {
    attributes.uid == credentials.uid.fs || credentials.has_for((attributes.uid, attributes.gid), c::CAP_FOWNER)
}
