//! Datagrams, names, addresses, echoes and published ports, with Linux as guest.

mod support;

use insula_usernet::Config;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;
use support::{GATEWAY, GATEWAY6, HOST, HOST6, World, bytes, eventually, must};

const PATIENCE: Option<Duration> = Some(Duration::from_secs(30));

fn bound(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(PATIENCE).unwrap();
    socket
}

/// A socket of the guest's that speaks with one address only.
fn connected(to: (&str, u16)) -> UdpSocket {
    let socket = bound(if to.0.contains(':') { "[::]:0" } else { "0.0.0.0:0" });
    socket.connect(to).unwrap();
    socket
}

fn heard(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = vec![0; 65_536];
    let length = socket.recv(&mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

/// Answers so many datagrams with the same, and a mark.
fn answer(socket: &UdpSocket, count: u32, mark: &[u8]) {
    let mut buffer = vec![0; 65_536];
    for _ in 0..count {
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        socket.send_to(&[&buffer[..length], mark].concat(), from).unwrap();
    }
}

#[test]
fn datagrams_go_and_come_back() {
    let Some(world) = World::new(Config::default()) else { return };
    world.await_ipv6();
    for (address, at) in [(HOST, "192.0.2.1:7001"), (HOST6, "[2001:db8::1]:7001")] {
        let server = world.on_host(|| bound(at));
        let lengths = [0, 1, 1400, 30_001, 65_000];
        world.both(
            || answer(&server, 2 * lengths.len() as u32, b"!"),
            || {
                let sockets = [connected((address, 7001)), connected((address, 7001))];
                for length in lengths {
                    for (socket, seed) in sockets.iter().zip([5, 6]) {
                        socket.send(&bytes(length, seed)).unwrap();
                    }
                    for (socket, seed) in sockets.iter().zip([5, 6]) {
                        assert!(heard(socket) == [bytes(length, seed), b"!".to_vec()].concat(), "{length} bytes to {at}");
                    }
                }
            },
        );
    }
}

#[test]
fn a_port_where_nobody_is_says_so() {
    let Some(world) = World::new(Config::default()) else { return };
    world.await_ipv6();
    world.in_guest(|| {
        for to in [(HOST, 7009), (HOST6, 7009), (GATEWAY, 7009), (GATEWAY6, 7009), (GATEWAY, 53)] {
            let socket = connected(to);
            socket.send(b"anybody?").unwrap();
            assert_eq!(socket.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{to:?}");
        }
    });
}

#[test]
fn only_who_was_asked_can_answer() {
    let Some(world) = World::new(Config::default()) else { return };
    let [server, stranger] = world.on_host(|| [bound("192.0.2.1:7001"), bound("192.0.2.1:7002")]);
    let (_, got) = world.both(
        || {
            let (_, guest) = server.recv_from(&mut [0; 8]).unwrap();
            stranger.send_to(b"mine", guest).unwrap();
            server.send_to(b"right", guest).unwrap();
        },
        || {
            // It would take anybody's.
            let socket = bound("0.0.0.0:0");
            socket.send_to(b"?", (HOST, 7001)).unwrap();
            heard(&socket)
        },
    );
    assert_eq!(got, b"right");
}

/// A question for the address of a name (RFC 1035 section 4).
const QUESTION: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06insula\x04test\x00\x00\x01\x00\x01";

#[test]
fn names_are_asked_of_the_hosts_resolvers() {
    let file = tempfile::NamedTempFile::new().unwrap();
    // Nobody listens at the first.
    std::fs::write(&file, "nameserver 127.0.0.52\nnameserver 127.0.0.53\n").unwrap();
    let Some(world) = World::new(Config { resolv_conf: file.path().into(), ..Config::default() }) else { return };
    let (datagrams, streams) = world.on_host(|| (bound("127.0.0.53:53"), TcpListener::bind("127.0.0.53:53").unwrap()));
    world.both(
        || {
            answer(&datagrams, 1, b" by datagram");
            let (mut stream, _) = streams.accept().unwrap();
            let mut asked = vec![0; QUESTION.len()];
            stream.read_exact(&mut asked).unwrap();
            stream.write_all(&[&asked[..], b" by stream"].concat()).unwrap();
        },
        || {
            let socket = connected((GATEWAY, 53));
            socket.send(QUESTION).unwrap();
            assert_eq!(socket.recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
            // Asked again, it is the next one's turn.
            socket.send(QUESTION).unwrap();
            assert_eq!(heard(&socket), [QUESTION, b" by datagram"].concat());
            let mut stream = TcpStream::connect((GATEWAY, 53)).unwrap();
            stream.write_all(QUESTION).unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            assert_eq!(got, [QUESTION, b" by stream"].concat());
        },
    );
}

#[test]
fn a_resolver_that_says_nothing_is_given_up() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "nameserver 127.0.0.52\nnameserver 127.0.0.53\n").unwrap();
    let Some(world) = World::new(Config { resolv_conf: file.path().into(), ..Config::default() }) else { return };
    let (mute, server) = world.on_host(|| (bound("127.0.0.52:53"), bound("127.0.0.53:53")));
    world.both(
        || answer(&server, 1, b" at last"),
        || {
            let socket = connected((GATEWAY, 53));
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            let mut buffer = [0; 512];
            let length = eventually("an answer", || {
                socket.send(QUESTION).unwrap();
                socket.recv(&mut buffer).ok()
            });
            assert_eq!(buffer[..length], [QUESTION, b" at last"].concat());
        },
    );
    assert_eq!(heard(&mute), QUESTION);
}

#[test]
fn an_address_is_to_be_had_by_dhcp() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "nameserver 127.0.0.53\n").unwrap();
    let config = Config {
        subnet: "10.9.8.0/25".parse().unwrap(),
        mtu: 9000,
        hostname: Some("guest.example".into()),
        resolv_conf: file.path().into(),
        ..Config::default()
    };
    let Some(world) = World::new(config) else { return };
    if !Path::new("/usr/bin/busybox").exists() {
        return eprintln!("skipped: busybox isn't there");
    }
    let script = tempfile::NamedTempFile::new().unwrap();
    let lines = "#!/bin/sh\n[ $1 = bound ] && echo \"$ip/$mask via $router dns $dns mtu $mtu name $hostname to $broadcast for $lease\"\nexit 0\n";
    std::fs::write(&script, lines).unwrap();
    let script = script.into_temp_path();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let told = world.in_guest(|| {
        must("ip addr flush dev t0");
        must(&format!("busybox udhcpc -i t0 -f -q -n -t 10 -O mtu -O hostname -s {} 2>/dev/null", script.display()))
    });
    let expected = "10.9.8.15/25 via 10.9.8.2 dns 10.9.8.2 mtu 9000 name guest.example to 10.9.8.127 for 86400";
    assert!(told.contains(expected), "{told}");
}

#[test]
fn a_router_of_ipv6_tells_of_a_resolver() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "nameserver 127.0.0.53\n").unwrap();
    let Some(world) = World::new(Config { mtu: 4000, resolv_conf: file.path().into(), ..Config::default() }) else { return };
    world.await_ipv6();
    if !Path::new("/usr/bin/rdisc6").exists() {
        return eprintln!("skipped: rdisc6 (Debian: ndisc6) isn't there");
    }
    let told = world.in_guest(|| must("rdisc6 -1 t0"));
    for line in ["Recursive DNS server     : fd69:6e73:756c::2", "MTU                      :         4000", "from fe80::2"] {
        assert!(told.contains(line), "{told}");
    }
}

#[test]
fn echoes_come_back_if_the_host_lets_us_ask() {
    let Some(world) = World::new(Config::default()) else { return };
    world.await_ipv6();
    let ping = |to: &str| must(&format!("busybox ping -c 2 -W 10 -s 1000 {to} || true"));
    let told = world.in_guest(|| [GATEWAY, GATEWAY6, HOST].map(ping));
    assert!(told[0].contains("2 packets received") && told[1].contains("2 packets received"), "{told:?}");
    assert!(told[2].contains(" 0 packets received"), "{told:?}");
    world.on_host(|| must("sysctl -qw net.ipv4.ping_group_range='0 2147483647'"));
    let told = world.in_guest(|| [HOST, HOST6].map(ping));
    assert!(told.iter().all(|told| told.contains("2 packets received, 0% packet loss")), "{told:?}");
}

/// Asks at a published port, and says who the guest thought it was.
fn ask(address: &str, port: u16) -> String {
    let mut stream = TcpStream::connect((address, port)).unwrap();
    stream.set_read_timeout(PATIENCE).unwrap();
    stream.write_all(b"hello").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut got = String::new();
    stream.read_to_string(&mut got).unwrap();
    got
}

fn published(ports: &[&str]) -> Config {
    Config { publish: ports.iter().map(|port| port.parse().unwrap()).collect(), ..Config::default() }
}

#[test]
fn a_published_port_leads_to_the_guest() {
    let config = published(&["8000:80", "127.0.0.1:8001:80", "[::1]:8002:80"]);
    let Some(world) = World::new(config) else { return };
    world.await_ipv6();
    let listener = world.in_guest(|| TcpListener::bind("[::]:80").unwrap());
    let asked = [
        ("127.0.0.1", 8000, GATEWAY.parse::<IpAddr>().unwrap()),
        // Of an address that the guest can know, it knows.
        (HOST, 8000, HOST.parse().unwrap()),
        (HOST6, 8000, HOST6.parse().unwrap()),
        ("127.0.0.1", 8001, GATEWAY.parse().unwrap()),
        ("::1", 8002, GATEWAY6.parse().unwrap()),
    ];
    for (address, port, client) in asked {
        let (answer, _) = world.both(
            || ask(address, port),
            || {
                let (mut stream, from) = listener.accept().unwrap();
                assert_eq!(from.ip().to_canonical(), client, "{address}:{port}");
                let mut got = String::new();
                stream.read_to_string(&mut got).unwrap();
                stream.write_all(format!("you said {got}").as_bytes()).unwrap();
            },
        );
        assert_eq!(answer, "you said hello");
    }
    world.on_host(|| {
        assert!(TcpStream::connect((HOST, 8001)).is_err(), "it is published at one address only");
    });
    drop(listener);
    // Nobody listens in the guest: what was accepted is broken off.
    let error = world.on_host(|| {
        let mut stream = TcpStream::connect("127.0.0.1:8000").unwrap();
        stream.set_read_timeout(PATIENCE).unwrap();
        stream.read(&mut [0; 8]).map_err(|error| error.kind())
    });
    assert_eq!(error, Err(ErrorKind::ConnectionReset));
}

#[test]
fn much_goes_through_a_published_port() {
    let Some(world) = World::new(published(&["8000:80"])) else { return };
    let listener = world.in_guest(|| TcpListener::bind("0.0.0.0:80").unwrap());
    let content = bytes(8 << 20, 9);
    let (got, ()) = world.both(
        || {
            let mut stream = TcpStream::connect("127.0.0.1:8000").unwrap();
            stream.write_all(&content).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            got
        },
        || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            got.reverse();
            stream.write_all(&got).unwrap();
        },
    );
    assert!(got.iter().rev().eq(content.iter()));
}

#[test]
fn datagrams_to_a_published_port_lead_to_the_guest() {
    let Some(world) = World::new(published(&["8000:80/udp"])) else { return };
    let server = world.in_guest(|| bound("0.0.0.0:80"));
    // The guest must have said something, so that its address is known.
    world.in_guest(|| must("busybox ping -c 1 10.0.2.2"));
    world.both(
        || {
            let clients = [connected(("127.0.0.1", 8000)), connected(("127.0.0.1", 8000)), connected((HOST, 8000))];
            for (client, text) in clients.iter().zip([&b"one"[..], b"two", b"three"]) {
                client.send(text).unwrap();
                assert_eq!(heard(client), [text, b" heard"].concat());
            }
        },
        || answer(&server, 3, b" heard"),
    );
}

#[test]
fn a_port_that_is_taken_is_named() {
    let Some(world) = World::new(Config::default()) else { return };
    let error = world.on_host(|| {
        let _taken = TcpListener::bind("127.0.0.1:8000").unwrap();
        insula_usernet::Network::new(&published(&["127.0.0.1:8000:80"])).unwrap_err().to_string()
    });
    let expected =
        "can't publish 127.0.0.1:8000:80/tcp: Address already in use; another program listens there, `ss -ltnup` says which";
    assert_eq!(error, expected);
}
