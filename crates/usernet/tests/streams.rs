//! TCP between real kernels, with the network between them.

mod support;

use insula_usernet::Config;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;
use support::{Cable, GATEWAY, GATEWAY6, HOST, HOST6, World, bytes, must};

const MIB: usize = 1 << 20;

fn listen(address: &str) -> TcpListener {
    TcpListener::bind(if address.contains(':') { format!("[{address}]:7000") } else { format!("{address}:7000") }).unwrap()
}

fn connect(address: &str) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect((address, 7000))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(stream)
}

/// Sends all of one while receiving all of the other; each side ends after its last byte.
fn exchange(stream: TcpStream, sent: &[u8], expected: &[u8]) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            (&stream).write_all(sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        (&stream).read_to_end(&mut got).unwrap();
        assert_eq!(got.len(), expected.len());
        assert!(got == expected, "what was received is what was sent");
    });
}

/// Both directions at once, with ends of both.
fn carries(world: &World, address: &str, length: usize) {
    let listener = world.on_host(|| listen(address));
    let (up, down) = (bytes(length, 1), bytes(length + 12_345, 2));
    world.both(|| exchange(listener.accept().unwrap().0, &down, &up), || exchange(connect(address).unwrap(), &up, &down));
}

#[test]
fn what_is_sent_arrives_both_ways() {
    let Some(world) = World::new(Config::default()) else { return };
    world.await_ipv6();
    carries(&world, HOST, 16 * MIB);
    carries(&world, HOST6, 16 * MIB);
}

#[test]
fn on_a_small_cable_as_well() {
    let Some(world) = World::new(Config { mtu: 1500, ..Config::default() }) else { return };
    world.await_ipv6();
    carries(&world, HOST, 4 * MIB);
    carries(&world, HOST6, 4 * MIB);
}

#[test]
fn without_offloads_every_checksum_is_made_and_looked_at() {
    let cable = Cable { plain: true, ..Cable::default() };
    let Some(world) = World::with(Config { mtu: 1500, ..Config::default() }, cable) else { return };
    world.await_ipv6();
    carries(&world, HOST, 4 * MIB);
    carries(&world, HOST6, 4 * MIB);
}

#[test]
fn a_guest_without_scaled_windows_is_served() {
    let Some(world) = World::new(Config::default()) else { return };
    world.in_guest(|| must("sysctl -qw net.ipv4.tcp_window_scaling=0"));
    carries(&world, HOST, 4 * MIB);
}

#[test]
fn what_is_lost_on_the_cable_is_sent_again() {
    for plain in [false, true] {
        let cable = Cable { loses: 6, plain };
        let Some(world) = World::with(Config { mtu: 1500, ..Config::default() }, cable) else { return };
        carries(&world, HOST, MIB);
    }
}

#[test]
fn each_end_can_end_first() {
    let Some(world) = World::new(Config::default()) else { return };
    let listener = world.on_host(|| listen(HOST));
    // The guest ends, and still hears a long answer.
    let answer = bytes(3 * MIB, 5);
    world.both(
        || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = String::new();
            stream.read_to_string(&mut asked).unwrap();
            assert_eq!(asked, "the question");
            stream.write_all(&answer).unwrap();
        },
        || {
            let mut stream = connect(HOST).unwrap();
            stream.write_all(b"the question").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            assert!(got == answer);
        },
    );
    // The host ends, and still hears one.
    world.both(
        || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            assert!(got == answer);
        },
        || {
            let mut stream = connect(HOST).unwrap();
            assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0);
            stream.write_all(&answer).unwrap();
        },
    );
}

#[test]
fn what_is_refused_is_refused_and_what_cant_be_reached_cant() {
    let Some(world) = World::new(Config::default()) else { return };
    world.await_ipv6();
    world.in_guest(|| {
        let kind = |address: &str| connect(address).unwrap_err().kind();
        assert_eq!(kind(HOST), ErrorKind::ConnectionRefused);
        assert_eq!(kind(HOST6), ErrorKind::ConnectionRefused);
        assert_eq!(kind("198.51.100.1"), ErrorKind::HostUnreachable);
    });
    // Nobody at all is there: the guest's patience decides.
    world.in_guest(|| {
        let dead = "192.0.2.77:7000".parse().unwrap();
        let error = TcpStream::connect_timeout(&dead, Duration::from_millis(300)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn the_hosts_loopback_is_reached_only_if_asked_for_and_only_by_the_gateway() {
    for allowed in [false, true] {
        let Some(world) = World::new(Config { host_loopback: allowed, ..Config::default() }) else { return };
        world.await_ipv6();
        let listeners = world.on_host(|| [listen("127.0.0.1"), listen("::1")]);
        world.in_guest(|| {
            // As a guest would that wants to reach the host's by its own address.
            must("ip route add 127.0.0.1 table 9 via 10.0.2.2 dev t0; ip addr del 127.0.0.1/8 dev lo; ip rule add from all pref 0 lookup 9");
            must("ip rule add pref 1 lookup local; ip rule del pref 0 lookup local; sysctl -qw net.ipv4.conf.t0.route_localnet=1");
            let error = connect("127.0.0.1").unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::HostUnreachable | ErrorKind::ConnectionRefused | ErrorKind::TimedOut), "{error}");
            for address in [GATEWAY, GATEWAY6] {
                match connect(address) {
                    Ok(_) => assert!(allowed, "{address}"),
                    Err(error) => assert!(!allowed && error.kind() == ErrorKind::ConnectionRefused, "{address}: {error}"),
                }
            }
        });
        for listener in listeners {
            listener.set_nonblocking(true).unwrap();
            assert_eq!(listener.accept().is_ok(), allowed);
            assert!(listener.accept().is_err(), "nobody else came");
        }
    }
}

/// Writes until nothing is taken any more; how much was.
fn stuff(stream: &TcpStream, bytes: &[u8]) -> usize {
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut done = 0;
    while done < bytes.len() {
        match (&mut &*stream).write(&bytes[done..]) {
            Ok(count) => done += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    done
}

#[test]
fn who_doesnt_read_holds_up_who_writes() {
    let Some(world) = World::new(Config::default()) else { return };
    let listener = world.on_host(|| listen(HOST));
    let all = bytes(64 * MIB, 3);
    let (host, guest) = world.both(|| listener.accept().unwrap().0, || connect(HOST).unwrap());
    for (reader, writer) in [(&host, &guest), (&guest, &host)] {
        let done = stuff(writer, &all);
        assert!(done < all.len(), "what kernels and we hold is less than 64 MiB");
        let mut got = vec![0; done];
        (&mut &*reader).read_exact(&mut got).unwrap();
        assert!(got == all[..done]);
    }
}

/// Bytes and their end may be there when the host's kernel says that it is connected.
#[test]
fn who_says_one_thing_and_leaves_is_heard() {
    let Some(world) = World::new(Config::default()) else { return };
    let listener = world.on_host(|| listen(HOST));
    const TIMES: usize = 500;
    world.both(
        || (0..TIMES).for_each(|_| listener.accept().unwrap().0.write_all(b"this").unwrap()),
        || {
            for _ in 0..TIMES {
                let mut got = Vec::new();
                connect(HOST).unwrap().read_to_end(&mut got).unwrap();
                assert_eq!(got, b"this");
            }
        },
    );
}

#[test]
fn many_connections_are_kept_apart() {
    const MANY: u32 = 300;
    let Some(world) = World::new(Config::default()) else { return };
    let listener = world.on_host(|| listen(HOST));
    world.both(
        || {
            std::thread::scope(|scope| {
                for _ in 0..MANY {
                    let (mut stream, _) = listener.accept().unwrap();
                    scope.spawn(move || {
                        let mut got = Vec::new();
                        stream.read_to_end(&mut got).unwrap();
                        stream.write_all(&got).unwrap();
                    });
                }
            });
        },
        || {
            let streams: Vec<TcpStream> = (0..MANY).map(|_| connect(HOST).unwrap()).collect();
            for (stream, number) in streams.iter().zip(0..) {
                (&mut &*stream).write_all(&bytes(20_000 + number as usize, number)).unwrap();
            }
            for (stream, number) in streams.iter().zip(0..) {
                stream.shutdown(Shutdown::Write).unwrap();
                let mut got = Vec::new();
                (&mut &*stream).read_to_end(&mut got).unwrap();
                assert!(got == bytes(20_000 + number as usize, number));
            }
        },
    );
}

#[test]
fn who_breaks_off_breaks_off_for_both() {
    let Some(world) = World::new(Config::default()) else { return };
    let listener = world.on_host(|| listen(HOST));
    let break_off = |stream: TcpStream| {
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    };
    let ends = || world.both(|| listener.accept().unwrap().0, || connect(HOST).unwrap());
    for (gone, mut left) in [ends(), {
        let (host, guest) = ends();
        (guest, host)
    }] {
        break_off(gone);
        assert_eq!(left.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}
