//! Every row the program measures: its name, its group, its unit, what is better, and what it does in a sentence.

use serde::{Deserialize, Serialize};

/// Whether a low or a high value is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// A time or a size.
    Lower,
    /// A rate.
    Higher,
}

/// What a row exercises. The program does a whole group in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// System calls.
    Sys,
    /// Arithmetic.
    Cpu,
    /// Memory bandwidth and latency.
    Mem,
    /// Files in the root file system.
    Root,
    /// Files on a volume.
    Volume,
}

impl Group {
    /// All groups, in the order of the report.
    pub const ALL: [Group; 5] = [Group::Sys, Group::Cpu, Group::Mem, Group::Root, Group::Volume];
}

/// A row: one thing measured.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name, `group.thing`.
    pub name: &'static str,
    /// What it exercises.
    pub group: Group,
    /// The unit of its value.
    pub unit: &'static str,
    /// Whether a low or a high value is good.
    pub better: Better,
    /// What it does, in a sentence.
    pub about: &'static str,
}

const fn row(name: &'static str, group: Group, unit: &'static str, better: Better, about: &'static str) -> Row {
    Row { name, group, unit, better, about }
}

use Better::{Higher, Lower};
use Group::{Cpu, Mem, Root, Sys, Volume};

/// The rows, in the order in which they are run and shown.
pub const ROWS: &[Row] = &[
    row("sys.getppid", Sys, "ns", Lower, "getppid, the cheapest real system call"),
    row("sys.read-1", Sys, "ns", Lower, "read 1 byte from /dev/zero"),
    row("sys.open-close", Sys, "ns", Lower, "open a file by name and close it"),
    row("sys.pipe-ping", Sys, "ns", Lower, "write 1 byte into a pipe and read it back"),
    row("sys.futex-ping", Sys, "ns", Lower, "two threads hand a futex to and fro (one round trip)"),
    row("sys.fork-wait", Sys, "us", Lower, "copy this process, and wait for the copy, which ends at once"),
    row("sys.spawn", Sys, "us", Lower, "start a program (this one) and wait for its end"),
    row("sys.mmap-64k", Sys, "ns", Lower, "map 64 KiB, touch each page, unmap"),
    row("cpu.integer", Cpu, "Mop/s", Higher, "64-bit multiply, rotate and xor, one thread"),
    row("cpu.integer-all", Cpu, "Mop/s", Higher, "the same on all cores"),
    row("cpu.float", Cpu, "kstep/s", Higher, "n-body steps in double precision, one thread"),
    row("cpu.float-all", Cpu, "kstep/s", Higher, "the same on all cores"),
    row("cpu.sha256", Cpu, "MB/s", Higher, "SHA-256, one thread"),
    row("cpu.sha256-all", Cpu, "MB/s", Higher, "the same on all cores"),
    row("cpu.deflate", Cpu, "MB/s", Higher, "DEFLATE and back, one thread"),
    row("cpu.deflate-all", Cpu, "MB/s", Higher, "the same on all cores"),
    row("mem.copy", Mem, "GB/s", Higher, "STREAM copy, a = b, all cores"),
    row("mem.scale", Mem, "GB/s", Higher, "STREAM scale, a = s b, all cores"),
    row("mem.add", Mem, "GB/s", Higher, "STREAM add, a = b + c, all cores"),
    row("mem.triad", Mem, "GB/s", Higher, "STREAM triad, a = b + s c, all cores"),
    row("mem.memcpy", Mem, "GB/s", Higher, "memcpy of 16 MiB, one thread"),
    row("mem.latency-16k", Mem, "ns", Lower, "one dependent load within 16 KiB"),
    row("mem.latency-256k", Mem, "ns", Lower, "one dependent load within 256 KiB"),
    row("mem.latency-4m", Mem, "ns", Lower, "one dependent load within 4 MiB"),
    row("mem.latency-32m", Mem, "ns", Lower, "one dependent load within 32 MiB"),
    row("mem.latency-256m", Mem, "ns", Lower, "one dependent load within 256 MiB"),
    row("root.seq-read", Root, "MB/s", Higher, "read 128 KiB blocks in order, buffered"),
    row("root.seq-write", Root, "MB/s", Higher, "write 128 KiB blocks in order, buffered"),
    row("root.rand-read", Root, "kIOPS", Higher, "read 4 KiB blocks at random, buffered"),
    row("root.rand-write", Root, "kIOPS", Higher, "write 4 KiB blocks at random, buffered"),
    row("root.seq-read-direct", Root, "MB/s", Higher, "read 128 KiB blocks in order, O_DIRECT"),
    row("root.seq-write-direct", Root, "MB/s", Higher, "write 128 KiB blocks in order, O_DIRECT"),
    row("root.rand-read-direct", Root, "kIOPS", Higher, "read 4 KiB blocks at random, O_DIRECT"),
    row("root.rand-write-direct", Root, "kIOPS", Higher, "write 4 KiB blocks at random, O_DIRECT"),
    row("root.files", Root, "us", Lower, "create, stat and unlink an empty file"),
    row("volume.seq-read", Volume, "MB/s", Higher, "read 128 KiB blocks in order, buffered"),
    row("volume.seq-write", Volume, "MB/s", Higher, "write 128 KiB blocks in order, buffered"),
    row("volume.rand-read", Volume, "kIOPS", Higher, "read 4 KiB blocks at random, buffered"),
    row("volume.rand-write", Volume, "kIOPS", Higher, "write 4 KiB blocks at random, buffered"),
    row("volume.seq-read-direct", Volume, "MB/s", Higher, "read 128 KiB blocks in order, O_DIRECT"),
    row("volume.seq-write-direct", Volume, "MB/s", Higher, "write 128 KiB blocks in order, O_DIRECT"),
    row("volume.rand-read-direct", Volume, "kIOPS", Higher, "read 4 KiB blocks at random, O_DIRECT"),
    row("volume.rand-write-direct", Volume, "kIOPS", Higher, "write 4 KiB blocks at random, O_DIRECT"),
    row("volume.files", Volume, "us", Lower, "create, stat and unlink an empty file"),
];

/// Whether `name` matches `pattern`, in which `*` stands for any run of characters and `?` for any single one.
pub fn matches(pattern: &str, name: &str) -> bool {
    fn walk(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), None) => walk(rest, name),
            (Some((b'*', rest)), Some((_, tail))) => walk(rest, name) || walk(pattern, tail),
            (Some((b'?', rest)), Some((_, tail))) => walk(rest, tail),
            (Some((want, rest)), Some((have, tail))) => want == have && walk(rest, tail),
            _ => false,
        }
    }
    walk(pattern.as_bytes(), name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        assert!(matches("cpu.*", "cpu.float"));
        assert!(matches("*", "sys.spawn"));
        assert!(matches("*.seq-*-direct", "root.seq-read-direct"));
        assert!(matches("cpu.f?oat", "cpu.float"));
        assert!(!matches("cpu.*", "mem.copy"));
        assert!(!matches("cpu", "cpu.float"));
    }

    #[test]
    fn names_are_unique_and_begin_with_their_group() {
        let mut seen = std::collections::HashSet::new();
        for row in ROWS {
            assert!(seen.insert(row.name), "{} stands twice", row.name);
            let group = format!("{:?}.", row.group).to_lowercase();
            assert!(row.name.starts_with(&group), "{} is not of {group}", row.name);
        }
    }
}
