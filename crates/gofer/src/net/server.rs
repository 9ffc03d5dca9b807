//! The net process's side.

use super::calls::{self, OPTIONS};
use super::client::Net;
use super::protocol::{At, Kind, OPTION_MOST, Request};
use crate::error::Error;
use crate::server::confine;
use crate::socket;
use crate::spawn::{Factory, Starting, make};
use crate::wire::{Reader, Writer};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, Shutdown, SocketAddrAny, SocketFlags, SocketType, ipproto, sockopt};
use std::net::SocketAddr;

/// Starts a net process in the network namespace that this one is in. With `low_ports` it keeps the capability to give names with ports below 1024,
/// as far as this process has it.
///
/// This process must have one thread, as that one is a copy of it.
///
/// # Errors
/// No process or no sockets can be made.
pub fn spawn(low_ports: bool) -> Result<(Starting, Net), Error> {
    let prepare = |keep: &[BorrowedFd<'_>]| -> insula_sys::Result<Factory> {
        confine::enter_network(low_ports, keep)?;
        Ok(Box::new(|| Box::new(serve)))
    };
    let (starting, lines) = make("net", prepare, calls::filter)?;
    Ok((starting, Net::new(lines)))
}

/// Answers until the other end is closed or can't be reached.
fn serve(line: &OwnedFd, [question, answer]: &mut [Box<[u8]>; 2]) {
    loop {
        let (length, along) = match socket::receive_with_descriptor(line, question) {
            Ok((0, _)) | Err(_) => return,
            Ok(received) => received,
        };
        let request = question.get(..length).and_then(read).ok_or(Errno::PROTO);
        let mut out = Writer::new(answer);
        out.put(&0_u16);
        let outcome = request.and_then(|request| carry_out(&request, along, &mut out));
        let sent = match (outcome, out.finish()) {
            (Ok(made), Some(length)) => socket::send(line, &answer[..length], made.as_ref().map(AsFd::as_fd)),
            (Ok(_), None) => fail(line, Errno::MSGSIZE),
            (Err(errno), _) => fail(line, errno),
        };
        if sent.is_err() {
            return;
        }
    }
}

fn read(bytes: &[u8]) -> Option<Request<'_>> {
    let mut reader = Reader::new(bytes);
    let request = reader.get().ok()?;
    reader.end().ok()?;
    Some(request)
}

fn fail(line: &OwnedFd, errno: Errno) -> rustix::io::Result<()> {
    socket::send(line, &(errno.raw_os_error() as u16).to_le_bytes(), None)
}

/// Does what is asked with the socket that came along, which is closed here before there is an answer: else it would live on, and answer its
/// peers, when the sentry closes it at once.
fn carry_out(request: &Request<'_>, along: Option<OwnedFd>, out: &mut Writer<'_>) -> Result<Option<OwnedFd>, Errno> {
    if let Request::Open { v6, kind } = *request {
        return open(v6, kind).map(Some);
    }
    let socket = &along.ok_or(Errno::BADF)?;
    // Whatever else was sent has no business here.
    if !matches!(sockopt::socket_domain(socket)?, AddressFamily::INET | AddressFamily::INET6) {
        return Err(Errno::AFNOSUPPORT);
    }
    match *request {
        Request::Open { .. } => {}
        Request::Bind { at } => rustix::net::bind(socket, &at.0)?,
        Request::Connect { to: Some(to) } => rustix::net::connect(socket, &to.0)?,
        Request::Connect { to: None } => rustix::net::connect_unspec(socket)?,
        Request::Listen { backlog } => rustix::net::listen(socket, backlog.min(i32::MAX as u32) as i32)?,
        Request::Shutdown { read, write } => {
            let how = match (read, write) {
                (true, true) => Shutdown::Both,
                (true, false) => Shutdown::Read,
                (false, true) => Shutdown::Write,
                (false, false) => return Err(Errno::INVAL),
            };
            rustix::net::shutdown(socket, how)?;
        }
        Request::Name {} => out.put(&At(address(Some(rustix::net::getsockname(socket)?))?)),
        Request::PeerName {} => out.put(&At(address(rustix::net::getpeername(socket)?)?)),
        Request::SetOption { level, name, value } => {
            check(level, name)?;
            insula_sys::net::set_option(socket, level, name, value.0)?;
        }
        Request::GetOption { level, name, room } => {
            check(level, name)?;
            let mut value = [0; OPTION_MOST];
            let room = usize::from(room).min(value.len());
            let length = insula_sys::net::option(socket, level, name, &mut value[..room])?;
            out.put(&crate::wire::Bytes(&value[..length.min(room)]));
        }
    }
    Ok(None)
}

fn open(v6: bool, kind: Kind) -> Result<OwnedFd, Errno> {
    let family = if v6 { AddressFamily::INET6 } else { AddressFamily::INET };
    let (kind, protocol) = match kind {
        Kind::Stream => (SocketType::STREAM, None),
        Kind::Datagram => (SocketType::DGRAM, None),
        Kind::Echo => (SocketType::DGRAM, Some(if v6 { ipproto::ICMPV6 } else { ipproto::ICMP })),
    };
    rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, protocol)
}

fn check(level: u32, name: u32) -> Result<(), Errno> {
    if OPTIONS.contains(&(level, name)) { Ok(()) } else { Err(Errno::NOPROTOOPT) }
}

fn address(found: Option<SocketAddrAny>) -> Result<SocketAddr, Errno> {
    found.and_then(|found| SocketAddr::try_from(found).ok()).ok_or(Errno::AFNOSUPPORT)
}
