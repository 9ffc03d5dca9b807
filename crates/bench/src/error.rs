//! What can go wrong before there is anything to report.

use std::io;
use std::path::PathBuf;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A pattern fits no row.
    #[error("no row matches '{0}'; 'insula bench --list' shows them all")]
    NoRow(String),
    /// A platform's name is not known.
    #[error("'{name}' is not a platform; there are: {known}")]
    NoPlatform {
        /// What was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A file or directory could not be used.
    #[error("{what} {path}: {cause}")]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// Something the host should offer failed.
    #[error("{what}: {cause}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// Why not.
        cause: io::Error,
    },
    /// Not even a plain process could be measured.
    #[error("the baseline can't be measured: {0}")]
    NoBaseline(String),
    /// The user stopped it before there was anything to show.
    #[error("stopped before the first round was complete; nothing was left behind")]
    Interrupted,
}

impl Error {
    /// For `map_err`: `what` failed on `path`.
    pub(crate) fn file<E: Into<io::Error>>(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(E) -> Error {
        let path = path.into();
        move |cause| Error::File { what, path, cause: cause.into() }
    }

    /// For `map_err`: `what` failed.
    pub(crate) fn host<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Error {
        move |cause| Error::Host { what, cause: cause.into() }
    }
}
