//! The command line itself: help, mistakes, forms of output, completions and manual pages.

mod support;

use serde_json::Value;
use std::process::{Command, Output, Stdio};
use support::{World, output, read, stderr, stdout, told};

const VERBS: [&str; 24] = [
    "run",
    "exec",
    "list",
    "ps",
    "logs",
    "diff",
    "doctor",
    "bench",
    "kernel",
    "vm",
    "create",
    "start",
    "state",
    "kill",
    "delete",
    "pause",
    "resume",
    "update",
    "events",
    "spec",
    "features",
    "debug",
    "completion",
    "man",
];

fn insula(args: &[&str]) -> Output {
    output(Command::new(env!("CARGO_BIN_EXE_insula")).args(args).stdin(Stdio::null()))
}

#[test]
fn every_verb_explains_itself() {
    for verb in VERBS {
        let help = insula(&[verb, "--help"]);
        assert!(help.status.success() && stderr(&help).is_empty(), "{verb}: {}", told(&help));
        let text = stdout(&help);
        assert!(text.contains(&format!("Usage: insula {verb}")), "{verb}: {text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{verb}: a line is longer than 100 columns");
        assert_eq!(stdout(&insula(&["help", verb])).lines().next(), text.lines().next(), "{verb}");
        assert!(insula(&[verb, "-h"]).status.success(), "{verb}");
    }
    for verb in ["run", "exec", "ps", "diff", "doctor", "bench", "kernel", "create", "kill", "update", "spec", "completion"] {
        let text = insula(&[verb, "--help"]);
        assert!(stdout(&text).contains(&format!("insula {verb} ")) && stdout(&text).contains("Example"), "{verb}");
    }
    let help = insula(&["--help"]);
    assert!(stdout(&help).starts_with("Run a workload behind an isolation boundary"), "{}", told(&help));
    for verb in VERBS.iter().filter(|verb| **verb != "man") {
        assert!(stdout(&help).contains(&format!("\n  {verb} ")), "{verb}");
    }
    // The examples are ones that are understood.
    assert!(stdout(&help).contains("insula run -- make test"));
    assert_eq!(stdout(&insula(&["-V"])), concat!("insula ", env!("CARGO_PKG_VERSION"), "\n"));
    // As engines read it.
    let version = insula(&["--version"]);
    let features: serde_json::Value = serde_json::from_str(stdout(&insula(&["features"]))).unwrap();
    let spec = features["ociVersionMax"].as_str().unwrap();
    assert_eq!(stdout(&version), format!(concat!("insula version ", env!("CARGO_PKG_VERSION"), "\nspec: {}\n"), spec));
}

#[test]
fn a_mistake_is_told_in_one_line() {
    for (args, words) in [
        (&["run", "--bogus", "--", "ls"][..], &["'--bogus'", "insula run --help"][..]),
        (&["run", "--memry", "1g", "--", "ls"], &["'--memry'", "'--memory'"]),
        (&["runn"], &["'runn'", "'run'", "insula --help"]),
        (&["nonsense"], &["'nonsense'", "insula --help"]),
        (&["kill"], &["<ID>", "insula kill --help"]),
        (&["exec", "--bogus", "web", "ls"], &["'--bogus'", "insula exec --help"]),
        (&["list", "--format", "xml"], &["'xml'", "table, json", "insula list --help"]),
        (&["run", "--memory"], &["--memory", "insula run --help"]),
        (&["run", "--rootfs", "a", "--keep", "b", "--", "ls"], &["--rootfs", "--keep"]),
        (&["run", "--isolation", "wishful", "--", "ls"], &["'wishful'", "container"]),
        (&["run", "--isolation", "microvm", "--", "ls"], &["not in this version yet", "insula doctor"]),
        (&["update", "--pids-limit", "many", "web"], &["'many'", "--pids-limit"]),
        (&["completion", "sash"], &["'sash'", "bash"]),
        (&["--bogus", "list"], &["'--bogus'"]),
        (&["run", "\u{1b}[2J--x", "--bogus\u{1b}[2J"], &[]),
    ] {
        let run = insula(args);
        if words.is_empty() {
            // Words that come back to a terminal do nothing there.
            assert!(!stderr(&run).contains('\u{1b}'), "{}", told(&run));
            continue;
        }
        assert_eq!(run.status.code(), Some(2), "{args:?}: {}", told(&run));
        let text = stderr(&run);
        assert_eq!((text.lines().count(), stdout(&run)), (1, ""), "{args:?}: {}", told(&run));
        assert!(text.starts_with("insula: ") && words.iter().all(|word| text.contains(word)), "{args:?}: {text}");
    }
    let nothing = insula(&[]);
    assert!(nothing.status.code() == Some(2) && stderr(&nothing).contains("Usage: insula"), "{}", told(&nothing));
}

#[test]
fn errors_say_what_and_where_and_what_to_do() {
    let Some(world) = World::new() else { return };
    for (args, words) in [
        (&["state", "nothing"][..], &["nothing", "does not exist", "insula list"][..]),
        (&["logs", "nothing"], &["nothing", "does not exist"]),
        (&["state", "a/b"], &["\"a/b\"", "letters"]),
        (&["kill", "x", "NONSENSE"], &["NONSENSE", "TERM"]),
        (&["create", "--bundle", "/none/such", "x"], &["/none/such", "No such file or directory"]),
        (&["--systemd-cgroup", "vm", "ps"], &["--systemd-cgroup", "virtual machine"]),
        (&["update", "x"], &["insula update --memory"]),
    ] {
        let error = world.fails(1, args);
        assert!(words.iter().all(|word| error.contains(word)) && !error.contains("os error"), "{args:?}: {error}");
    }
    let empty = world.directory("empty");
    let error = world.fails(1, ["create", "--bundle", empty.to_str().unwrap(), "x"]);
    assert!(error.contains("config.json") && error.contains("insula spec"), "{error}");
    // A store that can't be made.
    let file = world.file("file", "");
    let mut command = Command::new(env!("CARGO_BIN_EXE_insula"));
    let run = output(command.args(["--root", file.to_str().unwrap(), "run", "--", "true"]));
    assert_eq!(run.status.code(), Some(125), "{}", told(&run));
    assert!(stderr(&run).contains(file.to_str().unwrap()) && stderr(&run).lines().count() == 1, "{}", told(&run));
}

#[test]
fn output_for_programs_is_json() {
    let Some(world) = World::new() else { return };
    let parse =
        |args: &[&str]| -> Value { serde_json::from_str(&world.ok(args)).unwrap_or_else(|error| panic!("{args:?}: {error}")) };
    assert_eq!(parse(&["list", "--format", "json"]), serde_json::json!([]));
    assert_eq!(world.ok(["list"]), "ID  PID  STATUS  BUNDLE  CREATED  OWNER\n");
    assert_eq!(world.ok(["ls", "-q"]), "");
    world.ok(["run", "-d", "--name", "web", "--", "sleep", "1000"]);
    let list = parse(&["list", "-f", "json"]);
    assert_eq!(
        (&list[0]["id"], &list[0]["status"], &list[0]["boundary"]),
        (&"web".into(), &"running".into(), &"container".into())
    );
    assert_eq!(parse(&["state", "web"])["status"], "running");
    assert_eq!(parse(&["ps", "--format", "json", "web"]).as_array().unwrap().len(), 2);
    assert!(parse(&["features"])["linux"]["namespaces"].is_array());
    assert!(world.ok(["ps", "web", "-ef"]).contains("sleep 1000"));
    assert!(world.ok(["ps", "web", "-f", "-A"]).contains("sleep 1000"), "-f is ps's after the name");
    assert!(world.ok(["ps", "web", "-o", "pid,args"]).contains("sleep 1000"));
    let error = world.fails(1, ["ps", "web", "-o", "args"]);
    assert!(error.contains("PID"), "{error}");
}

#[test]
fn a_broken_record_hides_no_other() {
    let Some(world) = World::new() else { return };
    world.ok(["run", "-d", "--name", "web", "--", "sleep", "1000"]);
    std::fs::write(world.path("store/broken"), "{\n").unwrap();
    let run = world.output(["list", "--quiet"]);
    assert_eq!((stdout(&run), run.status.code()), ("web\n", Some(1)));
    assert!(told(&run).contains("store/broken"), "{}", told(&run));
    std::fs::remove_file(world.path("store/broken")).unwrap();
}

#[test]
fn a_reader_that_has_enough_ends_it_quietly() {
    let Some(world) = World::new() else { return };
    world.ok(["run", "-d", "--name", "web", "--", "sh", "-c", "seq 100000; exec sleep 1000"]);
    for verb in ["features", "completion bash", "state web", "list", "logs web", "ps web", "--help", "run --help"] {
        let line = format!("{} --root store {verb} | true; echo ${{PIPESTATUS[0]}}", env!("CARGO_BIN_EXE_insula"));
        let run = output(Command::new("bash").args(["-c", &line]).current_dir(world.path("")));
        assert!(["0\n", "141\n"].contains(&stdout(&run)) && stderr(&run).is_empty(), "{verb}: {}", told(&run));
    }
    // Nor does it matter when nobody can be told.
    for verb in ["state nothing", "--bogus", "run -- no-such-program"] {
        let line = format!("{} --root store {verb} 2> /dev/full", env!("CARGO_BIN_EXE_insula"));
        let run = output(Command::new("sh").args(["-c", &line]).current_dir(world.path("")));
        assert!([Some(1), Some(2), Some(127)].contains(&run.status.code()), "{verb}: {}", told(&run));
    }
    for verb in ["features", "completion zsh", "state web", "list -q", "ps web"] {
        let line = format!("{} --root store {verb} > /dev/full", env!("CARGO_BIN_EXE_insula"));
        let run = output(Command::new("sh").args(["-c", &line]).current_dir(world.path("")));
        assert_eq!(
            (run.status.code(), stderr(&run)),
            (Some(1), "insula: can't write the output: No space left on device\n"),
            "{verb}"
        );
    }
}

#[test]
fn shells_complete_the_words() {
    for (shell, check) in [("bash", &["bash", "-n"][..]), ("zsh", &["zsh", "-n"]), ("fish", &["fish", "--no-execute"])] {
        let script = insula(&["completion", shell]);
        assert!(script.status.success(), "{}", told(&script));
        for word in ["run", "cap-add", "pids-limit", "doctor"] {
            assert!(stdout(&script).contains(word), "{shell}: {word}");
        }
        // Only where the shell is there to judge.
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &script.stdout).unwrap();
        if let Ok(judged) = Command::new(check[0]).args(&check[1..]).arg(file.path()).output() {
            assert!(judged.status.success(), "{shell}: {}", told(&judged));
        }
    }
    let line = "source /dev/stdin; COMP_WORDS=(insula run --pids); COMP_CWORD=2; _insula insula --pids run; echo ${COMPREPLY[@]}";
    let script = insula(&["completion", "bash"]).stdout;
    let mut child = Command::new("bash").args(["-c", line]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &script).unwrap();
    assert_eq!(stdout(&support::finish(child)).trim(), "--pids-limit");
}

#[test]
fn manual_pages_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    assert!(insula(&["man", pages.to_str().unwrap()]).status.success());
    for page in ["insula.1", "insula-run.1", "insula-exec.1", "insula-update.1", "insula-doctor.1"] {
        let text = read(pages.join(page));
        assert!(text.contains(".TH insula") && text.contains(".SH SYNOPSIS"), "{page}: {text}");
    }
    assert!(read(pages.join("insula-run.1")).contains("memory"));
    let error = insula(&["man", "/proc/none"]);
    assert!(error.status.code() == Some(1) && stderr(&error).contains("/proc/none"), "{}", told(&error));
}
