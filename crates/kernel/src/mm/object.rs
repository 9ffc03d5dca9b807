//! Memory that several may map: what is in a tmpfs file, a memfd, or shared anonymous memory.

use super::Mm;
use super::frames::{Frames, Hold};
use super::ranges::{Piece, RangeMap};
use crate::sync::Mutex;
use crate::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use insula_abi::PAGE;

/// How much is given out at once: fewer, larger pieces map and copy faster, and untouched pages cost nothing.
const CHUNK: u64 = 64 << 10;

/// How many bytes several objects may have together: the size of a tmpfs.
pub struct Budget {
    most: AtomicU64,
    used: AtomicU64,
}

impl Budget {
    /// None of `most` bytes used.
    pub fn new(most: u64) -> Arc<Self> {
        Arc::new(Budget { most: AtomicU64::new(most), used: AtomicU64::new(0) })
    }

    /// How many there may be.
    pub fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    /// So many there may be from now on.
    ///
    /// # Errors
    /// `EINVAL`: there are more.
    pub fn set_most(&self, most: u64) -> Result<()> {
        if most < self.used() {
            return Err(Errno::EINVAL);
        }
        self.most.store(most, Ordering::Relaxed);
        Ok(())
    }

    /// How many there are.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> Result<()> {
        let fits = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.most());
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).map(|_| ()).map_err(|_| Errno::ENOSPC)
    }

    /// Takes as many whole pages as there are, up to so many bytes; answers how many bytes.
    fn take_some(&self, most: u64) -> Result<u64> {
        let mut taken = 0;
        let some = |used: u64| {
            taken = self.most().saturating_sub(used).min(most) & !(PAGE - 1);
            (taken > 0).then_some(used + taken)
        };
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, some).map_err(|_| Errno::ENOSPC)?;
        Ok(taken)
    }

    fn give(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A sparse piece of memory.
pub struct Object {
    frames: Arc<Frames>,
    budget: Option<Arc<Budget>>,
    pieces: Mutex<RangeMap<Frame>>,
    mappers: Mutex<Vec<Weak<Mm>>>,
    /// Bytes in the file it is the contents of: pages past its end aren't there.
    size: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Frame(u64);

impl Piece for Frame {
    fn advanced(&self, by: u64) -> Self {
        Frame(self.0 + by)
    }

    fn continues(&self, len: u64, next: &Self) -> bool {
        self.0 + len == next.0
    }
}

impl Object {
    /// `size` zeros.
    pub fn new(frames: &Arc<Frames>, size: u64) -> Arc<Self> {
        Self::with_budget(frames, size, None)
    }

    /// `size` zeros; what is given out to it counts against a budget.
    pub fn with_budget(frames: &Arc<Frames>, size: u64, budget: Option<Arc<Budget>>) -> Arc<Self> {
        Arc::new(Object {
            frames: frames.clone(),
            budget,
            pieces: Mutex::default(),
            mappers: Mutex::default(),
            size: AtomicU64::new(size),
        })
    }

    /// Bytes in it.
    pub fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Changes its size; what is cut off is given back.
    pub fn resize(self: &Arc<Self>, size: u64) {
        let before = self.size.swap(size, Ordering::AcqRel);
        if size < before {
            self.discard(size..before.next_multiple_of(CHUNK));
            for mm in self.mappers() {
                mm.object_cut(self, size.next_multiple_of(PAGE)..u64::MAX);
            }
        } else {
            self.clear(before..before.next_multiple_of(PAGE).min(size));
        }
    }

    /// Makes it at least this large: something was written up to there.
    pub fn grow(&self, size: u64) {
        self.size.fetch_max(size, Ordering::AcqRel);
    }

    /// Something is to be written at `at`. What lies between the end and that reads as zeros, whatever programs that map the last page
    /// have written behind the end.
    pub fn reach(&self, at: u64) {
        let size = self.size();
        if at > size {
            self.clear(size..size.next_multiple_of(PAGE).min(at));
        }
    }

    /// Whether the page that holds `at` lies behind the end.
    pub fn ends_before(&self, at: u64) -> bool {
        at & !(PAGE - 1) >= self.size()
    }

    /// Where the bytes from `at` on lie, and how many of them together; made if they aren't there yet.
    ///
    /// # Errors
    /// `ENOMEM`: all memory is given out. `ENOSPC`: the budget is used up.
    pub fn locate(&self, at: u64) -> Result<(u64, u64)> {
        let chunk = at & !(CHUNK - 1);
        // Of what has a budget, only what a file can have counts.
        let end = if self.budget.is_some() { self.size().next_multiple_of(PAGE).max(at + 1) } else { u64::MAX };
        self.locate_within(at, chunk..(chunk + CHUNK).min(end))
    }

    /// As [`locate`](Self::locate), for `len` bytes that are to be written: no more is made than the pages that hold them.
    ///
    /// # Errors
    /// Those of `locate`.
    pub fn locate_for(&self, at: u64, len: u64) -> Result<(u64, u64)> {
        // Pieces stay of a size that is found again when they come back.
        self.locate_within(at, at..at + len.clamp(1, 16 * CHUNK))
    }

    fn locate_within(&self, at: u64, window: Range<u64>) -> Result<(u64, u64)> {
        let mut pieces = self.pieces.lock();
        if let Some((range, frame)) = pieces.get(at) {
            return Ok((frame.0 + at - range.start, range.end - at));
        }
        let window = window.start & !(PAGE - 1)..window.end.next_multiple_of(PAGE);
        let gap = pieces.gaps(window.clone()).into_iter().find(|gap| gap.contains(&at)).unwrap_or(window);
        let gap = self.afford(gap, at)?;
        let len = gap.end - gap.start;
        let frame = self.frames.allocate(len).inspect_err(|_| self.give_back(len))?;
        pieces.insert(gap.clone(), Frame(frame));
        Ok((frame + at - gap.start, gap.end - at))
    }

    /// As much of a gap as the budget has room for: all of it, or what comes from the page of `at` on.
    fn afford(&self, gap: Range<u64>, at: u64) -> Result<Range<u64>> {
        let Some(budget) = &self.budget else { return Ok(gap) };
        if budget.take(gap.end - gap.start).is_ok() {
            return Ok(gap);
        }
        let start = at & !(PAGE - 1);
        Ok(start..start + budget.take_some(gap.end - start)?)
    }

    fn give_back(&self, len: u64) {
        if let Some(budget) = &self.budget {
            budget.give(len);
        }
    }

    /// Where the bytes from `at` on lie, and how many of them together; or how many of them are zeros that lie nowhere.
    pub fn find(&self, at: u64) -> core::result::Result<(u64, u64), u64> {
        let pieces = self.pieces.lock();
        match pieces.at_or_after(at) {
            Some((range, frame)) if range.start <= at => Ok((frame.0 + at - range.start, range.end - at)),
            Some((range, _)) => Err(range.start - at),
            None => Err(u64::MAX - at),
        }
    }

    /// Copies out of it.
    pub fn read(&self, mut at: u64, mut into: &mut [u8]) {
        while !into.is_empty() {
            let found = self.find(at);
            let (Ok((_, together)) | Err(together)) = found;
            let len = usize::try_from(together).unwrap_or(usize::MAX).min(into.len());
            let (part, rest) = into.split_at_mut(len);
            match found {
                Ok((frame, _)) => self.frames.memory().read(frame, part),
                Err(_) => part.fill(0),
            }
            into = rest;
            at += len as u64;
        }
    }

    /// Copies into it.
    ///
    /// # Errors
    /// `ENOMEM`; what was copied before stays.
    pub fn write(&self, mut at: u64, mut from: &[u8]) -> Result<()> {
        while !from.is_empty() {
            let (frame, together) = self.locate(at)?;
            let len = usize::try_from(together).unwrap_or(usize::MAX).min(from.len());
            let (part, rest) = from.split_at(len);
            self.frames.memory().write(frame, part);
            from = rest;
            at += len as u64;
        }
        Ok(())
    }

    /// Makes `range` zeros again, and gives its whole pages back. Whoever maps them sees them vanish.
    pub fn discard(self: &Arc<Self>, range: Range<u64>) {
        let inner = range.start.next_multiple_of(PAGE)..range.end & !(PAGE - 1);
        if inner.start > inner.end {
            self.clear(range);
            return;
        }
        self.clear(range.start..inner.start);
        self.clear(inner.end..range.end);
        let taken = self.pieces.lock().remove(inner.clone());
        let lost = taken.iter().map(|(part, _)| part.end - part.start).sum();
        let holds: Vec<_> = taken
            .into_iter()
            .map(|(part, frame)| Hold::taken_over(&self.frames, frame.0..frame.0 + part.end - part.start))
            .collect();
        if holds.is_empty() {
            return;
        }
        self.give_back(lost);
        let holds = Arc::new(holds);
        for mm in self.mappers() {
            mm.object_lost(self, inner.clone(), &holds);
        }
    }

    /// Writes zeros where there is something.
    fn clear(&self, mut range: Range<u64>) {
        const ZEROS: [u8; 512] = [0; 512];
        while range.start < range.end {
            let (found, len) = match self.find(range.start) {
                Ok((frame, len)) => (Some(frame), len),
                Err(len) => (None, len),
            };
            let len = len.min(range.end - range.start).min(ZEROS.len() as u64);
            if let Some(frame) = found {
                self.frames.memory().write(frame, &ZEROS[..len as usize]);
            }
            range.start += len;
        }
    }

    /// The parts of `range` that are there, for `SEEK_DATA`.
    pub fn data(&self, range: Range<u64>) -> Vec<Range<u64>> {
        self.pieces.lock().within(range).map(|(part, _)| part).collect()
    }

    /// Bytes given out to it.
    pub fn allocated(&self) -> u64 {
        self.pieces.lock().iter().map(|(range, _)| range.end - range.start).sum()
    }

    /// Whether any address space maps it so that it can be written.
    pub fn is_mapped_writable(self: &Arc<Self>) -> bool {
        self.mappers().iter().any(|mm| mm.maps_writable(self))
    }

    /// How many areas show it, of address spaces that somebody runs in.
    pub fn mapped_areas(self: &Arc<Self>) -> u64 {
        self.mappers().iter().map(|mm| mm.areas_of_object(self)).sum()
    }

    fn mappers(&self) -> Vec<Arc<Mm>> {
        self.mappers.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// An address space maps it: it is told when pages vanish.
    pub(super) fn mapped_by(&self, mm: &Weak<Mm>) {
        let mut mappers = self.mappers.lock();
        mappers.retain(|known| known.strong_count() > 0);
        if !mappers.iter().any(|known| known.ptr_eq(mm)) {
            mappers.push(mm.clone());
        }
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        for (range, frame) in core::mem::take(&mut *self.pieces.lock()).iter() {
            self.frames.release(frame.0..frame.0 + range.end - range.start);
            self.give_back(range.end - range.start);
        }
    }
}
