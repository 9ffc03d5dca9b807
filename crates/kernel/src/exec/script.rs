//! Scripts: files that name their interpreter, `#!`, execve(2).

use crate::{Errno, Result};
use alloc::vec::Vec;

/// A script's first line.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// The path of its interpreter.
    pub interpreter: Vec<u8>,
    /// What else stands there, as one argument.
    pub argument: Option<Vec<u8>>,
}

const fn is_blank(byte: &u8) -> bool {
    matches!(*byte, b' ' | b'\t')
}

/// The first line of a file that begins so; none for another file.
///
/// # Errors
/// `ENOEXEC`: it names nothing, or more than fits into what is looked at.
pub fn parse(head: &[u8]) -> Result<Option<Line>> {
    let Some(rest) = head.strip_prefix(b"#!") else { return Ok(None) };
    let end = rest.iter().position(|byte| *byte == b'\n' || *byte == 0);
    let line = &rest[..end.unwrap_or(rest.len())];
    let start = line.iter().position(|byte| !is_blank(byte)).ok_or(Errno::ENOEXEC)?;
    let line = &line[start..];
    let name = line.iter().position(is_blank);
    if end.is_none() && name.is_none() {
        // The interpreter's path itself may be cut off.
        return Err(Errno::ENOEXEC);
    }
    let (interpreter, more) = line.split_at(name.unwrap_or(line.len()));
    let first = more.iter().position(|byte| !is_blank(byte));
    let last = more.iter().rposition(|byte| !is_blank(byte));
    let argument = first.zip(last).map(|(first, last)| more[first..=last].to_vec());
    Ok(Some(Line { interpreter: interpreter.to_vec(), argument }))
}

/// The arguments that the interpreter gets: its own path, what stands in the line, the script's path, and the script's arguments.
pub fn rewrite(arguments: &mut Vec<Vec<u8>>, line: &Line, script: Vec<u8>) {
    let first = [Some(line.interpreter.clone()), line.argument.clone(), Some(script)];
    let count = arguments.len().min(1);
    arguments.splice(..count, first.into_iter().flatten());
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn line(head: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        parse(head).expect("a line").map(|line| (line.interpreter, line.argument))
    }

    #[test]
    fn a_line_names_an_interpreter_and_one_argument() {
        assert_eq!(line(b"#!/bin/sh\n"), Some((b"/bin/sh".to_vec(), None)));
        assert_eq!(line(b"#!  /bin/sh\t-e  x \nmore"), Some((b"/bin/sh".to_vec(), Some(b"-e  x".to_vec()))));
        assert_eq!(line(b"#!/bin/sh\0\0\0"), Some((b"/bin/sh".to_vec(), None)));
        assert_eq!(line(b"\x7fELF"), None);
    }

    #[test]
    fn a_line_that_is_cut_off_is_none() {
        let mut long = b"#!/".to_vec();
        long.resize(256, b'x');
        assert_eq!(parse(&long), Err(Errno::ENOEXEC));
        long[200] = b' ';
        assert!(parse(&long).is_ok_and(|line| line.is_some()));
        assert_eq!(parse(b"#!  \n"), Err(Errno::ENOEXEC));
        assert_eq!(parse(b"#!"), Err(Errno::ENOEXEC));
    }

    #[test]
    fn arguments_are_put_before() {
        let mut arguments = vec![b"name".to_vec(), b"one".to_vec()];
        let line = Line { interpreter: b"/bin/sh".to_vec(), argument: Some(b"-e".to_vec()) };
        rewrite(&mut arguments, &line, b"./script".to_vec());
        assert_eq!(arguments, [&b"/bin/sh"[..], b"-e", b"./script", b"one"]);
    }
}
