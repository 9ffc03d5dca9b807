//! What a console printed, on disk, up to a bound: two files that take turns. When one is full, the other is begun anew.
//!
//! Both are opened at the start, as who prints is a confined thread, which can't open any.

use insula_sys::error::{Context, describe};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// A log: two files.
pub struct Log {
    files: [OwnedFd; 2],
    /// Which is being written.
    turn: usize,
    length: u64,
    failure: Option<Errno>,
}

impl Log {
    /// Bytes of one file; so much of the end is kept at least, and twice as much at most.
    pub const FILE: u64 = 2 << 20;

    /// A new log in this directory, in two new files of these names.
    ///
    /// # Errors
    /// A file can't be made.
    pub fn new(dir: &OwnedFd, names: [&str; 2]) -> insula_sys::Result<Log> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = |name| rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o600)).on("make the console's log", name);
        let files = [create(names[0])?, create(names[1])?];
        Ok(Log { files, turn: 0, length: 0, failure: None })
    }

    /// In which order to read two files of these lengths: the older one first. Only one that has been full is ever left for the other.
    pub fn order(lengths: [u64; 2], first_is_newer: bool) -> [usize; 2] {
        let newer = match lengths.map(|length| length >= Log::FILE) {
            [true, false] if lengths[1] > 0 => 1,
            [true, false] | [false, _] => 0,
            [true, true] => usize::from(!first_is_newer),
        };
        [1 - newer, newer]
    }

    /// What can't be written is left out: a full disk is no reason for the guest to stop.
    pub(super) fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if let Err(errno) = self.step(&mut bytes) {
                self.failure.get_or_insert(errno);
                return;
            }
        }
    }

    fn step(&mut self, bytes: &mut &[u8]) -> rustix::io::Result<()> {
        if self.length >= Log::FILE {
            let other = 1 - self.turn;
            rustix::fs::ftruncate(&self.files[other], 0)?;
            (self.turn, self.length) = (other, 0);
        }
        let room = usize::try_from(Log::FILE - self.length).unwrap_or(usize::MAX).min(bytes.len());
        match rustix::io::write(&self.files[self.turn], &bytes[..room]) {
            Ok(written) => {
                self.length += written as u64;
                *bytes = &bytes[written..];
                Ok(())
            }
            Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.failure.map(|errno| format!("a part of the console's log couldn't be written: {}", describe(errno)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_end_is_kept_and_the_beginning_goes() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["log", "log.2"];
        let mut log = Log::new(&OwnedFd::from(fs::File::open(dir.path()).unwrap()), names).unwrap();
        let read = || {
            let files = names.map(|name| fs::read(dir.path().join(name)).unwrap());
            let lengths = files.each_ref().map(|file| file.len() as u64);
            assert!(lengths.iter().all(|length| *length <= Log::FILE));
            Log::order(lengths, false).map(|index| files[index].clone()).concat()
        };
        log.append(b"first");
        assert_eq!(read(), b"first");
        let part = vec![b'x'; 300_000];
        for number in 0..40_u8 {
            log.append(&part);
            log.append(&[b'0' + number]);
            let all: Vec<u8> = read().into_iter().filter(|byte| *byte != b'x').collect();
            assert!(all.is_sorted() || all.starts_with(b"first"), "{all:?}");
        }
        let all = read();
        assert!(all.len() as u64 >= Log::FILE && all.ends_with(b"W") && !all.contains(&b'0'));
        assert_eq!(log.failure(), None);
    }

    #[test]
    fn the_older_file_is_read_first() {
        let (full, part) = (Log::FILE, 5);
        let cases = [([0, 0], [1, 0]), ([part, 0], [1, 0]), ([full, 0], [1, 0]), ([full, part], [0, 1]), ([part, full], [1, 0])];
        for (lengths, order) in cases {
            assert_eq!([Log::order(lengths, true), Log::order(lengths, false)], [order; 2], "{lengths:?}");
        }
        assert_eq!([Log::order([full, full], true), Log::order([full, full], false)], [[1, 0], [0, 1]]);
    }
}
