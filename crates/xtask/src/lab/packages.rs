//! Debian packages: from names to an unpacked tree, with apt's own resolver and archive checks, beside the host's installation.

use super::tools;
use anyhow::{Context, Result, ensure};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is in the root of every lab; their dependencies come with them.
pub(super) const BASE: &[&str] = &[
    "base-files",
    "base-passwd",
    "bash",
    "bubblewrap",
    "busybox-static",
    "coreutils",
    "crun",
    "dash",
    "diffutils",
    "e2fsprogs",
    "findutils",
    "gawk",
    "grep",
    "gzip",
    "iproute2",
    "iputils-ping",
    "jq",
    "kmod",
    "lz4",
    "mount",
    "nftables",
    "procps",
    "runc",
    "sed",
    "socat",
    "strace",
    "tar",
    "uidmap",
    "util-linux",
    // Our tree is laid out merged from the start; without this apt picks the package that merges one, and Perl with it.
    "usr-is-merged",
    "xz-utils",
    "zstd",
];

/// A folder of archives, and an apt that thinks nothing is installed.
///
/// The second point is what makes apt answer with the whole closure of dependencies and not only with what the host lacks.
pub(super) struct Apt {
    cache: PathBuf,
    options: Vec<OsString>,
}

impl Apt {
    /// `folder` holds the archives and apt's state for as long as the image is made.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let cache = folder.join("apt");
        std::fs::create_dir_all(cache.join("archives/partial"))?;
        let status = cache.join("status");
        std::fs::write(&status, "").context("make an empty dpkg status")?;
        let mut options: Vec<OsString> =
            ["-q", "-y", "-oDebug::NoLocking=1", "-oAPT::Install-Recommends=0", "-oAPT::Sandbox::User="].map(Into::into).into();
        options.push(option("Dir::State::status", &status));
        options.push(option("Dir::Cache", &cache));
        Ok(Self { cache, options })
    }

    /// Downloads packages with everything they depend on, and answers with the archives.
    pub(super) fn download_closure<'a>(&self, names: impl Iterator<Item = &'a str>) -> Result<Vec<PathBuf>> {
        let mut command: Vec<OsString> = vec!["apt-get".into()];
        command.extend(self.options.iter().cloned());
        command.extend(["--download-only".into(), "install".into()]);
        command.extend(names.map(Into::into));
        tools::run(&command)?;
        archives(&self.cache.join("archives"))
    }

    /// Downloads one package alone, in one version, and answers with its archive.
    pub(super) fn download_one(&self, name: &str, version: &str) -> Result<PathBuf> {
        let folder = self.cache.join("one");
        std::fs::create_dir_all(&folder)?;
        let status = Command::new("apt-get")
            .args(&self.options)
            .args(["-qq", "download"])
            .arg(format!("{name}={version}"))
            .current_dir(&folder)
            .stdout(Stdio::null())
            .status()
            .context("run apt-get")?;
        ensure!(status.success(), "apt-get could not download {name} {version}");
        archives(&folder)?.pop().with_context(|| format!("apt-get left no archive of {name}"))
    }
}

fn option(name: &str, value: &Path) -> OsString {
    let mut option = OsString::from(format!("-o{name}="));
    option.push(value);
    option
}

fn archives(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new("deb")) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Unpacks an archive's files into a tree; its scripts are not run.
pub(super) fn unpack(archive: &Path, tree: &Path) -> Result<()> {
    let mut reader =
        Command::new("dpkg-deb").arg("--fsys-tarfile").arg(archive).stdout(Stdio::piped()).spawn().context("run dpkg-deb")?;
    let tar = reader.stdout.take().context("dpkg-deb has no stdout")?;
    // /bin, /lib and /sbin are links into /usr; an archive that names them as folders must not replace them.
    let unpacked = Command::new("tar")
        .args(["-x", "-p", "--keep-directory-symlink", "-C"])
        .arg(tree)
        .stdin(tar)
        .status()
        .context("run tar")?;
    let read = reader.wait()?;
    ensure!(unpacked.success() && read.success(), "could not unpack {}", archive.display());
    Ok(())
}

/// Runs `action`; if it fails, brings apt's lists up to date and tries once more (a list that is too old names archives that are gone).
pub(super) fn with_fresh_lists<T>(mut action: impl FnMut() -> Result<T>) -> Result<T> {
    action().or_else(|_| {
        eprintln!("lab: bringing apt's lists up to date");
        tools::run(&["apt-get", "-qq", "update"])?;
        action()
    })
}
