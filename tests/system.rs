//! Whole systems in containers: Debian with systemd, and busybox's init, booted, used, and switched off from inside and out.

#[path = "support/island.rs"]
mod island;
mod support;

use island::{assert_as, inventory};
use std::io::{Read, Write};
use support::pty::Terminal;
use support::system::{Debian, booted, busybox, debian, debian_copied};
use support::{World, eventually, read, signal};

/// Starts a system in the background.
#[track_caller]
fn boot(world: &World, name: &str, root: &str, more: &[&str]) {
    let args = [&["run", "--isolation", "system", "--rootfs", root, "-d", "--name", name], more].concat();
    assert_eq!(world.ok(args), format!("{name}\n"));
}

#[test]
fn debian_boots_runs_services_and_is_switched_off() {
    let Some((world, root)) = debian(Debian::Systemd) else { return };
    let unit =
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -c 'echo the service says; cat /proc/self/cgroup'\n";
    std::fs::write(root.join("etc/systemd/system/probe.service"), unit).unwrap();
    boot(&world, "web", &root, &[]);
    assert_eq!(booted(&world, "web"), "running", "{}", world.ok(["logs", "web"]));
    assert_eq!(world.ok(["exec", "web", "systemctl", "--failed", "--plain", "--no-legend"]), "");

    // It knows that it is in a container, by what, and which: names, numbers and a boot of its own.
    assert_eq!(world.ok(["exec", "web", "hostname"]), "web\n");
    assert_eq!(world.ok(["exec", "web", "cat", "/run/systemd/container"]), "insula\n");
    let ours = read("/proc/sys/kernel/random/boot_id");
    let boot_id = world.ok(["exec", "web", "cat", "/proc/sys/kernel/random/boot_id"]);
    assert!(boot_id.len() == ours.len() && boot_id != ours, "{boot_id}");
    assert_eq!(read(root.join("etc/machine-id")).trim().len(), 32);

    world.ok(["exec", "web", "systemctl", "start", "probe"]);
    let journal = world.ok(["exec", "web", "journalctl", "-b", "-o", "cat", "-u", "probe"]);
    assert!(journal.contains("the service says"), "{journal}");
    assert!(journal.contains("/system.slice/probe.service"), "its groups begin at its root: {journal}");
    assert!(!journal.contains("insula"), "the host's groups aren't to be seen: {journal}");

    eventually("it asks who logs in", || world.ok(["logs", "web"]).contains("web login:"));
    world.ok(["exec", "-d", "web", "systemctl", "poweroff"]);
    world.until("web", "stopped");
    eventually("the end is on record", || world.state("web")["exitCode"] == 0);
    let console = world.ok(["logs", "web"]);
    assert!(console.contains("Powering off"), "{console}");
}

#[test]
fn a_console_is_logged_in_at_and_left() {
    let Some((world, root)) = debian(Debian::Systemd) else { return };
    boot(&world, "console", &root, &[]);
    booted(&world, "console");
    let mut terminal = Terminal::new(&world);
    terminal.line("insula attach console");
    terminal.expect("Ctrl-] leaves it");
    terminal.keys("\n");
    terminal.expect("login: ");
    terminal.keys("root\n");
    terminal.expect("# ");
    terminal.keys("tty; echo $((6*7)); stty size\n");
    terminal.expect("/dev/console\n42\n24 80\n");
    terminal.resize(100, 30);
    terminal.keys("stty size\n");
    terminal.expect("30 100\n");
    // Ctrl-C is the system's.
    terminal.keys("sleep 1000\n");
    eventually("it sleeps", || world.ok(["ps", "console"]).contains("sleep 1000"));
    terminal.keys("\u{3}");
    terminal.expect("^C");
    terminal.expect("# ");
    terminal.keys("echo still $((1+1))\n");
    terminal.expect("still 2\n");
    terminal.keys("\u{1d}");
    terminal.expect("left the console");
    assert_eq!(world.state("console")["status"], "running");
    // Whoever comes later finds what was left.
    terminal.line("insula attach console");
    terminal.keys("echo again $((2+2))\n");
    terminal.expect("again 4\n");
    terminal.keys("\u{1d}");
    terminal.expect("left the console");
    terminal.exit();
    assert!(world.ok(["logs", "console"]).contains("again 4"), "what was printed is kept");
}

#[test]
fn a_reboot_starts_it_again() {
    let Some((world, root)) = debian(Debian::Systemd) else { return };
    boot(&world, "again", &root, &[]);
    booted(&world, "again");
    let boot_id = || world.ok(["exec", "again", "cat", "/proc/sys/kernel/random/boot_id"]);
    let (pid, first) = (world.state("again")["pid"].clone(), boot_id());
    world.ok(["exec", "-d", "again", "systemctl", "reboot"]);
    eventually("another first process", || {
        let state = world.state("again");
        state["status"] == "running" && state["pid"] != pid
    });
    assert_eq!(booted(&world, "again"), "running");
    assert_ne!(boot_id(), first);
    assert!(world.ok(["logs", "again"]).contains("Rebooting"), "what the console printed before is kept");
    world.ok(["stop", "again"]);
    world.until("again", "stopped");
}

#[test]
fn it_is_stopped_started_and_frozen_from_outside() {
    let Some((world, root)) = debian(Debian::Systemd) else { return };
    boot(&world, "frozen", &root, &["--memory", "512m"]);
    booted(&world, "frozen");
    world.ok(["pause", "frozen"]);
    assert_eq!(world.state("frozen")["status"], "paused");
    world.ok(["resume", "frozen"]);
    assert_eq!(world.state("frozen")["status"], "running");

    world.ok(["pause", "frozen"]);
    world.ok(["stop", "frozen"]);
    world.until("frozen", "stopped");
    assert!(world.ok(["logs", "frozen"]).contains("Reached target"), "it was shut down in order");
    let text = world.fails(1, ["stop", "frozen"]);
    assert!(text.contains("stopped; there is nothing to stop"), "{text}");

    world.ok(["start", "frozen"]);
    assert_eq!(booted(&world, "frozen"), "running");
    world.ok(["stop", "--kill", "frozen"]);
    world.until("frozen", "stopped");
    world.ok(["delete", "frozen"]);
    assert_eq!(world.ok(["list", "--quiet"]), "");
}

#[test]
fn without_privilege_its_root_is_nobody_on_the_host() {
    let Some((world, root)) = debian_copied(Debian::Systemd) else { return };
    boot(&world, "nobody", &root, &["--userns", "100000:65536"]);
    assert_eq!(booted(&world, "nobody"), "running");
    assert_eq!(world.ok(["exec", "nobody", "systemctl", "--failed", "--plain", "--no-legend"]), "");
    let status = read(format!("/proc/{}/status", world.state("nobody")["pid"]));
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    assert_eq!(uid.split_whitespace().collect::<Vec<_>>(), ["100000"; 4]);
    // Files belong inside to whom they belong in the directory.
    world.ok(["exec", "nobody", "touch", "/root/made"]);
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(root.join("root/made")).unwrap()), 0);
    assert_eq!(world.ok(["exec", "nobody", "stat", "-c", "%u", "/root/made", "/var/mail"]), "0\n0\n");
    let refused = world.output(["exec", "nobody", "sh", "-c", "echo 1 > /proc/sys/kernel/panic"]);
    assert!(!refused.status.success(), "the host's kernel isn't its root's");
    world.ok(["stop", "nobody"]);
    world.until("nobody", "stopped");
}

#[test]
fn busybox_is_an_init_too() {
    let Some((world, root)) = busybox() else { return };
    boot(&world, "box", &root, &[]);
    eventually("it is up", || world.ok(["logs", "box"]).contains("box login:"));
    let pid = world.state("box")["pid"].clone();
    world.ok(["exec", "-d", "box", "reboot"]);
    eventually("another first process", || {
        let state = world.state("box");
        state["status"] == "running" && state["pid"] != pid
    });
    eventually("it is up again", || world.ok(["logs", "box"]).matches("box login:").count() == 2);
    world.ok(["stop", "box"]);
    world.until("box", "stopped");
    let console = world.ok(["logs", "box"]);
    assert!(console.matches("it goes down").count() == 2, "{console}");
    eventually("the end is on record", || world.state("box")["exitCode"] == 0);
}

#[test]
fn in_the_foreground_the_console_is_the_terminal() {
    let Some((world, root)) = busybox() else { return };
    let mut terminal = Terminal::new(&world);
    terminal.line(&format!("insula run --isolation system --rootfs {root} --name fore; echo code $?"));
    terminal.expect("fore login: ");
    terminal.keys("root\n");
    terminal.expect("# ");
    terminal.keys("echo $((6*7))\n");
    terminal.expect("42\n");
    // The key that isn't the system's.
    terminal.keys("\u{1d}");
    terminal.expect("it goes down");
    terminal.expect("code 0\n");
    terminal.exit();
    assert_eq!(world.ok(["list", "--quiet"]), "", "nothing is left");
}

#[test]
fn when_whoever_stays_with_it_is_killed_nothing_is_left() {
    let Some((world, root)) = busybox() else { return };
    boot(&world, "kept", &root, &[]);
    let status = read(format!("/proc/{}/status", world.state("kept")["pid"]));
    let keeper = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().to_owned();
    signal("KILL", keeper);
    world.until("kept", "stopped");
    world.ok(["start", "kept"]);
    world.until("kept", "running");
    world.ok(["delete", "--force", "kept"]);
    let groups = std::process::Command::new("find").args(["/sys/fs/cgroup", "-name", "insula-kept"]).output().unwrap();
    assert_eq!(support::stdout(&groups), "");
}

/// What a system has in a file.
#[track_caller]
fn content(world: &World, name: &str, path: &str) -> String {
    world.ok(["exec", name, "cat", path])
}

#[test]
fn a_clone_has_the_files_and_a_number_of_its_own() {
    let Some((world, root)) = busybox() else { return };
    let number = "0123456789abcdef0123456789abcdef\n";
    std::fs::write(root.join("etc/machine-id"), number).unwrap();
    std::fs::write(root.join("etc/mark"), "first\n").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", root.join("etc/link")).unwrap();
    boot(&world, "base", &root, &[]);
    let text = world.fails(1, ["clone", "base", "copy"]);
    assert!(text.contains("stop it first"), "{text}");
    world.ok(["stop", "base"]);
    assert_eq!(world.ok(["clone", "base", "copy"]), "copy\n");
    assert_eq!(world.ok(["clone", "--overlay", "base", "over"]), "over\n");
    let text = world.fails(1, ["clone", "base", "copy"]);
    assert!(text.contains("exists already"), "{text}");
    let mut numbers = vec![number.to_owned()];
    for name in ["copy", "over"] {
        assert_eq!(world.state(name)["status"], "stopped");
        world.ok(["start", name]);
        eventually("it is up", || world.ok(["logs", name]).contains(&format!("{name} login:")));
        assert_eq!(content(&world, name, "/etc/mark"), "first\n");
        world.ok(["exec", name, "sh", "-c", "echo other > /etc/mark"]);
        numbers.push(content(&world, name, "/etc/machine-id"));
    }
    numbers.sort();
    numbers.dedup();
    assert!(numbers.len() == 3 && numbers.iter().all(|number| number.len() == 33), "{numbers:?}");
    assert_eq!(read(root.join("etc/mark")), "first\n", "the first has kept its own");
    // A clone of an overlay copies what was written.
    world.ok(["stop", "over"]);
    world.ok(["clone", "over", "third"]);
    world.ok(["start", "third"]);
    assert_eq!(content(&world, "third", "/etc/mark"), "other\n");
    let text = world.fails(1, ["clone", "--overlay", "over", "fourth"]);
    assert!(text.contains("copies only what it wrote") || text.contains("--overlay"), "{text}");
}

#[test]
fn a_snapshot_is_come_back_to() {
    let Some((world, root)) = busybox() else { return };
    boot(&world, "kept", &root, &[]);
    let text = world.fails(1, ["snapshot", "kept"]);
    assert!(text.contains("stop it first"), "{text}");
    world.ok(["exec", "kept", "sh", "-c", "echo before > /etc/mark"]);
    world.ok(["stop", "kept"]);
    snapshots(&world, "kept");
}

/// Takes snapshots of a stopped system with `/etc/mark`, and comes back to one.
#[track_caller]
fn snapshots(world: &World, name: &str) {
    assert_eq!(world.ok(["snapshot", name]), "snap0\n");
    assert_eq!(world.ok(["snapshot", name, "named"]), "named\n");
    let text = world.fails(1, ["snapshot", name, "named"]);
    assert!(text.contains("there already"), "{text}");
    let list = world.ok(["snapshot", name, "--list"]);
    assert!(list.contains("snap0") && list.contains("named"), "{list}");
    world.ok(["start", name]);
    let mark = content(world, name, "/etc/mark");
    world.ok(["exec", name, "sh", "-c", "echo after > /etc/mark; echo more > /root/more"]);
    world.ok(["stop", name]);
    world.ok(["snapshot", name, "--restore", "named"]);
    world.ok(["start", name]);
    assert_eq!(content(world, name, "/etc/mark"), mark);
    assert!(!world.output(["exec", name, "cat", "/root/more"]).status.success());
    world.ok(["stop", name]);
    let text = world.fails(1, ["snapshot", name, "--restore", "none"]);
    assert!(text.contains("has no snapshot none"), "{text}");
    world.ok(["snapshot", name, "--delete", "named"]);
    world.ok(["snapshot", name, "--delete", "snap0"]);
    assert_eq!(world.ok(["snapshot", name, "--list"]).lines().count(), 1);
}

#[test]
fn on_btrfs_a_subvolume_is_snapshotted() {
    let Some((world, root)) = busybox() else { return };
    let dir = world.directory("btrfs");
    let image = world.path("image");
    let script = format!(
        "truncate -s 512M {image} && mkfs.btrfs -q {image} && mount -o loop {image} {dir} && btrfs -q subvolume create {dir}/box && cp -a {root}/. {dir}/box",
        image = image.display(),
        dir = dir.display()
    );
    let made = support::output(std::process::Command::new("sh").args(["-c", &script]));
    if !made.status.success() {
        eprintln!("skipped: no btrfs can be made and mounted here: {}", support::stderr(&made).trim());
        return;
    }
    let root = dir.join("box");
    boot(&world, "tree", root.to_str().unwrap(), &[]);
    world.ok(["exec", "tree", "sh", "-c", "echo before > /etc/mark"]);
    world.ok(["stop", "tree"]);
    snapshots(&world, "tree");
    world.ok(["clone", "tree", "branch"]);
    assert_eq!(std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(dir.join("branch")).unwrap()), 256, "a subvolume");
    world.ok(["start", "branch"]);
    assert_eq!(content(&world, "branch", "/etc/mark"), "before\n");
    world.ok(["stop", "branch"]);
    let unmounted = std::process::Command::new("umount").arg(&dir).status().unwrap();
    assert!(unmounted.success(), "nothing holds it");
}

#[test]
fn the_list_is_started_and_stopped_in_order() {
    let Some((world, root)) = busybox() else { return };
    for name in ["early", "late"] {
        boot(&world, name, &root, &["--hostname", "said"]);
    }
    world.ok(["autostart", "add", "--order", "20", "late"]);
    world.ok(["autostart", "add", "--order", "10", "early"]);
    let list = world.ok(["autostart", "list"]);
    let names: Vec<&str> = list.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["early", "late"]);
    assert_eq!(world.ok(["autostart", "start"]), "", "both run already");
    world.ok(["autostart", "stop"]);
    world.until("early", "stopped");
    world.until("late", "stopped");
    // As after a start of the host: nothing is on record.
    world.ok(["delete", "early"]);
    assert_eq!(world.ok(["autostart", "start"]), "early\nlate\n");
    world.until("early", "running");
    world.until("late", "running");
    assert_eq!(world.ok(["exec", "early", "cat", "/proc/sys/kernel/hostname"]), "said\n", "with all its options");
    world.ok(["autostart", "remove", "early"]);
    assert!(world.fails(1, ["autostart", "remove", "early"]).contains("isn't on the list"));
    world.ok(["stop", "early", "late"]);
}

#[test]
fn what_makes_no_sense_for_a_system_is_refused() {
    let Some((world, root)) = busybox() else { return };
    let refused: [(&[&str], &str); 10] = [
        (&["--rootfs", &root, "--network", "container:other"], "--network container"),
        (&["--rootfs", &root, "--userns", "100000:65536", "--network", "user"], "--network user"),
        (&["--rootfs", &root, "--user", "web"], "--user"),
        (&["--rootfs", &root, "--workdir", "/x"], "--workdir"),
        (&["--keep", "out"], "--keep"),
        (&[], "needs --rootfs"),
        (&["--rootfs", &root, "/sbin/none"], "/sbin/none"),
        (&["--rootfs", &root, "--userns", "nonsense"], "--userns"),
        (&["--rootfs", &root, "--userns", "0:65536"], "--userns"),
        (&["--rootfs", &root, "--userns", "100000:65536", "--network", "host"], "--network host"),
    ];
    for (options, named) in refused {
        let output = world.output([&["run", "--isolation", "system"], options].concat());
        let text = support::stderr(&output);
        assert!([Some(125), Some(127)].contains(&output.status.code()) && text.contains(named), "{options:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    let text = world.fails(1, ["--isolation", "system", "create", "x"]);
    assert!(text.contains("insula run --rootfs"), "{text}");
    let text = world.fails(125, ["run", "--userns", "auto", "--", "true"]);
    assert!(text.contains("--userns"), "{text}");
    assert_eq!(world.ok(["list", "--quiet"]), "");
}

/// The same with a network: the process that serves it keeps what we give it for errors.
#[track_caller]
fn boot_linked(world: &World, name: &str, root: &str, more: &[&str]) {
    world.hands_off([&["run", "--isolation", "system", "--rootfs", root, "-d", "--name", name], more].concat());
}

/// Has a system's busybox answer at port 80 with what it is sent.
#[track_caller]
fn serve_echo(world: &World, name: &str) {
    world.hands_off(["exec", "-d", name, "busybox", "nc", "-ll", "-p", "80", "-e", "/bin/cat"]);
    eventually("it listens", || world.ok(["exec", name, "cat", "/proc/net/tcp", "/proc/net/tcp6"]).contains(":0050 "));
}

/// What such a server sends back.
#[track_caller]
fn echoed(at: &str) -> String {
    let mut stream = std::net::TcpStream::connect(at).unwrap_or_else(|error| panic!("{at}: {error}"));
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    stream.write_all(b"echo\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    heard
}

/// A system's address on its bridge.
fn address(world: &World, name: &str) -> String {
    world.state(name)["network"]["addresses"][0].as_str().unwrap_or_default().to_owned()
}

/// One with users of its own, whose network is its own root's, and one without.
#[test]
fn on_a_bridge_it_is_reached_and_finds_others() {
    if island::enter().is_none() {
        return;
    }
    let Some((world, root)) = busybox() else { return };
    std::fs::write(root.join("etc/resolv.conf"), "nameserver 203.0.113.9\n").unwrap();
    // The kernel keeps what it was told of forwarding.
    island::must("echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
    let before = inventory();
    for users in [&[][..], &["--userns", "100000:65536"]] {
        boot_linked(&world, "linked", &root, &[&["--network", "bridge", "-p", "8080:80"], users].concat());
        serve_echo(&world, "linked");
        assert_eq!(echoed("127.0.0.1:8080"), "echo\n", "{users:?}");
        let first = address(&world, "linked");
        assert_eq!(echoed(&format!("{first}:80")), "echo\n", "{users:?}");
        // Others find it by name, and it finds them.
        assert_eq!(
            world.ok(["run", "--network", "bridge", "--", "getent", "ahostsv4", "linked"]).split(' ').next(),
            Some(&first[..])
        );
        world.hands_off(["run", "-d", "--name", "peer", "--network", "bridge", "--", "sleep", "1000"]);
        let found = world.ok(["exec", "linked", "busybox", "nslookup", "peer"]);
        assert!(found.contains(&address(&world, "peer")), "{found}");
        world.ok(["delete", "--force", "peer"]);
        // The card is its own root's to set.
        world.ok(["exec", "linked", "busybox", "ip", "addr", "add", "192.0.2.77/32", "dev", "eth0"]);

        // Each start has a network anew, at the address it had.
        let pid = world.state("linked")["pid"].clone();
        world.ok(["exec", "-d", "linked", "reboot"]);
        eventually("another first process", || {
            let state = world.state("linked");
            state["status"] == "running" && state["pid"] != pid
        });
        let own = world.ok(["exec", "linked", "busybox", "ip", "addr"]);
        assert!(own.contains(&first) && !own.contains("192.0.2.77"), "{own}");
        world.ok(["stop", "linked"]);
        world.until("linked", "stopped");
        assert_as(&before, "its stop");
        world.hands_off(["start", "linked"]);
        assert_eq!(address(&world, "linked"), first);
        serve_echo(&world, "linked");
        assert_eq!(echoed("127.0.0.1:8080"), "echo\n", "after another start");

        // Who stays with it is killed: what it had is gone with the next that looks.
        let status = read(format!("/proc/{}/status", world.state("linked")["pid"]));
        let keeper = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().to_owned();
        signal("KILL", keeper);
        world.until("linked", "stopped");
        world.hands_off(["start", "linked"]);
        assert_eq!(address(&world, "linked"), first, "it starts again");
        world.ok(["delete", "--force", "linked"]);
        assert_as(&before, "its removal");
    }
    assert_eq!(read(root.join("etc/resolv.conf")), "nameserver 203.0.113.9\n", "its file stays as it was");
}

#[test]
fn a_service_of_its_own_keeps_the_list_of_resolvers() {
    if island::enter().is_none() {
        return;
    }
    let Some((world, root)) = busybox() else { return };
    std::os::unix::fs::symlink("../run/resolved/stub", root.join("etc/resolv.conf")).unwrap();
    boot_linked(&world, "resolved", &root, &["--network", "bridge"]);
    world.ok(["exec", "resolved", "sh", "-c", "busybox mkdir /run/resolved; echo own > /run/resolved/stub"]);
    assert_eq!(content(&world, "resolved", "/etc/resolv.conf"), "own\n");
    world.ok(["delete", "--force", "resolved"]);
}

#[test]
fn other_networks_of_a_system() {
    if island::enter().is_none() {
        return;
    }
    let Some((world, root)) = busybox() else { return };
    // One that is there: nothing of it is made or removed.
    let file = world.file("namespace", "");
    let path = file.display();
    island::must(&format!("unshare --net={path} ip link add card type veth peer name other"));
    boot_linked(&world, "there", &root, &["--network", &format!("ns:{path}")]);
    assert!(world.ok(["exec", "there", "busybox", "ip", "link"]).contains("card"));
    world.ok(["stop", "there"]);
    world.hands_off(["start", "there"]);
    assert!(world.ok(["exec", "there", "busybox", "ip", "link"]).contains("card"));
    world.ok(["delete", "--force", "there"]);
    island::must(&format!("nsenter --net={path} ip link show card; umount {path}"));

    boot_linked(&world, "user", &root, &["--network", "user", "-p", "8081:80"]);
    for when in ["at first", "after another start"] {
        serve_echo(&world, "user");
        assert_eq!(echoed("127.0.0.1:8081"), "echo\n", "{when}");
        world.ok(["stop", "user"]);
        world.hands_off(["start", "user"]);
    }
    world.ok(["delete", "--force", "user"]);
}

#[test]
fn the_benchmark_boots_systems_beside_lxc() {
    let Some((world, root)) = debian(Debian::Systemd) else { return };
    let rows = ["start.plain", "start.idle", "start.system", "sys.getppid"];
    let mut args = vec!["bench", "--platforms", "container,system,lxc", "--runs", "1", "--format", "json", "--system", &root];
    rows.iter().for_each(|row| args.extend(["--rows", row]));
    let report: serde_json::Value = serde_json::from_str(&world.ok(args)).unwrap();
    let cell = |row: usize, platform: &str| {
        let cells = report["rows"][row]["cells"].as_array().unwrap();
        cells.iter().find(|cell| cell["platform"] == platform).cloned().unwrap_or_default()
    };
    let lxc_is_absent = report["absent"].as_array().unwrap().iter().any(|missing| missing["name"] == "lxc");
    let installed = std::process::Command::new("lxc-start").arg("--version").output().is_ok();
    assert_eq!(installed, !lxc_is_absent, "{}", report["absent"]);
    for platform in ["system", "lxc"].into_iter().filter(|&name| name != "lxc" || installed) {
        for (row, name) in rows.iter().enumerate() {
            let median = cell(row, platform)["summary"]["median"].as_f64();
            assert!(median.is_some_and(|value| value > 0.0), "{name} on {platform}: {}", cell(row, platform));
        }
    }
    assert_eq!(cell(2, "container")["reason"], "it boots no system");
    let text = world.fails(1, ["bench", "--system", "/proc"]);
    assert!(text.contains("--system /proc: not the root directory of a system"), "{text}");
}
