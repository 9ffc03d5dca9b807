//! Our terminal at a console elsewhere: of a machine, or of a system in the background.

use super::ESCAPE;
use anyhow::Context;
use insula_sys::{Errno, tty};
use std::io::IsTerminal;
use std::process::ExitCode;

/// How one is done with a console.
pub(crate) enum End {
    /// The user has left.
    Left,
    /// It is gone: what it belongs to has ended, or was started again.
    Ended,
}

/// Most bytes that wait for the other side to take them; what is typed beyond them is lost, as on a line that nobody reads.
const MOST_TYPED: usize = 64 << 10;

/// What is typed, or comes on standard input, until the other side takes it.
pub(crate) struct Keys {
    /// From a terminal: the escape is heard there, at any time.
    pub(crate) interactive: bool,
    /// Bytes that wait to be taken.
    pub(crate) typed: Vec<u8>,
    open: bool,
    left: bool,
}

impl Keys {
    /// Whether more is wanted. A file isn't read on before what came from it is taken.
    pub(crate) fn wanted(&self) -> bool {
        self.open && (self.interactive || self.typed.is_empty())
    }

    /// Takes what is there to be read.
    pub(crate) fn read(&mut self) -> anyhow::Result<()> {
        let mut buffer = [0; 4096];
        let mut bytes = match rustix::io::retry_on_intr(|| rustix::io::read(rustix::stdio::stdin(), &mut buffer)) {
            Ok(length) => &buffer[..length],
            // A terminal that is gone.
            Err(Errno::IO) => &[],
            Err(errno) => return Err(errno).context("can't read what is typed"),
        };
        self.open = !bytes.is_empty();
        if let Some(at) = bytes.iter().position(|key| self.interactive && *key == ESCAPE) {
            (self.left, bytes) = (true, &bytes[..at]);
        }
        self.typed.extend_from_slice(bytes);
        self.typed.truncate(MOST_TYPED);
        Ok(())
    }

    /// Whether the user has typed the escape.
    pub(crate) fn left(&self) -> bool {
        self.left
    }

    /// Whether nothing comes any more, and nothing waits.
    pub(crate) fn ended(&self) -> bool {
        !self.open && self.typed.is_empty()
    }
}

/// Lets `carry` carry bytes both ways, in the user's terminal if there is one, and says how to leave. `thing` is what the console belongs to.
pub(crate) fn show(name: &str, thing: &str, carry: impl FnOnce(Keys) -> anyhow::Result<End>) -> anyhow::Result<ExitCode> {
    let interactive = std::io::stdin().is_terminal();
    let raw = interactive.then(|| tty::Raw::new(rustix::stdio::stdin())).transpose()?;
    if interactive {
        crate::show::warn(format_args!("insula: this is the console of {name}; Ctrl-] leaves it\r"));
    }
    let end = carry(Keys { interactive, typed: Vec::new(), open: true, left: false });
    drop(raw);
    if interactive {
        match end {
            Ok(End::Left) => crate::show::warn(format_args!("\ninsula: left the console; the {thing} goes on")),
            Ok(End::Ended) => crate::show::warn(format_args!("\ninsula: {name} has ended")),
            Err(_) => {}
        }
    }
    end.map(|_| ExitCode::SUCCESS)
}

/// Prints what has come.
pub(crate) fn print(mut bytes: &[u8]) -> anyhow::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(rustix::stdio::stdout(), bytes));
        bytes = &bytes[written.context("can't write the output")?..];
    }
    Ok(())
}
