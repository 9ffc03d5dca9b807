//! The kernel of one sandbox.

use crate::futex::Futexes;
use crate::host::Host;
use crate::mm::frames::Frames;
use crate::task::pids::Pids;
use crate::time::Timers;
use alloc::sync::Arc;

/// The kernel of one sandbox: everything that its programs share. There are no globals beside it.
pub struct Kernel {
    /// What it stands on.
    pub host: Host,
    /// The pages of all programs.
    pub frames: Arc<Frames>,
    /// Alarms that are set.
    pub timers: Timers,
    /// Tasks that wait at words of memory.
    pub futexes: Futexes,
    /// Tasks, by number.
    pub pids: Pids,
    /// Calls that were made and aren't supported, counted by number.
    pub refused: crate::syscall::Refusals,
}

impl Kernel {
    /// A kernel with no task in it.
    pub fn new(host: Host) -> Arc<Self> {
        Arc::new(Kernel {
            frames: Frames::new(host.memory.clone()),
            timers: Timers::new(host.clock.clone()),
            futexes: Futexes::default(),
            pids: Pids::default(),
            refused: Default::default(),
            host,
        })
    }
}
