//! containerd with our program as the runtime of its shim, asked through ctr.

mod support;

use std::path::PathBuf;
use std::process::{Command, Output};
use support::client::{Daemon, busybox, groups_below, installed, remove_groups, text, unique_name};
use support::pty::Terminal;
use support::{World, eventually, output, stdout, told};

/// A daemon of our own, and a root for containers.
struct Containerd {
    socket: String,
    root: PathBuf,
    /// Containers of a name are apart in it; their groups are below one of its name.
    namespace: String,
    /// What the runtime keeps.
    store: String,
    _daemon: Daemon,
}

impl Containerd {
    fn start(world: &World) -> Option<Containerd> {
        if !installed(&["containerd", "ctr", "busybox"]) {
            return None;
        }
        let path = |name: &str| text(world.path(name));
        let socket = path("containerd.sock");
        let config = format!(
            "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{socket}\"\n",
            path("data"),
            path("state")
        );
        let config = world.file("containerd.toml", &config);
        let mut daemon = Daemon::start(world, &["containerd", "--config", &text(config)]);
        daemon.until(|| output(Command::new("ctr").args(["--address", &socket, "version"])).status.success());
        let (namespace, store) = (format!("insula-{}", unique_name(world)), path("store"));
        Some(Containerd { socket, root: busybox(world), namespace, store, _daemon: daemon })
    }

    fn call(&self, words: &[&str]) -> Output {
        output(Command::new("ctr").args(["--address", &self.socket, "--namespace", &self.namespace]).args(words))
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let output = self.call(words);
        assert!(output.status.success(), "ctr {words:?}: {}", told(&output));
        stdout(&output).trim_end().to_owned()
    }

    /// The words that run a program in a new container.
    fn run<'w>(&'w self, options: &[&'w str], id: &'w str, program: &[&'w str]) -> Vec<&'w str> {
        let store = ["--runc-root", &self.store];
        let ours = ["--runc-binary", env!("CARGO_BIN_EXE_insula"), "--rootfs", self.root.to_str().unwrap()];
        [&["run"], options, &store, &ours, &[id], program].concat()
    }

    /// The same, for a terminal.
    fn line(&self, words: &str) -> String {
        format!("ctr --address {} --namespace {} {words}", self.socket, self.namespace)
    }

    /// Whether a container's task is in this state.
    fn is(&self, id: &str, status: &str) -> bool {
        self.ok(&["task", "list"]).lines().any(|line| line.starts_with(id) && line.ends_with(status))
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for id in stdout(&self.call(&["task", "list", "--quiet"])).lines() {
            self.call(&["task", "delete", "--force", id]);
        }
        for id in stdout(&self.call(&["container", "list", "--quiet"])).lines() {
            self.call(&["container", "delete", id]);
        }
        remove_groups(&self.namespace);
    }
}

#[test]
fn tasks_live_and_end() {
    let Some(world) = World::new() else { return };
    let Some(containerd) = Containerd::start(&world) else { return };
    assert_eq!(containerd.ok(&containerd.run(&["--rm"], "one", &["/bin/echo", "hello"])), "hello");
    assert_eq!(containerd.call(&containerd.run(&["--rm"], "two", &["/bin/sh", "-c", "exit 7"])).status.code(), Some(7));
    let missing = containerd.call(&containerd.run(&["--rm"], "none", &["/no/such"]));
    assert!(!missing.status.success() && told(&missing).contains("no such file or directory"), "{}", told(&missing));
    containerd.ok(&containerd.run(&["--detach"], "web", &["/bin/sleep", "1000"]));
    assert!(containerd.is("web", "RUNNING"));
    assert_eq!(containerd.ok(&["task", "exec", "--exec-id", "added", "web", "/bin/echo", "added"]), "added");
    assert_eq!(containerd.ok(&["task", "ps", "web"]).lines().count(), 2);
    let counted = containerd.ok(&["task", "metrics", "web"]);
    assert!(counted.contains("memory.usage_in_bytes") || counted.contains("memory.usage"), "{counted}");
    containerd.ok(&["task", "pause", "web"]);
    assert!(containerd.is("web", "PAUSED"));
    containerd.ok(&["task", "resume", "web"]);
    assert!(containerd.is("web", "RUNNING"));
    containerd.ok(&["task", "kill", "--signal", "KILL", "web"]);
    eventually("it is stopped", || containerd.is("web", "STOPPED"));
    assert_eq!(containerd.call(&["task", "delete", "web"]).status.code(), Some(0));
    containerd.ok(&["container", "delete", "web"]);
    assert_eq!(groups_below(&containerd.namespace), Vec::<String>::new());
}

#[test]
fn tasks_have_terminals() {
    let Some(world) = World::new() else { return };
    let Some(containerd) = Containerd::start(&world) else { return };
    let mut terminal = Terminal::new(&world);
    let words = containerd.run(&["--rm", "--tty"], "one", &["/bin/tty"]).join(" ");
    let seen = terminal.command(&containerd.line(&words));
    assert!(seen.contains("/dev/pts/0"), "{seen}");
    containerd.ok(&containerd.run(&["--detach"], "web", &["/bin/sleep", "1000"]));
    let seen = terminal.command(&containerd.line("task exec --tty --exec-id e web /bin/tty"));
    assert!(seen.contains("/dev/pts/0"), "{seen}");
    terminal.exit();
}
