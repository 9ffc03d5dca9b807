//! The guest's standard streams, from the host's.

use crate::host::{Stream, Watcher};
use insula_kernel::fs::{Description, Descriptors};
use insula_kernel::{Errno, Result};
use rustix::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Room for a few descriptors; a table grows.
const ROOM: u64 = 1024;

/// A table with standard input, output and errors.
///
/// # Errors
/// One can't be looked at, or no descriptor is left.
pub(super) fn table(watcher: &Arc<Watcher>, streams: [BorrowedFd<'_>; 3]) -> Result<Arc<Descriptors>> {
    let table = Descriptors::new();
    for (number, stream) in streams.into_iter().enumerate() {
        let fd: OwnedFd = stream.try_clone_to_owned().map_err(|_| Errno::EMFILE)?;
        let stream = Stream::new(fd, watcher)?;
        let flags = stream.flags();
        let description = Description::new(stream, None, flags);
        table.put(number as i32, description, false, ROOM)?;
    }
    Ok(table)
}
