//! A card as its driver meets it. A pair of sockets stands for the tap's other end: frames keep their bounds there, too.

use super::*;
use crate::limiter::Bucket;
use crate::testing::{DATA, Driver, Piece};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

const MERGEABLE: u64 = 1 << 15;
const CTRL: u64 = 1 << 17;
const MQ: u64 = 1 << 22;

fn sockets() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::NONBLOCK, None).unwrap()
}

fn driver(config: &Config, features: u64) -> (Driver, OwnedFd) {
    let (near, far) = sockets();
    let mut driver = Driver::new(Box::new(Net::with(vec![near], config).unwrap()), features);
    // Buffers to receive into are never all used.
    driver.patience = 0;
    (driver, far)
}

fn frame(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 13 / 7) as u8).collect()
}

fn send(far: &OwnedFd, length: usize) -> Vec<u8> {
    let frame = frame(length);
    assert_eq!(rustix::io::write(far, &frame), Ok(length));
    frame
}

/// What should arrive: the frame with the number of its buffers.
fn with_count(mut frame: Vec<u8>, count: u8) -> Vec<u8> {
    frame[10..12].copy_from_slice(&[count, 0]);
    frame
}

#[test]
fn frames_go_out_whole() {
    let (mut driver, far) = driver(&Config::default(), 0);
    let sent = frame(1526);
    driver.put(DATA, &sent);
    let head = driver.add(1, &[Piece::read(DATA, 12), Piece::read(DATA + 12, 14), Piece::read(DATA + 26, 1500)]);
    let lost = [
        driver.add(1, &[Piece::read(DATA, 12)]),
        driver.add(1, &[Piece::read(DATA, 1 << 20)]),
        driver.add(1, &[Piece::write(DATA, 100)]),
    ];
    assert_eq!(driver.run(), [head, lost[0], lost[1], lost[2]].map(|head| (1, head, 0)));
    let mut got = vec![0; 4096];
    let length = rustix::io::read(&far, &mut got).unwrap();
    assert_eq!(got[..length], sent);
    assert!(rustix::io::read(&far, &mut got).is_err(), "the others are no frames");
}

#[test]
fn frames_come_in_merged_or_not() {
    let (mut driver, far) = driver(&Config::default(), MERGEABLE);
    for number in 0..8 {
        driver.add(0, &[Piece::write(DATA + number * 0x1000, 100), Piece::write(DATA + number * 0x1000 + 0x800, 150)]);
    }
    let small = send(&far, 72);
    let large = send(&far, 1000);
    let used = driver.run();
    assert_eq!(used.iter().map(|used| used.2).collect::<Vec<_>>(), [72, 250, 250, 250, 250]);
    assert_eq!(driver.bytes(DATA, 72), with_count(small, 1));
    let mut got = Vec::new();
    for number in 1..5 {
        got.extend(driver.bytes(DATA + number * 0x1000, 100));
        got.extend(driver.bytes(DATA + number * 0x1000 + 0x800, 150));
    }
    assert_eq!(got, with_count(large, 4));
}

#[test]
fn a_frame_over_very_many_buffers_arrives_whole() {
    let (mut driver, far) = driver(&Config::default(), MERGEABLE);
    for number in 0..16 {
        driver.add(0, &[Piece::write(DATA + number * 0x1000, 150)]);
    }
    let large = send(&far, 2100);
    assert_eq!(driver.run().len(), 14);
    let got: Vec<u8> = (0..14).flat_map(|number| driver.bytes(DATA + number * 0x1000, 150)).collect();
    assert_eq!(got, with_count(large, 14));
}

#[test]
fn without_merging_what_is_too_large_is_dropped() {
    let (mut driver, far) = driver(&Config::default(), 0);
    for number in 0..3 {
        driver.add(0, &[Piece::write(DATA + number * 0x1000, 200)]);
    }
    send(&far, 201);
    let fits = send(&far, 200);
    assert_eq!(driver.run(), [(0, 0, 200)]);
    assert_eq!(driver.bytes(DATA, 200), with_count(fits, 1));
}

#[test]
fn without_buffers_nobody_listens_and_frames_wait() {
    let (mut driver, far) = driver(&Config::default(), MERGEABLE);
    let sent = send(&far, 100);
    assert!(driver.run().is_empty());
    assert!(!driver.transport.sources().iter().any(|source| source.token == PAIRS + 2), "else the event loop would spin");
    for number in 0..2 {
        driver.add(0, &[Piece::write(DATA + number * 0x1000, 2048)]);
    }
    assert_eq!(driver.run(), [(0, 0, 100)]);
    assert_eq!(driver.bytes(DATA, 100), with_count(sent, 1));
}

#[test]
fn both_directions_have_their_limit() {
    let operations = Some(Bucket { size: 2, one_time_burst: 0, refill_ms: 300 });
    let limits = Limits { bandwidth: None, operations };
    let (mut driver, far) = driver(&Config { receive: limits, send: limits, ..Config::default() }, 0);
    for number in 0..4 {
        driver.add(0, &[Piece::write(DATA + number * 0x1000, 2048)]);
        driver.add(1, &[Piece::read(DATA + 0x10_0000, 64)]);
        send(&far, 64);
    }
    driver.event(PAIRS).unwrap();
    assert_eq!(driver.event(PAIRS + 1).unwrap().len(), 2);
    let mut used = Vec::new();
    for _ in 0..200 {
        if used.len() == 4 {
            break;
        }
        driver.turn(20);
        used.extend(driver.used());
    }
    assert_eq!(used.len(), 4, "the other two of each");
}

#[test]
fn that_frames_are_gone_is_told_with_what_comes_in_or_a_moment_later() {
    let (mut driver, far) = driver(&Config::default(), MERGEABLE);
    driver.add(0, &[Piece::write(DATA, 2048)]);
    driver.add(1, &[Piece::read(DATA + 0x1000, 64)]);
    assert_eq!(driver.event(PAIRS + 1).unwrap(), [(1, 0, 0)]);
    assert!(!driver.interrupted(), "it may be answered");
    send(&far, 64);
    assert_eq!(driver.event(PAIRS + 2).unwrap(), [(0, 0, 64)]);
    assert!(driver.interrupted(), "an answer");
    // The timer comes though there is nothing left to tell.
    assert!(driver.turn(1000));
    assert!(!driver.interrupted());
    driver.set_used_event(1, 1);
    driver.add(1, &[Piece::read(DATA + 0x1000, 64)]);
    assert_eq!(driver.event(PAIRS + 1).unwrap(), [(1, 1, 0)]);
    assert!(!driver.interrupted());
    // What isn't held for a whole moment when the timer comes has another.
    let told = (0..3).any(|_| driver.turn(1000) && driver.interrupted());
    assert!(told, "by the timer");
}

#[test]
fn that_many_frames_are_gone_is_told_at_once() {
    let (mut driver, _far) = driver(&Config::default(), 0);
    for _ in 0..crate::testing::SIZE / held::MANY {
        driver.add(1, &[Piece::read(DATA, 64)]);
    }
    assert!(!driver.event(PAIRS + 1).unwrap().is_empty());
    assert!(driver.interrupted());
}

fn command(driver: &mut Driver, queue: usize, bytes: &[u8]) -> u8 {
    driver.put(DATA, bytes);
    driver.put(DATA + 0x100, &[0xff]);
    driver.add(queue, &[Piece::read(DATA, 2), Piece::read(DATA + 2, bytes.len() as u32 - 2), Piece::write(DATA + 0x100, 1)]);
    assert_eq!(driver.run().len(), 1);
    driver.bytes(DATA + 0x100, 1)[0]
}

#[test]
fn several_pairs_are_switched_by_the_control_queue() {
    let config = Config { mac: Some([2, 0, 0, 0, 0, 1]), mtu: Some(9000), ..Config::default() };
    let taps = (0..3).map(|_| sockets().0).collect();
    let mut driver = Driver::new(Box::new(Net::with(taps, &config).unwrap()), MQ | CTRL);
    driver.patience = 0;
    assert_eq!(driver.config::<12>(0), [2, 0, 0, 0, 0, 1, 1, 0, 3, 0, 0x28, 0x23]);
    for (bytes, answer) in [
        (&[4, 0, 3, 0][..], 0),
        (&[4, 0, 4, 0], 1),
        (&[4, 0, 0, 0], 1),
        (&[4, 0, 1], 1),
        (&[4, 1, 1, 0], 1),
        (&[1, 1, 0, 0, 0, 0, 0, 0], 1),
        (&[5, 0, 2, 0, 0, 0, 0, 0, 0, 0], 1),
    ] {
        assert_eq!(command(&mut driver, 6, bytes), answer, "{bytes:?}");
    }
    driver.interrupted();
    driver.transport.ask(|net: &mut Net| net.set_link(false)).unwrap();
    assert!(driver.interrupted());
    assert_eq!(driver.config::<2>(6), [0, 0]);
    // Without MQ the same queue is the third.
    driver.start(1 << 32 | CTRL);
    assert_eq!(command(&mut driver, 2, &[4, 0, 1, 0]), 0);
    assert_eq!(command(&mut driver, 2, &[4, 0, 2, 0]), 1);
}

#[test]
fn offloads_need_the_checksum() {
    let all = 1 << 1 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10;
    assert_eq!(offload_of(all), Offload::all());
    assert_eq!(offload_of(all & !2), Offload::empty());
    assert_eq!(offload_of(1 << 1 | 1 << 9), Offload::CHECKSUM);
}

#[test]
fn a_real_tap_takes_what_is_offered() {
    let name = format!("insula{}", std::process::id() % 100_000);
    let config = |pairs| Config { cable: Cable::Tap(name.clone()), pairs, ..Config::default() };
    let missing = Net::new(&config(0)).unwrap_err().to_string();
    assert!(missing.starts_with("net: there is no tap insula"), "{missing}");
    // It goes with its last descriptor.
    let _made = match tap::open(&name, true) {
        Ok(tap) => tap,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let net = Net::new(&config(2)).unwrap();
    let features = net.features();
    assert_eq!(features & (1 << 7 | 1 << 10 | MQ), 1 << 7 | 1 << 10 | MQ);
    let other = Net::new(&config(0)).unwrap_err().to_string();
    assert!(other.contains("was made for several queues (say queues=N)"), "{other}");
    let mut driver = Driver::new(Box::new(net), features);
    driver.patience = 0;
    assert_eq!(command(&mut driver, 4, &[4, 0, 2, 0]), 0);
    assert_eq!(command(&mut driver, 4, &[5, 0, 2, 0, 0, 0, 0, 0, 0, 0]), 0);
    let state = driver.transport.save().unwrap();
    assert_eq!(driver.transport.restore(state).unwrap(), Change::Sources);
}

/// Who has the gateway's address? As a frame, led by its header.
fn question() -> Vec<u8> {
    let guest = [2, 0, 0, 0, 0, 9];
    [&[0; 12][..], &[0xff; 6], &guest, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &guest, &[10, 0, 2, 15], &[0; 6], &[10, 0, 2, 2]].concat()
}

#[test]
fn a_network_of_ours_answers_in_the_same_turn_or_when_there_is_room() {
    let limit = Limits { bandwidth: None, operations: Some(Bucket { size: 2, one_time_burst: 0, refill_ms: 300 }) };
    let config = Config { cable: Cable::User(insula_usernet::Config::default()), receive: limit, ..Config::default() };
    let net = Net::new(&config).unwrap();
    let features = net.features();
    assert_eq!(features & (1 << 3 | 1 << 7 | 1 << 10 | MQ), 1 << 3 | 1 << 7 | 1 << 10, "an MTU and offloads, and one pair");
    let mut driver = Driver::new(Box::new(net), features);
    driver.patience = 0;
    assert_eq!(driver.config::<2>(10), 65520_u16.to_le_bytes());
    let question = question();
    driver.put(DATA, &question);
    let ask = |driver: &mut Driver| driver.add(1, &[Piece::read(DATA, question.len() as u32)]);
    // Without a buffer the answer waits.
    let asked = ask(&mut driver);
    assert_eq!(driver.event(PAIRS + 1).unwrap(), [(1, asked, 0)]);
    for number in 0..4 {
        driver.add(0, &[Piece::write(DATA + (number + 1) * 0x2_0000, 0x2_0000)]);
    }
    assert_eq!(driver.event(PAIRS).unwrap(), [(0, 0, 54)]);
    let answer = driver.bytes(DATA + 0x2_0000, 54);
    assert_eq!(answer[10..12], [1, 0], "one buffer");
    assert_eq!((&answer[12..18], &answer[32..34], &answer[40..44]), (&[2, 0, 0, 0, 0, 9][..], &[0, 2][..], &[10, 0, 2, 2][..]));
    // Then in the same turn, up to the limit.
    ask(&mut driver);
    assert_eq!(driver.event(PAIRS + 1).unwrap().iter().map(|used| used.0).collect::<Vec<_>>(), [0, 1]);
    ask(&mut driver);
    assert_eq!(driver.event(PAIRS + 1).unwrap().len(), 1, "the limit is reached");
    for _ in 0..200 {
        driver.turn(20);
        if !driver.used().is_empty() {
            return;
        }
    }
    panic!("the limit never ends");
}

#[test]
fn what_cant_be_is_refused_by_name() {
    let refusal = |config: &Config| Net::with(vec![sockets().0], config).unwrap_err().to_string();
    assert_eq!(
        refusal(&Config { mac: Some([1; 6]), ..Config::default() }),
        "net: [01, 01, 01, 01, 01, 01] isn't the address of one card"
    );
    assert_eq!(
        refusal(&Config { mtu: Some(60), ..Config::default() }),
        "net: an MTU of 60 is too small for IPv4, which needs 68"
    );
    let network = || Cable::User(insula_usernet::Config::default());
    let error = Net::new(&Config { cable: network(), pairs: 2, ..Config::default() }).unwrap_err().to_string();
    assert_eq!(error, "net: a user network has one pair of queues, not 2");
    let error = Net::new(&Config { cable: network(), mtu: Some(576), ..Config::default() }).unwrap_err().to_string();
    assert!(error.contains("576 is outside 1280 to 65520"), "{error}");
    let unheard = Config { cable: Cable::Tap("a-name-that-is-too-long".into()), ..Config::default() };
    let error = Net::new(&unheard).unwrap_err().to_string();
    assert!(error.starts_with("net: there is no tap a-name"), "{error}");
}
