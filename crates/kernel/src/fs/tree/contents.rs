//! Who uses a file's contents how: what is written isn't executed, and what is executed isn't written (`ETXTBSY`).

use super::{Dentry, Mount, Path};
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
    /// The mount that it is written through.
    mount: Option<Arc<Mount>>,
}

impl ContentsHold {
    /// For writing.
    ///
    /// # Errors
    /// `ETXTBSY`: it is executed.
    pub fn to_write(place: &Path) -> Result<Self> {
        let mut hold = Self::take(&place.dentry, 1)?;
        place.mount.writers.fetch_add(1, Ordering::SeqCst);
        hold.mount = Some(place.mount.clone());
        Ok(hold)
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
        taken.map(|_| ContentsHold { dentry: dentry.clone(), step, mount: None }).map_err(|_| Errno::ETXTBSY)
    }
}

impl Drop for ContentsHold {
    fn drop(&mut self) {
        self.dentry.uses.0.fetch_sub(self.step, Ordering::SeqCst);
        if let Some(mount) = &self.mount {
            mount.writers.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
