//! Namespaces, namespaces(7): those of names (UTS), of System V IPC and message queues, and of control groups, of which there is nothing to
//! see but that one has one's own. Those of mounts go with the place a task stands at ([`Context`](crate::fs::Context)). Of the others there is
//! one of each.

use crate::fs::tree::Namespace;
use crate::fs::{AlwaysReady, Attributes, Description, File, FileType, Io};
use crate::ipc::Ipc;
use crate::mm::UserBuf;
use crate::sync::Mutex;
use crate::task::{Process, Task};
use crate::{Errno, Flow, Kernel, Result, SysResult};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use insula_abi::general as c;
use insula_abi::process::Utsname;

/// Those that a task may leave for new ones.
pub const LEFT: u32 = c::CLONE_NEWNS | c::CLONE_NEWUTS | c::CLONE_NEWIPC | c::CLONE_NEWCGROUP;

/// `NS_GET_NSTYPE`, ioctl_nsfs(2).
const GET_TYPE: u32 = 0xb703;

/// Numbers of the first namespaces, as Linux has them.
mod first {
    pub(super) const CGROUP: u64 = 4_026_531_835;
    pub(super) const IPC: u64 = 4_026_531_839;
    pub(super) const NET: u64 = 4_026_531_840;
    pub(super) const PID: u64 = 4_026_531_836;
    pub(super) const TIME: u64 = 4_026_531_834;
    pub(super) const USER: u64 = 4_026_531_837;
    pub(super) const UTS: u64 = 4_026_531_838;
}

/// The number of the first namespace of mounts.
pub const FIRST_MOUNTS: u64 = 4_026_531_841;

/// A new namespace's number.
pub fn new_number(kernel: &Kernel) -> u64 {
    4_026_532_000 + kernel.anonymous_inode()
}

/// A namespace that holds something.
pub struct Space<T> {
    /// What tells it from others.
    pub number: u64,
    /// What it holds.
    pub holds: T,
}

/// Those that a task is in, but for that of mounts.
#[derive(Clone)]
pub struct Spaces {
    /// What uname(2) tells.
    pub uts: Arc<Space<Mutex<Utsname>>>,
    /// System V IPC and POSIX message queues.
    pub ipc: Arc<Space<Ipc>>,
    /// The number of that of control groups.
    pub cgroup: u64,
}

impl Default for Spaces {
    fn default() -> Self {
        let uts = Space { number: first::UTS, holds: Mutex::new(crate::syscall::system::names()) };
        let ipc = Space { number: first::IPC, holds: Ipc::default() };
        Spaces { uts: Arc::new(uts), ipc: Arc::new(ipc), cgroup: first::CGROUP }
    }
}

impl Spaces {
    /// The same, but new ones of those that `flags` name.
    fn with_new(&self, kernel: &Kernel, flags: u64) -> Spaces {
        let has = |flag: u32| flags & u64::from(flag) != 0;
        let mut new = self.clone();
        if has(c::CLONE_NEWUTS) {
            let name = *self.uts.holds.lock();
            new.uts = Arc::new(Space { number: new_number(kernel), holds: Mutex::new(name) });
        }
        if has(c::CLONE_NEWIPC) {
            new.ipc = Arc::new(Space { number: new_number(kernel), holds: Ipc::default() });
        }
        if has(c::CLONE_NEWCGROUP) {
            new.cgroup = new_number(kernel);
        }
        new
    }
}

/// Whether a task may have new namespaces of those that `flags` name.
///
/// # Errors
/// `EPERM`: it has no right to. `EINVAL`: of one of them there are no others, as on a Linux that isn't built with them.
pub fn check(task: &Task, flags: u64) -> Result<()> {
    let wanted = flags & super::clone::NAMESPACES;
    match wanted {
        0 => Ok(()),
        _ if !task.credentials().has(c::CAP_SYS_ADMIN) => Err(Errno::EPERM),
        _ if wanted & !u64::from(LEFT) != 0 => Err(Errno::EINVAL),
        _ => Ok(()),
    }
}

/// Gives a task new namespaces; its place is its own already, if one is of mounts.
pub fn renew(task: &Arc<Task>, flags: u64) {
    if flags & u64::from(c::CLONE_NEWNS) != 0 {
        let fs = task.fs();
        let mut context = fs.lock();
        let (copy, twin) = context.namespace.copy(new_number(task.kernel()));
        (context.root, context.cwd) = (twin(&context.root), twin(&context.cwd));
        context.namespace = copy;
    }
    let new = task.spaces().with_new(task.kernel(), flags);
    task.set_spaces(new);
}

impl Task {
    /// The namespaces it is in, but for that of mounts.
    pub fn spaces(&self) -> Spaces {
        self.spaces.lock().clone()
    }

    pub(super) fn set_spaces(&self, spaces: Spaces) {
        let before = core::mem::replace(&mut *self.spaces.lock(), spaces);
        // Undoing belongs to the objects that are left behind.
        if !Arc::ptr_eq(&before.ipc, &self.spaces().ipc) {
            before.ipc.holds.semaphores.undo(self.process.pid);
        }
    }
}

/// A namespace, as somebody may hold it.
#[derive(Clone)]
enum Held {
    Uts(Arc<Space<Mutex<Utsname>>>),
    Ipc(Arc<Space<Ipc>>),
    Mounts(Arc<Namespace>),
    Cgroup(u64),
    /// One of a kind that has one only.
    Only(u32, u64),
}

impl Held {
    fn number(&self) -> u64 {
        match self {
            Held::Uts(space) => space.number,
            Held::Ipc(space) => space.number,
            Held::Mounts(namespace) => namespace.number,
            Held::Cgroup(number) | Held::Only(_, number) => *number,
        }
    }

    /// Its `CLONE_NEW*`.
    fn kind(&self) -> u32 {
        match self {
            Held::Uts(_) => c::CLONE_NEWUTS,
            Held::Ipc(_) => c::CLONE_NEWIPC,
            Held::Mounts(_) => c::CLONE_NEWNS,
            Held::Cgroup(_) => c::CLONE_NEWCGROUP,
            Held::Only(kind, _) => *kind,
        }
    }

    /// That of a task, by its name in `/proc/PID/ns`.
    fn of(task: &Task, name: &str) -> Option<Held> {
        let spaces = task.spaces();
        Some(match name {
            "uts" => Held::Uts(spaces.uts),
            "ipc" => Held::Ipc(spaces.ipc),
            "cgroup" => Held::Cgroup(spaces.cgroup),
            "mnt" => Held::Mounts(task.fs().lock().namespace.clone()),
            "net" => Held::Only(c::CLONE_NEWNET, first::NET),
            "pid" | "pid_for_children" => Held::Only(c::CLONE_NEWPID, first::PID),
            "time" | "time_for_children" => Held::Only(c::CLONE_NEWTIME, first::TIME),
            "user" => Held::Only(c::CLONE_NEWUSER, first::USER),
            _ => return None,
        })
    }

    /// `task` is in it from now on.
    fn enter(self, task: &Arc<Task>) -> Result<()> {
        let mut spaces = task.spaces();
        match self {
            Held::Uts(space) => spaces.uts = space,
            Held::Ipc(space) => spaces.ipc = space,
            Held::Cgroup(number) => spaces.cgroup = number,
            Held::Mounts(namespace) => {
                let fs = task.fs();
                // Others would be moved along.
                if Arc::strong_count(&fs) > 2 {
                    return Err(Errno::EINVAL);
                }
                let mut context = fs.lock();
                let root = namespace.root();
                (context.namespace, context.root, context.cwd) = (namespace, root.clone(), root);
            }
            Held::Only(c::CLONE_NEWUSER, _) => return Err(Errno::EINVAL),
            Held::Only(..) => {}
        }
        task.set_spaces(spaces);
        Ok(())
    }
}

/// Names in `/proc/PID/ns`.
pub const NAMES: [&str; 10] =
    ["cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"];

/// What the link of a name in `/proc/PID/ns` says.
pub fn text(task: &Task, name: &str) -> Vec<u8> {
    let kind = name.split('_').next().unwrap_or(name);
    Held::of(task, name).map(|held| format!("{kind}:[{}]", held.number()).into_bytes()).unwrap_or_default()
}

/// The open file that such a link leads to.
pub fn open(task: &Task, name: &str) -> Option<Arc<Description>> {
    let held = Held::of(task, name)?;
    let text = text(task, name);
    Some(Description::new(Arc::new(NamespaceFile { held, text }), None, c::O_RDONLY))
}

/// A namespace that is held by an open file.
pub struct NamespaceFile {
    held: Held,
    text: Vec<u8>,
}

impl AlwaysReady for NamespaceFile {}

impl File for NamespaceFile {
    fn file_type(&self) -> FileType {
        FileType::Regular
    }

    fn read(&self, _: &Io<'_>, _: u64, _: &mut UserBuf) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    fn ioctl(&self, _: &Io<'_>, request: u32, _: u64) -> SysResult {
        if request == GET_TYPE { Ok(Flow::Done(self.held.kind().into())) } else { Err(Errno::ENOTTY) }
    }

    fn attributes(&self) -> Result<Attributes> {
        let mode = c::S_IFREG | 0o444;
        Ok(Attributes { dev: 4, ino: self.held.number(), mode, nlink: 1, blksize: 4096, ..Attributes::default() })
    }

    fn describe(&self) -> Vec<u8> {
        self.text.clone()
    }
}

/// Moves a task into the namespace of an open file, setns(2); `kind` is its `CLONE_NEW*`, or 0.
///
/// # Errors
/// `EINVAL`: it is of another kind, or none. `EPERM`: no right to.
pub fn enter(task: &Arc<Task>, description: &Description, kind: u32) -> Result<()> {
    let file = description.as_file::<NamespaceFile>().ok_or(Errno::EINVAL)?;
    if kind != 0 && kind != file.held.kind() {
        return Err(Errno::EINVAL);
    }
    may_enter(task)?;
    file.held.clone().enter(task)
}

/// Moves a task into those of a process's namespaces that `kinds` name, setns(2).
///
/// # Errors
/// `EINVAL`: none is named, or what is no kind. `ESRCH`: it has ended. `EPERM`.
pub fn enter_of(task: &Arc<Task>, process: &Process, kinds: u32) -> Result<()> {
    if kinds == 0 || u64::from(kinds) & !super::clone::NAMESPACES != 0 {
        return Err(Errno::EINVAL);
    }
    let other = process.tasks().into_iter().next().filter(|_| process.status().is_none()).ok_or(Errno::ESRCH)?;
    may_enter(task)?;
    for name in NAMES.iter().filter(|name| !name.ends_with("_for_children")) {
        if let Some(held) = Held::of(&other, name)
            && held.kind() & kinds != 0
        {
            held.enter(task)?;
        }
    }
    Ok(())
}

fn may_enter(task: &Task) -> Result<()> {
    if task.credentials().has(c::CAP_SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
}
