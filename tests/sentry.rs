//! `--isolation sentry` as a user meets it: programs run, and what a container gives them (volumes, limits of what they see, a record) is there.

mod support;

use std::process::Stdio;
use support::bundle::Bundle;
use support::{World, ended, eventually, output, read, stderr, stdout, told};

/// A script behind the sentry with these options; what it wrote.
#[track_caller]
fn script(world: &World, options: &[&str], script: &str) -> String {
    world.ok(["--isolation", "sentry", "run"].iter().chain(options).chain(&["--", "sh", "-c", script]))
}

#[test]
fn a_kernel_of_ours_answers() {
    let Some(world) = World::new() else { return };
    assert!(script(&world, &[], "uname -a").contains("Insula"));
    assert_eq!(script(&world, &["--name", "island"], "hostname"), "island\n");
    // Nobody is there but the program.
    assert_eq!(script(&world, &[], "echo $$; set -- /proc/[0-9]*; echo $#"), "1\n1\n");
    assert_eq!(script(&world, &[], "echo one | cat; (exit 3) || echo $?; x=$(echo two); echo $x"), "one\n3\ntwo\n");
}

#[test]
fn ends_are_told_as_a_shell_tells_them() {
    let Some(world) = World::new() else { return };
    let code = |words: &[&str]| {
        let run = world.output(["--isolation", "sentry", "run", "--"].iter().chain(words));
        run.status.code().unwrap_or_else(|| panic!("{}", told(&run)))
    };
    assert_eq!(code(&["sh", "-c", "exit 42"]), 42);
    assert_eq!(code(&["nosuch-program"]), 127);
    assert_eq!(code(&["/etc/passwd"]), 126);
    assert_eq!(code(&["sh", "-c", "sh -c 'kill -9 $$'; exit $?"]), 137);
    // A command is no init: signals end it.
    assert_eq!(code(&["sh", "-c", "kill -TERM $$"]), 143);
}

#[test]
fn what_is_written_is_thrown_away_or_kept() {
    let Some(world) = World::new() else { return };
    let kept = world.path("kept");
    let made = world.path("made");
    script(&world, &[], "echo x > made; cat made");
    assert!(!made.exists());
    world.ok(["--isolation", "sentry", "run", "--keep", kept.to_str().unwrap(), "--", "sh", "-c", "echo x > made"]);
    assert!(world.ok(["diff", kept.to_str().unwrap()]).contains("made"));
}

#[test]
fn a_volume_is_the_hosts() {
    let Some(world) = World::new() else { return };
    let shared = world.directory("shared");
    std::fs::write(shared.join("from-host"), "hello").unwrap();
    let volume = format!("{}:/mnt", shared.display());
    let seen =
        script(&world, &["-v", &volume], "cat /mnt/from-host; echo written > /mnt/from-guest; mv /mnt/from-guest /mnt/moved");
    assert_eq!(seen, "hello");
    assert_eq!(read(shared.join("moved")), "written\n");
    let read_only = format!("{}:/mnt:ro", shared.display());
    let refused = script(&world, &["-v", &read_only], "echo x > /mnt/moved; cat /mnt/moved");
    assert_eq!(refused, "written\n");
    assert_eq!(read(shared.join("moved")), "written\n");
}

#[test]
fn a_volume_can_lie_in_dev() {
    let Some(world) = World::new() else { return };
    let shared = world.directory("shared");
    std::fs::write(shared.join("file"), "in dev\n").unwrap();
    let (directory, file) =
        (format!("{}:/dev/deep/mine", shared.display()), format!("{}:/dev/one", shared.join("file").display()));
    let seen = script(&world, &["-v", &directory, "-v", &file], "cat /dev/deep/mine/file /dev/one; echo x > /dev/deep/mine/new");
    assert_eq!(seen, "in dev\nin dev\n");
    assert_eq!(read(shared.join("new")), "x\n");
}

#[test]
fn input_comes_in_and_output_goes_on() {
    let Some(world) = World::new() else { return };
    let mut command = world.insula(["--isolation", "sentry", "run", "--", "sh", "-c", "read line; echo got $line; wc -c"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"first\nrest of it\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(stdout(&output), "got first\n11\n", "{}", told(&output));
}

#[test]
fn more_processes_join() {
    let Some(world) = World::new() else { return };
    world.hands_off([
        "--isolation",
        "sentry",
        "run",
        "-d",
        "--name",
        "s",
        "--",
        "sh",
        "-c",
        "echo here > /tmp/place; sleep 1000",
    ]);
    world.until("s", "running");
    eventually("the first process has written", || world.output(["exec", "s", "cat", "/tmp/place"]).stdout == b"here\n");
    assert_eq!(world.output(["exec", "s", "sh", "-c", "exit 9"]).status.code(), Some(9));
    assert_eq!(world.fails(127, ["exec", "s", "nosuch-program"]).lines().count(), 1);
    assert_eq!(world.ok(["exec", "-u", "nobody", "s", "id", "-un"]), "nobody\n");
    // One that was started by exec sees the others.
    assert!(world.ok(["exec", "s", "cat", "/proc/1/cmdline"]).contains("sleep"));
    // With options of ps(1), as far as the kernel inside can tell.
    let usual = world.ok(["ps", "s"]);
    assert!(usual.starts_with("UID") && usual.contains("sleep 1000"), "{usual}");
    assert_eq!(world.ok(["ps", "s", "-ef"]).lines().count(), usual.lines().count());
    assert_eq!(world.ok(["ps", "s", "-o", "pid,comm"]).lines().take(2).collect::<Vec<_>>(), ["    PID COMMAND", "      1 sh"]);
    assert!(world.fails(1, ["ps", "s", "-o", "pid,nonsense"]).contains("no column nonsense"));
    for other in ["-Z", "-l", "-eF"] {
        assert!(world.fails(1, ["ps", "s", other]).contains(other));
    }
    world.ok(["delete", "--force", "s"]);
}

#[test]
fn nothing_is_left_when_the_caller_is_killed() {
    let Some(world) = World::new() else { return };
    let mut caller = world.insula(["--isolation", "sentry", "run", "--name", "k", "--", "sleep", "1000"]).spawn().unwrap();
    eventually("it runs", || world.output(["state", "k"]).status.success() && world.state("k")["status"] == "running");
    let pid = world.state("k")["pid"].as_i64().unwrap();
    caller.kill().unwrap();
    ended(&mut caller);
    eventually("the sandbox is gone", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
    world.ok(["delete", "--force", "k"]);
    let list = output(&mut world.insula(["list", "--quiet"]));
    assert_eq!(stdout(&list), "", "{}", told(&list));
}

#[test]
fn a_bundles_policy_judges_its_program_and_those_that_join() {
    let Some(world) = World::new() else { return };
    let refuse = "mkdir /tmp/no || echo refused";
    let bundle = Bundle::script(&world, "bundle", &format!("{refuse}; exec sleep 1000")).with(|config| {
        config["linux"]["seccomp"] = serde_json::json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}],
        });
    });
    world.hands_off(["--isolation", "sentry", "run", "-d", "--bundle", bundle.dir(), "judged"]);
    eventually("its program was refused", || world.ok(["logs", "judged"]).contains("refused"));
    let joined = world.output(["exec", "judged", "sh", "-c", refuse]);
    assert!(stderr(&joined).contains("assign requested address") && stdout(&joined) == "refused\n", "{}", told(&joined));
    world.ok(["delete", "--force", "judged"]);
    // Who would be asked by a filter isn't there.
    let asked = bundle.with(|config| config["linux"]["seccomp"]["listenerPath"] = "/nowhere".into());
    let refused = world.fails(125, ["--isolation", "sentry", "run", "--bundle", asked.dir(), "asked"]);
    assert!(refused.contains("linux.seccomp.listenerPath"), "{refused}");
}

#[test]
fn only_it_tells_of_calls() {
    let Some(world) = World::new() else { return };
    let refused = world.fails(125, ["run", "--strace", "--", "true"]);
    assert!(refused.contains("--isolation sentry"), "{refused}");
}

#[test]
fn the_clock_is_read_without_a_call() {
    let Some(world) = World::new() else { return };
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let before = now();
    let output = world.output(["--isolation", "sentry", "--strace", "run", "--", "date", "+%s"]);
    let (told, calls) = (stdout(&output), stderr(&output));
    let time: u64 = told.trim().parse().unwrap_or_else(|_| panic!("{told}{calls}"));
    assert!((before..=now()).contains(&time), "{before} {time}");
    assert!(calls.contains("execve") || calls.contains("write"), "no calls are told: {calls}");
    assert!(!calls.contains("clock_gettime"), "{calls}");
}

#[test]
fn calls_that_are_made_often_are_replaced() {
    let Some(world) = World::new() else { return };
    let program = "import os\nparent = os.getppid()\nassert all(os.getppid() == parent for _ in range(10000))\n\
                   print([line for line in open('/proc/self/maps') if '[traps]' in line], flush=True)\nown = os.getpid()\n\
                   if os.fork() == 0:\n    assert all(os.getppid() == own for _ in range(1000))\n    os._exit(7)\n\
                   print(os.waitstatus_to_exitcode(os.wait()[1]))";
    let run = |options: &[&str]| {
        let output =
            world.output(["--isolation", "sentry"].iter().chain(options).chain(&["run", "--", "python3", "-c", program]));
        assert!(output.status.success(), "{}", told(&output));
        stdout(&output).to_owned()
    };
    let seen = run(&[]);
    assert!(seen.contains(" r-xs 00000000 00:00 0") && seen.ends_with("]\n7\n"), "{seen}");
    // Calls that are told of are all made here.
    assert_eq!(run(&["--strace"]), "[]\n7\n");
}

#[test]
fn tasks_that_compete_are_moved_apart() {
    let Some(world) = World::new() else { return };
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        eprintln!("skipped: one processor");
        return;
    }
    let busy = "while :; do :; done";
    let mut caller =
        world.insula(["--isolation", "sentry", "run", "--name", "two", "--", "sh", "-c", &format!("{busy} & {busy}")]);
    let mut caller = caller.spawn().unwrap();
    let field =
        |status: &str, name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").trim().to_owned();
    eventually("they run on two processors", || {
        let statuses: Vec<String> = std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| std::fs::read_to_string(entry.path().join("status")).ok())
            .collect();
        // The sentry is the caller's child, and stubs that run are its.
        let children = |parent: &str| statuses.iter().filter(|status| field(status, "PPid:") == parent).collect::<Vec<_>>();
        let stubs = children(&caller.id().to_string()).into_iter().flat_map(|sentry| children(&field(sentry, "Pid:")));
        let running = stubs.filter(|status| field(status, "Name:") == "insula-stub" && field(status, "State:").starts_with('R'));
        running.map(|status| field(status, "Cpus_allowed_list:")).collect::<std::collections::BTreeSet<_>>().len() > 1
    });
    world.ok(["delete", "--force", "two"]);
    caller.wait().unwrap();
}
