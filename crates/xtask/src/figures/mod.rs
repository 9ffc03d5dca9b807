//! Figures of our machine and its peers, in the lab's virtual time: the same kernel, initial file system and memory for each.
//!
//! A chore runs twice. On the host it unpacks the lab's own kernel, and starts itself in the lab with copies of what is measured
//! ([`outside`]). In the lab it starts each of the [`peers`] and asks the kernel ([`probe`]) what happens.
//!
//! | module | holds |
//! |---|---|
//! | [`boot`] | what a start costs: until the guest is entered, until its first program runs |
//! | [`io`] | what a disk and a network card give; its half in the guest is in [`guest`] |
//! | [`running`] | a guest, its console, and how it is ended |

mod boot;
mod guest;
mod io;
mod peers;
mod probe;
mod running;

use crate::lab;
use anyhow::{Context, Result, bail};
use insula_vm::kernel::Kernel;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Measure in virtual time what our machine costs, beside QEMU and other peers.
///
/// Needs `cargo build --release`. Firecracker and Cloud Hypervisor are measured if $INSULA_PEER_FIRECRACKER and
/// $INSULA_PEER_CLOUD_HYPERVISOR are paths of theirs (static builds: the lab has few libraries).
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to measure.
    what: What,
    /// A kernel (vmlinux) for all; may be given several times. [default: the lab's own, Debian's, unpacked]
    #[arg(long, value_name = "FILE")]
    kernel: Vec<PathBuf>,
    /// Our program. [default: the release build]
    #[arg(long, value_name = "FILE")]
    insula: Option<PathBuf>,
    /// Only these, by the beginning of their names.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Of `io`, only these rows, by the beginning of their names: disk-read-128k, tcp-send, …
    #[arg(long, value_name = "NAME")]
    row: Vec<String>,
    /// Measured runs of each, after one that isn't.
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: usize,
    /// Memory of the guest, in MiB.
    #[arg(long, value_name = "M", default_value_t = 256)]
    memory: u64,
    /// More for the kernel's command line.
    #[arg(long, value_name = "TEXT", default_value = "", allow_hyphen_values = true)]
    cmdline: String,
    /// Show why the guest came back, too.
    #[arg(long)]
    reasons: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// The start of a guest.
    Boot,
    /// A disk and a network card. (With a kernel other than the lab's, its drivers must be built in.)
    Io,
    /// The guest's half of `io`.
    #[value(hide = true)]
    Guest,
}

/// Measures; the exit code is the lab's.
pub(crate) fn main(args: &Args) -> ExitCode {
    let done = match args.what {
        What::Guest => guest::main(&args.row).map(|()| 0),
        _ if std::env::var_os("INSULA_LAB").is_none() => outside(args),
        What::Boot => boot::main(args).map(|()| 0),
        What::Io => io::main(args).map(|()| 0),
    };
    match done {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("figures: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// QEMU comes from Debian, into the lab.
const PACKAGES: [&str; 1] = ["qemu-system-x86"];

/// Starts ourselves in the lab, with copies of all that is measured.
fn outside(args: &Args) -> Result<u8> {
    guest::rows(&args.row)?;
    let folders = lab::Folders::find()?;
    let insula = args.insula.clone().unwrap_or_else(|| folders.target.join("x86_64-unknown-linux-gnu/release/insula"));
    let insula = insula.canonicalize().with_context(|| format!("find {} (cargo build --release)", insula.display()))?;
    let mut kernels = args.kernel.clone();
    if kernels.is_empty() {
        kernels.push(unpacked(&lab::kernel(&folders, &PACKAGES.map(str::to_owned))?, &folders.lab.join("vmlinux-debian"))?);
    }
    let kernels: Vec<PathBuf> = kernels
        .iter()
        .map(|path| path.canonicalize().with_context(|| format!("find {}", path.display())))
        .collect::<Result<_>>()?;
    let peers = peers::named_by_environment()?;

    let mut command: Vec<OsString> =
        vec![std::env::current_exe()?.into(), "figures".into(), if args.what == What::Io { "io" } else { "boot" }.into()];
    let mut option = |name: &str, value: OsString| command.extend([name.into(), value]);
    kernels.iter().for_each(|path| option("--kernel", path.into()));
    option("--insula", insula.clone().into());
    option("--runs", args.runs.to_string().into());
    option("--memory", args.memory.to_string().into());
    option("--cmdline", args.cmdline.clone().into());
    args.row.iter().for_each(|name| option("--row", name.into()));
    command.extend(args.reasons.then(|| "--reasons".into()));

    let copies: Vec<PathBuf> = kernels.into_iter().chain([insula]).chain(peers.iter().map(|(_, path)| path.clone())).collect();
    let env: Vec<String> = peers.iter().map(|(name, path)| format!("{name}={}", path.display())).collect();
    for only in in_one_go(args)? {
        let only = only.iter().flat_map(|name| ["--only".into(), OsString::from(name)]);
        let command = command.iter().cloned().chain(only).collect();
        let packages = PACKAGES.map(str::to_owned).to_vec();
        match lab::run(&lab::Args::in_virtual_time(packages, copies.clone(), env.clone(), command))? {
            0 => {}
            code => return Ok(code),
        }
    }
    Ok(0)
}

/// Names of what is measured in each run of the lab. In virtual time a run shows nothing before its end, and one with every peer's disks
/// and cards takes an hour: there each has a run of its own. It makes no other figures of them, as virtual time knows no weather.
fn in_one_go(args: &Args) -> Result<Vec<Vec<String>>> {
    match args.what {
        What::Io => Ok(peers::names(args)?.into_iter().map(|name| vec![name.to_owned()]).collect()),
        _ => Ok(vec![args.only.clone()]),
    }
}

/// The same kernel for all: not every peer unpacks one itself.
fn unpacked(image: &Path, to: &Path) -> Result<PathBuf> {
    let kernel = Kernel::open(image, None)?;
    let mut from = kernel.file.try_clone()?;
    std::io::Seek::rewind(&mut from)?;
    std::io::copy(&mut from, &mut File::create(to)?).with_context(|| format!("write {}", to.display()))?;
    if kernel.size == 0 {
        bail!("{} unpacks to nothing", image.display());
    }
    Ok(to.to_owned())
}
