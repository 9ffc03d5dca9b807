//! The balloon device (section 5.5): memory that the guest doesn't use goes back to the host.
//!
//! Two ways: the host asks for so much ([`Balloon::set_target`]) and the guest's driver names pages to go; or the guest reports what it has
//! free, unasked (section 5.5.6.7). Such a page reads as zeros from then on, and comes from the host again when it is touched.

use crate::chain::Chain;
use crate::device::{self, Activation, Change, Device, DeviceState, Saved, Source, Token, read_bytes};
use crate::error::{Error, Result, Tried};
use crate::interrupt::Interrupt;
use crate::ring::Ring;
use insula_sys::guest;
use insula_vm::memory::GuestMemory;
use rustix::event::PollFlags;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

/// Section 5.5: its number.
pub const KIND: u32 = 5;
/// Section 5.5.3: feature bits.
const STATISTICS: u32 = 1;
const DEFLATE_ON_OOM: u32 = 2;
const REPORTING: u32 = 5;
/// A page of the balloon's is 4 KiB everywhere (section 5.5.6).
const PAGE: u64 = 4096;
const SIZES: [u16; 4] = [128, 128, 16, 32];
/// Most pages, or statistics, that are read of one request. Linux names 256.
const MOST: u32 = 16 << 10;
/// Tag and value of one statistic (section 5.5.6.3).
const STATISTIC: u32 = 10;
const INFLATE: Token = 0;
const DEFLATE: Token = 1;
const ASKED: Token = 2;
const REPORT: Token = 3;
const TIMER: Token = 4;

/// What it is made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How many bytes the guest is to give up at the start.
    #[serde(default)]
    pub bytes: u64,
    /// The guest may take pages back before it runs out of memory.
    #[serde(default)]
    pub deflate_on_oom: bool,
    /// The guest may report pages that it doesn't use, unasked.
    #[serde(default)]
    pub free_page_reporting: bool,
    /// The guest is asked for statistics of its memory every so many seconds; 0 is never.
    #[serde(default)]
    pub statistics_seconds: u32,
}

/// What has to be known to go on, in pages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    target: u32,
    actual: u32,
}

/// What it has done, and what the guest says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Bytes that the guest is to give up.
    pub target: u64,
    /// Bytes that it says to have given up.
    pub actual: u64,
    /// Bytes that it reported as free; reported twice, they count twice.
    pub reported: u64,
    /// What it said of its memory, by the names of section 5.5.6.3.
    pub guest: BTreeMap<String, u64>,
}

/// The device.
#[derive(Debug)]
pub struct Balloon {
    config: Config,
    target: u32,
    actual: u32,
    reported: u64,
    statistics: BTreeMap<u16, u64>,
    /// Comes when the guest is to be asked for statistics.
    timer: Option<OwnedFd>,
    running: Option<Running>,
}

/// What there is while there is a driver.
#[derive(Debug)]
struct Running {
    /// By their tokens.
    rings: [Option<Ring>; 4],
    /// Their numbers.
    numbers: [usize; 4],
    /// The driver's buffer for statistics: given back, it is asked for new ones.
    held: Option<Chain>,
    interrupt: Interrupt,
}

fn pages(bytes: u64) -> u32 {
    u32::try_from(bytes / PAGE).unwrap_or(u32::MAX)
}

/// A timer that comes every so many seconds.
fn timer(seconds: u32) -> Result<OwnedFd> {
    let what = "make a timer for the balloon's statistics";
    let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC);
    let timer = timer.tried(what)?;
    let every = Timespec { tv_sec: seconds.into(), tv_nsec: 0 };
    let times = Itimerspec { it_interval: every, it_value: every };
    rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times).tried(what)?;
    Ok(timer)
}

/// The name of a statistic, section 5.5.6.3.
fn name(tag: u16) -> String {
    const NAMES: [&str; 10] = [
        "swapped_in",
        "swapped_out",
        "major_faults",
        "minor_faults",
        "free",
        "total",
        "available",
        "caches",
        "huge_pages_made",
        "huge_pages_failed",
    ];
    NAMES.get(usize::from(tag)).map_or_else(|| format!("tag_{tag}"), |name| (*name).to_owned())
}

impl Balloon {
    /// Makes the device.
    ///
    /// # Errors
    /// No descriptor is left for the timer.
    pub fn new(config: Config) -> Result<Balloon> {
        let timer = (config.statistics_seconds > 0).then(|| timer(config.statistics_seconds)).transpose()?;
        let (target, statistics) = (pages(config.bytes), BTreeMap::new());
        Ok(Balloon { config, target, actual: 0, reported: 0, statistics, timer, running: None })
    }

    /// Asks the guest to give up so many bytes in all; less than before gives it some back.
    pub fn set_target(&mut self, bytes: u64) {
        self.target = pages(bytes);
        if let Some(running) = &self.running {
            running.interrupt.config();
        }
    }

    /// How many bytes the guest says to have given up.
    pub fn actual(&self) -> u64 {
        u64::from(self.actual) * PAGE
    }

    /// What the guest last said of its memory, by tag (section 5.5.6.3: 4 is free memory in bytes, 5 all of it, 6 what can be had). The
    /// guest's word, no more.
    pub fn statistics(&self) -> &BTreeMap<u16, u64> {
        &self.statistics
    }

    /// Asks the guest for new statistics; false if it doesn't give any, or hasn't answered the last time.
    ///
    /// # Errors
    /// The queue is broken.
    pub fn ask_statistics(&mut self) -> Result<bool> {
        let Some(running) = &mut self.running else { return Ok(false) };
        let (Some(ring), Some(chain)) = (&mut running.rings[ASKED as usize], running.held.take()) else { return Ok(false) };
        ring.push(chain, 0)?;
        ring.signal()?;
        Ok(true)
    }

    /// Serves a queue whose requests are answered at once.
    fn serve(&mut self, token: Token) -> Result<()> {
        let Some(ring) = self.running.as_mut().and_then(|running| running.rings[token as usize].as_mut()) else { return Ok(()) };
        ring.begin()?;
        loop {
            while let Some(chain) = ring.pop()? {
                match token {
                    INFLATE => inflate(&chain, ring.memory()),
                    REPORT => {
                        self.reported += u64::from(chain.writable().len());
                        chain.writable().pieces().iter().for_each(|&(at, length)| give_back(ring.memory(), at, length.into()))
                    }
                    // A page that is taken back needs nothing: it is there when it is touched.
                    _ => {}
                }
                ring.push(chain, 0)?;
            }
            if ring.idle()? {
                break;
            }
        }
        ring.signal()
    }

    /// Takes statistics, and keeps the buffer they came in.
    fn collect(&mut self) -> Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        let Some(ring) = &mut running.rings[ASKED as usize] else { return Ok(()) };
        ring.begin()?;
        loop {
            while let Some(chain) = ring.pop()? {
                let count = (chain.readable().len() / STATISTIC).min(64);
                for index in 0..count {
                    let Some(raw) = chain.readable().array::<{ STATISTIC as usize }>(ring.memory(), index * STATISTIC) else {
                        break;
                    };
                    let tag = u16::from_le_bytes([raw[0], raw[1]]);
                    // Tags of the future are welcome, but not without end.
                    if tag < 64 {
                        self.statistics.insert(tag, u64::from_le_bytes(std::array::from_fn(|byte| raw[byte + 2])));
                    }
                }
                // There is one buffer (section 5.5.6.3); another one takes its place.
                if let Some(before) = running.held.replace(chain) {
                    ring.push(before, 0)?;
                }
            }
            if ring.idle()? {
                break;
            }
        }
        ring.signal()
    }
}

/// Gives the pages back whose numbers were sent. Those beside each other go in one call.
fn inflate(chain: &Chain, memory: &GuestMemory) {
    let count = (chain.readable().len() / 4).min(MOST);
    let mut bytes = vec![0; count as usize * 4];
    let count = chain.readable().read(memory, 0, &mut bytes) / 4;
    let mut numbers: Vec<u32> =
        bytes.chunks_exact(4).take(count).map(|raw| u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]])).collect();
    numbers.sort_unstable();
    numbers.dedup();
    for run in numbers.chunk_by(|before, after| after - before == 1) {
        give_back(memory, GuestAddress(u64::from(run[0]) * PAGE), run.len() as u64 * PAGE);
    }
}

/// Gives a range back to the host, as far as it is memory.
fn give_back(memory: &GuestMemory, at: GuestAddress, length: u64) {
    for slice in memory.get_slices(at, length as usize) {
        let Ok(slice) = slice else { return };
        let shared = memory.find_region(at).is_some_and(|region| region.file_offset().is_some());
        // Refused for a part of a huge page: then the host goes on without it.
        let _ = guest::give_back(&slice, shared);
    }
}

impl Device for Balloon {
    fn kind(&self) -> u32 {
        KIND
    }

    fn features(&self) -> u64 {
        u64::from(self.timer.is_some()) << STATISTICS
            | u64::from(self.config.deflate_on_oom) << DEFLATE_ON_OOM
            | u64::from(self.config.free_page_reporting) << REPORTING
    }

    fn queue_sizes(&self) -> &[u16] {
        &SIZES
    }

    /// Section 5.5.4: how many pages are wanted, and how many there are.
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_bytes(&[self.target.to_le_bytes(), self.actual.to_le_bytes()].concat(), offset, data);
    }

    /// Only how many there are is the driver's to say.
    fn write_config(&mut self, offset: u64, data: &[u8]) {
        if let (4, Ok(actual)) = (offset, data.try_into()) {
            self.actual = u32::from_le_bytes(actual);
        }
    }

    fn activate(&mut self, mut start: Activation) -> Result<()> {
        // Section 5.5.2: a queue that wasn't accepted isn't counted.
        let statistics = start.accepted(STATISTICS);
        let numbers = [0, 1, 2, 2 + usize::from(statistics)];
        let reporting = start.accepted(REPORTING);
        let third = if statistics { start.queue(numbers[2]) } else { None };
        let fourth = if reporting { start.queue(numbers[3]) } else { None };
        let rings = [start.queue(0), start.queue(1), third, fourth];
        self.running = Some(Running { rings, numbers, held: None, interrupt: start.interrupt });
        Ok(())
    }

    fn reset(&mut self) {
        self.running = None;
        self.actual = 0;
        self.statistics.clear();
    }

    fn sources(&self) -> Vec<Source> {
        let rings = self.running.iter().flat_map(|running| running.rings.iter().zip(INFLATE..));
        let source = |(ring, token): (&Option<Ring>, Token)| {
            ring.as_ref().map(|ring| Source { fd: ring.kick_fd(), token, interest: PollFlags::IN })
        };
        let timer = self.timer.iter().map(|timer| Source { fd: timer.as_raw_fd(), token: TIMER, interest: PollFlags::IN });
        rings.filter_map(source).chain(timer).collect()
    }

    fn event(&mut self, token: Token) -> Result<Change> {
        match token {
            ASKED => self.collect()?,
            INFLATE | DEFLATE | REPORT => self.serve(token)?,
            TIMER => {
                if let Some(timer) = &self.timer {
                    let _ = rustix::io::read(timer, &mut [0_u8; 8]);
                }
                self.ask_statistics()?;
            }
            _ => {}
        }
        Ok(Change::Nothing)
    }

    fn save(&mut self) -> Result<Saved> {
        let mut rings = vec![None; SIZES.len()];
        for (ring, number) in self.running.iter().flat_map(|running| running.rings.iter().zip(running.numbers)) {
            if let Some(ring) = ring {
                rings[number] = Some(ring.state());
            }
        }
        Ok(Saved { rings, device: DeviceState::Balloon(State { target: self.target, actual: self.actual }) })
    }

    fn restore(&mut self, saved: &DeviceState) -> Result<()> {
        let DeviceState::Balloon(state) = saved else {
            return Err(Error::State { kind: KIND, cause: "it is another device's".into() });
        };
        (self.target, self.actual) = (state.target, state.actual);
        Ok(())
    }

    fn counters(&self) -> device::Counters {
        let guest = self.statistics.iter().map(|(tag, value)| (name(*tag), *value)).collect();
        let (target, actual) = (u64::from(self.target) * PAGE, self.actual());
        device::Counters::Balloon(Counters { target, actual, reported: self.reported, guest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{DATA, Driver, MEMORY, Piece};

    fn driver(features: u64) -> Driver {
        let config = Config { bytes: 1 << 20, deflate_on_oom: true, free_page_reporting: true, statistics_seconds: 3600 };
        let mut driver = Driver::new(Box::new(Balloon::new(config).unwrap()), features);
        driver.patience = 0;
        driver
    }

    #[test]
    fn pages_that_are_named_are_given_back() {
        let mut driver = driver(0);
        let page = |number: u64| DATA + 0x10_0000 + number * PAGE;
        driver.put(page(0), &[7; 5 * PAGE as usize]);
        let beyond = (MEMORY / PAGE) as u32;
        let numbers = [page(3), page(1), page(2), page(1)].map(|address| (address / PAGE) as u32);
        for (index, number) in numbers.into_iter().chain([beyond, u32::MAX]).enumerate() {
            driver.put(DATA + 4 * index as u64, &number.to_le_bytes());
        }
        let head = driver.add(0, &[Piece::read(DATA, 24)]);
        let taken_back = driver.add(1, &[Piece::read(DATA, 24)]);
        assert_eq!(driver.run(), [(0, head, 0), (1, taken_back, 0)]);
        let found: Vec<u8> = (0..5).map(|number| driver.bytes(page(number) + 9, 1)[0]).collect();
        assert_eq!(found, [7, 0, 0, 0, 7]);
    }

    #[test]
    fn free_pages_are_reported_in_the_queue_that_is_left() {
        for (features, queue) in [(1 << REPORTING, 2), (1 << REPORTING | 1 << STATISTICS, 3)] {
            let mut driver = driver(features);
            driver.put(DATA, &[7; 0x3000]);
            let head = driver.add(queue, &[Piece::write(DATA, 0x1000), Piece::write(DATA + 0x2000, 0x1000)]);
            assert_eq!(driver.run(), [(queue, head, 0)]);
            assert_eq!([0, 0x1000, 0x2000].map(|at| driver.bytes(DATA + at, 1)[0]), [0, 7, 0]);
        }
    }

    #[test]
    fn statistics_come_when_they_are_asked_for() {
        let mut driver = driver(1 << STATISTICS);
        driver.put(DATA, &[4, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 1, 1, 1, 1, 1, 1, 1]);
        let head = driver.add(2, &[Piece::read(DATA, 20)]);
        assert_eq!(driver.run(), [], "the buffer is kept");
        let mut ask = || driver.transport.ask(|balloon: &mut Balloon| balloon.ask_statistics().unwrap()).unwrap();
        assert_eq!((ask(), ask()), (true, false));
        let known = driver.transport.ask(|balloon: &mut Balloon| balloon.statistics().clone()).unwrap();
        assert_eq!(known, BTreeMap::from([(4, 513)]));
        assert_eq!(driver.used(), [(2, head, 0)]);
    }

    #[test]
    fn host_and_guest_tell_each_other_how_much() {
        let mut driver = driver(0);
        assert_eq!(driver.config::<8>(0), [0, 1, 0, 0, 0, 0, 0, 0]);
        driver.set(0x104, 77);
        driver.set(0x100, 5);
        assert_eq!(driver.transport.ask(|balloon: &mut Balloon| balloon.actual()).unwrap(), 77 * 4096);
        driver.transport.ask(|balloon: &mut Balloon| balloon.set_target(8192)).unwrap();
        assert!(driver.interrupted());
        assert_eq!(driver.config::<8>(0), [2, 0, 0, 0, 77, 0, 0, 0]);
    }
}
