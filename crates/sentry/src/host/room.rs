//! How much memory a sandbox may take, and how much of that is left.
//!
//! Two things grow by what programs do: their memory, which is one file, and the layer of memory in which the host keeps what they write over
//! its files. Both count against the container's group. What reaches its limit there is killed, and with the sentry goes the whole
//! sandbox; so the sentry stops short of it, and programs are told, as on a machine that is full.

use crate::platform::Memory;
use insula_kernel::{Errno, Result};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// What the sentry and its stubs take themselves: so much, and a part of the limit, for what grows with it (page tables, the kernel's objects).
const OWN: u64 = 8 << 20;
const OWN_PART: u64 = 16;

/// A part of the limit that is written to the layer before somebody looks again.
const STEP_PART: u64 = 256;

/// Asks how many bytes the layer takes.
type Ask = Box<dyn Fn() -> Result<u64> + Send + Sync>;

/// What a sandbox may take.
pub struct Room {
    limit: AtomicU64,
    /// What the host has.
    machine: u64,
    memory: Arc<Memory>,
    layer: OnceLock<Ask>,
    /// Bytes in the layer, at most: what was written since it was asked is counted as new.
    written: AtomicU64,
}

impl Room {
    /// For a group that may have so many bytes, or as many as the host has.
    pub fn new(group: Option<u64>, memory: &Arc<Memory>) -> Arc<Room> {
        // The sentry may not ask later.
        let info = rustix::system::sysinfo();
        let machine = info.totalram.saturating_mul(u64::from(info.mem_unit));
        let limit = AtomicU64::new(limit_of(group, machine, memory));
        Arc::new(Room { limit, machine, memory: memory.clone(), layer: OnceLock::new(), written: AtomicU64::new(0) })
    }

    /// The group may have so many bytes from now on. What is taken beyond stays taken.
    pub fn set_limit(&self, group: Option<u64>) {
        self.limit.store(limit_of(group, self.machine, &self.memory), Ordering::Relaxed);
    }

    /// Bytes, the layer's among them.
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// There is a layer of memory, and this tells its size.
    pub fn set_layer(&self, ask: Ask) {
        let _ = self.layer.set(ask);
    }

    /// Bytes that aren't taken.
    pub fn left(&self) -> u64 {
        let known = self.left_of(self.written.load(Ordering::Relaxed));
        // What was written over, or removed, isn't known without asking.
        match self.layer.get() {
            Some(ask) if known < self.limit() / 8 => match ask() {
                Ok(used) => {
                    self.written.store(used, Ordering::Relaxed);
                    self.left_of(used)
                }
                Err(_) => known,
            },
            _ => known,
        }
    }

    fn left_of(&self, layer: u64) -> u64 {
        self.limit().saturating_sub(self.memory.taken()).saturating_sub(layer)
    }

    /// So many bytes are about to be written to the layer.
    ///
    /// # Errors
    /// `ENOSPC`: there is no room for them.
    pub fn write(&self, bytes: u64) -> Result<()> {
        let step = (self.limit() / STEP_PART).max(1);
        let before = self.written.fetch_add(bytes, Ordering::Relaxed);
        if before / step == before.saturating_add(bytes) / step || self.left() > 0 {
            return Ok(());
        }
        // Whoever asked meanwhile has counted anew; too little is put right by the next who asks.
        let _ = self.written.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |written| Some(written.saturating_sub(bytes)));
        Err(Errno::ENOSPC)
    }
}

/// What of a group's bytes programs may have.
fn limit_of(group: Option<u64>, machine: u64, memory: &Memory) -> u64 {
    let limit = match group.filter(|group| *group < machine) {
        Some(group) => group.saturating_sub(OWN + group / OWN_PART),
        None => machine,
    };
    limit.min(memory.size()) / crate::platform::PAGE * crate::platform::PAGE
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room").field("limit", &self.limit()).finish_non_exhaustive()
    }
}
