//! What all sockets have.

use super::inet::Inet;
use super::net::NetSpace;
use crate::sync::Mutex;
use crate::task::Task;
use crate::wait::Queue;
use crate::{Errno, Kernel, Result};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU16, AtomicU32, AtomicU64, Ordering};
use insula_abi::socket::Ucred;

/// Bytes that a socket may have under way, or waiting, at first (Linux: `net.core.wmem_default`).
pub const BUFFER: u32 = 212_992;
/// The most that a program without rights may ask for, before doubling (Linux: `net.core.wmem_max`).
pub const BUFFER_MAX: u32 = 212_992;
/// The least that is kept for sending (Linux: `SOCK_MIN_SNDBUF`).
pub const SEND_BUFFER_MIN: u32 = 4608;
/// The least that is kept for receiving (Linux: `SOCK_MIN_RCVBUF`).
pub const RECEIVE_BUFFER_MIN: u32 = 2304;

/// No timeout.
pub const NEVER: u64 = u64::MAX;

/// What all sockets have.
pub struct Common {
    /// The network that it is in.
    pub net: Arc<NetSpace>,
    /// `AF_*`.
    pub domain: u32,
    /// `SOCK_*`.
    pub kind: u32,
    /// The protocol.
    pub protocol: u32,
    /// Its number, for fstat(2).
    pub ino: u64,
    /// Whose it is.
    pub uid: u32,
    /// Permission bits: of a socket of unix(7), those of the file that it is bound to.
    pub mode: AtomicU32,
    /// Who waits.
    pub queue: Arc<Queue>,
    /// Bytes that may be under way.
    pub send_buffer: AtomicU32,
    /// Bytes that may wait.
    pub receive_buffer: AtomicU32,
    /// Whether a program has set those, `SOCK_*BUF_LOCK`.
    pub buffer_lock: AtomicU32,
    /// Nanoseconds that a call waits at most to send.
    pub send_timeout: AtomicU64,
    /// Nanoseconds that a call waits at most to receive.
    pub receive_timeout: AtomicU64,
    /// Where the next peek begins (`SO_PEEK_OFF`); -1 is at the beginning, always.
    pub peek_offset: AtomicI32,
    /// Whether credentials are wanted with each message.
    pub pass_credentials: AtomicBool,
    /// An error that the next call tells.
    error: AtomicU16,
    /// The others.
    pub options: Mutex<Options>,
}

/// Options that are looked at seldom.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // socket(7) describes each.
pub struct Options {
    pub debug: bool,
    pub reuse_address: bool,
    pub reuse_port: bool,
    pub keep_alive: bool,
    pub broadcast: bool,
    pub out_of_band_inline: bool,
    pub dont_route: bool,
    pub no_checksum: bool,
    pub pass_security: bool,
    pub pass_pidfd: bool,
    pub overflow: bool,
    pub zero_copy: bool,
    /// Seconds.
    pub linger: Option<u32>,
    pub priority: u32,
    pub mark: u32,
    pub receive_low: u32,
    pub busy_poll: u32,
    /// Index of the interface it is bound to; 0 is none.
    pub device: u32,
    /// `SO_TIMESTAMP`, or `SO_TIMESTAMPNS`; 0 is none.
    pub timestamp: u32,
    /// `SOF_TIMESTAMPING_*`, and which of the two options set them.
    pub timestamping: u32,
    pub timestamping_kind: u32,
    /// `SO_TXTIME`: clock and flags.
    pub send_time: Option<[u32; 2]>,
    pub max_pacing: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            debug: false,
            reuse_address: false,
            reuse_port: false,
            keep_alive: false,
            broadcast: false,
            out_of_band_inline: false,
            dont_route: false,
            no_checksum: false,
            pass_security: false,
            pass_pidfd: false,
            overflow: false,
            zero_copy: false,
            linger: None,
            priority: 0,
            mark: 0,
            receive_low: 1,
            busy_poll: 0,
            device: 0,
            timestamp: 0,
            timestamping: 0,
            timestamping_kind: 0,
            send_time: None,
            max_pacing: u64::MAX,
        }
    }
}

impl Common {
    /// Of a new socket.
    pub fn new(kernel: &Kernel, net: &Arc<NetSpace>, uid: u32, domain: u32, kind: u32, protocol: u32) -> Self {
        Common {
            net: net.clone(),
            domain,
            kind,
            protocol,
            ino: kernel.anonymous_inode(),
            uid,
            mode: AtomicU32::new(0o777),
            queue: Queue::new(),
            send_buffer: AtomicU32::new(BUFFER),
            receive_buffer: AtomicU32::new(BUFFER),
            buffer_lock: AtomicU32::new(0),
            send_timeout: AtomicU64::new(NEVER),
            receive_timeout: AtomicU64::new(NEVER),
            peek_offset: AtomicI32::new(-1),
            pass_credentials: AtomicBool::new(false),
            error: AtomicU16::new(0),
            options: Mutex::default(),
        }
    }

    /// Of a socket that was accepted: options are the listener's.
    pub fn inherit(&self, kernel: &Kernel, net: &Arc<NetSpace>) -> Self {
        let new = Common::new(kernel, net, self.uid, self.domain, self.kind, self.protocol);
        let copy = |from: &AtomicU32, to: &AtomicU32| to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        copy(&self.send_buffer, &new.send_buffer);
        copy(&self.receive_buffer, &new.receive_buffer);
        copy(&self.buffer_lock, &new.buffer_lock);
        new.send_timeout.store(self.send_timeout.load(Ordering::Relaxed), Ordering::Relaxed);
        new.receive_timeout.store(self.receive_timeout.load(Ordering::Relaxed), Ordering::Relaxed);
        new.pass_credentials.store(self.pass_credentials.load(Ordering::Relaxed), Ordering::Relaxed);
        *new.options.lock() = self.options.lock().clone();
        new
    }

    /// Ports and interfaces of its network.
    pub fn inet(&self) -> &Inet {
        &self.net.holds.inet
    }

    /// Bytes that may be under way.
    pub fn send_room(&self) -> usize {
        self.send_buffer.load(Ordering::Relaxed) as usize
    }

    /// Bytes that may wait.
    pub fn receive_room(&self) -> usize {
        self.receive_buffer.load(Ordering::Relaxed) as usize
    }

    /// Whether credentials are wanted with each message.
    pub fn passes_credentials(&self) -> bool {
        self.pass_credentials.load(Ordering::Relaxed)
    }

    /// The next call tells this error.
    pub fn set_error(&self, error: Errno) {
        self.error.store(error.0, Ordering::SeqCst);
    }

    /// The error that is to be told, which is told once.
    pub fn take_error(&self) -> Option<Errno> {
        if !self.has_error() {
            return None;
        }
        let error = self.error.swap(0, Ordering::SeqCst);
        (error != 0).then_some(Errno(error))
    }

    /// Whether there is one.
    pub fn has_error(&self) -> bool {
        self.error.load(Ordering::SeqCst) != 0
    }

    /// Tells it.
    ///
    /// # Errors
    /// That one.
    pub fn check_error(&self) -> Result<()> {
        self.take_error().map_or(Ok(()), Err)
    }
}

/// Who a task is, to those it speaks with.
pub fn credentials_of(task: &Arc<Task>) -> Ucred {
    let credentials = task.credentials();
    Ucred { pid: task.process.pid, uid: credentials.uid.effective, gid: credentials.gid.effective }
}

/// As it goes along with messages: the real numbers.
pub fn real_credentials_of(task: &Arc<Task>) -> Ucred {
    let credentials = task.credentials();
    Ucred { pid: task.process.pid, uid: credentials.uid.real, gid: credentials.gid.real }
}

/// Who somebody is, as a task is told.
pub fn shown(task: &Task, who: Ucred) -> Ucred {
    let space = &task.credentials().space;
    Ucred { pid: task.name_of(who.pid), uid: space.show_user(who.uid), gid: space.show_group(who.gid) }
}
