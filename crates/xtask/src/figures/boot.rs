//! What a start costs. Each peer is started several times, in turns.

use super::Args;
use super::peers::{self, Guest, Vmm};
use super::probe::{self, Exits, FirstEntry};
use super::running::{self, Running};
use anyhow::{Context, Result};
use insula_initramfs::Archive;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

/// What the guest's first program says. The next thing it does is to wait for ever.
const READY: &str = "READY";

/// A console that can be heard, and nothing said on it by the kernel; no bus that isn't there; the end at a panic.
const ARGUMENTS: &str = "console=ttyS0 quiet loglevel=0 pci=off reboot=k panic=-1";

pub(super) fn main(args: &Args) -> Result<()> {
    let folder = running::folder()?;
    let initrd = initrd(&folder.join("initrd"))?;
    let arguments = format!("{ARGUMENTS} {}", args.cmdline);
    let vmms = peers::all(args)?;
    for kernel in &args.kernel {
        let guest =
            Guest { kernel, initrd: &initrd, arguments: arguments.trim_end(), memory: args.memory, disk: None, tap: None };
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
    let mut archive = Archive::new(BufWriter::new(File::create(path)?));
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

fn timed(vmm: &Vmm, guest: &Guest, folder: &Path) -> Result<Timed> {
    let entry = FirstEntry::watch()?;
    let mut running = Running::start(vmm, guest, folder)?;
    let ready = running.wait_for(READY)?;
    let entry = entry.time()?;
    let overhead = probe::overhead(running.process(), guest.memory << 20)?;
    let since = |time: f64| (time - running.started) * 1e3;
    Ok(Timed { entry: since(entry), init: since(ready), overhead })
}

/// Until the guest's first program has said that it runs.
fn exits(vmm: &Vmm, guest: &Guest, folder: &Path) -> Result<Vec<(u32, u64)>> {
    let exits = Exits::count()?;
    let mut running = Running::start(vmm, guest, folder)?;
    running.wait_for(READY)?;
    running.stop_it()?;
    exits.by_reason()
}
