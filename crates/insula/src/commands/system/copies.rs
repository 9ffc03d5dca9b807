//! Copies of a system's files, as its file system can make them: a snapshot of a btrfs subvolume, or a copy that shares what it can.

use anyhow::{Context, bail, ensure};
use insula_spec::plan::{Plan, RootSource};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Source: `include/uapi/linux/magic.h`.
const BTRFS: rustix::fs::FsWord = 0x9123_683E;
/// The inode of a subvolume's top, btrfs(5).
const SUBVOLUME: u64 = 256;

/// Where a system's own files lie: its root, or of an overlay what was written.
pub(super) fn files_of(plan: &Plan) -> anyhow::Result<PathBuf> {
    match &plan.root.source {
        RootSource::Dir(root) => Ok(root.clone()),
        RootSource::Over { keep, .. } => Ok(keep.join("upper")),
        RootSource::Host { .. } => bail!("{} has the host's own root", plan.id),
    }
}

/// A directory beside a system's, with another name.
pub(super) fn beside(plan: &Plan, name: &str) -> anyhow::Result<PathBuf> {
    let top = match &plan.root.source {
        RootSource::Dir(root) => root,
        RootSource::Over { keep, .. } => keep,
        RootSource::Host { .. } => bail!("{} has the host's own root", plan.id),
    };
    Ok(top.with_file_name(name))
}

/// Copies a directory with owners, modes, attributes and links. It has its name when it is complete.
pub(super) fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    ensure!(!to.exists(), "{} is there already", to.display());
    if is_subvolume(from) {
        return run(Command::new("btrfs").args(["subvolume", "snapshot"]).arg(from).arg(to));
    }
    let part = to.with_file_name(format!(".{}.part", to.file_name().unwrap_or_default().to_string_lossy()));
    remove(&part)?;
    let copied = run(Command::new("cp").args(["--archive", "--reflink=auto", "--no-target-directory"]).arg(from).arg(&part));
    copied.inspect_err(|_| drop(remove(&part)))?;
    std::fs::rename(&part, to).with_context(|| format!("can't name {}", to.display()))
}

/// Puts a copy in the place of a directory.
pub(super) fn replace(place: &Path, by: &Path) -> anyhow::Result<()> {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    let (new, old) = (place.with_file_name(format!(".{name}.new")), place.with_file_name(format!(".{name}.old")));
    remove(&new)?;
    remove(&old)?;
    copy(by, &new)?;
    std::fs::rename(place, &old).with_context(|| format!("can't move {}", place.display()))?;
    std::fs::rename(&new, place)
        .with_context(|| format!("can't name {}; what was there is {}", place.display(), old.display()))?;
    remove(&old)
}

/// Removes a copy; one that isn't there is no error.
pub(super) fn remove(dir: &Path) -> anyhow::Result<()> {
    if is_subvolume(dir) {
        return run(Command::new("btrfs").args(["subvolume", "delete"]).arg(dir));
    }
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("can't remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}

fn is_subvolume(dir: &Path) -> bool {
    let top = |metadata: Metadata| metadata.is_dir() && metadata.ino() == SUBVOLUME;
    std::fs::symlink_metadata(dir).is_ok_and(top) && rustix::fs::statfs(dir).is_ok_and(|fs| fs.f_type == BTRFS)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("can't run {program}; install it"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program}: {}", said.trim().lines().last().unwrap_or("it failed"));
    Ok(())
}
