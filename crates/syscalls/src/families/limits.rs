//! Resource limits, priorities, scheduling, processors.

use super::prelude::*;

tests!("limits":
    limits_are_read_back, limits_of_others, limit_arguments, raising_needs_rights, limits_are_inherited, cpu_limit_signals,
    stack_limit_faults, core_limit_shows, nice_and_priority, priorities_of_groups, priority_arguments, affinity,
    affinity_arguments, affinity_is_inherited, scheduling_policies, scheduling_arguments, realtime_needs_rights,
    sched_attr_calls, reset_on_fork, priority_ranges, round_robin_interval, yielding, getcpu_tells, io_priorities,
    autogroup_and_oom, proc_limits_tells,
);

fn limit(resource: u32) -> rlimit {
    let mut limit = rlimit { rlim_cur: 1, rlim_max: 1 };
    gives!(getrlimit(resource, &mut limit) => 0);
    limit
}

fn limits_are_read_back() {
    in_child(|| {
        for resource in 0..16u32 {
            let now = limit(resource);
            is!(now.rlim_cur <= now.rlim_max, "limit {resource}: the soft not to be above the hard");
            // Lowering, soft and hard, and the soft up to the hard again.
            let lower = rlimit { rlim_cur: now.rlim_cur.min(1 << 40), rlim_max: now.rlim_max };
            gives!(setrlimit(resource, &lower) => 0);
            eq!((limit(resource).rlim_cur, limit(resource).rlim_max), (lower.rlim_cur, lower.rlim_max));
            gives!(setrlimit(resource, &now) => 0);
            let mut old = rlimit { rlim_cur: 7, rlim_max: 7 };
            gives!(prlimit64(0, resource, 0, &mut old) => 0);
            eq!((old.rlim_cur, old.rlim_max), (now.rlim_cur, now.rlim_max));
        }
    });
    in_child(|| {
        gives!(setrlimit(RLIMIT_CORE, &rlimit { rlim_cur: 0, rlim_max: 0 }) => 0);
        let mut old = rlimit { rlim_cur: 7, rlim_max: 7 };
        gives!(prlimit64(0, RLIMIT_NOFILE, &rlimit { rlim_cur: 50, rlim_max: 60 }, &mut old) => 0);
        is!(old.rlim_cur >= 50, "the old one");
        eq!((limit(RLIMIT_NOFILE).rlim_cur, limit(RLIMIT_NOFILE).rlim_max), (50, 60));
    });
}

fn limits_of_others() {
    let step = shared_word();
    let other = child(|| {
        until_is(step, 1);
        eq!(limit(RLIMIT_NOFILE).rlim_cur, 33);
    });
    gives!(prlimit64(other, RLIMIT_NOFILE, &rlimit { rlim_cur: 33, rlim_max: 40 }, 0) => 0);
    step.store(1, SeqCst);
    join(other);
    fails!(prlimit64(other, RLIMIT_NOFILE, 0, 0) => ESRCH);
    need_root();
    let own = process::id();
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(prlimit64(own, RLIMIT_NOFILE, 0, &mut zeroed::<rlimit>()) => EPERM);
    });
}

fn limit_arguments() {
    let mut now: rlimit = zeroed();
    fails!(getrlimit(16, &mut now) => EINVAL);
    fails!(getrlimit(-1, &mut now) => EINVAL);
    fails!(getrlimit(RLIMIT_CPU, BAD) => EFAULT);
    fails!(setrlimit(16, &now) => EINVAL);
    fails!(setrlimit(RLIMIT_CPU, BAD) => EFAULT);
    fails!(setrlimit(RLIMIT_NOFILE, &rlimit { rlim_cur: 11, rlim_max: 10 }) => EINVAL);
    fails!(prlimit64(-1, RLIMIT_CPU, 0, &mut now) => ESRCH);
    fails!(prlimit64(0, 99, 0, &mut now) => EINVAL);
    // Above what the kernel would ever allow (nr_open).
    fails!(setrlimit(RLIMIT_NOFILE, &rlimit { rlim_cur: 1 << 40, rlim_max: 1 << 40 }) => EPERM);
}

fn raising_needs_rights() {
    need_root();
    in_child(|| {
        gives!(setrlimit(RLIMIT_NOFILE, &rlimit { rlim_cur: 50, rlim_max: 60 }) => 0);
        gives!(setresuid(1000, 1000, 1000) => 0);
        gives!(setrlimit(RLIMIT_NOFILE, &rlimit { rlim_cur: 60, rlim_max: 60 }) => 0);
        fails!(setrlimit(RLIMIT_NOFILE, &rlimit { rlim_cur: 60, rlim_max: 61 }) => EPERM);
        gives!(setrlimit(RLIMIT_NOFILE, &rlimit { rlim_cur: 40, rlim_max: 40 }) => 0);
        fails!(setrlimit(RLIMIT_NOFILE, &rlimit { rlim_cur: 40, rlim_max: 60 }) => EPERM);
    });
}

fn limits_are_inherited() {
    in_child(|| {
        gives!(setrlimit(RLIMIT_NOFILE, &rlimit { rlim_cur: 51, rlim_max: 61 }) => 0);
        in_child(|| {
            eq!((limit(RLIMIT_NOFILE).rlim_cur, limit(RLIMIT_NOFILE).rlim_max), (51, 61));
        });
    });
}

fn cpu_limit_signals() {
    let victim = child(|| {
        signal::on(SIGXCPU, 0);
        gives!(setrlimit(RLIMIT_CPU, &rlimit { rlim_cur: 1, rlim_max: RLIM_INFINITY }) => 0);
        while signal::count() == 0 {
            std::hint::spin_loop();
        }
        let mut used: timespec = zeroed();
        gives!(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &mut used) => 0);
        // Counted by ticks, a second may be a little less by the exact clock.
        is!(used.tv_sec >= 1 || used.tv_nsec > 500_000_000, "about a second to have been used");
        // The hard limit kills.
        gives!(setrlimit(RLIMIT_CPU, &rlimit { rlim_cur: 1, rlim_max: 1 }) => 0);
        loop {
            std::hint::spin_loop();
        }
    });
    eq!(wait(victim), Status::Killed(SIGKILL));
}

fn stack_limit_faults() {
    let victim = child(|| {
        let _ = sys!(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
        gives!(setrlimit(RLIMIT_STACK, &rlimit { rlim_cur: 1 << 20, rlim_max: RLIM_INFINITY }) => 0);
        let here = 0u8;
        let top = std::ptr::from_ref(&here) as usize;
        // Within the limit the stack grows by being touched.
        eq!(write_at(top - (512 << 10), 1), Ok(()));
        eq!(write_at(top - (4 << 20), 1).map_err(|fault| (fault.signal, fault.code)), Err((SIGSEGV, 1)));
        process::exit(7)
    });
    eq!(wait(victim), Status::Exited(7));
}

fn core_limit_shows() {
    let victim = child(|| {
        gives!(setrlimit(RLIMIT_CORE, &rlimit { rlim_cur: 0, rlim_max: 0 }) => 0);
        let _ = sys!(kill(process::id(), SIGSEGV));
    });
    let mut word = 0;
    gives!(wait4(victim, &mut word, 0, 0) => victim);
    eq!((word & 0x7f, word & 0x80), (SIGSEGV, 0));
}

/// Begins with a nice value of 0: whoever started us may have another.
fn plain_priority() {
    if sys!(setpriority(PRIO_PROCESS, 0, 0)).is_err() {
        skip!("the nice value isn't 0, and can't be set to it");
    }
}

fn nice_and_priority() {
    plain_priority();
    // The raw call gives 20 minus the nice value, to have no negative ones.
    gives!(getpriority(PRIO_PROCESS, 0) => 20);
    gives!(setpriority(PRIO_PROCESS, 0, 5) => 0);
    gives!(getpriority(PRIO_PROCESS, 0) => 15);
    gives!(setpriority(PRIO_PROCESS, 0, 100) => 0);
    gives!(getpriority(PRIO_PROCESS, 0) => 1);
    in_child(|| {
        gives!(getpriority(PRIO_PROCESS, 0) => 1);
    });
    let text = contents("/proc/self/stat");
    let fields: Vec<&str> = text.rsplit_once(") ").map_or("", |rest| rest.1).split(' ').collect();
    eq!((fields[15], fields[16]), ("39", "19"));
}

fn priorities_of_groups() {
    plain_priority();
    let step = shared_word();
    let child = child(|| {
        works!(setpgid(0, 0));
        gives!(setpriority(PRIO_PROCESS, 0, 10) => 0);
        step.store(1, SeqCst);
        until_is(step, 2);
        gives!(getpriority(PRIO_PROCESS, 0) => 8);
    });
    until_is(step, 1);
    gives!(getpriority(PRIO_PROCESS, child) => 10);
    gives!(getpriority(PRIO_PGRP, child) => 10);
    gives!(setpriority(PRIO_PGRP, child, 12) => 0);
    step.store(2, SeqCst);
    join(child);
    is!(works!(getpriority(PRIO_USER, 0)) >= 1, "the highest of the user's");
}

fn priority_arguments() {
    fails!(getpriority(9, 0) => EINVAL);
    fails!(setpriority(9, 0, 0) => EINVAL);
    fails!(getpriority(PRIO_PROCESS, 0x3f_ffff) => ESRCH);
    fails!(setpriority(PRIO_PROCESS, 0x3f_ffff, 0) => ESRCH);
    need_root();
    plain_priority();
    in_child(|| {
        gives!(setrlimit(RLIMIT_NICE, &rlimit { rlim_cur: 0, rlim_max: 0 }) => 0);
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(setpriority(PRIO_PROCESS, 0, -5) => EACCES);
        gives!(setpriority(PRIO_PROCESS, 0, 5) => 0);
        fails!(setpriority(PRIO_PROCESS, 0, 4) => EACCES);
        fails!(setpriority(PRIO_PROCESS, 1, 5) => EPERM);
    });
}

fn affinity() {
    let mut mask = [0u64; 16];
    let size = works!(sched_getaffinity(0, 128, &mut mask));
    is!(size.is_multiple_of(8) && size <= 128, "whole words: {size}");
    let count: u32 = mask.iter().map(|word| word.count_ones()).sum();
    is!(count >= 1, "a processor");
    in_child(|| {
        for one in each_processor(&mask) {
            gives!(sched_setaffinity(0, 128, &one) => 0);
            let mut now = [0u64; 16];
            works!(sched_getaffinity(0, 128, &mut now));
            eq!(now, one);
            let (mut cpu, mut node) = (9999u32, 9999u32);
            gives!(getcpu(&mut cpu, &mut node, 0) => 0);
            eq!(one[cpu as usize / 64], 1 << (cpu % 64));
            // The processor itself says the same.
            eq!(process::processor(), Some(cpu as usize));
            is!(contents("/proc/self/status").contains(&format!("Cpus_allowed_list:\t{cpu}\n")), "status to tell it");
        }
    });
    let mut now = [0u64; 16];
    works!(sched_getaffinity(process::id(), 128, &mut now));
    eq!(now, mask);
}

/// Each processor of a set, alone.
fn each_processor(set: &[u64; 16]) -> Vec<[u64; 16]> {
    let alone = |cpu: usize| std::array::from_fn(|word| if word == cpu / 64 { 1 << (cpu % 64) } else { 0 });
    (0..1024).filter(|cpu| set[cpu / 64] >> (cpu % 64) & 1 != 0).map(alone).collect()
}

fn affinity_arguments() {
    let mut mask = [0u64; 16];
    fails!(sched_getaffinity(0, 1, &mut mask) => EINVAL);
    fails!(sched_getaffinity(0, 7, &mut mask) => EINVAL);
    fails!(sched_getaffinity(-1, 128, &mut mask) => ESRCH);
    fails!(sched_setaffinity(-1, 128, &mask) => ESRCH);
    fails!(sched_getaffinity(0, 128, BAD) => EFAULT);
    fails!(sched_getaffinity(0x3f_ffff, 128, &mut mask) => ESRCH);
    fails!(sched_setaffinity(0, 128, &[0u64; 16]) => EINVAL);
    fails!(sched_setaffinity(0, 0, &mask) => EINVAL);
    fails!(sched_setaffinity(0, 128, BAD) => EFAULT);
    fails!(sched_setaffinity(0x3f_ffff, 128, &[1u64; 16]) => ESRCH);
}

fn affinity_is_inherited() {
    let mut mask = [0u64; 16];
    works!(sched_getaffinity(0, 128, &mut mask));
    for one in each_processor(&mask) {
        gives!(sched_setaffinity(0, 128, &one) => 0);
        in_child(|| {
            let mut now = [0u64; 16];
            works!(sched_getaffinity(0, 128, &mut now));
            eq!(now, one);
            is!(process::processor().is_some_and(|cpu| one[cpu / 64] >> (cpu % 64) & 1 != 0), "the processor to be that");
        });
    }
}

const SCHED_BATCH: c_int = 3;
const SCHED_IDLE: c_int = 5;
const SCHED_DEADLINE: c_int = 6;
const RESET_ON_FORK: c_int = 0x4000_0000;

fn scheduling_policies() {
    plain_priority();
    gives!(sched_getscheduler(0) => SCHED_OTHER);
    let mut parameter = 9i32;
    gives!(sched_getparam(0, &mut parameter) => 0);
    eq!(parameter, 0);
    for policy in [SCHED_BATCH, SCHED_OTHER] {
        gives!(sched_setscheduler(0, policy, &0i32) => 0);
        gives!(sched_getscheduler(0) => policy);
    }
    gives!(sched_setparam(0, &0i32) => 0);
    gives!(sched_getscheduler(process::id()) => SCHED_OTHER);
    gives!(sched_setscheduler(0, SCHED_IDLE, &0i32) => 0);
    gives!(sched_getscheduler(0) => SCHED_IDLE);
    need_root();
    // The way back is like a better nice value: not for everybody.
    gives!(sched_setscheduler(0, SCHED_OTHER, &0i32) => 0);
    in_child(|| {
        gives!(setrlimit(RLIMIT_NICE, &rlimit { rlim_cur: 0, rlim_max: 0 }) => 0);
        gives!(sched_setscheduler(0, SCHED_IDLE, &0i32) => 0);
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(sched_setscheduler(0, SCHED_OTHER, &0i32) => EPERM);
    });
}

fn scheduling_arguments() {
    fails!(sched_setscheduler(0, 99, &0i32) => EINVAL);
    fails!(sched_setscheduler(0, -1, &0i32) => EINVAL);
    fails!(sched_setscheduler(0, SCHED_OTHER, &5i32) => EINVAL);
    fails!(sched_setscheduler(0, SCHED_FIFO, &0i32) => EINVAL);
    fails!(sched_setscheduler(0, SCHED_FIFO, &100i32) => EINVAL);
    fails!(sched_setscheduler(0, SCHED_OTHER, BAD) => EFAULT);
    fails!(sched_setscheduler(0, SCHED_OTHER, 0) => EINVAL);
    fails!(sched_setscheduler(0x3f_ffff, SCHED_OTHER, &0i32) => ESRCH);
    fails!(sched_setscheduler(-1, SCHED_OTHER, &0i32) => EINVAL);
    fails!(sched_getscheduler(-1) => EINVAL);
    fails!(sched_getscheduler(0x3f_ffff) => ESRCH);
    fails!(sched_getparam(0, 0) => EINVAL);
    fails!(sched_getparam(0, BAD) => EFAULT);
    fails!(sched_setparam(0, &1i32) => EINVAL);
    fails!(sched_setscheduler(0, SCHED_DEADLINE, &0i32) => EINVAL);
}

fn realtime_needs_rights() {
    need_root();
    in_child(|| {
        gives!(setrlimit(RLIMIT_RTPRIO, &rlimit { rlim_cur: 0, rlim_max: 0 }) => 0);
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(sched_setscheduler(0, SCHED_FIFO, &1i32) => EPERM);
        fails!(sched_setscheduler(0, SCHED_RR, &1i32) => EPERM);
        gives!(sched_setscheduler(0, SCHED_BATCH, &0i32) => 0);
        fails!(sched_setscheduler(1, SCHED_BATCH, &0i32) => EPERM);
    });
}

fn sched_attr_calls() {
    plain_priority();
    let mut now = [0u32; 14];
    gives!(sched_getattr(0, &mut now, 48, 0) => 0);
    is!(now[0] >= 48 && now[1] == SCHED_OTHER as u32, "size and policy");
    fails!(sched_getattr(0, &mut now, 47, 0) => EINVAL);
    fails!(sched_getattr(0, &mut now, 2 * PAGE, 0) => EINVAL);
    fails!(sched_getattr(0, &mut now, 48, 1) => EINVAL);
    fails!(sched_getattr(0, BAD, 48, 0) => EFAULT);
    fails!(sched_getattr(0x3f_ffff, &mut now, 48, 0) => ESRCH);
    // size, policy, flags (two words), nice, priority.
    let mut wanted = [0u32; 14];
    (wanted[0], wanted[1], wanted[4]) = (48, SCHED_BATCH as u32, 7);
    gives!(sched_setattr(0, &wanted, 0) => 0);
    gives!(sched_getattr(0, &mut now, 48, 0) => 0);
    eq!((now[1], now[4]), (SCHED_BATCH as u32, 7));
    gives!(getpriority(PRIO_PROCESS, 0) => 13);
    fails!(sched_setattr(0, &wanted, 1) => EINVAL);
    fails!(sched_setattr(0, BAD, 0) => EFAULT);
    wanted[1] = 99;
    fails!(sched_setattr(0, &wanted, 0) => EINVAL);
}

fn reset_on_fork() {
    plain_priority();
    gives!(setpriority(PRIO_PROCESS, 0, 5) => 0);
    gives!(sched_setscheduler(0, SCHED_BATCH | RESET_ON_FORK, &0i32) => 0);
    gives!(sched_getscheduler(0) => SCHED_BATCH | RESET_ON_FORK);
    in_child(|| {
        gives!(sched_getscheduler(0) => SCHED_BATCH);
    });
}

fn priority_ranges() {
    for (policy, low, high) in
        [(SCHED_OTHER, 0, 0), (SCHED_FIFO, 1, 99), (SCHED_RR, 1, 99), (SCHED_BATCH, 0, 0), (SCHED_IDLE, 0, 0)]
    {
        gives!(sched_get_priority_min(policy) => low);
        gives!(sched_get_priority_max(policy) => high);
    }
    fails!(sched_get_priority_min(99) => EINVAL);
    fails!(sched_get_priority_max(-1) => EINVAL);
}

fn round_robin_interval() {
    let mut interval = timespec { tv_sec: 9, tv_nsec: -1 };
    gives!(sched_rr_get_interval(0, &mut interval) => 0);
    is!(interval.tv_sec == 0 && interval.tv_nsec >= 0, "a part of a second");
    fails!(sched_rr_get_interval(0, BAD) => EFAULT);
    fails!(sched_rr_get_interval(-1, &mut interval) => EINVAL);
    fails!(sched_rr_get_interval(0x3f_ffff, &mut interval) => ESRCH);
}

fn yielding() {
    for _ in 0..3 {
        gives!(sched_yield() => 0);
    }
}

fn getcpu_tells() {
    let (mut cpu, mut node) = (9999u32, 9999u32);
    gives!(getcpu(&mut cpu, &mut node, 0) => 0);
    is!(cpu < 8192 && node < 1024, "a processor and a node");
    gives!(getcpu(0, 0, 0) => 0);
    fails!(getcpu(BAD, 0, 0) => EFAULT);
}

fn io_priorities() {
    const PROCESS: c_int = 1;
    const GROUP: c_int = 2;
    let of = |class: i32, level: i32| class << 13 | level;
    if sys!(ioprio_get(PROCESS, 0)) == Err(Errno::ENOSYS) {
        skip!("no ioprio_get (CONFIG_BLOCK)");
    }
    gives!(ioprio_set(PROCESS, 0, of(2, 6)) => 0);
    gives!(ioprio_get(PROCESS, 0) => of(2, 6));
    gives!(ioprio_set(PROCESS, 0, of(3, 0)) => 0);
    gives!(ioprio_get(PROCESS, 0) => of(3, 0));
    in_child(|| {
        gives!(ioprio_get(PROCESS, 0) => of(3, 0));
    });
    works!(ioprio_get(GROUP, 0));
    fails!(ioprio_get(9, 0) => EINVAL);
    fails!(ioprio_set(9, 0, of(2, 0)) => EINVAL);
    fails!(ioprio_set(PROCESS, 0, of(5, 0)) => EINVAL);
    fails!(ioprio_get(PROCESS, 0x3f_ffff) => ESRCH);
    need_root();
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(ioprio_set(PROCESS, 0, of(1, 0)) => EPERM);
    });
}

fn autogroup_and_oom() {
    is!(contents("/proc/self/oom_score_adj").trim().parse::<i32>().is_ok(), "a number");
    let fd = works!(openat(AT_FDCWD, c"/proc/self/oom_score_adj", O_RDWR));
    gives!(write(fd, b"500", 3) => 3);
    eq!(contents("/proc/self/oom_score_adj"), "500\n");
    in_child(|| eq!(contents("/proc/self/oom_score_adj"), "500\n"));
    fails!(pwrite64(fd, b"1001", 4, 0) => EINVAL);
    fails!(pwrite64(fd, b"x", 1, 0) => EINVAL);
}

fn proc_limits_tells() {
    in_child(|| {
        gives!(setrlimit(RLIMIT_NOFILE, &rlimit { rlim_cur: 51, rlim_max: 61 }) => 0);
        let text = contents("/proc/self/limits");
        let line = text.lines().find(|line| line.starts_with("Max open files")).unwrap_or("");
        eq!(line.split_ascii_whitespace().collect::<Vec<_>>(), ["Max", "open", "files", "51", "61", "files"]);
        is!(text.starts_with("Limit                     Soft Limit           Hard Limit           Units"), "its head");
    });
}
