//! The cable: who is at its two ends, and what the guest's end can take.

use crate::config::Config;
use crate::wire::{BROADCAST, ETHERNET, Mac, VNET};
use insula_sys::tap::Offload;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Our address on the cable: administered locally, for one card.
pub(crate) const OURS: Mac = [0x02, b'i', b'n', b's', b'u', b'l'];
/// The prefix that the guest takes an address from (RFC 4193); 64 bits long.
pub(crate) const PREFIX: Ipv6Addr = Ipv6Addr::new(0xfd69, 0x6e73, 0x756c, 0, 0, 0, 0, 0);
/// The gateway's address in it.
pub(crate) const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd69, 0x6e73, 0x756c, 0, 0, 0, 0, 2);
/// The gateway's address on the cable alone, by which routers are known (RFC 4861 section 4.2).
pub(crate) const LOCAL6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
/// The largest packet.
const LARGEST: usize = 65535;

/// Both ends.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) gateway: Ipv4Addr,
    /// The address that the guest is told to take.
    pub(crate) lease: Ipv4Addr,
    pub(crate) prefix: u8,
    pub(crate) mtu: u16,
    pub(crate) hostname: Option<String>,
    pub(crate) offload: Offload,
    /// The guest's, as far as it has said something.
    mac: Option<Mac>,
    address: Option<Ipv4Addr>,
    address6: Option<Ipv6Addr>,
}

impl Link {
    pub(crate) fn new(config: &Config) -> Link {
        Link {
            gateway: config.subnet.gateway(),
            lease: config.subnet.guest(),
            prefix: config.subnet.prefix(),
            mtu: config.mtu,
            hostname: config.hostname.clone(),
            offload: Offload::empty(),
            mac: None,
            address: None,
            address6: None,
        }
    }

    /// Forgets what the guest has said.
    pub(crate) fn clear(&mut self) {
        (self.mac, self.address, self.address6) = (None, None, None);
    }

    pub(crate) fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0))
    }

    pub(crate) fn broadcast(&self) -> Ipv4Addr {
        self.lease | !self.mask()
    }

    /// Whether an address lies on the cable.
    pub(crate) fn is_near(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => address & self.mask() == self.lease & self.mask(),
            IpAddr::V6(address) => address.segments()[..4] == PREFIX.segments()[..4] || address.is_unicast_link_local(),
        }
    }

    pub(crate) fn is_gateway(&self, address: IpAddr) -> bool {
        address == self.gateway || address == GATEWAY6 || address == LOCAL6
    }

    /// Whether the guest may say that it has this address.
    pub(crate) fn is_guest(&self, address: IpAddr) -> bool {
        let no_guest = match address {
            IpAddr::V4(address) => address == self.broadcast() || address == self.lease & self.mask(),
            IpAddr::V6(address) => address == PREFIX,
        };
        self.is_near(address) && !self.is_gateway(address) && !no_guest
    }

    /// Takes note of who the guest is.
    pub(crate) fn learn(&mut self, mac: Mac, address: IpAddr) {
        self.mac = Some(mac);
        match address {
            IpAddr::V4(address) => self.address = Some(address),
            IpAddr::V6(address) if !address.is_unicast_link_local() => self.address6 = Some(address),
            IpAddr::V6(_) => {}
        }
    }

    /// Where frames go. As long as the guest has said nothing, nobody else is there either.
    pub(crate) fn guest(&self) -> Mac {
        self.mac.unwrap_or(BROADCAST)
    }

    /// The guest's address of this kind, for connections from the host: the one it has used, else the one it is told to take.
    pub(crate) fn guest_address(&self, of_ipv6: bool) -> Option<IpAddr> {
        if of_ipv6 { self.address6.map(IpAddr::V6) } else { Some(self.address.unwrap_or(self.lease).into()) }
    }

    /// Our address of a kind, as those see it whose own address can't be shown to the guest.
    pub(crate) fn gateway_address(&self, of_ipv6: bool) -> IpAddr {
        if of_ipv6 { GATEWAY6.into() } else { self.gateway.into() }
    }

    /// The largest segment that we take, and that we send unless the guest takes less (RFC 9293 section 3.7.1).
    pub(crate) fn mss(&self, of_ipv6: bool) -> u16 {
        self.mtu - if of_ipv6 { 60 } else { 40 }
    }

    /// How much text a frame can carry, if segments of `mss` bytes can be.
    pub(crate) fn most_text(&self, of_ipv6: bool, mss: u16) -> usize {
        match (of_ipv6, self.offload.contains(if of_ipv6 { Offload::TSO6 } else { Offload::TSO4 })) {
            (_, false) => mss.into(),
            // IPv4 counts its header, IPv6 doesn't (RFC 791 section 3.1, RFC 8200 section 3).
            (false, true) => LARGEST - 40,
            (true, true) => LARGEST - 20,
        }
    }

    /// Whether the guest takes a frame of this length, with the header that leads it.
    pub(crate) fn takes(&self, length: usize) -> bool {
        // Who takes segments to be cut has room for 64 KiB.
        length <= VNET + ETHERNET + usize::from(self.mtu) || self.offload.intersects(Offload::TSO4 | Offload::TSO6)
    }

    /// Whether the guest makes the checksum itself.
    pub(crate) fn leaves_checksum(&self) -> bool {
        self.offload.contains(Offload::CHECKSUM)
    }
}
