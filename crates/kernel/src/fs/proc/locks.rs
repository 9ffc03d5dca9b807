//! Locks on files: `/proc/locks`, and the lines about them in `/proc/PID/fdinfo/N`.

use super::maps::numbers;
use crate::fs::Description;
use crate::fs::locks::{self, Class, Lock, Owner};
use crate::task::Task;
use alloc::format;
use alloc::string::String;

/// A lock as both files write it, without the number before it.
fn line(reader: &Task, (dev, ino): (u64, u64), class: Class, lock: &Lock) -> String {
    let kind = match (class, lock.owner) {
        (Class::Flock, _) => "FLOCK",
        (Class::Record, Owner::Table(_)) => "POSIX",
        (Class::Record, Owner::Open(_)) => "OFDLCK",
    };
    let mode = if lock.exclusive { "WRITE" } else { "READ" };
    let (major, minor) = numbers(dev);
    let end = if lock.last == u64::MAX { String::from("EOF") } else { format!("{}", lock.last) };
    format!("{kind:<6} ADVISORY  {mode:<5} {} {major:02x}:{minor:02x}:{ino} {} {end}\n", reader.name_of(lock.pid), lock.start)
}

/// `/proc/locks`.
pub(super) fn all(reader: &Task) -> String {
    let locks = reader.kernel().locks.all();
    // Not those of who is outside.
    let seen = locks.iter().filter(|(_, _, lock)| reader.name_of(lock.pid) != 0).enumerate();
    seen.map(|(index, (file, class, lock))| format!("{}: {}", index + 1, line(reader, *file, *class, lock))).collect()
}

/// Those that an open file of a table of descriptors has to do with.
pub(super) fn of(reader: &Task, open: &Description, table: Owner) -> String {
    let Ok(key) = locks::key(open) else { return String::new() };
    let own = |lock: &Lock| lock.owner == table || lock.owner == open.as_owner();
    let locks = reader.kernel().locks.all();
    let found = locks.iter().filter(|(file, _, lock)| *file == key && own(lock));
    found
        .enumerate()
        .map(|(index, (file, class, lock))| format!("lock:\t{}: {}", index + 1, line(reader, *file, *class, lock)))
        .collect()
}
