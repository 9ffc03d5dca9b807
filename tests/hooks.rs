//! Hooks of a configuration: programs that run at set points of a container's life. Where runc is installed it is the control.

mod support;

use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use support::bundle::Bundle;
use support::runtime::{Runtime, alike};
use support::{World, eventually, read, stderr};

/// A program that notes its name and its input.
fn note(path: &Path, log: &str, end: &str) -> String {
    std::fs::write(path, format!("#!/bin/sh\n{{ echo \"$1 $VARIABLE\"; cat; echo; }} >> {log}\n{end}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn hooks_run_where_and_when_they_should() {
    let Some(world) = World::new() else { return };
    let log = world.path("log");
    let outside = note(&world.path("hook"), log.to_str().unwrap(), "");
    let bundle = Bundle::script(&world, "bundle", "echo program >> /tmp/log; exec sleep 1000");
    note(&bundle.inside("/hook"), "/tmp/log", "");
    let hook = |path: &str, name: &str| json!([{"path": path, "args": ["hook", name], "env": [format!("VARIABLE=of-{name}"), "PATH=/usr/bin:/bin"]}]);
    let bundle = bundle.with(|config| {
        config["hooks"] = json!({});
        for name in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
            config["hooks"][name] = hook(&outside, name);
        }
        config["hooks"]["startContainer"] = hook("/hook", "startContainer");
    });
    alike(&world, |runtime| {
        let _ = std::fs::remove_file(&log);
        let _ = std::fs::remove_file(bundle.inside("/tmp/log"));
        let mut pid = Value::Null;
        let mut seen = Vec::new();
        for (step, args) in [
            ("create", &["create", "-b", bundle.dir(), "c"][..]),
            ("start", &["start", "c"]),
            ("end", &["delete", "--force", "c"]),
        ] {
            runtime.ok(args);
            if step == "create" {
                pid = serde_json::from_str::<Value>(&runtime.ok(&["state", "c"])).unwrap()["pid"].clone();
            }
            if step == "start" {
                eventually("the program runs", || read(bundle.inside("/tmp/log")).contains("program"));
            }
            for (place, text) in [("outside", read(&log)), ("inside", read(bundle.inside("/tmp/log")))] {
                for lines in text.lines().collect::<Vec<_>>().chunks(2) {
                    let Some(state) = lines.get(1) else {
                        seen.push(format!("{step} {place} {}", lines[0]));
                        continue;
                    };
                    let state: Value = serde_json::from_str(state).unwrap_or_else(|error| panic!("{error}: {state}"));
                    assert_eq!((&state["id"], &state["bundle"]), (&json!(runtime.id), &json!(bundle.path)));
                    let who = if state["pid"] == pid { "the same" } else { "" };
                    let who = if lines[0].starts_with("createContainer") || place == "inside" { "" } else { who };
                    seen.push(format!("{step} {place} {} {} {who}", lines[0], state["status"]));
                }
            }
            let _ = std::fs::write(&log, "");
            let _ = std::fs::write(bundle.inside("/tmp/log"), "");
        }
        // runc before 1.2 ran these in the create already.
        seen.retain(|line| !line.contains("poststart") || runtime.name == "insula");
        let poststart = seen.iter().position(|line| line == "start outside poststart of-poststart \"running\" the same");
        if runtime.name == "insula" {
            seen.remove(poststart.unwrap_or_else(|| panic!("no poststart in {seen:?}")));
        }
        seen
    });
}

#[test]
fn a_hook_that_fails_or_takes_too_long_ends_it() {
    let Some(world) = World::new() else { return };
    let bundle = Bundle::new(&world, "bundle", &["sleep", "1000"]);
    let failing = note(&world.path("failing"), "/dev/null", "exit 3");
    let endless = note(&world.path("endless"), "/dev/null", "exec sleep 1000");
    note(&bundle.inside("/failing"), "/dev/null", "exit 3");
    let mut bundle = bundle;
    for name in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        for (path, timeout) in [(&failing, None), (&endless, Some(1))] {
            // Both of them are run inside, where only the first is.
            if name == "startContainer" && timeout.is_some() {
                continue;
            }
            let path = if name == "startContainer" { "/failing" } else { path.as_str() };
            let mut hook = json!({"path": path});
            if let Some(seconds) = timeout {
                hook["timeout"] = seconds.into();
            }
            bundle = bundle.with(|config| config["hooks"] = json!({name: [hook]}));
            let observe = |runtime: &Runtime| {
                let created = runtime.run(&["create", "-b", bundle.dir(), "c"]);
                let after_create = runtime.status("c");
                let started = if created.status.success() { Some(runtime.run(&["start", "c"])) } else { None };
                let failed = started.as_ref().unwrap_or(&created);
                if runtime.name == "insula" && !failed.status.success() {
                    let text = stderr(failed);
                    assert!(text.contains(&format!("hooks.{name}[0]")) && text.contains(path), "{text}");
                    assert!(text.contains(if timeout.is_some() { "timeout of 1 s" } else { "exit code 3" }), "{text}");
                }
                let mut started = started.map(|started| started.status.success());
                if name == "startContainer" {
                    // runc doesn't wait for these; we do.
                    assert!(started == Some(false) || runtime.name == "runc");
                    started = None;
                }
                if started == Some(false) {
                    eventually("its end", || ["stopped", "none"].contains(&runtime.status("c").as_str()));
                }
                let deleted = runtime.run(&["delete", "--force", "c"]).status.success();
                (name, created.status.success(), after_create, started, deleted, runtime.status("c"))
            };
            if name == "poststart" {
                // runc before 1.2 runs these in the create already.
                let (_, created, _, started, ..) = observe(&Runtime::all(&world)[0]);
                assert_eq!((created, started), (true, Some(false)));
            } else {
                alike(&world, observe);
            }
        }
    }
    // One that isn't there is found before anything is made.
    let bundle = bundle.with(|config| config["hooks"] = json!({"createRuntime": [{"path": "/none/such"}]}));
    let error = world.fails(1, ["create", "-b", bundle.dir(), "c"]);
    assert!(error.contains("hooks.createRuntime") && error.contains("/none/such"), "{error}");
}
