//! The kernel core in a confined host process.
//!
//! - [`platform`]: how guest code runs, and how its system calls and faults come to us. All `unsafe` of this crate is in its lowest modules.

pub mod platform;
