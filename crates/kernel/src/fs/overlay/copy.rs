//! Copying up: what is only below comes to the upper layer, before it is changed.

use super::node::Node;
use super::{ORIGIN, PRIVATE};
use crate::fs::inode::SetTime;
use crate::fs::{Attributes, Changes, FileType, Inode, NewFile};
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Bytes that are copied at once.
const CHUNK: usize = 64 << 10;

impl Node {
    /// Its inode in the upper layer, where it is copied if it isn't there yet, with its directories.
    pub(super) fn copy_up(&self) -> Result<Arc<dyn Inode>> {
        if let Some(upper) = &self.layers.lock().upper {
            return Ok(upper.clone());
        }
        let _change = self.fs.change.lock();
        self.copy_up_locked()
    }

    /// As [`copy_up`](Self::copy_up), with the lock on changes held.
    pub(super) fn copy_up_locked(&self) -> Result<Arc<dyn Inode>> {
        // From the highest directory that isn't there on down.
        let mut todo = alloc::vec![self.me()?];
        loop {
            let Some(node) = todo.last().cloned() else { return self.layers.lock().upper.clone().ok_or(Errno::EIO) };
            if node.layers.lock().upper.is_some() {
                todo.pop();
                continue;
            }
            let place = node.place.lock().clone();
            match place {
                Some((parent, _)) if parent.layers.lock().upper.is_none() => todo.push(parent),
                Some((parent, name)) => {
                    let into = parent.layers.lock().upper.clone().ok_or(Errno::EIO)?;
                    node.copy_to(&into, Some(&name))?;
                }
                // Its names are gone, but somebody has it open.
                None => node.copy_to(&self.upper_root()?, None)?,
            }
        }
    }

    /// Some directory of the upper layer, for what gets no name.
    fn upper_root(&self) -> Result<Arc<dyn Inode>> {
        let root = self.fs.root.lock().upgrade().ok_or(Errno::ENOENT)?;
        root.layers().upper.ok_or(Errno::EROFS)
    }

    /// Copies it to a directory of the upper layer.
    fn copy_to(self: &Arc<Self>, into: &Arc<dyn Inode>, name: Option<&[u8]>) -> Result<()> {
        let lower = self.layers.lock().lowers.first().cloned().ok_or(Errno::ENOENT)?;
        let attributes = lower.attributes()?;
        let target = if attributes.file_type() == FileType::Symlink { lower.read_link()? } else { Vec::new() };
        let Attributes { mode, uid, gid, rdev, .. } = attributes;
        let new = NewFile { mode, uid, gid, rdev, target: &target };
        let copy = match name {
            Some(name) => into.create(name, &new)?,
            None => into.create_unnamed(&new)?,
        };
        if let Err(errno) = fill(&lower, &copy, &attributes, self.ino) {
            // Half a copy must not cover the original.
            if let Some(name) = name {
                let _ = if attributes.file_type() == FileType::Directory { into.rmdir(name) } else { into.unlink(name) };
            }
            return Err(errno);
        }
        let mut layers = self.layers.lock();
        layers.upper = Some(copy);
        if attributes.file_type() == FileType::Directory {
            return Ok(());
        }
        layers.lowers.clear();
        drop(layers);
        if attributes.nlink > 1 {
            self.fs.held.lock().push(self.clone());
        }
        Ok(())
    }
}

/// Makes a new file like the original: contents, attributes, times.
fn fill(from: &Arc<dyn Inode>, to: &Arc<dyn Inode>, attributes: &Attributes, number: u64) -> Result<()> {
    if attributes.file_type() == FileType::Regular {
        contents(from, to, attributes.size)?;
    }
    for name in from.xattrs().unwrap_or_default().iter().filter(|name| !name.starts_with(PRIVATE)) {
        match from.xattr(name).and_then(|value| to.set_xattr(name, &value, 0)) {
            // The upper layer hasn't all kinds.
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    to.set_xattr(ORIGIN, &number.to_ne_bytes(), 0)?;
    to.set_attributes(&Changes {
        mode: (attributes.file_type() != FileType::Symlink).then_some(attributes.permissions()),
        atime: Some(SetTime::To(attributes.atime)),
        mtime: Some(SetTime::To(attributes.mtime)),
        ..Changes::default()
    })
}

/// Copies bytes; where there are only zeros, nothing is written.
fn contents(from: &Arc<dyn Inode>, to: &Arc<dyn Inode>, size: u64) -> Result<()> {
    let mut buffer = alloc::vec![0; CHUNK];
    let mut at = 0;
    while at < size {
        let most = CHUNK.min((size - at) as usize);
        let got = from.read_bytes(at, &mut buffer[..most])?;
        if got == 0 {
            break;
        }
        let mut rest = &buffer[..got];
        if rest.iter().any(|byte| *byte != 0) {
            let mut into = at;
            while !rest.is_empty() {
                let count = to.write_bytes(into, rest)?;
                if count == 0 {
                    return Err(Errno::EIO);
                }
                rest = &rest[count..];
                into += count as u64;
            }
        }
        at += got as u64;
    }
    to.set_attributes(&Changes { size: Some(size), ..Changes::default() })
}
