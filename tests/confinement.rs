//! What the threads of a virtual machine ask of the host's kernel is what they are allowed, and hardly less: real guests under `strace`.
//! `make lab` runs this in a machine with an ordinary KVM.

mod support;

use insula_machine::confinement::{CALLS, Call, Part, Thread};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use support::guest::{initrd, lab, load_modules, must, said, take_along};
use support::{World, accept, datagrams, eventually, finish, pty, stderr, told};

/// A call that was made after its thread was confined.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Made {
    thread: u8,
    name: String,
    /// The first three arguments; those that are no numbers are none.
    arguments: [Option<u64>; 3],
}

/// Reads a line of `strace -f -Y -X raw`: `PID<COMM> NAME(ARGUMENT, ...) = RESULT`. The second half of a call that was interrupted is none.
fn made(line: &str) -> Option<Made> {
    let (task, rest) = line.split_once("> ")?;
    let thread = match task.split_once('<')?.1 {
        "input" => Thread::Input,
        "loader" => Thread::Loader,
        name if name.starts_with("vcpu") => Thread::Vcpu,
        _ => Thread::Loop,
    };
    let (name, rest) = rest.trim_start().split_once('(')?;
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return None;
    }
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(text) => u64::from_str_radix(text, 16).ok(),
        // Flags come as a sum: 0x1|0x80800.
        None => text.parse().ok(),
    };
    let sum = |text: &str| text.split('|').map(number).try_fold(0, |sum, part| Some(sum | part?));
    let mut arguments = rest.split([',', ')', ' ']).filter(|text| !text.is_empty()).map(sum);
    let arguments = std::array::from_fn(|_| arguments.next().flatten());
    Some(Made { thread: thread as u8, name: name.to_owned(), arguments })
}

/// Whether a place in the list is what allows this call.
fn allows(call: &Call, made: &Made) -> bool {
    use insula_spec::seccomp::Test;
    let holds = |condition: &insula_spec::seccomp::Condition| {
        let Some(argument) = made.arguments[usize::from(condition.argument)] else { return false };
        match condition.test {
            Test::Eq => argument == condition.value,
            Test::MaskedEq(mask) => argument & mask == condition.value,
            other => panic!("the list has no {other:?}"),
        }
    };
    let thread = call.threads.iter().any(|thread| *thread as u8 == made.thread);
    thread && call.call.name() == made.name && call.conditions.iter().all(holds)
}

/// What the threads did from their confinement on.
fn confined(trace: &Path) -> BTreeSet<Made> {
    let text = std::fs::read_to_string(trace).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let task = |line: &str| line.split('<').next().unwrap_or_default().to_owned();
    let filtered = |line: &str| line.contains("> seccomp(");
    let (last, first) =
        (lines.iter().rposition(|line| filtered(line)), lines.iter().position(|line| line.contains(", 0xae80, ")));
    assert!(last.is_some() && last < first, "the guest runs after every thread is confined");
    let mut threads = BTreeSet::new();
    let mut calls = BTreeSet::new();
    for line in lines {
        if threads.contains(&task(line)) {
            calls.extend(made(line));
        }
        // Afterwards: this call itself isn't filtered yet.
        if filtered(line) {
            threads.insert(task(line));
        }
    }
    calls
}

/// `insula vm run` under strace.
struct Traced {
    command: Command,
    trace: PathBuf,
}

impl Traced {
    fn new(world: &World, kernel: &Path, initrd: &Path, strace: &[&str]) -> Traced {
        let trace = world.path("trace");
        let mut command = Command::new("strace");
        command.args(["-f", "-Y", "-X", "raw", "-qq", "-s", "0", "-o"]).arg(&trace).args(strace);
        command.arg(env!("CARGO_BIN_EXE_insula")).args(["vm", "run", "--kernel"]).arg(kernel).arg("--initrd").arg(initrd);
        command.args(["--cmdline", "quiet loglevel=0"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        Traced { command, trace }
    }

    fn finish(mut self, host: impl FnOnce()) -> (Output, BTreeSet<Made>) {
        let child = self.command.spawn().unwrap();
        // The command holds the terminal's other end.
        drop(self.command);
        host();
        let output = finish(child);
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        (output, confined(&self.trace))
    }
}

/// Two processors, a disk, a tap, sockets, and input out of a file; the guest then takes every driver away.
fn with_everything(world: &World, kernel: &Path) -> BTreeSet<Made> {
    must("ip tuntap add insula1 mode tap vnet_hdr && ip addr add 10.78.0.1/24 dev insula1 && ip link set insula1 up");
    let script = load_modules(world)
        + "mount -t devtmpfs dev /dev; read line < /dev/console; echo \"got $line\"
           ip addr add 10.78.0.2/24 dev eth0; ip link set eth0 up; echo hello | nc 10.78.0.1 7003
           dd if=/dev/vda of=/dev/null bs=64k 2>/dev/null; dd if=/dev/zero of=/dev/vda bs=4k count=64 conv=fsync 2>/dev/null
           head -c 16 /dev/hwrng | wc -c; head -c 300000 /dev/zero | socat - VSOCK-CONNECT:2:52
           socat -t 20 VSOCK-LISTEN:1024 SYSTEM:'read line; echo you said $line'
           for driver in /sys/bus/virtio/drivers/*/virtio*; do echo ${driver##*/} > ${driver%/*}/unbind; done
           poweroff -f";
    let initrd = initrd(world, &script);
    let disk = world.file("disk", &"x".repeat(1 << 20));
    let typed = world.file("typed", "a line\n");
    let (socket, listening) = (world.path("vsock"), world.path("vsock_52"));
    let listener = UnixListener::bind(&listening).unwrap();
    let server = TcpListener::bind("10.78.0.1:7003").unwrap();
    let mut traced = Traced::new(world, kernel, &initrd, &[]);
    traced
        .command
        .args(["--cpus", "2", "--net", "tap=insula1", "--balloon", "16M", "--disk"])
        .arg(&disk)
        .arg("--vsock")
        .arg(&socket);
    traced.command.stdin(File::open(typed).unwrap());
    let (output, calls) = traced.finish(|| {
        accept(&server).read_to_end(&mut Vec::new()).unwrap();
        let mut stream = listener.accept().unwrap().0;
        // The guest sends more than fits into the socket, and has to wait.
        std::thread::sleep(std::time::Duration::from_secs(1));
        assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 300_000);
        eventually("an answer of the guest's", || {
            let mut answer = String::new();
            let mut stream = UnixStream::connect(&socket).unwrap();
            stream.write_all(b"CONNECT 1024\nhello\n").unwrap();
            let _ = stream.read_to_string(&mut answer);
            answer.ends_with("you said hello\n")
        });
    });
    must("ip link del insula1");
    assert!(said(&output).contains("got a line\n16\n"), "{}", told(&output));
    calls
}

/// A network of our own, with every kind of socket; the guest then takes the driver away while it has a connection.
fn with_a_network(world: &World, kernel: &Path) -> BTreeSet<Made> {
    must("ip addr replace 192.0.2.1/32 dev lo; ip -6 addr replace 2001:db8::1/128 dev lo; ip link set lo up");
    must("sysctl -qw net.ipv4.ping_group_range='0 2147483647'");
    let script = load_modules(world)
        + "mount -t devtmpfs dev /dev; ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0; ip route add default via 10.0.2.2
           while ip -6 addr show dev eth0 | grep -q tentative || ! ip -6 addr show dev eth0 | grep -q fd69; do usleep 100000; done
           ip -6 route replace default via fe80::2 dev eth0
           head -c 300000 /dev/zero | nc 192.0.2.1 7001; head -c 300000 /dev/zero | nc 2001:db8::1 7001; nc 192.0.2.1 7009 < /dev/null
           echo one | socat -t 20 - UDP4:192.0.2.1:7004,shut-none; echo six | socat -t 20 - UDP6:[2001:db8::1]:7004,shut-none
           ping -c 1 192.0.2.1 | grep -o '1 packets received'; ping6 -c 1 2001:db8::1 | grep -o '1 packets received'
           socat -t 20 TCP-LISTEN:80 SYSTEM:'read line; echo you said $line'
           sleep 1000 | nc 192.0.2.1 7001 > /connected & while [ ! -s /connected ]; do usleep 100000; done
           for driver in /sys/bus/virtio/drivers/virtio_net/virtio*; do echo ${driver##*/} > ${driver%/*}/unbind; done
           poweroff -f";
    let initrd = initrd(world, &script);
    let streams = ["192.0.2.1:7001", "[2001:db8::1]:7001"].map(|at| TcpListener::bind(at).unwrap());
    let datagrams = ["192.0.2.1:7004", "[2001:db8::1]:7004"].map(datagrams);
    let mut traced = Traced::new(world, kernel, &initrd, &[]);
    traced.command.args(["--bus", "pci", "--net", "user,publish=127.0.0.1:8080:80"]).stdin(Stdio::null());
    let (output, calls) = traced.finish(|| {
        for listener in &streams {
            let mut got = Vec::new();
            accept(listener).read_to_end(&mut got).unwrap();
            assert_eq!(got.len(), 300_000);
        }
        for socket in &datagrams {
            let (_, guest) = socket.recv_from(&mut [0; 64]).unwrap();
            socket.send_to(b"heard\n", guest).unwrap();
        }
        eventually("an answer at a published port", || {
            let mut answer = String::new();
            // The guest's program may not listen yet: then the connection is broken off.
            let _ = TcpStream::connect("127.0.0.1:8080")
                .and_then(|mut stream| stream.write_all(b"hello\n").and_then(|()| stream.read_to_string(&mut answer)));
            answer == "you said hello\n"
        });
        let mut stream = accept(&streams[0]);
        stream.write_all(b"welcome\n").unwrap();
        let broken = stream.read(&mut [0]).unwrap_err();
        assert_eq!(broken.kind(), std::io::ErrorKind::ConnectionReset, "with the driver its connections are gone");
    });
    assert!(said(&output).contains("heard\nheard\n1 packets received\n1 packets received\n"), "{}", told(&output));
    calls
}

/// On a terminal, and with a disk where the kernel has no io_uring.
fn with_a_terminal_and_plain_disks(world: &World, kernel: &Path) -> BTreeSet<Made> {
    take_along(world, "/usr/sbin/blkdiscard");
    let script = load_modules(world)
        + "mount -t devtmpfs dev /dev; stty -echo < /dev/console; echo ready; read line < /dev/console; echo \"got $line\"
           dd if=/dev/vda of=/dev/null bs=64k 2>/dev/null; dd if=/dev/zero of=/dev/vda bs=4k count=64 conv=fsync 2>/dev/null
           /usr/sbin/blkdiscard -o 0 -l 65536 /dev/vda && /usr/sbin/blkdiscard -z -o 65536 -l 65536 /dev/vda && echo zeroed
           poweroff -f";
    let initrd = initrd(world, &script);
    let disk = world.file("disk", &"x".repeat(1 << 20));
    let (keys, inner) = pty::pair();
    let mut traced = Traced::new(world, kernel, &initrd, &["-e", "inject=io_uring_setup:error=ENOSYS"]);
    traced.command.arg("--disk").arg(&disk).stdin(inner);
    let (output, calls) = traced.finish(|| assert_eq!(rustix::io::write(&keys, b"a line\r"), Ok(7)));
    assert!(said(&output).contains("got a line\nzeroed\n"), "{}", told(&output));
    assert!(stderr(&output).contains("io_uring can't be used here: Function not implemented"), "{}", told(&output));
    calls
}

#[test]
fn every_call_that_is_made_is_allowed_and_every_call_that_is_allowed_is_made() {
    let Some((world, kernel, _turn)) = lab() else { return };
    take_along(&world, "/usr/bin/socat");
    let mut calls = with_everything(&world, &kernel);
    calls.extend(with_a_terminal_and_plain_disks(&world, &kernel));
    calls.extend(with_a_network(&world, &kernel));
    for made in &calls {
        assert!(CALLS.iter().any(|call| allows(call, made)), "{made:?} isn't in the list");
    }
    let missing: Vec<String> = CALLS
        .iter()
        .flat_map(|call| call.threads.iter().map(move |thread| (call, *thread)))
        .filter(|(call, thread)| {
            let seen = calls.iter().any(|made| made.thread == *thread as u8 && allows(call, made));
            // What is rare may be seen all the same. The loader isn't there if making the machine has left time to read the whole kernel;
            // if it is, then for a moment, and whether it meets somebody or has to end the machine isn't ours to say.
            !seen && call.rare.is_none() && *thread != Thread::Loader
        })
        .map(|(call, thread)| format!("{} {} ({thread:?})", call.call.name(), call.only))
        .collect();
    assert!(missing.is_empty(), "allowed, and never made: {missing:#?}");
}

#[test]
fn every_thread_is_confined_unless_that_is_declined() {
    let Some((world, kernel, _turn)) = lab() else { return };
    let initrd = initrd(&world, "echo ready; read line < /dev/console; poweroff -f");
    for (option, expected) in [(None, "2"), (Some("--no-seccomp"), "0")] {
        let mut command = world.insula(["vm", "run", "--cpus", "2", "--cmdline", "quiet loglevel=0", "--kernel"]);
        command.arg(&kernel).arg("--initrd").arg(&initrd).args(option);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut machine = command.spawn().unwrap();
        let mut byte = [0];
        machine.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
        let field = |text: &str, name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned()).unwrap()
        };
        let tasks: Vec<String> = std::fs::read_dir(format!("/proc/{}/task", machine.id()))
            .unwrap()
            .map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).unwrap())
            .collect();
        assert_eq!(tasks.len(), 3, "the loop and two processors");
        for status in tasks {
            assert_eq!(field(&status, "Seccomp:"), expected, "{}", field(&status, "Name:"));
        }
        machine.stdin.take().unwrap().write_all(b"\n").unwrap();
        let output = finish(machine);
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        assert_eq!(stderr(&output).contains("aren't confined"), option.is_some(), "{}", told(&output));
    }
}

#[test]
fn parts_that_a_machine_lacks_allow_nothing() {
    let everywhere = CALLS.iter().filter(|call| call.part == Part::Any).map(|call| call.call.name());
    let everywhere: BTreeSet<&str> = everywhere.collect();
    for name in ["socket", "connect", "unlinkat", "io_uring_enter", "preadv", "openat", "execve", "clone3", "prctl"] {
        assert!(!everywhere.contains(name), "{name}");
    }
}
