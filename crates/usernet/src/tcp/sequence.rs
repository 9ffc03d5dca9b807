//! Sequence numbers, which go round in a circle (RFC 9293 section 3.4).

/// How far it is from one to the other, going up.
pub(super) fn distance(from: u32, to: u32) -> u32 {
    to.wrapping_sub(from)
}

/// Whether one comes after the other.
pub(super) fn after(one: u32, other: u32) -> bool {
    (one.wrapping_sub(other) as i32) > 0
}
