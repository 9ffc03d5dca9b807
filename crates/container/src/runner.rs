//! A container whose program isn't run by the host's kernel: another kernel stands in it, and runs the program.
//!
//! The container gives it what every program gets: a root with all mounts, namespaces, groups with limits, a record that survives a
//! crash, a terminal, standard streams. Where a container's first process would exec its program, it calls [`Runner::run`] instead.

use crate::channel::{Channel, Message, failed};
use crate::init::{Identity, Surroundings, settle};
use insula_boundary::{Error, ExecOptions, Job, Result, Summary};
use insula_spec::Plan;
use insula_spec::plan::{Process, User};
use insula_sys::Context;
use insula_sys::seccomp::Instruction;
use rustix::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Another kernel.
pub trait Runner: std::fmt::Debug + Send + Sync {
    /// The name of the boundary it makes, for the record.
    fn boundary(&self) -> &'static str;

    /// What of a plan the container is to carry out: what the other kernel does itself is left out.
    ///
    /// # Errors
    /// [`Error::Unsupported`], with the field's name: neither can do it.
    fn container_plan(&self, plan: &Plan) -> Result<Plan>;

    /// Runs the program; ends this process with it. Returns only why it couldn't be run.
    fn run(&self, inside: Inside<'_>) -> Error;

    /// Has the kernel of a container that runs, which `control` leads to, run one more process.
    ///
    /// # Errors
    /// As [`insula_boundary::Sandbox::exec`].
    fn exec(&self, plan: &Plan, control: OwnedFd, process: Process, options: ExecOptions) -> Result<Job>;

    /// The processes of the kernel that `control` leads to.
    ///
    /// # Errors
    /// It doesn't answer.
    fn processes(&self, control: OwnedFd) -> Result<Vec<Summary>>;

    /// Sends a signal to all of them.
    ///
    /// # Errors
    /// It doesn't answer.
    fn signal_all(&self, control: OwnedFd, signal: i32) -> Result<()>;

    /// Tells it how many bytes its group may have from now on, if they are limited. One that can't answer `now` hears it once it goes on.
    ///
    /// # Errors
    /// It doesn't answer.
    fn limit_memory(&self, control: OwnedFd, most: Option<u64>, now: bool) -> Result<()>;
}

/// What a runner finds: it is in the container's root and in all its namespaces, with all privileges still, in its own session.
pub struct Inside<'p> {
    /// All that was asked for.
    pub plan: &'p Plan,
    /// Who the program runs as.
    pub user: User,
    /// Its environment.
    pub env: Vec<String>,
    /// Its file, found along `PATH`.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// What judges its calls, by the policy of the plan.
    pub filter: Option<Vec<Instruction>>,
    /// Standard input is the inner end of a terminal of its own.
    pub terminal: bool,
    /// Descriptors of the caller's for the program, from its number 3 on.
    pub preserved: Vec<OwnedFd>,
    /// Where connections come in that lead to [`Runner::exec`].
    pub control: Option<OwnedFd>,
    /// Where it is told how the program is stopped (the signal), or killed (128 and the signal): one byte each.
    pub news: Option<OwnedFd>,
    /// To be said once the program runs.
    pub started: Started,
    /// This process must not outlive the caller: it has asked the kernel for that, and a change of user would undo it.
    pub attached: bool,
}

/// The caller's ear.
#[derive(Debug)]
pub struct Started(Option<Channel>);

impl Started {
    /// Nobody listens.
    pub const fn nobody() -> Self {
        Started(None)
    }

    /// The program runs.
    pub fn say(self) {
        // The end of the channel says it.
    }

    /// The program can't be run, because.
    pub fn fail(self, error: Error) {
        if let Some(channel) = self.0 {
            channel.tell(Message::Failed(error));
        }
    }

    /// The descriptor that must stay open until then.
    pub fn descriptor(&self) -> Option<rustix::fd::BorrowedFd<'_>> {
        self.0.as_ref().map(AsFd::as_fd)
    }
}

/// Sends a terminal's outer end to the socket that wants it (runc's `--console-socket`).
///
/// # Errors
/// Nobody listens there.
pub fn send_console(path: &Path, outer: &OwnedFd) -> Result<()> {
    let socket = crate::create::connect(path).on("connect to --console-socket", path.display()).map_err(failed)?;
    crate::channel::send_descriptor(&socket, b"/dev/pts/ptmx", outer).map_err(failed)
}

/// Who a process is, and its environment, by the text of a passwd and a group file.
///
/// # Errors
/// There is nobody of the name that the plan gives.
pub fn find_user(passwd: &str, group: &str, process: &Process) -> Result<(User, Vec<String>)> {
    crate::init::find_user(passwd, group, process)
}

/// Why a program that was found can't be run.
pub fn cant_run(path: &Path, errno: rustix::io::Errno) -> Error {
    crate::init::cant_run(path, errno)
}

/// Hands the container over; returns only why that failed.
pub(crate) fn hand_over(
    runner: &dyn Runner,
    plan: &Plan,
    control: Option<OwnedFd>,
    identity: Identity,
    filter: Option<Vec<Instruction>>,
    around: Surroundings,
    told: &mut Option<Channel>,
) -> Result<std::convert::Infallible> {
    let (attached, preserve) = (around.attached, around.preserve_fds);
    let (identity, news, terminal) =
        settle(identity, around, &[told.as_ref().map(AsFd::as_fd), control.as_ref().map(AsFd::as_fd)])?;
    let preserved = insula_sys::process::take_descriptors(3, preserve).on("take over", "descriptors").map_err(failed)?;
    let started = Started(told.take());
    let Identity { user, env, program, args, .. } = identity;
    let inside = Inside { plan, user, env, program, args, filter, terminal, preserved, control, news, started, attached };
    Err(runner.run(inside))
}
