//! From a path to a place, path_resolution(7).

use super::access::{self, EXECUTE};
use super::mount::MountFlags;
use super::{Context, Path};
use crate::fs::FileType;
use crate::task::{Credentials, Task};
use crate::{Errno, Result};
use alloc::borrow::Cow;
use alloc::sync::Arc;
use alloc::vec::Vec;
use insula_abi::general as c;

bitflags::bitflags! {
    /// How a path is walked.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub struct Lookup: u32 {
        /// A symbolic link at its end is followed.
        const FOLLOW = 1;
        /// It must end at a directory.
        const DIRECTORY = 2;
        /// It may be empty: the place it begins at.
        const EMPTY = 4;
        /// It stays on one mount (`RESOLVE_NO_XDEV`).
        const NO_XDEV = 8;
        /// It leads over no magic link (`RESOLVE_NO_MAGICLINKS`).
        const NO_MAGIC = 16;
        /// It leads over no symbolic link (`RESOLVE_NO_SYMLINKS`).
        const NO_SYMLINKS = 32;
        /// It stays below where it begins (`RESOLVE_BENEATH`).
        const BENEATH = 64;
        /// Where it begins is its root (`RESOLVE_IN_ROOT`).
        const IN_ROOT = 128;
    }
}

/// The most symbolic links on one way (Linux: `MAXSYMLINKS`).
const MOST_LINKS: u32 = 40;

/// The longest name (`NAME_MAX`).
pub const NAME_MAX: usize = 255;

/// A way through the tree.
pub struct Walk {
    task: Arc<Task>,
    /// Who walks.
    pub credentials: Arc<Credentials>,
    root: Path,
    /// Where it has come to.
    pub at: Path,
    flags: Lookup,
    links: u32,
}

/// The last component of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Last {
    /// A name; and whether a slash follows, which only a directory may have.
    Name(Vec<u8>, bool),
    /// Nothing but slashes.
    Root,
    /// `.`
    Dot,
    /// `..`
    DotDot,
}

/// Where a path that begins at a descriptor leads.
///
/// # Errors
/// As path_resolution(7) says.
pub fn resolve(task: &Arc<Task>, dirfd: i32, path: &[u8], flags: Lookup) -> Result<Path> {
    Walk::begin(task, dirfd, path, flags)?.to_end(path)
}

/// The directory in which the last component of a path is to be looked up, and that component.
///
/// # Errors
/// As path_resolution(7) says.
pub fn parent(task: &Arc<Task>, dirfd: i32, path: &[u8]) -> Result<(Walk, Last)> {
    let mut walk = Walk::begin(task, dirfd, path, Lookup::empty())?;
    let last = walk.to_parent(Cow::Borrowed(path))?;
    Ok((walk, last))
}

/// The place a descriptor stands for.
///
/// # Errors
/// `EBADF`. `ENOTDIR`: it has no place in the tree.
pub fn place(task: &Arc<Task>, fd: i32) -> Result<Path> {
    if fd == c::AT_FDCWD {
        return Ok(task.fs().lock().cwd.clone());
    }
    task.file(fd)?.path.clone().ok_or(Errno::ENOTDIR)
}

impl Walk {
    /// At the beginning of `path`.
    ///
    /// # Errors
    /// `ENOENT`: it is empty, and may not be. `EBADF`, `ENOTDIR`: nothing to begin at. `EXDEV`: absolute, and must stay below.
    pub fn begin(task: &Arc<Task>, dirfd: i32, path: &[u8], flags: Lookup) -> Result<Walk> {
        if path.is_empty() && !flags.contains(Lookup::EMPTY) {
            return Err(Errno::ENOENT);
        }
        let absolute = path.first() == Some(&b'/');
        if absolute && flags.contains(Lookup::BENEATH) {
            return Err(Errno::EXDEV);
        }
        let Context { root, cwd, .. } = task.fs().lock().clone();
        let scoped = flags.intersects(Lookup::BENEATH | Lookup::IN_ROOT);
        let at = if absolute && !scoped {
            root.clone()
        } else if dirfd == c::AT_FDCWD {
            cwd
        } else {
            let place = place(task, dirfd)?;
            if !path.is_empty() && place.inode().file_type() != FileType::Directory {
                return Err(Errno::ENOTDIR);
            }
            place
        };
        let root = if scoped { at.clone() } else { root };
        Ok(Walk { task: task.clone(), credentials: task.credentials(), root, at, flags, links: 0 })
    }

    /// As `credentials`, not as the task is (access(2)).
    pub fn with_credentials(mut self, credentials: Arc<Credentials>) -> Self {
        self.credentials = credentials;
        self
    }

    /// To the end of the path.
    ///
    /// # Errors
    /// As path_resolution(7) says.
    pub fn to_end(mut self, path: &[u8]) -> Result<Path> {
        if path.is_empty() {
            return Ok(self.at);
        }
        let mut last = self.to_parent(Cow::Borrowed(path))?;
        loop {
            match self.finish(last, self.flags.contains(Lookup::FOLLOW))? {
                Finish::Arrived => break,
                Finish::Link(text) => last = self.to_parent(Cow::Owned(text))?,
            }
        }
        if self.flags.contains(Lookup::DIRECTORY) && self.at.inode().file_type() != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        Ok(self.at)
    }

    /// To the directory of the last component.
    ///
    /// # Errors
    /// As path_resolution(7) says.
    pub fn to_parent(&mut self, mut text: Cow<'_, [u8]>) -> Result<Last> {
        let mut next = 0;
        self.root_if_absolute(&text);
        loop {
            next += text[next..].iter().take_while(|byte| **byte == b'/').count();
            let len = text[next..].iter().position(|byte| *byte == b'/').unwrap_or(text.len() - next);
            if len == 0 {
                return Ok(Last::Root);
            }
            let end = next + len;
            let last = text[end..].iter().all(|byte| *byte == b'/');
            let name = &text[next..end];
            if last {
                return Ok(match name {
                    b"." => Last::Dot,
                    b".." => Last::DotDot,
                    _ => Last::Name(name.to_vec(), end < text.len()),
                });
            }
            next = end;
            match name {
                b"." => self.searchable()?,
                b".." => self.up()?,
                _ => {
                    if let Some(mut link) = self.step(name, true)? {
                        link.extend_from_slice(&text[end..]);
                        text = Cow::Owned(link);
                        next = 0;
                        self.root_if_absolute(&text);
                    }
                    match self.at.inode().file_type() {
                        FileType::Directory => {}
                        _ => return Err(Errno::ENOTDIR),
                    }
                }
            }
        }
    }

    /// From the last directory to what the last component names; or to the text of the link that is there.
    ///
    /// # Errors
    /// As path_resolution(7) says.
    pub fn finish(&mut self, last: Last, follow: bool) -> Result<Finish> {
        match last {
            Last::Root | Last::Dot => self.searchable()?,
            Last::DotDot => self.up()?,
            Last::Name(name, slash) => {
                if let Some(mut text) = self.step(&name, follow || slash)? {
                    if slash {
                        text.push(b'/');
                    }
                    return Ok(Finish::Link(text));
                }
                if slash && self.at.inode().file_type() != FileType::Directory {
                    return Err(Errno::ENOTDIR);
                }
            }
        }
        Ok(Finish::Arrived)
    }

    /// Whether names can be looked up here.
    ///
    /// # Errors
    /// `ENOTDIR`, `EACCES`.
    pub fn searchable(&self) -> Result<()> {
        let inode = self.at.inode();
        if inode.file_type() != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        access::check(&self.credentials, inode, EXECUTE)
    }

    /// To the child of this name. If that is a symbolic link that is to be followed, it stays, and answers the link's text.
    fn step(&mut self, name: &[u8], follow: bool) -> Result<Option<Vec<u8>>> {
        self.searchable()?;
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let child = self.at.dentry.child(name)?;
        self.enter(child, follow)
    }

    /// To a child that was found here; answers the text of a link there, if that is to be followed.
    ///
    /// # Errors
    /// As path_resolution(7) says.
    pub fn enter(&mut self, child: Arc<super::Dentry>, follow: bool) -> Result<Option<Vec<u8>>> {
        if child.inode().file_type() == FileType::Symlink && follow {
            return self.link(&child);
        }
        let covered = child.is_mount_point();
        self.at.dentry = child;
        if covered {
            let below = self.at.clone().down();
            if self.flags.contains(Lookup::NO_XDEV) && !Arc::ptr_eq(&below.mount, &self.at.mount) {
                return Err(Errno::EXDEV);
            }
            self.at = below;
        }
        Ok(None)
    }

    /// Follows a link: jumps, if it is magic, or answers its text.
    fn link(&mut self, child: &Arc<super::Dentry>) -> Result<Option<Vec<u8>>> {
        self.links += 1;
        let forbidden = self.flags.contains(Lookup::NO_SYMLINKS) || self.at.mount.flags().contains(MountFlags::NO_SYMFOLLOW);
        if self.links > MOST_LINKS || forbidden {
            return Err(Errno::ELOOP);
        }
        let inode = child.inode();
        if let Some(target) = inode.follow(&self.task) {
            if self.flags.contains(Lookup::NO_MAGIC) {
                return Err(Errno::ELOOP);
            }
            if self.flags.intersects(Lookup::BENEATH | Lookup::IN_ROOT) {
                return Err(Errno::EXDEV);
            }
            let target = target?;
            if self.flags.contains(Lookup::NO_XDEV) && !Arc::ptr_eq(&target.mount, &self.at.mount) {
                return Err(Errno::EXDEV);
            }
            self.at = target;
            return Ok(None);
        }
        let text = inode.read_link_for(&self.task)?;
        match text.first() {
            None => Err(Errno::ENOENT),
            Some(b'/') if self.flags.contains(Lookup::BENEATH) => Err(Errno::EXDEV),
            Some(b'/') if self.flags.contains(Lookup::NO_XDEV) && !Arc::ptr_eq(&self.root.mount, &self.at.mount) => {
                Err(Errno::EXDEV)
            }
            _ => Ok(Some(text)),
        }
    }

    fn root_if_absolute(&mut self, text: &[u8]) {
        if text.first() == Some(&b'/') {
            self.at = self.root.clone();
        }
    }

    /// One directory up; from the root to the root.
    fn up(&mut self) -> Result<()> {
        self.searchable()?;
        if self.at.is(&self.root) {
            return if self.flags.contains(Lookup::BENEATH) { Err(Errno::EXDEV) } else { Ok(()) };
        }
        // From a place that isn't in the tree any more, there is no way up.
        let Some(up) = self.at.up() else { return Ok(()) };
        if self.flags.contains(Lookup::NO_XDEV) && !Arc::ptr_eq(&up.mount, &self.at.mount) {
            return Err(Errno::EXDEV);
        }
        // What was mounted over the parent since covers it.
        self.at = up.down();
        Ok(())
    }
}

/// How a way ended.
pub enum Finish {
    /// At what the path names.
    Arrived,
    /// At a symbolic link; the rest of the way is this text.
    Link(Vec<u8>),
}
