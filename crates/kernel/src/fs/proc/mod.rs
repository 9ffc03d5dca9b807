//! What the kernel knows, as files: proc(5).
//!
//! | module | holds |
//! |---|---|
//! | [`process`] | a directory for each process and task |
//! | `status` | what is told of a task in numbers and words |
//! | `maps`, `memory` | its memory |
//! | `files` | its open files, and links to where it stands |
//! | `locks` | locks on files |
//! | `mounts` | mounts, as it sees them |
//! | `system` | the machine |
//! | `sysvipc` | System V IPC |
//! | `sysctl` | `/proc/sys` |

pub(crate) mod files;
mod locks;
mod map_files;
mod maps;
mod memory;
mod mounts;
mod process;
pub mod status;
mod sysctl;
mod system;
mod sysvipc;
#[cfg(test)]
mod tests;

use super::pseudo::{At, Body, Fixed, Listing, Node, Pseudo};
use super::{FileType, Inode};
use crate::task::PidNamespace;
use crate::{Errno, Kernel, Result};
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use insula_abi::time::Timespec;
use process::Subject;
pub(crate) use system::processor_list;

/// `PROC_SUPER_MAGIC`.
const MAGIC: i64 = 0x9fa0;

/// Makes known what this module has.
pub fn register(kernel: &Kernel) {
    kernel.file_systems.register("proc", |making| {
        Ok(root(making.kernel, &making.task.map(|task| task.process.space.clone()).unwrap_or_default()))
    });
}

/// The topmost directory of a new one, which shows a PID namespace.
pub fn root(kernel: &Arc<Kernel>, space: &PidNamespace) -> Arc<dyn Inode> {
    let made = Timespec::from_nanos(kernel.host.clock.realtime());
    let fs = Arc::new(Pseudo { dev: kernel.file_systems.device(), magic: MAGIC, made });
    let at = At { fs, ino: 1, owner: None };
    let (of_self, of_thread) = (space.clone(), space.clone());
    let fixed = system::files(Fixed::default())
        .directory("sys", sysctl::root)
        .directory("sysvipc", sysvipc::root)
        .with("self", FileType::Symlink, move |at, name| {
            let space = of_self.clone();
            at.link(name, move |task| Ok(format!("{}", seen(&space, task.process.pid)?).into_bytes()))
        })
        .with("thread-self", FileType::Symlink, move |at, name| {
            let space = of_thread.clone();
            at.link(name, move |task| {
                Ok(format!("{}/task/{}", seen(&space, task.process.pid)?, seen(&space, task.tid())?).into_bytes())
            })
        })
        .with("mounts", FileType::Symlink, |at, name| at.link(name, |_| Ok(b"self/mounts".to_vec())))
        .with("net", FileType::Symlink, |at, name| at.link(name, |_| Ok(b"self/net".to_vec())));
    Node::make(at, 0o555, Body::Directory(Box::new(Root { kernel: Arc::downgrade(kernel), space: space.clone(), fixed })))
}

struct Root {
    kernel: Weak<Kernel>,
    space: PidNamespace,
    fixed: Fixed,
}

/// What somebody is called in a namespace.
fn seen(space: &PidNamespace, number: i32) -> Result<i32> {
    Some(space.name_of(number)).filter(|name| *name > 0).ok_or(Errno::ENOENT)
}

/// A name that is a number, written the one way numbers are.
fn numeric(name: &[u8]) -> Option<i32> {
    let number = core::str::from_utf8(name).ok()?.parse::<i32>().ok()?;
    (number > 0 && format!("{number}").as_bytes() == name).then_some(number)
}

impl Listing for Root {
    fn lookup(&self, at: &At, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let Some(number) = numeric(name) else { return self.fixed.lookup(at, name) };
        let kernel = self.kernel.upgrade().ok_or(Errno::ENOENT)?;
        let number = self.space.number_of(number);
        // Threads other than the first have a directory, too, though it isn't listed.
        let process = kernel.pids.process(number).or_else(|| kernel.pids.task(number).map(|task| task.process.clone()));
        let subject = Subject::new(&kernel, &process.ok_or(Errno::ENOENT)?, number, &self.space);
        Ok(process::directory(at, name, subject, true))
    }

    fn names(&self) -> Vec<(Vec<u8>, FileType)> {
        let mut names = self.fixed.names();
        let processes = self.kernel.upgrade().map(|kernel| kernel.pids.processes()).unwrap_or_default();
        let mut seen: Vec<i32> = processes.iter().map(|process| self.space.name_of(process.pid)).filter(|pid| *pid > 0).collect();
        seen.sort_unstable();
        names.extend(seen.iter().map(|pid| (format!("{pid}").into_bytes(), FileType::Directory)));
        names
    }
}
