//! The header that leads every packet (section 5.10.6).

/// The host's address (section 5.10.4).
pub(super) const HOST: u64 = 2;
/// Bytes of a header.
pub(super) const HEADER: u32 = 44;
/// The only type: a stream (section 5.10.6, VIRTIO_VSOCK_TYPE_STREAM).
pub(super) const STREAM: u16 = 1;
/// The sender will receive no more (VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE).
pub(super) const NO_RECEIVE: u32 = 1;
/// The sender will send no more (VIRTIO_VSOCK_SHUTDOWN_F_SEND).
pub(super) const NO_SEND: u32 = 2;

/// What a packet is for (VIRTIO_VSOCK_OP_*).
pub(super) mod op {
    pub(crate) const REQUEST: u16 = 1;
    pub(crate) const RESPONSE: u16 = 2;
    pub(crate) const RESET: u16 = 3;
    pub(crate) const SHUTDOWN: u16 = 4;
    pub(crate) const DATA: u16 = 5;
    pub(crate) const CREDIT_UPDATE: u16 = 6;
    pub(crate) const CREDIT_REQUEST: u16 = 7;
}

/// `struct virtio_vsock_hdr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) source: u64,
    pub(super) target: u64,
    pub(super) source_port: u32,
    pub(super) target_port: u32,
    pub(super) length: u32,
    pub(super) kind: u16,
    pub(super) op: u16,
    pub(super) flags: u32,
    pub(super) buffer: u32,
    pub(super) forwarded: u32,
}

impl Header {
    pub(super) fn from_bytes(bytes: &[u8; HEADER as usize]) -> Header {
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]));
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|index| bytes[at + index]));
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Header {
            source: long(0),
            target: long(8),
            source_port: word(16),
            target_port: word(20),
            length: word(24),
            kind: half(28),
            op: half(30),
            flags: word(32),
            buffer: word(36),
            forwarded: word(40),
        }
    }

    pub(super) fn to_bytes(self) -> [u8; HEADER as usize] {
        let mut bytes = [0; HEADER as usize];
        bytes[..8].copy_from_slice(&self.source.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.target.to_le_bytes());
        for (at, word) in [(16, self.source_port), (20, self.target_port), (24, self.length)] {
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        bytes[28..30].copy_from_slice(&self.kind.to_le_bytes());
        bytes[30..32].copy_from_slice(&self.op.to_le_bytes());
        for (at, word) in [(32, self.flags), (36, self.buffer), (40, self.forwarded)] {
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}
