//! A program behind `insula run` or `exec` in the foreground: to the shell around it, it is any other command.

mod support;

use rustix::fd::OwnedFd;
use std::io::Write;
use std::process::{Command, Stdio};
use support::pty::Terminal;
use support::{World, ended, eventually, finish, output, read, signal, stderr, stdout, told};

/// A shell line in which `insula` is the program with the world's store.
fn shell(world: &World, line: &str) -> Command {
    let mut command = Command::new("bash");
    let function = format!("insula() {{ {} \"$@\"; }}; ", world.words().join(" "));
    command.arg("-c").arg(function + line).current_dir(world.path("")).stdin(Stdio::null());
    command
}

#[test]
fn the_exit_code_is_the_programs() {
    let Some(world) = World::new() else { return };
    for code in [0, 1, 2, 7, 124, 125, 126, 127, 128, 129, 130, 137, 200, 254, 255] {
        let run = world.output(["run", "--", "sh", "-c", &format!("exit {code}")]);
        assert_eq!((run.status.code(), stderr(&run)), (Some(code), ""), "{}", told(&run));
    }
    for (name, number) in [("HUP", 1), ("KILL", 9), ("SEGV", 11), ("PIPE", 13), ("TERM", 15), ("RTMIN", 34)] {
        let run = world.output(["run", "--", "bash", "-c", &format!("kill -s {name} $$")]);
        assert_eq!((run.status.code(), stderr(&run)), (Some(128 + number), ""), "{}", told(&run));
    }
    // SIGSYS says why.
    let run = world.output(["run", "--", "bash", "-c", "kill -s SYS $$"]);
    assert_eq!(run.status.code(), Some(159), "{}", told(&run));
    assert!(stderr(&run).contains("seccomp"), "{}", told(&run));
    world.ok(["run", "-d", "--name", "web", "--", "sleep", "1000"]);
    for code in [0, 3, 126, 255] {
        assert_eq!(world.output(["exec", "web", "sh", "-c", &format!("exit {code}")]).status.code(), Some(code));
    }
    assert_eq!(world.output(["exec", "web", "sh", "-c", "kill -9 $$"]).status.code(), Some(137));
}

#[test]
fn what_cant_be_run_has_the_codes_of_a_shell() {
    let Some(world) = World::new() else { return };
    let error = world.fails(127, ["run", "--", "no-such-program"]);
    assert!(error.contains("no-such-program") && error.contains("PATH"), "{error}");
    let error = world.fails(127, ["run", "--", "/none/such"]);
    assert!(error.contains("/none/such") && error.contains("no such file"), "{error}");
    for path in ["/etc/passwd", "/usr"] {
        let error = world.fails(126, ["run", "--", path]);
        assert!(error.contains(path), "{error}");
    }
    world.file("nonsense", "\u{1}\u{2}");
    world.file("interpreter", "#!/none/such\n");
    Command::new("chmod").args(["+x", "nonsense", "interpreter"]).current_dir(world.path("")).status().unwrap();
    let error = world.fails(126, ["run", "--", "./nonsense"]);
    assert!(error.contains("program for this machine"), "{error}");
    let error = world.fails(127, ["run", "--", "./interpreter"]);
    assert!(error.contains("interpreter"), "{error}");
    world.ok(["run", "-d", "--name", "web", "--", "sleep", "1000"]);
    assert_eq!(world.output(["exec", "web", "no-such-program"]).status.code(), Some(127));
    assert_eq!(world.output(["exec", "web", "/etc/passwd"]).status.code(), Some(126));
    assert_eq!(world.output(["exec", "nothing", "true"]).status.code(), Some(125));
}

#[test]
fn bytes_go_through_pipes_untouched() {
    let Some(world) = World::new() else { return };
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n ^ (n >> 7)) as u8).collect();
    let mut child = world.insula(["run", "--", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let copy = bytes.clone();
    let writer = std::thread::spawn(move || input.write_all(&copy).unwrap());
    let run = finish(child);
    writer.join().unwrap();
    assert!(run.status.success() && run.stdout == bytes, "{} bytes came back", run.stdout.len());
    let run =
        output(&mut shell(&world, "printf 'a\nb\n' | insula run -- wc -l; insula run -- cat < /dev/null; insula run -- cat <&-"));
    assert_eq!(stdout(&run), "2\n", "{}", told(&run));
    let run = output(&mut shell(&world, "insula run -- sh -c 'echo out; echo err >&2' 2>&1 >/dev/null | cat"));
    assert_eq!(stdout(&run), "err\n");
}

#[test]
fn a_closed_pipe_ends_the_program() {
    let Some(world) = World::new() else { return };
    for option in ["", "-t"] {
        let line = format!("insula run {option} -- yes | head -n 2; echo ${{PIPESTATUS[0]}}");
        let run = output(&mut shell(&world, &line));
        let code = stdout(&run).lines().last().unwrap().to_owned();
        assert_eq!(code, "141", "{option}: {}", told(&run));
    }
    let run = output(&mut shell(
        &world,
        "insula run -- sh -c 'echo x || exit 3' > /dev/full; echo $?; insula run -- true <&- >&- 2>&-; echo $?",
    ));
    assert_eq!(stdout(&run), "3\n0\n", "{}", told(&run));
}

#[test]
fn signals_reach_the_program() {
    let Some(world) = World::new() else { return };
    for (name, code) in [("TERM", 21), ("INT", 22), ("HUP", 23), ("USR1", 24), ("QUIT", 25), ("ALRM", 26)] {
        let script = format!("trap 'exit {code}' {name}; echo ready; while :; do sleep 0.05; done");
        let child = world.insula(["run", "--", "sh", "-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
        let child = when_ready(child, name);
        assert_eq!(finish(child).status.code(), Some(code), "SIG{name}");
    }
    // Who catches nothing dies of it, although it runs in a PID namespace.
    for (name, code) in [("TERM", 143), ("INT", 130), ("HUP", 129), ("USR2", 140)] {
        let child =
            world.insula(["run", "--", "sh", "-c", "echo ready; exec sleep 1000"]).stdout(Stdio::piped()).spawn().unwrap();
        let status = finish(when_ready(child, name)).status;
        assert_eq!(status.code(), Some(code), "SIG{name}");
    }
    world.ok(["run", "-d", "--name", "web", "--", "sleep", "1000"]);
    let exec = ["exec", "web", "sh", "-c", "trap 'exit 9' USR1; echo ready; while :; do sleep 0.05; done"];
    let child = world.insula(exec).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(finish(when_ready(child, "USR1")).status.code(), Some(9));
}

/// Sends a signal when the program has written its first line.
fn when_ready(mut child: std::process::Child, name: &str) -> std::process::Child {
    use std::io::BufRead;
    let mut line = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    signal(name, child.id());
    child
}

#[test]
fn a_killed_insula_takes_the_program_along() {
    let Some(world) = World::new() else { return };
    let script = "echo ready; sleep 1000 & exec sleep 1000";
    let child = world.insula(["run", "--name", "gone", "--", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut child = when_ready(child, "KILL");
    ended(&mut child);
    world.until("gone", "stopped");
    world.ok(["delete", "gone"]);
}

#[test]
fn orphans_leave_no_zombies() {
    let Some(world) = World::new() else { return };
    let script = "for n in 1 2 3; do (sleep 0.05 &) ; done; sleep 0.5; grep -l 'State:.*Z' /proc/[0-9]*/status | wc -l";
    assert_eq!(world.ok(["run", "--", "sh", "-c", script]), "0\n");
    // They find the parent that they look for.
    let script = "(sh -c 'sleep 0.3; ps -o ppid= -p $$' &) ; sleep 1";
    assert_eq!(world.ok(["run", "--", "sh", "-c", script]).trim(), "1");
    // What it leaves behind ends with it.
    assert_eq!(world.ok(["run", "--", "sh", "-c", "sleep 1000 & echo left"]), "left\n");
}

#[test]
fn ctrl_c_ends_the_program_and_the_loop_around_it() {
    let Some(world) = World::new() else { return };
    let mut terminal = Terminal::new(&world);
    for option in ["", "-t "] {
        terminal.line(&format!("insula run {option}-- sh -c 'echo started; exec sleep 1000'"));
        terminal.expect("started\n");
        terminal.keys("\u{3}");
        terminal.expect("ready> ");
        assert_eq!(terminal.command("echo code=$?"), "code=130\n", "{option}");
        assert!(terminal.is_cooked());
        terminal.line(&format!("while :; do insula run {option}-- sh -c 'echo round; exec sleep 1000'; done"));
        terminal.expect("round\n");
        terminal.keys("\u{3}");
        assert!(!terminal.expect("ready> ").contains("round"), "{option}");
        // In a script too, and nothing of it goes on.
        world.file("script", &format!("insula run {option}-- sh -c 'echo one; exec sleep 1000'\necho two\n"));
        terminal.line("bash script");
        terminal.expect("one\n");
        terminal.keys("\u{3}");
        assert!(!terminal.expect("ready> ").contains("two"), "{option}");
        // A program that ends by itself with the code is no interruption.
        terminal.line(&format!("insula run {option}-- sh -c 'exit 130'; echo went on; true"));
        terminal.expect("went on\n");
        terminal.expect("ready> ");
        // One that handles it decides for itself.
        terminal.line(&format!(
            "insula run {option}-- sh -c 'trap \"echo caught; exit 5\" INT; echo started; while :; do sleep 0.05; done'; echo code=$?"
        ));
        terminal.expect("started\n");
        terminal.keys("\u{3}");
        terminal.expect("caught\n");
        terminal.expect("code=5\n");
        terminal.expect("ready> ");
    }
    // Piped into: the terminal isn't the program's input, but Ctrl-C still is meant for it.
    terminal.line("while :; do sleep 1000 | insula run -- sh -c 'echo round; cat'; done");
    terminal.expect("round\n");
    terminal.keys("\u{3}");
    assert!(!terminal.expect("ready> ").contains("round"));
    assert_eq!(world.ok(["list", "-q"]), "");
    terminal.exit();
}

#[test]
fn ctrl_z_stops_the_job_and_fg_and_bg_continue_it() {
    let Some(world) = World::new() else { return };
    let mut terminal = Terminal::new(&world);
    // Builtins only: a shell that is stopped while it makes a process hangs, also without us (it waits for a child that is stopped).
    let count = "exec 9<>fifo; while :; do n=$((n+1)); echo $n > count; read -t 0.05 -u 9; done";
    terminal.command(&format!("echo '{count}' > counter; touch count; mkfifo fifo"));
    let line = "insula run -v ./count:$PWD/count -- bash ./counter";
    for (start, end) in [(line.to_owned(), ""), (format!("sleep 1000 | {line}"), "| "), (format!("{line} | cat"), " | cat")] {
        std::fs::write(world.path("count"), "").unwrap();
        terminal.line(&start);
        eventually("it counts", || !read(world.path("count")).trim().is_empty());
        terminal.keys("\u{1a}");
        terminal.expect("Stopped");
        terminal.expect("ready> ");
        assert!(stands_still(&world), "{end}");
        assert!(terminal.command("jobs").contains("Stopped"));
        terminal.line("fg");
        eventually("it goes on", || !stands_still(&world));
        terminal.keys("\u{1a}");
        terminal.expect("Stopped");
        terminal.expect("ready> ");
        assert!(stands_still(&world), "{end}");
        terminal.command("bg");
        eventually("it goes on in the background", || !stands_still(&world));
        // Meanwhile the shell has the terminal.
        assert_eq!(terminal.command("echo here"), "here\n");
        terminal.line("fg");
        eventually("it goes on", || !stands_still(&world));
        terminal.keys("\u{3}");
        terminal.expect("ready> ");
        assert_eq!(terminal.command("jobs"), "");
        eventually("nothing is left", || world.ok(["list", "-q"]).is_empty());
    }
    terminal.exit();
}

fn stands_still(world: &World) -> bool {
    let before = read(world.path("count"));
    std::thread::sleep(std::time::Duration::from_millis(400));
    before == read(world.path("count"))
}

#[test]
fn a_job_in_the_background_leaves_the_terminal_to_the_shell() {
    let Some(world) = World::new() else { return };
    let mut terminal = Terminal::new(&world);
    let job = "insula run --name job -- sh -c 'until test -e go; do sleep 0.05; done; echo from the job' &";
    world.directory("flag");
    terminal.command("mkfifo fifo");
    terminal.command(&job.replace("run ", "run -v ./flag:/mnt ").replace("-e go", "-e /mnt/go"));
    eventually("it runs", || world.output(["state", "job"]).status.success() && world.state("job")["status"] == "running");
    assert_eq!(terminal.command("echo still here"), "still here\n");
    world.file("flag/go", "");
    terminal.expect("from the job\n");
    eventually("its end", || world.ok(["list", "-q"]).is_empty());
    // Its end takes nothing either: the shell reads on.
    assert!(terminal.command("echo and here | cat").starts_with("and here\n"));
    // Who reads from the background is stopped, as everybody; brought to the front it reads.
    terminal.line("insula run -- sh -c 'read line; echo \"read <$line>\"' &");
    eventually("it is stopped", || terminal.command("jobs").contains("Stopped"));
    terminal.line("fg");
    terminal.keys("words\n");
    terminal.expect("read <words>\n");
    terminal.expect("ready> ");
    // The same when it is brought to the front before it reads.
    terminal.line("insula run -- sh -c 'sleep 1; read line; echo \"read <$line>\"' &");
    terminal.expect("ready> ");
    terminal.line("fg");
    terminal.keys("more\n");
    terminal.expect("read <more>\n");
    terminal.expect("ready> ");
    // Stopped, sent to the background and ended there: still the shell's terminal.
    terminal.line("insula run --name late -v ./flag:/mnt -- bash -c 'exec 9<>fifo; echo begun; until test -e /mnt/late; do read -t 0.05 -u 9; done'");
    terminal.expect("begun\n");
    terminal.keys("\u{1a}");
    terminal.expect("ready> ");
    terminal.command("bg");
    world.file("flag/late", "");
    eventually("its end", || world.ok(["list", "-q"]).is_empty());
    assert!(terminal.command("echo at the end").contains("at the end\n"));
    // One that wants a terminal of its own waits until it may have ours.
    terminal.line("insula run -t -- echo shown &");
    eventually("it is stopped", || terminal.command("jobs").contains("Stopped"));
    assert!(terminal.is_cooked());
    terminal.line("fg");
    terminal.expect("shown\n");
    terminal.expect("ready> ");
    terminal.exit();
}

#[test]
fn a_pager_and_the_program_share_the_terminal() {
    let Some(world) = World::new() else { return };
    let mut terminal = Terminal::new(&world);
    // What stands right of the pipe may read keys while the program runs.
    terminal.line("insula run -- sh -c 'echo one; exec sleep 1000' | (read line; read key < /dev/tty; echo \"$line and $key\")");
    terminal.keys("key\n");
    terminal.expect("one and key\n");
    terminal.keys("\u{3}");
    terminal.expect("ready> ");
    // And the program may, too.
    terminal.line("insula run -- sh -c 'read line; echo got $line' | cat");
    terminal.keys("words\n");
    terminal.expect("got words\n");
    terminal.expect("ready> ");
    terminal.exit();
}

#[test]
fn a_shell_inside_has_job_control() {
    let Some(world) = World::new() else { return };
    let mut terminal = Terminal::new(&world);
    for option in ["", "-t "] {
        terminal.line(&format!("insula run {option}-e PS1='inside> ' -- bash --norc --noprofile --noediting -i"));
        terminal.expect("inside> ");
        assert!(!terminal.text().contains("no job control"), "{}", terminal.text());
        terminal.line("sh -c 'echo up; exec sleep 1000'");
        terminal.expect("up\n");
        terminal.keys("\u{1a}");
        terminal.expect("Stopped");
        terminal.expect("inside> ");
        terminal.line("fg");
        terminal.expect("sleep 1000'\n");
        // The shell says so before it has handed the terminal over.
        std::thread::sleep(std::time::Duration::from_millis(300));
        terminal.keys("\u{3}");
        terminal.expect("inside> ");
        terminal.line("echo inner=$?");
        terminal.expect("inner=130\n");
        terminal.expect("inside> ");
        terminal.line("exit 4");
        terminal.expect("ready> ");
        assert_eq!(terminal.command("echo outer=$?"), "outer=4\n");
        assert!(terminal.is_cooked());
    }
    terminal.exit();
}

#[test]
fn the_terminals_size_is_the_programs() {
    let Some(world) = World::new() else { return };
    let mut terminal = Terminal::new(&world);
    for option in ["", "-t "] {
        terminal.resize(80, 24);
        assert_eq!(terminal.command(&format!("insula run {option}-- stty size")), "24 80\n", "{option}");
        let script = "trap 'stty size; exit 6' WINCH; echo waiting; while :; do sleep 0.05; done";
        terminal.line(&format!("insula run {option}-- sh -c \"{script}\""));
        terminal.expect("waiting\n");
        terminal.resize(132, 43);
        terminal.expect("43 132\n");
        terminal.expect("ready> ");
    }
    terminal.exit();
}

#[test]
fn a_terminal_of_its_own_is_whole_and_ours_comes_back() {
    let Some(world) = World::new() else { return };
    let mut terminal = Terminal::new(&world);
    assert_eq!(
        terminal.command(
            "insula run -t -- sh -c 'tty; ls -l /dev/console | cut -c1; test -t 0 && test -t 1 && test -t 2 && echo all'"
        ),
        "/dev/pts/0\nc\nall\n"
    );
    assert!(terminal.command("insula run -t -- seq 20000").ends_with("\n19999\n20000\n"), "all that it has written arrives");
    // Ours passes everything on while it runs, and nothing is echoed twice.
    terminal.line(
        "insula run -t --name own -- sh -c 'read line; echo \"got <$line>\"; stty -echo; echo secret; read secret; echo done'",
    );
    eventually("ours is raw", || !terminal.is_cooked());
    terminal.keys("typed\n");
    assert_eq!(terminal.expect("got <typed>\n"), "typed\n");
    terminal.expect("secret\n");
    terminal.keys("hidden\n");
    assert_eq!(terminal.expect("done\n"), "");
    terminal.expect("ready> ");
    assert!(terminal.is_cooked());
    // However it ends.
    for end in ["kill -TERM $(pgrep -P $$ insula || true)", "insula kill own KILL"] {
        terminal.line("insula run -t --name own -- sh -c 'echo up; exec sleep 1000'");
        terminal.expect("up\n");
        if end.starts_with("insula") {
            world.ok(["kill", "own", "KILL"]);
        } else {
            signal("TERM", parent_of(&world.state("own")["pid"]));
        }
        terminal.expect("ready> ");
        assert!(terminal.is_cooked(), "{end}");
    }
    // Stopped from outside, the shell has its terminal as it was.
    terminal.line("insula run -t --name own -- sh -c 'echo up; exec cat'");
    terminal.expect("up\n");
    signal("TSTP", parent_of(&world.state("own")["pid"]));
    terminal.expect("ready> ");
    assert!(terminal.is_cooked());
    terminal.line("fg");
    eventually("ours is raw", || !terminal.is_cooked());
    terminal.keys("\u{4}");
    terminal.expect("ready> ");
    assert!(terminal.is_cooked());
    terminal.exit();
}

fn parent_of(pid: &serde_json::Value) -> String {
    let stat = read(format!("/proc/{pid}/stat"));
    stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().to_owned()
}

#[test]
fn a_terminal_for_who_has_none() {
    let Some(world) = World::new() else { return };
    let run = output(&mut shell(&world, "printf 'words\\n' | insula run -t -- sh -c 'test -t 0 && cat; echo end'"));
    assert_eq!(stdout(&run).replace("\r\n", "\n"), "words\nwords\nend\n", "{}", told(&run));
    // Everything it writes arrives, also what it wrote last.
    let run = output(&mut shell(&world, "insula run -t -- seq 100000 < /dev/null | tail -n 1"));
    assert_eq!(stdout(&run).trim(), "100000", "{}", told(&run));
    let run = output(&mut shell(&world, "insula run -t -- seq 20000 < /dev/null | { sleep 1; wc -l; }"));
    assert_eq!(stdout(&run).trim(), "20000", "{}", told(&run));
}

#[test]
fn a_window_that_is_closed_ends_it_all() {
    let Some(world) = World::new() else { return };
    for option in ["", "-t "] {
        let mut terminal = Terminal::new(&world);
        terminal.line(&format!("insula run {option}-- sh -c 'echo up; exec sleep 1000'"));
        terminal.expect("up\n");
        terminal.hang_up();
        eventually("nothing is left", || world.ok(["list", "-q"]).is_empty());
    }
    // Also of what is stopped, for whatever reason.
    for script in ["echo up; exec sleep 1000", "echo up; exec cat"] {
        let mut terminal = Terminal::new(&world);
        let (stop, background) = if script.contains("cat") { ("", " &") } else { ("\u{1a}", "") };
        terminal.line(&format!("insula run -- sh -c '{script}'{background}"));
        terminal.expect("up\n");
        terminal.keys(stop);
        eventually("it is stopped", || {
            terminal.keys("\n");
            terminal.command("jobs").contains("Stopped") || terminal.text().contains("+  Stopped")
        });
        terminal.hang_up();
        eventually("nothing is left", || world.ok(["list", "-q"]).is_empty());
    }
}

#[test]
fn without_a_shell_above_nothing_stops_for_ever() {
    let Some(world) = World::new() else { return };
    // The leader of a session, as a terminal window starts it: nobody would continue it, so Ctrl-Z has no effect.
    let (keys, inner) = support::pty::pair();
    let (log, from): (std::path::PathBuf, OwnedFd) = (world.file("log", ""), inner);
    let script = format!(
        "mkfifo /tmp/f; exec 9<>/tmp/f; trap 'exit 3' USR1; echo up > {}; while :; do read -t 0.05 -u 9; done",
        log.display()
    );
    let mut child = Command::new("setsid")
        .arg("--ctty")
        .args(world.words())
        .args(["run", "--name", "lonely", "-v", &format!("{0}:{0}", log.display()), "--", "bash", "-c", &script])
        .stdin(from.try_clone().unwrap())
        .stdout(from.try_clone().unwrap())
        .stderr(from)
        .spawn()
        .unwrap();
    eventually("it runs", || read(&log) == "up\n");
    rustix::io::write(&keys, b"\x1a").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    signal("USR1", child.id());
    assert_eq!(ended(&mut child).code(), Some(3));
}

#[test]
fn a_program_that_is_added_has_the_terminal_too() {
    let Some(world) = World::new() else { return };
    world.ok(["run", "-d", "--name", "web", "--", "sleep", "1000"]);
    let mut terminal = Terminal::new(&world);
    for option in ["", "-t "] {
        assert_eq!(terminal.command(&format!("insula exec {option}web stty size")), "24 80\n", "{option}");
        terminal.line(&format!("while :; do insula exec {option}web sh -c 'echo round; exec sleep 1000'; done"));
        terminal.expect("round\n");
        terminal.keys("\u{3}");
        assert!(!terminal.expect("ready> ").contains("round"), "{option}");
        assert_eq!(terminal.command(&format!("insula exec {option}web sh -c 'exit 9'; echo code=$?")), "code=9\n");
    }
    // Stopped and continued with us, though it leads a session.
    let count = "n=0; while :; do n=$((n+1)); echo $n > /dev/shm/count; read -t 0.05 -u 9; done";
    terminal.line(&format!("insula exec web bash -c 'mkfifo /tmp/f; exec 9<>/tmp/f; echo 0 > /dev/shm/count; echo up; {count}'"));
    terminal.expect("up\n");
    let counted = || world.ok(["exec", "web", "cat", "/dev/shm/count"]);
    let stands_still = || {
        let before = counted();
        std::thread::sleep(std::time::Duration::from_millis(400));
        before == counted()
    };
    terminal.keys("\u{1a}");
    terminal.expect("Stopped");
    terminal.expect("ready> ");
    assert!(stands_still());
    terminal.line("fg");
    eventually("it goes on", || !stands_still());
    terminal.keys("\u{3}");
    terminal.expect("ready> ");
    terminal.line("insula exec -it web sh -c 'stty raw; echo up; head -c 3 | od -c'");
    terminal.expect("up\n");
    terminal.keys("\u{3}\u{1a}x");
    terminal.expect("003 032   x");
    terminal.expect("ready> ");
    assert!(terminal.is_cooked());
    terminal.exit();
}

#[test]
fn a_bundle_with_a_terminal_has_one() {
    let Some(world) = World::new() else { return };
    let bundle =
        support::bundle::Bundle::script(&world, "bundle", "tty; stty size; read line; echo got $line; exit 3").with(|config| {
            config["process"]["terminal"] = true.into();
        });
    let mut terminal = Terminal::new(&world);
    terminal.line(&format!("insula run --bundle {} boxed; echo code=$?", bundle.dir()));
    terminal.expect("/dev/pts/0\n24 80\n");
    terminal.keys("words\n");
    terminal.expect("got words\n");
    terminal.expect("code=3\n");
    terminal.expect("ready> ");
    assert!(terminal.is_cooked());
    terminal.exit();
}
