//! The gofer's side: threads that answer, each with a socket of its own.
//!
//! | module | holds |
//! |---|---|
//! | [`confine`] | what the process gives up before it listens |
//! | [`calls`] | the system calls that are left |
//! | [`table`] | handles and the open places they stand for |
//! | [`names`] | requests about names in directories: looking up, making, removing, renaming |
//! | [`nodes`] | requests about one open place: opening, attributes, links |
//! | [`xattr`] | extended attributes |
//!
//! A thread reads a message, does what it asks, and answers; what it keeps between two messages is in the table, which all share. A
//! message that is none is answered by `EPROTO`.

pub(crate) mod calls;
pub(crate) mod confine;
mod names;
mod nodes;
mod table;
mod xattr;

use crate::protocol::{Attr, Device, Envelope, Found, Id, Owner, Request, Time};
use crate::socket;
use crate::wire::{Reader, Writer};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, StatxFlags, StatxTimestamp};
use rustix::io::Errno;
use std::sync::Arc;
pub(crate) use table::{Node, Table};

/// An answer's outcome: perhaps a descriptor to send along.
type Outcome = Result<Option<OwnedFd>, Errno>;

/// A tree that is served.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) root: Arc<Node>,
    pub(crate) shared: bool,
    pub(crate) devices: bool,
    pub(crate) pipes: bool,
    pub(crate) file_capabilities: bool,
}

/// What all threads share.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) exports: Vec<Served>,
    pub(crate) table: Table,
}

/// One thread's part.
pub(crate) struct Worker<'s> {
    server: &'s Server,
    /// In whose name this thread makes files at the moment.
    owner: Option<Owner>,
    /// Handles that the answer in the making tells of.
    fresh: Vec<Id>,
}

impl<'s> Worker<'s> {
    pub(crate) fn new(server: &'s Server) -> Worker<'s> {
        Worker { server, owner: None, fresh: Vec::with_capacity(64) }
    }

    /// Answers until the other end is closed or can't be reached.
    pub(crate) fn serve(&mut self, socket: &OwnedFd, [question, answer]: &mut [Box<[u8]>; 2]) {
        loop {
            let length = match socket::receive(socket, question) {
                Ok(0) | Err(_) => return,
                Ok(length) => length,
            };
            let sent = match question.get(..length).and_then(read) {
                Some(envelope) => {
                    self.server.table.remove(envelope.forget.iter());
                    match envelope.request {
                        Request::Nothing {} => Ok(()),
                        request => self.reply(socket, &request, answer),
                    }
                }
                None => fail(socket, Errno::PROTO),
            };
            if sent.is_err() {
                return;
            }
        }
    }

    /// Does what is asked and says how that went.
    fn reply(&mut self, socket: &OwnedFd, request: &Request<'_>, buffer: &mut [u8]) -> rustix::io::Result<()> {
        let mut out = Writer::new(buffer);
        out.put(&0_u16);
        let failed = match self.answer(request, &mut out) {
            Ok(descriptor) => {
                let message = out.finish().and_then(|length| buffer.get(..length));
                let sent = message.ok_or(Errno::MSGSIZE);
                match sent.and_then(|message| socket::send(socket, message, descriptor.as_ref().map(AsFd::as_fd))) {
                    Ok(()) => None,
                    Err(errno @ (Errno::PIPE | Errno::CONNRESET)) => return Err(errno),
                    Err(errno) => Some(errno),
                }
            }
            Err(errno) => Some(errno),
        };
        let fresh = std::mem::take(&mut self.fresh);
        let Some(errno) = failed else {
            self.fresh = fresh;
            self.fresh.clear();
            return Ok(());
        };
        // The asker won't know of them.
        self.server.table.remove(fresh.into_iter());
        fail(socket, errno)
    }

    fn answer(&mut self, request: &Request<'_>, out: &mut Writer<'_>) -> Outcome {
        match *request {
            Request::Nothing {} => Ok(None),
            Request::Attach { export } => self.attach(export, out),
            Request::Walk { from, steps, open } => self.walk(from, &steps, open, out),
            Request::Stat { node } => self.stat(node, out),
            Request::Open { node, flags } => self.open(node, flags),
            Request::Create { at, flags, mode, owner } => self.create(&at, flags, mode, owner, out),
            Request::CreateUnnamed { dir, flags, mode, owner, for_good } => {
                self.create_unnamed(dir, flags, mode, owner, for_good, out)
            }
            Request::MakeDir { at, mode, owner } => self.make_dir(&at, mode, owner, out),
            Request::MakeNode { at, mode, device, owner } => self.make_node(&at, mode, device, owner, out),
            Request::MakeLink { at, target, owner } => self.make_link(&at, target.0, owner, out),
            Request::Link { node, at } => self.link(node, &at, out),
            Request::Unlink { at, directory } => self.unlink(&at, directory),
            Request::Rename { from, to, flags } => self.rename(&from, &to, flags),
            Request::ReadLink { node } => self.read_link(node, out),
            Request::Change { node, owner, mode, size, times } => {
                self.change(node, &nodes::Changes { owner, mode, size, times }, out)
            }
            Request::StatFs { node } => self.stat_fs(node, out),
            Request::GetXattr { node, key } => self.get_xattr(node, key, out),
            Request::SetXattr { node, key, value, flags } => self.set_xattr(node, key, value.0, flags),
            Request::ListXattrs { node } => self.list_xattrs(node, out),
            Request::RemoveXattr { node, key } => self.remove_xattr(node, key),
        }
    }

    fn attach(&mut self, export: u32, out: &mut Writer<'_>) -> Outcome {
        let served = self.server.exports.get(export as usize).ok_or(Errno::NODEV)?;
        let attr = attributes(&served.root.place)?;
        let node = self.insert(Arc::clone(&served.root))?;
        out.put(&Found { node, attr });
        out.put(&served.shared);
        Ok(None)
    }

    fn node(&self, id: Id) -> Result<Arc<Node>, Errno> {
        self.server.table.get(id)
    }

    fn export(&self, node: &Node) -> Result<&'s Served, Errno> {
        self.server.exports.get(node.export).ok_or(Errno::NODEV)
    }

    fn insert(&mut self, node: Arc<Node>) -> Result<Id, Errno> {
        let id = self.server.table.insert(node)?;
        self.fresh.push(id);
        Ok(id)
    }

    /// A handle for what has been opened as a place.
    fn found(&mut self, place: OwnedFd, export: usize) -> Result<(Arc<Node>, Found), Errno> {
        let attr = attributes(&place)?;
        let node = Arc::new(Node::new(place, export, &attr));
        let found = Found { node: self.insert(Arc::clone(&node))?, attr };
        Ok((node, found))
    }

    /// Has this thread make files in somebody's name. Nothing else depends on it, as all capabilities stay.
    fn become_owner(&mut self, owner: Owner) -> Result<(), Errno> {
        if self.owner == Some(owner) {
            return Ok(());
        }
        if owner.uid == u32::MAX || owner.gid == u32::MAX {
            return Err(Errno::INVAL);
        }
        self.owner = None;
        insula_sys::process::set_fs_ids(owner.uid, owner.gid)?;
        self.owner = Some(owner);
        Ok(())
    }
}

fn read(message: &[u8]) -> Option<Envelope<'_>> {
    let mut reader = Reader::new(message);
    let envelope = reader.get().ok()?;
    reader.end().ok()?;
    Some(envelope)
}

fn fail(socket: &OwnedFd, errno: Errno) -> rustix::io::Result<()> {
    socket::send(socket, &(errno.raw_os_error() as u16).to_le_bytes(), None)
}

/// How an open file is.
fn attributes(file: impl AsFd) -> Result<Attr, Errno> {
    attributes_at(file, b"", AtFlags::EMPTY_PATH)
}

/// How a name in a directory is, or with `EMPTY_PATH` an open file.
fn attributes_at(dir: impl AsFd, name: &[u8], flags: AtFlags) -> Result<Attr, Errno> {
    let flags = flags | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let stat = rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
    let time = |time: StatxTimestamp| Time { seconds: time.tv_sec, nanoseconds: time.tv_nsec };
    let has_born = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
    Ok(Attr {
        device: Device { major: stat.stx_dev_major, minor: stat.stx_dev_minor },
        inode: stat.stx_ino,
        mode: stat.stx_mode.into(),
        links: stat.stx_nlink,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        special: Device { major: stat.stx_rdev_major, minor: stat.stx_rdev_minor },
        size: stat.stx_size,
        blocks: stat.stx_blocks,
        block_size: stat.stx_blksize,
        flags: stat.stx_attributes.bits(),
        accessed: time(stat.stx_atime),
        modified: time(stat.stx_mtime),
        changed: time(stat.stx_ctime),
        born: if has_born { time(stat.stx_btime) } else { Time { seconds: 0, nanoseconds: 0 } },
    })
}
