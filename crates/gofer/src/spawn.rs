//! Making a gofer, or another process that answers: a copy of this one that goes another way.

use crate::client::Client;
use crate::config::{Confinement, Export};
use crate::error::Error;
use crate::lines::Lines;
use crate::server::{Server, Table, Worker, calls, confine};
use crate::socket;
use insula_sys::process::{self, Child, Fork, Spaces};
use insula_sys::seccomp::Instruction;
use insula_sys::{Context, Errno};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::thread::CpuSet;
use std::io::{Read, Write};
use std::sync::{Arc, Barrier};

/// Threads with a processor of their own, at most; where there are more processors, some share one.
const PINNED_MOST: usize = 16;
/// Stack of a thread in bytes: requests need a few KiB.
const STACK: usize = 128 << 10;
/// What the gofer says when all has gone well, if nothing follows.
const READY: u8 = b'R';

/// A gofer that is being made. Its process ends when its client does.
#[derive(Debug)]
pub struct Starting {
    child: Child,
    /// Tells that it serves, or why it doesn't.
    status: std::fs::File,
}

impl Starting {
    /// The process.
    pub fn child(&self) -> &Child {
        &self.child
    }

    /// Waits until it serves; gives the process, for its maker to wait for in the end. Not needed before the first request, which waits
    /// by itself; but only this tells why there is no answer.
    ///
    /// # Errors
    /// An export can't be opened, or the process not be confined; then it has ended.
    pub fn ready(mut self) -> Result<Child, Error> {
        let mut said = Vec::new();
        self.status.read_to_end(&mut said).on("hear from", "the gofer")?;
        if said == [READY] {
            return Ok(self.child);
        }
        let said = said.strip_prefix(&[READY]).unwrap_or(&said);
        process::kill(&self.child.pidfd);
        let _ = process::reap(&self.child.pidfd);
        Err(if said.is_empty() { Error::Ended } else { Error::Failed(String::from_utf8_lossy(said).into_owned()) })
    }
}

/// Starts a gofer for these exports, which are numbered in their order. It confines itself while the caller goes on; see
/// [`Starting::ready`].
///
/// This process must have one thread, as the gofer is a copy of it.
///
/// # Errors
/// No process or no sockets can be made.
pub fn spawn(exports: &[Export], confinement: &Confinement) -> Result<(Starting, Client), Error> {
    let prepare = |keep: &[BorrowedFd<'_>]| -> insula_sys::Result<Factory> {
        let (exports, handles) = confine::enter(exports, confinement, keep)?;
        let server: &Server = Box::leak(Box::new(Server { exports, table: Table::new(handles) }));
        Ok(Box::new(move || {
            let mut worker = Worker::new(server);
            Box::new(move |socket, buffers| worker.serve(socket, buffers))
        }))
    };
    let (starting, lines) = make("gofer", prepare, calls::filter)?;
    Ok((starting, Client::new(lines)))
}

/// A thread's life: it answers at a socket until that is closed.
pub(crate) type Life = Box<dyn FnMut(&OwnedFd, &mut [Box<[u8]>; 2])>;
/// Makes one in each thread, with the memory it needs.
pub(crate) type Factory = Box<dyn Fn() -> Life + Sync>;

/// Makes a confined process that answers: `prepare`, in it, leaves the host with nothing but these descriptors kept, `filter` says which calls are
/// left.
///
/// # Errors
/// As [`spawn`].
pub(crate) fn make(
    name: &'static str,
    prepare: impl FnOnce(&[BorrowedFd<'_>]) -> insula_sys::Result<Factory>,
    filter: fn() -> std::result::Result<Vec<Instruction>, insula_seccomp::Error>,
) -> Result<(Starting, Lines), Error> {
    let processors = Processors::allowed()?;
    // One thread for each group of processors, and one for what comes while that is busy.
    let mut pairs = Vec::new();
    for _ in 0..processors.groups + 1 {
        pairs.push(socket::pair().on("make", "a socket pair")?);
    }
    let (ours, theirs): (Vec<OwnedFd>, Vec<OwnedFd>) = pairs.into_iter().unzip();
    let (status, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).on("make", "a pipe")?;
    match process::fork(Spaces::PID, None)? {
        Fork::Child => {
            drop((ours, status));
            be(name, prepare, filter, &processors, theirs, tell.into())
        }
        Fork::Parent(child) => Ok((Starting { child, status: status.into() }, Lines::new(ours, processors.group_of()))),
    }
}

/// That process's life.
fn be(
    name: &'static str,
    prepare: impl FnOnce(&[BorrowedFd<'_>]) -> insula_sys::Result<Factory>,
    filter: fn() -> std::result::Result<Vec<Instruction>, insula_seccomp::Error>,
    processors: &Processors,
    sockets: Vec<OwnedFd>,
    mut tell: std::fs::File,
) -> ! {
    let mut keep = confine::borrowed(&sockets);
    keep.push(tell.as_fd());
    let gate = prepare(&keep).and_then(|factory| Ok((start(name, factory, processors, sockets)?, program(filter)?)));
    let (gate, program) = match gate {
        Ok(ready) => ready,
        Err(error) => {
            let _ = tell.write_all(error.to_string().as_bytes());
            process::exit(1)
        }
    };
    // Said before, as nothing can be written any more when it is confined; but believed when the pipe is closed, which is then.
    let confined = tell.write_all(&[READY]).on("tell of", name).and_then(|()| insula_sys::seccomp::confine_all(&program, name));
    if let Err(error) = confined {
        let _ = tell.write_all(error.to_string().as_bytes());
        process::exit(1);
    }
    drop(tell);
    gate.wait();
    loop {
        std::thread::park();
    }
}

/// Starts a thread for each socket. They answer as soon as somebody waits at the gate: when all of them are confined.
fn start(
    name: &'static str,
    factory: Factory,
    processors: &Processors,
    sockets: Vec<OwnedFd>,
) -> insula_sys::Result<Arc<Barrier>> {
    let factory: &Factory = Box::leak(Box::new(factory));
    let gate = Arc::new(Barrier::new(sockets.len() + 1));
    for (number, socket) in sockets.into_iter().enumerate() {
        let (gate, bind) = (Arc::clone(&gate), processors.set(number));
        let life = move || {
            insula_sys::seccomp::name_thread(&format!("{name}-{number}"));
            // Slower without, but nothing worse: the kernel may have taken the processor away meanwhile.
            let _ = bind.map(|set| rustix::thread::sched_setaffinity(None, &set));
            // It gets its memory now: to set a thread's up, the C library makes calls that it won't need again.
            let (mut serve, mut buffers) = (factory(), [socket::buffer(), socket::buffer()]);
            // First all are there, then all are confined.
            gate.wait();
            gate.wait();
            serve(&socket, &mut buffers);
            // All sockets belong to one client, and close together.
            process::exit(0)
        };
        std::thread::Builder::new().stack_size(STACK).spawn(life).on("start", format_args!("a thread of the {name}"))?;
    }
    gate.wait();
    Ok(gate)
}

fn program(filter: fn() -> std::result::Result<Vec<Instruction>, insula_seccomp::Error>) -> insula_sys::Result<Vec<Instruction>> {
    insula_sys::seccomp::tell_of_violations(|number| insula_seccomp::Sysno::new(number).map(|call| call.name()))?;
    filter().map_err(|_| Errno::TOOBIG).on("make", "the system-call filter")
}

/// The processors that this process may use, in as many groups as there shall be threads.
#[derive(Debug)]
struct Processors {
    allowed: Vec<usize>,
    groups: usize,
}

impl Processors {
    fn allowed() -> insula_sys::Result<Processors> {
        let set = rustix::thread::sched_getaffinity(None).on("ask for", "processors")?;
        let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
        Ok(Processors { groups: allowed.len().clamp(1, PINNED_MOST), allowed })
    }

    /// The group of each processor, by the processor's number.
    fn group_of(&self) -> Vec<u8> {
        let mut group_of = vec![0; self.allowed.last().map_or(1, |last| last + 1)];
        for (index, cpu) in self.allowed.iter().enumerate() {
            group_of[*cpu] = (index % self.groups) as u8;
        }
        group_of
    }

    /// The processors of a group; none for the thread that may be anywhere.
    fn set(&self, group: usize) -> Option<CpuSet> {
        let mut set = CpuSet::new();
        self.allowed.iter().skip(group).step_by(self.groups).for_each(|cpu| set.set(*cpu));
        (group < self.groups).then_some(set)
    }
}
