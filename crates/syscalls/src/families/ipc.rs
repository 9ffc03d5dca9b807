//! System V shared memory, semaphores and message queues, and POSIX message queues.

use super::prelude::*;

tests!("ipc":
    shm_is_shared, shm_keys, shm_arguments, shm_attaches, shm_removal, shm_of_fork_and_exit, sem_operations, sem_waits,
    sem_arrays_are_atomic, sem_undo, sem_arguments, sem_removal_wakes, msg_by_type, msg_arguments, msg_waits, msg_sizes,
    msg_removal_wakes, permissions, mq_by_priority, mq_arguments, mq_full_and_empty, mq_notifies, mq_waits,
);

/// Skips the test if the kernel has no System V IPC. Objects outlive processes: where we may have a namespace of our own for
/// them, what a failed test leaves goes with it.
fn need_sysv() {
    let _ = sys!(unshare(CLONE_NEWIPC));
    if sys!(shmget(0x7fff_fff0, 0, 0)) == Err(Errno::ENOSYS) {
        skip!("no System V IPC (CONFIG_SYSVIPC)");
    }
}

fn segment(size: usize) -> usize {
    need_sysv();
    works!(shmget(IPC_PRIVATE, size, IPC_CREAT | 0o600))
}

fn shm_is_shared() {
    let id = segment(100);
    let one = works!(shmat(id, 0, 0));
    let two = works!(shmat(id, 0, SHM_RDONLY));
    eq!((one % PAGE, peek(one)), (0, 0));
    put(one, b"shared");
    eq!(bytes_at(two, 6), b"shared");
    eq!(write_at(two, 1).map_err(|fault| fault.signal), Err(SIGSEGV));
    // Whole pages, whatever was asked for.
    poke(one + PAGE - 1, 1);
    in_child(|| {
        poke(one, b'S');
        let again = works!(shmat(id, 0, 0));
        poke(again + 1, b'H');
    });
    eq!(bytes_at(two, 6), b"SHared");
    gives!(shmdt(two) => 0);
    is!(read_at(two).is_err(), "it to be gone");
    gives!(shmctl(id, IPC_RMID, 0) => 0);
}

fn shm_keys() {
    need_sysv();
    // A key of our own, if the namespace isn't: two runs at once have different numbers.
    let key = 0x1a50_0000 | process::id();
    fails!(shmget(key, 100, 0) => ENOENT);
    let id = works!(shmget(key, 100, IPC_CREAT | IPC_EXCL | 0o600));
    fails!(shmget(key, 100, IPC_CREAT | IPC_EXCL | 0o600) => EEXIST);
    gives!(shmget(key, 100, IPC_CREAT | 0o600) => id);
    gives!(shmget(key, 0, 0) => id);
    fails!(shmget(key, 101, 0) => EINVAL);
    gives!(shmctl(id, IPC_RMID, 0) => 0);
    fails!(shmget(key, 100, 0) => ENOENT);
}

fn shm_arguments() {
    need_sysv();
    fails!(shmget(IPC_PRIVATE, 0, 0o600) => EINVAL);
    let id = segment(PAGE);
    fails!(shmat(-1, 0, 0) => EINVAL);
    fails!(shmat(id, 1, 0) => EINVAL);
    let map = pages(2);
    fails!(shmat(id, map, 0) => EINVAL);
    gives!(shmat(id, map, 0o40000 /* SHM_REMAP */) => map);
    fails!(shmdt(map + PAGE) => EINVAL);
    fails!(shmdt(BAD) => EINVAL);
    gives!(shmdt(map) => 0);
    let place = pages(3);
    gives!(munmap(place, 3 * PAGE) => 0);
    gives!(shmat(id, place + 5, SHM_RND) => place);
    fails!(shmctl(id, 99, 0) => EINVAL);
    fails!(shmctl(-1, IPC_STAT, &mut zeroed::<shmid_ds>()) => EINVAL);
    fails!(shmctl(id, IPC_STAT, BAD) => EFAULT);
    gives!(shmctl(id, IPC_RMID, 0) => 0);
}

fn stat_of(id: usize) -> shmid_ds {
    let mut state: shmid_ds = zeroed();
    gives!(shmctl(id, IPC_STAT, &mut state) => 0);
    state
}

fn shm_attaches() {
    let id = segment(100);
    let state = stat_of(id);
    eq!(
        (state.shm_nattch, state.shm_segsz, state.shm_cpid, u32::from(state.shm_perm.mode) & 0o777),
        (0, 100, process::id(), 0o600)
    );
    let map = works!(shmat(id, 0, 0));
    let state = stat_of(id);
    eq!((state.shm_nattch, state.shm_lpid), (1, process::id()));
    gives!(shmdt(map) => 0);
    eq!(stat_of(id).shm_nattch, 0);
    let mut changed = stat_of(id);
    changed.shm_perm.mode = 0o644;
    gives!(shmctl(id, IPC_SET, &changed) => 0);
    eq!(u32::from(stat_of(id).shm_perm.mode) & 0o777, 0o644);
    gives!(shmctl(id, IPC_RMID, 0) => 0);
}

fn shm_removal() {
    let id = segment(100);
    let map = works!(shmat(id, 0, 0));
    gives!(shmctl(id, IPC_RMID, 0) => 0);
    // As long as it is attached it lives, and on Linux may even be attached again.
    poke(map, 7);
    const SHM_DEST: u32 = 0o1000;
    eq!(u32::from(stat_of(id).shm_perm.mode) & SHM_DEST, SHM_DEST);
    let again = works!(shmat(id, 0, 0));
    eq!(peek(again), 7);
    gives!(shmdt(map) => 0);
    gives!(shmdt(again) => 0);
    fails!(shmat(id, 0, 0) => EINVAL);
}

fn shm_of_fork_and_exit() {
    let id = segment(100);
    let _map = works!(shmat(id, 0, 0));
    let step = shared_word();
    let child = child(|| {
        step.store(1, SeqCst);
        until_is(step, 2);
    });
    until_is(step, 1);
    eq!(stat_of(id).shm_nattch, 2);
    step.store(2, SeqCst);
    join(child);
    eq!(stat_of(id).shm_nattch, 1);
    gives!(shmctl(id, IPC_RMID, 0) => 0);
}

fn semaphores(count: i32) -> usize {
    need_sysv();
    works!(semget(IPC_PRIVATE, count, IPC_CREAT | 0o600))
}

fn op(number: u16, change: i16, flags: c_int) -> sembuf {
    sembuf { sem_num: number, sem_op: change, sem_flg: flags as i16 }
}

fn sem_operations() {
    let id = semaphores(3);
    gives!(semctl(id, 0, GETVAL) => 0);
    gives!(semctl(id, 1, SETVAL, 5) => 0);
    gives!(semctl(id, 1, GETVAL) => 5);
    gives!(semop(id, &[op(1, -2, 0)], 1) => 0);
    gives!(semctl(id, 1, GETVAL) => 3);
    gives!(semctl(id, 1, GETPID) => process::id());
    fails!(semop(id, &[op(1, -4, IPC_NOWAIT)], 1) => EAGAIN);
    fails!(semop(id, &[op(1, 0, IPC_NOWAIT)], 1) => EAGAIN);
    gives!(semop(id, &[op(0, 0, IPC_NOWAIT)], 1) => 0);
    gives!(semctl(id, 0, SETALL, &[7u16, 8, 9]) => 0);
    let mut all = [0u16; 3];
    gives!(semctl(id, 0, GETALL, &mut all) => 0);
    eq!(all, [7, 8, 9]);
    let mut state: semid_ds = zeroed();
    gives!(semctl(id, 0, IPC_STAT, &mut state) => 0);
    eq!(state.sem_nsems, 3);
    gives!(semctl(id, 0, IPC_RMID) => 0);
}

fn sem_waits() {
    let id = semaphores(2);
    let child = child(|| {
        gives!(semop(id, &[op(0, -2, 0)], 1) => 0);
        gives!(semop(id, &[op(1, 1, 0)], 1) => 0);
    });
    until(|| sys!(semctl(id, 0, GETNCNT)) == Ok(1));
    gives!(semop(id, &[op(0, 1, 0)], 1) => 0);
    gives!(semctl(id, 0, GETNCNT) => 1);
    gives!(semop(id, &[op(0, 1, 0)], 1) => 0);
    gives!(semop(id, &[op(1, -1, 0)], 1) => 0);
    join(child);
    gives!(semctl(id, 0, GETVAL) => 0);
    gives!(semctl(id, 0, GETZCNT) => 0);
    fails!(semtimedop(id, &[op(0, -1, 0)], 1, &timespec { tv_sec: 0, tv_nsec: 1_000_000 }) => EAGAIN);
    signal::tick(true);
    fails!(semop(id, &[op(0, -1, 0)], 1) => EINTR);
    gives!(semctl(id, 0, IPC_RMID) => 0);
}

fn sem_arrays_are_atomic() {
    let id = semaphores(2);
    gives!(semctl(id, 0, SETVAL, 5) => 0);
    // All or none.
    fails!(semop(id, &[op(0, -1, 0), op(1, -1, IPC_NOWAIT)], 2) => EAGAIN);
    gives!(semctl(id, 0, GETVAL) => 5);
    gives!(semop(id, &[op(0, -1, 0), op(1, 1, 0), op(1, -1, 0)], 3) => 0);
    gives!(semctl(id, 0, GETVAL) => 4);
    gives!(semctl(id, 0, IPC_RMID) => 0);
}

fn sem_undo() {
    let id = semaphores(1);
    gives!(semctl(id, 0, SETVAL, 5) => 0);
    in_child(|| {
        gives!(semop(id, &[op(0, -3, SEM_UNDO)], 1) => 0);
        gives!(semop(id, &[op(0, 1, 0)], 1) => 0);
        gives!(semctl(id, 0, GETVAL) => 3);
    });
    gives!(semctl(id, 0, GETVAL) => 6);
    gives!(semctl(id, 0, IPC_RMID) => 0);
}

fn sem_arguments() {
    let id = semaphores(2);
    fails!(semget(IPC_PRIVATE, 0, 0o600) => EINVAL);
    fails!(semget(IPC_PRIVATE, -1, 0o600) => EINVAL);
    fails!(semop(id, &[op(2, 1, 0)], 1) => EFBIG);
    fails!(semop(id, BAD, 1) => EFAULT);
    fails!(semop(id, BAD, 0) => EINVAL);
    fails!(semop(id, &[op(0, 1, 0)], 100_000) => E2BIG);
    fails!(semop(-1, &[op(0, 1, 0)], 1) => EINVAL);
    fails!(semop(id, &[op(0, 32767, 0), op(0, 1, 0)], 2) => ERANGE);
    fails!(semctl(id, 5, GETVAL) => EINVAL);
    fails!(semctl(id, 0, SETVAL, -1) => ERANGE);
    fails!(semctl(id, 0, SETVAL, 40_000) => ERANGE);
    fails!(semctl(id, 0, 99) => EINVAL);
    fails!(semctl(id, 0, GETALL, BAD) => EFAULT);
    fails!(semtimedop(id, &[op(0, -1, 0)], 1, BAD) => EFAULT);
    gives!(semctl(id, 0, IPC_RMID) => 0);
    fails!(semctl(id, 0, GETVAL) => EINVAL);
}

fn sem_removal_wakes() {
    let id = semaphores(1);
    let child = child(|| {
        fails!(semop(id, &[op(0, -1, 0)], 1) => EIDRM);
    });
    until(|| sys!(semctl(id, 0, GETNCNT)) == Ok(1));
    gives!(semctl(id, 0, IPC_RMID) => 0);
    join(child);
}

fn queue() -> usize {
    need_sysv();
    works!(msgget(IPC_PRIVATE, IPC_CREAT | 0o600))
}

/// A message: its type, then its text.
fn letter(kind: i64, text: &[u8]) -> [u8; 24] {
    let mut bytes = [0u8; 24];
    bytes[..8].copy_from_slice(&kind.to_ne_bytes());
    bytes[8..8 + text.len()].copy_from_slice(text);
    bytes
}

/// The type of the next message of a kind, and the first byte of its text.
fn take(id: usize, kind: i64, flags: c_int) -> Result<(i64, u8), Errno> {
    let mut bytes = [0u8; 24];
    sys!(msgrcv(id, &mut bytes, 16, kind, flags))?;
    Ok((from_bytes(&bytes).unwrap_or(0), bytes[8]))
}

fn msg_by_type() {
    let id = queue();
    for (kind, text) in [(3, b"c"), (1, b"a"), (2, b"b"), (1, b"d")] {
        gives!(msgsnd(id, &letter(kind, text), 1, 0) => 0);
    }
    // A positive type: the first of it. Negative: the lowest up to it. 0: the first.
    eq!(take(id, 2, 0), Ok((2, b'b')));
    eq!(take(id, -3, 0), Ok((1, b'a')));
    eq!(take(id, 1, MSG_EXCEPT), Ok((3, b'c')));
    eq!(take(id, 0, 0), Ok((1, b'd')));
    eq!(take(id, 0, IPC_NOWAIT), Err(Errno::ENOMSG));
    // Copied by number, without being taken.
    gives!(msgsnd(id, &letter(5, b"e"), 1, 0) => 0);
    match take(id, 0, IPC_NOWAIT | 0o40000 /* MSG_COPY */) {
        Err(Errno::ENOSYS) => {}
        copied => eq!(copied, Ok((5, b'e'))),
    }
    eq!(take(id, 0, 0), Ok((5, b'e')));
    gives!(msgctl(id, IPC_RMID, 0) => 0);
}

fn msg_arguments() {
    let id = queue();
    let text = letter(1, b"text");
    fails!(msgsnd(id, &letter(0, b""), 1, 0) => EINVAL);
    fails!(msgsnd(id, &letter(-1, b""), 1, 0) => EINVAL);
    fails!(msgsnd(id, &text, -1, 0) => EINVAL);
    fails!(msgsnd(id, &text, 1 << 30, 0) => EINVAL);
    fails!(msgsnd(id, BAD, 1, 0) => EFAULT);
    fails!(msgsnd(-1, &text, 1, 0) => EINVAL);
    fails!(msgrcv(id, BAD, -1, 0, 0) => EINVAL);
    fails!(msgrcv(-1, BAD, 1, 0, 0) => EINVAL);
    fails!(msgctl(id, 99, 0) => EINVAL);
    fails!(msgctl(id, IPC_STAT, BAD) => EFAULT);
    let key = 0x1a51_0000 | process::id();
    fails!(msgget(key, 0) => ENOENT);
    let named = works!(msgget(key, IPC_CREAT | IPC_EXCL | 0o600));
    fails!(msgget(key, IPC_CREAT | IPC_EXCL | 0o600) => EEXIST);
    gives!(msgget(key, 0) => named);
    gives!(msgctl(named, IPC_RMID, 0) => 0);
    gives!(msgctl(id, IPC_RMID, 0) => 0);
    fails!(msgsnd(id, &text, 1, 0) => EINVAL);
}

fn msg_waits() {
    let id = queue();
    let child = child(|| eq!(take(id, 4, 0), Ok((4, b'x'))));
    until_asleep(child);
    gives!(msgsnd(id, &letter(3, b"y"), 1, 0) => 0);
    gives!(msgsnd(id, &letter(4, b"x"), 1, 0) => 0);
    join(child);
    eq!(take(id, 0, 0), Ok((3, b'y')));
    signal::tick(true);
    eq!(take(id, 0, 0), Err(Errno::EINTR));
    gives!(msgctl(id, IPC_RMID, 0) => 0);
}

fn msg_sizes() {
    let id = queue();
    gives!(msgsnd(id, &letter(1, b"0123456789"), 10, 0) => 0);
    let mut bytes = [0u8; 24];
    fails!(msgrcv(id, &mut bytes, 4, 0, 0) => E2BIG);
    gives!(msgrcv(id, &mut bytes, 4, 0, MSG_NOERROR) => 4);
    eq!(&bytes[8..13], b"0123\0");
    let mut state: msqid_ds = zeroed();
    gives!(msgctl(id, IPC_STAT, &mut state) => 0);
    eq!((state.msg_qnum, state.msg_lspid, state.msg_lrpid), (0, process::id(), process::id()));
    // A queue of few bytes fills.
    state.msg_qbytes = 20;
    gives!(msgctl(id, IPC_SET, &state) => 0);
    gives!(msgsnd(id, &letter(1, b"0123456789"), 16, IPC_NOWAIT) => 0);
    fails!(msgsnd(id, &letter(1, b"0123456789"), 16, IPC_NOWAIT) => EAGAIN);
    gives!(msgsnd(id, &letter(1, b""), 0, IPC_NOWAIT) => 0);
    gives!(msgctl(id, IPC_RMID, 0) => 0);
}

fn msg_removal_wakes() {
    let id = queue();
    let child = child(|| eq!(take(id, 0, 0), Err(Errno::EIDRM)));
    until_asleep(child);
    gives!(msgctl(id, IPC_RMID, 0) => 0);
    join(child);
}

fn permissions() {
    need_root();
    need_sysv();
    let shm = works!(shmget(IPC_PRIVATE, 100, IPC_CREAT | 0o600));
    let sem = works!(semget(IPC_PRIVATE, 1, IPC_CREAT | 0o600));
    let msg = works!(msgget(IPC_PRIVATE, IPC_CREAT | 0o600));
    in_child(|| {
        gives!(setresgid(1000, 1000, 1000) => 0);
        gives!(setresuid(1000, 1000, 1000) => 0);
        fails!(shmat(shm, 0, 0) => EACCES);
        fails!(shmctl(shm, IPC_RMID, 0) => EPERM);
        fails!(shmctl(shm, IPC_STAT, &mut zeroed::<shmid_ds>()) => EACCES);
        fails!(semop(sem, &[op(0, 1, 0)], 1) => EACCES);
        fails!(semctl(sem, 0, IPC_RMID) => EPERM);
        fails!(msgsnd(msg, &letter(1, b"x"), 1, 0) => EACCES);
        eq!(take(msg, 0, 0), Err(Errno::EACCES));
        fails!(msgctl(msg, IPC_RMID, 0) => EPERM);
    });
    gives!(shmctl(shm, IPC_RMID, 0) => 0);
    gives!(semctl(sem, 0, IPC_RMID) => 0);
    gives!(msgctl(msg, IPC_RMID, 0) => 0);
}

/// A POSIX queue of a name of our own, which is gone again at once.
fn posix_queue(messages: i64, flags: c_int) -> usize {
    let name = std::ffi::CString::new(format!("insula-{}", process::id())).unwrap_or_default();
    let attributes = [0i64, messages, 16, 0, 0, 0, 0, 0];
    match sys!(mq_open(&*name, O_RDWR | O_CREAT | O_EXCL | flags, 0o600, &attributes)) {
        Err(Errno::ENOSYS) => skip!("no POSIX message queues (CONFIG_POSIX_MQUEUE)"),
        other => {
            let fd = crate::check::must_work("mq_open", other);
            gives!(mq_unlink(&*name) => 0);
            fd
        }
    }
}

fn mq_by_priority() {
    let fd = posix_queue(4, 0);
    for (text, priority) in [(b"low", 1), (b"top", 9), (b"mid", 5), (b"tip", 9)] {
        gives!(mq_timedsend(fd, text, 3, priority, 0) => 0);
    }
    let (mut text, mut priority) = ([0u8; 16], 0u32);
    for (want, of) in [(b"top", 9), (b"tip", 9), (b"mid", 5), (b"low", 1)] {
        gives!(mq_timedreceive(fd, &mut text, 16, &mut priority, 0) => 3);
        eq!((&text[..3], priority), (&want[..], of));
    }
}

fn mq_arguments() {
    let fd = posix_queue(2, 0);
    let mut now = [0i64; 8];
    gives!(mq_getsetattr(fd, 0, &mut now) => 0);
    eq!(now[..4], [0, 2, 16, 0]);
    gives!(mq_getsetattr(fd, &[i64::from(O_NONBLOCK), 9, 9, 9, 0, 0, 0, 0], &mut now) => 0);
    gives!(mq_getsetattr(fd, 0, &mut now) => 0);
    // Only the flag can be changed.
    eq!(now[..3], [i64::from(O_NONBLOCK), 2, 16]);
    let mut text = [0u8; 16];
    fails!(mq_timedsend(fd, &[0u8; 17], 17, 0, 0) => EMSGSIZE);
    fails!(mq_timedsend(fd, b"x", 1, 32768, 0) => EINVAL);
    fails!(mq_timedsend(fd, BAD, 1, 0, 0) => EFAULT);
    fails!(mq_timedreceive(fd, &mut text, 15, 0, 0) => EMSGSIZE);
    fails!(mq_timedsend(-1, b"x", 1, 0, 0) => EBADF);
    fails!(mq_timedsend(file(c"file", b""), b"x", 1, 0, 0) => EBADF);
    fails!(mq_open(c"insula-missing", O_RDWR) => ENOENT);
    fails!(mq_open(c"a/b", O_RDWR | O_CREAT, 0o600, 0) => EACCES);
    fails!(mq_open(c"", O_RDWR | O_CREAT, 0o600, 0) => ENOENT);
    fails!(mq_open(c"x", O_RDWR | O_CREAT, 0o600, &[0i64, -1, 16, 0, 0, 0, 0, 0]) => EINVAL);
    fails!(mq_unlink(c"insula-missing") => ENOENT);
}

fn mq_full_and_empty() {
    let fd = posix_queue(1, O_NONBLOCK);
    let mut text = [0u8; 16];
    fails!(mq_timedreceive(fd, &mut text, 16, 0, 0) => EAGAIN);
    gives!(mq_timedsend(fd, b"x", 1, 0, 0) => 0);
    fails!(mq_timedsend(fd, b"y", 1, 0, 0) => EAGAIN);
    let mut list = [pollfd { fd: fd as c_int, events: POLLIN | POLLOUT, revents: 0 }];
    gives!(poll(&mut list, 1, 0) => 1);
    eq!(list[0].revents, POLLIN);
    gives!(mq_getsetattr(fd, &[0i64; 8], 0) => 0);
    fails!(mq_timedsend(fd, b"y", 1, 0, &timespec { tv_sec: 1, tv_nsec: 0 }) => ETIMEDOUT);
    fails!(mq_timedsend(fd, b"y", 1, 0, &timespec { tv_sec: 1, tv_nsec: -1 }) => EINVAL);
    gives!(mq_timedreceive(fd, &mut text, 16, 0, 0) => 1);
    fails!(mq_timedreceive(fd, &mut text, 16, 0, &timespec { tv_sec: 1, tv_nsec: 0 }) => ETIMEDOUT);
    signal::tick(false);
    fails!(mq_timedreceive(fd, &mut text, 16, 0, 0) => EINTR);
}

fn mq_notifies() {
    let fd = posix_queue(4, 0);
    signal::on(SIGUSR1, 0);
    let mut event: sigevent = zeroed();
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGUSR1;
    event.sigev_value.sival_ptr = std::ptr::without_provenance_mut(5);
    gives!(mq_notify(fd, &event) => 0);
    fails!(mq_notify(fd, &event) => EBUSY);
    gives!(mq_timedsend(fd, b"x", 1, 0, 0) => 0);
    until(|| signal::count() == 1);
    let record = signal::records()[0];
    eq!((record.code, record.value), (SI_MESGQ, 5));
    // Once only, and only when the queue was empty.
    gives!(mq_notify(fd, &event) => 0);
    gives!(mq_timedsend(fd, b"y", 1, 0, 0) => 0);
    eq!(signal::count(), 1);
    gives!(mq_notify(fd, 0) => 0);
    event.sigev_signo = 99;
    fails!(mq_notify(fd, &event) => EINVAL);
    fails!(mq_notify(-1, 0) => EBADF);
}

fn mq_waits() {
    let fd = posix_queue(1, 0);
    let child = child(|| {
        let mut text = [0u8; 16];
        gives!(mq_timedreceive(fd, &mut text, 16, 0, 0) => 2);
        gives!(mq_timedsend(fd, b"a", 1, 0, 0) => 0);
        gives!(mq_timedsend(fd, b"b", 1, 0, 0) => 0);
    });
    until_asleep(child);
    gives!(mq_timedsend(fd, b"go", 2, 0, 0) => 0);
    let mut text = [0u8; 16];
    gives!(mq_timedreceive(fd, &mut text, 16, 0, 0) => 1);
    gives!(mq_timedreceive(fd, &mut text, 16, 0, 0) => 1);
    eq!(text[0], b'b');
    join(child);
}
