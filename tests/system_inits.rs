//! Whole systems whose init is neither systemd nor busybox: Debians with sysvinit and with OpenRC.

mod support;

use support::pty::Terminal;
use support::system::{Debian, Root, debian, debian_copied};
use support::{World, eventually, read};

/// What sysvinit is told to have on a container's only terminal.
const GETTY: &str = "co:2345:respawn:/sbin/getty --noclear 38400 console\n";
const OPENRC_INIT: &str = "/sbin/openrc-init";

/// Users not of the host's.
const USERS: [&str; 2] = ["--userns", "100000:65536"];

/// Starts a system in the background.
#[track_caller]
fn boot(world: &World, name: &str, root: &Root, options: &[&str], init: &[&str]) {
    let args = [&["run", "--isolation", "system", "--rootfs", root, "-d", "--name", name], options, init].concat();
    assert_eq!(world.ok(args), format!("{name}\n"));
}

/// What a command inside prints; nothing as long as it fails.
fn inside(world: &World, name: &str, command: &[&str]) -> String {
    let output = world.output([&["exec", name], command].concat());
    if output.status.success() { support::stdout(&output).to_owned() } else { String::new() }
}

fn sysvinit_is_up(world: &World, name: &str) {
    eventually("sysvinit is in its runlevel", || inside(world, name, &["runlevel"]) == "N 2\n");
    eventually("it asks who logs in", || world.ok(["logs", name]).contains(&format!("{name} login:")));
}

fn openrc_is_up(world: &World, name: &str) {
    eventually("OpenRC is in its runlevel", || inside(world, name, &["rc-status", "--runlevel"]) == "default\n");
    eventually("all of that is started", || {
        let services = inside(world, name, &["rc-status"]);
        services.contains("rmnologin") && !services.contains("stopped") && !services.contains("starting")
    });
}

/// Has it end, and shows that it did so in order.
#[track_caller]
fn stop(world: &World, name: &str, last_words: &str) {
    world.ok(["stop", name]);
    world.until(name, "stopped");
    let console = world.ok(["logs", name]);
    assert!(console.contains(last_words), "{console}");
    eventually("the end is on record", || world.state(name)["exitCode"] == 0);
}

/// Has it begin anew, by what asks for that inside.
fn reboot(world: &World, name: &str, command: &[&str]) {
    let pid = world.state(name)["pid"].clone();
    world.ok([&["exec", "-d", name], command].concat());
    eventually("another first process", || {
        let state = world.state(name);
        state["status"] == "running" && state["pid"] != pid
    });
}

/// Has a terminal of a Debian with sysvinit.
fn add_getty(root: &Root) {
    let inittab = root.join("etc/inittab");
    std::fs::write(&inittab, read(&inittab) + GETTY).unwrap();
}

#[track_caller]
fn assert_unprivileged(world: &World, name: &str) {
    let status = read(format!("/proc/{}/status", world.state(name)["pid"]));
    assert!(status.contains("\nUid:\t100000\t100000\t100000\t100000\n"), "{status}");
}

#[test]
fn sysvinit_boots_and_is_asked_to_halt() {
    let Some((world, root)) = debian(Debian::Sysvinit) else { return };
    add_getty(&root);
    boot(&world, "sysv", &root, &[], &[]);
    sysvinit_is_up(&world, "sysv");
    assert_eq!(inside(&world, "sysv", &["hostname"]), "sysv\n");

    let mut terminal = Terminal::new(&world);
    terminal.line("insula attach sysv");
    terminal.expect("Ctrl-] leaves it");
    terminal.keys("\n");
    terminal.expect("login: ");
    terminal.keys("root\n");
    terminal.expect("# ");
    terminal.keys("tty; echo $((6*7))\n");
    terminal.expect("/dev/console\n42\n");
    terminal.keys("\u{1d}");
    terminal.expect("left the console");
    terminal.exit();

    // A reboot is its own to ask for.
    reboot(&world, "sysv", &["reboot"]);
    sysvinit_is_up(&world, "sysv");
    stop(&world, "sysv", "Will now halt");
}

#[test]
fn sysvinit_in_the_foreground_halts_by_the_key() {
    let Some((world, root)) = debian(Debian::Sysvinit) else { return };
    add_getty(&root);
    let mut terminal = Terminal::new(&world);
    terminal.line(&format!("insula run --isolation system --rootfs {root} --name sysv-fore; echo code $?"));
    terminal.expect("sysv-fore login: ");
    terminal.keys("\u{1d}");
    terminal.expect("Will now halt");
    terminal.expect("code 0\n");
    terminal.exit();
    assert_eq!(world.ok(["list", "--quiet"]), "", "nothing is left");
}

#[test]
fn sysvinit_without_privilege() {
    let Some((world, root)) = debian_copied(Debian::Sysvinit) else { return };
    add_getty(&root);
    boot(&world, "sysv-nobody", &root, &USERS, &[]);
    sysvinit_is_up(&world, "sysv-nobody");
    assert_unprivileged(&world, "sysv-nobody");
    stop(&world, "sysv-nobody", "Will now halt");
}

#[test]
fn openrc_boots_and_shuts_down() {
    let Some((world, root)) = debian(Debian::OpenRc) else { return };
    std::os::unix::fs::symlink("agetty", root.join("etc/init.d/agetty.console")).unwrap();
    std::os::unix::fs::symlink("/etc/init.d/agetty.console", root.join("etc/runlevels/default/agetty.console")).unwrap();
    boot(&world, "orc", &root, &[], &[OPENRC_INIT]);
    openrc_is_up(&world, "orc");
    assert_eq!(inside(&world, "orc", &["openrc", "--sys"]), "LXC\n", "it knows that it is in a container");
    assert_eq!(inside(&world, "orc", &["rc-status", "--crashed"]), "");
    eventually("it asks who logs in", || world.ok(["logs", "orc"]).contains("orc login:"));
    stop(&world, "orc", "Sending the final kill signal");

    world.ok(["start", "orc"]);
    openrc_is_up(&world, "orc");
    reboot(&world, "orc", &["openrc-shutdown", "--reboot", "now"]);
    openrc_is_up(&world, "orc");
    stop(&world, "orc", "Sending the final kill signal");
}

#[test]
fn openrc_without_privilege() {
    let Some((world, root)) = debian_copied(Debian::OpenRc) else { return };
    boot(&world, "orc-nobody", &root, &USERS, &[OPENRC_INIT]);
    openrc_is_up(&world, "orc-nobody");
    assert_unprivileged(&world, "orc-nobody");
    stop(&world, "orc-nobody", "Sending the final kill signal");
}

#[test]
fn openrc_under_sysvinit() {
    let Some((world, root)) = debian_copied(Debian::OpenRc) else { return };
    add_getty(&root);
    for users in [&USERS[..], &[]] {
        boot(&world, "orc-sysv", &root, users, &[]);
        sysvinit_is_up(&world, "orc-sysv");
        openrc_is_up(&world, "orc-sysv");
        stop(&world, "orc-sysv", "Will now halt");
        world.ok(["delete", "orc-sysv"]);
    }
}

#[test]
fn an_init_that_refuses_to_end_is_told_of() {
    let Some((world, root)) = debian(Debian::Sysvinit) else { return };
    add_getty(&root);
    boot(&world, "sysv-deaf", &root, &[], &[]);
    sysvinit_is_up(&world, "sysv-deaf");
    // What asks an init fails, as it does where the init has no pipe to listen at.
    std::fs::rename(root.join("sbin/init"), root.join("sbin/init.real")).unwrap();
    std::os::unix::fs::symlink("/bin/false", root.join("sbin/init")).unwrap();
    let text = world.fails(1, ["stop", "sysv-deaf"]);
    assert!(text.contains("`/sbin/init 0`, which asks the system to shut down, ended with exit code 1"), "{text}");
    assert_eq!(world.state("sysv-deaf")["status"], "running");
    world.ok(["stop", "--kill", "sysv-deaf"]);
    world.until("sysv-deaf", "stopped");
}
