//! The sentry: an operating system's kernel of our own, in a confined process of the host's.
//!
//! It stands in a container: the container's machinery gives it namespaces, limits, a root with all mounts, a record and a terminal; then,
//! where a container's program would begin, [`runner`] starts the *gofer*, a process that keeps the container's files and hands out
//! descriptors, leaves the root, gives up all privileges, and runs the program in *stubs*: traced processes whose system calls the host
//! never sees.
//!
//! ```text
//! program ──trap──> stub (host process) ──stop──> driver ──> kernel core ──┬─> its own memory, pipes, sockets
//!                                                                          └─> host: descriptors from the gofer
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`runner`] | the boundary: from a container's first process to a running program |
//! | [`driver`] | a thread for each task: enter the program, answer what it wants |
//! | [`platform`] | how programs run on the host; all `unsafe` is in its lowest modules |
//! | [`host`] | what the kernel core needs of the host |
//! | [`hostfs`] | the host's files in the kernel's tree, by way of the gofer |
//! | [`hostnet`] | the host's sockets in the kernel, by way of the net process |
//! | [`confine`] | what the sentry gives up, and the calls it keeps |

pub mod confine;
pub mod driver;
pub mod host;
pub mod hostfs;
pub mod hostnet;
pub mod platform;
pub mod runner;
