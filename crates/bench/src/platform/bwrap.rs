//! `bwrap`: bubblewrap, namespaces without an OCI bundle, cgroup limits or a seccomp profile of its own.

use super::{Job, Platform};
use crate::host;
use crate::scratch::Scratch;

pub(super) struct Bwrap;

impl Platform for Bwrap {
    fn argv(&mut self, job: &Job<'_>, scratch: &Scratch, _id: &str) -> Result<Vec<String>, String> {
        let (root, volume) = (host::text(scratch.rootfs()), host::text(scratch.volume()));
        let options = ["--unshare-all", "--die-with-parent", "--bind", &root, "/", "--proc", "/proc", "--dev", "/dev"];
        let mut argv = vec!["bwrap".to_owned()];
        argv.extend(options.into_iter().chain(["--bind", &volume, "/volume", "--"]).map(str::to_owned));
        argv.extend(job.inside());
        Ok(argv)
    }

    fn unlimited(&self) -> Option<&'static str> {
        Some("bubblewrap sets no cgroup limits")
    }
}
