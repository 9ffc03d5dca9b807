//! Messages as bytes. Source: D-Bus Specification, "Message Protocol".
//!
//! A message is a header (16 bytes of fixed fields, and an array of others), filled up to a multiple of 8 bytes, and a body. What we send
//! has the processor's own byte order; what comes has its sender's.

use std::io::{Error, ErrorKind, Read};
use zbus::Variant;
use zbus::wire::serialized::{Context, Data};
use zbus::wire::{Endian, NATIVE_ENDIAN};

/// A call of a method, without its body.
pub(crate) struct Call<'c> {
    pub(crate) destination: &'c str,
    pub(crate) path: &'c str,
    pub(crate) interface: &'c str,
    pub(crate) method: &'c str,
    /// The types of what the body holds.
    pub(crate) signature: &'c str,
}

// "Message Types" and "Header Fields".
const METHOD_CALL: u8 = 1;
pub(crate) const METHOD_RETURN: u8 = 2;
pub(crate) const ERROR: u8 = 3;
pub(crate) const SIGNAL: u8 = 4;
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;
const VERSION: u8 = 1;

/// The largest message that is read, in bytes. The protocol allows 128 MiB; nothing that is asked for here is larger than this.
const LONGEST: usize = 1 << 20;

/// A call as bytes; the body is aligned wherever it begins at a multiple of 8.
pub(crate) fn encode(call: &Call, serial: u32, body: &[u8]) -> Vec<u8> {
    let mut fields = Vec::new();
    // An array of structures: a code, and a variant (its type's signature, its value), aligned to 8 bytes each.
    let mut field = |code: u8, kind: u8, text: &str| {
        fields.resize(fields.len().next_multiple_of(8), 0);
        fields.extend([code, 1, kind, 0]);
        match kind {
            b'g' => fields.push(text.len() as u8),
            _ => fields.extend((text.len() as u32).to_ne_bytes()),
        }
        fields.extend(text.as_bytes());
        fields.push(0);
    };
    field(PATH, b'o', call.path);
    field(INTERFACE, b's', call.interface);
    field(MEMBER, b's', call.method);
    field(DESTINATION, b's', call.destination);
    if !call.signature.is_empty() {
        field(SIGNATURE, b'g', call.signature);
    }
    let order = if cfg!(target_endian = "little") { b'l' } else { b'B' };
    let mut message = vec![order, METHOD_CALL, 0, VERSION];
    for number in [body.len() as u32, serial, fields.len() as u32] {
        message.extend(number.to_ne_bytes());
    }
    message.extend(fields);
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend(body);
    message
}

/// The context of a body that we send.
pub(crate) fn own_context() -> Context {
    Context::new(NATIVE_ENDIAN, 0)
}

/// A message that came.
#[derive(Debug, Default)]
pub(crate) struct Message {
    /// Its type.
    pub(crate) kind: u8,
    /// The call it answers.
    pub(crate) reply_to: Option<u32>,
    /// The signal's name.
    pub(crate) member: String,
    /// The error's name.
    pub(crate) error: String,
    body: Vec<u8>,
    context: Option<Context>,
}

impl Message {
    /// Reads one; bytes that are no message are an error of kind [`ErrorKind::InvalidData`].
    pub(crate) fn read(from: &mut impl Read) -> std::io::Result<Message> {
        let mut bytes = vec![0; 16];
        from.read_exact(&mut bytes)?;
        let endian = match bytes[0] {
            b'l' => Endian::Little,
            b'B' => Endian::Big,
            _ => return Err(invalid("it has no byte order")),
        };
        let number = |at: usize| {
            let word: [u8; 4] = bytes[at..at + 4].try_into().unwrap_or_default();
            let number = if endian == Endian::Little { u32::from_le_bytes(word) } else { u32::from_be_bytes(word) };
            usize::try_from(number).ok().filter(|length| *length <= LONGEST).ok_or_else(|| invalid("it is too long"))
        };
        let (kind, body, fields) = (bytes[1], number(4)?, number(12)?);
        let header = (16 + fields).next_multiple_of(8);
        bytes.resize(header + body, 0);
        from.read_exact(&mut bytes[16..])?;
        let body = bytes.split_off(header);
        let context = Context::new(endian, 0);
        let mut message = Message { kind, body, context: Some(context), ..Message::default() };
        message.take_fields(&Data::new(bytes, context))?;
        Ok(message)
    }

    fn take_fields(&mut self, header: &Data) -> std::io::Result<()> {
        type Header<'h> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Variant<'h>)>);
        let (header, _): (Header, usize) = header.deserialize().map_err(invalid)?;
        for (code, value) in header.6 {
            match (code, value) {
                (MEMBER, Variant::Str(text)) => self.member = text.to_string(),
                (ERROR_NAME, Variant::Str(text)) => self.error = text.to_string(),
                (REPLY_SERIAL, Variant::U32(serial)) => self.reply_to = Some(serial),
                _ => {}
            }
        }
        Ok(())
    }

    /// The body as bytes, to be taken apart with a type.
    pub(crate) fn body(&self) -> Data<'_, 'static> {
        Data::new(self.body.as_slice(), self.context.unwrap_or_else(own_context))
    }

    /// The body's first string, as errors have it.
    pub(crate) fn text(&self) -> String {
        self.body().deserialize::<String>().map(|(text, _)| text).unwrap_or_default()
    }
}

fn invalid(problem: impl ToString) -> Error {
    Error::new(ErrorKind::InvalidData, problem.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Call =
        Call { destination: "org.example", path: "/a/b", interface: "org.example.I", method: "Do", signature: "su" };

    #[test]
    fn what_is_written_can_be_read() {
        let body = zbus::wire::to_bytes(own_context(), &("text", 7_u32)).unwrap();
        let bytes = encode(&CALL, 3, body.bytes());
        let message = Message::read(&mut bytes.as_slice()).unwrap();
        assert_eq!((message.kind, message.member.as_str()), (METHOD_CALL, "Do"));
        let body = message.body();
        assert_eq!(body.deserialize::<(String, u32)>().unwrap().0, ("text".to_owned(), 7));
    }

    #[test]
    fn a_message_cut_off_or_damaged_is_an_error_and_no_more() {
        let body = zbus::wire::to_bytes(own_context(), &("text", 7_u32)).unwrap();
        let whole = encode(&CALL, 3, body.bytes());
        for length in 0..whole.len() {
            assert!(Message::read(&mut &whole[..length]).is_err(), "cut off after {length}");
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                if let Ok(message) = Message::read(&mut damaged.as_slice()) {
                    let _ = message.text();
                }
            }
        }
    }

    #[test]
    fn a_message_of_a_gigabyte_is_not_waited_for() {
        let mut bytes = encode(&CALL, 3, &[]);
        bytes[4..8].copy_from_slice(&(1_u32 << 30).to_ne_bytes());
        assert_eq!(Message::read(&mut bytes.as_slice()).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
