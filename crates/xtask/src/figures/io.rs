//! What a disk and a network card give a guest, and how often the guest comes back for it. Every peer has the same file and the same tap
//! behind them; the guest does one thing after the other, so what is measured is the way there and back.

use super::Args;
use super::guest::{self, ECHO, HOST, PIECE, QUESTION, Row, SINK, SOURCE, STREAM};
use super::peers::{self, Guest, Vmm};
use super::probe::{self, Exits};
use super::running::{self, Running};
use anyhow::{Context, Result, ensure};
use insula_initramfs::Archive;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

const ARGUMENTS: &str = "console=ttyS0 quiet loglevel=0 reboot=k panic=-1 cryptomgr.notests 8250.nr_uarts=1";
const TAP: &str = "figures0";

pub(super) fn main(args: &Args) -> Result<()> {
    let rows = guest::rows(&args.row)?;
    let folder = running::folder()?;
    let initrd = initrd(&folder.join("initrd"), &rows)?;
    let disk = folder.join("disk");
    std::fs::write(&disk, vec![0x11; guest::DISK as usize])?;
    make_tap()?;
    serve(SINK, sink)?;
    serve(SOURCE, source)?;
    serve(ECHO, echo)?;
    let vmms = peers::all(args)?;
    let arguments = format!("{ARGUMENTS} {}", args.cmdline);
    for kernel in &args.kernel {
        println!("{}, \"{}\"", kernel.display(), arguments.trim_end());
        let guest = Guest {
            kernel,
            initrd: &initrd,
            arguments: arguments.trim_end(),
            memory: args.memory,
            disk: Some(&disk),
            tap: Some(TAP),
        };
        for vmm in &vmms {
            println!("{:36} {:>14} {:>16} {:>16}", vmm.name, "us/operation", "exits/operation", "to the program");
            for ((name, operation, _), figure) in rows.iter().zip(figures(vmm, &guest, &folder, &rows).context(vmm.name)?) {
                let row = format!("{name} ({operation})");
                println!("  {row:34} {:14.2} {:16.2} {:16.2}", figure.microseconds, figure.exits, figure.to_program);
                for (reason, each) in figure.reasons.iter().filter(|(_, each)| args.reasons && *each >= 0.005) {
                    println!("    {reason:49} {each:16.2}");
                }
            }
        }
    }
    Ok(())
}

/// Of one operation.
struct Figure {
    microseconds: f64,
    /// To KVM, and of these those that went on to the program.
    exits: f64,
    to_program: f64,
    /// Those to KVM by reason, and the registers of those that are for one.
    reasons: Vec<(String, f64)>,
}

fn figures(vmm: &Vmm, guest: &Guest, folder: &Path, rows: &[Row]) -> Result<Vec<Figure>> {
    let (exits, to_program, registers) = (Exits::count()?, Exits::to_program()?, Exits::registers()?);
    let mut running = Running::start(vmm, guest, folder)?;
    let mut figures = Vec::new();
    for (name, ..) in rows {
        let begun = running.hear("BEGIN ")?;
        ensure!(begun == *name, "the guest does {begun} instead of {name}");
        let so_far = || anyhow::Ok((exits.by_reason()?, registers.by_reason()?, to_program.so_far()?));
        let before = so_far()?;
        running.go_on()?;
        let end = running.hear("END ")?;
        let after = so_far()?;
        let (operations, nanoseconds) = end.split_once(' ').context("operations and time")?;
        let (operations, nanoseconds): (f64, f64) = (operations.parse()?, nanoseconds.parse()?);
        let each = |before: u64, after: u64| (after - before) as f64 / operations;
        let sum = |reasons: &[(u32, u64)]| reasons.iter().map(|(_, count)| count).sum();
        let since = |before: &[(u32, u64)], reason: u32, count: u64| {
            each(before.iter().find(|(other, _)| *other == reason).map_or(0, |(_, count)| *count), count)
        };
        let reasons = after.0.iter().map(|&(code, count)| (probe::reason(code), since(&before.0, code, count)));
        let registers = after.1.iter().map(|&(index, count)| (format!("  MSR {index:#x}"), since(&before.1, index, count)));
        figures.push(Figure {
            microseconds: nanoseconds / 1e3 / operations,
            exits: each(sum(&before.0), sum(&after.0)),
            to_program: each(before.2, after.2),
            reasons: reasons.chain(registers).collect(),
        });
        running.go_on()?;
    }
    Ok(figures)
}

/// The drivers that Debian's kernel has as modules, for either bus, in the order in which they load.
const MODULES: [&str; 9] = [
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_mmio",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci",
    "drivers/block/virtio_blk",
    "net/core/failover",
    "drivers/net/net_failover",
];

/// Busybox, the drivers, and this program, which is to do these rows.
fn initrd(path: &Path, rows: &[Row]) -> Result<PathBuf> {
    let release = rustix::system::uname();
    let modules = Path::new("/lib/modules").join(release.release().to_str()?).join("kernel");
    let mut archive = Archive::new(BufWriter::new(File::create(path)?));
    for folder in ["bin", "dev", "modules", "proc", "sys"] {
        archive.folder(folder)?;
    }
    let mut script = "#!/bin/busybox sh\nbb=/bin/busybox\n$bb mount -t devtmpfs dev /dev\n".to_owned();
    for module in MODULES.into_iter().chain(["drivers/net/virtio_net"]) {
        let file = modules.join(module).with_extension("ko");
        // What isn't a module of this kernel is in it.
        let Ok(content) = std::fs::read(&file) else { continue };
        let name = module.rsplit('/').next().unwrap_or(module);
        archive.file(&format!("modules/{name}"), 0o644, &content)?;
        script += &format!("$bb insmod /modules/{name} 2>/dev/null\n");
    }
    script += "while ! $bb ip link set eth0 up 2>/dev/null; do $bb usleep 10000; done\n";
    script += "$bb ip addr add 10.78.0.2/24 dev eth0\n$bb stty -F /dev/console -echo\n";
    let rows: String = rows.iter().map(|(name, ..)| format!(" --row {name}")).collect();
    // What has gone wrong is on the console; its end is what is heard.
    script += &format!("/figures figures guest{rows} || $bb reboot -f\nexec $bb sleep 1000000\n");
    archive.file("bin/busybox", 0o755, &std::fs::read("/usr/bin/busybox").context("read busybox")?)?;
    archive.file("figures", 0o755, &std::fs::read("/proc/self/exe").context("read this program")?)?;
    archive.file("init", 0o755, script.as_bytes())?;
    archive.finish()?;
    Ok(path.to_owned())
}

fn make_tap() -> Result<()> {
    let line = format!("ip tuntap add {TAP} mode tap vnet_hdr && ip addr add {HOST}/24 dev {TAP} && ip link set {TAP} up");
    ensure!(Command::new("sh").args(["-c", &line]).status()?.success(), "can't make a tap: {line}");
    Ok(())
}

/// Does this with each connection, one after the other.
fn serve(port: u16, work: fn(TcpStream) -> std::io::Result<()>) -> Result<()> {
    let listener = TcpListener::bind((HOST, port))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = stream.set_nodelay(true);
            // The guest says what went wrong.
            let _ = work(stream);
        }
    });
    Ok(())
}

fn sink(mut stream: TcpStream) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE];
    for _ in 0..STREAM / PIECE {
        stream.read_exact(&mut piece)?;
    }
    stream.write_all(&[1])
}

fn source(mut stream: TcpStream) -> std::io::Result<()> {
    let piece = vec![0x5a; PIECE];
    (0..STREAM / PIECE).try_for_each(|_| stream.write_all(&piece))
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut question = [0; QUESTION];
    loop {
        stream.read_exact(&mut question)?;
        stream.write_all(&question)?;
    }
}
