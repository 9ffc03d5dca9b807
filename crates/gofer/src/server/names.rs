//! Requests about names in directories.
//!
//! A name is one component, checked when the message was read; so no call here can leave its directory but by a symbolic link at the
//! very end, and none follows that.

use super::{Node, Outcome, Worker, attributes, attributes_at};
use crate::protocol::{Device, Id, Name, OpenFlags, Owner, Place, Reached, Step, TARGET_MOST};
use crate::wire::{List, Writer};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use std::sync::Arc;

/// How often the kernel may say that something was renamed just now.
const TRIES: usize = 16;

/// What the kernel shall hold beyond the check of names: nothing above the directory, no link of either kind.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS).union(ResolveFlags::NO_SYMLINKS);

/// Opens a name in a directory.
fn open_at(dir: &Node, name: Name<'_>, flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let tried = (0..TRIES).map(|_| rustix::fs::openat2(&dir.place, name.as_bytes(), flags, mode, BENEATH));
    tried.into_iter().find(|result| !matches!(result, Err(Errno::AGAIN))).unwrap_or(Err(Errno::AGAIN))
}

/// Opens a name in a directory as a place: nobody notices, whatever it is.
fn place_at(dir: &Node, name: Name<'_>) -> Result<OwnedFd, Errno> {
    open_at(dir, name, OFlags::PATH, Mode::empty())
}

/// The permissions in a mode.
fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}

impl Worker<'_> {
    pub(super) fn walk(
        &mut self,
        from: Id,
        steps: &List<'_, Step<'_>>,
        open: Option<OpenFlags>,
        out: &mut Writer<'_>,
    ) -> Outcome {
        // Cutting a file is for who may write it, which the asker can only know from the answer.
        if open.is_some_and(|flags| flags.contains(OpenFlags::TRUNC)) {
            return Err(Errno::INVAL);
        }
        let mut node = self.node(from)?;
        let mut stopped = 0;
        for step in steps.iter() {
            match self.step(&node, &step) {
                Ok((next, reached)) => {
                    out.put(&true);
                    out.put(&reached);
                    node = next;
                }
                Err(errno) => {
                    stopped = errno.raw_os_error() as u16;
                    break;
                }
            }
        }
        out.put(&false);
        out.put(&stopped);
        let opened = match open {
            Some(flags) if stopped == 0 => self.open_node(&node, flags).map(Some),
            _ => Ok(None),
        };
        out.put(&opened.as_ref().map_or_else(|errno| errno.raw_os_error() as u16, |_| 0));
        Ok(opened.unwrap_or(None))
    }

    fn step(&mut self, dir: &Node, step: &Step<'_>) -> Result<(Arc<Node>, Reached), Errno> {
        if let Some(known) = step.known.and_then(|id| self.node(id).ok()) {
            let attr = attributes_at(&dir.place, step.name.as_bytes(), AtFlags::empty())?;
            if known.is(&attr) {
                return Ok((known, Reached { new: None, attr }));
            }
        }
        let (node, found) = self.found(place_at(dir, step.name)?, dir.export)?;
        Ok((node, Reached { new: Some(found.node), attr: found.attr }))
    }

    pub(super) fn create(&mut self, at: &Place<'_>, flags: OpenFlags, mode: u32, owner: Owner, out: &mut Writer<'_>) -> Outcome {
        let dir = self.node(at.dir)?;
        self.become_owner(owner)?;
        let flags = open_flags(flags)? | OFlags::CREATE | OFlags::EXCL | OFlags::NOCTTY;
        let file = open_at(&dir, at.name, flags, permissions(mode))?;
        self.found_open(file, dir.export, out)
    }

    pub(super) fn create_unnamed(
        &mut self,
        dir: Id,
        flags: OpenFlags,
        mode: u32,
        owner: Owner,
        for_good: bool,
        out: &mut Writer<'_>,
    ) -> Outcome {
        let dir = self.node(dir)?;
        self.become_owner(owner)?;
        let for_good = if for_good { OFlags::EXCL } else { OFlags::empty() };
        let flags = open_flags(flags)? | OFlags::TMPFILE | for_good | OFlags::CLOEXEC;
        let file = rustix::fs::openat2(&dir.place, c".", flags, permissions(mode), BENEATH)?;
        self.found_open(file, dir.export, out)
    }

    /// A handle for a file that has just been made and is open.
    fn found_open(&mut self, file: OwnedFd, export: usize, out: &mut Writer<'_>) -> Outcome {
        let place = super::nodes::reopen(&file, OFlags::PATH)?;
        let (_, found) = self.found(place, export)?;
        out.put(&found);
        Ok(Some(file))
    }

    pub(super) fn make_dir(&mut self, at: &Place<'_>, mode: u32, owner: Owner, out: &mut Writer<'_>) -> Outcome {
        let dir = self.node(at.dir)?;
        self.become_owner(owner)?;
        rustix::fs::mkdirat(&dir.place, at.name.as_bytes(), permissions(mode))?;
        self.made(&dir, at.name, out)
    }

    pub(super) fn make_node(&mut self, at: &Place<'_>, mode: u32, device: Device, owner: Owner, out: &mut Writer<'_>) -> Outcome {
        let dir = self.node(at.dir)?;
        let kind = FileType::from_raw_mode(mode);
        let number = match kind {
            FileType::RegularFile | FileType::Fifo | FileType::Socket => 0,
            FileType::CharacterDevice | FileType::BlockDevice if self.export(&dir)?.devices => {
                rustix::fs::makedev(device.major, device.minor)
            }
            FileType::CharacterDevice | FileType::BlockDevice => return Err(Errno::PERM),
            _ => return Err(Errno::INVAL),
        };
        self.become_owner(owner)?;
        rustix::fs::mknodat(&dir.place, at.name.as_bytes(), kind, permissions(mode), number)?;
        self.made(&dir, at.name, out)
    }

    pub(super) fn make_link(&mut self, at: &Place<'_>, target: &[u8], owner: Owner, out: &mut Writer<'_>) -> Outcome {
        match target.len() {
            0 => return Err(Errno::NOENT),
            length if length > TARGET_MOST => return Err(Errno::NAMETOOLONG),
            _ => {}
        }
        let dir = self.node(at.dir)?;
        self.become_owner(owner)?;
        rustix::fs::symlinkat(target, &dir.place, at.name.as_bytes())?;
        self.made(&dir, at.name, out)
    }

    /// A handle for what a name stands for that has just been made. If somebody was quicker to replace it, that is what is there now.
    fn made(&mut self, dir: &Node, name: Name<'_>, out: &mut Writer<'_>) -> Outcome {
        let (_, found) = self.found(place_at(dir, name)?, dir.export)?;
        out.put(&found);
        Ok(None)
    }

    pub(super) fn link(&mut self, node: Id, at: &Place<'_>, out: &mut Writer<'_>) -> Outcome {
        let (node, dir) = (self.node(node)?, self.node(at.dir)?);
        let file = super::nodes::magic_link(&node.place);
        rustix::fs::linkat(CWD, file, &dir.place, at.name.as_bytes(), AtFlags::SYMLINK_FOLLOW)?;
        out.put(&attributes(&node.place)?);
        Ok(None)
    }

    pub(super) fn unlink(&mut self, at: &Place<'_>, directory: bool) -> Outcome {
        let dir = self.node(at.dir)?;
        let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        rustix::fs::unlinkat(&dir.place, at.name.as_bytes(), flags)?;
        Ok(None)
    }

    pub(super) fn rename(&mut self, from: &Place<'_>, to: &Place<'_>, flags: u32) -> Outcome {
        let flags = RenameFlags::from_bits_retain(flags);
        // A whiteout would be a device node.
        if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(flags) {
            return Err(Errno::INVAL);
        }
        let (old, new) = (self.node(from.dir)?, self.node(to.dir)?);
        rustix::fs::renameat_with(&old.place, from.name.as_bytes(), &new.place, to.name.as_bytes(), flags)?;
        Ok(None)
    }
}

/// The kernel's flags for a file that is made. It is empty already, and no directory.
fn open_flags(flags: OpenFlags) -> Result<OFlags, Errno> {
    if flags.contains(OpenFlags::DIRECTORY) {
        return Err(Errno::INVAL);
    }
    Ok(OFlags::from_bits_retain(flags.difference(OpenFlags::TRUNC).bits()))
}
