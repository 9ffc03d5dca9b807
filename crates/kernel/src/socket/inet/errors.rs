//! Errors that the network reports of datagrams, with the datagrams (`IP_RECVERR`, `MSG_ERRQUEUE`): ip(7).

use super::endpoint;
use crate::socket::common::Common;
use crate::socket::control::Item;
use crate::socket::inbox::{Datagram, Inbox};
use crate::socket::{Received, Sink};
use crate::{Errno, Result};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use insula_abi::net as n;
use insula_abi::socket::{SockExtendedErr, protocol};
use insula_abi::zerocopy::IntoBytes;

/// Where an error comes from: `SO_EE_ORIGIN_ICMP`, `SO_EE_ORIGIN_ICMP6`.
const ORIGIN_ICMP: u8 = 2;
const ORIGIN_ICMP6: u8 = 3;

/// "Port unreachable", the only error within a sandbox: type and code of ICMP (RFC 792) and of ICMPv6 (RFC 4443).
const UNREACHABLE: (u8, u8) = (3, 3);
const UNREACHABLE6: (u8, u8) = (1, 4);

/// Errors of a socket that asked for them.
#[derive(Default)]
pub(super) struct Errors(Inbox);

impl Errors {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What waits is dropped, and nothing is kept any more.
    pub(super) fn close(&self) {
        drop(self.0.close());
    }

    /// Nobody had the port that a datagram was for. Dropped if too many wait.
    pub(super) fn refused(&self, common: &Common, data: alloc::vec::Vec<u8>, to: SocketAddr) {
        let (origin, (kind, code)) = if to.is_ipv4() { (ORIGIN_ICMP, UNREACHABLE) } else { (ORIGIN_ICMP6, UNREACHABLE6) };
        let error = SockExtendedErr { errno: Errno::ECONNREFUSED.0.into(), origin, kind, code, ..SockExtendedErr::default() };
        // Who reports it: the host that the datagram was for.
        let offender = match to.ip() {
            ip if !ip.is_loopback() => ip,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        let (level, name, family) = match to {
            SocketAddr::V4(_) => (protocol::IP, n::IP_RECVERR, n::AF_INET),
            SocketAddr::V6(_) => (protocol::IPV6, n::IPV6_RECVERR, n::AF_INET6),
        };
        let mut item = error.as_bytes().to_vec();
        item.extend(endpoint::tell(family, (offender, 0).into()).bytes());
        let items = alloc::vec![Item { level, kind: name, data: item }];
        let from = Some(endpoint::tell(common.domain, to));
        let _ = self.0.push(&mut Some(Datagram { data, from, items, ..Datagram::default() }), common.receive_room());
    }

    /// The next one. The socket's own error is then that of the one after it.
    ///
    /// # Errors
    /// `EAGAIN`: there is none; nobody waits for one.
    pub(super) fn receive(&self, common: &Common, sink: &mut Sink<'_>) -> Result<Received> {
        let mut received = self.0.receive(sink, 0)?;
        received.flags |= n::MSG_ERRQUEUE;
        if self.is_empty() {
            common.take_error();
        } else {
            common.set_error(Errno::ECONNREFUSED);
        }
        Ok(received)
    }
}
