//! `run --keep` and `diff`: what a program wrote, kept and told apart from the host's files, which stay as they are.

mod support;

use serde_json::Value;
use std::collections::BTreeMap;
use support::{World, output, read, stdout, told};

/// The changes below a directory, as `diff` prints them in text and in JSON, which must agree.
#[track_caller]
fn changes(world: &World, kept: &str, below: &str) -> BTreeMap<String, char> {
    let text = world.ok(["diff", kept]);
    let lines = text.lines().map(|line| (line[2..].to_owned(), line.chars().next().unwrap()));
    let of_text: BTreeMap<String, char> = lines.collect();
    let json: Value = serde_json::from_str(&world.ok(["diff", "--format", "json", kept])).unwrap();
    let entry =
        |entry: &Value| (entry["path"].as_str().unwrap().to_owned(), entry["change"].as_str().unwrap().chars().next().unwrap());
    let of_json: BTreeMap<String, char> = json.as_array().unwrap().iter().map(entry).collect();
    assert_eq!(of_text, of_json);
    let inside = |path: &str| path.strip_prefix(below).map(|rest| rest.trim_start_matches('/').to_owned());
    of_text.iter().filter_map(|(path, kind)| Some((inside(path)?, *kind))).collect()
}

fn is(list: &[(&str, char)]) -> BTreeMap<String, char> {
    list.iter().map(|(path, kind)| ((*path).to_owned(), *kind)).collect()
}

#[test]
fn what_is_added_changed_and_deleted() {
    let Some(world) = World::new() else { return };
    let here = world.directory("work");
    for (name, content) in [("changed", "before"), ("deleted", "x"), ("same", "x"), ("mode", "x")] {
        std::fs::write(here.join(name), content).unwrap();
    }
    for dir in ["kept/below", "gone/below", "replaced"] {
        std::fs::create_dir_all(here.join(dir)).unwrap();
        std::fs::write(here.join(dir).join("file"), "x").unwrap();
    }
    let script = "echo after > changed; rm deleted; echo new > added; chmod 600 mode; cat same; mkdir -p deep/er; ln -s same link; \
        echo x > kept/below/new; rm -r gone; rm -r replaced; mkdir replaced; echo y > replaced/other; rm kept/below/file";
    let run = output(world.insula(["run", "--keep", "../out", "--", "sh", "-c", script]).current_dir(&here));
    assert!(run.status.success(), "{}", told(&run));
    let expected = is(&[
        ("added", 'A'),
        ("changed", 'C'),
        ("deep", 'A'),
        ("deep/er", 'A'),
        ("deleted", 'D'),
        ("gone", 'D'),
        ("kept/below/file", 'D'),
        ("kept/below/new", 'A'),
        ("link", 'A'),
        ("mode", 'C'),
        ("replaced", 'C'),
        ("replaced/other", 'A'),
    ]);
    assert_eq!(changes(&world, "out", here.to_str().unwrap()), expected);
    // The host's are as they were.
    assert_eq!(
        (read(here.join("changed")), here.join("deleted").exists(), here.join("added").exists()),
        ("before".into(), true, false)
    );
    // Another run finds what the first one wrote, and adds to it.
    let again = output(
        world
            .insula(["run", "--keep", "../out", "--", "sh", "-c", "cat changed added; test ! -e gone; rm added; echo 2 > second"])
            .current_dir(&here),
    );
    assert_eq!(stdout(&again), "after\nnew\n", "{}", told(&again));
    let mut expected = expected;
    expected.remove("added");
    expected.insert("second".into(), 'A');
    assert_eq!(changes(&world, "out", here.to_str().unwrap()), expected);
}

#[test]
fn only_what_is_the_hosts_is_kept() {
    let Some(world) = World::new() else { return };
    world.ok(["run", "--keep", "out", "--", "sh", "-c", "echo x > /etc/of-the-root-file-system; echo y > /usr/also"]);
    assert_eq!(changes(&world, "out", "/etc"), is(&[("of-the-root-file-system", 'A')]));
    assert_eq!(changes(&world, "out", "/usr"), is(&[("also", 'A')]));
    // What a container has of its own isn't the host's and isn't kept.
    world.ok(["run", "--keep", "other", "--", "sh", "-c", "echo x > /run/file; echo x > /dev/shm/file"]);
    assert_eq!(world.ok(["diff", "other"]), "");
}

#[test]
fn names_of_files_are_anything() {
    let Some(world) = World::new() else { return };
    let script = r#"printf x > "$(printf 'esc\033[2Jape')"; printf x > "$(printf 'not\377text')"; printf x > 'a b'"#;
    world.ok(["run", "--keep", "out", "--", "sh", "-c", script]);
    let text = world.ok(["diff", "out"]);
    assert!(text.contains("esc\\u{1b}[2Jape\n") && !text.contains('\u{1b}') && text.contains("/a b\n"), "{text:?}");
    let json: Value = serde_json::from_str(&world.ok(["diff", "-f", "json", "out"])).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 3);
}

#[test]
fn what_is_no_such_directory_is_told() {
    let Some(world) = World::new() else { return };
    let error = world.fails(1, ["diff", "/none/such"]);
    assert!(error.contains("/none/such") && error.contains("--keep"), "{error}");
    world.directory("empty");
    let error = world.fails(1, ["diff", "empty"]);
    assert!(error.contains("empty") && error.contains("--keep"), "{error}");
    let file = world.file("file", "");
    let error = world.fails(125, ["run", "--keep", file.to_str().unwrap(), "--", "true"]);
    assert!(error.contains("--keep"), "{error}");
    // A program that can't be run leaves an empty one, which isn't wrong.
    world.fails(127, ["run", "--keep", "out", "--", "no-such-program"]);
    assert_eq!(world.ok(["diff", "out"]), "");
}
