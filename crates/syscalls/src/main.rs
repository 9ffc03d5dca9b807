//! `insula-syscalls`: one suite of system-call tests, a file for each family. Linux is the oracle.
//!
//! What a test says holds on Linux, and so it must hold in every kernel that claims Linux's interface: run natively the suite
//! passes whole, and run behind a boundary with a kernel of our own it gives the same lines.
//!
//! ```text
//! insula-syscalls list                           every test, one line each
//! insula-syscalls run [FILTER…]                  tests whose FAMILY.NAME contains one of the filters
//!     --jobs N        how many at a time (1)
//!     --timeout S     seconds until a test that hangs is killed and has failed (60)
//!     --format json   one object a line instead of text
//! insula-syscalls fuzz                           calls at random, which a kernel has to bear; only in a sandbox
//!     --calls N       how many (100000)
//!     --seed N        which (1)
//!     --jobs N        processes that make them at a time (4)
//!     --first N       the batch to begin with, as told of one that was lost (0)
//!     --wait          afterwards, until standard input ends
//! ```
//!
//! A test is a line, `ok FAMILY.NAME (N assertions)`, `not ok FAMILY.NAME: file:line: call: expected …, got …`, or
//! `skip FAMILY.NAME: reason`; the last line sums up. The exit code is 0 only if nothing failed. Scratch directories are made in
//! `$TMPDIR`, or in the working directory if that is not set, and removed again.
//!
//! # How a test is run
//!
//! One after the other, each in a process of its own that leads a session, with an empty directory as working directory, no
//! blocked or ignored signals, no descriptor but the standard three, and umask 022 ([`runner`]). What it leaves behind is killed.
//! Assertions and failures are kept in memory that all its processes share ([`board`]), so a child's assertion counts like its
//! parent's. No test needs a thread of the runner's.
//!
//! # How to write a test
//!
//! A test is a function without arguments in a file of [`families`], named in the list at the file's head. It reads like the
//! manual page, by the macros of [`check`]:
//!
//! ```ignore
//! fn reads_what_was_written() {
//!     let file = works!(openat(AT_FDCWD, c"file", O_RDWR | O_CREAT, 0o644));
//!     gives!(write(file, b"hello", 5) => 5);
//!     fails!(lseek(file, -1, SEEK_SET) => EINVAL);
//! }
//! ```
//!
//! - Calls go straight to the kernel, never through the C library, which would hide what is tested. Each is recorded by its
//!   number.
//! - Say what Linux does, also where that is odd; where the manual page and the kernel differ, the kernel is right, and a comment
//!   says so.
//! - Wait for events, never for time: [`sys::process::until_asleep`], a pipe, a counter in shared memory. No timed bar.
//! - What the host can't do is probed for, and skipped by name with [`skip!`](check); never left out in silence.
//! - A test that must run as root asks with [`sys::process::need_root`].
//! - `unsafe` belongs in [`sys`], behind a function that is safe to call.

mod board;
mod check;
mod families;
mod fuzz;
mod helper;
mod runner;
mod sys;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("list") => {
            for test in families::all() {
                println!("{}", test.full_name());
            }
            ExitCode::SUCCESS
        }
        Some("run") => match runner::Options::parse(args) {
            Ok(options) => runner::run(&options),
            Err(message) => usage(&message),
        },
        Some("fuzz") => match fuzz::Options::parse(args) {
            Ok(options) => fuzz::run(&options),
            Err(message) => usage(&message),
        },
        // What tests of execve start; not for users.
        Some("helper") => helper::main(args),
        Some(other) => usage(&format!("'{other}' is not a command of insula-syscalls")),
        None => usage("no command given"),
    }
}

fn usage(message: &str) -> ExitCode {
    eprintln!("insula-syscalls: {message}");
    eprintln!("usage: insula-syscalls list | run [FILTER...] [--jobs N] [--timeout SECONDS] [--format text|json]");
    eprintln!("       insula-syscalls fuzz [--calls N] [--seed N] [--jobs N] [--first BATCH] [--wait]");
    ExitCode::from(2)
}
