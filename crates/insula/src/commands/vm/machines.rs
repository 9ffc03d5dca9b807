//! The machines on record, in a store of their own: which there are, and how they are.
//!
//! A machine's process holds the lock of its record as long as it lives, so whether it lives is asked of the kernel. What one that was killed
//! left behind is removed by whoever looks next.

use crate::global::Global;
use anyhow::{Context, bail};
use insula_boundary::store::Slot;
use insula_boundary::{Error, Store};
use insula_machine::control::Connection;
use insula_spec::Id;
use insula_sys::process;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What is known of a machine before it is made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// Seconds since 1970.
    pub(super) created: u64,
    /// The user who made it.
    pub(super) owner: u32,
    pub(super) accelerator: String,
    pub(super) kernel: PathBuf,
    /// Bytes.
    pub(super) memory: u64,
    pub(super) cpus: u32,
    /// Sockets that it makes elsewhere, and that must go with it.
    pub(super) sockets: Vec<PathBuf>,
    /// It stays on record when it has ended.
    pub(super) keep: bool,
}

impl Record {
    /// What a record says of a machine that is made now.
    pub(super) fn now() -> (u64, u32) {
        let created = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        (created, rustix::process::geteuid().as_raw())
    }
}

/// All machines of a store.
pub(super) struct Machines {
    store: Store,
}

/// A machine on record.
pub(super) struct Known {
    pub(super) slot: Slot,
    pub(super) record: Record,
    pub(super) status: Status,
}

/// How a machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// Its process lives, and the guest hasn't been entered yet.
    Starting,
    Running {
        pid: i32,
    },
    /// With the exit code, unless it was killed.
    Stopped(Option<u8>),
}

impl Status {
    pub(super) fn word(self) -> &'static str {
        match self {
            Status::Starting => "starting",
            Status::Running { .. } => "running",
            Status::Stopped(_) => "stopped",
        }
    }
}

impl Machines {
    /// Those of this user's store. Its name is none that a sandbox can have.
    pub(super) fn new(global: &Global) -> Machines {
        Machines { store: Store::new(global.root().join(":vm")) }
    }

    /// Puts a new machine on record. This process holds its lock from now on.
    pub(super) fn reserve(&self, id: &Id, record: &Record) -> anyhow::Result<Slot> {
        let slot = match self.store.reserve(id) {
            // One that nobody was told of, or that wasn't to be kept, has no right to the name.
            Err(Error::Exists(_)) if self.look(id)?.is_none() => self.store.reserve(id),
            slot => slot,
        };
        let slot = match slot {
            Err(Error::Exists(_)) => {
                bail!("a machine named {id} exists already; remove it with `insula vm rm --force {id}` or choose another name")
            }
            slot => slot?,
        };
        slot.write_entry(record).inspect_err(|_| drop(slot.remove()))?;
        Ok(slot)
    }

    /// All there are, by name; and what can't be read, in words.
    pub(super) fn list(&self) -> anyhow::Result<(Vec<Known>, Vec<String>)> {
        let (mut machines, mut broken) = (Vec::new(), Vec::new());
        for id in self.store.list()? {
            match self.look(&id) {
                Ok(known) => machines.extend(known),
                Err(error) => broken.push(format!("{error:#}")),
            }
        }
        Ok((machines, broken))
    }

    /// The machine of this name.
    pub(super) fn find(&self, name: &str) -> anyhow::Result<Known> {
        let known = self.look(&name.parse()?)?;
        known.with_context(|| format!("there is no machine {name}; `insula vm ps --all` shows those there are"))
    }

    /// Forgets a machine that has ended.
    pub(super) fn remove(&self, name: &str) -> anyhow::Result<()> {
        let Some(known) = self.look(&name.parse()?)? else { return Ok(()) };
        let Status::Stopped(_) = known.status else { bail!("the machine {name} is {}", known.status.word()) };
        match known.slot.lock() {
            Err(Error::NotFound(_)) => Ok(()),
            locked => Ok(locked.and_then(|()| known.slot.remove())?),
        }
    }

    /// Looks how a machine is. What a dead one has no use for any more goes, and itself if it wasn't to be kept.
    pub(super) fn look(&self, id: &Id) -> anyhow::Result<Option<Known>> {
        let slot = match self.store.find(id) {
            Err(Error::NotFound(_)) => return Ok(None),
            slot => slot?,
        };
        let living = slot.is_locked();
        let record: Option<Record> = slot.read_entry()?;
        if !living {
            return Machines::settle(slot, record);
        }
        // Without a record it is being made, a moment before there is anything to tell.
        let Some(record) = record else { return Ok(None) };
        let status = slot.read_init().map_or(Status::Starting, |init| Status::Running { pid: init.pid });
        Ok(Some(Known { slot, record, status }))
    }

    fn settle(slot: Slot, record: Option<Record>) -> anyhow::Result<Option<Known>> {
        match slot.lock() {
            Err(Error::NotFound(_)) => return Ok(None),
            locked => locked?,
        }
        slot.forget_control();
        for socket in record.iter().flat_map(|record| &record.sockets) {
            remove_dead_socket(socket);
        }
        // Nobody was told the name of one that never ran.
        let kept = record.filter(|record| record.keep && slot.read_init().is_some());
        let Some(record) = kept else {
            slot.remove()?;
            return Ok(None);
        };
        let status = Status::Stopped(slot.read_exit());
        slot.unlock();
        Ok(Some(Known { slot, record, status }))
    }
}

/// A socket that nobody listens at any more is only a name.
fn remove_dead_socket(path: &Path) {
    let refused = std::os::unix::net::UnixStream::connect(path)
        .is_err_and(|error| error.raw_os_error() == Some(Errno::CONNREFUSED.raw_os_error()));
    if refused {
        let _ = std::fs::remove_file(path);
    }
}

impl Known {
    /// A connection to the machine, which must be running.
    pub(super) fn connect(&self) -> anyhow::Result<Connection> {
        let id = self.slot.id();
        if let Status::Stopped(_) = self.status {
            bail!("the machine {id} isn't running");
        }
        let path = socket_path(&self.slot)?;
        Connection::new(&path).with_context(|| format!("{id}"))
    }

    /// A handle on its process; none if that has ended.
    pub(super) fn process(&self) -> anyhow::Result<Option<OwnedFd>> {
        let Some(init) = self.slot.read_init() else { return Ok(None) };
        let Some(pid) = rustix::process::Pid::from_raw(init.pid) else { return Ok(None) };
        Ok(process::find(pid, init.started)?)
    }
}

/// A path by which the control socket is reached however long the store's own is.
pub(super) fn socket_path(slot: &Slot) -> anyhow::Result<PathBuf> {
    Ok(format!("/proc/self/fd/{}/{}", slot.dir().as_raw_fd(), slot.control_socket()?).into())
}
