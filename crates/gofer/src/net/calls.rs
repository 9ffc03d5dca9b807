//! The system calls of a net process that serves, and the options it sets. Any other call ends it, with a line that says which.

use crate::server::calls::{Call, NOT_EXECUTABLE, STANDARD_ERROR, call};
use insula_seccomp::Sysno;
use insula_spec::seccomp::{Action, Condition, Test};
use insula_sys::seccomp::Instruction;

const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
const SOL_SOCKET: u32 = 1;
const IP: u32 = 0;
const TCP: u32 = 6;
const UDP: u32 = 17;
const IPV6: u32 = 41;

const fn family(family: u64) -> Condition {
    Condition { argument: 0, test: Test::Eq, value: family }
}

/// Options that act on the socket alone, by level and name, as `asm-generic/socket.h`, `linux/tcp.h`, `linux/udp.h`, `linux/in.h` and
/// `linux/in6.h` number them. None of them takes a pointer, a descriptor or a program.
#[rustfmt::skip]
pub const OPTIONS: &[(u32, u32)] = &[
    // REUSEADDR, TYPE, ERROR, DONTROUTE, BROADCAST, SNDBUF, RCVBUF, KEEPALIVE, OOBINLINE, NO_CHECK, PRIORITY, LINGER, REUSEPORT, RCVLOWAT
    (SOL_SOCKET, 2), (SOL_SOCKET, 3), (SOL_SOCKET, 4), (SOL_SOCKET, 5), (SOL_SOCKET, 6), (SOL_SOCKET, 7), (SOL_SOCKET, 8), (SOL_SOCKET, 9),
    (SOL_SOCKET, 10), (SOL_SOCKET, 11), (SOL_SOCKET, 12), (SOL_SOCKET, 13), (SOL_SOCKET, 15), (SOL_SOCKET, 18),
    // BINDTODEVICE, TIMESTAMP, TIMESTAMPNS, TIMESTAMPING, RXQ_OVFL, TXTIME, and the three of time stamps with 64 bits
    (SOL_SOCKET, 25), (SOL_SOCKET, 29), (SOL_SOCKET, 35), (SOL_SOCKET, 37), (SOL_SOCKET, 40), (SOL_SOCKET, 61), (SOL_SOCKET, 63), (SOL_SOCKET, 64),
    (SOL_SOCKET, 65),
    // MAX_PACING_RATE, INCOMING_CPU, BUF_LOCK
    (SOL_SOCKET, 47), (SOL_SOCKET, 49), (SOL_SOCKET, 72),
    // NODELAY, MAXSEG, CORK, KEEPIDLE, KEEPINTVL, KEEPCNT, SYNCNT, LINGER2, DEFER_ACCEPT, WINDOW_CLAMP, INFO, QUICKACK, CONGESTION
    (TCP, 1), (TCP, 2), (TCP, 3), (TCP, 4), (TCP, 5), (TCP, 6), (TCP, 7), (TCP, 8), (TCP, 9), (TCP, 10), (TCP, 11), (TCP, 12), (TCP, 13),
    // THIN_LINEAR_TIMEOUTS, THIN_DUPACK, USER_TIMEOUT, FASTOPEN, TIMESTAMP, NOTSENT_LOWAT, FASTOPEN_CONNECT, INQ
    (TCP, 16), (TCP, 17), (TCP, 18), (TCP, 23), (TCP, 24), (TCP, 25), (TCP, 30), (TCP, 36),
    // CORK, SEGMENT, GRO
    (UDP, 1), (UDP, 103), (UDP, 104),
    // TOS, TTL, PKTINFO, MTU_DISCOVER, RECVERR, RECVTTL, RECVTOS, MTU, FREEBIND, RECVORIGDSTADDR, MINTTL, BIND_ADDRESS_NO_PORT, RECVFRAGSIZE
    (IP, 1), (IP, 2), (IP, 8), (IP, 10), (IP, 11), (IP, 12), (IP, 13), (IP, 14), (IP, 15), (IP, 20), (IP, 21), (IP, 24), (IP, 25),
    // MULTICAST_IF, _TTL, _LOOP, ADD_ and DROP_MEMBERSHIP, the four of sources, MULTICAST_ALL, LOCAL_PORT_RANGE
    (IP, 32), (IP, 33), (IP, 34), (IP, 35), (IP, 36), (IP, 37), (IP, 38), (IP, 39), (IP, 40), (IP, 49), (IP, 51),
    // UNICAST_HOPS, MULTICAST_IF, _HOPS, _LOOP, ADD_ and DROP_MEMBERSHIP, MTU_DISCOVER, MTU, RECVERR, V6ONLY, MULTICAST_ALL
    (IPV6, 16), (IPV6, 17), (IPV6, 18), (IPV6, 19), (IPV6, 20), (IPV6, 21), (IPV6, 23), (IPV6, 24), (IPV6, 25), (IPV6, 26), (IPV6, 29),
    // RECVPKTINFO, RECVHOPLIMIT, DONTFRAG, RECVTCLASS, TCLASS, AUTOFLOWLABEL, ADDR_PREFERENCES, ORIGDSTADDR, FREEBIND
    (IPV6, 49), (IPV6, 51), (IPV6, 62), (IPV6, 66), (IPV6, 67), (IPV6, 70), (IPV6, 72), (IPV6, 74), (IPV6, 78),
];

/// `SO_DOMAIN`: of which family a socket is that came along.
const DOMAIN: (u32, u32) = (SOL_SOCKET, 39);

/// What is allowed.
pub const CALLS: &[Call] = &[
    call(Sysno::recvmsg, "requests, and the sockets they are about"),
    call(Sysno::sendmsg, "answers, and new sockets"),
    call(Sysno::socket, "sockets of IPv4").only(&[family(AF_INET)]),
    call(Sysno::socket, "sockets of IPv6").only(&[family(AF_INET6)]),
    call(Sysno::bind, "names"),
    call(Sysno::connect, "peers"),
    call(Sysno::listen, "connections that come in"),
    call(Sysno::shutdown, "ends of connections"),
    call(Sysno::getsockname, "names"),
    call(Sysno::getpeername, "names of peers"),
    call(Sysno::setsockopt, "options, of those listed"),
    call(Sysno::getsockopt, "options, of those listed; of which family a socket is"),
    call(Sysno::close, "sockets that were handed out"),
    call(Sysno::exit_group, "the end, when nobody asks any more"),
    call(Sysno::futex, "the end of threads").rare("they end together"),
    call(Sysno::mmap, "memory").only(NOT_EXECUTABLE).rare("nothing grows"),
    call(Sysno::munmap, "memory").rare("nothing grows"),
    call(Sysno::fcntl, "whether what is closed is open").only(crate::server::calls::IS_OPEN).rare("Rust asks in debug builds"),
    call(Sysno::write, "what has gone wrong").only(STANDARD_ERROR).rare("nothing has"),
    call(Sysno::restart_syscall, "goes on after a stop").rare("nobody stops it"),
    call(Sysno::rt_sigreturn, "goes on after a signal").rare("nobody sends one"),
];

/// The filter.
pub(super) fn filter() -> Result<Vec<Instruction>, insula_seccomp::Error> {
    let option = |(level, name): (u32, u32)| {
        let equal = |argument, value: u32| Condition { argument, test: Test::Eq, value: value.into() };
        [equal(1, level), equal(2, name)]
    };
    let options: Vec<_> = OPTIONS.iter().copied().map(option).collect();
    let domain = option(DOMAIN);
    let is_option = |call: Sysno| matches!(call, Sysno::setsockopt | Sysno::getsockopt);
    let others = CALLS.iter().filter(|call| !is_option(call.call)).map(|call| (call.call, call.conditions));
    let options = options.iter().flat_map(|which| [(Sysno::setsockopt, &which[..]), (Sysno::getsockopt, &which[..])]);
    let all: Vec<_> = others.chain(options).chain([(Sysno::getsockopt, &domain[..])]).collect();
    insula_seccomp::allow_only(all, Action::Trap)
}
