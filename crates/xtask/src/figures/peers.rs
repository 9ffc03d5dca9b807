//! The peers, and how each is told to run the same guest. None has a device that isn't needed to hear its console.

use super::Args;
use anyhow::{Context, Result, ensure};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What all of them run.
pub(super) struct Guest<'a> {
    pub(super) kernel: &'a Path,
    pub(super) initrd: &'a Path,
    pub(super) arguments: &'a str,
    /// MiB.
    pub(super) memory: u64,
    /// A disk's file.
    pub(super) disk: Option<&'a Path>,
    /// A tap's name.
    pub(super) tap: Option<&'a str>,
}

/// One to be measured.
pub(super) struct Vmm {
    pub(super) name: &'static str,
    program: PathBuf,
    command: fn(&Guest, &Path) -> Result<Vec<OsString>>,
}

impl Vmm {
    /// Program and arguments for this guest; what it reads from a file is written into a folder.
    pub(super) fn command(&self, guest: &Guest, folder: &Path) -> Result<Vec<OsString>> {
        let mut command = vec![self.program.clone().into()];
        command.extend((self.command)(guest, folder)?);
        Ok(command)
    }
}

/// Peers that no package brings: the variable that names each one's program.
const BY_ENVIRONMENT: [(&str, &str, Command); 2] = [
    ("INSULA_PEER_FIRECRACKER", "firecracker", firecracker),
    ("INSULA_PEER_CLOUD_HYPERVISOR", "cloud-hypervisor", cloud_hypervisor),
];

type Command = fn(&Guest, &Path) -> Result<Vec<OsString>>;

/// Those whose variable is set, with the path it holds.
pub(super) fn named_by_environment() -> Result<Vec<(&'static str, PathBuf)>> {
    let set = BY_ENVIRONMENT.iter().filter_map(|(name, ..)| Some((*name, PathBuf::from(std::env::var_os(name)?))));
    set.map(|(name, path)| Ok((name, path.canonicalize().with_context(|| format!("${name}: find {}", path.display()))?)))
        .collect()
}

/// Names of those that are asked for.
pub(super) fn names(args: &Args) -> Result<Vec<&'static str>> {
    let names: Vec<_> = all(args)?.into_iter().map(|vmm| vmm.name).collect();
    ensure!(!names.is_empty(), "--only {}: no peer is called so", args.only.join(", "));
    Ok(names)
}

/// All that are there and asked for.
pub(super) fn all(args: &Args) -> Result<Vec<Vmm>> {
    let insula = args.insula.as_deref().unwrap_or(Path::new("insula"));
    let qemu = || PathBuf::from("/usr/bin/qemu-system-x86_64");
    let mut all = vec![
        Vmm { name: "insula mmio", program: insula.to_owned(), command: ours },
        Vmm { name: "insula pci", program: insula.to_owned(), command: ours_on_pci },
        Vmm { name: "qemu microvm", program: qemu(), command: qemu_microvm },
        Vmm { name: "qemu pc", program: qemu(), command: qemu_pc },
    ];
    for (variable, program) in named_by_environment()? {
        let known = BY_ENVIRONMENT.iter().find(|(name, ..)| *name == variable);
        all.extend(known.map(|&(_, name, command)| Vmm { name, program, command }));
    }
    all.retain(|vmm| args.only.is_empty() || args.only.iter().any(|name| vmm.name.starts_with(name.as_str())));
    Ok(all)
}

fn words<const N: usize>(words: [&str; N]) -> Vec<OsString> {
    words.map(OsString::from).into()
}

fn ours(guest: &Guest, _: &Path) -> Result<Vec<OsString>> {
    let mut command = words(["vm", "run", "--cmdline", guest.arguments, "--memory", &format!("{}M", guest.memory)]);
    command.extend(["--kernel".into(), guest.kernel.into(), "--initrd".into(), guest.initrd.into()]);
    command.extend(guest.disk.into_iter().flat_map(|disk| ["--disk".into(), disk.into()]));
    command.extend(guest.tap.into_iter().flat_map(|tap| ["--net".into(), format!("tap={tap}").into()]));
    Ok(command)
}

fn ours_on_pci(guest: &Guest, folder: &Path) -> Result<Vec<OsString>> {
    // What is the same for all is said to leave PCI alone; so it isn't here.
    let arguments = guest.arguments.replace("pci=off", "");
    let mut command = ours(&Guest { arguments: arguments.trim(), ..*guest }, folder)?;
    command.extend(words(["--bus", "pci"]));
    Ok(command)
}

/// `bus` is what devices of virtio's are called by: they are behind "device" (virtio-mmio) or "pci".
fn qemu(machine: &str, bus: &str, guest: &Guest) -> Vec<OsString> {
    let memory = guest.memory.to_string();
    let mut command = words(["-M", machine, "-accel", "kvm", "-cpu", "host", "-m", &memory, "-smp", "1"]);
    command.extend(words(["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"]));
    command.extend(words(["-append", guest.arguments]));
    command.extend(["-kernel".into(), guest.kernel.into(), "-initrd".into(), guest.initrd.into()]);
    if let Some(disk) = guest.disk {
        let drive = format!("file={},id=d,if=none,format=raw,cache=writeback,aio=io_uring", disk.display());
        command.extend(words(["-drive", &drive, "-device", &format!("virtio-blk-{bus},drive=d")]));
    }
    if let Some(tap) = guest.tap {
        let netdev = format!("tap,id=n,ifname={tap},script=no,downscript=no,vhost=off");
        command.extend(words(["-netdev", &netdev, "-device", &format!("virtio-net-{bus},netdev=n")]));
    }
    command
}

fn qemu_microvm(guest: &Guest, _: &Path) -> Result<Vec<OsString>> {
    Ok(qemu("microvm", "device", guest))
}

fn qemu_pc(guest: &Guest, _: &Path) -> Result<Vec<OsString>> {
    Ok(qemu("pc", "pci", guest))
}

fn firecracker(guest: &Guest, folder: &Path) -> Result<Vec<OsString>> {
    ensure!(guest.disk.is_none() && guest.tap.is_none(), "its disks and cards aren't measured");
    let [kernel, initrd] = [guest.kernel, guest.initrd].map(|path| path.to_str().context("a path that is no text"));
    let config = folder.join("firecracker.json");
    let text = format!(
        r#"{{"boot-source": {{"kernel_image_path": {:?}, "initrd_path": {:?}, "boot_args": {:?}}},
            "drives": [], "machine-config": {{"vcpu_count": 1, "mem_size_mib": {}}}}}"#,
        kernel?, initrd?, guest.arguments, guest.memory
    );
    std::fs::write(&config, text)?;
    Ok(["--no-api", "--config-file"].map(OsString::from).into_iter().chain([config.into()]).collect())
}

fn cloud_hypervisor(guest: &Guest, _: &Path) -> Result<Vec<OsString>> {
    ensure!(guest.disk.is_none() && guest.tap.is_none(), "its disks and cards aren't measured");
    let mut command = words(["--cpus", "boot=1", "--memory", &format!("size={}M", guest.memory)]);
    command.extend(words(["--serial", "tty", "--console", "off", "--cmdline", guest.arguments]));
    command.extend(["--kernel".into(), guest.kernel.into(), "--initramfs".into(), guest.initrd.into()]);
    Ok(command)
}
