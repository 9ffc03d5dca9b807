//! The line discipline, byte by byte.

use super::line::Line;
use alloc::vec;
use alloc::vec::Vec;
use insula_abi::general as c;

fn type_in(line: &mut Line, text: &[u8]) -> Vec<i32> {
    let mut signals = Vec::new();
    assert_eq!(line.feed(text, &mut signals), text.len());
    signals
}

fn screen(line: &mut Line) -> Vec<u8> {
    let mut bytes = vec![0; line.unshown()];
    if let Some(ring) = line.shown() {
        let count = ring.peek(&mut bytes);
        ring.skip(count);
    }
    bytes
}

fn read(line: &mut Line, most: usize) -> Option<Vec<u8>> {
    let bytes = line.next(most)?;
    line.took(bytes.len());
    Some(bytes)
}

fn set(line: &mut Line, change: impl FnOnce(&mut insula_abi::tty::Termios)) {
    let mut termios = line.termios();
    change(&mut termios.termios);
    line.set_termios(termios);
}

#[test]
fn a_line_is_there_once_it_is_ended() {
    let mut line = Line::default();
    type_in(&mut line, b"ab");
    assert_eq!((line.readable(), read(&mut line, 10)), (false, None));
    type_in(&mut line, b"c\rnext");
    assert_eq!(screen(&mut line), b"abc\r\nnext");
    assert_eq!(read(&mut line, 2).as_deref(), Some(&b"ab"[..]));
    assert_eq!(read(&mut line, 10).as_deref(), Some(&b"c\n"[..]));
    assert_eq!(read(&mut line, 10), None);
}

#[test]
fn what_is_erased_goes_from_the_line_and_from_the_screen() {
    let mut line = Line::default();
    type_in(&mut line, b"ab\x7f");
    assert_eq!(screen(&mut line), b"ab\x08 \x08");
    type_in(&mut line, b"\x7f\x7f\x7f");
    assert_eq!(screen(&mut line), b"\x08 \x08");
    type_in(&mut line, b"one two-\x17");
    type_in(&mut line, b"\x01\x7f\n");
    assert_eq!(read(&mut line, 99).as_deref(), Some(&b"one \n"[..]));
    assert_eq!(screen(&mut line), b"one two-\x08 \x08\x08 \x08\x08 \x08\x08 \x08^A\x08 \x08\x08 \x08\r\n");
    type_in(&mut line, b"gone\x15kept\n");
    assert_eq!(read(&mut line, 99).as_deref(), Some(&b"kept\n"[..]));
    set(&mut line, |termios| termios.iflag |= c::IUTF8);
    type_in(&mut line, "aä\x7fb\n".as_bytes());
    assert_eq!(read(&mut line, 99).as_deref(), Some(&b"ab\n"[..]));
}

#[test]
fn an_end_of_file_ends_a_line_without_being_in_it() {
    let mut line = Line::default();
    type_in(&mut line, b"ab\x04\x04");
    assert_eq!(read(&mut line, 99).as_deref(), Some(&b"ab"[..]));
    assert_eq!(read(&mut line, 99).as_deref(), Some(&b""[..]));
    assert_eq!(read(&mut line, 99), None);
    type_in(&mut line, b"\x16\x04\n");
    assert_eq!(read(&mut line, 99).as_deref(), Some(&b"\x04\n"[..]), "taken literally");
}

#[test]
fn signals_forget_what_was_typed() {
    let mut line = Line::default();
    assert_eq!(type_in(&mut line, b"ab\x03"), [c::SIGINT as i32]);
    assert_eq!(screen(&mut line), b"^C");
    assert_eq!(type_in(&mut line, b"c\n\x1a\x1c"), [c::SIGTSTP as i32, c::SIGQUIT as i32]);
    assert_eq!(read(&mut line, 99), None);
    set(&mut line, |termios| termios.lflag &= !c::ISIG);
    assert_eq!(type_in(&mut line, b"\x03\n"), []);
    assert_eq!(read(&mut line, 99).as_deref(), Some(&b"\x03\n"[..]));
}

#[test]
fn raw_bytes_are_there_at_once_and_change_with_the_mode() {
    let mut line = Line::default();
    type_in(&mut line, b"half");
    set(&mut line, |termios| termios.lflag &= !(c::ICANON | c::ECHO));
    assert_eq!(read(&mut line, 2).as_deref(), Some(&b"ha"[..]));
    set(&mut line, |termios| termios.cc[c::VMIN as usize] = 3);
    assert!(!line.readable());
    type_in(&mut line, b"\x7f");
    assert!(line.readable());
    set(&mut line, |termios| termios.lflag |= c::ICANON);
    assert_eq!(read(&mut line, 99).as_deref(), Some(&b"lf\x7f"[..]));
}

#[test]
fn output_is_processed_unless_it_is_not() {
    let mut line = Line::default();
    assert_eq!(line.write(b"a\tb\n"), 4);
    assert_eq!(screen(&mut line), b"a\tb\r\n");
    set(&mut line, |termios| termios.oflag |= c::XTABS);
    line.write(b"a\tb");
    assert_eq!(screen(&mut line), b"a       b");
    set(&mut line, |termios| termios.oflag &= !c::OPOST);
    line.write(b"\n");
    assert_eq!(screen(&mut line), b"\n");
    type_in(&mut line, b"\x13");
    assert_eq!(line.write(b"x"), 0);
    type_in(&mut line, b"\x11");
    assert_eq!(line.write(b"x"), 1);
}

#[test]
fn nothing_grows_without_bound() {
    let mut line = Line::default();
    let mut signals = Vec::new();
    for _ in 0..100 {
        assert_eq!(line.feed(&[b'x'; 1000], &mut signals), 1000);
    }
    assert!(line.unshown() <= 32768);
    line.feed(b"\n", &mut signals);
    assert_eq!(line.next(9999).map(|line| line.len()), Some(4096));
    assert_eq!(line.feed(b"more", &mut signals), 0, "until it is read");
    assert!(line.write(&[b'y'; 100_000]) <= 16384);
}
