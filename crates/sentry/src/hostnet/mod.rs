//! The host's network in the kernel: sockets that are the host's, which the net process makes, and the interfaces that programs see.
//!
//! The sentry itself can only receive from a socket, send to it, accept its connections, and ask whether it is ready. What decides with whom it
//! speaks (its making, its name, its peer, its options) is asked of the net process ([`insula_gofer::net`]).
//!
//! | module | holds |
//! |---|---|
//! | [`socket`](mod@socket) | a socket of the host's |
//! | [`address`] | addresses, as programs pass them and as the host has them |
//! | [`interfaces`] | what the host's network looks like |

mod address;
mod interfaces;
mod socket;

pub use interfaces::{Seen, look};

use crate::host::{Watcher, errno};
use insula_abi::net as n;
use insula_abi::socket::protocol;
use insula_gofer::net::{Kind, Net};
use insula_kernel::socket::{Common, Socket};
use insula_kernel::{Kernel, Result, host};
use std::sync::Arc;

/// The host's network.
pub struct HostNetwork {
    net: Net,
    watcher: Arc<Watcher>,
}

impl HostNetwork {
    /// By this net process; the watcher tells of sockets that become ready.
    pub fn new(net: Net, watcher: &Arc<Watcher>) -> Arc<Self> {
        Arc::new(HostNetwork { net, watcher: watcher.clone() })
    }
}

/// What the kernel knows of it.
pub struct Network(pub Arc<HostNetwork>);

impl host::Network for Network {
    fn socket(&self, kernel: &Arc<Kernel>, uid: u32, domain: u32, kind: u32, number: u32) -> Result<Arc<dyn Socket>> {
        let carries = match (kind, number) {
            (n::SOCK_STREAM, _) => Kind::Stream,
            (_, protocol::ICMP | protocol::ICMPV6) => Kind::Echo,
            _ => Kind::Datagram,
        };
        let fd = self.0.net.open(domain == n::AF_INET6, carries).map_err(errno)?;
        let common = Common::new(kernel, &kernel.spaces.net, uid, domain, kind, number);
        Ok(socket::HostSocket::new(&self.0, kernel, common, fd))
    }
}
