//! One more process in a sandbox: the sentry's side.
//!
//! Who connects to the sandbox's control socket (only the user it belongs to can) sends a [`Request`] with three descriptors or more, and hears an
//! [`Answer`] when the process runs, others when it is stopped, and one when it has ended. Meanwhile it may send numbers of signals. If the
//! connection breaks, the process is killed.
//!
//! The descriptors are its standard streams; or, if it is to have a terminal of its own, the inner end of the host's that shows it, and both
//! ends of a pipe for [`Alert`]. More are for the process, from its number 3 on.

use super::list;
use super::policy::Filter;
use super::sandbox::{credentials_of, limits_of};
use super::signals::{self, Switchboard};
use super::streams::{self, Front};
use crate::driver;
use crate::host::{Alert, Room, Watcher};
use crate::platform::{Context as _, Seed as _, SpawnKind, ptrace::Seed};
use insula_abi::general as c;
use insula_boundary::{Error, Summary};
use insula_kernel::fs::tree::{Lookup, walk};
use insula_kernel::fs::{Context, Io, Opening};
use insula_kernel::task::boot::Manner;
use insula_kernel::task::{Boot, Task};
use insula_kernel::wait::{Events, Observer, Pollable};
use insula_kernel::{Errno, Kernel, Result};
use insula_spec::plan::{Process, User};
use insula_sys::signals::Received;
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags};
use serde::{Deserialize, Serialize};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::sync::Arc;

/// The longest request, in bytes: what a socket carries at once.
const LONGEST: usize = 256 << 10;

/// Descriptors that come with a request at most (`SCM_MAX_FD`).
pub(super) const PASSED_MOST: usize = 253;

/// The most that is read of a passwd file, in bytes.
const MOST_USERS: usize = 1 << 20;

/// What is wanted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Run a process.
    Run {
        /// Which.
        process: Box<Process>,
    },
    /// Tell of all processes.
    List,
    /// Send all of them a signal.
    Signal {
        /// Its number.
        signal: i32,
    },
    /// The group has another limit of memory.
    LimitMemory {
        /// Bytes; none is no limit.
        most: Option<u64>,
    },
}

/// What there is to say.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// These are processes; none, when these are all.
    Processes {
        /// Some of them.
        list: Vec<Summary>,
    },
    /// It is done.
    Done,
    /// It runs.
    Runs,
    /// It can't be run; 127, 126 or 125, and why.
    Failed {
        /// As shells have it.
        code: u8,
        /// One line.
        text: String,
    },
    /// It was stopped, by this signal.
    Stopped {
        /// Its number.
        signal: i32,
    },
    /// It has ended, with this status as wait(2) tells it.
    Ended {
        /// The status.
        status: i32,
    },
}

/// Runs processes that are asked for.
pub(super) struct Control {
    pub(super) kernel: Arc<Kernel>,
    pub(super) first: Arc<Task>,
    pub(super) watcher: Arc<Watcher>,
    /// How much memory there is.
    pub(super) room: Arc<Room>,
    /// What judges their calls.
    pub(super) filter: Option<Filter>,
}

impl Control {
    /// Starts the thread that listens. New address spaces are made from `nursery`, a stub that runs nothing.
    pub(super) fn listen(self, socket: OwnedFd, nursery: Seed) -> std::io::Result<()> {
        let run = move || {
            let Ok(mut nursery) = nursery.attach() else { return };
            loop {
                let connection = match rustix::net::accept_with(&socket, SocketFlags::CLOEXEC) {
                    Ok(connection) => Arc::new(connection),
                    Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => continue,
                    Err(_) => return,
                };
                let seed = || nursery.spawn(SpawnKind::Empty, &[]).map_err(|_| Errno::EAGAIN);
                self.heed(connection, seed);
            }
        };
        std::thread::Builder::new().name("control".into()).stack_size(256 << 10).spawn(run).map(drop)
    }

    /// Does what a connection asks for.
    fn heed(&self, connection: Arc<OwnedFd>, seed: impl FnOnce() -> Result<Seed>) {
        let done = receive(&connection).and_then(|(request, files)| match request {
            Request::Run { process } => {
                let mut files = files;
                let more = files.split_off(files.len().min(3));
                let files =
                    <[OwnedFd; 3]>::try_from(files).map_err(|_| (125, "the request has no standard streams".to_owned()))?;
                let (task, front) = self.run(&connection, *process, files, more, seed)?;
                attend(connection.clone(), task, front);
                Ok(())
            }
            Request::List => {
                list::tell_of_all(&self.kernel, connection.clone());
                Ok(())
            }
            Request::Signal { signal } => {
                for process in self.kernel.pids.processes() {
                    signals::send(&process, signal);
                }
                tell(&connection, &Answer::Done);
                Ok(())
            }
            Request::LimitMemory { most } => {
                self.room.set_limit(most);
                tell(&connection, &Answer::Done);
                Ok(())
            }
        });
        if let Err((code, text)) = done {
            tell(&connection, &Answer::Failed { code, text });
        }
    }

    /// Runs a process.
    fn run(
        &self,
        connection: &Arc<OwnedFd>,
        mut process: Process,
        files: [OwnedFd; 3],
        more: Vec<OwnedFd>,
        seed: impl FnOnce() -> Result<Seed>,
    ) -> std::result::Result<(Arc<Task>, Front), (u8, String)> {
        let failed = |what: &'static str| move |errno: Errno| (125, format!("can't {what}: {}", super::describe(errno)));
        let user = self.identify(&mut process)?;
        let fs = self
            .place(&process)
            .map_err(|errno| (125, format!("process.cwd: can't enter {}: {}", process.cwd.display(), super::describe(errno))))?;
        let streams = match (process.terminal, files) {
            (true, [far, woken, wake]) => streams::terminal(&self.kernel, &fs, (user.uid, user.gid), &far, Alert { woken, wake }),
            (false, files) => {
                streams::table(&self.watcher, files.each_ref().map(AsFd::as_fd)).map(|descriptors| (descriptors, Front::None))
            }
        };
        let (descriptors, front) = streams.map_err(failed("use the standard streams"))?;
        streams::pass_on(&descriptors, &self.watcher, more).map_err(failed("use the descriptors of --preserve-fds"))?;
        let boot = |program: Vec<u8>| {
            let manner = Manner { ordinary: true, job: true, terminal: front.terminal() };
            let boot = Boot {
                program,
                arguments: process.args.iter().map(|text| text.clone().into_bytes()).collect(),
                environment: process.env.iter().map(|text| text.clone().into_bytes()).collect(),
                fs: fs.clone(),
                credentials: credentials_of(&process, &user),
                limits: limits_of(&process),
                descriptors: descriptors.clone(),
            };
            self.kernel.boot_as(boot, manner)
        };
        let (task, regs) = along_path(&process, boot)?;
        let filtered = self.filter.as_ref().map_or(Ok(()), |filter| filter.confine(&task));
        let started = filtered
            .and_then(|()| seed())
            .and_then(|seed| driver::start(seed, task.clone(), regs, driver::Token::default()).map_err(|_| Errno::EAGAIN));
        if let Err(errno) = started {
            task.exit(c::SIGKILL as i32);
            return Err((125, format!("the host has no room for a process: {}", super::describe(errno))));
        }
        tell(connection, &Answer::Runs);
        Ok((task, front))
    }

    /// Where it stands.
    fn place(&self, process: &Process) -> Result<Context> {
        use std::os::unix::ffi::OsStrExt;
        let mut fs = self.first.fs().lock().clone();
        fs.cwd = walk::resolve(&self.first, c::AT_FDCWD, process.cwd.as_os_str().as_bytes(), Lookup::FOLLOW | Lookup::DIRECTORY)?;
        fs.umask = process.user.umask.unwrap_or(0o022);
        Ok(fs)
    }

    /// Who it is, and where it is at home: that is looked up in the sandbox's own files.
    fn identify(&self, process: &mut Process) -> std::result::Result<User, (u8, String)> {
        let found = insula_container::runner::find_user(&self.text("/etc/passwd"), &self.text("/etc/group"), process);
        let (user, env) = found.map_err(|error| (125, error.to_string()))?;
        process.env = env;
        Ok(user)
    }

    /// A file of the sandbox's; empty if it isn't there.
    fn text(&self, path: &str) -> String {
        let read = || {
            let place = walk::resolve(&self.first, c::AT_FDCWD, path.as_bytes(), Lookup::FOLLOW)?;
            let file = place.inode().clone().open(&Opening { task: &self.first, flags: c::O_RDONLY })?;
            let mut bytes = vec![0; MOST_USERS];
            let count = file.read_bytes(&Io { task: &self.first, flags: c::O_RDONLY }, 0, &mut bytes)?;
            bytes.truncate(count);
            Ok::<_, Errno>(bytes)
        };
        String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
    }
}

/// Boots the program, looked for along `PATH` as execvp(3) does.
fn along_path<T>(process: &Process, boot: impl Fn(Vec<u8>) -> Result<T>) -> std::result::Result<T, (u8, String)> {
    let name = process.args.first().cloned().unwrap_or_default();
    let cant = |path: &str, errno: Errno| {
        let error = insula_container::runner::cant_run(path.as_ref(), super::host_errno(errno));
        (if matches!(error, Error::NoProgram(_)) { 127 } else { 126 }, error.to_string())
    };
    if name.contains('/') {
        return boot(name.clone().into_bytes()).map_err(|errno| cant(&name, errno));
    }
    let path = process.env.iter().rev().find_map(|text| text.strip_prefix("PATH=")).unwrap_or(insula_spec::defaults::PATH);
    let mut denied = None;
    for dir in path.split(':') {
        let candidate = format!("{}/{name}", if dir.is_empty() { "." } else { dir });
        match boot(candidate.clone().into_bytes()) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(errno) => denied = Some(cant(&candidate, errno)),
            Ok(booted) => return Ok(booted),
        }
    }
    Err(denied.unwrap_or_else(|| (127, format!("process.args[0]: {name:?}: executable file not found in $PATH ({path})"))))
}

/// Reads a request and its descriptors.
fn receive(connection: &OwnedFd) -> std::result::Result<(Request, Vec<OwnedFd>), (u8, String)> {
    let mut bytes = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PASSED_MOST))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::net::recvmsg(connection, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC);
    let count = got.map_err(|errno| (125, format!("can't read the request: {errno}")))?.bytes;
    let mut files = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            files.extend(more);
        }
    }
    let request = serde_json::from_slice(&bytes[..count]).map_err(|error| (125, format!("can't read the request: {error}")))?;
    Ok((request, files))
}

/// Sends an answer; if nobody listens any more, nobody misses it.
pub(super) fn tell(connection: &OwnedFd, answer: &Answer) {
    let json = serde_json::to_vec(answer).unwrap_or_default();
    let _ = rustix::net::send(connection, &json, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
}

/// Tells of stops, and of the end when it has come.
struct News {
    connection: Arc<OwnedFd>,
    task: Arc<Task>,
    front: Front,
}

impl Observer for News {
    fn notify(&self, _: Events) {
        let process = &self.task.process;
        match process.status() {
            Some(status) if self.front.is_finished() => tell(&self.connection, &Answer::Ended { status }),
            Some(_) => {}
            None => {
                if let Some(signal) = self.task.kernel().pids.take_stop(process.pid) {
                    tell(&self.connection, &Answer::Stopped { signal });
                }
            }
        }
    }
}

/// Passes signals on until the connection breaks: by then the process has ended, or is to.
fn attend(connection: Arc<OwnedFd>, task: Arc<Task>, front: Front) {
    let news = Arc::new(News { connection: connection.clone(), task: task.clone(), front });
    let observer: Arc<dyn Observer> = news.clone();
    let registered = task.process.observe(Events::READABLE, &observer);
    if let Front::Own(relay) = &news.front {
        relay.tell(observer);
    }
    // It may have ended before anybody watched.
    news.notify(Events::READABLE);
    let run = move || {
        let switchboard = Switchboard { kernel: task.kernel(), first: &task.process, front: &news.front, command: true };
        loop {
            let mut word = [0; 4];
            match rustix::net::recv(&*connection, &mut word[..], RecvFlags::empty()) {
                Ok((_, 4)) => switchboard.pass_on(Received { signal: i32::from_le_bytes(word), from_kernel: false }),
                Err(rustix::io::Errno::INTR) => {}
                _ => break,
            }
        }
        drop(registered);
        switchboard.pass_on(Received { signal: c::SIGKILL as i32, from_kernel: false });
    };
    let _ = std::thread::Builder::new().name("exec".into()).stack_size(128 << 10).spawn(run);
}
