//! Where the source comes from: Debian's package (apt checks that it is what the archive signed), an archive, or a directory.

use super::Progress;
use crate::commands::kernel::host::Host;
use anyhow::{Context, bail, ensure};
use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What `--source` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Debian's linux-source-VERSION; without one, the newest that apt knows.
    Debian(Option<String>),
    /// An archive that tar can read, or a directory with the source in it.
    Path(PathBuf),
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Source, String> {
        match text.split_once(':') {
            None if text == "debian" => Ok(Source::Debian(None)),
            Some(("debian", version)) if numbers(version).is_some() => Ok(Source::Debian(Some(version.to_owned()))),
            Some(("debian", version)) => Err(format!("{version:?} is no version of a linux-source package; write debian:6.12")),
            _ => Ok(Source::Path(text.into())),
        }
    }
}

/// A source that is ready.
pub(super) struct Tree {
    /// Where the kernel's Makefile is.
    pub(super) tree: PathBuf,
    /// What it is, for the record.
    pub(super) origin: String,
}

impl Source {
    /// Gets it, unpacked. What has to be written goes below `work`.
    pub(super) fn get(&self, host: &Host, work: &Path, progress: &Progress) -> anyhow::Result<Tree> {
        match self {
            Source::Debian(version) => {
                progress.stage("get the source");
                let (archive, origin) = download(host, version.as_deref(), work)?;
                progress.stage("unpack the source");
                let tree = unpack(host, &archive, work)?;
                fs::remove_file(&archive).with_context(|| format!("can't remove {}", archive.display()))?;
                Ok(Tree { tree, origin })
            }
            Source::Path(path) => {
                let about = fs::metadata(path).with_context(|| format!("can't use --source {}", path.display()))?;
                let path = fs::canonicalize(path).with_context(|| format!("can't use --source {}", path.display()))?;
                let origin = path.display().to_string();
                if about.is_dir() {
                    ensure!(is_tree(&path), "--source {origin}: there is no source of Linux in it");
                    return Ok(Tree { tree: path, origin });
                }
                progress.stage("unpack the source");
                Ok(Tree { tree: unpack(host, &path, work)?, origin })
            }
        }
    }
}

fn is_tree(dir: &Path) -> bool {
    ["Makefile", "Kconfig", "arch/x86/Kconfig"].iter().all(|file| dir.join(file).is_file())
}

/// Unpacks an archive; the one directory in it.
fn unpack(host: &Host, archive: &Path, work: &Path) -> anyhow::Result<PathBuf> {
    let dir = work.join("source");
    fs::create_dir(&dir).with_context(|| format!("can't make {}", dir.display()))?;
    let args = ["-x".as_ref(), "--no-same-owner".as_ref(), "-f".as_ref(), archive.as_os_str()];
    host.run("tar", &args, &dir).with_context(|| format!("can't unpack {}", archive.display()))?;
    let trees: Vec<PathBuf> = fs::read_dir(&dir)?.flatten().map(|item| item.path()).filter(|path| is_tree(path)).collect();
    match <[PathBuf; 1]>::try_from(trees) {
        Ok([tree]) => Ok(tree),
        Err(_) => bail!("--source {}: it isn't an archive of one directory with the source of Linux", archive.display()),
    }
}

/// Downloads Debian's package; the archive out of it, and what it is.
fn download(host: &Host, version: Option<&str>, work: &Path) -> anyhow::Result<(PathBuf, String)> {
    let advice = "--source debian: can't get Debian's source (this needs apt-get with its lists: apt-get update)";
    let version = match version {
        Some(version) => version.to_owned(),
        None => {
            let names = host.run("apt-cache", &["pkgnames", "linux-source-"].map(OsStr::new), work).context(advice)?;
            newest(&String::from_utf8_lossy(&names))
                .context("--source debian: apt knows no linux-source package; try apt-get update")?
        }
    };
    let package = format!("linux-source-{version}");
    host.run("apt-get", &["-qq", "-oAPT::Sandbox::User=", "download", &package].map(OsStr::new), work).context(advice)?;
    let deb = fs::read_dir(work)?.flatten().map(|item| item.path()).find(|path| path.extension() == Some(OsStr::new("deb")));
    let deb = deb.context("--source debian: apt-get downloaded no package")?;
    let exact = host.run("dpkg-deb", &["-f".as_ref(), deb.as_os_str(), "Version".as_ref()], work)?;
    let root = work.join("package");
    host.run("dpkg-deb", &["-x".as_ref(), deb.as_os_str(), root.as_os_str()], work)?;
    fs::remove_file(&deb).with_context(|| format!("can't remove {}", deb.display()))?;
    let archive = root.join("usr/src").join(format!("{package}.tar.xz"));
    ensure!(archive.is_file(), "--source debian: {package} has no /usr/src/{package}.tar.xz");
    Ok((archive, format!("Debian's {package} {}", String::from_utf8_lossy(&exact).trim())))
}

/// The highest version among names of packages: linux-source-6.12 before linux-source-6.1.
fn newest(names: &str) -> Option<String> {
    let versions = names.lines().filter_map(|name| name.trim().strip_prefix("linux-source-"));
    let known = versions.filter_map(|version| Some((numbers(version)?, version)));
    let later = |one: &(Vec<u32>, _), other: &(Vec<u32>, _)| -> Ordering { one.0.cmp(&other.0) };
    known.max_by(later).map(|(_, version)| version.to_owned())
}

/// `6.12` as numbers.
fn numbers(version: &str) -> Option<Vec<u32>> {
    version.split('.').map(|part| part.parse().ok().filter(|_| part.bytes().all(|byte| byte.is_ascii_digit()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_debians_or_a_path() {
        assert_eq!("debian".parse(), Ok(Source::Debian(None)));
        assert_eq!("debian:6.12".parse(), Ok(Source::Debian(Some("6.12".into()))));
        assert_eq!("linux.tar.xz".parse(), Ok(Source::Path("linux.tar.xz".into())));
        for wrong in ["debian:", "debian:x", "debian:6.12=1", "debian:../x"] {
            assert!(wrong.parse::<Source>().unwrap_err().contains("write debian:6.12"), "{wrong}");
        }
    }

    #[test]
    fn the_newest_is_not_the_longest_name() {
        let names = "linux-source-6.1\nlinux-source-6.12\nlinux-source-5.10\nlinux-source-rt\nlinux-source\n";
        assert_eq!(newest(names).as_deref(), Some("6.12"));
        assert_eq!(newest("linux-source\n"), None);
    }
}
