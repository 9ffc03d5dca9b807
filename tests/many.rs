//! Two hundred containers, four at a time: none fails, and the host has no more of anything than before.

mod support;
#[path = "support/traces.rs"]
mod traces;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::bundle::Bundle;
use support::{World, eventually, read, told};
use traces::{assert_none, id, run};

const CONTAINERS: usize = 200;
const AT_A_TIME: usize = 4;

/// The host's network links, by name.
fn links() -> BTreeSet<String> {
    let text = read("/proc/net/dev");
    text.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}

/// What lies in the store of who names none.
fn default_store() -> BTreeSet<String> {
    let entries = std::fs::read_dir("/run/insula").into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The namespaces that this process's descendants and whoever carries the world's name are in; a container's are there while one
/// of its processes is, or while something of ours holds them open.
fn namespaces(world: &World) -> BTreeSet<String> {
    let dir = world.path("").to_string_lossy().trim_end_matches('/').to_owned();
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let own = entry.path().ends_with(std::process::id().to_string());
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let ours = String::from_utf8_lossy(&words).contains(&dir) || read(entry.path().join("mountinfo")).contains(&dir);
        if !(own || ours) {
            continue;
        }
        for link in std::fs::read_dir(entry.path().join("ns")).into_iter().flatten().flatten() {
            found.extend(std::fs::read_link(link.path()).map(|name| name.to_string_lossy().into_owned()));
        }
    }
    found
}

/// Where nothing but mounts of the container's own namespace are made, the host's list stays the same to the letter.
fn mounts_of(dir: &Path) -> Vec<String> {
    let dir = dir.to_string_lossy().into_owned();
    read("/proc/self/mountinfo").lines().filter(|line| line.contains(&dir)).map(str::to_owned).collect()
}

#[test]
fn two_hundred_containers_four_at_a_time() {
    let Some(world) = World::new() else { return };
    let limits = |config: &mut serde_json::Value| {
        config["linux"]["resources"] = serde_json::json!({"pids": {"limit": 50}, "memory": {"limit": 256 << 20}});
    };
    let plain = Bundle::new(&world, "plain", &["true"]);
    let limited = Bundle::script(&world, "limited", "exit 0").with(limits);
    let waiting = Bundle::new(&world, "waiting", &["sleep", "1000"]).with(limits);
    let before = (links(), default_store(), namespaces(&world), mounts_of(&world.path("")));
    let next = AtomicUsize::new(0);
    let ok = |args: &[&str]| {
        let done = run(&world, args);
        assert!(done.status.success(), "{args:?}: {}", told(&done));
    };
    let one = |number: usize| {
        let id = id(&world, &format!("many{number}"));
        match number % 10 {
            // One more process while it runs, in a container of each way to make one.
            0 => {
                ok(&["create", "--bundle", waiting.dir(), &id]);
                ok(&["start", &id]);
                ok(&["exec", &id, "true"]);
                ok(&["delete", "--force", &id]);
            }
            5 => {
                ok(&["run", "--detach", "--rm", "--name", &id, "--", "sleep", "1000"]);
                ok(&["exec", &id, "true"]);
                ok(&["kill", &id, "KILL"]);
                ok(&["delete", "--force", &id]);
            }
            1 | 6 => ok(&["run", "--rm", "--name", &id, "--memory", "256m", "--pids-limit", "50", "--", "true"]),
            2 | 7 => ok(&["run", "--rm", "--bundle", plain.dir(), &id]),
            _ => ok(&["run", "--rm", "--bundle", limited.dir(), &id]),
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= CONTAINERS {
                        return;
                    }
                    one(number);
                }
            });
        }
    });
    assert_none(&world, format_args!("{CONTAINERS} containers"));
    // Of the host's own lists, others may change something at the same time.
    eventually("the links, the default store, the namespaces and the mounts are as before", || {
        let now = (links(), default_store(), namespaces(&world), mounts_of(&world.path("")));
        now.0.is_subset(&before.0) && !now.1.iter().any(|name| name.contains("many")) && now.2 == before.2 && now.3 == before.3
    });
}
