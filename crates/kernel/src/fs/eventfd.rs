//! A counter to wait at, eventfd(2).

use super::{File, FileType, Io};
use crate::mm::UserBuf;
use crate::sync::Mutex;
use crate::wait::{Events, Observer, Pollable, Queue, Registration};
use crate::{Errno, Result};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The highest count.
const HIGHEST: u64 = u64::MAX - 1;

/// A counter.
pub struct Eventfd {
    count: Mutex<u64>,
    /// Each read takes one, instead of all.
    semaphore: bool,
    queue: Arc<Queue>,
}

impl Eventfd {
    /// A new one.
    pub fn new(count: u32, semaphore: bool) -> Arc<Self> {
        Arc::new(Eventfd { count: Mutex::new(u64::from(count)), semaphore, queue: Queue::new() })
    }

    /// Something of the kernel's happened so often.
    pub fn add(&self, more: u64) {
        {
            let mut count = self.count.lock();
            *count = count.saturating_add(more).min(HIGHEST);
        }
        self.queue.wake(Events::READABLE);
    }
}

impl Pollable for Eventfd {
    fn poll(&self) -> Events {
        let count = *self.count.lock();
        let mut events = Events::empty();
        if count > 0 {
            events |= Events::IN;
        }
        if count < HIGHEST {
            events |= Events::OUT;
        }
        events
    }

    fn observe(&self, interest: Events, observer: &Arc<dyn Observer>) -> Vec<Registration> {
        alloc::vec![self.queue.register(interest, observer.clone())]
    }
}

impl File for Eventfd {
    fn file_type(&self) -> FileType {
        FileType::Anonymous
    }

    fn read(&self, _: &Io<'_>, _: u64, buffer: &mut UserBuf) -> Result<usize> {
        if buffer.left() < 8 {
            return Err(Errno::EINVAL);
        }
        let mut count = self.count.lock();
        let taken = match *count {
            0 => return Err(Errno::EAGAIN),
            _ if self.semaphore => 1,
            all => all,
        };
        *count -= taken;
        drop(count);
        self.queue.wake(Events::WRITABLE);
        if buffer.put(&taken.to_ne_bytes())? < 8 { Err(Errno::EFAULT) } else { Ok(8) }
    }

    fn write(&self, _: &Io<'_>, _: u64, buffer: &mut UserBuf) -> Result<usize> {
        if buffer.left() < 8 {
            return Err(Errno::EINVAL);
        }
        // A write that must wait is tried again, so nothing is taken from the buffer before it succeeds.
        let mut count = self.count.lock();
        let mut bytes = [0; 8];
        if buffer.peek(&mut bytes)? < 8 {
            return Err(Errno::EFAULT);
        }
        let added = u64::from_ne_bytes(bytes);
        if added == u64::MAX {
            return Err(Errno::EINVAL);
        }
        if added > HIGHEST - *count {
            return Err(Errno::EAGAIN);
        }
        *count += added;
        drop(count);
        buffer.skip_all();
        self.queue.wake(Events::READABLE);
        Ok(8)
    }

    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[eventfd]".to_vec()
    }

    fn fdinfo(&self) -> Vec<u8> {
        format!("eventfd-count: {:16x}\neventfd-semaphore: {}\n", *self.count.lock(), u8::from(self.semaphore)).into_bytes()
    }
}
