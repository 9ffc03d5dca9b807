//! What a card's cable is plugged into.

use crate::error::{Error, Result};
use insula_sys::guest;
use insula_sys::tap::{self, Offload};
use insula_usernet::Network;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use serde::{Deserialize, Serialize};
use std::os::fd::RawFd;
use vm_memory::VolatileSlice;

/// The other end, as asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cable {
    /// A tap of this name.
    Tap(String),
    /// A network of our own, which needs no privilege.
    User(insula_usernet::Config),
}

impl Default for Cable {
    fn default() -> Cable {
        Cable::Tap(String::new())
    }
}

/// The other end.
#[derive(Debug)]
pub(super) enum Plug {
    /// One queue of a tap for each pair.
    Taps {
        queues: Vec<OwnedFd>,
        /// They take offloads; what isn't a tap (a socket) doesn't.
        offloads: bool,
    },
    User(Box<Network>),
}

/// Where one pair's frames come from and go to.
pub(super) enum Port<'a> {
    Tap(&'a OwnedFd),
    User(&'a mut Network),
}

impl Port<'_> {
    /// Sends a frame; false if it is lost.
    pub(super) fn send(&mut self, frame: &[VolatileSlice<'_>]) -> bool {
        match self {
            Port::Tap(tap) => guest::write(tap, frame).is_ok(),
            Port::User(network) => {
                network.send(frame);
                true
            }
        }
    }
}

impl Plug {
    pub(super) fn taps(queues: Vec<OwnedFd>) -> Plug {
        let offloads = queues.first().is_some_and(|queue| tap::set_offload(queue, Offload::empty()).is_ok());
        Plug::Taps { queues, offloads }
    }

    /// How many pairs it has.
    pub(super) fn pairs(&self) -> usize {
        match self {
            Plug::Taps { queues, .. } => queues.len(),
            Plug::User(_) => 1,
        }
    }

    /// Whether it leaves checksums and segments to the guest.
    pub(super) fn offloads(&self) -> bool {
        matches!(self, Plug::Taps { offloads: true, .. } | Plug::User(_))
    }

    pub(super) fn port(&mut self, pair: usize) -> Option<Port<'_>> {
        match self {
            Plug::Taps { queues, .. } => queues.get(pair).map(Port::Tap),
            Plug::User(network) => Some(Port::User(network)),
        }
    }

    /// What to wait for on behalf of a pair.
    pub(super) fn source(&self, pair: usize) -> Option<RawFd> {
        match self {
            Plug::Taps { queues, .. } => queues.get(pair).map(AsRawFd::as_raw_fd),
            Plug::User(network) => Some(network.as_fd().as_raw_fd()),
        }
    }

    /// Whether it stays readable as long as there are frames. Our network says once that it has news, and knows them from then on.
    pub(super) fn insists(&self) -> bool {
        matches!(self, Plug::Taps { .. })
    }

    /// Lets so many pairs take part; none of the others gets a frame.
    pub(super) fn set_pairs(&self, count: u16) {
        if let Plug::Taps { queues, offloads: true } = self
            && queues.len() > 1
        {
            for (index, queue) in queues.iter().enumerate() {
                // Saying again what is so already is an error that does no harm; the first always takes part.
                let _ = tap::set_queue(queue, index < usize::from(count));
            }
        }
    }

    pub(super) fn set_offload(&mut self, offload: Offload) -> Result<()> {
        match self {
            Plug::Taps { queues, offloads: true } => queues.iter().try_for_each(|queue| Ok(tap::set_offload(queue, offload)?)),
            Plug::Taps { .. } => Ok(()),
            Plug::User(network) => {
                network.set_offload(offload);
                Ok(())
            }
        }
    }

    /// Something has happened on the other side.
    pub(super) fn poll(&mut self) -> Result<()> {
        match self {
            Plug::Taps { .. } => Ok(()),
            Plug::User(network) => network.poll().map_err(Error::Network),
        }
    }

    /// The driver is gone, and what it had begun goes with it.
    pub(super) fn clear(&mut self) {
        if let Plug::User(network) = self {
            network.clear();
        }
    }
}
