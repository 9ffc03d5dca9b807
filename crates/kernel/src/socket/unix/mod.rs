//! Sockets within a host, unix(7).
//!
//! Streams and records (`SOCK_SEQPACKET`) are two ends of a [`Connection`](super::stream::Connection); datagrams go into the
//! [`Inbox`](super::inbox::Inbox) of whom they are for. A name is a file in the tree, found by the number of its inode, or *abstract*: bytes that only
//! sockets know.
//!
//! | module | holds |
//! |---|---|
//! | [`socket`](mod@socket) | the socket |
//! | [`names`] | names, and who has them |
//! | [`datagram`] | what datagrams do |
//! | [`flight`] | open files on their way, and those among them that nobody can receive any more |

mod datagram;
mod flight;
mod names;
mod seen;
#[allow(clippy::module_inception)]
mod socket;

pub use flight::Flights;
pub use names::{Abstracts, Names};
pub use seen::Seen;
pub use socket::UnixSocket;

use crate::sync::Mutex;
use crate::task::Task;
use crate::{Errno, Kernel, Result};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use insula_abi::net as n;
use socket::Kind;

/// What all Unix sockets of a kernel share.
#[derive(Default)]
pub struct Unix {
    /// Who has which name.
    pub names: Names,
    /// Open files on their way.
    pub flights: Flights,
    /// All sockets, by number.
    all: Mutex<BTreeMap<u64, Weak<UnixSocket>>>,
}

fn kind_of(kind: u32, protocol: i32) -> Result<Kind> {
    if protocol != 0 && protocol != n::AF_UNIX as i32 {
        return Err(Errno::EPROTONOSUPPORT);
    }
    match kind {
        n::SOCK_STREAM => Ok(Kind::Stream),
        // Linux takes it for the other.
        n::SOCK_DGRAM | n::SOCK_RAW => Ok(Kind::Datagram),
        n::SOCK_SEQPACKET => Ok(Kind::Records),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

/// One, without name and peer.
///
/// # Errors
/// `EPROTONOSUPPORT`, `ESOCKTNOSUPPORT`.
pub fn socket(kernel: &Arc<Kernel>, task: &Arc<Task>, kind: u32, protocol: i32) -> Result<Arc<UnixSocket>> {
    Ok(UnixSocket::new(kernel, &task.net(), task.credentials().uid.fs, kind_of(kind, protocol)?))
}

/// Two that are connected.
///
/// # Errors
/// Those of [`socket`](fn@socket).
pub fn pair(kernel: &Arc<Kernel>, task: &Arc<Task>, kind: u32, protocol: i32) -> Result<(Arc<UnixSocket>, Arc<UnixSocket>)> {
    let (one, other) = (socket(kernel, task, kind, protocol)?, socket(kernel, task, kind, protocol)?);
    UnixSocket::join(&one, &other, task);
    Ok((one, other))
}
