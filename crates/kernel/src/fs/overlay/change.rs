//! Names of an overlay: made, removed, moved. All with the lock on changes held.

use super::node::{Layers, Node};
use super::{OPAQUE, is_whiteout};
use crate::fs::{FileType, Inode, NewFile};
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use insula_abi::general as c;

/// Covers a name that is below.
fn whiteout(directory: &Arc<dyn Inode>, name: &[u8]) -> Result<()> {
    directory.create(name, &NewFile { mode: c::S_IFCHR, uid: 0, gid: 0, rdev: 0, target: &[] }).map(|_| ())
}

/// Takes a whiteout away, if one is there; answers whether it was.
fn uncover(directory: &Arc<dyn Inode>, name: &[u8]) -> Result<bool> {
    match directory.lookup(name) {
        Ok(inode) if is_whiteout(&inode) => directory.unlink(name).map(|()| true),
        _ => Ok(false),
    }
}

impl Node {
    pub(super) fn create_child(self: &Arc<Self>, name: &[u8], new: &NewFile<'_>) -> Result<Arc<Node>> {
        let _change = self.fs.change.lock();
        // The mark of a removed name can't be made by hand.
        if new.mode & c::S_IFMT == c::S_IFCHR && new.rdev == 0 {
            return Err(Errno::EPERM);
        }
        let upper = self.copy_up_locked()?;
        let covered = uncover(&upper, name)?;
        let made = upper.create(name, new).and_then(|made| {
            if covered && made.file_type() == FileType::Directory {
                made.set_xattr(OPAQUE, b"y", 0)?;
            }
            Ok(made)
        });
        let made = made.inspect_err(|_| {
            if covered {
                let _ = upper.rmdir(name);
                let _ = whiteout(&upper, name);
            }
        })?;
        self.child(name, Layers { upper: Some(made), lowers: Vec::new() })
    }

    pub(super) fn link_child(self: &Arc<Self>, name: &[u8], to: &Arc<Node>) -> Result<()> {
        let _change = self.fs.change.lock();
        let upper = self.copy_up_locked()?;
        let file = to.copy_up_locked()?;
        let covered = uncover(&upper, name)?;
        upper.link(name, &file).inspect_err(|_| {
            if covered {
                let _ = whiteout(&upper, name);
            }
        })?;
        to.place.lock().get_or_insert_with(|| (self.clone(), name.to_vec()));
        Ok(())
    }

    pub(super) fn remove_child(&self, name: &[u8], directory: bool) -> Result<()> {
        let _change = self.fs.change.lock();
        let found = self.find(name)?;
        let kind = found.top()?.file_type();
        match (kind == FileType::Directory, directory) {
            (true, false) => return Err(Errno::EISDIR),
            (false, true) => return Err(Errno::ENOTDIR),
            _ => {}
        }
        if directory {
            let seen = Node::new(&self.fs, None, found.clone())?;
            seen.clear_whiteouts()?;
        }
        let below = self.is_below(name);
        let upper = self.copy_up_locked()?;
        let node = self.in_use(&found)?;
        if found.upper.is_some() {
            if directory { upper.rmdir(name)? } else { upper.unlink(name)? }
        }
        if below {
            whiteout(&upper, name)?;
        }
        if let Some(node) = node.filter(|node| node.is_at(self, name)) {
            let before = node.place.lock().take();
            drop(before);
        }
        Ok(())
    }

    /// Makes an empty directory empty in the upper layer, too.
    ///
    /// # Errors
    /// `ENOTEMPTY`: it has names.
    fn clear_whiteouts(&self) -> Result<()> {
        if !self.merged_names()?.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        let Some(upper) = self.layers().upper else { return Ok(()) };
        for name in upper.names()? {
            upper.unlink(&name.name)?;
        }
        Ok(())
    }

    pub(super) fn rename_child(self: &Arc<Self>, name: &[u8], to: &Arc<Node>, new_name: &[u8], flags: u32) -> Result<()> {
        let _change = self.fs.change.lock();
        if flags & c::RENAME_WHITEOUT != 0 {
            return Err(Errno::EINVAL);
        }
        let exchange = flags & c::RENAME_EXCHANGE != 0;
        let (node, moved) = self.upper_child(name)?;
        let target = match to.find(new_name) {
            Err(Errno::ENOENT) if !exchange => None,
            outcome => Some(outcome?),
        };
        let replaced = target.as_ref().map(|target| to.in_use(target)).transpose()?.flatten();
        let (from_below, to_below) = (self.is_below(name), to.is_below(new_name));
        let from_upper = self.copy_up_locked()?;
        let to_upper = to.copy_up_locked()?;
        match &target {
            Some(_) if exchange => {
                let (_, other) = to.upper_child(new_name)?;
                cover(&other, from_below)?;
            }
            Some(found) if found.top()?.file_type() == FileType::Directory => {
                let seen = Node::new(&self.fs, None, found.clone())?;
                seen.clear_whiteouts()?;
            }
            Some(_) => {}
            None => {
                uncover(&to_upper, new_name)?;
            }
        }
        cover(&moved, to_below)?;
        from_upper.rename(name, &to_upper, new_name, flags & !c::RENAME_NOREPLACE)?;
        if !exchange && from_below {
            whiteout(&from_upper, name)?;
        }
        let put = |node: &Arc<Node>, place: Option<(Arc<Node>, Vec<u8>)>| {
            let before = core::mem::replace(&mut *node.place.lock(), place);
            drop(before);
        };
        if let Some(node) = replaced.filter(|node| node.is_at(to, new_name)) {
            put(&node, exchange.then(|| (self.clone(), name.to_vec())));
        }
        put(&node, Some((to.clone(), new_name.to_vec())));
        Ok(())
    }

    /// A name's node, and its inode in the upper layer, where it is by this name, so that it can be moved there.
    ///
    /// # Errors
    /// `EXDEV`: a directory, with something below.
    fn upper_child(self: &Arc<Self>, name: &[u8]) -> Result<(Arc<Node>, Arc<dyn Inode>)> {
        let found = self.find(name)?;
        if found.top()?.file_type() == FileType::Directory && !found.lowers.is_empty() {
            return Err(Errno::EXDEV);
        }
        let there = found.upper.clone();
        let node = self.child(name, found)?;
        if let Some(upper) = there {
            return Ok((node, upper));
        }
        let copy = node.copy_up_locked()?;
        let directory = self.copy_up_locked()?;
        // It was copied by another of its names.
        if directory.lookup(name).is_err() {
            directory.link(name, &copy)?;
        }
        Ok((node, copy))
    }
}

/// What is moved to a place that has something below must not let it through.
fn cover(inode: &Arc<dyn Inode>, below: bool) -> Result<()> {
    if below && inode.file_type() == FileType::Directory { inode.set_xattr(OPAQUE, b"y", 0) } else { Ok(()) }
}
