//! The suite of system-call tests behind the boundary sentry: the same results as on the host's Linux, but for the differences that are
//! known by name.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::{World, output, read, stdout, told};

/// Tests that come out otherwise, each under the line that says why.
const DIFFERENCES: &str = include_str!("support/sentry_differences.txt");

/// How long a test may take, in seconds: one that hangs must not use up our patience with its family.
const TIMEOUT: &str = "60";

/// What became of each test, by its full name.
type Outcomes = BTreeMap<String, String>;

/// The suite's program: beside ours, made anew if it isn't of this source.
fn suite() -> PathBuf {
    let ours = Path::new(env!("CARGO_BIN_EXE_insula"));
    let directory = ours.parent().expect("programs are in a directory");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "insula-syscalls"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let status = cargo.stdin(Stdio::null()).status().expect("cargo starts");
    assert!(status.success(), "building insula-syscalls: {status}");
    directory.join("insula-syscalls")
}

/// The outcomes that a run of the suite tells.
fn outcomes(text: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for line in text.lines() {
        for outcome in ["ok ", "not ok ", "skip "] {
            if let Some(rest) = line.strip_prefix(outcome) {
                let name = rest.split([' ', ':']).next().unwrap_or_default();
                outcomes.insert(name.to_owned(), line.to_owned());
            }
        }
    }
    outcomes
}

/// `ok`, `not` (ok) or `skip`.
fn kind(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

/// Known differences, with why.
fn differences() -> BTreeMap<&'static str, &'static str> {
    let (mut known, mut reason) = (BTreeMap::new(), "");
    for line in DIFFERENCES.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.strip_prefix('#') {
            Some(text) => reason = text.trim(),
            None => {
                assert!(!reason.is_empty(), "{line} is listed without a reason");
                assert!(known.insert(line, reason).is_none(), "{line} is listed twice");
            }
        }
    }
    known
}

/// Runs a family behind the sentry. One that ends it takes the tests that come after along.
fn behind_sentry(world: &World, suite: &Path, family: &str, network: &str) -> Outcomes {
    let filter = format!("{family}.");
    let program = suite.to_str().expect("the path is text");
    // With what the superuser has natively.
    let rights = ["--cap-add", "ALL", "--security-opt", "no-new-privileges=false", "--network", network];
    let asked = ["--", program, "run", &filter, "--timeout", TIMEOUT, "--jobs", "8"];
    let run = world.output(["run", "--isolation", "sentry"].iter().chain(&rights).chain(&asked));
    let mut outcomes = outcomes(&String::from_utf8_lossy(&run.stdout));
    if run.status.code().is_none_or(|code| code > 1) {
        outcomes.insert(format!("{family} as a whole"), told(&run));
    }
    outcomes
}

#[test]
fn programs_see_what_linux_shows_them() {
    let Some(world) = World::new() else { return };
    let suite = suite();
    let native = output(Command::new(&suite).args(["run", "--jobs", "4"]).current_dir(world.path("")).stdin(Stdio::null()));
    let native = outcomes(stdout(&native));
    let mut families: Vec<&str> = native.keys().filter_map(|name| Some(name.split_once('.')?.0)).collect();
    families.dedup();
    let mut inside = Outcomes::new();
    for family in families {
        inside.extend(behind_sentry(&world, &suite, family, "none"));
    }
    let mut known = differences();
    let mut wrong = Vec::new();
    for (name, line) in &native {
        let own = inside.remove(name).unwrap_or_else(|| format!("gone {name}"));
        // Where this host can't do something, the sentry may, or not.
        let same = kind(&own) == "ok" || kind(&own) == kind(line) || kind(line) == "skip" && kind(&own) != "gone";
        match (same, known.remove(name.as_str())) {
            (false, None) => wrong.push(format!("{own}\n    natively: {line}")),
            (true, Some(reason)) if kind(line) == "ok" => {
                wrong.push(format!("{name} comes out as natively: strike it from the differences ({reason})"));
            }
            _ => {}
        }
    }
    wrong.extend(inside.into_iter().map(|(name, line)| format!("{name}: {line}")));
    wrong.extend(known.into_keys().map(|name| format!("{name}: there is no such test")));
    assert!(wrong.is_empty(), "{} unexpected:\n{}", wrong.len(), wrong.join("\n"));
}

/// Sockets of the host's, made by a process of its own, are to be Linux's in all but this.
#[test]
fn sockets_of_the_hosts_are_linuxs() {
    let Some(world) = World::new() else { return };
    let suite = suite();
    // The kernel lists its own in /proc/net.
    let known = ["tcp.listening_shows_in_proc"];
    for family in ["tcp", "ports", "udp", "options", "netlink"] {
        let filter = format!("{family}.");
        let native = output(Command::new(&suite).args(["run", &filter]).current_dir(world.path("")).stdin(Stdio::null()));
        let native = outcomes(stdout(&native));
        let inside = behind_sentry(&world, &suite, family, "host");
        assert!(!native.is_empty());
        for (name, line) in native.iter().filter(|(_, line)| kind(line) == "ok") {
            let own = inside.get(name).map_or("gone", String::as_str);
            assert_eq!(kind(own) == "ok", !known.contains(&name.as_str()), "{own}\n    natively: {line}");
        }
    }
}

#[test]
fn the_documentation_lists_what_is_supported() {
    let made = output(Command::new(env!("CARGO_BIN_EXE_insula")).args(["debug", "syscalls", "--format", "markdown"]));
    assert!(made.status.success(), "{}", told(&made));
    let kept = read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/syscalls.md"));
    assert_eq!(stdout(&made), kept, "docs/syscalls.md is old: write it anew with `insula debug syscalls --format markdown`");
}
