//! Our program and runc, side by side.

use super::{World, ended, eventually, stdout, told};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A runtime with runc's command line.
pub(crate) struct Runtime {
    pub(crate) name: &'static str,
    pub(crate) command: Vec<String>,
    dir: PathBuf,
    /// What `c` stands for in calls: groups of the same name in another test would be in the way.
    pub(crate) id: String,
}

impl Runtime {
    /// Ours, and runc if it is there.
    pub(crate) fn all(world: &World) -> Vec<Runtime> {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let ours = world.words();
        let control = vec!["runc".to_owned(), "--root".to_owned(), text(world.path("runc"))];
        let id = format!("c{}", world.path("").file_name().unwrap().to_str().unwrap().trim_start_matches('.'));
        let mut all = vec![Runtime { name: "insula", command: ours, dir: world.path(""), id: id.clone() }];
        if Command::new("runc").arg("--version").output().is_ok_and(|output| output.status.success()) {
            all.push(Runtime { name: "runc", command: control, dir: world.path(""), id });
        }
        all
    }

    pub(crate) fn call(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.command[0]);
        let args = args.iter().map(|arg| if *arg == "c" { &self.id } else { *arg });
        command.args(&self.command[1..]).args(args).current_dir(&self.dir).stdin(Stdio::null());
        command
    }

    /// Runs it; what it starts holds only files.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let (out, err) = (self.dir.join("out"), self.dir.join("err"));
        let file = |path: &Path| std::fs::File::create(path).unwrap();
        let status = ended(&mut self.call(args).stdout(file(&out)).stderr(file(&err)).spawn().unwrap());
        Output { status, stdout: std::fs::read(out).unwrap(), stderr: std::fs::read(err).unwrap() }
    }

    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{} {args:?}: {}", self.name, told(&output));
        stdout(&output).to_owned()
    }

    pub(crate) fn status(&self, id: &str) -> String {
        let output = self.run(&["state", id]);
        let state: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        state["status"].as_str().unwrap_or("none").to_owned()
    }

    #[track_caller]
    pub(crate) fn until(&self, id: &str, status: &str) {
        eventually(&format!("{id} is {status}"), || self.status(id) == status);
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let _ = self.run(&["delete", "--force", "c"]);
    }
}

/// What each runtime lets be seen; ours must be like the control's.
#[track_caller]
pub(crate) fn alike<T: PartialEq + std::fmt::Debug>(world: &World, observe: impl Fn(&Runtime) -> T) {
    let seen: Vec<(&str, T)> = Runtime::all(world).iter().map(|runtime| (runtime.name, observe(runtime))).collect();
    if let [(_, ours), (_, control)] = seen.as_slice() {
        assert_eq!(ours, control, "ours is left, runc's right");
    }
}
