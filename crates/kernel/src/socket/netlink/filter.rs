//! Which sockets are asked for: a program of `struct inet_diag_bc_op`, as ss(8) makes it of an expression (`linux/inet_diag.h`).

use crate::{Errno, Result};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};
use insula_abi::net as n;

/// Bytes of one operation, without what belongs to it.
const OPERATION: usize = 4;

/// What a program looks at.
pub(super) struct Asked {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// The interface that it is bound to; 0 is none.
    pub(super) device: u32,
    pub(super) mark: u32,
}

/// A program that was checked: each step leads onward, to an operation or to one of the two ends.
pub(super) struct Code(Vec<u8>);

/// Operations: `INET_DIAG_BC_*`.
mod op {
    pub(super) const NOP: u8 = 0;
    pub(super) const JMP: u8 = 1;
    pub(super) const S_GE: u8 = 2;
    pub(super) const S_LE: u8 = 3;
    pub(super) const D_GE: u8 = 4;
    pub(super) const D_LE: u8 = 5;
    pub(super) const AUTO: u8 = 6;
    pub(super) const S_COND: u8 = 7;
    pub(super) const D_COND: u8 = 8;
    pub(super) const DEV_COND: u8 = 9;
    pub(super) const MARK_COND: u8 = 10;
    pub(super) const S_EQ: u8 = 11;
    pub(super) const D_EQ: u8 = 12;
}

impl Code {
    /// Checks a program.
    ///
    /// # Errors
    /// `EINVAL`: an operation isn't known, lacks what belongs to it, or leads nowhere.
    pub(super) fn new(code: &[u8]) -> Result<Self> {
        let mut at = 0;
        while at < code.len() {
            let left = code.len() - at;
            let bytes = &code[at..];
            if left < OPERATION {
                return Err(Errno::EINVAL);
            }
            let (kind, yes, no) = (bytes[0], usize::from(bytes[1]), usize::from(half(bytes, 2)));
            let own = match kind {
                op::NOP | op::JMP | op::AUTO => OPERATION,
                op::S_GE | op::S_LE | op::D_GE | op::D_LE | op::S_EQ | op::D_EQ | op::DEV_COND => 2 * OPERATION,
                op::MARK_COND => 3 * OPERATION,
                op::S_COND | op::D_COND if left >= 3 * OPERATION => match u32::from(bytes[4]) {
                    n::AF_UNSPEC => 3 * OPERATION,
                    n::AF_INET => 4 * OPERATION,
                    n::AF_INET6 => 7 * OPERATION,
                    _ => return Err(Errno::EINVAL),
                },
                _ => return Err(Errno::EINVAL),
            };
            // One step past the end says no.
            let leads = |step: usize| step >= OPERATION && step <= left + OPERATION && step.is_multiple_of(4);
            let jumps = !matches!(kind, op::NOP);
            if own > left || yes < own || yes > left || !yes.is_multiple_of(4) || jumps && !leads(no) {
                return Err(Errno::EINVAL);
            }
            at += yes;
        }
        Ok(Code(code.to_vec()))
    }

    /// Whether a socket is one that is asked for.
    pub(super) fn wants(&self, asked: &Asked) -> bool {
        let mut at = 0;
        while let Some(bytes) = self.0.get(at..).filter(|bytes| bytes.len() >= OPERATION) {
            let port = || bytes.get(6..8).map_or(0, |port| u16::from_ne_bytes([port[0], port[1]]));
            let number =
                |at: usize| bytes.get(at..at + 4).map_or(0, |word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
            let yes = match bytes[0] {
                op::JMP => false,
                op::S_GE => asked.local.port() >= port(),
                op::S_LE => asked.local.port() <= port(),
                op::S_EQ => asked.local.port() == port(),
                op::D_GE => asked.remote.port() >= port(),
                op::D_LE => asked.remote.port() <= port(),
                op::D_EQ => asked.remote.port() == port(),
                // Nothing tells whether a port was asked for by its number.
                op::AUTO => false,
                op::S_COND => is_host(bytes, asked.local),
                op::D_COND => is_host(bytes, asked.remote),
                op::DEV_COND => number(4) == asked.device,
                op::MARK_COND => asked.mark & number(8) == number(4),
                _ => true,
            };
            // Each step is onward, so there is an end.
            at += usize::max(if yes { bytes[1].into() } else { half(bytes, 2).into() }, OPERATION);
        }
        at == self.0.len()
    }
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

/// `struct inet_diag_hostcond`: family, length of the prefix, port (-1 is any), address.
fn is_host(bytes: &[u8], at: SocketAddr) -> bool {
    let Some(condition) = bytes.get(4..12) else { return false };
    let (family, prefix) = (u32::from(condition[0]), u32::from(condition[1]));
    let port = i32::from_ne_bytes([condition[4], condition[5], condition[6], condition[7]]);
    if port != -1 && port != i32::from(at.port()) {
        return false;
    }
    if prefix == 0 && family == n::AF_UNSPEC {
        return true;
    }
    let len = if family == n::AF_INET { 4 } else { 16 };
    let Some(wanted) = bytes.get(12..12 + len).filter(|_| family != n::AF_UNSPEC) else { return true };
    let own: Vec<u8> = match (family, at.ip()) {
        (n::AF_INET, IpAddr::V4(ip)) => ip.octets().to_vec(),
        (n::AF_INET, IpAddr::V6(ip)) => match ip.to_ipv4_mapped() {
            Some(ip) => ip.octets().to_vec(),
            None => return false,
        },
        (_, IpAddr::V6(ip)) => ip.octets().to_vec(),
        (_, IpAddr::V4(ip)) if prefix == 0 => Ipv6Addr::from_bits(ip.to_ipv6_mapped().to_bits()).octets().to_vec(),
        (_, IpAddr::V4(_)) => return false,
    };
    let (whole, rest) = ((prefix / 8) as usize, prefix % 8);
    let same = own.iter().zip(wanted).take(whole).all(|(one, other)| one == other);
    let mask = !(0xffu32 >> rest) as u8;
    same && (rest == 0 || own.get(whole).zip(wanted.get(whole)).is_some_and(|(one, other)| one & mask == other & mask))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(local: &str) -> Asked {
        let (local, remote) = (local.parse().expect("an address"), "0.0.0.0:0".parse().expect("an address"));
        Asked { local, remote, device: 0, mark: 0 }
    }

    /// The port is 80.
    fn port_is_80() -> Vec<u8> {
        let mut code = alloc::vec![op::S_GE, 8, 20, 0, 0, 0, 80, 0];
        code.extend([op::S_LE, 8, 12, 0, 0, 0, 80, 0]);
        code
    }

    #[test]
    fn ports_and_hosts_are_compared() {
        let code = Code::new(&port_is_80()).expect("a program");
        assert!(code.wants(&asked("127.0.0.1:80")) && !code.wants(&asked("127.0.0.1:81")) && !code.wants(&asked("127.0.0.1:79")));
        let mut host = alloc::vec![op::S_COND, 16, 20, 0, n::AF_INET as u8, 12, 0, 0];
        host.extend((-1i32).to_ne_bytes());
        host.extend([127, 16, 0, 0]);
        let code = Code::new(&host).expect("a program");
        assert!(code.wants(&asked("127.31.0.1:1")) && !code.wants(&asked("127.32.0.1:1")) && !code.wants(&asked("[::1]:1")));
        assert!(Code::new(&[]).expect("none").wants(&asked("127.0.0.1:1")));
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        let good = port_is_80();
        for len in 1..good.len() {
            assert!(Code::new(&good[..len]).is_err(), "{len}");
        }
        let mut chance = 1u64;
        for _ in 0..20_000 {
            let mut code = good.clone();
            for _ in 0..2 {
                chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (chance >> 33) as usize % code.len();
                code[at] = (chance >> 20) as u8;
            }
            if let Ok(code) = Code::new(&code) {
                code.wants(&asked("127.0.0.1:80"));
            }
        }
    }
}
