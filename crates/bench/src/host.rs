//! What is known of the host: what the report tells of it, and the limits a sandbox gets on it.

use rustix::system::uname;
use serde::Serialize;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Which versions of cgroups the host has mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cgroups {
    /// One tree for each controller.
    V1,
    /// The unified tree alone.
    V2,
    /// Version 1, and the unified tree beside it.
    Hybrid,
    /// None that is mounted in the usual place.
    None,
}

/// The machine the figures come from.
#[derive(Debug, Clone, Serialize)]
pub struct Host {
    /// The kernel's name, release and version.
    pub kernel: String,
    /// The processor's model.
    pub cpu: String,
    /// Cores this process may use.
    pub cores: usize,
    /// Memory, in bytes.
    pub memory: u64,
    /// The frequency governor of the first core, if the kernel has one.
    pub governor: Option<String>,
    /// Whether the machine is itself virtual (the `hypervisor` flag of the processor).
    pub virtual_machine: bool,
    /// Versions of cgroups.
    pub cgroups: Cgroups,
    /// The distribution's name.
    pub system: String,
    /// Load average of the last minute when the benchmark began.
    pub load: f64,
    /// File system the root rows ran on.
    pub root_fs: String,
    /// File system the volume rows ran on.
    pub volume_fs: String,
}

/// What a sandbox with limits gets: enough for the workload not to feel them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes.
    pub(crate) memory: u64,
    pub(crate) processes: u64,
    pub(crate) cpus: usize,
}

/// Three quarters of the memory, all cores, and more processes than are needed.
pub(crate) fn limits() -> Limits {
    Limits { memory: memory() / 4 * 3, processes: 1024, cpus: cores() }
}

/// Cores this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Host {
    /// A sentence of warning if others were already using the machine when the benchmark began.
    pub fn busy(&self) -> Option<String> {
        let (load, cores) = (self.load, self.cores);
        (load > cores as f64 / 2.0).then(|| {
            format!("the machine was busy (load {load:.1} on {cores} cores): expect wide intervals; run it again when it is idle")
        })
    }

    /// Looks at the machine; `root` and `volume` are where the disk rows run.
    pub(crate) fn look(root: &Path, volume: &Path) -> Host {
        let name = uname();
        let word = |word: &std::ffi::CStr| word.to_string_lossy().into_owned();
        let cpuinfo = read("/proc/cpuinfo");
        let mounts = read("/proc/self/mountinfo");
        Host {
            kernel: format!("{} {} {}", word(name.sysname()), word(name.release()), word(name.machine())),
            cpu: field(&cpuinfo, "model name", ':').unwrap_or_else(|| "unknown".into()),
            cores: cores(),
            memory: memory(),
            governor: fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
                .ok()
                .map(|text| text.trim().to_owned()),
            virtual_machine: field(&cpuinfo, "flags", ':').is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            cgroups: cgroups(&mounts),
            system: field(&read("/etc/os-release"), "PRETTY_NAME", '=')
                .map_or("Linux".into(), |name| name.trim_matches('"').to_owned()),
            load: read("/proc/loadavg").split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0),
            root_fs: file_system(&mounts, root),
            volume_fs: file_system(&mounts, volume),
        }
    }
}

fn memory() -> u64 {
    let total = field(&read("/proc/meminfo"), "MemTotal", ':').unwrap_or_default();
    total.split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(1 << 20) * 1024
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The value of the first line `name SEPARATOR value`.
fn field(text: &str, name: &str, separator: char) -> Option<String> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(separator));
    pairs.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
}

/// Mount point and type of each line of mountinfo, proc_pid_mountinfo(5).
fn mounted(mounts: &str) -> impl Iterator<Item = (&str, &str)> {
    mounts.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        Some((left.split(' ').nth(4)?, right.split(' ').next()?))
    })
}

fn cgroups(mounts: &str) -> Cgroups {
    let has = |kind: &str, at: fn(&str) -> bool| mounted(mounts).any(|(point, of)| of == kind && at(point));
    match (has("cgroup2", |point| point == "/sys/fs/cgroup"), has("cgroup", |_| true), has("cgroup2", |_| true)) {
        (true, _, _) => Cgroups::V2,
        (_, true, true) => Cgroups::Hybrid,
        (_, true, false) => Cgroups::V1,
        _ => Cgroups::None,
    }
}

fn file_system(mounts: &str, path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let holds = mounted(mounts).filter(|(point, _)| path.starts_with(point));
    // The longest mount point is the nearest; of equal ones the last mounted lies on top.
    holds.max_by_key(|(point, _)| point.len()).map_or("unknown", |(_, kind)| kind).to_owned()
}

/// Where a program stands that a shell would find.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let runs = |path: &PathBuf| path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(runs)
}

/// A path of ours as text; they are all made of the temporary directory's name and plain letters.
pub(crate) fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
33 22 0:29 / /tmp rw shared:7 - tmpfs tmpfs rw
";

    #[test]
    fn versions_of_cgroups_are_told_apart() {
        assert_eq!(cgroups(HYBRID), Cgroups::Hybrid);
        assert_eq!(cgroups("30 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"), Cgroups::V2);
        assert_eq!(cgroups("30 22 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw"), Cgroups::V1);
        assert_eq!(cgroups(""), Cgroups::None);
    }

    #[test]
    fn the_nearest_mount_tells_the_file_system() {
        assert_eq!(file_system(HYBRID, Path::new("/no/such/dir")), "ext4");
        assert_eq!(file_system(HYBRID, Path::new("/tmp/no-such-dir/x")), "tmpfs");
    }
}
