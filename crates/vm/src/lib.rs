//! A virtual machine of KVM's: what every machine needs before it has a device.
//!
//! All of the project's `unsafe` that has to do with KVM or with guest memory lives in this crate; each block says why it is sound.
//! What a guest can write (memory, registers, ports) is hostile: nothing here trusts it.
//!
//! | module | holds |
//! |---|---|
//! | [`memory`] | the guest's physical memory, and where what lies in it |
//! | [`kernel`] | kernel images: what a file is, unpacked, and where its parts go |
//! | [`boot`] | puts a kernel, its initial file system and its parameters into memory, as a boot loader does |
//! | [`fill`] | reads files into memory, before the guest starts and while it runs |
//! | [`acpi`] | the tables by which the kernel finds processors and devices |
//! | [`event`] | signals between devices, KVM and threads |
//! | [`window`] | registers that the guest reads without coming back to us |
//! | [`kvm`], [`vcpu`] | the machine and its processors as KVM has them |
//!
//! A machine is put together from the top of this table to its end, then each processor is run by a thread.

#![allow(unsafe_code)]

pub mod acpi;
pub mod boot;
mod error;
pub mod event;
pub mod fill;
pub mod kernel;
pub mod kvm;
pub mod memory;
pub mod vcpu;
pub mod window;

pub use error::{Error, Result};
