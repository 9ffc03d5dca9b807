//! Mounts: `mount umount2 pivot_root`.

use super::{Args, Cx, Entry, full, partial};
use crate::fs::Context;
use crate::fs::tree::{Lookup, Mount, MountFlags, Path, Propagation, Unmounting, walk};
use crate::fs::types::Making;
use crate::task::{Credentials, Task, UserNamespace};
use crate::{Errno, Flow, Result, SysResult};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use insula_abi::Sysno;
use insula_abi::general as c;

pub(super) const CALLS: &[Entry] = &[
    partial(Sysno::mount, "MS_REMOUNT changes flags, and the size of a tmpfs", mount),
    full(Sysno::umount2, unmount),
    full(Sysno::pivot_root, pivot_root),
];

/// The kinds of propagation.
const PROPAGATION: u32 = c::MS_SHARED | c::MS_PRIVATE | c::MS_SLAVE | c::MS_UNBINDABLE;

pub(super) fn privileged(task: &Arc<Task>) -> Result<()> {
    let owner = task.fs().lock().namespace.owner.clone();
    if task.credentials().has_in(&owner, c::CAP_SYS_ADMIN) { Ok(()) } else { Err(Errno::EPERM) }
}

/// Whether a file system of a type shows what isn't in it: parts may be covered, or not to be written.
fn shows_the_kernel(kind: &[u8]) -> bool {
    matches!(kind, b"proc" | b"sysfs")
}

/// Whether a task may mount a file system of a type: one that shows a namespace, who has that; one that shows nothing of others, anybody.
fn may_mount(task: &Arc<Task>, kind: &[u8], flags: MountFlags) -> Result<()> {
    let own = task.credentials();
    let owner = match kind {
        b"tmpfs" | b"ramfs" | b"devpts" => own.space.clone(),
        // It shows a network.
        b"sysfs" => task.net().owner.clone(),
        b"proc" => task.process.space.owner(),
        _ => UserNamespace::default(),
    };
    if !own.has_in(&owner, c::CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let namespace = task.fs().lock().namespace.clone();
    // What covers parts of the one that is there must not be gone around by another.
    let another = |mount: &Arc<Mount>| mount.root.fs().kind.as_bytes() == kind && mount.shows_all(flags);
    let revealing = shows_the_kernel(kind) && !namespace.owner.is_first() && !namespace.all().iter().any(another);
    if revealing { Err(Errno::EPERM) } else { Ok(()) }
}

/// Options of a file system, with the kernel's numbers for the users and groups that a program in a user namespace names.
fn translated(own: &Credentials, kind: &[u8], data: Vec<u8>) -> Result<Vec<u8>> {
    let plain = own.space.is_first() && (own.uid.fs, own.gid.fs) == (0, 0);
    if plain || kind != b"tmpfs" && kind != b"devpts" {
        return Ok(data);
    }
    let text = core::str::from_utf8(&data).map_err(|_| Errno::EINVAL)?;
    // A directory at the top is its maker's, if nothing else is said.
    let of_maker = [format!("uid={}", own.uid.fs), format!("gid={}", own.gid.fs)];
    let mut all: Vec<String> = if kind == b"tmpfs" { of_maker.into() } else { Vec::new() };
    for option in text.split(',').filter(|option| !option.is_empty()) {
        let number = |value: &str| value.parse().map_err(|_| Errno::EINVAL);
        all.push(match option.split_once('=') {
            Some(("uid", value)) => format!("uid={}", own.space.user(number(value)?)?),
            Some(("gid", value)) => format!("gid={}", own.space.group(number(value)?)?),
            _ => String::from(option),
        });
    }
    Ok(all.join(",").into_bytes())
}

fn place(task: &Arc<Task>, path: &[u8]) -> Result<Path> {
    walk::resolve(task, c::AT_FDCWD, path, Lookup::FOLLOW)
}

/// A string, or nothing for a null pointer.
fn optional(cx: &Cx<'_>, address: u64) -> Result<Option<Vec<u8>>> {
    if address == 0 { Ok(None) } else { cx.task.mm().path(address).map(Some) }
}

/// What mount(2)'s flags say of one mount.
fn mount_flags(flags: u32) -> MountFlags {
    let mut own = MountFlags::from_bits_truncate(flags & !c::MS_RELATIME) - MountFlags::INTERNAL;
    own.set(MountFlags::REL_ATIME, flags & (c::MS_NOATIME | c::MS_STRICTATIME) == 0);
    own
}

/// The one kind of propagation that flags name.
///
/// # Errors
/// `EINVAL`: there is another, or none.
pub(super) fn propagation(flags: u32) -> Result<Propagation> {
    match flags {
        c::MS_SHARED => Ok(Propagation::Shared),
        c::MS_SLAVE => Ok(Propagation::Slave),
        c::MS_PRIVATE => Ok(Propagation::Private),
        c::MS_UNBINDABLE => Ok(Propagation::Unbindable),
        _ => Err(Errno::EINVAL),
    }
}

fn mount(cx: &mut Cx<'_>, [source, target, kind, flags, data, ..]: Args) -> SysResult {
    const MAGIC: u32 = 0xc0ed_0000;
    let mut flags = flags as u32;
    if flags & 0xffff_0000 == MAGIC {
        flags &= 0xffff;
    }
    let kind = optional(cx, kind)?;
    let source = optional(cx, source)?;
    let data = optional(cx, data)?.unwrap_or_default();
    let target = cx.task.mm().path(target)?;
    let target = place(cx.task, &target)?;
    privileged(cx.task)?;
    let namespace = cx.task.fs().lock().namespace.clone();
    let at_root = Arc::ptr_eq(&target.dentry, &target.mount.root);
    if flags & c::MS_REMOUNT != 0 {
        if !at_root || !namespace.shows(&target.mount) {
            return Err(Errno::EINVAL);
        }
        // Without MS_BIND it is about the file system itself.
        let bind = flags & c::MS_BIND != 0;
        if !bind && !cx.task.credentials().has_in(&target.mount.owner, c::CAP_SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
        const TIMES: u32 = c::MS_NOATIME | c::MS_NODIRATIME | c::MS_RELATIME | c::MS_STRICTATIME;
        let mut changed = mount_flags(flags);
        if flags & TIMES == 0 {
            // What isn't said stays as it is.
            changed = (changed - MountFlags::TIMES) | (target.mount.flags() & MountFlags::TIMES);
        }
        let flags = changed;
        if flags.contains(MountFlags::READ_ONLY) && target.mount.is_written() {
            return Err(Errno::EBUSY);
        }
        target.mount.change_flags(flags)?;
        if bind {
            return Ok(Flow::Done(0));
        }
        return cx.kernel.file_systems.reconfigure(cx.kernel, &target.mount, &data).map(Flow::from);
    }
    if flags & c::MS_BIND != 0 {
        let from = place(cx.task, &source.ok_or(Errno::EFAULT)?)?;
        namespace.bind(&from, &target, flags & c::MS_REC != 0)?;
        return Ok(Flow::Done(0));
    }
    if flags & PROPAGATION != 0 {
        let known = PROPAGATION | c::MS_REC | c::MS_SILENT;
        let to = propagation(flags & PROPAGATION)?;
        if flags & !known != 0 || !at_root || !namespace.shows(&target.mount) {
            return Err(Errno::EINVAL);
        }
        namespace.set_propagation(&target.mount, to, flags & c::MS_REC != 0);
        return Ok(Flow::Done(0));
    }
    if flags & c::MS_MOVE != 0 {
        let from = place(cx.task, &source.ok_or(Errno::EFAULT)?)?;
        namespace.shift(&from, &target)?;
        return Ok(Flow::Done(0));
    }
    let source = source.unwrap_or_else(|| b"none".to_vec());
    let made = made(cx, &kind.ok_or(Errno::EINVAL)?, &source, mount_flags(flags), data)?;
    namespace.mount(&made, &target)?;
    Ok(Flow::Done(0))
}

/// A mount, which isn't anywhere yet, of a new file system.
///
/// # Errors
/// `ENODEV`: there is no such type. `EPERM`: not for this task. What the type says of the options.
pub(super) fn made(cx: &Cx<'_>, kind: &[u8], source: &[u8], flags: MountFlags, data: Vec<u8>) -> Result<Arc<Mount>> {
    if !cx.kernel.file_systems.knows(kind) {
        return Err(Errno::ENODEV);
    }
    may_mount(cx.task, kind, flags)?;
    let data = translated(&cx.task.credentials(), kind, data)?;
    let making = Making { kernel: cx.kernel, task: Some(cx.task), source, data: &data };
    let made = cx.kernel.file_systems.mount(kind, flags, making)?;
    if shows_the_kernel(kind) && !cx.task.fs().lock().namespace.owner.is_first() {
        made.keep_read_only();
    }
    Ok(made)
}

fn unmount(cx: &mut Cx<'_>, [target, flags, ..]: Args) -> SysResult {
    let flags = flags as u32;
    if flags & !(c::MNT_FORCE | c::MNT_DETACH | c::MNT_EXPIRE | c::UMOUNT_NOFOLLOW) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = cx.task.mm().path(target)?;
    let lookup = if flags & c::UMOUNT_NOFOLLOW != 0 { Lookup::empty() } else { Lookup::FOLLOW };
    let place = walk::resolve(cx.task, c::AT_FDCWD, &path, lookup)?;
    privileged(cx.task)?;
    if flags & c::MNT_FORCE != 0 && !cx.task.credentials().has(c::CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let namespace = cx.task.fs().lock().namespace.clone();
    // What is only kept because it was used lately doesn't keep a mount busy, for dentries don't hold mounts.
    let how = match flags {
        flags if flags & c::MNT_EXPIRE != 0 && flags & (c::MNT_FORCE | c::MNT_DETACH) != 0 => return Err(Errno::EINVAL),
        flags if flags & c::MNT_EXPIRE != 0 => Unmounting::Unused,
        flags if flags & c::MNT_DETACH != 0 => Unmounting::Lazily,
        _ => Unmounting::Now,
    };
    namespace.unmount(place, how).map(Flow::from)
}

fn pivot_root(cx: &mut Cx<'_>, [new, put_old, ..]: Args) -> SysResult {
    privileged(cx.task)?;
    let mm = cx.task.mm();
    let (new, put_old) = (mm.path(new)?, mm.path(put_old)?);
    let directory = |path: &[u8]| walk::resolve(cx.task, c::AT_FDCWD, path, Lookup::FOLLOW | Lookup::DIRECTORY);
    let (new, put_old) = (directory(&new)?, directory(&put_old)?);
    let Context { namespace, root, .. } = cx.task.fs().lock().clone();
    let old = namespace.pivot(&root, &new, &put_old)?;
    // Whoever stood at the old root stands at the new one.
    let tasks: Vec<_> = cx.kernel.pids.lock().tasks().collect();
    for task in tasks {
        let fs = task.fs();
        let mut context = fs.lock();
        let Context { root, cwd, .. } = &mut *context;
        for place in [root, cwd] {
            if place.is(&old) {
                *place = new.clone();
            }
        }
    }
    Ok(Flow::Done(0))
}
