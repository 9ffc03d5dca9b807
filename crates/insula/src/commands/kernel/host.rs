//! The host's programs: run to their end, or until the user wants one.

use crate::global::Coded;
use crate::show::printable;
use anyhow::{Context, bail, ensure};
use insula_sys::child;
use insula_sys::signals::SignalFd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
/// As of a shell, for a program that Ctrl-C has ended.
const INTERRUPTED: u8 = 130;
/// Of what a program complains, so much is looked at when it has failed, in bytes.
const COMPLAINTS: usize = 1 << 20;

/// What runs programs. From when it is made, Ctrl-C and its kin end the work in order, with nothing left behind.
pub(super) struct Host {
    signals: SignalFd,
}

impl Host {
    pub(super) fn new() -> anyhow::Result<Host> {
        Ok(Host { signals: SignalFd::new([SIGHUP, SIGINT, SIGTERM])? })
    }

    /// Runs a program to its end; what it wrote.
    pub(super) fn run(&self, program: &str, args: &[&OsStr], dir: &Path) -> anyhow::Result<Vec<u8>> {
        let mut output = Vec::new();
        let mut command = Command::new(program);
        self.follow(command.args(args).current_dir(dir), &mut |piece| output.extend_from_slice(piece))?;
        Ok(output)
    }

    /// Runs a program to its end, and shows what it writes as it comes.
    pub(super) fn follow(&self, command: &mut Command, said: &mut dyn FnMut(&[u8])) -> anyhow::Result<()> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child::tie(command).spawn().with_context(|| format!("can't run {program}"))?;
        let mut complaints = Vec::new();
        let followed = self.listen(&mut child, said, &mut complaints);
        if followed.is_err() {
            child::end(&mut child);
        }
        followed?;
        let status = child.wait().with_context(|| format!("can't wait for {program}"))?;
        ensure!(status.success(), "{program} failed: {}", printable(&essence(&complaints)));
        Ok(())
    }

    /// Carries what a program writes until it has closed both ends.
    fn listen(&self, child: &mut Child, said: &mut dyn FnMut(&[u8]), complaints: &mut Vec<u8>) -> anyhow::Result<()> {
        let (output, errors) = (child.stdout.take().context("no pipe")?, child.stderr.take().context("no pipe")?);
        let (mut output, mut errors) = (Some(output), Some(errors));
        let mut buffer = vec![0; 1 << 16];
        while output.is_some() || errors.is_some() {
            let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
            fds.extend(output.as_ref().map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)));
            fds.extend(errors.as_ref().map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)));
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                result => result.context("can't wait for a program")?,
            };
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            self.check()?;
            let second = 1 + usize::from(output.is_some());
            if output.is_some() && ready[1] && !read(&mut output, &mut buffer, said)? {
                output = None;
            }
            if errors.is_some() && ready.get(second) == Some(&true) {
                let mut keep = |piece: &[u8]| {
                    complaints.extend_from_slice(&piece[..piece.len().min(COMPLAINTS.saturating_sub(complaints.len()))]);
                };
                if !read(&mut errors, &mut buffer, &mut keep)? {
                    errors = None;
                }
            }
        }
        Ok(())
    }

    /// An error if the user wants an end.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        match self.signals.read() {
            Some(_) => Err(Coded::new(INTERRUPTED, "interrupted; nothing was kept".into()).into()),
            None => Ok(()),
        }
    }
}

/// Passes on one piece; false at the end.
fn read(pipe: &mut Option<impl AsFd>, buffer: &mut [u8], to: &mut dyn FnMut(&[u8])) -> anyhow::Result<bool> {
    let Some(pipe) = pipe else { return Ok(false) };
    match rustix::io::read(pipe.as_fd(), &mut *buffer) {
        Ok(0) => Ok(false),
        Ok(length) => {
            to(&buffer[..length]);
            Ok(true)
        }
        Err(Errno::INTR | Errno::AGAIN) => Ok(true),
        Err(error) => bail!("can't read what a program writes: {error}"),
    }
}

/// Of a failed program's complaints the one line that tells most: the first that speaks of an error, else the last.
fn essence(complaints: &[u8]) -> String {
    let text = String::from_utf8_lossy(complaints);
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let telling = |line: &&str| {
        let line = line.to_ascii_lowercase();
        ["error", "e: ", "***"].iter().any(|word| line.contains(word))
    };
    lines.clone().find(telling).or_else(|| lines.next_back()).unwrap_or("it doesn't say why").to_owned()
}

/// A program along the host's `PATH`.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok())
}

#[cfg(test)]
mod tests {
    use super::essence;

    #[test]
    fn of_many_complaints_one_tells() {
        assert_eq!(essence(b"warning: x\na.c:3: error: no b\nmake: *** [all] Error 2\n"), "a.c:3: error: no b");
        assert_eq!(essence(b"first\n\nlast\n"), "last");
        assert_eq!(essence(b""), "it doesn't say why");
    }
}
