//! What programs ask about the network.

use super::*;
use crate::Errno;
use crate::socket::netlink::message::{Messages, Writer};
use insula_abi::net as n;

const DUMP: u16 = 0x301;

fn netlink(p: &Program) -> u64 {
    let fd = p.socket(n::AF_NETLINK, n::SOCK_RAW);
    assert_eq!(p.bind(fd, &address(0)), Ok(0));
    fd
}

fn address(number: u32) -> Vec<u8> {
    let mut bytes = [16u16, 0].as_bytes().to_vec();
    bytes.extend(number.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes
}

/// What is answered: kinds, and what follows the heads.
fn ask(p: &Program, fd: u64, request: Writer) -> Vec<(u16, Vec<u8>)> {
    let request = request.finish();
    assert_eq!(p.write(fd, &request), Ok(request.len() as u64));
    let mut answers = Vec::new();
    while let Ok(bytes) = p.receive(fd, 32768, 0) {
        for message in Messages(&bytes) {
            assert_eq!(message.sequence, 77);
            answers.push((message.kind, message.body().to_vec()));
        }
    }
    answers
}

fn dump(p: &Program, kind: u16, family: u8) -> Vec<(u16, Vec<u8>)> {
    let fd = netlink(p);
    let mut answers = ask(p, fd, Writer::new(kind, DUMP, 77, 0).bytes(&[family]).bytes(&[0; 16]));
    p.close(fd);
    assert_eq!(answers.pop().map(|last| last.0), Some(3), "the end");
    answers
}

fn has(answer: &(u16, Vec<u8>), attribute: u16, head: usize, value: &[u8]) -> bool {
    let whole = Writer::new(answer.0, 0, 0, 0).bytes(&answer.1).finish();
    Messages(&whole).next().is_some_and(|message| message.attributes(head).any(|found| found == (attribute, value)))
}

#[test]
fn interfaces_addresses_and_routes_are_listed() {
    let p = Program::new();
    let links = dump(&p, 18, 0);
    assert!(
        links.len() == 1 && links[0].0 == 16 && has(&links[0], 3, 16, b"lo\0") && has(&links[0], 4, 16, &65536u32.to_ne_bytes())
    );
    let addresses = dump(&p, 22, n::AF_INET as u8);
    assert!(addresses.len() == 1 && has(&addresses[0], 2, 8, &[127, 0, 0, 1]));
    let mut home = [0; 16];
    home[15] = 1;
    let addresses = dump(&p, 22, n::AF_INET6 as u8);
    assert!(addresses.len() == 1 && has(&addresses[0], 1, 8, &home));
    let routes = dump(&p, 26, n::AF_INET as u8);
    assert!(routes.iter().any(|route| route.0 == 24 && has(route, 1, 12, &[127, 0, 0, 0])));
    assert_eq!(dump(&p, 22, 0).len(), 2);
    assert_eq!(dump(&p, 30, 0), [], "no neighbours");
}

#[test]
fn requests_are_checked_and_carried_out() {
    let p = Program::new();
    let fd = netlink(&p);
    assert_eq!(p.name(Sysno::getsockname, fd), Ok(address(p.task.process.pid as u32)));
    assert_ne!(p.name(Sysno::getsockname, netlink(&p)), p.name(Sysno::getsockname, fd));
    let error = |answers: Vec<(u16, Vec<u8>)>| match &answers[..] {
        [(2, body)] => -i32::from_ne_bytes(body[..4].try_into().expect("four")),
        other => panic!("no error: {other:?}"),
    };
    assert_eq!(error(ask(&p, fd, Writer::new(999, 1, 77, 0).bytes(&[0; 20]))), Errno::EOPNOTSUPP.0.into());
    let lo = |kind| Writer::new(kind, 5, 77, 0).bytes(&[2, 24, 0, 0, 1, 0, 0, 0]).attribute(2, &[10, 1, 2, 3]);
    assert_eq!(error(ask(&p, fd, lo(20))), 0);
    assert_eq!(dump(&p, 22, 2).len(), 2);
    let server = p.socket(n::AF_INET, n::SOCK_STREAM);
    assert_eq!(p.bind(server, &[2, 0, 0, 0, 10, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0]), Ok(0), "it is ours now");
    assert_eq!(error(ask(&p, fd, lo(21))), 0);
    assert_eq!(error(ask(&p, fd, lo(21))), Errno::EADDRNOTAVAIL.0.into());
    let mut nobody = (*p.task.credentials()).clone();
    nobody.capabilities.effective = 0;
    p.task.set_credentials(nobody);
    assert_eq!(error(ask(&p, fd, lo(20))), Errno::EPERM.0.into());
    assert_eq!(error(ask(&p, fd, Writer::new(999, 1, 77, 0).bytes(&[0; 20]))), Errno::EOPNOTSUPP.0.into(), "nobody has it");
    assert_eq!(p.call(Sysno::socket, &[16, 1, 0]), Err(Errno::ESOCKTNOSUPPORT));
    assert_eq!(p.call(Sysno::socket, &[16, 3, 999]), Err(Errno::EPROTONOSUPPORT));
    assert_eq!(p.write(fd, b"no message"), Ok(10));
    assert_eq!(p.receive(fd, 99, 0), Err(Errno::EAGAIN));
}

#[test]
fn noise_is_answered_with_errors_only() {
    let p = Program::new();
    let fd = netlink(&p);
    let mut chance = super::hostile::Chance(3);
    for _ in 0..5_000 {
        let kind = (16 + chance.next() % 110) as u16;
        let body: Vec<u8> =
            (0..chance.next() % 64).map(|_| if chance.next().is_multiple_of(3) { 0 } else { chance.next() as u8 }).collect();
        let request = Writer::new(kind, chance.next() as u16 & 0x7ff, 77, 0).bytes(&body).finish();
        assert!(p.write(fd, &request).is_ok() || p.option(fd, n::SOL_SOCKET, n::SO_ERROR).is_ok());
        while p.receive(fd, 32768, 0).is_ok() {}
    }
    assert!(p.world.kernel.spaces.net.holds.inet.interfaces.all()[0].addresses.len() <= 256);
}
