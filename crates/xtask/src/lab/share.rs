//! Folders of the host in the machine: one virtiofs server for each.
//!
//! The cloud kernel has no 9p, so QEMU's own file sharing is out; virtiofs asks for a server process and for guest memory that can be
//! shared with it.

use super::Folders;
use super::qemu::spawn_tied;
use super::tools::Tools;
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

/// Makes the folder read-only for the server itself: that the machine mounts it so is the machine's promise, and it may be broken.
const READ_ONLY: &str = r#"mount --rbind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@""#;

/// A folder of the host that is at the same path in the machine.
pub(super) struct Share {
    pub(super) tag: &'static str,
    pub(super) path: PathBuf,
    pub(super) writable: bool,
}

impl Share {
    /// The server's socket, relative to the run's folder: a socket's name has room for 107 bytes only.
    pub(super) fn socket(&self) -> String {
        format!("{}.sock", self.tag)
    }
}

/// The folders of a run, outer ones first.
pub(super) fn plan(folders: &Folders, work: &Path) -> Vec<Share> {
    let mut shares = vec![Share { tag: "tree", path: folders.tree.clone(), writable: false }];
    if !folders.target.starts_with(&folders.tree) {
        shares.push(Share { tag: "target", path: folders.target.clone(), writable: false });
    }
    shares.push(Share { tag: "work", path: work.to_owned(), writable: true });
    shares
}

/// The servers of a run; they end with this.
pub(super) struct Servers(Vec<Child>);

impl Drop for Servers {
    fn drop(&mut self) {
        for server in &mut self.0 {
            // Most have ended by themselves when the machine did.
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// Starts the servers and waits until each listens.
pub(super) fn serve(tools: &Tools, shares: &[Share], folder: &Path) -> Result<Servers> {
    let mut servers = Servers(Vec::new());
    for share in shares {
        servers.0.push(start(tools, share, folder)?);
    }
    for (share, server) in shares.iter().zip(&mut servers.0) {
        wait_for_socket(server, &folder.join(share.socket()))
            .with_context(|| format!("share {}: see {}", share.path.display(), folder.join(log_name(share)).display()))?;
    }
    Ok(servers)
}

fn log_name(share: &Share) -> String {
    format!("virtiofsd-{}.log", share.tag)
}

fn start(tools: &Tools, share: &Share, folder: &Path) -> Result<Child> {
    let mut source = OsStr::new("source=").to_owned();
    source.push(&share.path);
    let socket = format!("--socket-path={}", share.socket());
    let server = [
        tools.virtiofsd.as_os_str(),
        OsStr::new(&socket),
        OsStr::new("-o"),
        &source,
        OsStr::new("-o"),
        OsStr::new("cache=auto"),
        // One process that ends when it is told to; its other way needs rights that containers seldom have.
        OsStr::new("-o"),
        OsStr::new("sandbox=chroot"),
    ];
    let log = File::create(folder.join(log_name(share)))?;
    let guard = ["unshare", "--mount", "--propagation=private", "sh", "-c", READ_ONLY].map(OsStr::new);
    let command: Vec<&OsStr> =
        if share.writable { server.to_vec() } else { guard.into_iter().chain([share.path.as_os_str()]).chain(server).collect() };
    spawn_tied(&command, folder, log)
}

fn wait_for_socket(server: &mut Child, socket: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !socket.exists() {
        if let Some(status) = server.try_wait()? {
            bail!("the server ended at once ({status})");
        }
        if Instant::now() > deadline {
            bail!("the server does not listen");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
