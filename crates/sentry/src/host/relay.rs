//! Carries bytes between a terminal of the host's, which somebody outside emulates, and one of the kernel's, which programs use.
//!
//! The host's passes everything on as it is: what a key means, and what is echoed, is decided where the programs are.

use super::terminal::from_host;
use insula_kernel::Errno;
use insula_kernel::tty::Tty;
use insula_kernel::tty::pty::Master;
use insula_kernel::wait::{Events, Observer, Pollable};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::OptionalActions;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// The most bytes that are carried at once: as much as a terminal takes.
const PIECE: usize = 4096;

/// Between two terminals.
pub struct Relay {
    far: OwnedFd,
    master: Arc<Master>,
    bell: Arc<Bell>,
    /// There will be nothing more; what is there is still carried out.
    finishing: AtomicBool,
    /// Nothing is carried any more, and who is told of that.
    over: AtomicBool,
    told: OnceLock<Arc<dyn Observer>>,
}

/// A pipe that wakes the relay's thread: made by whoever still can.
#[derive(Debug)]
pub struct Alert {
    /// Read by the thread.
    pub woken: OwnedFd,
    /// Written to wake it.
    pub wake: OwnedFd,
}

impl Alert {
    /// A new one.
    ///
    /// # Errors
    /// The host has no room for descriptors.
    pub fn new() -> rustix::io::Result<Self> {
        let (woken, wake) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        Ok(Alert { woken, wake })
    }
}

/// Wakes the relay's thread.
struct Bell(OwnedFd);

impl Observer for Bell {
    fn notify(&self, _: Events) {
        // If the pipe is full it is awake.
        let _ = rustix::io::write(&self.0, b"!");
    }
}

impl Relay {
    /// Takes the inner end of the host's terminal over, and starts the thread that carries.
    ///
    /// # Errors
    /// `far` is no terminal; the host has no room for a thread.
    pub fn start(far: OwnedFd, master: Arc<Master>, alert: Alert) -> std::io::Result<Arc<Self>> {
        let mut settings = rustix::termios::tcgetattr(&far)?;
        settings.make_raw();
        rustix::termios::tcsetattr(&far, OptionalActions::Now, &settings)?;
        rustix::io::ioctl_fionbio(&far, true)?;
        let Alert { woken, wake } = alert;
        let relay = Arc::new(Relay {
            far,
            master,
            bell: Arc::new(Bell(wake)),
            finishing: AtomicBool::new(false),
            over: AtomicBool::new(false),
            told: OnceLock::new(),
        });
        relay.resize();
        let served = relay.clone();
        let run = move || {
            served.run(&woken);
            served.over.store(true, Ordering::SeqCst);
            if let Some(observer) = served.told.get() {
                observer.notify(Events::HUP);
            }
        };
        std::thread::Builder::new().name("terminal".into()).stack_size(128 << 10).spawn(run)?;
        Ok(relay)
    }

    /// Has this observer told when all is over; if it is already, it may not be.
    pub fn tell(&self, observer: Arc<dyn Observer>) {
        let _ = self.told.set(observer);
    }

    /// Whether all that could be carried was.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// The kernel's terminal has the size of the host's from now on.
    pub fn resize(&self) {
        if let Ok(size) = rustix::termios::tcgetwinsize(&self.far) {
            // Nobody is to be told that it is so large already.
            let _ = self.master.tty.resize(from_host(size));
        }
    }

    /// The kernel's terminal.
    pub fn tty(&self) -> &Arc<Tty> {
        &self.master.tty
    }

    /// No program is left: what they have written is carried out, then it is over.
    pub fn finish(&self) {
        self.finishing.store(true, Ordering::SeqCst);
        self.bell.notify(Events::HUP);
    }

    fn run(&self, woken: &OwnedFd) {
        let bell: Arc<dyn Observer> = self.bell.clone();
        let _registrations = self.master.observe(Events::all(), &bell);
        let (mut inward, mut outward) = (Vec::new(), Vec::new());
        loop {
            let finishing = self.finishing.load(Ordering::SeqCst);
            self.exchange(&mut inward, &mut outward);
            if finishing && outward.is_empty() {
                return;
            }
            let (ours, theirs) = wait(woken.as_fd(), self.far.as_fd(), inward.is_empty() && !finishing, !outward.is_empty());
            if ours {
                let _ = rustix::io::read(woken, &mut [0; 64]);
            }
            if self.carry(theirs, &mut inward, &mut outward).is_err() {
                self.master.tty.hang_up();
                return;
            }
        }
    }

    /// To and from the kernel's terminal, as far as it goes.
    fn exchange(&self, inward: &mut Vec<u8>, outward: &mut Vec<u8>) {
        match if inward.is_empty() { Ok(0) } else { self.master.type_in(inward) } {
            Ok(count) => drop(inward.drain(..count)),
            Err(Errno::EAGAIN) => {}
            Err(_) => inward.clear(),
        }
        if outward.is_empty() {
            let mut bytes = [0; PIECE];
            let count = self.master.take(&mut bytes).unwrap_or(0);
            outward.extend_from_slice(&bytes[..count]);
        }
    }

    /// To and from the host's; fails when nobody is there any more.
    fn carry(&self, events: PollFlags, inward: &mut Vec<u8>, outward: &mut Vec<u8>) -> Result<(), rustix::io::Errno> {
        use rustix::io::Errno as Host;
        if events.contains(PollFlags::OUT) {
            match rustix::io::write(&self.far, outward) {
                Ok(count) => drop(outward.drain(..count)),
                Err(Host::AGAIN | Host::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        if events.contains(PollFlags::IN) {
            let mut bytes = [0; PIECE];
            match rustix::io::read(&self.far, &mut bytes) {
                Ok(0) => return Err(Host::IO),
                Ok(count) => inward.extend_from_slice(&bytes[..count]),
                Err(Host::AGAIN | Host::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        if events.intersects(PollFlags::HUP | PollFlags::ERR) { Err(Host::IO) } else { Ok(()) }
    }
}

/// Waits for the bell, and until the host's terminal can be read or written; answers which.
fn wait(bell: BorrowedFd<'_>, far: BorrowedFd<'_>, reads: bool, writes: bool) -> (bool, PollFlags) {
    let mut wanted = PollFlags::empty();
    wanted.set(PollFlags::IN, reads);
    wanted.set(PollFlags::OUT, writes);
    let mut fds = [PollFd::from_borrowed_fd(bell, PollFlags::IN), PollFd::from_borrowed_fd(far, wanted)];
    match poll(&mut fds, None) {
        Ok(_) => (!fds[0].revents().is_empty(), fds[1].revents()),
        Err(_) => (false, PollFlags::empty()),
    }
}
