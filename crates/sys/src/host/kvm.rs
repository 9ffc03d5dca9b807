//! Hardware virtualisation: which of the four kinds of host this is, by the processor's flags, the modules, `/dev/kvm`, and a tiny
//! guest whose instructions are timed ([`super::kvm_guest`]).
//!
//! The fourth kind needs the care. On a *KVM-PVM* host (a cloud machine without nested VT-x or AMD-V) `/dev/kvm` opens and a virtual
//! machine can be created, but a guest that wasn't built for PVM is interpreted by the host's kernel: a microsecond an instruction,
//! so that an ordinary Linux kernel never gets to boot. Three independent signs give it away: the `kvm_pvm` module, a working
//! `/dev/kvm` on a processor with neither `vmx` nor `svm`, and the measured time of an instruction.

use super::{files, kernel, kvm_guest};
use serde::Serialize;
use std::path::Path;
use std::time::Duration;

/// The kinds of host there are for a virtual machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostKind {
    /// Guests run on the processor (VT-x, AMD-V, or another architecture's equivalent).
    HardwareKvm,
    /// There is a KVM, but this user may not open it.
    KvmWithoutAccess,
    /// KVM opens, and interprets ordinary guests one instruction at a time.
    KvmPvm,
    /// There is no KVM, or it can't create a virtual machine.
    NoKvm,
}

/// What is known about virtualisation.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// The verdict over all the rest.
    pub kind: HostKind,
    /// `vmx` or `svm`, if the processor offers it.
    pub cpu_flag: Option<String>,
    /// KVM modules present, loaded or built in (`kvm`, `kvm_intel`, `kvm_amd`, `kvm_pvm`).
    pub modules: Vec<String>,
    /// Whether the vendor's module would let guests have virtual machines of their own.
    pub nested: Option<bool>,
    /// The device node.
    pub device: Device,
    /// `KVM_GET_API_VERSION`; 12 since 2007.
    pub api_version: Option<i32>,
    /// What `KVM_CHECK_EXTENSION` says.
    pub extensions: Option<Extensions>,
    /// A guest of a few thousand instructions, run for real.
    pub guest: GuestRun,
}

/// The state of `/dev/kvm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Device {
    /// It isn't there.
    Absent,
    /// It is there and opens.
    Opens,
    /// It is there and doesn't open.
    Refused {
        /// The error number of open(2).
        errno: i32,
        /// The error in words.
        error: String,
        /// The group that owns the node.
        group: u32,
        /// Its permission bits.
        mode: u32,
    },
}

/// What this KVM offers beyond the basics; see `Documentation/virt/kvm/api.rst`.
#[derive(Debug, Clone, Serialize)]
pub struct Extensions {
    /// vCPUs one machine may have.
    pub max_vcpus: i32,
    /// Memory slots one machine may have.
    pub memory_slots: i32,
    /// A write to a doorbell can wake an event loop without leaving the kernel.
    pub ioeventfd: bool,
    /// An event can raise an interrupt without a system call.
    pub irqfd: bool,
    /// The local APIC in the kernel with the rest of the interrupt controllers outside.
    pub split_irqchip: bool,
    /// Read-only memory slots.
    pub readonly_memory: bool,
    /// Memory that the host's user space can't map.
    pub guest_memfd: bool,
}

/// What the tiny guest showed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum GuestRun {
    /// It ran to its end.
    Ran {
        /// Mean time of one instruction, in nanoseconds, without what entering and leaving the guest costs; the best of three runs.
        nanoseconds_per_instruction: f64,
    },
    /// It couldn't be built or ended otherwise than it should.
    Failed {
        /// What didn't work, and the error.
        reason: String,
    },
    /// There was nothing to run it on.
    NotRun,
}

/// Longer than this, an instruction is being interpreted: a processor takes about half a nanosecond, even through nested hardware
/// virtualisation (which makes *exits* dear, not instructions); an interpreter takes hundreds.
const INTERPRETED_NS: f64 = 50.0;

/// A guest that takes longer is given up. It has a bounded number of instructions and normally takes microseconds, or a few
/// milliseconds where they are interpreted.
const GUEST_DEADLINE: Duration = Duration::from_millis(500);

/// Which kind of host this is, as far as can be told at once: without the guest that is timed.
pub fn kind() -> HostKind {
    look().0.kind
}

pub(super) fn gather() -> Facts {
    let (mut facts, handle) = look();
    if let Some(kvm) = handle {
        facts.api_version = kvm_guest::api_version(&kvm).ok();
        facts.extensions = Some(kvm_guest::extensions(&kvm));
        facts.guest = run_guest(kvm);
    }
    facts.kind = classify(&facts, std::env::consts::ARCH);
    facts
}

/// What the host says of itself, and the device if it opens.
fn look() -> (Facts, Option<std::fs::File>) {
    let cpuinfo = files::text("/proc/cpuinfo").unwrap_or_default();
    let cpu_flag = kernel::cpu_flags(&cpuinfo).find(|flag| matches!(*flag, "vmx" | "svm")).map(str::to_owned);
    let modules = modules();
    let (device, handle) = open_device();
    let mut facts = Facts {
        kind: HostKind::NoKvm,
        cpu_flag,
        nested: nested(&modules),
        modules,
        device,
        api_version: None,
        extensions: None,
        guest: GuestRun::NotRun,
    };
    facts.kind = classify(&facts, std::env::consts::ARCH);
    (facts, handle)
}

/// The verdict. Any one sign of interpretation is enough: a measured one, the PVM module in charge, or no way to be anything else.
/// The signs count without access as well: on a host that interprets guests, access would change nothing.
fn classify(facts: &Facts, architecture: &str) -> HostKind {
    let x86 = matches!(architecture, "x86_64" | "x86");
    let has = |name: &str| facts.modules.iter().any(|module| module == name);
    let only_pvm = has("kvm_pvm") && !has("kvm_intel") && !has("kvm_amd");
    let interprets = only_pvm || (x86 && facts.cpu_flag.is_none());
    match (&facts.device, &facts.guest) {
        (Device::Absent, _) => HostKind::NoKvm,
        // The node is there but nothing answers behind it: no driver (ENXIO, ENODEV) is no KVM.
        (Device::Refused { errno, .. }, _) if *errno != libc::EACCES && *errno != libc::EPERM => HostKind::NoKvm,
        (Device::Opens, GuestRun::Ran { nanoseconds_per_instruction: time }) if *time > INTERPRETED_NS => HostKind::KvmPvm,
        // A node without a driver may be left over in /dev; `kvm` among the modules says that there is one.
        (Device::Refused { .. }, _) if interprets && has("kvm") => HostKind::KvmPvm,
        (Device::Refused { .. }, _) if interprets => HostKind::NoKvm,
        (Device::Refused { .. }, _) => HostKind::KvmWithoutAccess,
        (Device::Opens, _) if interprets => HostKind::KvmPvm,
        (Device::Opens, GuestRun::Failed { .. }) => HostKind::NoKvm,
        (Device::Opens, _) => HostKind::HardwareKvm,
    }
}

fn modules() -> Vec<String> {
    // A built-in module has a directory if it has parameters, which all of these do; a loaded one always has.
    const NAMES: [&str; 4] = ["kvm", "kvm_intel", "kvm_amd", "kvm_pvm"];
    let present = |name: &&str| Path::new("/sys/module").join(name).exists();
    NAMES.into_iter().filter(present).map(str::to_owned).collect()
}

fn nested(modules: &[String]) -> Option<bool> {
    let vendor = modules.iter().find(|module| matches!(module.as_str(), "kvm_intel" | "kvm_amd"))?;
    let value = files::text(Path::new("/sys/module").join(vendor).join("parameters/nested"))?;
    Some(matches!(value.as_str(), "Y" | "1"))
}

fn open_device() -> (Device, Option<std::fs::File>) {
    use std::os::unix::fs::MetadataExt;
    let error = match std::fs::File::options().read(true).write(true).open("/dev/kvm") {
        Ok(file) => return (Device::Opens, Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return (Device::Absent, None),
        Err(error) => error,
    };
    let node = std::fs::metadata("/dev/kvm").ok();
    let device = Device::Refused {
        errno: error.raw_os_error().unwrap_or(0),
        error: error.to_string(),
        group: node.as_ref().map_or(0, MetadataExt::gid),
        mode: node.as_ref().map_or(0, |node| node.mode() & 0o777),
    };
    (device, None)
}

/// Runs the guest in a thread of its own, so that a KVM that never comes back can't take us with it.
fn run_guest(kvm: std::fs::File) -> GuestRun {
    let (sender, receiver) = std::sync::mpsc::channel();
    let spawned = std::thread::Builder::new().name("kvm-probe".into()).spawn(move || sender.send(kvm_guest::run(&kvm)));
    if let Err(error) = spawned {
        return GuestRun::Failed { reason: format!("starting a thread: {error}") };
    }
    match receiver.recv_timeout(GUEST_DEADLINE) {
        Ok(Ok(nanoseconds_per_instruction)) => GuestRun::Ran { nanoseconds_per_instruction },
        Ok(Err(reason)) => GuestRun::Failed { reason },
        Err(_) => GuestRun::Failed { reason: format!("the guest didn't end within {} ms", GUEST_DEADLINE.as_millis()) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(flag: Option<&str>, modules: &[&str], device: Device, guest: GuestRun) -> HostKind {
        let facts = Facts {
            kind: HostKind::NoKvm,
            cpu_flag: flag.map(str::to_owned),
            modules: modules.iter().map(|&module| module.to_owned()).collect(),
            nested: None,
            device,
            api_version: Some(12),
            extensions: None,
            guest,
        };
        classify(&facts, "x86_64")
    }

    fn ran(nanoseconds_per_instruction: f64) -> GuestRun {
        GuestRun::Ran { nanoseconds_per_instruction }
    }

    fn refused(errno: i32) -> Device {
        Device::Refused { errno, error: String::new(), group: 0, mode: 0o660 }
    }

    #[test]
    fn the_four_kinds_are_told_apart() {
        assert_eq!(host(Some("vmx"), &["kvm", "kvm_intel"], Device::Opens, ran(0.4)), HostKind::HardwareKvm);
        assert_eq!(host(Some("svm"), &["kvm", "kvm_amd"], refused(libc::EACCES), GuestRun::NotRun), HostKind::KvmWithoutAccess);
        assert_eq!(host(None, &["kvm", "kvm_pvm"], Device::Opens, ran(800.0)), HostKind::KvmPvm);
        assert_eq!(host(None, &[], Device::Absent, GuestRun::NotRun), HostKind::NoKvm);
        assert_eq!(host(None, &[], refused(libc::ENODEV), GuestRun::NotRun), HostKind::NoKvm);
    }

    #[test]
    fn each_sign_of_interpretation_is_enough() {
        assert_eq!(host(Some("svm"), &["kvm", "kvm_amd"], Device::Opens, ran(300.0)), HostKind::KvmPvm);
        assert_eq!(host(None, &["kvm"], Device::Opens, GuestRun::NotRun), HostKind::KvmPvm);
        assert_eq!(host(Some("vmx"), &["kvm", "kvm_pvm"], Device::Opens, GuestRun::NotRun), HostKind::KvmPvm);
        assert_eq!(host(None, &["kvm", "kvm_pvm"], refused(libc::EACCES), GuestRun::NotRun), HostKind::KvmPvm);
        assert_eq!(host(None, &[], refused(libc::EACCES), GuestRun::NotRun), HostKind::NoKvm);
    }

    #[test]
    fn a_kvm_that_makes_no_machine_is_none() {
        let failed = GuestRun::Failed { reason: "KVM_CREATE_VM: Device or resource busy".into() };
        assert_eq!(host(Some("vmx"), &["kvm", "kvm_intel"], Device::Opens, failed), HostKind::NoKvm);
    }
}
