//! A user without any privilege, who runs the program.

use super::{World, ended, told};
use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Who that is: nobody whom a host has.
pub(crate) const USER: u32 = 21_012;

/// A user's directories, and the program where the user can run it.
pub(crate) struct Plain {
    pub(crate) world: World,
    /// Files in place of some of `/etc`, which say that the user has a name and subordinate IDs.
    tables: Option<[(&'static str, PathBuf); 4]>,
    /// What a shell does as root before it becomes the user, with `&&` after it.
    pub(crate) first: String,
}

impl Plain {
    /// A user with one ID. None for who can't become one.
    pub(crate) fn new() -> Option<Plain> {
        let world = World::new()?;
        let top = world.path("");
        std::fs::hard_link(super::program(), top.join("insula"))
            .or_else(|_| std::fs::copy(super::program(), top.join("insula")).map(drop))
            .unwrap();
        for dir in ["home", "run"] {
            std::fs::create_dir(top.join(dir)).unwrap();
            std::fs::set_permissions(top.join(dir), Permissions::from_mode(0o700)).unwrap();
            chown(top.join(dir), Some(USER), Some(USER)).unwrap();
        }
        std::fs::set_permissions(&top, Permissions::from_mode(0o755)).unwrap();
        Some(Plain { world, tables: None, first: String::new() })
    }

    /// A user with 1000 subordinate IDs. None where nobody can be given any.
    pub(crate) fn with_others() -> Option<Plain> {
        let helpers = ["/usr/bin/newuidmap", "/usr/bin/newgidmap"].iter().all(|path| Path::new(path).exists());
        let files = ["/etc/subuid", "/etc/subgid"].iter().all(|path| Path::new(path).exists());
        if !helpers || !files {
            eprintln!("skipped: this host has no newuidmap and newgidmap (Debian: uidmap), or no /etc/subuid");
            return None;
        }
        let mut plain = Plain::new()?;
        let table = |name: &'static str, line: String| {
            let text = format!("{}{line}\n", std::fs::read_to_string(name).unwrap());
            (name, plain.world.file(&name.replace('/', "-"), &text))
        };
        plain.tables = Some([
            table("/etc/passwd", format!("plain:x:{USER}:{USER}::/:/bin/sh")),
            table("/etc/group", format!("plain:x:{USER}:")),
            table("/etc/subuid", "plain:300000:1000".into()),
            table("/etc/subgid", "plain:400000:1000".into()),
        ]);
        Some(plain)
    }

    pub(crate) fn home(&self, name: &str) -> PathBuf {
        self.world.path("home").join(name)
    }

    /// A command as that user.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        // Before the user is there: the tables, in a mount namespace of its own.
        let tables = self.tables.iter().flatten();
        let binds: String = tables.map(|(name, path)| format!("mount --bind {} {name} && ", path.display())).collect();
        let mut command = Command::new("unshare");
        let script = format!("{}{binds}exec setpriv --reuid {USER} --regid {USER} --clear-groups \"$@\"", self.first);
        command.args(["--mount", "sh", "-c", &script, "sh"]).args(words);
        command.env_clear().current_dir(self.home("")).stdin(Stdio::null());
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin").env("HOME", self.home(""));
        command.env("XDG_RUNTIME_DIR", self.world.path("run"));
        command.envs(super::weakened());
        command
    }

    /// The program as that user.
    pub(crate) fn insula(&self, args: &[&str]) -> Command {
        self.command([&[self.world.path("insula").to_str().unwrap()], args].concat())
    }

    /// Runs the program to its end; what it starts holds only files.
    pub(crate) fn output(&self, args: &[&str]) -> Output {
        let files = ["out", "err"].map(|name| self.world.path(name));
        let [out, err] = files.each_ref().map(|path| std::fs::File::create(path).unwrap());
        let status = ended(&mut self.insula(args).stdout(out).stderr(err).spawn().unwrap());
        let [stdout, stderr] = files.map(|path| std::fs::read(path).unwrap());
        Output { status, stdout, stderr }
    }

    /// Runs the program, which must end well; what it wrote.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(output.status.success(), "{args:?}: {}", told(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs the program, which must fail with this code; its one line about it.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, args: &[&str]) -> String {
        let output = self.output(args);
        let text = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        assert!(output.status.code() == Some(code) && text.lines().count() == 1, "{args:?}: {}", told(&output));
        text
    }

    /// A directory with the host's programs, for a root, and its bundle; all of it the user's.
    pub(crate) fn bundle(&self, name: &str, script: &str, change: impl FnOnce(&mut serde_json::Value)) -> String {
        let dir = self.home(name);
        std::fs::create_dir(&dir).unwrap();
        let binds = super::bundle::rootfs(&dir.join("rootfs"));
        let everything = Command::new("chown").args(["-hR", &format!("{USER}:{USER}")]).arg(&dir).status().unwrap();
        assert!(everything.success());
        let text = dir.to_str().unwrap().to_owned();
        self.ok(&["spec", "--rootless", "--bundle", &text]);
        let path = dir.join("config.json");
        let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config["process"]["terminal"] = false.into();
        config["process"]["args"] = serde_json::json!(["sh", "-c", script]);
        config["root"]["readonly"] = false.into();
        let mounts = config["mounts"].as_array_mut().unwrap();
        for dir in binds {
            mounts.push(serde_json::json!({"destination": dir, "source": dir, "type": "bind", "options": ["rbind", "ro"]}));
        }
        change(&mut config);
        std::fs::write(path, config.to_string()).unwrap();
        text
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        // Podman leaves a process that holds its user namespace.
        let pause = super::read(self.world.path("run/libpod/tmp/pause.pid"));
        if let Some(pid) = pause.trim().parse().ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let Ok(entries) = std::fs::read_dir(self.world.path("run/insula")) else { return };
        for entry in entries.flatten() {
            let _ = self.insula(&["delete", "--force", &entry.file_name().to_string_lossy()]).output();
        }
    }
}
