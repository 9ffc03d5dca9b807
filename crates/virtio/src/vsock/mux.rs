//! All connections, by the ports of both ends; and the sockets of those that are to become one.

use super::connection::{BUFFER, Connection, Phase};
use super::packet::{HEADER, HOST, Header, STREAM, op};
use crate::chain::Chain;
use crate::error::{Error, Result, Tried};
use insula_sys::error::Context;
use insula_vm::memory::GuestMemory;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType};
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

/// Most connections; and each may hold [`BUFFER`] of bytes.
const MOST: usize = 1024;
/// Most that have connected and not said whereto.
const MOST_CALLERS: usize = 64;
/// Most answers to packets of no connection that wait for a buffer; a guest that doesn't read them doesn't need them.
const MOST_RESETS: usize = 256;
/// Our ports count from here, as Firecracker's do.
const FIRST_PORT: u32 = 1 << 30;
/// The longest line: `CONNECT 4294967295\n`.
const LINE: usize = 32;
/// What unix(7) allows, with room for the `_4294967295` of a socket that the guest connects to.
const LONGEST_PATH: usize = 107 - 11;
/// What epoll says of the socket that listens.
const LISTENER: u64 = 0;

/// One who has connected, and is saying whereto.
#[derive(Debug)]
struct Caller {
    socket: OwnedFd,
    line: Vec<u8>,
}

/// All connections.
#[derive(Debug)]
pub(super) struct Mux {
    cid: u64,
    path: PathBuf,
    listener: OwnedFd,
    epoll: OwnedFd,
    next: u64,
    next_port: u32,
    callers: HashMap<u64, Caller>,
    connections: HashMap<u64, Connection>,
    /// By our port and the guest's.
    ports: HashMap<(u32, u32), u64>,
    /// Whoever has something for the guest, in turn.
    news: VecDeque<u64>,
    resets: VecDeque<Header>,
}

fn socket() -> rustix::io::Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)
}

impl Mux {
    pub(super) fn new(cid: u32, path: &Path) -> Result<Mux> {
        let length = path.as_os_str().len();
        if length > LONGEST_PATH {
            let cause = format!("{} is too long for a socket: {length} bytes, and {LONGEST_PATH} fit", path.display());
            return Err(Error::Config { device: "vsock", cause });
        }
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).tried("make an epoll for sockets")?;
        let listener = socket().tried("make a socket")?;
        let address = SocketAddrUnix::new(path).on("listen at", path.display())?;
        rustix::net::bind(&listener, &address).on("listen at", path.display())?;
        rustix::net::listen(&listener, 128).on("listen at", path.display())?;
        let flags = epoll::EventFlags::IN;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), flags).tried("wait for a socket")?;
        Ok(Mux {
            cid: cid.into(),
            path: path.to_owned(),
            listener,
            epoll,
            next: LISTENER + 1,
            next_port: FIRST_PORT,
            callers: HashMap::new(),
            connections: HashMap::new(),
            ports: HashMap::new(),
            news: VecDeque::new(),
            resets: VecDeque::new(),
        })
    }

    /// Forgets all connections; who is at their other ends sees them end.
    pub(super) fn clear(&mut self) {
        self.callers.clear();
        self.connections.clear();
        self.ports.clear();
        self.news.clear();
        self.resets.clear();
    }

    /// Waits for a socket from now on: it says each change once.
    fn watch(&mut self, socket: impl AsFd) -> rustix::io::Result<u64> {
        let id = self.next;
        self.next += 1;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        epoll::add(&self.epoll, socket, epoll::EventData::new_u64(id), flags).map(|()| id)
    }

    /// Sockets are ready.
    pub(super) fn poll(&mut self) -> Result<()> {
        let mut events = Vec::with_capacity(64);
        let none = rustix::event::Timespec::default();
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&none)) {
            Err(Errno::INTR) => return Ok(()),
            result => result.tried("ask which sockets are ready")?,
        };
        for event in events {
            let flags = event.flags;
            match event.data.u64() {
                LISTENER => self.accept(),
                id if self.callers.contains_key(&id) => self.listen(id),
                id => self.ready(id, flags.contains(epoll::EventFlags::HUP)),
            }
        }
        Ok(())
    }

    fn ready(&mut self, id: u64, hung_up: bool) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.wake(hung_up);
        if connection.phase == Phase::Requested {
            // Nobody is to send before `OK`; so this is the end, or a wrong caller's bytes, which wait.
            if rustix::net::recv(&connection.socket, &mut [0_u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT)
                .map(|(count, _)| count)
                == Ok(0)
            {
                connection.phase = Phase::Gone;
            }
        } else if !connection.flush() {
            connection.phase = Phase::Gone;
        }
        self.enqueue(id);
    }

    fn accept(&mut self) {
        for _ in 0..MOST_CALLERS {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let Ok(socket) = rustix::net::accept_with(&self.listener, flags) else { return };
            // One too many is closed at once.
            if self.callers.len() < MOST_CALLERS
                && let Ok(id) = self.watch(&socket)
            {
                self.callers.insert(id, Caller { socket, line: Vec::new() });
            }
        }
    }

    /// Reads a caller's line, byte by byte: what comes after it is for the guest.
    fn listen(&mut self, id: u64) {
        let Some(mut caller) = self.callers.remove(&id) else { return };
        while caller.line.len() < LINE {
            let mut byte = [0];
            match rustix::io::read(&caller.socket, &mut byte) {
                Ok(1) if byte == *b"\n" => return self.call(id, caller),
                Ok(1) => caller.line.push(byte[0]),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.callers.insert(id, caller);
                    return;
                }
                _ => return,
            }
        }
    }

    fn call(&mut self, id: u64, caller: Caller) {
        let line = String::from_utf8(caller.line).unwrap_or_default();
        let port = line.strip_prefix("CONNECT ").and_then(|port| port.trim_end_matches('\r').parse().ok());
        // Who says something else is hung up on.
        let Some(remote) = port.filter(|_| self.connections.len() < MOST) else { return };
        let mut local = self.next_port;
        while self.ports.contains_key(&(local, remote)) {
            local = local.wrapping_add(1).max(FIRST_PORT);
        }
        self.next_port = local.wrapping_add(1).max(FIRST_PORT);
        self.insert(id, Connection::new(caller.socket, local, remote, Phase::Requested));
    }

    fn insert(&mut self, id: u64, connection: Connection) {
        self.ports.insert((connection.local, connection.remote), id);
        self.connections.insert(id, connection);
        self.enqueue(id);
    }

    fn remove(&mut self, id: u64) {
        if let Some(connection) = self.connections.remove(&id) {
            self.ports.remove(&(connection.local, connection.remote));
        }
    }

    fn enqueue(&mut self, id: u64) {
        if let Some(connection) = self.connections.get_mut(&id)
            && !connection.queued
            && connection.has_news()
        {
            connection.queued = true;
            self.news.push_back(id);
        }
    }

    /// Takes a packet of the guest's (section 5.10.6).
    pub(super) fn take(&mut self, chain: &Chain, memory: &GuestMemory) {
        let Some(header) = chain.readable().array(memory, 0).map(|bytes| Header::from_bytes(&bytes)) else { return };
        if header.source != self.cid {
            // It isn't the guest's to say who it is; there is nobody to answer.
            return;
        }
        let whole = header.length <= chain.readable().len() - HEADER;
        if header.target != HOST || header.kind != STREAM || !whole {
            return self.refuse(&header);
        }
        match self.ports.get(&(header.target_port, header.source_port)).copied() {
            Some(id) => {
                if !self.packet(id, &header, chain, memory)
                    && let Some(connection) = self.connections.get_mut(&id)
                {
                    connection.phase = Phase::Gone;
                }
                if header.op == op::RESET {
                    self.remove(id);
                }
                self.enqueue(id);
            }
            None if header.op == op::REQUEST => self.connect(&header),
            None => self.refuse(&header),
        }
    }

    /// A packet of a connection; false if that is to end by it.
    fn packet(&mut self, id: u64, header: &Header, chain: &Chain, memory: &GuestMemory) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return true };
        if connection.phase == Phase::Gone || header.op == op::RESET {
            return true;
        }
        if !connection.credit(header) {
            return false;
        }
        match header.op {
            op::RESPONSE => connection.phase == Phase::Requested && connection.accepted(),
            op::SHUTDOWN => connection.shut(header.flags),
            op::DATA => connection.take(memory, &chain.readable().part(HEADER, header.length), header.length),
            op::CREDIT_UPDATE => true,
            op::CREDIT_REQUEST => {
                connection.want_update();
                true
            }
            _ => false,
        }
    }

    /// The guest wants to be connected to who listens at `path_PORT`.
    fn connect(&mut self, header: &Header) {
        let Some((id, socket)) = self.dial(header.target_port).filter(|_| self.connections.len() < MOST) else {
            return self.refuse(header);
        };
        let mut connection = Connection::new(socket, header.target_port, header.source_port, Phase::Open);
        connection.credit(header);
        self.insert(id, connection);
    }

    fn dial(&mut self, port: u32) -> Option<(u64, OwnedFd)> {
        let mut path = self.path.clone().into_os_string();
        path.push(format!("_{port}"));
        let address = SocketAddrUnix::new(PathBuf::from(path)).ok()?;
        let socket = socket().ok()?;
        rustix::net::connect(&socket, &address).ok()?;
        let id = self.watch(&socket).ok()?;
        Some((id, socket))
    }

    /// Section 5.10.6.4: what belongs to no connection is answered by a reset, but not a reset.
    fn refuse(&mut self, header: &Header) {
        if header.op != op::RESET && self.resets.len() < MOST_RESETS {
            self.resets.push_back(Header {
                source: header.target,
                target: header.source,
                source_port: header.target_port,
                target_port: header.source_port,
                kind: header.kind,
                op: op::RESET,
                ..Header::default()
            });
        }
    }

    /// Whether there may be something for the guest.
    pub(super) fn has_news(&self) -> bool {
        !self.news.is_empty() || !self.resets.is_empty()
    }

    /// Puts the next packet into a buffer of the guest's; how many bytes, if there was one.
    pub(super) fn give(&mut self, chain: &Chain, memory: &GuestMemory) -> Option<u32> {
        let writable = chain.writable();
        let header = match self.resets.pop_front() {
            Some(header) => header,
            None => loop {
                let id = self.news.pop_front()?;
                let Some(connection) = self.connections.get_mut(&id) else { continue };
                connection.queued = false;
                let said = connection.speak(memory, |most| writable.part(HEADER, most.min(BUFFER)));
                let ports = (connection.local, connection.remote);
                if connection.phase == Phase::Gone {
                    self.remove(id);
                } else {
                    self.enqueue(id);
                }
                if let Some(header) = said {
                    let (source_port, target_port) = ports;
                    break Header { source: HOST, target: self.cid, source_port, target_port, kind: STREAM, ..header };
                }
            },
        };
        writable.write(memory, 0, &header.to_bytes());
        Some(HEADER + header.length)
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.connections.len()
    }
}

impl AsFd for Mux {
    /// Readable when a socket is ready.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Drop for Mux {
    fn drop(&mut self) {
        let _ = rustix::fs::unlink(&self.path);
    }
}
