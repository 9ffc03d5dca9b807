//! Groups for a container that runs already. It was started in none of that kind, as nothing had asked for one; now a limit or a
//! pause does.
//!
//! Moving a process takes its time (see [`super`]), but these calls are rare. Nothing a process makes while the others are being
//! moved gets away: who is looked for is looked for again until nobody is left outside. A pause freezes the group first, so that
//! whoever comes in makes nothing more.

use super::{Group, Groups, Place, files, needed, v2};
use insula_boundary::Error;
use insula_spec::Plan;
use insula_spec::resources::Resources;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

impl Groups {
    /// Whether its processes can be frozen.
    pub(crate) fn can_freeze(&self) -> bool {
        self.list.iter().any(Group::is_unified) || self.carrying("freezer").is_some()
    }

    /// The groups that are needed beside these: for limits, or, without any, to freeze. They stand where those of `init`, the first
    /// process, are now. Controllers of a v2 group that is there already are switched on.
    pub(crate) fn lacking(&self, plan: &Plan, init: i32, resources: &Resources) -> Result<Groups, Error> {
        let needed: Vec<_> = needed(resources).into_iter().filter(|name| self.carrying(name).is_none()).collect();
        let freezes = *resources == Resources::default();
        if needed.is_empty() && (!freezes || self.can_freeze()) {
            return Ok(Groups::default());
        }
        let place = Place::of_process(init, plan.id.clone(), plan.cgroup_path.clone())?;
        let mut more = place.groups(&needed, freezes, resources)?;
        more.check_permitted()?;
        if let Some(there) = self.list.iter().find(|group| group.is_unified()) {
            for group in more.list.iter().filter(|group| group.is_unified()) {
                v2::switch_on(&Group { path: there.path.clone(), ..group.clone() })?;
            }
            more.list.retain(|group| !group.is_unified());
        }
        Ok(more)
    }

    /// Whether there is no group.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Moves processes in, until `processes` tells of none that is outside.
    pub(crate) fn adopt(&self, processes: impl Fn() -> Vec<i32>) -> Result<(), Error> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let mut moved = false;
            for group in &self.list {
                let inside: BTreeSet<i32> = files::processes(&group.path).into_iter().collect();
                for pid in processes().into_iter().filter(|pid| !inside.contains(pid)) {
                    moved |= move_into(group, pid)?;
                }
            }
            if !moved {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::Failed("its processes make others faster than they can be moved; try again".into()));
            }
        }
    }

    /// Takes back an attempt: the processes go to the groups above, and these groups.
    pub(crate) fn disband(&self) {
        for group in &self.list {
            let Some(above) = group.path.parent() else { continue };
            for pid in files::processes(&group.path) {
                let _ = std::fs::write(above.join("cgroup.procs"), pid.to_string());
            }
            // What is still in it stays where it is, in a group that is on record.
            let _ = rustix::fs::rmdir(&group.path);
        }
    }
}

/// Whether the process was there to be moved.
fn move_into(group: &Group, pid: i32) -> Result<bool, Error> {
    let path = group.path.join("cgroup.procs");
    match std::fs::write(&path, pid.to_string()) {
        Ok(()) => Ok(true),
        // It has ended.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(false),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::Failed(format!("{} is gone", path.display()))),
        Err(error) => {
            let errno = rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO);
            let text = insula_sys::error::describe(errno);
            Err(Error::Failed(format!("can't move process {pid} into {}: {text}", group.path.display())))
        }
    }
}
