//! Ctrl-C and its kin: noticed while waiting, acted upon by whoever waits, so that nothing is left behind.

use crate::Error;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Becomes readable when the user wants an end.
pub(crate) struct Interrupt {
    wake: UnixStream,
    handlers: Vec<signal_hook::SigId>,
}

/// What a wait ended with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// There is something to read.
    Ready,
    /// The time is over.
    Late,
    /// The user wants an end.
    Stop,
}

impl Interrupt {
    /// Begins to listen to SIGINT, SIGTERM and SIGHUP.
    pub(crate) fn listen() -> Result<Interrupt, Error> {
        let failed = || Error::host("listen to signals");
        let (wake, signal) = UnixStream::pair().map_err(failed())?;
        let mut handlers = Vec::new();
        for number in [SIGINT, SIGTERM, SIGHUP] {
            let end = signal.try_clone().map_err(failed())?;
            handlers.push(signal_hook::low_level::pipe::register(number, end).map_err(failed())?);
        }
        Ok(Interrupt { wake, handlers })
    }

    /// Waits until `source` can be read, until `deadline`, or until the user wants an end.
    pub(crate) fn wait(&self, source: impl AsFd, deadline: Instant) -> Result<Event, Error> {
        let mut fds = [PollFd::new(&self.wake, PollFlags::IN), PollFd::new(&source, PollFlags::IN)];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match poll(&mut fds, Some(&timespec(left))) {
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::host("wait for the measured program")(error)),
                Ok(0) => return Ok(Event::Late),
                Ok(_) if !fds[0].revents().is_empty() => return Ok(Event::Stop),
                Ok(_) => return Ok(Event::Ready),
            }
        }
    }

    /// Whether the user wants an end.
    pub(crate) fn wanted(&self) -> bool {
        let mut fds = [PollFd::new(&self.wake, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&timespec(Duration::ZERO))), Ok(1))
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        for &handler in &self.handlers {
            signal_hook::low_level::unregister(handler);
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}
