//! Limits on a host with cgroup v2 alone: what users mostly have. `make lab` runs this in a machine of that kind; on another host each
//! test says so and has nothing to look at.

mod support;

use std::path::{Path, PathBuf};
use support::World;
use support::plain::{Plain, USER};

/// The store, on a host of the kind.
fn world() -> Option<World> {
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    if !unified {
        eprintln!("skipped: this host has no cgroup v2 at /sys/fs/cgroup; `make lab` runs this test on one that has");
        return None;
    }
    World::new()
}

/// Whether the container of this name has a group anywhere.
fn has_group(id: &str) -> bool {
    let mut found = false;
    let mut left = vec![Path::new("/sys/fs/cgroup").to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).unwrap().flatten().filter(|entry| entry.file_type().unwrap().is_dir()) {
            let name = entry.file_name().into_string().unwrap();
            found |= name == format!("insula-{id}");
            left.push(entry.path());
        }
    }
    found
}

#[test]
fn limits_are_in_the_group_the_program_is_made_in() {
    let Some(world) = world() else { return };
    let files = "cd /sys/fs/cgroup; cat memory.max pids.max cpu.max; cat /proc/self/cgroup";
    let script = format!("mount -t cgroup2 none /sys/fs/cgroup 2>/dev/null; {files}");
    let limits = ["--memory", "64m", "--pids-limit", "50", "--cpus", "0.5"];
    let args = [&["run", "--name", "limited"], &limits[..], &["--cap-add", "SYS_ADMIN", "--", "sh", "-c", &script]].concat();
    assert_eq!(world.ok(args), "67108864\n50\n50000 100000\n0::/\n");
    assert!(!has_group("limited"), "nothing is left");
}

#[test]
fn too_much_memory_ends_the_program() {
    let Some(world) = world() else { return };
    let output = world.output(["run", "--memory", "24m", "--", "sh", "-c", "head -c 200m /dev/zero | tail > /dev/null; exit 9"]);
    // The shell lives on and tells of its child, or is the one that is killed.
    assert!([Some(137), Some(9)].contains(&output.status.code()), "{output:?}");
    let alone = world.output(["run", "--memory", "24m", "--", "tail", "/dev/zero"]);
    assert_eq!(alone.status.code(), Some(137), "{alone:?}");
}

#[test]
fn device_rules_are_a_program_of_the_group() {
    let Some(world) = world() else { return };
    // With CAP_MKNOD nodes can be made, but the rules let none be opened that wasn't given.
    let script = "mknod /dev/mem2 c 1 1 && ! head -c 1 /dev/mem2 2>/dev/null && head -c 1 /dev/zero | wc -c && head -c 1 /dev/given | wc -c";
    let args = ["run", "--cap-add", "MKNOD", "--device", "/dev/zero:/dev/given:r", "--", "sh", "-c", script];
    assert_eq!(world.ok(args), "1\n1\n");
    let write = ["run", "--device", "/dev/urandom:/dev/given:r", "--", "sh", "-c", "echo x > /dev/given"];
    assert!(world.output(write).status.success(), "a device that every container may use can't be narrowed");
    let kmsg = ["run", "--device", "/dev/kmsg:/dev/given:r", "--", "sh", "-c", "echo x > /dev/given"];
    assert!(!world.output(kmsg).status.success(), "only reading was given");
}

#[test]
fn a_container_can_be_paused_changed_and_removed() {
    let Some(world) = world() else { return };
    let dir = world.directory("shared");
    let volume = format!("{}:/shared", dir.display());
    let script = "i=0; while :; do i=$((i+1)); echo $i > /shared/beat; sleep 0.05; done";
    world.ok(["run", "-d", "--name", "beating", "--volume", &volume, "--memory", "64m", "--", "sh", "-c", script]);
    let beat = || std::fs::read_to_string(dir.join("beat")).unwrap_or_default();
    support::eventually("it beats", || beat().trim().parse::<u32>().is_ok());

    world.ok(["pause", "beating"]);
    assert!(world.ok(["state", "beating"]).contains("\"paused\""));
    let at_pause = beat();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(beat(), at_pause, "nothing runs while it is paused");
    world.ok(["resume", "beating"]);
    support::eventually("it beats on", || beat() != at_pause);

    world.ok(["update", "--memory", "128m", "--pids-limit", "40", "beating"]);
    let group = world.ok(["exec", "beating", "cat", "/proc/self/cgroup"]);
    assert_eq!(group, "0::/\n", "an added process is in the group");
    assert!(world.ok(["ps", "--format", "json", "beating"]).contains(','), "the reaper and the program at least");

    assert!(has_group("beating"));
    world.ok(["delete", "--force", "beating"]);
    assert!(!has_group("beating"), "nothing is left");
}

/// A group that root has given to the plain user, and removes.
struct Delegated(PathBuf);

impl Delegated {
    fn new() -> Delegated {
        let top = PathBuf::from(format!("/sys/fs/cgroup/delegated{}", std::process::id()));
        std::fs::create_dir_all(top.join("session")).unwrap();
        for dir in [Path::new("/sys/fs/cgroup"), &top] {
            std::fs::write(dir.join("cgroup.subtree_control"), "+memory +pids +cpu").unwrap();
        }
        for name in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "session", "session/cgroup.procs"] {
            std::os::unix::fs::chown(top.join(name), Some(USER), Some(USER)).unwrap();
        }
        Delegated(top)
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(self.0.join("session"));
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_plain_user_sets_limits_in_a_delegated_group() {
    let (Some(_), Some(mut plain)) = (world(), Plain::new()) else { return };
    let refused = plain.fails(125, &["run", "--memory", "64m", "--", "true"]);
    assert!(refused.contains("limits of memory") && refused.contains("Delegate=yes"), "{refused}");
    assert_eq!(plain.ok(&["run", "--", "echo", "unlimited"]), "unlimited\n");

    let delegated = Delegated::new();
    plain.first = format!("echo 0 > {}/session/cgroup.procs && ", delegated.0.display());
    let limits = ["--memory", "64m", "--pids-limit", "50", "--cpus", "0.5"];
    plain.ok(&[&["run", "-d", "--name", "limited"], &limits[..], &["--", "sleep", "1000"]].concat());
    let file = |name: &str| support::read(delegated.0.join("insula-limited").join(name)).trim().to_owned();
    assert_eq!(["memory.max", "pids.max", "cpu.max"].map(file), ["67108864", "50", "50000 100000"]);
    plain.ok(&["update", "--pids-limit", "40", "limited"]);
    assert_eq!(file("pids.max"), "40");
    plain.ok(&["pause", "limited"]);
    assert_eq!(file("cgroup.freeze"), "1");
    plain.ok(&["resume", "limited"]);
    assert!(plain.ok(&["events", "--stats", "limited"]).contains("\"limit\":67108864"));
    assert_eq!(plain.ok(&["exec", "limited", "cat", "/proc/self/cgroup"]), "0::/\n");
    plain.ok(&["delete", "--force", "limited"]);
    assert!(!delegated.0.join("insula-limited").exists(), "nothing is left");

    let killed = plain.output(&["run", "--memory", "24m", "--", "tail", "/dev/zero"]);
    assert_eq!(killed.status.code(), Some(137), "{}", support::told(&killed));
    let refused =
        plain.fails(125, &["run", "--memory", "64m", "--pids-limit", "9", "--device", "/dev/zero:/dev/x:r", "--", "true"]);
    assert!(refused.contains("--device"), "{refused}");
}
