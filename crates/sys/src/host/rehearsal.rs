//! A container's set-up from beginning to end, tried in a throw-away child: the one probe that says whether a container starts here.

use super::trial::{self, Failure, IdMaps, Step, Trial, unshare};
use rustix::fs::{Mode, mkdir};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::thread::UnshareFlags;
use serde::Serialize;

/// What came of the rehearsal.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// Whether a user namespace was needed, for lack of `CAP_SYS_ADMIN`.
    pub in_user_namespace: bool,
    /// All namespaces, a root of its own, a fresh `/proc`, a host name, a seccomp filter.
    pub container: Trial,
}

pub(super) fn gather() -> Facts {
    let maps = IdMaps::if_unprivileged();
    Facts { in_user_namespace: maps.is_some(), container: trial::run(|| container(maps.as_ref())) }
}

fn container(maps: Option<&IdMaps>) -> Result<(), Failure> {
    trial::become_root(maps)?;
    unshare(UnshareFlags::NEWNS).step("creating a mount namespace")?;
    unshare(UnshareFlags::NEWPID).step("creating a PID namespace")?;
    unshare(UnshareFlags::NEWIPC).step("creating an IPC namespace")?;
    unshare(UnshareFlags::NEWUTS).step("creating a UTS namespace")?;
    unshare(UnshareFlags::NEWNET).step("creating a network namespace")?;
    unshare(UnshareFlags::NEWCGROUP).step("creating a cgroup namespace")?;
    // A PID namespace takes in the children of who created it.
    trial::nested(inside)
}

/// What process 1 of a container does before it becomes the workload.
fn inside() -> Result<(), Failure> {
    trial::private_stage()?;
    mkdir(c"proc", Mode::from_raw_mode(0o555)).step("making a directory in a tmpfs")?;
    let harmless = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(c"proc", c"proc", c"proc", harmless, None).step("mounting a fresh /proc")?;
    rustix::process::pivot_root(c".", c".").step("changing the root (pivot_root)")?;
    unmount(c".", UnmountFlags::DETACH).step("letting go of the old root")?;
    rustix::process::chdir(c"/").step("entering the new root")?;
    rustix::system::sethostname(b"insula").step("setting a host name in a UTS namespace")?;
    rustix::thread::set_no_new_privs(true).step("setting no_new_privs")?;
    super::security::install_filter(0).map(drop).step("installing a seccomp filter")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rehearsal_leaves_nothing_behind() {
        let mounts = || std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        let name = || rustix::system::uname().nodename().to_owned();
        let before = (mounts(), name());
        let facts = gather();
        assert!(!matches!(facts.container, Trial::Untried { .. }));
        assert_eq!((mounts(), name()), before);
    }
}
