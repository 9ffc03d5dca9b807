//! What goes through sockets: `sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg`.

use super::socket::find;
use super::{Args, Cx, Entry, full};
use crate::fs::Description;
use crate::mm::{Mm, UserBuf};
use crate::socket::control::Sent;
use crate::socket::transfer::{self, Header};
use crate::socket::{Address, file, of};
use crate::task::Task;
use crate::{Errno, Flow, Result, SysResult};
use alloc::sync::Arc;
use core::future::Future;
use core::pin::Pin;
use insula_abi::Sysno;
use insula_abi::net as n;
use insula_abi::socket::{ADDRESS_MAX, MSG_WAITFORONE, Mmsghdr, Msghdr};
use insula_abi::time::Timespec;

pub(super) const CALLS: &[Entry] = &[
    full(Sysno::sendto, sendto),
    full(Sysno::recvfrom, recvfrom),
    full(Sysno::sendmsg, |cx, [fd, header, flags, ..]| {
        let description = find(cx, fd)?;
        sendmsg(cx.task, &description, header, flags as u32)
    }),
    full(Sysno::recvmsg, |cx, [fd, header, flags, ..]| {
        let description = find(cx, fd)?;
        recvmsg(cx.task, &description, header, flags as u32)
    }),
    full(Sysno::sendmmsg, sendmmsg),
    full(Sysno::recvmmsg, recvmmsg),
];

/// The most messages in one call (Linux: `UIO_MAXIOV`).
const MANY: u64 = 1024;

fn sendto(cx: &mut Cx<'_>, [fd, base, len, flags, address, address_len]: Args) -> SysResult {
    let description = find(cx, fd)?;
    let mm = cx.task.mm();
    let to = if address == 0 { None } else { Some(Address::read(&mm, address, address_len)?) };
    transfer::send(cx.task, &description, UserBuf::new(&mm, base, len), to, Sent::default(), flags as u32)
}

fn recvfrom(cx: &mut Cx<'_>, [fd, base, len, flags, address, address_len]: Args) -> SysResult {
    let description = find(cx, fd)?;
    let buffer = UserBuf::new(&cx.task.mm(), base, len);
    transfer::receive(cx.task, &description, buffer, Header::Address(address, address_len), flags as u32)
}

/// The header of a message, and its data.
fn header(mm: &Arc<Mm>, at: u64) -> Result<(Msghdr, UserBuf)> {
    let mut header: Msghdr = mm.get(at)?;
    if header.namelen as i32 > ADDRESS_MAX as i32 {
        header.namelen = ADDRESS_MAX as u32;
    }
    if (header.namelen as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    if header.name == 0 {
        header.namelen = 0;
    }
    if header.iovlen > 1024 {
        return Err(Errno::EMSGSIZE);
    }
    let data = UserBuf::vectored(mm, header.iov, header.iovlen)?;
    Ok((header, data))
}

fn sendmsg(task: &Arc<Task>, description: &Arc<Description>, at: u64, flags: u32) -> SysResult {
    let mm = task.mm();
    let (header, data) = header(&mm, at)?;
    let to = match header.namelen {
        0 => None,
        len => Some(Address::read(&mm, header.name, u64::from(len))?),
    };
    let control = match header.controllen {
        0 => Sent::default(),
        len if header.control == 0 && len > 0 => Sent::default(),
        len if len > i32::MAX as u64 => return Err(Errno::ENOBUFS),
        len => {
            let domain = of(description)?.common().domain;
            Sent::read(task, header.control, len, domain == n::AF_UNIX || domain == n::AF_NETLINK)?
        }
    };
    transfer::send(task, description, data, to, control, flags)
}

fn recvmsg(task: &Arc<Task>, description: &Arc<Description>, at: u64, flags: u32) -> SysResult {
    let mm = task.mm();
    let (header, data) = header(&mm, at)?;
    transfer::receive(task, description, data, Header::Message(at, header), flags)
}

/// A call for each of many messages.
type One = fn(&Arc<Task>, &Arc<Description>, u64, u32) -> SysResult;

/// Where a call with many messages stands.
struct Many {
    task: Arc<Task>,
    description: Arc<Description>,
    one: One,
    at: u64,
    count: u64,
    done: u64,
    flags: u32,
    /// After the first, no other is waited for.
    wait_for_one: bool,
    deadline: Option<u64>,
}

/// What is to be done after a message.
enum Step {
    Again,
    Over(Result<u64>),
    Wait(Pin<alloc::boxed::Box<dyn Future<Output = Result<u64>> + Send>>),
}

impl Many {
    /// A message has come out so.
    fn account(&mut self, outcome: Result<u64>) -> Step {
        let header = self.at + self.done * size_of::<Mmsghdr>() as u64;
        let written = outcome.and_then(|len| {
            let len_at = header + core::mem::offset_of!(Mmsghdr, len) as u64;
            self.task.mm().put(len_at, &(len as u32))
        });
        match written {
            Err(errno) if self.done == 0 => return Step::Over(Err(errno)),
            // What was sent or received counts; the error comes back with the next call.
            Err(_) => return Step::Over(Ok(self.done)),
            Ok(()) => self.done += 1,
        }
        if self.wait_for_one {
            self.flags |= n::MSG_DONTWAIT;
        }
        let late = self.deadline.is_some_and(|at| self.task.kernel().host.clock.monotonic() >= at);
        if self.done == self.count || late { Step::Over(Ok(self.done)) } else { Step::Again }
    }

    fn next(&mut self) -> Step {
        if self.done >= self.count {
            return Step::Over(Ok(self.done));
        }
        let header = self.at.wrapping_add(self.done * size_of::<Mmsghdr>() as u64);
        match (self.one)(&self.task, &self.description, header, self.flags) {
            Ok(Flow::Done(len)) => self.account(Ok(len)),
            Ok(Flow::Block(future)) => Step::Wait(future),
            Ok(_) => self.account(Err(Errno::EINVAL)),
            Err(errno) => self.account(Err(errno)),
        }
    }

    fn run(mut self) -> SysResult {
        loop {
            match self.next() {
                Step::Again => {}
                Step::Over(outcome) => return outcome.map(Flow::Done),
                Step::Wait(future) => return Ok(Flow::block(self.go_on(future))),
            }
        }
    }

    async fn go_on(mut self, mut future: Pin<alloc::boxed::Box<dyn Future<Output = Result<u64>> + Send>>) -> Result<u64> {
        loop {
            let outcome = future.await;
            let mut step = self.account(outcome);
            future = loop {
                match step {
                    Step::Again => step = self.next(),
                    Step::Over(outcome) => return outcome,
                    Step::Wait(future) => break future,
                }
            };
        }
    }
}

fn sendmmsg(cx: &mut Cx<'_>, [fd, at, count, flags, ..]: Args) -> SysResult {
    let description = find(cx, fd)?;
    let many = Many {
        task: cx.task.clone(),
        description,
        one: sendmsg,
        at,
        count: u64::from(count as u32).min(MANY),
        done: 0,
        flags: flags as u32,
        wait_for_one: false,
        deadline: None,
    };
    many.run()
}

fn recvmmsg(cx: &mut Cx<'_>, [fd, at, count, flags, timeout, _]: Args) -> SysResult {
    let deadline = match timeout {
        0 => None,
        at => Some(cx.kernel.host.clock.monotonic().saturating_add(cx.task.mm().get::<Timespec>(at)?.to_nanos()?)),
    };
    let description = find(cx, fd)?;
    let flags = flags as u32;
    of(&description)?.common().check_error()?;
    let _ = file::waits(&description, flags);
    let many = Many {
        task: cx.task.clone(),
        description,
        one: recvmsg,
        at,
        count: u64::from(count as u32).min(MANY),
        done: 0,
        flags: flags & !MSG_WAITFORONE,
        wait_for_one: flags & MSG_WAITFORONE != 0,
        deadline,
    };
    many.run()
}
