//! What runs out: descriptors, mappings, address space, pipes, signals, watches, queues. Who asks for one more is told so, and what gives some back
//! helps.

use super::prelude::*;

tests!("exhaustion":
    descriptors_of_every_kind, passed_descriptors_without_room, accepted_without_room, mappings_run_out, address_space_runs_out,
    more_than_there_is, pipes_of_a_user, instances_of_inotify, queued_signals, timers_count_as_signals, queues_of_a_user, semaphores,
    segments, size_of_files, room_for_arguments, stack_of_threads, full_tables_are_left_whole, locks_and_leases_need_no_room,
);

const RW: c_int = PROT_READ | PROT_WRITE;
const PRIVATE: c_int = MAP_PRIVATE | MAP_ANONYMOUS;

fn at_most(resource: u32, count: u64) {
    gives!(setrlimit(resource, &rlimit { rlim_cur: count, rlim_max: count }) => 0);
}

/// Opens descriptors until there is no room; which they are.
fn fill() -> Vec<usize> {
    std::iter::from_fn(|| sys!(dup(0)).ok()).collect()
}

fn descriptors_of_every_kind() {
    works!(close(file(c"file", b"text")));
    in_child(|| {
        at_most(RLIMIT_NOFILE, 64);
        let all = fill();
        is!(all.len() > 30, "most of 64 free at first");
        fails!(openat(AT_FDCWD, c"file", O_PATH) => EMFILE);
        fails!(openat(AT_FDCWD, c"new", O_RDWR | O_CREAT, 0o600) => EMFILE);
        fails!(openat(AT_FDCWD, c".", O_RDWR | O_TMPFILE, 0o600) => EMFILE);
        fails!(fcntl(0, F_DUPFD_CLOEXEC, 0) => EMFILE);
        fails!(fcntl(0, F_DUPFD, 64) => EINVAL);
        fails!(dup2(0, 64) => EBADF);
        fails!(dup3(0, 64, O_CLOEXEC) => EBADF);
        fails!(epoll_create1(0) => EMFILE);
        fails!(timerfd_create(CLOCK_MONOTONIC, 0) => EMFILE);
        fails!(signalfd4(-1, &0u64, 8, 0) => EMFILE);
        fails!(inotify_init1(0) => EMFILE);
        fails!(memfd_create(c"memory", 0) => EMFILE);
        fails!(eventfd2(0, 0) => EMFILE);
        fails!(pidfd_open(process::id(), 0) => EMFILE);
        fails!(socketpair(AF_UNIX, SOCK_STREAM, 0, &mut [0i32; 2]) => EMFILE);
        // Whether it made the file before it found no room isn't said; it is no descriptor's in any case.
        works!(close(all[0]));
        // One isn't enough for two, and isn't lost by the attempt.
        fails!(pipe2(&mut [0i32; 2], 0) => EMFILE);
        fails!(socketpair(AF_UNIX, SOCK_STREAM, 0, &mut [0i32; 2]) => EMFILE);
        gives!(epoll_create1(0) => all[0]);
        // One that is there can be replaced.
        gives!(dup2(0, all[1]) => all[1]);
    });
}

fn passed_descriptors_without_room() {
    in_child(|| {
        let mut ends = [0i32; 2];
        gives!(socketpair(AF_UNIX, SOCK_STREAM, 0, &mut ends) => 0);
        let space = [0u64; 4];
        let mut control = space;
        control[0] = 16 + 8;
        control[1] = u64::from(SCM_RIGHTS as u32) << 32 | SOL_SOCKET as u64;
        control[2] = 0; // Descriptor 0, twice.
        let mut byte = [b'x'];
        let mut part = iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
        let mut message: msghdr = zeroed();
        (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
        (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), 24);
        gives!(sendmsg(ends[0], &message, 0) => 1);
        at_most(RLIMIT_NOFILE, 40);
        let all = fill();
        works!(close(all[3]));
        let mut got = space;
        (message.msg_control, message.msg_controllen) = (got.as_mut_ptr().cast(), 32);
        gives!(recvmsg(ends[1], &mut message, 0) => 1);
        // As many as have room; that it weren't all is said.
        is!(message.msg_flags & MSG_CTRUNC != 0, "a word that some are missing");
        eq!((got[0], got[2] as u32 as usize), (16 + 4, all[3]));
    });
}

fn accepted_without_room() {
    in_child(|| {
        let listener = works!(socket(AF_UNIX, SOCK_STREAM, 0));
        let mut name = [0u8; 8];
        (name[0], name[3]) = (AF_UNIX as u8, b'q');
        gives!(bind(listener, &name, 8) => 0);
        gives!(listen(listener, 5) => 0);
        let client = works!(socket(AF_UNIX, SOCK_STREAM, 0));
        gives!(connect(client, &name, 8) => 0);
        at_most(RLIMIT_NOFILE, 40);
        let all = fill();
        fails!(accept4(listener, 0, 0, 0) => EMFILE);
        works!(close(all[0]));
        // Linux drops no connection for want of a descriptor.
        gives!(accept4(listener, 0, 0, SOCK_NONBLOCK) => all[0]);
    });
}

fn mappings_run_out() {
    in_child(|| {
        let most: usize = contents("/proc/sys/vm/max_map_count").trim().parse().unwrap_or(65530);
        if most > 70_000 {
            skip!("{most} mappings are too many to try");
        }
        let start = works!(mmap(0, 2 * most * PAGE, PROT_NONE, PRIVATE | MAP_NORESERVE, -1, 0));
        // Every other page is another area.
        let mut made = 0;
        let refused = loop {
            match sys!(mprotect(start + (2 * made + 1) * PAGE, PAGE, PROT_READ)) {
                Ok(_) => made += 1,
                Err(errno) => break errno,
            }
            is!(made <= most, "an end to it");
        };
        eq!(refused, Errno::ENOMEM);
        is!(made > most / 2 - 500, "about half of {most} to be made, not {made}");
        // There may be room for one or two, where the last change needed two.
        let more = (0..4).map(|_| sys!(mmap(0, PAGE, PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))).find(Result::is_err);
        eq!(more, Some(Err(Errno::ENOMEM)));
        // A hole would be one area more.
        fails!(munmap(start + 2 * made * PAGE + 4 * PAGE, PAGE) => ENOMEM);
        gives!(munmap(start, 100 * PAGE) => 0);
        works!(mmap(0, PAGE, PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    });
}

fn address_space_runs_out() {
    in_child(|| {
        fails!(mmap(0, 1usize << 47, PROT_NONE, PRIVATE | MAP_NORESERVE, -1, 0) => ENOMEM);
        fails!(mmap(0, usize::MAX - PAGE, PROT_NONE, PRIVATE | MAP_NORESERVE, -1, 0) => ENOMEM);
        let mut pieces = Vec::new();
        let refused = loop {
            match sys!(mmap(0, 1usize << 40, PROT_NONE, PRIVATE | MAP_NORESERVE, -1, 0)) {
                Ok(piece) => pieces.push(piece),
                Err(errno) => break errno,
            }
            is!(pieces.len() <= 128, "an end to it");
        };
        eq!(refused, Errno::ENOMEM);
        is!(pieces.len() > 60, "more than 60 TiB of addresses, not {}", pieces.len());
        let grown = sys!(mremap(pieces[0], 1usize << 40, 1usize << 41, MREMAP_MAYMOVE));
        eq!(grown, Err(Errno::ENOMEM));
        gives!(munmap(pieces[1], 1usize << 40) => 0);
        works!(mmap(0, 1usize << 40, PROT_NONE, PRIVATE | MAP_NORESERVE, -1, 0));
    });
}

fn more_than_there_is() {
    in_child(|| {
        if contents("/proc/sys/vm/overcommit_memory").trim() != "0" {
            skip!("this host doesn't look at what is asked for");
        }
        // 64 TiB are more than any machine has: what is certain to be too much is refused.
        fails!(mmap(0, 1usize << 46, RW, PRIVATE, -1, 0) => ENOMEM);
        works!(mmap(0, 1usize << 45, PROT_READ, PRIVATE | MAP_NORESERVE, -1, 0));
        let map = works!(mmap(0, 1usize << 44, PROT_READ, PRIVATE, -1, 0));
        fails!(mprotect(map, 1usize << 44, RW) => ENOMEM);
        let memory = works!(memfd_create(c"memory", 0));
        gives!(ftruncate(memory, 1usize << 44) => 0);
        works!(mmap(0, 1usize << 44, RW, MAP_SHARED, memory, 0));
    });
}

fn pipes_of_a_user() {
    need_root();
    in_child(|| {
        let soft: usize = contents("/proc/sys/fs/pipe-user-pages-soft").trim().parse().unwrap_or(0);
        let largest: usize = contents("/proc/sys/fs/pipe-max-size").trim().parse().unwrap_or(0);
        if soft != 16384 || largest != 1 << 20 {
            skip!("other limits of pipes than usual: {soft} pages, {largest} bytes");
        }
        gives!(setresuid(54322, 54322, 54322) => 0);
        let mut pipes = Vec::new();
        let refused = loop {
            let mut ends = [0i32; 2];
            gives!(pipe2(&mut ends, 0) => 0);
            match sys!(fcntl(ends[1], F_SETPIPE_SZ, largest)) {
                Ok(_) => pipes.push(ends),
                Err(errno) => break errno,
            }
            is!(pipes.len() <= 64, "an end to it");
        };
        eq!(refused, Errno::EPERM);
        is!((63..=64).contains(&pipes.len()), "64 MiB in pipes, not {}", pipes.len());
        // Those of who has too much hold little.
        let size = |end: i32| sys!(fcntl(end, F_GETPIPE_SZ));
        let mut last = [0i32; 2];
        let mut more = 0;
        while size(last[1]).is_err() || size(last[1]) == Ok(65536) {
            gives!(pipe2(&mut last, 0) => 0);
            more += 1;
            is!(more < 64, "small pipes at last");
        }
        eq!(size(last[1]), Ok(2 * PAGE));
    });
}

fn instances_of_inotify() {
    need_root();
    in_child(|| {
        let most: usize = contents("/proc/sys/fs/inotify/max_user_instances").trim().parse().unwrap_or(0);
        if most == 0 || most > 900 {
            skip!("{most} instances are none, or too many to try");
        }
        gives!(setresuid(54323, 54323, 54323) => 0);
        let mut made = Vec::new();
        while let Ok(fd) = sys!(inotify_init1(0)) {
            made.push(fd);
            is!(made.len() <= most, "an end to it");
        }
        eq!(made.len(), most);
        fails!(inotify_init1(0) => EMFILE);
        works!(close(made[0]));
        works!(inotify_init1(0));
    });
}

fn queued_signals() {
    need_root();
    in_child(|| {
        gives!(setresuid(54324, 54324, 54324) => 0);
        at_most(RLIMIT_SIGPENDING, 10);
        gives!(rt_sigprocmask(SIG_BLOCK, &u64::MAX, 0, 8) => 0);
        let mut info = [0u32; 32];
        (info[0], info[2]) = (40, -1i32 as u32); // SI_QUEUE
        let mut sent = 0;
        let refused = loop {
            match sys!(rt_sigqueueinfo(process::id(), 40, &info)) {
                Ok(_) => sent += 1,
                Err(errno) => break errno,
            }
            is!(sent <= 10, "an end to it");
        };
        eq!((refused, sent), (Errno::EAGAIN, 10));
        gives!(rt_sigtimedwait(&(1u64 << 39), 0, &[0u64; 2], 8) => 40);
        gives!(rt_sigqueueinfo(process::id(), 40, &info) => 0);
        // Who only kills needs no room.
        gives!(kill(process::id(), SIGUSR1) => 0);
        gives!(kill(process::id(), 41) => 0);
        gives!(rt_sigpending(&mut [0u64]) => 0);
    });
}

fn timers_count_as_signals() {
    need_root();
    in_child(|| {
        gives!(setresuid(54325, 54325, 54325) => 0);
        at_most(RLIMIT_SIGPENDING, 5);
        let mut made = 0;
        let refused = loop {
            let mut timer = 0i32;
            match sys!(timer_create(CLOCK_MONOTONIC, 0, &mut timer)) {
                Ok(_) => made += 1,
                Err(errno) => break errno,
            }
            is!(made <= 5, "an end to it");
        };
        eq!((refused, made), (Errno::EAGAIN, 5));
        gives!(timer_delete(0) => 0);
        works!(timer_create(CLOCK_MONOTONIC, 0, &mut 0i32));
    });
}

fn queues_of_a_user() {
    need_root();
    in_child(|| {
        gives!(setresuid(54326, 54326, 54326) => 0);
        at_most(RLIMIT_MSGQUEUE, 100_000);
        let attributes = [0i64, 10, 8000, 0, 0, 0, 0, 0];
        let one = works!(mq_open(c"exhausted-one", O_CREAT | O_RDWR, 0o600, &attributes));
        fails!(mq_open(c"exhausted-two", O_CREAT | O_RDWR, 0o600, &attributes) => EMFILE);
        gives!(mq_unlink(c"exhausted-one") => 0);
        works!(close(one));
        works!(mq_open(c"exhausted-two", O_CREAT | O_RDWR, 0o600, &attributes));
        gives!(mq_unlink(c"exhausted-two") => 0);
    });
}

fn semaphores() {
    fails!(semget(IPC_PRIVATE, 40_000, 0o600) => EINVAL);
    let set = works!(semget(IPC_PRIVATE, 2, 0o600));
    // More operations at once than there may be.
    fails!(semop(set, &[0u16; 3 * 1000], 1000) => E2BIG);
    gives!(semctl(set, 0, IPC_RMID) => 0);
}

fn segments() {
    fails!(shmget(IPC_PRIVATE, 0, 0o600) => EINVAL);
    fails!(shmget(IPC_PRIVATE, usize::MAX, 0o600) => EINVAL | ENOSPC | ENOMEM);
    in_child(|| {
        let segment = works!(shmget(IPC_PRIVATE, 1 << 20, 0o600));
        let used = contents("/proc/self/statm").split(' ').next().and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
        at_most(RLIMIT_AS, (used + 64) * PAGE as u64);
        fails!(shmat(segment, 0, 0) => ENOMEM);
        gives!(shmctl(segment, IPC_RMID, 0) => 0);
    });
}

fn size_of_files() {
    in_child(|| {
        at_most(RLIMIT_FSIZE, 6000);
        gives!(rt_sigprocmask(SIG_BLOCK, &(1u64 << (SIGXFSZ - 1)), 0, 8) => 0);
        let fd = file(c"grows", b"");
        let bytes = [7u8; 5000];
        gives!(write(fd, &bytes, 5000) => 5000);
        // As much as may be, then nothing.
        gives!(write(fd, &bytes, 5000) => 1000);
        fails!(write(fd, &bytes, 1) => EFBIG);
        fails!(ftruncate(fd, 6001) => EFBIG);
        fails!(fallocate(fd, 0, 0, 7000) => EFBIG);
        gives!(pwrite64(fd, &bytes, 100, 5950) => 50);
        gives!(rt_sigtimedwait(&(1u64 << (SIGXFSZ - 1)), 0, &[0u64; 2], 8) => SIGXFSZ);
    });
}

fn room_for_arguments() {
    let long = vec![b'x'; 200_000];
    let mut text = long.clone();
    text.push(0);
    // One word of more than 32 pages.
    let words = [text.as_ptr() as usize, 0];
    fails!(execve(c"/proc/self/exe", &words, 0) => E2BIG);
    // Many of few.
    let short = [b"y".repeat(50_000), vec![0]].concat();
    let mut many = vec![short.as_ptr() as usize; 200];
    many.push(0);
    fails!(execve(c"/proc/self/exe", many.as_ptr(), 0) => E2BIG);
}

fn stack_of_threads() {
    // A stack that isn't there is found when it is used, by a signal.
    in_child(|| {
        let child = child(|| {
            at_most(RLIMIT_STACK, 1 << 20);
            deeper(1 << 22);
        });
        eq!(wait(child), Status::Killed(SIGSEGV));
    });
}

#[inline(never)]
fn deeper(left: usize) -> usize {
    let room = [left as u8; 4096];
    if left < 4096 { room.len() } else { std::hint::black_box(&room)[7] as usize + deeper(left - 4096) }
}

fn full_tables_are_left_whole() {
    in_child(|| {
        let mut ends = [0i32; 2];
        gives!(pipe2(&mut ends, 0) => 0);
        at_most(RLIMIT_NOFILE, 32);
        let all = fill();
        for _ in 0..100 {
            fails!(pipe2(&mut [0i32; 2], 0) => EMFILE);
        }
        gives!(write(ends[1], b"whole", 5) => 5);
        let mut read_back = [0u8; 5];
        gives!(read(ends[0], &mut read_back, 5) => 5);
        eq!(&read_back, b"whole");
        for fd in all {
            works!(close(fd));
        }
        gives!(pipe2(&mut ends, 0) => 0);
    });
}

fn locks_and_leases_need_no_room() {
    let fd = file(c"locked", &[0; 10]);
    // Locks on every other byte: thousands of them, and gone with the descriptor.
    for start in (0..4000i64).step_by(2) {
        let mut lock: flock = zeroed();
        (lock.l_type, lock.l_start, lock.l_len) = (F_WRLCK as i16, start, 1);
        gives!(fcntl(fd, F_SETLK, &lock) => 0);
    }
    in_child(|| {
        let mut lock: flock = zeroed();
        (lock.l_type, lock.l_start, lock.l_len) = (F_WRLCK as i16, 2001, 1);
        gives!(fcntl(fd, F_GETLK, &mut lock) => 0);
        eq!(i32::from(lock.l_type), F_UNLCK);
        (lock.l_type, lock.l_start) = (F_WRLCK as i16, 2002);
        fails!(fcntl(fd, F_SETLK, &lock) => EAGAIN | EACCES);
    });
    works!(close(fd));
}
