//! A container on a bridge.

use crate::addresses::{NETWORKS, PREFIX, PREFIX6, Subnet};
use crate::attendant::Attendant;
use crate::conntrack::Stale;
use crate::error::{Error, Result};
use crate::names::{Resolver, resolv_conf};
use crate::namespace::{self, Namespace};
use crate::netlink::{Netlink, Refused};
use crate::state::{Bridge, Lease, Process, Records, State, remove_file};
use crate::{Attachment, Wish, forwarding, links, rules};
use insula_sys::{Context, Errno};
use insula_usernet::Transport;
use rustix::fd::OwnedFd;
use std::net::IpAddr;
use std::path::Path;

/// Puts a container on the bridge of this network namespace, which is made if it isn't there.
pub(crate) fn join(root: &Path, wish: &Wish) -> Result<Attachment> {
    if let Some(refused) = wish.publish.iter().find_map(rules::refused) {
        return Err(Error::Failed(refused));
    }
    rules::program()?;
    let making = namespace::make(|| Ok(()))?;
    let joined = in_records(root, wish, |joining| {
        let (place, Namespace { file, netlink, .. }) = joining.reserve(wish, || making.wait())?;
        place.connect(&mut joining.netlink, &file, netlink)?;
        Ok((place, Some(file)))
    });
    joined.map(|(attachment, _)| attachment)
}

/// The same for a container that makes its namespace itself: the link comes later, by [`Place::connect`].
pub(crate) fn reserve(root: &Path, wish: &Wish) -> Result<(Attachment, Place)> {
    if let Some(refused) = wish.publish.iter().find_map(rules::refused) {
        return Err(Error::Failed(refused));
    }
    rules::program()?;
    in_records(root, wish, |joining| Ok((joining.reserve(wish, || Ok(()))?.0, None)))
}

/// Puts a container on the bridge with the records locked; if that fails, nothing is left.
fn in_records(
    root: &Path,
    wish: &Wish,
    join: impl FnOnce(&mut Joining) -> Result<(Place, Option<OwnedFd>)>,
) -> Result<(Attachment, Place)> {
    let records = Records::make(root)?;
    let here = Records::here()?;
    let mut joining =
        Joining { here, netlink: Netlink::open()?, state: records.read(here)?, records, attendant: None, notes: vec![] };
    let joined = join(&mut joining);
    let Joining { records, attendant, notes, .. } = joining;
    let resolv_conf = |number: u16| records.resolv_conf(here, &number.to_string());
    match joined {
        Ok((place, namespace)) => {
            let resolv_conf = resolv_conf(place.number);
            Ok((Attachment { root: root.to_owned(), id: wish.id.clone(), namespace, resolv_conf, notes, attendant }, place))
        }
        Err(error) => {
            drop(records);
            if let Some(attendant) = attendant {
                attendant.end();
            }
            // What can't be removed now stays on record.
            let _ = crate::remove_own(root, &wish.id);
            Err(error)
        }
    }
}

/// A container that is being put on a bridge; the records are locked.
struct Joining {
    records: Records,
    here: u64,
    netlink: Netlink,
    state: State,
    attendant: Option<Attendant>,
    notes: Vec<String>,
}

impl Joining {
    /// Takes a place: all of it but the link. What is being made meanwhile is waited for before the attendant is: that is a copy of this process,
    /// which must have one thread then.
    fn reserve<T>(&mut self, wish: &Wish, wait: impl FnOnce() -> Result<T>) -> Result<(Place, T)> {
        let Left { ports, mut stale } =
            collect(&self.records, self.here, &mut self.netlink, &mut self.state, |lease| !lease.owner.lives())?;
        crate::check_free(&self.state, &wish.id)?;
        let number = self.state.free_number(wish.keeps_address.then_some(&wish.id));
        let number = number.ok_or_else(|| Error::Failed("all addresses of the network are in use".into()))?;
        let lease = Lease {
            id: wish.id.clone(),
            hostname: wish.hostname.clone(),
            number: Some(number),
            publish: wish.publish.clone(),
            owner: Process::this()?,
            attendant: None,
        };
        self.state.leases.push(lease);
        if !wish.keeps_address {
            self.state.next = number + 1;
        }
        let (bridge, new) = self.bridge()?;
        let net = Subnet(bridge.number);
        let waited_for = wait()?;
        let resolver = Resolver {
            net,
            ipv6: bridge.ipv6,
            number,
            publish: wish.publish.clone(),
            directory: self.records.directory(self.here),
            resolv_conf: wish.resolv_conf.clone(),
        };
        let attendant = Attendant::start(resolver)?;
        let process = attendant.process();
        self.attendant = Some(attendant);
        // So that whoever removes the container, or finds that we have crashed, needn't wait for us to see to it.
        if let Some(lease) = self.state.leases.last_mut() {
            lease.attendant = Some(process?);
        }
        self.records.write(self.here, &self.state)?;
        if new {
            rules::set_up(net, bridge.ipv6, &self.state.leases)?;
        } else if ports || !wish.publish.is_empty() {
            rules::publish(net, bridge.ipv6, &self.state.leases)?;
        }
        stale.published.clone_from(&wish.publish);
        stale.forget()?;
        let path = self.records.resolv_conf(self.here, &number.to_string());
        let hosts = std::fs::read_to_string(&wish.resolv_conf).unwrap_or_default();
        std::fs::write(&path, resolv_conf(&hosts, net.resolver(number))).on("write", path.display())?;
        Ok((Place { net, number, ipv6: bridge.ipv6 }, waited_for))
    }

    /// The bridge, and whether it had to be made. The record is written in any case, before anything is made.
    fn bridge(&mut self) -> Result<(Bridge, bool)> {
        if let Some(bridge) = self.state.bridge {
            let mac = links::mac(&mut self.netlink, &Subnet(bridge.number).bridge())?;
            if mac.as_deref() == Some(&bridge.mac[..]) {
                self.records.write(self.here, &self.state)?;
                return Ok((bridge, false));
            }
        }
        let routes = links::routes(&mut self.netlink)?;
        let free = |number: &u8| !routes.iter().any(|(to, prefix)| Subnet(*number).overlaps(*to, *prefix));
        for number in (0..NETWORKS).filter(free) {
            let bridge = Bridge { number, mac: made_up()?, ipv6: forwarding::has_ipv6() };
            let net = Subnet(number);
            if self.netlink.index(&net.bridge()).is_some() {
                continue;
            }
            self.state.bridge = Some(bridge);
            self.records.write(self.here, &self.state)?;
            match links::make_bridge(&mut self.netlink, net, bridge.mac, bridge.ipv6) {
                // Another store's, since a moment.
                Err(Refused { errno: Errno::EXIST, .. }) => continue,
                made => made?,
            }
            let changed = forwarding::allow(&net.bridge(), bridge.ipv6)?;
            if !changed.is_empty() {
                let names = changed.join(" and ");
                self.notes
                    .push(format!("--network bridge: switched on {names}, so that the host forwards packets; that stays on"));
            }
            return Ok((bridge, true));
        }
        self.state.bridge = None;
        Err(Error::Failed(
            "--network bridge: none of the subnets 10.83.0.0/21 to 10.83.248.0/21 is free; the host has routes to each".into(),
        ))
    }
}

/// A container's place on a bridge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    net: Subnet,
    number: u16,
    ipv6: bool,
}

impl Place {
    /// Links a namespace to the bridge, and gives its card the addresses; `inside` is a socket in it.
    pub(crate) fn connect(self, netlink: &mut Netlink, namespace: &OwnedFd, mut inside: Netlink) -> Result<()> {
        let Place { net, number, ipv6 } = self;
        match links::make_link(netlink, net, number, namespace) {
            // Left by somebody whose record was lost.
            Err(Refused { errno: Errno::EXIST, .. }) => {
                links::remove(netlink, &net.link(number))?;
                links::make_link(netlink, net, number, namespace)?;
            }
            made => made?,
        }
        let mut addresses = vec![(IpAddr::from(net.container(number)), PREFIX)];
        let mut gateways = vec![IpAddr::from(net.gateway())];
        if ipv6 {
            addresses.push((net.container6(number).into(), PREFIX6));
            gateways.push(net.gateway6().into());
        }
        links::set_card(&mut inside, &addresses, &gateways, None)
    }
}

/// The address of a bridge's card: administered locally, for one card, and nobody else's.
fn made_up() -> Result<[u8; 6]> {
    let mut mac = [0; 6];
    rustix::rand::getrandom(&mut mac, rustix::rand::GetRandomFlags::empty()).on("make up", "an address")?;
    mac[0] = mac[0] & 0xfc | 0x02;
    Ok(mac)
}

/// What containers that are gone have left, that isn't theirs alone.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// One of them had published ports: the rules aren't right any more.
    ports: bool,
    stale: Stale,
}

/// Removes what some containers had here, and then them from the state.
pub(crate) fn collect(
    records: &Records,
    here: u64,
    netlink: &mut Netlink,
    state: &mut State,
    gone: impl Fn(&Lease) -> bool,
) -> Result<Left> {
    let mut left = Left::default();
    for lease in state.leases.iter().filter(|lease| gone(lease)) {
        lease.attendant.map_or(Ok(()), Process::end)?;
        let (Some(number), Some(bridge)) = (lease.number, state.bridge) else { continue };
        links::remove(netlink, &Subnet(bridge.number).link(number))?;
        remove_file(&records.resolv_conf(here, &number.to_string()))?;
        left.ports |= !lease.publish.is_empty();
        if lease.publish.iter().any(|publish| publish.transport == Transport::Udp) {
            let net = Subnet(bridge.number);
            left.stale.gone.extend([IpAddr::from(net.container(number)), net.container6(number).into()]);
        }
    }
    state.leases.retain(|lease| !gone(lease));
    Ok(left)
}

/// Puts on record who is left; where nobody is, removes bridge, rules and record.
pub(crate) fn settle(records: &Records, here: u64, netlink: &mut Netlink, state: &mut State, left: &Left) -> Result<()> {
    if state.leases.iter().any(|lease| lease.number.is_some()) {
        records.write(here, state)?;
        if let Some(bridge) = state.bridge.filter(|_| left.ports) {
            rules::publish(Subnet(bridge.number), bridge.ipv6, &state.leases)?;
        }
        return left.stale.forget();
    }
    if let Some(bridge) = state.bridge {
        let net = Subnet(bridge.number);
        rules::remove(net)?;
        left.stale.forget()?;
        // One of the name may be somebody else's by now.
        if links::mac(netlink, &net.bridge())?.as_deref() == Some(&bridge.mac[..]) {
            links::remove(netlink, &net.bridge())?;
        }
        state.bridge = None;
    }
    if state.leases.is_empty() { records.remove(here) } else { records.write(here, state) }
}
