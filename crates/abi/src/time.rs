//! Moments and spans of time.

use crate::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// `struct timespec`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Timespec {
    /// Seconds.
    pub sec: i64,
    /// Nanoseconds, below a second.
    pub nsec: i64,
}

impl Timespec {
    /// From nanoseconds.
    pub const fn from_nanos(nanos: u64) -> Self {
        Timespec { sec: (nanos / SECOND) as i64, nsec: (nanos % SECOND) as i64 }
    }

    /// In nanoseconds; times that don't fit are the latest there is.
    ///
    /// # Errors
    /// `EINVAL`: negative, or a second or more of nanoseconds.
    pub const fn to_nanos(self) -> Result<u64, Errno> {
        if self.sec < 0 || self.nsec < 0 || self.nsec >= SECOND as i64 {
            return Err(Errno::EINVAL);
        }
        Ok((self.sec as u64).saturating_mul(SECOND).saturating_add(self.nsec as u64))
    }
}

/// `struct timeval`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Timeval {
    /// Seconds.
    pub sec: i64,
    /// Microseconds, below a second.
    pub usec: i64,
}

impl Timeval {
    /// From nanoseconds, rounded down.
    pub const fn from_nanos(nanos: u64) -> Self {
        Timeval { sec: (nanos / SECOND) as i64, usec: (nanos % SECOND / 1000) as i64 }
    }

    /// In nanoseconds; times that don't fit are the latest there is.
    ///
    /// # Errors
    /// `EINVAL`: negative, or a second or more of microseconds.
    pub const fn to_nanos(self) -> Result<u64, Errno> {
        if self.sec < 0 || self.usec < 0 || self.usec >= 1_000_000 {
            return Err(Errno::EINVAL);
        }
        Ok((self.sec as u64).saturating_mul(SECOND).saturating_add(self.usec as u64 * 1000))
    }
}

/// `struct itimerspec`: a timer's period, and when it fires next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Itimerspec {
    /// Period; zero fires once.
    pub interval: Timespec,
    /// Next; zero is never.
    pub value: Timespec,
}

/// `struct itimerval`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Itimerval {
    /// Period; zero fires once.
    pub interval: Timeval,
    /// Next; zero is never.
    pub value: Timeval,
}

/// `struct timex`, adjtimex(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[allow(missing_docs)] // adjtimex(2) describes each.
pub struct Timex {
    pub modes: u32,
    pub pad: u32,
    pub offset: i64,
    pub freq: i64,
    pub maxerror: i64,
    pub esterror: i64,
    pub status: i32,
    pub pad2: i32,
    pub constant: i64,
    pub precision: i64,
    pub tolerance: i64,
    pub time: Timeval,
    pub tick: i64,
    pub ppsfreq: i64,
    pub jitter: i64,
    pub shift: i32,
    pub pad3: i32,
    pub stabil: i64,
    pub jitcnt: i64,
    pub calcnt: i64,
    pub errcnt: i64,
    pub stbcnt: i64,
    pub tai: i32,
    pub pad4: [i32; 11],
}
