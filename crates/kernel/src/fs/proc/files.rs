//! A task's open files, and links to where it stands.

use super::numeric;
use super::process::Subject;
use crate::fs::pseudo::{At, Body, Fixed, Listing, Node};
use crate::fs::tree::{Dentry, Path};
use crate::fs::{Attributes, Description, File, FileType, Inode, Opening};
use crate::task::pidfd::Pidfd;
use crate::task::{PidNamespace, Task, spaces};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use insula_abi::file::Statfs;
use insula_abi::general as c;

/// A place, as it is written for a reader.
fn text(path: &Path, reader: &Arc<Task>) -> Vec<u8> {
    let root = reader.fs().lock().root.clone();
    path.text(&root)
}

/// A link to a place that follows it whatever its name is.
fn link(
    at: &At,
    name: &[u8],
    mode: u32,
    place: impl Fn(&Arc<Task>) -> Result<Path> + Clone + Send + Sync + 'static,
) -> Arc<dyn Inode> {
    let follow = place.clone();
    let make = move |reader: &Arc<Task>| place(reader).map(|path| text(&path, reader));
    Node::make(at.child(name), mode, Body::Link(Box::new(make), Some(Box::new(follow))))
}

/// `cwd`, `root` and `exe`.
pub(super) fn links(all: Fixed, subject: &Subject) -> Fixed {
    let (cwd, root, exe) = (subject.clone(), subject.clone(), subject.clone());
    all.with("cwd", FileType::Symlink, move |at, name| {
        let of = cwd.clone();
        link(at, name, 0o777, move |reader| Ok(of.inside(reader)?.fs().lock().cwd.clone()))
    })
    .with("root", FileType::Symlink, move |at, name| {
        let of = root.clone();
        link(at, name, 0o777, move |reader| Ok(of.inside(reader)?.fs().lock().root.clone()))
    })
    .with("exe", FileType::Symlink, move |at, name| {
        let of = exe.clone();
        link(at, name, 0o777, move |reader| {
            let program = of.inside(reader)?.process.program.lock().clone();
            program.and_then(|program| program.path.clone()).ok_or(Errno::ENOENT)
        })
    })
}

/// `ns`: the namespaces that a task is in, to be held and entered.
pub(super) fn namespaces(subject: &Subject) -> Fixed {
    spaces::NAMES.iter().fold(Fixed::default(), |all, name| {
        let subject = subject.clone();
        all.with(name, FileType::Symlink, move |at, file| {
            let (of, subject) = (subject.clone(), subject.clone());
            let make = move |reader: &Arc<Task>| Ok(spaces::text(&*of.inside(reader)?, name));
            let follow = move |reader: &Arc<Task>| {
                let open = spaces::open(&*subject.inside(reader)?, name).ok_or(Errno::ENOENT)?;
                Ok(reopenable(&open, reader))
            };
            Node::make(at.child(file), 0o777, Body::Link(Box::new(make), Some(Box::new(follow))))
        })
    })
}

/// `fd` or `fdinfo`.
pub(super) struct Descriptors {
    subject: Subject,
    links: bool,
}

impl Descriptors {
    pub(super) fn links(subject: &Subject) -> Self {
        Descriptors { subject: subject.clone(), links: true }
    }

    pub(super) fn details(subject: &Subject) -> Self {
        Descriptors { subject: subject.clone(), links: false }
    }
}

fn description(subject: &Subject, fd: i32) -> Result<Arc<Description>> {
    subject.task()?.file(fd).map_err(|_| Errno::ENOENT)
}

impl Listing for Descriptors {
    fn lookup(&self, at: &At, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let fd = if name == b"0" { 0 } else { numeric(name).ok_or(Errno::ENOENT)? };
        let open = description(&self.subject, fd)?;
        let subject = self.subject.clone();
        if !self.links {
            return Ok(at.text(name, 0o444, move |reader| {
                let task = subject.inside(reader)?;
                let open = description(&subject, fd)?;
                let mut text = details(&open, &subject.space)?;
                text.extend(super::locks::of(reader, &open, task.descriptors().as_owner()).bytes());
                Ok(text)
            }));
        }
        let rights = if open.readable() { 0o500 } else { 0 } | if open.writable() { 0o300 } else { 0 };
        let of = self.subject.clone();
        let make = move |reader: &Arc<Task>| {
            of.inside(reader)?;
            let open = description(&of, fd)?;
            Ok(text_of(&open, reader))
        };
        let follow = move |reader: &Arc<Task>| {
            subject.inside(reader)?;
            Ok(reopenable(&description(&subject, fd)?, reader))
        };
        Ok(Node::make(at.child(name), rights, Body::Link(Box::new(make), Some(Box::new(follow)))))
    }

    fn names(&self) -> Vec<(Vec<u8>, FileType)> {
        let all = self.subject.task().map(|task| task.descriptors().all()).unwrap_or_default();
        let kind = if self.links { FileType::Symlink } else { FileType::Regular };
        all.iter().map(|(fd, _)| (format!("{fd}").into_bytes(), kind)).collect()
    }
}

/// `/proc/PID/fdinfo/N`.
fn details(open: &Arc<Description>, space: &PidNamespace) -> Result<Vec<u8>> {
    let position = if open.file.is_seekable() { *open.position() } else { 0 };
    let ino = match &open.path {
        Some(path) => path.inode().attributes(),
        None => open.file.attributes(),
    };
    let mount = open.path.as_ref().map_or(15, |path| path.mount.id);
    let ino = ino.map_or(0, |attributes| attributes.ino);
    let mut text = format!("pos:\t{position}\nflags:\t0{:o}\nmnt_id:\t{mount}\nino:\t{ino}\n", open.flags()).into_bytes();
    text.extend(match open.as_file::<Pidfd>() {
        Some(pidfd) => pidfd.info(space),
        None => open.file.fdinfo(),
    });
    Ok(text)
}

/// What an open file is, as it is written for a reader.
pub(super) fn text_of(open: &Description, reader: &Arc<Task>) -> Vec<u8> {
    match &open.path {
        Some(path) => text(path, reader),
        None => open.file.describe(),
    }
}

/// A place at which an open file can be opened again: its own, or, if it never had one, one that only this link leads to.
pub(super) fn reopenable(open: &Arc<Description>, reader: &Arc<Task>) -> Path {
    if let Some(path) = &open.path {
        return path.clone();
    }
    let inode: Arc<dyn Inode> = Arc::new(Unnamed(open.clone()));
    if open.as_file::<spaces::NamespaceFile>().is_some() {
        return reader.kernel().file_systems.of_namespace(inode, &open.file.describe());
    }
    let near = reader.fs().lock().root.clone();
    let dentry = Dentry::unnamed(&near.dentry, inode, open.file.describe(), false);
    Path { mount: near.mount, dentry }
}

/// A file that has no name.
struct Unnamed(Arc<Description>);

/// The open file that a place in no tree stands for.
pub(crate) fn without_name(inode: &dyn Inode) -> Option<&Description> {
    let inode: &dyn Any = inode;
    inode.downcast_ref::<Unnamed>().map(|unnamed| &*unnamed.0)
}

impl Inode for Unnamed {
    fn attributes(&self) -> Result<Attributes> {
        self.0.file.attributes()
    }

    fn file_type(&self) -> FileType {
        self.0.file.file_type()
    }

    fn reopen(&self, opening: &Opening<'_>) -> Option<Result<Arc<dyn File>>> {
        if self.file_type() == FileType::Socket {
            return Some(Err(Errno::ENXIO));
        }
        Some(match crate::fs::pipe::of(&self.0) {
            // Both sides are there, so nobody waits for the other.
            Some(pipe) => pipe.open(opening.flags | c::O_NONBLOCK).map(|end| end as Arc<dyn File>),
            None => Ok(self.0.file.clone()),
        })
    }

    fn open(self: Arc<Self>, opening: &Opening<'_>) -> Result<Arc<dyn File>> {
        self.reopen(opening).unwrap_or(Err(Errno::ENXIO))
    }

    fn statfs(&self) -> Result<Statfs> {
        Ok(crate::syscall::stat::internal_statfs(self.file_type()))
    }
}
