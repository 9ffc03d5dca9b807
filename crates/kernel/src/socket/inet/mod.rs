//! TCP, UDP and raw sockets over IPv4 and IPv6: tcp(7), udp(7), raw(7), ip(7), ipv6(7).
//!
//! Between two sockets of one sandbox (the loopback interface) nothing is a packet: a TCP connection is two ways of bytes
//! ([`Connection`](super::stream::Connection)), a UDP datagram goes straight into the inbox of whom it is for. So there are neither segments
//! nor timers, and nothing that polls. Only raw sockets have packets.
//!
//! | module | holds |
//! |---|---|
//! | [`endpoint`] | addresses and ports, and how programs pass them |
//! | [`ports`] | who has which port |
//! | [`interfaces`] | network interfaces and their addresses |
//! | [`links`] | interfaces that programs make, and ways between networks |
//! | [`tcp`] | TCP sockets |
//! | `listener` | how two of them find each other |
//! | [`tcp_options`] | the options of TCP |
//! | [`udp`] | datagrams |
//! | [`raw`] | packets, and echoes |
//! | `packet` | how packets are made |
//! | `ancillary` | what is told beside a datagram |
//! | `errors` | what the network says of datagrams that didn't arrive |
//! | [`ip_options`] | the options of IPv4 and IPv6 |
//! | [`show`] | `/proc/net` |

mod ancillary;
pub mod endpoint;
mod errors;
pub mod interfaces;
pub mod ip_options;
pub mod links;
mod listener;
mod packet;
pub mod ports;
pub mod raw;
pub mod show;
pub mod tcp;
pub mod tcp_options;
pub mod udp;

use super::{Common, Socket};
use crate::sync::Mutex;
use crate::task::Task;
use crate::task::credentials::Credentials;
use crate::{Errno, Kernel, Result};
use alloc::sync::Arc;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::sync::atomic::AtomicBool;
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
    /// Raw sockets, and those for echoes.
    pub raw: raw::Raws,
    /// The first and the last group whose members may ask for echoes (`net.ipv4.ping_group_range`).
    pub echo_groups: Mutex<(u32, u32)>,
    /// What isn't for this network is passed on (`net.ipv4.ip_forward`).
    pub forwards: AtomicBool,
    /// Network interfaces.
    pub interfaces: Interfaces,
}

impl Default for Inet {
    fn default() -> Self {
        Inet {
            tcp: Ports::new(ports::Rules::Tcp),
            udp: Ports::new(ports::Rules::Udp),
            udp_lite: Ports::new(ports::Rules::Udp),
            raw: raw::Raws::default(),
            // None, as Linux begins.
            echo_groups: Mutex::new((1, 0)),
            forwards: AtomicBool::new(false),
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
    let (uid, net) = (task.credentials().uid.fs, task.net());
    if let Some(network) = &net.holds.outside
        && let Some(protocol) = outside(domain, kind, number as u32)
    {
        return network.socket(kernel, uid, domain, kind, protocol);
    }
    match (kind, number as u32) {
        (n::SOCK_STREAM, 0 | protocol::TCP) => Ok(tcp::Tcp::new(kernel, &net, uid, domain)),
        (n::SOCK_DGRAM, 0 | protocol::UDP) => Ok(udp::Udp::new(kernel, &net, uid, domain, protocol::UDP)),
        (n::SOCK_DGRAM, protocol::UDPLITE) => Ok(udp::Udp::new(kernel, &net, uid, domain, protocol::UDPLITE)),
        (n::SOCK_DGRAM, protocol::ICMP) if domain == n::AF_INET => Ok(raw::socket(kernel, task, domain, kind, protocol::ICMP)?),
        (n::SOCK_DGRAM, protocol::ICMPV6) if domain == n::AF_INET6 => {
            Ok(raw::socket(kernel, task, domain, kind, protocol::ICMPV6)?)
        }
        (n::SOCK_STREAM | n::SOCK_DGRAM, _) => Err(Errno::EPROTONOSUPPORT),
        // Packets of a network that isn't the kernel's own aren't its to make.
        (n::SOCK_RAW, _) if net.holds.outside.is_some() && net.grants(task, c::CAP_NET_RAW) => Err(Errno::EPROTONOSUPPORT),
        (n::SOCK_RAW, number) => Ok(raw::socket(kernel, task, domain, kind, number)?),
        _ => Err(Errno::ESOCKTNOSUPPORT),
    }
}

impl Common {
    /// Whether something can be sent there. That nobody may answer isn't known yet.
    fn check_route(&self, to: IpAddr) -> Result<()> {
        match to {
            IpAddr::V4(ip) if ip.is_broadcast() && !self.options.lock().broadcast => Err(Errno::EACCES),
            ip if ip.is_multicast() && self.inet().interfaces.any_up() || self.inet().interfaces.is_local(ip) => Ok(()),
            ip => match self.net.way(ip) {
                Err(Errno::EHOSTUNREACH) => Ok(()),
                way => way.map(drop),
            },
        }
    }

    /// From which address a socket that is bound to `local` sends to `to`.
    fn source(&self, local: IpAddr, to: IpAddr) -> Result<IpAddr> {
        let ip = match (local, to) {
            (local, IpAddr::V4(to)) if local.is_unspecified() && to.is_multicast() => Ipv4Addr::LOCALHOST.into(),
            (local, IpAddr::V6(to)) if local.is_unspecified() && to.is_multicast() => Ipv6Addr::LOCALHOST.into(),
            (local, to) if local.is_unspecified() => match self.net.way(to) {
                Ok(way) => way.source,
                Err(_) => return Err(Errno::ENETUNREACH),
            },
            (local, _) => local,
        };
        if ip.is_ipv4() == to.is_ipv4() { Ok(ip) } else { Err(Errno::ENETUNREACH) }
    }
}

/// Whether one of its groups may ask for echoes.
fn may_ask_for_echo(inet: &Inet, credentials: &Credentials) -> bool {
    let (first, last) = *inet.echo_groups.lock();
    let mut groups = core::iter::once(&credentials.gid.fs).chain(credentials.groups.iter());
    groups.any(|group| (first..=last).contains(group))
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
