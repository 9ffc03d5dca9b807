//! Other isolation programs on this host, and their versions, as they print them.
//!
//! They are started all at once and collected later ([`start`], [`Started::finish`]), since each takes its time to load.

use serde::Serialize;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program we may compare with, or use as a driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// What it is called.
    pub name: String,
    /// Where it is; `None` if it isn't installed.
    pub path: Option<PathBuf>,
    /// The version it prints; `None` if it isn't installed, or prints none in time.
    pub version: Option<String>,
    /// For a program that needs a daemon: whether that answers.
    pub daemon: Option<Daemon>,
}

/// A daemon's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Daemon {
    /// It answers.
    Answers,
    /// It doesn't.
    Silent {
        /// What was tried, and the error.
        error: String,
    },
}

/// What each is called, and the program to ask.
const PEERS: [(&str, &str); 12] = [
    ("runc", "runc"),
    ("crun", "crun"),
    ("youki", "youki"),
    ("bwrap", "bwrap"),
    ("docker", "docker"),
    ("podman", "podman"),
    ("lxc", "lxc-start"),
    ("runsc", "runsc"),
    ("kata", "kata-runtime"),
    ("firecracker", "firecracker"),
    ("cloud-hypervisor", "cloud-hypervisor"),
    ("qemu", "qemu-system-x86_64"),
];

/// How long a program may take to print its version.
const PATIENCE: Duration = Duration::from_millis(150);

/// Programs on their way to print their versions.
pub(super) struct Started {
    since: Instant,
    programs: Vec<(&'static str, Option<PathBuf>, Option<Child>)>,
}

/// Starts every installed peer.
pub(super) fn start() -> Started {
    let begin = |(name, program): (&'static str, &str)| {
        let path = find(program);
        let child = path.as_deref().and_then(|path| {
            let command = &mut Command::new(path);
            command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()
        });
        (name, path, child)
    };
    Started { since: Instant::now(), programs: PEERS.into_iter().map(begin).collect() }
}

impl Started {
    /// Collects the answers; a program that takes too long is ended.
    pub(super) fn finish(self) -> Vec<Peer> {
        let deadline = self.since + PATIENCE;
        let collect = |(name, path, child): (&str, Option<PathBuf>, Option<Child>)| Peer {
            name: name.to_owned(),
            daemon: (name == "docker" && path.is_some()).then(docker_daemon),
            path,
            version: child.and_then(|child| output(child, deadline)).and_then(|text| version(&text)),
        };
        self.programs.into_iter().map(collect).collect()
    }
}

/// What a program printed until it ended or the time was over; it is gone afterwards.
fn output(mut child: Child, deadline: Instant) -> Option<String> {
    let mut pipe = child.stdout.take()?;
    while child.try_wait().ok()?.is_none() {
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    // A process it left behind may hold the pipe open: take what is there, and don't wait for its end.
    rustix::io::ioctl_fionbio(&pipe, true).ok()?;
    let mut bytes = vec![0; 4096];
    let length = pipe.read(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(bytes.get(..length)?).into_owned())
}

/// The first word that is a version: digits after an optional `v` or `release-`.
fn version(text: &str) -> Option<String> {
    let word = |word: &str| {
        let word = word.trim_end_matches([',', ';', ')']);
        let bare = word.strip_prefix("release-").or_else(|| word.strip_prefix('v')).unwrap_or(word);
        (bare.starts_with(|first: char| first.is_ascii_digit()) && bare.contains('.')).then(|| bare.to_owned())
    };
    text.split_whitespace().find_map(word)
}

/// Looks a program up in `PATH`, and in the system directories that a plain user's `PATH` may lack.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    const SYSTEM: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(SYSTEM.into_iter().map(PathBuf::from));
    let runs = |file: &PathBuf| file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok();
    directories.filter(|directory| directory.is_absolute()).map(|directory| directory.join(program)).find(runs)
}

/// Asks Docker's daemon whether it is there: `GET /_ping` of its API.
fn docker_daemon() -> Daemon {
    let address = std::env::var("DOCKER_HOST").unwrap_or_default();
    let socket = match address.strip_prefix("unix://") {
        Some(path) => PathBuf::from(path),
        None if address.is_empty() => PathBuf::from("/var/run/docker.sock"),
        None => return Daemon::Silent { error: format!("not asked: DOCKER_HOST is {address}, which isn't a local socket") },
    };
    match ping(&socket) {
        Ok(answer) if answer.starts_with("HTTP/1.") && answer.contains(" 200 ") => Daemon::Answers,
        Ok(answer) => Daemon::Silent { error: format!("answered {:?}", answer.lines().next().unwrap_or_default()) },
        Err(error) => Daemon::Silent { error: format!("{}: {error}", socket.display()) },
    }
}

fn ping(socket: &Path) -> std::io::Result<String> {
    let mut stream = std::os::unix::net::UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")?;
    let mut answer = [0; 256];
    let length = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(answer.get(..length).unwrap_or_default()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_print() {
        let found = |text| version(text).unwrap_or_default();
        assert_eq!(found("runc version 1.1.5+ds1\ncommit: 1.1.5\nspec: 1.0.2\n"), "1.1.5+ds1");
        assert_eq!(found("Docker version 28.2.2, build e6534b4\n"), "28.2.2");
        assert_eq!(found("QEMU emulator version 7.2.22 (Debian 1:7.2)\n"), "7.2.22");
        assert_eq!(found("Firecracker v1.7.0\n"), "1.7.0");
        assert_eq!(found("runsc version release-20250101.0\nspec: 1.1.0\n"), "20250101.0");
        assert_eq!(found("kata-runtime  : 3.2.0\n"), "3.2.0");
        assert_eq!(found("5.0.2\n"), "5.0.2");
        assert_eq!(found("usage: 7 things\n"), "");
    }

    #[test]
    fn programs_are_found_and_others_are_not() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program-anywhere"), None);
    }
}
