//! User namespaces: who has which number in one, and that who may do all in it may do nothing to what belongs to another.

use super::prelude::*;
use std::ffi::CString;

tests!("owners":
    a_user_maps_itself, only_one_of_oneself, numbers_are_translated, unmapped_owners_are_nobody, files_of_others_stay_theirs,
    nothing_of_the_kernels, processes_outside_are_out_of_reach, namespaces_outside_are_out_of_reach, owners_enter, who_enters_keeps_secrets,
    nested_namespaces, relatives_of_namespaces, several_at_once, peers_are_translated, maps_of_ranges,
);

pub(super) const USER: c_uint = 1000;

pub(super) fn path(text: String) -> CString {
    CString::new(text).unwrap_or_default()
}

pub(super) fn store(name: &str, text: &[u8]) -> Result<usize, Errno> {
    let fd = sys!(openat(AT_FDCWD, &*path(format!("/proc/{name}")), O_WRONLY))?;
    let outcome = sys!(write(fd, text, text.len()));
    works!(close(fd));
    outcome
}

/// A plain user.
pub(super) fn become_user() {
    need_root();
    gives!(chmod(c".", 0o777) => 0);
    gives!(setgroups(0, 0) => 0);
    gives!(setresgid(USER, USER, USER) => 0);
    gives!(setresuid(USER, USER, USER) => 0);
    // Else what is in /proc isn't ours.
    gives!(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) => 0);
}

pub(super) fn leave(flags: c_int) {
    match sys!(unshare(CLONE_NEWUSER | flags)) {
        Err(Errno::EPERM | Errno::EINVAL | Errno::ENOSPC) => skip!("users may have no namespaces here"),
        other => crate::check::must_give("unshare", other, 0),
    }
}

/// The root of a user namespace that a plain user has made, in new ones of those that `flags` name, too.
pub(super) fn become_its_root(flags: c_int) {
    become_user();
    leave(flags);
    eq!(store("self/uid_map", b"0 1000 1"), Ok(8));
    eq!(store("self/setgroups", b"deny"), Ok(4));
    eq!(store("self/gid_map", b"0 1000 1"), Ok(8));
    gives!(getuid() => 0);
    gives!(getgid() => 0);
}

fn fields(path: &str) -> Vec<String> {
    contents(path).split_ascii_whitespace().map(str::to_owned).collect()
}

fn a_user_maps_itself() {
    become_user();
    eq!(fields("/proc/self/uid_map"), ["0", "0", "4294967295"]);
    leave(0);
    eq!((contents("/proc/self/uid_map"), contents("/proc/self/setgroups")), (String::new(), "allow\n".to_owned()));
    gives!(getuid() => 65534);
    eq!(store("self/gid_map", b"7 1000 1\n"), Err(Errno::EPERM));
    fails!(setgroups(0, 0) => EPERM);
    eq!(store("self/setgroups", b"no"), Err(Errno::EINVAL));
    eq!(store("self/setgroups", b"deny\n"), Ok(5));
    eq!(store("self/setgroups", b"allow"), Err(Errno::EPERM));
    eq!(store("self/gid_map", b"7 1000 1\n"), Ok(9));
    eq!(store("self/setgroups", b"deny"), Err(Errno::EPERM));
    fails!(setgroups(0, 0) => EPERM);
    eq!(store("self/uid_map", b"5 1000 1\n"), Ok(9));
    eq!(store("self/uid_map", b"5 1000 1\n"), Err(Errno::EPERM));
    eq!(fields("/proc/self/uid_map"), ["5", "1000", "1"]);
    eq!(contents("/proc/self/setgroups"), "deny\n");
    gives!(getuid() => 5);
    gives!(getegid() => 7);
    is!(contents("/proc/self/status").contains("Uid:\t5\t5\t5\t5\n"), "status to tell it");
}

fn only_one_of_oneself() {
    become_user();
    leave(0);
    for text in [&b"0 0 1"[..], b"0 1000 2", b"0 1001 1", b"0 1000 1\n1 1001 1"] {
        eq!(store("self/uid_map", text), Err(Errno::EPERM));
    }
    for text in [&b""[..], b"0", b"0 1000", b"0 1000 0", b"0 1000 1 1", b"4294967295 1000 2", b"x 1000 1", b"0 1000 1\n\n"] {
        let outcome = store("self/uid_map", text);
        is!(outcome == Err(Errno::EINVAL) || text.is_empty() && outcome == Ok(0), "{text:?} is no map: {outcome:?}");
    }
    eq!(store("self/setgroups", b"deny"), Ok(4));
    eq!(store("self/gid_map", b"0 0 1"), Err(Errno::EPERM));
}

fn numbers_are_translated() {
    become_its_root(0);
    works!(close(file(c"mine", b"")));
    let mut stat: stat = zeroed();
    gives!(stat(c"mine", &mut stat) => 0);
    eq!((stat.st_uid, stat.st_gid), (0, 0));
    gives!(chown(c"mine", 0, 0) => 0);
    fails!(chown(c"mine", 1000, -1) => EINVAL);
    fails!(chown(c"mine", -1, 5) => EINVAL);
    fails!(setuid(1000) => EINVAL);
    fails!(setresgid(-1, 5, -1) => EINVAL);
    gives!(setfsuid(1000) => 0);
    gives!(setfsuid(-1) => 0);
    let (mut real, mut effective, mut saved) = (9u32, 9u32, 9u32);
    gives!(getresuid(&mut real, &mut effective, &mut saved) => 0);
    eq!((real, effective, saved), (0, 0, 0));
    let pid = child(|| {
        let mut info: siginfo_t = zeroed();
        let me = child(|| process::exit(3));
        gives!(waitid(P_PID, me, &mut info, WEXITED, 0) => 0);
        eq!(crate::sys::memory::bytes_at(&raw const info as usize + 20, 4), 0u32.to_ne_bytes());
    });
    join(pid);
}

fn unmapped_owners_are_nobody() {
    need_root();
    works!(close(file(c"roots", b"")));
    gives!(chmod(c".", 0o777) => 0);
    in_child(|| {
        become_its_root(0);
        let mut stat: stat = zeroed();
        gives!(stat(c"roots", &mut stat) => 0);
        eq!((stat.st_uid, stat.st_gid), (65534, 65534));
        fails!(chown(c"roots", 0, 0) => EPERM);
        fails!(chown(c"roots", 65534, 65534) => EINVAL);
    });
}

fn files_of_others_stay_theirs() {
    need_root();
    works!(close(file(c"secret", b"text")));
    gives!(chmod(c"secret", 0o600) => 0);
    gives!(mkdir(c"closed", 0o700) => 0);
    gives!(mkdir(c"sticky", 0o777) => 0);
    gives!(chmod(c"sticky", 0o1777) => 0);
    works!(close(file(c"sticky/kept", b"")));
    works!(close(file(c"shared", b"")));
    // Of our user, but of a group that nobody knows inside.
    gives!(chown(c"shared", USER, 5) => 0);
    gives!(chmod(c"shared", 0o040) => 0);
    in_child(|| {
        become_its_root(CLONE_NEWNS);
        fails!(openat(AT_FDCWD, c"secret", O_RDONLY) => EACCES);
        fails!(openat(AT_FDCWD, c"secret", O_WRONLY) => EACCES);
        fails!(openat(AT_FDCWD, c"closed/x", O_CREAT | O_WRONLY, 0o600) => EACCES);
        fails!(unlink(c"sticky/kept") => EPERM | EACCES);
        fails!(chmod(c"secret", 0o666) => EPERM);
        fails!(truncate(c"secret", 0) => EACCES);
        fails!(setxattr(c"secret", c"user.x", b"x", 1, 0) => EACCES | EPERM | EOPNOTSUPP);
        fails!(openat(AT_FDCWD, c"shared", O_RDONLY) => EACCES);
        // But the owner changes its mode, as ever.
        gives!(chmod(c"shared", 0o400) => 0);
        fails!(link(c"secret", c"sticky/again") => EPERM | EACCES);
    });
}

fn nothing_of_the_kernels() {
    become_its_root(CLONE_NEWNS | CLONE_NEWIPC);
    is!(contents("/proc/self/status").contains("CapEff:\t000001ffffffffff"), "all capabilities");
    fails!(sethostname(b"x", 1) => EPERM);
    fails!(mknodat(AT_FDCWD, c"device", S_IFCHR | 0o666, 0x103) => EPERM);
    fails!(mknodat(AT_FDCWD, c"device", S_IFBLK | 0o666, 0x800) => EPERM);
    let now: timespec = timespec { tv_sec: 1, tv_nsec: 0 };
    fails!(clock_settime(CLOCK_REALTIME, &now) => EPERM);
    fails!(swapoff(c"/") => EPERM);
    fails!(acct(0) => EPERM);
    fails!(setpriority(PRIO_PROCESS, 0, -10) => EACCES);
    let hard = rlimit { rlim_cur: 1, rlim_max: 1 };
    gives!(prlimit64(0, RLIMIT_CORE, &hard, 0) => 0);
    let more = rlimit { rlim_cur: 1, rlim_max: 2 };
    fails!(prlimit64(0, RLIMIT_CORE, &more, 0) => EPERM);
    for name in ["sys/kernel/hostname", "sys/kernel/domainname"] {
        is!(store(name, b"x").is_err(), "{name} to be the kernel's");
    }
    is!(matches!(store("self/oom_score_adj", b"-5"), Err(Errno::EACCES)), "oom_score_adj");
}

fn processes_outside_are_out_of_reach() {
    need_root();
    let root = child(|| {
        loop {
            let _ = sys!(pause());
        }
    });
    let same = child(|| {
        become_user();
        loop {
            let _ = sys!(pause());
        }
    });
    until(|| contents(&format!("/proc/{same}/status")).contains("Uid:\t1000\t1000"));
    process::until_asleep(same);
    in_child(|| {
        become_its_root(0);
        fails!(kill(root, SIGKILL) => EPERM);
        fails!(ptrace(PTRACE_SEIZE, root, 0, 0) => EPERM);
        // Of the same user outside: a signal, but no look into its memory.
        gives!(kill(same, 0) => 0);
        fails!(ptrace(PTRACE_SEIZE, same, 0, 0) => EPERM);
        fails!(openat(AT_FDCWD, &*path(format!("/proc/{same}/mem")), O_RDWR) => EACCES);
        fails!(openat(AT_FDCWD, &*path(format!("/proc/{same}/root/")), O_RDONLY) => EACCES);
        fails!(openat(AT_FDCWD, &*path(format!("/proc/{root}/ns/uts")), O_RDONLY) => EACCES);
        let limit = rlimit { rlim_cur: 0, rlim_max: 0 };
        fails!(prlimit64(root, RLIMIT_CORE, &limit, 0) => EPERM);
        fails!(setpriority(PRIO_PROCESS, root, 5) => EPERM);
        fails!(sched_setaffinity(root, 8, &[1u64]) => EPERM);
    });
    for pid in [root, same] {
        gives!(kill(pid, SIGKILL) => 0);
        eq!(wait(pid), Status::Killed(SIGKILL));
    }
}

fn namespaces_outside_are_out_of_reach() {
    need_root();
    let held: Vec<usize> = ["uts", "ipc", "mnt", "user", "cgroup"]
        .iter()
        .map(|name| works!(openat(AT_FDCWD, &*path(format!("/proc/self/ns/{name}")), O_RDONLY)))
        .collect();
    in_child(|| {
        become_its_root(CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNS);
        for fd in &held {
            fails!(setns(*fd, 0) => EPERM);
        }
        // Not even again into the one that we are in.
        let own = works!(openat(AT_FDCWD, c"/proc/self/ns/user", O_RDONLY));
        fails!(setns(own, CLONE_NEWUSER) => EINVAL);
        gives!(sethostname(b"inside", 6) => 0);
    });
}

fn owners_enter() {
    need_root();
    let step = shared_word();
    let inside = child(|| {
        become_its_root(CLONE_NEWUTS);
        gives!(sethostname(b"theirs", 6) => 0);
        step.store(1, SeqCst);
        until_is(step, 2);
    });
    until(|| step.load(SeqCst) == 1 || process::state(inside).is_none_or(|state| state == 'Z'));
    let pidfd = works!(pidfd_open(inside, 0));
    let user = works!(openat(AT_FDCWD, &*path(format!("/proc/{inside}/ns/user")), O_RDONLY));
    // Who made it, from outside; and root, who may all.
    in_child(|| {
        become_user();
        fails!(setns(pidfd, CLONE_NEWUTS) => EPERM);
        gives!(setns(pidfd, CLONE_NEWUSER | CLONE_NEWUTS) => 0);
        eq!(contents("/proc/sys/kernel/hostname"), "theirs\n");
        gives!(getuid() => 0);
    });
    in_child(|| {
        gives!(setns(user, CLONE_NEWUSER) => 0);
        gives!(getuid() => 65534);
        gives!(setresuid(0, 0, 0) => 0);
    });
    // Nobody else.
    in_child(|| {
        gives!(setresgid(1001, 1001, 1001) => 0);
        gives!(setresuid(1001, 1001, 1001) => 0);
        fails!(setns(user, CLONE_NEWUSER) => EPERM);
        fails!(setns(pidfd, CLONE_NEWUSER) => EPERM);
    });
    step.store(2, SeqCst);
    join(inside);
}

fn who_enters_keeps_secrets() {
    need_root();
    let (step, entered) = (shared_word(), shared_word());
    in_child(|| {
        let owner = child(|| {
            become_user();
            leave(0);
            step.store(1, SeqCst);
            until_is(step, 2);
            // It may do all there, but what root has in memory is from outside.
            let root = entered.load(SeqCst);
            fails!(ptrace(PTRACE_SEIZE, root, 0, 0) => EPERM);
            fails!(openat(AT_FDCWD, &*path(format!("/proc/{root}/mem")), O_RDONLY) => EACCES);
            fails!(openat(AT_FDCWD, &*path(format!("/proc/{root}/environ")), O_RDONLY) => EACCES);
            step.store(3, SeqCst);
        });
        until_is(step, 1);
        let root = child(|| {
            let space = works!(openat(AT_FDCWD, &*path(format!("/proc/{owner}/ns/user")), O_RDONLY));
            gives!(setns(space, CLONE_NEWUSER) => 0);
            entered.store(works!(getpid()) as u32, SeqCst);
            step.store(2, SeqCst);
            until_is(step, 3);
        });
        join(owner);
        join(root);
    });
}

fn nested_namespaces() {
    become_its_root(0);
    let mut depth = 1;
    let outcome = loop {
        if let Err(errno) = sys!(unshare(CLONE_NEWUSER)) {
            break errno;
        }
        depth += 1;
        gives!(getuid() => 65534);
        eq!(store("self/uid_map", b"0 0 1"), Ok(5));
        eq!(store("self/gid_map", b"0 0 1"), Ok(5));
        gives!(getuid() => 0);
        if depth > 40 {
            break Errno::EINVAL;
        }
    };
    eq!(outcome, Errno::ENOSPC);
    // The first is no. 0 (and a container's host may be deeper already).
    is!(depth <= 33, "no deeper than 32: {depth}");
}

fn relatives_of_namespaces() {
    const USER_NAMESPACE: u32 = 0xb701;
    const PARENT: u32 = 0xb702;
    const KIND: u32 = 0xb703;
    const OWNER: u32 = 0xb704;
    need_root();
    let first = works!(openat(AT_FDCWD, c"/proc/self/ns/user", O_RDONLY));
    let number = |fd: usize| {
        let mut stat: stat = zeroed();
        gives!(fstat(fd, &mut stat) => 0);
        stat.st_ino
    };
    let outer = number(first);
    in_child(|| {
        become_its_root(CLONE_NEWUTS);
        let own = works!(openat(AT_FDCWD, c"/proc/self/ns/user", O_RDONLY));
        let uts = works!(openat(AT_FDCWD, c"/proc/self/ns/uts", O_RDONLY));
        gives!(ioctl(own, KIND) => CLONE_NEWUSER);
        gives!(ioctl(uts, KIND) => CLONE_NEWUTS);
        eq!(number(works!(ioctl(uts, USER_NAMESPACE))), number(own));
        let mut owner = 9u32;
        gives!(ioctl(own, OWNER, &mut owner) => 0);
        eq!(owner, 0);
        fails!(ioctl(uts, OWNER, &mut owner) => EINVAL);
        fails!(ioctl(uts, PARENT) => EINVAL);
        // What is outside isn't shown.
        fails!(ioctl(own, PARENT) => EPERM);
        fails!(ioctl(first, PARENT) => EPERM);
        gives!(unshare(CLONE_NEWUSER) => 0);
        let inner = works!(openat(AT_FDCWD, c"/proc/self/ns/user", O_RDONLY));
        fails!(ioctl(inner, PARENT) => EPERM);
        is!(number(inner) != number(own) && number(own) != outer, "numbers of their own");
    });
    let pid = child(|| {
        become_its_root(0);
        loop {
            let _ = sys!(pause());
        }
    });
    until(|| !contents(&format!("/proc/{pid}/gid_map")).is_empty() && contents(&format!("/proc/{pid}/gid_map")).contains("1000"));
    process::until_asleep(pid);
    let theirs = works!(openat(AT_FDCWD, &*path(format!("/proc/{pid}/ns/user")), O_RDONLY));
    eq!(number(works!(ioctl(theirs, PARENT))), outer);
    let mut owner = 9u32;
    gives!(ioctl(theirs, OWNER, &mut owner) => 0);
    eq!(owner, USER);
    eq!(fields(&format!("/proc/{pid}/uid_map")), ["0", "1000", "1"]);
    gives!(kill(pid, SIGKILL) => 0);
    wait(pid);
}

fn several_at_once() {
    need_root();
    in_child(|| {
        become_user();
        // The others belong to the new one of users, whichever is named first.
        leave(CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNS);
        gives!(sethostname(b"all", 3) => 0);
        gives!(shmget(IPC_PRIVATE, 4096, 0o600) => 0);
        gives!(mount(c"none", c"/", c"tmpfs", 0, 0) => 0);
        fails!(unshare(CLONE_NEWUSER) => EPERM);
    });
    let thread_sharing = CLONE_NEWUSER | CLONE_FS | SIGCHLD;
    fails!(clone(thread_sharing, 0, 0, 0, 0) => EINVAL);
}

fn peers_are_translated() {
    need_root();
    let (ours, theirs) = crate::sys::sockets::pair(SOCK_STREAM);
    gives!(setsockopt(ours, SOL_SOCKET, SO_PASSCRED, &1i32, 4) => 0);
    gives!(setsockopt(theirs, SOL_SOCKET, SO_PASSCRED, &1i32, 4) => 0);
    let told = |fd: usize| {
        let mut control = [0u8; 64];
        let mut byte = [0u8; 1];
        let mut header = crate::sys::sockets::message(&[], &mut control);
        let pieces = [piece(&mut byte)];
        (header.msg_iov, header.msg_iovlen) = (pieces.as_ptr().cast_mut(), 1);
        gives!(recvmsg(fd, &mut header, 0) => 1);
        let words: Vec<u32> =
            control[16..28].chunks(4).filter_map(|word| Some(u32::from_ne_bytes(word.try_into().ok()?))).collect();
        (words[1], words[2])
    };
    let pid = child(|| {
        become_its_root(0);
        gives!(write(theirs, b"x", 1) => 1);
        eq!(told(theirs), (65534, 65534));
        let mut peer: ucred = zeroed();
        gives!(getsockopt(theirs, SOL_SOCKET, SO_PEERCRED, &mut peer, &mut 12u32) => 0);
        eq!((peer.uid, peer.gid), (65534, 65534));
    });
    eq!(told(ours), (USER, USER));
    gives!(write(ours, b"y", 1) => 1);
    join(pid);
}

fn maps_of_ranges() {
    need_root();
    let step = shared_word();
    let pid = child(|| {
        leave(0);
        step.store(1, SeqCst);
        until_is(step, 2);
        gives!(getuid() => 10);
        for (inside, outside) in [(10u32, 0u32), (100, 2000), (104, 2004), (200, 3000)] {
            works!(close(file(c"f", b"")));
            gives!(chown(c"f", inside, inside) => 0);
            let _ = outside;
            let mut stat: stat = zeroed();
            gives!(stat(c"f", &mut stat) => 0);
            eq!((stat.st_uid, stat.st_gid), (inside, inside));
        }
        for inside in [0u32, 11, 99, 105, 201] {
            fails!(chown(c"f", inside, -1) => EINVAL);
        }
        gives!(setgroups(2, &[100u32, 104]) => 0);
        fails!(setgroups(1, &[0u32]) => EINVAL);
        gives!(setresgid(100, 100, 100) => 0);
        gives!(setresuid(100, 100, 100) => 0);
        // One below: only what we have, and in one piece.
        gives!(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) => 0);
        step.store(3, SeqCst);
        until_is(step, 4);
    });
    until(|| step.load(SeqCst) == 1 || process::state(pid).is_none_or(|state| state == 'Z'));
    let map = b"10 0 1\n100 2000 5\n200 3000 1\n";
    eq!(store(&format!("{pid}/uid_map"), b"0 0 5\n4 9 1\n"), Err(Errno::EINVAL));
    eq!(store(&format!("{pid}/uid_map"), map), Ok(map.len()));
    eq!(store(&format!("{pid}/gid_map"), map), Ok(map.len()));
    eq!(contents(&format!("/proc/{pid}/uid_map")).lines().count(), 3);
    step.store(2, SeqCst);
    until(|| step.load(SeqCst) == 3 || process::state(pid).is_none_or(|state| state == 'Z'));
    is!(contents(&format!("/proc/{pid}/status")).contains("Uid:\t2000\t2000"), "the number outside");
    is!(contents(&format!("/proc/{pid}/status")).contains("Groups:\t2000 2004"), "groups outside");
    step.store(4, SeqCst);
    join(pid);
}
