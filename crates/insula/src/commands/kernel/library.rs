//! The library of kernels.
//!
//! ```text
//! NAME/image        the file as it was imported, or built
//! NAME/unpacked/    what it unpacks to (the cache of `insula_vm::kernel`)
//! NAME/modules/     its modules, as below /lib/modules/RELEASE
//! NAME/initrd       the initial file system that loads them, if it needs one
//! NAME/config       what it was built with, and System.map, its symbols
//! NAME/kernel.json  what `list` shows
//! ```
//!
//! An entry is made under another name and renamed, so it is whole or not there. Names that begin with a dot are drafts. Whoever makes one holds
//! a lock on it; one without belongs to somebody who was killed, and goes when the next is made.

use anyhow::{Context, bail, ensure};
use insula_spec::Id;
use insula_vm::kernel::Kernel;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

const DRAFT: &str = ".draft-";
const IMAGE: &str = "image";
/// The directory that an image is unpacked to.
pub(super) const UNPACKED: &str = "unpacked";
/// The initial file system for who brings none.
pub(super) const INITRD: &str = "initrd";
/// The file that says what an entry is.
pub(super) const FACTS: &str = "kernel.json";

/// What is known of a kernel without opening it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Its name in the library: that of its directory.
    #[serde(default)]
    pub(super) name: String,
    /// The release, if the image says it.
    pub(super) version: Option<String>,
    /// What the image is.
    pub(super) format: String,
    /// Bytes of the unpacked kernel.
    pub(super) size: u64,
    /// How many modules are kept with it.
    pub(super) modules: usize,
    /// SHA-256 of the image. (Entries of older versions don't say it, nor the next.)
    #[serde(default)]
    pub(super) sha256: String,
    /// Where it came from.
    #[serde(default)]
    pub(super) origin: String,
}

/// A directory of kernels.
pub(super) struct Library {
    dir: PathBuf,
}

/// An entry that isn't there yet; it vanishes unless it is finished.
pub(super) struct Draft<'a> {
    library: &'a Library,
    dir: tempfile::TempDir,
    /// Says that somebody is at work on it.
    _lock: File,
}

impl Library {
    pub(super) fn new(dir: PathBuf) -> Library {
        Library { dir }
    }

    /// Where an entry's image is, if there is such an entry.
    pub(super) fn image(&self, name: &Id) -> PathBuf {
        self.dir.join(name.as_str()).join(IMAGE)
    }

    /// Begins an entry.
    pub(super) fn draft(&self) -> anyhow::Result<Draft<'_>> {
        let failed = || format!("can't write into the library of kernels {}", self.dir.display());
        fs::create_dir_all(&self.dir).with_context(failed)?;
        let _turn = self.turn()?;
        self.sweep();
        let dir = tempfile::Builder::new().prefix(DRAFT).tempdir_in(&self.dir).with_context(failed)?;
        let lock = File::open(dir.path()).with_context(failed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).with_context(failed)?;
        // Else it would be made for us alone.
        fs::create_dir(dir.path().join(UNPACKED)).with_context(failed)?;
        Ok(Draft { library: self, dir, _lock: lock })
    }

    /// One at a time makes drafts and takes them away; who has it keeps it as long as the file.
    fn turn(&self) -> anyhow::Result<File> {
        let failed = || format!("can't lock the library of kernels {}", self.dir.display());
        let dir = File::open(&self.dir).with_context(failed)?;
        flock(&dir, FlockOperation::LockExclusive).with_context(failed)?;
        Ok(dir)
    }

    /// Takes away the drafts on which nobody is at work any more. What can't be removed is in nobody's way.
    fn sweep(&self) {
        for item in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if !item.file_name().to_string_lossy().starts_with(DRAFT) {
                continue;
            }
            let lock = File::open(item.path());
            if lock.is_ok_and(|dir| flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok()) {
                let _ = fs::remove_dir_all(item.path());
            }
        }
    }

    /// An error if an entry can't have this name: for those who don't want to learn it after an hour.
    pub(super) fn check_name(&self, name: Option<&Id>) -> anyhow::Result<()> {
        let Some(name) = name.map(Id::as_str) else { return Ok(()) };
        ensure!(!name.starts_with('.'), "--name {name}: it can't begin with a dot");
        ensure!(!self.dir.join(name).exists(), "{}", self.taken(name));
        Ok(())
    }

    fn taken(&self, name: &str) -> String {
        format!("there is a kernel {name} already; say --name NAME, or remove it first: insula kernel remove {name}")
    }

    /// Removes an entry. A machine that runs with it has its own copy in memory.
    pub(super) fn remove(&self, name: &Id) -> anyhow::Result<()> {
        let path = self.dir.join(name.as_str());
        let known = !name.as_str().starts_with('.') && path.is_dir();
        ensure!(
            known,
            "there is no kernel {} in {}; `insula kernel list` shows those there are",
            name.as_str(),
            self.dir.display()
        );
        let _turn = self.turn()?;
        self.sweep();
        // Gone at once, by its name; then piece by piece.
        let failed = || format!("can't remove {}", path.display());
        let grave = tempfile::Builder::new().prefix(DRAFT).tempdir_in(&self.dir).with_context(failed)?;
        fs::rename(&path, grave.path()).with_context(failed)?;
        grave.close().with_context(failed)
    }

    /// All entries by name, and what is wrong with those that can't be read.
    pub(super) fn list(&self) -> anyhow::Result<(Vec<Entry>, Vec<anyhow::Error>)> {
        let failed = || format!("can't read the library of kernels {}", self.dir.display());
        let dir = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
            dir => dir.with_context(failed)?,
        };
        let (mut entries, mut broken) = (Vec::new(), Vec::new());
        for item in dir {
            let item = item.with_context(failed)?;
            let name = item.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            match entry(&item.path()) {
                Ok(entry) => entries.push(Entry { name, ..entry }),
                Err(error) => broken.push(error),
            }
        }
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok((entries, broken))
    }
}

fn entry(dir: &Path) -> anyhow::Result<Entry> {
    let path = dir.join(FACTS);
    let text = super::super::read_limited(&path, 1 << 16);
    let entry = text.and_then(|text| Ok(serde_json::from_slice(&text)?));
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    entry.with_context(|| format!("can't read {}; make the entry anew after `insula kernel remove {name}`", path.display()))
}

impl Draft<'_> {
    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A directory in it that must be gone when it is finished.
    pub(super) fn scratch(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.dir.path().join(name);
        fs::create_dir(&path).with_context(|| format!("can't make {}", path.display()))?;
        Ok(path)
    }

    /// Copies the image.
    pub(super) fn take_image(&self, from: &Path) -> anyhow::Result<()> {
        // Says what is wrong with the path that was given, and not with our copy; that one is then known by its content.
        Kernel::open(from, Some(&self.unpacked()))?;
        self.keep(from, IMAGE)
    }

    /// Copies a file to what it is called in an entry.
    pub(super) fn keep(&self, from: &Path, name: &str) -> anyhow::Result<()> {
        let to = self.dir.path().join(name);
        let copied = fs::copy(from, &to).and_then(|_| File::open(&to)?.sync_data());
        copied.with_context(|| format!("can't copy {} to {}", from.display(), to.display()))
    }

    fn unpacked(&self) -> PathBuf {
        self.dir.path().join(UNPACKED)
    }

    /// Where its modules go.
    pub(super) fn modules(&self) -> PathBuf {
        self.dir.path().join("modules")
    }

    /// Unpacks the image and gives the entry its name.
    pub(super) fn finish(self, name: Option<Id>, origin: String) -> anyhow::Result<Entry> {
        let dir = self.dir.path();
        let image = dir.join(IMAGE);
        let kernel = Kernel::open(&image, Some(&self.unpacked()))?;
        let version = kernel.release()?;
        let release = || version.as_deref().and_then(|release| release.parse::<Id>().ok());
        let name = name.or_else(release).context("the image doesn't say its release; say --name NAME")?;
        self.library.check_name(Some(&name))?;
        let modules = super::modules::count(&self.modules())?;
        super::initrd::write(&self.modules(), &dir.join(INITRD))?;
        let (format, sha256) = (kernel.format.to_string(), sha256(&image)?);
        let entry = Entry { name: name.as_str().into(), version, format, size: kernel.size, modules, sha256, origin };
        let text = serde_json::to_vec_pretty(&entry)?;
        fs::write(dir.join(FACTS), text).with_context(|| format!("can't write into {}", dir.display()))?;
        fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .context("can't open the entry to others")?;
        let path = self.library.dir.join(name.as_str());
        match rustix::fs::renameat_with(CWD, dir, CWD, &path, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => bail!("{}", self.library.taken(name.as_str())),
            Err(error) => Err(error).with_context(|| format!("can't make {}", path.display()))?,
        }
        // There is nothing left at the old name.
        let _ = self.dir.keep();
        Ok(entry)
    }
}

fn sha256(path: &Path) -> anyhow::Result<String> {
    let failed = || format!("can't read {}", path.display());
    let mut hash = Sha256::new();
    let mut file = File::open(path).with_context(failed)?;
    let mut piece = vec![0; 1 << 18];
    loop {
        match io::Read::read(&mut file, &mut piece).with_context(failed)? {
            0 => break,
            length => hash.update(&piece[..length]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
