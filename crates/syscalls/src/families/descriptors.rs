//! Descriptors: dup, fcntl, ioctl, locks of the three kinds, leases, owners, memfd and its seals.

use super::prelude::*;

tests!("descriptors":
    dup_takes_the_lowest, dup2_and_dup3, dup_shares_the_open_file, fcntl_dupfd, descriptor_flags, status_flags, fcntl_arguments,
    tables_are_copied_by_fork, pipe_size, fionread_and_fionbio, ioctl_arguments, owner_of_signals, sigio_comes,
    limit_of_descriptors, flock_shared_and_exclusive, flock_blocks, flock_belongs_to_the_open_file, posix_locks_conflict,
    posix_locks_split_and_merge, posix_locks_arguments, posix_locks_go_at_close, posix_locks_wait, posix_deadlock, ofd_locks,
    locks_show, leases, unwatched_directories, memfd, memfd_seals, memfd_seal_of_writes, fd_links,
);

fn dup_takes_the_lowest() {
    let fd = file(c"file", b"");
    let copy = works!(dup(fd));
    is!(copy > fd, "the next free one");
    works!(close(fd));
    gives!(dup(copy) => fd);
    fails!(dup(fd + 100) => EBADF);
    fails!(dup(-1) => EBADF);
}

fn dup2_and_dup3() {
    let fd = file(c"file", b"text");
    gives!(dup2(fd, 50) => 50);
    gives!(dup2(fd, fd) => fd);
    fails!(dup2(99, 99) => EBADF);
    fails!(dup2(99, 50) => EBADF);
    gives!(fcntl(50, F_GETFD) => 0);
    fails!(dup2(fd, -1) => EBADF);
    fails!(dup2(fd, i32::MAX) => EBADF);
    fails!(dup3(fd, fd, 0) => EINVAL);
    fails!(dup3(fd, 51, 0x1) => EINVAL);
    fails!(dup3(99, 51, 0) => EBADF);
    gives!(dup3(fd, 51, O_CLOEXEC) => 51);
    gives!(fcntl(51, F_GETFD) => FD_CLOEXEC);
    // What was there is closed in silence: the other end of the pipe sees it.
    let (reader, writer) = pipe();
    gives!(dup2(fd, writer) => writer);
    gives!(read(reader, &mut [0u8; 1], 1) => 0);
    let mut byte = [0u8];
    gives!(read(writer, &mut byte, 1) => 1);
    eq!(byte[0], b't');
}

fn dup_shares_the_open_file() {
    let fd = file(c"file", b"0123456789");
    let copy = works!(dup(fd));
    gives!(lseek(fd, 4, SEEK_SET) => 4);
    gives!(lseek(copy, 0, SEEK_CUR) => 4);
    gives!(fcntl(copy, F_SETFL, O_APPEND | O_NONBLOCK) => 0);
    eq!(works!(fcntl(fd, F_GETFL)) as c_int & (O_APPEND | O_NONBLOCK), O_APPEND | O_NONBLOCK);
    gives!(fcntl(fd, F_SETFD, FD_CLOEXEC) => 0);
    gives!(fcntl(copy, F_GETFD) => 0);
    let other = works!(openat(AT_FDCWD, c"file", O_RDWR));
    eq!(works!(fcntl(other, F_GETFL)) as c_int & O_APPEND, 0);
}

fn fcntl_dupfd() {
    let fd = file(c"file", b"");
    gives!(fcntl(fd, F_DUPFD, 40) => 40);
    gives!(fcntl(fd, F_DUPFD, 40) => 41);
    gives!(fcntl(fd, F_DUPFD_CLOEXEC, 40) => 42);
    gives!(fcntl(42, F_GETFD) => FD_CLOEXEC);
    fails!(fcntl(fd, F_DUPFD, -1) => EINVAL);
    fails!(fcntl(fd, F_DUPFD, i32::MAX) => EINVAL);
    fails!(fcntl(99, F_DUPFD, 0) => EBADF);
    in_child(|| {
        gives!(setrlimit(RLIMIT_NOFILE, &rlimit { rlim_cur: 45, rlim_max: 45 }) => 0);
        gives!(fcntl(fd, F_DUPFD, 44) => 44);
        fails!(fcntl(fd, F_DUPFD, 44) => EMFILE);
        fails!(fcntl(fd, F_DUPFD, 45) => EINVAL);
        fails!(dup2(fd, 45) => EBADF);
        gives!(dup2(fd, 44) => 44);
    });
}

fn descriptor_flags() {
    let fd = file(c"file", b"");
    gives!(fcntl(fd, F_GETFD) => 0);
    gives!(fcntl(fd, F_SETFD, FD_CLOEXEC) => 0);
    gives!(fcntl(fd, F_GETFD) => FD_CLOEXEC);
    gives!(fcntl(fd, F_SETFD, !FD_CLOEXEC) => 0);
    gives!(fcntl(fd, F_GETFD) => 0);
    gives!(ioctl(fd, FIOCLEX) => 0);
    gives!(fcntl(fd, F_GETFD) => FD_CLOEXEC);
    gives!(ioctl(fd, FIONCLEX) => 0);
    gives!(fcntl(fd, F_GETFD) => 0);
}

fn status_flags() {
    let fd = works!(openat(AT_FDCWD, c"file", O_WRONLY | O_CREAT | O_TRUNC | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o644));
    // What only concerns the opening is not kept.
    eq!(works!(fcntl(fd, F_GETFL)) as c_int & !0o100_000, O_WRONLY | O_NOFOLLOW);
    gives!(fcntl(fd, F_SETFL, O_RDWR | O_APPEND | O_CREAT) => 0);
    eq!(works!(fcntl(fd, F_GETFL)) as c_int & (O_ACCMODE | O_APPEND | O_CREAT), O_WRONLY | O_APPEND);
    let (reader, writer) = pipe();
    eq!(works!(fcntl(reader, F_GETFL)) as c_int & O_ACCMODE, O_RDONLY);
    eq!(works!(fcntl(writer, F_GETFL)) as c_int & O_ACCMODE, O_WRONLY);
    gives!(fcntl(reader, F_SETFL, O_NONBLOCK) => 0);
    fails!(read(reader, &mut [0u8; 1], 1) => EAGAIN);
    eq!(works!(fcntl(writer, F_GETFL)) as c_int & O_NONBLOCK, 0);
}

fn fcntl_arguments() {
    let fd = file(c"file", b"");
    fails!(fcntl(fd, 9999) => EINVAL);
    fails!(fcntl(-1, F_GETFD) => EBADF);
    fails!(fcntl(999, F_GETFL) => EBADF);
    fails!(fcntl(fd, F_SETLK, BAD) => EFAULT);
    fails!(fcntl(fd, F_GETLK, BAD) => EFAULT);
    let path = works!(openat(AT_FDCWD, c"file", O_PATH));
    fails!(fcntl(path, F_SETFL, 0) => EBADF);
    works!(fcntl(path, F_DUPFD, 0));
}

fn tables_are_copied_by_fork() {
    let fd = file(c"file", b"0123");
    in_child(|| {
        gives!(lseek(fd, 2, SEEK_SET) => 2);
        gives!(fcntl(fd, F_SETFD, FD_CLOEXEC) => 0);
        works!(dup2(fd, 60));
        works!(close(fd));
    });
    gives!(lseek(fd, 0, SEEK_CUR) => 2);
    gives!(fcntl(fd, F_GETFD) => 0);
    fails!(fcntl(60, F_GETFD) => EBADF);
}

fn pipe_size() {
    let (reader, writer) = pipe();
    gives!(fcntl(writer, F_GETPIPE_SZ) => 65536);
    gives!(fcntl(writer, F_SETPIPE_SZ, 5000) => 8192);
    gives!(fcntl(reader, F_GETPIPE_SZ) => 8192);
    gives!(fcntl(writer, F_SETPIPE_SZ, 1) => 4096);
    gives!(write(writer, &[1u8; 4096], 4096) => 4096);
    gives!(fcntl(writer, F_SETPIPE_SZ, 16384) => 16384);
    gives!(write(writer, &[1u8; 4096], 4096) => 4096);
    fails!(fcntl(writer, F_SETPIPE_SZ, 4096) => EBUSY);
    fails!(fcntl(file(c"file", b""), F_GETPIPE_SZ) => EBADF);
    fails!(fcntl(writer, F_SETPIPE_SZ, u32::MAX) => EINVAL);
}

fn fionread_and_fionbio() {
    let (reader, writer) = pipe();
    let mut count = -1i32;
    gives!(ioctl(reader, FIONREAD, &mut count) => 0);
    eq!(count, 0);
    gives!(write(writer, b"hello", 5) => 5);
    gives!(ioctl(reader, FIONREAD, &mut count) => 0);
    eq!(count, 5);
    gives!(ioctl(reader, FIONBIO, &1i32) => 0);
    eq!(works!(fcntl(reader, F_GETFL)) as c_int & O_NONBLOCK, O_NONBLOCK);
    gives!(ioctl(reader, FIONBIO, &0i32) => 0);
    eq!(works!(fcntl(reader, F_GETFL)) as c_int & O_NONBLOCK, 0);
    fails!(ioctl(reader, FIONREAD, BAD) => EFAULT);
    fails!(ioctl(reader, FIONBIO, BAD) => EFAULT);
    let fd = file(c"file", b"0123456789");
    gives!(lseek(fd, 3, SEEK_SET) => 3);
    gives!(ioctl(fd, FIONREAD, &mut count) => 0);
    eq!(count, 7);
}

fn ioctl_arguments() {
    let fd = file(c"file", b"");
    fails!(ioctl(fd, TCGETS, BAD) => ENOTTY);
    fails!(ioctl(fd, 0xdead_beefu32, 0) => ENOTTY);
    fails!(ioctl(-1, FIONREAD, 0) => EBADF);
    let (reader, _writer) = pipe();
    fails!(ioctl(reader, TIOCGWINSZ, BAD) => ENOTTY);
}

fn owner_of_signals() {
    let (reader, _writer) = pipe();
    gives!(fcntl(reader, F_GETOWN) => 0);
    gives!(fcntl(reader, F_SETOWN, process::id()) => 0);
    gives!(fcntl(reader, F_GETOWN) => process::id());
    // A group is a negative number; as raw values, small ones look like errors only below 4096.
    let mut owner = [0i32; 2];
    gives!(fcntl(reader, F_GETOWN_EX, &mut owner) => 0);
    eq!(owner, [1, process::id()]);
    gives!(fcntl(reader, F_SETOWN_EX, &[2i32, works!(getpgrp()) as i32]) => 0);
    gives!(fcntl(reader, F_GETOWN_EX, &mut owner) => 0);
    eq!(owner, [2, works!(getpgrp()) as i32]);
    fails!(fcntl(reader, F_SETOWN_EX, &[9i32, 0]) => EINVAL);
    fails!(fcntl(reader, F_SETOWN, 0x3f_ffff) => ESRCH);
    gives!(fcntl(reader, F_GETSIG) => 0);
    gives!(fcntl(reader, F_SETSIG, SIGUSR1) => 0);
    gives!(fcntl(reader, F_GETSIG) => SIGUSR1);
    fails!(fcntl(reader, F_SETSIG, 65) => EINVAL);
}

const F_GETOWN_EX: c_int = 16;
const F_SETOWN_EX: c_int = 15;
pub(super) const F_SETSIG: c_int = 10;
const F_GETSIG: c_int = 11;

fn sigio_comes() {
    let (reader, writer) = pipe();
    signal::on(SIGIO, SA_RESTART);
    gives!(fcntl(reader, F_SETOWN, process::id()) => 0);
    gives!(fcntl(reader, F_SETFL, O_ASYNC | O_NONBLOCK) => 0);
    gives!(write(writer, b"x", 1) => 1);
    until(|| signal::count() >= 1);
    eq!(signal::caught()[0], SIGIO);
    // A signal of one's choice tells the descriptor.
    signal::forget();
    signal::on(SIGRTMIN(), SA_RESTART);
    gives!(fcntl(reader, F_SETSIG, SIGRTMIN()) => 0);
    gives!(read(reader, &mut [0u8; 1], 1) => 1);
    gives!(write(writer, b"x", 1) => 1);
    until(|| signal::count() >= 1);
    let record = signal::records()[0];
    eq!((record.signal, record.code), (SIGRTMIN(), POLL_IN));
}

const POLL_IN: c_int = 1;

fn limit_of_descriptors() {
    let mut limit = rlimit { rlim_cur: 0, rlim_max: 0 };
    gives!(getrlimit(RLIMIT_NOFILE, &mut limit) => 0);
    is!(limit.rlim_cur >= 64, "room for 64 descriptors");
    in_child(|| {
        let high = works!(dup2(works!(openat(AT_FDCWD, c".", O_RDONLY)), 40));
        gives!(setrlimit(RLIMIT_NOFILE, &rlimit { rlim_cur: 10, rlim_max: limit.rlim_max }) => 0);
        // What is open stays.
        gives!(fcntl(high, F_GETFD) => 0);
        fails!(dup2(high, 10) => EBADF);
        gives!(dup2(high, 9) => 9);
    });
}

fn flock_shared_and_exclusive() {
    let one = file(c"file", b"");
    let two = works!(openat(AT_FDCWD, c"file", O_RDONLY));
    gives!(flock(one, LOCK_SH) => 0);
    gives!(flock(two, LOCK_SH | LOCK_NB) => 0);
    fails!(flock(one, LOCK_EX | LOCK_NB) => EAGAIN);
    gives!(flock(two, LOCK_UN) => 0);
    // The attempt gave up the shared lock before it failed: Linux doesn't convert in one step.
    gives!(flock(one, LOCK_EX | LOCK_NB) => 0);
    fails!(flock(two, LOCK_SH | LOCK_NB) => EAGAIN);
    fails!(flock(two, LOCK_EX | LOCK_NB) => EAGAIN);
    gives!(flock(one, LOCK_SH) => 0);
    gives!(flock(two, LOCK_SH | LOCK_NB) => 0);
    fails!(flock(one, 0) => EINVAL);
    fails!(flock(one, LOCK_SH | LOCK_EX) => EINVAL);
    fails!(flock(-1, LOCK_SH) => EBADF);
    fails!(flock(works!(openat(AT_FDCWD, c"file", O_PATH)), LOCK_SH) => EBADF);
    gives!(flock(works!(openat(AT_FDCWD, c".", O_RDONLY)), LOCK_EX) => 0);
}

fn flock_blocks() {
    let fd = file(c"file", b"");
    gives!(flock(fd, LOCK_EX) => 0);
    let waiting = child(|| {
        let fd = works!(openat(AT_FDCWD, c"file", O_RDONLY));
        gives!(flock(fd, LOCK_EX) => 0);
    });
    until_asleep(waiting);
    gives!(flock(fd, LOCK_UN) => 0);
    join(waiting);
    gives!(flock(fd, LOCK_EX) => 0);
    in_child(|| {
        let fd = works!(openat(AT_FDCWD, c"file", O_RDONLY));
        signal::tick(false);
        fails!(flock(fd, LOCK_EX) => EINTR);
    });
}

fn flock_belongs_to_the_open_file() {
    let fd = file(c"file", b"");
    let copy = works!(dup(fd));
    let other = works!(openat(AT_FDCWD, c"file", O_RDONLY));
    gives!(flock(fd, LOCK_EX) => 0);
    gives!(flock(copy, LOCK_EX | LOCK_NB) => 0);
    works!(close(fd));
    fails!(flock(other, LOCK_EX | LOCK_NB) => EAGAIN);
    // A child has the same open file, and may unlock it.
    in_child(|| {
        gives!(flock(copy, LOCK_UN) => 0);
    });
    gives!(flock(other, LOCK_EX | LOCK_NB) => 0);
    works!(close(other));
    gives!(flock(copy, LOCK_EX | LOCK_NB) => 0);
}

fn range(kind: c_int, start: i64, length: i64) -> flock {
    flock { l_type: kind as i16, l_whence: SEEK_SET as i16, l_start: start, l_len: length, l_pid: 0 }
}

/// Whether another process could have this lock: None if so, else kind, start, length and holder of what is in the way.
fn in_the_way(fd: usize, kind: c_int, start: i64, length: i64) -> Option<(c_int, i64, i64, c_int)> {
    let map = works!(mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    in_child(|| {
        let lock = range(kind, start, length);
        put(map, &to_bytes(&lock));
        gives!(fcntl(fd, F_GETLK, map) => 0);
    });
    let lock: flock = from_bytes(&bytes_at(map, size_of::<flock>()))?;
    (lock.l_type != F_UNLCK as i16).then_some((lock.l_type.into(), lock.l_start, lock.l_len, lock.l_pid))
}

fn posix_locks_conflict() {
    let fd = file(c"file", b"0123456789");
    let own = process::id();
    gives!(fcntl(fd, F_SETLK, &range(F_WRLCK, 2, 4)) => 0);
    eq!(in_the_way(fd, F_WRLCK, 0, 2), None);
    eq!(in_the_way(fd, F_RDLCK, 5, 10), Some((F_WRLCK, 2, 4, own)));
    eq!(in_the_way(fd, F_RDLCK, 6, 0), None);
    in_child(|| {
        fails!(fcntl(fd, F_SETLK, &range(F_WRLCK, 0, 0)) => EAGAIN);
        fails!(fcntl(fd, F_SETLK, &range(F_RDLCK, 5, 1)) => EAGAIN);
        gives!(fcntl(fd, F_SETLK, &range(F_WRLCK, 6, 1)) => 0);
        // To unlock what another has changes nothing.
        gives!(fcntl(fd, F_SETLK, &range(F_UNLCK, 0, 0)) => 0);
    });
    eq!(in_the_way(fd, F_WRLCK, 2, 1), Some((F_WRLCK, 2, 4, own)));
    // One's own locks are never in the way, and change their kind.
    let mut mine = range(F_WRLCK, 0, 0);
    gives!(fcntl(fd, F_GETLK, &mut mine) => 0);
    eq!(mine.l_type, F_UNLCK as i16);
    gives!(fcntl(fd, F_SETLK, &range(F_RDLCK, 2, 4)) => 0);
    eq!(in_the_way(fd, F_RDLCK, 2, 4), None);
    eq!(in_the_way(fd, F_WRLCK, 0, 0), Some((F_RDLCK, 2, 4, own)));
}

fn posix_locks_split_and_merge() {
    let fd = file(c"file", b"");
    let own = process::id();
    gives!(fcntl(fd, F_SETLK, &range(F_WRLCK, 0, 100)) => 0);
    gives!(fcntl(fd, F_SETLK, &range(F_UNLCK, 40, 20)) => 0);
    eq!(in_the_way(fd, F_WRLCK, 0, 0), Some((F_WRLCK, 0, 40, own)));
    eq!(in_the_way(fd, F_WRLCK, 40, 20), None);
    eq!(in_the_way(fd, F_WRLCK, 40, 0), Some((F_WRLCK, 60, 40, own)));
    gives!(fcntl(fd, F_SETLK, &range(F_RDLCK, 10, 5)) => 0);
    eq!(in_the_way(fd, F_RDLCK, 10, 5), None);
    eq!(in_the_way(fd, F_RDLCK, 10, 6), Some((F_WRLCK, 15, 25, own)));
    gives!(fcntl(fd, F_SETLK, &range(F_WRLCK, 10, 60)) => 0);
    eq!(in_the_way(fd, F_WRLCK, 50, 1), Some((F_WRLCK, 0, 100, own)));
    // To the end, however far it moves.
    gives!(fcntl(fd, F_SETLK, &range(F_WRLCK, 50, 0)) => 0);
    eq!(in_the_way(fd, F_WRLCK, 1 << 40, 1), Some((F_WRLCK, 0, 0, own)));
    // A negative length reaches backwards.
    gives!(fcntl(fd, F_SETLK, &range(F_UNLCK, 0, 0)) => 0);
    gives!(fcntl(fd, F_SETLK, &range(F_WRLCK, 10, -4)) => 0);
    eq!(in_the_way(fd, F_WRLCK, 0, 0), Some((F_WRLCK, 6, 4, own)));
    // From the end, and from where we are.
    gives!(fcntl(fd, F_SETLK, &range(F_UNLCK, 0, 0)) => 0);
    gives!(ftruncate(fd, 1000) => 0);
    gives!(lseek(fd, 200, SEEK_SET) => 200);
    gives!(fcntl(fd, F_SETLK, &flock { l_whence: SEEK_END as i16, ..range(F_WRLCK, -10, 5) }) => 0);
    eq!(in_the_way(fd, F_WRLCK, 0, 0), Some((F_WRLCK, 990, 5, own)));
    gives!(fcntl(fd, F_SETLK, &flock { l_whence: SEEK_CUR as i16, ..range(F_WRLCK, 1, 1) }) => 0);
    eq!(in_the_way(fd, F_WRLCK, 0, 0), Some((F_WRLCK, 201, 1, own)));
}

fn posix_locks_arguments() {
    let fd = file(c"file", b"");
    let reading = works!(openat(AT_FDCWD, c"file", O_RDONLY));
    let writing = works!(openat(AT_FDCWD, c"file", O_WRONLY));
    fails!(fcntl(reading, F_SETLK, &range(F_WRLCK, 0, 1)) => EBADF);
    fails!(fcntl(writing, F_SETLK, &range(F_RDLCK, 0, 1)) => EBADF);
    gives!(fcntl(writing, F_SETLK, &range(F_UNLCK, 0, 1)) => 0);
    fails!(fcntl(fd, F_SETLK, &range(9, 0, 1)) => EINVAL);
    fails!(fcntl(fd, F_GETLK, &mut range(F_UNLCK, 0, 1)) => EINVAL);
    fails!(fcntl(fd, F_SETLK, &range(F_WRLCK, -1, 1)) => EINVAL);
    fails!(fcntl(fd, F_SETLK, &range(F_WRLCK, 2, -3)) => EINVAL);
    fails!(fcntl(fd, F_SETLK, &range(F_WRLCK, i64::MAX, 2)) => EOVERFLOW);
    fails!(fcntl(fd, F_SETLK, &flock { l_whence: 9, ..range(F_WRLCK, 0, 1) }) => EINVAL);
}

fn posix_locks_go_at_close() {
    let fd = file(c"file", b"");
    gives!(fcntl(fd, F_SETLK, &range(F_WRLCK, 0, 0)) => 0);
    // A child inherits none.
    in_child(|| {
        fails!(fcntl(fd, F_SETLK, &range(F_WRLCK, 0, 0)) => EAGAIN);
    });
    // Closing any descriptor of the file takes them all: the well-known trap.
    works!(close(works!(openat(AT_FDCWD, c"file", O_RDONLY))));
    eq!(in_the_way(fd, F_WRLCK, 0, 0), None);
    // And so does the end of the process.
    in_child(|| {
        gives!(fcntl(fd, F_SETLK, &range(F_WRLCK, 0, 0)) => 0);
    });
    eq!(in_the_way(fd, F_WRLCK, 0, 0), None);
}

fn posix_locks_wait() {
    let fd = file(c"file", b"");
    gives!(fcntl(fd, F_SETLK, &range(F_WRLCK, 0, 10)) => 0);
    let step = shared_word();
    let waiting = child(|| {
        gives!(fcntl(fd, F_SETLKW, &range(F_RDLCK, 5, 1)) => 0);
        step.store(1, SeqCst);
    });
    until_asleep(waiting);
    gives!(fcntl(fd, F_SETLK, &range(F_UNLCK, 0, 5)) => 0);
    eq!(step.load(SeqCst), 0);
    gives!(fcntl(fd, F_SETLK, &range(F_RDLCK, 0, 10)) => 0);
    join(waiting);
    gives!(fcntl(fd, F_SETLK, &range(F_WRLCK, 0, 10)) => 0);
    in_child(|| {
        signal::tick(false);
        fails!(fcntl(fd, F_SETLKW, &range(F_RDLCK, 5, 1)) => EINTR);
    });
}

fn posix_deadlock() {
    let fd = file(c"file", b"");
    gives!(fcntl(fd, F_SETLK, &range(F_WRLCK, 0, 1)) => 0);
    let step = shared_word();
    let other = child(|| {
        gives!(fcntl(fd, F_SETLK, &range(F_WRLCK, 1, 1)) => 0);
        step.store(1, SeqCst);
        gives!(fcntl(fd, F_SETLKW, &range(F_WRLCK, 0, 1)) => 0);
    });
    until_is(step, 1);
    until_asleep(other);
    fails!(fcntl(fd, F_SETLKW, &range(F_WRLCK, 1, 1)) => EDEADLK);
    gives!(fcntl(fd, F_SETLK, &range(F_UNLCK, 0, 1)) => 0);
    join(other);
}

fn ofd_locks() {
    let one = file(c"file", b"");
    let two = works!(openat(AT_FDCWD, c"file", O_RDWR));
    gives!(fcntl(one, F_OFD_SETLK, &range(F_WRLCK, 0, 10)) => 0);
    // They belong to the open file: another of the same process conflicts, a duplicate doesn't.
    fails!(fcntl(two, F_OFD_SETLK, &range(F_RDLCK, 5, 1)) => EAGAIN);
    gives!(fcntl(works!(dup(one)), F_OFD_SETLK, &range(F_WRLCK, 5, 1)) => 0);
    let mut lock = range(F_WRLCK, 0, 0);
    gives!(fcntl(two, F_OFD_GETLK, &mut lock) => 0);
    eq!((lock.l_type, lock.l_start, lock.l_len, lock.l_pid), (F_WRLCK as i16, 0, 10, -1));
    fails!(fcntl(two, F_OFD_SETLK, &flock { l_pid: 1, ..range(F_RDLCK, 0, 1) }) => EINVAL);
    // They conflict with the other kind, and with a process's.
    fails!(fcntl(two, F_SETLK, &range(F_RDLCK, 0, 1)) => EAGAIN);
    // Closing another descriptor of the file doesn't matter.
    works!(close(works!(openat(AT_FDCWD, c"file", O_RDONLY))));
    fails!(fcntl(two, F_OFD_SETLK, &range(F_RDLCK, 5, 1)) => EAGAIN);
    in_child(|| {
        gives!(fcntl(one, F_OFD_SETLK, &range(F_UNLCK, 0, 0)) => 0);
    });
    gives!(fcntl(two, F_OFD_SETLK, &range(F_WRLCK, 0, 0)) => 0);
    let waiting = child(|| {
        gives!(fcntl(one, F_OFD_SETLKW, &range(F_WRLCK, 0, 1)) => 0);
    });
    until_asleep(waiting);
    works!(close(two));
    // The child has it too: its copy is of the same open file.
    gives!(kill(waiting, SIGKILL) => 0);
    eq!(wait(waiting), Status::Killed(SIGKILL));
}

fn locks_show() {
    let fd = file(c"file", b"");
    gives!(fcntl(fd, F_SETLK, &range(F_WRLCK, 3, 4)) => 0);
    let mut stat: stat = zeroed();
    gives!(fstat(fd, &mut stat) => 0);
    let wanted = format!("POSIX  ADVISORY  WRITE {} ", process::id());
    is!(contents("/proc/locks").lines().any(|line| line.contains(&wanted) && line.ends_with(" 3 6")), "/proc/locks to list it");
    is!(contents(&format!("/proc/self/fdinfo/{fd}")).contains("lock:\t"), "fdinfo to list it");
}

fn unwatched_directories() {
    const DN_ACCESS: u32 = 1;
    const DN_MULTISHOT: u32 = 1 << 31;
    // What isn't watched can be told to be watched no more.
    let fd = works!(openat(AT_FDCWD, c".", O_RDONLY));
    gives!(fcntl(fd, F_NOTIFY, 0) => 0);
    gives!(fcntl(fd, F_NOTIFY, DN_MULTISHOT) => 0);
    fails!(fcntl(file(c"file", b""), F_NOTIFY, DN_ACCESS) => ENOTDIR | EINVAL);
}

fn leases() {
    let fd = file(c"file", b"");
    signal::on(SIGIO, SA_RESTART);
    match sys!(fcntl(fd, F_SETLEASE, F_WRLCK)) {
        Err(Errno::EINVAL) => skip!("the scratch directory's file system has no leases"),
        other => crate::check::must_give("F_SETLEASE", other, 0),
    }
    gives!(fcntl(fd, F_GETLEASE) => F_WRLCK);
    let other = child(|| {
        fails!(openat(AT_FDCWD, c"file", O_RDONLY | O_NONBLOCK) => EAGAIN);
        works!(openat(AT_FDCWD, c"file", O_RDONLY));
    });
    until(|| signal::count() >= 1);
    gives!(fcntl(fd, F_SETLEASE, F_UNLCK) => 0);
    join(other);
    gives!(fcntl(fd, F_GETLEASE) => F_UNLCK);
}

fn memfd() {
    let fd = works!(memfd_create(c"a name", MFD_CLOEXEC));
    gives!(fcntl(fd, F_GETFD) => FD_CLOEXEC);
    gives!(write(fd, b"text", 4) => 4);
    let mut stat: stat = zeroed();
    gives!(fstat(fd, &mut stat) => 0);
    eq!((stat.st_mode & S_IFMT, stat.st_size, stat.st_nlink), (S_IFREG, 4, 0));
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
    eq!(link.display().to_string(), "/memfd:a name (deleted)");
    let map = works!(mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    poke(map, b'T');
    let mut byte = [0u8];
    gives!(pread64(fd, &mut byte, 1, 0) => 1);
    eq!(byte[0], b'T');
    fails!(memfd_create(c"x", 0x8000) => EINVAL);
    fails!(memfd_create(BAD, 0) => EFAULT);
    let long = std::ffi::CString::new(vec![b'x'; 250]).unwrap_or_default();
    fails!(memfd_create(&*long, 0) => EINVAL);
    works!(memfd_create(c"", 0));
    fails!(fcntl(pipe().0, F_GET_SEALS) => EINVAL);
}

fn memfd_seals() {
    let fd = works!(memfd_create(c"x", MFD_ALLOW_SEALING));
    gives!(ftruncate(fd, PAGE) => 0);
    gives!(fcntl(fd, F_GET_SEALS) => 0);
    gives!(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) => 0);
    fails!(ftruncate(fd, 10) => EPERM);
    gives!(ftruncate(fd, 2 * PAGE) => 0);
    gives!(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW) => 0);
    fails!(ftruncate(fd, 3 * PAGE) => EPERM);
    fails!(pwrite64(fd, b"x", 1, 2 * PAGE) => EPERM);
    gives!(pwrite64(fd, b"x", 1, 0) => 1);
    fails!(fallocate(fd, 0, 0, 3 * PAGE) => EPERM);
    gives!(fcntl(fd, F_GET_SEALS) => F_SEAL_SHRINK | F_SEAL_GROW);
    fails!(fcntl(fd, F_ADD_SEALS, 0x8000) => EINVAL);
    gives!(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL) => 0);
    fails!(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) => EPERM);
    // Without being asked for, sealing is sealed.
    let plain = works!(memfd_create(c"x", 0));
    gives!(fcntl(plain, F_GET_SEALS) => F_SEAL_SEAL);
    fails!(fcntl(plain, F_ADD_SEALS, F_SEAL_GROW) => EPERM);
    let reading = works!(openat(AT_FDCWD, &*std::ffi::CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default(), O_RDONLY));
    fails!(fcntl(reading, F_ADD_SEALS, F_SEAL_WRITE) => EPERM);
}

fn memfd_seal_of_writes() {
    let fd = works!(memfd_create(c"x", MFD_ALLOW_SEALING));
    gives!(write(fd, &[b'x'; PAGE], PAGE) => PAGE);
    let map = works!(mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    fails!(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) => EBUSY);
    gives!(munmap(map, PAGE) => 0);
    gives!(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) => 0);
    fails!(pwrite64(fd, b"y", 1, 0) => EPERM);
    fails!(mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) => EPERM);
    works!(mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
    let reading = works!(mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 0));
    fails!(mprotect(reading, PAGE, PROT_READ | PROT_WRITE) => EACCES);
    fails!(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE) => EPERM);
    // The seal for the future leaves the mappings that are there.
    let fd = works!(memfd_create(c"x", MFD_ALLOW_SEALING));
    gives!(ftruncate(fd, PAGE) => 0);
    let map = works!(mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    gives!(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) => 0);
    poke(map, 1);
    fails!(write(fd, b"y", 1) => EPERM);
    fails!(mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) => EPERM);
}

fn fd_links() {
    let target = |fd: usize| std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default().display().to_string();
    let fd = file(c"file", b"");
    eq!(target(fd), std::env::current_dir().unwrap_or_default().join("file").display().to_string());
    let (reader, writer) = pipe();
    let mut stat: stat = zeroed();
    gives!(fstat(reader, &mut stat) => 0);
    eq!(target(reader), format!("pipe:[{}]", stat.st_ino));
    eq!(target(writer), target(reader));
    let socket = works!(socket(AF_UNIX, SOCK_STREAM, 0));
    gives!(fstat(socket, &mut stat) => 0);
    eq!(target(socket), format!("socket:[{}]", stat.st_ino));
    eq!(target(works!(eventfd2(0, 0))), "anon_inode:[eventfd]");
    eq!(target(works!(epoll_create1(0))), "anon_inode:[eventpoll]");
    eq!(target(works!(timerfd_create(CLOCK_MONOTONIC, 0))), "anon_inode:[timerfd]");
    eq!(target(works!(signalfd4(-1, &0u64, 8, 0))), "anon_inode:[signalfd]");
    eq!(target(works!(inotify_init1(0))), "anon_inode:inotify");
    let info = contents(&format!("/proc/self/fdinfo/{fd}"));
    is!(info.starts_with("pos:\t0\nflags:\t0100002\n"), "place and flags: {info}");
    works!(lseek(fd, 77, SEEK_SET));
    is!(contents(&format!("/proc/self/fdinfo/{fd}")).starts_with("pos:\t77\n"), "the place to move");
    // Opened through the link, a pipe is the same pipe.
    let again =
        works!(openat(AT_FDCWD, &*std::ffi::CString::new(format!("/proc/self/fd/{writer}")).unwrap_or_default(), O_WRONLY));
    gives!(write(again, b"x", 1) => 1);
    gives!(read(reader, &mut [0u8; 1], 1) => 1);
    fails!(openat(AT_FDCWD, &*std::ffi::CString::new(format!("/proc/self/fd/{socket}")).unwrap_or_default(), O_RDWR) => ENXIO);
}
