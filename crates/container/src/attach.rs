//! The console of a system in the background: who stays with it listens, and hands it out.
//!
//! Who connects gets the terminal's outer end, to type there and to give it a size, and on the connection what the system prints: were
//! several to read the terminal itself, each would have a part.

use crate::channel::{self, failed};
use crate::create::address;
use insula_boundary::store::Slot;
use insula_boundary::{Error, Result};
use insula_sys::{Context, Errno};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::AtFlags;
use rustix::net::{AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;

/// More than one user looks at.
const QUEUE: i32 = 4;

fn socket(flags: SocketFlags) -> rustix::io::Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC | flags, None)
}

/// Listens for who wants the console.
///
/// # Errors
/// The socket can't be made in the store.
pub fn listen(slot: &Slot) -> Result<OwnedFd> {
    let name = slot.attach_socket()?;
    let address = address(slot, &name)?;
    let make = || {
        // One of the same system's, before it was started again.
        match rustix::fs::unlinkat(slot.dir(), &name, AtFlags::empty()) {
            Err(errno) if errno != Errno::NOENT => return Err(errno),
            _ => {}
        }
        let socket = socket(SocketFlags::NONBLOCK)?;
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, QUEUE)?;
        Ok(socket)
    };
    make().on("make a socket beside", slot.path("init").display()).map_err(failed)
}

/// Gives the console to the next who wants it; nothing if nobody does.
pub fn admit(listener: &OwnedFd, terminal: impl AsFd) -> Option<OwnedFd> {
    let visitor = rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).ok()?;
    channel::send_descriptor(&visitor, b"T", terminal).ok()?;
    Some(visitor)
}

/// Asks for the console: a connection on which comes what is printed, and the terminal.
///
/// # Errors
/// Nobody holds it: it doesn't run, or not in the background.
pub fn connect(slot: &Slot) -> Result<(OwnedFd, OwnedFd)> {
    let address = address(slot, &slot.attach_socket()?)?;
    let ask = || {
        let socket = socket(SocketFlags::empty())?;
        rustix::net::connect(&socket, &address)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let terminal = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        terminal.map(|terminal| (socket, terminal)).ok_or(Errno::CONNRESET)
    };
    ask().map_err(|errno| match errno {
        Errno::NOENT | Errno::CONNREFUSED | Errno::CONNRESET => Error::Failed(format!(
            "{} has no console that could be had; only a system that runs in the background has",
            slot.id()
        )),
        errno => Error::Failed(format!("can't reach the console of {}: {}", slot.id(), insula_sys::error::describe(errno))),
    })
}
