//! Cgroup hierarchies, their controllers, and delegation.

use super::finding::{Finding, Group, and};
use insula_sys::host::Facts;
use insula_sys::host::cgroup::{self, Hierarchy, Layout};

const GROUP: Group = Group::ControlGroups;

/// Controllers that limits are made of: v2's name, v1's, and what it limits.
const WANTED: [(&str, &str, &str); 5] = [
    ("memory", "memory", "memory"),
    ("cpu", "cpu", "processor time"),
    ("pids", "pids", "the number of processes"),
    ("io", "blkio", "disk bandwidth"),
    ("cpuset", "cpuset", "which processors are used"),
];

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let cgroup = &facts.cgroup;
    let mut all = vec![layout(cgroup)];
    all.extend(hierarchies(facts));
    all.extend(lacking(cgroup));
    all.extend(delegation(facts));
    all.extend(favordynmods(cgroup));
    all
}

/// Limits that can't be set here, as what they limit.
pub(super) fn unlimited(cgroup: &cgroup::Facts) -> Vec<&'static str> {
    WANTED.iter().filter(|(v2, v1, _)| !usable(cgroup, v2, v1)).map(|(_, _, limits)| *limits).collect()
}

/// Whether any of the limits is set in the unified hierarchy.
pub(super) fn limits_in_v2(cgroup: &cgroup::Facts) -> bool {
    let controllers = cgroup.unified().map_or(&[][..], |unified| unified.controllers.as_slice());
    controllers.iter().any(|name| WANTED.iter().any(|(v2, _, _)| v2 == name))
}

fn usable(cgroup: &cgroup::Facts, v2: &str, v1: &str) -> bool {
    [v1, v2].into_iter().filter_map(|name| cgroup.holding(name)).any(|hierarchy| hierarchy.writable)
}

/// What would make limits settable.
pub(super) fn limits_remedy(facts: &Facts) -> String {
    let root = facts.kernel.uid == 0 && facts.kernel.initial_user_namespace;
    match (facts.cgroup.layout, root) {
        (Layout::None, _) => "As root: mount -t cgroup2 cgroup2 /sys/fs/cgroup.".into(),
        _ if facts.cgroup.hierarchies.iter().any(|hierarchy| hierarchy.read_only) => {
            "The hierarchies are mounted read-only, as container programs do: run the outer container privileged, or with its own \
             writable cgroup namespace."
                .into()
        }
        (Layout::V2, true) => "Switch the controllers on for this group: echo +memory +cpu +pids +io +cpuset, one each, into the \
             cgroup.subtree_control of the groups above it."
            .into(),
        (_, true) => "Mount the hierarchy that is missing, for example: mount -t cgroup -o pids pids /sys/fs/cgroup/pids.".into(),
        (Layout::V2, false) => delegate(),
        (_, false) => "Run as root, or boot with cgroup v2 alone, which can be delegated to users.".into(),
    }
}

fn delegate() -> String {
    "Ask for a delegated group: systemd-run --user --scope -p Delegate=yes insula …; without systemd, root gives the user a group \
     (chown of the directory, cgroup.procs, cgroup.subtree_control and cgroup.threads)."
        .into()
}

fn layout(cgroup: &cgroup::Facts) -> Finding {
    const ALONE: &str = "Boot with cgroup_no_v1=all on the kernel's command line (systemd: systemd.unified_cgroup_hierarchy=1), and \
         mount cgroup2 at /sys/fs/cgroup.";
    let only_v2 = "Delegation to plain users, pressure-based limits, and killing a group by one write need controllers in v2.";
    match cgroup.layout {
        Layout::V2 => {
            let kill = if cgroup.kill == Some(false) { ", without cgroup.kill (Linux 5.14)" } else { "" };
            Finding::ok(GROUP, "layout", format!("v2 alone{kill}"))
        }
        Layout::Hybrid if limits_in_v2(cgroup) => {
            Finding::limited(GROUP, "layout", "hybrid: some controllers are in v1, some in v2").why(only_v2).remedy(ALONE)
        }
        Layout::Hybrid => {
            Finding::limited(GROUP, "layout", "hybrid: limits are set in v1; v2 is mounted beside it").why(only_v2).remedy(ALONE)
        }
        Layout::V1 => Finding::limited(GROUP, "layout", "v1 alone").why(only_v2).remedy(ALONE),
        Layout::None => Finding::missing(GROUP, "layout", "nothing is mounted")
            .why("No limit can be set, and no statistics can be read.")
            .remedy("As root: mount -t cgroup2 cgroup2 /sys/fs/cgroup."),
    }
}

/// One line for all hierarchies of a kind: which controllers, where, and whether they are ours to write.
fn hierarchies(facts: &Facts) -> Vec<Finding> {
    let mut all = Vec::new();
    for version in [1, 2] {
        for access in [Access::Writable, Access::Closed, Access::ReadOnly, Access::Elsewhere] {
            let of_this_kind = |found: &&Hierarchy| found.version == version && access_to(found) == access;
            let places: Vec<String> = facts.cgroup.hierarchies.iter().filter(of_this_kind).map(place).collect();
            if !places.is_empty() {
                all.push(access.finding(facts, version, places.join(", ")));
            }
        }
    }
    all
}

/// What we may do with a hierarchy.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Writable,
    Closed,
    ReadOnly,
    Elsewhere,
}

fn access_to(hierarchy: &Hierarchy) -> Access {
    match hierarchy {
        Hierarchy { own_group: None, .. } => Access::Elsewhere,
        Hierarchy { writable: true, .. } => Access::Writable,
        Hierarchy { read_only: true, .. } => Access::ReadOnly,
        _ => Access::Closed,
    }
}

impl Access {
    fn finding(self, facts: &Facts, version: u8, places: String) -> Finding {
        match self {
            Access::Writable => Finding::ok(GROUP, format!("v{version}, writable"), places),
            // What would change it stands under "delegation".
            Access::Closed => Finding::missing(GROUP, format!("v{version}, not writable"), places)
                .why("Our groups there belong to someone else: no limits, no statistics of our own."),
            Access::ReadOnly => Finding::missing(GROUP, format!("v{version}, read-only"), places)
                .why("They are mounted read-only.")
                .remedy(limits_remedy(facts)),
            Access::Elsewhere => Finding::missing(GROUP, format!("v{version}, out of sight"), places)
                .why("Our own group is outside of what is mounted there.")
                .remedy("Run in the cgroup namespace the mounts were made for."),
        }
    }
}

/// `memory in /sys/fs/cgroup/memory/our/group`
fn place(hierarchy: &Hierarchy) -> String {
    let names = if hierarchy.controllers.is_empty() { "no controller".to_owned() } else { hierarchy.controllers.join("+") };
    format!("{names} in {}", hierarchy.own_group.as_ref().unwrap_or(&hierarchy.mount_point).display())
}

fn lacking(cgroup: &cgroup::Facts) -> Option<Finding> {
    let attached = |v2: &str, v1: &str| cgroup.holding(v2).or_else(|| cgroup.holding(v1)).is_some();
    let lacking: Vec<&str> = WANTED.iter().filter(|(v2, v1, _)| !attached(v2, v1)).map(|(v2, _, _)| *v2).collect();
    if lacking.is_empty() || cgroup.layout == Layout::None {
        return None;
    }
    let v1_name = |v2: &str| WANTED.iter().find(|(name, _, _)| *name == v2).map_or(v2.to_owned(), |(_, v1, _)| (*v1).to_owned());
    let enabled = |v2: &str| cgroup.controllers.iter().any(|controller| controller.name == v1_name(v2) && controller.enabled);
    let (there, gone): (Vec<&str>, Vec<&str>) = lacking.into_iter().partition(|name| enabled(name));
    let why = match (there.as_slice(), gone.as_slice()) {
        (there, []) => format!("The kernel has {}, but no group of ours holds it.", and(there)),
        ([], gone) => format!("The kernel has no {}, or its command line disables it.", and(gone)),
        (there, gone) => format!("No group of ours holds {}; the kernel itself lacks {}.", and(there), and(gone)),
    };
    let remedy = match cgroup.layout {
        Layout::V2 => "Switch them on in the cgroup.subtree_control of every group above ours (systemd: Delegate=yes).",
        _ => "Mount a hierarchy for each, for example: mount -t cgroup -o pids pids /sys/fs/cgroup/pids.",
    };
    Some(Finding::limited(GROUP, "controllers", "some limits can't be set").why(why).remedy(remedy))
}

fn delegation(facts: &Facts) -> Option<Finding> {
    if facts.kernel.uid == 0 && facts.kernel.initial_user_namespace {
        return None;
    }
    let subject = "delegation";
    let unified = facts.cgroup.unified();
    Some(match facts.cgroup.layout {
        Layout::V2 if unified.is_some_and(|unified| unified.writable) => {
            Finding::ok(GROUP, subject, "our group is delegated to this user")
        }
        Layout::V2 => Finding::missing(GROUP, subject, "limits for a plain user")
            .why("Our group isn't delegated to this user: a limit that is asked for is refused.")
            .remedy(delegate()),
        _ => Finding::missing(GROUP, subject, "limits for a plain user")
            .why("v1 hierarchies can't be given to users safely: a limit that is asked for is refused.")
            .remedy(limits_remedy(facts)),
    })
}

/// Without this option every move of a process into a group waits for all processors to pass a quiet point; see
/// `Documentation/admin-guide/cgroup-v2.rst`. The lock it changes is one for all hierarchies.
fn favordynmods(cgroup: &cgroup::Facts) -> Option<Finding> {
    let v1 = cgroup.hierarchies.iter().filter(|hierarchy| hierarchy.version == 1).count();
    let ours = cgroup.hierarchies.iter().any(|hierarchy| hierarchy.version == 1 && hierarchy.writable);
    if !ours || cgroup.hierarchies.iter().any(|hierarchy| hierarchy.favordynmods) {
        return None;
    }
    let remedy = match cgroup.unified() {
        Some(unified) => {
            format!("As root, for the whole host (Linux 6.0): mount -o remount,favordynmods {}.", unified.mount_point.display())
        }
        None => "Mount the first hierarchy with -o favordynmods (Linux 6.0).".into(),
    };
    Some(
        Finding::limited(GROUP, "favordynmods", "off: starting a container in v1 hierarchies is slow")
            .why(format!("A process is moved into {v1} groups one after the other, and each move may wait for milliseconds."))
            .remedy(remedy),
    )
}
