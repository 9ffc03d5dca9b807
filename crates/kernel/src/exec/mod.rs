//! Programs: execve(2).
//!
//! [`load`] makes all of a new program in an address space of its own, and changes nothing of the task; [`begin`] puts it in place of the old one.
//! In between, all other tasks of the process have to end ([`alone`]).
//!
//! | module | holds |
//! |---|---|
//! | [`find`](mod@find) | the program's file |
//! | [`script`] | `#!` |
//! | [`elf`] | headers, and segments in memory |
//! | [`stack`] | arguments, environment and auxiliary vector |
//! | [`rights`] | what set-ID bits and capabilities change |

pub mod elf;
pub mod find;
pub mod rights;
pub mod script;
pub mod stack;
#[cfg(test)]
pub(crate) mod tests;

use crate::fs::{Description, Io};
use crate::mm::Mm;
use crate::signal::frame;
use crate::task::{Credentials, Task, UserNamespace};
use crate::wait::Events;
use crate::{Errno, Regs, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::future::poll_fn;
use core::sync::atomic::Ordering;
use core::task::Poll;
use insula_abi::general as c;

/// Bytes at a file's start by which its kind is known (Linux: `BINPRM_BUF_SIZE`).
const HEAD: usize = 256;

/// What is to be executed.
pub struct Request {
    /// The directory that a relative path begins at.
    pub at: i32,
    /// The path.
    pub path: Vec<u8>,
    /// `AT_EMPTY_PATH`, `AT_SYMLINK_NOFOLLOW`.
    pub flags: u32,
    /// Arguments.
    pub arguments: Vec<Vec<u8>>,
    /// Environment.
    pub environment: Vec<Vec<u8>>,
}

/// A program that is ready to begin.
pub struct Loaded {
    mm: Arc<Mm>,
    entry: u64,
    stack: u64,
    credentials: Credentials,
    /// Who it acts as has changed: others may not look into it.
    guarded: bool,
    /// Where one needs a right to look into it then.
    memory_owner: UserNamespace,
    raised: bool,
    name: [u8; 16],
    file: Arc<Description>,
}

/// Makes a new program's memory.
///
/// # Errors
/// Those of execve(2).
pub fn load(task: &Arc<Task>, request: Request) -> Result<Loaded> {
    let Request { at, path, flags, mut arguments, environment } = request;
    let name = name_of(at, &path);
    if arguments.is_empty() {
        arguments.push(Vec::new());
    }
    stack::check_size(task, &arguments, &environment)?;
    let mut found = find::find(task, at, &path, flags)?;
    let comm = short_name(&name);
    let mut head = head_of(task, &found.file)?;
    let mut script = name.clone();
    // A script's interpreter may be a script; five deep is what Linux allows.
    for depth in 0.. {
        let Some(line) = script::parse(&head)? else { break };
        if depth == 5 {
            return Err(Errno::ELOOP);
        }
        if closes_itself(task, at, &path) {
            return Err(Errno::ENOENT);
        }
        script::rewrite(&mut arguments, &line, script);
        stack::check_size(task, &arguments, &environment)?;
        found = find::find(task, c::AT_FDCWD, &line.interpreter, 0)?;
        head = head_of(task, &found.file)?;
        script = line.interpreter;
    }
    let image = elf::Image::parse(task, &found.file, &head)?;
    let rights = rights::after(task, &found)?;
    let mm = Mm::new(&task.kernel().frames, task.kernel().host.machine.layout(random(task, 28)));
    let limits = task.process.limits.lock().clone();
    mm.set_limits(limits.soft(c::RLIMIT_AS), limits.soft(c::RLIMIT_STACK), limits.soft(c::RLIMIT_DATA));
    let placed = image.place(task, &mm)?;
    let contents = stack::Contents {
        arguments: &arguments,
        environment: &environment,
        name: &name,
        credentials: &rights.credentials,
        secure: rights.secure,
        placed: &placed,
        executable: image.executable_stack,
    };
    let stack = contents.write(task, &mm)?;
    Ok(Loaded {
        mm,
        entry: placed.start,
        stack,
        guarded: rights.changed,
        memory_owner: rights.memory_owner,
        raised: rights.secure,
        credentials: rights.credentials,
        name: comm,
        file: found.file,
    })
}

/// Whether a script is only known by a descriptor that its interpreter won't have any more.
fn closes_itself(task: &Task, at: i32, path: &[u8]) -> bool {
    path.first() != Some(&b'/') && at != c::AT_FDCWD && task.descriptors().close_on_exec(at) == Ok(true)
}

/// What a program that is known by a descriptor is called.
fn name_of(at: i32, path: &[u8]) -> Vec<u8> {
    match path.first() {
        Some(b'/') => path.to_vec(),
        _ if at == c::AT_FDCWD => path.to_vec(),
        None => alloc::format!("/dev/fd/{at}").into_bytes(),
        Some(_) => [alloc::format!("/dev/fd/{at}/").as_bytes(), path].concat(),
    }
}

/// The last component, as far as it fits, as prctl(2) tells it (`PR_GET_NAME`).
fn short_name(path: &[u8]) -> [u8; 16] {
    let mut name = [0; 16];
    let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let len = last.len().min(15);
    name[..len].copy_from_slice(&last[..len]);
    name
}

/// A file's first bytes; zeros stand where it has none.
fn head_of(task: &Arc<Task>, file: &Description) -> Result<[u8; HEAD]> {
    let mut head = [0; HEAD];
    read(task, file, 0, &mut head)?;
    Ok(head)
}

/// Reads as much as there is.
fn read(task: &Arc<Task>, file: &Description, at: u64, into: &mut [u8]) -> Result<usize> {
    let io = Io { task, flags: c::O_RDONLY };
    let mut done = 0;
    while done < into.len() {
        let from = at.checked_add(done as u64).filter(|from| *from <= i64::MAX as u64).ok_or(Errno::EINVAL)?;
        match file.file.read_bytes(&io, from, &mut into[done..])? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}

/// A random number of pages, in bytes.
fn random(task: &Task, bits: u32) -> u64 {
    let mut bytes = [0; 8];
    task.kernel().host.entropy.fill(&mut bytes);
    (u64::from_ne_bytes(bytes) & ((1 << bits) - 1)) * insula_abi::PAGE
}

/// Asks all other tasks of the process to end, and waits until they have.
///
/// # Errors
/// `EAGAIN`: another one was first, or the process is to end.
pub fn alone(task: &Arc<Task>) -> Result<impl Future<Output = Result<()>> + Send + use<>> {
    let others: Vec<_> = {
        let mut state = task.process.lock();
        if state.ending.is_some() || state.replacing.is_some() {
            return Err(Errno::EAGAIN);
        }
        state.replacing = Some(task.tid());
        state.threads.values().filter(|other| !Arc::ptr_eq(other, task)).cloned().collect()
    };
    for other in others {
        other.interrupt();
    }
    let task = task.clone();
    let mut registered = Vec::new();
    Ok(poll_fn(move |context| {
        task.wait_with(context.waker());
        // An observer tells once; a new one for each look misses nothing.
        registered.clear();
        registered.push(task.process.changed.register(Events::all(), crate::wait::TaskObserver::new(&task)));
        let state = task.process.lock();
        match state.ending {
            Some(_) => Poll::Ready(Err(Errno::EAGAIN)),
            None if state.threads.len() == 1 => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    }))
}

/// Puts a loaded program in place of the old one, whose task must be the last of its process; answers what it begins with.
pub fn begin(task: &Arc<Task>, loaded: Loaded) -> Regs {
    let before = task.tid();
    take_leadership(task);
    if task.is_traced() || before != task.tid() {
        crate::trace::relation::executed(task, before);
    }
    crate::futex::robust::leave(task);
    let process = &task.process;
    // Before anybody can see the new program: its parent may not move it to another group any more.
    if let Some(node) = task.kernel().pids.lock().nodes.get_mut(&process.pid) {
        node.executed = true;
        node.exit_signal = c::SIGCHLD as i32;
    }
    task.set_mm(loaded.mm);
    task.release_vfork();
    *process.program.lock() = Some(loaded.file);
    *task.name.lock() = loaded.name;
    process.reset_actions();
    process.timers.clear(false);
    process.aio.clear();
    {
        let mut own = task.signals();
        own.alternate = crate::signal::NO_STACK;
        own.returning = false;
    }
    task.confinement.set_sends_back(false);
    // Timers and restarts of the old program mean nothing to the new.
    *task.restart.lock() = None;
    *process.memory_owner.lock() = loaded.memory_owner;
    process.dumpable.store(u8::from(!loaded.guarded), Ordering::Relaxed);
    if loaded.raised {
        task.parent_death_signal.store(0, Ordering::Relaxed);
    }
    task.set_credentials(loaded.credentials);
    close_files(task);
    Regs {
        rip: loaded.entry,
        rsp: loaded.stack,
        cs: frame::CODE,
        ss: frame::DATA,
        eflags: 0x202,
        orig_rax: u64::MAX,
        ..Regs::default()
    }
}

/// The task that is left takes the number of its process.
fn take_leadership(task: &Arc<Task>) {
    let process = &task.process;
    let mut tree = task.kernel().pids.lock();
    let mut state = process.lock();
    state.replacing = None;
    if task.tid() != process.pid {
        state.threads.remove(&task.tid());
        tree.renumber(task, process.pid);
        task.renumber(process.pid);
        state.threads.insert(process.pid, task.clone());
    }
}

/// Descriptors are the task's own from now on, and those marked so are closed.
fn close_files(task: &Arc<Task>) {
    // Two hold it if nobody shares it: the task, and this function.
    let mut descriptors = task.descriptors();
    if Arc::strong_count(&descriptors) > 2 {
        descriptors = descriptors.copy();
        task.set_descriptors(descriptors.clone());
    }
    for description in descriptors.take_close_on_exec() {
        crate::syscall::open::closed(task, &description);
    }
}
