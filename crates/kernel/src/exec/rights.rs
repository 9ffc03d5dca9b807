//! What execve(2) changes of who a task is: set-ID bits and capabilities, capabilities(7).

use super::find::Found;
use crate::task::credentials::{KEEP_CAPABILITIES, NO_ROOT};
use crate::task::users::Kind;
use crate::task::{Credentials, Task, UserNamespace};
use crate::{Errno, Result};
use alloc::sync::Arc;
use insula_abi::general as c;

/// What a program will be.
pub struct Rights {
    /// Who.
    pub credentials: Credentials,
    /// It has more than its caller: what the caller's environment says isn't to be trusted (`AT_SECURE`).
    pub secure: bool,
    /// Where one needs a right to look into it all the same: its user namespace; if it can't be read, one that knows whose it is.
    pub memory_owner: UserNamespace,
    /// It acts as somebody else than before, or can't be read: others may not look into it.
    pub changed: bool,
}

/// A file's own capabilities, `security.capability`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct FileCapabilities {
    permitted: u64,
    inheritable: u64,
    effective: bool,
}

/// What the task will be once it executes this file.
///
/// # Errors
/// `EPERM`: the file's capabilities are to be in force, and can't all be given.
pub fn after(task: &Arc<Task>, found: &Found) -> Result<Rights> {
    let before = task.credentials();
    let mut now = (*before).clone();
    let (mode, uid, gid) = (found.attributes.mode, found.attributes.uid, found.attributes.gid);
    let trusted = found.trusted && !before.no_new_privileges && crate::trace::relation::may_gain(task);
    // Whom nobody knows where the program is to run, it can't be.
    let known = || {
        let known = before.space.knows(Kind::Users, uid) && before.space.knows(Kind::Groups, gid);
        known && found.is_shown_to(task)
    };
    if trusted && mode & c::S_ISUID != 0 && known() {
        now.uid.effective = uid;
    }
    if trusted && mode & (c::S_ISGID | c::S_IXGRP) == c::S_ISGID | c::S_IXGRP && known() {
        now.gid.effective = gid;
    }
    let set_id = now.uid.effective != before.uid.real || now.gid.effective != before.gid.real;
    let changed = now.uid.effective != before.uid.effective || now.gid.effective != before.gid.effective;
    (now.uid.saved, now.uid.fs) = (now.uid.effective, now.uid.effective);
    (now.gid.saved, now.gid.fs) = (now.gid.effective, now.gid.effective);
    let file = if trusted { of_file(found).filter(|_| found.is_shown_to(task)) } else { None };
    let gained = capabilities(&mut now, &before, file, set_id && changed);
    if before.no_new_privileges {
        // Nor by being the superuser.
        now.capabilities.permitted &= before.capabilities.permitted;
        now.capabilities.effective &= now.capabilities.permitted;
    }
    now.secure_bits &= !KEEP_CAPABILITIES;
    if file.is_some_and(|file| file.effective && file.permitted & !now.capabilities.permitted != 0) {
        return Err(Errno::EPERM);
    }
    let mut memory_owner = &before.space;
    let may_know = |space: &UserNamespace| found.readable || space.knows(Kind::Users, uid) && space.knows(Kind::Groups, gid);
    while !may_know(memory_owner)
        && let Some(parent) = memory_owner.parent()
    {
        memory_owner = parent;
    }
    let memory_owner = memory_owner.clone();
    Ok(Rights { memory_owner, secure: set_id || gained, changed: changed || gained || !found.readable, credentials: now })
}

/// Works out capabilities; answers whether the program has some that its caller didn't pass on.
fn capabilities(now: &mut Credentials, before: &Credentials, file: Option<FileCapabilities>, set_id: bool) -> bool {
    let bounding = now.capabilities.bounding;
    let inheritable = before.capabilities.inheritable;
    let is_root = |uid: u32| before.space.is_root(uid);
    let root = now.secure_bits & NO_ROOT == 0 && (is_root(now.uid.effective) || is_root(now.uid.real));
    let own = file.unwrap_or_default();
    let mut from_file = own;
    // A file with capabilities of its own, run as somebody else's set-ID root, has those.
    if root && !(file.is_some() && !is_root(now.uid.real) && is_root(now.uid.effective)) {
        from_file = FileCapabilities { permitted: u64::MAX, inheritable: u64::MAX, effective: is_root(now.uid.effective) };
    }
    let capabilities = &mut now.capabilities;
    if file.is_some() || set_id {
        capabilities.ambient = 0;
    }
    capabilities.permitted = inheritable & from_file.inheritable | from_file.permitted & bounding | capabilities.ambient;
    capabilities.effective = if from_file.effective { capabilities.permitted } else { capabilities.ambient };
    let more = capabilities.permitted & !capabilities.ambient != 0 && (file.is_some() || set_id);
    !is_root(before.uid.real) && more
}

/// Reads a file's capabilities; what isn't in a known form counts as none.
fn of_file(found: &Found) -> Option<FileCapabilities> {
    let bytes = found.xattr(b"security.capability")?;
    let word = |index: usize| {
        let bytes = bytes.get(index * 4..index * 4 + 4)?;
        Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    };
    let magic = word(0)?;
    let known = match magic & 0xff00_0000 {
        0x0200_0000 => bytes.len() == 20,
        // With the root user of the name space it counts in: that of the sandbox.
        0x0300_0000 => bytes.len() == 24 && word(5)? == 0,
        _ => false,
    };
    let sets = |low: usize| Some(u64::from(word(low)?) | u64::from(word(low + 2)?) << 32);
    known.then_some(FileCapabilities { permitted: sets(1)?, inheritable: sets(2)?, effective: magic & 1 != 0 })
}
