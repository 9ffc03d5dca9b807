//! How far a build is, on standard error: one line that changes at a terminal, a line for each stage elsewhere.

use crate::show::printable;
use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::time::Instant;

pub(super) struct Progress {
    terminal: bool,
    begin: Instant,
    files: Cell<u32>,
}

impl Progress {
    pub(super) fn new() -> Progress {
        Progress { terminal: std::io::stderr().is_terminal(), begin: Instant::now(), files: Cell::new(0) }
    }

    /// The next part of the work begins.
    pub(super) fn stage(&self, text: &str) {
        let line = format!("[{:>4} s] {text}", self.begin.elapsed().as_secs());
        self.write(&if self.terminal { format!("\r\x1b[K{line}") } else { line + "\n" });
    }

    /// One line of the build's: `  CC      fs/ext4/inode.o`.
    pub(super) fn step(&self, line: &str) {
        let mut words = line.split_whitespace();
        let (Some(what), Some(file), None) = (words.next(), words.next(), words.next()) else { return };
        if !what.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return;
        }
        self.files.set(self.files.get() + 1);
        if self.terminal {
            let mut file = printable(file);
            file.truncate(file.char_indices().nth(48).map_or(file.len(), |(at, _)| at));
            self.stage(&format!("compile: {} steps, {file}", self.files.get()));
        }
    }

    /// The line vanishes.
    pub(super) fn end(&self) {
        if self.terminal {
            self.write("\r\x1b[K");
        }
    }

    fn write(&self, text: &str) {
        let mut output = std::io::stderr();
        let _ = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

/// Puts lines together from pieces.
#[derive(Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    pub(super) fn take(&mut self, piece: &[u8], each: &mut dyn FnMut(&str)) {
        /// Nobody writes longer ones; of those that do, the rest is left out.
        const LONGEST: usize = 4096;
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(&part[..part.len().min(LONGEST.saturating_sub(self.begun.len()))]);
            if part.ends_with(b"\n") {
                each(String::from_utf8_lossy(&self.begun).trim_end());
                self.begun.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn lines_come_whole() {
        let (mut lines, mut seen) = (super::Lines::default(), Vec::new());
        for piece in ["  CC  a", ".o\n  LD  b\n", "\nx"] {
            lines.take(piece.as_bytes(), &mut |line| seen.push(line.to_owned()));
        }
        assert_eq!(seen, ["  CC  a.o", "  LD  b", ""]);
    }
}
