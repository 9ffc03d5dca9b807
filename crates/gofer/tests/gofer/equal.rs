//! Long random sequences of requests, each of them also made by a call, on a second tree: same errors, same attributes, same trees.

use crate::support::{ROOT, serve};
use insula_gofer::{Attr, Change, Client, Device, Errno, Handle, NewOwner, OpenFlags, Time, Times};
use rustix::fd::OwnedFd;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::path::DecInt;

const NAMES: [&str; 4] = ["a", "b", "c", "long-name-of-a-file"];
const ROUNDS: usize = 8000;

/// A directory behind a gofer, and its twin that is reached by calls.
struct Dirs {
    gofer: Handle,
    host: OwnedFd,
}

/// Where both trees are.
struct Trees<'t> {
    root: &'t Handle,
    client: &'t Client,
    twin: &'t std::path::Path,
}

/// What can be compared of a file: type and permissions, links, owner and group, size (of directories the file system's business).
type Seen = (u32, u64, u32, u32, u64);

fn seen(attr: &Attr) -> Seen {
    let size = if attr.kind() == 0o040_000 { 0 } else { attr.size };
    (attr.mode, attr.links.into(), attr.uid, attr.gid, size)
}

fn seen_by_call(stat: &Stat) -> Seen {
    let size = if FileType::from_raw_mode(stat.st_mode).is_dir() { 0 } else { stat.st_size as u64 };
    (stat.st_mode, stat.st_nlink, stat.st_uid, stat.st_gid, size)
}

fn stat_at(dir: &OwnedFd, name: &str) -> Result<Seen, Errno> {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map(|stat| seen_by_call(&stat))
}

/// What a name stands for, by both ways, if it stands for the same kind of thing.
fn both(dirs: &Dirs, name: &str) -> Option<(Handle, OwnedFd)> {
    let walked = dirs.gofer.walk(&[(name.as_bytes(), None)]).unwrap();
    let place = rustix::fs::openat(&dirs.host, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    match (walked.stopped, &place) {
        (Some(errno), Err(other)) => assert_eq!(errno, *other),
        (None, Ok(_)) => assert_eq!(seen(&walked.reached[0].1), stat_at(&dirs.host, name).unwrap(), "{name}"),
        differ => panic!("{name}: {differ:?}"),
    }
    let handle = walked.reached.into_iter().next()?.0?;
    Some((handle, place.unwrap()))
}

/// A descriptor as a path that leads to the file itself.
fn own(place: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", DecInt::from_fd(place).as_ref().display())
}

/// One of a few values.
fn one_of<T: Copy>(values: &[T]) -> T {
    values[fastrand::usize(..values.len())]
}

pub(crate) fn any_sequence_of_requests_does_what_calls_do() {
    rustix::process::umask(Mode::empty());
    let seed = std::env::var("SEED").ok().map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    fastrand::seed(seed);
    let served = serve();
    let twin = tempfile::tempdir().unwrap();
    let trees = Trees { root: &served.root, client: &served.client, twin: twin.path() };
    let (mut done, mut failed) = (0, 0);
    for round in 0..ROUNDS {
        let Some(dirs) = at(&trees) else { continue };
        let (ours, theirs, what) = if fastrand::u8(..10) < 6 { names(&dirs, &trees) } else { files(&dirs) };
        assert_eq!(ours, theirs, "round {round}, {what}");
        if ours.is_ok() { done += 1 } else { failed += 1 }
    }
    assert!(done > ROUNDS / 10 && failed > ROUNDS / 10, "{done} {failed}");
    assert_eq!(listing(served.path()), listing(twin.path()));
}

/// Everything below a directory.
fn listing(dir: &std::path::Path) -> Vec<(String, Seen)> {
    let mut all = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let stat = rustix::fs::lstat(&path).unwrap();
            all.push((path.strip_prefix(dir).unwrap().display().to_string(), seen_by_call(&stat)));
            if FileType::from_raw_mode(stat.st_mode).is_dir() {
                left.push(path);
            }
        }
    }
    all.sort();
    all
}

/// A directory at most two levels deep, in both trees.
fn at(trees: &Trees) -> Option<Dirs> {
    let path: Vec<&str> = (0..fastrand::usize(..3)).map(|_| one_of(&NAMES)).collect();
    let steps: Vec<_> = path.iter().map(|name| (name.as_bytes(), None)).collect();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = trees.twin.join(path.join("/"));
    let host = rustix::fs::openat2(CWD, &place, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS);
    // With no step, the root once more, as a handle of its own.
    let (gofer, attr) = match steps.as_slice() {
        [] => return Some(Dirs { gofer: trees.client.attach(0).unwrap().root, host: host.unwrap() }),
        steps => {
            let mut walked = trees.root.walk(steps).unwrap();
            let last = walked.stopped.is_none().then(|| walked.reached.pop()).flatten();
            match last {
                Some((handle, attr)) => (handle.unwrap(), attr),
                None => {
                    assert!(host.is_err(), "{path:?}");
                    return None;
                }
            }
        }
    };
    assert_eq!(attr.kind() == 0o040_000, host.is_ok(), "{path:?}");
    Some(Dirs { gofer, host: host.ok()? })
}

type Compared = (Result<(), Errno>, Result<(), Errno>, String);

/// A request about names.
fn names(dirs: &Dirs, trees: &Trees) -> Compared {
    let (name, kind) = (one_of(&NAMES), fastrand::u8(..8));
    let mode = one_of(&[0o644, 0o755, 0o4711, 0o1777, 0]);
    let (bytes, host, permissions) = (name.as_bytes(), &dirs.host, Mode::from_raw_mode(mode));
    let what = format!("{kind} on {name}, {mode:o}");
    let compare = |attr: Attr| assert_eq!(seen(&attr), stat_at(host, name).unwrap(), "{what}");
    let (ours, theirs) = match kind {
        0 => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let theirs = rustix::fs::openat(host, name, flags, permissions);
            let ours = dirs.gofer.create(bytes, OpenFlags::WRONLY, mode, ROOT);
            if let (Ok((_, attr, file)), Ok(other)) = (&ours, &theirs) {
                compare(*attr);
                let text = &b"some text"[..fastrand::usize(..9)];
                assert_eq!(rustix::io::write(file, text), rustix::io::write(other, text));
            }
            (ours.map(drop), theirs.map(drop))
        }
        1 => {
            let theirs = rustix::fs::mkdirat(host, name, permissions);
            (dirs.gofer.make_dir(bytes, mode, ROOT).map(|(_, attr)| compare(attr)), theirs)
        }
        2 => {
            let kind = one_of(&[FileType::Fifo, FileType::Socket, FileType::RegularFile]);
            let theirs = rustix::fs::mknodat(host, name, kind, permissions, 0);
            let ours = dirs.gofer.make_node(bytes, kind.as_raw_mode() | mode, Device { major: 0, minor: 0 }, ROOT);
            (ours.map(|(_, attr)| compare(attr)), theirs)
        }
        3 => {
            let target = one_of(&["a", "..", "/", "b/c", "../../../etc"]);
            let theirs = rustix::fs::symlinkat(target, host, name);
            (dirs.gofer.make_link(bytes, target.as_bytes(), ROOT).map(|(_, attr)| compare(attr)), theirs)
        }
        4 => {
            let Some((file, place)) = both(dirs, one_of(&NAMES)) else { return (Ok(()), Ok(()), what) };
            let Some(to) = at(trees) else { return (Ok(()), Ok(()), what) };
            let theirs = rustix::fs::linkat(CWD, own(&place), &to.host, name, AtFlags::SYMLINK_FOLLOW);
            (to.gofer.link(bytes, &file).map(|attr| assert_eq!(seen(&attr), stat_at(&to.host, name).unwrap())), theirs)
        }
        5 => (dirs.gofer.unlink(bytes), rustix::fs::unlinkat(host, name, AtFlags::empty())),
        6 => (dirs.gofer.remove_dir(bytes), rustix::fs::unlinkat(host, name, AtFlags::REMOVEDIR)),
        _ => {
            let Some(to) = at(trees) else { return (Ok(()), Ok(()), what) };
            let (new, flags) = (one_of(&NAMES), one_of(&[0, 0, 1, 2, 3]));
            let theirs = rustix::fs::renameat_with(host, name, &to.host, new, RenameFlags::from_bits_retain(flags));
            (dirs.gofer.rename(bytes, &to.gofer, new.as_bytes(), flags), theirs)
        }
    };
    (ours, theirs, what)
}

/// A request about a file.
fn files(dirs: &Dirs) -> Compared {
    let (name, kind) = (one_of(&NAMES), fastrand::u8(..8));
    let what = format!("file request {kind} on {name}");
    let Some((file, place)) = both(dirs, name) else { return (Ok(()), Ok(()), what) };
    let path = own(&place);
    let is_link = file.stat().unwrap().kind() == 0o120_000;
    let change = |change: Change| {
        let attr = file.change(&change)?;
        Ok(move || attr)
    };
    let (ours, theirs) = match kind {
        0 if !is_link => {
            let mode = one_of(&[0o600, 0o2755, 0o6777]);
            let theirs = rustix::fs::chmod(&path, Mode::from_raw_mode(mode));
            (change(Change { mode: Some(mode), ..Change::default() }), theirs)
        }
        1 => {
            let (uid, gid) = (one_of(&[None, Some(1000)]), one_of(&[None, Some(5)]));
            let ids = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
            let theirs = rustix::fs::chownat(&place, "", ids.0, ids.1, AtFlags::EMPTY_PATH);
            (change(Change { owner: Some(NewOwner { uid, gid }), ..Change::default() }), theirs)
        }
        2 if !is_link => {
            let kind = FileType::from_raw_mode(file.stat().unwrap().mode);
            let size = one_of(&[0, 5, 70_000, 1 << 63]);
            // Without opening, as a pipe would wait.
            let theirs = match kind {
                FileType::RegularFile => rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
                    .and_then(|file| rustix::fs::ftruncate(file, size)),
                FileType::Directory => Err(Errno::ISDIR),
                _ => Err(Errno::INVAL),
            };
            (change(Change { size: Some(size), ..Change::default() }), theirs)
        }
        3 => {
            let nanoseconds = one_of(&[0, 999_999_999, 1_000_000_000, 0x3fff_fffe]);
            let (time, spec) = (Time { seconds: 77, nanoseconds }, Timespec { tv_sec: 77, tv_nsec: nanoseconds.into() });
            let theirs = Timestamps { last_access: spec, last_modification: spec };
            let theirs = rustix::fs::utimensat(&place, "", &theirs, AtFlags::EMPTY_PATH);
            (change(Change { times: Some(Times { accessed: time, modified: time }), ..Change::default() }), theirs)
        }
        4 => {
            let (value, flags) = (one_of(&[&b"1"[..], b"", b"another"]), one_of(&[0, 1, 2]));
            let theirs = rustix::fs::setxattr(&path, "user.k", value, XattrFlags::from_bits_retain(flags));
            return (file.set_xattr(b"user.k", value, flags), theirs, what);
        }
        5 => {
            let mut value = [0; 64];
            let theirs = rustix::fs::getxattr(&path, "user.k", &mut value[..]).map(|length| value[..length].to_vec());
            let ours = file.get_xattr(b"user.k");
            assert_eq!(ours, theirs, "{what}");
            let theirs = rustix::fs::listxattr(&path, &mut value[..]).map(|length| value[..length].to_vec());
            return (file.list_xattrs().map(|list| assert_eq!(Ok(list), theirs)), theirs.clone().map(drop), what);
        }
        6 => return (file.remove_xattr(b"user.k"), rustix::fs::removexattr(&path, "user.k"), what),
        _ => {
            let theirs = rustix::fs::readlinkat(&place, "", Vec::new()).map(std::ffi::CString::into_bytes);
            // Asked of what is no link, the call with an empty path says ENOENT, where one with a name says EINVAL.
            let theirs = theirs.map_err(|_| Errno::INVAL);
            let ours = file.read_link();
            assert_eq!(ours, theirs, "{what}");
            return (ours.map(drop), theirs.map(drop), what);
        }
    };
    let compare = |attr: Attr| assert_eq!(seen(&attr), stat_at(&dirs.host, name).unwrap(), "{what}");
    (ours.map(|attr| compare(attr())), theirs, what)
}
