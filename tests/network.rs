//! Networks of `insula run`: clients on the host and elsewhere, servers inside, and what is left. Each test has the machine's network to itself,
//! as it is a namespace of its own.

#[path = "support/island.rs"]
mod island;
mod support;

use island::{assert_as, inventory, must};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use support::plain::Plain;
use support::{World, accept, datagrams, eventually, output, read, signal, stdout, told};

/// Answers at port 80 by streams and datagrams, IPv4 and IPv6: who is asked, who asked, and what.
const SERVER: &str = r#"
    my $t = IO::Socket::IP->new(LocalHost => "::", LocalPort => 80, Listen => 9, V6Only => 0, ReuseAddr => 1) or die "$@";
    my $u = IO::Socket::IP->new(LocalHost => "::", LocalPort => 80, Proto => "udp", V6Only => 0) or die "$@";
    my $s = IO::Select->new($t, $u); $| = 1; print "ready\n";
    while (my @r = $s->can_read) { for (@r) {
        if ($_ == $t) { my $c = $t->accept or next; my $l = <$c>; print $c "stream from ", $c->peerhost, ": $l"; close $c; }
        else { my $p = $u->recv(my $b, 99); $u->send("datagram: $b", 0, $p); }
    } }"#;

/// Asks such a server: the kind (tcp, udp), the family (4, 6), the host and the port.
const CLIENT: &str = r#"
    my ($kind, $family, $host, $port) = @ARGV;
    my $c = IO::Socket::IP->new(PeerHost => $host, PeerPort => $port, Proto => $kind, Timeout => 5,
        Family => $family == 4 ? Socket::AF_INET : Socket::AF_INET6) or die "no: $@ $!\n";
    alarm 20; $c->send("hello\n"); $c->recv(my $b, 99); print $b;"#;

const MODULES: [&str; 3] = ["-MIO::Socket::IP", "-MIO::Select", "-MSocket"];

fn words<'a>(first: &[&'a str], script: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [first, &["--", "perl"], &MODULES, &["-e", script], rest].concat()
}

/// A server in the background, in this network.
#[track_caller]
fn serve(world: &World, name: &str, options: &[&str]) {
    let first = [&["run", "-d", "--name", name], options].concat();
    // Its output is read to the end here: nothing that goes on may hold it.
    world.ok(words(&first, SERVER, &[]));
    eventually("the server is ready", || {
        let said = stdout(&world.output(["logs", name])).to_owned();
        assert!(said.is_empty() || said.contains("ready"), "{said}");
        !said.is_empty()
    });
}

/// What a client in a sandbox hears.
#[track_caller]
fn hear(world: &World, options: &[&str], asked: &[&str]) -> String {
    world.ok(words(&[&["run"], options].concat(), CLIENT, asked))
}

/// What a client in another network namespace, that of this process, hears.
fn hear_from(neighbour: &Child, asked: &[&str]) -> std::process::Output {
    let mut command = Command::new("nsenter");
    command.args(["-t", &neighbour.id().to_string(), "-n", "perl"]).args(MODULES).args(["-e", CLIENT]).args(asked);
    output(&mut command)
}

/// What a client on the host hears by TCP.
#[track_caller]
fn hear_stream(at: &str) -> String {
    let mut stream = TcpStream::connect(at).unwrap_or_else(|error| panic!("{at}: {error}"));
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(b"hello\n").unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    heard
}

/// The same by UDP.
#[track_caller]
fn hear_datagram(at: &str) -> String {
    let socket = datagrams(if at.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" });
    socket.connect(at).unwrap();
    socket.send(b"hello\n").unwrap();
    let mut heard = [0; 99];
    let length = socket.recv(&mut heard).unwrap_or_else(|error| panic!("{at}: {error}"));
    String::from_utf8_lossy(&heard[..length]).into_owned()
}

/// A process beside the test, which ends with it.
struct Beside(Child);

impl Beside {
    /// A machine by a cable: it has 198.51.100.2 and 2001:db8:1::2, we have .1.
    fn neighbour() -> Beside {
        let child = Command::new("unshare").args(["-n", "sleep", "1000"]).stdin(Stdio::null()).spawn().unwrap();
        let pid = child.id();
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        eventually("it has a network of its own", || {
            std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|its| its != own)
        });
        must(&format!(
            "ip link add cable type veth peer name cable netns {pid}; ip link set cable up
            ip addr add 198.51.100.1/24 dev cable; ip -6 addr add 2001:db8:1::1/64 dev cable nodad
            inside='nsenter -t {pid} -n'; $inside ip link set lo up; $inside ip link set cable up
            $inside ip addr add 198.51.100.2/24 dev cable; $inside ip -6 addr add 2001:db8:1::2/64 dev cable nodad
            $inside ip route add default via 198.51.100.1; $inside ip -6 route add default via 2001:db8:1::1"
        ));
        Beside(child)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A resolver of the host's that knows one name, and `/etc/resolv.conf` for it. It answers datagrams with a word to use TCP for the name `long`.
fn resolver(world: &World) {
    let udp = UdpSocket::bind("127.0.0.53:53").unwrap();
    let tcp = TcpListener::bind("127.0.0.53:53").unwrap();
    let answer = |asked: &[u8], truncated: bool| {
        let mut answer = asked.to_vec();
        (answer[2], answer[3]) = (0x81 | u8::from(truncated) << 1, 0x80);
        // One record that points back to the name; what else was asked for (EDNS) is left out.
        let end = 12 + asked[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
        answer.truncate(end);
        (answer[9], answer[11]) = (0, 0);
        let is_a = asked[end - 3] == 1;
        answer[7] = u8::from(is_a && !truncated);
        if is_a && !truncated {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
        }
        answer
    };
    std::thread::spawn(move || {
        let mut asked = [0; 512];
        while let Ok((length, from)) = udp.recv_from(&mut asked) {
            let long = asked[13..].starts_with(b"long");
            let _ = udp.send_to(&answer(&asked[..length], long), from);
        }
    });
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut length = [0; 2];
            while stream.read_exact(&mut length).is_ok() {
                let mut asked = vec![0; u16::from_be_bytes(length).into()];
                stream.read_exact(&mut asked).unwrap();
                let answer = answer(&asked, false);
                stream.write_all(&[&(answer.len() as u16).to_be_bytes()[..], &answer].concat()).unwrap();
            }
        }
    });
    let conf = world.file("resolv.conf", "nameserver 127.0.0.53\nsearch island.test\n");
    must(&format!("mount --bind {} \"$(readlink -f /etc/resolv.conf)\"", conf.display()));
}

#[test]
fn sandboxes_on_a_bridge_reach_each_other_by_name_and_the_world() {
    let Some(()) = island::enter() else { return };
    let Some(world) = World::new() else { return };
    let before = inventory();
    resolver(&world);
    let neighbour = Beside::neighbour();
    let with_cable = inventory();
    serve(&world, "web", &["--network", "bridge"]);
    let bridge = ["--network", "bridge"];
    for (asked, answer) in [
        (["tcp", "4", "web", "80"], "stream from ::ffff:10.83.0.3: hello\n"),
        (["tcp", "6", "WEB", "80"], "stream from fd69:6e73:756c:1::4: hello\n"),
        (["udp", "4", "web", "80"], "datagram: hello\n"),
        (["udp", "6", "web", "80"], "datagram: hello\n"),
    ] {
        assert_eq!(hear(&world, &bridge, &asked), answer, "{asked:?}");
    }
    // Addresses of names, and names of addresses; what only the host's resolver knows, also where that takes TCP.
    let ask = |name: &str| world.ok(["run", "--network", "bridge", "--hostname", "mine", "--", "getent", "ahostsv4", name]);
    assert!(ask("web").starts_with("10.83.0.2 "), "{}", ask("web"));
    assert!(ask("outside").starts_with("192.0.2.1 "), "{}", ask("outside"));
    assert!(ask("long").starts_with("192.0.2.1 "), "{}", ask("long"));
    assert!(ask("mine").starts_with("10.83.0."), "{}", ask("mine"));
    let reverse = world.ok(["run", "--network", "bridge", "--", "getent", "hosts", "10.83.0.2"]);
    assert!(reverse.trim().ends_with("web"), "{reverse}");
    assert_eq!(world.state("web")["network"]["addresses"], serde_json::json!(["10.83.0.2", "fd69:6e73:756c:1::2"]));
    // Elsewhere, they bear the host's address; and from there they aren't reached by their own.
    let mut elsewhere = Command::new("nsenter");
    elsewhere.args(["-t", &neighbour.0.id().to_string(), "-n", "perl"]).args(MODULES).args(["-e", SERVER]).stdout(Stdio::piped());
    let mut elsewhere = Beside(elsewhere.spawn().unwrap());
    elsewhere.0.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();
    assert_eq!(hear(&world, &bridge, &["tcp", "4", "198.51.100.2", "80"]), "stream from ::ffff:198.51.100.1: hello\n");
    assert_eq!(hear(&world, &bridge, &["tcp", "6", "2001:db8:1::2", "80"]), "stream from 2001:db8:1::1: hello\n");
    assert_eq!(hear(&world, &bridge, &["udp", "4", "198.51.100.2", "80"]), "datagram: hello\n");
    for (family, address) in [("4", "10.83.0.2"), ("6", "fd69:6e73:756c:1::2")] {
        let refused = hear_from(&neighbour.0, &["tcp", family, address, "80"]);
        assert!(!refused.status.success(), "{}", told(&refused));
    }
    drop(elsewhere);
    world.ok(["delete", "--force", "web"]);
    assert_as(&with_cable, "delete");
    drop(neighbour);
    must("ip link del cable 2>/dev/null || true");
    assert_as(&before, "the neighbour");
}

#[test]
fn published_ports_are_reached_from_everywhere() {
    let Some(()) = island::enter() else { return };
    let Some(world) = World::new() else { return };
    let neighbour = Beside::neighbour();
    let before = inventory();
    let ports = ["-p", "8080:80", "-p", "8080:80/udp", "-p", "127.0.0.1:8081:80", "-p", "[2001:db8::1]:8082:80"];
    serve(&world, "web", &[&["--network", "bridge"], &ports[..]].concat());
    for at in ["127.0.0.1:8080", "192.0.2.1:8080", "10.83.0.1:8080", "127.0.0.1:8081"] {
        assert!(hear_stream(at).ends_with(": hello\n"), "{at}");
    }
    for at in ["[2001:db8::1]:8080", "[2001:db8:1::1]:8080", "[2001:db8::1]:8082"] {
        assert!(hear_stream(at).ends_with(": hello\n"), "{at}");
    }
    for at in ["127.0.0.1:8080", "192.0.2.1:8080", "[2001:db8::1]:8080"] {
        assert_eq!(hear_datagram(at), "datagram: hello\n", "{at}");
    }
    // Not where they aren't published, and at once.
    for at in ["192.0.2.1:8081", "[2001:db8:1::1]:8082", "[::1]:8080", "127.0.0.1:8083"] {
        let error = TcpStream::connect(at).expect_err(at);
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{at}");
    }
    // From elsewhere the server sees who asks.
    for (asked, answer) in [
        (["tcp", "4", "198.51.100.1", "8080"], "stream from ::ffff:198.51.100.2: hello\n"),
        (["tcp", "6", "2001:db8:1::1", "8080"], "stream from 2001:db8:1::2: hello\n"),
        (["udp", "4", "198.51.100.1", "8080"], "datagram: hello\n"),
        (["udp", "6", "2001:db8:1::1", "8080"], "datagram: hello\n"),
    ] {
        let heard = hear_from(&neighbour.0, &asked);
        assert_eq!(stdout(&heard), answer, "{asked:?}: {}", told(&heard));
    }
    assert!(!hear_from(&neighbour.0, &["tcp", "4", "198.51.100.1", "8081"]).status.success());
    // A sandbox reaches what is published by the host's address, be it itself; but nothing of the host's loopback device.
    assert!(hear(&world, &["--network", "bridge"], &["tcp", "4", "192.0.2.1", "8080"]).ends_with(": hello\n"));
    let own = [&["exec", "web", "perl"], &MODULES[..], &["-e", CLIENT, "tcp", "4", "10.83.0.1", "8080"]].concat();
    assert!(world.ok(own).ends_with(": hello\n"));
    // Taken ports: by another sandbox, by a program of the host's.
    let _server = TcpListener::bind("127.0.0.1:8090").unwrap();
    for port in ["8080:80", "127.0.0.1:8080:80", "127.0.0.1:8090:80"] {
        let error = world.fails(125, ["run", "--network", "bridge", "-p", port, "--", "true"]);
        assert!(error.contains(&format!("-p {port}/tcp: Address already in use")), "{error}");
    }
    world.ok(["delete", "--force", "web"]);
    assert!(TcpStream::connect("127.0.0.1:8080").is_err());
    assert_as(&before, "delete");
    assert!(!world.store().join(":network").exists());
}

#[test]
fn datagrams_go_where_their_port_is_published_now() {
    let Some(()) = island::enter() else { return };
    let Some(world) = World::new() else { return };
    // Somebody follows flows from the beginning.
    serve(&world, "other", &["--network", "bridge"]);
    // One client each, that keeps its port and so goes on with its flow.
    let clients = ["127.0.0.1:8080", "192.0.2.1:8080", "[2001:db8::1]:8080"].map(|at| {
        let client = datagrams(if at.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" });
        client.connect(at).unwrap();
        client
    });
    let asks = |when: &str| {
        for client in &clients {
            // What is left of an error from before is taken first.
            let _ = client.take_error();
            client.send(b"hello\n").unwrap();
            let mut heard = [0; 99];
            let length = client.recv(&mut heard).unwrap_or_else(|error| panic!("{when}: {error}"));
            assert_eq!(&heard[..length], b"datagram: hello\n", "{when}");
        }
    };
    // Before there is anything to lead to, it is the host that refuses.
    for client in &clients {
        client.send(b"hello\n").unwrap();
        assert_eq!(client.recv(&mut [0; 9]).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    }
    let publish = ["--network", "bridge", "-p", "8080:80/udp"];
    serve(&world, "first", &publish);
    asks("the port is published");
    world.ok(["delete", "--force", "first"]);
    serve(&world, "second", &publish);
    asks("another container has it");
    signal("KILL", owner(&world, "second"));
    world.until("second", "stopped");
    serve(&world, "third", &publish);
    asks("the one before has crashed");
    for name in ["third", "second", "other"] {
        world.ok(["delete", "--force", name]);
    }
    let flows = read("/proc/thread-self/net/nf_conntrack");
    let left: Vec<&str> = flows.lines().filter(|line| line.contains(" udp ") && line.contains("sport=80 ")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_sentry_stands_on_a_bridge_as_others_do() {
    let Some(()) = island::enter() else { return };
    let Some(world) = World::new() else { return };
    let before = inventory();
    let sentry = ["--isolation", "sentry", "--network", "bridge"];
    serve(&world, "inside", &[&sentry[..], &["-p", "8080:80", "-p", "8080:80/udp"]].concat());
    assert!(hear_stream("127.0.0.1:8080").ends_with(": hello\n"));
    assert!(hear_stream("[2001:db8::1]:8080").ends_with(": hello\n"));
    assert_eq!(hear_datagram("192.0.2.1:8080"), "datagram: hello\n");
    serve(&world, "web", &["--network", "bridge"]);
    let bridge = &sentry[2..];
    for (from, to) in [(bridge, "inside"), (&sentry, "web"), (&sentry, "inside")] {
        for asked in [["tcp", "4"], ["tcp", "6"], ["udp", "4"], ["udp", "6"]] {
            let heard = hear(&world, from, &[asked[0], asked[1], to, "80"]);
            assert!(heard.ends_with(": hello\n"), "{asked:?} from {from:?} to {to}: {heard}");
        }
    }
    assert_eq!(world.state("inside")["network"]["addresses"][0], "10.83.0.2");
    world.ok(["delete", "--force", "inside"]);
    world.ok(["delete", "--force", "web"]);
    assert_as(&before, "delete");
}

#[test]
fn a_network_without_privilege_reaches_what_the_host_reaches() {
    let Some(()) = island::enter() else { return };
    let Some(world) = World::new() else { return };
    resolver(&world);
    let before = inventory();
    let (streams, six, datagrams) = (
        TcpListener::bind("192.0.2.1:7001").unwrap(),
        TcpListener::bind("[2001:db8::1]:7001").unwrap(),
        datagrams("192.0.2.1:7002"),
    );
    let echo = |listener: TcpListener| {
        std::thread::spawn(move || {
            let mut stream = accept(&listener);
            let mut asked = [0; 6];
            stream.read_exact(&mut asked).unwrap();
            stream.write_all(&asked).unwrap();
        })
    };
    let echoes = [echo(streams), echo(six)];
    std::thread::spawn(move || {
        let mut asked = [0; 99];
        while let Ok((length, from)) = datagrams.recv_from(&mut asked) {
            let _ = datagrams.send_to(&asked[..length], from);
        }
    });
    let user = ["--network", "user"];
    assert_eq!(hear(&world, &user, &["tcp", "4", "outside", "7001"]), "hello\n", "by a name that the host's resolver knows");
    assert_eq!(hear(&world, &user, &["tcp", "6", "2001:db8::1", "7001"]), "hello\n");
    assert_eq!(hear(&world, &user, &["udp", "4", "192.0.2.1", "7002"]), "hello\n");
    echoes.into_iter().for_each(|echo| echo.join().unwrap());
    let _loopback = TcpListener::bind("127.0.0.1:7003").unwrap();
    for address in ["10.0.2.2", "127.0.0.1"] {
        let refused = world.output(words(&["run", "--network", "user"], CLIENT, &["tcp", "4", address, "7003"]));
        assert!(!refused.status.success(), "{}", told(&refused));
    }
    serve(&world, "web", &["--network", "user", "-p", "8080:80", "-p", "127.0.0.1:8080:80/udp"]);
    for at in ["127.0.0.1:8080", "192.0.2.1:8080", "[::1]:8080"] {
        assert!(hear_stream(at).ends_with(": hello\n"), "{at}");
    }
    assert_eq!(hear_datagram("127.0.0.1:8080"), "datagram: hello\n");
    assert_eq!(world.state("web")["network"]["mode"], "user");
    assert_as(&before, "a start of which nothing is to be seen on the host");
    let error = world.fails(125, ["run", "--network", "user", "-p", "8080:80", "--", "true"]);
    assert!(error.contains("8080:80/tcp: Address already in use"), "{error}");
    world.ok(["delete", "--force", "web"]);
    assert!(TcpStream::connect("127.0.0.1:8080").is_err());
    assert!(!world.store().join(":network").exists());
}

#[test]
fn a_plain_user_has_a_network_without_privilege() {
    let Some(()) = island::enter() else { return };
    let Some(plain) = Plain::new() else { return };
    resolver(&plain.world);
    // As most hosts have it; where root alone may, a user is told.
    let node = plain.world.path("tun").display().to_string();
    must(&format!("mknod {node} c 10 200; chmod 600 {node}; mount --bind {node} /dev/net/tun"));
    let error = plain.fails(125, &["run", "--network", "user", "--", "true"]);
    assert!(error.contains("can't open /dev/net/tun: Permission denied; as root: chmod 666 /dev/net/tun"), "{error}");
    must("chmod 666 /dev/net/tun");
    let before = inventory();
    let listener = TcpListener::bind("192.0.2.1:7001").unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut asked = [0; 6];
            let _ = stream.read_exact(&mut asked).and_then(|()| stream.write_all(&asked));
        }
    });
    let client = |options: &[&str]| {
        plain.ok(&words(&[&["run", "--network", "user"], options].concat(), CLIENT, &["tcp", "4", "outside", "7001"]))
    };
    assert_eq!(client(&[]), "hello\n");
    assert_eq!(client(&["-u", "root"]), "hello\n");
    plain.ok(&words(&["run", "-d", "--name", "web", "--network", "user", "-p", "8080:80", "-p", "8080:80/udp"], SERVER, &[]));
    eventually("the server is ready", || {
        let said = plain.ok(&["logs", "web"]);
        assert!(said.is_empty() || said.contains("ready"), "{said}");
        !said.is_empty()
    });
    assert!(hear_stream("127.0.0.1:8080").ends_with(": hello\n"));
    assert_eq!(hear_datagram("127.0.0.1:8080"), "datagram: hello\n");
    assert!(plain.ok(&["state", "web"]).contains("10.0.2.15"));
    let error = plain.fails(125, &["run", "--network", "user", "-p", "8080:80", "--", "true"]);
    assert!(error.contains("8080:80/tcp: Address already in use"), "{error}");
    plain.ok(&["delete", "--force", "web"]);
    assert!(TcpStream::connect("127.0.0.1:8080").is_err());
    for (options, line) in [
        (["--network", "bridge"], "--network bridge takes root; use --network user"),
        (["--network", "container:web"], "to join another's network takes root; use --network user"),
    ] {
        let error = plain.fails(125, &[&["run"], &options[..], &["--", "true"]].concat());
        assert!(error.contains(line), "{error}");
    }
    assert!(!plain.world.path("run/insula/:network").exists());
    assert_as(&before, "all of it");
}

#[test]
fn a_network_can_be_joined() {
    let Some(()) = island::enter() else { return };
    let Some(world) = World::new() else { return };
    serve(&world, "web", &["--network", "bridge"]);
    let joined = ["--network", "container:web"];
    assert!(hear(&world, &joined, &["tcp", "4", "127.0.0.1", "80"]).contains("from ::ffff:127.0.0.1"));
    assert!(hear(&world, &joined, &["tcp", "4", "web", "80"]).ends_with(": hello\n"), "its resolver comes along");
    let pid = world.state("web")["pid"].to_string();
    let path = format!("ns:/proc/{pid}/ns/net");
    assert!(hear(&world, &["--network", &path], &["tcp", "4", "127.0.0.1", "80"]).ends_with(": hello\n"));
    serve(&world, "alone", &[]);
    assert!(hear(&world, &["--network", "container:alone"], &["tcp", "4", "127.0.0.1", "80"]).ends_with(": hello\n"));
    world.ok(["delete", "--force", "web"]);
    world.ok(["delete", "--force", "alone"]);
}

#[test]
fn a_name_that_is_taken_leaves_its_owner_alone() {
    let Some(()) = island::enter() else { return };
    let Some(world) = World::new() else { return };
    for network in ["bridge", "user"] {
        serve(&world, "web", &["--network", network, "-p", "8080:80"]);
        for other in ["bridge", "user"] {
            let error = world.fails(125, ["run", "--name", "web", "--network", other, "--", "true"]);
            assert!(error.contains("a sandbox named web exists already"), "{error}");
        }
        assert!(hear_stream("127.0.0.1:8080").ends_with(": hello\n"));
        world.ok(["delete", "--force", "web"]);
    }
}

#[test]
fn what_cant_be_is_one_line() {
    let Some(()) = island::enter() else { return };
    let Some(world) = World::new() else { return };
    let before = inventory();
    world.hands_off(["run", "-d", "--name", "shares", "--network", "host", "--", "sleep", "1000"]);
    world.hands_off(["run", "-d", "--name", "over", "--", "true"]);
    world.until("over", "stopped");
    let file = world.file("file", "");
    let file = format!("ns:{}", file.display());
    for (options, line) in [
        (vec!["--network", "none", "-p", "80:80"], "--publish: only a network of the sandbox's own"),
        (vec!["--network", "host", "-p", "80:80"], "--publish: only a network of the sandbox's own"),
        (vec!["--network", "container:shares"], "shares has the host's network; use --network host"),
        (vec!["--network", "container:over"], "over is stopped; only a sandbox that runs has a network to join"),
        (vec!["--network", "container:nobody"], "a sandbox named nobody does not exist"),
        (vec!["--network", &file], "is no network namespace"),
        (vec!["--network", "ns:/proc/self/ns/mnt"], "/proc/self/ns/mnt is no network namespace"),
        (vec!["--network", "ns:/nonexistent"], "can't open /nonexistent: No such file or directory"),
        (vec!["--network", "bridge", "-p", "[::1]:80:80"], "the host's kernel can't lead ::1 to a bridge"),
        (vec!["--network", "bridge", "-p", "192.0.2.77:80:80"], "-p 192.0.2.77:80:80/tcp: the host has no such address"),
        (vec!["--network", "user", "-p", "192.0.2.77:80:80"], "the host has no such address"),
    ] {
        let error = world.fails(125, [&["run"], &options[..], &["--", "true"]].concat());
        assert!(error.contains(line), "{options:?}: {error}");
    }
    for (network, line) in [
        ("bridges", "networks are none, host, bridge, user, container:NAME and ns:PATH"),
        ("container:", "container:NAME wants a sandbox's name"),
        ("ns:relative", "ns:PATH wants an absolute path"),
    ] {
        let error = world.fails(2, ["run", "--network", network, "--", "true"]);
        assert!(error.contains(line), "{error}");
    }
    // Without the program for rules, and without the right to a network.
    let mut without = world.insula(["run", "--network", "bridge", "--", "true"]);
    must("mount -t tmpfs none /usr/sbin");
    let error = output(without.env("PATH", "/nonexistent"));
    must("umount /usr/sbin");
    assert!(told(&error).contains("takes the program nft, which isn't here"), "{}", told(&error));
    world.ok(["delete", "--force", "shares"]);
    world.ok(["delete", "over"]);
    assert_as(&before, "all of them");
    assert!(!world.store().join(":network").exists());
}

#[test]
fn a_bundle_gets_a_network_too() {
    let Some(()) = island::enter() else { return };
    let Some(world) = World::new() else { return };
    let bundle = support::bundle::Bundle::script(
        &world,
        "bundle",
        "cat /etc/resolv.conf; ls /sys/class/net 2>/dev/null; cat /proc/net/dev",
    );
    let said = world.ok(["run", "--network", "bridge", "--bundle", bundle.dir(), "b1"]);
    assert!(said.contains("nameserver 10.83.4.2") && said.contains("eth0:"), "{said}");
}

#[test]
fn two_stores_have_two_bridges() {
    let Some(()) = island::enter() else { return };
    let (Some(one), Some(other)) = (World::new(), World::new()) else { return };
    serve(&one, "web", &["--network", "bridge"]);
    serve(&other, "web", &["--network", "bridge"]);
    assert_eq!(one.state("web")["network"]["addresses"][0], "10.83.0.2");
    assert_eq!(other.state("web")["network"]["addresses"][0], "10.83.8.2");
    one.ok(["delete", "--force", "web"]);
    assert!(hear(&other, &["--network", "bridge"], &["tcp", "4", "web", "80"]).contains("from ::ffff:10.83.8.3"));
    // A subnet that the host uses otherwise is left alone.
    must("ip route add 10.83.0.0/24 dev lo");
    serve(&one, "web", &["--network", "bridge"]);
    assert_eq!(one.state("web")["network"]["addresses"][0], "10.83.16.2");
    one.ok(["delete", "--force", "web"]);
    other.ok(["delete", "--force", "web"]);
}

/// The process that stays with a sandbox in the background.
fn owner(world: &World, name: &str) -> String {
    let leases = must(&format!("cat {}/:network/*/leases", world.store().display()));
    let leases: serde_json::Value = serde_json::from_str(&leases).unwrap();
    let lease = leases["leases"].as_array().unwrap().iter().find(|lease| lease["id"] == name).unwrap();
    lease["owner"]["pid"].to_string()
}

#[test]
fn a_crash_leaves_what_the_next_takes_away() {
    let Some(()) = island::enter() else { return };
    let Some(world) = World::new() else { return };
    let before = inventory();
    for network in ["bridge", "user"] {
        serve(&world, "web", &["--network", network, "-p", "8080:80"]);
        signal("KILL", owner(&world, "web"));
        world.until("web", "stopped");
        world.ok(["delete", "--force", "web"]);
        assert_as(&before, "delete");
        assert!(!world.store().join(":network").exists());
    }
    serve(&world, "web", &["--network", "bridge", "-p", "8080:80"]);
    signal("KILL", owner(&world, "web"));
    world.until("web", "stopped");
    // The next one's start sees to it: the port is free, the rules are only its own.
    serve(&world, "next", &["--network", "bridge", "-p", "8080:80"]);
    assert!(hear_stream("127.0.0.1:8080").ends_with(": hello\n"));
    let rules = must("nft list ruleset");
    assert!(rules.contains("10.83.0.3 . 80") && !rules.contains("10.83.0.2 . 80"), "{rules}");
    assert!(!inventory().iter().any(|line| line.contains("insula0-2")));
    world.ok(["delete", "--force", "next"]);
    world.ok(["delete", "--force", "web"]);
    assert_as(&before, "delete");
}

#[test]
fn the_attending_process_has_nothing_of_the_hosts() {
    let Some(()) = island::enter() else { return };
    let Some(world) = World::new() else { return };
    for network in ["bridge", "user"] {
        serve(&world, "web", &["--network", network]);
        let owner = owner(&world, "web");
        let children = read(format!("/proc/{owner}/task/{owner}/children"));
        let inside = world.state("web")["pid"].to_string();
        let attendant: Vec<&str> = children.split_whitespace().filter(|pid| **pid != inside).collect();
        let [attendant] = attendant[..] else { panic!("{network}: {children}") };
        let status = read(format!("/proc/{attendant}/status"));
        let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        assert_eq!(line("Uid:").split_whitespace().nth(1), Some("65534"), "{network}");
        assert!(line("CapPrm:").ends_with("\t0000000000000000") && line("NoNewPrivs:").ends_with('1'), "{status}");
        assert!(line("Seccomp:").ends_with('2'), "{status}");
        world.ok(["delete", "--force", "web"]);
    }
}
