//! The host.
#![allow(unsafe_code)]
