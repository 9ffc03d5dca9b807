//! What is known of files: stat and statx, modes, owners, permissions, times, file systems.

use super::files::{absolute, mode, stat_of};
use super::prelude::*;

tests!("attributes":
    access_checks, stat_tells, fstatat_flags, statx_tells, statx_arguments, modes, owners, owners_and_set_id, permission_checks,
    sticky_directories, times_are_set, times_change, statfs_tells, umask_of_threads_and_children, atime_and_noatime,
);

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
    gives!(faccessat(AT_FDCWD, c"file", F_OK) => 0);
    fails!(faccessat(999, c"file", F_OK) => EBADF);
    gives!(faccessat2(AT_FDCWD, c"file", R_OK, AT_EACCESS) => 0);
    fails!(faccessat2(AT_FDCWD, c"file", R_OK, 0x1) => EINVAL);
    gives!(symlink(c"nowhere", c"dangling") => 0);
    fails!(faccessat2(AT_FDCWD, c"dangling", F_OK, 0) => ENOENT);
    gives!(faccessat2(AT_FDCWD, c"dangling", F_OK, AT_SYMLINK_NOFOLLOW) => 0);
    need_root();
    gives!(chmod(c"file", 0o001) => 0);
    gives!(access(c"file", X_OK) => 0);
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

fn umask_of_threads_and_children() {
    gives!(umask(0o077) => 0o022);
    in_child(|| {
        gives!(umask(0o007) => 0o077);
    });
    gives!(umask(0o022) => 0o077);
    is!(contents("/proc/self/status").contains("Umask:\t0022\n"), "status to tell it");
}

fn atime_and_noatime() {
    let fd = works!(openat(AT_FDCWD, c"file", O_RDWR | O_CREAT | O_NOATIME, 0o644));
    gives!(write(fd, b"text", 4) => 4);
    let past = [timespec { tv_sec: 1000, tv_nsec: 0 }; 2];
    gives!(utimensat(fd, 0, &past, 0) => 0);
    gives!(pread64(fd, &mut [0u8; 4], 4, 0) => 4);
    eq!(stat_of(c"file").st_atime, 1000);
}
