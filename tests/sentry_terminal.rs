//! Terminals and signals of programs behind the sentry's kernel: to the shell around them, they are as any other command.

mod support;

use support::pty::Terminal;
use support::{World, eventually, stdout, told};

const RUN: &str = "insula run --isolation sentry";

#[test]
fn a_command_can_be_ended_by_signals() {
    let Some(world) = World::new() else { return };
    for (name, number) in [("TERM", 15), ("KILL", 9), ("INT", 2)] {
        let run = world.output(["run", "--isolation", "sentry", "--", "sh", "-c", &format!("kill -s {name} $$")]);
        assert_eq!(run.status.code(), Some(128 + number), "{}", told(&run));
    }
    // Nobody in there has to wait for orphans, which find the parent they look for.
    let script = "(sh -c 'sleep 0.3; ps -o ppid= -p $$' & ) ; sleep 1; ps -e -o stat= | grep -c Z";
    let run = world.output(["run", "--isolation", "sentry", "--", "sh", "-c", script]);
    let words: Vec<_> = stdout(&run).split_whitespace().collect();
    assert_eq!(words, ["1", "0"], "{}", told(&run));
    for (code, program) in [(127, "no-such-program"), (126, "/etc/passwd")] {
        world.fails(code, ["run", "--isolation", "sentry", "--", program]);
    }
    world.ok(["run", "-d", "--isolation", "sentry", "--name", "web", "--", "sh", "-c", "echo up; exec sleep 1000"]);
    eventually("its output", || world.ok(["logs", "web"]) == "up\n");
    world.ok(["kill", "web", "TERM"]);
    world.until("web", "stopped");
    world.ok(["delete", "web"]);
}

#[test]
fn a_terminal_of_its_own_is_whole() {
    let Some(world) = World::new() else { return };
    let mut terminal = Terminal::new(&world);
    let script = "tty; stty size; test -t 0 && test -t 1 && test -t 2 && echo all";
    assert_eq!(terminal.command(&format!("{RUN} -t -- sh -c '{script}'")), "/dev/pts/0\n24 80\nall\n");
    // All that it has written arrives.
    assert!(terminal.command(&format!("{RUN} -t -- seq 20000")).ends_with("\n19999\n20000\n"));
    terminal.line(&format!("{RUN} -t -- sh -c \"trap 'stty size; exit 6' WINCH; echo up; while :; do sleep 0.05; done\""));
    terminal.expect("up\n");
    terminal.resize(132, 43);
    terminal.expect("43 132\n");
    terminal.expect("ready> ");
    assert!(terminal.is_cooked());
    terminal.exit();
}

#[test]
fn a_shell_inside_has_job_control() {
    let Some(world) = World::new() else { return };
    let mut terminal = Terminal::new(&world);
    for option in ["", "-t "] {
        terminal.line(&format!("{RUN} {option}-e PS1='inside> ' -- bash --norc --noprofile --noediting -i"));
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
fn a_program_is_a_job_of_the_shell_around_it() {
    let Some(world) = World::new() else { return };
    let mut terminal = Terminal::new(&world);
    terminal.line(&format!("{RUN} -- sh -c 'echo up; read line; echo \"got <$line>\"; exec sleep 1000'"));
    terminal.expect("up\n");
    terminal.keys("\u{1a}");
    terminal.expect("Stopped");
    terminal.expect("ready> ");
    terminal.line("fg");
    terminal.keys("words\n");
    terminal.expect("got <words>\n");
    terminal.keys("\u{3}");
    terminal.expect("ready> ");
    assert_eq!(terminal.command("echo code=$?"), "code=130\n");
    eventually("nothing is left", || world.ok(["list", "-q"]).is_empty());
    terminal.exit();
}

#[test]
fn a_window_that_is_closed_ends_it_all() {
    let Some(world) = World::new() else { return };
    for option in ["", "-t "] {
        let mut terminal = Terminal::new(&world);
        terminal.line(&format!("{RUN} {option}-- sh -c 'echo up; exec sleep 1000'"));
        terminal.expect("up\n");
        terminal.hang_up();
        eventually("nothing is left", || world.ok(["list", "-q"]).is_empty());
    }
}
