//! Debian's kernel for virtual machines, out of its package. apt checks that it is what the archive signed; nothing is installed.

use super::host::Host;
use anyhow::{Context, ensure};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// An unpacked package, which vanishes with this.
pub(super) struct Package {
    _dir: tempfile::TempDir,
    /// The kernel.
    pub(super) image: PathBuf,
    /// Its modules.
    pub(super) modules: PathBuf,
    /// What the package is.
    pub(super) origin: String,
}

/// Downloads and unpacks the package of the kernel that apt would install.
pub(super) fn fetch(host: &Host) -> anyhow::Result<Package> {
    let dir = tempfile::tempdir().context("can't make a temporary directory")?;
    let (name, version) = download(host, dir.path())
        .context("--debian: can't get Debian's kernel (this needs apt-get with its lists: apt-get update)")?;
    let file =
        fs::read_dir(dir.path())?.flatten().map(|item| item.path()).find(|path| path.extension() == Some(OsStr::new("deb")));
    let file = file.context("--debian: apt-get downloaded no package")?;
    let root = dir.path().join("root");
    host.run("dpkg-deb", &["-x".as_ref(), file.as_os_str(), root.as_os_str()], dir.path()).context("--debian")?;
    let release = name.trim_start_matches("linux-image-");
    let image = root.join("boot").join(format!("vmlinuz-{release}"));
    // With /usr merged (Debian 13) or not.
    let places = ["lib/modules", "usr/lib/modules"].map(|place| root.join(place).join(release));
    let modules = places.into_iter().find(|path| path.is_dir()).context("--debian: the package has no modules")?;
    ensure!(image.is_file(), "--debian: the package has no /boot/vmlinuz-{release}");
    let origin = format!("Debian's {name} {version}");
    Ok(Package { _dir: dir, image, modules, origin })
}

/// Downloads the package into a directory; its name and version.
fn download(host: &Host, dir: &Path) -> anyhow::Result<(String, String)> {
    let shown = host.run("apt-cache", &["--no-all-versions", "show", META_PACKAGE].map(OsStr::new), dir)?;
    let (name, version) =
        parse(&String::from_utf8_lossy(&shown)).with_context(|| format!("apt knows no kernel behind {META_PACKAGE}"))?;
    let package = format!("{name}={version}");
    host.run("apt-get", &["-qq", "-oAPT::Sandbox::User=", "download", &package].map(OsStr::new), dir)?;
    Ok((name, version))
}

/// Name and version out of `Depends: linux-image-6.1.0-9-cloud-amd64 (= 6.1.27-1)` in the record of the meta package.
fn parse(record: &str) -> Option<(String, String)> {
    let depends = record.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    let (name, rest) = depends.split_once(" (= ")?;
    let (version, _) = rest.split_once(')')?;
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".+-~:".contains(&byte));
    (name.starts_with("linux-image-") && plain(name) && plain(version)).then(|| (name.to_owned(), version.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_kernel_is_what_the_meta_package_depends_on() {
        let record = "Package: linux-image-cloud-amd64\nDepends: linux-image-6.1.0-9-cloud-amd64 (= 6.1.27-1)\n";
        assert_eq!(parse(record), Some(("linux-image-6.1.0-9-cloud-amd64".into(), "6.1.27-1".into())));
        assert_eq!(parse("Depends: linux-image-../x (= 1)\n"), None);
        assert_eq!(parse("Depends: something (= 1)\n"), None);
    }
}
