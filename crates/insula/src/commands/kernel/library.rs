//! The library of kernels.
//!
//! ```text
//! NAME/image        the file as it was imported
//! NAME/unpacked/    what it unpacks to (the cache of `insula_vm::kernel`)
//! NAME/modules/     its modules, as below /lib/modules/RELEASE
//! NAME/kernel.json  what `list` shows
//! ```
//!
//! An entry is made under another name and renamed, so it is whole or not there. Names that begin with a dot are drafts.

use anyhow::{Context, bail, ensure};
use insula_spec::Id;
use insula_vm::kernel::Kernel;
use rustix::fs::{CWD, RenameFlags};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

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
}

/// A directory of kernels.
pub(super) struct Library {
    dir: PathBuf,
}

/// An entry that isn't there yet; it vanishes unless it is finished.
pub(super) struct Draft<'a> {
    library: &'a Library,
    dir: tempfile::TempDir,
}

impl Library {
    pub(super) fn new(dir: PathBuf) -> Library {
        Library { dir }
    }

    /// Begins an entry.
    pub(super) fn draft(&self) -> anyhow::Result<Draft<'_>> {
        let failed = || format!("can't write into the library of kernels {}", self.dir.display());
        fs::create_dir_all(&self.dir).with_context(failed)?;
        let dir = tempfile::Builder::new().prefix(".draft-").tempdir_in(&self.dir).with_context(failed)?;
        // Else it would be made for us alone.
        fs::create_dir(dir.path().join("unpacked")).with_context(failed)?;
        Ok(Draft { library: self, dir })
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
    let path = dir.join("kernel.json");
    let text = super::super::read_limited(&path, 1 << 16);
    let entry = text.and_then(|text| Ok(serde_json::from_slice(&text)?));
    entry.with_context(|| format!("can't read {}; remove {} and import the kernel again", path.display(), dir.display()))
}

impl Draft<'_> {
    /// Copies the image.
    pub(super) fn take_image(&self, from: &Path) -> anyhow::Result<()> {
        // Says what is wrong with the path that was given, and not with our copy; that one is then known by its content.
        Kernel::open(from, Some(&self.unpacked()))?;
        let to = self.dir.path().join("image");
        let copied = fs::copy(from, &to).and_then(|_| File::open(&to)?.sync_data());
        copied.with_context(|| format!("can't copy {} to {}", from.display(), to.display()))
    }

    fn unpacked(&self) -> PathBuf {
        self.dir.path().join("unpacked")
    }

    /// Where its modules go.
    pub(super) fn modules(&self) -> PathBuf {
        self.dir.path().join("modules")
    }

    /// Unpacks the image and gives the entry its name.
    pub(super) fn finish(self, name: Option<Id>) -> anyhow::Result<Entry> {
        let dir = self.dir.path();
        let kernel = Kernel::open(&dir.join("image"), Some(&self.unpacked()))?;
        let version = kernel.release()?;
        let release = || version.as_deref().and_then(|release| release.parse::<Id>().ok());
        let name = name.or_else(release).context("the image doesn't say its release; say --name NAME")?;
        ensure!(!name.as_str().starts_with('.'), "--name {}: it can't begin with a dot", name.as_str());
        let modules = super::modules::count(&self.modules())?;
        let format = kernel.format.to_string();
        let entry = Entry { name: name.as_str().into(), version, format, size: kernel.size, modules };
        let text = serde_json::to_vec_pretty(&entry)?;
        fs::write(dir.join("kernel.json"), text).with_context(|| format!("can't write into {}", dir.display()))?;
        fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .context("can't open the entry to others")?;
        let path = self.library.dir.join(name.as_str());
        match rustix::fs::renameat_with(CWD, dir, CWD, &path, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => {
                bail!("there is a kernel {} already; say --name NAME, or remove {} first", name.as_str(), path.display())
            }
            Err(error) => Err(error).with_context(|| format!("can't make {}", path.display()))?,
        }
        // There is nothing left at the old name.
        let _ = self.dir.keep();
        Ok(entry)
    }
}
