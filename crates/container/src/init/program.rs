//! The last steps before the program: who it is, what it may do, and exec. The same for the first process and for one that is added.

use super::{reaper, users};
use crate::channel::{Channel, failed};
use insula_boundary::{Error, Session};
use insula_spec::CapSet;
use insula_spec::plan::{Capabilities, Process, User};
use insula_sys::process::{self, SchedAttr};
use insula_sys::seccomp::Instruction;
use insula_sys::{Context, Errno, capability, defence, mount, seccomp, signals, tty};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::process::Signal;
use std::convert::Infallible;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Who the program is, as found in the container.
pub(crate) struct Identity {
    pub(crate) user: User,
    pub(crate) env: Vec<String>,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) cwd: PathBuf,
    /// The inner end of its terminal.
    pub(crate) slave: Option<OwnedFd>,
}

/// What the program gets of the caller.
pub(crate) struct Surroundings {
    pub(crate) stdio: Option<[OwnedFd; 3]>,
    pub(crate) session: Session,
    pub(crate) preserve_fds: u32,
    /// The session keyring it gets instead of the caller's.
    pub(crate) keyring: Option<String>,
    pub(crate) attached: bool,
    pub(crate) stops: Option<OwnedFd>,
    pub(crate) listener: Option<Notified>,
}

/// Who decides about notified system calls, and what they are told of this process.
pub(crate) struct Notified {
    pub(crate) socket: OwnedFd,
    pub(crate) message: String,
}

/// What needs the host's `/proc`.
pub(crate) fn before_root_is_gone(process: &Process) -> Result<(), Error> {
    let Some(score) = process.oom_score_adj else { return Ok(()) };
    let path = "/proc/self/oom_score_adj";
    let now = std::fs::read_to_string(path).unwrap_or_default();
    if now.trim().parse() == Ok(score) {
        return Ok(());
    }
    std::fs::write(path, score.to_string()).map_err(|error| {
        let errno = insula_sys::error::describe(Errno::from_io_error(&error).unwrap_or(Errno::IO));
        let now = now.trim();
        Error::Failed(format!("process.oomScoreAdj: can't go from {now} to {score}: {errno}; lowering it needs CAP_SYS_RESOURCE"))
    })
}

/// Finds out, inside the container, who the program is.
pub(crate) fn identity(process: &Process) -> Result<Identity, Error> {
    let (user, env) = users::who(process, |text| {
        let root = mount::open_place(Path::new("/"), OFlags::DIRECTORY).on("open", "/").map_err(failed)?;
        users::look_up(&root, text, &process.user)
    })?;
    Ok(Identity { user, env, program: PathBuf::new(), args: process.args.clone(), cwd: process.cwd.clone(), slave: None })
}

impl Identity {
    /// Enters the working directory and finds the program there or along PATH.
    pub(crate) fn find_program(&mut self) -> Result<(), Error> {
        rustix::process::chdir(&self.cwd).on("enter process.cwd", self.cwd.display()).map_err(failed)?;
        // A working directory that isn't below the root was reached through a descriptor of ours (CVE-2024-21626).
        let here = rustix::process::getcwd(Vec::new()).on("find the way to process.cwd", self.cwd.display()).map_err(failed)?;
        if !here.to_bytes().starts_with(b"/") && defence::stands("checked-directory") {
            return Err(Error::Failed(format!("process.cwd: {} is outside the container", self.cwd.display())));
        }
        let name = self.args.first().map(String::as_str).unwrap_or_default();
        if name.contains('/') {
            self.program = PathBuf::from(name);
            return executable(&self.program).map_err(|errno| cant_run(&self.program, errno));
        }
        let path = self.env.iter().rev().find_map(|text| text.strip_prefix("PATH=")).unwrap_or(insula_spec::defaults::PATH);
        let mut denied = None;
        for dir in path.split(':') {
            let candidate = Path::new(if dir.is_empty() { "." } else { dir }).join(name);
            match executable(&candidate) {
                Ok(()) => {
                    self.program = candidate;
                    return Ok(());
                }
                Err(Errno::ACCESS) => denied = Some(candidate),
                Err(_) => {}
            }
        }
        match denied {
            Some(candidate) => Err(cant_run(&candidate, Errno::ACCESS)),
            None => Err(Error::NoProgram(format!("process.args[0]: {name:?}: executable file not found in $PATH ({path})"))),
        }
    }
}

fn executable(path: &Path) -> Result<(), Errno> {
    let stat = rustix::fs::stat(path)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_mode & 0o111 == 0 {
        return Err(Errno::ACCESS);
    }
    Ok(())
}

pub(crate) fn cant_run(path: &Path, errno: Errno) -> Error {
    // Engines find out by these words what went wrong, and look for them in small letters.
    let reason = insula_sys::error::describe(errno).to_lowercase();
    let text = format!("process.args[0]: can't run {}: {}", path.display(), reason);
    match errno {
        Errno::NOENT | Errno::NOTDIR => Error::NoProgram(text),
        Errno::ACCESS | Errno::ISDIR => Error::CantRun(format!("{text} (is it a file with the x permission?)")),
        Errno::NOEXEC => Error::CantRun(format!("{text} (is it a program for this machine?)")),
        _ => Error::CantRun(text),
    }
}

/// Gives everything up that the program must not have, and becomes it. Returns only if that fails.
pub(crate) fn enter_program(
    process: &Process,
    mut identity: Identity,
    filter: Option<&[Instruction]>,
    around: Surroundings,
    told: Option<&Channel>,
) -> Result<Infallible, Error> {
    if let Some(name) = around.keyring.as_ref().filter(|_| defence::stands("own-keyring")) {
        process::join_session_keyring(name).map_err(failed)?;
    }
    limits(process)?;
    let slave = identity.slave.take();
    standard_streams(slave.as_ref(), around.stdio, &identity.user)?;
    let has_terminal = slave.is_some();
    drop(slave);
    let listener = around.listener.as_ref().map(|listener| listener.socket.as_fd());
    close_others(around.preserve_fds, &[told.map(AsFd::as_fd), around.stops.as_ref().map(AsFd::as_fd), listener])?;
    if process.reaper {
        // From here on the copy goes on; this process stays the first one.
        reaper::split(around.stops, around.attached)?;
    } else if around.attached {
        die_with_parent()?;
    }
    join_session(around.session, has_terminal)?;
    signals::reset();
    label(process)?;
    let filter = filter.map(|program| Filter { program, listener: around.listener });
    let leader = if around.attached && !process.reaper { Some(told) } else { None };
    become_user(process, &identity.user, filter, leader)?;
    let errno = process::exec(&identity.program, &identity.args, &identity.env);
    Err(cant_run(&identity.program, errno))
}

/// The first half of that, for who runs the program in another way: standard streams and session, and nothing else open. Gives back
/// where news goes, and whether there is a terminal.
pub(crate) fn settle(
    mut identity: Identity,
    around: Surroundings,
    keep: &[BorrowedFd<'_>],
) -> Result<(Identity, Option<OwnedFd>, bool), Error> {
    if let Some(name) = around.keyring.as_ref().filter(|_| defence::stands("own-keyring")) {
        process::join_session_keyring(name).map_err(failed)?;
    }
    let slave = identity.slave.take();
    standard_streams(slave.as_ref(), around.stdio, &identity.user)?;
    let has_terminal = slave.is_some();
    drop(slave);
    let keep: Vec<_> = keep.iter().copied().map(Some).chain([around.stops.as_ref().map(AsFd::as_fd)]).collect();
    close_others(around.preserve_fds, &keep)?;
    if around.attached {
        die_with_parent()?;
    }
    join_session(around.session, has_terminal)?;
    signals::reset();
    Ok((identity, around.stops, has_terminal))
}

/// If the caller ends, so does the program: nobody would clean up after it.
pub(crate) fn die_with_parent() -> Result<(), Error> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).on("follow", "the caller").map_err(failed)
}

fn limits(process: &Process) -> Result<(), Error> {
    for limit in &process.rlimits {
        process::set_rlimit(limit.resource, limit.soft, limit.hard).map_err(|errno| {
            let advice = if errno == Errno::PERM { "; raising a hard limit needs CAP_SYS_RESOURCE" } else { "" };
            let text = insula_sys::error::describe(errno);
            Error::Failed(format!(
                "process.rlimits: can't set limit {} to {}:{}: {text}{advice}",
                limit.resource, limit.soft, limit.hard
            ))
        })?;
    }
    if let Some(s) = process.scheduler {
        let (size, runtime, deadline, period) = (0, s.runtime, s.deadline, s.period);
        let attr =
            SchedAttr { size, policy: s.policy, flags: s.flags, nice: s.nice, priority: s.priority, runtime, deadline, period };
        process::set_scheduler(attr).on("set", "process.scheduler").map_err(failed)?;
    }
    if let Some((class, level)) = process.io_priority {
        process::set_io_priority(class, level).on("set", "process.ioPriority").map_err(failed)?;
    }
    if let Some(bits) = process.personality {
        process::set_personality(bits).on("set", "linux.personality").map_err(failed)?;
    }
    Ok(())
}

/// Lets go of the caller's streams for a terminal.
pub(crate) fn use_terminal(slave: &OwnedFd) -> Result<(), Error> {
    set_streams([slave, slave, slave]).on("use", "the terminal").map_err(failed)
}

fn set_streams([input, output, errors]: [&OwnedFd; 3]) -> rustix::io::Result<()> {
    rustix::stdio::dup2_stdin(input)?;
    rustix::stdio::dup2_stdout(output)?;
    rustix::stdio::dup2_stderr(errors)
}

/// Puts a terminal or given files in the place of input, output and errors.
fn standard_streams(slave: Option<&OwnedFd>, given: Option<[OwnedFd; 3]>, user: &User) -> Result<(), Error> {
    if let Some(slave) = slave {
        use_terminal(slave)?;
    } else if let Some([input, output, errors]) = &given {
        set_streams([input, output, errors]).on("set up", "standard streams").map_err(failed)?;
    }
    if user.uid == 0 {
        return Ok(());
    }
    // A program that opens /dev/stdout anew needs it to be its own: pipes, and the terminal we made, but nothing of the host's.
    let streams = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    for stream in streams {
        let Ok(stat) = rustix::fs::fstat(stream) else { continue };
        let pipe = FileType::from_raw_mode(stat.st_mode) == FileType::Fifo;
        if slave.is_some() || pipe {
            let _ = rustix::fs::fchown(stream, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(stat.st_gid)));
        }
    }
    Ok(())
}

/// The program gets the standard streams and what was asked for. Whatever else is open, ours or left open by who called us, is closed
/// now but for what we still need, and that by exec: while the kernel looks for the program and its interpreter it follows paths
/// through descriptors, and an image's could lead to a program of the host's (CVE-2024-21626).
///
/// What owns the closed ones is never dropped, as this process ends or becomes the program.
fn close_others(preserve: u32, needed: &[Option<BorrowedFd<'_>>]) -> Result<(), Error> {
    if !defence::stands("closed-descriptors") {
        return Ok(());
    }
    let keep: Vec<_> = needed.iter().copied().flatten().collect();
    process::close_all_except(3 + preserve, &keep);
    process::close_on_exec_from(3 + preserve).on("close", "descriptors").map_err(failed)
}

fn join_session(session: Session, terminal: bool) -> Result<(), Error> {
    match session {
        Session::Own => {
            // Fails only for a process that leads a group already, which then has its session.
            let _ = rustix::process::setsid();
            if terminal { tty::control(rustix::stdio::stdin()).map_err(failed) } else { Ok(()) }
        }
        Session::Job { foreground } => {
            rustix::process::setpgid(None, None).on("start", "a job").map_err(failed)?;
            if foreground {
                tty::set_foreground(rustix::stdio::stdin(), rustix::process::getpid());
            }
            Ok(())
        }
    }
}

/// The labels of security modules, which take effect at exec; written through a procfs of our own.
fn label(process: &Process) -> Result<(), Error> {
    let wanted =
        [("apparmor/exec", process.apparmor.as_ref().map(|name| format!("exec {name}"))), ("exec", process.selinux.clone())];
    for (file, text) in wanted {
        let Some(text) = text else { continue };
        let proc = super::sysctl::own_procfs()?;
        let path = format!("{}/attr/{file}", rustix::process::getpid().as_raw_pid());
        let opened = rustix::fs::openat(&proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        // Nothing confines where there is no such module.
        if matches!(opened, Err(Errno::NOENT)) && text == "exec unconfined" {
            continue;
        }
        let mut opened = std::fs::File::from(opened.on("set", "the security label").map_err(failed)?);
        opened.write_all(text.as_bytes()).on("set the security label", &text).map_err(failed)?;
    }
    Ok(())
}

/// The capabilities a program has.
fn given(process: &Process) -> Capabilities {
    let mut given = process.capabilities;
    if !defence::stands("few-capabilities") {
        given = Capabilities::uniform(CapSet::ALL);
    }
    if !defence::stands("nothing-inheritable") {
        given.inheritable = given.permitted;
    }
    given
}

/// Gives up what the program isn't to have. `leader` is whom it follows, if it does: the caller, at the other end of a channel.
fn become_user(
    process: &Process,
    user: &User,
    mut filter: Option<Filter<'_>>,
    leader: Option<Option<&Channel>>,
) -> Result<(), Error> {
    let Capabilities { bounding, effective, inheritable, permitted, ambient } = given(process);
    capability::limit_bounding(bounding.bits()).map_err(failed)?;
    rustix::thread::set_keep_capabilities(true).on("keep", "capabilities").map_err(failed)?;
    set_ids(user)?;
    rustix::process::umask(Mode::from_raw_mode(user.umask.unwrap_or(0o022)));
    if let Some(told) = leader {
        // Becoming another user has undone it; and who ended before this is not followed by it.
        die_with_parent()?;
        if told.is_some_and(Channel::is_abandoned) {
            process::exit(1);
        }
    }
    // Without no-new-privileges, only who has CAP_SYS_ADMIN may load a filter. Becoming another user has left it permitted only.
    if !process.no_new_privileges && filter.is_some() {
        let (_, mine, inheritable) = capability::get().map_err(failed)?;
        capability::set(mine, mine, inheritable).map_err(failed)?;
        load(process, filter.take())?;
    }
    let (_, mine, _) = capability::get().map_err(failed)?;
    let have = |set: insula_spec::CapSet| set.bits() & mine;
    capability::set(have(effective), have(permitted), have(inheritable)).map_err(failed)?;
    // The kernel keeps only what is permitted and inheritable too; configurations in the wild (runc's own sample) ask for more.
    capability::set_ambient(have(ambient.and(permitted).and(inheritable))).map_err(failed)?;
    rustix::thread::set_keep_capabilities(false).on("keep", "capabilities").map_err(failed)?;
    if process.no_new_privileges {
        if defence::stands("no-new-privileges") {
            rustix::thread::set_no_new_privs(true).on("set", "no-new-privileges").map_err(failed)?;
        }
        load(process, filter)?;
    }
    Ok(())
}

fn set_ids(user: &User) -> Result<(), Error> {
    match process::set_ids(user.uid, user.gid, Some(&user.groups)) {
        // In a user namespace of a plain user, groups can't be changed; that is only a fault if some were asked for.
        Err(error) if error.errno == Errno::PERM && error.what == "set the groups" && user.groups.is_empty() => {
            process::set_ids(user.uid, user.gid, None).map_err(failed)
        }
        Err(error) if error.errno == Errno::INVAL => {
            Err(Error::Failed(format!("process.user: {error}; linux.uidMappings and gidMappings must map it")))
        }
        result => result.map_err(failed),
    }
}

/// A compiled policy, and who is asked about what it notifies.
struct Filter<'p> {
    program: &'p [Instruction],
    listener: Option<Notified>,
}

/// Loads the filter; if it has a listener, the notification descriptor is sent there first thing.
fn load(process: &Process, filter: Option<Filter<'_>>) -> Result<(), Error> {
    let (Some(filter), Some(policy)) = (filter, process.seccomp.as_ref()) else { return Ok(()) };
    if !defence::stands("filter") {
        return Ok(());
    }
    // Synchronising threads makes no sense with one, and can't be asked for together with a listener.
    let flags = policy.flags & !1 | if filter.listener.is_some() { seccomp::NEW_LISTENER } else { 0 };
    let descriptor = seccomp::load(filter.program, flags).map_err(failed)?;
    match (descriptor, filter.listener) {
        (Some(descriptor), Some(listener)) => {
            crate::channel::send_descriptor(&listener.socket, listener.message.as_bytes(), descriptor).map_err(failed)
        }
        _ => Ok(()),
    }
}
