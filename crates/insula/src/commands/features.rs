//! `insula features`: what this runtime can do, in the specification's form.
//!
//! Source: runtime-spec `features.md`, `features-linux.md`.

use crate::show::show;
use insula_spec::{caps, oci};
use serde_json::json;
use std::process::ExitCode;

/// Print what this runtime supports, as JSON
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn main(_: Args) -> anyhow::Result<ExitCode> {
    let mount_options = "acl async atime bind defaults dev diratime dirsync exec idmap lazytime loud noacl noatime nodev nodiratime noexec \
        noiversion nolazytime nomand norelatime silent sync \
        nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime relatime rexec ridmap rnoatime rnodev rnodiratime rnoexec \
        rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow \
        runbindable rw shared slave strictatime suid symfollow tmpcopyup unbindable";
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let features = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": oci::VERSION,
        "hooks": words("prestart createRuntime createContainer startContainer poststart poststop"),
        "mountOptions": words(mount_options),
        "linux": {
            "namespaces": words("cgroup ipc mount network pid time user uts"),
            "capabilities": caps::all_names(),
            "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true},
            "seccomp": {
                "enabled": true,
                "actions": words("SCMP_ACT_ALLOW SCMP_ACT_ERRNO SCMP_ACT_KILL SCMP_ACT_KILL_PROCESS SCMP_ACT_KILL_THREAD SCMP_ACT_LOG \
                    SCMP_ACT_NOTIFY SCMP_ACT_TRACE SCMP_ACT_TRAP"),
                "operators": words("SCMP_CMP_EQ SCMP_CMP_GE SCMP_CMP_GT SCMP_CMP_LE SCMP_CMP_LT SCMP_CMP_MASKED_EQ SCMP_CMP_NE"),
                "archs": words("SCMP_ARCH_X86 SCMP_ARCH_X86_64"),
                "knownFlags": words("SECCOMP_FILTER_FLAG_LOG SECCOMP_FILTER_FLAG_SPEC_ALLOW SECCOMP_FILTER_FLAG_TSYNC \
                    SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"),
                "supportedFlags": words("SECCOMP_FILTER_FLAG_LOG SECCOMP_FILTER_FLAG_SPEC_ALLOW SECCOMP_FILTER_FLAG_TSYNC \
                    SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")
            },
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "intelRdt": {"enabled": false},
            "mountExtensions": {"idmap": {"enabled": true}},
            "netDevices": {"enabled": false}
        },
        "annotations": {"org.insula.version": env!("CARGO_PKG_VERSION")}
    });
    show(format!("{features:#}\n"))?;
    Ok(ExitCode::SUCCESS)
}
