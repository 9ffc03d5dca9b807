//! The OCI runtime specification 1.2 for Linux: what it says with MUST, or requires, one check each, named by its section.
//!
//! `INSULA_CONFORMANCE_RUNTIME=runc cargo test -p insula --test conformance` checks another runtime; without, it is ours. What fails is
//! listed whole, not only the first.

mod support;

#[path = "conformance/config.rs"]
mod config;
#[path = "conformance/lifecycle.rs"]
mod lifecycle;
#[path = "conformance/linux.rs"]
mod linux;
#[path = "conformance/notify.rs"]
mod notify;
#[path = "conformance/resources.rs"]
mod resources;

use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use support::bundle::Bundle;
use support::{World, ended, eventually, stdout, told};

/// The runtime that is checked, what it keeps, and what it has failed so far.
struct Suite {
    world: World,
    command: Vec<String>,
    failures: Vec<String>,
    count: usize,
}

impl Suite {
    fn new() -> Option<Suite> {
        let world = World::new()?;
        let command = match std::env::var("INSULA_CONFORMANCE_RUNTIME") {
            Ok(runtime) if !runtime.is_empty() => {
                vec![runtime, "--root".into(), world.path("state").to_str().unwrap().into()]
            }
            _ => world.words(),
        };
        Some(Suite { world, command, failures: Vec::new(), count: 0 })
    }

    /// Calls it; what it starts holds only files.
    fn call(&self, args: &[&str]) -> Output {
        let files = ["out", "err"].map(|name| self.world.path(name));
        let [out, err] = files.each_ref().map(|path| std::fs::File::create(path).unwrap());
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).args(args).current_dir(self.world.path("")).stdin(Stdio::null());
        let status = ended(&mut command.stdout(out).stderr(err).spawn().unwrap());
        let [stdout, stderr] = files.map(|path| std::fs::read(path).unwrap());
        Output { status, stdout, stderr }
    }

    fn status(&self, id: &str) -> String {
        let output = self.call(&["state", id]);
        let state: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        state["status"].as_str().unwrap_or("none").to_owned()
    }

    /// A name that nothing else has: groups are named after it.
    fn id(&self) -> String {
        let world = self.world.path("");
        let world = world.file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_owned();
        format!("conformance{}{world}", self.count)
    }

    fn bundle(&mut self, script: &str, change: impl FnOnce(&mut Value)) -> (Bundle, String) {
        self.count += 1;
        let name = format!("bundle{}", self.count);
        (Bundle::script(&self.world, &name, script).with(change), self.id())
    }

    /// Takes note of a requirement that isn't met.
    fn note(&mut self, section: &str, must: &str, met: Result<(), String>) {
        if let Err(how) = met {
            self.failures.push(format!("{section}: {must}\n    {how}"));
        }
    }

    /// A script in a container with this change must print this.
    fn prints(&mut self, section: &str, must: &str, change: impl FnOnce(&mut Value), script: &str, wanted: &str) {
        let (bundle, id) = self.bundle(script, change);
        let output = self.call(&["run", "--bundle", bundle.dir(), &id]);
        let met = stdout(&output).trim_end() == wanted;
        self.note(section, must, if met { Ok(()) } else { Err(format!("wanted {wanted:?}, but {}", told(&output))) });
        self.call(&["delete", "--force", &id]);
    }

    /// A script in a container with this change must print this, and the runtime say these words. `through` is what it is started by.
    fn warns(
        &mut self,
        [section, must]: [&str; 2],
        through: &[&str],
        change: impl FnOnce(&mut Value),
        wanted: &str,
        words: &[&str],
    ) {
        let (bundle, id) = self.bundle("echo ran", change);
        let command = [through.iter().map(|word| (*word).to_owned()).collect(), self.command.clone()].concat();
        let own = std::mem::replace(&mut self.command, command);
        let output = self.call(&["run", "--bundle", bundle.dir(), &id]);
        self.command = own;
        let said = String::from_utf8_lossy(&output.stderr);
        let met = stdout(&output).trim_end() == wanted && words.iter().all(|word| said.contains(word));
        self.note(section, must, if met { Ok(()) } else { Err(format!("wanted {words:?} to be said, but {}", told(&output))) });
        self.call(&["delete", "--force", &id]);
    }

    /// A configuration with this change must be an error, and leave nothing.
    fn refuses(&mut self, section: &str, must: &str, change: impl FnOnce(&mut Value)) {
        let (bundle, id) = self.bundle("true", change);
        let output = self.call(&["create", "--bundle", bundle.dir(), &id]);
        let met = match (output.status.success(), self.status(&id).as_str()) {
            (true, _) => Err("it was accepted".to_owned()),
            (false, "none") => Ok(()),
            (false, status) => Err(format!("the container is {status}")),
        };
        self.note(section, must, met);
        self.call(&["delete", "--force", &id]);
    }

    /// What is checked by hand.
    fn holds(&mut self, section: &str, must: &str, so: bool) {
        self.note(section, must, if so { Ok(()) } else { Err("it isn't so".into()) });
    }

    fn until(&self, id: &str, status: &str) {
        eventually(&format!("{id} is {status}"), || self.status(id) == status);
    }

    /// Where something lies in the world.
    fn path(&self, name: &str) -> PathBuf {
        self.world.path(name)
    }

    #[track_caller]
    fn end(self) {
        assert!(
            self.failures.is_empty(),
            "{} of the requirements aren't met:\n{}",
            self.failures.len(),
            self.failures.join("\n")
        );
    }
}
