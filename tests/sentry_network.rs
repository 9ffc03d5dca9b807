//! `--isolation sentry --network host`: the program's sockets are the host's. Servers and clients on the host are the other side.

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;
use std::time::Duration;
use support::{World, eventually, stderr, stdout, told};

/// What a program wrote that was run behind the sentry in the host's network.
#[track_caller]
fn run(world: &World, options: &[&str], words: &[&str]) -> String {
    world.ok(["--isolation", "sentry", "run", "--network", "host"].iter().chain(options).chain(&["--"]).chain(words))
}

fn perl(world: &World, script: &str) -> String {
    run(world, &[], &["perl", "-MIO::Socket::INET", "-e", script])
}

#[test]
fn a_program_reaches_what_the_host_reaches() {
    let Some(world) = World::new() else { return };
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let answers = std::thread::spawn(move || {
        let (mut client, _) = server.accept().unwrap();
        let mut line = [0; 6];
        client.read_exact(&mut line).unwrap();
        client.write_all(b"heard ").unwrap();
        client.write_all(&line).unwrap();
    });
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; echo hello >&3; cat <&3");
    assert_eq!(run(&world, &[], &["bash", "-c", &script]), "heard hello\n");
    answers.join().unwrap();
}

#[test]
fn without_it_nothing_of_the_host_is_reached() {
    let Some(world) = World::new() else { return };
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/{}", server.local_addr().unwrap().port());
    let refused = world.output(["--isolation", "sentry", "run", "--", "bash", "-c", &script]);
    assert!(stderr(&refused).contains("Connection refused"), "{}", told(&refused));
}

#[test]
fn a_program_is_reached_from_the_host() {
    let Some(world) = World::new() else { return };
    let script = r#"$s = IO::Socket::INET->new(Listen => 5, LocalAddr => "127.0.0.1:0") or die "$!"; $| = 1; print $s->sockport, "\n";
        for (1, 2) { $c = $s->accept or die "$!"; $l = <$c>; print $c "you said $l"; close $c; }"#;
    let mut command = world.insula(["--isolation", "sentry", "run", "--network", "host", "--"]);
    let mut server = command.args(["perl", "-MIO::Socket::INET", "-e", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = std::io::BufReader::new(server.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    let port: u16 = line.trim().parse().unwrap_or_else(|_| panic!("no port: {line:?}"));
    for word in ["one", "two"] {
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        writeln!(client, "{word}").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, format!("you said {word}\n"));
    }
    assert!(server.wait().unwrap().success());
}

#[test]
fn datagrams_go_both_ways() {
    let Some(world) = World::new() else { return };
    let host = UdpSocket::bind("127.0.0.1:0").unwrap();
    host.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let port = host.local_addr().unwrap().port();
    let echo = std::thread::spawn(move || {
        let mut bytes = [0; 64];
        let (length, from) = host.recv_from(&mut bytes).unwrap();
        bytes[..length].reverse();
        host.send_to(&bytes[..length], from).unwrap();
    });
    // By address at first, and with a peer.
    let script = format!(
        r#"$s = IO::Socket::INET->new(Proto => "udp", LocalAddr => "127.0.0.1:0") or die "$!";
        send($s, "stressed", 0, pack_sockaddr_in({port}, inet_aton("127.0.0.1"))) == 8 or die "$!";
        $from = recv($s, $got, 64, 0) or die "$!"; ($p) = unpack_sockaddr_in($from);
        print $got, " ", $p == {port} ? "from there" : "from $p", "\n";"#
    );
    assert_eq!(perl(&world, &script), "desserts from there\n");
    echo.join().unwrap();
}

#[test]
fn much_data_arrives_whole() {
    let Some(world) = World::new() else { return };
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let pattern = |at: usize| (at % 251) as u8;
    let peer = std::thread::spawn(move || {
        let (mut client, _) = server.accept().unwrap();
        let mut bytes: Vec<u8> = (0..4 << 20).map(pattern).collect();
        client.write_all(&bytes).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        bytes.clear();
        client.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), 4 << 20);
        assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == pattern(at)));
    });
    let script = format!(
        r#"$s = IO::Socket::INET->new("127.0.0.1:{port}") or die "$!"; local $/; $all = <$s>;
        print $s $all; shutdown($s, 1); print length $all;"#
    );
    assert_eq!(perl(&world, &script), (4 << 20).to_string());
    peer.join().unwrap();
}

#[test]
fn errors_are_the_hosts() {
    let Some(world) = World::new() else { return };
    // A port that was just free.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let script = format!(
        r#"IO::Socket::INET->new("127.0.0.1:{free}") and die; print "$!\n";
        IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1:{}") and die; print "$!\n";
        IO::Socket::INET->new(Listen => 1, LocalAddr => "203.0.113.9:0") and die; print "$!\n";"#,
        taken.local_addr().unwrap().port()
    );
    let expected = "Connection refused\nAddress already in use\nCannot assign requested address\n";
    assert_eq!(perl(&world, &script), expected);
}

#[test]
fn a_low_port_takes_a_capability() {
    let Some(world) = World::new() else { return };
    let script = r#"print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.9.8.7:81") ? "taken\n" : "$!\n""#;
    let words = ["perl", "-MIO::Socket::INET", "-e", script];
    assert_eq!(run(&world, &[], &words), "taken\n");
    assert_eq!(run(&world, &["--cap-drop", "NET_BIND_SERVICE"], &words), "Permission denied\n");
    assert_eq!(run(&world, &["--user", "1000"], &words), "Permission denied\n");
}

#[test]
fn the_hosts_interfaces_are_seen_and_not_changed() {
    let Some(world) = World::new() else { return };
    let names = |text: &str| -> Vec<String> {
        text.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
    };
    let host = names(&std::fs::read_to_string("/proc/net/dev").unwrap());
    assert_eq!(names(&run(&world, &[], &["cat", "/proc/net/dev"])), host);
    let routes =
        |text: &str| text.lines().map(|line| line.split_whitespace().take(4).collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    let (mut ours, mut theirs) =
        (routes(&run(&world, &[], &["cat", "/proc/net/route"])), routes(&std::fs::read_to_string("/proc/net/route").unwrap()));
    ours.sort();
    theirs.sort();
    assert_eq!(ours, theirs);
    let change = "ip link set lo down; echo $?";
    if std::process::Command::new("ip").arg("link").output().is_ok() {
        let refused = world.output([
            "--isolation",
            "sentry",
            "run",
            "--network",
            "host",
            "--cap-add",
            "NET_ADMIN",
            "--",
            "sh",
            "-c",
            change,
        ]);
        assert!(stderr(&refused).contains("not permitted") && stdout(&refused) != "0\n", "{}", told(&refused));
    }
}

#[test]
fn the_sentry_itself_stands_in_no_network() {
    let Some(world) = World::new() else { return };
    let mut command = world.insula(["--isolation", "sentry", "run", "--network", "host", "--name", "n", "--", "sleep", "1000"]);
    let mut caller = command.spawn().unwrap();
    eventually("it runs", || world.output(["state", "n"]).status.success());
    let net = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let state: serde_json::Value = serde_json::from_str(&world.ok(["state", "n"])).unwrap();
    let pid = state["pid"].to_string();
    eventually("it has left the host's network", || net(&pid).is_some_and(|its| Some(its) != net("self")));
    // One of its children stayed: the net process.
    let children = || {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        children.split_whitespace().filter(|child| net(child) == net("self")).count()
    };
    eventually("one process stands in it", || children() == 1);
    world.ok(["delete", "--force", "n"]);
    let _ = caller.wait();
}

#[test]
fn the_sandboxs_own_network_has_two_names() {
    let Some(world) = World::new() else { return };
    let seen = |network: &str| {
        let script = "cut -d: -f1 /proc/net/dev | tail -n +3; perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1) ? 1 : 0'";
        world.ok(["--isolation", "sentry", "run", "--network", network, "--", "sh", "-c", script])
    };
    assert_eq!((seen("none").as_str(), seen("sandbox").as_str()), ("    lo\n1", "    lo\n1"));
}
