//! How the program's code is laid out: what a start touches is together, and the rest isn't mapped. The linker is told by
//! `crates/insula/build.rs`.

mod support;

use std::process::Stdio;
use support::World;

/// The parts of our code that a process of ours has in memory, in the order in which they lie: address, KiB.
fn code(pid: u32) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut ours = None;
    for line in support::read(format!("/proc/{pid}/smaps")).lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [range, rights, _, _, _, path] if range.contains('-') => {
                ours = (rights == "r-xp" && path.ends_with("/insula")).then(|| range.to_owned());
            }
            ["Rss:", size, "kB"] => parts.extend(ours.take().map(|range| (range, size.parse().unwrap()))),
            _ => {}
        }
    }
    parts
}

#[test]
fn a_start_keeps_to_its_own_part_of_the_program() {
    let Some(world) = World::new() else { return };
    let mut child = world.insula(["run", "--name", "small", "--memory", "64m", "--", "sleep", "1000"]);
    let mut child = child.stdin(Stdio::null()).spawn().unwrap();
    support::eventually("it runs", || support::stdout(&world.output(["state", "small"])).contains("\"running\""));
    let parts = code(child.id());
    world.ok(["delete", "--force", "small"]);
    child.wait().unwrap();
    let [starts, others @ ..] = &parts[..] else { panic!("no code of ours is mapped") };
    assert!(!others.is_empty(), "the code is in one piece: {parts:?}");
    // The kernel maps 16 pages around each that is touched, and a test's program isn't optimised: some of it will be.
    let others: u64 = others.iter().map(|(_, size)| size).sum();
    let most = starts.1 / 4;
    assert!(
        others <= most,
        "a start has {others} KiB of code in memory that isn't laid out for starts, and {} KiB that is: look which functions it calls \
         there, and name their crate or module in STARTS (crates/insula/build.rs)",
        starts.1
    );
}
