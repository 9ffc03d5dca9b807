//! Messages between the two processes: each whole, at most [`LONGEST`] bytes, with at most one descriptor beside it.
//!
//! `SOCK_SEQPACKET` keeps messages apart, which a stream doesn't: no length to trust, no half of a message to keep, and a descriptor
//! belongs to the message it came with. It also tells of the other end's end, which datagrams don't. Source: unix(7).

use crate::protocol::LONGEST;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, Result};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    SocketFlags, SocketType,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;

/// Both ends.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// A buffer that holds any message. Its pages cost nothing until a message is long enough to reach them.
pub(crate) fn buffer() -> Box<[u8]> {
    vec![0; LONGEST].into_boxed_slice()
}

/// Sends a message, and a descriptor if there is one.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = descriptor.as_slice();
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    loop {
        match rustix::net::sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            result => return result.map(drop),
        }
    }
}

/// Waits for a message; descriptors beside it are closed by the kernel. Gives its length, which may be more than the buffer has: then
/// the rest is lost. 0 is the end.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match rustix::net::recv(&socket, &mut *buffer, RecvFlags::TRUNC) {
            Err(Errno::INTR) => {}
            result => return result.map(|(_, length)| length),
        }
    }
}

/// Waits for a message and the descriptor beside it. 0 bytes are the end.
pub(crate) fn receive_with_descriptor(socket: impl AsFd, buffer: &mut [u8]) -> Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok((received.bytes, descriptor))
}
