//! The open file of a socket.

use super::inet::interfaces;
use super::{Incoming, Outgoing, Sink, Socket, Source};
use crate::fs::{Attributes, Description, File, FileType, Io};
use crate::mm::UserBuf;
use crate::task::{Task, spaces};
use crate::wait::{Events, Observer, Pollable, Registration};
use crate::{Errno, Flow, Result, SysResult};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use insula_abi::general as c;
use insula_abi::{ioctl, net as n};

/// Opens the network that a socket is in (`linux/sockios.h`).
const SIOCGSKNS: u32 = 0x894c;

/// The open file of a socket, which closes it.
pub struct SocketFile {
    /// The socket.
    pub socket: Arc<dyn Socket>,
}

impl SocketFile {
    /// Of a new socket.
    pub fn new(socket: Arc<dyn Socket>) -> Arc<Self> {
        Arc::new(SocketFile { socket })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.socket.close();
    }
}

/// The socket of an open file.
///
/// # Errors
/// `ENOTSOCK`: it is none. `EBADF`: it is only named.
pub fn of(description: &Description) -> Result<&Arc<dyn Socket>> {
    if description.flags() & c::O_PATH != 0 {
        return Err(Errno::EBADF);
    }
    description.as_file::<SocketFile>().map(|file| &file.socket).ok_or(Errno::ENOTSOCK)
}

impl Pollable for SocketFile {
    fn poll(&self) -> Events {
        self.socket.poll()
    }

    fn observe(&self, interest: Events, observer: &Arc<dyn Observer>) -> Vec<Registration> {
        self.socket.observe(interest, observer)
    }
}

impl SocketFile {
    fn send(&self, task: &Arc<Task>, data: Source<'_>) -> Result<usize> {
        let mut message = Outgoing { data, to: None, control: &mut Default::default(), flags: 0 };
        super::transfer::send_once(&*self.socket, task, &mut message)
    }

    fn receive(&self, task: &Arc<Task>, data: Sink<'_>) -> Result<usize> {
        Ok(self.socket.receive(task, &mut Incoming { data, flags: 0 })?.count)
    }
}

impl File for SocketFile {
    fn file_type(&self) -> FileType {
        FileType::Socket
    }

    fn read(&self, io: &Io<'_>, _: u64, buffer: &mut UserBuf) -> Result<usize> {
        self.receive(io.task, Sink::User(buffer))
    }

    fn write(&self, io: &Io<'_>, _: u64, buffer: &mut UserBuf) -> Result<usize> {
        self.send(io.task, Source::User(buffer))
    }

    fn read_bytes(&self, io: &Io<'_>, _: u64, into: &mut [u8]) -> Result<usize> {
        self.receive(io.task, Sink::Kernel(into, 0))
    }

    fn write_bytes(&self, io: &Io<'_>, _: u64, from: &[u8]) -> Result<usize> {
        self.send(io.task, Source::Kernel(from))
    }

    fn ioctl(&self, io: &Io<'_>, request: u32, argument: u64) -> SysResult {
        let put = |value: usize| {
            io.task.mm().put(argument, &(i32::try_from(value).unwrap_or(i32::MAX)))?;
            Ok(Flow::Done(0))
        };
        match request {
            ioctl::FIONREAD => put(self.socket.unread()?),
            ioctl::TIOCOUTQ => put(self.socket.unsent()?),
            SIOCGSKNS => {
                let net = &self.socket.common().net;
                if !net.grants(io.task, c::CAP_NET_ADMIN) {
                    return Err(Errno::EPERM);
                }
                let limit = io.task.process.limit(c::RLIMIT_NOFILE);
                let fd = io.task.descriptors().add(spaces::open_net(net), true, 0, limit)?;
                Ok(Flow::Done(fd as u64))
            }
            request => match self.socket.ioctl(io.task, request, argument) {
                // Any socket is good to ask about interfaces, if_nametoindex(3).
                Err(Errno::ENOTTY) => interfaces::control(&self.socket.common().net, io.task, request, argument),
                outcome => outcome,
            },
        }
    }

    fn attributes(&self) -> Result<Attributes> {
        let common = self.socket.common();
        let mode = c::S_IFSOCK | common.mode.load(Ordering::Relaxed);
        Ok(Attributes { dev: 8, ino: common.ino, mode, nlink: 1, uid: common.uid, blksize: 4096, ..Attributes::default() })
    }

    fn set_mode(&self, mode: u32) -> Result<()> {
        self.socket.common().mode.store(mode, Ordering::Relaxed);
        Ok(())
    }

    fn describe(&self) -> Vec<u8> {
        format!("socket:[{}]", self.socket.common().ino).into_bytes()
    }
}

/// Flags of socket(2) and accept4(2) that are the open file's.
pub const FLAGS: u32 = c::O_NONBLOCK | c::O_CLOEXEC;

/// What `SOCK_*` says without them.
///
/// # Errors
/// `EINVAL`: other flags.
pub fn kind_of(kind: u64) -> Result<u32> {
    let kind = kind as u32;
    if kind & !(FLAGS | super::KIND_MASK) != 0 { Err(Errno::EINVAL) } else { Ok(kind & super::KIND_MASK) }
}

/// Whether a call with these `MSG_*` waits.
pub fn waits(description: &Description, flags: u32) -> bool {
    flags & (n::MSG_DONTWAIT | n::MSG_ERRQUEUE) == 0 && !description.nonblocking()
}
