//! How many pages the pipes of a user hold, pipe(7).

use crate::sync::Mutex;
use crate::task::Credentials;
use crate::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use insula_abi::general as c;

/// Pages beyond which who has no rights gets small pipes (Linux: `fs.pipe-user-pages-soft`).
pub const SOFT: usize = 16384;
/// Pages of those (Linux: `PIPE_MIN_DEF_BUFFERS`).
const SMALL: usize = 2;

/// The pages of all users who have pipes.
#[derive(Default)]
pub struct Accounts(Mutex<BTreeMap<u32, usize>>);

/// What one pipe takes of its maker's.
pub(super) struct Account {
    accounts: Arc<Accounts>,
    user: u32,
    pages: usize,
}

/// Whether limits don't hold for somebody.
pub(super) fn is_privileged(credentials: &Credentials) -> bool {
    credentials.has(c::CAP_SYS_RESOURCE) || credentials.has(c::CAP_SYS_ADMIN)
}

impl Accounts {
    /// For a new pipe of somebody's: with so many pages, or few if there are too many already.
    pub(super) fn open(self: &Arc<Self>, credentials: &Credentials, pages: usize) -> Account {
        let mut account = Account { accounts: self.clone(), user: credentials.uid.real, pages: 0 };
        if account.change(pages, is_privileged(credentials)).is_err() {
            let _ = account.change(SMALL, true);
        }
        account
    }
}

impl Account {
    pub(super) fn pages(&self) -> usize {
        self.pages
    }

    /// From now on it is so many pages.
    ///
    /// # Errors
    /// `EPERM`: it would be more than before, and too many.
    pub(super) fn change(&mut self, pages: usize, privileged: bool) -> Result<()> {
        let mut all = self.accounts.0.lock();
        let sum = all.entry(self.user).or_default();
        let then = *sum - self.pages + pages;
        if pages > self.pages && then > SOFT && !privileged {
            return Err(Errno::EPERM);
        }
        *sum = then;
        self.pages = pages;
        if then == 0 {
            all.remove(&self.user);
        }
        Ok(())
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let _ = self.change(0, true);
    }
}
