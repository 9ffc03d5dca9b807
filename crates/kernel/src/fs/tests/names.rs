//! Names: making, moving and removing them, and the ways to them.

use super::Program;
use crate::Errno;
use insula_abi::Sysno;
use insula_abi::general as c;

#[test]
fn links_are_followed_but_not_for_ever() {
    let program = Program::new();
    program.mkdir("/a").expect("room");
    program.file("/a/file", b"x");
    program.both(Sysno::symlink, "a", "/link").expect("room");
    program.both(Sysno::symlink, "loop", "/loop").expect("room");
    assert_eq!(program.lstat("/link/file").map(|stat| stat.size), Ok(1));
    assert_eq!(program.lstat("/link").map(|stat| stat.mode & c::S_IFMT), Ok(c::S_IFLNK));
    assert_eq!(program.lstat("/link/").map(|stat| stat.mode & c::S_IFMT), Ok(c::S_IFDIR));
    assert_eq!(program.open("/link", c::O_NOFOLLOW), Err(Errno::ELOOP));
    assert_eq!(program.open("/loop", 0), Err(Errno::ELOOP));
    assert_eq!(program.open("/a/file/", 0), Err(Errno::ENOTDIR));
    assert_eq!(program.open("/a/file/x", 0), Err(Errno::ENOTDIR));
    assert_eq!(program.open("", 0), Err(Errno::ENOENT));
    // A dangling link is made good by O_CREAT, but not with O_EXCL.
    program.both(Sysno::symlink, "a/new", "/dangling").expect("room");
    assert_eq!(program.open("/dangling", c::O_CREAT | c::O_EXCL), Err(Errno::EEXIST));
    program.open("/dangling", c::O_CREAT).expect("made behind the link");
    assert_eq!(program.lstat("/a/new").map(|stat| stat.size), Ok(0));
}

#[test]
fn the_way_up_ends_at_the_root() {
    let program = Program::new();
    program.mkdir("/a").and_then(|_| program.mkdir("/a/b")).expect("room");
    program.at(Sysno::chdir, "/a/b").expect("it is there");
    assert_eq!(program.cwd().as_deref(), Ok(&b"/a/b"[..]));
    program.at(Sysno::chdir, "../../../../a/./b/..").expect("it is there");
    assert_eq!(program.cwd().as_deref(), Ok(&b"/a"[..]));
    program.at(Sysno::chroot, "/a").expect("it is there");
    assert_eq!(program.cwd().as_deref(), Ok(&b"/"[..]));
    assert_eq!(program.lstat("/../b/../..").map(|stat| stat.ino), program.lstat("/").map(|stat| stat.ino));
    assert_eq!(program.lstat("/a"), Err(Errno::ENOENT));
}

#[test]
fn a_directory_that_is_gone_stays_usable_but_gets_no_names() {
    let program = Program::new();
    program.mkdir("/a").expect("room");
    program.at(Sysno::chdir, "/a").expect("it is there");
    program.at(Sysno::rmdir, "/a").expect("it is empty");
    assert_eq!(program.cwd(), Err(Errno::ENOENT));
    assert_eq!(program.open("new", c::O_CREAT), Err(Errno::ENOENT));
    assert_eq!(program.mkdir("new"), Err(Errno::ENOENT));
    assert_eq!(program.lstat(".").map(|stat| stat.nlink), Ok(0));
    program.at(Sysno::chdir, "..").expect("the parent is still known");
    assert_eq!(program.cwd().as_deref(), Ok(&b"/"[..]));
}

#[test]
fn moving_keeps_what_is_known_right() {
    let program = Program::new();
    program.mkdir("/a").and_then(|_| program.mkdir("/b")).and_then(|_| program.mkdir("/a/d")).expect("room");
    let fd = program.file("/a/d/file", b"content");
    program.at(Sysno::chdir, "/a/d").expect("it is there");
    assert_eq!(program.lstat("/b/d"), Err(Errno::ENOENT), "now its absence is known");
    program.both(Sysno::rename, "/a/d", "/b/d").expect("nothing is there");
    assert_eq!(program.cwd().as_deref(), Ok(&b"/b/d"[..]));
    assert_eq!(program.lstat("/a/d"), Err(Errno::ENOENT));
    assert_eq!(program.lstat("/b/d/file").map(|stat| stat.ino), program.fstat(fd).map(|stat| stat.ino));
    assert_eq!(program.lstat("/a").map(|stat| stat.nlink), Ok(2));
    assert_eq!(program.lstat("/b").map(|stat| stat.nlink), Ok(3));
    assert_eq!(program.both(Sysno::rename, "/b", "/b/d/b"), Err(Errno::EINVAL));
    assert_eq!(program.both(Sysno::rename, "/b/d", "/b"), Err(Errno::ENOTEMPTY));
    assert_eq!(program.both(Sysno::rename, "/b/d/file", "/a"), Err(Errno::EISDIR));
    assert_eq!(program.both(Sysno::rename, "/a", "/b/d/file"), Err(Errno::ENOTDIR));
    assert_eq!(program.both(Sysno::rename, "/b/d/file/", "/x"), Err(Errno::ENOTDIR));
    assert_eq!(program.both(Sysno::rename, "/b/d/.", "/x"), Err(Errno::EBUSY));
}

#[test]
fn names_are_counted() {
    let program = Program::new();
    let fd = program.file("/one", b"x");
    program.both(Sysno::link, "/one", "/two").expect("room");
    assert_eq!(program.fstat(fd).map(|stat| stat.nlink), Ok(2));
    // Two names of one file: rename does nothing.
    program.both(Sysno::rename, "/one", "/two").expect("nothing happens");
    assert_eq!(program.fstat(fd).map(|stat| stat.nlink), Ok(2));
    program.at(Sysno::unlink, "/one").expect("it is there");
    program.at(Sysno::unlink, "/two").expect("it is there");
    assert_eq!(program.fstat(fd).map(|stat| stat.nlink), Ok(0));
    assert_eq!(program.content(fd, 0, 1).as_deref(), Ok(&b"x"[..]));
    assert_eq!(program.at(Sysno::unlink, "/"), Err(Errno::EISDIR));
    assert_eq!(program.at(Sysno::rmdir, "/"), Err(Errno::EBUSY));
    assert_eq!(program.at(Sysno::rmdir, "/."), Err(Errno::EINVAL));
}

#[test]
fn a_file_without_a_name_gets_one() {
    let program = Program::new();
    let fd = program.open("/", c::O_TMPFILE | c::O_RDWR).expect("room");
    program.write(fd, b"late").expect("room");
    let flags = u64::from(c::AT_EMPTY_PATH);
    assert_eq!(program.call(Sysno::linkat, &[fd, program.text(""), 0, program.text("/name"), flags]), Ok(0));
    assert_eq!(program.lstat("/name").map(|stat| (stat.size, stat.nlink)), Ok((4, 1)));
    let never = program.open("/", c::O_TMPFILE | c::O_RDWR | c::O_EXCL).expect("room");
    assert_eq!(program.call(Sysno::linkat, &[never, program.text(""), 0, program.text("/other"), flags]), Err(Errno::ENOENT));
}

#[test]
fn permissions_are_asked_at_each_step() {
    let program = Program::new();
    program.mkdir("/closed").expect("room");
    program.file("/closed/file", b"x");
    program.call(Sysno::mkdir, &[program.text("/sticky"), 0o1777]).expect("room");
    program.task.fs().lock().umask = 0;
    program.call(Sysno::mkdir, &[program.text("/open"), 0o1777]).expect("room");
    program.file("/open/roots", b"x");
    program.call(Sysno::mkdir, &[program.text("/secret"), 0o700]).expect("room");
    program.file("/secret/file", b"x");
    program.become_user(1000);
    assert_eq!(program.open("/closed/new", c::O_CREAT), Err(Errno::EACCES));
    assert_eq!(program.open("/closed/file", c::O_RDWR), Err(Errno::EACCES));
    program.open("/closed/file", 0).expect("anybody may read it");
    assert_eq!(program.open("/secret/file", 0), Err(Errno::EACCES));
    program.open("/open/mine", c::O_CREAT).expect("anybody may");
    assert_eq!(program.at(Sysno::unlink, "/open/roots"), Err(Errno::EPERM), "the directory is sticky");
    program.at(Sysno::unlink, "/open/mine").expect("it is one's own");
}
