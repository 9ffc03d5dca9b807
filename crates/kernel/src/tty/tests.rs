//! Terminals as programs use them.

use crate::signal::SigSet;
use crate::task::Task;
use crate::testing::{self, World};
use crate::{Errno, Result};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use insula_abi::Sysno;
use insula_abi::general as c;
use insula_abi::ioctl as n;
use insula_abi::tty::{Termios, Winsize};

struct Setup {
    world: World,
    /// Who emulates the terminal.
    outer: Arc<Task>,
    /// A session's leader, for whom it is the controlling terminal.
    inner: Arc<Task>,
    master: u64,
    slave: u64,
    memory: u64,
}

fn open(world: &World, task: &Arc<Task>, path: &str, flags: u32) -> Result<u64> {
    let path = testing::bytes(task, format!("{path}\0").as_bytes());
    world.now(task, Sysno::openat, &[c::AT_FDCWD as u64, path, u64::from(flags), 0])
}

fn setup() -> Setup {
    let world = World::new();
    let first = world.process();
    let path = testing::bytes(&first, b"/dev\0");
    assert_eq!(world.now(&first, Sysno::mkdirat, &[c::AT_FDCWD as u64, path, 0o755]), Ok(0));
    testing::mount(&first, b"/dev", b"devtmpfs");
    testing::mount(&first, b"/dev/pts", b"devpts");
    let master = open(&world, &first, "/dev/ptmx", c::O_RDWR | c::O_NOCTTY).expect("a terminal");
    let memory = testing::memory(&first, 1 << 16);
    assert_eq!(world.now(&first, Sysno::ioctl, &[master, u64::from(n::TIOCGPTN), memory]), Ok(0));
    assert_eq!(first.mm().get::<u32>(memory), Ok(0));
    assert_eq!(open(&world, &first, "/dev/pts/0", c::O_RDWR), Err(Errno::EIO), "it is locked");
    first.mm().put(memory, &0u32).expect("memory");
    assert_eq!(world.now(&first, Sysno::ioctl, &[master, u64::from(n::TIOCSPTLCK), memory]), Ok(0));
    let inner = world.process();
    assert_eq!(open(&world, &inner, "/dev/tty", c::O_RDWR), Err(Errno::ENXIO));
    let slave = open(&world, &inner, "/dev/pts/0", c::O_RDWR).expect("the other side");
    testing::memory_at(&inner, memory, 1 << 16);
    Setup { world, outer: first, inner, master, slave, memory }
}

impl Setup {
    fn type_in(&self, text: &[u8]) -> Result<u64> {
        self.outer.mm().write(self.memory, text).expect("memory");
        self.world.now(&self.outer, Sysno::write, &[self.master, self.memory, text.len() as u64])
    }

    fn screen(&self) -> Result<Vec<u8>> {
        self.outer.file(self.master as i32).expect("open").set_flags(c::O_NONBLOCK, c::O_NONBLOCK);
        let count = self.world.now(&self.outer, Sysno::read, &[self.master, self.memory, 4096])?;
        self.outer.mm().get_all(self.memory, count as usize)
    }

    fn read(&self) -> testing::Call {
        self.world.call(&self.inner, Sysno::read, &[self.slave, self.memory, 4096])
    }

    fn control(&self, task: &Arc<Task>, fd: u64, request: u32) -> Result<u64> {
        self.world.now(task, Sysno::ioctl, &[fd, u64::from(request), self.memory])
    }

    fn configure(&self, change: impl FnOnce(&mut Termios)) {
        assert_eq!(self.control(&self.inner, self.slave, n::TCGETS), Ok(0));
        let mut termios = self.inner.mm().get::<Termios>(self.memory).expect("memory");
        change(&mut termios);
        self.inner.mm().put(self.memory, &termios).expect("memory");
        assert_eq!(self.control(&self.inner, self.slave, n::TCSETS), Ok(0));
    }
}

fn pending(task: &Task) -> SigSet {
    task.process.lock().pending.set().with(task.signals().pending.set())
}

#[test]
fn lines_come_in_and_output_goes_out() {
    let s = setup();
    let mut read = s.read();
    assert!(read.sleeps());
    assert_eq!(s.type_in(b"echo\r"), Ok(5));
    assert_eq!(read.woken(), Some(Ok(5)));
    assert_eq!(s.inner.mm().get::<[u8; 5]>(s.memory), Ok(*b"echo\n"));
    assert_eq!(s.screen().as_deref(), Ok(&b"echo\r\n"[..]));
    assert_eq!(s.screen(), Err(Errno::EAGAIN));
    s.inner.mm().write(s.memory, b"out\n").expect("memory");
    assert_eq!(s.world.now(&s.inner, Sysno::write, &[s.slave, s.memory, 4]), Ok(4));
    assert_eq!(s.screen().as_deref(), Ok(&b"out\r\n"[..]));
    assert_eq!(s.type_in(b"\x04"), Ok(1));
    assert_eq!(s.read().result(), Ok(0));
}

#[test]
fn what_is_typed_can_mean_a_signal_to_the_foreground() {
    let s = setup();
    s.inner.set_blocked(SigSet(u64::MAX));
    assert_eq!(s.control(&s.inner, s.slave, n::TIOCGPGRP), Ok(0));
    assert_eq!(s.inner.mm().get::<i32>(s.memory), Ok(s.inner.process.pid));
    assert_eq!(s.type_in(b"\x03"), Ok(1));
    assert!(pending(&s.inner).has(c::SIGINT as i32));
    let size = Winsize { row: 50, col: 100, xpixel: 0, ypixel: 0 };
    s.outer.mm().put(s.memory, &size).expect("memory");
    assert_eq!(s.control(&s.outer, s.master, n::TIOCSWINSZ), Ok(0));
    assert_eq!(s.control(&s.inner, s.slave, n::TIOCGWINSZ), Ok(0));
    assert_eq!(s.inner.mm().get::<Winsize>(s.memory), Ok(size));
    assert_eq!(s.control(&s.inner, s.slave, n::TIOCSTI), Err(Errno::EIO));
    // It is this session's, so `/dev/tty` is it; for others it isn't there to control.
    assert!(open(&s.world, &s.inner, "/dev/tty", c::O_RDWR).is_ok());
    let other = open(&s.world, &s.outer, "/dev/pts/0", c::O_RDWR | c::O_NOCTTY).expect("the other side");
    assert_eq!(s.control(&s.outer, other, n::TIOCGPGRP), Err(Errno::ENOTTY));
}

#[test]
fn raw_reads_wait_for_bytes_or_for_time() {
    let s = setup();
    s.configure(|termios| {
        termios.lflag &= !(c::ICANON | c::ECHO);
        termios.cc[c::VMIN as usize] = 0;
        termios.cc[c::VTIME as usize] = 5;
    });
    let mut read = s.read();
    assert!(read.sleeps());
    s.world.advance(500_000_000);
    assert_eq!(read.woken(), Some(Ok(0)));
    s.configure(|termios| {
        termios.cc[c::VMIN as usize] = 3;
        termios.cc[c::VTIME as usize] = 1;
    });
    let mut read = s.read();
    s.world.advance(900_000_000);
    assert_eq!(s.type_in(b"a"), Ok(1));
    assert_eq!(read.poll(), None);
    s.world.advance(90_000_000);
    assert_eq!(s.type_in(b"b"), Ok(1));
    s.world.advance(90_000_000);
    assert_eq!(read.poll(), None);
    s.world.advance(10_000_000);
    assert_eq!(read.woken(), Some(Ok(2)));
    s.configure(|termios| {
        termios.cc[c::VMIN as usize] = 0;
        termios.cc[c::VTIME as usize] = 0;
    });
    assert_eq!(s.read().result(), Ok(0));
}

#[test]
fn the_end_of_a_terminal_is_told() {
    let s = setup();
    s.inner.set_blocked(SigSet(u64::MAX));
    let mut read = s.read();
    drop(s.outer.descriptors().take(s.master as i32));
    assert_eq!(read.woken(), Some(Ok(0)));
    assert!(pending(&s.inner).has(c::SIGHUP as i32) && pending(&s.inner).has(c::SIGCONT as i32));
    assert_eq!(s.world.now(&s.inner, Sysno::write, &[s.slave, s.memory, 4]), Err(Errno::EIO));
    assert_eq!(open(&s.world, &s.inner, "/dev/pts/0", c::O_RDWR), Err(Errno::ENOENT));
    assert_eq!(open(&s.world, &s.inner, "/dev/tty", c::O_RDWR), Err(Errno::ENXIO));
}

#[test]
fn a_master_sees_the_last_program_go() {
    let s = setup();
    drop(s.inner.descriptors().take(s.slave as i32));
    assert_eq!(s.screen(), Err(Errno::EIO));
    assert!(open(&s.world, &s.inner, "/dev/pts/0", c::O_RDWR).is_ok());
    assert_eq!(s.screen(), Err(Errno::EAGAIN));
}

#[test]
fn packets_tell_what_happened() {
    let s = setup();
    s.outer.mm().put(s.memory, &1i32).expect("memory");
    assert_eq!(s.control(&s.outer, s.master, n::TIOCPKT), Ok(0));
    s.inner.mm().write(s.memory, b"x").expect("memory");
    assert_eq!(s.world.now(&s.inner, Sysno::write, &[s.slave, s.memory, 1]), Ok(1));
    assert_eq!(s.screen().as_deref(), Ok(&b"\0x"[..]));
    let flush = [s.slave, u64::from(n::TCFLSH), u64::from(c::TCIFLUSH)];
    assert_eq!(s.world.now(&s.inner, Sysno::ioctl, &flush), Ok(0));
    assert_eq!(s.screen().as_deref(), Ok(&[c::TIOCPKT_FLUSHREAD as u8][..]));
}
