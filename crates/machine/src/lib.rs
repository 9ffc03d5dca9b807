//! A virtual machine from a configuration.
//!
//! [`Machine::new`] is a recipe that reads from top to bottom: memory, the machine, devices, kernel, tables, processors. [`Machine::run`]
//! starts a thread for each processor, lets each of its threads give up what it doesn't need, and stays in the event loop until the guest is
//! off.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | what can be asked for, checked before anything is made |
//! | [`ports`] | the devices of a PC that are left: a serial port, reset and power |
//! | [`bus`] | which device answers an access |
//! | [`devices`] | the virtio devices, each behind its registers |
//! | [`confinement`] | what each thread may ask of the host's kernel |
//! | [`processors`] | a thread for each virtual processor |

mod bus;
pub mod config;
pub mod confinement;
mod devices;
mod error;
mod machine;
mod ports;
mod processors;

pub use config::Config;
pub use error::{Error, Result};
pub use machine::{Machine, Outcome, Report};
