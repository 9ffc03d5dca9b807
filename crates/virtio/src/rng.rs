//! The entropy device (section 5.4): random bytes of the host's, at most so many a second.

use crate::device::{self, Activation, Change, Device, DeviceState, Saved, Source, Token};
use crate::error::{Error, Result};
use crate::limiter::{Limiter, Limits};
use crate::ring::Ring;
use rustix::event::PollFlags;
use rustix::rand::GetRandomFlags;
use serde::{Deserialize, Serialize};

/// Section 5.4: its number.
pub const KIND: u32 = 4;
const SIZE: [u16; 1] = [256];
/// One request gets so much at most; the driver asks again for more (section 5.4.6.2: it may be less than the buffer).
const MOST: usize = 64 << 10;
const KICK: Token = 0;
const TIMER: Token = 1;

/// What it is made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How much entropy at what rate.
    #[serde(default)]
    pub limits: Limits,
}

/// Nothing has to be known to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {}

/// What it has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Bytes that the guest got.
    pub bytes: u64,
}

/// The device.
#[derive(Debug)]
pub struct Rng {
    counters: Counters,
    limiter: Limiter,
    ring: Option<Ring>,
    bytes: Vec<u8>,
}

impl Rng {
    /// Makes the device.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new(config: Config) -> Result<Rng> {
        Ok(Rng { counters: Counters::default(), limiter: Limiter::new(config.limits)?, ring: None, bytes: Vec::new() })
    }

    fn serve(&mut self) -> Result<()> {
        let Some(ring) = &mut self.ring else { return Ok(()) };
        ring.begin()?;
        loop {
            while let Some(chain) = ring.pop()? {
                let wanted = (chain.writable().len() as usize).min(MOST);
                if !self.limiter.pass(wanted as u64) {
                    ring.unpop(chain);
                    return ring.signal();
                }
                self.bytes.resize(wanted, 0);
                let filled = fill(&mut self.bytes);
                let written = chain.writable().write(ring.memory(), 0, &self.bytes[..filled]);
                self.counters.bytes += written as u64;
                ring.push(chain, written as u32)?;
            }
            if ring.idle()? {
                break;
            }
        }
        // What was handed out is nobody else's.
        self.bytes.fill(0);
        ring.signal()
    }
}

/// Random bytes, getrandom(2); how many there are. It waits only on a host that has just booted.
fn fill(bytes: &mut [u8]) -> usize {
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
    }
    filled
}

impl Device for Rng {
    fn kind(&self) -> u32 {
        KIND
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &SIZE
    }

    fn read_config(&self, _: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn activate(&mut self, mut start: Activation) -> Result<()> {
        self.ring = start.queue(0);
        Ok(())
    }

    fn reset(&mut self) {
        self.ring = None;
    }

    fn sources(&self) -> Vec<Source> {
        let kick = self.ring.iter().map(|ring| Source { fd: ring.kick_fd(), token: KICK, interest: PollFlags::IN });
        kick.chain(self.limiter.source(TIMER)).collect()
    }

    fn event(&mut self, token: Token) -> Result<Change> {
        if token == TIMER {
            self.limiter.event();
        }
        self.serve()?;
        Ok(Change::Nothing)
    }

    fn save(&mut self) -> Result<Saved> {
        Ok(Saved { rings: vec![self.ring.as_ref().map(Ring::state)], device: DeviceState::Rng(State {}) })
    }

    fn restore(&mut self, saved: &DeviceState) -> Result<()> {
        match saved {
            DeviceState::Rng(State {}) => Ok(()),
            _ => Err(Error::State { kind: KIND, cause: "it is another device's".into() }),
        }
    }

    fn counters(&self) -> device::Counters {
        device::Counters::Rng(self.counters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter::Bucket;
    use crate::testing::{Driver, Piece};

    fn driver(config: Config) -> Driver {
        Driver::new(Box::new(Rng::new(config).unwrap()), 0)
    }

    #[test]
    fn buffers_are_filled_and_the_driver_hears_of_it() {
        let mut driver = driver(Config::default());
        let id = driver.add(0, &[Piece::write(0x10_0000, 32), Piece::write(0x11_0000, 100)]);
        assert_eq!(driver.run(), [(0, id, 132)]);
        assert!(driver.interrupted());
        assert_ne!(driver.bytes(0x10_0000, 32), [0; 32]);
        assert_ne!(driver.bytes(0x11_0000, 100), [0; 100]);
        assert_eq!(driver.bytes(0x10_0020, 8), [0; 8]);
    }

    #[test]
    fn a_huge_buffer_is_filled_in_part_and_one_to_read_not_at_all() {
        let mut driver = driver(Config::default());
        let huge = driver.add(0, &[Piece::write(0x10_0000, 1 << 20)]);
        let readable = driver.add(0, &[Piece::read(0x10_0000, 16)]);
        assert_eq!(driver.run(), [(0, huge, MOST as u32), (0, readable, 0)]);
    }

    #[test]
    fn a_limit_makes_the_second_request_wait_for_the_timer() {
        let bandwidth = Some(Bucket { size: 64, one_time_burst: 0, refill_ms: 50 });
        let mut driver = driver(Config { limits: Limits { bandwidth, operations: None } });
        for _ in 0..2 {
            driver.add(0, &[Piece::write(0x10_0000, 64)]);
        }
        assert_eq!(driver.event(KICK).unwrap().len(), 1);
        assert_eq!(driver.event(KICK).unwrap().len(), 0, "a kick doesn't help");
        driver.wait();
        assert_eq!(driver.used().len(), 1);
    }
}
