//! Addresses and ports, and how programs pass them.

use crate::socket::Address;
use crate::{Errno, Result};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use insula_abi::net as n;
use insula_abi::socket::{SockaddrIn, SockaddrIn6};

/// Bytes of an IPv6 address as RFC 2133 had it, without a scope: Linux takes it still.
const OLD_SOCKADDR_IN6: usize = 24;

/// Reads an address that a program passes to a socket of `domain`. An IPv4 address mapped into IPv6 is the IPv4 address.
///
/// # Errors
/// `EINVAL`: too short. `EAFNOSUPPORT`: of another family.
pub fn parse(domain: u32, address: &Address) -> Result<SocketAddr> {
    if domain == n::AF_INET {
        let found: SockaddrIn = address.get()?;
        if u32::from(found.family) != n::AF_INET {
            return Err(Errno::EAFNOSUPPORT);
        }
        return Ok((Ipv4Addr::from(found.address), u16::from_be_bytes(found.port)).into());
    }
    let bytes = address.bytes();
    if bytes.len() < OLD_SOCKADDR_IN6 {
        return Err(Errno::EINVAL);
    }
    if address.family() != Some(n::AF_INET6) {
        return Err(Errno::EAFNOSUPPORT);
    }
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    let ip = <[u8; 16]>::try_from(&bytes[8..24]).map_err(|_| Errno::EINVAL)?;
    Ok((Ipv6Addr::from(ip).to_canonical(), port).into())
}

/// How an address is told by a socket of `domain`.
pub fn tell(domain: u32, at: SocketAddr) -> Address {
    let port = at.port().to_be_bytes();
    match (domain, at.ip()) {
        (n::AF_INET, IpAddr::V4(ip)) => {
            Address::of(&SockaddrIn { family: n::AF_INET as u16, port, address: ip.octets(), ..SockaddrIn::default() })
        }
        (n::AF_INET, IpAddr::V6(_)) => Address::of(&SockaddrIn { family: n::AF_INET as u16, port, ..SockaddrIn::default() }),
        (_, ip) => {
            let ip = match ip {
                // Any address is any of both families.
                IpAddr::V4(ip) if ip.is_unspecified() => Ipv6Addr::UNSPECIFIED,
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            Address::of(&SockaddrIn6 { family: n::AF_INET6 as u16, port, address: ip.octets(), ..SockaddrIn6::default() })
        }
    }
}

/// No address of a family.
pub fn unspecified(domain: u32) -> IpAddr {
    if domain == n::AF_INET { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// Where something goes that is sent to `to`: to no address is to oneself.
pub fn destination(to: SocketAddr) -> SocketAddr {
    match to.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, to.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, to.port()).into(),
        _ => to,
    }
}

/// Where a socket is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// At which address; unspecified is all of its family, and for IPv6 of both, but for `only6`.
    pub ip: IpAddr,
    /// At which port.
    pub port: u16,
    /// Not over IPv4 (`IPV6_V6ONLY`).
    pub only6: bool,
}

impl Local {
    /// Whether what goes to `ip` reaches it.
    pub fn takes(&self, ip: IpAddr) -> bool {
        match (self.ip, ip) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => own.is_unspecified() || own == ip,
            (IpAddr::V6(own), IpAddr::V6(ip)) => own.is_unspecified() || own == ip,
            (IpAddr::V6(own), IpAddr::V4(_)) => own.is_unspecified() && !self.only6,
            (IpAddr::V4(_), IpAddr::V6(_)) => false,
        }
    }

    /// Whether something could reach both.
    pub fn overlaps(&self, other: &Local) -> bool {
        let any = |one: &Local, other: &Local| {
            one.ip.is_unspecified() && (one.takes(other.ip) || other.ip.is_ipv4() == one.ip.is_ipv4())
        };
        self.ip == other.ip || any(self, other) || any(other, self)
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        (self.ip, self.port).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(ip: &str, only6: bool) -> Local {
        Local { ip: ip.parse().expect("an address"), port: 1, only6 }
    }

    #[test]
    fn addresses_overlap_as_linux_has_it() {
        let overlaps = |one: &str, other: &str| local(one, false).overlaps(&local(other, false));
        assert!(overlaps("0.0.0.0", "127.0.0.1") && overlaps("127.0.0.1", "0.0.0.0") && overlaps("127.0.0.1", "127.0.0.1"));
        assert!(!overlaps("127.0.0.1", "127.0.0.2") && !overlaps("::1", "127.0.0.1") && !overlaps("::1", "0.0.0.0"));
        assert!(overlaps("::", "127.0.0.1") && overlaps("::", "0.0.0.0") && overlaps("::1", "::") && overlaps("0.0.0.0", "::"));
        assert!(!local("::", true).overlaps(&local("0.0.0.0", false)) && local("::", true).overlaps(&local("::1", false)));
    }

    #[test]
    fn addresses_come_back_as_they_were_told() {
        for (domain, text) in [(n::AF_INET, "127.0.0.1:80"), (n::AF_INET6, "[::1]:80"), (n::AF_INET6, "10.0.0.1:80")] {
            let at: SocketAddr = text.parse().expect("an address");
            assert_eq!(parse(domain, &tell(domain, at)), Ok(at));
        }
        assert_eq!(parse(n::AF_INET, &Address::new(&[2, 0, 0, 80]).expect("short")), Err(Errno::EINVAL));
        assert_eq!(parse(n::AF_INET, &tell(n::AF_INET6, "[::1]:80".parse().expect("one"))), Err(Errno::EAFNOSUPPORT));
        assert_eq!(parse(n::AF_INET6, &tell(n::AF_INET, "1.2.3.4:80".parse().expect("one"))), Err(Errno::EINVAL));
    }
}
