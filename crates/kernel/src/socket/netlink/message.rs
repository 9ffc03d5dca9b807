//! Messages of netlink, and their attributes: netlink(7), rtnetlink(3).

use alloc::vec::Vec;
use insula_abi::netlink as l;

/// Bytes of `struct nlmsghdr`.
pub const HEAD: usize = 16;
/// Bytes of `struct rtattr`.
const ATTRIBUTE: usize = 4;

/// `NLM_F_*`.
#[allow(missing_docs)] // netlink(7) describes each.
pub mod flags {
    pub const REQUEST: u16 = 0x1;
    pub const MULTI: u16 = 0x2;
    pub const ACK: u16 = 0x4;
    pub const DUMP: u16 = 0x300;
    pub const EXCL: u16 = 0x200;
    pub const CREATE: u16 = 0x400;
    pub const CAPPED: u16 = 0x100;
}

/// A message that was received.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// What it is about.
    pub kind: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    /// By which the answer is known.
    pub sequence: u32,
    /// All of it, with its head.
    pub whole: &'a [u8],
}

impl<'a> Message<'a> {
    /// What comes after the head.
    pub fn body(&self) -> &'a [u8] {
        &self.whole[HEAD..]
    }

    /// Its attributes, after a structure of so many bytes.
    pub fn attributes(&self, after: usize) -> Attributes<'a> {
        Attributes(self.body().get(after..).unwrap_or(&[]))
    }
}

/// Messages in a row; what is no message ends them.
#[derive(Debug)]
pub struct Messages<'a>(pub &'a [u8]);

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let bytes = self.0;
        let len = word(bytes, 0)? as usize;
        if len < HEAD || len > bytes.len() {
            return None;
        }
        self.0 = bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Message { kind: half(bytes, 4)?, flags: half(bytes, 6)?, sequence: word(bytes, 8)?, whole: &bytes[..len] })
    }
}

/// Attributes in a row: what each is, and its bytes.
#[derive(Debug)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Those within another.
    pub fn within(bytes: &'a [u8]) -> Self {
        Attributes(bytes)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let bytes = self.0;
        let len = usize::from(half(bytes, 0)?);
        if len < ATTRIBUTE || len > bytes.len() {
            return None;
        }
        self.0 = bytes.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        // The upper two bits say how it is encoded.
        Some((half(bytes, 2)? & 0x3fff, &bytes[ATTRIBUTE..len]))
    }
}

/// A message that is being written.
#[derive(Debug)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// With a head, for the socket of `number`.
    pub fn new(kind: u16, flags: u16, sequence: u32, number: u32) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(number.to_ne_bytes());
        Writer(bytes)
    }

    /// With these bytes more.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// With one attribute more.
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend(((ATTRIBUTE + value.len()) as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.bytes(value)
    }

    /// With one attribute more, a number.
    pub fn number(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// All of it.
    pub fn finish(mut self) -> Vec<u8> {
        let len = self.0.len() as u32;
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0
    }
}

/// The end of several messages, and why there aren't more (0: those were all).
pub fn done(sequence: u32, number: u32, errno: i32) -> Vec<u8> {
    Writer::new(l::NLMSG_DONE as u16, flags::MULTI, sequence, number).bytes(&(-errno).to_ne_bytes()).finish()
}

/// An error (0 is none), with the message that it is about, or only its head if `capped`, or if there is none.
pub fn error(request: &Message<'_>, number: u32, errno: i32, capped: bool) -> Vec<u8> {
    let short = capped || errno == 0;
    let flags = if short { flags::CAPPED } else { 0 };
    let about = if short { &request.whole[..HEAD] } else { request.whole };
    Writer::new(l::NLMSG_ERROR as u16, flags, request.sequence, number).bytes(&(-errno).to_ne_bytes()).bytes(about).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_attributes_come_back_as_written() {
        let message = Writer::new(18, 5, 77, 3).bytes(&[1, 2, 3, 4]).attribute(3, b"lo\0").number(4, 9).finish();
        let both = [message.clone(), message].concat();
        let found: Vec<_> = Messages(&both).collect();
        assert_eq!((found.len(), found[1].kind, found[1].flags, found[1].sequence), (2, 18, 5, 77));
        let attributes: Vec<_> = found[0].attributes(4).collect();
        assert_eq!(attributes, [(3, &b"lo\0"[..]), (4, &9u32.to_ne_bytes()[..])]);
    }

    #[test]
    fn what_is_no_message_ends_them() {
        let good = Writer::new(18, 5, 77, 3).attribute(3, b"lo\0").finish();
        for len in 0..good.len() {
            assert_eq!(Messages(&good[..len]).count(), 0);
        }
        let mut chance = 1u64;
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..3 {
                chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (chance >> 33) as usize % bytes.len();
                bytes[at] = (chance >> 20) as u8;
            }
            for message in Messages(&bytes) {
                let found: usize = message.attributes(0).map(|(_, value)| value.len() + ATTRIBUTE).sum();
                assert!(found <= message.body().len());
            }
        }
    }
}
