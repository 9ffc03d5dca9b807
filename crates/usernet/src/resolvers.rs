//! Whom the host asks for names: resolv.conf(5). The guest asks the gateway, and the gateway asks them, so resolvers on the host's loopback
//! device (systemd-resolved's 127.0.0.53) do as well as others.

use crate::reach::DNS;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// More aren't asked, as the C library doesn't (MAXNS).
const MOST: usize = 3;
/// A file that is longer is none.
const LONGEST: u64 = 64 << 10;

/// The resolvers of the host.
#[derive(Debug)]
pub(crate) struct Resolvers {
    path: PathBuf,
    /// The file when it was read last.
    stamp: Option<(SystemTime, u64)>,
    servers: Vec<SocketAddr>,
    /// The one to ask: it moves on when one doesn't answer.
    preferred: usize,
}

impl Resolvers {
    pub(crate) fn new(path: &Path) -> Resolvers {
        Resolvers { path: path.to_owned(), stamp: None, servers: Vec::new(), preferred: 0 }
    }

    /// The one to ask now. The host may have moved to another network meanwhile.
    pub(crate) fn server(&mut self) -> Option<SocketAddr> {
        let stamp = std::fs::metadata(&self.path).ok().and_then(|meta| Some((meta.modified().ok()?, meta.len())));
        if stamp != self.stamp || self.servers.is_empty() {
            self.stamp = stamp;
            let short = stamp.is_some_and(|(_, length)| length <= LONGEST);
            let text = if short { std::fs::read_to_string(&self.path).unwrap_or_default() } else { String::new() };
            self.servers = parse(&text);
            self.preferred = 0;
        }
        self.servers.get(self.preferred % self.servers.len().max(1)).copied()
    }

    /// This one doesn't answer: the next is asked from now on.
    pub(crate) fn silent(&mut self, server: SocketAddr) {
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
    fn one_that_is_silent_is_followed_by_the_next_and_a_new_file_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "nameserver 192.0.2.1\nnameserver 192.0.2.2\n").unwrap();
        let mut resolvers = Resolvers::new(file.path());
        let [first, second, third]: [SocketAddr; 3] =
            ["192.0.2.1:53", "192.0.2.2:53", "192.0.2.33:53"].map(|a| a.parse().unwrap());
        assert_eq!(resolvers.server(), Some(first));
        resolvers.silent(second);
        assert_eq!(resolvers.server(), Some(first), "it wasn't the one to blame");
        resolvers.silent(first);
        assert_eq!(resolvers.server(), Some(second));
        resolvers.silent(second);
        assert_eq!(resolvers.server(), Some(first));
        std::fs::write(&file, "nameserver 192.0.2.33\n").unwrap();
        assert_eq!(resolvers.server(), Some(third));
        std::fs::write(&file, "").unwrap();
        assert_eq!(resolvers.server(), None);
        resolvers.silent(first);
    }
}
