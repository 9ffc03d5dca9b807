//! File systems that can be mounted, and devices that can be opened.

use super::notify::Watches;
use super::tmpfs::{Options, Tmpfs};
use super::tree::mount::NAMESPACES;
use super::tree::{Cache, Dentry, FileSystem, Mount, MountFlags, Namespace, Path};
use super::{File, Inode, Opening};
use crate::sync::Mutex;
use crate::task::Task;
use crate::{Errno, Kernel, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

/// Most dentries that are kept though nobody uses them.
const MOST_DENTRIES: usize = 16384;

/// A type of file system: makes its topmost file.
pub type MakeRoot = fn(&Making<'_>) -> Result<Arc<dyn Inode>>;

/// A file system that is to be made.
#[derive(Clone, Copy)]
pub struct Making<'a> {
    /// Whose it will be.
    pub kernel: &'a Arc<Kernel>,
    /// Who mounts it; none if that is the placement.
    pub task: Option<&'a Arc<Task>>,
    /// mount(2)'s source.
    pub source: &'a [u8],
    /// Its data.
    pub data: &'a [u8],
}

/// A device: opens it.
pub trait Device: Send + Sync {
    /// An open file of it.
    ///
    /// # Errors
    /// As open(2).
    fn open(&self, opening: &Opening<'_>) -> Result<Arc<dyn File>>;
}

/// Which device: whether it is a block device, and its number (`st_rdev`).
type DeviceKey = (bool, u64);

/// What can be mounted, and opened, in one kernel.
pub struct FileSystems {
    types: Mutex<BTreeMap<&'static str, MakeRoot>>,
    devices: Mutex<BTreeMap<DeviceKey, Arc<dyn Device>>>,
    cache: Arc<Cache>,
    watches: Arc<Watches>,
    anonymous: Mutex<Option<(Arc<Tmpfs>, Path)>>,
    last_device: AtomicU32,
}

impl Default for FileSystems {
    fn default() -> Self {
        let types: [(&'static str, MakeRoot); 2] = [("tmpfs", tmpfs), ("ramfs", ramfs)];
        FileSystems {
            types: Mutex::new(types.into()),
            devices: Mutex::default(),
            cache: Cache::new(MOST_DENTRIES),
            watches: Arc::default(),
            anonymous: Mutex::default(),
            last_device: AtomicU32::new(0),
        }
    }
}

fn tmpfs(Making { kernel, data, .. }: &Making<'_>) -> Result<Arc<dyn Inode>> {
    Ok(Tmpfs::root(kernel, &Options::parse(data, kernel.host.memory.limit())?))
}

fn ramfs(Making { kernel, .. }: &Making<'_>) -> Result<Arc<dyn Inode>> {
    Ok(Tmpfs::root(kernel, &Options { mode: 0o755, ..Options::default() }))
}

impl FileSystems {
    /// A type more.
    pub fn register(&self, kind: &'static str, make: MakeRoot) {
        self.types.lock().insert(kind, make);
    }

    /// All types, for `/proc/filesystems`.
    pub fn types(&self) -> Vec<&'static str> {
        self.types.lock().keys().copied().collect()
    }

    /// Whether there is such a type.
    pub fn knows(&self, kind: &[u8]) -> bool {
        core::str::from_utf8(kind).is_ok_and(|kind| self.types.lock().contains_key(kind))
    }

    /// Whether a type knows an option, where that can be told of one alone.
    ///
    /// # Errors
    /// `EINVAL`: it doesn't.
    pub fn check_option(&self, kernel: &Kernel, kind: &[u8], option: &[u8]) -> Result<()> {
        match kind {
            b"tmpfs" | b"devtmpfs" => Options::parse(option, kernel.host.memory.limit()).map(|_| ()),
            b"devpts" => crate::tty::devpts::check_options(option),
            b"overlay" => super::overlay::options::Options::parse(option).map(|_| ()),
            _ => Ok(()),
        }
    }

    /// Changes a file system that is mounted, as options say: of a tmpfs the size. Of others nothing can be changed, and nothing is.
    ///
    /// # Errors
    /// `EINVAL`: an option isn't known, or there is already more than would fit.
    pub fn reconfigure(&self, kernel: &Kernel, mount: &Mount, data: &[u8]) -> Result<()> {
        if data.is_empty() || mount.root.fs().kind != "tmpfs" {
            return Ok(());
        }
        let any: Arc<dyn core::any::Any + Send + Sync> = mount.root.inode().clone();
        let node = any.downcast::<super::tmpfs::Node>().map_err(|_| Errno::EINVAL)?;
        let memory = kernel.host.memory.limit();
        let before = Options::parse(&mount.options.lock(), memory)?;
        let asked = Options::parse(data, memory)?;
        let size = asked.size.or(before.size);
        let changed = Options { size, inodes: asked.inodes.or(before.inodes), ..before };
        node.fs().reconfigure(memory, &changed)?;
        *mount.options.lock() = changed.show();
        Ok(())
    }

    /// A device more.
    pub fn register_device(&self, block: bool, number: u64, device: Arc<dyn Device>) {
        self.devices.lock().insert((block, number), device);
    }

    /// Opens a device.
    ///
    /// # Errors
    /// `ENXIO`: there is none of this number. What the device says.
    pub fn open_device(&self, block: bool, number: u64, opening: &Opening<'_>) -> Result<Arc<dyn File>> {
        let device = self.devices.lock().get(&(block, number)).cloned();
        device.ok_or(Errno::ENXIO)?.open(opening)
    }

    /// A number for a file system without a device (`st_dev`).
    pub fn device(&self) -> u64 {
        // Major number 0; minor numbers beyond 255 lie further up (makedev(3)).
        let minor = u64::from(self.last_device.fetch_add(1, Ordering::Relaxed)) + 20;
        minor & 0xff | (minor & !0xff) << 12
    }

    /// A dentry for the topmost file of a file system.
    pub fn root(&self, kind: &'static str, root: Arc<dyn Inode>) -> Arc<Dentry> {
        FileSystem::dentry(&self.cache, &self.watches, kind, root, b"")
    }

    /// The place of a namespace: a file in no tree, which can be mounted.
    pub fn of_namespace(&self, file: Arc<dyn Inode>, name: &[u8]) -> Path {
        let dentry = FileSystem::dentry(&self.cache, &self.watches, NAMESPACES, file, name);
        Mount::new(dentry, MountFlags::INTERNAL, NAMESPACES.as_bytes(), b"").path()
    }

    /// The dentries that are kept.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Who watches files.
    pub fn watches(&self) -> &Arc<Watches> {
        &self.watches
    }

    /// The tmpfs of files that never have a name, and its root, which isn't in any tree.
    pub fn anonymous(&self, kernel: &Kernel) -> (Arc<Tmpfs>, Path) {
        let mut anonymous = self.anonymous.lock();
        let made = anonymous.get_or_insert_with(|| {
            let root = Tmpfs::root(kernel, &Options { size: Some(0), ..Options::default() });
            let fs = root.fs().clone();
            let mount = Mount::new(self.root("tmpfs", root), MountFlags::INTERNAL, b"", b"");
            (fs, mount.path())
        });
        made.clone()
    }

    /// A mount of a new file system, that isn't anywhere yet.
    ///
    /// # Errors
    /// `ENODEV`: there is no such type. What that says of source and data.
    pub fn mount(&self, kind: &[u8], flags: MountFlags, making: Making<'_>) -> Result<Arc<Mount>> {
        let found = core::str::from_utf8(kind).ok().and_then(|kind| self.types.lock().get_key_value(kind).map(|(k, m)| (*k, *m)));
        let (kind, make) = found.ok_or(Errno::ENODEV)?;
        let root = make(&making)?;
        let Making { kernel, task, source, data } = making;
        let owner = task.map(|task| task.credentials().space.clone()).unwrap_or_default();
        let shown = if kind == "tmpfs" { Options::parse(data, kernel.host.memory.limit())?.show() } else { data.to_vec() };
        Ok(Mount::owned(self.root(kind, root), flags, source, &shown, &owner))
    }

    /// A namespace with one mount: how a placement begins a tree.
    pub fn namespace(&self, kind: &'static str, root: Arc<dyn Inode>, flags: MountFlags, source: &[u8]) -> Arc<Namespace> {
        Namespace::new(Mount::new(self.root(kind, root), flags, source, b""))
    }
}
