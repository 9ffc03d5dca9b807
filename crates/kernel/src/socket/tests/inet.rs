//! TCP and UDP between sockets of one sandbox.

use super::*;
use crate::Errno;
use alloc::string::String;
use insula_abi::general as c;
use insula_abi::net as n;
use insula_abi::socket::protocol;

fn ip4(ip: [u8; 4], port: u16) -> Vec<u8> {
    let mut bytes = (n::AF_INET as u16).to_ne_bytes().to_vec();
    bytes.extend(port.to_be_bytes());
    bytes.extend(ip);
    bytes.resize(16, 0);
    bytes
}

fn ip6(ip: &str, port: u16) -> Vec<u8> {
    let mut bytes = (n::AF_INET6 as u16).to_ne_bytes().to_vec();
    bytes.extend(port.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(ip.parse::<core::net::Ipv6Addr>().expect("an address").octets());
    bytes.extend([0; 4]);
    bytes
}

const HOME: [u8; 4] = [127, 0, 0, 1];

fn port(p: &Program, fd: u64) -> u16 {
    let name = p.name(Sysno::getsockname, fd).expect("a name");
    u16::from_be_bytes([name[2], name[3]])
}

fn server(p: &Program, backlog: u64) -> (u64, u16) {
    let fd = p.socket(n::AF_INET, n::SOCK_STREAM);
    assert_eq!(p.bind(fd, &ip4(HOME, 0)), Ok(0));
    assert_eq!(p.call(Sysno::listen, &[fd, backlog]), Ok(0));
    (fd, port(p, fd))
}

/// Who connected, and who accepted.
fn connection(p: &Program) -> (u64, u64) {
    let (listener, port) = server(p, 4);
    let client = p.socket(n::AF_INET, n::SOCK_STREAM);
    assert_eq!(p.connect(client, &ip4(HOME, port)), Ok(0));
    let accepted = p.call(Sysno::accept, &[listener, 0, 0]).expect("accepted");
    p.close(listener);
    (client, accepted)
}

fn on(p: &Program, fd: u64, level: u32, name: u32) {
    assert_eq!(p.set_option(fd, level, name, &1i32.to_ne_bytes()), Ok(0));
}

#[test]
fn connections_carry_bytes_and_end() {
    let p = Program::new();
    let (client, accepted) = connection(&p);
    assert_eq!(p.write(client, b"hello"), Ok(5));
    assert_eq!(p.receive(accepted, 9, n::MSG_PEEK).as_deref(), Ok(&b"hello"[..]));
    assert_eq!(p.receive(accepted, 9, 0).as_deref(), Ok(&b"hello"[..]));
    assert_eq!(p.name(Sysno::getpeername, accepted), p.name(Sysno::getsockname, client));
    assert_eq!(p.poll(client), Events::WRITABLE);
    // Half of it closes, the other still works.
    assert_eq!(p.call(Sysno::shutdown, &[client, 1]), Ok(0));
    assert_eq!(p.send(client, b"x", n::MSG_NOSIGNAL), Err(Errno::EPIPE));
    assert_eq!(p.receive(accepted, 9, 0).as_deref(), Ok(&b""[..]));
    assert!(p.poll(accepted).contains(Events::RDHUP | Events::IN) && !p.poll(accepted).contains(Events::HUP));
    assert_eq!(p.write(accepted, b"back"), Ok(4));
    p.close(accepted);
    assert_eq!(p.receive(client, 9, 0).as_deref(), Ok(&b"back"[..]));
    assert_eq!(p.receive(client, 9, 0).as_deref(), Ok(&b""[..]));
    assert!(p.poll(client).contains(Events::HUP));
}

#[test]
fn closing_with_unread_data_resets() {
    let p = Program::new();
    let (client, accepted) = connection(&p);
    assert_eq!(p.write(client, b"unread"), Ok(6));
    p.close(accepted);
    assert!(p.poll(client).contains(Events::ERR | Events::HUP));
    assert_eq!(p.receive(client, 1, 0), Err(Errno::ECONNRESET));
    assert_eq!(p.receive(client, 1, 0).as_deref(), Ok(&b""[..]));
    assert_eq!(p.send(client, b"x", n::MSG_NOSIGNAL), Err(Errno::EPIPE));
    // So does SO_LINGER with no time; without, writing to who is gone is told by the second call.
    let (client, accepted) = connection(&p);
    assert_eq!(p.set_option(accepted, n::SOL_SOCKET, n::SO_LINGER, [1i32, 0].as_bytes()), Ok(0));
    p.close(accepted);
    assert_eq!(p.receive(client, 1, 0), Err(Errno::ECONNRESET));
    let (client, accepted) = connection(&p);
    p.close(accepted);
    assert_eq!(p.write(client, b"lost"), Ok(4));
    assert_eq!(p.send(client, b"x", n::MSG_NOSIGNAL), Err(Errno::EPIPE));
}

#[test]
fn connects_are_refused_and_may_be_tried_again() {
    let p = Program::new();
    let (listener, port) = server(&p, 4);
    p.close(listener);
    let client = p.socket(n::AF_INET, n::SOCK_STREAM);
    assert_eq!(p.poll(client), Events::OUT | Events::WRNORM | Events::HUP);
    assert_eq!(p.connect(client, &ip4(HOME, port)), Err(Errno::ECONNREFUSED));
    assert_eq!(p.option(client, n::SOL_SOCKET, n::SO_ERROR), Ok(0));
    let nonblocking = p.socket(n::AF_INET, n::SOCK_STREAM | c::O_NONBLOCK);
    assert_eq!(p.connect(nonblocking, &ip4(HOME, port)), Err(Errno::EINPROGRESS));
    assert!(p.poll(nonblocking).contains(Events::ERR | Events::OUT));
    assert_eq!(p.option(nonblocking, n::SOL_SOCKET, n::SO_ERROR), Ok(Errno::ECONNREFUSED.0.into()));
    let (_listener, port) = server(&p, 4);
    assert_eq!(p.connect(nonblocking, &ip4(HOME, port)), Err(Errno::EINPROGRESS));
    assert_eq!(p.connect(nonblocking, &ip4(HOME, port)), Ok(0));
    assert_eq!(p.connect(nonblocking, &ip4(HOME, port)), Err(Errno::EISCONN));
    assert_eq!(p.connect(client, &ip4([0; 4], port)), Ok(0), "no address is one's own");
    assert_eq!(p.connect(client, &ip4([192, 0, 2, 1], port)), Err(Errno::EISCONN));
    let other = p.socket(n::AF_INET, n::SOCK_STREAM);
    assert_eq!(p.connect(other, &ip4([192, 0, 2, 1], port)), Err(Errno::ENETUNREACH));
    assert_eq!(p.connect(other, &ip6("::1", port)), Err(Errno::EAFNOSUPPORT));
}

#[test]
fn a_full_backlog_makes_others_wait() {
    let p = Program::new();
    let (listener, port) = server(&p, 0);
    let client = || p.socket(n::AF_INET, n::SOCK_STREAM);
    assert_eq!(p.connect(client(), &ip4(HOME, port)), Ok(0));
    let second = client();
    let mut waiting = p.begin(Sysno::connect, &[second, p.bytes(&ip4(HOME, port)), 16]);
    assert!(waiting.sleeps());
    assert!(p.call(Sysno::accept, &[listener, 0, 0]).is_ok());
    assert_eq!(waiting.woken(), Some(Ok(0)));
    let third = client();
    let mut waiting = p.begin(Sysno::connect, &[third, p.bytes(&ip4(HOME, port)), 16]);
    assert!(waiting.sleeps());
    p.close(listener);
    assert_eq!(waiting.woken(), Some(Err(Errno::ECONNREFUSED)));
    assert_eq!(p.receive(second, 1, 0), Err(Errno::ECONNRESET), "it was not accepted");
}

#[test]
fn listeners_are_shut_and_woken() {
    let p = Program::new();
    let (listener, port) = server(&p, 4);
    let mut accept = p.begin(Sysno::accept, &[listener, 0, 0]);
    assert!(accept.sleeps());
    assert_eq!(p.call(Sysno::shutdown, &[listener, 0]), Ok(0));
    assert_eq!(accept.woken(), Some(Err(Errno::EINVAL)));
    let client = p.socket(n::AF_INET, n::SOCK_STREAM);
    assert_eq!(p.connect(client, &ip4(HOME, port)), Err(Errno::ECONNREFUSED));
    assert_eq!(p.call(Sysno::listen, &[listener, 4]), Ok(0));
    let mut accept = p.begin(Sysno::accept, &[listener, 0, 0]);
    assert_eq!(p.connect(client, &ip4(HOME, super::inet::port(&p, listener))), Ok(0));
    assert!(matches!(accept.woken(), Some(Ok(_))));
}

#[test]
fn ports_are_had_by_one() {
    let p = Program::new();
    let (listener, taken) = server(&p, 4);
    let bind = |address: &[u8], option: Option<u32>| {
        let fd = p.socket(u32::from(address[0]), n::SOCK_STREAM);
        option.into_iter().for_each(|name| on(&p, fd, n::SOL_SOCKET, name));
        p.bind(fd, address).map(|_| fd)
    };
    assert_eq!(bind(&ip4(HOME, taken), None), Err(Errno::EADDRINUSE));
    assert_eq!(bind(&ip4([0; 4], taken), Some(n::SO_REUSEADDR)), Err(Errno::EADDRINUSE));
    assert_eq!(bind(&ip6("::", taken), None), Err(Errno::EADDRINUSE), "it is IPv4's as well");
    assert!(bind(&ip4([127, 0, 0, 2], taken), None).is_ok() && bind(&ip6("::1", taken), None).is_ok());
    assert_eq!(bind(&ip4([192, 0, 2, 77], 0), None), Err(Errno::EADDRNOTAVAIL));
    on(&p, listener, n::SOL_SOCKET, n::SO_REUSEADDR);
    // Who closes first keeps the port for a while.
    let client = p.socket(n::AF_INET, n::SOCK_STREAM);
    assert_eq!(p.connect(client, &ip4(HOME, taken)), Ok(0));
    let accepted = p.call(Sysno::accept, &[listener, 0, 0]).expect("accepted");
    p.close(accepted);
    p.close(listener);
    assert_eq!(bind(&ip4(HOME, taken), None), Err(Errno::EADDRINUSE));
    let again = bind(&ip4(HOME, taken), Some(n::SO_REUSEADDR)).expect("a port");
    p.close(again);
    p.world.advance(61_000_000_000);
    assert!(bind(&ip4(HOME, taken), None).is_ok());
    let shared = |port| {
        let fd = bind(&ip4(HOME, port), Some(n::SO_REUSEPORT))?;
        p.call(Sysno::listen, &[fd, 1]).map(|_| fd)
    };
    let one = shared(0).expect("a port");
    assert!(shared(port(&p, one)).is_ok());
    let mut nobody = (*p.task.credentials()).clone();
    nobody.capabilities.effective = 0;
    p.task.set_credentials(nobody);
    assert_eq!(bind(&ip4(HOME, 17), None), Err(Errno::EACCES));
    assert_eq!(p.call(Sysno::socket, &[2, 3, 1]), Err(Errno::EPERM));
}

#[test]
fn one_socket_hears_both_families() {
    let p = Program::new();
    let listener = p.socket(n::AF_INET6, n::SOCK_STREAM);
    assert_eq!(p.bind(listener, &ip6("::", 0)), Ok(0));
    assert_eq!(p.call(Sysno::listen, &[listener, 4]), Ok(0));
    let port = port(&p, listener);
    for (domain, address) in
        [(n::AF_INET, ip4(HOME, port)), (n::AF_INET6, ip6("::1", port)), (n::AF_INET6, ip6("::ffff:127.0.0.1", port))]
    {
        let client = p.socket(domain, n::SOCK_STREAM);
        assert_eq!(p.connect(client, &address), Ok(0));
        let accepted = p.call(Sysno::accept, &[listener, 0, 0]).expect("accepted");
        let peer = p.name(Sysno::getpeername, accepted).expect("a peer");
        let mapped = ip6("::ffff:127.0.0.1", 0);
        assert_eq!(peer.len(), 28);
        assert_eq!(peer[8..24] == mapped[8..24], address[8..24.min(address.len())] != ip6("::1", 0)[8..24]);
        assert_eq!(p.write(client, b"x"), Ok(1));
        assert_eq!(p.receive(accepted, 2, 0).as_deref(), Ok(&b"x"[..]));
    }
    let only = p.socket(n::AF_INET6, n::SOCK_STREAM);
    on(&p, only, protocol::IPV6, n::IPV6_V6ONLY);
    assert_eq!(p.bind(only, &ip6("::", 0)), Ok(0));
    assert_eq!(p.call(Sysno::listen, &[only, 4]), Ok(0));
    let port = super::inet::port(&p, only);
    assert_eq!(p.connect(p.socket(n::AF_INET, n::SOCK_STREAM), &ip4(HOME, port)), Err(Errno::ECONNREFUSED));
    assert_eq!(p.bind(p.socket(n::AF_INET, n::SOCK_STREAM), &ip4([0; 4], port)), Ok(0));
}

#[test]
fn much_is_carried_with_waits_on_both_sides() {
    let p = Program::new();
    let (client, accepted) = connection(&p);
    let all: u64 = 3 << 20;
    let memory = testing::memory(&p.task, all);
    let mut write = p.begin(Sysno::write, &[client, memory, all]);
    assert!(write.sleeps());
    assert!(!p.poll(client).contains(Events::OUT));
    let mut got = 0;
    while got < all {
        got += p.call(Sysno::read, &[accepted, p.memory, 1 << 18]).expect("something");
        write.woken();
    }
    assert_eq!((got, write.result()), (all, Ok(all)));
}

#[test]
fn urgent_bytes_go_beside_the_others() {
    let p = Program::new();
    let (client, accepted) = connection(&p);
    assert_eq!(p.receive(accepted, 1, n::MSG_OOB), Err(Errno::EINVAL));
    assert_eq!(p.send(client, b"ab!", n::MSG_OOB), Ok(3));
    assert_eq!(p.write(client, b"cd"), Ok(2));
    assert!(p.poll(accepted).contains(Events::PRI));
    assert_eq!(p.receive(accepted, 9, 0).as_deref(), Ok(&b"ab"[..]), "a read stops before it");
    assert_eq!(p.receive(accepted, 1, n::MSG_OOB).as_deref(), Ok(&b"!"[..]));
    assert_eq!(p.receive(accepted, 9, 0).as_deref(), Ok(&b"cd"[..]));
}

#[test]
fn options_of_tcp_are_kept_and_checked() {
    let p = Program::new();
    let (client, accepted) = connection(&p);
    for (name, value) in [(n::TCP_NODELAY, 1), (n::TCP_KEEPIDLE, 30), (n::TCP_USER_TIMEOUT, 1000), (n::TCP_CORK, 1)] {
        assert_eq!(p.set_option(client, protocol::TCP, name, &i32::to_ne_bytes(value)), Ok(0));
        assert_eq!(p.option(client, protocol::TCP, name), Ok(value));
    }
    assert_eq!(p.set_option(client, protocol::TCP, n::TCP_KEEPIDLE, &0i32.to_ne_bytes()), Err(Errno::EINVAL));
    assert_eq!(p.set_option(client, protocol::TCP, 9999, &1i32.to_ne_bytes()), Err(Errno::ENOPROTOOPT));
    assert_eq!(p.set_option(client, protocol::TCP, n::TCP_CONGESTION, b"no-such"), Err(Errno::ENOENT));
    assert_eq!(
        (p.option(client, 9999, 0), p.set_option(client, 9999, 0, &[0; 4])),
        (Err(Errno::EOPNOTSUPP), Err(Errno::ENOPROTOOPT))
    );
    let state = |fd| p.option(fd, protocol::TCP, n::TCP_INFO).map(|info| info as u8);
    assert_eq!((state(client), state(server(&p, 1).0), state(p.socket(2, 1))), (Ok(1), Ok(10), Ok(7)));
    assert_eq!(p.call(Sysno::shutdown, &[client, 1]), Ok(0));
    assert_eq!((state(client), state(accepted)), (Ok(5), Ok(8)));
}

fn udp(p: &Program) -> (u64, u16) {
    let fd = p.socket(n::AF_INET, n::SOCK_DGRAM);
    assert_eq!(p.bind(fd, &ip4(HOME, 0)), Ok(0));
    (fd, port(p, fd))
}

#[test]
fn datagrams_go_to_whom_they_are_for() {
    let p = Program::new();
    let ((one, one_port), (other, other_port)) = (udp(&p), udp(&p));
    let client = p.socket(n::AF_INET, n::SOCK_DGRAM);
    assert_eq!(p.write(client, b"x"), Err(Errno::EDESTADDRREQ));
    assert_eq!(p.send_to(client, b"first", 0, &ip4(HOME, one_port)), Ok(5));
    assert_eq!(p.send_to(client, b"", 0, &ip4(HOME, one_port)), Ok(0));
    assert_eq!(p.receive(one, 2, n::MSG_PEEK).as_deref(), Ok(&b"fi"[..]));
    assert_eq!(p.receive(one, 9, 0).as_deref(), Ok(&b"first"[..]));
    assert_eq!(p.receive(one, 9, 0).as_deref(), Ok(&b""[..]));
    assert_eq!(p.receive(one, 9, 0), Err(Errno::EAGAIN));
    // Who is connected hears only the peer.
    assert_eq!(p.connect(client, &ip4(HOME, one_port)), Ok(0));
    let home = ip4(HOME, port(&p, client));
    assert_eq!((p.send_to(other, b"stranger", 0, &home), p.send_to(one, b"peer", 0, &home)), (Ok(8), Ok(4)));
    assert_eq!(p.receive(client, 9, 0).as_deref(), Ok(&b"peer"[..]));
    assert_eq!(p.receive(client, 9, 0), Err(Errno::EAGAIN));
    // What nobody takes is told to who has a peer.
    p.close(one);
    assert_eq!(p.write(client, b"x"), Ok(1));
    assert!(p.poll(client).contains(Events::ERR));
    assert_eq!(p.receive(client, 9, 0), Err(Errno::ECONNREFUSED));
    assert_eq!(p.connect(client, &[0; 16]), Ok(0));
    assert_eq!(p.write(client, b"x"), Err(Errno::EDESTADDRREQ));
    // MSG_MORE gathers.
    assert_eq!(p.send_to(client, b"to", n::MSG_MORE, &ip4(HOME, other_port)), Ok(2));
    assert_eq!(p.send_to(client, b"gether", 0, &ip4(HOME, other_port)), Ok(6));
    assert_eq!(p.receive(other, 9, 0).as_deref(), Ok(&b"together"[..]));
    assert_eq!(p.send_to(client, b"x", 0, &ip4([255; 4], 9)), Err(Errno::EACCES));
    assert_eq!(p.call(Sysno::sendto, &[client, p.memory, 65_508, 0, p.bytes(&ip4(HOME, other_port)), 16]), Err(Errno::EMSGSIZE));
    // Many are lost when nobody looks, and nobody waits.
    for _ in 0..1000 {
        assert_eq!(p.send_to(client, &[0; 500], 0, &ip4(HOME, other_port)), Ok(500));
    }
    let mut count = 0;
    while p.receive(other, 500, 0).is_ok() {
        count += 1;
    }
    assert!((100..1000).contains(&count));
}

#[test]
fn udp_lite_has_ports_of_its_own() {
    let p = Program::new();
    let (_, taken) = udp(&p);
    let lite = p.call(Sysno::socket, &[2, 2, protocol::UDPLITE.into()]).expect("a socket");
    assert_eq!(p.bind(lite, &ip4(HOME, taken)), Ok(0));
    assert_eq!(p.send_to(lite, b"lite", 0, &ip4(HOME, taken)), Ok(4));
    assert_eq!(p.receive(lite, 9, 0).as_deref(), Ok(&b"lite"[..]));
    assert_eq!(p.set_option(lite, protocol::UDPLITE, 10, &3i32.to_ne_bytes()), Ok(0));
    assert_eq!(p.option(lite, protocol::UDPLITE, 10), Ok(8), "the head at least");
}

#[test]
fn what_is_told_beside_datagrams() {
    let p = Program::new();
    let (server, port) = udp(&p);
    on(&p, server, protocol::IP, n::IP_PKTINFO);
    on(&p, server, protocol::IP, n::IP_RECVTTL);
    let client = p.socket(n::AF_INET, n::SOCK_DGRAM);
    assert_eq!(p.set_option(client, protocol::IP, n::IP_TTL, &33i32.to_ne_bytes()), Ok(0));
    assert_eq!(p.set_option(client, protocol::IP, n::IP_TTL, &256i32.to_ne_bytes()), Err(Errno::EINVAL));
    assert_eq!(p.send_to(client, b"0123456789", 0, &ip4(HOME, port)), Ok(10));
    let (count, control, flags) = p.receive_control(server, 4, 64, 0).expect("received");
    assert_eq!((count, flags), (4, n::MSG_TRUNC));
    assert_eq!(numbers(&control), [1, i32::from_ne_bytes(HOME), i32::from_ne_bytes(HOME)]);
    assert_eq!(numbers(&control[32..]), [33]);
    // Groups, on the interface there is.
    let group = [224, 1, 2, 3];
    let member = p.socket(n::AF_INET, n::SOCK_DGRAM);
    assert_eq!(p.bind(member, &ip4([0; 4], 0)), Ok(0));
    let request = [group, [0; 4]].concat();
    assert_eq!(p.set_option(member, protocol::IP, n::IP_ADD_MEMBERSHIP, &request), Ok(0));
    assert_eq!(p.set_option(member, protocol::IP, n::IP_ADD_MEMBERSHIP, &request), Err(Errno::EADDRINUSE));
    assert_eq!(p.send_to(client, b"all", 0, &ip4(group, super::inet::port(&p, member))), Ok(3));
    assert_eq!(p.receive(member, 9, 0).as_deref(), Ok(&b"all"[..]));
}

#[test]
fn interfaces_and_sockets_are_shown() {
    let p = Program::new();
    let (listener, port) = server(&p, 4);
    let request = |name: &[u8]| {
        let mut bytes = [0; 40];
        bytes[..name.len()].copy_from_slice(name);
        p.bytes(&bytes)
    };
    let file = p.task.file(listener as i32).expect("open");
    let io = crate::fs::Io { task: &p.task, flags: 0 };
    let ask = |number, at| file.file.ioctl(&io, number, at).map(|_| p.task.mm().get::<[u8; 40]>(at).expect("memory"));
    use insula_abi::ioctl;
    assert_eq!(ask(ioctl::SIOCGIFADDR, request(b"lo")).map(|r| r[20..24].to_vec()), Ok(HOME.to_vec()));
    assert_eq!(ask(ioctl::SIOCGIFNETMASK, request(b"lo")).map(|r| r[20..24].to_vec()), Ok([255, 0, 0, 0].to_vec()));
    assert_eq!(ask(ioctl::SIOCGIFFLAGS, request(b"lo")).map(|r| r[16] & 9), Ok(9));
    let unix = p.task.file(p.socket(n::AF_UNIX, n::SOCK_DGRAM) as i32).expect("open");
    assert!(unix.file.ioctl(&io, ioctl::SIOCGIFINDEX, request(b"lo")).is_ok(), "as if_nametoindex(3) asks");
    assert_eq!(ask(ioctl::SIOCGIFFLAGS, request(b"none")), Err(Errno::ENODEV));
    assert_eq!(ask(ioctl::TCGETS, request(b"lo")), Err(Errno::ENOTTY));
    let shown = |name: &str| {
        let (_, show) = crate::socket::inet::show::FILES.iter().find(|(file, _)| *file == name).expect("a file");
        String::from_utf8(show(&p.task).expect("shown")).expect("text")
    };
    assert!(shown("tcp").contains(&alloc::format!("0100007F:{port:04X} 00000000:0000 0A ")));
    assert!(shown("udp").starts_with("   sl  local_address"));
    assert!(shown("dev").lines().any(|line| line.trim_start().starts_with("lo:")));
    assert_eq!(shown("if_inet6"), "00000000000000000000000000000001 01 80 10 80       lo\n");
    for name in ["tcp6", "udp6", "unix", "route", "sockstat"] {
        assert!(shown(name).ends_with('\n'));
    }
}
