//! Runs tests: each in a process of its own, watched, and swept away when it is over.
//!
//! With `--jobs N` there are N workers, each a process that takes the next test from a counter they share. A worker adopts what a
//! test's processes leave behind (PR_SET_CHILD_SUBREAPER), and kills it before it takes the next test.

use crate::board::{self, Outcome, Slot};
use crate::families::{self, Test};
use crate::sys::{self, process, process::Status, signal, sys, zeroed};
use libc::{SIGCHLD, SIGKILL, WNOHANG, c_int, timespec};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct Options {
    filters: Vec<String>,
    jobs: usize,
    timeout: Duration,
    json: bool,
}

impl Options {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options { filters: Vec::new(), jobs: 1, timeout: Duration::from_secs(60), json: false };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--jobs" => options.jobs = number(&arg, &value()?)?,
                "--timeout" => options.timeout = Duration::from_secs(number(&arg, &value()?)? as u64),
                "--format" => match value()?.as_str() {
                    "text" => options.json = false,
                    "json" => options.json = true,
                    other => return Err(format!("--format is text or json, not '{other}'")),
                },
                _ if arg.starts_with('-') => return Err(format!("'{arg}' is not an option of run")),
                _ => options.filters.push(arg),
            }
        }
        Ok(options)
    }
}

fn number(option: &str, value: &str) -> Result<usize, String> {
    value.parse().ok().filter(|number| *number > 0).ok_or_else(|| format!("{option} is a number from 1 on, not '{value}'"))
}

/// Runs the tests that were asked for. The exit code is 0 if none failed, 1 if one did, 2 if there is nothing to run.
pub(crate) fn run(options: &Options) -> ExitCode {
    let asked =
        |test: &Test| options.filters.is_empty() || options.filters.iter().any(|filter| test.full_name().contains(filter));
    let tests: Vec<Test> = families::all().filter(asked).collect();
    if tests.is_empty() {
        eprintln!("insula-syscalls: no test's name contains {}; 'list' names them", options.filters.join(" or "));
        return ExitCode::from(2);
    }
    let scratch = match scratch() {
        Ok(path) => path,
        Err(message) => {
            eprintln!("insula-syscalls: {message}");
            return ExitCode::from(2);
        }
    };
    quiet_panics();
    let slots = board::make(tests.len());
    let next = &sys::memory::share::<AtomicUsize>(1)[0];
    let worker = Worker { options, tests: &tests, slots, next, scratch: &scratch };
    if options.jobs == 1 {
        worker.work();
    } else {
        let workers: Vec<c_int> = (0..options.jobs.min(tests.len())).map(|_| process::child(|| worker.work())).collect();
        for pid in workers {
            process::wait(pid);
        }
    }
    if let Err(error) = std::fs::remove_dir_all(&scratch) {
        eprintln!("insula-syscalls: {} is left behind: {error}", scratch.display());
    }
    summary(options, slots)
}

/// A directory of this run's own: in TMPDIR, or in the working directory.
fn scratch() -> Result<PathBuf, String> {
    let parent = match std::env::var_os("TMPDIR") {
        Some(path) => PathBuf::from(path),
        None => std::env::current_dir().map_err(|error| format!("the working directory: {error}"))?,
    };
    let path = parent.join(format!("insula-syscalls.{}", process::id()));
    std::fs::create_dir(&path).map_err(|error| format!("making {}: {error}; set TMPDIR", path.display()))?;
    std::fs::canonicalize(&path).map_err(|error| format!("{}: {error}", path.display()))
}

/// A panic in a test is a failed assertion like any other, at the panic's place.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(String::new, |place| format!("{}:{}: ", place.file(), place.line()));
        let text = info.payload().downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| info.payload().downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panicked".to_owned());
        board::record_failure(&format!("{place}{text}"));
        process::exit(crate::check::FAILED);
    }));
}

struct Worker<'a> {
    options: &'a Options,
    tests: &'a [Test],
    slots: &'static [Slot],
    next: &'static AtomicUsize,
    scratch: &'a Path,
}

impl Worker<'_> {
    fn work(&self) {
        // Without it, what tests leave behind goes to init: untidy, and no reason not to test.
        let _ = sys!(prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
        signal::reset(SIGCHLD);
        signal::block(&[SIGCHLD]);
        loop {
            let index = self.next.fetch_add(1, Relaxed);
            let Some(test) = self.tests.get(index) else { return };
            let directory = self.scratch.join(index.to_string());
            self.run(index, test, &directory);
            let _ = std::fs::remove_dir_all(&directory);
            let line = line(test, &self.slots[index], self.options.json);
            let _ = std::io::stdout().write_all(line.as_bytes());
        }
    }

    fn run(&self, index: usize, test: &Test, directory: &Path) {
        let slot = &self.slots[index];
        if let Err(error) = std::fs::create_dir(directory) {
            return slot.fail(&format!("{}: {error}", directory.display()));
        }
        let _ = std::io::stdout().flush();
        let pid = process::child(|| {
            board::enter(index);
            begin(directory);
            (test.run)();
            slot.pass();
        });
        match wait_at_most(pid, self.options.timeout) {
            None => slot.fail(&format!("hangs: killed after {} s", self.options.timeout.as_secs())),
            Some(Status::Exited(0)) if slot.outcome() != Outcome::Unknown => {}
            Some(status) => slot.fail(&format!("its process ended early: {status:?}")),
        }
        sweep(pid);
    }
}

/// The state in which every test begins.
fn begin(directory: &Path) {
    let _ = sys!(setsid());
    for number in 1..=64 {
        if number != SIGKILL && number != libc::SIGSTOP {
            signal::reset(number);
        }
    }
    signal::block(&[]);
    let _ = sys!(umask(0o022));
    // Whoever started us may have left descriptors open.
    if sys!(close_range(3, u32::MAX, 0)).is_err() {
        for fd in 3..1024 {
            let _ = sys!(close(fd));
        }
    }
    if let Err(error) = std::env::set_current_dir(directory) {
        crate::check::fail(&format!("{}: {error}", directory.display()));
    }
}

/// Waits for a child with SIGCHLD blocked. None: it was not over in time.
fn wait_at_most(pid: c_int, timeout: Duration) -> Option<Status> {
    let end = Instant::now() + timeout;
    loop {
        let mut word = 0;
        if sys!(wait4(pid, &mut word, WNOHANG, 0)) == Ok(pid as usize) {
            return Some(process::status(word));
        }
        let left = end.checked_duration_since(Instant::now())?;
        let left = timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let _ = sys!(rt_sigtimedwait(&signal::set(&[SIGCHLD]), 0, &left, signal::SET));
    }
}

/// Kills what is left of a test: its process group, and every child that became ours.
fn sweep(pid: c_int) {
    let _ = sys!(kill(pid, SIGKILL));
    let _ = sys!(kill(-pid, SIGKILL));
    while let Ok(ended) = sys!(wait4(-1, 0, WNOHANG, 0)) {
        if ended == 0 {
            let own = process::id();
            let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
            for child in children.split_ascii_whitespace().filter_map(|child| child.parse::<c_int>().ok()) {
                let _ = sys!(kill(child, SIGKILL));
            }
            let wait = timespec { tv_sec: 0, tv_nsec: 10_000_000 };
            let _ = sys!(rt_sigtimedwait(&signal::set(&[SIGCHLD]), 0, &wait, signal::SET));
        }
    }
    let _ = sys!(rt_sigtimedwait(&signal::set(&[SIGCHLD]), 0, &zeroed::<timespec>(), signal::SET));
}

fn line(test: &Test, slot: &Slot, json: bool) -> String {
    let (word, text) = match slot.outcome() {
        Outcome::Passed => ("ok", String::new()),
        Outcome::Skipped(reason) => ("skip", reason),
        Outcome::Failed(text) => ("not ok", text),
        Outcome::Unknown => ("not ok", "it never ended".to_owned()),
    };
    let name = test.full_name();
    if json {
        let calls: Vec<String> = slot.calls().map(|number| quoted(&call_name(number))).collect();
        let (word, text, assertions) = (quoted(word), quoted(&text), slot.assertions());
        let calls = calls.join(",");
        return format!(
            "{{\"test\":{},\"outcome\":{word},\"assertions\":{assertions},\"message\":{text},\"calls\":[{calls}]}}\n",
            quoted(&name)
        );
    }
    match word {
        "ok" => format!("ok {name} ({} assertions)\n", slot.assertions()),
        _ => format!("{word} {name}: {text}\n"),
    }
}

fn summary(options: &Options, slots: &[Slot]) -> ExitCode {
    let outcomes: Vec<Outcome> = slots.iter().map(Slot::outcome).collect();
    let passed = outcomes.iter().filter(|outcome| **outcome == Outcome::Passed).count();
    let skipped = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Skipped(_))).count();
    let failed = outcomes.len() - passed - skipped;
    // What a test asserted before it failed or was skipped counts as well: it held.
    let assertions: u32 = slots.iter().map(Slot::assertions).sum();
    let mut calls: Vec<usize> = slots.iter().flat_map(Slot::calls).collect();
    calls.sort_unstable();
    calls.dedup();
    let calls = calls.len();
    if options.json {
        println!(
            "{{\"passed\":{passed},\"failed\":{failed},\"skipped\":{skipped},\"assertions\":{assertions},\"calls\":{calls}}}"
        );
    } else {
        println!("{passed} passed, {failed} failed, {skipped} skipped; {assertions} assertions over {calls} calls");
    }
    ExitCode::from(u8::from(failed > 0))
}

fn call_name(number: usize) -> String {
    syscalls::Sysno::new(number).map_or_else(|| number.to_string(), |call| call.name().to_owned())
}

/// A string of JSON (RFC 8259).
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter < ' ' => _ = write!(quoted, "\\u{:04x}", letter as u32),
            letter => quoted.push(letter),
        }
    }
    quoted + "\""
}
