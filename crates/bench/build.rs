//! Builds the program `workload` for [`include_bytes!`]: the shipped program carries it inside.
//!
//! It is a cargo of its own with its own target directory, so that it waits for no lock of the outer one, and with the variables of
//! the outer one taken away, so that the workspace's configuration (static linking) and the release profile hold whatever the outer
//! build is: `cargo test` and `cargo clippy` measure with the same program as a release.

use std::env;
use std::path::PathBuf;
use std::process::Command;

/// What a user's environment says about where crates come from holds for the inner cargo too.
const KEPT: [&str; 6] = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_", "CARGO_SOURCE_"];
const TAKEN: [&str; 5] = ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "MAKEFLAGS", "CLIPPY_ARGS"];

fn main() {
    let workspace = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("../..");
    let target = variable("TARGET");
    let out = PathBuf::from(variable("OUT_DIR")).join("workload");
    for path in ["crates/workload/src", "crates/workload/Cargo.toml", "Cargo.toml", "Cargo.lock", ".cargo/config.toml"] {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .args(["build", "--package", "workload", "--profile", "workload", "--target", &target, "--target-dir"])
        .arg(&out)
        .current_dir(&workspace);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let cargos = text.starts_with("CARGO_") && !KEPT.iter().any(|kept| text.starts_with(kept));
        if cargos || TAKEN.contains(&&*text) {
            cargo.env_remove(name);
        }
    }
    let status = cargo.status().unwrap_or_else(|error| panic!("cargo could not be started: {error}"));
    assert!(status.success(), "the program 'workload' could not be built ({status}); its errors stand above");
    println!("cargo::rustc-env=WORKLOAD={}", out.join(target).join("workload/workload").display());
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set: this runs under cargo only"))
}
