//! The root: waiting for its device, mounting it, and going over to it.

use crate::arguments::Arguments;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount_move, unmount};
use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const NEW_ROOT: &str = "/root";
/// Devices are there as soon as their drivers are loaded; one that isn't by then is never.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where the kernel looks for an init (`init/main.c`).
const INITS: [&str; 4] = ["/sbin/init", "/etc/init", "/bin/init", "/bin/sh"];

/// Waits for the root's device.
pub(crate) fn wait(arguments: &Arguments) -> Result<(), String> {
    if !arguments.root.starts_with('/') {
        // A tag of a shared directory, which only its file system can look for.
        return if arguments.kinds.is_empty() {
            Err(format!(
                "root={} isn't a device as /dev/vda; for a shared directory say rootfstype=virtiofs, too",
                arguments.root
            ))
        } else {
            Ok(())
        };
    }
    let since = Instant::now();
    while !Path::new(&arguments.root).exists() {
        if since.elapsed() > PATIENCE {
            return Err(format!("root={}: there is no such device; it has {}", arguments.root, disks()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The disks there are, for who asked for another.
fn disks() -> String {
    let names = fs::read_dir("/sys/block").into_iter().flatten().flatten().map(|disk| disk.file_name());
    let mut names: Vec<String> = names.map(|name| format!("/dev/{}", name.to_string_lossy())).collect();
    names.sort();
    if names.is_empty() { "no disk (--disk gives it one)".into() } else { names.join(", ") }
}

/// Mounts it, as the first kind of file system that it is.
pub(crate) fn mount(arguments: &Arguments) -> Result<(), String> {
    fs::create_dir_all(NEW_ROOT).map_err(|error| format!("can't make {NEW_ROOT}: {error}"))?;
    let kinds = if arguments.kinds.is_empty() { known_kinds() } else { arguments.kinds.clone() };
    let flags = if arguments.writable { MountFlags::empty() } else { MountFlags::RDONLY };
    let options = CString::new(arguments.flags.as_str()).map_err(|_| "rootflags= has a zero byte")?;
    for kind in &kinds {
        match rustix::mount::mount(&arguments.root, NEW_ROOT, kind, flags, Some(&*options)) {
            Ok(()) => return Ok(()),
            // It is of another kind.
            Err(Errno::INVAL) => {}
            Err(error) => return Err(format!("can't mount root={} as {kind}: {error}", arguments.root)),
        }
    }
    Err(format!("root={} is of none of the file systems that this kernel knows: {}", arguments.root, kinds.join(", ")))
}

/// The kinds that need a device.
fn known_kinds() -> Vec<String> {
    let list = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    list.lines().filter_map(|line| line.strip_prefix('\t')).map(str::to_owned).collect()
}

/// Makes it the root, and becomes its init.
pub(crate) fn enter(arguments: &Arguments) -> Result<Infallible, String> {
    for place in ["/dev", "/proc", "/sys"] {
        if mount_move(place, format!("{NEW_ROOT}{place}")).is_err() {
            // A root without such a directory does without.
            let _ = unmount(place, UnmountFlags::DETACH);
        }
    }
    // As switch_root(8): the first root can't be left, so the new one is moved over it.
    std::env::set_current_dir(NEW_ROOT).map_err(|error| format!("can't go to {NEW_ROOT}: {error}"))?;
    mount_move(".", "/").map_err(|error| format!("can't move the root: {error}"))?;
    rustix::process::chroot(".").map_err(|error| format!("can't enter the root: {error}"))?;
    std::env::set_current_dir("/").map_err(|error| format!("can't go to /: {error}"))?;
    let inits: Vec<&str> = arguments.init.as_deref().map_or(INITS.to_vec(), |init| vec![init]);
    let mut why = String::new();
    for init in &inits {
        let error = Command::new(init).args(&arguments.rest).exec();
        if error.kind() != std::io::ErrorKind::NotFound || inits.len() == 1 {
            why = format!("can't run {init}: {error}");
            break;
        }
    }
    Err(if why.is_empty() { format!("root={} has no init: none of {}", arguments.root, inits.join(", ")) } else { why })
}
