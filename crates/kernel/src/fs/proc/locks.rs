//! Locks on files: `/proc/locks`, and the lines about them in `/proc/PID/fdinfo/N`.

use super::maps::numbers;
use crate::Kernel;
use crate::fs::Description;
use crate::fs::locks::{self, Class, Lock, Owner};
use alloc::format;
use alloc::string::String;

/// A lock as both files write it, without the number before it.
fn line((dev, ino): (u64, u64), class: Class, lock: &Lock) -> String {
    let kind = match (class, lock.owner) {
        (Class::Flock, _) => "FLOCK",
        (Class::Record, Owner::Table(_)) => "POSIX",
        (Class::Record, Owner::Open(_)) => "OFDLCK",
    };
    let mode = if lock.exclusive { "WRITE" } else { "READ" };
    let (major, minor) = numbers(dev);
    let end = if lock.last == u64::MAX { String::from("EOF") } else { format!("{}", lock.last) };
    format!("{kind:<6} ADVISORY  {mode:<5} {} {major:02x}:{minor:02x}:{ino} {} {end}\n", lock.pid, lock.start)
}

/// `/proc/locks`.
pub(super) fn all(kernel: &Kernel) -> String {
    let locks = kernel.locks.all();
    locks.iter().enumerate().map(|(index, (file, class, lock))| format!("{}: {}", index + 1, line(*file, *class, lock))).collect()
}

/// Those that an open file of a table of descriptors has to do with.
pub(super) fn of(kernel: &Kernel, open: &Description, table: Owner) -> String {
    let Ok(key) = locks::key(open) else { return String::new() };
    let own = |lock: &Lock| lock.owner == table || lock.owner == open.as_owner();
    let locks = kernel.locks.all();
    let found = locks.iter().filter(|(file, _, lock)| *file == key && own(lock));
    found.enumerate().map(|(index, (file, class, lock))| format!("lock:\t{}: {}", index + 1, line(*file, *class, lock))).collect()
}
