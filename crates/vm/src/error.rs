//! What can go wrong with a virtual machine before its guest runs.

/// A failure, with what was tried, on what, and the cause.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The guest's memory can't be had.
    #[error("can't get {mebibytes} MiB of memory for the guest: {cause}")]
    Memory {
        /// How much was asked for.
        mebibytes: u64,
        /// Why not.
        cause: String,
    },
}

/// A result of this crate's.
pub type Result<T> = std::result::Result<T, Error>;
