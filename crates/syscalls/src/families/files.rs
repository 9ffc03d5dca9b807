//! Files: opening, reading, writing, vectors, seeking, truncation, allocation, devices.

use super::prelude::*;
use std::ffi::CString;

tests!("files":
    open_creates, open_flags_conflict, open_errors, open_follows_links, o_path_is_a_place, o_append, o_trunc, o_tmpfile,
    creat_and_open, reading_and_writing, bad_buffers_and_descriptors, vectors, preadv2_flags, seeking, seek_data_and_hole,
    seeking_what_has_no_place, truncation, allocation, punching, file_size_limit, an_unlinked_file_lives, sync_calls,
    fadvise_and_readahead, close_range_closes, fallocate_keeps_size, device_files,
);

pub(super) fn text_of(path: &str) -> String {
    contents(path)
}

fn open_creates() {
    let fd = works!(openat(AT_FDCWD, c"new", O_WRONLY | O_CREAT, 0o666));
    eq!(mode(c"new"), S_IFREG | 0o644);
    works!(close(fd));
    fails!(openat(AT_FDCWD, c"new", O_WRONLY | O_CREAT | O_EXCL, 0o666) => EEXIST);
    works!(openat(AT_FDCWD, c"new", O_WRONLY | O_CREAT, 0o777));
    eq!(mode(c"new"), S_IFREG | 0o644);
    // The mode counts from the next open on: this one may write.
    let fd = works!(openat(AT_FDCWD, c"readonly", O_RDWR | O_CREAT, 0o400));
    gives!(write(fd, b"x", 1) => 1);
    works!(openat(AT_FDCWD, c"set-id", O_WRONLY | O_CREAT, 0o7777));
    eq!(mode(c"set-id"), S_IFREG | 0o7755);
    // The lowest free number.
    let first = works!(openat(AT_FDCWD, c"new", O_RDONLY));
    let second = works!(openat(AT_FDCWD, c"new", O_RDONLY));
    works!(close(first));
    gives!(openat(AT_FDCWD, c"new", O_RDONLY) => first);
    works!(close(second));
    let fd = works!(openat(AT_FDCWD, c"new", O_RDONLY | O_CLOEXEC));
    gives!(fcntl(fd, F_GETFD) => FD_CLOEXEC);
}

pub(super) fn stat_of(path: &std::ffi::CStr) -> stat {
    let mut stat: stat = zeroed();
    gives!(newfstatat(AT_FDCWD, path, &mut stat, AT_SYMLINK_NOFOLLOW) => 0);
    stat
}

pub(super) fn mode(path: &std::ffi::CStr) -> u32 {
    stat_of(path).st_mode
}

fn open_flags_conflict() {
    works!(close(file(c"file", b"text")));
    gives!(mkdir(c"directory", 0o755) => 0);
    fails!(openat(AT_FDCWD, c"directory", O_RDWR) => EISDIR);
    fails!(openat(AT_FDCWD, c"directory", O_WRONLY) => EISDIR);
    fails!(openat(AT_FDCWD, c"directory", O_RDONLY | O_CREAT, 0o644) => EISDIR);
    fails!(openat(AT_FDCWD, c"directory", O_RDONLY | O_CREAT | O_DIRECTORY, 0o644) => EINVAL);
    fails!(openat(AT_FDCWD, c"directory", O_RDONLY | O_TRUNC) => EISDIR);
    fails!(openat(AT_FDCWD, c"file", O_RDONLY | O_DIRECTORY) => ENOTDIR);
    fails!(openat(AT_FDCWD, c"missing", O_RDONLY | O_DIRECTORY) => ENOENT);
    // Access mode 3 is none of the three: it needs both rights, and allows neither.
    let odd = works!(openat(AT_FDCWD, c"file", O_WRONLY | O_RDWR));
    let mut byte = [0u8];
    fails!(read(odd, &mut byte, 1) => EBADF);
    fails!(write(odd, &byte, 1) => EBADF);
    // open ignores flags that it doesn't know.
    works!(openat(AT_FDCWD, c"file", O_RDONLY | 0x1000_0000));
}

fn open_errors() {
    works!(close(file(c"file", b"text")));
    fails!(openat(AT_FDCWD, c"", O_RDONLY) => ENOENT);
    fails!(openat(AT_FDCWD, c"missing", O_RDONLY) => ENOENT);
    fails!(openat(AT_FDCWD, c"missing/file", O_RDWR | O_CREAT, 0o644) => ENOENT);
    fails!(openat(AT_FDCWD, c"file/below", O_RDONLY) => ENOTDIR);
    fails!(openat(AT_FDCWD, c"file/", O_RDONLY) => ENOTDIR);
    fails!(openat(AT_FDCWD, c"new/", O_WRONLY | O_CREAT, 0o644) => EISDIR);
    fails!(openat(AT_FDCWD, BAD, O_RDONLY) => EFAULT);
    fails!(openat(999, c"file", O_RDONLY) => EBADF);
    works!(openat(999, &*absolute("file"), O_RDONLY));
    let fd = works!(openat(AT_FDCWD, c"file", O_RDONLY));
    fails!(openat(fd, c"file", O_RDONLY) => ENOTDIR);
    fails!(close(999) => EBADF);
    fails!(close(-1) => EBADF);
    works!(close(fd));
    fails!(close(fd) => EBADF);
    in_child(|| {
        gives!(setrlimit(RLIMIT_NOFILE, &rlimit { rlim_cur: 20, rlim_max: 20 }) => 0);
        while sys!(openat(AT_FDCWD, c"file", O_RDONLY)).is_ok() {}
        fails!(openat(AT_FDCWD, c"file", O_RDONLY) => EMFILE);
        fails!(pipe2(&mut [0i32; 2], 0) => EMFILE);
        fails!(dup(0) => EMFILE);
        fails!(socket(AF_UNIX, SOCK_STREAM, 0) => EMFILE);
        fails!(eventfd2(0, 0) => EMFILE);
        works!(close(19));
        gives!(dup(0) => 19);
    });
}

pub(super) fn absolute(name: &str) -> CString {
    let path = std::env::current_dir().unwrap_or_default().join(name);
    CString::new(path.into_os_string().into_encoded_bytes()).unwrap_or_default()
}

fn open_follows_links() {
    works!(close(file(c"target", b"text")));
    gives!(symlink(c"target", c"link") => 0);
    gives!(symlink(c"nowhere", c"dangling") => 0);
    works!(openat(AT_FDCWD, c"link", O_RDONLY));
    fails!(openat(AT_FDCWD, c"link", O_RDONLY | O_NOFOLLOW) => ELOOP);
    fails!(openat(AT_FDCWD, c"dangling", O_RDONLY) => ENOENT);
    // A file is made where the link leads; O_EXCL doesn't follow.
    fails!(openat(AT_FDCWD, c"dangling", O_WRONLY | O_CREAT | O_EXCL, 0o644) => EEXIST);
    works!(openat(AT_FDCWD, c"dangling", O_WRONLY | O_CREAT, 0o644));
    eq!(mode(c"nowhere") & S_IFMT, S_IFREG);
    gives!(symlink(c"b", c"a") => 0);
    gives!(symlink(c"a", c"b") => 0);
    fails!(openat(AT_FDCWD, c"a", O_RDONLY) => ELOOP);
    fails!(openat(AT_FDCWD, c"a/x", O_RDONLY) => ELOOP);
    // Forty are followed, not more.
    gives!(symlink(c"target", c"l0") => 0);
    for number in 1..=40 {
        let (from, to) = (format!("l{number}"), format!("l{}", number - 1));
        gives!(symlink(&*CString::new(to).unwrap_or_default(), &*CString::new(from).unwrap_or_default()) => 0);
    }
    works!(openat(AT_FDCWD, c"l39", O_RDONLY));
    fails!(openat(AT_FDCWD, c"l40", O_RDONLY) => ELOOP);
}

fn o_path_is_a_place() {
    works!(close(file(c"file", b"text")));
    let fd = works!(openat(AT_FDCWD, c"file", O_PATH | O_CLOEXEC));
    let mut byte = [0u8];
    fails!(read(fd, &mut byte, 1) => EBADF);
    fails!(write(fd, &byte, 1) => EBADF);
    fails!(lseek(fd, 0, SEEK_SET) => EBADF);
    fails!(fchmod(fd, 0o600) => EBADF);
    fails!(ftruncate(fd, 0) => EBADF);
    fails!(ioctl(fd, FIONREAD, &mut [0i32; 1]) => EBADF);
    fails!(fsync(fd) => EBADF);
    fails!(getdents64(fd, &mut [0u8; 64], 64) => EBADF);
    gives!(fstat(fd, &mut zeroed::<stat>()) => 0);
    eq!(works!(fcntl(fd, F_GETFL)) as c_int & O_PATH, O_PATH);
    works!(dup(fd));
    gives!(symlink(c"file", c"link") => 0);
    let link = works!(openat(AT_FDCWD, c"link", O_PATH | O_NOFOLLOW));
    let mut stat: stat = zeroed();
    gives!(fstat(link, &mut stat) => 0);
    eq!(stat.st_mode & S_IFMT, S_IFLNK);
    let mut target = [0u8; 16];
    gives!(readlinkat(link, c"", &mut target, 16) => 4);
    gives!(mkdir(c"directory", 0o755) => 0);
    let directory = works!(openat(AT_FDCWD, c"directory", O_PATH));
    works!(openat(directory, c"made", O_WRONLY | O_CREAT, 0o644));
    gives!(fchdir(directory) => 0);
    works!(openat(AT_FDCWD, c"made", O_RDONLY));
    // Opened anew through /proc, it is a file.
    let again = works!(openat(AT_FDCWD, &*CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default(), O_RDONLY));
    gives!(read(again, &mut byte, 1) => 1);
}

fn o_append() {
    works!(close(file(c"file", b"0123456789")));
    let fd = works!(openat(AT_FDCWD, c"file", O_RDWR | O_APPEND));
    gives!(lseek(fd, 0, SEEK_CUR) => 0);
    gives!(write(fd, b"a", 1) => 1);
    gives!(lseek(fd, 0, SEEK_CUR) => 11);
    gives!(lseek(fd, 2, SEEK_SET) => 2);
    gives!(write(fd, b"b", 1) => 1);
    gives!(lseek(fd, 0, SEEK_CUR) => 12);
    // pwrite appends as well, whatever the offset (a known bug of Linux's, kept).
    gives!(pwrite64(fd, b"c", 1, 0) => 1);
    eq!(text_of("file"), "0123456789abc");
    let mut two = [0u8; 2];
    gives!(pread64(fd, &mut two, 2, 0) => 2);
    eq!(&two, b"01");
    // Two who append never overwrite one another.
    let other = works!(openat(AT_FDCWD, c"file", O_WRONLY | O_APPEND));
    gives!(write(fd, b"d", 1) => 1);
    gives!(write(other, b"e", 1) => 1);
    gives!(write(fd, b"f", 1) => 1);
    is!(text_of("file").ends_with("abcdef"), "all of them");
    // The flag can be set and taken away later.
    gives!(fcntl(fd, F_SETFL, 0) => 0);
    gives!(pwrite64(fd, b"X", 1, 0) => 1);
    is!(text_of("file").starts_with('X'), "a write at the start");
}

fn o_trunc() {
    works!(close(file(c"file", b"0123456789")));
    let fd = works!(openat(AT_FDCWD, c"file", O_RDONLY));
    works!(openat(AT_FDCWD, c"file", O_WRONLY | O_TRUNC));
    let mut byte = [0u8];
    gives!(read(fd, &mut byte, 1) => 0);
    works!(close(file(c"file", b"0123456789")));
    works!(openat(AT_FDCWD, c"file", O_RDONLY | O_TRUNC));
    eq!(stat_of(c"file").st_size, 0);
}

fn o_tmpfile() {
    let fd = match sys!(openat(AT_FDCWD, c".", O_TMPFILE | O_RDWR, 0o600)) {
        Err(Errno::EOPNOTSUPP) => skip!("the scratch directory's file system has no O_TMPFILE"),
        other => crate::check::must_work("openat with O_TMPFILE", other),
    };
    gives!(write(fd, b"text", 4) => 4);
    eq!(works!(fcntl(fd, F_GETFL)) as c_int & !0o100000, O_TMPFILE | O_RDWR);
    let mut stat: stat = zeroed();
    gives!(fstat(fd, &mut stat) => 0);
    eq!((stat.st_nlink, stat.st_mode), (0, S_IFREG | 0o600));
    eq!(std::fs::read_dir(".").map(Iterator::count).unwrap_or(9), 0);
    let path = CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    gives!(linkat(AT_FDCWD, &*path, AT_FDCWD, c"named", AT_SYMLINK_FOLLOW) => 0);
    eq!(text_of("named"), "text");
    let fd = works!(openat(AT_FDCWD, c".", O_TMPFILE | O_RDWR | O_EXCL, 0o600));
    let path = CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    fails!(linkat(AT_FDCWD, &*path, AT_FDCWD, c"other", AT_SYMLINK_FOLLOW) => ENOENT);
    fails!(openat(AT_FDCWD, c".", O_TMPFILE | O_RDONLY, 0o600) => EINVAL);
    fails!(openat(AT_FDCWD, c"named", O_TMPFILE | O_RDWR, 0o600) => ENOTDIR);
}

fn creat_and_open() {
    let fd = works!(creat(c"file", 0o640));
    gives!(write(fd, b"text", 4) => 4);
    fails!(read(fd, &mut [0u8; 1], 1) => EBADF);
    eq!(mode(c"file"), S_IFREG | 0o640);
    works!(creat(c"file", 0o777));
    eq!((stat_of(c"file").st_size, mode(c"file")), (0, S_IFREG | 0o640));
    works!(open(c"file", O_RDONLY));
    fails!(open(c"other", O_RDONLY) => ENOENT);
    fails!(creat(c".", 0o777) => EISDIR);
}

fn reading_and_writing() {
    let fd = file(c"file", b"hello world");
    let mut buffer = [b'-'; 16];
    gives!(read(fd, &mut buffer, 5) => 5);
    eq!(&buffer[..6], b"hello-");
    gives!(read(fd, &mut buffer, 16) => 6);
    gives!(read(fd, &mut buffer, 16) => 0);
    gives!(read(fd, &mut buffer, 0) => 0);
    gives!(pread64(fd, &mut buffer, 5, 6) => 5);
    eq!(&buffer[..5], b"world");
    gives!(pread64(fd, &mut buffer, 5, 100) => 0);
    gives!(lseek(fd, 0, SEEK_CUR) => 11);
    gives!(pwrite64(fd, b"W", 1, 6) => 1);
    gives!(write(fd, b"!", 1) => 1);
    eq!(text_of("file"), "hello World!");
    // A hole reads as zeros.
    gives!(pwrite64(fd, b"end", 3, 20) => 3);
    eq!(text_of("file"), "hello World!\0\0\0\0\0\0\0\0end");
    fails!(pread64(fd, &mut buffer, 1, -1i64) => EINVAL);
    fails!(pwrite64(fd, &buffer, 1, -1i64) => EINVAL);
    let reading = works!(openat(AT_FDCWD, c"file", O_RDONLY));
    fails!(write(reading, b"x", 1) => EBADF);
    fails!(pwrite64(reading, b"x", 1, 0) => EBADF);
    let directory = works!(openat(AT_FDCWD, c".", O_RDONLY));
    fails!(read(directory, &mut buffer, 1) => EISDIR);
    fails!(pread64(directory, &mut buffer, 1, 0) => EISDIR);
    fails!(write(directory, &buffer, 1) => EBADF);
}

fn bad_buffers_and_descriptors() {
    let fd = file(c"file", b"text");
    fails!(read(fd, BAD, 4) => EFAULT);
    gives!(lseek(fd, 0, SEEK_CUR) => 0);
    gives!(read(fd, BAD, 0) => 0);
    fails!(read(fd, BAD, usize::MAX) => EFAULT);
    fails!(write(fd, BAD, 4) => EFAULT);
    for bad in [-1, 999, i32::MAX, i32::MIN] {
        fails!(read(bad, BAD, 0) => EBADF);
        fails!(write(bad, BAD, 0) => EBADF);
        fails!(lseek(bad, 0, SEEK_SET) => EBADF);
        fails!(fstat(bad, BAD) => EBADF);
        fails!(ftruncate(bad, 0) => EBADF);
        fails!(fchmod(bad, 0) => EBADF);
        fails!(fsync(bad) => EBADF);
        fails!(fchdir(bad) => EBADF);
    }
    eq!(text_of("file"), "text");
}

fn vectors() {
    let fd = file(c"file", b"");
    let list = [piece_of(b"one "), piece_of(b""), piece_of(b"two "), piece_of(b"three")];
    gives!(writev(fd, list.as_ptr(), 4) => 13);
    gives!(pwritev(fd, list.as_ptr(), 1, 13, 0) => 4);
    gives!(lseek(fd, 0, SEEK_CUR) => 13);
    eq!(text_of("file"), "one two threeone ");
    let (mut first, mut second) = ([0u8; 6], [0u8; 20]);
    let list = [piece(&mut first), piece(&mut second)];
    gives!(preadv(fd, list.as_ptr(), 2, 0, 0) => 17);
    eq!((&first, &second[..11]), (b"one tw", &b"o threeone "[..]));
    gives!(lseek(fd, 4, SEEK_SET) => 4);
    gives!(readv(fd, list.as_ptr(), 2) => 13);
    eq!(&first, b"two th");
    gives!(readv(fd, list.as_ptr(), 0) => 0);
    fails!(readv(fd, list.as_ptr(), -1) => EINVAL);
    fails!(readv(fd, list.as_ptr(), 1025) => EINVAL);
    fails!(readv(fd, BAD, 1) => EFAULT);
    fails!(readv(-1, list.as_ptr(), 1) => EBADF);
    fails!(preadv(fd, list.as_ptr(), 1, -1i64, -1i64) => EINVAL);
    let negative = [piece_at(BAD, usize::MAX)];
    fails!(readv(fd, negative.as_ptr(), 1) => EINVAL);
    fails!(writev(fd, negative.as_ptr(), 1) => EINVAL);
    // Many pieces, as many as may be.
    let byte = piece_of(b"x");
    let many = [byte; 1024];
    gives!(pwritev(fd, many.as_ptr(), 1024, 0, 0) => 1024);
}

fn preadv2_flags() {
    let fd = file(c"file", b"0123456789");
    let mut buffer = [0u8; 4];
    let list = [piece(&mut buffer)];
    gives!(preadv2(fd, list.as_ptr(), 1, 2, 0, 0) => 4);
    eq!(&buffer, b"2345");
    gives!(lseek(fd, 1, SEEK_SET) => 1);
    // An offset of -1 is the file's own, and moves it.
    gives!(preadv2(fd, list.as_ptr(), 1, -1i64, -1i64, 0) => 4);
    eq!(&buffer, b"1234");
    gives!(lseek(fd, 0, SEEK_CUR) => 5);
    let more = [piece_of(b"more")];
    gives!(pwritev2(fd, more.as_ptr(), 1, 0, 0, 0x10 /* RWF_APPEND */) => 4);
    eq!(text_of("file"), "0123456789more");
    gives!(pwritev2(fd, more.as_ptr(), 1, 0, 0, 0x4 /* RWF_SYNC */) => 4);
    fails!(preadv2(fd, list.as_ptr(), 1, 0, 0, 0x4000_0000) => EOPNOTSUPP);
    let (reader, _writer) = pipe();
    fails!(preadv2(reader, list.as_ptr(), 1, 0, 0, 0) => ESPIPE);
    // Pipes know RWF_NOWAIT since Linux 6.4.
    fails!(preadv2(reader, list.as_ptr(), 1, -1i64, -1i64, 0x8 /* RWF_NOWAIT */) => EAGAIN | EOPNOTSUPP);
}

fn seeking() {
    let fd = file(c"file", b"0123456789");
    gives!(lseek(fd, 4, SEEK_SET) => 4);
    gives!(lseek(fd, 2, SEEK_CUR) => 6);
    gives!(lseek(fd, -1, SEEK_CUR) => 5);
    gives!(lseek(fd, -3, SEEK_END) => 7);
    gives!(lseek(fd, 10, SEEK_END) => 20);
    fails!(lseek(fd, -1, SEEK_SET) => EINVAL);
    fails!(lseek(fd, -21, SEEK_CUR) => EINVAL);
    fails!(lseek(fd, -11, SEEK_END) => EINVAL);
    fails!(lseek(fd, 0, 5) => EINVAL);
    fails!(lseek(fd, 0, -1) => EINVAL);
    fails!(lseek(fd, i64::MAX, SEEK_CUR) => EINVAL | EOVERFLOW);
    gives!(lseek(fd, 0, SEEK_CUR) => 20);
    gives!(read(fd, &mut [0u8; 1], 1) => 0);
    // Descriptors of one open file share the place; others don't.
    let same = works!(dup(fd));
    let other = works!(openat(AT_FDCWD, c"file", O_RDONLY));
    gives!(lseek(same, 3, SEEK_SET) => 3);
    gives!(lseek(fd, 0, SEEK_CUR) => 3);
    gives!(lseek(other, 0, SEEK_CUR) => 0);
    in_child(|| {
        works!(lseek(fd, 8, SEEK_SET));
    });
    gives!(lseek(fd, 0, SEEK_CUR) => 8);
}

fn seek_data_and_hole() {
    let fd = file(c"file", b"data");
    gives!(ftruncate(fd, 1 << 20) => 0);
    gives!(lseek(fd, 0, SEEK_DATA) => 0);
    let hole = works!(lseek(fd, 0, SEEK_HOLE));
    is!((4..=1 << 20).contains(&hole), "a hole after the data");
    gives!(lseek(fd, (1 << 20) - 1, SEEK_HOLE) => if hole == 1 << 20 { 1 << 20 } else { (1 << 20) - 1 });
    fails!(lseek(fd, 1 << 20, SEEK_HOLE) => ENXIO);
    fails!(lseek(fd, 1 << 20, SEEK_DATA) => ENXIO);
    fails!(lseek(fd, -1, SEEK_DATA) => ENXIO);
    let full = file(c"full", b"only data");
    gives!(lseek(full, 0, SEEK_HOLE) => 9);
    gives!(lseek(full, 5, SEEK_DATA) => 5);
}

fn seeking_what_has_no_place() {
    let (reader, writer) = pipe();
    for fd in [reader, writer, works!(socket(AF_UNIX, SOCK_STREAM, 0))] {
        fails!(lseek(fd, 0, SEEK_CUR) => ESPIPE);
        fails!(lseek(fd, 0, SEEK_SET) => ESPIPE);
        fails!(pread64(fd, &mut [0u8; 1], 1, 0) => ESPIPE);
        fails!(pwrite64(fd, &[0u8; 1], 1, 0) => ESPIPE);
    }
    let null = works!(openat(AT_FDCWD, c"/dev/null", O_RDWR));
    gives!(lseek(null, 100, SEEK_SET) => 0);
}

fn truncation() {
    let fd = file(c"file", b"0123456789");
    gives!(ftruncate(fd, 4) => 0);
    eq!(text_of("file"), "0123");
    gives!(truncate(c"file", 6) => 0);
    eq!(text_of("file"), "0123\0\0");
    fails!(ftruncate(fd, -1) => EINVAL);
    fails!(truncate(c"file", -1) => EINVAL);
    fails!(truncate(c"missing", 0) => ENOENT);
    fails!(truncate(c".", 0) => EISDIR);
    fails!(truncate(BAD, 0) => EFAULT);
    let reading = works!(openat(AT_FDCWD, c"file", O_RDONLY));
    fails!(ftruncate(reading, 0) => EINVAL);
    let (reader, writer) = pipe();
    fails!(ftruncate(writer, 0) => EINVAL);
    works!(close(reader));
    let directory = works!(openat(AT_FDCWD, c".", O_RDONLY));
    fails!(ftruncate(directory, 0) => EINVAL);
}

fn allocation() {
    let fd = file(c"file", b"data");
    match sys!(fallocate(fd, 0, 0, 100)) {
        Err(Errno::EOPNOTSUPP) => skip!("the scratch directory's file system has no fallocate"),
        other => crate::check::must_give("fallocate", other, 0),
    }
    eq!(stat_of(c"file").st_size, 100);
    gives!(fallocate(fd, 0, 0, 10) => 0);
    eq!(stat_of(c"file").st_size, 100);
    fails!(fallocate(fd, 0, 0, 0) => EINVAL);
    fails!(fallocate(fd, 0, -1, 10) => EINVAL);
    fails!(fallocate(fd, 0, 0, -1) => EINVAL);
    fails!(fallocate(fd, 0x8000, 0, 10) => EOPNOTSUPP);
    fails!(fallocate(fd, 0, i64::MAX, 10) => EFBIG);
    fails!(fallocate(-1, 0, 0, 10) => EBADF);
    let reading = works!(openat(AT_FDCWD, c"file", O_RDONLY));
    fails!(fallocate(reading, 0, 0, 10) => EBADF);
    let (_reader, writer) = pipe();
    fails!(fallocate(writer, 0, 0, 10) => ESPIPE);
}

fn fallocate_keeps_size() {
    let fd = file(c"file", b"data");
    if sys!(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 8192)) == Err(Errno::EOPNOTSUPP) {
        skip!("the scratch directory's file system has no FALLOC_FL_KEEP_SIZE");
    }
    eq!(stat_of(c"file").st_size, 4);
    is!(stat_of(c"file").st_blocks >= 16, "room for 8192 bytes");
}

fn punching() {
    let fd = file(c"file", &[b'x'; 4 * PAGE]);
    if sys!(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, PAGE)) == Err(Errno::EOPNOTSUPP) {
        skip!("the scratch directory's file system punches no holes");
    }
    let mut bytes = [9u8; 3];
    gives!(pread64(fd, &mut bytes, 3, PAGE - 1) => 3);
    eq!(bytes, [b'x', 0, 0]);
    gives!(pread64(fd, &mut bytes, 3, 2 * PAGE - 1) => 3);
    eq!(bytes, [0, b'x', b'x']);
    // Parts of pages become zeros.
    gives!(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1, 1) => 0);
    gives!(pread64(fd, &mut bytes, 3, 0) => 3);
    eq!(bytes, [b'x', 0, b'x']);
    fails!(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, PAGE) => EOPNOTSUPP);
    eq!(stat_of(c"file").st_size, 4 * PAGE as i64);
    gives!(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 100 * PAGE, PAGE) => 0);
}

fn file_size_limit() {
    signal::on(SIGXFSZ, 0);
    let fd = file(c"file", b"");
    gives!(setrlimit(RLIMIT_FSIZE, &rlimit { rlim_cur: 10, rlim_max: RLIM_INFINITY }) => 0);
    // What fits is written; at the limit there is a signal and an error.
    gives!(write(fd, b"0123456789abc", 13) => 10);
    eq!(signal::count(), 0);
    fails!(write(fd, b"x", 1) => EFBIG);
    eq!(signal::count(), 1);
    fails!(ftruncate(fd, 11) => EFBIG);
    eq!(signal::count(), 2);
    gives!(ftruncate(fd, 5) => 0);
    gives!(pwrite64(fd, b"x", 1, 5) => 1);
    fails!(pwrite64(fd, b"x", 1, 10) => EFBIG);
}

fn an_unlinked_file_lives() {
    let fd = file(c"file", b"text");
    gives!(unlink(c"file") => 0);
    let mut stat: stat = zeroed();
    gives!(fstat(fd, &mut stat) => 0);
    eq!(stat.st_nlink, 0);
    gives!(write(fd, b"more", 4) => 4);
    let mut buffer = [0u8; 4];
    gives!(pread64(fd, &mut buffer, 4, 0) => 4);
    eq!(&buffer, b"more");
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    is!(link.display().to_string().ends_with("/file (deleted)"), "the link to say so");
    works!(close(file(c"file", b"another")));
    gives!(pread64(fd, &mut buffer, 4, 0) => 4);
    eq!(&buffer, b"more");
}

fn sync_calls() {
    let fd = file(c"file", b"text");
    gives!(fsync(fd) => 0);
    gives!(fdatasync(fd) => 0);
    gives!(syncfs(fd) => 0);
    gives!(sync_file_range(fd, 0, 4, 7) => 0);
    fails!(sync_file_range(fd, 0, 4, 8) => EINVAL);
    fails!(sync_file_range(fd, -1, 4, 0) => EINVAL);
    gives!(fsync(works!(openat(AT_FDCWD, c".", O_RDONLY))) => 0);
    let (reader, _writer) = pipe();
    fails!(fsync(reader) => EINVAL);
    fails!(fdatasync(-1) => EBADF);
    fails!(syncfs(-1) => EBADF);
    fails!(sync_file_range(reader, 0, 0, 0) => ESPIPE);
}

fn fadvise_and_readahead() {
    let fd = file(c"file", &[1; 8192]);
    for advice in 0..6 {
        gives!(fadvise64(fd, 0, 0, advice) => 0);
    }
    fails!(fadvise64(fd, 0, 0, 99) => EINVAL);
    fails!(fadvise64(fd, 0, -1, 0) => EINVAL);
    fails!(fadvise64(-1, 0, 0, 0) => EBADF);
    let (reader, writer) = pipe();
    fails!(fadvise64(reader, 0, 0, 0) => ESPIPE);
    gives!(readahead(fd, 0, 8192) => 0);
    fails!(readahead(writer, 0, 8192) => EBADF);
    fails!(readahead(reader, 0, 8192) => EINVAL);
    fails!(readahead(works!(openat(AT_FDCWD, c"file", O_WRONLY)), 0, 1) => EBADF);
}

fn close_range_closes() {
    let fds: Vec<usize> = (0..6).map(|_| works!(openat(AT_FDCWD, c".", O_RDONLY))).collect();
    let start = fds[0];
    if sys!(close_range(1000, 1000, 0)) == Err(Errno::ENOSYS) {
        skip!("no close_range (Linux 5.9)");
    }
    gives!(close_range(start + 1, start + 2, 0) => 0);
    fails!(fcntl(start + 1, F_GETFD) => EBADF);
    gives!(fcntl(start, F_GETFD) => 0);
    gives!(close_range(start + 3, start + 3, 4 /* CLOSE_RANGE_CLOEXEC */) => 0);
    gives!(fcntl(start + 3, F_GETFD) => FD_CLOEXEC);
    fails!(close_range(5, 4, 0) => EINVAL);
    fails!(close_range(5, 6, 0x80) => EINVAL);
    gives!(close_range(start, u32::MAX, 2 /* CLOSE_RANGE_UNSHARE */) => 0);
    fails!(fcntl(start, F_GETFD) => EBADF);
    fails!(fcntl(start + 5, F_GETFD) => EBADF);
}

fn device_files() {
    let mut buffer = [7u8; 16];
    let null = works!(openat(AT_FDCWD, c"/dev/null", O_RDWR));
    gives!(write(null, &buffer, 16) => 16);
    gives!(read(null, &mut buffer, 16) => 0);
    let zero = works!(openat(AT_FDCWD, c"/dev/zero", O_RDWR));
    gives!(read(zero, &mut buffer, 16) => 16);
    eq!(buffer, [0; 16]);
    gives!(write(zero, &buffer, 16) => 16);
    let full = works!(openat(AT_FDCWD, c"/dev/full", O_RDWR));
    fails!(write(full, &buffer, 1) => ENOSPC);
    gives!(read(full, &mut buffer, 16) => 16);
    for path in [c"/dev/urandom", c"/dev/random"] {
        let random = works!(openat(AT_FDCWD, path, O_RDONLY));
        gives!(read(random, &mut buffer, 16) => 16);
        is!(buffer != [0; 16], "some bytes to be other than zero");
    }
    fails!(read(zero, BAD, 16) => EFAULT);
    fails!(openat(AT_FDCWD, c"/dev/tty", O_RDWR) => ENXIO);
}
