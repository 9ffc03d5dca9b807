//! `insula clone`: another system with the same files.

use super::copies;
use crate::global::Global;
use crate::show::show;
use anyhow::{Context, bail, ensure};
use insula_boundary::{Boundary, Status};
use insula_spec::Id;
use insula_spec::plan::{Namespace, Plan, RootSource};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Make another system with the files of one that has ended
#[derive(clap::Args)]
#[command(
    after_help = "The new one's files lie beside the old one's, under its name. On btrfs a subvolume is snapshotted; else files are copied, and\n\
    share their content where the file system can do that.\n\n\
    Examples:\n  insula clone web web2 && insula start web2\n  insula clone --overlay base job1     # at once: only what job1 writes is its own"
)]
pub(crate) struct Args {
    /// The system
    source: String,
    /// Name of the new one
    name: String,
    /// Lay an overlay over the old one's files, which must then stay as they are
    #[arg(long)]
    overlay: bool,
    /// Put the new one's files into this directory, which must not be there
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

pub(crate) fn main(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    let containers = global.containers();
    let plan = ended(global, &args.source)?;
    let id: Id = args.name.parse()?;
    ensure!(!containers.store().list()?.contains(&id), "a sandbox named {id} exists already; choose another name");
    let dir = match &args.directory {
        Some(dir) => std::path::absolute(dir).context("--directory")?,
        None => copies::beside(&plan, id.as_str())?,
    };
    ensure!(!dir.exists(), "{} is there already; choose another place with --directory", dir.display());
    let source = if args.overlay { overlay(&plan, &dir)? } else { copied(&plan, &dir)? };
    let done = fresh_number(&source).and_then(|()| Ok(containers.register(renamed(plan, id.clone(), source))?));
    done.inspect_err(|_| drop(copies::remove(&dir)))?;
    show(format!("{id}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// The plan of a system that doesn't run.
pub(super) fn ended(global: &Global, name: &str) -> anyhow::Result<Plan> {
    let sandbox = global.containers().open(&name.parse()?)?;
    ensure!(sandbox.entry().plan.system.is_some(), "{name} is no system (--isolation system)");
    let status = sandbox.status();
    ensure!(status == Status::Stopped, "{name} is {}; stop it first: its files change", status.as_str());
    Ok(sandbox.entry().plan.clone())
}

fn renamed(plan: Plan, id: Id, source: RootSource) -> Plan {
    let named_after_it = plan.hostname.as_deref() == Some(plan.id.as_str());
    let mut plan = plan;
    if named_after_it {
        plan.hostname = Some(id.to_string());
    }
    plan.root.source = source;
    plan.id = id;
    plan
}

fn copied(plan: &Plan, dir: &Path) -> anyhow::Result<RootSource> {
    match &plan.root.source {
        RootSource::Dir(root) => {
            copies::copy(root, dir)?;
            Ok(RootSource::Dir(dir.to_owned()))
        }
        RootSource::Over { lower, keep } => {
            make_layers(dir, |upper| copies::copy(&keep.join("upper"), upper))?;
            Ok(RootSource::Over { lower: lower.clone(), keep: dir.to_owned() })
        }
        RootSource::Host { .. } => bail!("{} has the host's own root", plan.id),
    }
}

fn overlay(plan: &Plan, dir: &Path) -> anyhow::Result<RootSource> {
    let RootSource::Dir(lower) = &plan.root.source else {
        bail!("--overlay: {} is an overlay itself; clone it without the option, which copies only what it wrote", plan.id)
    };
    let own_users = plan.namespaces.has(Namespace::User);
    ensure!(!own_users, "--overlay: owners of an overlay's files can't be mapped, as {}'s are; leave the option out", plan.id);
    make_layers(dir, |upper| Ok(std::fs::create_dir(upper)?))?;
    Ok(RootSource::Over { lower: lower.clone(), keep: dir.to_owned() })
}

fn make_layers(dir: &Path, fill: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let make = || {
        std::fs::create_dir(dir)?;
        std::fs::create_dir(dir.join("work"))?;
        fill(&dir.join("upper"))
    };
    make().with_context(|| format!("can't make {}", dir.display())).inspect_err(|_| drop(copies::remove(dir)))
}

/// A machine ID of its own, machine-id(5): two systems of one number would be one to whatever goes by it.
fn fresh_number(source: &RootSource) -> anyhow::Result<()> {
    use insula_sys::mount;
    use rustix::fs::{Mode, OFlags};
    use std::io::Write;
    let (lower, own) = match source {
        RootSource::Dir(root) => (root.clone(), root.clone()),
        RootSource::Over { lower, keep } => (lower.clone(), keep.join("upper")),
        RootSource::Host { .. } => return Ok(()),
    };
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).context("can't make up a number")?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).chain(["\n".to_owned()]).collect();
    // Its files are somebody else's: no link in them leads anywhere else.
    let root = |path: &Path| mount::open_place(path, OFlags::DIRECTORY).with_context(|| format!("can't open {}", path.display()));
    for path in ["etc/machine-id", "var/lib/dbus/machine-id"] {
        let path = Path::new(path);
        let there = mount::open_inside(root(&lower)?, path, OFlags::PATH | OFlags::NOFOLLOW);
        let plain = there.is_ok_and(|file| rustix::fs::fstat(file).is_ok_and(|stat| stat.st_mode & 0o170_000 == 0o100_000));
        if !plain {
            continue;
        }
        let name = path.file_name().unwrap_or_default();
        let dir = mount::make_dirs_inside(root(&own)?, path.parent().unwrap_or(path), 0o755)
            .with_context(|| format!("can't give the system a number of its own in {}", own.display()))?;
        let _ = rustix::fs::unlinkat(&dir, name, rustix::fs::AtFlags::empty());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&dir, name, flags, Mode::from_raw_mode(0o444)).context("can't write its number")?;
        std::fs::File::from(file).write_all(text.as_bytes()).context("can't write its number")?;
    }
    Ok(())
}
