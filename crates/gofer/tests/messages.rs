//! Messages are read as they were written, and bytes that nobody has written are no messages. Both ends read what a hostile one sends.

use insula_gofer::protocol::{Envelope, Found, Id, Key, LONGEST, NewOwner, Place, Reached, Request, Step};
use insula_gofer::wire::{Bytes, List, Malformed, Reader, Wire, Writer};
use insula_gofer::{Attr, Device, FileSystem, Name, OpenFlags, Owner, Time, Times};
use proptest::prelude::*;

/// Reads a value that is all of a message.
fn read<'a, T: Wire<'a>>(bytes: &'a [u8]) -> Result<T, Malformed> {
    let mut reader = Reader::new(bytes);
    let value = reader.get()?;
    reader.end().map(|()| value)
}

fn write<'a>(value: &impl Wire<'a>) -> Vec<u8> {
    let mut buffer = vec![0; LONGEST];
    let mut out = Writer::new(&mut buffer);
    out.put(value);
    let length = out.finish().expect("it fits");
    buffer.truncate(length);
    buffer
}

/// What was read, if anything, is written with the same bytes: there is one way to say a thing.
fn is_canonical<'a, T: Wire<'a>>(bytes: &'a [u8]) {
    if let Ok(value) = read::<T>(bytes) {
        assert_eq!(write(&value), bytes);
    }
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(4000))]

    #[test]
    fn any_bytes_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        is_canonical::<Envelope<'_>>(&bytes);
        is_canonical::<Request<'_>>(&bytes);
        is_canonical::<Reached>(&bytes);
        is_canonical::<Found>(&bytes);
        is_canonical::<FileSystem>(&bytes);
        is_canonical::<Bytes<'_>>(&bytes);
    }

    /// Small numbers are more often lengths, kinds and marks that make sense.
    #[test]
    fn any_small_bytes_can_be_read(bytes in proptest::collection::vec(0_u8..6, 0..80), kind in 0_u8..20) {
        let bytes = [&[0, kind], &bytes[..]].concat();
        is_canonical::<Envelope<'_>>(&bytes);
    }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn requests_arrive_as_they_were_sent(
        ids in proptest::collection::vec(any::<u64>(), 0..70),
        names in proptest::collection::vec("[^/\0]{3,60}", 1..40),
        (numbers, long) in (any::<[u32; 6]>(), any::<[i64; 3]>()),
        value in proptest::collection::vec(any::<u8>(), 0..500),
        flags in 0_u32..8,
        some in any::<bool>(),
    ) {
        let ids: Vec<Id> = ids.into_iter().map(Id).collect();
        let names: Vec<&[u8]> = names.iter().map(|name| &name.as_bytes()[..name.len().min(255)]).collect();
        let name = |index: usize| Name::new(names[index % names.len()]).unwrap();
        let at = Place { dir: Id(long[0].cast_unsigned()), name: name(0) };
        let to = Place { dir: Id(long[1].cast_unsigned()), name: name(1) };
        let steps: Vec<Step<'_>> = (0..names.len()).map(|index| Step { name: name(index), known: ids.get(index).copied() }).collect();
        let [uid, gid, mode, major, minor, nanoseconds] = numbers;
        let (owner, device, node) = (Owner { uid, gid }, Device { major, minor }, at.dir);
        let time = Time { seconds: long[2], nanoseconds };
        let new = NewOwner { uid: some.then_some(uid), gid: Some(gid) };
        let key = Key::new(names[0]).unwrap();
        let open = if some { OpenFlags::RDWR | OpenFlags::APPEND } else { OpenFlags::empty() };
        let times = some.then_some(Times { accessed: time, modified: time });
        let (forget, value) = (List::Values(&ids), Bytes(&value));
        for request in [
            Request::Nothing {},
            Request::Attach { export: uid },
            Request::Walk { from: node, steps: List::Values(&steps), open: some.then_some(open) },
            Request::Stat { node },
            Request::Open { node, flags: open },
            Request::Create { at, flags: open, mode, owner },
            Request::CreateUnnamed { dir: node, flags: open, mode, owner, for_good: some },
            Request::MakeDir { at, mode, owner },
            Request::MakeNode { at, mode, device, owner },
            Request::MakeLink { at, target: value, owner },
            Request::Link { node, at },
            Request::Unlink { at, directory: some },
            Request::Rename { from: at, to, flags },
            Request::ReadLink { node },
            Request::Change { node, owner: Some(new), mode: Some(mode), size: some.then_some(7), times },
            Request::StatFs { node },
            Request::GetXattr { node, key },
            Request::SetXattr { node, key, value, flags },
            Request::ListXattrs { node },
            Request::RemoveXattr { node, key },
        ] {
            let bytes = write(&Envelope { forget, request });
            prop_assert_eq!(read::<Envelope<'_>>(&bytes), Ok(Envelope { forget, request }));
            // None is the start of another.
            for length in (0..bytes.len()).step_by(3) {
                prop_assert_eq!(read::<Envelope<'_>>(&bytes[..length]), Err(Malformed));
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_not_sent_in_part() {
    let mut buffer = [0; 20];
    for length in 0..40 {
        let bytes = vec![1; length];
        let mut out = Writer::new(&mut buffer);
        out.put(&Bytes(&bytes));
        assert_eq!(out.finish(), (length + 4 <= 20).then_some(length + 4));
    }
    let many = [Id(1); 256];
    let mut buffer = vec![0; LONGEST];
    let mut out = Writer::new(&mut buffer);
    out.put(&List::Values(&many));
    assert_eq!(out.finish(), None);
}

#[test]
fn what_fills_in_place_cannot_claim_more() {
    let mut buffer = [0; 12];
    let mut out = Writer::new(&mut buffer);
    out.fill(100, |space| Ok::<_, ()>(space.len() + 50)).unwrap();
    let length = out.finish().unwrap();
    assert_eq!(read::<Bytes<'_>>(&buffer[..length]).unwrap().0.len(), 8);
}

#[test]
fn an_attribute_knows_its_kind() {
    let bytes = vec![0; 256];
    let mut reader = Reader::new(&bytes);
    let attr = Attr { mode: 0o100_644, ..reader.get().unwrap() };
    assert_eq!(attr.kind(), 0o100_000);
}
