//! PID namespaces, pid_namespaces(7): which numbers tasks, process groups and sessions have in one.
//!
//! In the kernel each has the number that it has in the first namespace; in one below it has another, too, and others have none. It is
//! translated where a program says a number or is told one, and nowhere else.

use super::pids::{MOST, Tree};
use super::spaces::{Counted, first, new_number};
use super::{Process, Task, UserNamespace};
use crate::sync::Mutex;
use crate::{Errno, Kernel, Result};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicI32, Ordering};
use insula_abi::general as c;

/// How deep they may lie in each other.
const DEEPEST: u32 = 32;

/// A number that nobody has.
const NOBODY: i32 = i32::MAX;

/// A PID namespace. The first one, in which all have the kernel's numbers, costs nothing.
#[derive(Clone, Default)]
pub struct PidNamespace(Option<Arc<Inner>>);

struct Inner {
    number: u64,
    parent: PidNamespace,
    level: u32,
    owner: UserNamespace,
    numbers: Mutex<Numbers>,
    /// The kernel's number of its first process; 0 if there was none yet.
    init: AtomicI32,
    _counted: Counted,
}

/// The numbers in a namespace; taken with the process tree locked, or alone.
#[derive(Default)]
struct Numbers {
    of_name: BTreeMap<i32, i32>,
    name_of: BTreeMap<i32, i32>,
    last: i32,
    /// Its first process has ended: nobody begins in it any more.
    closed: bool,
}

impl PartialEq for PidNamespace {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (own, other) => own.is_none() && other.is_none(),
        }
    }
}

impl PidNamespace {
    /// A new one in this, which belongs to `owner`.
    ///
    /// # Errors
    /// `ENOSPC`: too deep, or too many.
    pub(super) fn new_below(&self, kernel: &Kernel, owner: &UserNamespace) -> Result<Self> {
        let level = self.level() + 1;
        if level > DEEPEST {
            return Err(Errno::ENOSPC);
        }
        Ok(PidNamespace(Some(Arc::new(Inner {
            number: new_number(kernel),
            parent: self.clone(),
            level,
            owner: owner.clone(),
            numbers: Mutex::default(),
            init: AtomicI32::new(0),
            _counted: Counted::one(&kernel.namespaces.pid)?,
        }))))
    }

    /// What tells it from others.
    pub fn number(&self) -> u64 {
        self.0.as_ref().map_or(first::PID, |inner| inner.number)
    }

    /// Whether it is the kernel's first.
    pub const fn is_first(&self) -> bool {
        self.0.is_none()
    }

    /// How deep it lies; the first is 0.
    pub fn level(&self) -> u32 {
        self.0.as_ref().map_or(0, |inner| inner.level)
    }

    /// The one that it lies in; the first lies in none.
    pub fn parent(&self) -> Option<&PidNamespace> {
        self.0.as_ref().map(|inner| &inner.parent)
    }

    /// Whose capabilities count in it.
    pub fn owner(&self) -> UserNamespace {
        self.0.as_ref().map(|inner| inner.owner.clone()).unwrap_or_default()
    }

    /// Whether it is `other`, or lies in it however deep.
    pub fn is_within(&self, other: &PidNamespace) -> bool {
        other.is_first() || self == other || self.parent().is_some_and(|parent| parent.is_within(other))
    }

    /// The kernel's number of its first process, if it isn't the kernel's first namespace.
    pub fn init(&self) -> Option<i32> {
        self.0.as_ref().map(|inner| inner.init.load(Ordering::Relaxed))
    }

    /// The number that was given out in it last, if it isn't the kernel's first.
    pub fn last(&self) -> Option<i32> {
        self.0.as_ref().map(|inner| inner.numbers.lock().last)
    }

    /// What programs in it are told of whom the kernel calls `number`: 0 if they don't see it.
    pub fn name_of(&self, number: i32) -> i32 {
        self.0.as_ref().map_or(number, |inner| inner.name_of(number))
    }

    /// The kernel's number of whom a program in it calls `name`; one that nobody has, if it doesn't see any. What is no number stays as it is.
    pub fn number_of(&self, name: i32) -> i32 {
        self.0.as_ref().map_or(name, |inner| inner.number_of(name))
    }

    /// All numbers of a task, from this namespace down to that which it is in: `NSpid` of proc(5).
    pub fn all_names(&self, process: &Process, number: i32) -> alloc::string::String {
        let mut at = Some(&process.space);
        let mut text = alloc::string::String::new();
        while let Some(space) = at {
            text = alloc::format!("\t{}{text}", space.name_of(number));
            at = if space == self { None } else { space.parent() };
        }
        text
    }

    /// Whom the kernel calls `number` has a number in it, and in those that it lies in. In it that is `wanted`, if that isn't 0.
    ///
    /// # Errors
    /// `ENOMEM`: its first process has ended. `EEXIST`, `EINVAL`: `wanted` can't be had. `EAGAIN`: none is left.
    fn enroll(&self, number: i32, wanted: i32) -> Result<()> {
        let Some(inner) = &self.0 else { return Ok(()) };
        inner.parent.enroll(number, 0)?;
        let mut numbers = inner.numbers.lock();
        let taken = match wanted {
            _ if numbers.closed => Err(Errno::ENOMEM),
            0 => numbers.next(),
            _ if numbers.last == 0 && wanted != 1 => Err(Errno::EINVAL),
            _ if numbers.of_name.contains_key(&wanted) => Err(Errno::EEXIST),
            _ => Ok(wanted),
        };
        let name = match taken {
            Ok(name) => name,
            Err(errno) => {
                drop(numbers);
                inner.parent.forget(number);
                return Err(errno);
            }
        };
        if numbers.last == 0 {
            inner.init.store(number, Ordering::Relaxed);
        }
        if wanted == 0 || numbers.last == 0 {
            numbers.last = name;
        }
        numbers.of_name.insert(name, number);
        numbers.name_of.insert(number, name);
        Ok(())
    }

    /// Whom the kernel calls `number` is gone.
    fn forget(&self, number: i32) {
        let mut at = self.0.as_ref();
        while let Some(inner) = at {
            let mut numbers = inner.numbers.lock();
            if let Some(name) = numbers.name_of.remove(&number) {
                numbers.of_name.remove(&name);
                numbers.closed |= inner.init.load(Ordering::Relaxed) == number;
            }
            drop(numbers);
            at = inner.parent.0.as_ref();
        }
    }

    /// Nobody begins in it any more.
    pub(super) fn close(&self) {
        if let Some(inner) = &self.0 {
            inner.numbers.lock().closed = true;
        }
    }
}

// Apart, for the way of those in the first namespace to stay short wherever a number is told.
impl Inner {
    #[inline(never)]
    fn name_of(&self, number: i32) -> i32 {
        if number > 0 { self.numbers.lock().name_of.get(&number).copied().unwrap_or(0) } else { number }
    }

    #[inline(never)]
    fn number_of(&self, name: i32) -> i32 {
        if name > 0 { self.numbers.lock().of_name.get(&name).copied().unwrap_or(NOBODY) } else { name }
    }
}

impl Numbers {
    fn next(&mut self) -> Result<i32> {
        let mut name = self.last;
        for _ in 0..MOST {
            // As on Linux, low numbers are given out but once.
            name = if name >= MOST - 1 { 300 } else { name + 1 };
            if !self.of_name.contains_key(&name) {
                return Ok(name);
            }
        }
        Err(Errno::EAGAIN)
    }
}

impl Tree {
    /// Whom the kernel calls `number`, which was just given out, has one in `space`, too.
    ///
    /// # Errors
    /// Those of [`PidNamespace::enroll`].
    pub(super) fn enroll(&mut self, number: i32, space: &PidNamespace, wanted: i32) -> Result<()> {
        if !space.is_first() {
            space.enroll(number, wanted)?;
            self.enrolled.insert(number, space.clone());
        }
        Ok(())
    }

    /// Nobody needs a number any more, in whatever namespace.
    pub(super) fn forget(&mut self, number: i32) {
        if let Some(space) = self.enrolled.remove(&number) {
            space.forget(number);
        }
    }
}

impl Process {
    /// Whether its namespace begins and ends with it; of the kernel's first, see [`Process::ordinary`].
    pub fn is_first_of_namespace(&self) -> bool {
        self.space.init() == Some(self.pid)
    }
}

impl Task {
    /// What it is told of a task, process, group or session; 0 if it doesn't see it.
    pub fn name_of(&self, number: i32) -> i32 {
        self.process.space.name_of(number)
    }

    /// The kernel's number of a task, process, group or session that it names; one that nobody has, if it doesn't see it.
    pub fn number_of(&self, name: i32) -> i32 {
        self.process.space.number_of(name)
    }
}

/// The namespace of a task that `maker` makes with these `CLONE_*`, which may belong to `owner`.
///
/// # Errors
/// `EINVAL`: it can't be in another than its maker's. `ENOSPC`.
pub(crate) fn of_child(maker: &Task, flags: u64, owner: &UserNamespace) -> Result<PidNamespace> {
    let (own, next) = (&maker.process.space, maker.spaces.lock().pids.clone());
    let new = flags & u64::from(c::CLONE_NEWPID) != 0;
    if (new || flags & u64::from(c::CLONE_THREAD) != 0) && *own != next {
        return Err(Errno::EINVAL);
    }
    if new { next.new_below(maker.kernel(), owner) } else { Ok(next) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(parent: &PidNamespace) -> PidNamespace {
        PidNamespace(Some(Arc::new(Inner {
            number: 0,
            parent: parent.clone(),
            level: parent.level() + 1,
            owner: UserNamespace::default(),
            numbers: Mutex::default(),
            init: AtomicI32::new(0),
            _counted: Counted::one(&Arc::default()).unwrap_or_else(|_| unreachable!("the first of all")),
        })))
    }

    #[test]
    fn a_number_has_a_name_on_each_level() {
        let outer = below(&PidNamespace::default());
        let inner = below(&outer);
        assert_eq!(outer.enroll(70, 0), Ok(()));
        assert_eq!(inner.enroll(71, 0), Ok(()));
        assert_eq!((outer.name_of(70), outer.name_of(71), inner.name_of(71), inner.name_of(70)), (1, 2, 1, 0));
        assert_eq!((inner.number_of(1), outer.number_of(2), inner.number_of(2), inner.number_of(-1)), (71, 71, NOBODY, -1));
        inner.forget(71);
        assert_eq!((outer.name_of(71), inner.name_of(71)), (0, 0));
    }

    #[test]
    fn what_cannot_begin_leaves_nothing_behind() {
        let outer = below(&PidNamespace::default());
        assert_eq!(outer.enroll(70, 2), Err(Errno::EINVAL));
        assert_eq!(outer.enroll(70, 0), Ok(()));
        assert_eq!(outer.enroll(71, 1), Err(Errno::EEXIST));
        let inner = below(&outer);
        inner.close();
        assert_eq!(inner.enroll(72, 0), Err(Errno::ENOMEM));
        assert_eq!(outer.name_of(72), 0);
        // With its first process it is over.
        outer.forget(70);
        assert_eq!(outer.enroll(73, 0), Err(Errno::ENOMEM));
    }
}
