//! Overlays that programs mount: `lowerdir=A:B,upperdir=C,workdir=D`.

use super::{OPAQUE, Overlay};
use crate::fs::tree::{Lookup, MountFlags, Path, walk};
use crate::fs::types::Making;
use crate::fs::{FileType, Inode};
use crate::{Errno, Kernel, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use insula_abi::general as c;

/// Most lower layers (Linux: `OVL_MAX_STACK`).
const LAYERS_MAX: usize = 500;

/// What mount(2)'s data says.
#[derive(Default)]
pub struct Options {
    lowers: Vec<Vec<u8>>,
    upper: Option<Vec<u8>>,
    work: Option<Vec<u8>>,
}

/// Makes known what this module has.
pub fn register(kernel: &Kernel) {
    kernel.file_systems.register("overlay", |making| Options::parse(making.data)?.root(making));
}

/// Splits at a character that no backslash is before, and takes the backslashes away.
fn split(text: &[u8], at: u8) -> Vec<Vec<u8>> {
    let mut parts = alloc::vec![Vec::new()];
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match parts.last_mut() {
            _ if byte == at => parts.push(Vec::new()),
            Some(last) if byte == b'\\' => last.extend(bytes.next()),
            Some(last) => last.push(byte),
            None => {}
        }
    }
    parts
}

impl Options {
    /// From mount(2)'s data.
    ///
    /// # Errors
    /// `EINVAL`: an option isn't known, or its value isn't one.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let mut options = Options::default();
        for option in text.split(|byte| *byte == b',').filter(|option| !option.is_empty()) {
            let mut halves = option.splitn(2, |byte| *byte == b'=');
            let (name, value) = (halves.next().unwrap_or_default(), halves.next());
            match (name, value) {
                (b"lowerdir", Some(value)) => options.lowers = split(value, b':'),
                (b"upperdir", Some(value)) => options.upper = Some(value.to_vec()),
                (b"workdir", Some(value)) => options.work = Some(value.to_vec()),
                // As it is without; and what is memory is volatile.
                (b"index" | b"metacopy" | b"nfs_export" | b"redirect_dir" | b"verity", Some(b"off")) | (b"volatile", None) => {}
                (b"redirect_dir", Some(b"nofollow")) | (b"xino", Some(b"off" | b"auto" | b"on")) => {}
                (b"uuid", Some(b"on" | b"off" | b"auto" | b"null")) => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(options)
    }

    /// The topmost directory.
    fn root(&self, making: &Making<'_>) -> Result<Arc<dyn Inode>> {
        let task = making.task.ok_or(Errno::EINVAL)?;
        let find = |path: &[u8]| walk::resolve(task, c::AT_FDCWD, path, Lookup::FOLLOW | Lookup::DIRECTORY);
        if self.lowers.is_empty() || self.lowers.len() > LAYERS_MAX {
            return Err(Errno::EINVAL);
        }
        let lowers: Vec<Path> = self.lowers.iter().map(|path| find(path)).collect::<Result<_>>()?;
        // What changes by itself, as a procfs, can't lie below.
        if lowers.iter().any(|lower| lower.inode().names().is_err()) {
            return Err(Errno::EINVAL);
        }
        let upper = match (&self.upper, &self.work) {
            (None, None) if lowers.len() > 1 => None,
            (Some(upper), Some(work)) => Some((find(upper)?, find(work)?)),
            _ => return Err(Errno::EINVAL),
        };
        if let Some((upper, work)) = &upper {
            check(upper, work)?;
            upper.dentry.set_covered();
        }
        let inode = |path: &Path| path.inode().clone();
        let root = Overlay::laid(making.kernel, upper.map(|(upper, _)| inode(&upper)), lowers.iter().map(inode).collect())?;
        Ok(root)
    }
}

/// Whether these can be the upper layer, and where it is prepared.
///
/// # Errors
/// `EINVAL`: they aren't apart in one mount, or can't keep what an overlay notes. `EROFS`.
fn check(upper: &Path, work: &Path) -> Result<()> {
    let apart = !upper.dentry.is_within(&work.dentry) && !work.dentry.is_within(&upper.dentry);
    if !Arc::ptr_eq(&upper.mount, &work.mount) || !apart || upper.inode().file_type() != FileType::Directory {
        return Err(Errno::EINVAL);
    }
    if upper.mount.flags().contains(MountFlags::READ_ONLY) {
        return Err(Errno::EROFS);
    }
    let inode = work.inode();
    inode.set_xattr(OPAQUE, b"n", 0).and_then(|()| inode.remove_xattr(OPAQUE)).map_err(|_| Errno::EINVAL)
}
