//! The network namespace we are in, and sockets in it.

use crate::error::{Context, Result};
use crate::process::FromC;
use rustix::fd::{AsFd, AsRawFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// Switches the loopback device on; it gets its addresses by that.
///
/// # Errors
/// CAP_NET_ADMIN is missing in this namespace.
pub fn loopback_up() -> Result<()> {
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    let socket = socket.on("switch on", "the loopback device")?;
    // SAFETY: all zeros is a valid value of this plain structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request names this structure, which lives through the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) };
    Errno::result(i64::from(result)).on("switch on", "the loopback device").map(drop)
}

/// Sets an option of a socket, setsockopt(2). Of an option that isn't one of plain bytes (a filter, say), the value is a pointer: the caller
/// knows that this isn't.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_option(socket: impl AsFd, level: u32, name: u32, value: &[u8]) -> rustix::io::Result<()> {
    let (fd, length) = (socket.as_fd().as_raw_fd(), value.len() as libc::socklen_t);
    // SAFETY: the kernel reads as many bytes as the slice has.
    let result = unsafe { libc::setsockopt(fd, level as i32, name as i32, value.as_ptr().cast(), length) };
    Errno::result(i64::from(result)).map(drop)
}

/// An option of a socket, getsockopt(2); its length.
///
/// # Errors
/// Those of getsockopt(2).
pub fn option(socket: impl AsFd, level: u32, name: u32, value: &mut [u8]) -> rustix::io::Result<usize> {
    let (fd, mut length) = (socket.as_fd().as_raw_fd(), value.len() as libc::socklen_t);
    // SAFETY: the kernel writes at most as many bytes as the slice has.
    let result = unsafe { libc::getsockopt(fd, level as i32, name as i32, value.as_mut_ptr().cast(), &raw mut length) };
    Errno::result(i64::from(result)).map(|_| length as usize)
}

/// Bytes that were sent and that the other end hasn't acknowledged (`SIOCOUTQ`, tcp(7)).
///
/// # Errors
/// `EINVAL`: it listens. `ENOTTY`: it is no socket that counts them.
pub fn unsent(socket: impl AsFd) -> rustix::io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: the request writes this number, which lives through the call.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    Errno::result(i64::from(result)).map(|_| count.max(0) as usize)
}

/// Whether the next byte of a connection is the one that was sent as urgent, sockatmark(3).
///
/// # Errors
/// `ENOTTY`, `EINVAL`: it is no socket that knows of such bytes.
pub fn at_mark(socket: impl AsFd) -> rustix::io::Result<bool> {
    const SIOCATMARK: libc::c_ulong = 0x8905;
    let mut mark: libc::c_int = 0;
    // SAFETY: the request writes this number, which lives through the call.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCATMARK, &raw mut mark) };
    Errno::result(i64::from(result)).map(|_| mark != 0)
}

/// What [`receive`] has received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Bytes.
    pub bytes: usize,
    /// Bytes of the sender's address.
    pub address: usize,
    /// Bytes of control data, cmsg(3).
    pub control: usize,
    /// `MSG_*`.
    pub flags: u32,
}

/// Sends a message, sendmsg(2), without a signal if nobody reads: to an address if that isn't empty, with control data.
///
/// # Errors
/// Those of sendmsg(2).
pub fn send(socket: impl AsFd, bytes: &[u8], to: &[u8], control: &[u8], flags: u32) -> rustix::io::Result<usize> {
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all zeros is a valid value of this plain structure.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    if !to.is_empty() {
        (message.msg_name, message.msg_namelen) = (to.as_ptr().cast_mut().cast(), to.len() as libc::socklen_t);
    }
    if !control.is_empty() {
        (message.msg_control, message.msg_controllen) = (control.as_ptr().cast_mut().cast(), control.len());
    }
    // SAFETY: all that the message points to lives through the call, which only reads it.
    let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, flags as i32 | libc::MSG_NOSIGNAL) };
    Errno::result(sent as i64).map(|sent| sent as usize)
}

/// Receives a message, recvmsg(2), with the sender's address and control data. Descriptors in that are closed on exec; the caller knows that none
/// come.
///
/// # Errors
/// Those of recvmsg(2).
pub fn receive(
    socket: impl AsFd,
    into: &mut [u8],
    from: &mut [u8],
    control: &mut [u8],
    flags: u32,
) -> rustix::io::Result<Message> {
    let mut part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: all zeros is a valid value of this plain structure.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    (message.msg_name, message.msg_namelen) = (from.as_mut_ptr().cast(), from.len() as libc::socklen_t);
    (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), control.len());
    // SAFETY: all that the message points to lives through the call, which writes within the lengths given.
    let received = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, flags as i32 | libc::MSG_CMSG_CLOEXEC) };
    let bytes = Errno::result(received as i64)? as usize;
    let address = (message.msg_namelen as usize).min(from.len());
    Ok(Message {
        bytes,
        address,
        control: message.msg_controllen,
        flags: message.msg_flags as u32 & !(libc::MSG_CMSG_CLOEXEC as u32),
    })
}
