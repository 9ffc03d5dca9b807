//! User namespaces, user_namespaces(7): where capabilities count, and which numbers users and groups have there.
//!
//! In the kernel every user and every group has the number that it has in the first namespace. It is translated where a program says a
//! number or is told one, and nowhere else; so what compares numbers needs to know nothing of namespaces.

use super::spaces::Counted;
use super::{Credentials, Task};
use crate::sync::Mutex;
use crate::{Errno, Result};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use insula_abi::general as c;

/// How deep they may lie in each other.
const DEEPEST: u32 = 32;

/// The most lines of a map.
const MOST_LINES: usize = 340;

/// What stands for those that have no number in a namespace (`/proc/sys/kernel/overflowuid`).
pub const NOBODY: u32 = 65534;

/// A user namespace. The first one, in which everybody has a number, costs nothing.
#[derive(Clone, Default)]
pub struct UserNamespace(Option<Arc<Inner>>);

struct Inner {
    number: u64,
    parent: UserNamespace,
    level: u32,
    owner: u32,
    users: Mutex<Map>,
    groups: Mutex<Map>,
    projects: Mutex<Map>,
    /// setgroups(2) is refused for good.
    denies_groups: AtomicBool,
    /// Its maker had `CAP_SETFCAP`, without which the parent's root must not be mapped.
    by_setfcap: bool,
    _counted: Counted,
}

impl core::fmt::Debug for UserNamespace {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "user:[{}]", self.number())
    }
}

impl PartialEq for UserNamespace {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (own, other) => own.is_none() && other.is_none(),
        }
    }
}

/// Which numbers of a namespace are which in the first; empty until it is set.
type Map = Vec<Range>;

#[derive(Clone, Copy)]
struct Range {
    inside: u32,
    outside: u32,
    count: u32,
}

/// What a map is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Users, `uid_map`.
    Users,
    /// Groups, `gid_map`.
    Groups,
    /// Projects of quotas, `projid_map`.
    Projects,
}

// Apart, for the way of those in the first namespace to stay short wherever a number is told.
impl Inner {
    #[inline(never)]
    fn translate(&self, kind: Kind, number: u32, from_inside: bool) -> Option<u32> {
        self.map(kind).lock().iter().find_map(|range| {
            let (from, to) = if from_inside { (range.inside, range.outside) } else { (range.outside, range.inside) };
            number.checked_sub(from).filter(|offset| *offset < range.count).map(|offset| to + offset)
        })
    }

    #[inline(never)]
    fn show(&self, kind: Kind, number: u32) -> u32 {
        self.translate(kind, number, false).unwrap_or(NOBODY)
    }

    fn map(&self, kind: Kind) -> &Mutex<Map> {
        match kind {
            Kind::Users => &self.users,
            Kind::Groups => &self.groups,
            Kind::Projects => &self.projects,
        }
    }
}

impl UserNamespace {
    /// A new one below that of `task`, who owns it.
    ///
    /// # Errors
    /// `ENOSPC`: too deep, or too many. `EPERM`: it stands in a root of its own, or is nobody in the namespace that it is in.
    pub(super) fn new(task: &Task) -> Result<Self> {
        let maker = task.credentials();
        let parent = maker.space.clone();
        let level = parent.0.as_ref().map_or(0, |inner| inner.level) + 1;
        if level > DEEPEST {
            return Err(Errno::ENOSPC);
        }
        let known = parent.knows(Kind::Users, maker.uid.effective) && parent.knows(Kind::Groups, maker.gid.effective);
        if !known || task.fs().lock().is_confined() {
            return Err(Errno::EPERM);
        }
        let counted = Counted::one(&task.kernel().namespaces.user)?;
        Ok(UserNamespace(Some(Arc::new(Inner {
            number: super::spaces::new_number(task.kernel()),
            denies_groups: AtomicBool::new(parent.0.as_ref().is_some_and(|inner| inner.denies_groups.load(Ordering::Relaxed))),
            parent,
            level,
            owner: maker.uid.effective,
            users: Mutex::default(),
            groups: Mutex::default(),
            projects: Mutex::default(),
            by_setfcap: maker.has_own(c::CAP_SETFCAP),
            _counted: counted,
        }))))
    }

    /// What tells it from others.
    pub fn number(&self) -> u64 {
        self.0.as_ref().map_or(super::spaces::first::USER, |inner| inner.number)
    }

    /// Whether it is the kernel's first.
    pub const fn is_first(&self) -> bool {
        self.0.is_none()
    }

    /// The one that it lies in; the first lies in none.
    pub fn parent(&self) -> Option<&UserNamespace> {
        self.0.as_ref().map(|inner| &inner.parent)
    }

    /// Who made it.
    pub fn owner(&self) -> u32 {
        self.0.as_ref().map_or(0, |inner| inner.owner)
    }

    /// Whether it is `other`, or lies in it however deep.
    pub fn is_within(&self, other: &UserNamespace) -> bool {
        self == other || self.parent().is_some_and(|parent| parent.is_within(other))
    }

    /// The kernel's number of whom a program in it calls `inside`.
    pub fn number_of(&self, kind: Kind, inside: u32) -> Option<u32> {
        match &self.0 {
            None => (inside != u32::MAX).then_some(inside),
            Some(inner) => inner.translate(kind, inside, true),
        }
    }

    /// The kernel's number of the first of those whom a map made by a program in it calls `range`; all lie in one range of this one, too.
    fn numbers_of(&self, kind: Kind, range: &Range) -> Option<u32> {
        let Some(inner) = &self.0 else { return Some(range.outside) };
        inner.map(kind).lock().iter().find_map(|own| {
            let offset = range.outside.checked_sub(own.inside)?;
            own.count.checked_sub(offset).filter(|rest| *rest >= range.count).map(|_| own.outside + offset)
        })
    }

    /// What programs in it call whom the kernel calls `number`, if anything.
    pub fn name_of(&self, kind: Kind, number: u32) -> Option<u32> {
        match &self.0 {
            None => (number != u32::MAX).then_some(number),
            Some(inner) => inner.translate(kind, number, false),
        }
    }

    /// Whether somebody has a number in it.
    pub fn knows(&self, kind: Kind, number: u32) -> bool {
        self.name_of(kind, number).is_some()
    }

    /// The kernel's number of a user that a program names.
    ///
    /// # Errors
    /// `EINVAL`: there is none.
    pub fn user(&self, inside: u32) -> Result<u32> {
        self.number_of(Kind::Users, inside).ok_or(Errno::EINVAL)
    }

    /// The kernel's number of a group that a program names.
    ///
    /// # Errors
    /// `EINVAL`: there is none.
    pub fn group(&self, inside: u32) -> Result<u32> {
        self.number_of(Kind::Groups, inside).ok_or(Errno::EINVAL)
    }

    /// What a program is told of a user.
    pub fn show_user(&self, number: u32) -> u32 {
        self.0.as_ref().map_or(number, |inner| inner.show(Kind::Users, number))
    }

    /// What a program is told of a group.
    pub fn show_group(&self, number: u32) -> u32 {
        self.0.as_ref().map_or(number, |inner| inner.show(Kind::Groups, number))
    }

    /// Whether this user is its superuser.
    pub fn is_root(&self, number: u32) -> bool {
        self.name_of(Kind::Users, number) == Some(0)
    }

    /// Whether setgroups(2) may be called in it.
    pub fn allows_groups(&self) -> bool {
        self.0.as_ref().is_none_or(|inner| !inner.denies_groups.load(Ordering::Relaxed) && !inner.groups.lock().is_empty())
    }

    /// `/proc/PID/uid_map` and its kin, as somebody in `reader` sees it: in the second column are its own numbers, or the parent's if it is in there.
    pub fn show_map(&self, kind: Kind, reader: &UserNamespace) -> String {
        let outer = if reader == self { self.parent().unwrap_or(self) } else { reader };
        let map = self.0.as_ref().map_or_else(
            || alloc::vec![Range { inside: 0, outside: 0, count: u32::MAX }],
            |inner| inner.map(kind).lock().clone(),
        );
        let line = |range: &Range| {
            let outside = outer.name_of(kind, range.outside).unwrap_or(u32::MAX);
            format!("{:10} {outside:10} {:10}\n", range.inside, range.count)
        };
        map.iter().map(line).collect()
    }

    /// Sets a map, once; `opener` opened the file, `writer` writes to it.
    ///
    /// # Errors
    /// `EINVAL`: it is none. `EPERM`: it is set already, or they may not.
    pub fn set_map(&self, kind: Kind, opener: &Credentials, writer: &Credentials, text: &[u8]) -> Result<()> {
        let inner = self.0.as_ref().ok_or(Errno::EPERM)?;
        if opener.space != *self && opener.space != inner.parent {
            return Err(Errno::EPERM);
        }
        let mut known = inner.map(kind).lock();
        if !known.is_empty() || kind != Kind::Projects && !opener.has_in(self, c::CAP_SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
        let mut map = parse(text)?;
        self.check_map(inner, kind, opener, writer, &map)?;
        for range in &mut map {
            range.outside = inner.parent.numbers_of(kind, range).ok_or(Errno::EPERM)?;
        }
        *known = map;
        Ok(())
    }

    /// Who may map whom, user_namespaces(7) at "Defining user and group ID mappings".
    fn check_map(&self, inner: &Inner, kind: Kind, opener: &Credentials, writer: &Credentials, map: &Map) -> Result<()> {
        let parent = &inner.parent;
        if kind == Kind::Users && map.iter().any(|range| range.outside == 0) {
            let may = if opener.space == *self { inner.by_setfcap } else { opener.has_in(parent, c::CAP_SETFCAP) };
            if !may {
                return Err(Errno::EPERM);
            }
        }
        if let [Range { outside, count: 1, .. }] = map[..]
            && inner.owner == opener.uid.effective
        {
            let own = match kind {
                Kind::Users => parent.number_of(kind, outside) == Some(opener.uid.effective),
                // Who gives groups away must not gain by it what they take from their members.
                Kind::Groups => {
                    inner.denies_groups.load(Ordering::Relaxed) && parent.number_of(kind, outside) == Some(opener.gid.effective)
                }
                Kind::Projects => false,
            };
            if own {
                return Ok(());
            }
        }
        let capability = match kind {
            Kind::Users => c::CAP_SETUID,
            Kind::Groups => c::CAP_SETGID,
            Kind::Projects => return Ok(()),
        };
        if writer.has_in(parent, capability) && opener.has_in(parent, capability) { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// `/proc/PID/setgroups`.
    pub fn show_setgroups(&self) -> &'static [u8] {
        match &self.0 {
            Some(inner) if inner.denies_groups.load(Ordering::Relaxed) => b"deny\n",
            _ => b"allow\n",
        }
    }

    /// Allows or denies setgroups(2).
    ///
    /// # Errors
    /// `EINVAL`: neither is said. `EPERM`: it is too late, or they may not.
    pub fn set_setgroups(&self, opener: &Credentials, text: &[u8]) -> Result<()> {
        if !opener.has_in(self, c::CAP_SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
        let deny = match text.trim_ascii_end() {
            b"allow" => false,
            b"deny" => true,
            _ => return Err(Errno::EINVAL),
        };
        let Some(inner) = &self.0 else { return if deny { Err(Errno::EPERM) } else { Ok(()) } };
        // Under the lock of the map, which says whether it is too late.
        let groups = inner.groups.lock();
        let refused = if deny { !groups.is_empty() } else { inner.denies_groups.load(Ordering::Relaxed) };
        if refused {
            return Err(Errno::EPERM);
        }
        inner.denies_groups.store(deny, Ordering::Relaxed);
        Ok(())
    }
}

/// Reads a map: lines of three numbers, which don't overlap.
fn parse(text: &[u8]) -> Result<Map> {
    let text = core::str::from_utf8(text).map_err(|_| Errno::EINVAL)?;
    let text = text.split('\0').next().unwrap_or_default();
    let mut map = Map::new();
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        let numbers: Vec<u32> =
            line.split_ascii_whitespace().map(|word| word.parse().map_err(|_| Errno::EINVAL)).collect::<Result<_>>()?;
        let [inside, outside, count] = numbers[..] else { return Err(Errno::EINVAL) };
        let fits = |first: u32| first.checked_add(count).is_some_and(|end| end > first);
        let apart = |one: u32, its: u32, other: u32| one + its <= other || other + count <= one;
        if !fits(inside)
            || !fits(outside)
            || map.len() == MOST_LINES
            || !map.iter().all(|known| apart(known.inside, known.count, inside) && apart(known.outside, known.count, outside))
        {
            return Err(Errno::EINVAL);
        }
        map.push(Range { inside, outside, count });
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(parent: &UserNamespace, users: &[u8]) -> UserNamespace {
        UserNamespace(Some(Arc::new(Inner {
            number: 0,
            parent: parent.clone(),
            level: 1,
            owner: 1000,
            users: Mutex::new(parse(users).unwrap_or_default()),
            groups: Mutex::default(),
            projects: Mutex::default(),
            denies_groups: AtomicBool::new(false),
            by_setfcap: true,
            _counted: Counted::one(&Arc::default()).unwrap_or_else(|_| unreachable!("the first of all")),
        })))
    }

    #[test]
    fn maps_are_lines_of_three_numbers_apart() {
        for text in ["", "0 0", "0 0 0", "0 0 1 1", "0 0 1\n\n1 1 1", "0 0 5\n4 9 1", "0 0 5\n9 4 1", "4294967295 0 2", "-1 0 1"]
        {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
        let lines = |count: u32| (0..count).map(|line| format!("{line} {line} 1\n")).collect::<String>();
        assert_eq!(parse(lines(340).as_bytes()).map(|map| map.len()).unwrap_or(0), MOST_LINES);
        assert!(parse(lines(341).as_bytes()).is_err());
    }

    #[test]
    fn numbers_are_found_both_ways() {
        let space = below(&UserNamespace::default(), b"0 1000 1\n1 100000 10\n");
        for (inside, outside) in [(0, 1000), (1, 100_000), (10, 100_009)] {
            assert_eq!(
                (space.number_of(Kind::Users, inside), space.name_of(Kind::Users, outside)),
                (Some(outside), Some(inside))
            );
        }
        assert_eq!((space.user(11), space.show_user(0), space.show_user(100_010)), (Err(Errno::EINVAL), NOBODY, NOBODY));
        assert!(space.is_root(1000) && !space.is_root(0));
    }

    #[test]
    fn a_range_lies_in_one_of_the_parents() {
        let parent = below(&UserNamespace::default(), b"0 100 1\n5 105 1\n");
        let range = |outside, count| parent.numbers_of(Kind::Users, &Range { inside: 0, outside, count });
        assert_eq!((range(0, 1), range(5, 1), range(0, 6), range(1, 1)), (Some(100), Some(105), None, None));
    }

    #[test]
    fn capabilities_count_downward() {
        let first = Credentials::root(u64::MAX);
        let space = below(&first.space, b"0 1000 1");
        let inside = first.in_new(space.clone());
        let deeper = below(&space, b"");
        assert!(inside.has_own(c::CAP_KILL) && inside.has_in(&space, c::CAP_KILL) && inside.has_in(&deeper, c::CAP_KILL));
        assert!(!inside.has(c::CAP_KILL) && !inside.has_in(&first.space, c::CAP_KILL));
        assert!(first.has_in(&deeper, c::CAP_KILL));
        // Its owner may all in it, without any; nobody else.
        let mut user = Credentials::root(0);
        assert!(!user.has_in(&space, c::CAP_KILL));
        user.uid.effective = 1000;
        assert!(user.has_in(&space, c::CAP_KILL) && user.has_in(&deeper, c::CAP_KILL) && !user.has(c::CAP_KILL));
    }
}
