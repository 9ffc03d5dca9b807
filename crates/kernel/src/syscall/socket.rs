//! Sockets: `socket socketpair bind listen accept accept4 connect getsockname getpeername shutdown setsockopt getsockopt`. What they send and
//! receive is in [`super::message`].

use super::pipe::install;
use super::{Args, Cx, Entry, full, partial};
use crate::fs::Description;
use crate::socket::{Address, Connect, Shutdown, Socket, SocketFile, file, make, of, options, pair, transfer};
use crate::wait::{Ended, Events, Pollable, until};
use crate::{Errno, Flow, Result, SysResult};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use insula_abi::Sysno;
use insula_abi::general as c;
use insula_abi::net as n;

pub(super) const CALLS: &[Entry] = &[
    partial(Sysno::socket, "families unix, inet, inet6, netlink", socket),
    full(Sysno::socketpair, socketpair),
    full(Sysno::bind, bind),
    full(Sysno::listen, listen),
    full(Sysno::accept, |cx, [fd, address, len, ..]| accept(cx, [fd, address, len, 0, 0, 0])),
    full(Sysno::accept4, accept),
    full(Sysno::connect, connect),
    full(Sysno::getsockname, |cx, [fd, address, len, ..]| name(cx, fd, address, len, |socket| socket.name())),
    full(Sysno::getpeername, |cx, [fd, address, len, ..]| name(cx, fd, address, len, |socket| socket.peer_name())),
    full(Sysno::shutdown, shutdown),
    partial(Sysno::setsockopt, "no packet filters", setsockopt),
    partial(Sysno::getsockopt, "no packet filters", getsockopt),
];

/// The most bytes of an option that are looked at.
const OPTION_MAX: usize = 4096;

/// The socket of a descriptor.
pub(super) fn find(cx: &Cx<'_>, fd: u64) -> Result<Arc<Description>> {
    let description = cx.task.file(fd as i32)?;
    of(&description)?;
    Ok(description)
}

fn open(cx: &Cx<'_>, socket: Arc<dyn Socket>, flags: u32) -> Result<i32> {
    install(cx, SocketFile::new(socket), c::O_RDWR | flags & c::O_NONBLOCK, flags)
}

fn socket(cx: &mut Cx<'_>, [domain, kind, protocol, ..]: Args) -> SysResult {
    let number = file::kind_of(kind)?;
    let socket = make(cx.kernel, cx.task, domain as u32, number, protocol as i32)?;
    Ok(open(cx, socket, kind as u32 & file::FLAGS)?.into())
}

fn socketpair(cx: &mut Cx<'_>, [domain, kind, protocol, ends, ..]: Args) -> SysResult {
    let number = file::kind_of(kind)?;
    let flags = kind as u32 & file::FLAGS;
    let (one, other) = pair(cx.kernel, cx.task, domain as u32, number, protocol as i32)?;
    let close = |fd: i32| drop(cx.task.descriptors().take(fd));
    let one = open(cx, one, flags)?;
    let other = open(cx, other, flags).inspect_err(|_| close(one))?;
    match cx.task.mm().put(ends, &[one, other]) {
        Ok(()) => Ok(Flow::Done(0)),
        Err(errno) => {
            close(one);
            close(other);
            Err(errno)
        }
    }
}

fn bind(cx: &mut Cx<'_>, [fd, address, len, ..]: Args) -> SysResult {
    let description = find(cx, fd)?;
    let address = Address::read(&cx.task.mm(), address, len)?;
    of(&description)?.bind(cx.task, &address).map(Flow::from)
}

fn listen(cx: &mut Cx<'_>, [fd, backlog, ..]: Args) -> SysResult {
    // A negative backlog is the largest.
    of(&*find(cx, fd)?)?.listen(cx.task, backlog as u32).map(Flow::from)
}

fn accept(cx: &mut Cx<'_>, [fd, address, len, flags, ..]: Args) -> SysResult {
    let flags = flags as u32;
    if flags & !file::FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let description = find(cx, fd)?;
    transfer::wait_for(cx.task, &description, Events::READABLE, move |socket, task| {
        let limit = task.process.limit(c::RLIMIT_NOFILE);
        // Before: a connection that found no descriptor stays, and can be accepted later.
        task.descriptors().check_room(limit)?;
        let accepted = socket.accept()?;
        let peer = accepted.peer_name();
        let file = SocketFile::new(accepted);
        if address != 0 {
            // Who is gone again has no name any more.
            peer.map_err(|_| Errno::ECONNABORTED)?.write(&task.mm(), address, len)?;
        }
        let opened = Description::new(file, None, c::O_RDWR | flags & c::O_NONBLOCK);
        Ok(task.descriptors().add(opened, flags & c::O_CLOEXEC != 0, 0, limit)? as u64)
    })
}

fn connect(cx: &mut Cx<'_>, [fd, address, len, ..]: Args) -> SysResult {
    let description = find(cx, fd)?;
    let address = Address::read(&cx.task.mm(), address, len)?;
    let socket = of(&description)?;
    match socket.connect(cx.task, &address)? {
        Connect::Done => Ok(Flow::Done(0)),
        Connect::Pending if description.nonblocking() => Err(Errno::EINPROGRESS),
        Connect::Already if description.nonblocking() => Err(Errno::EALREADY),
        Connect::Pending | Connect::Already => {
            let wait = transfer::wait_for(cx.task, &description, Events::WRITABLE, |socket, _| socket.connected().map(|()| 0))?;
            Ok(match wait {
                Flow::Block(future) => Flow::block(async move {
                    // It goes on without being waited for.
                    future.await.map_err(|errno| if errno == Errno::EAGAIN { Errno::EINPROGRESS } else { errno })
                }),
                flow => flow,
            })
        }
        Connect::Full(_) if description.nonblocking() => Err(Errno::EAGAIN),
        Connect::Full(server) => Ok(wait_for_server(cx, &description, server, address)),
    }
}

/// Tries again whenever `server` has accepted somebody.
fn wait_for_server(cx: &Cx<'_>, description: &Arc<Description>, server: Arc<dyn Pollable>, address: Address) -> Flow {
    let timeout = of(description).map_or(u64::MAX, |socket| socket.common().send_timeout.load(Ordering::Relaxed));
    let deadline = (timeout != u64::MAX).then(|| cx.kernel.host.clock.monotonic().saturating_add(timeout));
    let (task, held) = (cx.task.clone(), description.clone());
    let wait = until(cx.task, &[(&*server, Events::WRITABLE)], deadline, move || match of(&held)?.connect(&task, &address)? {
        Connect::Full(_) => Err(Errno::EAGAIN),
        _ => Ok(0),
    });
    Flow::block(async move {
        let _server = server;
        match wait.await {
            Ok(outcome) => outcome,
            Err(Ended::TimedOut) => Err(Errno::EAGAIN),
            Err(Ended::Interrupted) if deadline.is_some() => Err(Errno::EINTR),
            Err(Ended::Interrupted) => Err(Errno::RESTARTSYS),
        }
    })
}

fn name(cx: &mut Cx<'_>, fd: u64, address: u64, len: u64, which: impl Fn(&dyn Socket) -> Result<Address>) -> SysResult {
    let description = find(cx, fd)?;
    which(&**of(&description)?)?.write(&cx.task.mm(), address, len)?;
    Ok(Flow::Done(0))
}

fn shutdown(cx: &mut Cx<'_>, [fd, how, ..]: Args) -> SysResult {
    let description = find(cx, fd)?;
    let how = match how as u32 {
        0 => Shutdown { read: true, write: false },
        1 => Shutdown { read: false, write: true },
        2 => Shutdown { read: true, write: true },
        _ => return Err(Errno::EINVAL),
    };
    of(&description)?.shutdown(how).map(Flow::from)
}

fn setsockopt(cx: &mut Cx<'_>, [fd, level, name, value, len, _]: Args) -> SysResult {
    let description = find(cx, fd)?;
    let len = usize::try_from(len as i32).map_err(|_| Errno::EINVAL)?;
    let mut bytes = alloc::vec![0; len.min(OPTION_MAX)];
    cx.task.mm().read(value, &mut bytes)?;
    let socket = of(&description)?;
    match level as u32 {
        n::SOL_SOCKET => options::set(&**socket, cx.task, name as u32, &bytes)?,
        level => socket.set_option(cx.task, level, name as u32, &bytes)?,
    }
    Ok(Flow::Done(0))
}

fn getsockopt(cx: &mut Cx<'_>, [fd, level, name, value, len, _]: Args) -> SysResult {
    let description = find(cx, fd)?;
    let socket = of(&description)?;
    let mm = cx.task.mm();
    let room = usize::try_from(mm.get::<i32>(len)?).map_err(|_| Errno::EINVAL)?;
    let bytes = match level as u32 {
        n::SOL_SOCKET => options::get(&**socket, cx.task, name as u32)?,
        level => {
            // What is there is not always needed, nor readable.
            let mut asked = alloc::vec![0; room.min(OPTION_MAX)];
            let _ = mm.read_some(value, &mut asked);
            socket.option(cx.task, level, name as u32, &asked)?
        }
    };
    let count = bytes.len().min(room);
    mm.write(value, &bytes[..count])?;
    mm.put(len, &(count as u32))?;
    Ok(Flow::Done(0))
}
