//! The kernel, the machine under it, and who runs us.

use super::files;
use serde::Serialize;

/// The kernel, the machine and the user.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// Kernel release, as `uname -r` prints it.
    pub release: String,
    /// Machine architecture, as `uname -m` prints it.
    pub machine: String,
    /// The distribution's name for itself (`PRETTY_NAME` of os-release(5)).
    pub distribution: Option<String>,
    /// Processors this process may run on.
    pub cpus: usize,
    /// Main memory, in bytes.
    pub memory: u64,
    /// The processor's name.
    pub cpu_model: Option<String>,
    /// Whether the processor says that it is itself virtual (CPUID leaf 1, ECX bit 31).
    pub virtual_machine: bool,
    /// Whether this kernel can load modules at all.
    pub loads_modules: bool,
    /// A sign that we already run inside a container, and which sign.
    pub inside_container: Option<String>,
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Whether this process is in the initial user namespace: only there is user 0 the real root.
    pub initial_user_namespace: bool,
}

pub(super) fn gather() -> Facts {
    let uname = rustix::system::uname();
    let sysinfo = rustix::system::sysinfo();
    let cpuinfo = files::text("/proc/cpuinfo").unwrap_or_default();
    Facts {
        release: uname.release().to_string_lossy().into_owned(),
        machine: uname.machine().to_string_lossy().into_owned(),
        distribution: files::text("/etc/os-release").and_then(|text| pretty_name(&text)),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        memory: (sysinfo.totalram as u64).saturating_mul(u64::from(sysinfo.mem_unit)),
        cpu_model: cpuinfo_field(&cpuinfo, "model name").map(str::to_owned),
        virtual_machine: cpu_flags(&cpuinfo).any(|flag| flag == "hypervisor"),
        loads_modules: std::path::Path::new("/proc/modules").exists(),
        inside_container: inside_container(),
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        initial_user_namespace: in_initial_user_namespace(),
    }
}

/// The value of the first `key : value` line of `/proc/cpuinfo`.
pub(super) fn cpuinfo_field<'t>(cpuinfo: &'t str, key: &str) -> Option<&'t str> {
    cpuinfo.lines().filter_map(|line| line.split_once(':')).find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim())
}

/// The flags of the first processor.
pub(super) fn cpu_flags(cpuinfo: &str) -> impl Iterator<Item = &str> {
    cpuinfo_field(cpuinfo, "flags").unwrap_or_default().split_whitespace()
}

/// Whether this process is in the host's user namespace.
pub fn in_initial_user_namespace() -> bool {
    is_initial("user", 0xEFFF_FFFD)
}

/// Whether our namespace of this type is the host's, which has a fixed number (`include/linux/proc_ns.h`). A kernel without the
/// type has nothing but the host's.
fn is_initial(kind: &str, number: u32) -> bool {
    let link = std::fs::read_link(std::path::Path::new("/proc/self/ns").join(kind));
    link.map_or(true, |link| link.to_string_lossy() == format!("{kind}:[{number}]"))
}

fn pretty_name(os_release: &str) -> Option<String> {
    let value = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim_matches(['"', '\'']).to_owned())
}

/// Namespaces that aren't the host's, and the marks container programs leave. A mark alone says nothing: a machine's root may have
/// been unpacked from an image that has it.
fn inside_container() -> Option<String> {
    const MARKS: [&str; 3] = ["/.dockerenv", "/run/.containerenv", "/run/systemd/container"];
    const TYPES: [(&str, u32); 3] = [("pid", 0xEFFF_FFFC), ("uts", 0xEFFF_FFFE), ("cgroup", 0xEFFF_FFFB)];
    let own: Vec<&str> = TYPES.into_iter().filter(|(kind, number)| !is_initial(kind, *number)).map(|(kind, _)| kind).collect();
    let mark = MARKS.into_iter().find(|mark| std::path::Path::new(mark).exists());
    match (own.as_slice(), mark) {
        ([], _) => None,
        (_, Some(mark)) => Some(mark.to_owned()),
        (own, None) => own.contains(&"pid").then(|| "a PID namespace of its own".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpuinfo_is_read_by_key() {
        let cpuinfo =
            "processor\t: 0\nmodel name\t: A CPU: fast\nflags\t\t: fpu hypervisor svm\n\nprocessor\t: 1\nflags\t\t: none\n";
        assert_eq!(cpuinfo_field(cpuinfo, "model name"), Some("A CPU: fast"));
        assert_eq!(cpu_flags(cpuinfo).collect::<Vec<_>>(), ["fpu", "hypervisor", "svm"]);
        assert_eq!(cpu_flags("").count(), 0);
    }

    #[test]
    fn the_distribution_names_itself() {
        assert_eq!(pretty_name("ID=x\nPRETTY_NAME=\"X Linux 1\"\n").as_deref(), Some("X Linux 1"));
        assert_eq!(pretty_name("ID=x\n"), None);
    }
}
