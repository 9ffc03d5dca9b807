//! What is told of the system calls that the boundary sentry supports.

mod support;

use std::path::Path;
use std::process::Command;
use support::{output, read, stdout, told};

#[test]
fn the_documentation_lists_what_is_supported() {
    let made = output(Command::new(env!("CARGO_BIN_EXE_insula")).args(["debug", "syscalls", "--format", "markdown"]));
    assert!(made.status.success(), "{}", told(&made));
    let kept = read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/syscalls.md"));
    assert_eq!(stdout(&made), kept, "docs/syscalls.md is old: write it anew with `insula debug syscalls --format markdown`");
}
