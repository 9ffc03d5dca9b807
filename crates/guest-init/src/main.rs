//! The first program of a guest whose kernel has its drivers in modules, as a distribution's has.
//!
//! ```text
//! /dev, /proc, /sys ─> modules, in the order of /modules/order ─> the root's device ─> the root ─> its init
//! ```
//!
//! It is the init of an initial file system that holds nothing else, and understands what the kernel's own start does
//! (`Documentation/admin-guide/kernel-parameters.txt`): root=, rootfstype=, rootflags=, ro, rw, rootwait, init=.

mod arguments;
mod root;

use arguments::Arguments;
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, finit_module, reboot};
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// The kernel's modules, and the file that lists them, each after what it needs.
const MODULES: &str = "/modules";

fn main() {
    let Err(why) = start();
    // Nobody looks at a log of a guest that doesn't start; its console is what its user sees.
    eprintln!("insula: this guest can't start: {why}");
    let _ = reboot(RebootCommand::Restart);
}

fn start() -> Result<std::convert::Infallible, String> {
    for (kind, place) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        fs::create_dir_all(place).map_err(|error| format!("can't make {place}: {error}"))?;
        match mount(kind, place, kind, MountFlags::NOSUID, None) {
            // The kernel may have done so.
            Ok(()) | Err(rustix::io::Errno::BUSY) => {}
            Err(error) => return Err(format!("can't mount {place}: {error}")),
        }
    }
    load_modules()?;
    let line = fs::read_to_string("/proc/cmdline").map_err(|error| format!("can't read /proc/cmdline: {error}"))?;
    let arguments = Arguments::parse(&line);
    root::wait(&arguments)?;
    root::mount(&arguments)?;
    // What isn't needed any more would stay in memory.
    let _ = fs::remove_dir_all(MODULES);
    root::enter(&arguments)
}

/// Loads the modules. One that the kernel doesn't take isn't the end: what is missed is told where it is missed.
fn load_modules() -> Result<(), String> {
    let list = Path::new(MODULES).join("order");
    let order = fs::read_to_string(&list).map_err(|error| format!("can't read {}: {error}", list.display()))?;
    for name in order.lines() {
        let path = Path::new(MODULES).join(name);
        let loaded = File::open(&path).and_then(|file| Ok(finit_module(&file, c"", 0)?));
        match loaded {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => eprintln!("insula: can't load {name}: {error}"),
            _ => {}
        }
    }
    Ok(())
}
