//! A virtual machine from a configuration.
//!
//! [`Machine::new`] is a recipe that reads from top to bottom: memory, the machine, devices, kernel, tables, processors. [`Machine::run`]
//! starts a thread for each processor and stays in the event loop until the guest is off.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | what can be asked for, checked before anything is made |
//! | [`ports`] | the devices of a PC that are left: a serial port, reset and power |
//! | [`bus`] | which device answers an access |
//! | [`devices`] | the virtio devices, each behind its registers |
//! | [`processors`] | a thread for each virtual processor |

mod bus;
pub mod config;
mod devices;
mod error;
mod machine;
mod ports;
mod processors;

pub use config::Config;
pub use error::{Error, Result};
pub use machine::{Machine, Outcome, Report};
