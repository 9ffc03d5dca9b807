//! A small `/sys`: what programs ask it about processors and memory, sysfs(5).

use super::proc::processor_list;
use super::pseudo::{At, Body, Fixed, Listing, Node, Pseudo};
use super::{FileType, Inode};
use crate::{Kernel, Result};
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use insula_abi::time::Timespec;

/// `SYSFS_MAGIC`.
const MAGIC: i64 = 0x6265_6572;

/// Makes known what this module has.
pub fn register(kernel: &Kernel) {
    kernel.file_systems.register("sysfs", |kernel, _, _| Ok(root(kernel)));
}

/// The topmost directory of a new one.
pub fn root(kernel: &Arc<Kernel>) -> Arc<dyn Inode> {
    let made = Timespec::from_nanos(kernel.host.clock.realtime());
    let fs = Arc::new(Pseudo { dev: kernel.file_systems.device(), magic: MAGIC, made });
    let weak = Arc::downgrade(kernel);
    let empty = Fixed::default;
    let fixed = Fixed::default()
        .directory("block", empty)
        .directory("bus", empty)
        .directory("class", || Fixed::default().directory("net", || Fixed::default().directory("lo", loopback)))
        .directory("dev", || Fixed::default().directory("block", Fixed::default).directory("char", Fixed::default))
        .directory("devices", move || devices(weak.clone()))
        .directory("firmware", empty)
        .directory("fs", || Fixed::default().directory("cgroup", Fixed::default))
        .directory("kernel", kernel_files)
        .directory("module", empty)
        .directory("power", empty);
    Node::make(At { fs, ino: 1, owner: None }, 0o555, Body::Directory(Box::new(fixed)))
}

fn kernel_files() -> Fixed {
    let huge = || {
        let all = Fixed::default()
            .constant("enabled", "always [madvise] never\n")
            .constant("defrag", "always defer defer+madvise [madvise] never\n");
        all.constant("hpage_pmd_size", "2097152\n")
    };
    Fixed::default().directory("mm", move || Fixed::default().directory("transparent_hugepage", huge))
}

/// The one network device, as Linux tells of it when it is up.
fn loopback() -> Fixed {
    Fixed::default()
        .constant("address", "00:00:00:00:00:00\n")
        .constant("broadcast", "00:00:00:00:00:00\n")
        .constant("carrier", "1\n")
        .constant("flags", "0x9\n")
        .constant("ifindex", "1\n")
        .constant("iflink", "1\n")
        .constant("mtu", "65536\n")
        .constant("operstate", "unknown\n")
        .constant("tx_queue_len", "1000\n")
        .constant("type", "772\n")
}

fn devices(kernel: Weak<Kernel>) -> Fixed {
    Fixed::default().directory("system", move || {
        let kernel = kernel.clone();
        Fixed::default().directory("cpu", move || Processors::new(kernel.clone())).directory("node", nodes)
    })
}

fn nodes() -> Fixed {
    Fixed::default().constant("online", "0\n").constant("possible", "0\n").directory("node0", || {
        Fixed::default().text("cpulist", |task| Ok(format!("{}\n", processor_list(task.kernel())).into_bytes()))
    })
}

/// `devices/system/cpu`.
struct Processors {
    kernel: Weak<Kernel>,
    fixed: Fixed,
}

impl Processors {
    fn new(kernel: Weak<Kernel>) -> Self {
        let list = |task: &Arc<crate::task::Task>| Ok(format!("{}\n", processor_list(task.kernel())).into_bytes());
        let fixed = Fixed::default().text("online", list).text("possible", list).text("present", list).constant("offline", "\n");
        Processors { kernel, fixed }
    }

    fn count(&self) -> u32 {
        self.kernel.upgrade().map_or(0, |kernel| kernel.host.machine.processors)
    }
}

impl Listing for Processors {
    fn lookup(&self, at: &At, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let index = name.strip_prefix(b"cpu").and_then(|number| core::str::from_utf8(number).ok()?.parse::<u32>().ok());
        match index {
            Some(index) if index < self.count() && format!("cpu{index}").as_bytes() == name => {
                Ok(at.directory(name, 0o555, processor(index)))
            }
            _ => self.fixed.lookup(at, name),
        }
    }

    fn names(&self) -> Vec<(Vec<u8>, FileType)> {
        let mut names = self.fixed.names();
        names.extend((0..self.count()).map(|index| (format!("cpu{index}").into_bytes(), FileType::Directory)));
        names
    }
}

fn processor(index: u32) -> Fixed {
    let own = format!("{index}\n");
    Fixed::default().constant("online", "1\n").directory("topology", move || {
        let own = own.clone();
        let all = Fixed::default().constant("physical_package_id", "0\n");
        all.text("core_id", {
            let own = own.clone();
            move |_| Ok(own.clone().into_bytes())
        })
        .text("thread_siblings_list", move |_| Ok(own.clone().into_bytes()))
    })
}
