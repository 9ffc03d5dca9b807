//! What is told of a task in numbers and words.

use super::process::Subject;
use crate::fs::Inode;
use crate::fs::pseudo::{At, Body, Node};
use crate::mm::{Mm, Traits};
use crate::signal::SigSet;
use crate::signal::action::IGNORE;
use crate::signal::stop::ticks;
use crate::task::credentials::Ids;
use crate::task::limits::INFINITE;
use crate::task::{Credentials, InCall, PidNamespace, Process, Task};
use crate::{Errno, Kernel, Result};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use insula_abi::PAGE;
use insula_abi::general as c;

/// The most bytes of arguments or environment that are shown at once.
const MOST_TEXT: u64 = 1 << 20;

/// What a task does, as ps(1) shows it.
fn condition(subject: &Subject, task: &Task, reader: &Arc<Task>) -> (char, &'static str) {
    if subject.tid() != task.tid() {
        // The first task has ended; this one stands in for it.
        return ('Z', "zombie");
    }
    if task.stands_traced() {
        return ('t', "tracing stop");
    }
    if task.process.lock().stop.is_some() {
        return ('T', "stopped");
    }
    // Who has been sent a signal is about to wake up.
    if task.waits() && task.confinement.holds(task) {
        return ('D', "disk sleep");
    }
    if task.waits() && !task.interrupted() && !core::ptr::eq(task, &**reader) { ('S', "sleeping") } else { ('R', "running") }
}

/// `/proc/PID/syscall`: the call in which a task waits, with its arguments, and where it is made.
pub(super) fn in_call(subject: &Subject, reader: &Arc<Task>) -> Result<Vec<u8>> {
    let place = *subject.inside(reader)?.in_call.lock();
    let Some(InCall { call, sp, ip }) = place else { return Ok(b"running\n".to_vec()) };
    let [a, b, c, d, e, f] = call.arguments;
    Ok(format!("{} {a:#x} {b:#x} {c:#x} {d:#x} {e:#x} {f:#x} {sp:#x} {ip:#x}\n", call.number).into_bytes())
}

/// A task's name, as far as it goes.
fn name(task: &Task) -> Vec<u8> {
    let name = *task.name.lock();
    name.iter().copied().take_while(|byte| *byte != 0).collect()
}

/// Numbers about memory, in bytes.
#[derive(Default)]
struct Sizes {
    all: u64,
    resident: u64,
    locked: u64,
    data: u64,
    stack: u64,
    code: u64,
    shared: u64,
}

fn sizes(mm: &Mm) -> Sizes {
    let mut sizes = Sizes { all: mm.sizes().0, ..Sizes::default() };
    for (range, area) in mm.areas() {
        let len = range.end - range.start;
        if area.traits.contains(Traits::LOCKED) {
            sizes.locked += len;
        }
        if area.label == "[stack]" {
            sizes.stack += len;
        } else if area.protection.contains(crate::mm::Protection::WRITE) && !area.is_shared() {
            sizes.data += len;
        } else if area.protection.contains(crate::mm::Protection::EXEC) {
            sizes.code += len;
        }
        let resident = if area.is_shared() { &mut sizes.shared } else { &mut sizes.resident };
        *resident += mm.resident_bytes(range);
    }
    sizes
}

/// `/proc/PID/statm`, in pages.
pub(super) fn memory_pages(subject: &Subject, _: &Arc<Task>) -> Result<Vec<u8>> {
    let sizes = sizes(&subject.task()?.mm());
    let pages = |bytes| bytes / PAGE;
    let text = format!(
        "{} {} {} {} 0 {} 0\n",
        pages(sizes.all),
        pages(sizes.resident),
        pages(sizes.shared),
        pages(sizes.code),
        pages(sizes.data + sizes.stack)
    );
    Ok(text.into_bytes())
}

/// Signals with an action: ignored, and caught.
fn actions(task: &Task) -> (SigSet, SigSet) {
    let actions = task.process.actions();
    let actions = actions.lock();
    (actions.all(|all, signal| all.get(signal).handler == IGNORE), actions.all(|all, signal| all.catches(signal)))
}

/// Where a process is among others: parent, group, session, its terminal's number and foreground group.
fn relations(task: &Task, space: &PidNamespace) -> (i32, i32, i32, u64, i32) {
    let (parent, group, session) = task.kernel().pids.relations(task.process.pid);
    let (terminal, foreground) = match crate::tty::control::controlling(task) {
        Some(tty) => (tty.device(), space.name_of(tty.foreground())),
        None => (0, -1),
    };
    (space.name_of(parent), space.name_of(group), space.name_of(session), terminal, foreground)
}

/// `/proc/PID/stat`.
pub(super) fn stat(subject: &Subject, reader: &Arc<Task>) -> Result<Vec<u8>> {
    let process = subject.process()?;
    let of_task = subject.tid() != process.pid;
    let Ok(task) = subject.task() else {
        // It has ended, and wasn't waited for.
        let tree = subject.kernel()?.pids.relations(process.pid);
        let name = |number| subject.space.name_of(number);
        let (user, system) = process.times();
        let text = format!(
            "{} () Z {} {} {} 0 -1 4227084 0 0 0 0 {} {} 0 0 20 0 1 0 {} 0 0 18446744073709551615{}17 0 0 0 0 0 0 0 0 0 0 0 0 0 0 {}\n",
            name(process.pid),
            name(tree.0),
            name(tree.1),
            name(tree.2),
            ticks(user),
            ticks(system),
            ticks(process.started),
            " 0 0 0 0 0 0 0 0 0 0 0 0 ",
            process.status().unwrap_or(0)
        );
        return Ok(text.into_bytes());
    };
    let (parent, group, session, terminal, foreground) = relations(&task, &subject.space);
    let mm = task.mm();
    let image = mm.image();
    let (all, resident) = (mm.sizes().0, mm.resident_bytes(0..u64::MAX));
    let (user, system) = match of_task {
        true => task.times(),
        false => process.times(),
    };
    let children = &process.children_usage;
    let (ignored, caught) = actions(&task);
    let scheduling = *task.scheduling.lock();
    let own = task.signals();
    let (pending, blocked) = (own.pending.set(), own.blocked);
    drop(own);
    let priority = if scheduling.priority > 0 { -1 - scheduling.priority } else { 20 + scheduling.nice };
    let mut text = format!("{} (", subject.space.name_of(subject.tid())).into_bytes();
    text.extend(name(&task));
    let rest: [i128; 49] = [
        i128::from(parent),
        i128::from(group),
        i128::from(session),
        i128::from(terminal),
        i128::from(foreground),
        0x40_0000,
        0,
        0,
        0,
        0,
        ticks(user).into(),
        ticks(system).into(),
        ticks(children.user.load(Ordering::Relaxed)).into(),
        ticks(children.system.load(Ordering::Relaxed)).into(),
        priority.into(),
        scheduling.nice.into(),
        process.tasks().len() as i128,
        0,
        ticks(process.started).into(),
        all.into(),
        (resident / PAGE).into(),
        process.limit(c::RLIMIT_RSS).into(),
        image.code.0.into(),
        image.code.1.into(),
        image.stack.into(),
        0,
        0,
        (pending.0 & 0x7fff_ffff).into(),
        (blocked.0 & 0x7fff_ffff).into(),
        (ignored.0 & 0x7fff_ffff).into(),
        (caught.0 & 0x7fff_ffff).into(),
        0,
        0,
        0,
        c::SIGCHLD.into(),
        0,
        scheduling.priority.into(),
        scheduling.policy.into(),
        0,
        0,
        0,
        image.data.0.into(),
        image.data.1.into(),
        mm.brk_start().into(),
        image.arguments.0.into(),
        image.arguments.1.into(),
        image.environment.0.into(),
        image.environment.1.into(),
        0,
    ];
    text.extend(format!(") {}", condition(subject, &task, reader).0).bytes());
    for number in rest {
        text.extend(format!(" {number}").bytes());
    }
    text.push(b'\n');
    Ok(text)
}

/// `/proc/PID/status`.
pub(super) fn status(subject: &Subject, reader: &Arc<Task>) -> Result<Vec<u8>> {
    let process = subject.process()?;
    let Ok(task) = subject.task() else {
        let (parent, ..) = subject.kernel()?.pids.relations(process.pid);
        let (pid, parent) = (subject.space.name_of(process.pid), subject.space.name_of(parent));
        let text = format!("Name:\t\nState:\tZ (zombie)\nTgid:\t{pid}\nNgid:\t0\nPid:\t{pid}\nPPid:\t{parent}\nTracerPid:\t0\n");
        return Ok(text.into_bytes());
    };
    let (parent, ..) = relations(&task, &subject.space);
    let credentials = task.credentials();
    let (letter, word) = condition(subject, &task, reader);
    let seen = reader.credentials().space.clone();
    let ids = |ids: Ids, show: &dyn Fn(u32) -> u32| {
        format!("{}\t{}\t{}\t{}", show(ids.real), show(ids.effective), show(ids.saved), show(ids.fs))
    };
    let groups: String = credentials.groups.iter().map(|group| format!("{} ", seen.show_group(*group))).collect();
    let umask = task.fs().lock().umask;
    let tracer = task.tracer().map_or(0, |tracer| subject.space.name_of(tracer.process.pid));
    let all = |number: i32| subject.space.all_names(&process, number);
    let (_, group, session) = subject.kernel()?.pids.relations(process.pid);
    let mut text = Vec::from(&b"Name:\t"[..]);
    text.extend(name(&task));
    text.extend(
        format!(
            "\nUmask:\t{umask:04o}\nState:\t{letter} ({word})\nTgid:\t{}\nNgid:\t0\nPid:\t{}\nPPid:\t{parent}\nTracerPid:\t{tracer}\nUid:\t{}\nGid:\t{}\nFDSize:\t{}\nGroups:\t{groups}\nNStgid:{}\nNSpid:{}\nNSpgid:{}\nNSsid:{}\n",
            subject.space.name_of(process.pid),
            subject.space.name_of(subject.tid()),
            ids(credentials.uid, &|id| seen.show_user(id)),
            ids(credentials.gid, &|id| seen.show_group(id)),
            task.descriptors().all().last().map_or(0, |(fd, _)| *fd as usize + 1).next_power_of_two().max(64),
            all(process.pid),
            all(subject.tid()),
            all(group),
            all(session),
        )
        .bytes(),
    );
    text.extend(memory_lines(&task.mm()).bytes());
    let shared = process.lock().pending.set();
    let queued = process.lock().pending.len();
    let (ignored, caught) = actions(&task);
    let own = task.signals();
    let (pending, blocked) = (own.pending.set(), own.blocked);
    drop(own);
    let capabilities = credentials.capabilities;
    let processors = subject.kernel()?.host.machine.processors;
    let allowed = task.scheduling.lock().processors & (u64::MAX >> (64 - processors.clamp(1, 64)));
    text.extend(
        format!(
            "Threads:\t{}\nSigQ:\t{queued}/{}\nSigPnd:\t{:016x}\nShdPnd:\t{:016x}\nSigBlk:\t{:016x}\nSigIgn:\t{:016x}\nSigCgt:\t{:016x}\nCapInh:\t{:016x}\nCapPrm:\t{:016x}\nCapEff:\t{:016x}\nCapBnd:\t{:016x}\nCapAmb:\t{:016x}\nNoNewPrivs:\t{}\nSeccomp:\t{}\nSeccomp_filters:\t{}\nCpus_allowed:\t{:x}\nCpus_allowed_list:\t{}\nMems_allowed:\t1\nMems_allowed_list:\t0\nvoluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n",
            process.tasks().len(),
            process.limit(c::RLIMIT_SIGPENDING),
            pending.0,
            shared.0,
            blocked.0,
            ignored.0,
            caught.0,
            capabilities.inheritable,
            capabilities.permitted,
            capabilities.effective,
            capabilities.bounding,
            capabilities.ambient,
            u8::from(credentials.no_new_privileges),
            task.confinement.mode(),
            task.confinement.filters(),
            allowed,
            list(allowed),
        )
        .bytes(),
    );
    Ok(text)
}

/// Numbers from 0 on, as lists of processors are written.
pub(super) fn range(count: u32) -> String {
    if count <= 1 { String::from("0") } else { format!("0-{}", count - 1) }
}

/// Numbers of bits that are set, as lists of processors are written: `0-3,7`.
fn list(bits: u64) -> String {
    let mut text = String::new();
    let mut at = 0;
    while at < 64 && bits >> at != 0 {
        let first = at + (bits >> at).trailing_zeros();
        let last = first + (bits >> first).trailing_ones() - 1;
        let comma = if text.is_empty() { "" } else { "," };
        text.push_str(&if first == last { format!("{comma}{first}") } else { format!("{comma}{first}-{last}") });
        at = last + 1;
    }
    text
}

fn memory_lines(mm: &Mm) -> String {
    let sizes = sizes(mm);
    [
        ("VmPeak", sizes.all),
        ("VmSize", sizes.all),
        ("VmLck", sizes.locked),
        ("VmPin", 0),
        ("VmHWM", sizes.resident),
        ("VmRSS", sizes.resident + sizes.shared),
        ("RssAnon", sizes.resident),
        ("RssFile", 0),
        ("RssShmem", sizes.shared),
        ("VmData", sizes.data),
        ("VmStk", sizes.stack),
        ("VmExe", sizes.code),
        ("VmLib", 0),
        ("VmPTE", 0),
        ("VmSwap", 0),
    ]
    .iter()
    .map(|(name, bytes)| format!("{name}:\t{:8} kB\n", bytes / 1024))
    .collect()
}

/// A part of a task's memory, for who may look into it.
pub(super) fn memory_text(subject: &Subject, reader: &Arc<Task>, part: fn(crate::mm::Image) -> (u64, u64)) -> Result<Vec<u8>> {
    let mm = subject.inside(reader)?.mm();
    copy(&mm, part(mm.image()))
}

fn copy(mm: &Mm, (start, end): (u64, u64)) -> Result<Vec<u8>> {
    let mut bytes = vec![0; end.saturating_sub(start).min(MOST_TEXT) as usize];
    let (count, _) = mm.read_some(start, &mut bytes);
    bytes.truncate(count);
    Ok(bytes)
}

/// `/proc/PID/cmdline`.
pub(super) fn command_line(subject: &Subject, _: &Arc<Task>) -> Result<Vec<u8>> {
    subject.task().map_or(Ok(Vec::new()), |task| arguments(&task))
}

fn arguments(task: &Task) -> Result<Vec<u8>> {
    let mm = task.mm();
    let image = mm.image();
    let mut text = copy(&mm, image.arguments)?;
    // A program that has written over the end of its arguments shows what it wrote, up to its end (setproctitle(3)).
    if text.last().is_some_and(|last| *last != 0) {
        let more = copy(&mm, image.environment)?;
        text.extend(more);
        if let Some(end) = text.iter().position(|byte| *byte == 0) {
            text.truncate(end);
        }
    }
    Ok(text)
}

/// What ps(1) shows of a process.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Its number.
    pub pid: i32,
    /// Its parent's; 0 if nobody in here made it.
    pub parent: i32,
    /// Whose it is.
    pub uid: u32,
    /// When it began, in nanoseconds of the monotonic clock.
    pub started: u64,
    /// Nanoseconds on a processor.
    pub time: u64,
    /// Its terminal's number in `/dev/pts`.
    pub terminal: Option<u32>,
    /// Its first task's name.
    pub name: Vec<u8>,
    /// Its arguments, each with a zero behind it; empty if it has ended.
    pub arguments: Vec<u8>,
}

/// All processes of a kernel, in the order of their numbers.
pub fn processes(kernel: &Kernel) -> Vec<Summary> {
    let summary = |process: Arc<Process>| {
        let task = process.leader()?;
        let (user, system) = process.times();
        Some(Summary {
            pid: process.pid,
            parent: kernel.pids.relations(process.pid).0,
            uid: task.credentials().uid.effective,
            started: process.started,
            time: user + system,
            terminal: crate::tty::control::controlling(&task).map(|tty| tty.index),
            name: name(&task),
            arguments: arguments(&task).unwrap_or_default(),
        })
    };
    kernel.pids.processes().into_iter().filter_map(summary).collect()
}

/// `/proc/PID/limits`.
pub(super) fn limits(subject: &Subject, _: &Arc<Task>) -> Result<Vec<u8>> {
    const NAMES: [(u32, &str, &str); 16] = [
        (c::RLIMIT_CPU, "Max cpu time", "seconds"),
        (c::RLIMIT_FSIZE, "Max file size", "bytes"),
        (c::RLIMIT_DATA, "Max data size", "bytes"),
        (c::RLIMIT_STACK, "Max stack size", "bytes"),
        (c::RLIMIT_CORE, "Max core file size", "bytes"),
        (c::RLIMIT_RSS, "Max resident set", "bytes"),
        (c::RLIMIT_NPROC, "Max processes", "processes"),
        (c::RLIMIT_NOFILE, "Max open files", "files"),
        (c::RLIMIT_MEMLOCK, "Max locked memory", "bytes"),
        (c::RLIMIT_AS, "Max address space", "bytes"),
        (c::RLIMIT_LOCKS, "Max file locks", "locks"),
        (c::RLIMIT_SIGPENDING, "Max pending signals", "signals"),
        (c::RLIMIT_MSGQUEUE, "Max msgqueue size", "bytes"),
        (c::RLIMIT_NICE, "Max nice priority", ""),
        (c::RLIMIT_RTPRIO, "Max realtime priority", ""),
        (c::RLIMIT_RTTIME, "Max realtime timeout", "us"),
    ];
    let process = subject.process()?;
    let limits = process.limits.lock();
    let number = |limit: u64| if limit == INFINITE { String::from("unlimited") } else { format!("{limit}") };
    let mut text = String::from("Limit                     Soft Limit           Hard Limit           Units     \n");
    for (resource, name, unit) in NAMES {
        let limit = limits.get(resource).unwrap_or_default();
        text.push_str(&format!("{name:<25} {:<20} {:<20} {unit:<10}\n", number(limit.soft), number(limit.hard)));
    }
    Ok(text.into_bytes())
}

/// `/proc/PID/comm`, by which tasks of a process may be renamed.
pub(super) fn name_file(at: &At, file: &[u8], subject: &Subject) -> Arc<dyn Inode> {
    let (read, write) = (subject.clone(), subject.clone());
    let make = move |_: &Arc<Task>| {
        let mut text = name(&*read.task()?);
        text.push(b'\n');
        Ok(text)
    };
    let store = move |writer: &Arc<Task>, _: &Credentials, bytes: &[u8]| {
        let task = write.task()?;
        if !Arc::ptr_eq(&task.process, &writer.process) {
            return Err(Errno::EINVAL);
        }
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let mut new = [0; 16];
        let len = bytes.len().min(15);
        new[..len].copy_from_slice(&bytes[..len]);
        *task.name.lock() = new;
        Ok(())
    };
    Node::make(at.child(file), 0o644, Body::Text(Box::new(make), Some(Box::new(store))))
}

/// `/proc/PID/oom_score_adj`: remembered, as the host decides who goes when memory is short.
pub(super) fn adjustment_file(at: &At, file: &[u8], subject: &Subject) -> Arc<dyn Inode> {
    let (read, write) = (subject.clone(), subject.clone());
    let make = move |_: &Arc<Task>| Ok(format!("{}\n", read.process()?.oom_adjustment.load(Ordering::Relaxed)).into_bytes());
    let store = move |writer: &Arc<Task>, _: &Credentials, bytes: &[u8]| {
        let text = core::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
        let wanted: i32 = text.trim().parse().map_err(|_| Errno::EINVAL)?;
        if !(-1000..=1000).contains(&wanted) {
            return Err(Errno::EINVAL);
        }
        let adjustment = &write.process()?.oom_adjustment;
        if wanted < adjustment.load(Ordering::Relaxed) && !writer.credentials().has(c::CAP_SYS_RESOURCE) {
            return Err(Errno::EACCES);
        }
        adjustment.store(wanted, Ordering::Relaxed);
        Ok(())
    };
    Node::make(at.child(file), 0o644, Body::Text(Box::new(make), Some(Box::new(store))))
}
