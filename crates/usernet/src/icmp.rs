//! Messages of ICMP's to the guest: echoes of the gateway's, and that something can't be reached. Sources: RFC 792, RFC 4443.

use crate::hub::Hub;
use crate::wire::{Head, Ip, Sum, protocol};
use crate::{flow::Flow, neighbours};
use rustix::io::Errno;
use std::net::IpAddr;

/// Why something can't be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Network,
    Host,
    Port,
    /// It may not be.
    Forbidden,
}

impl Why {
    /// What an answer of the host's kernel to a connect or send means; none if it says nothing of where it went.
    pub(crate) fn of(errno: Errno) -> Option<Why> {
        match errno {
            Errno::NETUNREACH => Some(Why::Network),
            Errno::HOSTUNREACH | Errno::HOSTDOWN => Some(Why::Host),
            Errno::CONNREFUSED => Some(Why::Port),
            Errno::ACCESS | Errno::PERM => Some(Why::Forbidden),
            _ => None,
        }
    }

    /// Type and code.
    fn said(self, of_ipv6: bool) -> [u8; 2] {
        match (of_ipv6, self) {
            (false, Why::Network) => [3, 0],
            (false, Why::Host) => [3, 1],
            (false, Why::Port) => [3, 3],
            (false, Why::Forbidden) => [3, 13],
            (true, Why::Network) => [1, 0],
            (true, Why::Host) => [1, 3],
            (true, Why::Port) => [1, 4],
            (true, Why::Forbidden) => [1, 1],
        }
    }
}

/// Tells the guest that what it sent can't get there. The message quotes the header that did, and the first eight bytes behind it.
pub(crate) fn unreachable(hub: &mut Hub, flow: &Flow, sent: [u8; 8], why: Why) {
    let (guest, remote) = (flow.guest.ip(), flow.remote.ip());
    let of_ipv6 = guest.is_ipv6();
    let quoted = Head::ip([0; 6], guest, remote, flow.protocol.number(of_ipv6), sent.len()).with(&sent);
    let mut message = why.said(of_ipv6).to_vec();
    message.extend([0; 6]);
    message.extend(&quoted[crate::wire::VNET + crate::wire::ETHERNET..]);
    let source = hub.link.gateway_address(of_ipv6);
    send(hub, source, guest, message);
}

/// Sends a message of either kind, with its checksum.
pub(crate) fn send(hub: &mut Hub, source: IpAddr, to: IpAddr, mut message: Vec<u8>) {
    let mac = hub.link.guest();
    message[2..4].fill(0);
    if to.is_ipv6() {
        return neighbours::send(hub, mac, source, to, message);
    }
    let mut sum = Sum::default();
    sum.add(&message);
    message[2..4].copy_from_slice(&sum.checksum().to_be_bytes());
    hub.reply(Head::ip(mac, source, to, protocol::ICMP, message.len()).with(&message));
}

/// Whether a message asks for an echo.
pub(crate) fn asks(ip: &Ip, message: &[u8]) -> bool {
    let kind = if ip.destination.is_ipv6() { 128 } else { 8 };
    message.len() >= 8 && message[0] == kind && message[1] == 0
}

/// The gateway answers by itself.
pub(crate) fn echo(hub: &mut Hub, ip: &Ip, mut message: Vec<u8>) {
    message[0] = if ip.destination.is_ipv6() { 129 } else { 0 };
    send(hub, ip.destination, ip.source, message);
}
