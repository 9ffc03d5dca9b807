//! Files of the host's, apart from their names.

use super::directory::{self, HostDirectory, Listing};
use super::file::HostOpen;
use super::{HostFs, attributes, attributes_of};
use crate::host::{HostDescriptor, Stream, errno};
use insula_abi::file::Statfs;
use insula_abi::general as c;
use insula_gofer::{Attr, Change, Device, Handle, NewOwner, OpenFlags, Owner, Time, Times};
use insula_kernel::fs::inode::{Name, SetTime};
use insula_kernel::fs::{Attributes, Changes, File, FileType, Inode, NewFile, Opening};
use insula_kernel::host::HostFile;
use insula_kernel::sync::Mutex;
use insula_kernel::{Errno, Result};
use rustix::fd::OwnedFd;
use std::any::Any;
use std::sync::{Arc, Weak};

/// A file of the host's.
pub struct HostInode {
    pub(super) fs: Arc<HostFs>,
    handle: Handle,
    kind: FileType,
    key: (u64, u64),
    /// How it is, as long as that is known for sure.
    known: Mutex<Option<Attributes>>,
    open: Mutex<Open>,
    /// Held while something is written at the end.
    pub(super) appending: Mutex<()>,
}

/// Descriptors that all who open the file share.
#[derive(Default)]
struct Open {
    reader: Option<Arc<HostDescriptor>>,
    writer: Option<Arc<HostDescriptor>>,
    /// Of a directory, as long as somebody reads it.
    listing: Weak<Listing>,
}

impl HostFs {
    /// An open file.
    fn open(&self, fd: OwnedFd) -> Arc<HostDescriptor> {
        Arc::new(HostDescriptor::new(fd, &self.memory, self.room.as_ref()))
    }

    /// The inode of what a handle stands for; the one in use, if there is one.
    pub(super) fn inode(self: &Arc<Self>, handle: Handle, attr: &Attr) -> Arc<HostInode> {
        let attributes = attributes(attr);
        let key = (attributes.dev, attributes.ino);
        let mut inodes = self.inodes.lock();
        // A handle keeps the host from giving the number to another file, so the one in use is the same.
        if let Some(known) = inodes.get(&key).and_then(Weak::upgrade)
            && known.kind == attributes.file_type()
        {
            *known.known.lock() = (!self.shared).then_some(attributes);
            return known;
        }
        let inode = Arc::new(HostInode {
            fs: self.clone(),
            handle,
            kind: attributes.file_type(),
            key,
            known: Mutex::new((!self.shared).then_some(attributes)),
            open: Mutex::default(),
            appending: Mutex::new(()),
        });
        inodes.insert(key, Arc::downgrade(&inode));
        inode
    }
}

impl Drop for HostInode {
    fn drop(&mut self) {
        let mut inodes = self.fs.inodes.lock();
        if inodes.get(&self.key).is_some_and(|known| known.strong_count() == 0) {
            inodes.remove(&self.key);
        }
    }
}

impl HostInode {
    /// Something about it has changed: ask again.
    pub(super) fn forget(&self) {
        *self.known.lock() = None;
    }

    /// A descriptor with these rights: one that is open already, or a new one.
    fn descriptor(&self, flags: OpenFlags) -> Result<Arc<HostDescriptor>> {
        let open_anew = || {
            let fd = self.handle.open(flags).map_err(errno)?;
            Ok(self.fs.open(fd))
        };
        let plain = OpenFlags::WRONLY | OpenFlags::RDWR;
        if !plain.contains(flags) {
            return open_anew();
        }
        // One for writing serves readers as well, if it may read.
        let writes = flags.intersects(plain);
        let mut open = self.open.lock();
        let found = if writes { open.writer.clone() } else { open.writer.clone().or_else(|| open.reader.clone()) };
        if let Some(found) = found {
            return Ok(found);
        }
        if writes {
            let both = self.handle.open(OpenFlags::RDWR).map_err(errno)?;
            let writer = self.fs.open(both);
            open.writer = Some(writer.clone());
            return Ok(writer);
        }
        let reader: Arc<HostDescriptor> = open_anew()?;
        open.reader = Some(reader.clone());
        Ok(reader)
    }

    /// A descriptor by which a directory is read.
    pub(super) fn listing(&self) -> Result<Arc<Listing>> {
        let mut open = self.open.lock();
        if let Some(listing) = open.listing.upgrade() {
            return Ok(listing);
        }
        let fd = self.handle.open(OpenFlags::empty()).map_err(errno)?;
        let listing = Arc::new(Listing::new(fd));
        open.listing = Arc::downgrade(&listing);
        Ok(listing)
    }

    fn other(inode: &Arc<dyn Inode>) -> Result<Arc<HostInode>> {
        let any: Arc<dyn Any + Send + Sync> = inode.clone();
        any.downcast().map_err(|_| Errno::EXDEV)
    }

    fn made(&self, made: (Handle, Attr)) -> Arc<dyn Inode> {
        self.forget();
        self.fs.inode(made.0, &made.1)
    }
}

impl Inode for HostInode {
    fn attributes(&self) -> Result<Attributes> {
        if let Some(known) = *self.known.lock() {
            return Ok(known);
        }
        let open = {
            let open = self.open.lock();
            open.writer.clone().or_else(|| open.reader.clone())
        };
        let fresh = match open {
            Some(open) => attributes_of(&rustix::fs::fstat(open.fd()).map_err(errno)?),
            None => attributes(&self.handle.stat().map_err(errno)?),
        };
        if !self.fs.shared {
            *self.known.lock() = Some(fresh);
        }
        Ok(fresh)
    }

    fn file_type(&self) -> FileType {
        self.kind
    }

    fn set_attributes(&self, changes: &Changes) -> Result<()> {
        const OMIT: Time = Time { seconds: 0, nanoseconds: 0x3fff_fffe };
        const NOW: Time = Time { seconds: 0, nanoseconds: 0x3fff_ffff };
        let time = |time: Option<SetTime>| match time {
            None => OMIT,
            Some(SetTime::Now) => NOW,
            Some(SetTime::To(time)) => Time { seconds: time.sec, nanoseconds: time.nsec as u32 },
        };
        let touched = changes.atime.is_some() || changes.mtime.is_some();
        let times = touched.then(|| Times { accessed: time(changes.atime), modified: time(changes.mtime) });
        let owner = (changes.uid.is_some() || changes.gid.is_some()).then_some(NewOwner { uid: changes.uid, gid: changes.gid });
        let change = Change { owner, mode: changes.mode, size: changes.size, times };
        let attr = self.handle.change(&change).map_err(errno)?;
        *self.known.lock() = (!self.fs.shared).then(|| attributes(&attr));
        Ok(())
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let mut walked = self.handle.walk(&[(name, None)]).map_err(errno)?;
        match (walked.reached.pop(), walked.stopped) {
            (Some((Some(handle), attr)), _) => Ok(self.fs.inode(handle, &attr)),
            (_, Some(stopped)) => Err(errno(stopped)),
            _ => Err(Errno::EIO),
        }
    }

    fn create(&self, name: &[u8], new: &NewFile<'_>) -> Result<Arc<dyn Inode>> {
        let owner = Owner { uid: new.uid, gid: new.gid };
        let made = match FileType::of_mode(new.mode) {
            FileType::Directory => self.handle.make_dir(name, new.mode & 0o7777, owner),
            FileType::Symlink => self.handle.make_link(name, new.target, owner),
            FileType::Regular => {
                let created = self.handle.create(name, OpenFlags::RDWR, new.mode & 0o7777, owner).map_err(errno)?;
                let (handle, attr, fd) = created;
                self.forget();
                let inode = self.fs.inode(handle, &attr);
                inode.open.lock().writer = Some(self.fs.open(fd));
                return Ok(inode);
            }
            _ => {
                let device = Device { major: rustix::fs::major(new.rdev), minor: rustix::fs::minor(new.rdev) };
                self.handle.make_node(name, new.mode, device, owner)
            }
        };
        Ok(self.made(made.map_err(errno)?))
    }

    fn create_unnamed(&self, new: &NewFile<'_>) -> Result<Arc<dyn Inode>> {
        let owner = Owner { uid: new.uid, gid: new.gid };
        let made = self.handle.create_unnamed(OpenFlags::RDWR, new.mode & 0o7777, owner, false);
        let (handle, attr, fd) = made.map_err(errno)?;
        let inode = self.fs.inode(handle, &attr);
        inode.open.lock().writer = Some(self.fs.open(fd));
        Ok(inode)
    }

    fn link(&self, name: &[u8], to: &Arc<dyn Inode>) -> Result<()> {
        let to = Self::other(to)?;
        self.handle.link(name, &to.handle).map_err(errno)?;
        self.forget();
        to.forget();
        Ok(())
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.handle.unlink(name).map_err(errno)?;
        self.forget();
        Ok(())
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.handle.remove_dir(name).map_err(errno)?;
        self.forget();
        Ok(())
    }

    fn rename(&self, name: &[u8], to: &Arc<dyn Inode>, new_name: &[u8], flags: u32) -> Result<()> {
        let to = Self::other(to)?;
        self.handle.rename(name, &to.handle, new_name, flags).map_err(errno)?;
        self.forget();
        to.forget();
        Ok(())
    }

    fn read_link(&self) -> Result<Vec<u8>> {
        self.handle.read_link().map_err(errno)
    }

    // A device of the host's, where such are let in: bytes go through, requests (ioctl(2)) don't, as nobody here knows what they mean.
    fn reopen(&self, opening: &Opening<'_>) -> Option<Result<Arc<dyn File>>> {
        let watcher = self.fs.devices.as_ref().filter(|_| matches!(self.kind, FileType::Character | FileType::Block))?;
        let flags = match opening.flags & c::O_ACCMODE {
            c::O_RDONLY => OpenFlags::empty(),
            c::O_WRONLY => OpenFlags::WRONLY,
            _ => OpenFlags::RDWR,
        };
        let opened = self.handle.open(flags).map_err(errno).and_then(|fd| Stream::new(fd, watcher));
        Some(opened.map(|stream| stream as Arc<dyn File>))
    }

    fn open(self: Arc<Self>, opening: &Opening<'_>) -> Result<Arc<dyn File>> {
        match self.kind {
            FileType::Directory => Ok(Arc::new(HostDirectory::new(self))),
            FileType::Regular => {
                let mut flags = match opening.flags & c::O_ACCMODE {
                    c::O_RDONLY => OpenFlags::empty(),
                    // A shared mapping of it may be read as well.
                    _ => OpenFlags::RDWR,
                };
                for (flag, here) in
                    [(c::O_DIRECT, OpenFlags::DIRECT), (c::O_DSYNC, OpenFlags::DSYNC), (c::O_APPEND, OpenFlags::APPEND)]
                {
                    if opening.flags & flag != 0 && (here != OpenFlags::APPEND || self.fs.shared) {
                        flags |= here;
                    }
                }
                let descriptor = self.descriptor(flags)?;
                Ok(Arc::new(HostOpen::new(self, descriptor)))
            }
            // Devices and sockets of the host's are nobody's here; named pipes are the kernel's own.
            _ => Err(Errno::ENXIO),
        }
    }

    fn read_bytes(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        self.descriptor(OpenFlags::empty())?.read_at(at, into)
    }

    fn write_bytes(&self, at: u64, from: &[u8]) -> Result<usize> {
        self.forget();
        self.descriptor(OpenFlags::RDWR)?.write_at(at, from)
    }

    fn names(&self) -> Result<Vec<Name>> {
        if self.kind != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        let mut names = Vec::new();
        directory::entries(&*self.listing()?, 0, &mut |name, ino, kind, _| {
            names.push(Name { name: name.to_vec(), ino, kind });
            true
        })?;
        Ok(names)
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.handle.get_xattr(name).map_err(errno)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
        self.handle.set_xattr(name, value, flags).map_err(errno)?;
        self.forget();
        Ok(())
    }

    fn xattrs(&self) -> Result<Vec<Vec<u8>>> {
        let list = self.handle.list_xattrs().map_err(errno)?;
        Ok(list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.handle.remove_xattr(name).map_err(errno)?;
        self.forget();
        Ok(())
    }

    fn statfs(&self) -> Result<Statfs> {
        let fs = self.handle.stat_fs().map_err(errno)?;
        Ok(Statfs {
            kind: fs.kind as i64,
            bsize: fs.block_size as i64,
            blocks: fs.blocks,
            bfree: fs.free,
            bavail: fs.available,
            files: fs.files,
            ffree: fs.files_free,
            namelen: fs.name_most as i64,
            frsize: fs.fragment_size as i64,
            flags: fs.flags as i64,
            fsid: [fs.id as i32, (fs.id >> 32) as i32],
            ..Statfs::default()
        })
    }

    fn names_changed(&self) {
        self.forget();
    }

    fn names_are_stable(&self) -> bool {
        !self.fs.shared
    }
}
