//! The registers as drivers use and misuse them.

use super::*;
use crate::rng::{Config, Rng};
use crate::testing::{DATA, Driver, Piece};
use proptest::prelude::*;

fn driver() -> Driver {
    Driver::new(Box::new(Rng::new(Config::default()).unwrap()), 0)
}

fn ready(driver: &mut Driver) -> u32 {
    driver.get(register::VIRTIO_MMIO_QUEUE_READY)
}

#[test]
fn a_device_says_what_it_is() {
    let mut driver = driver();
    assert_eq!((0..4).map(|register| driver.get(4 * register)).collect::<Vec<_>>(), [0x7472_6976, 2, 4, VENDOR]);
    let mut offered = |select| {
        driver.set(register::VIRTIO_MMIO_DEVICE_FEATURES_SEL, select);
        driver.get(register::VIRTIO_MMIO_DEVICE_FEATURES)
    };
    assert_eq!([offered(0), offered(1), offered(2), offered(u32::MAX)], [3 << 28, 1, 0, 0]);
    assert_eq!(driver.get(register::VIRTIO_MMIO_SHM_LEN_LOW), u32::MAX);
    driver.set(register::VIRTIO_MMIO_QUEUE_SEL, 1);
    assert_eq!((driver.get(register::VIRTIO_MMIO_QUEUE_NUM_MAX), ready(&mut driver)), (0, 0), "there is no second queue");
}

#[test]
fn features_that_werent_offered_are_refused() {
    let mut driver = driver();
    for (low, high, fits) in [(0, 1, true), (3 << 28, 1, true), (0, 0, false), (1, 1, false), (0, 3, false)] {
        for (register, value) in
            [(0x70, 0), (0x70, 3), (0x24, 0), (0x20, low), (0x24, 1), (0x20, high), (0x24, 7), (0x20, 1), (0x70, 11)]
        {
            driver.set(register, value);
        }
        assert_eq!(driver.get(0x70), if fits { 11 } else { 3 }, "{low:#x} {high:#x}");
        driver.set(0x70, 15);
        assert_eq!(driver.get(0x70), if fits { 15 } else { 3 }, "no step is left out");
    }
}

#[test]
fn status_goes_forward_only() {
    let mut driver = driver();
    assert_eq!(driver.get(0x70), 15);
    for value in [14, 7, 11, 1] {
        driver.set(0x70, value);
        assert_eq!(driver.get(0x70), 15);
    }
    driver.set(0x70, 15 | 128 | 64);
    assert_eq!(driver.get(0x70), 15 | 128, "only the device says that it needs a reset");
    driver.set(0x70, 0);
    assert_eq!((driver.get(0x70), ready(&mut driver)), (0, 0));
    assert!(driver.transport.sources().is_empty());
    for value in [2, 4, 8, 13] {
        driver.set(0x70, value);
        assert_eq!(driver.get(0x70), 0);
    }
}

#[test]
fn a_queue_that_isnt_one_doesnt_get_ready() {
    let mut driver = driver();
    let good = [(0x38, 16), (0x80, 0x1_0000), (0x84, 0), (0x90, 0x1_4000), (0x94, 0), (0xa0, 0x1_8000), (0xa4, 0)];
    let bad = [
        (0x38, 0),
        (0x38, 3),
        (0x38, 512),
        (0x38, 0x1_0010),
        (0x80, 0x1_0008),
        (0x84, u32::MAX),
        (0x90, 0x1_4001),
        (0x90, 0),
        (0xa0, 0x1_8002),
        (0xa4, 1),
        (0x80, 0xffff_fff0),
        (0xa0, (crate::testing::MEMORY - 4) as u32),
    ];
    for (register, value) in bad.into_iter().chain([(0x38, 16)]) {
        for (register, value) in [(0x70, 0), (0x70, 3), (0x24, 1), (0x20, 1), (0x70, 11), (0x30, 0)].into_iter().chain(good) {
            driver.set(register, value);
        }
        driver.set(register, value);
        driver.set(0x44, 1);
        assert_eq!(ready(&mut driver), u32::from((register, value) == (0x38, 16)), "{register:#x} {value:#x}");
    }
    driver.set(0x38, 8);
    driver.set(0x44, 0);
    assert_eq!(ready(&mut driver), 0);
    driver.set(0x70, 15);
    driver.set(0x44, 1);
    assert_eq!(ready(&mut driver), 0, "too late");
    assert!(driver.run().is_empty());
}

#[test]
fn registers_are_read_as_memory_and_written_whole() {
    let mut driver = driver();
    let magic_and_version = *b"virt\x02\0\0\0";
    for length in [0, 1, 2, 3, 5, 8] {
        let mut data = vec![0xff; length];
        driver.transport.read(0, &mut data);
        assert_eq!(data, magic_and_version[..length]);
        assert_eq!(driver.transport.write(0x70, &vec![0; length]).unwrap(), Change::Nothing);
    }
    for offset in [1, 2, 3, 0xfd] {
        driver.set(offset, 0);
    }
    assert_eq!((driver.get(0), driver.get(0x70)), (0x7472_6976, 15));
}

#[test]
fn interrupts_are_as_rare_as_the_driver_wants_them() {
    for event_idx in [false, true] {
        let mut driver = driver();
        driver.start(1 << 32 | u64::from(event_idx) << 29);
        let mut ask = |used_event: u16, flags: u16| {
            driver.set_used_event(0, used_event);
            driver.put(driver.table(0) + 0x4000, &flags.to_le_bytes());
            driver.add(0, &[Piece::write(DATA, 8)]);
            assert_eq!(driver.event(0).unwrap().len(), 1);
            driver.interrupted()
        };
        // The first takes used entry 0; it interrupts if entry 0 was waited for.
        assert!(ask(0, 0));
        assert_eq!(ask(5, 0), !event_idx);
        assert!(!ask(5, 1), "no interrupts, in the other way");
        assert!(ask(3, 0));
        assert!(!ask(3, 1));
    }
}

#[test]
fn kicks_are_asked_for_by_index() {
    let mut driver = driver();
    driver.add(0, &[Piece::write(DATA, 8)]);
    driver.run();
    let avail_event = driver.table(0) + 0x8000 + 4 + 8 * 16;
    assert_eq!(driver.bytes(avail_event, 2), [1, 0]);
}

#[test]
fn a_queue_that_is_broken_needs_a_reset() {
    let broken: [&dyn Fn(&mut Driver); 3] =
        [&|driver| driver.set_index(0, 17), &|driver| driver.offer(0, 16), &|driver| driver.set_index(0, u16::MAX)];
    for break_it in broken {
        let mut driver = driver();
        break_it(&mut driver);
        let error = driver.event(0).unwrap_err().to_string();
        assert!(error.starts_with("the guest's driver broke queue 0: "), "{error}");
        assert_eq!((driver.get(0x70), driver.get(0x60)), (15 | 64, 2));
        assert!(driver.transport.sources().is_empty());
        assert_eq!(driver.event(0).unwrap(), []);
        driver.start(1 << 32);
        let head = driver.add(0, &[Piece::write(DATA, 8)]);
        driver.interrupted();
        // The driver of the test begins anew as well.
        assert_eq!(driver.run(), [(0, head, 8)]);
    }
}

#[test]
fn indices_wrap() {
    let mut driver = driver();
    for _ in 0..70_000 / 16 {
        for _ in 0..16 {
            driver.add(0, &[Piece::write(DATA, 1)]);
        }
        assert_eq!(driver.event(0).unwrap().len(), 16);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_access_does_harm(accesses in prop::collection::vec((0_u64..0x180, any::<u64>(), 0_usize..9, any::<bool>()), 0..200)) {
        let mut driver = driver();
        for (offset, value, length, write) in accesses {
            let mut data = value.to_le_bytes();
            if write {
                let _ = driver.transport.write(offset, &data[..length]);
            } else {
                driver.transport.read(offset, &mut data[..length]);
            }
        }
        driver.start(1 << 32);
        let head = driver.add(0, &[Piece::write(DATA, 8)]);
        prop_assert_eq!(driver.run(), [(0, head, 8)]);
    }
}
