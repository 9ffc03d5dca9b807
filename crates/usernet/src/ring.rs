//! Bytes on their way, in buffers of one size that all connections share.

use crate::timers::Id;

/// How much a connection can hold in one direction: what can be under way between guest and us at once.
pub(crate) const SIZE: usize = 256 << 10;
/// Most buffers, so that all connections together hold 64 MiB. A buffer is with a connection only as long as there is something in it.
const MOST: usize = 256;
/// So many that nobody uses are kept.
const SPARE: usize = 16;

/// The buffers.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    spare: Vec<Box<[u8]>>,
    lent: usize,
    waiting: Vec<Id>,
}

impl Pool {
    fn lend(&mut self) -> Option<Box<[u8]>> {
        if self.lent == MOST {
            return None;
        }
        self.lent += 1;
        // The one used last: it is in the processor's cache.
        Some(self.spare.pop().unwrap_or_else(|| vec![0; SIZE].into()))
    }

    fn take_back(&mut self, buffer: Box<[u8]>) {
        self.lent -= 1;
        if self.spare.len() < SPARE {
            self.spare.push(buffer);
        }
    }

    /// Whether one can be had.
    pub(crate) fn has(&self) -> bool {
        self.lent < MOST
    }

    /// Somebody would like one.
    pub(crate) fn await_one(&mut self, id: Id) {
        self.waiting.push(id);
    }

    /// Who wanted one, if there are any now.
    pub(crate) fn awaited(&mut self) -> Vec<Id> {
        if self.has() { std::mem::take(&mut self.waiting) } else { Vec::new() }
    }
}

/// Bytes, first in, first out.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    buffer: Option<Box<[u8]>>,
    start: usize,
    length: usize,
}

impl Ring {
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Room for at most so many bytes, in two pieces; what was put there is told by [`Ring::add`]. None if there is no buffer to be had.
    pub(crate) fn room(&mut self, pool: &mut Pool, most: usize) -> Option<[&mut [u8]; 2]> {
        if self.buffer.is_none() {
            self.buffer = pool.lend();
        }
        let buffer = self.buffer.as_mut()?;
        let most = most.min(SIZE - self.length);
        let end = (self.start + self.length) % SIZE;
        let first = most.min(SIZE - end);
        let (before, after) = buffer.split_at_mut(end);
        Some([&mut after[..first], &mut before[..most - first]])
    }

    /// So many bytes were put into the room there was.
    pub(crate) fn add(&mut self, count: usize) {
        self.length += count;
    }

    /// Bytes from an offset on.
    pub(crate) fn part(&self, offset: usize, length: usize) -> [&[u8]; 2] {
        let Some(buffer) = &self.buffer else { return [&[], &[]] };
        let start = (self.start + offset) % SIZE;
        let first = length.min(SIZE - start);
        [&buffer[start..start + first], &buffer[..length - first]]
    }

    /// Forgets so many of the first bytes, and gives the buffer back with the last.
    pub(crate) fn consume(&mut self, pool: &mut Pool, count: usize) {
        self.length -= count;
        self.start = (self.start + count) % SIZE;
        if self.length == 0 {
            self.start = 0;
            if let Some(buffer) = self.buffer.take() {
                pool.take_back(buffer);
            }
        }
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self, pool: &mut Pool) {
        self.consume(pool, self.length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn put(ring: &mut Ring, pool: &mut Pool, bytes: &[u8]) -> usize {
        let Some([first, second]) = ring.room(pool, bytes.len()) else { return 0 };
        let (a, b) = (first.len(), second.len());
        first.copy_from_slice(&bytes[..a]);
        second.copy_from_slice(&bytes[a..a + b]);
        ring.add(a + b);
        a + b
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_goes_in_comes_out(steps in prop::collection::vec((0..SIZE, 0..SIZE, any::<u8>()), 1..30)) {
            let (mut ring, mut pool, mut model) = (Ring::default(), Pool::default(), VecDeque::new());
            for (more, less, seed) in steps {
                let bytes: Vec<u8> = (0..more).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed)).collect();
                let done = put(&mut ring, &mut pool, &bytes);
                prop_assert_eq!(done, more.min(SIZE - model.len()));
                model.extend(&bytes[..done]);
                let less = less.min(model.len());
                prop_assert_eq!(ring.part(less / 2, less - less / 2).concat(), model.range(less / 2..less).copied().collect::<Vec<_>>());
                ring.consume(&mut pool, less);
                model.drain(..less);
                prop_assert_eq!(ring.len(), model.len());
            }
            ring.clear(&mut pool);
            prop_assert_eq!(pool.lent, 0);
        }
    }

    #[test]
    fn there_is_an_end_to_buffers() {
        let mut pool = Pool::default();
        let mut rings: Vec<Ring> = (0..=MOST).map(|_| Ring::default()).collect();
        let got = rings.iter_mut().filter(|_| true).map(|ring| put(ring, &mut pool, b"x")).sum::<usize>();
        assert_eq!((got, pool.has()), (MOST, false));
        rings[0].clear(&mut pool);
        assert_eq!(put(&mut rings[MOST], &mut pool, b"y"), 1);
    }
}
