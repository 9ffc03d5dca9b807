//! The net process: it stands in the host's network and makes sockets for a sentry, which has no way to make, name or connect one.
//!
//! ```text
//! launcher ── spawn() ──> net process: the host's network and nothing else of the host; a filter
//!    │                        ▲ make, bind, connect, an option, …
//!    └── Net ──> sentry ──────┘ a descriptor: data then moves by the sentry's own recvmsg and sendmsg
//! ```
//!
//! As with the files: neither side trusts the other. What the sentry may have is listed: sockets of TCP, UDP and echoes over IPv4 and IPv6, and
//! those of their options that act on the socket alone ([`OPTIONS`]).
//!
//! | module | holds |
//! |---|---|
//! | [`protocol`] | requests and answers |
//! | [`server`] | the process's side |
//! | [`calls`] | the system calls that are left to it, and options |
//! | [`client`] | the sentry's side |

mod calls;
mod client;
pub mod protocol;
mod server;

pub use calls::{CALLS, OPTIONS};
pub use client::Net;
pub use protocol::Kind;
pub use server::spawn;
