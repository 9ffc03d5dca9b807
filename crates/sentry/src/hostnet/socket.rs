//! A socket of the host's.

use super::{HostNetwork, address};
use crate::host::{errno, ready_for};
use insula_abi::net as n;
use insula_abi::socket::{ADDRESS_MAX, Cmsghdr, protocol};
use insula_abi::zerocopy::IntoBytes;
use insula_gofer::net::OPTIONS;
use insula_kernel::socket::control::{Item, parse};
use insula_kernel::socket::inet::ports::check_privilege;
use insula_kernel::socket::{Address, Common, Connect, Incoming, Outgoing, Received, Shutdown, Socket, Source, open_fast};
use insula_kernel::sync::Mutex;
use insula_kernel::task::Task;
use insula_kernel::wait::{Events, Observer, Pollable, Registration};
use insula_kernel::{Errno, Flow, Kernel, Result, SysResult};
use rustix::fd::OwnedFd;
use rustix::net::SocketFlags;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// The most that is carried at once, in bytes: a datagram of any size.
const AT_ONCE: usize = 64 << 10;
/// Control data of one message, in bytes: a few numbers and addresses.
const CONTROL: usize = 512;
/// The longest option that is asked for.
const OPTION: usize = 512;
/// What a program may say of a message, `MSG_*`. That nothing waits, and nobody is killed, is always said.
const SENT: u32 = n::MSG_OOB | n::MSG_DONTROUTE | n::MSG_MORE | n::MSG_EOR | n::MSG_CONFIRM;
/// The same, of what it receives.
const RECEIVED: u32 = n::MSG_OOB | n::MSG_PEEK | n::MSG_TRUNC | n::MSG_ERRQUEUE;

/// A socket of the host's.
pub(super) struct HostSocket {
    network: Arc<HostNetwork>,
    kernel: Weak<Kernel>,
    common: Common,
    fd: OwnedFd,
    listening: AtomicBool,
    /// With whom it is being connected.
    connecting: Mutex<Option<SocketAddr>>,
}

impl HostSocket {
    pub(super) fn new(network: &Arc<HostNetwork>, kernel: &Arc<Kernel>, common: Common, fd: OwnedFd) -> Arc<Self> {
        network.watcher.add(&fd, &common.queue);
        let (network, kernel) = (network.clone(), Arc::downgrade(kernel));
        Arc::new(HostSocket { network, kernel, common, fd, listening: AtomicBool::new(false), connecting: Mutex::default() })
    }

    fn is_option(level: u32, name: u32) -> bool {
        OPTIONS.contains(&(level, name))
    }

    fn ask_option(&self, level: u32, name: u32) -> Result<Vec<u8>> {
        self.network.net.option(&self.fd, level, name, OPTION).map_err(errno)
    }

    fn send_bytes(&self, bytes: &[u8], to: Option<&Address>, control: &[u8], flags: u32) -> Result<usize> {
        let to = to.map_or(&[][..], Address::bytes);
        let flags = flags & SENT | n::MSG_DONTWAIT;
        rustix::io::retry_on_intr(|| insula_sys::net::send(&self.fd, bytes, to, control, flags)).map_err(errno)
    }
}

impl Drop for HostSocket {
    fn drop(&mut self) {
        self.network.watcher.remove(&self.fd);
    }
}

impl Pollable for HostSocket {
    fn poll(&self) -> Events {
        ready_for(&self.fd)
    }

    fn observe(&self, interest: Events, observer: &Arc<dyn Observer>) -> Vec<Registration> {
        let registration = self.common.queue.register(interest, observer.clone());
        self.network.watcher.watch(&self.fd);
        vec![registration]
    }
}

/// Control data for the host: what a program says of how a packet is to be sent.
fn control_of(items: &[Item]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for item in items {
        match (item.level, item.kind) {
            (protocol::IP, n::IP_TTL | n::IP_TOS | n::IP_PKTINFO)
            | (protocol::IPV6, n::IPV6_HOPLIMIT | n::IPV6_TCLASS | n::IPV6_PKTINFO | n::IPV6_DONTFRAG)
            | (protocol::UDP, _) => {}
            _ => return Err(Errno::EINVAL),
        }
        let len = (size_of::<Cmsghdr>() + item.data.len()) as u64;
        bytes.extend_from_slice(Cmsghdr { len, level: item.level, kind: item.kind }.as_bytes());
        bytes.extend_from_slice(&item.data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    if bytes.len() > CONTROL { Err(Errno::ENOBUFS) } else { Ok(bytes) }
}

impl Socket for HostSocket {
    fn common(&self) -> &Common {
        &self.common
    }

    // The descriptor is closed when the last who uses it has gone.
    fn close(&self) {}

    fn is_stream(&self) -> bool {
        self.common.kind == n::SOCK_STREAM
    }

    fn bind(&self, task: &Arc<Task>, address: &Address) -> Result<()> {
        let at = match address::parse(self.common.domain, address)? {
            Some(at) => at,
            // As Linux has it, for programs that leave the family out (ip(7)).
            None if self.common.domain == n::AF_INET && address.bytes().get(4..8) == Some(&[0; 4]) => {
                let port = address.bytes().get(2..4).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
                (std::net::Ipv4Addr::UNSPECIFIED, port).into()
            }
            None => return Err(Errno::EAFNOSUPPORT),
        };
        check_privilege(&self.common.net, task, at.port())?;
        self.network.net.bind(&self.fd, at).map_err(errno)
    }

    fn listen(&self, _: &Arc<Task>, backlog: u32) -> Result<()> {
        self.network.net.listen(&self.fd, backlog).map_err(errno)?;
        self.listening.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn accept(&self) -> Result<Arc<dyn Socket>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::io::retry_on_intr(|| rustix::net::accept_with(&self.fd, flags)).map_err(errno)?;
        let kernel = self.kernel.upgrade().ok_or(Errno::EIO)?;
        Ok(HostSocket::new(&self.network, &kernel, self.common.inherit(&kernel, &self.common.net), fd))
    }

    fn connect(&self, _: &Arc<Task>, address: &Address) -> Result<Connect> {
        let to = address::parse(self.common.domain, address)?;
        match self.network.net.connect(&self.fd, to) {
            Ok(()) => Ok(Connect::Done),
            Err(rustix::io::Errno::INPROGRESS) => {
                *self.connecting.lock() = to;
                Ok(Connect::Pending)
            }
            Err(rustix::io::Errno::ALREADY) => Ok(Connect::Already),
            Err(error) => Err(errno(error)),
        }
    }

    fn connected(&self) -> Result<()> {
        if !self.poll().intersects(Events::OUT | Events::ERR | Events::HUP) {
            return Err(Errno::EAGAIN);
        }
        let Some(to) = self.connecting.lock().take() else {
            return self.take_error().map_or(Ok(()), Err);
        };
        // The host tells who asks once more how it went, and only then is it done with the attempt.
        match self.network.net.connect(&self.fd, Some(to)) {
            Ok(()) | Err(rustix::io::Errno::ISCONN) => Ok(()),
            Err(error) => Err(errno(error)),
        }
    }

    fn name(&self) -> Result<Address> {
        self.network.net.name(&self.fd).map(address::tell).map_err(errno)
    }

    fn peer_name(&self) -> Result<Address> {
        self.network.net.peer_name(&self.fd).map(address::tell).map_err(errno)
    }

    fn send(&self, task: &Arc<Task>, message: &mut Outgoing<'_>) -> Result<usize> {
        if self.is_stream() {
            open_fast(self, task, message)?;
        }
        let to = match message.to.map(|to| address::parse(self.common.domain, to)).transpose()? {
            // A stream has its peer.
            Some(Some(to)) if !self.is_stream() => Some(address::tell(to)),
            _ => None,
        };
        let control = control_of(&message.control.items)?;
        let whole = message.data.left();
        if !self.is_stream() && whole > AT_ONCE {
            return Err(Errno::EMSGSIZE);
        }
        // Of what comes in parts, all but the last are followed by more.
        let flags = if whole > AT_ONCE { message.flags | n::MSG_MORE } else { message.flags };
        match &mut message.data {
            Source::User(buffer) => {
                let mut bytes = vec![0; whole.min(AT_ONCE)];
                let count = buffer.peek(&mut bytes)?;
                if count < bytes.len() && !self.is_stream() {
                    return Err(Errno::EFAULT);
                }
                let sent = self.send_bytes(&bytes[..count], to.as_ref(), &control, flags)?;
                buffer.skip(sent as u64);
                Ok(sent)
            }
            Source::Kernel(bytes) => {
                let sent = self.send_bytes(&bytes[..whole.min(AT_ONCE)], to.as_ref(), &control, flags)?;
                *bytes = &bytes[sent..];
                Ok(sent)
            }
        }
    }

    fn receive(&self, _: &Arc<Task>, message: &mut Incoming<'_>) -> Result<Received> {
        let mut own = [0; 2048];
        let mut large = Vec::new();
        let room = message.data.left().min(AT_ONCE);
        let into = match own.get_mut(..room) {
            Some(own) => own,
            None => {
                large.resize(room, 0);
                &mut large[..]
            }
        };
        let (mut from, mut control) = ([0; ADDRESS_MAX], [0; CONTROL]);
        let flags = message.flags & RECEIVED | n::MSG_DONTWAIT;
        let receive = || insula_sys::net::receive(&self.fd, into, &mut from, &mut control, flags);
        let got = rustix::io::retry_on_intr(receive).map_err(errno)?;
        if self.is_stream() && flags & n::MSG_TRUNC != 0 {
            // Nothing is copied then, tcp(7).
            message.data.skip(got.bytes);
        } else if got.bytes > 0 {
            message.data.put(&into[..got.bytes.min(room)])?;
        }
        Ok(Received {
            count: got.bytes,
            flags: got.flags,
            from: (got.address > 0).then(|| Address::new(&from[..got.address])).transpose()?,
            items: parse(&control[..got.control.min(CONTROL)])?,
            ..Received::default()
        })
    }

    fn shutdown(&self, how: Shutdown) -> Result<()> {
        self.network.net.shutdown(&self.fd, how.read, how.write).map_err(errno)?;
        self.common.queue.wake(Events::all());
        Ok(())
    }

    fn unread(&self) -> Result<usize> {
        rustix::io::ioctl_fionread(&self.fd).map(|count| count as usize).map_err(errno)
    }

    fn unsent(&self) -> Result<usize> {
        insula_sys::net::unsent(&self.fd).map_err(errno)
    }

    fn ioctl(&self, task: &Arc<Task>, request: u32, argument: u64) -> SysResult {
        if request != insula_abi::ioctl::SIOCATMARK {
            return Err(Errno::ENOTTY);
        }
        let mark = insula_sys::net::at_mark(&self.fd).map_err(errno)?;
        task.mm().put(argument, &i32::from(mark))?;
        Ok(Flow::Done(0))
    }

    fn set_option(&self, _: &Arc<Task>, level: u32, name: u32, value: &[u8]) -> Result<()> {
        if !Self::is_option(level, name) {
            return Err(Errno::ENOPROTOOPT);
        }
        self.network.net.set_option(&self.fd, level, name, value).map_err(errno)
    }

    fn option(&self, _: &Arc<Task>, level: u32, name: u32, asked: &[u8]) -> Result<Vec<u8>> {
        if !Self::is_option(level, name) {
            let known = [protocol::IP, protocol::IPV6, self.common.protocol].contains(&level);
            return Err(if known { Errno::ENOPROTOOPT } else { Errno::EOPNOTSUPP });
        }
        self.network.net.option(&self.fd, level, name, asked.len()).map_err(errno)
    }

    fn set_own_option(&self, _: &Arc<Task>, name: u32, value: &[u8]) -> Option<Result<()>> {
        if !Self::is_option(n::SOL_SOCKET, name) {
            return None;
        }
        let outcome = self.network.net.set_option(&self.fd, n::SOL_SOCKET, name, value).map_err(errno);
        // How much a call waits for is the kernel's business, too.
        if outcome.is_ok()
            && name == n::SO_RCVLOWAT
            && let Some(low) = value.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes))
        {
            self.common.options.lock().receive_low = if low < 0 { i32::MAX as u32 } else { low.max(1) as u32 };
        }
        Some(outcome)
    }

    fn own_option(&self, name: u32) -> Option<Result<Vec<u8>>> {
        // What it is, is known here.
        let known = matches!(name, n::SO_TYPE | n::SO_ERROR);
        (Self::is_option(n::SOL_SOCKET, name) && !known).then(|| self.ask_option(n::SOL_SOCKET, name))
    }

    fn take_error(&self) -> Option<Errno> {
        let value = match self.ask_option(n::SOL_SOCKET, n::SO_ERROR) {
            Ok(value) => value.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes)),
            Err(errno) => u32::from(errno.0),
        };
        (value != 0).then_some(Errno(value as u16))
    }

    fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_concerns_a_packet_goes_along() {
        let item = |level, kind, data: &[u8]| Item { level, kind, data: data.to_vec() };
        let good = [item(protocol::IP, n::IP_TTL, &[1, 0, 0, 0]), item(protocol::IPV6, n::IPV6_TCLASS, &[2, 0, 0, 0])];
        assert_eq!(parse(&control_of(&good).unwrap()).unwrap(), good);
        assert_eq!(control_of(&[item(n::SOL_SOCKET, n::SCM_RIGHTS, &[0; 4])]), Err(Errno::EINVAL));
        assert_eq!(control_of(&vec![good[0].clone(); 100]), Err(Errno::ENOBUFS));
    }
}
