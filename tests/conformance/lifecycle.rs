//! `runtime.md`: state, operations, errors. `config.md#posix-platform-hooks`: when hooks run, and what they are told.

use crate::Suite;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

#[test]
fn operations() {
    let Some(mut suite) = Suite::new() else { return };
    let (bundle, id) = suite.bundle("echo ran > /tmp/ran; exec sleep 1000", |config| {
        config["annotations"] = json!({"org.example.key": "value"});
    });
    let ran = bundle.inside("/tmp/ran");
    let fails = |suite: &Suite, args: &[&str]| !suite.call(args).status.success();
    for verb in ["state", "start", "kill", "delete"] {
        suite.holds("runtime.md#operations", "an operation without an ID is an error", fails(&suite, &[verb]));
        suite.holds("runtime.md#operations", "an ID of no container is an error", fails(&suite, &[verb, "conformance-none"]));
    }
    let create = ["create", "--bundle", bundle.dir(), &id];
    suite.holds("runtime.md#create", "create makes a container", !fails(&suite, &create));
    suite.holds("runtime.md#create", "an ID that is in use is an error", fails(&suite, &create));
    suite.holds("runtime.md#create", "the failed create has left the other as it was", suite.status(&id) == "created");
    suite.holds("runtime.md#lifecycle", "the program isn't run before start", !ran.exists());
    let state: Value = serde_json::from_slice(&suite.call(&["state", &id]).stdout).unwrap_or_default();
    suite.holds(
        "runtime.md#state",
        "ociVersion is a version",
        state["ociVersion"].as_str().is_some_and(|text| text.split('.').count() == 3),
    );
    suite.holds("runtime.md#state", "id is the container's", state["id"] == id.as_str());
    suite.holds("runtime.md#state", "status is created", state["status"] == "created");
    let pid = state["pid"].as_u64().unwrap_or(0);
    suite.holds(
        "runtime.md#state",
        "pid is a process of the host's",
        pid > 0 && std::path::Path::new(&format!("/proc/{pid}")).exists(),
    );
    suite.holds("runtime.md#state", "bundle is the absolute path", state["bundle"] == bundle.dir());
    suite.holds("runtime.md#state", "annotations are there", state["annotations"]["org.example.key"] == "value");
    suite.holds("runtime.md#delete", "delete of one that isn't stopped is an error", fails(&suite, &["delete", &id]));
    if suite.status(&id) != "created" {
        suite.call(&create);
    }
    let changed = bundle.with(|config| config["process"]["args"] = json!(["false"]));
    suite.holds("runtime.md#start", "start runs the program", !fails(&suite, &["start", &id]));
    support_until(&ran);
    suite.holds("runtime.md#lifecycle", "a later change of config.json has no effect", suite.status(&id) == "running");
    suite.holds("runtime.md#start", "start of one that isn't created is an error", fails(&suite, &["start", &id]));
    suite.holds("runtime.md#start", "and has no effect", suite.status(&id) == "running");
    suite.holds("runtime.md#delete", "delete of one that runs is an error", fails(&suite, &["delete", &id]));
    suite.holds("runtime.md#delete", "and has no effect", suite.status(&id) == "running");
    suite.holds("runtime.md#kill", "kill sends the signal", !fails(&suite, &["kill", &id, "KILL"]));
    suite.until(&id, "stopped");
    suite.holds("runtime.md#kill", "kill of one that is stopped is an error", fails(&suite, &["kill", &id, "KILL"]));
    suite.holds("runtime.md#start", "start of one that is stopped is an error", fails(&suite, &["start", &id]));
    suite.holds("runtime.md#delete", "delete removes it", !fails(&suite, &["delete", &id]) && suite.status(&id) == "none");
    suite.holds("runtime.md#delete", "what it didn't make is still there", ran.exists());
    suite.holds("runtime.md#delete", "the ID can be used again", !fails(&suite, &["create", "--bundle", changed.dir(), &id]));
    suite.call(&["delete", "--force", &id]);
    suite.end();
}

fn support_until(path: &std::path::Path) {
    crate::support::eventually("the program has run", || path.exists());
}

#[test]
fn hooks() {
    let Some(mut suite) = Suite::new() else { return };
    const POINTS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let (bundle, id) = suite.bundle("echo program >> /tmp/log; exec sleep 1000", |_| ());
    let log = bundle.inside("/tmp/log");
    let program = |path: &std::path::Path, log: &str, end: &str| {
        std::fs::write(path, format!("#!/bin/sh\nread state\necho \"$1 $VARIABLE $state\" >> {log}\n{end}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    program(&suite.path("hook"), log.to_str().unwrap(), "");
    program(&bundle.inside("/hook"), "/tmp/log", "");
    let outside = suite.path("hook");
    let bundle = bundle.with(|config| {
        for point in POINTS {
            let path = if point == "startContainer" { "/hook" } else { outside.to_str().unwrap() };
            let hook = |n: u32| json!({"path": path, "args": ["hook", format!("{point}{n}")], "env": ["VARIABLE=set", "PATH=/usr/bin:/bin"]});
            config["hooks"][point] = json!([hook(1), hook(2)]);
        }
    });
    suite.call(&["create", "--bundle", bundle.dir(), &id]);
    suite.call(&["start", &id]);
    crate::support::eventually("the program has run", || crate::support::read(&log).contains("program"));
    suite.call(&["kill", &id, "KILL"]);
    suite.until(&id, "stopped");
    suite.call(&["delete", &id]);
    let text = crate::support::read(&log);
    let order: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    let place = |name: &str| order.iter().position(|one| *one == name);
    for point in POINTS {
        let (one, two) = (place(&format!("{point}1")), place(&format!("{point}2")));
        let section = format!("config.md#{}", point.to_lowercase());
        suite.holds(&section, "each hook is called", one.is_some() && two.is_some());
        suite.holds("config.md#posix-platform-hooks", &format!("{point}: hooks are called in the listed order"), one < two);
        let line = text.lines().find(|line| line.starts_with(point)).unwrap_or_default();
        suite.holds(
            "config.md#posix-platform-hooks",
            &format!("{point}: the environment is the configured one"),
            line.contains(" set "),
        );
        let state = line.split_once('{').map(|(_, rest)| format!("{{{rest}")).unwrap_or_default();
        let state: Value = serde_json::from_str(&state).unwrap_or_default();
        suite.holds(
            "config.md#posix-platform-hooks",
            &format!("{point}: the state comes on the input"),
            state["id"] == id.as_str(),
        );
    }
    let pairs = [("createRuntime2", "createContainer1"), ("createContainer2", "startContainer1"), ("startContainer2", "program")];
    for (earlier, later) in pairs {
        suite.holds("runtime.md#lifecycle", &format!("{earlier} comes before {later}"), place(earlier) < place(later));
    }
    suite.holds("runtime.md#lifecycle", "poststop comes last", place("poststop2") == Some(order.len() - 1));
    program(&outside, "/dev/null", "exit 1");
    for point in ["prestart", "createRuntime", "createContainer"] {
        let path = outside.to_str().unwrap().to_owned();
        suite.refuses("runtime.md#lifecycle", &format!("a {point} hook that fails is an error"), |config| {
            config["hooks"] = json!({point: [{"path": path}]});
        });
    }
    suite.refuses("config.md#posix-platform-hooks", "a hook's path is absolute", |config| {
        config["hooks"] = json!({"createRuntime": [{"path": "hook"}]});
    });
    suite.refuses("config.md#posix-platform-hooks", "a hook's time-out is more than zero", |config| {
        config["hooks"] = json!({"createRuntime": [{"path": "/bin/true", "timeout": 0}]});
    });
    suite.end();
}
