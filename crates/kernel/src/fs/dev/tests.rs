//! Devices as programs use them.

use crate::testing::{self, World};
use crate::{Errno, Result};
use alloc::sync::Arc;
use insula_abi::Sysno;
use insula_abi::general as c;

/// A process in a tree whose `/dev` is a `devtmpfs`.
fn world() -> (World, Arc<crate::task::Task>, u64) {
    let world = World::new();
    let task = world.process();
    let memory = testing::memory(&task, 1 << 16);
    let dev = testing::bytes(&task, b"/dev\0devtmpfs\0");
    assert_eq!(world.now(&task, Sysno::mkdirat, &[c::AT_FDCWD as u64, dev, 0o755]), Ok(0));
    testing::mount(&task, b"/dev", b"devtmpfs");
    (world, task, memory)
}

#[test]
fn the_usual_devices_are_there() {
    let (world, task, memory) = world();
    let open = |path: &[u8], flags: u32| -> Result<u64> {
        let path = testing::bytes(&task, path);
        world.now(&task, Sysno::openat, &[c::AT_FDCWD as u64, path, u64::from(flags), 0])
    };
    let null = open(b"/dev/null\0", c::O_RDWR).expect("a device");
    assert_eq!(world.now(&task, Sysno::write, &[null, memory, 70000]), Ok(70000));
    assert_eq!(world.now(&task, Sysno::read, &[null, memory, 100]), Ok(0));
    let zero = open(b"/dev/zero\0", c::O_RDWR).expect("a device");
    task.mm().write(memory, &[7; 5000]).expect("memory");
    assert_eq!(world.now(&task, Sysno::read, &[zero, memory, 4999]), Ok(4999));
    assert_eq!(task.mm().get::<[u8; 2]>(memory + 4998), Ok([0, 7]));
    let mapped = world.now(&task, Sysno::mmap, &[0, 8192, 3, u64::from(c::MAP_PRIVATE), zero, 0]).expect("zeros");
    assert_eq!(task.mm().get::<u64>(mapped), Ok(0));
    let full = open(b"/dev/full\0", c::O_RDWR).expect("a device");
    assert_eq!(world.now(&task, Sysno::write, &[full, memory, 1]), Err(Errno::ENOSPC));
    assert_eq!(world.now(&task, Sysno::read, &[full, memory, 10]), Ok(10));
    let random = open(b"/dev/urandom\0", c::O_RDONLY).expect("a device");
    assert_eq!(world.now(&task, Sysno::read, &[random, memory, 64]), Ok(64));
    assert_ne!(task.mm().get::<[u8; 64]>(memory), Ok([0; 64]));
}

#[test]
fn fifos_in_the_tree_meet() {
    let (world, task, memory) = world();
    let path = testing::bytes(&task, b"/fifo\0");
    let make = [c::AT_FDCWD as u64, path, u64::from(c::S_IFIFO | 0o600), 0];
    assert_eq!(world.now(&task, Sysno::mknodat, &make), Ok(0));
    let open = |task: &_, flags: u32| world.call(task, Sysno::openat, &[c::AT_FDCWD as u64, path, u64::from(flags), 0]);
    assert_eq!(open(&task, c::O_WRONLY | c::O_NONBLOCK).result(), Err(Errno::ENXIO));
    let mut reader = open(&task, c::O_RDONLY);
    assert!(reader.sleeps());
    let other = world.thread(&task);
    let write = open(&other, c::O_WRONLY).result().expect("the other side is there");
    let read = reader.woken().expect("over").expect("opened");
    assert_eq!(world.now(&task, Sysno::write, &[write, memory, 5]), Ok(5));
    assert_eq!(world.now(&task, Sysno::read, &[read, memory, 50]), Ok(5));
    // A signal ends the wait, and the end that waited is gone.
    drop(task.descriptors().take(read as i32));
    drop(task.descriptors().take(write as i32));
    let mut reader = open(&task, c::O_RDONLY);
    task.interrupt();
    assert_eq!(reader.woken(), Some(Err(Errno::RESTARTSYS)));
    assert_eq!(open(&other, c::O_WRONLY | c::O_NONBLOCK).result(), Err(Errno::ENXIO));
}
