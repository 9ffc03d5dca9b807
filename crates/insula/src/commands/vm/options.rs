//! What `insula vm run` can be asked for.

use super::devices;
use crate::commands::kernel;
use crate::commands::run::size;
use anyhow::Context;
use clap::ValueEnum;
use insula_machine::Config;
use insula_machine::config::DeviceBus;
use insula_virtio::vsock;
use insula_vm::boot::Protocol;
use insula_vm::memory::Backing;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  insula vm run --kernel vmlinuz --initrd initrd.img --memory 512M --cpus 2
  insula vm run -d --name web --kernel vmlinuz --disk root.img --net tap=tap0 --cmdline root=/dev/vda
  insula vm run --kernel vmlinuz --initrd initrd.img --net user,publish=127.0.0.1:8080:80
  insula vm run --kernel vmlinuz --disk data.img,bytes=50M,ops=1000 --balloon 128M,free-page-reporting

In the foreground the console is the terminal's. Every key goes to the guest, Ctrl-C too, but Ctrl-]: it asks the guest to switch
off, and pressed once more ends it at once. A machine ends when the guest switches off or resets.
With -d, `insula vm console`, `logs`, `stats`, `stop` and `kill` take it from there.
Exit codes: 0 the guest switched off, 1 it reset (a panic does), 137 it was ended, 125 insula failed.";

/// Run a virtual machine
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The kernel: a vmlinux or a bzImage (vmlinuz), or the name of one in the library (`insula kernel list`)
    #[arg(long, value_name = "FILE|NAME", help_heading = "What to run")]
    pub(super) kernel: PathBuf,
    /// How the kernel is entered: Linux's 64-bit boot protocol, or PVH [default: the first that it has]
    #[arg(long, value_enum, value_name = "PROTOCOL", help_heading = "What to run")]
    boot: Option<Boot>,
    /// The initial file system, as the kernel takes it [default: what the library's kernel needs to get to root=, or else /dev/vda]
    #[arg(long, value_name = "FILE", help_heading = "What to run")]
    initrd: Option<PathBuf>,
    /// The kernel's command line; what it needs on this machine is added
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, help_heading = "What to run")]
    cmdline: String,
    /// Name the machine (otherwise it gets a random one)
    #[arg(long, value_name = "NAME", help_heading = "What to run")]
    pub(super) name: Option<String>,
    /// Run in the background, and print the name when the guest runs
    #[arg(short, long, help_heading = "What to run")]
    pub(super) detach: bool,
    /// Forget the machine when it ends, with what it printed; in the foreground that is always so
    #[arg(long, help_heading = "What to run")]
    pub(super) rm: bool,
    /// Don't confine this process's threads to the system calls they need: for debugging, as a guest that breaks out of its machine
    /// can then do what you can
    #[arg(long, help_heading = "What to run")]
    pub(super) no_seccomp: bool,
    /// Tell at the end how long the start took, until the guest was entered and until its init, and how often the guest came back to us
    #[arg(long, conflicts_with = "detach", help_heading = "What to run")]
    pub(super) stats: bool,

    /// What runs the guest's instructions: auto is kvm, and never anything slower; tcg is an installed QEMU, which emulates the processor
    #[arg(long, value_enum, default_value = "auto", value_name = "HOW", help_heading = "Processors and memory")]
    pub(super) accel: Accel,
    /// Memory: a number with K, M or G
    #[arg(long, value_name = "SIZE", default_value = "256M", help_heading = "Processors and memory")]
    memory: String,
    /// Virtual processors
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Processors and memory")]
    cpus: u32,
    /// Take the memory from the huge pages the host has set aside
    #[arg(long, help_heading = "Processors and memory")]
    hugepages: bool,
    /// Take the memory from a file (memfd) that other processes can map: /proc/PID/fd has it as memfd:guest
    #[arg(long, conflicts_with = "hugepages", help_heading = "Processors and memory")]
    memory_shared: bool,
    /// Let memory go back to the host: SIZE that the guest gives up at the start (`insula vm update` changes it), then deflate-on-oom (it
    /// may take some back before it runs out), free-page-reporting (it reports what it doesn't use), stats=SECONDS (it is asked for
    /// statistics so often)
    #[arg(long, value_name = "[SIZE][,OPTION...]", num_args = 0..=1, default_missing_value = "0", help_heading = "Processors and memory")]
    balloon: Option<String>,

    /// A disk: a file or block device, then ro, direct (past the host's cache), serial=TEXT; limits a second, bytes=SIZE[:BURST] and
    /// ops=N[:BURST], with so much more once; may be given several times
    #[arg(long, value_name = "FILE[,OPTION...]", help_heading = "Devices")]
    disk: Vec<String>,
    /// A network card: `tap=NAME` for a tap that exists, or `user` for a network without privilege, in which the guest reaches what you
    /// reach, except this host's loopback; then mac=ADDRESS, mtu=N, limits a second of what it gets and sends, rx-bytes=, rx-packets=,
    /// tx-bytes= and tx-packets=N[:BURST]; with `tap` queues=N; with `user` publish=[HOSTADDR:]HOSTPORT:GUESTPORT[/tcp|/udp] (of all this
    /// host's addresses if none is said), host-loopback (the gateway's address leads to 127.0.0.1), subnet=NETWORK/BITS (10.0.2.0/24),
    /// hostname=NAME; may be given several times
    #[arg(long, value_name = "tap=NAME|user[,OPTION...]", help_heading = "Devices")]
    net: Vec<String>,
    /// Sockets between guest (address 3) and host: connect to the socket made here and say `CONNECT port`; a guest's connection to port N
    /// goes to the socket SOCKET_N
    #[arg(long, value_name = "SOCKET", help_heading = "Devices")]
    pub(super) vsock: Option<PathBuf>,
    /// How the guest finds these: mmio starts fastest; pci costs the guest less at each request (its kernel needs virtio_pci, with MSI-X)
    #[arg(long, value_enum, default_value = "mmio", value_name = "BUS", help_heading = "Devices")]
    bus: Bus,
}

/// Ways into a kernel.
#[derive(Clone, Copy, ValueEnum)]
enum Boot {
    Linux64,
    Pvh,
}

/// How devices are found.
#[derive(Clone, Copy, ValueEnum)]
enum Bus {
    /// Virtio-mmio
    Mmio,
    /// PCI
    Pci,
}

/// What runs the guest's instructions.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Accel {
    /// This host's KVM, or an error
    Auto,
    /// This host's KVM
    Kvm,
    /// QEMU's emulation: on any host, many times slower. The guest finds its devices on PCI
    Tcg,
}

/// The first that is no host's; each machine is alone on its bus.
const GUEST_ADDRESS: u32 = 3;

impl Args {
    /// The machine that is asked for.
    pub(super) fn config(&self) -> anyhow::Result<Config> {
        let backing = match (self.hugepages, self.memory_shared) {
            (true, _) => Backing::Huge,
            (_, true) => Backing::Shared,
            _ => Backing::Private,
        };
        let kernel = kernel::image(&self.kernel);
        Ok(Config {
            initrd: self.initrd.clone().or_else(|| kernel::initrd(&kernel)),
            kernel,
            boot: self.boot.map(|boot| match boot {
                Boot::Linux64 => Protocol::Linux64,
                Boot::Pvh => Protocol::Pvh,
            }),
            arguments: self.cmdline.clone(),
            memory: bytes("--memory", &self.memory)?,
            backing,
            vcpus: self.cpus,
            bus: match self.bus {
                Bus::Mmio => DeviceBus::Mmio,
                Bus::Pci => DeviceBus::Pci,
            },
            disks: self.disk.iter().map(|text| devices::disk(text)).collect::<anyhow::Result<_>>()?,
            cards: self.net.iter().map(|text| devices::card(text)).collect::<anyhow::Result<_>>()?,
            sockets: self.vsock.clone().map(|path| vsock::Config { cid: GUEST_ADDRESS, path }),
            balloon: self.balloon.as_deref().map(devices::balloon).transpose()?,
            temporary: !self.detach || self.rm,
            confined: !self.no_seccomp,
        })
    }
}

/// A size that an option gives.
pub(super) fn bytes(option: &str, text: &str) -> anyhow::Result<u64> {
    let bytes = size(text).and_then(|size| u64::try_from(size).ok());
    bytes.with_context(|| format!("{option}: {text:?} is no size; write 512M or 2G"))
}

/// Forms of what verbs print.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Aligned columns
    Table,
    /// JSON; sizes in bytes
    Json,
}
