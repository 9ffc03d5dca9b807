//! What happens to files and names, for those who watch: the one hook behind inotify(7) and `F_NOTIFY`.
//!
//! Whoever changes something says so here, afterwards. As long as nobody watches anything, that costs one look at a number.

use super::tree::Dentry;
use super::{Changes, Description, FileType, Inode, Path};
use crate::sync::Mutex;
use crate::task::Task;
use crate::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use insula_abi::general as c;

/// A name was made.
pub const CREATE: u32 = c::IN_CREATE;

/// The most watches of a kernel (Linux: `fs.inotify.max_user_watches`).
const MOST: usize = 65536;

/// The most files that watch (Linux: `fs.inotify.max_user_instances`).
const MOST_INSTANCES: usize = 128;

/// Who watches what, by the numbers of files.
#[derive(Default)]
pub struct Watches {
    count: AtomicUsize,
    instances: AtomicUsize,
    by_file: Mutex<BTreeMap<(u64, u64), Vec<Watch>>>,
    /// The last number that joins the two events of a move.
    cookie: AtomicU32,
}

/// Who watches. It must not take locks that a caller of the functions here may hold.
pub(super) trait Told: Send + Sync {
    /// Something happened to what is watched by this number, `IN_*`.
    fn tell(&self, watch: i32, event: u32, cookie: u32, name: &[u8]);
}

/// One watch.
struct Watch {
    number: i32,
    mask: u32,
    watcher: Weak<dyn Told>,
    /// The file stays in memory as long as it is watched.
    _watched: Arc<Dentry>,
}

impl Watch {
    fn is_by(&self, watcher: *const ()) -> bool {
        core::ptr::eq(self.watcher.as_ptr().cast::<()>(), watcher)
    }
}

impl Watches {
    /// One file more that watches.
    ///
    /// # Errors
    /// `EMFILE`: there are too many.
    pub(super) fn enter(&self) -> Result<()> {
        let fits = |count: usize| (count < MOST_INSTANCES).then_some(count + 1);
        let entered = self.instances.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        entered.map(|_| ()).map_err(|_| Errno::EMFILE)
    }

    /// Watches a file, or changes what is watched for; `number` gives a number to a new watch. Answers the watch's.
    ///
    /// # Errors
    /// `EEXIST`: it is watched already, and must not be (`IN_MASK_CREATE`). `ENOSPC`: there are too many watches.
    pub(super) fn add(
        &self,
        watcher: &Arc<dyn Told>,
        dentry: &Arc<Dentry>,
        mask: u32,
        number: impl FnOnce() -> i32,
    ) -> Result<i32> {
        let key = dentry.inode().identity()?;
        let mut files = self.by_file.lock();
        let watches = files.entry(key).or_default();
        if let Some(watch) = watches.iter_mut().find(|watch| watch.is_by(Arc::as_ptr(watcher).cast())) {
            if mask & c::IN_MASK_CREATE != 0 {
                return Err(Errno::EEXIST);
            }
            watch.mask = if mask & c::IN_MASK_ADD != 0 { watch.mask | mask } else { mask };
            return Ok(watch.number);
        }
        if self.count.load(Ordering::Relaxed) >= MOST {
            return Err(Errno::ENOSPC);
        }
        let number = number();
        watches.push(Watch { number, mask, watcher: Arc::downgrade(watcher), _watched: dentry.clone() });
        self.count.fetch_add(1, Ordering::SeqCst);
        Ok(number)
    }

    /// Ends a watch; answers whether there was one.
    pub(super) fn remove(&self, watcher: *const (), number: i32) -> bool {
        self.take(|watch| watch.is_by(watcher) && watch.number == number) > 0
    }

    /// A file that watched is gone.
    pub(super) fn leave(&self, watcher: *const ()) {
        self.instances.fetch_sub(1, Ordering::Relaxed);
        self.forget(watcher);
    }

    /// Ends all watches of one who is gone.
    pub(super) fn forget(&self, watcher: *const ()) {
        self.take(|watch| watch.is_by(watcher));
    }

    /// The watches of a file that watches, as `/proc/PID/fdinfo/N` lists them.
    pub(super) fn describe(&self, watcher: *const ()) -> Vec<u8> {
        let mut text = Vec::new();
        for ((dev, ino), watches) in self.by_file.lock().iter() {
            for watch in watches.iter().filter(|watch| watch.is_by(watcher)) {
                let mask = watch.mask & c::IN_ALL_EVENTS;
                let line = format!("inotify wd:{:x} ino:{ino:x} sdev:{dev:x} mask:{mask:x} ignored_mask:0\n", watch.number);
                text.extend(line.bytes());
            }
        }
        text
    }

    fn take(&self, which: impl Fn(&Watch) -> bool) -> usize {
        let mut taken = Vec::new();
        self.by_file.lock().retain(|_, watches| {
            taken.extend(watches.extract_if(.., |watch| which(watch)));
            !watches.is_empty()
        });
        self.count.fetch_sub(taken.len(), Ordering::SeqCst);
        taken.len()
    }

    fn anybody(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    /// Tells who watches this file.
    fn tell(&self, inode: &Arc<dyn Inode>, event: u32, cookie: u32, name: &[u8]) {
        let Ok(key) = inode.identity() else { return };
        let mut gone = Vec::new();
        let told: Vec<_> = {
            let mut files = self.by_file.lock();
            let Some(watches) = files.get_mut(&key) else { return };
            let interested = watches.iter().filter(|watch| watch.mask & event & c::IN_ALL_EVENTS != 0);
            let told = interested.filter_map(|watch| Some((watch.watcher.upgrade()?, watch.number))).collect();
            // What tells only once, or what is gone, is watched no more.
            let ends = |watch: &mut Watch| {
                event & c::IN_DELETE_SELF != 0 || watch.mask & c::IN_ONESHOT != 0 && watch.mask & event & c::IN_ALL_EVENTS != 0
            };
            gone.extend(watches.extract_if(.., ends));
            if watches.is_empty() {
                files.remove(&key);
            }
            self.count.fetch_sub(gone.len(), Ordering::SeqCst);
            told
        };
        for (watcher, number) in told {
            watcher.tell(number, event, cookie, name);
        }
        for watch in gone {
            if let Some(watcher) = watch.watcher.upgrade() {
                watcher.tell(watch.number, c::IN_IGNORED, 0, b"");
            }
        }
    }
}

/// What is added to an event about a directory.
fn directory(dentry: &Arc<Dentry>) -> u32 {
    if dentry.inode().file_type() == FileType::Directory { c::IN_ISDIR } else { 0 }
}

/// Something happened to a file: told of itself, and of its name in its directory.
fn happened(dentry: &Arc<Dentry>, event: u32) {
    let watches = dentry.fs().watches();
    if !watches.anybody() {
        return;
    }
    let event = event | directory(dentry);
    if let Some((parent, name)) = dentry.place()
        && !dentry.is_gone()
    {
        watches.tell(parent.inode(), event, 0, &name);
    }
    watches.tell(dentry.inode(), event, 0, b"");
}

/// A name was made.
pub fn named(_: &Arc<Task>, parent: &Arc<Dentry>, name: &[u8], dentry: &Arc<Dentry>, event: u32) {
    let watches = parent.fs().watches();
    if watches.anybody() {
        watches.tell(parent.inode(), event | directory(dentry), 0, name);
    }
}

/// Attributes of a file have changed.
pub fn attributes(_: &Arc<Task>, place: &Path) {
    happened(&place.dentry, c::IN_ATTRIB);
}

/// Attributes of a file have changed as somebody wanted. Of one time alone it is told as what it says of the file.
pub fn changed(_: &Arc<Task>, place: &Path, changes: &Changes) {
    let event = match (changes.atime.is_some(), changes.mtime.is_some()) {
        (true, false) => c::IN_ACCESS,
        (false, true) => c::IN_MODIFY,
        _ => c::IN_ATTRIB,
    };
    happened(&place.dentry, event);
}

/// A file was written, or cut.
pub fn modified(_: &Arc<Task>, place: &Path) {
    happened(&place.dentry, c::IN_MODIFY);
}

/// Something happened to an open file.
fn happened_to(description: &Description, event: u32) {
    if let Some(place) = &description.path {
        happened(&place.dentry, event);
    }
}

/// A file was opened.
pub fn opened(_: &Arc<Task>, description: &Arc<Description>) {
    happened_to(description, c::IN_OPEN);
}

/// An open file was read.
pub fn accessed(_: &Arc<Task>, description: &Arc<Description>) {
    happened_to(description, c::IN_ACCESS);
}

/// An open file was written.
pub fn written(_: &Arc<Task>, description: &Arc<Description>) {
    happened_to(description, c::IN_MODIFY);
}

/// The last descriptor of an open file was closed.
pub fn closed(description: &Description) {
    if description.flags() & c::O_PATH == 0 {
        happened_to(description, if description.writable() { c::IN_CLOSE_WRITE } else { c::IN_CLOSE_NOWRITE });
    }
}

/// The last open file of a name was closed: one that is gone is gone altogether.
pub fn closed_last(dentry: &Arc<Dentry>) {
    let watches = dentry.fs().watches();
    if watches.anybody() && dentry.is_gone() && directory(dentry) == 0 && has_no_name(dentry) {
        watches.tell(dentry.inode(), c::IN_DELETE_SELF, 0, b"");
    }
}

/// Whether its file has no name left.
fn has_no_name(dentry: &Arc<Dentry>) -> bool {
    dentry.inode().attributes().is_ok_and(|attributes| attributes.nlink == 0)
}

/// A name was removed.
pub fn removed(task: &Arc<Task>, parent: &Arc<Dentry>, name: &[u8], dentry: &Arc<Dentry>) {
    let watches = parent.fs().watches();
    if watches.anybody() {
        replaced(task, dentry);
        watches.tell(parent.inode(), c::IN_DELETE | directory(dentry), 0, name);
    }
}

/// A file has lost a name: to another that was moved there, or altogether.
pub fn replaced(_: &Arc<Task>, dentry: &Arc<Dentry>) {
    let watches = dentry.fs().watches();
    if !watches.anybody() {
        return;
    }
    let kind = directory(dentry);
    if kind == 0 {
        watches.tell(dentry.inode(), c::IN_ATTRIB, 0, b"");
    }
    // What is open goes with its last open file.
    if kind != 0 || has_no_name(dentry) && !dentry.is_open() {
        watches.tell(dentry.inode(), c::IN_DELETE_SELF, 0, b"");
    }
}

/// A name was moved.
pub fn moved(_: &Arc<Task>, old: (&Arc<Dentry>, &[u8]), new: (&Arc<Dentry>, &[u8]), dentry: &Arc<Dentry>) {
    let watches = dentry.fs().watches();
    if !watches.anybody() {
        return;
    }
    let cookie = watches.cookie.fetch_add(1, Ordering::Relaxed) + 1;
    watches.tell(old.0.inode(), c::IN_MOVED_FROM | directory(dentry), cookie, old.1);
    watches.tell(new.0.inode(), c::IN_MOVED_TO | directory(dentry), cookie, new.1);
    watches.tell(dentry.inode(), c::IN_MOVE_SELF, 0, b"");
}
