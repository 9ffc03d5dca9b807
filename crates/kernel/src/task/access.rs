//! Who may look into another process, ptrace(2) at "Ptrace access mode checking".

use super::Task;
use super::credentials::Ids;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use insula_abi::general as c;

impl Task {
    /// Whether it may see, or change, what `other` has in memory: its own process; one of the same user with no more rights; or any, with
    /// `CAP_SYS_PTRACE`.
    pub fn may_access(&self, other: &Task) -> bool {
        if Arc::ptr_eq(&self.process, &other.process) {
            return true;
        }
        let (own, theirs) = (self.credentials(), other.credentials());
        let same = |own: u32, ids: Ids| [ids.real, ids.effective, ids.saved].iter().all(|id| *id == own);
        let allowed = other.process.dumpable.load(Ordering::Relaxed) == 1
            && same(own.uid.fs, theirs.uid)
            && same(own.gid.fs, theirs.gid)
            && theirs.capabilities.permitted & !own.capabilities.permitted == 0;
        allowed || own.has(c::CAP_SYS_PTRACE)
    }
}
