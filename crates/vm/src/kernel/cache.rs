//! Unpacked kernels on disk.
//!
//! ```text
//! SHA256.elf        an unpacked kernel, named by the image it comes from
//! DEV-INODE.index   size, times and SHA-256 of the image that was seen there last
//! ```
//!
//! Both appear whole or not at all. A file that isn't in order counts as not there.

use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{DirBuilder, File, Metadata, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::NamedTempFile;

/// Within this, a file may change twice and show the same time: the kernel's clock for files ticks every 1 to 10 ms.
const TICK: Duration = Duration::from_millis(50);
const HASH: usize = 64;

/// A directory of unpacked kernels.
pub(super) struct Cache<'a> {
    dir: &'a Path,
}

/// The name of what an image unpacks to: the image's SHA-256.
pub(super) fn name(image: &[u8]) -> String {
    let mut name = String::with_capacity(HASH);
    for byte in Sha256::digest(image) {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

/// Whether a file looks as it did before.
pub(super) fn same(before: &Metadata, now: &Metadata) -> bool {
    before.dev() == now.dev() && before.ino() == now.ino() && facts(before) == facts(now)
}

/// What changes with a file's content.
fn facts(about: &Metadata) -> String {
    let (mtime, ctime) = ((about.mtime(), about.mtime_nsec()), (about.ctime(), about.ctime_nsec()));
    format!("{} {}.{:09} {}.{:09}", about.size(), mtime.0, mtime.1, ctime.0, ctime.1)
}

impl Cache<'_> {
    /// The cache in a directory that needn't be there.
    pub(super) fn new(dir: &Path) -> Cache<'_> {
        Cache { dir }
    }

    /// The name that the index has for an image.
    pub(super) fn indexed(&self, about: &Metadata) -> Option<String> {
        let mut text = String::new();
        ours(&self.index_path(about))?.take(256).read_to_string(&mut text).ok()?;
        let name = text.strip_suffix('\n')?.strip_prefix(&facts(about))?.strip_prefix(' ')?;
        let whole = name.len() == HASH && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        whole.then(|| name.to_owned())
    }

    /// Remembers an image's name, unless it has changed so lately that it could change again unseen.
    pub(super) fn index(&self, about: &Metadata, name: &str) -> io::Result<()> {
        let changed = UNIX_EPOCH.checked_add(Duration::new(u64::try_from(about.ctime()).unwrap_or(0), about.ctime_nsec() as u32));
        let settled = changed.and_then(|changed| SystemTime::now().duration_since(changed).ok()).is_some_and(|age| age > TICK);
        if !settled {
            return Ok(());
        }
        let mut draft = self.draft()?;
        writeln!(draft, "{} {name}", facts(about))?;
        draft.persist(self.index_path(about)).map(drop).map_err(|error| error.error)
    }

    /// An unpacked kernel that is in order and has this size.
    pub(super) fn find(&self, name: &str, size: u64) -> Option<File> {
        ours(&self.path(name)).filter(|file| file.metadata().is_ok_and(|about| about.size() == size))
    }

    /// A file to unpack into, which vanishes unless it is kept.
    pub(super) fn draft(&self) -> io::Result<NamedTempFile> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.dir)?;
        tempfile::Builder::new().prefix(".draft-").tempfile_in(self.dir)
    }

    /// Gives a draft its name. Who could read the image can read it.
    pub(super) fn keep(&self, draft: NamedTempFile, name: &str, image_mode: u32) -> io::Result<()> {
        draft.as_file().set_permissions(Permissions::from_mode(0o600 | image_mode & 0o044))?;
        // Else a power failure could leave the name with none of the content.
        draft.as_file().sync_data()?;
        draft.persist(self.path(name)).map(drop).map_err(|error| error.error)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name).with_extension("elf")
    }

    fn index_path(&self, about: &Metadata) -> PathBuf {
        let name = format!("{:x}-{:x}.index", about.dev(), about.ino());
        self.dir.join(OsStr::new(&name))
    }
}

/// A file that only this user and root could have written.
fn ours(path: &Path) -> Option<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = File::options().read(true).custom_flags(flags.bits() as i32).open(path).ok()?;
    let about = file.metadata().ok()?;
    let owned = about.uid() == 0 || about.uid() == rustix::process::geteuid().as_raw();
    (about.is_file() && owned && about.mode() & 0o022 == 0).then_some(file)
}
