//! The program as those who drive it see it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};
use workload::launch::{Answer, Request};
use workload::{Check, Line, ROWS};

const PROGRAM: &str = env!("CARGO_BIN_EXE_workload");

fn run(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).output().expect("the program starts")
}

fn lines(output: &Output) -> Vec<Line> {
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

#[test]
fn every_row_gives_one_line_and_a_right_result() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().to_str().expect("a plain path");
    let output = run(&["run", "*", "--seconds", "0.001", "--threads", "2", "--dir", path, "--volume", path]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = lines(&output);
    assert_eq!(
        lines.iter().map(|line| line.row.as_str()).collect::<Vec<_>>(),
        ROWS.iter().map(|row| row.name).collect::<Vec<_>>()
    );
    for line in lines {
        let direct = line.row.ends_with("-direct") && line.check == Check::Unsupported && line.reason.is_some();
        let done = line.check == Check::Ok && line.value.is_some_and(|value| value > 0.0 && value.is_finite());
        assert!(done || direct, "{line:?}");
    }
    assert_eq!(dir.path().read_dir().expect("it can be read").count(), 0, "files are left behind");
}

#[test]
fn a_row_that_can_not_be_done_says_why() {
    let output = run(&["run", "root.files", "volume.seq-read", "--dir", "/no/such/dir"]);
    let lines = lines(&output);
    assert_eq!(lines.iter().map(|line| line.check).collect::<Vec<_>>(), [Check::Failed, Check::Unsupported]);
    assert!(lines.iter().all(|line| line.value.is_none() && line.reason.is_some()));
}

#[test]
fn noop_is_silent_and_wrong_use_is_not() {
    let noop = run(&["noop"]);
    assert!(noop.status.success() && noop.stdout.is_empty() && noop.stderr.is_empty());
    for args in [&["run", "nothing.here"][..], &["dance"], &[]] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
}

#[test]
fn the_launcher_tells_ends_apart() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
    let mut child = Command::new(PROGRAM).arg("launch").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut requests = child.stdin.take().expect("a pipe");
    let mut answers = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut request = |argv: &[&str], weigh: bool| {
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        let request = Request { argv, stdout: file("out"), stderr: file("err"), weigh };
        writeln!(requests, "{}", serde_json::to_string(&request).expect("JSON")).expect("it listens");
        let mut line = String::new();
        answers.read_line(&mut line).expect("it answers");
        serde_json::from_str::<Answer>(&line).expect("an answer")
    };
    weighs(|argv| request(argv, true));
    let mut ask = |argv: &[&str]| request(argv, false);
    let code = |answer| match answer {
        Answer::Ended(usage) => Some(usage.code),
        Answer::Error(_) => None,
    };
    assert_eq!(code(ask(&["sh", "-c", "echo said; exit 3"])), Some(3));
    assert_eq!(std::fs::read_to_string(file("out")).expect("output"), "said\n");
    assert_eq!(code(ask(&["sh", "-c", "kill -9 $$"])), Some(137));
    assert_eq!(code(ask(&["/no/such/program"])), None);
    assert_eq!(code(ask(&[])), None);
    let Answer::Ended(usage) = ask(&[PROGRAM, "noop"]) else { panic!("noop does not start") };
    // A big parent would show here: what a child reports begins with its parent's memory.
    assert!(usage.code == 0 && usage.wall_ns > 0 && usage.rss < 16 << 20, "{usage:?}");
    drop(requests);
    assert!(child.wait().expect("it can be waited for").success(), "the launcher ends with its input");
}

/// What a program has resident is counted with its children's, and nobody is left waiting.
fn weighs(mut weigh: impl FnMut(&[&str]) -> Answer) {
    let mut idle = |argv: &[&str]| match weigh(argv) {
        Answer::Ended(usage) if usage.code == 0 => usage.idle.expect("it was weighed"),
        other => panic!("{other:?}"),
    };
    let one = idle(&[PROGRAM, "idle"]);
    assert!((64 << 10..16 << 20).contains(&one), "{one} bytes");
    // The inner shell's parent ends before it is weighed, and only the launcher is left above it.
    let two = idle(&["sh", "-c", "(sh -c 'x=$(head -c 8000000 /dev/zero | tr \\\\0 x); echo idle; cat' 0<&3 &) 3<&0; cat"]);
    assert!(two > 8_000_000, "{two} bytes");
    assert!(matches!(weigh(&["true"]), Answer::Error(reason) if reason.contains("ended")), "what has ended weighs nothing");
}
