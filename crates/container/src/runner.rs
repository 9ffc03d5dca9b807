//! A container whose program isn't run by the host's kernel: another kernel stands in it, and runs the program.
//!
//! The container gives it what every program gets: a root with all mounts, namespaces, groups with limits, a record that survives a
//! crash, a terminal, standard streams. Where a container's first process would wait for the start, it calls [`Runner::run`] instead: the
//! kernel begins at once, so that processes can be added to it before the start, and the program when [`Gate`] says so.

use crate::channel::{self, Channel, Message, failed};
use crate::hooks;
use crate::init::{self, Identity, Surroundings, settle};
use insula_boundary::{Error, ExecOptions, Job, Result, Status, Summary};
use insula_spec::Plan;
use insula_spec::plan::{Process, User};
use insula_sys::Context;
use insula_sys::process::{self, Child, Fork, Spaces};
use insula_sys::seccomp::Instruction;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
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

    /// Waits at the gate, and runs the program; ends this process with it. Returns only why it couldn't be run.
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
    /// Where the start is waited for.
    pub gate: Gate,
    /// This process must not outlive the caller: it has asked the kernel for that, and a change of user would undo it.
    pub attached: bool,
}

/// Where a runner waits for the start, and tells how it went.
#[derive(Debug)]
pub struct Gate {
    inner: init::Gate,
    hooks: Option<Hooks>,
}

impl Gate {
    /// Tells who makes the container that it can be started: from here on processes are added to it.
    ///
    /// # Errors
    /// They can't be told.
    pub fn ready(&self) -> Result<()> {
        self.inner.channel().send(Message::Ready)
    }

    /// What can be read when [`Self::hear`] has something to hear.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.inner.descriptor()
    }

    /// Hears the next who is there, and runs the hooks of the start if that one says "start"; whether the program is to be run. If nobody is left
    /// who could say it, this process ends.
    ///
    /// # Errors
    /// A hook failed.
    pub fn hear(&mut self) -> Result<bool> {
        let starts = self.inner.hear()?;
        if starts && let Some(hooks) = self.hooks.take() {
            hooks.run()?;
        }
        Ok(starts)
    }

    /// The program can't be run, because.
    pub fn fail(self, error: Error) {
        self.inner.channel().tell(Message::Failed(error));
    }

    /// The program runs.
    pub fn open(self) {
        // The end of the channel says it.
    }
}

/// A process of the container that runs the hooks of the start: a runner has no right to, by then.
#[derive(Debug)]
struct Hooks {
    child: Child,
    channel: Channel,
}

impl Hooks {
    /// If there are such hooks. The process ends with this one.
    fn attend(plan: &Plan) -> Result<Option<Hooks>> {
        let hooks = &plan.hooks.start_container;
        if hooks.is_empty() {
            return Ok(None);
        }
        let state = hooks::state(plan, Status::Created, rustix::process::getpid().as_raw_pid());
        let (ours, theirs) = channel::pair()?;
        // A runner may leave the root, and would take everybody in its mount namespace along.
        match process::fork(Spaces::MNT, None).map_err(failed)? {
            Fork::Parent(child) => Ok(Some(Hooks { child, channel: ours })),
            Fork::Child => {
                process::close_all_except(3, &[theirs.as_fd()]);
                if init::die_with_parent().is_ok() && matches!(theirs.receive(), Ok(Message::Start)) {
                    theirs.tell(hooks::run(hooks, "startContainer", &state).err().map_or(Message::Continue, Message::Failed));
                }
                process::exit(0)
            }
        }
    }

    fn run(self) -> Result<()> {
        self.channel.send(Message::Start)?;
        let answer = self.channel.receive();
        // As a confined runner may, too.
        let _ = rustix::process::waitpid(Some(self.child.pid), rustix::process::WaitOptions::empty());
        match answer? {
            Message::Continue => Ok(()),
            Message::Failed(error) => Err(error),
            _ => Err(Error::Failed("hooks.startContainer: the process that was to run them has ended".into())),
        }
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
    told: &mut Option<init::Gate>,
) -> Result<std::convert::Infallible> {
    let (attached, preserve) = (around.attached, around.preserve_fds);
    let keep = told.iter().flat_map(init::Gate::descriptors).chain(control.as_ref().map(AsFd::as_fd));
    let (identity, news, terminal) = settle(identity, around, &keep.collect::<Vec<_>>())?;
    let preserved = process::take_descriptors(3, preserve).on("take over", "descriptors").map_err(failed)?;
    let hooks = Hooks::attend(plan)?;
    let inner = told.take().ok_or_else(|| Error::Failed("nobody is there to start it".into()))?;
    let gate = Gate { inner, hooks };
    let Identity { user, env, program, args, .. } = identity;
    let inside = Inside { plan, user, env, program, args, filter, terminal, preserved, control, news, gate, attached };
    Err(runner.run(inside))
}
