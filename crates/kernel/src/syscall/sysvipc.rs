//! System V IPC, sysvipc(7): `shmget shmat shmdt shmctl semget semop semtimedop semctl msgget msgsnd msgrcv msgctl`.

use super::{Args, Cx, Entry, full, partial};
use crate::ipc::msg::{self, Message, Wanted};
use crate::ipc::sem::{self, Waiting};
use crate::ipc::shm::{Attached, Segment};
use crate::ipc::{Object as _, Perm, seconds};
use crate::mm::{Area, MapRequest, Object, Place, Protection, Source, Traits};
use crate::wait::{Ended, Events, until};
use crate::{Errno, Flow, Result, SysResult};
use alloc::sync::Arc;
use alloc::vec::Vec;
use insula_abi::general as c;
use insula_abi::ipc::{self as abi, IPC_INFO, IPC_NOWAIT, IPC_RMID, IPC_SET, IPC_STAT};
use insula_abi::ipc::{MsqidDs, Sembuf, SemidDs, ShmidDs};
use insula_abi::time::Timespec;
use insula_abi::{PAGE, Sysno};

pub(super) const CALLS: &[Entry] = &[
    partial(Sysno::shmget, "no large pages", shmget),
    full(Sysno::shmat, shmat),
    full(Sysno::shmdt, shmdt),
    full(Sysno::shmctl, shmctl),
    partial(Sysno::semget, "1048576 semaphores in all", semget),
    full(Sysno::semop, |cx, [id, operations, count, ..]| semtimedop(cx, [id, operations, count, 0, 0, 0])),
    full(Sysno::semtimedop, semtimedop),
    full(Sysno::semctl, semctl),
    full(Sysno::msgget, msgget),
    partial(Sysno::msgsnd, "64 MiB in all", msgsnd),
    full(Sysno::msgrcv, msgrcv),
    full(Sysno::msgctl, msgctl),
];

/// May be read; may be read and written: in all three classes, of which the caller's counts.
const READ: u32 = 0o444;
const WRITE: u32 = 0o222;

/// The most segments (`SHMMNI`).
const MOST_SEGMENTS: usize = 4096;
/// The largest segment (`SHMMAX`).
const LARGEST: u64 = u64::MAX - (1 << 24);

fn shmget(cx: &mut Cx<'_>, [key, size, flags, ..]: Args) -> SysResult {
    let flags = flags as u32;
    let make = |perm: Perm| {
        if size == 0 || size > LARGEST {
            return Err(Errno::EINVAL);
        }
        if flags & abi::shm::HUGETLB != 0 {
            return Err(Errno::ENOMEM);
        }
        // More than all there is can't ever be used.
        let pages = size.next_multiple_of(PAGE);
        if pages > cx.kernel.host.memory.limit() {
            return Err(Errno::ENOSPC);
        }
        let memory = Object::new(&cx.kernel.frames, pages);
        Ok(Segment::new(perm, memory, size, cx.task.process.pid, seconds(cx.kernel)))
    };
    let fits = |segment: &Segment| if size > segment.size { Err(Errno::EINVAL) } else { Ok(()) };
    let id = cx.task.spaces().ipc.holds.segments.lock().find_or_make(cx.task, key as i32, flags, MOST_SEGMENTS, fits, make)?;
    Ok(id.into())
}

/// The segment of a number. One that was to go with its last attachment is gone without.
fn segment(cx: &Cx<'_>, id: u64) -> Result<Arc<Segment>> {
    let segment = cx.task.spaces().ipc.holds.segments.lock().get(id as i32)?;
    let goes = segment.perm().lock().mode & abi::shm::DEST != 0;
    if goes && segment.attached() == 0 {
        cx.task.spaces().ipc.holds.segments.lock().remove(id as i32);
        return Err(Errno::EINVAL);
    }
    Ok(segment)
}

fn shmat(cx: &mut Cx<'_>, [id, address, flags, ..]: Args) -> SysResult {
    let flags = flags as u32;
    let remap = flags & abi::shm::REMAP != 0;
    let start = match address {
        0 if remap => return Err(Errno::EINVAL),
        address if address.is_multiple_of(PAGE) => address,
        address if flags & abi::shm::RND != 0 => address & !(PAGE - 1),
        _ => return Err(Errno::EINVAL),
    };
    if address != 0 && start == 0 && remap {
        return Err(Errno::EINVAL);
    }
    let segment = segment(cx, id)?;
    let writable = flags & abi::shm::RDONLY == 0;
    let execute = flags & abi::shm::EXEC != 0;
    let wanted = READ | if writable { WRITE } else { 0 } | if execute { 0o111 } else { 0 };
    segment.perm().lock().check(cx.task, wanted)?;
    let mut protection = Protection::READ;
    protection.set(Protection::WRITE, writable);
    protection.set(Protection::EXEC, execute);
    let mut area = Area::anonymous(protection);
    area.traits |= Traits::SHARED;
    if !writable {
        area.traits |= Traits::NEVER_WRITE;
    }
    area.source = Source::Object(segment.memory.clone());
    area.file = Some(Attached::open(&segment, writable));
    let place = match start {
        0 => Place::Hint(0),
        start if remap => Place::Replace(start),
        start => Place::Vacant(start),
    };
    let len = segment.size.next_multiple_of(PAGE);
    let outcome = cx.task.mm().map(MapRequest { place, len, area });
    let at = outcome.map_err(|errno| if errno == Errno::ENOMEM { errno } else { Errno::EINVAL })?;
    let mut last = segment.last.lock();
    (last.pid, last.attached) = (cx.task.process.pid, seconds(cx.kernel));
    Ok(at.into())
}

/// The segment that an area shows.
fn shown(area: &Area) -> Option<Arc<Segment>> {
    area.file.as_ref()?.as_file::<Attached>().map(|attached| attached.0.clone())
}

fn shmdt(cx: &mut Cx<'_>, [address, ..]: Args) -> SysResult {
    let mm = cx.task.mm();
    if !address.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    // A part of it may have been unmapped: what is left lies where it would if all were there.
    let attached = |(range, area): &(core::ops::Range<u64>, Area)| {
        let begins = range.start.checked_sub(area.offset) == Some(address);
        if begins { shown(area).map(|segment| (range.clone(), segment)) } else { None }
    };
    let parts: Vec<_> = mm.areas().iter().filter_map(attached).collect();
    let Some((_, segment)) = parts.first() else { return Err(Errno::EINVAL) };
    for (range, other) in &parts {
        if Arc::ptr_eq(segment, other) {
            mm.unmap(range.start, range.end - range.start)?;
        }
    }
    let mut last = segment.last.lock();
    (last.pid, last.detached) = (cx.task.process.pid, seconds(cx.kernel));
    Ok(Flow::Done(0))
}

fn shmctl(cx: &mut Cx<'_>, [id, command, address, ..]: Args) -> SysResult {
    let mm = cx.task.mm();
    if (id as i32) < 0 || (command as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    match command as u32 {
        IPC_INFO => {
            mm.put(address, &[LARGEST, 1, MOST_SEGMENTS as u64, MOST_SEGMENTS as u64, LARGEST, 0, 0, 0, 0])?;
            Ok(cx.task.spaces().ipc.holds.segments.lock().highest().into())
        }
        abi::shm::INFO => {
            let (count, all, highest) = {
                let ipc = cx.task.spaces().ipc;
                let segments = ipc.holds.segments.lock();
                (segments.count() as u64, segments.all(), segments.highest())
            };
            let pages: u64 = all.iter().map(|segment| segment.size.div_ceil(PAGE)).sum();
            let resident: u64 = all.iter().map(|segment| segment.memory.allocated() / PAGE).sum();
            mm.put(address, &[count, pages, resident, 0, 0, 0])?;
            Ok(highest.into())
        }
        IPC_STAT | abi::shm::STAT | abi::shm::STAT_ANY => {
            let (id, segment) = match command as u32 {
                IPC_STAT => (0, segment(cx, id)?),
                _ => cx.task.spaces().ipc.holds.segments.lock().at(id as i32)?,
            };
            let (perm, last) = (*segment.perm().lock(), *segment.last.lock());
            if command as u32 != abi::shm::STAT_ANY {
                perm.check(cx.task, READ)?;
            }
            let told = ShmidDs {
                perm: perm.to_abi(cx.task),
                segsz: segment.size,
                atime: last.attached,
                dtime: last.detached,
                ctime: last.changed,
                cpid: cx.task.name_of(segment.creator),
                lpid: cx.task.name_of(last.pid),
                nattch: segment.attached(),
                ..ShmidDs::default()
            };
            mm.put(address, &told)?;
            Ok(id.into())
        }
        IPC_SET => {
            let new: ShmidDs = mm.get(address)?;
            let segment = segment(cx, id)?;
            let mut perm = segment.perm().lock();
            perm.check_owner(cx.task)?;
            perm.set(cx.task, &new.perm)?;
            segment.last.lock().changed = seconds(cx.kernel);
            Ok(Flow::Done(0))
        }
        IPC_RMID => {
            let segment = segment(cx, id)?;
            {
                let mut perm = segment.perm().lock();
                perm.check_owner(cx.task)?;
                perm.mode |= abi::shm::DEST;
                perm.key = abi::IPC_PRIVATE;
            }
            if segment.attached() == 0 {
                cx.task.spaces().ipc.holds.segments.lock().remove(id as i32);
            }
            Ok(Flow::Done(0))
        }
        abi::shm::LOCK | abi::shm::UNLOCK => {
            let segment = segment(cx, id)?;
            let mut perm = segment.perm().lock();
            if !cx.task.credentials().has_in(&cx.task.spaces().ipc.owner, c::CAP_IPC_LOCK) {
                perm.check_owner(cx.task)?;
                if command as u32 == abi::shm::LOCK && cx.task.process.limit(c::RLIMIT_MEMLOCK) == 0 {
                    return Err(Errno::EPERM);
                }
            }
            let locked = if command as u32 == abi::shm::LOCK { abi::shm::LOCKED } else { 0 };
            perm.mode = perm.mode & !abi::shm::LOCKED | locked;
            Ok(Flow::Done(0))
        }
        _ => Err(Errno::EINVAL),
    }
}

fn semget(cx: &mut Cx<'_>, [key, count, flags, ..]: Args) -> SysResult {
    let count = usize::try_from(count as i32).ok().filter(|count| *count <= sem::MOST_OF_SET).ok_or(Errno::EINVAL)?;
    let ipc = cx.task.spaces().ipc;
    let semaphores = &ipc.holds.semaphores;
    let make = |perm: Perm| match count {
        0 => Err(Errno::EINVAL),
        count => semaphores.make(perm, count, seconds(cx.kernel)),
    };
    let fits = |set: &sem::Set| if count > set.len() { Err(Errno::EINVAL) } else { Ok(()) };
    Ok(semaphores.sets.lock().find_or_make(cx.task, key as i32, flags as u32, sem::MOST_SETS, fits, make)?.into())
}

fn semtimedop(cx: &mut Cx<'_>, [id, operations, count, timeout, ..]: Args) -> SysResult {
    let mm = cx.task.mm();
    let timeout: Option<Timespec> = if timeout == 0 { None } else { Some(mm.get(timeout)?) };
    let count = u64::from(count as u32);
    if count > sem::MOST_OPERATIONS {
        return Err(Errno::E2BIG);
    }
    let operations: Vec<Sembuf> = mm.get_all(operations, count as usize)?;
    if operations.is_empty() || (id as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let clock = &cx.kernel.host.clock;
    let deadline = timeout.map(Timespec::to_nanos).transpose()?.map(|nanos| clock.monotonic().saturating_add(nanos));
    let set = cx.task.spaces().ipc.holds.semaphores.sets.lock().get(id as i32)?;
    if operations.iter().any(|operation| usize::from(operation.number) >= set.len()) {
        return Err(Errno::EFBIG);
    }
    let changes = operations.iter().any(|operation| operation.change != 0);
    set.perm().lock().check(cx.task, if changes { WRITE } else { READ })?;
    let pid = cx.task.process.pid;
    let waiting = Waiting::at(&set);
    match set.operate(&operations, pid, seconds(cx.kernel), &waiting) {
        Err(Errno::EAGAIN) if waiting.waits() => {}
        outcome => return outcome.map(Flow::from),
    }
    let (kernel, own) = (cx.kernel.clone(), set.clone());
    let wait = until(cx.task, &[(&*set, Events::WRITABLE)], deadline, move || {
        match own.operate(&operations, pid, seconds(&kernel), &waiting) {
            // Another operation than before may be the one that has to wait now, and must not.
            Err(Errno::EAGAIN) if !waiting.waits() => Ok(Err(Errno::EAGAIN)),
            Err(Errno::EAGAIN) => Err(Errno::EAGAIN),
            outcome => Ok(outcome),
        }
    });
    Ok(Flow::block(async move {
        match wait.await {
            Ok(outcome) => outcome?.map(|()| 0),
            Err(Ended::TimedOut) => Err(Errno::EAGAIN),
            Err(Ended::Interrupted) => Err(Errno::EINTR),
        }
    }))
}

fn semctl(cx: &mut Cx<'_>, [id, number, command, argument, ..]: Args) -> SysResult {
    let mm = cx.task.mm();
    let ipc = cx.task.spaces().ipc;
    let sets = &ipc.holds.semaphores.sets;
    if (id as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let (number, command) = (number as i32, command as u32);
    let found = || sets.lock().get(id as i32);
    let allowed = |wanted: u32| {
        let set = found()?;
        set.perm().lock().check(cx.task, wanted)?;
        Ok::<_, Errno>(set)
    };
    match command {
        IPC_INFO | abi::sem::INFO => {
            let (count, highest, all) = {
                let sets = sets.lock();
                (sets.count() as i32, sets.highest(), sets.all())
            };
            let used: usize = all.iter().map(|set| set.len()).sum();
            let (usage, total) = if command == abi::sem::INFO { (count, used as i32) } else { (20, sem::HIGHEST) };
            let (of_set, in_all) = (sem::MOST_OF_SET as i32, 1_024_000_000);
            mm.put(argument, &[in_all, sem::MOST_SETS as i32, in_all, in_all, of_set, 500, 500, usage, sem::HIGHEST, total])?;
            Ok(highest.into())
        }
        IPC_STAT | abi::sem::STAT | abi::sem::STAT_ANY => {
            let (id, set) = if command == IPC_STAT { (0, found()?) } else { sets.lock().at(id as i32)? };
            let perm = *set.perm().lock();
            if command != abi::sem::STAT_ANY {
                perm.check(cx.task, READ)?;
            }
            let (otime, ctime) = set.times();
            mm.put(
                argument,
                &SemidDs { perm: perm.to_abi(cx.task), otime, ctime, nsems: set.len() as u64, ..SemidDs::default() },
            )?;
            Ok(id.into())
        }
        IPC_SET => {
            let new: SemidDs = mm.get(argument)?;
            let set = found()?;
            let mut perm = set.perm().lock();
            perm.check_owner(cx.task)?;
            perm.set(cx.task, &new.perm)?;
            set.touch(seconds(cx.kernel));
            Ok(Flow::Done(0))
        }
        IPC_RMID => {
            let set = found()?;
            set.perm().lock().check_owner(cx.task)?;
            sets.lock().remove(id as i32);
            set.remove();
            Ok(Flow::Done(0))
        }
        abi::sem::GETVAL => Ok(u32::from(allowed(READ)?.get(number)?.value).into()),
        abi::sem::GETPID => Ok(cx.task.name_of(allowed(READ)?.get(number)?.pid).into()),
        abi::sem::GETNCNT => Ok(allowed(READ)?.waiters(number, false)?.into()),
        abi::sem::GETZCNT => Ok(allowed(READ)?.waiters(number, true)?.into()),
        abi::sem::GETALL => {
            let values = allowed(READ)?.values();
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
            mm.write(argument, &bytes).map(Flow::from)
        }
        abi::sem::SETVAL => {
            let value =
                u16::try_from(argument as i32).ok().filter(|value| i32::from(*value) <= sem::HIGHEST).ok_or(Errno::ERANGE)?;
            allowed(WRITE)?.set(number, &[value], cx.task.process.pid, seconds(cx.kernel)).map(Flow::from)
        }
        abi::sem::SETALL => {
            let set = allowed(WRITE)?;
            let values: Vec<u16> = mm.get_all(argument, set.len())?;
            if values.iter().any(|value| i32::from(*value) > sem::HIGHEST) {
                return Err(Errno::ERANGE);
            }
            set.set(0, &values, cx.task.process.pid, seconds(cx.kernel)).map(Flow::from)
        }
        _ => Err(Errno::EINVAL),
    }
}

fn msgget(cx: &mut Cx<'_>, [key, flags, ..]: Args) -> SysResult {
    let ipc = cx.task.spaces().ipc;
    let messages = &ipc.holds.messages;
    let make = |perm: Perm| Ok(messages.make(perm, seconds(cx.kernel)));
    Ok(messages.queues.lock().find_or_make(cx.task, key as i32, flags as u32, msg::MOST_QUEUES, |_| Ok(()), make)?.into())
}

fn msgsnd(cx: &mut Cx<'_>, [id, message, len, flags, ..]: Args) -> SysResult {
    let mm = cx.task.mm();
    let kind: i64 = mm.get(message)?;
    if len > msg::LONGEST || (id as i32) < 0 || kind < 1 {
        return Err(Errno::EINVAL);
    }
    let mut text = alloc::vec![0; len as usize];
    mm.read(message.wrapping_add(8), &mut text)?;
    let queue = cx.task.spaces().ipc.holds.messages.queues.lock().get(id as i32)?;
    queue.perm().lock().check(cx.task, WRITE)?;
    let mut message = Some(Message { kind, text });
    let pid = cx.task.process.pid;
    match queue.send(&mut message, pid, seconds(cx.kernel)) {
        Err(Errno::EAGAIN) if flags as u32 & IPC_NOWAIT == 0 => {}
        outcome => return outcome.map(Flow::from),
    }
    let (kernel, own) = (cx.kernel.clone(), queue.clone());
    let wait = until(cx.task, &[(&*queue, Events::OUT)], None, move || own.send(&mut message, pid, seconds(&kernel)));
    Ok(Flow::block(async move { wait.await.unwrap_or(Err(Errno::RESTARTNOHAND)).map(|()| 0) }))
}

fn msgrcv(cx: &mut Cx<'_>, [id, to, room, kind, flags, _]: Args) -> SysResult {
    let flags = flags as u32;
    if (id as i32) < 0 || room > i64::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    if flags & abi::msg::COPY != 0 && (flags & abi::msg::EXCEPT != 0 || flags & IPC_NOWAIT == 0) {
        return Err(Errno::EINVAL);
    }
    let queue = cx.task.spaces().ipc.holds.messages.queues.lock().get(id as i32)?;
    queue.perm().lock().check(cx.task, READ)?;
    let wanted = Wanted { kind: kind as i64, room: usize::try_from(room).unwrap_or(usize::MAX), flags };
    let (pid, mm) = (cx.task.process.pid, cx.task.mm());
    let give = move |message: &Message| {
        let text = &message.text[..message.text.len().min(wanted.room)];
        mm.put(to, &message.kind)?;
        mm.write(to.wrapping_add(8), text)?;
        Ok(text.len() as u64)
    };
    match queue.receive(&wanted, pid, seconds(cx.kernel)) {
        Err(Errno::EAGAIN) if flags & IPC_NOWAIT != 0 => return Err(Errno::ENOMSG),
        Err(Errno::EAGAIN) => {}
        outcome => return give(&outcome?).map(Flow::Done),
    }
    let (kernel, own) = (cx.kernel.clone(), queue.clone());
    let wait = until(cx.task, &[(&*queue, Events::IN)], None, move || own.receive(&wanted, pid, seconds(&kernel)));
    Ok(Flow::block(async move {
        match wait.await {
            Ok(outcome) => give(&outcome?),
            Err(_) => Err(Errno::RESTARTNOHAND),
        }
    }))
}

fn msgctl(cx: &mut Cx<'_>, [id, command, address, ..]: Args) -> SysResult {
    let mm = cx.task.mm();
    let ipc = cx.task.spaces().ipc;
    let queues = &ipc.holds.messages.queues;
    if (id as i32) < 0 || (command as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let found = || queues.lock().get(id as i32);
    match command as u32 {
        IPC_INFO | abi::msg::INFO => {
            let (count, highest, all) = {
                let queues = queues.lock();
                (queues.count() as i32, queues.highest(), queues.all())
            };
            let told: Vec<MsqidDs> = all.iter().map(|queue| queue.told()).collect();
            let (pool, map, headers) = match command as u32 {
                IPC_INFO => (512_000, 16384, 16384),
                _ => {
                    let (messages, bytes) =
                        (told.iter().map(|told| told.qnum).sum::<u64>(), told.iter().map(|told| told.cbytes).sum::<u64>());
                    (count, messages as i32, bytes as i32)
                }
            };
            mm.put(address, &[pool, map, msg::LONGEST as i32, msg::ROOM as i32, msg::MOST_QUEUES as i32, 16, headers, 0xffff])?;
            Ok(highest.into())
        }
        IPC_STAT | abi::msg::STAT | abi::msg::STAT_ANY => {
            let (id, queue) = if command as u32 == IPC_STAT { (0, found()?) } else { queues.lock().at(id as i32)? };
            let perm = *queue.perm().lock();
            if command as u32 != abi::msg::STAT_ANY {
                perm.check(cx.task, READ)?;
            }
            let told = queue.told();
            let (lspid, lrpid) = (cx.task.name_of(told.lspid), cx.task.name_of(told.lrpid));
            mm.put(address, &MsqidDs { perm: perm.to_abi(cx.task), lspid, lrpid, ..told })?;
            Ok(id.into())
        }
        IPC_SET => {
            let new: MsqidDs = mm.get(address)?;
            let queue = found()?;
            let mut perm = queue.perm().lock();
            perm.check_owner(cx.task)?;
            if new.qbytes > msg::ROOM && !cx.task.credentials().has(c::CAP_SYS_RESOURCE) {
                return Err(Errno::EPERM);
            }
            perm.set(cx.task, &new.perm)?;
            drop(perm);
            queue.set(new.qbytes, seconds(cx.kernel));
            Ok(Flow::Done(0))
        }
        IPC_RMID => {
            let queue = found()?;
            queue.perm().lock().check_owner(cx.task)?;
            queues.lock().remove(id as i32);
            queue.remove();
            Ok(Flow::Done(0))
        }
        _ => Err(Errno::EINVAL),
    }
}
