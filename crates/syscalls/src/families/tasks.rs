//! Tasks: clone and clone3 with their flags, threads, thread groups, pidfds.

use super::prelude::*;
use super::process::{seven, stack, told};
use crate::sys::process::{Clone, THREAD, clone, clone3};

tests!("tasks":
    vfork_waits, vfork_by_its_own_call, clone_as_fork_with_tid_words, clone_shares_memory, clone_shares_files,
    clone_shares_directory, clone_arguments, exit_signal_other_than_sigchld, clone_parent, a_thread_is_of_the_group,
    exit_of_one_thread, leader_exits_first, exit_group_ends_all, clone3_as_fork, clone3_arguments, clone3_pidfd,
    clone3_clear_sighand, clone3_set_tid, child_cleartid, pidfd_polls, pidfd_sends, pidfd_opens, pidfd_getfd_takes,
    waitid_by_pidfd, kcmp_compares,
);

extern "C" fn add_one(address: usize) -> c_int {
    word_at(address).fetch_add(1, SeqCst);
    0
}

extern "C" fn wait_for_two(address: usize) -> c_int {
    word_at(address).store(1, SeqCst);
    until_is(word_at(address), 2);
    0
}

fn vfork_waits() {
    let word = word_at(pages(1));
    let how = Clone { flags: CLONE_VM | CLONE_VFORK | SIGCHLD, stack: stack(), ..Clone::default() };
    // The child shares our memory, and we go on when it has ended.
    let pid = process::clone(how, add_one, word.as_ptr() as usize);
    eq!(word.load(SeqCst), 1);
    eq!(pid.map(|pid| wait(pid as c_int)), Ok(Status::Exited(0)));
    // Without shared memory it still waits.
    let word = shared_word();
    let how = Clone { flags: CLONE_VFORK | SIGCHLD, ..Clone::default() };
    let pid = clone(how, add_one, word.as_ptr() as usize);
    eq!(word.load(SeqCst), 1);
    eq!(pid.map(|pid| wait(pid as c_int)), Ok(Status::Exited(0)));
}

fn vfork_by_its_own_call() {
    let word = word_at(pages(1));
    let pid = process::vfork(add_one, word.as_ptr() as usize);
    // Its memory is ours, and it has ended before we go on.
    eq!(word.load(SeqCst), 1);
    eq!(pid.map(|pid| wait(pid as c_int)), Ok(Status::Exited(0)));
    let fd = file(c"file", b"");
    let pid = process::vfork(close_it, fd);
    eq!(pid.map(|pid| wait(pid as c_int)), Ok(Status::Exited(0)));
    // Descriptors are not shared.
    works!(fcntl(fd, F_GETFD));
}

fn clone_as_fork_with_tid_words() {
    let map = works!(mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    let flags = CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD;
    let pid = clone(Clone { flags, parent_tid: map, child_tid: map + 4, ..Clone::default() }, seven, 0);
    let pid = pid.unwrap_or(0) as c_int;
    eq!(wait(pid), Status::Exited(7));
    eq!((word_at(map).load(SeqCst), word_at(map + 4).load(SeqCst)), (pid as u32, pid as u32));
}

fn clone_shares_memory() {
    let word = word_at(pages(1));
    let address = word.as_ptr() as usize;
    let apart = clone(Clone { flags: SIGCHLD, ..Clone::default() }, add_one, address);
    eq!(apart.map(|pid| wait(pid as c_int)), Ok(Status::Exited(0)));
    eq!(word.load(SeqCst), 0);
    let together = clone(Clone { flags: CLONE_VM | SIGCHLD, stack: stack(), ..Clone::default() }, add_one, address);
    eq!(together.map(|pid| wait(pid as c_int)), Ok(Status::Exited(0)));
    eq!(word.load(SeqCst), 1);
}

extern "C" fn close_it(fd: usize) -> c_int {
    c_int::from(sys!(close(fd)).is_err())
}

fn clone_shares_files() {
    let fd = file(c"file", b"");
    let apart = clone(Clone { flags: SIGCHLD, ..Clone::default() }, close_it, fd);
    eq!(apart.map(|pid| wait(pid as c_int)), Ok(Status::Exited(0)));
    works!(fcntl(fd, F_GETFD));
    let together = clone(Clone { flags: CLONE_FILES | SIGCHLD, ..Clone::default() }, close_it, fd);
    eq!(together.map(|pid| wait(pid as c_int)), Ok(Status::Exited(0)));
    fails!(fcntl(fd, F_GETFD) => EBADF);
}

extern "C" fn change_directory(_: usize) -> c_int {
    c_int::from(sys!(chdir(c"inside")).is_err() || sys!(umask(0o077)) != Ok(0o022))
}

fn clone_shares_directory() {
    gives!(mkdirat(AT_FDCWD, c"inside", 0o755) => 0);
    let before = std::env::current_dir().unwrap_or_default();
    let together = clone(Clone { flags: CLONE_FS | SIGCHLD, ..Clone::default() }, change_directory, 0);
    eq!(together.map(|pid| wait(pid as c_int)), Ok(Status::Exited(0)));
    eq!(std::env::current_dir().unwrap_or_default(), before.join("inside"));
    gives!(umask(0o022) => 0o077);
    gives!(unshare(CLONE_FS) => 0);
}

fn clone_arguments() {
    let stack = stack();
    for flags in [
        CLONE_SIGHAND,
        CLONE_THREAD,
        CLONE_THREAD | CLONE_VM,
        CLONE_FS | CLONE_NEWNS,
        CLONE_THREAD | CLONE_VM | CLONE_SIGHAND | CLONE_NEWPID,
        CLONE_PIDFD | CLONE_PARENT_SETTID,
        CLONE_PIDFD | CLONE_DETACHED,
    ] {
        eq!(clone(Clone { flags: flags | SIGCHLD, stack, ..Clone::default() }, seven, 0), Err(Errno::EINVAL));
    }
    fails!(unshare(0x1) => EINVAL);
    gives!(unshare(CLONE_FILES) => 0);
    gives!(unshare(0) => 0);
    gives!(unshare(CLONE_VM | CLONE_SIGHAND | CLONE_THREAD) => 0);
}

fn exit_signal_other_than_sigchld() {
    signal::on(SIGUSR1, 0);
    let quiet = clone(Clone::default(), seven, 0).unwrap_or(0) as c_int;
    let mut word = 0;
    // A child that doesn't send SIGCHLD is waited for only by those who ask for such.
    fails!(wait4(quiet, &mut word, 0, 0) => ECHILD);
    gives!(wait4(quiet, &mut word, 0x8000_0000u32 /* __WCLONE */, 0) => quiet);
    let loud = clone(Clone { flags: SIGUSR1, ..Clone::default() }, seven, 0).unwrap_or(0) as c_int;
    until(|| signal::count() == 1);
    eq!(signal::records()[0].sender, loud);
    gives!(wait4(-1, &mut word, 0x4000_0000 /* __WALL */, 0) => loud);
    eq!(process::status(word), Status::Exited(7));
}

fn clone_parent() {
    let (own, told) = (process::id(), shared_word());
    extern "C" fn tell_parent(address: usize) -> c_int {
        word_at(address).store(sys!(getppid()).unwrap_or(0) as u32, SeqCst);
        8
    }
    in_child(|| {
        let sibling = clone(Clone { flags: CLONE_PARENT | SIGCHLD, ..Clone::default() }, tell_parent, told.as_ptr() as usize);
        fails!(wait4(sibling.unwrap_or(0), 0, 0, 0) => ECHILD);
    });
    let mut word = 0;
    works!(wait4(-1, &mut word, 0, 0));
    eq!(process::status(word), Status::Exited(8));
    eq!(told.load(SeqCst), own as u32);
}

extern "C" fn tell_numbers(address: usize) -> c_int {
    word_at(address + 8).store(sys!(getpid()).unwrap_or(0) as u32, SeqCst);
    word_at(address + 12).store(sys!(gettid()).unwrap_or(0) as u32, SeqCst);
    word_at(address + 16).store(sys!(getppid()).unwrap_or(0) as u32, SeqCst);
    word_at(address).store(1, SeqCst);
    until_is(word_at(address), 2);
    0
}

fn a_thread_is_of_the_group() {
    let map = pages(1);
    let tid = clone(Clone { flags: THREAD, stack: stack(), ..Clone::default() }, tell_numbers, map).unwrap_or(0);
    until_is(word_at(map), 1);
    eq!(word_at(map + 8).load(SeqCst) as c_int, process::id());
    eq!(word_at(map + 12).load(SeqCst) as usize, tid);
    is!(tid as c_int != process::id(), "a number of its own");
    eq!(word_at(map + 16).load(SeqCst) as usize, works!(getppid()));
    let mut word = 0;
    fails!(wait4(tid, &mut word, 0x4000_0000, 0) => ECHILD);
    let own = process::id();
    is!(std::path::Path::new(&format!("/proc/{own}/task/{tid}")).exists(), "it to be among the tasks");
    fails!(tgkill(tid, tid, 0) => ESRCH);
    gives!(tgkill(own, tid, 0) => 0);
    word_at(map).store(2, SeqCst);
    until(|| sys!(tgkill(own, tid, 0)) == Err(Errno::ESRCH));
}

fn exit_of_one_thread() {
    let map = pages(1);
    let how = Clone { flags: THREAD | CLONE_CHILD_CLEARTID, stack: stack(), child_tid: map + 64, ..Clone::default() };
    word_at(map + 64).store(1, SeqCst);
    let tid = clone(how, add_one, map);
    is!(tid.is_ok(), "a thread");
    // The end of a thread clears the word, and wakes who waits for it.
    loop {
        match sys!(futex(map + 64, FUTEX_WAIT, 1, 0)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => {
                eq!(error, Errno::EAGAIN);
                break;
            }
        }
    }
    eq!(word_at(map).load(SeqCst), 1);
}

fn leader_exits_first() {
    let map = works!(mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    let pid = child(|| {
        let _ = clone(Clone { flags: THREAD, stack: stack(), ..Clone::default() }, wait_for_two, map);
        until_is(word_at(map), 1);
        let _ = sys!(exit(11));
    });
    until_is(word_at(map), 1);
    until(|| process::state(pid) == Some('Z'));
    // A thread is left: the process has not ended.
    gives!(wait4(pid, 0, WNOHANG, 0) => 0);
    gives!(kill(pid, 0) => 0);
    word_at(map).store(2, SeqCst);
    eq!(wait(pid), Status::Exited(0));
}

extern "C" fn end_the_group(_: usize) -> c_int {
    process::exit(33)
}

fn exit_group_ends_all() {
    let map = pages(1);
    let pid = child(|| {
        for _ in 0..3 {
            let _ = clone(Clone { flags: THREAD, stack: stack(), ..Clone::default() }, wait_for_two, map + 128);
        }
        let _ = clone(Clone { flags: THREAD, stack: stack(), ..Clone::default() }, end_the_group, 0);
        loop {
            let _ = sys!(pause());
        }
    });
    eq!(wait(pid), Status::Exited(33));
    // So does a deadly signal to one of them.
    let pid = child(|| {
        let tid = clone(Clone { flags: THREAD, stack: stack(), ..Clone::default() }, wait_for_two, map).unwrap_or(0);
        until_is(word_at(map), 1);
        let _ = sys!(tgkill(process::id(), tid, SIGTERM));
        loop {
            let _ = sys!(pause());
        }
    });
    eq!(wait(pid), Status::Killed(SIGTERM));
}

fn clone3_as_fork() {
    let mut args: clone_args = zeroed();
    args.exit_signal = SIGCHLD as u64;
    for size in [64, size_of::<clone_args>()] {
        eq!(clone3(&args, size, seven, 0).map(|pid| wait(pid as c_int)), Ok(Status::Exited(7)));
    }
    let word = word_at(pages(1));
    let low = pages(16);
    args.flags = (CLONE_VM | CLONE_VFORK) as u64;
    (args.stack, args.stack_size) = (low as u64, 16 * PAGE as u64);
    let pid = clone3(&args, size_of::<clone_args>(), add_one, word.as_ptr() as usize);
    eq!(word.load(SeqCst), 1);
    eq!(pid.map(|pid| wait(pid as c_int)), Ok(Status::Exited(0)));
}

fn clone3_arguments() {
    let size = size_of::<clone_args>();
    let good: clone_args = clone_args { exit_signal: SIGCHLD as u64, ..zeroed() };
    for bad in [
        clone_args { flags: SIGCHLD as u64, ..good },
        clone_args { flags: 1 << 60, ..good },
        clone_args { exit_signal: 65, ..good },
        clone_args { exit_signal: 1 << 40, ..good },
        clone_args { stack: 0x1000, ..good },
        clone_args { stack_size: 0x1000, ..good },
        clone_args { flags: CLONE_DETACHED as u64, ..good },
        clone_args { flags: CLONE_THREAD as u64, ..good },
        clone_args { flags: CLONE_PARENT as u64, ..good },
        clone_args { flags: CLONE_SIGHAND as u64, ..good },
        clone_args { set_tid_size: 1, ..good },
        clone_args { set_tid_size: 99, set_tid: 0x1000, ..good },
        clone_args { flags: CLONE_SIGHAND as u64 | CLONE_VM as u64 | 1 << 32, ..good },
    ] {
        eq!(clone3(&bad, size, seven, 0), Err(Errno::EINVAL));
    }
    eq!(clone3(&good, 63, seven, 0), Err(Errno::EINVAL));
    eq!(clone3(&good, 0, seven, 0), Err(Errno::EINVAL));
    eq!(clone3(&good, 2 * PAGE, seven, 0), Err(Errno::E2BIG));
    fails!(clone3(BAD, size) => EFAULT);
    fails!(clone3(edge(64), 88) => EFAULT);
    // More than the kernel knows is right as long as it is zero.
    let mut longer = [0u64; 16];
    longer[4] = SIGCHLD as u64;
    longer[15] = 1;
    fails!(clone3(&longer, 128) => E2BIG);
}

fn clone3_pidfd() {
    let mut pidfd = -1;
    let args = clone_args {
        flags: CLONE_PIDFD as u64,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal: SIGCHLD as u64,
        ..zeroed()
    };
    let pid = clone3(&args, size_of::<clone_args>(), seven, 0).unwrap_or(0) as c_int;
    is!(pidfd >= 0, "a descriptor");
    gives!(fcntl(pidfd, F_GETFD) => FD_CLOEXEC);
    let info = contents(&format!("/proc/self/fdinfo/{pidfd}"));
    is!(info.contains(&format!("Pid:\t{pid}\n")), "fdinfo to name the process: {info}");
    eq!(wait(pid), Status::Exited(7));
    let info = contents(&format!("/proc/self/fdinfo/{pidfd}"));
    is!(info.contains("Pid:\t-1\n"), "fdinfo to name nobody: {info}");
}

extern "C" fn tell_disposition(number: usize) -> c_int {
    let mut action = signal::recording(0, 0);
    let _ = sys!(rt_sigaction(number, 0, &mut action, signal::SET));
    action.handler.min(2) as c_int
}

fn clone3_clear_sighand() {
    signal::on(SIGUSR1, 0);
    signal::ignore(SIGUSR2);
    let mut args = clone_args { exit_signal: SIGCHLD as u64, ..zeroed() };
    let run = |args: &clone_args, number: c_int| {
        clone3(args, size_of::<clone_args>(), tell_disposition, number as usize).map(|pid| wait(pid as c_int))
    };
    eq!(run(&args, SIGUSR1), Ok(Status::Exited(2)));
    args.flags = 1 << 32; // CLONE_CLEAR_SIGHAND
    eq!(run(&args, SIGUSR1), Ok(Status::Exited(0)));
    eq!(run(&args, SIGUSR2), Ok(Status::Exited(SIG_IGN as c_int)));
}

fn clone3_set_tid() {
    need_root();
    let free = child(|| {});
    join(free);
    let wanted = [free];
    let args = clone_args { exit_signal: SIGCHLD as u64, set_tid: wanted.as_ptr() as u64, set_tid_size: 1, ..zeroed() };
    let pid = clone3(&args, size_of::<clone_args>(), seven, 0);
    if pid == Err(Errno::EPERM) {
        skip!("set_tid needs CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE");
    }
    eq!(pid, Ok(free as usize));
    let taken = [process::id()];
    let args = clone_args { set_tid: taken.as_ptr() as u64, ..args };
    eq!(clone3(&args, size_of::<clone_args>(), seven, 0), Err(Errno::EEXIST));
    eq!(wait(free), Status::Exited(7));
}

fn child_cleartid() {
    let map = works!(mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    let pid = child(|| {
        word_at(map).store(5, SeqCst);
        gives!(set_tid_address(map) => process::thread_id());
    });
    join(pid);
    // A process alone with its memory: nobody could see it, so the word is left.
    eq!(word_at(map).load(SeqCst), 5);
    let how = Clone { flags: CLONE_VM | CLONE_CHILD_CLEARTID | SIGCHLD, stack: stack(), child_tid: map, ..Clone::default() };
    eq!(clone(how, seven, 0).map(|pid| wait(pid as c_int)), Ok(Status::Exited(7)));
    eq!(word_at(map).load(SeqCst), 0);
}

fn pidfd_polls() {
    let step = shared_word();
    let pid = child(|| until_is(step, 1));
    let fd = works!(pidfd_open(pid, 0));
    let mut poll = pollfd { fd: fd as c_int, events: POLLIN, revents: 0 };
    gives!(poll(std::ptr::from_mut(&mut poll), 1, 0) => 0);
    step.store(1, SeqCst);
    gives!(poll(std::ptr::from_mut(&mut poll), 1, -1) => 1);
    eq!(poll.revents & POLLIN, POLLIN);
    join(pid);
    gives!(poll(std::ptr::from_mut(&mut poll), 1, -1) => 1);
    let mut byte = [0u8];
    fails!(read(fd, &mut byte, 1) => EINVAL);
}

fn pidfd_sends() {
    let pid = child(|| {
        loop {
            let _ = sys!(pause());
        }
    });
    let fd = works!(pidfd_open(pid, 0));
    gives!(pidfd_send_signal(fd, 0, 0, 0) => 0);
    fails!(pidfd_send_signal(fd, 65, 0, 0) => EINVAL);
    fails!(pidfd_send_signal(fd, SIGTERM, 0, 0x80) => EINVAL);
    fails!(pidfd_send_signal(999, SIGTERM, 0, 0) => EBADF);
    fails!(pidfd_send_signal(file(c"file", b""), SIGTERM, 0, 0) => EBADF);
    fails!(pidfd_send_signal(fd, SIGTERM, BAD, 0) => EFAULT);
    gives!(pidfd_send_signal(fd, SIGTERM, 0, 0) => 0);
    // The directory of old does as well.
    let directory = works!(openat(AT_FDCWD, &*std::ffi::CString::new(format!("/proc/{pid}")).unwrap_or_default(), O_DIRECTORY));
    gives!(pidfd_send_signal(directory, 0, 0, 0) => 0);
    eq!(wait(pid), Status::Killed(SIGTERM));
    fails!(pidfd_send_signal(fd, SIGTERM, 0, 0) => ESRCH);
    fails!(pidfd_send_signal(directory, 0, 0, 0) => ESRCH);
}

fn pidfd_opens() {
    fails!(pidfd_open(0, 0) => EINVAL);
    fails!(pidfd_open(-1, 0) => EINVAL);
    fails!(pidfd_open(process::id(), 0x1) => EINVAL);
    fails!(pidfd_open(0x3f_ffff, 0) => ESRCH);
    let fd = works!(pidfd_open(process::id(), 0));
    gives!(fcntl(fd, F_GETFD) => FD_CLOEXEC);
    let nonblocking = works!(pidfd_open(process::id(), O_NONBLOCK));
    eq!(works!(fcntl(nonblocking, F_GETFL)) as c_int & O_NONBLOCK, O_NONBLOCK);
}

fn pidfd_getfd_takes() {
    let step = shared_word();
    let pid = child(|| {
        let fd = file(c"theirs", b"hello");
        works!(lseek(fd, 2, SEEK_SET));
        step.store(fd as u32, SeqCst);
        until_is(step, 0);
        gives!(lseek(fd, 0, SEEK_CUR) => 4);
    });
    until(|| step.load(SeqCst) != 0);
    let pidfd = works!(pidfd_open(pid, 0));
    let fd = works!(pidfd_getfd(pidfd, step.load(SeqCst), 0));
    gives!(fcntl(fd, F_GETFD) => FD_CLOEXEC);
    let mut buffer = [0u8; 2];
    // One open file: the offset is shared.
    gives!(read(fd, &mut buffer, 2) => 2);
    eq!(&buffer, b"ll");
    fails!(pidfd_getfd(pidfd, 999, 0) => EBADF);
    fails!(pidfd_getfd(pidfd, 0, 1) => EINVAL);
    fails!(pidfd_getfd(999, 0, 0) => EBADF);
    step.store(0, SeqCst);
    join(pid);
    fails!(pidfd_getfd(pidfd, 0, 0) => ESRCH);
}

fn waitid_by_pidfd() {
    let step = shared_word();
    let pid = child(|| {
        until_is(step, 1);
        process::exit(6)
    });
    let fd = works!(pidfd_open(pid, O_NONBLOCK));
    let mut info: siginfo_t = zeroed();
    fails!(waitid(P_PIDFD, fd, &mut info, WEXITED, 0) => EAGAIN);
    step.store(1, SeqCst);
    let blocking = works!(pidfd_open(pid, 0));
    gives!(waitid(P_PIDFD, blocking, &mut info, WEXITED, 0) => 0);
    eq!(told(&info).4, 6);
    fails!(waitid(P_PIDFD, blocking, &mut info, WEXITED, 0) => ECHILD);
}

fn kcmp_compares() {
    let fd = file(c"file", b"");
    let same = works!(dup(fd));
    let other = works!(openat(AT_FDCWD, c"file", O_RDONLY));
    let own = process::id();
    const KCMP_FILE: c_int = 0;
    const KCMP_VM: c_int = 1;
    if sys!(kcmp(own, own, KCMP_FILE, fd, same)) == Err(Errno::ENOSYS) {
        skip!("no kcmp (CONFIG_KCMP)");
    }
    gives!(kcmp(own, own, KCMP_FILE, fd, same) => 0);
    is!(matches!(works!(kcmp(own, own, KCMP_FILE, fd, other)), 1 | 2), "another open file");
    gives!(kcmp(own, own, KCMP_VM, 0, 0) => 0);
    fails!(kcmp(own, own, KCMP_FILE, fd, 999) => EBADF);
    epoll_targets_compare(own);
    fails!(kcmp(own, own, 99, 0, 0) => EINVAL);
    fails!(kcmp(own, 0x3f_ffff, KCMP_VM, 0, 0) => ESRCH);
    let pid = child(|| {
        loop {
            let _ = sys!(pause());
        }
    });
    gives!(kcmp(own, pid, KCMP_FILE, fd, fd) => 0);
    is!(works!(kcmp(own, pid, KCMP_VM, 0, 0)) != 0, "another address space");
    gives!(kill(pid, SIGKILL) => 0);
}

/// What an epoll watches, by a `struct kcmp_epoll_slot`.
fn epoll_targets_compare(own: c_int) {
    const KCMP_EPOLL_TFD: c_int = 7;
    let epoll = works!(epoll_create1(0));
    let (read, write) = pipe();
    gives!(epoll_ctl(epoll, EPOLL_CTL_ADD, write, &epoll_event { events: EPOLLOUT as u32, u64: 0 }) => 0);
    let slot = |fd: usize, nth: u32| [epoll as u32, fd as u32, nth];
    gives!(kcmp(own, own, KCMP_EPOLL_TFD, write, &slot(write, 0)) => 0);
    is!(works!(kcmp(own, own, KCMP_EPOLL_TFD, read, &slot(write, 0))) != 0, "another open file");
    fails!(kcmp(own, own, KCMP_EPOLL_TFD, write, &slot(write, 1)) => ENOENT);
    fails!(kcmp(own, own, KCMP_EPOLL_TFD, write, &[read as u32, write as u32, 0]) => EINVAL);
}
