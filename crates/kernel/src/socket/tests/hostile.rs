//! What no honest program passes.

use super::*;
use crate::Errno;
use crate::socket::control;
use insula_abi::net as n;

/// Numbers that look like chance, the same each time.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) fn one_of(&mut self, from: &[u64]) -> u64 {
        from[(self.next() % from.len() as u64) as usize]
    }
}

#[test]
fn control_data_never_leads_out_of_itself() {
    let mut chance = Chance(1);
    for _ in 0..20_000 {
        let len = chance.next() % 80;
        let mut bytes: Vec<u8> = (0..len).map(|_| chance.next() as u8).collect();
        // Lengths that are nearly right.
        if bytes.len() >= 8 {
            let length = chance.one_of(&[0, 1, 15, 16, 17, len, len + 1, u64::MAX, u64::MAX - 7, 1 << 63, chance.0]);
            bytes[..8].copy_from_slice(&length.to_ne_bytes());
        }
        if let Ok(items) = control::parse(&bytes) {
            assert!(items.iter().map(|item| item.data.len() + 16).sum::<usize>() <= bytes.len());
        }
    }
    let two = [item(1, 2, b"abc"), item(3, 4, b"")].concat();
    assert_eq!(control::parse(&two).map(|items| items.len()), Ok(2));
    assert_eq!(control::parse(&two[..30]).map(|items| items.len()), Ok(1), "too short for another head");
    assert_eq!(control::parse(&17u64.to_ne_bytes().repeat(2)), Err(Errno::EINVAL));
}

#[test]
fn calls_with_anything_end_in_an_answer() {
    let p = Program::new();
    let mut chance = Chance(7);
    let mut fds = alloc::vec![u64::MAX, 0, 999];
    for kind in [n::SOCK_STREAM, n::SOCK_DGRAM, n::SOCK_SEQPACKET] {
        let (one, other) = p.pair(kind | insula_abi::general::O_NONBLOCK);
        fds.extend([one, other, p.socket(n::AF_UNIX, kind | insula_abi::general::O_NONBLOCK)]);
    }
    for (domain, kind) in
        [(n::AF_INET, n::SOCK_STREAM), (n::AF_INET6, n::SOCK_STREAM), (n::AF_INET, n::SOCK_DGRAM), (n::AF_INET6, n::SOCK_DGRAM)]
    {
        fds.extend([0; 2].map(|_| p.socket(domain, kind | insula_abi::general::O_NONBLOCK)));
    }
    let noise: Vec<u8> = (0..4096).map(|_| chance.next() as u8).collect();
    let noise = testing::bytes(&p.task, &noise);
    // Among the noise, addresses that mean something.
    for (at, address) in [(0, &[2, 0, 0x80, 1, 127, 0, 0, 1][..]), (64, &[10, 0, 0x80, 1]), (96, b"\x01\0\0name")] {
        p.task.mm().write(noise + at, address).expect("memory");
    }
    let calls = [
        Sysno::bind,
        Sysno::listen,
        Sysno::accept4,
        Sysno::connect,
        Sysno::getsockname,
        Sysno::getpeername,
        Sysno::shutdown,
        Sysno::setsockopt,
        Sysno::getsockopt,
        Sysno::sendto,
        Sysno::recvfrom,
        Sysno::sendmsg,
        Sysno::recvmsg,
        Sysno::sendmmsg,
        Sysno::recvmmsg,
        Sysno::socket,
        Sysno::socketpair,
    ];
    let flags: u64 = n::MSG_DONTWAIT.into();
    for _ in 0..30_000 {
        let number = calls[(chance.next() % calls.len() as u64) as usize];
        let mut value = || {
            let random = chance.next();
            chance.one_of(&[
                0,
                1,
                2,
                6,
                10,
                16,
                17,
                41,
                110,
                128,
                4096,
                noise,
                noise + 64,
                noise + 4090,
                u64::MAX,
                1 << 31,
                random,
            ])
        };
        let mut arguments = [value(), value(), value(), value(), value(), value()];
        arguments[0] = match number {
            Sysno::socket | Sysno::socketpair => arguments[0],
            _ => chance.one_of(&fds),
        };
        if matches!(number, Sysno::sendto | Sysno::recvfrom | Sysno::sendmmsg | Sysno::recvmmsg) {
            arguments[3] |= flags;
        }
        // Nothing waits: everything open is nonblocking.
        let _ = p.begin(number, &arguments).poll();
        // What was opened is closed, but for the first few.
        for (fd, _) in p.task.descriptors().all().into_iter().skip(28) {
            p.close(fd as u64);
        }
    }
}
