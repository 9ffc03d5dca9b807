//! Namespaces but those of mounts: each test in one of its own, so that nothing reaches the host.

use super::prelude::*;

tests!("namespaces":
    unshare_hostname, uts_names, ipc_namespaces, pid_namespaces, pid_namespaces_end_with_their_init, net_namespaces, net_namespaces_keep_apart, net_namespaces_by_netlink, net_namespaces_are_entered, net_namespaces_in_pairs, user_namespaces, user_namespace_maps, setns_enters, setns_arguments,
);

fn unshare_hostname() {
    need_root();
    let before = contents("/proc/sys/kernel/hostname");
    in_child(|| {
        if sys!(unshare(CLONE_NEWUTS)).is_err() {
            skip!("no UTS namespace of our own (CAP_SYS_ADMIN)");
        }
        gives!(sethostname(b"inner.example", 13) => 0);
        eq!(contents("/proc/sys/kernel/hostname"), "inner.example\n");
    });
    eq!(contents("/proc/sys/kernel/hostname"), before);
}

fn uts_names() {
    need_root();
    if sys!(unshare(CLONE_NEWUTS)).is_err() {
        skip!("no UTS namespace of our own (CAP_SYS_ADMIN)");
    }
    let mut names: utsname = zeroed();
    gives!(sethostname(&[b'h'; 64], 64) => 0);
    gives!(setdomainname(b"domain", 6) => 0);
    gives!(uname(&mut names) => 0);
    eq!(
        (names.nodename[63], names.nodename[64], names.domainname[5], names.domainname[6]),
        (b'h' as c_char, 0, b'n' as c_char, 0)
    );
    fails!(sethostname(&[b'h'; 65], 65) => EINVAL);
    fails!(sethostname(b"x", -1) => EINVAL);
    fails!(sethostname(BAD, 3) => EFAULT);
    fails!(setdomainname(&[b'h'; 65], 65) => EINVAL);
    fails!(setdomainname(BAD, 3) => EFAULT);
    gives!(sethostname(b"", 0) => 0);
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(sethostname(b"x", 1) => EPERM);
        fails!(setdomainname(b"x", 1) => EPERM);
    });
}

fn ipc_namespaces() {
    need_root();
    let outside = match sys!(shmget(IPC_PRIVATE, 1, 0o600)) {
        Err(_) => skip!("no System V IPC (CONFIG_SYSVIPC)"),
        Ok(id) => id,
    };
    in_child(|| {
        if sys!(unshare(CLONE_NEWIPC)).is_ok() {
            fails!(shmat(outside, 0, 0) => EINVAL);
        }
    });
    gives!(shmctl(outside, IPC_RMID, 0) => 0);
}

fn pid_namespaces() {
    need_root();
    let told = shared_word();
    in_child(|| {
        if sys!(unshare(CLONE_NEWPID)).is_err() {
            skip!("no PID namespace of our own (CAP_SYS_ADMIN)");
        }
        // Not we, but our children are in it; the first is its init.
        is!(process::id() != 1, "our own number to stay");
        let pid = child(|| {
            eq!(process::id(), 1);
            gives!(getppid() => 0);
            let second = child(|| eq!(works!(getppid()), 1));
            eq!(second, 2);
            join(second);
            told.store(1, SeqCst);
            process::exit(9)
        });
        is!(pid > 1, "another number from outside");
        eq!(wait(pid), Status::Exited(9));
        // Without its init nothing starts there any more.
        fails!(fork() => ENOMEM);
    });
    eq!(told.load(SeqCst), 1);
}

fn pid_namespaces_end_with_their_init() {
    need_root();
    let step = shared_word();
    in_child(|| {
        if sys!(unshare(CLONE_NEWPID)).is_err() {
            skip!("no PID namespace of our own (CAP_SYS_ADMIN)");
        }
        let init = child(|| {
            // Signals without a handler don't reach an init from inside, not even SIGKILL.
            let _ = sys!(kill(1, SIGKILL));
            let _ = sys!(kill(1, SIGTERM));
            child(|| {
                step.store(1, SeqCst);
                loop {
                    let _ = sys!(pause());
                }
            });
            until_is(step, 2);
        });
        until_is(step, 1);
        step.store(2, SeqCst);
        join(init);
    });
}

/// Goes into a network of our own; else the test is skipped.
fn own_net() {
    need_root();
    match sys!(unshare(CLONE_NEWNET)) {
        Err(_) => skip!("no network namespace of our own (CAP_SYS_ADMIN)"),
        other => crate::check::must_give("unshare", other, 0),
    }
}

fn loopback_at(port: u16) -> sockaddr_in {
    let mut address: sockaddr_in = zeroed();
    (address.sin_family, address.sin_port) = (AF_INET as u16, port.to_be());
    address.sin_addr.s_addr = u32::from_be_bytes([127, 0, 0, 1]).to_be();
    address
}

/// Switches the loopback interface on or off, by ioctl(2).
fn loopback_up(up: bool) {
    let fd = works!(socket(AF_INET, SOCK_STREAM, 0));
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    gives!(ioctl(fd, SIOCGIFFLAGS, &mut request) => 0);
    request[16] = request[16] & !(IFF_UP as u8) | if up { IFF_UP as u8 } else { 0 };
    gives!(ioctl(fd, SIOCSIFFLAGS, &request) => 0);
    works!(close(fd));
}

fn net_namespaces() {
    own_net();
    let fd = works!(socket(AF_INET, SOCK_STREAM, 0));
    let address = loopback_at(9);
    // Its loopback interface is down at first, and has no address.
    fails!(connect(fd, &address, 16) => ENETUNREACH);
    // A name of IPv4 may be had before there is any way, but not one of IPv6.
    gives!(bind(works!(socket(AF_INET, SOCK_STREAM, 0)), &address, 16) => 0);
    let mut address6: sockaddr_in6 = zeroed();
    (address6.sin6_family, address6.sin6_addr.s6_addr[15]) = (AF_INET6 as u16, 1);
    fails!(bind(works!(socket(AF_INET6, SOCK_STREAM, 0)), &address6, 28) => EADDRNOTAVAIL);
    fails!(sendto(works!(socket(AF_INET, SOCK_DGRAM, 0)), b"x", 1, 0, &address, 16) => ENETUNREACH);
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    gives!(ioctl(fd, SIOCGIFFLAGS, &mut request) => 0);
    eq!(u16::from_ne_bytes([request[16], request[17]]), IFF_LOOPBACK as u16);
    fails!(ioctl(fd, SIOCGIFADDR, &mut request) => EADDRNOTAVAIL);
    eq!(contents("/proc/net/if_inet6"), "");
    loopback_up(true);
    fails!(connect(works!(socket(AF_INET, SOCK_STREAM, 0)), &address, 16) => ECONNREFUSED);
    gives!(ioctl(fd, SIOCGIFADDR, &mut request) => 0);
    eq!(request[20..24], [127, 0, 0, 1]);
    eq!(contents("/proc/net/dev").lines().filter(|line| line.contains("lo:")).count(), 1);
    loopback_up(false);
    // The address stays, switched off or on.
    gives!(ioctl(fd, SIOCGIFADDR, &mut request) => 0);
}

fn net_namespaces_keep_apart() {
    need_root();
    let name = b"\x01\x00\x00in-one-network";
    let before = works!(socket(AF_UNIX, SOCK_STREAM, 0));
    gives!(bind(before, name, name.len()) => 0);
    gives!(listen(before, 1) => 0);
    gives!(bind(works!(socket(AF_UNIX, SOCK_STREAM, 0)), &path_of(b"by-path"), 110) => 0);
    let tcp = works!(socket(AF_INET, SOCK_STREAM, 0));
    let mut at = loopback_at(0);
    let mut len: c_int = 16;
    gives!(bind(tcp, &at, 16) => 0);
    gives!(listen(tcp, 1) => 0);
    gives!(getsockname(tcp, &mut at, &mut len) => 0);
    let by_path = works!(socket(AF_UNIX, SOCK_STREAM, 0));
    gives!(bind(by_path, &path_of(b"served"), 110) => 0);
    gives!(listen(by_path, 1) => 0);
    let mut cookies = [0u64; 2];
    let mut size: c_int = 8;
    gives!(getsockopt(tcp, SOL_SOCKET, SO_NETNS_COOKIE, &mut cookies[0], &mut size) => 0);
    own_net();
    loopback_up(true);
    // Names that are no files are others' here, and so are ports.
    let client = works!(socket(AF_UNIX, SOCK_STREAM, 0));
    fails!(connect(client, name, name.len()) => ECONNREFUSED);
    let twin = works!(socket(AF_UNIX, SOCK_STREAM, 0));
    gives!(bind(twin, name, name.len()) => 0);
    fails!(connect(works!(socket(AF_INET, SOCK_STREAM, 0)), &at, 16) => ECONNREFUSED);
    let other = works!(socket(AF_INET, SOCK_STREAM, 0));
    gives!(bind(other, &at, 16) => 0);
    gives!(getsockopt(other, SOL_SOCKET, SO_NETNS_COOKIE, &mut cookies[1], &mut size) => 0);
    is!(cookies[0] != cookies[1], "two networks");
    // A file is one for all.
    gives!(connect(works!(socket(AF_UNIX, SOCK_STREAM, 0)), &path_of(b"served"), 110) => 0);
    // Its new end is in the network of who connects.
    eq!(contents("/proc/net/unix").lines().filter(|line| line.contains("served")).count(), 1);
    eq!(contents("/proc/net/unix").lines().filter(|line| line.contains("@in-one-network")).count(), 1);
    // What was made before stays where it was.
    gives!(getsockopt(tcp, SOL_SOCKET, SO_NETNS_COOKIE, &mut cookies[1], &mut size) => 0);
    eq!(cookies[0], cookies[1]);
    let mut listening: c_int = 0;
    let mut size: c_int = 4;
    gives!(getsockopt(tcp, SOL_SOCKET, SO_ACCEPTCONN, &mut listening, &mut size) => 0);
    eq!(listening, 1);
    eq!(contents("/proc/net/tcp").lines().filter(|line| line.contains(" 0A ")).count(), 0);
    // Its network is told by the socket.
    let net = works!(ioctl(tcp, 0x894c /* SIOCGSKNS */, 0));
    gives!(ioctl(net, 0xb703 /* NS_GET_NSTYPE */, 0) => CLONE_NEWNET as usize);
    gives!(setns(net, CLONE_NEWNET) => 0);
    gives!(connect(works!(socket(AF_INET, SOCK_STREAM, 0)), &at, 16) => 0);
}

/// An address of unix(7) with a path.
fn path_of(path: &[u8]) -> [u8; 110] {
    let mut address = [0; 110];
    address[..2].copy_from_slice(&(AF_UNIX as u16).to_ne_bytes());
    address[2..2 + path.len()].copy_from_slice(path);
    address
}

/// Asks netlink for something; the error that comes back, or 0.
fn ask(fd: usize, kind: u16, flags: u16, body: &[u8]) -> i32 {
    let mut message = Vec::new();
    message.extend((16 + body.len() as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((flags | 5/* REQUEST | ACK */).to_ne_bytes());
    message.extend([7, 0, 0, 0, 0, 0, 0, 0]);
    message.extend(body);
    gives!(sendto(fd, &*message, message.len(), 0, 0, 0) => message.len());
    let mut answer = [0u8; 4096];
    let count = works!(recvfrom(fd, &mut answer, answer.len(), 0, 0, 0));
    is!(count >= 20 && answer[4] == 2, "an answer: {:?}", &answer[..count.min(20)]);
    i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]])
}

fn net_namespaces_by_netlink() {
    own_net();
    let fd = works!(socket(AF_NETLINK, SOCK_RAW, 0));
    // As bubblewrap does: an address for loopback while it is down, then up with it. RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL.
    let address = [&[2, 8, 0x80, 254, 1, 0, 0, 0][..], &[8, 0, 2, 0, 127, 0, 0, 1, 8, 0, 1, 0, 127, 0, 0, 1]].concat();
    eq!(ask(fd, 20, 0x600, &address), 0);
    let mut link = [0u8; 16];
    (link[4], link[8], link[12]) = (1, IFF_UP as u8, IFF_UP as u8);
    eq!(ask(fd, 16, 0, &link), 0);
    fails!(connect(works!(socket(AF_INET, SOCK_STREAM, 0)), &loopback_at(9), 16) => ECONNREFUSED);
    eq!(ask(fd, 20, 0x600, &address), -EEXIST);
    is!(contents("/proc/net/if_inet6").contains("lo"), "::1");
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        eq!(ask(works!(socket(AF_NETLINK, SOCK_RAW, 0)), 16, 0, &link), -EPERM);
    });
}

fn net_namespaces_are_entered() {
    need_root();
    let step = shared_word();
    let mut outside: stat = zeroed();
    let mut inside: stat = zeroed();
    gives!(stat(c"/proc/self/ns/net", &mut outside) => 0);
    let pid = child(|| {
        own_net();
        loopback_up(true);
        let fd = works!(socket(AF_INET, SOCK_STREAM, 0));
        gives!(bind(fd, &loopback_at(12321), 16) => 0);
        gives!(listen(fd, 1) => 0);
        step.store(1, SeqCst);
        until_is(step, 2);
    });
    until_is(step, 1);
    let path = std::ffi::CString::new(format!("/proc/{pid}/ns/net")).unwrap_or_default();
    let fd = works!(openat(AT_FDCWD, &*path, O_RDONLY));
    gives!(fstat(fd, &mut inside) => 0);
    is!(inside.st_ino != outside.st_ino, "another namespace");
    let listens = |text: String| text.lines().any(|line| line.contains(":3021 ") && line.contains(" 0A "));
    is!(listens(contents(&format!("/proc/{pid}/net/tcp"))), "the socket of its network");
    is!(!listens(contents("/proc/net/tcp")), "not of ours");
    in_child(|| {
        gives!(setns(fd, CLONE_NEWNET) => 0);
        gives!(connect(works!(socket(AF_INET, SOCK_STREAM, 0)), &loopback_at(12321), 16) => 0);
        is!(listens(contents("/proc/net/tcp")), "the socket");
    });
    // It lives on by the open file.
    step.store(2, SeqCst);
    join(pid);
    in_child(|| {
        gives!(setns(fd, 0) => 0);
        fails!(connect(works!(socket(AF_INET, SOCK_STREAM, 0)), &loopback_at(12321), 16) => ECONNREFUSED);
    });
    // A child made so has a network of its own from the start.
    let mut arguments = [0u64; 11];
    (arguments[0], arguments[4]) = (CLONE_NEWNET as u64, SIGCHLD as u64);
    match works!(clone3(&arguments, 88)) {
        0 => {
            let own = sys!(connect(works!(socket(AF_INET, SOCK_STREAM, 0)), &loopback_at(9), 16));
            process::exit(i32::from(own != Err(Errno::ENETUNREACH)))
        }
        pid => eq!(wait(pid as i32), Status::Exited(0)),
    }
}

/// An attribute of netlink.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = [(4 + value.len() as u16).to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// An address of IPv4, and a port.
fn at(ip: [u8; 4], port: u16) -> sockaddr_in {
    let mut address = loopback_at(port);
    address.sin_addr.s_addr = u32::from_ne_bytes(ip);
    address
}

/// Gives an interface an address in a network of 24 bits, and switches it on.
fn configure(fd: usize, index: u8, ip: [u8; 4]) {
    let head = [2, 24, 0, 0, index, 0, 0, 0];
    eq!(ask(fd, 20, 0x600, &[&head[..], &attribute(2, &ip), &attribute(1, &ip)].concat()), 0);
    let mut link = [0u8; 16];
    (link[4], link[8], link[12]) = (index, IFF_UP as u8, IFF_UP as u8);
    eq!(ask(fd, 16, 0, &link), 0);
}

fn net_namespaces_in_pairs() {
    own_net();
    let fd = works!(socket(AF_NETLINK, SOCK_RAW, 0));
    let step = shared_word();
    let pid = child(|| {
        own_net();
        step.store(1, SeqCst);
        until_is(step, 2);
        configure(works!(socket(AF_NETLINK, SOCK_RAW, 0)), 2, [10, 9, 8, 2]);
        let tcp = works!(socket(AF_INET, SOCK_STREAM, 0));
        gives!(bind(tcp, &at([10, 9, 8, 2], 80), 16) => 0);
        gives!(listen(tcp, 1) => 0);
        let udp = works!(socket(AF_INET, SOCK_DGRAM, 0));
        gives!(bind(udp, &at([0; 4], 53), 16) => 0);
        step.store(3, SeqCst);
        let (mut from, mut len): (sockaddr_in, c_int) = (zeroed(), 16);
        let end = works!(accept(tcp, &mut from, &mut len));
        eq!(from.sin_addr.s_addr, u32::from_ne_bytes([10, 9, 8, 1]));
        let mut bytes = [0u8; 16];
        gives!(read(end, &mut bytes, 16) => 4);
        gives!(write(end, b"pong", 4) => 4);
        gives!(recvfrom(udp, &mut bytes, 16, 0, &mut from, &mut len) => 5);
        gives!(sendto(udp, b"back", 4, 0, &from, 16) => 4);
        until_is(step, 4);
    });
    until_is(step, 1);
    // RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL: a pair, of which one end is in the child's network.
    let peer = [&[0u8; 16][..], &attribute(3, b"there\0"), &attribute(19, &pid.to_ne_bytes())].concat();
    let info = [attribute(1, b"veth"), attribute(2, &attribute(1, &peer))].concat();
    let link = [&[0u8; 16][..], &attribute(3, b"here\0"), &attribute(18, &info)].concat();
    match ask(fd, 16, 0x600, &link) {
        0 => {}
        error if error == -EOPNOTSUPP => {
            // The child waits for nobody.
            works!(kill(pid, SIGKILL));
            wait(pid);
            skip!("no pairs of interfaces (CONFIG_VETH)")
        }
        error => is!(false, "a pair: {error}"),
    }
    eq!(ask(fd, 16, 0x600, &link), -EEXIST);
    // Nothing is named: how ip(8) finds out whether interfaces can be made.
    eq!(ask(fd, 16, 0, &[0; 16]), -ENODEV);
    configure(fd, 2, [10, 9, 8, 1]);
    // A way of a network that nobody there has an address in: RTM_NEWROUTE to 10.7.0.0/16 by the neighbour.
    let route = |prefix| {
        [&[2u8, prefix, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0][..], &attribute(1, &[10, 7, 0, 0]), &attribute(5, &[10, 9, 8, 2])]
            .concat()
    };
    eq!(ask(fd, 24, 0x600, &route(16)), 0);
    eq!(ask(fd, 24, 0x600, &route(16)), -EEXIST);
    is!(contents("/proc/net/route").contains("here\t0000070A\t0208090A\t0003"), "the way");
    eq!(ask(fd, 25, 0, &route(16)), 0);
    eq!(ask(fd, 25, 0, &route(16)), -ESRCH);
    eq!(ask(fd, 24, 0x600, &route(8)), -EINVAL);
    step.store(2, SeqCst);
    until_is(step, 3);
    let tcp = works!(socket(AF_INET, SOCK_STREAM, 0));
    fails!(connect(tcp, &at([10, 6, 0, 1], 80), 16) => ENETUNREACH);
    gives!(connect(tcp, &at([10, 9, 8, 2], 80), 16) => 0);
    let mut bytes = [0u8; 16];
    gives!(write(tcp, b"ping", 4) => 4);
    gives!(read(tcp, &mut bytes, 16) => 4);
    eq!(bytes[..4], *b"pong");
    fails!(connect(works!(socket(AF_INET, SOCK_STREAM, 0)), &at([10, 9, 8, 2], 81), 16) => ECONNREFUSED);
    let udp = works!(socket(AF_INET, SOCK_DGRAM, 0));
    gives!(sendto(udp, b"hello", 5, 0, &at([10, 9, 8, 2], 53), 16) => 5);
    gives!(read(udp, &mut bytes, 16) => 4);
    // An echo of the neighbour's.
    let raw = works!(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
    gives!(sendto(raw, &[8u8, 0, 0xf7, 0xff, 0, 0, 0, 0], 8, 0, &at([10, 9, 8, 2], 0), 16) => 8);
    let mut packet = [0u8; 64];
    gives!(read(raw, &mut packet, 64) => 28);
    eq!((packet[12..16].to_vec(), packet[20]), (vec![10, 9, 8, 2], 0));
    // With one end the other goes: RTM_DELLINK.
    let mut gone = [0u8; 16];
    gone[4] = 2;
    eq!(ask(fd, 17, 0, &gone), 0);
    is!(!contents(&format!("/proc/{pid}/net/dev")).contains("there"), "no end");
    step.store(4, SeqCst);
    join(pid);
}

fn user_namespaces() {
    need_root();
    in_child(|| {
        gives!(setresgid(1000, 1000, 1000) => 0);
        gives!(setresuid(1000, 1000, 1000) => 0);
        match sys!(unshare(CLONE_NEWUSER)) {
            Err(Errno::EPERM | Errno::EINVAL | Errno::ENOSPC) => skip!("users may have no namespaces here"),
            other => crate::check::must_give("unshare", other, 0),
        }
        // Nobody yet, with all capabilities inside.
        gives!(getuid() => 65534);
        gives!(getgid() => 65534);
        is!(!contents("/proc/self/status").contains("CapEff:\t0000000000000000"), "capabilities");
        fails!(setuid(0) => EINVAL);
        gives!(unshare(CLONE_NEWUTS) => 0);
        gives!(sethostname(b"mine", 4) => 0);
        fails!(mount(c"none", c"/", c"tmpfs", 0, 0) => EPERM);
    });
}

fn user_namespace_maps() {
    need_root();
    let step = shared_word();
    let pid = child(|| {
        if sys!(unshare(CLONE_NEWUSER)).is_err() {
            skip!("no user namespace of our own");
        }
        step.store(1, SeqCst);
        until_is(step, 2);
        gives!(getuid() => 0);
        gives!(setresgid(5, 5, 5) => 0);
        gives!(setresuid(5, 5, 5) => 0);
        fails!(setuid(20) => EINVAL);
        eq!(contents("/proc/self/uid_map").split_ascii_whitespace().collect::<Vec<_>>(), ["0", "0", "10"]);
    });
    until_is(step, 1);
    let write_map = |name: &str, text: &[u8]| {
        let path = std::ffi::CString::new(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let fd = works!(openat(AT_FDCWD, &*path, O_WRONLY));
        sys!(write(fd, text, text.len()))
    };
    eq!(write_map("uid_map", b"nonsense"), Err(Errno::EINVAL));
    eq!(write_map("uid_map", b"0 0 10\n5 20 10\n"), Err(Errno::EINVAL));
    eq!(write_map("uid_map", b"0 0 10\n"), Ok(7));
    // Once only.
    eq!(write_map("uid_map", b"0 0 10\n"), Err(Errno::EPERM));
    eq!(write_map("gid_map", b"0 0 10\n"), Ok(7));
    step.store(2, SeqCst);
    join(pid);
}

fn setns_enters() {
    need_root();
    let step = shared_word();
    let pid = child(|| {
        if sys!(unshare(CLONE_NEWUTS)).is_err() {
            skip!("no UTS namespace of our own (CAP_SYS_ADMIN)");
        }
        gives!(sethostname(b"elsewhere", 9) => 0);
        step.store(1, SeqCst);
        until_is(step, 2);
    });
    until_is(step, 1);
    let path = std::ffi::CString::new(format!("/proc/{pid}/ns/uts")).unwrap_or_default();
    let fd = works!(openat(AT_FDCWD, &*path, O_RDONLY));
    let pidfd = works!(pidfd_open(pid, 0));
    in_child(|| {
        fails!(setns(fd, CLONE_NEWNET) => EINVAL);
        gives!(setns(fd, CLONE_NEWUTS) => 0);
        eq!(contents("/proc/sys/kernel/hostname"), "elsewhere\n");
    });
    in_child(|| {
        // By process, and for several at once.
        gives!(setns(pidfd, CLONE_NEWUTS | CLONE_NEWIPC) => 0);
        eq!(contents("/proc/sys/kernel/hostname"), "elsewhere\n");
    });
    step.store(2, SeqCst);
    join(pid);
    // The namespace lives as long as somebody holds it.
    in_child(|| {
        gives!(setns(fd, 0) => 0);
        eq!(contents("/proc/sys/kernel/hostname"), "elsewhere\n");
    });
    fails!(setns(pidfd, CLONE_NEWUTS) => ESRCH);
}

fn setns_arguments() {
    fails!(setns(-1, 0) => EBADF);
    fails!(setns(file(c"file", b""), 0) => EINVAL);
    let own = works!(openat(AT_FDCWD, c"/proc/self/ns/uts", O_RDONLY));
    fails!(setns(own, CLONE_NEWNET) => EINVAL);
    need_root();
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(setns(own, CLONE_NEWUTS) => EPERM);
    });
}
