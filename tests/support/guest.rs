//! Guests of the tests of virtual machines: Debian's kernel and busybox. `make lab` runs such tests in a machine with an ordinary KVM.

use super::{World, stdout};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The store and a kernel, on a host that can run guests.
pub(crate) fn lab() -> Option<(World, PathBuf, MutexGuard<'static, ()>)> {
    // One after the other: the machine they run in is emulated, and each guest takes all of it.
    static TURN: Mutex<()> = Mutex::new(());
    let Some(kernel) = std::env::var_os("INSULA_LAB_KERNEL") else {
        eprintln!("skipped: no ordinary KVM is promised here; `make lab` runs this test in a machine that has it");
        return None;
    };
    Some((World::new()?, kernel.into(), TURN.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// An initial file system with busybox, whose init does this.
pub(crate) fn initrd(world: &World, script: &str) -> PathBuf {
    let root = world.directory("initrd-root");
    for dir in ["bin", "dev", "proc", "sys"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    std::fs::copy("/usr/bin/busybox", root.join("bin/busybox")).unwrap();
    let head = "#!/bin/busybox sh\n/bin/busybox --install /bin; mount -t proc proc /proc; mount -t sysfs sysfs /sys\n";
    let init = root.join("init");
    std::fs::write(&init, format!("{head}{script}\n")).unwrap();
    std::fs::set_permissions(&init, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let archive = world.path("initrd");
    let pack = format!("cd {} && find . | busybox cpio -o -H newc > {} 2>/dev/null", root.display(), archive.display());
    assert!(Command::new("sh").args(["-c", &pack]).status().unwrap().success());
    archive
}

/// Runs a guest quietly, so that what it prints is ours.
pub(crate) fn guest(world: &World, kernel: &Path, initrd: &Path, more: &[&str]) -> Output {
    let mut args = vec!["vm", "run", "--kernel", kernel.to_str().unwrap(), "--initrd", initrd.to_str().unwrap()];
    args.extend(["--cmdline", "quiet loglevel=0"]);
    args.extend(more);
    world.output(args)
}

/// The console ends its lines as a terminal wants them.
pub(crate) fn said(output: &Output) -> String {
    stdout(output).replace("\r\n", "\n")
}

/// The modules of the machine's own kernel that virtio's devices need, in the order in which they load.
const MODULES: [&str; 19] = [
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_mmio",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci",
    "drivers/char/hw_random/rng-core",
    "drivers/char/hw_random/virtio-rng",
    "drivers/virtio/virtio_balloon",
    "drivers/block/virtio_blk",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
    "crypto/crc32c_generic",
    "lib/crc16",
    "fs/mbcache",
    "net/vmw_vsock/vsock",
    "net/vmw_vsock/vmw_vsock_virtio_transport_common",
    "net/vmw_vsock/vmw_vsock_virtio_transport",
];

/// Puts modules into an initial file system; what loads them there.
pub(crate) fn load_modules(world: &World) -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let from = Path::new("/lib/modules").join(kernel.trim()).join("kernel");
    let to = world.directory("initrd-root/modules");
    let mut script = String::new();
    for module in MODULES {
        let file = from.join(module).with_extension("ko");
        // What isn't a module of this kernel is in it.
        if std::fs::copy(&file, to.join(file.file_name().unwrap())).is_ok() {
            script += &format!("insmod /modules/{}\n", file.file_name().unwrap().to_str().unwrap());
        }
    }
    script
}

/// Puts a program of this machine's, with the libraries it names, into an initial file system.
pub(crate) fn take_along(world: &World, program: &str) {
    let root = world.directory("initrd-root");
    let listed = Command::new("/lib64/ld-linux-x86-64.so.2").args(["--list", program]).output().unwrap();
    let libraries = stdout(&listed).split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned);
    for path in libraries.chain([program.to_owned()]) {
        let to = root.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(&path, to).unwrap();
    }
}

/// Runs a command of the machine's that must succeed.
pub(crate) fn must(line: &str) {
    assert!(Command::new("sh").args(["-c", line]).status().unwrap().success(), "{line}");
}
