//! What can go wrong with a network.

/// A failure, with what was tried, on what, and the cause.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host's kernel refused something.
    #[error(transparent)]
    Host(#[from] insula_sys::Error),
    /// A port of the host's can't be listened at.
    #[error("can't publish {publish}: {}{}", insula_sys::error::describe(*.cause), hint(*.cause))]
    Publish {
        /// What was to be published.
        publish: String,
        /// The kernel's answer.
        cause: rustix::io::Errno,
    },
    /// A configuration that can't be.
    #[error("{0}")]
    Config(String),
}

/// A result of this crate's.
pub type Result<T> = std::result::Result<T, Error>;

/// What would help.
fn hint(cause: rustix::io::Errno) -> &'static str {
    match cause {
        rustix::io::Errno::ACCESS => "; ports below net.ipv4.ip_unprivileged_port_start are root's, take a higher one",
        rustix::io::Errno::ADDRINUSE => "; another program listens there, `ss -ltnup` says which",
        rustix::io::Errno::ADDRNOTAVAIL => "; the host has no such address",
        _ => "",
    }
}
