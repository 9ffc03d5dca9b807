//! A guest that runs, and what it says.

use super::peers::{Guest, Vmm};
use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// Where the lab's half keeps its files.
pub(super) fn folder() -> Result<PathBuf> {
    let folder = PathBuf::from("/run/figures");
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A guest, and its console; ended when this is dropped.
pub(super) struct Running {
    child: Child,
    console: BufReader<ChildStdout>,
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
        let console = BufReader::new(child.stdout.take().context("a pipe")?);
        Ok(Running { child, console, stderr, started })
    }

    /// Waits until the guest says a line that begins so; the rest of the line.
    pub(super) fn hear(&mut self, beginning: &str) -> Result<String> {
        let mut said = String::new();
        loop {
            let mut line = Vec::new();
            if self.console.read_until(b'\n', &mut line)? == 0 {
                let stderr = std::fs::read_to_string(&self.stderr)?;
                bail!("the guest ended before it said {beginning}: {said}{stderr}");
            }
            let line = String::from_utf8_lossy(&line);
            if let Some(at) = line.find(beginning) {
                return Ok(line[at + beginning.len()..].trim().to_owned());
            }
            said.push_str(&line);
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
