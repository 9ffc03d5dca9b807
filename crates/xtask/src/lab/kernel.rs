//! Debian's cloud kernel: which one is current, and the modules that the initramfs must load before there is a root.

use super::tools;
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::path::Path;

const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// What mounts the root; everything else is loaded from the root.
const EARLY_MODULES: &[&str] = &["virtio_pci", "virtio_pmem", "nd_pmem", "erofs", "overlay"];

/// The kernel's package.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Package {
    /// `linux-image-<release>`.
    pub(super) name: String,
    /// The package's version.
    pub(super) version: String,
}

impl Package {
    /// The kernel that apt would install now.
    pub(super) fn current() -> Result<Self> {
        let shown = tools::run(&["apt-cache", "--no-all-versions", "show", META_PACKAGE])?;
        Self::parse(&String::from_utf8_lossy(&shown)).with_context(|| format!("apt knows no kernel behind {META_PACKAGE}"))
    }

    /// Reads `Depends: linux-image-6.1.0-9-cloud-amd64 (= 6.1.27-1)` out of the record of the meta package.
    fn parse(record: &str) -> Option<Self> {
        let depends = record.lines().find_map(|line| line.strip_prefix("Depends: "))?;
        let (name, rest) = depends.split_once(" (= ")?;
        let (version, _) = rest.split_once(')')?;
        name.starts_with("linux-image-").then(|| Self { name: name.into(), version: version.into() })
    }

    /// What `uname -r` says in the machine.
    pub(super) fn release(&self) -> &str {
        self.name.strip_prefix("linux-image-").unwrap_or(&self.name)
    }
}

/// The early modules with their dependencies, as paths under the release's folder, in the order in which they load.
pub(super) fn early_modules(modules: &Path) -> Result<Vec<String>> {
    let path = modules.join("modules.dep");
    let dep = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    load_order(&dep, EARLY_MODULES)
}

/// Orders modules by `modules.dep`: a line names a module and everything it needs, what is needed first coming last.
fn load_order(dep: &str, names: &[&str]) -> Result<Vec<String>> {
    let lines: HashMap<&str, (&str, &str)> = dep
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter_map(|(path, needs)| {
            let file = path.rsplit('/').next()?;
            Some((file.split_once(".ko")?.0, (path, needs)))
        })
        .collect();
    let mut order: Vec<String> = Vec::new();
    for name in names {
        let (path, needs) = lines.get(name).with_context(|| format!("the kernel has no module {name}"))?;
        for module in needs.split_whitespace().rev().chain([*path]) {
            if !order.iter().any(|known| known == module) {
                order.push(module.into());
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_what_the_meta_package_depends_on() {
        let record = "Package: linux-image-cloud-amd64\nVersion: 6.1.27-1\n\
                      Depends: linux-image-6.1.0-9-cloud-amd64 (= 6.1.27-1)\nSection: kernel\n";
        let package = Package::parse(record).unwrap();
        assert_eq!(package.name, "linux-image-6.1.0-9-cloud-amd64");
        assert_eq!(package.version, "6.1.27-1");
        assert_eq!(package.release(), "6.1.0-9-cloud-amd64");
        assert_eq!(Package::parse("Depends: something (= 1)\n"), None);
        assert_eq!(Package::parse(""), None);
    }

    #[test]
    fn a_module_loads_after_what_it_needs_and_once() {
        let dep = "k/b.ko: k/a.ko\nk/a.ko:\nk/c.ko: k/b.ko k/a.ko\n";
        assert_eq!(load_order(dep, &["c", "b"]).unwrap(), ["k/a.ko", "k/b.ko", "k/c.ko"]);
        assert!(load_order(dep, &["d"]).is_err());
    }
}
