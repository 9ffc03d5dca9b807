//! What the lab's kernel knows of a start: KVM's trace points, and the process's mappings.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;

const TRACING: &str = "/sys/kernel/tracing";

fn set(file: &str, value: &str) -> Result<()> {
    let path = Path::new(TRACING).join(file);
    fs::write(&path, value).with_context(|| format!("write {value:?} to {}", path.display()))
}

fn get(file: &str) -> Result<String> {
    let path = Path::new(TRACING).join(file);
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// The first time any guest is entered, on the clock that [`now`] reads. The trace stops itself at the first one.
pub(super) struct FirstEntry;

impl FirstEntry {
    pub(super) fn watch() -> Result<Self> {
        set("tracing_on", "0")?;
        set("trace_clock", "mono")?;
        set("trace", "")?;
        set("events/kvm/kvm_entry/trigger", "traceoff:1")?;
        set("events/kvm/kvm_entry/enable", "1")?;
        set("tracing_on", "1")?;
        Ok(Self)
    }

    /// Seconds.
    pub(super) fn time(self) -> Result<f64> {
        let trace = get("trace")?;
        set("events/kvm/kvm_entry/enable", "0")?;
        // Refused where it has done its work and is gone.
        let _ = set("events/kvm/kvm_entry/trigger", "!traceoff:1");
        // "  vcpu0-123  [000] d..1.  12.345678: kvm_entry: vcpu 0, rip 0x…"
        let line = trace.lines().find(|line| line.contains(": kvm_entry:")).context("no guest was entered")?;
        let time = line.split(": kvm_entry:").next().and_then(|head| head.split_whitespace().last());
        time.and_then(|time| time.parse().ok()).with_context(|| format!("a time in {line:?}"))
    }
}

/// How often guests come back, by reason.
pub(super) struct Exits {
    event: &'static str,
    reason: &'static str,
}

impl Exits {
    /// To KVM.
    pub(super) fn count() -> Result<Self> {
        Self::of("kvm_exit", "exit_reason")
    }

    /// Further, to the program.
    pub(super) fn to_program() -> Result<Self> {
        Self::of("kvm_userspace_exit", "reason")
    }

    /// Accesses to a model-specific register, by its number.
    pub(super) fn registers() -> Result<Self> {
        Self::of("kvm_msr", "ecx")
    }

    fn of(event: &'static str, reason: &'static str) -> Result<Self> {
        let exits = Self { event, reason };
        set(&exits.file("trigger"), &format!("hist:keys={reason}"))?;
        Ok(exits)
    }

    fn file(&self, name: &str) -> String {
        format!("events/kvm/{}/{name}", self.event)
    }

    /// All so far.
    pub(super) fn so_far(&self) -> Result<u64> {
        Ok(self.by_reason()?.iter().map(|(_, count)| count).sum())
    }

    /// Reason and number so far, most first.
    pub(super) fn by_reason(&self) -> Result<Vec<(u32, u64)>> {
        let table = get(&self.file("hist"))?;
        // "{ exit_reason:        123 } hitcount:        456"
        let row = |line: &str| {
            let (reason, count) =
                line.strip_prefix("{ ")?.strip_prefix(self.reason)?.strip_prefix(':')?.split_once("} hitcount:")?;
            Some((reason.trim().parse().ok()?, count.trim().parse().ok()?))
        };
        let mut rows: Vec<(u32, u64)> = table.lines().filter_map(row).collect();
        ensure!(!rows.is_empty(), "no guest came back");
        rows.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Ok(rows)
    }
}

impl Drop for Exits {
    fn drop(&mut self) {
        let _ = set(&self.file("trigger"), &format!("!hist:keys={}", self.reason));
    }
}

/// AMD's exit codes by name. Source: AMD APM volume 2, appendix C.
pub(super) fn reason(code: u32) -> String {
    let name = match code {
        0x000..0x010 => "read of a control register",
        0x010..0x020 => "write of a control register",
        0x060 => "interrupt",
        0x061 => "NMI",
        0x064 => "interrupt window",
        0x072 => "CPUID",
        0x075 => "INVD",
        0x078 => "HLT",
        0x07b => "port",
        0x07c => "MSR",
        0x081 => "hypercall",
        0x089 => "WBINVD",
        0x08d => "XSETBV",
        0x400 => "nested page fault",
        _ => return format!("code {code:#x}"),
    };
    name.into()
}

/// A mapping of a process.
struct Mapping<'a> {
    start: u64,
    end: u64,
    access: &'a str,
    /// KiB in memory.
    resident: u64,
}

/// What a process holds in memory beside its guest's, in KiB. The guest's memory is the largest mapping, with as many neighbours of the same
/// kind as its size asks for: ours takes its kernel page by page, and each is a mapping of its own.
pub(super) fn overhead(process: u32, guest: u64) -> Result<u64> {
    let maps = fs::read_to_string(format!("/proc/{process}/smaps"))?;
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if first == "Rss:" {
            let size = words.next().and_then(|size| size.parse().ok()).with_context(|| format!("a size in {line:?}"))?;
            mappings.last_mut().context("a mapping")?.resident = size;
        } else if let Some((start, end)) = first.split_once('-') {
            let address = |text| u64::from_str_radix(text, 16).with_context(|| format!("an address in {line:?}"));
            let (start, end, access) = (address(start)?, address(end)?, words.next().unwrap_or_default());
            mappings.push(Mapping { start, end, access, resident: 0 });
        }
    }
    let largest = mappings.iter().enumerate().max_by_key(|(_, mapping)| mapping.end - mapping.start);
    let (mut first, _) = largest.context("a process has mappings")?;
    let mut last = first;
    let neighbours = |a: &Mapping, b: &Mapping| a.end == b.start && a.access == b.access;
    while mappings[last].end - mappings[first].start < guest {
        if first > 0 && neighbours(&mappings[first - 1], &mappings[first]) {
            first -= 1;
        } else if mappings.get(last + 1).is_some_and(|next| neighbours(&mappings[last], next)) {
            last += 1;
        } else {
            break;
        }
    }
    let beside = mappings.iter().enumerate().filter(|(index, _)| !(first..=last).contains(index));
    Ok(beside.map(|(_, mapping)| mapping.resident).sum())
}
