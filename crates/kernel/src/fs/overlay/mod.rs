//! One file system laid over others, as Linux's overlayfs: what is changed goes to the upper one, the lower ones stay as they are.
//!
//! A [`Node`] is a file as it is seen: it knows its inode in the upper layer, if it is there, and those below. Before a file that is only below is
//! changed, it is *copied up*, with its directories. A name that was removed, but is below, is covered by a *whiteout* (a character
//! device 0/0); a directory that was made in such a place is *opaque* (`trusted.overlay.opaque`): nothing below shows through. Numbers of
//! files stay when they are copied up: the copy notes the original's (`trusted.overlay.origin`).
//!
//! As in overlayfs, a directory that has something below isn't moved (`EXDEV`: mv(1) copies it), and a file that was open for reading when it was
//! copied up goes on showing the original. Unlike there, a file with several names below is copied up once for all of them.
//!
//! | module | holds |
//! |---|---|
//! | [`node`] | files as they are seen |
//! | `change` | names: made, removed, moved |
//! | `copy` | copying up |
//! | `directory` | reading directories |
//! | [`options`] | overlays that programs mount |

mod change;
mod copy;
mod directory;
pub mod node;
pub mod options;

#[cfg(test)]
mod tests;

pub use node::Node;

use super::{Changes, FileType, Inode};
use crate::sync::Mutex;
use crate::{Errno, Kernel, Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use node::Layers;

/// Says that nothing below a directory shows through.
const OPAQUE: &[u8] = b"trusted.overlay.opaque";
/// The number that a file had before it was copied up.
const ORIGIN: &[u8] = b"trusted.overlay.origin";
/// Attributes that are the overlay's own, and not shown.
const PRIVATE: &[u8] = b"trusted.overlay.";

/// How many overlays may lie in each other (Linux: `FILESYSTEM_MAX_STACK_DEPTH`).
const DEEPEST: u32 = 2;

/// An overlay.
pub struct Overlay {
    /// Its number.
    dev: u64,
    /// Numbers of the layers' file systems, the upper first: a file's number begins with its layer's place here.
    layers: Vec<u64>,
    /// How many overlays lie in each other: each is one call deeper.
    depth: u32,
    /// Held while names change, and while a file is copied up.
    change: Mutex<()>,
    /// Files that are in use, by their numbers: of each there is one node, whichever of its names leads there.
    nodes: Mutex<BTreeMap<u64, Weak<Node>>>,
    /// Copies of files that have more names below, which must lead to the copy as well.
    held: Mutex<Vec<Arc<Node>>>,
    root: Mutex<Weak<Node>>,
}

impl Overlay {
    /// The topmost directory of `upper` laid over `lowers`, of which the first is the highest.
    ///
    /// # Errors
    /// What the layers say.
    pub fn root(kernel: &Kernel, upper: Arc<dyn Inode>, lowers: Vec<Arc<dyn Inode>>) -> Result<Arc<Node>> {
        if let Some(lower) = lowers.first() {
            let (mode, uid, gid) = lower.permission_bits()?;
            let changes = Changes { mode: Some(mode & 0o7777), uid: Some(uid), gid: Some(gid), ..Changes::default() };
            upper.set_attributes(&changes)?;
        }
        Overlay::laid(kernel, Some(upper), lowers)
    }

    /// The same, where the upper directory is what it is; without one nothing can be changed.
    ///
    /// # Errors
    /// What the layers say. `EINVAL`: overlays lie in each other too deep.
    pub fn laid(kernel: &Kernel, upper: Option<Arc<dyn Inode>>, lowers: Vec<Arc<dyn Inode>>) -> Result<Arc<Node>> {
        // A number that no file system has stands for an upper one that isn't there.
        let mut layers = alloc::vec![match &upper {
            Some(upper) => upper.identity()?.0,
            None => u64::MAX,
        }];
        let mut depth = 1;
        for lower in &lowers {
            layers.push(lower.identity()?.0);
            depth = depth.max(Node::of(lower).map_or(0, |node| node.fs.depth) + 1);
        }
        if depth > DEEPEST {
            return Err(Errno::EINVAL);
        }
        let dev = kernel.file_systems.device();
        let (nodes, held, root) = (Mutex::default(), Mutex::default(), Mutex::default());
        let fs = Arc::new(Overlay { dev, layers, depth, change: Mutex::new(()), nodes, held, root });
        let root = Node::new(&fs, None, Layers { upper, lowers })?;
        *fs.root.lock() = Arc::downgrade(&root);
        Ok(root)
    }

    /// The number under which a layer's file is seen.
    fn number(&self, dev: u64, ino: u64) -> u64 {
        match self.layers.iter().position(|layer| *layer == dev) {
            Some(layer) => ino ^ (layer as u64) << 56,
            // A file system that is mounted within a layer.
            None => ino ^ (dev.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 << 63) & 0xffff_ff00_0000_0000,
        }
    }

    /// The number of a file of a layer: its own, or that of what it was copied from.
    fn number_of(&self, inode: &Arc<dyn Inode>) -> Result<u64> {
        let (dev, ino) = inode.identity()?;
        if dev == self.layers[0]
            && let Ok(origin) = inode.xattr(ORIGIN)
            && let Ok(number) = origin.try_into()
        {
            return Ok(u64::from_ne_bytes(number));
        }
        Ok(self.number(dev, ino))
    }
}

/// Whether it stands for a name that was removed.
fn is_whiteout(inode: &Arc<dyn Inode>) -> bool {
    inode.file_type() == FileType::Character && inode.attributes().is_ok_and(|attributes| attributes.rdev == 0)
}

/// Whether nothing below it shows through.
fn is_opaque(inode: &Arc<dyn Inode>) -> bool {
    inode.xattr(OPAQUE).is_ok_and(|value| value == b"y")
}
