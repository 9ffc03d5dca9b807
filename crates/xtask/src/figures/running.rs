//! A guest that runs, and what it says.

use super::peers::{Guest, Vmm};
use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// How long a guest may say nothing, in seconds. In virtual time they pass at once when all are waiting for something that doesn't come.
const PATIENCE: i64 = 60;

/// Where the lab's half keeps its files.
pub(super) fn folder() -> Result<PathBuf> {
    let folder = PathBuf::from("/run/figures");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A guest, and its console; ended when this is dropped.
pub(super) struct Running {
    child: Child,
    console: ChildStdout,
    /// What it has said and nobody has heard.
    unheard: Vec<u8>,
    stderr: PathBuf,
    /// When it was started, as [`now`] has it.
    pub(super) started: f64,
}

impl Running {
    pub(super) fn start(vmm: &Vmm, guest: &Guest, folder: &Path) -> Result<Running> {
        let command = vmm.command(guest, folder)?;
        let stderr = folder.join("stderr");
        let mut start = Command::new(&command[0]);
        start.args(&command[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&stderr)?);
        let started = now();
        let mut child = start.spawn().with_context(|| format!("start {:?}", command[0]))?;
        let console = child.stdout.take().context("a pipe")?;
        Ok(Running { child, console, unheard: Vec::new(), stderr, started })
    }

    /// Waits until the guest says a line that begins so; the rest of the line.
    pub(super) fn hear(&mut self, beginning: &str) -> Result<String> {
        let mut said = String::new();
        loop {
            let Some(line) = self.line()? else {
                let stderr = std::fs::read_to_string(&self.stderr)?;
                bail!("the guest ended, or was silent for {PATIENCE} seconds, before it said {beginning}: {said}{stderr}");
            };
            let line = String::from_utf8_lossy(&line);
            if let Some(at) = line.find(beginning) {
                return Ok(line[at + beginning.len()..].trim().to_owned());
            }
            said.push_str(&line);
        }
    }

    /// The next line; none if there is no more, or not for a long time.
    fn line(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.unheard.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(self.unheard.drain(..=end).collect()));
            }
            let patience = Timespec { tv_sec: PATIENCE, tv_nsec: 0 };
            let mut part = [0; 4096];
            let silent = poll(&mut [PollFd::new(&self.console, PollFlags::IN)], Some(&patience))? == 0;
            match if silent { 0 } else { self.console.read(&mut part)? } {
                0 => return Ok(None),
                length => self.unheard.extend_from_slice(&part[..length]),
            }
        }
    }

    /// Waits until the guest says a line that begins so; when.
    pub(super) fn wait_for(&mut self, beginning: &str) -> Result<f64> {
        self.hear(beginning).map(|_| now())
    }

    /// Types an empty line.
    pub(super) fn go_on(&mut self) -> Result<()> {
        let console = self.child.stdin.as_mut().context("a pipe")?;
        Ok(console.write_all(b"\n")?)
    }

    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn stop_it(&self) -> Result<()> {
        let pid = Pid::from_raw(self.child.id() as i32).context("a process")?;
        Ok(kill_process(pid, Signal::STOP)?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Seconds on the clock of the trace.
pub(super) fn now() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
