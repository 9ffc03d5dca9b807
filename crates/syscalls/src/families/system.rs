//! The system as a whole: names, memory, random bytes, prctl, asynchronous input and output; and what is refused, and how.

use super::descriptors::F_SETSIG;
use super::prelude::*;
use std::ffi::CString;

tests!("system":
    names_of_the_system, memory_of_the_system, random_bytes, random_arguments, personality_is_kept, thread_base_registers,
    the_upper_halves_of_ints_are_nobodys, prctl_arguments, timer_slack, thp_and_mce, no_such_call, calls_that_are_gone, what_users_may_not, what_nobody_may,
    asynchronous_io, io_uring_sets_up, bpf_and_perf, userfaultfd_arguments, modify_ldt_reads, numa_policies, moving_pages,
    memory_advice_to_others, secret_memory, page_cache, remapping_pages, restart_alone, sysfs_and_ustat, quota_and_accounting,
    hangup, attributes_of_files, lsm_calls,
);

fn text(field: &[c_char]) -> String {
    field.iter().take_while(|byte| **byte != 0).map(|byte| *byte as u8 as char).collect()
}

fn names_of_the_system() {
    let mut names: utsname = zeroed();
    gives!(uname(&mut names) => 0);
    eq!((text(&names.sysname).as_str(), text(&names.machine).as_str()), ("Linux", "x86_64"));
    let release = text(&names.release);
    let major = release.split('.').next().and_then(|number| number.parse::<u32>().ok());
    is!(major.is_some_and(|major| major >= 4), "a release from 4 on: {release}");
    is!(text(&names.version).starts_with('#'), "a version");
    fails!(uname(BAD) => EFAULT);
    // Programs that take 2.6 for all there is.
    in_child(|| {
        gives!(personality(0x002_0000 /* UNAME26 */) => 0);
        let mut names: utsname = zeroed();
        gives!(uname(&mut names) => 0);
        is!(text(&names.release).starts_with("2.6."), "an old release");
    });
}

fn memory_of_the_system() {
    let mut info: sysinfo = zeroed();
    gives!(sysinfo(&mut info) => 0);
    is!(info.totalram > 0 && info.freeram <= info.totalram && info.mem_unit >= 1, "memory, of which some is free");
    is!(info.procs >= 1 && info.uptime >= 0, "tasks and a time");
    fails!(sysinfo(BAD) => EFAULT);
}

fn random_bytes() {
    let (mut one, mut two) = ([0u8; 64], [0u8; 64]);
    gives!(getrandom(&mut one, 64, 0) => 64);
    gives!(getrandom(&mut two, 64, GRND_NONBLOCK) => 64);
    is!(one != two && one != [0; 64], "random bytes");
    gives!(getrandom(&mut one, 16, GRND_RANDOM) => 16);
    gives!(getrandom(&mut one, 16, 4 /* GRND_INSECURE */) => 16);
    gives!(getrandom(&mut one, 0, 0) => 0);
    let mut large = vec![0u8; 100_000];
    gives!(getrandom(&mut large[..], 100_000, 0) => 100_000);
    is!(large.chunks(1000).all(|chunk| chunk.iter().any(|byte| *byte != 0)), "all of it");
}

fn random_arguments() {
    fails!(getrandom(&mut [0u8; 4], 4, 8) => EINVAL);
    fails!(getrandom(&mut [0u8; 4], 4, GRND_RANDOM | 4) => EINVAL);
    fails!(getrandom(BAD, 4, 0) => EFAULT);
    // As much as fits.
    gives!(getrandom(edge(10), 4000, 0) => 10);
}

fn personality_is_kept() {
    const QUERY: u32 = u32::MAX;
    const NO_RANDOM: u32 = 0x004_0000;
    let first = works!(personality(QUERY)) as u32;
    gives!(personality(first | NO_RANDOM) => first);
    gives!(personality(QUERY) => first | NO_RANDOM);
    in_child(|| {
        gives!(personality(QUERY) => first | NO_RANDOM);
        gives!(personality(first) => first | NO_RANDOM);
    });
    gives!(personality(first) => first | NO_RANDOM);
}

fn thread_base_registers() {
    const SET_GS: c_int = 0x1001;
    const GET_FS: c_int = 0x1003;
    const GET_GS: c_int = 0x1004;
    let mut base = 0usize;
    gives!(arch_prctl(GET_FS, &mut base) => 0);
    is!(base != 0, "the C library's base");
    gives!(arch_prctl(SET_GS, 0x1234_5000usize) => 0);
    gives!(arch_prctl(GET_GS, &mut base) => 0);
    eq!(base, 0x1234_5000);
    in_child(|| {
        let mut base = 0usize;
        gives!(arch_prctl(GET_GS, &mut base) => 0);
        eq!(base, 0x1234_5000);
    });
    fails!(arch_prctl(SET_GS, 1usize << 62) => EPERM);
    fails!(arch_prctl(GET_GS, BAD) => EFAULT);
    fails!(arch_prctl(0x9999, 0) => EINVAL);
}

/// A program leaves anything in the upper half of a register with an `int`, and the kernel looks at the lower half alone.
fn the_upper_halves_of_ints_are_nobodys() {
    let int = |value: usize| value | 0x5a5a_5a5a << 32;
    let fd = file(c"from", b"foobarbaz");
    let to = file(c"to", b"");
    gives!(copy_file_range(int(fd), 0, int(to), 0, 9, int(0)) => 9);
    let mut buffer = [0u8; 8];
    let list = [piece(&mut buffer)];
    gives!(preadv2(fd, list.as_ptr(), 1, 0, 0, int(0)) => 8);
    gives!(pwritev2(to, list.as_ptr(), 1, 0, 0, int(0)) => 8);
    gives!(lseek(fd, 0, int(SEEK_SET as usize)) => 0);
    gives!(readv(fd, list.as_ptr(), int(1)) => 8);
    gives!(utimensat(to, 0, 0, int(0)) => 0);
    gives!(fcntl(fd, F_SETSIG, int(SIGUSR1 as usize)) => 0);
    let map = works!(mmap(0, PAGE, int((PROT_READ | PROT_WRITE) as usize), MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    gives!(madvise(map, PAGE, int(MADV_NORMAL as usize)) => 0);
    gives!(mlock2(map, PAGE, int(MLOCK_ONFAULT as usize)) => 0);
    let mut attributes = [0u8; 48];
    gives!(sched_getattr(int(0), &mut attributes, int(48), int(0)) => 0);
    let epoll = works!(epoll_create1(int(EPOLL_CLOEXEC as usize)));
    let mut event = epoll_event { events: EPOLLIN as u32, u64: 0 };
    let (readers, writers) = (pipe(), pipe());
    for (reader, writer) in [readers, writers] {
        gives!(epoll_ctl(int(epoll), int(EPOLL_CTL_ADD as usize), int(reader), &mut event) => 0);
        gives!(write(int(writer), b"x", 1) => 1);
    }
    let mut events = [event, event];
    gives!(epoll_wait(epoll, &mut events, int(1), int(0)) => 1);
}

fn prctl_arguments() {
    fails!(prctl(99_999, 0, 0, 0, 0) => EINVAL);
    gives!(prctl(PR_GET_TIMING, 0, 0, 0, 0) => 0);
    gives!(prctl(PR_SET_TIMING, 0, 0, 0, 0) => 0);
    fails!(prctl(PR_SET_TIMING, 1, 0, 0, 0) => EINVAL);
    gives!(prctl(PR_GET_TSC, &mut 0i32, 0, 0, 0) => 0);
    fails!(prctl(PR_GET_TSC, BAD, 0, 0, 0) => EFAULT);
    fails!(prctl(PR_SET_MM, 99, 0, 0, 0) => EINVAL | EPERM);
    gives!(prctl(PR_GET_SECCOMP, 0, 0, 0, 0) => 0);
    // Taking a name away is done by an empty one.
    gives!(prctl(PR_SET_NAME, c"", 0, 0, 0) => 0);
    eq!(contents("/proc/self/comm"), "\n");
    let map = pages(1);
    const PR_SET_VMA: c_int = 0x5356_4d41;
    match sys!(prctl(PR_SET_VMA, 0, map, PAGE, c"named")) {
        Ok(_) => is!(contents("/proc/self/maps").contains("[anon:named]"), "the name to show"),
        Err(error) => eq!(error, Errno::EINVAL),
    }
}

fn timer_slack() {
    let first = works!(prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0));
    is!(first > 0, "some nanoseconds");
    gives!(prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0) => 0);
    gives!(prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0) => 1);
    in_child(|| {
        gives!(prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0) => 1);
    });
    // 0 is the value it began with.
    gives!(prctl(PR_SET_TIMERSLACK, 0, 0, 0, 0) => 0);
    gives!(prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0) => first);
}

fn thp_and_mce() {
    gives!(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) => 0);
    gives!(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) => 0);
    gives!(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) => 1);
    fails!(prctl(PR_GET_THP_DISABLE, 1, 0, 0, 0) => EINVAL);
    fails!(prctl(PR_MCE_KILL_GET, 1, 0, 0, 0) => EINVAL);
    for policy in [PR_MCE_KILL_EARLY, PR_MCE_KILL_LATE, PR_MCE_KILL_DEFAULT] {
        gives!(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, policy, 0, 0) => 0);
        gives!(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0) => policy);
    }
    gives!(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0) => 0);
    gives!(prctl(PR_MCE_KILL, PR_MCE_KILL_CLEAR, 0, 0, 0) => 0);
    gives!(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0) => PR_MCE_KILL_DEFAULT);
    fails!(prctl(PR_MCE_KILL, PR_MCE_KILL_CLEAR, 1, 0, 0) => EINVAL);
    fails!(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, 3, 0, 0) => EINVAL);
    fails!(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, 0, 1, 0) => EINVAL);
    gives!(prctl(PR_TASK_PERF_EVENTS_DISABLE) => 0);
    gives!(prctl(PR_TASK_PERF_EVENTS_ENABLE) => 0);
}

/// A call by its bare number.
fn by_number(number: usize) -> Result<usize, Errno> {
    crate::sys::call_number(number)
}

fn no_such_call() {
    for number in [500, 511, 999, 0x7fff_ffff, usize::MAX, 400, 386] {
        eq!((number, by_number(number)), (number, Err(Errno::ENOSYS)));
    }
}

fn calls_that_are_gone() {
    fails!(_sysctl(0) => ENOSYS);
    fails!(create_module(0) => ENOSYS);
    fails!(get_kernel_syms(0) => ENOSYS);
    fails!(query_module(0) => ENOSYS);
    fails!(nfsservctl(0) => ENOSYS);
    fails!(getpmsg(0) => ENOSYS);
    fails!(putpmsg(0) => ENOSYS);
    fails!(afs_syscall(0) => ENOSYS);
    fails!(tuxcall(0) => ENOSYS);
    fails!(security(0) => ENOSYS);
    fails!(vserver(0) => ENOSYS);
    fails!(epoll_ctl_old(0) => ENOSYS);
    fails!(epoll_wait_old(0) => ENOSYS);
    fails!(set_thread_area(0) => ENOSYS);
    fails!(get_thread_area(0) => ENOSYS);
}

fn what_users_may_not() {
    need_root();
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(swapon(c"file", 0) => EPERM);
        fails!(swapoff(c"file") => EPERM);
        fails!(reboot(0xfee1_deadu32, 672274793, 0, 0) => EPERM);
        fails!(acct(c"file") => EPERM | ENOSYS);
        fails!(iopl(3) => EPERM | ENOSYS);
        fails!(ioperm(0x80, 1, 1) => EPERM | ENOSYS);
        fails!(init_module(BAD, 10, c"") => EPERM | ENOSYS);
        fails!(finit_module(0, c"", 0) => EPERM | ENOSYS);
        fails!(delete_module(c"x", 0) => EPERM | ENOSYS);
        fails!(kexec_load(0, 0, 0, 0) => EPERM | ENOSYS);
        fails!(kexec_file_load(0, 0, 0, 0, 0) => EPERM | ENOSYS);
        fails!(syslog(5, 0, 0) => EPERM | ENOSYS);
        fails!(vhangup() => EPERM);
        fails!(fanotify_mark(0, 0, 0, 0, 0) => EINVAL | ENOSYS | EBADF);
        fails!(migrate_pages(1, 1, 0, 0) => EPERM | EINVAL | ENOSYS);
        fails!(move_pages(1, 0, 0, 0, 0, 0x8) => EPERM | EINVAL | ENOSYS);
    });
}

fn what_nobody_may() {
    fails!(reboot(1, 2, 3, 4) => EINVAL | EPERM);
    fails!(delete_module(c"insula-no-such-module", O_NONBLOCK) => ENOENT | ENOSYS | EPERM);
    fails!(init_module(BAD, 10, c"") => EPERM | ENOSYS | EFAULT | ENOEXEC);
    fails!(swapoff(c"missing") => ENOENT | EPERM | ENOSYS);
    fails!(iopl(4) => EINVAL | ENOSYS);
    fails!(ioperm(65536, 1, 1) => EINVAL | ENOSYS);
    gives!(sync() => 0);
}

fn asynchronous_io() {
    let mut context = 0usize;
    match sys!(io_setup(4, &mut context)) {
        Err(Errno::ENOSYS) => skip!("no io_setup (CONFIG_AIO)"),
        other => crate::check::must_give("io_setup", other, 0),
    }
    let fd = file(c"file", b"asynchronous");
    let mut buffer = [0u8; 12];
    // struct iocb: data, key and flags, opcode and priority with the descriptor, buffer, length, offset, and what is reserved.
    let mut block = [0u64; 8];
    block[0] = 77;
    block[2] = (fd as u64) << 32;
    block[3] = buffer.as_mut_ptr() as u64;
    block[4] = 12;
    let list: [*const u64; 1] = [block.as_ptr()];
    gives!(io_submit(context, 1, &list) => 1);
    let mut events = [[0u64; 4]; 2];
    gives!(io_getevents(context, 1, 2, &mut events, 0) => 1);
    eq!((events[0][0], events[0][2]), (77, 12));
    eq!(&buffer, b"asynchronous");
    fails!(io_cancel(context, &block, &mut events[0]) => EINVAL | EAGAIN);
    gives!(io_pgetevents(context, 0, 2, &mut events, &timespec { tv_sec: 0, tv_nsec: 0 }, 0) => 0);
    fails!(io_submit(context, 1, BAD) => EFAULT);
    fails!(io_submit(context, -1, &list) => EINVAL);
    gives!(io_destroy(context) => 0);
    fails!(io_destroy(context) => EINVAL);
    fails!(io_setup(0, &mut 0usize) => EINVAL);
}

fn io_uring_sets_up() {
    let mut parameters = [0u32; 30];
    let ring = match sys!(io_uring_setup(4, &mut parameters)) {
        Err(Errno::ENOSYS | Errno::EPERM) => skip!("no io_uring here"),
        other => crate::check::must_work("io_uring_setup", other),
    };
    eq!(parameters[0], 4);
    gives!(fcntl(ring, F_GETFD) => FD_CLOEXEC);
    gives!(io_uring_enter(ring, 0, 0, 0, 0, 0) => 0);
    fails!(io_uring_enter(ring, 0, 0, 0x8000_0000u32, 0, 0) => EINVAL);
    fails!(io_uring_enter(-1, 0, 0, 0, 0, 0) => EBADF);
    fails!(io_uring_register(ring, 9999, 0, 0) => EINVAL);
    fails!(io_uring_setup(0, &mut [0u32; 30]) => EINVAL);
    fails!(io_uring_setup(4, BAD) => EFAULT);
}

fn bpf_and_perf() {
    fails!(bpf(9999, &[0u64; 8], 64) => EINVAL | ENOSYS | EPERM);
    fails!(bpf(0, BAD, 64) => EFAULT | ENOSYS | EPERM);
    fails!(perf_event_open(BAD, 0, -1, -1, 0) => EFAULT | ENOSYS | EACCES | EPERM);
}

fn userfaultfd_arguments() {
    fails!(userfaultfd(0x8) => EINVAL | ENOSYS | EPERM);
}

fn modify_ldt_reads() {
    // No table: nothing to read.
    match sys!(modify_ldt(0, &mut [0u8; 64], 64)) {
        Err(Errno::ENOSYS) => skip!("no modify_ldt (CONFIG_MODIFY_LDT_SYSCALL)"),
        other => crate::check::must_give("modify_ldt", other, 0),
    }
}

fn numa_policies() {
    let (mut mode, mut mask) = (9i32, [0u64; 16]);
    match sys!(get_mempolicy(&mut mode, &mut mask, 1024, 0, 0)) {
        Err(Errno::ENOSYS) => skip!("no get_mempolicy (CONFIG_NUMA)"),
        other => crate::check::must_give("get_mempolicy", other, 0),
    }
    eq!(mode, 0);
    let map = pages(1);
    gives!(mbind(map, PAGE, 0, 0, 0, 0) => 0);
    fails!(mbind(map, PAGE, 99, 0, 0, 0) => EINVAL);
    gives!(set_mempolicy(0, 0, 0) => 0);
    fails!(set_mempolicy(99, 0, 0) => EINVAL);
    fails!(get_mempolicy(&mut mode, 0, 0, BAD, 2) => EFAULT | EINVAL);
    fails!(set_mempolicy_home_node(map, PAGE, 0, 1) => EINVAL | ENOSYS);
}

fn moving_pages() {
    let map = pages(1);
    poke(map, 1);
    let addresses = [map];
    let mut status = [9i32];
    match sys!(move_pages(0, 1, &addresses, 0, &mut status, 0)) {
        Err(Errno::ENOSYS) => skip!("no move_pages (CONFIG_MIGRATION)"),
        // Without nodes to move to, only the question where a page is.
        other => crate::check::must_give("move_pages", other, 0),
    }
    eq!(status[0], 0);
    let absent = [map + (1 << 40)];
    gives!(move_pages(0, 1, &absent, 0, &mut status, 0) => 0);
    eq!(status[0], -EFAULT);
    fails!(move_pages(0, 1, &addresses, 0, &mut status, 0x80) => EINVAL);
    fails!(move_pages(0x3f_ffff, 1, &addresses, 0, &mut status, 0) => ESRCH);
}

fn memory_advice_to_others() {
    let map = pages(2);
    let own = works!(pidfd_open(process::id(), 0));
    let list = [piece_at(map, PAGE)];
    match sys!(process_madvise(own, list.as_ptr(), 1, MADV_COLD, 0)) {
        Err(Errno::ENOSYS) => skip!("no process_madvise (Linux 5.10)"),
        other => crate::check::must_give("process_madvise", other, PAGE),
    }
    fails!(process_madvise(own, list.as_ptr(), 1, MADV_COLD, 1) => EINVAL);
    fails!(process_madvise(-1, list.as_ptr(), 1, MADV_COLD, 0) => EBADF);
    fails!(process_madvise(own, list.as_ptr(), 1, 9999, 0) => EINVAL);
    fails!(process_mrelease(own, 1) => EINVAL | ENOSYS);
    fails!(process_mrelease(own, 0) => EINVAL | ENOSYS);
}

fn secret_memory() {
    let fd = match sys!(memfd_secret(0)) {
        Err(Errno::ENOSYS | Errno::ENFILE) => skip!("no memfd_secret (CONFIG_SECRETMEM)"),
        other => crate::check::must_work("memfd_secret", other),
    };
    gives!(ftruncate(fd, PAGE) => 0);
    let map = works!(mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    poke(map, 7);
    eq!(peek(map), 7);
    // The kernel itself doesn't see it.
    let (_reader, writer) = pipe();
    fails!(process_vm_readv(process::id(), &[piece(&mut [0u8; 8])], 1, &[piece_at(map, 8)], 1, 0) => EFAULT);
    fails!(memfd_secret(1) => EINVAL);
    works!(close(writer));
}

fn page_cache() {
    let fd = file(c"file", &[1; 3 * PAGE]);
    let mut counts = [9u64; 5];
    match sys!(cachestat(fd, &[0u64, 0], &mut counts, 0)) {
        Err(Errno::ENOSYS) => skip!("no cachestat (Linux 6.5)"),
        Err(Errno::EPERM | Errno::EOPNOTSUPP) => skip!("no cachestat of this file"),
        other => crate::check::must_give("cachestat", other, 0),
    }
    is!(counts[0] <= 3, "at most three pages");
    fails!(cachestat(fd, &[0u64, 0], &mut counts, 1) => EINVAL);
    fails!(cachestat(-1, &[0u64, 0], &mut counts, 0) => EBADF);
    fails!(cachestat(fd, BAD, &mut counts, 0) => EFAULT);
}

fn remapping_pages() {
    let fd = file(c"file", &[0; 2 * PAGE]);
    gives!(pwrite64(fd, b"one", 3, 0) => 3);
    gives!(pwrite64(fd, b"two", 3, PAGE) => 3);
    let map = works!(mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    // Old, and emulated by mappings: the second page of the file where the first was.
    match sys!(remap_file_pages(map, PAGE, 0, 1, 0)) {
        Err(Errno::ENOSYS) => skip!("no remap_file_pages"),
        other => crate::check::must_give("remap_file_pages", other, 0),
    }
    eq!(bytes_at(map, 3), b"two");
    fails!(remap_file_pages(map, PAGE, PROT_READ, 1, 0) => EINVAL);
    fails!(remap_file_pages(pages(1), PAGE, 0, 0, 0) => EINVAL);
}

fn restart_alone() {
    // Nothing was interrupted.
    fails!(restart_syscall() => EINTR);
}

fn sysfs_and_ustat() {
    match sys!(sysfs(3)) {
        Err(Errno::ENOSYS) => skip!("no sysfs call (CONFIG_SYSFS_SYSCALL)"),
        other => is!(crate::check::must_work("sysfs", other) > 3, "several file systems"),
    }
    let index = works!(sysfs(1, c"proc"));
    let mut name = [0u8; 32];
    gives!(sysfs(2, index, &mut name) => 0);
    eq!(&name[..5], b"proc\0");
    fails!(sysfs(1, c"no-such") => EINVAL);
    fails!(sysfs(9) => EINVAL);
}

fn quota_and_accounting() {
    fails!(ustat(0xffff, &mut [0u64; 4]) => EINVAL | ENOSYS);
    fails!(quotactl_fd(-1, 0, 0, 0) => EBADF | ENOSYS | EINVAL);
    fails!(lookup_dcookie(0, 0, 0) => ENOSYS | EPERM | EINVAL);
    fails!(uselib(c"file") => ENOSYS | ENOENT);
    fails!(map_shadow_stack(0, 0, 0) => EOPNOTSUPP | EINVAL | ENOSYS | ENOSPC);
}

fn hangup() {
    need_root();
    in_child(|| {
        // Without a terminal there is nobody to hang up.
        match sys!(vhangup()) {
            Ok(_) | Err(Errno::EPERM) => {}
            Err(error) => eq!(error, Errno::EPERM),
        }
    });
}

fn attributes_of_files() {
    let fd = file(c"file", b"");
    let mut attributes = [0u64; 3];
    match sys!(file_getattr(AT_FDCWD, c"file", &mut attributes, 24, 0)) {
        Err(Errno::ENOSYS) => skip!("no file_getattr (Linux 6.17)"),
        Err(Errno::EOPNOTSUPP) => skip!("the scratch directory's file system has no such attributes"),
        other => crate::check::must_give("file_getattr", other, 0),
    }
    fails!(file_getattr(AT_FDCWD, c"missing", &mut attributes, 24, 0) => ENOENT);
    fails!(file_getattr(AT_FDCWD, c"file", &mut attributes, 8, 0) => EINVAL);
    fails!(file_getattr(AT_FDCWD, c"file", BAD, 24, 0) => EFAULT);
    gives!(file_setattr(AT_FDCWD, c"file", &attributes, 24, 0) => 0);
    // By ioctl it is older. Append-only: nothing can be overwritten.
    const GETFLAGS: c_ulong = 0x8008_6601;
    const SETFLAGS: c_ulong = 0x4008_6602;
    const APPEND: u64 = 0x20;
    let mut flags = 0u64;
    gives!(ioctl(fd, GETFLAGS, &mut flags) => 0);
    if sys!(ioctl(fd, SETFLAGS, &(flags | APPEND))).is_ok() {
        fails!(openat(AT_FDCWD, c"file", O_WRONLY) => EPERM);
        works!(openat(AT_FDCWD, c"file", O_WRONLY | O_APPEND));
        fails!(unlink(c"file") => EPERM);
        gives!(ioctl(fd, SETFLAGS, &flags) => 0);
    }
    let path = CString::new("file").unwrap_or_default();
    gives!(unlink(&*path) => 0);
}

fn lsm_calls() {
    let (mut ids, mut size) = ([0u64; 64], 512u32);
    match sys!(lsm_list_modules(&mut ids, &mut size, 0)) {
        Err(Errno::ENOSYS) => skip!("no lsm_list_modules (Linux 6.8)"),
        other => is!(crate::check::must_work("lsm_list_modules", other) <= 64, "some modules"),
    }
    fails!(lsm_list_modules(&mut ids, &mut size, 1) => EINVAL);
    fails!(lsm_get_self_attr(0, 0, 0, 0) => EINVAL | EOPNOTSUPP);
    fails!(lsm_set_self_attr(0, 0, 0, 0) => EINVAL | EOPNOTSUPP);
}
