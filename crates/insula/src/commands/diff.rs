//! `insula diff`: what a program wrote below `run --keep DIR`.
//!
//! The upper layer of an overlay says it all: a file is new or changed, a character device 0:0 stands for one that was deleted, and a
//! directory marked opaque has replaced one. Source: `Documentation/filesystems/overlayfs.rst`.

use super::list::Format;
use crate::show::{printable, show};
use anyhow::{Context, ensure};
use rustix::fs::{AtFlags, CWD, FileType};
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Show what a program wrote, of a directory given to `run --keep`
#[derive(clap::Args)]
#[command(after_help = "A line a path: A it was added, C it was changed, D it was deleted.\n\n\
Example:\n  insula run --keep out -- touch /etc/new; insula diff out")]
pub(crate) struct Args {
    /// The directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: Format,
}

pub(crate) fn main(args: Args) -> anyhow::Result<ExitCode> {
    let dir = &args.dir;
    ensure!(dir.join("upper").is_dir(), "{} holds nothing that `insula run --keep` wrote", dir.display());
    let mut changes = BTreeMap::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("can't read {}", dir.display()))? {
        let name = entry?.file_name();
        let Some(mount_point) = name.to_str().and_then(|name| name.strip_prefix("upper")) else { continue };
        let mount_point = PathBuf::from(mount_point.replace("%2f", "/").replace("%25", "%"));
        let mount_point = if mount_point.as_os_str().is_empty() { PathBuf::from("/") } else { mount_point };
        walk(&dir.join(&name), &mount_point, &mut changes)?;
    }
    if args.format == Format::Json {
        let one = |(path, kind): (&PathBuf, &char)| serde_json::json!({"path": path.to_string_lossy(), "change": kind});
        show(format!("{}\n", serde_json::to_string(&changes.iter().map(one).collect::<Vec<_>>())?))?;
    } else {
        let one = |(path, kind): (&PathBuf, &char)| format!("{kind} {}\n", printable(&path.to_string_lossy()));
        show(changes.iter().map(one).collect::<String>())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Compares one directory of an upper layer with the host's of the same path.
fn walk(upper: &Path, path: &Path, changes: &mut BTreeMap<PathBuf, char>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(upper).with_context(|| format!("can't read {}", upper.display()))? {
        let entry = entry?;
        let (from, to) = (entry.path(), path.join(entry.file_name()));
        let stat = rustix::fs::statat(CWD, &from, AtFlags::SYMLINK_NOFOLLOW)
            .with_context(|| format!("can't look at {}", from.display()))?;
        let below = rustix::fs::statat(CWD, &to, AtFlags::SYMLINK_NOFOLLOW).ok();
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice if stat.st_rdev == 0 => {
                changes.insert(to, 'D');
            }
            FileType::Directory => {
                let was_dir = below.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
                let replaced = opaque(&from);
                if !was_dir || replaced {
                    changes.insert(to.clone(), if below.is_some() { 'C' } else { 'A' });
                }
                walk(&from, &to, changes)?;
            }
            _ => {
                changes.insert(to, if below.is_some() { 'C' } else { 'A' });
            }
        }
    }
    Ok(())
}

fn opaque(dir: &Path) -> bool {
    let mut value = [0; 1];
    let marked = |name: &str| rustix::fs::lgetxattr(dir.as_os_str().as_bytes(), name, value.as_mut_slice()).is_ok_and(|n| n == 1);
    ["trusted.overlay.opaque", "user.overlay.opaque"].into_iter().any(marked) && value == *b"y"
}
