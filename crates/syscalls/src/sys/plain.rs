//! The kernel's structures: plain data, of which every pattern of bits is a value.

/// Data without padding that matters, invariants or drop: the kernel may overwrite it with any bytes.
///
/// # Safety
/// Every pattern of bits must be a value of the type.
pub(crate) unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($type:ty),* $(,)?) => {
        // SAFETY: numbers, pointers that Rust never follows, and C structures of nothing else.
        $(unsafe impl Plain for $type {})*
    };
}

plain!(u8, i8, u16, i16, u32, i32, u64, i64, usize, isize);
plain!(libc::timespec, libc::timeval, libc::itimerval, libc::itimerspec, libc::tms, libc::timezone, libc::timex, libc::utimbuf);
plain!(
    libc::stat,
    libc::statfs,
    libc::statx,
    libc::iovec,
    libc::flock,
    libc::open_how,
    libc::winsize,
    libc::termios,
    libc::termios2
);
plain!(
    libc::siginfo_t,
    libc::stack_t,
    libc::sigevent,
    libc::sigset_t,
    libc::rusage,
    libc::rlimit,
    libc::sysinfo,
    libc::utsname,
    libc::user_regs_struct
);
plain!(libc::pollfd, libc::epoll_event, libc::fd_set, libc::msghdr, libc::mmsghdr, libc::linger, libc::ucred, libc::clone_args);
plain!(libc::sockaddr, libc::sockaddr_in, libc::sockaddr_in6, libc::sockaddr_un, libc::sockaddr_nl, libc::sockaddr_storage);
plain!(
    libc::sched_param,
    libc::sched_attr,
    libc::signalfd_siginfo,
    libc::sock_filter,
    libc::sock_fprog,
    libc::mq_attr,
    libc::ifreq
);
plain!(libc::tcp_info, libc::in_addr, libc::in6_addr, libc::shmid_ds, libc::msqid_ds, libc::semid_ds, libc::sembuf);
// SAFETY: as their elements.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}
// SAFETY: an address; following it is what would need a reason.
unsafe impl<T> Plain for *const T {}
// SAFETY: as above.
unsafe impl<T> Plain for *mut T {}

/// A value of zeros, as C's `= {0}`.
pub(crate) fn zeroed<T: Plain>() -> T {
    // SAFETY: every pattern of bits is a value.
    unsafe { std::mem::zeroed() }
}

/// A structure read from bytes, as the kernel packs them one after the other. None if they are too few.
pub(crate) fn from_bytes<T: Plain>(bytes: &[u8]) -> Option<T> {
    // SAFETY: long enough, read unaligned, and every pattern of bits is a value.
    (bytes.len() >= size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// The bytes of a structure.
pub(crate) fn to_bytes<T: Plain>(value: &T) -> Vec<u8> {
    let start = std::ptr::from_ref(value).cast::<u8>();
    // Through a volatile read, as padding counts as uninitialised.
    // SAFETY: within the value.
    (0..size_of::<T>()).map(|index| unsafe { start.add(index).read_volatile() }).collect()
}
