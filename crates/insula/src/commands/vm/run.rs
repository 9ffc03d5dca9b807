//! `insula vm run`: a machine in the foreground, its console on our terminal.

use super::devices;
use crate::commands::run::size;
use anyhow::Context;
use insula_machine::{Config, Machine, Outcome};
use insula_sys::host::kvm::{self, HostKind};
use insula_sys::tty;
use insula_virtio::vsock;
use insula_vm::boot::Protocol;
use insula_vm::memory::Backing;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Example:
  insula vm run --kernel vmlinuz --initrd initrd.img --memory 512M --cpus 2

The console is the terminal's; the machine ends when the guest switches off or resets.
Exit codes: 0 the guest switched off, 1 it reset (a panic does), 125 insula failed.";

/// Run a virtual machine in the foreground
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The kernel: a vmlinux or a bzImage (vmlinuz)
    #[arg(long, value_name = "FILE")]
    kernel: PathBuf,
    /// How the kernel is entered: Linux's 64-bit boot protocol, or PVH [default: the first that it has]
    #[arg(long, value_name = "PROTOCOL")]
    boot: Option<Boot>,
    /// The initial file system, as the kernel takes it
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// The kernel's command line; what it needs on this machine is added
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    cmdline: String,
    /// Memory: a number with K, M or G
    #[arg(long, value_name = "SIZE", default_value = "256M")]
    memory: String,
    /// Virtual processors
    #[arg(long, value_name = "N", default_value_t = 1)]
    cpus: u32,
    /// A disk: a file or block device, then `ro`, `direct` (past the host's cache), `serial=TEXT`; may be given several times
    #[arg(long, value_name = "FILE[,OPTION...]")]
    disk: Vec<String>,
    /// A network card: tap=NAME for a tap that exists, then mac=ADDRESS, mtu=N; may be given several times
    #[arg(long, value_name = "tap=NAME[,OPTION...]")]
    net: Vec<String>,
    /// Sockets between guest (address 3) and host: connect to the socket made here and say `CONNECT port`; a guest's connection to port N
    /// goes to the socket SOCKET_N
    #[arg(long, value_name = "SOCKET")]
    vsock: Option<PathBuf>,
    /// Take the memory from the huge pages the host has set aside
    #[arg(long)]
    hugepages: bool,
    /// Don't confine this process's threads to the system calls they need: for debugging, as a guest that breaks out of its machine
    /// can then do what you can
    #[arg(long)]
    no_seccomp: bool,
    /// Tell at the end how often the guest came back to us
    #[arg(long)]
    stats: bool,
}

/// Ways into a kernel.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Boot {
    Linux64,
    Pvh,
}

pub(crate) fn main(args: Args) -> anyhow::Result<ExitCode> {
    match run(args) {
        Ok(code) => Ok(code),
        Err(error) => Err(crate::global::Coded::new(125, format!("{error:#}")).into()),
    }
}

fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = config(&args)?;
    let host = usable_host()?;
    config.check(memory_of_host()?, host)?;
    if args.no_seccomp {
        crate::show::warn(format_args!(
            "insula: --no-seccomp: this machine's threads aren't confined; don't run guests you don't trust"
        ));
    }
    let stdin = rustix::stdio::stdin();
    let raw = std::io::stdin().is_terminal().then(|| tty::Raw::new(stdin)).transpose()?;
    let input = stdin.try_clone_to_owned().context("can't use the standard input")?;
    let machine = Machine::new(&config, Some(&cache_dir()), Box::new(Console), Some(input))?;
    machine.notices().iter().for_each(|notice| crate::show::warn(format_args!("insula: {notice}")));
    let report = machine.run()?;
    drop(raw);
    report.notes.iter().for_each(|note| crate::show::warn(format_args!("insula: {note}")));
    if args.stats {
        let exits = report.exits;
        crate::show::warn(format_args!("insula: exits: {} ports, {} memory, {} others", exits.ports, exits.memory, exits.others));
    }
    Ok(ExitCode::from(match report.outcome {
        Outcome::Off => 0,
        Outcome::Reset => 1,
    }))
}

/// The first that is no host's; each machine is alone on its bus.
const GUEST_ADDRESS: u32 = 3;

fn config(args: &Args) -> anyhow::Result<Config> {
    let memory = size(&args.memory).and_then(|size| u64::try_from(size).ok());
    let memory = memory.with_context(|| format!("--memory: {:?} is no size; write 512M or 2G", args.memory))?;
    Ok(Config {
        kernel: args.kernel.clone(),
        boot: args.boot.map(|boot| match boot {
            Boot::Linux64 => Protocol::Linux64,
            Boot::Pvh => Protocol::Pvh,
        }),
        initrd: args.initrd.clone(),
        arguments: args.cmdline.clone(),
        memory,
        backing: if args.hugepages { Backing::Huge } else { Backing::Private },
        vcpus: args.cpus,
        disks: args.disk.iter().map(|text| devices::disk(text)).collect::<anyhow::Result<_>>()?,
        sockets: args.vsock.clone().map(|path| vsock::Config { cid: GUEST_ADDRESS, path }),
        confined: !args.no_seccomp,
        cards: args.net.iter().map(|text| devices::card(text)).collect::<anyhow::Result<_>>()?,
    })
}

/// How many virtual processors this host allows; or which of the four kinds of host it is that can't run a guest, and what to do.
fn usable_host() -> anyhow::Result<usize> {
    let advice = "`insula doctor` tells more";
    match kvm::kind() {
        HostKind::HardwareKvm => Ok(insula_vm::kvm::most_vcpus()?),
        HostKind::KvmWithoutAccess => {
            anyhow::bail!("/dev/kvm is closed to this user; join its group (kvm, as a rule), or be root; {advice}")
        }
        HostKind::KvmPvm => anyhow::bail!(
            "this host's KVM is PVM, made for clouds without nested virtualisation: it interprets an ordinary guest one \
             instruction at a time; use a host with VT-x or AMD-V; {advice}"
        ),
        HostKind::NoKvm => {
            anyhow::bail!(
                "this host has no KVM; load kvm_intel or kvm_amd, or switch virtualisation on in the firmware; {advice}"
            )
        }
    }
}

/// Where unpacked kernels are kept.
fn cache_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/cache/insula/kernels");
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("insula/kernels")
}

fn memory_of_host() -> anyhow::Result<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").context("can't learn how much memory the host has")?;
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    total.map(|kibibytes| kibibytes << 10).context("/proc/meminfo doesn't say how much memory the host has")
}

/// What the guest says appears at once: each byte, as a console's do.
struct Console;

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stdout(), bytes)?)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
