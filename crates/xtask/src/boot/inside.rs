//! The half that runs in the lab.

use super::Args;
use super::probe::{self, Exits, FirstEntry};
use super::vmm::{self, Guest, Vmm};
use crate::lab::cpio;
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What the guest's first program says. The next thing it does is to wait for ever.
const READY: &str = "READY";

/// A console that can be heard, and nothing said on it by the kernel; no bus that isn't there; the end at a panic.
const ARGUMENTS: &str = "console=ttyS0 quiet loglevel=0 pci=off reboot=k panic=-1";

pub(super) fn main(args: &Args) -> Result<()> {
    let folder = PathBuf::from("/run/boot");
    std::fs::create_dir_all(&folder)?;
    let initrd = initrd(&folder.join("initrd"))?;
    let insula = args.insula.as_deref().context("--insula")?;
    let arguments = format!("{ARGUMENTS} {}", args.cmdline);
    let vmms: Vec<Vmm> = vmm::all(insula)?
        .into_iter()
        .filter(|vmm| args.only.is_empty() || args.only.iter().any(|name| vmm.name.starts_with(name.as_str())))
        .collect();
    for kernel in &args.kernel {
        let guest = Guest { kernel, initrd: &initrd, arguments: arguments.trim_end(), memory: args.memory };
        println!("{}, {} MiB, \"{}\"", kernel.display(), args.memory, guest.arguments);
        println!("{:18} {:>14} {:>14} {:>8} {:>14}", "", "first entry/ms", "init/ms", "exits", "overhead/MiB");
        let mut runs: Vec<Runs> = vmms.iter().map(|_| Runs::default()).collect();
        // The first of each is cold: its program and the kernel are read for the first time.
        for run in 0..=args.runs {
            for (vmm, runs) in vmms.iter().zip(&mut runs) {
                let timed = timed(vmm, &guest, &folder).with_context(|| vmm.name)?;
                if run > 0 {
                    runs.timed.push(timed);
                }
            }
        }
        for (vmm, runs) in vmms.iter().zip(&mut runs) {
            let exits = exits(vmm, &guest, &folder).with_context(|| vmm.name)?;
            runs.show(vmm.name, &exits, args.reasons);
        }
    }
    Ok(())
}

/// Every peer's: busybox, which says that it runs and waits.
fn initrd(path: &Path) -> Result<PathBuf> {
    let mut archive = cpio::Archive::new(BufWriter::new(File::create(path)?));
    for folder in ["bin", "dev", "proc", "sys"] {
        archive.folder(folder)?;
    }
    archive.file("bin/busybox", 0o755, &std::fs::read("/usr/bin/busybox").context("read busybox")?)?;
    archive.file("init", 0o755, format!("#!/bin/busybox sh\necho {READY}\nexec /bin/busybox sleep 1000000\n").as_bytes())?;
    archive.finish()?;
    Ok(path.to_owned())
}

/// What one start took, in milliseconds since before the process was made, and KiB.
#[derive(Clone, Copy, Debug)]
struct Timed {
    entry: f64,
    init: f64,
    overhead: u64,
}

#[derive(Default)]
struct Runs {
    timed: Vec<Timed>,
}

impl Runs {
    fn median<T: PartialOrd + Copy>(&self, of: impl Fn(&Timed) -> T) -> Option<T> {
        let mut values: Vec<T> = self.timed.iter().map(of).collect();
        values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        values.get(values.len() / 2).copied()
    }

    fn show(&self, name: &str, exits: &[(u32, u64)], reasons: bool) {
        let (entry, init) = (self.median(|run| run.entry).unwrap_or(f64::NAN), self.median(|run| run.init).unwrap_or(f64::NAN));
        let overhead = self.median(|run| run.overhead).unwrap_or(0) as f64 / 1024.0;
        let sum: u64 = exits.iter().map(|(_, count)| count).sum();
        println!("{name:18} {entry:14.3} {init:14.3} {sum:8} {overhead:14.2}");
        for (code, count) in exits.iter().filter(|_| reasons) {
            println!("    {count:8} {}", probe::reason(*code));
        }
    }
}

/// A guest that has said it runs; ended when this is dropped.
struct Running {
    child: Child,
    started: f64,
    ready: f64,
}

impl Running {
    fn new(vmm: &Vmm, guest: &Guest, folder: &Path) -> Result<Running> {
        let command = vmm.command(guest, folder)?;
        let log = File::create(folder.join("stderr"))?;
        let mut start = Command::new(&command[0]);
        start.args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let started = now();
        let mut child = start.spawn().with_context(|| format!("start {:?}", command[0]))?;
        let console = child.stdout.take().context("a pipe")?;
        let mut running = Running { child, started, ready: f64::NAN };
        let mut said = Vec::new();
        for line in BufReader::new(console).split(b'\n') {
            let line = line?;
            if line.ends_with(READY.as_bytes()) || line.ends_with(format!("{READY}\r").as_bytes()) {
                running.ready = now();
                break;
            }
            said.extend_from_slice(&line);
            said.push(b'\n');
        }
        let stderr = std::fs::read_to_string(folder.join("stderr"))?;
        ensure!(!running.ready.is_nan(), "the guest ended: {}{stderr}", String::from_utf8_lossy(&said));
        Ok(running)
    }

    fn stop_it(&self) -> Result<()> {
        let pid = Pid::from_raw(self.child.id() as i32).context("a process")?;
        Ok(kill_process(pid, Signal::STOP)?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn timed(vmm: &Vmm, guest: &Guest, folder: &Path) -> Result<Timed> {
    let entry = FirstEntry::watch()?;
    let running = Running::new(vmm, guest, folder)?;
    let entry = entry.time()?;
    let overhead = probe::overhead(running.child.id(), guest.memory << 20)?;
    let since = |time: f64| (time - running.started) * 1e3;
    Ok(Timed { entry: since(entry), init: since(running.ready), overhead })
}

/// Until the guest's first program has said that it runs.
fn exits(vmm: &Vmm, guest: &Guest, folder: &Path) -> Result<Vec<(u32, u64)>> {
    let exits = Exits::count()?;
    let running = Running::new(vmm, guest, folder)?;
    running.stop_it()?;
    exits.by_reason()
}

/// Seconds on the clock of the trace.
fn now() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
