//! Which device answers an access of the guest's.

use crate::devices::Devices;
use crate::ports::Ports;
use std::sync::Arc;

/// All devices.
pub(crate) struct Bus {
    pub(crate) ports: Arc<Ports>,
    pub(crate) devices: Devices,
}

impl insula_vm::vcpu::Bus for Bus {
    fn read_port(&self, port: u16, data: &mut [u8]) {
        self.ports.read(port, data);
    }

    fn write_port(&self, port: u16, data: &[u8]) -> bool {
        self.ports.write(port, data);
        // Having switched itself off, a guest waits for it by reading the register without end.
        self.ports.wished().is_none()
    }

    fn read(&self, address: u64, data: &mut [u8]) {
        self.devices.read(address, data);
    }

    fn write(&self, address: u64, data: &[u8]) {
        self.devices.write(address, data);
    }
}
