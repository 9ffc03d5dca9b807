//! For tests: a kernel on a host that is a vector of bytes and a clock set by hand, and calls that are polled by hand.

#![allow(dead_code)] // Each family's tests use some of it.

extern crate std;

use crate::cpu::Cpu;
use crate::flow::Blocked;
use crate::fs::tmpfs::{Options, Tmpfs};
use crate::fs::tree::{Lookup, MountFlags, Namespace};
use crate::fs::types::Making;
use crate::fs::{Context, Description, Descriptors, File};
use crate::host::{Clock, Entropy, Host, Machine, Memory};
use crate::mm::{Area, Layout, MapRequest, Mm, Place, Protection};
use crate::signal::SigSet;
use crate::sync::Mutex;
use crate::task::{Credentials, Limits, Parts, Process, Task};
use crate::{Errno, Flow, Kernel, Regs, Result};
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::task::{Context as PollContext, Poll, Waker};
use insula_abi::Sysno;
use insula_abi::general as c;

/// Bytes of memory of a test's sandbox.
const MEMORY: usize = 16 << 20;

/// The layout of address spaces in tests.
pub(crate) const LAYOUT: Layout = Layout { low: 0x1_0000, high: 0x7fff_0000_0000, mmap_top: 0x7ffe_0000_0000 };

/// The machine of tests.
pub(crate) const MACHINE: Machine = Machine {
    user: LAYOUT.low..LAYOUT.high,
    extended: 576,
    capabilities: 0,
    capabilities2: 0,
    vdso: None,
    vsyscall: false,
    processors: 2,
};

/// A clock that is set by hand.
#[derive(Default)]
pub(crate) struct HandClock {
    now: AtomicU64,
    /// When [`Clock::arm`] wants to be told.
    pub(crate) armed: AtomicU64,
}

/// What realtime is when the monotonic clock begins: some moment in 2023.
pub(crate) const EPOCH: u64 = 1_700_000_000_000_000_000;

impl Clock for HandClock {
    fn monotonic(&self) -> u64 {
        self.now.load(Ordering::SeqCst)
    }

    fn realtime(&self) -> u64 {
        EPOCH + self.monotonic()
    }

    fn other(&self, id: u32) -> u64 {
        if id == c::CLOCK_REALTIME_COARSE { self.realtime() } else { self.monotonic() }
    }

    fn arm(&self, at: u64) {
        self.armed.store(at, Ordering::SeqCst);
    }
}

struct Counting;

impl Entropy for Counting {
    fn fill(&self, buffer: &mut [u8]) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        for byte in buffer {
            *byte = (NEXT.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed) >> 32) as u8;
        }
    }
}

/// Memory that is a vector.
pub(crate) struct Bytes(Mutex<Vec<u8>>);

impl Default for Bytes {
    fn default() -> Self {
        Bytes(Mutex::new(alloc::vec![0; MEMORY]))
    }
}

impl Memory for Bytes {
    fn order(&self) -> bool {
        true
    }

    fn size(&self) -> u64 {
        MEMORY as u64
    }

    fn read(&self, at: u64, into: &mut [u8]) {
        into.copy_from_slice(&self.0.lock()[at as usize..][..into.len()]);
    }

    fn write(&self, at: u64, from: &[u8]) {
        self.0.lock()[at as usize..][..from.len()].copy_from_slice(from);
    }

    fn copy(&self, from: u64, to: u64, len: u64) {
        self.0.lock().copy_within(from as usize..(from + len) as usize, to as usize);
    }

    fn zero(&self, range: Range<u64>) {
        self.discard(range);
    }

    fn load(&self, at: u64) -> u32 {
        let mut word = [0; 4];
        self.read(at, &mut word);
        u32::from_ne_bytes(word)
    }

    fn compare_exchange(&self, at: u64, old: u32, new: u32) -> u32 {
        let mut bytes = self.0.lock();
        let word = &mut bytes[at as usize..][..4];
        let found = u32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
        if found == old {
            word.copy_from_slice(&new.to_ne_bytes());
        }
        found
    }

    fn discard(&self, range: Range<u64>) {
        self.0.lock()[range.start as usize..range.end as usize].fill(0);
    }
}

/// A kernel with its host.
pub(crate) struct World {
    /// The kernel.
    pub(crate) kernel: Arc<Kernel>,
    /// Its clock.
    pub(crate) clock: Arc<HandClock>,
    /// Its tree: an empty tmpfs.
    pub(crate) namespace: Arc<Namespace>,
}

impl World {
    /// A kernel without tasks, one second after its clock began.
    pub(crate) fn new() -> World {
        let clock = Arc::new(HandClock { now: AtomicU64::new(1_000_000_000), armed: AtomicU64::new(u64::MAX) });
        let memory = Arc::new(Bytes::default());
        let kernel =
            Kernel::new(Host { clock: clock.clone(), entropy: Arc::new(Counting), memory, machine: MACHINE, network: None });
        let root = Tmpfs::root(&kernel, &Options { mode: 0o755, ..Options::default() });
        let namespace = kernel.file_systems.namespace("tmpfs", root, MountFlags::empty(), b"root");
        World { kernel, clock, namespace }
    }

    /// Time goes on by so many nanoseconds; alarms whose moment came go off.
    pub(crate) fn advance(&self, by: u64) {
        self.clock.now.fetch_add(by, Ordering::SeqCst);
        self.kernel.timers.expire();
    }

    /// A process of one task, the superuser's, with everything its own.
    pub(crate) fn process(&self) -> Arc<Task> {
        let tid = self.kernel.pids.allocate().expect("a number");
        let parts = Parts {
            tid,
            process: Process::new(tid, Default::default(), Limits::default(), Arc::default(), 0),
            mm: Mm::new(&self.kernel.frames, LAYOUT),
            descriptors: Descriptors::new(),
            fs: Arc::new(Mutex::new(Context::new(&self.namespace))),
            spaces: None,
            credentials: Arc::new(Credentials::root(u64::MAX)),
            name: *b"test\0\0\0\0\0\0\0\0\0\0\0\0",
            blocked: SigSet::EMPTY,
        };
        let task = Task::new(&self.kernel, parts);
        self.kernel.enlist(&task);
        task
    }

    /// One more task of that task's process.
    pub(crate) fn thread(&self, of: &Arc<Task>) -> Arc<Task> {
        let parts = Parts {
            tid: self.kernel.pids.allocate().expect("a number"),
            process: of.process.clone(),
            mm: of.mm(),
            descriptors: of.descriptors(),
            fs: of.fs(),
            spaces: None,
            credentials: of.credentials(),
            name: *of.name.lock(),
            blocked: SigSet::EMPTY,
        };
        let task = Task::new(&self.kernel, parts);
        self.kernel.pids.lock().adopt(&task);
        of.process.lock().threads.insert(task.tid(), task.clone());
        task
    }

    /// Begins a call.
    pub(crate) fn call(&self, task: &Arc<Task>, number: Sysno, arguments: &[u64]) -> Call {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        let call = crate::cpu::Call { number: number as u64, arguments: all };
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        let state = match crate::syscall::dispatch(&self.kernel, task, &mut Registers::default(), &call) {
            Ok(Flow::Done(value)) => State::Over(Ok(value)),
            Ok(Flow::Block(future)) => State::Waits(future),
            Ok(_) => State::Over(Err(Errno::ENOSYS)),
            Err(errno) => State::Over(Err(errno)),
        };
        let mut call = Call { state, flag };
        call.poll();
        call
    }

    /// A call that doesn't wait.
    pub(crate) fn now(&self, task: &Arc<Task>, number: Sysno, arguments: &[u64]) -> Result<u64> {
        self.call(task, number, arguments).result()
    }
}

/// A processor that nobody runs on.
#[derive(Default)]
pub(crate) struct Registers {
    pub(crate) general: Regs,
    pub(crate) extended: Vec<u8>,
}

impl Cpu for Registers {
    fn regs(&mut self) -> &mut Regs {
        &mut self.general
    }

    fn extended(&mut self) -> Vec<u8> {
        self.extended.clone()
    }

    fn set_extended(&mut self, state: &[u8]) -> bool {
        self.extended = state.to_vec();
        true
    }
}

/// Mounts a new file system.
pub(crate) fn mount(task: &Arc<Task>, path: &[u8], kind: &[u8]) {
    let kernel = task.kernel();
    let place = crate::fs::tree::walk::resolve(task, insula_abi::general::AT_FDCWD, path, Lookup::FOLLOW).expect("a place");
    let mount = kernel
        .file_systems
        .mount(kind, MountFlags::empty(), Making { kernel, task: None, source: kind, data: b"" })
        .expect("a file system");
    let namespace = task.fs().lock().namespace.clone();
    namespace.mount(&mount, &place).expect("mounted");
}

/// Gives a task a descriptor of a file.
pub(crate) fn install(task: &Arc<Task>, file: Arc<dyn File>, flags: u32) -> u64 {
    task.descriptors().add(Description::new(file, None, flags), false, 0, 1024).expect("a descriptor") as u64
}

/// Gives a task so many bytes of memory.
pub(crate) fn memory(task: &Arc<Task>, len: u64) -> u64 {
    let area = Area::anonymous(Protection::READ | Protection::WRITE);
    task.mm().map(MapRequest { place: Place::Hint(0), len, area }).expect("memory")
}

/// Gives a task so many bytes of memory at an address.
pub(crate) fn memory_at(task: &Arc<Task>, at: u64, len: u64) {
    let area = Area::anonymous(Protection::READ | Protection::WRITE);
    task.mm().map(MapRequest { place: Place::Replace(at), len, area }).expect("memory");
}

/// Gives a task bytes in its memory.
pub(crate) fn bytes(task: &Arc<Task>, from: &[u8]) -> u64 {
    let at = memory(task, from.len().max(1) as u64);
    task.mm().write(at, from).expect("just mapped");
    at
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A call that was begun.
pub(crate) struct Call {
    state: State,
    flag: Arc<Flag>,
}

enum State {
    Waits(Blocked),
    Over(Result<u64>),
}

impl Call {
    /// Lets it go on, whether or not it was woken; answers the result, if there is one now.
    pub(crate) fn poll(&mut self) -> Option<Result<u64>> {
        if let State::Waits(future) = &mut self.state {
            self.flag.0.store(false, Ordering::SeqCst);
            let waker = Waker::from(self.flag.clone());
            if let Poll::Ready(outcome) = future.as_mut().poll(&mut PollContext::from_waker(&waker)) {
                self.state = State::Over(outcome);
            }
        }
        match &self.state {
            State::Over(outcome) => Some(*outcome),
            State::Waits(_) => None,
        }
    }

    /// Whether it waits, and nobody has woken it.
    pub(crate) fn sleeps(&self) -> bool {
        matches!(self.state, State::Waits(_)) && !self.flag.0.load(Ordering::SeqCst)
    }

    /// What comes of it if it is polled only when it was woken, as a placement does.
    pub(crate) fn woken(&mut self) -> Option<Result<u64>> {
        if self.sleeps() { None } else { self.poll() }
    }

    /// Its result; it must be over.
    pub(crate) fn result(mut self) -> Result<u64> {
        self.poll().expect("the call waits")
    }
}
