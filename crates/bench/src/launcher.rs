//! The small process that starts measured programs and takes their time: `workload launch`, seen from the benchmark.
//!
//! It leads a process group of its own, so that Ctrl-C at the terminal reaches the benchmark only, which then ends what runs.

use crate::interrupt::{Event, Interrupt};
use crate::scratch::Scratch;
use crate::{Error, host};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use workload::launch::{Answer, Request, Usage};

/// Starts programs, one at a time.
pub(crate) struct Launcher {
    /// What stands before the launcher's own command line: how it comes to where it shall stand.
    prefix: Vec<String>,
    process: Option<Process>,
}

struct Process {
    child: Child,
    requests: ChildStdin,
    answers: ChildStdout,
}

/// What came of a program.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It ended by itself.
    Ended(Usage),
    /// It could not be started, or not be watched; why.
    Failed(String),
    /// It did not end in time, and was ended.
    Late,
    /// The user wants an end; it was ended.
    Stop,
}

impl Launcher {
    /// A launcher that is started through `prefix` (empty: directly), at its first use.
    pub(crate) fn new(prefix: Vec<String>) -> Launcher {
        Launcher { prefix, process: None }
    }

    /// Runs a program to its end; `weigh` says whether it waits for the end of its input, and is to be weighed. What it prints goes to the scratch directory's files.
    pub(crate) fn run(
        &mut self,
        argv: Vec<String>,
        weigh: bool,
        scratch: &Scratch,
        interrupt: &Interrupt,
        timeout: Duration,
    ) -> Result<Outcome, Error> {
        let request = Request { argv, stdout: host::text(scratch.stdout()), stderr: host::text(scratch.stderr()), weigh };
        let process = match self.process.take() {
            Some(process) => self.process.insert(process),
            None => self.process.insert(Process::start(&self.prefix, scratch)?),
        };
        let deadline = Instant::now() + timeout;
        let outcome = match process.ask(&request) {
            Ok(()) => process.answer(interrupt, deadline)?,
            Err(error) => Outcome::Failed(format!("the launcher does not listen: {error}")),
        };
        if !matches!(outcome, Outcome::Ended(_)) {
            self.process = None;
        }
        Ok(outcome)
    }
}

impl Process {
    fn start(prefix: &[String], scratch: &Scratch) -> Result<Process, Error> {
        let workload = host::text(scratch.workload());
        let argv: Vec<&str> = prefix.iter().map(String::as_str).chain([workload.as_str(), "launch"]).collect();
        let failed = || Error::file("start", scratch.workload());
        let mut child = Command::new(argv[0])
            .args(&argv[1..])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(failed())?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(requests), Some(answers)) => Ok(Process { child, requests, answers }),
            _ => Err(failed()(std::io::Error::other("it has no pipes"))),
        }
    }

    fn ask(&mut self, request: &Request) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.requests.write_all(&line)
    }

    fn answer(&mut self, interrupt: &Interrupt, deadline: Instant) -> Result<Outcome, Error> {
        let (mut line, mut part) = (Vec::new(), [0; 512]);
        while !line.ends_with(b"\n") {
            match interrupt.wait(&self.answers, deadline)? {
                Event::Ready => {}
                Event::Late => return Ok(Outcome::Late),
                Event::Stop => return Ok(self.settle()),
            }
            match self.answers.read(&mut part) {
                Ok(0) => return Ok(Outcome::Failed("the launcher ended".into())),
                Ok(n) => line.extend_from_slice(&part[..n]),
                Err(error) => return Ok(Outcome::Failed(format!("the launcher can't be heard: {error}"))),
            }
        }
        Ok(match serde_json::from_slice(&line) {
            Ok(Answer::Ended(usage)) => Outcome::Ended(usage),
            Ok(Answer::Error(reason)) => Outcome::Failed(reason),
            Err(error) => Outcome::Failed(format!("the launcher's answer can't be read: {error}")),
        })
    }
}

/// How long what runs may go on after the user wants an end: a runtime that ends by itself leaves less behind than one that is killed.
const GRACE: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

impl Process {
    fn settle(&self) -> Outcome {
        let _ = poll(&mut [PollFd::new(&self.answers, PollFlags::IN)], Some(&GRACE));
        Outcome::Stop
    }
}

impl Drop for Process {
    /// Ends the launcher and what it has just started. It is not asked first: an idle one has nothing to put in order.
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}
