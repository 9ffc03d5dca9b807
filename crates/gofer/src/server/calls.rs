//! The system calls of a gofer that serves. Anything else ends it, with a line that says which.

use insula_seccomp::Sysno;
use insula_spec::seccomp::{Action, Condition, Test};
use insula_sys::seccomp::Instruction;

/// A call that is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Which.
    pub call: Sysno,
    /// What has to hold of its arguments.
    pub conditions: &'static [Condition],
    /// What for.
    pub purpose: &'static str,
    /// Why it isn't seen where every request is made once, if it isn't.
    pub rare: Option<&'static str>,
}

pub(crate) const fn call(call: Sysno, purpose: &'static str) -> Call {
    Call { call, conditions: &[], purpose, rare: None }
}

impl Call {
    pub(crate) const fn only(self, conditions: &'static [Condition]) -> Call {
        Call { conditions, ..self }
    }

    pub(crate) const fn rare(self, why: &'static str) -> Call {
        Call { rare: Some(why), ..self }
    }
}

/// The first argument is the working directory, which is the kernel's links to our own open files.
const OWN_FILES: &[Condition] = &[Condition { argument: 0, test: Test::MaskedEq(0xffff_ffff), value: AT_FDCWD }];
pub(crate) const STANDARD_ERROR: &[Condition] = &[Condition { argument: 0, test: Test::Eq, value: 2 }];
pub(crate) const NOT_EXECUTABLE: &[Condition] = &[Condition { argument: 2, test: Test::MaskedEq(PROT_EXEC), value: 0 }];

const AT_FDCWD: u64 = (-100_i32).cast_unsigned() as u64;
const PROT_EXEC: u64 = 4;
/// The second argument asks whether a descriptor is open.
pub(crate) const IS_OPEN: &[Condition] = &[Condition { argument: 1, test: Test::Eq, value: F_GETFD }];
const F_GETFD: u64 = 1;

/// What is allowed.
pub const CALLS: &[Call] = &[
    call(Sysno::recvfrom, "requests"),
    call(Sysno::sendmsg, "answers"),
    call(Sysno::openat2, "one name in an open directory, as a place or to make a file"),
    call(Sysno::openat, "a place once more, for reading or writing").only(OWN_FILES),
    call(Sysno::close, "handles that aren't needed, descriptors that were handed out"),
    call(Sysno::statx, "attributes"),
    call(Sysno::fstatfs, "attributes of file systems"),
    call(Sysno::readlinkat, "symbolic links"),
    call(Sysno::mkdirat, "directories"),
    call(Sysno::mknodat, "pipes, sockets' places, devices"),
    call(Sysno::symlinkat, "symbolic links"),
    call(Sysno::linkat, "more names"),
    call(Sysno::unlinkat, "fewer names"),
    call(Sysno::renameat2, "other names"),
    call(Sysno::fchmodat, "permissions"),
    call(Sysno::fchownat, "owners"),
    call(Sysno::utimensat, "times"),
    call(Sysno::ftruncate, "sizes"),
    call(Sysno::getxattr, "extended attributes"),
    call(Sysno::setxattr, "extended attributes"),
    call(Sysno::listxattr, "extended attributes"),
    call(Sysno::removexattr, "extended attributes"),
    call(Sysno::setfsuid, "files in somebody's name"),
    call(Sysno::setfsgid, "files in somebody's name"),
    call(Sysno::futex, "the table of handles, which threads share"),
    call(Sysno::exit_group, "the end, when nobody asks any more"),
    call(Sysno::mmap, "memory").only(NOT_EXECUTABLE).rare("a big table of handles"),
    call(Sysno::mprotect, "memory").only(NOT_EXECUTABLE).rare("the C library's memory of a thread grows"),
    call(Sysno::mremap, "memory").rare("the table of handles grows"),
    call(Sysno::munmap, "memory").rare("memory goes back"),
    call(Sysno::madvise, "memory").rare("memory goes back"),
    call(Sysno::brk, "memory").rare("memory grows"),
    call(Sysno::fcntl, "whether what is closed is open").only(IS_OPEN).rare("Rust asks in debug builds"),
    call(Sysno::write, "what has gone wrong").only(STANDARD_ERROR).rare("nothing has"),
    call(Sysno::restart_syscall, "goes on after a stop").rare("nobody stops it"),
    call(Sysno::rt_sigreturn, "goes on after a signal").rare("nobody sends one"),
];

/// The filter.
pub(crate) fn filter() -> Result<Vec<Instruction>, insula_seccomp::Error> {
    // A trap: the process ends all the same, and says why.
    insula_seccomp::allow_only(CALLS.iter().map(|call| (call.call, call.conditions)), Action::Trap)
}
