//! What the processes of a test tell the runner: memory that all of them share.
//!
//! The runner makes one [`Slot`] for each test before it forks. A slot holds atomics only, so that any process, thread or signal
//! handler may write at any moment.

#![allow(unsafe_code)]

use crate::sys;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Numbers of system calls that are recorded; the highest that Linux 6.18 has is 469.
const NUMBERS: usize = 512;

const RUNNING: u32 = 0;
const PASSED: u32 = 1;
const FAILED: u32 = 2;
const SKIPPED: u32 = 3;

/// How a test ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It never said: it was killed, or left by another door.
    Unknown,
    Passed,
    Failed(String),
    Skipped(String),
}

/// What is known of one test.
pub(crate) struct Slot {
    state: AtomicU32,
    assertions: AtomicU32,
    calls: [AtomicU64; NUMBERS / 64],
    length: AtomicU32,
    text: [AtomicU8; 1024],
}

// SAFETY: atomics only, and all zeros is a test that has not begun.
unsafe impl sys::memory::Shared for Slot {}
// SAFETY: as above.
unsafe impl sys::memory::Shared for AtomicUsize {}

static SLOTS: OnceLock<&'static [Slot]> = OnceLock::new();
static CURRENT: AtomicUsize = AtomicUsize::new(0);

impl Slot {
    pub(crate) fn outcome(&self) -> Outcome {
        match self.state.load(Relaxed) {
            PASSED => Outcome::Passed,
            FAILED => Outcome::Failed(self.text()),
            SKIPPED => Outcome::Skipped(self.text()),
            _ => Outcome::Unknown,
        }
    }

    pub(crate) fn assertions(&self) -> u32 {
        self.assertions.load(Relaxed)
    }

    /// The numbers of the system calls it made.
    pub(crate) fn calls(&self) -> impl Iterator<Item = usize> {
        (0..NUMBERS).filter(|number| self.calls[number / 64].load(Relaxed) & (1 << (number % 64)) != 0)
    }

    pub(crate) fn pass(&self) {
        let _ = self.state.compare_exchange(RUNNING, PASSED, Relaxed, Relaxed);
    }

    /// The first failure stands: those that follow are its consequences.
    pub(crate) fn fail(&self, text: &str) {
        if self.state.compare_exchange(RUNNING, FAILED, Relaxed, Relaxed).is_ok() {
            self.write(text);
        }
    }

    fn skip(&self, reason: &str) {
        if self.state.compare_exchange(RUNNING, SKIPPED, Relaxed, Relaxed).is_ok() {
            self.write(reason);
        }
    }

    fn write(&self, text: &str) {
        let bytes = text.as_bytes().iter().take(self.text.len());
        self.length.store(bytes.len() as u32, Relaxed);
        for (to, from) in self.text.iter().zip(bytes) {
            to.store(*from, Relaxed);
        }
    }

    fn text(&self) -> String {
        let bytes: Vec<u8> = self.text.iter().take(self.length.load(Relaxed) as usize).map(|byte| byte.load(Relaxed)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Makes the slots: before the first fork, so that all processes share them.
pub(crate) fn make(tests: usize) -> &'static [Slot] {
    SLOTS.get_or_init(|| sys::memory::share(tests))
}

/// From here on, this process and its children are the test of that slot.
pub(crate) fn enter(slot: usize) {
    CURRENT.store(slot, Relaxed);
}

/// The slot of the test we are in; none in a program that a test started by execve.
pub(crate) fn current() -> Option<&'static Slot> {
    SLOTS.get()?.get(CURRENT.load(Relaxed))
}

pub(crate) fn record_call(number: usize) {
    if let Some(word) = current().and_then(|slot| slot.calls.get(number / 64)) {
        word.fetch_or(1 << (number % 64), Relaxed);
    }
}

pub(crate) fn record_assertion() {
    if let Some(slot) = current() {
        slot.assertions.fetch_add(1, Relaxed);
    }
}

pub(crate) fn record_failure(text: &str) {
    match current() {
        Some(slot) => slot.fail(text),
        None => eprintln!("insula-syscalls: {text}"),
    }
}

pub(crate) fn record_skip(reason: &str) {
    if let Some(slot) = current() {
        slot.skip(reason);
    }
}
