//! The net process, as a sentry and whoever has taken a sentry over meet it.

use insula_gofer::Errno;
use insula_gofer::net::{Kind, Net};
use insula_sys::process::{self, Child};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};

const SOL_SOCKET: u32 = 1;
const SO_REUSEADDR: u32 = 2;
const SO_ERROR: u32 = 4;
const SO_ATTACH_FILTER: u32 = 26;

fn start() -> (Net, Child) {
    let (starting, net) = insula_gofer::net::spawn(false).unwrap();
    (net, starting.ready().unwrap())
}

fn local() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub(crate) fn sockets_are_made_named_and_connected() {
    let (net, _child) = start();
    for (v6, at) in [(false, "127.0.0.1:0"), (true, "[::ffff:127.0.0.1]:0")] {
        let listener = net.open(v6, Kind::Stream).unwrap();
        net.set_option(&listener, SOL_SOCKET, SO_REUSEADDR, &1i32.to_ne_bytes()).unwrap();
        assert_ne!(net.option(&listener, SOL_SOCKET, SO_REUSEADDR, 4).unwrap(), [0; 4]);
        net.bind(&listener, at.parse().unwrap()).unwrap();
        net.listen(&listener, 5).unwrap();
        let name = net.name(&listener).unwrap();
        let client = net.open(v6, Kind::Stream).unwrap();
        assert_eq!(net.peer_name(&client).unwrap_err(), Errno::NOTCONN);
        match net.connect(&client, Some(name)) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => panic!("{error}"),
        }
        let peer = rustix::net::accept(&listener).unwrap();
        assert_eq!(net.option(&client, SOL_SOCKET, SO_ERROR, 4).unwrap(), [0; 4]);
        assert_eq!(net.peer_name(&client).unwrap(), name);
        assert_eq!(net.peer_name(&peer).unwrap(), net.name(&client).unwrap());
        rustix::net::send(&client, b"hello", SendFlags::empty()).unwrap();
        net.shutdown(&client, false, true).unwrap();
        let mut bytes = [0; 16];
        assert_eq!(rustix::net::recv(&peer, &mut bytes, RecvFlags::empty()).unwrap().1, 5);
        assert_eq!(rustix::net::recv(&peer, &mut bytes, RecvFlags::empty()).unwrap().1, 0);
    }
}

pub(crate) fn a_socket_is_gone_when_it_is_closed() {
    let (net, _child) = start();
    let listener = net.open(false, Kind::Stream).unwrap();
    net.bind(&listener, local()).unwrap();
    net.listen(&listener, 5).unwrap();
    let name = net.name(&listener).unwrap();
    drop(listener);
    TcpListener::bind(name).unwrap();
}

pub(crate) fn only_listed_options_are_set() {
    let (net, _child) = start();
    let socket = net.open(false, Kind::Datagram).unwrap();
    assert_eq!(net.set_option(&socket, SOL_SOCKET, SO_ATTACH_FILTER, &[0; 16]).unwrap_err(), Errno::NOPROTOOPT);
    for level in 0..300 {
        for name in 0..300 {
            let listed = insula_gofer::net::OPTIONS.contains(&(level, name));
            let answer = net.option(&socket, level, name, 4);
            assert!(listed || answer == Err(Errno::NOPROTOOPT), "{level} {name}: {answer:?}");
        }
    }
    assert!(!net.is_lost());
}

pub(crate) fn what_is_no_socket_of_the_network_is_refused() {
    let (net, _child) = start();
    let (one, _other) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::empty(),
        None,
    )
    .unwrap();
    assert_eq!(net.bind(&one, local()).unwrap_err(), Errno::AFNOSUPPORT);
    let file = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(net.connect(&file, Some(local())).unwrap_err(), Errno::NOTSOCK);
    assert!(!net.is_lost());
}

fn say(socket: &OwnedFd, bytes: &[u8], along: Option<BorrowedFd<'_>>) -> u16 {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let along: Vec<_> = along.into_iter().collect();
    if !along.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&along));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).unwrap();
    let mut answer = [0; 4096];
    let (length, _) = rustix::net::recv(socket, &mut answer, RecvFlags::empty()).unwrap();
    assert!(length >= 2, "it has ended");
    u16::from_le_bytes([answer[0], answer[1]])
}

pub(crate) fn bytes_that_are_no_request_do_no_harm() {
    let (net, child) = start();
    let socket = net.open(false, Kind::Stream).unwrap();
    let lines = net.into_sockets();
    let proto = Errno::PROTO.raw_os_error() as u16;
    for bytes in [&b"\xff"[..], b"\0", b"\0\x02\0", b"\x01", b"\x07\x01\0\0\0\x02\0\0\0\xff\xff\xff\xff"] {
        assert_eq!(say(&lines[0], bytes, Some(socket.as_fd())), proto, "{bytes:?}");
    }
    // Without a socket there is nothing to do something with.
    assert_eq!(say(&lines[0], &[5], None), Errno::BADF.raw_os_error() as u16);
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..20_000 {
        let mut bytes: Vec<u8> = (0..random.usize(1..40)).map(|_| random.u8(..)).collect();
        bytes[0] %= 9;
        // Where to connect is not for chance to say.
        if bytes[0] == 2 {
            bytes.truncate(2);
        }
        say(&lines[0], &bytes, random.bool().then(|| socket.as_fd()));
    }
    assert!(process::state(child.pid).is_some_and(|state| state != 'Z'));
}

pub(crate) fn it_has_given_all_but_the_network_up() {
    let (_net, child) = start();
    let proc = format!("/proc/{}", child.pid.as_raw_pid());
    let status = std::fs::read_to_string(format!("{proc}/status")).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default();
    assert_eq!((field("CapEff:"), field("CapBnd:"), field("NoNewPrivs:")), ("0000000000000000", "0000000000000000", "1"));
    assert_eq!(field("Seccomp:"), "2");
    let space = |of: &str, kind: &str| std::fs::read_link(format!("/proc/{of}/ns/{kind}")).unwrap();
    let pid = child.pid.as_raw_pid().to_string();
    assert_eq!(space(&pid, "net"), space("self", "net"));
    for kind in ["mnt", "ipc", "uts"] {
        assert_ne!(space(&pid, kind), space("self", kind), "{kind}");
    }
    assert_eq!(std::fs::read_dir(format!("{proc}/root/")).unwrap().count(), 0);
}

pub(crate) fn it_ends_with_its_client() {
    let (net, child) = start();
    drop(net);
    assert_eq!(process::reap(&child.pidfd).unwrap(), process::Ended::Exited(0));
}
