//! Files: open, read, write, seek, truncate, links, directories, names, times, modes, owners, statx.

use super::prelude::*;
use std::ffi::CString;

tests!("files":
    open_creates, open_flags_conflict, open_errors, open_follows_links, o_path_is_a_place, o_append, o_trunc, o_tmpfile, creat_and_open, reading_and_writing,
    bad_buffers_and_descriptors, vectors, preadv2_flags, seeking, seek_data_and_hole, seeking_what_has_no_place, truncation, allocation, punching,
    file_size_limit, hard_links, linkat_flags, symbolic_links, readlink_cuts, unlink_and_rmdir, an_unlinked_file_lives, rename_replaces,
    rename_errors, renameat2_flags, mkdir_and_umask, mknod_kinds, reading_directories, directory_seeks, getdents_arguments, access_checks, stat_tells, fstatat_flags,
    statx_tells, statx_arguments, modes, owners, owners_and_set_id, permission_checks, sticky_directories, times_are_set, times_change, chdir_and_getcwd, chroot_confines,
    openat2_resolves, openat2_arguments, dots_and_slashes, long_names, sync_calls, statfs_tells, fadvise_and_readahead, umask_of_threads_and_children,
    close_range_closes, atime_and_noatime, file_handles, fallocate_keeps_size, device_files,
);

fn text_of(path: &str) -> String {
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

fn stat_of(path: &std::ffi::CStr) -> stat {
    let mut stat: stat = zeroed();
    gives!(newfstatat(AT_FDCWD, path, &mut stat, AT_SYMLINK_NOFOLLOW) => 0);
    stat
}

fn mode(path: &std::ffi::CStr) -> u32 {
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

fn absolute(name: &str) -> CString {
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
    fails!(preadv2(reader, list.as_ptr(), 1, -1i64, -1i64, 0x8 /* RWF_NOWAIT */) => EAGAIN);
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

fn hard_links() {
    works!(close(file(c"file", b"text")));
    gives!(link(c"file", c"other") => 0);
    let (one, two) = (stat_of(c"file"), stat_of(c"other"));
    eq!((one.st_ino, one.st_nlink, two.st_nlink), (two.st_ino, 2, 2));
    fails!(link(c"file", c"other") => EEXIST);
    fails!(link(c"missing", c"new") => ENOENT);
    fails!(link(c"file", c"no/new") => ENOENT);
    gives!(mkdir(c"directory", 0o755) => 0);
    fails!(link(c"directory", c"new") => EPERM);
    fails!(link(c"file", c"directory") => EEXIST);
    fails!(link(BAD, c"new") => EFAULT);
    gives!(unlink(c"file") => 0);
    eq!((text_of("other").as_str(), stat_of(c"other").st_nlink), ("text", 1));
}

fn linkat_flags() {
    works!(close(file(c"file", b"text")));
    gives!(symlink(c"file", c"link") => 0);
    gives!(linkat(AT_FDCWD, c"link", AT_FDCWD, c"to-link", 0) => 0);
    eq!(mode(c"to-link") & S_IFMT, S_IFLNK);
    gives!(linkat(AT_FDCWD, c"link", AT_FDCWD, c"to-file", AT_SYMLINK_FOLLOW) => 0);
    eq!(mode(c"to-file") & S_IFMT, S_IFREG);
    fails!(linkat(AT_FDCWD, c"file", AT_FDCWD, c"new", 0x10) => EINVAL);
    fails!(linkat(999, c"file", AT_FDCWD, c"new", 0) => EBADF);
    fails!(linkat(AT_FDCWD, c"", AT_FDCWD, c"new", 0) => ENOENT);
    gives!(mkdir(c"directory", 0o755) => 0);
    let directory = works!(openat(AT_FDCWD, c"directory", O_PATH));
    gives!(linkat(AT_FDCWD, c"file", directory, c"new", 0) => 0);
    eq!(stat_of(c"directory/new").st_nlink, 3);
}

fn symbolic_links() {
    gives!(symlink(c"any text at all", c"link") => 0);
    let stat = stat_of(c"link");
    eq!((stat.st_mode, stat.st_size), (S_IFLNK | 0o777, 15));
    fails!(symlink(c"x", c"link") => EEXIST);
    fails!(symlink(c"", c"empty") => ENOENT);
    fails!(symlink(c"x", c"no/link") => ENOENT);
    fails!(symlink(c"x", BAD) => EFAULT);
    fails!(symlink(BAD, c"x") => EFAULT);
    fails!(symlink(c"x", c"trailing/") => ENOENT);
    gives!(mkdir(c"directory", 0o755) => 0);
    let directory = works!(openat(AT_FDCWD, c"directory", O_PATH));
    gives!(symlinkat(c"../target", directory, c"link") => 0);
    works!(close(file(c"target", b"text")));
    eq!(text_of("directory/link"), "text");
    fails!(symlinkat(c"x", 999, c"link") => EBADF);
    // A slash at the end asks for a directory.
    gives!(symlink(c"directory", c"d") => 0);
    eq!(mode(c"d/") & S_IFMT, S_IFDIR);
    eq!(mode(c"d") & S_IFMT, S_IFLNK);
}

fn readlink_cuts() {
    gives!(symlink(c"0123456789", c"link") => 0);
    let mut buffer = [b'-'; 12];
    gives!(readlink(c"link", &mut buffer, 12) => 10);
    // No zero is put behind it.
    eq!(&buffer, b"0123456789--");
    gives!(readlink(c"link", &mut buffer, 4) => 4);
    fails!(readlink(c"link", &mut buffer, 0) => EINVAL);
    fails!(readlink(c"link", &mut buffer, -1) => EINVAL);
    fails!(readlink(c"link", BAD, 12) => EFAULT);
    works!(close(file(c"file", b"")));
    fails!(readlink(c"file", &mut buffer, 12) => EINVAL);
    fails!(readlink(c".", &mut buffer, 12) => EINVAL);
    fails!(readlink(c"missing", &mut buffer, 12) => ENOENT);
    gives!(readlinkat(AT_FDCWD, c"link", &mut buffer, 12) => 10);
    fails!(readlinkat(999, c"link", &mut buffer, 12) => EBADF);
}

fn unlink_and_rmdir() {
    works!(close(file(c"file", b"")));
    gives!(mkdir(c"directory", 0o755) => 0);
    works!(close(file(c"directory/inside", b"")));
    fails!(unlink(c"missing") => ENOENT);
    fails!(unlink(c"directory") => EISDIR);
    fails!(unlink(c"file/") => ENOTDIR);
    fails!(unlink(c"file/x") => ENOTDIR);
    fails!(rmdir(c"file") => ENOTDIR);
    fails!(rmdir(c"directory") => ENOTEMPTY);
    fails!(rmdir(c"directory/.") => EINVAL);
    fails!(rmdir(c"directory/inside/..") => ENOTDIR);
    fails!(rmdir(c"directory/..") => ENOTEMPTY);
    fails!(rmdir(c"missing") => ENOENT);
    fails!(rmdir(BAD) => EFAULT);
    fails!(rmdir(c"/") => EBUSY);
    fails!(unlinkat(AT_FDCWD, c"file", AT_REMOVEDIR) => ENOTDIR);
    fails!(unlinkat(AT_FDCWD, c"directory", 0) => EISDIR);
    fails!(unlinkat(AT_FDCWD, c"file", 0x1) => EINVAL);
    fails!(unlinkat(999, c"file", 0) => EBADF);
    let directory = works!(openat(AT_FDCWD, c"directory", O_PATH));
    gives!(unlinkat(directory, c"inside", 0) => 0);
    gives!(unlinkat(AT_FDCWD, c"directory/", AT_REMOVEDIR) => 0);
    fails!(openat(directory, c"new", O_WRONLY | O_CREAT, 0o644) => ENOENT);
    gives!(symlink(c"file", c"link") => 0);
    gives!(unlink(c"link") => 0);
    eq!(mode(c"file") & S_IFMT, S_IFREG);
    gives!(unlink(c"file") => 0);
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

fn rename_replaces() {
    works!(close(file(c"a", b"a")));
    let old = file(c"b", b"b");
    gives!(rename(c"a", c"b") => 0);
    eq!(text_of("b"), "a");
    fails!(openat(AT_FDCWD, c"a", O_RDONLY) => ENOENT);
    let mut byte = [0u8];
    gives!(pread64(old, &mut byte, 1, 0) => 1);
    eq!(byte[0], b'b');
    // Onto itself, and onto another name of the same file: nothing happens.
    gives!(rename(c"b", c"b") => 0);
    gives!(link(c"b", c"c") => 0);
    gives!(rename(c"b", c"c") => 0);
    eq!((stat_of(c"b").st_nlink, stat_of(c"c").st_nlink), (2, 2));
    gives!(mkdir(c"one", 0o755) => 0);
    gives!(mkdir(c"two", 0o755) => 0);
    works!(close(file(c"one/inside", b"text")));
    gives!(rename(c"one", c"two") => 0);
    eq!(text_of("two/inside"), "text");
    gives!(symlink(c"nowhere", c"link") => 0);
    gives!(rename(c"link", c"renamed") => 0);
    eq!(mode(c"renamed") & S_IFMT, S_IFLNK);
    gives!(renameat(AT_FDCWD, c"c", works!(openat(AT_FDCWD, c"two", O_PATH)), c"c") => 0);
    eq!(text_of("two/c"), "a");
}

fn rename_errors() {
    works!(close(file(c"file", b"")));
    gives!(mkdir(c"directory", 0o755) => 0);
    gives!(mkdir(c"full", 0o755) => 0);
    works!(close(file(c"full/inside", b"")));
    fails!(rename(c"missing", c"new") => ENOENT);
    fails!(rename(c"file", c"no/new") => ENOENT);
    fails!(rename(c"file", c"directory") => EISDIR);
    fails!(rename(c"directory", c"file") => ENOTDIR);
    fails!(rename(c"directory", c"full") => ENOTEMPTY);
    fails!(rename(c"directory", c"directory/inside") => EINVAL);
    fails!(rename(c"full/inside", c"full") => ENOTEMPTY);
    fails!(rename(c".", c"new") => EBUSY);
    fails!(rename(c"directory/..", c"new") => EBUSY);
    fails!(rename(c"file/", c"new") => ENOTDIR);
    fails!(rename(c"file", c"new/") => ENOTDIR);
    fails!(rename(c"file", c"/proc/new") => EXDEV);
    fails!(rename(BAD, c"new") => EFAULT);
    fails!(renameat(999, c"file", AT_FDCWD, c"new") => EBADF);
}

fn renameat2_flags() {
    works!(close(file(c"a", b"a")));
    works!(close(file(c"b", b"b")));
    const NOREPLACE: c_int = 1;
    const EXCHANGE: c_int = 2;
    if sys!(renameat2(AT_FDCWD, c"a", AT_FDCWD, c"b", NOREPLACE)) == Err(Errno::EINVAL) {
        skip!("the scratch directory's file system has no flags for renames");
    }
    fails!(renameat2(AT_FDCWD, c"a", AT_FDCWD, c"b", NOREPLACE) => EEXIST);
    gives!(renameat2(AT_FDCWD, c"a", AT_FDCWD, c"c", NOREPLACE) => 0);
    gives!(renameat2(AT_FDCWD, c"b", AT_FDCWD, c"c", EXCHANGE) => 0);
    eq!((text_of("b").as_str(), text_of("c").as_str()), ("a", "b"));
    gives!(mkdir(c"directory", 0o755) => 0);
    gives!(renameat2(AT_FDCWD, c"directory", AT_FDCWD, c"c", EXCHANGE) => 0);
    eq!((mode(c"c") & S_IFMT, mode(c"directory") & S_IFMT), (S_IFDIR, S_IFREG));
    fails!(renameat2(AT_FDCWD, c"b", AT_FDCWD, c"missing", EXCHANGE) => ENOENT);
    fails!(renameat2(AT_FDCWD, c"b", AT_FDCWD, c"d", NOREPLACE | EXCHANGE) => EINVAL);
    fails!(renameat2(AT_FDCWD, c"b", AT_FDCWD, c"d", 0x80) => EINVAL);
    gives!(mkdir(c"c/deep", 0o755) => 0);
    fails!(renameat2(AT_FDCWD, c"c", AT_FDCWD, c"c/deep", EXCHANGE) => EINVAL);
}

fn mkdir_and_umask() {
    gives!(umask(0o027) => 0o022);
    gives!(mkdir(c"a", 0o777) => 0);
    eq!(mode(c"a"), S_IFDIR | 0o750);
    gives!(umask(0o7777) => 0o027);
    gives!(umask(0) => 0o777);
    gives!(mkdir(c"b", 0o1777) => 0);
    eq!(mode(c"b"), S_IFDIR | 0o1777);
    fails!(mkdir(c"a", 0o777) => EEXIST);
    fails!(mkdir(c"no/b", 0o777) => ENOENT);
    fails!(mkdir(c".", 0o777) => EEXIST);
    fails!(mkdir(c"/", 0o777) => EEXIST);
    fails!(mkdir(c"", 0o777) => ENOENT);
    fails!(mkdir(BAD, 0o777) => EFAULT);
    works!(close(file(c"file", b"")));
    fails!(mkdir(c"file", 0o777) => EEXIST);
    fails!(mkdir(c"file/x", 0o777) => ENOTDIR);
    gives!(symlink(c"nowhere", c"dangling") => 0);
    fails!(mkdir(c"dangling", 0o777) => EEXIST);
    gives!(mkdir(c"slash/", 0o777) => 0);
    fails!(mkdirat(999, c"x", 0o777) => EBADF);
    let links = stat_of(c".").st_nlink;
    is!(links == 1 || links == 5, "links for each directory inside, or one if they aren't counted: {links}");
}

fn mknod_kinds() {
    gives!(mknod(c"fifo", S_IFIFO | 0o666, 0) => 0);
    eq!(mode(c"fifo"), S_IFIFO | 0o644);
    gives!(mknod(c"plain", S_IFREG | 0o600, 0) => 0);
    gives!(mknod(c"zero", 0o600, 0) => 0);
    eq!(mode(c"zero"), S_IFREG | 0o600);
    gives!(mknodat(AT_FDCWD, c"socket", S_IFSOCK | 0o600, 0) => 0);
    eq!(mode(c"socket") & S_IFMT, S_IFSOCK);
    fails!(openat(AT_FDCWD, c"socket", O_RDWR) => ENXIO);
    fails!(mknod(c"fifo", S_IFIFO | 0o666, 0) => EEXIST);
    fails!(mknod(c"directory", S_IFDIR | 0o777, 0) => EPERM);
    fails!(mknod(c"odd", 0o170000, 0) => EINVAL);
    fails!(mknod(c"no/fifo", S_IFIFO, 0) => ENOENT);
    fails!(mknodat(999, c"fifo", S_IFIFO, 0) => EBADF);
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(mknod(c"/dev/shm/insula-device", S_IFCHR | 0o666, 0x103) => EPERM | EACCES | ENOENT);
    });
}

/// The entries in a buffer of getdents64: number of the next place, kind, name.
fn entries(bytes: &[u8]) -> Vec<(u64, u8, String)> {
    let mut rest = bytes;
    let mut list = Vec::new();
    while rest.len() > 19 {
        let next: u64 = from_bytes(&rest[8..]).unwrap_or(0);
        let length: u16 = from_bytes(&rest[16..]).unwrap_or(0);
        let name = rest[19..length as usize].split(|byte| *byte == 0).next().unwrap_or(&[]);
        list.push((next, rest[18], String::from_utf8_lossy(name).into_owned()));
        rest = &rest[length as usize..];
    }
    list
}

fn reading_directories() {
    gives!(mkdir(c"d", 0o755) => 0);
    let fd = works!(openat(AT_FDCWD, c"d", O_RDONLY | O_DIRECTORY));
    for number in 0..50 {
        works!(close(works!(openat(
            fd,
            &*CString::new(format!("file-{number}")).unwrap_or_default(),
            O_WRONLY | O_CREAT,
            0o644
        ))));
    }
    gives!(mkdirat(fd, c"directory", 0o755) => 0);
    gives!(symlinkat(c"x", fd, c"link") => 0);
    gives!(mknodat(fd, c"fifo", S_IFIFO | 0o600, 0) => 0);
    let (mut all, mut buffer) = (Vec::new(), [0u8; 400]);
    loop {
        let count = works!(getdents64(fd, &mut buffer, 400));
        is!(count.is_multiple_of(8) && count <= 400, "whole entries, not {count} bytes");
        if count == 0 {
            break;
        }
        all.extend(entries(&buffer[..count]));
    }
    let kind = |name: &str| all.iter().find(|entry| entry.2 == name).map(|entry| entry.1);
    eq!(all.len(), 55);
    eq!((kind("."), kind(".."), kind("directory")), (Some(DT_DIR), Some(DT_DIR), Some(DT_DIR)));
    eq!((kind("file-7"), kind("link"), kind("fifo")), (Some(DT_REG), Some(DT_LNK), Some(DT_FIFO)));
    let mut names: Vec<&str> = all.iter().map(|entry| entry.2.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    eq!(names.len(), 55);
    gives!(getdents64(fd, &mut buffer, 400) => 0);
    gives!(lseek(fd, 0, SEEK_SET) => 0);
    is!(works!(getdents64(fd, &mut buffer, 400)) > 0, "entries again from the start");
    is!(works!(getdents(works!(openat(AT_FDCWD, c"d", O_RDONLY)), &mut buffer, 400)) > 0, "the old call to work too");
}

fn directory_seeks() {
    gives!(mkdir(c"d", 0o755) => 0);
    let fd = works!(openat(AT_FDCWD, c"d", O_RDONLY | O_DIRECTORY));
    for number in 0..20 {
        works!(close(works!(openat(fd, &*CString::new(format!("{number}")).unwrap_or_default(), O_WRONLY | O_CREAT, 0o644))));
    }
    let mut buffer = [0u8; 2048];
    let count = works!(getdents64(fd, &mut buffer, 2048));
    let all = entries(&buffer[..count]);
    eq!(all.len(), 22);
    // From the place that an entry names, the next ones follow.
    for index in [0, 5, 12, 20] {
        works!(lseek(fd, all[index].0, SEEK_SET));
        let count = works!(getdents64(fd, &mut buffer, 2048));
        let names: Vec<String> = entries(&buffer[..count]).into_iter().map(|entry| entry.2).collect();
        let rest: Vec<String> = all[index + 1..].iter().map(|entry| entry.2.clone()).collect();
        eq!(names, rest);
    }
    // What is removed meanwhile is not found; what stays is found once.
    works!(lseek(fd, 0, SEEK_SET));
    for entry in &all {
        let _ = sys!(unlinkat(fd, &*CString::new(entry.2.as_str()).unwrap_or_default(), 0));
    }
    let count = works!(getdents64(fd, &mut buffer, 2048));
    eq!(entries(&buffer[..count]).len(), 2);
}

fn getdents_arguments() {
    let fd = works!(openat(AT_FDCWD, c".", O_RDONLY | O_DIRECTORY));
    fails!(getdents64(fd, BAD, 400) => EFAULT);
    let mut buffer = [0u8; 400];
    // Too little for one entry.
    fails!(getdents64(fd, &mut buffer, 10) => EINVAL);
    fails!(getdents64(fd, &mut buffer, 0) => EINVAL);
    fails!(getdents64(999, &mut buffer, 400) => EBADF);
    fails!(getdents64(file(c"file", b""), &mut buffer, 400) => ENOTDIR);
    gives!(mkdir(c"gone", 0o755) => 0);
    let gone = works!(openat(AT_FDCWD, c"gone", O_RDONLY));
    gives!(rmdir(c"gone") => 0);
    fails!(getdents64(gone, &mut buffer, 400) => ENOENT);
}

fn access_checks() {
    works!(close(file(c"file", b"")));
    gives!(access(c"file", F_OK) => 0);
    gives!(access(c"file", R_OK | W_OK) => 0);
    fails!(access(c"missing", F_OK) => ENOENT);
    fails!(access(c"file/x", F_OK) => ENOTDIR);
    fails!(access(c"file", 0x10) => EINVAL);
    fails!(access(BAD, F_OK) => EFAULT);
    // Root may do all but run what nobody may run.
    fails!(access(c"file", X_OK) => EACCES);
    gives!(chmod(c"file", 0o001) => 0);
    gives!(access(c"file", X_OK) => 0);
    gives!(faccessat(AT_FDCWD, c"file", F_OK) => 0);
    fails!(faccessat(999, c"file", F_OK) => EBADF);
    gives!(faccessat2(AT_FDCWD, c"file", R_OK, AT_EACCESS) => 0);
    fails!(faccessat2(AT_FDCWD, c"file", R_OK, 0x1) => EINVAL);
    gives!(symlink(c"nowhere", c"dangling") => 0);
    fails!(faccessat2(AT_FDCWD, c"dangling", F_OK, 0) => ENOENT);
    gives!(faccessat2(AT_FDCWD, c"dangling", F_OK, AT_SYMLINK_NOFOLLOW) => 0);
    need_root();
    in_child(|| {
        // access asks for the real user, AT_EACCESS for the effective one.
        gives!(chmod(c"file", 0o600) => 0);
        gives!(setresuid(1000, 0, 0) => 0);
        fails!(access(c"file", R_OK) => EACCES);
        gives!(faccessat2(AT_FDCWD, c"file", R_OK, AT_EACCESS) => 0);
    });
}

fn stat_tells() {
    let fd = file(c"file", &[1; 5000]);
    let mut stat: stat = zeroed();
    gives!(fstat(fd, &mut stat) => 0);
    eq!((stat.st_size, stat.st_nlink, stat.st_mode), (5000, 1, S_IFREG | 0o644));
    eq!((stat.st_uid, stat.st_gid), (works!(geteuid()) as u32, works!(getegid()) as u32));
    is!(stat.st_blksize >= 512 && stat.st_ino != 0, "a block size and a number");
    let by_path = stat_of(c"file");
    eq!((by_path.st_ino, by_path.st_dev), (stat.st_ino, stat.st_dev));
    gives!(symlink(c"file", c"link") => 0);
    gives!(stat(c"link", &mut stat) => 0);
    eq!(stat.st_ino, by_path.st_ino);
    gives!(lstat(c"link", &mut stat) => 0);
    eq!((stat.st_mode & S_IFMT, stat.st_size), (S_IFLNK, 4));
    fails!(stat(c"missing", &mut stat) => ENOENT);
    fails!(stat(c"file", BAD) => EFAULT);
    fails!(stat(BAD, &mut stat) => EFAULT);
    fails!(lstat(c"file/", &mut stat) => ENOTDIR);
    gives!(stat(c"/dev/null", &mut stat) => 0);
    eq!((stat.st_mode & S_IFMT, stat.st_rdev), (S_IFCHR, makedev(1, 3)));
    let (reader, _writer) = pipe();
    gives!(fstat(reader, &mut stat) => 0);
    eq!((stat.st_mode & S_IFMT, stat.st_size), (S_IFIFO, 0));
    gives!(fstat(works!(socket(AF_UNIX, SOCK_STREAM, 0)), &mut stat) => 0);
    eq!(stat.st_mode & S_IFMT, S_IFSOCK);
}

fn fstatat_flags() {
    let fd = file(c"file", b"text");
    let mut stat: stat = zeroed();
    gives!(newfstatat(fd, c"", &mut stat, AT_EMPTY_PATH) => 0);
    eq!(stat.st_size, 4);
    gives!(newfstatat(AT_FDCWD, c"", &mut stat, AT_EMPTY_PATH) => 0);
    eq!(stat.st_mode & S_IFMT, S_IFDIR);
    fails!(newfstatat(AT_FDCWD, c"", &mut stat, 0) => ENOENT);
    fails!(newfstatat(fd, c"x", &mut stat, 0) => ENOTDIR);
    fails!(newfstatat(999, c"x", &mut stat, 0) => EBADF);
    fails!(newfstatat(AT_FDCWD, c"file", &mut stat, 0x1) => EINVAL);
    fails!(newfstatat(AT_FDCWD, c"file", BAD, 0) => EFAULT);
}

fn statx_tells() {
    let fd = file(c"file", &[1; 5000]);
    let mut statx: statx = zeroed();
    gives!(statx(AT_FDCWD, c"file", 0, STATX_BASIC_STATS, &mut statx) => 0);
    let stat = stat_of(c"file");
    eq!(statx.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
    eq!((statx.stx_size, statx.stx_ino, u32::from(statx.stx_mode)), (5000, stat.st_ino, stat.st_mode));
    eq!((statx.stx_mtime.tv_sec, i64::from(statx.stx_mtime.tv_nsec)), (stat.st_mtime, stat.st_mtime_nsec));
    eq!(makedev(statx.stx_dev_major, statx.stx_dev_minor), stat.st_dev);
    // A descriptor alone: an empty path, or since Linux 6.11 none.
    gives!(statx(fd, c"", AT_EMPTY_PATH, STATX_SIZE, &mut statx) => 0);
    eq!(statx.stx_size, 5000);
    gives!(symlink(c"file", c"link") => 0);
    gives!(statx(AT_FDCWD, c"link", AT_SYMLINK_NOFOLLOW, STATX_TYPE, &mut statx) => 0);
    eq!(u32::from(statx.stx_mode) & S_IFMT, S_IFLNK);
    gives!(statx(AT_FDCWD, c"file", AT_STATX_FORCE_SYNC, STATX_SIZE, &mut statx) => 0);
    gives!(statx(AT_FDCWD, c"file", AT_STATX_DONT_SYNC, STATX_SIZE, &mut statx) => 0);
}

fn statx_arguments() {
    let mut statx: statx = zeroed();
    fails!(statx(AT_FDCWD, c"missing", 0, STATX_BASIC_STATS, &mut statx) => ENOENT);
    fails!(statx(AT_FDCWD, c".", 0, 0x8000_0000u32, &mut statx) => EINVAL);
    fails!(statx(AT_FDCWD, c".", 0x1, STATX_BASIC_STATS, &mut statx) => EINVAL);
    fails!(statx(AT_FDCWD, c".", AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &mut statx) => EINVAL);
    fails!(statx(AT_FDCWD, c".", 0, STATX_BASIC_STATS, BAD) => EFAULT);
    fails!(statx(AT_FDCWD, c"", 0, STATX_BASIC_STATS, &mut statx) => ENOENT);
    fails!(statx(999, c"x", 0, STATX_BASIC_STATS, &mut statx) => EBADF);
}

fn modes() {
    let fd = file(c"file", b"");
    gives!(chmod(c"file", 0o4755) => 0);
    eq!(mode(c"file"), S_IFREG | 0o4755);
    gives!(fchmod(fd, 0o100_0600) => 0);
    eq!(mode(c"file"), S_IFREG | 0o600);
    gives!(fchmodat(AT_FDCWD, c"file", 0o640) => 0);
    eq!(mode(c"file"), S_IFREG | 0o640);
    fails!(chmod(c"missing", 0) => ENOENT);
    fails!(chmod(BAD, 0) => EFAULT);
    gives!(symlink(c"file", c"link") => 0);
    gives!(chmod(c"link", 0o600) => 0);
    eq!(mode(c"file"), S_IFREG | 0o600);
    if sys!(fchmodat2(AT_FDCWD, c"file", 0o644, 0)) != Err(Errno::ENOSYS) {
        eq!(mode(c"file"), S_IFREG | 0o644);
        fails!(fchmodat2(AT_FDCWD, c"link", 0o600, AT_SYMLINK_NOFOLLOW) => EOPNOTSUPP);
        fails!(fchmodat2(AT_FDCWD, c"file", 0o600, 0x1) => EINVAL);
        gives!(fchmodat2(fd, c"", 0o600, AT_EMPTY_PATH) => 0);
    }
}

fn owners() {
    need_root();
    let fd = file(c"file", b"");
    let owner = || (stat_of(c"file").st_uid, stat_of(c"file").st_gid);
    gives!(chown(c"file", 10, 20) => 0);
    eq!(owner(), (10, 20));
    gives!(fchown(fd, -1, 30) => 0);
    eq!(owner(), (10, 30));
    gives!(fchownat(AT_FDCWD, c"file", 40, -1, 0) => 0);
    eq!(owner(), (40, 30));
    gives!(symlink(c"file", c"link") => 0);
    gives!(lchown(c"link", 50, 50) => 0);
    eq!((owner(), stat_of(c"link").st_uid), ((40, 30), 50));
    gives!(fchownat(AT_FDCWD, c"link", 60, 60, AT_SYMLINK_NOFOLLOW) => 0);
    gives!(fchownat(AT_FDCWD, c"link", 70, 70, 0) => 0);
    eq!((owner(), stat_of(c"link").st_uid), ((70, 70), 60));
    gives!(fchownat(fd, c"", 80, 80, AT_EMPTY_PATH) => 0);
    fails!(fchownat(AT_FDCWD, c"file", 0, 0, 0x1) => EINVAL);
    fails!(chown(c"missing", 0, 0) => ENOENT);
    in_child(|| {
        gives!(setgroups(1, &[90u32; 1]) => 0);
        gives!(setresgid(80, 80, 80) => 0);
        gives!(setresuid(80, 80, 80) => 0);
        // One's own file, to a group one is in.
        gives!(fchown(fd, -1, 90) => 0);
        fails!(fchown(fd, -1, 91) => EPERM);
        fails!(fchown(fd, 0, -1) => EPERM);
        gives!(fchown(fd, 80, -1) => 0);
        gives!(setresuid(-1, -1, -1) => 0);
    });
    eq!(owner(), (80, 90));
}

fn owners_and_set_id() {
    need_root();
    let fd = file(c"file", b"");
    gives!(fchown(fd, 1000, 1000) => 0);
    gives!(fchmod(fd, 0o6777) => 0);
    in_child(|| {
        let fd = works!(openat(AT_FDCWD, c"file", O_WRONLY));
        gives!(setresgid(1000, 1000, 1000) => 0);
        gives!(setresuid(1000, 1000, 1000) => 0);
        gives!(write(fd, b"x", 1) => 1);
        eq!(stat_of_fd(fd).st_mode & 0o7777, 0o777);
        gives!(fchmod(fd, 0o6777) => 0);
        gives!(fchown(fd, 1000, 1000) => 0);
        eq!(stat_of_fd(fd).st_mode & 0o7777, 0o777);
        gives!(fchmod(fd, 0o2767) => 0);
        gives!(fchown(fd, 1000, 1000) => 0);
        // Without x for the group, the bit is no privilege, and stays.
        eq!(stat_of_fd(fd).st_mode & 0o7777, 0o2767);
    });
    in_child(|| {
        gives!(fchmod(fd, 0o755) => 0);
        gives!(fchown(fd, 1000, 2000) => 0);
        gives!(setgroups(0, 0) => 0);
        gives!(setresgid(1000, 1000, 1000) => 0);
        gives!(setresuid(1000, 1000, 1000) => 0);
        // The bit of a group one isn't in is silently left out.
        gives!(fchmod(fd, 0o2755) => 0);
        eq!(stat_of_fd(fd).st_mode & 0o7777, 0o755);
    });
}

fn stat_of_fd(fd: usize) -> stat {
    let mut stat: stat = zeroed();
    gives!(fstat(fd, &mut stat) => 0);
    stat
}

fn permission_checks() {
    need_root();
    works!(close(file(c"owner", b"x")));
    works!(close(file(c"group", b"x")));
    works!(close(file(c"other", b"x")));
    gives!(chown(c"owner", 1000, 0) => 0);
    gives!(chmod(c"owner", 0o077) => 0);
    gives!(chown(c"group", 0, 1000) => 0);
    gives!(chmod(c"group", 0o707) => 0);
    gives!(chmod(c"other", 0o770) => 0);
    gives!(mkdir(c"closed", 0o700) => 0);
    works!(close(file(c"closed/inside", b"x")));
    gives!(mkdir(c"search", 0o711) => 0);
    works!(close(file(c"search/inside", b"x")));
    gives!(mkdir(c"list", 0o744) => 0);
    works!(close(file(c"list/inside", b"x")));
    open_the_way();
    in_child(|| {
        gives!(setgroups(1, &[1000u32; 1]) => 0);
        gives!(setresgid(500, 500, 500) => 0);
        gives!(setresuid(1000, 1000, 1000) => 0);
        // The first class that fits decides, also if a later one would allow more.
        for name in [c"owner", c"group", c"other"] {
            fails!(openat(AT_FDCWD, name, O_RDONLY) => EACCES);
            fails!(openat(AT_FDCWD, name, O_WRONLY) => EACCES);
        }
        gives!(chmod(c"owner", 0o400) => 0);
        works!(openat(AT_FDCWD, c"owner", O_RDONLY));
        fails!(openat(AT_FDCWD, c"owner", O_RDWR) => EACCES);
        fails!(chmod(c"group", 0o777) => EPERM);
        fails!(openat(AT_FDCWD, c"closed/inside", O_RDONLY) => EACCES);
        fails!(stat(c"closed/inside", &mut zeroed::<stat>()) => EACCES);
        works!(openat(AT_FDCWD, c"search/inside", O_RDONLY));
        fails!(openat(AT_FDCWD, c"search", O_RDONLY) => EACCES);
        works!(openat(AT_FDCWD, c"list", O_RDONLY));
        fails!(openat(AT_FDCWD, c"list/inside", O_RDONLY) => EACCES);
        fails!(openat(AT_FDCWD, c"new", O_WRONLY | O_CREAT, 0o644) => EACCES);
        fails!(unlink(c"other") => EACCES);
        fails!(rename(c"other", c"new") => EACCES);
        fails!(mkdir(c"new", 0o755) => EACCES);
        fails!(truncate(c"other", 0) => EACCES);
        fails!(chdir(c"closed") => EACCES);
        fails!(openat(AT_FDCWD, c"other", O_RDONLY | O_NOATIME) => EACCES);
    });
}

/// Lets everybody through to the working directory: the scratch directory may lie in a closed one.
fn open_the_way() {
    in_child(|| {
        let _ = sys!(setresuid(1000, 1000, 1000));
        let path = absolute(".");
        if sys!(access(&*path, X_OK)).is_err() && sys!(access(c".", X_OK)).is_err() {
            skip!("the scratch directory is closed to other users");
        }
    });
}

fn sticky_directories() {
    need_root();
    gives!(mkdir(c"tmp", 0o777) => 0);
    gives!(chmod(c"tmp", 0o1777) => 0);
    works!(close(file(c"tmp/roots", b"")));
    open_the_way();
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(unlink(c"tmp/roots") => EPERM);
        fails!(rename(c"tmp/roots", c"tmp/mine") => EPERM);
        works!(close(file(c"tmp/mine", b"")));
        fails!(rename(c"tmp/mine", c"tmp/roots") => EPERM);
        gives!(unlink(c"tmp/mine") => 0);
    });
}

const NOW: i64 = (1 << 30) - 1;
const OMIT: i64 = (1 << 30) - 2;

fn times_are_set() {
    let fd = file(c"file", b"");
    let time = |tv_sec, tv_nsec| timespec { tv_sec, tv_nsec };
    gives!(utimensat(AT_FDCWD, c"file", &[time(1000, 1), time(2000, 999_999_999)], 0) => 0);
    let stat = stat_of(c"file");
    eq!((stat.st_atime, stat.st_mtime), (1000, 2000));
    is!(stat.st_mtime_nsec == 999_999_999 || stat.st_mtime_nsec == 0, "nanoseconds, if the file system has them");
    gives!(utimensat(fd, 0, &[time(0, OMIT), time(3000, 0)], 0) => 0);
    eq!((stat_of(c"file").st_atime, stat_of(c"file").st_mtime), (1000, 3000));
    gives!(utimensat(AT_FDCWD, c"file", &[time(5000, 0), time(0, NOW)], 0) => 0);
    is!(stat_of(c"file").st_mtime > 1_000_000, "the present time");
    gives!(utimensat(AT_FDCWD, c"file", 0, 0) => 0);
    is!(stat_of(c"file").st_atime > 1_000_000, "the present time");
    fails!(utimensat(AT_FDCWD, c"file", &[time(0, 1_000_000_000), time(0, 0)], 0) => EINVAL);
    fails!(utimensat(AT_FDCWD, c"file", &[time(0, -1), time(0, 0)], 0) => EINVAL);
    fails!(utimensat(AT_FDCWD, c"file", BAD, 0) => EFAULT);
    fails!(utimensat(AT_FDCWD, c"file", 0, 0x1) => EINVAL);
    fails!(utimensat(AT_FDCWD, 0, 0, 0) => EFAULT);
    fails!(utimensat(AT_FDCWD, c"missing", 0, 0) => ENOENT);
    // Nothing to change is no error, even of a file that isn't there.
    gives!(utimensat(AT_FDCWD, c"missing", &[time(0, OMIT), time(0, OMIT)], 0) => 0);
    gives!(symlink(c"file", c"link") => 0);
    gives!(utimensat(AT_FDCWD, c"link", &[time(7, 0), time(8, 0)], AT_SYMLINK_NOFOLLOW) => 0);
    eq!(stat_of(c"link").st_mtime, 8);
    // The old calls.
    gives!(utime(c"file", &utimbuf { actime: 11, modtime: 12 }) => 0);
    eq!((stat_of(c"file").st_atime, stat_of(c"file").st_mtime), (11, 12));
    let old = |tv_sec, tv_usec| timeval { tv_sec, tv_usec };
    gives!(utimes(c"file", &[old(21, 5), old(22, 6)]) => 0);
    eq!(stat_of(c"file").st_mtime, 22);
    fails!(utimes(c"file", &[old(1, 1_000_000), old(1, 0)]) => EINVAL);
    gives!(futimesat(AT_FDCWD, c"file", &[old(31, 0), old(32, 0)]) => 0);
    eq!(stat_of(c"file").st_mtime, 32);
    need_root();
    open_the_way();
    in_child(|| {
        gives!(chmod(c"file", 0o666) => 0);
        gives!(setresuid(1000, 1000, 1000) => 0);
        // Who may write may set the present time, no other.
        gives!(utimensat(AT_FDCWD, c"file", 0, 0) => 0);
        fails!(utimensat(AT_FDCWD, c"file", &[time(1, 0), time(1, 0)], 0) => EPERM);
    });
}

fn times_change() {
    let fd = file(c"file", b"text");
    let past = [timespec { tv_sec: 1000, tv_nsec: 0 }; 2];
    let reset = || gives!(utimensat(AT_FDCWD, c"file", &past, 0) => 0);
    reset();
    gives!(pwrite64(fd, b"x", 1, 0) => 1);
    is!(stat_of(c"file").st_mtime > 1000, "a write to change mtime");
    reset();
    let changed = stat_of(c"file").st_ctime;
    is!(changed > 1000, "ctime not to be settable");
    gives!(chmod(c"file", 0o600) => 0);
    eq!(stat_of(c"file").st_mtime, 1000);
    gives!(ftruncate(fd, 4) => 0);
    is!(stat_of(c"file").st_mtime > 1000, "a truncation to change mtime, also to the same size");
    reset();
    gives!(pwrite64(fd, b"", 0, 0) => 0);
    eq!(stat_of(c"file").st_mtime, 1000);
    gives!(mkdir(c"d", 0o755) => 0);
    gives!(utimensat(AT_FDCWD, c"d", &past, 0) => 0);
    works!(close(file(c"d/new", b"")));
    is!(stat_of(c"d").st_mtime > 1000, "a new entry to change the directory");
    gives!(utimensat(AT_FDCWD, c"d", &past, 0) => 0);
    works!(close(file(c"d/new", b"more")));
    eq!(stat_of(c"d").st_mtime, 1000);
    gives!(unlink(c"d/new") => 0);
    is!(stat_of(c"d").st_mtime > 1000, "a removal to change the directory");
}

fn chdir_and_getcwd() {
    let mut buffer = [0u8; 4096];
    let start = absolute("");
    let start = start.to_string_lossy().trim_end_matches('/').to_owned();
    gives!(getcwd(&mut buffer, 4096) => start.len() + 1);
    eq!(&buffer[..start.len() + 1], [start.as_bytes(), b"\0"].concat().as_slice());
    fails!(getcwd(&mut buffer, start.len()) => ERANGE);
    fails!(getcwd(&mut buffer, 0) => ERANGE);
    fails!(getcwd(BAD, 4096) => EFAULT);
    gives!(mkdir(c"inside", 0o755) => 0);
    gives!(chdir(c"inside") => 0);
    gives!(getcwd(&mut buffer, 4096) => start.len() + 1 + "/inside".len());
    gives!(chdir(c"..") => 0);
    fails!(chdir(c"missing") => ENOENT);
    works!(close(file(c"file", b"")));
    fails!(chdir(c"file") => ENOTDIR);
    fails!(chdir(BAD) => EFAULT);
    fails!(fchdir(works!(openat(AT_FDCWD, c"file", O_RDONLY))) => ENOTDIR);
    gives!(chdir(c"inside") => 0);
    gives!(rmdir(c"../inside") => 0);
    fails!(getcwd(&mut buffer, 4096) => ENOENT);
    fails!(openat(AT_FDCWD, c"new", O_WRONLY | O_CREAT, 0o644) => ENOENT);
    works!(openat(AT_FDCWD, c".", O_RDONLY));
    works!(openat(AT_FDCWD, c"..", O_RDONLY));
}

fn chroot_confines() {
    need_root();
    gives!(mkdir(c"root", 0o755) => 0);
    gives!(mkdir(c"root/etc", 0o755) => 0);
    works!(close(file(c"root/etc/name", b"inner")));
    gives!(symlink(c"/etc/name", c"root/link") => 0);
    fails!(chroot(c"missing") => ENOENT);
    fails!(chroot(c"root/etc/name") => ENOTDIR);
    fails!(chroot(BAD) => EFAULT);
    in_child(|| {
        let outside = works!(openat(AT_FDCWD, c".", O_PATH));
        gives!(chroot(c"root") => 0);
        gives!(chdir(c"/") => 0);
        eq!(text_of("/etc/name"), "inner");
        eq!(text_of("/link"), "inner");
        eq!(text_of("/../../../etc/name"), "inner");
        // What is outside has no path from here.
        gives!(fchdir(outside) => 0);
        let mut buffer = [0u8; 4096];
        let count = works!(getcwd(&mut buffer, 4096));
        is!(buffer[..count].starts_with(b"(unreachable)"), "the directory to be unreachable");
    });
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(chroot(c"/") => EPERM);
    });
}

fn openat2_resolves() {
    gives!(mkdir(c"root", 0o755) => 0);
    gives!(mkdir(c"root/sub", 0o755) => 0);
    works!(close(file(c"root/file", b"inside")));
    works!(close(file(c"outside", b"outside")));
    gives!(symlink(c"../outside", c"root/up") => 0);
    gives!(symlink(c"/file", c"root/absolute") => 0);
    gives!(symlink(c"file", c"root/near") => 0);
    gives!(symlink(c"/proc/self/cwd", c"root/magic") => 0);
    let root = works!(openat(AT_FDCWD, c"root", O_PATH | O_DIRECTORY));
    let open = |path: &std::ffi::CStr, resolve: u64| {
        let mut how: open_how = zeroed();
        (how.flags, how.resolve) = (O_RDONLY as u64, resolve);
        sys!(openat2(root, path, &how, size_of::<open_how>())).map(|_| ())
    };
    if open(c"file", 0) == Err(Errno::ENOSYS) {
        skip!("no openat2 (Linux 5.6)");
    }
    eq!(open(c"up", 0), Ok(()));
    eq!(open(c"file", RESOLVE_BENEATH), Ok(()));
    eq!(open(c"near", RESOLVE_BENEATH), Ok(()));
    eq!(open(c"sub/../file", RESOLVE_BENEATH), Ok(()));
    eq!(open(c"up", RESOLVE_BENEATH), Err(Errno::EXDEV));
    eq!(open(c"../outside", RESOLVE_BENEATH), Err(Errno::EXDEV));
    eq!(open(c"absolute", RESOLVE_BENEATH), Err(Errno::EXDEV));
    eq!(open(c"/file", RESOLVE_BENEATH), Err(Errno::EXDEV));
    eq!(open(c"magic", RESOLVE_BENEATH), Err(Errno::EXDEV));
    // In the root, .. at the top stays there, and absolute means from there.
    eq!(open(c"absolute", RESOLVE_IN_ROOT), Ok(()));
    eq!(open(c"/file", RESOLVE_IN_ROOT), Ok(()));
    eq!(open(c"../../file", RESOLVE_IN_ROOT), Ok(()));
    eq!(open(c"up", RESOLVE_IN_ROOT), Err(Errno::ENOENT));
    eq!(open(c"near", RESOLVE_NO_SYMLINKS), Err(Errno::ELOOP));
    eq!(open(c"file", RESOLVE_NO_SYMLINKS), Ok(()));
    eq!(open(c"magic", RESOLVE_NO_MAGICLINKS), Err(Errno::ELOOP));
    eq!(open(c"near", RESOLVE_NO_MAGICLINKS), Ok(()));
    eq!(open(c"/proc/self", RESOLVE_NO_XDEV), Err(Errno::EXDEV));
    eq!(open(c"sub/..", RESOLVE_NO_XDEV), Ok(()));
}

fn openat2_arguments() {
    works!(close(file(c"file", b"")));
    let size = size_of::<open_how>();
    let how = |flags: c_int, mode: u64, resolve: u64| {
        let mut how: open_how = zeroed();
        (how.flags, how.mode, how.resolve) = (flags as u64, mode, resolve);
        how
    };
    if sys!(openat2(AT_FDCWD, c"file", &how(O_RDONLY, 0, 0), size)) == Err(Errno::ENOSYS) {
        skip!("no openat2 (Linux 5.6)");
    }
    fails!(openat2(AT_FDCWD, c"file", &how(0x1000_0000, 0, 0), size) => EINVAL);
    fails!(openat2(AT_FDCWD, c"file", &how(O_RDONLY, 0o644, 0), size) => EINVAL);
    fails!(openat2(AT_FDCWD, c"new", &how(O_CREAT, 0o1_0000, 0), size) => EINVAL);
    fails!(openat2(AT_FDCWD, c"file", &how(O_PATH | O_RDWR, 0, 0), size) => EINVAL);
    fails!(openat2(AT_FDCWD, c"file", &how(0, 0, 0x1000), size) => EINVAL);
    fails!(openat2(AT_FDCWD, c"file", &how(0, 0, RESOLVE_BENEATH | RESOLVE_IN_ROOT), size) => EINVAL);
    fails!(openat2(AT_FDCWD, c"file", &how(0, 0, 0), size - 1) => EINVAL);
    fails!(openat2(AT_FDCWD, c"file", &how(0, 0, 0), 2 * PAGE) => E2BIG);
    fails!(openat2(AT_FDCWD, c"file", BAD, size) => EFAULT);
    works!(openat2(AT_FDCWD, c"file", &[0u64; 4], 32));
    fails!(openat2(AT_FDCWD, c"file", &[0u64, 0, 0, 1], 32) => E2BIG);
    works!(openat2(AT_FDCWD, c"new", &how(O_CREAT | O_WRONLY, 0o600, 0), size));
    eq!(mode(c"new"), S_IFREG | 0o600);
}

fn dots_and_slashes() {
    gives!(mkdir(c"d", 0o755) => 0);
    works!(close(file(c"d/f", b"")));
    for path in [c"d/f", c"./d/f", c"d//f", c"d/./f", c"d/../d/f", c".//d/.//f"] {
        works!(close(works!(openat(AT_FDCWD, path, O_RDONLY))));
    }
    fails!(openat(AT_FDCWD, c"d/f/.", O_RDONLY) => ENOTDIR);
    fails!(openat(AT_FDCWD, c"d/f/..", O_RDONLY) => ENOTDIR);
    fails!(openat(AT_FDCWD, c"d/missing/..", O_RDONLY) => ENOENT);
    works!(openat(AT_FDCWD, c"/..", O_RDONLY));
    let (root, above) = (stat_of(c"/"), stat_of(c"/../.."));
    eq!((root.st_ino, root.st_dev), (above.st_ino, above.st_dev));
    works!(openat(AT_FDCWD, c"d/", O_RDONLY));
    // Names are bytes.
    let odd = c"\xff\xfe \n\t*";
    works!(close(file(odd, b"")));
    gives!(unlink(odd) => 0);
}

fn long_names() {
    let name = |length: usize| CString::new(vec![b'n'; length]).unwrap_or_default();
    works!(close(file(&name(255), b"")));
    fails!(openat(AT_FDCWD, &*name(256), O_WRONLY | O_CREAT, 0o644) => ENAMETOOLONG);
    fails!(mkdir(&*name(256), 0o755) => ENAMETOOLONG);
    fails!(stat(&*name(256), &mut zeroed::<stat>()) => ENAMETOOLONG);
    fails!(symlink(c"x", &*name(256)) => ENAMETOOLONG);
    fails!(rename(&*name(255), &*name(256)) => ENAMETOOLONG);
    let path = |length: usize| {
        CString::new("./".repeat(length / 2 - 1) + &"x".repeat(length % 2 + 2)[..length % 2 + 2]).unwrap_or_default()
    };
    works!(close(file(c"xxx", b"")));
    // 4095 bytes and the zero at the end are what a path may have.
    eq!(path(4095).to_bytes().len(), 4095);
    works!(openat(AT_FDCWD, &*path(4095), O_RDONLY));
    fails!(openat(AT_FDCWD, &*path(4096), O_RDONLY) => ENAMETOOLONG);
    fails!(symlink(&*path(4096), c"link") => ENAMETOOLONG);
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

fn statfs_tells() {
    let mut statfs: statfs = zeroed();
    gives!(statfs(c".", &mut statfs) => 0);
    is!(statfs.f_bsize > 0 && statfs.f_namelen >= 255, "a block size and a length of names");
    is!(statfs.f_blocks >= statfs.f_bfree && statfs.f_bfree >= statfs.f_bavail, "blocks in order");
    gives!(fstatfs(file(c"file", b""), &mut statfs) => 0);
    gives!(statfs(c"/proc", &mut statfs) => 0);
    eq!(statfs.f_type, PROC_SUPER_MAGIC);
    let (reader, _writer) = pipe();
    gives!(fstatfs(reader, &mut statfs) => 0);
    eq!(statfs.f_type, 0x5049_5045);
    fails!(statfs(c"missing", &mut statfs) => ENOENT);
    fails!(statfs(c".", BAD) => EFAULT);
    fails!(fstatfs(-1, &mut statfs) => EBADF);
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

fn umask_of_threads_and_children() {
    gives!(umask(0o077) => 0o022);
    in_child(|| {
        gives!(umask(0o007) => 0o077);
    });
    gives!(umask(0o022) => 0o077);
    is!(contents("/proc/self/status").contains("Umask:\t0022\n"), "status to tell it");
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

fn atime_and_noatime() {
    let fd = works!(openat(AT_FDCWD, c"file", O_RDWR | O_CREAT | O_NOATIME, 0o644));
    gives!(write(fd, b"text", 4) => 4);
    let past = [timespec { tv_sec: 1000, tv_nsec: 0 }; 2];
    gives!(utimensat(fd, 0, &past, 0) => 0);
    gives!(pread64(fd, &mut [0u8; 4], 4, 0) => 4);
    eq!(stat_of(c"file").st_atime, 1000);
}

fn file_handles() {
    works!(close(file(c"file", b"text")));
    let mut handle = [0u32; 34];
    let mut mount = 0i32;
    handle[0] = 128;
    match sys!(name_to_handle_at(AT_FDCWD, c"file", &mut handle, &mut mount, 0)) {
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => skip!("the scratch directory's file system has no handles"),
        other => crate::check::must_give("name_to_handle_at", other, 0),
    }
    let needed = handle[0];
    handle[0] = 0;
    fails!(name_to_handle_at(AT_FDCWD, c"file", &mut handle, &mut mount, 0) => EOVERFLOW);
    eq!(handle[0], needed);
    gives!(name_to_handle_at(AT_FDCWD, c"file", &mut handle, &mut mount, 0) => 0);
    fails!(name_to_handle_at(AT_FDCWD, c"file", BAD, &mut mount, 0) => EFAULT);
    let fd = match sys!(open_by_handle_at(AT_FDCWD, &handle, O_RDONLY)) {
        Err(Errno::EPERM) => skip!("opening by handle needs CAP_DAC_READ_SEARCH"),
        other => crate::check::must_work("open_by_handle_at", other),
    };
    let mut buffer = [0u8; 4];
    gives!(read(fd, &mut buffer, 4) => 4);
    eq!(&buffer, b"text");
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
