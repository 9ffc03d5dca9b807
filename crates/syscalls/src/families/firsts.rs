//! PID namespaces: what reaches the first process of one, what ends with it, and who is in it.

use super::numbers::{field, first, path};
use super::prelude::*;

tests!("firsts":
    signals_to_the_first, orphans_go_to_the_first, all_end_with_the_first, restarts_end_the_first, entering, only_children_are_in_it,
);

fn signals_to_the_first() {
    let step = shared_word();
    let pid = first(|| {
        gives!(kill(1, SIGKILL) => 0);
        gives!(kill(1, SIGTERM) => 0);
        gives!(tgkill(1, 1, SIGSTOP) => 0);
        join(child(|| {
            gives!(kill(1, SIGKILL) => 0);
            gives!(kill(1, SIGSTOP) => 0);
            gives!(kill(1, SIGINT) => 0);
        }));
        signal::on(SIGUSR1, 0);
        join(child(|| {
            gives!(kill(1, SIGUSR1) => 0);
        }));
        until(|| signal::count() == 1);
        step.store(1, SeqCst);
        loop {
            let _ = sys!(pause());
        }
    });
    until_is(step, 1);
    // From outside, too, it gets only what it handles; but what can't be handled.
    gives!(kill(pid, SIGTERM) => 0);
    gives!(kill(pid, SIGSTOP) => 0);
    let mut status = 0i32;
    gives!(wait4(pid, &mut status, WUNTRACED, 0) => pid);
    eq!(status, SIGSTOP << 8 | 0x7f);
    gives!(kill(pid, SIGCONT) => 0);
    gives!(kill(pid, SIGKILL) => 0);
    eq!(wait(pid), Status::Killed(SIGKILL));
}

fn orphans_go_to_the_first() {
    let step = shared_word();
    let pid = first(|| {
        let maker = child(|| {
            child(|| {
                until_is(step, 1);
                gives!(getppid() => 1);
                process::exit(7)
            });
        });
        join(maker);
        step.store(1, SeqCst);
        let mut status = 0i32;
        gives!(wait4(-1, &mut status, 0, 0) => 3);
        eq!(status, 7 << 8);
    });
    join(pid);
}

fn all_end_with_the_first() {
    let words = memory::share::<AtomicU32>(2);
    let pid = first(|| {
        for _ in 0..3 {
            child(|| {
                let _ = sys!(setsid());
                child(|| {
                    loop {
                        words[1].fetch_add(1, SeqCst);
                        let _ = sys!(sched_yield());
                    }
                });
                words[0].fetch_add(1, SeqCst);
                loop {
                    let _ = sys!(pause());
                }
            });
        }
        until_is(&words[0], 3);
        process::exit(4)
    });
    eq!(wait(pid), Status::Exited(4));
    // Who has waited for it finds nobody left.
    let now = words[1].load(SeqCst);
    let _ = sys!(nanosleep(&timespec { tv_sec: 0, tv_nsec: 5_000_000 }, 0));
    eq!(words[1].load(SeqCst), now);
    fails!(wait4(-1, 0, 0, 0) => ECHILD);
}

fn restarts_end_the_first() {
    for (command, signal) in [(RB_AUTOBOOT, SIGHUP), (RB_POWER_OFF, SIGINT), (RB_HALT_SYSTEM, SIGINT)] {
        let pid = first(|| {
            // Twice sure that this isn't the machine's own.
            eq!(process::id(), 1);
            let numbers = field("/proc/thread-self/status", "NSpid:");
            if numbers.len() < 2 {
                skip!("not in a namespace of our own: {numbers:?}");
            }
            join(child(|| {
                fails!(reboot(1, 2, command, 0) => EINVAL);
                let _ = sys!(reboot(0xfee1_dead_u32, 0x2812_1969, command, 0));
                loop {
                    let _ = sys!(pause());
                }
            }));
        });
        eq!(wait(pid), Status::Killed(signal));
    }
}

fn entering() {
    let step = shared_word();
    let above = works!(openat(AT_FDCWD, c"/proc/self/ns/pid", O_RDONLY));
    let pid = first(|| {
        // Not upward.
        fails!(setns(above, CLONE_NEWPID) => EINVAL);
        step.store(1, SeqCst);
        until_is(step, 2);
        step.store(3, SeqCst);
        let mut status = 0i32;
        until(|| sys!(wait4(-1, &mut status, WNOHANG, 0)).is_ok_and(|pid| pid > 0) || step.load(SeqCst) == 4);
    });
    until_is(step, 1);
    let fd = works!(openat(AT_FDCWD, &*path(format!("/proc/{pid}/ns/pid")), O_RDONLY));
    in_child(|| {
        let before = process::id();
        gives!(setns(fd, CLONE_NEWPID) => 0);
        gives!(getpid() => before);
        let child = child(|| {
            gives!(getpid() => 2);
            // Who made it is nobody in there.
            gives!(getppid() => 0);
            gives!(kill(1, 0) => 0);
        });
        is!(child != 2 || before < 2, "its number out here");
        join(child);
        // Back again: what we are in is what we may enter.
        gives!(setns(above, 0) => 0);
        join(self::child(|| is!(process::id() != 2, "ours again")));
    });
    step.store(2, SeqCst);
    until_is(step, 3);
    step.store(4, SeqCst);
    join(pid);
    // It is over.
    in_child(|| {
        gives!(setns(fd, CLONE_NEWPID) => 0);
        fails!(fork() => ENOMEM);
    });
}

fn only_children_are_in_it() {
    need_root();
    in_child(|| {
        if sys!(unshare(CLONE_NEWPID)).is_err() {
            skip!("no PID namespace of our own (CAP_SYS_ADMIN)");
        }
        // No threads elsewhere than their process, and no second one before there are children.
        fails!(clone(CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, pages(1) + PAGE, 0, 0, 0) => EINVAL);
        fails!(unshare(CLONE_NEWPID) => EINVAL);
        fails!(clone(CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0) => EINVAL);
        join(child(|| eq!(process::id(), 1)));
    });
    fails!(clone(CLONE_NEWPID | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM, 0, 0, 0, 0) => EINVAL);
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(unshare(CLONE_NEWPID) => EPERM);
    });
}
