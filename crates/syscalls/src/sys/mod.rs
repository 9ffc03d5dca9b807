//! The way to the kernel: every call, and what tests need around calls. All of this program's `unsafe` is here and in
//! [`crate::board`].
//!
//! [`sys!`] makes one call: `sys!(read(fd, &mut buffer, 10))` is `Ok(count)` or `Err(Errno)`, and has been recorded. What may be
//! an argument says [`Arg`]: numbers go as they are, references as addresses, and only of [`Plain`] values, which any bytes may
//! overwrite.
//!
//! | module | holds |
//! |---|---|
//! | [`memory`] | mappings, touching memory that may fault, memory shared with children |
//! | [`process`] | children, their ends, threads without the C library |
//! | [`signal`] | handlers that keep a record, sets, waiting |
//! | [`files`] | the few steps that many tests begin with |
//! | [`sockets`] | addresses, messages with control data
//! | [`plain`] | the kernel's structures |

#![allow(unsafe_code)]

pub(crate) mod files;
pub(crate) mod memory;
pub(crate) mod often;
pub(crate) mod plain;
pub(crate) mod process;
pub(crate) mod signal;
pub(crate) mod sockets;

pub(crate) use plain::{Plain, zeroed};

use crate::board;
use std::ffi::CStr;
use syscalls::{Errno, Sysno};

/// Makes a system call by its name in the kernel's table.
macro_rules! sys {
    ($name:ident($($arg:expr),* $(,)?)) => {
        $crate::sys::call(syscalls::Sysno::$name, &[$($crate::sys::Arg::word($arg)),*])
    };
}
pub(crate) use sys;

/// Makes a system call, and records that it was made. Missing arguments are 0.
///
/// No type can say what a call does to memory, so what keeps this function sound is a rule for those who write tests: a reference
/// is passed with no greater length than what it refers to has; a bare number as an address is one that faults, or memory the
/// test mapped for itself. A test that breaks the rule spoils its own process, which ends with it.
pub(crate) fn call(number: Sysno, words: &[usize]) -> Result<usize, Errno> {
    board::record_call(number.id() as usize);
    let word = |index: usize| words.get(index).copied().unwrap_or(0);
    // SAFETY: by the rule above, the kernel writes only to plain data that lives until the call returns, or to memory that no
    // reference of Rust's points to.
    let value = unsafe { syscalls::raw::syscall6(number.id() as usize, word(0), word(1), word(2), word(3), word(4), word(5)) };
    Errno::from_ret(value)
}

/// Makes any call with any arguments, in a process whose end is to be looked at and nothing else; answers what is in the register.
pub(crate) fn call_any(number: usize, words: &[usize; 6]) -> usize {
    let [one, two, three, four, five, six] = *words;
    // SAFETY: there is none. The process that fuzzes may spoil its own memory, which nobody uses for anything after it.
    unsafe { syscalls::raw::syscall6(number, one, two, three, four, five, six) }
}

/// Makes a call that has no name: its bare number, and no arguments.
pub(crate) fn call_number(number: usize) -> Result<usize, Errno> {
    // SAFETY: without arguments there is nothing a call could write to.
    Errno::from_ret(unsafe { syscalls::raw::syscall6(number, 0, 0, 0, 0, 0, 0) })
}

/// What can be an argument of a system call.
pub(crate) trait Arg {
    /// As it goes into a register.
    fn word(self) -> usize;
}

macro_rules! numbers {
    ($($type:ty),*) => { $(impl Arg for $type { fn word(self) -> usize { self as usize } })* };
}
numbers!(i16, u16, i32, u32, i64, u64, isize, usize);

impl Arg for &CStr {
    fn word(self) -> usize {
        self.as_ptr().expose_provenance()
    }
}

impl<T: Plain> Arg for &T {
    fn word(self) -> usize {
        std::ptr::from_ref(self).expose_provenance()
    }
}

impl<T: Plain> Arg for &mut T {
    fn word(self) -> usize {
        std::ptr::from_mut(self).expose_provenance()
    }
}

impl<T: Plain> Arg for &[T] {
    fn word(self) -> usize {
        self.as_ptr().expose_provenance()
    }
}

impl<T: Plain> Arg for &mut [T] {
    fn word(self) -> usize {
        self.as_mut_ptr().expose_provenance()
    }
}

impl<T> Arg for *const T {
    fn word(self) -> usize {
        self.expose_provenance()
    }
}

impl<T> Arg for *mut T {
    fn word(self) -> usize {
        self.expose_provenance()
    }
}

impl Arg for &std::sync::atomic::AtomicU32 {
    fn word(self) -> usize {
        self.as_ptr().expose_provenance()
    }
}
