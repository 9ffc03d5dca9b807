//! Namespaces of networks, network_namespaces(7): interfaces and ways, ports, names of Unix sockets that are no files, numbers of netlink. A
//! socket stays in that in which it was made.

use super::inet::Inet;
use super::netlink::Numbers;
use super::unix::Abstracts;
use crate::host::Network;
use crate::task::Task;
use crate::task::spaces::{FIRST_NET, Space};
use alloc::sync::Arc;

/// A namespace of networks.
pub type NetSpace = Space<Net>;

/// What is apart in each.
pub struct Net {
    /// Ports and interfaces.
    pub inet: Inet,
    /// Unix sockets by names that are no files.
    pub abstracts: Abstracts,
    /// Who has which number of netlink.
    pub netlink: Numbers,
    /// The network that the placement stands in, where sockets are that one's. Only the first namespace may have it.
    pub outside: Option<Arc<dyn Network>>,
}

impl Net {
    /// The first, whose loopback interface is up.
    pub fn first(outside: Option<Arc<dyn Network>>) -> Self {
        let net = Net { outside, ..Net::new() };
        // Nothing can be in the way: there is such an interface, and it is ours.
        let _ = net.inet.interfaces.set_up(super::inet::interfaces::LOOPBACK, true);
        net
    }

    /// A new one: its loopback interface is down, and has no address.
    pub fn new() -> Self {
        Net { inet: Inet::default(), abstracts: Abstracts::default(), netlink: Numbers::default(), outside: None }
    }
}

impl Default for Net {
    fn default() -> Self {
        Net::new()
    }
}

impl NetSpace {
    /// Whether a task may do in it what takes this capability.
    pub fn grants(&self, task: &Task, capability: u32) -> bool {
        task.credentials().has_in(&self.owner, capability)
    }

    /// By which it is told apart for ever (`SO_NETNS_COOKIE`): the first has 1.
    pub fn cookie(&self) -> u64 {
        if self.number == FIRST_NET { 1 } else { self.number }
    }
}
