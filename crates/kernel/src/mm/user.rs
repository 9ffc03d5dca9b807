//! Copies to and from user memory. Each can fail halfway, with a fault as a value.

use super::Mm;
use super::fault::{Access, Fault, Located};
use super::frames::Hold;
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use insula_abi::memory::Iovec;
use insula_abi::zerocopy::{FromBytes, Immutable, IntoBytes};

/// The longest path, with its end (`PATH_MAX`).
pub const PATH_MAX: usize = 4096;

/// The most bytes one call transfers (Linux: `MAX_RW_COUNT`).
pub const MOST_BYTES: u64 = 0x7fff_f000;

impl Mm {
    /// Copies out of user memory; answers how far that went before a fault.
    pub fn read_some(&self, address: u64, into: &mut [u8]) -> (usize, core::result::Result<(), Fault>) {
        self.each_piece(address, into.len(), Access::Read, |done, len, place| match place {
            Located::Memory { frame, .. } => {
                self.frames.memory().read(*frame, &mut into[done..done + len]);
                Ok(len)
            }
            Located::Host { file, at, .. } => Ok(file.read_at(*at, &mut into[done..done + len])?),
        })
    }

    /// Copies into user memory; answers how far that went before a fault.
    pub fn write_some(&self, address: u64, from: &[u8]) -> (usize, core::result::Result<(), Fault>) {
        self.each_piece(address, from.len(), Access::Write, |done, len, place| match place {
            Located::Memory { frame, .. } => {
                self.frames.memory().write(*frame, &from[done..done + len]);
                Ok(len)
            }
            Located::Host { file, at, .. } => Ok(file.write_at(*at, &from[done..done + len])?),
        })
    }

    /// Copies from the sandbox's memory at `from` into user memory; answers how far that went before a fault.
    fn copy_in(&self, address: u64, from: u64, len: usize) -> (usize, core::result::Result<(), Fault>) {
        self.each_piece(address, len, Access::Write, |done, len, place| match place {
            Located::Memory { frame, .. } => {
                self.frames.memory().copy(from + done as u64, *frame, len as u64);
                Ok(len)
            }
            Located::Host { file, at, .. } => {
                let from = from + done as u64;
                Ok(file.write_from(*at, core::slice::from_ref(&(from..from + len as u64)))?)
            }
        })
    }

    /// Copies from user memory into the sandbox's memory at `to`; answers how far that went before a fault.
    fn copy_out(&self, address: u64, to: u64, len: usize) -> (usize, core::result::Result<(), Fault>) {
        self.each_piece(address, len, Access::Read, |done, len, place| match place {
            Located::Memory { frame, .. } => {
                self.frames.memory().copy(*frame, to + done as u64, len as u64);
                Ok(len)
            }
            Located::Host { file, at, .. } => {
                let to = to + done as u64;
                Ok(file.read_into(*at, core::slice::from_ref(&(to..to + len as u64)))?)
            }
        })
    }

    /// Calls `use_piece(done, len, place)` for piece after piece of user memory, until all is done or one faults or is short.
    fn each_piece(
        &self,
        address: u64,
        len: usize,
        access: Access,
        mut use_piece: impl FnMut(usize, usize, &Located) -> core::result::Result<usize, Fault>,
    ) -> (usize, core::result::Result<(), Fault>) {
        let mut state = self.lock();
        let mut done = 0;
        while done < len {
            let Some(at) = address.checked_add(done as u64) else { return (done, Err(Fault::NotMapped)) };
            let place = match self.locate(&mut state, at, access) {
                Ok(place) => place,
                Err(fault) => return (done, Err(fault)),
            };
            let (Located::Memory { len: together, .. } | Located::Host { len: together, .. }) = &place;
            let part = usize::try_from(*together).unwrap_or(usize::MAX).min(len - done);
            match use_piece(done, part, &place) {
                Ok(0) => return (done, Err(Fault::PastEnd)),
                Ok(count) => done += count,
                Err(fault) => return (done, Err(fault)),
            }
        }
        (done, Ok(()))
    }

    /// Copies out of user memory.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<()> {
        Ok(self.read_some(address, into).1?)
    }

    /// Copies into user memory.
    ///
    /// # Errors
    /// `EFAULT`; part may have been copied.
    pub fn write(&self, address: u64, from: &[u8]) -> Result<()> {
        Ok(self.write_some(address, from).1?)
    }

    /// Reads a value.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn get<T: FromBytes + IntoBytes>(&self, address: u64) -> Result<T> {
        let mut value = T::new_zeroed();
        self.read(address, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Writes a value.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn put<T: IntoBytes + Immutable>(&self, address: u64, value: &T) -> Result<()> {
        self.write(address, value.as_bytes())
    }

    /// Reads `count` values in a row.
    ///
    /// # Errors
    /// `EFAULT`. The caller bounds `count`.
    pub fn get_all<T: FromBytes + IntoBytes + Clone>(&self, address: u64, count: usize) -> Result<Vec<T>>
    where
        [T]: IntoBytes + FromBytes,
    {
        let mut values = vec![T::new_zeroed(); count];
        self.read(address, values.as_mut_slice().as_mut_bytes())?;
        Ok(values)
    }

    /// Reads a string up to its zero byte, which isn't answered.
    ///
    /// # Errors
    /// `EFAULT`. `ENAMETOOLONG`: no zero byte within `most` bytes.
    pub fn string(&self, address: u64, most: usize) -> Result<Vec<u8>> {
        let mut string = Vec::new();
        let mut buffer = [0; 256];
        while string.len() < most {
            let at = address.checked_add(string.len() as u64).ok_or(Errno::EFAULT)?;
            // Up to the end of a page: the next may not be there, nor be needed.
            let len = buffer.len().min(most - string.len()).min((insula_abi::PAGE - at % insula_abi::PAGE) as usize);
            self.read(at, &mut buffer[..len])?;
            match buffer[..len].iter().position(|byte| *byte == 0) {
                Some(end) => {
                    string.extend_from_slice(&buffer[..end]);
                    return Ok(string);
                }
                None => string.extend_from_slice(&buffer[..len]),
            }
        }
        Err(Errno::ENAMETOOLONG)
    }

    /// Reads a path.
    ///
    /// # Errors
    /// `EFAULT`, `ENAMETOOLONG`.
    pub fn path(&self, address: u64) -> Result<Vec<u8>> {
        self.string(address, PATH_MAX)
    }

    /// Reads four bytes in one piece.
    ///
    /// # Errors
    /// `EINVAL`: not a multiple of four. `EFAULT`.
    pub fn load(&self, address: u64) -> Result<u32> {
        if !address.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        let mut state = self.lock();
        match self.locate(&mut state, address, Access::Read)? {
            Located::Memory { frame, .. } => Ok(self.frames.memory().load(frame)),
            Located::Host { .. } => {
                drop(state);
                self.get(address)
            }
        }
    }

    /// Puts `new` in place of `old` in one piece, if `old` is there; answers what was.
    ///
    /// # Errors
    /// `EINVAL`: not a multiple of four. `EFAULT`, also in a file that is mapped shared, where that can't be done.
    pub fn compare_exchange(&self, address: u64, old: u32, new: u32) -> Result<u32> {
        if !address.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        let mut state = self.lock();
        match self.locate(&mut state, address, Access::Write)? {
            Located::Memory { frame, .. } => Ok(self.frames.memory().compare_exchange(frame, old, new)),
            Located::Host { .. } => Err(Errno::EFAULT),
        }
    }

    /// What tells one word of memory that several may map from any other, whoever maps it; none for memory that only this address
    /// space has (futex(2)).
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn identity(&self, address: u64) -> Result<Option<(u64, u64)>> {
        let mut state = self.lock();
        let place = self.locate(&mut state, address, Access::Read)?;
        if !state.areas.get(address).is_some_and(|(_, area)| area.is_shared()) {
            return Ok(None);
        }
        Ok(Some(match place {
            Located::Memory { frame, .. } => (u64::MAX, frame),
            Located::Host { file, at, .. } => (file.token(), at),
        }))
    }
}

/// User memory that a call reads from or writes to, piece after piece.
pub struct UserBuf {
    mm: Arc<Mm>,
    pieces: Vec<Iovec>,
    /// Which piece is next, and how much of it is done.
    piece: usize,
    within: u64,
    left: u64,
}

impl UserBuf {
    /// One piece, cut to what one call may transfer.
    pub fn new(mm: &Arc<Mm>, base: u64, len: u64) -> Self {
        let len = len.min(MOST_BYTES);
        UserBuf { mm: mm.clone(), pieces: vec![Iovec { base, len }], piece: 0, within: 0, left: len }
    }

    /// The pieces that `count` of `struct iovec` at `address` describe.
    ///
    /// # Errors
    /// `EINVAL`: too many, or a length that isn't one. `EFAULT`.
    pub fn vectored(mm: &Arc<Mm>, address: u64, count: u64) -> Result<Self> {
        if count > 1024 {
            return Err(Errno::EINVAL);
        }
        let pieces: Vec<Iovec> = mm.get_all(address, count as usize)?;
        if pieces.iter().any(|piece| piece.len > i64::MAX as u64) {
            return Err(Errno::EINVAL);
        }
        let all = pieces.iter().try_fold(0u64, |sum, piece| sum.checked_add(piece.len)).filter(|sum| *sum <= i64::MAX as u64);
        let left = all.ok_or(Errno::EINVAL)?.min(MOST_BYTES);
        Ok(UserBuf { mm: mm.clone(), pieces, piece: 0, within: 0, left })
    }

    /// The same pieces of another address space.
    pub fn of(self, mm: &Arc<Mm>) -> Self {
        UserBuf { mm: mm.clone(), ..self }
    }

    /// Bytes that are left.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// At most `most` bytes are left from now on.
    pub fn truncate(&mut self, most: u64) {
        self.left = self.left.min(most);
    }

    /// The next piece, as address and length.
    fn next(&mut self) -> Option<(u64, u64)> {
        while self.left > 0 {
            let piece = self.pieces.get(self.piece)?;
            if self.within < piece.len {
                return Some((piece.base.wrapping_add(self.within), (piece.len - self.within).min(self.left)));
            }
            self.piece += 1;
            self.within = 0;
        }
        None
    }

    fn advance(&mut self, by: u64) {
        self.within += by;
        self.left -= by;
    }

    /// Copies `from` to the program, as far as there is room; answers how much.
    ///
    /// # Errors
    /// `EFAULT`: not even the first byte.
    pub fn put(&mut self, from: &[u8]) -> Result<usize> {
        let mut done = 0;
        while done < from.len()
            && let Some((address, len)) = self.next()
        {
            let len = usize::try_from(len).unwrap_or(usize::MAX).min(from.len() - done);
            let (count, outcome) = self.mm.clone().write_some(address, &from[done..done + len]);
            self.advance(count as u64);
            done += count;
            if let Err(fault) = outcome {
                return if done == 0 { Err(fault.into()) } else { Ok(done) };
            }
        }
        Ok(done)
    }

    /// Copies from the program into `into`, as far as there is something; answers how much.
    ///
    /// # Errors
    /// `EFAULT`: not even the first byte.
    pub fn take(&mut self, into: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < into.len()
            && let Some((address, len)) = self.next()
        {
            let len = usize::try_from(len).unwrap_or(usize::MAX).min(into.len() - done);
            let (count, outcome) = self.mm.clone().read_some(address, &mut into[done..done + len]);
            self.advance(count as u64);
            done += count;
            if let Err(fault) = outcome {
                return if done == 0 { Err(fault.into()) } else { Ok(done) };
            }
        }
        Ok(done)
    }

    /// Copies what comes next into `into`, but leaves it there to be taken; answers how much that is.
    ///
    /// # Errors
    /// `EFAULT`: not even the first byte.
    pub fn peek(&mut self, into: &mut [u8]) -> Result<usize> {
        let before = (self.piece, self.within, self.left);
        let outcome = self.take(into);
        (self.piece, self.within, self.left) = before;
        outcome
    }

    /// Nothing is left.
    pub fn skip_all(&mut self) {
        self.left = 0;
    }

    /// Copies `len` bytes of the sandbox's memory at `from` to the program, as far as there is room; answers how many.
    ///
    /// # Errors
    /// `EFAULT`: not even the first byte.
    pub fn put_from(&mut self, from: u64, len: u64) -> Result<u64> {
        self.each(len, |mm, address, done, len| mm.copy_in(address, from + done, len))
    }

    /// Copies from the program into the sandbox's memory at `to`, as far as there is something, up to `len` bytes; answers how many.
    ///
    /// # Errors
    /// `EFAULT`: not even the first byte.
    pub fn take_to(&mut self, to: u64, len: u64) -> Result<u64> {
        self.each(len, |mm, address, done, len| mm.copy_out(address, to + done, len))
    }

    /// Gives the program `len` zeros, as far as there is room; answers how many.
    ///
    /// # Errors
    /// `EFAULT`: not even the first byte.
    pub fn put_zeros(&mut self, len: u64) -> Result<u64> {
        const ZEROS: [u8; 4096] = [0; 4096];
        self.each(len, |mm, address, _, len| {
            let len = len.min(ZEROS.len());
            mm.write_some(address, &ZEROS[..len])
        })
    }

    /// Calls `transfer(mm, address, done, len)` for piece after piece, until `len` bytes are done, or one faults.
    fn each(
        &mut self,
        len: u64,
        mut transfer: impl FnMut(&Mm, u64, u64, usize) -> (usize, core::result::Result<(), Fault>),
    ) -> Result<u64> {
        let mut done = 0;
        while done < len
            && let Some((address, piece)) = self.next()
        {
            let part = usize::try_from(piece.min(len - done)).unwrap_or(usize::MAX);
            let (count, outcome) = transfer(&self.mm, address, done, part);
            self.advance(count as u64);
            done += count as u64;
            if let Err(fault) = outcome {
                return if done == 0 { Err(fault.into()) } else { Ok(done) };
            }
        }
        Ok(done)
    }

    /// Copies all that is left, up to `most` bytes, from the program.
    ///
    /// # Errors
    /// `EFAULT`: not all of it is there.
    pub fn take_all(&mut self, most: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; most.min(usize::try_from(self.left).unwrap_or(usize::MAX))];
        let got = self.take(&mut bytes)?;
        if got == bytes.len() { Ok(bytes) } else { Err(Errno::EFAULT) }
    }

    /// Where the next bytes lie in the sandbox's memory, for a host to read or write them directly: at most `most` of them, as far as
    /// they lie there, held so that they stay. For a call of a task in this address space.
    ///
    /// # Errors
    /// `EFAULT`: not even the first.
    pub fn pin(&mut self, access: Access, most: u64) -> Result<Pinned> {
        let mut pinned = Pinned { pieces: Vec::new(), holds: Vec::new(), len: 0 };
        let (mut piece, mut within) = (self.piece, self.within);
        let most = most.min(self.left);
        // What leaves an address space is given back once its tasks have seen it go, and the only one is here: it needs no hold.
        let alone = !self.mm.is_shared();
        let mut state = self.mm.state.lock();
        while pinned.len < most && pinned.pieces.len() < 64 {
            let Some(at) = self.pieces.get(piece) else { break };
            if within >= at.len {
                (piece, within) = (piece + 1, 0);
                continue;
            }
            let want = (at.len - within).min(most - pinned.len);
            let address = at.base.wrapping_add(within);
            match self.mm.locate(&mut state, address, access) {
                Ok(Located::Memory { frame, len }) => {
                    let len = len.min(want);
                    let held = alone && state.private.get(address).is_some();
                    pinned.push(&self.mm, frame..frame + len, held);
                    within += len;
                }
                Ok(Located::Host { .. }) => break,
                Err(fault) if pinned.len == 0 => return Err(fault.into()),
                Err(_) => break,
            }
        }
        Ok(pinned)
    }

    /// This many of the next bytes were used directly.
    pub fn skip(&mut self, mut len: u64) {
        while len > 0
            && let Some((_, together)) = self.next()
        {
            self.advance(together.min(len));
            len -= together.min(len);
        }
    }

    /// Whose memory it is.
    pub fn mm(&self) -> &Arc<Mm> {
        &self.mm
    }
}

/// Pieces of the sandbox's memory that stay where they are.
pub struct Pinned {
    pieces: Vec<Range<u64>>,
    holds: Vec<Hold>,
    len: u64,
}

impl Pinned {
    /// Adds a piece; `held` if it stays without our doing.
    fn push(&mut self, mm: &Mm, range: Range<u64>, held: bool) {
        if !held {
            let whole = range.start & !(insula_abi::PAGE - 1)..range.end.next_multiple_of(insula_abi::PAGE);
            self.holds.push(Hold::shared(&mm.frames, whole));
        }
        self.len += range.end - range.start;
        match self.pieces.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.pieces.push(range),
        }
    }

    /// Where they lie.
    pub fn pieces(&self) -> &[Range<u64>] {
        &self.pieces
    }

    /// Bytes of all.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is none: what comes next doesn't lie in the sandbox's memory.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
