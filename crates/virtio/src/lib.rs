//! Virtio devices: what a guest's drivers see of the world. Source of all section numbers: *Virtual I/O Device (VIRTIO) Version 1.2*.
//!
//! ```text
//!  guest's driver ──registers──> Transport ────activate, reset────> Device
//!        │                             │ one eventfd a queue              │
//!        └──descriptors in memory──────┴────────> Ring <──── pop, push ───┘
//!                                                  └── Interrupt ──> the guest
//! ```
//!
//! The machine owns a transport for each device, carries register accesses to it, waits for the descriptors that [`Device::sources`]
//! names, and says which is ready. Nothing here has a thread, waits, or knows of KVM.
//!
//! | module | holds |
//! |---|---|
//! | [`device`] | what each device offers to the transport and to the machine |
//! | [`transport`] | the registers that a driver finds a device by, the status of the driver, and the making of queues |
//! | [`ring`], [`chain`] | a queue in use, and the pieces of memory of one request |
//! | [`interrupt`] | how a device reaches its driver |
//! | [`limiter`] | bytes and operations a second |
//! | [`rng`], [`block`], [`net`], [`vsock`], [`balloon`] | a device each: its configuration, its limits, and its saved state |
//!
//! All that a guest writes is hostile. Descriptors are copied out of its memory once and checked then: each piece lies in memory, what is
//! readable comes before what is writable, and a chain that ends nowhere is given back unused. A guest that breaks the queue
//! itself gets DEVICE_NEEDS_RESET. No event takes longer than what a queue can hold at once.

pub mod balloon;
pub mod block;
pub mod chain;
pub mod device;
mod error;
#[cfg(any(test, feature = "testing"))]
pub mod fuzz;
pub mod interrupt;
pub mod limiter;
pub mod net;
pub mod ring;
pub mod rng;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod transport;
pub mod vsock;

pub use chain::{Buffers, Chain};
pub use device::{Activation, Change, Device, Source, Token};
pub use error::{Error, Result};
pub use interrupt::Interrupt;
pub use ring::Ring;
