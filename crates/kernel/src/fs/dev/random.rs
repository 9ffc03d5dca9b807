//! `/dev/random` and `/dev/urandom`, random(4): both never wait, as the host's randomness is ready before a sandbox begins.

use crate::flow::SysResult;
use crate::fs::{AlwaysReady, File, FileType, Io};
use crate::mm::UserBuf;
use crate::{Errno, Flow, Kernel, Result};

/// `RNDGETENTCNT`.
const GET_COUNT: u32 = 0x8004_5200;

/// Bits of entropy that are said to be there (Linux: always, since 5.18).
pub const ENTROPY: i32 = 256;

/// Random bytes.
pub struct Random;

impl AlwaysReady for Random {}

/// Fills what is left of a buffer; answers how much that was.
///
/// # Errors
/// `EFAULT`: not even the first byte.
pub fn fill(kernel: &Kernel, buffer: &mut UserBuf) -> Result<usize> {
    let mut bytes = [0; 512];
    let mut done = 0;
    while buffer.left() > 0 {
        let part = buffer.left().min(bytes.len() as u64) as usize;
        kernel.host.entropy.fill(&mut bytes[..part]);
        match buffer.put(&bytes[..part]) {
            Ok(count) if count == part => done += count,
            Ok(count) => return Ok(done + count),
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}

impl File for Random {
    fn file_type(&self) -> FileType {
        FileType::Character
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn end(&self) -> Result<u64> {
        Ok(0)
    }

    fn read(&self, io: &Io<'_>, _: u64, buffer: &mut UserBuf) -> Result<usize> {
        fill(io.task.kernel(), buffer)
    }

    /// What is written is thrown away: the host's randomness needs no help from a sandbox.
    fn write(&self, _: &Io<'_>, _: u64, buffer: &mut UserBuf) -> Result<usize> {
        let count = buffer.left();
        buffer.skip_all();
        Ok(count as usize)
    }

    fn read_bytes(&self, io: &Io<'_>, _: u64, into: &mut [u8]) -> Result<usize> {
        io.task.kernel().host.entropy.fill(into);
        Ok(into.len())
    }

    fn write_bytes(&self, _: &Io<'_>, _: u64, from: &[u8]) -> Result<usize> {
        Ok(from.len())
    }

    fn ioctl(&self, io: &Io<'_>, request: u32, argument: u64) -> SysResult {
        match request {
            GET_COUNT => io.task.mm().put(argument, &ENTROPY).map(Flow::from),
            _ if request >> 8 & 0xff == 0x52 => Err(Errno::EPERM),
            _ => Err(Errno::EINVAL),
        }
    }
}
