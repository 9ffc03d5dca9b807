//! Watching files, and files that only memory has.

use super::Program;
use crate::Errno;
use crate::testing::{bytes, memory};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use insula_abi::Sysno;
use insula_abi::general as c;

/// All events that wait: watch, mask, name.
fn events(program: &Program, fd: u64) -> Vec<(i32, u32, String)> {
    let to = memory(&program.task, 4096);
    let count = match program.call(Sysno::read, &[fd, to, 4096]) {
        Ok(count) => count as usize,
        Err(errno) => {
            assert_eq!(errno, Errno::EAGAIN);
            0
        }
    };
    let mut bytes = alloc::vec![0; count];
    program.task.mm().read(to, &mut bytes).expect("mapped");
    let mut events = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let number = |at: usize| u32::from_ne_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
        let len = number(12) as usize;
        let name = core::str::from_utf8(&rest[16..16 + len]).expect("text").trim_end_matches('\0').to_string();
        events.push((number(0) as i32, number(4), name));
        rest = &rest[16 + len..];
    }
    events
}

#[test]
fn a_watch_tells_what_happens_in_a_directory() {
    let program = Program::new();
    program.mkdir("/d").expect("room");
    let fd = program.call(Sysno::inotify_init1, &[c::O_NONBLOCK.into()]).expect("room");
    assert_eq!(program.call(Sysno::inotify_add_watch, &[fd, program.text("/d"), c::IN_ALL_EVENTS.into()]), Ok(1));
    let file = program.file("/d/file", b"x");
    program.call(Sysno::close, &[file]).expect("it is open");
    program.both(Sysno::rename, "/d/file", "/d/other").expect("it is there");
    program.at(Sysno::unlink, "/d/other").expect("it is there");
    let seen = events(&program, fd);
    let of = |mask: u32, name: &str| (1, mask, name.to_string());
    assert_eq!(
        seen,
        [
            of(c::IN_CREATE, "file"),
            of(c::IN_OPEN, "file"),
            of(c::IN_MODIFY, "file"),
            of(c::IN_CLOSE_WRITE, "file"),
            of(c::IN_MOVED_FROM, "file"),
            of(c::IN_MOVED_TO, "other"),
            of(c::IN_DELETE, "other"),
        ]
    );
    program.at(Sysno::rmdir, "/d").expect("it is empty");
    assert_eq!(
        events(&program, fd),
        [of(c::IN_DELETE_SELF | c::IN_ISDIR, ""), of(c::IN_IGNORED, "")].map(|mut event| {
            event.1 &= !c::IN_ISDIR;
            event
        })
    );
    assert_eq!(program.call(Sysno::inotify_rm_watch, &[fd, 1]), Err(Errno::EINVAL));
}

#[test]
fn what_is_sealed_stays_so() {
    let program = Program::new();
    let fd = program.call(Sysno::memfd_create, &[program.text("name"), 2]).expect("room");
    program.write(fd, b"content").expect("room");
    let seal = |seals: u32| program.call(Sysno::fcntl, &[fd, c::F_ADD_SEALS.into(), seals.into()]);
    let map = |prot: u64| program.call(Sysno::mmap, &[0, 4096, prot, c::MAP_SHARED.into(), fd, 0]);
    let mapped = map(3).expect("room");
    assert_eq!(seal(c::F_SEAL_WRITE), Err(Errno::EBUSY));
    assert_eq!(program.call(Sysno::munmap, &[mapped, 4096]), Ok(0));
    assert_eq!(seal(c::F_SEAL_WRITE | c::F_SEAL_SHRINK), Ok(0));
    assert_eq!(map(3), Err(Errno::EPERM));
    assert_eq!(program.write(fd, b"x"), Err(Errno::EPERM));
    assert_eq!(program.call(Sysno::ftruncate, &[fd, 1]), Err(Errno::EPERM));
    assert_eq!(program.call(Sysno::ftruncate, &[fd, 100]), Ok(0));
    assert_eq!(seal(c::F_SEAL_SEAL), Ok(0));
    assert_eq!(seal(c::F_SEAL_GROW), Err(Errno::EPERM));
    let plain = program.call(Sysno::memfd_create, &[program.text("plain"), 0]).expect("room");
    assert_eq!(program.call(Sysno::fcntl, &[plain, c::F_GET_SEALS.into(), 0]), Ok(u64::from(c::F_SEAL_SEAL)));
    let description = program.task.file(fd as i32).expect("it is open");
    let root = program.task.fs().lock().root.clone();
    assert_eq!(description.path.as_ref().map(|path| path.text(&root)).as_deref(), Some(&b"/memfd:name (deleted)"[..]));
}

#[test]
fn a_mapping_shows_what_is_written_and_is_cut_with_the_file() {
    let program = Program::new();
    let fd = program.file("/file", b"first");
    let mapped = program.call(Sysno::mmap, &[0, 8192, 3, c::MAP_SHARED.into(), fd, 0]).expect("room");
    assert_eq!(program.call(Sysno::pwrite64, &[fd, bytes(&program.task, b"FI"), 2, 0]), Ok(2));
    assert_eq!(program.task.mm().get::<[u8; 5]>(mapped), Ok(*b"FIrst"));
    program.task.mm().write(mapped, b"w").expect("mapped");
    assert_eq!(program.content(fd, 0, 5).as_deref(), Ok(&b"wIrst"[..]));
    assert_eq!(program.task.mm().get::<u8>(mapped + 4096), Err(Errno::EFAULT), "past the end");
    // What was written behind the end isn't there when the file grows.
    program.task.mm().write(mapped + 5, b"garbage").expect("mapped");
    assert_eq!(program.call(Sysno::ftruncate, &[fd, 20]), Ok(0));
    assert_eq!(program.content(fd, 5, 20).as_deref(), Ok(&[0; 15][..]));
}
