//! The last wait before the program: until somebody says "start".

use crate::channel::{Channel, Message, failed};
use insula_boundary::Error;
use insula_sys::{Context, Errno};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::SocketFlags;

/// Where "start" is said: on the channel to who makes the container, or on a socket to which somebody connects. In the latter case the new
/// connection takes the channel's place, so that they hear whether the program runs.
#[derive(Debug)]
pub(crate) struct Gate {
    channel: Channel,
    socket: Option<OwnedFd>,
    /// Our namespaces, for who asks for them at the socket.
    own: Vec<OwnedFd>,
}

impl Gate {
    pub(crate) fn new(channel: Channel, socket: Option<OwnedFd>) -> Gate {
        Gate { channel, socket, own: Vec::new() }
    }

    /// To who listens now.
    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Shows these namespaces to who asks for them.
    pub(crate) fn show(&mut self, own: Vec<OwnedFd>) {
        self.own = own;
    }

    /// What can be read when somebody is there.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_ref().map_or(self.channel.as_fd(), AsFd::as_fd)
    }

    /// All descriptors that must stay open until then.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [self.channel.as_fd()].into_iter().chain(self.socket.iter().chain(&self.own).map(AsFd::as_fd))
    }

    /// Waits until "start" is said.
    pub(crate) fn wait(&mut self) -> Result<(), Error> {
        while !self.hear()? {}
        Ok(())
    }

    /// Hears the next who is there; whether that one says "start". If nobody is left who could say it, this process ends.
    pub(crate) fn hear(&mut self) -> Result<bool, Error> {
        let Some(socket) = &self.socket else {
            return match self.channel.receive() {
                Ok(Message::Start) => Ok(true),
                _ => insula_sys::process::exit(1),
            };
        };
        let connection = match rustix::net::accept_with(socket, SocketFlags::CLOEXEC) {
            Err(Errno::INTR) => return Ok(false),
            result => Channel::from_socket(result.on("wait for", "start").map_err(failed)?),
        };
        match connection.receive() {
            Ok(Message::Start) => {
                (self.channel, self.socket) = (connection, None);
                self.own.clear();
                Ok(true)
            }
            Ok(Message::Join) => {
                // They may be gone again.
                let _ = connection.send_namespaces(&self.own);
                Ok(false)
            }
            _ => insula_sys::process::exit(1),
        }
    }
}
