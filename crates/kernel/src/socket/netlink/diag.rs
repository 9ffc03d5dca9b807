//! What is asked about sockets, sock_diag(7): what ss(8) shows.

use super::filter::{Asked, Code};
use super::message::{Message, Writer, flags};
use crate::socket::inet::Inet;
use crate::socket::inet::show::Seen;
use crate::socket::{NetSpace, unix};
use crate::task::Task;
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use insula_abi::net as n;
use insula_abi::socket::protocol;

/// The request that is answered.
const BY_FAMILY: u16 = 20;
/// The same as programs asked before Linux 3.3: of TCP, and of DCCP, of which there are none.
const OLD_TCP: u16 = 18;
const OLD_DCCP: u16 = 19;
/// One that ends a socket.
const DESTROY: u16 = 21;

/// Bytes of `struct inet_diag_req_v2`, of `struct inet_diag_req`, of `struct inet_diag_sockid` in the first and where that is, and of `struct unix_diag_req`.
const INET_REQUEST: usize = 56;
const OLD_REQUEST: usize = 60;
const ID: usize = 48;
const ID_AT: usize = 8;
const UNIX_REQUEST: usize = 24;

/// Attributes of requests and answers: `INET_DIAG_*`.
const REQ_BYTECODE: u16 = 1;
const REQ_PROTOCOL: u16 = 3;
const MEMINFO: u16 = 1;
const SKMEMINFO: u16 = 7;
const SHUTDOWN: u16 = 8;
const ONLY6: u16 = 11;
const MARK: u16 = 15;

/// The state of who takes connections (`TCP_LISTEN`).
const LISTENS: u8 = 10;

/// Attributes of answers about Unix sockets, `UNIX_DIAG_*`; what is wanted is a bit each, at these places in `udiag_show`.
const UNIX_NAME: u16 = 0;
const UNIX_VFS: u16 = 1;
const UNIX_PEER: u16 = 2;
const UNIX_ICONS: u16 = 3;
const UNIX_RQLEN: u16 = 4;
const UNIX_MEMINFO: u16 = 5;
const UNIX_SHUTDOWN: u16 = 6;
const UNIX_UID: u16 = 7;

/// What is answered to a request.
///
/// # Errors
/// `EINVAL`: it is too short, or none that is known. `ENOENT`: there is no such socket, or nothing of this family or protocol can be told.
/// `EOPNOTSUPP`: it would end a socket.
pub(super) fn carry_out(net: &NetSpace, task: &Arc<Task>, request: &Message<'_>, number: u32) -> Result<Vec<Vec<u8>>> {
    let family = u32::from(*request.body().first().ok_or(Errno::EINVAL)?);
    match request.kind {
        OLD_TCP | OLD_DCCP => inet(&net.holds.inet, request, number),
        BY_FAMILY | DESTROY if family >= n::AF_MAX => Err(Errno::EINVAL),
        BY_FAMILY if matches!(family, n::AF_INET | n::AF_INET6) => inet(&net.holds.inet, request, number),
        BY_FAMILY if family == n::AF_UNIX => unix(net, &task.kernel().sockets.unix, request, number),
        DESTROY if matches!(family, n::AF_INET | n::AF_INET6 | n::AF_UNIX) => Err(Errno::EOPNOTSUPP),
        BY_FAMILY | DESTROY => Err(Errno::ENOENT),
        _ => Err(Errno::EINVAL),
    }
}

/// Whether a kind of request only asks.
pub(super) fn is_get(kind: u16) -> bool {
    matches!(kind, BY_FAMILY | OLD_TCP | OLD_DCCP)
}

/// Whether a request is about TCP, UDP or raw sockets.
pub(super) fn is_inet(request: &Message<'_>) -> bool {
    request.body().first().is_some_and(|family| matches!(u32::from(*family), n::AF_INET | n::AF_INET6))
}

fn is_dump(request: &Message<'_>) -> bool {
    request.flags & flags::DUMP == flags::DUMP
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

/// An answer, with the head it has in a dump or alone.
fn answer(request: &Message<'_>, number: u32) -> Writer {
    let multi = if is_dump(request) { flags::MULTI } else { 0 };
    Writer::new(request.kind, multi, request.sequence, number)
}

fn inet(inet: &Inet, request: &Message<'_>, number: u32) -> Result<Vec<Vec<u8>>> {
    let (body, attributes) = match request.kind {
        BY_FAMILY => (request.body().to_vec(), INET_REQUEST),
        kind => (renewed(request.body(), kind)?, OLD_REQUEST),
    };
    if body.len() < INET_REQUEST {
        return Err(Errno::EINVAL);
    }
    let (family, extra, states) = (u32::from(body[0]), body[2], word(&body, 4));
    // A protocol beyond 255 has no room in the structure.
    let further = request.attributes(attributes).find(|(kind, value)| *kind == REQ_PROTOCOL && value.len() >= 4);
    let protocol = further.map_or(u32::from(body[1]), |(_, value)| word(value, 0));
    let id = &body[ID_AT..ID_AT + ID];
    let all = inet.seen(protocol).ok_or(Errno::ENOENT)?.into_iter().filter(|seen| seen.domain == family);
    let written = |seen: &Seen| told(answer(request, number), seen, extra);
    if !is_dump(request) {
        let found = all.into_iter().find(|seen| is_it(id, seen)).ok_or(Errno::ENOENT)?;
        return Ok(vec![written(&found)]);
    }
    let code = request.attributes(attributes).find(|(kind, _)| *kind == REQ_BYTECODE).map(|(_, code)| Code::new(code));
    let code = code.transpose()?;
    let [local, remote] = [0, 2].map(|at| u16::from_be_bytes([id[at], id[at + 1]]));
    let wanted = |seen: &Seen| {
        let asked = Asked { local: seen.local, remote: seen.remote, device: seen.device, mark: seen.mark };
        states & 1 << seen.state != 0
            && (local == 0 || local == seen.local.port())
            && (remote == 0 || remote == seen.remote.port())
            && code.as_ref().is_none_or(|code| code.wants(&asked))
    };
    Ok(all.filter(wanted).map(|seen| written(&seen)).collect())
}

/// An old request as a new one.
fn renewed(old: &[u8], kind: u16) -> Result<Vec<u8>> {
    /// `IPPROTO_DCCP`.
    const DCCP: u8 = 33;
    let old = old.get(..OLD_REQUEST).ok_or(Errno::EINVAL)?;
    let mut new = vec![old[0], if kind == OLD_TCP { protocol::TCP as u8 } else { DCCP }, old[3], 0];
    new.extend(&old[4 + ID..8 + ID]);
    new.extend(&old[4..4 + ID]);
    Ok(new)
}

/// Whether a socket is the one that a request names by addresses and ports; a cookie of all ones is none.
fn is_it(id: &[u8], seen: &Seen) -> bool {
    let cookie = u64::from(word(id, 40)) | u64::from(word(id, 44)) << 32;
    let own = identity(seen);
    id[..36] == own[..36] && (cookie == u64::MAX || cookie == seen.ino)
}

/// `struct inet_diag_sockid`.
fn identity(seen: &Seen) -> Vec<u8> {
    let mut id = Vec::with_capacity(ID);
    id.extend(seen.local.port().to_be_bytes());
    id.extend(seen.remote.port().to_be_bytes());
    id.extend(address(seen.domain, seen.local));
    id.extend(address(seen.domain, seen.remote));
    id.extend(seen.device.to_ne_bytes());
    id.extend(seen.ino.to_ne_bytes());
    id
}

fn address(domain: u32, at: SocketAddr) -> [u8; 16] {
    match at.ip() {
        IpAddr::V4(ip) if domain == n::AF_INET => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            bytes
        }
        IpAddr::V4(ip) if ip.is_unspecified() => [0; 16],
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// `struct inet_diag_msg`, and what is wanted beside it.
fn told(writer: Writer, seen: &Seen, extra: u8) -> Vec<u8> {
    let mut message = vec![seen.domain as u8, seen.state, 0, 0];
    message.extend(identity(seen));
    for number in [0, seen.unread as u32, seen.unsent as u32, seen.uid, seen.ino as u32] {
        message.extend(number.to_ne_bytes());
    }
    let mut writer = writer.bytes(&message).attribute(SHUTDOWN, &[seen.shut]);
    if seen.domain == n::AF_INET6 && matches!(seen.state, 7 | LISTENS) {
        writer = writer.attribute(ONLY6, &[seen.only6.into()]);
    }
    writer = writer.number(MARK, seen.mark);
    let wants = |kind: u16| extra & 1 << (kind - 1) != 0;
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
    if wants(MEMINFO) {
        writer = writer.attribute(MEMINFO, &words(&[seen.unread as u32, seen.unsent as u32, 0, seen.unsent as u32]));
    }
    if wants(SKMEMINFO) {
        let [receive, send] = seen.room;
        let all = [seen.unread as u32, receive, seen.unsent as u32, send, 0, seen.unsent as u32, 0, 0, 0];
        writer = writer.attribute(SKMEMINFO, &words(&all));
    }
    writer.finish()
}

fn unix(net: &NetSpace, unix: &unix::Unix, request: &Message<'_>, number: u32) -> Result<Vec<Vec<u8>>> {
    let body = request.body();
    if body.len() < UNIX_REQUEST {
        return Err(Errno::EINVAL);
    }
    let (states, ino, show) = (word(body, 4), word(body, 8), word(body, 12));
    let all = unix.seen(net);
    if is_dump(request) {
        // Who waits to be accepted is nobody yet.
        let wanted = all.iter().filter(|seen| seen.ino != 0 && states & 1 << seen.state != 0);
        return Ok(wanted.map(|seen| told_unix(answer(request, number), seen, show)).collect());
    }
    if ino == 0 {
        return Err(Errno::EINVAL);
    }
    let found = all.iter().find(|seen| seen.ino as u32 == ino).ok_or(Errno::ENOENT)?;
    let cookie = u64::from(word(body, 16)) | u64::from(word(body, 20)) << 32;
    if cookie != u64::MAX && cookie != found.cookie {
        return Err(Errno::ESTALE);
    }
    Ok(vec![told_unix(answer(request, number), found, show)])
}

/// `struct unix_diag_msg`, and what is wanted beside it.
fn told_unix(writer: Writer, seen: &unix::Seen, show: u32) -> Vec<u8> {
    let mut message = vec![n::AF_UNIX as u8, seen.kind as u8, seen.state, 0];
    message.extend((seen.ino as u32).to_ne_bytes());
    message.extend(seen.cookie.to_ne_bytes());
    let mut writer = writer.bytes(&message);
    let wants = |kind: u16| show & 1 << kind != 0;
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
    if wants(UNIX_NAME) && !seen.name.is_empty() {
        writer = writer.attribute(UNIX_NAME, &seen.name);
    }
    if wants(UNIX_VFS)
        && let Some((dev, ino)) = seen.file
    {
        writer = writer.attribute(UNIX_VFS, &words(&[ino as u32, dev as u32]));
    }
    if wants(UNIX_PEER)
        && let Some(peer) = seen.peer
    {
        writer = writer.number(UNIX_PEER, peer as u32);
    }
    if wants(UNIX_ICONS) && seen.state == LISTENS {
        let waiting: Vec<u32> = seen.waiting.iter().map(|ino| *ino as u32).collect();
        writer = writer.attribute(UNIX_ICONS, &words(&waiting));
    }
    if wants(UNIX_RQLEN) {
        writer = writer.attribute(UNIX_RQLEN, &words(&[seen.unread as u32, seen.unsent as u32]));
    }
    if wants(UNIX_MEMINFO) {
        let [receive, send] = seen.room;
        writer = writer.attribute(UNIX_MEMINFO, &words(&[0, receive, 0, send, 0, 0, 0, 0, 0]));
    }
    writer = writer.attribute(UNIX_SHUTDOWN, &[seen.shut]);
    if wants(UNIX_UID - 1) {
        writer = writer.number(UNIX_UID, seen.uid);
    }
    writer.finish()
}
