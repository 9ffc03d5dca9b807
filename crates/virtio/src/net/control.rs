//! The control queue (section 5.1.6.5): how many pairs take part, and what the driver can take.

use super::{Net, offload_of};
use crate::chain::Chain;
use crate::error::Result;
use insula_vm::memory::GuestMemory;
use virtio_bindings::virtio_net::{
    VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
    VIRTIO_NET_ERR, VIRTIO_NET_OK,
};

/// What the driver asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Command {
    Pairs(u16),
    Offloads(u64),
}

/// A class, a command, and what belongs to it; the last writable byte is for the answer.
fn parse(chain: &Chain, memory: &GuestMemory) -> Option<Command> {
    let [class, command] = chain.readable().array(memory, 0)?;
    match (u32::from(class), u32::from(command)) {
        (VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET) => {
            chain.readable().array(memory, 2).map(|bytes| Command::Pairs(u16::from_le_bytes(bytes)))
        }
        (VIRTIO_NET_CTRL_GUEST_OFFLOADS, VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET) => {
            chain.readable().array(memory, 2).map(|bytes| Command::Offloads(u64::from_le_bytes(bytes)))
        }
        _ => None,
    }
}

impl Net {
    /// Serves the control queue.
    pub(super) fn control(&mut self) -> Result<()> {
        let Some(mut ring) = self.running.as_mut().and_then(|running| running.control.take()) else { return Ok(()) };
        ring.begin()?;
        loop {
            while let Some(chain) = ring.pop()? {
                let done = parse(&chain, ring.memory()).is_some_and(|command| self.command(command));
                let answer = if done { VIRTIO_NET_OK } else { VIRTIO_NET_ERR } as u8;
                let last = chain.writable().len().checked_sub(1);
                let written = last.map_or(0, |at| chain.writable().write(ring.memory(), at, &[answer]));
                ring.push(chain, written as u32)?;
            }
            if ring.idle()? {
                break;
            }
        }
        ring.signal()?;
        if let Some(running) = &mut self.running {
            running.control = Some(ring);
        }
        Ok(())
    }

    fn command(&mut self, command: Command) -> bool {
        let most = self.running.as_ref().map_or(0, |running| running.receivers.len());
        match command {
            Command::Pairs(count) if count >= 1 && usize::from(count) <= most => self.set_pairs(count).is_ok(),
            Command::Pairs(_) => false,
            Command::Offloads(features) => self.plug.offloads() && self.set_offload(offload_of(features)).is_ok(),
        }
    }
}
