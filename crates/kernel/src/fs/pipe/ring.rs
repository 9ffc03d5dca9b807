//! A ring of bytes that takes memory only as it needs it.

use crate::mm::UserBuf;
use crate::{Errno, Result};
use alloc::vec;
use alloc::vec::Vec;

/// What a ring begins with, in bytes: a page.
const FIRST: usize = 4096;

/// Bytes, first in, first out.
#[derive(Default)]
pub struct Ring {
    bytes: Vec<u8>,
    head: usize,
    len: usize,
}

impl Ring {
    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes room for `more` bytes beside those in it.
    fn reserve(&mut self, more: usize) {
        let needed = self.len + more;
        if needed <= self.bytes.len() {
            return;
        }
        let mut bytes = vec![0; needed.next_power_of_two().max(FIRST)];
        let mut at = 0;
        for slice in self.filled(self.len) {
            bytes[at..at + slice.len()].copy_from_slice(slice);
            at += slice.len();
        }
        (self.bytes, self.head) = (bytes, 0);
    }

    /// Where the first `most` bytes lie, in two pieces.
    pub fn filled(&self, most: usize) -> [&[u8]; 2] {
        let len = most.min(self.len);
        let first = len.min(self.bytes.len() - self.head);
        [&self.bytes[self.head..self.head + first], &self.bytes[..len - first]]
    }

    /// The next piece of free room, at most `most` bytes; there must be some.
    fn free(&mut self, most: usize) -> &mut [u8] {
        self.reserve(most);
        let start = (self.head + self.len) % self.bytes.len();
        let end = if start < self.head { self.head } else { self.bytes.len() };
        let end = end.min(start + most);
        &mut self.bytes[start..end]
    }

    /// Takes up to `most` bytes in from a program; answers how many.
    ///
    /// # Errors
    /// `EFAULT`: not even one.
    pub fn take_from(&mut self, buffer: &mut UserBuf, most: usize) -> Result<usize> {
        let mut done = 0;
        while done < most {
            let room = self.free(most - done);
            let want = room.len();
            let taken = buffer.take(room);
            let count = *taken.as_ref().unwrap_or(&0);
            self.len += count;
            done += count;
            if count < want {
                // As on Linux, a page that can't be filled isn't written at all.
                let whole = done - done % FIRST;
                self.len -= done - whole;
                return if whole == 0 { Err(taken.err().unwrap_or(Errno::EFAULT)) } else { Ok(whole) };
            }
        }
        Ok(done)
    }

    /// Gives up to `most` bytes to a program; answers how many.
    ///
    /// # Errors
    /// `EFAULT`: not even one.
    pub fn give_to(&mut self, buffer: &mut UserBuf, most: usize) -> Result<usize> {
        let mut done = 0;
        for slice in self.filled(most) {
            if slice.is_empty() {
                break;
            }
            match buffer.put(slice) {
                Ok(count) => {
                    done += count;
                    if count < slice.len() {
                        break;
                    }
                }
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        self.skip(done);
        Ok(done)
    }

    /// Adds bytes of the kernel's.
    pub fn push(&mut self, mut from: &[u8]) {
        while !from.is_empty() {
            let room = self.free(from.len());
            let (now, later) = from.split_at(room.len());
            room.copy_from_slice(now);
            self.len += now.len();
            from = later;
        }
    }

    /// Copies the first bytes, which stay; answers how many.
    pub fn peek(&self, into: &mut [u8]) -> usize {
        let mut done = 0;
        for slice in self.filled(into.len()) {
            into[done..done + slice.len()].copy_from_slice(slice);
            done += slice.len();
        }
        done
    }

    /// The last byte.
    pub fn last(&self) -> Option<u8> {
        let index = self.len.checked_sub(1)?;
        self.bytes.get((self.head + index) % self.bytes.len()).copied()
    }

    /// Drops the last bytes, so that at most `len` are left.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Drops the first `count` bytes; there must be so many.
    pub fn skip(&mut self, count: usize) {
        self.len -= count;
        self.head = if self.len == 0 { 0 } else { (self.head + count) % self.bytes.len() };
        // Who once had much in it need not keep the memory.
        if self.len == 0 && self.bytes.len() > 16 * FIRST {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in_around_the_end_and_across_growth() {
        let mut ring = Ring::default();
        let (mut next_in, mut next_out) = (0u32, 0u32);
        for round in 0..2000usize {
            let count = round * 37 % 701;
            let bytes: Vec<u8> = (0..count)
                .map(|_| {
                    next_in += 1;
                    next_in as u8
                })
                .collect();
            ring.push(&bytes);
            let mut out = vec![0; (round * 53 % 677).min(ring.len())];
            assert_eq!(ring.peek(&mut out), out.len());
            ring.skip(out.len());
            for byte in out {
                next_out += 1;
                assert_eq!(byte, next_out as u8);
            }
        }
        assert_eq!(ring.len() as u32, next_in - next_out);
    }
}
