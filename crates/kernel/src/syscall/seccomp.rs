//! `seccomp`, and what prctl(2) has of it.

use super::{Cx, Entry, partial};
use crate::seccomp::{self, FILTERED, STRICT, answer};
use crate::{Errno, Flow, SysResult};
use alloc::sync::Arc;
use alloc::vec::Vec;
use insula_abi::Sysno;

pub(super) const CALLS: &[Entry] =
    &[partial(Sysno::seccomp, "no listeners; LOG is ALLOW", |cx, [operation, flags, argument, ..]| match operation as u32 {
        SET_MODE_STRICT if flags as u32 == 0 && argument == 0 => cx.task.confinement.be_strict().map(Flow::from),
        SET_MODE_FILTER => set_filter(cx, flags as u32, argument),
        GET_ACTION_AVAIL if flags as u32 == 0 => {
            let action: u32 = cx.task.mm().get(argument)?;
            if answer::ALL.contains(&action) { Ok(Flow::Done(0)) } else { Err(Errno::EOPNOTSUPP) }
        }
        _ => Err(Errno::EINVAL),
    })];

const SET_MODE_STRICT: u32 = 0;
const SET_MODE_FILTER: u32 = 1;
const GET_ACTION_AVAIL: u32 = 2;

/// All threads get the filter (`SECCOMP_FILTER_FLAG_TSYNC`); and how it is told that one can't.
const ALL_THREADS: u32 = 1;
const LOG: u32 = 2;
const SPECULATE: u32 = 4;
const TELL_BY_ERROR: u32 = 16;

/// prctl(2), `PR_SET_SECCOMP`.
pub(super) fn set_mode(cx: &mut Cx<'_>, mode: u64, argument: u64) -> SysResult {
    match mode as u32 {
        STRICT => cx.task.confinement.be_strict().map(Flow::from),
        FILTERED => set_filter(cx, 0, argument),
        _ => Err(Errno::EINVAL),
    }
}

fn set_filter(cx: &mut Cx<'_>, flags: u32, address: u64) -> SysResult {
    if flags & !(ALL_THREADS | LOG | SPECULATE | TELL_BY_ERROR) != 0 {
        return Err(Errno::EINVAL);
    }
    let task = cx.task;
    let filter = task.confinement.with(seccomp::read(task, address)?)?;
    if flags & ALL_THREADS == 0 {
        task.confinement.filter(filter);
        return Ok(Flow::Done(0));
    }
    let others: Vec<_> = task.process.tasks().into_iter().filter(|other| !Arc::ptr_eq(other, task)).collect();
    if let Some(odd) = others.iter().find(|other| !other.confinement.may_become(&task.confinement)) {
        return if flags & TELL_BY_ERROR != 0 { Err(Errno::ESRCH) } else { Ok(odd.tid().into()) };
    }
    let no_new_privileges = task.credentials().no_new_privileges;
    for other in others {
        if no_new_privileges {
            let credentials = crate::task::Credentials { no_new_privileges, ..(*other.credentials()).clone() };
            other.set_credentials(credentials);
        }
        other.confinement.filter(filter.clone());
    }
    task.confinement.filter(filter);
    Ok(Flow::Done(0))
}
