//! KVM, and the kind of host this is.

use super::finding::{Finding, Group, load};
use insula_sys::host::Facts;
use insula_sys::host::kvm::{self, Device, GuestRun, HostKind};

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut all = vec![host_kind(facts), processor(facts), device(&facts.kvm)];
    all.extend(guest(&facts.kvm));
    all.extend(interface(&facts.kvm));
    all
}

/// A phrase for each kind, for the head of the report.
pub(super) fn kind_name(kind: HostKind) -> &'static str {
    match kind {
        HostKind::HardwareKvm => "hardware KVM",
        HostKind::KvmWithoutAccess => "KVM without access",
        HostKind::KvmPvm => "KVM-PVM",
        HostKind::NoKvm => "no KVM",
    }
}

fn host_kind(facts: &Facts) -> Finding {
    const SUBJECT: &str = "kind of host";
    let group = Group::Virtualisation;
    let name = kind_name(facts.kvm.kind);
    let finding = match facts.kvm.kind {
        HostKind::HardwareKvm if facts.kernel.virtual_machine => {
            let what =
                format!("{name}, nested: guests run on the processor, and each exit costs more, since this host is a guest too");
            return Finding::ok(group, SUBJECT, what);
        }
        HostKind::HardwareKvm => return Finding::ok(group, SUBJECT, format!("{name}: guests run on the processor")),
        HostKind::KvmWithoutAccess => {
            Finding::limited(group, SUBJECT, name).why("There is a KVM, but this user may not open /dev/kvm.")
        }
        HostKind::KvmPvm => {
            let door = if facts.kvm.device == Device::Opens { "opens" } else { "is closed to this user" };
            Finding::limited(group, SUBJECT, format!("{name} (a nested cloud host)")).why(format!(
                "/dev/kvm {door}, and behind it an ordinary Linux guest is interpreted one instruction at a time and never boots; only \
                 guests built for PVM run at speed."
            ))
        }
        HostKind::NoKvm => Finding::missing(group, SUBJECT, name).why(no_kvm(&facts.kvm)),
    };
    finding.remedy(remedy(facts))
}

fn no_kvm(kvm: &kvm::Facts) -> String {
    match (&kvm.device, &kvm.guest) {
        (Device::Refused { error, .. }, _) => format!("Opening /dev/kvm: {error}."),
        (_, GuestRun::Failed { reason }) => format!("/dev/kvm opens, but no virtual machine comes of it: {reason}."),
        _ => "There is no /dev/kvm.".into(),
    }
}

/// What would bring a KVM that runs guests on the processor.
pub(super) fn remedy(facts: &Facts) -> String {
    let kvm = &facts.kvm;
    let has_module = |name: &str| kvm.modules.iter().any(|module| module == name);
    match (&kvm.device, kvm.cpu_flag.as_deref()) {
        (Device::Refused { group, mode, .. }, _) if kvm.kind == HostKind::KvmWithoutAccess => {
            if *group != 0 && mode & 0o060 == 0o060 {
                format!("Join the group that owns the node (number {group}): sudo usermod -aG kvm $USER, then log in again.")
            } else {
                "As root: setfacl -m u:USER:rw /dev/kvm, or chgrp kvm /dev/kvm && chmod 660 /dev/kvm; inside a container, pass the \
                 device in (--device /dev/kvm)."
                    .into()
            }
        }
        (Device::Absent, Some("vmx")) if !has_module("kvm_intel") => load(facts, "kvm_intel"),
        (Device::Absent, Some("svm")) if !has_module("kvm_amd") => load(facts, "kvm_amd"),
        (Device::Absent, Some(_)) => {
            "The driver is loaded but the node is absent: inside a container, pass the device in.".into()
        }
        _ if facts.kernel.virtual_machine => {
            "Use a machine type with nested virtualisation, or bare metal; meanwhile QEMU's software emulation boots \
             ordinary guests, slowly (`insula vm run --accel tcg`)."
                .into()
        }
        _ => "Switch on VT-x or AMD-V (SVM) in the firmware's settings, if the processor has it.".into(),
    }
}

fn processor(facts: &Facts) -> Finding {
    let group = Group::Virtualisation;
    let model = facts.kernel.cpu_model.as_deref().unwrap_or("a processor without a name");
    let place = if facts.kernel.virtual_machine { ", itself virtual" } else { "" };
    match facts.kvm.cpu_flag.as_deref() {
        Some(flag) => {
            let name = if flag == "vmx" { "VT-x" } else { "AMD-V" };
            let nested = match facts.kvm.nested {
                Some(true) => "; guests may nest machines of their own",
                Some(false) => "; guests can't nest machines of their own",
                None => "",
            };
            Finding::ok(group, "processor", format!("{model}{place}, with {name}{nested}"))
        }
        None => Finding::missing(group, "processor", format!("{model}{place}"))
            .why("It offers neither VT-x (vmx) nor AMD-V (svm).")
            .remedy(remedy(facts)),
    }
}

fn device(kvm: &kvm::Facts) -> Finding {
    let group = Group::Virtualisation;
    let modules = if kvm.modules.is_empty() { "no module".to_owned() } else { kvm.modules.join(", ") };
    match &kvm.device {
        Device::Opens => {
            let version = kvm.api_version.map_or_else(String::new, |version| format!(", API version {version}"));
            Finding::ok(group, "/dev/kvm", format!("opens{version}; modules present: {modules}"))
        }
        Device::Absent => Finding::missing(group, "/dev/kvm", format!("absent; modules present: {modules}")),
        Device::Refused { error, mode, group: owner, .. } => {
            Finding::missing(group, "/dev/kvm", format!("mode {mode:03o}, group {owner}; modules present: {modules}"))
                .why(error.clone())
        }
    }
}

fn guest(kvm: &kvm::Facts) -> Option<Finding> {
    const SUBJECT: &str = "a tiny guest";
    let group = Group::Virtualisation;
    match &kvm.guest {
        GuestRun::NotRun => None,
        GuestRun::Failed { reason } => Some(Finding::missing(group, SUBJECT, "didn't run").why(reason.clone())),
        GuestRun::Ran { nanoseconds_per_instruction: time } => {
            // Below a nanosecond the number is noise: the clock and the exits are coarser.
            let what = if *time < 1.0 {
                "runs, under 1 ns an instruction".to_owned()
            } else {
                format!("runs, {time:.0} ns an instruction")
            };
            Some(match kvm.kind {
                HostKind::KvmPvm => Finding::limited(group, SUBJECT, what)
                    .why("A processor takes less than a nanosecond: guests of this kind are interpreted by the host's kernel."),
                _ => Finding::ok(group, SUBJECT, what),
            })
        }
    }
}

fn interface(kvm: &kvm::Facts) -> Option<Finding> {
    let extensions = kvm.extensions.as_ref()?;
    let wanted = [
        ("ioeventfd", extensions.ioeventfd),
        ("irqfd", extensions.irqfd),
        ("a split irqchip", extensions.split_irqchip),
        ("read-only memory", extensions.readonly_memory),
        ("guest_memfd", extensions.guest_memfd),
    ];
    let names = |there: bool| wanted.iter().filter(|(_, has)| *has == there).map(|(name, _)| *name).collect::<Vec<_>>();
    let (present, absent) = (names(true), names(false));
    let what =
        format!("{}; up to {} vCPUs and {} memory slots", present.join(", "), extensions.max_vcpus, extensions.memory_slots);
    let finding = if extensions.ioeventfd && extensions.irqfd {
        Finding::ok(Group::Virtualisation, "KVM interface", what)
    } else {
        Finding::limited(Group::Virtualisation, "KVM interface", what).remedy("A newer kernel.")
    };
    Some(if absent.is_empty() { finding } else { finding.why(format!("Not offered: {}.", absent.join(", "))) })
}
