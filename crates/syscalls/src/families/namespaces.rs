//! Namespaces but those of mounts: each test in one of its own, so that nothing reaches the host.

use super::prelude::*;

tests!("namespaces":
    unshare_hostname, uts_names, ipc_namespaces, pid_namespaces, pid_namespaces_end_with_their_init, net_namespaces, user_namespaces, user_namespace_maps, setns_enters, setns_arguments,
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

fn net_namespaces() {
    need_root();
    if sys!(unshare(CLONE_NEWNET)).is_err() {
        skip!("no network namespace of our own (CAP_SYS_ADMIN)");
    }
    let fd = works!(socket(AF_INET, SOCK_STREAM, 0));
    let mut address: sockaddr_in = zeroed();
    (address.sin_family, address.sin_port) = (AF_INET as u16, 9u16.to_be());
    address.sin_addr.s_addr = u32::from_be_bytes([127, 0, 0, 1]).to_be();
    // Its loopback interface is down at first.
    fails!(connect(fd, &address, 16) => ENETUNREACH);
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    gives!(ioctl(fd, SIOCGIFFLAGS, &mut request) => 0);
    request[16] |= IFF_UP as u8;
    gives!(ioctl(fd, SIOCSIFFLAGS, &request) => 0);
    fails!(connect(works!(socket(AF_INET, SOCK_STREAM, 0)), &address, 16) => ECONNREFUSED);
    eq!(contents("/proc/net/dev").lines().filter(|line| line.contains("lo:")).count(), 1);
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
