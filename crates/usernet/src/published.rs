//! Ports of the host's that lead to the guest.

use crate::config::{Config, Publish, Transport};
use crate::datagrams::Datagrams;
use crate::error::{Error, Result};
use crate::flow::{Flow, Protocol};
use crate::hub::Hub;
use crate::tcp::Connections;
use crate::timers::Id;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// So many may have connected and not been looked at.
const BACKLOG: i32 = 128;

#[derive(Debug)]
struct Listener {
    socket: Arc<OwnedFd>,
    transport: Transport,
    guest_port: u16,
    /// It is among those that have something for the guest.
    listed: bool,
    /// Somebody waits there, and there was no room.
    crowded: bool,
}

/// All that listens.
#[derive(Debug)]
pub(crate) struct Published(HashMap<Id, Listener>);

impl Published {
    /// Listens at all ports.
    pub(crate) fn new(hub: &mut Hub, config: &Config) -> Result<Published> {
        let mut listeners = HashMap::new();
        for publish in &config.publish {
            let id = hub.id();
            let socket = listen(publish).and_then(|socket| hub.watch(&socket, id).map(|()| Arc::new(socket)));
            let socket = socket.map_err(|cause| Error::Publish { publish: publish.to_string(), cause })?;
            let (transport, guest_port) = (publish.transport, publish.guest_port);
            listeners.insert(id, Listener { socket, transport, guest_port, listed: false, crowded: false });
        }
        Ok(Published(listeners))
    }

    /// A socket is ready; false if it is none of ours.
    pub(crate) fn ready(&mut self, hub: &mut Hub, id: Id) -> bool {
        let Some(listener) = self.0.get_mut(&id) else { return false };
        if !std::mem::replace(&mut listener.listed, true) {
            hub.news.push_back(id);
        }
        true
    }

    /// There may be room for those who wait.
    pub(crate) fn retry(&mut self, hub: &mut Hub) {
        let crowded = self.0.iter_mut().filter(|(_, listener)| listener.crowded);
        for (id, listener) in crowded {
            (listener.crowded, listener.listed) = (false, true);
            hub.news.push_back(*id);
        }
    }

    /// All that was noted as having news is forgotten: so all is looked at.
    pub(crate) fn relist(&mut self, hub: &mut Hub) {
        self.0.values_mut().for_each(|listener| (listener.listed, listener.crowded) = (false, true));
        self.retry(hub);
    }

    /// Takes what is there from one that is among those with news: one who connects, or a datagram, whose head is made and whose length this
    /// is.
    pub(crate) fn due(&mut self, hub: &mut Hub, tcp: &mut Connections, datagrams: &mut Datagrams, id: Id) -> Option<usize> {
        let listener = self.0.get_mut(&id)?;
        listener.listed = false;
        let length = match listener.transport {
            Transport::Udp => Some(datagrams.hear(hub, &listener.socket, listener.guest_port)?),
            Transport::Tcp => {
                if !listener.accept(hub, tcp) {
                    return None;
                }
                None
            }
        };
        self.ready(hub, id);
        length
    }
}

impl Listener {
    /// Takes one who has connected; false if there is nobody, or no room.
    fn accept(&mut self, hub: &mut Hub, tcp: &mut Connections) -> bool {
        self.crowded = !tcp.has_room();
        if self.crowded {
            return false;
        }
        match rustix::net::acceptfrom_with(&self.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok((socket, client)) => {
                let client = client.and_then(|client| SocketAddr::try_from(client).ok());
                let flow = client.and_then(|client| {
                    Flow::from_outside(&hub.link, Protocol::Tcp, client, self.guest_port, |flow| tcp.has(flow))
                });
                if let Some(flow) = flow {
                    tcp.call(hub, socket, flow);
                }
                true
            }
            Err(Errno::AGAIN) => false,
            Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                self.crowded = true;
                false
            }
            // It has gone already (accept(2): errors of the network are those of one connection).
            Err(_) => true,
        }
    }
}

fn listen(publish: &Publish) -> rustix::io::Result<OwnedFd> {
    match bind(publish.at(), publish.transport) {
        // A host without IPv6, and no address asked for.
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) if publish.address.is_none() => {
            bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), publish.port), publish.transport)
        }
        result => result,
    }
}

fn bind(at: SocketAddr, transport: Transport) -> rustix::io::Result<OwnedFd> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = if transport == Transport::Tcp { SocketType::STREAM } else { SocketType::DGRAM };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    if at.is_ipv6() {
        // At all addresses means at those of IPv4 as well.
        sockopt::set_ipv6_v6only(&socket, !at.ip().is_unspecified())?;
    }
    if transport == Transport::Tcp {
        // Connections of the past aren't in the way. (For datagrams it would let others listen, too.)
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &at)?;
    if transport == Transport::Tcp {
        rustix::net::listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}
