//! Futexes: `futex futex_waitv set_robust_list get_robust_list`.

use super::{Args, Cx, Entry, full, partial};
use crate::futex::table::Waiting;
use crate::futex::{Key, Waiter, Word};
use crate::mm::Mm;
use crate::task::Task;
use crate::time;
use crate::wait::{Ended, until_woken};
use crate::{Errno, Flow, Result, SysResult};
use alloc::sync::Arc;
use alloc::vec::Vec;
use insula_abi::Sysno;
use insula_abi::general as c;
use insula_abi::process::RobustListHead;
use insula_abi::time::Timespec;

pub(super) const CALLS: &[Entry] = &[
    partial(Sysno::futex, "PI: locks and hand-over, without inheriting priorities", futex),
    full(Sysno::futex_waitv, waitv),
    full(Sysno::futex_wake, |cx, [address, mask, count, flags, ..]| {
        let word = Word::of(cx.task, address, private(flags, mask)?)?;
        Ok(cx.kernel.futexes.wake(word.key, count as i32, mask as u32)?.into())
    }),
    full(Sysno::futex_wait, |cx, [address, value, mask, flags, timeout, clock]| {
        let private = private(flags, mask)?;
        let value = u32::try_from(value).map_err(|_| Errno::EINVAL)?;
        let deadline = deadline_by(cx, timeout, clock)?;
        wait(cx.task, Word::of(cx.task, address, private)?, value, mask as u32, deadline)
    }),
    full(Sysno::futex_requeue, |cx, [waiters, flags, wake, most, ..]| {
        let mm = cx.task.mm();
        if flags as u32 != 0 || waiters == 0 {
            return Err(Errno::EINVAL);
        }
        let raw: Vec<u64> = mm.get_all(waiters, 6)?;
        let [(from, expected), (to, _)] = [parse(&mm, &raw[..3])?, parse(&mm, &raw[3..])?];
        let [wake, most] = [wake, most].map(|count| u32::try_from(count as i32).map_err(|_| Errno::EINVAL));
        Ok(cx.kernel.futexes.requeue(&from, &to, wake?, most?, Some(expected))?.into())
    }),
    full(Sysno::set_robust_list, |cx, [head, len, ..]| {
        if len != size_of::<RobustListHead>() as u64 {
            return Err(Errno::EINVAL);
        }
        cx.task.robust_list.store(head, core::sync::atomic::Ordering::Relaxed);
        Ok(Flow::Done(0))
    }),
    full(Sysno::get_robust_list, get_robust_list),
];

/// Words of a set that any wake-up meets.
const ANY: u32 = c::FUTEX_BITSET_MATCH_ANY;

fn futex(cx: &mut Cx<'_>, [address, operation, value, timeout, second, third]: Args) -> SysResult {
    let operation = operation as u32;
    let command = operation & !(c::FUTEX_PRIVATE_FLAG | c::FUTEX_CLOCK_REALTIME);
    let private = operation & c::FUTEX_PRIVATE_FLAG != 0;
    let realtime = operation & c::FUTEX_CLOCK_REALTIME != 0;
    if realtime && !matches!(command, c::FUTEX_WAIT_BITSET | c::FUTEX_WAIT_REQUEUE_PI | c::FUTEX_LOCK_PI2) {
        return Err(Errno::ENOSYS);
    }
    let waits =
        matches!(command, c::FUTEX_WAIT | c::FUTEX_WAIT_BITSET | c::FUTEX_LOCK_PI | c::FUTEX_LOCK_PI2 | c::FUTEX_WAIT_REQUEUE_PI);
    let deadline = match waits && timeout != 0 {
        true => Some(deadline(cx, timeout, command, realtime)?),
        false => None,
    };
    let word = |at| Word::of(cx.task, at, private);
    let futexes = &cx.kernel.futexes;
    let (value, third) = (value as u32, third as u32);
    // Where there is no timeout, its register holds a second number.
    let number = timeout as u32;
    let positive = |count: u32| if count as i32 >= 0 { Ok(count) } else { Err(Errno::EINVAL) };
    match command {
        c::FUTEX_WAIT => wait(cx.task, word(address)?, value, ANY, deadline),
        c::FUTEX_WAIT_BITSET if third == 0 => Err(Errno::EINVAL),
        c::FUTEX_WAIT_BITSET => wait(cx.task, word(address)?, value, third, deadline),
        c::FUTEX_WAKE => Ok(futexes.wake(word(address)?.key, value as i32, ANY)?.into()),
        c::FUTEX_WAKE_BITSET if third == 0 => Err(Errno::EINVAL),
        c::FUTEX_WAKE_BITSET => Ok(futexes.wake(word(address)?.key, value as i32, third)?.into()),
        c::FUTEX_REQUEUE | c::FUTEX_CMP_REQUEUE => {
            let expected = (command == c::FUTEX_CMP_REQUEUE).then_some(third);
            let (wake, most) = (positive(value)?, positive(number)?);
            Ok(futexes.requeue(&word(address)?, &word(second)?, wake, most, expected)?.into())
        }
        c::FUTEX_WAKE_OP => {
            let (first, other) = (word(address)?, word(second)?);
            let (change, compare) = decode(third);
            Ok(futexes.wake_op((&first, value as i32), (&other, number as i32), change, compare)?.into())
        }
        c::FUTEX_LOCK_PI | c::FUTEX_LOCK_PI2 => lock(cx.task, &word(address)?, deadline),
        c::FUTEX_TRYLOCK_PI => futexes.lock_owned(cx.task, &word(address)?, true).map(|_| Flow::Done(0)),
        c::FUTEX_UNLOCK_PI => futexes.unlock_owned(cx.task, &word(address)?).map(Flow::from),
        c::FUTEX_WAIT_REQUEUE_PI if address == second => Err(Errno::EINVAL),
        c::FUTEX_WAIT_REQUEUE_PI => wait_requeued(cx.task, &word(address)?, value, ANY, deadline, &word(second)?),
        c::FUTEX_CMP_REQUEUE_PI => {
            if value != 1 || address == second {
                return Err(Errno::EINVAL);
            }
            let most = positive(number)?;
            Ok(futexes.requeue_owned(&word(address)?, &word(second)?, most, third)?.into())
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// Whether flags of the newer calls say that a word is of one address space; the mask is 32 bits, of which one must be set.
fn private(flags: u64, mask: u64) -> Result<bool> {
    let known = c::FUTEX_32 | c::FUTEX_PRIVATE_FLAG;
    let flags = flags as u32;
    if flags & !known != 0 || flags & c::FUTEX_32 == 0 || mask == 0 || mask > u64::from(u32::MAX) {
        return Err(Errno::EINVAL);
    }
    Ok(flags & c::FUTEX_PRIVATE_FLAG != 0)
}

/// A deadline by a clock that is named, by the monotonic one.
fn deadline_by(cx: &Cx<'_>, timeout: u64, clock: u64) -> Result<Option<u64>> {
    if timeout == 0 {
        return Ok(None);
    }
    let realtime = match clock as u32 {
        c::CLOCK_REALTIME => true,
        c::CLOCK_MONOTONIC => false,
        _ => return Err(Errno::EINVAL),
    };
    let timeout = cx.task.mm().get::<Timespec>(timeout)?.to_nanos()?;
    Ok(Some(if realtime { time::from_realtime(cx.kernel, timeout) } else { timeout }))
}

/// A wait's deadline by the monotonic clock. Only `FUTEX_WAIT` says how long; all others say when.
fn deadline(cx: &Cx<'_>, timeout: u64, command: u32, realtime: bool) -> Result<u64> {
    let timeout = cx.task.mm().get::<Timespec>(timeout)?.to_nanos()?;
    Ok(match command {
        c::FUTEX_WAIT => cx.kernel.host.clock.monotonic().saturating_add(timeout),
        c::FUTEX_LOCK_PI => time::from_realtime(cx.kernel, timeout),
        _ if realtime => time::from_realtime(cx.kernel, timeout),
        _ => timeout,
    })
}

fn wait(task: &Arc<Task>, word: Word, expected: u32, bitset: u32, deadline: Option<u64>) -> SysResult {
    let waiter = Waiter::plain(task, bitset);
    task.kernel().futexes.enqueue(&waiter, &word, expected)?;
    let (waiting, task) = (Waiting { waiter }, task.clone());
    Ok(Flow::block(async move {
        let Err(ended) = waiting.woken(deadline).await else { return Ok(0) };
        if !waiting.give_up() {
            return Ok(0);
        }
        match ended {
            Ended::TimedOut => Err(Errno::ETIMEDOUT),
            Ended::Interrupted if deadline.is_none() => Err(Errno::RESTARTSYS),
            Ended::Interrupted => Err(task.restart_with(move |cx| wait(cx.task, word.clone(), expected, bitset, deadline))),
        }
    }))
}

fn lock(task: &Arc<Task>, word: &Word, deadline: Option<u64>) -> SysResult {
    let Some(waiter) = task.kernel().futexes.lock_owned(task, word, false)? else { return Ok(Flow::Done(0)) };
    let waiting = Waiting { waiter };
    Ok(Flow::block(async move {
        match waiting.woken(deadline).await {
            Err(ended) if waiting.give_up() => Err(match ended {
                Ended::TimedOut => Errno::ETIMEDOUT,
                Ended::Interrupted => Errno::RESTARTNOINTR,
            }),
            _ => Ok(0),
        }
    }))
}

fn wait_requeued(task: &Arc<Task>, word: &Word, expected: u32, bitset: u32, deadline: Option<u64>, target: &Word) -> SysResult {
    if word.key == target.key {
        return Err(Errno::EINVAL);
    }
    let waiter = Waiter::moves(task, bitset, target);
    task.kernel().futexes.enqueue(&waiter, word, expected)?;
    let waiting = Waiting { waiter };
    Ok(Flow::block(async move {
        let Err(ended) = waiting.woken(deadline).await else { return Ok(0) };
        let moved = waiting.waiter.waits_for_lock();
        if !waiting.give_up() {
            return Ok(0);
        }
        Err(match ended {
            Ended::TimedOut => Errno::ETIMEDOUT,
            // The word has changed since: to begin again would find that.
            Ended::Interrupted if moved => Errno::EAGAIN,
            Ended::Interrupted => Errno::RESTARTNOINTR,
        })
    }))
}

/// What `FUTEX_WAKE_OP` does to a word, and what it asks of what was there.
fn decode(encoded: u32) -> (impl Fn(u32) -> Result<u32>, impl Fn(u32) -> Result<bool>) {
    let signed = |bits: u32| ((bits << 20) as i32) >> 20;
    let operation = encoded >> 28 & 7;
    let comparison = encoded >> 24 & 0xf;
    let mut operand = signed(encoded >> 12 & 0xfff) as u32;
    let against = signed(encoded & 0xfff);
    if encoded >> 28 & c::FUTEX_OP_OPARG_SHIFT != 0 {
        operand = 1 << (operand & 31);
    }
    let change = move |word: u32| {
        Ok(match operation {
            c::FUTEX_OP_SET => operand,
            c::FUTEX_OP_ADD => word.wrapping_add(operand),
            c::FUTEX_OP_OR => word | operand,
            c::FUTEX_OP_ANDN => word & !operand,
            c::FUTEX_OP_XOR => word ^ operand,
            _ => return Err(Errno::ENOSYS),
        })
    };
    let compare = move |word: u32| {
        let word = word as i32;
        Ok(match comparison {
            c::FUTEX_OP_CMP_EQ => word == against,
            c::FUTEX_OP_CMP_NE => word != against,
            c::FUTEX_OP_CMP_LT => word < against,
            c::FUTEX_OP_CMP_LE => word <= against,
            c::FUTEX_OP_CMP_GT => word > against,
            c::FUTEX_OP_CMP_GE => word >= against,
            _ => return Err(Errno::ENOSYS),
        })
    };
    (change, compare)
}

/// One of `struct futex_waitv`.
fn parse(mm: &Arc<Mm>, entry: &[u64]) -> Result<(Word, u32)> {
    let [value, address, flags] = *entry else { return Err(Errno::EINVAL) };
    // The upper half is reserved.
    if flags & !u64::from(c::FUTEX_32 | c::FUTEX_PRIVATE_FLAG) != 0 || flags & u64::from(c::FUTEX_32) == 0 {
        return Err(Errno::EINVAL);
    }
    if value > u64::from(u32::MAX) {
        return Err(Errno::EINVAL);
    }
    let key = Key::of(mm, address, flags & u64::from(c::FUTEX_PRIVATE_FLAG) != 0)?;
    Ok((Word { mm: mm.clone(), address, key }, value as u32))
}

fn waitv(cx: &mut Cx<'_>, [entries, count, flags, timeout, clock, ..]: Args) -> SysResult {
    if flags as u32 != 0 || count as u32 == 0 || count as u32 > c::FUTEX_WAITV_MAX || entries == 0 {
        return Err(Errno::EINVAL);
    }
    let mm = cx.task.mm();
    let deadline = deadline_by(cx, timeout, clock)?;
    let raw: Vec<u64> = mm.get_all(entries, count as u32 as usize * 3)?;
    let words = raw.chunks(3).map(|entry| parse(&mm, entry)).collect::<Result<Vec<_>>>()?;
    let mut waiting = Vec::with_capacity(words.len());
    for (word, expected) in &words {
        let one = Waiting { waiter: Waiter::plain(cx.task, ANY) };
        if let Err(errno) = cx.kernel.futexes.enqueue(&one.waiter, word, *expected) {
            // A wake-up that came meanwhile must not be lost.
            return give_up(&waiting).map(Flow::from).ok_or(errno);
        }
        waiting.push(one);
    }
    let waiters: Vec<_> = waiting.iter().map(|one| one.waiter.clone()).collect();
    let wait =
        until_woken(
            cx.task,
            deadline,
            move || {
                if waiters.iter().any(|waiter| waiter.is_woken()) { Ok(()) } else { Err(Errno::EAGAIN) }
            },
        );
    Ok(Flow::block(async move {
        let outcome = wait.await;
        match (give_up(&waiting), outcome) {
            (Some(index), _) => Ok(index as u64),
            (None, Err(Ended::TimedOut)) => Err(Errno::ETIMEDOUT),
            (None, _) => Err(Errno::RESTARTSYS),
        }
    }))
}

/// None of them waits any more; answers the last that was woken.
fn give_up(waiting: &[Waiting]) -> Option<usize> {
    // Each must give up, so this looks at all of them.
    waiting.iter().enumerate().fold(None, |last, (index, one)| if one.give_up() { last } else { Some(index) })
}

fn get_robust_list(cx: &mut Cx<'_>, [pid, head, len, ..]: Args) -> SysResult {
    let task = match pid as i32 {
        0 => cx.task.clone(),
        pid => cx.kernel.pids.task(cx.task.number_of(pid)).ok_or(Errno::ESRCH)?,
    };
    let (own, other) = (cx.task.credentials(), task.credentials());
    if !Arc::ptr_eq(&task.process, &cx.task.process)
        && own.uid.effective != other.uid.real
        && !own.has_in(&other.space, c::CAP_SYS_PTRACE)
    {
        return Err(Errno::EPERM);
    }
    let mm = cx.task.mm();
    mm.put(len, &(size_of::<RobustListHead>() as u64))?;
    mm.put(head, &task.robust_list.load(core::sync::atomic::Ordering::Relaxed))?;
    Ok(Flow::Done(0))
}
