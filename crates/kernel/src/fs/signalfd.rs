//! Signals as something to read, signalfd(2).

use super::{File, FileType, Io};
use crate::mm::UserBuf;
use crate::signal::SigSet;
use crate::sync::Mutex;
use crate::task::Task;
use crate::wait::{Events, Observer, Pollable, Registration};
use crate::{Errno, Result};
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use insula_abi::signal::{Siginfo, SignalfdInfo};
use insula_abi::zerocopy::IntoBytes;

/// Signals of whoever reads. What is told to those who wait are the signals of the process that made it.
pub struct Signalfd {
    mask: Mutex<SigSet>,
    maker: Weak<Task>,
}

impl Signalfd {
    /// One for these signals.
    pub fn new(task: &Arc<Task>, mask: SigSet) -> Arc<Self> {
        Arc::new(Signalfd { mask: Mutex::new(mask), maker: Arc::downgrade(task) })
    }

    /// For those from now on.
    pub fn set(&self, mask: SigSet) {
        *self.mask.lock() = mask;
        if let Some(task) = self.maker.upgrade() {
            task.process.notify_pending();
        }
    }
}

fn told(info: &Siginfo) -> SignalfdInfo {
    SignalfdInfo {
        signo: info.signo as u32,
        errno: info.errno,
        code: info.code,
        pid: info.pid() as u32,
        uid: info.uid(),
        tid: info.pid() as u32,
        overrun: info.uid(),
        status: info.status(),
        int: info.status(),
        ptr: info.value(),
        utime: info.fields[2],
        stime: info.fields[3],
        addr: info.address(),
        ..SignalfdInfo::default()
    }
}

impl Pollable for Signalfd {
    fn poll(&self) -> Events {
        let Some(task) = self.maker.upgrade() else { return Events::empty() };
        let mask = *self.mask.lock();
        let pending = task.process.lock().pending.set();
        let own = task.signals().pending.set();
        if pending.with(own).and(mask).is_empty() { Events::empty() } else { Events::READABLE }
    }

    fn observe(&self, interest: Events, observer: &Arc<dyn Observer>) -> Vec<Registration> {
        let Some(task) = self.maker.upgrade() else { return Vec::new() };
        alloc::vec![task.process.pending_changed.register(interest, observer.clone())]
    }
}

impl File for Signalfd {
    fn file_type(&self) -> FileType {
        FileType::Anonymous
    }

    fn read(&self, io: &Io<'_>, _: u64, buffer: &mut UserBuf) -> Result<usize> {
        let size = size_of::<SignalfdInfo>();
        if buffer.left() < size as u64 {
            return Err(Errno::EINVAL);
        }
        let mask = *self.mask.lock();
        let mut done = 0;
        while buffer.left() >= size as u64 {
            let taken = {
                let mut state = io.task.process.lock();
                let mut own = io.task.signals();
                own.pending.take(mask).or_else(|| state.pending.take(mask))
            };
            let Some(info) = taken else { break };
            if buffer.put(told(&info).as_bytes())? < size {
                return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
            }
            done += size;
        }
        if done == 0 { Err(Errno::EAGAIN) } else { Ok(done) }
    }

    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[signalfd]".to_vec()
    }

    fn fdinfo(&self) -> Vec<u8> {
        format!("sigmask:\t{:016x}\n", self.mask.lock().0).into_bytes()
    }
}
