//! Forms whose end only shows when they are unpacked: that is done here, to nowhere. It takes the time that the guest's kernel takes for it, and
//! for zstd, the usual form by now, there is no need to.

use super::{Flaw, Found, Outside};
use flate2::bufread::GzDecoder;
use lzma_rust2::{Action, LzmaReader, Status, XzStream};
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::os::unix::fs::FileExt;

/// Memory for the largest dictionary that xz's own settings ask for (64 MiB), twice; in KiB. What needs more is the kernel's to judge.
const MEMORY: u32 = 128 << 10;
/// How much is read, and unpacked, at once.
const CHUNK: usize = 64 << 10;

impl Outside<'_> {
    /// Where a member of gzip's ends.
    pub(super) fn gzip(&self, at: u64) -> Found<Option<u64>> {
        let mut packed = self.from(at);
        judge(to_nowhere(&mut GzDecoder::new(&mut packed)).map(|()| Some(place(&packed))))
    }

    /// Where a stream of xz's ends.
    pub(super) fn xz(&self, at: u64) -> Found<Option<u64>> {
        let mut packed = self.from(at);
        judge(xz_to_nowhere(&mut packed).map(|()| Some(place(&packed))))
    }

    /// A stream of LZMA's: whether it ends. Where, isn't known: its decoder may read a byte too many.
    pub(super) fn lzma(&self, at: u64) -> Found<Option<u64>> {
        let decoder = LzmaReader::new_mem_limit(self.from(at), MEMORY, None);
        judge(decoder.and_then(|mut decoder| to_nowhere(&mut decoder)).map(|()| None))
    }

    fn from(&self, at: u64) -> BufReader<At<'_>> {
        BufReader::with_capacity(CHUNK, At { file: self.file, at })
    }
}

/// A file, read from a place on.
struct At<'a> {
    file: &'a File,
    at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(bytes, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// How far a reader has come.
fn place(reader: &BufReader<At>) -> u64 {
    reader.get_ref().at - reader.buffer().len() as u64
}

/// What an attempt to unpack says of the file.
fn judge(unpacked: io::Result<Option<u64>>) -> Found<Option<u64>> {
    match unpacked {
        Ok(end) => Ok(end),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(Flaw::Short),
        // A decoder's errors have no number.
        Err(error) if error.raw_os_error().is_some() => Err(Flaw::Unread(error)),
        Err(_) => Ok(None),
    }
}

fn to_nowhere(decoder: &mut dyn Read) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match decoder.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A reader of the library's reads ahead; this takes no byte of what follows.
fn xz_to_nowhere(packed: &mut dyn BufRead) -> io::Result<()> {
    let mut stream = XzStream::new_mem_limit(false, MEMORY);
    let mut chunk = vec![0; CHUNK];
    loop {
        let bytes = match packed.fill_buf() {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            bytes => bytes?,
        };
        let action = if bytes.is_empty() { Action::Finish } else { Action::Run };
        let done = stream.process(bytes, &mut chunk, action)?;
        packed.consume(done.bytes_consumed);
        match done.status {
            Status::StreamEnd => return Ok(()),
            Status::Ok if action == Action::Finish && done.bytes_produced == 0 => return Err(ErrorKind::UnexpectedEof.into()),
            Status::Ok => {}
        }
    }
}
