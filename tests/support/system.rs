//! Root directories of whole systems: a Debian with systemd, made once by debootstrap and kept below `target`, and one of busybox alone.

use super::{PATIENCE, World, read};
use rustix::fs::FlockOperation;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// What the Debian has beside what any has.
const PACKAGES: &str = "systemd-sysv,dbus,libpam-systemd";

/// The Debian all tests start from; none where it can't be made.
fn debian_for_all() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("system");
    // In the lab the host's is there, to be read.
    if dir.join("debian").exists() {
        return Some(dir.join("debian"));
    }
    std::fs::create_dir_all(&dir).unwrap();
    let lock = std::fs::File::create(dir.join("lock")).unwrap();
    // Made once, whoever else runs.
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
    let root = dir.join("debian");
    if root.exists() {
        return Some(root);
    }
    let (Some(mirror), Some(suite)) = (mirror(), suite()) else {
        eprintln!("skipped: this host isn't a Debian with a package mirror");
        return None;
    };
    let part = dir.join("debian.part");
    let _ = std::fs::remove_dir_all(&part);
    let mut command = Command::new("debootstrap");
    command.args(["--variant=minbase", &format!("--include={PACKAGES}"), &suite]).arg(&part).arg(mirror);
    match command.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            eprintln!("skipped: debootstrap: {}", said.lines().last().unwrap_or_default());
            return None;
        }
        Err(_) => {
            eprintln!("skipped: debootstrap isn't installed; `make tools` does it");
            return None;
        }
    }
    // Root logs in without a password, and each copy gets a number of its own.
    let shadow = read(part.join("etc/shadow"));
    std::fs::write(part.join("etc/shadow"), shadow.replacen("root:*:", "root::", 1)).unwrap();
    std::fs::write(part.join("etc/machine-id"), "").unwrap();
    std::fs::remove_file(part.join("var/lib/dbus/machine-id")).unwrap();
    // The host's, else.
    std::fs::remove_file(part.join("etc/hostname")).unwrap();
    std::fs::rename(&part, &root).unwrap();
    Some(root)
}

/// Where this host has its packages from.
fn mirror() -> Option<String> {
    let lists = std::fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
    let text: String = [PathBuf::from("/etc/apt/sources.list")].into_iter().chain(lists).map(read).collect();
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let is_list = ["URIs:", "deb"].contains(&words.next()?);
        words.find(|word| word.starts_with("http") && word.contains("/debian")).filter(|_| is_list).map(str::to_owned)
    })
}

fn suite() -> Option<String> {
    read("/etc/os-release").lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).map(str::to_owned)
}

/// A root directory; what is mounted there is unmounted at the end.
pub(crate) struct Root {
    path: String,
    mounted: bool,
}

impl std::ops::Deref for Root {
    type Target = str;

    fn deref(&self) -> &str {
        &self.path
    }
}

impl std::fmt::Display for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.path)
    }
}

impl Root {
    /// A path below it, on the host.
    pub(crate) fn join(&self, path: &str) -> PathBuf {
        Path::new(&self.path).join(path)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").args(["--lazy", &self.path]).status();
        }
    }
}

/// A world with a Debian of its own in it: what is written stays there.
pub(crate) fn debian() -> Option<(World, Root)> {
    let world = World::new()?;
    let lower = debian_for_all()?;
    let [root, upper, work] = ["debian", "upper", "work"].map(|name| world.directory(name));
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    let mount = Command::new("mount").args(["-t", "overlay", "-o", &options, "tests"]).arg(&root).status().unwrap();
    assert!(mount.success());
    Some((world, Root { path: root.to_str().unwrap().to_owned(), mounted: true }))
}

/// The same as plain files: owners of an overlay's can't be mapped.
pub(crate) fn debian_copied() -> Option<(World, Root)> {
    let world = World::new()?;
    let root = world.path("debian");
    let copy = Command::new("cp").args(["-a", "--reflink=auto"]).arg(debian_for_all()?).arg(&root).status().unwrap();
    assert!(copy.success());
    Some((world, Root { path: root.to_str().unwrap().to_owned(), mounted: false }))
}

/// A world with a system whose only program is busybox.
pub(crate) fn busybox() -> Option<(World, Root)> {
    let world = World::new()?;
    let Ok(program) = std::fs::read("/usr/bin/busybox") else {
        eprintln!("skipped: busybox isn't installed; `make tools` does it");
        return None;
    };
    let root = world.directory("busybox");
    for dir in ["bin", "sbin", "etc", "dev", "proc", "sys", "run", "tmp", "root"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    std::fs::write(root.join("bin/busybox"), program).unwrap();
    std::fs::set_permissions(root.join("bin/busybox"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    symlink("/bin/busybox", root.join("sbin/init")).unwrap();
    for applet in ["sh", "echo", "getty", "login", "reboot", "poweroff", "cat", "ps", "touch", "sleep"] {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    std::fs::write(root.join("etc/passwd"), "root::0:0:root:/root:/bin/sh\n").unwrap();
    std::fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
    let inittab = "::sysinit:/bin/echo it is up\n::respawn:/bin/getty -L console 0 vt100\n::shutdown:/bin/echo it goes down\n";
    std::fs::write(root.join("etc/inittab"), inittab).unwrap();
    Some((world, Root { path: root.to_str().unwrap().to_owned(), mounted: false }))
}

/// Waits until the systemd of a system has started all it wants; what it says of itself then.
#[track_caller]
pub(crate) fn booted(world: &World, name: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let output = world.output(["exec", name, "systemctl", "is-system-running", "--wait"]);
        let said = super::stdout(&output).trim().to_owned();
        // Before it listens, nobody answers.
        if !["", "offline", "unknown"].contains(&said.as_str()) {
            return said;
        }
        assert!(Instant::now() < deadline, "{name} doesn't boot: {}", super::told(&output));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
