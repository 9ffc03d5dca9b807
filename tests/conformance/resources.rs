//! `config-linux.md#control-groups`: where the container's groups are, and what is written there.

use crate::Suite;
use serde_json::{Value, json};
use std::path::Path;

/// Whether a controller is in a hierarchy of v1: the files that are looked at here are those.
fn v1(controller: &str) -> bool {
    let there = Path::new("/sys/fs/cgroup").join(controller).join("tasks").exists();
    if !there {
        eprintln!("not looked at: this host has {controller} not in cgroup v1");
    }
    there
}

fn resources(config: &mut Value, field: &str, value: Value) {
    config["linux"]["resources"][field] = value;
}

#[test]
fn limits() {
    let Some(mut suite) = Suite::new() else { return };
    let cases = [
        ("memory", "limit", "memory", json!({"limit": 67108864}), "memory.limit_in_bytes", "67108864"),
        ("memory", "reservation", "memory", json!({"reservation": 33554432}), "memory.soft_limit_in_bytes", "33554432"),
        (
            "memory",
            "disableOOMKiller",
            "memory",
            json!({"limit": 67108864, "disableOOMKiller": true}),
            "memory.oom_control | head -n 1",
            "oom_kill_disable 1",
        ),
        ("cpu", "shares", "cpu", json!({"shares": 512}), "cpu.shares", "512"),
        ("cpu", "quota and period", "cpu", json!({"quota": 50000, "period": 200000}), "cpu.cfs_quota_us", "50000"),
        ("cpuset", "cpus and mems", "cpu", json!({"cpus": "0", "mems": "0"}), "cpuset.cpus", "0"),
        ("pids", "limit", "pids", json!({"limit": 40}), "pids.max", "40"),
    ];
    for (controller, what, field, value, file, wanted) in cases {
        if v1(controller) {
            let section = format!("config-linux.md#{field}");
            let script = format!("cat /sys/fs/cgroup/{controller}/{file}");
            suite.prints(&section, &format!("{what} is set"), |config| resources(config, field, value), &script, wanted);
        }
    }
    devices(&mut suite);
    suite.refuses("config-linux.md#memory", "a limit that isn't one is an error", |config| {
        resources(config, "memory", json!({"limit": "much"}))
    });
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        suite.refuses("config-linux.md#unified", "a file that the host doesn't have is an error", |config| {
            resources(config, "unified", json!({"memory.high": "1000000"}))
        });
    }
    suite.end();
}

#[test]
fn places() {
    let Some(mut suite) = Suite::new() else { return };
    let id = suite.id();
    let path = format!("/conformance/{id}");
    let wanted = path.clone();
    suite.prints(
        "config-linux.md#cgroups-path",
        "an absolute path is below the mount point",
        |config| {
            config["linux"]["cgroupsPath"] = path.as_str().into();
            config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "cgroup");
            resources(config, "pids", json!({"limit": 100}));
        },
        &format!("grep -E ':(pids)?:' /proc/self/cgroup | grep -o {wanted} | sort -u"),
        &wanted,
    );
    let left = Path::new("/sys/fs/cgroup/pids").join(wanted.trim_start_matches('/'));
    suite.holds("runtime.md#delete", "its groups are removed", !left.exists());
    crate::support::client::remove_groups("conformance");
    suite.end();
}

/// The device is one that root can open, and that isn't among those every container may use.
fn devices(suite: &mut Suite) {
    if !Path::new("/dev/fuse").exists() {
        eprintln!("not looked at: this host has no /dev/fuse");
        return;
    }
    let must = "entries are applied in the listed order";
    let change = |config: &mut Value| {
        let caps = json!(["CAP_MKNOD", "CAP_DAC_OVERRIDE"]);
        config["process"]["capabilities"] = json!({"bounding": caps, "effective": caps, "permitted": caps});
        let some = json!({"allow": true, "type": "c", "major": 10, "minor": 229, "access": "r"});
        resources(config, "devices", json!([{"allow": false, "access": "rwm"}, some]));
    };
    let script = "mknod /dev/listed c 10 229; mknod /dev/other c 1 1; { true < /dev/listed; } && echo read; \
        { true > /dev/listed; } 2>/dev/null || echo unwritten; { true < /dev/other; } 2>/dev/null || echo unread";
    suite.prints("config-linux.md#allowed-device-list", must, change, script, "read\nunwritten\nunread");
}
