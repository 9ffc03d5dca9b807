//! Files: blocks read and written in order and at random, through the page cache and past it, and the life of many small files.
//!
//! All rows of a place share one test file. Its content depends on the offset only, so that a read can be checked and any write
//! leaves it as it was.

use super::{Samples, Trouble, check};
use crate::clock::{per_operation, rate, time};
use memmap2::MmapMut;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

const FILE: u64 = 32 << 20;
const BLOCK: usize = 128 * 1024;
const SMALL: usize = 4096;
const NAME: &str = "workload-file";
/// Files alive at once in the `files` row.
const BATCH: u64 = 64;

/// A directory under test.
pub(super) struct Place<'a> {
    dir: Option<&'a Path>,
    option: &'static str,
    file: Option<TestFile>,
}

/// The test file's path; unlinked when dropped, which also spares the disk what has not yet been written back.
struct TestFile(PathBuf);

impl Drop for TestFile {
    fn drop(&mut self) {
        let _ = rustix::fs::unlink(&self.0);
    }
}

impl<'a> Place<'a> {
    pub(super) fn new(dir: Option<&'a Path>, option: &'static str) -> Self {
        Place { dir, option, file: None }
    }

    pub(super) fn run(&mut self, kind: &str, seconds: f64) -> Samples {
        let dir = self.dir.ok_or_else(|| Trouble::Unsupported(format!("no directory given ({})", self.option)))?;
        if kind == "files" {
            return files(dir, seconds);
        }
        if self.file.is_none() {
            self.file = Some(prepare(dir)?);
        }
        let Some(TestFile(path)) = &self.file else { return Err(Trouble::Unsupported("no test file".into())) };
        let (kind, flag) = match kind.strip_suffix("-direct") {
            Some(kind) => (kind, OFlags::DIRECT),
            None => (kind, OFlags::empty()),
        };
        let file = open(path, flag)?;
        match kind {
            "seq-read" => blocks(&file, seconds, BLOCK, in_order, read),
            "seq-write" => blocks(&file, seconds, BLOCK, in_order, write),
            "rand-read" => blocks(&file, seconds, SMALL, at_random, read),
            "rand-write" => blocks(&file, seconds, SMALL, at_random, write),
            other => Err(Trouble::Unsupported(format!("no disk row {other}"))),
        }
    }
}

fn open(path: &Path, flag: OFlags) -> Result<OwnedFd, Trouble> {
    match rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC | flag, Mode::empty()) {
        Err(Errno::INVAL) if flag.contains(OFlags::DIRECT) => {
            Err(Trouble::Unsupported("the file system here knows no O_DIRECT".into()))
        }
        other => other.map_err(Trouble::at(format!("open {}", path.display()))),
    }
}

/// The content of the file at every multiple of [`BLOCK`]. Page-aligned, as `O_DIRECT` wants it.
fn pattern() -> Result<MmapMut, Trouble> {
    let mut map = MmapMut::map_anon(BLOCK).map_err(Trouble::at("map a buffer"))?;
    for (i, word) in map.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&(i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    }
    Ok(map)
}

/// Writes the test file and has it on the disk, so that what is later read past the cache is really there.
fn prepare(dir: &Path) -> Result<TestFile, Trouble> {
    let path = dir.join(NAME);
    let content = pattern()?;
    let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC;
    let fd =
        rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(Trouble::at(format!("create {}", path.display())))?;
    let file = TestFile(path);
    for at in (0..FILE).step_by(BLOCK) {
        write(&fd, &mut [], &content, at)?;
    }
    rustix::fs::fsync(&fd).map_err(Trouble::at("fsync"))?;
    Ok(file)
}

/// An operation on one block at an offset; the first buffer is its own, the second is what the block should hold.
type Operation = fn(&OwnedFd, &mut [u8], &[u8], u64) -> Result<(), Trouble>;

fn read(file: &OwnedFd, buffer: &mut [u8], expected: &[u8], at: u64) -> Result<(), Trouble> {
    let got = rustix::io::pread(file, &mut *buffer, at).map_err(Trouble::at("read"))?;
    // Ends of the block only: comparing all of it would be timed along.
    let right = got == buffer.len()
        && buffer.first_chunk::<8>() == expected.first_chunk()
        && buffer.last_chunk::<8>() == expected.last_chunk();
    check(right, "a block read is not what was written")
}

fn write(file: &OwnedFd, _: &mut [u8], content: &[u8], at: u64) -> Result<(), Trouble> {
    let put = rustix::io::pwrite(file, content, at).map_err(Trouble::at("write"))?;
    check(put == content.len(), "a block was written in part only")
}

fn in_order(i: u64, blocks: u64) -> u64 {
    i % blocks
}

fn at_random(i: u64, blocks: u64) -> u64 {
    (i.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(0x2545_f491_4f6c_dd1d) >> 32) % blocks
}

fn blocks(file: &OwnedFd, seconds: f64, size: usize, order: fn(u64, u64) -> u64, operation: Operation) -> Samples {
    let content = pattern()?;
    let mut buffer = MmapMut::map_anon(size).map_err(Trouble::at("map a buffer"))?;
    let mut done = 0;
    let samples = per_operation(seconds, |n| {
        for i in done..done + n {
            let at = order(i, FILE / size as u64) * size as u64;
            let phase = at as usize % BLOCK;
            operation(file, &mut buffer, &content[phase..phase + size], at)?;
        }
        done += n;
        Ok(())
    })?;
    read_back(file, &content)?;
    let amount = if size == SMALL { 1e-3 } else { size as f64 / 1e6 };
    Ok(rate(samples, amount))
}

/// The whole of some blocks, after the measurement.
fn read_back(file: &OwnedFd, content: &[u8]) -> Result<(), Trouble> {
    let mut buffer = MmapMut::map_anon(BLOCK).map_err(Trouble::at("map a buffer"))?;
    for at in (0..FILE).step_by(FILE as usize / 8) {
        read(file, &mut buffer, content, at)?;
        check(buffer[..] == *content, "the file does not hold what was written into it")?;
    }
    Ok(())
}

fn files(dir: &Path, seconds: f64) -> Samples {
    let storm = dir.join("workload-storm");
    rustix::fs::mkdir(&storm, Mode::RWXU).map_err(Trouble::at(format!("create {}", storm.display())))?;
    let samples = rustix::fs::openat(CWD, &storm, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Trouble::at("open a directory"))
        .and_then(|at| per_operation(seconds, |n| lives(&at, n)));
    // Empty if all went well; what a failure leaves goes too.
    let removed = std::fs::remove_dir_all(&storm).map_err(Trouble::at("remove a directory"));
    samples.and_then(|samples| removed.map(|()| time(samples, 1e6)))
}

/// `n` files are created, looked at, and unlinked, up to [`BATCH`] of them alive at once.
fn lives(dir: &OwnedFd, n: u64) -> Result<(), Trouble> {
    for first in (0..n).step_by(BATCH as usize) {
        let batch = first..(first + BATCH).min(n);
        for i in batch.clone() {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(dir, format!("f{i}"), flags, Mode::RUSR).map_err(Trouble::at("create a file"))?;
        }
        for i in batch.clone() {
            let stat = rustix::fs::statat(dir, format!("f{i}"), AtFlags::empty()).map_err(Trouble::at("stat a file"))?;
            check(stat.st_size == 0, "a file just created is not empty")?;
        }
        for i in batch {
            rustix::fs::unlinkat(dir, format!("f{i}"), AtFlags::empty()).map_err(Trouble::at("unlink a file"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_stay_within_the_file() {
        for i in [0, 1, 255, 256, u64::MAX] {
            assert!(in_order(i, 256) < 256 && at_random(i, 8192) < 8192);
        }
    }

    #[test]
    fn a_changed_block_is_noticed() {
        let dir = std::env::temp_dir();
        let file = prepare(&dir).expect("the temporary directory can be written");
        let fd = open(&file.0, OFlags::empty()).expect("opens");
        let content = pattern().expect("memory");
        assert_eq!(read_back(&fd, &content), Ok(()));
        rustix::io::pwrite(&fd, &[0; 8], 100).expect("writes");
        assert!(matches!(read_back(&fd, &content), Err(Trouble::Wrong(_))));
    }
}
