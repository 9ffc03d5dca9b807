//! Who may look into another process, ptrace(2) at "Ptrace access mode checking".

use super::Task;
use super::credentials::Ids;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use insula_abi::general as c;

impl Task {
    /// Whether it may see, or change, what `other` has in memory, by a file or a hint: its own process; one of the same user (by the numbers that
    /// count for files, `PTRACE_MODE_FSCREDS`) with no more rights; or any, with `CAP_SYS_PTRACE`, which one
    /// that isn't to be looked into takes where its program began, too.
    pub fn may_access(&self, other: &Task) -> bool {
        self.may(other, |ids| ids.fs)
    }

    /// Whether it may do so by a call that names a process, or trace it: the same by its real numbers (`PTRACE_MODE_REALCREDS`).
    pub fn may_attach(&self, other: &Task) -> bool {
        self.may(other, |ids| ids.real)
    }

    fn may(&self, other: &Task, number: impl Fn(Ids) -> u32) -> bool {
        if Arc::ptr_eq(&self.process, &other.process) {
            return true;
        }
        let (own, theirs) = (self.credentials(), other.credentials());
        let same = |own: Ids, ids: Ids| [ids.real, ids.effective, ids.saved].iter().all(|id| *id == number(own));
        let open = other.process.dumpable.load(Ordering::Relaxed) == 1 || {
            let owner = other.process.memory_owner.lock().clone();
            own.has_in(&owner, c::CAP_SYS_PTRACE)
        };
        let alike = same(own.uid, theirs.uid)
            && same(own.gid, theirs.gid)
            && own.space == theirs.space
            && theirs.capabilities.permitted & !own.capabilities.permitted == 0;
        open && (alike || own.has_in(&theirs.space, c::CAP_SYS_PTRACE))
    }
}
