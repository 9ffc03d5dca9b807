//! The tests, a file for each family. Every file opens with its list of tests, [`tests!`], in which each test is named.

mod advice;
mod attributes;
mod borders;
mod confinement;
mod descriptors;
mod diag;
mod dispatch;
mod epoll;
mod exec;
mod exhaustion;
mod files;
mod firsts;
mod futex;
mod handlers;
mod interrupts;
mod ipc;
mod jobs;
mod limits;
mod memory;
mod mounting;
mod mounts;
mod names;
mod namespaces;
mod netlink;
mod notify;
mod numbers;
mod often;
mod options;
mod owners;
mod passing;
mod pipes;
mod poll;
mod ports;
mod proc;
mod process;
mod propagation;
mod raw;
mod remap;
mod signal;
mod system;
mod tasks;
mod tcp;
mod time;
mod trace;
mod tracee;
mod tty;
mod udp;
mod unix;
mod users;
mod watch;

/// One test.
#[derive(Clone, Copy)]
pub(crate) struct Test {
    family: &'static str,
    name: &'static str,
    pub(crate) run: fn(),
}

impl Test {
    pub(crate) fn full_name(&self) -> String {
        format!("{}.{}", self.family, self.name)
    }
}

/// Every test, those of what programs need most first.
pub(crate) fn all() -> impl Iterator<Item = Test> {
    let families: &[&[Test]] = &[
        memory::TESTS,
        advice::TESTS,
        process::TESTS,
        propagation::TESTS,
        remap::TESTS,
        tasks::TESTS,
        signal::TESTS,
        handlers::TESTS,
        interrupts::TESTS,
        often::TESTS,
        exec::TESTS,
        trace::TESTS,
        tracee::TESTS,
        files::TESTS,
        names::TESTS,
        attributes::TESTS,
        descriptors::TESTS,
        pipes::TESTS,
        poll::TESTS,
        ports::TESTS,
        epoll::TESTS,
        futex::TESTS,
        time::TESTS,
        unix::TESTS,
        passing::TESTS,
        tcp::TESTS,
        udp::TESTS,
        raw::TESTS,
        options::TESTS,
        netlink::TESTS,
        diag::TESTS,
        tty::TESTS,
        jobs::TESTS,
        users::TESTS,
        limits::TESTS,
        exhaustion::TESTS,
        proc::TESTS,
        watch::TESTS,
        ipc::TESTS,
        mounting::TESTS,
        mounts::TESTS,
        namespaces::TESTS,
        owners::TESTS,
        borders::TESTS,
        numbers::TESTS,
        firsts::TESTS,
        system::TESTS,
        confinement::TESTS,
        notify::TESTS,
        dispatch::TESTS,
    ];
    families.iter().flat_map(|tests| tests.iter().copied())
}

/// The list of a family's tests: its name, and the functions.
macro_rules! tests {
    ($family:literal: $($test:ident),* $(,)?) => {
        pub(super) const TESTS: &[$crate::families::Test] =
            &[$($crate::families::Test { family: $family, name: stringify!($test), run: $test }),*];
    };
}
use tests;

/// What every family uses.
mod prelude {
    pub(super) use super::tests;
    pub(super) use crate::check::{eq, fails, gives, is, skip, works};
    pub(super) use crate::sys::files::{contents, drain, file, piece, piece_at, piece_of, pipe, strings};
    pub(super) use crate::sys::memory::{
        BAD, Fault, PAGE, bytes_at, edge, pages, peek, poke, put, read_at, shared_word, word_at, write_at,
    };
    pub(super) use crate::sys::plain::{from_bytes, to_bytes};
    pub(super) use crate::sys::process::{self, Status, child, in_child, join, need_root, until, until_asleep, until_is, wait};
    pub(super) use crate::sys::{memory, signal, sys, zeroed};
    pub(super) use libc::*;
    pub(super) use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
    pub(super) use syscalls::Errno;
}
