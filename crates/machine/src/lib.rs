//! A virtual machine from a configuration.
//!
//! [`Machine::new`] is a recipe that reads from top to bottom: memory, the machine, devices, kernel, tables, processors. [`Machine::run`]
//! starts a thread for each processor, lets each of its threads give up what it doesn't need, and stays in the event loop until the guest is
//! off, or somebody ends it.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | what can be asked for, checked before anything is made |
//! | [`ports`] | the devices of a PC that are left: a serial port, reset and power |
//! | [`bus`] | which device answers an access |
//! | [`places`], [`devices`] | where the guest finds virtio devices; what is done for them |
//! | [`confinement`] | what each thread may ask of the host's kernel |
//! | [`loader`] | a thread that brings the rest of the kernel |
//! | [`processors`] | a thread for each virtual processor |
//! | [`attend`] | the event loop |
//! | [`marks`] | when a start got how far |
//! | [`running`] | a guest that runs, as the event loop sees it |
//! | [`qemu`] | the same on an emulated processor |
//! | [`console`] | where what the guest prints goes |
//! | [`control`] | what others may ask of a machine that runs, by a socket |
//! | [`stats`] | what it tells of itself |
//! | [`threads`] | how its threads are started |

mod attend;
mod bus;
pub mod config;
pub mod confinement;
pub mod console;
pub mod control;
mod devices;
mod error;
mod loader;
mod machine;
pub mod marks;
mod places;
mod ports;
mod processors;
pub mod qemu;
mod running;
pub mod stats;
mod threads;

pub use attend::{ESCAPE, Input, Outcome, Surroundings};
pub use config::Config;
pub use console::Console;
pub use error::{Error, Result};
pub use machine::{Machine, Report};
