//! `seccomp`, and what prctl(2) has of it.

use super::pipe::install;
use super::{Cx, Entry, partial};
use crate::seccomp::bpf::Program;
use crate::seccomp::notify::{Listener, Notifier, SIZES};
use crate::seccomp::{self, Extras, FILTERED, STRICT, answer};
use crate::task::Task;
use crate::{Errno, Flow, SysResult};
use alloc::sync::Arc;
use alloc::vec::Vec;
use insula_abi::Sysno;
use insula_abi::general as c;

pub(super) const CALLS: &[Entry] =
    &[partial(Sysno::seccomp, "LOG is ALLOW", |cx, [operation, flags, argument, ..]| match operation as u32 {
        SET_MODE_STRICT if flags as u32 == 0 && argument == 0 => cx.task.confinement.be_strict().map(Flow::from),
        SET_MODE_FILTER => set_filter(cx, flags as u32, argument),
        GET_ACTION_AVAIL if flags as u32 == 0 => {
            let action: u32 = cx.task.mm().get(argument)?;
            if answer::ALL.contains(&action) { Ok(Flow::Done(0)) } else { Err(Errno::EOPNOTSUPP) }
        }
        GET_NOTIF_SIZES if flags as u32 == 0 => cx.task.mm().put(argument, &SIZES).map(Flow::from),
        _ => Err(Errno::EINVAL),
    })];

const SET_MODE_STRICT: u32 = 0;
const SET_MODE_FILTER: u32 = 1;
const GET_ACTION_AVAIL: u32 = 2;
const GET_NOTIF_SIZES: u32 = 3;

/// All threads get the filter (`SECCOMP_FILTER_FLAG_TSYNC`); and how it is told that one can't.
const ALL_THREADS: u32 = 1;
const LOG: u32 = 2;
const SPECULATE: u32 = 4;
const TELL_BY_ERROR: u32 = 16;

/// Somebody is asked about calls, and answers in peace (`SECCOMP_FILTER_FLAG_NEW_LISTENER`, `_WAIT_KILLABLE_RECV`).
const NEW_LISTENER: u32 = 8;
const PATIENT: u32 = 32;

/// prctl(2), `PR_SET_SECCOMP`.
pub(super) fn set_mode(cx: &mut Cx<'_>, mode: u64, argument: u64) -> SysResult {
    match mode as u32 {
        STRICT => cx.task.confinement.be_strict().map(Flow::from),
        FILTERED => set_filter(cx, 0, argument),
        _ => Err(Errno::EINVAL),
    }
}

fn set_filter(cx: &mut Cx<'_>, flags: u32, address: u64) -> SysResult {
    let known = ALL_THREADS | LOG | SPECULATE | NEW_LISTENER | TELL_BY_ERROR | PATIENT;
    let (all, listens) = (flags & ALL_THREADS != 0, flags & NEW_LISTENER != 0);
    // The number of a thread can't be told from one of a descriptor.
    let ambiguous = all && listens && flags & TELL_BY_ERROR == 0;
    if flags & !known != 0 || ambiguous || flags & PATIENT != 0 && !listens {
        return Err(Errno::EINVAL);
    }
    let program = seccomp::read(cx.task, address)?;
    let notifier = listens.then(|| {
        let mut first = [0; 8];
        cx.kernel.host.entropy.fill(&mut first);
        Notifier::new(u64::from_ne_bytes(first), flags & PATIENT != 0)
    });
    // First of all, for a filter that is there is there for good.
    let listener = notifier.as_ref().map(|notifier| install(cx, Listener::new(notifier), c::O_RDWR, c::O_CLOEXEC)).transpose()?;
    let extras = Extras { log: flags & LOG != 0, notifier };
    let loaded = load(cx.task, program, extras, all, flags & TELL_BY_ERROR != 0);
    match (listener, loaded) {
        (Some(fd), Ok(Flow::Done(0))) => Ok(fd.into()),
        (Some(fd), loaded) => {
            let _ = cx.task.descriptors().take(fd);
            loaded
        }
        (None, loaded) => loaded,
    }
}

/// Confines a task, or all of its process. One that can't be is told by its number, or by an error.
fn load(task: &Arc<Task>, program: Program, extras: Extras, all: bool, by_error: bool) -> SysResult {
    let filter = task.confinement.with(program, extras)?;
    if !all {
        task.confinement.filter(filter);
        return Ok(Flow::Done(0));
    }
    let others: Vec<_> = task.process.tasks().into_iter().filter(|other| !Arc::ptr_eq(other, task)).collect();
    if let Some(odd) = others.iter().find(|other| !other.confinement.may_become(&task.confinement)) {
        return if by_error { Err(Errno::ESRCH) } else { Ok(task.name_of(odd.tid()).into()) };
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
