//! The pages of all programs: who has which part of the sandbox's [`Memory`], and how often.

use super::ranges::{Piece, RangeMap};
use crate::host::Memory;
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
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Parts given back, by start; neighbours are joined.
    free: BTreeMap<u64, u64>,
    /// All from here on has never been given out.
    next: u64,
    /// Holders beyond the first, where there are any.
    extra: RangeMap<Extra>,
    /// Bytes given out.
    used: u64,
}

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
    pub fn new(memory: Arc<dyn Memory>) -> Arc<Self> {
        Arc::new(Frames { memory, state: Mutex::default() })
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
        let mut state = self.state.lock();
        // Best fit: the parts that come back are mostly of few sizes (a chunk, a page).
        let fit = state.free.iter().filter(|(start, end)| *end - *start >= len).min_by_key(|(start, end)| *end - *start);
        let start = match fit.map(|(start, end)| (*start, *end)) {
            Some((start, end)) => {
                state.free.remove(&start);
                if start + len < end {
                    state.free.insert(start + len, end);
                }
                start
            }
            None => {
                let start = state.next;
                let end = start.checked_add(len).filter(|end| *end <= self.memory.size()).ok_or(Errno::ENOMEM)?;
                state.next = end;
                start
            }
        };
        state.used += len;
        Ok(start)
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
            // Before it may be given out again, it must read as zeros.
            self.memory.discard(part.clone());
            let mut state = self.state.lock();
            state.used -= part.end - part.start;
            state.put_back(part);
        }
    }
}

impl State {
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
