//! For build scripts: builds a program of the workspace for `include_bytes!`, so that another carries it inside.
//!
//! It is a cargo of its own with its own target directory, so that it waits for no lock of the outer one, and with the variables of
//! the outer one taken away, so that the workspace's configuration (static linking) and the release profile hold whatever the outer
//! build is: `cargo test` and `cargo clippy` measure with the same program as a release.

use flate2::Compression;
use flate2::write::DeflateEncoder;
use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a user's environment says about where crates come from holds for the inner cargo too.
const KEPT: [&str; 6] = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_", "CARGO_SOURCE_"];
const TAKEN: [&str; 5] = ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "MAKEFLAGS", "CLIPPY_ARGS"];

/// Builds the program of the package of this name, and tells the compiler by the environment variable `told` where it is, deflated (RFC 1951):
/// no such program is wanted by a start.
///
/// # Panics
/// It can't be built: then neither can what carries it.
pub fn program(package: &str, profile: &str, told: &str) {
    let program = build(package, profile);
    let deflated = program.with_extension("deflate");
    let done = std::fs::read(&program).and_then(|content| deflate(&content, &deflated));
    done.unwrap_or_else(|error| panic!("the program '{package}' could not be compressed: {error}"));
    println!("cargo::rustc-env={told}={}", deflated.display());
}

fn deflate(content: &[u8], to: &Path) -> std::io::Result<()> {
    let mut encoder = DeflateEncoder::new(std::fs::File::create(to)?, Compression::best());
    encoder.write_all(content)?;
    encoder.finish()?;
    Ok(())
}

fn build(package: &str, profile: &str) -> PathBuf {
    let workspace = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("../..");
    let target = variable("TARGET");
    let out = PathBuf::from(variable("OUT_DIR")).join(package);
    let own = ["src", "Cargo.toml"].map(|part| format!("crates/{package}/{part}"));
    for path in own.iter().map(String::as_str).chain(["Cargo.toml", "Cargo.lock", ".cargo/config.toml"]) {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    let mut cargo = Command::new(variable("CARGO"));
    cargo.args(["build", "--package", package, "--profile", profile, "--target", &target, "--target-dir"]).arg(&out);
    cargo.current_dir(&workspace);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let cargos = text.starts_with("CARGO_") && !KEPT.iter().any(|kept| text.starts_with(kept));
        if cargos || TAKEN.contains(&&*text) {
            cargo.env_remove(name);
        }
    }
    let status = cargo.status().unwrap_or_else(|error| panic!("cargo could not be started: {error}"));
    assert!(status.success(), "the program '{package}' could not be built ({status}); its errors stand above");
    out.join(target).join(profile).join(package)
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set: this runs under cargo only"))
}
