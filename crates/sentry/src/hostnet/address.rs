//! Addresses, as programs pass them and as the host has them: ip(7), ipv6(7).

use insula_abi::net as n;
use insula_abi::socket::{SockaddrIn, SockaddrIn6};
use insula_kernel::socket::Address;
use insula_kernel::{Errno, Result};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Bytes of an IPv6 address as RFC 2133 had it, without a scope: Linux takes it still.
const OLD_SOCKADDR_IN6: usize = 24;

/// What a program passes to a socket of `domain`; none is "no address" (`AF_UNSPEC`).
///
/// # Errors
/// `EINVAL`: too short. `EAFNOSUPPORT`: of another family.
pub(super) fn parse(domain: u32, address: &Address) -> Result<Option<SocketAddr>> {
    let least = if domain == n::AF_INET6 { OLD_SOCKADDR_IN6 } else { size_of::<SockaddrIn>() };
    match address.family() {
        None => Err(Errno::EINVAL),
        Some(n::AF_UNSPEC) => Ok(None),
        Some(_) if address.bytes().len() < least => Err(Errno::EINVAL),
        Some(n::AF_INET) => {
            let found: SockaddrIn = address.get()?;
            // A socket of IPv6 takes an address of IPv4 only as a mapped one.
            if domain != n::AF_INET {
                return Err(Errno::EAFNOSUPPORT);
            }
            Ok(Some(SocketAddrV4::new(Ipv4Addr::from(found.address), u16::from_be_bytes(found.port)).into()))
        }
        Some(n::AF_INET6) if domain == n::AF_INET6 => {
            let bytes = address.bytes();
            let mut whole = [0; size_of::<SockaddrIn6>()];
            let length = bytes.len().min(whole.len());
            whole[..length].copy_from_slice(&bytes[..length]);
            let found: SockaddrIn6 = Address::new(&whole)?.get()?;
            let (flow, port) = (u32::from_be_bytes(found.flowinfo.to_ne_bytes()), u16::from_be_bytes(found.port));
            Ok(Some(SocketAddrV6::new(Ipv6Addr::from(found.address), port, flow, found.scope).into()))
        }
        Some(_) => Err(Errno::EAFNOSUPPORT),
    }
}

/// An address of the host's, as programs and calls have it.
pub(super) fn tell(at: SocketAddr) -> Address {
    let port = at.port().to_be_bytes();
    match at {
        SocketAddr::V4(at) => {
            Address::of(&SockaddrIn { family: n::AF_INET as u16, port, address: at.ip().octets(), ..SockaddrIn::default() })
        }
        SocketAddr::V6(at) => Address::of(&SockaddrIn6 {
            family: n::AF_INET6 as u16,
            port,
            flowinfo: u32::from_ne_bytes(at.flowinfo().to_be_bytes()),
            address: at.ip().octets(),
            scope: at.scope_id(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_were_told() {
        for text in ["1.2.3.4:80", "[::1]:443", "[::ffff:1.2.3.4]:80", "[fe80::1%3]:9"] {
            let at: SocketAddr = text.parse().unwrap();
            let domain = if at.is_ipv4() { n::AF_INET } else { n::AF_INET6 };
            assert_eq!(parse(domain, &tell(at)), Ok(Some(at)), "{text}");
            let (other, why) = if at.is_ipv4() { (n::AF_INET6, Errno::EINVAL) } else { (n::AF_INET, Errno::EAFNOSUPPORT) };
            assert_eq!(parse(other, &tell(at)), Err(why), "{text}");
        }
        assert_eq!(parse(n::AF_INET, &Address::new(&[0, 0]).unwrap()), Ok(None));
        assert_eq!(parse(n::AF_INET, &Address::new(&[2, 0, 0, 80]).unwrap()), Err(Errno::EINVAL));
        assert_eq!(parse(n::AF_INET, &Address::new(&[2]).unwrap()), Err(Errno::EINVAL));
    }
}
