//! podman and buildah with our program as their runtime.

mod support;

use std::process::{Command, Output};
use support::client::{busybox_archive, installed, text};
use support::pty::Terminal;
use support::{World, eventually, output, stderr, stdout, told};

/// Storage of our own, with busybox as the image `base`.
struct Podman<'w> {
    world: &'w World,
}

impl<'w> Podman<'w> {
    fn new(world: &'w World) -> Option<Podman<'w>> {
        if !installed(&["podman", "conmon", "busybox", "unshare"]) {
            return None;
        }
        // Left alone, it raises these, which not every host's root may. Nothing here has a network but its own loopback.
        let config = "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\nnetns = \"none\"\n[engine]\nevents_logger = \"file\"\n";
        world.file("containers.conf", config);
        let podman = Podman { world };
        podman.ok(&["import", &text(busybox_archive(world)), "base"]);
        Some(podman)
    }

    fn command(&self, program: &str, words: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command
            .args(["--net", program])
            .args(self.options())
            .args(words)
            .env("CONTAINERS_CONF", self.world.path("containers.conf"));
        command.current_dir(self.world.path(""));
        command
    }

    fn options(&self) -> Vec<String> {
        let path = |name: &str| text(self.world.path(name));
        ["--root", &path("data"), "--runroot", &path("run"), "--storage-driver", "overlay", "--cgroup-manager", "cgroupfs"]
            .map(str::to_owned)
            .to_vec()
    }

    fn call(&self, words: &[&str]) -> Output {
        let ours = ["--runtime", env!("CARGO_BIN_EXE_insula")];
        output(&mut self.command("podman", &[&ours, words].concat()))
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let output = self.call(words);
        assert!(output.status.success(), "podman {words:?}: {}", told(&output));
        stdout(&output).trim_end().to_owned()
    }

    fn tells(&self, name: &str, what: &str) -> String {
        self.ok(&["inspect", "--format", what, name])
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        self.call(&["pod", "rm", "--all", "--force"]);
        self.call(&["rm", "--all", "--force", "--time", "0"]);
        // Its storage keeps itself mounted.
        let _ = output(Command::new("umount").arg(self.world.path("data").join("overlay")));
    }
}

#[test]
fn containers_live_and_end() {
    let Some(world) = World::new() else { return };
    let Some(podman) = Podman::new(&world) else { return };
    assert_eq!(podman.ok(&["run", "--rm", "base", "echo", "hello"]), "hello");
    for (program, code) in [(&["sh", "-c", "exit 7"][..], 7), (&["nosuch"], 127), (&["/no/such"], 127), (&["/etc/passwd"], 126)] {
        let ended = podman.call(&[&["run", "--rm", "base"], program].concat());
        assert_eq!(ended.status.code(), Some(code), "{program:?}: {}", told(&ended));
    }
    assert_eq!(podman.ok(&["run", "--rm", "--user", "1000:1001", "base", "sh", "-c", "echo $(id -u):$(id -g)"]), "1000:1001");
    let waits = "trap 'exit 3' TERM; while :; do sleep 0.1; done";
    podman.ok(&["run", "--detach", "--name", "web", "--memory", "64m", "--pids-limit", "40", "base", "sh", "-c", waits]);
    assert_eq!(podman.ok(&["exec", "web", "echo", "added"]), "added");
    assert_eq!(podman.call(&["exec", "web", "sh", "-c", "exit 9"]).status.code(), Some(9));
    let missing = podman.call(&["exec", "web", "nosuch"]);
    assert_eq!(missing.status.code(), Some(127), "{}", told(&missing));
    let used = podman.ok(&["stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}}", "web"]);
    assert!(used.starts_with(['1', '2']) && used.contains("/ 67.11MB"), "{used}");
    assert!(podman.ok(&["top", "web"]).contains("sh -c"));
    podman.ok(&["pause", "web"]);
    assert_eq!(podman.tells("web", "{{.State.Status}}"), "paused");
    podman.ok(&["unpause", "web"]);
    podman.ok(&["restart", "--time", "100", "web"]);
    assert_eq!(podman.tells("web", "{{.State.Status}}"), "running");
    podman.ok(&["stop", "--time", "100", "web"]);
    assert_eq!(podman.tells("web", "{{.State.Status}} {{.State.ExitCode}}"), "exited 3");
    podman.ok(&["start", "web"]);
    podman.ok(&["kill", "web"]);
    assert_eq!(podman.ok(&["wait", "web"]), "137");
    let mut terminal = Terminal::new(&world);
    let line = format!(
        "CONTAINERS_CONF={} unshare --net podman {} --runtime {} run --rm -it base sh -c 'tty; stty size'",
        text(world.path("containers.conf")),
        podman.options().join(" "),
        env!("CARGO_BIN_EXE_insula")
    );
    let seen = terminal.command(&line);
    assert!(seen.contains("/dev/pts/0") && seen.contains("24 80"), "{seen}");
    terminal.exit();
    podman.ok(&["rm", "web"]);
}

#[test]
fn pods_share_namespaces() {
    let Some(world) = World::new() else { return };
    let Some(podman) = Podman::new(&world) else { return };
    podman.ok(&["pod", "create", "--name", "pod", "--network", "none"]);
    for name in ["one", "two"] {
        podman.ok(&["run", "--detach", "--pod", "pod", "--name", name, "base", "sleep", "1000"]);
    }
    let spaces =
        |name: &str| podman.ok(&["exec", name, "sh", "-c", "for kind in net ipc uts; do readlink /proc/self/ns/$kind; done"]);
    assert_eq!(spaces("one"), spaces("two"));
    podman.ok(&["pod", "stop", "--time", "0", "pod"]);
    podman.ok(&["pod", "rm", "pod"]);
    // The same from a description as Kubernetes has it.
    let play = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: played\nspec:\n  hostNetwork: false\n  containers:\n  - name: main\n    \
        image: localhost/base:latest\n    imagePullPolicy: Never\n    command: [\"sh\", \"-c\", \"echo played; sleep 1000\"]\n    resources:\n      \
        limits:\n        memory: 64Mi\n";
    let file = text(world.file("pod.yaml", play));
    podman.ok(&["play", "kube", "--network", "none", &file]);
    eventually("it runs", || podman.ok(&["logs", "played-main"]) == "played");
    podman.ok(&["play", "kube", "--down", &file]);
    assert_eq!(podman.ok(&["ps", "--all", "--quiet"]), "");
}

#[test]
fn buildah_builds() {
    let Some(world) = World::new() else { return };
    let Some(podman) = Podman::new(&world).filter(|_| installed(&["buildah"])) else { return };
    let context = world.directory("context");
    world.file("context/file", "copied\n");
    world.file(
        "context/Dockerfile",
        "FROM localhost/base\nWORKDIR /srv\nCOPY file .\nRUN cat file > made && echo ran >> made\nUSER 1000\nCMD [\"sh\", \"-c\", \"id -u; cat made\"]\n",
    );
    let ours = env!("CARGO_BIN_EXE_insula");
    let ok = |words: &[&str]| {
        let output = output(&mut podman.command("buildah", words));
        assert!(output.status.success(), "buildah {words:?}: {}", told(&output));
        stdout(&output).trim_end().to_owned()
    };
    let limits = support::client::ULIMITS;
    let build = ["build", "--runtime", ours, "--network", "none", "--pull-never", "--tag", "built"];
    ok(&[&build[..], &limits, &[&text(context)]].concat());
    assert_eq!(podman.ok(&["run", "--rm", "built"]), "1000\ncopied\nran");
    let container = ok(&["from", "--pull-never", "localhost/base"]);
    assert_eq!(ok(&["run", "--runtime", ours, "--network", "none", &container, "echo", "hello"]), "hello");
    let failed = output(
        &mut podman.command("buildah", &["run", "--runtime", ours, "--network", "none", &container, "sh", "-c", "exit 5"]),
    );
    assert_eq!(failed.status.code(), Some(5), "{}", stderr(&failed));
    ok(&["rm", &container]);
}
