//! What `/proc/net` shows, proc_net(5): for procfs, which reads it anew at each open.

use super::Inet;
use super::interfaces::mask;
use super::ports::Ports;
use super::tcp::Tcp;
use super::udp::Udp;
use crate::Result;
use crate::socket::Common;
use crate::task::Task;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write as _;
use core::net::{IpAddr, SocketAddr};
use insula_abi::net as n;
use insula_abi::socket::protocol;

/// A file of `/proc/net`: its name, and what makes its text.
pub type Shown = (&'static str, fn(&Arc<Task>) -> Result<Vec<u8>>);

/// All of them.
pub const FILES: &[Shown] = &[
    ("tcp", |task| Ok(tcp(&task.net().holds.inet, n::AF_INET))),
    ("tcp6", |task| Ok(tcp(&task.net().holds.inet, n::AF_INET6))),
    ("udp", |task| Ok(udp(&task.net().holds.inet, n::AF_INET))),
    ("udp6", |task| Ok(udp(&task.net().holds.inet, n::AF_INET6))),
    ("raw", |task| Ok(raw(&task.net().holds.inet, n::AF_INET, n::SOCK_RAW))),
    ("raw6", |task| Ok(raw(&task.net().holds.inet, n::AF_INET6, n::SOCK_RAW))),
    ("icmp", |task| Ok(raw(&task.net().holds.inet, n::AF_INET, n::SOCK_DGRAM))),
    ("icmp6", |task| Ok(raw(&task.net().holds.inet, n::AF_INET6, n::SOCK_DGRAM))),
    ("unix", |task| Ok(task.kernel().sockets.unix.show(&task.net()))),
    ("dev", |task| Ok(devices(&task.net().holds.inet))),
    ("if_inet6", |task| Ok(addresses6(&task.net().holds.inet))),
    // The loopback interface has no neighbours.
    ("arp", |_| Ok(b"IP address       HW type     Flags       HW address            Mask     Device\n".to_vec())),
    ("route", |task| Ok(routes(&task.net().holds.inet))),
    ("sockstat", |task| Ok(counts(task))),
];

/// A socket, as netlink tells of it.
pub struct Seen {
    /// `AF_*`.
    pub domain: u32,
    /// `TCP_*`, the state.
    pub state: u8,
    /// Where it is reached.
    pub local: SocketAddr,
    /// Whom it is connected to.
    pub remote: SocketAddr,
    /// Bytes that wait to be read; of a listener, connections that wait.
    pub unread: usize,
    /// Bytes that were not read by the peer; of a listener, how many connections may wait.
    pub unsent: usize,
    /// Whose it is.
    pub uid: u32,
    /// Its number.
    pub ino: u64,
    /// The interface that it is bound to; 0 is none.
    pub device: u32,
    /// `SO_MARK`.
    pub mark: u32,
    /// `IPV6_V6ONLY`.
    pub only6: bool,
    /// Which ways are ended: 1 is receiving, 2 sending.
    pub shut: u8,
    /// Bytes that have room, to receive and to send.
    pub room: [u32; 2],
}

impl Seen {
    fn new(common: &Common, (local, remote): (SocketAddr, SocketAddr), state: u8, unread: usize) -> Self {
        let (device, mark) = {
            let options = common.options.lock();
            (options.device, options.mark)
        };
        let room = [common.receive_room() as u32, common.send_room() as u32];
        let (domain, uid, ino) = (common.domain, common.uid, common.ino);
        Seen { domain, state, local, remote, unread, unsent: 0, uid, ino, device, mark, only6: false, shut: 0, room }
    }
}

/// The state of a datagram socket: connected, or not.
fn datagram_state(remote: SocketAddr) -> u8 {
    if remote.ip().is_unspecified() { 7 } else { 1 }
}

impl Inet {
    /// All sockets of a protocol (`IPPROTO_*`; `IPPROTO_RAW` is all that are raw) that have a port; none if nothing can be told of it.
    pub fn seen(&self, number: u32) -> Option<Vec<Seen>> {
        let udp = |ports: &Ports<Udp>| {
            let shown = ports.all().into_iter().filter_map(|socket| Some((socket.show()?, socket)));
            let seen = shown.map(|((local, remote, unread, _), socket)| Seen {
                only6: socket.only6(),
                ..Seen::new(socket.shared(), (local, remote), datagram_state(remote), unread)
            });
            seen.collect()
        };
        Some(match number {
            protocol::TCP => self.tcp.all().iter().filter_map(|socket| socket.seen()).collect(),
            protocol::UDP => udp(&self.udp),
            protocol::UDPLITE => udp(&self.udp_lite),
            protocol::RAW => {
                let raws = self.raw.all().into_iter().filter(|socket| socket.common.kind == n::SOCK_RAW);
                let shown = raws.filter_map(|socket| Some((socket.show()?, socket)));
                let seen = shown.map(|((local, remote, unread, _), socket)| {
                    Seen::new(&socket.common, (local, remote), datagram_state(remote), unread)
                });
                seen.collect()
            }
            _ => return None,
        })
    }
}

impl Tcp {
    fn seen(&self) -> Option<Seen> {
        let (local, remote, unsent, unread) = self.show()?;
        let seen = Seen::new(&self.common, (local, remote), self.state_number(), unread);
        Some(Seen { unsent: self.backlog().unwrap_or(unsent), only6: self.only6(), shut: self.shut(), ..seen })
    }
}

/// An address as these files have it: words in the machine's order.
fn address(at: SocketAddr, domain: u32) -> String {
    let port = at.port();
    match at.ip() {
        IpAddr::V4(ip) if domain == n::AF_INET => format!("{:08X}:{port:04X}", u32::from_ne_bytes(ip.octets())),
        ip => {
            let ip = match ip {
                IpAddr::V4(ip) if ip.is_unspecified() => core::net::Ipv6Addr::UNSPECIFIED,
                IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                IpAddr::V6(ip) => ip,
            };
            let words = ip.octets();
            let mut text = String::new();
            for word in words.chunks_exact(4) {
                let _ = write!(text, "{:08X}", u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
            }
            format!("{text}:{port:04X}")
        }
    }
}

fn tcp(inet: &Inet, domain: u32) -> Vec<u8> {
    let head = match domain {
        n::AF_INET => "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
        _ => {
            "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when \
              retrnsmt   uid  timeout inode"
        }
    };
    let mut text = if domain == n::AF_INET { format!("{head:<149}\n") } else { format!("{head}\n") };
    let sockets = inet.tcp.all().into_iter().filter(|socket| socket.common.domain == domain);
    let shown = sockets.filter_map(|socket| Some((socket.show()?, socket)));
    for (line, ((local, remote, unsent, unread), socket)) in shown.enumerate() {
        let (local, remote, state) = (address(local, domain), address(remote, domain), socket.state_number());
        let (uid, ino) = (socket.common.uid, socket.common.ino);
        let row = format!(
            "{line:4}: {local} {remote} {state:02X} {unsent:08X}:{unread:08X} 00:00000000 00000000 {uid:5}        0 {ino} 1 \
             0000000000000000 100 0 0 10 0"
        );
        let _ = if domain == n::AF_INET { writeln!(text, "{row:<149}") } else { writeln!(text, "{row}") };
    }
    text.into_bytes()
}

fn udp(inet: &Inet, domain: u32) -> Vec<u8> {
    let sockets = inet.udp.all().into_iter().filter(|socket| socket.shared().domain == domain);
    datagrams(domain, "   sl", sockets.filter_map(|socket| Some((socket.show()?, socket.shared().uid, socket.shared().ino))))
}

fn raw(inet: &Inet, domain: u32, kind: u32) -> Vec<u8> {
    let sockets = inet.raw.all().into_iter().filter(|socket| (socket.common.domain, socket.common.kind) == (domain, kind));
    datagrams(domain, "  sl", sockets.filter_map(|socket| Some((socket.show()?, socket.common.uid, socket.common.ino))))
}

/// A socket of datagrams: its address, its peer's, bytes that wait, datagrams that were lost; whose it is; its number.
type Line = ((SocketAddr, SocketAddr, usize, u32), u32, u64);

/// Sockets of datagrams, a line each.
fn datagrams(domain: u32, number: &str, sockets: impl Iterator<Item = Line>) -> Vec<u8> {
    let head = match domain {
        n::AF_INET => {
            format!(
                "{number}  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops"
            )
        }
        _ => String::from(
            "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when \
              retrnsmt   uid  timeout inode ref pointer drops",
        ),
    };
    let mut text = if domain == n::AF_INET { format!("{head:<127}\n") } else { format!("{head}\n") };
    for (line, ((local, remote, unread, lost), uid, ino)) in sockets.enumerate() {
        let state = if remote.ip().is_unspecified() { 7 } else { 1 };
        let (local, remote) = (address(local, domain), address(remote, domain));
        let row = format!(
            "{line:5}: {local} {remote} {state:02X} 00000000:{unread:08X} 00:00000000 00000000 {uid:5}        0 {ino} 2 \
             0000000000000000 {lost}"
        );
        let _ = if domain == n::AF_INET { writeln!(text, "{row:<127}") } else { writeln!(text, "{row}") };
    }
    text.into_bytes()
}

fn devices(inet: &Inet) -> Vec<u8> {
    let mut text = String::from(
        "Inter-|   Receive                                                |  Transmit\n \
         face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n",
    );
    for interface in inet.interfaces.all() {
        let name = String::from_utf8_lossy(&interface.name).into_owned();
        // Nothing between two sockets of a sandbox is a packet.
        let _ = writeln!(
            text,
            "{name:>6}: {0:7} {0:7} {0:4} {0:4} {0:4} {0:5} {0:10} {0:9} {0:8} {0:7} {0:4} {0:4} {0:4} {0:5} {0:7} {0:10}",
            0
        );
    }
    text.into_bytes()
}

fn addresses6(inet: &Inet) -> Vec<u8> {
    let mut text = String::new();
    for interface in inet.interfaces.all() {
        for (ip, prefix) in &interface.addresses {
            let IpAddr::V6(ip) = ip else { continue };
            for byte in ip.octets() {
                let _ = write!(text, "{byte:02x}");
            }
            let scope = if ip.is_loopback() { 0x10 } else { 0 };
            let name = String::from_utf8_lossy(&interface.name).into_owned();
            let _ = writeln!(text, " {:02x} {prefix:02x} {scope:02x} 80 {name:>8}", interface.index);
        }
    }
    text.into_bytes()
}

fn routes(inet: &Inet) -> Vec<u8> {
    let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
    let mut text = format!("{head:<127}\n");
    for interface in inet.interfaces.all() {
        for (ip, prefix) in &interface.addresses {
            // Routes of the table "local", as that to 127/8, aren't shown here.
            let IpAddr::V4(ip) = ip else { continue };
            if ip.is_loopback() || *prefix == 32 {
                continue;
            }
            let mask = u32::from(mask(*prefix));
            let destination = (u32::from(*ip) & mask).to_be();
            let name = String::from_utf8_lossy(&interface.name).into_owned();
            let row = format!("{name}\t{destination:08X}\t00000000\t0001\t0\t0\t0\t{:08X}\t0\t0\t0", mask.to_be());
            let _ = writeln!(text, "{row:<127}");
        }
    }
    for gateway in inet.interfaces.gateways() {
        let IpAddr::V4(to) = gateway.to else { continue };
        let (through, kind) = match gateway.through {
            Some(IpAddr::V4(through)) => (through, 3),
            _ => (core::net::Ipv4Addr::UNSPECIFIED, 1),
        };
        let name = inet.interfaces.numbered(gateway.interface).map(|interface| interface.name).unwrap_or_default();
        let [to, through, mask] = [to, through, mask(gateway.prefix)].map(|ip| u32::from(ip).to_be());
        let name = String::from_utf8_lossy(&name);
        let row = format!("{name}\t{to:08X}\t{through:08X}\t{kind:04X}\t0\t0\t{}\t{mask:08X}\t0\t0\t0", gateway.metric);
        let _ = writeln!(text, "{row:<127}");
    }
    text.into_bytes()
}

fn counts(task: &Task) -> Vec<u8> {
    let net = task.net();
    let inet = &net.holds.inet;
    let (tcp, udp) = (inet.tcp.all(), inet.udp.all());
    let of = |domain| tcp.iter().filter(|socket| socket.common.domain == domain).count();
    let udp4 = udp.iter().filter(|socket| socket.shared().domain == n::AF_INET).count();
    let used = tcp.len() + udp.len() + task.kernel().sockets.unix.count(&net);
    format!(
        "sockets: used {used}\nTCP: inuse {} orphan 0 tw {} alloc {} mem 0\nUDP: inuse {udp4} mem 0\nUDPLITE: inuse 0\nRAW: inuse 0\n\
         FRAG: inuse 0 memory 0\n",
        of(n::AF_INET),
        inet.tcp.waits(),
        tcp.len(),
    )
    .into_bytes()
}
