//! Sending and receiving, with all waits: what `read`, `write` and the calls of socket(7) have in common.

use super::address::Address;
use super::common::NEVER;
use super::control::{Sent, Writer};
use super::data::{Sink, Source};
use super::{Incoming, Outgoing, Received, Socket, file};
use crate::fs::Description;
use crate::mm::{Mm, UserBuf};
use crate::task::Task;
use crate::wait::{Ended, Events, until};
use crate::{Errno, Flow, Result, SysResult};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use insula_abi::net as n;
use insula_abi::socket::{MSG_FASTOPEN, Msghdr};
use insula_abi::zerocopy::IntoBytes;

/// Sends once; who writes to a stream that nobody reads gets a signal as well, as most programs don't look at errors of writes.
///
/// # Errors
/// What the socket says.
pub fn send_once(socket: &dyn Socket, task: &Arc<Task>, message: &mut Outgoing<'_>) -> Result<usize> {
    match socket.send(task, message) {
        Err(Errno::EPIPE) if socket.is_stream() && message.flags & n::MSG_NOSIGNAL == 0 => {
            Err(crate::signal::send::broken_pipe(task))
        }
        outcome => outcome,
    }
}

/// When a wait that begins now ends, by the monotonic clock.
fn deadline(task: &Arc<Task>, timeout: u64) -> Option<u64> {
    (timeout != NEVER).then(|| task.kernel().host.clock.monotonic().saturating_add(timeout))
}

/// Whether a wait is over, so that what has been done is the result.
fn is_over(task: &Arc<Task>, waits: bool, deadline: Option<u64>) -> bool {
    !waits || task.interrupted() || deadline.is_some_and(|at| task.kernel().host.clock.monotonic() >= at)
}

/// Tries `operation`, and again whenever the socket is ready for `events`, for at most the socket's own timeout.
fn attempt(
    task: &Arc<Task>,
    description: &Arc<Description>,
    events: Events,
    waits: bool,
    timeout: u64,
    mut operation: impl FnMut(&dyn Socket, &Arc<Task>, Option<u64>) -> Result<u64> + Send + Unpin + 'static,
) -> SysResult {
    let socket = file::of(description)?;
    match operation(&**socket, task, None) {
        Err(Errno::EAGAIN) if waits => {}
        outcome => return outcome.map(Flow::Done),
    }
    let deadline = deadline(task, timeout);
    let (held, owner, own) = (description.clone(), task.clone(), socket.clone());
    let wait = until(task, &[(&**socket, events)], deadline, move || operation(&*own, &owner, deadline));
    Ok(Flow::block(async move {
        let _held = held;
        match wait.await {
            Ok(outcome) => outcome,
            Err(Ended::TimedOut) => Err(Errno::EAGAIN),
            // With a timeout it can't begin again: the time that is left isn't known (signal(7)).
            Err(Ended::Interrupted) if deadline.is_some() => Err(Errno::EINTR),
            Err(Ended::Interrupted) => Err(Errno::RESTARTSYS),
        }
    }))
}

/// Waits with a socket's timeout until `operation` says something else than `EAGAIN`: accept(2), connect(2).
///
/// # Errors
/// What the operation says.
pub fn wait_for(
    task: &Arc<Task>,
    description: &Arc<Description>,
    events: Events,
    mut operation: impl FnMut(&dyn Socket, &Arc<Task>) -> Result<u64> + Send + Unpin + 'static,
) -> SysResult {
    let common = file::of(description)?.common();
    let timeout = if events.contains(Events::OUT) { &common.send_timeout } else { &common.receive_timeout };
    let timeout = timeout.load(Ordering::Relaxed);
    attempt(task, description, events, !description.nonblocking(), timeout, move |socket, task, _| operation(socket, task))
}

/// Sends a message.
///
/// # Errors
/// As sendmsg(2).
pub fn send(
    task: &Arc<Task>,
    description: &Arc<Description>,
    mut data: UserBuf,
    to: Option<Address>,
    mut control: Sent,
    flags: u32,
) -> SysResult {
    let socket = file::of(description)?;
    let waits = file::waits(description, flags);
    let timeout = socket.common().send_timeout.load(Ordering::Relaxed);
    let mut done = 0;
    attempt(task, description, Events::WRITABLE, waits, timeout, move |socket, task, deadline| {
        loop {
            // Of a part that was sent the result is its length: that nobody reads the rest is told, and signalled, next time.
            let flags = if done > 0 { flags & !MSG_FASTOPEN | n::MSG_NOSIGNAL } else { flags };
            let mut message = Outgoing { data: Source::User(&mut data), to: to.as_ref(), control: &mut control, flags };
            match send_once(socket, task, &mut message) {
                Ok(count) => {
                    done += count as u64;
                    if !socket.is_stream() || data.left() == 0 || count == 0 {
                        return Ok(done);
                    }
                }
                Err(Errno::EAGAIN) if done > 0 && is_over(task, waits, deadline) => return Ok(done),
                Err(errno) if done > 0 && errno != Errno::EAGAIN => return Ok(done),
                Err(errno) => return Err(errno),
            }
        }
    })
}

/// Where a received message's other parts go.
#[derive(Clone, Copy)]
pub enum Header {
    /// Nowhere: read(2).
    None,
    /// The sender's address, and the room for it: recvfrom(2).
    Address(u64, u64),
    /// A `struct msghdr` at an address: recvmsg(2).
    Message(u64, Msghdr),
}

impl Header {
    fn write(&self, task: &Arc<Task>, received: Received, flags: u32) -> Result<()> {
        let mm = task.mm();
        match self {
            Header::None => Ok(()),
            Header::Address(0, _) => Ok(()),
            Header::Address(at, at_len) => match &received.from {
                Some(from) => from.write(&mm, *at, *at_len),
                None => mm.put(*at_len, &0u32),
            },
            Header::Message(at, header) => write_message(task, &mm, *at, header, received, flags),
        }
    }
}

/// Completes a `struct msghdr`.
fn write_message(task: &Arc<Task>, mm: &Mm, at: u64, header: &Msghdr, received: Received, flags: u32) -> Result<()> {
    let close_on_exec = flags & n::MSG_CMSG_CLOEXEC != 0;
    let mut writer = Writer::new(mm, header.control, header.controllen);
    for item in &received.items {
        writer.put(item.level, item.kind, &item.data);
    }
    if let Some(credentials) = &received.credentials {
        writer.put(n::SOL_SOCKET, n::SCM_CREDENTIALS, super::common::shown(task, *credentials).as_bytes());
    }
    if !received.rights.is_empty() {
        writer.put_rights(task, received.rights, close_on_exec);
    }
    let mut written = *header;
    written.controllen = writer.used;
    written.flags = received.flags | if writer.cut { n::MSG_CTRUNC } else { 0 } | flags & n::MSG_CMSG_CLOEXEC;
    if header.name != 0 {
        let from = received.from.as_ref().map_or(&[][..], |from| from.bytes());
        mm.write(header.name, &from[..from.len().min(header.namelen as usize)])?;
        written.namelen = from.len() as u32;
    }
    // Of the structure only what is answered is written: another thread may use the rest.
    mm.put(at + core::mem::offset_of!(Msghdr, namelen) as u64, &written.namelen)?;
    mm.put(at + core::mem::offset_of!(Msghdr, controllen) as u64, &written.controllen)?;
    mm.put(at + core::mem::offset_of!(Msghdr, flags) as u64, &written.flags)
}

/// Receives a message.
///
/// # Errors
/// As recvmsg(2).
pub fn receive(task: &Arc<Task>, description: &Arc<Description>, mut data: UserBuf, header: Header, flags: u32) -> SysResult {
    let common = file::of(description)?.common();
    let waits = file::waits(description, flags);
    let timeout = common.receive_timeout.load(Ordering::Relaxed);
    let all = data.left();
    let low = u64::from(common.options.lock().receive_low);
    let target = if flags & n::MSG_WAITALL != 0 { all } else { low.min(all) };
    let peek = flags & n::MSG_PEEK != 0;
    let mut so_far: Option<Received> = None;
    attempt(task, description, Events::READABLE, waits, timeout, move |socket, task, deadline| {
        loop {
            match socket.receive(task, &mut Incoming { data: Sink::User(&mut data), flags }) {
                Ok(more) => {
                    let ended = more.count == 0 || !more.rights.is_empty() || data.left() == 0;
                    let received = match so_far.take() {
                        None => more,
                        Some(mut before) => {
                            before.count += more.count;
                            before.rights.extend(more.rights);
                            before
                        }
                    };
                    if !socket.is_stream() || ended || peek || received.count as u64 >= target {
                        return finish(task, header, received, flags);
                    }
                    so_far = Some(received);
                }
                Err(Errno::EAGAIN) if all == 0 && socket.is_stream() => return finish(task, header, Received::default(), flags),
                Err(Errno::EAGAIN) if !is_over(task, waits, deadline) => return Err(Errno::EAGAIN),
                Err(errno) => match so_far.take() {
                    Some(received) => return finish(task, header, received, flags),
                    None => return Err(errno),
                },
            }
        }
    })
}

fn finish(task: &Arc<Task>, header: Header, received: Received, flags: u32) -> Result<u64> {
    let count = received.count as u64;
    header.write(task, received, flags)?;
    Ok(count)
}
