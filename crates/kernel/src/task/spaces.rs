//! Namespaces, namespaces(7): those of names (UTS), of System V IPC and message queues, of networks, and of control groups, of which there
//! is nothing to see but that one has one's own. Those of mounts go with the place a task stands at ([`Context`](crate::fs::Context)), those of
//! users with who it is ([`users`](super::users)), those of numbers with its process ([`pid_namespaces`](super::pid_namespaces)). Of those of time
//! there is one. Each belongs to the user namespace that it was made in.

use super::credentials::Credentials;
use super::pid_namespaces::PidNamespace;
use super::users::UserNamespace;
use crate::fs::tree::Namespace;
use crate::fs::{AlwaysReady, Attributes, Description, File, FileType, Io};
use crate::host::Network;
use crate::ipc::Ipc;
use crate::mm::UserBuf;
use crate::socket::{Net, NetSpace};
use crate::sync::Mutex;
use crate::task::{Process, Task};
use crate::{Errno, Flow, Kernel, Result, SysResult};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use insula_abi::general as c;
use insula_abi::process::Utsname;

/// Those that a task may leave for new ones.
pub const LEFT: u32 = c::CLONE_NEWNS
    | c::CLONE_NEWUTS
    | c::CLONE_NEWIPC
    | c::CLONE_NEWNET
    | c::CLONE_NEWCGROUP
    | c::CLONE_NEWUSER
    | c::CLONE_NEWPID;

/// `NS_GET_*`, ioctl_nsfs(2).
mod request {
    pub(super) const USER_NAMESPACE: u32 = 0xb701;
    pub(super) const PARENT: u32 = 0xb702;
    pub(super) const TYPE: u32 = 0xb703;
    pub(super) const OWNER: u32 = 0xb704;
}

/// The most namespaces of one kind at a time (`/proc/sys/user/max_*_namespaces`).
pub const MOST: u32 = 16384;

/// How many namespaces there are beside the first, of each kind.
#[derive(Default)]
pub struct Counts {
    /// Of control groups.
    pub cgroup: Arc<AtomicU32>,
    /// Of System V IPC and message queues.
    pub ipc: Arc<AtomicU32>,
    /// Of mounts.
    pub mounts: Arc<AtomicU32>,
    /// Of networks.
    pub net: Arc<AtomicU32>,
    /// Of numbers.
    pub pid: Arc<AtomicU32>,
    /// Of users.
    pub user: Arc<AtomicU32>,
    /// Of names.
    pub uts: Arc<AtomicU32>,
}

/// A namespace that is counted as long as it is there.
pub struct Counted(Arc<AtomicU32>);

impl Counted {
    /// One more.
    ///
    /// # Errors
    /// `ENOSPC`: there are [`MOST`].
    pub fn one(of: &Arc<AtomicU32>) -> Result<Self> {
        let more = |count: u32| (count < MOST).then_some(count + 1);
        of.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).map_err(|_| Errno::ENOSPC)?;
        Ok(Counted(of.clone()))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Numbers of the first namespaces, as Linux has them.
pub(super) mod first {
    pub(super) const CGROUP: u64 = 4_026_531_835;
    pub(super) const IPC: u64 = 4_026_531_839;
    pub(in crate::task) const PID: u64 = 4_026_531_836;
    pub(super) const TIME: u64 = 4_026_531_834;
    pub(in crate::task) const USER: u64 = 4_026_531_837;
    pub(super) const UTS: u64 = 4_026_531_838;
}

/// The number of the first namespace of networks.
pub const FIRST_NET: u64 = 4_026_531_840;

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
    /// Whose capabilities count in it.
    pub owner: UserNamespace,
    /// What it holds.
    pub holds: T,
    _counted: Option<Counted>,
}

/// Those that a task is in, but for that of mounts.
#[derive(Clone)]
pub struct Spaces {
    /// What uname(2) tells.
    pub uts: Arc<Space<Mutex<Utsname>>>,
    /// System V IPC and POSIX message queues.
    pub ipc: Arc<Space<Ipc>>,
    /// Networks.
    pub net: Arc<NetSpace>,
    /// That of control groups.
    pub cgroup: Arc<Space<()>>,
    /// That of numbers in which its children begin; its own never changes.
    pub pids: PidNamespace,
}

impl<T> Space<T> {
    fn first(number: u64, holds: T) -> Arc<Self> {
        Arc::new(Space { number, owner: UserNamespace::default(), holds, _counted: None })
    }

    fn new(kernel: &Kernel, of: &Arc<AtomicU32>, owner: &UserNamespace, holds: T) -> Result<Arc<Self>> {
        let _counted = Some(Counted::one(of)?);
        Ok(Arc::new(Space { number: new_number(kernel), owner: owner.clone(), holds, _counted }))
    }
}

impl Spaces {
    /// The first ones; `outside` is the network that the placement stands in.
    pub fn first(outside: Option<Arc<dyn Network>>) -> Self {
        Spaces {
            uts: Space::first(first::UTS, Mutex::new(crate::syscall::system::names())),
            ipc: Space::first(first::IPC, Ipc::default()),
            net: Space::first(FIRST_NET, Net::first(outside)),
            cgroup: Space::first(first::CGROUP, ()),
            pids: PidNamespace::default(),
        }
    }

    /// The same, but new ones, which belong to `owner`, of those that `flags` name.
    fn with_new(&self, kernel: &Kernel, owner: &UserNamespace, flags: u64) -> Result<Spaces> {
        let counts = &kernel.namespaces;
        let has = |flag: u32| flags & u64::from(flag) != 0;
        let mut new = self.clone();
        if has(c::CLONE_NEWUTS) {
            let name = *self.uts.holds.lock();
            new.uts = Space::new(kernel, &counts.uts, owner, Mutex::new(name))?;
        }
        if has(c::CLONE_NEWIPC) {
            new.ipc = Space::new(kernel, &counts.ipc, owner, Ipc::default())?;
        }
        if has(c::CLONE_NEWNET) {
            new.net = Space::new(kernel, &counts.net, owner, Net::new())?;
        }
        if has(c::CLONE_NEWCGROUP) {
            new.cgroup = Space::new(kernel, &counts.cgroup, owner, ())?;
        }
        Ok(new)
    }
}

/// Whether a task may have new namespaces of those that `flags` name; answers who it, or its child, is then: somebody who may do all in a new user
/// namespace, if one is among them, to which the others belong.
///
/// # Errors
/// `EPERM`: it has no right to. `EINVAL`: of one of them there are no others, as on a Linux that isn't built with them. `ENOSPC`: too many.
pub fn check(task: &Task, flags: u64) -> Result<Arc<Credentials>> {
    let own = task.credentials();
    let wanted = flags & super::clone::NAMESPACES;
    if wanted == 0 {
        return Ok(own);
    }
    let then = if wanted & u64::from(c::CLONE_NEWUSER) != 0 { Arc::new(own.in_new(UserNamespace::new(task)?)) } else { own };
    if !then.has_own(c::CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    if wanted & !u64::from(LEFT) == 0 { Ok(then) } else { Err(Errno::EINVAL) }
}

/// Gives a task new namespaces, which belong to `owner`; its place is its own already, if one is of mounts.
///
/// # Errors
/// `ENOSPC`: there are too many.
pub fn renew(task: &Arc<Task>, flags: u64, owner: &UserNamespace) -> Result<()> {
    if flags & super::clone::NAMESPACES == 0 {
        return Ok(());
    }
    let new = task.spaces().with_new(task.kernel(), owner, flags)?;
    if flags & u64::from(c::CLONE_NEWNS) != 0 {
        let fs = task.fs();
        let mut context = fs.lock();
        let counted = Counted::one(&task.kernel().namespaces.mounts)?;
        let (copy, twin) = context.namespace.copy(new_number(task.kernel()), owner, counted);
        (context.root, context.cwd) = (twin(&context.root), twin(&context.cwd));
        context.namespace = copy;
    }
    task.set_spaces(new);
    Ok(())
}

impl Task {
    /// The namespaces it is in, but for that of mounts.
    pub fn spaces(&self) -> Spaces {
        self.spaces.lock().clone()
    }

    /// The network it is in.
    pub fn net(&self) -> Arc<NetSpace> {
        self.spaces.lock().net.clone()
    }

    pub(crate) fn set_spaces(&self, spaces: Spaces) {
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
    Net(Arc<NetSpace>),
    Mounts(Arc<Namespace>),
    Cgroup(Arc<Space<()>>),
    User(UserNamespace),
    Pid(PidNamespace),
    /// One of a kind that has one only.
    Only(u32, u64),
}

impl Held {
    fn number(&self) -> u64 {
        match self {
            Held::Uts(space) => space.number,
            Held::Ipc(space) => space.number,
            Held::Net(space) => space.number,
            Held::Mounts(namespace) => namespace.number,
            Held::Cgroup(space) => space.number,
            Held::User(space) => space.number(),
            Held::Pid(space) => space.number(),
            Held::Only(_, number) => *number,
        }
    }

    /// Its `CLONE_NEW*`.
    fn kind(&self) -> u32 {
        match self {
            Held::Uts(_) => c::CLONE_NEWUTS,
            Held::Ipc(_) => c::CLONE_NEWIPC,
            Held::Net(_) => c::CLONE_NEWNET,
            Held::Mounts(_) => c::CLONE_NEWNS,
            Held::Cgroup(_) => c::CLONE_NEWCGROUP,
            Held::User(_) => c::CLONE_NEWUSER,
            Held::Pid(_) => c::CLONE_NEWPID,
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
            "net" => Held::Net(spaces.net),
            "pid" => Held::Pid(task.process.space.clone()),
            // There is none yet before the first child.
            "pid_for_children" => Held::Pid(Some(spaces.pids).filter(|space| space.init() != Some(0))?),
            "time" | "time_for_children" => Held::Only(c::CLONE_NEWTIME, first::TIME),
            "user" => Held::User(task.credentials().space.clone()),
            _ => return None,
        })
    }

    /// The user namespace that it belongs to; of one of users, that which it lies in.
    fn owner(&self) -> Option<UserNamespace> {
        Some(match self {
            Held::Uts(space) => space.owner.clone(),
            Held::Ipc(space) => space.owner.clone(),
            Held::Net(space) => space.owner.clone(),
            Held::Cgroup(space) => space.owner.clone(),
            Held::Mounts(namespace) => namespace.owner.clone(),
            Held::User(space) => space.parent()?.clone(),
            Held::Pid(space) => space.owner(),
            Held::Only(..) => UserNamespace::default(),
        })
    }

    /// Whether somebody may enter it: with `CAP_SYS_ADMIN` both there and where they are.
    fn may_be_entered(&self, credentials: &Credentials) -> bool {
        let may = |capability: u32| match self {
            Held::User(space) => credentials.has_in(space, capability),
            _ => self.owner().is_some_and(|owner| credentials.has_in(&owner, capability)) && credentials.has_own(capability),
        };
        may(c::CAP_SYS_ADMIN) && (self.kind() != c::CLONE_NEWNS || credentials.has_own(c::CAP_SYS_CHROOT))
    }

    /// `task` is in it from now on.
    fn enter(self, task: &Arc<Task>) -> Result<()> {
        let mut spaces = task.spaces();
        match self {
            Held::Uts(space) => spaces.uts = space,
            Held::Ipc(space) => spaces.ipc = space,
            Held::Net(space) => spaces.net = space,
            Held::Cgroup(space) => spaces.cgroup = space,
            Held::User(space) => return enter_user(task, space),
            Held::Pid(space) if space.is_within(&task.process.space) => spaces.pids = space,
            Held::Pid(_) => return Err(Errno::EINVAL),
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
            Held::Only(..) => {}
        }
        task.set_spaces(spaces);
        Ok(())
    }
}

/// `task` is in a user namespace from now on, and may do all there.
fn enter_user(task: &Arc<Task>, space: UserNamespace) -> Result<()> {
    let own = task.credentials();
    let alone = task.process.lock().threads.len() == 1 && Arc::strong_count(&task.fs()) <= 2;
    if own.space == space || !alone {
        return Err(Errno::EINVAL);
    }
    if space.owner() != own.uid.effective {
        task.process.dumpable.store(0, Ordering::Relaxed);
    }
    task.set_credentials(own.in_new(space));
    Ok(())
}

/// Names in `/proc/PID/ns`.
pub const NAMES: [&str; 10] =
    ["cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"];

/// What the link of a name in `/proc/PID/ns` says.
pub fn text(task: &Task, name: &str) -> Vec<u8> {
    Held::of(task, name).map(|held| told(&held, name)).unwrap_or_default()
}

fn told(held: &Held, name: &str) -> Vec<u8> {
    let kind = name.split('_').next().unwrap_or(name);
    format!("{kind}:[{}]", held.number()).into_bytes()
}

fn opened(held: Held, name: &str) -> Arc<Description> {
    let text = told(&held, name);
    Description::new(Arc::new(NamespaceFile { held, text }), None, c::O_RDONLY)
}

/// The open file that such a link leads to.
pub fn open(task: &Task, name: &str) -> Option<Arc<Description>> {
    Held::of(task, name).map(|held| opened(held, name))
}

/// The network that an open file stands for.
pub fn net_of(description: &Description) -> Option<Arc<NetSpace>> {
    match &description.as_file::<NamespaceFile>()?.held {
        Held::Net(net) => Some(net.clone()),
        _ => None,
    }
}

/// The number of the namespace of mounts that an open file stands for.
pub fn mounts_of(description: &Description) -> Option<u64> {
    match &description.as_file::<NamespaceFile>()?.held {
        Held::Mounts(namespace) => Some(namespace.number),
        _ => None,
    }
}

/// An open file of a network, ioctl(2) `SIOCGSKNS`.
pub fn open_net(net: &Arc<NetSpace>) -> Arc<Description> {
    opened(Held::Net(net.clone()), "net")
}

/// A namespace that is held by an open file.
pub struct NamespaceFile {
    held: Held,
    text: Vec<u8>,
}

impl Drop for NamespaceFile {
    fn drop(&mut self) {
        if let Held::Mounts(namespace) = core::mem::replace(&mut self.held, Held::Only(c::CLONE_NEWNS, 0)) {
            namespace.let_go();
        }
    }
}

impl AlwaysReady for NamespaceFile {}

impl File for NamespaceFile {
    fn file_type(&self) -> FileType {
        FileType::Regular
    }

    fn read(&self, _: &Io<'_>, _: u64, _: &mut UserBuf) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    fn ioctl(&self, io: &Io<'_>, request: u32, argument: u64) -> SysResult {
        let own = io.task.credentials().space.clone();
        match (request, &self.held) {
            (request::TYPE, held) => Ok(Flow::Done(held.kind().into())),
            (request::USER_NAMESPACE, held) | (request::PARENT, held @ Held::User(_)) => {
                // What lies outside isn't shown.
                let owner = held.owner().filter(|owner| owner.is_within(&own)).ok_or(Errno::EPERM)?;
                let limit = io.task.process.limit(c::RLIMIT_NOFILE);
                Ok(io.task.descriptors().add(opened(Held::User(owner), "user"), true, 0, limit)?.into())
            }
            (request::PARENT, Held::Pid(space)) => {
                let above = space.parent().filter(|above| above.is_within(&io.task.process.space)).ok_or(Errno::EPERM)?;
                let limit = io.task.process.limit(c::RLIMIT_NOFILE);
                Ok(io.task.descriptors().add(opened(Held::Pid(above.clone()), "pid"), true, 0, limit)?.into())
            }
            (request::OWNER, Held::User(space)) => io.task.mm().put(argument, &own.show_user(space.owner())).map(Flow::from),
            (request::PARENT | request::OWNER, _) => Err(Errno::EINVAL),
            _ => Err(Errno::ENOTTY),
        }
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
    if !file.held.may_be_entered(&task.credentials()) {
        return Err(Errno::EPERM);
    }
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
    if !task.may_attach(&other) {
        return Err(Errno::EPERM);
    }
    let named = NAMES.iter().filter(|name| !name.ends_with("_for_children")).filter_map(|name| Held::of(&other, name));
    // That of users first: what one may do in the others follows from it.
    let (first, rest): (Vec<_>, Vec<_>) =
        named.filter(|held| held.kind() & kinds != 0).partition(|held| matches!(held, Held::User(_)));
    let mut then = task.credentials();
    for held in first.iter().chain(&rest) {
        if !held.may_be_entered(&then) {
            return Err(Errno::EPERM);
        }
        if let Held::User(space) = held {
            then = Arc::new(then.in_new(space.clone()));
        }
    }
    first.into_iter().chain(rest).try_for_each(|held| held.enter(task))
}
