//! Calls at random: a hostile program, for a kernel that has to bear it.
//!
//! A keeper makes process after process; each makes a batch of calls with its threads: any number, and arguments that are now senseless,
//! now nearly right. What a call does to the process that made it doesn't matter: it may crash, and the next takes its place. What
//! stands still is killed. What the keeper looks at is the kernel: every process must end when it is killed, and a keeper that has
//! made no call at random itself must be able to work to the end.
//!
//! A batch follows from its number and the seed alone, as far as its threads let it.

use crate::sys::{self, process, signal, sys};
use libc::{SIGALRM, SIGKILL, c_int};
use random::Random;
use std::fs::File;
use std::io::{Read, Seek};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use syscalls::Sysno;

mod random;

/// Calls of one process.
const BATCH: u64 = 1000;

/// Threads of one process, beside the first.
const THREADS: u64 = 2;

/// How long a process may make no call before it is killed: it waits for something, or has spoilt itself.
const PATIENCE: Duration = Duration::from_millis(200);

/// How long a process may take to end once it is killed. A busy machine needs some of it; a kernel that lost the process, all.
const LAST_PATIENCE: Duration = Duration::from_secs(20);

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct Options {
    calls: u64,
    seed: u64,
    jobs: u64,
    first: u64,
    wait: bool,
}

impl Options {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options { calls: 100_000, seed: 1, jobs: 4, first: 0, wait: false };
        while let Some(arg) = args.next() {
            let mut number = || {
                let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
                value.parse::<u64>().map_err(|_| format!("{arg} is a number, not '{value}'"))
            };
            match arg.as_str() {
                "--calls" => options.calls = number()?,
                "--seed" => options.seed = number()?,
                "--jobs" => options.jobs = number()?.clamp(1, 64),
                "--first" => options.first = number()?,
                "--wait" => options.wait = true,
                _ => return Err(format!("'{arg}' is not an option of fuzz")),
            }
        }
        Ok(options)
    }
}

/// Makes so many calls. The exit code is 1 if a process couldn't be ended, 2 if this isn't the place.
pub(crate) fn run(options: &Options) -> ExitCode {
    if std::fs::read_to_string("/proc/sys/kernel/osrelease").is_ok_and(|release| !release.contains("insula")) {
        eprintln!(
            "insula-syscalls: fuzz makes calls at random, as the superuser if it is run so, and harms what it is run on: run it in a sandbox"
        );
        return ExitCode::from(2);
    }
    let made = &sys::memory::share::<AtomicU64>(options.jobs as usize);
    let workers: Vec<c_int> = (0..options.jobs).map(|job| process::child(|| work(options, job, &made[job as usize]))).collect();
    let ends = workers.into_iter().map(process::wait).filter(|end| *end != process::Status::Exited(0));
    let failed = ends.inspect(|end| eprintln!("insula-syscalls: a worker ended as {end:?}")).count();
    let made: u64 = made.iter().map(|count| count.load(Relaxed)).sum();
    println!("{made} calls, {failed} of {} workers lost a process", options.jobs);
    if options.wait {
        // Whoever runs this looks at the kernel meanwhile.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    }
    ExitCode::from(u8::from(failed > 0))
}

/// One worker: batch after batch, until its share of the calls is made.
fn work(options: &Options, job: u64, made: &AtomicU64) {
    let _ = sys!(prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
    signal::reset(libc::SIGCHLD);
    // A process that may unmount `/proc` does so.
    let own = process::id();
    let mut children = File::open(format!("/proc/{own}/task/{own}/children")).expect("what the kernel tells of this process");
    let share = options.calls / options.jobs;
    let mut batch = options.first + job;
    while made.load(Relaxed) < share {
        // The process may write there, too: what it says is only taken for how far it came.
        let counter = &sys::memory::share::<AtomicU64>(1);
        let seed = options.seed ^ batch.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let directory = format!("fuzz-{job}-{batch}");
        let _ = std::fs::create_dir(&directory);
        let pid = process::child(|| attack(seed, &directory, &counter[0]));
        watch(pid, &counter[0]);
        if let Err(left) = sweep(pid, &mut children) {
            eprintln!("insula-syscalls: batch {batch} of seed {}: a process doesn't end: {left}", options.seed);
            process::exit(1);
        }
        let _ = std::fs::remove_dir_all(&directory);
        made.fetch_add(counter[0].load(Relaxed).clamp(1, BATCH), Relaxed);
        let _ = sys!(munmap(counter.as_ptr(), sys::memory::PAGE));
        batch += options.jobs;
    }
}

/// Waits until a process has ended, or stands still.
fn watch(pid: c_int, counter: &AtomicU64) {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let mut word = 0;
        if sys!(wait4(pid, &mut word, libc::WNOHANG | libc::WUNTRACED, 0)) != Ok(0) {
            return;
        }
        let now = counter.load(Relaxed);
        if now != last {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() > PATIENCE {
            return;
        }
        let _ = sys!(nanosleep(&libc::timespec { tv_sec: 0, tv_nsec: 2_000_000 }, 0));
    }
}

/// Kills what is left of a batch.
///
/// # Errors
/// Not all of it ends: what the kernel says of the rest.
fn sweep(pid: c_int, children: &mut File) -> Result<(), String> {
    let start = Instant::now();
    let _ = sys!(kill(pid, SIGKILL));
    loop {
        match sys!(wait4(-1, 0, libc::WNOHANG | libc::__WALL, 0)) {
            Ok(0) => {}
            Ok(_) => continue,
            Err(_) => return Ok(()),
        }
        let mut numbers = String::new();
        let _ = children.rewind().and_then(|()| children.read_to_string(&mut numbers));
        let numbers: Vec<c_int> = numbers.split_ascii_whitespace().filter_map(|child| child.parse().ok()).collect();
        for child in &numbers {
            let _ = sys!(kill(*child, SIGKILL));
        }
        if start.elapsed() > LAST_PATIENCE {
            return Err(numbers.into_iter().map(told).collect::<Vec<_>>().join("; "));
        }
        let _ = sys!(nanosleep(&libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 }, 0));
    }
}

/// What the kernel says of a process and its threads, in a line.
fn told(pid: c_int) -> String {
    let mut lines = vec![pid.to_string()];
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    for task in tasks {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_else(|error| error.to_string());
        lines.push(format!("{} {} {}", read("stat"), read("wchan"), read("syscall")));
    }
    lines.join(" ").replace('\n', " ")
}

/// What a process of one batch does.
fn attack(seed: u64, directory: &str, counter: &AtomicU64) {
    let mut random = Random::new(seed);
    let _ = std::env::set_current_dir(directory);
    let _ = sys!(setsid());
    // What it says when it crashes is of no interest.
    for fd in 0..3 {
        let _ = sys!(openat(libc::AT_FDCWD, c"/dev/null", libc::O_RDWR)).and_then(|null| sys!(dup2(null, fd)));
    }
    for (resource, most) in [(libc::RLIMIT_FSIZE, 1 << 20), (libc::RLIMIT_NOFILE, 64), (libc::RLIMIT_AS, 1 << 30)] {
        let _ = sys!(setrlimit(resource, &libc::rlimit { rlim_cur: most, rlim_max: most }));
    }
    // Half of them are nobody in particular.
    if random.below(2) == 0 {
        let _ = sys!(setresgid(1000, 1000, 1000));
        let _ = sys!(setresuid(1000, 1000, 1000));
    }
    std::thread::scope(|scope| {
        for index in 1..=THREADS {
            // Without room for a thread there are fewer.
            let _ = std::thread::Builder::new().spawn_scoped(scope, move || calls(seed ^ index << 32, counter));
        }
        calls(seed, counter);
    });
}

/// Makes calls until those of the batch are made.
fn calls(seed: u64, counter: &AtomicU64) {
    let mut random = Random::new(seed);
    let arena = random::Arena::new();
    let own = process::id();
    while counter.fetch_add(1, Relaxed) < BATCH {
        if random.below(32) == 0 {
            arena.refill(&mut random);
            tick();
        }
        let number = random.call();
        let mut arguments = [0; 6].map(|_: usize| arena.argument(&mut random));
        tame(number, &mut arguments, own);
        let result = sys::call_any(number, &arguments);
        random.remember(result);
        if result == 0 && forks(number) && process::id() != own {
            // A copy of this process: it goes a little way, and ends.
            let left = counter.load(Relaxed).saturating_add(20).min(BATCH);
            while counter.fetch_add(1, Relaxed) < left {
                let number = random.call();
                let mut arguments = [0; 6].map(|_: usize| arena.argument(&mut random));
                tame(number, &mut arguments, process::id());
                let _ = sys::call_any(number, &arguments);
            }
            process::exit(0);
        }
    }
}

/// A signal soon, whatever this thread will be waiting for then.
fn tick() {
    signal::on(SIGALRM, 0);
    signal::block(&[]);
    let soon = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 5000 },
        it_value: libc::timeval { tv_sec: 0, tv_usec: 5000 },
    };
    let _ = sys!(setitimer(libc::ITIMER_REAL, &soon, 0));
}

fn named(number: usize, names: &[Sysno]) -> bool {
    names.iter().any(|name| name.id() as usize == number)
}

fn forks(number: usize) -> bool {
    named(number, &[Sysno::fork, Sysno::vfork, Sysno::clone, Sysno::clone3])
}

/// Keeps a call from ending the fuzzer itself: who is meant is this process, whatever was drawn.
fn tame(number: usize, arguments: &mut [usize; 6], own: c_int) {
    use Sysno as S;
    if named(
        number,
        &[S::kill, S::tkill, S::tgkill, S::rt_sigqueueinfo, S::rt_tgsigqueueinfo, S::process_vm_writev, S::prlimit64],
    ) || named(number, &[S::pidfd_open, S::setpgid, S::ioprio_set, S::setpriority])
    {
        arguments[0] = own as usize;
    }
    if named(number, &[S::pidfd_send_signal]) {
        arguments[1] = own as usize;
    }
    // A thread of its own, or who was made soon after: perhaps another batch's, never a worker.
    if named(number, &[S::ptrace]) {
        arguments[1] = own as usize + arguments[1] % 4;
    }
}
