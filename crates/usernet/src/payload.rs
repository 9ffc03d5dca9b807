//! What a frame of the guest's carries, where it lies: in memory that the guest can change at any time.

use crate::wire::Sum;
use vm_memory::VolatileSlice;

/// A part of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payload<'f> {
    frame: &'f [VolatileSlice<'f>],
    start: usize,
    length: usize,
}

impl<'f> Payload<'f> {
    /// A part of the frame, which is at least so long.
    pub(crate) fn new(frame: &'f [VolatileSlice<'f>], start: usize, length: usize) -> Payload<'f> {
        Payload { frame, start, length }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// What comes after so many bytes, and at most so much.
    pub(crate) fn part(&self, skip: usize, most: usize) -> Payload<'f> {
        let skip = skip.min(self.length);
        Payload { frame: self.frame, start: self.start + skip, length: most.min(self.length - skip) }
    }

    /// The same as memory, for a system call.
    pub(crate) fn pieces(&self) -> Vec<VolatileSlice<'f>> {
        let (mut skip, mut left) = (self.start, self.length);
        let mut pieces = Vec::with_capacity(self.frame.len());
        for piece in self.frame {
            let skipped = skip.min(piece.len());
            let taken = (piece.len() - skipped).min(left);
            skip -= skipped;
            left -= taken;
            if taken > 0 {
                pieces.extend(piece.subslice(skipped, taken));
            }
        }
        pieces
    }

    /// Copies it; how many bytes there were.
    pub(crate) fn copy_to(&self, to: &mut [u8]) -> usize {
        let mut done = 0;
        for piece in self.pieces() {
            done += piece.copy_to(&mut to[done..]);
        }
        done
    }

    pub(crate) fn to_vec(self) -> Vec<u8> {
        let mut bytes = vec![0; self.length];
        let count = self.copy_to(&mut bytes);
        bytes.truncate(count);
        bytes
    }

    /// Adds it to a checksum.
    pub(crate) fn sum(&self, sum: &mut Sum) {
        let mut chunk = [0; 4096];
        for at in (0..self.length).step_by(chunk.len()) {
            let count = self.part(at, chunk.len()).copy_to(&mut chunk);
            sum.add(&chunk[..count]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_are_those_of_the_whole(cuts in prop::collection::vec(0..600_usize, 0..9), skip in 0..2000_usize, most in 0..2000_usize) {
            let total = cuts.iter().sum::<usize>();
            let bytes: Vec<u8> = (0..total).map(|at| (at * 7) as u8).collect();
            let mut copy = bytes.clone();
            let mut rest = copy.as_mut_slice();
            let mut frame = Vec::new();
            for cut in &cuts {
                let (piece, others) = rest.split_at_mut(*cut);
                frame.push(VolatileSlice::from(piece));
                rest = others;
            }
            let start = total.min(14);
            let part = Payload::new(&frame, start, total - start).part(skip, most);
            let expected: Vec<u8> = bytes[start..].iter().copied().skip(skip).take(most).collect();
            prop_assert_eq!(part.len(), expected.len());
            prop_assert_eq!(part.to_vec(), expected.clone());
            let (mut one, mut other) = (Sum::default(), Sum::default());
            part.sum(&mut one);
            other.add(&expected);
            prop_assert_eq!(one.checksum(), other.checksum());
        }
    }
}
