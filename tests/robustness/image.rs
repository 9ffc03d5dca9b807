//! A root file system to be made hostile, with a directory of the host's beside it that must stay as it is.

use super::support::bundle::{Bundle, rootfs};
use super::support::{World, output, program};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// `root` and `host` lie side by side in the world's directory.
pub(crate) struct Image {
    pub(crate) root: PathBuf,
    /// Holds `marker`, in which is written "of the host".
    pub(crate) host: PathBuf,
    /// A bundle with this root.
    pub(crate) bundle: PathBuf,
    volumes: Vec<String>,
    insula: PathBuf,
}

impl Image {
    /// A good one; whatever an earlier one left is gone.
    pub(crate) fn new(world: &World) -> Image {
        let (root, host) = (world.path("root"), world.path("host"));
        for dir in [&root, &host] {
            let _ = std::fs::remove_dir_all(dir);
        }
        std::fs::create_dir_all(&host).unwrap();
        std::fs::write(host.join("marker"), "of the host\n").unwrap();
        let volumes = rootfs(&root).iter().map(|dir| format!("-v{dir}:{dir}:ro")).collect();
        Image { root, host, bundle: world.path("bundle"), volumes, insula: program() }
    }

    /// The options of `run` that make it the root.
    pub(crate) fn options<'o>(&'o self, more: &[&'o str]) -> Vec<&'o str> {
        let root = ["--rootfs", self.root.to_str().unwrap()];
        root.into_iter().chain(self.volumes.iter().map(String::as_str)).chain(more.iter().copied()).collect()
    }

    /// Runs a script in it.
    pub(crate) fn run(&self, options: &[&str], script: &str) -> Output {
        let command = Command::new(&self.insula);
        let store = self.root.with_file_name("store");
        let mut command = command;
        command.arg("--root").arg(store).arg("run").args(self.options(options)).args(["--", "sh", "-c", script]);
        output(command.stdin(std::process::Stdio::null()))
    }

    /// Writes a bundle that runs this in it.
    pub(crate) fn bundle_with(&self, world: &World, args: &[&str], change: impl FnOnce(&mut Value)) {
        let _ = std::fs::remove_dir_all(&self.bundle);
        Bundle::new(world, "bundle", args).with(|config| {
            config["root"]["path"] = self.root.to_str().unwrap().into();
            change(config);
        });
    }

    /// The program and its store, for a shell.
    pub(crate) fn insula(&self, world: &World) -> String {
        format!("{} --root {}", self.insula.display(), world.store().display())
    }

    /// Calls the program from a shell that has left the host's directory open, as number 9.
    pub(crate) fn with_descriptor(&self, world: &World, args: &[&str], verb: &str) -> Output {
        let line = script_of(&self.host, &format!("exec {} {verb} \"$@\"", self.insula(world)));
        output(Command::new("sh").args(["-c", &line, "sh"]).args(args).stdin(std::process::Stdio::null()))
    }
}

/// A script that has this directory open as number 9.
pub(crate) fn script_of(dir: &Path, script: &str) -> String {
    format!("exec 9< {}; {script}", dir.display())
}

/// All that is in a directory: names, content, and what kind of file on which mount.
pub(crate) fn listing(dir: &Path) -> BTreeMap<PathBuf, (u32, u64, String)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let stat = entry.metadata().unwrap();
        let text = if stat.is_file() { std::fs::read_to_string(entry.path()).unwrap_or_default() } else { String::new() };
        found.insert(entry.path(), (stat.mode(), stat.dev(), text));
    }
    found
}
