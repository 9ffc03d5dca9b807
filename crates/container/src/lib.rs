//! Linux containers: the host's kernel, seen through namespaces, limited by cgroups, narrowed by capabilities and seccomp.
//!
//! A start is one `clone3`. The caller ([`create`]) decides everything, puts it on record, makes the cgroups and compiles the
//! system-call filter; then it makes the first process, which puts its own root together and becomes the program ([`init`]). They
//! talk over one socket pair ([`channel`]).
//!
//! | module | holds |
//! |---|---|
//! | [`create`] | the caller's side of making a container |
//! | [`init`] | the first process's side: mounts, devices, identity, exec |
//! | [`sandbox`] | a container that exists: start, signal, pause, update, delete |
//! | [`exec`], [`members`] | one more process in it; those that are in it |
//! | [`cgroup`] | limits on v1, hybrid and v2 hosts |
//! | [`attach`] | the console of a system in the background |
//! | [`system`] | a whole system in one: what is different |
//! | [`runner`] | another kernel in the program's place |
//! | [`seccomp`] | policies compiled to programs |
//! | [`hooks`], [`userns`] | the configuration's programs, ID mappings |

pub mod attach;
mod cgroup;
mod channel;
mod create;
mod exec;
mod hooks;
mod init;
mod members;
pub mod runner;
mod sandbox;
mod seccomp;
mod system;
mod userns;

pub use hooks::state;
pub use system::{container_name, shutdown_of};

use insula_boundary::{Boundary, Entry, Error, Options, Result, Sandbox, Store, Support};
use insula_spec::plan::{Capabilities, Namespace, User};
use insula_spec::{CapSet, Id, Plan};
use insula_sys::Context;
use runner::Runner;
use std::sync::Arc;

/// The boundary `container`.
#[derive(Clone, Debug)]
pub struct Containers {
    store: Store,
    /// Other kernels that can stand in containers.
    runners: Vec<Arc<dyn Runner>>,
    /// Which of them new ones get.
    chosen: Option<Arc<dyn Runner>>,
    /// What new ones are.
    boundary: &'static str,
}

impl Containers {
    /// Containers whose state is kept in this store.
    pub fn new(store: Store) -> Containers {
        Containers { store, runners: Vec::new(), chosen: None, boundary: CONTAINER }
    }

    /// The same, with other kernels in those that were made so.
    pub fn with_runners(self, runners: Vec<Arc<dyn Runner>>) -> Containers {
        Containers { runners, ..self }
    }

    /// The same; new ones are behind this boundary.
    ///
    /// # Errors
    /// [`Error::Unsupported`]: there is none of that name.
    pub fn behind(mut self, boundary: &str) -> Result<Containers> {
        self.chosen = self.runner(boundary)?;
        self.boundary = match &self.chosen {
            Some(runner) => runner.boundary(),
            None if boundary == SYSTEM => SYSTEM,
            None => CONTAINER,
        };
        Ok(self)
    }

    /// The kernel that makes a boundary; none for plain containers.
    fn runner(&self, boundary: &str) -> Result<Option<Arc<dyn Runner>>> {
        // The common case first: it doesn't touch the runners' code.
        if [CONTAINER, SYSTEM].contains(&boundary) {
            return Ok(None);
        }
        match self.runners.iter().find(|runner| runner.boundary() == boundary) {
            Some(runner) => Ok(Some(runner.clone())),
            None => Err(Error::Unsupported(format!("this program has no boundary named {boundary}"))),
        }
    }

    /// Puts a system on record that is to be started later.
    ///
    /// # Errors
    /// The name is taken, or the record can't be written.
    pub fn register(&self, plan: Plan) -> Result<()> {
        let slot = self.store.reserve(&plan.id)?;
        let owner = rustix::process::getuid().as_raw();
        let entry =
            Entry { boundary: SYSTEM.to_owned(), created: create::now(), plan, cgroups: Vec::new(), remove: false, owner };
        slot.write_entry(&entry).inspect_err(|_| drop(slot.remove()))
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }
}

/// The boundary's name, and its name on record.
pub(crate) const CONTAINER: &str = "container";

/// The name of a container with a whole system in it.
pub const SYSTEM: &str = "system";

/// Keeps our program file from a container in which somebody could see a process of ours: it may start this process anew, so it
/// comes before anything has an effect.
///
/// # Errors
/// The file can't be protected.
pub fn protect_program_file(plan: &Plan) -> insula_sys::Result<()> {
    let alone = plan.namespaces.creates(Namespace::Pid);
    let looks_at_others = plan.process.capabilities.bounding.has("SYS_PTRACE");
    if alone && !looks_at_others { Ok(()) } else { insula_sys::exe::seal() }
}

/// Sends a descriptor and a word for it to who listens on a unix socket.
///
/// # Errors
/// Nobody listens there.
pub fn send_descriptor(path: &std::path::Path, word: &str, descriptor: &rustix::fd::OwnedFd) -> Result<()> {
    let socket = create::connect(path).on("connect to", path.display()).map_err(channel::failed)?;
    channel::send_descriptor(socket, word.as_bytes(), descriptor).map_err(channel::failed)
}

/// What a process is to have of capabilities and can't be given, as this process hasn't it itself. In a new user namespace, all of
/// them are there.
///
/// # Errors
/// The kernel doesn't say what this process has.
pub fn ungrantable(plan: &Plan, wanted: &Capabilities) -> insula_sys::Result<CapSet> {
    if plan.namespaces.has(Namespace::User) {
        return Ok(CapSet::EMPTY);
    }
    let (_, permitted, _) = insula_sys::capability::get()?;
    let Capabilities { bounding, effective, inheritable, permitted: wished, ambient } = *wanted;
    let all = [bounding, effective, inheritable, wished, ambient].iter().fold(0, |all, set| all | set.bits());
    Ok(CapSet::from_bits(all & !permitted))
}

/// Who `user[:group]` is, by the passwd and group files below a directory; what they don't say is as in `like`.
///
/// # Errors
/// There is nobody of the name.
pub fn look_up_user(root: &std::path::Path, text: &str, like: &User) -> Result<User> {
    let dir = insula_sys::mount::open_place(root, rustix::fs::OFlags::DIRECTORY).on("open", root.display());
    init::look_up_user(&dir.map_err(channel::failed)?, text, like)
}

impl Boundary for Containers {
    fn name(&self) -> &'static str {
        self.boundary
    }

    fn probe(&self) -> Support {
        let root = rustix::process::geteuid().is_root();
        let namespaces = rustix::fs::stat("/proc/self/ns/mnt").is_ok() && rustix::fs::stat("/proc/self/ns/pid").is_ok();
        if !namespaces {
            return Support::Missing("this kernel has no mount and PID namespaces (or /proc isn't mounted)".into());
        }
        if !root && rustix::fs::stat("/proc/self/ns/user").is_err() {
            return Support::Missing("this kernel has no user namespaces, so containers need root; run with sudo".into());
        }
        Support::Works
    }

    fn create(&self, plan: Plan, options: Options) -> Result<Box<dyn Sandbox>> {
        Ok(Box::new(create::create(&self.store, self.chosen.clone(), plan, options)?))
    }

    fn open(&self, id: &Id) -> Result<Box<dyn Sandbox>> {
        let slot = self.store.find(id)?;
        let entry: Entry = slot.read_entry()?.ok_or_else(|| Error::Unmade(id.clone()))?;
        let runner = self.runner(&entry.boundary)?;
        Ok(Box::new(sandbox::Container::opened(slot, entry, runner)))
    }

    fn delete(&self, id: &Id, force: bool) -> Result<()> {
        let slot = self.store.find(id)?;
        // Who makes it still holds the lock: then wait for how it ends.
        slot.lock()?;
        match slot.read_entry()? {
            // Removing one takes no other kernel.
            Some(entry) => sandbox::Container::opened(slot, entry, None).delete(force),
            // Cut off before anything was made.
            None => slot.remove(),
        }
    }
}
