//! The guest's standard streams, from the host's.

use super::tree;
use crate::host::{Alert, Relay, Stream, Watcher};
use insula_abi::general as c;
use insula_kernel::fs::{Context, Description, Descriptors, Path};
use insula_kernel::tty::Tty;
use insula_kernel::tty::pty::Slave;
use insula_kernel::{Errno, Kernel, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path as HostPath;
use std::sync::Arc;

/// Room for a few descriptors; a table grows.
const ROOM: u64 = 1024;

/// How the program shows itself to a user.
pub(super) enum Front {
    /// Not by a terminal that is its own or its session's.
    None,
    /// By a terminal of the kernel's, which the relay carries to the host's.
    Own(Arc<Relay>),
    /// By the host's, as a job of who called us; `/dev/tty` leads to the stream.
    Shared(Arc<Tty>, Arc<Stream>),
}

impl Front {
    /// The controlling terminal of the first process's session.
    pub(super) fn terminal(&self) -> Option<Arc<Tty>> {
        match self {
            Front::None => None,
            Front::Own(relay) => Some(relay.tty().clone()),
            Front::Shared(tty, _) => Some(tty.clone()),
        }
    }

    /// The program has ended: whether all that it has written is with the host. If not, who is [told](Relay::tell) will be.
    pub(super) fn is_finished(&self) -> bool {
        let Front::Own(relay) = self else { return true };
        relay.finish();
        relay.is_over()
    }
}

/// A table with standard input, output and errors.
///
/// # Errors
/// One can't be looked at, or no descriptor is left.
pub(super) fn table(watcher: &Arc<Watcher>, streams: [BorrowedFd<'_>; 3]) -> Result<Arc<Descriptors>> {
    fill(watcher, streams, |_| None)
}

/// The same for the first process: the terminal of this process's session is the first process's, too.
///
/// # Errors
/// Those of [`table`].
pub(super) fn first(
    kernel: &Arc<Kernel>,
    context: &Context,
    watcher: &Arc<Watcher>,
    streams: [BorrowedFd<'_>; 3],
) -> Result<(Arc<Descriptors>, Front)> {
    let mut front = Front::None;
    let console = tree::find(&context.namespace, HostPath::new("/dev/console")).ok();
    let table = fill(watcher, streams, |stream| {
        match &front {
            Front::Shared(tty, first) if stream.is_same(first) => stream.share_job_control(tty),
            Front::None if stream.is_terminal() && stream.is_controlling() => {
                let tty = stream.begin_job_control(kernel);
                front = Front::Shared(tty, stream.clone());
            }
            _ => return None,
        }
        console.clone()
    })?;
    Ok((table, front))
}

/// Puts descriptors that the caller passed on after the standard streams.
///
/// # Errors
/// One can't be looked at.
pub(super) fn pass_on(table: &Descriptors, watcher: &Arc<Watcher>, preserved: Vec<OwnedFd>) -> Result<()> {
    for (number, fd) in (3..).zip(preserved) {
        let stream = Stream::new(fd, watcher)?;
        let flags = stream.flags();
        table.put(number, Description::new(stream, None, flags), false, ROOM)?;
    }
    Ok(())
}

/// A table of three streams; `place` says where in the tree of files each is, if it is there.
fn fill(
    watcher: &Arc<Watcher>,
    streams: [BorrowedFd<'_>; 3],
    mut place: impl FnMut(&Arc<Stream>) -> Option<Path>,
) -> Result<Arc<Descriptors>> {
    let table = Descriptors::new();
    for (number, stream) in streams.into_iter().enumerate() {
        let fd: OwnedFd = stream.try_clone_to_owned().map_err(|_| Errno::EMFILE)?;
        let stream = Stream::new(fd, watcher)?;
        let flags = stream.flags();
        let path = place(&stream);
        let description = Description::new(stream, path, flags);
        table.put(number as i32, description, false, ROOM)?;
    }
    Ok(table)
}

/// A table with a new terminal of the kernel's as standard input, output and errors, which belongs to `owner` and is carried to the host's.
///
/// # Errors
/// The host's isn't one, or there is no room for a thread.
pub(super) fn terminal(
    kernel: &Arc<Kernel>,
    context: &Context,
    owner: (u32, u32),
    far: impl AsFd,
    alert: Alert,
) -> Result<(Arc<Descriptors>, Front)> {
    let host = |error: std::io::Error| Errno(error.raw_os_error().unwrap_or(i32::from(Errno::EIO.0)) as u16);
    let far = far.as_fd().try_clone_to_owned().map_err(|_| Errno::EMFILE)?;
    let master = kernel.terminals.make(kernel, owner)?;
    let tty = master.tty.clone();
    tty.unlock();
    let name = format!("/dev/pts/{}", tty.index);
    let path = tree::find(&context.namespace, HostPath::new(&name)).ok();
    let description = Description::new(Slave::new(&tty)?, path, c::O_RDWR);
    let table = Descriptors::new();
    for number in 0..3 {
        table.put(number, description.clone(), false, ROOM)?;
    }
    let relay = Relay::start(far, master, alert).map_err(host)?;
    Ok((table, Front::Own(relay)))
}
