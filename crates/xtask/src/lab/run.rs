//! The folder of one run: `target/lab/runs/<number>/`, with the logs, the sockets and the work folder.
//!
//! A run holds a lock on its folder. Whatever ends the lab (Ctrl-C, a kill), the lock ends with it, and the next lab removes the folder
//! unless the run had marked it to be kept.

use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const LOCK: &str = "lock";
const KEEP: &str = "keep";

/// A run's folder; it is removed when this is dropped, unless it is to be kept.
pub(super) struct Run {
    folder: PathBuf,
    work: PathBuf,
    keep: bool,
    /// Held open: the lock on the folder.
    _lock: File,
}

impl Run {
    /// Removes what earlier runs left, and makes a folder for this one.
    pub(super) fn new(lab: &Path, work: Option<&Path>) -> Result<Self> {
        let runs = lab.join("runs");
        fs::create_dir_all(&runs)?;
        // A folder is without its lock for a moment; no other lab may look at it then.
        let guard = File::create(lab.join("runs.lock"))?;
        guard.lock()?;
        remove_abandoned(&runs)?;
        let folder = make_numbered(&runs)?;
        let lock = File::create(folder.join(LOCK))?;
        lock.try_lock().context("lock the run's folder")?;
        drop(guard);
        let work = match work {
            Some(path) => path.to_owned(),
            None => folder.join("work"),
        };
        fs::create_dir_all(&work).with_context(|| format!("make the work folder {}", work.display()))?;
        let work = work.canonicalize()?;
        Ok(Self { folder, work, keep: false, _lock: lock })
    }

    /// The run's folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file in the run's folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The folder the command may write.
    pub(super) fn work(&self) -> &Path {
        &self.work
    }

    /// Keeps the folder beyond this run.
    pub(super) fn keep(&mut self) {
        self.keep = true;
        // Without the mark the next lab removes the folder: a pity, no reason to fail.
        let _ = File::create(self.path(KEEP));
    }

    /// Keeps the folder if the command left files in it, and says whether it did.
    pub(super) fn keep_if_work_was_left(&mut self) -> Result<bool> {
        let left = self.work.starts_with(&self.folder) && fs::read_dir(&self.work)?.next().is_some();
        if left {
            self.keep();
        }
        Ok(left)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn make_numbered(runs: &Path) -> Result<PathBuf> {
    for number in 1..=u32::MAX {
        let folder = runs.join(number.to_string());
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("make {}", folder.display())),
        }
    }
    bail!("{} is full", runs.display())
}

/// Removes the folders whose run has ended without keeping them.
fn remove_abandoned(runs: &Path) -> Result<()> {
    for entry in fs::read_dir(runs)? {
        let folder = entry?.path();
        let ended = File::open(folder.join(LOCK)).map_or(true, |lock| lock.try_lock().is_ok());
        if ended && !folder.join(KEEP).exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_do_not_disturb_each_other_and_leave_nothing() {
        let lab = tempfile::tempdir().unwrap();
        let first = Run::new(lab.path(), None).unwrap();
        let second = Run::new(lab.path(), None).unwrap();
        assert_ne!(first.folder(), second.folder());
        assert!(first.work().is_dir() && second.work().is_dir());
        drop((first, second));
        assert_eq!(fs::read_dir(lab.path().join("runs")).unwrap().count(), 0);
    }

    #[test]
    fn an_abandoned_run_is_removed_and_a_kept_one_stays() {
        let lab = tempfile::tempdir().unwrap();
        let abandoned = lab.path().join("runs/7");
        fs::create_dir_all(&abandoned).unwrap();
        fs::write(abandoned.join(LOCK), "").unwrap();
        let mut kept = Run::new(lab.path(), None).unwrap();
        fs::write(kept.work().join("result"), "").unwrap();
        assert!(kept.keep_if_work_was_left().unwrap());
        let folder = kept.folder().to_owned();
        drop(kept);
        let next = Run::new(lab.path(), None).unwrap();
        assert!(!abandoned.exists() && folder.join("work/result").exists());
        assert_ne!(next.folder(), folder);
    }
}
