//! File systems whose files are made of what the kernel knows: proc(5), sysfs(5).
//!
//! A [`Node`] is a text that is written anew for each reader, a link, or a directory; what is in it, closures and a [`Listing`] say. Nodes are made
//! when they are looked up, and their numbers follow from their names, so they are the same each time.

use super::{AlwaysReady, Attributes, Changes, EachEntry, File, FileType, Inode, Io, Opening, Path};
use crate::mm::UserBuf;
use crate::sync::Mutex;
use crate::task::{Credentials, Process, Task};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use insula_abi::file::Statfs;
use insula_abi::general as c;
use insula_abi::time::Timespec;

/// Writes a text for who reads.
pub type Make = Box<dyn Fn(&Arc<Task>) -> Result<Vec<u8>> + Send + Sync>;
/// Takes what somebody writes to a file that somebody, maybe with more rights or less, has opened.
pub type Store = Box<dyn Fn(&Arc<Task>, &Credentials, &[u8]) -> Result<()> + Send + Sync>;
/// Where a link leads that doesn't go by its text.
pub type Follow = Box<dyn Fn(&Arc<Task>) -> Result<Path> + Send + Sync>;

/// Opens a file.
pub type Open = Box<dyn Fn(&Opening<'_>) -> Result<Arc<dyn File>> + Send + Sync>;

/// The most bytes of one write.
const MOST_WRITTEN: usize = 4096;

/// One file system.
pub struct Pseudo {
    /// Its number.
    pub dev: u64,
    /// Its magic number, for statfs(2).
    pub magic: i64,
    /// The time of all its files.
    pub made: Timespec,
}

/// A directory's contents.
pub trait Listing: Send + Sync {
    /// The file of this name.
    fn lookup(&self, at: &At, name: &[u8]) -> Result<Arc<dyn Inode>>;

    /// All names, with their kinds.
    fn names(&self) -> Vec<(Vec<u8>, FileType)>;

    /// The process that it is about, if it is `/proc/PID`.
    fn process(&self) -> Option<Result<Arc<Process>>> {
        None
    }
}

/// Where in its file system a file is, and whose it is.
#[derive(Clone)]
pub struct At {
    /// The file system.
    pub fs: Arc<Pseudo>,
    /// The file's number.
    pub ino: u64,
    /// Owner and group, if they aren't the superuser's: they may change.
    pub owner: Option<Owner>,
}

/// Tells an owner and a group.
pub type Owner = Arc<dyn Fn() -> (u32, u32) + Send + Sync>;

/// What a file is.
pub enum Body {
    /// A text; it may be written, too.
    Text(Make, Option<Store>),
    /// A file of a kind of its own, which is made when it is opened.
    File(Open),
    /// A link.
    Link(Make, Option<Follow>),
    /// A directory.
    Directory(Box<dyn Listing>),
}

/// A file.
pub struct Node {
    at: At,
    mode: u32,
    body: Body,
}

impl Node {
    /// The process that it is about, if it is `/proc/PID`; `ESRCH` if that is gone.
    pub fn process(&self) -> Option<Result<Arc<Process>>> {
        if let Body::Directory(listing) = &self.body { listing.process() } else { None }
    }
}

/// The number of the file `name` in directory `parent` (FNV-1a).
fn number(parent: u64, name: &[u8]) -> u64 {
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = parent.to_le_bytes().iter().chain(name).fold(0xcbf2_9ce4_8422_2325, |hash, byte| mix(hash, *byte));
    // Small enough for programs that count in 32 bits, and never 0.
    (hash >> 33) + 2
}

impl At {
    /// The file `name` in this directory.
    pub fn child(&self, name: &[u8]) -> At {
        At { fs: self.fs.clone(), ino: number(self.ino, name), owner: self.owner.clone() }
    }

    /// A text that can be read by who has the permission bits of `mode`.
    pub fn text(
        &self,
        name: &[u8],
        mode: u32,
        make: impl Fn(&Arc<Task>) -> Result<Vec<u8>> + Send + Sync + 'static,
    ) -> Arc<dyn Inode> {
        Node::make(self.child(name), mode, Body::Text(Box::new(make), None))
    }

    /// A directory.
    pub fn directory(&self, name: &[u8], mode: u32, listing: impl Listing + 'static) -> Arc<dyn Inode> {
        Node::make(self.child(name), mode, Body::Directory(Box::new(listing)))
    }

    /// A link that goes by its text.
    pub fn link(&self, name: &[u8], make: impl Fn(&Arc<Task>) -> Result<Vec<u8>> + Send + Sync + 'static) -> Arc<dyn Inode> {
        Node::make(self.child(name), 0o777, Body::Link(Box::new(make), None))
    }
}

impl Node {
    /// A file of any kind.
    pub fn make(at: At, mode: u32, body: Body) -> Arc<dyn Inode> {
        Arc::new(Node { at, mode, body })
    }
}

impl Inode for Node {
    fn attributes(&self) -> Result<Attributes> {
        let nlink = if matches!(self.body, Body::Directory(_)) { 2 } else { 1 };
        let (uid, gid) = self.at.owner.as_ref().map_or((0, 0), |owner| owner());
        Ok(Attributes {
            dev: self.at.fs.dev,
            ino: self.at.ino,
            mode: self.file_type() as u32 | self.mode,
            nlink,
            uid,
            gid,
            blksize: 1024,
            atime: self.at.fs.made,
            mtime: self.at.fs.made,
            ctime: self.at.fs.made,
            ..Attributes::default()
        })
    }

    fn file_type(&self) -> FileType {
        match self.body {
            Body::Text(..) | Body::File(_) => FileType::Regular,
            Body::Link(..) => FileType::Symlink,
            Body::Directory(_) => FileType::Directory,
        }
    }

    /// Cutting such a file is what shells do before they write to it.
    fn set_attributes(&self, changes: &Changes) -> Result<()> {
        let only_size = changes.mode.is_none() && changes.uid.is_none() && changes.gid.is_none();
        if only_size && matches!(self.body, Body::Text(_, Some(_))) { Ok(()) } else { Err(Errno::EPERM) }
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        match &self.body {
            Body::Directory(listing) => listing.lookup(&self.at, name),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn create(&self, _: &[u8], _: &super::NewFile<'_>) -> Result<Arc<dyn Inode>> {
        Err(Errno::ENOENT)
    }

    fn read_link_for(&self, task: &Arc<Task>) -> Result<Vec<u8>> {
        match &self.body {
            Body::Link(make, _) => make(task),
            _ => Err(Errno::EINVAL),
        }
    }

    fn follow(&self, task: &Arc<Task>) -> Option<Result<Path>> {
        match &self.body {
            Body::Link(_, follow) => follow.as_ref().map(|follow| follow(task)),
            _ => None,
        }
    }

    fn open(self: Arc<Self>, opening: &Opening<'_>) -> Result<Arc<dyn File>> {
        match &self.body {
            Body::Text(..) => {
                // What can't be told is refused now: some programs take an open file for a promise.
                let text = Opened { node: self.clone(), opener: opening.task.credentials(), text: Mutex::new(None) };
                if opening.flags & c::O_ACCMODE != c::O_WRONLY {
                    text.refresh(opening.task)?;
                }
                Ok(Arc::new(text))
            }
            Body::Directory(_) => Ok(Arc::new(OpenDirectory { node: self, names: Mutex::default() })),
            Body::File(open) => open(opening),
            Body::Link(..) => Err(Errno::ELOOP),
        }
    }

    fn statfs(&self) -> Result<Statfs> {
        Ok(Statfs { kind: self.at.fs.magic, bsize: 4096, frsize: 4096, namelen: 255, ..Statfs::default() })
    }

    fn names_are_stable(&self) -> bool {
        false
    }
}

/// An open text: as it was when it was last read from its beginning.
struct Opened {
    node: Arc<Node>,
    opener: Arc<Credentials>,
    text: Mutex<Option<Arc<Vec<u8>>>>,
}

impl AlwaysReady for Opened {}

impl Opened {
    fn refresh(&self, task: &Arc<Task>) -> Result<Arc<Vec<u8>>> {
        let Body::Text(make, _) = &self.node.body else { return Err(Errno::EINVAL) };
        let text = Arc::new(make(task)?);
        *self.text.lock() = Some(text.clone());
        Ok(text)
    }

    fn at(&self, io: &Io<'_>, at: u64) -> Result<Arc<Vec<u8>>> {
        let known = if at == 0 { None } else { self.text.lock().clone() };
        known.map_or_else(|| self.refresh(io.task), Ok)
    }
}

impl File for Opened {
    fn file_type(&self) -> FileType {
        FileType::Regular
    }

    fn read(&self, io: &Io<'_>, at: u64, buffer: &mut UserBuf) -> Result<usize> {
        let text = self.at(io, at)?;
        buffer.put(text.get(usize::try_from(at).unwrap_or(usize::MAX)..).unwrap_or_default())
    }

    fn read_bytes(&self, io: &Io<'_>, at: u64, into: &mut [u8]) -> Result<usize> {
        let text = self.at(io, at)?;
        let rest = text.get(usize::try_from(at).unwrap_or(usize::MAX)..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write(&self, io: &Io<'_>, _: u64, buffer: &mut UserBuf) -> Result<usize> {
        let bytes = buffer.take_all(MOST_WRITTEN)?;
        self.write_bytes(io, 0, &bytes)
    }

    fn write_bytes(&self, io: &Io<'_>, _: u64, from: &[u8]) -> Result<usize> {
        let Body::Text(_, Some(store)) = &self.node.body else { return Err(Errno::EIO) };
        store(io.task, &self.opener, from)?;
        Ok(from.len())
    }

    fn append(&self, io: &Io<'_>, buffer: &mut UserBuf) -> Result<(usize, u64)> {
        Ok((self.write(io, 0, buffer)?, 0))
    }

    fn end(&self) -> Result<u64> {
        Ok(0)
    }
}

/// An open directory: its names as they were when it was last read from its beginning.
struct OpenDirectory {
    node: Arc<Node>,
    names: Mutex<Vec<(Vec<u8>, FileType)>>,
}

impl AlwaysReady for OpenDirectory {}

impl File for OpenDirectory {
    fn file_type(&self) -> FileType {
        FileType::Directory
    }

    fn entries(&self, _: &Io<'_>, at: u64, each: &mut EachEntry<'_>) -> Result<()> {
        let Body::Directory(listing) = &self.node.body else { return Err(Errno::ENOTDIR) };
        let mut names = self.names.lock();
        if at == 0 || names.is_empty() {
            *names = listing.names();
        }
        for (index, (name, kind)) in names.iter().enumerate().skip(usize::try_from(at).unwrap_or(usize::MAX)) {
            if !each(name, number(self.node.at.ino, name), *kind, index as u64 + 1) {
                break;
            }
        }
        Ok(())
    }
}

/// A directory whose files are always the same.
#[derive(Default)]
pub struct Fixed(BTreeMap<&'static str, (FileType, MakeNode)>);

/// Makes the file of this name in a directory.
type MakeNode = Box<dyn Fn(&At, &[u8]) -> Arc<dyn Inode> + Send + Sync>;

impl Fixed {
    /// With one file more: `make` makes it, from where its directory is and its name.
    pub fn with(
        mut self,
        name: &'static str,
        kind: FileType,
        make: impl Fn(&At, &[u8]) -> Arc<dyn Inode> + Send + Sync + 'static,
    ) -> Self {
        self.0.insert(name, (kind, Box::new(make)));
        self
    }

    /// With one text more that everybody may read.
    pub fn text(self, name: &'static str, make: impl Fn(&Arc<Task>) -> Result<Vec<u8>> + Clone + Send + Sync + 'static) -> Self {
        self.with(name, FileType::Regular, move |at, name| at.text(name, 0o444, make.clone()))
    }

    /// With one text more that never changes.
    pub fn constant(self, name: &'static str, text: &'static str) -> Self {
        self.text(name, move |_| Ok(text.as_bytes().to_vec()))
    }

    /// With one directory more.
    pub fn directory<L: Listing + 'static>(self, name: &'static str, make: impl Fn() -> L + Send + Sync + 'static) -> Self {
        self.with(name, FileType::Directory, move |at, name| at.directory(name, 0o555, make()))
    }
}

impl Listing for Fixed {
    fn lookup(&self, at: &At, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let text = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        let (_, make) = self.0.get(text).ok_or(Errno::ENOENT)?;
        Ok(make(at, name))
    }

    fn names(&self) -> Vec<(Vec<u8>, FileType)> {
        self.0.iter().map(|(name, (kind, _))| (name.as_bytes().to_vec(), *kind)).collect()
    }
}
