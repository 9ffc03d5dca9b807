//! What is changed about open files: `fcntl flock ioctl`.

use super::open::real;
use super::{Args, Cx, Entry, full, partial};
use crate::fs::dnotify;
use crate::fs::locks::{self, Class, Lock};
use crate::fs::sigio::Owner;
use crate::fs::tree::access;
use crate::fs::{Description, FileType, Io, pipe};
use crate::task::Task;
use crate::wait;
use crate::{Errno, Flow, Result, SysResult};
use alloc::sync::Arc;
use insula_abi::file::Flock;
use insula_abi::general as c;
use insula_abi::{Sysno, ioctl};

pub(super) const CALLS: &[Entry] = &[
    partial(Sysno::fcntl, "leases are refused", fcntl),
    full(Sysno::flock, flock),
    partial(Sysno::ioctl, "what each kind of file knows", ioctl_of),
];

/// Flags that `F_SETFL` changes.
const CHANGEABLE: u32 = c::O_APPEND | c::FASYNC | c::O_DIRECT | c::O_NOATIME | c::O_NONBLOCK;

/// Commands that need no more than a name (`O_PATH`).
const FOR_NAMES: [u32; 6] = [c::F_DUPFD, c::F_DUPFD_CLOEXEC, c::F_GETFD, c::F_SETFD, c::F_GETFL, F_DUPFD_QUERY];

/// Whether two descriptors are of one open file, since Linux 6.10.
const F_DUPFD_QUERY: u32 = 1027;
const F_SETOWN_EX: u32 = 15;
const F_GETOWN_EX: u32 = 16;
const F_GETOWNER_UIDS: u32 = 17;

fn fcntl(cx: &mut Cx<'_>, [fd, command, argument, ..]: Args) -> SysResult {
    let command = command as u32;
    let description = cx.task.file(fd as i32)?;
    if description.flags() & c::O_PATH != 0 && !FOR_NAMES.contains(&command) {
        return Err(Errno::EBADF);
    }
    match command {
        c::F_DUPFD | c::F_DUPFD_CLOEXEC => {
            let limit = cx.task.process.limit(c::RLIMIT_NOFILE);
            if u64::from(argument as u32) >= limit {
                return Err(Errno::EINVAL);
            }
            let close_on_exec = command == c::F_DUPFD_CLOEXEC;
            Ok(cx.task.descriptors().add(description, close_on_exec, argument as i32, limit)?.into())
        }
        c::F_GETFD => Ok(u32::from(cx.task.descriptors().close_on_exec(fd as i32)?).into()),
        c::F_SETFD => {
            cx.task.descriptors().set_close_on_exec(fd as i32, argument & u64::from(c::FD_CLOEXEC) != 0)?;
            Ok(Flow::Done(0))
        }
        c::F_GETFL => Ok(description.flags().into()),
        c::F_SETFL => set_flags(cx.task, &description, fd as i32, argument as u32),
        F_DUPFD_QUERY => Ok(u32::from(Arc::ptr_eq(&description, &cx.task.file(argument as i32)?)).into()),
        c::F_GETLK | c::F_SETLK | c::F_SETLKW | c::F_OFD_GETLK | c::F_OFD_SETLK | c::F_OFD_SETLKW => {
            record_lock(cx, &description, command, argument)
        }
        c::F_SETOWN | c::F_GETOWN | F_SETOWN_EX | F_GETOWN_EX | c::F_SETSIG | c::F_GETSIG | F_GETOWNER_UIDS => {
            owner(cx, &description, command, argument)
        }
        c::F_SETPIPE_SZ => {
            let pipe = pipe::of(&description).ok_or(Errno::EBADF)?;
            Ok(pipe.set_capacity(argument, &cx.task.credentials())?.into())
        }
        c::F_GETPIPE_SZ => Ok(pipe::of(&description).ok_or(Errno::EBADF)?.capacity().into()),
        c::F_ADD_SEALS => {
            if !description.writable() {
                return Err(Errno::EPERM);
            }
            if argument & !u64::from(SEALS) != 0 {
                return Err(Errno::EINVAL);
            }
            description.file.add_seals(argument as u32).map(Flow::from)
        }
        c::F_GET_SEALS => description.file.seals().map(Flow::from),
        // There never is a lease.
        c::F_GETLEASE => Ok(c::F_UNLCK.into()),
        c::F_NOTIFY => dnotify::ask(cx.task, &description, fd as i32, argument as u32).map(Flow::from),
        _ => Err(Errno::EINVAL),
    }
}

const SEALS: u32 = c::F_SEAL_EXEC | c::F_SEAL_SEAL | c::F_SEAL_SHRINK | c::F_SEAL_GROW | c::F_SEAL_WRITE | c::F_SEAL_FUTURE_WRITE;

fn set_flags(task: &Arc<Task>, description: &Arc<Description>, fd: i32, flags: u32) -> SysResult {
    if flags & c::O_NOATIME & !description.flags() != 0
        && let Some(path) = &description.path
        && !access::owns(&task.credentials(), &path.inode().attributes()?)
    {
        return Err(Errno::EPERM);
    }
    description.ask_flags(task.kernel(), fd, CHANGEABLE, flags);
    Ok(Flow::Done(0))
}

/// Real and effective user.
fn uids(task: &Task) -> (u32, u32) {
    let ids = task.credentials().uid;
    (ids.real, ids.effective)
}

/// Who is told of events by a signal.
fn owner(cx: &mut Cx<'_>, description: &Description, command: u32, argument: u64) -> SysResult {
    let mm = cx.task.mm();
    let mut owner = description.owner.lock();
    match command {
        c::F_SETSIG => {
            let signal = argument as i32;
            if !(0..=64).contains(&signal) {
                return Err(Errno::EINVAL);
            }
            owner.signal = signal;
        }
        c::F_GETSIG => return Ok(owner.signal.into()),
        c::F_SETOWN => {
            let id = argument as i32;
            if id == i32::MIN {
                return Err(Errno::EINVAL);
            }
            let kind = if id < 0 { c::F_OWNER_PGRP } else { c::F_OWNER_PID };
            let number = cx.task.number_of(id.abs());
            if id > 0 && cx.kernel.pids.task(number).is_none() {
                return Err(Errno::ESRCH);
            }
            *owner = Owner { kind: kind as i32, id: number, uids: uids(cx.task), ..*owner };
        }
        c::F_GETOWN => {
            let sign = if owner.kind == c::F_OWNER_PGRP as i32 { -1 } else { 1 };
            // A group's number is negative, and no error.
            return Ok(Flow::Done(i64::from(sign * cx.task.name_of(owner.id)) as u64));
        }
        F_SETOWN_EX => {
            drop(owner);
            let [kind, id]: [i32; 2] = mm.get(argument)?;
            if !(0..=2).contains(&kind) {
                return Err(Errno::EINVAL);
            }
            let id = cx.task.number_of(id);
            if id < 0 || id > 0 && kind != c::F_OWNER_PGRP as i32 && cx.kernel.pids.task(id).is_none() {
                return Err(Errno::ESRCH);
            }
            let mut owner = description.owner.lock();
            *owner = Owner { kind, id, uids: uids(cx.task), ..*owner };
        }
        F_GETOWN_EX => {
            let (kind, id) = (owner.kind, cx.task.name_of(owner.id));
            drop(owner);
            mm.put(argument, &[if id == 0 { c::F_OWNER_PID as i32 } else { kind }, id])?;
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(Flow::Done(0))
}

/// The range that a `struct flock` describes, from the file's position or end as it says.
fn range(description: &Description, flock: &Flock) -> Result<(u64, u64)> {
    let base = match flock.whence as u32 {
        c::SEEK_SET => 0,
        c::SEEK_CUR => *description.position() as i64,
        c::SEEK_END => super::stat::attributes_of(description)?.size as i64,
        _ => return Err(Errno::EINVAL),
    };
    let start = base.checked_add(flock.start).ok_or(Errno::EOVERFLOW)?;
    // A negative length is what lies before the start.
    let (start, last) = match flock.len {
        0 => (start, i64::MAX),
        len if len > 0 => (start, start.checked_add(len - 1).ok_or(Errno::EOVERFLOW)?),
        len => (start.checked_add(len).ok_or(Errno::EINVAL)?, start - 1),
    };
    let start = u64::try_from(start).map_err(|_| Errno::EINVAL)?;
    Ok((start, if last == i64::MAX { u64::MAX } else { last as u64 }))
}

fn record_lock(cx: &mut Cx<'_>, description: &Arc<Description>, command: u32, address: u64) -> SysResult {
    let mm = cx.task.mm();
    let mut flock: Flock = mm.get(address)?;
    let open = matches!(command, c::F_OFD_GETLK | c::F_OFD_SETLK | c::F_OFD_SETLKW);
    if open && flock.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let (start, last) = range(description, &flock)?;
    let owner = if open { description.as_owner() } else { cx.task.descriptors().as_owner() };
    let kind = flock.kind as u32;
    let pid = if open { -1 } else { cx.task.process.pid };
    let wanted = Lock { owner, pid, exclusive: kind == c::F_WRLCK, start, last };
    let key = locks::key(description)?;
    if matches!(command, c::F_GETLK | c::F_OFD_GETLK) {
        if !matches!(kind, c::F_RDLCK | c::F_WRLCK) {
            return Err(Errno::EINVAL);
        }
        match cx.kernel.locks.conflict(key, Class::Record, &wanted) {
            None => flock.kind = c::F_UNLCK as i16,
            Some(found) => {
                flock.kind = if found.exclusive { c::F_WRLCK as i16 } else { c::F_RDLCK as i16 };
                flock.whence = c::SEEK_SET as i16;
                flock.start = found.start as i64;
                flock.len = if found.last == u64::MAX { 0 } else { (found.last - found.start + 1) as i64 };
                flock.pid = cx.task.name_of(found.pid);
            }
        }
        mm.put(address, &flock)?;
        return Ok(Flow::Done(0));
    }
    match kind {
        c::F_UNLCK => {
            cx.kernel.locks.release(key, Class::Record, &wanted);
            return Ok(Flow::Done(0));
        }
        c::F_RDLCK if !description.readable() => return Err(Errno::EBADF),
        c::F_WRLCK if !description.writable() => return Err(Errno::EBADF),
        c::F_RDLCK | c::F_WRLCK => {}
        _ => return Err(Errno::EINVAL),
    }
    let waits = matches!(command, c::F_SETLKW | c::F_OFD_SETLKW);
    lock(cx.task, description, Class::Record, wanted, waits, Errno::EAGAIN)
}

fn flock(cx: &mut Cx<'_>, [fd, operation, ..]: Args) -> SysResult {
    let description = real(cx.task, fd as i32)?;
    let operation = operation as u32;
    let owner = description.as_owner();
    let pid = cx.task.process.pid;
    let exclusive = match operation & !c::LOCK_NB {
        c::LOCK_SH => false,
        c::LOCK_EX => true,
        c::LOCK_UN => {
            cx.kernel.locks.release_all(locks::key(&description)?, Class::Flock, owner);
            return Ok(Flow::Done(0));
        }
        _ => return Err(Errno::EINVAL),
    };
    let wanted = Lock { owner, pid, exclusive, start: 0, last: u64::MAX };
    lock(cx.task, &description, Class::Flock, wanted, operation & c::LOCK_NB == 0, Errno::EAGAIN)
}

/// Takes a lock, or waits for it.
fn lock(task: &Arc<Task>, description: &Arc<Description>, class: Class, wanted: Lock, waits: bool, busy: Errno) -> SysResult {
    let locks = &task.kernel().locks;
    let key = locks::key(description)?;
    description.locks_in(locks);
    match locks.take(key, class, &wanted, false) {
        Err(Errno::EAGAIN) if waits => {}
        Err(Errno::EAGAIN) => return Err(busy),
        outcome => return outcome.map(Flow::from),
    }
    let waiter = locks.waiter(key, class, wanted.owner);
    // The open file stays open, and so the lock has an owner, while one waits.
    let (locks, description) = (locks.clone(), description.clone());
    let wait = wait::until(task, &[(&waiter, wait::Events::WRITABLE)], None, move || {
        let _open = &description;
        locks.take(key, class, &wanted, true)
    });
    Ok(Flow::block(async move {
        let outcome = wait.await;
        drop(waiter);
        match outcome {
            Ok(outcome) => outcome.map(|()| 0),
            Err(_) => Err(Errno::RESTARTSYS),
        }
    }))
}

fn ioctl_of(cx: &mut Cx<'_>, [fd, request, argument, ..]: Args) -> SysResult {
    let description = real(cx.task, fd as i32)?;
    let mm = cx.task.mm();
    let request = request as u32;
    match request {
        ioctl::FIOCLEX | ioctl::FIONCLEX => {
            cx.task.descriptors().set_close_on_exec(fd as i32, request == ioctl::FIOCLEX)?;
            Ok(Flow::Done(0))
        }
        ioctl::FIONBIO | ioctl::FIOASYNC => {
            let flag = if request == ioctl::FIONBIO { c::O_NONBLOCK } else { c::FASYNC };
            let on: u32 = mm.get(argument)?;
            description.ask_flags(cx.kernel, fd as i32, flag, if on != 0 { flag } else { 0 });
            Ok(Flow::Done(0))
        }
        ioctl::FIONREAD if description.file.file_type() == FileType::Regular => {
            let left = super::stat::attributes_of(&description)?.size as i64 - *description.position() as i64;
            mm.put(argument, &(left as i32))?;
            Ok(Flow::Done(0))
        }
        _ => description.file.ioctl(&Io { task: cx.task, flags: description.flags() }, request, argument),
    }
}
