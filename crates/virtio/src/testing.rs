//! A driver for tests and fuzzers: it finds a device by its registers, as a guest does, and gives it requests in real guest memory.

use crate::device::{Change, Device, Token};
use crate::error::Result;
use crate::transport::Transport;
use insula_vm::memory::{Backing, GuestMemory, allocate};
use insula_vm::window::{Page, Window};
use virtio_bindings::virtio_mmio as register;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// Guest memory in a test. Queues lie below [`DATA`], one each 64 KiB.
pub const MEMORY: u64 = 8 << 20;
/// From here on memory is a test's own.
pub const DATA: u64 = 1 << 20;
/// Descriptors in each queue, if the device allows as many.
pub const SIZE: u16 = 16;

/// A piece of a request.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// Where.
    pub address: u64,
    /// How long.
    pub length: u32,
    /// For the device to write.
    pub write: bool,
}

impl Piece {
    /// One for the device to read.
    pub fn read(address: u64, length: u32) -> Piece {
        Piece { address, length, write: false }
    }

    /// One for the device to write.
    pub fn write(address: u64, length: u32) -> Piece {
        Piece { address, length, write: true }
    }
}

/// A page for a device's registers.
///
/// # Panics
/// There is no memory.
pub fn page() -> Page {
    Window::new(1).unwrap().page(0)
}

/// A queue as its driver sees it.
#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    base: u64,
    size: u16,
    next: u16,
    avail: u16,
    used: u16,
}

impl Queue {
    fn avail_ring(&self) -> u64 {
        self.base + 0x4000
    }

    fn used_ring(&self) -> u64 {
        self.base + 0x8000
    }
}

/// A driver with its device, past DRIVER_OK.
#[derive(Debug)]
pub struct Driver {
    /// The device and its registers.
    pub transport: Transport,
    /// The guest's memory.
    pub memory: GuestMemory,
    /// How long [`Driver::run`] waits for requests that aren't answered, in milliseconds.
    pub patience: i32,
    queues: Vec<Queue>,
}

impl Driver {
    /// Starts a device with these of its features (bits), and those of the transport.
    ///
    /// # Panics
    /// The device doesn't start.
    pub fn new(device: Box<dyn Device>, features: u64) -> Driver {
        let memory = allocate(MEMORY, Backing::Private).unwrap();
        let queues = device.queue_sizes().len();
        let transport = Transport::on_mmio(device, memory.clone(), page()).unwrap();
        let mut driver = Driver { transport, memory, patience: 5000, queues: vec![Queue::default(); queues] };
        driver.start(features | 3 << 28 | 1 << 32);
        driver
    }

    /// Goes through section 3.1.1, from the reset on.
    pub fn start(&mut self, features: u64) {
        for value in [0, 1, 3] {
            self.set(register::VIRTIO_MMIO_STATUS, value);
        }
        for (select, value) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.set(register::VIRTIO_MMIO_DRIVER_FEATURES_SEL, select);
            self.set(register::VIRTIO_MMIO_DRIVER_FEATURES, value);
        }
        self.set(register::VIRTIO_MMIO_STATUS, 11);
        assert_eq!(self.get(register::VIRTIO_MMIO_STATUS), 11, "the features are refused");
        for index in 0..self.queues.len() {
            self.set(register::VIRTIO_MMIO_QUEUE_SEL, index as u32);
            let size = self.get(register::VIRTIO_MMIO_QUEUE_NUM_MAX).min(SIZE.into()) as u16;
            let queue = Queue { base: 0x1_0000 * (index as u64 + 1), size, ..Queue::default() };
            self.memory.write_slice(&[0; 0x1_0000], GuestAddress(queue.base)).unwrap();
            self.set(register::VIRTIO_MMIO_QUEUE_NUM, size.into());
            self.set(register::VIRTIO_MMIO_QUEUE_DESC_LOW, queue.base as u32);
            self.set(register::VIRTIO_MMIO_QUEUE_AVAIL_LOW, queue.avail_ring() as u32);
            self.set(register::VIRTIO_MMIO_QUEUE_USED_LOW, queue.used_ring() as u32);
            self.set(register::VIRTIO_MMIO_QUEUE_READY, 1);
            assert_eq!(self.get(register::VIRTIO_MMIO_QUEUE_READY), 1, "queue {index} is refused");
            self.queues[index] = queue;
        }
        self.set(register::VIRTIO_MMIO_STATUS, 15);
    }

    /// Writes a register.
    pub fn set(&mut self, register: u32, value: u32) {
        let _: Change = self.transport.write(register.into(), &value.to_le_bytes()).unwrap();
    }

    /// Reads a register.
    pub fn get(&mut self, register: u32) -> u32 {
        let mut data = [0; 4];
        self.transport.read(register.into(), &mut data);
        u32::from_le_bytes(data)
    }

    /// Reads the device's configuration.
    pub fn config<const N: usize>(&mut self, offset: u64) -> [u8; N] {
        let mut data = [0; N];
        self.transport.read(0x100 + offset, &mut data);
        data
    }

    /// Writes one descriptor as it is.
    pub fn descriptor(&self, table: u64, index: u16, address: u64, length: u32, flags: u16, next: u16) {
        let mut raw = [0; 16];
        raw[..8].copy_from_slice(&address.to_le_bytes());
        raw[8..12].copy_from_slice(&length.to_le_bytes());
        raw[12..14].copy_from_slice(&flags.to_le_bytes());
        raw[14..].copy_from_slice(&next.to_le_bytes());
        let _ = self.memory.write_slice(&raw, GuestAddress(table + 16 * u64::from(index)));
    }

    /// Where a queue's descriptors lie.
    pub fn table(&self, queue: usize) -> u64 {
        self.queues[queue].base
    }

    /// Puts a request into a queue; answers its head. No kick.
    pub fn add(&mut self, queue: usize, pieces: &[Piece]) -> u16 {
        let Queue { base, size, next: head, .. } = self.queues[queue];
        for (count, piece) in pieces.iter().enumerate() {
            let index = (head + count as u16) % size;
            let more = u16::from(count + 1 < pieces.len());
            self.descriptor(base, index, piece.address, piece.length, more | u16::from(piece.write) << 1, (index + 1) % size);
        }
        self.queues[queue].next = (head + pieces.len() as u16) % size;
        self.offer(queue, head);
        head
    }

    /// Puts a request into a queue by one descriptor that names a table of others at `table`.
    pub fn add_indirect(&mut self, queue: usize, table: u64, pieces: &[Piece]) -> u16 {
        for (index, piece) in pieces.iter().enumerate() {
            let more = u16::from(index + 1 < pieces.len());
            self.descriptor(
                table,
                index as u16,
                piece.address,
                piece.length,
                more | u16::from(piece.write) << 1,
                index as u16 + 1,
            );
        }
        let Queue { base, size, next: head, .. } = self.queues[queue];
        self.descriptor(base, head, table, pieces.len() as u32 * 16, 4, 0);
        self.queues[queue].next = (head + 1) % size;
        self.offer(queue, head);
        head
    }

    /// Puts a head into the available ring, whatever its descriptor says.
    pub fn offer(&mut self, queue: usize, head: u16) {
        let Queue { size, avail, .. } = self.queues[queue];
        let ring = self.queues[queue].avail_ring();
        self.memory.write_obj(head, GuestAddress(ring + 4 + 2 * u64::from(avail % size))).unwrap();
        self.set_index(queue, avail.wrapping_add(1));
    }

    /// Sets the available ring's index.
    pub fn set_index(&mut self, queue: usize, index: u16) {
        self.queues[queue].avail = index;
        self.memory.write_obj(index, GuestAddress(self.queues[queue].avail_ring() + 2)).unwrap();
    }

    /// Sets the index from which on the driver wants to be interrupted (EVENT_IDX).
    pub fn set_used_event(&mut self, queue: usize, index: u16) {
        let queue = self.queues[queue];
        self.memory.write_obj(index, GuestAddress(queue.avail_ring() + 4 + 2 * u64::from(queue.size))).unwrap();
    }

    /// What the device has given back since this was asked: queue, head, bytes written.
    pub fn used(&mut self) -> Vec<(usize, u16, u32)> {
        let mut used = Vec::new();
        for (number, queue) in self.queues.iter_mut().enumerate() {
            let index: u16 = self.memory.read_obj(GuestAddress(queue.used_ring() + 2)).unwrap();
            while queue.used != index {
                let at = queue.used_ring() + 4 + 8 * u64::from(queue.used % queue.size);
                let [id, length]: [u32; 2] = self.memory.read_obj(GuestAddress(at)).unwrap();
                used.push((number, id as u16, length));
                queue.used = queue.used.wrapping_add(1);
            }
        }
        used
    }

    /// Says to the device that a source is ready; answers what it gives back then.
    ///
    /// # Errors
    /// As [`Device::event`].
    pub fn event(&mut self, token: Token) -> Result<Vec<(usize, u16, u32)>> {
        let _: Change = self.transport.event(token)?;
        Ok(self.used())
    }

    /// Kicks a queue.
    pub fn kick(&mut self, queue: usize) {
        self.set(register::VIRTIO_MMIO_QUEUE_NOTIFY, queue as u32);
    }

    /// Waits for up to five seconds until a source is ready, and serves all that are; whether there were any.
    pub fn wait(&mut self) -> bool {
        self.turn(5000)
    }

    /// One round of the event loop, as the machine has it: waits so long at most for sources, and serves those that are ready; whether any was.
    pub fn turn(&mut self, milliseconds: i32) -> bool {
        let epoll = Epoll::new().unwrap();
        for source in self.transport.sources() {
            // The bits of both are the same (epoll_ctl(2)).
            let interest = EventSet::from_bits_truncate(source.interest.bits().into());
            epoll.ctl(ControlOperation::Add, source.fd, EpollEvent::new(interest, source.token.into())).unwrap();
        }
        let mut events = [EpollEvent::default(); 32];
        let count = loop {
            // The kernel finishes work of io_uring by interrupting us.
            match epoll.wait(milliseconds, &mut events) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                result => break result.unwrap(),
            }
        };
        if count == 0 {
            return false;
        }
        let ready: Vec<Token> = events[..count].iter().map(|event| event.data() as Token).collect();
        for token in ready {
            if self.transport.event(token).is_err() {
                break;
            }
        }
        true
    }

    /// Kicks every queue and serves the device until every request is answered and nothing is ready; answers what it gave back.
    pub fn run(&mut self) -> Vec<(usize, u16, u32)> {
        for queue in 0..self.queues.len() {
            self.kick(queue);
        }
        let mut used = Vec::new();
        for round in 0.. {
            assert!(round < 2000, "the event loop spins");
            let waits = self.queues.iter().any(|queue| queue.avail != queue.used);
            if !self.turn(if waits { self.patience } else { 0 }) {
                break;
            }
            used.extend(self.used());
        }
        used
    }

    /// Whether the interrupt was raised since this was asked.
    pub fn interrupted(&mut self) -> bool {
        let raised = self.get(register::VIRTIO_MMIO_INTERRUPT_STATUS);
        self.set(register::VIRTIO_MMIO_INTERRUPT_ACK, raised);
        let event = self.transport.interrupt().as_line().unwrap().event().read().is_ok();
        assert_eq!(event, raised != 0);
        event
    }

    /// Copies bytes out of guest memory.
    pub fn bytes(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    /// Copies bytes into guest memory.
    pub fn put(&self, address: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(address)).unwrap();
    }
}
