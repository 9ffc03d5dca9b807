//! A network for whoever is behind a tap: another network namespace, as a rule.

use crate::error::Result;
use crate::network::Network;
use insula_sys::error::Context;
use insula_sys::tap::{self, Offload};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::AsFd;
use rustix::io::Errno;
use std::io::IoSlice;
use vm_memory::VolatileSlice;

/// The largest frame, with its header.
const LARGEST: usize = 12 + 14 + 65535;
/// Most frames of the guest's before it gets one, so that acknowledgements don't wait for long.
const TURN: usize = 16;

/// Carries frames between a tap (opened by [`tap::open`]) and a network, until `end` is readable or the tap is gone.
///
/// # Errors
/// The tap can't do offloads, or the host's kernel fails us.
pub fn carry(network: &mut Network, tap: impl AsFd, end: impl AsFd) -> Result<()> {
    let offload = Offload::CHECKSUM | Offload::TSO4 | Offload::TSO6;
    tap::set_offload(&tap, offload)?;
    network.set_offload(offload);
    let mut buffer = vec![0; LARGEST];
    loop {
        let tap_ready = {
            let wanted = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
            let mut waited = [wanted(tap.as_fd()), wanted(network.as_fd()), wanted(end.as_fd())];
            match poll(&mut waited, None) {
                Err(Errno::INTR) => continue,
                result => result.on("wait for", "the tap")?,
            };
            let [tap, network, end] = waited.map(|fd| fd.revents());
            if !end.is_empty() {
                return Ok(());
            }
            (tap, network)
        };
        if !tap_ready.1.is_empty() {
            network.poll()?;
        }
        if !tap_ready.0.is_empty() && !take(network, &tap, &mut buffer)? {
            return Ok(());
        }
        give(network, &tap);
    }
}

/// Takes frames from the tap; false if it is gone.
fn take(network: &mut Network, tap: impl AsFd, buffer: &mut [u8]) -> Result<bool> {
    for _ in 0..TURN {
        match rustix::io::read(&tap, &mut *buffer) {
            Ok(length) => network.send(&[VolatileSlice::from(&mut buffer[..length])]),
            Err(Errno::AGAIN | Errno::INTR) => break,
            // Its namespace has ended.
            Err(Errno::BADFD) => return Ok(false),
            Err(errno) => return Err(errno).on("read from", "the tap")?,
        }
    }
    Ok(true)
}

/// Gives the tap all there is for it. What it doesn't take is lost, and sent again.
fn give(network: &mut Network, tap: impl AsFd) {
    while let Some(frame) = network.receive(usize::MAX) {
        let _ = rustix::io::writev(&tap, &frame.pieces().map(IoSlice::new));
    }
}
