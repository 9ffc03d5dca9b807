//! `/proc` and `/sys` as programs read them.

use crate::fs::pipe::Pipe;
use crate::task::Task;
use crate::testing::{self, World};
use crate::{Errno, Result};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use insula_abi::Sysno;
use insula_abi::general as c;

struct Setup {
    world: World,
    task: Arc<Task>,
    memory: u64,
}

fn setup() -> Setup {
    let world = World::new();
    let task = world.process();
    for (path, kind) in [("/proc", "proc"), ("/sys", "sysfs")] {
        let text = testing::bytes(&task, format!("{path}\0").as_bytes());
        assert_eq!(world.now(&task, Sysno::mkdirat, &[c::AT_FDCWD as u64, text, 0o755]), Ok(0));
        testing::mount(&task, path.as_bytes(), kind.as_bytes());
    }
    let memory = testing::memory(&task, 1 << 16);
    Setup { world, task, memory }
}

impl Setup {
    fn open(&self, path: &str, flags: u32) -> Result<u64> {
        let path = testing::bytes(&self.task, format!("{path}\0").as_bytes());
        self.world.now(&self.task, Sysno::openat, &[c::AT_FDCWD as u64, path, u64::from(flags), 0])
    }

    fn text(&self, path: &str) -> Result<String> {
        let fd = self.open(path, c::O_RDONLY)?;
        let mut text = Vec::new();
        loop {
            // Little by little: a text must not change while it is read.
            let count = self.world.now(&self.task, Sysno::read, &[fd, self.memory, 100])?;
            text.extend(self.task.mm().get_all::<u8>(self.memory, count as usize)?);
            if count == 0 {
                drop(self.task.descriptors().take(fd as i32));
                return Ok(String::from_utf8(text).expect("text"));
            }
        }
    }

    fn link(&self, path: &str) -> Result<String> {
        let path = testing::bytes(&self.task, format!("{path}\0").as_bytes());
        let count = self.world.now(&self.task, Sysno::readlink, &[path, self.memory, 4096])?;
        Ok(String::from_utf8(self.task.mm().get_all(self.memory, count as usize)?).expect("text"))
    }

    fn names(&self, path: &str) -> Vec<String> {
        let fd = self.open(path, c::O_RDONLY | c::O_DIRECTORY).expect("a directory");
        let mut names = Vec::new();
        loop {
            let count = self.world.now(&self.task, Sysno::getdents64, &[fd, self.memory, 512]).expect("entries");
            let bytes: Vec<u8> = self.task.mm().get_all(self.memory, count as usize).expect("memory");
            let mut at = 0;
            while at < bytes.len() {
                let len = usize::from(u16::from_le_bytes([bytes[at + 16], bytes[at + 17]]));
                let name = bytes[at + 19..at + len].split(|byte| *byte == 0).next().unwrap_or_default();
                names.push(String::from_utf8_lossy(name).into_owned());
                at += len;
            }
            if count == 0 {
                drop(self.task.descriptors().take(fd as i32));
                return names;
            }
        }
    }
}

#[test]
fn a_task_finds_itself() {
    let s = setup();
    let pid = s.task.process.pid;
    assert_eq!(s.link("/proc/self"), Ok(format!("{pid}")));
    assert_eq!(s.link("/proc/thread-self"), Ok(format!("{pid}/task/{pid}")));
    assert_eq!(s.link("/proc/self/cwd").as_deref(), Ok("/"));
    assert_eq!(s.link("/proc/self/ns/pid").as_deref(), Ok("pid:[4026531836]"));
    let stat = s.text("/proc/self/stat").expect("text");
    assert!(stat.starts_with(&format!("{pid} (test) R ")), "{stat}");
    assert_eq!(stat.split_whitespace().count(), 52);
    let status = s.text("/proc/self/status").expect("text");
    assert!(status.contains("\nState:\tR (running)\n") && status.contains(&format!("\nPid:\t{pid}\n")), "{status}");
    assert!(s.names("/proc").contains(&format!("{pid}")));
    assert_eq!(s.names("/proc/self/task").last(), Some(&format!("{pid}")));
    assert_eq!(s.text("/proc/4711/stat"), Err(Errno::ENOENT));
    assert_eq!(s.text("/proc/self/attr/current"), Err(Errno::ENOENT));
    assert_eq!(s.open("/proc/self/new", c::O_CREAT | c::O_WRONLY), Err(Errno::ENOENT));
}

#[test]
fn every_file_can_be_listed_and_read() {
    let s = setup();
    let mut todo: Vec<String> = Vec::from(["/proc/self".into(), "/proc/sys".into(), "/sys".into()]);
    let mut texts = 0;
    while let Some(path) = todo.pop() {
        for name in s.names(&path).into_iter().filter(|name| !name.starts_with('.')) {
            let path = format!("{path}/{name}");
            // There is no program, nor memory at its start; and what lists descriptors has one that is gone when it is looked at.
            if name == "exe" || name == "mem" || path.contains("/fd") || s.link(&path).is_ok() {
                continue;
            }
            match s.open(&path, c::O_RDONLY | c::O_DIRECTORY) {
                Ok(fd) => {
                    drop(s.task.descriptors().take(fd as i32));
                    todo.push(path);
                }
                Err(_) => {
                    s.text(&path).unwrap_or_else(|errno| panic!("{path}: {errno}"));
                    texts += 1;
                }
            }
        }
    }
    for name in ["cpuinfo", "meminfo", "stat", "uptime", "loadavg", "version", "filesystems", "mounts", "devices"] {
        assert!(!s.text(&format!("/proc/{name}")).expect(name).is_empty());
    }
    assert!(texts > 90, "{texts}");
}

#[test]
fn files_without_names_can_be_opened_again() {
    let s = setup();
    let (read, write) = Pipe::ends(77);
    let read = testing::install(&s.task, read, c::O_RDONLY);
    let write = testing::install(&s.task, write, c::O_WRONLY);
    assert_eq!(s.link(&format!("/proc/self/fd/{read}")).as_deref(), Ok("pipe:[77]"));
    let again = s.open(&format!("/proc/self/fd/{write}"), c::O_WRONLY).expect("opened");
    assert_eq!(s.world.now(&s.task, Sysno::write, &[again, s.memory, 3]), Ok(3));
    assert_eq!(s.world.now(&s.task, Sysno::read, &[read, s.memory, 30]), Ok(3));
    let null = s.open("/proc/self/comm", c::O_RDONLY).expect("opened");
    assert_eq!(s.link(&format!("/proc/self/fd/{null}")), Ok(format!("/proc/{}/comm", s.task.process.pid)));
    let info = s.text(&format!("/proc/self/fdinfo/{write}")).expect("text");
    assert!(info.starts_with("pos:\t0\nflags:\t01\n"), "{info}");
}

#[test]
fn names_can_be_changed_where_linux_lets_them() {
    let s = setup();
    let write = |path: &str, text: &[u8]| {
        let fd = s.open(path, c::O_WRONLY | c::O_TRUNC)?;
        s.task.mm().write(s.memory, text)?;
        s.world.now(&s.task, Sysno::write, &[fd, s.memory, text.len() as u64])
    };
    assert_eq!(write("/proc/self/comm", b"renamed\n"), Ok(8));
    assert_eq!(s.text("/proc/self/comm").as_deref(), Ok("renamed\n"));
    assert_eq!(write("/proc/sys/kernel/hostname", b"box\n"), Ok(4));
    assert_eq!(s.text("/proc/sys/kernel/hostname").as_deref(), Ok("box\n"));
    assert_eq!(write("/proc/self/oom_score_adj", b"500"), Ok(3));
    assert_eq!(write("/proc/self/oom_score_adj", b"5000"), Err(Errno::EINVAL));
    assert_eq!(s.text("/proc/self/oom_score_adj").as_deref(), Ok("500\n"));
}

#[test]
fn memory_and_mounts_are_listed() {
    let s = setup();
    let maps = s.text("/proc/self/maps").expect("text");
    let around = |line: &&str| {
        let (start, rest) = line.split_once('-').expect("a range");
        let end = rest.split(' ').next().expect("its end");
        let number = |text| u64::from_str_radix(text, 16).expect("a number");
        (number(start)..number(end)).contains(&s.memory)
    };
    let line = maps.lines().find(around).expect("our memory");
    assert!(line.contains(" rw-p 00000000 00:00 0"), "{line}");
    let mounts = s.text("/proc/mounts").expect("text");
    assert!(mounts.contains("proc /proc proc rw") && mounts.contains("sysfs /sys sysfs rw"), "{mounts}");
    assert_eq!(s.text("/proc/self/mountinfo").expect("text").lines().count(), mounts.lines().count());
    assert_eq!(s.text("/sys/devices/system/cpu/online").as_deref(), Ok("0-1\n"));
    assert_eq!(s.names("/sys/devices/system/cpu").iter().filter(|name| name.starts_with("cpu")).count(), 2);
}
