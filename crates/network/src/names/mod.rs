//! Names of containers, and of everything else: each container of a bridge network has a resolver of its own, in the process that attends it.
//!
//! ```text
//! container ──question──> resolver ──┬── containers of the network, localhost: the record of leases, read again when it has changed
//!    10.83.0.5             10.83.4.5 └── all else: the host's resolvers
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`message`] | questions and answers as bytes |
//! | [`directory`] | who has which name |
//! | [`server`] | datagrams |
//! | [`stream`] | the same by TCP, for answers that are too long |

mod directory;
mod message;
mod server;
mod stream;

pub(crate) use server::Resolver;

use std::net::Ipv4Addr;

/// What a container has as `/etc/resolv.conf`: the host's, with the container's resolver. A name without a dot is looked for as it is first, as
/// containers' names are such.
pub(crate) fn resolv_conf(hosts: &str, resolver: Ipv4Addr) -> String {
    let mut text = format!("nameserver {resolver}\n");
    let kept = |line: &&str| ["search", "domain", "options"].contains(&line.split_whitespace().next().unwrap_or_default());
    for line in hosts.lines().map(str::trim).filter(kept) {
        text.extend([line, "\n"]);
    }
    if !text.contains("ndots:") {
        text += "options ndots:0\n";
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_hosts_search_list_is_kept() {
        let text = super::resolv_conf("# c\nnameserver 192.0.2.1\nsearch example.org\n", "10.83.4.5".parse().unwrap());
        assert_eq!(text, "nameserver 10.83.4.5\nsearch example.org\noptions ndots:0\n");
        let text = super::resolv_conf("options ndots:3 edns0\n", "10.83.4.5".parse().unwrap());
        assert_eq!(text, "nameserver 10.83.4.5\noptions ndots:3 edns0\n");
    }
}
