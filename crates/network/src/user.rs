//! A network without privilege: a card in the container's namespace whose other end is a process of ours, which has ordinary sockets in the
//! host's network.

use crate::attendant::{Call, Service, any, is};
use crate::error::{Error, Result};
use crate::links;
use crate::namespace::{self, Namespace};
use crate::netlink::Netlink;
use insula_seccomp::Sysno;
use insula_spec::seccomp::Condition;
use insula_sys::{Errno, tap};
use insula_usernet::{Config, Network};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// The container's and the gateway's address in the prefix that the network tells of; fixed, so that the program needn't wait for it.
const ADDRESS6: Ipv6Addr = Ipv6Addr::new(0xfd69, 0x6e73, 0x756c, 0, 0, 0, 0, 15);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd69, 0x6e73, 0x756c, 0, 0, 0, 0, 2);

const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
const STREAM: u64 = 1;
const DATAGRAM: u64 = 2;
const ICMP: u64 = 1;
const ICMPV6: u64 = 58;
/// `SOCK_CLOEXEC`, `SOCK_NONBLOCK`.
const FLAGS: u64 = 0o2_000_000 | 0o4_000;
const TUNSETOFFLOAD: u64 = 0x4004_54d0;

const fn socket(family: u64, kind: u64, protocol: u64) -> [Condition; 3] {
    [is(0, family), is(1, kind | FLAGS), is(2, protocol)]
}

/// A socket option by its level and name.
const fn option(level: u64, name: u64) -> [Condition; 2] {
    [is(1, level), is(2, name)]
}

/// A card's other end, and what it leads to.
#[derive(Debug)]
pub(crate) struct Gateway {
    tap: OwnedFd,
    config: Config,
}

/// Makes such a card in the network namespace that this thread is in, with addresses; gives its other end.
pub(crate) fn make_card(config: &Config) -> Result<OwnedFd> {
    let tap = tap::open(links::CARD, false).map_err(|error| match error.errno {
        Errno::ACCESS => {
            Error::Failed(format!("--network user: {error}; as root: chmod 666 /dev/net/tun, as most hosts have it"))
        }
        Errno::NOENT | Errno::NODEV | Errno::NXIO => Error::Failed(format!("--network user: {error}; as root: modprobe tun")),
        _ => error.into(),
    })?;
    let mut addresses = vec![(IpAddr::from(config.subnet.guest()), config.subnet.prefix())];
    let mut gateways = vec![IpAddr::from(config.subnet.gateway())];
    if Path::new("/proc/sys/net/ipv6").exists() {
        addresses.push((ADDRESS6.into(), 64));
        gateways.push(GATEWAY6.into());
    }
    links::set_card(&mut Netlink::open()?, &addresses, &gateways, Some(config.mtu.into()))?;
    Ok(tap)
}

impl Gateway {
    /// What serves this card.
    pub(crate) fn new(tap: OwnedFd, config: Config) -> Gateway {
        Gateway { tap, config }
    }

    /// Makes a namespace with such a card.
    pub(crate) fn make(config: Config) -> Result<(OwnedFd, Gateway)> {
        let wanted = config.clone();
        let Namespace { file, opened: tap, .. } = namespace::make(move || make_card(&wanted))?.wait()?;
        Ok((file, Gateway::new(tap, config)))
    }
}

/// The addresses that every such container has.
pub(crate) fn addresses() -> Vec<IpAddr> {
    vec![Config::default().subnet.guest().into(), ADDRESS6.into()]
}

impl Service for Gateway {
    const NAME: &'static str = "the network";

    const CALLS: &'static [Call] = &[
        any(Sysno::poll),
        any(Sysno::ppoll),
        any(Sysno::epoll_wait),
        any(Sysno::epoll_pwait),
        any(Sysno::epoll_ctl),
        any(Sysno::timerfd_settime),
        // Frames, and what is in connections.
        any(Sysno::read),
        any(Sysno::readv),
        any(Sysno::writev),
        any(Sysno::recvfrom),
        any(Sysno::sendto),
        Call(Sysno::ioctl, &[is(1, TUNSETOFFLOAD)]),
        any(Sysno::accept4),
        any(Sysno::connect),
        any(Sysno::shutdown),
        Call(Sysno::socket, &socket(AF_INET, STREAM, 0)),
        Call(Sysno::socket, &socket(AF_INET6, STREAM, 0)),
        Call(Sysno::socket, &socket(AF_INET, DATAGRAM, 0)),
        Call(Sysno::socket, &socket(AF_INET6, DATAGRAM, 0)),
        Call(Sysno::socket, &socket(AF_INET, DATAGRAM, ICMP)),
        Call(Sysno::socket, &socket(AF_INET6, DATAGRAM, ICMPV6)),
        // SO_ERROR; TCP_NODELAY, SO_KEEPALIVE, SO_OOBINLINE, SO_LINGER.
        Call(Sysno::getsockopt, &option(1, 4)),
        Call(Sysno::setsockopt, &option(6, 1)),
        Call(Sysno::setsockopt, &option(1, 9)),
        Call(Sysno::setsockopt, &option(1, 10)),
        Call(Sysno::setsockopt, &option(1, 13)),
    ];

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.tap.as_fd()]
    }

    fn root(&self) -> Option<PathBuf> {
        // It may open no file.
        None
    }

    fn prepare(self, end: OwnedFd) -> Result<Box<dyn FnOnce()>> {
        let mut network = Network::new(&self.config)?;
        Ok(Box::new(move || {
            if let Err(error) = insula_usernet::tap::carry(&mut network, &self.tap, &end) {
                // Standard error is the caller's still: without a word, a program would wonder why nobody answers.
                let _ = rustix::io::write(rustix::stdio::stderr(), format!("insula: the network: {error}\n").as_bytes());
            }
        }))
    }
}
