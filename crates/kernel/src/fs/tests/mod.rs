//! Files, names and mounts by the calls that programs make, on a tmpfs.

mod changes;
mod names;
mod watching;

use crate::task::Task;
use crate::testing::{World, bytes, memory};
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use insula_abi::Sysno;
use insula_abi::file::Stat;
use insula_abi::general as c;

/// A program that makes calls one after the other.
pub(super) struct Program {
    pub(super) world: World,
    pub(super) task: Arc<Task>,
}

impl Program {
    pub(super) fn new() -> Self {
        let world = World::new();
        let task = world.process();
        Program { world, task }
    }

    pub(super) fn call(&self, number: Sysno, arguments: &[u64]) -> Result<u64> {
        self.world.now(&self.task, number, arguments)
    }

    /// A string in its memory.
    pub(super) fn text(&self, text: &str) -> u64 {
        bytes(&self.task, alloc::format!("{text}\0").as_bytes())
    }

    pub(super) fn open(&self, path: &str, flags: u32) -> Result<u64> {
        self.call(Sysno::open, &[self.text(path), flags.into(), 0o644])
    }

    pub(super) fn mkdir(&self, path: &str) -> Result<u64> {
        self.call(Sysno::mkdir, &[self.text(path), 0o755])
    }

    /// A call that takes nothing but a path.
    pub(super) fn at(&self, number: Sysno, path: &str) -> Result<u64> {
        self.call(number, &[self.text(path)])
    }

    /// A call that takes two paths.
    pub(super) fn both(&self, number: Sysno, one: &str, other: &str) -> Result<u64> {
        self.call(number, &[self.text(one), self.text(other)])
    }

    /// A file with something in it.
    pub(super) fn file(&self, path: &str, content: &[u8]) -> u64 {
        let fd = self.open(path, c::O_CREAT | c::O_RDWR).expect("a new file");
        self.write(fd, content).expect("room");
        fd
    }

    pub(super) fn write(&self, fd: u64, content: &[u8]) -> Result<u64> {
        self.call(Sysno::write, &[fd, bytes(&self.task, content), content.len() as u64])
    }

    /// What is in a file from `at` on.
    pub(super) fn content(&self, fd: u64, at: u64, len: u64) -> Result<Vec<u8>> {
        let to = memory(&self.task, len);
        let count = self.call(Sysno::pread64, &[fd, to, len, at])?;
        let mut content = alloc::vec![0; count as usize];
        self.task.mm().read(to, &mut content)?;
        Ok(content)
    }

    pub(super) fn lstat(&self, path: &str) -> Result<Stat> {
        let to = memory(&self.task, size_of::<Stat>() as u64);
        self.call(Sysno::lstat, &[self.text(path), to])?;
        self.task.mm().get(to)
    }

    pub(super) fn fstat(&self, fd: u64) -> Result<Stat> {
        let to = memory(&self.task, size_of::<Stat>() as u64);
        self.call(Sysno::fstat, &[fd, to])?;
        self.task.mm().get(to)
    }

    pub(super) fn cwd(&self) -> Result<Vec<u8>> {
        let to = memory(&self.task, 4096);
        let len = self.call(Sysno::getcwd, &[to, 4096])?;
        let mut text = alloc::vec![0; len as usize - 1];
        self.task.mm().read(to, &mut text)?;
        Ok(text)
    }

    /// Names in a directory, in the order in which they come, read with a buffer of `len` bytes.
    pub(super) fn names(&self, path: &str, len: u64) -> Result<Vec<Vec<u8>>> {
        let fd = self.open(path, c::O_DIRECTORY)?;
        let to = memory(&self.task, len);
        let mut names = Vec::new();
        loop {
            let count = self.call(Sysno::getdents64, &[fd, to, len])? as usize;
            if count == 0 {
                self.call(Sysno::close, &[fd])?;
                return Ok(names);
            }
            let mut entries = alloc::vec![0; count];
            self.task.mm().read(to, &mut entries)?;
            let mut rest = &entries[..];
            while !rest.is_empty() {
                let record = u16::from_ne_bytes([rest[16], rest[17]]) as usize;
                let name = &rest[19..record];
                names.push(name[..name.iter().position(|byte| *byte == 0).expect("an end")].to_vec());
                rest = &rest[record..];
            }
        }
    }

    /// Somebody without rights from now on.
    pub(super) fn become_user(&self, id: u32) {
        let mut credentials = (*self.task.credentials()).clone();
        credentials.uid = crate::task::credentials::Ids::all(id);
        credentials.gid = crate::task::credentials::Ids::all(id);
        credentials.capabilities = Default::default();
        self.task.set_credentials(credentials);
    }
}

#[test]
fn what_is_written_is_read_and_holes_are_zeros() {
    let program = Program::new();
    let fd = program.file("/file", b"hello");
    assert_eq!(program.call(Sysno::pwrite64, &[fd, bytes(&program.task, b"end"), 3, 100_000]), Ok(3));
    assert_eq!(program.content(fd, 0, 8).as_deref(), Ok(&b"hello\0\0\0"[..]));
    assert_eq!(program.content(fd, 99_998, 100).as_deref(), Ok(&b"\0\0end"[..]));
    let stat = program.fstat(fd).expect("it is open");
    assert_eq!((stat.size, stat.blocks), (100_003, 16), "two pages are there");
    assert_eq!(program.call(Sysno::lseek, &[fd, 5, c::SEEK_DATA.into()]), Ok(5));
    assert_eq!(program.call(Sysno::lseek, &[fd, 5, c::SEEK_HOLE.into()]), Ok(4096));
    assert_eq!(program.call(Sysno::lseek, &[fd, 4096, c::SEEK_DATA.into()]), Ok(98_304));
}

#[test]
fn large_pieces_arrive_whole() {
    let program = Program::new();
    let fd = program.file("/file", b"small");
    let large: Vec<u8> = (0..200_000u32).map(|index| (index % 251) as u8).collect();
    let from = bytes(&program.task, &large);
    assert_eq!(program.call(Sysno::pwrite64, &[fd, from, 200_000, 3]), Ok(200_000));
    assert_eq!(program.content(fd, 3, 300_000), Ok(large));
    assert_eq!(program.content(fd, 0, 3).as_deref(), Ok(&b"sma"[..]));
}

#[test]
fn a_directory_is_read_in_pieces_while_it_changes() {
    let program = Program::new();
    program.mkdir("/d").expect("room");
    for index in 0..40 {
        program
            .open(&alloc::format!("/d/{index}"), c::O_CREAT | c::O_WRONLY)
            .and_then(|fd| program.call(Sysno::close, &[fd]))
            .expect("room");
    }
    let names = program.names("/d", 64).expect("it is there");
    assert_eq!(names.len(), 42);
    assert_eq!((&*names[0], &*names[1], &*names[41]), (&b"."[..], &b".."[..], &b"39"[..]));
    assert_eq!(program.names("/d", 16), Err(Errno::EINVAL), "no entry fits");
}
