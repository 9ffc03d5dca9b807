//! The store: a few files a sandbox, or a virtual machine, in one directory.
//!
//! Nothing that changes is stored, only facts, each in a file of its own that is written once and whole; how a sandbox is *now*
//! is asked of the kernel. So a crash of ours at any point leaves at worst a sandbox whose last fact is missing.
//!
//! | file | written | says |
//! |---|---|---|
//! | `ID` | before anything is made that outlives its maker | the plan, and where cgroups and files *will* be |
//! | `ID:init` | before the first process may go on | its number and start time |
//! | `:startN` | with the first process | a socket: who connects starts the program; gone when started |
//! | `:attachN` | by who stays with a system in the background | a socket: who connects gets its console |
//! | `ID:exit` | by whoever waited for it | the exit code |
//! | `ID:cgroups` | before it gets groups that it was started without | all that it got so |
//! | `ID:output` | by `run --detach` | what the program wrote |
//! | `ID:output.2`, `ID:errors`, `:controlN` | by a virtual machine | the other half of what its console printed, what our process complained of, and the socket by which it is asked for something |
//!
//! Names hold no colon, so no file of one sandbox can be taken for another's. (A socket's address is too short for a name: it has the
//! number of the file `ID` instead.) There is no directory for each: where a file system discards the blocks of a removed directory
//! at once, waiting for that took longer than removing everything else.
//!
//! One process at a time may change a sandbox: it holds a lock on the file `ID`. A virtual machine's own process holds it as long as it lives.

use crate::{Error, Result};
use insula_spec::{Id, Plan};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt};
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

/// The place of one sandbox.
#[derive(Debug)]
pub struct Slot {
    id: Id,
    root: PathBuf,
    dir: OwnedFd,
    /// `ID`, which is locked.
    record: fs::File,
}

/// What is written about a sandbox beside its record.
const FACTS: [&str; 7] = ["init", "exit", "cgroups", CGROUPS_DRAFT, "output", "output.2", "errors"];

/// A longer list of groups gets its name when it is complete.
const CGROUPS_DRAFT: &str = "cgroups.new";

impl Store {
    /// The store in this directory, which is made when something is put into it.
    pub fn new(root: PathBuf) -> Store {
        Store { root }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The place for a new sandbox, locked. (Who holds the lock may still be making it.)
    ///
    /// # Errors
    /// [`Error::Exists`], or the files can't be made.
    pub fn reserve(&self, id: &Id) -> Result<Slot> {
        let dir = match open_root(&self.root) {
            Err(Errno::NOENT) => {
                let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.root);
                made.map_err(|error| failed("make", &self.root, &error))?;
                open_root(&self.root)
            }
            opened => opened,
        };
        let mut dir = dir.map_err(|errno| failed("open", &self.root, &errno.into()))?;
        loop {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let record = match rustix::fs::openat(&dir, id.as_str(), flags, Mode::from_raw_mode(0o600)) {
                Err(Errno::EXIST) => return Err(Error::Exists(id.clone())),
                opened => opened.map_err(|errno| failed("make", &self.root.join(id.as_str()), &errno.into()))?,
            };
            let slot = Slot { id: id.clone(), root: self.root.clone(), dir, record: record.into() };
            match slot.lock() {
                // Somebody was quick to delete what has only a name yet.
                Err(Error::NotFound(_)) => dir = slot.dir,
                locked => return locked.map(|()| slot),
            }
        }
    }

    /// The place of a sandbox that exists.
    ///
    /// # Errors
    /// [`Error::NotFound`], or its record can't be opened.
    pub fn find(&self, id: &Id) -> Result<Slot> {
        let open = || {
            let dir = open_root(&self.root)?;
            let record = open_record(&dir, id)?;
            Ok((dir, record))
        };
        match open() {
            Ok((dir, record)) => Ok(Slot { id: id.clone(), root: self.root.clone(), dir, record }),
            Err(Errno::NOENT) => Err(Error::NotFound(id.clone())),
            Err(errno) => Err(failed("open", &self.root.join(id.as_str()), &errno.into())),
        }
    }

    /// The names of all sandboxes, sorted.
    ///
    /// # Errors
    /// The root can't be read; one that isn't there holds none.
    pub fn list(&self) -> Result<Vec<Id>> {
        let entries = open_root(&self.root).map_err(std::io::Error::from).and_then(|_| fs::read_dir(&self.root));
        let entries = match entries {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| failed("read", &self.root, &error))?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut ids: Vec<Id> = names.filter_map(|name| name.parse().ok()).collect();
        ids.sort();
        Ok(ids)
    }
}

/// Opens the directory of a store. What a record says is done, so a plain user's must be the user's own: anybody may make a directory in
/// `/tmp`.
fn open_root(root: &Path) -> std::result::Result<OwnedFd, Errno> {
    let dir = rustix::fs::openat(CWD, root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let user = rustix::process::geteuid();
    let own = user.is_root() || rustix::fs::fstat(&dir)?.st_uid == user.as_raw();
    if own { Ok(dir) } else { Err(Errno::ACCESS) }
}

fn open_record(dir: &OwnedFd, id: &Id) -> std::result::Result<fs::File, Errno> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(dir, id.as_str(), flags, Mode::empty()).map(fs::File::from)
}

impl Slot {
    /// The directory of all sandboxes, opened.
    pub fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// The same by its path.
    pub fn store(&self) -> &Path {
        &self.root
    }

    /// The path of one of its files.
    pub fn path(&self, fact: &str) -> PathBuf {
        self.root.join(self.name(fact))
    }

    /// The name of its start socket, relative to [`Self::dir`].
    ///
    /// # Errors
    /// The record can't be looked at.
    pub fn start_socket(&self) -> Result<String> {
        self.socket("start")
    }

    /// The name of the socket by which a virtual machine is asked for something, relative to [`Self::dir`].
    ///
    /// # Errors
    /// The record can't be looked at.
    pub fn control_socket(&self) -> Result<String> {
        self.socket("control")
    }

    /// The name of the socket by which a console is had, relative to [`Self::dir`].
    ///
    /// # Errors
    /// The record can't be looked at.
    pub fn attach_socket(&self) -> Result<String> {
        self.socket("attach")
    }

    fn socket(&self, what: &str) -> Result<String> {
        let record = rustix::fs::fstat(&self.record).map_err(|errno| self.failed("look at", &errno.into()))?;
        Ok(format!(":{what}{}", record.st_ino))
    }

    /// The name of one of its files, relative to [`Self::dir`].
    pub fn name(&self, fact: &str) -> String {
        format!("{}:{fact}", self.id)
    }

    /// Whose place it is.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// Waits until nobody else changes this sandbox, and keeps others from it until this slot is dropped.
    ///
    /// # Errors
    /// [`Error::NotFound`] if it was removed meanwhile, or the file system has no locks.
    pub fn lock(&self) -> Result<()> {
        loop {
            match rustix::fs::flock(&self.record, FlockOperation::LockExclusive) {
                Err(Errno::INTR) => {}
                result => break result.map_err(|errno| self.failed("lock", &errno.into()))?,
            }
        }
        match rustix::fs::fstat(&self.record) {
            Ok(record) if record.st_nlink == 0 => Err(Error::NotFound(self.id.clone())),
            result => result.map(drop).map_err(|errno| self.failed("look at", &errno.into())),
        }
    }

    /// Lets others change the sandbox.
    pub fn unlock(&self) {
        let _ = rustix::fs::flock(&self.record, FlockOperation::Unlock);
    }

    /// Whether somebody holds the lock: who makes the sandbox is still alive.
    pub fn is_locked(&self) -> bool {
        // A descriptor of its own, as a lock belongs to the open file; shared, so that who asks at the same time isn't taken for its holder.
        let Ok(other) = open_record(&self.dir, &self.id) else { return false };
        rustix::fs::flock(&other, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
    }

    /// Writes what is known before anything is made.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write_entry(&self, entry: &impl Serialize) -> Result<()> {
        // A policy's names make most of it; grown by doubling, it would touch twice the memory.
        let mut json = Vec::with_capacity(16 << 10);
        serde_json::to_writer(&mut json, entry).map_err(|error| Error::Failed(format!("can't write the state: {error}")))?;
        // Its end is what tells that it is whole.
        json.push(END);
        self.record.write_all_at(&json, 0).map_err(|error| self.failed("write", &error))
    }

    /// What is known of the sandbox; none if its making was cut off before anything was made.
    ///
    /// # Errors
    /// The file can't be read or isn't ours.
    pub fn read_entry<E: DeserializeOwned>(&self) -> Result<Option<E>> {
        let mut json = Vec::new();
        let length = self.record.metadata().map_err(|error| self.failed("read", &error))?.len();
        json.resize(usize::try_from(length).unwrap_or(0), 0);
        self.record.read_exact_at(&mut json, 0).map_err(|error| self.failed("read", &error))?;
        match json.strip_suffix(&[END]) {
            Some(json) => serde_json::from_slice(json).map(Some).map_err(|error| self.not_ours("", &error)),
            None => Ok(None),
        }
    }

    /// Writes who the first process is.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write_init(&self, init: Init) -> Result<()> {
        self.write("init", init.line().as_bytes())
    }

    /// Opens the place for one of the facts `init` and `exit`, so that it can be written when no file can be opened any more. Until then
    /// it is as good as absent.
    ///
    /// # Errors
    /// The file can't be made.
    pub fn later(&self, fact: &str) -> Result<Later> {
        self.create(fact).map(Later).map_err(|error| failed("make", &self.path(fact), &error))
    }

    /// The first process, if there was one.
    pub fn read_init(&self) -> Option<Init> {
        let text = self.read("init").ok()?;
        let (pid, started) = text.strip_suffix('\n')?.split_once(' ')?;
        Some(Init { pid: pid.parse().ok()?, started: started.parse().ok()? })
    }

    /// Writes which groups it gets, or has got, after its start.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write_later_cgroups(&self, paths: &[PathBuf]) -> Result<()> {
        let json = serde_json::to_vec(paths).map_err(|error| Error::Failed(format!("can't write the state: {error}")))?;
        self.write(CGROUPS_DRAFT, &json)?;
        rustix::fs::renameat(&self.dir, self.name(CGROUPS_DRAFT), &self.dir, self.name("cgroups"))
            .map_err(|errno| failed("write", &self.path("cgroups"), &errno.into()))
    }

    /// The groups it got after its start.
    ///
    /// # Errors
    /// The file can't be read or isn't ours.
    pub fn read_later_cgroups(&self) -> Result<Vec<PathBuf>> {
        let text = match self.read("cgroups") {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            text => text.map_err(|error| failed("read", &self.path("cgroups"), &error))?,
        };
        serde_json::from_str(&text).map_err(|error| self.not_ours(":cgroups", &error))
    }

    /// Writes the exit code.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write_exit(&self, code: u8) -> Result<()> {
        self.write("exit", exit_line(code).as_bytes())
    }

    /// The exit code, if somebody waited for it.
    pub fn read_exit(&self) -> Option<u8> {
        self.read("exit").ok()?.strip_suffix('\n')?.parse().ok()
    }

    /// Whether its program waits for a connection to the start socket.
    pub fn waits_for_start(&self) -> bool {
        let socket = self.start_socket();
        socket.is_ok_and(|name| rustix::fs::statat(&self.dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok())
    }

    /// Removes the start socket; one that isn't there is no error.
    pub fn forget_start(&self) {
        self.forget(self.start_socket());
    }

    /// Removes the control socket; one that isn't there is no error.
    pub fn forget_control(&self) {
        self.forget(self.control_socket());
    }

    fn forget(&self, socket: Result<String>) {
        if let Ok(name) = socket {
            let _ = rustix::fs::unlinkat(&self.dir, name, AtFlags::empty());
        }
    }

    /// Forgets how a sandbox that has ended was, and keeps what it is and what it wrote, for it to be made once more.
    ///
    /// # Errors
    /// A file can't be removed.
    pub fn renew(&self) -> Result<()> {
        self.forget_start();
        self.forget_control();
        self.forget(self.attach_socket());
        for fact in ["exit", "cgroups", CGROUPS_DRAFT, "init"] {
            match rustix::fs::unlinkat(&self.dir, self.name(fact), AtFlags::empty()) {
                Err(errno) if errno != Errno::NOENT => return Err(failed("remove", &self.path(fact), &errno.into())),
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes an entry in the place of another.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn replace_entry(&self, entry: &impl Serialize) -> Result<()> {
        // Cut off here, it is one that was never made: `delete` removes it.
        self.record.set_len(0).map_err(|error| self.failed("write", &error))?;
        self.write_entry(entry)
    }

    /// Removes the sandbox from the store: the last step of deleting it.
    ///
    /// # Errors
    /// A file can't be removed.
    pub fn remove(&self) -> Result<()> {
        self.removal()?.carry_out()
    }

    /// What is to be done for [`Self::remove`], for later.
    ///
    /// # Errors
    /// The record can't be looked at, or no descriptor is left.
    pub fn removal(&self) -> Result<Removal> {
        let sockets = [self.start_socket()?, self.control_socket()?, self.attach_socket()?];
        // The record goes last: as long as something is left, so is the name by which it can be removed.
        let facts = FACTS.iter().map(|fact| self.name(fact));
        let names = sockets.into_iter().chain(facts).chain([self.id.to_string()]).collect();
        let dir = self.dir.try_clone().map_err(|error| self.failed("open", &error))?;
        Ok(Removal { root: self.root.clone(), dir, names })
    }

    /// Reads a file as text, by the directory.
    fn read(&self, fact: &str) -> std::io::Result<String> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, self.name(fact), flags, Mode::empty())?;
        let mut text = String::new();
        fs::File::from(file).read_to_string(&mut text).map(|_| text)
    }

    fn create(&self, fact: &str) -> std::io::Result<fs::File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.dir, self.name(fact), flags, Mode::from_raw_mode(0o600))?.into())
    }

    fn write(&self, fact: &str, content: &[u8]) -> Result<()> {
        self.create(fact).and_then(|mut file| file.write_all(content)).map_err(|error| {
            let _ = rustix::fs::unlinkat(&self.dir, self.name(fact), AtFlags::empty());
            failed("write", &self.path(fact), &error)
        })
    }

    fn failed(&self, what: &str, error: &std::io::Error) -> Error {
        failed(what, &self.root.join(self.id.as_str()), error)
    }

    fn not_ours(&self, fact: &str, error: &serde_json::Error) -> Error {
        Error::Failed(format!("{}/{}{fact}: not a state of this program's: {error}", self.root.display(), self.id))
    }
}

/// A fact whose file is open, and not written yet.
#[derive(Debug)]
pub struct Later(fs::File);

impl Later {
    /// Writes who the first process is.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write_init(mut self, init: Init) -> std::io::Result<()> {
        self.0.write_all(init.line().as_bytes())
    }

    /// Writes the exit code.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write_exit(mut self, code: u8) -> std::io::Result<()> {
        self.0.write_all(exit_line(code).as_bytes())
    }
}

impl Init {
    fn line(self) -> String {
        format!("{} {}\n", self.pid, self.started)
    }
}

fn exit_line(code: u8) -> String {
    format!("{code}\n")
}

/// What removes a sandbox from the store. It opens nothing.
#[derive(Debug)]
pub struct Removal {
    root: PathBuf,
    dir: OwnedFd,
    names: Vec<String>,
}

impl Removal {
    /// Removes what there is.
    ///
    /// # Errors
    /// A file can't be removed.
    pub fn carry_out(&self) -> Result<()> {
        for name in &self.names {
            match rustix::fs::unlinkat(&self.dir, name, AtFlags::empty()) {
                Err(errno) if errno != Errno::NOENT => return Err(failed("remove", &self.root.join(name), &errno.into())),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The last byte of a whole record: a write that was cut off (no space, or killed between two pages) lacks it.
const END: u8 = b'\n';

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Error {
    let errno = Errno::from_io_error(error).map_or_else(|| error.to_string(), describe);
    Error::Failed(format!("can't {what} {}: {errno}", path.display()))
}

fn describe(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    let advice = match errno {
        Errno::ACCESS | Errno::PERM => "; choose a directory of your own with --root",
        Errno::NOSPC | Errno::DQUOT => "; make room, or choose another place with --root",
        Errno::ROFS => "; choose a writable place with --root",
        _ => "",
    };
    format!("{}{advice}", text.split(" (os error").next().unwrap_or_default())
}
