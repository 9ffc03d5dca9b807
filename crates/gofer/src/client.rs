//! The sentry's side: calls that wait for their answer.
//!
//! A [`Handle`] is a place in an export; dropping it gives it back, without a trip: handles that are given back travel with the next
//! request. Any thread may call at any time. Errors are Linux's; `EIO` is also what everything gives once the gofer is lost.
//!
//! What was looked up stays true as long as nobody else changes the tree, so a sentry that has an export to itself asks once. For a shared
//! export each step of [`Handle::walk`] can say what was there last time: one trip checks a whole path, opens what it leads to, and
//! makes handles only for what has changed.

use crate::lines::{Lines, errno};
use crate::protocol::{
    Attr, Device, Envelope, FileSystem, Found, Id, Key, Name, NewOwner, OpenFlags, Owner, Place, Reached, Request, Step, Times,
};
use crate::wire::{Bytes, List, Malformed, Reader, Writer};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::sync::{Arc, Mutex, PoisonError};

/// Handles that are given back with one request, at most.
const FORGET_MOST: usize = 64;
/// Handles that wait for a request to travel with; more go by themselves.
const FORGET_LATER: usize = 512;

/// A connection with a gofer. Copies are the same connection.
#[derive(Clone, Debug)]
pub struct Client(Arc<Connection>);

/// A place in an export. Its methods take names of one component; see [`Name`](crate::Name).
#[derive(Debug)]
pub struct Handle {
    id: Id,
    gofer: Arc<Connection>,
}

/// The root of an export.
#[derive(Debug)]
pub struct Attached {
    /// Its handle.
    pub root: Handle,
    /// How it is.
    pub attr: Attr,
    /// Others may change the tree too, so what is known of it must be checked before it is used.
    pub shared: bool,
}

/// A step of a walk: a name, and what was there before, if anything is known.
pub type Known<'a> = (&'a [u8], Option<&'a Handle>);

/// How far a walk came.
#[derive(Debug)]
pub struct Walked {
    /// What each step has reached: a new handle, or none where what was known is still there; and how it is now.
    pub reached: Vec<(Option<Handle>, Attr)>,
    /// Why the next step failed, if not all succeeded. `ENOTDIR` may mean that the last one reached is a symbolic link.
    pub stopped: Option<Errno>,
}

/// What to change of a file, in this order; what is none stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change {
    /// Owner and group.
    pub owner: Option<NewOwner>,
    /// Permissions.
    pub mode: Option<u32>,
    /// Bytes.
    pub size: Option<u64>,
    /// Times; see [`Time`](crate::Time).
    pub times: Option<Times>,
}

impl Client {
    pub(crate) fn new(lines: Lines) -> Client {
        Client(Arc::new(Connection { lines, forgotten: Mutex::default() }))
    }

    /// The root of an export, by its place in the list that the gofer was made with.
    ///
    /// # Errors
    /// `ENODEV`: there are fewer. `EMFILE`: too many handles.
    pub fn attach(&self, export: u32) -> Result<Attached, Errno> {
        let (found, shared) = self.0.ask(&Request::Attach { export }, |answer, _| Ok((answer.get::<Found>()?, answer.get()?)))?;
        Ok(Attached { root: handle(&self.0, found.node), attr: found.attr, shared })
    }

    /// Whether the gofer has ended or has answered nonsense.
    pub fn is_lost(&self) -> bool {
        self.0.lines.is_lost()
    }

    /// The sockets, for tests that speak for themselves.
    #[doc(hidden)]
    pub fn into_sockets(self) -> Vec<OwnedFd> {
        Arc::try_unwrap(self.0).expect("no handle is left").lines.into_sockets()
    }
}

fn handle(gofer: &Arc<Connection>, id: Id) -> Handle {
    Handle { id, gofer: Arc::clone(gofer) }
}

impl Handle {
    /// Looks up names, one below the other, from this directory on. Symbolic links are reached, not followed.
    ///
    /// # Errors
    /// Of the attempt as a whole: `EINVAL`, `ENAMETOOLONG` for what is no name, `E2BIG` for more than 255.
    pub fn walk(&self, steps: &[Known<'_>]) -> Result<Walked, Errno> {
        self.walk_and(steps, None).map(|(walked, _)| walked)
    }

    /// Looks up names and opens what the last one is, in one trip. What was opened is none if the walk stopped; its flags may not cut
    /// the file, as only the answer tells who may write it.
    ///
    /// # Errors
    /// As [`Self::walk`]; inside, those of [`Self::open`].
    pub fn walk_open(&self, steps: &[Known<'_>], flags: OpenFlags) -> Result<(Walked, Result<Option<OwnedFd>, Errno>), Errno> {
        self.walk_and(steps, Some(flags))
    }

    fn walk_and(&self, steps: &[Known<'_>], open: Option<OpenFlags>) -> Result<(Walked, Result<Option<OwnedFd>, Errno>), Errno> {
        if steps.len() > List::<Step<'_>>::MOST {
            return Err(Errno::TOOBIG);
        }
        // Paths are short: the list lies on the stack, as a rule.
        let mut few = [Step { name: Name::PLACEHOLDER, known: None }; 16];
        let many: Vec<Step<'_>>;
        let list = match few.get_mut(..steps.len()) {
            Some(list) => {
                for (place, known) in list.iter_mut().zip(steps) {
                    *place = self.step(*known)?;
                }
                &*list
            }
            None => {
                many = steps.iter().map(|known| self.step(*known)).collect::<Result<_, Errno>>()?;
                &many
            }
        };
        let request = Request::Walk { from: self.id, steps: List::Values(list), open };
        self.gofer.ask(&request, |answer, descriptor| {
            let mut reached = Vec::with_capacity(steps.len());
            while answer.get()? {
                if reached.len() == steps.len() {
                    return Err(Malformed);
                }
                let Reached { new, attr } = answer.get()?;
                reached.push((new.map(|id| handle(&self.gofer, id)), attr));
            }
            let stopped = errno(answer.get()?);
            let opened = match errno(answer.get()?) {
                Some(errno) => Err(errno),
                None if open.is_some() && stopped.is_none() => descriptor.take().ok_or(Errno::MFILE).map(Some),
                None => Ok(None),
            };
            Ok((Walked { reached, stopped }, opened))
        })
    }

    fn step<'a>(&self, (name, known): Known<'a>) -> Result<Step<'a>, Errno> {
        let known = known.map(|handle| self.same(handle)).transpose()?;
        Ok(Step { name: Name::new(name)?, known })
    }

    /// How it is now.
    ///
    /// # Errors
    /// `EIO`: the gofer is lost, or the host's file system is.
    pub fn stat(&self) -> Result<Attr, Errno> {
        self.gofer.ask(&Request::Stat { node: self.id }, |answer, _| answer.get())
    }

    /// Opens it. Data then moves without the gofer.
    ///
    /// # Errors
    /// Those of open(2). `ENXIO` for a device, pipe or socket unless the export allows it; `ELOOP` for a symbolic link; `EMFILE` if
    /// this process has no descriptor left.
    pub fn open(&self, flags: OpenFlags) -> Result<OwnedFd, Errno> {
        self.gofer.ask(&Request::Open { node: self.id, flags }, |_, descriptor| Ok(descriptor.take()))?.ok_or(Errno::MFILE)
    }

    /// Makes a regular file in this directory, which must not be there yet, and opens it.
    ///
    /// # Errors
    /// Those of open(2) with `O_CREAT | O_EXCL`. With `EMFILE`, it may have been made.
    pub fn create(&self, name: &[u8], flags: OpenFlags, mode: u32, owner: Owner) -> Result<(Handle, Attr, OwnedFd), Errno> {
        self.made_and_opened(&Request::Create { at: self.place(name)?, flags, mode, owner })
    }

    /// Makes a regular file without a name in this directory's file system. It can get one by [`Self::link`], unless it is `for_good`.
    ///
    /// # Errors
    /// Those of open(2) with `O_TMPFILE`.
    pub fn create_unnamed(
        &self,
        flags: OpenFlags,
        mode: u32,
        owner: Owner,
        for_good: bool,
    ) -> Result<(Handle, Attr, OwnedFd), Errno> {
        self.made_and_opened(&Request::CreateUnnamed { dir: self.id, flags, mode, owner, for_good })
    }

    fn made_and_opened(&self, request: &Request<'_>) -> Result<(Handle, Attr, OwnedFd), Errno> {
        let (found, descriptor) =
            self.gofer.ask(request, |answer, descriptor| Ok((answer.get::<Found>()?, descriptor.take())))?;
        let handle = handle(&self.gofer, found.node);
        Ok((handle, found.attr, descriptor.ok_or(Errno::MFILE)?))
    }

    /// Makes a directory in this one.
    ///
    /// # Errors
    /// Those of mkdir(2).
    pub fn make_dir(&self, name: &[u8], mode: u32, owner: Owner) -> Result<(Handle, Attr), Errno> {
        self.made(&Request::MakeDir { at: self.place(name)?, mode, owner })
    }

    /// Makes a pipe, a socket's place, an empty file or a device in this directory; `mode` has type and permissions.
    ///
    /// # Errors
    /// Those of mknod(2); `EPERM` for a device unless the export allows it.
    pub fn make_node(&self, name: &[u8], mode: u32, device: Device, owner: Owner) -> Result<(Handle, Attr), Errno> {
        self.made(&Request::MakeNode { at: self.place(name)?, mode, device, owner })
    }

    /// Makes a symbolic link in this directory.
    ///
    /// # Errors
    /// Those of symlink(2).
    pub fn make_link(&self, name: &[u8], target: &[u8], owner: Owner) -> Result<(Handle, Attr), Errno> {
        self.made(&Request::MakeLink { at: self.place(name)?, target: Bytes(target), owner })
    }

    fn made(&self, request: &Request<'_>) -> Result<(Handle, Attr), Errno> {
        let found: Found = self.gofer.ask(request, |answer, _| answer.get())?;
        Ok((handle(&self.gofer, found.node), found.attr))
    }

    /// Gives a file one more name, in this directory; how the file is then.
    ///
    /// # Errors
    /// Those of link(2).
    pub fn link(&self, name: &[u8], file: &Handle) -> Result<Attr, Errno> {
        self.gofer.ask(&Request::Link { node: self.same(file)?, at: self.place(name)? }, |answer, _| answer.get())
    }

    /// Takes a file's name out of this directory.
    ///
    /// # Errors
    /// Those of unlink(2).
    pub fn unlink(&self, name: &[u8]) -> Result<(), Errno> {
        self.gofer.ask(&Request::Unlink { at: self.place(name)?, directory: false }, |_, _| Ok(()))
    }

    /// Removes an empty directory from this one.
    ///
    /// # Errors
    /// Those of rmdir(2).
    pub fn remove_dir(&self, name: &[u8]) -> Result<(), Errno> {
        self.gofer.ask(&Request::Unlink { at: self.place(name)?, directory: true }, |_, _| Ok(()))
    }

    /// Renames what has a name in this directory, to a name in that one; `flags` are `RENAME_NOREPLACE` or `RENAME_EXCHANGE`.
    ///
    /// # Errors
    /// Those of renameat2(2); `EXDEV` from export to export.
    pub fn rename(&self, name: &[u8], to: &Handle, new: &[u8], flags: u32) -> Result<(), Errno> {
        self.same(to)?;
        self.gofer.ask(&Request::Rename { from: self.place(name)?, to: to.place(new)?, flags }, |_, _| Ok(()))
    }

    /// What a symbolic link says.
    ///
    /// # Errors
    /// `EINVAL`: it is none.
    pub fn read_link(&self) -> Result<Vec<u8>, Errno> {
        self.bytes(&Request::ReadLink { node: self.id })
    }

    /// Changes attributes; how it is then. If one fails, those before it have been changed.
    ///
    /// # Errors
    /// Those of chown(2), chmod(2), truncate(2) and utimensat(2); `EOPNOTSUPP` for permissions of a symbolic link.
    pub fn change(&self, change: &Change) -> Result<Attr, Errno> {
        let Change { owner, mode, size, times } = *change;
        self.gofer.ask(&Request::Change { node: self.id, owner, mode, size, times }, |answer, _| answer.get())
    }

    /// How its file system is.
    ///
    /// # Errors
    /// Those of fstatfs(2).
    pub fn stat_fs(&self) -> Result<FileSystem, Errno> {
        self.gofer.ask(&Request::StatFs { node: self.id }, |answer, _| answer.get())
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// Those of getxattr(2); `ENODATA` for `trusted.*` and `security.*` but `security.capability`, `EOPNOTSUPP` for what isn't `user.*`.
    pub fn get_xattr(&self, key: &[u8]) -> Result<Vec<u8>, Errno> {
        self.bytes(&Request::GetXattr { node: self.id, key: Key::new(key)? })
    }

    /// Sets an extended attribute; `flags` are `XATTR_CREATE` or `XATTR_REPLACE`.
    ///
    /// # Errors
    /// Those of setxattr(2); `EPERM` for those that belong to the host.
    pub fn set_xattr(&self, key: &[u8], value: &[u8], flags: u32) -> Result<(), Errno> {
        if value.len() > crate::protocol::XATTR_MOST {
            return Err(Errno::TOOBIG);
        }
        let request = Request::SetXattr { node: self.id, key: Key::new(key)?, value: Bytes(value), flags };
        self.gofer.ask(&request, |_, _| Ok(()))
    }

    /// The names of all extended attributes, each with a NUL at its end.
    ///
    /// # Errors
    /// Those of listxattr(2).
    pub fn list_xattrs(&self) -> Result<Vec<u8>, Errno> {
        self.bytes(&Request::ListXattrs { node: self.id })
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// Those of removexattr(2); `EPERM` for those that belong to the host.
    pub fn remove_xattr(&self, key: &[u8]) -> Result<(), Errno> {
        self.gofer.ask(&Request::RemoveXattr { node: self.id, key: Key::new(key)? }, |_, _| Ok(()))
    }

    fn bytes(&self, request: &Request<'_>) -> Result<Vec<u8>, Errno> {
        self.gofer.ask(request, |answer, _| Ok(answer.get::<Bytes<'_>>()?.0.to_vec()))
    }

    fn place<'a>(&self, name: &'a [u8]) -> Result<Place<'a>, Errno> {
        Ok(Place { dir: self.id, name: Name::new(name)? })
    }

    /// The number of another handle, which must be the same gofer's.
    fn same(&self, other: &Handle) -> Result<Id, Errno> {
        if Arc::ptr_eq(&self.gofer, &other.gofer) { Ok(other.id) } else { Err(Errno::XDEV) }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.gofer.forget(self.id);
    }
}

/// A gofer, and the handles it doesn't know yet to be given back.
#[derive(Debug)]
struct Connection {
    lines: Lines,
    forgotten: Mutex<Vec<Id>>,
}

impl Connection {
    /// Asks, waits, and reads the answer.
    fn ask<T>(
        &self,
        request: &Request<'_>,
        read: impl FnOnce(&mut Reader<'_>, &mut Option<OwnedFd>) -> Result<T, Malformed>,
    ) -> Result<T, Errno> {
        self.lines.ask(|out| self.write(request, out), None, read)
    }

    fn write(&self, request: &Request<'_>, out: &mut Writer<'_>) {
        let mut few = [Id(0); FORGET_MOST];
        let forget = self.take_forgotten(&mut few);
        out.put(&Envelope { forget: List::Values(forget), request: *request });
    }

    fn take_forgotten<'f>(&self, few: &'f mut [Id; FORGET_MOST]) -> &'f [Id] {
        let mut forgotten = self.forgotten.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = forgotten.len().saturating_sub(FORGET_MOST);
        let mut count = 0;
        for (place, id) in few.iter_mut().zip(forgotten.drain(rest..)) {
            *place = id;
            count += 1;
        }
        few.get(..count).unwrap_or_default()
    }

    /// Notes that a handle isn't needed any more; the gofer hears of it later.
    fn forget(&self, id: Id) {
        let waiting = {
            let mut forgotten = self.forgotten.lock().unwrap_or_else(PoisonError::into_inner);
            forgotten.push(id);
            forgotten.len()
        };
        if waiting >= FORGET_LATER {
            self.forget_now();
        }
    }

    /// Sends what waits, without waiting for anything but the line.
    fn forget_now(&self) {
        while self.forgotten.lock().is_ok_and(|waiting| waiting.len() >= FORGET_MOST) {
            if self.lines.tell(|out| self.write(&Request::Nothing {}, out)).is_err() {
                return;
            }
        }
    }
}
