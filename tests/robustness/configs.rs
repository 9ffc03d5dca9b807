//! A configuration with everything in it, and the ways through one.

use serde_json::{Value, json};

/// One step down a JSON tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Entry(usize),
}

/// Every way from the root down to a value; of what is alike (entries of an array, points of hooks) the first and the last only.
pub(crate) fn walk(value: &Value, here: &mut Vec<Step>, all: &mut Vec<Vec<Step>>) {
    let mut down = |step, value: &Value| {
        here.push(step);
        all.push(here.clone());
        walk(value, here, all);
        here.pop();
    };
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let alike = ["createContainer", "poststart", "poststop", "prestart"].contains(&key.as_str());
                if alike { down(Step::Key(key.clone()), &Value::Null) } else { down(Step::Key(key.clone()), value) }
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                if index == 0 || index + 1 == list.len() {
                    down(Step::Entry(index), value);
                }
            }
        }
        _ => {}
    }
}

pub(crate) fn at<'v>(value: &'v Value, path: &[Step]) -> &'v Value {
    path.iter().fold(value, |value, step| match step {
        Step::Key(key) => &value[key.as_str()],
        Step::Entry(index) => &value[*index],
    })
}

pub(crate) fn at_mut<'v>(value: &'v mut Value, path: &[Step]) -> &'v mut Value {
    path.iter().fold(value, |value, step| match step {
        Step::Key(key) => &mut value[key.as_str()],
        Step::Entry(index) => &mut value[*index],
    })
}

pub(crate) fn remove(value: &mut Value, path: &[Step]) {
    let Some((last, above)) = path.split_last() else { return };
    match (at_mut(value, above), last) {
        (Value::Object(map), Step::Key(key)) => drop(map.remove(key)),
        (Value::Array(list), Step::Entry(index)) => drop(list.remove(*index)),
        _ => {}
    }
}

/// `a.b[].c`: indices don't matter to what a field means.
pub(crate) fn name_of(path: &[Step]) -> String {
    let mut name = String::new();
    for step in path {
        match step {
            Step::Key(key) if name.is_empty() => name.push_str(key),
            Step::Key(key) => name.extend([".", key]),
            Step::Entry(_) => name.push_str("[]"),
        }
    }
    name
}

/// Whether a message names a field: the last key on the way to it, or, for what is in an array or a map, the ones above.
pub(crate) fn names(message: &str, path: &[Step]) -> bool {
    let keys: Vec<&str> =
        path.iter().filter_map(|step| if let Step::Key(key) = step { Some(key.as_str()) } else { None }).collect();
    let message = message.to_ascii_lowercase();
    keys.iter().rev().take(3).any(|key| message.contains(&key.to_ascii_lowercase()))
}

/// Puts one configuration over another: objects are merged, arrays appended, the rest replaced.
pub(crate) fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(base), Value::Array(over)) => base.extend(over),
        (base, over) => *base = over,
    }
}

/// Fields that the specification requires where their parent is there. Source: runtime-spec 1.2 `config.md`, `config-linux.md`.
pub(crate) const REQUIRED: &[&str] = &[
    "ociVersion",
    "root.path",
    "process.args",
    "process.user.uid",
    "process.user.gid",
    "process.cwd",
    "process.rlimits[].type",
    "process.rlimits[].soft",
    "process.rlimits[].hard",
    "process.ioPriority.class",
    "process.scheduler.policy",
    "process.consoleSize.height",
    "process.consoleSize.width",
    "mounts[].destination",
    "hooks.prestart[].path",
    "hooks.createRuntime[].path",
    "hooks.createContainer[].path",
    "hooks.startContainer[].path",
    "hooks.poststart[].path",
    "hooks.poststop[].path",
    "linux.namespaces[].type",
    "linux.devices[].type",
    "linux.devices[].path",
    "linux.devices[].major",
    "linux.devices[].minor",
    "linux.uidMappings[].containerID",
    "linux.uidMappings[].hostID",
    "linux.uidMappings[].size",
    "linux.gidMappings[].containerID",
    "linux.gidMappings[].hostID",
    "linux.gidMappings[].size",
    "linux.seccomp.defaultAction",
    "linux.seccomp.syscalls[].names",
    "linux.seccomp.syscalls[].action",
    "linux.seccomp.syscalls[].args[].index",
    "linux.seccomp.syscalls[].args[].value",
    "linux.seccomp.syscalls[].args[].op",
    "linux.resources.devices[].allow",
    "linux.resources.pids.limit",
    "linux.personality.domain",
];

/// Fields that the specification leaves open, but without which this configuration makes no sense.
pub(crate) const NEEDED_HERE: &[&str] = &[
    // What is to be run, and from where.
    "process",
    "root",
    // Who is root has to be said, and with which capabilities.
    "process.user",
    "process.capabilities.permitted",
    "process.capabilities.bounding",
    // The root must be a mount of its own; masked paths and sysctls need theirs.
    "linux",
    "linux.namespaces",
    "linux.uidMappings",
    "linux.gidMappings",
    // The program is in a bound /usr.
    "mounts",
    "mounts[].source",
    "mounts[].type",
    "mounts[].options",
];

/// Everything that a host with root gives; limits that need a controller only where it is there.
pub(crate) fn full(id: &str) -> Value {
    let hook = |name: &str| json!([{"path": "/bin/true", "args": [name, "x"], "env": ["A=b"], "timeout": 30}]);
    let mut config = json!({
        "hostname": "island",
        "domainname": "sea",
        "annotations": {"org.example.key": "value"},
        "process": {
            "user": {"additionalGids": [5, 6], "umask": 18},
            "consoleSize": {"height": 24, "width": 80},
            "oomScoreAdj": 100,
            "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
            "scheduler": {"policy": "SCHED_BATCH", "nice": 1, "priority": 0, "flags": []},
            "rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
            "capabilities": {"inheritable": ["CAP_CHOWN"], "ambient": ["CAP_CHOWN"]}
        },
        "hooks": {
            "prestart": hook("prestart"),
            "createRuntime": hook("createRuntime"),
            "createContainer": hook("createContainer"),
            "startContainer": hook("startContainer"),
            "poststart": hook("poststart"),
            "poststop": hook("poststop")
        },
        "mounts": [{"destination": "/work", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "size=1m"]}],
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "devices": [{"path": "/dev/more", "type": "c", "major": 1, "minor": 3, "fileMode": 432, "uid": 0, "gid": 0}],
            "sysctl": {"kernel.msgmax": "8192"},
            "rootfsPropagation": "rslave",
            "personality": {"domain": "LINUX"},
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "defaultErrnoRet": 1,
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
                "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                "syscalls": [{
                    "names": ["personality", "getcwd"],
                    "action": "SCMP_ACT_ERRNO",
                    "errnoRet": 38,
                    "args": [{"index": 0, "value": 4294967295u32, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]
                }]
            },
            "resources": {"devices": [{"allow": true, "type": "c", "major": 10, "minor": 200, "access": "rwm"}]}
        }
    });
    let there = |controller: &str| std::path::Path::new("/sys/fs/cgroup").join(controller).is_dir();
    let limits = [
        ("memory", "memory", json!({"limit": 268435456, "reservation": 134217728, "swappiness": 10, "disableOOMKiller": false})),
        ("cpu", "cpu", json!({"shares": 512, "quota": 50000, "period": 100000, "burst": 0, "cpus": "0", "mems": "0"})),
        ("pids", "pids", json!({"limit": 100})),
    ];
    for (controller, field, limit) in limits {
        if there(controller) || there("unified") || std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            config["linux"]["resources"][field] = limit;
        }
    }
    config
}

/// A user namespace, clocks with an offset, and a namespace of somebody else's.
pub(crate) fn user_namespace() -> Value {
    let map = json!([{"containerID": 0, "hostID": 100000, "size": 1000}, {"containerID": 1000, "hostID": 200000, "size": 1}]);
    json!({
        "linux": {
            "namespaces": [{"type": "user"}, {"type": "time"}],
            "uidMappings": map,
            "gidMappings": map,
            "timeOffsets": {"monotonic": {"secs": 100, "nanosecs": 5}, "boottime": {"secs": 100}}
        }
    })
}
