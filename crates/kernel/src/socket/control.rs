//! Control data, cmsg(3): descriptors and credentials on their way, and what a network tells of a packet.

use crate::fs::Description;
use crate::mm::Mm;
use crate::task::Task;
use crate::{Errno, Result};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use insula_abi::general as c;
use insula_abi::net as n;
use insula_abi::socket::{Cmsghdr, SCM_MAX_FD, Ucred};
use insula_abi::zerocopy::{FromBytes, IntoBytes};

/// The most control data of one message (Linux: `net.core.optmem_max`).
const MOST: u64 = 128 << 10;

const HEAD: usize = size_of::<Cmsghdr>();

/// One item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// `SOL_*`.
    pub level: u32,
    /// What it is.
    pub kind: u32,
    /// Its bytes.
    pub data: Vec<u8>,
}

impl Item {
    /// An item with a structure.
    pub fn of<T: IntoBytes + insula_abi::zerocopy::Immutable>(level: u32, kind: u32, value: &T) -> Self {
        Item { level, kind, data: value.as_bytes().to_vec() }
    }
}

/// What goes along with a message.
#[derive(Default)]
pub struct Sent {
    /// Open files.
    pub rights: Vec<Arc<Description>>,
    /// Who the sender says it is; checked.
    pub credentials: Option<Ucred>,
    /// For the network.
    pub items: Vec<Item>,
}

/// Splits control data into its items.
///
/// # Errors
/// `EINVAL`: an item is longer than what there is, or too short for its own head.
pub fn parse(mut bytes: &[u8]) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    while bytes.len() >= HEAD {
        let (head, _) = Cmsghdr::read_from_prefix(bytes).map_err(|_| Errno::EINVAL)?;
        let len = usize::try_from(head.len).ok().filter(|len| (HEAD..=bytes.len()).contains(len)).ok_or(Errno::EINVAL)?;
        items.push(Item { level: head.level, kind: head.kind, data: bytes[HEAD..len].to_vec() });
        bytes = bytes.get(len.next_multiple_of(8)..).unwrap_or(&[]);
    }
    Ok(items)
}

impl Sent {
    /// Reads what a program sends along, and checks it. Sockets of `unix` carry descriptors.
    ///
    /// # Errors
    /// `ENOBUFS`: too much. `EINVAL`: it makes no sense. `EBADF`: a descriptor that isn't one. `EPERM`, `ESRCH`: credentials that aren't
    /// its own. `EFAULT`.
    pub fn read(task: &Arc<Task>, at: u64, len: u64, unix: bool) -> Result<Self> {
        if len > MOST {
            return Err(Errno::ENOBUFS);
        }
        let mut bytes = vec![0; len as usize];
        task.mm().read(at, &mut bytes)?;
        let mut sent = Sent::default();
        for item in parse(&bytes)? {
            match (item.level, item.kind) {
                (n::SOL_SOCKET, n::SCM_RIGHTS) if unix => sent.add_rights(task, &item.data)?,
                (n::SOL_SOCKET, n::SCM_CREDENTIALS) if unix => sent.credentials = Some(claimed(task, &item.data)?),
                (
                    n::SOL_SOCKET,
                    n::SCM_RIGHTS | n::SCM_CREDENTIALS | n::SO_MARK | n::SO_TIMESTAMPING | n::SO_PRIORITY | n::SO_TXTIME,
                ) if !unix => {}
                (n::SOL_SOCKET, _) => return Err(Errno::EINVAL),
                _ if unix => {}
                _ => sent.items.push(item),
            }
        }
        Ok(sent)
    }

    fn add_rights(&mut self, task: &Arc<Task>, data: &[u8]) -> Result<()> {
        let numbers = data.chunks_exact(4).map(|bytes| i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        if numbers.len() + self.rights.len() > SCM_MAX_FD {
            return Err(Errno::EINVAL);
        }
        for fd in numbers {
            self.rights.push(task.file(fd)?);
        }
        Ok(())
    }
}

/// Credentials as a program claims them.
fn claimed(task: &Arc<Task>, data: &[u8]) -> Result<Ucred> {
    let mut claimed = Ucred::read_from_bytes(data).map_err(|_| Errno::EINVAL)?;
    let own = task.credentials();
    claimed.pid = task.number_of(claimed.pid);
    (claimed.uid, claimed.gid) = (own.space.user(claimed.uid)?, own.space.group(claimed.gid)?);
    if claimed.pid != task.process.pid && !own.has_in(&task.process.space.owner(), c::CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let uid = [own.uid.real, own.uid.effective, own.uid.saved].contains(&claimed.uid) || own.has_own(c::CAP_SETUID);
    let gid = [own.gid.real, own.gid.effective, own.gid.saved].contains(&claimed.gid) || own.has_own(c::CAP_SETGID);
    if !uid || !gid {
        return Err(Errno::EPERM);
    }
    if claimed.pid != task.process.pid && task.kernel().pids.task(claimed.pid).is_none() {
        return Err(Errno::ESRCH);
    }
    Ok(claimed)
}

/// Writes control data to a program, item after item, as far as there is room.
pub struct Writer<'a> {
    mm: &'a Mm,
    at: u64,
    room: u64,
    /// Bytes that are used.
    pub used: u64,
    /// Whether something found no room (`MSG_CTRUNC`).
    pub cut: bool,
}

impl<'a> Writer<'a> {
    /// To `room` bytes at `at`.
    pub fn new(mm: &'a Mm, at: u64, room: u64) -> Self {
        Writer { mm, at, room: if at == 0 { 0 } else { room.min(i32::MAX as u64) }, used: 0, cut: false }
    }

    fn left(&self) -> u64 {
        self.room - self.used
    }

    fn advance(&mut self, len: u64) {
        self.used = (self.used + len.next_multiple_of(8)).min(self.room);
    }

    /// One item, cut to the room there is. Memory that isn't there is passed over, as Linux does.
    pub fn put(&mut self, level: u32, kind: u32, data: &[u8]) {
        if self.left() < HEAD as u64 {
            self.cut = true;
            return;
        }
        let mut len = (HEAD + data.len()) as u64;
        if len > self.left() {
            self.cut = true;
            len = self.left();
        }
        let mut bytes = Cmsghdr { len, level, kind }.as_bytes().to_vec();
        bytes.extend_from_slice(&data[..len as usize - HEAD]);
        if self.mm.write(self.at.wrapping_add(self.used), &bytes).is_ok() {
            self.advance(len);
        }
    }

    /// Open files, as descriptors of `task`; those that find no room are closed.
    pub fn put_rights(&mut self, task: &Arc<Task>, rights: Vec<Arc<Description>>, close_on_exec: bool) {
        let room = self.left().saturating_sub(HEAD as u64) / 4;
        let count = rights.len();
        let limit = task.process.limit(c::RLIMIT_NOFILE);
        let mut numbers: Vec<i32> = Vec::new();
        for description in rights.into_iter().take(usize::try_from(room).unwrap_or(usize::MAX)) {
            match task.descriptors().add(description, close_on_exec, 0, limit) {
                Ok(fd) => numbers.push(fd),
                Err(_) => break,
            }
        }
        self.cut |= numbers.len() < count;
        if numbers.is_empty() {
            return;
        }
        let data: Vec<u8> = numbers.iter().flat_map(|fd| fd.to_ne_bytes()).collect();
        let len = (HEAD + data.len()) as u64;
        let mut bytes = Cmsghdr { len, level: n::SOL_SOCKET, kind: n::SCM_RIGHTS }.as_bytes().to_vec();
        bytes.extend_from_slice(&data);
        match self.mm.write(self.at.wrapping_add(self.used), &bytes) {
            Ok(()) => self.advance(len),
            // Nobody would know of them.
            Err(_) => numbers.iter().for_each(|fd| drop(task.descriptors().take(*fd))),
        }
    }
}
