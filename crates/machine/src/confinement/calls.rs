//! The list. It is read by people: `docs/security.md` shows it (a test compares), and each line says what for.

use super::Part::{Any, Balloon, Card, Disk, Network, Pci, Sockets, Temporary};
use super::Thread::{Input, Loader, Loop, Vcpu};
use super::{Call, Part, Thread, is, without};
use insula_seccomp::Sysno;
use insula_spec::seccomp::Condition;

const EVERY: &[Thread] = &Thread::ALL;
const BOTH: &[Thread] = &[Loop, Vcpu];

/// Requests of ioctl(2).
mod request {
    pub(super) const KVM_RUN: u64 = 0xae80;
    pub(super) const KVM_SET_GSI_ROUTING: u64 = 0x4008_ae6a;
    pub(super) const UFFDIO_WAKE: u64 = insula_vm::fill::UFFDIO_WAKE;
    pub(super) const TCSETSW2: u64 = 0x402c_542c;
    pub(super) const TUNSETOFFLOAD: u64 = libc::TUNSETOFFLOAD;
    pub(super) const TUNSETQUEUE: u64 = libc::TUNSETQUEUE;
}

/// The signal that a processor's thread is asked to look up by: the first that the C library leaves to programs.
const LOOK_UP: u64 = 34;
const NOT_EXECUTABLE: &[Condition] = &[without(2, libc::PROT_EXEC as u64)];
const LOCAL_STREAM: &[Condition] =
    &[is(0, libc::AF_UNIX as u64), is(1, (libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) as u64)];

/// A socket that doesn't wait, of this family, kind and protocol.
const fn socket(family: i32, kind: i32, protocol: i32) -> [Condition; 3] {
    let kind = kind | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    [is(0, family as u64), is(1, kind as u64), is(2, protocol as u64)]
}

const STREAM4: &[Condition] = &socket(libc::AF_INET, libc::SOCK_STREAM, 0);
const STREAM6: &[Condition] = &socket(libc::AF_INET6, libc::SOCK_STREAM, 0);
const DATAGRAM4: &[Condition] = &socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
const DATAGRAM6: &[Condition] = &socket(libc::AF_INET6, libc::SOCK_DGRAM, 0);
const ECHO4: &[Condition] = &socket(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP);
const ECHO6: &[Condition] = &socket(libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_ICMPV6);

const fn option(level: i32, name: i32) -> [Condition; 2] {
    [is(1, level as u64), is(2, name as u64)]
}

const ERROR: &[Condition] = &option(libc::SOL_SOCKET, libc::SO_ERROR);
const NODELAY: &[Condition] = &option(libc::IPPROTO_TCP, libc::TCP_NODELAY);
const KEEPALIVE: &[Condition] = &option(libc::SOL_SOCKET, libc::SO_KEEPALIVE);
const OOBINLINE: &[Condition] = &option(libc::SOL_SOCKET, libc::SO_OOBINLINE);
const LINGER: &[Condition] = &option(libc::SOL_SOCKET, libc::SO_LINGER);

const fn call(call: Sysno, threads: &'static [Thread], purpose: &'static str) -> Call {
    Call { call, conditions: &[], only: "", threads, part: Any, purpose, rare: None }
}

impl Call {
    const fn only(self, only: &'static str, conditions: &'static [Condition]) -> Call {
        Call { only, conditions, ..self }
    }

    const fn of(self, part: Part) -> Call {
        Call { part, ..self }
    }

    const fn rare(self, why: &'static str) -> Call {
        Call { rare: Some(why), ..self }
    }
}

/// Why a thread that brings the kernel isn't seen.
const ALL_THERE: &str = "small kernels are in memory before";

/// What is allowed; anything else ends the process.
pub const CALLS: &[Call] = &[
    // The guest.
    call(Sysno::ioctl, &[Vcpu], "runs the guest").only("`KVM_RUN`", &[is(1, request::KVM_RUN)]),
    call(Sysno::ioctl, &[Vcpu], "where the interrupts of a device on PCI go")
        .of(Pci)
        .only("`KVM_SET_GSI_ROUTING`", &[is(1, request::KVM_SET_GSI_ROUTING)]),
    call(Sysno::ppoll, &[Loader], "waits a moment for the guest to miss something").rare(ALL_THERE),
    call(Sysno::pread64, &[Loader], "reads the rest of the guest's kernel").rare(ALL_THERE),
    call(Sysno::mremap, &[Loader], "puts it in its place").rare(ALL_THERE),
    call(Sysno::ioctl, &[Loader], "wakes who waits for it").only("`UFFDIO_WAKE`", &[is(1, request::UFFDIO_WAKE)]).rare(ALL_THERE),
    // Waiting, and telling others.
    call(Sysno::epoll_wait, &[Loop], "waits for devices, console and guest"),
    call(Sysno::epoll_ctl, &[Loop], "what is waited for changes"),
    call(Sysno::read, EVERY, "events, console input"),
    call(Sysno::write, EVERY, "events, interrupts, the console, messages"),
    call(Sysno::futex, EVERY, "locks, and the end of threads"),
    call(Sysno::accept4, &[Loop], "who connects: to the control socket, or to a program of the guest's"),
    call(Sysno::sendto, &[Loop], "answers to who has connected, and bytes that had to wait"),
    call(Sysno::recvfrom, &[Loop], "what is asked at the control socket; whether a caller is still there")
        .rare("nobody may ask, and hardly one hangs up before the guest has answered"),
    call(Sysno::sched_yield, EVERY, "waits a moment for another thread").rare("threads meet at the start only, and seldom so"),
    // Devices.
    call(Sysno::getrandom, &[Loop], "entropy for the guest"),
    call(Sysno::io_uring_enter, &[Loop], "reads and writes disks").of(Disk),
    call(Sysno::io_uring_enter, &[Vcpu], "waits for a disk that the guest resets")
        .of(Disk)
        .rare("guests wait for their requests first"),
    call(Sysno::preadv, &[Loop], "reads a disk where there is no io_uring").of(Disk),
    call(Sysno::pwritev2, &[Loop], "writes it").of(Disk),
    call(Sysno::fdatasync, &[Loop], "flushes it").of(Disk),
    call(Sysno::fallocate, &[Loop], "makes holes and zeros in it").of(Disk),
    call(Sysno::pwrite64, &[Loop], "writes zeros, on file systems that can't make them").of(Disk),
    call(Sysno::flock, &[Loop], "gives a disk free at the end")
        .of(Disk)
        .only("`LOCK_UN`", &[is(1, (libc::LOCK_UN | libc::LOCK_NB) as u64)]),
    call(Sysno::readv, &[Loop], "frames from a tap").of(Card),
    call(Sysno::writev, &[Loop], "frames to a tap").of(Card),
    call(Sysno::timerfd_settime, &[Loop], "when the guest hears at the latest that its frames are gone").of(Card),
    call(Sysno::ioctl, &[Vcpu], "which checksums and segments the guest's driver takes")
        .of(Card)
        .only("`TUNSETOFFLOAD`", &[is(1, request::TUNSETOFFLOAD)]),
    call(Sysno::ioctl, &[Loop], "the same, while it runs")
        .of(Card)
        .only("`TUNSETOFFLOAD`", &[is(1, request::TUNSETOFFLOAD)])
        .rare("a guest's administrator changes it (`ethtool -K`)"),
    call(Sysno::ioctl, BOTH, "switches queues of a tap")
        .of(Card)
        .only("`TUNSETQUEUE`", &[is(1, request::TUNSETQUEUE)])
        .rare("cards with several pairs of queues"),
    call(Sysno::epoll_pwait, &[Loop], "which sockets are ready").of(Network),
    call(Sysno::socket, &[Loop], "connections of the guest's").of(Network).only("streams of IPv4", STREAM4),
    call(Sysno::socket, &[Loop], "the same").of(Network).only("streams of IPv6", STREAM6),
    call(Sysno::socket, &[Loop], "the guest's datagrams").of(Network).only("datagrams of IPv4", DATAGRAM4),
    call(Sysno::socket, &[Loop], "the same").of(Network).only("datagrams of IPv6", DATAGRAM6),
    call(Sysno::socket, &[Loop], "the guest's `ping`").of(Network).only("echoes of IPv4", ECHO4),
    call(Sysno::socket, &[Loop], "the same").of(Network).only("echoes of IPv6", ECHO6),
    call(Sysno::connect, &[Loop], "the same").of(Network),
    call(Sysno::getsockopt, &[Loop], "how a connection of the guest's went").of(Network).only("`SO_ERROR`", ERROR),
    call(Sysno::setsockopt, &[Loop], "sends on what the guest sends at once").of(Network).only("`TCP_NODELAY`", NODELAY),
    call(Sysno::setsockopt, &[Loop], "asks whether a silent peer is there").of(Network).only("`SO_KEEPALIVE`", KEEPALIVE),
    call(Sysno::setsockopt, &[Loop], "takes urgent bytes as bytes").of(Network).only("`SO_OOBINLINE`", OOBINLINE),
    call(Sysno::setsockopt, &[Loop], "breaks off what the guest breaks off").of(Network).only("`SO_LINGER`", LINGER),
    call(Sysno::setsockopt, &[Vcpu], "the same, of a guest that resets its card").of(Network).only("`SO_LINGER`", LINGER),
    call(Sysno::readv, &[Loop], "bytes for the guest").of(Network),
    call(Sysno::writev, &[Loop], "bytes of the guest's").of(Network),
    call(Sysno::recvfrom, &[Loop], "datagrams for the guest").of(Network),
    call(Sysno::shutdown, &[Loop], "the guest sends no more").of(Network),
    call(Sysno::timerfd_settime, &[Loop], "what is to be sent again, and forgotten").of(Network),
    call(Sysno::epoll_pwait, &[Loop], "which sockets are ready").of(Sockets),
    call(Sysno::socket, &[Loop], "programs of the guest's that connect").of(Sockets).only("local streams", LOCAL_STREAM),
    call(Sysno::connect, &[Loop], "the same").of(Sockets),
    call(Sysno::readv, &[Loop], "bytes for the guest").of(Sockets),
    call(Sysno::writev, &[Loop], "bytes of the guest's").of(Sockets),
    call(Sysno::shutdown, &[Loop], "the guest sends no more").of(Sockets),
    call(Sysno::unlinkat, &[Loop], "removes the socket at the end").of(Sockets),
    call(Sysno::unlinkat, &[Loop], "removes what is on record, at the end").of(Temporary),
    call(Sysno::lseek, &[Loop], "looks whether a disk has shrunk").of(Disk).rare("requests that failed"),
    call(Sysno::madvise, &[Loop], "gives the guest's memory back")
        .of(Balloon)
        .only("`MADV_DONTNEED`", &[is(2, libc::MADV_DONTNEED as u64)]),
    call(Sysno::madvise, &[Loop], "the same, of memory that is a file's")
        .of(Balloon)
        .only("`MADV_REMOVE`", &[is(2, libc::MADV_REMOVE as u64)])
        .rare("memory that others can map, or huge pages"),
    call(Sysno::timerfd_settime, &[Loop], "a device waits until its limit allows more").rare("devices with rate limits"),
    call(Sysno::timerfd_create, &[Loop], "the same").rare("limits that are set while the guest runs"),
    call(Sysno::ftruncate, &[Vcpu], "begins the console's log anew").rare("a log that is full"),
    call(Sysno::pread64, &[Loop], "how much memory there is in use").rare("somebody asks for statistics"),
    // Memory.
    call(Sysno::mmap, BOTH, "memory").only("without `PROT_EXEC`", NOT_EXECUTABLE).rare("more than there is from the start"),
    call(Sysno::mprotect, BOTH, "memory").only("without `PROT_EXEC`", NOT_EXECUTABLE).rare("the same"),
    call(Sysno::brk, BOTH, "memory").rare("the same"),
    call(Sysno::mremap, BOTH, "memory").rare("a large piece that grows"),
    call(Sysno::munmap, EVERY, "memory"),
    call(Sysno::madvise, &[Vcpu, Input, Loader], "gives a thread's stack back")
        .only("`MADV_DONTNEED`", &[is(2, libc::MADV_DONTNEED as u64)]),
    // The end.
    call(Sysno::close, EVERY, "closes what was open"),
    call(Sysno::fcntl, EVERY, "builds for debugging look whether what they close is open")
        .only("`F_GETFD`", &[is(1, libc::F_GETFD as u64)]),
    call(Sysno::tgkill, &[Loop], "asks processors to stop, by a signal").only("one signal", &[is(2, LOOK_UP)]),
    call(Sysno::getpid, &[Loop], "the same"),
    call(Sysno::clock_nanosleep, &[Loop], "waits for them"),
    call(Sysno::rt_sigreturn, &[Vcpu], "goes on behind that signal"),
    call(Sysno::rt_sigprocmask, EVERY, "the C library sends that signal, and ends threads"),
    call(Sysno::ioctl, &[Loop], "puts the terminal's settings back").only("`TCSETSW2`", &[is(1, request::TCSETSW2)]),
    call(Sysno::sigaltstack, EVERY, "the runtime ends a thread"),
    call(Sysno::exit, &[Vcpu, Input, Loader], "ends a thread"),
    call(Sysno::exit_group, &[Loop], "ends the process"),
    // What has gone wrong.
    call(Sysno::gettid, EVERY, "a panic's end").rare("a bug of ours"),
    call(Sysno::getpid, &[Vcpu, Input, Loader], "the same").rare("a bug of ours"),
    call(Sysno::tgkill, EVERY, "the same").only("`SIGABRT`", &[is(2, libc::SIGABRT as u64)]).rare("a bug of ours"),
    call(Sysno::rt_sigaction, EVERY, "a crash's end, told by the runtime")
        .only("`SIGSEGV`", &[is(0, libc::SIGSEGV as u64)])
        .rare("a bug of ours"),
    call(Sysno::rt_sigaction, EVERY, "the same")
        .only("`SIGBUS`", &[is(0, libc::SIGBUS as u64)])
        .rare("a bug of ours, or broken memory"),
    call(Sysno::restart_syscall, &[Loop], "goes on waiting after a stop").rare("`SIGSTOP`, or a debugger"),
    call(Sysno::clock_gettime, BOTH, "the time")
        .rare("hosts whose clock only the kernel can read; and somebody asks for statistics"),
];
