//! Headers of the guest's. All of it is hostile: what isn't there reads as none, and a none is a frame dropped.

use super::{Sum, flag};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Fields one after the other, the highest byte first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(field)
    }
}

/// The header of a packet, and where its payload lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ip {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    /// How far behind the start of the header the payload starts.
    pub(crate) start: usize,
    /// The payload's length.
    pub(crate) length: usize,
}

/// Reads the header at the start of `bytes`, which may hold less than the packet; `available` is how long the packet can be at most.
/// None for what isn't whole, and for fragments.
pub(crate) fn ip(bytes: &[u8], available: usize) -> Option<Ip> {
    match bytes.first()? >> 4 {
        4 => ipv4(bytes, available),
        6 => ipv6(bytes, available),
        _ => None,
    }
}

/// RFC 791 section 3.1.
fn ipv4(bytes: &[u8], available: usize) -> Option<Ip> {
    let start = usize::from(bytes.first()? & 15) * 4;
    let mut sum = Sum::default();
    sum.add(bytes.get(..start.max(20))?);
    let mut fields = Fields(bytes);
    fields.u16()?;
    let total = usize::from(fields.u16()?);
    fields.u16()?;
    let fragment = fields.u16()?;
    fields.u8()?;
    let protocol = fields.u8()?;
    fields.u16()?;
    let source = Ipv4Addr::from(fields.array::<4>()?).into();
    let destination = Ipv4Addr::from(fields.array::<4>()?).into();
    // More fragments, or not the first.
    let whole = fragment & 0x3fff == 0 && sum.checksum() == 0 && start >= 20 && total <= available;
    Some(Ip { source, destination, protocol, start, length: total.checked_sub(start).filter(|_| whole)? })
}

/// RFC 8200 sections 3 and 4.
fn ipv6(bytes: &[u8], available: usize) -> Option<Ip> {
    const HEADER: usize = 40;
    let mut fields = Fields(bytes);
    fields.u32()?;
    let mut length = usize::from(fields.u16()?);
    let mut protocol = fields.u8()?;
    fields.u8()?;
    let source = Ipv6Addr::from(fields.array::<16>()?).into();
    let destination = Ipv6Addr::from(fields.array::<16>()?).into();
    if length + HEADER > available {
        return None;
    }
    let mut start = HEADER;
    // Options for each hop or for the destination, and routing: they say nothing to us. A fragment's header (44) isn't among them.
    while let 0 | 43 | 60 = protocol {
        let mut header = Fields(bytes.get(start..)?);
        protocol = header.u8()?;
        let skipped = (usize::from(header.u8()?) + 1) * 8;
        length = length.checked_sub(skipped)?;
        start += skipped;
    }
    Some(Ip { source, destination, protocol, start, length })
}

/// The header of a TCP segment (RFC 9293 section 3.1), with the options of a SYN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tcp {
    pub(crate) source: u16,
    pub(crate) destination: u16,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    /// The header's length.
    pub(crate) start: usize,
    /// The largest segment that the sender takes.
    pub(crate) mss: Option<u16>,
    /// By how many bits its windows are to be shifted (RFC 7323 section 2).
    pub(crate) scale: Option<u8>,
}

impl Tcp {
    pub(crate) fn read(bytes: &[u8]) -> Option<Tcp> {
        let mut fields = Fields(bytes);
        let (source, destination) = (fields.u16()?, fields.u16()?);
        let (seq, ack) = (fields.u32()?, fields.u32()?);
        let start = usize::from(fields.u8()? >> 4) * 4;
        let (flags, window) = (fields.u8()?, fields.u16()?);
        let options = bytes.get(20..start)?;
        let mut tcp = Tcp { source, destination, seq, ack, flags, window, start, ..Tcp::default() };
        if flags & flag::SYN != 0 {
            tcp.options(options);
        }
        Some(tcp)
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// As far as they make sense.
    fn options(&mut self, options: &[u8]) -> Option<()> {
        let mut options = Fields(options);
        loop {
            match options.u8()? {
                0 => return None,
                1 => {}
                kind => {
                    let length = options.u8()?.checked_sub(2)?;
                    let mut value = Fields(options.bytes(length.into())?);
                    match (kind, length) {
                        (2, 2) => self.mss = value.u16(),
                        // RFC 7323 section 2.3: more than 14 means 14.
                        (3, 1) => self.scale = value.u8().map(|scale| scale.min(14)),
                        _ => {}
                    }
                }
            }
        }
    }
}

/// The header of a UDP datagram (RFC 768), whose payload starts after [`Udp::HEADER`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Udp {
    pub(crate) source: u16,
    pub(crate) destination: u16,
    /// With the header.
    pub(crate) length: usize,
    pub(crate) checksum: u16,
}

impl Udp {
    pub(crate) const HEADER: usize = 8;

    pub(crate) fn read(bytes: &[u8]) -> Option<Udp> {
        let mut fields = Fields(bytes);
        let (source, destination, length) = (fields.u16()?, fields.u16()?, fields.u16()?.into());
        Some(Udp { source, destination, length, checksum: fields.u16()? }).filter(|_| length >= Udp::HEADER)
    }
}
