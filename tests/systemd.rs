//! Cgroups made by systemd, on a host whose first process it is. `make lab` runs this in a machine of that kind; on another host each test
//! says so and has nothing to look at.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::World;
use support::bundle::Bundle;

/// The store, on a host of the kind.
fn world() -> Option<World> {
    let there = ["/run/systemd/system", "/run/dbus/system_bus_socket", "/sys/fs/cgroup/cgroup.controllers"];
    if !there.iter().all(|path| Path::new(path).exists()) {
        eprintln!("skipped: this host has no systemd with cgroup v2; `make lab` runs this test on one that has");
        return None;
    }
    World::new()
}

fn systemctl(args: &[&str]) -> String {
    let output = support::output(Command::new("systemctl").args(args));
    assert!(output.status.success(), "systemctl {args:?}: {}", support::told(&output));
    support::stdout(&output).to_owned()
}

/// A property of a unit's.
fn property(unit: &str, name: &str) -> String {
    systemctl(&["show", "--value", "--property", name, unit]).trim().to_owned()
}

/// Where a unit's processes are.
fn group(unit: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(property(unit, "ControlGroup").trim_start_matches('/'))
}

#[track_caller]
fn assert_gone(unit: &str, slice: &str) {
    assert_eq!(property(unit, "LoadState"), "not-found", "{unit}");
    let left = Path::new("/sys/fs/cgroup").join(slice).join(unit);
    assert!(!left.exists(), "{} is left", left.display());
}

fn file(dir: &Path, name: &str) -> String {
    support::read(dir.join(name)).trim().to_owned()
}

#[test]
fn limits_are_properties_of_a_scope_and_hold_in_its_group() {
    let Some(world) = world() else { return };
    let limits = ["--memory", "64m", "--pids-limit", "50", "--cpus", "0.5"];
    world.ok([&["--systemd-cgroup", "run", "-d", "--name", "limited"], &limits[..], &["--", "sleep", "1000"]].concat());
    let unit = "insula-limited.scope";
    let expected = [
        ("ActiveState", "active"),
        ("Slice", "system.slice"),
        ("Delegate", "yes"),
        ("MemoryMax", "67108864"),
        ("TasksMax", "50"),
        ("CPUQuotaPerSecUSec", "500ms"),
    ];
    for (name, value) in expected {
        assert_eq!(property(unit, name), value, "{name}");
    }
    let dir = group(unit);
    assert!(dir.ends_with("system.slice/insula-limited.scope"), "{}", dir.display());
    let in_kernel = || ["memory.max", "pids.max", "cpu.max"].map(|name| file(&dir, name));
    assert_eq!(in_kernel(), ["67108864", "50", "50000 100000"]);
    let first = world.state("limited")["pid"].to_string();
    assert!(file(&dir, "cgroup.procs").lines().any(|pid| pid == first), "the first process is in it");
    assert_eq!(world.ok(["exec", "limited", "cat", "/proc/self/cgroup"]), "0::/\n", "an added process is in it");

    world.ok(["update", "--memory", "128m", "--pids-limit", "40", "limited"]);
    assert_eq!([property(unit, "MemoryMax"), property(unit, "TasksMax")], ["134217728", "40"]);
    assert_eq!(in_kernel(), ["134217728", "40", "50000 100000"]);
    // What systemd knows it writes again whenever it reads its configuration anew.
    systemctl(&["daemon-reload"]);
    assert_eq!(in_kernel(), ["134217728", "40", "50000 100000"]);

    world.ok(["pause", "limited"]);
    assert!(world.ok(["state", "limited"]).contains("\"paused\""));
    world.ok(["delete", "--force", "limited"]);
    assert_gone(unit, "system.slice");
}

#[test]
fn a_bundle_names_slice_and_scope() {
    let Some(world) = world() else { return };
    let named = |path: &str| {
        let path = path.to_owned();
        move |config: &mut serde_json::Value| config["linux"]["cgroupsPath"] = path.into()
    };
    let bundle = Bundle::new(&world, "bundle", &["sleep", "1000"]).with(named("insulatest-deep.slice:pre:one"));
    world.hands_off(["--systemd-cgroup", "create", "--bundle", bundle.dir(), "one"]);
    world.ok(["start", "one"]);
    assert!(group("pre-one.scope").ends_with("insulatest.slice/insulatest-deep.slice/pre-one.scope"));

    let taken = world.fails(1, ["--systemd-cgroup", "create", "--bundle", bundle.dir(), "two"]);
    assert!(taken.contains("pre-one.scope") && taken.contains("cgroupsPath"), "{taken}");
    assert_eq!(world.state("one")["status"], "running", "who has the name keeps it");

    world.ok(["kill", "one", "KILL"]);
    world.until("one", "stopped");
    world.ok(["delete", "one"]);
    assert_gone("pre-one.scope", "insulatest.slice/insulatest-deep.slice");

    let wrong = Bundle::new(&world, "wrong", &["true"]).with(named("/not/a/scope"));
    let error = world.fails(1, ["--systemd-cgroup", "create", "--bundle", wrong.dir(), "three"]);
    assert!(error.contains("linux.cgroupsPath") && error.contains("SLICE:PREFIX:NAME"), "{error}");
}

#[test]
fn device_rules_outlive_a_reload_of_systemd() {
    let Some(world) = world() else { return };
    world.ok(["--systemd-cgroup", "run", "-d", "--name", "nodes", "--cap-add", "MKNOD", "--", "sleep", "1000"]);
    let look = ["exec", "nodes", "sh", "-c", "mknod /dev/kmsg2 c 1 11; head -c 1 /dev/kmsg2 2>&1; head -c 1 /dev/zero | wc -c"];
    let before = world.output(look);
    assert!(support::stdout(&before).contains("not permitted") && support::stdout(&before).ends_with("1\n"), "{before:?}");
    systemctl(&["daemon-reload"]);
    let after = world.output(look);
    assert!(support::stdout(&after).contains("not permitted") && support::stdout(&after).ends_with("1\n"), "{after:?}");
    world.ok(["delete", "--force", "nodes"]);
    assert_gone("insula-nodes.scope", "system.slice");
}

#[test]
fn a_killed_caller_leaves_nothing_that_delete_does_not_find() {
    let Some(world) = world() else { return };
    let unit = "insula-killed.scope";
    let mut caller = world.insula(["--systemd-cgroup", "run", "--name", "killed", "--", "sleep", "1000"]);
    let mut caller = caller.stdin(Stdio::null()).spawn().unwrap();
    support::eventually("the scope is there", || property(unit, "ActiveState") == "active");
    support::eventually("it runs", || support::stdout(&world.output(["state", "killed"])).contains("\"running\""));
    caller.kill().unwrap();
    caller.wait().unwrap();
    world.ok(["delete", "--force", "killed"]);
    assert_gone(unit, "system.slice");
}

/// The caller of `create` is killed at its Nth word with systemd or its first process: before the scope is asked for, while it is made,
/// and after. (An answer is read with `recvfrom` when the question has been written.)
#[test]
fn create_killed_while_it_talks_to_systemd_leaves_nothing_that_delete_does_not_find() {
    let Some(world) = world() else { return };
    let bundle = Bundle::new(&world, "bundle", &["sleep", "1000"]);
    let mut killed = 0;
    for at in 1.. {
        let id = format!("cut{at}");
        let ours = world.insula(["--systemd-cgroup", "create", "--bundle", bundle.dir(), &id]);
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-o", "/dev/null", "-e", "trace=sendto,recvfrom"]);
        strace.args(["-e", &format!("inject=sendto,recvfrom:signal=KILL:when={at}")]);
        strace.arg(ours.get_program()).args(ours.get_args());
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let made = support::ended(&mut strace.spawn().unwrap());
        world.ok(["delete", "--force", &id]);
        assert_gone(&format!("insula-{id}.scope"), "system.slice");
        if made.success() {
            break;
        }
        killed = at;
    }
    assert!(killed > 8, "only {killed} words were seen");
}
