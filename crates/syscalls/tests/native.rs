//! The suite on this host's Linux, which is the oracle: what fails here is a wrong test.

use std::os::unix::fs::MetadataExt;
use std::process::{Command, Output};

/// What the suite promises at least. Without root, a part of it is skipped.
const ASSERTIONS: u64 = 2000;
const CALLS: u64 = 280;

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// The number before a unit: "7 calls" has 7 before " calls".
fn number_before(line: &str, unit: &str) -> u64 {
    let number = line.split(unit).next().and_then(|text| text.rsplit(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no number before '{unit}' in '{line}'"))
}

fn run(args: &[&str]) -> Output {
    let scratch = env!("CARGO_TARGET_TMPDIR");
    Command::new(env!("CARGO_BIN_EXE_insula-syscalls")).args(args).env("TMPDIR", scratch).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn linux_passes_whole() {
    let output = run(&["run", "--jobs", "4"]);
    let lines = text(&output.stdout);
    let odd: Vec<&str> = lines.lines().filter(|line| !line.starts_with("ok ") && !line.starts_with("skip ")).collect();
    assert!(output.status.success(), "{}\n{}", odd.join("\n"), text(&output.stderr));
    let summary = odd.last().copied().unwrap_or_default();
    assert!(summary.contains(" 0 failed, "), "{odd:?}");
    let counted = |unit: &str| number_before(summary, unit);
    if is_root() {
        assert!(counted(" assertions") >= ASSERTIONS, "{summary}");
        assert!(counted(" calls") >= CALLS, "{summary}");
    }
    assert_eq!(text(&output.stderr), "", "nothing is left behind");
}

#[test]
fn a_filter_chooses_and_json_says_the_same() {
    let listed = text(&run(&["list"]).stdout);
    let memory: Vec<&str> = listed.lines().filter(|name| name.starts_with("memory.")).collect();
    let output = run(&["run", "memory.", "--format", "json"]);
    let lines = text(&output.stdout);
    for (name, line) in memory.iter().zip(lines.lines()) {
        assert!(line.starts_with(&format!("{{\"test\":\"{name}\",\"outcome\":\"ok\",\"assertions\":")), "{line}");
    }
    assert_eq!(lines.lines().count(), memory.len() + 1);
}

#[test]
fn what_can_not_be_done_is_said() {
    for (args, words) in [
        (&["run", "no.such.test"][..], "no test's name contains no.such.test"),
        (&["run", "--jobs", "none"], "--jobs is a number from 1 on, not 'none'"),
        (&["run", "--format", "xml"], "--format is text or json, not 'xml'"),
        (&["run", "--fast"], "'--fast' is not an option of run"),
        (&["walk"], "'walk' is not a command"),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(words), "{args:?}: {}", text(&output.stderr));
    }
}
