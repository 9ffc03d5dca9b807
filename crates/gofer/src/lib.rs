//! The gofer: a confined process that owns the host's files, and hands out descriptors to a sentry, which has no way to open any itself.
//!
//! ```text
//! launcher ── spawn(exports) ──> gofer: an empty root, detached mounts, capabilities for files only, a filter
//!    │                             ▲ walk, open, create, …   one name at a time, below an open directory
//!    └── Client ──> sentry ────────┘ a handle, attributes, a descriptor: data then moves without the gofer
//! ```
//!
//! Neither side trusts the other. The sentry may be in the hands of its guest: so whatever it sends is checked before it is used, and the
//! gofer is confined so that even whoever has taken *it* over finds nothing on the host but the exports. Trips are what costs, so one trip
//! does much: a walk of a whole path, with a check of what is known already, and the opening of what it leads to.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | what is served, and with how much power |
//! | [`protocol`], [`wire`] | requests and answers, and how they lie in a message |
//! | [`server`] | the gofer's side: confinement, handles, every request |
//! | [`client`] | the sentry's side: calls that wait for their answer |
//! | [`spawn`](mod@spawn) | making the process |
//! | [`net`] | another such process, which makes sockets in the host's network |

pub mod client;
pub mod config;
mod error;
mod lines;
pub mod net;
pub mod protocol;
mod server;
mod socket;
mod spawn;
pub mod wire;

pub use client::{Attached, Change, Client, Handle, Walked};
pub use config::{Confinement, Export};
pub use error::Error;
pub use protocol::{Attr, Device, FileSystem, Name, NewOwner, OpenFlags, Owner, Time, Times};
pub use rustix::io::Errno;
pub use server::calls::CALLS;
pub use spawn::{Starting, spawn};

/// Loads the gofer's filter into this process, to see what it forbids.
#[doc(hidden)]
pub fn confine_for_test() {
    let program = server::calls::filter().expect("the list is short");
    insula_sys::seccomp::tell_of_violations(|_| None).expect("a handler");
    insula_sys::seccomp::confine_all(&program, "test").expect("a filter");
}
