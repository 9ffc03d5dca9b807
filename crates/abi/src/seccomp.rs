//! What is said of calls about which a filter asks somebody, seccomp_unotify(2).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct seccomp_notif`: a call that waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Notification {
    /// Tells it from all others of its listener.
    pub id: u64,
    /// Who makes it.
    pub pid: u32,
    /// Always 0.
    pub flags: u32,
    /// `struct seccomp_data`, in words.
    pub data: [u32; 16],
}

/// `struct seccomp_notif_resp`: what becomes of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Response {
    /// Which.
    pub id: u64,
    /// Its result, if it is no error.
    pub value: i64,
    /// The error, below 0.
    pub error: i32,
    /// `SECCOMP_USER_NOTIF_FLAG_*`.
    pub flags: u32,
}

/// `struct seccomp_notif_addfd`: an open file for who makes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AddDescriptor {
    /// Which.
    pub id: u64,
    /// `SECCOMP_ADDFD_FLAG_*`.
    pub flags: u32,
    /// The file, by a descriptor of who decides.
    pub source: u32,
    /// The number that it gets, if one is wanted.
    pub number: u32,
    /// `O_CLOEXEC`.
    pub number_flags: u32,
}

/// `struct seccomp_notif_sizes`, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Sizes {
    /// Of [`Notification`].
    pub notification: u16,
    /// Of [`Response`].
    pub response: u16,
    /// Of `struct seccomp_data`.
    pub data: u16,
}

/// `struct seccomp_metadata`, ptrace(2) at `PTRACE_SECCOMP_GET_METADATA`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Metadata {
    /// Which filter, the oldest first.
    pub filter: u64,
    /// `SECCOMP_FILTER_FLAG_*` that it was loaded with.
    pub flags: u64,
}
