//! `lxc`: LXC's containers, with the configuration that Debian's package brings. A program runs below LXC's small init (`lxc-execute`); `lxc-start` would
//! lose what it prints where there is no terminal. A whole system is started by `lxc-start`.

use super::{Job, Platform, system};
use crate::host::{self, Cgroups};
use crate::scratch::Scratch;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

pub(super) struct Lxc {
    /// Where LXC keeps what it knows of containers.
    store: PathBuf,
    /// What its keys for limits begin with.
    group: &'static str,
}

/// What the package brings.
const COMMON: &str = "/usr/share/lxc/config/common.conf";

impl Lxc {
    pub(super) fn new(scratch: &Scratch, cgroups: Cgroups) -> Lxc {
        Lxc { store: scratch.beside("lxc"), group: if cgroups == Cgroups::V2 { "lxc.cgroup2" } else { "lxc.cgroup" } }
    }

    fn verb(&self, verb: &str, id: &str, more: &[String]) -> Vec<String> {
        let words = [verb, "-P", &host::text(&self.store), "-n", id].map(str::to_owned);
        [&words[..], more].concat()
    }

    fn limits(&self) -> String {
        let (host::Limits { memory, processes, cpus }, group) = (host::limits(), self.group);
        let cpu = match group {
            "lxc.cgroup2" => format!("{group}.cpu.max = {} 100000", 100_000 * cpus),
            _ => format!("{group}.cpu.cfs_quota_us = {}", 100_000 * cpus),
        };
        let memory_key = if group == "lxc.cgroup2" { "max" } else { "limit_in_bytes" };
        format!("{group}.memory.{memory_key} = {memory}\n{group}.pids.max = {processes}\n{cpu}\n")
    }
}

/// What every container is told.
fn config(id: &str, root: &Path) -> String {
    let mut config = String::new();
    if Path::new(COMMON).exists() {
        let _ = writeln!(config, "lxc.include = {COMMON}");
    }
    let root = root.display();
    config
        + &format!(
            "lxc.rootfs.path = dir:{root}\nlxc.uts.name = {id}\nlxc.net.0.type = empty\nlxc.apparmor.profile = unconfined\n"
        )
}

impl Platform for Lxc {
    fn argv(&mut self, job: &Job<'_>, scratch: &Scratch, id: &str) -> Result<Vec<String>, String> {
        let root = match job {
            Job::System { root } => root.to_path_buf(),
            _ => scratch.rootfs(),
        };
        let mut config = config(id, &root);
        if !matches!(job, Job::System { .. }) {
            let _ = writeln!(config, "lxc.mount.entry = {} volume none bind 0 0", host::text(scratch.volume()));
        }
        if job.limits() {
            config += &self.limits();
        }
        let dir = self.store.join(id);
        fs::create_dir_all(&dir).and_then(|()| fs::write(dir.join("config"), config)).map_err(|error| error.to_string())?;
        let end_of_options = ["--".to_owned()];
        Ok(match job {
            Job::System { .. } => {
                let start = self.verb("lxc-start", id, &["-d".to_owned()]);
                system::until_running(&start, &self.verb("lxc-attach", id, &end_of_options))
            }
            _ => self.verb("lxc-execute", id, &[&end_of_options[..], &job.inside()].concat()),
        })
    }

    fn boots(&self) -> bool {
        true
    }

    fn removal(&self, id: &str) -> Option<Vec<String>> {
        Some(self.verb("lxc-stop", id, &["-k".to_owned()]))
    }
}
