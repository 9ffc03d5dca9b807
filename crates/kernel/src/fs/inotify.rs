//! Files that tell what happens to others, inotify(7).

use super::notify::{Told, Watches};
use super::tree::Dentry;
use super::{File, FileType, Io};
use crate::flow::SysResult;
use crate::mm::UserBuf;
use crate::sync::Mutex;
use crate::wait::{Events, Observer, Pollable, Queue, Registration};
use crate::{Errno, Flow, Result};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, Ordering};
use insula_abi::general as c;
use insula_abi::ioctl;

/// Most events that wait to be read (Linux: `fs.inotify.max_queued_events`).
const MOST: usize = 16384;

/// Bytes of `struct inotify_event` before the name, which is padded to a multiple of it.
const HEADER: usize = 16;

/// A file that watches others.
pub struct Inotify {
    watches: Arc<Watches>,
    events: Mutex<VecDeque<Event>>,
    readers: Arc<Queue>,
    last: AtomicI32,
}

#[derive(PartialEq, Eq)]
struct Event {
    watch: i32,
    mask: u32,
    cookie: u32,
    name: Vec<u8>,
}

impl Event {
    /// Bytes of the name with its padding.
    fn name_len(&self) -> usize {
        if self.name.is_empty() { 0 } else { (self.name.len() + 1).next_multiple_of(HEADER) }
    }

    fn len(&self) -> usize {
        HEADER + self.name_len()
    }

    fn append_to(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.watch.to_ne_bytes());
        for number in [self.mask, self.cookie, self.name_len() as u32] {
            bytes.extend_from_slice(&number.to_ne_bytes());
        }
        let end = bytes.len() + self.name_len();
        bytes.extend_from_slice(&self.name);
        bytes.resize(end, 0);
    }
}

impl Inotify {
    /// One that watches nothing yet.
    ///
    /// # Errors
    /// `EMFILE`: there are too many.
    pub fn new(watches: &Arc<Watches>) -> Result<Arc<Self>> {
        watches.enter()?;
        let (events, readers, last) = (Mutex::default(), Queue::new(), AtomicI32::new(0));
        Ok(Arc::new(Inotify { watches: watches.clone(), events, readers, last }))
    }

    /// Watches a file, inotify_add_watch(2).
    ///
    /// # Errors
    /// As the manual page says.
    pub fn watch(self: &Arc<Self>, dentry: &Arc<Dentry>, mask: u32) -> Result<i32> {
        let told: Arc<dyn Told> = self.clone();
        self.watches.clone().add(&told, dentry, mask, || self.last.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Ends a watch, inotify_rm_watch(2).
    ///
    /// # Errors
    /// `EINVAL`: there is none of this number.
    pub fn unwatch(&self, number: i32) -> Result<()> {
        if !self.watches.remove(core::ptr::from_ref(self).cast(), number) {
            return Err(Errno::EINVAL);
        }
        self.tell(number, c::IN_IGNORED, 0, b"");
        Ok(())
    }
}

impl Told for Inotify {
    fn tell(&self, watch: i32, mask: u32, cookie: u32, name: &[u8]) {
        let mut events = self.events.lock();
        let event = match events.len() {
            // One more says that more happened.
            MOST => Event { watch: -1, mask: c::IN_Q_OVERFLOW, cookie: 0, name: Vec::new() },
            len if len > MOST => return,
            _ => Event { watch, mask, cookie, name: name.to_vec() },
        };
        if events.back() == Some(&event) {
            return;
        }
        events.push_back(event);
        drop(events);
        self.readers.wake(Events::READABLE);
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        self.watches.leave(core::ptr::from_ref(self).cast());
    }
}

impl Pollable for Inotify {
    fn poll(&self) -> Events {
        if self.events.lock().is_empty() { Events::empty() } else { Events::READABLE }
    }

    fn observe(&self, interest: Events, observer: &Arc<dyn Observer>) -> Vec<Registration> {
        alloc::vec![self.readers.register(interest, observer.clone())]
    }
}

impl File for Inotify {
    fn file_type(&self) -> FileType {
        FileType::Anonymous
    }

    fn read(&self, _: &Io<'_>, _: u64, buffer: &mut UserBuf) -> Result<usize> {
        let room = usize::try_from(buffer.left()).unwrap_or(usize::MAX);
        let mut bytes = Vec::new();
        let mut events = self.events.lock();
        while let Some(event) = events.front()
            && bytes.len() + event.len() <= room
            && bytes.len() < insula_abi::PAGE as usize * 16
        {
            event.append_to(&mut bytes);
            events.pop_front();
        }
        if bytes.is_empty() {
            return Err(if events.is_empty() { Errno::EAGAIN } else { Errno::EINVAL });
        }
        drop(events);
        buffer.put(&bytes)
    }

    fn ioctl(&self, io: &Io<'_>, request: u32, argument: u64) -> SysResult {
        if request != ioctl::FIONREAD {
            return Err(Errno::ENOTTY);
        }
        let bytes: usize = self.events.lock().iter().map(Event::len).sum();
        io.task.mm().put(argument, &(bytes as i32))?;
        Ok(Flow::Done(0))
    }

    fn fdinfo(&self) -> Vec<u8> {
        self.watches.describe(core::ptr::from_ref(self).cast())
    }

    fn describe(&self) -> Vec<u8> {
        b"anon_inode:inotify".to_vec()
    }
}
