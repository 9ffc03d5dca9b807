//! Streams between a guest's driver, played by the test, and real sockets.

use super::packet::{HOST, Header, NO_RECEIVE, NO_SEND, STREAM, op};
use super::*;
use crate::testing::{DATA, Driver, Piece};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;
use tempfile::TempDir;

const CID: u32 = 7;
/// Large enough for a packet of 4000 bytes.
const ROOM: u32 = 4096;

struct Guest {
    driver: Driver,
    folder: TempDir,
    sent: u64,
}

impl Guest {
    fn new() -> Guest {
        let folder = tempfile::tempdir().unwrap();
        let vsock = Vsock::new(&Config { cid: CID, path: folder.path().join("v") }).unwrap();
        let mut driver = Driver::new(Box::new(vsock), 0);
        driver.patience = 0;
        let mut guest = Guest { driver, folder, sent: 0 };
        for number in 0..16 {
            guest.buffer(number);
        }
        guest
    }

    /// A buffer for what comes; by its number, which is its descriptor.
    fn buffer(&mut self, number: u16) {
        self.driver.add(0, &[Piece::write(DATA + 0x1000 * u64::from(number), ROOM)]);
    }

    fn host(&self) -> UnixStream {
        let host = UnixStream::connect(self.folder.path().join("v")).unwrap();
        host.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        host
    }

    fn send(&mut self, header: Header, data: &[u8]) {
        // One after the other, as each is taken by `run`.
        let at = DATA + 0x10_0000 + (self.sent % 8) * 0x1_0000;
        self.sent += 1;
        let header = Header { length: data.len() as u32, ..header };
        self.driver.put(at, &header.to_bytes());
        self.driver.put(at + 44, data);
        self.driver.add(1, &[Piece::read(at, 20), Piece::read(at + 20, 24 + data.len() as u32)]);
        self.driver.kick(1);
    }

    /// Serves the device; the packets that came.
    fn packets(&mut self) -> Vec<(Header, Vec<u8>)> {
        let mut packets = Vec::new();
        for (queue, head, length) in self.driver.run() {
            if queue != 0 {
                continue;
            }
            let bytes = self.driver.bytes(DATA + 0x1000 * u64::from(head), length as usize);
            let header = Header::from_bytes(bytes[..44].try_into().unwrap());
            assert_eq!(header.length + 44, length);
            packets.push((header, bytes[44..].to_vec()));
            self.buffer(head);
        }
        packets
    }

    fn one(&mut self) -> (Header, Vec<u8>) {
        let mut packets = self.packets();
        assert_eq!(packets.len(), 1, "{packets:?}");
        packets.remove(0)
    }

    fn connections(&mut self) -> usize {
        self.driver.transport.ask(|vsock: &mut Vsock| vsock.mux.count()).unwrap()
    }

    /// A program of the guest's at port 52 that a program of the host's is connected to; the guest's header.
    fn called(&mut self) -> (UnixStream, Header) {
        let mut host = self.host();
        host.write_all(b"CONNECT 52\n").unwrap();
        let (request, _) = self.one();
        assert_eq!((request.op, request.target_port, request.kind), (op::REQUEST, 52, STREAM));
        assert_eq!((request.source, request.target), (HOST, CID.into()));
        let header = packet(52, request.source_port);
        self.send(Header { op: op::RESPONSE, ..header }, b"");
        assert!(self.packets().is_empty());
        let mut line = vec![0; format!("OK {}\n", request.source_port).len()];
        host.read_exact(&mut line).unwrap();
        assert_eq!(line, format!("OK {}\n", request.source_port).into_bytes());
        (host, header)
    }
}

/// From the guest to the host; it has 64 KiB of room.
fn packet(source_port: u32, target_port: u32) -> Header {
    Header { source: CID.into(), target: HOST, source_port, target_port, kind: STREAM, buffer: 64 << 10, ..Header::default() }
}

#[test]
fn the_host_calls_the_guest() {
    let mut guest = Guest::new();
    assert_eq!(guest.driver.config(0), [7, 0, 0, 0, 0, 0, 0, 0]);
    let (mut host, header) = guest.called();
    host.write_all(b"from the host").unwrap();
    let (data, bytes) = guest.one();
    assert_eq!((data.op, bytes.as_slice()), (op::DATA, b"from the host".as_slice()));
    guest.send(Header { op: op::DATA, forwarded: 13, ..header }, b"from the guest");
    assert!(guest.packets().is_empty());
    let mut bytes = [0; 14];
    host.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"from the guest");
    guest.send(Header { op: op::SHUTDOWN, flags: NO_SEND | NO_RECEIVE, forwarded: 13, ..header }, b"");
    assert_eq!(guest.one().0.op, op::RESET);
    assert_eq!(host.read(&mut bytes).unwrap(), 0);
    assert_eq!(guest.connections(), 0);
}

#[test]
fn the_guest_calls_the_host() {
    let mut guest = Guest::new();
    let listener = UnixListener::bind(guest.folder.path().join("v_5000")).unwrap();
    let header = packet(9, 5000);
    guest.send(Header { op: op::REQUEST, ..header }, b"");
    let (response, _) = guest.one();
    assert_eq!((response.op, response.source_port, response.target_port), (op::RESPONSE, 5000, 9));
    assert!(response.buffer > 0);
    let mut host = listener.accept().unwrap().0;
    host.write_all(b"hello").unwrap();
    // Half of it is over; the other half isn't.
    host.shutdown(Shutdown::Write).unwrap();
    let packets = guest.packets();
    assert_eq!(packets[0].1, b"hello");
    assert_eq!((packets[1].0.op, packets[1].0.flags), (op::SHUTDOWN, NO_SEND));
    guest.send(Header { op: op::DATA, ..header }, b"answer");
    guest.send(Header { op: op::SHUTDOWN, flags: NO_SEND, ..header }, b"");
    // Now both are.
    let (over, _) = guest.one();
    assert_eq!((over.op, over.flags), (op::SHUTDOWN, NO_SEND | NO_RECEIVE));
    let mut text = String::new();
    host.read_to_string(&mut text).unwrap();
    assert_eq!(text, "answer");
    guest.send(Header { op: op::RESET, ..header }, b"");
    assert!(guest.packets().is_empty());
    assert_eq!(guest.connections(), 0);
}

#[test]
fn what_belongs_to_nothing_is_reset() {
    let mut guest = Guest::new();
    let good = packet(9, 5000);
    for header in [
        Header { op: op::REQUEST, ..good },
        Header { op: op::DATA, ..good },
        Header { op: 99, ..good },
        Header { op: op::REQUEST, target: 1, ..good },
        Header { op: op::REQUEST, kind: 2, ..good },
    ] {
        guest.send(header, b"x");
        let (reset, _) = guest.one();
        assert_eq!((reset.op, reset.source_port, reset.target_port, reset.source), (op::RESET, 5000, 9, header.target));
    }
    for header in [Header { op: op::RESET, ..good }, Header { op: op::REQUEST, source: 3, ..good }] {
        guest.send(header, b"");
        assert!(guest.packets().is_empty());
    }
    guest.driver.add(1, &[Piece::read(DATA, 43)]);
    assert!(guest.packets().is_empty());
}

#[test]
fn a_guest_that_lies_about_credit_is_reset() {
    for lie in [
        // More received than was sent.
        (Header { op: op::CREDIT_UPDATE, forwarded: 1, ..packet(0, 0) }, 0),
        (Header { op: op::CREDIT_UPDATE, forwarded: u32::MAX, ..packet(0, 0) }, 0),
        // More sent than may be.
        (Header { op: op::DATA, ..packet(0, 0) }, super::connection::BUFFER as usize + 1),
        // Said to be over.
        (Header { op: op::RESPONSE, ..packet(0, 0) }, 0),
    ] {
        let mut guest = Guest::new();
        let (_host, header) = guest.called();
        // Two packets where one is too large for the test's memory.
        let most = 60_000;
        let lie_header = Header { source_port: header.source_port, target_port: header.target_port, ..lie.0 };
        for part in vec![0; lie.1].chunks(most) {
            guest.send(lie_header, part);
        }
        if lie.1 == 0 {
            guest.send(lie_header, b"");
        }
        let packets = guest.packets();
        let resets = packets.iter().filter(|(header, _)| header.op == op::RESET).count();
        // The socket itself takes some of what is sent, so that isn't always too much.
        assert!(resets == 1 || lie.1 > 0, "{lie:?}: {packets:?}");
        assert_eq!(guest.connections(), 1 - resets);
    }
}

#[test]
fn the_guest_gets_no_more_than_it_has_room_for() {
    let mut guest = Guest::new();
    let (mut host, header) = guest.called();
    guest.send(Header { op: op::CREDIT_UPDATE, buffer: 10, ..header }, b"");
    host.write_all(b"0123456789abcdef").unwrap();
    let packets = guest.packets();
    assert_eq!(packets[0].1, b"0123456789");
    assert_eq!((packets[1].0.op, packets.len()), (op::CREDIT_REQUEST, 2), "asked once");
    guest.send(Header { op: op::CREDIT_UPDATE, buffer: 10, forwarded: 10, ..header }, b"");
    assert_eq!(guest.one().1, b"abcdef");
    guest.send(Header { op: op::CREDIT_REQUEST, buffer: 10, forwarded: 16, ..header }, b"");
    assert_eq!(guest.one().0.op, op::CREDIT_UPDATE);
}

#[test]
fn a_slow_reader_loses_nothing_and_the_guest_hears_of_its_credit() {
    let mut guest = Guest::new();
    let (mut host, header) = guest.called();
    let all: Vec<u8> = (0..2_000_000_u32).map(|at| (at / 7) as u8).collect();
    let (mut sent, mut forwarded, mut got) = (0, 0_u32, Vec::<u8>::new());
    host.set_nonblocking(true).unwrap();
    while got.len() < all.len() {
        while sent < all.len() && (sent as u32).wrapping_sub(forwarded) + 30_000 <= super::connection::BUFFER {
            let end = (sent + 30_000).min(all.len());
            guest.send(Header { op: op::DATA, ..header }, &all[sent..end]);
            sent = end;
            for (header, _) in guest.packets() {
                assert_eq!(header.op, op::CREDIT_UPDATE);
                forwarded = header.forwarded;
            }
        }
        let mut bytes = vec![0; 50_000];
        if let Ok(count) = host.read(&mut bytes) {
            got.extend(&bytes[..count]);
        }
        for (header, _) in guest.packets() {
            assert_eq!(header.op, op::CREDIT_UPDATE);
            forwarded = header.forwarded;
        }
    }
    assert!(got == all);
}

#[test]
fn many_connections_at_once() {
    let mut guest = Guest::new();
    let mut hosts: Vec<_> = (0..60).map(|_| guest.called()).collect();
    for (number, (host, _)) in hosts.iter_mut().enumerate() {
        host.write_all(format!("number {number}").as_bytes()).unwrap();
    }
    let mut packets = Vec::new();
    for _ in 0..100 {
        packets.extend(guest.packets());
    }
    assert_eq!(packets.len(), 60);
    for (header, bytes) in packets {
        let number = hosts.iter().position(|(_, host)| host.target_port == header.source_port).unwrap();
        assert_eq!(bytes, format!("number {number}").into_bytes());
    }
    drop(hosts);
    let mut over = guest.packets();
    while let Some((header, _)) = over.pop() {
        assert_eq!((header.op, header.flags), (op::SHUTDOWN, NO_SEND | NO_RECEIVE));
        guest.send(Header { op: op::RESET, ..packet(52, header.source_port) }, b"");
        over.extend(guest.packets());
    }
    assert_eq!(guest.connections(), 0);
}

#[test]
fn callers_who_say_something_else_are_hung_up_on() {
    let mut guest = Guest::new();
    for line in ["HELLO 52\n", "CONNECT x\n", "CONNECT 4294967296\n", "CONNECT                                    1\n"] {
        let mut host = guest.host();
        host.write_all(line.as_bytes()).unwrap();
        assert!(guest.packets().is_empty());
        assert_eq!(host.read(&mut [0]).unwrap_or(0), 0, "{line}");
    }
    // In pieces it is all the same.
    let mut host = guest.host();
    host.write_all(b"CONN").unwrap();
    assert!(guest.packets().is_empty());
    host.write_all(b"ECT 1\n").unwrap();
    assert_eq!(guest.one().0.target_port, 1);
    drop(host);
    assert_eq!(guest.one().0.op, op::RESET, "it didn't wait");
}

#[test]
fn after_a_restore_the_guest_hears_that_its_connections_are_gone() {
    let mut guest = Guest::new();
    let (mut host, _) = guest.called();
    let state = guest.driver.transport.save().unwrap();
    assert_eq!(guest.driver.transport.restore(state).unwrap(), Change::Sources);
    assert_eq!(host.read(&mut [0]).unwrap(), 0);
    guest.driver.put(DATA + 0x20_0000, &[0xff; 4]);
    let head = guest.driver.add(2, &[Piece::write(DATA + 0x20_0000, 4)]);
    assert_eq!(guest.driver.run(), [(2, head, 4)]);
    assert_eq!(guest.driver.bytes(DATA + 0x20_0000, 4), [0; 4]);
}

#[test]
fn the_path_is_ours_alone_and_goes_with_us() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { cid: 3, path: folder.path().join("v") };
    let first = Vsock::new(&config).unwrap();
    let error = Vsock::new(&config).unwrap_err().to_string();
    assert!(error.starts_with("can't listen at ") && error.ends_with("Address already in use"), "{error}");
    assert!(config.path.exists());
    drop(first);
    assert!(!config.path.exists());
    assert!(Vsock::new(&Config { cid: 2, path: config.path }).is_err());
}
