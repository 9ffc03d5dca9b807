//! A sentry that its guest has taken over, and a host whose files change meanwhile.

use crate::support::{ROOT, go, serve, serve_as, start};
use insula_gofer::protocol::{Envelope, Id, Request};
use insula_gofer::wire::{Bytes, List, Writer};
use insula_gofer::{Change, Confinement, Device, Errno, Export, NewOwner, OpenFlags, Owner};
use rustix::fd::OwnedFd;
use rustix::net::{RecvFlags, SendFlags};
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

const PROTO: i32 = Errno::PROTO.raw_os_error();
const BADF: i32 = Errno::BADF.raw_os_error();
const NODEV: i32 = Errno::NODEV.raw_os_error();
const ROOT_OF_EXPORT: u64 = 1 << 32;

fn user(uid: u32) -> Option<NewOwner> {
    Some(NewOwner { uid: Some(uid), gid: None })
}

/// Sends bytes and gives the errno of the answer.
fn say(socket: &OwnedFd, bytes: &[u8]) -> i32 {
    assert_eq!(rustix::net::send(socket, bytes, SendFlags::NOSIGNAL), Ok(bytes.len()));
    hear(socket)
}

fn hear(socket: &OwnedFd) -> i32 {
    let mut answer = [0; 1 << 17];
    let length = rustix::net::recv(socket, &mut answer[..], RecvFlags::empty()).unwrap().0;
    assert!(length >= 2, "the gofer is gone");
    i32::from(u16::from_le_bytes([answer[0], answer[1]]))
}

fn encode(request: Request<'_>) -> Vec<u8> {
    let mut buffer = vec![0; 1 << 17];
    let mut out = Writer::new(&mut buffer);
    out.put(&Envelope { forget: List::Values(&[]), request });
    let length = out.finish().unwrap();
    buffer.truncate(length);
    buffer
}

/// Sockets to a gofer that serves a directory, which has the first handle.
fn sockets() -> (Vec<OwnedFd>, tempfile::TempDir, insula_sys::process::Child) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("dir")).unwrap();
    let (client, child) = start(&[Export::new(dir.path())]);
    let sockets = client.into_sockets();
    assert_eq!(say(&sockets[0], &encode(Request::Attach { export: 0 })), 0);
    (sockets, dir, child)
}

/// Names that can only be sent past the client's own check: `Name` has no such value, so a good one is sent and its bytes are replaced.
pub(crate) fn no_name_leads_out() {
    let served = serve();
    for name in [&b""[..], b".", b"..", b"/", b"a/b", b"/etc", b"../..", b"a\0b", b"\0", &[b'x'; 256]] {
        let expected = if name.len() > 255 { Errno::NAMETOOLONG } else { Errno::INVAL };
        assert_eq!(served.root.walk(&[(name, None)]).unwrap_err(), expected);
        assert_eq!(served.root.make_dir(name, 0o755, ROOT).unwrap_err(), expected);
    }
    let (sockets, dir, _child) = sockets();
    let owner = Owner { uid: 0, gid: 0 };
    let place = |name| insula_gofer::protocol::Place { dir: Id(ROOT_OF_EXPORT), name: insula_gofer::Name::new(name).unwrap() };
    let step = insula_gofer::protocol::Step { name: place(b"@@").name, known: None };
    let dir_id = Id(ROOT_OF_EXPORT);
    let (flags, mode) = (OpenFlags::WRONLY, 0o755);
    let requests = |at| {
        [
            Request::Walk { from: dir_id, steps: List::Values(std::slice::from_ref(&step)), open: None },
            Request::Create { at, flags, mode, owner },
            Request::MakeDir { at, mode, owner },
            Request::MakeNode { at, mode: 0o010_600, device: Device { major: 0, minor: 0 }, owner },
            Request::MakeLink { at, target: Bytes(b"x"), owner },
            Request::Link { node: dir_id, at },
            Request::Unlink { at, directory: true },
            Request::Rename { from: at, to: place(b"new"), flags: 0 },
            Request::Rename { from: place(b"dir"), to: at, flags: 0 },
        ]
        .map(encode)
    };
    for message in requests(place(b"@@")) {
        let start = message.windows(2).position(|bytes| bytes == b"@@").unwrap();
        for bad in [b"..", b"./", b"a/", b"/a", b"a\0"] {
            let mut message = message.clone();
            message[start..start + 2].copy_from_slice(bad);
            assert_eq!(say(&sockets[0], &message), PROTO, "{bad:?} in {message:?}");
        }
        for bad in [&b"."[..], b"", b"../../../etc/passwd"] {
            let name = [&[bad.len() as u8], bad].concat();
            let message = [&message[..start - 1], &name, &message[start + 2..]].concat();
            assert_eq!(say(&sockets[0], &message), PROTO, "{bad:?} in {message:?}");
        }
    }
    assert!(fs::read_dir(dir.path()).unwrap().count() == 1 && dir.path().join("dir").exists());
}

pub(crate) fn symbolic_links_are_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let served = serve_as(
        |dir| {
            symlink(outside.path(), dir.join("absolute")).unwrap();
            symlink("../..", dir.join("relative")).unwrap();
            symlink(outside.path().join("secret"), dir.join("file")).unwrap();
            symlink(".", dir.join("here")).unwrap();
        },
        |_| {},
    );
    for name in ["absolute", "relative", "here", "file"] {
        let walked = served.root.walk(&[(name.as_bytes(), None), (b"secret", None)]).unwrap();
        assert_eq!((walked.reached.len(), walked.stopped), (1, Some(Errno::NOTDIR)), "{name}");
        let link = go(&served.root, &[name]);
        assert_eq!(link.stat().unwrap().kind(), 0o120_000);
        assert_eq!(link.open(OpenFlags::empty()).unwrap_err(), Errno::LOOP);
        let change = |change: Change| link.change(&change).map(drop).unwrap_err();
        assert_eq!(change(Change { mode: Some(0o777), ..Change::default() }), Errno::OPNOTSUPP);
        assert_eq!(change(Change { size: Some(0), ..Change::default() }), Errno::INVAL);
        assert_eq!(link.make_dir(b"x", 0o755, ROOT).unwrap_err(), Errno::NOTDIR);
        assert_eq!(link.create(b"x", OpenFlags::WRONLY, 0o755, ROOT).unwrap_err(), Errno::NOTDIR);
        assert_eq!(link.unlink(b"secret").unwrap_err(), Errno::NOTDIR);
        assert_eq!(link.create_unnamed(OpenFlags::WRONLY, 0o755, ROOT, false).map(drop).unwrap_err(), Errno::NOTDIR);
        // A file of that name isn't made where the link leads.
        assert_eq!(served.root.create(name.as_bytes(), OpenFlags::WRONLY, 0o644, ROOT).map(drop).unwrap_err(), Errno::EXIST);
        // The owner of the link, not of what it leads to.
        link.change(&Change { owner: user(1234), ..Change::default() }).unwrap();
    }
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(outside.path().join("secret")).unwrap().uid(), 0);
    assert_eq!(fs::metadata(outside.path()).unwrap().uid(), 0);
}

/// Somebody on the host swaps a directory with a link to the outside while it is walked through, and its file is made and opened.
pub(crate) fn a_link_that_comes_and_goes_is_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), "outside").unwrap();
    let served = serve_as(
        |dir| {
            fs::create_dir(dir.join("swapped")).unwrap();
            fs::write(dir.join("swapped/file"), "inside!").unwrap();
            symlink(outside.path(), dir.join("link")).unwrap();
        },
        |_| {},
    );
    let stop = AtomicBool::new(false);
    /// Also when something has gone wrong.
    struct Stop<'s>(&'s AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (mut inside, mut links) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let dir = fs::File::open(served.path()).unwrap();
            while !stop.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(&dir, "swapped", &dir, "link", rustix::fs::RenameFlags::EXCHANGE).unwrap();
            }
        });
        let _stop = Stop(&stop);
        for _ in 0..10_000 {
            let (walked, opened) = served.root.walk_open(&[(b"swapped", None), (b"file", None)], OpenFlags::empty()).unwrap();
            match (walked.stopped, opened.unwrap()) {
                (None, Some(file)) => {
                    let mut text = [0; 7];
                    assert_eq!(rustix::io::pread(file, &mut text, 0), Ok(7));
                    assert_eq!(&text, b"inside!");
                    inside += 1;
                }
                (Some(Errno::NOTDIR), None) => links += 1,
                other => panic!("{other:?}"),
            }
            let dir = served.root.walk(&[(b"swapped", None)]).unwrap().reached.pop().unwrap().0.unwrap();
            if let Ok((_, _, _)) = dir.create(b"new", OpenFlags::WRONLY, 0o600, ROOT) {
                dir.unlink(b"new").unwrap();
            }
        }
    });
    assert!(inside > 100 && links > 100, "{inside} {links}");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

pub(crate) fn no_magic_link_is_followed() {
    let (client, _child) = start(&[Export::new("/proc")]);
    let root = client.attach(0).unwrap().root;
    for link in ["root", "cwd", "exe", "fd"] {
        let names: &[&str] = if link == "fd" { &["1", "fd", "0"] } else { &["1", link] };
        let magic = go(&root, names);
        assert_eq!(magic.open(OpenFlags::empty()).unwrap_err(), Errno::LOOP, "{link}");
        assert_eq!(magic.walk(&[(b"etc", None)]).unwrap().stopped, Some(Errno::NOTDIR));
    }
    assert_eq!(go(&root, &["self"]).stat().unwrap().kind(), 0o120_000);
}

pub(crate) fn a_read_only_export_refuses_each_change() {
    let served = serve_as(
        |dir| {
            fs::create_dir(dir.join("dir")).unwrap();
            fs::write(dir.join("file"), "contents").unwrap();
            rustix::fs::setxattr(dir.join("file"), "user.k", b"v", rustix::fs::XattrFlags::empty()).unwrap();
        },
        |export| *export = export.clone().read_only(),
    );
    let (root, file) = (&served.root, go(&served.root, &["file"]));
    let change = |change: Change| file.change(&change).map(drop);
    let none = Device { major: 0, minor: 0 };
    let times = |time| insula_gofer::Times { accessed: time, modified: time };
    let time = insula_gofer::Time { seconds: 1, nanoseconds: 0 };
    let refused = [
        file.open(OpenFlags::WRONLY).map(drop),
        file.open(OpenFlags::RDWR).map(drop),
        file.open(OpenFlags::TRUNC).map(drop),
        root.walk_open(&[(b"file", None)], OpenFlags::RDWR).unwrap().1.map(drop),
        root.create(b"new", OpenFlags::WRONLY, 0o644, ROOT).map(drop),
        root.create_unnamed(OpenFlags::WRONLY, 0o644, ROOT, false).map(drop),
        root.make_dir(b"new", 0o755, ROOT).map(drop),
        root.make_node(b"new", 0o010_644, none, ROOT).map(drop),
        root.make_link(b"new", b"file", ROOT).map(drop),
        root.link(b"new", &file).map(drop),
        root.unlink(b"file"),
        root.remove_dir(b"dir"),
        root.rename(b"file", root, b"new", 0),
        change(Change { mode: Some(0o600), ..Change::default() }),
        change(Change { owner: user(1), ..Change::default() }),
        change(Change { size: Some(1), ..Change::default() }),
        change(Change { times: Some(times(time)), ..Change::default() }),
        file.set_xattr(b"user.k", b"w", 0),
        file.remove_xattr(b"user.k"),
    ];
    assert!(refused.iter().all(|result| *result == Err(Errno::ROFS)), "{refused:?}");
    // Nor does a descriptor that can be had change anything.
    let opened = file.open(OpenFlags::empty()).unwrap();
    assert_eq!(rustix::fs::fchmod(&opened, rustix::fs::Mode::RWXU), Err(Errno::ROFS));
    assert_eq!(rustix::io::write(&opened, b"x"), Err(Errno::BADF));
    assert_eq!(file.get_xattr(b"user.k").unwrap(), b"v");
}

fn special(dir: &std::path::Path) {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    let make = |name, kind, device| mknodat(CWD, dir.join(name), kind, Mode::RWXU, device).unwrap();
    make("pipe", FileType::Fifo, 0);
    make("socket", FileType::Socket, 0);
    make("null", FileType::CharacterDevice, makedev(1, 3));
    // A driver that nobody has: who reached it would hear ENXIO from it, too, so the first is the one that tells.
    make("block", FileType::BlockDevice, makedev(240, 200));
}

pub(crate) fn pipes_and_devices_are_not_opened() {
    let served = serve_as(special, |_| {});
    for name in ["pipe", "socket", "null", "block"] {
        let file = go(&served.root, &[name]);
        for flags in [OpenFlags::empty(), OpenFlags::WRONLY, OpenFlags::RDWR, OpenFlags::NONBLOCK] {
            assert_eq!(file.open(flags).unwrap_err(), Errno::NXIO, "{name}");
            assert_eq!(served.root.walk_open(&[(name.as_bytes(), None)], flags).unwrap().1.unwrap_err(), Errno::NXIO);
        }
        assert_eq!(file.change(&Change { size: Some(0), ..Change::default() }).unwrap_err(), Errno::INVAL);
        // They can still be looked at and changed as files.
        file.change(&Change { mode: Some(0o600), ..Change::default() }).unwrap();
    }
    for kind in [0o020_000, 0o060_000] {
        let made = served.root.make_node(b"device", kind | 0o600, Device { major: 1, minor: 3 }, ROOT);
        assert_eq!(made.map(drop).unwrap_err(), Errno::PERM);
    }
    for kind in [0o040_000, 0o120_000, 0o170_000, 0o030_000] {
        let made = served.root.make_node(b"other", kind | 0o600, Device { major: 1, minor: 3 }, ROOT);
        assert_eq!(made.map(drop).unwrap_err(), Errno::INVAL);
    }
}

pub(crate) fn an_export_can_allow_pipes_and_devices() {
    let served = serve_as(special, |export| (export.pipes, export.devices) = (true, true));
    let pipe = go(&served.root, &["pipe"]);
    // Nobody reads: the call would wait.
    assert_eq!(pipe.open(OpenFlags::WRONLY).unwrap_err(), Errno::NXIO);
    let reader = pipe.open(OpenFlags::empty()).unwrap();
    let writer = pipe.open(OpenFlags::WRONLY).unwrap();
    assert_eq!(rustix::io::write(&writer, b"through"), Ok(7));
    assert_eq!(rustix::io::read(&reader, &mut [0; 9]), Ok(7));
    assert_eq!(rustix::io::write(go(&served.root, &["null"]).open(OpenFlags::WRONLY).unwrap(), b"x"), Ok(1));
    let zero = served.root.make_node(b"zero", 0o020_600, Device { major: 1, minor: 5 }, ROOT).unwrap();
    assert_eq!(zero.1.special, Device { major: 1, minor: 5 });
    assert_eq!(rustix::io::read(zero.0.open(OpenFlags::empty()).unwrap(), &mut [1; 4]), Ok(4));
    assert_eq!(go(&served.root, &["socket"]).open(OpenFlags::empty()).unwrap_err(), Errno::NXIO);
}

pub(crate) fn handles_that_do_not_exist_are_refused() {
    let (sockets, _dir, _child) = sockets();
    for id in [0, 1, 2, ROOT_OF_EXPORT - 1, ROOT_OF_EXPORT + 1, 2 * ROOT_OF_EXPORT, u64::MAX, u64::MAX - 1, 1 << 63] {
        assert_eq!(say(&sockets[0], &encode(Request::Stat { node: Id(id) })), BADF, "{id:x}");
        assert_eq!(say(&sockets[0], &encode(Request::Open { node: Id(id), flags: OpenFlags::empty() })), BADF);
    }
    // A forgotten one, forgotten twice, and some that never were.
    let forget = [Id(ROOT_OF_EXPORT), Id(ROOT_OF_EXPORT), Id(7), Id(u64::MAX)];
    let mut buffer = [0; 256];
    let mut out = Writer::new(&mut buffer);
    out.put(&Envelope { forget: List::Values(&forget), request: Request::Stat { node: forget[0] } });
    let length = out.finish().unwrap();
    assert_eq!(say(&sockets[0], &buffer[..length]), BADF);
    assert_eq!(say(&sockets[0], &encode(Request::Attach { export: u32::MAX })), NODEV);
    assert_eq!(say(&sockets[0], &encode(Request::Attach { export: 0 })), 0);
}

pub(crate) fn bytes_that_are_no_message_are_refused() {
    let (sockets, _dir, _child) = sockets();
    let good = encode(Request::SetXattr {
        node: Id(ROOT_OF_EXPORT),
        key: insula_gofer::protocol::Key::new(b"user.x").unwrap(),
        value: Bytes(b"value"),
        flags: 0,
    });
    for length in 1..good.len() {
        assert_eq!(say(&sockets[0], &good[..length]), PROTO);
    }
    assert_eq!(say(&sockets[0], &[&good[..], b"\0"].concat()), PROTO);
    assert_eq!(say(&sockets[0], &good), 0);
    // Longer than the longest, and as long as the socket takes.
    for length in [69_632, 69_633, 100_000, 200_000] {
        assert_eq!(say(&sockets[0], &vec![0; length]), PROTO);
    }
    // Kinds that there aren't, flags that there aren't.
    for kind in 20..=255 {
        assert_eq!(say(&sockets[0], &[0, kind, 0, 0, 0, 0, 0, 0, 0, 0]), PROTO);
    }
    for flags in [0o100_u32, 0o10_000_000, 3, 0o400] {
        let mut open = encode(Request::Open { node: Id(ROOT_OF_EXPORT), flags: OpenFlags::empty() });
        let end = open.len() - 4;
        open[end..].copy_from_slice(&flags.to_le_bytes());
        assert_eq!(say(&sockets[0], &open), PROTO);
    }
    // Descriptors that come along are not kept.
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, sendmsg};
    let before = descriptors(&_child);
    for _ in 0..100 {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let some = [std::os::fd::AsFd::as_fd(&sockets[1]); 3];
        control.push(SendAncillaryMessage::ScmRights(&some));
        sendmsg(&sockets[0], &[std::io::IoSlice::new(&good)], &mut control, SendFlags::NOSIGNAL).unwrap();
        assert_eq!(hear(&sockets[0]), 0);
    }
    assert_eq!(descriptors(&_child), before);
}

fn descriptors(child: &insula_sys::process::Child) -> usize {
    fs::read_dir(format!("/proc/{}/fd", child.pid.as_raw_pid())).unwrap().count()
}

/// Messages of random bytes, and good ones with some bytes changed.
pub(crate) fn random_messages_do_no_harm() {
    let (sockets, dir, child) = sockets();
    fs::write(dir.path().join("a"), "x").unwrap();
    let place = |name| insula_gofer::protocol::Place { dir: Id(ROOT_OF_EXPORT), name: insula_gofer::Name::new(name).unwrap() };
    let step = |name| insula_gofer::protocol::Step { name: place(name).name, known: Some(Id(ROOT_OF_EXPORT)) };
    let steps = [step(b"dir"), step(b"a"), step(b"a")];
    let (owner, mode, flags) = (ROOT, 0o644, OpenFlags::RDWR);
    let key = insula_gofer::protocol::Key::new(b"user.x").unwrap();
    let node = Id(ROOT_OF_EXPORT);
    let seeds = [
        Request::Walk { from: node, steps: List::Values(&steps), open: Some(flags) },
        Request::Create { at: place(b"b"), flags, mode, owner },
        Request::CreateUnnamed { dir: node, flags, mode, owner, for_good: false },
        Request::MakeNode { at: place(b"c"), mode: 0o010_600, device: Device { major: 0, minor: 0 }, owner },
        Request::MakeLink { at: place(b"d"), target: Bytes(b"target"), owner },
        Request::Link { node, at: place(b"e") },
        Request::Rename { from: place(b"a"), to: place(b"f"), flags: 0 },
        Request::Change { node, owner: user(1), mode: Some(mode), size: Some(1), times: None },
        Request::SetXattr { node, key, value: Bytes(b"v"), flags: 0 },
        Request::ListXattrs { node },
    ]
    .map(encode);
    let seed = std::env::var("SEED").ok().map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    fastrand::seed(seed);
    let rounds = std::env::var("ROUNDS").ok().map_or(20_000, |rounds| rounds.parse().unwrap());
    for _ in 0..rounds {
        let mut message = seeds[fastrand::usize(..seeds.len())].clone();
        for _ in 0..fastrand::usize(..4) {
            let place = fastrand::usize(..message.len());
            message[place] = if fastrand::bool() { fastrand::u8(..) } else { fastrand::u8(..4) };
        }
        // The first byte says how many handles are forgotten: the second is the kind. "Nothing" isn't answered.
        if message[0] == 0 && message[1] == 0 {
            message[1] = 3;
        }
        if message[0] != 0 {
            message.insert(0, 0);
        }
        say(&sockets[0], &message);
    }
    assert_eq!(say(&sockets[0], &encode(Request::Attach { export: 0 })), 0);
    assert!(!insula_sys::process::wait_ended(&child.pidfd, Some(std::time::Duration::ZERO)).unwrap());
}

pub(crate) fn a_million_handles_are_too_many() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let how = Confinement { handles: 5000, ..Confinement::default() };
    let (starting, client) = insula_gofer::spawn(&[Export::new(dir.path())], &how).unwrap();
    let child = starting.ready().unwrap();
    let root = client.attach(0).unwrap().root;
    let mut kept = Vec::new();
    let refused = loop {
        let walked = root.walk(&[(b"file", None)]).unwrap();
        match walked.stopped {
            None => kept.extend(walked.reached),
            Some(errno) => break errno,
        }
    };
    assert_eq!((refused, kept.len()), (Errno::MFILE, 4999));
    let before = descriptors(&child);
    let memory = || fs::read_to_string(format!("/proc/{}/statm", child.pid.as_raw_pid())).unwrap();
    let pages = |text: String| text.split(' ').nth(1).unwrap().parse::<usize>().unwrap();
    let resident = pages(memory());
    for _ in 0..1_000_000 / 250 {
        // 250 steps a trip that all fail at the limit, or reach what can't be kept.
        let walked = root.walk(&[(&b"file"[..], None); 250]).unwrap();
        assert_eq!(walked.stopped, Some(Errno::MFILE));
    }
    for _ in 0..10_000 {
        assert_eq!(root.create(b"new", OpenFlags::WRONLY, 0o600, ROOT).map(drop).unwrap_err(), Errno::MFILE);
        fs::remove_file(dir.path().join("new")).unwrap();
        // Opening needs no handle.
        drop(root.open(OpenFlags::empty()).unwrap());
    }
    assert_eq!(descriptors(&child), before);
    assert!(pages(memory()) < resident + 64, "{resident} pages, then {}", memory());
    // What is given back can be had again.
    kept.clear();
    assert_eq!(root.walk(&[(b"file", None)]).unwrap().stopped, None);
}

pub(crate) fn who_reads_no_answers_blocks_nobody_else() {
    let (sockets, _dir, _child) = sockets();
    let message = encode(Request::Stat { node: Id(ROOT_OF_EXPORT) });
    // Until the gofer's thread, too, can't write any more.
    loop {
        match rustix::net::send(&sockets[0], &message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(_) => {}
            Err(Errno::AGAIN) => break,
            Err(errno) => panic!("{errno}"),
        }
    }
    for _ in 0..100 {
        assert_eq!(say(&sockets[1], &message), 0);
    }
    // And it is still there for who reads after all.
    for _ in 0..10 {
        assert_eq!(hear(&sockets[0]), 0);
    }
}
