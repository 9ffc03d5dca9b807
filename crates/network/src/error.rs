//! What can go wrong with a network.

/// Why a network can't be had, in one line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host's kernel refused something.
    #[error(transparent)]
    Host(#[from] insula_sys::Error),
    /// The network without privilege can't be made.
    #[error(transparent)]
    User(#[from] insula_usernet::Error),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

/// A result of doing something with a network.
pub type Result<T> = std::result::Result<T, Error>;
