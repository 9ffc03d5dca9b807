//! The same machine on an emulated processor: QEMU, for hosts whose KVM can't run guests. It is many times slower.
//!
//! ```text
//! event loop ── Guest ──> Emulated ──QMP──> QEMU, a child of ours that dies with us
//! Console <── a thread ── serial port <───────┘
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `arguments` | QEMU's command line, and what it hasn't got |
//! | `monitor` | QEMU's monitor |
//! | `observe` | what QEMU and the kernel tell of it |
//! | this one | its start, its end, and what the event loop asks of it |

mod arguments;
mod monitor;
mod observe;

use crate::attend::{Guest, Outcome, Surroundings, attend};
use crate::config::Config;
use crate::confinement::Filters;
use crate::console::Console;
use crate::control::NewLimits;
use crate::error::{Error, Result, host};
use crate::machine::Report;
use crate::marks::Marks;
use crate::stats::Stats;
use crate::threads;
use insula_sys::epoll::Epoll;
use insula_virtio::block::{self, Block};
use insula_virtio::limiter::Limits;
use insula_virtio::net::{self, Net};
use insula_vm::kernel::Kernel;
use monitor::Monitor;
use observe::Cards;
use rustix::event::PollFlags;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// As many as a q35 takes on any version.
pub const MOST_VCPUS: usize = 254;

const MONITOR: u64 = 0;
const SERIAL: u64 = 1;

/// A machine of QEMU's that is made, and doesn't run yet.
pub struct Emulated {
    qemu: Qemu,
    monitor: Monitor,
    serial: OwnedFd,
    /// The serial port takes no more at present.
    full: bool,
    /// The event loop waits for it to take more.
    awaited: bool,
    config: Config,
    /// Disks as we would have them: opened and locked, so that no other machine of ours takes them.
    _disks: Vec<Block>,
    cards: Cards,
    console: Console,
    since: Instant,
    ended: Option<Outcome>,
}

/// QEMU's process; it ends with this.
struct Qemu(Child);

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Emulated {
    /// Puts a machine together; nothing of the guest runs yet.
    ///
    /// # Errors
    /// QEMU isn't installed, or something asked for can't be had; nothing is left behind.
    pub fn new(config: &Config, console: &Console) -> Result<Emulated> {
        arguments::check(config)?;
        let program = program()?;
        for path in [Some(&config.kernel), config.initrd.as_ref()].into_iter().flatten() {
            std::fs::File::open(path).map_err(|error| Error::File { path: path.clone(), cause: error.to_string() })?;
        }
        let lock = |disk: &block::Config| Block::new(block::Config { calls: block::Calls::Plain, ..disk.clone() });
        let disks = config.disks.iter().map(lock).collect::<insula_virtio::Result<_>>()?;
        config.cards.iter().try_for_each(net::must_exist)?;
        let (serial, its_serial) = pair()?;
        let (monitor, its_monitor) = pair()?;
        let args = arguments::arguments(config, its_serial.as_raw_fd(), its_monitor.as_raw_fd())?;
        let mut command = Command::new(&program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        insula_sys::process::dies_with_us(&mut command);
        for its in [&its_serial, &its_monitor] {
            rustix::io::fcntl_setfd(its, FdFlags::empty()).map_err(host("pass QEMU a socket"))?;
        }
        let mut qemu = Qemu(command.spawn().map_err(|error| Error::File { path: program, cause: error.to_string() })?);
        drop((its_serial, its_monitor));
        let monitor = match Monitor::new(UnixStream::from(monitor)) {
            Ok(monitor) => monitor,
            Err(error) => {
                let told = qemu.explained(error);
                return Err(ours(config).unwrap_or(told));
            }
        };
        let mut machine = Emulated {
            qemu,
            monitor,
            serial,
            full: false,
            awaited: false,
            config: config.clone(),
            _disks: disks,
            cards: Cards::new(&config.cards),
            console: console.clone(),
            since: Instant::now(),
            ended: None,
        };
        machine.set_up()?;
        Ok(machine)
    }

    /// What can only be said to a machine that is made.
    fn set_up(&mut self) -> Result<()> {
        for (number, disk) in self.config.disks.clone().iter().enumerate().filter(|(_, disk)| disk.limits != Limits::default()) {
            self.limit_disk(&format!("disk{number}"), disk.limits)?;
        }
        let Some(balloon) = self.config.balloon else { return Ok(()) };
        if balloon.bytes > 0 {
            self.monitor.ask("balloon", json!({"value": self.config.memory - balloon.bytes}))?;
        }
        if balloon.statistics_seconds > 0 {
            let interval = json!({"path": observe::BALLOON, "property": "guest-stats-polling-interval", "value": balloon.statistics_seconds});
            self.monitor.ask("qom-set", interval)?;
        }
        Ok(())
    }

    fn limit_disk(&mut self, id: &str, limits: Limits) -> Result<()> {
        let buckets = [limits.bandwidth, limits.operations];
        if buckets.into_iter().flatten().any(|bucket| bucket.one_time_burst > 0) {
            return Err(Error::Refused("QEMU has no burst that is granted once".into()));
        }
        let [bytes, operations] =
            buckets.map(|bucket| bucket.map_or(0, |bucket| bucket.size.saturating_mul(1000) / bucket.refill_ms.max(1)));
        let none = 0;
        self.monitor.ask(
            "block_set_io_throttle",
            json!({"id": format!("/machine/peripheral/{id}/virtio-backend"), "bps": bytes, "bps_rd": none, "bps_wr": none, "iops": operations, "iops_rd": none, "iops_wr": none}),
        )?;
        Ok(())
    }

    /// Runs the guest until it is off, or somebody ends it.
    ///
    /// # Errors
    /// QEMU ends by itself.
    pub fn run(mut self, with: Surroundings) -> Result<Report> {
        // Its own filters confine QEMU; this process looks at nothing of the guest's.
        let (prepared, entered) = with.prepare(&Arc::new(Filters::none()))?;
        let printer = self.print()?;
        let complaints = self.qemu.pass_on_complaints()?;
        self.monitor.ask("cont", json!({}))?;
        self.since = Instant::now();
        entered().map_err(host("tell that the guest runs"))?;
        let console = self.console.clone();
        let outcome = attend(&mut self, &console, prepared)?;
        let by_itself = matches!(outcome, Outcome::Off | Outcome::Reset);
        if by_itself {
            self.qemu.finish();
        }
        drop(self);
        // Nobody waits for a terminal that takes nothing when the user wants an end.
        if by_itself {
            let _ = (printer.join(), complaints.join());
        }
        Ok(Report { outcome, marks: Marks::default(), exits: None, notes: console.note().into_iter().collect() })
    }

    /// What the guest prints goes to the console by a thread: it may have to wait for the terminal.
    fn print(&self) -> Result<JoinHandle<()>> {
        let mut from = UnixStream::from(self.serial.try_clone().map_err(host("read the serial port"))?);
        let mut console = self.console.clone();
        let body = move || {
            let mut buffer = [0; 4096];
            loop {
                match from.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(length) => drop(console.write_all(&buffer[..length])),
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(_) => return,
                }
                console.settle();
            }
        };
        threads::start("serial", body)
    }

    fn heed(&mut self, event: &Value) {
        if event["event"] != "SHUTDOWN" {
            return;
        }
        self.ended = Some(match event.pointer("/data/reason").and_then(Value::as_str) {
            Some("guest-shutdown") => Outcome::Off,
            Some("guest-reset" | "guest-panic") => Outcome::Reset,
            _ => Outcome::Killed,
        });
    }
}

impl Qemu {
    /// What QEMU said before it ended, instead of what came of that.
    fn explained(&mut self, error: Error) -> Error {
        let _ = self.0.kill();
        let mut text = String::new();
        if let Some(mut errors) = self.0.stderr.take() {
            let _ = errors.read_to_string(&mut text);
        }
        match text.lines().rev().find_map(cause) {
            Some(cause) => Error::Host { what: "make the machine with QEMU", cause: cause.to_owned() },
            None => error,
        }
    }

    /// Gives it time to bring to the disks what it has for them.
    fn finish(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(20);
        let start = Instant::now();
        while matches!(self.0.try_wait(), Ok(None)) && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// From now on, what QEMU says appears as if we said it.
    fn pass_on_complaints(&mut self) -> Result<JoinHandle<()>> {
        let errors = self.0.stderr.take();
        let body = move || {
            use std::io::BufRead;
            let lines = errors
                .into_iter()
                .flat_map(|errors| std::io::BufReader::new(errors).split(b'\n').map_while(std::result::Result::ok));
            for line in lines {
                let _ = writeln!(std::io::stderr(), "insula: QEMU says: {}\r", String::from_utf8_lossy(&line));
            }
        };
        threads::start("qemu", body)
    }
}

/// What we would have said of the kernel and of taps: more than QEMU does.
fn ours(config: &Config) -> Option<Error> {
    let kernel = Kernel::open(&config.kernel, None).err().map(Error::from);
    kernel.or_else(|| config.cards.iter().find_map(|card| Net::new(card).err().map(Error::from)))
}

/// What a line of QEMU's says, without its name and the option that we gave it.
fn cause(line: &str) -> Option<&str> {
    let (_, told) = line.split_once(": ")?;
    Some(told.rsplit_once("}: ").map_or(told, |(_, cause)| cause))
}

/// A pair of sockets that only we have so far.
fn pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(host("make a pair of sockets"))
}

/// Where QEMU is.
fn program() -> Result<PathBuf> {
    const NAME: &str = "qemu-system-x86_64";
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Red Hat's is elsewhere, and not for the command line.
    let found = std::env::split_paths(&path).map(|dir| dir.join(NAME)).chain([PathBuf::from("/usr/libexec/qemu-kvm")]);
    let is_there = |path: &PathBuf| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && Path::is_file(path);
    found.into_iter().find(is_there).ok_or_else(|| Error::Config {
        option: "--accel tcg",
        problem: format!("there is no {NAME}; install QEMU (Debian and Ubuntu: qemu-system-x86)"),
    })
}

impl Guest for Emulated {
    fn watch(&mut self, epoll: &Epoll) -> Result<()> {
        Ok(epoll.add(self.monitor.fd(), PollFlags::IN, MONITOR)?)
    }

    fn update(&mut self, epoll: &Epoll) -> Result<()> {
        if self.full != self.awaited {
            self.awaited = self.full;
            let fd = self.serial.as_raw_fd();
            if self.full { epoll.add(fd, PollFlags::OUT, SERIAL)? } else { epoll.remove(fd) }
        }
        Ok(())
    }

    fn ready(&mut self, _: &Epoll, key: u64) -> Result<()> {
        if key == SERIAL {
            // It takes more; or its end is gone, which the monitor tells.
            self.full = false;
            return Ok(());
        }
        loop {
            match self.monitor.hear()? {
                Some(event) => self.heed(&event),
                None if self.ended.is_some() => {}
                None => {
                    let status = self.qemu.0.wait().map_err(host("wait for QEMU"))?;
                    return Err(Error::Host { what: "go on with the machine", cause: format!("QEMU has ended: {status}") });
                }
            }
            if !self.monitor.has_more() || self.ended.is_some() {
                return Ok(());
            }
        }
    }

    fn ended(&self) -> Option<Outcome> {
        self.ended
    }

    fn room(&mut self) -> usize {
        if self.full { 0 } else { 256 }
    }

    fn type_in(&mut self, bytes: &[u8]) -> usize {
        match rustix::net::send(self.serial.as_fd(), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => sent,
            Err(Errno::INTR) => 0,
            Err(_) => {
                self.full = true;
                0
            }
        }
    }

    /// The power button: a guest has to listen for it (driver `button`, and systemd-logind or acpid).
    fn stop(&mut self) -> Result<()> {
        self.monitor.ask("system_powerdown", json!({})).map(drop)
    }

    fn stats(&mut self) -> Result<Stats> {
        observe::stats(&mut self.monitor, &self.config, self.qemu.0.id(), self.since, &self.cards)
    }

    fn set_balloon(&mut self, bytes: u64) -> Result<()> {
        if self.config.balloon.is_none() {
            return Err(Error::Refused("the machine has no balloon; start it with --balloon".into()));
        }
        let guest = self.config.memory;
        let left = guest.checked_sub(bytes).filter(|left| *left > 0);
        let left = left.ok_or_else(|| {
            Error::Refused(format!("the balloon can't have {} MiB of the guest's {} MiB", bytes >> 20, guest >> 20))
        })?;
        self.monitor.ask("balloon", json!({"value": left})).map(drop)
    }

    fn set_limits(&mut self, limits: &NewLimits) -> Result<()> {
        let number = limits.device.strip_prefix("disk").and_then(|number| number.parse::<usize>().ok());
        match (number.filter(|number| *number < self.config.disks.len()), limits.both) {
            (Some(_), Some(both)) => self.limit_disk(&limits.device, both),
            _ => Err(Error::Refused(format!("{} isn't a disk of this machine, and QEMU limits nothing else", limits.device))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::cause;

    #[test]
    fn what_qemu_says_is_cut_to_its_cause() {
        assert_eq!(
            cause("qemu-system-x86_64: -netdev {\"ifname\": \"t\"}: could not configure: busy"),
            Some("could not configure: busy")
        );
        assert_eq!(cause("qemu-system-x86_64: Error loading kernel"), Some("Error loading kernel"));
        assert_eq!(cause("hello"), None);
    }
}
