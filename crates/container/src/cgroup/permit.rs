//! What who isn't the host's root may have of cgroups. A limit that was asked for is refused, with what would change that, before
//! anything is made; without one no group is needed.

use super::{Group, Groups, files, needed};
use insula_boundary::Error;
use insula_spec::Plan;
use insula_spec::resources::DeviceRule;
use std::path::Path;

/// How a plain user gets groups to make others in.
pub(super) const DELEGATION: &str = "ask for one (systemd-run --user --scope -p Delegate=yes insula …; without systemd, root gives you \
    a directory with its cgroup.procs, cgroup.subtree_control and cgroup.threads)";

/// The controllers of what a plan limits, by their names in v1.
pub(super) fn limited(plan: &Plan) -> Result<Vec<&'static str>, Error> {
    let mut needed = needed(&plan.resources);
    if needed.contains(&"devices") && !privileged() {
        check_rules(plan)?;
        needed.retain(|name| *name != "devices");
    }
    Ok(needed)
}

/// Whether this process is the host's root.
pub(super) fn privileged() -> bool {
    rustix::process::geteuid().is_root() && insula_sys::host::kernel::in_initial_user_namespace()
}

/// Device rules that hold without a group: in a user namespace no node can be made, so what isn't given isn't there.
fn check_rules(plan: &Plan) -> Result<(), Error> {
    let refuse = |field: &str, problem: &str| Err(Error::Unsupported(format!("{field}: {problem}")));
    let rules = &plan.resources.devices;
    let everything = |rule: &DeviceRule| rule.major.is_none() && rule.minor.is_none() && rule.access.len() == 3;
    let denies_first = rules.first().is_some_and(|rule| !rule.allow && everything(rule));
    if !denies_first || rules.iter().skip(1).any(|rule| !rule.allow) {
        let problem = "a plain user's container has no rules but that what isn't given isn't there: begin with one that denies \
            everything, let others only allow, or remove them";
        return refuse("linux.resources.devices", problem);
    }
    for (index, device) in plan.devices.iter().enumerate() {
        let of = |rule: &&DeviceRule| {
            ['a', device.kind].contains(&rule.kind)
                && rule.major.is_none_or(|major| major == device.major)
                && rule.minor.is_none_or(|minor| minor == device.minor)
        };
        let whole = |rule: &DeviceRule| rule.access.contains('r') && rule.access.contains('w');
        if !rules.iter().skip(1).filter(of).any(whole) && device.kind != 'p' {
            let problem = "linux.resources.devices doesn't allow to read and write it, which a plain user's container can't see to; \
                allow both, or remove the device";
            return refuse(&format!("linux.devices[{index}]"), problem);
        }
    }
    Ok(())
}

impl Groups {
    /// Refuses groups that this user can't make.
    pub(super) fn check_permitted(&self) -> Result<(), Error> {
        if self.list.is_empty() || privileged() {
            return Ok(());
        }
        self.list.iter().try_for_each(check_one)
    }
}

fn check_one(group: &Group) -> Result<(), Error> {
    let there = group.path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    if files::writable(there) {
        return Ok(());
    }
    let what = match group.controllers.as_slice() {
        [] => "linux.cgroupsPath: the group can't be made".to_owned(),
        ["freezer"] => "a pause takes a group, which can't be made".to_owned(),
        names => format!("limits of {} can't be set", names.join(" and ")),
    };
    let dir = there.display();
    let problem = match group.version {
        1 => format!(
            "{what}: {dir} isn't this user's, and groups of cgroup v1 can't be handed to users; run as root, boot with cgroup v2 \
             alone (cgroup_no_v1=all) and have a group delegated, or leave the limit out"
        ),
        _ => format!("{what}: the cgroup {dir} isn't delegated to this user; {DELEGATION}, or leave the limit out"),
    };
    Err(Error::Unsupported(problem))
}
