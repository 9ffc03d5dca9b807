//! What a guest asks of a disk (section 5.2.6): read once from its memory, and checked then.

use super::disk::Disk;
use super::{MOST_DISCARD, MOST_ZEROES, SECTOR};
use crate::chain::Chain;
use insula_vm::memory::GuestMemory;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID,
    VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};

/// Type, a reserved field, and a sector lead each request.
pub(super) const HEADER: u32 = 16;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Status {
    Ok = VIRTIO_BLK_S_OK as u8,
    Error = VIRTIO_BLK_S_IOERR as u8,
    Unsupported = VIRTIO_BLK_S_UNSUPP as u8,
}

/// A request that can be carried out; offsets and lengths in bytes, within the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Read {
        offset: u64,
        length: u32,
    },
    Write {
        offset: u64,
        length: u32,
    },
    Flush,
    Discard {
        offset: u64,
        length: u64,
    },
    Zero {
        offset: u64,
        length: u64,
        unmap: bool,
    },
    /// Nothing is left to do but to say so.
    Done {
        status: Status,
        filled: bool,
    },
}

impl Request {
    /// What it counts for a limit of bytes.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Request::Read { length, .. } | Request::Write { length, .. } => u64::from(*length),
            _ => 0,
        }
    }

    /// Whether it fills all that lies before the status, if it succeeds.
    pub(super) fn fills(&self) -> bool {
        matches!(self, Request::Read { .. } | Request::Done { filled: true, .. })
    }
}

/// A request with the memory it came in.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) chain: Chain,
    pub(super) request: Request,
    /// Where in the writable bytes the status goes; none if there is no place for one.
    pub(super) status_at: Option<u32>,
}

/// Finds out what is asked. What is wrong becomes a request that is done, with its status.
pub(super) fn parse(chain: Chain, memory: &GuestMemory, disk: &Disk, serial: &[u8]) -> Job {
    let status_at = chain.writable().len().checked_sub(1);
    let done = |status| Request::Done { status, filled: false };
    let request = match (chain.readable().array::<{ HEADER as usize }>(memory, 0), status_at) {
        (Some(header), Some(data)) => look(&chain, memory, disk, serial, header, data).unwrap_or_else(done),
        _ => done(Status::Error),
    };
    Job { chain, request, status_at }
}

/// `room` is how many bytes lie before the status.
fn look(
    chain: &Chain,
    memory: &GuestMemory,
    disk: &Disk,
    serial: &[u8],
    header: [u8; HEADER as usize],
    room: u32,
) -> Result<Request, Status> {
    let (kind, sector) = (u32_at(&header, 0), u64_at(&header, 8));
    let given = chain.readable().len() - HEADER;
    match kind {
        VIRTIO_BLK_T_IN => Ok(Request::Read { offset: range(disk, sector, room)?, length: room }),
        // Section 5.2.6.2: not a byte is written to a read-only disk.
        VIRTIO_BLK_T_OUT | VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES if disk.read_only() => Err(Status::Error),
        VIRTIO_BLK_T_OUT => Ok(Request::Write { offset: range(disk, sector, given)?, length: given }),
        VIRTIO_BLK_T_FLUSH => Ok(Request::Flush),
        VIRTIO_BLK_T_GET_ID => {
            let count = (room as usize).min(serial.len());
            let written = chain.writable().write(memory, 0, &serial[..count]);
            Ok(Request::Done { status: Status::Ok, filled: written == room as usize })
        }
        VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES => segment(chain, memory, disk, kind),
        _ => Err(Status::Unsupported),
    }
}

/// Where a transfer of so many bytes starts, if it is whole sectors, and all within the disk.
fn range(disk: &Disk, sector: u64, bytes: u32) -> Result<u64, Status> {
    let sectors = u64::from(bytes) / SECTOR;
    let inside = sector.checked_add(sectors).is_some_and(|end| end <= disk.sectors());
    if !inside || u64::from(bytes) % SECTOR != 0 {
        return Err(Status::Error);
    }
    Ok(sector * SECTOR)
}

/// `struct virtio_blk_discard_write_zeroes`: a sector, how many, and flags.
fn segment(chain: &Chain, memory: &GuestMemory, disk: &Disk, kind: u32) -> Result<Request, Status> {
    if chain.readable().len() != HEADER + 16 {
        return Err(Status::Error);
    }
    let segment: [u8; 16] = chain.readable().array(memory, HEADER).ok_or(Status::Error)?;
    let (sector, sectors, flags) = (u64_at(&segment, 0), u32_at(&segment, 8), u32_at(&segment, 12));
    let zero = kind == VIRTIO_BLK_T_WRITE_ZEROES;
    let (most, known) = if zero { (MOST_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) } else { (MOST_DISCARD, 0) };
    if flags & !known != 0 {
        return Err(Status::Unsupported);
    }
    let end = sector.checked_add(u64::from(sectors));
    if sectors > most || end.is_none_or(|end| end > disk.sectors()) {
        return Err(Status::Error);
    }
    let (offset, length) = (sector * SECTOR, u64::from(sectors) * SECTOR);
    Ok(match zero {
        // The kernel refuses ranges of nothing.
        _ if length == 0 => Request::Done { status: Status::Ok, filled: false },
        true => Request::Zero { offset, length, unmap: flags != 0 },
        false => Request::Discard { offset, length },
    })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
