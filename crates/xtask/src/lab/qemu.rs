//! The machine as a QEMU process: its command line, its start, its end.
//!
//! QEMU writes all the machine says to files of the run's folder. On the first serial port it is the console; on the second, `result`,
//! what the scripts of `guest/` have to say to us: `up`, then `exit CODE`, or `fail WHY`; on two ports of virtio-serial, which is fast,
//! the command's stdout and stderr.

use super::Accel;
use super::output::Follower;
use super::root::Image;
use super::share::Share;
use super::tools::Tools;
use anyhow::{Context, Result, bail, ensure};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The console of the machine, in the run's folder.
pub(super) const SERIAL_LOG: &str = "serial.log";
const QEMU_LOG: &str = "qemu.log";
const STDOUT: &str = "stdout";
const STDERR: &str = "stderr";
const RESULT: &str = "result";

/// A machine is up in seven seconds; a host with much else to do gets its time.
const BOOT_LIMIT: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(10);

/// A machine to be run once.
pub(super) struct Machine<'a> {
    pub(super) cpus: u32,
    /// In bytes.
    pub(super) memory: u64,
    pub(super) accel: Accel,
    pub(super) icount: bool,
    pub(super) image: &'a Image,
    pub(super) initrd: &'a Path,
    pub(super) shares: &'a [Share],
}

/// How long a run may take.
pub(super) struct Limits {
    /// From when the machine is up.
    pub(super) all: Duration,
    /// Without a word of the command's.
    pub(super) silence: Option<Duration>,
}

/// How a run ended.
pub(super) enum Outcome {
    /// The command ended.
    Exit(u8),
    /// The command's time was over.
    Timeout,
    /// The command said nothing for too long.
    Silent,
    /// The machine ended, or had to be ended, before the command did.
    Died(String),
}

/// The emulated processor. It has no string instructions that are fast for single bytes, so that the kernels clear and copy memory by whole
/// words: the emulator does one element at a time, and a guest's memory is cleared twice.
const EMULATED: &str = "max,+svm,-erms,-fsrm";

impl Machine<'_> {
    /// Boots the machine, streams the command's output, and waits for the end.
    pub(super) fn run(&self, tools: &Tools, folder: &Path, limits: &Limits) -> Result<Outcome> {
        for port in [STDOUT, STDERR, RESULT] {
            File::create(folder.join(port))?;
        }
        let followers =
            [Follower::start(&folder.join(STDOUT), io::stdout())?, Follower::start(&folder.join(STDERR), io::stderr())?];
        let mut command = vec![tools.qemu.clone().into_os_string()];
        command.extend(self.arguments()?);
        let mut qemu = spawn_tied(&command, folder, Stdio::null(), File::create(folder.join(QEMU_LOG))?)?;
        let watched = watch(&mut qemu, folder, limits);
        // Whatever watching came to, no QEMU is left behind.
        let _ = qemu.kill();
        let status = qemu.wait()?;
        for follower in followers {
            // A reader that went away (`| head`) is its own matter, not the command's.
            let _ = follower.finish();
        }
        match watched? {
            Watched::Ended => judge(status, folder),
            Watched::BootLimit => Ok(Outcome::Died(format!("the machine was not up after {} seconds", BOOT_LIMIT.as_secs()))),
            Watched::Timeout => Ok(Outcome::Timeout),
            Watched::Silent => Ok(Outcome::Silent),
        }
    }

    fn arguments(&self) -> Result<Vec<OsString>> {
        let root_size = fs::metadata(&self.image.root).context("find the root image")?.len();
        let mut args = Arguments::default();
        args.add("-nodefaults -no-user-config -no-reboot -display none");
        self.processor(&mut args);
        // Shared, because the virtiofs servers write the answers into the machine's memory.
        args.add(&format!("-m {},slots=1,maxmem={}", bytes(self.memory), bytes(self.memory + (root_size + (1 << 30)))));
        args.add(&format!("-object memory-backend-memfd,id=ram,size={},share=on", bytes(self.memory)));
        args.add("-machine q35,usb=off,sata=off,smbus=off,vmport=off,memory-backend=ram");

        args.add("-kernel").path("", &self.image.kernel, "");
        args.add("-initrd").path("", self.initrd, "");
        args.add("-append").0.push(self.kernel_command_line().into());

        // The root is mapped memory to the machine: reading it is no I/O, which in virtual time would take no settled number of ticks.
        args.add("-object").path(
            "memory-backend-file,id=root,readonly=on,share=on,mem-path=",
            &self.image.root,
            &format!(",size={root_size}"),
        );
        args.add("-device virtio-pmem-pci,memdev=root");
        args.add(&format!("-chardev file,id=console,path={SERIAL_LOG} -serial chardev:console"));
        args.add(&format!("-chardev file,id={RESULT},path={RESULT} -serial chardev:{RESULT}"));
        args.add("-device virtio-serial-pci,max_ports=3");
        for port in [STDOUT, STDERR] {
            args.add(&format!("-chardev file,id={port},path={port} -device virtserialport,chardev={port},name={port}"));
        }
        for Share { tag, .. } in self.shares {
            args.add(&format!("-chardev socket,id={tag},path={tag}.sock -device vhost-user-fs-pci,chardev={tag},tag={tag}"));
        }
        Ok(args.0)
    }

    fn processor(&self, args: &mut Arguments) {
        if self.icount {
            // With one seed for all that is random.
            args.add("-accel tcg -icount shift=0,sleep=off -rtc base=2026-01-01,clock=vm -seed 42");
            args.add(&format!("-cpu {EMULATED} -smp 1"));
            return;
        }
        // With what the host's processor has, its own virtualization above all; or emulated.
        let emulated = format!("-accel tcg,thread=multi -cpu {EMULATED}");
        args.add(if self.accel == Accel::Kvm { "-accel kvm -cpu host" } else { &emulated });
        args.add(&format!("-smp {}", self.cpus));
    }

    /// A fault ends the machine at once, so that it is seen as one. The emulated processor has none of the leaks that the mitigations are
    /// for, and its clock needs no watching.
    fn kernel_command_line(&self) -> String {
        let mut line = String::from(
            "console=ttyS0 quiet loglevel=4 panic=-1 oops=panic mitigations=off tsc=reliable cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1",
        );
        // On a busy host the timer may not tick in the moment in which the kernel looks whether it does, and then it panics.
        line.push_str(if self.icount { " nokaslr norandmaps" } else { " no_timer_check" });
        line
    }
}

/// QEMU's command line.
#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    /// Adds words.
    fn add(&mut self, words: &str) -> &mut Self {
        self.0.extend(words.split(' ').map(Into::into));
        self
    }

    /// Adds one word with a path in it; in QEMU's lists of properties a comma is written twice.
    fn path(&mut self, before: &str, path: &Path, after: &str) {
        let mut word = OsString::from(before);
        if before.is_empty() {
            word.push(path);
        } else {
            word.push(path.to_string_lossy().replace(',', ",,"));
        }
        word.push(after);
        self.0.push(word);
    }
}

enum Watched {
    Ended,
    BootLimit,
    Timeout,
    Silent,
}

/// Waits until QEMU ends or a limit is reached. The command's time counts from the moment the machine is up.
fn watch(qemu: &mut Child, folder: &Path, limits: &Limits) -> Result<Watched> {
    let length = |name: &str| fs::metadata(folder.join(name)).map(|metadata| metadata.len());
    let start = Instant::now();
    let mut up = None;
    let mut said = (0, start);
    while qemu.try_wait()?.is_none() {
        if up.is_none() && length(RESULT)? > 0 {
            up = Some(Instant::now());
        }
        let now = length(STDOUT)? + length(STDERR)?;
        if up.is_none() || now != said.0 {
            said = (now, Instant::now());
        }
        match up {
            None if start.elapsed() > BOOT_LIMIT => return Ok(Watched::BootLimit),
            Some(up) if up.elapsed() > limits.all => return Ok(Watched::Timeout),
            Some(_) if limits.silence.is_some_and(|limit| said.1.elapsed() > limit) => return Ok(Watched::Silent),
            _ => std::thread::sleep(POLL),
        }
    }
    Ok(Watched::Ended)
}

/// What the machine said before it ended.
fn judge(status: ExitStatus, folder: &Path) -> Result<Outcome> {
    let result = fs::read_to_string(folder.join(RESULT)).unwrap_or_default();
    Ok(match parse_result(&result) {
        Some(outcome) => outcome,
        None if !status.success() => {
            let log = fs::read_to_string(folder.join(QEMU_LOG)).unwrap_or_default();
            Outcome::Died(format!("QEMU failed ({status}): {}", log.trim()))
        }
        None => {
            let serial = fs::read(folder.join(SERIAL_LOG)).unwrap_or_default();
            Outcome::Died(cause_of_death(&String::from_utf8_lossy(&serial)))
        }
    })
}

fn parse_result(result: &str) -> Option<Outcome> {
    result.lines().find_map(|line| match line.split_once(' ')? {
        ("exit", code) => code.parse().ok().map(Outcome::Exit),
        ("fail", why) => Some(Outcome::Died(format!("the machine failed: {why}"))),
        _ => None,
    })
}

/// The kernel's own word, if it had one.
fn cause_of_death(serial: &str) -> String {
    let panic = serial.lines().find_map(|line| line.find("Kernel panic").map(|at| line[at..].trim_end()));
    match panic {
        Some(panic) => format!("the machine ended before the command did: {panic}"),
        None => "the machine ended before the command did".into(),
    }
}

/// Starts a program that dies with us, however we end: a Ctrl-C, a kill, a crash.
pub(super) fn spawn_tied<S: AsRef<OsStr>>(command: &[S], folder: &Path, stdin: Stdio, log: File) -> Result<Child> {
    let name = command.first().map(|program| Path::new(program).display().to_string());
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--"])
        .args(command)
        .current_dir(folder)
        .stdin(stdin)
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {}", name.unwrap_or_default()))
}

/// QEMU reads a number without a unit as mebibytes in some options and as bytes in others.
fn bytes(count: u64) -> String {
    format!("{count}B")
}

/// Reads `512M` or `2G`; answers in bytes.
pub(super) fn parse_memory(text: &str) -> Result<u64> {
    let (number, shift) = match text.as_bytes().last() {
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => bail!("give the memory with its unit, as in 512M or 2G"),
    };
    let count: u64 = number.parse().with_context(|| format!("{number:?} is no number"))?;
    let bytes = count.checked_mul(1 << shift).context("too much memory")?;
    ensure!(bytes >= 256 << 20, "the machine needs 256M at least");
    ensure!(bytes <= 1 << 42, "too much memory");
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_a_unit_and_sensible_limits() {
        assert_eq!(parse_memory("512M").unwrap(), 512 << 20);
        assert_eq!(parse_memory("2g").unwrap(), 2 << 30);
        for wrong in ["", "M", "2", "1M", "-1G", "99999999999G", "2T", "1.5G", "é"] {
            assert!(parse_memory(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_a_whole_word_of_the_machine_counts() {
        assert!(matches!(parse_result("up\r\nexit 7\r\n"), Some(Outcome::Exit(7))));
        assert!(matches!(parse_result("up\nfail no /dev/kvm\n"), Some(Outcome::Died(why)) if why.ends_with("no /dev/kvm")));
        for silent in ["", "up\n", "up\nexit", "up\nexit 256\n", "exit x\n"] {
            assert!(parse_result(silent).is_none(), "{silent:?}");
        }
    }

    #[test]
    fn a_panic_is_named() {
        let serial = "[    1.0] ok\r\n[    2.0] Kernel panic - not syncing: sysrq triggered crash\r\n";
        assert!(cause_of_death(serial).ends_with("Kernel panic - not syncing: sysrq triggered crash"));
        assert!(!cause_of_death("quiet").contains("panic"));
    }
}
