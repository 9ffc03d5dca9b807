//! The initial file system of a kernel with modules: they, and the program `guest-init`, which loads them and goes over to the root.

use super::modules;
use anyhow::Context;
use flate2::read::DeflateDecoder;
use insula_initramfs::Archive;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

/// The guest's first program, deflated: static, and of no library. By its name the linker puts it where no start maps it.
static GUEST_INIT_PROGRAM: [u8; include_bytes!(env!("GUEST_INIT")).len()] = *include_bytes!(env!("GUEST_INIT"));

/// Writes one for these modules; false if a guest of this kernel needs none.
pub(super) fn write(from: &Path, to: &Path) -> anyhow::Result<bool> {
    let order = modules::load_order(from)?;
    if order.is_empty() {
        return Ok(false);
    }
    let failed = || format!("can't write {}", to.display());
    let mut archive = Archive::new(BufWriter::new(File::create(to).with_context(failed)?));
    archive.file("init", 0o755, &guest_init().with_context(failed)?).with_context(failed)?;
    archive.folder("modules").with_context(failed)?;
    let folders: BTreeSet<&Path> =
        order.iter().flat_map(|path| path.ancestors().skip(1)).filter(|path| *path != Path::new("")).collect();
    for folder in folders {
        archive.folder(&below(folder)).with_context(failed)?;
    }
    let mut list = String::new();
    for path in &order {
        // A host's kernel reads packed modules; a guest's needn't be able to.
        let name = path.with_extension("");
        let name = if path.extension().is_some_and(|kind| kind == "ko") { path } else { &name };
        archive.file(&below(name), 0o644, &modules::unpacked(&from.join(path))?).with_context(failed)?;
        list += &format!("{}\n", name.display());
    }
    archive.file("modules/order", 0o644, list.as_bytes()).with_context(failed)?;
    archive.finish().and_then(|mut file| file.flush()).with_context(failed)?;
    Ok(true)
}

fn guest_init() -> io::Result<Vec<u8>> {
    let mut program = Vec::new();
    DeflateDecoder::new(&GUEST_INIT_PROGRAM[..]).read_to_end(&mut program)?;
    Ok(program)
}

fn below(path: &Path) -> String {
    format!("modules/{}", path.display())
}
