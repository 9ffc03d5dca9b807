//! `config-linux.md`: namespaces, devices, seccomp, paths, kernel parameters, personality.

use crate::Suite;
use serde_json::{Value, json};

fn set(config: &mut Value, field: &str, value: Value) {
    config["linux"][field] = value;
}

fn namespaces(config: &mut Value) -> &mut Vec<Value> {
    config["linux"]["namespaces"].as_array_mut().unwrap()
}

#[test]
fn spaces() {
    let Some(mut suite) = Suite::new() else { return };
    const SECTION: &str = "config-linux.md#namespaces";
    let own = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().to_str().unwrap().to_owned();
    for (kind, file) in [
        ("pid", "pid"),
        ("network", "net"),
        ("mount", "mnt"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("cgroup", "cgroup"),
        ("time", "time"),
    ] {
        let script = format!("test \"$(readlink /proc/self/ns/{file})\" != '{}' && echo new", own(file));
        suite.prints(
            SECTION,
            &format!("{kind}: a new one is made"),
            |config| {
                if kind == "time" {
                    namespaces(config).push(json!({"type": "time"}));
                }
            },
            &script,
            "new",
        );
    }
    for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("cgroup", "cgroup")] {
        let script = format!("readlink /proc/self/ns/{file}");
        suite.prints(
            SECTION,
            &format!("{kind}: without an entry it is the runtime's"),
            |config| namespaces(config).retain(|one| one["type"] != kind),
            &script,
            &own(file),
        );
    }
    let mut holder = std::process::Command::new("unshare").args(["--net", "--ipc", "--uts", "sleep", "1000"]).spawn().unwrap();
    crate::support::eventually("the holder has its namespaces", || {
        crate::support::read(format!("/proc/{}/comm", holder.id())).trim() == "sleep"
    });
    for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
        let path = format!("/proc/{}/ns/{file}", holder.id());
        let theirs = std::fs::read_link(&path).unwrap().to_str().unwrap().to_owned();
        suite.prints(
            SECTION,
            &format!("{kind}: the one at a path is joined"),
            |config| {
                namespaces(config).retain(|one| one["type"] != kind);
                namespaces(config).push(json!({"type": kind, "path": path}));
                config.as_object_mut().unwrap().remove("hostname");
            },
            &format!("readlink /proc/self/ns/{file}"),
            &theirs,
        );
    }
    let wrong = format!("/proc/{}/ns/ipc", holder.id());
    suite.refuses(SECTION, "a path of another type is an error", |config| {
        namespaces(config).retain(|one| one["type"] != "network");
        namespaces(config).push(json!({"type": "network", "path": wrong}));
    });
    let _ = holder.kill();
    let _ = holder.wait();
    suite.refuses(SECTION, "a duplicated type is an error", |config| namespaces(config).push(json!({"type": "pid"})));
    suite.refuses(SECTION, "an unknown type is an error", |config| namespaces(config).push(json!({"type": "bogus"})));
    suite.prints(
        "config-linux.md#offset-for-time-namespace",
        "offsets are set",
        |config| {
            namespaces(config).push(json!({"type": "time"}));
            set(config, "timeOffsets", json!({"boottime": {"secs": 1000000, "nanosecs": 0}}));
        },
        "test \"$(cut -d. -f1 /proc/uptime)\" -gt 1000000 && echo later",
        "later",
    );
    suite.prints(
        "config-linux.md#user-namespace-mappings",
        "IDs are mapped",
        |config| {
            namespaces(config).push(json!({"type": "user"}));
            set(config, "uidMappings", json!([{"containerID": 0, "hostID": 0, "size": 1000}]));
            set(config, "gidMappings", json!([{"containerID": 0, "hostID": 0, "size": 2000}]));
        },
        "tr -s ' ' < /proc/self/uid_map; tr -s ' ' < /proc/self/gid_map",
        " 0 0 1000\n 0 0 2000",
    );
    suite.end();
}

#[test]
fn devices() {
    let Some(mut suite) = Suite::new() else { return };
    const DEFAULT: &str = "config-linux.md#default-devices";
    for (name, numbers) in
        [("null", "1:3"), ("zero", "1:5"), ("full", "1:7"), ("random", "1:8"), ("urandom", "1:9"), ("tty", "5:0")]
    {
        suite.prints(
            DEFAULT,
            &format!("/dev/{name} is there"),
            |_| (),
            &format!("stat -c '%F %Hr:%Lr' /dev/{name}"),
            &format!("character special file {numbers}"),
        );
    }
    suite.prints(DEFAULT, "/dev/ptmx is there", |_| (), "readlink /dev/ptmx", "pts/ptmx");
    const SECTION: &str = "config-linux.md#devices";
    let device = json!({"path": "/dev/sub/one", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 33, "gid": 34});
    suite.prints(
        SECTION,
        "a device is made as listed",
        |config| set(config, "devices", json!([device])),
        "stat -c '%F %Hr:%Lr %a %u:%g' /dev/sub/one",
        "character special file 1:3 640 33:34",
    );
    suite.prints(
        SECTION,
        "a pipe is made as listed",
        |config| set(config, "devices", json!([{"path": "/dev/pipe", "type": "p"}])),
        "stat -c %F /dev/pipe",
        "fifo",
    );
    suite.refuses(SECTION, "a device has a number", |config| set(config, "devices", json!([{"path": "/dev/x", "type": "c"}])));
    suite.refuses(SECTION, "an unknown type is an error", |config| {
        set(config, "devices", json!([{"path": "/dev/x", "type": "z", "major": 1, "minor": 3}]))
    });
    suite.end();
}

#[test]
fn paths_parameters_and_personality() {
    let Some(mut suite) = Suite::new() else { return };
    const MASKED: &str = "config-linux.md#masked-paths";
    suite.prints(MASKED, "a file is masked", |config| set(config, "maskedPaths", json!(["/etc/passwd"])), "cat /etc/passwd", "");
    suite.prints(MASKED, "a directory is masked", |config| set(config, "maskedPaths", json!(["/etc"])), "ls /etc", "");
    suite.prints(
        MASKED,
        "a path that isn't there is passed over",
        |config| set(config, "maskedPaths", json!(["/none/such"])),
        "echo ok",
        "ok",
    );
    suite.prints(
        "config-linux.md#readonly-paths",
        "a path is read-only",
        |config| set(config, "readonlyPaths", json!(["/tmp"])),
        "touch /tmp/x 2>/dev/null || echo ro",
        "ro",
    );
    const SYSCTL: &str = "config-linux.md#sysctl";
    suite.prints(
        SYSCTL,
        "kernel parameters are set",
        |config| set(config, "sysctl", json!({"kernel.msgmax": "4096", "net.ipv4.ip_forward": "1"})),
        "cat /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_forward",
        "4096\n1",
    );
    suite.refuses(SYSCTL, "one of the whole host is an error", |config| set(config, "sysctl", json!({"kernel.pid_max": "4096"})));
    const PROPAGATION: &str = "config-linux.md#rootfs-mount-propagation";
    for (name, wanted) in [("private", ""), ("shared", "shared:"), ("unbindable", "unbindable")] {
        suite.prints(
            PROPAGATION,
            &format!("{name} is the root's propagation"),
            |config| set(config, "rootfsPropagation", name.into()),
            "while read -r a b c d point rest; do [ $point = / ] && echo $rest; done < /proc/self/mountinfo | sed 's/ - .*//' | grep -oE 'shared:|unbindable'; true",
            wanted,
        );
    }
    suite.refuses(PROPAGATION, "an unknown one is an error", |config| set(config, "rootfsPropagation", "sideways".into()));
    suite.prints(
        "config-linux.md#personality",
        "the domain is set",
        |config| set(config, "personality", json!({"domain": "LINUX32"})),
        "uname -m",
        "i686",
    );
    suite.refuses("config-linux.md#personality", "an unknown domain is an error", |config| {
        set(config, "personality", json!({"domain": "BSD"}))
    });
    suite.refuses("config-linux.md#intelrdt", "what isn't supported is an error", |config| {
        set(config, "intelRdt", json!({"closID": "x", "l3CacheSchema": "L3:0=ffff"}))
    });
    suite.end();
}

#[test]
fn filters() {
    let Some(mut suite) = Suite::new() else { return };
    const SECTION: &str = "config-linux.md#seccomp";
    let rule = |call: &str, action: &str| json!({"names": [call], "action": action});
    let policy = |rules: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules});
    suite.prints(
        SECTION,
        "SCMP_ACT_ERRNO answers EPERM",
        |config| set(config, "seccomp", policy(json!([rule("mkdir", "SCMP_ACT_ERRNO")]))),
        "mkdir /tmp/x 2>&1 | grep -o 'not permitted'",
        "not permitted",
    );
    let mut other = rule("mkdir", "SCMP_ACT_ERRNO");
    other["errnoRet"] = 28.into();
    suite.prints(
        SECTION,
        "errnoRet is the answer",
        |config| set(config, "seccomp", policy(json!([other]))),
        "mkdir /tmp/x 2>&1 | grep -o 'No space'",
        "No space",
    );
    for (action, code) in
        [("SCMP_ACT_KILL", "159"), ("SCMP_ACT_KILL_THREAD", "159"), ("SCMP_ACT_KILL_PROCESS", "159"), ("SCMP_ACT_TRAP", "159")]
    {
        suite.prints(
            SECTION,
            &format!("{action} ends the program"),
            |config| set(config, "seccomp", policy(json!([rule("mkdir", action)]))),
            "mkdir /tmp/x 2>/dev/null; echo $?",
            code,
        );
    }
    for action in ["SCMP_ACT_LOG", "SCMP_ACT_ALLOW"] {
        suite.prints(
            SECTION,
            &format!("{action} lets the call through"),
            |config| set(config, "seccomp", policy(json!([rule("mkdir", action)]))),
            "mkdir /tmp/x && echo made",
            "made",
        );
    }
    suite.prints(
        SECTION,
        "SCMP_ACT_TRACE without a tracer answers ENOSYS",
        |config| set(config, "seccomp", policy(json!([rule("mkdir", "SCMP_ACT_TRACE")]))),
        "mkdir /tmp/x 2>&1 | grep -o 'not implemented'",
        "not implemented",
    );
    // The second argument of kill(2) is the signal: 0 and 18 (SIGCONT) end nobody.
    for (op, value, refused) in
        [("EQ", 18, "18"), ("NE", 18, "0"), ("LT", 18, "0"), ("LE", 17, "0"), ("GE", 18, "18"), ("GT", 17, "18"), ("GT", 0, "18")]
    {
        let mut one = rule("kill", "SCMP_ACT_ERRNO");
        one["args"] = json!([{"index": 1, "value": value, "op": format!("SCMP_CMP_{op}")}]);
        suite.prints(
            SECTION,
            &format!("SCMP_CMP_{op} is implemented"),
            |config| set(config, "seccomp", policy(json!([one]))),
            "for signal in 0 18; do kill -$signal $$ 2>/dev/null || echo $signal; done",
            refused,
        );
    }
    let mut both = rule("kill", "SCMP_ACT_ERRNO");
    both["args"] = json!([
        {"index": 1, "value": 0, "op": "SCMP_CMP_EQ"},
        {"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}
    ]);
    suite.prints(
        SECTION,
        "conditions on different arguments hold together",
        |config| set(config, "seccomp", policy(json!([both]))),
        "kill -0 $$ && echo let; kill -0 0 2>/dev/null || echo refused",
        "let\nrefused",
    );
    for flag in ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"] {
        suite.prints(
            SECTION,
            &format!("{flag} is taken"),
            |config| {
                let mut policy = policy(json!([rule("mkdir", "SCMP_ACT_ERRNO")]));
                policy["flags"] = json!([flag]);
                set(config, "seccomp", policy);
            },
            "mkdir /tmp/x 2>/dev/null || echo refused",
            "refused",
        );
    }
    suite.refuses(SECTION, "an unknown flag is an error", |config| {
        let mut policy = policy(json!([rule("mkdir", "SCMP_ACT_ERRNO")]));
        policy["flags"] = json!(["SECCOMP_FILTER_FLAG_NONE"]);
        set(config, "seccomp", policy);
    });
    let mut masked = rule("kill", "SCMP_ACT_ERRNO");
    masked["args"] = json!([{"index": 1, "value": 1, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]);
    suite.prints(
        SECTION,
        "SCMP_CMP_MASKED_EQ is implemented",
        |config| set(config, "seccomp", policy(json!([masked]))),
        "kill -0 $$ 2>/dev/null || echo refused",
        "refused",
    );
    suite.refuses(SECTION, "an unknown action is an error", |config| {
        set(config, "seccomp", json!({"defaultAction": "SCMP_ACT_SING"}))
    });
    suite.refuses(SECTION, "an unknown operator is an error", |config| {
        let mut one = rule("kill", "SCMP_ACT_ERRNO");
        one["args"] = json!([{"index": 1, "value": 0, "op": "SCMP_CMP_ABOUT"}]);
        set(config, "seccomp", policy(json!([one])));
    });
    suite.end();
}
