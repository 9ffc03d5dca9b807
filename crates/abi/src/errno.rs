//! Error numbers, errno(3).

use core::fmt;

/// Why a system call failed: a number that the program finds negated in its result.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub u16);

macro_rules! errnos {
    ($($name:ident)*) => {
        #[allow(missing_docs)] // They are Linux's: errno(3) describes each.
        impl Errno {
            $(pub const $name: Errno = Errno(linux_raw_sys::errno::$name as u16);)*

            /// Its name in C.
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Errno::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST EXDEV ENODEV ENOTDIR
    EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG ENOLCK ENOSYS
    ENOTEMPTY ELOOP ENOMSG EIDRM ENODATA ETIME EOVERFLOW EILSEQ ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT
    ESOCKTNOSUPPORT EOPNOTSUPP EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET
    ENOBUFS EISCONN ENOTCONN ESHUTDOWN ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE EDQUOT ECANCELED
    ETOOMANYREFS EOWNERDEAD ENOTRECOVERABLE EBADFD ELIBBAD ENOKEY EPROTO EBADMSG EUSERS ENOTUNIQ
}

/// Results that only travel inside a kernel: a wait was interrupted by a signal, and what becomes of the call depends on that signal. The
/// numbers are those of Linux (`include/linux/errno.h`), which a debugger may show.
impl Errno {
    /// Start the call again if the handler has `SA_RESTART`, or if no handler runs; else `EINTR`.
    pub const RESTARTSYS: Errno = Errno(512);
    /// Start the call again, whatever the handler says.
    pub const RESTARTNOINTR: Errno = Errno(513);
    /// Start the call again only if no handler runs; else `EINTR`.
    pub const RESTARTNOHAND: Errno = Errno(514);
    /// As before, but by `restart_syscall(2)`: the deadline stays what it was.
    pub const RESTARTBLOCK: Errno = Errno(516);

    /// Whether it is one of those, which no program may see.
    pub const fn restarts(self) -> bool {
        matches!(self.0, 512..=516)
    }

    /// As it stands in the register of the result.
    pub const fn to_result(self) -> u64 {
        (self.0 as i64).wrapping_neg() as u64
    }

    /// The error in a call's result, if it is one.
    pub const fn from_result(value: u64) -> Option<Errno> {
        if value > -4096i64 as u64 { Some(Errno((value as i64).wrapping_neg() as u16)) } else { None }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Errno({})", self.0),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl core::error::Error for Errno {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_carry_errors_as_negative_numbers() {
        assert_eq!(Errno::EPERM.to_result(), -1i64 as u64);
        assert_eq!(Errno::from_result(-1i64 as u64), Some(Errno::EPERM));
        assert_eq!(Errno::from_result(-4095i64 as u64), Some(Errno(4095)));
        assert_eq!(Errno::from_result(-4096i64 as u64), None);
        assert_eq!(Errno::from_result(0), None);
    }
}
