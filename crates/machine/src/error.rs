//! Why a machine can't be had.

use std::path::PathBuf;

/// A failure before or while a guest runs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value that no machine can have.
    #[error("{option}: {problem}")]
    Config {
        /// Where it was said.
        option: &'static str,
        /// What is wrong with it, and what would be right.
        problem: String,
    },
    /// KVM, memory or kernel.
    #[error(transparent)]
    Vm(#[from] insula_vm::Error),
    /// A device.
    #[error(transparent)]
    Virtio(#[from] insula_virtio::Error),
    /// The host's kernel.
    #[error(transparent)]
    Sys(#[from] insula_sys::Error),
    /// A file can't be used.
    #[error("can't use {path}: {cause}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        cause: String,
    },
    /// A machine that runs refuses what it was asked for.
    #[error("{0}")]
    Refused(String),
    /// The host refuses something.
    #[error("can't {what}: {cause}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// The host's answer.
        cause: String,
    },
}

/// A result of this crate's.
pub type Result<T> = std::result::Result<T, Error>;

/// A refusal of the host's as an error of ours.
pub(crate) fn host<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> Error {
    move |cause| Error::Host { what, cause: cause.to_string() }
}
