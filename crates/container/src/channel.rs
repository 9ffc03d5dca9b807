//! How the caller and the first process talk while a container is made: short messages, each whole, on a socket pair.
//!
//! | message | from | means |
//! |---|---|---|
//! | `N` | inside | the namespaces are made; it is the caller's turn (hooks) |
//! | `C` | caller | go on: IDs are mapped, hooks have run |
//! | `G` | caller | you are on record, with this number outside: whatever happens now, you will be found |
//! | `P` | caller | the program that filters system calls; sent last, as it is needed last |
//! | `T` | inside | here is the terminal (a descriptor travels along) |
//! | `R` | inside | ready to start |
//! | `S` | caller | start |
//! | `J` | somebody | how your namespaces are reached, please (and the answer, with descriptors of them) |
//! | `F` | inside | it failed: kind and text follow |
//!
//! The socket closes by itself when the program takes over; so its end means "running". If the caller ends early, the first process
//! finds the socket closed and ends too.

use insula_boundary::Error;
use insula_spec::plan::Namespace;
use insula_sys::seccomp::Instruction;
use insula_sys::{Context, Errno};
use rustix::event::{PollFd, PollFlags};
use rustix::fd::OwnedFd;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    SocketFlags, SocketType,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

/// One end.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

/// What came from the other end.
#[derive(Debug)]
pub(crate) enum Message {
    NamespacesMade,
    Continue,
    /// With the first process's number outside.
    OnRecord(i32),
    Terminal(OwnedFd),
    Ready,
    Start,
    Join,
    Failed(Error),
    /// The other end is closed.
    End,
}

/// Longest message, in bytes: an error in a line.
const LONGEST: usize = 4096;

/// Longest filter, in instructions: the kernel takes no longer one.
const LONGEST_FILTER: usize = 4096;

/// As many as there are kinds.
const MOST_NAMESPACES: usize = Namespace::ALL.len();

/// Two ends.
pub(crate) fn pair() -> Result<(Channel, Channel), Error> {
    let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let (one, other) = pair.on("make", "a socket pair").map_err(failed)?;
    Ok((Channel(one), Channel(other)))
}

/// Any failure of the host's as an error of the boundary's.
pub(crate) fn failed(error: insula_sys::Error) -> Error {
    Error::Failed(error.to_string())
}

impl Channel {
    /// Around a socket that is open already.
    pub(crate) fn from_socket(socket: OwnedFd) -> Channel {
        Channel(socket)
    }

    /// Whether nobody is left to hear us, whatever has been said before.
    pub(crate) fn is_abandoned(&self) -> bool {
        let mut fds = [PollFd::new(&self.0, PollFlags::empty())];
        let now = rustix::time::Timespec::default();
        rustix::event::poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
    }

    /// Sends one of the messages without content.
    pub(crate) fn send(&self, message: Message) -> Result<(), Error> {
        let byte = match message {
            Message::NamespacesMade => b'N',
            Message::Continue => b'C',
            Message::OnRecord(pid) => return self.send_bytes(format!("G{pid}").as_bytes()),
            Message::Ready => b'R',
            Message::Start => b'S',
            Message::Join => b'J',
            Message::Terminal(terminal) => return self.send_terminal(&terminal),
            Message::Failed(error) => return self.send_failure(&error),
            Message::End => return Ok(()),
        };
        self.send_bytes(&[byte])
    }

    /// Sends one to a process that may have ended. Then why is in the channel already, and is read with the next message.
    pub(crate) fn tell(&self, message: Message) {
        let _ = self.send(message);
    }

    /// Sends a compiled policy.
    pub(crate) fn send_filter(&self, program: &[Instruction]) -> Result<(), Error> {
        let words = program.iter().flat_map(|instruction| instruction.to_bytes());
        self.send_bytes(&[b'P'].into_iter().chain(words).collect::<Vec<u8>>())
    }

    /// Waits for a compiled policy, which must come next.
    pub(crate) fn receive_filter(&self) -> Result<Vec<Instruction>, Error> {
        let mut bytes = vec![0; 1 + 8 * LONGEST_FILTER];
        let length = loop {
            match rustix::net::recv(&self.0, &mut bytes[..], RecvFlags::empty()) {
                Err(Errno::INTR) => {}
                result => break result.on("hear from", "the other end").map_err(failed)?.0,
            }
        };
        match &bytes[..length] {
            [b'P', words @ ..] => {
                Ok(words.chunks_exact(8).filter_map(|word| word.try_into().ok()).map(Instruction::from_bytes).collect())
            }
            // The caller is gone, or has given up.
            _ => insula_sys::process::exit(1),
        }
    }

    fn send_bytes(&self, bytes: &[u8]) -> Result<(), Error> {
        rustix::net::send(&self.0, bytes, SendFlags::NOSIGNAL).on("reach", "the other end").map(drop).map_err(failed)
    }

    fn send_failure(&self, error: &Error) -> Result<(), Error> {
        let kind = match error {
            Error::NoProgram(_) => b'n',
            Error::CantRun(_) => b'c',
            _ => b'o',
        };
        let mut bytes = vec![b'F', kind];
        bytes.extend(error.to_string().bytes().take(LONGEST - 2));
        self.send_bytes(&bytes)
    }

    fn send_terminal(&self, terminal: &OwnedFd) -> Result<(), Error> {
        send_descriptor(&self.0, b"T", terminal).map_err(failed)
    }

    /// Answers who wants to join our namespaces, with a descriptor of each.
    pub(crate) fn send_namespaces(&self, files: &[OwnedFd]) -> Result<(), Error> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_NAMESPACES))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files: Vec<_> = files.iter().map(OwnedFd::as_fd).collect();
        control.push(SendAncillaryMessage::ScmRights(&files));
        let sent = rustix::net::sendmsg(&self.0, &[IoSlice::new(b"J")], &mut control, SendFlags::NOSIGNAL);
        sent.on("send namespaces to", "the other end").map(drop).map_err(failed)
    }

    /// Waits for that answer; nothing, if the other end has something else to say, or nothing.
    pub(crate) fn receive_namespaces(&self) -> Result<Vec<OwnedFd>, Error> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_NAMESPACES))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        loop {
            match rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                result => break result.on("hear from", "the other end").map(drop).map_err(failed)?,
            }
        }
        let descriptors = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors.collect()),
            _ => None,
        });
        Ok(descriptors.unwrap_or_default())
    }

    /// Waits for the next message.
    pub(crate) fn receive(&self) -> Result<Message, Error> {
        let mut bytes = [0; LONGEST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            match rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC) {
                // The latter: the other end was closed while something of ours was still unread there. It is told once, before what
                // the other end has said; that is read next, or the end.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                result => break result.on("hear from", "the other end").map_err(failed)?,
            }
        };
        let descriptor = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        Ok(match (&bytes[..received.bytes], descriptor) {
            ([], _) => Message::End,
            ([b'N', ..], _) => Message::NamespacesMade,
            ([b'C', ..], _) => Message::Continue,
            ([b'G', pid @ ..], _) => {
                Message::OnRecord(std::str::from_utf8(pid).ok().and_then(|text| text.parse().ok()).unwrap_or(0))
            }
            ([b'R', ..], _) => Message::Ready,
            ([b'S', ..], _) => Message::Start,
            ([b'J', ..], _) => Message::Join,
            ([b'T', ..], Some(terminal)) => Message::Terminal(terminal),
            ([b'F', kind, text @ ..], _) => {
                let text = String::from_utf8_lossy(text).into_owned();
                Message::Failed(match kind {
                    b'n' => Error::NoProgram(text),
                    b'c' => Error::CantRun(text),
                    _ => Error::Failed(text),
                })
            }
            _ => return Err(Error::Failed("the container's first process said something unknown".into())),
        })
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends bytes and a descriptor over a unix socket.
pub(crate) fn send_descriptor(socket: impl AsFd, bytes: &[u8], descriptor: impl AsFd) -> insula_sys::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let sent = rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL);
    sent.on("send a descriptor to", "the socket").map(drop)
}
