//! Docker's daemon with our program as its runtime: what its users do with a container goes through our verbs.

mod support;

use std::process::{Command, Output};
use support::client::{Daemon, ULIMITS, busybox_archive, groups_below, installed, remove_groups, text, unique_name};
use support::pty::Terminal;
use support::{World, eventually, output, stderr, stdout, told};

/// A daemon of our own, with busybox as the image `base`.
struct Docker {
    socket: String,
    group: String,
    daemon: Daemon,
}

impl Docker {
    fn start(world: &World) -> Option<Docker> {
        if !installed(&["dockerd", "docker", "containerd", "busybox", "nsenter", "iptables"]) {
            return None;
        }
        let group = format!("insula-{}", unique_name(world));
        let path = |name: &str| text(world.path(name));
        let socket = format!("unix://{}", path("docker.sock"));
        let runtime = format!("insula={}", env!("CARGO_BIN_EXE_insula"));
        let mut daemon = Daemon::start(
            world,
            &[
                "dockerd",
                "--host",
                &socket,
                "--data-root",
                &path("data"),
                "--exec-root",
                &path("exec"),
                "--pidfile",
                &path("docker.pid"),
                "--config-file",
                &text(world.file("docker.json", "{}")),
                "--cgroup-parent",
                &format!("/{group}"),
                "--storage-driver",
                "overlay2",
                "--add-runtime",
                &runtime,
                "--default-runtime",
                "insula",
            ],
        );
        let answers = || output(Command::new("docker").args(["--host", &socket, "version"])).status.success();
        daemon.until(answers);
        let docker = Docker { socket, group, daemon };
        docker.ok(&["import", &text(busybox_archive(world)), "base"]);
        Some(docker)
    }

    fn call(&self, words: &[&str]) -> Output {
        output(Command::new("docker").args(["--host", &self.socket]).args(words).env("DOCKER_BUILDKIT", "0"))
    }

    #[track_caller]
    fn ok(&self, words: &[&str]) -> String {
        let output = self.call(words);
        assert!(output.status.success(), "docker {words:?}: {}", told(&output));
        stdout(&output).trim_end().to_owned()
    }

    /// Runs a script in a new container.
    #[track_caller]
    fn script(&self, options: &[&str], script: &str) -> String {
        self.ok(&[&["run", "--rm"], options, &["base", "sh", "-c", script]].concat())
    }

    fn tells(&self, name: &str, what: &str) -> String {
        self.ok(&["inspect", "--format", what, name])
    }

    /// How a client for a terminal is called.
    fn line(&self, words: &str) -> String {
        format!("docker --host {} {words}", self.socket)
    }

    /// Removes all containers; nothing of them is left.
    #[track_caller]
    fn leaves_nothing(self) {
        for id in self.ok(&["ps", "--all", "--quiet"]).lines() {
            self.ok(&["rm", "--force", id]);
        }
        eventually("no group is left", || groups_below(&self.group).is_empty());
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let left = self.call(&["ps", "--all", "--quiet"]);
        for id in stdout(&left).lines() {
            self.call(&["rm", "--force", id]);
        }
        remove_groups(&self.group);
    }
}

/// Something that ends with 3 when it is asked to.
const WAITS: &str = "trap 'exit 3' TERM; while :; do sleep 0.1; done";

#[test]
fn containers_live_and_end() {
    let Some(world) = World::new() else { return };
    let Some(docker) = Docker::start(&world) else { return };
    assert_eq!(docker.tells("base", "{{.Os}}"), "linux");
    assert_eq!(docker.script(&[], "echo hello"), "hello");
    for (program, code, words) in [
        (&["sh", "-c", "exit 7"][..], 7, ""),
        (&["nosuch"], 127, "executable file not found"),
        (&["/no/such"], 127, "no such file or directory"),
        (&["/etc/passwd"], 126, "permission denied"),
    ] {
        let ended = docker.call(&[&["run", "--rm", "base"], program].concat());
        assert!(ended.status.code() == Some(code) && stderr(&ended).contains(words), "{program:?}: {}", told(&ended));
    }
    docker.ok(&["run", "--detach", "--name", "web", "base", "sh", "-c", &format!("echo begun; {WAITS}")]);
    eventually("it has begun", || docker.ok(&["logs", "web"]) == "begun");
    assert!(docker.ok(&["top", "web"]).contains("sleep 0.1"));
    docker.ok(&["pause", "web"]);
    assert_eq!(docker.tells("web", "{{.State.Status}}"), "paused");
    docker.ok(&["unpause", "web"]);
    docker.ok(&["restart", "--time", "20", "web"]);
    assert_eq!(docker.tells("web", "{{.State.Status}}"), "running");
    eventually("it has begun again", || docker.ok(&["logs", "web"]) == "begun\nbegun");
    docker.ok(&["stop", "--time", "100", "web"]);
    assert_eq!(docker.tells("web", "{{.State.Status}} {{.State.ExitCode}}"), "exited 3");
    docker.ok(&["start", "web"]);
    docker.ok(&["kill", "web"]);
    docker.ok(&["wait", "web"]);
    assert_eq!(docker.tells("web", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    docker.ok(&["run", "--detach", "--restart", "on-failure:2", "--name", "again", "base", "sh", "-c", "exit 4"]);
    eventually("it has been tried thrice", || {
        docker.tells("again", "{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}") == "2 exited 4"
    });
    docker.leaves_nothing();
}

#[test]
fn programs_are_added_and_have_terminals() {
    let Some(world) = World::new() else { return };
    let Some(docker) = Docker::start(&world) else { return };
    docker.ok(&["run", "--detach", "--name", "web", "base", "sleep", "1000"]);
    assert_eq!(docker.ok(&["exec", "web", "echo", "added"]), "added");
    assert_eq!(docker.call(&["exec", "web", "sh", "-c", "exit 9"]).status.code(), Some(9));
    let as_user =
        ["exec", "--user", "1000:1001", "--workdir", "/tmp", "--env", "A=b", "web", "sh", "-c", "echo $(id -u):$(id -g) $PWD $A"];
    assert_eq!(docker.ok(&as_user), "1000:1001 /tmp b");
    let missing = docker.call(&["exec", "web", "nosuch"]);
    assert!([Some(126), Some(127)].contains(&missing.status.code()), "{}", told(&missing));
    assert!(format!("{}{}", stdout(&missing), stderr(&missing)).contains("executable file not found"), "{}", told(&missing));
    let mut terminal = Terminal::new(&world);
    let seen = terminal.command(
        &docker.line("exec -it web sh -c 'tty; until stty size 2>&1 | grep -q 24.80; do sleep 0.1; done; echo si\"\"zed'"),
    );
    assert!(seen.contains("/dev/pts/0") && seen.contains("sized"), "{seen}");
    let seen = terminal.command(&docker.line("run --rm -it base sh -c 'tty; test -c /dev/console && echo con''sole'"));
    assert!(seen.contains("/dev/pts/0") && seen.contains("console"), "{seen}");
    terminal.exit();
    docker.leaves_nothing();
}

#[test]
fn limits_hold_and_what_is_used_is_counted() {
    let Some(world) = World::new() else { return };
    let Some(docker) = Docker::start(&world) else { return };
    let files = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; \
        cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; true";
    assert_eq!(docker.script(&["--memory", "64m", "--pids-limit", "30", "--cpus", "0.5"], files), format!("{}\n30", 64 << 20));
    docker.ok(&["run", "--detach", "--name", "web", "base", "sh", "-c", WAITS]);
    docker.ok(&["update", "--memory", "96m", "--memory-swap", "96m", "--pids-limit", "40", "web"]);
    assert_eq!(docker.ok(&["exec", "web", "sh", "-c", files]), format!("{}\n40", 96 << 20));
    let used = docker.ok(&["stats", "--no-stream", "--format", "{{.PIDs}} {{.MemUsage}} {{.CPUPerc}}", "web"]);
    assert!(used.starts_with("2 ") || used.starts_with("1 "), "{used}");
    assert!(!used.contains(" 0B") && used.contains("/ 96MiB"), "{used}");
    let percent: f64 = used.trim_end_matches('%').rsplit(' ').next().unwrap().parse().unwrap();
    // All that the host does is counted where the container has no group of its own.
    assert!(percent < 100.0, "{used}");
    let eats = [
        "run",
        "--name",
        "eater",
        "--memory",
        "16m",
        "--memory-swap",
        "16m",
        "base",
        "dd",
        "if=/dev/zero",
        "of=/dev/null",
        "bs=64M",
    ];
    assert_eq!(docker.call(&eats).status.code(), Some(137));
    assert_eq!(docker.tells("eater", "{{.State.OOMKilled}} {{.State.ExitCode}}"), "true 137");
    docker.leaves_nothing();
}

#[test]
fn options_reach_the_program() {
    let Some(world) = World::new() else { return };
    let Some(docker) = Docker::start(&world) else { return };
    let volume = world.directory("volume");
    world.file("volume/file", "content\n");
    let bound = format!("{}:/mnt:ro", text(&volume));
    assert_eq!(docker.script(&["--volume", &bound], "cat /mnt/file; touch /mnt/x 2>/dev/null || echo ro"), "content\nro");
    assert_eq!(docker.script(&["--user", "1000:1001"], "echo $(id -u):$(id -g)"), "1000:1001");
    assert_eq!(docker.script(&["--read-only", "--tmpfs", "/tmp"], "touch /x 2>/dev/null || touch /tmp/x && echo ok"), "ok");
    let none =
        docker.script(&["--cap-drop", "ALL", "--security-opt", "no-new-privileges"], "grep -E 'CapEff|NoNew' /proc/self/status");
    assert_eq!(none, "CapEff:\t0000000000000000\nNoNewPrivs:\t1");
    assert_eq!(docker.script(&["--privileged"], "mount -t tmpfs t /tmp && echo mounted"), "mounted");
    assert_eq!(docker.script(&ULIMITS, "ulimit -n; ulimit -u"), "1024\n1024");
    assert_eq!(docker.script(&["--hostname", "island"], "hostname"), "island");
    assert_eq!(docker.script(&["--sysctl", "net.ipv4.ip_forward=1"], "cat /proc/sys/net/ipv4/ip_forward"), "1");
    assert_eq!(docker.script(&["--init"], "cat /proc/1/comm"), "docker-init");
    docker.ok(&["run", "--detach", "--name", "other", "--ipc", "shareable", "base", "sleep", "1000"]);
    assert!(docker.script(&["--pid", "container:other"], "cat /proc/1/cmdline").contains("sleep"));
    let spaces = "for kind in net ipc; do readlink /proc/self/ns/$kind; done";
    let own = docker.ok(&["exec", "other", "sh", "-c", spaces]);
    let joined = docker.script(&["--net", "container:other", "--ipc", "container:other"], spaces);
    assert_eq!(own, joined);
    docker.leaves_nothing();
}

#[test]
fn an_image_is_built() {
    let Some(world) = World::new() else { return };
    let Some(docker) = Docker::start(&world) else { return };
    let context = world.directory("context");
    world.file("context/file", "copied\n");
    world.file(
        "context/Dockerfile",
        "FROM base\nWORKDIR /srv\nCOPY file .\nRUN cat file > made && echo ran >> made\nUSER 1000\nCMD [\"sh\", \"-c\", \"id -u; cat made\"]\n",
    );
    docker.ok(&["build", "--tag", "built", &text(context)]);
    assert_eq!(docker.ok(&["run", "--rm", "built"]), "1000\ncopied\nran");
    docker.leaves_nothing();
}

#[test]
fn containers_are_reached_over_a_bridge() {
    let Some(world) = World::new() else { return };
    let Some(docker) = Docker::start(&world) else { return };
    docker.ok(&["run", "--detach", "--name", "web", "--publish", "8080:80", "base", "httpd", "-f", "-p", "80", "-h", "/etc"]);
    let page = || docker.daemon.in_its_network(&["busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:8080/passwd"]);
    eventually("the published port answers", || stdout(&page()).starts_with("root:"));
    let address = docker.tells("web", "{{.NetworkSettings.IPAddress}}");
    assert!(docker.script(&[], &format!("wget -q -O - http://{address}/passwd")).starts_with("root:"));
    docker.leaves_nothing();
}
