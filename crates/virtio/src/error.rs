//! What can go wrong with a device.

use rustix::io::Errno;

/// A failure, with what was tried, on what, and the cause.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The guest's driver did what the specification forbids, and the queue can't be used any more.
    #[error("the guest's driver broke queue {queue}: {cause}")]
    Queue {
        /// The queue's number.
        queue: u16,
        /// What is wrong with it.
        cause: virtio_queue::Error,
    },
    /// The host's kernel refused something that the device can't do without.
    #[error("can't {what}: {}", insula_sys::error::describe(*.cause))]
    Host {
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        cause: Errno,
    },
    /// The same, with what it was tried on.
    #[error(transparent)]
    Named(#[from] insula_sys::Error),
    /// A network of our own can't be had.
    #[error(transparent)]
    Network(#[from] insula_usernet::Error),
    /// A configuration that can't be.
    #[error("{device}: {cause}")]
    Config {
        /// Which device's.
        device: &'static str,
        /// What is wrong, and what would help.
        cause: String,
    },
    /// A saved state that isn't of this device.
    #[error("the saved state of device {kind} doesn't fit: {cause}")]
    State {
        /// The device's number.
        kind: u32,
        /// What doesn't fit.
        cause: String,
    },
}

/// A result of this crate's.
pub type Result<T> = std::result::Result<T, Error>;

/// Says what was tried when the host's kernel refuses it.
pub(crate) trait Tried<T> {
    fn tried(self, what: &'static str) -> Result<T>;
}

impl<T> Tried<T> for rustix::io::Result<T> {
    fn tried(self, what: &'static str) -> Result<T> {
        self.map_err(|cause| Error::Host { what, cause })
    }
}

impl<T> Tried<T> for std::io::Result<T> {
    fn tried(self, what: &'static str) -> Result<T> {
        self.map_err(|error| Error::Host { what, cause: Errno::from_io_error(&error).unwrap_or(Errno::IO) })
    }
}
