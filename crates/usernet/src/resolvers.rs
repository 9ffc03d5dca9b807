//! Whom the host asks for names: resolv.conf(5). The guest asks the gateway, and the gateway asks them, so resolvers on the host's loopback
//! device (systemd-resolved's 127.0.0.53) do as well as others.

use crate::reach::DNS;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::Path;

/// More aren't asked, as the C library doesn't (MAXNS).
const MOST: usize = 3;

/// The resolvers of the host.
#[derive(Clone, Debug)]
pub struct Resolvers {
    servers: Vec<SocketAddr>,
    /// The one to ask: it moves on when one doesn't answer.
    preferred: usize,
}

impl Resolvers {
    /// Reads the file, once: whoever speaks with a guest opens no files any more. A host that changes its resolvers as it moves has one on its
    /// loopback device, as a rule, that stays. Without a file there are none.
    pub fn new(path: &Path) -> Resolvers {
        Resolvers { servers: parse(&std::fs::read_to_string(path).unwrap_or_default()), preferred: 0 }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.servers.len()
    }

    /// The one to ask now.
    pub fn server(&self) -> Option<SocketAddr> {
        self.servers.get(self.preferred).copied()
    }

    /// This one doesn't answer: the next is asked from now on.
    pub fn silent(&mut self, server: SocketAddr) {
        if self.servers.get(self.preferred) == Some(&server) {
            self.preferred = (self.preferred + 1) % self.servers.len();
        }
    }
}

fn parse(text: &str) -> Vec<SocketAddr> {
    let words = text.lines().filter_map(|line| line.strip_prefix("nameserver")).map(str::trim);
    words.filter_map(address).take(MOST).collect()
}

/// An address; one of IPv6's on a cable names its device (`fe80::1%eth0`).
fn address(text: &str) -> Option<SocketAddr> {
    match text.split_once('%') {
        None => Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, DNS)),
        Some((address, device)) => {
            let index = std::fs::read_to_string(Path::new("/sys/class/net").join(device).join("ifindex")).ok()?;
            Some(SocketAddrV6::new(address.parse().ok()?, DNS, 0, index.trim().parse().ok()?).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_as_the_c_library_does() {
        let text = "# a comment\nsearch example.org\nnameserver 127.0.0.53\nnameserver\t::1 \nnameserver fe80::1%lo\nnameserver x\nnameserver 192.0.2.9\n";
        let scoped = SocketAddrV6::new("fe80::1".parse().unwrap(), 53, 0, 1).into();
        assert_eq!(parse(text), ["127.0.0.53:53".parse().unwrap(), "[::1]:53".parse().unwrap(), scoped]);
        assert_eq!(parse("nameserver fe80::1%no/such\n"), []);
    }

    #[test]
    fn one_that_is_silent_is_followed_by_the_next() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "nameserver 192.0.2.1\nnameserver 192.0.2.2\n").unwrap();
        let mut resolvers = Resolvers::new(file.path());
        let [first, second]: [SocketAddr; 2] = ["192.0.2.1:53", "192.0.2.2:53"].map(|address| address.parse().unwrap());
        assert_eq!(resolvers.server(), Some(first));
        resolvers.silent(second);
        assert_eq!(resolvers.server(), Some(first), "it wasn't the one to blame");
        resolvers.silent(first);
        assert_eq!(resolvers.server(), Some(second));
        resolvers.silent(second);
        assert_eq!(resolvers.server(), Some(first));
    }

    #[test]
    fn without_resolvers_there_are_none() {
        let mut resolvers = Resolvers::new(Path::new("/nonexistent"));
        resolvers.silent("192.0.2.1:53".parse().unwrap());
        assert_eq!(resolvers.server(), None);
    }
}
