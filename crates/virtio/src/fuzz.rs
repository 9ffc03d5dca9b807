//! Entry points for fuzzers (`fuzz/`), and the same with random bytes as a bounded test: whatever a driver does, nothing panics, and a device
//! that is reset works again.

use crate::device::Device;
use crate::testing::{DATA, Driver, Piece};
use crate::{balloon, block, net, rng, vsock};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::sync::atomic::{AtomicU32, Ordering};

/// What is left of a fuzzer's input; zeros when it is used up.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let count = self.0.len().min(N);
        bytes[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        bytes
    }

    fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// Mostly memory, close together so that pieces overlap; now and then anything.
    fn address(&mut self) -> u64 {
        match self.byte() {
            0..16 => u64::from_le_bytes(self.array()),
            16..32 => u64::from(self.u16()) << 4,
            _ => DATA + u64::from(self.u16()),
        }
    }

    /// Mostly what a device expects somewhere; now and then anything.
    fn length(&mut self) -> u32 {
        const LENGTHS: [u32; 14] = [0, 1, 4, 8, 12, 16, 20, 44, 512, 513, 1514, 4096, 65536, u32::MAX];
        match self.byte() {
            0..32 => u32::from_le_bytes(self.array()),
            byte => LENGTHS[usize::from(byte) % LENGTHS.len()],
        }
    }
}

/// A driver that does what `input` says with a device that accepted these features.
///
/// # Panics
/// On a bug.
pub fn device(device: Box<dyn Device>, features: u64, input: &[u8]) {
    let queues = device.queue_sizes().len();
    let mut driver = Driver::new(device, features);
    let mut input = Input(input);
    while !input.0.is_empty() {
        step(&mut driver, queues, features, &mut input);
    }
    driver.turn(0);
    let _ = driver.transport.save();
    driver.start(features | 1 << 32);
    driver.turn(0);
}

fn step(driver: &mut Driver, queues: usize, features: u64, input: &mut Input<'_>) {
    let queue = usize::from(input.byte()) % queues;
    match input.byte() % 32 {
        0..10 => {
            let (index, address, length) = (input.u16() % 17, input.address(), input.length());
            // NEXT, WRITE and INDIRECT; the others mean nothing.
            let (flags, next) = (u16::from(input.byte()) & 7, input.u16() % 17);
            let table = if input.byte() < 200 { driver.table(queue) } else { DATA + u64::from(input.u16()) };
            driver.descriptor(table, index, address, length, flags, next);
        }
        10..18 => {
            let head = input.u16() % 16;
            driver.offer(queue, if input.byte() == 0 { input.u16() } else { head });
        }
        18..22 => {
            let address = DATA + u64::from(input.u16());
            let bytes: [u8; 16] = input.array();
            // A small type in front, as headers have it.
            let bytes = if input.byte() < 128 { [&bytes[..1], &[0; 7], &bytes[8..]].concat() } else { bytes.to_vec() };
            driver.put(address, &bytes);
        }
        22..25 => {
            let _ = driver.transport.event(u32::from(input.byte() % 12));
        }
        25 => driver.set_index(queue, input.u16()),
        26 => {
            let length = usize::from(input.byte() % 9);
            let _ = driver.transport.write(u64::from(input.u16() % 0x200), &input.array::<8>()[..length]);
        }
        27 => driver.transport.read(u64::from(input.u16() % 0x200), &mut [0; 8]),
        28 if input.byte() < 64 => driver.start(features | 1 << 32),
        29 => driver.set_used_event(queue, input.u16()),
        _ => {
            driver.kick(queue);
            driver.turn(0);
        }
    }
}

/// A source of entropy.
///
/// # Panics
/// On a bug.
pub fn entropy(input: &[u8]) {
    device(Box::new(rng::Rng::new(rng::Config::default()).unwrap()), 0, input);
}

/// A balloon; the first byte says which features its driver accepts.
///
/// # Panics
/// On a bug.
pub fn balloon(input: &[u8]) {
    let (first, input) = input.split_first().unwrap_or((&0, &[]));
    let all = balloon::Config { bytes: 0, deflate_on_oom: true, free_page_reporting: true, statistics_seconds: 3600 };
    let balloon = balloon::Balloon::new(all).unwrap();
    let features = u64::from(first % 64) & balloon.features();
    device(Box::new(balloon), features, input);
}

/// A disk; the first byte says by which calls it is read and written, and whether its driver knows of flushes.
///
/// # Panics
/// On a bug.
pub fn disk(input: &[u8]) {
    const SIZE: u64 = 64 << 10;
    let (first, input) = input.split_first().unwrap_or((&0, &[]));
    let file = rustix::fs::memfd_create(c"disk", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&file, SIZE).unwrap();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
    let calls = if first & 1 == 0 { block::Calls::Auto } else { block::Calls::Plain };
    let config = block::Config { path, calls, ..block::Config::default() };
    device(Box::new(block::Block::new(config).unwrap()), u64::from(first >> 1 & 1) << 9, input);
    assert_eq!(rustix::fs::fstat(&file).unwrap().st_size, SIZE as i64, "no request makes it larger");
}

/// A network card with two pairs of queues; the first byte says which features its driver accepts.
///
/// # Panics
/// On a bug.
pub fn network(input: &[u8]) {
    let (first, input) = input.split_first().unwrap_or((&0, &[]));
    let sockets = || UnixDatagram::pair().unwrap();
    let ((near, far), (second, _far)) = (sockets(), sockets());
    for socket in [&near, &far, &second] {
        socket.set_nonblocking(true).unwrap();
    }
    for length in [12, 60, 1500, 20_000] {
        let _ = far.send(&vec![7; length]);
    }
    let net = net::Net::with(vec![near.into(), second.into()], &net::Config::default()).unwrap();
    let features = u64::from(first & 1) << 15 | u64::from(first >> 1 & 1) << 22 | 1 << 17;
    device(Box::new(net), features, input);
}

/// Sockets: the first byte says how many packets there are, of 8 bytes each, that are right in all but some fields, so that they get further
/// than random ones; then comes any driver.
///
/// # Panics
/// On a bug.
pub fn sockets(input: &[u8]) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let (count, input) = input.split_first().unwrap_or((&0, &[]));
    let (packets, input) = input.split_at(input.len().min(8 * usize::from(count % 40)));
    let name = format!("insula-fuzz-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir(&folder).unwrap();
    let vsock = |name: &str| vsock::Vsock::new(&vsock::Config { cid: 3, path: folder.join(name) }).unwrap();
    let _listener = UnixListener::bind(folder.join("v_1")).unwrap();
    let mut driver = Driver::new(Box::new(vsock("v")), 0);
    driver.patience = 0;
    let mut host = UnixStream::connect(folder.join("v")).unwrap();
    let _ = std::io::Write::write_all(&mut host, b"CONNECT 2\nhello");
    for (number, packet) in packets.as_chunks::<8>().0.iter().enumerate() {
        one_packet(&mut driver, number as u64, *packet);
    }
    device(Box::new(vsock("w")), 0, input);
    let _ = std::fs::remove_dir_all(folder);
}

fn one_packet(driver: &mut Driver, number: u64, [port, remote, op, flags, length, buffer, forwarded, more]: [u8; 8]) {
    driver.add(0, &[Piece::write(DATA + 0x8000, 50 + u32::from(more) * 4)]);
    let source = if remote < 128 { 2 } else { 0x4000_0000_u64 };
    let mut header = [3_u64, 2, source << 32 | u64::from(remote % 3), 0, 0, 0].map(u64::to_le_bytes).concat();
    header[16..24].copy_from_slice(&[remote % 3, 0, 0, 0, port % 3, 0, 0, if port < 64 { 0x40 } else { 0 }]);
    header[24..44].fill(0);
    (header[24], header[28], header[30], header[32]) = (length, 1, op % 9, flags);
    (header[37], header[40], header[43]) = (buffer, forwarded & 7, u8::from(forwarded > 250) * 0x80);
    driver.put(DATA + 0x100 * number, &header[..44]);
    driver.add(1, &[Piece::read(DATA + 0x100 * number, 44 + u32::from(length))]);
    driver.run();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn inputs() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..1500)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn entropy_survives_any_driver(input in inputs()) {
            entropy(&input);
        }

        #[test]
        fn a_balloon_survives_any_driver(input in inputs()) {
            balloon(&input);
        }

        #[test]
        fn a_disk_survives_any_driver(input in inputs()) {
            disk(&input);
        }

        #[test]
        fn a_network_survives_any_driver(input in inputs()) {
            network(&input);
        }

        #[test]
        fn sockets_survive_any_driver(input in inputs()) {
            sockets(&input);
        }
    }
}
