//! The socket device (section 5.10): streams between programs of the guest and sockets of the host's, in Firecracker's convention.
//!
//! - A program of the host's connects to the socket at `path`, says `CONNECT port\n`, and reads `OK its-port\n` once a program of the guest's
//!   listening there has accepted.
//! - A program of the guest's that connects to port N of the host is connected to whoever listens at `path_N`.
//!
//! ```text
//! guest ──tx──> mux: by its ports, a Connection ──write, or wait──> socket
//! guest <──rx── mux: whoever has news, in turn  <──read───────────── socket ──epoll, once──┘
//! ```
//!
//! Both sides say how much they can take (section 5.10.6.3). What doesn't fit into a socket waits here, up to 128 KiB a connection; a
//! guest that sends more than it may is reset. Bytes for the guest are read from the socket into its memory, when it has room.

mod connection;
mod mux;
mod packet;
#[cfg(test)]
mod tests;

use crate::device::{self, Activation, Change, Device, DeviceState, Saved, Source, Token, read_bytes};
use crate::error::{Error, Result};
use crate::ring::Ring;
use mux::Mux;
use packet::HEADER;
use rustix::event::PollFlags;
use rustix::fd::{AsFd, AsRawFd};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Section 5.10: its number.
pub const KIND: u32 = 19;
/// To receive, to send, and for events (section 5.10.2).
const SIZES: [u16; 3] = [256, 256, 16];
const RECEIVE: Token = 0;
const SEND: Token = 1;
const EVENTS: Token = 2;
const SOCKETS: Token = 3;
/// A buffer that is smaller than this is of no use.
const SMALLEST: u32 = HEADER + 20;

/// What it is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The guest's address: from 3 up, below 2³² - 1 (section 5.10.4).
    pub cid: u32,
    /// Where the host's programs find the guest's. The socket is made here, and removed when the device goes.
    pub path: PathBuf,
}

/// What has to be known to go on. Connections don't go along; the guest is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    cid: u32,
}

/// What it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Connections that there are now.
    pub connections: u64,
    /// Packets that the guest got.
    pub received_packets: u64,
    /// Packets that the guest sent.
    pub sent_packets: u64,
}

/// The device.
#[derive(Debug)]
pub struct Vsock {
    counters: Counters,
    cid: u32,
    mux: Mux,
    running: Option<Running>,
    /// All connections of before are gone (VIRTIO_VSOCK_EVENT_TRANSPORT_RESET, section 5.10.6.7).
    lost: bool,
}

/// The queues, while there is a driver.
#[derive(Debug)]
struct Running {
    receive: Option<Ring>,
    send: Option<Ring>,
    events: Option<Ring>,
}

impl Vsock {
    /// Listens at the path.
    ///
    /// # Errors
    /// An address that can't be; something is at the path already, or it can't be made.
    pub fn new(config: &Config) -> Result<Vsock> {
        if !(3..u32::MAX).contains(&config.cid) {
            let cause = format!("{} can't be a guest's address; the smallest is 3, the largest 4294967294", config.cid);
            return Err(Error::Config { device: "vsock", cause });
        }
        let mux = Mux::new(config.cid, &config.path)?;
        Ok(Vsock { counters: Counters::default(), cid: config.cid, mux, running: None, lost: false })
    }

    /// Takes the guest's packets.
    fn send(&mut self) -> Result<()> {
        let Some(ring) = self.running.as_mut().and_then(|running| running.send.as_mut()) else { return Ok(()) };
        ring.begin()?;
        loop {
            while let Some(chain) = ring.pop()? {
                self.mux.take(&chain, ring.memory());
                self.counters.sent_packets += 1;
                ring.push(chain, 0)?;
            }
            if ring.idle()? {
                break;
            }
        }
        ring.signal()
    }

    /// Gives the guest what there is for it, as long as it has buffers.
    fn receive(&mut self) -> Result<()> {
        let Some(ring) = self.running.as_mut().and_then(|running| running.receive.as_mut()) else { return Ok(()) };
        if !self.mux.has_news() {
            return Ok(());
        }
        ring.begin()?;
        'news: while self.mux.has_news() {
            while let Some(chain) = ring.pop()? {
                if chain.writable().len() < SMALLEST {
                    ring.push(chain, 0)?;
                    continue;
                }
                match self.mux.give(&chain, ring.memory()) {
                    Some(written) => {
                        self.counters.received_packets += 1;
                        ring.push(chain, written)?;
                    }
                    None => {
                        ring.unpop(chain);
                        continue 'news;
                    }
                }
            }
            if ring.idle()? {
                break;
            }
        }
        ring.signal()
    }

    /// Section 5.10.6.7: tells that all connections are gone.
    fn announce(&mut self) -> Result<()> {
        let Some(ring) = self.running.as_mut().and_then(|running| running.events.as_mut()) else { return Ok(()) };
        // Also if there is nothing to tell: else the kick would stay.
        ring.begin()?;
        if self.lost
            && let Some(chain) = ring.pop()?
        {
            let written = chain.writable().write(ring.memory(), 0, &0_u32.to_le_bytes());
            ring.push(chain, written as u32)?;
            self.lost = false;
        }
        ring.idle()?;
        ring.signal()
    }
}

impl Device for Vsock {
    fn kind(&self) -> u32 {
        KIND
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_bytes(&u64::from(self.cid).to_le_bytes(), offset, data);
    }

    fn activate(&mut self, mut start: Activation) -> Result<()> {
        let (receive, send, events) = (start.queue(0), start.queue(1), start.queue(2));
        self.running = Some(Running { receive, send, events });
        Ok(())
    }

    fn reset(&mut self) {
        self.running = None;
        self.mux.clear();
    }

    fn sources(&self) -> Vec<Source> {
        let Some(running) = &self.running else { return Vec::new() };
        let source = |fd, token| Source { fd, token, interest: PollFlags::IN };
        let kick = |ring: &Option<Ring>, token| ring.as_ref().map(|ring| source(ring.kick_fd(), token));
        let kicks = [kick(&running.receive, RECEIVE), kick(&running.send, SEND), kick(&running.events, EVENTS)];
        let sockets = Some(source(self.mux.as_fd().as_raw_fd(), SOCKETS));
        kicks.into_iter().chain([sockets]).flatten().collect()
    }

    fn event(&mut self, token: Token) -> Result<Change> {
        if self.running.is_none() {
            return Ok(Change::Nothing);
        }
        match token {
            RECEIVE => {
                // Taken here too, as `receive` doesn't look at the queue when there is nothing for it.
                if let Some(ring) = self.running.as_mut().and_then(|running| running.receive.as_mut()) {
                    ring.begin()?;
                }
            }
            SEND => self.send()?,
            EVENTS => self.announce()?,
            _ => self.mux.poll()?,
        }
        // Whatever came, there may be an answer.
        self.receive()?;
        Ok(Change::Nothing)
    }

    fn save(&mut self) -> Result<Saved> {
        let state = |ring: &Option<Ring>| ring.as_ref().map(Ring::state);
        let rings = match &self.running {
            Some(running) => vec![state(&running.receive), state(&running.send), state(&running.events)],
            None => vec![None; SIZES.len()],
        };
        Ok(Saved { rings, device: DeviceState::Vsock(State { cid: self.cid }) })
    }

    fn restore(&mut self, saved: &DeviceState) -> Result<()> {
        let DeviceState::Vsock(_) = saved else {
            return Err(Error::State { kind: KIND, cause: "it is another device's".into() });
        };
        self.lost = true;
        Ok(())
    }

    fn counters(&self) -> device::Counters {
        device::Counters::Vsock(Counters { connections: self.mux.count() as u64, ..self.counters })
    }
}
