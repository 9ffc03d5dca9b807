//! The runtimes that take an OCI bundle: ours, runc, crun, youki, runsc. All get the very same bundle.

use super::{Job, Platform};
use crate::host;
use crate::scratch::Scratch;
use insula_spec::seccomp::{Action, Policy, Test, default_policy};
use insula_spec::{CapSet, oci};
use serde_json::{Value, json};
use std::fs;

/// A runtime with runc's command line.
pub(super) struct Oci {
    name: String,
    /// The program and its global options.
    command: Vec<String>,
}

impl Oci {
    pub(super) fn new(name: &str, command: Vec<String>) -> Oci {
        Oci { name: name.to_owned(), command }
    }
}

impl Platform for Oci {
    fn argv(&mut self, job: &Job<'_>, scratch: &Scratch, id: &str) -> Result<Vec<String>, String> {
        let bundle = scratch.beside(&format!("bundle-{}", self.name));
        let text = config(job, scratch).to_string();
        fs::create_dir_all(&bundle)
            .and_then(|()| fs::write(bundle.join("config.json"), text))
            .map_err(|error| error.to_string())?;
        Ok(self.words(&["run", "--bundle", &host::text(bundle), id]))
    }

    fn removal(&self, id: &str) -> Option<Vec<String>> {
        Some(self.words(&["delete", "--force", id]))
    }
}

impl Oci {
    fn words(&self, verb: &[&str]) -> Vec<String> {
        self.command.iter().map(String::as_str).chain(verb.iter().copied()).map(str::to_owned).collect()
    }
}

/// For runsc where it may not write what it sets of the network in `/proc/sys/net`: what it writes goes to a tmpfs.
pub(super) fn without_net_sysctl() -> (Vec<String>, &'static str) {
    let script = "mount -t tmpfs none /proc/sys/net && exec \"$@\"";
    let prefix = ["unshare", "--mount", "sh", "-c", script, "sh"].map(str::to_owned).to_vec();
    (prefix, "run in a mount namespace with a tmpfs over /proc/sys/net, made once before all measurements")
}

/// For crun on a host with both versions of cgroups: it takes the unified tree for the one that counts even if that tree has no
/// memory or pids controller. Out of its sight, it uses the others.
pub(super) fn without_unified() -> (Vec<String>, &'static str) {
    let script = "umount /sys/fs/cgroup/unified && exec \"$@\"";
    let prefix = ["unshare", "--mount", "sh", "-c", script, "sh"].map(str::to_owned).to_vec();
    (prefix, "run in a mount namespace without /sys/fs/cgroup/unified, made once before all measurements")
}

/// The configuration of the bundle: what `insula spec` prints, with the workload, a volume, the default seccomp policy, and limits that
/// are enforced but not reached.
fn config(job: &Job<'_>, scratch: &Scratch) -> Value {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let mut config = if user.is_root() { oci::template() } else { oci::template_rootless(user.as_raw(), group.as_raw()) };
    // The oldest version that has all of this: runtimes refuse versions newer than themselves.
    config["ociVersion"] = json!("1.0.2");
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(job.inside());
    config["root"] = json!({"path": scratch.rootfs(), "readonly": false});
    config["linux"]["seccomp"] = seccomp(&default_policy(CapSet::DEFAULT));
    if let Value::Array(mounts) = &mut config["mounts"] {
        let options = ["rbind", "rw"];
        mounts.push(json!({"destination": "/volume", "type": "bind", "source": scratch.volume(), "options": options}));
    }
    let resources = &mut config["linux"]["resources"];
    if job.limits() {
        let limits = host::limits();
        resources["memory"] = json!({"limit": limits.memory});
        resources["pids"] = json!({"limit": limits.processes});
        resources["cpu"] = json!({"shares": 1024, "period": 100_000, "quota": 100_000 * limits.cpus});
    } else {
        // Not even rules for devices, which need a group too.
        *resources = json!({});
    }
    config
}

/// A policy in the words of runtime-spec `config-linux.md#seccomp`.
fn seccomp(policy: &Policy) -> Value {
    let rules: Vec<Value> = policy
        .rules
        .iter()
        .map(|rule| {
            let mut json = json!({"names": rule.calls, "action": action(rule.action).0});
            if let Some(errno) = action(rule.action).1 {
                json["errnoRet"] = json!(errno);
            }
            let conditions: Vec<Value> = rule.conditions.iter().map(|on| condition(on.argument, on.test, on.value)).collect();
            if !conditions.is_empty() {
                json["args"] = json!(conditions);
            }
            json
        })
        .collect();
    let mut json = json!({
        "defaultAction": action(policy.default).0,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": rules,
    });
    if let Some(errno) = action(policy.default).1 {
        json["defaultErrnoRet"] = json!(errno);
    }
    json
}

fn action(action: Action) -> (&'static str, Option<u16>) {
    match action {
        Action::KillThread => ("SCMP_ACT_KILL_THREAD", None),
        Action::KillProcess => ("SCMP_ACT_KILL_PROCESS", None),
        Action::Trap => ("SCMP_ACT_TRAP", None),
        Action::Errno(errno) => ("SCMP_ACT_ERRNO", Some(errno)),
        Action::Notify => ("SCMP_ACT_NOTIFY", None),
        Action::Trace(value) => ("SCMP_ACT_TRACE", Some(value)),
        Action::Log => ("SCMP_ACT_LOG", None),
        Action::Allow => ("SCMP_ACT_ALLOW", None),
    }
}

fn condition(index: u8, test: Test, value: u64) -> Value {
    let plain = |op: &str| json!({"index": index, "value": value, "op": op});
    match test {
        Test::Eq => plain("SCMP_CMP_EQ"),
        Test::Ne => plain("SCMP_CMP_NE"),
        Test::Lt => plain("SCMP_CMP_LT"),
        Test::Le => plain("SCMP_CMP_LE"),
        Test::Gt => plain("SCMP_CMP_GT"),
        Test::Ge => plain("SCMP_CMP_GE"),
        Test::MaskedEq(mask) => json!({"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}),
        // The specification knows no inequality under a mask; the plain one costs the same.
        Test::MaskedNe(_) => plain("SCMP_CMP_NE"),
    }
}
