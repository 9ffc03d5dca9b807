//! Where the bytes of an address lie; and pages that are made, or copied, because somebody touches them.

use super::area::{Area, Private, Protection, Source, Traits};
use super::frames::Hold;
use super::log::Kept;
use super::ranges::Piece;
use super::{Mm, State};
use crate::host::HostFile;
use crate::{Errno, Result};
use alloc::sync::Arc;
use core::ops::Range;
use insula_abi::PAGE;

/// Zeros are given out in pieces of this size: pages that are never touched cost nothing, and each piece costs a trap.
const ZEROS: u64 = 2 << 20;

/// Pages of files are copied in pieces of this size: copying sixteen costs less than one trap more.
const COPIES: u64 = 64 << 10;

/// Pages that a fork left to both are copied in pieces of this size: most children soon have no use for them.
const UNSHARED: u64 = 16 << 10;

/// Room kept free below a stack, in bytes (Linux: `stack_guard_gap`, 256 pages).
const STACK_GUARD: u64 = 1 << 20;

/// How memory is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It is read.
    Read,
    /// It is written.
    Write,
    /// An instruction is fetched.
    Execute,
}

/// Why memory can't be touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is mapped there: `SIGSEGV`, `SEGV_MAPERR`.
    NotMapped,
    /// It may not be used so: `SIGSEGV`, `SEGV_ACCERR`.
    NotAllowed,
    /// The file mapped there is shorter: `SIGBUS`, `BUS_ADRERR`.
    PastEnd,
    /// There is no memory left: `SIGKILL`, as Linux's out-of-memory killer has it.
    NoMemory,
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        if errno == Errno::ENOMEM { Fault::NoMemory } else { Fault::PastEnd }
    }
}

/// Where bytes lie.
pub(super) enum Located {
    /// In the sandbox's memory, this many together.
    Memory {
        /// Offset there.
        frame: u64,
        /// Bytes.
        len: u64,
    },
    /// In a file of the host's, to be reached by reading and writing it.
    Host {
        /// The file.
        file: Arc<dyn HostFile>,
        /// Offset there.
        at: u64,
        /// Bytes, as far as the area goes.
        len: u64,
    },
}

impl Mm {
    /// The program touched `address` and found nothing there, or found it forbidden. Afterwards it may try again.
    ///
    /// # Errors
    /// It may not.
    pub fn fault(&self, address: u64, access: Access) -> core::result::Result<(), Fault> {
        let mut state = self.state.lock();
        let page = address & !(PAGE - 1);
        let len = match self.locate(&mut state, page, access)? {
            Located::Memory { len, .. } | Located::Host { len, .. } => len,
        };
        // `locate` publishes what it makes. What was there already, somebody else has made, or the host lost it (its mapping was cut
        // short): show it again.
        if state.log.ops.is_empty() {
            state.publish(page..page + len.clamp(PAGE, ZEROS) / PAGE * PAGE, false);
        }
        Ok(())
    }

    /// Where the bytes from `address` on lie, which are made if they aren't there yet, so that they can be used as `access` says.
    pub(super) fn locate(&self, state: &mut State, address: u64, access: Access) -> core::result::Result<Located, Fault> {
        let (range, area) = match self.area_at(state, address) {
            Err(Fault::NotMapped) if access == Access::Read => return self.locate_beside(address).ok_or(Fault::NotMapped),
            found => found?,
        };
        let allowed = match access {
            // As on the processor: what can be written or executed can be read.
            Access::Read => !area.protection.is_empty(),
            Access::Write => area.protection.contains(Protection::WRITE),
            Access::Execute => area.protection.contains(Protection::EXEC),
        };
        if !allowed {
            return Err(Fault::NotAllowed);
        }
        if area.is_shared() {
            return self.locate_shared(state, address, &range, &area);
        }
        let write = access == Access::Write;
        match state.private.get(address).map(|(piece, page)| (piece, *page)) {
            Some((piece, page)) => {
                if write && page.copy_on_write {
                    return self.unshare(state, address, &range, &piece, page);
                }
                let end = piece.end.min(range.end);
                Ok(Located::Memory { frame: page.frame + (address - piece.start), len: end - address })
            }
            None => self.locate_absent(state, address, &range, &area, write),
        }
    }

    /// What programs can read beside their areas.
    fn locate_beside(&self, address: u64) -> Option<Located> {
        let vdso = self.frames.vdso()?;
        let at = address.checked_sub(vdso.address)?;
        let len = (vdso.code.len() as u64).checked_sub(at).filter(|len| *len > 0)?;
        Some(Located::Host { file: vdso.clone(), at, len })
    }

    /// The area of an address; a stack grows if it is touched just below.
    fn area_at(&self, state: &mut State, address: u64) -> core::result::Result<(Range<u64>, Area), Fault> {
        if let Some((range, area)) = state.areas.get(address) {
            return Ok((range, area.clone()));
        }
        let Some((range, area)) = state.areas.at_or_after(address).map(|(range, area)| (range, area.clone())) else {
            return Err(Fault::NotMapped);
        };
        let start = address & !(PAGE - 1);
        let room = state.areas.before(address).is_none_or(|(below, _)| below.end + STACK_GUARD <= start);
        let grows = area.traits.contains(Traits::GROWS_DOWN) && range.end - start <= state.stack_limit;
        if !grows || !room || start < state.layout.low {
            return Err(Fault::NotMapped);
        }
        state.areas.insert(start..range.start, area);
        match state.areas.get(address) {
            Some((range, area)) => Ok((range, area.clone())),
            None => Err(Fault::NotMapped),
        }
    }

    fn locate_shared(
        &self,
        state: &mut State,
        address: u64,
        range: &Range<u64>,
        area: &Area,
    ) -> core::result::Result<Located, Fault> {
        let at = area.offset + (address - range.start);
        let most = range.end - address;
        match &area.source {
            Source::Host(file) => Ok(Located::Host { file: file.clone(), at, len: most }),
            Source::Object(object) => {
                if object.ends_before(at) {
                    return Err(Fault::PastEnd);
                }
                let made = object.find(at).is_err();
                let (frame, len) = object.locate(at)?;
                let len = len.min(most);
                if made {
                    let page = address & !(PAGE - 1);
                    state.publish(page..(address + len).next_multiple_of(PAGE).min(range.end), false);
                }
                Ok(Located::Memory { frame, len })
            }
            Source::Zero => Err(Fault::NotMapped),
        }
    }

    /// Private memory of which this address space has no page yet.
    fn locate_absent(
        &self,
        state: &mut State,
        address: u64,
        range: &Range<u64>,
        area: &Area,
        write: bool,
    ) -> core::result::Result<Located, Fault> {
        let most = range.end - address;
        let from_source = area.offset + (address - range.start);
        let (size, fill) = match &area.source {
            Source::Zero => (ZEROS, false),
            Source::Host(file) if !write => {
                let until = state.private.at_or_after(address).map_or(most, |(next, _)| next.start - address);
                return Ok(Located::Host { file: file.clone(), at: from_source, len: most.min(until) });
            }
            Source::Object(object) if !write => {
                if object.ends_before(from_source) {
                    return Err(Fault::PastEnd);
                }
                let until = state.private.at_or_after(address).map_or(most, |(next, _)| next.start - address);
                let made = object.find(from_source).is_err();
                let (frame, len) = object.locate(from_source)?;
                let len = len.min(most).min(until);
                if made {
                    let page = address & !(PAGE - 1);
                    state.publish(page..(address + len).next_multiple_of(PAGE).min(range.end), false);
                }
                return Ok(Located::Memory { frame, len });
            }
            Source::Object(_) | Source::Host(_) => (COPIES, true),
        };
        let window = window(address, size, range);
        let Some(gap) = state.private.gaps(window).into_iter().find(|gap| gap.contains(&address)) else {
            return Err(Fault::NotMapped);
        };
        let len = gap.end - gap.start;
        let frame = self.frames.allocate(len)?;
        if fill && let Err(fault) = self.fill(frame, area, area.offset + (gap.start - range.start), len, address - gap.start) {
            self.frames.release(frame..frame + len);
            return Err(fault);
        }
        state.private.insert(gap.clone(), Private { frame, copy_on_write: false });
        state.publish(gap.clone(), false);
        Ok(Located::Memory { frame: frame + (address - gap.start), len: gap.end - address })
    }

    /// Copies `len` bytes of an area's source into fresh memory; the byte at `needed` must be there.
    pub(super) fn fill(&self, frame: u64, area: &Area, at: u64, len: u64, needed: u64) -> core::result::Result<(), Fault> {
        match &area.source {
            Source::Zero => Ok(()),
            Source::Object(object) => {
                if object.ends_before(at + needed) {
                    return Err(Fault::PastEnd);
                }
                let mut done = 0;
                while done < len {
                    let found = object.find(at + done);
                    let (Ok((_, together)) | Err(together)) = found;
                    let part = together.min(len - done);
                    if let Ok((from, _)) = found {
                        self.frames.memory().copy(from, frame + done, part);
                    }
                    done += part;
                }
                Ok(())
            }
            Source::Host(file) => {
                let got = file.read_into(at, core::slice::from_ref(&(frame..frame + len)))? as u64;
                // The rest of a file's last page reads as zeros; pages behind it aren't there.
                if needed < got.next_multiple_of(PAGE) { Ok(()) } else { Err(Fault::PastEnd) }
            }
        }
    }

    /// Pages that others may have, too, and that are to be written: copied, unless nobody else has them any more.
    fn unshare(
        &self,
        state: &mut State,
        address: u64,
        range: &Range<u64>,
        piece: &Range<u64>,
        page: Private,
    ) -> core::result::Result<Located, Fault> {
        let all = range.start.max(piece.start)..range.end.min(piece.end);
        let at = |part: &Range<u64>| page.advanced(part.start - piece.start).frame;
        // What all others have left is one's own again, as far as one can see: one trap for all of it.
        let mut part = window(address, ZEROS, &all);
        let mut len = part.end - part.start;
        let mut frame = at(&part);
        if self.frames.is_shared(frame..frame + len) {
            part = window(address, UNSHARED, &all);
            len = part.end - part.start;
            frame = at(&part);
        }
        let old = frame;
        state.habits.note(&window(address, UNSHARED, &part));
        if self.frames.is_shared(old..old + len) {
            frame = self.frames.allocate_for_copy(len)?;
            self.frames.memory().copy(old, frame, len);
        }
        for (gone, page) in state.private.insert(part.clone(), Private { frame, copy_on_write: false }) {
            if frame != old {
                let hold = Hold::taken_over(&self.frames, page.frame..page.frame + (gone.end - gone.start));
                state.log.kept.push(Kept::Own(hold));
            }
        }
        state.publish(part.clone(), false);
        Ok(Located::Memory { frame: frame + (address - part.start), len: part.end - address })
    }
}

/// The part of `range` that lies in the same aligned piece of `size` as `address`.
fn window(address: u64, size: u64, range: &Range<u64>) -> Range<u64> {
    let start = address & !(size - 1);
    start.max(range.start)..(start + size).min(range.end)
}

/// As a system call says it.
impl From<Fault> for Errno {
    fn from(fault: Fault) -> Errno {
        match fault {
            Fault::NoMemory => Errno::ENOMEM,
            _ => Errno::EFAULT,
        }
    }
}

/// The page that holds `address`.
pub(super) const fn page_of(address: u64) -> u64 {
    address & !(PAGE - 1)
}

/// Rounds up to whole pages.
///
/// # Errors
/// `ENOMEM`: there is no such number.
pub(super) fn pages(len: u64) -> Result<u64> {
    len.checked_next_multiple_of(PAGE).ok_or(Errno::ENOMEM)
}
