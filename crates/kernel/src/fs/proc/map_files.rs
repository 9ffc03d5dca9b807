//! `/proc/PID/map_files`: the files that a process has mapped, by where.

use super::files::{reopenable, text_of};
use super::process::Subject;
use crate::fs::pseudo::{At, Body, Listing, Node};
use crate::fs::{Description, FileType, Inode};
use crate::task::Task;
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use insula_abi::general as c;

/// The directory.
pub(super) struct MapFiles(pub(super) Subject);

fn name_of(range: &Range<u64>) -> String {
    format!("{:x}-{:x}", range.start, range.end)
}

/// The file that is mapped at a place of this name.
fn mapped(subject: &Subject, reader: &Arc<Task>, name: &str) -> Result<Arc<Description>> {
    let areas = subject.memory(reader)?.ok_or(Errno::ENOENT)?.areas();
    let found = areas.into_iter().find(|(range, area)| area.file.is_some() && name_of(range) == name);
    found.and_then(|(_, area)| area.file).ok_or(Errno::ENOENT)
}

impl Listing for MapFiles {
    fn lookup(&self, at: &At, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let name: Arc<str> = core::str::from_utf8(name).map_err(|_| Errno::ENOENT)?.into();
        let known = self.0.task()?.mm().areas().iter().any(|(range, area)| area.file.is_some() && name_of(range) == *name);
        if !known {
            return Err(Errno::ENOENT);
        }
        let (of, wanted) = (self.0.clone(), name.clone());
        let make = move |reader: &Arc<Task>| mapped(&of, reader, &wanted).map(|open| text_of(&open, reader));
        let (of, wanted) = (self.0.clone(), name.clone());
        let follow = move |reader: &Arc<Task>| {
            let credentials = reader.credentials();
            if !credentials.has(c::CAP_CHECKPOINT_RESTORE) && !credentials.has(c::CAP_SYS_ADMIN) {
                return Err(Errno::EPERM);
            }
            mapped(&of, reader, &wanted).map(|open| reopenable(&open, reader))
        };
        Ok(Node::make(at.child(name.as_bytes()), 0o700, Body::Link(Box::new(make), Some(Box::new(follow)))))
    }

    fn names(&self) -> Vec<(Vec<u8>, FileType)> {
        let areas = self.0.task().map(|task| task.mm().areas()).unwrap_or_default();
        let files = areas.iter().filter(|(_, area)| area.file.is_some());
        files.map(|(range, _)| (name_of(range).into_bytes(), FileType::Symlink)).collect()
    }
}
