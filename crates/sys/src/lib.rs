//! The host.
#![allow(unsafe_code)]

pub mod host;
