//! How guest code runs on the host, and how its system calls and faults come to the sentry.
//!
//! The interface is narrow so that there can be several platforms, and knows nothing of the kernel core:
//!
//! - [`Memory`] is all memory of all guests: one sparse file that the sentry has mapped whole, and that guests have mapped in pieces. The core
//!   reads and writes it by offset and needs nobody's help for it.
//! - A [`Context`] runs one guest task. It belongs to the thread that made it, for ever. Its driver loops: apply what changed in the address
//!   space ([`Context::apply`]), set registers, [`Context::enter`], look at the [`Event`].
//! - A [`Seed`] is a task-to-be, made by [`Context::spawn`]; it travels to the thread that will own it, and becomes a context there.
//! - A [`Kick`] makes `enter` return, from any thread.
//!
//! - [`traps`] are code that makes calls without a stop, by way of a [`Mailbox`].
//!
//! Registers are fetched when somebody asks: most system calls need no more than what [`Event::Syscall`] carries and a result.

mod mailbox;
mod memory;
pub mod ptrace;
pub mod site;
pub mod traps;

pub use mailbox::Mailbox;
pub use memory::{Memory, OutOfRange};

use rustix::io::Errno;
use std::sync::Arc;

/// All general registers of a task, as ptrace(2) has them.
pub type Registers = libc::user_regs_struct;

/// Guests may map below this address; the rest is the platform's. In bytes.
pub const GUEST_END: u64 = 0x7fff_e000_0000;

/// The size of a page, in bytes.
pub const PAGE: u64 = 4096;

/// Bytes of a task's extended state, as [`Context::fpu`] gives it: what the host's kernel has switched on in this processor.
pub fn extended_state() -> u64 {
    u64::from(std::arch::x86_64::__cpuid_count(0xd, 0).ebx).max(512)
}

/// Why the guest stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It made a system call. Its result goes to [`Context::set_result`].
    Syscall(Call),
    /// A memory access that the host's page tables forbid.
    Fault(Fault),
    /// An exception that isn't about memory: SIGILL, SIGFPE, SIGTRAP, and SIGSEGV for what a processor forbids.
    Exception(Exception),
    /// Somebody kicked it.
    Interrupted,
    /// The host has killed the guest's process, say for want of memory. The context can only be dropped.
    Gone,
}

/// A system call, by the 64-bit convention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which.
    pub number: u64,
    /// rdi, rsi, rdx, r10, r8, r9.
    pub args: [u64; 6],
    /// The address after the instruction.
    pub ip: u64,
    /// The stack pointer.
    pub sp: u64,
    /// It was made by a [trap](traps).
    pub trapped: bool,
    /// It was made already, with this result, by who claimed it from the [`Mailbox`].
    pub answer: Option<u64>,
}

/// What is known of a forbidden access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// SIGSEGV or SIGBUS.
    pub signal: i32,
    /// `si_code`: SEGV_MAPERR (nothing is mapped there), SEGV_ACCERR, BUS_ADRERR…
    pub code: i32,
    /// Where.
    pub address: u64,
    /// What the guest was about.
    pub access: Access,
}

/// What a guest did at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Not known. Where reading is allowed and [`Fault::code`] is SEGV_ACCERR, it was a write.
    Unknown,
    /// Fetched an instruction.
    Execute,
}

/// A processor exception, as a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// The signal.
    pub signal: i32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr`.
    pub address: u64,
}

/// A change of an address space. Addresses, lengths and offsets are in bytes and multiples of [`PAGE`]; all below [`GUEST_END`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapOp {
    /// Maps, shared, in place of what is there.
    Map {
        /// Where.
        start: u64,
        /// How much.
        len: u64,
        /// PROT_*.
        prot: u32,
        /// Of which file.
        source: Source,
        /// From where in the file.
        offset: u64,
    },
    /// Takes away what is mapped there.
    Unmap {
        /// Where.
        start: u64,
        /// How much.
        len: u64,
    },
    /// Changes what is allowed; all of the range must be mapped.
    Protect {
        /// Where.
        start: u64,
        /// How much.
        len: u64,
        /// PROT_*.
        prot: u32,
    },
}

/// What is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The memory file.
    Memory,
    /// An open file of the host's, by its number in the sentry.
    File(i32),
}

/// Whose address space a new task gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpawnKind {
    /// Its parent's.
    Thread,
    /// A copy of its parent's mappings.
    Copy,
    /// An empty one.
    Empty,
}

/// What can go wrong with a context.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host killed the guest's process.
    #[error("the host has killed the guest's process")]
    Gone,
    /// Operations before this one are done, this and later ones aren't.
    #[error("the host refuses change {index} of the guest's address space: {errno}")]
    Map {
        /// The operation, counted from 0.
        index: usize,
        /// The host's reason; INVAL also for a range that no guest may map.
        errno: Errno,
    },
    /// The host was asked for something and refused.
    #[error("can't {what}: {errno}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// The host's reason.
        errno: Errno,
    },
}

/// A result of a platform.
pub type Result<T> = std::result::Result<T, Error>;

/// Names what was tried on the host.
trait Tried<T> {
    fn tried(self, what: &'static str) -> Result<T>;
}

impl<T> Tried<T> for rustix::io::Result<T> {
    fn tried(self, what: &'static str) -> Result<T> {
        self.map_err(|errno| Error::Host { what, errno })
    }
}

/// Runs one guest task; owned by one thread of the sentry. It is stopped whenever [`Self::enter`] isn't running. Dropping it ends the task.
pub trait Context: Sized {
    /// A task that waits for its thread.
    type Seed: Seed<Context = Self>;

    /// Lets the guest run until something happens. A kick that came since the last [`Event::Interrupted`] returns at once.
    fn enter(&mut self) -> Event;

    /// The registers. After a system call rax is -ENOSYS, until a result is set.
    ///
    /// # Errors
    /// [`Error::Gone`].
    fn registers(&mut self) -> Result<&Registers>;

    /// The registers, to be changed. Selectors and flags are made valid when they are loaded, and the call that stopped the guest is over.
    ///
    /// # Errors
    /// [`Error::Gone`].
    fn registers_mut(&mut self) -> Result<&mut Registers>;

    /// Sets rax, without a look at the other registers.
    fn set_result(&mut self, rax: u64);

    /// The state of the floating-point unit and its kin, as `xsave` has it in its standard format.
    ///
    /// # Errors
    /// [`Error::Gone`].
    fn fpu(&mut self) -> Result<Vec<u8>>;

    /// Sets it.
    ///
    /// # Errors
    /// [`Error::Gone`]; [`Error::Host`] for a state the processor can't have, which changes nothing.
    fn set_fpu(&mut self, state: &[u8]) -> Result<()>;

    /// From now on [`Self::enter`] returns after one instruction, with a `SIGTRAP`, until it has returned for that or a system call; or no more.
    fn step(&mut self, steps: bool);

    /// Changes the address space, in order.
    ///
    /// # Errors
    /// [`Error::Map`] names the first operation that failed; [`Error::Gone`].
    fn apply(&mut self, ops: &[MapOp]) -> Result<()>;

    /// Applies the changes, then makes a new task. It has this one's floating-point state; its other registers are for its owner to set.
    ///
    /// # Errors
    /// As [`Self::apply`]; [`Error::Host`] if the host has no room for one more.
    fn spawn(&mut self, kind: SpawnKind, ops: &[MapOp]) -> Result<Self::Seed>;

    /// Its owner waits for something else than the guest, or works for it from now on and competes for a processor. At first, it waits.
    fn rest(&self, rests: bool);

    /// The processors that the guest may be on, a bit each, in the order of those there are.
    fn allow(&self, processors: u64);

    /// The traps of all tasks, if the platform has such.
    fn traps(&self) -> Option<&Arc<traps::Traps>>;

    /// Where its traps leave calls, for other threads. None if there is no place for one.
    ///
    /// # Errors
    /// [`Error::Gone`].
    fn mailbox(&mut self) -> Result<Option<Arc<Mailbox>>>;

    /// The CPUs of all tasks.
    fn cpus(&self) -> Arc<dyn Cpus>;

    /// What makes [`Self::enter`] return, for other threads.
    fn kick(&self) -> Arc<dyn Kick>;
}

/// A task that waits for the thread that will own it.
pub trait Seed: Send + Sized {
    /// What it becomes.
    type Context: Context<Seed = Self>;

    /// Takes it over into this thread.
    ///
    /// # Errors
    /// [`Error::Gone`]; [`Error::Host`] if the host forbids it.
    fn attach(self) -> Result<Self::Context>;
}

/// The CPUs that tasks are on.
pub trait Cpus: Send + Sync {
    /// Moves the calling thread to one on which no task works, if there is one; whether there is.
    fn move_to_spare(&self) -> bool;
}

/// Makes a context's `enter` return [`Event::Interrupted`], or whatever happened first.
pub trait Kick: Send + Sync {
    /// Once is enough: the request stays until `enter` has returned.
    fn kick(&self);
}
