//! What a build needs of the host.

use super::source::Source;
use crate::commands::kernel::host::{Host, find};
use anyhow::ensure;
use std::path::Path;
use std::process::{Command, Stdio};

/// Programs, and Debian's package of each.
const PROGRAMS: [(&str, &str); 9] = [
    ("gcc", "gcc"),
    ("ld", "binutils"),
    ("objcopy", "binutils"),
    ("make", "make"),
    ("flex", "flex"),
    ("bison", "bison"),
    ("bc", "bc"),
    ("tar", "tar"),
    ("xz", "xz-utils"),
];
/// A package has to be fetched and unpacked, too.
const FOR_PACKAGES: [(&str, &str); 3] = [("apt-get", "apt"), ("apt-cache", "apt"), ("dpkg-deb", "dpkg")];
/// The build makes programs for its own use, of which one reads and writes object files.
const HEADERS: [(&str, &str); 2] = [("stdio.h", "libc6-dev"), ("gelf.h", "libelf-dev")];

/// An error that names everything that is missing at once.
pub(super) fn check(source: &Source) -> anyhow::Result<()> {
    let more = if matches!(source, Source::Debian(_)) { &FOR_PACKAGES[..] } else { &[] };
    let mut missing: Vec<(&str, &str)> = PROGRAMS.iter().chain(more).filter(|(name, _)| find(name).is_none()).copied().collect();
    if find("gcc").is_some() {
        missing.extend(HEADERS.iter().filter(|(name, _)| !has_header(name)));
    } else {
        missing.extend(HEADERS);
    }
    let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    ensure!(
        missing.is_empty(),
        "a kernel can't be built here, as {} missing: {}; on Debian: apt-get install {}",
        if names.len() == 1 { "one thing is" } else { "some things are" },
        names.join(", "),
        packages.join(" ")
    );
    Ok(())
}

/// Whether the compiler finds a header.
fn has_header(name: &str) -> bool {
    let mut command = Command::new("gcc");
    command.args(["-E", "-x", "c", "-include", name, "/dev/null"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The compiler, whose version changes what comes out.
pub(super) fn compiler(host: &Host) -> anyhow::Result<String> {
    let version = host.run("gcc", &["-dumpfullversion".as_ref()], Path::new("/"))?;
    Ok(format!("gcc {}", String::from_utf8_lossy(&version).trim()))
}
