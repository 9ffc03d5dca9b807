//! Confinement beyond namespaces: seccomp, Landlock, the kernel's security modules, lockdown, and a few sysctls.

use super::files;
use super::trial::{self, Step, Trial, syscall};
use rustix::io::Errno;
use serde::Serialize;
use std::path::Path;

/// What is known about confinement.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// System-call filters.
    pub seccomp: Seccomp,
    /// The version of Landlock's interface; `None` if the kernel has none or it is switched off.
    pub landlock_abi: Option<i32>,
    /// Why Landlock didn't answer, if it didn't.
    pub landlock: Trial,
    /// Security modules in force.
    pub modules: Modules,
    /// Kernel lockdown: `none`, `integrity` or `confidentiality`; `None` if it can't be told.
    pub lockdown: Option<String>,
    /// `kernel.yama.ptrace_scope`: 0 any process of the same user, 1 descendants, 2 only with `CAP_SYS_PTRACE`, 3 nobody.
    pub ptrace_scope: Option<i64>,
    /// `kernel.unprivileged_bpf_disabled`: 0 allowed, 1 disabled until reboot, 2 disabled.
    pub unprivileged_bpf_disabled: Option<i64>,
    /// `kernel.perf_event_paranoid`: above 1, a plain user can't measure the kernel.
    pub perf_event_paranoid: Option<i64>,
    /// Whether the kernel's functions can be traced by this user: the horizontal attack profile is counted with it.
    pub function_tracing: bool,
}

/// What is known about seccomp.
#[derive(Debug, Clone, Serialize)]
pub struct Seccomp {
    /// Installing a filter that allows everything, in a child.
    pub filter: Trial,
    /// Installing one whose decisions a supervisor could take (Linux 5.0).
    pub user_notification: Trial,
    /// Actions a filter may answer with.
    pub actions: Vec<String>,
    /// Filters already over this process.
    pub filters_over_us: Option<i64>,
}

/// Security modules, and how that is known.
#[derive(Debug, Clone, Serialize)]
pub struct Modules {
    /// Their names, in the kernel's order.
    pub names: Vec<String>,
    /// Where the names come from.
    pub source: Source,
}

/// How the security modules are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The lsm_list_modules system call (Linux 6.8).
    SystemCall,
    /// `/sys/kernel/security/lsm`.
    Securityfs,
    /// Traces the modules leave in /proc and /sys, since securityfs isn't mounted: there may be more.
    Traces,
}

pub(super) fn gather() -> Facts {
    let landlock = landlock();
    Facts {
        seccomp: seccomp(),
        landlock_abi: landlock.ok(),
        landlock: Trial::of("landlock_create_ruleset", landlock),
        modules: modules(landlock.is_ok()),
        lockdown: files::text("/sys/kernel/security/lockdown").and_then(|text| files::bracketed(&text).map(str::to_owned)),
        ptrace_scope: files::number("/proc/sys/kernel/yama/ptrace_scope"),
        unprivileged_bpf_disabled: files::number("/proc/sys/kernel/unprivileged_bpf_disabled"),
        perf_event_paranoid: files::number("/proc/sys/kernel/perf_event_paranoid"),
        function_tracing: function_tracing(),
    }
}

fn seccomp() -> Seccomp {
    let try_filter = |flags: libc::c_ulong| {
        trial::run(|| {
            rustix::thread::set_no_new_privs(true).step("setting no_new_privs")?;
            install_filter(flags).map(drop).step("installing a seccomp filter")
        })
    };
    let status = files::text("/proc/self/status").unwrap_or_default();
    let actions = files::text("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    Seccomp {
        filter: try_filter(0),
        user_notification: try_filter(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER),
        actions: actions.split_whitespace().map(str::to_owned).collect(),
        filters_over_us: files::field(&status, "Seccomp_filters").and_then(|count| count.parse().ok()),
    }
}

/// Puts a filter that allows everything over the calling process, for good: only for children about to end.
pub(super) fn install_filter(flags: libc::c_ulong) -> Result<usize, Errno> {
    let code = (libc::BPF_RET | libc::BPF_K) as u16;
    let mut program = [libc::sock_filter { code, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW }];
    let filter = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    let mode = libc::SECCOMP_SET_MODE_FILTER as usize;
    // SAFETY: the program is as long as said, and both structures outlive the call, which only reads them.
    unsafe { syscall(libc::SYS_seccomp, [mode, flags as usize, (&raw const filter) as usize, 0, 0, 0]) }
}

/// The version of Landlock's interface; `Documentation/userspace-api/landlock.rst`.
fn landlock() -> Result<i32, Errno> {
    const LANDLOCK_CREATE_RULESET_VERSION: usize = 1;
    // SAFETY: with this flag the call takes no structure.
    let version = unsafe { syscall(libc::SYS_landlock_create_ruleset, [0, 0, LANDLOCK_CREATE_RULESET_VERSION, 0, 0, 0]) }?;
    i32::try_from(version).map_err(|_| Errno::RANGE)
}

/// Asks the kernel, then its file, then looks for traces.
fn modules(landlock: bool) -> Modules {
    if let Ok(names) = list_modules() {
        return Modules { names, source: Source::SystemCall };
    }
    if let Some(text) = files::text("/sys/kernel/security/lsm") {
        return Modules { names: text.split(',').map(str::to_owned).collect(), source: Source::Securityfs };
    }
    let exists = |path: &str| Path::new(path).exists();
    let says_yes = |path: &str| files::text(path).as_deref() == Some("Y");
    let traces = [
        ("capability", true),
        ("landlock", landlock),
        ("yama", exists("/proc/sys/kernel/yama")),
        ("apparmor", says_yes("/sys/module/apparmor/parameters/enabled")),
        ("selinux", exists("/sys/fs/selinux/enforce") || files::filesystems().iter().any(|name| name == "selinuxfs")),
        ("smack", exists("/proc/self/attr/smack")),
    ];
    let names = traces.into_iter().filter(|(_, found)| *found).map(|(name, _)| name.to_owned()).collect();
    Modules { names, source: Source::Traces }
}

/// lsm_list_modules(2).
fn list_modules() -> Result<Vec<String>, Errno> {
    const SYS_LSM_LIST_MODULES: libc::c_long = 461;
    let mut ids = [0u64; 32];
    let mut size = u32::try_from(size_of_val(&ids)).map_err(|_| Errno::RANGE)?;
    let arguments = [ids.as_mut_ptr() as usize, (&raw mut size) as usize, 0, 0, 0, 0];
    // SAFETY: the array is as long as `size` says; both are writable and outlive the call.
    let count = unsafe { syscall(SYS_LSM_LIST_MODULES, arguments) }?;
    Ok(ids.iter().take(count).map(|id| module_name(*id)).collect())
}

/// `include/uapi/linux/lsm.h`.
fn module_name(id: u64) -> String {
    const NAMES: [&str; 14] = [
        "capability",
        "selinux",
        "smack",
        "tomoyo",
        "apparmor",
        "yama",
        "loadpin",
        "safesetid",
        "lockdown",
        "bpf",
        "landlock",
        "ima",
        "evm",
        "ipe",
    ];
    let index = id.checked_sub(100).and_then(|index| usize::try_from(index).ok());
    index.and_then(|index| NAMES.get(index)).map_or_else(|| format!("number {id}"), |name| (*name).to_owned())
}

fn function_tracing() -> bool {
    const FILES: [&str; 2] = ["/sys/kernel/tracing/set_ftrace_filter", "/sys/kernel/debug/tracing/set_ftrace_filter"];
    FILES.iter().any(|file| rustix::fs::access(*file, rustix::fs::Access::WRITE_OK).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_have_names() {
        assert_eq!(module_name(104), "apparmor");
        assert_eq!(module_name(110), "landlock");
        assert_eq!(module_name(1), "number 1");
        assert_eq!(module_name(9999), "number 9999");
    }

    #[test]
    fn capability_is_always_there() {
        assert!(modules(false).names.iter().any(|name| name == "capability"));
    }

    #[test]
    fn a_filter_stays_in_the_child() {
        let before = files::field(&files::text("/proc/self/status").unwrap_or_default(), "Seccomp").map(str::to_owned);
        let facts = seccomp();
        assert!(facts.filter.works(), "{:?}", facts.filter);
        let after = files::field(&files::text("/proc/self/status").unwrap_or_default(), "Seccomp").map(str::to_owned);
        assert_eq!(before, after);
    }
}
