//! What can go wrong with a virtual machine.

use std::io;
use std::path::PathBuf;

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
    /// The file given as a kernel can't be read.
    #[error("can't read the kernel {path}: {cause}")]
    KernelFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// The file given as a kernel is something else.
    #[error("{path}: not a Linux kernel: it is {what}; {advice}")]
    NotAKernel {
        /// The file.
        path: PathBuf,
        /// What it is, with an article.
        what: String,
        /// What to do about it.
        advice: String,
    },
    /// A kernel, but none that can be started here.
    #[error("{path}: can't be started: it is {what}; {advice}")]
    UnusableKernel {
        /// The file.
        path: PathBuf,
        /// What it is, with an article.
        what: String,
        /// What to do about it.
        advice: String,
    },
    /// A kernel whose file contradicts itself.
    #[error("{path}: a damaged kernel: {what}; get the file again")]
    DamagedKernel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// An unpacked kernel can't be written.
    #[error("can't keep the unpacked kernel in {dir}: {cause}")]
    KernelCache {
        /// The directory; of a kernel that isn't kept, `memory`.
        dir: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// What is given as an initial file system can't be one.
    #[error("the initial file system {path} {problem}")]
    InitialFileSystem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, as a verb.
        problem: String,
    },
    /// KVM refuses.
    #[error("can't {what}: {cause}")]
    Kvm {
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        cause: String,
    },
    /// What the guest is started with doesn't fit, or can't be read.
    #[error("can't {what}: {cause}")]
    Boot {
        /// What was tried.
        what: &'static str,
        /// Why not.
        cause: String,
    },
    /// A virtual processor can't go on.
    #[error("virtual processor {number} can't go on: {cause}")]
    Stuck {
        /// Which.
        number: u8,
        /// The kernel's word for it.
        cause: String,
    },
}

/// A result of this crate's.
pub type Result<T> = std::result::Result<T, Error>;
