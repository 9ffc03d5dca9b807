//! Many sandboxes on a bridge, eight at a time, and some whose process is killed: afterwards there is no more of anything than before.
//!
//! Normally 60; `INSULA_NETWORK_MANY=500` for the number that is promised.

#[path = "support/island.rs"]
mod island;
mod support;
#[path = "support/traces.rs"]
mod traces;

use island::{assert_as, inventory, must};
use std::sync::atomic::{AtomicUsize, Ordering};
use support::{World, told};
use traces::{assert_none, id, run};

const AT_A_TIME: usize = 8;

fn how_many() -> usize {
    std::env::var("INSULA_NETWORK_MANY").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}

/// Kills the process that stays with a sandbox.
fn kill_owner(world: &World, id: &str) {
    let leases = must(&format!("cat {}/:network/*/leases", world.store().display()));
    let leases: serde_json::Value = serde_json::from_str(&leases).unwrap();
    let lease = leases["leases"].as_array().unwrap().iter().find(|lease| lease["id"] == id).unwrap();
    support::signal("KILL", lease["owner"]["pid"].to_string());
}

#[test]
fn nothing_is_left_of_many() {
    let Some(()) = island::enter() else { return };
    let Some(world) = World::new() else { return };
    let before = inventory();
    let next = AtomicUsize::new(0);
    let ok = |args: &[&str]| {
        let done = run(&world, args);
        assert!(done.status.success(), "{args:?}: {}", told(&done));
    };
    let one = |number: usize| {
        let id = id(&world, &format!("net{number}"));
        let port = format!("{}:80", 10_000 + number);
        let background = ["run", "--detach", "--rm", "--name", &id, "--network", "bridge", "--memory", "256m", "-p", &port];
        match number % 5 {
            // It is killed, and removed: by its name, or by whoever comes next.
            0 | 1 => {
                ok(&[&background[..], &["--", "sleep", "1000"]].concat());
                kill_owner(&world, &id);
                if number.is_multiple_of(10) {
                    ok(&["delete", "--force", &id]);
                }
            }
            2 => {
                ok(&[&background[..], &["--", "sleep", "1000"]].concat());
                ok(&["exec", &id, "getent", "hosts", &id]);
                ok(&["delete", "--force", &id]);
            }
            3 => ok(&["run", "--rm", "--name", &id, "--network", "bridge", "--", "true"]),
            _ => ok(&["run", "--rm", "--name", &id, "--network", "bridge", "-p", &port, "--", "getent", "hosts", &id]),
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= how_many() {
                        return;
                    }
                    one(number);
                }
            });
        }
    });
    // One more start removes what the killed ones have left on the host; their records are removed by name.
    ok(&["run", "--network", "bridge", "--", "true"]);
    assert_as(&before, "all of them, and one more");
    for number in (0..how_many()).filter(|number| matches!(number % 5, 0 | 1) && !number.is_multiple_of(10)) {
        ok(&["delete", "--force", &id(&world, &format!("net{number}"))]);
    }
    assert_none(&world, format_args!("{} sandboxes", how_many()));
    assert_as(&before, "all of them");
}
