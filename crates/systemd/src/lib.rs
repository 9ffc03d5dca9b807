//! systemd, asked over D-Bus to make a container's cgroup: a scope, a unit around processes that somebody else has started.
//!
//! | module | holds |
//! |---|---|
//! | [`bus`] | a connection to the message bus: one thread, one call at a time |
//! | [`message`] | messages as bytes |
//! | [`manager`] | the calls of systemd's that a container needs |
//! | [`properties`] | limits as systemd's properties |
//!
//! Nobody who doesn't name a scope comes here: there is no thread, no connection and no memory for it.
//!
//! Source: `org.freedesktop.systemd1(5)`, `systemd.resource-control(5)`, and systemd's *Control Group APIs and Delegation*.

mod bus;
mod manager;
mod message;
mod properties;

pub use manager::Manager;
pub use properties::{Properties, limits};

/// What systemd, or the way to it, has to say against something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no way to it.
    #[error("can't reach systemd at {address}: {problem}; without --systemd-cgroup insula makes the cgroup itself")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// What the kernel or the bus said.
        problem: String,
    },
    /// The connection broke, or what came over it is no D-Bus.
    #[error("the message bus, while systemd was asked to {what}: {problem}")]
    Bus {
        /// What was being done.
        what: String,
        /// What went wrong.
        problem: String,
    },
    /// It refused.
    #[error("systemd can't {what}: {message} ({name})")]
    Refused {
        /// What was asked for.
        what: String,
        /// The error's name.
        name: String,
        /// What it says.
        message: String,
    },
}

/// A result of asking systemd.
pub type Result<T> = std::result::Result<T, Error>;
