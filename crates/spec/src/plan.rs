//! The plan: one sandbox, whole, checked, and independent of where it came from.

use crate::Id;
use crate::caps::CapSet;
use crate::resources::Resources;
use crate::seccomp::Policy;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Its name.
    pub id: Id,
    /// The OCI bundle it came from, or the directory it was started in; absolute.
    pub bundle: PathBuf,
    /// What is its `/`.
    pub root: Root,
    /// The first process.
    pub process: Process,
    /// What is mounted, in this order.
    pub mounts: Vec<Mount>,
    /// What of the host's kernel it sees a view of its own.
    pub namespaces: Namespaces,
    /// Host name in its UTS namespace.
    pub hostname: Option<String>,
    /// NIS domain name in its UTS namespace.
    pub domainname: Option<String>,
    /// Device nodes in its `/dev`, beside the ones every container has.
    pub devices: Vec<Device>,
    /// Its cgroup: absolute in the hierarchy, or relative to the caller's; by default one named after it.
    pub cgroup_path: Option<PathBuf>,
    /// systemd makes its cgroup, as the cgroup of this scope; then [`Plan::cgroup_path`] is none.
    #[serde(default)]
    pub scope: Option<Scope>,
    /// What it may use.
    pub resources: Resources,
    /// Paths made unreadable.
    pub masked_paths: Vec<PathBuf>,
    /// Paths made read-only.
    pub readonly_paths: Vec<PathBuf>,
    /// Paths below those that stay as they are.
    #[serde(default)]
    pub writable_paths: Vec<PathBuf>,
    /// Kernel parameters, by their dotted name.
    pub sysctl: BTreeMap<String, String>,
    /// Programs run beside it at set points of its life.
    pub hooks: Hooks,
    /// How mounts made on the host after the start reach it.
    pub propagation: Propagation,
    /// Offsets of the clocks in a time namespace, by clock name, in seconds and nanoseconds.
    pub time_offsets: BTreeMap<String, (i64, u32)>,
    /// Free-form notes that `state` gives back.
    pub annotations: BTreeMap<String, String>,
    /// What was asked for and isn't had, where that is to be told and is no error.
    #[serde(skip)]
    pub warnings: Vec<String>,
    /// A whole system with its own init runs in it, not one program.
    #[serde(default)]
    pub system: Option<System>,
}

/// What a container with a whole system is beside a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct System {
    /// How its init is asked to shut the system down.
    pub shutdown: Shutdown,
    /// The network that is made for it at each start; none if it has none, or one that is there.
    #[serde(default)]
    pub network: Option<MadeNetwork>,
}

/// A network that is made for a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeNetwork {
    /// On a bridge with others; else one of its own, without privilege.
    pub bridge: bool,
    /// Ports of the host's that lead to it, as `insula run --publish` has them.
    pub publish: Vec<String>,
}

/// How an init is asked to shut its system down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shutdown {
    /// By this signal.
    Signal(i32),
    /// By a program of the system's, run in it.
    Program(Vec<String>),
}

/// A unit of systemd's around a sandbox's processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// The slice it is in, `NAME.slice`.
    pub slice: String,
    /// Its own name, `NAME.scope`.
    pub unit: String,
    /// It belongs to the user's own systemd, not the host's.
    pub of_user: bool,
}

/// What is a sandbox's `/`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Root {
    /// Where its files come from.
    pub source: RootSource,
    /// Nothing can be written on it.
    pub readonly: bool,
    /// Owners of its files are numbers of the container's user namespace, as if there were none: the mount maps them.
    #[serde(default)]
    pub mapped: bool,
}

/// Where the files of the root come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootSource {
    /// A directory, used as it is; absolute.
    Dir(PathBuf),
    /// The host's own root below an overlay.
    Host {
        /// Where writes are kept; none keeps them in memory until the end.
        keep: Option<PathBuf>,
    },
    /// A directory below an overlay.
    Over {
        /// The directory, which nobody may change meanwhile; absolute.
        lower: PathBuf,
        /// Where writes are kept, in `upper`, beside the overlay's own `work`; absolute.
        keep: PathBuf,
    },
}

/// A process in a sandbox: the first, or one that `exec` adds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Program and arguments; at least one.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Working directory; absolute.
    pub cwd: PathBuf,
    /// Who it runs as.
    pub user: User,
    /// What it may do.
    pub capabilities: Capabilities,
    /// Neither set-user-ID nor file capabilities give it more.
    pub no_new_privileges: bool,
    /// Resource limits, by the kernel's number.
    pub rlimits: Vec<Rlimit>,
    /// Which system calls it may make.
    pub seccomp: Option<Policy>,
    /// A terminal of its own.
    pub terminal: bool,
    /// Size of that terminal: columns, rows.
    pub console_size: Option<(u16, u16)>,
    /// The kernel's readiness to kill it when memory runs out, −1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// I/O class (1 realtime, 2 best effort, 3 idle) and level (0 to 7).
    pub io_priority: Option<(u8, u8)>,
    /// How it is scheduled.
    pub scheduler: Option<Scheduler>,
    /// Execution domain bits, personality(2).
    pub personality: Option<u32>,
    /// AppArmor profile that the program gets at exec.
    pub apparmor: Option<String>,
    /// SELinux label that the program gets at exec.
    pub selinux: Option<String>,
    /// A small first process of ours reaps orphans and passes signals on, as a shell would; else the program is the first process.
    pub reaper: bool,
}

/// Who a process runs as, in its user namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// A name to look up in the sandbox's own passwd and group files (`user[:group]`), which then overrides the numbers.
    pub lookup: Option<String>,
}

/// The five sets of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Limit of what exec can give.
    pub bounding: CapSet,
    /// In force.
    pub effective: CapSet,
    /// Kept across exec of a file with the same inheritable ones.
    pub inheritable: CapSet,
    /// What may be made effective.
    pub permitted: CapSet,
    /// Kept across any exec.
    pub ambient: CapSet,
}

impl Capabilities {
    /// The same set bounding, effective and permitted, and nothing else.
    pub const fn uniform(set: CapSet) -> Self {
        Capabilities { bounding: set, effective: set, inheritable: CapSet::EMPTY, permitted: set, ambient: CapSet::EMPTY }
    }
}

/// One resource limit, setrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// The kernel's number, `RLIMIT_*`.
    pub resource: u32,
    /// Enforced now; `u64::MAX` is no limit.
    pub soft: u64,
    /// Ceiling of the soft limit; `u64::MAX` is no limit.
    pub hard: u64,
}

/// How a process is scheduled, sched_setattr(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduler {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*` bits.
    pub flags: u64,
    /// −20 to 19.
    pub nice: i32,
    /// 0 to 99, for the real-time policies.
    pub priority: u32,
    /// Nanoseconds, for the deadline policy.
    pub runtime: u64,
    /// Nanoseconds, for the deadline policy.
    pub deadline: u64,
    /// Nanoseconds, for the deadline policy.
    pub period: u64,
}

/// A kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Namespace {
    /// Users, groups and capabilities.
    User,
    /// Control groups.
    Cgroup,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host and domain name.
    Uts,
    /// Network devices, addresses, ports.
    Net,
    /// Process numbers.
    Pid,
    /// Mounts.
    Mnt,
    /// Monotonic and boot clocks.
    Time,
}

impl Namespace {
    /// Every kind, in the order in which they are joined (user first: it gives the right to join the others).
    pub const ALL: [Namespace; 8] = [
        Namespace::User,
        Namespace::Cgroup,
        Namespace::Ipc,
        Namespace::Uts,
        Namespace::Net,
        Namespace::Pid,
        Namespace::Mnt,
        Namespace::Time,
    ];

    /// The name of its file in `/proc/PID/ns`.
    pub const fn file(self) -> &'static str {
        match self {
            Namespace::User => "user",
            Namespace::Cgroup => "cgroup",
            Namespace::Ipc => "ipc",
            Namespace::Uts => "uts",
            Namespace::Net => "net",
            Namespace::Pid => "pid",
            Namespace::Mnt => "mnt",
            Namespace::Time => "time",
        }
    }
}

/// Which namespaces a sandbox has; a kind that is absent is shared with the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// A new one (`None`), or the one that this path names.
    pub list: BTreeMap<Namespace, Option<PathBuf>>,
    /// User IDs in a new user namespace.
    pub uid_map: Vec<IdMap>,
    /// Group IDs in a new user namespace.
    pub gid_map: Vec<IdMap>,
}

impl Namespaces {
    /// Whether a new namespace of this kind is made.
    pub fn creates(&self, kind: Namespace) -> bool {
        matches!(self.list.get(&kind), Some(None))
    }

    /// Whether the sandbox has its own or another one's namespace of this kind, not the caller's.
    pub fn has(&self, kind: Namespace) -> bool {
        self.list.contains_key(&kind)
    }

    /// Who puts the sandbox together in its new user namespace, user and group as they are called there: root if there is one, else the
    /// caller, whose user and group are given as they are called outside.
    pub fn builder(&self, uid: u32, gid: u32) -> (u32, u32) {
        let one = |map: &[IdMap], own: u32| {
            let root = map.iter().any(|range| range.inside == 0);
            let caller = || map.iter().find_map(|range| range.inside_of(own));
            if root { 0 } else { caller().or(map.first().map(|range| range.inside)).unwrap_or(0) }
        };
        (one(&self.uid_map, uid), one(&self.gid_map, gid))
    }
}

/// A range of user or group IDs, user_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// First ID inside.
    pub inside: u32,
    /// First ID outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

impl IdMap {
    /// What an ID outside is inside, if it is in this range.
    pub fn inside_of(&self, outside: u32) -> Option<u32> {
        let distance = outside.checked_sub(self.outside).filter(|distance| *distance < self.count)?;
        self.inside.checked_add(distance)
    }

    /// Whether an ID inside is in this range.
    pub fn holds(&self, inside: u32) -> bool {
        inside.checked_sub(self.inside).is_some_and(|distance| distance < self.count)
    }
}

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where, inside; absolute.
    pub target: PathBuf,
    /// What.
    pub kind: MountKind,
    /// Attributes that are set: `MOUNT_ATTR_*` bits.
    pub set: u64,
    /// Attributes that are cleared: `MOUNT_ATTR_*` bits.
    pub clear: u64,
    /// The same, for the mount and all below it.
    pub set_recursive: u64,
    /// The same, for the mount and all below it.
    pub clear_recursive: u64,
    /// How it propagates, if that is said.
    pub propagation: Option<Propagation>,
    /// IDs of the files, as the container sees them.
    pub id_map: Option<IdMapped>,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// A directory or file of the host's; absolute.
    Bind {
        /// On the host.
        source: PathBuf,
        /// With the mounts below it.
        recursive: bool,
    },
    /// A file system made for this mount.
    Fs {
        /// Its name, `tmpfs`.
        name: String,
        /// Its source, which only shows in mountinfo for most.
        source: String,
        /// Its options: `key` or `key=value`.
        options: Vec<String>,
        /// A tmpfs that starts with a copy of what it covers.
        copy_up: bool,
    },
    /// The sandbox's view of the cgroup hierarchies.
    Cgroup,
}

/// Mapped IDs of a mount's files, mount_setattr(2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapped {
    /// User IDs; none takes the sandbox's own.
    pub uid_map: Vec<IdMap>,
    /// Group IDs; none takes the sandbox's own.
    pub gid_map: Vec<IdMap>,
    /// Also for the mounts below.
    pub recursive: bool,
}

/// How mounts and unmounts travel between copies of a mount, mount_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Propagation {
    /// Which way.
    pub kind: PropagationKind,
    /// Also for the mounts below.
    pub recursive: bool,
}

/// The four ways of propagation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PropagationKind {
    /// Neither way.
    Private,
    /// From the host to the sandbox.
    Slave,
    /// Both ways.
    Shared,
    /// Neither way, and it can't be bound elsewhere.
    Unbindable,
}

impl Default for Propagation {
    fn default() -> Self {
        Propagation { kind: PropagationKind::Slave, recursive: true }
    }
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Where, inside; absolute.
    pub path: PathBuf,
    /// `c`, `b` or `p`.
    pub kind: char,
    /// Device number.
    pub major: u32,
    /// Device number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Programs run at set points of a sandbox's life, runtime-spec `config.md#posix-platform-hooks`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    /// After the namespaces are made, before the root is changed, in the runtime's namespaces; deprecated by the specification.
    pub prestart: Vec<Hook>,
    /// The same point.
    pub create_runtime: Vec<Hook>,
    /// The same point, in the container's namespaces.
    pub create_container: Vec<Hook>,
    /// Before the program, inside the container.
    pub start_container: Vec<Hook>,
    /// After the program is started, in the runtime's namespaces.
    pub poststart: Vec<Hook>,
    /// After the container is deleted, in the runtime's namespaces.
    pub poststop: Vec<Hook>,
}

/// One program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Its file; absolute.
    pub path: PathBuf,
    /// Its arguments, the first being its name.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<String>,
    /// Seconds it may take.
    pub timeout: Option<u32>,
}

/// Refuses what no boundary could carry out: parts of the plan that contradict each other.
///
/// # Errors
/// The first contradiction.
pub fn check(plan: &Plan) -> Result<(), crate::Error> {
    let spaces = &plan.namespaces;
    let refuse = |when: bool, field: &str, problem: &str| if when { Err(crate::Error::field(field, problem)) } else { Ok(()) };
    let unmapped = spaces.uid_map.is_empty() || spaces.gid_map.is_empty();
    refuse(
        spaces.creates(Namespace::User) && unmapped,
        "linux.uidMappings",
        "a new user namespace needs uidMappings and gidMappings",
    )?;
    let user = &plan.process.user;
    for (map, own, field) in [(&spaces.uid_map, user.uid, "linux.uidMappings"), (&spaces.gid_map, user.gid, "linux.gidMappings")]
    {
        let fits = map.iter().any(|range| range.inside == 0 || range.holds(own));
        let problem = "must map ID 0, which puts the container together, or that of process.user";
        refuse(spaces.creates(Namespace::User) && !fits, field, problem)?;
    }
    let mapped = !spaces.uid_map.is_empty() || !spaces.gid_map.is_empty();
    refuse(mapped && !spaces.has(Namespace::User), "linux.uidMappings", "needs a user namespace in linux.namespaces")?;
    refuse(
        !spaces.creates(Namespace::Mnt),
        "linux.namespaces",
        "has no new mount namespace; a container needs one for its root",
    )?;
    for (name, field) in [(&plan.hostname, "hostname"), (&plan.domainname, "domainname")] {
        let length = name.as_ref().map_or(0, String::len);
        refuse(length > 64, field, "is longer than the 64 bytes the kernel keeps")?;
    }
    let named = plan.hostname.is_some() || plan.domainname.is_some();
    refuse(
        named && !spaces.has(Namespace::Uts),
        "hostname",
        "needs a uts namespace in linux.namespaces; it would rename the host",
    )?;
    check_lengths(plan)?;
    for (name, value) in &plan.sysctl {
        let space = sysctl_namespace(name);
        let bad = name.split(['.', '/']).any(|part| part.is_empty() || part == "..") || value.contains('\0');
        refuse(bad, "linux.sysctl", &format!("{name:?} is no kernel parameter"))?;
        let problem = match space {
            Some(space) => format!("{name} needs a {} namespace of its own; it would change the host", space.file()),
            None => format!("{name} belongs to no namespace; it would change the host"),
        };
        refuse(!space.is_some_and(|space| spaces.has(space)), "linux.sysctl", &problem)?;
    }
    Ok(())
}

/// The most mounts, or paths hidden, or devices: each is a mount, and the kernel's work grows with the square of their number.
const MOST_MOUNTS: usize = 4096;

/// The most hooks at one point, which run one after the other.
const MOST_HOOKS: usize = 256;

/// Refuses lists that nobody means, before days are spent on them.
fn check_lengths(plan: &Plan) -> Result<(), crate::Error> {
    let hooks = &plan.hooks;
    let lists = [
        ("mounts", plan.mounts.len(), MOST_MOUNTS),
        ("linux.maskedPaths", plan.masked_paths.len(), MOST_MOUNTS),
        ("linux.readonlyPaths", plan.readonly_paths.len(), MOST_MOUNTS),
        ("linux.devices", plan.devices.len(), MOST_MOUNTS),
        ("hooks.prestart", hooks.prestart.len(), MOST_HOOKS),
        ("hooks.createRuntime", hooks.create_runtime.len(), MOST_HOOKS),
        ("hooks.createContainer", hooks.create_container.len(), MOST_HOOKS),
        ("hooks.startContainer", hooks.start_container.len(), MOST_HOOKS),
        ("hooks.poststart", hooks.poststart.len(), MOST_HOOKS),
        ("hooks.poststop", hooks.poststop.len(), MOST_HOOKS),
    ];
    match lists.iter().find(|(_, length, most)| length > most) {
        Some((field, length, most)) => Err(crate::Error::field(*field, format!("{length} entries; at most {most} are taken"))),
        None => Ok(()),
    }
}

/// The namespace that a kernel parameter belongs to.
fn sysctl_namespace(name: &str) -> Option<Namespace> {
    let name = name.replace('/', ".");
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    match name.as_str() {
        "kernel.domainname" | "kernel.hostname" => Some(Namespace::Uts),
        name if name.starts_with("net.") => Some(Namespace::Net),
        name if name.starts_with("fs.mqueue.") || IPC.contains(&name) => Some(Namespace::Ipc),
        name if name.starts_with("user.") => Some(Namespace::User),
        _ => None,
    }
}
