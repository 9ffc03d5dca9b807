//! Memory: `mmap munmap mprotect mremap madvise brk msync mlock mincore` and their kin.

use super::{Args, Cx, Entry, full, partial};
use crate::fs::Io;
use crate::fs::tree::MountFlags;
use crate::mm::{Access, Area, MapRequest, Object, Place, Protection, Source, Traits};
use crate::task::pidfd::Pidfd;
use crate::{Errno, Flow, Result, SysResult};
use alloc::sync::Arc;
use insula_abi::general as c;
use insula_abi::memory::Iovec;
use insula_abi::{PAGE, Sysno};

pub(super) const CALLS: &[Entry] = &[
    full(Sysno::mmap, mmap),
    full(Sysno::munmap, |cx, [start, len, ..]| cx.task.mm().unmap(start, len).map(Flow::from)),
    full(Sysno::mprotect, mprotect),
    full(Sysno::mremap, mremap),
    full(Sysno::brk, |cx, [end, ..]| Ok(Flow::Done(cx.task.mm().brk(end, cx.task.process.limit(c::RLIMIT_DATA))))),
    partial(Sysno::madvise, "advice about speed is taken and forgotten", madvise),
    full(Sysno::msync, msync),
    full(Sysno::mincore, mincore),
    full(Sysno::mseal, mseal),
    full(Sysno::remap_file_pages, remap_file_pages),
    partial(Sysno::process_madvise, "as madvise", process_madvise),
    partial(Sysno::mlock, "all memory of a sandbox may be paged out by the host", |cx, [start, len, ..]| lock(cx, start, len, 0)),
    partial(Sysno::mlock2, "as mlock", |cx, [start, len, flags, ..]| lock(cx, start, len, flags)),
    full(Sysno::munlock, munlock),
    partial(Sysno::mlockall, "as mlock", mlockall),
    full(Sysno::munlockall, |cx, _| {
        cx.task.mm().unlock_all();
        Ok(Flow::Done(0))
    }),
];

const KNOWN_PROTECTION: u64 = (c::PROT_READ | c::PROT_WRITE | c::PROT_EXEC | c::PROT_SEM) as u64;

/// What `MAP_SHARED_VALIDATE` lets pass (Linux: `LEGACY_MAP_MASK`): what was there before flags were looked at.
const KNOWN_FLAGS: u32 = c::MAP_TYPE
    | c::MAP_FIXED
    | c::MAP_ANONYMOUS
    | c::MAP_DENYWRITE
    | c::MAP_EXECUTABLE
    | c::MAP_GROWSDOWN
    | c::MAP_LOCKED
    | c::MAP_NORESERVE
    | c::MAP_POPULATE
    | c::MAP_NONBLOCK
    | c::MAP_STACK
    | c::MAP_HUGETLB
    | c::MAP_32BIT
    | c::MAP_HUGE_2MB
    | c::MAP_HUGE_1GB;

fn protection(bits: u64) -> Protection {
    Protection::from_bits_truncate(bits as u8)
}

fn mmap(cx: &mut Cx<'_>, [address, len, prot, flags, fd, offset]: Args) -> SysResult {
    let flags = flags as u32;
    if !offset.is_multiple_of(PAGE) || len == 0 {
        return Err(Errno::EINVAL);
    }
    let most = cx.task.mm().layout().high;
    let padded = len.checked_next_multiple_of(PAGE).filter(|padded| *padded <= most).ok_or(Errno::ENOMEM)?;
    if offset.checked_add(padded).is_none_or(|end| end > i64::MAX as u64) {
        return Err(Errno::EOVERFLOW);
    }
    let place = match flags {
        flags if flags & c::MAP_FIXED_NOREPLACE != 0 => Place::Vacant(address),
        flags if flags & c::MAP_FIXED != 0 => Place::Replace(address),
        flags if flags & c::MAP_32BIT != 0 => Place::Low,
        _ => Place::Hint(address),
    };
    let mut area = mapped(cx, prot, flags, fd as i32, offset, padded)?;
    for (flag, set) in
        [(c::MAP_GROWSDOWN, Traits::GROWS_DOWN), (c::MAP_LOCKED, Traits::LOCKED), (c::MAP_NORESERVE, Traits::NO_RESERVE)]
    {
        if flags & flag != 0 {
            area.traits |= set;
        }
    }
    if area.traits.contains(Traits::LOCKED) {
        check_lock(cx, 0..0, padded).map_err(|errno| if errno == Errno::ENOMEM { Errno::EAGAIN } else { errno })?;
    }
    let access = if area.protection.contains(Protection::WRITE) && !area.is_shared() { Access::Write } else { Access::Read };
    let at = cx.task.mm().map(MapRequest { place, len: padded, area })?;
    if flags & (c::MAP_POPULATE | c::MAP_NONBLOCK) == c::MAP_POPULATE {
        // Whether it worked isn't told.
        let _ = cx.task.mm().populate(at, padded, access);
    }
    Ok(Flow::Done(at))
}

/// What a mapping shows: zeros or a file, shared or one's own.
fn mapped(cx: &mut Cx<'_>, prot: u64, flags: u32, fd: i32, offset: u64, len: u64) -> Result<Area> {
    let shared = match flags & c::MAP_TYPE {
        c::MAP_SHARED | c::MAP_SHARED_VALIDATE => true,
        c::MAP_PRIVATE => false,
        _ => return Err(Errno::EINVAL),
    };
    let mut area = Area::anonymous(protection(prot));
    if flags & c::MAP_ANONYMOUS != 0 {
        if shared {
            area.source = Source::Object(Object::new(&cx.kernel.frames, len));
            area.traits |= Traits::SHARED;
        }
        return Ok(area);
    }
    let description = cx.task.file(fd)?;
    if flags & c::MAP_TYPE == c::MAP_SHARED_VALIDATE && flags & !KNOWN_FLAGS != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if !description.readable() {
        return Err(if description.flags() & c::O_PATH != 0 { Errno::EBADF } else { Errno::EACCES });
    }
    if description.path.as_ref().is_some_and(|path| path.mount.flags().contains(MountFlags::NO_EXEC)) {
        if area.protection.contains(Protection::EXEC) {
            return Err(Errno::EPERM);
        }
        area.traits |= Traits::NEVER_EXEC;
    }
    if shared {
        area.traits |= Traits::SHARED;
        if description.file.seals().is_ok_and(|seals| seals & (c::F_SEAL_WRITE | c::F_SEAL_FUTURE_WRITE) != 0) {
            area.traits |= Traits::NEVER_WRITE;
        }
        if !description.writable() {
            if area.protection.contains(Protection::WRITE) {
                return Err(Errno::EACCES);
            }
            area.traits |= Traits::NEVER_WRITE;
        }
    }
    let io = Io { task: cx.task, flags: description.flags() };
    let mapping = description.file.map(&io, shared, area.protection.contains(Protection::WRITE))?;
    area.source = mapping.source;
    area.offset = mapping.base + offset;
    area.file = Some(description.clone());
    Ok(area)
}

pub(super) fn mprotect(cx: &mut Cx<'_>, [start, len, prot, ..]: Args) -> SysResult {
    const GROWS: u64 = (c::PROT_GROWSDOWN | c::PROT_GROWSUP) as u64;
    if prot & !(KNOWN_PROTECTION | GROWS) != 0 || prot & GROWS == GROWS {
        return Err(Errno::EINVAL);
    }
    let mm = cx.task.mm();
    let mut from = start;
    if prot & GROWS != 0 && len != 0 && start.is_multiple_of(PAGE) {
        let (area_start, area) = mm.area_from(start, len)?;
        if prot & u64::from(c::PROT_GROWSUP) != 0 || !area.traits.contains(Traits::GROWS_DOWN) {
            return Err(Errno::EINVAL);
        }
        from = area_start;
    }
    mm.protect(from, len + (start - from), protection(prot)).map(Flow::from)
}

fn mremap(cx: &mut Cx<'_>, [old, old_len, new_len, flags, new, ..]: Args) -> SysResult {
    let flags = flags as u32;
    let known = c::MREMAP_MAYMOVE | c::MREMAP_FIXED | c::MREMAP_DONTUNMAP;
    let moves = flags & c::MREMAP_MAYMOVE != 0;
    let keep = flags & c::MREMAP_DONTUNMAP != 0;
    if flags & !known != 0 || !old.is_multiple_of(PAGE) || new_len == 0 || (!moves && flags != 0) || (keep && old_len != new_len)
    {
        return Err(Errno::EINVAL);
    }
    let old_len = old_len.checked_next_multiple_of(PAGE).ok_or(Errno::EINVAL)?;
    let end = old.checked_add(old_len).ok_or(Errno::EINVAL)?;
    let to = match flags {
        flags if flags & c::MREMAP_FIXED != 0 => Some(Place::Replace(new)),
        _ if moves => Some(Place::Hint(0)),
        _ => None,
    };
    Ok(Flow::Done(cx.task.mm().remap(old..end, new_len, to, keep)?))
}

/// Another part of a shared file in place of what is mapped there: Linux itself makes a mapping of it.
fn remap_file_pages(cx: &mut Cx<'_>, [start, len, protection, page, ..]: Args) -> SysResult {
    let (start, len) = (start & !(PAGE - 1), len & !(PAGE - 1));
    let end = start.checked_add(len).filter(|end| *end > start).ok_or(Errno::EINVAL)?;
    let offset = page.checked_mul(PAGE).filter(|offset| offset.checked_add(end - start).is_some()).ok_or(Errno::EINVAL)?;
    if protection != 0 {
        return Err(Errno::EINVAL);
    }
    let mm = cx.task.mm();
    let parts = mm.areas_of(start, len).map_err(|_| Errno::EINVAL)?;
    let (_, area) = parts.first().ok_or(Errno::EINVAL)?;
    let alike = |other: &Area| {
        let same = match (&area.source, &other.source) {
            (Source::Object(one), Source::Object(other)) => Arc::ptr_eq(one, other),
            (Source::Host(one), Source::Host(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        same && other.is_shared() && (area.protection, area.traits) == (other.protection, other.traits)
    };
    if !parts.iter().all(|(_, other)| alike(other)) {
        return Err(Errno::EINVAL);
    }
    let area = Area { offset, ..area.clone() };
    mm.map(MapRequest { place: Place::Replace(start), len, area })?;
    Ok(Flow::Done(0))
}

fn madvise(cx: &mut Cx<'_>, [start, len, advice, ..]: Args) -> SysResult {
    if !start.is_multiple_of(PAGE) || len.checked_next_multiple_of(PAGE).and_then(|len| start.checked_add(len)).is_none() {
        return Err(Errno::EINVAL);
    }
    if len == 0 {
        return Ok(Flow::Done(0));
    }
    let mm = cx.task.mm();
    let traits = |set, clear| mm.set_traits(start, len, set, clear).map(Flow::from);
    match advice as u32 {
        c::MADV_DONTNEED | c::MADV_FREE | c::MADV_DONTNEED_LOCKED => mm.forget(start, len).map(Flow::from),
        c::MADV_REMOVE => remove(cx, start, len),
        c::MADV_DONTFORK => traits(Traits::DONT_FORK, Traits::empty()),
        c::MADV_DOFORK => traits(Traits::empty(), Traits::DONT_FORK),
        c::MADV_WIPEONFORK => {
            if mm.areas_of(start, len)?.iter().any(|(_, area)| area.is_shared() || area.file.is_some()) {
                return Err(Errno::EINVAL);
            }
            traits(Traits::WIPE_ON_FORK, Traits::empty())
        }
        c::MADV_KEEPONFORK => traits(Traits::empty(), Traits::WIPE_ON_FORK),
        c::MADV_DONTDUMP => traits(Traits::DONT_DUMP, Traits::empty()),
        c::MADV_DODUMP => traits(Traits::empty(), Traits::DONT_DUMP),
        c::MADV_NORMAL
        | c::MADV_RANDOM
        | c::MADV_SEQUENTIAL
        | c::MADV_WILLNEED
        | c::MADV_MERGEABLE
        | c::MADV_UNMERGEABLE
        | c::MADV_HUGEPAGE
        | c::MADV_NOHUGEPAGE
        | c::MADV_COLD
        | c::MADV_PAGEOUT => mm.areas_of(start, len).map(|_| Flow::Done(0)),
        c::MADV_POPULATE_READ => mm.populate(start, len, Access::Read).map(Flow::from),
        c::MADV_POPULATE_WRITE => mm.populate(start, len, Access::Write).map(Flow::from),
        _ => Err(Errno::EINVAL),
    }
}

/// `MADV_REMOVE`: a hole in what is mapped shared.
fn remove(cx: &mut Cx<'_>, start: u64, len: u64) -> SysResult {
    for (range, area) in cx.task.mm().areas_of(start, len)? {
        let Source::Object(object) = &area.source else { return Err(Errno::EINVAL) };
        if !area.is_shared() || !area.protection.contains(Protection::WRITE) {
            return Err(Errno::EACCES);
        }
        object.discard(area.offset..area.offset + (range.end - range.start));
    }
    Ok(Flow::Done(0))
}

fn mseal(cx: &mut Cx<'_>, [start, len, flags, ..]: Args) -> SysResult {
    let padded = len.checked_next_multiple_of(PAGE).ok_or(Errno::EINVAL)?;
    if flags != 0 || !start.is_multiple_of(PAGE) || start.checked_add(padded).is_none() {
        return Err(Errno::EINVAL);
    }
    let mm = cx.task.mm();
    if len > 0 {
        // All of it, or nothing.
        mm.areas_of(start, len)?;
        mm.set_traits(start, len, Traits::SEALED, Traits::empty())?;
    }
    Ok(Flow::Done(0))
}

/// Advice about another's memory, process_madvise(2): it may only be what changes nothing, unless it is one's own.
fn process_madvise(cx: &mut Cx<'_>, [pidfd, vector, count, advice, flags, _]: Args) -> SysResult {
    if flags as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    let mm = cx.task.mm();
    if count > 1024 {
        return Err(Errno::EINVAL);
    }
    let pieces: alloc::vec::Vec<Iovec> = mm.get_all(vector, count as usize)?;
    let description = cx.task.file(pidfd as i32)?;
    let process = &description.as_file::<Pidfd>().ok_or(Errno::EBADF)?.process;
    let target = process.leader().ok_or(Errno::ESRCH)?;
    let hints = [c::MADV_COLD, c::MADV_PAGEOUT, c::MADV_WILLNEED];
    let own = core::ptr::eq(&**process, &*cx.task.process);
    if !hints.contains(&(advice as u32)) && !own {
        return Err(Errno::EINVAL);
    }
    if !cx.task.may_access(&target) || !own && !cx.task.credentials().has(c::CAP_SYS_NICE) {
        return Err(Errno::EPERM);
    }
    let mut done = 0;
    for piece in pieces {
        let outcome = if own {
            madvise(cx, [piece.base, piece.len, advice, 0, 0, 0]).map(drop)
        } else {
            target.mm().areas_of(piece.base, piece.len).map(drop)
        };
        match outcome {
            Ok(()) => done += piece.len,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(done.into())
}

fn msync(cx: &mut Cx<'_>, [start, len, flags, ..]: Args) -> SysResult {
    let flags = flags as u32;
    let both = c::MS_SYNC | c::MS_ASYNC;
    if !start.is_multiple_of(PAGE) || flags & !(both | c::MS_INVALIDATE) != 0 || flags & both == both {
        return Err(Errno::EINVAL);
    }
    let areas = cx.task.mm().areas_of(start, len)?;
    if flags & c::MS_INVALIDATE != 0 && areas.iter().any(|(_, area)| area.traits.contains(Traits::LOCKED)) {
        return Err(Errno::EBUSY);
    }
    if flags & c::MS_SYNC != 0 {
        for file in areas.iter().filter(|(_, area)| area.is_shared()).filter_map(|(_, area)| area.file.as_ref()) {
            file.file.sync(true)?;
        }
    }
    Ok(Flow::Done(0))
}

fn mincore(cx: &mut Cx<'_>, [start, len, vector, ..]: Args) -> SysResult {
    if !start.is_multiple_of(PAGE) {
        return Err(Errno::EINVAL);
    }
    let mm = cx.task.mm();
    let mut at = start;
    let end = start.checked_add(len.checked_next_multiple_of(PAGE).ok_or(Errno::ENOMEM)?).ok_or(Errno::ENOMEM)?;
    let mut to = vector;
    while at < end {
        let part = at..end.min(at + 4096 * PAGE);
        mm.areas_of(part.start, part.end - part.start)?;
        let bytes: alloc::vec::Vec<u8> = mm.resident(part.clone()).into_iter().map(u8::from).collect();
        mm.write(to, &bytes)?;
        to += bytes.len() as u64;
        at = part.end;
    }
    Ok(Flow::Done(0))
}

/// Start and length of whole pages around a range.
fn around(start: u64, len: u64) -> Result<(u64, u64)> {
    let first = start & !(PAGE - 1);
    let end = start.checked_add(len).and_then(|end| end.checked_next_multiple_of(PAGE)).ok_or(Errno::EINVAL)?;
    Ok((first, end - first))
}

/// Whether `len` bytes, of which those of `range` may be locked already, may be locked.
fn check_lock(cx: &Cx<'_>, range: core::ops::Range<u64>, len: u64) -> Result<()> {
    if cx.task.credentials().has(c::CAP_IPC_LOCK) {
        return Ok(());
    }
    match cx.task.process.limit(c::RLIMIT_MEMLOCK) {
        0 => Err(Errno::EPERM),
        limit if cx.task.mm().locked_outside(&range).saturating_add(len) > limit => Err(Errno::ENOMEM),
        _ => Ok(()),
    }
}

fn lock(cx: &mut Cx<'_>, start: u64, len: u64, flags: u64) -> SysResult {
    if flags as u32 & !c::MLOCK_ONFAULT != 0 {
        return Err(Errno::EINVAL);
    }
    let (start, len) = around(start, len)?;
    check_lock(cx, start..start + len, len)?;
    cx.task.mm().set_traits(start, len, Traits::LOCKED, Traits::empty()).map(Flow::from)
}

fn munlock(cx: &mut Cx<'_>, [start, len, ..]: Args) -> SysResult {
    let (start, len) = around(start, len)?;
    cx.task.mm().set_traits(start, len, Traits::empty(), Traits::LOCKED).map(Flow::from)
}

fn mlockall(cx: &mut Cx<'_>, [flags, ..]: Args) -> SysResult {
    let flags = flags as u32;
    if flags == 0 || flags & !(c::MCL_CURRENT | c::MCL_FUTURE | c::MCL_ONFAULT) != 0 || flags == c::MCL_ONFAULT {
        return Err(Errno::EINVAL);
    }
    let all = if flags & c::MCL_CURRENT != 0 { cx.task.mm().sizes().0 } else { 0 };
    check_lock(cx, 0..u64::MAX, all)?;
    cx.task.mm().lock_all(flags & c::MCL_CURRENT != 0, flags & c::MCL_FUTURE != 0);
    Ok(Flow::Done(0))
}
