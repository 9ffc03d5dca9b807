//! QEMU's monitor: a JSON object a line, both ways. Source: QEMU Machine Protocol specification, `docs/interop/qmp-spec`.

use crate::error::{Error, Result, host};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// QEMU answers at once, unless its host does much else.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than any answer.
const LINE: u64 = 16 << 20;

/// The monitor's other end.
pub(super) struct Monitor {
    stream: BufReader<UnixStream>,
    /// What QEMU told while it was asked something else.
    events: VecDeque<Value>,
}

impl Monitor {
    /// Hears the greeting, and says that we have understood.
    ///
    /// # Errors
    /// QEMU ends instead.
    pub(super) fn new(stream: UnixStream) -> Result<Monitor> {
        stream.set_read_timeout(Some(PATIENCE)).map_err(host("use QEMU's monitor"))?;
        let mut monitor = Monitor { stream: BufReader::new(stream), events: VecDeque::new() };
        monitor.line()?;
        monitor.ask("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    pub(super) fn fd(&self) -> RawFd {
        self.stream.get_ref().as_raw_fd()
    }

    /// Has QEMU carry out a command; what it answers.
    ///
    /// # Errors
    /// It refuses, or has ended.
    pub(super) fn ask(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let failed = |cause: String| Error::Host { what: "ask QEMU", cause: format!("{command}: {cause}") };
        let line = format!("{}\n", json!({"execute": command, "arguments": arguments}));
        self.stream.get_mut().write_all(line.as_bytes()).map_err(|error| failed(error.to_string()))?;
        loop {
            let mut answer = self.line()?;
            if answer.get("event").is_some() {
                self.events.push_back(answer);
            } else if let Some(error) = answer.pointer("/error/desc") {
                return Err(failed(error.as_str().unwrap_or("refused").to_owned()));
            } else {
                return Ok(answer["return"].take());
            }
        }
    }

    /// What QEMU has told since it was asked last, which must be readable; none at its end.
    ///
    /// # Errors
    /// What it says can't be read.
    pub(super) fn hear(&mut self) -> Result<Option<Value>> {
        if let Some(event) = self.events.pop_front() {
            return Ok(Some(event));
        }
        match self.read()? {
            Some(line) => Ok(Some(line)),
            None => Ok(None),
        }
    }

    /// Whether [`Self::hear`] has something without waiting for it.
    pub(super) fn has_more(&self) -> bool {
        !self.events.is_empty() || self.stream.buffer().contains(&b'\n')
    }

    fn line(&mut self) -> Result<Value> {
        self.read()?.ok_or_else(|| Error::Host { what: "ask QEMU", cause: "it has ended".into() })
    }

    fn read(&mut self) -> Result<Option<Value>> {
        let mut line = Vec::new();
        match (&mut self.stream).take(LINE).read_until(b'\n', &mut line) {
            Ok(0) => Ok(None),
            Ok(_) => serde_json::from_slice(&line).map(Some).map_err(host("understand QEMU")),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(None),
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {
                Err(Error::Host { what: "ask QEMU", cause: format!("it doesn't answer for {} seconds", PATIENCE.as_secs()) })
            }
            Err(error) => Err(host("ask QEMU")(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_from_events() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let said = "{\"QMP\": {}}\n{\"return\": {}}\n{\"event\": \"RESUME\"}\n{\"return\": {\"actual\": 5}}\n{\"error\": {\"class\": \
                    \"GenericError\", \"desc\": \"No balloon\"}}\n";
        theirs.write_all(said.as_bytes()).unwrap();
        let mut monitor = Monitor::new(ours).unwrap();
        assert!(monitor.has_more());
        assert_eq!(monitor.ask("query-balloon", json!({})).unwrap()["actual"], 5);
        let refused = monitor.ask("balloon", json!({"value": 1})).unwrap_err().to_string();
        assert_eq!(refused, "can't ask QEMU: balloon: No balloon");
        assert_eq!(monitor.hear().unwrap().unwrap()["event"], "RESUME");
        assert!(!monitor.has_more());
        drop(theirs);
        assert!(monitor.hear().unwrap().is_none());
        assert!(monitor.ask("quit", json!({})).is_err());
    }
}
