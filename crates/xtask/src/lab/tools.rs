//! The host's programs the lab calls: where they are, and how they are installed when they are not.

use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program of the host, and the Debian package that brings it.
struct Tool {
    program: &'static str,
    package: &'static str,
}

const TOOLS: &[Tool] = &[
    Tool { program: "qemu-system-x86_64", package: "qemu-system-x86" },
    Tool { program: "mkfs.erofs", package: "erofs-utils" },
    // Debian 12 has it in QEMU's own package; from Debian 13 on it is one of its own.
    Tool { program: "virtiofsd", package: "virtiofsd" },
];

/// Folders beside those of `PATH`: where Debian keeps virtiofsd (12, 13), and what a user's `PATH` leaves out.
const MORE_FOLDERS: &[&str] = &["/usr/sbin", "/sbin", "/usr/lib/qemu", "/usr/libexec"];

/// The programs found.
pub(super) struct Tools {
    pub(super) qemu: PathBuf,
    pub(super) virtiofsd: PathBuf,
}

impl Tools {
    /// Finds the programs; root gets installed what is missing, everyone else is told.
    pub(super) fn find() -> Result<Self> {
        ensure!(
            locate("apt-get").is_some() && locate("dpkg-deb").is_some(),
            "the machine is made from Debian's packages: the lab needs a Debian host (apt-get, dpkg-deb)"
        );
        ensure!(
            rustix::process::geteuid().is_root(),
            "serving folders to the machine with the right owners needs root{}",
            missing().map(|packages| format!("; also missing: apt-get install {packages}")).unwrap_or_default()
        );
        // One after another, because one package may bring the next one's program.
        for tool in TOOLS {
            if locate(tool.program).is_none() {
                install(tool.package)?;
            }
        }
        let get = |program: &str| locate(program).with_context(|| format!("{program} is still missing after its installation"));
        Ok(Self { qemu: get("qemu-system-x86_64")?, virtiofsd: get("virtiofsd")? })
    }
}

/// The packages of the programs that are missing.
fn missing() -> Option<String> {
    let packages: Vec<_> = TOOLS.iter().filter(|tool| locate(tool.program).is_none()).map(|tool| tool.package).collect();
    (!packages.is_empty()).then(|| packages.join(" "))
}

/// Where a program is.
fn locate(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(MORE_FOLDERS.iter().map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

fn install(package: &str) -> Result<()> {
    eprintln!("lab: installing {package}");
    let install = ["apt-get", "-qq", "-y", "--no-install-recommends", "install", package];
    let result = run(&install).or_else(|_| {
        // The lists may be missing (a fresh container) or too old.
        run(&["apt-get", "-qq", "update"])?;
        run(&install)
    });
    result.map(drop).with_context(|| format!("install the missing package: apt-get install --no-install-recommends {package}"))
}

/// Runs a program to its end and answers with its stdout; what it said on stderr is in the error when it fails.
pub(super) fn run<S: AsRef<OsStr>>(command: &[S]) -> Result<Vec<u8>> {
    let (program, args) = command.split_first().context("an empty command")?;
    let name = Path::new(program).display();
    let output = Command::new(program)
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C.UTF-8")
        .stdin(std::process::Stdio::null())
        .output()
        .with_context(|| format!("run {name}"))?;
    if !output.status.success() {
        bail!("{name} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}
