//! The tree of files, and open files.
//!
//! | module | holds |
//! |---|---|
//! | [`inode`] | what a file system offers of each file |
//! | [`file`](mod@file) | what can be done with an open file; open file descriptions |
//! | [`descriptors`] | a process's numbers for them |
//! | [`pipe`] | pipes and FIFOs |
//! | [`eventfd`], [`epoll`] | files to wait at |
//! | [`tree`] | names, mounts, and the way from a path to a file |

pub mod descriptors;
pub mod epoll;
pub mod eventfd;
pub mod file;
pub mod inode;
pub mod pipe;
pub mod tree;

pub use descriptors::Descriptors;
pub use file::{AlwaysReady, Description, EachEntry, File, Io, Mapping};
pub use inode::{Attributes, Changes, FileType, Inode, NewFile, Opening};
pub use tree::{Context, Path};
