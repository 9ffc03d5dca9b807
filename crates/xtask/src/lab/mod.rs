//! The lab: a machine with KVM, cgroup v2 and root, on any Debian host, for as long as one command runs.
//!
//! QEMU emulates the processor in software with AMD's SVM in it, so nothing is asked of the host's own virtualization, and inside the
//! machine `/dev/kvm` is the real one of a stock Debian kernel.
//!
//! How a run goes:
//!
//! 1. [`tools`] sees that the host has what the lab calls, and installs it if it may.
//! 2. [`root`] makes the root image and the base of the initramfs from Debian's packages ([`packages`], [`kernel`], `insula_initramfs`), or
//!    finds them in the cache: `target/lab/<key>/`.
//! 3. [`run`] makes the folder of this run, `target/lab/runs/<name>/`: logs, sockets, the work folder.
//! 4. [`job`] writes what the machine shall do as a second initramfs archive, and [`share`] serves the host's folders to it (virtiofs).
//! 5. [`qemu`] starts the machine; `guest/init.sh` mounts the root, `guest/lab.sh` prepares it and runs the command.
//! 6. [`output`] streams the command's stdout and stderr; the machine's last word on a port of its own is the exit code.
//!
//! On a host that can run guests itself, [`host`] leaves the emulation out, or the machine.

mod host;
mod job;
mod kernel;
mod output;
mod packages;
mod qemu;
mod root;
mod run;
mod share;
mod tools;

use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Exit code when the command's time is over, as of `timeout(1)`.
const EXIT_TIMEOUT: u8 = 124;
/// Exit code when the lab itself failed, as of `timeout(1)`, `docker run` and their like.
const EXIT_LAB_FAILED: u8 = 125;

/// Run a command as root in a machine with KVM and cgroup v2, emulated in software unless --accel says otherwise.
///
/// The machine sees this work tree and the cargo target folder at their own paths, read-only, and starts the command in the work
/// tree, with an empty stdin. $INSULA_LAB_KERNEL is the path of its kernel's file, for a machine in the machine. It may write its work folder (its path is in $INSULA_LAB_WORK) and, until it ends, anything else that
/// is the machine's own. The machine ends when the command does; what the command left running ends with it.
///
/// The exit code is the command's own; 124 when its time was over, 125 when the machine failed.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Virtual CPUs of the machine [default: 1 if it is emulated, else 2].
    ///
    /// With more than one emulated, the machine may stand still where its kernel replaces code that another runs.
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    /// Memory of the machine, in MiB (M) or GiB (G).
    #[arg(long, value_name = "M", default_value = "2G", value_parser = qemu::parse_memory)]
    memory: u64,
    /// What runs the machine's processors: tcg is QEMU's emulation, the same everywhere; kvm is this host's, which has to nest; host is no
    /// machine at all: the command runs here, as it is, where there is a usable KVM. The last two are faster, and no test of the lab itself.
    #[arg(long, value_enum, default_value = "tcg", value_name = "HOW")]
    accel: Accel,
    /// Run in virtual time, the same to the nanosecond in every run of the same programs.
    ///
    /// Every instruction takes one nanosecond, waiting takes no time of the host, there is one vCPU and no randomness. The machine
    /// sees none of the host's folders while the command runs: it gets copies of the command's program (if it is in the work tree or
    /// the target folder) and of what --copy names. Output and work folder come when the command has ended.
    #[arg(long)]
    icount: bool,
    /// Have systemd be the machine's first process, with a message bus, when the command starts.
    #[arg(long, conflicts_with = "icount")]
    systemd: bool,
    /// A file or folder of the host to be copied into the machine's memory, at its real path.
    #[arg(long, value_name = "PATH")]
    copy: Vec<PathBuf>,
    /// Give the command this many seconds, then end the machine.
    #[arg(long, value_name = "S", default_value_t = 1800)]
    timeout: u64,
    /// If the command says nothing for this many seconds, end the machine and run the command once more, in another: at times the emulator has a
    /// guest take an interrupt twice, and the guest stands still (docs/decisions/0030).
    #[arg(long, value_name = "S", conflicts_with = "icount", value_parser = clap::value_parser!(u64).range(1..))]
    silence: Option<u64>,
    /// Keep the run's folder (serial log, output, work folder) and say where it is.
    #[arg(long)]
    keep: bool,
    /// A folder to be the work folder, instead of one in the run's folder (which stays only if there is something in it).
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// An environment variable of the command; without a value, the host's value.
    #[arg(long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// One more Debian package in the machine's root (the image is made anew once for each set).
    #[arg(long, value_name = "NAME")]
    package: Vec<String>,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// What runs the machine's processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Accel {
    /// QEMU's software emulation, with AMD's virtualization in it.
    Tcg,
    /// The host's KVM, nested.
    Kvm,
    /// The host itself, without a machine.
    Host,
}

/// The folders of the host the lab works with, all absolute.
pub(crate) struct Folders {
    /// The work tree: the workspace this program belongs to.
    tree: PathBuf,
    /// Cargo's target folder.
    pub(crate) target: PathBuf,
    /// What the lab keeps: `lab/` in the target folder.
    pub(crate) lab: PathBuf,
}

impl Folders {
    pub(crate) fn find() -> Result<Self> {
        // Cargo names the crate's folder when it runs us; the one known at build time serves a program started by hand.
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let tree = Path::new(&manifest).join("../..").canonicalize().context("find the work tree")?;
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| tree.join("target"), PathBuf::from);
        let lab = target.join("lab");
        std::fs::create_dir_all(&lab).with_context(|| format!("make {}", lab.display()))?;
        Ok(Self { tree, target: target.canonicalize()?, lab: lab.canonicalize()? })
    }
}

impl Args {
    /// For another chore that runs in virtual time: with these packages, copies of the host's files, and environment.
    pub(crate) fn in_virtual_time(package: Vec<String>, copy: Vec<PathBuf>, env: Vec<String>, command: Vec<OsString>) -> Args {
        const MEMORY: u64 = 2 << 30;
        const TIMEOUT: u64 = 3600;
        let systemd = false;
        Args {
            cpus: None,
            memory: MEMORY,
            accel: Accel::Tcg,
            icount: true,
            systemd,
            copy,
            timeout: TIMEOUT,
            silence: None,
            keep: false,
            work: None,
            env,
            package,
            command,
        }
    }

    /// Packages beside those of every lab.
    fn packages(&self) -> Vec<String> {
        let of_systemd = ["dbus", "systemd"].iter().filter(|_| self.systemd).map(|name| (*name).to_owned());
        self.package.iter().cloned().chain(of_systemd).collect()
    }
}

/// The machine's own kernel, as Debian packs it.
pub(crate) fn kernel(folders: &Folders, packages: &[String]) -> Result<PathBuf> {
    tools::Tools::find()?;
    Ok(root::Image::get(&folders.lab, packages)?.kernel)
}

/// Runs the lab and answers with the command's exit code.
pub(crate) fn main(args: &Args) -> ExitCode {
    match run(args) {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("lab: {error:#}");
            EXIT_LAB_FAILED.into()
        }
    }
}

/// Runs the lab; the command's exit code.
pub(crate) fn run(args: &Args) -> Result<u8> {
    let cpus = args.cpus.unwrap_or(if args.icount || args.accel == Accel::Tcg { 1 } else { 2 });
    ensure!(cpus > 0, "a machine has at least one CPU");
    ensure!(!args.icount || cpus == 1, "--icount runs on one CPU: its time is one count of instructions");
    ensure!(!args.icount || args.accel == Accel::Tcg, "--icount counts what is emulated: it goes with --accel tcg only");
    match args.accel {
        Accel::Tcg => {}
        Accel::Kvm => host::can_nest()?,
        Accel::Host => return host::run(args),
    }
    let folders = Folders::find()?;
    let tools = tools::Tools::find()?;
    let image = root::Image::get(&folders.lab, &args.packages())?;

    let once = || -> Result<Option<u8>> {
        let mut run = run::Run::new(&folders.lab, args.work.as_deref())?;
        match boot(args, cpus, &folders, &tools, &image, &run) {
            Ok(outcome) => finish(args, &mut run, outcome),
            Err(error) => {
                run.keep();
                Err(error.context(format!("the run's logs are in {}", run.folder().display())))
            }
        }
    };
    if let Some(code) = once()? {
        return Ok(code);
    }
    eprintln!("lab: once more, in another machine");
    Ok(once()?.unwrap_or(EXIT_TIMEOUT))
}

/// Runs the machine from its start to its end.
fn boot(
    args: &Args,
    cpus: u32,
    folders: &Folders,
    tools: &tools::Tools,
    image: &root::Image,
    run: &run::Run,
) -> Result<qemu::Outcome> {
    let shares = share::plan(folders, run.work(), args.icount);
    let initrd = run.path("initrd");
    let copies = args.copy.iter().map(|path| path.canonicalize().with_context(|| format!("find {}", path.display())));
    let job = job::Job {
        command: &args.command,
        env: &args.env,
        kernel: &image.kernel,
        folders,
        copies: &copies.collect::<Result<Vec<_>>>()?,
        icount: args.icount,
        systemd: args.systemd,
        shares: &shares,
    };
    job.write_initrd(&image.initrd, &initrd)?;
    let _servers = share::serve(tools, &shares, run.folder())?;
    let (memory, accel) = (args.memory, args.accel);
    let machine = qemu::Machine { cpus, memory, accel, icount: args.icount, image, initrd: &initrd, shares: &shares };
    let limits = qemu::Limits { all: Duration::from_secs(args.timeout), silence: args.silence.map(Duration::from_secs) };
    machine.run(tools, run.folder(), &limits)
}

/// Says what has to be said of the run, decides whether its folder stays, and answers with the exit code; with none if the command fell silent.
fn finish(args: &Args, run: &mut run::Run, outcome: qemu::Outcome) -> Result<Option<u8>> {
    let serial = run.path(qemu::SERIAL_LOG);
    if args.keep {
        run.keep();
        eprintln!("lab: kept {}", run.folder().display());
    } else if run.keep_if_work_was_left()? {
        eprintln!("lab: the command's files are in {}", run.work().display());
    }
    match outcome {
        qemu::Outcome::Exit(code) => Ok(Some(code)),
        qemu::Outcome::Timeout => {
            run.keep();
            eprintln!(
                "lab: ended after the {} seconds the command was given; the serial log is {}",
                args.timeout,
                serial.display()
            );
            Ok(Some(EXIT_TIMEOUT))
        }
        qemu::Outcome::Silent => {
            run.keep();
            let seconds = args.silence.unwrap_or_default();
            eprintln!(
                "\nlab: ended, as the command had said nothing for {seconds} seconds; the serial log is {}",
                serial.display()
            );
            Ok(None)
        }
        qemu::Outcome::Died(why) => {
            run.keep();
            bail!("{why}; the serial log is {}", serial.display())
        }
    }
}
