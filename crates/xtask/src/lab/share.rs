//! Folders of the host in the machine: one virtiofs server for each.
//!
//! The cloud kernel has no 9p, so QEMU's own file sharing is out; virtiofs asks for a server process and for guest memory that can be
//! shared with it.

use super::Folders;
use super::qemu::spawn_tied;
use super::tools::Tools;
use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// Makes the folder read-only for the server itself: that the machine mounts it so is the machine's promise, and it may be broken.
const READ_ONLY: &str = r#"mount --rbind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@""#;

/// A folder of the host that is at the same path in the machine.
pub(super) struct Share {
    pub(super) tag: &'static str,
    pub(super) path: PathBuf,
    pub(super) writable: bool,
}

/// The folders of a run, outer ones first.
///
/// In virtual time it is the work folder alone, and `guest/lab.sh` mounts it when the command has ended: how long the host takes to
/// answer is no number of instructions, so one request in a run would make it unlike every other.
pub(super) fn plan(folders: &Folders, work: &Path, icount: bool) -> Vec<Share> {
    let work = Share { tag: "work", path: work.to_owned(), writable: true };
    if icount {
        return vec![work];
    }
    let mut shares = vec![Share { tag: "tree", path: folders.tree.clone(), writable: false }];
    if !folders.target.starts_with(&folders.tree) {
        shares.push(Share { tag: "target", path: folders.target.clone(), writable: false });
    }
    shares.push(work);
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

/// Starts the servers. Each has its socket from us, listening already, as its stdin.
///
/// (Left to make its own, virtiofsd takes a lock on the socket's name that is the same for every run.)
pub(super) fn serve(tools: &Tools, shares: &[Share], folder: &Path) -> Result<Servers> {
    let mut servers = Servers(Vec::new());
    for share in shares {
        let server = start(tools, share, folder).with_context(|| format!("share {}", share.path.display()))?;
        servers.0.push(server);
    }
    Ok(servers)
}

fn start(tools: &Tools, share: &Share, folder: &Path) -> Result<Child> {
    let mut source = OsStr::new("source=").to_owned();
    source.push(&share.path);
    let server = [
        tools.virtiofsd.as_os_str(),
        OsStr::new("--fd=0"),
        OsStr::new("-o"),
        &source,
        OsStr::new("-o"),
        OsStr::new("cache=auto"),
        // One process that ends when it is told to; its other way needs rights that containers seldom have.
        OsStr::new("-o"),
        OsStr::new("sandbox=chroot"),
    ];
    let log = File::create(folder.join(format!("virtiofsd-{}.log", share.tag)))?;
    let guard = ["unshare", "--mount", "--propagation=private", "sh", "-c", READ_ONLY].map(OsStr::new);
    let command: Vec<&OsStr> =
        if share.writable { server.to_vec() } else { guard.into_iter().chain([share.path.as_os_str()]).chain(server).collect() };
    let socket = listen(folder, share.tag).context("listen on a socket")?;
    spawn_tied(&command, folder, Stdio::from(socket), log)
}

/// Listens on `<tag>.sock` in the run's folder; by way of the folder's descriptor, for a socket's name has room for 107 bytes only.
fn listen(folder: &Path, tag: &str) -> Result<OwnedFd> {
    let folder = File::open(folder)?;
    let path = format!("/proc/self/fd/{}/{tag}.sock", folder.as_raw_fd());
    Ok(UnixListener::bind(path)?.into())
}
