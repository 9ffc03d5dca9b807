//! What every isolation boundary offers, and where the state of sandboxes is kept.
//!
//! A [`Boundary`] turns a [`Plan`] into a [`Sandbox`]; callers see nothing of how. What a boundary can't do it refuses before it has
//! made anything. [`store`] keeps what must outlive our processes: facts, each written once and whole, so that a sandbox can be
//! found, judged and removed after any crash.

pub mod store;

pub use store::{Entry, Init, Store};

use insula_spec::plan::Process;
use insula_spec::{Id, Plan};
use rustix::fd::OwnedFd;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// One way to isolate.
pub trait Boundary {
    /// Its name, as `--isolation` takes it.
    fn name(&self) -> &'static str;

    /// Whether it works on this host, and if not, why, in a sentence a user can act on.
    fn probe(&self) -> Support;

    /// Makes a sandbox; its program waits for [`Sandbox::start`].
    ///
    /// # Errors
    /// The plan asks for what the host can't give; then nothing is left behind.
    fn create(&self, plan: Plan, options: Options) -> Result<Box<dyn Sandbox>>;

    /// Finds a sandbox that was made before, by any process.
    ///
    /// # Errors
    /// There is none of that name, or its state can't be read.
    fn open(&self, id: &Id) -> Result<Box<dyn Sandbox>>;

    /// Removes a sandbox, also one whose making was cut off; with `force` its processes are killed first.
    ///
    /// # Errors
    /// As [`Sandbox::delete`].
    fn delete(&self, id: &Id, force: bool) -> Result<()>;
}

/// Whether a boundary works here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// It does.
    Works,
    /// It doesn't, because.
    Missing(String),
}

/// How a sandbox is made, beside what the plan says of it.
#[derive(Debug, Default)]
pub struct Options {
    /// The terminal's other end is sent to this unix socket (runc's `--console-socket`).
    pub console_socket: Option<PathBuf>,
    /// Further descriptors, numbered from 3, that the program gets.
    pub preserve_fds: u32,
    /// The caller stays and waits for the program: it dies with the caller, and nobody else will start it.
    pub attached: bool,
    /// Whose session the program is in.
    pub session: Session,
    /// Standard input, output and error of the program; by default the caller's.
    pub stdio: Option<[OwnedFd; 3]>,
    /// Removed when its program ends, by whoever waits for it.
    pub remove: bool,
    /// The root is moved to its place instead of changed with the old one, which a root in memory (an initramfs) doesn't allow.
    pub no_pivot: bool,
    /// One of this name has ended: it is made once more, in its place, by the plan that is on record.
    pub again: bool,
    /// The program sees the caller's session keyring instead of one of its own.
    pub share_keyring: bool,
    /// What is to be done in the sandbox's own network namespace once that is made.
    pub in_network: Option<InNetwork>,
}

/// Something that the first process does when it has its network namespace, with all rights there and still in the host's root.
pub struct InNetwork(Box<dyn FnOnce() -> Result<()>>);

impl InNetwork {
    /// This; its error is the sandbox's.
    pub fn new(work: impl FnOnce() -> Result<()> + 'static) -> InNetwork {
        InNetwork(Box::new(work))
    }

    /// Does it.
    ///
    /// # Errors
    /// Its own.
    pub fn carry_out(self) -> Result<()> {
        (self.0)()
    }
}

impl std::fmt::Debug for InNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InNetwork")
    }
}

/// Whose session a program is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Session {
    /// Its own, as the OCI runtimes have it.
    #[default]
    Own,
    /// The caller's, as a job of its own on the caller's terminal: what a shell does with a command.
    Job {
        /// It gets the terminal right away.
        foreground: bool,
    },
}

/// A sandbox: from [`Boundary::create`] until [`delete`](Sandbox::delete).
pub trait Sandbox {
    /// Waits until it is ready to start: all its parts are made.
    ///
    /// # Errors
    /// Making it failed inside; it has been removed then.
    fn ready(&mut self) -> Result<()>;

    /// Lets the program run; returns when it does.
    ///
    /// # Errors
    /// The program can't be run, or has been started before.
    fn start(&mut self) -> Result<()>;

    /// Runs one more process in it.
    ///
    /// # Errors
    /// It isn't running, or the program can't be run.
    fn exec(&mut self, process: Process, options: ExecOptions) -> Result<Job>;

    /// Sends a signal, by number, to its first process, or to all.
    ///
    /// # Errors
    /// It has ended.
    fn signal(&mut self, signal: i32, all: bool) -> Result<()>;

    /// Asks it to end: the init of a system as that wants it, any other program by SIGTERM.
    ///
    /// # Errors
    /// It has ended.
    fn shut_down(&mut self) -> Result<()>;

    /// The first process, for who made the sandbox: to wait for, with the terminal if it has one.
    fn job(&mut self) -> Option<Job>;

    /// Stops every process where it is.
    ///
    /// # Errors
    /// The host can't freeze, or the sandbox isn't running.
    fn pause(&mut self) -> Result<()>;

    /// Lets paused processes go on.
    ///
    /// # Errors
    /// It isn't paused.
    fn resume(&mut self) -> Result<()>;

    /// Changes its limits.
    ///
    /// # Errors
    /// The kernel refuses one.
    fn update(&mut self, resources: &insula_spec::resources::Resources) -> Result<()>;

    /// What it uses.
    ///
    /// # Errors
    /// It has ended.
    fn stats(&self) -> Result<Stats>;

    /// Hears of memory that runs out; none if nothing counts its memory.
    ///
    /// # Errors
    /// The host can't tell of it.
    fn alarm(&self) -> Result<Option<Alarm>>;

    /// Its processes.
    ///
    /// # Errors
    /// It has ended.
    fn processes(&self) -> Result<Processes>;

    /// How it is.
    fn status(&self) -> Status;

    /// What is kept of it.
    fn entry(&self) -> &Entry;

    /// Removes it; with `force` its processes are killed first.
    ///
    /// # Errors
    /// It still runs and `force` isn't given, or something can't be removed (trying again is safe).
    fn delete(&mut self, force: bool) -> Result<()>;
}

/// How a process is added to a sandbox.
#[derive(Debug, Default)]
pub struct ExecOptions {
    /// As [`Options::console_socket`].
    pub console_socket: Option<PathBuf>,
    /// As [`Options::preserve_fds`].
    pub preserve_fds: u32,
    /// It goes on when the caller ends.
    pub detached: bool,
    /// As [`Options::session`].
    pub session: Session,
    /// As [`Options::stdio`].
    pub stdio: Option<[OwnedFd; 3]>,
    /// The groups below the sandbox's it is put into: for each, the controllers that are meant (none: all), and the path.
    pub cgroups: Vec<(Vec<String>, PathBuf)>,
    /// A paused sandbox is no reason against it; it begins when that is resumed.
    pub ignore_paused: bool,
}

/// A process that the caller waits for.
#[derive(Debug)]
pub struct Job {
    /// Its number outside.
    pub pid: i32,
    /// Readable when it has ended.
    pub pidfd: OwnedFd,
    /// The other end of its terminal.
    pub terminal: Option<OwnedFd>,
    /// From a first process of ours: one byte whenever the program was stopped, the signal's number; and one when a signal killed it,
    /// 128 and the number.
    pub news: Option<OwnedFd>,
}

/// The processes of a sandbox.
#[derive(Clone, Debug)]
pub enum Processes {
    /// Processes of the host's, by their numbers there.
    Host(Vec<i32>),
    /// Processes of another kernel, which the host doesn't know.
    Inside(Vec<Summary>),
}

/// A process of another kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Its number in the sandbox.
    pub pid: i32,
    /// Its parent's; 0 if nobody in there made it.
    pub parent: i32,
    /// Whose it is.
    pub uid: u32,
    /// How long ago it began.
    pub age: Duration,
    /// How long it was on a processor.
    pub time: Duration,
    /// The number of its terminal in `/dev/pts`.
    pub terminal: Option<u32>,
    /// Its arguments; its name in brackets, if it has none.
    pub command: String,
}

/// How a sandbox is, runtime-spec `runtime.md#state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Being made.
    Creating,
    /// Made; its program waits.
    Created,
    /// Its program runs.
    Running,
    /// Frozen.
    Paused,
    /// Its program has ended.
    Stopped,
}

impl Status {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// What a sandbox uses; absent is not measured, as nothing counts it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of memory at most.
    pub memory_limit: Option<u64>,
    /// Bytes of memory when it was most.
    pub memory_peak: Option<u64>,
    /// Bytes of that which hold files' content.
    pub memory_cache: Option<u64>,
    /// Processes that were killed because memory ran out.
    pub oom_kills: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Processes and threads at most.
    pub pids_limit: Option<u64>,
    /// Microseconds of processor time.
    pub cpu: Option<u64>,
    /// Microseconds of that in programs.
    pub cpu_user: Option<u64>,
    /// Microseconds of that in the kernel.
    pub cpu_system: Option<u64>,
    /// Periods with a quota.
    pub cpu_periods: Option<u64>,
    /// Periods in which the quota was used up.
    pub cpu_throttled_periods: Option<u64>,
    /// Microseconds of waiting for the next period.
    pub cpu_throttled: Option<u64>,
    /// What went to and came from block devices.
    pub block_io: Vec<BlockIo>,
    /// Huge pages, by their size as the kernel writes it (`2MB`).
    pub hugepages: BTreeMap<String, Hugepages>,
}

/// What went to, or came from, a block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BlockIo {
    /// Device number.
    pub major: u32,
    /// Device number.
    pub minor: u32,
    /// `Read`, `Write` and, on v1, what else the kernel tells apart.
    pub operation: String,
    /// Bytes.
    pub bytes: u64,
    /// Requests.
    pub requests: u64,
}

/// Huge pages of a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Hugepages {
    /// Bytes.
    pub usage: u64,
    /// Bytes when it was most (v1).
    pub peak: Option<u64>,
    /// How often there were no more to be had.
    pub failures: u64,
}

impl Stats {
    /// What one of the two knows.
    pub fn or(self, other: Stats) -> Stats {
        Stats {
            memory: self.memory.or(other.memory),
            memory_limit: self.memory_limit.or(other.memory_limit),
            memory_peak: self.memory_peak.or(other.memory_peak),
            memory_cache: self.memory_cache.or(other.memory_cache),
            oom_kills: self.oom_kills.or(other.oom_kills),
            pids: self.pids.or(other.pids),
            pids_limit: self.pids_limit.or(other.pids_limit),
            cpu: self.cpu.or(other.cpu),
            cpu_user: self.cpu_user.or(other.cpu_user),
            cpu_system: self.cpu_system.or(other.cpu_system),
            cpu_periods: self.cpu_periods.or(other.cpu_periods),
            cpu_throttled_periods: self.cpu_throttled_periods.or(other.cpu_throttled_periods),
            cpu_throttled: self.cpu_throttled.or(other.cpu_throttled),
            block_io: if self.block_io.is_empty() { other.block_io } else { self.block_io },
            hugepages: if self.hugepages.is_empty() { other.hugepages } else { self.hugepages },
        }
    }
}

/// Hears of memory that ran out in a sandbox.
#[derive(Debug)]
pub struct Alarm {
    /// Readable when that may have happened.
    pub bell: OwnedFd,
    /// Where it is counted, in a line `oom_kill NUMBER`.
    pub counter: PathBuf,
}

impl Alarm {
    /// How many processes have been killed for it; none when the sandbox is gone.
    pub fn kills(&self) -> Option<u64> {
        let text = std::fs::read_to_string(&self.counter).ok()?;
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
    }

    /// Takes note of what the bell has rung for.
    pub fn hush(&self) {
        while rustix::io::read(&self.bell, &mut [0; 4096]).is_ok_and(|length| length > 0) {}
    }
}

/// Why something couldn't be done with a sandbox.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No sandbox has this name.
    #[error("a sandbox named {0} does not exist; `insula list` shows those that do")]
    NotFound(Id),
    /// The name is taken.
    #[error("a sandbox named {0} exists already; remove it with `insula delete {0}` or choose another name")]
    Exists(Id),
    /// Its making was cut off before anything was on record.
    #[error("{0} was never made; `insula delete {0}` removes what is left of it")]
    Unmade(Id),
    /// It isn't in a state in which that can be done.
    #[error("{id} is {status}; {problem}", status = status.as_str())]
    State {
        /// The sandbox.
        id: Id,
        /// How it is.
        status: Status,
        /// What would have to be different.
        problem: &'static str,
    },
    /// The program is not there: exit code 127.
    #[error("{0}")]
    NoProgram(String),
    /// The program can't be run: exit code 126.
    #[error("{0}")]
    CantRun(String),
    /// The boundary can't do that on this host.
    #[error("{0}")]
    Unsupported(String),
    /// Anything else that went wrong, in one line.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// The exit code for it, as shells and `docker run` have it: 127 no such program, 126 can't be run, 125 anything of ours.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::NoProgram(_) => 127,
            Error::CantRun(_) => 126,
            _ => 125,
        }
    }
}

/// A result of doing something with a sandbox.
pub type Result<T> = std::result::Result<T, Error>;
