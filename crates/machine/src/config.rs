//! What can be asked of a machine.

use crate::confinement::Part;
use crate::{Error, Result, places};
use insula_virtio::{balloon, block, net, vsock};
use insula_vm::boot::Protocol;
use insula_vm::memory::Backing;
use std::path::PathBuf;

/// How the guest finds its virtio devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceBus {
    /// Virtio-mmio: a page of registers each, and an interrupt line. The fastest start, as there is nothing to be probed.
    #[default]
    Mmio,
    /// PCI, with interrupts as messages (MSI-X). The guest looks what there is, and has less to do for each request.
    Pci,
}

/// A machine, as asked for.
#[derive(Clone, Debug)]
pub struct Config {
    /// The kernel: a vmlinux or a bzImage.
    pub kernel: PathBuf,
    /// How the kernel is entered; by Linux's own protocol if it can be, and nothing is said.
    pub boot: Option<Protocol>,
    /// The initial file system.
    pub initrd: Option<PathBuf>,
    /// What the kernel is told, beside what the machine needs ([`Self::command_line`]).
    pub arguments: String,
    /// Bytes of memory.
    pub memory: u64,
    /// What the memory is made of.
    pub backing: Backing,
    /// Virtual processors.
    pub vcpus: u32,
    /// How the guest finds its devices.
    pub bus: DeviceBus,
    /// Disks, in the order in which the guest finds them.
    pub disks: Vec<block::Config>,
    /// Network cards.
    pub cards: Vec<net::Config>,
    /// Sockets between programs of the guest's and of the host's.
    pub sockets: Option<vsock::Config>,
    /// Memory that goes back to the host.
    pub balloon: Option<balloon::Config>,
    /// Its process removes what is on record of it when it ends.
    pub temporary: bool,
    /// Whether threads give up the system calls that they don't need ([`crate::confinement`]). Without, a guest that breaks out of a
    /// device can do what we can: it is for debugging.
    pub confined: bool,
}

/// What a kernel on this machine should know, if nobody says otherwise: where its console is, and that it is the only serial port; that
/// there is no PCI bus to be probed; to reset by the keyboard controller at once when it panics. And not to test its ciphers on
/// each start, which takes Debian's longer than everything else.
const DEFAULTS: [&str; 6] = ["console=ttyS0", "8250.nr_uarts=1", "pci=off", "reboot=k", "panic=-1", "cryptomgr.notests"];

/// A kernel of today needs this much before it can say what it lacks.
const LEAST_MEMORY: u64 = 32 << 20;

impl Config {
    /// Checks what can be checked without making anything.
    ///
    /// # Errors
    /// A value that no machine on this host can have.
    pub fn check(&self, host_memory: u64, most_vcpus: usize) -> Result<()> {
        let wrong = |option, problem| Err(Error::Config { option, problem });
        if self.vcpus == 0 || self.vcpus as usize > most_vcpus {
            return wrong("--cpus", format!("{} is outside 1 to {most_vcpus}, what a machine can have here", self.vcpus));
        }
        // With the source of entropy.
        let one_each = usize::from(self.sockets.is_some()) + usize::from(self.balloon.is_some());
        let devices = 1 + self.disks.len() + self.cards.len() + one_each;
        if devices > places::MOST {
            return wrong(
                "--disk, --net",
                format!("{devices} devices are more than {}, for which there are interrupts", places::MOST),
            );
        }
        if self.memory < LEAST_MEMORY {
            let problem =
                format!("{} MiB are too few for a kernel; give it at least {} MiB", self.memory >> 20, LEAST_MEMORY >> 20);
            return wrong("--memory", problem);
        }
        if self.memory > host_memory {
            let problem = format!("{} MiB are more than this host has ({} MiB)", self.memory >> 20, host_memory >> 20);
            return wrong("--memory", problem);
        }
        if !self.memory.is_multiple_of(4096) {
            return wrong("--memory", format!("{} bytes are no whole number of pages", self.memory));
        }
        if let Some(balloon) = self.balloon.filter(|balloon| balloon.bytes >= self.memory) {
            let problem = format!("{} MiB are all of the guest's memory, or more", balloon.bytes >> 20);
            return wrong("--balloon", problem);
        }
        Ok(())
    }

    /// What its threads need system calls for.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let has = |part: &Part| match part {
            Part::Any => true,
            Part::Disk => !self.disks.is_empty(),
            Part::Card => self.cards.iter().any(|card| matches!(card.cable, net::Cable::Tap(_))),
            Part::Network => self.cards.iter().any(|card| matches!(card.cable, net::Cable::User(_))),
            Part::Sockets => self.sockets.is_some(),
            Part::Balloon => self.balloon.is_some(),
            Part::Pci => self.bus == DeviceBus::Pci,
            Part::Temporary => self.temporary,
        };
        Part::ALL.into_iter().filter(has).collect()
    }

    /// The kernel's command line: what is asked for, and the defaults of which it says nothing.
    pub fn command_line(&self) -> String {
        match self.bus {
            DeviceBus::Mmio => self.command_line_of(&DEFAULTS),
            DeviceBus::Pci => self.command_line_with_pci(),
        }
    }

    /// The same for a machine whose devices are on PCI.
    pub(crate) fn command_line_with_pci(&self) -> String {
        self.command_line_of(&DEFAULTS.map(|word| if word == "pci=off" { "" } else { word }))
    }

    fn command_line_of(&self, defaults: &[&str]) -> String {
        let name = |word: &str| word.split('=').next().map(str::to_owned);
        let says = |default: &str| self.arguments.split_whitespace().any(|word| name(word) == name(default));
        let mut words: Vec<&str> = defaults.iter().copied().filter(|default| !default.is_empty() && !says(default)).collect();
        // Ours first: what comes later counts, and `--` ends the kernel's own.
        words.extend((!self.arguments.is_empty()).then_some(self.arguments.as_str()));
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let (kernel, initrd, arguments) = ("k".into(), None, "panic=5 quiet".into());
        Config {
            kernel,
            boot: None,
            initrd,
            arguments,
            memory: 256 << 20,
            backing: Backing::Private,
            vcpus: 1,
            bus: DeviceBus::Mmio,
            disks: vec![],
            cards: vec![],
            sockets: None,
            balloon: None,
            temporary: false,
            confined: true,
        }
    }

    #[test]
    fn what_is_said_replaces_a_default() {
        assert_eq!(config().command_line(), "console=ttyS0 8250.nr_uarts=1 pci=off reboot=k cryptomgr.notests panic=5 quiet");
        assert!(!config().command_line_with_pci().contains("pci"));
    }

    #[test]
    fn what_no_machine_can_have_is_refused() {
        let refused = |change: &dyn Fn(&mut Config)| {
            let mut config = config();
            change(&mut config);
            config.check(1 << 30, 8).unwrap_err().to_string()
        };
        assert_eq!(refused(&|c| c.vcpus = 0), "--cpus: 0 is outside 1 to 8, what a machine can have here");
        assert_eq!(refused(&|c| c.vcpus = 9), "--cpus: 9 is outside 1 to 8, what a machine can have here");
        assert_eq!(refused(&|c| c.memory = 2 << 30), "--memory: 2048 MiB are more than this host has (1024 MiB)");
        assert!(refused(&|c| c.memory = 1 << 20).contains("at least 32 MiB"));
        let balloon = balloon::Config { bytes: 256 << 20, ..balloon::Config::default() };
        assert!(refused(&|c| c.balloon = Some(balloon)).starts_with("--balloon: 256 MiB are all"));
        assert!(config().check(1 << 30, 8).is_ok());
    }
}
