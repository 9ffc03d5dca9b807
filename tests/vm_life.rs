//! The life of a virtual machine: in the background, asked for things, ended in every way, and nothing left of it. `make lab` runs this in a
//! machine with an ordinary KVM; what needs no guest is tested on any host.

mod support;

use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use support::guest::{initrd, lab, load_modules, must};
use support::pty::Terminal;
use support::{World, eventually, finish, read, signal, stdout, told};

/// An init that does what it is told, line by line.
const OBEDIENT: &str = "mount -t devtmpfs dev /dev; echo ready to listen\n\
    while read -r line; do echo \"doing $line\"; eval \"$line\"; echo \"done with $line\"; done";

/// A machine in the background.
struct Guest<'w> {
    world: &'w World,
    name: &'static str,
}

impl Guest<'_> {
    /// Starts one, and waits until it listens.
    #[track_caller]
    fn start<'w>(world: &'w World, name: &'static str, kernel: &Path, initrd: &Path, more: &[&str]) -> Guest<'w> {
        let mut args = vec!["vm", "run", "-d", "--name", name, "--kernel", kernel.to_str().unwrap()];
        args.extend(["--initrd", initrd.to_str().unwrap(), "--cmdline", "quiet loglevel=0"]);
        args.extend(more);
        assert_eq!(world.ok(args), format!("{name}\n"));
        let guest = Guest { world, name };
        guest.until("ready to listen");
        guest
    }

    fn log(&self) -> String {
        self.world.ok(["vm", "logs", self.name]).replace("\r\n", "\n")
    }

    #[track_caller]
    fn until(&self, words: &str) {
        eventually(words, || {
            // Whoever asks all the time takes the processor from the guest that is to say it.
            std::thread::sleep(Duration::from_millis(300));
            self.log().contains(words)
        });
    }

    /// Types a line, and waits until it is done.
    #[track_caller]
    fn does(&self, line: &str) {
        self.types(line);
        self.until(&format!("\ndone with {line}\n"));
    }

    #[track_caller]
    fn types(&self, line: &str) {
        let mut console = self.control();
        console.write_all(format!("{{\"do\":\"console\"}}\n{line}\n").as_bytes()).unwrap();
        // As soon as it is echoed, it has arrived.
        let (mut heard, mut byte) = (Vec::new(), [0]);
        while !String::from_utf8_lossy(&heard).contains(line) {
            assert_eq!(console.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&heard));
            heard.push(byte[0]);
        }
    }

    fn control(&self) -> UnixStream {
        let stream = UnixStream::connect(self.seen()["control"].as_str().unwrap()).unwrap();
        stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
        stream
    }

    fn seen(&self) -> Value {
        machines(self.world).into_iter().find(|machine| machine["name"] == self.name).unwrap_or_default()
    }

    fn stats(&self) -> Value {
        serde_json::from_str(&self.world.ok(["vm", "stats", self.name, "--format", "json"])).unwrap()
    }

    fn device(&self, name: &str) -> Value {
        let stats = self.stats();
        stats["devices"].as_array().unwrap().iter().find(|device| device["name"] == name).unwrap().clone()
    }

    #[track_caller]
    fn ends(&self, code: Value) {
        eventually("the machine's end", || self.seen()["status"] == "stopped");
        assert_eq!(self.seen()["exitCode"], code);
    }
}

/// All that are on record.
fn machines(world: &World) -> Vec<Value> {
    serde_json::from_str(&world.ok(["vm", "ps", "--all", "--format", "json"])).unwrap()
}

/// What is in the store of machines.
fn left(world: &World) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(world.store().join(":vm"));
    entries.map(|entries| entries.map(|entry| entry.unwrap().path()).collect()).unwrap_or_default()
}

#[test]
fn a_machine_in_the_background_lives_and_ends() {
    let Some((world, kernel, _turn)) = lab() else { return };
    let initrd = initrd(&world, OBEDIENT);
    let guest = Guest::start(&world, "web", &kernel, &initrd, &["--cpus", "2"]);
    let seen = guest.seen();
    assert_eq!((&seen["status"], &seen["cpus"], &seen["memory"]), (&"running".into(), &2.into(), &(256 << 20).into()), "{seen}");
    assert!(read(format!("/proc/{}/cmdline", seen["pid"])).contains("--name\0web\0") && seen["control"].is_string(), "{seen}");
    let table = world.ok(["vm", "ps"]);
    assert!(table.starts_with("NAME  STATUS   PID") && table.lines().nth(1).unwrap().starts_with("web   running  "), "{table}");

    let taken = world.fails(125, ["vm", "run", "-d", "--name", "web", "--kernel", kernel.to_str().unwrap()]);
    assert!(taken.contains("a machine named web exists already"), "{taken}");
    assert!(world.fails(1, ["vm", "rm", "web"]).contains("is running; `insula vm stop web` first"));

    guest.does("echo $((6 * 7))");
    guest.until("doing echo $((6 * 7))\n42\n");
    let stats = guest.stats();
    let number = |pointer: &str| stats.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    assert!(number("/exits/ports") > 100, "{stats}");
    let (all, touched, beside) = (number("/memory/guest"), number("/memory/touched"), number("/memory/beside"));
    assert!(all == 256 << 20 && (1 << 20..all).contains(&touched) && (1 << 20..64 << 20).contains(&beside), "{stats}");
    let threads = stats["threads"].as_array().unwrap();
    for name in ["events", "vcpu0", "vcpu1"] {
        assert!(threads.iter().any(|thread| thread["name"] == name && thread["cpu_ns"].as_u64() > Some(0)), "{name}: {stats}");
    }
    assert!(world.ok(["vm", "stats", "web"]).contains("time of vcpu0"));

    // What follows the log ends with the machine.
    let mut follow = world.insula(["vm", "logs", "--follow", "web"]);
    let follow = follow.stdout(Stdio::piped()).spawn().unwrap();
    guest.types("poweroff -f");
    guest.ends(0.into());
    let followed = finish(follow);
    assert!(followed.status.success() && stdout(&followed).contains("doing poweroff -f"), "{}", told(&followed));
    assert_eq!(world.ok(["vm", "ps", "--quiet"]), "");
    assert!(world.ok(["vm", "ps", "--all"]).lines().nth(1).unwrap().starts_with("web   stopped (0)  -  "));
    assert!(guest.log().contains("\n42\n"), "the log stays");
    assert!(world.fails(1, ["vm", "stats", "web"]).contains("isn't running"));
    assert_eq!(world.ok(["vm", "stop", "web"]), "web\n");
    assert!(world.fails(1, ["vm", "kill", "web"]).contains("isn't running"));
    assert_eq!(world.ok(["vm", "rm", "web"]), "web\n");
    assert_eq!((machines(&world), left(&world)), (vec![], vec![]));
}

#[test]
fn a_guest_is_asked_to_switch_off_and_ended_if_it_does_not() {
    let Some((world, kernel, _turn)) = lab() else { return };
    // There is no /sbin/poweroff at first; then one that says so; then one that does nothing.
    let initrd = initrd(&world, &format!("mkdir /sbin\n{OBEDIENT}"));
    let guest = Guest::start(&world, "without", &kernel, &initrd, &[]);
    assert_eq!(world.ok(["vm", "stop", "--time", "60", "without"]), "without\n");
    guest.ends(0.into());

    let guest = Guest::start(&world, "with", &kernel, &initrd, &[]);
    let program = |does: &str| format!("printf '#!/bin/sh\\n{does}\\n' > /sbin/poweroff; chmod +x /sbin/poweroff");
    guest.does(&program("echo asked politely > /dev/console; /bin/poweroff -f"));
    assert_eq!(world.ok(["vm", "stop", "--time", "60", "with"]), "with\n");
    assert!(guest.log().contains("\nasked politely\n"), "{}", guest.log());
    guest.ends(0.into());

    let guest = Guest::start(&world, "deaf", &kernel, &initrd, &[]);
    guest.does(&program("exit 0"));
    let output = world.output(["vm", "stop", "--time", "1", "deaf"]);
    assert!(output.status.success() && stdout(&output) == "deaf\n", "{}", told(&output));
    assert!(told(&output).contains("deaf didn't switch off within 1 seconds, so it was ended"), "{}", told(&output));
    guest.ends(137.into());
    assert_eq!(world.ok(["vm", "rm", "without", "with", "deaf"]), "without\nwith\ndeaf\n");
    assert_eq!(left(&world), Vec::<PathBuf>::new());
}

#[test]
fn whoever_ends_a_machine_nothing_of_it_is_left() {
    let Some((world, kernel, _turn)) = lab() else { return };
    let initrd = initrd(&world, OBEDIENT);
    let vsock = world.path("vsock");
    let options = ["--vsock", vsock.to_str().unwrap()];
    let pid = |guest: &Guest<'_>| guest.seen()["pid"].to_string();

    // By the kernel, from one moment to the next.
    let guest = Guest::start(&world, "shot", &kernel, &initrd, &options);
    assert!(vsock.exists());
    signal("KILL", pid(&guest));
    eventually("it is seen", || guest.seen()["status"] == "stopped");
    assert!(guest.seen()["exitCode"].is_null() && !vsock.exists(), "{}", guest.seen());
    assert!(world.ok(["vm", "ps", "--all"]).contains("stopped (killed)"));
    assert!(!left(&world).iter().any(|path| path.to_str().unwrap().contains(":control")), "{:?}", left(&world));
    assert!(guest.log().contains("ready to listen"));
    assert_eq!(world.ok(["vm", "rm", "shot"]), "shot\n");

    // The same to one that wasn't to be kept: it goes when somebody looks.
    let guest = Guest::start(&world, "forgotten", &kernel, &initrd, &["--rm"]);
    signal("KILL", pid(&guest));
    eventually("it is gone", || machines(&world).is_empty());
    assert_eq!(left(&world), Vec::<PathBuf>::new());

    // By `kill`, and by a signal that any program would heed.
    let guest = Guest::start(&world, "killed", &kernel, &initrd, &options);
    assert_eq!(world.ok(["vm", "kill", "killed"]), "killed\n");
    guest.ends(137.into());
    let guest = Guest::start(&world, "told", &kernel, &initrd, &options);
    signal("TERM", pid(&guest));
    guest.ends(143.into());
    assert!(!vsock.exists());
    // By the guest itself, and one that is removed by force.
    let guest = Guest::start(&world, "own", &kernel, &initrd, &["--rm"]);
    guest.types("reboot -f");
    eventually("it is gone", || machines(&world).len() == 2);
    Guest::start(&world, "forced", &kernel, &initrd, &options);
    assert_eq!(world.ok(["vm", "rm", "--force", "killed", "told", "forced", "never"]), "killed\ntold\nforced\nnever\n");
    assert!(left(&world).is_empty() && !vsock.exists(), "{:?}", left(&world));
}

/// From before there is anything of it until its guest runs.
#[test]
fn killed_at_any_moment_of_its_start_nothing_of_it_is_left() {
    let Some((world, kernel, _turn)) = lab() else { return };
    let initrd = initrd(&world, OBEDIENT);
    let (vsock, disk) = (world.path("vsock"), world.file("disk", &"x".repeat(1 << 20)));
    let args = ["--kernel", kernel.to_str().unwrap(), "--initrd", initrd.to_str().unwrap(), "--vsock", vsock.to_str().unwrap()];
    let mut begun = 0;
    for moment in 0..16 {
        let mut command = world.insula(["vm", "run", "--name", "short", "--disk", disk.to_str().unwrap()]);
        let mut machine = command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Most of what can be left is made in the first moments.
        let wait = Duration::from_millis(9 * moment * moment);
        std::thread::sleep(wait);
        begun += usize::from(!left(&world).is_empty());
        machine.kill().unwrap();
        machine.wait().unwrap();
        world.output(["vm", "rm", "--force", "short"]);
        assert_eq!(left(&world), Vec::<PathBuf>::new(), "killed after {wait:?}");
        assert!(!vsock.exists(), "killed after {wait:?}");
    }
    assert!(begun > 0, "each was killed before it began");
    // Nothing holds the disk either.
    Guest::start(&world, "after", &kernel, &initrd, &["--disk", disk.to_str().unwrap()]);
    world.ok(["vm", "rm", "--force", "after"]);
}

#[test]
fn a_terminal_is_the_console_and_has_a_way_out() {
    let Some((world, kernel, _turn)) = lab() else { return };
    let initrd = initrd(&world, OBEDIENT);
    let line = format!(
        "insula vm run --name front --kernel {} --initrd {} --cmdline 'quiet loglevel=0'",
        kernel.display(),
        initrd.display()
    );
    let mut terminal = Terminal::new(&world);
    terminal.line(&line);
    terminal.expect("ready to listen");
    assert_eq!(machines(&world)[0]["status"], "running");
    assert!(world.fails(1, ["vm", "logs", "front"]).contains("its console is the terminal"));
    // Keys that mean something elsewhere are the guest's: interrupt, quit, stop, end.
    terminal.keys("stty raw -echo; echo raw $((1 + 1)); head -c 4 | hexdump; stty sane\r");
    terminal.expect("raw 2");
    terminal.keys("\u{3}\u{1c}\u{1a}\u{4}");
    terminal.expect("0000000 1c03 041a");
    terminal.expect("done with stty");

    // A second terminal comes and goes.
    let mut second = Terminal::new(&world);
    second.line("insula vm console front");
    second.expect("Ctrl-] leaves it");
    second.keys("echo from the second\r");
    second.expect("done with echo from the second");
    terminal.expect("done with echo from the second");
    second.keys("\u{1d}");
    second.expect("left the console; the machine goes on");
    second.expect("ready> ");
    assert!(second.is_cooked());
    second.line("insula vm console front");
    second.expect("Ctrl-] leaves it");

    // The guest has no /sbin/poweroff, so its kernel switches off by itself.
    terminal.keys("\u{1d}");
    terminal.expect("asked the guest to switch off; Ctrl-] once more ends it at once");
    terminal.expect("ready> ");
    assert!(terminal.is_cooked() && terminal.command("echo code $?").contains("code 0"));
    second.expect("front has ended");
    assert_eq!(left(&world), Vec::<PathBuf>::new());

    // One that doesn't listen is ended by a second time.
    terminal.line(&line);
    terminal.expect("ready to listen");
    terminal.keys("mkdir /sbin; ln -s /bin/true /sbin/poweroff\r");
    terminal.expect("done with mkdir");
    terminal.keys("\u{1d}");
    terminal.expect("once more ends it at once");
    terminal.keys("\u{1d}");
    terminal.expect("ready> ");
    assert!(terminal.command("echo code $?").contains("code 137"));
    assert_eq!(left(&world), Vec::<PathBuf>::new());
}

#[test]
fn limits_and_the_balloon_are_changed_while_it_runs() {
    let Some((world, kernel, _turn)) = lab() else { return };
    let disk = world.path("disk");
    std::fs::File::create(&disk).unwrap().set_len(8 << 20).unwrap();
    let disk = format!("{},ops=1", disk.display());
    let initrd = initrd(&world, &(load_modules(&world) + OBEDIENT));
    let options = ["--disk", &disk, "--balloon", "64M,deflate-on-oom,free-page-reporting,stats=1"];
    let guest = Guest::start(&world, "b", &kernel, &initrd, &options);
    eventually("the guest has given up 64 MiB", || guest.device("balloon0")["actual"] == 64 << 20);
    eventually("the guest tells of its memory", || guest.device("balloon0")["guest"]["total"].as_u64() > Some(128 << 20));
    assert_eq!(world.ok(["vm", "update", "b", "--balloon", "16M"]), "");
    eventually("the guest has taken some back", || guest.device("balloon0")["actual"] == 16 << 20);
    assert!(world.fails(1, ["vm", "update", "b", "--balloon", "256M"]).contains("can't have 256 MiB of the guest's 256 MiB"));

    // One request a second: two thousand outlast our patience many times, unless the limit goes.
    guest.types("dd if=/dev/vda of=/dev/null bs=4k count=2000 iflag=direct");
    eventually("it has begun", || guest.device("disk0")["reads"].as_u64() > Some(0));
    assert!(guest.device("disk0")["reads"].as_u64() < Some(500), "{}", guest.device("disk0"));
    assert_eq!(world.ok(["vm", "update", "b", "--limit", "disk0"]), "");
    guest.until("done with dd");
    assert!(guest.device("disk0")["read_bytes"].as_u64() >= Some(2000 * 4096));
    let error = world.fails(1, ["vm", "update", "b", "--limit", "disk7,ops=5"]);
    assert!(error.contains("the machine has no disk7; it has rng0, disk0, balloon0"), "{error}");
    assert_eq!(world.ok(["vm", "kill", "b"]), "b\n");
}

#[test]
fn shared_memory_can_be_seen_by_others() {
    let Some((world, kernel, _turn)) = lab() else { return };
    // Put together in the guest, so that it isn't found in the initial file system.
    let initrd = initrd(&world, OBEDIENT);
    let guest = Guest::start(&world, "m", &kernel, &initrd, &["--memory-shared", "--memory", "128M"]);
    guest.does("mark=mark-$((40 + 2))-of-the-guest; echo $mark > /note");
    let fds = PathBuf::from(format!("/proc/{}/fd", guest.seen()["pid"]));
    let is_memory = |path: &PathBuf| std::fs::read_link(path).is_ok_and(|to| to.to_str().unwrap().starts_with("/memfd:guest"));
    let memory = std::fs::read_dir(fds).unwrap().map(|entry| entry.unwrap().path()).find(is_memory).unwrap();
    let bytes = std::fs::read(memory).unwrap();
    assert_eq!(bytes.len(), 128 << 20);
    assert!(bytes.windows(20).any(|window| window == b"mark-42-of-the-guest"));
    assert_eq!(world.ok(["vm", "kill", "m"]), "m\n");
}

#[test]
fn huge_pages_are_taken_from_those_set_aside_and_given_back() {
    let Some((world, kernel, _turn)) = lab() else { return };
    must("echo 70 > /proc/sys/vm/nr_hugepages");
    let count = |name: &str| {
        let all = read("/proc/meminfo");
        let line = all.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let free = || count("HugePages_Free") - count("HugePages_Rsvd");
    assert_eq!(free(), 70, "the host has as many to spare");
    let guest = Guest::start(&world, "h", &kernel, &initrd(&world, OBEDIENT), &["--hugepages", "--memory", "128M"]);
    assert_eq!(free(), 6, "all of the guest's memory is promised to it");
    assert!(count("HugePages_Free") > 6, "and not all of it is touched");
    let memory = &guest.stats()["memory"];
    let touched = memory["touched"].as_u64().unwrap();
    assert!(touched == (70 - count("HugePages_Free")) << 21, "{memory}");
    assert_eq!(world.ok(["vm", "kill", "h"]), "h\n");
    eventually("they are given back", || free() == 70);
    must("echo 0 > /proc/sys/vm/nr_hugepages");
}

#[test]
fn what_others_hold_or_take_away_is_told() {
    let Some((world, kernel, _turn)) = lab() else { return };
    must("ip tuntap add insula1 mode tap vnet_hdr && ip tuntap add insula2 mode tap vnet_hdr multi_queue");
    let disk = world.path("disk");
    std::fs::File::create(&disk).unwrap().set_len(8 << 20).unwrap();
    let disk = disk.to_str().unwrap();
    let script = load_modules(&world) + "for n in 0 1; do ls -d /sys/class/net/eth$n/queues/rx-* | wc -l; done\n" + OBEDIENT;
    let initrd = initrd(&world, &script);
    let options = ["--disk", disk, "--net", "tap=insula1", "--net", "tap=insula2,queues=2", "--cpus", "2"];
    let guest = Guest::start(&world, "first", &kernel, &initrd, &options);
    assert!(guest.log().contains("1\n2\nready to listen"), "{}", guest.log());
    let long = "x".repeat(120);
    let kernel = kernel.to_str().unwrap();
    for (options, words) in [
        (["--disk", disk], "is in use by another machine, and one of the two writes to it"),
        (["--disk", "missing.img"], "can't open the disk missing.img: No such file"),
        (["--net", "tap=insula1"], "the tap insula1 is in use by another program"),
        (["--net", "tap=insula7"], "there is no tap insula7; `ip tuntap add insula7 mode tap` makes one"),
        (["--net", "tap=insula2,queues=1"], "the tap insula2 was made for several queues"),
        (["--vsock", &long], "is too long for a socket"),
        (["--vsock", disk], "Address already in use"),
    ] {
        let error = world.fails(125, [&["vm", "run", "--kernel", kernel][..], &options].concat());
        assert!(error.contains(words), "{options:?}: {error}");
        let error = world.fails(125, [&["vm", "run", "-d", "--kernel", kernel][..], &options].concat());
        assert!(error.contains(words), "{options:?}: {error}");
    }
    assert_eq!(machines(&world).len(), 1);

    // The disk shrinks under the guest: it gets errors, and goes on.
    std::fs::File::options().write(true).open(disk).unwrap().set_len(1 << 20).unwrap();
    guest.does("dd if=/dev/vda of=/dev/null bs=4k skip=1000 count=1 iflag=direct || echo an error");
    guest.until("\nan error\n");
    assert!(guest.device("disk0")["errors"].as_u64() > Some(0));
    guest.types("poweroff -f");
    guest.ends(0.into());
    let output = world.output(["vm", "logs", "first"]);
    let words = format!("requests to the disk {disk} failed: it shrank from 8388608 to 1048576 bytes while in use");
    assert!(told(&output).contains(&words), "{}", told(&output));
    must("ip link del insula1; ip link del insula2");
}

#[test]
fn a_caller_that_talks_nonsense_harms_nobody() {
    let Some((world, kernel, _turn)) = lab() else { return };
    let guest = Guest::start(&world, "c", &kernel, &initrd(&world, OBEDIENT), &[]);
    let said = |bytes: &[u8]| {
        let mut stream = guest.control();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"\n") && stream.read(&mut byte).unwrap() == 1 {
            answer.push(byte[0]);
        }
        String::from_utf8(answer).unwrap()
    };
    assert!(said(b"hello\n").starts_with("{\"error\":\"not a request: "));
    assert!(said(&[b'['; 5000]).contains("a request has at most 4096 bytes"));
    assert!(said(b"{\"do\":\"balloon\",\"bytes\":4096}\n").contains("the machine has no balloon; start it with --balloon"));
    // Connected to the console, silent, and never reading.
    let mut silent = guest.control();
    silent.write_all(b"{\"do\":\"console\"}\n").unwrap();
    guest.does("seq 1000");
    let mode = std::fs::metadata(guest.seen()["control"].as_str().unwrap()).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);
    assert_eq!(world.ok(["vm", "kill", "c"]), "c\n");
}

#[test]
fn without_machines_there_is_nothing_to_see() {
    let Some(world) = World::new() else { return };
    assert_eq!(world.ok(["vm", "ps"]), "NAME  STATUS  PID  CPUS  MEMORY  CREATED  KERNEL\n");
    assert_eq!(world.ok(["vm", "ps", "--all", "--quiet"]), "");
    assert!(machines(&world).is_empty() && !world.store().exists());
    for verb in ["stop", "kill", "rm", "logs", "stats", "console"] {
        let error = world.fails(1, ["vm", verb, "nobody"]);
        assert_eq!(error, "insula: there is no machine nobody; `insula vm ps --all` shows those there are");
    }
    assert_eq!(world.ok(["vm", "rm", "--force", "nobody"]), "nobody\n");
    assert!(world.fails(1, ["vm", "stop", "a/b"]).contains("a/b"));
    assert!(!world.store().exists());
}

#[test]
fn what_can_never_be_is_refused_by_name() {
    let Some(world) = World::new() else { return };
    for (args, words) in [
        (&["run", "--kernel", "k", "--balloon", "much"][..], "--balloon: \"much\" is no size"),
        (&["run", "--kernel", "k", "--disk", "d,bytes=fast"], "--disk d,bytes=fast: bytes: \"fast\" is no size"),
        (&["run", "--kernel", "k", "--net", "tap=t,queues=99"], "--net tap=t,queues=99: \"99\" is not 1 to 8"),
        (&["run", "--kernel", "k", "--name", "a b"], "a b"),
    ] {
        let error = world.fails(125, [&["vm"][..], args].concat());
        assert!(error.contains(words), "{args:?}: {error}");
    }
    let both = Command::new(env!("CARGO_BIN_EXE_insula"))
        .args(["vm", "run", "--kernel", "k", "--hugepages", "--memory-shared"])
        .output()
        .unwrap();
    assert_eq!(both.status.code(), Some(2), "{}", told(&both));
    assert!(!world.store().exists());
}
