//! The capability sets of this process, as bit masks. Source: capabilities(7), prctl(2).

use crate::error::{Context, Result};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// Takes every capability out of the bounding set that is not in `keep`.
///
/// # Errors
/// CAP_SETPCAP is missing.
pub fn limit_bounding(keep: u64) -> Result<()> {
    for number in 0..last()? {
        let bit = 1 << number;
        let one = CapabilitySet::from_bits_retain(bit);
        if keep & bit == 0 && rustix::thread::capability_is_in_bounding_set(one) == Ok(true) {
            rustix::thread::remove_capability_from_bounding_set(one).on("drop the capability number", number)?;
        }
    }
    Ok(())
}

/// How many capabilities the running kernel knows: names of ours beyond that are not in any set.
fn last() -> Result<u32> {
    let known = |number: u32| rustix::thread::capability_is_in_bounding_set(CapabilitySet::from_bits_retain(1 << number)).is_ok();
    // Numbers are given without gaps, so the first unknown one is the count.
    Ok((0..64).find(|number| !known(*number)).unwrap_or(64))
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
