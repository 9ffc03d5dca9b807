//! A network, and mounts, that are a test's own: what it makes of links, rules and settings goes with its thread, and the machine is untouched.

#![allow(dead_code, reason = "each test uses a part of this")]

use super::support::{PATIENCE, output, stdout, told};
use insula_sys::process::{Spaces, unshare};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Puts this thread, and all that it starts, into a network namespace of its own, with the address 192.0.2.1 and 2001:db8::1, and into a mount
/// namespace. None for who isn't root, or where a program is missing.
pub(crate) fn enter() -> Option<()> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: this test makes networks, which needs root");
        return None;
    }
    for (program, package) in [("nft", "nftables"), ("ip", "iproute2"), ("perl", "perl")] {
        if Command::new(program).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            eprintln!("skipped: {program} isn't here (package {package})");
            return None;
        }
    }
    unshare(Spaces::NET | Spaces::MNT).unwrap();
    must("mount --make-rprivate /");
    must("ip link set lo up; ip addr add 192.0.2.1/32 dev lo; ip -6 addr add 2001:db8::1/128 dev lo nodad");
    Some(())
}

/// A command of a shell, which must end well; what it wrote.
#[track_caller]
pub(crate) fn must(command: &str) -> String {
    let done = output(Command::new("sh").args(["-euc", command]));
    assert!(done.status.success(), "{command}: {}", told(&done));
    stdout(&done).to_owned()
}

/// What there is of links, addresses, routes and rules. (Link-local addresses take a moment to be there; a host that forwards packets, which
/// stays, has addresses that all routers have.)
pub(crate) fn inventory() -> Vec<String> {
    let text = must(
        "ip -o link show | sed 's/ <.*//; s/@.*//'; ip -o addr show | sed 's/ *valid_lft.*//'
        ip route show table all; ip -6 route show table all; nft list ruleset",
    );
    let left_out = ["fe80:", "ff00:", "anycast "];
    text.lines().filter(|line| !left_out.iter().any(|word| line.contains(word))).map(str::to_owned).collect()
}

/// Waits until there is as much of it as before.
#[track_caller]
pub(crate) fn assert_as(before: &[String], after: &str) {
    let deadline = Instant::now() + PATIENCE / 10;
    loop {
        let now = inventory();
        if now == before {
            return;
        }
        assert!(Instant::now() < deadline, "after {after}:\n{}\n\nbefore:\n{}", now.join("\n"), before.join("\n"));
        std::thread::sleep(Duration::from_millis(20));
    }
}
