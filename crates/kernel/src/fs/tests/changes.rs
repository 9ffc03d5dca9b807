//! Attributes, locks, mounts, and bytes that go from file to file.

use super::Program;
use crate::Errno;
use crate::testing::{bytes, memory};
use insula_abi::Sysno;
use insula_abi::file::Flock;
use insula_abi::general as c;
use insula_abi::zerocopy::IntoBytes;

fn lock(program: &Program, kind: u32, start: i64, len: i64) -> u64 {
    let flock = Flock { kind: kind as i16, whence: 0, start, len, ..Flock::default() };
    bytes(&program.task, flock.as_bytes())
}

#[test]
fn locks_of_a_process_go_with_any_descriptor_of_the_file() {
    let mut program = Program::new();
    let fd = program.file("/file", b"content");
    let other = program.open("/file", c::O_RDWR).expect("it is there");
    assert_eq!(program.call(Sysno::fcntl, &[fd, c::F_SETLK.into(), lock(&program, c::F_WRLCK, 0, 10)]), Ok(0));
    assert_eq!(program.call(Sysno::fcntl, &[other, c::F_SETLK.into(), lock(&program, c::F_WRLCK, 0, 0)]), Ok(0), "its own");
    let owner = program.task.clone();
    program.task = program.world.process();
    let second = program.open("/file", c::O_RDWR).expect("it is there");
    assert_eq!(program.call(Sysno::fcntl, &[second, c::F_SETLK.into(), lock(&program, c::F_RDLCK, 5, 1)]), Err(Errno::EAGAIN));
    let query = lock(&program, c::F_RDLCK, 5, 1);
    assert_eq!(program.call(Sysno::fcntl, &[second, c::F_GETLK.into(), query]), Ok(0));
    let found: Flock = program.task.mm().get(query).expect("mapped");
    assert_eq!((found.kind as u32, found.start, found.len, found.pid), (c::F_WRLCK, 0, 0, owner.process.pid));
    // One waits, until the owner closes the descriptor that it hadn't locked by.
    let arguments = [second, c::F_SETLKW.into(), lock(&program, c::F_RDLCK, 5, 1)];
    let mut waits = program.world.call(&program.task, Sysno::fcntl, &arguments);
    assert!(waits.sleeps());
    assert_eq!(program.world.now(&owner, Sysno::close, &[other]), Ok(0));
    assert_eq!(waits.woken(), Some(Ok(0)));
    // OFD locks of the one exclude POSIX locks of the other.
    let flock = Flock { kind: c::F_WRLCK as i16, ..Flock::default() };
    let wanted = bytes(&owner, flock.as_bytes());
    assert_eq!(program.world.now(&owner, Sysno::fcntl, &[fd, c::F_OFD_SETLK.into(), wanted]), Err(Errno::EAGAIN));
    assert_eq!(program.call(Sysno::close, &[second]), Ok(0));
    assert_eq!(program.world.now(&owner, Sysno::fcntl, &[fd, c::F_OFD_SETLK.into(), wanted]), Ok(0));
}

#[test]
fn flock_is_of_the_open_file() {
    let program = Program::new();
    let fd = program.file("/file", b"");
    let same = program.call(Sysno::dup, &[fd]).expect("room");
    let other = program.open("/file", c::O_RDONLY).expect("it is there");
    let exclusive = u64::from(c::LOCK_EX | c::LOCK_NB);
    assert_eq!(program.call(Sysno::flock, &[fd, exclusive]), Ok(0));
    assert_eq!(program.call(Sysno::flock, &[same, exclusive]), Ok(0));
    assert_eq!(program.call(Sysno::flock, &[other, exclusive]), Err(Errno::EAGAIN));
    assert_eq!(program.call(Sysno::close, &[fd]), Ok(0));
    assert_eq!(program.call(Sysno::flock, &[other, exclusive]), Err(Errno::EAGAIN));
    assert_eq!(program.call(Sysno::close, &[same]), Ok(0));
    assert_eq!(program.call(Sysno::flock, &[other, exclusive]), Ok(0));
}

#[test]
fn what_is_mounted_covers_and_uncovers() {
    let program = Program::new();
    program.mkdir("/m").expect("room");
    program.file("/m/below", b"");
    let tmpfs = program.text("tmpfs");
    let mount = |target: &str, flags: u32, data: &str| {
        program.call(Sysno::mount, &[tmpfs, program.text(target), tmpfs, flags.into(), program.text(data)])
    };
    assert_eq!(mount("/m", 0, "size=8k,bogus"), Err(Errno::EINVAL));
    mount("/m", 0, "size=8k").expect("mounted");
    assert_eq!(program.lstat("/m/below"), Err(Errno::ENOENT));
    let fd = program.file("/m/file", &[1; 8192]);
    assert_eq!(program.write(fd, b"x"), Err(Errno::ENOSPC));
    assert_eq!(program.both(Sysno::rename, "/m/file", "/file"), Err(Errno::EXDEV));
    assert_eq!(program.at(Sysno::rmdir, "/m"), Err(Errno::EBUSY));
    assert_eq!(program.call(Sysno::umount2, &[program.text("/m"), 0]), Err(Errno::EBUSY));
    program.call(Sysno::close, &[fd]).expect("it is open");
    // The way up leads out of the mount, and `..` at its root isn't the directory itself.
    assert_eq!(program.lstat("/m/..").map(|stat| stat.ino), program.lstat("/").map(|stat| stat.ino));
    // The same shown elsewhere, read-only.
    program.mkdir("/b").expect("room");
    let bind = u64::from(c::MS_BIND);
    assert_eq!(program.call(Sysno::mount, &[program.text("/m"), program.text("/b"), 0, bind, 0]), Ok(0));
    mount("/b", c::MS_REMOUNT | c::MS_BIND | c::MS_RDONLY, "").expect("it is a mount");
    assert_eq!(program.open("/b/file", c::O_RDWR), Err(Errno::EROFS));
    assert_eq!(program.open("/b/new", c::O_CREAT), Err(Errno::EROFS));
    program.open("/m/file", c::O_RDWR).and_then(|fd| program.call(Sysno::close, &[fd])).expect("only the other is read-only");
    assert_eq!(program.call(Sysno::umount2, &[program.text("/m"), 0]), Ok(0));
    assert_eq!(program.lstat("/m/below").map(|stat| stat.size), Ok(0));
    assert_eq!(program.lstat("/b/file").map(|stat| stat.size), Ok(8192));
}

#[test]
fn a_new_root_takes_the_old_ones_place() {
    let program = Program::new();
    program.mkdir("/new").expect("room");
    program.file("/old-file", b"");
    let tmpfs = program.text("tmpfs");
    program.call(Sysno::mount, &[tmpfs, program.text("/new"), tmpfs, 0, 0]).expect("mounted");
    program.mkdir("/new/old").expect("room");
    assert_eq!(program.both(Sysno::pivot_root, "/new", "/new/old"), Ok(0));
    assert_eq!(program.lstat("/old/old-file").map(|stat| stat.size), Ok(0));
    assert_eq!(program.cwd().as_deref(), Ok(&b"/"[..]));
    let detach = u64::from(c::MNT_DETACH);
    assert_eq!(program.call(Sysno::umount2, &[program.text("/old"), detach]), Ok(0));
    assert_eq!(program.lstat("/old/old-file"), Err(Errno::ENOENT));
}

#[test]
fn bytes_go_from_file_to_file() {
    let program = Program::new();
    let from = program.file("/from", b"0123456789");
    let to = program.file("/to", b"");
    let at = bytes(&program.task, &2u64.to_ne_bytes());
    assert_eq!(program.call(Sysno::sendfile, &[to, from, at, 4]), Ok(4));
    assert_eq!(program.task.mm().get::<u64>(at), Ok(6));
    assert_eq!(program.content(to, 0, 10).as_deref(), Ok(&b"2345"[..]));
    assert_eq!(program.call(Sysno::copy_file_range, &[from, at, to, 0, 100, 0]), Ok(4));
    assert_eq!(program.content(to, 0, 10).as_deref(), Ok(&b"23456789"[..]));
    let ends = memory(&program.task, 8);
    program.call(Sysno::pipe, &[ends]).expect("room");
    let [read, write]: [u32; 2] = program.task.mm().get(ends).expect("mapped");
    let zero = bytes(&program.task, &0u64.to_ne_bytes());
    assert_eq!(program.call(Sysno::splice, &[from, zero, write.into(), 0, 100, 0]), Ok(10));
    assert_eq!(program.call(Sysno::splice, &[read.into(), 0, to, 0, 100, 0]), Ok(10));
    assert_eq!(program.content(to, 8, 20).as_deref(), Ok(&b"0123456789"[..]));
    assert_eq!(program.call(Sysno::splice, &[from, 0, to, 0, 1, 0]), Err(Errno::EINVAL));
}

#[test]
fn owners_and_times_are_changed_by_who_may() {
    let program = Program::new();
    let fd = program.file("/file", b"x");
    assert_eq!(program.call(Sysno::fchmod, &[fd, 0o6755]), Ok(0));
    assert_eq!(program.call(Sysno::chown, &[program.text("/file"), 1000, 1000]), Ok(0));
    assert_eq!(program.lstat("/file").map(|stat| stat.mode & 0o7777), Ok(0o755), "set-ID bits are gone");
    let times = bytes(&program.task, [5i64, 6, 7, 0x3fff_fffe].as_bytes());
    assert_eq!(program.call(Sysno::utimensat, &[c::AT_FDCWD as u64, program.text("/file"), times, 0]), Ok(0));
    let stat = program.lstat("/file").expect("it is there");
    assert_eq!((stat.atime.sec, stat.atime.nsec), (5, 6));
    assert!(stat.mtime.sec > 1_000_000_000, "it was omitted");
    program.become_user(2000);
    assert_eq!(program.at(Sysno::chmod, "/file"), Err(Errno::EPERM));
    assert_eq!(program.call(Sysno::utime, &[program.text("/file"), 0]), Err(Errno::EACCES));
    assert_eq!(program.call(Sysno::truncate, &[program.text("/file"), 0]), Err(Errno::EACCES));
}

#[test]
fn attributes_of_ones_own_are_kept() {
    let program = Program::new();
    program.file("/file", b"");
    let (path, name, value) = (program.text("/file"), program.text("user.name"), bytes(&program.task, b"value"));
    assert_eq!(program.call(Sysno::getxattr, &[path, name, 0, 0]), Err(Errno::ENODATA));
    assert_eq!(program.call(Sysno::setxattr, &[path, name, value, 5, c::XATTR_REPLACE.into()]), Err(Errno::ENODATA));
    assert_eq!(program.call(Sysno::setxattr, &[path, name, value, 5, 0]), Ok(0));
    let to = memory(&program.task, 64);
    assert_eq!(program.call(Sysno::getxattr, &[path, name, to, 4]), Err(Errno::ERANGE));
    assert_eq!(program.call(Sysno::getxattr, &[path, name, to, 64]), Ok(5));
    assert_eq!(program.call(Sysno::listxattr, &[path, to, 64]), Ok(10));
    assert_eq!(program.call(Sysno::setxattr, &[path, program.text("bogus"), value, 5, 0]), Err(Errno::EOPNOTSUPP));
}

#[test]
fn a_file_has_no_more_than_the_process_may_write() {
    let program = Program::new();
    let fd = program.file("/file", b"");
    let limit = insula_abi::process::Rlimit { soft: 10, hard: 10 };
    program.task.process.limits.lock().set(c::RLIMIT_FSIZE, limit);
    assert_eq!(program.write(fd, b"0123456789ab"), Ok(10));
    assert_eq!(program.write(fd, b"x"), Err(Errno::EFBIG));
    assert_eq!(program.call(Sysno::ftruncate, &[fd, 11]), Err(Errno::EFBIG));
    assert_eq!(program.call(Sysno::ftruncate, &[fd, 3]), Ok(0));
}

#[test]
fn a_fifo_is_open_once_both_sides_are() {
    let program = Program::new();
    assert_eq!(program.call(Sysno::mknod, &[program.text("/fifo"), (c::S_IFIFO | 0o644).into(), 0]), Ok(0));
    let path = program.text("/fifo");
    assert_eq!(program.open("/fifo", c::O_WRONLY | c::O_NONBLOCK), Err(Errno::ENXIO));
    let mut reads = program.world.call(&program.task, Sysno::open, &[path, c::O_RDONLY.into(), 0]);
    assert!(reads.sleeps());
    let write = program.open("/fifo", c::O_WRONLY).expect("somebody reads");
    let read = reads.woken().expect("both sides are there").expect("open");
    program.write(write, b"through").expect("room");
    let to = memory(&program.task, 16);
    assert_eq!(program.call(Sysno::read, &[read, to, 16]), Ok(7));
    assert_eq!(program.lstat("/fifo").map(|stat| stat.mode & c::S_IFMT), Ok(c::S_IFIFO));
}
