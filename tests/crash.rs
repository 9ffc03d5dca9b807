//! A kill -9 of ours at every step. Each verb is run again and again; in the Nth run the process that enters the Nth system call is
//! killed instead: the caller's in one series, those of the processes it makes in another. Whenever it was, `delete --force` takes
//! everything away (mounts, groups, processes with their namespaces, files), and the name can be used again.
//!
//! Normally a sample of all N is tried; every one with `INSULA_CRASH_EVERY=1`.

#[path = "support/island.rs"]
mod island;
mod support;
#[path = "support/traces.rs"]
mod traces;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::bundle::Bundle;
use support::{World, output, stdout, told};
use traces::{assert_none, id, run};

/// Runs a command and kills a process of it at its Nth call. The comment at its head says why it isn't strace.
const KILL_AT: &str = include_str!("robustness/kill_at.pl");

/// How many N are tried of a series.
const SAMPLE: usize = 25;

/// A verb, and what it finds.
struct Verb {
    name: &'static str,
    /// What has been done with the container before.
    before: fn(&Stage),
    /// The arguments, in which `ID` and `BUNDLE` are filled in.
    args: &'static [&'static str],
    /// It makes a network: then nothing of that must be left, either.
    network: bool,
}

/// A container's name, and bundles for it.
struct Stage {
    world: World,
    id: String,
    /// It sleeps, and has limits, and so groups.
    bundle: Bundle,
    /// It ends at once.
    short: Bundle,
}

impl Stage {
    fn new() -> Option<Stage> {
        let world = World::new()?;
        let limited = |config: &mut serde_json::Value| {
            config["linux"]["resources"] = serde_json::json!({"pids": {"limit": 50}, "memory": {"limit": 256 << 20}});
        };
        let bundle = Bundle::new(&world, "bundle", &["sleep", "1000"]).with(limited);
        let short = Bundle::new(&world, "short", &["true"]).with(limited);
        let id = id(&world, "crash");
        Some(Stage { world, id, bundle, short })
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) {
        let done = run(&self.world, args);
        assert!(done.status.success(), "{args:?}: {}", told(&done));
    }

    fn created(&self) {
        self.ok(&["create", "--bundle", self.bundle.dir(), &self.id]);
    }

    fn running(&self) {
        self.created();
        self.ok(&["start", &self.id]);
    }

    fn running_on_a_bridge(&self) {
        self.ok(&["run", "-d", "--rm", "--name", &self.id, "--network", "bridge", "-p", "8080:80", "--", "sleep", "1000"]);
    }

    /// All files of the bundles.
    fn files(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        walk(&self.bundle.path, &mut found);
        walk(&self.short.path, &mut found);
        found
    }
}

fn walk(dir: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), found);
        }
        found.insert(entry.path());
    }
}

/// How many calls were counted, and whether somebody was killed.
fn killed_at(stage: &Stage, verb: &Verb, whose: &str, at: usize) -> (usize, bool) {
    let fill = |arg: &&str| match *arg {
        "ID" => stage.id.clone(),
        "SHORT" => stage.short.dir().to_owned(),
        "BUNDLE" => stage.bundle.dir().to_owned(),
        other => other.to_owned(),
    };
    let ours = stage.world.insula(verb.args.iter().map(fill));
    let mut command = Command::new("perl");
    command.args(["-e", KILL_AT, whose, &at.to_string()]).arg(ours.get_program()).args(ours.get_args());
    // A container that goes on keeps the streams of who made it: so they are a file.
    let told_in = stage.world.path("told");
    let file = std::fs::File::create(&told_in).unwrap();
    command.stdout(file).stderr(std::process::Stdio::null()).stdin(std::process::Stdio::null());
    support::ended(&mut command.spawn().unwrap());
    let text = support::read(told_in);
    // The verb may have written something before it was killed.
    let last = text.lines().last().unwrap_or_default();
    let (count, killed) = last.split_once(' ').unwrap_or((last, ""));
    (count.parse().unwrap_or_else(|_| panic!("the tracer failed: {text:?}")), killed == "killed")
}

/// Kills in one series of calls; how many were tried.
fn series(stage: &Stage, verb: &Verb, whose: &str) -> usize {
    let world = &stage.world;
    let before = verb.network.then(island::inventory);
    let clean = |about: &str| {
        let deleted = run(world, ["delete", "--force", &stage.id]);
        assert!(deleted.status.success(), "delete after {about}: {}", told(&deleted));
        assert_none(world, about);
        if let Some(before) = &before {
            island::assert_as(before, about);
        }
    };
    (verb.before)(stage);
    let (calls, killed) = killed_at(stage, verb, whose, usize::MAX);
    assert!(calls > 3 && !killed, "{}: only {calls} calls of the {whose} were seen", verb.name);
    clean("a run without a kill");
    stage.ok(&["run", "--bundle", stage.short.dir(), &stage.id]);
    // Mount points that the image lacks are made once.
    let files = stage.files();
    let every = std::env::var_os("INSULA_CRASH_EVERY").is_some();
    let stride = if every { 1 } else { (calls / SAMPLE).max(1) };
    let mut tried = 0;
    for at in (1..).step_by(stride) {
        let about = format!("{} whose {whose} was killed at call {at} of about {calls}", verb.name);
        (verb.before)(stage);
        let (_, killed) = killed_at(stage, verb, whose, at);
        clean(&about);
        assert_eq!(stage.files(), files, "in the bundle after {about}");
        let again = run(world, ["run", "--bundle", stage.short.dir(), &stage.id]);
        assert!(again.status.success(), "run of the same name after {about}: {}", told(&again));
        assert_none(world, format_args!("a second run after {about}"));
        if !killed {
            return tried;
        }
        tried += 1;
    }
    tried
}

fn both_series(verb: &Verb) {
    if verb.network && island::enter().is_none() {
        return;
    }
    let Some(stage) = Stage::new() else { return };
    if !has_perl() {
        eprintln!("skipped: perl isn't installed");
        return;
    }
    let of_caller = series(&stage, verb, "caller");
    let of_children = if verb.has_children() { series(&stage, verb, "children") } else { 0 };
    eprintln!("{}: {of_caller} kills of the caller, {of_children} of its children", verb.name);
}

fn has_perl() -> bool {
    let perl = output(Command::new("perl").args(["-e", "print 'here'"]));
    stdout(&perl) == "here"
}

impl Verb {
    /// These make no process.
    fn has_children(&self) -> bool {
        !["start", "delete", "pause", "update"].contains(&self.name)
    }
}

#[test]
fn create() {
    both_series(&Verb { name: "create", before: |_| (), args: &["create", "--bundle", "BUNDLE", "ID"], network: false });
}

#[test]
fn start() {
    both_series(&Verb { name: "start", before: Stage::created, args: &["start", "ID"], network: false });
}

#[test]
fn delete() {
    both_series(&Verb { name: "delete", before: Stage::running, args: &["delete", "--force", "ID"], network: false });
}

#[test]
fn run_of_a_bundle() {
    both_series(&Verb { name: "run", before: |_| (), args: &["run", "--bundle", "SHORT", "ID"], network: false });
}

#[test]
fn run_of_a_command() {
    let args = &["run", "--name", "ID", "--memory", "256m", "--pids-limit", "50", "--", "true"];
    both_series(&Verb { name: "run", before: |_| (), args, network: false });
}

#[test]
fn run_in_the_background() {
    let args = &["run", "--detach", "--rm", "--name", "ID", "--memory", "256m", "--", "true"];
    both_series(&Verb { name: "run --detach", before: |_| (), args, network: false });
}

#[test]
fn run_on_a_bridge() {
    let args = &["run", "--name", "ID", "--network", "bridge", "-p", "8080:80", "--", "true"];
    both_series(&Verb { name: "run --network bridge", before: |_| (), args, network: true });
}

#[test]
fn run_with_a_network_without_privilege() {
    let args = &["run", "--name", "ID", "--network", "user", "-p", "8080:80", "--", "true"];
    both_series(&Verb { name: "run --network user", before: |_| (), args, network: true });
}

#[test]
fn delete_from_a_bridge() {
    let args = &["delete", "--force", "ID"];
    both_series(&Verb { name: "delete", before: Stage::running_on_a_bridge, args, network: true });
}

#[test]
fn exec() {
    both_series(&Verb { name: "exec", before: Stage::running, args: &["exec", "ID", "true"], network: false });
}

/// A caller that comes late to its own removal, as somebody else has removed the container and made another of the name.
#[test]
fn the_next_of_the_name_is_left_alone() {
    let Some(world) = World::new() else { return };
    let id = id(&world, "next");
    let mut late = world.insula(["run", "--name", &id, "--", "sleep", "1000"]).spawn().unwrap();
    support::eventually("the first runs", || {
        let state = world.output(["state", &id]);
        stdout(&state).contains("\"running\"")
    });
    support::signal("STOP", late.id());
    world.ok(["delete", "--force", &id]);
    world.hands_off(["run", "--detach", "--name", &id, "--", "sleep", "1000"]);
    support::signal("CONT", late.id());
    support::ended(&mut late);
    assert_eq!(world.state(&id)["status"], "running");
    world.ok(["delete", "--force", &id]);
    assert_none(&world, "both");
}

/// Both may give it groups that it was started without.
#[test]
fn pause() {
    both_series(&Verb { name: "pause", before: Stage::running, args: &["pause", "ID"], network: false });
}

#[test]
fn update() {
    both_series(&Verb { name: "update", before: Stage::running, args: &["update", "--cpus", "0.5", "ID"], network: false });
}
