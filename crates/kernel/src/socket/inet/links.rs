//! Interfaces that programs make, veth(4) and dummies, and ways from one network of a sandbox to another.
//!
//! As everywhere within a sandbox nothing is a packet: a way is followed over pairs of interfaces until a network has the address, and a socket
//! there is given what is sent. So a connection, once it stands, holds also if the way is gone.

use super::interfaces::{Interface, Interfaces, LOOPBACK, flags, network};
use crate::host::Entropy;
use crate::socket::NetSpace;
use crate::sync::Mutex;
use crate::{Errno, Result};
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::net::IpAddr;
use core::sync::atomic::Ordering;

/// Most interfaces of one network.
const INTERFACES_MAX: usize = 1024;

/// The longest name (`IFNAMSIZ`, less the zero at the end).
const NAME_MAX: usize = 15;

/// `ARPHRD_ETHER`.
const ETHERNET: u16 = 1;

/// Most networks on a way.
const HOPS_MAX: u32 = 16;

/// What an interface leads to.
#[derive(Clone)]
pub enum Link {
    /// Where it always led: it can't be taken away.
    Fixed,
    /// Nowhere.
    Dummy,
    /// To the other interface of a pair; which of the two it is.
    Pair(Arc<Cable>, usize),
}

impl core::fmt::Debug for Link {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.kind().unwrap_or("fixed"))
    }
}

impl Link {
    /// What `IFLA_INFO_KIND` calls it.
    pub fn kind(&self) -> Option<&'static str> {
        match self {
            Link::Fixed => None,
            Link::Dummy => Some("dummy"),
            Link::Pair(..) => Some("veth"),
        }
    }
}

/// What two interfaces of a pair have in common: where each is, and whether it is up.
#[derive(Default)]
pub struct Cable(Mutex<[End; 2]>);

#[derive(Clone, Default)]
struct End {
    net: Weak<NetSpace>,
    index: u32,
    up: bool,
}

impl Cable {
    /// Where the interface at the other end is.
    pub fn other(&self, side: usize) -> Option<(Arc<NetSpace>, u32)> {
        let end = self.0.lock()[1 - side].clone();
        Some((end.net.upgrade()?, end.index))
    }

    fn set(&self, side: usize, net: &Arc<NetSpace>, index: u32) {
        self.0.lock()[side] = End { net: Arc::downgrade(net), index, up: false };
        self.tell();
    }

    fn set_up(&self, side: usize, up: bool) {
        self.0.lock()[side].up = up;
        self.tell();
    }

    /// Both ends learn whether there is somebody at the other.
    fn tell(&self) {
        let ends = self.0.lock().clone();
        let carrier = ends.iter().all(|end| end.up);
        for end in ends {
            if let Some(net) = end.net.upgrade() {
                let _ = net.holds.inet.interfaces.change(end.index, |one| {
                    let on = flags::RUNNING | flags::LOWER_UP;
                    one.flags = if carrier { one.flags | on } else { one.flags & !on };
                    Ok(())
                });
            }
        }
    }

    /// One end is gone, and the other with it.
    pub(super) fn cut(&self, side: usize) {
        let end = core::mem::take(&mut self.0.lock()[1 - side]);
        if let Some(net) = end.net.upgrade() {
            net.holds.inet.interfaces.take(end.index);
        }
    }
}

/// Whether an interface can have this name.
///
/// # Errors
/// `EINVAL`.
fn check_name(name: &[u8]) -> Result<()> {
    let odd = |byte: &u8| *byte == b'/' || *byte == b':' || byte.is_ascii_whitespace();
    let fits = (1..=NAME_MAX).contains(&name.len()) && name != b"." && name != b".." && !name.iter().any(odd);
    if fits { Ok(()) } else { Err(Errno::EINVAL) }
}

/// A new interface, as it is to be.
pub struct New<'a> {
    /// Where.
    pub net: &'a Arc<NetSpace>,
    /// Its name; none: one that is free.
    pub name: Option<&'a [u8]>,
    /// Its address in its own medium; none: by chance.
    pub mac: Option<[u8; 6]>,
}

impl New<'_> {
    fn make(&self, entropy: &dyn Entropy, link: Link) -> Result<u32> {
        let mut mac = self.mac.unwrap_or_default();
        if self.mac.is_none() {
            entropy.fill(&mut mac);
            // Of our own making, and of one.
            mac[0] = mac[0] & 0xfc | 2;
        }
        let interfaces = &self.net.holds.inet.interfaces;
        let kind = link.kind().unwrap_or_default();
        let free = || (0u32..).map(|number| format!("{kind}{number}").into_bytes()).find(|name| interfaces.named(name).is_none());
        let name = self.name.map(<[u8]>::to_vec).or_else(free).ok_or(Errno::EEXIST)?;
        check_name(&name)?;
        let arp = if matches!(link, Link::Dummy) { 0x80 } else { flags::MULTICAST };
        let (mtu, queue, addresses) = (1500, 1000, Vec::new());
        interfaces.put(Interface {
            index: 0,
            name,
            flags: flags::BROADCAST | arp,
            mtu,
            queue,
            hardware: ETHERNET,
            mac,
            addresses,
            link,
        })
    }
}

/// Makes a pair; answers the number of the first.
///
/// # Errors
/// `EEXIST`: a name is taken. `EINVAL`: it is none. `EPERM`: the network isn't the kernel's own. `ENOSPC`.
pub fn make_pair(entropy: &dyn Entropy, ends: [&New<'_>; 2]) -> Result<u32> {
    let cable = Arc::new(Cable::default());
    let first = ends[0].make(entropy, Link::Pair(cable.clone(), 0))?;
    let second = ends[1].make(entropy, Link::Pair(cable.clone(), 1));
    match second {
        Ok(second) => {
            cable.set(0, ends[0].net, first);
            cable.set(1, ends[1].net, second);
        }
        Err(_) => drop(ends[0].net.holds.inet.interfaces.take(first)),
    }
    second.map(|_| first)
}

/// Makes an interface that leads nowhere; answers its number.
///
/// # Errors
/// As [`make_pair`].
pub fn make_dummy(entropy: &dyn Entropy, new: &New<'_>) -> Result<u32> {
    new.make(entropy, Link::Dummy)
}

/// Takes an interface away; one of a pair with the other.
///
/// # Errors
/// `EOPNOTSUPP`: it was always there.
pub fn remove(net: &NetSpace, found: &Interface) -> Result<()> {
    if matches!(found.link, Link::Fixed) {
        return Err(Errno::EOPNOTSUPP);
    }
    if let Some(Interface { link: Link::Pair(cable, side), .. }) = net.holds.inet.interfaces.take(found.index) {
        cable.cut(side);
    }
    Ok(())
}

/// Switches an interface on or off.
///
/// # Errors
/// `ENODEV`. `EPERM`: it isn't the kernel's own.
pub fn set_up(net: &NetSpace, found: &Interface, up: bool) -> Result<()> {
    net.holds.inet.interfaces.set_up(found.index, up)?;
    match &found.link {
        Link::Pair(cable, side) => cable.set_up(*side, up),
        // It takes all that is sent, so to speak.
        Link::Dummy => net.holds.inet.interfaces.change(found.index, |one| {
            let on = flags::RUNNING | flags::LOWER_UP;
            one.flags = if up { one.flags | on } else { one.flags & !on };
            Ok(())
        })?,
        Link::Fixed => {}
    }
    Ok(())
}

/// Moves an interface to another network, where it is down and has no addresses.
///
/// # Errors
/// `EINVAL`: it was always here. `EEXIST`: its name is taken there.
pub fn shift(from: &NetSpace, to: &Arc<NetSpace>, found: &Interface) -> Result<u32> {
    if matches!(found.link, Link::Fixed) || found.index == LOOPBACK {
        return Err(Errno::EINVAL);
    }
    if to.holds.inet.interfaces.named(&found.name).is_some() {
        return Err(Errno::EEXIST);
    }
    let down = found.flags & !(flags::UP | flags::RUNNING | flags::LOWER_UP);
    let index = to.holds.inet.interfaces.put(Interface { flags: down, addresses: Vec::new(), ..found.clone() })?;
    from.holds.inet.interfaces.take(found.index);
    if let Link::Pair(cable, side) = &found.link {
        cable.set(*side, to, index);
    }
    Ok(index)
}

impl Interfaces {
    /// One more: with its number, if that is free, or another. Answers which.
    fn put(&self, mut new: Interface) -> Result<u32> {
        self.add(|all| {
            if all.iter().any(|one| one.name == new.name) {
                return Err(Errno::EEXIST);
            }
            if all.len() >= INTERFACES_MAX {
                return Err(Errno::ENOSPC);
            }
            if new.index == 0 || all.iter().any(|one| one.index == new.index) {
                new.index = all.iter().map(|one| one.index).max().unwrap_or(0) + 1;
            }
            let index = new.index;
            all.push(new);
            Ok(index)
        })
    }

    /// Gives an interface another name.
    ///
    /// # Errors
    /// `EINVAL`, `EEXIST`, `ENODEV`, `EPERM`.
    pub fn rename(&self, index: u32, name: &[u8]) -> Result<()> {
        check_name(name)?;
        match self.named(name) {
            Some(other) if other.index != index => Err(Errno::EEXIST),
            _ => self.change(index, |one| {
                one.name = name.to_vec();
                Ok(())
            }),
        }
    }

    /// Over which interface the way to an address goes on, to which neighbour, and from which address of ours.
    fn next(&self, to: IpAddr) -> Option<(Interface, IpAddr, IpAddr)> {
        let all = self.all();
        let same =
            |own: IpAddr, prefix: u8, to: IpAddr| own.is_ipv4() == to.is_ipv4() && network(own, prefix) == network(to, prefix);
        let up = || all.iter().filter(|one| one.is_up() && one.index != LOOPBACK);
        let near = up().flat_map(|one| one.addresses.iter().map(move |(own, prefix)| (one, *own, *prefix)));
        let near =
            near.filter(|(_, own, prefix)| same(*own, *prefix, to)).map(|(one, own, prefix)| ((prefix, u32::MAX), one, to, own));
        let far = self.gateways().into_iter().filter(|way| same(way.to, way.prefix, to)).filter_map(|way| {
            let one = up().find(|one| one.index == way.interface)?;
            let via = way.through.unwrap_or(to);
            let own = one.addresses.iter().filter(|(own, _)| own.is_ipv4() == to.is_ipv4());
            let (own, _) = own.max_by_key(|(own, prefix)| same(*own, *prefix, via))?;
            Some(((way.prefix, !way.metric), one, via, *own))
        });
        let (_, one, via, own) = near.chain(far).max_by_key(|(worth, ..)| *worth)?;
        Some((one.clone(), via, own))
    }
}

/// Where something goes.
pub struct Way {
    /// The network that has the address.
    pub net: Arc<NetSpace>,
    /// The address of ours that it comes from, if nothing else is said.
    pub source: IpAddr,
}

impl NetSpace {
    /// The way to an address.
    ///
    /// # Errors
    /// `ENETUNREACH`: none is known. `EHOSTUNREACH`: nobody on it answers.
    pub fn way(self: &Arc<Self>, to: IpAddr) -> Result<Way> {
        let mut here = self.clone();
        if here.holds.inet.interfaces.is_local(to) {
            return Ok(Way { source: here.holds.inet.interfaces.source_for(to), net: here });
        }
        let mut source = None;
        for _ in 0..HOPS_MAX {
            let unreachable = if source.is_none() { Errno::ENETUNREACH } else { Errno::EHOSTUNREACH };
            let (over, via, own) = here.holds.inet.interfaces.next(to).ok_or(unreachable)?;
            let source = *source.get_or_insert(own);
            let Link::Pair(cable, side) = &over.link else { return Err(Errno::EHOSTUNREACH) };
            let (there, _) = cable.other(*side).filter(|_| over.has_carrier()).ok_or(Errno::EHOSTUNREACH)?;
            let inet = &there.holds.inet;
            if inet.interfaces.is_local(via) && inet.interfaces.is_local(to) {
                return Ok(Way { net: there, source });
            }
            if !inet.interfaces.is_local(via) || !to.is_ipv4() || !inet.forwards.load(Ordering::Relaxed) {
                return Err(Errno::EHOSTUNREACH);
            }
            here = there;
        }
        Err(Errno::EHOSTUNREACH)
    }
}
