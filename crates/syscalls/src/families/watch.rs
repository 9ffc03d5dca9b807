//! Watching files (inotify), and extended attributes.

use super::descriptors::F_SETSIG;
use super::prelude::*;
use std::ffi::CString;

tests!("watch":
    inotify_of_a_directory, inotify_of_a_file, inotify_of_renames, inotify_of_removal, inotify_masks, inotify_oneshot_and_add,
    inotify_merges_the_same, inotify_reads_whole_events, inotify_arguments, inotify_waits, inotify_overflow_is_bounded,
    inotify_shows, directories_tell_by_a_signal, what_a_directory_tells, who_closes_a_directory_that_tells, fanotify_needs_rights, xattrs_are_kept, xattr_flags, xattr_sizes, xattr_lists, xattr_removal, xattr_names,
    xattrs_by_link_and_descriptor, xattr_namespaces, xattrs_of_special_files, xattr_permissions,
);

/// One event: watch, mask, cookie, name.
type Event = (c_int, u32, u32, String);

fn events(bytes: &[u8]) -> Vec<Event> {
    let mut rest = bytes;
    let mut list = Vec::new();
    while rest.len() >= 16 {
        let word = |index: usize| from_bytes::<u32>(&rest[index * 4..]).unwrap_or(0);
        let (watch, mask, cookie, length) = (word(0) as c_int, word(1), word(2), word(3) as usize);
        let name = rest[16..16 + length].split(|byte| *byte == 0).next().unwrap_or(&[]);
        list.push((watch, mask, cookie, String::from_utf8_lossy(name).into_owned()));
        rest = &rest[16 + length..];
    }
    list
}

/// All that there is to read now: masks and names.
fn seen(fd: usize) -> Vec<(u32, String)> {
    all(fd).into_iter().map(|event| (event.1, event.3)).collect()
}

fn all(fd: usize) -> Vec<Event> {
    let mut buffer = [0u8; 8192];
    match sys!(read(fd, &mut buffer, 8192)) {
        Ok(count) => events(&buffer[..count]),
        Err(_) => Vec::new(),
    }
}

fn watcher(path: &std::ffi::CStr, mask: u32) -> (usize, usize) {
    let fd = works!(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
    (fd, works!(inotify_add_watch(fd, path, mask)))
}

fn event(mask: u32, name: &str) -> (u32, String) {
    (mask, name.to_owned())
}

fn inotify_of_a_directory() {
    gives!(mkdir(c"d", 0o755) => 0);
    let (fd, _) = watcher(c"d", IN_ALL_EVENTS);
    let made = works!(openat(AT_FDCWD, c"d/file", O_RDWR | O_CREAT, 0o644));
    eq!(seen(fd), [event(IN_CREATE, "file"), event(IN_OPEN, "file")]);
    gives!(write(made, b"text", 4) => 4);
    gives!(pread64(made, &mut [0u8; 4], 4, 0) => 4);
    works!(close(made));
    eq!(seen(fd), [event(IN_MODIFY, "file"), event(IN_ACCESS, "file"), event(IN_CLOSE_WRITE, "file")]);
    works!(close(works!(openat(AT_FDCWD, c"d/file", O_RDONLY))));
    eq!(seen(fd), [event(IN_OPEN, "file"), event(IN_CLOSE_NOWRITE, "file")]);
    gives!(chmod(c"d/file", 0o600) => 0);
    gives!(truncate(c"d/file", 2) => 0);
    eq!(seen(fd), [event(IN_ATTRIB, "file"), event(IN_MODIFY, "file")]);
    // One time alone tells of reading, or of writing.
    let (some, omit) = (timespec { tv_sec: 1, tv_nsec: 0 }, timespec { tv_sec: 0, tv_nsec: UTIME_OMIT });
    for times in [[some, omit], [omit, some], [some, some]] {
        gives!(utimensat(AT_FDCWD, c"d/file", &times, 0) => 0);
    }
    eq!(seen(fd), [event(IN_ACCESS, "file"), event(IN_MODIFY, "file"), event(IN_ATTRIB, "file")]);
    works!(close(works!(openat(AT_FDCWD, c"d/file", O_WRONLY | O_TRUNC))));
    eq!(seen(fd), [event(IN_OPEN, "file"), event(IN_MODIFY, "file"), event(IN_CLOSE_WRITE, "file")]);
    gives!(mkdir(c"d/sub", 0o755) => 0);
    gives!(rmdir(c"d/sub") => 0);
    eq!(seen(fd), [event(IN_CREATE | IN_ISDIR, "sub"), event(IN_DELETE | IN_ISDIR, "sub")]);
    gives!(unlink(c"d/file") => 0);
    eq!(seen(fd), [event(IN_DELETE, "file")]);
    gives!(symlink(c"x", c"d/link") => 0);
    gives!(mknod(c"d/fifo", S_IFIFO | 0o600, 0) => 0);
    eq!(seen(fd), [event(IN_CREATE, "link"), event(IN_CREATE, "fifo")]);
}

fn inotify_of_a_file() {
    let file = file(c"file", b"text");
    let (fd, watch) = watcher(c"file", IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF);
    gives!(write(file, b"x", 1) => 1);
    // Of a watched file itself there is no name.
    eq!(all(fd), [(watch as c_int, IN_MODIFY, 0, String::new())]);
    gives!(link(c"file", c"other") => 0);
    gives!(unlink(c"other") => 0);
    eq!(seen(fd), [event(IN_ATTRIB, "")]);
    gives!(unlink(c"file") => 0);
    eq!(seen(fd), [event(IN_ATTRIB, "")]);
    // Gone only with the last descriptor.
    works!(close(file));
    eq!(seen(fd), [event(IN_DELETE_SELF, ""), event(IN_IGNORED, "")]);
    fails!(inotify_rm_watch(fd, watch) => EINVAL);
}

fn inotify_of_renames() {
    gives!(mkdir(c"a", 0o755) => 0);
    gives!(mkdir(c"b", 0o755) => 0);
    works!(close(file(c"a/file", b"")));
    let fd = works!(inotify_init1(IN_NONBLOCK));
    let (one, two) = (works!(inotify_add_watch(fd, c"a", IN_MOVE)), works!(inotify_add_watch(fd, c"b", IN_MOVE)));
    gives!(rename(c"a/file", c"b/new") => 0);
    let list = all(fd);
    eq!((list[0].0 as usize, list[0].1, list[0].3.as_str()), (one, IN_MOVED_FROM, "file"));
    eq!((list[1].0 as usize, list[1].1, list[1].3.as_str()), (two, IN_MOVED_TO, "new"));
    // The cookie says that they belong together.
    is!(list[0].2 != 0 && list[0].2 == list[1].2, "one cookie");
    let (fd, _) = watcher(c"a", IN_MOVE_SELF);
    gives!(rename(c"a", c"c") => 0);
    eq!(seen(fd), [event(IN_MOVE_SELF, "")]);
}

fn inotify_of_removal() {
    gives!(mkdir(c"d", 0o755) => 0);
    let (fd, watch) = watcher(c"d", IN_DELETE);
    gives!(inotify_rm_watch(fd, watch) => 0);
    eq!(seen(fd), [event(IN_IGNORED, "")]);
    fails!(inotify_rm_watch(fd, watch) => EINVAL);
    let (fd, _) = watcher(c"d", IN_DELETE_SELF);
    gives!(rmdir(c"d") => 0);
    eq!(seen(fd), [event(IN_DELETE_SELF, ""), event(IN_IGNORED, "")]);
}

fn inotify_masks() {
    gives!(mkdir(c"d", 0o755) => 0);
    works!(close(file(c"file", b"")));
    let fd = works!(inotify_init1(IN_NONBLOCK));
    let watch = works!(inotify_add_watch(fd, c"d", IN_CREATE));
    // The same file: the same watch, and a new mask.
    gives!(inotify_add_watch(fd, c"d", IN_DELETE) => watch);
    works!(close(file(c"d/one", b"")));
    eq!(seen(fd), []);
    gives!(unlink(c"d/one") => 0);
    eq!(seen(fd), [event(IN_DELETE, "one")]);
    fails!(inotify_add_watch(fd, c"file", IN_CREATE | IN_ONLYDIR) => ENOTDIR);
    gives!(symlink(c"d", c"link") => 0);
    gives!(inotify_add_watch(fd, c"link", IN_DELETE) => watch);
    is!(works!(inotify_add_watch(fd, c"link", IN_DELETE | IN_DONT_FOLLOW)) != watch, "a watch of the link itself");
}

fn inotify_oneshot_and_add() {
    gives!(mkdir(c"d", 0o755) => 0);
    let (fd, watch) = watcher(c"d", IN_CREATE | IN_ONESHOT);
    works!(close(file(c"d/one", b"")));
    works!(close(file(c"d/two", b"")));
    eq!(seen(fd), [event(IN_CREATE, "one"), event(IN_IGNORED, "")]);
    let (fd, again) = watcher(c"d", IN_CREATE);
    eq!(again, watch);
    gives!(inotify_add_watch(fd, c"d", IN_DELETE | IN_MASK_ADD) => again);
    works!(close(file(c"d/three", b"")));
    gives!(unlink(c"d/three") => 0);
    eq!(seen(fd), [event(IN_CREATE, "three"), event(IN_DELETE, "three")]);
    fails!(inotify_add_watch(fd, c"d", IN_DELETE | IN_MASK_CREATE) => EEXIST);
    fails!(inotify_add_watch(fd, c"d", IN_DELETE | IN_MASK_CREATE | IN_MASK_ADD) => EINVAL);
}

const IN_MASK_CREATE: u32 = 0x1000_0000;

fn inotify_merges_the_same() {
    let file = file(c"file", b"");
    let (fd, _) = watcher(c"file", IN_MODIFY | IN_ATTRIB);
    for _ in 0..5 {
        gives!(write(file, b"x", 1) => 1);
    }
    // Equal to the one before: told once.
    eq!(seen(fd), [event(IN_MODIFY, "")]);
    gives!(write(file, b"x", 1) => 1);
    gives!(fchmod(file, 0o600) => 0);
    gives!(write(file, b"x", 1) => 1);
    eq!(seen(fd), [event(IN_MODIFY, ""), event(IN_ATTRIB, ""), event(IN_MODIFY, "")]);
}

fn inotify_reads_whole_events() {
    gives!(mkdir(c"d", 0o755) => 0);
    let (fd, _) = watcher(c"d", IN_CREATE);
    works!(close(file(c"d/a", b"")));
    works!(close(file(c"d/b", b"")));
    let mut count = 0i32;
    gives!(ioctl(fd, FIONREAD, &mut count) => 0);
    // Names are padded to a multiple of the head's size.
    eq!(count, 64);
    let mut buffer = [0u8; 64];
    fails!(read(fd, &mut buffer, 31) => EINVAL);
    gives!(read(fd, &mut buffer, 63) => 32);
    eq!(events(&buffer[..32])[0].3, "a");
    fails!(read(fd, BAD, 64) => EFAULT);
    fails!(write(fd, &buffer, 1) => EBADF | EINVAL);
}

fn inotify_arguments() {
    fails!(inotify_init1(0x1) => EINVAL);
    let fd = works!(inotify_init());
    fails!(inotify_add_watch(fd, c"missing", IN_CREATE) => ENOENT);
    fails!(inotify_add_watch(fd, c".", 0) => EINVAL);
    fails!(inotify_add_watch(fd, BAD, IN_CREATE) => EFAULT);
    fails!(inotify_add_watch(-1, c".", IN_CREATE) => EBADF);
    fails!(inotify_add_watch(file(c"file", b""), c".", IN_CREATE) => EINVAL);
    fails!(inotify_rm_watch(fd, 99) => EINVAL);
    fails!(inotify_rm_watch(-1, 1) => EBADF);
    fails!(inotify_rm_watch(file(c"file", b""), 1) => EINVAL);
}

fn inotify_waits() {
    let fd = works!(inotify_init1(0));
    works!(inotify_add_watch(fd, c".", IN_CREATE));
    let mut list = [pollfd { fd: fd as c_int, events: POLLIN, revents: 0 }];
    gives!(poll(&mut list, 1, 0) => 0);
    let own = process::id();
    let child = child(|| {
        until_asleep(own);
        works!(close(file(c"made", b"")));
    });
    let mut buffer = [0u8; 64];
    gives!(read(fd, &mut buffer, 64) => 32);
    join(child);
    works!(close(file(c"again", b"")));
    gives!(poll(&mut list, 1, -1) => 1);
    gives!(read(fd, &mut buffer, 64) => 32);
    signal::tick(false);
    fails!(read(fd, &mut buffer, 64) => EINTR);
}

fn inotify_overflow_is_bounded() {
    let Ok(limit) = contents("/proc/sys/fs/inotify/max_queued_events").trim().parse::<usize>() else {
        skip!("no max_queued_events");
    };
    if limit > 20_000 {
        skip!("max_queued_events is {limit}: it would take too long");
    }
    let one = file(c"one", b"x");
    let two = file(c"two", b"x");
    let fd = works!(inotify_init1(IN_NONBLOCK));
    works!(inotify_add_watch(fd, c"one", IN_ACCESS));
    works!(inotify_add_watch(fd, c"two", IN_ACCESS));
    for _ in 0..=limit / 2 + 1 {
        let _ = sys!(pread64(one, &mut [0u8; 1], 1, 0));
        let _ = sys!(pread64(two, &mut [0u8; 1], 1, 0));
    }
    let (mut count, mut last) = (0, 0);
    loop {
        let list = all(fd);
        let Some(end) = list.last() else { break };
        (count, last) = (count + list.len(), end.1);
    }
    eq!((count, last), (limit + 1, IN_Q_OVERFLOW));
}

fn inotify_shows() {
    let (fd, watch) = watcher(c".", IN_CREATE);
    let mut stat: stat = zeroed();
    gives!(stat(c".", &mut stat) => 0);
    let info = contents(&format!("/proc/self/fdinfo/{fd}"));
    is!(info.contains(&format!("inotify wd:{watch:x} ino:{:x} ", stat.st_ino)), "its watches: {info}");
}

const POLL_MSG: c_int = 3;
const DN_ACCESS: u32 = 1;
const DN_MODIFY: u32 = 2;
const DN_CREATE: u32 = 4;
const DN_DELETE: u32 = 8;
const DN_RENAME: u32 = 16;
const DN_ATTRIB: u32 = 32;
const DN_MULTISHOT: u32 = 1 << 31;

/// A new directory that tells of these by `SIGUSR1`, as far as the kernel knows it (`CONFIG_DNOTIFY`).
fn telling(asked: u32) -> usize {
    gives!(mkdirat(AT_FDCWD, c"watched", 0o755) => 0);
    let fd = works!(openat(AT_FDCWD, c"watched", O_RDONLY | O_DIRECTORY));
    signal::on(SIGUSR1, SA_SIGINFO | SA_RESTART);
    gives!(fcntl(fd, F_SETSIG, SIGUSR1) => 0);
    if sys!(fcntl(fd, F_NOTIFY, asked)) == Err(Errno::EINVAL) {
        skip!("directories tell nothing (CONFIG_DNOTIFY)");
    }
    fd
}

fn make(path: &std::ffi::CStr) {
    let fd = works!(openat(AT_FDCWD, path, O_CREAT | O_RDWR, 0o644));
    gives!(close(fd) => 0);
}

fn directories_tell_by_a_signal() {
    let fd = telling(DN_CREATE);
    gives!(fcntl(fd, F_GETOWN) => process::id());
    make(c"watched/one");
    until(|| signal::count() == 1);
    let record = signal::records().remove(0);
    eq!((record.signal, record.code), (SIGUSR1, POLL_MSG));
    // It tells once, unless it was asked to go on.
    make(c"watched/two");
    gives!(fcntl(fd, F_NOTIFY, DN_DELETE | DN_MULTISHOT) => 0);
    for (count, path) in [(2, c"watched/one"), (3, c"watched/two")] {
        gives!(unlinkat(AT_FDCWD, path, 0) => 0);
        until(|| signal::count() == count);
    }
    // No signal of its own is SIGIO, without details.
    gives!(fcntl(fd, F_SETSIG, 0) => 0);
    signal::on(SIGIO, SA_SIGINFO | SA_RESTART);
    gives!(fcntl(fd, F_NOTIFY, DN_CREATE | DN_MULTISHOT) => 0);
    make(c"watched/three");
    until(|| signal::count() == 4);
    let record = signal::records().remove(3);
    eq!((record.signal, record.code), (SIGIO, SI_KERNEL));
    // Asked for nothing, it tells nothing more: what comes after it is all that is heard.
    gives!(fcntl(fd, F_NOTIFY, 0) => 0);
    make(c"watched/four");
    gives!(kill(process::id(), SIGUSR1) => 0);
    until(|| signal::count() >= 5);
    eq!(signal::caught()[4..], [SIGUSR1]);
}

fn what_a_directory_tells() {
    let fd = telling(DN_ACCESS | DN_MODIFY | DN_ATTRIB | DN_RENAME | DN_MULTISHOT);
    make(c"watched/file");
    let file = works!(openat(AT_FDCWD, c"watched/file", O_RDWR));
    let told = |count: usize| until(|| signal::count() >= count);
    eq!(signal::count(), 0);
    gives!(write(file, b"x", 1) => 1);
    told(1);
    gives!(pread64(file, &mut [0u8], 1, 0) => 1);
    told(2);
    gives!(fchmod(file, 0o600) => 0);
    told(3);
    signal::forget();
    gives!(renameat(AT_FDCWD, c"watched/file", AT_FDCWD, c"watched/other") => 0);
    told(1);
    gives!(fcntl(fd, F_NOTIFY, 0) => 0);
    fails!(fcntl(file, F_NOTIFY, DN_ACCESS) => ENOTDIR);
}

fn who_closes_a_directory_that_tells() {
    let fd = telling(DN_CREATE | DN_MULTISHOT);
    // The table of descriptors that asked must close it, not a copy.
    in_child(|| gives!(close(fd) => 0));
    make(c"watched/one");
    until(|| signal::count() == 1);
    let other = works!(dup(fd));
    gives!(close(fd) => 0);
    make(c"watched/two");
    gives!(kill(process::id(), SIGUSR1) => 0);
    until(|| signal::count() >= 2);
    eq!(signal::records().remove(1).code, SI_USER);
    gives!(close(other) => 0);
}

fn fanotify_needs_rights() {
    need_root();
    match sys!(fanotify_init(0, O_RDONLY)) {
        Err(Errno::ENOSYS) => skip!("no fanotify (CONFIG_FANOTIFY)"),
        Err(Errno::EPERM) => skip!("fanotify needs CAP_SYS_ADMIN"),
        other => {
            let fd = crate::check::must_work("fanotify_init", other);
            const ADD: c_int = 1;
            const OPEN: u64 = 0x20;
            works!(close(file(c"file", b"")));
            gives!(fanotify_mark(fd, ADD, OPEN, AT_FDCWD, c"file") => 0);
            works!(close(works!(openat(AT_FDCWD, c"file", O_RDONLY))));
            let mut bytes = [0u8; 256];
            let count = works!(read(fd, &mut bytes, 256));
            eq!((count, from_bytes::<u64>(&bytes[8..]), from_bytes::<i32>(&bytes[20..])), (24, Some(OPEN), Some(process::id())));
            fails!(fanotify_mark(fd, 0, OPEN, AT_FDCWD, c"file") => EINVAL);
            fails!(fanotify_mark(fd, ADD, OPEN, AT_FDCWD, c"missing") => ENOENT);
        }
    }
    fails!(fanotify_init(0x8000_0000u32, O_RDONLY) => EINVAL);
}

/// A file whose attributes can be set; else the test is skipped.
fn with_attributes() -> usize {
    let fd = file(c"file", b"");
    match sys!(setxattr(c"file", c"user.first", b"value", 5, 0)) {
        Err(Errno::EOPNOTSUPP) => skip!("the scratch directory's file system has no user attributes"),
        other => crate::check::must_give("setxattr", other, 0),
    }
    fd
}

fn xattrs_are_kept() {
    with_attributes();
    let mut value = [0u8; 16];
    gives!(getxattr(c"file", c"user.first", &mut value, 16) => 5);
    eq!(&value[..6], b"value\0");
    gives!(setxattr(c"file", c"user.first", b"other\0one", 9, 0) => 0);
    gives!(getxattr(c"file", c"user.first", &mut value, 16) => 9);
    eq!(&value[..9], b"other\0one");
    gives!(setxattr(c"file", c"user.empty", b"", 0, 0) => 0);
    gives!(getxattr(c"file", c"user.empty", &mut value, 16) => 0);
    fails!(getxattr(c"file", c"user.missing", &mut value, 16) => ENODATA);
    // They go with the file, not with the name.
    gives!(rename(c"file", c"renamed") => 0);
    gives!(getxattr(c"renamed", c"user.first", &mut value, 16) => 9);
}

fn xattr_flags() {
    with_attributes();
    fails!(setxattr(c"file", c"user.first", b"x", 1, XATTR_CREATE) => EEXIST);
    fails!(setxattr(c"file", c"user.second", b"x", 1, XATTR_REPLACE) => ENODATA);
    gives!(setxattr(c"file", c"user.second", b"x", 1, XATTR_CREATE) => 0);
    gives!(setxattr(c"file", c"user.second", b"y", 1, XATTR_REPLACE) => 0);
    fails!(setxattr(c"file", c"user.second", b"y", 1, 8) => EINVAL);
}

fn xattr_sizes() {
    with_attributes();
    // Asked with no room, the size is told.
    gives!(getxattr(c"file", c"user.first", 0, 0) => 5);
    fails!(getxattr(c"file", c"user.first", &mut [0u8; 4], 4) => ERANGE);
    fails!(getxattr(c"file", c"user.first", BAD, 16) => EFAULT);
    fails!(setxattr(c"file", c"user.big", BAD, 16, 0) => EFAULT);
    let large = vec![0u8; 65537];
    fails!(setxattr(c"file", c"user.big", &large[..], 65537, 0) => E2BIG);
}

fn xattr_lists() {
    let fd = with_attributes();
    gives!(setxattr(c"file", c"user.second", b"x", 1, 0) => 0);
    let mut names = [0u8; 256];
    let count = works!(listxattr(c"file", &mut names, 256));
    let list: Vec<&[u8]> = names[..count].split(|byte| *byte == 0).filter(|name| name.starts_with(b"user.")).collect();
    is!(list.contains(&&b"user.first"[..]) && list.contains(&&b"user.second"[..]) && list.len() == 2, "both names");
    gives!(listxattr(c"file", 0, 0) => count);
    gives!(flistxattr(fd, &mut names, 256) => count);
    gives!(llistxattr(c"file", &mut names, 256) => count);
    fails!(listxattr(c"file", &mut names, 10) => ERANGE);
    fails!(listxattr(c"file", BAD, 256) => EFAULT);
    fails!(listxattr(c"missing", &mut names, 256) => ENOENT);
    fails!(flistxattr(-1, &mut names, 256) => EBADF);
}

fn xattr_removal() {
    let fd = with_attributes();
    gives!(removexattr(c"file", c"user.first") => 0);
    fails!(removexattr(c"file", c"user.first") => ENODATA);
    gives!(fsetxattr(fd, c"user.a", b"x", 1, 0) => 0);
    gives!(fremovexattr(fd, c"user.a") => 0);
    gives!(lsetxattr(c"file", c"user.b", b"x", 1, 0) => 0);
    gives!(lremovexattr(c"file", c"user.b") => 0);
    fails!(fremovexattr(-1, c"user.a") => EBADF);
    fails!(removexattr(c"missing", c"user.a") => ENOENT);
}

fn xattr_names() {
    with_attributes();
    let long = CString::new(format!("user.{}", "n".repeat(251))).unwrap_or_default();
    fails!(setxattr(c"file", &*long, b"x", 1, 0) => ERANGE);
    fails!(getxattr(c"file", &*long, &mut [0u8; 4], 4) => ERANGE);
    fails!(setxattr(c"file", c"", b"x", 1, 0) => ERANGE);
    fails!(setxattr(c"file", c"user.", b"x", 1, 0) => EINVAL);
    fails!(setxattr(c"file", c"nonsense.name", b"x", 1, 0) => EOPNOTSUPP);
    fails!(setxattr(c"file", c"plain", b"x", 1, 0) => EOPNOTSUPP);
    fails!(setxattr(c"file", BAD, b"x", 1, 0) => EFAULT);
    fails!(setxattr(BAD, c"user.x", b"x", 1, 0) => EFAULT);
}

fn xattrs_by_link_and_descriptor() {
    let fd = with_attributes();
    gives!(symlink(c"file", c"link") => 0);
    let mut value = [0u8; 16];
    gives!(getxattr(c"link", c"user.first", &mut value, 16) => 5);
    fails!(lgetxattr(c"link", c"user.first", &mut value, 16) => ENODATA | EPERM | EOPNOTSUPP);
    // A link has no user attributes: its permissions say nothing.
    fails!(lsetxattr(c"link", c"user.x", b"x", 1, 0) => EPERM);
    gives!(fgetxattr(fd, c"user.first", &mut value, 16) => 5);
    gives!(fsetxattr(fd, c"user.by-fd", b"1", 1, 0) => 0);
    gives!(lgetxattr(c"file", c"user.by-fd", &mut value, 16) => 1);
    let path = works!(openat(AT_FDCWD, c"file", O_PATH));
    fails!(fgetxattr(path, c"user.first", &mut value, 16) => EBADF);
    fails!(fgetxattr(-1, c"user.first", &mut value, 16) => EBADF);
    let reading = works!(openat(AT_FDCWD, c"file", O_RDONLY));
    gives!(fsetxattr(reading, c"user.more", b"1", 1, 0) => 0);
}

fn xattr_namespaces() {
    need_root();
    with_attributes();
    match sys!(setxattr(c"file", c"trusted.x", b"x", 1, 0)) {
        Err(Errno::EPERM | Errno::EOPNOTSUPP) => skip!("no trusted attributes here (they need CAP_SYS_ADMIN)"),
        other => crate::check::must_give("setxattr", other, 0),
    }
    let mut names = [0u8; 256];
    is!(works!(listxattr(c"file", &mut names, 256)) >= 21, "it to be listed for who may see it");
    in_child(|| {
        gives!(chmod(c"file", 0o666) => 0);
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(getxattr(c"file", c"trusted.x", &mut [0u8; 4], 4) => ENODATA);
        fails!(setxattr(c"file", c"trusted.x", b"x", 1, 0) => EPERM);
        let mut names = [0u8; 256];
        let count = works!(listxattr(c"file", &mut names, 256));
        is!(!names[..count].windows(7).any(|window| window == b"trusted"), "it to be hidden");
    });
}

fn xattrs_of_special_files() {
    with_attributes();
    gives!(mkdir(c"d", 0o755) => 0);
    gives!(setxattr(c"d", c"user.x", b"x", 1, 0) => 0);
    gives!(mknod(c"fifo", S_IFIFO | 0o644, 0) => 0);
    fails!(setxattr(c"fifo", c"user.x", b"x", 1, 0) => EPERM);
    fails!(getxattr(c"/proc/self/stat", c"user.x", &mut [0u8; 4], 4) => EOPNOTSUPP);
}

fn xattr_permissions() {
    need_root();
    with_attributes();
    in_child(|| {
        gives!(chmod(c"file", 0o644) => 0);
        gives!(setresuid(1000, 1000, 1000) => 0);
        gives!(getxattr(c"file", c"user.first", &mut [0u8; 16], 16) => 5);
        fails!(setxattr(c"file", c"user.first", b"x", 1, 0) => EACCES);
        fails!(removexattr(c"file", c"user.first") => EACCES);
    });
    gives!(chmod(c"file", 0) => 0);
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(getxattr(c"file", c"user.first", &mut [0u8; 16], 16) => EACCES);
    });
}
