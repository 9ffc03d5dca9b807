//! The project's own chores, in `.ci`, as a machine meets them.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Stand-ins for what isn't to be done to the machine that runs the tests: they say what was asked of them, and know no package `nonesuch`.
const STANDINS: [(&str, &str); 4] = [
    ("dpkg-query", "exit 1"),
    ("id", "echo 0"),
    ("apt-get", r#"echo "$*" >> "$ASKED"; case "$*" in *install*nonesuch*) exit 100 ;; esac"#),
    ("apt-cache", r#"[ "$2" != nonesuch ]"#),
];

#[test]
fn a_package_that_is_unknown_keeps_no_other_from_being_installed() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chores-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    for (name, script) in STANDINS {
        let file = dir.join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let asked = dir.join("asked");
    let chore = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.ci/packages");
    let path = format!("{}:/usr/bin:/bin", dir.display());
    let run = |packages: &[&str]| {
        std::fs::write(&asked, "").unwrap();
        let output = Command::new(&chore).args(packages).env("PATH", &path).env("ASKED", &asked).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let installed = std::fs::read_to_string(&asked).unwrap().lines().last().unwrap_or_default().to_owned();
        (installed, String::from_utf8(output.stderr).unwrap())
    };
    let (installed, said) = run(&["one", "nonesuch", "two"]);
    assert!(installed.ends_with(" one two"), "{installed}");
    assert_eq!(said, "not installed: nonesuch (this host's package sources don't have it)\n");
    let (installed, said) = run(&["one", "two"]);
    assert!(installed.ends_with(" one two") && said.is_empty(), "{installed} {said}");
    assert_eq!(run(&["nonesuch"]).0, "update -qq", "there is nothing to install");
    std::fs::remove_dir_all(&dir).unwrap();
}
