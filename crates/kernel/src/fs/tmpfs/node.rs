//! Files of a tmpfs, apart from names and contents.

use super::Tmpfs;
use super::directory::Entries;
use super::file::{Contents, Opened};
use crate::fs::inode::{Name, SetTime};
use crate::fs::{Attributes, Changes, File, FileType, Inode, NewFile, Opening};
use crate::sync::Mutex;
use crate::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering;
use insula_abi::PAGE;
use insula_abi::file::Statfs;
use insula_abi::general as c;
use insula_abi::time::Timespec;

/// The most bytes of names and values of one file's extended attributes: they are in the kernel's own memory.
const MOST_XATTRS: usize = 128 << 10;

/// A file.
pub struct Node {
    pub(super) fs: Arc<Tmpfs>,
    pub(super) ino: u64,
    kind: FileType,
    rdev: u64,
    pub(super) meta: Mutex<Meta>,
    pub(super) body: Body,
}

/// What changes about a file.
pub(super) struct Meta {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) nlink: u32,
    pub(super) atime: Timespec,
    pub(super) mtime: Timespec,
    pub(super) ctime: Timespec,
    btime: Timespec,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What is in it, by kind.
pub(super) enum Body {
    Regular(Contents),
    Directory(Mutex<Entries>),
    Symlink(Vec<u8>),
    Special,
}

impl Node {
    /// The topmost directory.
    pub(super) fn root(fs: &Arc<Tmpfs>, mode: u32, uid: u32, gid: u32) -> Arc<Self> {
        let new = NewFile { mode: c::S_IFDIR | mode, uid, gid, rdev: 0, target: &[] };
        // Like Linux, it is not counted: there is always a root.
        fs.inodes.fetch_add(1, Ordering::Relaxed);
        Node::make(fs, &new)
    }

    /// Its file system.
    pub fn fs(&self) -> &Arc<Tmpfs> {
        &self.fs
    }

    /// A file that has no name yet.
    pub(super) fn new(fs: &Arc<Tmpfs>, new: &NewFile<'_>) -> Result<Arc<Self>> {
        fs.charge()?;
        Ok(Node::make(fs, new))
    }

    /// A file that never has a name: an anonymous one, of memfd_create(2).
    ///
    /// # Errors
    /// `ENOSPC`.
    pub fn anonymous(fs: &Arc<Tmpfs>, mode: u32, uid: u32, gid: u32, seals: u32) -> Result<Arc<Self>> {
        let node = Node::new(fs, &NewFile { mode: c::S_IFREG | mode, uid, gid, rdev: 0, target: &[] })?;
        node.meta.lock().nlink = 0;
        if let Body::Regular(contents) = &node.body {
            contents.seals.store(seals, Ordering::Relaxed);
        }
        Ok(node)
    }

    fn make(fs: &Arc<Tmpfs>, new: &NewFile<'_>) -> Arc<Self> {
        let kind = FileType::of_mode(new.mode);
        let now = fs.now();
        let body = match kind {
            FileType::Regular => Body::Regular(Contents::new(fs)),
            FileType::Directory => Body::Directory(Mutex::default()),
            FileType::Symlink => Body::Symlink(new.target.to_vec()),
            _ => Body::Special,
        };
        Arc::new(Node {
            fs: fs.clone(),
            ino: fs.next.fetch_add(1, Ordering::Relaxed),
            kind,
            rdev: new.rdev,
            meta: Mutex::new(Meta {
                mode: new.mode,
                uid: new.uid,
                gid: new.gid,
                nlink: if kind == FileType::Directory { 2 } else { 1 },
                atime: now,
                mtime: now,
                ctime: now,
                btime: now,
                xattrs: BTreeMap::new(),
            }),
            body,
        })
    }

    /// It, if it is a file of a tmpfs.
    pub(super) fn of(inode: &Arc<dyn Inode>) -> Option<Arc<Node>> {
        let any: Arc<dyn Any + Send + Sync> = inode.clone();
        any.downcast().ok()
    }

    /// It was written now.
    pub(super) fn modified(&self) {
        let now = self.fs.now();
        let mut meta = self.meta.lock();
        (meta.mtime, meta.ctime) = (now, now);
    }

    /// It was changed now.
    pub(super) fn changed(&self) {
        let now = self.fs.now();
        self.meta.lock().ctime = now;
    }

    /// It was read now, as `relatime` of mount(8) notes it.
    pub(super) fn read(&self, flags: u32) {
        const DAY: i64 = 24 * 60 * 60;
        if flags & c::O_NOATIME != 0 {
            return;
        }
        let now = self.fs.now();
        let mut meta = self.meta.lock();
        let at = |time: Timespec| (time.sec, time.nsec);
        if at(meta.atime) <= at(meta.mtime) || at(meta.atime) <= at(meta.ctime) || now.sec - meta.atime.sec >= DAY {
            meta.atime = now;
        }
    }

    /// One name more or less.
    pub(super) fn count_links(&self, by: i32) {
        let now = self.fs.now();
        let mut meta = self.meta.lock();
        meta.nlink = meta.nlink.saturating_add_signed(by);
        meta.ctime = now;
    }
}

impl Inode for Node {
    fn attributes(&self) -> Result<Attributes> {
        let (size, blocks) = match &self.body {
            Body::Regular(contents) => (contents.object.size(), contents.object.allocated() / 512),
            Body::Directory(entries) => (entries.lock().size(), 0),
            Body::Symlink(target) => (target.len() as u64, 0),
            Body::Special => (0, 0),
        };
        let meta = self.meta.lock();
        Ok(Attributes {
            dev: self.fs.dev,
            ino: self.ino,
            mode: meta.mode,
            nlink: meta.nlink,
            uid: meta.uid,
            gid: meta.gid,
            rdev: self.rdev,
            size,
            blksize: PAGE as u32,
            blocks,
            atime: meta.atime,
            mtime: meta.mtime,
            ctime: meta.ctime,
            btime: Some(meta.btime),
        })
    }

    fn identity(&self) -> Result<(u64, u64)> {
        Ok((self.fs.dev, self.ino))
    }

    fn permission_bits(&self) -> Result<(u32, u32, u32)> {
        let meta = self.meta.lock();
        Ok((meta.mode, meta.uid, meta.gid))
    }

    fn file_type(&self) -> FileType {
        self.kind
    }

    fn set_attributes(&self, changes: &Changes) -> Result<()> {
        if let Some(size) = changes.size {
            match &self.body {
                Body::Regular(contents) => contents.resize(size)?,
                Body::Directory(_) => return Err(Errno::EISDIR),
                _ => return Err(Errno::EINVAL),
            }
        }
        let now = self.fs.now();
        let mut meta = self.meta.lock();
        if changes.size.is_some() {
            meta.mtime = now;
        }
        if let Some(mode) = changes.mode {
            if let Body::Regular(contents) = &self.body
                && (meta.mode ^ mode) & 0o111 != 0
                && contents.seals.load(Ordering::Acquire) & c::F_SEAL_EXEC != 0
            {
                return Err(Errno::EPERM);
            }
            meta.mode = meta.mode & c::S_IFMT | mode & 0o7777;
        }
        meta.uid = changes.uid.unwrap_or(meta.uid);
        meta.gid = changes.gid.unwrap_or(meta.gid);
        let time = |wanted, before| match wanted {
            None => before,
            Some(SetTime::Now) => now,
            Some(SetTime::To(time)) => time,
        };
        meta.atime = time(changes.atime, meta.atime);
        meta.mtime = time(changes.mtime, meta.mtime);
        meta.ctime = now;
        Ok(())
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let found = self.entries()?.lock().get(name).ok_or(Errno::ENOENT)?;
        Ok(found)
    }

    fn create(&self, name: &[u8], new: &NewFile<'_>) -> Result<Arc<dyn Inode>> {
        Ok(self.create_node(name, new)?)
    }

    fn create_unnamed(&self, new: &NewFile<'_>) -> Result<Arc<dyn Inode>> {
        self.entries()?;
        let node = Node::new(&self.fs, new)?;
        node.meta.lock().nlink = 0;
        Ok(node)
    }

    fn link(&self, name: &[u8], to: &Arc<dyn Inode>) -> Result<()> {
        self.link_node(name, &Node::of(to).ok_or(Errno::EXDEV)?)
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.remove(name, false)
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.remove(name, true)
    }

    fn rename(&self, name: &[u8], to: &Arc<dyn Inode>, new_name: &[u8], flags: u32) -> Result<()> {
        let to = Node::of(to).filter(|to| Arc::ptr_eq(&to.fs, &self.fs)).ok_or(Errno::EXDEV)?;
        self.rename_node(name, &to, new_name, flags)
    }

    fn read_link(&self) -> Result<Vec<u8>> {
        match &self.body {
            Body::Symlink(target) => {
                self.read(0);
                Ok(target.clone())
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn open(self: Arc<Self>, _: &Opening<'_>) -> Result<Arc<dyn File>> {
        match self.kind {
            FileType::Regular | FileType::Directory => Ok(Arc::new(Opened::new(self))),
            FileType::Symlink => Err(Errno::ELOOP),
            _ => Err(Errno::ENXIO),
        }
    }

    fn read_bytes(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        match &self.body {
            Body::Regular(contents) => contents.read_bytes(self.fs.frames.memory(), at, into),
            _ => Err(Errno::EINVAL),
        }
    }

    fn write_bytes(&self, at: u64, from: &[u8]) -> Result<usize> {
        match &self.body {
            Body::Regular(contents) => Ok(contents.write_bytes(self.fs.frames.memory(), Some(at), from)? as usize),
            _ => Err(Errno::EINVAL),
        }
    }

    fn names(&self) -> Result<Vec<Name>> {
        let entries = self.entries()?.lock();
        let mut names = Vec::new();
        let mut place = 0;
        while let Some((next, name, node)) = entries.after(place) {
            names.push(Name { name: name.to_vec(), ino: node.ino, kind: node.kind });
            place = next;
        }
        Ok(names)
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        known(name)?;
        self.meta.lock().xattrs.get(name).cloned().ok_or(Errno::ENODATA)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
        known(name)?;
        let now = self.fs.now();
        let mut meta = self.meta.lock();
        match meta.xattrs.get(name) {
            Some(_) if flags & c::XATTR_CREATE != 0 => return Err(Errno::EEXIST),
            None if flags & c::XATTR_REPLACE != 0 => return Err(Errno::ENODATA),
            _ => {}
        }
        let others: usize = meta.xattrs.iter().filter(|(key, _)| *key != name).map(|(key, value)| key.len() + value.len()).sum();
        if others + name.len() + value.len() > MOST_XATTRS {
            return Err(Errno::ENOSPC);
        }
        meta.xattrs.insert(name.to_vec(), value.to_vec());
        meta.ctime = now;
        Ok(())
    }

    fn xattrs(&self) -> Result<Vec<Vec<u8>>> {
        Ok(self.meta.lock().xattrs.keys().cloned().collect())
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        known(name)?;
        let now = self.fs.now();
        let mut meta = self.meta.lock();
        meta.xattrs.remove(name).ok_or(Errno::ENODATA)?;
        meta.ctime = now;
        Ok(())
    }

    fn statfs(&self) -> Result<Statfs> {
        Ok(self.fs.statfs())
    }
}

/// Whether a tmpfs has extended attributes of that kind.
fn known(name: &[u8]) -> Result<()> {
    let kinds: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
    if kinds.iter().any(|kind| name.starts_with(kind)) { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

impl Drop for Node {
    /// In a loop: a deep tree must not end in deep recursion.
    fn drop(&mut self) {
        self.fs.refund();
        let Body::Directory(entries) = &self.body else { return };
        let mut todo = entries.lock().take_all();
        while let Some(node) = todo.pop() {
            if let Some(last) = Arc::into_inner(node)
                && let Body::Directory(entries) = &last.body
            {
                todo.extend(entries.lock().take_all());
            }
        }
    }
}
