//! Configurations that are wrong in every way a file can be: each field of a full one removed, mistyped and oversized, files that
//! aren't configurations, places that aren't bundles. Whatever it is: one line that names it and exit code 1, or a container that
//! works; never a panic, never anything left behind.

#[path = "robustness/configs.rs"]
mod configs;
mod support;
#[path = "support/traces.rs"]
mod traces;

use configs::{Step, at, name_of, walk};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use support::bundle::Bundle;
use support::{World, stderr, told};
use traces::run;

/// Longest message that still is one line to a reader; a path alone may have 4095 bytes.
const LONGEST_LINE: usize = 4600;

/// A failure as it must be; its line.
#[track_caller]
fn one_line(output: &Output, about: &str) -> String {
    let text = stderr(output).to_owned();
    assert_eq!(output.status.code(), Some(1), "{about}: {}", told(output));
    assert!(text.starts_with("insula: ") && text.ends_with('\n') && text.lines().count() == 1, "{about}: not one line: {text:?}");
    assert!(!text.trim_end().contains(|c: char| c.is_control()), "{about}: control characters: {text:?}");
    assert!(text.len() <= LONGEST_LINE, "{about}: {} bytes: {}…", text.len(), text.chars().take(200).collect::<String>());
    text
}

/// Says what was being tried when a test fails in the middle of it.
struct Trying<'t>(&'t str);

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("while trying {}", self.0);
        }
    }
}

/// What came of a configuration.
enum Outcome {
    /// A container was made, started and removed.
    Works,
    Refused(String),
}

/// Creates, starts and removes a container of this configuration.
#[track_caller]
fn outcome(world: &World, bundle: &Bundle, id: &str, about: &str) -> Outcome {
    let _trying = Trying(about);
    let made = run(world, ["create", "--bundle", bundle.dir(), id]);
    if !made.status.success() {
        return Outcome::Refused(one_line(&made, about));
    }
    let started = run(world, ["start", id]);
    let removed = run(world, ["delete", "--force", id]);
    assert!(removed.status.success(), "{about}: delete: {}", told(&removed));
    if started.status.success() { Outcome::Works } else { Outcome::Refused(one_line(&started, about)) }
}

/// A value instead of another, and whether it can be right there.
struct Instead {
    what: String,
    value: Value,
    wrong: bool,
}

/// Other types: those that a lenient parser could mistake for this one, and null, which is how many programs write "absent".
fn mistyped(value: &Value) -> Vec<Instead> {
    let others = match value {
        Value::String(_) => vec![json!(7), json!(["text"]), json!({}), json!(null)],
        Value::Number(_) => vec![json!("7"), json!(1.5), json!([]), json!(null)],
        Value::Bool(_) => vec![json!("true"), json!(1), json!(null)],
        Value::Array(_) => vec![json!("text"), json!({}), json!([null]), json!(null)],
        _ => vec![json!("text"), json!([]), json!([null]), json!(null)],
    };
    others.into_iter().map(|value| Instead { what: format!("{value} instead"), wrong: !value.is_null(), value }).collect()
}

/// The same type, but nothing anybody means.
fn oversized(value: &Value) -> Vec<Instead> {
    let may = |what: &str, value| Instead { what: what.to_owned(), value, wrong: false };
    match value {
        Value::String(_) => vec![
            may("an empty string", json!("")),
            may("a path of a megabyte", json!("/a".repeat(1 << 19))),
            may("a NUL byte", json!("/a\0b")),
            may("control characters", json!("/ä\u{202e}\n\r\u{1b}[31mb\u{9b}1m")),
        ],
        Value::Number(_) => [json!(-1), json!(0), json!(u64::MAX), json!(u32::MAX), json!(1e30)]
            .map(|number| may(&number.to_string(), number))
            .into(),
        Value::Array(list) => {
            let first = list.first().cloned().unwrap_or(json!("x"));
            let length = if first.is_object() { 10_000 } else { 100_000 };
            vec![may("a long array", json!(vec![&first; length])), may("an entry twice", json!([first, first]))]
        }
        Value::Object(map) => {
            let first = map.values().next().cloned().unwrap_or(json!("x"));
            let many = (0..100).map(|n| (format!("key{n}"), first.clone()));
            vec![may("unknown fields", many.chain(map.clone()).collect())]
        }
        _ => vec![],
    }
}

/// Fields the specification requires, by the keys on the way to them.
fn required(name: &str) -> bool {
    configs::REQUIRED.contains(&name)
}

/// Every field below these keys of a configuration, changed in every way.
fn every_field(name: &str, full: impl FnOnce(&str) -> Value, below: &[&str]) {
    let Some(world) = &World::new() else { return };
    let id = traces::id(world, name);
    let full = full(&id);
    // Who is root only in a user namespace must find the way to the bundle.
    std::fs::set_permissions(world.path(""), std::fs::Permissions::from_mode(0o755)).unwrap();
    let bundle = Bundle::new(world, name, &["true"]).with(|config| configs::merge(config, full));
    let base = bundle.config.clone();
    if let Outcome::Refused(why) = outcome(world, &bundle, &id, "the full configuration") {
        panic!("the full configuration must work: {why}");
    }
    let mut steps = Vec::new();
    walk(&base, &mut Vec::new(), &mut steps);
    let mut wrong = Vec::new();
    let below = |path: &&Vec<Step>| matches!(&path[0], Step::Key(key) if below.contains(&key.as_str()));
    for path in steps.iter().filter(below) {
        let field = name_of(path);
        let needed = configs::NEEDED_HERE.contains(&field.as_str());
        let mut try_one = |what: &str, config: Value, must_fail: bool, must_work: bool| {
            let bundle = Bundle { path: bundle.path.clone(), config };
            bundle.write();
            let about = format!("{field}: {what}");
            match outcome(world, &bundle, &id, &about) {
                Outcome::Works if must_fail => wrong.push(format!("{about}: accepted")),
                Outcome::Refused(why) if must_work => wrong.push(format!("{about}: refused: {why}")),
                // Without one field it may be another that has become wrong.
                Outcome::Refused(why) if (must_fail || !needed && what != "removed") && !configs::names(&why, path) => {
                    wrong.push(format!("{about}: not named: {why}"))
                }
                _ => {}
            }
        };
        let mut removed = base.clone();
        configs::remove(&mut removed, path);
        let is_entry = matches!(path.last(), Some(Step::Entry(_)));
        try_one(
            "removed",
            removed,
            required(&field),
            !required(&field) && !is_entry && !configs::NEEDED_HERE.contains(&field.as_str()),
        );
        let value = at(&base, path).clone();
        for instead in mistyped(&value).into_iter().chain(oversized(&value)) {
            let mut changed = base.clone();
            *configs::at_mut(&mut changed, path) = instead.value;
            try_one(&instead.what, changed, instead.wrong, false);
        }
        traces::assert_none(world, &field);
    }
    assert!(wrong.is_empty(), "{} of the changes:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_field_of_the_process() {
    every_field("process", configs::full, &["ociVersion", "process", "root", "hostname", "domainname", "annotations"]);
}

#[test]
fn every_hook_and_mount() {
    every_field("hooks", configs::full, &["hooks", "mounts"]);
}

#[test]
fn every_field_of_linux() {
    every_field("linux", configs::full, &["linux"]);
}

#[test]
fn every_field_of_a_user_namespace() {
    every_field("userns", |_| configs::user_namespace(), &["linux"]);
}
