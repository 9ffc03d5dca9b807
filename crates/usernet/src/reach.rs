//! What the guest reaches: which socket of the host's stands for an address that it asks for.

use crate::link::Link;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The port at which the gateway answers names (RFC 1035 section 4.2).
pub(crate) const DNS: u16 = 53;

/// What is behind an address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// This, as the host sees it.
    Host(SocketAddr),
    /// Whoever the host asks for names.
    Resolver,
    /// The gateway, where nobody listens.
    Closed,
    /// Nothing that the guest may reach.
    Refused,
}

/// The rules.
#[derive(Debug)]
pub(crate) struct Reach {
    /// The gateway stands for the host's loopback device.
    pub(crate) host_loopback: bool,
    /// For tests: all that lies outside is here, so that they reach nobody else.
    pub(crate) elsewhere: Option<IpAddr>,
}

impl Reach {
    pub(crate) fn target(&self, link: &Link, to: SocketAddr) -> Target {
        let (address, port) = (to.ip(), to.port());
        if link.is_gateway(address) {
            let loopback: IpAddr = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
            return match port {
                DNS => Target::Resolver,
                0 => Target::Closed,
                _ if self.host_loopback => Target::Host(SocketAddr::new(loopback, port)),
                _ => Target::Closed,
            };
        }
        if port == 0 { Target::Refused } else { self.outside(link, to) }
    }

    /// The same for what isn't the gateway, and may have no port.
    pub(crate) fn outside(&self, link: &Link, to: SocketAddr) -> Target {
        if link.is_near(to.ip()) || !is_routable(to.ip()) {
            return Target::Refused;
        }
        Target::Host(SocketAddr::new(self.elsewhere.unwrap_or(to.ip()), to.port()))
    }
}

/// Whether an address is one that a router passes on. What isn't stays on a host or on a cable: to connect there would be to connect to
/// the host itself, or to what only it may talk to (a cloud's metadata service has a link-local address).
pub(crate) fn is_routable(address: IpAddr) -> bool {
    match address {
        // RFC 1122 section 3.2.1.3 (0/8 is this host), RFC 3927 section 7 (link-local), RFC 1112 section 4 (240/4, broadcast).
        IpAddr::V4(address) => {
            let [first, ..] = address.octets();
            first != 0 && first < 224 && !address.is_loopback() && !address.is_link_local()
        }
        // RFC 4291 section 2.5. The first 96 bits are zero in ::, ::1 and what once stood for IPv4 (section 2.5.5).
        IpAddr::V6(address) => {
            let no_host = address.to_ipv4_mapped().is_some() || address.segments()[..6] == [0; 6];
            !no_host && !address.is_multicast() && !address.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn target(host_loopback: bool, to: &str) -> Target {
        let reach = Reach { host_loopback, elsewhere: None };
        reach.target(&Link::new(&Config::default()), to.parse().unwrap())
    }

    #[test]
    fn what_is_outside_is_reached_as_it_is() {
        for to in ["192.0.2.1:80", "10.0.3.1:22", "203.0.113.9:53", "[2001:db8::1]:443", "[fd00::5]:1"] {
            assert_eq!(target(false, to), Target::Host(to.parse().unwrap()), "{to}");
        }
    }

    #[test]
    fn the_host_itself_is_reached_by_the_gateway_if_at_all() {
        for (to, loopback) in
            [("10.0.2.2:80", "127.0.0.1:80"), ("[fd69:6e73:756c::2]:80", "[::1]:80"), ("[fe80::2]:9", "[::1]:9")]
        {
            assert_eq!(target(false, to), Target::Closed, "{to}");
            assert_eq!(target(true, to), Target::Host(loopback.parse().unwrap()), "{to}");
        }
        assert_eq!(target(true, "10.0.2.2:53"), Target::Resolver);
        assert_eq!(target(true, "10.0.2.2:0"), Target::Closed);
    }

    #[test]
    fn what_is_the_hosts_own_is_refused_under_every_name() {
        for to in [
            "127.0.0.1:80",
            "127.255.0.1:80",
            "0.0.0.0:80",
            "0.1.2.3:80",
            "169.254.169.254:80",
            "224.0.0.1:80",
            "255.255.255.255:80",
            "240.0.0.1:80",
            "10.0.2.3:80",
            "10.0.2.255:80",
            "192.0.2.1:0",
            "[::]:80",
            "[::1]:80",
            "[::127.0.0.1]:80",
            "[::ffff:127.0.0.1]:80",
            "[::ffff:192.0.2.1]:80",
            "[fe80::1]:80",
            "[ff02::1]:80",
            "[fd69:6e73:756c::9]:80",
        ] {
            assert_eq!(target(true, to), Target::Refused, "{to}");
        }
    }
}
