//! Kernel parameters of the container's namespaces.

use crate::channel::failed;
use insula_boundary::Error;
use insula_sys::{Context, defence, mount};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

/// A procfs that nobody else has seen: what the container mounts on `/proc` could be anything (CVE-2019-16884, CVE-2025-52881).
pub(super) fn own_procfs() -> Result<OwnedFd, Error> {
    if !defence::stands("own-procfs") {
        return mount::open_place(Path::new("/proc"), OFlags::DIRECTORY).on("open", "/proc").map_err(failed);
    }
    mount::make("proc", "proc", &[], 0).map_err(failed)
}

/// Writes parameters through a procfs of our own.
pub(super) fn write(parameters: &BTreeMap<String, String>) -> Result<(), Error> {
    if parameters.is_empty() {
        return Ok(());
    }
    let proc = own_procfs()?;
    for (name, value) in parameters {
        // A name written with slashes may have dots in a part, as network devices do.
        let file = if name.contains('/') { name.clone() } else { name.replace('.', "/") };
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let opened = rustix::fs::openat2(&proc, format!("sys/{file}"), flags, Mode::empty(), resolve);
        let mut opened = std::fs::File::from(opened.on("set the kernel parameter", name).map_err(failed)?);
        opened.write_all(value.as_bytes()).on("set the kernel parameter", format_args!("{name} to {value:?}")).map_err(failed)?;
    }
    Ok(())
}
