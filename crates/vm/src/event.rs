//! Events: descriptors that count signals. KVM takes them as interrupts, and gives them for writes.

use crate::{Error, Result};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// An event, eventfd(2). A clone is another handle on the same one.
#[derive(Clone, Debug)]
pub struct Event(Arc<OwnedFd>);

impl Event {
    /// A new event that nobody has signalled.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn new() -> Result<Event> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let fd = fd.map_err(|errno| Error::Kvm { what: "make an event", cause: errno.to_string() })?;
        Ok(Event(Arc::new(fd)))
    }

    /// Signals it. (A count that can't grow any more has been signalled often enough.)
    pub fn signal(&self) {
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }

    /// Takes the signals there are; whether there were any.
    pub fn take(&self) -> bool {
        rustix::io::read(&*self.0, &mut [0; 8]).is_ok()
    }
}

impl std::os::fd::AsRawFd for Event {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_taken_once() {
        let event = Event::new().unwrap();
        let same = event.clone();
        assert!(!event.take());
        same.signal();
        same.signal();
        assert_eq!((event.take(), event.take()), (true, false));
    }
}
