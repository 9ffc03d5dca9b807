//! What is said of memory.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct iovec`: one piece of user memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Iovec {
    /// Its address.
    pub base: u64,
    /// Bytes.
    pub len: u64,
}
