//! Root directories of whole systems: Debians with one init or another, made once by debootstrap and kept below `target`, and one of busybox alone.

use super::{PATIENCE, World, read};
use rustix::fs::FlockOperation;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// A Debian, by the init it has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Debian {
    Systemd,
    /// With sysv-rc.
    Sysvinit,
    /// Both as the init (`/sbin/openrc-init`) and as what sysvinit starts services by.
    OpenRc,
}

impl Debian {
    /// The directory it is kept in.
    fn name(self) -> &'static str {
        match self {
            Debian::Systemd => "debian",
            Debian::Sysvinit => "sysvinit",
            Debian::OpenRc => "openrc",
        }
    }

    /// The one all tests start from; none where it can't be made.
    fn for_all(self) -> Option<PathBuf> {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("system");
        let root = dir.join(self.name());
        // In the lab the host's is there, to be read.
        if root.exists() {
            return Some(root);
        }
        std::fs::create_dir_all(&dir).unwrap();
        let lock = std::fs::File::create(dir.join(format!("{}.lock", self.name()))).unwrap();
        // Made once, whoever else runs.
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
        if root.exists() {
            return Some(root);
        }
        let part = dir.join(format!("{}.part", self.name()));
        let _ = std::fs::remove_dir_all(&part);
        match self {
            Debian::Systemd => bootstrap(&part, "systemd-sysv,dbus,libpam-systemd")?,
            Debian::Sysvinit => bootstrap(&part, "sysvinit-core,sysv-rc")?,
            Debian::OpenRc => {
                // debootstrap would take sysv-rc, with which it conflicts.
                copy(&Debian::Sysvinit.for_all()?, &part);
                let install = "apt-get -qq update && apt-get -qq --yes --no-install-recommends install openrc";
                let mut command = Command::new("chroot");
                command.arg(&part).args(["sh", "-c", install]).env("DEBIAN_FRONTEND", "noninteractive");
                done("apt-get", &mut command)?;
            }
        }
        std::fs::rename(&part, &root).unwrap();
        Some(root)
    }
}

/// Makes a Debian with these packages.
fn bootstrap(root: &Path, packages: &str) -> Option<()> {
    let (Some(mirror), Some(suite)) = (mirror(), suite()) else {
        eprintln!("skipped: this host isn't a Debian with a package mirror");
        return None;
    };
    let mut command = Command::new("debootstrap");
    command.args(["--variant=minbase", &format!("--include={packages}"), &suite]).arg(root).arg(mirror);
    done("debootstrap", &mut command)?;
    // Root logs in without a password, and each copy gets a number of its own.
    let shadow = read(root.join("etc/shadow"));
    std::fs::write(root.join("etc/shadow"), shadow.replacen("root:*:", "root::", 1)).unwrap();
    std::fs::write(root.join("etc/machine-id"), "").unwrap();
    let _ = std::fs::remove_file(root.join("var/lib/dbus/machine-id"));
    // The host's, else.
    std::fs::remove_file(root.join("etc/hostname")).unwrap();
    Some(())
}

/// Runs a command to its end; none if there is no such program, or it fails.
fn done(program: &str, command: &mut Command) -> Option<()> {
    match command.output() {
        Ok(output) if output.status.success() => Some(()),
        Ok(output) => {
            eprintln!("skipped: {program}: {}", super::told(&output));
            None
        }
        Err(_) => {
            eprintln!("skipped: {program} isn't installed; `make tools` does it");
            None
        }
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").args(["-a", "--reflink=auto"]).args([from, to]).status().unwrap();
    assert!(copied.success());
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
pub(crate) fn debian(kind: Debian) -> Option<(World, Root)> {
    let world = World::new()?;
    let lower = kind.for_all()?;
    let [root, upper, work] = [kind.name(), "upper", "work"].map(|name| world.directory(name));
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    let mount = Command::new("mount").args(["-t", "overlay", "-o", &options, "tests"]).arg(&root).status().unwrap();
    assert!(mount.success());
    Some((world, Root { path: root.to_str().unwrap().to_owned(), mounted: true }))
}

/// The same as plain files: owners of an overlay's can't be mapped.
pub(crate) fn debian_copied(kind: Debian) -> Option<(World, Root)> {
    let world = World::new()?;
    let root = world.path(kind.name());
    copy(&kind.for_all()?, &root);
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
