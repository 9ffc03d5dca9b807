//! Descriptors of processes, pidfd_open(2).

use super::Process;
use crate::fs::{File, FileType};
use crate::wait::{Events, Observer, Pollable, Registration};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

/// A descriptor's process, which stays known by it even after its number is another's.
pub struct Pidfd {
    /// The process.
    pub process: Arc<Process>,
}

impl Pidfd {
    /// Of a process.
    pub fn new(process: Arc<Process>) -> Arc<Self> {
        Arc::new(Pidfd { process })
    }
}

impl Pollable for Pidfd {
    fn poll(&self) -> Events {
        self.process.poll()
    }

    fn observe(&self, interest: Events, observer: &Arc<dyn Observer>) -> Vec<Registration> {
        self.process.observe(interest, observer)
    }
}

impl File for Pidfd {
    fn file_type(&self) -> FileType {
        FileType::Anonymous
    }

    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[pidfd]".to_vec()
    }

    fn fdinfo(&self) -> Vec<u8> {
        let pid = if self.process.forgotten.load(Ordering::Relaxed) { -1 } else { self.process.pid };
        alloc::format!("Pid:\t{pid}\nNSpid:\t{pid}\n").into_bytes()
    }
}
