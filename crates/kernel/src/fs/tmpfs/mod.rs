//! A file system in memory, tmpfs(5).
//!
//! Contents are [`Object`](crate::mm::Object)s of the sandbox's memory: reading and writing copies straight between them and user memory, and
//! mapping shows them as they are. Names and attributes are in the kernel's own memory, and bounded by the number of inodes.
//!
//! | module | holds |
//! |---|---|
//! | [`node`] | files, apart from names and contents |
//! | `directory` | names |
//! | `file` | open files: contents |

mod directory;
mod file;
pub mod node;

use crate::host::Clock;
use crate::mm::Budget;
use crate::mm::frames::Frames;
use crate::{Errno, Kernel, Result};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use insula_abi::PAGE;
use insula_abi::file::Statfs;
use insula_abi::time::Timespec;
pub use node::Node;

/// `TMPFS_MAGIC`.
const MAGIC: i64 = 0x0102_1994;

/// Most files of one file system, unless it says otherwise: each costs some hundred bytes of the kernel's own memory.
const MOST_INODES: u64 = 1 << 20;

/// A file system in memory.
pub struct Tmpfs {
    frames: Arc<Frames>,
    clock: Arc<dyn Clock>,
    /// Its number.
    dev: u64,
    budget: Arc<Budget>,
    most_inodes: AtomicU64,
    inodes: AtomicU64,
    next: AtomicU64,
}

/// How a tmpfs is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of all contents; none is half of the sandbox's memory.
    pub size: Option<u64>,
    /// Files and names.
    pub inodes: Option<u64>,
    /// Permission bits of the root.
    pub mode: u32,
    /// Owner of the root.
    pub uid: u32,
    /// Group of the root.
    pub gid: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options { size: None, inodes: None, mode: 0o1777, uid: 0, gid: 0 }
    }
}

impl Options {
    /// From mount(2)'s data: `size=64m,mode=755`. `memory` is what `size=50%` is a part of.
    ///
    /// # Errors
    /// `EINVAL`: an option isn't known, or its value isn't one.
    pub fn parse(text: &[u8], memory: u64) -> Result<Self> {
        let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
        let mut options = Options::default();
        for option in text.split(',').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let number = || value.parse().map_err(|_| Errno::EINVAL);
            match name {
                "size" => options.size = Some(size(value, memory)?),
                "nr_blocks" => options.size = Some(scaled(value)?.saturating_mul(PAGE)),
                "nr_inodes" => options.inodes = Some(scaled(value)?),
                "mode" => options.mode = u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL)? & 0o7777,
                "uid" => options.uid = number()?,
                "gid" => options.gid = number()?,
                // How pages are kept, which is the host's business.
                "huge" | "mpol" | "noswap" | "inode32" | "inode64" | "seclabel" | "context" => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(options)
    }

    /// How many bytes and files there may be.
    fn limits(&self, memory: u64) -> (u64, u64) {
        // No size, or zero, is no limit but memory (tmpfs(5)).
        let most = match self.size {
            None => memory / 2,
            Some(0) => u64::MAX,
            Some(size) => size.next_multiple_of(PAGE),
        };
        let inodes = match self.inodes {
            None => MOST_INODES,
            Some(0) => u64::MAX,
            Some(inodes) => inodes,
        };
        (most, inodes)
    }

    /// What `/proc/mounts` tells of them.
    pub fn show(&self) -> Vec<u8> {
        let usual = Options::default();
        let sizes =
            [self.size.map(|size| format!("size={}k", size / 1024)), self.inodes.map(|count| format!("nr_inodes={count}"))];
        let mode = (self.mode != usual.mode).then(|| format!("mode={:o}", self.mode));
        let owners = [(self.uid != 0).then(|| format!("uid={}", self.uid)), (self.gid != 0).then(|| format!("gid={}", self.gid))];
        let all: Vec<String> = sizes.into_iter().chain([mode]).chain(owners).flatten().collect();
        all.join(",").into_bytes()
    }
}

/// `64m`, or a part of memory: `50%`.
fn size(value: &str, memory: u64) -> Result<u64> {
    match value.strip_suffix('%') {
        Some(percent) => Ok(memory / 100 * percent.parse::<u64>().map_err(|_| Errno::EINVAL)?.min(100)),
        None => scaled(value),
    }
}

/// A number with a suffix, as Linux's `memparse` takes it.
fn scaled(value: &str) -> Result<u64> {
    let shift = match value.bytes().last().map(|byte| byte.to_ascii_lowercase()) {
        Some(b'k') => 10,
        Some(b'm') => 20,
        Some(b'g') => 30,
        Some(b't') => 40,
        _ => 0,
    };
    let digits = if shift == 0 { value } else { &value[..value.len() - 1] };
    let number: u64 = digits.parse().map_err(|_| Errno::EINVAL)?;
    number.checked_mul(1 << shift).ok_or(Errno::EINVAL)
}

impl Tmpfs {
    /// Its topmost directory.
    pub fn root(kernel: &Kernel, options: &Options) -> Arc<Node> {
        let fs = Self::make(kernel, options);
        Node::root(&fs, options.mode, options.uid, options.gid)
    }

    /// One without a topmost directory, for files that never get a name (memfd_create(2)).
    pub fn make(kernel: &Kernel, options: &Options) -> Arc<Self> {
        let (most, inodes) = options.limits(kernel.host.memory.limit());
        Arc::new(Tmpfs {
            frames: kernel.frames.clone(),
            clock: kernel.host.clock.clone(),
            dev: kernel.file_systems.device(),
            budget: Budget::new(most),
            most_inodes: AtomicU64::new(inodes),
            inodes: AtomicU64::new(0),
            next: AtomicU64::new(1),
        })
    }

    /// Its limits are others from now on.
    ///
    /// # Errors
    /// `EINVAL`: it holds more.
    pub fn reconfigure(&self, memory: u64, options: &Options) -> Result<()> {
        let (most, inodes) = options.limits(memory);
        if inodes < self.inodes.load(Ordering::Relaxed) {
            return Err(Errno::EINVAL);
        }
        self.budget.set_most(most)?;
        self.most_inodes.store(inodes, Ordering::Relaxed);
        Ok(())
    }

    fn now(&self) -> Timespec {
        Timespec::from_nanos(self.clock.realtime())
    }

    /// One file more, or one name.
    fn charge(&self) -> Result<()> {
        let fits = |used: u64| (used < self.most_inodes.load(Ordering::Relaxed)).then_some(used + 1);
        self.inodes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).map(|_| ()).map_err(|_| Errno::ENOSPC)
    }

    /// One less.
    fn refund(&self) {
        self.inodes.fetch_sub(1, Ordering::Relaxed);
    }

    fn statfs(&self) -> Statfs {
        let blocks = |bytes: u64| if bytes == u64::MAX { 0 } else { bytes / PAGE };
        let free = blocks(self.budget.most()).saturating_sub(blocks(self.budget.used()));
        let files = match self.most_inodes.load(Ordering::Relaxed) {
            u64::MAX => 0,
            most => most,
        };
        Statfs {
            kind: MAGIC,
            bsize: PAGE as i64,
            blocks: blocks(self.budget.most()),
            bfree: free,
            bavail: free,
            files,
            ffree: files.saturating_sub(self.inodes.load(Ordering::Relaxed)),
            fsid: [self.dev as i32, 0],
            namelen: 255,
            frsize: PAGE as i64,
            ..Statfs::default()
        }
    }
}
