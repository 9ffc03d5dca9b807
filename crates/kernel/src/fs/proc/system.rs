//! What the machine is, and how it fares.

use super::process::Subject;
use super::status::range;
use crate::fs::pseudo::Fixed;
use crate::signal::stop::ticks;
use crate::task::Task;
use crate::{Kernel, Result};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use insula_abi::time::SECOND;

/// Files right in `/proc`.
pub(super) fn files(all: Fixed) -> Fixed {
    all.text("cpuinfo", |task| Ok(processors(task.kernel()).into_bytes()))
        .text("meminfo", |task| Ok(memory(task.kernel()).into_bytes()))
        .text("stat", |task| Ok(statistics(task.kernel()).into_bytes()))
        .text("uptime", |task| {
            let kernel = task.kernel();
            Ok(format!("{} {}\n", hundredths(uptime(kernel)), hundredths(idle(kernel))).into_bytes())
        })
        .text("loadavg", |task| {
            let tree = task.kernel().pids.lock();
            let (tasks, last) = (tree.tasks().count(), task.process.space.last().unwrap_or_else(|| tree.last()));
            Ok(format!("0.00 0.00 0.00 1/{tasks} {last}\n").into_bytes())
        })
        .text("locks", |task| Ok(super::locks::all(task).into_bytes()))
        .text("version", version)
        .text("filesystems", |task| {
            let kinds = task.kernel().file_systems.types();
            Ok(kinds.iter().map(|kind| format!("nodev\t{kind}\n")).collect::<String>().into_bytes())
        })
        .text("interrupts", |task| {
            let count = task.kernel().host.machine.processors;
            let names: String = (0..count).map(|index| format!("CPU{index:<8}")).collect();
            Ok(format!("           {names}\n").into_bytes())
        })
        .constant("cmdline", "insula\n")
        .constant("devices", DEVICES)
        .constant("partitions", "major minor  #blocks  name\n\n")
        .constant("swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")
        .constant("modules", "")
        .constant("diskstats", "")
        .constant("cgroups", "#subsys_name\thierarchy\tnum_cgroups\tenabled\n")
        .constant("vmstat", "nr_free_pages 0\npgpgin 0\npgpgout 0\npswpin 0\npswpout 0\npgfault 0\npgmajfault 0\n")
}

const DEVICES: &str = "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n136 pts\n\nBlock devices:\n";

/// Nanoseconds since the kernel began.
fn uptime(kernel: &Kernel) -> u64 {
    // As CLOCK_BOOTTIME has it, by which the start of processes is told, too.
    kernel.host.clock.monotonic()
}

fn hundredths(nanos: u64) -> String {
    format!("{}.{:02}", nanos / SECOND, nanos % SECOND / (SECOND / 100))
}

/// Nanoseconds that processors had nothing to do, as far as one can tell from here. It never goes back, though processor time is counted late.
fn idle(kernel: &Kernel) -> u64 {
    let all = uptime(kernel) * u64::from(kernel.host.machine.processors);
    let idle = all.saturating_sub(busy(kernel).iter().sum());
    kernel.idle.fetch_max(idle, Ordering::Relaxed).max(idle)
}

/// Nanoseconds in programs, and here for them.
fn busy(kernel: &Kernel) -> [u64; 2] {
    kernel.pids.processes().iter().fold([0, 0], |[user, system], process| {
        let (more, here) = process.times();
        [user + more, system + here]
    })
}

fn version(task: &Arc<Task>) -> Result<Vec<u8>> {
    let name = *task.spaces().uts.holds.lock();
    let field = |bytes: &[u8]| String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
    let (system, release, version) = (field(&name.sysname), field(&name.release), field(&name.version));
    Ok(format!("{system} version {release} (insula) {version}\n").into_bytes())
}

/// `/proc/cpuinfo`: what programs look for in it. What a processor can do, it says itself (`cpuid`).
fn processors(kernel: &Kernel) -> String {
    let machine = &kernel.host.machine;
    let flags = features(machine.capabilities);
    let count = machine.processors;
    (0..count)
        .map(|index| {
            format!(
                "processor\t: {index}\nvendor_id\t: Insula\ncpu family\t: 6\nmodel\t\t: 0\nmodel name\t: virtual\nstepping\t: 0\ncpu MHz\t\t: 1000.000\nphysical id\t: 0\nsiblings\t: {count}\ncore id\t\t: {index}\ncpu cores\t: {count}\napicid\t\t: {index}\nfpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: 13\nwp\t\t: yes\nflags\t\t: {flags}\nbogomips\t: 2000.00\nclflush size\t: 64\ncache_alignment\t: 64\naddress sizes\t: 48 bits physical, 48 bits virtual\npower management:\n\n"
            )
        })
        .collect()
}

/// Names of `CPUID` 1's bits in `edx`.
fn features(bits: u64) -> String {
    const NAMES: [&str; 32] = [
        "fpu", "vme", "de", "pse", "tsc", "msr", "pae", "mce", "cx8", "apic", "", "sep", "mtrr", "pge", "mca", "cmov", "pat",
        "pse36", "pn", "clflush", "", "dts", "acpi", "mmx", "fxsr", "sse", "sse2", "ss", "ht", "tm", "ia64", "pbe",
    ];
    let set = NAMES.iter().enumerate().filter(|(bit, name)| bits >> bit & 1 != 0 && !name.is_empty());
    set.map(|(_, name)| format!("{name} ")).collect::<String>() + "syscall nx lm"
}

fn memory(kernel: &Kernel) -> String {
    let total = kernel.host.memory.limit() / 1024;
    let used = kernel.frames.used() / 1024;
    let free = total.saturating_sub(used);
    [
        ("MemTotal", total),
        ("MemFree", free),
        ("MemAvailable", free),
        ("Buffers", 0),
        ("Cached", 0),
        ("SwapCached", 0),
        ("Active", used.min(total)),
        ("Inactive", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", used.min(total)),
        ("Mapped", 0),
        ("Shmem", 0),
        ("Slab", 0),
        ("SReclaimable", 0),
        ("SUnreclaim", 0),
        ("PageTables", 0),
        ("CommitLimit", total),
        ("Committed_AS", used.min(total)),
        ("VmallocTotal", 34_359_738_367),
        ("VmallocUsed", 0),
        // Linux counts none, either, since 4.4.
        ("VmallocChunk", 0),
    ]
    .iter()
    .map(|(name, kib)| format!("{:<16}{kib:8} kB\n", format!("{name}:")))
    .chain([String::from("HugePages_Total:       0\nHugePages_Free:        0\nHugepagesize:       2048 kB\n")])
    .collect()
}

fn statistics(kernel: &Kernel) -> String {
    let [user, system] = busy(kernel);
    let count = u64::from(kernel.host.machine.processors);
    let idle = idle(kernel);
    let mut text = format!("cpu  {} 0 {} {} 0 0 0 0 0 0\n", ticks(user), ticks(system), ticks(idle));
    for index in 0..count {
        let share = |nanos: u64| ticks(nanos / count);
        text.push_str(&format!("cpu{index} {} 0 {} {} 0 0 0 0 0 0\n", share(user), share(system), share(idle)));
    }
    let began = (kernel.host.clock.realtime() - uptime(kernel)) / SECOND;
    let tasks = kernel.pids.lock().tasks().count();
    text.push_str(&format!("intr 0\nctxt 0\nbtime {began}\nprocesses {tasks}\nprocs_running 1\nprocs_blocked 0\nsoftirq 0\n"));
    text
}

/// `net`: sockets and interfaces of a task's network.
pub(super) fn network(subject: &Subject) -> Fixed {
    crate::socket::inet::show::FILES.iter().fold(Fixed::default(), |all, (name, text)| {
        let subject = subject.clone();
        all.text(name, move |_| text(&subject.task()?))
    })
}

/// Processors as lists have them.
pub(crate) fn processor_list(kernel: &Kernel) -> String {
    range(kernel.host.machine.processors)
}
