//! What happens to files and names, for those who watch: the one hook behind inotify(7).

use super::tree::Dentry;
use super::{Description, Path};
use crate::task::Task;
use alloc::sync::Arc;

/// `IN_CREATE`.
pub const CREATE: u32 = 0x100;

/// A name was made (or moved here).
pub fn named(task: &Arc<Task>, directory: &Arc<Dentry>, name: &[u8], dentry: &Arc<Dentry>, event: u32) {
    let _ = (task, directory, name, dentry, event);
}

/// Attributes of a file have changed.
pub fn attributes(task: &Arc<Task>, place: &Path) {
    let _ = (task, place);
}

/// A file was written, or cut.
pub fn modified(task: &Arc<Task>, place: &Path) {
    let _ = (task, place);
}

/// A file was opened.
pub fn opened(task: &Arc<Task>, description: &Arc<Description>) {
    let _ = (task, description);
}

/// A name was removed.
pub fn removed(task: &Arc<Task>, directory: &Arc<Dentry>, name: &[u8], dentry: &Arc<Dentry>) {
    let _ = (task, directory, name, dentry);
}

/// A file has lost its name to another that was moved there.
pub fn replaced(task: &Arc<Task>, dentry: &Arc<Dentry>) {
    let _ = (task, dentry);
}

/// A name was moved.
pub fn moved(task: &Arc<Task>, old: (&Arc<Dentry>, &[u8]), new: (&Arc<Dentry>, &[u8]), dentry: &Arc<Dentry>) {
    let _ = (task, old, new, dentry);
}

/// An open file was read.
pub fn accessed(task: &Arc<Task>, description: &Arc<Description>) {
    let _ = (task, description);
}

/// An open file was written.
pub fn written(task: &Arc<Task>, description: &Arc<Description>) {
    let _ = (task, description);
}
