//! What is on record of networks: who has which address, and which ports.
//!
//! | in the store | says |
//! |---|---|
//! | `:network/` | networks are in use; who changes one holds a lock on it |
//! | `:network/N/` | what belongs to the network namespace of the host's with this number (inode) |
//! | `:network/N/leases` | the bridge, and who is in the network; replaced whole |
//! | `:network/N/resolv.conf-M` | whom the container with number M asks for names; `user`: those without a bridge |
//!
//! What is on record may not be there (yet, or any more); what is there is on record. So whoever finds the record can remove everything, and
//! the last one removes the record.

use crate::error::{Error, Result};
use insula_sys::{Context, Errno};
use insula_usernet::Publish;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The directory in the store. No sandbox's name holds a colon.
const DIRECTORY: &str = ":network";
/// The record's name in a namespace's directory.
pub(crate) const LEASES: &str = "leases";
const DRAFT: &str = "leases.new";
/// How the names of files for `/etc/resolv.conf` begin.
const RESOLV_CONF: &str = "resolv.conf-";

/// What is on record of one network namespace of the host's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The bridge, from before it is made until after it is removed.
    pub(crate) bridge: Option<Bridge>,
    /// Where the search for a free number goes on: one that was just left may still be in somebody's memory.
    pub(crate) next: u16,
    /// Who is there.
    pub(crate) leases: Vec<Lease>,
}

/// A bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bridge {
    /// The network's number.
    pub(crate) number: u8,
    /// Of its card: made up, so that a device of the name with another one isn't ours.
    pub(crate) mac: [u8; 6],
    /// The host has IPv6, and so has the network.
    pub(crate) ipv6: bool,
}

/// A container with a network of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// Its name.
    pub(crate) id: String,
    /// The host name it has, if that is another.
    pub(crate) hostname: Option<String>,
    /// Its number on the bridge; none if it has a network without privilege.
    pub(crate) number: Option<u16>,
    /// Its published ports.
    pub(crate) publish: Vec<Publish>,
    /// The process that stays with it.
    pub(crate) owner: Process,
    /// The one that serves its network, once it does.
    pub(crate) attendant: Option<Process>,
}

/// A process, told from a later one with its number by when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) started: u64,
}

impl Process {
    /// This process.
    pub(crate) fn this() -> Result<Process> {
        Process::of(rustix::process::getpid())
    }

    /// One that lives.
    pub(crate) fn of(pid: Pid) -> Result<Process> {
        Ok(Process { pid: pid.as_raw_pid(), started: insula_sys::process::start_time(pid)? })
    }

    /// Whether it lives. What can't be found out isn't taken for dead.
    pub(crate) fn lives(self) -> bool {
        let Some(pid) = Pid::from_raw(self.pid) else { return false };
        insula_sys::process::find(pid, self.started).map_or(true, |found| found.is_some())
    }

    /// Ends it, if it lives, and waits until it has ended.
    pub(crate) fn end(self) -> Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(()) };
        let Some(pidfd) = insula_sys::process::find(pid, self.started)? else { return Ok(()) };
        insula_sys::process::kill(&pidfd);
        if insula_sys::process::wait_ended(&pidfd, Some(Duration::from_secs(10)))? {
            return Ok(());
        }
        Err(Error::Failed(format!("process {pid}, which served a network, doesn't end; try again")))
    }
}

impl State {
    /// The lease of a container.
    pub(crate) fn lease(&self, id: &str) -> Option<&Lease> {
        self.leases.iter().find(|lease| lease.id == id)
    }

    /// A number that nobody has; none if there is none. For one that is to keep its address, the search begins where its name says: it comes to the
    /// same number again, unless another has it.
    pub(crate) fn free_number(&self, named: Option<&String>) -> Option<u16> {
        use crate::addresses::{FIRST, LAST};
        // FNV-1a: spread over the numbers, and the same tomorrow.
        let hash =
            |name: &String| name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let of_name = |name| FIRST + (hash(name) % u32::from(LAST - FIRST + 1)) as u16;
        let begin = named.map_or(self.next, of_name).clamp(FIRST, LAST);
        let taken = |number: &u16| self.leases.iter().any(|lease| lease.number == Some(*number));
        (begin..=LAST).chain(FIRST..begin).find(|number| !taken(number))
    }
}

/// The records of a store, which this process alone may change as long as it has this.
#[derive(Debug)]
pub(crate) struct Records {
    path: PathBuf,
    /// Locked.
    _dir: OwnedFd,
}

impl Records {
    /// The records of the store at `root`, made if there are none.
    pub(crate) fn make(root: &Path) -> Result<Records> {
        loop {
            let path = root.join(DIRECTORY);
            make_directory(root, 0o700)?;
            make_directory(&path, 0o700)?;
            if let Some(records) = Records::lock(path)? {
                return Ok(records);
            }
        }
    }

    /// The records of the store at `root`; none if there are none. That costs one look.
    pub(crate) fn find(root: &Path) -> Result<Option<Records>> {
        Records::lock(root.join(DIRECTORY))
    }

    /// None if they are gone.
    fn lock(path: PathBuf) -> Result<Option<Records>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = match rustix::fs::openat(CWD, &path, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened.on("open", path.display())?,
        };
        loop {
            match rustix::fs::flock(&dir, FlockOperation::LockExclusive) {
                Err(Errno::INTR) => {}
                result => break result.on("lock", path.display())?,
            }
        }
        // Who had the lock before may have removed it.
        let gone = rustix::fs::fstat(&dir).on("look at", path.display())?.st_nlink == 0;
        Ok((!gone).then_some(Records { path, _dir: dir }))
    }

    /// The directories of the namespaces that have a record in the store at `root`, for who only looks.
    pub(crate) fn look(root: &Path) -> Option<Vec<PathBuf>> {
        let entries = std::fs::read_dir(root.join(DIRECTORY)).ok()?;
        Some(entries.flatten().map(|entry| entry.path()).collect())
    }

    /// The number of the network namespace that this process is in.
    pub(crate) fn here() -> Result<u64> {
        Ok(rustix::fs::stat("/proc/self/ns/net").on("look at", "/proc/self/ns/net")?.st_ino)
    }

    /// The numbers of the namespaces that have a record.
    pub(crate) fn namespaces(&self) -> Vec<u64> {
        let entries = std::fs::read_dir(&self.path).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// A namespace's directory.
    pub(crate) fn directory(&self, namespace: u64) -> PathBuf {
        self.path.join(namespace.to_string())
    }

    /// What is on record of a namespace; nothing, if there is no record.
    pub(crate) fn read(&self, namespace: u64) -> Result<State> {
        read(&self.directory(namespace).join(LEASES))
    }

    /// Puts it on record, at once and whole.
    pub(crate) fn write(&self, namespace: u64, state: &State) -> Result<()> {
        let directory = self.directory(namespace);
        // Who answers for names reads it as nobody, with the directory as its root.
        make_directory(&directory, 0o755)?;
        let json = serde_json::to_vec(state).map_err(|error| Error::Failed(format!("can't write the leases: {error}")))?;
        let draft = directory.join(DRAFT);
        std::fs::write(&draft, json).on("write", draft.display())?;
        Ok(std::fs::rename(&draft, directory.join(LEASES)).on("write", draft.display())?)
    }

    /// The file that a container has as `/etc/resolv.conf`.
    pub(crate) fn resolv_conf(&self, namespace: u64, whose: &str) -> PathBuf {
        resolv_conf(&self.directory(namespace), whose)
    }

    /// Removes the record of a namespace in which nobody is left.
    pub(crate) fn remove(&self, namespace: u64) -> Result<()> {
        let directory = self.directory(namespace);
        let entries = std::fs::read_dir(&directory).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name() != LEASES) {
            remove_file(&entry.path())?;
        }
        remove_file(&directory.join(LEASES))?;
        remove_directory(&directory)
    }

    /// Gives the lock back; with the last record the directory goes, too.
    pub(crate) fn leave(self) -> Result<()> {
        remove_directory(&self.path)
    }
}

/// The file that somebody has as `/etc/resolv.conf`, in a namespace's directory.
pub(crate) fn resolv_conf(directory: &Path, whose: &str) -> PathBuf {
    directory.join(format!("{RESOLV_CONF}{whose}"))
}

/// Reads a record; nothing is in one that isn't there.
pub(crate) fn read(path: &Path) -> Result<State> {
    match std::fs::read(path) {
        Ok(json) => serde_json::from_slice(&json).map_err(|error| {
            Error::Failed(format!(
                "{}: not this program's record of addresses: {error}; remove it if nothing runs",
                path.display()
            ))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(State::default()),
        Err(error) => Ok(Err(error).on("read", path.display())?),
    }
}

fn make_directory(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match std::fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(std::fs::DirBuilder::new().mode(mode).recursive(true).create(path).on("make", path.display())?)
        }
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Ok(Err(error).on("make", path.display())?),
        _ => Ok(()),
    }
}

pub(crate) fn remove_file(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Ok(Err(error).on("remove", path.display())?),
        _ => Ok(()),
    }
}

/// Removes a directory in which nothing is; what is in use stays.
fn remove_directory(path: &Path) -> Result<()> {
    match std::fs::remove_dir(path) {
        Err(error) if !matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::DirectoryNotEmpty) => {
            Ok(Err(error).on("remove", path.display())?)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addresses::{FIRST, LAST};

    fn lease(number: Option<u16>) -> Lease {
        let owner = Process { pid: 1, started: 0 };
        Lease {
            id: format!("c{number:?}"),
            hostname: None,
            number,
            publish: vec!["[::]:80:81/udp".parse().unwrap()],
            owner,
            attendant: Some(owner),
        }
    }

    #[test]
    fn a_number_is_used_again_as_late_as_can_be() {
        let mut state = State { next: LAST, ..State::default() };
        assert_eq!(state.free_number(None), Some(LAST));
        state.leases.push(lease(Some(LAST)));
        assert_eq!(state.free_number(None), Some(FIRST));
        state.leases.extend((FIRST..LAST).map(|number| lease(Some(number))));
        assert_eq!(state.free_number(None), None);
        state.leases.retain(|lease| lease.number != Some(77));
        assert_eq!(state.free_number(None), Some(77));
        let empty = State::default();
        let of = |name: &str| empty.free_number(Some(&name.to_owned()));
        assert_eq!(of("web"), of("web"));
        assert!(of("web").is_some_and(|number| (FIRST..=LAST).contains(&number)) && of("web") != of("db"));
    }

    #[test]
    fn records_are_kept_and_go_with_the_last() {
        let root = tempfile::tempdir().unwrap();
        assert!(Records::find(root.path()).unwrap().is_none());
        let records = Records::make(root.path()).unwrap();
        let state = State {
            bridge: Some(Bridge { number: 3, mac: [2, 1, 2, 3, 4, 5], ipv6: true }),
            next: 9,
            leases: vec![lease(Some(8)), lease(None)],
        };
        records.write(7, &state).unwrap();
        std::fs::write(records.resolv_conf(7, "8"), "").unwrap();
        records.leave().unwrap();
        let records = Records::find(root.path()).unwrap().unwrap();
        assert_eq!((records.namespaces(), records.read(7).unwrap()), (vec![7], state));
        assert_eq!(records.read(8).unwrap(), State::default());
        records.remove(7).unwrap();
        records.leave().unwrap();
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn one_process_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let count = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let records = Records::make(root.path()).unwrap();
                        assert_eq!(count.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                        records.write(1, &State::default()).unwrap();
                        records.remove(1).unwrap();
                        assert_eq!(count.fetch_sub(1, std::sync::atomic::Ordering::SeqCst), 1);
                        records.leave().unwrap();
                    }
                });
            }
        });
    }
}
