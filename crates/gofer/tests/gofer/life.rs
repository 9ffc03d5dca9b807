//! How a gofer comes and goes, and what it has given up.

use crate::support::{ROOT, go, in_a_copy, serve, serve_as, start};
use insula_gofer::{Change, Confinement, Device, Errno, Export, NewOwner, OpenFlags, Owner, Time, Times};
use insula_sys::process::{self, Ended};
use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

const SOON: Option<Duration> = Some(Duration::from_secs(20));

pub(crate) fn it_ends_with_its_client() {
    let served = serve();
    let (root, client, child) = (served.root, served.client, served.child);
    drop(client);
    // A handle is a client, too.
    root.stat().unwrap();
    drop(root);
    assert!(process::wait_ended(&child.pidfd, SOON).unwrap());
    assert_eq!(process::reap(&child.pidfd).unwrap(), Ended::Exited(0));
}

pub(crate) fn it_ends_with_a_killed_client() {
    let (read, write) = rustix::pipe::pipe().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ended = in_a_copy(|| {
        let (_client, child) = start(&[Export::new(dir.path())]);
        let pid = child.pid.as_raw_pid();
        rustix::io::write(&write, &pid.to_le_bytes()).unwrap();
        insula_sys::signals::send(rustix::process::getpid(), 9);
    });
    assert_eq!(ended, Ended::Killed(9));
    let mut pid = [0; 4];
    rustix::io::read(&read, &mut pid).unwrap();
    let pid = rustix::process::Pid::from_raw(i32::from_le_bytes(pid)).unwrap();
    // Adopted by somebody else, who may not have waited for it yet.
    let gone = || process::state(pid).is_none_or(|state| state == 'Z');
    for _ in 0..2000 {
        if gone() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it lives");
}

pub(crate) fn a_lost_gofer_is_an_error() {
    let served = serve();
    assert!(!served.client.is_lost());
    process::kill(&served.child.pidfd);
    process::reap(&served.child.pidfd).unwrap();
    assert_eq!(served.root.stat().unwrap_err(), Errno::IO);
    assert!(served.client.is_lost());
    assert_eq!(served.client.attach(0).unwrap_err(), Errno::IO);
    assert_eq!(served.root.open(OpenFlags::empty()).unwrap_err(), Errno::IO);
}

pub(crate) fn a_missing_export_is_said() {
    let (starting, client) = insula_gofer::spawn(&[Export::new("/nowhere/at/all")], &Confinement::default()).unwrap();
    let error = starting.ready().unwrap_err().to_string();
    assert_eq!(error, "the gofer: can't export /nowhere/at/all: No such file or directory");
    assert_eq!(client.attach(0).unwrap_err(), Errno::IO);
}

/// The line of a status file.
fn status<'s>(text: &'s str, key: &str) -> &'s str {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":")).map(str::trim).unwrap()
}

pub(crate) fn it_has_given_everything_up() {
    let served = serve();
    let proc = format!("/proc/{}", served.child.pid.as_raw_pid());
    let tasks: Vec<_> = fs::read_dir(format!("{proc}/task")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(tasks.len() >= 3);
    for task in tasks {
        let text = fs::read_to_string(task.join("status")).unwrap();
        let capabilities = format!("{:016x}", insula_gofer::config::FILE_CAPABILITIES);
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(status(&text, set), capabilities, "{set}");
        }
        assert_eq!((status(&text, "CapInh"), status(&text, "CapAmb")), ("0000000000000000", "0000000000000000"));
        assert_eq!((status(&text, "NoNewPrivs"), status(&text, "Seccomp"), status(&text, "Seccomp_filters")), ("1", "2", "1"));
    }
    for space in ["mnt", "net", "ipc", "uts", "pid"] {
        let (its, ours) = (fs::read_link(format!("{proc}/ns/{space}")), fs::read_link(format!("/proc/self/ns/{space}")));
        assert_ne!(its.unwrap(), ours.unwrap(), "{space}");
    }
    // An empty root, that is all that is mounted.
    assert_eq!(fs::read_dir(format!("{proc}/root/")).unwrap().count(), 0);
    let mounts = fs::read_to_string(format!("{proc}/mountinfo")).unwrap();
    assert!(mounts.lines().count() == 1 && mounts.contains(" / / ro,"), "{mounts}");
    assert_eq!(fs::write(format!("{proc}/root/x"), "").unwrap_err().raw_os_error(), Some(30));
    // Of its descriptors, only those for messages lead anywhere else.
    for entry in fs::read_dir(format!("{proc}/fd")).unwrap() {
        let entry = entry.unwrap();
        let target = fs::read_link(entry.path()).unwrap().display().to_string();
        let number: u32 = entry.file_name().to_str().unwrap().parse().unwrap();
        let known = match number {
            0 | 1 => target == "/dev/null",
            2 => true,
            _ => target.starts_with("socket:") || target.starts_with("pipe:") || target == "/",
        };
        assert!(known, "{number}: {target}");
    }
}

pub(crate) fn many_threads_ask_at_once() {
    let served = serve_as(
        |dir| {
            for number in 0..8 {
                fs::write(dir.join(number.to_string()), number.to_string()).unwrap();
            }
        },
        |_| {},
    );
    std::thread::scope(|scope| {
        for number in 0..8_u32 {
            let root = &served.root;
            scope.spawn(move || {
                let name = number.to_string();
                for round in 0..500_u32 {
                    let (_, opened) = root.walk_open(&[(name.as_bytes(), None)], OpenFlags::empty()).unwrap();
                    let mut text = [0; 1];
                    rustix::io::read(opened.unwrap().unwrap(), &mut text).unwrap();
                    assert_eq!(text, name.as_bytes());
                    // Each in its own name, whichever thread answers.
                    let new = format!("{number}-{round}");
                    let owner = Owner { uid: number, gid: number + 100 };
                    let attr = root.make_dir(new.as_bytes(), 0o700, owner).unwrap().1;
                    assert_eq!((attr.uid, attr.gid), (number, number + 100));
                }
            });
        }
    });
}

pub(crate) fn handles_are_given_back() {
    let served = serve_as(|dir| fs::write(dir.join("file"), "").unwrap(), |_| {});
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", served.child.pid.as_raw_pid())).unwrap().count();
    let before = descriptors();
    let kept: Vec<_> = (0..3000).map(|_| go(&served.root, &["file"])).collect();
    assert_eq!(descriptors(), before + 3000);
    drop(kept);
    // The rest goes with what is asked next.
    for _ in 0..20 {
        served.root.stat().unwrap();
    }
    assert_eq!(descriptors(), before);
}

/// Nothing in the gofer makes a forbidden call; so its filter is loaded here, in a copy of this process.
pub(crate) fn a_forbidden_call_ends_it() {
    use rustix::fs::{Mode, OFlags, openat};
    let root = rustix::fs::open("/", OFlags::PATH, Mode::empty()).unwrap();
    let elsewhere = &|| drop(openat(&root, "etc", OFlags::PATH, Mode::empty()));
    let wishes: [(&str, &dyn Fn()); 8] = [
        ("execve", &|| _ = process::exec(std::path::Path::new("/bin/true"), &[], &[])),
        ("openat elsewhere", elsewhere),
        ("socket", &|| drop(rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None))),
        ("unshare", &|| _ = process::unshare(process::Spaces::empty())),
        ("kill", &|| _ = rustix::process::test_kill_current_process_group()),
        ("chroot", &|| _ = rustix::process::chroot("/")),
        ("write elsewhere", &|| _ = rustix::io::write(rustix::stdio::stdout(), b"x")),
        ("clone", &|| drop(process::fork(process::Spaces::empty(), None))),
    ];
    for (wish, make) in wishes {
        let ended = in_a_copy(|| {
            insula_gofer::confine_for_test();
            make();
        });
        assert_eq!(ended, Ended::Killed(31), "{wish}");
    }
    let allowed = in_a_copy(|| {
        insula_gofer::confine_for_test();
        drop(openat(rustix::fs::CWD, "etc", OFlags::PATH, Mode::empty()));
        process::exit(0)
    });
    assert_eq!(allowed, Ended::Exited(0));
}

/// Every request, once and in every way that takes other calls.
fn everything() {
    let served = serve_as(|dir| fs::write(dir.join("file"), "").unwrap(), |_| {});
    let root = &served.root;
    let file = go(root, &["file"]);
    file.open(OpenFlags::RDWR).unwrap();
    root.create(b"new", OpenFlags::WRONLY, 0o600, Owner { uid: 1, gid: 1 }).unwrap();
    root.create_unnamed(OpenFlags::WRONLY, 0o600, ROOT, false).unwrap();
    root.make_dir(b"dir", 0o700, ROOT).unwrap();
    root.make_node(b"pipe", 0o010_600, Device { major: 0, minor: 0 }, ROOT).unwrap();
    root.make_link(b"link", b"x", ROOT).unwrap().0.read_link().unwrap();
    root.link(b"other", &file).unwrap();
    root.rename(b"other", root, b"another", 0).unwrap();
    root.unlink(b"another").unwrap();
    root.remove_dir(b"dir").unwrap();
    file.stat_fs().unwrap();
    file.set_xattr(b"user.k", b"v", 0).unwrap();
    file.get_xattr(b"user.k").unwrap();
    file.list_xattrs().unwrap();
    file.remove_xattr(b"user.k").unwrap();
    let time = Time { seconds: 1, nanoseconds: 1 };
    let times = Some(Times { accessed: time, modified: time });
    file.change(&Change { owner: Some(NewOwner { uid: Some(1), gid: Some(1) }), mode: Some(0o600), size: Some(1), times })
        .unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..2000).for_each(|_| drop(go(&served.root, &["file"]))));
        }
    });
    let child = served.child;
    drop((served.root, served.client, file));
    assert!(process::wait_ended(&child.pidfd, SOON).unwrap());
}

/// What a gofer asks of the kernel, by strace: each call is in the list, and each in the list is made, or it says why it is seldom.
pub(crate) fn the_calls_are_those_in_the_list() {
    if std::env::var_os("TRACED").is_some() {
        return everything();
    }
    let trace = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new("strace");
    command.args(["-ff", "-qq", "-o"]).arg(trace.path().join("of"));
    command.arg(std::env::current_exe().unwrap()).args(["life::the_calls_are_those_in_the_list", "--exact"]).env("TRACED", "");
    match command.output() {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(error) => return println!("skipped: strace: {error}"),
    }
    let mut made = BTreeSet::new();
    for entry in fs::read_dir(trace.path()).unwrap() {
        let text = fs::read(entry.unwrap().path()).unwrap();
        let text = String::from_utf8_lossy(&text);
        // A thread of the gofer's is one that waits for requests; before the first it hasn't been confined.
        let from = text.find("recvfrom(").unwrap_or(text.len());
        let is_gofer = text.contains("openat2(") && !text.contains("socketpair(");
        let calls = text[from..].lines().filter(|_| is_gofer).filter_map(|line| line.split_once('(')).map(|(name, _)| name);
        made.extend(calls.filter(|name| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')).map(str::to_owned));
    }
    let listed: BTreeSet<&str> = insula_gofer::CALLS.iter().map(|call| call.call.name()).collect();
    let unlisted: Vec<_> = made.iter().filter(|name| !listed.contains(name.as_str())).collect();
    assert!(unlisted.is_empty(), "{unlisted:?}");
    let often = insula_gofer::CALLS.iter().filter(|call| call.rare.is_none()).map(|call| call.call.name());
    let unseen: Vec<_> = often.filter(|name| !made.contains(*name)).collect();
    assert!(unseen.is_empty(), "{unseen:?} of {made:?}");
}
