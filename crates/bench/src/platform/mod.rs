//! The platforms: for each boundary and each peer, how it is told to run the workload.
//!
//! A [`Platform`] turns a [`Job`] into a command line; it starts nothing itself. What every platform shares is the root file system,
//! the volume and the workload of [`Scratch`]; what a file here adds is only how that platform takes them.

mod bwrap;
mod engine;
mod lxc;
mod native;
mod oci;
mod system;

use crate::Error;
use crate::host;
use crate::interrupt::Interrupt;
use crate::launcher::{Launcher, Outcome};
use crate::scratch::Scratch;
use std::path::Path;
use std::time::Duration;

/// The baseline.
pub(crate) const NATIVE: &str = "native";
/// The baseline once more, as if it were a platform of its own: what differs between the two is noise.
pub(crate) const AGAIN: &str = "native-again";
/// Every platform, in the order of the report.
pub const NAMES: [&str; 15] = [
    NATIVE,
    AGAIN,
    "container",
    "system",
    "sentry",
    "runc",
    "crun",
    "youki",
    "bwrap",
    "lxc",
    "docker",
    "docker-insula",
    "podman",
    "podman-insula",
    "runsc",
];
/// How long a question to a peer (its version, an import) may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a platform is told to run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Job<'a> {
    /// The program that ends at once.
    Noop {
        /// Under cgroup limits.
        limits: bool,
    },
    /// The program that waits for the end of its input, without limits.
    Idle,
    /// A whole system, until it says that it runs; it goes on then.
    System {
        /// Its root directory.
        root: &'a Path,
    },
    /// Rows of the workload, under limits where the platform has them.
    Rows {
        /// Their names.
        rows: &'a [&'static str],
        /// About how long each of them takes.
        seconds: f64,
        /// What "all cores" means.
        threads: usize,
        /// Under cgroup limits.
        limits: bool,
    },
}

impl Job<'_> {
    pub(crate) fn limits(&self) -> bool {
        match self {
            Job::Noop { limits } | Job::Rows { limits, .. } => *limits,
            Job::Idle | Job::System { .. } => false,
        }
    }

    /// The arguments of the workload, which finds its directories under these names.
    pub(crate) fn args(&self, dir: &str, volume: &str) -> Vec<String> {
        match self {
            Job::Noop { .. } => vec!["noop".into()],
            Job::Idle => vec!["idle".into()],
            Job::System { .. } => Vec::new(),
            Job::Rows { rows, seconds, threads, .. } => {
                let options =
                    ["--seconds", &seconds.to_string(), "--threads", &threads.to_string(), "--dir", dir, "--volume", volume];
                std::iter::once("run").chain(rows.iter().copied()).chain(options).map(str::to_owned).collect()
            }
        }
    }

    /// The workload's command line inside a boundary.
    pub(crate) fn inside(&self) -> Vec<String> {
        let mut argv = vec!["/workload".to_owned()];
        argv.extend(self.args("/data", "/volume"));
        argv
    }
}

/// How a boundary is told to run the workload.
pub(crate) trait Platform {
    /// The command line that runs `job` as a sandbox called `id`, and ends when it ends; a reason if there is none. It is asked for a system only
    /// if it [boots](Self::boots) one.
    fn argv(&mut self, job: &Job<'_>, scratch: &Scratch, id: &str) -> Result<Vec<String>, String>;

    /// The command line that removes the sandbox `id`, whatever state it was left in; `None` if nothing can have been left.
    fn removal(&self, _id: &str) -> Option<Vec<String>> {
        None
    }

    /// The command line that removes what the platform itself keeps.
    fn farewell(&self) -> Option<Vec<String>> {
        None
    }

    /// Why the memory and CPU time of the runtime can't be told from the command's children.
    fn hidden(&self) -> Option<&'static str> {
        None
    }

    /// Whether it boots whole systems.
    fn boots(&self) -> bool {
        false
    }

    /// Why limits can't be set.
    fn unlimited(&self) -> Option<&'static str> {
        None
    }
}

/// A platform that is installed.
pub(crate) struct Found {
    pub(crate) platform: Box<dyn Platform>,
    /// What the platform says its version is.
    pub(crate) version: String,
    /// A second way to start it, tried if the first does not work, and what the report must say of it.
    pub(crate) otherwise: Option<(Vec<String>, &'static str)>,
}

/// Fails at the first name that is no platform's.
pub(crate) fn known(names: &[String]) -> Result<(), Error> {
    match names.iter().find(|name| !NAMES.contains(&name.as_str())) {
        Some(name) => Err(Error::NoPlatform { name: name.clone(), known: NAMES.join(", ") }),
        None => Ok(()),
    }
}

/// The helper that asks peers for their version and prepares them; nothing is measured with it.
pub(crate) struct Errand<'a> {
    pub(crate) launcher: Launcher,
    pub(crate) scratch: &'a Scratch,
    pub(crate) interrupt: &'a Interrupt,
}

impl Errand<'_> {
    /// What a command prints; a reason if it fails.
    pub(crate) fn ask(&mut self, argv: &[&str]) -> Result<String, String> {
        let argv = argv.iter().map(|&word| word.to_owned()).collect();
        match self.launcher.run(argv, false, self.scratch, self.interrupt, PATIENCE).map_err(|error| error.to_string())? {
            Outcome::Ended(usage) if usage.code == 0 => {
                let text = std::fs::read(self.scratch.stdout()).map_err(|error| error.to_string())?;
                Ok(String::from_utf8_lossy(&text).trim().to_owned())
            }
            Outcome::Ended(usage) => Err(self.scratch.complaint(usage.code)),
            Outcome::Failed(reason) => Err(reason),
            Outcome::Late => Err(format!("no answer within {} s", PATIENCE.as_secs())),
            Outcome::Stop => Err("stopped".into()),
        }
    }

    /// The version of an installed program: the first line it prints with `--version`.
    fn version(&mut self, program: &str) -> Result<String, String> {
        host::which(program).ok_or("not installed")?;
        Ok(self.ask(&[program, "--version"])?.lines().next().unwrap_or("").to_owned())
    }
}

/// A copy of our own program: of the program's file itself the benchmark has pages in use, which would make its processes look smaller.
fn own_program(scratch: &Scratch) -> Result<String, String> {
    let copy = scratch.beside("insula");
    if !copy.exists() {
        let own = std::env::current_exe().map_err(|error| format!("the own program can't be found: {error}"))?;
        std::fs::copy(own, &copy).map_err(|error| format!("the own program can't be copied: {error}"))?;
    }
    Ok(host::text(copy))
}

/// Looks for the platform `name`; a reason if it is not there.
pub(crate) fn find(name: &str, errand: &mut Errand<'_>, host: &host::Host) -> Result<Found, String> {
    let found = |platform: Box<dyn Platform>, version: String| Found { platform, version, otherwise: None };
    // Other ways are mount namespaces, which only root can make.
    let root = rustix::process::geteuid().is_root();
    let hybrid = (root && host.cgroups == host::Cgroups::Hybrid).then(oci::without_unified);
    match name {
        NATIVE | AGAIN => Ok(found(Box::new(native::Native), "a plain process".into())),
        "container" | "sentry" => {
            let own = own_program(errand.scratch)?;
            let version = concat!("insula ", env!("CARGO_PKG_VERSION")).to_owned();
            Ok(found(Box::new(oci::Oci::new(name, vec![own, "--isolation".into(), name.into()])), version))
        }
        "system" => {
            let version = concat!("insula ", env!("CARGO_PKG_VERSION")).to_owned();
            Ok(found(Box::new(system::System { program: own_program(errand.scratch)? }), version))
        }
        "lxc" => {
            let version = errand.version("lxc-execute")?;
            Ok(found(Box::new(lxc::Lxc::new(errand.scratch, host.cgroups)), version))
        }
        "runsc" => {
            let version = errand.version(name)?;
            let command = ["runsc", "--platform=ptrace", "--network=none"].map(str::to_owned).to_vec();
            let platform = Box::new(oci::Oci::new(name, command));
            Ok(Found { platform, version, otherwise: root.then(oci::without_net_sysctl) })
        }
        "bwrap" => Ok(found(Box::new(bwrap::Bwrap), errand.version(name)?)),
        "docker" | "podman" | "docker-insula" | "podman-insula" => {
            let (program, ours) = name.strip_suffix("-insula").map_or((name, false), |program| (program, true));
            let (engine, version) = engine::Engine::prepare(program, ours, errand)?;
            // podman starts containers with crun; docker's daemon would not notice.
            let otherwise = (name == "podman").then_some(hybrid).flatten();
            Ok(Found { platform: Box::new(engine), version, otherwise })
        }
        runtime => {
            let version = errand.version(runtime)?;
            let otherwise = (runtime == "crun").then_some(hybrid).flatten();
            Ok(Found { platform: Box::new(oci::Oci::new(name, vec![runtime.into()])), version, otherwise })
        }
    }
}
