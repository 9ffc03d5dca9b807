//! Who uses a file's contents how: what is written isn't executed, and what is executed isn't written (`ETXTBSY`).

use super::Dentry;
use crate::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicI32, Ordering};

/// How many write a file, or, below zero, how many execute it (Linux: `i_writecount`).
#[derive(Default)]
pub struct Uses(AtomicI32);

/// One use of a file's contents, as long as it lives.
pub struct ContentsHold {
    dentry: Arc<Dentry>,
    step: i32,
}

impl ContentsHold {
    /// For writing.
    ///
    /// # Errors
    /// `ETXTBSY`: it is executed.
    pub fn to_write(dentry: &Arc<Dentry>) -> Result<Self> {
        Self::take(dentry, 1)
    }

    /// For executing.
    ///
    /// # Errors
    /// `ETXTBSY`: it is open for writing.
    pub fn to_execute(dentry: &Arc<Dentry>) -> Result<Self> {
        Self::take(dentry, -1)
    }

    fn take(dentry: &Arc<Dentry>, step: i32) -> Result<Self> {
        let allowed = |uses: i32| (uses.signum() != -step).then(|| uses.saturating_add(step));
        let taken = dentry.uses.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, allowed);
        taken.map(|_| ContentsHold { dentry: dentry.clone(), step }).map_err(|_| Errno::ETXTBSY)
    }
}

impl Drop for ContentsHold {
    fn drop(&mut self) {
        self.dentry.uses.0.fetch_sub(self.step, Ordering::SeqCst);
    }
}
