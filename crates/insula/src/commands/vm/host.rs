//! What this host has for a machine.

use anyhow::{Context, bail};
use insula_sys::host::kvm::{self, HostKind};
use std::path::PathBuf;

/// How many virtual processors this host's KVM allows; or which of the kinds of host it is that can't run a guest, and what to do.
pub(super) fn most_vcpus() -> anyhow::Result<usize> {
    let advice = "`--accel tcg` emulates the processor instead, slowly; `insula doctor` tells more";
    match kvm::kind() {
        HostKind::HardwareKvm => Ok(insula_vm::kvm::most_vcpus()?),
        HostKind::KvmWithoutAccess => {
            bail!("/dev/kvm is closed to this user; join its group (kvm, as a rule), or be root; {advice}")
        }
        HostKind::KvmPvm => bail!(
            "this host's KVM is PVM, made for clouds without nested virtualisation: it interprets an ordinary guest one \
             instruction at a time; use a host with VT-x or AMD-V; {advice}"
        ),
        HostKind::NoKvm => {
            bail!("this host has no KVM; load kvm_intel or kvm_amd, or switch virtualisation on in the firmware; {advice}")
        }
    }
}

/// Where unpacked kernels are kept.
pub(super) fn cache_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/cache/insula/kernels");
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("insula/kernels")
}

/// Bytes of memory.
pub(super) fn memory() -> anyhow::Result<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").context("can't learn how much memory the host has")?;
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    total.map(|kibibytes| kibibytes << 10).context("/proc/meminfo doesn't say how much memory the host has")
}
