//! Calls that are made often: a kernel may find a quicker way for them, and nothing else may change. Each is made more often than a kernel
//! needs to notice.

use super::prelude::*;
use crate::sys::often::{any, getpid, into, kept, moved, shared};

tests!("often":
    registers_flags_and_stack_are_kept, numbers_may_change, into_the_midst, results_lead_on, what_follows_is_jumped_to,
    signals_come_between, children_do_the_same, threads_do_the_same, memory_may_be_new,
);

const MANY: u64 = 3000;

fn registers_flags_and_stack_are_kept() {
    // Carry, parity, adjust, zero, sign and overflow, all and none; interrupts are on.
    for flags in [0x202, 0x202 | 0x8d5, 0x202 | 0x800, 0x202 | 0x1] {
        eq!(kept(MANY, flags), 0);
    }
}

fn numbers_may_change() {
    let (own, parent) = (i64::from(process::id()), works!(getppid()) as i64);
    for _ in 0..MANY {
        eq!(moved(SYS_getpid, 0), own);
    }
    eq!(moved(SYS_getppid, 0), parent);
    eq!(moved(1 << 20, 0), i64::from(ENOSYS));
    eq!(moved(SYS_getpid, 0), own);
}

fn into_the_midst() {
    let (own, parent) = (i64::from(process::id()), works!(getppid()) as i64);
    for _ in 0..MANY {
        eq!(getpid(), own);
    }
    for _ in 0..10 {
        eq!(any(SYS_getppid), parent);
        eq!(getpid(), own);
    }
}

fn results_lead_on() {
    for _ in 0..MANY {
        eq!(moved(SYS_close, u64::MAX), i64::from(EBADF));
    }
    let file = works!(dup(0)) as u64;
    eq!(moved(SYS_close, file), 0);
    eq!(moved(SYS_close, file), i64::from(EBADF));
}

fn what_follows_is_jumped_to() {
    let own = i64::from(process::id());
    for _ in 0..MANY {
        eq!((shared(SYS_getpid, 0), into(5), into(-3)), (own, 5, 77));
    }
}

fn signals_come_between() {
    let own = i64::from(process::id());
    signal::on(SIGALRM, SA_RESTART);
    let often = itimerval { it_interval: timeval { tv_sec: 0, tv_usec: 700 }, it_value: timeval { tv_sec: 0, tv_usec: 700 } };
    gives!(setitimer(ITIMER_REAL, &often, 0) => 0);
    while signal::count() < 50 {
        for _ in 0..MANY {
            eq!(getpid(), own);
            eq!(moved(SYS_getpid, 0), own);
            eq!(moved(SYS_close, u64::MAX), i64::from(EBADF));
        }
    }
    let never: itimerval = zeroed();
    gives!(setitimer(ITIMER_REAL, &never, 0) => 0);
}

fn children_do_the_same() {
    let own = i64::from(process::id());
    for round in 0..5 {
        for _ in 0..MANY {
            eq!(getpid(), own);
            eq!(moved(SYS_getpid, 0), own);
        }
        let other = child(move || {
            let child = i64::from(process::id());
            for _ in 0..MANY * round {
                eq!(getpid(), child);
                eq!(moved(SYS_getppid, 0), own);
            }
        });
        eq!(getpid(), own);
        join(other);
    }
}

fn threads_do_the_same() {
    let own = i64::from(process::id());
    let work = || {
        for _ in 0..10 * MANY {
            eq!(getpid(), own);
            eq!(moved(SYS_getpid, 0), own);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(work);
        }
        work();
    });
}

fn memory_may_be_new() {
    let own = i64::from(process::id());
    for _ in 0..20 {
        for _ in 0..MANY / 10 {
            eq!(getpid(), own);
        }
        // Changes of memory are seen at once.
        let map = pages(1);
        word_at(map).store(1, SeqCst);
        gives!(munmap(map, PAGE) => 0);
    }
}
