//! Sockets, socket(7).
//!
//! A [`Socket`] is what a family offers of each of its sockets; a [`SocketFile`] makes an open file of it. Calls turn user memory into an
//! [`Outgoing`] or [`Incoming`] message ([`transfer`]), which the family carries.
//!
//! | module | holds |
//! |---|---|
//! | [`address`] | addresses as programs pass them |
//! | [`common`] | what all sockets have: options, a pending error, who waits |
//! | [`options`] | the options of `SOL_SOCKET` |
//! | [`net`] | namespaces of networks |
//! | [`control`] | control data: descriptors and credentials on their way |
//! | [`transfer`] | sending and receiving, with all waits |
//! | [`data`] | where bytes come from, and where they go |
//! | [`stream`] | two ways of bytes between two ends |
//! | [`inbox`] | datagrams that wait to be received |
//! | [`file`](mod@file) | the open file |
//! | [`unix`] | sockets within a host, unix(7) |
//! | [`inet`] | TCP and UDP |
//! | [`netlink`] | questions about the network |

pub mod address;
pub mod common;
pub mod control;
pub mod data;
pub mod file;
pub mod inbox;
pub mod inet;
pub mod net;
pub mod netlink;
pub mod options;
pub mod stream;
pub mod transfer;
pub mod unix;

#[cfg(test)]
mod tests;

pub use address::Address;
pub use common::Common;
pub use data::{Sink, Source};
pub use file::{SocketFile, of};
pub use net::{Net, NetSpace};

use crate::task::Task;
use crate::wait::{Observer, Pollable, Registration};
use crate::{Errno, Kernel, Result, SysResult};
use alloc::sync::Arc;
use alloc::vec::Vec;
use control::{Item, Sent};
use core::any::Any;
use core::sync::atomic::AtomicBool;
use insula_abi::socket::{MSG_FASTOPEN, Ucred};

/// What all sockets of a kernel share.
#[derive(Default)]
pub struct Sockets {
    /// Unix sockets, those among their names that are files, and descriptors in flight.
    pub unix: Arc<unix::Unix>,
    /// Somebody asked when bytes came: only then does each arrival cost a look at the clock (Linux: `netstamp_needed_key`).
    pub stamps: AtomicBool,
}

/// A message that is to be sent.
pub struct Outgoing<'a> {
    /// Its bytes.
    pub data: Source<'a>,
    /// To whom, if not to the peer.
    pub to: Option<&'a Address>,
    /// What goes along; a socket takes out what it has carried.
    pub control: &'a mut Sent,
    /// `MSG_*`.
    pub flags: u32,
}

/// Where a message is to be received.
pub struct Incoming<'a> {
    /// For its bytes.
    pub data: Sink<'a>,
    /// `MSG_*`.
    pub flags: u32,
}

/// A message that was received.
#[derive(Default)]
pub struct Received {
    /// The call's result: bytes.
    pub count: usize,
    /// `MSG_*` that tell of it.
    pub flags: u32,
    /// From whom.
    pub from: Option<Address>,
    /// Of whom, if that was asked for.
    pub credentials: Option<Ucred>,
    /// Open files that came along.
    pub rights: Vec<Arc<crate::fs::Description>>,
    /// More control data.
    pub items: Vec<Item>,
}

/// How far connect(2) came.
pub enum Connect {
    /// It is done.
    Done,
    /// It goes on by itself; [`Socket::connected`] says how it ends, once the socket can be written.
    Pending,
    /// The same, and it has begun before.
    Already,
    /// It may be tried again once that one can be written.
    Full(Arc<dyn Pollable>),
}

/// Which ways shutdown(2) closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// Nothing is received any more.
    pub read: bool,
    /// Nothing is sent any more.
    pub write: bool,
}

/// What a family offers of each of its sockets. Operations finish at once; one that would block says `EAGAIN`.
#[allow(unused_variables)]
pub trait Socket: Pollable + Any {
    /// What all sockets have.
    fn common(&self) -> &Common;

    /// Nobody has a descriptor of it any more.
    fn close(&self);

    /// Whether it carries bytes without bounds, so that a call may go on with the next part.
    fn is_stream(&self) -> bool {
        false
    }

    /// Gives it a name, bind(2).
    fn bind(&self, task: &Arc<Task>, address: &Address) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Takes connections from now on, so many at a time before they are accepted, listen(2).
    fn listen(&self, task: &Arc<Task>, backlog: u32) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// The next connection, accept(2).
    fn accept(&self) -> Result<Arc<dyn Socket>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Connects it, connect(2).
    fn connect(&self, task: &Arc<Task>, address: &Address) -> Result<Connect> {
        Err(Errno::EOPNOTSUPP)
    }

    /// How a connect that went on by itself has ended.
    fn connected(&self) -> Result<()> {
        Ok(())
    }

    /// Its name, getsockname(2).
    fn name(&self) -> Result<Address>;

    /// Its peer's name, getpeername(2).
    fn peer_name(&self) -> Result<Address> {
        Err(Errno::ENOTCONN)
    }

    /// Sends; answers how many bytes.
    fn send(&self, task: &Arc<Task>, message: &mut Outgoing<'_>) -> Result<usize>;

    /// Receives.
    fn receive(&self, task: &Arc<Task>, message: &mut Incoming<'_>) -> Result<Received>;

    /// shutdown(2).
    fn shutdown(&self, how: Shutdown) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Bytes that could be read now (`FIONREAD`).
    fn unread(&self) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Bytes that were sent and not yet read (`TIOCOUTQ`).
    fn unsent(&self) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Sets an option of another level than `SOL_SOCKET`, setsockopt(2).
    fn set_option(&self, task: &Arc<Task>, level: u32, name: u32, value: &[u8]) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// An option of another level than `SOL_SOCKET`, getsockopt(2); `asked` is what the program passed in.
    fn option(&self, task: &Arc<Task>, level: u32, name: u32, asked: &[u8]) -> Result<Vec<u8>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Sets an option of `SOL_SOCKET` that the family itself keeps; none: it is kept as those of all sockets are.
    fn set_own_option(&self, task: &Arc<Task>, name: u32, value: &[u8]) -> Option<Result<()>> {
        None
    }

    /// An option of `SOL_SOCKET` that the family itself keeps.
    fn own_option(&self, name: u32) -> Option<Result<Vec<u8>>> {
        None
    }

    /// An option of `SOL_SOCKET` was changed, or is about to be: what it means here.
    fn option_changed(&self, name: u32) {}

    /// An error that is to be told, once (`SO_ERROR`).
    fn take_error(&self) -> Option<Errno> {
        self.common().take_error()
    }

    /// Whether it takes connections (`SO_ACCEPTCONN`).
    fn is_listening(&self) -> bool {
        false
    }

    /// Who is at the other end (`SO_PEERCRED`).
    fn peer_credentials(&self) -> Option<Ucred> {
        None
    }

    /// ioctl(2), beside what all sockets know.
    fn ioctl(&self, task: &Arc<Task>, request: u32, argument: u64) -> SysResult {
        Err(Errno::ENOTTY)
    }

    /// Registers with whom else it waits for; its own queue is [`Common::queue`].
    fn observe_more(&self, observer: &Arc<dyn Observer>) -> Vec<Registration> {
        Vec::new()
    }
}

/// `SOCK_*` without flags.
pub const KIND_MASK: u32 = 0xf;

/// A socket of a family, socket(2).
///
/// # Errors
/// `EAFNOSUPPORT`, `ESOCKTNOSUPPORT`, `EPROTONOSUPPORT`, `EINVAL`, `EPERM`, `EACCES`.
pub fn make(kernel: &Arc<Kernel>, task: &Arc<Task>, domain: u32, kind: u32, protocol: i32) -> Result<Arc<dyn Socket>> {
    use insula_abi::net as n;
    if domain >= n::AF_MAX {
        return Err(Errno::EAFNOSUPPORT);
    }
    if kind > 10 {
        return Err(Errno::EINVAL);
    }
    match domain {
        n::AF_UNIX => Ok(unix::socket(kernel, task, kind, protocol)?),
        n::AF_INET | n::AF_INET6 => inet::socket(kernel, task, domain, kind, protocol),
        n::AF_NETLINK => Ok(netlink::socket(kernel, task, kind, protocol)?),
        n::AF_PACKET if !task.net().grants(task, insula_abi::general::CAP_NET_RAW) => Err(Errno::EPERM),
        _ => Err(Errno::EAFNOSUPPORT),
    }
}

/// Connects a stream first, if a message is sent with `MSG_FASTOPEN`. Its bytes don't go with the request: that would win nothing
/// within a sandbox, and elsewhere takes a cookie that there never is.
///
/// # Errors
/// As connect(2); `EINVAL`: it is said to nobody. `EAGAIN`: that takes a while.
pub fn open_fast(socket: &dyn Socket, task: &Arc<Task>, message: &Outgoing<'_>) -> Result<()> {
    if message.flags & MSG_FASTOPEN == 0 {
        return Ok(());
    }
    let to = message.to.ok_or(Errno::EINVAL)?;
    if to.family() == Some(insula_abi::net::AF_UNSPEC) {
        return Err(Errno::EOPNOTSUPP);
    }
    match socket.connect(task, to) {
        Ok(_) | Err(Errno::EALREADY) => socket.connected(),
        Err(errno) => Err(errno),
    }
}

/// Two that are connected, socketpair(2).
///
/// # Errors
/// As [`make`]; `EOPNOTSUPP`: the family has none.
pub fn pair(
    kernel: &Arc<Kernel>,
    task: &Arc<Task>,
    domain: u32,
    kind: u32,
    protocol: i32,
) -> Result<(Arc<dyn Socket>, Arc<dyn Socket>)> {
    if domain == insula_abi::net::AF_UNIX && kind <= 10 {
        let (one, other) = unix::pair(kernel, task, kind, protocol)?;
        return Ok((one, other));
    }
    make(kernel, task, domain, kind, protocol)?;
    Err(Errno::EOPNOTSUPP)
}
