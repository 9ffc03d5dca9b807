//! The guest's console: what it prints goes to a terminal, to a log, and to whoever is attached.
//!
//! ```text
//! guest ── Write ──> terminal ([`Console::settle`]: who prints waits for it)
//!                 ├> log, the last few MiB of it
//!                 └> a backlog for each who is attached, up to a limit ── Console::take ──> its socket
//! ```
//!
//! A terminal that takes nothing holds up the processor that prints, as a serial line would; nobody else. Who is attached and doesn't read
//! loses the oldest bytes, and is told how many.

mod log;

pub use log::Log;

use crate::error::Result;
use insula_vm::event::Event;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most bytes that wait for one who is attached.
const BACKLOG: usize = 64 << 10;

/// The console's outer side. A clone is the same console.
#[derive(Clone)]
pub struct Console(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    terminal: Option<Mutex<Terminal>>,
    /// Signalled when there is something for one who is attached and had nothing.
    news: Event,
    closed: AtomicBool,
}

struct Terminal {
    file: OwnedFd,
    /// Kept, as it would be made for each byte.
    buffer: Vec<u8>,
}

#[derive(Default)]
struct State {
    /// For the terminal.
    unwritten: Vec<u8>,
    log: Option<Log>,
    backlogs: BTreeMap<u64, Backlog>,
}

#[derive(Default)]
struct Backlog {
    bytes: VecDeque<u8>,
    lost: usize,
}

impl Backlog {
    fn add(&mut self, bytes: &[u8]) {
        let (skipped, bytes) = bytes.split_at(bytes.len().saturating_sub(BACKLOG));
        let over = (self.bytes.len() + bytes.len()).saturating_sub(BACKLOG);
        self.bytes.drain(..over);
        self.bytes.extend(bytes);
        self.lost += skipped.len() + over;
    }

    fn take(&mut self) -> Vec<u8> {
        let lost = std::mem::take(&mut self.lost);
        let mut bytes = if lost > 0 { format!("\r\n[{lost} bytes left out]\r\n").into_bytes() } else { Vec::new() };
        bytes.extend(self.bytes.drain(..));
        bytes
    }
}

/// What another thread left half done is at worst a garbled line.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Console {
    /// A console that prints on a terminal (any file), into a log, or both.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new(terminal: Option<OwnedFd>, log: Option<Log>) -> Result<Console> {
        let terminal = terminal.map(|file| Mutex::new(Terminal { file, buffer: Vec::new() }));
        let state = Mutex::new(State { log, ..State::default() });
        Ok(Console(Arc::new(Shared { state, terminal, news: Event::new()?, closed: AtomicBool::new(false) })))
    }

    /// Writes what was printed to the terminal, and waits until it has taken it. Whoever prints calls this when it holds no lock that
    /// others need.
    pub(crate) fn settle(&self) {
        let Some(terminal) = &self.0.terminal else { return };
        // First, so that what two processors print keeps its order.
        let mut terminal = lock(terminal);
        let Terminal { file, buffer } = &mut *terminal;
        std::mem::swap(buffer, &mut lock(&self.0.state).unwritten);
        let mut rest = buffer.as_slice();
        while !rest.is_empty() {
            match rustix::io::write(&*file, rest) {
                Ok(written) => rest = &rest[written..],
                Err(Errno::INTR) if !self.0.closed.load(Ordering::SeqCst) => {}
                // Nobody reads it any more, which is no reason for the guest to stop.
                Err(_) => break,
            }
        }
        buffer.clear();
    }

    /// The machine ends: nobody waits for the terminal any longer than the next signal.
    pub(crate) fn close(&self) {
        self.0.closed.store(true, Ordering::SeqCst);
    }

    /// From now on, what is printed is kept for this one, too.
    pub(crate) fn attach(&self, who: u64) {
        lock(&self.0.state).backlogs.insert(who, Backlog::default());
    }

    pub(crate) fn detach(&self, who: u64) {
        lock(&self.0.state).backlogs.remove(&who);
    }

    /// What was printed for this one since it was asked last.
    pub(crate) fn take(&self, who: u64) -> Vec<u8> {
        lock(&self.0.state).backlogs.get_mut(&who).map(Backlog::take).unwrap_or_default()
    }

    pub(crate) fn news(&self) -> &Event {
        &self.0.news
    }

    /// Why a part of what was printed isn't in the log.
    pub(crate) fn note(&self) -> Option<String> {
        lock(&self.0.state).log.as_ref()?.failure()
    }
}

impl Write for Console {
    /// Takes what the guest prints. For the terminal it is only put down ([`Self::settle`]).
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = lock(&self.0.state);
        if self.0.terminal.is_some() {
            state.unwritten.extend_from_slice(bytes);
        }
        if let Some(log) = &mut state.log {
            log.append(bytes);
        }
        let mut news = false;
        for backlog in state.backlogs.values_mut() {
            news |= backlog.bytes.is_empty();
            backlog.add(bytes);
        }
        if news {
            self.0.news.signal();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn everybody_gets_what_is_printed() {
        let (mut read, write) = io::pipe().unwrap();
        let mut console = Console::new(Some(write.into()), None).unwrap();
        console.write_all(b"one ").unwrap();
        console.attach(7);
        console.write_all(b"two").unwrap();
        assert!(console.news().take());
        assert_eq!((console.take(7), console.take(7)), (b"two".to_vec(), Vec::new()));
        console.settle();
        console.detach(7);
        console.write_all(b" three").unwrap();
        console.settle();
        assert!(console.take(7).is_empty() && !console.news().take());
        drop(console);
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "one two three");
    }

    #[test]
    fn who_does_not_read_loses_the_oldest() {
        let mut console = Console::new(None, None).unwrap();
        console.attach(1);
        console.write_all(&vec![b'a'; BACKLOG]).unwrap();
        console.write_all(b"the end").unwrap();
        let taken = String::from_utf8(console.take(1)).unwrap();
        assert!(taken.starts_with("\r\n[7 bytes left out]\r\naaaa") && taken.ends_with("the end"));
        console.write_all(&vec![b'b'; 3 * BACKLOG]).unwrap();
        assert!(console.take(1).starts_with(format!("\r\n[{} bytes left out]\r\nb", 2 * BACKLOG).as_bytes()));
    }
}
