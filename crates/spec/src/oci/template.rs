//! The configuration that `insula spec` prints: a shell in `rootfs`, isolated as a container usually is.

use crate::caps::CapSet;
use crate::defaults;
use serde_json::{Value, json};

/// The configuration for root.
pub fn template() -> Value {
    let caps = CapSet::DEFAULT.names();
    json!({
        "ociVersion": super::VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [format!("PATH={}", defaults::PATH), "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "insula",
        "mounts": mounts(false),
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": namespaces(&["pid", "network", "ipc", "uts", "mount", "cgroup"]),
            "maskedPaths": defaults::MASKED_PATHS,
            "readonlyPaths": defaults::READONLY_PATHS
        }
    })
}

/// The configuration for a plain user with these IDs: a user namespace in which it is root, and nothing that needs a privilege.
pub fn template_rootless(uid: u32, gid: u32) -> Value {
    let mut config = template();
    config["mounts"] = mounts(true);
    let linux = &mut config["linux"];
    linux["namespaces"] = namespaces(&["pid", "network", "ipc", "uts", "mount", "cgroup", "user"]);
    linux["uidMappings"] = json!([{"containerID": 0, "hostID": uid, "size": 1}]);
    linux["gidMappings"] = json!([{"containerID": 0, "hostID": gid, "size": 1}]);
    linux["resources"] = json!({});
    config
}

fn namespaces(kinds: &[&str]) -> Value {
    kinds.iter().map(|kind| json!({"type": kind})).collect()
}

fn mounts(rootless: bool) -> Value {
    // A single mapped group leaves no group 5 for terminals.
    let pts: &[&str] = if rootless { &[] } else { &["gid=5"] };
    let mut devpts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    devpts.extend(pts);
    let strict = ["nosuid", "noexec", "nodev"];
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc", "options": strict},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": devpts},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": strict},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
    ])
}

#[cfg(test)]
mod tests {
    use crate::Id;
    use std::path::Path;

    #[test]
    fn what_is_printed_is_a_plan() {
        let id: Id = "x".parse().unwrap();
        for config in [super::template(), super::template_rootless(1000, 1000)] {
            crate::oci::plan(id.clone(), Path::new("/b"), config.to_string().as_bytes()).unwrap();
        }
    }
}
