//! What went wrong when the kernel was asked for something.

use rustix::io::Errno;
use std::fmt;

/// A system call that failed: what was tried, on what, and the kernel's answer.
#[derive(Debug)]
pub struct Error {
    /// What was tried, as a verb: `mount proc on`.
    pub what: &'static str,
    /// On what: a path or name.
    pub on: String,
    /// The kernel's answer.
    pub errno: Errno,
}

/// A result of asking the kernel.
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can't {}", self.what)?;
        if !self.on.is_empty() {
            write!(f, " {}", self.on)?;
        }
        write!(f, ": {}", describe(self.errno))
    }
}

impl std::error::Error for Error {}

/// The errno in words, without the number that the standard library adds.
pub fn describe(errno: Errno) -> String {
    let text = std::io::Error::from_raw_os_error(errno.raw_os_error()).to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// Says what was tried when a call fails.
pub trait Context<T> {
    /// Names the attempt and its object; the object is only put into words on failure.
    ///
    /// # Errors
    /// The original error with its context.
    fn on(self, what: &'static str, on: impl fmt::Display) -> Result<T>;
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn on(self, what: &'static str, on: impl fmt::Display) -> Result<T> {
        self.map_err(|errno| Error { what, on: on.to_string(), errno })
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn on(self, what: &'static str, on: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error { what, on: on.to_string(), errno: Errno::from_io_error(&error).unwrap_or(Errno::IO) })
    }
}
