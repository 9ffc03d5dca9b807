//! Which calls of a program are made often, and the traps in their place.

use super::dispatcher;
use crate::platform::Call;
use crate::platform::site::{self, Site};
use crate::platform::traps::{self, Trap, Traps};
use insula_kernel::host::HostFile;
use insula_kernel::mm::{Area, MapRequest, Mm, Place, Protection, Source, Traits};
use insula_kernel::{Errno, Result};
use rustix::fd::{AsFd, AsRawFd};
use std::ops::Range;
use std::sync::Arc;

/// How often a call is made from one place before that is replaced: what this costs must come back. And the same where all code of a file has
/// to be looked through for it.
const OFTEN: u32 = 24;
const VERY_OFTEN: u32 = 480;

/// How much code is looked through for jumps, and how much at a time, in bytes.
const MOST_CODE: u64 = 16 << 20;
const AT_ONCE: usize = 64 << 10;

/// The traps of an address space.
#[derive(Clone, Debug, Default)]
pub(super) struct Patches {
    traps: Vec<Patch>,
    /// Code for them is mapped.
    mapped: bool,
    /// There are to be none.
    forbidden: bool,
}

/// A jump to a trap, and what stood in its place.
#[derive(Clone, Debug)]
struct Patch {
    trap: Arc<Trap>,
    replaced: [u8; site::JUMP],
}

impl Patches {
    /// Whether somebody was on the way to make a call here, and found its instruction gone.
    pub(super) fn is_halfway(&self, ip: u64) -> bool {
        self.traps.iter().any(|patch| patch.trap.site().halfway() == Some(ip))
    }

    /// Where to go on instead of the midst of a jump.
    pub(super) fn onward(&self, ip: u64) -> u64 {
        self.traps.iter().find_map(|patch| patch.trap.onward(ip)).unwrap_or(ip)
    }

    /// Puts a jump to a trap where a call was just made, if one fits there. `alone`: no other thread runs in this address space.
    pub(super) fn add(&mut self, traps: &Arc<Traps>, mm: &Arc<Mm>, call: &Call, count: Count, alone: bool) -> Option<()> {
        let mut code = [0; size_of::<site::Code>()];
        mm.read(call.ip.checked_sub(Site::BEFORE as u64)?, &mut code).ok()?;
        let (site, replaced) = Site::find(&code, call.ip, call.number)?;
        if self.forbidden
            || !dispatcher::can_make(call.number)
            || (site.moved.is_some() && !(alone && count == Count::VeryOften && is_safe(mm, &site)))
        {
            return None;
        }
        self.map(traps, mm)?;
        let trap = traps.trap(site)?;
        mm.patch(site.start, &replaced, &trap.jump()).ok()?;
        if !self.traps.iter().any(|known| Arc::ptr_eq(&known.trap, &trap)) {
            self.traps.push(Patch { trap, replaced });
        }
        Some(())
    }

    /// Takes all jumps out again. Who is in a trap comes out of it where it would have.
    pub(super) fn undo(&self, mm: &Arc<Mm>) {
        for Patch { trap, replaced } in &self.traps {
            // Whoever wrote something else there meant it.
            let _ = mm.patch(trap.site().start, &trap.jump(), replaced);
        }
    }

    /// Takes them out for good.
    pub(super) fn forbid(&mut self, mm: &Arc<Mm>) {
        if !self.forbidden {
            self.forbidden = true;
            self.undo(mm);
        }
    }

    fn map(&mut self, traps: &Arc<Traps>, mm: &Arc<Mm>) -> Option<()> {
        if !self.mapped {
            let area = Area {
                protection: Protection::READ | Protection::EXEC,
                traits: Traits::SHARED | Traits::NEVER_WRITE | Traits::DONT_DUMP,
                source: Source::Host(Arc::new(Code(traps.clone()))),
                offset: 0,
                file: None,
                label: "[traps]",
            };
            let len = traps::AREA.end - traps::AREA.start;
            mm.map(MapRequest { place: Place::Vacant(traps::AREA.start), len, area }).ok()?;
            self.mapped = true;
        }
        Some(())
    }
}

/// Whether nothing that is near jumps to where instructions are moved away.
fn is_safe(mm: &Mm, site: &Site) -> bool {
    let areas = mm.areas();
    areas.iter().find(|(range, _)| range.contains(&site.start)).is_some_and(|(range, _)| {
        let mut bytes = vec![0; AT_ONCE];
        // Pieces overlap by the longest jump.
        let starts = (range.start..range.end).step_by(AT_ONCE - 8);
        let pieces = starts.map(|start| start..range.end.min(start + AT_ONCE as u64));
        range.end - range.start <= MOST_CODE
            && pieces.into_iter().all(|piece| {
                let bytes = &mut bytes[..(piece.end - piece.start) as usize];
                mm.read(piece.start, bytes).is_ok() && !site.is_target(bytes, piece.start)
            })
    })
}

/// The traps' code as a file, of which programs see no more than that it is mapped.
#[derive(Debug)]
struct Code(Arc<Traps>);

impl HostFile for Code {
    fn token(&self) -> u64 {
        self.0.as_fd().as_raw_fd() as u64
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> Result<usize> {
        rustix::io::pread(&*self.0, into, at).map_err(crate::host::errno)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> Result<usize> {
        Err(Errno::EBADF)
    }

    fn read_into(&self, _: u64, _: &[Range<u64>]) -> Result<usize> {
        Err(Errno::EIO)
    }

    fn write_from(&self, _: u64, _: &[Range<u64>]) -> Result<usize> {
        Err(Errno::EBADF)
    }

    fn size(&self) -> Result<u64> {
        Ok(traps::AREA.end - traps::AREA.start)
    }
}

/// How many calls were made from one place, with the one that was just made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// As many as make it worth to replace the place.
    Often,
    /// Even if that costs much.
    VeryOften,
    /// Fewer, or it was tried.
    Other,
}

/// Counts the calls of a task by where they are made.
pub(super) struct Places([(u64, u32); 64]);

impl Places {
    pub(super) fn new() -> Self {
        Places([(0, 0); 64])
    }

    /// Counts one more.
    pub(super) fn count(&mut self, ip: u64) -> Count {
        let index = ((ip >> 1) ^ (ip >> 7) ^ (ip >> 13)) as usize % self.0.len();
        let (place, count) = &mut self.0[index];
        if *place != ip {
            (*place, *count) = (ip, 0);
        }
        *count = count.wrapping_add(1);
        match *count {
            OFTEN => Count::Often,
            VERY_OFTEN => Count::VeryOften,
            _ => Count::Other,
        }
    }
}
