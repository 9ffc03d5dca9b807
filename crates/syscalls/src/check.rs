//! Assertions. Each is counted; the first that fails ends its process, and with it the test.
//!
//! | | |
//! |---|---|
//! | `works!(call(…))` | it succeeds; the value is handed on |
//! | `gives!(call(…) => value)` | it succeeds with this value |
//! | `fails!(call(…) => EBADF)` | it fails with this error (or one of several: `EAGAIN \| EINTR`) |
//! | `eq!(got, expected)` | two values are equal |
//! | `is!(condition, "what should hold")` | a condition holds |
//! | `skip!("reason")` | the host can't do it: the test ends here |

use crate::{board, sys};
use std::fmt::Debug;
use std::panic::Location;
use syscalls::Errno;

/// The exit code of a process whose assertion failed.
pub(crate) const FAILED: i32 = 101;

macro_rules! works {
    ($name:ident($($arg:expr),* $(,)?)) => {
        $crate::check::must_work(stringify!($name($($arg),*)), $crate::sys::sys!($name($($arg),*)))
    };
}

macro_rules! gives {
    ($name:ident($($arg:expr),* $(,)?) => $want:expr) => {
        $crate::check::must_give(stringify!($name($($arg),*)), $crate::sys::sys!($name($($arg),*)), $want as usize)
    };
}

macro_rules! fails {
    ($name:ident($($arg:expr),* $(,)?) => $($error:ident)|+) => {
        $crate::check::must_fail(stringify!($name($($arg),*)), $crate::sys::sys!($name($($arg),*)), &[$(syscalls::Errno::$error),+])
    };
}

macro_rules! eq {
    ($got:expr, $want:expr $(,)?) => {
        $crate::check::equal(stringify!($got), &$got, &$want)
    };
}

macro_rules! is {
    ($condition:expr, $($what:tt)+) => {
        $crate::check::holds($condition, format_args!($($what)+))
    };
}

macro_rules! skip {
    ($($reason:tt)+) => {
        $crate::check::end_skipped(&format!($($reason)+))
    };
}

pub(crate) use {eq, fails, gives, is, skip, works};

#[track_caller]
pub(crate) fn must_work(call: &str, got: Result<usize, Errno>) -> usize {
    board::record_assertion();
    match got {
        Ok(value) => value,
        Err(error) => fail(&format!("{call}: expected success, got {}", name(error))),
    }
}

#[track_caller]
pub(crate) fn must_give(call: &str, got: Result<usize, Errno>, want: usize) {
    board::record_assertion();
    if got != Ok(want) {
        fail(&format!("{call}: expected {}, got {}", want as isize, show(got)));
    }
}

#[track_caller]
pub(crate) fn must_fail(call: &str, got: Result<usize, Errno>, want: &[Errno]) {
    board::record_assertion();
    if !matches!(got, Err(error) if want.contains(&error)) {
        let want: Vec<String> = want.iter().map(|error| name(*error)).collect();
        fail(&format!("{call}: expected {}, got {}", want.join(" or "), show(got)));
    }
}

#[track_caller]
pub(crate) fn equal<T: PartialEq<U> + Debug + ?Sized, U: Debug + ?Sized>(what: &str, got: &T, want: &U) {
    board::record_assertion();
    if got != want {
        fail(&format!("{what}: expected {want:?}, got {got:?}"));
    }
}

#[track_caller]
pub(crate) fn holds(condition: bool, what: std::fmt::Arguments) {
    board::record_assertion();
    if !condition {
        fail(&format!("expected {what}, got the contrary"));
    }
}

/// Notes the failure for the runner, and ends the process at once.
#[track_caller]
pub(crate) fn fail(text: &str) -> ! {
    let place = Location::caller();
    let file = place.file().rsplit_once("/src/").map_or(place.file(), |(_, file)| file);
    board::record_failure(&format!("{file}:{}: {text}", place.line()));
    sys::process::exit(FAILED)
}

pub(crate) fn end_skipped(reason: &str) -> ! {
    board::record_skip(reason);
    sys::process::exit(0)
}

fn show(got: Result<usize, Errno>) -> String {
    match got {
        Ok(value) => (value as isize).to_string(),
        Err(error) => name(error),
    }
}

pub(crate) fn name(error: Errno) -> String {
    error.name().map_or_else(|| format!("errno {}", error.into_raw()), str::to_owned)
}
