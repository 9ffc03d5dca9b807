//! A guest's modules.
//!
//! A module names what it needs itself, in its section `.modinfo`. A package out of which nothing was installed has no `modules.dep` yet,
//! and `depmod` isn't on every host. So the file is written here, in the form of modules.dep(5): what is needed first comes last.

use anyhow::{Context, bail, ensure};
use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What a guest of ours may need before and after it has a root.
const NEEDED: &[&str] = &[
    "virtio_mmio",
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
    "virtio_rng",
    "virtio_balloon",
    "virtio_mem",
    "vmw_vsock_virtio_transport",
    "virtiofs",
    "overlay",
    "erofs",
    "ext4",
];
/// The largest module, in bytes; the largest of Debian's has 10 MiB.
const MAX_MODULE: u64 = 64 << 20;
/// Directories below one another; a kernel's modules go 8 deep.
const MAX_DEPTH: usize = 32;

/// A module's name by its file: without the ending, and with `_` for `-`, as the kernel has it.
fn module_name(path: &str) -> Option<String> {
    let (name, _) = path.rsplit('/').next()?.split_once(".ko")?;
    Some(name.replace('-', "_"))
}

/// All regular files below a directory, as paths relative to it; how many other things there are.
fn files(dir: &Path) -> anyhow::Result<(Vec<PathBuf>, usize)> {
    let (mut files, mut others, mut open) = (Vec::new(), 0, vec![(PathBuf::new(), 0)]);
    while let Some((below, depth)) = open.pop() {
        let path = dir.join(&below);
        let failed = || format!("can't read {}", path.display());
        ensure!(depth < MAX_DEPTH, "{} lies too deep for modules", path.display());
        for item in fs::read_dir(&path).with_context(failed)? {
            let item = item.with_context(failed)?;
            let (kind, below) = (item.file_type().with_context(failed)?, below.join(item.file_name()));
            match () {
                () if kind.is_dir() => open.push((below, depth + 1)),
                () if kind.is_file() => files.push(below),
                () => others += 1,
            }
        }
    }
    files.sort();
    Ok((files, others))
}

fn is_module(path: &Path) -> bool {
    path.to_str().and_then(module_name).is_some()
}

/// How many modules a directory holds.
pub(super) fn count(dir: &Path) -> anyhow::Result<usize> {
    if !dir.exists() {
        return Ok(0);
    }
    Ok(files(dir)?.0.iter().filter(|path| is_module(path)).count())
}

fn put(path: &Path, content: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let dir = path.parent().context("a file without a directory")?;
    fs::create_dir_all(dir).and_then(|()| fs::write(path, content)).with_context(|| format!("can't write {}", path.display()))
}

/// Copies all files of a directory of modules. Links lead to the kernel's source and stay behind; how many.
pub(super) fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<usize> {
    let (files, others) = files(from)?;
    ensure!(
        files.iter().any(|path| is_module(path)),
        "--modules {}: there is no module in it; give a directory as /lib/modules/RELEASE",
        from.display()
    );
    for file in files {
        let target = to.join(&file);
        let made = target.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::copy(from.join(&file), &target)).with_context(|| format!("can't copy {}", file.display()))?;
    }
    Ok(others)
}

/// Copies the modules a guest needs and what those need, unpacked, and writes `modules.dep`. Those that the kernel has neither as a module nor
/// built in.
pub(super) fn copy_needed(from: &Path, to: &Path) -> anyhow::Result<Vec<String>> {
    let (files, _) = files(from)?;
    let paths = files.iter().filter_map(|path| path.to_str());
    let known: HashMap<String, &str> = paths.filter_map(|path| Some((module_name(path)?, path))).collect();
    let builtin = fs::read_to_string(from.join("modules.builtin")).unwrap_or_default();
    let builtin: Vec<String> = builtin.lines().filter_map(module_name).collect();
    let (lacking, wanted): (Vec<&str>, Vec<&str>) = NEEDED
        .iter()
        .filter(|name| !builtin.iter().any(|builtin| builtin == **name))
        .partition(|name| !known.contains_key(**name));
    let mut needs: HashMap<String, Vec<String>> = HashMap::new();
    let mut open: Vec<String> = wanted.into_iter().map(str::to_owned).collect();
    while let Some(name) = open.pop() {
        if needs.contains_key(&name) || builtin.contains(&name) {
            continue;
        }
        let path = *known.get(&name).with_context(|| format!("a module needs {name}, which the kernel hasn't"))?;
        let content = unpacked(&from.join(path))?;
        let direct = depends(&content);
        put(&to.join(plain(path)), &content)?;
        open.extend(direct.iter().cloned());
        needs.insert(name, direct);
    }
    put(&to.join("modules.dep"), dep_file(&needs, &known))?;
    Ok(lacking.into_iter().map(str::to_owned).collect())
}

/// Of an entry's modules those a guest needs to get to its root, each after what it needs; none if the kernel has none of them. Paths are relative.
pub(super) fn load_order(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let list = dir.join("modules.dep");
    if !list.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(&list).with_context(|| format!("can't read {}", list.display()))?;
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let known: HashMap<String, (&str, &str)> = lines.filter_map(|line| Some((module_name(line.0)?, line))).collect();
    let mut order: Vec<PathBuf> = Vec::new();
    for (path, needs) in NEEDED.iter().filter_map(|name| known.get(*name)) {
        // What is needed first comes last.
        for path in needs.split_whitespace().rev().chain([*path]).map(PathBuf::from) {
            ensure!(
                path.components().all(|part| matches!(part, std::path::Component::Normal(_))),
                "{}: {path:?} lies elsewhere",
                list.display()
            );
            if !order.contains(&path) {
                order.push(path);
            }
        }
    }
    Ok(order)
}

/// A module's path once it is unpacked.
fn plain(path: &str) -> &str {
    path.strip_suffix(".xz").unwrap_or(path)
}

/// A module's content. Debian 13 packs them with xz; a guest's kernel needn't be able to unpack them.
pub(super) fn unpacked(path: &Path) -> anyhow::Result<Vec<u8>> {
    let packed = super::super::read_limited(path, MAX_MODULE).with_context(|| format!("can't read {}", path.display()))?;
    if packed.starts_with(b"\x7fELF") {
        return Ok(packed);
    }
    if !packed.starts_with(b"\xfd7zXZ\0") {
        bail!("{}: neither a module nor one packed with xz", path.display());
    }
    let mut content = Vec::new();
    let reader = lzma_rust2::XzReader::new_mem_limit(packed.as_slice(), false, 64 << 10);
    reader.take(MAX_MODULE + 1).read_to_end(&mut content).with_context(|| format!("can't unpack {}", path.display()))?;
    ensure!(content.len() as u64 <= MAX_MODULE, "{}: larger than {} MiB unpacked", path.display(), MAX_MODULE >> 20);
    Ok(content)
}

/// What a module says it needs: `depends=virtio,virtio_ring`, between NULs.
fn depends(module: &[u8]) -> Vec<String> {
    let words = module.split(|byte| *byte == 0).filter_map(|text| text.strip_prefix(b"depends="));
    let words = words.filter_map(|text| std::str::from_utf8(text).ok()).flat_map(|text| text.split(','));
    words.filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

/// `modules.dep`: a line a module, with all that it needs, directly or not.
fn dep_file(needs: &HashMap<String, Vec<String>>, known: &HashMap<String, &str>) -> String {
    let path = |name: &String| known.get(name).map_or("", |path| plain(path));
    let mut lines = Vec::new();
    for name in needs.keys() {
        let mut order = Vec::new();
        visit(name, needs, &mut Vec::new(), &mut order);
        order.pop();
        // The first to load stands last.
        let line: String = order.iter().rev().map(|needed| format!(" {}", path(needed))).collect();
        lines.push(format!("{}:{line}\n", path(name)));
    }
    lines.sort();
    lines.concat()
}

/// Puts what a module needs before it. A circle, which the kernel's build refuses, ends where it began.
fn visit(name: &String, needs: &HashMap<String, Vec<String>>, under: &mut Vec<String>, order: &mut Vec<String>) {
    let Some(direct) = needs.get(name).filter(|_| !order.contains(name) && !under.contains(name)) else { return };
    under.push(name.clone());
    for needed in direct {
        visit(needed, needs, under, order);
    }
    under.pop();
    order.push(name.clone());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_comes_after_what_it_needs() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let needs = HashMap::from([
            ("a".to_owned(), list(&["b", "c"])),
            ("b".to_owned(), list(&["c"])),
            ("c".to_owned(), Vec::new()),
            // No build makes these.
            ("x".to_owned(), list(&["y"])),
            ("y".to_owned(), list(&["x"])),
        ]);
        let known = ["a", "b", "c", "x", "y"].map(|name| (name.to_owned(), format!("k/{name}.ko.xz")));
        let known = known.iter().map(|(name, path)| (name.clone(), path.as_str())).collect();
        let dep = dep_file(&needs, &known);
        assert_eq!(dep, "k/a.ko: k/b.ko k/c.ko\nk/b.ko: k/c.ko\nk/c.ko:\nk/x.ko: k/y.ko\nk/y.ko: k/x.ko\n");
    }

    #[test]
    fn names_are_the_kernels() {
        assert_eq!(module_name("kernel/drivers/char/hw_random/virtio-rng.ko.xz").as_deref(), Some("virtio_rng"));
        assert_eq!(module_name("modules.dep"), None);
        assert_eq!(depends(b"x\0license=GPL\0depends=virtio,virtio-ring\0depends=\0"), ["virtio", "virtio_ring"]);
    }
}
