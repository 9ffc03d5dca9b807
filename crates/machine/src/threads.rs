//! How a machine's threads are started.

use crate::error::{Result, host};
use std::thread::{Builder, JoinHandle};

/// Bytes of a thread's stack: plenty for what these threads do, and too little for a large page. Where the kernel gives large pages unasked
/// (`/sys/kernel/mm/transparent_hugepage/enabled` is "always"), a thread's usual 2 MiB become one with its first call, and all of it is in memory.
const STACK: usize = 512 << 10;

/// Starts a thread of this name.
///
/// # Errors
/// The process may have no more of them.
pub(crate) fn start<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    Builder::new().name(name.into()).stack_size(STACK).spawn(body).map_err(host("start a thread"))
}
