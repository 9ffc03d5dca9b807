//! The groups of a whole system, which its init divides among services.
//!
//! | host | the system sees at `/sys/fs/cgroup` |
//! |---|---|
//! | v2 | its group, with every controller the host hands down |
//! | hybrid, v1 | its group in each hierarchy, in a directory each, as on the host |
//!
//! An init needs one hierarchy to keep its services' processes apart: the unified one, or v1's `name=systemd`. Those are its own to divide
//! always. Controllers of v1 can't be handed to who isn't trusted (`Documentation/admin-guide/cgroup-v2.rst`, "Delegation"): in a user
//! namespace its groups there are to be seen, but stay the host's.

use super::{Group, Groups, Place, files};
use crate::channel::failed;
use insula_boundary::Error;
use insula_spec::Plan;
use insula_spec::plan::Namespace;
use insula_sys::Context;
use insula_sys::host::cgroup::{Hierarchy, Layout, hierarchies, parse_membership, parse_mountinfo};
use rustix::fd::OwnedFd;
use rustix::fs::{Gid, Uid};

/// Controllers of v1 that a group is prepared for.
const PREPARED: [&str; 2] = ["cpuset", "freezer"];

/// An init wants these two in one hierarchy. Where the host mounts each alone, it would take them for something else, and each service it
/// starts would wait for the kernel twice more.
const APART: [&str; 2] = ["cpu", "cpuacct"];

/// Files of a group that go with it to whom it is delegated: of v2, `/sys/kernel/cgroup/delegate`; of v1, where processes are put.
const FILES: [&str; 5] = ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "memory.oom.group", "tasks"];

/// Decides which groups a system gets; makes nothing.
pub(super) fn plan(plan: &Plan, place: &Place, needed: &[&'static str]) -> Result<Groups, Error> {
    let mut groups = place.groups(needed, true, &plan.resources)?;
    groups.owner = owner(plan);
    groups.list.iter_mut().filter(|group| group.is_unified()).for_each(|group| group.delegated = true);
    if place.layout == Layout::V2 {
        return Ok(groups);
    }
    let tracks = |hierarchy: &Hierarchy| hierarchy.controllers.iter().any(|name| name == "name=systemd");
    let has_unified = groups.list.iter().any(Group::is_unified);
    for hierarchy in place.hierarchies.iter().filter(|hierarchy| hierarchy.version == 1) {
        if !files::writable(place.parent(hierarchy)) {
            continue;
        }
        let delegated = groups.owner.is_none() || tracks(hierarchy);
        let prepared = PREPARED.into_iter().find(|name| hierarchy.controllers.iter().any(|carried| carried == name));
        let path = place.directory(hierarchy);
        groups.add(hierarchy, path.clone(), prepared.unwrap_or_default());
        groups.list.iter_mut().filter(|group| group.path == path).for_each(|group| {
            group.delegated = delegated;
            group.hidden = APART.contains(&group.name.as_str());
        });
    }
    if has_unified || place.hierarchies.iter().any(tracks) {
        return Ok(groups);
    }
    Err(Error::Unsupported(
        "a system's init needs a cgroup hierarchy to keep its services apart, and this host mounts neither cgroup2 nor name=systemd; \
         mount one: mount -t cgroup2 none /sys/fs/cgroup/unified"
            .into(),
    ))
}

/// Who owns what is delegated; none where the container's root is the host's.
pub(super) fn owner(plan: &Plan) -> Option<(u32, u32)> {
    let root = |map: &[insula_spec::plan::IdMap]| map.iter().find(|range| range.inside == 0).map(|range| range.outside);
    let spaces = &plan.namespaces;
    if spaces.creates(Namespace::User) { root(&spaces.uid_map).zip(root(&spaces.gid_map)) } else { None }
}

impl Groups {
    /// Gives a delegated group to the container's root.
    pub(super) fn give(&self, group: &Group) -> Result<(), Error> {
        let Some((uid, gid)) = self.owner.filter(|_| group.delegated) else { return Ok(()) };
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        let files = FILES.iter().map(|file| group.path.join(file)).filter(|path| path.exists());
        for path in std::iter::once(group.path.clone()).chain(files) {
            rustix::fs::chown(&path, Some(uid), Some(gid)).on("give to the container", path.display()).map_err(failed)?;
        }
        Ok(())
    }

    /// The v2 group that a process of the container is in now, opened, for another to be made beside it.
    pub(crate) fn unified_of(&self, pid: i32) -> Result<Option<OwnedFd>, Error> {
        let Some(group) = self.list.iter().find(|group| group.is_unified()) else { return Ok(None) };
        let mounts = parse_mountinfo(&files::read("/proc/self/mountinfo".as_ref())?);
        let memberships = parse_membership(&files::read(format!("/proc/{pid}/cgroup").as_ref())?);
        let own = hierarchies(&mounts, &memberships).into_iter().find(|hierarchy| hierarchy.version == 2);
        let own = own.and_then(|hierarchy| hierarchy.own_group).filter(|own| own.starts_with(&group.path));
        files::open_dir(own.as_ref().unwrap_or(&group.path)).map(Some)
    }
}
