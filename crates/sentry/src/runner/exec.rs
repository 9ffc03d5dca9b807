//! One more process in a sandbox: the caller's side.
//!
//! The sandbox's processes aren't the host's, so there is nothing to join. A process of ours stands for the new one: it hands streams and
//! wishes to the sentry over the sandbox's control socket, passes signals on, and ends as the other one does.

use super::control::{Answer, PASSED_MOST, Request};
use crate::host::Alert;
use insula_boundary::{Error, ExecOptions, Job, Result, Summary};
use insula_spec::plan::Process;
use insula_sys::process::{self, Fork, Spaces};
use insula_sys::signals::{self, SignalFd};
use insula_sys::{Context, tty};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;
use rustix::pty::OpenptFlags;
use std::io::IoSlice;
use std::mem::MaybeUninit;

/// The longest answer, in bytes.
const LONGEST: usize = 64 << 10;

/// Descriptors beside the standard streams that a process can be given.
const PRESERVED_MOST: u32 = PASSED_MOST as u32 - 3;

/// Has the sandbox that `control` leads to run a process; returns when it runs.
pub(super) fn exec(control: OwnedFd, process: Process, mut options: ExecOptions) -> Result<Job> {
    if options.preserve_fds > PRESERVED_MOST {
        return Err(Error::Unsupported(format!("--preserve-fds: the sentry takes at most {PRESERVED_MOST}")));
    }
    let preserved = process::take_descriptors(3, options.preserve_fds).on("take over", "descriptors");
    let preserved = preserved.map_err(|error| Error::Failed(error.to_string()))?;
    let (outer, inner) = terminal(&process)?;
    let pipes = Alert::new().and_then(|alert| Ok((alert, pipe_with(PipeFlags::CLOEXEC)?)));
    let (alert, (news, teller)) = pipes.on("make", "pipes").map_err(|error| Error::Failed(error.to_string()))?;
    let given = options.stdio.take();
    let ours = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let streams = match (&inner, &given) {
        (Some(inner), _) => [inner.as_fd(), alert.woken.as_fd(), alert.wake.as_fd()],
        (None, Some([input, output, errors])) => [input.as_fd(), output.as_fd(), errors.as_fd()],
        (None, None) => ours,
    };
    let descriptors: Vec<BorrowedFd<'_>> = streams.into_iter().chain(preserved.iter().map(AsFd::as_fd)).collect();
    send(&control, &Request::Run { process: Box::new(process) }, &descriptors)?;
    // Whether it runs is heard before anybody stands for it.
    match receive(&control)? {
        Answer::Runs => {}
        Answer::Failed { code, text } => return Err(of_code(code, text)),
        _ => return Err(nonsense()),
    }
    let failed = |error: insula_sys::Error| Error::Failed(error.to_string());
    let child = match process::fork(Spaces::empty(), None).map_err(failed)? {
        Fork::Child => stand_in(&control, &teller, inner.as_ref(), options.detached),
        Fork::Parent(child) => child,
    };
    let terminal = match (outer, &options.console_socket) {
        (Some(outer), Some(path)) => {
            insula_container::runner::send_console(path, &outer)?;
            None
        }
        (outer, _) => outer,
    };
    Ok(Job { pid: child.pid.as_raw_pid(), pidfd: child.pidfd, terminal, news: Some(news) })
}

/// The processes of the sandbox that `control` leads to.
pub(super) fn processes(control: OwnedFd) -> Result<Vec<Summary>> {
    send(&control, &Request::List, &[])?;
    let mut all = Vec::new();
    loop {
        match receive(&control)? {
            Answer::Processes { list } if list.is_empty() => return Ok(all),
            Answer::Processes { list } => all.extend(list),
            _ => return Err(nonsense()),
        }
    }
}

/// Sends a signal to all of them.
pub(super) fn signal_all(control: OwnedFd, signal: i32) -> Result<()> {
    send(&control, &Request::Signal { signal }, &[])?;
    match receive(&control) {
        // The signal may have ended the sandbox.
        Ok(Answer::Done) | Err(_) => Ok(()),
        Ok(_) => Err(nonsense()),
    }
}

/// Tells it how much memory its group may have. One that is stopped, or hasn't begun, finds the request later.
pub(super) fn limit_memory(control: OwnedFd, most: Option<u64>, now: bool) -> Result<()> {
    send(&control, &Request::LimitMemory { most }, &[])?;
    if !now {
        return Ok(());
    }
    match receive(&control)? {
        Answer::Done => Ok(()),
        _ => Err(nonsense()),
    }
}

fn nonsense() -> Error {
    Error::Failed("the sandbox's kernel answers nonsense".into())
}

/// A terminal of the host's: our end, and the process's.
fn terminal(process: &Process) -> Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    if !process.terminal {
        return Ok((None, None));
    }
    let open = || {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let outer = rustix::pty::openpt(flags)?;
        rustix::pty::unlockpt(&outer)?;
        let inner = rustix::pty::ioctl_tiocgptpeer(&outer, flags)?;
        Ok::<_, rustix::io::Errno>((outer, inner))
    };
    let (outer, inner) = open().on("open", "a terminal").map_err(|error| Error::Failed(error.to_string()))?;
    if let Some((columns, rows)) = process.console_size {
        tty::set_size(&inner, columns, rows);
    }
    Ok((Some(outer), Some(inner)))
}

fn send(control: &OwnedFd, request: &Request, streams: &[BorrowedFd<'_>]) -> Result<()> {
    let json = serde_json::to_vec(request).map_err(|error| Error::Failed(format!("can't describe the process: {error}")))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PASSED_MOST))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !streams.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(streams));
    }
    let sent = rustix::net::sendmsg(control, &[IoSlice::new(&json)], &mut ancillary, SendFlags::NOSIGNAL);
    sent.on("ask", "the sandbox's kernel").map(drop).map_err(|error| Error::Failed(error.to_string()))
}

fn receive(control: &OwnedFd) -> Result<Answer> {
    let mut bytes = vec![0; LONGEST];
    let got = rustix::io::retry_on_intr(|| rustix::net::recv(control, &mut bytes[..], RecvFlags::empty()));
    let (_, count) = got.on("hear from", "the sandbox's kernel").map_err(|error| Error::Failed(error.to_string()))?;
    serde_json::from_slice(&bytes[..count]).map_err(|_| Error::Failed("the sandbox has ended".into()))
}

fn of_code(code: u8, text: String) -> Error {
    match code {
        127 => Error::NoProgram(text),
        126 => Error::CantRun(text),
        _ => Error::Failed(text),
    }
}

/// Stands for the process; ends as it does. If the caller ends, so does this, and with it the process.
///
/// A terminal is its session's, so that it hears of a new size.
fn stand_in(control: &OwnedFd, news: &OwnedFd, terminal: Option<&OwnedFd>, detached: bool) -> ! {
    if detached || terminal.is_some() {
        let _ = rustix::process::setsid();
    }
    if let Some(terminal) = terminal {
        let _ = tty::control(terminal);
    }
    if !detached {
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    }
    process::close_all_except(3, &[control.as_fd(), news.as_fd()]);
    let Ok(incoming) = SignalFd::new(signals::blockable()) else { process::exit(125) };
    let mut bytes = vec![0; LONGEST];
    loop {
        let _ = poll(&mut [PollFd::new(control, PollFlags::IN), PollFd::new(&incoming, PollFlags::IN)], None);
        while let Some(received) = incoming.read() {
            let _ = rustix::net::send(control, &received.signal.to_le_bytes(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        }
        match rustix::net::recv(control, &mut bytes[..], RecvFlags::DONTWAIT) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Ok((_, count)) if count > 0 => match serde_json::from_slice(&bytes[..count]) {
                Ok(Answer::Stopped { signal }) => super::tell(news, signal as u8),
                Ok(Answer::Ended { status }) => super::end(status, Some(news)),
                _ => {}
            },
            // The sandbox has ended, and all its processes with it.
            _ => process::exit(137),
        }
    }
}
