//! One file a verb.

pub(crate) mod bench;
pub(crate) mod doctor;
