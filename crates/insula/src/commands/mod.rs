//! One file a verb, or a family of verbs that are alike.

pub(crate) mod bench;
pub(crate) mod checkpoint;
pub(crate) mod completion;
pub(crate) mod debug;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod features;
pub(crate) mod kernel;
pub(crate) mod lifecycle;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod ps;
pub(crate) mod run;
pub(crate) mod spec;
pub(crate) mod system;
pub(crate) mod update;
pub(crate) mod vm;

use anyhow::{Context, ensure};
use insula_spec::{Id, Plan, oci};
use std::io::Read;
use std::path::Path;

/// The plan of a bundle on disk.
pub(crate) fn plan_of_bundle(id: Id, bundle: &Path) -> anyhow::Result<Plan> {
    let absolute = std::fs::canonicalize(bundle).with_context(|| format!("can't use {} as bundle", bundle.display()))?;
    let path = absolute.join("config.json");
    let config = read_limited(&path, oci::MAX_CONFIG)
        .with_context(|| format!("can't read {} (`insula spec` writes one)", path.display()))?;
    Ok(oci::plan(id, &absolute, &config)?)
}

/// A file's content, unless it is larger than anybody writes by hand.
pub(crate) fn read_limited(path: &Path, limit: u64) -> anyhow::Result<Vec<u8>> {
    // A pipe without a writer would keep us for ever.
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NONBLOCK;
    let file = std::fs::File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?);
    // One piece, and one more byte to see the end by.
    let length = file.metadata()?.len().min(limit);
    let mut bytes = Vec::with_capacity(length as usize + 1);
    file.take(limit + 1).read_to_end(&mut bytes)?;
    anyhow::ensure!(bytes.len() as u64 <= limit, "it is larger than {} MiB", limit >> 20);
    Ok(bytes)
}

/// Writes a process's number for whoever called us, in one piece.
pub(crate) fn write_pid_file(path: &Path, pid: i32) -> anyhow::Result<()> {
    let name = path.file_name().context("--pid-file: names no file")?;
    let draft = path.with_file_name(format!(".{}", name.to_string_lossy()));
    let written = std::fs::write(&draft, pid.to_string()).and_then(|()| std::fs::rename(&draft, path));
    written.with_context(|| format!("can't write --pid-file {}", path.display()))
}

/// Hands the process of a pidfd to who listens on this socket, as runc does it.
pub(crate) fn send_pidfd(path: &Path, pidfd: &rustix::fd::OwnedFd) -> anyhow::Result<()> {
    insula_container::send_descriptor(path, "pidfd", pidfd)
        .with_context(|| format!("--pidfd-socket: can't use {}", path.display()))
}

/// Descriptors to pass on must have come from who called us: the program would miss one that isn't there.
pub(crate) fn check_preserved(count: u32) -> anyhow::Result<()> {
    const CLOEXEC: u64 = 0o2000000;
    for number in (3_u64..).take(count as usize) {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
        // One that exec would close is ours.
        let passed = flags.is_some_and(|flags| flags & CLOEXEC == 0);
        ensure!(passed, "--preserve-fds {count}: no descriptor {number} was passed to insula; they are counted from 3");
    }
    Ok(())
}
