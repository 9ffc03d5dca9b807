//! Why there is no gofer.

/// A gofer that couldn't be made, or is no more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused something to its maker.
    #[error("the gofer: {0}")]
    Host(#[from] insula_sys::Error),
    /// The kernel refused something to it, in its words.
    #[error("the gofer: {0}")]
    Failed(String),
    /// It ended before it served.
    #[error("the gofer ended before it served; was it killed?")]
    Ended,
}
