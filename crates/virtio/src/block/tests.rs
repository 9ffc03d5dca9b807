//! A disk as its driver meets it: real files, both ways of reaching them.

use super::*;
use crate::limiter::Bucket;
use crate::testing::{DATA, Driver, Piece};
use std::fs::File;
use std::os::unix::fs::FileExt;
use tempfile::NamedTempFile;

const READ: u32 = 0;
const WRITE: u32 = 1;
const FLUSH: u32 = 4;
const ID: u32 = 8;
const DISCARD: u32 = 11;
const ZEROES: u32 = 13;
const ALL: u64 = 1 << 5 | 1 << 9 | 1 << 13 | 1 << 14;
const HEADER: u64 = DATA;
const STATUS: u64 = DATA + 0x800;
const BUFFER: u64 = DATA + 0x1000;

/// A disk of 1 MiB in which each sector holds its number.
fn disk() -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    for sector in 0..2048_u64 {
        file.as_file().write_all_at(&[sector as u8; 512], sector * 512).unwrap();
    }
    file
}

fn config(file: &NamedTempFile) -> Config {
    Config { path: file.path().to_owned(), serial: "disk-of-a-test".into(), ..Config::default() }
}

fn driver(config: Config) -> Driver {
    let block = Block::new(config).unwrap();
    let features = block.features() & ALL;
    Driver::new(Box::new(block), features)
}

/// Runs with io_uring (if it is here) and without, cached and (if the file system can) direct.
fn each_way(mut check: impl FnMut(Config, &NamedTempFile)) {
    for calls in [Calls::Auto, Calls::Plain] {
        for cache in [Cache::Cached, Cache::Direct] {
            let file = disk();
            let config = Config { calls, cache, ..config(&file) };
            match Block::new(config.clone()) {
                Err(error) if cache == Cache::Direct => eprintln!("skipped: {error}"),
                result => drop(result.unwrap()),
            }
            check(config, &file);
        }
    }
}

fn header(driver: &Driver, at: u64, kind: u32, sector: u64) {
    driver.put(at, &kind.to_le_bytes());
    driver.put(at + 8, &sector.to_le_bytes());
}

/// One request with these pieces between its header and its status; its status, and how many bytes were written.
fn ask(driver: &mut Driver, kind: u32, sector: u64, pieces: &[Piece]) -> (u8, u32) {
    header(driver, HEADER, kind, sector);
    driver.put(STATUS, &[0xff]);
    let mut all = vec![Piece::read(HEADER, 16)];
    all.extend(pieces);
    all.push(Piece::write(STATUS, 1));
    let head = driver.add(0, &all);
    let used = driver.run();
    assert_eq!(used.len(), 1, "answered once");
    assert_eq!((used[0].0, used[0].1), (0, head));
    (driver.bytes(STATUS, 1)[0], used[0].2)
}

#[test]
fn what_is_written_is_in_the_file_and_is_read_again() {
    each_way(|config, file| {
        let mut driver = driver(config);
        // Two pieces, beside each other in the file and not in memory; neither is aligned for O_DIRECT.
        for length in [512, 4096, 65536] {
            let content: Vec<u8> = (0..2 * length).map(|at| (at * 7 / 3) as u8).collect();
            let (first, second) = (BUFFER + 0x10, BUFFER + 0x10_0000);
            driver.put(first, &content[..length]);
            driver.put(second, &content[length..]);
            let pieces = [Piece::read(first, length as u32), Piece::read(second, length as u32)];
            assert_eq!(ask(&mut driver, WRITE, 9, &pieces), (0, 1));
            let mut found = vec![0; 2 * length];
            file.as_file().read_exact_at(&mut found, 9 * 512).unwrap();
            assert_eq!(found, content);
            let back = Piece::write(BUFFER + 0x20_0000, 2 * length as u32);
            assert_eq!(ask(&mut driver, READ, 9, &[back]), (0, 2 * length as u32 + 1));
            assert_eq!(driver.bytes(back.address, 2 * length), content);
        }
        assert_eq!(ask(&mut driver, FLUSH, 0, &[]), (0, 1));
        assert_eq!(ask(&mut driver, READ, 2047, &[Piece::write(BUFFER, 512)]), (0, 513));
        assert_eq!(driver.bytes(BUFFER, 512), [255; 512]);
    });
}

#[test]
fn aligned_requests_go_both_ways_too() {
    each_way(|config, _| {
        let mut driver = driver(config);
        driver.put(BUFFER, &[0xab; 8192]);
        assert_eq!(ask(&mut driver, WRITE, 8, &[Piece::read(BUFFER, 8192)]), (0, 1));
        assert_eq!(ask(&mut driver, READ, 0, &[Piece::write(BUFFER + 0x10000, 16384)]), (0, 16385));
        let found = driver.bytes(BUFFER + 0x10000, 16384);
        assert!(found[4096..12288].iter().all(|byte| *byte == 0xab));
        assert!(found[..512].iter().all(|byte| *byte == 0) && found[12288..12800].iter().all(|byte| *byte == 24));
    });
}

#[test]
fn many_requests_of_one_kick_are_all_answered() {
    each_way(|config, _| {
        let mut driver = driver(config);
        for round in 0..8_u64 {
            // Indirect, as each takes one descriptor of sixteen.
            for number in 0..16_u64 {
                let at = DATA + 0x10_0000 + number * 0x2000;
                header(&driver, at, READ, number * 3 + round);
                driver.put(at + 16, &[0xff]);
                let pieces = [Piece::read(at, 16), Piece::write(at + 0x400, 512), Piece::write(at + 16, 1)];
                driver.add_indirect(0, at + 0x1000, &pieces);
            }
            let mut used = driver.run();
            used.sort_unstable();
            assert_eq!(used, (0..16).map(|head| (0, head, 513)).collect::<Vec<_>>());
            for number in 0..16_u64 {
                let at = DATA + 0x10_0000 + number * 0x2000;
                assert_eq!(driver.bytes(at + 0x400, 512), [(number * 3 + round) as u8; 512]);
            }
        }
    });
}

#[test]
fn holes_and_zeros_are_made() {
    each_way(|config, file| {
        let mut driver = driver(config);
        let segment = |driver: &Driver, sector: u64, sectors: u32, flags: u32| {
            driver.put(BUFFER, &sector.to_le_bytes());
            driver.put(BUFFER + 8, &sectors.to_le_bytes());
            driver.put(BUFFER + 12, &flags.to_le_bytes());
        };
        let piece = [Piece::read(BUFFER, 16)];
        for (kind, sector, flags) in [(DISCARD, 16, 0), (ZEROES, 64, 0), (ZEROES, 131, 1), (ZEROES, 163, 0)] {
            segment(&driver, sector, 20, flags);
            assert_eq!(ask(&mut driver, kind, 0, &piece), (0, 1), "{kind} {flags}");
            let mut found = [1; 22 * 512];
            file.as_file().read_exact_at(&mut found, (sector - 1) * 512).unwrap();
            assert_eq!(found[512..21 * 512], [0; 20 * 512]);
            assert_eq!((found[511], found[21 * 512]), ((sector - 1) as u8, (sector + 20) as u8));
        }
        assert_eq!(file.as_file().metadata().unwrap().len(), 1 << 20);
        for (kind, sector, sectors, flags, status) in [
            (DISCARD, 0, 1, 1, 2),
            (ZEROES, 0, 1, 2, 2),
            (DISCARD, 2048, 1, 0, 1),
            (DISCARD, u64::MAX, 2, 0, 1),
            (ZEROES, 0, u32::MAX, 0, 1),
            (DISCARD, 0, 0, 0, 0),
        ] {
            segment(&driver, sector, sectors, flags);
            assert_eq!(ask(&mut driver, kind, 0, &piece).0, status, "{kind} {sector} {sectors} {flags}");
        }
        assert_eq!(ask(&mut driver, DISCARD, 0, &[Piece::read(BUFFER, 8)]).0, 1);
        assert_eq!(ask(&mut driver, DISCARD, 0, &[Piece::read(BUFFER, 32)]).0, 1, "one range, as the configuration says");
    });
}

#[test]
fn the_serial_and_the_configuration_are_as_said() {
    let mut driver = driver(config(&disk()));
    assert_eq!(ask(&mut driver, ID, 0, &[Piece::write(BUFFER, 20)]), (0, 21));
    assert_eq!(driver.bytes(BUFFER, 20), *b"disk-of-a-test\0\0\0\0\0\0");
    assert_eq!(ask(&mut driver, ID, 0, &[Piece::write(BUFFER, 4)]).0, 0);
    assert_eq!(u64::from_le_bytes(driver.config(0)), 2048);
    assert_eq!(u32::from_le_bytes(driver.config(12)), 254);
    assert_eq!(u32::from_le_bytes(driver.config(20)), 512);
    assert_eq!(driver.config::<4>(58), [0; 4]);
    assert_eq!(driver.config::<4>(u64::MAX - 0x100), [0; 4]);
}

#[test]
fn a_read_only_disk_stays_as_it_is() {
    let file = disk();
    let before = std::fs::read(file.path()).unwrap();
    let mut driver = driver(Config { read_only: true, ..config(&file) });
    driver.put(BUFFER, &[7; 512]);
    assert_eq!(ask(&mut driver, WRITE, 0, &[Piece::read(BUFFER, 512)]), (1, 1));
    driver.put(BUFFER, &[0; 8]);
    driver.put(BUFFER + 8, &[1, 0, 0, 0, 0, 0, 0, 0]);
    for kind in [DISCARD, ZEROES] {
        assert_eq!(ask(&mut driver, kind, 0, &[Piece::read(BUFFER, 16)]), (1, 1));
    }
    assert_eq!(ask(&mut driver, READ, 5, &[Piece::write(BUFFER, 512)]), (0, 513));
    assert_eq!(std::fs::read(file.path()).unwrap(), before);
}

#[test]
fn what_lies_beyond_the_disk_is_an_error() {
    each_way(|config, file| {
        let mut driver = driver(config);
        for (sector, length) in
            [(2048, 512), (2047, 1024), (u64::MAX, 512), (u64::MAX / 512, 512), (0, 511), (0, 513), (1, 2 << 20)]
        {
            for kind in [READ, WRITE] {
                let piece = Piece { address: BUFFER, length, write: kind == READ };
                assert_eq!(ask(&mut driver, kind, sector, &[piece]).0, 1, "{kind} {sector} {length}");
            }
        }
        assert_eq!(ask(&mut driver, 99, 0, &[]).0, 2);
        assert_eq!(file.as_file().metadata().unwrap().len(), 1 << 20);
    });
}

#[test]
fn a_file_that_shrinks_gives_errors_and_the_guest_learns_its_size() {
    each_way(|config, file| {
        let mut driver = driver(config);
        file.as_file().set_len(512 << 10).unwrap();
        assert_eq!(ask(&mut driver, READ, 1500, &[Piece::write(BUFFER, 512)]), (1, 0));
        assert_eq!(ask(&mut driver, READ, 1020, &[Piece::write(BUFFER, 4096)]), (1, 0), "the first half is there");
        assert_eq!(ask(&mut driver, READ, 1016, &[Piece::write(BUFFER, 4096)]), (0, 4097));
        driver.interrupted();
        assert_eq!(driver.transport.ask(|disk: &mut Block| disk.refresh().unwrap()).unwrap(), 512 << 10);
        assert!(driver.interrupted());
        assert_eq!((driver.get(0xfc), u64::from_le_bytes(driver.config(0))), (1, 1024));
        assert_eq!(driver.transport.ask(|disk: &mut Block| disk.refresh().unwrap()).unwrap(), 512 << 10);
        assert!(!driver.interrupted(), "nothing has changed");
    });
}

#[test]
fn a_disk_that_is_full_gives_errors() {
    // Every write to it fails with ENOSPC; its size is zero, so nothing gets there. A file with a limit would need a mount.
    let Err(error) = Block::new(Config { path: "/dev/full".into(), ..Config::default() }) else { panic!() };
    assert_eq!(error.to_string(), "block: /dev/full is neither a file nor a block device");
}

#[test]
fn requests_cut_in_odd_ways_are_understood() {
    let mut driver = driver(config(&disk()));
    // Section 2.7.4.1: where descriptors begin and end says nothing.
    header(&driver, HEADER, READ, 3);
    let head = driver.add(
        0,
        &[
            Piece::read(HEADER, 1),
            Piece::read(HEADER + 1, 10),
            Piece::read(HEADER + 11, 5),
            Piece::write(BUFFER, 100),
            Piece::write(BUFFER + 0x100, 0),
            Piece::write(BUFFER + 0x1000, 413),
        ],
    );
    assert_eq!(driver.run(), [(0, head, 513)]);
    assert_eq!(driver.bytes(BUFFER, 100), [3; 100]);
    assert_eq!(driver.bytes(BUFFER + 0x1000, 413), [[3; 412].as_slice(), &[0]].concat());
}

#[test]
fn malformed_requests_come_back_unused() {
    let mut driver = driver(config(&disk()));
    let table = driver.table(0);
    header(&driver, HEADER, READ, 0);
    let bad: [&dyn Fn(&mut Driver) -> u16; 7] = [
        &|driver| driver.add(0, &[Piece::read(HEADER, 16)]),
        &|driver| driver.add(0, &[Piece::write(STATUS, 1), Piece::read(HEADER, 16)]),
        &|driver| driver.add(0, &[Piece::read(u64::MAX - 8, 16), Piece::write(STATUS, 1)]),
        &|driver| driver.add(0, &[Piece::read(HEADER, u32::MAX), Piece::write(STATUS, u32::MAX)]),
        &|driver| driver.add_indirect(0, u64::MAX - 32, &[Piece::read(HEADER, 16)]),
        &|driver| driver.add_indirect(0, BUFFER, &[]),
        &|driver| {
            // A circle.
            driver.descriptor(table, 3, HEADER, 16, 1, 4);
            driver.descriptor(table, 4, HEADER, 16, 1, 3);
            driver.offer(0, 3);
            3
        },
    ];
    for (number, make) in bad.iter().enumerate() {
        let head = make(&mut driver);
        assert_eq!(driver.run(), [(0, head, 0)], "{number}");
    }
    assert_eq!(ask(&mut driver, READ, 1, &[Piece::write(BUFFER, 512)]), (0, 513), "it goes on");
}

#[test]
fn a_limit_of_operations_delays_and_loses_nothing() {
    let file = disk();
    let operations = Some(Bucket { size: 2, one_time_burst: 0, refill_ms: 20 });
    let mut driver = driver(Config { limits: Limits { bandwidth: None, operations }, ..config(&file) });
    for number in 0..5 {
        header(&driver, HEADER + number * 32, READ, number);
        driver.add(0, &[Piece::read(HEADER + number * 32, 16), Piece::write(BUFFER + number * 1024, 513)]);
    }
    let mut used = driver.event(KICK).unwrap();
    for _ in 0..1000 {
        if used.len() == 5 {
            break;
        }
        driver.wait();
        used.extend(driver.used());
    }
    assert_eq!(used.len(), 5);
    for number in 0..5 {
        assert_eq!(driver.bytes(BUFFER + number * 1024, 513), [[number as u8; 512].as_slice(), &[0]].concat());
    }
}

#[test]
fn a_disk_is_written_by_one_and_read_by_many() {
    let file = disk();
    let writer = Block::new(config(&file)).unwrap();
    let reader = Config { read_only: true, ..config(&file) };
    let error = Block::new(reader.clone()).unwrap_err().to_string();
    assert!(error.ends_with("is in use by another machine, and one of the two writes to it"), "{error}");
    drop(writer);
    let _first = Block::new(reader.clone()).unwrap();
    let _second = Block::new(reader).unwrap();
    assert!(Block::new(config(&file)).is_err());
}

#[test]
fn what_cant_be_is_refused_by_name() {
    let refusal = |config| Block::new(config).unwrap_err().to_string();
    assert_eq!(
        refusal(Config { path: "/nowhere".into(), ..Config::default() }),
        "can't open the disk /nowhere: No such file or directory"
    );
    assert!(refusal(Config { serial: "x".repeat(21), ..Config::default() }).starts_with("block: the serial"));
}

#[test]
fn a_saved_disk_goes_on_elsewhere() {
    let file = disk();
    let mut first = driver(config(&file));
    assert_eq!(ask(&mut first, READ, 1, &[Piece::write(BUFFER, 512)]), (0, 513));
    // A request that waits when the machine stops.
    header(&first, HEADER, READ, 7);
    first.add(0, &[Piece::read(HEADER, 16), Piece::write(BUFFER, 513)]);
    let state = serde_json::to_string(&first.transport.save().unwrap()).unwrap();
    let memory = first.memory.clone();
    drop(first.transport);
    let block = Block::new(config(&file)).unwrap();
    let mut second = crate::transport::Transport::on_mmio(Box::new(block), memory, crate::testing::page()).unwrap();
    assert_eq!(second.restore(serde_json::from_str(&state).unwrap()).unwrap(), Change::Sources);
    let _ = second.event(KICK).unwrap();
    for _ in 0..100 {
        let _ = second.event(DONE).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    first.transport = second;
    assert_eq!(first.used().len(), 1);
    assert_eq!(first.bytes(BUFFER, 513), [[7; 512].as_slice(), &[0]].concat());
    let other = state.replace("\"kind\":2", "\"kind\":4");
    assert!(first.transport.restore(serde_json::from_str(&other).unwrap()).is_err());
}

#[test]
fn a_reset_waits_for_what_is_under_way() {
    let file = disk();
    let mut driver = driver(config(&file));
    for round in 0..20 {
        header(&driver, HEADER, READ, 2);
        driver.add(0, &[Piece::read(HEADER, 16), Piece::write(BUFFER, 513)]);
        let _ = driver.event(KICK).unwrap();
        driver.set(0x70, 0);
        driver.put(BUFFER, &[0xee; 513]);
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert_eq!(driver.bytes(BUFFER, 513), [0xee; 513], "{round}: it is the guest's again");
        driver.start(1 << 32 | 1 << 9);
    }
    let _: &File = file.as_file();
}
