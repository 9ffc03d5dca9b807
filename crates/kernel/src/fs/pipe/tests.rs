//! Pipes as programs use them.

use super::*;
use crate::testing::{self, World};
use insula_abi::Sysno;

struct Ends {
    world: World,
    task: Arc<Task>,
    read: u64,
    write: u64,
    memory: u64,
}

fn ends(flags: u32) -> Ends {
    let world = World::new();
    let task = world.process();
    let memory = testing::memory(&task, 1 << 18);
    assert_eq!(world.now(&task, Sysno::pipe2, &[memory, u64::from(flags)]), Ok(0));
    let [read, write] = task.mm().get::<[i32; 2]>(memory).expect("two descriptors").map(|fd| fd as u64);
    Ends { world, task, read, write, memory }
}

impl Ends {
    fn read(&self, len: u64) -> Result<u64> {
        self.world.now(&self.task, Sysno::read, &[self.read, self.memory, len])
    }

    fn write(&self, len: u64) -> Result<u64> {
        self.world.now(&self.task, Sysno::write, &[self.write, self.memory, len])
    }

    fn close(&self, fd: u64) {
        drop(self.task.descriptors().take(fd as i32));
    }

    fn poll(&self, fd: u64) -> Events {
        self.task.file(fd as i32).expect("open").file.poll()
    }
}

#[test]
fn what_is_written_is_read() {
    let pipe = ends(0);
    pipe.task.mm().write(pipe.memory, b"hello").expect("memory");
    assert_eq!(pipe.write(5), Ok(5));
    pipe.task.mm().write(pipe.memory, b"-----").expect("memory");
    assert_eq!(pipe.read(3), Ok(3));
    assert_eq!(pipe.task.mm().get::<[u8; 3]>(pipe.memory), Ok(*b"hel"));
    assert_eq!(pipe.read(100), Ok(2));
    assert_eq!(pipe.read(0), Ok(0));
    pipe.close(pipe.write);
    assert_eq!(pipe.read(100), Ok(0));
    assert_eq!(pipe.poll(pipe.read), Events::HUP);
}

#[test]
fn a_reader_waits_and_a_signal_ends_its_wait() {
    let pipe = ends(0);
    let other = pipe.world.thread(&pipe.task);
    let mut read = pipe.world.call(&other, Sysno::read, &[pipe.read, pipe.memory, 10]);
    assert!(read.sleeps());
    assert_eq!(pipe.write(3), Ok(3));
    assert_eq!(read.woken(), Some(Ok(3)));
    let mut read = pipe.world.call(&other, Sysno::read, &[pipe.read, pipe.memory, 10]);
    other.interrupt();
    assert_eq!(read.woken(), Some(Err(Errno::RESTARTSYS)));
}

#[test]
fn small_writes_are_whole_and_large_ones_go_on() {
    let pipe = ends(c::O_NONBLOCK);
    assert_eq!(pipe.write(CAPACITY as u64 - 100), Ok(CAPACITY as u64 - 100));
    assert_eq!(pipe.write(101), Err(Errno::EAGAIN), "not even a part of it");
    assert_eq!(pipe.write(5000), Err(Errno::EAGAIN), "what is left over doesn't go into the last page");
    assert_eq!(pipe.write(100), Ok(100));
    assert_eq!(pipe.write(1), Err(Errno::EAGAIN));
    assert!(!pipe.poll(pipe.write).contains(Events::OUT));
    assert_eq!(pipe.read(4095), Ok(4095));
    assert!(!pipe.poll(pipe.write).contains(Events::OUT));
    assert_eq!(pipe.read(1), Ok(1));
    assert!(pipe.poll(pipe.write).contains(Events::OUT));
}

#[test]
fn a_writer_that_waits_writes_all_of_it() {
    let pipe = ends(0);
    let other = pipe.world.thread(&pipe.task);
    let all = 3 * CAPACITY as u64 + 17;
    let mut write = pipe.world.call(&other, Sysno::write, &[pipe.write, pipe.memory, all]);
    let mut read = 0;
    while read < all {
        assert_eq!(write.woken(), (read + CAPACITY as u64 >= all).then_some(Ok(all)));
        read += pipe.read(10_000).expect("something is there");
    }
    assert_eq!(write.woken(), Some(Ok(all)));
}

#[test]
fn without_readers_writing_fails() {
    let pipe = ends(0);
    pipe.close(pipe.read);
    assert!(pipe.poll(pipe.write).contains(Events::ERR));
    assert_eq!(pipe.write(0), Ok(0));
    assert_eq!(pipe.write(1), Err(Errno::EPIPE));
}

#[test]
fn packets_stay_apart() {
    let pipe = ends(c::O_DIRECT);
    assert_eq!(pipe.write(10), Ok(10));
    assert_eq!(pipe.write(5000), Ok(5000));
    assert_eq!(pipe.read(4), Ok(4), "the rest of a packet is lost");
    assert_eq!(pipe.read(9000), Ok(4096));
    assert_eq!(pipe.read(9000), Ok(904));
}

#[test]
fn capacity_is_in_powers_of_two_and_has_a_limit() {
    let pipe = Pipe::new(1);
    let nobody = Credentials::root(0);
    assert_eq!(pipe.capacity(), 65536);
    assert_eq!(pipe.set_capacity(5000, &nobody), Ok(8192));
    assert_eq!(pipe.set_capacity(0, &nobody), Ok(4096));
    assert_eq!(pipe.set_capacity(MOST as u64 + 1, &nobody), Err(Errno::EPERM));
    assert_eq!(pipe.set_capacity(1 << 40, &nobody), Err(Errno::EINVAL));
}

#[test]
fn a_fifo_is_opened_when_both_sides_are_there() {
    let fifo = Pipe::new(1);
    assert_eq!(fifo.open(c::O_WRONLY | c::O_NONBLOCK).err(), Some(Errno::ENXIO));
    let reader = fifo.open(c::O_RDONLY).expect("opened");
    assert_eq!(reader.opening(), Err(Errno::EAGAIN));
    let writer = fifo.open(c::O_WRONLY).expect("opened");
    assert_eq!((reader.opening(), writer.opening()), (Ok(()), Ok(())));
    // A writer that came and went counts.
    drop(reader);
    drop(writer);
    let reader = fifo.open(c::O_RDONLY | c::O_NONBLOCK).expect("opened");
    assert_eq!((reader.opening(), reader.poll()), (Ok(()), Events::empty()));
    drop(fifo.open(c::O_WRONLY).expect("opened"));
    assert_eq!(reader.poll(), Events::HUP);
    assert_eq!(fifo.open(c::O_RDWR).expect("opened").opening(), Ok(()));
}

#[test]
fn pipe2_refuses_what_it_does_not_know_and_leaves_nothing_open() {
    let world = World::new();
    let task = world.process();
    let memory = testing::memory(&task, 4096);
    assert_eq!(world.now(&task, Sysno::pipe2, &[memory, u64::from(c::O_APPEND)]), Err(Errno::EINVAL));
    assert_eq!(world.now(&task, Sysno::pipe2, &[64, 0]), Err(Errno::EFAULT));
    assert!(task.descriptors().all().is_empty());
}
