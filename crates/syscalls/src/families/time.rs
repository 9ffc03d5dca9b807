//! Time: clocks, sleeping, POSIX timers, and the old calls. Relations only: nothing here is a bar on how long something takes.

use super::prelude::*;
use crate::sys::process::library_clock;

tests!("time":
    clocks_go_on, clocks_agree, resolutions, clock_arguments, clock_settings_need_rights, cpu_clocks_count_work,
    cpu_clocks_of_others, old_calls, sleeping, sleeping_until, sleep_arguments, timers_fire, timers_of_threads_and_none,
    timer_overruns, timer_arguments, timers_are_not_inherited, absolute_timers, adjtimex_tells, uptime,
);

fn now(clock: c_int) -> i128 {
    let mut time: timespec = zeroed();
    gives!(clock_gettime(clock, &mut time) => 0);
    is!((0..1_000_000_000).contains(&time.tv_nsec), "nanoseconds below a second");
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

const ALL: [c_int; 9] = [
    CLOCK_REALTIME,
    CLOCK_MONOTONIC,
    CLOCK_PROCESS_CPUTIME_ID,
    CLOCK_THREAD_CPUTIME_ID,
    CLOCK_MONOTONIC_RAW,
    CLOCK_REALTIME_COARSE,
    CLOCK_MONOTONIC_COARSE,
    CLOCK_BOOTTIME,
    CLOCK_TAI,
];

fn clocks_go_on() {
    for clock in ALL {
        let (first, second) = (now(clock), now(clock));
        is!(second >= first, "clock {clock} not to go back");
    }
    let before = now(CLOCK_MONOTONIC);
    until(|| now(CLOCK_MONOTONIC) > before);
}

fn clocks_agree() {
    const SECOND: i128 = 1_000_000_000;
    let (real, coarse) = (now(CLOCK_REALTIME), now(CLOCK_REALTIME_COARSE));
    is!((coarse - real).abs() < 60 * SECOND, "the coarse clock to be near");
    is!(now(CLOCK_BOOTTIME) >= now(CLOCK_MONOTONIC) - SECOND, "time since boot to hold the monotonic");
    is!(real > 1_600_000_000 * SECOND, "a year from 2020 on");
    // The C library reads clocks without the kernel (vDSO), and must agree with it.
    let library = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_nanos() as i128);
    let after = now(CLOCK_REALTIME);
    is!(real <= library && library <= after, "the vDSO's time {library} to lie between {real} and {after}");
    for clock in [CLOCK_MONOTONIC_RAW, CLOCK_MONOTONIC_COARSE, CLOCK_REALTIME_COARSE, CLOCK_BOOTTIME] {
        let (before, asked, after) = (library_clock(clock), now(clock), library_clock(clock));
        is!(before <= asked && asked <= after, "clock {clock}'s {asked} to lie between the vDSO's {before} and {after}");
    }
    let first = now(CLOCK_MONOTONIC);
    let library = std::time::Instant::now();
    is!(
        library.elapsed().as_nanos() < (now(CLOCK_MONOTONIC) - first + SECOND) as u128,
        "the vDSO's monotonic clock to go on likewise"
    );
}

fn resolutions() {
    for clock in ALL {
        let mut resolution = timespec { tv_sec: 9, tv_nsec: 0 };
        gives!(clock_getres(clock, &mut resolution) => 0);
        is!(resolution.tv_sec == 0 && (1..=20_000_000).contains(&resolution.tv_nsec), "clock {clock}: {} ns", resolution.tv_nsec);
        gives!(clock_getres(clock, 0) => 0);
    }
}

fn clock_arguments() {
    let mut time: timespec = zeroed();
    for clock in [99, 16, 10] {
        fails!(clock_gettime(clock, &mut time) => EINVAL);
        fails!(clock_getres(clock, &mut time) => EINVAL);
    }
    fails!(clock_gettime(CLOCK_MONOTONIC, BAD) => EFAULT);
    fails!(clock_gettime(CLOCK_REALTIME, 0) => EFAULT);
    fails!(clock_getres(CLOCK_REALTIME, BAD) => EFAULT);
}

fn clock_settings_need_rights() {
    need_root();
    in_child(|| {
        let mut time: timespec = zeroed();
        gives!(clock_gettime(CLOCK_REALTIME, &mut time) => 0);
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(clock_settime(CLOCK_REALTIME, &time) => EPERM);
        fails!(settimeofday(&timeval { tv_sec: time.tv_sec, tv_usec: 0 }, 0) => EPERM);
    });
    fails!(clock_settime(CLOCK_MONOTONIC, &timespec { tv_sec: 1, tv_nsec: 0 }) => EINVAL);
    fails!(clock_settime(CLOCK_REALTIME, &timespec { tv_sec: 1, tv_nsec: -1 }) => EINVAL | EPERM);
    fails!(clock_settime(CLOCK_REALTIME, BAD) => EFAULT);
    fails!(settimeofday(BAD, 0) => EFAULT);
}

fn cpu_clocks_count_work() {
    for clock in [CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID] {
        let before = now(clock);
        while now(clock) <= before {
            std::hint::spin_loop();
        }
        is!(now(clock) > before, "work to count");
    }
    let mut usage: rusage = zeroed();
    gives!(getrusage(RUSAGE_SELF, &mut usage) => 0);
    let used = i128::from(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1_000_000_000;
    is!(used <= now(CLOCK_PROCESS_CPUTIME_ID) + 1_000_000_000, "getrusage and the clock to agree");
}

fn cpu_clocks_of_others() {
    let step = shared_word();
    let pid = child(|| until_is(step, 1));
    // The clock of a process: its number, inverted, three bits to the left, and the kind (2: scheduled).
    let clock = |pid: c_int| (!pid) << 3 | 2;
    is!(now(clock(pid)) >= 0, "a child's clock");
    let own = now(clock(process::id()));
    is!((now(CLOCK_PROCESS_CPUTIME_ID) - own) >= 0, "the own one to be the process's");
    step.store(1, SeqCst);
    join(pid);
    fails!(clock_gettime(clock(pid), &mut zeroed::<timespec>()) => EINVAL);
}

fn old_calls() {
    let mut old: timeval = zeroed();
    let mut zone: timezone = zeroed();
    let before = now(CLOCK_REALTIME) / 1000;
    gives!(gettimeofday(&mut old, &mut zone) => 0);
    let between = i128::from(old.tv_sec) * 1_000_000 + i128::from(old.tv_usec);
    let after = now(CLOCK_REALTIME) / 1000;
    is!(before <= between && between <= after, "gettimeofday to agree");
    gives!(gettimeofday(0, 0) => 0);
    fails!(gettimeofday(BAD, 0) => EFAULT);
    let mut seconds = 0i64;
    let value = works!(time(&mut seconds));
    eq!(value as i64, seconds);
    is!((seconds - old.tv_sec).abs() <= 1, "time to agree");
    works!(time(0));
    fails!(time(BAD) => EFAULT);
}

fn sleeping() {
    let before = now(CLOCK_MONOTONIC);
    let mut left = timespec { tv_sec: 7, tv_nsec: 7 };
    gives!(nanosleep(&timespec { tv_sec: 0, tv_nsec: 2_000_000 }, &mut left) => 0);
    is!(now(CLOCK_MONOTONIC) - before >= 2_000_000, "no less than was asked for");
    // Only an interruption tells of a rest.
    eq!((left.tv_sec, left.tv_nsec), (7, 7));
    for clock in [CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_TAI] {
        let before = now(clock);
        gives!(clock_nanosleep(clock, 0, &timespec { tv_sec: 0, tv_nsec: 1_000_000 }, 0) => 0);
        is!(now(clock) - before >= 1_000_000, "no less by clock {clock}");
    }
    gives!(nanosleep(&zeroed::<timespec>(), 0) => 0);
}

fn sleeping_until() {
    for clock in [CLOCK_REALTIME, CLOCK_MONOTONIC] {
        let mut when: timespec = zeroed();
        gives!(clock_gettime(clock, &mut when) => 0);
        gives!(clock_nanosleep(clock, TIMER_ABSTIME, &when, 0) => 0);
        when.tv_nsec += 3_000_000;
        (when.tv_sec, when.tv_nsec) = (when.tv_sec + when.tv_nsec / 1_000_000_000, when.tv_nsec % 1_000_000_000);
        gives!(clock_nanosleep(clock, TIMER_ABSTIME, &when, 0) => 0);
        is!(now(clock) >= i128::from(when.tv_sec) * 1_000_000_000 + i128::from(when.tv_nsec), "the time to have come");
    }
}

fn sleep_arguments() {
    fails!(nanosleep(&timespec { tv_sec: 0, tv_nsec: 1_000_000_000 }, 0) => EINVAL);
    fails!(nanosleep(&timespec { tv_sec: 0, tv_nsec: -1 }, 0) => EINVAL);
    fails!(nanosleep(&timespec { tv_sec: -1, tv_nsec: 0 }, 0) => EINVAL);
    fails!(nanosleep(BAD, 0) => EFAULT);
    fails!(nanosleep(0, 0) => EFAULT);
    fails!(clock_nanosleep(99, 0, &zeroed::<timespec>(), 0) => EINVAL);
    // The manual page says EINVAL for the first; the kernel has one answer for all clocks by which nobody can sleep.
    fails!(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &zeroed::<timespec>(), 0) => EOPNOTSUPP);
    fails!(clock_nanosleep(CLOCK_MONOTONIC_COARSE, 0, &zeroed::<timespec>(), 0) => EOPNOTSUPP);
    fails!(clock_nanosleep(CLOCK_MONOTONIC, 0, BAD, 0) => EFAULT);
    fails!(clock_nanosleep(CLOCK_MONOTONIC, 0, &timespec { tv_sec: 0, tv_nsec: -1 }, 0) => EINVAL);
}

/// A sigevent: how, signal, value, thread.
fn event(how: c_int, signal: c_int, value: usize, thread: c_int) -> sigevent {
    let mut event: sigevent = zeroed();
    event.sigev_notify = how;
    event.sigev_signo = signal;
    event.sigev_value.sival_ptr = std::ptr::without_provenance_mut(value);
    event.sigev_notify_thread_id = thread;
    event
}

fn timer(interval: i64, value: i64) -> itimerspec {
    let nanos = |nanos: i64| timespec { tv_sec: nanos / 1_000_000_000, tv_nsec: nanos % 1_000_000_000 };
    itimerspec { it_interval: nanos(interval), it_value: nanos(value) }
}

fn timers_fire() {
    signal::on(SIGUSR1, SA_RESTART);
    let mut id = -1i32;
    gives!(timer_create(CLOCK_MONOTONIC, &event(SIGEV_SIGNAL, SIGUSR1, 0x77, 0), &mut id) => 0);
    is!(id >= 0, "a number");
    let mut left = timer(1, 1);
    gives!(timer_gettime(id, &mut left) => 0);
    eq!((left.it_value.tv_sec, left.it_value.tv_nsec), (0, 0));
    gives!(timer_settime(id, 0, &timer(0, 1), 0) => 0);
    until(|| signal::count() == 1);
    let record = signal::records()[0];
    eq!((record.signal, record.code, record.value), (SIGUSR1, SI_TIMER, 0x77));
    gives!(timer_settime(id, 0, &timer(1_000_000, 1_000_000), 0) => 0);
    until(|| signal::count() >= 4);
    gives!(timer_settime(id, 0, &timer(0, 1_000_000_000_000), &mut left) => 0);
    eq!(left.it_interval.tv_nsec, 1_000_000);
    gives!(timer_gettime(id, &mut left) => 0);
    is!(left.it_value.tv_sec > 900, "what is left");
    gives!(timer_delete(id) => 0);
    fails!(timer_delete(id) => EINVAL);
    fails!(timer_gettime(id, &mut left) => EINVAL);
    // Without an event it is SIGALRM, and the value is the timer's number.
    signal::forget();
    signal::on(SIGALRM, 0);
    gives!(timer_create(CLOCK_REALTIME, 0, &mut id) => 0);
    gives!(timer_settime(id, 0, &timer(0, 1), 0) => 0);
    until(|| signal::count() == 1);
    let record = signal::records()[0];
    eq!((record.signal, record.code, record.value), (SIGALRM, SI_TIMER, id));
}

fn timers_of_threads_and_none() {
    signal::on(SIGUSR2, 0);
    let mut id = -1i32;
    const SIGEV_THREAD_ID: c_int = 4;
    gives!(timer_create(CLOCK_MONOTONIC, &event(SIGEV_THREAD_ID, SIGUSR2, 1, process::thread_id()), &mut id) => 0);
    gives!(timer_settime(id, 0, &timer(0, 1), 0) => 0);
    until(|| signal::count() == 1);
    eq!(signal::records()[0].thread, process::thread_id());
    fails!(timer_create(CLOCK_MONOTONIC, &event(SIGEV_THREAD_ID, SIGUSR2, 1, 1), &mut id) => EINVAL);
    // One that tells nobody: its time can be asked for.
    gives!(timer_create(CLOCK_MONOTONIC, &event(SIGEV_NONE, 0, 0, 0), &mut id) => 0);
    gives!(timer_settime(id, 0, &timer(0, 1_000_000), 0) => 0);
    until(|| {
        let mut left = timer(0, 0);
        let _ = sys!(timer_gettime(id, &mut left));
        left.it_value.tv_nsec == 0
    });
    eq!(signal::count(), 1);
}

fn timer_overruns() {
    signal::on(SIGUSR1, 0);
    signal::block(&[SIGUSR1]);
    let mut id = -1i32;
    gives!(timer_create(CLOCK_MONOTONIC, &event(SIGEV_SIGNAL, SIGUSR1, 0, 0), &mut id) => 0);
    // Far enough apart that none comes between the signal and the question.
    gives!(timer_settime(id, 0, &timer(20_000_000, 20_000_000), 0) => 0);
    let start = now(CLOCK_MONOTONIC);
    until(|| now(CLOCK_MONOTONIC) - start > 190_000_000);
    signal::block(&[]);
    // One signal, however often it expired meanwhile; the rest was counted.
    is!(works!(timer_getoverrun(id)) >= 5, "what was missed to be counted");
    gives!(timer_delete(id) => 0);
    fails!(timer_getoverrun(id) => EINVAL);
}

fn timer_arguments() {
    let mut id = -1i32;
    fails!(timer_create(99, 0, &mut id) => EINVAL);
    fails!(timer_create(CLOCK_MONOTONIC, &event(99, SIGUSR1, 0, 0), &mut id) => EINVAL);
    fails!(timer_create(CLOCK_MONOTONIC, &event(SIGEV_SIGNAL, 65, 0, 0), &mut id) => EINVAL);
    fails!(timer_create(CLOCK_MONOTONIC, BAD, &mut id) => EFAULT);
    fails!(timer_create(CLOCK_MONOTONIC, 0, BAD) => EFAULT);
    gives!(timer_create(CLOCK_MONOTONIC, 0, &mut id) => 0);
    fails!(timer_settime(id, 0, 0, 0) => EINVAL);
    fails!(timer_settime(id, 0, BAD, 0) => EFAULT);
    fails!(timer_settime(id + 1000, 0, &timer(0, 0), 0) => EINVAL);
    let mut bad = timer(0, 1);
    bad.it_value.tv_nsec = 1_000_000_000;
    fails!(timer_settime(id, 0, &bad, 0) => EINVAL);
    fails!(timer_gettime(id, BAD) => EFAULT);
    fails!(timer_delete(-1) => EINVAL);
}

fn timers_are_not_inherited() {
    let mut id = -1i32;
    gives!(timer_create(CLOCK_MONOTONIC, 0, &mut id) => 0);
    in_child(|| {
        fails!(timer_delete(id) => EINVAL);
        fails!(timer_gettime(id, &mut timer(0, 0)) => EINVAL);
    });
    gives!(timer_delete(id) => 0);
}

fn absolute_timers() {
    signal::on(SIGUSR1, 0);
    let mut id = -1i32;
    gives!(timer_create(CLOCK_REALTIME, &event(SIGEV_SIGNAL, SIGUSR1, 0, 0), &mut id) => 0);
    // The past is now.
    gives!(timer_settime(id, TIMER_ABSTIME, &timer(0, 1_000_000_000), 0) => 0);
    until(|| signal::count() == 1);
    for clock in [CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_PROCESS_CPUTIME_ID] {
        gives!(timer_create(clock, &event(SIGEV_SIGNAL, SIGUSR1, 0, 0), &mut id) => 0);
        signal::forget();
        gives!(timer_settime(id, 0, &timer(0, 1_000_000), 0) => 0);
        while signal::count() == 0 {
            std::hint::spin_loop();
        }
    }
}

fn adjtimex_tells() {
    let mut state: timex = zeroed();
    let value = works!(adjtimex(&mut state));
    is!(value <= 5, "a state of the clock, not {value}");
    is!(state.tick >= 9000 && state.tick <= 11000, "a tick of about 10000 µs, not {}", state.tick);
    works!(clock_adjtime(CLOCK_REALTIME, &mut zeroed::<timex>()));
    fails!(adjtimex(BAD) => EFAULT);
    fails!(clock_adjtime(CLOCK_MONOTONIC, &mut state) => EOPNOTSUPP);
    need_root();
    in_child(|| {
        gives!(setresuid(1000, 1000, 1000) => 0);
        let mut wanted: timex = zeroed();
        wanted.modes = 2; // ADJ_FREQUENCY
        fails!(adjtimex(&mut wanted) => EPERM);
    });
}

fn uptime() {
    let mut info: sysinfo = zeroed();
    gives!(sysinfo(&mut info) => 0);
    let seconds = (now(CLOCK_BOOTTIME) / 1_000_000_000) as i64;
    is!((info.uptime - seconds).abs() <= 2, "uptime {} to be the boot clock's {seconds}", info.uptime);
    let text = contents("/proc/uptime");
    let first = text.split('.').next().and_then(|text| text.parse::<i64>().ok()).unwrap_or(-100);
    is!((first - seconds).abs() <= 2, "/proc/uptime to agree");
}
