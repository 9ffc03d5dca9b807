//! Registers of a tracee, as its tracer sees and sets them.

use super::Stop;
use crate::mm::Mm;
use crate::{Errno, Regs, Result};
use alloc::vec::Vec;
use core::ops::Range;
use insula_abi::zerocopy::{FromBytes, IntoBytes};

/// Bytes of the state that all processors have: `user_fpregs_struct`, as `fxsave` stores it.
pub(super) const LEGACY: usize = 512;

/// Where the header of the extended state lies, of which the first eight bytes are in use: the features that have a state.
const HEADER: Range<usize> = 512..576;

/// Where the host says which features there are.
const FEATURES: usize = 464;

/// `MXCSR`, and what of it is never set.
const MXCSR: usize = 24;
const MXCSR_RESERVED: u32 = 0xffff_0000;

/// The first two features, which the legacy state holds.
const X87_AND_SSE: u64 = 3;

/// Flags that a tracer may set: `FLAG_MASK` of Linux.
const FLAGS: u64 = 1 << 18 | 1 << 16 | 1 << 14 | 1 << 11 | 1 << 10 | 1 << 8 | 1 << 7 | 1 << 6 | 1 << 4 | 1 << 2 | 1;

/// Bytes of `struct user`, and where its debug registers lie in it.
const USER: u64 = 928;
const DEBUG: Range<u64> = 848..912;

/// Where bases of segments end (`TASK_SIZE_MAX`).
const BASES: u64 = 0x7fff_ffff_f000;

/// Takes over registers that a tracer sets.
///
/// # Errors
/// `EIO`: a selector or a base that no program can have.
pub(super) fn set_regs(stop: &mut Stop, wanted: Regs) -> Result<()> {
    let wrong = |selector: u64| selector as u16 != 0 && selector & 3 != 3;
    let selectors = [wanted.cs, wanted.ss, wanted.ds, wanted.es, wanted.fs, wanted.gs];
    let missing = wanted.cs as u16 == 0 || wanted.ss as u16 == 0;
    if missing || selectors.into_iter().any(wrong) || wanted.fs_base >= BASES || wanted.gs_base >= BASES {
        return Err(Errno::EIO);
    }
    stop.regs = Regs { eflags: stop.regs.eflags & !FLAGS | wanted.eflags & FLAGS, ..wanted };
    Ok(())
}

/// A part of the registers, from its first bytes on.
///
/// # Errors
/// As [`set_regs`].
pub(super) fn set_regs_bytes(stop: &mut Stop, at: usize, bytes: &[u8]) -> Result<()> {
    let mut wanted = stop.regs;
    wanted.as_mut_bytes().get_mut(at..at + bytes.len()).ok_or(Errno::EIO)?.copy_from_slice(bytes);
    set_regs(stop, wanted)
}

/// The legacy state; of a processor that has stored none, zeros.
pub(super) fn legacy(stop: &Stop) -> Vec<u8> {
    let mut bytes = stop.extended.clone();
    bytes.resize(LEGACY, 0);
    bytes
}

/// Sets the first bytes of the legacy state.
///
/// # Errors
/// `EINVAL`: a value that the processor can't have.
pub(super) fn set_legacy(stop: &mut Stop, bytes: &[u8]) -> Result<()> {
    let mut state = stop.extended.clone();
    let bytes = &bytes[..bytes.len().min(FEATURES)];
    state.get_mut(..bytes.len()).ok_or(Errno::EIO)?.copy_from_slice(bytes);
    if let Some(features) = state.get_mut(HEADER.start..HEADER.start + 8) {
        let with = u64::read_from_bytes(features).unwrap_or_default() | X87_AND_SSE;
        features.copy_from_slice(&with.to_ne_bytes());
    }
    set_extended(stop, state)
}

/// Sets all of the extended state.
///
/// # Errors
/// `EFAULT`: it isn't all. `EINVAL`: what the processor can't have.
pub(super) fn set_extended(stop: &mut Stop, mut state: Vec<u8>) -> Result<()> {
    if state.len() != stop.extended.len() {
        return Err(Errno::EFAULT);
    }
    if state.len() >= HEADER.end {
        // What the host says of itself isn't the tracer's to change.
        state[FEATURES..LEGACY].copy_from_slice(&stop.extended[FEATURES..LEGACY]);
        let word = |at: usize| state.get(at..at + 8).and_then(|bytes| u64::read_from_bytes(bytes).ok()).unwrap_or_default();
        let unknown = word(HEADER.start) & !word(FEATURES);
        if unknown != 0 || state[HEADER.start + 8..HEADER.end].iter().any(|byte| *byte != 0) {
            return Err(Errno::EINVAL);
        }
    }
    let mxcsr = state.get(MXCSR..MXCSR + 4).and_then(|bytes| u32::read_from_bytes(bytes).ok()).unwrap_or_default();
    if mxcsr & MXCSR_RESERVED != 0 {
        return Err(Errno::EINVAL);
    }
    stop.extended = state;
    stop.extended_changed = true;
    Ok(())
}

/// A word of `struct user`.
///
/// # Errors
/// `EIO`: there is none.
pub(super) fn peek(stop: &Stop, at: u64) -> Result<u64> {
    if !at.is_multiple_of(8) || at >= USER {
        return Err(Errno::EIO);
    }
    let word = stop.regs.as_bytes().get(at as usize..at as usize + 8);
    Ok(word.and_then(|bytes| u64::read_from_bytes(bytes).ok()).unwrap_or_default())
}

/// Sets a word of `struct user`: of the registers. Debug registers are the host's, and switched off is all that they can be.
///
/// # Errors
/// `EIO`: there is none, or its value can't be.
pub(super) fn poke(stop: &mut Stop, at: u64, value: u64) -> Result<()> {
    if !at.is_multiple_of(8) || at >= USER {
        return Err(Errno::EIO);
    }
    if at < size_of::<Regs>() as u64 {
        return set_regs_bytes(stop, at as usize, &value.to_ne_bytes());
    }
    if DEBUG.contains(&at) && value == 0 { Ok(()) } else { Err(Errno::EIO) }
}

/// Reads a tracee's word of memory.
///
/// # Errors
/// `EIO`: there is none.
pub(super) fn peek_memory(mm: &Mm, address: u64) -> Result<u64> {
    mm.get(address).map_err(|_| Errno::EIO)
}

/// Writes one, also where the program itself may not.
///
/// # Errors
/// `EIO`: there is none.
pub(super) fn poke_memory(mm: &Mm, address: u64, value: u64) -> Result<()> {
    let (count, outcome) = mm.force(address, &value.to_ne_bytes());
    if outcome.is_ok() && count == 8 { Ok(()) } else { Err(Errno::EIO) }
}
