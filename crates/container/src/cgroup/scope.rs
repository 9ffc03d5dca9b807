//! The group that systemd makes, as the cgroup of a scope, and what it is told of limits.
//!
//! systemd makes a scope around processes that are there already, so the first process is made outside and moved in by it, before it hears
//! that it is on record. Limits are told twice: to systemd as properties, since it writes what it knows into the group whenever it has
//! a reason to; and to the kernel, in the group that systemd has delegated to us, with all that systemd has no property for.

use super::{Group, Groups, files, permit, v2};
use insula_boundary::Error;
use insula_spec::Plan;
use insula_spec::plan::Scope;
use insula_spec::resources::Resources;
use insula_sys::host::cgroup::{Hierarchy, Layout, hierarchies, layout, parse_membership, parse_mountinfo};
use insula_systemd::Manager;
use rustix::process::Pid;
use std::path::{Path, PathBuf};

/// Decides where the group will be; makes nothing.
pub(super) fn plan(plan: &Plan, scope: &Scope) -> Result<Groups, Error> {
    let hierarchy = unified()?;
    let mut manager = connect(scope)?;
    if manager.has(&scope.unit).map_err(refused)? {
        let unit = &scope.unit;
        let problem = format!("systemd has a unit {unit} already; choose another name, or another linux.cgroupsPath");
        return Err(Error::Failed(problem));
    }
    let below = manager.control_group().map_err(refused)?;
    let path = hierarchy.mount_point.join(below.trim_start_matches('/')).join(scope.path());
    let group = Group {
        path,
        version: 2,
        controllers: permit::limited(plan)?,
        name: "unified".into(),
        mount_point: hierarchy.mount_point,
        // systemd has all its units counted.
        counts: false,
        delegated: plan.system.is_some(),
        hidden: false,
    };
    Ok(Groups { list: vec![group], scope: Some(scope.clone()), owner: super::delegated::owner(plan) })
}

/// The unified hierarchy of a host that has no other.
fn unified() -> Result<Hierarchy, Error> {
    let mounts = parse_mountinfo(&files::read("/proc/self/mountinfo".as_ref())?);
    if layout(&mounts) != Layout::V2 {
        let problem = "--systemd-cgroup needs a host with cgroup v2 alone; leave it out, and insula makes the cgroups itself";
        return Err(Error::Unsupported(problem.into()));
    }
    let memberships = parse_membership(&files::read("/proc/self/cgroup".as_ref())?);
    let found = hierarchies(&mounts, &memberships).into_iter().find(|hierarchy| hierarchy.version == 2);
    found.ok_or_else(|| Error::Unsupported("--systemd-cgroup: no cgroup hierarchy is mounted".into()))
}

/// Has systemd make the scope around the first process, and writes the limits.
pub(super) fn create(groups: &Groups, scope: &Scope, plan: &Plan, pid: Pid) -> Result<(), Error> {
    let Some(group) = groups.list.first() else { return Ok(()) };
    let number = pid.as_raw_pid().unsigned_abs();
    let limits = insula_systemd::limits(&plan.resources);
    connect(scope)?.start(scope, &format!("insula container {}", plan.id), number, limits).map_err(refused)?;
    // What is on record is where it will be looked for.
    let memberships = parse_membership(&files::read(format!("/proc/{pid}/cgroup").as_ref())?);
    let own = memberships.into_iter().find(|membership| membership.hierarchy == 0);
    let there = own.map(|own| group.mount_point.join(own.path.strip_prefix("/").unwrap_or(&own.path)));
    if there.as_deref() != Some(group.path.as_path()) {
        let there = there.map_or_else(String::new, |path| path.display().to_string());
        return Err(Error::Failed(format!("systemd has put {} into {there:?} instead of {:?}", scope.unit, group.path)));
    }
    v2::fill(group, &plan.resources)?;
    groups.give(group)
}

/// Tells systemd of other limits. `group` is the scope's: what isn't said of a quota and its period is as it is.
pub(crate) fn update(scope: &Scope, group: &Path, resources: &Resources) -> Result<(), Error> {
    let mut resources = resources.clone();
    let cpu = &mut resources.cpu;
    if cpu.quota.is_some() != cpu.period.is_some() {
        let (quota, period) = v2::quota_and_period(group)?;
        cpu.quota = cpu.quota.or(Some(quota));
        cpu.period = cpu.period.or(Some(period));
    }
    let limits = insula_systemd::limits(&resources);
    if limits.is_empty() { Ok(()) } else { connect(scope)?.set(&scope.unit, limits).map_err(refused) }
}

/// Has systemd stop and forget the scope. Whatever is still in its groups is killed first, so that nothing is waited for.
pub(crate) fn remove(scope: &Scope, paths: &[PathBuf]) -> Result<(), Error> {
    let there = |path: &&PathBuf| path.exists();
    for path in paths.iter().filter(there) {
        let _ = std::fs::write(path.join("cgroup.kill"), "1");
        let _ = std::fs::write(path.join("cgroup.freeze"), "0");
    }
    match connect(scope).and_then(|mut manager| manager.stop(&scope.unit).map_err(refused)) {
        // A scope without processes is forgotten by itself: if systemd can't be asked any more, nothing is left to ask for.
        Err(Error::Unsupported(_)) if !paths.iter().any(|path| path.exists()) => Ok(()),
        stopped => stopped,
    }
}

fn connect(scope: &Scope) -> Result<Manager, Error> {
    Manager::connect(scope.of_user).map_err(refused)
}

fn refused(error: insula_systemd::Error) -> Error {
    match error {
        insula_systemd::Error::Unreachable { .. } => Error::Unsupported(error.to_string()),
        error => Error::Failed(error.to_string()),
    }
}
