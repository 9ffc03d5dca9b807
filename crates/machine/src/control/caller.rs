//! The command line's side of the control socket.

use super::{Answer, Request};
use crate::error::{Error, Result, host};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A machine answers at once; one that doesn't for so long won't.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longer than any answer.
const LINE: u64 = 1 << 20;

/// A connection to a machine.
pub struct Connection(BufReader<UnixStream>);

impl Connection {
    /// Connects to a machine's socket.
    ///
    /// # Errors
    /// Nobody listens there, or it is another user's.
    pub fn new(socket: &Path) -> Result<Connection> {
        let failed = host("reach the machine");
        let stream = UnixStream::connect(socket).map_err(&failed)?;
        let limits = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        limits.map_err(failed)?;
        Ok(Connection(BufReader::new(stream)))
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// The machine refuses, ends, or doesn't answer for ten seconds.
    pub fn ask(&mut self, request: &Request) -> Result<Answer> {
        let failed = |error: std::io::Error| {
            let cause = match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => format!("it doesn't answer for {} seconds", PATIENCE.as_secs()),
                _ => error.to_string(),
            };
            Error::Host { what: "ask the machine", cause }
        };
        let mut line = serde_json::to_vec(request).map_err(host("ask the machine"))?;
        line.push(b'\n');
        self.0.get_mut().write_all(&line).map_err(failed)?;
        let mut answer = Vec::new();
        (&mut self.0).take(LINE).read_until(b'\n', &mut answer).map_err(failed)?;
        if answer.is_empty() {
            return Err(Error::Host { what: "ask the machine", cause: "it ended".into() });
        }
        match serde_json::from_slice(&answer).map_err(host("understand the machine; it may be of another version:"))? {
            Answer::Error(cause) => Err(Error::Refused(cause)),
            answer => Ok(answer),
        }
    }

    /// Connects to the console: what came of it already, and the socket for all that comes.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn console(mut self) -> Result<(Vec<u8>, UnixStream)> {
        self.ask(&Request::Console {})?;
        let early = self.0.buffer().to_vec();
        let stream = self.0.into_inner();
        stream.set_read_timeout(None).and_then(|()| stream.set_write_timeout(None)).map_err(host("use the console"))?;
        Ok((early, stream))
    }
}
