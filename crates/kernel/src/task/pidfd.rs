//! Descriptors of processes, pidfd_open(2).

use super::{PidNamespace, Process};
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

    /// What `/proc/PID/fdinfo` tells of it beside what it tells of all, by the names of a namespace.
    pub fn info(&self, space: &PidNamespace) -> Vec<u8> {
        let forgotten = self.process.forgotten.load(Ordering::Relaxed);
        let pid = if forgotten { -1 } else { space.name_of(self.process.pid) };
        let all = if pid > 0 { space.all_names(&self.process, self.process.pid) } else { alloc::format!("\t{pid}") };
        alloc::format!("Pid:\t{pid}\nNSpid:{all}\n").into_bytes()
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
}
