//! Futexes: wait and wake, bitsets, requeue, wake-op, priority inheritance, robust lists; and the thread's other registrations.

use super::prelude::*;

tests!("futex":
    wait_checks_the_value, wake_wakes_so_many, wait_times_out, wait_bitset_until, bitsets_choose, arguments, across_processes,
    private_is_by_address, in_a_shared_file, requeue_moves, cmp_requeue_checks, wake_op_changes_and_wakes,
    futex_waitv_waits_for_many, futex2_calls, pi_lock_and_unlock, pi_waits_in_turn, pi_errors, pi_owner_dies, pi_requeue,
    robust_list_is_walked, robust_list_arguments, pending_robust_operation, robust_lists_end_at_exec, rseq_arguments,
    membarrier_orders, faults,
);

const PRIVATE: c_int = FUTEX_PRIVATE_FLAG;
const TID_MASK: u32 = 0x3fff_ffff;
const WAITERS: u32 = 0x8000_0000;
const OWNER_DIED: u32 = 0x4000_0000;

fn soon() -> timespec {
    timespec { tv_sec: 0, tv_nsec: 1_000_000 }
}

fn wait_checks_the_value() {
    let word = shared_word();
    word.store(5, SeqCst);
    fails!(futex(word, FUTEX_WAIT, 4, 0) => EAGAIN);
    fails!(futex(word, FUTEX_WAIT | PRIVATE, 4, 0) => EAGAIN);
    fails!(futex(word, FUTEX_WAIT_BITSET, 4, 0, 0, 1) => EAGAIN);
    // Nobody waits: nobody is woken.
    gives!(futex(word, FUTEX_WAKE, 10) => 0);
    // What nobody knows of is zero as well.
    fails!(futex(word, FUTEX_WAIT, 6, &soon()) => EAGAIN);
}

/// A process that waits on the word as long as it is 0, and then adds one to `woken`.
fn waiter(word: &'static AtomicU32, woken: &'static AtomicU32) -> c_int {
    let pid = child(|| {
        gives!(futex(word, FUTEX_WAIT, 0, 0) => 0);
        woken.fetch_add(1, SeqCst);
    });
    until_asleep(pid);
    pid
}

fn wake_wakes_so_many() {
    let (word, woken) = (shared_word(), shared_word());
    let waiters = [waiter(word, woken), waiter(word, woken), waiter(word, woken)];
    gives!(futex(word, FUTEX_WAKE, 1) => 1);
    until_is(woken, 1);
    gives!(futex(word, FUTEX_WAKE, i32::MAX) => 2);
    until_is(woken, 3);
    gives!(futex(word, FUTEX_WAKE, 1) => 0);
    waiters.into_iter().for_each(join);
    // A count of 0 wakes one: odd, and so since ever.
    let last = waiter(word, woken);
    gives!(futex(word, FUTEX_WAKE, 0) => 1);
    join(last);
}

fn wait_times_out() {
    let word = shared_word();
    fails!(futex(word, FUTEX_WAIT, 0, &soon()) => ETIMEDOUT);
    fails!(futex(word, FUTEX_WAIT | PRIVATE, 0, &timespec { tv_sec: 0, tv_nsec: 0 }) => ETIMEDOUT);
    fails!(futex(word, FUTEX_WAIT, 0, &timespec { tv_sec: 0, tv_nsec: 1_000_000_000 }) => EINVAL);
    fails!(futex(word, FUTEX_WAIT, 0, &timespec { tv_sec: -1, tv_nsec: 0 }) => EINVAL);
    fails!(futex(word, FUTEX_WAIT, 0, BAD) => EFAULT);
}

fn wait_bitset_until() {
    let word = shared_word();
    // Here the time is a point in it: the past is over.
    fails!(futex(word, FUTEX_WAIT_BITSET, 0, &timespec { tv_sec: 0, tv_nsec: 1 }, 0, u32::MAX) => ETIMEDOUT);
    fails!(futex(word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &timespec { tv_sec: 1, tv_nsec: 0 }, 0, u32::MAX) => ETIMEDOUT);
    let mut now: timespec = zeroed();
    gives!(clock_gettime(CLOCK_MONOTONIC, &mut now) => 0);
    now.tv_nsec = 0;
    now.tv_sec += 1;
    // Later than now, and it comes.
    fails!(futex(word, FUTEX_WAIT_BITSET, 0, &now, 0, u32::MAX) => ETIMEDOUT);
    let mut then: timespec = zeroed();
    gives!(clock_gettime(CLOCK_MONOTONIC, &mut then) => 0);
    is!(then.tv_sec >= now.tv_sec, "the time to have come");
}

fn bitsets_choose() {
    let (word, woken) = (shared_word(), shared_word());
    let wait_for = |bits: u32| {
        let pid = child(|| {
            gives!(futex(word, FUTEX_WAIT_BITSET, 0, 0, 0, bits) => 0);
            woken.fetch_or(bits, SeqCst);
        });
        until_asleep(pid);
        pid
    };
    let (one, two) = (wait_for(1), wait_for(2));
    gives!(futex(word, FUTEX_WAKE_BITSET, 10, 0, 0, 4) => 0);
    gives!(futex(word, FUTEX_WAKE_BITSET, 10, 0, 0, 2) => 1);
    join(two);
    eq!(woken.load(SeqCst), 2);
    gives!(futex(word, FUTEX_WAKE, 10) => 1);
    join(one);
    fails!(futex(word, FUTEX_WAIT_BITSET, 0, 0, 0, 0) => EINVAL);
    fails!(futex(word, FUTEX_WAKE_BITSET, 1, 0, 0, 0) => EINVAL);
}

fn arguments() {
    let map = pages(1);
    fails!(futex(map + 1, FUTEX_WAIT, 0, 0) => EINVAL);
    fails!(futex(map + 2, FUTEX_WAKE, 1) => EINVAL);
    fails!(futex(map, 99, 0, 0) => ENOSYS);
    fails!(futex(map, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 1) => ENOSYS);
    fails!(futex(map, 2 /* FUTEX_FD */, 0, 0) => ENOSYS);
}

fn faults() {
    fails!(futex(BAD, FUTEX_WAIT, 0, 0) => EFAULT);
    fails!(futex(BAD, FUTEX_WAIT | PRIVATE, 0, 0) => EFAULT);
    // A private wake needs no memory, only an address.
    gives!(futex(BAD, FUTEX_WAKE | PRIVATE, 1) => 0);
    fails!(futex(BAD, FUTEX_WAKE, 1) => EFAULT);
    fails!(futex(1usize << 62, FUTEX_WAKE | PRIVATE, 1) => EFAULT);
    // Read-only memory can be waited on.
    let reading = works!(mmap(0, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    fails!(futex(reading, FUTEX_WAIT | PRIVATE, 1, 0) => EAGAIN);
    fails!(futex(reading, FUTEX_WAIT | PRIVATE, 0, &soon()) => ETIMEDOUT);
    fails!(futex(reading, FUTEX_LOCK_PI | PRIVATE, 0, 0) => EFAULT);
}

fn across_processes() {
    // The same memory at two addresses is one futex, if it isn't private.
    let fd = works!(memfd_create(c"futex", 0));
    gives!(ftruncate(fd, PAGE) => 0);
    let mapped = || works!(mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    let (here, there) = (mapped(), mapped());
    let pid = child(|| {
        gives!(futex(here + 8, FUTEX_WAIT, 0, 0) => 0);
    });
    until_asleep(pid);
    gives!(futex(there + 12, FUTEX_WAKE, 1) => 0);
    gives!(futex(there + 8, FUTEX_WAKE, 1) => 1);
    join(pid);
}

fn private_is_by_address() {
    let word = shared_word();
    let pid = child(|| {
        fails!(futex(word, FUTEX_WAIT | PRIVATE, 0, &timespec { tv_sec: 0, tv_nsec: 100_000_000 }) => ETIMEDOUT);
    });
    until_asleep(pid);
    // Another process's private waiters are not ours.
    gives!(futex(word, FUTEX_WAKE | PRIVATE, 1) => 0);
    gives!(futex(word, FUTEX_WAKE, 1) => 0);
    join(pid);
    // After a fork, copies are two.
    let own = word_at(pages(1));
    let pid = child(|| {
        fails!(futex(own, FUTEX_WAIT, 0, &timespec { tv_sec: 0, tv_nsec: 100_000_000 }) => ETIMEDOUT);
    });
    until_asleep(pid);
    gives!(futex(own, FUTEX_WAKE, 1) => 0);
    join(pid);
}

fn in_a_shared_file() {
    let fd = file(c"file", &[0; PAGE]);
    let map = works!(mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    let pid = child(|| {
        let fd = works!(openat(AT_FDCWD, c"file", O_RDWR));
        let map = works!(mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
        gives!(futex(map + 4, FUTEX_WAIT, 0, 0) => 0);
    });
    // Asleep in the wait, not in what comes before.
    until(|| sys!(futex(map + 4, FUTEX_WAKE, 1)) == Ok(1));
    join(pid);
}

fn requeue_moves() {
    let words = memory::share::<AtomicU32>(2);
    let (first, second, woken) = (&words[0], &words[1], shared_word());
    let waiters = [waiter(first, woken), waiter(first, woken), waiter(first, woken)];
    // One is woken, the others go over to the second word.
    gives!(futex(first, FUTEX_REQUEUE, 1, 10usize, second, 0) => 3);
    until_is(woken, 1);
    gives!(futex(first, FUTEX_WAKE, 10) => 0);
    gives!(futex(second, FUTEX_WAKE, 10) => 2);
    waiters.into_iter().for_each(join);
    fails!(futex(first, FUTEX_REQUEUE, -1, 1usize, second, 0) => EINVAL);
    fails!(futex(first, FUTEX_REQUEUE, 1, -1i32, second, 0) => EINVAL);
    fails!(futex(first, FUTEX_REQUEUE, 1, 1usize, BAD, 0) => EFAULT);
}

fn cmp_requeue_checks() {
    let words = memory::share::<AtomicU32>(2);
    let (first, second, woken) = (&words[0], &words[1], shared_word());
    let waiters = [waiter(first, woken), waiter(first, woken)];
    fails!(futex(first, FUTEX_CMP_REQUEUE, 0, 10usize, second, 1) => EAGAIN);
    gives!(futex(first, FUTEX_CMP_REQUEUE, 0, 1usize, second, 0) => 1);
    gives!(futex(second, FUTEX_WAKE, 10) => 1);
    gives!(futex(first, FUTEX_WAKE, 10) => 1);
    waiters.into_iter().for_each(join);
    eq!(woken.load(SeqCst), 2);
}

fn wake_op_changes_and_wakes() {
    let words = memory::share::<AtomicU32>(2);
    let (first, second, woken) = (&words[0], &words[1], shared_word());
    let on_first = waiter(first, woken);
    let on_second = waiter(second, woken);
    // second += 3; wake one on the first; if the old value of second was 0 (it was), one on the second.
    let operation = |op: u32, argument: u32, compare: u32, value: u32| op << 28 | compare << 24 | argument << 12 | value;
    gives!(futex(first, FUTEX_WAKE_OP, 1, 1usize, second, operation(1, 3, 0, 0)) => 2);
    eq!(second.load(SeqCst), 3);
    join(on_first);
    join(on_second);
    for (op, argument, result) in [(0, 12, 12), (1, 1, 13), (2, 16, 29), (3, 1, 28), (4, 4, 24), (8, 3, 8)] {
        gives!(futex(first, FUTEX_WAKE_OP, 1, 1usize, second, operation(op, argument, 0, 0)) => 0);
        eq!((op, second.load(SeqCst)), (op, result));
    }
    fails!(futex(first, FUTEX_WAKE_OP, 1, 1usize, second, operation(6, 1, 0, 0)) => ENOSYS);
    fails!(futex(first, FUTEX_WAKE_OP, 1, 1usize, second, operation(1, 1, 9, 0)) => ENOSYS);
}

/// `struct futex_waitv`: value, address, flags.
fn waitv(word: &'static AtomicU32, value: u64, flags: u64) -> [u64; 3] {
    [value, word.as_ptr() as u64, flags]
}

const SIZE_U32: u64 = 2;
const FUTEX2_PRIVATE: u64 = 128;

fn futex_waitv_waits_for_many() {
    let words = memory::share::<AtomicU32>(3);
    let list = [waitv(&words[0], 0, SIZE_U32), waitv(&words[1], 0, SIZE_U32), waitv(&words[2], 0, SIZE_U32)];
    if sys!(futex_waitv(&list, 0, 0, 0, 0)) == Err(Errno::ENOSYS) {
        skip!("no futex_waitv (Linux 5.16)");
    }
    let pid = child(|| {
        gives!(futex_waitv(&list, 3, 0, 0, 0) => 1);
    });
    until_asleep(pid);
    gives!(futex(&words[1], FUTEX_WAKE, 1) => 1);
    join(pid);
    words[2].store(1, SeqCst);
    fails!(futex_waitv(&list, 3, 0, 0, 0) => EAGAIN);
    fails!(futex_waitv(&list, 2, 0, &timespec { tv_sec: 0, tv_nsec: 1 }, CLOCK_MONOTONIC) => ETIMEDOUT);
    fails!(futex_waitv(&list, 0, 0, 0, 0) => EINVAL);
    fails!(futex_waitv(&list, 129, 0, 0, 0) => EINVAL);
    fails!(futex_waitv(&list, 1, 1, 0, 0) => EINVAL);
    fails!(futex_waitv(0, 1, 0, 0, 0) => EINVAL);
    fails!(futex_waitv(&list, 1, 0, &soon(), 99) => EINVAL);
    fails!(futex_waitv(&[waitv(&words[0], 0, 0)], 1, 0, 0, 0) => EINVAL);
    fails!(futex_waitv(&[[0u64, BAD as u64, SIZE_U32]], 1, 0, 0, 0) => EFAULT);
    signal::tick(false);
    fails!(futex_waitv(&list, 2, 0, 0, 0) => EINTR);
}

fn futex2_calls() {
    let words = memory::share::<AtomicU32>(2);
    let word = &words[0];
    if sys!(futex_wake(word, u32::MAX, 1, SIZE_U32)) == Err(Errno::ENOSYS) {
        skip!("no futex_wake (Linux 6.7)");
    }
    gives!(futex_wake(word, u32::MAX, 1, SIZE_U32) => 0);
    fails!(futex_wake(word, u32::MAX, 1, 0) => EINVAL);
    fails!(futex_wake(word, 0, 1, SIZE_U32) => EINVAL);
    fails!(futex_wait(word, 1, u32::MAX, SIZE_U32, 0, 0) => EAGAIN);
    fails!(futex_wait(word, 0, u32::MAX, SIZE_U32 | FUTEX2_PRIVATE, &timespec { tv_sec: 0, tv_nsec: 1 }, CLOCK_MONOTONIC) => ETIMEDOUT);
    fails!(futex_wait(word, 0, 0, SIZE_U32, 0, 0) => EINVAL);
    fails!(futex_wait(word, 0, u32::MAX, 0x40, 0, 0) => EINVAL);
    let pid = child(|| {
        gives!(futex_wait(word, 0, u32::MAX, SIZE_U32, 0, 0) => 0);
    });
    until_asleep(pid);
    let pair = [waitv(word, 0, SIZE_U32), waitv(&words[1], 0, SIZE_U32)];
    gives!(futex_requeue(&pair, 0, 0, 1) => 1);
    // It was moved: the second is where it waits now.
    gives!(futex(word, FUTEX_WAKE, 1) => 0);
    gives!(futex_wake(&words[1], u32::MAX, 1, SIZE_U32) => 1);
    join(pid);
    fails!(futex_requeue(&pair, 1, 0, 1) => EINVAL);
    fails!(futex_requeue(BAD, 0, 0, 1) => EFAULT);
}

fn pi_lock_and_unlock() {
    let word = shared_word();
    let own = process::thread_id() as u32;
    gives!(futex(word, FUTEX_LOCK_PI, 0, 0) => 0);
    eq!(word.load(SeqCst), own);
    fails!(futex(word, FUTEX_LOCK_PI, 0, 0) => EDEADLK);
    fails!(futex(word, FUTEX_TRYLOCK_PI, 0, 0) => EDEADLK);
    gives!(futex(word, FUTEX_UNLOCK_PI, 0, 0) => 0);
    eq!(word.load(SeqCst), 0);
    gives!(futex(word, FUTEX_TRYLOCK_PI | PRIVATE, 0, 0) => 0);
    gives!(futex(word, FUTEX_UNLOCK_PI | PRIVATE, 0, 0) => 0);
    // FUTEX_LOCK_PI2 counts time by the monotonic clock (Linux 5.14).
    gives!(futex(word, 13, 0, 0) => 0);
    gives!(futex(word, FUTEX_UNLOCK_PI, 0, 0) => 0);
}

fn pi_waits_in_turn() {
    let (word, step) = (shared_word(), shared_word());
    let owner = child(|| {
        gives!(futex(word, FUTEX_LOCK_PI, 0, 0) => 0);
        step.store(1, SeqCst);
        until(|| word.load(SeqCst) & WAITERS != 0);
        eq!(word.load(SeqCst) & TID_MASK, process::thread_id() as u32);
        until_is(step, 2);
        gives!(futex(word, FUTEX_UNLOCK_PI, 0, 0) => 0);
        // It went straight to the waiter.
        is!(word.load(SeqCst) & TID_MASK != process::thread_id() as u32, "another owner");
    });
    until_is(step, 1);
    let own = process::thread_id() as u32;
    fails!(futex(word, FUTEX_TRYLOCK_PI, 0, 0) => EAGAIN);
    fails!(futex(word, FUTEX_UNLOCK_PI, 0, 0) => EPERM);
    fails!(futex(word, FUTEX_LOCK_PI, 0, &timespec { tv_sec: 1, tv_nsec: 0 }) => ETIMEDOUT);
    let waiter = child(|| {
        until_asleep(own as c_int);
        step.store(2, SeqCst);
    });
    gives!(futex(word, FUTEX_LOCK_PI, 0, 0) => 0);
    eq!(word.load(SeqCst) & TID_MASK, own);
    gives!(futex(word, FUTEX_UNLOCK_PI, 0, 0) => 0);
    join(waiter);
    join(owner);
}

fn pi_errors() {
    let word = shared_word();
    word.store(0x3f_ffff, SeqCst);
    // An owner that doesn't exist.
    fails!(futex(word, FUTEX_LOCK_PI, 0, 0) => ESRCH);
    fails!(futex(word, FUTEX_UNLOCK_PI, 0, 0) => EPERM);
    fails!(futex(BAD, FUTEX_LOCK_PI, 0, 0) => EFAULT);
    word.store(0, SeqCst);
    fails!(futex(word, FUTEX_UNLOCK_PI, 0, 0) => EPERM);
    // Who waits for a lock can't be woken the ordinary way.
    let step = shared_word();
    let owner = child(|| {
        gives!(futex(word, FUTEX_LOCK_PI, 0, 0) => 0);
        until_is(step, 1);
        gives!(futex(word, FUTEX_UNLOCK_PI, 0, 0) => 0);
    });
    until(|| word.load(SeqCst) & TID_MASK == owner as u32);
    let waiting = child(|| {
        gives!(futex(word, FUTEX_LOCK_PI, 0, 0) => 0);
        gives!(futex(word, FUTEX_UNLOCK_PI, 0, 0) => 0);
    });
    until_asleep(waiting);
    fails!(futex(word, FUTEX_WAKE, 1) => EINVAL);
    step.store(1, SeqCst);
    join(waiting);
    join(owner);
}

fn pi_owner_dies() {
    let (word, step) = (shared_word(), shared_word());
    let owner = child(|| {
        gives!(futex(word, FUTEX_LOCK_PI, 0, 0) => 0);
        step.store(1, SeqCst);
        until(|| word.load(SeqCst) & WAITERS != 0);
        until_is(step, 2);
    });
    until_is(step, 1);
    let own = process::thread_id();
    let helper = child(|| {
        until_asleep(own);
        step.store(2, SeqCst);
    });
    // The kernel knows the waiter, and hands it the lock of the dead.
    gives!(futex(word, FUTEX_LOCK_PI, 0, 0) => 0);
    eq!(word.load(SeqCst) & (TID_MASK | OWNER_DIED), own as u32 | OWNER_DIED);
    join(owner);
    join(helper);
}

fn pi_requeue() {
    let words = memory::share::<AtomicU32>(2);
    let (condition, lock) = (&words[0], &words[1]);
    let waiting = child(|| {
        gives!(futex(condition, FUTEX_WAIT_REQUEUE_PI, 0, 0, lock) => 0);
        eq!(lock.load(SeqCst) & TID_MASK, process::thread_id() as u32);
        gives!(futex(lock, FUTEX_UNLOCK_PI, 0, 0) => 0);
    });
    until_asleep(waiting);
    // It owns the lock when it returns: at once, as nobody has it.
    gives!(futex(condition, FUTEX_CMP_REQUEUE_PI, 1, 0usize, lock, 0) => 1);
    join(waiting);
    fails!(futex(condition, FUTEX_CMP_REQUEUE_PI, 2, 0usize, lock, 0) => EINVAL);
    fails!(futex(condition, FUTEX_CMP_REQUEUE_PI, 1, 0usize, condition, 0) => EINVAL);
    fails!(futex(condition, FUTEX_WAIT_REQUEUE_PI, 0, &timespec { tv_sec: 0, tv_nsec: 1 }, lock) => ETIMEDOUT);
}

/// A robust list in memory of the test's: the head at `map`, one node at `map + 64`, whose futex is 16 bytes behind it.
fn robust_list(map: usize, owner: u32) -> &'static AtomicU32 {
    let long = |address: usize, value: usize| put(address, &value.to_ne_bytes());
    long(map, map + 64);
    long(map + 8, 16);
    long(map + 16, 0);
    long(map + 64, map);
    let word = word_at(map + 80);
    word.store(owner, SeqCst);
    word
}

fn robust_list_is_walked() {
    let map = works!(mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    let word = word_at(map + 80);
    let step = shared_word();
    let owner = child(|| {
        robust_list(map, process::thread_id() as u32 | WAITERS);
        gives!(set_robust_list(map, 24) => 0);
        step.store(1, SeqCst);
        until_is(step, 2);
    });
    until_is(step, 1);
    let waiting = child(|| {
        gives!(futex(word, FUTEX_WAIT, owner as u32 | WAITERS, 0) => 0);
    });
    until_asleep(waiting);
    step.store(2, SeqCst);
    // Its end marks what it held, and wakes one.
    join(owner);
    join(waiting);
    eq!(word.load(SeqCst), OWNER_DIED | WAITERS);
    // What another owns is left alone.
    in_child(|| {
        robust_list(map, 1);
        gives!(set_robust_list(map, 24) => 0);
    });
    eq!(word.load(SeqCst), 1);
    // So it is with a thread's end, and with being killed.
    let owner = child(|| {
        robust_list(map, process::thread_id() as u32);
        gives!(set_robust_list(map, 24) => 0);
        step.store(3, SeqCst);
        let _ = sys!(pause());
    });
    until_is(step, 3);
    gives!(kill(owner, SIGKILL) => 0);
    eq!(wait(owner), Status::Killed(SIGKILL));
    eq!(word.load(SeqCst), OWNER_DIED);
    // A list that leads nowhere harms nobody.
    in_child(|| {
        gives!(set_robust_list(BAD, 24) => 0);
    });
}

fn robust_list_arguments() {
    let map = pages(1);
    fails!(set_robust_list(map, 23) => EINVAL);
    fails!(set_robust_list(map, 0) => EINVAL);
    gives!(set_robust_list(map, 24) => 0);
    let (mut head, mut length) = (0usize, 0usize);
    gives!(get_robust_list(0, &mut head, &mut length) => 0);
    eq!((head, length), (map, 24));
    fails!(get_robust_list(0, BAD, &mut length) => EFAULT);
    fails!(get_robust_list(0x3f_ffff, &mut head, &mut length) => ESRCH);
    in_child(|| {
        let mut head = 9usize;
        gives!(get_robust_list(0, &mut head, &mut 0usize) => 0);
        eq!(head, 0);
    });
    let step = shared_word();
    let pid = child(|| until_is(step, 1));
    gives!(get_robust_list(pid, &mut head, &mut length) => 0);
    step.store(1, SeqCst);
    join(pid);
}

fn pending_robust_operation() {
    let map = works!(mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    let word = word_at(map + 80);
    in_child(|| {
        robust_list(map, process::thread_id() as u32);
        // An empty list, but an operation under way.
        put(map, &map.to_ne_bytes());
        put(map + 16, &(map + 64).to_ne_bytes());
        gives!(set_robust_list(map, 24) => 0);
    });
    eq!(word.load(SeqCst), OWNER_DIED);
}

fn robust_lists_end_at_exec() {
    let map = works!(mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    let word = word_at(map + 80);
    let path = process::own_file();
    let pid = child(|| {
        robust_list(map, process::thread_id() as u32);
        gives!(set_robust_list(map, 24) => 0);
        let _ = sys!(execve(&*path, strings(&[c"x", c"helper", c"exit", c"0"]).as_slice(), 0));
    });
    join(pid);
    eq!(word.load(SeqCst), OWNER_DIED);
}

fn rseq_arguments() {
    let map = pages(1);
    match sys!(rseq(map + 1, 32, 0, 1)) {
        Err(Errno::ENOSYS) => skip!("no rseq"),
        other => is!(other.is_err(), "a wrong address or a second registration to be refused"),
    }
    fails!(rseq(map, 32, 0x80, 1) => EINVAL);
}

fn membarrier_orders() {
    let known = match sys!(membarrier(0, 0, 0)) {
        Err(Errno::ENOSYS) => skip!("no membarrier"),
        other => crate::check::must_work("membarrier", other),
    };
    is!(known & 1 != 0, "MEMBARRIER_CMD_GLOBAL");
    gives!(membarrier(1, 0, 0) => 0);
    // Expedited, private: after registration.
    fails!(membarrier(8, 0, 0) => EPERM);
    gives!(membarrier(16, 0, 0) => 0);
    gives!(membarrier(8, 0, 0) => 0);
    // A copy has it, too.
    in_child(|| gives!(membarrier(8, 0, 0) => 0));
    gives!(membarrier(4, 0, 0) => 0);
    gives!(membarrier(2, 0, 0) => 0);
    if known & 512 != 0 {
        gives!(membarrier(512, 0, 0) => 4 | 16);
    }
    fails!(membarrier(8 | 16, 0, 0) => EINVAL);
    fails!(membarrier(0, 1, 0) => EINVAL);
    fails!(membarrier(1 << 30, 0, 0) => EINVAL);
}
