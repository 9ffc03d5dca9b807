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
#[allow(clippy::module_inception)]
mod socket;

pub use flight::Flights;
pub use names::Names;
pub use socket::UnixSocket;

use crate::socket::Socket;
use crate::task::Task;
use crate::{Errno, Kernel, Result};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use insula_abi::net as n;
use socket::Kind;

/// What all Unix sockets of a kernel share.
#[derive(Default)]
pub struct Unix {
    /// Who has which name.
    pub names: Names,
    /// Open files on their way.
    pub flights: Flights,
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
    Ok(UnixSocket::new(kernel, task.credentials().uid.fs, kind_of(kind, protocol)?))
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

impl Unix {
    /// `/proc/net/unix`: sockets that have a name.
    pub fn show(&self) -> Vec<u8> {
        let mut text = b"Num       RefCount Protocol Flags    Type St Inode Path\n".to_vec();
        for socket in self.names.all() {
            let listening = socket.is_listening();
            let common = socket.common();
            let flags = if listening { 0x10000 } else { 0 };
            let state = if listening || common.kind == n::SOCK_DGRAM { 1 } else { 3 };
            let (kind, ino) = (common.kind, common.ino);
            let row = format!("0000000000000000: 00000002 00000000 {flags:08X} {kind:04X} {state:02X} {ino:5} ");
            text.extend_from_slice(row.as_bytes());
            if let Ok(name) = socket.name() {
                let name = name.bytes().get(2..).unwrap_or_default();
                let name = if name.first() == Some(&0) { name } else { name.strip_suffix(&[0]).unwrap_or(name) };
                text.extend(name.iter().map(|byte| if *byte == 0 { b'@' } else { *byte }));
            }
            text.push(b'\n');
        }
        text
    }
}
