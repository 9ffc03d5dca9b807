//! Network interfaces by ioctl, and netlink's dump of links, addresses and routes.

use super::prelude::*;
use super::tcp::udp;
use crate::sys::sockets::{ip6, need_loopback};

tests!("netlink":
    interfaces, interface_names, netlink_dumps_links, netlink_dumps_addresses, netlink_dumps_routes, netlink_arguments,
);

/// An ifreq for an interface.
fn request(name: &[u8]) -> [u8; 40] {
    let mut request = [0u8; 40];
    request[..name.len()].copy_from_slice(name);
    request
}

fn interfaces() {
    need_loopback(AF_INET);
    let fd = udp(AF_INET);
    let mut lo = request(b"lo");
    gives!(ioctl(fd, SIOCGIFFLAGS, &mut lo) => 0);
    let flags = from_bytes::<i16>(&lo[16..]).unwrap_or(0) as c_int;
    eq!(flags & (IFF_UP | IFF_LOOPBACK), IFF_UP | IFF_LOOPBACK);
    gives!(ioctl(fd, SIOCGIFADDR, &mut lo) => 0);
    eq!(lo[20..24], [127, 0, 0, 1]);
    gives!(ioctl(fd, SIOCGIFNETMASK, &mut lo) => 0);
    eq!(lo[20..24], [255, 0, 0, 0]);
    gives!(ioctl(fd, SIOCGIFMTU, &mut lo) => 0);
    is!(from_bytes::<i32>(&lo[16..]).is_some_and(|mtu| mtu >= 1280), "an MTU");
    gives!(ioctl(fd, SIOCGIFHWADDR, &mut lo) => 0);
    eq!(from_bytes::<u16>(&lo[16..]), Some(ARPHRD_LOOPBACK));
    fails!(ioctl(fd, SIOCGIFFLAGS, &mut request(b"none")) => ENODEV);
    fails!(ioctl(fd, SIOCGIFFLAGS, BAD) => EFAULT);
    need_root();
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(ioctl(fd, SIOCSIFFLAGS, &mut request(b"lo")) => EPERM);
    });
}

fn interface_names() {
    need_loopback(AF_INET);
    let fd = udp(AF_INET);
    let mut lo = request(b"lo");
    gives!(ioctl(fd, SIOCGIFINDEX, &mut lo) => 0);
    let index = from_bytes::<i32>(&lo[16..]).unwrap_or(0);
    is!(index > 0, "a number");
    let mut by_number = request(b"");
    by_number[16..20].copy_from_slice(&index.to_ne_bytes());
    gives!(ioctl(fd, SIOCGIFNAME, &mut by_number) => 0);
    eq!(&by_number[..3], b"lo\0");
    by_number[16..20].copy_from_slice(&9999i32.to_ne_bytes());
    fails!(ioctl(fd, SIOCGIFNAME, &mut by_number) => ENODEV);
    // All with an address, in a list.
    let mut room = [0u8; 4096];
    let mut list = [0u64; 2];
    list[0] = room.len() as u64;
    list[1] = room.as_mut_ptr() as u64;
    gives!(ioctl(fd, SIOCGIFCONF, &mut list) => 0);
    let used = list[0] as u32 as usize;
    is!(used.is_multiple_of(40) && room[..used].chunks(40).any(|one| one.starts_with(b"lo\0")), "lo in the list");
}

const NLM_F_REQUEST: u16 = 1;

const NLM_F_DUMP: u16 = 0x300;

/// A netlink socket of the route family.
fn netlink() -> usize {
    let fd = works!(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    let mut own: sockaddr_nl = zeroed();
    own.nl_family = AF_NETLINK as u16;
    gives!(bind(fd, &own, 12) => 0);
    fd
}

/// Asks for a dump, and gives the messages: type and what follows the header.
fn dump(fd: usize, kind: u16, family: u8) -> Vec<(u16, Vec<u8>)> {
    let mut request = Vec::new();
    request.extend(36u32.to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request.extend(77u32.to_ne_bytes());
    request.extend(0u32.to_ne_bytes());
    request.push(family);
    request.resize(36, 0);
    gives!(sendto(fd, &request[..], 36, 0, 0, 0) => 36);
    let mut messages = Vec::new();
    loop {
        let mut buffer = vec![0u8; 32768];
        let count = works!(recvfrom(fd, &mut buffer[..], 32768, 0, 0, 0));
        let mut rest = &buffer[..count];
        while rest.len() >= 16 {
            let length = from_bytes::<u32>(rest).unwrap_or(0) as usize;
            let kind = from_bytes::<u16>(&rest[4..]).unwrap_or(0);
            eq!(from_bytes::<u32>(&rest[8..]), Some(77));
            if kind == NLMSG_DONE as u16 {
                return messages;
            }
            messages.push((kind, rest[16..length].to_vec()));
            rest = &rest[length.next_multiple_of(4).min(rest.len())..];
        }
    }
}

/// The attributes after a fixed head of so many bytes.
fn attributes(message: &[u8], head: usize) -> Vec<(u16, Vec<u8>)> {
    let mut rest = message.get(head..).unwrap_or(&[]);
    let mut list = Vec::new();
    while rest.len() >= 4 {
        let length = from_bytes::<u16>(rest).unwrap_or(0) as usize;
        let Some(value) = rest.get(4..length) else { break };
        list.push((from_bytes::<u16>(&rest[2..]).unwrap_or(0) & 0x3fff, value.to_vec()));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    list
}

fn netlink_dumps_links() {
    need_loopback(AF_INET);
    let links = dump(netlink(), RTM_GETLINK, 0);
    let lo = links.iter().find(|link| attributes(&link.1, 16).contains(&(IFLA_IFNAME, b"lo\0".to_vec())));
    is!(lo.is_some(), "lo among {} links", links.len());
    if let Some((kind, lo)) = lo {
        eq!((*kind, from_bytes::<u16>(&lo[2..])), (RTM_NEWLINK, Some(ARPHRD_LOOPBACK)));
        is!(attributes(lo, 16).iter().any(|one| one.0 == IFLA_MTU && one.1.len() == 4), "its MTU");
    }
}

fn netlink_dumps_addresses() {
    need_loopback(AF_INET);
    let addresses = dump(netlink(), RTM_GETADDR, AF_INET as u8);
    let found =
        addresses.iter().any(|one| one.0 == RTM_NEWADDR && attributes(&one.1, 8).contains(&(IFA_LOCAL, vec![127, 0, 0, 1])));
    is!(found, "127.0.0.1 among {} addresses", addresses.len());
    need_loopback(AF_INET6);
    let addresses = dump(netlink(), RTM_GETADDR, AF_INET6 as u8);
    let one: Vec<u8> = ip6(0).sin6_addr.s6_addr.to_vec();
    is!(addresses.iter().any(|address| attributes(&address.1, 8).contains(&(IFA_ADDRESS, one.clone()))), "::1");
}

fn netlink_dumps_routes() {
    need_loopback(AF_INET);
    let routes = dump(netlink(), RTM_GETROUTE, AF_INET as u8);
    is!(!routes.is_empty() && routes.iter().all(|route| route.0 == RTM_NEWROUTE), "routes, and nothing else");
    // The local table has 127/8.
    is!(
        routes.iter().any(|route| attributes(&route.1, 12).iter().any(|one| one.0 == RTA_DST && one.1.starts_with(&[127]))),
        "a route to 127/8"
    );
}

fn netlink_arguments() {
    fails!(socket(AF_NETLINK, SOCK_STREAM, NETLINK_ROUTE) => ESOCKTNOSUPPORT);
    fails!(socket(AF_NETLINK, SOCK_RAW, 999) => EPROTONOSUPPORT);
    let fd = netlink();
    let (mut own, mut length): (sockaddr_nl, u32) = (zeroed(), 12);
    gives!(getsockname(fd, &mut own, &mut length) => 0);
    eq!((own.nl_family, own.nl_pid as c_int, length), (AF_NETLINK as u16, process::id(), 12));
    // A second one in the same process gets another number.
    let other = netlink();
    gives!(getsockname(other, &mut own, &mut length) => 0);
    is!(own.nl_pid as c_int != process::id(), "another number");
    // An unknown request is answered with an error.
    let mut request = [0u8; 36];
    request[0] = 36;
    request[4..6].copy_from_slice(&999u16.to_ne_bytes());
    request[6] = NLM_F_REQUEST as u8;
    gives!(sendto(fd, &request, 36, 0, 0, 0) => 36);
    let mut answer = [0u8; 256];
    let count = works!(recvfrom(fd, &mut answer, 256, 0, 0, 0));
    is!(count >= 36, "an answer");
    eq!((from_bytes::<u16>(&answer[4..]), from_bytes::<i32>(&answer[16..])), (Some(NLMSG_ERROR as u16), Some(-EOPNOTSUPP)));
    fails!(recvfrom(fd, &mut answer, 256, MSG_DONTWAIT, 0, 0) => EAGAIN);
}
