//! The host's own KVM in place of an emulated processor: for the lab's machine, or for the command itself.

use super::Args;
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use std::process::Command;

/// Whether a machine on this host's KVM has a KVM, too.
///
/// # Errors
/// It hasn't, and why.
pub(super) fn can_nest() -> Result<()> {
    usable()?;
    let nested = |module: &str| std::fs::read_to_string(format!("/sys/module/{module}/parameters/nested")).ok();
    match ["kvm_amd", "kvm_intel"].into_iter().find_map(|module| Some((module, nested(module)?))) {
        Some((_, said)) if matches!(said.trim(), "1" | "Y") => Ok(()),
        Some((module, _)) => {
            bail!("--accel kvm: this host's KVM doesn't nest; load {module} with nested=1, or use --accel tcg or host")
        }
        None => bail!("--accel kvm: this host's KVM is neither AMD's nor Intel's, and runs no ordinary guests; use --accel tcg"),
    }
}

/// Whether there is an ordinary KVM that we may use. A module of KVM's for a processor is what tells it from KVM-PVM, which opens, too.
fn usable() -> Result<()> {
    let ordinary = ["kvm_amd", "kvm_intel"].iter().any(|module| Path::new("/sys/module").join(module).exists());
    ensure!(ordinary, "this host has no ordinary KVM (neither kvm_amd nor kvm_intel); use --accel tcg");
    std::fs::File::options().read(true).write(true).open("/dev/kvm").map(drop).context("open /dev/kvm; use --accel tcg")
}

/// Runs the command here; its exit code. Nothing is between it and the host.
///
/// # Errors
/// The host can't run guests, or something is asked for that only a machine has.
pub(super) fn run(args: &Args) -> Result<u8> {
    usable()?;
    ensure!(args.cpus.is_none() && args.package.is_empty(), "--accel host has no machine for --cpus and --package");
    let kernel = newest_kernel()?;
    // Its exit code when the time is over is the lab's own, too.
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", &args.timeout.to_string(), "--"]).args(&args.command);
    command.env("INSULA_LAB", "1").env("INSULA_LAB_KERNEL", kernel);
    for variable in &args.env {
        if let Some((name, value)) = variable.split_once('=') {
            command.env(name, value);
        }
    }
    if let Some(work) = &args.work {
        command.env("INSULA_LAB_WORK", work.canonicalize()?);
    }
    let status = command.status().context("run timeout(1)")?;
    // As a shell says it.
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    Ok(status.code().or(signal.map(|signal| 128 + signal)).and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

/// The host's own kernel, whose modules it has.
fn newest_kernel() -> Result<std::path::PathBuf> {
    let release = rustix::system::uname();
    let path = Path::new("/boot").join(format!("vmlinuz-{}", release.release().to_string_lossy()));
    ensure!(
        path.is_file(),
        "--accel host: {} isn't there, and guests are to have the host's kernel; use --accel tcg",
        path.display()
    );
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_an_ordinary_kvm_is_refused_by_name() {
        if ["kvm_amd", "kvm_intel"].iter().any(|module| Path::new("/sys/module").join(module).exists()) {
            return eprintln!("skipped: this host has an ordinary KVM");
        }
        let error = can_nest().unwrap_err().to_string();
        assert!(error.contains("no ordinary KVM") && error.contains("--accel tcg"), "{error}");
    }
}
