//! Questions for names, and answers. Source: RFC 1035 section 4, RFC 3596.
//!
//! Only what stands in the question is looked at: what comes from a container, or from a resolver, is passed on as it came or left.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const HEADER: usize = 12;
/// RFC 1035 section 2.3.4.
const LONGEST_NAME: usize = 255;
const LONGEST_LABEL: usize = 63;
/// The answer's name is the question's, which begins behind the header (RFC 1035 section 4.1.4).
const SAME_NAME: [u8; 2] = [0xc0, HEADER as u8];
const IN: u16 = 1;
const ANY_CLASS: u16 = 255;

/// Kinds of records.
mod kind {
    pub(super) const A: u16 = 1;
    pub(super) const PTR: u16 = 12;
    pub(super) const AAAA: u16 = 28;
    pub(super) const ANY: u16 = 255;
}

/// What an answer says of how it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Here it is, or there is no record of that kind.
    Fine = 0,
    /// The question isn't understood.
    Malformed = 1,
    /// Nobody who could be asked answers.
    Failed = 2,
    /// There is no such name.
    NoName = 3,
    /// That isn't done here.
    Unknown = 4,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    /// In lower case, without a dot at the end.
    pub(crate) name: String,
    kind: u16,
    class: u16,
    /// Where it ends in the message.
    end: usize,
}

/// What is known of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// These addresses.
    Addresses(Vec<IpAddr>),
    /// The name of an address.
    Name(String),
    /// That there is none.
    Nobody,
}

/// The question in a message; or how to answer what is none. Nothing, if an answer could do harm: what is an answer itself, or has no header.
pub(crate) fn question(message: &[u8]) -> Option<Result<Question, Code>> {
    let header = message.get(..HEADER)?;
    let answer = header[2] & 0x80 != 0;
    if answer {
        return None;
    }
    let operation = header[2] >> 3 & 0xf;
    if operation != 0 {
        return Some(Err(Code::Unknown));
    }
    let questions = u16::from_be_bytes([header[4], header[5]]);
    Some(if questions == 1 { read_question(message).ok_or(Code::Malformed) } else { Err(Code::Malformed) })
}

fn read_question(message: &[u8]) -> Option<Question> {
    let mut name = String::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        // A pointer would lead to what stands before, where no name is.
        if length > LONGEST_LABEL || name.len() + length >= LONGEST_NAME {
            return None;
        }
        let label = message.get(at..at + length)?;
        if !name.is_empty() {
            name.push('.');
        }
        // A byte that is no letter of ours, or a dot in a label, is in no name that is known here.
        name.extend(
            label.iter().map(|byte| {
                if byte.is_ascii_graphic() && *byte != b'.' { byte.to_ascii_lowercase() as char } else { '\u{fffd}' }
            }),
        );
        at += length;
    }
    let [a, b, c, d] = *message.get(at..at + 4)? else { return None };
    Some(Question { name, kind: u16::from_be_bytes([a, b]), class: u16::from_be_bytes([c, d]), end: at + 4 })
}

impl Question {
    /// The address whose name is asked for, if it is such a question (RFC 1035 section 3.5, RFC 3596 section 2.5).
    pub(crate) fn address(&self) -> Option<IpAddr> {
        if let Some(reversed) = self.name.strip_suffix(".in-addr.arpa") {
            let parts: Vec<u8> = reversed.split('.').rev().map(|part| part.parse().ok()).collect::<Option<_>>()?;
            return Some(Ipv4Addr::from(<[u8; 4]>::try_from(parts).ok()?).into());
        }
        let reversed = self.name.strip_suffix(".ip6.arpa")?;
        let digit = |part: &str| if part.len() == 1 { u128::from_str_radix(part, 16).ok() } else { None };
        let digits: Vec<u128> = reversed.split('.').rev().map(digit).collect::<Option<_>>()?;
        (digits.len() == 32).then(|| Ipv6Addr::from(digits.iter().fold(0, |all, digit| all << 4 | digit)).into())
    }

    fn wants(&self, kind: u16) -> bool {
        (self.kind == kind || self.kind == kind::ANY) && [IN, ANY_CLASS].contains(&self.class)
    }

    /// An answer to this, which is the question of this message.
    pub(crate) fn answer(&self, message: &[u8], known: &Known) -> Vec<u8> {
        let mut records: Vec<(u16, Vec<u8>)> = Vec::new();
        match known {
            Known::Addresses(addresses) => records.extend(addresses.iter().filter_map(|address| match address {
                IpAddr::V4(address) => self.wants(kind::A).then(|| (kind::A, address.octets().to_vec())),
                IpAddr::V6(address) => self.wants(kind::AAAA).then(|| (kind::AAAA, address.octets().to_vec())),
            })),
            Known::Name(name) => records.extend(self.wants(kind::PTR).then(|| (kind::PTR, written(name)))),
            Known::Nobody => {}
        }
        let code = if *known == Known::Nobody { Code::NoName } else { Code::Fine };
        let mut answer = header(message, code, 1, records.len() as u16);
        answer.extend_from_slice(&message[HEADER..self.end]);
        for (kind, data) in records {
            answer.extend(SAME_NAME);
            answer.extend(kind.to_be_bytes());
            answer.extend(IN.to_be_bytes());
            // Not to be kept: the next of the name has another address.
            answer.extend(0_u32.to_be_bytes());
            answer.extend((data.len() as u16).to_be_bytes());
            answer.extend(data);
        }
        answer
    }
}

/// An answer that only says how it went; `message` has a header.
pub(crate) fn refusal(message: &[u8], code: Code) -> Vec<u8> {
    header(message, code, 0, 0)
}

/// Whether a message may be the answer to another: a resolver's word on what was asked.
pub(crate) fn answers(message: &[u8], asked: &[u8]) -> bool {
    let Some(Ok(question)) = question(asked) else { return false };
    let same = |range: std::ops::Range<usize>| message.get(range.clone()).is_some_and(|part| Some(part) == asked.get(range));
    let is_answer = message.get(2).is_some_and(|flags| flags & 0x80 != 0);
    is_answer && same(0..2) && same(4..6) && same_question(message, asked, question.end)
}

/// Case is the resolver's choice.
fn same_question(message: &[u8], asked: &[u8], end: usize) -> bool {
    message.get(HEADER..end).is_some_and(|part| part.eq_ignore_ascii_case(&asked[HEADER..end]))
}

fn header(message: &[u8], code: Code, questions: u16, answers: u16) -> Vec<u8> {
    let mut header = Vec::with_capacity(64);
    header.extend_from_slice(&message[..2]);
    // An answer, as authority, with the operation and the wish for recursion as they came; and recursion is to be had.
    header.push(0x80 | 0x04 | message[2] & 0x79);
    header.push(0x80 | code as u8);
    for count in [questions, answers, 0, 0] {
        header.extend(count.to_be_bytes());
    }
    header
}

/// A name as labels.
fn written(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(LONGEST_LABEL)];
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label);
    }
    bytes.push(0);
    bytes
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn ask(name: &str, kind: u16) -> Vec<u8> {
        let mut message = vec![0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend(written(name));
        message.extend(kind.to_be_bytes());
        message.extend(IN.to_be_bytes());
        message
    }

    fn asked(message: &[u8]) -> Question {
        question(message).unwrap().unwrap()
    }

    #[test]
    fn a_question_is_read() {
        let message = ask("Web.Example", kind::A);
        let question = asked(&message);
        assert_eq!((question.name.as_str(), question.kind, question.end), ("web.example", kind::A, message.len()));
    }

    #[test]
    fn an_answer_has_the_records_that_are_asked_for() {
        let known = Known::Addresses(vec!["10.83.0.5".parse().unwrap(), "fd69::5".parse().unwrap()]);
        let message = ask("web", kind::A);
        let answer = asked(&message).answer(&message, &known);
        assert_eq!(answer[..12], [0x12, 0x34, 0x85, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(answer[message.len()..], [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 10, 83, 0, 5]);
        for (kind, records) in [(kind::AAAA, 1), (kind::ANY, 2), (15, 0)] {
            let message = ask("web", kind);
            let answer = asked(&message).answer(&message, &known);
            assert_eq!((answer[3] & 15, answer[7]), (0, records), "{kind}");
        }
        let answer = asked(&message).answer(&message, &Known::Nobody);
        assert_eq!((answer[3] & 15, answer[7]), (Code::NoName as u8, 0));
    }

    #[test]
    fn an_address_is_read_from_its_name() {
        let message = ask("5.0.83.10.in-addr.arpa", kind::PTR);
        assert_eq!(asked(&message).address(), Some("10.83.0.5".parse().unwrap()));
        let answer = asked(&message).answer(&message, &Known::Name("web".into()));
        assert_eq!(answer[answer.len() - 7..], [0, 5, 3, b'w', b'e', b'b', 0]);
        let six = "5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.c.6.5.7.3.7.e.6.9.6.d.f.ip6.arpa";
        assert_eq!(asked(&ask(six, kind::PTR)).address(), Some("fd69:6e73:756c:1::5".parse().unwrap()));
        for name in ["0.83.10.in-addr.arpa", "256.0.0.10.in-addr.arpa", "1.ip6.arpa", "web", "in-addr.arpa"] {
            assert_eq!(asked(&ask(name, kind::PTR)).address(), None, "{name}");
        }
    }

    #[test]
    fn what_is_no_question_is_refused_or_left() {
        let message = ask("web", kind::A);
        let changed = |at: usize, byte: u8| {
            let mut message = message.clone();
            message[at] = byte;
            question(&message)
        };
        assert_eq!(changed(2, 0x81), None, "an answer");
        assert_eq!(changed(2, 0x28), Some(Err(Code::Unknown)), "an update");
        assert_eq!(changed(5, 0), Some(Err(Code::Malformed)), "no question");
        assert_eq!(changed(5, 2), Some(Err(Code::Malformed)), "two");
        assert_eq!(changed(12, 0xc0), Some(Err(Code::Malformed)), "a pointer");
        assert_eq!(question(&message[..11]), None, "no header");
        assert_eq!(question(&message[..message.len() - 1]), Some(Err(Code::Malformed)), "cut off");
    }

    #[test]
    fn an_answer_is_known_by_its_question() {
        let message = ask("web.example", kind::A);
        let mut answer = message.clone();
        answer[2] |= 0x80;
        answer[13] = b'W';
        assert!(answers(&answer, &message));
        for (at, byte) in [(0, 9), (2, 0), (14, b'x'), (5, 0)] {
            let mut other = answer.clone();
            other[at] = byte;
            assert!(!answers(&other, &message), "{at}");
        }
        assert!(!answers(&answer[..20], &message) && !answers(&[], &message));
    }

    proptest! {
        #[test]
        fn nothing_from_outside_is_trusted(bytes in proptest::collection::vec(any::<u8>(), 0..600), good in "[a-z.]{0,40}") {
            if let Some(Ok(question)) = question(&bytes) {
                let answer = question.answer(&bytes, &Known::Addresses(vec![Ipv4Addr::LOCALHOST.into()]));
                prop_assert!(answer.len() <= bytes.len() + 32);
                let _ = question.address();
            }
            let asked = ask(&good, kind::A);
            let _ = answers(&bytes, &asked);
            prop_assert!(matches!(question(&asked), Some(Ok(_))));
        }
    }
}
