//! A small `/sys`: what programs ask it about processors and memory, sysfs(5).

use super::proc::processor_list;
use super::pseudo::{At, Body, Fixed, Listing, Node, Pseudo};
use super::types::Making;
use super::{FileType, Inode};
use crate::socket::NetSpace;
use crate::socket::inet::interfaces::{Interface, flags};
use crate::{Errno, Kernel, Result};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use insula_abi::time::Timespec;

/// `SYSFS_MAGIC`.
const MAGIC: i64 = 0x6265_6572;

/// Makes known what this module has.
pub fn register(kernel: &Kernel) {
    kernel.file_systems.register("sysfs", |making| Ok(root(making)));
}

/// The topmost directory of a new one.
pub fn root(Making { kernel, task, .. }: &Making<'_>) -> Arc<dyn Inode> {
    let made = Timespec::from_nanos(kernel.host.clock.realtime());
    let fs = Arc::new(Pseudo { dev: kernel.file_systems.device(), magic: MAGIC, made });
    let weak = Arc::downgrade(kernel);
    let net = task.map_or_else(|| kernel.spaces.net.clone(), |task| task.net());
    let net = Arc::downgrade(&net);
    let empty = Fixed::default;
    let fixed = Fixed::default()
        .directory("block", empty)
        .directory("bus", empty)
        .directory("class", move || {
            let net = net.clone();
            Fixed::default().with("net", FileType::Directory, move |at, name| at.directory(name, 0o555, Interfaces(net.clone())))
        })
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

/// `class/net`: the interfaces of the network in which it was mounted.
struct Interfaces(Weak<NetSpace>);

impl Interfaces {
    fn all(&self) -> Vec<Interface> {
        self.0.upgrade().map(|net| net.holds.inet.interfaces.all()).unwrap_or_default()
    }
}

impl Listing for Interfaces {
    fn lookup(&self, at: &At, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let found = self.all().into_iter().find(|interface| interface.name == name).ok_or(Errno::ENOENT)?;
        Ok(at.directory(name, 0o555, interface(&self.0, found.index)))
    }

    fn names(&self) -> Vec<(Vec<u8>, FileType)> {
        self.all().into_iter().map(|interface| (interface.name, FileType::Directory)).collect()
    }
}

/// What is told of an interface.
type Told = fn(&Interface) -> Result<String>;

/// Each file of an interface's directory, with what it tells.
const OF_INTERFACE: &[(&str, Told)] = &[
    ("address", |one| Ok(hardware_address(one.mac))),
    ("broadcast", |one| Ok(hardware_address(one.broadcast()))),
    ("carrier", |one| if one.is_up() { Ok(u8::from(one.has_carrier()).to_string()) } else { Err(Errno::EINVAL) }),
    ("flags", |one| Ok(format!("{:#x}", one.flags & 0xffff & !flags::RUNNING))),
    ("ifindex", |one| Ok(one.index.to_string())),
    ("iflink", |one| Ok(one.index.to_string())),
    ("mtu", |one| Ok(one.mtu.to_string())),
    ("operstate", |one| Ok(one.state().1.to_string())),
    ("tx_queue_len", |one| Ok(one.queue.to_string())),
    ("type", |one| Ok(one.hardware.to_string())),
];

fn hardware_address(bytes: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = bytes;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

fn interface(net: &Weak<NetSpace>, index: u32) -> Fixed {
    OF_INTERFACE.iter().fold(Fixed::default(), |all, (name, told)| {
        let net = net.clone();
        all.text(name, move |_| {
            let net = net.upgrade().ok_or(Errno::ENODEV)?;
            let one = net.holds.inet.interfaces.numbered(index).ok_or(Errno::ENODEV)?;
            Ok((told(&one)? + "\n").into_bytes())
        })
    })
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
