//! The sentry's side: calls that wait for their answer.

use super::protocol::{At, Kind, OPTION_MOST, Request};
use crate::lines::Lines;
use crate::wire::{Bytes, Malformed, Reader};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::net::SocketAddr;

/// A connection with a net process. Errors of its methods are those of the calls they are named after, and `EIO` once it is lost.
#[derive(Debug)]
pub struct Net(Lines);

#[allow(clippy::missing_errors_doc)] // As above.
impl Net {
    pub(super) fn new(lines: Lines) -> Net {
        Net(lines)
    }

    /// Whether the net process has ended or has answered nonsense.
    pub fn is_lost(&self) -> bool {
        self.0.is_lost()
    }

    /// The sockets, for tests that speak for themselves.
    #[doc(hidden)]
    pub fn into_sockets(self) -> Vec<OwnedFd> {
        self.0.into_sockets()
    }

    /// A new socket, which never waits.
    pub fn open(&self, v6: bool, kind: Kind) -> Result<OwnedFd, Errno> {
        let answer = self.ask(&Request::Open { v6, kind }, None, |_, descriptor| Ok(descriptor.take()));
        answer?.ok_or(Errno::MFILE)
    }

    /// Gives it a name.
    pub fn bind(&self, socket: impl AsFd, at: SocketAddr) -> Result<(), Errno> {
        self.ask(&Request::Bind { at: At(at) }, Some(socket.as_fd()), |_, _| Ok(()))
    }

    /// Connects it, or takes its peer away. `EINPROGRESS`: it goes on by itself.
    pub fn connect(&self, socket: impl AsFd, to: Option<SocketAddr>) -> Result<(), Errno> {
        self.ask(&Request::Connect { to: to.map(At) }, Some(socket.as_fd()), |_, _| Ok(()))
    }

    /// Takes connections from now on.
    pub fn listen(&self, socket: impl AsFd, backlog: u32) -> Result<(), Errno> {
        self.ask(&Request::Listen { backlog }, Some(socket.as_fd()), |_, _| Ok(()))
    }

    /// Receives, or sends, no more.
    pub fn shutdown(&self, socket: impl AsFd, read: bool, write: bool) -> Result<(), Errno> {
        self.ask(&Request::Shutdown { read, write }, Some(socket.as_fd()), |_, _| Ok(()))
    }

    /// Its name.
    pub fn name(&self, socket: impl AsFd) -> Result<SocketAddr, Errno> {
        self.ask(&Request::Name {}, Some(socket.as_fd()), |answer, _| answer.get::<At>()).map(|at| at.0)
    }

    /// Its peer's name.
    pub fn peer_name(&self, socket: impl AsFd) -> Result<SocketAddr, Errno> {
        self.ask(&Request::PeerName {}, Some(socket.as_fd()), |answer, _| answer.get::<At>()).map(|at| at.0)
    }

    /// Sets an option. `ENOPROTOOPT`: it isn't one of those that may be.
    pub fn set_option(&self, socket: impl AsFd, level: u32, name: u32, value: &[u8]) -> Result<(), Errno> {
        let value = Bytes(&value[..value.len().min(OPTION_MOST)]);
        self.ask(&Request::SetOption { level, name, value }, Some(socket.as_fd()), |_, _| Ok(()))
    }

    /// An option's value, at most `room` bytes of it.
    pub fn option(&self, socket: impl AsFd, level: u32, name: u32, room: usize) -> Result<Vec<u8>, Errno> {
        let request = Request::GetOption { level, name, room: room.min(OPTION_MOST) as u16 };
        self.ask(&request, Some(socket.as_fd()), |answer, _| Ok(answer.get::<Bytes<'_>>()?.0.to_vec()))
    }

    fn ask<T>(
        &self,
        request: &Request<'_>,
        socket: Option<BorrowedFd<'_>>,
        read: impl FnOnce(&mut Reader<'_>, &mut Option<OwnedFd>) -> Result<T, Malformed>,
    ) -> Result<T, Errno> {
        self.0.ask(|out| out.put(request), socket, read)
    }
}
