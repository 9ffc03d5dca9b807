//! Which CPU a guest task and its thread of the sentry share.
//!
//! They take turns, so one CPU is enough for both, and a switch on one CPU is much cheaper than a wake-up of another. A new task begins on its
//! maker's CPU: most tasks live shortly, while their maker waits for them, or hand work to and fro with it. Where it turns out that
//! tasks compete for a CPU while another has less to do, the *balancer*, a thread of its own, moves one.

use super::raw::Tid;
use super::space::lock;
use rustix::thread::{CpuSet, Pid};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How long the balancer looks away: at least, where tasks compete; at most, where none do; and with a task alone, for which nobody has
/// to look.
const SHORTEST: Duration = Duration::from_millis(4);
const LONGEST: Duration = Duration::from_millis(64);
const ALONE: Duration = Duration::from_secs(3600);

/// Stack of the balancer's thread, in bytes.
const STACK: usize = 64 << 10;

/// The CPUs we may use, and who is on them.
#[derive(Debug)]
pub(super) struct Cpus {
    usable: Vec<usize>,
    tasks: Mutex<Tasks>,
    /// A second task came.
    second: Condvar,
}

#[derive(Debug, Default)]
struct Tasks {
    seated: Vec<Arc<Seated>>,
    /// There is a balancer.
    balanced: bool,
}

/// A task on a CPU.
#[derive(Debug)]
struct Seated {
    /// Which, counted in [`Cpus::usable`].
    index: AtomicUsize,
    /// Its thread of the sentry.
    /// Which it may be on, a bit each; those behind the last bit too.
    allowed: AtomicU64,
    owner: Tid,
    stub: Tid,
    /// It waits, and wants no CPU.
    rests: AtomicBool,
    /// When the balancer looked last, it competed.
    competed: AtomicBool,
}

/// A task's place on a CPU.
#[derive(Debug)]
pub(super) struct Seat {
    cpus: Arc<Cpus>,
    seated: Arc<Seated>,
}

impl Cpus {
    /// Those that this thread may use.
    pub(super) fn new() -> rustix::io::Result<Arc<Cpus>> {
        let allowed = rustix::thread::sched_getaffinity(None)?;
        let usable: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
        Ok(Arc::new(Cpus { tasks: Mutex::default(), usable, second: Condvar::new() }))
    }

    /// Seats the calling thread and its stub thread on the CPU that it is on.
    pub(super) fn seat(self: &Arc<Cpus>, stub: Tid) -> Seat {
        let here = rustix::thread::sched_getcpu();
        let seated = Arc::new(Seated {
            index: AtomicUsize::new(self.usable.iter().position(|cpu| *cpu == here).unwrap_or(0)),
            allowed: AtomicU64::new(u64::MAX),
            owner: rustix::thread::gettid().as_raw_nonzero().get(),
            stub,
            // What is never run never competes.
            rests: AtomicBool::new(true),
            competed: AtomicBool::new(false),
        });
        self.place(&seated);
        let mut tasks = lock(&self.tasks);
        tasks.seated.push(Arc::clone(&seated));
        if tasks.seated.len() == 2 {
            self.have_balancer(&mut tasks);
        }
        Seat { cpus: Arc::clone(self), seated }
    }

    /// Has the host run a task on the CPU it is to have. Being refused only costs time.
    fn place(&self, seated: &Seated) {
        let mut set = CpuSet::new();
        if let Some(cpu) = self.usable.get(seated.index.load(Ordering::Relaxed)) {
            set.set(*cpu);
            let _ = rustix::thread::sched_setaffinity(Pid::from_raw(seated.owner), &set);
            let _ = rustix::thread::sched_setaffinity(Pid::from_raw(seated.stub), &set);
        }
    }

    /// Wakes the balancer, which there is no need of before there are two tasks.
    fn have_balancer(self: &Arc<Cpus>, tasks: &mut Tasks) {
        if tasks.balanced {
            self.second.notify_one();
        } else if self.usable.len() > 1 {
            let cpus = Arc::clone(self);
            let balancer = std::thread::Builder::new().name("balancer".into()).stack_size(STACK);
            // Without one, tasks stay where they began.
            tasks.balanced = balancer.spawn(move || cpus.keep_balance()).is_ok();
        }
    }

    /// Looks away for a while.
    fn pause(&self, time: Duration) {
        let tasks = lock(&self.tasks);
        let alone = tasks.seated.len() < 2;
        let time = if alone { ALONE } else { time };
        drop(self.second.wait_timeout(tasks, time).unwrap_or_else(PoisonError::into_inner));
    }

    /// How many work on each CPU.
    fn busy(&self, tasks: &Tasks) -> Vec<usize> {
        let mut busy = vec![0; self.usable.len()];
        for seated in tasks.seated.iter().filter(|seated| !seated.rests.load(Ordering::Relaxed)) {
            if let Some(busy) = busy.get_mut(seated.index.load(Ordering::Relaxed)) {
                *busy += 1;
            }
        }
        busy
    }

    /// Moves a task if two have competed for a CPU for a while and another CPU has less to do. Whether any compete.
    fn balance(&self) -> bool {
        let tasks = lock(&self.tasks);
        let busy = self.busy(&tasks);
        let working = || tasks.seated.iter().filter(|seated| !seated.rests.load(Ordering::Relaxed));
        let most = (0..busy.len()).max_by_key(|index| busy[*index]).unwrap_or(0);
        let least = (0..busy.len()).min_by_key(|index| busy[*index]).unwrap_or(0);
        let compete = busy[most] >= busy[least] + 2;
        let mut moved = false;
        for seated in working() {
            let competes = compete && seated.index.load(Ordering::Relaxed) == most;
            // Who hands work to and fro isn't found working at once with the other, or not twice.
            if seated.competed.swap(competes, Ordering::Relaxed) && competes && !moved && seated.may_be_on(least) {
                moved = true;
                seated.index.store(least, Ordering::Relaxed);
                self.place(seated);
            }
        }
        compete
    }

    /// The balancer, as long as this process lives.
    fn keep_balance(&self) -> ! {
        // It begins where its maker is.
        let mut all = CpuSet::new();
        self.usable.iter().for_each(|cpu| all.set(*cpu));
        let _ = rustix::thread::sched_setaffinity(None, &all);
        let mut time = SHORTEST;
        loop {
            self.pause(time);
            time = if self.balance() { SHORTEST } else { LONGEST.min(time * 2) };
        }
    }
}

impl super::super::Cpus for Cpus {
    fn move_to_spare(&self) -> bool {
        let busy = self.busy(&lock(&self.tasks));
        let here = rustix::thread::sched_getcpu();
        let spare = |index: &usize| busy[*index] == 0;
        let Some(index) = (0..busy.len()).filter(spare).max_by_key(|index| self.usable[*index] == here) else { return false };
        if self.usable[index] == here {
            return true;
        }
        let mut set = CpuSet::new();
        set.set(self.usable[index]);
        rustix::thread::sched_setaffinity(None, &set).is_ok()
    }
}

impl Seated {
    fn may_be_on(&self, index: usize) -> bool {
        self.allowed.load(Ordering::Relaxed).checked_shr(index as u32).is_none_or(|rest| rest & 1 != 0)
    }
}

impl Seat {
    /// The task may be on these CPUs, and goes to the one of them that has least to do, if it is on another.
    pub(super) fn allow(&self, processors: u64) {
        let tasks = lock(&self.cpus.tasks);
        self.seated.allowed.store(processors, Ordering::Relaxed);
        if self.seated.may_be_on(self.seated.index.load(Ordering::Relaxed)) {
            return;
        }
        let busy = self.cpus.busy(&tasks);
        if let Some(index) = (0..busy.len()).filter(|index| self.seated.may_be_on(*index)).min_by_key(|index| busy[*index]) {
            self.seated.index.store(index, Ordering::Relaxed);
            self.cpus.place(&self.seated);
        }
    }

    /// The task waits for something, or goes on.
    pub(super) fn rest(&self, rests: bool) {
        self.seated.rests.store(rests, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut tasks = lock(&self.cpus.tasks);
        tasks.seated.retain(|seated| !Arc::ptr_eq(seated, &self.seated));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A task of this test's thread that wants to work on the first of two CPUs.
    fn seated() -> Arc<Seated> {
        let owner = rustix::thread::gettid().as_raw_nonzero().get();
        let (rests, competed) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Seated { index: AtomicUsize::new(0), allowed: AtomicU64::new(u64::MAX), owner, stub: owner, rests, competed })
    }

    #[test]
    fn who_competes_is_moved_and_who_rests_is_not() {
        let here = rustix::thread::sched_getcpu();
        let seated: Vec<_> = (0..3).map(|_| seated()).collect();
        seated[2].rests.store(true, Ordering::Relaxed);
        let tasks = Mutex::new(Tasks { seated: seated.clone(), balanced: true });
        // Twice the same: what the host makes of it isn't tested.
        let cpus = Cpus { usable: vec![here, here], tasks, second: Condvar::new() };
        let places = || seated.iter().map(|seated| seated.index.load(Ordering::Relaxed)).collect::<Vec<_>>();
        assert!(cpus.balance());
        assert_eq!(places(), [0, 0, 0], "once may be chance");
        assert!(cpus.balance());
        assert_eq!(places(), [1, 0, 0]);
        assert!(!cpus.balance());
        seated[2].rests.store(false, Ordering::Relaxed);
        assert!(!cpus.balance() && !cpus.balance());
        assert_eq!(places(), [1, 0, 0], "three on two CPUs are as even as can be");
    }
}
