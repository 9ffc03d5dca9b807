//! `mmap`, `munmap`, `mprotect`, `mremap`, `brk`, and what `madvise` changes.

use super::area::{Area, Private, Protection, Source, Traits};
use super::fault::{Access, Fault, Located, page_of, pages};
use super::log::{Kept, MapOp};
use super::ranges::Piece;
use super::{Mm, State};
use crate::{Errno, Result};
use core::ops::Range;
use insula_abi::PAGE;

/// Most areas of one address space (Linux: `vm.max_map_count`). A little less than Linux has at first: a host that keeps a space for us has a few
/// mappings more than the program knows of.
pub const MOST_AREAS: usize = 65_000;

/// Where a program's addresses end in Linux (`TASK_SIZE_MAX`, with four levels of page tables).
const TASK_SIZE: u64 = (1 << 47) - PAGE;

/// Zeros that are asked for in pieces up to this size are mapped at once: they are seldom asked for in vain, and untouched pages cost nothing.
const AT_ONCE: u64 = 1 << 20;

/// Where a mapping goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Wherever there is room, here if there is.
    Hint(u64),
    /// Here, in place of what is there (`MAP_FIXED`).
    Replace(u64),
    /// Here, if nothing is there (`MAP_FIXED_NOREPLACE`).
    Vacant(u64),
    /// In the lowest 2 GiB (`MAP_32BIT`).
    Low,
}

/// A mapping that is to be made.
pub struct MapRequest {
    /// Where.
    pub place: Place,
    /// Bytes.
    pub len: u64,
    /// What.
    pub area: Area,
}

impl Mm {
    /// Maps; answers where.
    ///
    /// # Errors
    /// `EINVAL`: no length, or a place that isn't a page's. `EEXIST`: the place is taken. `ENOMEM`: no room.
    pub fn map(&self, request: MapRequest) -> Result<u64> {
        if request.len == 0 {
            return Err(Errno::EINVAL);
        }
        let len = pages(request.len)?;
        let mut state = self.state.lock();
        let start = state.place(request.place, len)?;
        let range = start..start + len;
        if matches!(request.place, Place::Replace(_)) {
            state.check_unsealed(&range)?;
        }
        let fresh = state.areas.within(range.clone()).next().is_none();
        let replaced: u64 = state.areas.within(range.clone()).map(|(part, _)| part.end - part.start).sum();
        if state.areas.len() >= MOST_AREAS || state.areas.covered() - replaced + len > state.limit {
            return Err(Errno::ENOMEM);
        }
        if !state.data_fits(&request.area, len) {
            return Err(Errno::ENOMEM);
        }
        let mut area = request.area;
        if state.lock_future {
            area.traits |= Traits::LOCKED;
        }
        let zeros =
            matches!(area.source, Source::Zero) && !area.protection.is_empty() && !area.traits.contains(Traits::GROWS_DOWN);
        // What there is no room for now may never be touched; whoever touches it then hears of it, as on Linux.
        let frame = if zeros && len <= AT_ONCE { self.frames.allocate(len).ok() } else { None };
        if let Source::Object(object) = &area.source {
            object.mapped_by(&self.this);
        }
        state.drop_private(&self.frames, range.clone());
        for (_, gone) in state.areas.insert(range.clone(), area) {
            state.log.kept.push(Kept::Area(gone));
        }
        if let Some(frame) = frame {
            state.private.insert(range.clone(), Private { frame, copy_on_write: false });
        }
        state.publish(range, fresh);
        Ok(start)
    }

    /// Removes what is mapped.
    ///
    /// # Errors
    /// `EINVAL`: not whole pages of the program's own.
    pub fn unmap(&self, start: u64, len: u64) -> Result<()> {
        let mut state = self.state.lock();
        let range = state.checked(start, len)?;
        state.check_unsealed(&range)?;
        if state.areas.len() >= MOST_AREAS && state.splits(&range) {
            return Err(Errno::ENOMEM);
        }
        self.remove(&mut state, range);
        Ok(())
    }

    fn remove(&self, state: &mut State, range: Range<u64>) {
        state.drop_private(&self.frames, range.clone());
        for (part, gone) in state.areas.remove(range) {
            let visible = !gone.protection.is_empty();
            state.log.kept.push(Kept::Area(gone));
            if visible {
                state.log.push(MapOp::Unmap { start: part.start, len: part.end - part.start });
            }
        }
    }

    /// Changes how memory may be used.
    ///
    /// # Errors
    /// `ENOMEM`: part of it isn't mapped; what comes before is changed. `EACCES`: a file may not be written.
    pub fn protect(&self, start: u64, len: u64, protection: Protection) -> Result<()> {
        if !start.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL);
        }
        if len == 0 {
            return Ok(());
        }
        let mut state = self.state.lock();
        let range = start..start.checked_add(pages(len)?).ok_or(Errno::ENOMEM)?;
        state.check_unsealed(&range)?;
        let mut at = range.start;
        let parts: alloc::vec::Vec<_> = state.areas.within(range.clone()).collect();
        for (part, area) in parts {
            if part.start != at {
                return Err(Errno::ENOMEM);
            }
            at = part.end;
            if protection.contains(Protection::WRITE) && area.traits.contains(Traits::NEVER_WRITE) {
                return Err(Errno::EACCES);
            }
            if protection.contains(Protection::EXEC) && area.traits.contains(Traits::NEVER_EXEC) {
                return Err(Errno::EACCES);
            }
            if area.protection == protection {
                continue;
            }
            state.check_parts(&part)?;
            state.areas.update(part.clone(), |_, area| area.protection = protection);
            state.reprotect(part, area.protection, protection);
        }
        if at < range.end { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// Moves or resizes a mapping, mremap(2). `to` is a new place, given or to be found (`MREMAP_MAYMOVE`); without, it must stay.
    ///
    /// # Errors
    /// `EFAULT`: nothing is there. `ENOMEM`: no room. `EINVAL`: see the manual.
    pub fn remap(&self, old: Range<u64>, new_len: u64, to: Option<Place>, keep: bool) -> Result<u64> {
        let mut state = self.state.lock();
        let new_len = pages(new_len)?;
        let old_len = old.end - old.start;
        state.check_unsealed(&old)?;
        let (found, area) = state.areas.get(old.start).map(|(range, area)| (range, area.clone())).ok_or(Errno::EFAULT)?;
        if old_len == 0 {
            // A second mapping of shared memory.
            let place = to.ok_or(Errno::EINVAL)?;
            if !area.is_shared() {
                return Err(Errno::EINVAL);
            }
            let copy = area.advanced(old.start - found.start);
            drop(state);
            return self.map(MapRequest { place, len: new_len, area: copy });
        }
        if found.end < old.end {
            return Err(Errno::EFAULT);
        }
        let fixed = matches!(to, Some(Place::Replace(_) | Place::Vacant(_)));
        if !fixed && !keep {
            if new_len <= old_len {
                self.remove(&mut state, old.start + new_len..old.end);
                return Ok(old.start);
            }
            let more = old.end..old.start + new_len;
            let room = state.areas.within(more.clone()).next().is_none() && more.end <= state.layout.high;
            if old.end == found.end && room {
                if state.areas.covered() + (new_len - old_len) > state.limit {
                    return Err(Errno::ENOMEM);
                }
                let area = area.advanced(old.end - found.start);
                state.areas.insert(more.clone(), area);
                state.publish(more, true);
                return Ok(old.start);
            }
        }
        let place = to.ok_or(Errno::ENOMEM)?;
        if state.areas.covered() + new_len > state.limit.saturating_add(if keep { 0 } else { old_len }) {
            return Err(Errno::ENOMEM);
        }
        let start = state.place(place, new_len)?;
        let target = start..start + new_len;
        if target.start < old.end && old.start < target.end {
            return Err(Errno::EINVAL);
        }
        state.check_unsealed(&target)?;
        self.remove(&mut state, target.clone());
        self.relocate(&mut state, old, target, &area.advanced(0), found.start, keep);
        Ok(start)
    }

    /// Moves the pages and the area of `old` to `target`.
    fn relocate(&self, state: &mut State, old: Range<u64>, target: Range<u64>, area: &Area, area_start: u64, keep: bool) {
        let moved = (old.end - old.start).min(target.end - target.start);
        for (part, page) in state.private.remove(old.start..old.start + moved) {
            let start = target.start + (part.start - old.start);
            state.private.insert(start..start + (part.end - part.start), page);
        }
        let area = area.advanced(old.start - area_start);
        if keep {
            state.publish(old.clone(), false);
        } else {
            self.remove(state, old);
        }
        state.areas.insert(target.clone(), area);
        state.publish(target, true);
    }

    /// Where the heap begins: behind the program's data.
    pub fn set_heap(&self, start: u64) {
        self.state.lock().brk = start..start;
    }

    /// Moves the end of the heap, brk(2); answers where it is.
    pub fn brk(&self, end: u64, most: u64) -> u64 {
        let mut state = self.state.lock();
        let now = state.brk.clone();
        if end < now.start || end - now.start > most || end > state.layout.high {
            return now.end;
        }
        let (from, to) = (now.end.next_multiple_of(PAGE), end.next_multiple_of(PAGE));
        if to < from && state.check_unsealed(&(to..from)).is_err() {
            return now.end;
        }
        if to < from {
            self.remove(&mut state, to..from);
        } else if from < to {
            let range = from..to;
            let room = state.areas.within(range.start..range.end + PAGE).next().is_none() && to <= state.layout.high;
            if !room || state.areas.covered() + (to - from) > state.limit {
                return now.end;
            }
            if !state.data_fits(&Area::anonymous(Protection::READ | Protection::WRITE), to - from) {
                return now.end;
            }
            let area = Area { label: "[heap]", ..Area::anonymous(Protection::READ | Protection::WRITE) };
            if to - from <= AT_ONCE {
                let Ok(frame) = self.frames.allocate(to - from) else { return now.end };
                state.private.insert(range.clone(), Private { frame, copy_on_write: false });
            }
            state.areas.insert(range.clone(), area);
            state.publish(range, true);
        }
        state.brk.end = end;
        end
    }

    /// Gives private pages back: they read as their source has them, zeros or the file (`MADV_DONTNEED`).
    ///
    /// # Errors
    /// `ENOMEM`: part of it isn't mapped. `EINVAL`: locked.
    pub fn forget(&self, start: u64, len: u64) -> Result<()> {
        let mut state = self.state.lock();
        let range = start..start.checked_add(pages(len)?).ok_or(Errno::EINVAL)?;
        let parts: alloc::vec::Vec<_> = state.areas.within(range.clone()).collect();
        if parts.iter().any(|(_, area)| area.traits.contains(Traits::LOCKED)) {
            return Err(Errno::EINVAL);
        }
        let sealed = |area: &Area| area.traits.contains(Traits::SEALED) && !area.protection.contains(Protection::WRITE);
        if parts.iter().any(|(_, area)| sealed(area) && area.file.is_none()) {
            return Err(Errno::EPERM);
        }
        for (part, area) in parts {
            if !area.is_shared() && state.private.within(part.clone()).next().is_some() {
                state.drop_private(&self.frames, part.clone());
                state.publish(part, false);
            }
        }
        if state.areas.gaps(range).is_empty() { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// Makes the pages of a range, as if each were touched so (`MADV_POPULATE_READ`, `MADV_POPULATE_WRITE`).
    ///
    /// # Errors
    /// `ENOMEM`: part of it isn't mapped, or there is no memory. `EINVAL`: it may not be touched so. `EFAULT`: its file is shorter.
    pub fn populate(&self, start: u64, len: u64, access: Access) -> Result<()> {
        let end = start.checked_add(pages(len)?).ok_or(Errno::EINVAL)?;
        let mut at = start;
        while at < end {
            // Others have their turn between the pieces.
            let mut state = self.state.lock();
            // What can be written can be read by the processor, but isn't mapped for it.
            let hidden = state.areas.get(at).is_some_and(|(_, area)| !area.protection.contains(Protection::READ));
            if access == Access::Read && hidden {
                return Err(Errno::EINVAL);
            }
            let place = self.locate(&mut state, at, access).map_err(|fault| match fault {
                Fault::NotMapped | Fault::NoMemory => Errno::ENOMEM,
                Fault::NotAllowed => Errno::EINVAL,
                Fault::PastEnd => Errno::EFAULT,
            })?;
            let (Located::Memory { len, .. } | Located::Host { len, .. }) = place;
            at = page_of(at.saturating_add(len.max(PAGE)));
        }
        Ok(())
    }

    /// Sets and clears traits of all areas in a range.
    ///
    /// # Errors
    /// `ENOMEM`: part of it isn't mapped.
    pub fn set_traits(&self, start: u64, len: u64, set: Traits, clear: Traits) -> Result<()> {
        let mut state = self.state.lock();
        let range = start..start.checked_add(pages(len)?).ok_or(Errno::EINVAL)?;
        state.check_parts(&range)?;
        state.areas.update(range.clone(), |_, area| area.traits = (area.traits - clear) | set);
        if state.areas.gaps(range).is_empty() { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// Locks all that is mapped, or will be (mlockall(2)).
    pub fn lock_all(&self, current: bool, future: bool) {
        let mut state = self.state.lock();
        state.lock_future = future;
        if current {
            let all = 0..u64::MAX;
            state.areas.update(all, |_, area| area.traits |= Traits::LOCKED);
        }
    }

    /// Unlocks all (munlockall(2)).
    pub fn unlock_all(&self) {
        let mut state = self.state.lock();
        state.lock_future = false;
        state.areas.update(0..u64::MAX, |_, area| area.traits -= Traits::LOCKED);
    }

    /// The parts of a range with their areas, if all of it is mapped.
    ///
    /// # Errors
    /// `ENOMEM`: part of it isn't.
    pub fn areas_of(&self, start: u64, len: u64) -> Result<alloc::vec::Vec<(Range<u64>, Area)>> {
        let state = self.state.lock();
        let range = start..start.checked_add(pages(len)?).ok_or(Errno::ENOMEM)?;
        if !state.areas.gaps(range.clone()).is_empty() {
            return Err(Errno::ENOMEM);
        }
        Ok(state.areas.within(range).collect())
    }

    /// The area at `start`, and where it begins, for changes that reach to its end (`PROT_GROWSDOWN`).
    ///
    /// # Errors
    /// `ENOMEM`: nothing is mapped there, or there is no such range.
    pub fn area_from(&self, start: u64, len: u64) -> Result<(u64, Area)> {
        start.checked_add(pages(len)?).ok_or(Errno::ENOMEM)?;
        let state = self.state.lock();
        state.areas.get(start).map(|(range, area)| (range.start, area.clone())).ok_or(Errno::ENOMEM)
    }

    /// Which pages of a range are in memory (mincore(2)); pages of files count as such.
    pub fn resident(&self, range: Range<u64>) -> alloc::vec::Vec<bool> {
        let page = |address: u64| ((address - range.start) / PAGE) as usize;
        let mut pages = alloc::vec![false; page(range.end)];
        for part in self.present(range.clone(), true) {
            let (first, last) = (page(part.start), page(part.end.next_multiple_of(PAGE)));
            pages[first..last].fill(true);
        }
        pages
    }
}

impl State {
    /// Whether nothing of a range is sealed, mseal(2).
    fn check_unsealed(&self, range: &Range<u64>) -> Result<()> {
        let sealed = |(_, area): (Range<u64>, Area)| area.traits.contains(Traits::SEALED);
        if self.areas.within(range.clone()).any(sealed) { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// The whole pages of a range, as far as a program has addresses: Linux has some more than we, and there is nothing.
    fn checked(&self, start: u64, len: u64) -> Result<Range<u64>> {
        let end = start.checked_add(pages(len).map_err(|_| Errno::EINVAL)?).ok_or(Errno::EINVAL)?;
        if !start.is_multiple_of(PAGE) || len == 0 || end > TASK_SIZE {
            return Err(Errno::EINVAL);
        }
        Ok(start.min(self.layout.high)..end.min(self.layout.high))
    }

    /// Whether there may be as many areas as a change of this range leaves.
    fn check_parts(&self, range: &Range<u64>) -> Result<()> {
        let cut = |at: u64| self.areas.get(at).is_some_and(|(found, _)| found.start < at);
        let more = usize::from(cut(range.start)) + usize::from(cut(range.end));
        if self.areas.len() + more > MOST_AREAS { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// Whether taking `range` out leaves two areas where one was.
    fn splits(&self, range: &Range<u64>) -> bool {
        self.areas.get(range.start).is_some_and(|(found, _)| found.start < range.start && range.end < found.end)
    }

    /// Where a mapping goes.
    fn place(&self, place: Place, len: u64) -> Result<u64> {
        let fits = |start: u64| start >= self.layout.low && start.checked_add(len).is_some_and(|end| end <= self.layout.high);
        let vacant = |start: u64| self.areas.within(start..start + len).next().is_none();
        match place {
            Place::Replace(start) | Place::Vacant(start) => {
                if !start.is_multiple_of(PAGE) {
                    return Err(Errno::EINVAL);
                }
                if !fits(start) {
                    return Err(if start < self.layout.low { Errno::EPERM } else { Errno::ENOMEM });
                }
                if matches!(place, Place::Vacant(_)) && !vacant(start) {
                    return Err(Errno::EEXIST);
                }
                Ok(start)
            }
            Place::Hint(hint) => {
                let hint = page_of(hint);
                if hint != 0 && fits(hint) && vacant(hint) {
                    return Ok(hint);
                }
                self.find_room(len, self.layout.mmap_top).or_else(|_| self.find_room(len, self.layout.high))
            }
            Place::Low => self.find_room(len, 1 << 31),
        }
    }

    /// The highest gap of `len` bytes below `top`. Growing stacks keep room below them.
    fn find_room(&self, len: u64, top: u64) -> Result<u64> {
        let mut end = top;
        let mut at = top;
        while let Some((range, area)) = self.areas.before(at) {
            if range.end <= end && end - range.end >= len {
                break;
            }
            let guard = if area.traits.contains(Traits::GROWS_DOWN) { 1 << 20 } else { 0 };
            end = end.min(range.start.saturating_sub(guard));
            at = range.start;
        }
        let start = end.checked_sub(len).ok_or(Errno::ENOMEM)?;
        if start < self.layout.low { Err(Errno::ENOMEM) } else { Ok(start) }
    }

    /// The program may use `range` in another way.
    fn reprotect(&mut self, range: Range<u64>, before: Protection, after: Protection) {
        let all_there = self.private.gaps(range.clone()).is_empty();
        if before.is_empty() || after.is_empty() || !all_there {
            self.publish(range, before.is_empty());
            return;
        }
        // All of it is mapped already: keep what the processor knows of it.
        for (part, page) in self.private.within(range) {
            let protection = if page.copy_on_write { after - Protection::WRITE } else { after };
            self.log.push(MapOp::Protect { start: part.start, len: part.end - part.start, protection });
        }
    }
}
