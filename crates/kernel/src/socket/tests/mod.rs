//! Sockets as programs use them.

mod hostile;
mod inet;
mod netlink;
mod unix;

use crate::testing::{self, Call, World};
use crate::wait::Events;
use crate::{Result, task::Task};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use insula_abi::Sysno;
use insula_abi::socket::{Cmsghdr, Msghdr};
use insula_abi::zerocopy::{FromBytes, IntoBytes};

/// A process with some memory to pass things in.
pub(super) struct Program {
    pub(super) world: World,
    pub(super) task: Arc<Task>,
    /// 256 KiB.
    pub(super) memory: u64,
    /// Where arguments are put, around and around.
    scratch: u64,
    used: Cell<u64>,
}

const SCRATCH: u64 = 1 << 18;

impl Program {
    pub(super) fn new() -> Self {
        let world = World::new();
        let task = world.process();
        let memory = testing::memory(&task, 1 << 18);
        let scratch = testing::memory(&task, SCRATCH);
        Program { world, task, memory, scratch, used: Cell::new(0) }
    }

    pub(super) fn call(&self, number: Sysno, arguments: &[u64]) -> Result<u64> {
        self.world.now(&self.task, number, arguments)
    }

    /// A call of another thread, which may wait.
    pub(super) fn begin(&self, number: Sysno, arguments: &[u64]) -> Call {
        let thread = self.world.thread(&self.task);
        self.world.call(&thread, number, arguments)
    }

    pub(super) fn bytes(&self, from: &[u8]) -> u64 {
        let len = (from.len() as u64).next_multiple_of(16);
        let used = if self.used.get() + len > SCRATCH { 0 } else { self.used.get() };
        self.used.set(used + len);
        self.task.mm().write(self.scratch + used, from).expect("scratch");
        self.scratch + used
    }

    pub(super) fn socket(&self, domain: u32, kind: u32) -> u64 {
        self.call(Sysno::socket, &[domain.into(), kind.into(), 0]).expect("a socket")
    }

    pub(super) fn pair(&self, kind: u32) -> (u64, u64) {
        assert_eq!(self.call(Sysno::socketpair, &[1, kind.into(), 0, self.memory]), Ok(0));
        let [one, other] = self.task.mm().get::<[i32; 2]>(self.memory).expect("two descriptors");
        (one as u64, other as u64)
    }

    pub(super) fn write(&self, fd: u64, data: &[u8]) -> Result<u64> {
        self.send(fd, data, 0)
    }

    pub(super) fn send(&self, fd: u64, data: &[u8], flags: u32) -> Result<u64> {
        self.send_to(fd, data, flags, &[])
    }

    pub(super) fn send_to(&self, fd: u64, data: &[u8], flags: u32, to: &[u8]) -> Result<u64> {
        let at = self.bytes(data);
        let address = if to.is_empty() { 0 } else { self.bytes(to) };
        self.call(Sysno::sendto, &[fd, at, data.len() as u64, flags.into(), address, to.len() as u64])
    }

    /// Receives without waiting.
    pub(super) fn receive(&self, fd: u64, len: usize, flags: u32) -> Result<Vec<u8>> {
        let flags = flags | insula_abi::net::MSG_DONTWAIT;
        let count = self.call(Sysno::recvfrom, &[fd, self.memory, len as u64, flags.into(), 0, 0])? as usize;
        let mut bytes = alloc::vec![0; count.min(len)];
        self.task.mm().read(self.memory, &mut bytes).expect("memory");
        Ok(bytes)
    }

    pub(super) fn with_address(&self, number: Sysno, fd: u64, address: &[u8]) -> Result<u64> {
        let at = self.bytes(address);
        self.call(number, &[fd, at, address.len() as u64])
    }

    pub(super) fn bind(&self, fd: u64, address: &[u8]) -> Result<u64> {
        self.with_address(Sysno::bind, fd, address)
    }

    pub(super) fn connect(&self, fd: u64, address: &[u8]) -> Result<u64> {
        self.with_address(Sysno::connect, fd, address)
    }

    /// getsockname(2), or getpeername(2).
    pub(super) fn name(&self, number: Sysno, fd: u64) -> Result<Vec<u8>> {
        self.task.mm().put(self.memory, &128u32).expect("memory");
        self.call(number, &[fd, self.memory + 8, self.memory])?;
        let len = self.task.mm().get::<u32>(self.memory).expect("memory") as usize;
        let mut bytes = alloc::vec![0; len];
        self.task.mm().read(self.memory + 8, &mut bytes).expect("memory");
        Ok(bytes)
    }

    pub(super) fn set_option(&self, fd: u64, level: u32, name: u32, value: &[u8]) -> Result<u64> {
        let at = self.bytes(value);
        self.call(Sysno::setsockopt, &[fd, level.into(), name.into(), at, value.len() as u64])
    }

    pub(super) fn option(&self, fd: u64, level: u32, name: u32) -> Result<i32> {
        self.task.mm().put(self.memory, &4u32).expect("memory");
        self.call(Sysno::getsockopt, &[fd, level.into(), name.into(), self.memory + 8, self.memory])?;
        self.task.mm().get(self.memory + 8)
    }

    pub(super) fn close(&self, fd: u64) {
        drop(self.task.descriptors().take(fd as i32).expect("open"));
    }

    pub(super) fn poll(&self, fd: u64) -> Events {
        self.task.file(fd as i32).expect("open").file.poll()
    }

    /// sendmsg(2) with control data.
    pub(super) fn send_control(&self, fd: u64, data: &[u8], control: &[u8]) -> Result<u64> {
        let iov = self.bytes([self.bytes(data), data.len() as u64].as_bytes());
        let (at, controllen) = (self.bytes(control), control.len() as u64);
        let header = Msghdr { iov, iovlen: 1, control: at, controllen, ..Msghdr::default() };
        self.call(Sysno::sendmsg, &[fd, self.bytes(header.as_bytes()), 0])
    }

    /// recvmsg(2) without waiting, with so much room for control data: bytes, control data, flags.
    pub(super) fn receive_control(&self, fd: u64, len: usize, room: usize, flags: u32) -> Result<(u64, Vec<u8>, u32)> {
        let (data, control) = (self.bytes(&[0; 4096]), self.bytes(&[0; 4096]));
        let iov = self.bytes([data, len as u64].as_bytes());
        let header = Msghdr { iov, iovlen: 1, control, controllen: room as u64, ..Msghdr::default() };
        let at = self.bytes(header.as_bytes());
        let flags = flags | insula_abi::net::MSG_DONTWAIT;
        let count = self.call(Sysno::recvmsg, &[fd, at, flags.into()])?;
        let header: Msghdr = self.task.mm().get(at)?;
        let mut bytes = alloc::vec![0; header.controllen as usize];
        self.task.mm().read(control, &mut bytes)?;
        Ok((count, bytes, header.flags))
    }
}

/// An item of control data.
pub(super) fn item(level: u32, kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = Cmsghdr { len: 16 + data.len() as u64, level, kind }.as_bytes().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

/// The numbers in the first item of control data.
pub(super) fn numbers(control: &[u8]) -> Vec<i32> {
    let Ok((head, _)) = Cmsghdr::read_from_prefix(control) else { return Vec::new() };
    control[16..head.len as usize].chunks_exact(4).map(|word| i32::from_ne_bytes(word.try_into().expect("four"))).collect()
}
