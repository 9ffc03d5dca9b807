//! Files without a name in memory: `memfd_create`.

use super::open::install;
use super::{Args, Cx, Entry, partial};
use crate::fs::tree::{Dentry, Path};
use crate::fs::{Description, File, Inode, Opening, tmpfs};
use crate::{Errno, SysResult};
use alloc::sync::Arc;
use insula_abi::Sysno;
use insula_abi::general as c;

pub(super) const CALLS: &[Entry] = &[partial(Sysno::memfd_create, "large pages are refused", memfd_create)];

const CLOEXEC: u32 = 1;
const ALLOW_SEALING: u32 = 2;
const NOEXEC_SEAL: u32 = 8;
const EXEC: u32 = 16;

/// The longest name: it is shown behind `memfd:`.
const NAME_MAX: usize = 249;

fn memfd_create(cx: &mut Cx<'_>, [name, flags, ..]: Args) -> SysResult {
    let flags = flags as u32;
    if flags & !(CLOEXEC | ALLOW_SEALING | NOEXEC_SEAL | EXEC) != 0 || flags & (NOEXEC_SEAL | EXEC) == NOEXEC_SEAL | EXEC {
        return Err(Errno::EINVAL);
    }
    let name = match cx.task.mm().string(name, NAME_MAX + 1) {
        Err(Errno::ENAMETOOLONG) => Err(Errno::EINVAL),
        outcome => outcome,
    }?;
    let (mode, seals) = match flags {
        flags if flags & NOEXEC_SEAL != 0 => (0o666, c::F_SEAL_EXEC),
        flags if flags & ALLOW_SEALING != 0 => (0o777, 0),
        _ => (0o777, c::F_SEAL_SEAL),
    };
    let credentials = cx.task.credentials();
    let root = cx.kernel.file_systems.anonymous(cx.kernel);
    let node = tmpfs::Node::anonymous(&root.0, mode, credentials.uid.fs, credentials.gid.fs, seals)?;
    let open_flags = c::O_RDWR | c::O_LARGEFILE;
    let file: Arc<dyn File> = node.clone().open(&Opening { task: cx.task, flags: open_flags })?;
    let dentry = Dentry::unnamed(&root.1.dentry, node, [b"memfd:", &*name].concat(), true);
    let place = Path { mount: root.1.mount, dentry };
    install(cx.task, Description::new(file, Some(place), open_flags), flags & CLOEXEC != 0)
}
