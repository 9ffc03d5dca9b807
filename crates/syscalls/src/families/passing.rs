//! What Unix sockets carry beside data: descriptors, credentials, and messages in vectors.

use super::prelude::*;
use super::unix::{STREAM, listening};
use crate::sys::sockets::{item, items, message, pair, unix, words};

tests!("passing":
    vectors_of_messages, many_messages, msghdr_arguments, rights_are_passed, rights_share_the_open_file, rights_arguments,
    rights_that_find_no_room, rights_keep_bounds_of_streams, credentials_are_passed, credentials_can_not_be_forged,
    peer_credentials, sockets_in_flight_are_closed, peer_pidfd,
);

fn vectors_of_messages() {
    let (one, other) = pair(SOCK_DGRAM);
    let list = [piece_of(b"one"), piece_of(b""), piece_of(b"two")];
    gives!(sendmsg(one, &message(&list, &mut []), 0) => 6);
    let (mut first, mut second) = ([0u8; 2], [0u8; 8]);
    let into = [piece(&mut first), piece(&mut second)];
    gives!(recvmsg(other, &mut message(&into, &mut []), 0) => 6);
    eq!((&first, &second[..4]), (b"on", &b"etwo"[..]));
    gives!(sendmsg(one, &message(&[], &mut []), 0) => 0);
    gives!(recvmsg(other, &mut message(&into, &mut []), 0) => 0);
}

fn many_messages() {
    let (one, other) = pair(SOCK_DGRAM);
    let texts = [piece_of(b"a"), piece_of(b"bb"), piece_of(b"ccc")];
    let mut list: [mmsghdr; 3] = zeroed();
    for (entry, text) in list.iter_mut().zip(&texts) {
        entry.msg_hdr = message(std::slice::from_ref(text), &mut []);
    }
    gives!(sendmmsg(one, &mut list, 3, 0) => 3);
    eq!(list.map(|entry| entry.msg_len), [1, 2, 3]);
    let mut buffers = [[0u8; 4]; 4];
    let places = buffers.each_mut().map(|buffer| piece(buffer));
    let mut list: [mmsghdr; 4] = zeroed();
    for (entry, place) in list.iter_mut().zip(&places) {
        entry.msg_hdr = message(std::slice::from_ref(place), &mut []);
    }
    // With MSG_WAITFORONE only the first is waited for.
    gives!(recvmmsg(other, &mut list, 4, MSG_WAITFORONE, 0) => 3);
    eq!([list[0].msg_len, list[1].msg_len, list[2].msg_len], [1, 2, 3]);
    fails!(recvmmsg(other, &mut list, 4, MSG_DONTWAIT, 0) => EAGAIN);
    fails!(recvmmsg(other, &mut list, 1, 0, &timespec { tv_sec: 0, tv_nsec: -1 }) => EINVAL);
    fails!(recvmmsg(-1, &mut list, 1, 0, 0) => EBADF);
    gives!(sendmmsg(one, &mut list, 0, 0) => 0);
    fails!(sendmmsg(one, BAD, 1, 0) => EFAULT);
    fails!(sendmmsg(-1, &mut list, 1, 0) => EBADF);
}

fn msghdr_arguments() {
    let (one, other) = pair(STREAM);
    let list = [piece_of(b"x")];
    let good = message(&list, &mut []);
    fails!(sendmsg(one, BAD, 0) => EFAULT);
    fails!(recvmsg(other, BAD, 0) => EFAULT);
    fails!(sendmsg(-1, &good, 0) => EBADF);
    let mut many = good;
    many.msg_iovlen = 1025;
    fails!(sendmsg(one, &many, 0) => EMSGSIZE);
    let mut bad = good;
    bad.msg_iov = std::ptr::without_provenance_mut(BAD);
    fails!(sendmsg(one, &bad, 0) => EFAULT);
    let mut bad = good;
    (bad.msg_control, bad.msg_controllen) = (std::ptr::without_provenance_mut(BAD), 24);
    fails!(sendmsg(one, &bad, 0) => EFAULT);
    // Control data whose item is longer than all of it.
    let mut control = item(SOL_SOCKET, SCM_RIGHTS, &words(&[0]));
    control[0] = 99;
    fails!(sendmsg(one, &message(&list, &mut control), 0) => EINVAL);
    let mut control = item(SOL_SOCKET, 99, &words(&[0]));
    fails!(sendmsg(one, &message(&list, &mut control), 0) => EINVAL);
    // Of another level it is passed over.
    let mut control = item(9999, 99, &words(&[0]));
    gives!(sendmsg(one, &message(&list, &mut control), 0) => 1);
}

/// Sends descriptors along with one byte.
fn send_rights(socket: usize, fds: &[c_int]) -> Result<usize, Errno> {
    let list = [piece_of(b"x")];
    let mut control = item(SOL_SOCKET, SCM_RIGHTS, &words(fds));
    sys!(sendmsg(socket, &message(&list, &mut control), 0))
}

/// Receives a byte and the descriptors that come along, and the message's flags.
fn receive_rights(socket: usize, room: usize, flags: c_int) -> (Vec<c_int>, c_int) {
    let mut byte = [0u8];
    let list = [piece(&mut byte)];
    let mut control = vec![0u8; room];
    let mut header = message(&list, &mut control);
    gives!(recvmsg(socket, &mut header, flags) => 1);
    let fds = items(&control[..header.msg_controllen]).into_iter().filter(|item| item.1 == SCM_RIGHTS);
    let fds = fds.flat_map(|item| item.2.chunks_exact(4).filter_map(from_bytes).collect::<Vec<c_int>>()).collect();
    (fds, header.msg_flags)
}

fn rights_are_passed() {
    for kind in [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET] {
        let (one, other) = pair(kind);
        let (reader, writer) = pipe();
        eq!(send_rights(one, &[writer as c_int, reader as c_int]), Ok(1));
        works!(close(writer));
        let (fds, flags) = receive_rights(other, 64, 0);
        eq!((fds.len(), flags & MSG_CTRUNC), (2, 0));
        gives!(write(fds[0], b"x", 1) => 1);
        gives!(read(fds[1], &mut [0u8; 8], 8) => 1);
        gives!(fcntl(fds[0], F_GETFD) => 0);
        for fd in [fds[0] as usize, fds[1] as usize, reader, one, other] {
            works!(close(fd));
        }
    }
    let (one, other) = pair(STREAM);
    eq!(send_rights(one, &[one as c_int]), Ok(1));
    let (fds, _) = receive_rights(other, 64, MSG_CMSG_CLOEXEC);
    gives!(fcntl(fds[0], F_GETFD) => FD_CLOEXEC);
    // To another process.
    let (one, other) = pair(STREAM);
    let child = child(|| {
        let (fds, _) = receive_rights(other, 64, 0);
        gives!(write(fds[0], b"from the child", 14) => 14);
    });
    let fd = file(c"file", b"");
    eq!(send_rights(one, &[fd as c_int]), Ok(1));
    join(child);
    eq!(contents("file"), "from the child");
}

fn rights_share_the_open_file() {
    let (one, other) = pair(STREAM);
    let fd = file(c"file", b"0123456789");
    eq!(send_rights(one, &[fd as c_int]), Ok(1));
    let (fds, _) = receive_rights(other, 64, 0);
    gives!(lseek(fds[0], 4, SEEK_SET) => 4);
    gives!(lseek(fd, 0, SEEK_CUR) => 4);
    // Peeking makes copies, each time.
    eq!(send_rights(one, &[fd as c_int]), Ok(1));
    let (first, _) = receive_rights(other, 64, MSG_PEEK);
    let (second, _) = receive_rights(other, 64, 0);
    is!(first != second && first.len() == 1, "two descriptors for one message");
    // A lock of the open file is one.
    gives!(flock(fd, LOCK_EX) => 0);
    gives!(flock(second[0], LOCK_EX | LOCK_NB) => 0);
}

fn rights_arguments() {
    let (one, other) = pair(STREAM);
    eq!(send_rights(one, &[999]), Err(Errno::EBADF));
    eq!(send_rights(one, &[-1]), Err(Errno::EBADF));
    let fd = file(c"file", b"") as c_int;
    eq!(send_rights(one, &[fd; 254]), Err(Errno::EINVAL));
    eq!(send_rights(one, &[fd; 253]), Ok(1));
    let (fds, _) = receive_rights(other, 2000, 0);
    eq!(fds.len(), 253);
    // Without data, a stream carries nothing; a datagram may be empty.
    let mut control = item(SOL_SOCKET, SCM_RIGHTS, &words(&[fd]));
    gives!(sendmsg(one, &message(&[], &mut control), 0) => 0);
    fails!(recvfrom(other, &mut [0u8; 1], 1, MSG_DONTWAIT, 0, 0) => EAGAIN);
    let (one, other) = pair(SOCK_DGRAM);
    gives!(sendmsg(one, &message(&[], &mut control), 0) => 0);
    let mut room = [0u8; 64];
    let mut header = message(&[], &mut room);
    gives!(recvmsg(other, &mut header, 0) => 0);
    eq!(items(&room[..header.msg_controllen]).len(), 1);
}

fn rights_that_find_no_room() {
    let (one, other) = pair(STREAM);
    let fd = file(c"file", b"") as c_int;
    let free = works!(dup(fd));
    works!(close(free));
    eq!(send_rights(one, &[fd, fd, fd]), Ok(1));
    // Room for two: the third is closed, and that is told.
    let (fds, flags) = receive_rights(other, 24, 0);
    eq!((fds.len(), flags & MSG_CTRUNC), (2, MSG_CTRUNC));
    eq!(send_rights(one, &[fd]), Ok(1));
    let (fds, flags) = receive_rights(other, 0, 0);
    eq!((fds.len(), flags & MSG_CTRUNC), (0, MSG_CTRUNC));
    // Who reads without a look at control data loses it.
    eq!(send_rights(one, &[fd]), Ok(1));
    gives!(read(other, &mut [0u8; 8], 8) => 1);
    gives!(dup(fd) => free + 2);
    // Nor may the table be full.
    in_child(|| {
        eq!(send_rights(one, &[fd, fd]), Ok(1));
        let next = works!(dup(fd));
        gives!(setrlimit(RLIMIT_NOFILE, &rlimit { rlim_cur: next as u64 + 2, rlim_max: next as u64 + 2 }) => 0);
        let (fds, flags) = receive_rights(other, 64, 0);
        eq!((fds.len(), flags & MSG_CTRUNC), (1, MSG_CTRUNC));
    });
}

fn rights_keep_bounds_of_streams() {
    let (one, other) = pair(STREAM);
    let fd = file(c"file", b"") as c_int;
    gives!(write(one, b"before", 6) => 6);
    eq!(send_rights(one, &[fd]), Ok(1));
    gives!(write(one, b"after", 5) => 5);
    let mut buffer = [0u8; 32];
    let list = [piece(&mut buffer)];
    let mut control = [0u8; 64];
    // A read doesn't go on past bytes that carry descriptors.
    let mut header = message(&list, &mut control);
    gives!(recvmsg(other, &mut header, 0) => 7);
    eq!(items(&control[..header.msg_controllen]).len(), 1);
    let mut header = message(&list, &mut control);
    gives!(recvmsg(other, &mut header, 0) => 5);
    eq!(header.msg_controllen, 0);
}

fn credentials_are_passed() {
    let (one, other) = pair(STREAM);
    gives!(setsockopt(other, SOL_SOCKET, SO_PASSCRED, &1i32, 4) => 0);
    let receive = || {
        let mut byte = [0u8; 8];
        let list = [piece(&mut byte)];
        let mut control = [0u8; 64];
        let mut header = message(&list, &mut control);
        works!(recvmsg(other, &mut header, 0));
        let found = items(&control[..header.msg_controllen]).into_iter().find(|item| item.1 == SCM_CREDENTIALS);
        found.and_then(|item| from_bytes::<ucred>(&item.2)).map(|cred| (cred.pid, cred.uid, cred.gid))
    };
    let (uid, gid) = (works!(getuid()) as u32, works!(getgid()) as u32);
    // They come without being sent.
    gives!(write(one, b"x", 1) => 1);
    eq!(receive(), Some((process::id(), uid, gid)));
    let child = child(|| {
        works!(write(one, b"x", 1));
    });
    eq!(receive(), Some((child, uid, gid)));
    join(child);
    let own = ucred { pid: process::id(), uid, gid };
    let mut control = item(SOL_SOCKET, SCM_CREDENTIALS, &to_bytes(&own));
    gives!(sendmsg(one, &message(&[piece_of(b"x")], &mut control), 0) => 1);
    eq!(receive(), Some((process::id(), uid, gid)));
    // Data of two senders is not read as one.
    let (one, other) = pair(STREAM);
    gives!(setsockopt(other, SOL_SOCKET, SO_PASSCRED, &1i32, 4) => 0);
    gives!(write(one, b"mine", 4) => 4);
    in_child(|| {
        works!(write(one, b"theirs", 6));
    });
    gives!(read(other, &mut [0u8; 32], 32) => 4);
    gives!(read(other, &mut [0u8; 32], 32) => 6);
}

fn credentials_can_not_be_forged() {
    need_root();
    let (one, _other) = pair(STREAM);
    let send = |pid: c_int, uid: u32, gid: u32| {
        let mut control = item(SOL_SOCKET, SCM_CREDENTIALS, &to_bytes(&ucred { pid, uid, gid }));
        sys!(sendmsg(one, &message(&[piece_of(b"x")], &mut control), 0))
    };
    eq!(send(0x3f_ffff, 0, 0), Err(Errno::ESRCH));
    eq!(send(process::id(), 77, 88), Ok(1));
    in_child(|| {
        gives!(setresgid(1000, 1001, 1002) => 0);
        gives!(setresuid(1000, 1001, 1002) => 0);
        for (uid, gid) in [(1000, 1000), (1001, 1001), (1002, 1002)] {
            eq!(send(process::id(), uid, gid), Ok(1));
        }
        eq!(send(process::id(), 0, 1000), Err(Errno::EPERM));
        eq!(send(process::id(), 1000, 0), Err(Errno::EPERM));
        eq!(send(works!(getppid()) as c_int, 1000, 1000), Err(Errno::EPERM));
    });
}

fn peer_credentials() {
    let server = listening(b"socket", 5);
    let (address, length) = unix(b"socket");
    let step = shared_word();
    let child = child(|| {
        let fd = works!(socket(AF_UNIX, STREAM, 0));
        gives!(connect(fd, &address, length) => 0);
        let (mut cred, mut length): (ucred, u32) = (zeroed(), 12);
        gives!(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &mut cred, &mut length) => 0);
        // Of who called listen.
        eq!(cred.pid, works!(getppid()) as c_int);
        until_is(step, 1);
    });
    let accepted = works!(accept(server, 0, 0));
    let (mut cred, mut length): (ucred, u32) = (zeroed(), 12);
    gives!(getsockopt(accepted, SOL_SOCKET, SO_PEERCRED, &mut cred, &mut length) => 0);
    eq!((cred.pid, cred.uid, cred.gid, length), (child, works!(getuid()) as u32, works!(getgid()) as u32, 12));
    step.store(1, SeqCst);
    join(child);
    let (one, _other) = pair(STREAM);
    gives!(getsockopt(one, SOL_SOCKET, SO_PEERCRED, &mut cred, &mut length) => 0);
    eq!(cred.pid, process::id());
    let lonely = works!(socket(AF_UNIX, STREAM, 0));
    gives!(getsockopt(lonely, SOL_SOCKET, SO_PEERCRED, &mut cred, &mut length) => 0);
    eq!((cred.pid, cred.uid), (0, u32::MAX));
}

fn peer_pidfd() {
    let (one, _other) = pair(STREAM);
    const SO_PEERPIDFD: c_int = 77;
    let (mut fd, mut length) = (-1i32, 4u32);
    if sys!(getsockopt(one, SOL_SOCKET, SO_PEERPIDFD, &mut fd, &mut length)) == Err(Errno::ENOPROTOOPT) {
        skip!("no SO_PEERPIDFD (Linux 6.5)");
    }
    is!(contents(&format!("/proc/self/fdinfo/{fd}")).contains(&format!("Pid:\t{}\n", process::id())), "a pidfd of ours");
    gives!(fcntl(fd, F_GETFD) => FD_CLOEXEC);
}

fn sockets_in_flight_are_closed() {
    let (reader, writer) = pipe();
    let (one, other) = pair(STREAM);
    eq!(send_rights(one, &[writer as c_int]), Ok(1));
    works!(close(writer));
    gives!(fcntl(reader, F_SETFL, O_NONBLOCK) => 0);
    // In flight, it is open.
    fails!(read(reader, &mut [0u8; 1], 1) => EAGAIN);
    works!(close(one));
    works!(close(other));
    until(|| sys!(read(reader, &mut [0u8; 1], 1)) == Ok(0));
}
