//! The host's packet filter: what leaves a bridge network bears the host's address, and published ports lead into it.
//!
//! Each network has a table of its own, named after its bridge. Its rules never change; published ports are in maps, which follow from what is on
//! record and are replaced whole, at once (nft(8): what is read from one file is one transaction). A table that changed with each container would
//! let packets of the others pass untranslated for a moment, and a connection that has begun so goes on so.

use crate::addresses::{PREFIX, PREFIX6, Subnet};
use crate::error::{Error, Result};
use crate::state::Lease;
use insula_sys::error::{Context, describe};
use insula_usernet::{Publish, Transport};
use rustix::io::Errno;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Where resolvers listen on the host's side: a port that no other server of names has, at addresses that nobody else has.
pub(crate) const RESOLVER_PORT: u16 = 8353;

/// The program that sets the rules; root's, so it may not be along a user's path.
pub(crate) fn program() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let found = places
        .map(|place| place.join("nft"))
        .find(|file| file.is_absolute() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file());
    found.ok_or_else(|| {
        Error::Failed("--network bridge takes the program nft, which isn't here; install nftables, or use --network user".into())
    })
}

/// Makes the table of a network, in place of one that may be there.
pub(crate) fn set_up(net: Subnet, ipv6: bool, leases: &[Lease]) -> Result<()> {
    let (name, table) = (net.bridge(), table(net, ipv6));
    // A table can only be removed if it is there; so it is made before.
    run(&format!("table inet {name}\ndelete table inet {name}\n{table}{}", Maps::new(net, ipv6, leases).elements(&name)))
}

/// Publishes the ports that these leases have, and no others.
pub(crate) fn publish(net: Subnet, ipv6: bool, leases: &[Lease]) -> Result<()> {
    // It fails where somebody has removed the table (`nft flush ruleset`): then it is made anew.
    run(&Maps::new(net, ipv6, leases).elements(&net.bridge())).or_else(|_| set_up(net, ipv6, leases))
}

/// Removes the table of a network; one that isn't there is no error.
pub(crate) fn remove(net: Subnet) -> Result<()> {
    let name = net.bridge();
    run(&format!("table inet {name}\ndelete table inet {name}\n"))
}

fn run(text: &str) -> Result<()> {
    let program = program()?;
    let mut command = Command::new(&program);
    command.args(["-f", "-"]).env_clear().stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    // An exec'd program has our mask of signals, and it isn't for whoever attends a terminal to be told of its end.
    let mut child = insula_sys::child::tie(&mut command).spawn().on("run", program.display())?;
    if let Some(mut input) = child.stdin.take() {
        // If it has ended already, why is what it says.
        let _ = input.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().on("wait for", program.display())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
    Err(Error::Failed(format!("can't set the rules of the network: {} failed: {}", program.display(), line.trim())))
}

/// The table in nft's words.
fn table(net: Subnet, ipv6: bool) -> String {
    let bridge = net.bridge();
    let (base, base6) = (net.base(), net.base6());
    let (resolvers, prefix) = net.resolvers();
    let six = |line: &str| if ipv6 { format!("{line}\n") } else { String::new() };
    let mut text = format!("table inet {bridge} {{\n{}", declared());
    let _ = write!(
        text,
        "chain published {{
{}}}
chain prerouting {{
type nat hook prerouting priority -100; policy accept;
ip daddr 127.0.0.0/8 return
iifname {bridge} ip daddr {resolvers}/{prefix} meta l4proto {{ tcp, udp }} th dport 53 dnat to :{RESOLVER_PORT}
fib daddr type local jump published
}}
chain output {{
type nat hook output priority -100; policy accept;
ip6 daddr ::1 return
fib daddr type local jump published
}}
chain postrouting {{
type nat hook postrouting priority 100; policy accept;
oifname != {bridge} ip saddr {base}/{PREFIX} masquerade
oifname {bridge} ip saddr 127.0.0.0/8 masquerade
oifname {bridge} ct status dnat ip saddr {base}/{PREFIX} masquerade
",
        looked_up()
    );
    text += &six(&format!("oifname != {bridge} ip6 saddr {base6}/{PREFIX6} masquerade"));
    text += &six(&format!("oifname {bridge} ct status dnat ip6 saddr {base6}/{PREFIX6} masquerade"));
    // From outside come answers, and what goes to a published port. No container may use what was opened for the host's own loopback: packets that
    // come by the bridge for addresses of it are routed, for the answers' sake.
    let _ = write!(
        text,
        "}}
chain forward {{
type filter hook forward priority 0; policy accept;
oifname {bridge} iifname != {bridge} ct state established,related accept
oifname {bridge} iifname != {bridge} ct status dnat accept
oifname {bridge} iifname != {bridge} drop
}}
chain guard {{
type filter hook prerouting priority -300; policy accept;
iifname {bridge} ip daddr 127.0.0.0/8 drop
}}
}}
"
    );
    text
}

/// Published ports: by address, protocol and port; or by the latter two, at all addresses.
#[derive(Default)]
struct Maps {
    at4: Vec<String>,
    at6: Vec<String>,
    any4: Vec<String>,
    any6: Vec<String>,
}

impl Maps {
    fn new(net: Subnet, ipv6: bool, leases: &[Lease]) -> Maps {
        let mut maps = Maps::default();
        for lease in leases {
            let Some(number) = lease.number else { continue };
            for publish in &lease.publish {
                let Publish { address, port, guest_port, transport } = publish;
                let transport = if *transport == Transport::Tcp { "tcp" } else { "udp" };
                let to4 = format!("{} . {guest_port}", net.container(number));
                let to6 = format!("{} . {guest_port}", net.container6(number));
                match address {
                    Some(IpAddr::V4(at)) if *at != Ipv4Addr::UNSPECIFIED => {
                        maps.at4.push(format!("{at} . {transport} . {port} : {to4}"));
                    }
                    Some(IpAddr::V6(at)) if *at != Ipv6Addr::UNSPECIFIED => {
                        maps.at6.push(format!("{at} . {transport} . {port} : {to6}"));
                    }
                    _ => {
                        if !matches!(address, Some(IpAddr::V6(_))) {
                            maps.any4.push(format!("{transport} . {port} : {to4}"));
                        }
                        if !matches!(address, Some(IpAddr::V4(_))) && ipv6 {
                            maps.any6.push(format!("{transport} . {port} : {to6}"));
                        }
                    }
                }
            }
        }
        maps
    }

    /// What makes the maps what they are to be.
    fn elements(&self, table: &str) -> String {
        let mut text = String::new();
        for ((name, ..), elements) in MAPS.iter().zip([&self.at4, &self.at6, &self.any4, &self.any6]) {
            let _ = writeln!(text, "flush map inet {table} {name}");
            if !elements.is_empty() {
                let _ = writeln!(text, "add element inet {table} {name} {{ {} }}", elements.join(", "));
            }
        }
        text
    }
}

/// Maps: the name, the key's type and expression, and the family.
const MAPS: [(&str, &str, &str, &str); 4] = [
    ("at4", "ipv4_addr . inet_proto . inet_service", "ip daddr . meta l4proto . th dport", "ip"),
    ("at6", "ipv6_addr . inet_proto . inet_service", "ip6 daddr . meta l4proto . th dport", "ip6"),
    ("any4", "inet_proto . inet_service", "meta l4proto . th dport", "ip"),
    ("any6", "inet_proto . inet_service", "meta l4proto . th dport", "ip6"),
];

fn declared() -> String {
    let declare = |(name, key, _, family): &(&str, &str, &str, &str)| {
        let address = if *family == "ip" { "ipv4_addr" } else { "ipv6_addr" };
        format!("map {name} {{\ntype {key} : {address} . inet_service\n}}\n")
    };
    MAPS.iter().map(declare).collect()
}

fn looked_up() -> String {
    let look = |(name, _, key, family): &(&str, &str, &str, &str)| {
        let kind = if *family == "ip" { "ipv4" } else { "ipv6" };
        format!("meta nfproto {kind} dnat {family} to {key} map @{name}\n")
    };
    MAPS.iter().map(look).collect()
}

/// Why a port can't be published on a bridge network, if it can't.
pub(crate) fn refused(publish: &Publish) -> Option<String> {
    match publish.address {
        Some(IpAddr::V6(address)) if address.is_loopback() => Some(format!(
            "-p {publish}: the host's kernel can't lead {address} to a bridge; publish at 127.0.0.1, or use --network user"
        )),
        _ => None,
    }
}

/// Whether the packet filter works: sets and removes a table like a network's.
pub(crate) fn try_out() -> Result<()> {
    let net = Subnet(crate::addresses::NETWORKS - 1);
    set_up(net, true, &[])?;
    remove(net)
}

/// The words for what the host says when a port is taken.
pub(crate) fn cant_publish(publish: &Publish, errno: Errno) -> Error {
    let why = match errno {
        Errno::ADDRNOTAVAIL => "the host has no such address".to_owned(),
        errno => describe(errno),
    };
    Error::Failed(format!("-p {publish}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Process;

    fn lease(number: Option<u16>, publish: &[&str]) -> Lease {
        let publish = publish.iter().map(|text| text.parse().unwrap()).collect();
        Lease { id: "web".into(), hostname: None, number, publish, owner: Process { pid: 1, started: 1 }, attendant: None }
    }

    #[test]
    fn ports_are_published_where_it_is_said() {
        let leases = [
            lease(Some(5), &["8080:80", "127.0.0.1:8081:81/udp", "[2001:db8::1]:8082:82"]),
            lease(Some(6), &["0.0.0.0:8083:83", "[::]:8084:84"]),
            lease(None, &["8085:85"]),
        ];
        let maps = Maps::new(Subnet(0), true, &leases);
        assert_eq!(maps.any4, ["tcp . 8080 : 10.83.0.5 . 80", "tcp . 8083 : 10.83.0.6 . 83"]);
        assert_eq!(maps.any6, ["tcp . 8080 : fd69:6e73:756c:1::5 . 80", "tcp . 8084 : fd69:6e73:756c:1::6 . 84"]);
        assert_eq!(maps.at4, ["127.0.0.1 . udp . 8081 : 10.83.0.5 . 81"]);
        assert_eq!(maps.at6, ["2001:db8::1 . tcp . 8082 : fd69:6e73:756c:1::5 . 82"]);
        let text = maps.elements("insula0");
        assert!(
            text.contains("flush map inet insula0 any4\nadd element inet insula0 any4 { tcp . 8080 : 10.83.0.5 . 80, "),
            "{text}"
        );
        assert!(table(Subnet(0), true).contains("dnat ip to meta l4proto . th dport map @any4"));
    }

    #[test]
    fn without_ipv6_there_is_none() {
        let text = table(Subnet(0), false);
        assert!(!text.contains("ip6 saddr"), "{text}");
        let maps = Maps::new(Subnet(0), false, &[lease(Some(5), &["8080:80"])]);
        assert_eq!((maps.any4.len(), maps.any6.len()), (1, 0));
    }

    #[test]
    fn the_loopback_of_ipv6_is_refused() {
        assert!(refused(&"[::1]:80:80".parse().unwrap()).is_some_and(|line| line.contains("-p [::1]:80:80/tcp")));
        assert!(refused(&"127.0.0.1:80:80".parse().unwrap()).is_none() && refused(&"80:80".parse().unwrap()).is_none());
    }
}
