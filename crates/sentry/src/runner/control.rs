//! One more process in a sandbox: the sentry's side.
//!
//! Who connects to the sandbox's control socket (only the user it belongs to can) sends a [`Request`] with three descriptors, and hears an
//! [`Answer`] when the process runs, and another when it has ended. Meanwhile it may send numbers of signals. If the connection breaks, the
//! process is killed.

use super::sandbox::{credentials_of, limits_of};
use super::streams;
use crate::driver;
use crate::host::Watcher;
use crate::platform::{Context as _, Seed as _, SpawnKind, ptrace::Seed};
use insula_abi::general as c;
use insula_abi::signal::Siginfo;
use insula_kernel::fs::tree::{Lookup, walk};
use insula_kernel::fs::{Context, Io, Opening};
use insula_kernel::signal::Target;
use insula_kernel::task::{Boot, Task};
use insula_kernel::wait::{Events, Observer, Pollable};
use insula_kernel::{Errno, Kernel, Result};
use insula_spec::plan::{Process, User};
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags};
use serde::{Deserialize, Serialize};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::sync::Arc;

/// The longest request, in bytes: what a socket carries at once.
const LONGEST: usize = 256 << 10;

/// The most that is read of a passwd file, in bytes.
const MOST_USERS: usize = 1 << 20;

/// A process that is to be run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// What.
    pub(super) process: Process,
}

/// What becomes of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// It runs.
    Runs,
    /// It can't be run; 127, 126 or 125, and why.
    Failed {
        /// As shells have it.
        code: u8,
        /// One line.
        text: String,
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
                match self.run(&connection, seed) {
                    Ok(task) => attend(connection, task),
                    Err((code, text)) => tell(&connection, &Answer::Failed { code, text }),
                }
            }
        };
        std::thread::Builder::new().name("control".into()).stack_size(256 << 10).spawn(run).map(drop)
    }

    /// Runs what a connection asks for.
    fn run(
        &self,
        connection: &Arc<OwnedFd>,
        seed: impl FnOnce() -> Result<Seed>,
    ) -> std::result::Result<Arc<Task>, (u8, String)> {
        let failed = |what: &'static str| move |errno: Errno| (125, format!("can't {what}: {errno}"));
        let (request, files) = receive(connection).map_err(|text| (125, text))?;
        let process = request.process;
        let user = self.user(&process)?;
        let fs =
            self.place(&process).map_err(|errno| (125, format!("can't enter process.cwd {}: {errno}", process.cwd.display())))?;
        let streams = files.each_ref().map(AsFd::as_fd);
        let descriptors = streams::table(&self.watcher, streams).map_err(failed("use the standard streams"))?;
        let boot = |program: Vec<u8>| {
            self.kernel.boot(Boot {
                program,
                arguments: process.args.iter().map(|text| text.clone().into_bytes()).collect(),
                environment: process.env.iter().map(|text| text.clone().into_bytes()).collect(),
                fs: fs.clone(),
                credentials: credentials_of(&process, &user),
                limits: limits_of(&process),
                descriptors: descriptors.clone(),
            })
        };
        let (task, regs) = along_path(&process, boot)?;
        let started =
            seed().and_then(|seed| driver::start(seed, task.clone(), regs, driver::Token::default()).map_err(|_| Errno::EAGAIN));
        if let Err(errno) = started {
            task.exit(c::SIGKILL as i32);
            return Err((125, format!("the host has no room for a process: {errno}")));
        }
        tell(connection, &Answer::Runs);
        Ok(task)
    }

    /// Where it stands.
    fn place(&self, process: &Process) -> Result<Context> {
        use std::os::unix::ffi::OsStrExt;
        let mut fs = self.first.fs().lock().clone();
        fs.cwd = walk::resolve(&self.first, c::AT_FDCWD, process.cwd.as_os_str().as_bytes(), Lookup::FOLLOW | Lookup::DIRECTORY)?;
        Ok(fs)
    }

    /// Who it is: a name is looked up in the sandbox's own files.
    fn user(&self, process: &Process) -> std::result::Result<User, (u8, String)> {
        let Some(text) = &process.user.lookup else { return Ok(process.user.clone()) };
        let found = insula_container::runner::find_user(&self.text("/etc/passwd"), &self.text("/etc/group"), text, &process.user);
        found.map_err(|error| (125, error.to_string()))
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
    let cant = |path: &str, errno: Errno| match errno {
        Errno::ENOENT | Errno::ENOTDIR => (127, format!("process.args[0]: can't run {path}: no such file")),
        errno => (126, format!("process.args[0]: can't run {path}: {errno}")),
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
    Err(denied.unwrap_or_else(|| (127, format!("process.args[0]: {name:?} is not in the container's PATH ({path})"))))
}

/// Reads a request and its three descriptors.
fn receive(connection: &OwnedFd) -> std::result::Result<(Request, [OwnedFd; 3]), String> {
    let mut bytes = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::net::recvmsg(connection, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC);
    let count = got.map_err(|errno| format!("can't read the request: {errno}"))?.bytes;
    let mut files = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            files.extend(more);
        }
    }
    let files = <[OwnedFd; 3]>::try_from(files).map_err(|_| "the request has no standard streams".to_owned())?;
    let request = serde_json::from_slice(&bytes[..count]).map_err(|error| format!("can't read the request: {error}"))?;
    Ok((request, files))
}

/// Sends an answer; if nobody listens any more, nobody misses it.
fn tell(connection: &OwnedFd, answer: &Answer) {
    let json = serde_json::to_vec(answer).unwrap_or_default();
    let _ = rustix::net::send(connection, &json, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
}

/// Tells of the end when it has come.
struct End {
    connection: Arc<OwnedFd>,
    task: Arc<Task>,
}

impl Observer for End {
    fn notify(&self, _: Events) {
        if let Some(status) = self.task.process.status() {
            tell(&self.connection, &Answer::Ended { status });
        }
    }
}

/// Passes signals on until the connection breaks: by then the process has ended, or is to.
fn attend(connection: Arc<OwnedFd>, task: Arc<Task>) {
    let end = Arc::new(End { connection: connection.clone(), task: task.clone() });
    let observer: Arc<dyn Observer> = end.clone();
    let registered = task.process.observe(Events::READABLE, &observer);
    // It may have ended before anybody watched.
    end.notify(Events::READABLE);
    let run = move || {
        loop {
            let mut word = [0; 4];
            match rustix::net::recv(&*connection, &mut word[..], RecvFlags::empty()) {
                Ok((_, 4)) => send(&task, i32::from_le_bytes(word)),
                Err(rustix::io::Errno::INTR) => {}
                _ => break,
            }
        }
        drop(registered);
        send(&task, c::SIGKILL as i32);
    };
    let _ = std::thread::Builder::new().name("exec".into()).stack_size(128 << 10).spawn(run);
}

fn send(task: &Arc<Task>, signal: i32) {
    let info = Siginfo::sent(signal, 0, 0, 0);
    let _ = insula_kernel::signal::send::send_from_outside(Target::Process(&task.process), info);
}
