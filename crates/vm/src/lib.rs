//! A virtual machine of KVM's: what every machine needs before it has a device.
//!
//! All of the project's `unsafe` that has to do with KVM or with guest memory lives in this crate; each block says why it is sound.
//! What a guest can write (memory, registers, ports) is hostile: nothing here trusts it.
//!
//! | module | holds |
//! |---|---|
//! | [`kernel`] | kernel images: what a file is, unpacked, and where its parts go |
//! | [`memory`] | the guest's physical memory, and where what lies in it |

#![allow(unsafe_code)]

mod error;
pub mod kernel;
pub mod memory;

pub use error::{Error, Result};
