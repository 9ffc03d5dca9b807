//! The kernel's interface for links, addresses and routes, and whatever else is asked for in the same way. Source: netlink(7), rtnetlink(7).

use crate::error::{Error, Result};
use insula_sys::Context;
use insula_sys::error::describe;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::marker::PhantomData;

/// Room for what the kernel says at once: it sends a dump in pieces of at most 32 KiB.
const ROOM: usize = 64 << 10;

/// A socket to the kernel. What is asked through it is about the network namespace in which it was made, wherever its owner goes.
#[derive(Debug)]
pub(crate) struct Netlink<M = RouteNetlinkMessage> {
    socket: OwnedFd,
    sequence: u32,
    messages: PhantomData<fn(M)>,
}

/// One thing to be done, and its name for a failure.
pub(crate) struct Step<M = RouteNetlinkMessage> {
    pub(crate) what: String,
    pub(crate) message: M,
    /// `NLM_F_*` beside those of every request.
    pub(crate) flags: u16,
}

/// A step that failed.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) what: String,
    pub(crate) errno: Errno,
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Error {
        let advice = match refused.errno {
            Errno::PERM => "; it takes CAP_NET_ADMIN in the host's network",
            Errno::OPNOTSUPP => "; this kernel has no such device (`insula doctor` tells more)",
            _ => "",
        };
        Error::Failed(format!("can't {}: {}{advice}", refused.what, describe(refused.errno)))
    }
}

impl Netlink {
    /// A socket for the network namespace that this thread is in.
    pub(crate) fn open() -> Result<Netlink> {
        Ok(Netlink::of(None).on("open", "a netlink socket")?)
    }
}

impl<M: NetlinkSerializable + NetlinkDeserializable> Netlink<M> {
    /// The same for what a protocol's messages are about.
    pub(crate) fn of(protocol: Option<Protocol>) -> rustix::io::Result<Netlink<M>> {
        let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Netlink { socket, sequence: 0, messages: PhantomData })
    }

    /// The number of the device of this name; none if there is none.
    pub(crate) fn index(&self, name: &str) -> Option<u32> {
        rustix::net::netdevice::name_to_index(&self.socket, name).ok()
    }

    /// Has the kernel do these, one after the other, in one call. It goes on behind one that fails; told is the first of those.
    pub(crate) fn carry_out(&mut self, steps: Vec<Step<M>>) -> std::result::Result<(), Refused> {
        let first = self.sequence + 1;
        let mut bytes = Vec::new();
        let mut names = Vec::new();
        for Step { what, message, flags } in steps {
            self.add(&mut bytes, message, NLM_F_ACK | flags);
            names.push(what);
        }
        let failed = |errno, names: &[String]| Refused { what: names.first().cloned().unwrap_or_default(), errno };
        rustix::net::send(&self.socket, &bytes, SendFlags::empty()).map_err(|errno| failed(errno, &names))?;
        let mut answers = 0;
        let mut refused: Option<Refused> = None;
        while answers < names.len() {
            let room = self.receive().map_err(|errno| failed(errno, &names))?;
            for message in messages::<M>(&room) {
                let NetlinkPayload::Error(told) = &message.payload else { continue };
                let at = message.header.sequence_number.wrapping_sub(first) as usize;
                let Some(what) = names.get(at) else { continue };
                answers += 1;
                if told.code.is_some() && refused.is_none() {
                    let errno = Errno::from_raw_os_error(told.raw_code().saturating_neg());
                    refused = Some(Refused { what: what.clone(), errno });
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// All that the kernel has of a kind, which `what` names.
    pub(crate) fn dump(&mut self, what: &str, message: M) -> std::result::Result<Vec<M>, Refused> {
        let failed = |errno| Refused { what: format!("ask for {what}"), errno };
        let mut bytes = Vec::new();
        self.add(&mut bytes, message, NLM_F_DUMP);
        rustix::net::send(&self.socket, &bytes, SendFlags::empty()).map_err(failed)?;
        let mut found = Vec::new();
        loop {
            let room = self.receive().map_err(failed)?;
            for message in messages(&room) {
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => found.push(inner),
                    NetlinkPayload::Done(_) => return Ok(found),
                    NetlinkPayload::Error(told) => {
                        return Err(failed(Errno::from_raw_os_error(told.raw_code().saturating_neg())));
                    }
                    _ => {}
                }
            }
        }
    }

    fn add(&mut self, bytes: &mut Vec<u8>, message: M, flags: u16) {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();
        let begin = bytes.len();
        bytes.resize(begin + message.buffer_len(), 0);
        message.serialize(&mut bytes[begin..]);
        // The next message begins at a multiple of four bytes.
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }

    fn receive(&self) -> rustix::io::Result<Vec<u8>> {
        let mut room = vec![0; ROOM];
        loop {
            match rustix::net::recv(&self.socket, &mut room[..], RecvFlags::empty()) {
                Err(Errno::INTR) => {}
                result => {
                    room.truncate(result?.0);
                    return Ok(room);
                }
            }
        }
    }
}

/// The messages in what the kernel has sent at once; what isn't understood is left out.
pub(crate) fn messages<M: NetlinkDeserializable>(mut bytes: &[u8]) -> impl Iterator<Item = NetlinkMessage<M>> {
    std::iter::from_fn(move || {
        loop {
            let length = NetlinkBuffer::new_checked(bytes).ok()?.length() as usize;
            let (this, rest) = bytes.split_at_checked(length)?;
            bytes = rest.get(length.next_multiple_of(4) - length..).unwrap_or_default();
            if let Ok(message) = NetlinkMessage::deserialize(this) {
                return Some(message);
            }
        }
    })
}
