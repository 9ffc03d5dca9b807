//! Memory: mmap, munmap, mprotect, and the faults they lead to; files in memory; copies after fork.

use super::prelude::*;

tests!("memory":
    anonymous_memory_is_zero, arguments_of_mmap, offsets_are_whole_pages, protection_is_asked_of_the_descriptor, fixed_replaces,
    noreplace_refuses, a_hint_is_taken_if_free, unmapping, unmapping_the_middle, a_mapping_outlives_its_descriptor, protect,
    protect_in_part, faults_tell_why, beyond_the_end_of_a_file_is_sigbus, truncation_takes_pages_away,
    truncation_of_memory_does_too, the_rest_of_the_last_page_is_zero, running_data_needs_exec, fresh_code_runs, shared_mapping_and_write_are_one,
    private_mapping_hides_writes, private_mapping_sees_writes_until_touched, shared_between_processes, copy_on_write_after_fork,
    grandchildren_share_what_is_shared, grows_down_and_guard, efault_on_unmapped_and_readonly,
    half_mapped_buffers_transfer_in_part, map_shared_validate, map_of_dev_zero, memory_of_a_pipe_can_not_be_mapped,
);

pub(super) const RW: i32 = PROT_READ | PROT_WRITE;

pub(super) const PRIVATE: i32 = MAP_PRIVATE | MAP_ANONYMOUS;

pub(super) const SHARED: i32 = MAP_SHARED | MAP_ANONYMOUS;

pub(super) const SEGV_MAPERR: i32 = 1;

pub(super) const SEGV_ACCERR: i32 = 2;

const BUS_ADRERR: i32 = 2;

pub(super) fn segv(code: i32, address: usize) -> Fault {
    Fault { signal: SIGSEGV, code, address }
}

fn anonymous_memory_is_zero() {
    let map = works!(mmap(0, 3 * PAGE, RW, PRIVATE, -1, 0));
    eq!(map % PAGE, 0);
    is!(bytes_at(map, PAGE).iter().all(|byte| *byte == 0), "the first page to be zero");
    eq!(peek(map + 3 * PAGE - 1), 0);
    poke(map, 7);
    poke(map + 3 * PAGE - 1, 8);
    eq!((peek(map), peek(map + 3 * PAGE - 1)), (7, 8));
    // The descriptor and the offset are ignored for anonymous memory; the offset must be whole pages all the same.
    works!(mmap(0, PAGE, RW, PRIVATE, 9999, 0));
    works!(mmap(0, PAGE, RW, PRIVATE, -1, PAGE));
    works!(mmap(0, 1, PROT_NONE, PRIVATE | MAP_NORESERVE, -1, 0));
}

fn arguments_of_mmap() {
    let fd = file(c"file", b"x");
    fails!(mmap(0, 0, RW, PRIVATE, -1, 0) => EINVAL);
    fails!(mmap(0, PAGE, RW, MAP_ANONYMOUS, -1, 0) => EINVAL);
    fails!(mmap(0, PAGE, RW, MAP_PRIVATE, -1, 0) => EBADF);
    fails!(mmap(0, PAGE, RW, MAP_PRIVATE, 9999, 0) => EBADF);
    fails!(mmap(0, 0, RW, MAP_PRIVATE, fd, 0) => EINVAL);
    fails!(mmap(0, usize::MAX, RW, PRIVATE, -1, 0) => ENOMEM);
    fails!(mmap(0, usize::MAX - 2 * PAGE, RW, PRIVATE, -1, 0) => ENOMEM);
    fails!(mmap(0, 1usize << 47, PROT_NONE, PRIVATE | MAP_NORESERVE, -1, 0) => ENOMEM);
    fails!(mmap(PAGE + 1, PAGE, RW, PRIVATE | MAP_FIXED, -1, 0) => EINVAL);
    fails!(mmap(1usize << 62, PAGE, RW, PRIVATE | MAP_FIXED, -1, 0) => ENOMEM);
    let directory = works!(openat(AT_FDCWD, c".", O_RDONLY | O_DIRECTORY));
    fails!(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, directory, 0) => ENODEV);
}

fn offsets_are_whole_pages() {
    let fd = file(c"file", &[b'a'; 3 * PAGE]);
    gives!(pwrite64(fd, b"b", 1, PAGE) => 1);
    fails!(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 1) => EINVAL);
    fails!(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 512) => EINVAL);
    let map = works!(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, PAGE));
    eq!((peek(map), peek(map + 1)), (b'b', b'a'));
    // An offset whose end overflows.
    fails!(mmap(0, 2 * PAGE, PROT_READ, MAP_PRIVATE, fd, -4096i64) => EOVERFLOW);
}

fn protection_is_asked_of_the_descriptor() {
    works!(close(file(c"file", b"contents")));
    let reading = works!(openat(AT_FDCWD, c"file", O_RDONLY));
    let writing = works!(openat(AT_FDCWD, c"file", O_WRONLY));
    let path = works!(openat(AT_FDCWD, c"file", O_PATH));
    works!(mmap(0, PAGE, PROT_READ, MAP_SHARED, reading, 0));
    works!(mmap(0, PAGE, RW, MAP_PRIVATE, reading, 0));
    fails!(mmap(0, PAGE, RW, MAP_SHARED, reading, 0) => EACCES);
    fails!(mmap(0, PAGE, PROT_WRITE, MAP_SHARED, writing, 0) => EACCES);
    fails!(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, writing, 0) => EACCES);
    fails!(mmap(0, PAGE, PROT_NONE, MAP_PRIVATE, writing, 0) => EACCES);
    fails!(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, path, 0) => EBADF);
    let map = works!(mmap(0, PAGE, PROT_READ, MAP_SHARED, reading, 0));
    fails!(mprotect(map, PAGE, RW) => EACCES);
    let map = works!(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, reading, 0));
    gives!(mprotect(map, PAGE, RW) => 0);
}

fn fixed_replaces() {
    let map = pages(3);
    put(map, b"one");
    put(map + PAGE, b"two");
    put(map + 2 * PAGE, b"three");
    gives!(mmap(map + PAGE, PAGE, RW, PRIVATE | MAP_FIXED, -1, 0) => map + PAGE);
    eq!(peek(map + PAGE), 0);
    eq!(bytes_at(map, 3), b"one");
    eq!(bytes_at(map + 2 * PAGE, 5), b"three");
}

fn noreplace_refuses() {
    let map = pages(3);
    poke(map, 5);
    gives!(munmap(map + PAGE, PAGE) => 0);
    fails!(mmap(map, PAGE, RW, PRIVATE | MAP_FIXED_NOREPLACE, -1, 0) => EEXIST);
    fails!(mmap(map + PAGE, 2 * PAGE, RW, PRIVATE | MAP_FIXED_NOREPLACE, -1, 0) => EEXIST);
    eq!(peek(map), 5);
    gives!(mmap(map + PAGE, PAGE, RW, PRIVATE | MAP_FIXED_NOREPLACE, -1, 0) => map + PAGE);
    fails!(mmap(map + 1, PAGE, RW, PRIVATE | MAP_FIXED_NOREPLACE, -1, 0) => EINVAL);
}

fn a_hint_is_taken_if_free() {
    let map = pages(4);
    gives!(munmap(map, 4 * PAGE) => 0);
    gives!(mmap(map + PAGE, PAGE, RW, PRIVATE, -1, 0) => map + PAGE);
    is!(works!(mmap(map + PAGE, PAGE, RW, PRIVATE, -1, 0)) != map + PAGE, "a taken hint to lead elsewhere");
    let low = works!(mmap(0, PAGE, RW, PRIVATE | MAP_32BIT, -1, 0));
    is!(low < 1 << 31, "MAP_32BIT to give an address below 2 GiB, not {low:#x}");
}

fn unmapping() {
    let map = pages(2);
    gives!(munmap(map, 2 * PAGE) => 0);
    eq!(read_at(map), Err(segv(SEGV_MAPERR, map)));
    // What isn't mapped may be unmapped.
    gives!(munmap(map, 2 * PAGE) => 0);
    fails!(munmap(map + 1, PAGE) => EINVAL);
    fails!(munmap(map, 0) => EINVAL);
    fails!(munmap(map, usize::MAX) => EINVAL);
    // Beyond every address space, also one of five levels.
    fails!(munmap(1usize << 57, PAGE) => EINVAL);
    // A length is rounded up.
    let map = pages(2);
    gives!(munmap(map, 1) => 0);
    is!(read_at(map + PAGE - 1).is_err(), "the whole page to be gone");
    eq!(peek(map + PAGE), 0);
    // All there is: nothing can go on after that.
    let victim = child(|| {
        let _ = sys!(munmap(0, (1usize << 47) - PAGE));
    });
    eq!(wait(victim), Status::Killed(SIGSEGV));
}

fn unmapping_the_middle() {
    let map = pages(5);
    for page in 0..5 {
        poke(map + page * PAGE, page as u8 + 1);
    }
    gives!(munmap(map + PAGE, 3 * PAGE) => 0);
    eq!((peek(map), peek(map + 4 * PAGE)), (1, 5));
    for page in 1..4 {
        eq!(read_at(map + page * PAGE), Err(segv(SEGV_MAPERR, map + page * PAGE)));
    }
}

fn a_mapping_outlives_its_descriptor() {
    let fd = file(c"file", b"still here");
    let map = works!(mmap(0, PAGE, RW, MAP_SHARED, fd, 0));
    works!(close(fd));
    gives!(unlinkat(AT_FDCWD, c"file", 0) => 0);
    eq!(bytes_at(map, 10), b"still here");
    poke(map, b'S');
    eq!(peek(map), b'S');
}

fn protect() {
    let map = pages(1);
    poke(map, 9);
    gives!(mprotect(map, PAGE, PROT_READ) => 0);
    eq!(peek(map), 9);
    eq!(write_at(map, 1), Err(segv(SEGV_ACCERR, map)));
    gives!(mprotect(map, PAGE, PROT_NONE) => 0);
    eq!(read_at(map), Err(segv(SEGV_ACCERR, map)));
    gives!(mprotect(map, PAGE, RW) => 0);
    eq!(peek(map), 9);
    fails!(mprotect(map + 1, PAGE, RW) => EINVAL);
    fails!(mprotect(map, PAGE, 0x40) => EINVAL);
    fails!(mprotect(map, PAGE, PROT_GROWSDOWN | PROT_GROWSUP) => EINVAL);
    fails!(mprotect(map, PAGE, RW | PROT_GROWSDOWN) => EINVAL);
    gives!(mprotect(map, 0, PROT_NONE) => 0);
    eq!(peek(map), 9);
    fails!(mprotect(map, usize::MAX - PAGE, RW) => ENOMEM);
}

fn protect_in_part() {
    let map = pages(4);
    gives!(munmap(map + 2 * PAGE, PAGE) => 0);
    // What lies before the hole is changed all the same.
    fails!(mprotect(map, 4 * PAGE, PROT_READ) => ENOMEM);
    eq!(write_at(map, 1), Err(segv(SEGV_ACCERR, map)));
    eq!(write_at(map + PAGE, 1), Err(segv(SEGV_ACCERR, map + PAGE)));
    eq!(write_at(map + 3 * PAGE, 1), Ok(()));
    // One page in the middle.
    let map = pages(3);
    gives!(mprotect(map + PAGE, PAGE, PROT_NONE) => 0);
    eq!((write_at(map, 1), write_at(map + 2 * PAGE, 1)), (Ok(()), Ok(())));
    eq!(read_at(map + PAGE + 17), Err(segv(SEGV_ACCERR, map + PAGE + 17)));
}

fn faults_tell_why() {
    eq!(read_at(0), Err(segv(SEGV_MAPERR, 0)));
    eq!(write_at(0x123, 1), Err(segv(SEGV_MAPERR, 0x123)));
    // An address that is none (not canonical) comes without itself: a general protection fault.
    eq!(read_at(1 << 62), Err(Fault { signal: SIGSEGV, code: 0x80, address: 0 }));
    let map = works!(mmap(0, PAGE, PROT_NONE, PRIVATE, -1, 0));
    eq!(write_at(map + 5, 1), Err(segv(SEGV_ACCERR, map + 5)));
    // Blocked or ignored, it kills all the same: there is no going on.
    for ignore in [false, true] {
        let victim = child(|| {
            let _ = sys!(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
            let _ = read_at(map);
            if ignore {
                signal::ignore(SIGSEGV);
            } else {
                signal::block(&[SIGSEGV]);
            }
            let _ = read_at(map);
        });
        eq!(wait(victim), Status::Killed(SIGSEGV));
    }
}

fn beyond_the_end_of_a_file_is_sigbus() {
    let fd = file(c"file", b"short");
    let map = works!(mmap(0, 3 * PAGE, RW, MAP_SHARED, fd, 0));
    eq!(peek(map + PAGE - 1), 0);
    eq!(read_at(map + PAGE), Err(Fault { signal: SIGBUS, code: BUS_ADRERR, address: map + PAGE }));
    eq!(write_at(map + 2 * PAGE + 3, 1), Err(Fault { signal: SIGBUS, code: BUS_ADRERR, address: map + 2 * PAGE + 3 }));
    // As a buffer it is EFAULT.
    let (reader, writer) = pipe();
    fails!(write(writer, map + PAGE, 10) => EFAULT);
    gives!(ftruncate(fd, 2 * PAGE) => 0);
    eq!(read_at(map + PAGE), Ok(0));
    gives!(write(writer, map + PAGE, 10) => 10);
    works!(close(reader));
}

fn truncation_takes_pages_away() {
    truncate_under_maps(file(c"file", &[b'x'; 2 * PAGE]));
}

fn truncation_of_memory_does_too() {
    let fd = works!(memfd_create(c"file", 0));
    gives!(write(fd, &[b'x'; 2 * PAGE], 2 * PAGE) => 2 * PAGE);
    truncate_under_maps(fd);
}

fn truncate_under_maps(fd: usize) {
    let shared = works!(mmap(0, 2 * PAGE, RW, MAP_SHARED, fd, 0));
    let private = works!(mmap(0, 2 * PAGE, RW, MAP_PRIVATE, fd, 0));
    poke(private + PAGE, b'p');
    gives!(ftruncate(fd, 10) => 0);
    eq!(read_at(shared + PAGE).map_err(|fault| fault.signal), Err(SIGBUS));
    // Private copies go as well.
    eq!(read_at(private + PAGE).map_err(|fault| fault.signal), Err(SIGBUS));
    eq!((peek(shared + 9), peek(shared + 10)), (b'x', 0));
    gives!(ftruncate(fd, 2 * PAGE) => 0);
    eq!((peek(shared + 9), peek(shared + 10), peek(shared + PAGE)), (b'x', 0, 0));
}

fn the_rest_of_the_last_page_is_zero() {
    let fd = file(c"file", b"abc");
    let map = works!(mmap(0, PAGE, RW, MAP_SHARED, fd, 0));
    is!(bytes_at(map + 3, 100).iter().all(|byte| *byte == 0), "zeros after the end");
    // What is written there never reaches the file.
    poke(map + 3, b'!');
    gives!(msync(map, PAGE, MS_SYNC) => 0);
    let mut buffer = [0u8; 16];
    gives!(pread64(fd, &mut buffer, 16, 0) => 3);
    let mut stat: stat = zeroed();
    gives!(fstat(fd, &mut stat) => 0);
    eq!(stat.st_size, 3);
}

const RETURN: u8 = 0xc3;

fn running_data_needs_exec() {
    let map = pages(1);
    poke(map, RETURN);
    eq!(memory::run_at(map), Err(segv(SEGV_ACCERR, map)));
    gives!(munmap(map, PAGE) => 0);
    eq!(memory::run_at(map), Err(segv(SEGV_MAPERR, map)));
}

fn fresh_code_runs() {
    let map = pages(1);
    poke(map, RETURN);
    gives!(mprotect(map, PAGE, PROT_READ | PROT_EXEC) => 0);
    eq!(memory::run_at(map), Ok(()));
    eq!(write_at(map, 0x90), Err(segv(SEGV_ACCERR, map)));
    gives!(mprotect(map, PAGE, RW | PROT_EXEC) => 0);
    // Code that changes is run as it is now: nop, return.
    put(map, &[0x90, RETURN]);
    eq!(memory::run_at(map), Ok(()));
    put(map, &[0xf4, RETURN]);
    eq!(memory::run_at(map + 1), Ok(()));
    let fd = file(c"code", &[RETURN]);
    let code = works!(mmap(0, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0));
    eq!(memory::run_at(code), Ok(()));
}

fn shared_mapping_and_write_are_one() {
    let fd = file(c"file", &[b'.'; PAGE]);
    let map = works!(mmap(0, PAGE, RW, MAP_SHARED, fd, 0));
    let again = works!(mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 0));
    gives!(pwrite64(fd, b"written", 7, 100) => 7);
    eq!(bytes_at(map + 100, 7), b"written");
    put(map + 200, b"stored");
    eq!(bytes_at(again + 200, 6), b"stored");
    let mut buffer = [0u8; 6];
    gives!(pread64(fd, &mut buffer, 6, 200) => 6);
    eq!(&buffer, b"stored");
    let other = works!(openat(AT_FDCWD, c"file", O_RDWR));
    gives!(pread64(other, &mut buffer, 6, 200) => 6);
    eq!(&buffer, b"stored");
    // A buffer that is the file's own mapping.
    gives!(pread64(fd, map + 300, 6, 200) => 6);
    eq!(bytes_at(again + 300, 6), b"stored");
    gives!(pwrite64(fd, map + 200, 6, 400) => 6);
    eq!(bytes_at(map + 400, 6), b"stored");
}

fn private_mapping_hides_writes() {
    let fd = file(c"file", b"original");
    let map = works!(mmap(0, PAGE, RW, MAP_PRIVATE, fd, 0));
    put(map, b"changed!");
    let mut buffer = [0u8; 8];
    gives!(pread64(fd, &mut buffer, 8, 0) => 8);
    eq!(&buffer, b"original");
    gives!(pwrite64(fd, b"OTHER", 5, 0) => 5);
    eq!(bytes_at(map, 8), b"changed!");
}

/// What some copy at once when a page of a file is written, in bytes.
const PIECE: usize = 64 << 10;

fn private_mapping_sees_writes_until_touched() {
    let fd = file(c"file", &[b'-'; 2 * PAGE]);
    // Both pages in one aligned piece: who copies by pieces does so wherever the mapping would have come to lie.
    let room = works!(mmap(0, 2 * PIECE, PROT_NONE, PRIVATE, -1, 0));
    let map = works!(mmap(room.next_multiple_of(PIECE), 2 * PAGE, RW, MAP_PRIVATE | MAP_FIXED, fd, 0));
    eq!((peek(map), peek(map + PAGE)), (b'-', b'-'));
    poke(map + 1, b'!');
    gives!(pwrite64(fd, b"A", 1, 0) => 1);
    gives!(pwrite64(fd, b"B", 1, PAGE) => 1);
    // Unspecified by the manual page; on Linux a page that was only read still is the file's.
    eq!((peek(map), peek(map + PAGE)), (b'-', b'B'));
}

fn shared_between_processes() {
    let map = works!(mmap(0, PAGE, RW, SHARED, -1, 0));
    let word = word_at(map);
    let child = child(|| {
        until_is(word, 1);
        word.store(2, SeqCst);
    });
    word.store(1, SeqCst);
    until_is(word, 2);
    join(child);
    let fd = file(c"file", &[0; PAGE]);
    let map = works!(mmap(0, PAGE, RW, MAP_SHARED, fd, 0));
    in_child(|| {
        let fd = works!(openat(AT_FDCWD, c"file", O_RDWR));
        let map = works!(mmap(0, PAGE, RW, MAP_SHARED, fd, 0));
        put(map, b"from the child");
    });
    eq!(bytes_at(map, 14), b"from the child");
}

fn copy_on_write_after_fork() {
    let map = pages(4);
    put(map, b"before");
    let step = shared_word();
    let child = child(|| {
        until_is(step, 1);
        eq!(bytes_at(map, 6), b"before");
        eq!(peek(map + PAGE), 0);
        put(map + 2 * PAGE, b"child");
        // The kernel writes to a copy too.
        let fd = file(c"file", b"kernel");
        gives!(pread64(fd, map + 3 * PAGE, 6, 0) => 6);
        step.store(2, SeqCst);
        until_is(step, 3);
        eq!(bytes_at(map + 2 * PAGE, 5), b"child");
    });
    put(map, b"after!");
    put(map + PAGE, b"parent");
    step.store(1, SeqCst);
    until_is(step, 2);
    eq!((peek(map + 2 * PAGE), peek(map + 3 * PAGE)), (0, 0));
    put(map + 2 * PAGE, b"mine!");
    step.store(3, SeqCst);
    join(child);
    eq!(bytes_at(map, 6), b"after!");
}

fn grandchildren_share_what_is_shared() {
    let shared = works!(mmap(0, PAGE, RW, SHARED, -1, 0));
    let private = pages(1);
    in_child(|| {
        poke(private, 1);
        in_child(|| {
            eq!(peek(private), 1);
            poke(private, 2);
            poke(shared, 2);
            in_child(|| poke(shared + 1, peek(private) + 1));
        });
        eq!(peek(private), 1);
    });
    eq!((peek(shared), peek(shared + 1), peek(private)), (2, 3, 0));
}

fn grows_down_and_guard() {
    let room = pages(512);
    gives!(munmap(room, 512 * PAGE) => 0);
    let low = room + 400 * PAGE;
    gives!(mmap(low, PAGE, RW, PRIVATE | MAP_GROWSDOWN | MAP_FIXED, -1, 0) => low);
    eq!(write_at(low, 1), Ok(()));
    eq!(write_at(low - 1, 2), Ok(()));
    eq!(peek(low - 1), 2);
    eq!(peek(low - PAGE), 0);
}

fn efault_on_unmapped_and_readonly() {
    let fd = file(c"file", b"contents");
    let reading = works!(mmap(0, PAGE, PROT_READ, PRIVATE, -1, 0));
    let none = works!(mmap(0, PAGE, PROT_NONE, PRIVATE, -1, 0));
    for address in [BAD, none, reading, 1usize << 46, usize::MAX - PAGE] {
        fails!(pread64(fd, address, 8, 0) => EFAULT);
    }
    for address in [BAD, none, 1usize << 46, usize::MAX - PAGE] {
        fails!(pwrite64(fd, address, 8, 0) => EFAULT);
    }
    gives!(pwrite64(fd, reading, 8, 0) => 8);
    fails!(openat(AT_FDCWD, BAD, O_RDONLY) => EFAULT);
    fails!(openat(AT_FDCWD, none, O_RDONLY) => EFAULT);
    // A name that runs off the end of memory without an end of its own; and one that just fits.
    let name = edge(4);
    put(name, b"file");
    fails!(openat(AT_FDCWD, name, O_RDONLY) => EFAULT);
    let name = edge(5);
    put(name, b"file\0");
    works!(openat(AT_FDCWD, name, O_RDONLY));
    fails!(uname(edge(300)) => EFAULT);
    fails!(fstat(fd, edge(100)) => EFAULT);
    fails!(pipe2(edge(4), 0) => EFAULT);
}

fn half_mapped_buffers_transfer_in_part() {
    let fd = file(c"file", &[b'z'; 3 * PAGE]);
    let buffer = edge(PAGE);
    // A file gives what fits; Linux counts what could be copied.
    gives!(pread64(fd, buffer, 2 * PAGE, 0) => PAGE);
    eq!(peek(buffer + PAGE - 1), b'z');
    gives!(pwrite64(fd, buffer, 2 * PAGE, 0) => PAGE);
    // A second piece that can't be read from.
    let mut first = [b'1'; 4];
    let pieces = [piece(&mut first), piece_at(BAD, 4)];
    gives!(pwritev(fd, pieces.as_ptr(), 2, 0, 0) => 4);
    gives!(preadv(fd, pieces.as_ptr(), 2, 0, 0) => 4);
    let pieces = [piece_at(BAD, 4), piece(&mut first)];
    fails!(pwritev(fd, pieces.as_ptr(), 2, 0, 0) => EFAULT);
    fails!(writev(fd, BAD, 1) => EFAULT);
    gives!(pwritev(fd, BAD, 0, 0, 0) => 0);
    let (reader, writer) = pipe();
    let ten = edge(10);
    put(ten, b"0123456789");
    gives!(write(writer, ten, 10) => 10);
    fails!(read(reader, BAD, 5) => EFAULT);
    let mut rest = [0u8; 10];
    gives!(read(reader, &mut rest, 10) => 10);
    eq!(&rest, b"0123456789");
}

fn map_shared_validate() {
    let fd = file(c"file", b"x");
    works!(mmap(0, PAGE, PROT_READ, MAP_SHARED_VALIDATE, fd, 0));
    // Flags that mean nothing are refused, where MAP_SHARED ignores them.
    fails!(mmap(0, PAGE, PROT_READ, MAP_SHARED_VALIDATE | 0x0200_0000, fd, 0) => EOPNOTSUPP);
    works!(mmap(0, PAGE, PROT_READ, MAP_SHARED | 0x0200_0000, fd, 0));
}

fn map_of_dev_zero() {
    let fd = works!(openat(AT_FDCWD, c"/dev/zero", O_RDWR));
    let private = works!(mmap(0, PAGE, RW, MAP_PRIVATE, fd, 0));
    eq!(peek(private), 0);
    poke(private, 1);
    let shared = works!(mmap(0, PAGE, RW, MAP_SHARED, fd, 0));
    let other = works!(mmap(0, PAGE, RW, MAP_SHARED, fd, 0));
    poke(shared, 1);
    eq!(peek(other), 0);
    in_child(|| poke(shared, 2));
    eq!(peek(shared), 2);
    let null = works!(openat(AT_FDCWD, c"/dev/null", O_RDWR));
    fails!(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, null, 0) => ENODEV);
}

fn memory_of_a_pipe_can_not_be_mapped() {
    let (reader, _writer) = pipe();
    fails!(mmap(0, PAGE, PROT_READ, MAP_PRIVATE, reader, 0) => ENODEV);
    let event = works!(eventfd2(0, 0));
    fails!(mmap(0, PAGE, PROT_READ, MAP_SHARED, event, 0) => ENODEV);
    let socket = works!(socket(AF_UNIX, SOCK_STREAM, 0));
    fails!(mmap(0, PAGE, PROT_READ, MAP_SHARED, socket, 0) => ENODEV);
}
