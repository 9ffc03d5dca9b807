//! A copy of an address space for a child.
//!
//! Pages that both have are copied when either writes, which is a trap for each. Programs that fork again and again write the same few pages
//! right after it, here and in the child: stack, locks, the C library's own. Which ones is remembered, and next time the child gets copies of
//! those at once, and its maker keeps them.

use super::area::{Area, Private, Protection, Traits};
use super::log::{MapOp, MapSource};
use super::{Mm, Source, State};
use crate::Result;
use crate::sync::Mutex;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;

/// Most parts that are remembered; each is copied in a trap of its own otherwise.
const MOST: usize = 8;

/// So many forks later, all is learned anew.
const LASTS: u32 = 64;

/// What an address space and its children wrote after forks.
#[derive(Debug, Default)]
pub(super) struct Habits(Mutex<(Vec<Range<u64>>, u32)>);

impl Habits {
    /// This part was copied because somebody wrote it.
    pub(super) fn note(&self, part: &Range<u64>) {
        let (parts, _) = &mut *self.0.lock();
        if parts.len() < MOST && !parts.iter().any(|known| known.start < part.end && part.start < known.end) {
            parts.push(part.clone());
        }
    }

    /// What will be written, in order.
    fn foreseen(&self) -> Vec<Range<u64>> {
        let (parts, forks) = &mut *self.0.lock();
        *forks += 1;
        if forks.is_multiple_of(LASTS) {
            parts.clear();
        }
        let mut parts = parts.clone();
        parts.sort_by_key(|part| part.start);
        parts
    }
}

impl Mm {
    /// A copy for a child, whose pages are copied when either writes. The placement copies mappings after all changes logged so far
    /// in this address space ([`Mm::take_copied`]); those that are the child's alone are in its own log.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn fork(&self) -> Result<Arc<Mm>> {
        let child = Mm::new(&self.frames, self.layout());
        child.add_barriers(self.barriers());
        let mut ours = self.state.lock();
        let mut theirs = child.state.lock();
        (theirs.brk, theirs.image) = (ours.brk.clone(), ours.image);
        (theirs.limit, theirs.stack_limit, theirs.data_limit) = (ours.limit, ours.stack_limit, ours.data_limit);
        theirs.habits = ours.habits.clone();
        // Another task could write to what was copied already and then to what wasn't yet, and the child would see the second only.
        let alone = self.users.load(Ordering::Relaxed) <= 1;
        let foreseen = if alone { ours.habits.foreseen() } else { Vec::new() };
        let areas: Vec<_> = ours.areas.iter().map(|(range, area)| (range, area.clone())).collect();
        for (range, area) in areas {
            if area.traits.intersects(Traits::DONT_FORK) {
                theirs.log.push(MapOp::Unmap { start: range.start, len: range.end - range.start });
                continue;
            }
            if area.traits.contains(Traits::WIPE_ON_FORK) {
                theirs.log.push(MapOp::Unmap { start: range.start, len: range.end - range.start });
            } else {
                let mut at = range.start;
                for part in &foreseen {
                    let part = part.start.max(at)..part.end.min(range.end);
                    if part.start < part.end && self.copy_private(&ours, &mut theirs, &part, &area) {
                        self.share_private(&mut ours, &mut theirs, &(at..part.start), &area);
                        at = part.end;
                    }
                }
                self.share_private(&mut ours, &mut theirs, &(at..range.end), &area);
            }
            if let Source::Object(object) = &area.source {
                object.mapped_by(&child.this);
            }
            let mut copy = area;
            copy.traits.remove(Traits::LOCKED);
            theirs.areas.insert(range, copy);
        }
        drop(theirs);
        let State { log, copied, .. } = &mut *ours;
        copied.append(log);
        drop(ours);
        Ok(child)
    }

    /// The child gets copies of the private pages of `part`, and they stay as they are here. Whether there were some, and there was room.
    fn copy_private(&self, ours: &State, theirs: &mut State, part: &Range<u64>, area: &Area) -> bool {
        let pieces: Vec<_> = ours.private.within(part.clone()).collect();
        let len: u64 = pieces.iter().map(|(range, _)| range.end - range.start).sum();
        if len == 0 || !area.protection.contains(Protection::WRITE) {
            return false;
        }
        let Ok(mut frame) = self.frames.allocate_for_copy(len) else { return false };
        for (range, page) in pieces {
            let len = range.end - range.start;
            self.frames.memory().copy(page.frame, frame, len);
            theirs.private.insert(range.clone(), Private { frame, copy_on_write: false });
            let source = MapSource::Memory;
            theirs.log.push(MapOp::Map { start: range.start, len, protection: area.protection, source, offset: frame });
            frame += len;
        }
        true
    }

    /// The private pages of `range` become the child's as well, and neither may write them without copying.
    fn share_private(&self, ours: &mut State, theirs: &mut State, range: &Range<u64>, area: &Area) {
        let State { private, log, .. } = ours;
        private.update(range.clone(), |part, page| {
            let len = part.end - part.start;
            self.frames.share(page.frame..page.frame + len);
            if !page.copy_on_write && area.protection.contains(Protection::WRITE) {
                log.push(MapOp::Protect { start: part.start, len, protection: area.protection - Protection::WRITE });
            }
            page.copy_on_write = true;
            theirs.private.insert(part, *page);
        });
    }
}
