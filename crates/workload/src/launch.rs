//! The conversation with `workload launch`: one [`Request`] a line on its standard input, one [`Answer`] a line on its output.
//!
//! Why programs are started by this small process and not by the benchmark itself: a child's `ru_maxrss` begins at what its parent's
//! memory was when it was forked (getrusage(2); the high-water mark survives `execve`), so that a big parent hides a small runtime;
//! and a process that stands in another mount namespace can time what happens there without the cost of entering it.

use serde::{Deserialize, Serialize};

/// A program to start, to wait for, and to measure.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The file its standard output goes to (emptied first).
    pub stdout: String,
    /// The file its standard error goes to (emptied first).
    pub stderr: String,
    /// Whether to weigh it: wait until it has printed something, add up what it and all below it have resident, and only then end
    /// its standard input (which otherwise is empty from the start).
    #[serde(default)]
    pub weigh: bool,
}

/// What came of a [`Request`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// The program ran and ended.
    Ended(Usage),
    /// It could not be started; why.
    Error(String),
}

/// What a program that ended has used, with all the children it waited for (wait4(2)).
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Usage {
    /// From before the start to after the end, in nanoseconds of the monotonic clock.
    pub wall_ns: u64,
    /// User and system time, in nanoseconds.
    pub cpu_ns: u64,
    /// The greatest resident set of any one process of the tree, in bytes.
    pub rss: u64,
    /// The exit code, or 128 and the signal's number.
    pub code: i32,
    /// If it was weighed: the proportional set size of all its processes, in bytes (`Pss` of smaps_rollup, proc_pid_smaps(5)): a page
    /// that several of them share counts once.
    #[serde(default)]
    pub idle: Option<u64>,
}
