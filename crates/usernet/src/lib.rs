//! A network without privilege. A guest, which may be a virtual machine or another network namespace, sends and receives Ethernet frames;
//! the host sees ordinary sockets of an ordinary process.
//!
//! ```text
//!          frames                                              sockets of the host's
//!  guest ──send────> Network ──┬── neighbours, dhcp: answered here
//!                              ├── tcp::Connections ────────── one each
//!        <──receive──          ├── datagrams::Datagrams ────── one each: UDP, echoes, names
//!                              └── published::Published ────── those that listen
//!                    poll <─────── one descriptor says that one of them is ready
//! ```
//!
//! Whoever has the guest's frames calls [`Network::send`] with each, [`Network::poll`] when the network's descriptor is readable, and after
//! either [`Network::receive`] until there is none, or no room for one. A frame is only made when there is room, so nothing waits in
//! between: what the guest doesn't take stays in the host's sockets. There is no thread, and no call waits.
//!
//! | module | holds |
//! |---|---|
//! | `network` | the dispatch of frames, events and times |
//! | `wire` | what stands in frames |
//! | `link`, `neighbours`, `dhcp`, `icmp` | the cable, and what a gateway says there |
//! | `reach`, `resolvers` | which host an address of the guest's choice stands for |
//! | `flow`, `tcp`, `datagrams`, `published` | who speaks with whom |
//! | `hub`, `ring`, `timers`, `payload` | what these share: buffers, alarms, memory of frames |
//! | [`tap`] | a loop for who has a tap |
//!
//! All that a guest sends is hostile, and all that comes from outside, too. Connections, flows, buffers and small frames each have a bound;
//! what is beyond is dropped or refused, and what fits nowhere (fragments, other protocols) is dropped. `docs/decisions/0070` has the reasons.

mod config;
mod datagrams;
mod dhcp;
mod error;
mod flow;
mod hub;
mod icmp;
mod link;
mod neighbours;
mod network;
mod payload;
mod published;
mod reach;
mod resolvers;
mod ring;
pub mod tap;
mod tcp;
mod timers;
mod wire;

pub use config::{Config, LARGEST_MTU, Publish, SMALLEST_MTU, Subnet, Transport};
pub use error::{Error, Result};
pub use network::{Frame, Network};
pub use resolvers::Resolvers;
