//! What can be asked of a network.

use crate::error::{Error, Result};
use crate::reach::is_routable;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// A network, as asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The addresses of the cable.
    pub subnet: Subnet,
    /// The largest packet, in bytes.
    pub mtu: u16,
    /// The name that the guest is told to have.
    pub hostname: Option<String>,
    /// Ports of the host's that lead to the guest.
    pub publish: Vec<Publish>,
    /// The gateway's address leads to the host's loopback device, and so to services that trust whoever is on this host.
    pub host_loopback: bool,
    /// Where it says whom to ask for names, resolv.conf(5).
    pub resolv_conf: PathBuf,
}

/// The largest that is useful: a packet of 64 KiB with an Ethernet header, in whole words.
pub const LARGEST_MTU: u16 = 65520;
/// RFC 8200 section 5.
pub const SMALLEST_MTU: u16 = 1280;

impl Default for Config {
    fn default() -> Config {
        Config {
            subnet: Subnet::default(),
            mtu: LARGEST_MTU,
            hostname: None,
            publish: Vec::new(),
            host_loopback: false,
            resolv_conf: "/etc/resolv.conf".into(),
        }
    }
}

impl Config {
    /// Checks what can be checked without making anything.
    ///
    /// # Errors
    /// A value that no network can have.
    pub fn check(&self) -> Result<()> {
        if !(SMALLEST_MTU..=LARGEST_MTU).contains(&self.mtu) {
            return Err(Error::Config(format!("an MTU of {} is outside {SMALLEST_MTU} to {LARGEST_MTU}", self.mtu)));
        }
        // RFC 2132 section 3.14 leaves one byte for the length; RFC 1123 section 2.1 says what a name is.
        let label = |label: &str| {
            let fits = (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-');
            fits && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        match &self.hostname {
            Some(name) if name.len() > 253 || !name.split('.').all(label) => {
                Err(Error::Config(format!("{name:?} is no host name: letters, digits and - are, with dots between")))
            }
            _ => Ok(()),
        }
    }
}

/// A range of IPv4 addresses: the second in it is the gateway's, the fifteenth the guest's, as in QEMU's and libslirp's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    network: Ipv4Addr,
    prefix: u8,
}

impl Subnet {
    /// The gateway's address.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) + 2)
    }

    /// The guest's address.
    pub fn guest(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) + 15)
    }

    /// How many bits all its addresses begin with.
    pub fn prefix(self) -> u8 {
        self.prefix
    }
}

impl Default for Subnet {
    fn default() -> Subnet {
        Subnet { network: Ipv4Addr::new(10, 0, 2, 0), prefix: 24 }
    }
}

impl FromStr for Subnet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Subnet> {
        let wrong = |why: &str| Error::Config(format!("{text:?} is no subnet{why}"));
        let (network, prefix) = text.split_once('/').ok_or_else(|| wrong("; write 10.0.2.0/24"))?;
        let network: Ipv4Addr = network.parse().map_err(|_| wrong("; write 10.0.2.0/24"))?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong("; write 10.0.2.0/24"))?;
        // Room for the fifteenth address and the broadcast address; and for some network beside it.
        if !(8..=27).contains(&prefix) {
            return Err(wrong(": its prefix is outside 8 to 27"));
        }
        if u32::from(network) & (u32::MAX >> prefix) != 0 {
            return Err(wrong(&format!(": it has bits set beyond the first {prefix}")));
        }
        let last = Ipv4Addr::from(u32::from(network) | u32::MAX >> prefix);
        if !is_routable(network.into()) || !is_routable(last.into()) {
            return Err(wrong(" that hosts can have"));
        }
        Ok(Subnet { network, prefix })
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl TryFrom<String> for Subnet {
    type Error = Error;

    fn try_from(text: String) -> Result<Subnet> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> String {
        subnet.to_string()
    }
}

/// What is spoken at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

/// A port of the host's that leads to one of the guest's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Publish {
    /// At which of the host's addresses; at all of them if none is said.
    pub address: Option<IpAddr>,
    /// The host's port.
    pub port: u16,
    /// The guest's port.
    pub guest_port: u16,
    /// TCP or UDP.
    pub transport: Transport,
}

impl Publish {
    /// Where to listen.
    pub(crate) fn at(&self) -> SocketAddr {
        SocketAddr::new(self.address.unwrap_or(Ipv6Addr::UNSPECIFIED.into()), self.port)
    }
}

impl FromStr for Publish {
    type Err = Error;

    /// `[HOSTADDR:]HOSTPORT:GUESTPORT[/tcp|/udp]`; an IPv6 address stands in brackets.
    fn from_str(text: &str) -> Result<Publish> {
        let wrong = |why: &str| Error::Config(format!("{text:?} names no port to publish: {why}"));
        let (ports, transport) = match text.rsplit_once('/') {
            None => (text, Transport::Tcp),
            Some((ports, "tcp")) => (ports, Transport::Tcp),
            Some((ports, "udp")) => (ports, Transport::Udp),
            Some((_, other)) => return Err(wrong(&format!("{other:?} is neither tcp nor udp"))),
        };
        let (front, guest) = ports.rsplit_once(':').ok_or_else(|| wrong("write [HOSTADDR:]HOSTPORT:GUESTPORT[/tcp|/udp]"))?;
        let (address, host) = front.rsplit_once(':').map_or((None, front), |(address, port)| (Some(address), port));
        let port = |text: &str| match text.parse() {
            Ok(0) | Err(_) => Err(wrong(&format!("{text:?} is no port, which is 1 to 65535"))),
            Ok(port) => Ok(port),
        };
        let address = address.map(|text| {
            let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
            let parsed = match bare {
                Some(bare) => bare.parse::<Ipv6Addr>().map(IpAddr::V6),
                None => text.parse::<Ipv4Addr>().map(IpAddr::V4),
            };
            parsed.map_err(|_| wrong(&format!("{text:?} is no address; one of IPv6 stands in brackets")))
        });
        Ok(Publish { address: address.transpose()?, port: port(host)?, guest_port: port(guest)?, transport })
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            None => {}
        }
        let transport = if self.transport == Transport::Tcp { "tcp" } else { "udp" };
        write!(f, "{}:{}/{transport}", self.port, self.guest_port)
    }
}

impl TryFrom<String> for Publish {
    type Error = Error;

    fn try_from(text: String) -> Result<Publish> {
        text.parse()
    }
}

impl From<Publish> for String {
    fn from(publish: Publish) -> String {
        publish.to_string()
    }
}
