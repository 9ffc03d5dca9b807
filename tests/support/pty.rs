//! A terminal as a user has it: a shell runs in it, keys are typed, and what appears is read.

use super::{PATIENCE, World, ended};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, Winsize};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

/// What the shell shows when it waits for a command.
const PROMPT: &str = "ready> ";

/// A terminal with an interactive shell in it.
pub(crate) struct Terminal {
    keys: OwnedFd,
    /// Held, so that the settings can be asked for whoever else closes it.
    inner: OwnedFd,
    screen: Arc<Screen>,
    /// Closed to end the reading.
    reading: OwnedFd,
    /// Up to where the text has been looked at.
    seen: usize,
    shell: Child,
}

#[derive(Default)]
struct Screen {
    text: Mutex<(String, bool)>,
    changed: Condvar,
}

/// Two ends of a new terminal, 80 by 24.
pub(crate) fn pair() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let outer = rustix::pty::openpt(flags).unwrap();
    rustix::pty::unlockpt(&outer).unwrap();
    let inner = rustix::pty::ioctl_tiocgptpeer(&outer, flags).unwrap();
    resize(&outer, 80, 24);
    (outer, inner)
}

/// Changes a terminal's size.
pub(crate) fn resize(terminal: impl AsFd, columns: u16, rows: u16) {
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size).unwrap();
}

impl Terminal {
    /// An interactive bash, in which `insula` is the program with the world's store.
    pub(crate) fn new(world: &World) -> Terminal {
        let (keys, inner) = pair();
        let bin = world.directory("bin");
        let program = bin.join("insula");
        let text = format!("#!/bin/sh\nexec {} \"$@\"\n", world.words().join(" "));
        std::fs::write(&program, text).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let shell = Command::new("setsid")
            .args(["--ctty", "bash", "--norc", "--noprofile", "--noediting", "-i"])
            .env("PS1", PROMPT)
            .env("TERM", "dumb")
            .env("LC_ALL", "C")
            .env("PATH", format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", bin.display()))
            .env_remove("PROMPT_COMMAND")
            .current_dir(world.path(""))
            .stdin(inner.try_clone().unwrap())
            .stdout(inner.try_clone().unwrap())
            .stderr(inner.try_clone().unwrap())
            .spawn()
            .unwrap();
        let screen = Arc::new(Screen::default());
        let (stop, reading) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        read_into(keys.try_clone().unwrap(), stop, screen.clone());
        let mut terminal = Terminal { keys, inner, screen, reading, seen: 0, shell };
        terminal.expect(PROMPT);
        terminal
    }

    /// Types keys.
    #[track_caller]
    pub(crate) fn keys(&mut self, keys: &str) {
        let mut bytes = keys.as_bytes();
        while !bytes.is_empty() {
            let written = rustix::io::write(&self.keys, bytes).unwrap();
            bytes = &bytes[written..];
        }
    }

    /// Types a line, and waits until it has been echoed.
    #[track_caller]
    pub(crate) fn line(&mut self, line: &str) {
        self.keys(&format!("{line}\n"));
        self.expect(line);
        self.expect("\n");
    }

    /// Types a command at the prompt; what it wrote until the next prompt.
    #[track_caller]
    pub(crate) fn command(&mut self, line: &str) -> String {
        self.line(line);
        self.expect(PROMPT)
    }

    /// Waits until a text appears after what was seen last; what stood before it.
    #[track_caller]
    pub(crate) fn expect(&mut self, wanted: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut text = self.screen.text.lock().unwrap();
        loop {
            if let Some(at) = text.0[self.seen..].find(wanted) {
                let before = text.0[self.seen..self.seen + at].to_owned();
                self.seen += at + wanted.len();
                return before;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !text.1, "{wanted:?} doesn't appear (ended: {}); on the screen:\n{}", text.1, text.0);
            text = self.screen.changed.wait_timeout(text, left).unwrap().0;
        }
    }

    /// All that has appeared.
    pub(crate) fn text(&self) -> String {
        self.screen.text.lock().unwrap().0.clone()
    }

    /// Changes the size, as a window does.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        resize(&self.keys, columns, rows);
    }

    /// Whether it echoes and edits lines, as a shell leaves it to programs.
    pub(crate) fn is_cooked(&self) -> bool {
        let settings = rustix::termios::tcgetattr(&self.inner).unwrap();
        settings.local_modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
    }

    /// Hangs up, as a closed window does; how the shell ended.
    pub(crate) fn hang_up(self) -> ExitStatus {
        let Terminal { keys, inner, reading, mut shell, screen, .. } = self;
        drop((keys, inner, reading));
        let status = ended(&mut shell);
        drop(screen);
        status
    }

    /// Leaves the shell.
    #[track_caller]
    pub(crate) fn exit(mut self) -> ExitStatus {
        self.keys("exit 0\n");
        ended(&mut self.shell)
    }
}

fn read_into(terminal: OwnedFd, stop: OwnedFd, screen: Arc<Screen>) {
    std::thread::spawn(move || {
        let mut terminal = std::fs::File::from(terminal);
        let mut buffer = [0; 4096];
        loop {
            let mut files = [PollFd::new(&terminal, PollFlags::IN), PollFd::new(&stop, PollFlags::IN)];
            let stopped = poll(&mut files, None).is_err() || !files[1].revents().is_empty();
            let length = if stopped { 0 } else { terminal.read(&mut buffer).unwrap_or(0) };
            let mut text = screen.text.lock().unwrap();
            text.0.push_str(&String::from_utf8_lossy(&buffer[..length]).replace("\r\n", "\n").replace('\r', ""));
            text.1 = length == 0;
            screen.changed.notify_all();
            if length == 0 {
                return;
            }
        }
    });
}
