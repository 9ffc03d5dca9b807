//! What the sentry asks of the net process, and what that answers.
//!
//! A question is one [`Request`], with the socket that it is about beside it, as a descriptor: so neither side keeps a table, and a socket is
//! gone when the sentry has closed it. An answer is an errno (0 for success) and, with success, what the request's documentation says.

use crate::wire::{Bytes, Malformed, Reader, Wire, Writer, choice};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Longest value of an option in bytes.
pub const OPTION_MOST: usize = 512;

/// An address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At(pub SocketAddr);

impl Wire<'_> for At {
    fn put(&self, out: &mut Writer<'_>) {
        out.put(&self.0.is_ipv6());
        out.put(&self.0.port());
        match self.0 {
            SocketAddr::V4(at) => out.bytes(&at.ip().octets()),
            SocketAddr::V6(at) => {
                out.bytes(&at.ip().octets());
                out.put(&at.flowinfo());
                out.put(&at.scope_id());
            }
        }
    }

    fn get(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (v6, port): (bool, u16) = (input.get()?, input.get()?);
        if !v6 {
            let octets: [u8; 4] = input.take(4)?.try_into().map_err(|_| Malformed)?;
            return Ok(At(SocketAddrV4::new(Ipv4Addr::from(octets), port).into()));
        }
        let octets: [u8; 16] = input.take(16)?.try_into().map_err(|_| Malformed)?;
        Ok(At(SocketAddrV6::new(Ipv6Addr::from(octets), port, input.get()?, input.get()?).into()))
    }
}

/// What sockets carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP.
    Stream,
    /// UDP.
    Datagram,
    /// Echo requests and their answers, as `ping` uses them (icmp(7), `ping_group_range`).
    Echo,
}

impl Wire<'_> for Kind {
    fn put(&self, out: &mut Writer<'_>) {
        out.put(&(*self as u8));
    }

    fn get(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        match input.get::<u8>()? {
            0 => Ok(Kind::Stream),
            1 => Ok(Kind::Datagram),
            2 => Ok(Kind::Echo),
            _ => Err(Malformed),
        }
    }
}

choice! {
    /// What can be asked. "Gives" says what an answer without an error holds.
    ///
    /// Privileges within the sandbox are the asker's business: by the time it asks, it has decided that its process may.
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Request<'a> {
        /// Makes a socket that never waits; nothing is beside the question. Gives it, as a descriptor.
        0 => Open {
            /// Of IPv6, rather than IPv4.
            v6: bool,
            /// What it carries.
            kind: Kind,
        },
        /// bind(2). Gives nothing.
        1 => Bind {
            /// The name it gets.
            at: At,
        },
        /// connect(2). Gives nothing.
        2 => Connect {
            /// To whom; none takes the peer away (`AF_UNSPEC`).
            to: Option<At>,
        },
        /// listen(2). Gives nothing.
        3 => Listen {
            /// How many may wait.
            backlog: u32,
        },
        /// shutdown(2) of what is received, sent, or both. Gives nothing.
        4 => Shutdown {
            /// Nothing is received any more.
            read: bool,
            /// Nothing is sent any more.
            write: bool,
        },
        /// getsockname(2). Gives an [`At`].
        5 => Name {},
        /// getpeername(2). Gives an [`At`].
        6 => PeerName {},
        /// setsockopt(2), of the options listed in [`OPTIONS`](super::OPTIONS). Gives nothing.
        7 => SetOption {
            /// `SOL_*`, `IPPROTO_*`.
            level: u32,
            /// Which.
            name: u32,
            /// Its value.
            value: Bytes<'a>,
        },
        /// getsockopt(2), of the same. Gives [`Bytes`].
        8 => GetOption {
            /// `SOL_*`, `IPPROTO_*`.
            level: u32,
            /// Which.
            name: u32,
            /// Bytes that are wanted at most.
            room: u16,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_back_as_they_were_written() {
        let at = |text: &str| At(text.parse().expect("an address"));
        let requests = [
            Request::Open { v6: true, kind: Kind::Echo },
            Request::Bind { at: at("1.2.3.4:5") },
            Request::Connect { to: Some(At(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, 7, 9).into())) },
            Request::Connect { to: None },
            Request::Listen { backlog: 128 },
            Request::Shutdown { read: false, write: true },
            Request::Name {},
            Request::SetOption { level: 6, name: 1, value: Bytes(b"abcd") },
            Request::GetOption { level: 6, name: 1, room: 4 },
        ];
        for request in requests {
            let mut buffer = [0; 64];
            let mut out = Writer::new(&mut buffer);
            out.put(&request);
            let length = out.finish().expect("room");
            let mut reader = Reader::new(&buffer[..length]);
            assert_eq!(reader.get(), Ok(request));
            assert_eq!(reader.end(), Ok(()));
            for short in 0..length {
                assert!(Reader::new(&buffer[..short]).get::<Request<'_>>().is_err(), "{request:?} cut to {short}");
            }
        }
    }
}
