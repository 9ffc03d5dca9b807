//! What the sentry gives up before the guest's first instruction.
//!
//! Afterwards its world is an empty, read-only root in namespaces of its own, no capabilities, nobody's user where the host lets it, and the
//! system calls in [`CALLS`]. A guest that takes the kernel over finds nothing to open, nobody to signal but the sandbox itself, and
//! files only by asking the gofer.

use insula_seccomp::Sysno;
use insula_spec::defaults::attr;
use insula_spec::seccomp::{Action, Condition, Test};
use insula_sys::mount;
use insula_sys::seccomp::Instruction;
use insula_sys::{Context, Result, capability, process};
use rustix::fs::OFlags;
use rustix::process::Resource;
use std::path::Path;

/// Who the sentry and its stubs are on the host, where that is possible: nobody's files, nobody's processes.
const NOBODY: u32 = 65534;

/// A call that is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// Which.
    pub call: Sysno,
    /// What has to hold of its arguments.
    pub conditions: &'static [Condition],
    /// What for.
    pub purpose: &'static str,
}

const fn allow(call: Sysno, purpose: &'static str) -> Allowed {
    Allowed { call, conditions: &[], purpose }
}

impl Allowed {
    const fn only(self, conditions: &'static [Condition]) -> Allowed {
        Allowed { conditions, ..self }
    }
}

const PROT_EXEC: u64 = 4;
const NOT_EXECUTABLE: &[Condition] = &[Condition { argument: 2, test: Test::MaskedEq(PROT_EXEC), value: 0 }];

/// All that the sentry may ask of the host's kernel. None of it takes a path.
pub const CALLS: &[Allowed] = &[
    allow(Sysno::ptrace, "stubs: resuming them, their registers"),
    allow(Sysno::wait4, "stubs that stopped or ended"),
    allow(Sysno::tgkill, "bringing stubs back"),
    allow(Sysno::kill, "ending stubs"),
    allow(Sysno::sched_setaffinity, "a stub and its thread on one processor"),
    allow(Sysno::sched_getaffinity, "which processors there are"),
    allow(Sysno::sched_yield, "letting a stub go first"),
    allow(Sysno::futex, "locks, and threads that wait"),
    allow(Sysno::clone3, "threads"),
    allow(Sysno::clone, "threads, on hosts without clone3"),
    allow(Sysno::set_robust_list, "threads begin"),
    allow(Sysno::rseq, "threads begin"),
    allow(Sysno::prctl, "threads' names"),
    allow(Sysno::exit, "threads end"),
    allow(Sysno::exit_group, "the end"),
    allow(Sysno::rt_sigprocmask, "threads begin"),
    allow(Sysno::rt_sigaction, "threads begin"),
    allow(Sysno::rt_sigreturn, "goes on after a signal"),
    allow(Sysno::sigaltstack, "threads begin and end"),
    allow(Sysno::restart_syscall, "goes on after a stop"),
    allow(Sysno::mmap, "memory").only(NOT_EXECUTABLE),
    allow(Sysno::mprotect, "memory").only(NOT_EXECUTABLE),
    allow(Sysno::munmap, "memory"),
    allow(Sysno::mremap, "memory"),
    allow(Sysno::madvise, "memory goes back"),
    allow(Sysno::brk, "memory"),
    allow(Sysno::fallocate, "the guests' memory goes back; space for files"),
    allow(Sysno::read, "standard streams, signals"),
    allow(Sysno::write, "standard streams, what has gone wrong"),
    allow(Sysno::pread64, "files"),
    allow(Sysno::pwrite64, "files"),
    allow(Sysno::preadv, "files, straight into the guests' memory"),
    allow(Sysno::pwritev, "files, straight from the guests' memory"),
    allow(Sysno::lseek, "data and holes of files"),
    allow(Sysno::fstat, "files"),
    allow(Sysno::ftruncate, "sizes of files"),
    allow(Sysno::fsync, "what was written is to stay"),
    allow(Sysno::fdatasync, "what was written is to stay"),
    allow(Sysno::getdents64, "directories"),
    allow(Sysno::fcntl, "how a descriptor was opened"),
    allow(Sysno::close, "descriptors"),
    allow(Sysno::ioctl, "terminals among the standard streams; how much a socket holds"),
    allow(Sysno::poll, "whether a standard stream or a socket is ready"),
    allow(Sysno::ppoll, "whether a standard stream or a socket is ready"),
    allow(Sysno::epoll_ctl, "standard streams, sockets"),
    allow(Sysno::epoll_wait, "standard streams, sockets"),
    allow(Sysno::epoll_pwait, "standard streams, sockets"),
    allow(Sysno::sendmsg, "requests to the gofer; what programs send in the host's network"),
    allow(Sysno::sendto, "requests to the gofer"),
    allow(Sysno::recvmsg, "answers of the gofer; processes that are to be run; what programs receive"),
    allow(Sysno::recvfrom, "answers of the gofer"),
    allow(Sysno::accept4, "who wants processes to be run; connections of programs"),
    allow(Sysno::getrandom, "randomness"),
    allow(Sysno::getpid, "threads begin"),
    allow(Sysno::gettid, "threads begin"),
    allow(Sysno::clock_gettime, "time, where the host's vDSO has none"),
    allow(Sysno::clock_nanosleep, "a moment's sleep"),
    allow(Sysno::membarrier, "barriers on guests' processors"),
    allow(Sysno::getcpu, "which processor this is"),
];

/// The filter.
///
/// # Errors
/// It is too long for the kernel.
pub fn filter() -> std::result::Result<Vec<Instruction>, insula_seccomp::Error> {
    insula_seccomp::allow_only(CALLS.iter().map(|allowed| (allowed.call, allowed.conditions)), Action::Trap)
}

/// Leaves the container's root for an empty one.
pub(crate) fn leave_root() -> Result<()> {
    let attributes = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
    let root = mount::make("tmpfs", "sentry", &["size=4096".into(), "nr_inodes=2".into(), "mode=555".into()], attributes)?;
    let old = mount::open_place(Path::new("/"), OFlags::DIRECTORY).on("open", "/")?;
    mount::attach(&root, old).on("mount on", "/")?;
    mount::pivot(&root)
}

/// Gives up user and capabilities. What asked the kernel to end this process with another is to be asked again.
pub(crate) fn give_up_privileges() -> Result<()> {
    // In a user namespace without that ID it stays who it is, which is nobody outside.
    if rustix::process::geteuid().is_root() {
        let _ = process::set_ids(NOBODY, NOBODY, Some(&[]));
    }
    capability::set_ambient(0)?;
    let _ = capability::limit_bounding(0);
    capability::set(0, 0, 0)?;
    rustix::thread::set_no_new_privs(true).on("give up", "new privileges")
}

/// Raises the soft limit of descriptors to the hard one: each open file of the guest's may need one here.
pub(crate) fn raise_descriptors() {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = rustix::process::setrlimit(Resource::Nofile, limit);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The bar: gVisor's filters let 53 to 68 calls through.
    const MOST: usize = 60;

    #[test]
    fn the_calls_are_few_and_each_stands_once() {
        let names: BTreeSet<_> = CALLS.iter().map(|allowed| allowed.call.name()).collect();
        assert!(names.len() == CALLS.len() && CALLS.len() <= MOST, "{} calls, {} names", CALLS.len(), names.len());
    }

    #[test]
    fn memory_never_becomes_executable() {
        for call in [Sysno::mmap, Sysno::mprotect] {
            let allowed: Vec<_> = CALLS.iter().filter(|allowed| allowed.call == call).collect();
            assert!(matches!(allowed[..], [one] if one.conditions == NOT_EXECUTABLE), "{}", call.name());
        }
        assert!(CALLS.iter().all(|allowed| allowed.call != Sysno::pkey_mprotect && allowed.call != Sysno::execve));
    }

    /// What `docs/security.md` says is what the lists say.
    #[test]
    fn the_document_lists_exactly_these() {
        let sentry = CALLS.iter().map(|allowed| allowed.call.name());
        assert_eq!(written("sentry"), sentry.collect::<BTreeSet<_>>(), "docs/security.md, the sentry's calls");
        let gofer = insula_gofer::CALLS.iter().map(|call| call.call.name());
        assert_eq!(written("gofer"), gofer.collect::<BTreeSet<_>>(), "docs/security.md, the gofer's calls");
        let net = insula_gofer::net::CALLS.iter().map(|call| call.call.name());
        assert_eq!(written("net"), net.collect::<BTreeSet<_>>(), "docs/security.md, the net process's calls");
    }

    /// The names between a list's marks: each line begins with one.
    fn written(list: &str) -> BTreeSet<&'static str> {
        let document = include_str!("../../../docs/security.md");
        let (_, rest) = document.split_once(&format!("<!-- {list} calls -->\n")).expect("a mark before the list");
        let (table, _) = rest.split_once(&format!("<!-- end of {list} calls -->")).expect("a mark behind the list");
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect()
    }
}
