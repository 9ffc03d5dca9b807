//! Who speaks with whom.

use crate::link::Link;
use crate::reach::is_routable;
use crate::wire;
use std::net::{IpAddr, SocketAddr};

/// How.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    /// Echoes: what stands for the guest's port is the identifier, and the other's is 0.
    Ping,
}

impl Protocol {
    /// IANA's number for it.
    pub(crate) fn number(self, of_ipv6: bool) -> u8 {
        match self {
            Protocol::Tcp => wire::protocol::TCP,
            Protocol::Udp => wire::protocol::UDP,
            Protocol::Ping if of_ipv6 => wire::protocol::ICMPV6,
            Protocol::Ping => wire::protocol::ICMP,
        }
    }
}

/// A connection, or datagrams that belong together, as the guest sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Flow {
    pub(crate) protocol: Protocol,
    pub(crate) guest: SocketAddr,
    pub(crate) remote: SocketAddr,
}

impl Flow {
    pub(crate) fn is_ipv6(&self) -> bool {
        self.guest.is_ipv6()
    }

    /// How the guest sees a client that comes to one of its ports from outside: by the client's own address, unless that would mean another
    /// to the guest; then by the gateway's, and by another port if `others` says that it isn't free.
    pub(crate) fn from_outside(
        link: &Link,
        protocol: Protocol,
        client: SocketAddr,
        port: u16,
        others: impl Fn(&Flow) -> bool,
    ) -> Option<Flow> {
        let address = client.ip().to_canonical();
        // A client by IPv6 comes to a guest that has only IPv4 by that.
        let (of_ipv6, guest) = match link.guest_address(address.is_ipv6()) {
            Some(guest) => (address.is_ipv6(), guest),
            None => (false, link.guest_address(false)?),
        };
        let own = address.is_ipv6() == of_ipv6 && is_routable(address) && !link.is_near(address);
        let shown = if own { address } else { link.gateway_address(of_ipv6) };
        let flow = |from| Flow { protocol, guest: SocketAddr::new(guest, port), remote: SocketAddr::new(shown, from) };
        let first = client.port().max(1);
        (first..=u16::MAX).chain(1..first).map(flow).find(|flow| !others(flow))
    }

    /// The two ends of what goes to the guest: from, to.
    pub(crate) fn back(&self) -> (IpAddr, IpAddr) {
        (self.remote.ip(), self.guest.ip())
    }
}
