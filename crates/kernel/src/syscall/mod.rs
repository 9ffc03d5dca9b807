//! System calls: a handler for each, in a file for each family, and the table of what is supported.
//!
//! A family's file has its handlers and a table of them ([`Entry`]). [`dispatch`] finds the handler by number.

use crate::cpu::{Call, Cpu};
use crate::flow::{Flow, SysResult};
use crate::sync::Mutex;
use crate::task::Task;
use crate::{Errno, Kernel};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use insula_abi::Sysno;
use insula_abi::zerocopy::{FromBytes, IntoBytes};

pub(crate) mod aio;
mod attributes;
mod directory;
mod events;
pub(crate) mod exec;
mod fcntl;
mod futex;
mod handles;
pub(crate) mod identity;
mod inotify;
mod io;
pub(crate) mod limits;
mod membarrier;
mod memfd;
mod memory;
mod message;
mod mount;
mod mounting;
mod mqueue;
mod names;
pub(crate) mod open;
mod pipe;
mod poll;
pub(crate) mod prctl;
pub(crate) mod process;
mod ptrace;
mod random;
mod remote;
pub(crate) mod scheduling;
mod seccomp;
pub(crate) mod signal;
mod socket;
pub(crate) mod stat;
pub(crate) mod system;
mod sysvipc;
mod time;
mod timers;
mod transfer;
pub(crate) mod user_dispatch;
mod xattr;

/// What a handler works with.
pub struct Cx<'a> {
    /// The kernel.
    pub kernel: &'a Arc<Kernel>,
    /// Who calls.
    pub task: &'a Arc<Task>,
    /// Its processor.
    pub cpu: &'a mut dyn Cpu,
}

/// The six arguments.
pub type Args = [u64; 6];

/// A handler: what the manual page says, in code.
pub type Handler = fn(&mut Cx<'_>, Args) -> SysResult;

/// How far a call is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// As Linux has it.
    Full,
    /// With what is missing, in a few words.
    Partial(&'static str),
}

/// A call that is supported.
pub struct Entry {
    /// Which.
    pub number: Sysno,
    /// How far.
    pub level: Level,
    /// By what.
    pub handler: Handler,
}

/// A table's row.
pub(crate) const fn full(number: Sysno, handler: Handler) -> Entry {
    Entry { number, level: Level::Full, handler }
}

/// A table's row for a call that isn't supported whole.
pub(crate) const fn partial(number: Sysno, missing: &'static str, handler: Handler) -> Entry {
    Entry { number, level: Level::Partial(missing), handler }
}

/// All families.
#[rustfmt::skip] // One a line.
pub const FAMILIES: &[&[Entry]] = &[
    aio::CALLS,
    attributes::CALLS,
    directory::CALLS,
    events::CALLS,
    exec::CALLS,
    fcntl::CALLS,
    futex::CALLS,
    handles::CALLS,
    identity::CALLS,
    inotify::CALLS,
    io::CALLS,
    membarrier::CALLS,
    memfd::CALLS,
    limits::CALLS,
    memory::CALLS,
    mount::CALLS,
    mounting::CALLS,
    message::CALLS,
    mqueue::CALLS,
    names::CALLS,
    open::CALLS,
    pipe::CALLS,
    poll::CALLS,
    prctl::CALLS,
    process::CALLS,
    ptrace::CALLS,
    random::CALLS,
    remote::CALLS,
    scheduling::CALLS,
    seccomp::CALLS,
    signal::CALLS,
    socket::CALLS,
    stat::CALLS,
    system::CALLS,
    sysvipc::CALLS,
    time::CALLS,
    timers::CALLS,
    transfer::CALLS,
    xattr::CALLS,
];

/// Every call of Linux, by number, and how far it is supported; those without a level are answered with `ENOSYS`.
pub fn support() -> impl Iterator<Item = (Sysno, Option<Level>)> {
    let level = |call| FAMILIES.iter().copied().flatten().find(|entry| entry.number == call).map(|entry| entry.level);
    Sysno::iter().map(move |call| (call, level(call)))
}

/// Calls answered with `ENOSYS`, counted by number.
#[derive(Default)]
pub struct Refusals(Mutex<BTreeMap<u64, u64>>);

impl Refusals {
    /// Numbers and how often.
    pub fn all(&self) -> BTreeMap<u64, u64> {
        self.0.lock().clone()
    }

    fn count(&self, number: u64) {
        let mut counts = self.0.lock();
        // A hostile program has 2^64 numbers to try.
        if counts.len() < 1024 || counts.contains_key(&number) {
            *counts.entry(number).or_default() += 1;
        }
    }
}

/// Numbers above the last call are refused without a look.
const NUMBERS: usize = 512;

/// Handlers by number.
static TABLE: [Option<Handler>; NUMBERS] = table();

const fn table() -> [Option<Handler>; NUMBERS] {
    let mut table = [None; NUMBERS];
    let mut family = 0;
    while family < FAMILIES.len() {
        let mut index = 0;
        while index < FAMILIES[family].len() {
            let entry = &FAMILIES[family][index];
            let number = entry.number as usize;
            assert!(table[number].is_none(), "a call with two handlers");
            table[number] = Some(entry.handler);
            index += 1;
        }
        family += 1;
    }
    table
}

/// Carries out a call. What it answers is not in the registers yet.
///
/// # Errors
/// What the program is to be told, or one of the numbers that [`Errno::restarts`].
pub fn dispatch(kernel: &Arc<Kernel>, task: &Arc<Task>, cpu: &mut dyn Cpu, call: &Call) -> SysResult {
    if task.confinement.is_free() {
        return carry_out(kernel, task, cpu, call);
    }
    if task.confinement.sends_back()
        && let Some(outcome) = user_dispatch::check(task, cpu, call)
    {
        return outcome;
    }
    if task.is_traced() {
        return Ok(Flow::Traced(None));
    }
    dispatch_confined(kernel, task, cpu, call, false)
}

/// Carries out a call as far as filters let it, without a word to a tracer; `asked` says that it has been told what a filter told to tell it.
///
/// # Errors
/// Those of [`dispatch`].
pub fn dispatch_confined(kernel: &Arc<Kernel>, task: &Arc<Task>, cpu: &mut dyn Cpu, call: &Call, asked: bool) -> SysResult {
    let refused = crate::seccomp::check(task, cpu, call, asked);
    refused.unwrap_or_else(|| carry_out(kernel, task, cpu, call))
}

/// Carries out a call about which nobody has anything to say any more.
///
/// # Errors
/// Those of [`dispatch`].
pub fn carry_out(kernel: &Arc<Kernel>, task: &Arc<Task>, cpu: &mut dyn Cpu, call: &Call) -> SysResult {
    match usize::try_from(call.number).ok().and_then(|number| TABLE.get(number)).copied().flatten() {
        Some(handler) => handler(&mut Cx { kernel, task, cpu }, call.arguments),
        None => {
            kernel.refused.count(call.number);
            Err(Errno::ENOSYS)
        }
    }
}

/// The register that holds a result.
pub fn result(outcome: crate::Result<u64>) -> u64 {
    outcome.unwrap_or_else(Errno::to_result)
}

/// A structure that may grow in later versions of the interface: the program says how long it knows it to be, at least `least` bytes. What we
/// don't know must be zeros.
///
/// # Errors
/// `EINVAL`: too short. `E2BIG`: longer, and not zeros. `EFAULT`.
pub(crate) fn structure<T: FromBytes + IntoBytes>(task: &Arc<Task>, address: u64, size: u64, least: usize) -> crate::Result<T> {
    if size < least as u64 {
        return Err(Errno::EINVAL);
    }
    if size > insula_abi::PAGE {
        return Err(Errno::E2BIG);
    }
    let mut bytes = alloc::vec![0; size as usize];
    task.mm().read(address, &mut bytes)?;
    let known = bytes.len().min(size_of::<T>());
    if bytes[known..].iter().any(|byte| *byte != 0) {
        return Err(Errno::E2BIG);
    }
    let mut value = T::new_zeroed();
    value.as_mut_bytes()[..known].copy_from_slice(&bytes[..known]);
    Ok(value)
}
