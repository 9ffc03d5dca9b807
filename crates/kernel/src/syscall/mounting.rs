//! Mounts in steps: `fsopen fsconfig fsmount fspick open_tree move_mount mount_setattr`.
//!
//! A file system is described bit by bit in a [`Context`], then made, then mounted without a place: an open file stands for it, and holds
//! it until it comes to one.

use super::open::install;
use super::{Args, Cx, Entry, full, partial};
use crate::fs::open::open_place;
use crate::fs::tree::{Lookup, Mount, MountFlags, Path, walk};
use crate::fs::{AlwaysReady, Attributes, Description, File, FileType, Io};
use crate::mm::UserBuf;
use crate::sync::Mutex;
use crate::{Errno, Flow, Kernel, Result, SysResult};
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use insula_abi::Sysno;
use insula_abi::general as c;

pub(super) const CALLS: &[Entry] = &[
    full(Sysno::fsopen, fsopen),
    partial(Sysno::fsconfig, "no values by descriptor or path; what is changed later is the size of a tmpfs", fsconfig),
    full(Sysno::fsmount, fsmount),
    full(Sysno::fspick, fspick),
    full(Sysno::open_tree, open_tree),
    partial(Sysno::move_mount, "no MOVE_MOUNT_SET_GROUP, no MOVE_MOUNT_BENEATH", move_mount),
    partial(Sysno::mount_setattr, "no MOUNT_ATTR_IDMAP", mount_setattr),
];

/// `FSOPEN_CLOEXEC`, `FSMOUNT_CLOEXEC` and `FSPICK_CLOEXEC`.
const CLOEXEC: u32 = 1;

/// `FSCONFIG_*`: a word, a word with a value, then what is done.
const SET_FLAG: u32 = 0;
const SET_STRING: u32 = 1;
const CREATE: u32 = 6;
const RECONFIGURE: u32 = 7;
const CREATE_EXCLUSIVELY: u32 = 8;

/// The longest word, and the longest value.
const WORD_MAX: usize = 256;

/// Most bytes of all options of one file system (Linux: a page, for those that know no words).
const OPTIONS_MAX: usize = 4096;

/// Most messages that are kept (Linux: the length of `struct fc_log`).
const MESSAGES_MAX: usize = 8;

/// A file system that is described.
struct Context {
    kind: Vec<u8>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    source: Option<Vec<u8>>,
    options: String,
    read_only: bool,
    /// What was made, and isn't mounted yet.
    made: Option<Arc<Mount>>,
    /// What is to be changed; it may be unmounted meanwhile.
    changes: Option<Weak<Mount>>,
    messages: VecDeque<Vec<u8>>,
}

impl AlwaysReady for Context {}

impl File for Context {
    fn file_type(&self) -> FileType {
        FileType::Character
    }

    /// The oldest message, whole.
    fn read(&self, _: &Io<'_>, _: u64, buffer: &mut UserBuf) -> Result<usize> {
        let mut state = self.state.lock();
        let message = state.messages.front().ok_or(Errno::ENODATA)?;
        if message.len() as u64 > buffer.left() {
            return Err(Errno::EMSGSIZE);
        }
        let count = buffer.put(message)?;
        state.messages.pop_front();
        Ok(count)
    }

    fn is_seekable(&self) -> bool {
        false
    }

    fn attributes(&self) -> Result<Attributes> {
        Ok(Attributes { mode: 0o600, nlink: 1, blksize: 4096, ..Attributes::default() })
    }

    fn describe(&self) -> Vec<u8> {
        b"anon_inode:[fscontext]".to_vec()
    }
}

impl Context {
    fn open(cx: &Cx<'_>, kind: Vec<u8>, state: State, close_on_exec: bool) -> SysResult {
        let context = Arc::new(Context { kind, state: Mutex::new(state) });
        install(cx.task, Description::new(context, None, c::O_RDWR), close_on_exec)
    }

    /// Sets an option, or says what is wrong with it.
    fn set(&self, kernel: &Kernel, word: &[u8], value: Option<&[u8]>) -> Result<()> {
        let mut state = self.state.lock();
        if state.made.is_some() {
            return Err(Errno::EBUSY);
        }
        match (word, value) {
            (b"source", Some(value)) if state.source.is_none() => state.source = Some(value.to_vec()),
            (b"source", _) => return Err(Errno::EINVAL),
            (b"ro", None) => state.read_only = true,
            (b"rw", None) => state.read_only = false,
            // When what reaches the disk is the host's business, as with mount(2).
            (b"sync" | b"async" | b"dirsync" | b"lazytime" | b"nolazytime" | b"mand" | b"nomand" | b"silent", None) => {}
            _ => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let option = value.map_or_else(|| text(word), |value| text(word) + "=" + &text(value));
                let known = kernel.file_systems.check_option(kernel, &self.kind, option.as_bytes());
                if let Err(errno) = known {
                    let message = String::from("e ") + &text(&self.kind) + ": Unknown parameter '" + &text(word) + "'";
                    state.tell(message);
                    return Err(errno);
                }
                if state.options.len() + option.len() >= OPTIONS_MAX {
                    return Err(Errno::EINVAL);
                }
                if !state.options.is_empty() {
                    state.options.push(',');
                }
                state.options.push_str(&option);
            }
        }
        Ok(())
    }
}

impl State {
    fn tell(&mut self, message: String) {
        if self.messages.len() >= MESSAGES_MAX {
            self.messages.pop_front();
        }
        self.messages.push_back(message.into_bytes());
    }
}

/// The context of a descriptor.
fn context_of(description: &Description) -> Result<&Context> {
    description.as_file::<Context>().ok_or(Errno::EINVAL)
}

fn fsopen(cx: &mut Cx<'_>, [kind, flags, ..]: Args) -> SysResult {
    super::mount::privileged(cx.task)?;
    if flags as u32 & !CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    let kind = cx.task.mm().string(kind, WORD_MAX)?;
    if !cx.kernel.file_systems.knows(&kind) {
        return Err(Errno::ENODEV);
    }
    Context::open(cx, kind, State::default(), flags as u32 & CLOEXEC != 0)
}

fn fsconfig(cx: &mut Cx<'_>, [fd, command, word, value, more, _]: Args) -> SysResult {
    let (command, more) = (command as u32, more as i32);
    if (fd as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let sane = match command {
        SET_FLAG => word != 0 && value == 0 && more == 0,
        SET_STRING => word != 0 && value != 0 && more == 0,
        CREATE | RECONFIGURE | CREATE_EXCLUSIVELY => word == 0 && value == 0 && more == 0,
        _ => return Err(Errno::EOPNOTSUPP),
    };
    if !sane {
        return Err(Errno::EINVAL);
    }
    let description = cx.task.file(fd as i32)?;
    let context = context_of(&description)?;
    let mm = cx.task.mm();
    match command {
        SET_FLAG => context.set(cx.kernel, &mm.string(word, WORD_MAX)?, None)?,
        SET_STRING => context.set(cx.kernel, &mm.string(word, WORD_MAX)?, Some(&mm.string(value, WORD_MAX)?))?,
        RECONFIGURE => {
            let state = context.state.lock();
            let mount = state.changes.as_ref().ok_or(Errno::EBUSY)?.upgrade().ok_or(Errno::EINVAL)?;
            if !cx.task.credentials().has_in(&mount.owner, c::CAP_SYS_ADMIN) {
                return Err(Errno::EPERM);
            }
            cx.kernel.file_systems.reconfigure(cx.kernel, &mount, state.options.as_bytes())?;
        }
        _ => {
            let mut state = context.state.lock();
            if state.made.is_some() || state.changes.is_some() {
                return Err(Errno::EBUSY);
            }
            let source = state.source.clone().unwrap_or_else(|| b"none".to_vec());
            let flags = if state.read_only { MountFlags::READ_ONLY } else { MountFlags::empty() };
            let options = state.options.clone().into_bytes();
            state.made = Some(super::mount::made(cx, &context.kind, &source, flags, options)?);
        }
    }
    Ok(Flow::Done(0))
}

/// `MOUNT_ATTR_*`, with what each is to a mount.
const ATTRIBUTES: [(u64, MountFlags); 6] = [
    (0x1, MountFlags::READ_ONLY),
    (0x2, MountFlags::NO_SUID),
    (0x4, MountFlags::NO_DEV),
    (0x8, MountFlags::NO_EXEC),
    (0x80, MountFlags::NO_DIR_ATIME),
    (0x20_0000, MountFlags::NO_SYMFOLLOW),
];

/// Which traces reading leaves: one value out of these.
const TIMES: u64 = 0x70;
const NO_TIMES: u64 = 0x10;
const ALL_TIMES: u64 = 0x20;

fn flags_of(attributes: u64) -> MountFlags {
    ATTRIBUTES.iter().filter(|(bit, _)| attributes & bit != 0).map(|(_, flag)| *flag).collect()
}

/// The attributes, without which none is known.
fn known_attributes() -> u64 {
    ATTRIBUTES.iter().fold(TIMES, |all, (bit, _)| all | bit)
}

/// # Errors
/// `EINVAL`: no such value.
fn times_of(attributes: u64) -> Result<MountFlags> {
    match attributes & TIMES {
        0 => Ok(MountFlags::REL_ATIME),
        NO_TIMES => Ok(MountFlags::NO_ATIME),
        ALL_TIMES => Ok(MountFlags::empty()),
        _ => Err(Errno::EINVAL),
    }
}

/// An open file that stands for a mount without a place.
fn hold(cx: &Cx<'_>, mount: &Arc<Mount>, close_on_exec: bool) -> SysResult {
    mount.set_loose();
    install(cx.task, open_place(cx.task, mount.path(), c::O_PATH, false)?, close_on_exec)
}

fn fsmount(cx: &mut Cx<'_>, [fd, flags, attributes, ..]: Args) -> SysResult {
    super::mount::privileged(cx.task)?;
    let flags = flags as u32;
    if flags & !CLOEXEC != 0 || attributes & !known_attributes() != 0 {
        return Err(Errno::EINVAL);
    }
    let wanted = flags_of(attributes) | times_of(attributes)?;
    let description = cx.task.file(fd as i32)?;
    let context = context_of(&description)?;
    let mut state = context.state.lock();
    let mount = state.made.clone().ok_or(Errno::EINVAL)?;
    mount.set_flags(wanted | mount.flags() & MountFlags::READ_ONLY);
    let held = hold(cx, &mount, flags & CLOEXEC != 0)?;
    // From here on the file system can only be changed.
    (state.made, state.changes, state.options) = (None, Some(Arc::downgrade(&mount)), String::new());
    Ok(held)
}

/// Where a descriptor and a path lead, as flags of a call say: whether links are followed, and whether the path may be empty.
fn place(cx: &Cx<'_>, fd: u64, path: u64, follow: bool, empty: bool) -> Result<Path> {
    let path = cx.task.mm().path(path)?;
    let mut lookup = if follow { Lookup::FOLLOW } else { Lookup::empty() };
    lookup.set(Lookup::EMPTY, empty);
    walk::resolve(cx.task, fd as i32, &path, lookup)
}

fn is_root(place: &Path) -> bool {
    Arc::ptr_eq(&place.dentry, &place.mount.root)
}

fn fspick(cx: &mut Cx<'_>, [fd, path, flags, ..]: Args) -> SysResult {
    /// `FSPICK_SYMLINK_NOFOLLOW`, `FSPICK_NO_AUTOMOUNT`, `FSPICK_EMPTY_PATH`.
    const NOFOLLOW: u32 = 2;
    const NO_AUTOMOUNT: u32 = 4;
    const EMPTY: u32 = 8;
    super::mount::privileged(cx.task)?;
    let flags = flags as u32;
    if flags & !(CLOEXEC | NOFOLLOW | NO_AUTOMOUNT | EMPTY) != 0 {
        return Err(Errno::EINVAL);
    }
    let place = place(cx, fd, path, flags & NOFOLLOW == 0, flags & EMPTY != 0)?;
    if !is_root(&place) {
        return Err(Errno::EINVAL);
    }
    let kind = place.mount.root.fs().kind.as_bytes().to_vec();
    let state = State { changes: Some(Arc::downgrade(&place.mount)), ..State::default() };
    Context::open(cx, kind, state, flags & CLOEXEC != 0)
}

fn open_tree(cx: &mut Cx<'_>, [fd, path, flags, ..]: Args) -> SysResult {
    /// `OPEN_TREE_CLONE`.
    const CLONE: u32 = 1;
    let flags = flags as u32;
    let known = c::AT_EMPTY_PATH | c::AT_NO_AUTOMOUNT | c::AT_RECURSIVE | c::AT_SYMLINK_NOFOLLOW | CLONE | c::O_CLOEXEC;
    if flags & !known != 0 || flags & (c::AT_RECURSIVE | CLONE) == c::AT_RECURSIVE {
        return Err(Errno::EINVAL);
    }
    if flags & CLONE != 0 {
        super::mount::privileged(cx.task)?;
    }
    let place = place(cx, fd, path, flags & c::AT_SYMLINK_NOFOLLOW == 0, flags & c::AT_EMPTY_PATH != 0)?;
    let close = flags & c::O_CLOEXEC != 0;
    if flags & CLONE == 0 {
        return install(cx.task, open_place(cx.task, place, c::O_PATH, false)?, close);
    }
    let namespace = cx.task.fs().lock().namespace.clone();
    hold(cx, &namespace.copied(&place, flags & c::AT_RECURSIVE != 0)?, close)
}

fn move_mount(cx: &mut Cx<'_>, [from_fd, from, to_fd, to, flags, _]: Args) -> SysResult {
    /// `MOVE_MOUNT_*`: links are followed, mounts made on the way, and the path may be empty.
    const FOLLOW: u32 = 1;
    const AUTOMOUNT: u32 = 2;
    const EMPTY: u32 = 4;
    let flags = flags as u32;
    super::mount::privileged(cx.task)?;
    if flags & !(FOLLOW | AUTOMOUNT | EMPTY | (FOLLOW | AUTOMOUNT | EMPTY) << 4) != 0 {
        return Err(Errno::EINVAL);
    }
    let place = |fd, path, flags: u32| place(cx, fd, path, flags & FOLLOW != 0, flags & EMPTY != 0);
    let from = place(from_fd, from, flags)?;
    let to = place(to_fd, to, flags >> 4)?;
    let namespace = cx.task.fs().lock().namespace.clone();
    if !from.mount.is_loose() {
        return namespace.shift(&from, &to).map(Flow::from);
    }
    let directory = |place: &Path| place.inode().file_type() == FileType::Directory;
    if !is_root(&from) || directory(&from) != directory(&to) {
        return Err(Errno::EINVAL);
    }
    namespace.mount(&from.mount, &to).map(Flow::from)
}

fn mount_setattr(cx: &mut Cx<'_>, [fd, path, flags, attributes, size, _]: Args) -> SysResult {
    /// Bytes of `struct mount_attr` as it was first, and the most that are looked at.
    const FIRST: u64 = 32;
    const MOST: u64 = 4096;
    let flags = flags as u32;
    if flags & !(c::AT_EMPTY_PATH | c::AT_RECURSIVE | c::AT_SYMLINK_NOFOLLOW | c::AT_NO_AUTOMOUNT) != 0 || size < FIRST {
        return Err(Errno::EINVAL);
    }
    if size > MOST {
        return Err(Errno::E2BIG);
    }
    super::mount::privileged(cx.task)?;
    let mut bytes = alloc::vec![0; size as usize];
    cx.task.mm().read(attributes, &mut bytes)?;
    if bytes[FIRST as usize..].iter().any(|byte| *byte != 0) {
        return Err(Errno::E2BIG);
    }
    let word = |at: usize| bytes[at * 8..][..8].iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte));
    let (set, clear, propagation) = (word(0), word(1), word(2));
    if set == 0 && clear == 0 && propagation == 0 {
        return Ok(Flow::Done(0));
    }
    let changes = Changes::new(set, clear)?;
    let to = match u32::try_from(propagation).map_err(|_| Errno::EINVAL)? {
        0 => None,
        kind => Some(super::mount::propagation(kind)?),
    };
    let place = place(cx, fd, path, flags & c::AT_SYMLINK_NOFOLLOW == 0, flags & c::AT_EMPTY_PATH != 0)?;
    let namespace = cx.task.fs().lock().namespace.clone();
    if !is_root(&place) || !(place.mount.is_loose() || namespace.shows(&place.mount)) {
        return Err(Errno::EINVAL);
    }
    let deep = flags & c::AT_RECURSIVE != 0;
    let all = if deep { place.mount.all() } else { alloc::vec![place.mount.clone()] };
    let becomes_read_only = |mount: &&Arc<Mount>| {
        changes.of(mount.flags()).contains(MountFlags::READ_ONLY) && !mount.flags().contains(MountFlags::READ_ONLY)
    };
    if all.iter().filter(becomes_read_only).any(|mount| mount.is_written()) {
        return Err(Errno::EBUSY);
    }
    all.iter().try_for_each(|mount| mount.change_flags(changes.of(mount.flags())))?;
    if let Some(to) = to {
        namespace.set_propagation(&place.mount, to, deep);
    }
    Ok(Flow::Done(0))
}

/// What mount_setattr(2) changes.
struct Changes {
    set: MountFlags,
    clear: MountFlags,
}

impl Changes {
    /// # Errors
    /// `EINVAL`: what isn't known, or one of the values of which each excludes the others without clearing all of them.
    fn new(set: u64, clear: u64) -> Result<Self> {
        if (set | clear) & !known_attributes() != 0 {
            return Err(Errno::EINVAL);
        }
        let mut changes = Changes { set: flags_of(set), clear: flags_of(clear) };
        match clear & TIMES {
            0 if set & TIMES == 0 => {}
            TIMES => {
                changes.clear |= MountFlags::NO_ATIME | MountFlags::REL_ATIME;
                changes.set |= times_of(set)?;
            }
            _ => return Err(Errno::EINVAL),
        }
        Ok(changes)
    }

    fn of(&self, now: MountFlags) -> MountFlags {
        (now - self.clear) | self.set
    }
}
