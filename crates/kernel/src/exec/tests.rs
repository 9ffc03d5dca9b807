//! Programs are made of bytes, and begun.

use super::{Request, begin, load};
use crate::fs::{Changes, Context, Descriptors};
use crate::mm::Protection;
use crate::task::{Boot, Credentials, Limits, Task};
use crate::testing::{World, bytes, install};
use crate::{Errno, Regs, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use insula_abi::auxvec as a;
use insula_abi::elf::{Ehdr, Phdr};
use insula_abi::elf_uapi as e;
use insula_abi::zerocopy::IntoBytes;
use insula_abi::{PAGE, Sysno, general as c};

/// A world with these files at its root.
fn boot(files: &[(&'static [u8], u32, Vec<u8>)], program: &[u8], arguments: &[&[u8]]) -> Result<(World, Arc<Task>, Regs)> {
    let world = World::new();
    let maker = world.process();
    for (name, mode, contents) in files {
        let path = bytes(&maker, &[*name, b"\0"].concat());
        let fd = world.now(&maker, Sysno::open, &[path, u64::from(c::O_CREAT | c::O_WRONLY), 0o600]).expect("a file");
        let from = bytes(&maker, contents);
        assert_eq!(world.now(&maker, Sysno::write, &[fd, from, contents.len() as u64]), Ok(contents.len() as u64));
        let file = maker.file(fd as i32).expect("it is open");
        let owned = Changes { uid: Some(7), gid: Some(8), mode: Some(*mode), ..Changes::default() };
        file.path.as_ref().expect("a path").inode().set_attributes(&owned).expect("attributes");
        world.now(&maker, Sysno::close, &[fd]).expect("it is open");
    }
    let boot = Boot {
        program: program.to_vec(),
        arguments: arguments.iter().map(|argument| argument.to_vec()).collect(),
        environment: vec![b"HOME=/".to_vec()],
        fs: Context::new(&world.namespace),
        credentials: Credentials::root(u64::MAX),
        limits: Limits::default(),
        descriptors: Descriptors::new(),
    };
    let (task, regs) = world.kernel.boot(boot)?;
    Ok((world, task, regs))
}

fn header(kind: u32, entry: u64, count: usize) -> Ehdr {
    Ehdr {
        ident: *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0",
        kind: kind as u16,
        machine: e::EM_X86_64 as u16,
        version: 1,
        entry,
        phoff: 64,
        ehsize: 64,
        phentsize: 56,
        phnum: count as u16,
        ..Ehdr::default()
    }
}

fn program(kind: u32, segments: &[Phdr]) -> Vec<u8> {
    let mut bytes =
        header(kind, segments.first().map_or(0, |first| first.vaddr.wrapping_add(0x200)), segments.len()).as_bytes().to_vec();
    bytes.extend(segments.iter().flat_map(|segment| segment.as_bytes().to_vec()));
    bytes.resize(0x3000, 0x90);
    bytes
}

fn segment(flags: u32, offset: u64, vaddr: u64, filesz: u64, memsz: u64) -> Phdr {
    Phdr { kind: e::PT_LOAD, flags, offset, vaddr, paddr: vaddr, filesz, memsz, align: PAGE }
}

fn usual(at: u64) -> [Phdr; 2] {
    [segment(e::PF_R | e::PF_X, 0, at, 0x1800, 0x1800), segment(e::PF_R | e::PF_W, 0x1800, at + 0x2800, 0x500, 0x3000)]
}

/// The smallest program of all.
pub(crate) fn smallest() -> Vec<u8> {
    program(e::ET_EXEC, &usual(0x40_0000))
}

/// What the auxiliary vector says.
fn auxiliary(task: &Task) -> BTreeMap<u32, u64> {
    let (start, end) = task.mm().image().auxiliary;
    let len = end - start;
    let words: Vec<u64> = task.mm().get_all(start, len as usize / 8).expect("the vector");
    words.chunks(2).map(|pair| (pair[0] as u32, pair[1])).collect()
}

fn string(task: &Task, at: u64) -> Vec<u8> {
    task.mm().string(at, 4096).expect("a string")
}

#[test]
fn a_program_finds_its_arguments_and_its_segments() {
    let files = [(&b"hello"[..], 0o755, program(e::ET_EXEC, &usual(0x40_0000)))];
    let (_world, task, regs) = boot(&files, b"/hello", &[b"hello", b"you"]).expect("a program");
    assert_eq!((task.tid(), task.process.pid), (2, 2));
    assert_eq!(regs.rip, 0x40_0200);
    assert_eq!(regs.rsp % 16, 0);
    let mm = task.mm();
    let words: Vec<u64> = mm.get_all(regs.rsp, 6).expect("the stack");
    assert_eq!((words[0], words[3], words[5]), (2, 0, 0));
    assert_eq!((string(&task, words[1]), string(&task, words[2])), (b"hello".to_vec(), b"you".to_vec()));
    assert_eq!(string(&task, words[4]), b"HOME=/");
    let known = auxiliary(&task);
    assert_eq!(known[&a::AT_PHDR], 0x40_0040);
    assert_eq!(known[&a::AT_PHNUM], 2);
    assert_eq!(known[&a::AT_ENTRY], 0x40_0200);
    assert_eq!(known[&a::AT_SECURE], 0);
    assert_eq!(string(&task, known[&a::AT_EXECFN]), b"/hello");
    assert_eq!(string(&task, known[&a::AT_PLATFORM]), b"x86_64");
    // Behind the file's part there are zeros, on the same page and on the next.
    assert_eq!(mm.get::<u8>(0x40_2cff), Ok(0x90));
    assert_eq!(mm.get::<u8>(0x40_2d00), Ok(0));
    assert_eq!(mm.get::<u8>(0x40_57ff), Ok(0));
    assert_eq!(mm.get::<u8>(0x40_6000), Err(Errno::EFAULT));
    assert_eq!(mm.write(0x40_0000, b"x"), Err(Errno::EFAULT));
    assert_eq!(&task.name.lock()[..6], b"hello\0");
    let image = mm.image();
    let mut strings = vec![0; (image.arguments.1 - image.arguments.0) as usize];
    mm.read(image.arguments.0, &mut strings).expect("arguments");
    assert_eq!(strings, b"hello\0you\0");
}

#[test]
fn an_interpreter_begins_in_the_programs_place() {
    let mut segments = usual(0).to_vec();
    segments.push(Phdr { kind: e::PT_INTERP, offset: 0x1000, filesz: 4, ..Phdr::default() });
    let mut dynamic = program(e::ET_DYN, &segments);
    dynamic[0x1000..0x1004].copy_from_slice(b"/ld\0");
    let files = [(&b"dyn"[..], 0o755, dynamic), (&b"ld"[..], 0o755, program(e::ET_DYN, &usual(0)))];
    let (_world, task, regs) = boot(&files, b"dyn", &[b"dyn"]).expect("a program");
    let known = auxiliary(&task);
    assert_eq!(regs.rip, known[&a::AT_BASE] + 0x200);
    assert_eq!(known[&a::AT_PHDR] - 0x40, known[&a::AT_ENTRY] - 0x200);
    assert_ne!(known[&a::AT_BASE], known[&a::AT_ENTRY] - 0x200);
    assert_eq!(task.mm().get::<[u8; 4]>(known[&a::AT_BASE]), Ok(*b"\x7fELF"));
}

#[test]
fn scripts_name_their_interpreters() {
    let hello = program(e::ET_EXEC, &usual(0x40_0000));
    let files = [
        (&b"hello"[..], 0o755, hello),
        (&b"script"[..], 0o755, b"#! /hello -x y\nrest".to_vec()),
        (&b"loop"[..], 0o755, b"#!/loop\n".to_vec()),
    ];
    let (_world, task, regs) = boot(&files, b"/script", &[b"s", b"one"]).expect("a script");
    let words: Vec<u64> = task.mm().get_all(regs.rsp, 5).expect("the stack");
    let arguments: Vec<_> = words[1..].iter().map(|at| string(&task, *at)).collect();
    assert_eq!(words[0], 4);
    assert_eq!(arguments, [&b"/hello"[..], b"-x y", b"/script", b"one"]);
    assert_eq!(&task.name.lock()[..7], b"script\0");
    assert_eq!(boot(&files, b"/loop", &[b"l"]).err(), Some(Errno::ELOOP));
}

#[test]
fn what_is_no_program_is_refused() {
    let fine = program(e::ET_EXEC, &usual(0x40_0000));
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fine.clone();
        change(&mut bytes);
        boot(&[(b"x", 0o755, bytes)], b"x", &[b"x"]).err()
    };
    assert_eq!(with(&|_| {}), None);
    assert_eq!(with(&|bytes| bytes.clear()), Some(Errno::ENOEXEC));
    assert_eq!(with(&|bytes| bytes.truncate(100)), Some(Errno::ENOEXEC));
    assert_eq!(with(&|bytes| bytes[18] = 3), Some(Errno::ENOEXEC));
    assert_eq!(with(&|bytes| bytes[54] = 32), Some(Errno::ENOEXEC));
    assert_eq!(with(&|bytes| bytes[56..58].fill(0)), Some(Errno::ENOEXEC));
    assert_eq!(with(&|bytes| bytes[56..58].fill(0xff)), Some(Errno::ENOEXEC));
    assert_eq!(with(&|bytes| bytes[32..40].fill(0xff)), Some(Errno::ENOEXEC));
    assert_eq!(boot(&[(b"x", 0o644, fine.clone())], b"x", &[b"x"]).err(), Some(Errno::EACCES));
    assert_eq!(boot(&[], b"x", &[b"x"]).err(), Some(Errno::ENOENT));
    assert_eq!(boot(&[], b"", &[b"x"]).err(), Some(Errno::ENOENT));
}

#[test]
fn hostile_segments_are_refused_without_harm() {
    let with = |kind, segments: &[Phdr]| boot(&[(b"x", 0o755, program(kind, segments))], b"x", &[b"x"]).err();
    let flags = e::PF_R | e::PF_W;
    for kind in [e::ET_EXEC, e::ET_DYN] {
        assert_eq!(with(kind, &[segment(flags, 0, 0x40_0000, 0x2000, 0x1000)]), Some(Errno::EINVAL), "memsz < filesz");
        assert_eq!(with(kind, &[segment(flags, 0, 0x40_0000, 0x1000, u64::MAX)]), Some(Errno::EINVAL), "huge");
        assert_eq!(with(kind, &[segment(flags, 0, u64::MAX - 10, 5, 5)]), Some(Errno::EINVAL), "at the end");
        assert_eq!(with(kind, &[segment(flags, 0x10, 0x40_0000, 0x1000, 0x1000)]), Some(Errno::EINVAL), "not congruent");
        assert_eq!(with(kind, &[segment(flags, !0xfff, 0x40_0000, 0x1000, 0x1000)]), Some(Errno::EINVAL), "offset");
        assert_eq!(with(kind, &[]), Some(Errno::ENOEXEC), "none");
    }
    let over = [segment(flags, 0, 0x40_0000, 0x2000, 0x2000), segment(flags, 0, 0x40_1000, 0x1000, 0x1000)];
    assert_eq!(with(e::ET_EXEC, &over), Some(Errno::EEXIST));
    assert_eq!(with(e::ET_DYN, &over), None);
    assert_eq!(with(e::ET_EXEC, &[segment(flags, 0, 0, 0x1000, 0x1000)]), Some(Errno::EPERM), "below the lowest address");
    // More than there is memory, which nobody touches.
    assert_eq!(with(e::ET_EXEC, &[segment(flags, 0, 0x40_0000, 0x1000, 1 << 40)]), None);
}

#[test]
fn set_id_files_change_who_runs_them_unless_that_is_forbidden() {
    let hello = program(e::ET_EXEC, &usual(0x40_0000));
    let files = [(&b"hello"[..], 0o755, hello.clone()), (&b"other"[..], 0o6755, hello)];
    let (_world, task, _) = boot(&files, b"hello", &[b"hello"]).expect("a program");
    let mut user = Credentials::root(0);
    (user.uid, user.gid) = (crate::task::credentials::Ids::all(1000), crate::task::credentials::Ids::all(1000));
    let run = |task: &Arc<Task>| {
        let request = Request { at: c::AT_FDCWD, path: b"other".to_vec(), flags: 0, arguments: vec![], environment: vec![] };
        begin(task, load(task, request).expect("a program"));
        (task.credentials().uid, task.credentials().gid.effective, auxiliary(task)[&a::AT_SECURE])
    };
    task.set_credentials(user.clone());
    let (uid, gid, secure) = run(&task);
    assert_eq!((uid.real, uid.effective, uid.saved, uid.fs, gid, secure), (1000, 7, 7, 7, 8, 1));
    user.no_new_privileges = true;
    task.set_credentials(user);
    let (uid, gid, secure) = run(&task);
    assert_eq!((uid.effective, gid, secure), (1000, 1000, 0));
}

#[test]
fn a_new_program_has_its_own_memory_and_files() {
    let files = [(&b"hello"[..], 0o755, program(e::ET_EXEC, &usual(0x40_0000)))];
    let (_world, task, _) = boot(&files, b"hello", &[b"hello"]).expect("a program");
    let before = task.mm();
    let descriptors = task.descriptors();
    for close in [false, true] {
        let fd = install(&task, crate::task::pidfd::Pidfd::new(task.process.clone()), 0);
        descriptors.set_close_on_exec(fd as i32, close).expect("it is open");
    }
    let request = Request { at: c::AT_FDCWD, path: b"hello".to_vec(), flags: 0, arguments: vec![], environment: vec![] };
    begin(&task, load(&task, request).expect("a program"));
    assert!(!Arc::ptr_eq(&before, &task.mm()));
    assert!(task.file(0).is_ok() && task.file(1).is_err());
    // Others that had the table still have it whole.
    assert!(descriptors.get(1).is_ok());
    let stack = task.mm().areas().into_iter().find(|(_, area)| area.label == "[stack]").expect("a stack");
    assert_eq!(stack.1.protection, Protection::READ | Protection::WRITE);
}

#[test]
fn no_header_does_harm() {
    let world = World::new();
    let maker = world.process();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut roll = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let path = bytes(&maker, b"/x\0");
    for _ in 0..500 {
        let kind = if roll() % 2 == 0 { e::ET_EXEC } else { e::ET_DYN };
        let mut program = program(kind, &usual(0x40_0000));
        for _ in 0..1 + roll() % 3 {
            let at = (16 + roll() % 160) as usize;
            let value = [0, 1, 3, 0xff, roll(), u64::MAX, 1 << 63, 1 << 47, 0x1000, i64::MAX as u64][(roll() % 10) as usize];
            let len = [1, 2, 4, 8][(roll() % 4) as usize];
            program[at..at + len].copy_from_slice(&value.to_ne_bytes()[..len]);
        }
        let fd =
            world.now(&maker, Sysno::open, &[path, u64::from(c::O_CREAT | c::O_WRONLY | c::O_TRUNC), 0o755]).expect("a file");
        let from = bytes(&maker, &program);
        world.now(&maker, Sysno::write, &[fd, from, program.len() as u64]).expect("room");
        world.now(&maker, Sysno::close, &[fd]).expect("it is open");
        maker.mm().unmap(from, program.len() as u64).expect("just mapped");
        // As a placement does: what was unmapped is given back then.
        drop(maker.mm().take_log());
        let request = Request { at: c::AT_FDCWD, path: b"/x".to_vec(), flags: 0, arguments: vec![], environment: vec![] };
        // Refused or loaded: what counts is that it comes back.
        if let Ok(loaded) = load(&maker, request) {
            assert!(loaded.entry < crate::testing::LAYOUT.high);
        }
    }
}
