//! Network interfaces and their addresses, netdevice(7).

use super::links::{self, Link};
use crate::mm::Mm;
use crate::socket::NetSpace;
use crate::sync::Mutex;
use crate::task::Task;
use crate::{Errno, Flow, Result, SysResult};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use insula_abi::general as c;
use insula_abi::{ioctl, net as n};

/// Most addresses of one interface.
const ADDRESSES_MAX: usize = 256;

/// The interface of what stays within the sandbox.
pub const LOOPBACK: u32 = 1;

#[allow(missing_docs)] // netdevice(7) describes each.
pub mod flags {
    pub const UP: u32 = 0x1;
    pub const BROADCAST: u32 = 0x2;
    pub const LOOPBACK: u32 = 0x8;
    pub const RUNNING: u32 = 0x40;
    pub const MULTICAST: u32 = 0x1000;
    pub const LOWER_UP: u32 = 0x1_0000;
}

/// `ARPHRD_LOOPBACK`.
pub const HARDWARE_LOOPBACK: u16 = 772;

/// A network interface.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: Vec<u8>,
    /// `IFF_*`.
    pub flags: u32,
    /// Bytes in a packet at most.
    pub mtu: u32,
    /// Packets that may wait.
    pub queue: u32,
    /// `ARPHRD_*`.
    pub hardware: u16,
    /// Its address in its own medium.
    pub mac: [u8; 6],
    /// Its addresses, each with the length of the prefix that its network has.
    pub addresses: Vec<(IpAddr, u8)>,
    /// What it leads to.
    pub link: Link,
}

/// A network that is reached otherwise than by having an address in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// The network.
    pub to: IpAddr,
    /// The length of its prefix; 0 is all there is.
    pub prefix: u8,
    /// Through whom; none: it is right there.
    pub through: Option<IpAddr>,
    /// The interface's number.
    pub interface: u32,
    /// Of several, that with the least is taken.
    pub metric: u32,
}

/// All of a sandbox.
pub struct Interfaces {
    all: Mutex<Vec<Interface>>,
    /// Whether the loopback addresses of IPv4 (1) and IPv6 (2) are there: asked of each datagram. And whether any address ever was (4).
    loops: AtomicU8,
    /// Ways that lead further.
    gateways: Mutex<Vec<Gateway>>,
    /// They are those of a network that isn't the kernel's own. Such can't be changed.
    outside: AtomicBool,
}

impl Default for Interfaces {
    fn default() -> Self {
        let loopback = Interface {
            index: LOOPBACK,
            name: b"lo".to_vec(),
            flags: flags::LOOPBACK,
            mtu: 65536,
            queue: 1000,
            hardware: HARDWARE_LOOPBACK,
            mac: [0; 6],
            addresses: Vec::new(),
            link: Link::Fixed,
        };
        Interfaces {
            all: Mutex::new(vec![loopback]),
            loops: AtomicU8::new(0),
            gateways: Mutex::default(),
            outside: AtomicBool::new(false),
        }
    }
}

impl Drop for Interfaces {
    /// Interfaces of pairs go on both sides.
    fn drop(&mut self) {
        let all = core::mem::take(&mut *self.all.lock());
        for interface in all {
            if let Link::Pair(cable, side) = interface.link {
                cable.cut(side);
            }
        }
    }
}

/// The mask of a prefix.
pub fn mask(prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0))
}

impl Interface {
    /// Switches it on or off. Loopback gets its own addresses so, and addresses of IPv6 go when it is switched off.
    fn set_up(&mut self, up: bool) {
        let loopback = self.flags & flags::LOOPBACK != 0;
        let all = flags::UP | if loopback { flags::RUNNING | flags::LOWER_UP } else { 0 };
        self.flags = if up { self.flags | all } else { self.flags & !all };
        if !up {
            self.addresses.retain(|(ip, _)| ip.is_ipv4());
        } else if loopback {
            let own = [(Ipv4Addr::LOCALHOST.into(), 8), (Ipv6Addr::LOCALHOST.into(), 128)];
            let has = |interface: &Interface, v4| interface.addresses.iter().any(|(ip, _)| ip.is_ipv4() == v4);
            own.into_iter().for_each(|(ip, prefix): (IpAddr, u8)| {
                if !has(self, ip.is_ipv4()) {
                    self.addresses.push((ip, prefix));
                }
            });
        }
    }

    /// Whether it is switched on.
    pub fn is_up(&self) -> bool {
        self.flags & flags::UP != 0
    }

    /// Whether there is somebody at the other end.
    pub fn has_carrier(&self) -> bool {
        self.flags & flags::LOWER_UP != 0
    }

    /// How it fares: `IF_OPER_*`, and the word for it. What needs no cable doesn't know.
    pub fn state(&self) -> (u8, &'static str) {
        match self.hardware {
            _ if !self.is_up() => (2, "down"),
            HARDWARE_LOOPBACK => (0, "unknown"),
            _ if self.has_carrier() => (6, "up"),
            _ => (3, "lowerlayerdown"),
        }
    }

    /// To which address of its medium what is for all goes.
    pub fn broadcast(&self) -> [u8; 6] {
        if self.hardware == HARDWARE_LOOPBACK { [0; 6] } else { [0xff; 6] }
    }

    /// Whether what goes to an address comes to it: of loopback's networks all do.
    fn takes(&self, ip: IpAddr) -> bool {
        let loopback = self.flags & flags::LOOPBACK != 0;
        let one = |(own, prefix): &(IpAddr, u8)| {
            *own == ip || loopback && ip.is_ipv4() && network(*own, *prefix) == network(ip, *prefix)
        };
        self.flags & flags::UP != 0 && self.addresses.iter().any(one)
    }
}

/// See `loops` in [`Interfaces`].
const EVER: u8 = 4;

/// See [`Interfaces`].
fn loops(all: &[Interface]) -> u8 {
    let own = |v4: bool| {
        let mut up = all.iter().filter(|interface| interface.flags & flags::UP != 0);
        up.any(|interface| interface.addresses.iter().any(|(ip, _)| ip.is_loopback() && ip.is_ipv4() == v4))
    };
    let ever = all.iter().any(|interface| !interface.addresses.is_empty());
    u8::from(own(true)) | u8::from(own(false)) << 1 | if ever { EVER } else { 0 }
}

/// The network that an address is in.
pub fn network(ip: IpAddr, prefix: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip) & u32::from(mask(prefix))).into(),
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            Ipv6Addr::from(u128::from(ip) & mask).into()
        }
    }
}

impl Interfaces {
    /// All of them.
    pub fn all(&self) -> Vec<Interface> {
        self.all.lock().clone()
    }

    /// They are these from now on, of a network that isn't the kernel's own.
    pub fn show(&self, interfaces: Vec<Interface>, gateways: Vec<Gateway>) {
        self.loops.store(loops(&interfaces), Ordering::Relaxed);
        *self.all.lock() = interfaces;
        *self.gateways.lock() = gateways;
        self.outside.store(true, Ordering::Relaxed);
    }

    /// Networks that are reached through neighbours.
    pub fn gateways(&self) -> Vec<Gateway> {
        self.gateways.lock().clone()
    }

    /// That of a name.
    pub fn named(&self, name: &[u8]) -> Option<Interface> {
        self.all.lock().iter().find(|interface| interface.name == name).cloned()
    }

    /// That of a number.
    pub fn numbered(&self, index: u32) -> Option<Interface> {
        self.all.lock().iter().find(|interface| interface.index == index).cloned()
    }

    /// Changes one.
    ///
    /// # Errors
    /// `ENODEV`: there is none of this number. `EPERM`: they aren't the kernel's own. What `change` says.
    pub fn change(&self, index: u32, change: impl FnOnce(&mut Interface) -> Result<()>) -> Result<()> {
        self.add(|all| change(all.iter_mut().find(|interface| interface.index == index).ok_or(Errno::ENODEV)?))
    }

    /// Changes all.
    pub(super) fn add<T>(&self, change: impl FnOnce(&mut Vec<Interface>) -> Result<T>) -> Result<T> {
        if self.outside.load(Ordering::Relaxed) {
            return Err(Errno::EPERM);
        }
        let mut all = self.all.lock();
        let outcome = change(&mut all);
        let ever = self.loops.load(Ordering::Relaxed) & EVER;
        self.loops.store(ever | loops(&all), Ordering::Relaxed);
        outcome
    }

    /// Takes one away, with the ways over it.
    pub(super) fn take(&self, index: u32) -> Option<Interface> {
        self.gateways.lock().retain(|way| way.interface != index);
        let taken = self.add(|all| Ok(all.iter().position(|one| one.index == index).map(|at| all.remove(at))));
        taken.ok().flatten()
    }

    /// A way more, or one less.
    ///
    /// # Errors
    /// What `change` says. `EPERM`: they aren't the kernel's own.
    pub fn change_gateways(&self, change: impl FnOnce(&mut Vec<Gateway>) -> Result<()>) -> Result<()> {
        if self.outside.load(Ordering::Relaxed) { Err(Errno::EPERM) } else { change(&mut self.gateways.lock()) }
    }

    /// Switches one on or off.
    ///
    /// # Errors
    /// Those of [`change`](Self::change).
    pub fn set_up(&self, index: u32, up: bool) -> Result<()> {
        self.change(index, |interface| {
            interface.set_up(up);
            Ok(())
        })?;
        if !up {
            self.gateways.lock().retain(|way| way.interface != index);
        }
        Ok(())
    }

    /// Gives one an address more.
    ///
    /// # Errors
    /// `ENODEV`. `EEXIST`: it has it. `ENOSPC`: it has too many.
    pub fn add_address(&self, index: u32, ip: IpAddr, prefix: u8) -> Result<()> {
        self.change(index, |interface| {
            if interface.addresses.iter().any(|(other, _)| *other == ip) {
                return Err(Errno::EEXIST);
            }
            if interface.addresses.len() >= ADDRESSES_MAX {
                return Err(Errno::ENOSPC);
            }
            interface.addresses.push((ip, prefix));
            Ok(())
        })
    }

    /// Takes an address from one.
    ///
    /// # Errors
    /// `ENODEV`. `EADDRNOTAVAIL`: it doesn't have it.
    pub fn remove_address(&self, index: u32, ip: IpAddr) -> Result<()> {
        self.change(index, |interface| {
            let before = interface.addresses.len();
            interface.addresses.retain(|(other, _)| *other != ip);
            if interface.addresses.len() < before { Ok(()) } else { Err(Errno::EADDRNOTAVAIL) }
        })
    }

    /// Whether what goes to an address comes here.
    pub fn is_local(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) if ip.is_loopback() => self.loops.load(Ordering::Relaxed) & 1 != 0,
            IpAddr::V6(ip) if ip.is_loopback() => self.loops.load(Ordering::Relaxed) & 2 != 0,
            ip => self.all.lock().iter().any(|interface| interface.takes(ip)),
        }
    }

    /// Whether a socket may have this name: one that leads here. Of IPv4, any, as long as no way leads anywhere (Linux has no table yet).
    pub fn may_bind(&self, ip: IpAddr) -> bool {
        self.is_local(ip) || ip.is_ipv4() && self.loops.load(Ordering::Relaxed) & EVER == 0
    }

    /// Whether anything can leave.
    pub fn any_up(&self) -> bool {
        self.all.lock().iter().any(|interface| interface.flags & flags::UP != 0)
    }

    /// From which address something goes to a local one.
    pub fn source_for(&self, to: IpAddr) -> IpAddr {
        match to {
            IpAddr::V4(ip) if ip.is_loopback() => Ipv4Addr::LOCALHOST.into(),
            to => to,
        }
    }
}

/// Bytes of `struct ifreq`.
const REQUEST: usize = 40;
const NAME: usize = 16;

fn socket_address(ip: Ipv4Addr) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&(n::AF_INET as u16).to_ne_bytes());
    bytes[4..8].copy_from_slice(&ip.octets());
    bytes
}

fn first_ipv4(interface: &Interface) -> Option<(Ipv4Addr, u8)> {
    interface.addresses.iter().find_map(|(ip, prefix)| match ip {
        IpAddr::V4(ip) => Some((*ip, *prefix)),
        IpAddr::V6(_) => None,
    })
}

/// ioctl(2) of interfaces, which every socket of these families takes.
///
/// # Errors
/// `ENOTTY`: it is none of these. `ENODEV`, `EADDRNOTAVAIL`, `EPERM`, `EFAULT`.
pub fn control(net: &NetSpace, task: &Arc<Task>, request: u32, argument: u64) -> SysResult {
    let (interfaces, mm) = (&net.holds.inet.interfaces, task.mm());
    match request {
        ioctl::SIOCGIFCONF => return list(interfaces, &mm, argument),
        ioctl::SIOCGIFNAME..=ioctl::SIOCSIFTXQLEN | ioctl::SIOCGIFMAP => {}
        _ => return Err(Errno::ENOTTY),
    }
    let mut bytes: [u8; REQUEST] = mm.get(argument)?;
    let word = |bytes: &[u8; REQUEST]| u32::from_ne_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]);
    if request == ioctl::SIOCGIFNAME {
        let found = interfaces.numbered(word(&bytes)).ok_or(Errno::ENODEV)?;
        bytes[..NAME].fill(0);
        bytes[..found.name.len()].copy_from_slice(&found.name);
        mm.put(argument, &bytes)?;
        return Ok(Flow::Done(0));
    }
    let name = bytes[..NAME].split(|byte| *byte == 0 || *byte == b':').next().unwrap_or_default().to_vec();
    if sets(request) && !net.grants(task, c::CAP_NET_ADMIN) {
        return Err(Errno::EPERM);
    }
    let found = interfaces.named(&name).ok_or(Errno::ENODEV)?;
    if sets(request) {
        return set(net, &found, request, &bytes).map(Flow::from);
    }
    let mut value = [0; REQUEST - NAME];
    match request {
        ioctl::SIOCGIFFLAGS => value[..2].copy_from_slice(&(found.flags as u16).to_ne_bytes()),
        ioctl::SIOCGIFINDEX => value[..4].copy_from_slice(&found.index.to_ne_bytes()),
        ioctl::SIOCGIFMTU => value[..4].copy_from_slice(&found.mtu.to_ne_bytes()),
        ioctl::SIOCGIFTXQLEN => value[..4].copy_from_slice(&found.queue.to_ne_bytes()),
        ioctl::SIOCGIFMETRIC | ioctl::SIOCGIFMAP => {}
        ioctl::SIOCGIFHWADDR => {
            value[..2].copy_from_slice(&found.hardware.to_ne_bytes());
            value[2..8].copy_from_slice(&found.mac);
        }
        ioctl::SIOCGIFADDR | ioctl::SIOCGIFDSTADDR | ioctl::SIOCGIFBRDADDR | ioctl::SIOCGIFNETMASK => {
            let (ip, prefix) = first_ipv4(&found).ok_or(Errno::EADDRNOTAVAIL)?;
            let ip = match request {
                ioctl::SIOCGIFNETMASK => mask(prefix),
                ioctl::SIOCGIFBRDADDR if found.flags & flags::LOOPBACK != 0 => Ipv4Addr::UNSPECIFIED,
                ioctl::SIOCGIFBRDADDR => Ipv4Addr::from(u32::from(ip) | !u32::from(mask(prefix))),
                _ => ip,
            };
            value[..16].copy_from_slice(&socket_address(ip));
        }
        _ => return Err(Errno::ENOTTY),
    }
    bytes[NAME..].copy_from_slice(&value);
    mm.put(argument, &bytes)?;
    Ok(Flow::Done(0))
}

fn sets(request: u32) -> bool {
    matches!(
        request,
        ioctl::SIOCSIFFLAGS
            | ioctl::SIOCSIFADDR
            | ioctl::SIOCSIFDSTADDR
            | ioctl::SIOCSIFBRDADDR
            | ioctl::SIOCSIFNETMASK
            | ioctl::SIOCSIFMETRIC
            | ioctl::SIOCSIFMTU
            | ioctl::SIOCSIFHWADDR
            | ioctl::SIOCSIFTXQLEN
    )
}

fn set(net: &NetSpace, found: &Interface, request: u32, bytes: &[u8; REQUEST]) -> Result<()> {
    let word = u32::from_ne_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]);
    let interfaces = &net.holds.inet.interfaces;
    match request {
        ioctl::SIOCSIFFLAGS => links::set_up(net, found, word & flags::UP != 0),
        ioctl::SIOCSIFMTU if !(68..=65536).contains(&word) => Err(Errno::EINVAL),
        ioctl::SIOCSIFMTU => interfaces.change(found.index, |interface| {
            interface.mtu = word;
            Ok(())
        }),
        ioctl::SIOCSIFADDR => {
            let ip = IpAddr::from([bytes[20], bytes[21], bytes[22], bytes[23]]);
            match interfaces.add_address(found.index, ip, if ip.is_loopback() { 8 } else { 24 }) {
                Err(Errno::EEXIST) => Ok(()),
                outcome => outcome,
            }
        }
        ioctl::SIOCSIFNETMASK => {
            let prefix = u32::from_be_bytes([bytes[20], bytes[21], bytes[22], bytes[23]]).leading_ones() as u8;
            interfaces.change(found.index, |interface| {
                let first = interface.addresses.iter_mut().find(|(ip, _)| ip.is_ipv4());
                first.ok_or(Errno::EADDRNOTAVAIL)?.1 = prefix;
                Ok(())
            })
        }
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// All that have an address of IPv4 (`SIOCGIFCONF`): how many bytes, and where they go.
fn list(interfaces: &Interfaces, mm: &Mm, argument: u64) -> SysResult {
    let [room, at] = mm.get::<[u64; 2]>(argument)?;
    let room = usize::try_from(room as u32 as i32).map_err(|_| Errno::EINVAL)?;
    let mut bytes = Vec::new();
    for interface in interfaces.all() {
        for (ip, _) in &interface.addresses {
            let IpAddr::V4(ip) = ip else { continue };
            let mut entry = [0; REQUEST];
            entry[..interface.name.len()].copy_from_slice(&interface.name);
            entry[NAME..NAME + 16].copy_from_slice(&socket_address(*ip));
            bytes.extend_from_slice(&entry);
        }
    }
    if at != 0 {
        bytes.truncate(room / REQUEST * REQUEST);
        mm.write(at, &bytes)?;
    }
    mm.put(argument, &(bytes.len() as u32))?;
    Ok(Flow::Done(0))
}
