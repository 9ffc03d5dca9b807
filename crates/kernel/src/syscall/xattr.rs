//! Extended attributes, xattr(7): `getxattr setxattr listxattr removexattr`, each by path, by a link's own path, and by descriptor.

use super::open::real;
use super::{Args, Cx, Entry, full};
use crate::fs::tree::{Lookup, Path, access, walk};
use crate::fs::{FileType, notify};
use crate::task::Credentials;
use crate::{Errno, Flow, Result, SysResult};
use alloc::vec::Vec;
use insula_abi::Sysno;
use insula_abi::general as c;

pub(super) const CALLS: &[Entry] = &[
    full(Sysno::getxattr, |cx, args| by_path(cx, args, Lookup::FOLLOW).and_then(|place| get(cx, &place, args))),
    full(Sysno::lgetxattr, |cx, args| by_path(cx, args, Lookup::empty()).and_then(|place| get(cx, &place, args))),
    full(Sysno::fgetxattr, |cx, args| by_descriptor(cx, args).and_then(|place| get(cx, &place, args))),
    full(Sysno::setxattr, |cx, args| by_path(cx, args, Lookup::FOLLOW).and_then(|place| set(cx, &place, args))),
    full(Sysno::lsetxattr, |cx, args| by_path(cx, args, Lookup::empty()).and_then(|place| set(cx, &place, args))),
    full(Sysno::fsetxattr, |cx, args| by_descriptor(cx, args).and_then(|place| set(cx, &place, args))),
    full(Sysno::listxattr, |cx, args| by_path(cx, args, Lookup::FOLLOW).and_then(|place| list(cx, &place, args))),
    full(Sysno::llistxattr, |cx, args| by_path(cx, args, Lookup::empty()).and_then(|place| list(cx, &place, args))),
    full(Sysno::flistxattr, |cx, args| by_descriptor(cx, args).and_then(|place| list(cx, &place, args))),
    full(Sysno::removexattr, |cx, args| by_path(cx, args, Lookup::FOLLOW).and_then(|place| remove(cx, &place, args))),
    full(Sysno::lremovexattr, |cx, args| by_path(cx, args, Lookup::empty()).and_then(|place| remove(cx, &place, args))),
    full(Sysno::fremovexattr, |cx, args| by_descriptor(cx, args).and_then(|place| remove(cx, &place, args))),
];

/// The longest name (`XATTR_NAME_MAX`).
const NAME_MAX: usize = 255;
/// The longest value (`XATTR_SIZE_MAX`).
const SIZE_MAX: u64 = 65536;

fn by_path(cx: &Cx<'_>, [path, ..]: Args, lookup: Lookup) -> Result<Path> {
    let path = cx.task.mm().path(path)?;
    walk::resolve(cx.task, c::AT_FDCWD, &path, lookup)
}

fn by_descriptor(cx: &Cx<'_>, [fd, ..]: Args) -> Result<Path> {
    real(cx.task, fd as i32)?.path.clone().ok_or(Errno::EOPNOTSUPP)
}

/// An attribute's name.
fn name(cx: &Cx<'_>, address: u64) -> Result<Vec<u8>> {
    match cx.task.mm().string(address, NAME_MAX + 1) {
        Err(Errno::ENAMETOOLONG) => Err(Errno::ERANGE),
        Ok(name) if name.is_empty() => Err(Errno::ERANGE),
        outcome => outcome,
    }
}

/// Whether an attribute may be read, or changed.
fn allowed(credentials: &Credentials, place: &Path, name: &[u8], change: bool) -> Result<()> {
    if change {
        access::writable(place)?;
    }
    let denied = if change { Errno::EPERM } else { Errno::ENODATA };
    if name.starts_with(b"trusted.") {
        return if credentials.has(c::CAP_SYS_ADMIN) { Ok(()) } else { Err(denied) };
    }
    if name.starts_with(b"security.") {
        let capability = if name == b"security.capability" { c::CAP_SETFCAP } else { c::CAP_SYS_ADMIN };
        return if change && !credentials.has(capability) { Err(Errno::EPERM) } else { Ok(()) };
    }
    if name.starts_with(b"user.") {
        let attributes = place.inode().attributes()?;
        match attributes.file_type() {
            FileType::Regular => {}
            FileType::Directory => {
                let sticky = attributes.mode & c::S_ISVTX != 0;
                if change && sticky && !access::owns(credentials, &attributes) {
                    return Err(Errno::EPERM);
                }
            }
            // Permission bits of other kinds don't say who may use space for them.
            _ => return Err(denied),
        }
        return access::check(credentials, place.inode(), if change { access::WRITE } else { access::READ });
    }
    Err(Errno::EOPNOTSUPP)
}

/// Hands a value out, as far as there is room for all of it; or only its length.
fn answer(cx: &Cx<'_>, value: &[u8], to: u64, room: u64) -> SysResult {
    if room > 0 {
        if value.len() as u64 > room {
            return Err(Errno::ERANGE);
        }
        cx.task.mm().write(to, value)?;
    }
    Ok(value.len().into())
}

fn get(cx: &mut Cx<'_>, place: &Path, [_, name_at, to, room, ..]: Args) -> SysResult {
    let name = name(cx, name_at)?;
    allowed(&cx.task.credentials(), place, &name, false)?;
    let value = place.inode().xattr(&name)?;
    answer(cx, &value, to, room)
}

fn set(cx: &mut Cx<'_>, place: &Path, [_, name_at, from, len, flags, _]: Args) -> SysResult {
    let flags = flags as u32;
    let both = c::XATTR_CREATE | c::XATTR_REPLACE;
    if flags & !both != 0 || flags == both {
        return Err(Errno::EINVAL);
    }
    let name = name(cx, name_at)?;
    if len > SIZE_MAX {
        return Err(Errno::E2BIG);
    }
    let mut value = alloc::vec![0; len as usize];
    cx.task.mm().read(from, &mut value)?;
    allowed(&cx.task.credentials(), place, &name, true)?;
    place.inode().set_xattr(&name, &value, flags)?;
    notify::attributes(cx.task, place);
    Ok(Flow::Done(0))
}

fn list(cx: &mut Cx<'_>, place: &Path, [_, to, room, ..]: Args) -> SysResult {
    let names = match place.inode().xattrs() {
        // What knows of none has none.
        Err(Errno::EOPNOTSUPP) => Vec::new(),
        outcome => outcome?,
    };
    let trusted = cx.task.credentials().has(c::CAP_SYS_ADMIN);
    let mut all = Vec::new();
    for name in names.iter().filter(|name| trusted || !name.starts_with(b"trusted.")) {
        all.extend_from_slice(name);
        all.push(0);
    }
    answer(cx, &all, to, room)
}

fn remove(cx: &mut Cx<'_>, place: &Path, [_, name_at, ..]: Args) -> SysResult {
    let name = name(cx, name_at)?;
    allowed(&cx.task.credentials(), place, &name, true)?;
    place.inode().remove_xattr(&name)?;
    notify::attributes(cx.task, place);
    Ok(Flow::Done(0))
}
