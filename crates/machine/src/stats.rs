//! What a machine that runs has to tell of itself.

use crate::marks::Marks;
use insula_virtio::device::Counters;
use insula_vm::memory::{GuestMemory, places};
use rustix::fd::OwnedFd;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// How a machine is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Who runs the guest's instructions: `kvm`, `tcg`.
    pub accelerator: String,
    /// Milliseconds since the guest was started.
    pub running_ms: u64,
    /// When its start got how far.
    #[serde(default)]
    pub marks: Marks,
    /// How often the guest came back to us; of an emulated one nobody knows.
    pub exits: Option<Exits>,
    /// Memory.
    pub memory: Memory,
    /// Threads of this process.
    pub threads: Vec<Thread>,
    /// Devices, in the order in which the guest finds them.
    pub devices: Vec<Device>,
}

/// How often the guest's processors came back to this process, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exits {
    /// Ports read and written.
    pub ports: u64,
    /// Registers of devices read and written.
    pub memory: u64,
    /// Anything else.
    pub others: u64,
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// What the guest has.
    pub guest: u64,
    /// What it has touched: what of that is in the host's memory.
    pub touched: Option<u64>,
    /// What this process has in the host's memory beside that.
    pub beside: Option<u64>,
}

/// A thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// `vcpu0`, …; `events` for the event loop, and the start that came before it.
    pub name: String,
    /// How long it has been on a processor, in nanoseconds.
    pub cpu_ns: u64,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// `disk0`, `net0`, `vsock0`, …
    pub name: String,
    /// What it has done.
    #[serde(flatten)]
    pub counters: Counters,
}

/// A thread of this process, as the kernel knows it.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    name: String,
    task: Pid,
}

impl Task {
    /// The calling thread.
    pub(crate) fn this(name: String) -> Task {
        Task { name, task: rustix::thread::gettid() }
    }

    /// Threads are numbered in the order in which they were made.
    pub(crate) fn number(&self) -> i32 {
        self.task.as_raw_pid()
    }

    pub(crate) fn measure(&self) -> Thread {
        let time = insula_sys::process::thread_time(self.task).unwrap_or_default();
        Thread { name: self.name.clone(), cpu_ns: u64::try_from(time.as_nanos()).unwrap_or(u64::MAX) }
    }
}

/// What of a guest's memory, and of this process's, is in the host's.
pub(crate) struct Residence {
    /// Where the guest's memory lies in ours.
    guest: Vec<Range<u64>>,
    /// The kernel's list of our mappings. Opened once, as a confined thread opens nothing.
    smaps: Option<OwnedFd>,
}

impl Residence {
    pub(crate) fn new(memory: &GuestMemory) -> Residence {
        let smaps = std::fs::File::open("/proc/self/smaps").ok().map(OwnedFd::from);
        Residence { guest: places(memory), smaps }
    }

    /// Bytes of memory that the guest has.
    pub(crate) fn guest(&self) -> u64 {
        self.guest.iter().map(|range| range.end - range.start).sum()
    }

    pub(crate) fn measure(&self) -> Memory {
        let counted = self.smaps.as_ref().and_then(read_all).map(|smaps| count(&smaps, &self.guest));
        let (touched, beside) = counted.unzip();
        Memory { guest: self.guest(), touched, beside }
    }
}

/// A file's text from its start on.
fn read_all(file: &OwnedFd) -> Option<String> {
    let (mut text, mut part) = (Vec::new(), vec![0; 16 << 10]);
    loop {
        match rustix::io::pread(file, &mut part, text.len() as u64).ok()? {
            0 => return String::from_utf8(text).ok(),
            length => text.extend_from_slice(&part[..length]),
        }
    }
}

/// How many bytes lie in the host's memory: within these ranges of addresses, and elsewhere.
/// Source: proc_pid_smaps(5).
pub(crate) fn count(smaps: &str, ranges: &[Range<u64>]) -> (u64, u64) {
    let (mut inside, mut outside) = (0, 0);
    let mut within = false;
    for line in smaps.lines() {
        let Some((word, rest)) = line.split_once(' ') else { continue };
        if let Some((start, end)) = word.split_once('-')
            && let (Ok(start), Ok(end)) = (u64::from_str_radix(start, 16), u64::from_str_radix(end, 16))
        {
            // The kernel shows neighbours of one kind as one mapping.
            within = ranges.iter().any(|range| start < range.end && range.start < end);
        } else if ["Rss:", "Shared_Hugetlb:", "Private_Hugetlb:"].contains(&word) {
            // Huge pages that were set aside are counted apart.
            let kibibytes: u64 = rest.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0);
            *(if within { &mut inside } else { &mut outside }) += kibibytes << 10;
        }
    }
    (inside, outside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::{Bytes, GuestAddress};

    #[test]
    fn memory_is_counted_by_where_it_lies() {
        let smaps = "00400000-00500000 r-xp 00000000 00:01 7   /bin/a - b\nSize: 1024 kB\nRss:        512 kB\nPss: 9 kB\n\
            7f0000000000-7f0010000000 rw-p 00000000 00:00 0 \nRss:  4096 kB\nPrivate_Hugetlb:    2048 kB\n\
            7f0010000000-7f0020000000 rw-p 00000000 00:00 0 \nRss:  4 kB\n7fff0000-7fff1000 rw-p 00000000 00:00 0 [stack]\nRss: 8 kB\n";
        let guest = 0x7f00_0000_0000..0x7f00_2000_0000;
        assert_eq!(count(smaps, &[guest]), ((4096 + 2048 + 4) << 10, (512 + 8) << 10));
    }

    #[test]
    fn this_process_has_threads_and_memory() {
        let (measured, seen) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            tell.send(Task::this("vcpu7".into())).unwrap();
            let _ = seen.recv();
        });
        let task: Task = told.recv().unwrap();
        let thread_time = task.measure();
        assert!(thread_time.name == "vcpu7" && (1..1_000_000_000).contains(&thread_time.cpu_ns), "{thread_time:?}");
        drop(measured);
        thread.join().unwrap();
        assert_eq!(task.measure().cpu_ns, 0, "it has ended");

        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 4 << 20)]).unwrap();
        let residence = Residence::new(&memory);
        let before = residence.measure();
        memory.write_slice(&vec![1; 1 << 20], GuestAddress(0)).unwrap();
        let after = residence.measure();
        // Other tests' memory may lie right beside it, and be counted as one with it.
        let grown = after.touched.zip(before.touched).map(|(after, before)| after.saturating_sub(before));
        assert!(before.guest == 4 << 20 && grown >= Some(1 << 20), "{before:?} {after:?}");
        assert!(after.beside > Some(1 << 20), "{after:?}");
    }
}
