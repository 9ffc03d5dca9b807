//! A directory for each process and task.

use super::map_files::MapFiles;
use super::{files, maps, memory, mounts, numeric, status};
use crate::fs::pseudo::{At, Body, Fixed, Listing, Node};
use crate::fs::{FileType, Inode};
use crate::mm::Mm;
use crate::task::{Credentials, PidNamespace, Process, Task, users};
use crate::{Errno, Kernel, Result};
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

/// Whom a directory is about.
#[derive(Clone)]
pub(super) struct Subject {
    kernel: Weak<Kernel>,
    process: Weak<Process>,
    tid: i32,
    /// Which names for processes it is told by.
    pub(super) space: PidNamespace,
}

impl Subject {
    pub(super) fn new(kernel: &Arc<Kernel>, process: &Arc<Process>, tid: i32, space: &PidNamespace) -> Self {
        Subject { kernel: Arc::downgrade(kernel), process: Arc::downgrade(process), tid, space: space.clone() }
    }

    pub(super) fn tid(&self) -> i32 {
        self.tid
    }

    pub(super) fn kernel(&self) -> Result<Arc<Kernel>> {
        self.kernel.upgrade().ok_or(Errno::ESRCH)
    }

    /// The process; also one that has ended and wasn't waited for.
    pub(super) fn process(&self) -> Result<Arc<Process>> {
        let process = self.process.upgrade().ok_or(Errno::ESRCH)?;
        let known = self.kernel()?.pids.process(process.pid).is_some();
        if known { Ok(process) } else { Err(Errno::ESRCH) }
    }

    /// The task; of a process whose first task has ended, another.
    pub(super) fn task(&self) -> Result<Arc<Task>> {
        let process = self.process()?;
        let is_it = |task: &Arc<Task>| Arc::ptr_eq(&task.process, &process) && !task.has_ended();
        let own = self.kernel()?.pids.task(self.tid).filter(is_it);
        let heir = || if self.tid == process.pid { process.leader() } else { None };
        own.or_else(heir).ok_or(Errno::ESRCH)
    }

    /// Whose its files are: its user's and group's; if nobody may look into it, the superuser's of where its program began.
    fn owner(&self) -> (u32, u32) {
        let Ok(task) = self.task() else { return (0, 0) };
        let credentials = task.credentials();
        if task.process.dumpable.load(Ordering::Relaxed) == 1 {
            return (credentials.uid.effective, credentials.gid.effective);
        }
        let space = task.process.memory_owner.lock().clone();
        (space.user(0).unwrap_or(0), space.group(0).unwrap_or(0))
    }

    /// Its memory, if `reader` may look into it; none of who has ended.
    ///
    /// # Errors
    /// `EACCES`, `ESRCH`.
    pub(super) fn memory(&self, reader: &Arc<Task>) -> Result<Option<Arc<Mm>>> {
        match self.inside(reader) {
            Err(Errno::ESRCH) if self.process()?.has_ended() => Ok(None),
            task => Ok(Some(task?.mm())),
        }
    }

    /// The task, if `reader` may look into it, ptrace(2).
    ///
    /// # Errors
    /// `EACCES`, `ESRCH`.
    pub(super) fn inside(&self, reader: &Arc<Task>) -> Result<Arc<Task>> {
        let task = self.task()?;
        if reader.may_access(&task) { Ok(task) } else { Err(Errno::EACCES) }
    }
}

/// The directory of a process, or of a task in `task`.
pub(super) fn directory(at: &At, name: &[u8], subject: Subject, whole: bool) -> Arc<dyn Inode> {
    let of = subject.clone();
    let place = At { owner: Some(Arc::new(move || of.owner())), ..at.child(name) };
    let listing = Contents { fixed: contents(&subject, whole), subject, whole };
    Node::make(place, 0o555, Body::Directory(Box::new(listing)))
}

/// What is in it.
struct Contents {
    fixed: Fixed,
    subject: Subject,
    /// It is about all of the process.
    whole: bool,
}

impl Listing for Contents {
    fn lookup(&self, at: &At, name: &[u8]) -> Result<Arc<dyn Inode>> {
        self.fixed.lookup(at, name)
    }

    fn names(&self) -> Vec<(Vec<u8>, FileType)> {
        self.fixed.names()
    }

    fn process(&self) -> Option<Result<Arc<Process>>> {
        self.whole.then(|| self.subject.process())
    }
}

/// Writes a text about a subject, for a reader.
type Tell = fn(&Subject, &Arc<Task>) -> Result<Vec<u8>>;

/// Texts, with their permission bits.
const TEXTS: &[(&str, u32, Tell)] = &[
    ("auxv", 0o400, |subject, reader| status::memory_text(subject, reader, |image| image.auxiliary)),
    ("cgroup", 0o444, |_, _| Ok(b"0::/\n".to_vec())),
    ("children", 0o444, children),
    ("cmdline", 0o444, status::command_line),
    ("environ", 0o400, |subject, reader| status::memory_text(subject, reader, |image| image.environment)),
    ("limits", 0o444, status::limits),
    ("loginuid", 0o444, |_, _| Ok(b"4294967295".to_vec())),
    ("maps", 0o444, maps::maps),
    ("mountinfo", 0o444, |subject, reader| mounts::info(&*subject.task()?, reader)),
    ("mounts", 0o444, |subject, reader| mounts::table(&*subject.task()?, reader)),
    ("mountstats", 0o400, |subject, reader| mounts::statistics(&*subject.task()?, reader)),
    ("oom_score", 0o444, |_, _| Ok(b"0\n".to_vec())),
    ("personality", 0o400, |subject, reader| {
        Ok(format!("{:08x}\n", subject.inside(reader)?.personality.load(Ordering::Relaxed)).into_bytes())
    }),
    ("schedstat", 0o444, |subject, _| {
        let task = subject.task()?;
        let (user, system) = task.times();
        Ok(format!("{} 0 0\n", user + system).into_bytes())
    }),
    ("sessionid", 0o444, |_, _| Ok(b"4294967295".to_vec())),
    ("smaps", 0o444, maps::smaps),
    ("smaps_rollup", 0o444, maps::rollup),
    ("stat", 0o444, status::stat),
    ("statm", 0o444, status::memory_pages),
    ("status", 0o444, status::status),
    ("syscall", 0o400, status::in_call),
    ("wchan", 0o444, |_, _| Ok(b"0".to_vec())),
];

/// The children that a task made, or took over: `/proc/PID/task/TID/children`.
/// Of a process, or of one task.
fn account(subject: &Subject, whole: bool, reader: &Arc<Task>) -> Result<Vec<u8>> {
    let task = subject.inside(reader)?;
    Ok(if whole { task.process.account_of_all().text() } else { task.account.text() })
}

fn children(subject: &Subject, _: &Arc<Task>) -> Result<Vec<u8>> {
    let (kernel, process) = (subject.kernel()?, subject.process()?);
    let tree = kernel.pids.lock();
    let Some(node) = tree.nodes.get(&process.pid) else { return Ok(Vec::new()) };
    let made = |pid: &&i32| tree.nodes.get(pid).is_some_and(|child| child.maker == subject.tid());
    Ok(node.children.iter().filter(made).flat_map(|pid| format!("{} ", subject.space.name_of(*pid)).into_bytes()).collect())
}

/// The maps of the user namespace that a task is in, and whether it may call setgroups(2) there.
fn maps_of_users(all: Fixed, subject: &Subject) -> Fixed {
    let map = |all: Fixed, name, kind| {
        let of = subject.clone();
        all.with(name, FileType::Regular, move |at, name| {
            let (read, write) = (of.clone(), of.clone());
            let make = move |reader: &Arc<Task>| {
                Ok(read.task()?.credentials().space.show_map(kind, &reader.credentials().space).into_bytes())
            };
            let store = move |writer: &Arc<Task>, opener: &Credentials, text: &[u8]| {
                write.task()?.credentials().space.set_map(kind, opener, &writer.credentials(), text)
            };
            Node::make(at.child(name), 0o644, Body::Text(Box::new(make), Some(Box::new(store))))
        })
    };
    let all = map(all, "uid_map", users::Kind::Users);
    let all = map(all, "gid_map", users::Kind::Groups);
    let all = map(all, "projid_map", users::Kind::Projects);
    let of = subject.clone();
    all.with("setgroups", FileType::Regular, move |at, name| {
        let (read, write) = (of.clone(), of.clone());
        let make = move |_: &Arc<Task>| Ok(read.task()?.credentials().space.show_setgroups().to_vec());
        let store =
            move |_: &Arc<Task>, opener: &Credentials, text: &[u8]| write.task()?.credentials().space.set_setgroups(opener, text);
        Node::make(at.child(name), 0o644, Body::Text(Box::new(make), Some(Box::new(store))))
    })
}

fn contents(subject: &Subject, whole: bool) -> Fixed {
    let mut all = Fixed::default();
    // Which children a task has is told in its own directory alone.
    for (name, mode, tell) in TEXTS.iter().filter(|(name, ..)| !whole || *name != "children") {
        let subject = subject.clone();
        all = all.with(name, FileType::Regular, move |at, name| {
            let subject = subject.clone();
            at.text(name, *mode, move |reader| tell(&subject, reader))
        });
    }
    let of = subject.clone();
    all = all.with("comm", FileType::Regular, move |at, name| status::name_file(at, name, &of));
    let of = subject.clone();
    all = all.with("oom_score_adj", FileType::Regular, move |at, name| status::adjustment_file(at, name, &of));
    let of = subject.clone();
    all = all.with("mem", FileType::Regular, move |at, name| {
        let of = of.clone();
        Node::make(at.child(name), 0o600, Body::File(Box::new(move |opening| memory::open(&of, opening.task))))
    });
    let of = subject.clone();
    all = all.with("io", FileType::Regular, move |at, name| {
        let of = of.clone();
        at.text(name, 0o400, move |reader| account(&of, whole, reader))
    });
    all = files::links(maps_of_users(all, subject), subject);
    let (fd, fdinfo, ns, net) = (subject.clone(), subject.clone(), subject.clone(), subject.clone());
    all = all
        .with("fd", FileType::Directory, move |at, name| at.directory(name, 0o500, files::Descriptors::links(&fd)))
        .with("fdinfo", FileType::Directory, move |at, name| at.directory(name, 0o555, files::Descriptors::details(&fdinfo)))
        .with("ns", FileType::Directory, move |at, name| at.directory(name, 0o511, files::namespaces(&ns)))
        .directory("net", move || super::system::network(&net));
    if whole {
        let of = subject.clone();
        all = all.with("map_files", FileType::Directory, move |at, name| at.directory(name, 0o500, MapFiles(of.clone())));
        let of = subject.clone();
        all = all.with("task", FileType::Directory, move |at, name| at.directory(name, 0o555, Tasks(of.clone())));
    }
    all
}

/// The tasks of a process.
struct Tasks(Subject);

impl Listing for Tasks {
    fn lookup(&self, at: &At, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let tid = self.0.space.number_of(numeric(name).ok_or(Errno::ENOENT)?);
        let process = self.0.process()?;
        let known = process.tasks().iter().any(|task| task.tid() == tid) || tid == process.pid;
        if !known {
            return Err(Errno::ENOENT);
        }
        Ok(directory(at, name, Subject::new(&self.0.kernel()?, &process, tid, &self.0.space), false))
    }

    fn names(&self) -> Vec<(Vec<u8>, FileType)> {
        let tasks = self.0.process().map(|process| process.tasks()).unwrap_or_default();
        tasks.iter().map(|task| (format!("{}", self.0.space.name_of(task.tid())).into_bytes(), FileType::Directory)).collect()
    }
}
