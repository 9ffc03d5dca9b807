//! Each request, and what the host's file system says of it.

use crate::support::{ROOT, Served, go, mount, serve, serve_as, start};
use insula_gofer::{Attr, Change, Errno, Export, Handle, OpenFlags, Owner, Time, Times};
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;

/// What the host says must be what the gofer said.
fn assert_same(attr: &Attr, path: &Path) {
    let meta = fs::symlink_metadata(path).unwrap();
    let device = rustix::fs::makedev(attr.device.major, attr.device.minor);
    let special = rustix::fs::makedev(attr.special.major, attr.special.minor);
    assert_eq!((device, attr.inode, attr.mode), (meta.dev(), meta.ino(), meta.mode()));
    assert_eq!((u64::from(attr.links), attr.uid, attr.gid, special), (meta.nlink(), meta.uid(), meta.gid(), meta.rdev()));
    assert_eq!((attr.size, attr.blocks, u64::from(attr.block_size)), (meta.size(), meta.blocks(), meta.blksize()));
    let time = |time: Time| (time.seconds, i64::from(time.nanoseconds));
    assert_eq!(time(attr.accessed), (meta.atime(), meta.atime_nsec()));
    assert_eq!(time(attr.modified), (meta.mtime(), meta.mtime_nsec()));
    assert_eq!(time(attr.changed), (meta.ctime(), meta.ctime_nsec()));
    if let Ok(born) = meta.created() {
        let born = born.duration_since(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(time(attr.born), (born.as_secs() as i64, i64::from(born.subsec_nanos())));
    }
}

fn tree(dir: &Path) {
    fs::create_dir_all(dir.join("a/b")).unwrap();
    fs::write(dir.join("a/b/file"), "contents").unwrap();
    symlink("b", dir.join("a/link")).unwrap();
}

pub(crate) fn a_walk_reaches_what_is_there() {
    let served = serve_as(tree, |_| {});
    let walked = served.root.walk(&[(b"a", None), (b"b", None), (b"file", None)]).unwrap();
    assert_eq!(walked.stopped, None);
    for ((handle, attr), path) in walked.reached.iter().zip(["a", "a/b", "a/b/file"]) {
        assert_same(attr, &served.path().join(path));
        assert_eq!(handle.as_ref().unwrap().stat().unwrap(), *attr);
    }
    assert_eq!(walked.reached.len(), 3);
    // Hundreds of steps, and none.
    let deep = served.root.walk(&[(&b"a"[..], None); 255]).unwrap();
    assert_eq!((deep.reached.len(), deep.stopped), (1, Some(Errno::NOENT)));
    assert_eq!(served.root.walk(&[(&b"a"[..], None); 256]).unwrap_err(), Errno::TOOBIG);
    assert!(served.root.walk(&[]).unwrap().reached.is_empty());
}

pub(crate) fn a_walk_says_where_it_stopped() {
    let served = serve_as(tree, |_| {});
    let walk = |names: &[&str]| {
        let steps: Vec<_> = names.iter().map(|name| (name.as_bytes(), None)).collect();
        let walked = served.root.walk(&steps).unwrap();
        (walked.reached.len(), walked.stopped)
    };
    assert_eq!(walk(&["a", "none", "x"]), (1, Some(Errno::NOENT)));
    assert_eq!(walk(&["a", "b", "file", "x"]), (3, Some(Errno::NOTDIR)));
    // A link is reached, and is no directory.
    assert_eq!(walk(&["a", "link"]), (2, None));
    assert_eq!(walk(&["a", "link", "file"]), (2, Some(Errno::NOTDIR)));
    assert_eq!(go(&served.root, &["a", "link"]).read_link().unwrap(), b"b");
}

pub(crate) fn a_walk_checks_what_is_known() {
    let served = serve_as(tree, |_| {});
    let (a, b) = (go(&served.root, &["a"]), go(&served.root, &["a", "b"]));
    let file = go(&b, &["file"]);
    let again = |served: &Served| {
        let steps = [(&b"a"[..], Some(&a)), (&b"b"[..], Some(&b)), (&b"file"[..], Some(&file))];
        let walked = served.root.walk(&steps).unwrap();
        (walked.reached.iter().map(|(new, _)| new.is_some()).collect::<Vec<_>>(), walked.stopped)
    };
    assert_eq!(again(&served), (vec![false; 3], None));
    // Another file of the same name; then another directory, with the same file in it.
    let path = served.path().join("a/b");
    fs::write(path.join("new"), "other").unwrap();
    fs::rename(path.join("new"), path.join("file")).unwrap();
    assert_eq!(again(&served), (vec![false, false, true], None));
    fs::rename(&path, served.path().join("a/old")).unwrap();
    assert_eq!(again(&served), (vec![false], Some(Errno::NOENT)));
    fs::create_dir(&path).unwrap();
    fs::hard_link(served.path().join("a/old/file"), path.join("file")).unwrap();
    assert_eq!(again(&served), (vec![false, true, true], None));
    // What is known there is known wherever it is.
    let now = served.root.walk(&[(b"a", Some(&a)), (b"old", Some(&b))]).unwrap();
    assert!(now.reached.iter().all(|(new, _)| new.is_none()) && now.stopped.is_none());
    assert_same(&now.reached[1].1, &served.path().join("a/old"));
}

pub(crate) fn a_walk_can_open() {
    let served = serve_as(tree, |_| {});
    let steps: [(&[u8], Option<&Handle>); 3] = [(b"a", None), (b"b", None), (b"file", None)];
    let (walked, opened) = served.root.walk_open(&steps, OpenFlags::empty()).unwrap();
    let mut text = String::new();
    File::from(opened.unwrap().unwrap()).read_to_string(&mut text).unwrap();
    assert_eq!((walked.reached.len(), text.as_str()), (3, "contents"));
    // What can't be opened is reached all the same; what isn't reached isn't opened.
    let (walked, opened) = served.root.walk_open(&[(b"a", None), (b"link", None)], OpenFlags::empty()).unwrap();
    assert_eq!((walked.reached.len(), walked.stopped, opened.unwrap_err()), (2, None, Errno::LOOP));
    let (walked, opened) = served.root.walk_open(&[(b"a", None)], OpenFlags::RDWR).unwrap();
    assert_eq!((walked.reached.len(), opened.unwrap_err()), (1, Errno::ISDIR));
    let (walked, opened) = served.root.walk_open(&[(b"none", None)], OpenFlags::empty()).unwrap();
    assert_eq!(walked.stopped, Some(Errno::NOENT));
    assert!(opened.unwrap().is_none());
    assert_eq!(served.root.walk_open(&steps, OpenFlags::RDWR | OpenFlags::TRUNC).unwrap_err(), Errno::INVAL);
    assert_eq!(fs::read(served.path().join("a/b/file")).unwrap(), b"contents");
}

pub(crate) fn data_moves_through_the_descriptor() {
    let served = serve_as(tree, |_| {});
    let path = served.path().join("a/b/file");
    let file = go(&served.root, &["a", "b", "file"]);
    let open = |flags| file.open(flags).map(File::from);
    open(OpenFlags::WRONLY | OpenFlags::APPEND).unwrap().write_all(b"+").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"contents+");
    let mut both = open(OpenFlags::RDWR).unwrap();
    both.write_all(b"C").unwrap();
    both.rewind().unwrap();
    let mut text = String::new();
    both.read_to_string(&mut text).unwrap();
    assert_eq!(text, "Contents+");
    assert!(open(OpenFlags::empty()).unwrap().write_at(b"x", 0).is_err());
    assert_eq!(open(OpenFlags::WRONLY | OpenFlags::TRUNC).unwrap().metadata().unwrap().len(), 0);
    assert_eq!(open(OpenFlags::DIRECTORY).unwrap_err(), Errno::NOTDIR);
    // Flags arrive as they were asked for, and no program that is started has the descriptor.
    let flags = OpenFlags::WRONLY | OpenFlags::APPEND | OpenFlags::NONBLOCK | OpenFlags::DSYNC | OpenFlags::NOATIME;
    let opened = file.open(flags).unwrap();
    let got = rustix::fs::fcntl_getfl(&opened).unwrap().bits();
    assert_eq!(got & flags.bits(), flags.bits());
    assert!(rustix::io::fcntl_getfd(&opened).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    // A directory is listed without asking.
    let dir = go(&served.root, &["a"]).open(OpenFlags::DIRECTORY).unwrap();
    let mut names: Vec<_> = rustix::fs::Dir::read_from(&dir).unwrap().map(|e| e.unwrap().file_name().to_owned()).collect();
    names.sort();
    assert_eq!(names, [c".", c"..", c"b", c"link"].map(ToOwned::to_owned));
}

pub(crate) fn files_are_made_in_their_owners_name() {
    let served = serve();
    // Nobody but root may write here: that its process may is what the sentry has decided.
    let private = served.root.make_dir(b"private", 0o700, ROOT).unwrap().0;
    let owners = [(1000, 1001), (0, 0), (1000, 0), (0, 1001), (65534, 65534), (4_000_000_000, 4_000_000_000)];
    for (uid, gid) in owners {
        let owner = Owner { uid, gid };
        let name = |kind: &str| format!("{kind}-{uid}-{gid}").into_bytes();
        let attrs = [
            private.create(&name("file"), OpenFlags::WRONLY, 0o4755, owner).unwrap().1,
            private.make_dir(&name("dir"), 0o1777, owner).unwrap().1,
            private.make_node(&name("pipe"), 0o010_640, insula_gofer::Device { major: 0, minor: 0 }, owner).unwrap().1,
            private.make_node(&name("socket"), 0o140_600, insula_gofer::Device { major: 0, minor: 0 }, owner).unwrap().1,
            private.make_link(&name("link"), b"anywhere", owner).unwrap().1,
            private.create_unnamed(OpenFlags::RDWR, 0o640, owner, false).unwrap().1,
        ];
        assert!(attrs.iter().all(|attr| (attr.uid, attr.gid) == (uid, gid)), "{attrs:?}");
        assert_eq!(attrs.map(|attr| attr.mode), [0o104_755, 0o041_777, 0o010_640, 0o140_600, 0o120_777, 0o100_640]);
        for (attr, kind) in attrs.iter().zip(["file", "dir", "pipe", "socket", "link"]) {
            assert_same(attr, &served.path().join("private").join(String::from_utf8(name(kind)).unwrap()));
        }
    }
    // The group of a directory that says so.
    let path = served.path().join("private");
    std::os::unix::fs::chown(&path, Some(7), Some(77)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o2700)).unwrap();
    let attr = private.make_dir(b"inherits", 0o755, Owner { uid: 5, gid: 6 }).unwrap().1;
    assert_eq!((attr.uid, attr.gid, attr.mode), (5, 77, 0o042_755));
    assert_eq!(private.make_dir(b"x", 0o755, Owner { uid: u32::MAX, gid: 0 }).unwrap_err(), Errno::INVAL);
}

pub(crate) fn a_file_without_a_name_can_get_one() {
    let served = serve();
    let (handle, attr, file) = served.root.create_unnamed(OpenFlags::RDWR, 0o600, ROOT, false).unwrap();
    assert_eq!(attr.links, 0);
    File::from(file).write_all(b"quiet").unwrap();
    assert_eq!(served.root.link(b"named", &handle).unwrap().links, 1);
    assert_eq!(fs::read(served.path().join("named")).unwrap(), b"quiet");
    let (handle, ..) = served.root.create_unnamed(OpenFlags::WRONLY, 0o600, ROOT, true).unwrap();
    assert_eq!(served.root.link(b"never", &handle).unwrap_err(), Errno::NOENT);
    assert_eq!(served.root.create_unnamed(OpenFlags::empty(), 0o600, ROOT, true).unwrap_err(), Errno::INVAL);
}

pub(crate) fn an_open_place_outlives_its_name() {
    let served = serve_as(tree, |_| {});
    let file = go(&served.root, &["a", "b", "file"]);
    fs::rename(served.path().join("a"), served.path().join("z")).unwrap();
    fs::write(served.path().join("a"), "not this").unwrap();
    let mut text = String::new();
    File::from(file.open(OpenFlags::empty()).unwrap()).read_to_string(&mut text).unwrap();
    assert_eq!(text, "contents");
    fs::remove_dir_all(served.path().join("z")).unwrap();
    assert_eq!(file.stat().unwrap().links, 0);
    assert_eq!(file.change(&Change { size: Some(3), mode: Some(0o600), ..Change::default() }).unwrap().size, 3);
    File::from(file.open(OpenFlags::empty()).unwrap()).read_exact(&mut [0; 3]).unwrap();
}

pub(crate) fn attributes_of_the_hosts_stay_hidden() {
    let served = serve_as(tree, |_| {});
    let path = served.path().join("a/b/file");
    for name in ["trusted.overlay.opaque", "user.mine"] {
        rustix::fs::setxattr(&path, name, b"1", rustix::fs::XattrFlags::empty()).unwrap();
    }
    let file = go(&served.root, &["a", "b", "file"]);
    assert_eq!(file.list_xattrs().unwrap(), b"user.mine\0");
    assert_eq!(file.get_xattr(b"user.mine").unwrap(), b"1");
    for (key, get, set) in [
        ("trusted.overlay.opaque", Errno::NODATA, Errno::PERM),
        ("security.selinux", Errno::NODATA, Errno::PERM),
        ("security.capability", Errno::NODATA, Errno::PERM),
        ("system.posix_acl_access", Errno::OPNOTSUPP, Errno::OPNOTSUPP),
        ("nonsense", Errno::OPNOTSUPP, Errno::OPNOTSUPP),
    ] {
        assert_eq!(file.get_xattr(key.as_bytes()).unwrap_err(), get, "{key}");
        assert_eq!(file.set_xattr(key.as_bytes(), b"x", 0).unwrap_err(), set, "{key}");
        assert_eq!(file.remove_xattr(key.as_bytes()).unwrap_err(), set, "{key}");
    }
    assert_eq!(file.get_xattr(b"").unwrap_err(), Errno::RANGE);
    assert_eq!(file.get_xattr(&[b'u'; 256]).unwrap_err(), Errno::RANGE);
    // What an export can allow: these are two capabilities, in the kernel's format.
    let capabilities = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let served = serve_as(tree, |export| export.file_capabilities = true);
    let file = go(&served.root, &["a", "b", "file"]);
    file.set_xattr(b"security.capability", &capabilities, 0).unwrap();
    assert_eq!(file.get_xattr(b"security.capability").unwrap(), capabilities);
    file.remove_xattr(b"security.capability").unwrap();
}

pub(crate) fn a_long_attribute_fits() {
    // A file system whose attributes aren't bound to a block.
    let mut mounted = None;
    let served = serve_as(
        |dir| {
            mounted = Some(mount(dir));
            tree(dir);
        },
        |_| {},
    );
    let file = go(&served.root, &["a", "b", "file"]);
    let value = vec![7; 65536];
    match file.set_xattr(b"user.long", &value, 0) {
        Ok(()) => assert_eq!(file.get_xattr(b"user.long").unwrap(), value),
        // Kernels before 6.6 have no such attributes there.
        Err(errno) => assert_eq!(errno, Errno::OPNOTSUPP),
    }
    assert_eq!(file.set_xattr(b"user.longer", &[7; 65537], 0).unwrap_err(), Errno::TOOBIG);
    // Before the directory that it lies on.
    drop(mounted);
}

pub(crate) fn a_file_systems_figures_are_the_hosts() {
    let served = serve_as(tree, |_| {});
    let ours = go(&served.root, &["a"]).stat_fs().unwrap();
    let (host, vfs) = (rustix::fs::statfs(served.path()).unwrap(), rustix::fs::statvfs(served.path()).unwrap());
    assert_eq!((ours.kind, ours.block_size, ours.blocks), (host.f_type as u64, host.f_bsize as u64, host.f_blocks));
    assert_eq!((ours.files, ours.name_most, ours.fragment_size), (host.f_files, host.f_namelen as u64, host.f_frsize as u64));
    assert_eq!(ours.id, vfs.f_fsid);
    assert!(ours.free <= ours.blocks && ours.available <= ours.free && ours.files_free <= ours.files);
}

pub(crate) fn a_single_file_is_an_export() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("one"), "one").unwrap();
    fs::write(dir.path().join("other"), "other").unwrap();
    let (client, _child) = start(&[Export::new(dir.path().join("one")), Export::new(dir.path().join("one")).read_only()]);
    let attached = client.attach(0).unwrap();
    assert_same(&attached.attr, &dir.path().join("one"));
    let mut file = File::from(attached.root.open(OpenFlags::RDWR).unwrap());
    file.write_all(b"two").unwrap();
    assert_eq!(fs::read(dir.path().join("one")).unwrap(), b"two");
    let walked = attached.root.walk(&[(b"other", None)]).unwrap();
    assert_eq!(walked.stopped, Some(Errno::NOTDIR));
    assert_eq!(client.attach(1).unwrap().root.open(OpenFlags::RDWR).unwrap_err(), Errno::ROFS);
}

pub(crate) fn what_is_mounted_below_is_seen_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("below");
    fs::create_dir(&below).unwrap();
    fs::write(below.join("underneath"), "").unwrap();
    let _mounted = mount(&below);
    fs::write(below.join("mounted"), "").unwrap();
    let (client, _child) = start(&[
        Export::new(dir.path()),
        Export { recursive: false, ..Export::new(dir.path()) },
        Export::new(dir.path()).read_only(),
    ]);
    let sees = |export, name: &str| {
        let root = client.attach(export).unwrap().root;
        root.walk(&[(b"below", None), (name.as_bytes(), None)]).unwrap().stopped.is_none()
    };
    assert_eq!((sees(0, "mounted"), sees(0, "underneath")), (true, false));
    assert_eq!((sees(1, "mounted"), sees(1, "underneath")), (false, true));
    // Read-only reaches what is mounted below, and nothing mounted later is seen.
    let read_only = go(&client.attach(2).unwrap().root, &["below"]);
    assert_eq!(read_only.make_dir(b"x", 0o755, ROOT).unwrap_err(), Errno::ROFS);
    let _later = mount(&below);
    assert!(sees(0, "mounted"));
}

pub(crate) fn exports_are_apart() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(one.path().join("file"), "").unwrap();
    let (client, _child) = start(&[Export::new(one.path()), Export { shared: true, ..Export::new(other.path()) }]);
    let (first, second) = (client.attach(0).unwrap(), client.attach(1).unwrap());
    assert_eq!((first.shared, second.shared), (false, true));
    assert_eq!(client.attach(2).unwrap_err(), Errno::NODEV);
    let file = go(&first.root, &["file"]);
    assert_eq!(second.root.link(b"file", &file).unwrap_err(), Errno::XDEV);
    assert_eq!(first.root.rename(b"file", &second.root, b"file", 0).unwrap_err(), Errno::XDEV);
    // Another gofer's handle means nothing here.
    let others = serve();
    assert_eq!(others.root.link(b"file", &file).unwrap_err(), Errno::XDEV);
    let times = Times { accessed: Time { seconds: 1, nanoseconds: 2 }, modified: Time { seconds: -3, nanoseconds: 4 } };
    let attr = file.change(&Change { times: Some(times), ..Change::default() }).unwrap();
    assert_eq!((attr.accessed, attr.modified), (times.accessed, times.modified));
}
