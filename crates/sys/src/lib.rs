//! The host's interfaces: what the kernel offers, each call once, with an error that says what was tried on what.
//!
//! Nothing here knows of containers or plans. All of the project's `unsafe` outside virtual machines and the lowest layer of the
//! sentry lives in this crate; each block says why it is sound. Where `rustix` has a call, that is used.
//!
//! | module | holds |
//! |---|---|
//! | [`child`] | programs of the host that end with us |
//! | [`process`] | fork into namespaces, pidfds, waiting, identities |
//! | [`mount`] | the descriptor-based mount interface, and paths that can't leave a root |
//! | [`bpf`] | device programs for cgroup v2 |
//! | [`capability`], [`seccomp`] | what this process may do |
//! | [`signals`], [`tty`] | signals as descriptors, terminals |
//! | [`net`], [`tap`] | the loopback device, virtual network cards |
//! | [`guest`], [`uring`] | reading and writing files straight from and to the memory of a guest |
//! | [`epoll`] | waiting for many descriptors |
//! | [`exe`] | our own program file, out of a container's reach |
//! | [`defence`] | defences by name, for tests that one is missed |
//! | [`host`] | facts about the host, for `insula doctor` |

#![allow(unsafe_code)]

pub mod bpf;
pub mod capability;
pub mod child;
pub mod defence;
pub mod epoll;
pub mod error;
pub mod exe;
pub mod guest;
pub mod host;
pub mod mount;
pub mod net;
pub mod process;
pub mod seccomp;
pub mod signals;
pub mod tap;
pub mod tty;
pub mod uring;

pub use error::{Context, Error, Result};
pub use rustix::io::Errno;
