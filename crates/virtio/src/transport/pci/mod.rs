//! A device as a function on PCI (section 4.1): a configuration space, registers, and interrupts that are messages (MSI-X).
//!
//! Two base addresses. The first has the registers, which the guest reads as memory; the second the doorbells, one for each queue, of which
//! KVM makes events:
//!
//! ```text
//! BAR 0   0x0000  common configuration     0x1000  MSI-X table
//!         0x0200  interrupt status         0x1800  which messages wait
//!         0x0300  the device's own
//! BAR 2   0x0000  doorbells, 4 bytes each
//! ```
//!
//! Functions lie where [`Place`] says, as firmware has left them: a base address can be written, as a driver does to learn its size, but what
//! lies there doesn't move. There is no interrupt pin, so a driver without MSI-X hears nothing; Linux's has it.

mod msix;
mod space;
#[cfg(test)]
mod tests;

use super::common::{Area, Core, Field};
use crate::device::Change;
use crate::error::Result;
use crate::interrupt::{Choice, Messages};
use insula_vm::window::{PAGE, Page};
use msix::Table;
use serde::{Deserialize, Serialize};
use space::Space;
use std::sync::Arc;

/// Bytes that the registers of a function take.
pub const REGISTERS: u64 = 2 * PAGE as u64;
/// Bytes that its doorbells take. As an offset into registers they follow them: at [`REGISTERS`].
pub const DOORBELLS: u64 = PAGE as u64;
/// Between the doorbells of two queues.
pub const DOORBELL: u64 = 4;
/// Where in the registers what begins.
const STATUS: u32 = 0x200;
const DEVICE: u32 = 0x300;
/// No device's configuration is longer.
const DEVICE_SIZE: u32 = 128;
const TABLE: u32 = 0x1000;
const PENDING: u32 = 0x1800;

/// Where a function lies, and what is read there.
#[derive(Debug)]
pub struct Place {
    /// The configuration space.
    pub space: Page,
    /// The registers.
    pub registers: [Page; 2],
    /// Where the guest finds the registers and the doorbells.
    pub addresses: [u32; 2],
    /// Its device has other functions.
    pub several: bool,
}

/// By whom messages reach the guest.
pub trait Route: Send {
    /// From now on, the event of this message is sent so: what is written where.
    fn set(&mut self, message: u16, address: u64, data: u32);
}

/// What a function has beside its device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    space: Vec<u8>,
    table: Vec<[u32; 4]>,
    choice: Choice,
}

/// A function.
pub(super) struct Function {
    space: Space,
    table: Table,
    registers: [Page; 2],
    messages: Arc<Messages>,
}

impl Function {
    pub(super) fn new(core: &Core, place: Place, messages: Arc<Messages>, route: Box<dyn Route>) -> Function {
        let Place { space, registers, addresses, several } = place;
        let space = Space::new(space, core.device.kind(), addresses, messages.count(), several);
        let table = Table::new(registers[1].clone(), messages.clone(), route);
        Function { space, table, registers, messages }
    }

    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        match offset.checked_sub(PAGE as u64) {
            None => self.registers[0].get(offset, data),
            Some(offset) => self.registers[1].get(offset, data),
        }
    }

    /// Brings up to date what the guest reads.
    pub(super) fn publish(&self, core: &Core) {
        let page = &self.registers[0];
        page.put(0, &self.common(core));
        let mut configuration = [0; DEVICE_SIZE as usize];
        core.device.read_config(0, &mut configuration);
        page.put(DEVICE, &configuration);
        self.registers[1].put(PENDING - TABLE, &self.messages.pending().to_le_bytes());
        if let Some((offset, length)) = self.space.door() {
            let mut data = [0; 4];
            self.read(offset, &mut data[..length]);
            self.space.show_through_door(data);
        }
    }

    /// Section 4.1.4.3. What is as long as 8 bytes is read in halves, too.
    fn common(&self, core: &Core) -> [u8; 0x38] {
        let registers = &core.registers;
        let selected = registers.queue_select;
        let queue = core.queue().copied();
        let mut bytes = [0; 0x38];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0x00, &registers.device_features_select.to_le_bytes());
        put(0x04, &core.offered_half().to_le_bytes());
        put(0x08, &registers.driver_features_select.to_le_bytes());
        put(0x0c, &core.accepted_half().to_le_bytes());
        put(0x10, &self.messages.chosen(None).to_le_bytes());
        put(0x12, &(core.kicks.len() as u16).to_le_bytes());
        put(0x14, &[registers.status as u8, core.interrupt.generation() as u8]);
        put(0x16, &(selected as u16).to_le_bytes());
        put(0x1a, &self.messages.chosen(Some(selected)).to_le_bytes());
        if let Some(queue) = queue {
            put(0x18, &(queue.size as u16).to_le_bytes());
            put(0x1c, &u16::from(queue.ready).to_le_bytes());
            put(0x1e, &(selected as u16).to_le_bytes());
            put(0x20, &queue.descriptors.to_le_bytes());
            put(0x28, &queue.available.to_le_bytes());
            put(0x30, &queue.used.to_le_bytes());
        }
        bytes
    }

    /// The driver writes: into the registers, or behind them, at a doorbell.
    pub(super) fn write(&mut self, core: &mut Core, offset: u64, data: &[u8]) -> Result<Change> {
        let device = u64::from(DEVICE)..u64::from(DEVICE + DEVICE_SIZE);
        match offset {
            0..0x38 => return self.write_common(core, offset as u32, data),
            _ if device.contains(&offset) => core.write_config(offset - device.start, data),
            _ if (u64::from(TABLE)..u64::from(PENDING)).contains(&offset) => {
                self.table.write((offset - u64::from(TABLE)) as u32, data);
            }
            // The usual kick never comes here; KVM turns it into the event itself.
            REGISTERS.. => core.kick(u32::try_from((offset - REGISTERS) / DOORBELL).unwrap_or(u32::MAX)),
            _ => {}
        }
        Ok(Change::Nothing)
    }

    fn write_common(&mut self, core: &mut Core, offset: u32, data: &[u8]) -> Result<Change> {
        let selected = core.registers.queue_select;
        match (offset, data) {
            (0x14, &[status]) => return core.set_status(status.into()),
            (_, &[low, high]) => {
                let value = u16::from_le_bytes([low, high]);
                match offset {
                    0x10 => self.messages.choose(None, value),
                    0x16 => core.registers.queue_select = value.into(),
                    0x18 => core.set_queue(Field::Size, value.into()),
                    0x1a => self.messages.choose(Some(selected), value),
                    0x1c => core.set_queue(Field::Ready, value.into()),
                    _ => {}
                }
            }
            (_, &[a, b, c, d]) => {
                let value = u32::from_le_bytes([a, b, c, d]);
                match offset {
                    0x00 => core.registers.device_features_select = value,
                    0x08 => core.registers.driver_features_select = value,
                    0x0c => core.set_features(value),
                    0x20..0x38 => {
                        let area = [Area::Descriptors, Area::Available, Area::Used][(offset as usize - 0x20) / 8];
                        match offset % 8 {
                            0 => core.set_queue(Field::Low(area), value),
                            4 => core.set_queue(Field::High(area), value),
                            _ => {}
                        }
                    }
                    _ => {}
                }
            }
            (0x20 | 0x28 | 0x30, &[a, b, c, d, e, f, g, h]) => {
                let _ = self.write_common(core, offset, &[a, b, c, d])?;
                return self.write_common(core, offset + 4, &[e, f, g, h]);
            }
            _ => {}
        }
        Ok(Change::Nothing)
    }

    pub(super) fn read_space(&self, offset: u64, data: &mut [u8]) {
        self.space.read(offset, data);
    }

    pub(super) fn write_space(&mut self, core: &mut Core, offset: u64, data: &[u8]) -> Result<Change> {
        let through = self.space.write(offset, data);
        self.table.set_on(self.space.messages_are_on());
        match through {
            Some((offset, data, length)) => self.write(core, offset, &data[..length]),
            None => Ok(Change::Nothing),
        }
    }

    pub(super) fn save(&self) -> State {
        State { space: self.space.save(), table: self.table.save(), choice: self.messages.choice() }
    }

    pub(super) fn fits(&self, state: &State) -> bool {
        state.table.len() == usize::from(self.messages.count())
    }

    pub(super) fn restore(&mut self, state: State) {
        self.space.restore(&state.space);
        self.messages.set_choice(&state.choice);
        self.table.restore(&state.table);
        self.table.set_on(self.space.messages_are_on());
    }
}
