//! Pipes and fifos, and moving data without a copy: splice, tee, vmsplice, sendfile, copy_file_range.

use super::prelude::*;

tests!("pipes":
    bytes_in_order, end_of_file, flags, full_and_empty, writes_up_to_pipe_buf_are_whole, partial_write_when_full,
    blocked_writer_goes_on, write_is_interrupted_in_part, packets, fifos_meet, fifos_without_blocking,
    readers_and_writers_come_and_go, splice_between, splice_arguments, splice_to_and_from_files, tee_copies,
    vmsplice_from_memory, sendfile_copies, sendfile_arguments, copy_file_range_copies, copy_file_range_arguments,
    vector_over_pipes,
);

fn bytes_in_order() {
    let (reader, writer) = pipe();
    gives!(write(writer, b"one", 3) => 3);
    gives!(write(writer, b"two", 3) => 3);
    let mut buffer = [0u8; 8];
    gives!(read(reader, &mut buffer, 4) => 4);
    eq!(&buffer[..4], b"onet");
    gives!(read(reader, &mut buffer, 8) => 2);
    eq!(&buffer[..2], b"wo");
    fails!(read(writer, &mut buffer, 1) => EBADF);
    fails!(write(reader, b"x", 1) => EBADF);
    fails!(pipe(BAD) => EFAULT);
    let mut ends = [0i32; 2];
    gives!(pipe(&mut ends) => 0);
    is!(ends[0] < ends[1], "the reading end first");
}

fn end_of_file() {
    let (reader, writer) = pipe();
    let copy = works!(dup(writer));
    gives!(write(writer, b"last", 4) => 4);
    works!(close(writer));
    let step = shared_word();
    let child = child(|| {
        works!(close(copy));
        let mut buffer = [0u8; 8];
        gives!(read(reader, &mut buffer, 8) => 4);
        step.store(1, SeqCst);
        gives!(read(reader, &mut buffer, 8) => 0);
        gives!(read(reader, &mut buffer, 8) => 0);
    });
    until_is(step, 1);
    until_asleep(child);
    works!(close(copy));
    join(child);
    gives!(read(reader, &mut [0u8; 1], 1) => 0);
}

fn flags() {
    let mut ends = [0i32; 2];
    gives!(pipe2(&mut ends, O_CLOEXEC | O_NONBLOCK) => 0);
    for end in ends {
        gives!(fcntl(end, F_GETFD) => FD_CLOEXEC);
        eq!(works!(fcntl(end, F_GETFL)) as c_int & O_NONBLOCK, O_NONBLOCK);
    }
    fails!(pipe2(&mut ends, O_APPEND) => EINVAL);
    fails!(pipe2(&mut ends, 0x1) => EINVAL);
}

fn nonblocking_pipe(size: usize) -> (usize, usize) {
    let mut ends = [0i32; 2];
    gives!(pipe2(&mut ends, O_NONBLOCK) => 0);
    gives!(fcntl(ends[1], F_SETPIPE_SZ, size) => size);
    (ends[0] as usize, ends[1] as usize)
}

fn full_and_empty() {
    let (reader, writer) = nonblocking_pipe(PAGE);
    let mut buffer = [b'x'; PAGE];
    fails!(read(reader, &mut buffer, 1) => EAGAIN);
    gives!(write(writer, &buffer, PAGE) => PAGE);
    fails!(write(writer, &buffer, 1) => EAGAIN);
    gives!(read(reader, &mut buffer, 1) => 1);
    // There is room for a byte, but not a buffer: room comes by whole pages.
    fails!(write(writer, &buffer, 1) => EAGAIN);
    gives!(read(reader, &mut buffer, PAGE) => PAGE - 1);
    gives!(write(writer, &buffer, 1) => 1);
    works!(close(writer));
    gives!(read(reader, &mut buffer, PAGE) => 1);
    gives!(read(reader, &mut buffer, PAGE) => 0);
}

fn writes_up_to_pipe_buf_are_whole() {
    let (reader, writer) = nonblocking_pipe(2 * PAGE);
    let mut buffer = [b'x'; 2 * PAGE];
    gives!(write(writer, &buffer, 5000) => 5000);
    // 3192 bytes of room: not for 4096 at once.
    fails!(write(writer, &buffer, 4096) => EAGAIN);
    gives!(read(reader, &mut buffer, 5000) => 5000);
    gives!(write(writer, &buffer, 4096) => 4096);
}

fn partial_write_when_full() {
    let (reader, writer) = nonblocking_pipe(2 * PAGE);
    let buffer = [b'x'; 4 * PAGE];
    gives!(write(writer, &buffer, 4 * PAGE) => 2 * PAGE);
    let mut count = 0i32;
    gives!(ioctl(reader, FIONREAD, &mut count) => 0);
    eq!(count as usize, 2 * PAGE);
    let mut poll = pollfd { fd: writer as c_int, events: POLLOUT, revents: 0 };
    gives!(poll(std::ptr::from_mut(&mut poll), 1, 0) => 0);
}

fn blocked_writer_goes_on() {
    let (reader, writer) = pipe();
    gives!(fcntl(writer, F_SETPIPE_SZ, PAGE) => PAGE);
    let child = child(|| {
        works!(close(reader));
        gives!(write(writer, &[b'y'; 5 * PAGE], 5 * PAGE) => 5 * PAGE);
    });
    works!(close(writer));
    until_asleep(child);
    let all = drain(reader);
    eq!(all.len(), 5 * PAGE);
    is!(all.iter().all(|byte| *byte == b'y'), "only what was written");
    join(child);
}

fn write_is_interrupted_in_part() {
    let (_reader, writer) = pipe();
    gives!(fcntl(writer, F_SETPIPE_SZ, PAGE) => PAGE);
    signal::tick(false);
    // What has been written is the result; only a write that did nothing fails.
    gives!(write(writer, &[b'y'; 2 * PAGE], 2 * PAGE) => PAGE);
    fails!(write(writer, b"y", 1) => EINTR);
    // With SA_RESTART as well: a part is a result.
    let (_other, writer) = pipe();
    gives!(fcntl(writer, F_SETPIPE_SZ, PAGE) => PAGE);
    signal::tick(true);
    gives!(write(writer, &[b'y'; 2 * PAGE], 2 * PAGE) => PAGE);
}

fn packets() {
    let mut ends = [0i32; 2];
    gives!(pipe2(&mut ends, O_DIRECT) => 0);
    gives!(write(ends[1], b"first", 5) => 5);
    gives!(write(ends[1], b"second", 6) => 6);
    let mut buffer = [0u8; 16];
    // A read takes one packet; what doesn't fit is lost.
    gives!(read(ends[0], &mut buffer, 3) => 3);
    eq!(&buffer[..3], b"fir");
    gives!(read(ends[0], &mut buffer, 16) => 6);
    eq!(&buffer[..6], b"second");
}

fn fifos_meet() {
    gives!(mknod(c"fifo", S_IFIFO | 0o600, 0) => 0);
    // An opening waits for the other side.
    let child = child(|| {
        let fd = works!(openat(AT_FDCWD, c"fifo", O_WRONLY));
        gives!(write(fd, b"hello", 5) => 5);
    });
    until_asleep(child);
    let fd = works!(openat(AT_FDCWD, c"fifo", O_RDONLY));
    eq!(drain(fd), b"hello");
    join(child);
    works!(close(fd));
    signal::tick(false);
    fails!(openat(AT_FDCWD, c"fifo", O_RDONLY) => EINTR);
    fails!(openat(AT_FDCWD, c"fifo", O_WRONLY) => EINTR);
}

fn fifos_without_blocking() {
    gives!(mknod(c"fifo", S_IFIFO | 0o600, 0) => 0);
    fails!(openat(AT_FDCWD, c"fifo", O_WRONLY | O_NONBLOCK) => ENXIO);
    let reader = works!(openat(AT_FDCWD, c"fifo", O_RDONLY | O_NONBLOCK));
    // Nobody has it open for writing: that is the end, not emptiness.
    gives!(read(reader, &mut [0u8; 1], 1) => 0);
    let writer = works!(openat(AT_FDCWD, c"fifo", O_WRONLY | O_NONBLOCK));
    fails!(read(reader, &mut [0u8; 1], 1) => EAGAIN);
    gives!(write(writer, b"x", 1) => 1);
    works!(close(reader));
    signal::ignore(SIGPIPE);
    fails!(write(writer, b"x", 1) => EPIPE);
    // Both ways at once never waits.
    let both = works!(openat(AT_FDCWD, c"fifo", O_RDWR));
    gives!(write(both, b"y", 1) => 1);
    let mut two = [0u8; 2];
    gives!(read(both, &mut two, 2) => 2);
    eq!(&two, b"xy");
    fails!(lseek(both, 0, SEEK_SET) => ESPIPE);
}

fn readers_and_writers_come_and_go() {
    gives!(mknod(c"fifo", S_IFIFO | 0o600, 0) => 0);
    let reader = works!(openat(AT_FDCWD, c"fifo", O_RDONLY | O_NONBLOCK));
    let mut poll = pollfd { fd: reader as c_int, events: POLLIN, revents: 0 };
    for byte in [b'a', b'b'] {
        let writer = works!(openat(AT_FDCWD, c"fifo", O_WRONLY));
        gives!(write(writer, &[byte], 1) => 1);
        works!(close(writer));
        gives!(poll(std::ptr::from_mut(&mut poll), 1, 0) => 1);
        eq!(poll.revents, POLLIN | POLLHUP);
        let mut got = [0u8];
        gives!(read(reader, &mut got, 1) => 1);
        eq!(got[0], byte);
        gives!(read(reader, &mut got, 1) => 0);
    }
    // All gone: what was in it goes with the last.
    let writer = works!(openat(AT_FDCWD, c"fifo", O_WRONLY));
    gives!(write(writer, b"lost", 4) => 4);
    works!(close(writer));
    works!(close(reader));
    let reader = works!(openat(AT_FDCWD, c"fifo", O_RDONLY | O_NONBLOCK));
    gives!(read(reader, &mut [0u8; 4], 4) => 0);
}

fn splice_between() {
    let (from, source) = pipe();
    let (sink, to) = pipe();
    gives!(write(source, b"0123456789", 10) => 10);
    gives!(splice(from, 0, to, 0, 4, 0) => 4);
    gives!(splice(from, 0, to, 0, 100, 0) => 6);
    let mut buffer = [0u8; 16];
    gives!(read(sink, &mut buffer, 16) => 10);
    eq!(&buffer[..10], b"0123456789");
    fails!(splice(from, 0, to, 0, 1, SPLICE_F_NONBLOCK) => EAGAIN);
    works!(close(source));
    gives!(splice(from, 0, to, 0, 1, 0) => 0);
}

fn splice_to_and_from_files() {
    let fd = file(c"file", b"0123456789");
    let (reader, writer) = pipe();
    let mut offset = 2i64;
    gives!(splice(fd, &mut offset, writer, 0, 4, 0) => 4);
    eq!(offset, 6);
    gives!(lseek(fd, 0, SEEK_CUR) => 0);
    gives!(splice(fd, 0, writer, 0, 2, 0) => 2);
    gives!(lseek(fd, 0, SEEK_CUR) => 2);
    let out = file(c"out", b"");
    let mut place = 3i64;
    gives!(splice(reader, 0, out, &mut place, 100, 0) => 6);
    eq!(place, 9);
    eq!(contents("out"), "\x00\x00\x00234501");
    gives!(lseek(fd, 0, SEEK_END) => 10);
    gives!(splice(fd, 0, writer, 0, 4, 0) => 0);
}

fn splice_arguments() {
    let fd = file(c"file", b"text");
    let other = file(c"other", b"");
    let (reader, writer) = pipe();
    fails!(splice(fd, 0, other, 0, 4, 0) => EINVAL);
    fails!(splice(-1, 0, writer, 0, 4, 0) => EBADF);
    fails!(splice(fd, 0, -1, 0, 4, 0) => EBADF);
    fails!(splice(fd, BAD, writer, 0, 4, 0) => EFAULT);
    fails!(splice(reader, &mut 0i64, other, 0, 4, 0) => ESPIPE);
    fails!(splice(writer, 0, other, 0, 4, 0) => EBADF);
    fails!(splice(fd, 0, reader, 0, 4, 0) => EBADF);
    fails!(splice(fd, 0, writer, 0, 4, 0x100) => EINVAL);
    gives!(splice(fd, 0, writer, 0, 0, 0) => 0);
    fails!(splice(reader, 0, writer, 0, 4, 0) => EINVAL);
    let append = works!(openat(AT_FDCWD, c"other", O_WRONLY | O_APPEND));
    gives!(write(writer, b"x", 1) => 1);
    fails!(splice(reader, 0, append, 0, 1, 0) => EINVAL);
}

fn tee_copies() {
    let (one, first) = pipe();
    let (two, second) = pipe();
    gives!(write(first, b"both", 4) => 4);
    gives!(tee(one, second, 100, 0) => 4);
    let mut buffer = [0u8; 8];
    gives!(read(one, &mut buffer, 8) => 4);
    gives!(read(two, &mut buffer, 8) => 4);
    eq!(&buffer[..4], b"both");
    fails!(tee(one, first, 1, 0) => EINVAL);
    fails!(tee(file(c"file", b""), second, 1, 0) => EINVAL | EBADF);
    fails!(tee(one, second, 1, SPLICE_F_NONBLOCK) => EAGAIN);
    fails!(tee(-1, second, 1, 0) => EBADF);
    fails!(tee(one, second, 1, 0x100) => EINVAL);
}

fn vmsplice_from_memory() {
    let (reader, writer) = pipe();
    let text = *b"from memory";
    let list = [piece_of(&text[..5]), piece_of(&text[5..])];
    gives!(vmsplice(writer, list.as_ptr(), 2, 0) => 11);
    let mut buffer = [0u8; 16];
    gives!(read(reader, &mut buffer, 16) => 11);
    eq!(&buffer[..11], b"from memory");
    fails!(vmsplice(file(c"file", b""), list.as_ptr(), 1, 0) => EBADF);
    fails!(vmsplice(writer, BAD, 1, 0) => EFAULT);
    fails!(vmsplice(writer, list.as_ptr(), 1025, 0) => EINVAL);
    fails!(vmsplice(-1, list.as_ptr(), 1, 0) => EBADF);
    gives!(vmsplice(writer, list.as_ptr(), 0, 0) => 0);
    // From a pipe into memory.
    gives!(write(writer, b"back", 4) => 4);
    let mut place = [0u8; 8];
    let into = [piece(&mut place)];
    gives!(vmsplice(reader, into.as_ptr(), 1, 0) => 4);
    eq!(&place[..4], b"back");
}

fn sendfile_copies() {
    let from = file(c"from", b"0123456789");
    let to = file(c"to", b"");
    gives!(sendfile(to, from, 0, 4) => 4);
    gives!(lseek(from, 0, SEEK_CUR) => 4);
    let mut offset = 8i64;
    gives!(sendfile(to, from, &mut offset, 100) => 2);
    eq!(offset, 10);
    gives!(lseek(from, 0, SEEK_CUR) => 4);
    eq!(contents("to"), "012389");
    gives!(sendfile(to, from, &mut offset, 100) => 0);
    let (reader, writer) = pipe();
    gives!(sendfile(writer, from, 0, 100) => 6);
    let mut buffer = [0u8; 8];
    gives!(read(reader, &mut buffer, 8) => 6);
    eq!(&buffer[..6], b"456789");
    let mut pair = [0i32; 2];
    works!(socketpair(AF_UNIX, SOCK_STREAM, 0, &mut pair));
    gives!(sendfile(pair[0], from, &mut 0i64, 3) => 3);
    gives!(read(pair[1], &mut buffer, 8) => 3);
}

fn sendfile_arguments() {
    let from = file(c"from", b"0123456789");
    let to = file(c"to", b"");
    let (reader, writer) = pipe();
    fails!(sendfile(-1, from, 0, 1) => EBADF);
    fails!(sendfile(to, -1, 0, 1) => EBADF);
    fails!(sendfile(works!(openat(AT_FDCWD, c"to", O_RDONLY)), from, 0, 1) => EBADF);
    fails!(sendfile(to, writer, 0, 1) => EBADF);
    fails!(sendfile(to, from, BAD, 1) => EFAULT);
    fails!(sendfile(to, from, &mut -1i64, 1) => EINVAL);
    fails!(sendfile(to, reader, &mut 0i64, 1) => ESPIPE);
    fails!(sendfile(works!(openat(AT_FDCWD, c"to", O_WRONLY | O_APPEND)), from, 0, 1) => EINVAL);
    gives!(sendfile(to, from, 0, 0) => 0);
}

fn copy_file_range_copies() {
    let from = file(c"from", b"0123456789");
    let to = file(c"to", b"");
    let (mut in_place, mut out_place) = (3i64, 1i64);
    match sys!(copy_file_range(from, &mut in_place, to, &mut out_place, 4, 0)) {
        Err(Errno::ENOSYS | Errno::EOPNOTSUPP) => skip!("no copy_file_range here"),
        other => crate::check::must_give("copy_file_range", other, 4),
    }
    eq!((in_place, out_place), (7, 5));
    eq!(contents("to"), "\x003456");
    gives!(copy_file_range(from, 0, to, 0, 2, 0) => 2);
    gives!(lseek(from, 0, SEEK_CUR) => 2);
    gives!(lseek(to, 0, SEEK_CUR) => 2);
    eq!(contents("to"), "01456");
    gives!(copy_file_range(from, &mut 10i64, to, 0, 2, 0) => 0);
    gives!(copy_file_range(from, &mut 0i64, from, &mut 5i64, 5, 0) => 5);
    eq!(contents("from"), "0123401234");
}

fn copy_file_range_arguments() {
    let from = file(c"from", b"0123456789");
    let to = file(c"to", b"");
    let (reader, _writer) = pipe();
    fails!(copy_file_range(from, 0, to, 0, 1, 1) => EINVAL);
    fails!(copy_file_range(-1, 0, to, 0, 1, 0) => EBADF);
    fails!(copy_file_range(from, 0, works!(openat(AT_FDCWD, c"to", O_RDONLY)), 0, 1, 0) => EBADF);
    fails!(copy_file_range(from, 0, works!(openat(AT_FDCWD, c"to", O_WRONLY | O_APPEND)), 0, 1, 0) => EBADF);
    fails!(copy_file_range(works!(openat(AT_FDCWD, c".", O_RDONLY)), 0, to, 0, 1, 0) => EISDIR);
    fails!(copy_file_range(reader, 0, to, 0, 1, 0) => EINVAL);
    fails!(copy_file_range(from, BAD, to, 0, 1, 0) => EFAULT);
    // Ranges of one file may not overlap.
    fails!(copy_file_range(from, &mut 0i64, from, &mut 2i64, 5, 0) => EINVAL);
}

fn vector_over_pipes() {
    let (reader, writer) = pipe();
    let list = [piece_of(b"ab"), piece_of(b""), piece_of(b"cde")];
    gives!(writev(writer, list.as_ptr(), 3) => 5);
    let (mut one, mut two) = ([0u8; 1], [0u8; 9]);
    let into = [piece(&mut one), piece(&mut two)];
    gives!(readv(reader, into.as_ptr(), 2) => 5);
    eq!((one[0], &two[..4]), (b'a', &b"bcde"[..]));
    let list = [piece_of(b"ab"), piece_at(BAD, 4)];
    // What can't be copied whole into the pipe's buffer is not written at all.
    fails!(writev(writer, list.as_ptr(), 2) => EFAULT);
    let mut count = 9i32;
    gives!(ioctl(reader, FIONREAD, &mut count) => 0);
    eq!(count, 0);
}
