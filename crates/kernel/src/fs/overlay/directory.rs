//! Reading directories of an overlay: the names of all layers, each once.

use super::node::Node;
use super::{is_opaque, is_whiteout};
use crate::fs::inode::Name;
use crate::fs::{AlwaysReady, Attributes, EachEntry, File, FileType, Inode, Io};
use crate::sync::Mutex;
use crate::{Errno, Result};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

impl Node {
    /// All names, each with the number under which it is seen.
    pub(super) fn merged_names(&self) -> Result<Vec<Name>> {
        let layers = self.layers();
        let mut seen = BTreeSet::new();
        let mut merged = Vec::new();
        for layer in layers.upper.iter().chain(&layers.lowers) {
            let dev = layer.identity()?.0;
            for mut name in layer.names()? {
                if !seen.insert(name.name.clone()) {
                    continue;
                }
                let upper = layers.upper.as_ref().is_some_and(|upper| Arc::ptr_eq(upper, layer));
                // Only what may be a whiteout, or a copy, is looked at itself.
                if name.kind == FileType::Character || upper {
                    let Ok(inode) = layer.lookup(&name.name) else { continue };
                    if is_whiteout(&inode) {
                        continue;
                    }
                    let below = inode.file_type() == FileType::Directory && !is_opaque(&inode);
                    name.ino = self.fs.number_of(&inode)?;
                    if below && let Some(lowest) = lowest_directory(&layers.lowers, &name.name) {
                        name.ino = self.fs.number_of(&lowest)?;
                    }
                } else {
                    name.ino = self.fs.number(dev, name.ino);
                }
                merged.push(name);
            }
        }
        Ok(merged)
    }
}

/// The lowest directory of this name that shows through.
fn lowest_directory(lowers: &[Arc<dyn Inode>], name: &[u8]) -> Option<Arc<dyn Inode>> {
    let mut lowest = None;
    for lower in lowers {
        match lower.lookup(name) {
            Ok(inode) if inode.file_type() == FileType::Directory => {
                let ends = is_opaque(&inode);
                lowest = Some(inode);
                if ends {
                    break;
                }
            }
            Ok(_) => break,
            Err(_) => {}
        }
    }
    lowest
}

/// An open directory. Who reads it sees the names that were there when they began.
pub(super) struct Merged {
    node: Arc<Node>,
    names: Mutex<Option<Arc<Vec<Name>>>>,
}

impl Merged {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Merged { node, names: Mutex::default() }
    }
}

impl AlwaysReady for Merged {}

impl File for Merged {
    fn file_type(&self) -> FileType {
        FileType::Directory
    }

    fn read(&self, _: &Io<'_>, _: u64, _: &mut crate::mm::UserBuf) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn entries(&self, _: &Io<'_>, at: u64, each: &mut EachEntry<'_>) -> Result<()> {
        let known = self.names.lock().clone();
        let names = match known {
            Some(names) if at > 0 => names,
            _ => {
                let names = Arc::new(self.node.merged_names()?);
                *self.names.lock() = Some(names.clone());
                names
            }
        };
        let from = usize::try_from(at).unwrap_or(usize::MAX);
        for (index, name) in names.iter().enumerate().skip(from) {
            if !each(&name.name, name.ino, name.kind, index as u64 + 1) {
                break;
            }
        }
        Ok(())
    }

    fn end(&self) -> Result<u64> {
        Ok(i64::MAX as u64)
    }

    fn sync(&self, _: bool) -> Result<()> {
        Ok(())
    }

    fn attributes(&self) -> Result<Attributes> {
        self.node.attributes()
    }
}
