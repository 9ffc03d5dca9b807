//! The tree of files, and open files.
//!
//! | module | holds |
//! |---|---|
//! | [`inode`] | what a file system offers of each file |
//! | [`file`](mod@file) | what can be done with an open file; open file descriptions |
//! | [`descriptors`] | a process's numbers for them |
//! | [`pipe`] | pipes and FIFOs |
//! | [`eventfd`], [`timerfd`], [`signalfd`], [`epoll`] | files to wait at |
//! | [`tree`] | names, mounts, and the way from a path to a file |
//! | [`open`](mod@open) | from a path to an open file |
//! | [`locks`] | flock(2), POSIX and OFD locks |
//! | [`notify`], [`inotify`], [`dnotify`] | what happens to files; files and directories that tell of it |
//! | [`types`] | file systems that can be mounted, and devices that can be opened |
//! | [`dev`] | devices |
//! | [`pseudo`], [`proc`], [`sysfs`] | what the kernel knows, as files |
//! | [`tmpfs`] | a file system in memory |
//! | [`overlay`] | one file system laid over others |

pub mod descriptors;
pub mod dev;
pub(crate) mod dnotify;
pub mod epoll;
pub mod eventfd;
pub mod file;
pub mod inode;
pub mod inotify;
pub mod locks;
pub mod notify;
pub mod open;
pub mod overlay;
pub mod pipe;
pub mod proc;
pub mod pseudo;
pub mod sigio;
pub mod signalfd;
pub mod sysfs;
pub mod timerfd;
pub mod tmpfs;
pub mod tree;
pub mod types;

#[cfg(test)]
mod tests;

pub use descriptors::Descriptors;
pub use file::{AlwaysReady, Description, EachEntry, File, Io, Mapping, limit_size, room};
pub use inode::{Attributes, Changes, FileType, Inode, NewFile, Opening};
pub use tree::{Context, Path};
