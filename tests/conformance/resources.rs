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
        ("memory", "kernelTCP", "memory", json!({"kernelTCP": 33554432}), "memory.kmem.tcp.limit_in_bytes", "33554432"),
        ("memory", "swappiness", "memory", json!({"limit": 67108864, "swappiness": 10}), "memory.swappiness", "10"),
        ("cpu", "period", "cpu", json!({"quota": 50000, "period": 200000}), "cpu.cfs_period_us", "200000"),
        ("cpu", "burst", "cpu", json!({"quota": 50000, "period": 200000, "burst": 10000}), "cpu.cfs_burst_us", "10000"),
        ("cpu", "idle", "cpu", json!({"idle": 1}), "cpu.idle", "1"),
        ("cpu", "realtimePeriod", "cpu", json!({"realtimePeriod": 500000}), "cpu.rt_period_us", "500000"),
        ("cpuset", "mems", "cpu", json!({"cpus": "0", "mems": "0"}), "cpuset.mems", "0"),
        ("cpuset", "cpus and mems", "cpu", json!({"cpus": "0", "mems": "0"}), "cpuset.cpus", "0"),
        ("pids", "limit", "pids", json!({"limit": 40}), "pids.max", "40"),
    ];
    for (controller, what, field, value, file, wanted) in cases {
        let file_is_there = || Path::new("/sys/fs/cgroup").join(controller).join(file.split(' ').next().unwrap()).exists();
        if v1(controller) && (field == "memory" || file_is_there()) {
            let section = format!("config-linux.md#{field}");
            let script = format!("cat /sys/fs/cgroup/{controller}/{file}");
            suite.prints(&section, &format!("{what} is set"), |config| resources(config, field, value), &script, wanted);
        }
    }
    block_io(&mut suite);
    networks(&mut suite);
    huge_pages(&mut suite);
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

/// Throttles of a block device of the host's, and weights where its scheduler has some.
fn block_io(suite: &mut Suite) {
    let disks = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let number = disks.filter_map(|disk| std::fs::read_to_string(disk.path().join("dev")).ok()).next();
    let Some((major, minor)) = number.as_deref().and_then(|number| number.trim().split_once(':')).filter(|_| v1("blkio")) else {
        return;
    };
    let device =
        |rate: u64| json!([{"major": major.parse::<u32>().unwrap(), "minor": minor.parse::<u32>().unwrap(), "rate": rate}]);
    for (field, file) in [
        ("throttleReadBpsDevice", "read_bps"),
        ("throttleWriteBpsDevice", "write_bps"),
        ("throttleReadIOPSDevice", "read_iops"),
        ("throttleWriteIOPSDevice", "write_iops"),
    ] {
        suite.prints(
            "config-linux.md#block-io",
            &format!("{field} is set"),
            |config| resources(config, "blockIO", json!({field: device(1048576)})),
            &format!("cat /sys/fs/cgroup/blkio/blkio.throttle.{file}_device"),
            &format!("{major}:{minor} 1048576"),
        );
    }
    let weighs = std::fs::read_dir("/sys/fs/cgroup/blkio").into_iter().flatten().flatten();
    if weighs.filter(|entry| entry.path().is_dir()).any(|entry| entry.path().join("blkio.bfq.weight").exists()) {
        let change = |config: &mut Value| resources(config, "blockIO", json!({"weight": 200}));
        suite.prints("config-linux.md#block-io", "weight is set", change, "cat /sys/fs/cgroup/blkio/blkio.bfq.weight", "200");
    } else {
        suite.refuses("config-linux.md#block-io", "a weight that the host's kernel doesn't have is an error", |config| {
            resources(config, "blockIO", json!({"weight": 200}))
        });
    }
}

fn networks(suite: &mut Suite) {
    let section = "config-linux.md#network";
    if v1("net_cls") {
        let change = |config: &mut Value| resources(config, "network", json!({"classID": 1048577}));
        suite.prints(section, "classID is set", change, "cat /sys/fs/cgroup/net_cls/net_cls.classid", "1048577");
    } else {
        suite.refuses(section, "a class on a host without net_cls is an error", |config| {
            resources(config, "network", json!({"classID": 1048577}))
        });
    }
    if v1("net_prio") {
        let change = |config: &mut Value| resources(config, "network", json!({"priorities": [{"name": "lo", "priority": 5}]}));
        suite.prints(section, "priorities are set", change, "grep lo /sys/fs/cgroup/net_prio/net_prio.ifpriomap", "lo 5");
    } else {
        suite.refuses(section, "a priority on a host without net_prio is an error", |config| {
            resources(config, "network", json!({"priorities": [{"name": "lo", "priority": 5}]}))
        });
    }
}

/// Huge pages, in whichever version the host has the controller; and `unified`, which names the same file in the other.
fn huge_pages(suite: &mut Suite) {
    let section = "config-linux.md#huge-page-limits";
    let change = |config: &mut Value| resources(config, "hugepageLimits", json!([{"pageSize": "2MB", "limit": 4194304}]));
    let unified = Path::new("/sys/fs/cgroup/unified");
    let in_unified = std::fs::read_to_string(unified.join("cgroup.controllers")).is_ok_and(|text| text.contains("hugetlb"));
    if v1("hugetlb") {
        suite.prints(section, "limits are set", change, "cat /sys/fs/cgroup/hugetlb/hugetlb.2MB.limit_in_bytes", "4194304");
    } else if in_unified {
        let script = "cat /sys/fs/cgroup/unified/hugetlb.2MB.max || cat /sys/fs/cgroup/hugetlb.2MB.max";
        suite.prints(section, "limits are set", change, script, "4194304");
        let change = |config: &mut Value| resources(config, "unified", json!({"hugetlb.2MB.max": "2097152"}));
        suite.prints("config-linux.md#unified", "a file is written", change, script, "2097152");
    }
    suite.refuses(section, "a size that isn't one is an error", |config| {
        resources(config, "hugepageLimits", json!([{"pageSize": "2 cats", "limit": 4194304}]))
    });
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
