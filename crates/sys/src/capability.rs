//! The capability sets of this process, as bit masks. Source: capabilities(7), prctl(2).

use crate::error::{Context, Result};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

/// Takes every capability out of the bounding set that is not in `keep`.
///
/// # Errors
/// CAP_SETPCAP is missing.
pub fn limit_bounding(keep: u64) -> Result<()> {
    for number in (0..64).filter(|number| keep & (1 << number) == 0) {
        let one = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::remove_capability_from_bounding_set(one) {
            // Numbers are given without gaps: the running kernel knows no more.
            Err(Errno::INVAL) => break,
            // Without the right to, what is gone already is no fault.
            Err(Errno::PERM) if rustix::thread::capability_is_in_bounding_set(one) == Ok(false) => {}
            result => result.on("drop the capability number", number)?,
        }
    }
    Ok(())
}

/// Sets the effective, permitted and inheritable sets; what the kernel or this process doesn't have is left out.
///
/// # Errors
/// The kernel refuses the combination.
pub fn set(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    let sets = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(effective),
        permitted: CapabilitySet::from_bits_retain(permitted),
        inheritable: CapabilitySet::from_bits_retain(inheritable),
    };
    rustix::thread::set_capabilities(None, sets).on("set", "capabilities")
}

/// The effective, permitted and inheritable sets of this process.
///
/// # Errors
/// None that a Linux since 2.6.25 gives.
pub fn get() -> Result<(u64, u64, u64)> {
    let sets = rustix::thread::capabilities(None).on("read", "capabilities")?;
    Ok((sets.effective.bits(), sets.permitted.bits(), sets.inheritable.bits()))
}

/// The ambient set.
///
/// # Errors
/// None that a Linux since 4.3 gives.
pub fn ambient() -> Result<u64> {
    let mut set = 0;
    for number in 0..64 {
        match rustix::thread::capability_is_in_ambient_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(has) => set |= u64::from(has) << number,
            // No such capability, nor one above it.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno).on("read", "ambient capabilities"),
        }
    }
    Ok(set)
}

/// Makes the ambient set exactly this.
///
/// # Errors
/// One is not both permitted and inheritable.
pub fn set_ambient(keep: u64) -> Result<()> {
    rustix::thread::clear_ambient_capability_set().on("clear", "ambient capabilities")?;
    for number in (0..64).filter(|n| keep & (1 << n) != 0) {
        let one = CapabilitySet::from_bits_retain(1 << number);
        rustix::thread::configure_capability_in_ambient_set(one, true).on("keep the ambient capability number", number)?;
    }
    Ok(())
}
