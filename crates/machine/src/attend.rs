//! The event loop: what the guest's devices wait for, what is typed, and who has connected to the control socket.
//!
//! ```text
//! terminal ──┐                        ┌── Guest: its devices, its end
//! clients ───┴──> typed ──> Guest     │
//! clients <────── Console             ├── epoll
//! signals ────────────────────────────┘
//! ```

use crate::confinement::{Filters, Thread};
use crate::console::Console;
use crate::control::{Answer, Clients, Desk, NewLimits, Request};
use crate::error::{Result, host};
use crate::stats::Stats;
use crate::threads;
use insula_sys::epoll::Epoll;
use insula_sys::signals::SignalFd;
use rustix::event::PollFlags;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::sync::{Arc, mpsc};
use std::time::Instant;

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It switched off.
    Off,
    /// It reset itself, which ends this machine as well (a panic does so by default).
    Reset,
    /// Somebody ended the machine.
    Killed,
    /// This signal ended the machine.
    Signal(i32),
}

impl Outcome {
    /// The exit code that tells of it.
    pub fn code(self) -> u8 {
        match self {
            Outcome::Off => 0,
            Outcome::Reset => 1,
            Outcome::Killed => 128 + 9,
            Outcome::Signal(number) => 128_u8.wrapping_add(number as u8),
        }
    }
}

/// What surrounds a machine that runs.
pub struct Surroundings {
    /// What is typed on the guest's console.
    pub input: Option<Input>,
    /// A socket that listens, for requests.
    pub control: Option<OwnedFd>,
    /// Signals that end the machine.
    pub signals: Option<SignalFd>,
    /// Told when the guest runs; if it fails, the machine is ended. This thread is confined by then.
    pub entered: Box<dyn FnOnce() -> std::io::Result<()>>,
    /// When the machine's program began: what [`crate::marks`] count from.
    pub began: Instant,
    /// A line for whoever sits at the terminal.
    pub say: fn(&str),
}

/// What is done as soon as the guest runs.
pub(crate) type Entered = Box<dyn FnOnce() -> std::io::Result<()>>;

/// Surroundings for which nothing has to be made any more.
pub(crate) struct Prepared {
    epoll: Epoll,
    input: Option<Typist>,
    control: Option<OwnedFd>,
    signals: Option<SignalFd>,
    say: fn(&str),
}

impl Surroundings {
    /// Makes what the event loop needs, while it can still be made.
    pub(crate) fn prepare(self, filters: &Arc<Filters>) -> Result<(Prepared, Entered)> {
        let Surroundings { input, control, signals, entered, began: _, say } = self;
        let input = input.map(|input| Typist::new(input, filters)).transpose()?;
        Ok((Prepared { epoll: Epoll::new()?, input, control, signals, say }, entered))
    }
}

/// Where what is typed comes from.
pub struct Input {
    /// A terminal, a pipe, a file.
    pub file: OwnedFd,
    /// Somebody types: [`ESCAPE`] isn't for the guest.
    pub interactive: bool,
}

/// Ctrl-]: asks the guest to switch off; once more ends it.
pub const ESCAPE: u8 = 0x1d;

/// What runs a guest, as the event loop sees it.
pub(crate) trait Guest {
    /// Has the event loop wait for what it needs; keys are below [`OWN_KEYS`].
    fn watch(&mut self, epoll: &Epoll) -> Result<()>;
    /// Before each wait: what it needs may have changed.
    fn update(&mut self, epoll: &Epoll) -> Result<()> {
        let _ = epoll;
        Ok(())
    }
    /// Something is ready that it waits for.
    fn ready(&mut self, epoll: &Epoll, key: u64) -> Result<()>;
    /// How the guest ended.
    fn ended(&self) -> Option<Outcome>;
    /// How many bytes its console takes now. If none, something is ready when that changes.
    fn room(&mut self) -> usize;
    /// Types into its console, at most [`Self::room`].
    fn type_in(&mut self, bytes: &[u8]) -> usize;
    /// Asks the guest to switch off.
    fn stop(&mut self) -> Result<()>;
    /// How it is.
    fn stats(&mut self) -> Result<Stats>;
    /// Has the guest give up so many bytes of memory.
    fn set_balloon(&mut self, bytes: u64) -> Result<()>;
    /// Sets new rates.
    fn set_limits(&mut self, limits: &NewLimits) -> Result<()>;
}

/// From here on, keys are the event loop's own.
pub(crate) const OWN_KEYS: u64 = 1 << 63;
const INPUT: u64 = OWN_KEYS;
const SIGNALS: u64 = OWN_KEYS + 1;
const CONSOLE: u64 = OWN_KEYS + 2;
const CLIENTS: u64 = OWN_KEYS + 3;

/// Most that is typed ahead, in bytes.
const AHEAD: usize = 4096;

/// Stays with a guest until it ends.
pub(crate) fn attend(guest: &mut dyn Guest, console: &Console, with: Prepared) -> Result<Outcome> {
    let Prepared { epoll, input, control, signals, say } = with;
    guest.watch(&epoll)?;
    epoll.add(console.news().as_raw_fd(), PollFlags::IN, CONSOLE)?;
    if let Some(signals) = &signals {
        epoll.add(signals.as_fd().as_raw_fd(), PollFlags::IN, SIGNALS)?;
    }
    let clients = Clients::new(control, CLIENTS);
    let table = Table { guest, typed: VecDeque::new(), escaped: false, end: None, say };
    Attendant { epoll, table, clients, input, signals, console }.stay()
}

struct Attendant<'a> {
    epoll: Epoll,
    table: Table<'a>,
    clients: Clients,
    input: Option<Typist>,
    signals: Option<SignalFd>,
    console: &'a Console,
}

/// Between those who want something of the guest, and the guest.
struct Table<'a> {
    guest: &'a mut dyn Guest,
    /// What the guest hasn't taken yet.
    typed: VecDeque<u8>,
    /// Who sits at the terminal has asked for the end once.
    escaped: bool,
    end: Option<Outcome>,
    say: fn(&str),
}

impl Attendant<'_> {
    fn stay(mut self) -> Result<Outcome> {
        let mut ready = Vec::new();
        loop {
            self.table.pass_on();
            if let Some(outcome) = self.table.end.or_else(|| self.table.guest.ended()) {
                return Ok(outcome);
            }
            if let Some(input) = &mut self.input {
                input.update(&self.epoll, self.table.room())?;
            }
            self.clients.update(&self.epoll, &self.table)?;
            self.table.guest.update(&self.epoll)?;
            self.epoll.wait(&mut ready)?;
            for (key, flags) in ready.drain(..) {
                self.serve(key, flags)?;
            }
        }
    }

    fn serve(&mut self, key: u64, flags: PollFlags) -> Result<()> {
        match key {
            INPUT => {
                if self.input.as_mut().is_some_and(|input| !input.read(&mut self.table)) {
                    self.input.take().into_iter().for_each(|input| self.epoll.remove(input.input.file.as_raw_fd()));
                }
            }
            SIGNALS => {
                if let Some(received) = self.signals.as_ref().and_then(SignalFd::read) {
                    self.table.end = Some(Outcome::Signal(received.signal));
                }
            }
            CONSOLE => {
                self.console.news().take();
                self.clients.tell(&self.epoll, self.console);
            }
            CLIENTS.. => self.clients.ready(&self.epoll, key, flags, &mut self.table, self.console)?,
            key => self.table.guest.ready(&self.epoll, key)?,
        }
        Ok(())
    }
}

impl Table<'_> {
    /// Gives the guest what was typed, as far as it takes it.
    fn pass_on(&mut self) {
        while !self.typed.is_empty() {
            let room = self.guest.room();
            let (bytes, _) = self.typed.as_slices();
            let taken = self.guest.type_in(&bytes[..room.min(bytes.len())]);
            if taken == 0 {
                return;
            }
            self.typed.drain(..taken);
        }
    }

    fn escape(&mut self) {
        if std::mem::replace(&mut self.escaped, true) {
            self.end = Some(Outcome::Killed);
            return;
        }
        match self.guest.stop() {
            Ok(()) => (self.say)("asked the guest to switch off; Ctrl-] once more ends it at once"),
            Err(error) => (self.say)(&format!("{error}; Ctrl-] once more ends it at once")),
        }
    }
}

impl Desk for Table<'_> {
    fn answer(&mut self, request: &Request) -> Answer {
        let done = match request {
            Request::Stats {} => return self.guest.stats().map_or_else(refused, |stats| Answer::Stats(Box::new(stats))),
            Request::Stop {} => self.guest.stop(),
            Request::Kill {} => {
                self.end = Some(Outcome::Killed);
                Ok(())
            }
            Request::Balloon { bytes } => self.guest.set_balloon(*bytes),
            Request::Limit(limits) => self.guest.set_limits(limits),
            // The socket itself takes care of it.
            Request::Console {} => Ok(()),
        };
        done.map_or_else(refused, |()| Answer::Ok)
    }

    fn room(&self) -> usize {
        AHEAD - self.typed.len().min(AHEAD)
    }

    /// What there is no room for is lost, as on a line that nobody reads.
    fn type_in(&mut self, bytes: &[u8]) {
        self.typed.extend(&bytes[..bytes.len().min(self.room())]);
    }
}

fn refused(error: crate::Error) -> Answer {
    Answer::Error(error.to_string())
}

/// Who types.
struct Typist {
    input: Input,
    reading: bool,
}

impl Typist {
    fn new(input: Input, filters: &Arc<Filters>) -> Result<Typist> {
        Ok(Typist { input: Input { file: waitable(input.file, filters)?, ..input }, reading: false })
    }

    /// A terminal is always heard, for the escape; anything else waits until the guest takes what came before.
    fn update(&mut self, epoll: &Epoll, room: usize) -> Result<()> {
        let read = self.input.interactive || room > 0;
        if read != self.reading {
            self.reading = read;
            let fd = self.input.file.as_raw_fd();
            if read { epoll.add(fd, PollFlags::IN, INPUT)? } else { epoll.remove(fd) }
        }
        Ok(())
    }

    /// Passes on what is typed; whether there may be more.
    fn read(&mut self, table: &mut Table<'_>) -> bool {
        let mut buffer = [0; 256];
        let room = if self.input.interactive { buffer.len() } else { table.room().min(buffer.len()) };
        match rustix::io::read(&self.input.file, &mut buffer[..room]) {
            Ok(0) => room == 0,
            Ok(length) => {
                let escapes = |byte: &u8| self.input.interactive && *byte == ESCAPE;
                for (index, piece) in buffer[..length].split(escapes).enumerate() {
                    if index > 0 {
                        table.escape();
                    }
                    table.type_in(piece);
                }
                true
            }
            Err(Errno::INTR | Errno::AGAIN) => true,
            Err(_) => false,
        }
    }
}

/// Input that can be waited for. A plain file can't: a thread carries it through a pipe.
fn waitable(input: OwnedFd, filters: &Arc<Filters>) -> Result<OwnedFd> {
    if Epoll::new()?.add(input.as_raw_fd(), PollFlags::IN, 0).is_ok() {
        return Ok(input);
    }
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(host("make a pipe"))?;
    let filters = filters.clone();
    let (confined, is_confined) = mpsc::channel();
    let body = move || {
        let _ = confined.send(filters.confine(Thread::Input, "input"));
        copy(&input, &write);
    };
    threads::start("input", body)?;
    is_confined.into_iter().next().unwrap_or(Ok(()))?;
    Ok(read)
}

/// Copies until there is no more, or nobody reads it.
fn copy(from: &OwnedFd, to: &OwnedFd) {
    let mut buffer = [0; 4096];
    loop {
        let mut bytes = match rustix::io::read(from, &mut buffer) {
            Ok(0) => return,
            Ok(length) => &buffer[..length],
            Err(Errno::INTR) => continue,
            Err(_) => return,
        };
        while !bytes.is_empty() {
            match rustix::io::write(to, bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}
