//! The block device (section 5.2): a disk that is a file or a block device of the host's.
//!
//! ```text
//! kick ─> pop ─> request::parse ─> limiter ─> engine::start … one io_uring_enter for all of a kick
//!                                                   │
//! push <─ status byte <─ what came short, finished <─ engine::complete
//! ```
//!
//! Bytes go straight between the file and the guest's memory. The guest's memory is only looked at for a request's header, and for the
//! range of a discard. Whatever the file does (it shrinks, its disk fails, its file system is full), the guest gets an I/O error.

mod disk;
mod engine;
mod request;
#[cfg(test)]
mod tests;

use crate::device::{self, Activation, Change, Device, DeviceState, Saved, Source, Token, read_bytes};
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::limiter::{Limiter, Limits};
use crate::ring::Ring;
use disk::Disk;
use engine::Engine;
use request::{Job, Request, Status};
use rustix::event::PollFlags;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO, VIRTIO_BLK_F_SEG_MAX,
    VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_WRITE_ZEROES, VIRTIO_BLK_ID_BYTES,
};

/// Section 5.2: its number.
pub const KIND: u32 = 2;
const SIZE: [u16; 1] = [256];
/// A sector is 512 bytes in every field, whatever the size of blocks (section 5.2.4).
pub const SECTOR: u64 = 512;
/// Most sectors of a discard: 2 GiB, a hole in a file is cheap.
const MOST_DISCARD: u32 = 4 << 20;
/// Most sectors of a write of zeros: 16 MiB, as some file systems have them written.
const MOST_ZEROES: u32 = 32 << 10;
const KICK: Token = 0;
const TIMER: Token = 1;
const DONE: Token = 2;

/// Through which cache of the host's the guest's bytes go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cache {
    /// The host's page cache; a flush of the guest's brings all to the disk.
    #[default]
    Cached,
    /// None (O_DIRECT). What a guest doesn't align as the disk needs it goes through the page cache, which the kernel keeps in step.
    Direct,
}

/// By which calls files are read and written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Calls {
    /// io_uring, or `preadv` where that is refused; [`Block::without_uring`] says why.
    #[default]
    Auto,
    /// io_uring, or nothing.
    Uring,
    /// `preadv` and `pwritev`: one request after the other.
    Plain,
}

/// What it is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The file, or block device.
    pub path: PathBuf,
    /// The guest can't write.
    #[serde(default)]
    pub read_only: bool,
    /// Through which cache.
    #[serde(default)]
    pub cache: Cache,
    /// By which calls.
    #[serde(default)]
    pub calls: Calls,
    /// What the guest knows it by (`/dev/disk/by-id/virtio-…`): at most 20 bytes of ASCII.
    #[serde(default)]
    pub serial: String,
    /// How much at what rate.
    #[serde(default)]
    pub limits: Limits,
}

/// What has to be known to go on: how large the guest believes the disk to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    sectors: u64,
}

/// What it has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Requests to read that succeeded.
    pub reads: u64,
    /// Requests to write that succeeded.
    pub writes: u64,
    /// Flushes that succeeded.
    pub flushes: u64,
    /// Discards, and writes of zeros, that succeeded.
    pub discards: u64,
    /// Requests that failed.
    pub errors: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
}

impl Counters {
    fn count(&mut self, request: &Request, status: Status) {
        match request {
            _ if status == Status::Error => self.errors += 1,
            _ if status != Status::Ok => {}
            Request::Read { length, .. } => {
                self.reads += 1;
                self.read_bytes += u64::from(*length);
            }
            Request::Write { length, .. } => {
                self.writes += 1;
                self.written_bytes += u64::from(*length);
            }
            Request::Flush => self.flushes += 1,
            Request::Discard { .. } | Request::Zero { .. } => self.discards += 1,
            Request::Done { .. } => {}
        }
    }
}

/// The device.
#[derive(Debug)]
pub struct Block {
    path: PathBuf,
    counters: Counters,
    // Before the disk, which others may use as soon as it goes.
    engine: Engine,
    disk: Disk,
    serial: [u8; VIRTIO_BLK_ID_BYTES as usize],
    without_uring: Option<rustix::io::Errno>,
    limiter: Limiter,
    /// The size has changed since the guest was last here.
    resized: bool,
    running: Option<Running>,
}

/// What there is while there is a driver.
#[derive(Debug)]
struct Running {
    ring: Ring,
    interrupt: Interrupt,
    /// The driver doesn't know of flushes, so every write is one.
    durable: bool,
}

impl Block {
    /// Opens the disk. One that is written to can be open once only.
    ///
    /// # Errors
    /// The file can't be opened, is open elsewhere, or can't be used in this way.
    pub fn new(config: Config) -> Result<Block> {
        let refuse = |cause: &str| Error::Config { device: "block", cause: cause.to_owned() };
        let mut serial = [0; VIRTIO_BLK_ID_BYTES as usize];
        if config.serial.len() > serial.len() || !config.serial.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(refuse(&format!("the serial `{}` isn't at most 20 visible characters of ASCII", config.serial)));
        }
        serial[..config.serial.len()].copy_from_slice(config.serial.as_bytes());
        let disk = Disk::open(&config.path, config.read_only, config.cache)?;
        let (engine, without_uring) = match config.calls {
            Calls::Plain => (Engine::Plain, None),
            Calls::Auto | Calls::Uring => match Engine::uring(SIZE[0], &disk) {
                Ok(engine) => (engine, None),
                Err(errno) if config.calls == Calls::Auto => (Engine::Plain, Some(errno)),
                Err(errno) => {
                    let cause = insula_sys::error::describe(errno);
                    return Err(refuse(&format!("io_uring can't be used here: {cause}; `plain` needs none")));
                }
            },
        };
        let limiter = Limiter::new(config.limits)?;
        let (path, counters) = (config.path, Counters::default());
        Ok(Block { path, counters, disk, engine, serial, without_uring, limiter, resized: false, running: None })
    }

    /// Sets new limits. What waits for the old ones is looked at again; then [`Device::sources`] is to be asked again.
    ///
    /// # Errors
    /// No descriptor is left for a timer, or the driver broke the queue.
    pub fn set_limits(&mut self, limits: Limits) -> Result<()> {
        self.limiter = Limiter::new(limits)?;
        self.serve()
    }

    /// What the user should know of requests that failed: how many, and that the file has become smaller, if it has.
    pub fn trouble(&self) -> Option<String> {
        let errors = self.counters.errors;
        let (now, before) = (self.disk.bytes().unwrap_or(0), self.disk.sectors() * SECTOR);
        let shrunk = now / SECTOR < self.disk.sectors();
        let path = self.path.display();
        match (errors, shrunk) {
            (0, _) => None,
            (_, true) => {
                Some(format!("{errors} requests to the disk {path} failed: it shrank from {before} to {now} bytes while in use"))
            }
            _ => Some(format!("{errors} requests to the disk {path} failed")),
        }
    }

    /// Why io_uring isn't used although it might be: the kernel's answer. For a notice to the user.
    pub fn without_uring(&self) -> Option<rustix::io::Errno> {
        self.without_uring
    }

    /// Looks at the file's size again, and tells the guest if that has changed (section 5.2.4.2). Answers the bytes.
    ///
    /// # Errors
    /// The file can't be asked.
    pub fn refresh(&mut self) -> Result<u64> {
        if self.disk.refresh()? {
            self.resized = true;
            self.tell_size();
        }
        Ok(self.disk.sectors() * SECTOR)
    }

    fn tell_size(&mut self) {
        if let (true, Some(running)) = (self.resized, &self.running) {
            running.interrupt.config();
            self.resized = false;
        }
    }

    /// Takes requests until there are none, hands them over at once, and answers what is done by then.
    fn serve(&mut self) -> Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        running.ring.begin()?;
        loop {
            while let Some(chain) = running.ring.pop()? {
                let job = request::parse(chain, running.ring.memory(), &self.disk, &self.serial);
                if !self.limiter.pass(job.request.bytes()) {
                    running.ring.unpop(job.chain);
                    return running.settle(&mut self.engine, &self.disk, &mut self.counters);
                }
                if let Some((job, status)) = self.engine.start(job, running.ring.memory(), &self.disk, running.durable) {
                    running.answer(job, status, &mut self.counters)?;
                }
            }
            running.collect(&mut self.engine, &self.disk, &mut self.counters)?;
            if running.ring.idle()? {
                break;
            }
        }
        running.ring.signal()
    }
}

impl Running {
    /// Hands over what was started, answers what is done, and tells the driver.
    fn settle(&mut self, engine: &mut Engine, disk: &Disk, counters: &mut Counters) -> Result<()> {
        self.collect(engine, disk, counters)?;
        self.ring.signal()
    }

    fn collect(&mut self, engine: &mut Engine, disk: &Disk, counters: &mut Counters) -> Result<()> {
        engine.submit()?;
        while let Some((job, status)) = engine.complete(self.ring.memory(), disk, self.durable) {
            self.answer(job, status, counters)?;
        }
        Ok(())
    }

    /// Section 5.2.6: the status is the last byte that the driver gave to be written.
    fn answer(&mut self, job: Job, status: Status, counters: &mut Counters) -> Result<()> {
        let Job { chain, request, status_at } = job;
        counters.count(&request, status);
        let Some(at) = status_at else { return self.ring.push(chain, 0) };
        let stated = chain.writable().write(self.ring.memory(), at, &[status as u8]) == 1;
        // So many bytes are written, from the first on (section 2.7.8.2): a read that failed may have left holes.
        let written = if stated && (at == 0 || status == Status::Ok && request.fills()) { at + 1 } else { 0 };
        self.ring.push(chain, written)
    }
}

impl Device for Block {
    fn kind(&self) -> u32 {
        KIND
    }

    fn features(&self) -> u64 {
        let always = [VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_FLUSH];
        let writable = [VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES];
        let own: &[u32] = if self.disk.read_only() { &[VIRTIO_BLK_F_RO] } else { &writable };
        always.iter().chain(own).fold(0, |features, bit| features | 1 << bit)
    }

    fn queue_sizes(&self) -> &[u16] {
        &SIZE
    }

    /// Section 5.2.4.
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        let mut config = [0; 60];
        let mut set = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
        let block = self.disk.block_size();
        let (physical, seg_max) = (block.max(4096), u32::from(SIZE[0]) - 2);
        set(0, &self.disk.sectors().to_le_bytes());
        set(12, &seg_max.to_le_bytes());
        set(20, &block.to_le_bytes());
        set(24, &[(physical / block).trailing_zeros() as u8, 0]);
        set(26, &((physical / block) as u16).to_le_bytes());
        // One range in a request: the kernel takes one in a call.
        for (at, most) in [(36, MOST_DISCARD), (48, MOST_ZEROES)] {
            set(at, &most.to_le_bytes());
            set(at + 4, &1_u32.to_le_bytes());
        }
        set(44, &((block as u64 / SECTOR) as u32).to_le_bytes());
        set(56, &[1]);
        read_bytes(&config, offset, data);
    }

    fn activate(&mut self, mut start: Activation) -> Result<()> {
        let durable = !start.accepted(VIRTIO_BLK_F_FLUSH);
        let Some(ring) = start.queue(0) else { return Ok(()) };
        self.engine.begin(&start.memory)?;
        self.running = Some(Running { ring, interrupt: start.interrupt, durable });
        self.tell_size();
        Ok(())
    }

    fn reset(&mut self) {
        self.engine.end();
        self.running = None;
    }

    fn sources(&self) -> Vec<Source> {
        let Some(running) = &self.running else { return Vec::new() };
        let kick = Source { fd: running.ring.kick_fd(), token: KICK, interest: PollFlags::IN };
        let done = self.engine.fd().map(|fd| Source { fd, token: DONE, interest: PollFlags::IN });
        [Some(kick), done, self.limiter.source(TIMER)].into_iter().flatten().collect()
    }

    fn event(&mut self, token: Token) -> Result<Change> {
        let Some(running) = &mut self.running else { return Ok(Change::Nothing) };
        match token {
            TIMER => self.limiter.event(),
            DONE => {
                let full = running.ring.taken() == running.ring.size();
                running.settle(&mut self.engine, &self.disk, &mut self.counters)?;
                // A full device left requests in the queue without asking for a kick.
                if !full {
                    return Ok(Change::Nothing);
                }
            }
            _ => {}
        }
        self.serve()?;
        Ok(Change::Nothing)
    }

    fn save(&mut self) -> Result<Saved> {
        let mut rings = vec![None];
        if let Some(running) = &mut self.running {
            while self.engine.in_flight() > 0 {
                self.engine.wait()?;
                running.settle(&mut self.engine, &self.disk, &mut self.counters)?;
            }
            rings[0] = Some(running.ring.state());
        }
        Ok(Saved { rings, device: DeviceState::Block(State { sectors: self.disk.sectors() }) })
    }

    fn restore(&mut self, saved: &DeviceState) -> Result<()> {
        let DeviceState::Block(state) = saved else {
            return Err(Error::State { kind: KIND, cause: "it is another device's".into() });
        };
        self.resized = state.sectors != self.disk.sectors();
        Ok(())
    }

    fn counters(&self) -> device::Counters {
        device::Counters::Block(self.counters)
    }
}
