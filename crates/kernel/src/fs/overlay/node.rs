//! Files of an overlay as they are seen.

use super::directory::Merged;
use super::{Overlay, PRIVATE, is_opaque, is_whiteout};
use crate::fs::inode::Name;
use crate::fs::{Attributes, Changes, File, FileType, Inode, NewFile, Opening};
use crate::sync::Mutex;
use crate::task::Credentials;
use crate::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use insula_abi::file::Statfs;
use insula_abi::general as c;

/// A file as it is seen.
pub struct Node {
    pub(super) fs: Arc<Overlay>,
    kind: FileType,
    pub(super) ino: u64,
    /// One of its names: where it goes when it is copied up. None at the root, and of a file that has none.
    pub(super) place: Mutex<Option<(Arc<Node>, Vec<u8>)>>,
    pub(super) layers: Mutex<Layers>,
    this: Weak<Node>,
}

/// Where it is.
#[derive(Clone)]
pub(super) struct Layers {
    pub(super) upper: Option<Arc<dyn Inode>>,
    /// Of a directory all that shows through, the highest first; of others at most one.
    pub(super) lowers: Vec<Arc<dyn Inode>>,
}

impl Layers {
    /// The number under which it is seen. A directory has that of the lowest, which is there before any copy.
    fn number(&self, fs: &Overlay) -> Result<u64> {
        let top = self.top()?;
        let lowest = if top.file_type() == FileType::Directory { self.lowers.last() } else { None };
        fs.number_of(lowest.unwrap_or(top))
    }

    /// What is seen of it.
    pub(super) fn top(&self) -> Result<&Arc<dyn Inode>> {
        self.upper.as_ref().or(self.lowers.first()).ok_or(Errno::ENOENT)
    }
}

impl Node {
    /// One that isn't found by its number.
    pub(super) fn new(fs: &Arc<Overlay>, place: Option<(Arc<Node>, Vec<u8>)>, layers: Layers) -> Result<Arc<Node>> {
        let (kind, ino) = (layers.top()?.file_type(), layers.number(fs)?);
        let (place, layers) = (Mutex::new(place), Mutex::new(layers));
        Ok(Arc::new_cyclic(|this| Node { fs: fs.clone(), kind, ino, place, layers, this: this.clone() }))
    }

    /// Itself, to be held.
    pub(super) fn me(&self) -> Result<Arc<Node>> {
        self.this.upgrade().ok_or(Errno::ENOENT)
    }

    /// Where it is now.
    pub(super) fn layers(&self) -> Layers {
        self.layers.lock().clone()
    }

    pub(super) fn top(&self) -> Result<Arc<dyn Inode>> {
        self.layers.lock().top().cloned()
    }

    /// It, if it is of an overlay.
    pub(super) fn of(inode: &Arc<dyn Inode>) -> Result<Arc<Node>> {
        let any: Arc<dyn Any + Send + Sync> = inode.clone();
        any.downcast().map_err(|_| Errno::EXDEV)
    }

    /// The layers of a name, with the lock on changes held.
    pub(super) fn find(&self, name: &[u8]) -> Result<Layers> {
        let own = self.layers();
        let mut found = Layers { upper: None, lowers: Vec::new() };
        if let Some(upper) = &own.upper {
            match upper.lookup(name) {
                Ok(inode) if is_whiteout(&inode) => return Err(Errno::ENOENT),
                Ok(inode) => {
                    let ends = inode.file_type() != FileType::Directory || is_opaque(&inode);
                    found.upper = Some(inode);
                    if ends {
                        return Ok(found);
                    }
                }
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        for lower in &own.lowers {
            match lower.lookup(name) {
                Ok(inode) if is_whiteout(&inode) => break,
                Ok(inode) if inode.file_type() == FileType::Directory => {
                    let ends = is_opaque(&inode);
                    found.lowers.push(inode);
                    if ends {
                        break;
                    }
                }
                Ok(inode) => {
                    // A file below a directory is covered by it.
                    if found.upper.is_none() && found.lowers.is_empty() {
                        found.lowers.push(inode);
                    }
                    break;
                }
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        found.top()?;
        Ok(found)
    }

    /// Whether a name is there below, so that removing it must leave a whiteout.
    pub(super) fn is_below(&self, name: &[u8]) -> bool {
        let own = self.layers();
        own.lowers.iter().find_map(|lower| lower.lookup(name).ok()).is_some_and(|inode| !is_whiteout(&inode))
    }

    /// The node of a name's layers: the one in use, if there is one.
    pub(super) fn child(self: &Arc<Self>, name: &[u8], layers: Layers) -> Result<Arc<Node>> {
        let number = layers.number(&self.fs)?;
        let mut nodes = self.fs.nodes.lock();
        let node = match nodes.get(&number).and_then(Weak::upgrade) {
            Some(node) => node,
            None => Node::new(&self.fs, None, layers)?,
        };
        nodes.insert(number, Arc::downgrade(&node));
        drop(nodes);
        node.place.lock().get_or_insert_with(|| (self.clone(), name.to_vec()));
        Ok(node)
    }

    /// The node in use of a name's layers.
    pub(super) fn in_use(&self, layers: &Layers) -> Result<Option<Arc<Node>>> {
        Ok(self.fs.nodes.lock().get(&layers.number(&self.fs)?).and_then(Weak::upgrade))
    }

    /// Whether this is where it would be copied to.
    pub(super) fn is_at(&self, directory: &Node, name: &[u8]) -> bool {
        self.place.lock().as_ref().is_some_and(|(parent, known)| core::ptr::eq(&**parent, directory) && known == name)
    }
}

impl Inode for Node {
    fn attributes(&self) -> Result<Attributes> {
        let layers = self.layers();
        let mut attributes = layers.top()?.attributes()?;
        (attributes.dev, attributes.ino) = (self.fs.dev, self.ino);
        if self.kind == FileType::Directory && !layers.lowers.is_empty() {
            // How many directories are in it isn't known without a look (as find(1) understands).
            attributes.nlink = 1;
        }
        Ok(attributes)
    }

    fn identity(&self) -> Result<(u64, u64)> {
        Ok((self.fs.dev, self.ino))
    }

    fn permission_bits(&self) -> Result<(u32, u32, u32)> {
        self.top()?.permission_bits()
    }

    fn file_type(&self) -> FileType {
        self.kind
    }

    fn set_attributes(&self, changes: &Changes) -> Result<()> {
        self.copy_up()?.set_attributes(changes)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let _change = self.fs.change.lock();
        let layers = self.find(name)?;
        Ok(self.me()?.child(name, layers)?)
    }

    fn create(&self, name: &[u8], new: &NewFile<'_>) -> Result<Arc<dyn Inode>> {
        Ok(self.me()?.create_child(name, new)?)
    }

    fn create_unnamed(&self, new: &NewFile<'_>) -> Result<Arc<dyn Inode>> {
        let upper = self.copy_up()?.create_unnamed(new)?;
        Ok(Node::new(&self.fs, None, Layers { upper: Some(upper), lowers: Vec::new() })?)
    }

    fn link(&self, name: &[u8], to: &Arc<dyn Inode>) -> Result<()> {
        self.me()?.link_child(name, &Node::of(to)?)
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.remove_child(name, false)
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.remove_child(name, true)
    }

    fn rename(&self, name: &[u8], to: &Arc<dyn Inode>, new_name: &[u8], flags: u32) -> Result<()> {
        self.me()?.rename_child(name, &Node::of(to)?, new_name, flags)
    }

    fn read_link(&self) -> Result<Vec<u8>> {
        self.top()?.read_link()
    }

    fn open(self: Arc<Self>, opening: &Opening<'_>) -> Result<Arc<dyn File>> {
        if self.kind == FileType::Directory {
            return Ok(Arc::new(Merged::new(self)));
        }
        let writes = opening.flags & c::O_ACCMODE != c::O_RDONLY || opening.flags & c::O_TRUNC != 0;
        let inode = if writes { self.copy_up()? } else { self.top()? };
        inode.open(opening)
    }

    fn read_bytes(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        self.top()?.read_bytes(at, into)
    }

    fn write_bytes(&self, at: u64, from: &[u8]) -> Result<usize> {
        self.copy_up()?.write_bytes(at, from)
    }

    fn names(&self) -> Result<Vec<Name>> {
        self.merged_names()
    }

    fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        if name.starts_with(PRIVATE) {
            return Err(Errno::EOPNOTSUPP);
        }
        self.top()?.xattr(name)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], flags: u32) -> Result<()> {
        if name.starts_with(PRIVATE) {
            return Err(Errno::EOPNOTSUPP);
        }
        self.copy_up()?.set_xattr(name, value, flags)
    }

    fn xattrs(&self) -> Result<Vec<Vec<u8>>> {
        let mut names = self.top()?.xattrs()?;
        names.retain(|name| !name.starts_with(PRIVATE));
        Ok(names)
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        if name.starts_with(PRIVATE) {
            return Err(Errno::EOPNOTSUPP);
        }
        // What isn't there needs no copy.
        self.top()?.xattr(name)?;
        self.copy_up()?.remove_xattr(name)
    }

    fn statfs(&self) -> Result<Statfs> {
        /// `OVERLAYFS_SUPER_MAGIC`.
        const MAGIC: i64 = 0x794c_7630;
        Ok(Statfs { kind: MAGIC, ..self.top()?.statfs()? })
    }

    fn names_are_stable(&self) -> bool {
        let layers = self.layers.lock();
        layers.upper.iter().chain(&layers.lowers).all(|layer| layer.names_are_stable())
    }

    fn permission(&self, credentials: &Credentials, wanted: u32) -> Option<Result<()>> {
        self.top().ok()?.permission(credentials, wanted)
    }
}

impl Drop for Node {
    /// Goes up in a loop: a deep tree must not end in deep recursion.
    fn drop(&mut self) {
        let mut nodes = self.fs.nodes.lock();
        if nodes.get(&self.ino).is_some_and(|node| core::ptr::eq(node.as_ptr(), self)) {
            nodes.remove(&self.ino);
        }
        drop(nodes);
        let mut place = self.place.lock().take();
        while let Some((parent, _)) = place {
            place = Arc::into_inner(parent).and_then(|last| last.place.lock().take());
        }
    }
}
