//! The resolver of one container: what it asks by datagrams is answered from the record of leases, or passed on to the host's resolvers.
//!
//! The process also holds the host's ports that are published: it doesn't serve them (the kernel leads what comes there to the container), but
//! nobody else can have them meanwhile, or had them before.

use super::directory::Directory;
use super::message::{self, Code};
use super::stream;
use crate::addresses::Subnet;
use crate::attendant::{Call, Service, any, is, masked};
use crate::error::Result;
use crate::rules::{RESOLVER_PORT, cant_publish};
use crate::state::LEASES;
use insula_seccomp::Sysno;
use insula_sys::{Context, Errno};
use insula_usernet::{Publish, Resolvers, Transport};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

/// The longest datagram that is read: RFC 6891 section 6.2.5 recommends 4096 bytes at most.
const LONGEST: usize = 4096;
/// So many questions may be waiting for a resolver of the host's; then the oldest is given up.
const MOST_WAITING: usize = 128;
/// How long one resolver is waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// Streams that are served at once.
const STREAMS: usize = 2;

const DATAGRAM: u64 = (number::SOCK_DGRAM | number::SOCK_CLOEXEC) as u64;
const STREAM: u64 = (number::SOCK_STREAM | number::SOCK_CLOEXEC) as u64;

/// Numbers of the system-call interface, `asm-generic`.
mod number {
    pub(super) const SOCK_STREAM: u32 = 1;
    pub(super) const SOCK_DGRAM: u32 = 2;
    pub(super) const SOCK_CLOEXEC: u32 = 0o2_000_000;
    pub(super) const AF_INET: u64 = 2;
    pub(super) const AF_INET6: u64 = 10;
    pub(super) const SOL_SOCKET: u64 = 1;
    pub(super) const SO_RCVTIMEO: u64 = 20;
    pub(super) const SO_SNDTIMEO: u64 = 21;
    /// The same with times of 64 bits.
    pub(super) const SO_RCVTIMEO_NEW: u64 = 66;
    pub(super) const SO_SNDTIMEO_NEW: u64 = 67;
    /// `O_ACCMODE`, `O_CREAT`, `O_TRUNC`.
    pub(super) const WRITES: u64 = 0o3 | 0o100 | 0o1000;
}
use number::{AF_INET, AF_INET6, SO_RCVTIMEO, SO_RCVTIMEO_NEW, SO_SNDTIMEO, SO_SNDTIMEO_NEW, SOL_SOCKET, WRITES};

/// What is to be served.
#[derive(Debug)]
pub(crate) struct Resolver {
    pub(crate) net: Subnet,
    pub(crate) ipv6: bool,
    /// Whose resolver it is.
    pub(crate) number: u16,
    /// The host's ports that lead to that container.
    pub(crate) publish: Vec<Publish>,
    /// Where the record of leases is.
    pub(crate) directory: PathBuf,
    /// Where it says whom the host asks.
    pub(crate) resolv_conf: PathBuf,
}

impl Service for Resolver {
    const NAME: &'static str = "the resolver";

    const CALLS: &'static [Call] = &[
        any(Sysno::poll),
        any(Sysno::ppoll),
        any(Sysno::recvfrom),
        any(Sysno::sendto),
        any(Sysno::accept4),
        any(Sysno::connect),
        Call(Sysno::socket, &[is(0, AF_INET), is(1, DATAGRAM)]),
        Call(Sysno::socket, &[is(0, AF_INET6), is(1, DATAGRAM)]),
        Call(Sysno::socket, &[is(0, AF_INET), is(1, STREAM)]),
        Call(Sysno::socket, &[is(0, AF_INET6), is(1, STREAM)]),
        Call(Sysno::setsockopt, &[is(1, SOL_SOCKET), is(2, SO_RCVTIMEO)]),
        Call(Sysno::setsockopt, &[is(1, SOL_SOCKET), is(2, SO_SNDTIMEO)]),
        Call(Sysno::setsockopt, &[is(1, SOL_SOCKET), is(2, SO_RCVTIMEO_NEW)]),
        Call(Sysno::setsockopt, &[is(1, SOL_SOCKET), is(2, SO_SNDTIMEO_NEW)]),
        // The record of leases, the one file in its root.
        Call(Sysno::openat, &[masked(2, WRITES, 0)]),
        any(Sysno::statx),
        any(Sysno::fstat),
        any(Sysno::newfstatat),
        any(Sysno::lseek),
        any(Sysno::read),
    ];

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    fn root(&self) -> Option<PathBuf> {
        Some(self.directory.clone())
    }

    fn prepare(self, end: OwnedFd) -> Result<Box<dyn FnOnce()>> {
        let mut held = Vec::new();
        for publish in &self.publish {
            held.extend(hold(publish).map_err(|errno| cant_publish(publish, errno))?);
        }
        let at = SocketAddrV4::new(self.net.resolver(self.number), RESOLVER_PORT);
        let datagrams = bind(at.into(), SocketType::DGRAM).on("answer for names at", at)?;
        let streams = bind(at.into(), SocketType::STREAM).on("answer for names at", at)?;
        rustix::net::listen(&streams, 8).on("answer for names at", at)?;
        let streams = Arc::new(streams);
        let client = self.net.container(self.number);
        let knowledge = || Knowledge {
            // Its path when this process's root is where it lies.
            directory: Directory::new(self.net, self.ipv6, Path::new("/").join(LEASES), self.number),
            resolvers: Resolvers::new(&self.resolv_conf),
        };
        // They begin when this process is confined, and they with it; and by then each must be there: a thread's first steps take calls that are
        // refused later.
        let gate = Arc::new(Barrier::new(STREAMS + 1));
        for _ in 0..STREAMS {
            let (gate, streams, knowledge) = (gate.clone(), streams.clone(), knowledge());
            let thread = std::thread::Builder::new().stack_size(128 << 10).spawn(move || {
                insula_sys::seccomp::name_thread(Resolver::NAME);
                gate.wait();
                gate.wait();
                stream::serve(&streams, client, knowledge);
            });
            thread.on("make", "a thread")?;
        }
        gate.wait();
        let datagrams = Datagrams { socket: datagrams, client, knowledge: knowledge(), waiting: Vec::new() };
        Ok(Box::new(move || {
            gate.wait();
            datagrams.serve(&end);
            drop(held);
        }))
    }
}

/// What answers are made of.
#[derive(Debug)]
pub(super) struct Knowledge {
    directory: Directory,
    pub(super) resolvers: Resolvers,
}

/// What to do with a message.
pub(super) enum Verdict {
    Answer(Vec<u8>),
    PassOn,
    Ignore,
}

impl Knowledge {
    pub(super) fn judge(&mut self, asked: &[u8]) -> Verdict {
        match message::question(asked) {
            None => Verdict::Ignore,
            Some(Err(code)) => Verdict::Answer(message::refusal(asked, code)),
            Some(Ok(question)) => match self.directory.look_up(&question) {
                Some(known) => Verdict::Answer(question.answer(asked, &known)),
                None => Verdict::PassOn,
            },
        }
    }
}

/// Sockets that have a published port, at which nobody listens.
///
/// Connections that the kernel doesn't lead on (to `::1`) are refused so. A datagram would be swallowed, so for those the port of IPv4 is
/// enough: it keeps others from both.
fn hold(publish: &Publish) -> rustix::io::Result<Vec<OwnedFd>> {
    let kind = if publish.transport == Transport::Tcp { SocketType::STREAM } else { SocketType::DGRAM };
    if let Some(address) = publish.address {
        return Ok(vec![bind(SocketAddr::new(address, publish.port), kind)?]);
    }
    let mut held = vec![bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), publish.port), kind)?];
    if kind == SocketType::STREAM {
        match bind(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), publish.port), kind) {
            // A host without IPv6.
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {}
            socket => held.push(socket?),
        }
    }
    Ok(held)
}

fn bind(at: SocketAddr, kind: SocketType) -> rustix::io::Result<OwnedFd> {
    let socket = open(at, kind)?;
    if at.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &at)?;
    Ok(socket)
}

/// A socket for who is at this address.
pub(super) fn open(to: SocketAddr, kind: SocketType) -> rustix::io::Result<OwnedFd> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)
}

/// A question that was passed on.
#[derive(Debug)]
struct Waiting {
    /// Connected to the resolver that was asked.
    socket: OwnedFd,
    resolver: SocketAddr,
    client: SocketAddr,
    asked: Vec<u8>,
    until: Instant,
    /// How many resolvers have been asked.
    tries: usize,
}

#[derive(Debug)]
struct Datagrams {
    socket: OwnedFd,
    client: Ipv4Addr,
    knowledge: Knowledge,
    waiting: Vec<Waiting>,
}

impl Datagrams {
    fn serve(mut self, end: &OwnedFd) {
        loop {
            let (ended, asked, answered) = self.wait(end);
            if ended {
                return;
            }
            for at in answered.into_iter().rev() {
                self.answered(at);
            }
            if asked {
                self.hear();
            }
            self.give_up();
        }
    }

    /// Waits for anything: the end, a question, answers (by their places).
    fn wait(&self, end: &OwnedFd) -> (bool, bool, Vec<usize>) {
        let now = Instant::now();
        let left = self.waiting.iter().map(|waiting| waiting.until.saturating_duration_since(now)).min();
        // A moment more, so that it is over when it is looked at.
        let timeout = left.and_then(|left| Timespec::try_from(left + Duration::from_millis(1)).ok());
        let mut files = vec![PollFd::new(end, PollFlags::IN), PollFd::new(&self.socket, PollFlags::IN)];
        files.extend(self.waiting.iter().map(|waiting| PollFd::new(&waiting.socket, PollFlags::IN)));
        match poll(&mut files, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return (false, false, Vec::new()),
            Err(_) => return (true, false, Vec::new()),
        }
        let ready = |file: &PollFd<'_>| !file.revents().is_empty();
        let answered = files[2..].iter().enumerate().filter(|(_, file)| ready(file)).map(|(at, _)| at).collect();
        (ready(&files[0]), ready(&files[1]), answered)
    }

    /// Takes a question.
    fn hear(&mut self) {
        let mut buffer = [0; LONGEST];
        let Ok((length, _, from)) = rustix::net::recvfrom(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT) else { return };
        let Some(client) = from.and_then(|from| SocketAddr::try_from(from).ok()) else { return };
        // Neighbours have their own.
        if client.ip() != IpAddr::V4(self.client) {
            return;
        }
        let asked = &buffer[..length];
        match self.knowledge.judge(asked) {
            Verdict::Answer(answer) => self.say(&answer, client),
            Verdict::PassOn => self.pass_on(asked.to_vec(), client, 0),
            Verdict::Ignore => {}
        }
    }

    /// Asks a resolver of the host's.
    fn pass_on(&mut self, asked: Vec<u8>, client: SocketAddr, tries: usize) {
        for tries in tries..self.knowledge.resolvers.count() {
            let Some(resolver) = self.knowledge.resolvers.server() else { break };
            match ask(resolver, &asked) {
                Ok(socket) => {
                    if self.waiting.len() >= MOST_WAITING {
                        self.waiting.remove(0);
                    }
                    let until = Instant::now() + PATIENCE;
                    self.waiting.push(Waiting { socket, resolver, client, asked, until, tries: tries + 1 });
                    return;
                }
                Err(_) => self.knowledge.resolvers.silent(resolver),
            }
        }
        self.say(&message::refusal(&asked, Code::Failed), client);
    }

    /// A resolver has answered, or there is none there.
    fn answered(&mut self, at: usize) {
        let mut buffer = [0; LONGEST];
        let heard = rustix::net::recv(&self.waiting[at].socket, &mut buffer[..], RecvFlags::DONTWAIT);
        match heard {
            Ok((length, _)) if message::answers(&buffer[..length], &self.waiting[at].asked) => {
                let waiting = self.waiting.swap_remove(at);
                self.say(&buffer[..length], waiting.client);
            }
            // Not what was asked: somebody guesses.
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.ask_another(at),
        }
    }

    /// Those that have waited long enough are asked of somebody else.
    fn give_up(&mut self) {
        let now = Instant::now();
        for at in (0..self.waiting.len()).rev() {
            if self.waiting[at].until <= now {
                self.ask_another(at);
            }
        }
    }

    fn ask_another(&mut self, at: usize) {
        let Waiting { resolver, client, asked, tries, .. } = self.waiting.swap_remove(at);
        self.knowledge.resolvers.silent(resolver);
        self.pass_on(asked, client, tries);
    }

    /// What the container doesn't take is lost, and asked again.
    fn say(&self, answer: &[u8], client: SocketAddr) {
        let _ = rustix::net::sendto(&self.socket, answer, SendFlags::DONTWAIT | SendFlags::NOSIGNAL, &client);
    }
}

fn ask(resolver: SocketAddr, asked: &[u8]) -> rustix::io::Result<OwnedFd> {
    let socket = open(resolver, SocketType::DGRAM)?;
    rustix::net::connect(&socket, &resolver)?;
    rustix::net::send(&socket, asked, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
    Ok(socket)
}
