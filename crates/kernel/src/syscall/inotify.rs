//! Watching files, inotify(7): `inotify_init inotify_init1 inotify_add_watch inotify_rm_watch`.

use super::open::install;
use super::{Args, Cx, Entry, full};
use crate::fs::Description;
use crate::fs::inotify::Inotify;
use crate::fs::tree::{Lookup, access, walk};
use crate::{Errno, Flow, Result, SysResult};
use alloc::sync::Arc;
use insula_abi::Sysno;
use insula_abi::general as c;

pub(super) const CALLS: &[Entry] = &[
    full(Sysno::inotify_init, |cx, _| init(cx, 0)),
    full(Sysno::inotify_init1, |cx, [flags, ..]| init(cx, flags as u32)),
    full(Sysno::inotify_add_watch, add_watch),
    full(Sysno::inotify_rm_watch, |cx, [fd, number, ..]| {
        let description = cx.task.file(fd as i32)?;
        watcher(&description)?.unwatch(number as i32).map(Flow::from)
    }),
];

/// What may be said beside events.
const FLAGS: u32 =
    c::IN_ONLYDIR | c::IN_DONT_FOLLOW | c::IN_EXCL_UNLINK | c::IN_MASK_CREATE | c::IN_MASK_ADD | c::IN_ISDIR | c::IN_ONESHOT;

fn init(cx: &mut Cx<'_>, flags: u32) -> SysResult {
    if flags & !(c::IN_CLOEXEC | c::IN_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let watcher = Inotify::new(cx.kernel.file_systems.watches())?;
    install(cx.task, Description::new(watcher, None, flags & c::O_NONBLOCK), flags & c::O_CLOEXEC != 0)
}

fn watcher(description: &Description) -> Result<Arc<Inotify>> {
    let any: Arc<dyn core::any::Any + Send + Sync> = description.file.clone();
    any.downcast().map_err(|_| Errno::EINVAL)
}

fn add_watch(cx: &mut Cx<'_>, [fd, path, mask, ..]: Args) -> SysResult {
    let mask = mask as u32;
    let both = c::IN_MASK_ADD | c::IN_MASK_CREATE;
    if mask & c::IN_ALL_EVENTS == 0
        || mask & !(c::IN_ALL_EVENTS | FLAGS | c::IN_UNMOUNT | c::IN_Q_OVERFLOW | c::IN_IGNORED) != 0
        || mask & both == both
    {
        return Err(Errno::EINVAL);
    }
    let description = cx.task.file(fd as i32)?;
    let watcher = watcher(&description)?;
    let path = cx.task.mm().path(path)?;
    let mut lookup = Lookup::empty();
    lookup.set(Lookup::FOLLOW, mask & c::IN_DONT_FOLLOW == 0);
    lookup.set(Lookup::DIRECTORY, mask & c::IN_ONLYDIR != 0);
    let place = walk::resolve(cx.task, c::AT_FDCWD, &path, lookup)?;
    access::check(&cx.task.credentials(), place.inode(), access::READ)?;
    Ok(watcher.watch(&place.dentry, mask)?.into())
}
