//! Networks of containers. A network is made before the container, which joins its namespace, and removed after it.
//!
//! ```text
//! --network bridge                                     --network user
//!
//! container: eth0 ── insula0-N ── insula0 (bridge)     container: eth0 (a tap) ── attendant: usernet ── ordinary sockets
//!    │                               │ rules: masquerade, published ports
//!    └── names ──> attendant         └── the host's other networks
//! ```
//!
//! Each container has an *attendant*: a confined process, ended with the one that stays with the container, which answers for names or is the
//! network itself. Nothing else runs.
//!
//! | module | holds |
//! |---|---|
//! | `bridge` | joining a bridge, and leaving it |
//! | `user`, `passing` | a network without privilege; how its card comes out of a sandbox that makes it itself |
//! | [`state`] | the record: who has which address; the lock |
//! | `addresses` | which those are |
//! | `namespace`, `links`, `netlink` | the container's namespace; devices, addresses, routes; how the kernel is asked for them |
//! | `rules`, `forwarding` | the packet filter by nft(8), settings of the kernel |
//! | `conntrack` | flows that the kernel is to forget when ports come and go |
//! | `attendant` | the process, and what it gives up |
//! | `names` | the resolver in it |
//!
//! **A crash** leaves what is on record, and nothing else: the record comes first ([`state`]). Processes end with ours, by the kernel. A record whose
//! owner has ended is nobody's: [`release`], and the next [`join`], remove what it names.

mod addresses;
mod attendant;
mod bridge;
mod conntrack;
mod error;
mod forwarding;
mod links;
mod names;
mod namespace;
mod netlink;
mod passing;
mod probe;
mod rules;
mod state;
mod user;

pub use error::{Error, Result};
pub use insula_usernet::Publish;
pub use probe::{Support, bridge as bridge_support};

use addresses::Subnet;
use attendant::Attendant;
use insula_sys::Context;
use netlink::Netlink;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use serde::Serialize;
use state::{LEASES, Lease, Process, Records, State};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Which network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A bridge that all containers of the store share.
    Bridge,
    /// One of its own, which takes no right on the host.
    User,
}

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The container's name, which the others on a bridge find it by.
    pub id: String,
    /// Its host name, by which it finds itself.
    pub hostname: Option<String>,
    /// Ports of the host's that lead to it.
    pub publish: Vec<Publish>,
    /// Where it says whom the host asks for names, resolv.conf(5).
    pub resolv_conf: PathBuf,
    /// It is to have the same address whenever it comes, if that is free: a whole system that is started again.
    pub keeps_address: bool,
}

/// A container's place in a network, for the process that stays with it.
#[derive(Debug)]
pub struct Attachment {
    root: PathBuf,
    id: String,
    namespace: Option<OwnedFd>,
    resolv_conf: PathBuf,
    notes: Vec<String>,
    attendant: Option<Attendant>,
}

/// Makes a network for a container whose record is in the store at `root`, by this process, which has one thread and stays with the container.
///
/// # Errors
/// It can't be had: a right or a program is missing, or a port is taken. Then nothing is left.
pub fn join(root: &Path, kind: Kind, wish: &Wish) -> Result<Attachment> {
    match kind {
        Kind::Bridge => bridge::join(root, wish),
        Kind::User => join_user(root, wish),
    }
}

fn join_user(root: &Path, wish: &Wish) -> Result<Attachment> {
    let config = user_config(wish);
    let (namespace, gateway) = user::Gateway::make(config)?;
    let resolv_conf = record_user(root, wish)?;
    let attachment = Attachment {
        root: root.to_owned(),
        id: wish.id.clone(),
        namespace: Some(namespace),
        resolv_conf,
        notes: vec![],
        attendant: None,
    };
    attachment.attended(gateway)
}

fn user_config(wish: &Wish) -> insula_usernet::Config {
    let (publish, resolv_conf) = (wish.publish.clone(), wish.resolv_conf.clone());
    insula_usernet::Config { publish, resolv_conf, ..insula_usernet::Config::default() }
}

/// Puts a network without privilege on record, for those who ask: all else that it leaves is a file, which this gives.
fn record_user(root: &Path, wish: &Wish) -> Result<PathBuf> {
    remove(root, |lease| !lease.owner.lives())?;
    let records = Records::make(root)?;
    let here = Records::here()?;
    let mut state = records.read(here)?;
    check_free(&state, &wish.id)?;
    state.leases.push(Lease {
        id: wish.id.clone(),
        hostname: wish.hostname.clone(),
        number: None,
        publish: wish.publish.clone(),
        owner: Process::this()?,
        attendant: None,
    });
    let write = || {
        records.write(here, &state)?;
        let path = records.resolv_conf(here, "user");
        let hosts = std::fs::read_to_string(&wish.resolv_conf).unwrap_or_default();
        let resolver = insula_usernet::Config::default().subnet.gateway();
        std::fs::write(&path, names::resolv_conf(&hosts, resolver)).on("write", path.display())?;
        Ok(path)
    };
    let written = write();
    drop(records);
    written.inspect_err(|_: &Error| drop(remove_own(root, &wish.id)))
}

/// A network for a sandbox that makes its namespaces itself, in a user namespace whose root they belong to.
#[derive(Debug)]
pub struct Expected {
    attachment: Attachment,
    card: Card,
}

/// What is missing of it until there is the sandbox.
#[derive(Debug)]
enum Card {
    /// The sandbox makes a tap, whose other end comes by this socket.
    Tap(insula_usernet::Config, OwnedFd),
    /// We put one there.
    Link(bridge::Place),
}

/// Begins such a network; what is given beside is to be done in the sandbox's network namespace.
///
/// # Errors
/// As [`join`].
pub fn expect(root: &Path, kind: Kind, wish: &Wish) -> Result<(Expected, impl FnOnce() -> Result<()> + use<>)> {
    let (attachment, card, inside) = match kind {
        Kind::Bridge => {
            let (attachment, place) = bridge::reserve(root, wish)?;
            (attachment, Card::Link(place), None)
        }
        Kind::User => {
            let (socket, inside) = passing::pair()?;
            let resolv_conf = record_user(root, wish)?;
            let (root, id) = (root.to_owned(), wish.id.clone());
            let attachment = Attachment { root, id, namespace: None, resolv_conf, notes: vec![], attendant: None };
            let config = user_config(wish);
            (attachment, Card::Tap(config.clone(), socket), Some((inside, config)))
        }
    };
    let make = move || {
        namespace::set_up()?;
        inside.map_or(Ok(()), |(socket, config)| passing::send(&socket, user::make_card(&config)?))
    };
    Ok((Expected { attachment, card }, make))
}

impl Expected {
    /// As [`Attachment::resolv_conf`].
    pub fn resolv_conf(&self) -> &Path {
        self.attachment.resolv_conf()
    }

    /// As [`Attachment::notes`].
    pub fn notes(&self) -> &[String] {
        self.attachment.notes()
    }

    /// Serves the card, or makes it, once there is the sandbox, whose first process is `pid` and waits for us.
    ///
    /// # Errors
    /// A port is taken, or the sandbox has ended. Then nothing is left.
    pub fn complete(self, pid: i32) -> Result<Attachment> {
        let Expected { attachment, card } = self;
        let failed = match card {
            Card::Tap(config, socket) => match passing::receive(socket) {
                Ok(tap) => return attachment.attended(user::Gateway::new(tap, config)),
                Err(error) => error,
            },
            Card::Link(place) => match connect(place, pid) {
                Ok(()) => return Ok(attachment),
                Err(error) => error,
            },
        };
        let _ = attachment.leave();
        Err(failed)
    }

    /// Gives it up.
    pub fn abandon(self) {
        let _ = self.attachment.leave();
    }
}

impl Attachment {
    /// The same with a process that serves it; if there can be none, nothing is left.
    fn attended(mut self, gateway: user::Gateway) -> Result<Attachment> {
        let start = || {
            let attendant = Attendant::start(gateway)?;
            let process = attendant.process()?;
            // So that whoever removes the container needn't wait for us to see to it.
            if let Some(records) = Records::find(&self.root)? {
                let here = Records::here()?;
                let mut state = records.read(here)?;
                let owner = Process::this()?;
                let own = state.leases.iter_mut().filter(|lease| lease.id == self.id && lease.owner == owner);
                own.for_each(|lease| lease.attendant = Some(process));
                records.write(here, &state)?;
            }
            Ok(attendant)
        };
        match start() {
            Ok(attendant) => {
                self.attendant = Some(attendant);
                Ok(self)
            }
            Err(error) => {
                let _ = self.leave();
                Err(error)
            }
        }
    }

    /// The namespace, for who opens it in this process; none, if the container makes it itself.
    pub fn namespace(&self) -> Option<PathBuf> {
        Some(PathBuf::from(format!("/proc/self/fd/{}", self.namespace.as_ref()?.as_raw_fd())))
    }

    /// A file that is to be the container's `/etc/resolv.conf`.
    pub fn resolv_conf(&self) -> &Path {
        &self.resolv_conf
    }

    /// What was done to the host that the user should hear of.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Removes it all, when the container has ended.
    ///
    /// # Errors
    /// Something can't be removed; it stays on record.
    pub fn leave(self) -> Result<()> {
        if let Some(attendant) = self.attendant {
            attendant.end();
        }
        drop(self.namespace);
        remove_own(&self.root, &self.id)
    }
}

/// Links the namespace of a process to the bridge.
fn connect(place: bridge::Place, pid: i32) -> Result<()> {
    let path = format!("/proc/{pid}/ns/net");
    let namespace = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).on("open", path)?;
    place.connect(&mut Netlink::open()?, &namespace, namespace::enter(&namespace)?)
}

/// Refuses a name that somebody has.
fn check_free(state: &State, id: &str) -> Result<()> {
    match state.lease(id) {
        Some(_) => Err(Error::Failed(format!("a sandbox named {id} has a network already; remove it first"))),
        None => Ok(()),
    }
}

/// Removes what a container's network has left on the host, and what others have that are gone. Where there is nothing, that is one look.
///
/// # Errors
/// Something can't be removed; it stays on record.
pub fn release(root: &Path, id: &str) -> Result<()> {
    remove(root, |lease| lease.id == id || !lease.owner.lives())
}

/// The same for who stays with the container: another one of the name isn't meant.
fn remove_own(root: &Path, id: &str) -> Result<()> {
    let this = Process::this()?;
    remove(root, |lease| lease.id == id && lease.owner == this || !lease.owner.lives())
}

fn remove(root: &Path, gone: impl Fn(&Lease) -> bool) -> Result<()> {
    let Some(records) = Records::find(root)? else { return Ok(()) };
    let here = Records::here()?;
    // In another network namespace, links and rules are out of reach: they go with it, or with the next container there.
    if records.namespaces().contains(&here) {
        let mut state = records.read(here)?;
        let mut netlink = Netlink::open()?;
        let left = bridge::collect(&records, here, &mut netlink, &mut state, gone)?;
        bridge::settle(&records, here, &mut netlink, &mut state, &left)?;
    }
    records.leave()
}

/// A container's network, for those who ask.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    /// Which network.
    pub mode: Kind,
    /// The container's addresses.
    pub addresses: Vec<IpAddr>,
    /// The host's ports that lead to it.
    pub ports: Vec<Publish>,
    /// Its `/etc/resolv.conf`, on the host.
    #[serde(skip)]
    pub resolv_conf: PathBuf,
}

/// What is on record of a container's network; nothing, if it has none of ours.
pub fn facts(root: &Path, id: &str) -> Option<Facts> {
    let records = Records::look(root)?;
    records.into_iter().find_map(|directory| {
        let state = state::read(&directory.join(LEASES)).ok()?;
        let lease = state.lease(id)?;
        Some(facts_of(&directory, &state, lease))
    })
}

fn facts_of(directory: &Path, state: &State, lease: &Lease) -> Facts {
    let ports = lease.publish.clone();
    match (lease.number, state.bridge) {
        (Some(number), Some(bridge)) => {
            let net = Subnet(bridge.number);
            let mut addresses = vec![IpAddr::from(net.container(number))];
            addresses.extend(bridge.ipv6.then(|| IpAddr::from(net.container6(number))));
            let resolv_conf = state::resolv_conf(directory, &number.to_string());
            Facts { mode: Kind::Bridge, addresses, ports, resolv_conf }
        }
        _ => Facts { mode: Kind::User, addresses: user::addresses(), ports, resolv_conf: state::resolv_conf(directory, "user") },
    }
}
