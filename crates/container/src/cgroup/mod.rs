//! Control groups: where a container's limits are written.
//!
//! The three layouts of hosts are one case here: each controller that is needed is looked for in a v1 hierarchy first, then in the
//! unified one. A container joins only what carries a limit: every group made costs time at start and end, on v1 once for each
//! controller. [`plan`] decides which groups there will be, before any is made, so that they can be put on record;
//! [`Groups::create_unified`] and [`Groups::create_v1`] make them and write the limits; the first process joins by itself:
//!
//! - on v2 it is made inside its group ([`Groups::unified`]);
//! - on v1 it writes `0` into `tasks` ([`Groups::join_v1`]). Moving a process by its number through `cgroup.procs` waits until every
//!   processor has passed a quiet state (7 to 15 ms); a thread that moves itself needs no such wait, and our first process has one.
//!
//! Where systemd is to make the group, [`scope`] has it do so.

mod delegated;
mod devices;
mod files;
mod later;
mod permit;
pub(crate) mod scope;
mod usage;
mod v1;
mod v2;

use insula_boundary::Error;
use insula_spec::plan::{Namespace, Scope};
use insula_spec::resources::Resources;
use insula_spec::{Id, Plan};
use insula_sys::defence;
use insula_sys::host::cgroup::{Hierarchy, Layout, hierarchies, layout, parse_membership, parse_mountinfo};
use rustix::fd::OwnedFd;
use rustix::process::Pid;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

/// One group of a container.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// Its directory.
    pub(crate) path: PathBuf,
    /// 1 or 2.
    version: u8,
    /// What is limited in it: names of v1.
    controllers: Vec<&'static str>,
    /// The hierarchy's name in a container: the last part of its mount point.
    pub(crate) name: String,
    /// Where the hierarchy is mounted.
    mount_point: PathBuf,
    /// It is to count what is used, as far as that can be had.
    counts: bool,
    /// It is the container's to divide, with all controllers that can be had.
    delegated: bool,
    /// It isn't shown inside.
    pub(crate) hidden: bool,
}

/// The groups of one container.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    list: Vec<Group>,
    /// systemd makes the group, when the first process is there.
    scope: Option<Scope>,
    /// Who owns the groups that are delegated: the container's root, as its user namespace maps it.
    owner: Option<(u32, u32)>,
}

/// Decides which groups a container gets; makes nothing.
pub(crate) fn plan(plan: &Plan) -> Result<Groups, Error> {
    if let Some(scope) = &plan.scope {
        return scope::plan(plan, scope);
    }
    let needed = permit::limited(plan)?;
    if plan.system.is_some() {
        let groups = delegated::plan(plan, &Place::new(plan.id.clone(), plan.cgroup_path.clone())?, &needed)?;
        return groups.check_permitted().map(|()| groups);
    }
    // Without a PID namespace nothing else keeps the container's processes together.
    let tracked = !plan.namespaces.has(Namespace::Pid);
    let v2_is_all = || matches!(rustix::fs::statfs("/sys/fs/cgroup"), Ok(fs) if fs.f_type == CGROUP2_MAGIC);
    if needed.is_empty() && plan.resources.unified.is_empty() && !tracked && plan.cgroup_path.is_none() && !v2_is_all() {
        return Ok(Groups::default());
    }
    let place = Place::new(plan.id.clone(), plan.cgroup_path.clone())?;
    let mut groups = place.groups(&needed, tracked || plan.cgroup_path.is_some(), &plan.resources)?;
    if plan.cgroup_path.is_some() {
        place.add_counters(&mut groups);
    }
    groups.check_permitted()?;
    Ok(groups)
}

/// Why a container's processes can't be frozen.
pub(crate) fn no_freezer() -> String {
    if permit::privileged() {
        "this host has no cgroup that can freeze it; mount the hierarchy cgroup2, or freezer".into()
    } else {
        format!("no cgroup that can freeze it is delegated to this user; {}", permit::DELEGATION)
    }
}

/// What is counted for who named the group, by the controllers' names in v1: an engine reads there what its container uses, and hears
/// there that memory ran out.
const COUNTERS: [&str; 4] = ["memory", "cpuacct", "pids", "blkio"];

const CGROUP2_MAGIC: rustix::fs::FsWord = 0x6367_7270;

/// The controllers that resources speak of, by their names in v1.
fn needed(resources: &Resources) -> Vec<&'static str> {
    let Resources { memory, cpu, block_io, .. } = resources;
    let cpu_time = (cpu.shares, cpu.quota, cpu.burst, cpu.period, cpu.realtime_runtime, cpu.realtime_period, cpu.idle);
    let wanted = [
        ("memory", *memory != Default::default()),
        ("cpu", cpu_time != Default::default()),
        ("cpuset", cpu.cpus.is_some() || cpu.mems.is_some()),
        ("pids", resources.pids.is_some()),
        ("blkio", *block_io != Default::default()),
        ("hugetlb", !resources.hugepages.is_empty()),
        ("net_cls", resources.net_class.is_some()),
        ("net_prio", !resources.net_priorities.is_empty()),
        ("rdma", !resources.rdma.is_empty()),
        ("devices", !resources.devices.is_empty() && defence::stands("device-rules")),
    ];
    wanted.iter().filter(|(_, wanted)| *wanted).map(|(name, _)| *name).collect()
}

/// The host's hierarchies, and the place in them that a container gets.
struct Place {
    layout: Layout,
    hierarchies: Vec<Hierarchy>,
    id: Id,
    path: Option<PathBuf>,
}

impl Place {
    fn new(id: Id, path: Option<PathBuf>) -> Result<Place, Error> {
        Place::of("/proc/self/cgroup".as_ref(), id, path)
    }

    /// The place beside the groups of a process.
    fn of_process(pid: i32, id: Id, path: Option<PathBuf>) -> Result<Place, Error> {
        Place::of(format!("/proc/{pid}/cgroup").as_ref(), id, path)
    }

    fn of(memberships: &Path, id: Id, path: Option<PathBuf>) -> Result<Place, Error> {
        if let Some(path) = path.as_ref().filter(|path| path.components().any(|part| part == Component::ParentDir)) {
            return Err(Error::Failed(format!("linux.cgroupsPath: {} climbs with ..", path.display())));
        }
        let mounts = parse_mountinfo(&files::read("/proc/self/mountinfo".as_ref())?);
        let memberships = parse_membership(&files::read(memberships)?);
        Ok(Place { layout: layout(&mounts), hierarchies: hierarchies(&mounts, &memberships), id, path })
    }

    fn groups(&self, needed: &[&'static str], tracked: bool, resources: &Resources) -> Result<Groups, Error> {
        let mut groups = Groups::default();
        let mut unified = Vec::new();
        for controller in needed {
            match self.hierarchies.iter().find(|h| h.version == 1 && h.controllers.iter().any(|name| name == controller)) {
                Some(hierarchy) => groups.add(hierarchy, self.directory(hierarchy), controller),
                None => unified.push(*controller),
            }
        }
        let wants_unified = !unified.is_empty() || !resources.unified.is_empty() || tracked || self.layout == Layout::V2;
        if !wants_unified {
            return Ok(groups);
        }
        let Some(hierarchy) = self.hierarchies.iter().find(|h| h.version == 2) else {
            return self.without_unified(groups, &unified, resources, tracked);
        };
        let optional = unified.is_empty() && resources.unified.is_empty() && self.path.is_none();
        if optional && !files::writable(self.parent(hierarchy)) {
            return Ok(groups);
        }
        groups.list.push(Group {
            path: self.directory(hierarchy),
            version: 2,
            controllers: unified,
            name: "unified".into(),
            mount_point: hierarchy.mount_point.clone(),
            counts: false,
            delegated: false,
            hidden: false,
        });
        Ok(groups)
    }

    /// Adds the groups that count, where they can be made: a container runs without, too.
    fn add_counters(&self, groups: &mut Groups) {
        groups.list.iter_mut().filter(|group| group.is_unified()).for_each(|group| group.counts = true);
        for controller in COUNTERS.into_iter().filter(|name| groups.carrying(name).is_none()).collect::<Vec<_>>() {
            let carries = |h: &&Hierarchy| h.version == 1 && h.controllers.iter().any(|name| name == controller);
            let hierarchy = self.hierarchies.iter().find(carries).filter(|h| files::writable(self.parent(h)));
            if let Some(hierarchy) = hierarchy {
                groups.add(hierarchy, self.directory(hierarchy), controller);
            }
        }
    }

    /// A host with v1 alone: processes are kept together in the freezer, and what no hierarchy carries can't be limited.
    fn without_unified(
        &self,
        mut groups: Groups,
        missing: &[&str],
        resources: &Resources,
        tracked: bool,
    ) -> Result<Groups, Error> {
        if let Some(controller) = missing.first() {
            let problem =
                format!("this host mounts no cgroup hierarchy with the controller {controller}; remove that limit, or mount one");
            return Err(Error::Unsupported(problem));
        }
        if !resources.unified.is_empty() {
            return Err(Error::Unsupported("linux.resources.unified: this host has no cgroup v2; use the fields of v1".into()));
        }
        let freezer = self.hierarchies.iter().find(|h| h.controllers.iter().any(|name| name == "freezer"));
        if let Some(hierarchy) = freezer.filter(|_| tracked) {
            groups.add(hierarchy, self.directory(hierarchy), "freezer");
        }
        Ok(groups)
    }

    /// The container's directory in a hierarchy.
    fn directory(&self, hierarchy: &Hierarchy) -> PathBuf {
        let absolute = |path: &Path| hierarchy.mount_point.join(path.strip_prefix("/").unwrap_or(path));
        match &self.path {
            Some(path) if path.is_absolute() => absolute(path),
            Some(path) => self.parent(hierarchy).join(path),
            None => self.parent(hierarchy).join(format!("insula-{}", self.id)),
        }
    }

    /// The directory in which ours goes: the caller's own group; on v2 the one above, as a group that holds processes can't hand
    /// controllers down.
    fn parent<'h>(&self, hierarchy: &'h Hierarchy) -> &'h Path {
        let own = hierarchy.own_group.as_deref().unwrap_or(&hierarchy.mount_point);
        if hierarchy.version == 2 && own != hierarchy.mount_point { own.parent().unwrap_or(own) } else { own }
    }
}

impl Groups {
    fn add(&mut self, hierarchy: &Hierarchy, path: PathBuf, controller: &'static str) {
        // Controllers that are mounted together (cpu,cpuacct) share one group.
        if let Some(group) = self.list.iter_mut().find(|group| group.path == path) {
            group.controllers.push(controller);
            return;
        }
        let name =
            hierarchy.mount_point.file_name().map_or_else(|| controller.to_owned(), |name| name.to_string_lossy().into_owned());
        let mount_point = hierarchy.mount_point.clone();
        self.list.push(Group {
            path,
            version: 1,
            controllers: vec![controller],
            name,
            mount_point,
            counts: false,
            delegated: false,
            hidden: false,
        });
    }

    /// Makes sure that nobody else's processes are in these groups.
    pub(crate) fn check_free(&self) -> Result<(), Error> {
        self.list.iter().try_for_each(|group| files::check_free(&group.path))
    }

    /// The groups' directories.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.list.iter().map(|group| group.path.clone()).collect()
    }

    /// Makes the v2 group, unless systemd does, and writes its limits; opened, for a process to be made in.
    pub(crate) fn create_unified(&self, resources: &Resources) -> Result<Option<OwnedFd>, Error> {
        if self.scope.is_some() {
            return Ok(None);
        }
        let unified = self.list.iter().filter(|group| group.version == 2);
        unified.clone().try_for_each(|group| v2::create(group, resources))?;
        unified.into_iter().try_for_each(|group| self.give(group))?;
        self.unified()
    }

    /// Makes the v1 groups and writes their limits.
    pub(crate) fn create_v1(&self, resources: &Resources) -> Result<(), Error> {
        let of_v1 = |group: &&Group| group.version == 1;
        self.list.iter().filter(of_v1).try_for_each(|group| v1::create(group, resources).and_then(|()| self.give(group)))
    }

    /// Makes what could not be made before the first process, and puts it in.
    pub(crate) fn create_around(&self, plan: &Plan, pid: Pid) -> Result<(), Error> {
        match &self.scope {
            Some(scope) => scope::create(self, scope, plan, pid),
            None => self.create_v1(&plan.resources),
        }
    }

    /// The v2 group, opened, for a process to be made in.
    pub(crate) fn unified(&self) -> Result<Option<OwnedFd>, Error> {
        self.list.iter().find(|group| group.version == 2).map(|group| files::open_dir(&group.path)).transpose()
    }

    /// Moves this process, which must have one thread, into the v1 groups.
    pub(crate) fn join_v1(&self) -> Result<(), Error> {
        self.list.iter().filter(|group| group.version == 1).try_for_each(|group| files::write(&group.path.join("tasks"), "0"))
    }

    /// Groups below these, for a process that is added: for each wish the controllers that are meant (none: all), and a path.
    ///
    /// # Errors
    /// There is no such group.
    pub(crate) fn below(mut self, wishes: &[(Vec<String>, PathBuf)]) -> Result<Groups, Error> {
        for (controllers, path) in wishes {
            let refuse = |problem: &str| Err(Error::Failed(format!("--cgroup: {} {problem}", path.display())));
            if path.components().any(|part| part == Component::ParentDir) {
                return refuse("climbs with ..; name a group below the container's");
            }
            let meant = |group: &Group| {
                controllers.is_empty() || group.controllers.iter().any(|name| controllers.iter().any(|c| c == name))
            };
            let mut found = false;
            for group in self.list.iter_mut().filter(|group| meant(group)) {
                group.path.push(path.strip_prefix("/").unwrap_or(path));
                if !group.path.join("cgroup.procs").exists() {
                    return refuse(&format!("is no group of the container's; {} isn't there", group.path.display()));
                }
                found = true;
            }
            if !found {
                return refuse("names no controller in a group of the container's");
            }
        }
        Ok(self)
    }

    /// The groups, for showing them inside.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Group> {
        self.list.iter()
    }
}

impl Group {
    /// Whether it is of the unified hierarchy.
    pub(crate) fn is_unified(&self) -> bool {
        self.version == 2
    }
}

/// The groups of a container that exists, from what is on record.
pub(crate) fn recorded(paths: &[PathBuf]) -> Groups {
    let group = |path: &PathBuf| {
        let unified = path.join("cgroup.controllers").exists();
        let version = if unified { 2 } else { 1 };
        // The files of a v1 group tell which controllers it has.
        let known = [
            ("memory", "memory.limit_in_bytes"),
            ("cpu", "cpu.shares"),
            ("cpuset", "cpuset.cpus"),
            ("pids", "pids.max"),
            ("blkio", "blkio.reset_stats"),
            ("hugetlb", "hugetlb.2MB.limit_in_bytes"),
            ("net_cls", "net_cls.classid"),
            ("net_prio", "net_prio.ifpriomap"),
            ("rdma", "rdma.max"),
            ("devices", "devices.allow"),
            ("freezer", "freezer.state"),
        ];
        let controllers = if unified {
            v2::carried(path, &known.map(|(name, _)| name))
        } else {
            known.iter().filter(|(_, file)| path.join(file).exists()).map(|(name, _)| *name).collect()
        };
        Group {
            path: path.clone(),
            version,
            controllers,
            name: String::new(),
            mount_point: PathBuf::new(),
            counts: false,
            delegated: false,
            hidden: false,
        }
    };
    Groups { list: paths.iter().map(group).collect(), scope: None, owner: None }
}

impl Groups {
    /// Whether a group carries this controller.
    fn carrying(&self, controller: &str) -> Option<&Group> {
        self.list.iter().find(|group| group.controllers.contains(&controller))
    }

    /// Changes limits of a container that exists and is in all groups that are needed for them ([`Self::lacking`]).
    pub(crate) fn update(&self, resources: &Resources) -> Result<(), Error> {
        for group in &self.list {
            match group.version {
                1 => v1::write(group, resources)?,
                _ => v2::update(group, resources)?,
            }
        }
        Ok(())
    }

    /// Stops every process of the container, or lets them go on.
    pub(crate) fn freeze(&self, frozen: bool) -> Result<bool, Error> {
        if let Some(group) = self.list.iter().find(|group| group.is_unified()) {
            return v2::freeze(group, frozen).map(|()| true);
        }
        match self.carrying("freezer") {
            Some(group) => v1::freeze(group, frozen).map(|()| true),
            None => Ok(false),
        }
    }

    /// Whether its processes are frozen.
    pub(crate) fn is_frozen(&self) -> bool {
        let state = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        self.list.iter().any(|group| {
            state(group.path.join("cgroup.freeze")).trim() == "1"
                || ["FROZEN", "FREEZING"].contains(&state(group.path.join("freezer.state")).trim())
        })
    }

    /// The processes in the groups; empty when there is no group.
    pub(crate) fn processes(&self) -> Vec<i32> {
        self.list.first().map(|group| files::processes(&group.path)).unwrap_or_default()
    }

    /// Kills every process in the groups.
    pub(crate) fn kill(&self) {
        for group in &self.list {
            if std::fs::write(group.path.join("cgroup.kill"), "1").is_err() {
                files::kill_all(&group.path);
            }
        }
    }
}

/// Removes groups, killing what is still in them. Groups that aren't there are no error.
pub(crate) fn remove(paths: &[PathBuf]) -> Result<(), Error> {
    // A killed process leaves its group a little later; nobody waits this long unless the kernel is stuck.
    let deadline = Instant::now() + Duration::from_secs(10);
    for path in paths {
        let mut pause = Duration::from_micros(50);
        while let Err(error) = files::remove_tree(path) {
            if Instant::now() > deadline {
                return Err(error);
            }
            if std::fs::write(path.join("cgroup.kill"), "1").is_err() {
                files::kill_all(path);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
    Ok(())
}
