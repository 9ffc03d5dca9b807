//! Sockets: addresses, messages with control data, and pairs.

use super::{plain, sys, zeroed};
use crate::check::{end_skipped, fail, name};
use libc::{AF_INET, AF_INET6, AF_UNIX, SOCK_DGRAM, c_int, iovec, msghdr, sockaddr_in, sockaddr_in6, sockaddr_un};

/// A pair of Unix sockets of this type.
#[track_caller]
pub(crate) fn pair(kind: c_int) -> (usize, usize) {
    let mut ends = [0i32; 2];
    match sys!(socketpair(AF_UNIX, kind, 0, &mut ends)) {
        Ok(_) => (ends[0] as usize, ends[1] as usize),
        Err(error) => fail(&format!("socketpair: {}", name(error))),
    }
}

/// A Unix address, and its length. A name that begins with a zero byte is an abstract one.
pub(crate) fn unix(name: &[u8]) -> (sockaddr_un, usize) {
    let mut address: sockaddr_un = zeroed();
    address.sun_family = AF_UNIX as u16;
    for (to, from) in address.sun_path.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    (address, 2 + name.len())
}

/// A port of the loopback interface, by IPv4.
pub(crate) fn ip4(port: u16) -> sockaddr_in {
    let mut address: sockaddr_in = zeroed();
    address.sin_family = AF_INET as u16;
    address.sin_port = port.to_be();
    address.sin_addr.s_addr = u32::from_be_bytes([127, 0, 0, 1]).to_be();
    address
}

/// A port of the loopback interface, by IPv6.
pub(crate) fn ip6(port: u16) -> sockaddr_in6 {
    let mut address: sockaddr_in6 = zeroed();
    address.sin6_family = AF_INET6 as u16;
    address.sin6_port = port.to_be();
    address.sin6_addr.s6_addr[15] = 1;
    address
}

/// The size of both kinds of IP address, in bytes.
pub(crate) const IP4: usize = size_of::<sockaddr_in>();
pub(crate) const IP6: usize = size_of::<sockaddr_in6>();

/// Whether the loopback interface is up, for this family.
fn loopback_is_up(family: c_int) -> bool {
    sys!(socket(family, SOCK_DGRAM, 0)).is_ok_and(|fd| {
        let connected = if family == AF_INET { sys!(connect(fd, &ip4(9), IP4)) } else { sys!(connect(fd, &ip6(9), IP6)) };
        let _ = sys!(close(fd));
        connected.is_ok()
    })
}

/// Makes sure that there is a loopback interface: where it is down, one in a network namespace of this test's own. Else the test
/// is skipped.
pub(crate) fn need_loopback(family: c_int) {
    if loopback_is_up(family) {
        return;
    }
    if sys!(unshare(libc::CLONE_NEWNET)).is_ok() {
        // struct ifreq: the name, and at 16 the flags.
        let mut request = [0u8; 40];
        request[..2].copy_from_slice(b"lo");
        request[16] = (libc::IFF_UP | libc::IFF_RUNNING) as u8;
        if let Ok(fd) = sys!(socket(AF_INET, SOCK_DGRAM, 0)) {
            let _ = sys!(ioctl(fd, libc::SIOCSIFFLAGS, &request));
            let _ = sys!(close(fd));
        }
    }
    if !loopback_is_up(family) {
        let version = if family == AF_INET { 4 } else { 6 };
        end_skipped(&format!("no loopback interface for IPv{version}, and none can be had"));
    }
}

/// The port that a socket has.
#[track_caller]
pub(crate) fn port(fd: usize) -> u16 {
    // The port lies at the same place in both kinds of address.
    let mut address: sockaddr_in6 = zeroed();
    let mut length = IP6 as u32;
    match sys!(getsockname(fd, &mut address, &mut length)) {
        Ok(_) => u16::from_be(address.sin6_port),
        Err(error) => fail(&format!("getsockname: {}", name(error))),
    }
}

/// A message of these pieces, with room for this much control data.
pub(crate) fn message(pieces: &[iovec], control: &mut [u8]) -> msghdr {
    let mut message: msghdr = zeroed();
    message.msg_iov = pieces.as_ptr().cast_mut();
    message.msg_iovlen = pieces.len();
    if !control.is_empty() {
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = control.len();
    }
    message
}

/// One item of control data (`cmsg(3)`): level, type, and what it carries.
pub(crate) fn item(level: c_int, kind: c_int, data: &[u8]) -> Vec<u8> {
    let mut bytes = (16 + data.len()).to_ne_bytes().to_vec();
    bytes.extend(level.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

/// Control data: level, kind, bytes.
pub(crate) type Items = Vec<(c_int, c_int, Vec<u8>)>;

/// The items in received control data.
pub(crate) fn items(mut bytes: &[u8]) -> Items {
    let mut items = Vec::new();
    while let (Some(length), Some(level), Some(kind)) = (
        plain::from_bytes::<usize>(bytes),
        plain::from_bytes(bytes.get(8..).unwrap_or(&[])),
        plain::from_bytes(bytes.get(12..).unwrap_or(&[])),
    ) {
        let Some(data) = bytes.get(16..length) else { break };
        items.push((level, kind, data.to_vec()));
        bytes = bytes.get(length.next_multiple_of(8)..).unwrap_or(&[]);
    }
    items
}

/// Numbers as the bytes of control data or of an option.
pub(crate) fn words(numbers: &[c_int]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

/// An option that is a number.
#[track_caller]
pub(crate) fn option(fd: usize, level: c_int, option: c_int) -> c_int {
    let (mut value, mut length) = (0i32, 4u32);
    match sys!(getsockopt(fd, level, option, &mut value, &mut length)) {
        Ok(_) => value,
        Err(error) => fail(&format!("getsockopt({level}, {option}): {}", name(error))),
    }
}
