//! Who a task is: `getuid setuid` and their kin, groups, capabilities.

use super::{Args, Cx, Entry, full};
use crate::task::credentials::{ALL, Ids, KEEP_CAPABILITIES, NO_SET_ID_FIXUP};
use crate::task::users;
use crate::task::{Credentials, Task};
use crate::{Errno, Flow, Result, SysResult};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use insula_abi::Sysno;
use insula_abi::general as c;
use insula_abi::process::{CapData, CapHeader};

pub(crate) const CALLS: &[Entry] = &[
    full(Sysno::getuid, |cx, _| get(cx, USERS, |ids| ids.real)),
    full(Sysno::geteuid, |cx, _| get(cx, USERS, |ids| ids.effective)),
    full(Sysno::getgid, |cx, _| get(cx, GROUPS, |ids| ids.real)),
    full(Sysno::getegid, |cx, _| get(cx, GROUPS, |ids| ids.effective)),
    full(Sysno::getresuid, |cx, places| get_three(cx, USERS, places)),
    full(Sysno::getresgid, |cx, places| get_three(cx, GROUPS, places)),
    full(Sysno::setuid, |cx, [id, ..]| set_one(cx, USERS, id)),
    full(Sysno::setgid, |cx, [id, ..]| set_one(cx, GROUPS, id)),
    full(Sysno::setreuid, |cx, [real, effective, ..]| set_two(cx, USERS, [real, effective])),
    full(Sysno::setregid, |cx, [real, effective, ..]| set_two(cx, GROUPS, [real, effective])),
    full(Sysno::setresuid, |cx, [real, effective, saved, ..]| set_three(cx, USERS, [real, effective, saved])),
    full(Sysno::setresgid, |cx, [real, effective, saved, ..]| set_three(cx, GROUPS, [real, effective, saved])),
    full(Sysno::setfsuid, |cx, [id, ..]| set_fs(cx, USERS, id as u32)),
    full(Sysno::setfsgid, |cx, [id, ..]| set_fs(cx, GROUPS, id as u32)),
    full(Sysno::getgroups, getgroups),
    full(Sysno::setgroups, setgroups),
    full(Sysno::capget, capget),
    full(Sysno::capset, capset),
];

/// Leaves a number as it is.
const KEEP: u32 = u32::MAX;

/// Users or groups: which of the two, and the capability to change them at will.
#[derive(Clone, Copy)]
struct Kind {
    capability: u32,
    users: bool,
}

const USERS: Kind = Kind { capability: c::CAP_SETUID, users: true };
const GROUPS: Kind = Kind { capability: c::CAP_SETGID, users: false };

impl Kind {
    fn of(self, credentials: &mut Credentials) -> &mut Ids {
        if self.users { &mut credentials.uid } else { &mut credentials.gid }
    }

    const fn ids(self, credentials: &Credentials) -> Ids {
        if self.users { credentials.uid } else { credentials.gid }
    }

    /// As a program is told it.
    fn show(self, credentials: &Credentials, id: u32) -> u32 {
        if self.users { credentials.space.show_user(id) } else { credentials.space.show_group(id) }
    }

    /// The kernel's numbers of those that a program names, but for those that are to be left as they are.
    fn named<const N: usize>(self, credentials: &Credentials, names: [u64; N]) -> Result<[u32; N]> {
        let kind = if self.users { users::Kind::Users } else { users::Kind::Groups };
        let mut ids = [KEEP; N];
        for (id, name) in ids.iter_mut().zip(names.map(|name| name as u32)).filter(|(_, name)| *name != KEEP) {
            *id = credentials.space.number_of(kind, name).ok_or(Errno::EINVAL)?;
        }
        Ok(ids)
    }
}

fn get(cx: &Cx<'_>, kind: Kind, which: fn(Ids) -> u32) -> SysResult {
    let credentials = cx.task.credentials();
    Ok(kind.show(&credentials, which(kind.ids(&credentials))).into())
}

fn get_three(cx: &Cx<'_>, kind: Kind, [real, effective, saved, ..]: Args) -> SysResult {
    let mm = cx.task.mm();
    let credentials = cx.task.credentials();
    let ids = kind.ids(&credentials);
    for (place, id) in [(real, ids.real), (effective, ids.effective), (saved, ids.saved)] {
        mm.put(place, &kind.show(&credentials, id))?;
    }
    Ok(Flow::Done(0))
}

/// Changes numbers to those that a program names, by `set`, which is told whether any may be chosen; and what follows from that.
fn change<const N: usize>(
    cx: &mut Cx<'_>,
    kind: Kind,
    names: [u64; N],
    set: impl FnOnce(&mut Ids, [u32; N], bool) -> Result<()>,
) -> SysResult {
    let before = cx.task.credentials();
    let mut now = (*before).clone();
    let named = kind.named(&before, names)?;
    let ids = kind.of(&mut now);
    set(ids, named, before.has_own(kind.capability))?;
    ids.fs = ids.effective;
    if kind.users {
        fix_capabilities(&before, &mut now);
    }
    commit(cx.task, &before, now);
    Ok(Flow::Done(0))
}

fn set_one(cx: &mut Cx<'_>, kind: Kind, id: u64) -> SysResult {
    change(cx, kind, [id], |ids, [id], may| {
        if id == KEEP {
            return Err(Errno::EINVAL);
        }
        if may {
            *ids = Ids::all(id);
            return Ok(());
        }
        if id != ids.real && id != ids.saved {
            return Err(Errno::EPERM);
        }
        ids.effective = id;
        Ok(())
    })
}

fn set_two(cx: &mut Cx<'_>, kind: Kind, both: [u64; 2]) -> SysResult {
    change(cx, kind, both, |ids, [real, effective], may| {
        let before = *ids;
        let real_allowed = real == KEEP || real == before.real || real == before.effective;
        let effective_allowed = effective == KEEP || [before.real, before.effective, before.saved].contains(&effective);
        let allowed = may || real_allowed && effective_allowed;
        if !allowed {
            return Err(Errno::EPERM);
        }
        if real != KEEP {
            ids.real = real;
        }
        if effective != KEEP {
            ids.effective = effective;
        }
        if real != KEEP || effective != KEEP && effective != before.real {
            ids.saved = ids.effective;
        }
        Ok(())
    })
}

fn set_three(cx: &mut Cx<'_>, kind: Kind, three: [u64; 3]) -> SysResult {
    change(cx, kind, three, |ids, new, may| {
        let before = [ids.real, ids.effective, ids.saved];
        if !may && new.iter().any(|id| *id != KEEP && !before.contains(id)) {
            return Err(Errno::EPERM);
        }
        for (place, id) in [&mut ids.real, &mut ids.effective, &mut ids.saved].into_iter().zip(new) {
            if id != KEEP {
                *place = id;
            }
        }
        Ok(())
    })
}

/// setfsuid(2) answers the number before, whether or not it was changed.
fn set_fs(cx: &mut Cx<'_>, kind: Kind, id: u32) -> SysResult {
    let before = cx.task.credentials();
    let [id] = kind.named(&before, [id.into()]).unwrap_or([KEEP]);
    let mut now = (*before).clone();
    let ids = kind.of(&mut now);
    let answer = ids.fs;
    let known = [ids.real, ids.effective, ids.saved, ids.fs].contains(&id);
    if id != KEEP && id != answer && (known || before.has_own(kind.capability)) {
        ids.fs = id;
        if kind.users && before.secure_bits & NO_SET_ID_FIXUP == 0 {
            if before.space.is_root(answer) {
                now.capabilities.effective &= !FOR_FILES;
            } else if before.space.is_root(id) {
                now.capabilities.effective |= now.capabilities.permitted & FOR_FILES;
            }
        }
        commit(cx.task, &before, now);
    }
    Ok(kind.show(&before, answer).into())
}

/// Capabilities that are about files (Linux: `CAP_FS_SET`).
const FOR_FILES: u64 = 1 << c::CAP_CHOWN
    | 1 << c::CAP_MKNOD
    | 1 << c::CAP_DAC_OVERRIDE
    | 1 << c::CAP_DAC_READ_SEARCH
    | 1 << c::CAP_FOWNER
    | 1 << c::CAP_FSETID
    | 1 << c::CAP_MAC_OVERRIDE
    | 1 << c::CAP_LINUX_IMMUTABLE;

/// What becomes of capabilities when users change, capabilities(7).
fn fix_capabilities(before: &Credentials, now: &mut Credentials) {
    if before.secure_bits & NO_SET_ID_FIXUP != 0 {
        return;
    }
    let root = |id: u32| before.space.is_root(id);
    let is_root = |ids: &Ids| root(ids.real) || root(ids.effective) || root(ids.saved);
    if is_root(&before.uid) && !is_root(&now.uid) {
        if before.secure_bits & KEEP_CAPABILITIES == 0 {
            now.capabilities.permitted = 0;
            now.capabilities.effective = 0;
        }
        now.capabilities.ambient = 0;
    }
    if root(before.uid.effective) && !root(now.uid.effective) {
        now.capabilities.effective = 0;
    } else if !root(before.uid.effective) && root(now.uid.effective) {
        now.capabilities.effective = now.capabilities.permitted;
    }
}

/// Makes the task somebody else: who acts as another may not be looked into any more.
pub(super) fn commit(task: &Arc<Task>, before: &Credentials, now: Credentials) {
    let same = before.uid.effective == now.uid.effective
        && before.gid.effective == now.gid.effective
        && before.uid.fs == now.uid.fs
        && before.gid.fs == now.gid.fs;
    let more = now.capabilities.permitted & !before.capabilities.permitted != 0;
    if !same || more {
        task.process.dumpable.store(0, Ordering::Relaxed);
        task.parent_death_signal.store(0, Ordering::Relaxed);
    }
    task.set_credentials(now);
}

fn getgroups(cx: &mut Cx<'_>, [size, list, ..]: Args) -> SysResult {
    let credentials = cx.task.credentials();
    let groups = &credentials.groups;
    let size = usize::try_from(size as i32).map_err(|_| Errno::EINVAL)?;
    if size > 0 {
        if size < groups.len() {
            return Err(Errno::EINVAL);
        }
        let bytes: Vec<u8> = groups.iter().flat_map(|group| credentials.space.show_group(*group).to_ne_bytes()).collect();
        cx.task.mm().write(list, &bytes)?;
    }
    Ok(groups.len().into())
}

fn setgroups(cx: &mut Cx<'_>, [size, list, ..]: Args) -> SysResult {
    const MOST: usize = 65536;
    let before = cx.task.credentials();
    if !before.has_own(c::CAP_SETGID) || !before.space.allows_groups() {
        return Err(Errno::EPERM);
    }
    let size = usize::try_from(size as u32).ok().filter(|size| *size <= MOST).ok_or(Errno::EINVAL)?;
    let mut groups: Vec<u32> = cx.task.mm().get_all(list, size)?;
    for group in &mut groups {
        *group = before.space.group(*group)?;
    }
    groups.sort_unstable();
    cx.task.set_credentials(Credentials { groups: Arc::new(groups), ..(*before).clone() });
    Ok(Flow::Done(0))
}

/// How many structures a version of the interface has; an unknown one is told which is known.
fn version(cx: &Cx<'_>, header: u64) -> Result<(usize, i32)> {
    const FIRST: u32 = 0x1998_0330;
    const SECOND: u32 = 0x2007_1026;
    let mm = cx.task.mm();
    let found: CapHeader = mm.get(header)?;
    match found.version {
        FIRST => Ok((1, found.pid)),
        SECOND | c::_LINUX_CAPABILITY_VERSION_3 => Ok((2, found.pid)),
        _ => {
            mm.put(header, &c::_LINUX_CAPABILITY_VERSION_3)?;
            Err(Errno::EINVAL)
        }
    }
}

fn capget(cx: &mut Cx<'_>, [header, data, ..]: Args) -> SysResult {
    let (count, pid) = match version(cx, header) {
        // To ask for the version is no error.
        Err(Errno::EINVAL) if data == 0 => return Ok(Flow::Done(0)),
        found => found?,
    };
    if pid < 0 {
        return Err(Errno::EINVAL);
    }
    let task = if pid == 0 { cx.task.clone() } else { cx.kernel.pids.task(cx.task.number_of(pid)).ok_or(Errno::ESRCH)? };
    if data == 0 {
        return Ok(Flow::Done(0));
    }
    let sets = task.credentials().capabilities;
    let mm = cx.task.mm();
    for index in 0..count {
        let half = |set: u64| (set >> (32 * index)) as u32;
        let part =
            CapData { effective: half(sets.effective), permitted: half(sets.permitted), inheritable: half(sets.inheritable) };
        mm.put(data.wrapping_add((index * size_of::<CapData>()) as u64), &part)?;
    }
    Ok(Flow::Done(0))
}

fn capset(cx: &mut Cx<'_>, [header, data, ..]: Args) -> SysResult {
    let (count, pid) = version(cx, header)?;
    if pid != 0 && cx.task.number_of(pid) != cx.task.tid() {
        return Err(Errno::EPERM);
    }
    let parts: Vec<CapData> = cx.task.mm().get_all(data, count)?;
    let all = |half: fn(&CapData) -> u32| {
        let bits = parts.iter().enumerate().fold(0, |set, (index, part)| set | u64::from(half(part)) << (32 * index));
        bits & ALL
    };
    let (effective, permitted, inheritable) =
        (all(|part| part.effective), all(|part| part.permitted), all(|part| part.inheritable));
    let before = cx.task.credentials();
    let old = before.capabilities;
    let beyond = |set: u64, limit: u64| set & !limit != 0;
    let inherits_more = beyond(inheritable, old.inheritable | old.permitted) && !before.has_own(c::CAP_SETPCAP);
    if inherits_more
        || beyond(inheritable, old.inheritable | old.bounding)
        || beyond(permitted, old.permitted)
        || beyond(effective, permitted)
    {
        return Err(Errno::EPERM);
    }
    let mut now = (*before).clone();
    now.capabilities.effective = effective;
    now.capabilities.permitted = permitted;
    now.capabilities.inheritable = inheritable;
    now.capabilities.ambient &= permitted & inheritable;
    commit(cx.task, &before, now);
    Ok(Flow::Done(0))
}
