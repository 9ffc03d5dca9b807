//! Virtual machines whose cards are in a network of ours, with Debian's driver. `make lab` runs this in a machine with an ordinary KVM.

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;
use std::time::Duration;
use support::guest::{initrd, lab, load_modules, must, said, take_along};
use support::{World, accept, datagrams, eventually, finish, stderr, told};

/// What every guest here does first. The program that udhcpc calls sets what it is told.
const NETWORK: &str = "mount -t devtmpfs dev /dev; ip link set lo up
    printf '#!/bin/sh\\n[ $1 = bound ] || exit 0\\nip addr add $ip/$mask dev $interface; ip route add default via $router\\n' > /lease
    printf 'echo lease $ip/$mask via $router dns $dns mtu $mtu name $hostname\\n' >> /lease; chmod 755 /lease
    ip link set eth0 up; udhcpc -i eth0 -f -q -n -t 20 -O mtu -O hostname -s /lease 2>/dev/null\n";

fn payload() -> Vec<u8> {
    (0..4_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

fn prepare(world: &World) -> Vec<u8> {
    must("ip addr replace 192.0.2.1/32 dev lo; ip -6 addr replace 2001:db8::1/128 dev lo; ip link set lo up");
    let payload = payload();
    std::fs::write(world.directory("initrd-root").join("payload"), &payload).unwrap();
    take_along(world, "/usr/bin/socat");
    payload
}

/// Starts a guest with this card, which does this after it has its address.
fn start(world: &World, kernel: &std::path::Path, card: &str, script: &str) -> std::process::Child {
    let script = load_modules(world) + NETWORK + script + "\npoweroff -f";
    let initrd = initrd(world, &script);
    let mut command = world.insula(["vm", "run", "--cpus", "2", "--cmdline", "quiet loglevel=0", "--net", card, "--kernel"]);
    command.arg(kernel).arg("--initrd").arg(initrd);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_guest_reaches_what_its_host_reaches() {
    let Some((world, kernel, _turn)) = lab() else { return };
    let payload = prepare(&world);
    let script = "cat /sys/class/net/eth0/mtu
        nc 192.0.2.1 7001 < /payload; nc 192.0.2.1 7002 < /dev/null | cmp - /payload && echo same
        nc 192.0.2.1 7009 < /dev/null 2>&1 | grep -o 'refused'; nc 10.0.2.2 7003 < /dev/null 2>&1 | grep -o 'refused'
        while ip -6 addr show dev eth0 | grep -q tentative || ! ip -6 addr show dev eth0 | grep -q fd69; do usleep 100000; done
        ip -6 route replace default via fe80::2 dev eth0
        nc 2001:db8::1 7001 < /payload; nc 2001:db8::1 7002 < /dev/null | cmp - /payload && echo same by IPv6
        ping -c 1 10.0.2.2 | grep -o '1 packets received'; ping -c 1 192.0.2.1 | grep -o '1 packets received'
        echo question | socat -t 20 - UDP:192.0.2.1:7004,shut-none | head -n 1
        i=0; while [ $i -lt 40 ]; do (echo $i | nc 192.0.2.1 7005) & i=$((i + 1)); done > /answers; wait; sort -n /answers | md5sum
        seq 0 39 | md5sum";
    must("sysctl -qw net.ipv4.ping_group_range='0 2147483647'");
    let listen = |at: &str| TcpListener::bind(at).unwrap();
    let up = [listen("192.0.2.1:7001"), listen("[2001:db8::1]:7001")];
    let down = [listen("192.0.2.1:7002"), listen("[2001:db8::1]:7002")];
    let _loopback = listen("127.0.0.1:7003");
    let (datagrams, many) = (datagrams("192.0.2.1:7004"), listen("192.0.2.1:7005"));
    let machine = start(&world, &kernel, "user,hostname=island,mac=02:00:00:00:00:77", script);
    for (up, down) in up.iter().zip(&down) {
        let mut got = Vec::new();
        accept(up).read_to_end(&mut got).unwrap();
        assert!(got == payload, "what the guest sent came as it was");
        accept(down).write_all(&payload).unwrap();
    }
    let (length, from) = datagrams.recv_from(&mut [0; 64]).unwrap();
    datagrams.send_to(format!("{length} bytes\n").as_bytes(), from).unwrap();
    for _ in 0..40 {
        let mut stream = accept(&many);
        std::thread::spawn(move || {
            let mut asked = String::new();
            stream.read_to_string(&mut asked).unwrap();
            stream.write_all(asked.as_bytes()).unwrap();
        });
    }
    let output = finish(machine);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let lines: Vec<&str> = said.lines().collect();
    let expected = [
        "lease 10.0.2.15/24 via 10.0.2.2 dns mtu 65520 name island",
        "65520",
        "same",
        "refused",
        "refused",
        "same by IPv6",
        "1 packets received",
        "1 packets received",
        "9 bytes",
    ];
    let (mut first, last) = (lines.clone(), lines[lines.len().saturating_sub(2)..].to_vec());
    first.truncate(expected.len());
    // Where the machine has a resolver, the guest is told of one.
    let told_of = |line: &&str| line.replace("dns 10.0.2.2", "dns ").replace("dns  ", "dns ");
    assert_eq!(first.iter().map(told_of).collect::<Vec<_>>(), expected, "{}", told(&output));
    assert_eq!(last[0], last[1], "each of many connections got its own answer: {}", told(&output));
}

#[test]
fn a_guest_is_reached_at_published_ports_and_asks_the_hosts_resolver() {
    let Some((world, kernel, _turn)) = lab() else { return };
    prepare(&world);
    let resolver = datagrams("127.0.0.53:53");
    // In a mount namespace of its own, so that the machine's stays as it is.
    let conf = world.file("resolv.conf", "nameserver 127.0.0.53\n");
    must(&format!("touch /etc/resolv.conf; mount --bind {} /etc/resolv.conf", conf.display()));
    let script = "echo nameserver $(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p') > /resolv; mkdir -p /etc; cp /resolv /etc/resolv.conf
        nslookup -type=a island.test 2>/dev/null | grep -o '198.51.100.[0-9]*'
        socat -t 20 UDP-RECVFROM:81 SYSTEM:'read line; echo you said $line'
        socat -t 20 TCP-LISTEN:80,fork SYSTEM:'read line; echo from $SOCAT_PEERADDR; wc -c' & read line < /dev/console";
    let card = "user,publish=127.0.0.1:8080:80,publish=8081:81/udp";
    let script = load_modules(&world) + NETWORK + script + "\npoweroff -f";
    let initrd = initrd(&world, &script);
    let mut command = world.insula(["vm", "run", "--cpus", "2", "--cmdline", "quiet loglevel=0", "--net", card, "--kernel"]);
    command.arg(kernel).arg("--initrd").arg(initrd).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut machine = command.spawn().unwrap();
    // An answer to a question for an address: the question, and one record that points back to its name.
    let mut buffer = [0; 512];
    let (length, from) = resolver.recv_from(&mut buffer).unwrap();
    must("umount /etc/resolv.conf");
    let mut answer = buffer[..length].to_vec();
    (answer[2], answer[3], answer[7]) = (0x81, 0x80, 1);
    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, 33]);
    resolver.send_to(&answer, from).unwrap();

    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let got = eventually_some("an answer to a datagram", || {
        client.send_to(b"hello\n", "127.0.0.1:8081").unwrap();
        let length = client.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    });
    assert_eq!(got, "you said hello\n");
    let got = eventually_some("an answer to a connection", || {
        // The guest's program may not listen yet: then the connection is broken off.
        let mut stream = TcpStream::connect("127.0.0.1:8080").ok()?;
        stream.write_all(b"first\n").ok()?;
        stream.write_all(&vec![7; 3 << 20]).ok()?;
        stream.shutdown(std::net::Shutdown::Write).ok()?;
        let mut got = String::new();
        stream.read_to_string(&mut got).ok().filter(|_| !got.is_empty())?;
        Some(got)
    });
    assert_eq!(got, format!("from 10.0.2.2\n{}\n", 3 << 20));
    machine.stdin.take().unwrap().write_all(b"\n").unwrap();
    let output = finish(machine);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(said(&output).contains("198.51.100.33\n"), "{}", told(&output));
    assert!(TcpStream::connect("127.0.0.1:8080").is_err(), "nothing is left");
}

fn eventually_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut found = None;
    eventually(what, || {
        found = look();
        found.is_some()
    });
    found.expect("it was found")
}

#[test]
fn what_no_network_can_be_made_of_is_one_line() {
    let Some((world, kernel, _turn)) = lab() else { return };
    let _taken = TcpListener::bind("127.0.0.1:8090").unwrap();
    let kernel = kernel.to_str().unwrap();
    for (card, words) in [
        ("user,publish=127.0.0.1:8090:80", "127.0.0.1:8090:80/tcp: Address already in use"),
        ("user,publish=192.0.2.200:8090:80", "the host has no such address"),
        ("user,mtu=100", "1280 to 65520"),
        ("user,speed=1", "none of mac=ADDRESS"),
    ] {
        let error = world.fails(125, ["vm", "run", "--kernel", kernel, "--net", card]);
        assert!(error.contains(words), "{card}: {error}");
    }
}

#[test]
fn who_may_not_ping_is_told() {
    let Some((world, kernel, _turn)) = lab() else { return };
    must("sysctl -qw net.ipv4.ping_group_range='1 0'");
    let output = finish(start(&world, &kernel, "user", "echo started"));
    must("sysctl -qw net.ipv4.ping_group_range='0 2147483647'");
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(stderr(&output).contains("--net user: the guest's ping reaches only the gateway"), "{}", told(&output));
}
