//! Waiting for several files: `poll ppoll select pselect6`.

use super::events::milliseconds;
use super::{Args, Cx, Entry, full};
use crate::fs::Description;
use crate::mm::Mm;
use crate::signal::SigSet;
use crate::task::Task;
use crate::wait::{Ended, Events, Outcome, Pollable, until};
use crate::{Errno, Flow, Result, SysResult};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;
use insula_abi::Sysno;
use insula_abi::file::Pollfd;
use insula_abi::general as c;
use insula_abi::time::{Timespec, Timeval};
use insula_abi::zerocopy::IntoBytes;

pub(super) const CALLS: &[Entry] = &[
    full(Sysno::poll, |cx, [entries, count, timeout, ..]| {
        let deadline = milliseconds(cx, timeout);
        poll(cx, entries, count, deadline)
    }),
    full(Sysno::ppoll, ppoll),
    full(Sysno::select, select),
    full(Sysno::pselect6, pselect6),
];

/// Files that are waited for together.
type Watched = Vec<(Arc<Description>, Events)>;

/// Waits until `look` finds something, or all is over.
fn wait(
    task: &Arc<Task>,
    watched: &Watched,
    deadline: Option<u64>,
    look: impl FnMut() -> Result<u64> + Send + Unpin + 'static,
) -> Pin<Box<dyn Future<Output = Outcome<u64>> + Send>> {
    let sources: Vec<(&dyn Pollable, Events)> =
        watched.iter().map(|(file, events)| (&*file.file as &dyn Pollable, *events)).collect();
    Box::pin(until(task, &sources, deadline, look))
}

/// What poll(2) waits for: the program's entries, and the files they name.
#[derive(Clone)]
struct Polled {
    mm: Arc<Mm>,
    at: u64,
    entries: Vec<Pollfd>,
    files: Vec<Option<Arc<Description>>>,
}

impl Polled {
    fn read(cx: &Cx<'_>, at: u64, count: u64) -> Result<Polled> {
        let count = count as u32;
        if u64::from(count) > cx.task.process.limit(c::RLIMIT_NOFILE) {
            return Err(Errno::EINVAL);
        }
        let mm = cx.task.mm();
        let entries: Vec<Pollfd> = mm.get_all(at, count as usize)?;
        let descriptors = cx.task.descriptors();
        let files = entries.iter().map(|entry| descriptors.get(entry.fd).ok()).collect();
        Ok(Polled { mm, at, entries, files })
    }

    fn watched(&self) -> Watched {
        let pairs = self.entries.iter().zip(&self.files);
        pairs.filter_map(|(entry, file)| Some((file.clone()?, wanted(entry.events)))).collect()
    }

    /// How many have something to report.
    fn look(&mut self) -> u64 {
        let mut count = 0;
        for (entry, file) in self.entries.iter_mut().zip(&self.files) {
            let found = match file {
                _ if entry.fd < 0 => Events::empty(),
                None => Events::NVAL,
                Some(file) => file.file.poll() & wanted(entry.events),
            };
            entry.revents = found.bits() as u16;
            count += u64::from(!found.is_empty());
        }
        count
    }

    /// Tells the program; only what is found is written, for the rest of an entry is the program's.
    fn write(&self) -> Result<()> {
        for (index, entry) in self.entries.iter().enumerate() {
            self.mm.put(self.at + index as u64 * size_of::<Pollfd>() as u64 + 6, &entry.revents)?;
        }
        Ok(())
    }
}

fn wanted(events: u16) -> Events {
    Events::from_bits_truncate(u32::from(events)) | Events::ALWAYS
}

/// A finished poll, or the wait for it: answers what the wait came to, once results are written.
enum Begun<F> {
    Done(u64),
    Waits(F),
}

fn begin(
    cx: &Cx<'_>,
    mut polled: Polled,
    deadline: Option<u64>,
) -> Result<Begun<impl Future<Output = Outcome<u64>> + Send + use<>>> {
    let found = polled.look();
    if found > 0 || deadline.is_some_and(|deadline| deadline <= cx.kernel.host.clock.monotonic()) {
        polled.write()?;
        return Ok(Begun::Done(found));
    }
    let watched = polled.watched();
    let mut looked = polled.clone();
    let wait = wait(cx.task, &watched, deadline, move || match looked.look() {
        0 => Err(Errno::EAGAIN),
        count => looked.write().map(|()| count),
    });
    Ok(Begun::Waits(async move {
        match wait.await {
            Err(Ended::TimedOut) => Ok(polled.write().map(|()| 0)),
            outcome => outcome,
        }
    }))
}

fn poll(cx: &mut Cx<'_>, entries: u64, count: u64, deadline: Option<u64>) -> SysResult {
    let wait = match begin(cx, Polled::read(cx, entries, count)?, deadline)? {
        Begun::Done(count) => return Ok(Flow::Done(count)),
        Begun::Waits(wait) => wait,
    };
    let task = cx.task.clone();
    Ok(Flow::block(async move {
        match wait.await {
            Ok(outcome) => outcome,
            Err(_) => Err(task.restart_with(move |cx| poll(cx, entries, count, deadline))),
        }
    }))
}

fn ppoll(cx: &mut Cx<'_>, [entries, count, timeout, mask, size, ..]: Args) -> SysResult {
    let limit = Limit::timespec(cx, timeout)?;
    let mask = Mask::read(cx, mask, size)?;
    let polled = Polled::read(cx, entries, count)?;
    match begin(cx, polled, limit.deadline)? {
        Begun::Done(count) => limit.finish(cx.task, Ok(Ok(count))).map(Flow::Done),
        Begun::Waits(wait) => Ok(limit.block(cx.task, mask, wait)),
    }
}

/// A relative timeout in user memory, which a call updates to what is left of it.
struct Limit {
    at: u64,
    deadline: Option<u64>,
    micros: bool,
}

impl Limit {
    fn timespec(cx: &Cx<'_>, at: u64) -> Result<Limit> {
        let span = if at == 0 { None } else { Some(cx.task.mm().get::<Timespec>(at)?.to_nanos()?) };
        Ok(Limit { at, deadline: span.map(|span| cx.kernel.host.clock.monotonic().saturating_add(span)), micros: false })
    }

    fn timeval(cx: &Cx<'_>, at: u64) -> Result<Limit> {
        let span = match at {
            0 => None,
            at => {
                let value = cx.task.mm().get::<Timeval>(at)?;
                // Unlike elsewhere, whole seconds may be said in microseconds.
                let seconds = value.sec.checked_add(value.usec.div_euclid(1_000_000)).ok_or(Errno::EINVAL)?;
                if value.usec < 0 {
                    return Err(Errno::EINVAL);
                }
                Some(Timeval { sec: seconds, usec: value.usec % 1_000_000 }.to_nanos()?)
            }
        };
        Ok(Limit { at, deadline: span.map(|span| cx.kernel.host.clock.monotonic().saturating_add(span)), micros: true })
    }

    /// The result of a call, once the program knows what is left of the time.
    fn finish(&self, task: &Task, outcome: Outcome<u64>) -> Result<u64> {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(Ended::TimedOut) => Ok(0),
            Err(Ended::Interrupted) => Err(Errno::RESTARTNOHAND),
        };
        let Some(deadline) = self.deadline else { return outcome };
        let left = deadline.saturating_sub(task.kernel().host.clock.monotonic());
        let mm = task.mm();
        let written = match self.micros {
            true => mm.put(self.at, &Timeval::from_nanos(left)),
            false => mm.put(self.at, &Timespec::from_nanos(left)),
        };
        match outcome {
            // It can't begin again with the time that is left.
            Err(Errno::RESTARTNOHAND) if written.is_err() => Err(Errno::EINTR),
            outcome => outcome,
        }
    }

    fn block(self, task: &Arc<Task>, mask: Mask, wait: impl Future<Output = Outcome<u64>> + Send + 'static) -> Flow {
        let mask = mask.apply(task);
        let task = task.clone();
        Flow::block(async move {
            let outcome = wait.await;
            mask.end(matches!(outcome, Err(Ended::Interrupted)));
            self.finish(&task, outcome)
        })
    }
}

/// What select(2) waits for in each of its three sets: how poll(2) would say it.
const SETS: [Events; 3] = [
    Events::READABLE.union(Events::RDBAND).union(Events::HUP).union(Events::ERR),
    Events::WRITABLE.union(Events::ERR),
    Events::PRI,
];

/// The sets of a select(2).
struct Selected {
    mm: Arc<Mm>,
    /// Where the sets lie, and what was in them.
    sets: [(u64, Vec<u64>); 3],
    files: Vec<(usize, Arc<Description>)>,
}

impl Selected {
    fn read(cx: &Cx<'_>, count: u64, sets: [u64; 3]) -> Result<Selected> {
        let count = usize::try_from(count as i32).map_err(|_| Errno::EINVAL)?;
        let descriptors = cx.task.descriptors();
        // Beyond what could be open, bits have no meaning.
        let open = descriptors.all().last().map_or(0, |(fd, _)| *fd as usize + 1);
        let count = count.min(open.next_power_of_two().max(64));
        let mm = cx.task.mm();
        let mut all = [0, 1, 2].map(|which| (sets[which], vec![0u64; count.div_ceil(64)]));
        for (at, bits) in &mut all {
            if *at != 0 {
                mm.read(*at, bits.as_mut_slice().as_mut_bytes())?;
                if let Some(last) = bits.last_mut().filter(|_| count % 64 != 0) {
                    *last &= (1 << (count % 64)) - 1;
                }
            }
        }
        let any = |fd: usize| all.iter().any(|(_, bits)| bits[fd / 64] >> (fd % 64) & 1 != 0);
        let files = (0..count).filter(|fd| any(*fd)).map(|fd| Ok((fd, descriptors.get(fd as i32)?))).collect::<Result<_>>()?;
        Ok(Selected { mm, sets: all, files })
    }

    fn wants(&self, which: usize, fd: usize) -> bool {
        self.sets[which].1[fd / 64] >> (fd % 64) & 1 != 0
    }

    fn watched(&self) -> Watched {
        let events = |fd| (0..3).filter(|which| self.wants(*which, fd)).fold(Events::empty(), |all, which| all | SETS[which]);
        self.files.iter().map(|(fd, file)| (file.clone(), events(*fd))).collect()
    }

    /// How many bits are to be set, and those.
    fn look(&self) -> (u64, [Vec<u64>; 3]) {
        let mut found = [0, 1, 2].map(|which: usize| vec![0; self.sets[which].1.len()]);
        let mut count = 0;
        for (fd, file) in &self.files {
            let events = file.file.poll();
            for which in 0..3 {
                if self.wants(which, *fd) && events.intersects(SETS[which]) {
                    found[which][fd / 64] |= 1 << (fd % 64);
                    count += 1;
                }
            }
        }
        (count, found)
    }

    fn write(&self, found: &[Vec<u64>; 3]) -> Result<()> {
        for ((at, _), bits) in self.sets.iter().zip(found) {
            if *at != 0 {
                self.mm.write(*at, bits.as_slice().as_bytes())?;
            }
        }
        Ok(())
    }
}

fn select(cx: &mut Cx<'_>, [count, read, write, except, timeout, ..]: Args) -> SysResult {
    let limit = Limit::timeval(cx, timeout)?;
    select_with(cx, count, [read, write, except], limit, Mask::NONE)
}

fn pselect6(cx: &mut Cx<'_>, [count, read, write, except, timeout, mask]: Args) -> SysResult {
    let mask = match mask {
        0 => Mask::NONE,
        at => {
            let [mask, size] = cx.task.mm().get::<[u64; 2]>(at)?;
            Mask::read(cx, mask, size)?
        }
    };
    let limit = Limit::timespec(cx, timeout)?;
    select_with(cx, count, [read, write, except], limit, mask)
}

fn select_with(cx: &mut Cx<'_>, count: u64, sets: [u64; 3], limit: Limit, mask: Mask) -> SysResult {
    let selected = Arc::new(Selected::read(cx, count, sets)?);
    let (count, found) = selected.look();
    if count > 0 || limit.deadline.is_some_and(|deadline| deadline <= cx.kernel.host.clock.monotonic()) {
        selected.write(&found)?;
        return limit.finish(cx.task, Ok(Ok(count))).map(Flow::Done);
    }
    let looked = selected.clone();
    let wait = wait(cx.task, &selected.watched(), limit.deadline, move || match looked.look() {
        (0, _) => Err(Errno::EAGAIN),
        (count, found) => looked.write(&found).map(|()| count),
    });
    Ok(limit.block(cx.task, mask, async move {
        match wait.await {
            Err(Ended::TimedOut) => Ok(selected.write(&selected.look().1).map(|()| 0)),
            outcome => outcome,
        }
    }))
}

/// A mask of signals for the time of a call (ppoll(2), pselect(2), epoll_pwait(2)).
pub(super) struct Mask(Option<u64>);

impl Mask {
    pub(super) const NONE: Mask = Mask(None);

    /// The one at `at`, of `size` bytes.
    pub(super) fn read(cx: &Cx<'_>, at: u64, size: u64) -> Result<Mask> {
        match at {
            0 => Ok(Mask::NONE),
            _ if size != 8 => Err(Errno::EINVAL),
            at => Ok(Mask(Some(cx.task.mm().get(at)?))),
        }
    }

    /// Puts it in place.
    pub(super) fn apply(self, task: &Arc<Task>) -> Applied {
        match self.0 {
            Some(mask) => {
                task.set_temporary_mask(SigSet(mask));
                Applied(Some(task.clone()))
            }
            None => Applied(None),
        }
    }
}

/// A mask that is in place.
pub(super) struct Applied(Option<Arc<Task>>);

impl Applied {
    /// The call is over. If a signal ended it, the mask stays until the signal is taken.
    pub(super) fn end(self, interrupted: bool) {
        if let Some(task) = self.0.filter(|_| !interrupted) {
            task.end_temporary_mask();
        }
    }
}
