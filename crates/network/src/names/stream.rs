//! Questions by TCP: one connection after the other, as this is for the rare answer that is too long for a datagram. Source: RFC 7766.

use super::message::{self, Code};
use super::server::{Knowledge, Verdict, open};
use insula_sys::Errno;
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How long the other end may be silent: RFC 7766 section 6.2.3 wants seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// Questions in one connection; who has more connects again.
const MOST_QUESTIONS: usize = 100;

/// Serves this container for ever.
pub(super) fn serve(listener: &OwnedFd, client: Ipv4Addr, mut knowledge: Knowledge) {
    loop {
        match rustix::net::acceptfrom_with(listener, SocketFlags::CLOEXEC) {
            Ok((stream, from)) => {
                let from = from.and_then(|from| SocketAddr::try_from(from).ok());
                // Neighbours have their own.
                if from.is_some_and(|from| from.ip() == IpAddr::V4(client)) {
                    let _ = converse(&stream, &mut knowledge);
                }
            }
            Err(Errno::BADF | Errno::INVAL) => return,
            Err(_) => {}
        }
    }
}

fn converse(stream: &OwnedFd, knowledge: &mut Knowledge) -> Result<(), Errno> {
    be_patient(stream)?;
    for _ in 0..MOST_QUESTIONS {
        let asked = read(stream)?;
        let answer = match knowledge.judge(&asked) {
            Verdict::Answer(answer) => answer,
            Verdict::PassOn => pass_on(&asked, knowledge).unwrap_or_else(|| message::refusal(&asked, Code::Failed)),
            Verdict::Ignore => return Ok(()),
        };
        write(stream, &answer)?;
    }
    Ok(())
}

/// What a resolver of the host's says; nothing, if none does.
fn pass_on(asked: &[u8], knowledge: &mut Knowledge) -> Option<Vec<u8>> {
    for _ in 0..knowledge.resolvers.count() {
        let resolver = knowledge.resolvers.server()?;
        match ask(resolver, asked) {
            Ok(answer) if message::answers(&answer, asked) => return Some(answer),
            _ => knowledge.resolvers.silent(resolver),
        }
    }
    None
}

fn ask(resolver: SocketAddr, asked: &[u8]) -> Result<Vec<u8>, Errno> {
    let stream = open(resolver, SocketType::STREAM)?;
    be_patient(&stream)?;
    rustix::net::connect(&stream, &resolver)?;
    write(&stream, asked)?;
    read(&stream)
}

fn be_patient(stream: impl AsFd) -> Result<(), Errno> {
    set_socket_timeout(&stream, Timeout::Recv, Some(PATIENCE))?;
    set_socket_timeout(&stream, Timeout::Send, Some(PATIENCE))
}

/// Reads a message, which its length leads.
fn read(stream: impl AsFd) -> Result<Vec<u8>, Errno> {
    let mut length = [0; 2];
    fill(&stream, &mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    fill(&stream, &mut message)?;
    Ok(message)
}

fn fill(stream: impl AsFd, mut room: &mut [u8]) -> Result<(), Errno> {
    while !room.is_empty() {
        match rustix::net::recv(&stream, &mut *room, RecvFlags::empty()) {
            Ok((0, _)) => return Err(Errno::PIPE),
            Ok((length, _)) => room = &mut room[length..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn write(stream: impl AsFd, message: &[u8]) -> Result<(), Errno> {
    let length = u16::try_from(message.len()).map_err(|_| Errno::MSGSIZE)?;
    let bytes = [&length.to_be_bytes()[..], message].concat();
    let mut left = &bytes[..];
    while !left.is_empty() {
        match rustix::net::send(&stream, left, SendFlags::NOSIGNAL) {
            Ok(count) => left = &left[count..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
