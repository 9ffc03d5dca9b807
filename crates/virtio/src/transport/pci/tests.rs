//! A function as drivers use and misuse it.

use super::*;
use crate::device::Device;
use crate::net::{self, Net};
use crate::rng::{Config, Rng};
use crate::testing::MEMORY;
use crate::transport::Transport;
use insula_vm::memory::{Backing, allocate};
use insula_vm::window::Window;
use proptest::prelude::*;
use std::sync::Mutex;
use vm_memory::{Bytes, GuestAddress};

const ADDRESSES: [u32; 2] = [0xd100_2000, 0xd200_1000];

/// What was routed: message, address, data.
#[derive(Clone, Default)]
struct Routed(Arc<Mutex<Vec<(u16, u64, u32)>>>);

impl Route for Routed {
    fn set(&mut self, message: u16, address: u64, data: u32) {
        self.0.lock().unwrap().push((message, address, data));
    }
}

/// A source of entropy on PCI: with one queue, it has two messages.
fn function(memory: insula_vm::memory::GuestMemory) -> (Transport, Routed) {
    on_pci(Box::new(Rng::new(Config::default()).unwrap()), memory)
}

fn on_pci(device: Box<dyn Device>, memory: insula_vm::memory::GuestMemory) -> (Transport, Routed) {
    let (window, routed) = (Window::new(3).unwrap(), Routed::default());
    let registers = [window.page(1), window.page(2)];
    let place = Place { space: window.page(0), registers, addresses: ADDRESSES, several: true };
    (Transport::on_pci(device, memory, place, Box::new(routed.clone())).unwrap(), routed)
}

fn memory() -> insula_vm::memory::GuestMemory {
    allocate(MEMORY, Backing::Private).unwrap()
}

fn space<const N: usize>(transport: &Transport, at: usize) -> [u8; N] {
    let mut data = [0; N];
    transport.read_space(at as u64, &mut data);
    data
}

fn space32(transport: &Transport, at: usize) -> u32 {
    u32::from_le_bytes(space(transport, at))
}

fn read<const N: usize>(transport: &Transport, at: u64) -> [u8; N] {
    let mut data = [0; N];
    transport.read(at, &mut data);
    data
}

fn put_space(transport: &mut Transport, at: usize, data: &[u8]) {
    let _: Change = transport.write_space(at as u64, data).unwrap();
}

fn put(transport: &mut Transport, at: u64, data: &[u8]) {
    let _: Change = transport.write(at, data).unwrap();
}

/// The capabilities: where they are, by number, and of virtio's by kind.
fn capabilities(transport: &Transport) -> Vec<(u8, u8, usize)> {
    let mut found = Vec::new();
    let mut at = usize::from(space::<1>(transport, 0x34)[0]);
    while at != 0 {
        let [id, next, _, kind] = space(transport, at);
        found.push((id, if id == 9 { kind } else { 0 }, at));
        assert!(found.len() < 10, "the list ends");
        at = next.into();
    }
    found
}

/// Goes through section 3.1.1; the queue is by message 1, the configuration by message 0.
fn start(transport: &mut Transport) {
    for status in [0_u8, 1, 3] {
        put(transport, 0x14, &[status]);
    }
    for (select, half) in [(0_u32, 0_u32), (1, 1)] {
        put(transport, 8, &select.to_le_bytes());
        put(transport, 0xc, &half.to_le_bytes());
    }
    put(transport, 0x14, &[11]);
    assert_eq!(read::<1>(transport, 0x14), [11], "the features are refused");
    put(transport, 0x10, &0_u16.to_le_bytes());
    put(transport, 0x16, &0_u16.to_le_bytes());
    put(transport, 0x18, &16_u16.to_le_bytes());
    put(transport, 0x1a, &1_u16.to_le_bytes());
    put(transport, 0x20, &0x1_0000_u64.to_le_bytes());
    put(transport, 0x28, &0x1_4000_u32.to_le_bytes());
    put(transport, 0x30, &0x1_8000_u32.to_le_bytes());
    put(transport, 0x1c, &1_u16.to_le_bytes());
    assert_eq!(read::<2>(transport, 0x1c), [1, 0], "the queue is refused");
    put(transport, 0x14, &[15]);
}

/// One request for 64 bytes; what the used ring's index is then.
fn ask(transport: &mut Transport, memory: &insula_vm::memory::GuestMemory, number: u16) -> u16 {
    let descriptor = [0x10_0000_u64.to_le_bytes(), (64_u64 | 2 << 32).to_le_bytes()].concat();
    memory.write_slice(&descriptor, GuestAddress(0x1_0000)).unwrap();
    memory.write_obj(number, GuestAddress(0x1_4002)).unwrap();
    put(transport, REGISTERS, &0_u16.to_le_bytes());
    let _: Change = transport.event(0).unwrap();
    memory.read_obj(GuestAddress(0x1_8002)).unwrap()
}

/// Which messages were sent since this was asked.
fn sent(transport: &Transport) -> Vec<bool> {
    transport.interrupt().as_messages().unwrap().events().map(|event| event.read().is_ok()).collect()
}

fn entry(transport: &mut Transport, number: u64, data: u32, control: u32) {
    for (word, value) in [(0, 0xfee0_1000), (1, 0), (2, data), (3, control)] {
        put(transport, u64::from(TABLE) + 16 * number + 4 * word, &u32::to_le_bytes(value));
    }
}

const ENABLE: [u8; 2] = 0x8000_u16.to_le_bytes();
const ENABLE_AND_MASK: [u8; 2] = 0xc000_u16.to_le_bytes();

#[test]
fn a_function_says_what_it_is() {
    let (mut transport, _) = function(memory());
    assert_eq!(space32(&transport, 0), 0x1044_1af4);
    assert_eq!((space32(&transport, 8), space::<1>(&transport, 0xe)), (0xff00_0001, [0x80]));
    assert_eq!((space32(&transport, 0x2c), space32(&transport, 0x3c)), (0x1100_1af4, 0), "no pin");
    for (at, address, size) in [(0x10, ADDRESSES[0], 0x2000_u32), (0x18, ADDRESSES[1], 0x1000), (0x14, 0, 0), (0x30, 0, 0)] {
        assert_eq!(space32(&transport, at), address);
        put_space(&mut transport, at, &[0xff; 4]);
        assert_eq!(space32(&transport, at), size.wrapping_neg());
        put_space(&mut transport, at, &address.to_le_bytes());
        assert_eq!(space32(&transport, at), address);
    }
    let list = capabilities(&transport);
    let kinds: Vec<(u8, u8)> = list.iter().map(|(id, kind, _)| (*id, *kind)).collect();
    assert_eq!(kinds, [(0x11, 0), (9, 1), (9, 2), (9, 3), (9, 4), (9, 5)]);
    let (table, notify) = (list[0].2, list[2].2);
    assert_eq!((space32(&transport, table) >> 16, space32(&transport, table + 4)), (1, TABLE), "two messages");
    assert_eq!((space32(&transport, notify + 8), space32(&transport, notify + 16)), (0, 4));
    put_space(&mut transport, 0, &[0; 4]);
    put_space(&mut transport, 4, &[0xff; 4]);
    assert_eq!((space32(&transport, 0), space32(&transport, 4)), (0x1044_1af4, 0x0010_0406));
    assert_eq!(read::<2>(&transport, 0x12), [1, 0], "one queue");
    assert_eq!(read::<2>(&transport, 0x18), 256_u16.to_le_bytes());
}

#[test]
fn queues_share_an_interrupt_unless_they_are_for_several_processors() {
    let net = |pairs| {
        let ends = (0..pairs).map(|_| rustix::pipe::pipe().unwrap().0).collect();
        Box::new(Net::with(ends, &net::Config::default()).unwrap())
    };
    for (pairs, messages) in [(1, 2), (4, 10)] {
        let (transport, _) = on_pci(net(pairs), memory());
        let table = capabilities(&transport)[0].2;
        assert_eq!(space32(&transport, table) >> 16, messages - 1, "{pairs} pairs, one for the configuration beside");
    }
}

#[test]
fn requests_are_answered_by_the_message_that_was_chosen() {
    let memory = memory();
    let (mut transport, routed) = function(memory.clone());
    let msix = capabilities(&transport)[0].2;
    put_space(&mut transport, msix + 2, &ENABLE_AND_MASK);
    entry(&mut transport, 0, 0x31, 0);
    entry(&mut transport, 1, 0x32, 0);
    assert!(routed.0.lock().unwrap().is_empty(), "not before it is on");
    put_space(&mut transport, msix + 2, &ENABLE);
    assert_eq!(*routed.0.lock().unwrap(), [(0, 0xfee0_1000, 0x31), (1, 0xfee0_1000, 0x32)]);
    start(&mut transport);
    assert_eq!(ask(&mut transport, &memory, 1), 1);
    assert_eq!(sent(&transport), [false, true]);
    put(&mut transport, 0x1a, &0_u16.to_le_bytes());
    assert_eq!((ask(&mut transport, &memory, 2), sent(&transport)), (2, vec![true, false]));
    // A message that isn't there is none (section 4.1.5.1.2.1).
    put(&mut transport, 0x1a, &2_u16.to_le_bytes());
    assert_eq!(read::<2>(&transport, 0x1a), [0xff; 2]);
    assert_eq!((ask(&mut transport, &memory, 3), sent(&transport)), (3, vec![false, false]));
}

#[test]
fn a_message_that_is_masked_waits() {
    let memory = memory();
    let (mut transport, routed) = function(memory.clone());
    let msix = capabilities(&transport)[0].2;
    put_space(&mut transport, msix + 2, &ENABLE);
    entry(&mut transport, 1, 0x40, 1);
    start(&mut transport);
    assert_eq!((ask(&mut transport, &memory, 1), sent(&transport)), (1, vec![false, false]));
    assert_eq!(read::<8>(&transport, PENDING.into()), 2_u64.to_le_bytes());
    entry(&mut transport, 1, 0x41, 0);
    assert_eq!((sent(&transport), read::<8>(&transport, PENDING.into())), (vec![false, true], [0; 8]));
    assert_eq!(routed.0.lock().unwrap().last(), Some(&(1, 0xfee0_1000, 0x41)), "routed as it is now, before it is sent");
    put_space(&mut transport, msix + 2, &ENABLE_AND_MASK);
    assert_eq!((ask(&mut transport, &memory, 2), sent(&transport)), (2, vec![false, false]));
    put_space(&mut transport, msix + 2, &ENABLE);
    assert_eq!(sent(&transport), [false, true]);
    // A reset of the device forgets what waits, and what was chosen.
    put_space(&mut transport, msix + 2, &ENABLE_AND_MASK);
    ask(&mut transport, &memory, 3);
    put(&mut transport, 0x14, &[0]);
    put_space(&mut transport, msix + 2, &ENABLE);
    assert_eq!((sent(&transport), read::<2>(&transport, 0x10)), (vec![false, false], [0xff; 2]));
}

#[test]
fn registers_are_reached_by_the_configuration_space() {
    let (mut transport, _) = function(memory());
    let door = capabilities(&transport)[5].2;
    let mut look = |bar: u8, offset: u32, length: u32, data: Option<&[u8]>| {
        put_space(&mut transport, door + 4, &[bar]);
        put_space(&mut transport, door + 8, &[offset, length].map(u32::to_le_bytes).concat());
        data.iter().for_each(|data| put_space(&mut transport, door + 16, data));
        space32(&transport, door + 16)
    };
    assert_eq!(look(0, 0x12, 2, None), 1);
    assert_eq!(look(0, 0x14, 1, Some(&[1])), 1, "the status was written");
    assert_eq!(look(0, 0x14, 1, Some(&[3])), 3);
    assert_eq!(look(0, 0x1c, 4, None), 0);
    assert_eq!(look(2, 0, 2, Some(&[0; 4])), 0, "a doorbell");
    for (bar, offset, length) in [(1, 0, 4), (0, 0x2000, 4), (0, 2, 4), (0, 0, 3), (0, u32::MAX, 1), (2, 0x1000, 2)] {
        look(bar, offset, length, Some(&[0xff; 4]));
    }
    assert_eq!(read::<1>(&transport, 0x14), [3], "what is nowhere changes nothing");
}

#[test]
fn a_saved_function_goes_on_elsewhere() {
    let memory = memory();
    let (mut first, _) = function(memory.clone());
    let msix = capabilities(&first)[0].2;
    put_space(&mut first, msix + 2, &ENABLE);
    entry(&mut first, 1, 0x55, 0);
    start(&mut first);
    assert_eq!(ask(&mut first, &memory, 1), 1);
    let state = serde_json::to_string(&first.save().unwrap()).unwrap();
    drop(first);
    let (mut second, routed) = function(memory.clone());
    assert_eq!(second.restore(serde_json::from_str(&state).unwrap()).unwrap(), Change::Sources);
    assert_eq!(*routed.0.lock().unwrap(), [(1, 0xfee0_1000, 0x55)]);
    assert_eq!((ask(&mut second, &memory, 2), sent(&second)), (2, vec![false, true]));
    let other = state.replace("\"pci\":{", "\"pci\":null,\"more\":{");
    assert!(second.restore(serde_json::from_str(&other).unwrap()).is_err(), "of another transport");
    let short = state.replace("[[0,0,0,1],", "[");
    assert!(second.restore(serde_json::from_str(&short).unwrap()).is_err(), "with fewer messages");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_access_is_survived(accesses in prop::collection::vec((any::<bool>(), any::<u16>(), 0_usize..9, any::<[u8; 8]>()), 0..400)) {
        let memory = memory();
        let (mut transport, _) = function(memory.clone());
        for (registers, offset, length, data) in accesses {
            let mut data = data;
            let offset = u64::from(offset) % 0x3100;
            if registers {
                let _ = transport.write(offset, &data[..length]);
                transport.read(offset, &mut data[..length]);
            } else {
                let _ = transport.write_space(offset % 0x110, &data[..length]);
                transport.read_space(offset % 0x110, &mut data[..length]);
            }
        }
        let msix = capabilities(&transport)[0].2;
        put_space(&mut transport, msix + 2, &ENABLE);
        entry(&mut transport, 1, 1, 0);
        sent(&transport);
        memory.write_slice(&[0; 0x1_0000], GuestAddress(0x1_0000)).unwrap();
        start(&mut transport);
        prop_assert_eq!((ask(&mut transport, &memory, 1), sent(&transport)[1]), (1, true), "a reset makes it usable again");
    }
}
