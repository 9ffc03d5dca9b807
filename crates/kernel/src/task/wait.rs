//! What a parent learns of its children, wait(2).

use super::Process;
use super::pids::{Node, Report, Tree};
use super::{Task, Usage};
use crate::trace::Tracked;
use crate::{Errno, Result};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use insula_abi::general as c;

/// Which children.
#[derive(Clone)]
pub enum Which {
    /// All.
    Any,
    /// This one.
    Process(i32),
    /// Those of this process group.
    Group(i32),
    /// The one of a pidfd.
    Same(Arc<Process>),
}

/// What has become of a child.
pub struct Change {
    /// What who waits calls it.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// As wait(2) tells it.
    pub status: i32,
    /// What it used, with what it waited for, if it has ended.
    pub usage: Usage,
    /// It stands still for who traces it.
    pub traced: bool,
}

/// Why a child changed and by what, as a `SIGCHLD` tells it, of a status as wait(2) does.
pub const fn code_of(status: i32) -> (i32, i32) {
    let signal = status & 0x7f;
    if status == 0xffff {
        (c::CLD_CONTINUED as i32, c::SIGCONT as i32)
    } else if signal == 0x7f {
        (c::CLD_STOPPED as i32, status >> 8 & 0xff)
    } else if signal == 0 {
        (c::CLD_EXITED as i32, status >> 8 & 0xff)
    } else if status & 0x80 != 0 {
        (c::CLD_DUMPED as i32, signal)
    } else {
        (c::CLD_KILLED as i32, signal)
    }
}

/// Looks for a change of one of `which` that `options` (`W*`) ask for, and takes it unless `WNOWAIT` says to leave it.
///
/// # Errors
/// `ECHILD`: there is no such child. `EAGAIN`: none has changed.
pub fn look(task: &Arc<Task>, which: &Which, options: u32) -> Result<Change> {
    if let Some(change) = tracee(task, which, options) {
        return Ok(change);
    }
    let mut tree = task.kernel().pids.lock();
    let ours = tree.nodes.get(&task.process.pid).ok_or(Errno::ECHILD)?;
    let group = ours.group;
    let mut found =
        task.process.tracees.lock().iter().any(|(number, tracked)| is_meant(&tree, task, which, options, *number, tracked));
    let mut changed = None;
    for pid in &ours.children {
        let Some(child) = tree.nodes.get(pid) else { continue };
        if !matches(child, which, group) || !wanted(child, options, task) {
            continue;
        }
        found = true;
        if !child.tracer_first
            && let Some(status) = change(child, options)
        {
            changed = Some((*pid, status));
            break;
        }
    }
    let Some((pid, status)) = changed else { return Err(if found { Errno::EAGAIN } else { Errno::ECHILD }) };
    take(&mut tree, task, pid, status, options).ok_or(Errno::ECHILD)
}

/// Whether a tracee is one of those that are waited for.
fn is_meant(tree: &Tree, task: &Task, which: &Which, options: u32, number: i32, tracked: &Tracked) -> bool {
    let process = &tracked.task.process;
    let group = |wanted: i32| tree.group_of(process.pid) == wanted;
    let meant = match which {
        Which::Any => true,
        Which::Process(pid) => number == *pid,
        Which::Group(0) => group(tree.group_of(task.process.pid)),
        Which::Group(other) => group(*other),
        Which::Same(other) => Arc::ptr_eq(other, process) && number == process.pid,
    };
    meant && (options & c::__WNOTHREAD == 0 || tracked.tracer == task.tid())
}

/// Looks for what a tracee of the process has to tell.
fn tracee(task: &Arc<Task>, which: &Which, options: u32) -> Option<Change> {
    if task.process.tracees.lock().is_empty() {
        return None;
    }
    let kernel = task.kernel();
    let (change, ended) = {
        let tree = kernel.pids.lock();
        let mut tracees = task.process.tracees.lock();
        let meant = tracees.iter().filter(|(number, tracked)| is_meant(&tree, task, which, options, **number, tracked));
        let (number, status, traced) = meant.map(|(number, tracked)| (*number, tracked)).find_map(|(number, tracked)| {
            if let Some(status) = tracked.ended {
                return (options & c::WEXITED != 0).then_some((number, status, false));
            }
            let mut trace = tracked.task.trace.lock();
            let stop = trace.stopped().filter(|stop| !stop.told)?;
            stop.told = options & c::WNOWAIT == 0;
            Some((number, stop.status >> 8 << 8 | 0x7f, true))
        })?;
        let uid = tracees.get(&number)?.task.credentials().uid.real;
        let change = Change { pid: task.name_of(number), uid, status, usage: Usage::default(), traced };
        let ended = if traced || options & c::WNOWAIT != 0 { None } else { tracees.remove(&number) };
        (change, ended.filter(|ended| ended.task.process.pid == number))
    };
    if let Some(ended) = ended {
        super::exit::give_to_parent(kernel, ended.task.process.pid);
    }
    Some(change)
}

fn matches(child: &Node, which: &Which, group: i32) -> bool {
    match which {
        Which::Any => true,
        Which::Process(pid) => child.process.pid == *pid,
        Which::Group(0) => child.group == group,
        Which::Group(other) => child.group == *other,
        Which::Same(process) => Arc::ptr_eq(process, &child.process),
    }
}

/// Whether options want children of this kind: those that send something else than `SIGCHLD` must be asked for.
fn wanted(child: &Node, options: u32, task: &Task) -> bool {
    let plain = child.exit_signal == c::SIGCHLD as i32;
    let kind = options & c::__WALL != 0 || plain != (options & c::__WCLONE != 0);
    kind && (options & c::__WNOTHREAD == 0 || child.maker == task.tid())
}

/// What there is to be told of a child.
fn change(child: &Node, options: u32) -> Option<i32> {
    if child.ended {
        return (options & c::WEXITED != 0).then(|| child.process.status().unwrap_or_default());
    }
    match child.report {
        Some(Report::Stopped(signal)) if options & c::WSTOPPED != 0 => Some(signal << 8 | 0x7f),
        Some(Report::Continued) if options & c::WCONTINUED != 0 => Some(0xffff),
        _ => None,
    }
}

fn take(tree: &mut Tree, task: &Task, pid: i32, status: i32, options: u32) -> Option<Change> {
    let node = tree.nodes.get_mut(&pid)?;
    let process = node.process.clone();
    let name = task.name_of(pid);
    let uid = process.leader().map_or(process.uid.load(Ordering::Relaxed), |task| task.credentials().uid.real);
    let usage = Usage::default();
    usage.add(&process.usage);
    usage.add(&process.children_usage);
    if options & c::WNOWAIT == 0 {
        if node.ended {
            tree.remove(pid);
            task.process.children_usage.add(&usage);
            task.process.account.add(&process.account);
        } else {
            node.report = None;
        }
    }
    Some(Change { pid: name, uid, status, usage, traced: false })
}
