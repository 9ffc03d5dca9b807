//! The machine's root image and what boots it, made from Debian's packages and cached.
//!
//! `target/lab/<key>/` holds `root.erofs`, `vmlinuz` and `initrd` (busybox and the early modules). The key stands for the packages
//! asked for, the kernel's version and the recipe in this file; another key is another image, and the newest few are kept.

use super::packages::{self, Apt};
use super::{kernel, tools};
use anyhow::{Context, Result};
use insula_initramfs::Archive;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::BufWriter;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// To be raised whenever this file makes another image from the same packages.
const RECIPE: u32 = 3;

/// The image is mapped into the machine's memory, which QEMU hands out in steps of this size.
const MAPPED_STEP: u64 = 2 << 20;

/// What of the packages is of no use in the machine.
const LEFT_OUT: &[&str] = &["usr/share/doc", "usr/share/info", "usr/share/locale", "usr/share/man"];

/// Who is in the machine beside Debian's own users: an unprivileged user with ranges of subordinate ids, the message bus, and KVM's group.
const USERS: &[(&str, &str)] = &[
    ("etc/passwd", "lab:x:1000:1000::/home/lab:/bin/bash\nmessagebus:x:105:105::/nonexistent:/usr/sbin/nologin\n"),
    ("etc/group", "lab:x:1000:\nkvm:x:104:lab\nmessagebus:x:105:\n"),
    ("etc/subuid", "lab:100000:65536\n"),
    ("etc/subgid", "lab:100000:65536\n"),
    ("etc/hosts", "127.0.0.1 localhost lab\n::1 localhost\n"),
    ("etc/hostname", "lab\n"),
];

/// A bootable image.
pub(super) struct Image {
    /// The kernel, as Debian packs it.
    pub(super) kernel: PathBuf,
    /// The first part of the initramfs; the run's own part follows it.
    pub(super) initrd: PathBuf,
    /// The root, a file system image (EROFS).
    pub(super) root: PathBuf,
}

impl Image {
    fn at(folder: &Path) -> Self {
        Self { kernel: folder.join("vmlinuz"), initrd: folder.join("initrd"), root: folder.join("root.erofs") }
    }

    /// The image from the cache, or a new one.
    pub(super) fn get(lab: &Path, more_packages: &[String]) -> Result<Self> {
        let kernel = kernel::Package::current().or_else(|_| packages::with_fresh_lists(kernel::Package::current))?;
        let folder = lab.join(format!("image-{:016x}", key(&kernel, more_packages)));
        // Two labs at once make one image, not two; the lock goes with the process.
        let lock = File::create(lab.join("image.lock"))?;
        lock.lock().context("wait for another lab that makes an image")?;
        if !folder.exists() {
            eprintln!("lab: making the image ({} and {} packages)", kernel.release(), names(more_packages).count());
            make(lab, &folder, more_packages)?;
        }
        Ok(Self::at(&folder))
    }
}

fn names(more: &[String]) -> impl Iterator<Item = &str> {
    packages::BASE.iter().copied().chain(more.iter().map(String::as_str))
}

/// Only a name for a folder of the cache: another toolchain may hash differently, and costs one making more.
fn key(kernel: &kernel::Package, more_packages: &[String]) -> u64 {
    let mut more: Vec<&String> = more_packages.iter().collect();
    more.sort();
    more.dedup();
    let mut hasher = DefaultHasher::new();
    (RECIPE, &kernel.name, &kernel.version, packages::BASE, more).hash(&mut hasher);
    hasher.finish()
}

/// Makes an image aside and puts it in place whole.
fn make(lab: &Path, folder: &Path, more_packages: &[String]) -> Result<()> {
    let aside = lab.join("making");
    remove_folder(&aside)?;
    fs::create_dir_all(&aside)?;
    packages::with_fresh_lists(|| fill(&aside, more_packages)).context("make the lab's image")?;
    fs::rename(&aside, folder)?;
    remove_old_images(lab, folder)
}

fn fill(aside: &Path, more_packages: &[String]) -> Result<()> {
    // A second attempt comes after apt's lists were renewed, and the kernel may be another one by then.
    let kernel = kernel::Package::current()?;
    let scratch = aside.join("scratch");
    remove_folder(&scratch)?;
    let tree = scratch.join("root");
    fs::create_dir_all(&tree)?;
    let image = Image::at(aside);

    let apt = Apt::new(&scratch)?;
    let kernel_archive = apt.download_one(&kernel.name, &kernel.version)?;
    let archives = apt.download_closure(names(more_packages))?;
    merge_usr(&tree)?;
    for archive in archives.iter().chain([&kernel_archive]) {
        packages::unpack(archive, &tree)?;
    }
    fs::rename(tree.join("boot").join(format!("vmlinuz-{}", kernel.release())), &image.kernel)?;
    let modules = tree.join("usr/lib/modules").join(kernel.release());
    settle(&tree, kernel.release())?;
    write_initrd(&image.initrd, &tree.join("usr/bin/busybox"), &modules)?;
    write_root(&image.root, &tree)?;
    remove_folder(&scratch)
}

/// Debian's layout: the top folders are links into `/usr`.
fn merge_usr(tree: &Path) -> Result<()> {
    for name in ["bin", "lib", "lib64", "sbin"] {
        fs::create_dir_all(tree.join("usr").join(name))?;
        symlink(format!("usr/{name}"), tree.join(name))?;
    }
    Ok(())
}

/// Does what the packages' scripts would have done, as far as the machine needs it.
fn settle(tree: &Path, release: &str) -> Result<()> {
    for name in LEFT_OUT {
        remove_folder(&tree.join(name))?;
    }
    link_if_missing(tree, "usr/bin/sh", "dash")?;
    link_if_missing(tree, "usr/bin/awk", "gawk")?;
    link_if_missing(tree, "etc/mtab", "../proc/self/mounts")?;
    for name in ["passwd", "group"] {
        fs::copy(tree.join("usr/share/base-passwd").join(format!("{name}.master")), tree.join("etc").join(name))?;
    }
    for (path, lines) in USERS {
        let path = tree.join(path);
        let before = fs::read_to_string(&path).unwrap_or_default();
        fs::write(&path, before + lines).with_context(|| format!("write {}", path.display()))?;
    }
    // The host may have no depmod; the machine's own runs on the host too.
    let program = |path: &str| tree.join(path).into_os_string();
    tools::run(&[
        program("lib64/ld-linux-x86-64.so.2"),
        "--library-path".into(),
        program("usr/lib/x86_64-linux-gnu"),
        "--argv0".into(),
        "depmod".into(),
        program("usr/bin/kmod"),
        "-b".into(),
        tree.into(),
        release.into(),
    ])?;
    Ok(())
}

fn link_if_missing(tree: &Path, name: &str, to: &str) -> Result<()> {
    let link = tree.join(name);
    if link.symlink_metadata().is_err() {
        symlink(to, &link).with_context(|| format!("link {}", link.display()))?;
    }
    Ok(())
}

/// The part of the initramfs that is the same for every run; `guest/init.sh` comes with the run's part.
fn write_initrd(path: &Path, busybox: &Path, modules: &Path) -> Result<()> {
    let mut archive = Archive::new(BufWriter::new(File::create(path)?));
    for folder in ["bin", "dev", "proc", "sys", "modules", "image", "root"] {
        archive.folder(folder)?;
    }
    archive.file("bin/busybox", 0o755, &fs::read(busybox).context("read busybox")?)?;
    let mut order = String::new();
    for module in kernel::early_modules(modules)? {
        let name = module.rsplit('/').next().unwrap_or(&module);
        archive.file(&format!("modules/{name}"), 0o644, &fs::read(modules.join(&module))?)?;
        order.push_str(name);
        order.push('\n');
    }
    archive.file("modules/order", 0o644, order.as_bytes())?;
    archive.finish()?;
    Ok(())
}

/// Uncompressed, so that the machine can use the mapped file in place.
fn write_root(path: &Path, tree: &Path) -> Result<()> {
    fs::set_permissions(tree, fs::Permissions::from_mode(0o755))?;
    let program = |name: &str| name.into();
    tools::run(&[
        program("mkfs.erofs"),
        "--quiet".into(),
        "-T0".into(),
        "-U00000000-0000-0000-0000-000000000000".into(),
        path.as_os_str().to_owned(),
        tree.as_os_str().to_owned(),
    ])?;
    let file = File::options().write(true).open(path)?;
    file.set_len(file.metadata()?.len().next_multiple_of(MAPPED_STEP))?;
    Ok(())
}

/// Keeps the newest few images, as some tests ask for more packages than others; a lab that runs keeps its own open, so it loses nothing.
fn remove_old_images(lab: &Path, new: &Path) -> Result<()> {
    const KEPT: usize = 3;
    let mut images = Vec::new();
    for entry in fs::read_dir(lab)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("image-") && entry.path() != new {
            images.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    images.sort();
    images.iter().rev().skip(KEPT - 1).try_for_each(|(_, path)| remove_folder(path))
}

fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_follows_the_kernel_and_the_set_of_packages() {
        let kernel = |version: &str| kernel::Package { name: "linux-image-6.1.0-9".into(), version: version.into() };
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let base = key(&kernel("1"), &[]);
        assert_eq!(base, key(&kernel("1"), &[]));
        assert_ne!(base, key(&kernel("2"), &[]));
        assert_ne!(base, key(&kernel("1"), &set(&["a"])));
        assert_eq!(key(&kernel("1"), &set(&["a", "b"])), key(&kernel("1"), &set(&["b", "a", "b"])));
    }
}
