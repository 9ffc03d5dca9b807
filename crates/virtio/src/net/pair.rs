//! Frames from the other end of the cable into guest memory, and back.

use super::Counters;
use super::cable::Port;
use super::held::MANY;
use crate::chain::Chain;
use crate::error::Result;
use crate::limiter::Limiter;
use crate::ring::{Ring, RingState};
use insula_sys::guest;
use insula_usernet::Frame;
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::RawFd;
use vm_memory::VolatileSlice;

/// `virtio_net_hdr` with `num_buffers` (section 5.1.6), whose place is 10.
pub(super) const HEADER: u32 = 12;
const NUM_BUFFERS: u32 = 10;
/// The largest frame: of a packet of 64 KiB (section 5.1.6.3.1), with two VLAN tags.
const LARGEST: usize = HEADER as usize + 14 + 8 + 65535;
/// A frame of 1500 bytes (section 5.1.6.3.1).
const ORDINARY: usize = HEADER as usize + 14 + 1500;
/// A frame is read into so many buffers of the guest's; what is beyond goes by a buffer of ours. Most fit into one or two, and each costs
/// time in every call.
const STRAIGHT: usize = 8;
/// Most frames of one event: the others of the machine want their turn.
const TURN: usize = 256;

/// The receiving half of a pair.
#[derive(Debug)]
pub(super) struct Receiver {
    ring: Ring,
    mergeable: bool,
    /// Buffers taken and not filled yet, in order.
    held: VecDeque<Chain>,
    room: usize,
    starved: bool,
    spill: Vec<u8>,
}

impl Receiver {
    pub(super) fn new(ring: Ring, mergeable: bool) -> Receiver {
        Receiver { ring, mergeable, held: VecDeque::new(), room: 0, starved: false, spill: vec![0; LARGEST] }
    }

    pub(super) fn kick_fd(&self) -> RawFd {
        self.ring.kick_fd()
    }

    /// There is no buffer for a frame; the driver kicks when there is.
    pub(super) fn starved(&self) -> bool {
        self.starved
    }

    pub(super) fn state(&self) -> RingState {
        self.ring.state()
    }

    pub(super) fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Takes frames, as long as there are any, and buffers for them. Whether the guest was interrupted.
    pub(super) fn serve(
        &mut self,
        mut port: Port<'_>,
        limiter: &mut Limiter,
        counters: &mut Counters,
        kicked: bool,
    ) -> Result<bool> {
        if kicked || self.starved {
            self.starved = false;
        }
        if kicked {
            self.ring.begin()?
        } else {
            self.ring.go_on()?
        }
        // What a tap still has, it says again. Our network doesn't, and the ring's own share bounds it.
        let most = if matches!(port, Port::Tap(_)) { TURN } else { usize::MAX };
        for _ in 0..most {
            if !self.gather()? {
                self.starved = true;
                break;
            }
            if !limiter.pass(0) {
                break;
            }
            let taken = match &mut port {
                Port::Tap(tap) => self.frame(tap, limiter, counters)?,
                Port::User(network) => match network.receive(self.room_for_one()) {
                    Some(frame) => self.put(&frame, limiter, counters)?,
                    None => false,
                },
            };
            if !taken {
                limiter.give_back(0);
                break;
            }
        }
        let due = self.ring.due()?;
        if due {
            self.ring.interrupt();
        }
        Ok(due)
    }

    /// Takes buffers from the driver until the largest frame fits, or there are no more; false if not even an ordinary one does.
    fn gather(&mut self) -> Result<bool> {
        // Without merging, one buffer is for one frame (section 5.1.6.3.1).
        let enough = if self.mergeable { LARGEST } else { 1 };
        loop {
            while self.room < enough {
                let Some(chain) = self.ring.pop()? else { break };
                // The header has to fit into the first, so what is smaller is of no use.
                if chain.writable().len() < HEADER {
                    self.ring.push(chain, 0)?;
                    continue;
                }
                self.room += chain.writable().len() as usize;
                self.held.push_back(chain);
            }
            // A driver may never bring as much as the largest frame needs; then the larger are dropped, and not all.
            if self.room >= enough.min(ORDINARY) || self.ring.taken() >= self.ring.size() {
                return Ok(!self.held.is_empty());
            }
            // Kicks are only asked for where one is waited for.
            if self.ring.idle()? {
                return Ok(false);
            }
        }
    }

    /// How large a frame can be now.
    fn room_for_one(&self) -> usize {
        let most = if self.mergeable { self.held.len() } else { 1 };
        self.held.iter().take(most).map(|chain| chain.writable().len() as usize).sum()
    }

    /// Takes a frame that isn't larger than that.
    fn put(&mut self, frame: &Frame<'_>, limiter: &mut Limiter, counters: &mut Counters) -> Result<bool> {
        let length = frame.len();
        limiter.charge(length as u64);
        counters.received_packets += 1;
        counters.received_bytes += (length as u64).saturating_sub(u64::from(HEADER));
        let mut slices: Vec<VolatileSlice<'_>> = Vec::new();
        let mut room = 0;
        for chain in &self.held {
            if room >= length {
                break;
            }
            room += chain.writable().len() as usize;
            slices.extend(chain.writable().slices(self.ring.memory(), 0, chain.writable().len()));
        }
        frame.copy_to(&slices);
        drop(slices);
        self.give(length).map(|()| true)
    }

    /// Takes one frame from a tap; false if there is none.
    fn frame(&mut self, tap: impl AsFd, limiter: &mut Limiter, counters: &mut Counters) -> Result<bool> {
        let straight = if self.mergeable { STRAIGHT } else { 1 };
        let mut slices: Vec<VolatileSlice<'_>> = Vec::with_capacity(straight + 1);
        let mut room = 0;
        for chain in self.held.iter().take(straight) {
            let writable = chain.writable();
            let pieces = writable.slices(self.ring.memory(), 0, writable.len());
            // A chain of very many pieces alone is more than the kernel takes, with the one of ours.
            if slices.len() + pieces.len() >= guest::PIECES {
                break;
            }
            room += writable.len() as usize;
            slices.extend(pieces);
        }
        slices.push(VolatileSlice::from(self.spill.as_mut_slice()));
        let length = match guest::read(tap, &slices) {
            Ok(0) | Err(Errno::AGAIN) => return Ok(false),
            Ok(length) => length,
            // The tap is down, or gone: no frames for now.
            Err(_) => return Ok(false),
        };
        drop(slices);
        limiter.charge(length as u64);
        if length < HEADER as usize || !self.spread(length, room) {
            // Dropped, as a card does that has no room; the buffers are filled by the next frame.
            counters.received_dropped += 1;
            return Ok(true);
        }
        counters.received_packets += 1;
        counters.received_bytes += length as u64 - u64::from(HEADER);
        self.give(length).map(|()| true)
    }

    /// Copies what didn't fit into the first buffers into the next; false if there is no room in all of them.
    fn spread(&mut self, length: usize, straight: usize) -> bool {
        let mut start = 0;
        let most = if self.mergeable { self.held.len() } else { 1 };
        if length > self.held.iter().take(most).map(|chain| chain.writable().len() as usize).sum() {
            return false;
        }
        for chain in self.held.iter().take(most) {
            if start >= length {
                break;
            }
            let end = (start + chain.writable().len() as usize).min(length);
            if start >= straight {
                chain.writable().write(self.ring.memory(), 0, &self.spill[start - straight..end - straight]);
            }
            start += chain.writable().len() as usize;
        }
        true
    }

    /// Gives the filled buffers to the driver.
    fn give(&mut self, length: usize) -> Result<()> {
        let mut count: u16 = 0;
        let mut covered = 0;
        for chain in &self.held {
            count += 1;
            covered += chain.writable().len() as usize;
            if covered >= length {
                break;
            }
        }
        if let Some(first) = self.held.front() {
            first.writable().write(self.ring.memory(), NUM_BUFFERS, &count.to_le_bytes());
        }
        let mut left = length;
        for chain in self.held.drain(..usize::from(count)) {
            let size = chain.writable().len() as usize;
            let filled = size.min(left);
            self.room -= size;
            left -= filled;
            self.ring.push(chain, filled as u32)?;
        }
        Ok(())
    }
}

/// The sending half of a pair.
#[derive(Debug)]
pub(super) struct Sender {
    ring: Ring,
    /// Frames that are gone and that the guest wants to hear of.
    held: u16,
}

impl Sender {
    pub(super) fn new(ring: Ring) -> Sender {
        Sender { ring, held: 0 }
    }

    pub(super) fn kick_fd(&self) -> RawFd {
        self.ring.kick_fd()
    }

    pub(super) fn state(&self) -> RingState {
        self.ring.state()
    }

    /// Whether the guest is to hear of frames that are gone.
    pub(super) fn holds(&self) -> bool {
        self.held > 0
    }

    /// Tells the guest what it is to hear.
    pub(super) fn tell(&mut self) {
        if std::mem::take(&mut self.held) > 0 {
            self.ring.interrupt();
        }
    }

    /// The guest was interrupted for the other half: what it is to hear goes along.
    pub(super) fn tell_along(&mut self, other: &Receiver) {
        if self.ring.shares_with(other.ring()) {
            self.held = 0;
        }
        self.tell();
    }

    /// Hands the guest's frames on, and keeps back that they are gone, unless they are many. One that the kernel doesn't take is lost, as on
    /// a wire.
    pub(super) fn serve(&mut self, port: Port<'_>, limiter: &mut Limiter, counters: &mut Counters) -> Result<()> {
        let gone = self.hand_on(port, limiter, counters)?;
        if self.ring.due()? || self.holds() {
            self.held = self.held.saturating_add(gone.max(1));
        }
        if self.held >= self.ring.size() / MANY {
            self.tell();
        }
        Ok(())
    }

    /// Hands frames on; how many.
    fn hand_on(&mut self, mut port: Port<'_>, limiter: &mut Limiter, counters: &mut Counters) -> Result<u16> {
        let mut gone: u16 = 0;
        self.ring.begin()?;
        loop {
            while let Some(chain) = self.ring.pop()? {
                let frame = chain.readable();
                if !limiter.pass(frame.len().into()) {
                    self.ring.unpop(chain);
                    return Ok(gone);
                }
                let whole = frame.len() > HEADER && frame.len() as usize <= LARGEST && frame.pieces().len() <= guest::PIECES;
                if whole && port.send(&frame.slices(self.ring.memory(), 0, frame.len())) {
                    counters.sent_packets += 1;
                    counters.sent_bytes += u64::from(frame.len() - HEADER);
                } else {
                    counters.sent_dropped += 1;
                }
                self.ring.push(chain, 0)?;
                gone = gone.saturating_add(1);
            }
            if self.ring.idle()? {
                return Ok(gone);
            }
        }
    }
}
