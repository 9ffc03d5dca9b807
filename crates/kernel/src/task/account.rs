//! What tasks read and write by calls, as `/proc/PID/io` tells it: proc_pid_io(5).

use super::{Process, Task};
use crate::{Flow, SysResult};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

/// Which way bytes went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the program.
    Read,
    /// From it.
    Write,
    /// From one file of it to another.
    Both,
}

/// Bytes and calls.
#[derive(Debug, Default)]
pub struct Account {
    read: AtomicU64,
    written: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
}

impl Account {
    fn count(&self, way: Way, bytes: u64) {
        if way != Way::Write {
            self.read.fetch_add(bytes, Ordering::Relaxed);
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
        if way != Way::Read {
            self.written.fetch_add(bytes, Ordering::Relaxed);
            self.writes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Adds another's.
    pub fn add(&self, other: &Account) {
        let pairs = [
            (&self.read, &other.read),
            (&self.written, &other.written),
            (&self.reads, &other.reads),
            (&self.writes, &other.writes),
        ];
        for (own, other) in pairs {
            own.fetch_add(other.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// As `/proc` has it. Which of the bytes reached a disk, only the host knows.
    pub fn text(&self) -> Vec<u8> {
        let [read, written, reads, writes] =
            [&self.read, &self.written, &self.reads, &self.writes].map(|counter| counter.load(Ordering::Relaxed));
        format!(
            "rchar: {read}\nwchar: {written}\nsyscr: {reads}\nsyscw: {writes}\nread_bytes: 0\nwrite_bytes: 0\n\
             cancelled_write_bytes: 0\n"
        )
        .into_bytes()
    }
}

/// Counts what a call has moved once it is over; one that failed has moved nothing, but was made.
pub fn counted(task: &Arc<Task>, way: Way, outcome: SysResult) -> SysResult {
    match outcome {
        Ok(Flow::Block(future)) => {
            let task = task.clone();
            Ok(Flow::block(async move {
                let result = future.await;
                task.account.count(way, result.unwrap_or(0));
                result
            }))
        }
        Ok(Flow::Done(bytes)) => {
            task.account.count(way, bytes);
            Ok(Flow::Done(bytes))
        }
        outcome => {
            task.account.count(way, 0);
            outcome
        }
    }
}

impl Process {
    /// What all its tasks have read and written, those that have ended too, and the children that it has waited for.
    pub fn account_of_all(&self) -> Account {
        let all = Account::default();
        let state = self.lock();
        all.add(&self.account);
        state.threads.values().for_each(|task| all.add(&task.account));
        all
    }
}
