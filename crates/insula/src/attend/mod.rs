//! A program in the foreground: its terminal, its signals, its end.
//!
//! Three ways, by what the program shares with us:
//!
//! - **a terminal of its own** (`-t`): bytes are carried between it and ours ([`relay`]), which is set to pass everything on; its size
//!   follows.
//! - **our terminal, as a job** ([`foreground`]): the program's process group is in the terminal's foreground, as a shell would have
//!   it. When it is stopped we take the terminal back and stop too, so that the shell above sees a stopped job; when we are
//!   continued, so is it.
//! - **no terminal**: signals that reach us are sent on.
//!
//! And our terminal at a console that is there already: [`console`].

pub(crate) mod console;
mod foreground;
mod relay;
mod visitors;

pub(crate) use insula_machine::ESCAPE;
pub(crate) use relay::Output;
pub(crate) use visitors::Visitors;

use anyhow::Context;
use foreground::Foreground;
use insula_boundary::{Job, Session};
use insula_sys::process::{Ended, reap, signal};
use insula_sys::signals::{self, SignalFd};
use insula_sys::{Errno, tty};
use relay::Relay;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGQUIT: i32 = 3;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
const SIGCHLD: i32 = 17;
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;
const SIGTSTP: i32 = 20;
const SIGTTIN: i32 = 21;
const SIGTTOU: i32 = 22;
const SIGWINCH: i32 = 28;
const SIGPWR: i32 = 30;

/// Signals are held back from here on: made before the program, so that none is lost.
pub(crate) struct Attendant {
    incoming: SignalFd,
    session: Session,
}

impl Attendant {
    /// Takes over this process's signals.
    pub(crate) fn new(session: Session) -> anyhow::Result<Attendant> {
        Ok(Attendant { incoming: SignalFd::new(signals::blockable())?, session })
    }

    /// Stays with a program until it ends.
    pub(crate) fn stay(&self, job: Job, output: Output) -> anyhow::Result<Outcome> {
        self.stay_with(job, output, None)
    }

    /// Stays with a system until it ends. What would end a program is for us, and asks `shut_down` to have it end: the signal, or Ctrl-]
    /// on its console. Who says it twice has it killed.
    pub(crate) fn stay_with_system(&self, job: Job, output: Output, shut_down: &mut dyn FnMut()) -> anyhow::Result<Outcome> {
        self.stay_with(job, output, Some(shut_down))
    }

    fn stay_with<'a>(&'a self, job: Job, output: Output, shut_down: Option<&'a mut dyn FnMut()>) -> anyhow::Result<Outcome> {
        let ours = matches!(output, Output::Ours);
        let passes_keys = job.terminal.is_some() && ours && rustix::termios::isatty(rustix::stdio::stdin());
        let mut visit = Visit {
            incoming: &self.incoming,
            foreground: Foreground::new(self.session, &job.pidfd),
            relay: Relay::new(job.terminal, output)?,
            pidfd: job.pidfd,
            news: job.news,
            in_view: ours,
            passes_keys,
            raw: None,
            stop_asked: false,
            interrupt: None,
            killed: None,
            asked: false,
            shut_down,
        };
        if visit.shut_down.is_some() {
            visit.relay.hold_open()?;
        }
        visit.relay.escape = (visit.shut_down.is_some() && visit.passes_keys).then_some(ESCAPE);
        visit.pass_keys()?;
        visit.relay.resize();
        while !visit.wait()? {
            visit.heed_signals();
            visit.hear_news();
        }
        visit.hear_news();
        visit.end()
    }
}

/// A program that is being waited for.
struct Visit<'a> {
    incoming: &'a SignalFd,
    foreground: Foreground,
    relay: Relay,
    pidfd: OwnedFd,
    /// From a first process of ours: how the program is stopped or killed.
    news: Option<OwnedFd>,
    /// It is not in the background for good: if it is stopped, so are we.
    in_view: bool,
    /// Our terminal passes all keys to the program's own.
    passes_keys: bool,
    raw: Option<tty::Raw>,
    /// Our terminal wanted it stopped.
    stop_asked: bool,
    /// Our terminal sent us this.
    interrupt: Option<i32>,
    /// The program died of this.
    killed: Option<i32>,
    /// How a system is asked to end, and whether it has been.
    shut_down: Option<&'a mut dyn FnMut()>,
    asked: bool,
}

impl Visit<'_> {
    /// Waits for anything to happen; whether the program has ended.
    fn wait(&mut self) -> anyhow::Result<bool> {
        let interests = self.relay.interests();
        let mut files = vec![PollFd::new(&self.pidfd, PollFlags::IN), PollFd::new(self.incoming, PollFlags::IN)];
        files.extend(self.news.as_ref().map(|news| PollFd::new(news, PollFlags::IN)));
        let ours = files.len();
        files.extend(interests.iter().map(|(_, file, flags)| PollFd::from_borrowed_fd(*file, *flags)));
        match poll(&mut files, None) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(false),
            Err(errno) => return Err(errno).context("can't wait for the program"),
        }
        let ended = !files[0].revents().is_empty();
        let events: Vec<_> = files[ours..].iter().zip(&interests).map(|(file, (role, ..))| (*role, file.revents())).collect();
        drop(files);
        for (role, events) in events {
            self.relay.carry(role, events);
        }
        if std::mem::take(&mut self.relay.escaped) {
            self.ask_to_end();
        }
        Ok(ended)
    }

    fn heed_signals(&mut self) {
        while let Some(received) = self.incoming.read() {
            match received.signal {
                SIGCHLD => {}
                SIGWINCH => {
                    self.relay.resize();
                    // Who shares our terminal, but isn't in its foreground, hasn't heard of it.
                    if !self.passes_keys {
                        self.send(SIGWINCH);
                    }
                }
                SIGCONT => self.go_on(),
                // Somebody of our own job wants the terminal that the program has.
                SIGTTIN | SIGTTOU if received.from_kernel => self.foreground.claim(),
                SIGHUP | SIGINT | SIGQUIT | SIGTERM | SIGPWR if self.shut_down.is_some() => self.ask_to_end(),
                SIGTSTP => self.stop_asked(),
                number => {
                    if received.from_kernel && [SIGINT, SIGQUIT].contains(&number) {
                        self.interrupt = Some(number);
                    }
                    self.send(number);
                }
            }
        }
    }

    fn ask_to_end(&mut self) {
        match &mut self.shut_down {
            Some(shut_down) if !self.asked => shut_down(),
            _ => self.send(SIGKILL),
        }
        self.asked = true;
    }

    fn send(&self, number: i32) {
        let _ = signal(&self.pidfd, number);
    }

    /// We are to stop, and the program with us.
    fn stop_asked(&mut self) {
        if self.news.is_some() {
            // It will tell when it is.
            self.stop_asked = true;
            self.send(SIGTSTP);
        } else if self.in_view {
            // Nobody would stop the leader of a session for a terminal.
            self.send(SIGSTOP);
            self.stop(SIGTSTP, false);
        }
    }

    /// What the first process tells of the program: the number of the signal that stopped it, or 128 and that which killed it.
    fn hear_news(&mut self) {
        while let Some(news) = self.news.as_ref().filter(|news| readable(news.as_fd())) {
            let mut word = [0];
            match rustix::io::read(news, &mut word) {
                Ok(1) if word[0] >= 128 => self.killed = Some(i32::from(word[0] - 128)),
                Ok(1) => self.stopped_by(i32::from(word[0])),
                // Its end; or it can't be heard.
                _ => self.news = None,
            }
        }
    }

    /// The program was stopped: so are we, and the shell above has the terminal until it continues us.
    fn stopped_by(&mut self, number: i32) {
        if !self.in_view {
            return;
        }
        let wants_terminal = [SIGTTIN, SIGTTOU].contains(&number);
        if wants_terminal && self.foreground.give() {
            self.send(SIGCONT);
            return;
        }
        let number = if std::mem::take(&mut self.stop_asked) { SIGTSTP } else { number };
        // What the terminal sends is for the whole job: for who called us, if that is no shell, and for the others in a pipeline.
        let alone_had_it = self.foreground.take_back();
        self.stop(number, wants_terminal || alone_had_it && number == SIGTSTP);
    }

    /// Stops this process, or all of its group, as the signal would have done; goes on with the program when we do.
    fn stop(&mut self, number: i32, group: bool) {
        self.raw = None;
        signals::undergo(number, group);
        self.go_on();
    }

    fn go_on(&mut self) {
        if self.pass_keys().is_err() {
            self.passes_keys = false;
        }
        self.foreground.resume();
        self.relay.resize();
        self.send(SIGCONT);
    }

    /// Sets our terminal to pass all keys on; in the background we are stopped first, as anybody who changes a terminal's settings.
    fn pass_keys(&mut self) -> anyhow::Result<()> {
        if !self.passes_keys || self.raw.is_some() {
            return Ok(());
        }
        while foreground::in_background() {
            if !signals::undergo(SIGTTOU, true) {
                // Nobody can continue us, so the kernel didn't stop us; then keys come as they are.
                return Ok(());
            }
        }
        self.raw = Some(tty::Raw::new(rustix::stdio::stdin())?);
        Ok(())
    }

    fn end(mut self) -> anyhow::Result<Outcome> {
        self.relay.finish(self.incoming);
        let typed = self.raw.take().and(self.relay.typed);
        let ended = reap(&self.pidfd).context("can't learn how the program ended")?;
        if let Ended::Killed(number) = ended {
            self.killed = Some(number);
        }
        let alone_had_it = self.foreground.take_back();
        let interrupt = self.killed.filter(|number| [SIGINT, SIGQUIT].contains(number));
        let interrupt = interrupt.and_then(|number| {
            let group = alone_had_it || typed == Some(number);
            (group || self.interrupt == Some(number)).then_some(Interrupt { number, group })
        });
        Ok(Outcome { ended, killed: self.killed, interrupt })
    }
}

/// How a program ended, and whether the terminal ended it.
pub(crate) struct Outcome {
    pub(crate) ended: Ended,
    /// The signal it died of.
    pub(crate) killed: Option<i32>,
    interrupt: Option<Interrupt>,
}

struct Interrupt {
    number: i32,
    /// Only the program has had it from the terminal.
    group: bool,
}

impl Outcome {
    /// Ends as the program did, when everything else is done. Who pressed Ctrl-C meant the whole job: a shell that sees us die of it
    /// breaks its loop, or leaves its script.
    pub(crate) fn conclude(self) -> ExitCode {
        if let Some(Interrupt { number, group }) = self.interrupt {
            // A core file of ours would help nobody.
            let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
            signals::undergo(number, group);
        }
        ExitCode::from(self.ended.code())
    }
}

/// Columns and rows of our terminal, for one that is to be like it from the first moment.
pub(crate) fn size_of_ours() -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdin()).ok()?;
    Some((size.ws_col, size.ws_row))
}

fn readable(file: BorrowedFd<'_>) -> bool {
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut [PollFd::new(&file, PollFlags::IN)], Some(&now)), Ok(n) if n > 0)
}
