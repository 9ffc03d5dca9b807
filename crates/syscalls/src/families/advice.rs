//! What is said about memory, and asked of it: madvise, msync, mincore, mlock, limits, other processes' memory, sealing.

use super::memory::{PRIVATE, RW, SEGV_ACCERR, SEGV_MAPERR, SHARED, segv};
use super::prelude::*;

tests!("advice":
    dontneed_forgets, dontneed_of_a_file_reads_again, madvise_arguments, madvise_of_forks, wipe_on_fork, madvise_remove_punches,
    populate, msync_arguments, mincore_tells, mlock_arguments, mlock_limits, address_space_limit, data_limit, proc_maps_tells,
    proc_self_mem, process_vm, mseal_seals, pkeys,
);

fn dontneed_forgets() {
    let map = pages(3);
    for page in 0..3 {
        poke(map + page * PAGE, 7);
    }
    gives!(madvise(map + PAGE, PAGE, MADV_DONTNEED) => 0);
    eq!((peek(map), peek(map + PAGE), peek(map + 2 * PAGE)), (7, 0, 7));
    poke(map + PAGE, 8);
    eq!(peek(map + PAGE), 8);
    let shared = works!(mmap(0, PAGE, RW, SHARED, -1, 0));
    poke(shared, 7);
    gives!(madvise(shared, PAGE, MADV_DONTNEED) => 0);
    eq!(peek(shared), 7);
    // MADV_FREE: either still there or gone, and usable in any case.
    gives!(madvise(map, PAGE, MADV_FREE) => 0);
    is!(matches!(peek(map), 0 | 7), "the byte or zero");
    poke(map, 1);
    eq!(peek(map), 1);
}

fn dontneed_of_a_file_reads_again() {
    let fd = file(c"file", b"original");
    let map = works!(mmap(0, PAGE, RW, MAP_PRIVATE, fd, 0));
    put(map, b"changed!");
    gives!(madvise(map, PAGE, MADV_DONTNEED) => 0);
    eq!(bytes_at(map, 8), b"original");
}

fn madvise_arguments() {
    let map = pages(3);
    fails!(madvise(map + 1, PAGE, MADV_NORMAL) => EINVAL);
    fails!(madvise(map, PAGE, 9999) => EINVAL);
    fails!(madvise(map, usize::MAX - 2 * PAGE, MADV_NORMAL) => EINVAL);
    gives!(madvise(map, 0, MADV_DONTNEED) => 0);
    for advice in [MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_WILLNEED, MADV_DONTDUMP, MADV_DODUMP, MADV_COLD] {
        gives!(madvise(map, PAGE, advice) => 0);
    }
    gives!(munmap(map + PAGE, PAGE) => 0);
    poke(map + 2 * PAGE, 1);
    // A hole is an error, but what lies behind it is done too.
    fails!(madvise(map, 3 * PAGE, MADV_DONTNEED) => ENOMEM);
    eq!(peek(map + 2 * PAGE), 0);
    fails!(madvise(map, PAGE, MADV_REMOVE) => EINVAL);
    // Locked memory is not given up.
    gives!(mlock(map, PAGE) => 0);
    fails!(madvise(map, PAGE, MADV_DONTNEED) => EINVAL);
    gives!(munlock(map, PAGE) => 0);
}

fn madvise_of_forks() {
    let map = pages(2);
    put(map, b"kept");
    gives!(madvise(map + PAGE, PAGE, MADV_DONTFORK) => 0);
    in_child(|| {
        eq!(bytes_at(map, 4), b"kept");
        eq!(read_at(map + PAGE), Err(segv(SEGV_MAPERR, map + PAGE)));
    });
    gives!(madvise(map + PAGE, PAGE, MADV_DOFORK) => 0);
    in_child(|| eq!(peek(map + PAGE), 0));
}

fn wipe_on_fork() {
    let map = pages(2);
    put(map, b"secret");
    put(map + PAGE, b"public");
    gives!(madvise(map, PAGE, MADV_WIPEONFORK) => 0);
    in_child(|| {
        eq!(bytes_at(map, 6), [0; 6]);
        eq!(bytes_at(map + PAGE, 6), b"public");
    });
    eq!(bytes_at(map, 6), b"secret");
    let shared = works!(mmap(0, PAGE, RW, SHARED, -1, 0));
    fails!(madvise(shared, PAGE, MADV_WIPEONFORK) => EINVAL);
    gives!(madvise(map, PAGE, MADV_KEEPONFORK) => 0);
    in_child(|| eq!(bytes_at(map, 6), b"secret"));
}

fn madvise_remove_punches() {
    let fd = works!(memfd_create(c"removed", 0));
    gives!(ftruncate(fd, 2 * PAGE) => 0);
    let map = works!(mmap(0, 2 * PAGE, RW, MAP_SHARED, fd, 0));
    put(map, b"gone");
    put(map + PAGE, b"stays");
    gives!(madvise(map, PAGE, MADV_REMOVE) => 0);
    let mut buffer = [9u8; 4];
    gives!(pread64(fd, &mut buffer, 4, 0) => 4);
    eq!(buffer, [0; 4]);
    eq!(bytes_at(map + PAGE, 5), b"stays");
}

fn populate() {
    let map = works!(mmap(0, 2 * PAGE, RW, PRIVATE | MAP_POPULATE, -1, 0));
    let mut present = [0u8; 2];
    gives!(mincore(map, 2 * PAGE, &mut present) => 0);
    eq!(present.map(|page| page & 1), [1, 1]);
    let map = pages(2);
    gives!(madvise(map, 2 * PAGE, 23 /* MADV_POPULATE_WRITE */) => 0);
    gives!(mincore(map, 2 * PAGE, &mut present) => 0);
    eq!(present.map(|page| page & 1), [1, 1]);
    let reading = works!(mmap(0, PAGE, PROT_READ, PRIVATE, -1, 0));
    gives!(madvise(reading, PAGE, 22 /* MADV_POPULATE_READ */) => 0);
    // A protection that forbids it.
    fails!(madvise(reading, PAGE, 23) => EINVAL);
    let writing = works!(mmap(0, PAGE, PROT_WRITE, PRIVATE, -1, 0));
    fails!(madvise(writing, PAGE, 22) => EINVAL);
    // A page of one's own is made at once: what becomes of the file isn't seen any more.
    let fd = file(c"file", b"before");
    let map = works!(mmap(0, PAGE, RW, MAP_PRIVATE | MAP_POPULATE, fd, 0));
    gives!(pwrite64(fd, b"after!", 6, 0) => 6);
    eq!(bytes_at(map, 6), b"before");
}

fn msync_arguments() {
    let fd = file(c"file", b"contents");
    let map = works!(mmap(0, PAGE, RW, MAP_SHARED, fd, 0));
    poke(map, b'C');
    gives!(msync(map, PAGE, MS_SYNC) => 0);
    gives!(msync(map, PAGE, MS_ASYNC) => 0);
    gives!(msync(map, PAGE, MS_SYNC | MS_INVALIDATE) => 0);
    gives!(msync(map, 0, MS_SYNC) => 0);
    gives!(msync(map, PAGE, 0) => 0);
    fails!(msync(map, PAGE, MS_SYNC | MS_ASYNC) => EINVAL);
    fails!(msync(map, PAGE, 0x80) => EINVAL);
    fails!(msync(map + 1, PAGE, MS_SYNC) => EINVAL);
    fails!(msync(map, usize::MAX - 2 * PAGE, MS_SYNC) => ENOMEM);
    gives!(mlock(map, PAGE) => 0);
    fails!(msync(map, PAGE, MS_SYNC | MS_INVALIDATE) => EBUSY);
    gives!(munmap(map, PAGE) => 0);
    fails!(msync(map, PAGE, MS_SYNC) => ENOMEM);
}

fn mincore_tells() {
    let map = pages(3);
    poke(map + PAGE, 1);
    let mut present = [9u8; 3];
    gives!(mincore(map, 3 * PAGE, &mut present) => 0);
    eq!(present, [0, 1, 0]);
    fails!(mincore(map + 1, PAGE, &mut present) => EINVAL);
    fails!(mincore(map, PAGE, BAD) => EFAULT);
    fails!(mincore(map, usize::MAX / 2, &mut present) => ENOMEM);
    gives!(mincore(map, 0, BAD) => 0);
    gives!(munmap(map + 2 * PAGE, PAGE) => 0);
    fails!(mincore(map, 3 * PAGE, &mut present) => ENOMEM);
}

fn mlock_arguments() {
    let map = pages(3);
    gives!(mlock(map + 5, 10) => 0);
    let mut present = [0u8];
    gives!(mincore(map, PAGE, &mut present) => 0);
    eq!(present[0] & 1, 1);
    gives!(munlock(map, PAGE) => 0);
    gives!(mlock2(map, PAGE, 1 /* MLOCK_ONFAULT */) => 0);
    fails!(mlock2(map, PAGE, 2) => EINVAL);
    gives!(munmap(map + PAGE, PAGE) => 0);
    fails!(mlock(map, 3 * PAGE) => ENOMEM);
    fails!(munlock(map, 3 * PAGE) => ENOMEM);
    // Who has a limit meets that first.
    fails!(mlock(map, usize::MAX - 2 * PAGE) => EINVAL | ENOMEM);
    fails!(mlockall(0) => EINVAL);
    fails!(mlockall(0x80) => EINVAL);
    fails!(mlockall(MCL_ONFAULT) => EINVAL);
    gives!(mlockall(MCL_FUTURE | MCL_ONFAULT) => 0);
    gives!(munlockall() => 0);
}

fn mlock_limits() {
    need_root();
    let map = pages(4);
    gives!(setrlimit(RLIMIT_MEMLOCK, &rlimit { rlim_cur: 2 * PAGE as u64, rlim_max: 2 * PAGE as u64 }) => 0);
    // Without CAP_IPC_LOCK the limit counts.
    gives!(setresuid(1000, 1000, 1000) => 0);
    gives!(mlock(map, 2 * PAGE) => 0);
    fails!(mlock(map, 3 * PAGE) => ENOMEM);
    fails!(mmap(0, PAGE, RW, PRIVATE | MAP_LOCKED, -1, 0) => EAGAIN);
    gives!(munlock(map, 2 * PAGE) => 0);
    gives!(mlock(map + 2 * PAGE, 2 * PAGE) => 0);
    fails!(mlockall(MCL_CURRENT) => ENOMEM);
    gives!(munlockall() => 0);
    gives!(setrlimit(RLIMIT_MEMLOCK, &rlimit { rlim_cur: 0, rlim_max: 0 }) => 0);
    fails!(mlock(map, PAGE) => EPERM);
}

fn address_space_limit() {
    in_child(|| {
        let used = contents("/proc/self/statm").split(' ').next().and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
        let limit = (used + 64) * PAGE as u64;
        gives!(setrlimit(RLIMIT_AS, &rlimit { rlim_cur: limit, rlim_max: RLIM_INFINITY }) => 0);
        let map = works!(mmap(0, 32 * PAGE, PROT_NONE, PRIVATE, -1, 0));
        fails!(mmap(0, 64 * PAGE, PROT_NONE, PRIVATE | MAP_NORESERVE, -1, 0) => ENOMEM);
        fails!(mremap(map, 32 * PAGE, 128 * PAGE, MREMAP_MAYMOVE) => ENOMEM);
        gives!(munmap(map, 32 * PAGE) => 0);
        works!(mmap(0, 32 * PAGE, PROT_NONE, PRIVATE, -1, 0));
        let end = works!(brk(0));
        gives!(brk(end + 256 * PAGE) => end);
    });
}

fn data_limit() {
    in_child(|| {
        let end = works!(brk(0));
        // Not 0: with no bound on it from above, Linux takes that for none (a workaround for Valgrind).
        gives!(setrlimit(RLIMIT_DATA, &rlimit { rlim_cur: PAGE as u64, rlim_max: RLIM_INFINITY }) => 0);
        gives!(brk(end + 4 * PAGE) => end);
        // Since Linux 4.7 it holds for private writable mappings too.
        fails!(mmap(0, PAGE, RW, PRIVATE, -1, 0) => ENOMEM);
        works!(mmap(0, PAGE, PROT_READ, PRIVATE, -1, 0));
        works!(mmap(0, PAGE, RW, SHARED, -1, 0));
    });
}

fn proc_maps_tells() {
    let fd = file(c"mapped", &[b'm'; 2 * PAGE]);
    let map = works!(mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, PAGE));
    let cwd = std::env::current_dir().unwrap_or_default();
    let maps = contents("/proc/self/maps");
    let line = maps.lines().find(|line| line.starts_with(&format!("{map:x}-{:x} ", map + PAGE))).unwrap_or("").to_owned();
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    eq!(fields.get(1), Some(&"r--s"));
    eq!(fields.get(2), Some(&"00001000"));
    let mut stat: stat = zeroed();
    gives!(fstat(fd, &mut stat) => 0);
    let (inode, path) = (stat.st_ino.to_string(), cwd.join("mapped").display().to_string());
    eq!(fields.get(4), Some(&inode.as_str()));
    eq!(fields.get(5), Some(&path.as_str()));
    gives!(unlinkat(AT_FDCWD, c"mapped", 0) => 0);
    is!(contents("/proc/self/maps").contains(&format!("{path} (deleted)")), "the file's end to show");
    is!(maps.lines().any(|line| line.ends_with("[stack]")), "a line for the stack");
    let anonymous = works!(mmap(0, PAGE, PROT_READ | PROT_EXEC, PRIVATE, -1, 0));
    is!(contents("/proc/self/maps").lines().any(|line| line.contains(&format!("{:x} r-xp", anonymous + PAGE))), "its protection");
}

fn proc_self_mem() {
    let map = pages(1);
    put(map, b"memory");
    let fd = works!(openat(AT_FDCWD, c"/proc/self/mem", O_RDWR));
    let mut buffer = [0u8; 6];
    gives!(pread64(fd, &mut buffer, 6, map) => 6);
    eq!(&buffer, b"memory");
    gives!(munmap(map, PAGE) => 0);
    fails!(pread64(fd, &mut buffer, 6, map) => EIO);
}

fn process_vm() {
    let map = pages(2);
    put(map, b"theirs");
    let step = shared_word();
    let other = child(|| {
        put(map, b"CHILDS");
        step.store(1, SeqCst);
        until_is(step, 2);
        eq!(bytes_at(map + 8, 4), b"sent");
    });
    until_is(step, 1);
    let mut buffer = [0u8; 6];
    let (mine, remote) = (piece(&mut buffer), piece_at(map, 6));
    let (mine, remote) = (std::ptr::from_ref(&mine), std::ptr::from_ref(&remote));
    gives!(process_vm_readv(other, mine, 1, remote, 1, 0) => 6);
    eq!(&buffer, b"CHILDS");
    eq!(bytes_at(map, 6), b"theirs");
    let (sent, place) = (piece_of(b"sent"), piece_at(map + 8, 4));
    gives!(process_vm_writev(other, std::ptr::from_ref(&sent), 1, std::ptr::from_ref(&place), 1, 0) => 4);
    fails!(process_vm_readv(other, mine, 1, remote, 1, 1) => EINVAL);
    let nowhere = piece_at(BAD, 6);
    fails!(process_vm_readv(other, mine, 1, std::ptr::from_ref(&nowhere), 1, 0) => EFAULT);
    step.store(2, SeqCst);
    join(other);
    fails!(process_vm_readv(other, mine, 1, remote, 1, 0) => ESRCH);
}

fn mseal_seals() {
    let map = pages(2);
    if sys!(mseal(map, PAGE, 0)) == Err(Errno::ENOSYS) {
        skip!("no mseal (Linux 6.10)");
    }
    fails!(munmap(map, PAGE) => EPERM);
    fails!(mprotect(map, PAGE, PROT_READ) => EPERM);
    fails!(mremap(map, PAGE, 2 * PAGE, MREMAP_MAYMOVE) => EPERM);
    fails!(mmap(map, PAGE, RW, PRIVATE | MAP_FIXED, -1, 0) => EPERM);
    gives!(munmap(map + PAGE, PAGE) => 0);
    fails!(mseal(map, PAGE, 1) => EINVAL);
    fails!(mseal(map + PAGE, PAGE, 0) => ENOMEM);
}

fn pkeys() {
    let map = pages(1);
    fails!(pkey_alloc(1, 0) => EINVAL);
    fails!(pkey_mprotect(map, PAGE, RW, 99) => EINVAL);
    gives!(pkey_mprotect(map, PAGE, PROT_READ, -1) => 0);
    eq!(write_at(map, 1), Err(segv(SEGV_ACCERR, map)));
    fails!(pkey_free(99) => EINVAL);
}
