//! What isn't the program's to write: other code in place of its own, by which a placement has system calls made without a stop; and what a tracer
//! writes.

use super::area::{Area, Private, Protection};
use super::fault::{Fault, page_of};
use super::{Mm, State};
use crate::{Errno, Result};
use core::ops::Range;
use insula_abi::PAGE;

impl Mm {
    /// Puts `new` in place of `old`, of the same length, in private memory that is executed and not written. The page becomes this address
    /// space's own; who runs in it sees all of the change or nothing.
    ///
    /// # Errors
    /// `EFAULT`: there is no such memory, or something else stands there. `EINVAL`: the bytes lie in two pages. `ENOMEM`.
    pub fn patch(&self, address: u64, old: &[u8], new: &[u8]) -> Result<()> {
        let page = page_of(address);
        let last = address.checked_add(old.len() as u64).and_then(|end| end.checked_sub(1)).ok_or(Errno::EINVAL)?;
        if old.len() != new.len() || page_of(last) != page {
            return Err(Errno::EINVAL);
        }
        let mut state = self.lock();
        let (range, area) = state.areas.get(page).map(|(range, area)| (range, area.clone())).ok_or(Errno::EFAULT)?;
        let is_code = area.protection.contains(Protection::EXEC) && !area.protection.contains(Protection::WRITE);
        if !is_code || area.is_shared() {
            return Err(Errno::EFAULT);
        }
        let mut found = [0; 16];
        let found = found.get_mut(..old.len()).ok_or(Errno::EINVAL)?;
        let frame = self.own_copy(&state, page, &range, &area)?;
        self.frames.memory().read(frame + (address - page), found);
        if found != old {
            self.frames.release(frame..frame + PAGE);
            return Err(Errno::EFAULT);
        }
        self.frames.memory().write(frame + (address - page), new);
        self.put_in_place(&mut state, page, frame);
        Ok(())
    }

    /// Writes to memory, also where the program may not: in private memory the page becomes this address space's own, and is written there (Linux:
    /// `FOLL_FORCE`). Answers how many bytes were written.
    pub fn force(&self, address: u64, from: &[u8]) -> (usize, core::result::Result<(), Fault>) {
        let mut done = 0;
        while done < from.len() {
            let Some(at) = address.checked_add(done as u64) else { return (done, Err(Fault::NotMapped)) };
            let most = ((PAGE - at % PAGE) as usize).min(from.len() - done);
            let (count, outcome) = self.write_some(at, &from[done..done + most]);
            done += count;
            match outcome {
                Ok(()) => {}
                Err(Fault::NotAllowed) => match self.force_in_page(at + count as u64, &from[done..done + most - count]) {
                    Ok(()) => done += most - count,
                    Err(fault) => return (done, Err(fault)),
                },
                Err(fault) => return (done, Err(fault)),
            }
        }
        (done, Ok(()))
    }

    fn force_in_page(&self, address: u64, from: &[u8]) -> core::result::Result<(), Fault> {
        let page = page_of(address);
        let mut state = self.lock();
        let (range, area) = state.areas.get(page).map(|(range, area)| (range, area.clone())).ok_or(Fault::NotMapped)?;
        if area.is_shared() {
            return Err(Fault::NotAllowed);
        }
        let own = state.private.get(page).filter(|(_, private)| !private.copy_on_write);
        if let Some(frame) = own.map(|(piece, private)| private.frame + (page - piece.start)) {
            self.frames.memory().write(frame + (address - page), from);
            return Ok(());
        }
        let frame = self.own_copy(&state, page, &range, &area)?;
        self.frames.memory().write(frame + (address - page), from);
        self.put_in_place(&mut state, page, frame);
        Ok(())
    }

    fn put_in_place(&self, state: &mut State, page: u64, frame: u64) {
        state.drop_private(&self.frames, page..page + PAGE);
        state.private.insert(page..page + PAGE, Private { frame, copy_on_write: false });
        state.publish(page..page + PAGE, false);
    }

    /// A copy of what a page shows.
    fn own_copy(&self, state: &State, page: u64, range: &Range<u64>, area: &Area) -> Result<u64> {
        let frame = self.frames.allocate(PAGE)?;
        match state.private.get(page).map(|(piece, private)| private.frame + (page - piece.start)) {
            Some(from) => self.frames.memory().copy(from, frame, PAGE),
            None => {
                if let Err(fault) = self.fill(frame, area, area.offset + (page - range.start), PAGE, 0) {
                    self.frames.release(frame..frame + PAGE);
                    return Err(fault.into());
                }
            }
        }
        Ok(frame)
    }
}
