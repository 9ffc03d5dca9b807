//! The addresses of a bridge and of what hangs on it: all of them follow from two numbers, the network's and the container's.
//!
//! Network N has 10.83.(8N).0/21 and fd69:6e73:756c:(N+1)::/64. In the IPv4 range, the lower half is for containers (the first address is the
//! bridge's), and the upper half for their resolvers: what a container at 10.83.0.5 asks for names is 10.83.4.5. The whole upper half is the host's
//! by one local route, so that such an address needs no making; the process that answers there is the container's own.

use std::net::{Ipv4Addr, Ipv6Addr};

/// So many networks can be on a host: each store that is used has one.
pub(crate) const NETWORKS: u8 = 32;
/// Of the 2048 addresses of a network.
pub(crate) const PREFIX: u8 = 21;
/// Of the IPv6 addresses.
pub(crate) const PREFIX6: u8 = 64;
/// The upper half, for resolvers.
const RESOLVERS: u16 = 1024;
/// The first and the last number that a container can have. (The kernel's bridge has no more than 1024 ports.)
pub(crate) const FIRST: u16 = 2;
pub(crate) const LAST: u16 = 1022;

/// A network by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subnet(pub(crate) u8);

impl Subnet {
    fn at(self, number: u16) -> Ipv4Addr {
        let base = u32::from(Ipv4Addr::new(10, 83, 0, 0)) + (u32::from(self.0) << (32 - PREFIX));
        Ipv4Addr::from(base + u32::from(number))
    }

    /// The name of its bridge, and of its table of rules.
    pub(crate) fn bridge(self) -> String {
        format!("insula{}", self.0)
    }

    /// Its first address, for a range in writing.
    pub(crate) fn base(self) -> Ipv4Addr {
        self.at(0)
    }

    /// The bridge's own address.
    pub(crate) fn gateway(self) -> Ipv4Addr {
        self.at(1)
    }

    /// The bridge's own IPv6 address.
    pub(crate) fn gateway6(self) -> Ipv6Addr {
        self.container6(1)
    }

    /// The first of the IPv6 addresses.
    pub(crate) fn base6(self) -> Ipv6Addr {
        self.container6(0)
    }

    /// A container's address.
    pub(crate) fn container(self, number: u16) -> Ipv4Addr {
        self.at(number)
    }

    /// A container's IPv6 address.
    pub(crate) fn container6(self, number: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfd69, 0x6e73, 0x756c, u16::from(self.0) + 1, 0, 0, 0, number)
    }

    /// Whom a container asks for names.
    pub(crate) fn resolver(self, number: u16) -> Ipv4Addr {
        self.at(RESOLVERS + number)
    }

    /// The first of the resolvers' addresses, and how long their prefix is.
    pub(crate) fn resolvers(self) -> (Ipv4Addr, u8) {
        (self.at(RESOLVERS), PREFIX + 1)
    }

    /// Whose address this is, if it is a container's.
    pub(crate) fn number(self, address: Ipv4Addr) -> Option<u16> {
        let number = u32::from(address).checked_sub(u32::from(self.base()))?;
        u16::try_from(number).ok().filter(|number| (FIRST..=LAST).contains(number))
    }

    /// The same of an IPv6 address.
    pub(crate) fn number6(self, address: Ipv6Addr) -> Option<u16> {
        let number = address.segments()[7];
        ((FIRST..=LAST).contains(&number) && self.container6(number) == address).then_some(number)
    }

    /// Whether this range has addresses in common with the network's.
    pub(crate) fn overlaps(self, other: Ipv4Addr, prefix: u8) -> bool {
        let shorter = prefix.min(PREFIX);
        let mask = u32::MAX.checked_shl(32 - u32::from(shorter)).unwrap_or(0);
        u32::from(other) & mask == u32::from(self.base()) & mask
    }

    /// The host's end of a container's link.
    pub(crate) fn link(self, number: u16) -> String {
        format!("{}-{number}", self.bridge())
    }

    /// The address of a container's card. With the IP address it changes, so that no neighbour takes the next container for the last.
    pub(crate) fn mac(self, number: u16) -> [u8; 6] {
        let [a, b, c, d] = self.container(number).octets();
        // Administered locally, for one card.
        [0x02, b'i', a, b, c, d]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_follow_from_two_numbers() {
        let net = Subnet(0);
        assert_eq!((net.base().to_string(), net.gateway().to_string()), ("10.83.0.0".into(), "10.83.0.1".into()));
        assert_eq!((net.container(5).to_string(), net.resolver(5).to_string()), ("10.83.0.5".into(), "10.83.4.5".into()));
        assert_eq!(net.container(1022).to_string(), "10.83.3.254");
        assert_eq!(net.container6(5).to_string(), "fd69:6e73:756c:1::5");
        assert_eq!(net.resolvers(), ("10.83.4.0".parse().unwrap(), 22));
        let last = Subnet(NETWORKS - 1);
        assert_eq!((last.base().to_string(), last.bridge()), ("10.83.248.0".into(), "insula31".into()));
        assert!(last.link(LAST).len() < 16, "a name of a device has 15 bytes at most");
    }

    #[test]
    fn a_number_is_found_by_its_address() {
        let net = Subnet(3);
        for number in [FIRST, 300, LAST] {
            assert_eq!(net.number(net.container(number)), Some(number));
            assert_eq!(net.number6(net.container6(number)), Some(number));
        }
        for other in [net.gateway(), net.resolver(7), Subnet(2).container(5), Ipv4Addr::new(192, 0, 2, 1)] {
            assert_eq!(net.number(other), None, "{other}");
        }
        assert_eq!(net.number6(Subnet(2).container6(5)), None);
    }

    #[test]
    fn ranges_in_use_are_seen() {
        let net = Subnet(1);
        for (other, prefix, overlaps) in [
            ("10.0.0.0", 8, true),
            ("10.83.8.0", 24, true),
            ("10.83.15.7", 32, true),
            ("10.83.16.0", 21, false),
            ("10.83.0.0", 21, false),
            ("192.168.0.0", 16, false),
            ("0.0.0.0", 0, true),
        ] {
            assert_eq!(net.overlaps(other.parse().unwrap(), prefix), overlaps, "{other}/{prefix}");
        }
    }
}
