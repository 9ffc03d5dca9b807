//! The pages of all programs: who has which part of the sandbox's [`Memory`], and how often.

use super::ranges::{Piece, RangeMap};
use crate::host::{Memory, Vdso};
use crate::sync::Mutex;
use crate::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

/// All of a sandbox's memory. A part that is given out has one holder; [`share`](Frames::share) adds one, [`release`](Frames::release) takes
/// one away, and the last to go gives the part back to the host.
pub struct Frames {
    memory: Arc<dyn Memory>,
    vdso: Option<Arc<Vdso>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Parts given back, by start; neighbours are joined. They read as zeros.
    free: BTreeMap<u64, u64>,
    /// Small parts given back that the host has not got back yet: they hold what their last holder wrote.
    warm: Vec<Range<u64>>,
    /// All from here on has never been given out.
    next: u64,
    /// Holders beyond the first, where there are any.
    extra: RangeMap<Extra>,
    /// Bytes given out.
    used: u64,
    /// Bytes that may be given out before the host is asked again how much is left.
    credit: u64,
}

/// A part of what is left that is given out before the host is asked again: most of what is given out is touched soon, but not all.
const CREDIT: u64 = 16;

/// Most parts that are kept warm, and the most bytes of one: giving a page back to the host and getting another costs more than to clear it.
const WARM: usize = 32;
const WARM_SIZE: u64 = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Extra(u32);

impl Piece for Extra {
    fn advanced(&self, _: u64) -> Self {
        *self
    }

    fn continues(&self, _: u64, next: &Self) -> bool {
        self == next
    }
}

impl Frames {
    /// None given out yet.
    pub fn new(memory: Arc<dyn Memory>, vdso: Option<Arc<Vdso>>) -> Arc<Self> {
        Arc::new(Frames { memory, vdso, state: Mutex::default() })
    }

    /// Code that all programs find beside their memory.
    pub(super) fn vdso(&self) -> Option<&Arc<Vdso>> {
        self.vdso.as_ref()
    }

    /// The memory itself.
    pub fn memory(&self) -> &dyn Memory {
        &*self.memory
    }

    /// Bytes given out; those never touched cost nothing.
    pub fn used(&self) -> u64 {
        self.state.lock().used
    }

    /// A part that reads as zeros; `len` is a multiple of the page's size.
    ///
    /// # Errors
    /// `ENOMEM`: all is given out.
    pub fn allocate(&self, len: u64) -> Result<u64> {
        let (start, warm) = self.take(len)?;
        if warm {
            self.memory.zero(start..start + len);
        }
        Ok(start)
    }

    /// A part that its holder writes all of before anybody else sees it: it reads as anything.
    ///
    /// # Errors
    /// As [`Self::allocate`].
    pub fn allocate_for_copy(&self, len: u64) -> Result<u64> {
        self.take(len).map(|(start, _)| start)
    }

    /// A part, and whether it holds anything.
    fn take(&self, len: u64) -> Result<(u64, bool)> {
        let mut state = self.state.lock();
        state.afford(len, &*self.memory)?;
        if let Some(index) = state.warm.iter().rposition(|part| part.end - part.start == len) {
            let part = state.warm.remove(index);
            state.used += len;
            return Ok((part.start, true));
        }
        if let Some(start) = state.take_zeros(len, self.memory.size()) {
            return Ok((start, false));
        }
        for part in core::mem::take(&mut state.warm) {
            self.memory.discard(part.clone());
            state.put_back(part);
        }
        state.take_zeros(len, self.memory.size()).map(|start| (start, false)).ok_or(Errno::ENOMEM)
    }

    /// One holder more for each page of `range`.
    pub fn share(&self, range: Range<u64>) {
        let mut state = self.state.lock();
        for gap in state.extra.gaps(range.clone()) {
            state.extra.insert(gap, Extra(0));
        }
        state.extra.update(range, |_, extra| extra.0 += 1);
    }

    /// Whether any page of `range` has more than one holder.
    pub fn is_shared(&self, range: Range<u64>) -> bool {
        self.state.lock().extra.within(range).next().is_some()
    }

    /// One holder less for each page of `range`; what has none left is given back.
    pub fn release(&self, range: Range<u64>) {
        let freed = {
            let mut state = self.state.lock();
            let freed = state.extra.gaps(range.clone());
            state.extra.update(range.clone(), |_, extra| extra.0 -= 1);
            let unshared: Vec<_> = state.extra.within(range).filter(|(_, extra)| extra.0 == 0).map(|(part, _)| part).collect();
            for part in unshared {
                state.extra.remove(part);
            }
            freed
        };
        for part in freed {
            let len = part.end - part.start;
            let cold = {
                let mut state = self.state.lock();
                state.used -= len;
                if len > WARM_SIZE { Some(part) } else { state.keep_warm(part) }
            };
            if let Some(part) = cold {
                // Before it may be given out again, it must read as zeros.
                self.memory.discard(part.clone());
                self.state.lock().put_back(part);
            }
        }
    }
}

impl State {
    /// Whether the host has `len` bytes more for us.
    fn afford(&mut self, len: u64, memory: &dyn Memory) -> Result<()> {
        if self.credit < len {
            let left = memory.left();
            if left < len {
                return Err(Errno::ENOMEM);
            }
            self.credit = (left / CREDIT).max(len);
        }
        self.credit -= len;
        Ok(())
    }

    /// Keeps a part warm; answers one that isn't any more: the one that nobody wanted for the longest time.
    fn keep_warm(&mut self, part: Range<u64>) -> Option<Range<u64>> {
        let cold = (self.warm.len() >= WARM).then(|| self.warm.remove(0));
        self.warm.push(part);
        cold
    }

    /// A part that reads as zeros, below `size`.
    fn take_zeros(&mut self, len: u64, size: u64) -> Option<u64> {
        // Best fit: the parts that come back are mostly of few sizes (a chunk, a page).
        let fit = self.free.iter().filter(|(start, end)| *end - *start >= len).min_by_key(|(start, end)| *end - *start);
        let start = match fit.map(|(start, end)| (*start, *end)) {
            Some((start, end)) => {
                self.free.remove(&start);
                if start + len < end {
                    self.free.insert(start + len, end);
                }
                start
            }
            None => {
                let start = self.next;
                self.next = start.checked_add(len).filter(|end| *end <= size)?;
                start
            }
        };
        self.used += len;
        Some(start)
    }

    fn put_back(&mut self, part: Range<u64>) {
        let Range { mut start, mut end } = part;
        if let Some((before, before_end)) = self.free.range(..start).next_back().map(|(s, e)| (*s, *e))
            && before_end == start
        {
            self.free.remove(&before);
            start = before;
        }
        if let Some(after_end) = self.free.remove(&end) {
            end = after_end;
        }
        if end == self.next {
            self.next = start;
        } else {
            self.free.insert(start, end);
        }
    }
}

/// A hold on a part of memory, released when it is dropped.
pub struct Hold {
    frames: Arc<Frames>,
    range: Range<u64>,
}

impl Hold {
    /// Takes over a holder's place that is there already.
    pub fn taken_over(frames: &Arc<Frames>, range: Range<u64>) -> Self {
        Hold { frames: frames.clone(), range }
    }

    /// Adds a holder.
    pub fn shared(frames: &Arc<Frames>, range: Range<u64>) -> Self {
        frames.share(range.clone());
        Hold { frames: frames.clone(), range }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.frames.release(self.range.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bytes;

    #[test]
    fn what_was_written_is_gone_when_it_is_given_out_again() {
        let frames = Frames::new(Arc::new(Bytes::default()), None);
        for len in [4096, WARM_SIZE, 2 * WARM_SIZE] {
            let start = frames.allocate(len).unwrap();
            frames.memory().write(start, &[7; 4096]);
            frames.release(start..start + len);
            assert_eq!(frames.used(), 0);
            assert_eq!(frames.allocate(len).unwrap(), start, "it is taken again");
            let mut bytes = [1; 4096];
            frames.memory().read(start, &mut bytes);
            assert!(bytes.iter().all(|byte| *byte == 0));
            frames.release(start..start + len);
        }
    }

    #[test]
    fn what_was_given_back_last_is_kept_warm() {
        let frames = Frames::new(Arc::new(Bytes::default()), None);
        let starts: Vec<_> = (0..WARM).map(|_| frames.allocate(4096).unwrap()).collect();
        let larger = frames.allocate(8192).unwrap();
        starts.iter().for_each(|start| frames.release(*start..start + 4096));
        frames.release(larger..larger + 8192);
        let warm = frames.state.lock().warm.clone();
        assert_eq!(
            (warm.len(), warm.first(), warm.last()),
            (WARM, Some(&(starts[1]..starts[1] + 4096)), Some(&(larger..larger + 8192)))
        );
        assert_eq!(frames.used(), 0);
    }

    #[test]
    fn what_is_kept_warm_is_there_for_who_needs_all() {
        let frames = Frames::new(Arc::new(Bytes::default()), None);
        let starts: Vec<_> = (0..WARM + 1).map(|_| frames.allocate(4096).unwrap()).collect();
        starts.iter().for_each(|start| frames.release(*start..start + 4096));
        let all = frames.allocate(frames.memory().size()).unwrap();
        assert_eq!((all, frames.allocate(4096)), (0, Err(Errno::ENOMEM)));
    }
}
