//! Limits on memory, processes and processor time: written where the kernel takes them, felt by the program, changed while it runs.
//! What is written is looked for in hierarchies of cgroup v1; what is felt holds on every host.

mod support;

use std::path::{Path, PathBuf};
use support::bundle::Bundle;
use support::{World, behind_sentry, eventually, output, read, stdout, told};

/// The directories of all groups of a sandbox that exist.
fn groups(id: &str) -> Vec<PathBuf> {
    let found =
        output(std::process::Command::new("find").args(["/sys/fs/cgroup", "-type", "d", "-name", &format!("insula-{id}")]));
    stdout(&found).lines().map(PathBuf::from).collect()
}

/// The group in the hierarchy of a v1 controller, if this host has it.
fn v1(id: &str, controller: &str) -> Option<PathBuf> {
    if !Path::new("/sys/fs/cgroup").join(controller).join("tasks").exists() {
        eprintln!("not looked at: this host has {controller} not in cgroup v1");
        return None;
    }
    let found = groups(id).into_iter().find(|path| path.starts_with(Path::new("/sys/fs/cgroup").join(controller)));
    Some(found.unwrap_or_else(|| panic!("no group of {controller} for {id}")))
}

fn written(group: &Path, file: &str) -> String {
    read(group.join(file)).trim().to_owned()
}

/// A counter in the background, whose file shows whether it runs.
fn counter(world: &World, name: &str, options: &[&str]) -> PathBuf {
    let file = world.file(&format!("{name}.count"), "");
    let volume = format!("{}:/mnt/count", file.display());
    // It makes no process, as it could be forbidden to.
    let script = "mkfifo /tmp/f; exec 9<>/tmp/f; n=0; while :; do n=$((n+1)); echo $n > /mnt/count; read -t 0.01 -u 9; done";
    let mut args = vec!["run", "-d", "--name", name, "-v", &volume];
    args.extend(options);
    args.extend(["--", "bash", "-c", script]);
    world.ok(args);
    eventually("it counts", || !read(&file).trim().is_empty());
    file
}

fn stands_still(file: &Path) -> bool {
    let before = read(file);
    std::thread::sleep(std::time::Duration::from_millis(300));
    before == read(file)
}

#[test]
fn only_what_is_limited_makes_a_group() {
    let Some(world) = World::new() else { return };
    let hybrid = !Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    world.ok(["run", "-d", "--name", "free-a", "--", "sleep", "1000"]);
    if hybrid {
        assert_eq!(groups("free-a"), Vec::<PathBuf>::new());
    }
    world.ok(["run", "-d", "--name", "bound-a", "-m", "64m", "--cpus", "1.5", "--pids-limit", "50", "--", "sleep", "1000"]);
    if hybrid {
        let mut names: Vec<_> =
            groups("bound-a").iter().map(|path| path.components().nth(4).unwrap().as_os_str().to_owned()).collect();
        names.sort();
        assert_eq!(names, ["cpu", "memory", "pids"]);
    }
    if let Some(memory) = v1("bound-a", "memory") {
        assert_eq!(written(&memory, "memory.limit_in_bytes"), (64 << 20).to_string());
    }
    if let Some(cpu) = v1("bound-a", "cpu") {
        assert_eq!((written(&cpu, "cpu.cfs_quota_us"), written(&cpu, "cpu.cfs_period_us")), ("150000".into(), "100000".into()));
    }
    if let Some(pids) = v1("bound-a", "pids") {
        assert_eq!(written(&pids, "pids.max"), "50");
        // The first process and the program; behind the sentry the file server, too, and another process for each address space.
        assert_eq!(written(&pids, "cgroup.procs").lines().count(), if behind_sentry() { 4 } else { 2 });
    }
    world.ok(["exec", "bound-a", "true"]);
    world.ok(["delete", "-f", "bound-a"]);
    assert_eq!(groups("bound-a"), Vec::<PathBuf>::new());
}

#[test]
fn who_takes_too_much_memory_is_killed() {
    let Some(world) = World::new() else { return };
    let run = world.output(["run", "-m", "32m", "--name", "eater", "--", "sh", "-c", "exec tail /dev/zero"]);
    assert_eq!(run.status.code(), Some(137), "{}", told(&run));
    assert_eq!(groups("eater"), Vec::<PathBuf>::new());
    assert_eq!(world.ok(["run", "-m", "256m", "--", "echo", "enough"]), "enough\n");
    for (value, word) in [("lots", "no size"), ("1k", "512k"), ("-1", "size")] {
        let error = world.fails(125, ["run", &format!("--memory={value}"), "--", "true"]);
        assert!(error.contains("--memory") && error.contains(word), "{error}");
    }
}

#[test]
fn who_makes_too_many_processes_makes_no_more() {
    let Some(world) = World::new() else { return };
    let script = "for n in $(seq 40); do sleep 100 & done; echo all";
    let run = world.output(["run", "--pids-limit", "20", "--", "bash", "-c", &format!("ulimit -u unlimited; {script}")]);
    assert!(!stdout(&run).contains("all") || support::stderr(&run).contains("fork"), "{}", told(&run));
    assert_eq!(world.ok(["run", "--pids-limit", "-1", "--", "echo", "unlimited"]), "unlimited\n");
    for value in ["0", "-7"] {
        let error = world.fails(125, ["run", "--pids-limit", value, "--", "true"]);
        assert!(error.contains("--pids-limit"), "{error}");
    }
    for value in ["0", "many", "-1", "inf"] {
        let error = world.fails(125, ["run", &format!("--cpus={value}"), "--", "true"]);
        assert!(error.contains("--cpus"), "{error}");
    }
}

#[test]
fn limits_are_changed_while_it_runs() {
    let Some(world) = World::new() else { return };
    // Started without any: then it gets the groups now, and all of it is moved there.
    let file = counter(&world, "later-d", &[]);
    for options in [&[][..], &["-m", "64m", "--cpus", "1", "--pids-limit", "30"]] {
        let name = if options.is_empty() { "later-d" } else { "bound-d" };
        if !options.is_empty() {
            counter(&world, name, options);
        }
        world.ok(["update", "--memory", "128m", "--pids-limit", "40", "--cpu-quota", "50000", "--cpu-period", "100000", name]);
        if let Some(memory) = v1(name, "memory") {
            assert_eq!(written(&memory, "memory.limit_in_bytes"), (128 << 20).to_string());
        }
        if let Some(pids) = v1(name, "pids") {
            assert_eq!(written(&pids, "pids.max"), "40");
            let mut inside: Vec<i32> = written(&pids, "cgroup.procs").lines().map(|line| line.parse().unwrap()).collect();
            inside.sort_unstable();
            assert!(inside.len() >= 2 && inside.contains(&(world.state(name)["pid"].as_i64().unwrap() as i32)), "{inside:?}");
        }
        if let Some(cpu) = v1(name, "cpu") {
            assert_eq!(written(&cpu, "cpu.cfs_quota_us"), "50000");
        }
        world.ok(["update", "--memory", "-1", "--pids-limit", "-1", name]);
        if let Some(pids) = v1(name, "pids") {
            assert_eq!(written(&pids, "pids.max"), "max");
        }
    }
    eventually("it counts on", || !stands_still(&file));
    // Whoever joins it later is limited too.
    world.ok(["update", "--pids-limit", "3", "later-d"]);
    let run = world.output(["exec", "later-d", "bash", "-c", "for n in $(seq 9); do sleep 100 & done; wait"]);
    assert!(!run.status.success() || support::stderr(&run).contains("fork"), "{}", told(&run));
    let resources = world.file("resources.json", r#"{"memory": {"limit": 100663296}, "pids": {"limit": 60}}"#);
    world.ok(["update", "--resources", resources.to_str().unwrap(), "later-d"]);
    if let Some(memory) = v1("later-d", "memory") {
        assert_eq!(written(&memory, "memory.limit_in_bytes"), "100663296");
    }
    let error = world.fails(1, ["update", "later-d"]);
    assert!(error.contains("nothing to change"), "{error}");
    let error = world.fails(1, ["update", "--memory", "lots", "later-d"]);
    assert!(error.contains("--memory") && error.contains("lots"), "{error}");
    world.ok(["delete", "-f", "later-d"]);
    assert_eq!(groups("later-d"), Vec::<PathBuf>::new());
}

#[test]
fn a_limit_that_the_kernel_refuses_leaves_it_as_it_was() {
    let Some(world) = World::new() else { return };
    let file = counter(&world, "free-e", &[]);
    let error = world.fails(1, ["update", "--cpuset-cpus", "4000", "free-e"]);
    assert!(error.contains("4000"), "{error}");
    eventually("it counts on", || !stands_still(&file));
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        assert_eq!(groups("free-e"), Vec::<PathBuf>::new());
    }
    assert_eq!(world.state("free-e")["status"], "running");
    world.ok(["update", "--cpuset-cpus", "0", "free-e"]);
    eventually("it counts on", || !stands_still(&file));
    world.ok(["delete", "-f", "free-e"]);
    assert_eq!(groups("free-e"), Vec::<PathBuf>::new());
}

#[test]
fn every_container_can_be_paused() {
    let Some(world) = World::new() else { return };
    for (name, options) in [("free-f", &[][..]), ("bound-f", &["-m", "64m"])] {
        let file = counter(&world, name, options);
        for _ in 0..2 {
            world.ok(["pause", name]);
            assert_eq!(world.state(name)["status"], "paused");
            assert!(stands_still(&file), "{name}");
            let error = world.fails(1, ["pause", name]);
            assert!(error.contains("is paused"), "{error}");
            let error = world.fails(125, ["exec", name, "true"]);
            assert!(error.contains("is paused"), "{error}");
            world.ok(["resume", name]);
            eventually("it counts on", || !stands_still(&file));
            assert_eq!(world.state(name)["status"], "running");
        }
        let error = world.fails(1, ["resume", name]);
        assert!(error.contains("only a paused"), "{error}");
        // What joins it now belongs to what is paused next.
        world.hands_off(["exec", "-d", name, "sh", "-c", "while :; do date +%N > /mnt/count; sleep 0.01; done"]);
        world.ok(["pause", name]);
        assert!(stands_still(&file), "{name}");
        world.ok(["delete", "-f", name]);
        assert_eq!(groups(name), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_pause_catches_those_that_make_others_all_the_time() {
    let Some(world) = World::new() else { return };
    let file = world.file("count", "");
    let volume = format!("{}:/mnt/count", file.display());
    let script = "for n in 1 2 3 4; do (while :; do (date +%N > /mnt/count) & wait; done) & done; wait";
    world.ok(["run", "-d", "--name", "busy-g", "-v", &volume, "--", "bash", "-c", script]);
    // And one whose processes are in a PID namespace of their own.
    let nested = [
        "exec",
        "-d",
        "--cap",
        "SYS_ADMIN",
        "busy-g",
        "unshare",
        "-pf",
        "sh",
        "-c",
        "while :; do date +%N > /mnt/count; sleep 0.01; done",
    ];
    world.hands_off(nested);
    eventually("it counts", || !read(&file).trim().is_empty());
    for _ in 0..5 {
        world.ok(["pause", "busy-g"]);
        assert!(stands_still(&file));
        world.ok(["resume", "busy-g"]);
        eventually("it counts on", || !stands_still(&file));
    }
    world.ok(["pause", "busy-g"]);
    world.ok(["delete", "-f", "busy-g"]);
}

#[test]
fn a_pause_in_the_foreground_leaves_nothing_behind() {
    let Some(world) = World::new() else { return };
    let mut child = world.insula(["run", "--name", "front-h", "--", "sleep", "1000"]).spawn().unwrap();
    eventually("it runs", || {
        world.output(["state", "front-h"]).status.success() && world.state("front-h")["status"] == "running"
    });
    world.ok(["pause", "front-h"]);
    world.ok(["resume", "front-h"]);
    world.ok(["update", "--pids-limit", "20", "front-h"]);
    assert!(!groups("front-h").is_empty());
    world.ok(["kill", "front-h", "KILL"]);
    assert_eq!(support::ended(&mut child).code(), Some(137));
    assert_eq!(groups("front-h"), Vec::<PathBuf>::new());
    assert_eq!(world.ok(["list", "-q"]), "");
}

#[test]
fn a_bundle_says_where_its_groups_are() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "bundle", &["sleep", "1000"]).with(|config| {
        config["linux"]["cgroupsPath"] = "/insula-of-the-test/inner".into();
        config["linux"]["resources"] = serde_json::json!({"pids": {"limit": 33}});
    });
    world.hands_off(["create", "-b", bundle.dir(), "placed-i"]);
    let pids = Path::new("/sys/fs/cgroup/pids/insula-of-the-test/inner");
    if Path::new("/sys/fs/cgroup/pids/tasks").exists() {
        assert_eq!(written(pids, "pids.max"), "33");
    }
    // The same place for another would mix them.
    let error = world.fails(1, ["create", "-b", bundle.dir(), "second-i"]);
    assert!(error.contains("linux.cgroupsPath") && error.contains("in use"), "{error}");
    assert_eq!(world.ok(["list", "-q"]), "placed-i\n");
    world.ok(["start", "placed-i"]);
    world.ok(["pause", "placed-i"]);
    world.ok(["resume", "placed-i"]);
    world.ok(["delete", "-f", "placed-i"]);
    assert!(!pids.exists());
    let _ = std::process::Command::new("sh")
        .args(["-c", "rmdir /sys/fs/cgroup/*/insula-of-the-test /sys/fs/cgroup/insula-of-the-test 2>/dev/null"])
        .status();
}

#[test]
fn a_sandbox_of_the_same_name_in_another_store_is_left_alone() {
    let (Some(world), Some(other)) = (World::new(), World::new()) else { return };
    world.ok(["run", "-d", "--name", "twin-j", "-m", "64m", "--", "sleep", "1000"]);
    let error = other.fails(125, ["run", "-d", "--name", "twin-j", "-m", "64m", "--", "sleep", "1000"]);
    assert!(error.contains("insula-twin-j") && error.contains("in use"), "{error}");
    // Nothing was made, so nothing is taken back.
    assert_eq!((world.state("twin-j")["status"].clone(), other.ok(["list", "-q"])), ("running".into(), String::new()));
}

#[test]
fn a_removed_sandbox_is_gone_whoever_still_watches_it() {
    let Some(world) = World::new() else { return };
    for _ in 0..20 {
        world.ok(["run", "-d", "--name", "short-k", "--", "sleep", "1000"]);
        // The process that stays with it writes its exit code at the same time.
        world.ok(["delete", "-f", "short-k"]);
        assert_eq!(world.ok(["list", "-q"]), "");
    }
}

#[test]
fn a_scope_needs_systemd_on_cgroup_v2() {
    let Some(world) = World::new() else { return };
    if std::path::Path::new("/run/systemd/system").exists() {
        eprintln!("skipped: systemd runs here");
        return;
    }
    let error = world.fails(125, ["--systemd-cgroup", "run", "--name", "scoped", "--", "true"]);
    let unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let why = if unified { "can't reach systemd at unix:path=" } else { "needs a host with cgroup v2 alone" };
    assert!(error.contains(why) && error.contains("--systemd-cgroup"), "{error}");
    assert!(world.fails(1, ["state", "scoped"]).contains("does not exist"), "nothing is left");
}
