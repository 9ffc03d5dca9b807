//! Address spaces.
//!
//! An [`Mm`] has two maps over its addresses: *areas* say what a program asked for (`mmap`), *private pages* say where in the sandbox's memory
//! the pages lie that only this address space has (zeros that were touched, copies of what was written). What an address shows is its
//! private page, if it has one, else what the area's source has there.
//!
//! The program's processor sees neither map; it sees what the placement has mapped for it. Each change therefore *publishes* the range it
//! touched: operations that make the program see what the maps say go to the [`Log`], which the placement empties before it enters the
//! program. Pages that leave stay held by the log until then.
//!
//! | module | holds |
//! |---|---|
//! | [`area`] | what areas and private pages are |
//! | [`frames`] | who has which part of the sandbox's memory |
//! | [`object`] | memory that several map |
//! | [`log`] | changes, for the placement |
//! | `change` | `mmap`, `munmap`, `mprotect`, `mremap`, `brk` |
//! | `fault` | where the bytes of an address lie, made if need be; copy on write |
//! | `fork` | a copy for a child |
//! | `patch` | other code in place of a program's own |
//! | [`user`] | copies to and from user memory |
//! | [`ranges`] | maps over ranges |

pub mod area;
mod change;
mod fault;
mod fork;
pub mod frames;
pub mod log;
pub mod object;
mod patch;
pub mod ranges;
pub mod user;

pub use area::{Area, Protection, Source, Traits};
pub use change::{MOST_AREAS, MapRequest, Place};
pub use fault::{Access, Fault};
pub use log::{Kept, Log, MapOp, MapSource};
pub use object::{Budget, Object};
pub use user::UserBuf;

use crate::sync::{Mutex, MutexGuard};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use area::Private;
use core::ops::Range;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use frames::{Frames, Hold};
use ranges::{Piece, RangeMap};

/// Where a program may have memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Lowest address.
    pub low: u64,
    /// One past the highest.
    pub high: u64,
    /// Mappings without a place of their own go below this.
    pub mmap_top: u64,
}

/// An address space.
pub struct Mm {
    frames: Arc<Frames>,
    state: Mutex<State>,
    this: Weak<Mm>,
    /// Tasks that run in it.
    users: AtomicUsize,
    /// Which barriers it has registered for, membarrier(2).
    barriers: AtomicU32,
}

/// What an address space is.
pub(crate) struct State {
    areas: RangeMap<Area>,
    private: RangeMap<Private>,
    log: Log,
    /// Changes from before a copy was taken: the copy has them, and none that came later.
    copied: Log,
    layout: Layout,
    /// The heap: where it begins, and where it ends now (brk(2)).
    brk: Range<u64>,
    /// What execve(2) left where, for `/proc` and prctl(2).
    image: Image,
    /// Most bytes of areas (`RLIMIT_AS`).
    limit: u64,
    /// How far the stack may grow (`RLIMIT_STACK`).
    stack_limit: u64,
    /// Most bytes that are its own and may be written (`RLIMIT_DATA`).
    data_limit: u64,
    /// New areas are locked (`MCL_FUTURE`).
    lock_future: bool,
    /// What is copied soon after a fork.
    habits: Arc<fork::Habits>,
}

/// What execve(2) left where.
#[derive(Clone, Copy, Debug, Default)]
pub struct Image {
    /// The program's code.
    pub code: (u64, u64),
    /// Its data.
    pub data: (u64, u64),
    /// Where the stack began.
    pub stack: u64,
    /// Argument strings.
    pub arguments: (u64, u64),
    /// Environment strings.
    pub environment: (u64, u64),
    /// The auxiliary vector.
    pub auxiliary: (u64, u64),
    /// The vDSO.
    pub vdso: u64,
}

impl Mm {
    /// An empty one.
    pub fn new(frames: &Arc<Frames>, layout: Layout) -> Arc<Self> {
        Arc::new_cyclic(|this| Mm {
            frames: frames.clone(),
            this: this.clone(),
            users: AtomicUsize::new(0),
            barriers: AtomicU32::new(0),
            state: Mutex::new(State {
                areas: RangeMap::default(),
                private: RangeMap::default(),
                log: Log::default(),
                copied: Log::default(),
                layout,
                brk: 0..0,
                image: Image::default(),
                limit: u64::MAX,
                stack_limit: 8 << 20,
                data_limit: u64::MAX,
                lock_future: false,
                habits: Arc::default(),
            }),
        })
    }

    /// Which barriers it has registered for: commands of membarrier(2).
    pub fn barriers(&self) -> u32 {
        self.barriers.load(Ordering::Relaxed)
    }

    /// It registers for one more; so do copies of it from now on.
    pub fn add_barriers(&self, command: u32) {
        self.barriers.fetch_or(command, Ordering::Relaxed);
    }

    /// One task more runs in it.
    pub(crate) fn join(&self) {
        self.users.fetch_add(1, Ordering::Relaxed);
    }

    /// One task less does.
    pub(crate) fn leave(&self) {
        self.users.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether more than one task runs in it: only then can anybody see what one that leaves it writes.
    pub(crate) fn is_shared(&self) -> bool {
        self.users.load(Ordering::Relaxed) > 1
    }

    /// Takes the changes that wait, for the placement. The caller makes them, in order, before a program runs in this address space
    /// on its behalf, and then drops what was taken.
    pub fn take_log(&self) -> Log {
        let mut state = self.state.lock();
        let State { log, copied, .. } = &mut *state;
        let mut all = core::mem::take(copied);
        all.append(log);
        all
    }

    /// Takes only those that a [copy](Mm::fork) just taken has: if another task changes something before the placement copies mappings,
    /// that isn't the child's.
    pub fn take_copied(&self) -> Log {
        core::mem::take(&mut self.state.lock().copied)
    }

    /// Whether changes wait.
    pub fn has_changes(&self) -> bool {
        let state = self.state.lock();
        !state.log.is_empty() || !state.copied.is_empty()
    }

    /// What execve(2) left where.
    pub fn image(&self) -> Image {
        self.state.lock().image
    }

    /// Changes what is known of the image.
    pub fn set_image(&self, change: impl FnOnce(&mut Image)) {
        change(&mut self.state.lock().image);
    }

    /// Where the program may have memory.
    pub fn layout(&self) -> Layout {
        self.state.lock().layout
    }

    /// Sets limits: bytes of all areas, how far the stack may grow, and bytes that are its own and may be written.
    pub fn set_limits(&self, all: u64, stack: u64, data: u64) {
        let mut state = self.state.lock();
        (state.limit, state.stack_limit, state.data_limit) = (all, stack, data);
    }

    /// Bytes that are locked outside of a range.
    pub fn locked_outside(&self, range: &Range<u64>) -> u64 {
        let state = self.state.lock();
        let locked = state.areas.iter().filter(|(_, area)| area.traits.contains(Traits::LOCKED));
        locked
            .map(|(part, _)| {
                let common = part.end.min(range.end).saturating_sub(part.start.max(range.start));
                part.end - part.start - common
            })
            .sum()
    }

    /// All areas, in order.
    pub fn areas(&self) -> Vec<(Range<u64>, Area)> {
        self.state.lock().areas.iter().map(|(range, area)| (range, area.clone())).collect()
    }

    /// Bytes of all areas, and of private pages given out.
    pub fn sizes(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.areas.covered(), state.private.covered())
    }

    /// Bytes of `range` that are in memory, without those of the host's files.
    pub fn resident_bytes(&self, range: Range<u64>) -> u64 {
        self.present(range, false).iter().map(|part| part.end - part.start).sum()
    }

    /// The parts of `range` that are in memory; what is known of pages of the host's `files` is that they may be.
    pub(super) fn present(&self, range: Range<u64>, files: bool) -> Vec<Range<u64>> {
        let state = self.state.lock();
        let (mut parts, mut cached) = (Vec::new(), Vec::new());
        let mut add = |address: u64, frame: u64, len: u64| {
            let present = self.frames.memory().present(frame..frame + len);
            parts.extend(present.iter().map(|part| address + (part.start - frame)..address + (part.end - frame)));
        };
        for (part, area) in state.areas.within(range) {
            for (piece, page) in state.private.within(part.clone()) {
                add(piece.start, page.frame, piece.end - piece.start);
            }
            for gap in state.private.gaps(part.clone()) {
                match &area.source {
                    Source::Zero => {}
                    Source::Host(_) => cached.extend(files.then_some(gap)),
                    Source::Object(object) => {
                        let mut at = gap.start;
                        while at < gap.end {
                            let found = object.find(area.offset + (at - part.start));
                            let (Ok((_, together)) | Err(together)) = found;
                            let len = together.min(gap.end - at);
                            if let Ok((frame, _)) = found {
                                add(at, frame, len);
                            }
                            at += len;
                        }
                    }
                }
            }
        }
        parts.extend(cached);
        parts
    }

    /// Where the heap begins.
    pub fn brk_start(&self) -> u64 {
        self.state.lock().brk.start
    }

    /// Pages of `object` are gone; whoever maps them must not see them any more.
    pub(super) fn object_lost(&self, object: &Arc<Object>, lost: Range<u64>, holds: &Arc<Vec<Hold>>) {
        let mut state = self.state.lock();
        let mapped = state.showing(object, &lost);
        if mapped.is_empty() {
            return;
        }
        for part in mapped {
            for gap in state.private.gaps(part) {
                state.log.push(MapOp::Unmap { start: gap.start, len: gap.end - gap.start });
            }
        }
        state.log.kept.push(Kept::Lost(holds.clone()));
    }

    /// `object` was cut off: unlike a hole in it, that takes even the private copies of pages away (`unmap_mapping_range` of Linux).
    pub(super) fn object_cut(&self, object: &Arc<Object>, cut: Range<u64>) {
        let mut state = self.state.lock();
        for part in state.showing(object, &cut) {
            state.drop_private(&self.frames, part.clone());
            state.log.push(MapOp::Unmap { start: part.start, len: part.end - part.start });
        }
    }

    /// Whether it maps `object` shared, and may write it.
    pub(super) fn maps_writable(&self, object: &Arc<Object>) -> bool {
        self.state.lock().areas.iter().any(|(_, area)| {
            matches!(&area.source, Source::Object(source) if Arc::ptr_eq(source, object))
                && area.is_shared()
                && !area.traits.contains(Traits::NEVER_WRITE)
        })
    }

    /// How many of its areas show `object`; none if nobody runs in it any more.
    pub(super) fn areas_of_object(&self, object: &Arc<Object>) -> u64 {
        if self.users.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let state = self.state.lock();
        let shows = |area: &Area| matches!(&area.source, Source::Object(source) if Arc::ptr_eq(source, object));
        state.areas.iter().filter(|(_, area)| shows(area)).count() as u64
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    /// Whether `len` bytes more like these of `area` are within the limit on data.
    fn data_fits(&self, area: &Area, len: u64) -> bool {
        if self.data_limit == u64::MAX || !area.is_data() {
            return true;
        }
        let now: u64 = self.areas.iter().filter(|(_, area)| area.is_data()).map(|(range, _)| range.end - range.start).sum();
        now + len <= self.data_limit
    }

    /// Makes the program see what the maps say of `range`. In a `fresh` one it sees nothing yet.
    fn publish(&mut self, range: Range<u64>, fresh: bool) {
        let State { areas, private, log, .. } = self;
        let mut at = range.start;
        for (part, area) in areas.within(range.clone()) {
            if !fresh {
                unmap(log, at..part.start);
            }
            at = part.end;
            if area.protection.is_empty() {
                if !fresh {
                    unmap(log, part);
                }
                continue;
            }
            let mut from = part.start;
            for (piece, page) in private.within(part.clone()) {
                publish_source(log, &area.advanced(from - part.start), from..piece.start, fresh);
                let protection = if page.copy_on_write { area.protection - Protection::WRITE } else { area.protection };
                let len = piece.end - piece.start;
                log.push(MapOp::Map { start: piece.start, len, protection, source: MapSource::Memory, offset: page.frame });
                from = piece.end;
            }
            publish_source(log, &area.advanced(from - part.start), from..part.end, fresh);
        }
        if !fresh {
            unmap(log, at..range.end);
        }
    }

    /// The addresses that show this part of an object.
    fn showing(&self, object: &Arc<Object>, part: &Range<u64>) -> Vec<Range<u64>> {
        let shown = |(range, area): (Range<u64>, &Area)| {
            let Source::Object(source) = &area.source else { return None };
            let start = part.start.max(area.offset);
            let end = part.end.min(area.offset + (range.end - range.start));
            (Arc::ptr_eq(source, object) && start < end)
                .then(|| range.start + (start - area.offset)..range.start + (end - area.offset))
        };
        self.areas.iter().filter_map(shown).collect()
    }

    /// Takes private pages away; they are held until the program can't touch them.
    fn drop_private(&mut self, frames: &Arc<Frames>, range: Range<u64>) {
        for (part, page) in self.private.remove(range) {
            let hold = Hold::taken_over(frames, page.frame..page.frame + (part.end - part.start));
            self.log.kept.push(Kept::Own(hold));
        }
    }
}

/// Adds the end of what was mapped at `range`.
fn unmap(log: &mut Log, range: Range<u64>) {
    if range.start < range.end {
        log.push(MapOp::Unmap { start: range.start, len: range.end - range.start });
    }
}

/// Makes the program see what an area's source has at `range`, where the area has no private pages; `area.offset` is that of `range.start`.
fn publish_source(log: &mut Log, area: &Area, range: Range<u64>, fresh: bool) {
    if range.is_empty() {
        return;
    }
    let protection = if area.is_shared() { area.protection } else { area.protection - Protection::WRITE };
    let len = range.end - range.start;
    match &area.source {
        Source::Host(file) if !protection.is_empty() => {
            log.push(MapOp::Map {
                start: range.start,
                len,
                protection,
                source: MapSource::Host(file.clone()),
                offset: area.offset,
            });
        }
        Source::Object(object) if !protection.is_empty() => {
            let mut at = 0;
            while at < len {
                let found = object.find(area.offset + at);
                let (Ok((_, together)) | Err(together)) = found;
                let together = together.min(len - at);
                match found {
                    Ok((frame, _)) => {
                        let source = MapSource::Memory;
                        log.push(MapOp::Map { start: range.start + at, len: together, protection, source, offset: frame });
                    }
                    Err(_) if fresh => {}
                    Err(_) => unmap(log, range.start + at..range.start + at + together),
                }
                at += together;
            }
        }
        _ if fresh => {}
        _ => unmap(log, range),
    }
}

impl Drop for Mm {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        for (range, page) in core::mem::take(&mut state.private).iter() {
            self.frames.release(page.frame..page.frame + (range.end - range.start));
        }
    }
}
