//! TCP and UDP over IPv4 and IPv6: tcp(7), udp(7), ip(7), ipv6(7).
//!
//! Between two sockets of one sandbox (the loopback interface) nothing is a packet: a TCP connection is two ways of bytes
//! ([`Connection`](super::stream::Connection)), a UDP datagram goes straight into the inbox of whom it is for. So there are neither segments
//! nor timers, and nothing that polls.
//!
//! | module | holds |
//! |---|---|
//! | [`endpoint`] | addresses and ports, and how programs pass them |
//! | [`ports`] | who has which port |
//! | [`interfaces`] | network interfaces and their addresses |
//! | [`tcp`] | TCP sockets |
//! | `listener` | how two of them find each other |
//! | [`tcp_options`] | the options of TCP |
//! | [`udp`] | datagrams |
//! | `errors` | what the network says of datagrams that didn't arrive |
//! | [`ip_options`] | the options of IPv4 and IPv6 |
//! | [`show`] | `/proc/net` |

pub mod endpoint;
mod errors;
pub mod interfaces;
pub mod ip_options;
mod listener;
pub mod ports;
pub mod show;
pub mod tcp;
pub mod tcp_options;
pub mod udp;

use super::Socket;
use crate::task::Task;
use crate::{Errno, Kernel, Result};
use alloc::sync::Arc;
use insula_abi::general as c;
use insula_abi::net as n;
use insula_abi::socket::protocol;
use interfaces::Interfaces;
use ports::Ports;

/// What all sockets of these families share.
pub struct Inet {
    /// Ports of TCP.
    pub tcp: Ports<tcp::Tcp>,
    /// Ports of UDP.
    pub udp: Ports<udp::Udp>,
    /// Ports of UDP-Lite.
    pub udp_lite: Ports<udp::Udp>,
    /// Network interfaces.
    pub interfaces: Interfaces,
}

impl Default for Inet {
    fn default() -> Self {
        Inet {
            tcp: Ports::new(ports::Rules::Tcp),
            udp: Ports::new(ports::Rules::Udp),
            udp_lite: Ports::new(ports::Rules::Udp),
            interfaces: Interfaces::default(),
        }
    }
}

/// The highest protocol (Linux: `IPPROTO_MAX`).
const PROTOCOL_MAX: i32 = 263;

/// A socket, without name and peer.
///
/// # Errors
/// `EINVAL`, `ESOCKTNOSUPPORT`, `EPROTONOSUPPORT`, `EPERM`, `EACCES`.
pub fn socket(kernel: &Arc<Kernel>, task: &Arc<Task>, domain: u32, kind: u32, number: i32) -> Result<Arc<dyn Socket>> {
    if !(0..PROTOCOL_MAX).contains(&number) {
        return Err(Errno::EINVAL);
    }
    let uid = task.credentials().uid.fs;
    if let Some(network) = &kernel.host.network
        && let Some(protocol) = outside(domain, kind, number as u32)
    {
        return network.socket(kernel, uid, domain, kind, protocol);
    }
    match (kind, number as u32) {
        (n::SOCK_STREAM, 0 | protocol::TCP) => Ok(tcp::Tcp::new(kernel, uid, domain)),
        (n::SOCK_DGRAM, 0 | protocol::UDP) => Ok(udp::Udp::new(kernel, uid, domain, protocol::UDP)),
        (n::SOCK_DGRAM, protocol::UDPLITE) => Ok(udp::Udp::new(kernel, uid, domain, protocol::UDPLITE)),
        // Nobody is in the groups that may have one (`net.ipv4.ping_group_range`, by default).
        (n::SOCK_DGRAM, protocol::ICMP) if domain == n::AF_INET => Err(Errno::EACCES),
        (n::SOCK_DGRAM, protocol::ICMPV6) if domain == n::AF_INET6 => Err(Errno::EACCES),
        (n::SOCK_STREAM | n::SOCK_DGRAM, _) => Err(Errno::EPROTONOSUPPORT),
        (n::SOCK_RAW, 0) => Err(Errno::EPROTONOSUPPORT),
        (n::SOCK_RAW, _) if !task.credentials().has(c::CAP_NET_RAW) => Err(Errno::EPERM),
        (n::SOCK_RAW, _) => Err(Errno::EPROTONOSUPPORT),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

/// The protocol of a socket of a network that isn't the kernel's own; none if such a network has no sockets of this kind.
fn outside(domain: u32, kind: u32, number: u32) -> Option<u32> {
    match (kind, number) {
        (n::SOCK_STREAM, 0 | protocol::TCP) => Some(protocol::TCP),
        (n::SOCK_DGRAM, 0 | protocol::UDP) => Some(protocol::UDP),
        (n::SOCK_DGRAM, protocol::ICMP) if domain == n::AF_INET => Some(number),
        (n::SOCK_DGRAM, protocol::ICMPV6) if domain == n::AF_INET6 => Some(number),
        _ => None,
    }
}
