//! The store: a directory a sandbox, below one root.
//!
//! Nothing that changes is stored, only facts, each in a file of its own that is written once and whole; how a sandbox is *now*
//! is asked of the kernel. So a crash of ours at any point leaves at worst a sandbox whose last fact is missing.
//!
//! | file | written | says |
//! |---|---|---|
//! | `state.json` | before anything is made that outlives its maker | the plan, and where cgroups and files *will* be |
//! | `init` | before the first process may go on | its number and start time |
//! | `start` | with the first process | a socket: who connects starts the program; gone when started |
//! | `exit` | by whoever waited for it | the exit code |
//! | `cgroups` | before it gets groups that it was started without | all that it got so |
//!
//! One process at a time may change a sandbox: it holds a lock on the directory.

use crate::{Error, Result};
use insula_spec::{Id, Plan};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// What is known of a sandbox before it is made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Which boundary it is behind.
    pub boundary: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// Everything that was asked for.
    pub plan: Plan,
    /// Its cgroups' directories.
    pub cgroups: Vec<PathBuf>,
    /// Removed when its program ends.
    pub remove: bool,
    /// The user who made it.
    pub owner: u32,
}

/// The first process of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Init {
    /// Its number outside.
    pub pid: i32,
    /// When it was started, in clock ticks after boot; tells it from a later process with the number.
    pub started: u64,
}

/// All sandboxes of one root directory.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// The directory of one sandbox.
#[derive(Debug)]
pub struct Slot {
    path: PathBuf,
    dir: OwnedFd,
}

impl Store {
    /// The store below this directory, which is made when something is put into it.
    pub fn new(root: PathBuf) -> Store {
        Store { root }
    }

    /// The directory that a sandbox of this name has, whether or not there is one.
    pub fn path_of(&self, id: &Id) -> PathBuf {
        self.root.join(id.as_str())
    }

    /// The place for a new sandbox, locked. (Who holds the lock may still be making it.)
    ///
    /// # Errors
    /// [`Error::Exists`], or the directory can't be made.
    pub fn reserve(&self, id: &Id) -> Result<Slot> {
        let path = self.path_of(id);
        let make = || fs::DirBuilder::new().mode(0o700).create(&path);
        let made = match make() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let root = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.root);
                root.map_err(|error| failed("make", &self.root, &error))?;
                make()
            }
            made => made,
        };
        match made {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(Error::Exists(id.clone())),
            Err(error) => return Err(failed("make", &path, &error)),
        }
        let slot = open_slot(path).inspect_err(|_| drop(fs::remove_dir(self.root.join(id.as_str()))))?;
        slot.lock()?;
        Ok(slot)
    }

    /// The place of a sandbox that exists.
    ///
    /// # Errors
    /// [`Error::NotFound`], or the directory can't be opened.
    pub fn find(&self, id: &Id) -> Result<Slot> {
        let path = self.path_of(id);
        match rustix::fs::stat(&path) {
            Err(Errno::NOENT) => Err(Error::NotFound(id.clone())),
            _ => open_slot(path),
        }
    }

    /// The names of all sandboxes, sorted.
    ///
    /// # Errors
    /// The root can't be read; one that isn't there holds none.
    pub fn list(&self) -> Result<Vec<Id>> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| failed("read", &self.root, &error))?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut ids: Vec<Id> = names.filter_map(|name| name.parse().ok()).collect();
        ids.sort();
        Ok(ids)
    }
}

fn open_slot(path: PathBuf) -> Result<Slot> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, &path, flags, Mode::empty()) {
        Ok(dir) => Ok(Slot { path, dir }),
        Err(errno) => Err(failed("open", &path, &errno.into())),
    }
}

impl Slot {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory, opened.
    pub fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// Waits until nobody else changes this sandbox, and keeps others from it until this slot is dropped.
    ///
    /// # Errors
    /// The file system has no locks.
    pub fn lock(&self) -> Result<()> {
        loop {
            match rustix::fs::flock(&self.dir, FlockOperation::LockExclusive) {
                Err(Errno::INTR) => {}
                result => return result.map_err(|errno| failed("lock", &self.path, &errno.into())),
            }
        }
    }

    /// Lets others change the sandbox.
    pub fn unlock(&self) {
        let _ = rustix::fs::flock(&self.dir, FlockOperation::Unlock);
    }

    /// Whether somebody holds the lock: who makes the sandbox is still alive.
    pub fn is_locked(&self) -> bool {
        // A descriptor of its own, as a lock belongs to the open file.
        let Ok(other) = open_slot(self.path.clone()) else { return false };
        rustix::fs::flock(&other.dir, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK)
    }

    /// Writes what is known before anything is made.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write_entry(&self, entry: &Entry) -> Result<()> {
        let json = serde_json::to_vec(entry).map_err(|error| Error::Failed(format!("can't write the state: {error}")))?;
        self.write("state.json", &json)
    }

    /// What is known of the sandbox; none if its making was cut off before anything was made.
    ///
    /// # Errors
    /// The file can't be read or isn't ours.
    pub fn read_entry(&self) -> Result<Option<Entry>> {
        let path = self.path.join("state.json");
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(|error| failed("read", &path, &error))?,
        };
        let bad = |error| Error::Failed(format!("{}: not a state of this program's: {error}", path.display()));
        serde_json::from_slice(&bytes).map(Some).map_err(bad)
    }

    /// Writes who the first process is.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write_init(&self, init: Init) -> Result<()> {
        self.write("init", format!("{} {}\n", init.pid, init.started).as_bytes())
    }

    /// The first process, if there was one.
    pub fn read_init(&self) -> Option<Init> {
        let text = fs::read_to_string(self.path.join("init")).ok()?;
        let (pid, started) = text.trim_end().split_once(' ')?;
        Some(Init { pid: pid.parse().ok()?, started: started.parse().ok()? })
    }

    /// Writes which groups it gets, or has got, after its start.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write_later_cgroups(&self, paths: &[PathBuf]) -> Result<()> {
        let json = serde_json::to_vec(paths).map_err(|error| Error::Failed(format!("can't write the state: {error}")))?;
        self.write("cgroups", &json)
    }

    /// The groups it got after its start.
    ///
    /// # Errors
    /// The file can't be read or isn't ours.
    pub fn read_later_cgroups(&self) -> Result<Vec<PathBuf>> {
        let path = self.path.join("cgroups");
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            bytes => bytes.map_err(|error| failed("read", &path, &error))?,
        };
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::Failed(format!("{}: not a state of this program's: {error}", path.display())))
    }

    /// Writes the exit code.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write_exit(&self, code: u8) -> Result<()> {
        self.write("exit", format!("{code}\n").as_bytes())
    }

    /// The exit code, if somebody waited for it.
    pub fn read_exit(&self) -> Option<u8> {
        fs::read_to_string(self.path.join("exit")).ok()?.trim_end().parse().ok()
    }

    /// Whether there is a file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.path.join(name).symlink_metadata().is_ok()
    }

    /// Removes one file; one that isn't there is no error.
    pub fn forget(&self, name: &str) {
        let _ = fs::remove_file(self.path.join(name));
    }

    /// Removes the sandbox from the store: the last step of deleting it.
    ///
    /// # Errors
    /// The directory can't be removed.
    pub fn remove(&self) -> Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", &self.path, &error)),
            _ => Ok(()),
        }
    }

    /// A file is there with all its content or not at all: it gets its name when it is complete.
    ///
    /// By the directory, not by its path: that may belong to another sandbox of the name by now.
    fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let draft = format!(".{name}");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let written = rustix::fs::openat(&self.dir, &draft, flags, Mode::from_raw_mode(0o644))
            .map_err(std::io::Error::from)
            .and_then(|file| fs::File::from(file).write_all(content));
        let named = written.and_then(|()| Ok(rustix::fs::renameat(&self.dir, &draft, &self.dir, name)?));
        named.map_err(|error| {
            let _ = rustix::fs::unlinkat(&self.dir, &draft, AtFlags::empty());
            failed("write", &self.path.join(name), &error)
        })
    }
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Error {
    let errno = Errno::from_io_error(error).map_or_else(|| error.to_string(), describe);
    Error::Failed(format!("can't {what} {}: {errno}", path.display()))
}

fn describe(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    let advice = match errno {
        Errno::ACCESS | Errno::PERM => "; choose a directory you may write to with --root",
        Errno::NOSPC | Errno::DQUOT => "; make room, or choose another place with --root",
        Errno::ROFS => "; choose a writable place with --root",
        _ => "",
    };
    format!("{}{advice}", text.split(" (os error").next().unwrap_or_default())
}
