//! File systems and mounts, and the system calls that make processes.

use super::cgroups;
use super::finding::{Finding, Group, load, sentence};
use super::namespaces::users_remedy;
use super::privileges;
use insula_sys::host::Facts;
use insula_sys::host::trial::Trial;

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut all = overlay(facts);
    all.extend(mounts(facts));
    all.extend(processes(facts));
    all
}

fn overlay(facts: &Facts) -> Vec<Finding> {
    let group = Group::FileSystems;
    let mounts = &facts.mounts;
    let known = mounts.filesystems.iter().any(|name| name == "overlay");
    let mut all = Vec::new();
    if facts.kernel.uid == 0 {
        let remedy = if known { "Run with CAP_SYS_ADMIN.".to_owned() } else { load(facts, "overlay") };
        all.push(Finding::tried(group, "overlayfs", "stacks the layers of an image", &mounts.overlay).remedy(remedy));
    }
    let what = "the same for rootless containers (Linux 5.11)";
    let remedy = if !mounts.filesystems.is_empty() && !known {
        load(facts, "overlay")
    } else if facts.namespaces.users.as_me.works() {
        "Linux 5.11 or newer; until then layers are copied, or mounted by fuse-overlayfs.".into()
    } else {
        users_remedy(facts)
    };
    all.push(Finding::tried(group, "overlayfs, rootless", what, &mounts.overlay_in_user_namespace).remedy(remedy));
    for (name, purpose) in [("erofs", "read-only images without unpacking"), ("squashfs", "read-only images of other makers")] {
        let known = mounts.filesystems.iter().any(|known| known == name);
        if known && privileges::lacks(facts, "CAP_SYS_ADMIN") {
            let why = "The kernel has it, but mounts it for root only.";
            all.push(Finding::limited(group, name, purpose).why(why).remedy("Run as root, or let images be unpacked."));
        } else if known {
            all.push(Finding::ok(group, name, purpose));
        } else {
            let why = "The kernel doesn't list it; it may be a module that isn't loaded.";
            all.push(Finding::missing(group, name, purpose).why(why).remedy(load(facts, name)));
        }
    }
    all
}

fn mounts(facts: &Facts) -> Vec<Finding> {
    let group = Group::FileSystems;
    let mounts = &facts.mounts;
    let calls = "fsopen, fsconfig, fsmount, mount_setattr, move_mount, open_tree";
    let mut all = vec![Finding::tried(group, "mount API by descriptor", calls, &mounts.descriptor_api).remedy(
        if mounts.descriptor_api.errno() == Some(rustix::io::Errno::NOSYS) {
            "Linux 5.12 or newer, or a seccomp profile around us that knows these calls.".to_owned()
        } else {
            users_remedy(facts)
        },
    )];
    let root = mounts.root_type.as_deref().unwrap_or("unknown");
    let subject = "idmapped mounts";
    all.push(match (mounts.idmapped_root.works(), mounts.idmapped_tmpfs.works()) {
        (true, true) => Finding::ok(group, subject, format!("a directory under other owners, without chown: {root}, tmpfs")),
        (true, false) => Finding::limited(group, subject, format!("of {root}, but not of tmpfs"))
            .why(sentence(&mounts.idmapped_tmpfs.reason()))
            .remedy("Linux 6.3 or newer."),
        (false, true) => Finding::limited(group, subject, format!("of tmpfs, but not of the root file system ({root})"))
            .why(sentence(&mounts.idmapped_root.reason()))
            .remedy("Keep images on ext4, xfs or btrfs, or use a newer kernel."),
        (false, false) => {
            let remedy = match mounts.idmapped_root.errno() {
                Some(rustix::io::Errno::INVAL) => {
                    "Keep images on ext4, xfs or btrfs (Linux 5.12 to 5.19); tmpfs has them since Linux 6.3."
                }
                _ => "Linux 5.12 or newer, and CAP_SYS_ADMIN where the file system was mounted (root).",
            };
            Finding::missing(group, subject, format!("a directory under other owners, without chown: neither {root} nor tmpfs"))
                .why(sentence(&mounts.idmapped_root.reason()))
                .remedy(remedy)
        }
    });
    all
}

fn processes(facts: &Facts) -> Vec<Finding> {
    let group = Group::KernelInterfaces;
    let process = &facts.process;
    let newer = |version: &str| format!("Linux {version} or newer, or a seccomp profile around us that knows the call.");
    let mut all = vec![
        Finding::tried(group, "clone3", "starts a process in all its namespaces at once", &process.clone3).remedy(newer("5.3")),
        clone_into_cgroup(facts),
        Finding::tried(group, "pidfd", "holds a process by a descriptor, safe from reused numbers", &process.pidfd)
            .remedy(newer("5.3")),
        Finding::tried(group, "openat2", "resolves paths that can't leave a root", &process.openat2).remedy(newer("5.6")),
        Finding::tried(group, "close_range", "leaks no descriptor into a workload", &process.close_range).remedy(newer("5.9")),
    ];
    let remedy = match process.io_uring_disabled {
        Some(1..) => "As root: sysctl kernel.io_uring_disabled=0, if workloads or disk benchmarks want it.".to_owned(),
        _ => newer("5.1"),
    };
    all.push(
        Finding::tried(group, "io_uring", "batched I/O, for block devices and disk benchmarks", &process.io_uring).remedy(remedy),
    );
    let traced = "traces a child: the sentry's simplest platform";
    let remedy = "As root: sysctl kernel.yama.ptrace_scope=1 (3 lasts until reboot), or a sandbox around us that allows ptrace.";
    all.push(Finding::tried(group, "ptrace", traced, &process.ptrace_child).remedy(remedy));
    all
}

fn clone_into_cgroup(facts: &Facts) -> Finding {
    let (group, subject) = (Group::KernelInterfaces, "CLONE_INTO_CGROUP");
    let what = "starts a process inside its cgroup, without a move";
    let trial = &facts.process.clone_into_cgroup;
    match trial {
        Trial::Works if cgroups::limits_in_v2(&facts.cgroup) => Finding::ok(group, subject, what),
        Trial::Works => Finding::limited(group, subject, what)
            .why("It works, but only for v2, which sets no limits here: v1 groups are joined by a move.")
            .remedy("Boot with cgroup v2 alone."),
        Trial::Untried { why } => Finding::missing(group, subject, what).why(sentence(why)).remedy("Mount cgroup2."),
        Trial::Fails { .. } if trial.errno() == Some(rustix::io::Errno::ACCESS) => Finding::limited(group, subject, what)
            .why("The kernel has it, but our own group isn't ours to write.")
            .remedy("A delegated group (see control groups)."),
        Trial::Fails { .. } => Finding::tried(group, subject, what, trial).remedy("Linux 5.7 or newer."),
    }
}
