//! `insula spec`: a configuration to start from.

use anyhow::{Context, bail};
use insula_spec::oci;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Write a config.json for a new OCI bundle
#[derive(clap::Args)]
#[command(after_help = "Example:\n  mkdir -p web/rootfs && insula spec --bundle web")]
pub(crate) struct Args {
    /// Directory of the bundle
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// For a plain user: a user namespace, and nothing that needs a privilege
    #[arg(long)]
    rootless: bool,
}

pub(crate) fn main(args: Args) -> anyhow::Result<ExitCode> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let config = if args.rootless { oci::template_rootless(uid, gid) } else { oci::template() };
    let path = args.bundle.join("config.json");
    let mut file = match std::fs::OpenOptions::new().write(true).create_new(true).open(&path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => bail!("{} exists; remove it first", path.display()),
        file => file.with_context(|| format!("can't write {}", path.display()))?,
    };
    writeln!(file, "{config:#}").with_context(|| format!("can't write {}", path.display()))?;
    Ok(ExitCode::SUCCESS)
}
