//! A process's memory as a file: `/proc/PID/mem`.

use super::process::Subject;
use crate::fs::{AlwaysReady, File, FileType, Io};
use crate::mm::{Mm, UserBuf};
use crate::task::Task;
use crate::{Errno, Result};
use alloc::sync::{Arc, Weak};
use alloc::vec;

/// The most bytes that are carried at once.
const STEP: u64 = 64 << 10;

/// The memory that a process had when this was opened. It goes with the process, whoever has it open.
pub(super) struct Memory(Weak<Mm>);

/// Opens it for who may look into the process.
pub(super) fn open(subject: &Subject, reader: &Arc<Task>) -> Result<Arc<dyn File>> {
    Ok(Arc::new(Memory(Arc::downgrade(&subject.inside(reader)?.mm()))))
}

impl AlwaysReady for Memory {}

impl File for Memory {
    fn file_type(&self) -> FileType {
        FileType::Regular
    }

    fn read(&self, _: &Io<'_>, at: u64, buffer: &mut UserBuf) -> Result<usize> {
        let Some(mm) = self.0.upgrade() else { return Ok(0) };
        let mut done = 0;
        while buffer.left() > 0 {
            let mut bytes = vec![0; buffer.left().min(STEP) as usize];
            let (count, outcome) = mm.read_some(at.checked_add(done as u64).ok_or(Errno::EIO)?, &mut bytes);
            match buffer.put(&bytes[..count]) {
                Ok(put) => done += put,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
            if outcome.is_err() {
                break;
            }
        }
        if done == 0 && buffer.left() > 0 { Err(Errno::EIO) } else { Ok(done) }
    }

    fn write(&self, _: &Io<'_>, at: u64, buffer: &mut UserBuf) -> Result<usize> {
        let Some(mm) = self.0.upgrade() else { return Ok(0) };
        let mut done = 0;
        while buffer.left() > 0 {
            let mut bytes = vec![0; buffer.left().min(STEP) as usize];
            let taken = buffer.take(&mut bytes)?;
            let (count, outcome) = mm.force(at.checked_add(done as u64).ok_or(Errno::EIO)?, &bytes[..taken]);
            done += count;
            if outcome.is_err() || taken < bytes.len() {
                break;
            }
        }
        if done == 0 { Err(Errno::EIO) } else { Ok(done) }
    }
}
