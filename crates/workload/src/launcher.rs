//! `workload launch`: starts programs, waits for them, and says what they used. See [`workload::launch`].

use crate::weight;
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;
use wait4::Wait4;
use workload::launch::{Answer, Request, Usage};

/// Answers requests until standard input ends.
pub(crate) fn main() -> ExitCode {
    let mut out = io::stdout();
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { return ExitCode::FAILURE };
        let answer = match serde_json::from_str::<Request>(&line) {
            Ok(request) => answer(&request),
            Err(error) => Answer::Error(format!("the request can't be read: {error}")),
        };
        let sent = serde_json::to_string(&answer).map_err(io::Error::from).and_then(|text| writeln!(out, "{text}"));
        if sent.and_then(|()| out.flush()).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn answer(request: &Request) -> Answer {
    match start(request) {
        Ok(usage) => Answer::Ended(usage),
        Err(error) => Answer::Error(format!("{}: {error}", request.argv.first().map_or("", String::as_str))),
    }
}

fn start(request: &Request) -> io::Result<Usage> {
    let (program, args) = request.argv.split_first().ok_or_else(|| io::Error::other("no program given"))?;
    if request.weigh {
        weight::adopt_orphans()?;
    }
    let input = if request.weigh { Stdio::piped() } else { Stdio::null() };
    let mut command = Command::new(program);
    command.args(args).stdin(input).stdout(File::create(&request.stdout)?).stderr(File::create(&request.stderr)?);
    let begin = Instant::now();
    let mut child = command.spawn()?;
    let idle = if request.weigh { weight::weigh(&mut child, &request.stdout).map(Some) } else { Ok(None) };
    drop(child.stdin.take());
    let used = child.wait4()?;
    let wall = begin.elapsed();
    if request.weigh {
        weight::bury_orphans();
    }
    Ok(Usage {
        wall_ns: wall.as_nanos() as u64,
        cpu_ns: (used.rusage.utime + used.rusage.stime).as_nanos() as u64,
        rss: used.rusage.maxrss,
        code: used.status.code().or_else(|| used.status.signal().map(|signal| 128 + signal)).unwrap_or(255),
        idle: idle?,
    })
}
