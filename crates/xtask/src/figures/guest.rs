//! The guest's half of [`super::io`]: does each piece of work when it is told to, and says how long it took.

use anyhow::{Context, Result, ensure};
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::time::Instant;

/// The machine outside, as the guest knows it, and what it does at which port.
pub(super) const HOST: &str = "10.78.0.1";
pub(super) const SINK: u16 = 5001;
pub(super) const SOURCE: u16 = 5002;
pub(super) const ECHO: u16 = 5003;
/// Bytes that are sent each way, in pieces of so many, and of a question and its answer.
pub(super) const STREAM: usize = 32 << 20;
pub(super) const PIECE: usize = 64 << 10;
pub(super) const QUESTION: usize = 64;

/// Bytes of the disk.
pub(super) const DISK: u64 = 64 << 20;
const LARGE: usize = 128 << 10;
const SMALL: usize = 4 << 10;
const SMALL_REQUESTS: u64 = 2000;
const QUESTIONS: u64 = 1000;

/// Work: how many operations it was.
type Work = fn() -> Result<u64>;

/// Its name, what an operation is, and itself.
pub(super) type Row = (&'static str, &'static str, Work);

const ALL: [Row; 7] = [
    ("disk-read-128k", "requests", || disk(LARGE, false, DISK / LARGE as u64)),
    ("disk-write-128k", "requests", || disk(LARGE, true, DISK / LARGE as u64)),
    ("disk-read-4k", "requests", || disk(SMALL, false, SMALL_REQUESTS)),
    ("disk-write-4k", "requests", || disk(SMALL, true, SMALL_REQUESTS)),
    ("tcp-send", "pieces of 64 KiB", send),
    ("tcp-receive", "pieces of 64 KiB", receive),
    ("tcp-round-trip", "questions", ask),
];

/// Those whose names begin so, or all.
///
/// # Errors
/// There are none.
pub(super) fn rows(beginnings: &[String]) -> Result<Vec<Row>> {
    let asked_for = |name: &str| beginnings.is_empty() || beginnings.iter().any(|beginning| name.starts_with(beginning));
    let rows: Vec<Row> = ALL.into_iter().filter(|(name, ..)| asked_for(name)).collect();
    ensure!(!rows.is_empty(), "--row {}: the rows are {}", beginnings.join(", "), ALL.map(|(name, ..)| name).join(", "));
    Ok(rows)
}

pub(super) fn main(beginnings: &[String]) -> Result<()> {
    for (name, _, work) in rows(beginnings)? {
        println!("BEGIN {name}");
        std::io::stdin().lock().read_line(&mut String::new())?;
        let start = Instant::now();
        let operations = work().with_context(|| name)?;
        println!("END {operations} {}", start.elapsed().as_nanos());
        std::io::stdin().lock().read_line(&mut String::new())?;
    }
    Ok(())
}

/// One request after the other, past the guest's cache: small ones all over the disk, large ones in order.
fn disk(size: usize, write: bool, requests: u64) -> Result<u64> {
    let disk = rustix::fs::open("/dev/vda", OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty())?;
    let disk = File::from(disk);
    let mut memory = vec![0x5a; size + SMALL];
    let aligned = memory.as_ptr().align_offset(SMALL);
    let buffer = &mut memory[aligned..aligned + size];
    let places = DISK / size as u64;
    for request in 0..requests {
        // A multiplier without a common factor with the number of places visits all of them.
        let place = if size == SMALL { request * 7919 % places } else { request % places };
        let at = place * size as u64;
        if write { disk.write_all_at(buffer, at)? } else { disk.read_exact_at(buffer, at)? }
    }
    Ok(requests)
}

fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect((HOST, port))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Until the other side has all.
fn send() -> Result<u64> {
    let mut stream = connect(SINK)?;
    let piece = vec![0x5a; PIECE];
    for _ in 0..STREAM / PIECE {
        stream.write_all(&piece)?;
    }
    stream.read_exact(&mut [0])?;
    Ok((STREAM / PIECE) as u64)
}

fn receive() -> Result<u64> {
    let mut stream = connect(SOURCE)?;
    let mut piece = vec![0; PIECE];
    for _ in 0..STREAM / PIECE {
        stream.read_exact(&mut piece)?;
    }
    Ok((STREAM / PIECE) as u64)
}

fn ask() -> Result<u64> {
    let mut stream = connect(ECHO)?;
    let mut question = [0x5a; QUESTION];
    for _ in 0..QUESTIONS {
        stream.write_all(&question)?;
        stream.read_exact(&mut question)?;
    }
    Ok(QUESTIONS)
}
