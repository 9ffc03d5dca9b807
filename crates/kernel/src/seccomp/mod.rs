//! Programs that confine themselves, seccomp(2): each call of a task is looked at before it is carried out.

pub mod bpf;
pub(crate) mod notify;

use crate::cpu::{Call, Cpu};
use crate::signal::send::{force, status_of};
use crate::sync::Mutex;
use crate::task::Task;
use crate::trace::Report;
use crate::{Errno, Flow, Result, SysResult};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bpf::{Data, Program};
use core::sync::atomic::{AtomicU32, Ordering};
use insula_abi::Sysno;
use insula_abi::general as c;
use insula_abi::process::SockFilter;
use insula_abi::ptrace::{PTRACE_O_SUSPEND_SECCOMP, PTRACE_O_TRACESECCOMP};
use insula_abi::signal::Siginfo;
use notify::Notifier;

/// `AUDIT_ARCH_X86_64`.
pub const ARCH: u32 = 0xc000_003e;

/// Instructions of all filters of a task, with [`PER_FILTER`] more for each, at most (`MAX_INSNS_PER_PATH`).
const MOST: usize = 32768;
const PER_FILTER: usize = 4;

/// No confinement (`SECCOMP_MODE_DISABLED`).
pub const DISABLED: u32 = 0;
/// Only to read, write, and end (`SECCOMP_MODE_STRICT`).
pub const STRICT: u32 = 1;
/// As filters say (`SECCOMP_MODE_FILTER`).
pub const FILTERED: u32 = 2;

/// What a filter answers (`SECCOMP_RET_*`): the lower, the stricter, taken as a signed number.
pub mod answer {
    #![allow(missing_docs)] // seccomp(2) describes each.
    pub const KILL_PROCESS: u32 = 0x8000_0000;
    pub const KILL_THREAD: u32 = 0;
    pub const TRAP: u32 = 0x0003_0000;
    pub const ERRNO: u32 = 0x0005_0000;
    pub const USER_NOTIF: u32 = 0x7fc0_0000;
    pub const TRACE: u32 = 0x7ff0_0000;
    pub const LOG: u32 = 0x7ffc_0000;
    pub const ALLOW: u32 = 0x7fff_0000;
    /// Those that there are.
    pub const ALL: [u32; 8] = [KILL_PROCESS, KILL_THREAD, TRAP, ERRNO, USER_NOTIF, TRACE, LOG, ALLOW];
}

/// A filter, and those that were there before it.
pub struct Filter {
    program: Program,
    before: Option<Arc<Filter>>,
    /// Instructions of all.
    weight: usize,
    /// Calls that all let through whatever their arguments, by number.
    allowed: [u64; NUMBERS / 64],
    extras: Extras,
}

/// What a filter has beside its program.
#[derive(Default)]
pub struct Extras {
    /// It is to be told of what it refuses (`SECCOMP_FILTER_FLAG_LOG`), though nobody is.
    pub log: bool,
    /// Who is asked about calls.
    pub(crate) notifier: Option<Arc<Notifier>>,
}

/// Calls with higher numbers are always asked about.
const NUMBERS: usize = 512;

/// Which bits are the mode. Beside it: the task is traced, and its calls are its tracer's to see first; its own program answers some.
const MODE: u32 = 0xff;
const TRACED: u32 = 1 << 8;
const SENDS_BACK: u32 = 1 << 9;

/// How a task is confined.
#[derive(Default)]
pub struct Confinement {
    /// `SECCOMP_MODE_*`, [`TRACED`], and [`SENDS_BACK`].
    mode: AtomicU32,
    filter: Mutex<Option<Arc<Filter>>>,
}

impl Confinement {
    /// `SECCOMP_MODE_*`.
    pub fn mode(&self) -> u32 {
        self.mode.load(Ordering::Acquire) & MODE
    }

    /// Whether calls are carried out without a look at anything: nobody traces the task, nothing confines it, and
    /// its program answers none itself.
    pub fn is_free(&self) -> bool {
        self.mode.load(Ordering::Acquire) == DISABLED
    }

    /// Whether the task is traced.
    pub fn is_traced(&self) -> bool {
        self.mode.load(Ordering::Acquire) & TRACED != 0
    }

    /// It is, or isn't.
    pub(crate) fn set_traced(&self, traced: bool) {
        self.set(TRACED, traced);
    }

    /// Whether some of the task's calls are sent back to its own program.
    pub fn sends_back(&self) -> bool {
        self.mode.load(Ordering::Acquire) & SENDS_BACK != 0
    }

    /// They are, or aren't.
    pub(crate) fn set_sends_back(&self, some: bool) {
        self.set(SENDS_BACK, some);
    }

    fn set(&self, bit: u32, on: bool) {
        if on {
            self.mode.fetch_or(bit, Ordering::AcqRel);
        } else {
            self.mode.fetch_and(!bit, Ordering::AcqRel);
        }
    }

    fn set_mode(&self, mode: u32) {
        let _ = self.mode.fetch_update(Ordering::AcqRel, Ordering::Acquire, |before| Some(before & !MODE | mode));
    }

    /// The filters, the newest first.
    fn chain(&self) -> impl Iterator<Item = Arc<Filter>> {
        let newest = self.filter.lock().clone();
        core::iter::successors(newest, |filter| filter.before.clone())
    }

    /// How many filters there are.
    pub fn filters(&self) -> usize {
        self.chain().count()
    }

    /// One of the filters, by how many are older.
    ///
    /// # Errors
    /// `EINVAL`: it isn't confined by filters. `ENOENT`: there are fewer.
    pub(crate) fn nth(&self, index: u64) -> Result<Arc<Filter>> {
        if self.mode() != FILTERED {
            return Err(Errno::EINVAL);
        }
        let older = usize::try_from(index).unwrap_or(usize::MAX);
        let newer = self.filters().checked_sub(older).and_then(|newer| newer.checked_sub(1)).ok_or(Errno::ENOENT)?;
        self.chain().nth(newer).ok_or(Errno::ENOENT)
    }

    /// Whether `task`, whose this is, waits for somebody who decides about its call, and for nothing else.
    pub(crate) fn holds(&self, task: &Task) -> bool {
        self.mode() == FILTERED
            && self.chain().filter_map(|filter| filter.extras.notifier.clone()).any(|notifier| notifier.holds(task))
    }

    /// Its task has ended.
    pub(crate) fn leave(&self) {
        let last = self.filter.lock().take();
        drop(last);
    }

    /// A new task is confined as its maker.
    pub fn inherit(&self, maker: &Confinement) {
        *self.filter.lock() = maker.filter.lock().clone();
        self.set_mode(maker.mode());
    }

    /// From now on only to read, write, and end.
    ///
    /// # Errors
    /// `EINVAL`: there are filters.
    pub fn be_strict(&self) -> Result<()> {
        let strict = |before: u32| (before & MODE != FILTERED).then_some(before & !MODE | STRICT);
        self.mode.fetch_update(Ordering::AcqRel, Ordering::Acquire, strict).map(drop).map_err(|_| Errno::EINVAL)
    }

    /// The filter that would be there with one more.
    ///
    /// # Errors
    /// `EINVAL`: it is strict. `EBUSY`: somebody is asked about calls already. `ENOMEM`: there are too many instructions.
    pub fn with(&self, program: Program, extras: Extras) -> Result<Arc<Filter>> {
        if self.mode() == STRICT {
            return Err(Errno::EINVAL);
        }
        let listens = |filter: Arc<Filter>| filter.extras.notifier.as_ref().is_some_and(|notifier| notifier.is_open());
        if extras.notifier.is_some() && self.chain().any(listens) {
            return Err(Errno::EBUSY);
        }
        let before = self.filter.lock().clone();
        let weight = program.len() + PER_FILTER + before.as_ref().map_or(0, |before| before.weight);
        if weight > MOST {
            return Err(Errno::ENOMEM);
        }
        let mut allowed = before.as_ref().map_or([u64::MAX; NUMBERS / 64], |before| before.allowed);
        for number in 0..NUMBERS {
            if program.always(number as u32) != Some(answer::ALLOW) {
                allowed[number / 64] &= !(1 << (number % 64));
            }
        }
        Ok(Arc::new(Filter { program, before, weight, allowed, extras }))
    }

    /// Whether another task's filters may be put in place of these: there must be none that the other doesn't have.
    pub fn may_become(&self, other: &Confinement) -> bool {
        match (self.mode(), &*self.filter.lock()) {
            (DISABLED, _) => true,
            (FILTERED, Some(own)) => other.chain().any(|filter| Arc::ptr_eq(&filter, own)),
            _ => false,
        }
    }

    /// From now on it is filtered so.
    pub fn filter(&self, filter: Arc<Filter>) {
        let before = self.filter.lock().replace(filter);
        drop(before);
        self.set_mode(FILTERED);
    }

    /// Whether calls of this number are carried out without a look at anything else.
    pub fn lets_through(&self, number: u64) -> bool {
        match self.mode.load(Ordering::Acquire) {
            DISABLED => true,
            FILTERED => {
                let index = usize::try_from(number).unwrap_or(NUMBERS);
                let filter = self.filter.lock();
                let word = filter.as_ref().and_then(|filter| filter.allowed.get(index / 64));
                word.is_some_and(|word| word >> (index % 64) & 1 == 1)
            }
            _ => false,
        }
    }

    /// The strictest answer of all filters, and who is asked for the one that gave it.
    fn ask(&self, data: &Data) -> (u32, Option<Arc<Notifier>>) {
        let newest = self.filter.lock().clone();
        let mut filter = newest.as_deref();
        let (mut strictest, mut asked) = (answer::ALLOW, &None);
        while let Some(Filter { program, before, extras, .. }) = filter {
            let said = program.run(data);
            // Those of equal rank: the newest has the word.
            if rank(said) < rank(strictest) {
                (strictest, asked) = (said, &extras.notifier);
            }
            filter = before.as_deref();
        }
        (strictest, asked.clone())
    }
}

impl Filter {
    /// Its program.
    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// Whether it was to be told of what it refuses.
    pub(crate) fn logs(&self) -> bool {
        self.extras.log
    }
}

/// How strict an answer is; what it says beside doesn't count.
const fn rank(said: u32) -> i32 {
    (said & 0xffff_0000) as i32
}

impl Drop for Filter {
    fn drop(&mut self) {
        if let Some(notifier) = &self.extras.notifier {
            notifier.unused();
        }
        // One after the other, for a chain may be long, and a stack isn't.
        let mut next = self.before.take();
        while let Some(mut filter) = next.and_then(Arc::into_inner) {
            next = filter.before.take();
        }
    }
}

/// What becomes of a call of a confined task; none if it is to be carried out.
///
/// `asked` says that the task's tracer has decided about it already.
pub fn check(task: &Arc<Task>, cpu: &mut dyn Cpu, call: &Call, asked: bool) -> Option<SysResult> {
    if task.confinement.lets_through(call.number) {
        return None;
    }
    match task.confinement.mode() {
        STRICT => {
            const ALLOWED: [Sysno; 4] = [Sysno::read, Sysno::write, Sysno::exit, Sysno::rt_sigreturn];
            let allowed = ALLOWED.iter().any(|allowed| *allowed as u64 == call.number);
            if allowed { None } else { Some(end(task, c::SIGKILL, false)) }
        }
        _ => filtered(task, cpu, call, asked),
    }
}

fn filtered(task: &Arc<Task>, cpu: &mut dyn Cpu, call: &Call, asked: bool) -> Option<SysResult> {
    if task.is_traced() && task.trace.lock().has(PTRACE_O_SUSPEND_SECCOMP) {
        return None;
    }
    let number = call.number as u32;
    let instruction = cpu.regs().rip;
    let data = Data::new(number, instruction, &call.arguments);
    let (said, notifier) = task.confinement.ask(&data);
    let detail = said & 0xffff;
    match said & 0xffff_0000 {
        answer::ALLOW | answer::LOG => None,
        answer::ERRNO if detail == 0 => Some(Ok(Flow::Done(0))),
        answer::ERRNO => Some(Err(Errno(detail.min(4095) as u16))),
        answer::TRAP => {
            let regs = cpu.regs();
            regs.rax = call.number;
            force(task, Siginfo::system_call(instruction, number as i32, ARCH, detail as i32));
            Some(Ok(Flow::Registers))
        }
        answer::TRACE if asked => None,
        answer::TRACE if task.trace.lock().has(PTRACE_O_TRACESECCOMP) => {
            Some(Ok(Flow::Traced(Some(Box::new(Report::Filter(detail))))))
        }
        answer::USER_NOTIF => Some(notifier.map_or(Err(Errno::ENOSYS), |notifier| notifier.ask(task, data))),
        // Nobody traces.
        answer::TRACE => Some(Err(Errno::ENOSYS)),
        answer::KILL_THREAD => Some(end(task, c::SIGSYS, task.process.tasks().len() == 1)),
        _ => Some(end(task, c::SIGSYS, true)),
    }
}

/// The task, or its whole process, ends as if by a signal.
fn end(task: &Arc<Task>, signal: u32, all: bool) -> SysResult {
    let status = status_of(signal as i32, false);
    if all {
        task.process.end(status);
    }
    task.exit(status);
    Ok(Flow::Exit)
}

/// A filter as a program gives it: `struct sock_fprog`.
///
/// # Errors
/// `EFAULT`. `EINVAL`: it isn't a program. `EACCES`: who may gain privileges by execve(2) must not confine what it becomes.
pub fn read(task: &Arc<Task>, address: u64) -> Result<Program> {
    let mm = task.mm();
    let [len, list]: [u64; 2] = mm.get(address)?;
    let len = usize::from(len as u16);
    if len == 0 || len > bpf::LONGEST {
        return Err(Errno::EINVAL);
    }
    let credentials = task.credentials();
    if !credentials.no_new_privileges && !credentials.has_own(c::CAP_SYS_ADMIN) {
        return Err(Errno::EACCES);
    }
    let instructions: Vec<SockFilter> = mm.get_all(list, len)?;
    Program::new(instructions)
}
