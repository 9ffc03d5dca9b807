//! Names of Unix sockets, and who has them.

use super::UnixSocket;
use crate::fs::tree::change::{self, Wanted};
use crate::fs::tree::{Lookup, access, walk};
use crate::fs::{FileType, Inode};
use crate::socket::{Address, NetSpace};
use crate::sync::Mutex;
use crate::task::Task;
use crate::{Errno, Result};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use insula_abi::general as c;
use insula_abi::net as n;

/// Bytes of the family, before the name.
const HEAD: usize = 2;
/// Bytes of `sun_path`.
const PATH: usize = 108;

/// A name that a program gives.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name<'a> {
    /// None yet: bind(2) is to find one.
    Any,
    /// A file.
    Path(&'a [u8]),
    /// Bytes.
    Abstract(&'a [u8]),
}

/// The name in an address.
///
/// # Errors
/// `EINVAL`: of another family, or of no possible length.
pub(super) fn parse(address: &Address) -> Result<Name<'_>> {
    let bytes = address.bytes();
    if address.family() != Some(n::AF_UNIX) || bytes.len() > HEAD + PATH {
        return Err(Errno::EINVAL);
    }
    match &bytes[HEAD..] {
        [] => Ok(Name::Any),
        name @ [0, ..] => Ok(Name::Abstract(name)),
        path => Ok(Name::Path(path.split(|byte| *byte == 0).next().unwrap_or_default())),
    }
}

fn address(name: &[u8]) -> Result<Address> {
    let mut bytes = (n::AF_UNIX as u16).to_ne_bytes().to_vec();
    bytes.extend_from_slice(name);
    Address::new(&bytes)
}

/// What a socket without a name is called.
pub(super) fn nameless() -> Address {
    Address::of(&(n::AF_UNIX as u16))
}

/// Whose file a name is; the inode stays while the socket lives, so that its number is nobody else's.
type File = (Weak<UnixSocket>, Arc<dyn Inode>);

/// Who has which name.
#[derive(Default)]
pub struct Names {
    files: Mutex<BTreeMap<(u64, u64), File>>,
}

/// Who has which name that is no file, in a namespace of networks.
#[derive(Default)]
pub struct Abstracts(Mutex<BTreeMap<Vec<u8>, Weak<UnixSocket>>>);

impl Abstracts {
    fn bind(&self, socket: &Arc<UnixSocket>, name: &[u8]) -> Result<()> {
        let mut names = self.0.lock();
        if names.contains_key(name) {
            return Err(Errno::EADDRINUSE);
        }
        names.insert(name.to_vec(), Arc::downgrade(socket));
        Ok(())
    }

    /// A name of five digits, as Linux chooses it.
    fn bind_any(&self, task: &Arc<Task>, socket: &Arc<UnixSocket>) -> Result<(Bound, Address)> {
        let mut seed = [0; 4];
        task.kernel().host.entropy.fill(&mut seed);
        let first = u32::from_ne_bytes(seed);
        for step in 0..1u32 << 20 {
            let name = format!("\0{:05x}", first.wrapping_add(step) & 0xf_ffff).into_bytes();
            if self.bind(socket, &name).is_ok() {
                let told = address(&name)?;
                return Ok((Bound::Abstract(name), told));
            }
        }
        Err(Errno::ENOSPC)
    }
}

/// A name that a socket has.
pub(super) enum Bound {
    Abstract(Vec<u8>),
    File(u64, u64),
}

impl Names {
    /// Gives a socket a name; answers also how it is told.
    ///
    /// # Errors
    /// `EADDRINUSE`: somebody has it. As mknod(2), for files.
    pub(super) fn bind(&self, task: &Arc<Task>, socket: &Arc<UnixSocket>, name: Name<'_>) -> Result<(Bound, Address)> {
        let abstracts = &socket.common.net.holds.abstracts;
        match name {
            Name::Any => abstracts.bind_any(task, socket),
            Name::Abstract(name) => {
                abstracts.bind(socket, name)?;
                Ok((Bound::Abstract(name.to_vec()), address(name)?))
            }
            Name::Path(path) => {
                let wanted = Wanted { mode: c::S_IFSOCK | socket.common.mode.load(Ordering::Relaxed), rdev: 0, target: &[] };
                let place = change::make(task, c::AT_FDCWD, path, &wanted).map_err(|errno| match errno {
                    Errno::EEXIST => Errno::EADDRINUSE,
                    errno => errno,
                })?;
                let inode = place.inode().clone();
                let (dev, ino) = inode.identity()?;
                self.files.lock().insert((dev, ino), (Arc::downgrade(socket), inode));
                let mut told = path.to_vec();
                told.push(0);
                Ok((Bound::File(dev, ino), address(&told)?))
            }
        }
    }

    /// A socket has its name no more.
    pub(super) fn release(&self, net: &NetSpace, bound: &Bound) {
        match bound {
            Bound::Abstract(name) => drop(net.holds.abstracts.0.lock().remove(name)),
            Bound::File(dev, ino) => {
                // The inode is dropped when no lock is held: it may end a file.
                let removed = self.files.lock().remove(&(*dev, *ino));
                drop(removed);
            }
        }
    }

    /// Who has a name, for a socket of this network; files are the same for all.
    ///
    /// # Errors
    /// `ECONNREFUSED`: nobody. `EINVAL`: it is none. `EACCES` and others, for files.
    pub(super) fn find(&self, net: &NetSpace, task: &Arc<Task>, name: &Name<'_>) -> Result<Arc<UnixSocket>> {
        match name {
            Name::Any => Err(Errno::EINVAL),
            Name::Abstract(name) => {
                let found = net.holds.abstracts.0.lock().get(*name).and_then(Weak::upgrade);
                found.ok_or(Errno::ECONNREFUSED)
            }
            Name::Path(path) => {
                let place = walk::resolve(task, c::AT_FDCWD, path, Lookup::FOLLOW)?;
                access::check_path(&task.credentials(), &place, access::WRITE)?;
                if place.inode().file_type() != FileType::Socket {
                    return Err(Errno::ECONNREFUSED);
                }
                let identity = place.inode().identity()?;
                let found = self.files.lock().get(&identity).and_then(|(socket, _)| socket.upgrade());
                found.ok_or(Errno::ECONNREFUSED)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart_by_their_first_byte() {
        let of = |name: &[u8]| address(name).expect("short");
        assert_eq!(parse(&of(b"")), Ok(Name::Any));
        assert_eq!(parse(&of(b"a/b\0rest")), Ok(Name::Path(b"a/b")));
        assert_eq!(parse(&of(b"\0a\0b")), Ok(Name::Abstract(b"\0a\0b")));
        assert_eq!(parse(&of(&[b'n'; PATH])), Ok(Name::Path(&[b'n'; PATH])));
        assert_eq!(parse(&of(&[b'n'; PATH + 1])), Err(Errno::EINVAL));
        assert_eq!(parse(&Address::new(&[1]).expect("short")), Err(Errno::EINVAL));
        assert_eq!(parse(&Address::new(&[2, 0, b'x']).expect("short")), Err(Errno::EINVAL));
    }
}
