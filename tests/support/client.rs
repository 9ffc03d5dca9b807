//! Programs that drive a runtime, from the distribution's packages: each is started with all that is its own below one directory, in
//! network and mount namespaces of its own, so that neither the host's nor another test's is touched.

use super::{World, ended, eventually, output, read, signal, told};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// Whether these programs are there; else says that the test is left out.
pub(crate) fn installed(programs: &[&str]) -> bool {
    let there = |program: &str| output(Command::new("sh").args(["-c", &format!("command -v {program}")])).status.success();
    let missing = programs.iter().find(|program| !there(program));
    missing.inspect(|program| eprintln!("skipped: {program} is not installed")).is_none()
}

/// Limits that engines would raise if they were left alone, which not every host's root may.
pub(crate) const ULIMITS: [&str; 2] = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"];

/// A root file system with busybox and nothing else.
pub(crate) fn busybox(world: &World) -> PathBuf {
    let root = world.directory("busybox");
    let shell = "mkdir bin etc tmp proc sys dev root && cp \"$(command -v busybox)\" bin/busybox && echo root:x:0:0::/root:/bin/sh > etc/passwd \
        && for name in $(busybox --list); do [ $name = busybox ] || ln -s busybox bin/$name; done";
    let made = output(Command::new("sh").args(["-c", shell]).current_dir(&root));
    assert!(made.status.success(), "{}", told(&made));
    root
}

/// The same as an archive, which engines import as an image.
pub(crate) fn busybox_archive(world: &World) -> PathBuf {
    let (root, archive) = (busybox(world), world.path("busybox.tar"));
    let made = output(Command::new("tar").arg("-C").arg(root).arg("-cf").arg(&archive).arg("."));
    assert!(made.status.success(), "{}", told(&made));
    archive
}

/// A program that runs in the background, in namespaces of its own.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it; what it says goes to a file.
    pub(crate) fn start(world: &World, words: &[&str]) -> Daemon {
        let log = world.path(&format!("{}.log", words[0]));
        let file = std::fs::File::create(&log).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "sh", "-c", "busybox ip link set lo up; exec \"$@\"", "sh"]).args(words);
        command.current_dir(world.path("")).stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Daemon { child: command.spawn().unwrap(), log }
    }

    /// Waits until it answers.
    #[track_caller]
    pub(crate) fn until(&mut self, answers: impl Fn() -> bool) {
        let log = self.log.clone();
        eventually("it answers", || {
            assert!(self.child.try_wait().unwrap().is_none(), "it has ended: {}", read(&log));
            answers()
        });
    }

    /// Runs a command in its network.
    pub(crate) fn in_its_network(&self, words: &[&str]) -> Output {
        let pid = self.child.id().to_string();
        output(Command::new("nsenter").args(["--target", &pid, "--net"]).args(words))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            signal("TERM", self.child.id());
            ended(&mut self.child);
        }
        if std::thread::panicking() {
            eprintln!("the daemon said: {}", read(&self.log));
        }
    }
}

/// A name that no other world has.
pub(crate) fn unique_name(world: &World) -> String {
    text(world.path("")).split('/').rfind(|part| !part.is_empty()).unwrap_or_default().trim_start_matches('.').to_owned()
}

/// The groups below a name that are left, in any hierarchy.
pub(crate) fn groups_below(name: &str) -> Vec<String> {
    let found =
        output(Command::new("find").args(["/sys/fs/cgroup", "-mindepth", "2", "-type", "d", "-path", &format!("*/{name}/*")]));
    super::stdout(&found).lines().map(str::to_owned).collect()
}

/// Removes the groups of this name, which must be empty.
pub(crate) fn remove_groups(name: &str) {
    let _ =
        output(Command::new("find").args(["/sys/fs/cgroup", "-depth", "-type", "d", "-name", name, "-exec", "rmdir", "{}", "+"]));
}

/// Text of a path, as an argument.
pub(crate) fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_str().expect("a temporary directory's name").to_owned()
}
