//! The network device (section 5.1): a tap of the host's, with one queue of it for each pair of the guest's; or a network of our own.
//!
//! Frames go straight between the tap and guest memory, each with the header (`virtio_net_hdr`) that says which checksum is to be made and
//! how it is to be cut. The host's kernel and the guest's understand the same header, and so does our network: nobody computes what the
//! other needn't have.

mod cable;
mod control;
mod held;
mod pair;
#[cfg(test)]
mod tests;

use crate::device::{self, Activation, Change, Device, DeviceState, Saved, Source, Token, read_bytes};
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::limiter::{Limiter, Limits};
use crate::ring::Ring;
use cable::Plug;
use insula_sys::tap::{self, Offload};
use insula_usernet::Network;
use pair::{Receiver, Sender};
use rustix::event::PollFlags;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_net as bits;

pub use cable::Cable;

/// Section 5.1: its number.
pub const KIND: u32 = 1;
/// Most pairs of queues.
pub const MOST_PAIRS: u16 = 8;
const SIZE: u16 = 256;
const CONTROL_SIZE: u16 = 16;
const CONTROL: Token = 0;
const RECEIVE_TIMER: Token = 1;
const SEND_TIMER: Token = 2;
const HELD_TIMER: Token = 3;
/// From here on three for each pair: kick to receive, kick to send, the other end of the cable.
const PAIRS: Token = 4;

/// What it is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What it is plugged into.
    pub cable: Cable,
    /// The guest's address; without, its driver makes one up.
    #[serde(default)]
    pub mac: Option<[u8; 6]>,
    /// The largest packet without Ethernet's header that the guest should send; with a network of our own, that network's if it isn't said.
    #[serde(default)]
    pub mtu: Option<u16>,
    /// How many pairs of queues; 0 means 1.
    #[serde(default)]
    pub pairs: u16,
    /// How much the guest gets at what rate.
    #[serde(default)]
    pub receive: Limits,
    /// How much the guest sends at what rate.
    #[serde(default)]
    pub send: Limits,
}

impl Config {
    /// The tap's name, if it is plugged into one.
    pub fn tap(&self) -> Option<&str> {
        match &self.cable {
            Cable::Tap(name) => Some(name),
            Cable::User(_) => None,
        }
    }
}

/// What has to be known to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pairs: u16,
    offload: Option<u32>,
}

/// What it has done: frames, and bytes of frames with Ethernet's header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Frames that the guest got. (One that it is to cut itself counts as one.)
    pub received_packets: u64,
    /// Bytes of those.
    pub received_bytes: u64,
    /// Frames for the guest that didn't fit into its buffers.
    pub received_dropped: u64,
    /// Frames that the guest sent.
    pub sent_packets: u64,
    /// Bytes of those.
    pub sent_bytes: u64,
    /// Frames of the guest's that were none, or that the tap didn't take.
    pub sent_dropped: u64,
}

/// The device.
#[derive(Debug)]
pub struct Net {
    counters: Counters,
    plug: Plug,
    mac: Option<[u8; 6]>,
    mtu: Option<u16>,
    link: bool,
    sizes: Vec<u16>,
    receive: Limiter,
    send: Limiter,
    held: held::Timer,
    running: Option<Running>,
    restored: Option<State>,
}

/// What there is while there is a driver.
#[derive(Debug)]
struct Running {
    receivers: Vec<Option<Receiver>>,
    senders: Vec<Option<Sender>>,
    control: Option<Ring>,
    control_index: usize,
    interrupt: Interrupt,
    /// How many pairs take part.
    active: u16,
    offload: Offload,
}

impl Net {
    /// Opens the tap, or makes the network.
    ///
    /// # Errors
    /// As [`tap::open`] and [`Network::new`]; a configuration that can't be.
    pub fn new(config: &Config) -> Result<Net> {
        let pairs = config.pairs.max(1);
        match &config.cable {
            Cable::Tap(_) if pairs > MOST_PAIRS => Err(refuse(format!("{pairs} pairs of queues are more than {MOST_PAIRS}"))),
            Cable::Tap(name) => {
                must_exist(config)?;
                let taps = (0..pairs).map(|_| tap::open(name, pairs > 1)).collect::<insula_sys::Result<_>>();
                Net::with(taps.map_err(|error| explained(error, name, pairs > 1))?, config)
            }
            Cable::User(_) if pairs > 1 => Err(refuse(format!("a user network has one pair of queues, not {pairs}"))),
            Cable::User(network) => {
                let mtu = config.mtu.unwrap_or(network.mtu);
                let network = Network::new(&insula_usernet::Config { mtu, ..network.clone() })?;
                Net::plugged(Plug::User(Box::new(network)), &Config { mtu: Some(mtu), ..config.clone() })
            }
        }
    }

    /// Takes what is open already, one descriptor a pair: each read and write is a frame led by a header of 12 bytes, and none waits.
    ///
    /// # Errors
    /// No descriptor, or more than [`MOST_PAIRS`]; a configuration that can't be.
    pub fn with(taps: Vec<OwnedFd>, config: &Config) -> Result<Net> {
        if taps.is_empty() || taps.len() > usize::from(MOST_PAIRS) {
            return Err(refuse(format!("it has {} taps, and can have 1 to {MOST_PAIRS}", taps.len())));
        }
        Net::plugged(Plug::taps(taps), config)
    }

    fn plugged(plug: Plug, config: &Config) -> Result<Net> {
        if let Some(mac) = config.mac.filter(|mac| mac[0] & 1 == 1 || *mac == [0; 6]) {
            return Err(refuse(format!("{mac:02x?} isn't the address of one card")));
        }
        if let Some(mtu) = config.mtu.filter(|mtu| *mtu < 68) {
            return Err(refuse(format!("an MTU of {mtu} is too small for IPv4, which needs 68")));
        }
        let sizes = std::iter::repeat_n(SIZE, 2 * plug.pairs()).chain([CONTROL_SIZE]).collect();
        let (receive, send) = (Limiter::new(config.receive)?, Limiter::new(config.send)?);
        let (mac, mtu) = (config.mac, config.mtu);
        let (counters, held) = (Counters::default(), held::Timer::new()?);
        Ok(Net { counters, plug, mac, mtu, link: true, sizes, receive, send, held, running: None, restored: None })
    }

    /// Plugs the cable in or out, as the guest sees it (section 5.1.4.2).
    pub fn set_link(&mut self, up: bool) {
        if std::mem::replace(&mut self.link, up) != up
            && let Some(running) = &self.running
        {
            running.interrupt.config();
        }
    }

    /// Lets so many pairs take part; none of the others gets a frame.
    fn set_pairs(&mut self, count: u16) -> Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        running.active = count;
        self.plug.set_pairs(count);
        Ok(())
    }

    fn set_offload(&mut self, offload: Offload) -> Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        running.offload = offload;
        self.plug.set_offload(offload)
    }

    /// Whether the other end of a pair's cable is to be waited for now.
    fn listens(&self, pair: usize) -> bool {
        if !self.plug.insists() {
            return true;
        }
        let receiver = self.running.as_ref().and_then(|running| running.receivers.get(pair)?.as_ref());
        receiver.is_some_and(|receiver| !receiver.starved()) && !self.receive.waits()
    }

    fn listening(&self) -> Vec<bool> {
        (0..self.plug.pairs()).map(|pair| self.listens(pair)).collect()
    }

    fn receive_on(&mut self, pair: usize, kicked: bool) -> Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        let receiver = running.receivers.get_mut(pair).and_then(Option::as_mut);
        let (Some(receiver), Some(port)) = (receiver, self.plug.port(pair)) else { return Ok(()) };
        if receiver.serve(port, &mut self.receive, &mut self.counters, kicked)?
            && let Some(sender) = running.senders.get_mut(pair).and_then(Option::as_mut)
        {
            sender.tell_along(receiver);
            if !self.holds() {
                self.held.told();
            }
        }
        Ok(())
    }

    fn send_on(&mut self, pair: usize) -> Result<()> {
        let sender = self.running.as_mut().and_then(|running| running.senders.get_mut(pair)?.as_mut());
        let (Some(sender), Some(port)) = (sender, self.plug.port(pair)) else { return Ok(()) };
        sender.serve(port, &mut self.send, &mut self.counters)?;
        if sender.holds() && !self.held.hold() {
            sender.tell();
        }
        self.answer(pair)
    }

    /// Tells the guest of all frames that are gone.
    fn tell(&mut self) {
        let senders = self.running.iter_mut().flat_map(|running| running.senders.iter_mut().flatten());
        senders.for_each(Sender::tell);
        self.held.told();
    }

    fn holds(&self) -> bool {
        self.running.iter().flat_map(|running| running.senders.iter().flatten()).any(Sender::holds)
    }

    /// Gives the guest what our network has for it by now; a tap tells by itself.
    fn answer(&mut self, pair: usize) -> Result<()> {
        if self.plug.insists() { Ok(()) } else { self.receive_on(pair, false) }
    }

    /// Sets new limits, where one is given. What waits for the old ones is looked at again; then [`Device::sources`] is to be asked again.
    ///
    /// # Errors
    /// No descriptor is left for a timer, or the driver broke a queue.
    pub fn set_limits(&mut self, receive: Option<Limits>, send: Option<Limits>) -> Result<()> {
        if let Some(limits) = receive {
            self.receive = Limiter::new(limits)?;
            for pair in 0..self.plug.pairs() {
                self.answer(pair)?;
            }
        }
        if let Some(limits) = send {
            self.send = Limiter::new(limits)?;
            for pair in 0..self.plug.pairs() {
                self.send_on(pair)?;
            }
        }
        Ok(())
    }
}

/// Looks whether there is such a tap, if it is to be one.
///
/// # Errors
/// There isn't, and how to make one.
pub fn must_exist(config: &Config) -> Result<()> {
    match &config.cable {
        Cable::Tap(name) if !tap::exists(name) => {
            Err(refuse(format!("there is no tap {name}; `ip tuntap add {name} mode tap` makes one")))
        }
        _ => Ok(()),
    }
}

/// What the kernel means when it doesn't open a tap that exists.
fn explained(error: insula_sys::Error, tap: &str, several: bool) -> Error {
    let cause = match error.errno {
        Errno::BUSY => format!("the tap {tap} is in use by another program"),
        Errno::INVAL if several => format!(
            "the tap {tap} was made for one queue, or is no tap; `ip tuntap add {tap} mode tap multi_queue` makes one for several"
        ),
        Errno::INVAL => {
            format!("the tap {tap} was made for several queues (say queues=N), or is no tap (`ip -d link show {tap}` tells)")
        }
        _ => return error.into(),
    };
    refuse(cause)
}

fn refuse(cause: String) -> Error {
    Error::Config { device: "net", cause }
}

/// What a driver that accepted these features can take.
fn offload_of(features: u64) -> Offload {
    let pairs = [
        (bits::VIRTIO_NET_F_GUEST_CSUM, Offload::CHECKSUM),
        (bits::VIRTIO_NET_F_GUEST_TSO4, Offload::TSO4),
        (bits::VIRTIO_NET_F_GUEST_TSO6, Offload::TSO6),
        (bits::VIRTIO_NET_F_GUEST_ECN, Offload::ECN),
        (bits::VIRTIO_NET_F_GUEST_UFO, Offload::UFO),
    ];
    let offload = pairs.into_iter().filter(|(bit, _)| features >> bit & 1 == 1).map(|(_, offload)| offload).collect::<Offload>();
    // Section 5.1.3.1: nothing goes without the checksum, and marks not without segments.
    match (offload.contains(Offload::CHECKSUM), offload.intersects(Offload::TSO4 | Offload::TSO6)) {
        (false, _) => Offload::empty(),
        (true, false) => offload - Offload::ECN,
        _ => offload,
    }
}

impl Device for Net {
    fn kind(&self) -> u32 {
        KIND
    }

    fn features(&self) -> u64 {
        let mut features = vec![
            bits::VIRTIO_NET_F_CSUM,
            bits::VIRTIO_NET_F_HOST_TSO4,
            bits::VIRTIO_NET_F_HOST_TSO6,
            bits::VIRTIO_NET_F_HOST_ECN,
            bits::VIRTIO_NET_F_HOST_UFO,
            bits::VIRTIO_NET_F_MRG_RXBUF,
            bits::VIRTIO_NET_F_STATUS,
            bits::VIRTIO_NET_F_CTRL_VQ,
        ];
        if self.plug.offloads() {
            features.extend([
                bits::VIRTIO_NET_F_GUEST_CSUM,
                bits::VIRTIO_NET_F_GUEST_TSO4,
                bits::VIRTIO_NET_F_GUEST_TSO6,
                bits::VIRTIO_NET_F_GUEST_ECN,
                bits::VIRTIO_NET_F_GUEST_UFO,
                bits::VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
            ]);
        }
        features.extend(self.mac.map(|_| bits::VIRTIO_NET_F_MAC));
        features.extend(self.mtu.map(|_| bits::VIRTIO_NET_F_MTU));
        features.extend((self.plug.pairs() > 1).then_some(bits::VIRTIO_NET_F_MQ));
        features.into_iter().fold(0, |features, bit| features | 1 << bit)
    }

    fn queue_sizes(&self) -> &[u16] {
        &self.sizes
    }

    fn interrupts(&self) -> usize {
        if self.plug.pairs() > 1 { self.sizes.len() } else { 1 }
    }

    /// Section 5.1.4.
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let mut config = [0; 12];
        config[..6].copy_from_slice(&self.mac.unwrap_or_default());
        config[6] = self.link.into();
        config[8..10].copy_from_slice(&(self.plug.pairs() as u16).to_le_bytes());
        config[10..].copy_from_slice(&self.mtu.unwrap_or_default().to_le_bytes());
        read_bytes(&config, offset, data);
    }

    fn activate(&mut self, mut start: Activation) -> Result<()> {
        let several = start.accepted(bits::VIRTIO_NET_F_MQ);
        // Section 5.1.2: where the control queue is depends on what was accepted.
        let pairs = if several { self.plug.pairs() } else { 1 };
        let mergeable = start.accepted(bits::VIRTIO_NET_F_MRG_RXBUF);
        let receiver = |start: &mut Activation, pair| start.queue(2 * pair).map(|ring| Receiver::new(ring, mergeable));
        let receivers = (0..pairs).map(|pair| receiver(&mut start, pair)).collect();
        let senders = (0..pairs).map(|pair| start.queue(2 * pair + 1).map(Sender::new)).collect();
        let control_index = 2 * pairs;
        let control = start.accepted(bits::VIRTIO_NET_F_CTRL_VQ).then(|| start.queue(control_index)).flatten();
        let restored = self.restored.take();
        let active = restored.as_ref().map_or(1, |state| state.pairs.clamp(1, pairs as u16));
        let accepted = offload_of(start.features);
        let offload =
            restored.and_then(|state| state.offload).map_or(accepted, |bits| Offload::from_bits_truncate(bits) & accepted);
        let interrupt = start.interrupt;
        self.running = Some(Running { receivers, senders, control, control_index, interrupt, active, offload });
        self.set_pairs(active)?;
        self.set_offload(offload)
    }

    fn reset(&mut self) {
        self.running = None;
        self.plug.clear();
    }

    fn sources(&self) -> Vec<Source> {
        let Some(running) = &self.running else { return Vec::new() };
        let source = |fd, token| Source { fd, token, interest: PollFlags::IN };
        let mut sources: Vec<Source> = running.control.iter().map(|ring| source(ring.kick_fd(), CONTROL)).collect();
        sources.extend(self.receive.source(RECEIVE_TIMER));
        sources.extend(self.send.source(SEND_TIMER));
        sources.push(self.held.source(HELD_TIMER));
        for pair in 0..self.plug.pairs() {
            let token = PAIRS + 3 * pair as Token;
            let receiver = running.receivers.get(pair).and_then(Option::as_ref);
            sources.extend(receiver.map(|receiver| source(receiver.kick_fd(), token)));
            let sender = running.senders.get(pair).and_then(Option::as_ref);
            sources.extend(sender.map(|sender| source(sender.kick_fd(), token + 1)));
            let far = self.plug.source(pair).filter(|_| self.listens(pair));
            sources.extend(far.map(|fd| source(fd, token + 2)));
        }
        sources
    }

    fn event(&mut self, token: Token) -> Result<Change> {
        let before = self.listening();
        match token {
            CONTROL => self.control()?,
            RECEIVE_TIMER => {
                self.receive.event();
                for pair in 0..self.plug.pairs() {
                    self.answer(pair)?;
                }
            }
            HELD_TIMER => {
                if self.held.event(self.holds()) {
                    self.tell();
                }
            }
            SEND_TIMER => {
                self.send.event();
                for pair in 0..self.plug.pairs() {
                    self.send_on(pair)?;
                }
            }
            token => {
                let pair = (token - PAIRS) as usize / 3;
                match (token - PAIRS) % 3 {
                    0 => self.receive_on(pair, true)?,
                    1 => self.send_on(pair)?,
                    _ => {
                        self.plug.poll()?;
                        self.receive_on(pair, false)?;
                    }
                }
            }
        }
        Ok(if self.listening() == before { Change::Nothing } else { Change::Sources })
    }

    fn save(&mut self) -> Result<Saved> {
        self.tell();
        let mut rings = vec![None; self.sizes.len()];
        let mut state = State { pairs: 1, offload: None };
        if let Some(running) = &self.running {
            for (pair, receiver) in running.receivers.iter().enumerate() {
                rings[2 * pair] = receiver.as_ref().map(Receiver::state);
            }
            for (pair, sender) in running.senders.iter().enumerate() {
                rings[2 * pair + 1] = sender.as_ref().map(Sender::state);
            }
            rings[running.control_index] = running.control.as_ref().map(Ring::state);
            state = State { pairs: running.active, offload: Some(running.offload.bits()) };
        }
        Ok(Saved { rings, device: DeviceState::Net(state) })
    }

    fn restore(&mut self, saved: &DeviceState) -> Result<()> {
        let DeviceState::Net(state) = saved else {
            return Err(Error::State { kind: KIND, cause: "it is another device's".into() });
        };
        self.restored = Some(state.clone());
        Ok(())
    }

    fn counters(&self) -> device::Counters {
        device::Counters::Net(self.counters)
    }
}
