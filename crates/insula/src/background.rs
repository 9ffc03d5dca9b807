//! A process of ours that stays with a program, or a virtual machine, in the background. Who started it hears how that went.

use crate::global::Coded;
use crate::show::show;
use anyhow::Context;
use insula_spec::Id;
use insula_sys::process::{self, Fork, Spaces};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use std::process::ExitCode;

/// The background process's word to who started it.
pub(crate) struct Ready(OwnedFd);

/// Starts `work` in a process and session of its own. Returns, with the name shown, when that says that it is ready, or with its error.
pub(crate) fn start(id: &Id, work: impl FnOnce(Ready) -> anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    let (told, tell) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context("can't make a pipe")?;
    let caller = rustix::process::getpid();
    match process::fork(Spaces::empty(), None)? {
        Fork::Parent(_) => {
            drop(tell);
            hear(&told, id)
        }
        Fork::Child => {
            drop(told);
            // Who is killed while it waits is told no name: then there must be nothing of that name a moment later.
            let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
            if rustix::process::getppid() != Some(caller) {
                process::exit(1);
            }
            let _ = rustix::process::setsid();
            let errors = tell.try_clone();
            let code = match errors.context("can't open a pipe once more").map(|errors| (errors, work(Ready(tell)))) {
                Ok((_, Ok(()))) => 0,
                Ok((errors, Err(error))) => {
                    let error = Coded::of_run(error);
                    let code = error.downcast_ref::<Coded>().map_or(125, Coded::code);
                    let _ = rustix::io::write(&errors, format!("{code}{error:#}").as_bytes());
                    1
                }
                Err(_) => 1,
            };
            process::exit(code)
        }
    }
}

impl Ready {
    /// From now on the process goes on without who started it: its streams lead nowhere, or its errors here.
    pub(crate) fn leave(&self, errors: Option<OwnedFd>) -> std::io::Result<()> {
        rustix::process::set_parent_process_death_signal(None)?;
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        Ok(rustix::stdio::dup2_stderr(errors.as_ref().map_or(null.as_fd(), AsFd::as_fd))?)
    }

    /// Says that all is well. It fails if nobody hears it any more: then there is nobody who knows of what was started.
    pub(crate) fn tell(self) -> std::io::Result<()> {
        Ok(rustix::io::write(&self.0, b"ok").map(drop)?)
    }
}

/// Waits for the background process's word: nothing but the end of the pipe means that it didn't get that far.
fn hear(told: &OwnedFd, id: &Id) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::read(told, &mut buffer) {
            Ok(0) => break,
            Ok(length) => text.extend_from_slice(&buffer[..length]),
            Err(insula_sys::Errno::INTR) => {}
            Err(errno) => return Err(errno).context("can't hear from the background process"),
        }
        if text == b"ok" {
            show(format!("{id}\n"))?;
            return Ok(ExitCode::SUCCESS);
        }
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    let (code, message) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    if message.is_empty() {
        anyhow::bail!("the background process ended before the program ran");
    }
    Err(Coded::new(code.parse().unwrap_or(125), message.to_owned()).into())
}
