//! A thread that looks into the mailboxes of tasks that make many calls, and makes those calls for them.
//!
//! It takes a CPU on which no task works, and turns there as long as there is something to do: that costs a program a tenth of a stop and go. Where there is no
//! such CPU, or nothing to do any more, it sleeps, and the tasks' own threads make their calls as ever. Only calls that end at once are
//! finished here; what waits, or changes the address space, or has a signal come with it, is handed to the task's thread.

use crate::platform::{Call, Cpus, Mailbox};
use insula_abi::Sysno;
use insula_kernel::cpu::Cpu;
use insula_kernel::flow::SysResult;
use insula_kernel::syscall::dispatch;
use insula_kernel::task::Task;
use insula_kernel::{Flow, Kernel, Regs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Stack of the thread, in bytes: as a task's.
const STACK: usize = 256 << 10;

/// How often it looks before it sees what else there is to do: some microseconds.
const LOOKS: u32 = 64;

/// So often in vain, and it sleeps. It counts, as the clock goes on while the host has it wait.
const VAIN: u32 = 48;

/// How often it sees to it that no task wants its CPU.
const ROUND: Duration = Duration::from_millis(1);

/// Who needs so long to look so often, and for each call so much, has had to wait for others who want the CPU: then tasks are better off by
/// themselves.
const LATE: Duration = Duration::from_millis(2);
const CALL: Duration = Duration::from_micros(100);

/// Where fewer calls were made than this, waking up wasn't worth it.
const WORTHWHILE: u64 = 32;

/// How long it isn't woken after that: at first, and at most.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(128);

/// Tasks it looks after at a time.
const MOST: usize = 16;

/// Calls that are about the registers, the thread or the address space of who makes them.
const OWN: [Sysno; 23] = [
    Sysno::arch_prctl,
    Sysno::brk,
    Sysno::clone,
    Sysno::clone3,
    Sysno::execve,
    Sysno::execveat,
    Sysno::exit,
    Sysno::exit_group,
    Sysno::fork,
    Sysno::getcpu,
    Sysno::mmap,
    Sysno::mprotect,
    Sysno::mremap,
    Sysno::munmap,
    Sysno::prctl,
    Sysno::restart_syscall,
    Sysno::rt_sigreturn,
    Sysno::sched_setaffinity,
    Sysno::sched_yield,
    Sysno::shmat,
    Sysno::shmdt,
    Sysno::sigaltstack,
    Sysno::vfork,
];

/// Whether others than a task's own thread can make a call for it.
pub(super) fn can_make(number: u64) -> bool {
    !OWN.iter().any(|own| *own as u64 == number)
}

/// A task with a mailbox.
pub(super) struct Desk {
    kernel: Arc<Kernel>,
    /// Its end isn't to wait for us.
    task: Weak<Task>,
    mailbox: Arc<Mailbox>,
    /// Of a call that isn't over.
    handed: Mutex<Option<SysResult>>,
}

impl Desk {
    pub(super) fn new(task: &Arc<Task>, mailbox: Arc<Mailbox>) -> Arc<Desk> {
        Arc::new(Desk { kernel: task.kernel().clone(), task: Arc::downgrade(task), mailbox, handed: Mutex::new(None) })
    }

    /// What became of a call whose rest is the owner's to do.
    pub(super) fn take(&self) -> Option<SysResult> {
        lock(&self.handed).take()
    }

    /// Makes the call that waits, if one does. Whether one did.
    fn serve(&self) -> bool {
        let Some(call) = self.mailbox.claim() else { return false };
        let task = self.task.upgrade();
        let simple = |task: &Arc<Task>| can_make(call.number) && task.confinement.lets_through(call.number);
        let Some(task) = task.filter(|task| simple(task) && !is_wanted(task)) else {
            self.mailbox.refuse();
            return true;
        };
        match self.make(&task, &call) {
            Ok(Flow::Done(value)) if !is_wanted(&task) => self.mailbox.answer(value),
            Err(errno) if !errno.restarts() && !is_wanted(&task) => self.mailbox.answer(errno.to_result()),
            unfinished => {
                *lock(&self.handed) = Some(unfinished);
                self.mailbox.refuse();
            }
        }
        true
    }

    fn make(&self, task: &Arc<Task>, call: &Call) -> SysResult {
        let made = insula_kernel::cpu::Call { number: call.number, arguments: call.args };
        dispatch(&self.kernel, task, &mut Nobody::default(), &made)
    }
}

/// Whether a task's own thread has something to do before the program goes on.
fn is_wanted(task: &Task) -> bool {
    task.interrupted() || task.mm().has_changes()
}

/// The processor of nobody: calls that ask for registers aren't made here.
#[derive(Default)]
struct Nobody(Regs);

impl Cpu for Nobody {
    fn regs(&mut self) -> &mut Regs {
        debug_assert!(false, "a call that asks for registers is made by its own thread");
        &mut self.0
    }

    fn extended(&mut self) -> Vec<u8> {
        Vec::new()
    }

    fn set_extended(&mut self, _: &[u8]) -> bool {
        false
    }
}

/// The one of this process, which has one sandbox.
static DISPATCHER: OnceLock<Dispatcher> = OnceLock::new();

struct Dispatcher {
    cpus: Arc<dyn Cpus>,
    state: Mutex<State>,
    woken: Condvar,
    /// There are new desks.
    more: AtomicBool,
}

#[derive(Default)]
struct State {
    wanted: Vec<Arc<Desk>>,
    /// Not to be woken before.
    rests_until: Option<Instant>,
}

/// Has a task's mailbox looked into, if there is a CPU for it and it is worth it.
pub(super) fn watch(desk: &Arc<Desk>, cpus: impl FnOnce() -> Arc<dyn Cpus>) {
    let dispatcher = DISPATCHER.get_or_init(|| Dispatcher {
        cpus: cpus(),
        state: Mutex::default(),
        woken: Condvar::new(),
        more: AtomicBool::new(false),
    });
    let mut state = lock(&dispatcher.state);
    if state.rests_until.is_some_and(|until| Instant::now() < until) || state.wanted.len() >= MOST {
        return;
    }
    state.wanted.push(desk.clone());
    dispatcher.more.store(true, Ordering::Relaxed);
    dispatcher.woken.notify_one();
    drop(state);
    static STARTED: OnceLock<bool> = OnceLock::new();
    STARTED.get_or_init(|| {
        let thread = std::thread::Builder::new().name("dispatcher".into()).stack_size(STACK);
        // Without one, tasks make their calls themselves.
        thread.spawn(|| DISPATCHER.get().map(Dispatcher::work)).is_ok()
    });
}

impl Dispatcher {
    /// As long as this process lives.
    fn work(&self) {
        let mut rest = SHORTEST;
        loop {
            let desks = self.sleep();
            let worth = self.cpus.move_to_spare() && self.turn(desks);
            rest = if worth { SHORTEST } else { LONGEST.min(rest * 2) };
            lock(&self.state).rests_until = (!worth).then(|| Instant::now() + rest);
        }
    }

    /// Waits for somebody to look after.
    fn sleep(&self) -> Vec<Arc<Desk>> {
        let mut state = lock(&self.state);
        while state.wanted.is_empty() {
            state = self.woken.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        self.more.store(false, Ordering::Relaxed);
        std::mem::take(&mut state.wanted)
    }

    /// Looks after desks until there is nothing to do, or no CPU to do it on. Whether it was worth it, and would be again.
    fn turn(&self, mut desks: Vec<Arc<Desk>>) -> bool {
        desks.iter().for_each(|desk| desk.mailbox.set_watched(true));
        let mut served = 0;
        let mut vain = 0;
        let mut late = false;
        let (mut round, mut last) = (Instant::now(), Instant::now());
        while vain < VAIN && !late {
            let before = served;
            for _ in 0..LOOKS {
                served += desks.iter().filter(|desk| desk.serve()).count() as u64;
                std::hint::spin_loop();
            }
            vain = if served == before { vain + 1 } else { 0 };
            let now = Instant::now();
            late = now - last > LATE + CALL * (served - before) as u32;
            last = now;
            if self.more.swap(false, Ordering::Relaxed) {
                self.admit(&mut desks);
            }
            if now - round > ROUND {
                if !self.cpus.move_to_spare() {
                    break;
                }
                round = now;
            }
        }
        desks.iter().for_each(|desk| desk.mailbox.set_watched(false));
        // Who asked just before is answered.
        served += desks.iter().filter(|desk| desk.serve()).count() as u64;
        served >= WORTHWHILE && !late
    }

    /// Takes new desks in; one that was here may have been found unwatched.
    fn admit(&self, desks: &mut Vec<Arc<Desk>>) {
        for desk in std::mem::take(&mut lock(&self.state).wanted) {
            desk.mailbox.set_watched(true);
            desks.retain(|known| !Weak::ptr_eq(&known.task, &desk.task));
            if desks.len() < MOST {
                desks.push(desk);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
