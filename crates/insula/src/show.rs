//! What verbs print.

use anyhow::Context;
use insula_sys::signals;
use std::fmt::Display;
use std::io::Write;

const SIGPIPE: i32 = 13;

/// Writes to standard output. Who stops reading ends us quietly, as any program in a pipeline.
///
/// # Errors
/// It can't be written.
pub(crate) fn show(text: impl AsRef<[u8]>) -> anyhow::Result<()> {
    // Rust programs start with it ignored.
    signals::default_action(SIGPIPE);
    let mut output = std::io::stdout().lock();
    output.write_all(text.as_ref()).and_then(|()| output.flush()).context("can't write the output")
}

/// Writes a line to standard error, if that can be written to.
pub(crate) fn warn(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A text for a terminal: what a program chose as a name must not move the cursor.
pub(crate) fn printable(text: &str) -> String {
    let one = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(one).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_do_nothing_to_a_terminal() {
        assert_eq!(super::printable("a\u{1b}[2Jb\nä\u{9b}"), "a\\u{1b}[2Jb\\nä\\u{9b}");
    }
}
