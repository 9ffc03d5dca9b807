//! All terminals of a kernel, and the file system that names them, devpts(5).

use super::pty::{Master, Slave};
use super::{Tty, outside};
use crate::fs::dev::number;
use crate::fs::types::Device;
use crate::fs::{AlwaysReady, Attributes, Changes, EachEntry, File, FileType, Inode, Io, Opening};
use crate::sync::Mutex;
use crate::{Errno, Kernel, Result};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::{Arc, Weak};
use insula_abi::file::Statfs;
use insula_abi::general as c;

/// Most terminals at a time (Linux: `kernel.pty.max`).
const MOST: u32 = 4096;

/// `DEVPTS_SUPER_MAGIC`.
const MAGIC: i64 = 0x1cd1;

/// The major number of slaves.
pub(super) const MAJOR: u32 = 136;

/// All terminals of a kernel.
#[derive(Default)]
pub struct Terminals {
    all: Mutex<BTreeMap<u32, Weak<Tty>>>,
    console: Mutex<Weak<Tty>>,
}

impl Terminals {
    /// A new one's master.
    ///
    /// # Errors
    /// `ENOSPC`: there are too many.
    fn open(&self, opening: &Opening<'_>) -> Result<Arc<Master>> {
        let credentials = opening.task.credentials();
        self.make(opening.task.kernel(), (credentials.uid.fs, credentials.gid.fs))
    }

    /// A new one's master, of this user and group.
    ///
    /// # Errors
    /// `ENOSPC`: there are too many.
    pub fn make(&self, kernel: &Arc<Kernel>, owner: (u32, u32)) -> Result<Arc<Master>> {
        let tty = {
            let mut all = self.all.lock();
            let index = (0..MOST).find(|index| !all.contains_key(index)).ok_or(Errno::ENOSPC)?;
            let tty = Tty::new(kernel, index, owner, None);
            all.insert(index, Arc::downgrade(&tty));
            tty
        };
        let slaves = Arc::new(Slaves(Arc::downgrade(&tty)));
        kernel.file_systems.register_device(false, number(MAJOR, tty.index), slaves);
        Ok(Arc::new(Master { tty }))
    }

    /// A master is closed: its terminal has no name any more.
    pub(super) fn forget(&self, index: u32) {
        self.all.lock().remove(&index);
    }

    /// From now on `/dev/console` is this one.
    pub fn set_console(&self, tty: &Arc<Tty>) {
        *self.console.lock() = Arc::downgrade(tty);
    }

    fn get(&self, index: u32) -> Option<Arc<Tty>> {
        self.all.lock().get(&index).and_then(Weak::upgrade)
    }
}

/// Opens slaves of one terminal.
struct Slaves(Weak<Tty>);

impl Device for Slaves {
    fn open(&self, opening: &Opening<'_>) -> Result<Arc<dyn File>> {
        let tty = self.0.upgrade().ok_or(Errno::ENXIO)?;
        Ok(Slave::open(&tty, opening.task, opening.flags)?)
    }
}

/// `/dev/ptmx`: makes a terminal.
struct Multiplexer;

impl Device for Multiplexer {
    fn open(&self, opening: &Opening<'_>) -> Result<Arc<dyn File>> {
        Ok(opening.task.kernel().terminals.open(opening)?)
    }
}

/// `/dev/tty`: the controlling terminal, whichever it is.
struct Controlling;

impl Device for Controlling {
    fn open(&self, opening: &Opening<'_>) -> Result<Arc<dyn File>> {
        let tty = super::control::controlling(opening.task).ok_or(Errno::ENXIO)?;
        tty.open(opening)
    }
}

/// `/dev/console`: the first process's terminal.
struct Console;

impl Device for Console {
    fn open(&self, opening: &Opening<'_>) -> Result<Arc<dyn File>> {
        let tty = opening.task.kernel().terminals.console.lock().upgrade().ok_or(Errno::ENXIO)?;
        tty.open(opening)
    }
}

/// Makes known what this module has.
pub fn register(kernel: &Kernel) {
    let systems = &kernel.file_systems;
    systems.register_device(false, number(5, 2), Arc::new(Multiplexer));
    systems.register_device(false, number(5, 0), Arc::new(Controlling));
    systems.register_device(false, outside::CONSOLE, Arc::new(Console));
    systems.register("devpts", |making| Ok(Arc::new(Root::new(making.kernel, making.data)?)));
}

/// What stat(2) tells of a slave.
pub(super) fn attributes(tty: &Tty) -> Attributes {
    Attributes {
        ino: u64::from(tty.index) + 3,
        mode: c::S_IFCHR | 0o620,
        nlink: 1,
        uid: tty.owner.0,
        gid: tty.owner.1,
        rdev: tty.device(),
        blksize: 1024,
        ..Attributes::default()
    }
}

/// How a devpts was mounted.
#[derive(Clone, Copy)]
struct Options {
    dev: u64,
    uid: Option<u32>,
    gid: Option<u32>,
    mode: u32,
    ptmxmode: u32,
}

impl Options {
    fn parse(dev: u64, data: &[u8]) -> Result<Self> {
        let text = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
        let mut options = Options { dev, uid: None, gid: None, mode: 0o600, ptmxmode: 0 };
        for option in text.split(',').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let number = || value.parse().map_err(|_| Errno::EINVAL);
            let octal = || u32::from_str_radix(value, 8).map_err(|_| Errno::EINVAL).map(|mode| mode & 0o7777);
            match name {
                "uid" => options.uid = Some(number()?),
                "gid" => options.gid = Some(number()?),
                "mode" => options.mode = octal()?,
                "ptmxmode" => options.ptmxmode = octal()?,
                "newinstance" | "max" => {}
                _ => return Err(Errno::EINVAL),
            }
        }
        Ok(options)
    }
}

/// Whether these options are known.
///
/// # Errors
/// `EINVAL`: they aren't.
pub fn check_options(data: &[u8]) -> Result<()> {
    Options::parse(0, data).map(|_| ())
}

/// The directory of all terminals.
struct Root {
    kernel: Weak<Kernel>,
    options: Options,
}

impl Root {
    fn new(kernel: &Arc<Kernel>, data: &[u8]) -> Result<Self> {
        Ok(Root { kernel: Arc::downgrade(kernel), options: Options::parse(kernel.file_systems.device(), data)? })
    }
}

fn statfs() -> Statfs {
    Statfs { kind: MAGIC, bsize: 4096, frsize: 4096, namelen: 255, ..Statfs::default() }
}

impl Inode for Root {
    fn attributes(&self) -> Result<Attributes> {
        let mode = c::S_IFDIR | 0o755;
        Ok(Attributes { dev: self.options.dev, ino: 1, mode, nlink: 2, blksize: 1024, ..Attributes::default() })
    }

    fn file_type(&self) -> FileType {
        FileType::Directory
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        if name == b"ptmx" {
            return Ok(Arc::new(Node { options: self.options, tty: None }));
        }
        // Numbers have one way to be written.
        let index = core::str::from_utf8(name).ok().and_then(|name| name.parse::<u32>().ok());
        let index = index.filter(|index| format!("{index}").as_bytes() == name).ok_or(Errno::ENOENT)?;
        let tty = self.kernel.upgrade().and_then(|kernel| kernel.terminals.get(index)).ok_or(Errno::ENOENT)?;
        Ok(Arc::new(Node { options: self.options, tty: Some(Arc::downgrade(&tty)) }))
    }

    fn open(self: Arc<Self>, _: &Opening<'_>) -> Result<Arc<dyn File>> {
        Ok(Arc::new(Listing(self)))
    }

    fn statfs(&self) -> Result<Statfs> {
        Ok(statfs())
    }

    fn names_are_stable(&self) -> bool {
        false
    }
}

/// The open directory.
struct Listing(Arc<Root>);

impl AlwaysReady for Listing {}

impl File for Listing {
    fn file_type(&self) -> FileType {
        FileType::Directory
    }

    fn entries(&self, _: &Io<'_>, at: u64, each: &mut EachEntry<'_>) -> Result<()> {
        if at == 0 && !each(b"ptmx", 2, FileType::Character, 1) {
            return Ok(());
        }
        let Some(kernel) = self.0.kernel.upgrade() else { return Ok(()) };
        let all: alloc::vec::Vec<u32> = kernel.terminals.all.lock().keys().copied().collect();
        // The position behind terminal N is N + 2, so it stays right when others come and go.
        for index in all.into_iter().filter(|index| u64::from(*index) + 1 >= at) {
            if !each(format!("{index}").as_bytes(), u64::from(index) + 3, FileType::Character, u64::from(index) + 2) {
                break;
            }
        }
        Ok(())
    }
}

/// A terminal's name, or `ptmx`.
struct Node {
    options: Options,
    tty: Option<Weak<Tty>>,
}

impl Inode for Node {
    fn attributes(&self) -> Result<Attributes> {
        let Options { dev, uid, gid, mode, ptmxmode } = self.options;
        let mut attributes = match &self.tty {
            None => Attributes { ino: 2, nlink: 1, mode: c::S_IFCHR | ptmxmode, rdev: number(5, 2), ..Attributes::default() },
            Some(tty) => {
                let tty = tty.upgrade().ok_or(Errno::ENOENT)?;
                let own = attributes(&tty);
                let changes = tty.changes.lock();
                Attributes {
                    uid: changes.uid.or(uid).unwrap_or(own.uid),
                    gid: changes.gid.or(gid).unwrap_or(own.gid),
                    mode: c::S_IFCHR | changes.mode.map_or(mode, |mode| mode & 0o7777),
                    ..own
                }
            }
        };
        attributes.dev = dev;
        Ok(attributes)
    }

    fn file_type(&self) -> FileType {
        FileType::Character
    }

    fn set_attributes(&self, changes: &Changes) -> Result<()> {
        let Some(tty) = &self.tty else { return Err(Errno::EPERM) };
        let tty = tty.upgrade().ok_or(Errno::ENOENT)?;
        let mut kept = tty.changes.lock();
        kept.mode = changes.mode.or(kept.mode);
        kept.uid = changes.uid.or(kept.uid);
        kept.gid = changes.gid.or(kept.gid);
        Ok(())
    }

    fn open(self: Arc<Self>, _: &Opening<'_>) -> Result<Arc<dyn File>> {
        // Devices are opened by number.
        Err(Errno::ENXIO)
    }

    fn statfs(&self) -> Result<Statfs> {
        Ok(statfs())
    }
}
