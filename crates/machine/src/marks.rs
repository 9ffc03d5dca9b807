//! When a start got how far, as every start records it.

use serde::{Deserialize, Serialize};
use std::sync::OnceLock;
use std::time::Instant;

/// How long after its program began a machine got so far, in microseconds; none if it didn't yet, or nobody can see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// Its first processor entered the guest.
    pub entered_us: Option<u64>,
    /// The guest's kernel opened the serial console for init: its drivers are there, and with an initial file system init is what it does
    /// next (`kernel_init_freeable` in Linux; a root on a disk it mounts first). Not seen of a guest whose console is elsewhere.
    pub init_us: Option<u64>,
}

/// Takes the marks; each is made once.
#[derive(Debug, Default)]
pub(crate) struct Course {
    entered: OnceLock<Instant>,
    init: OnceLock<Instant>,
}

impl Course {
    /// The guest is about to be entered.
    pub(crate) fn entered(&self) {
        self.entered.get_or_init(Instant::now);
    }

    /// The guest's console is open for reading.
    pub(crate) fn init(&self) {
        self.init.get_or_init(Instant::now);
    }

    /// The marks, of a machine whose program began then.
    pub(crate) fn marks(&self, began: Instant) -> Marks {
        let since = |mark: &OnceLock<Instant>| {
            let time = mark.get()?.saturating_duration_since(began);
            Some(time.as_micros().try_into().unwrap_or(u64::MAX))
        };
        Marks { entered_us: since(&self.entered), init_us: since(&self.init) }
    }
}
