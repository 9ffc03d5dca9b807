//! What `run` does for a user who isn't root: a user namespace, in which that user is whom the program runs as.
//!
//! With subordinate IDs (`/etc/subuid`, `/etc/subgid`, and the programs that map them) a program that runs as root, or in a root
//! directory of its own, has others beside it; else there is one user and one group. Source: user_namespaces(7), subuid(5).

use super::options::Args;
use super::plan::Given;
use anyhow::{Context, ensure};
use insula_spec::Plan;
use insula_spec::defaults::{self, attr};
use insula_spec::plan::{IdMap, MountKind, Namespace, RootSource, User};
use insula_sys::host::namespaces::{self, Range, Subordinate};
use std::path::Path;

/// Whether this user's sandboxes need a user namespace.
pub(super) fn needed() -> bool {
    !rustix::process::geteuid().is_root()
}

/// Makes of a plan one that a plain user can carry out.
pub(super) fn adapt(plan: &mut Plan, args: &Args, given: &[Given]) -> anyhow::Result<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let (root, host) = match &plan.root.source {
        RootSource::Dir(path) | RootSource::Over { lower: path, .. } => (path.as_path(), false),
        RootSource::Host { .. } => (Path::new("/"), true),
    };
    let user = &mut plan.process.user;
    if let Some(text) = user.lookup.take() {
        *user = insula_container::look_up_user(root, &text, user).context("--user")?;
    }
    let beside = if host && user.uid != 0 { None } else { beside(&namespaces::subordinate()) };
    let spaces = &mut plan.namespaces;
    spaces.list.insert(Namespace::User, None);
    match beside {
        Some((uids, gids)) => {
            (spaces.uid_map, spaces.gid_map) = (with_root(uid, &uids), with_root(gid, &gids));
            let known = |map: &[IdMap], id: u32| map.iter().any(|range| range.holds(id));
            let fits = known(&spaces.uid_map, user.uid) && known(&spaces.gid_map, user.gid);
            ensure!(
                fits,
                "--user: {}:{} is more than the IDs that /etc/subuid and /etc/subgid give this user",
                user.uid,
                user.gid
            );
            user.groups.retain(|group| known(&spaces.gid_map, *group));
        }
        None => {
            let one = |inside, outside| vec![IdMap { inside, outside, count: 1 }];
            (spaces.uid_map, spaces.gid_map) = (one(user.uid, uid), one(user.gid, gid));
            // There are no others.
            *user = User { groups: Vec::new(), ..user.clone() };
        }
    }
    if !spaces.gid_map.iter().any(|range| range.holds(TERMINALS)) {
        without_group_of_terminals(plan);
    }
    devices(plan, args, given)
}

/// The same for root of a user namespace that others made, in which we are; on the host itself there is nothing to do.
pub(super) fn adapt_for_root(plan: &mut Plan) {
    if insula_sys::host::kernel::in_initial_user_namespace() {
        return;
    }
    let map = std::fs::read_to_string("/proc/self/gid_map").unwrap_or_default();
    let range = |line: &str| {
        let mut numbers = line.split_whitespace().map_while(|word| word.parse().ok());
        Some(IdMap { inside: numbers.next()?, outside: numbers.next()?, count: numbers.next()? })
    };
    if !map.lines().filter_map(range).any(|range| range.holds(TERMINALS)) {
        without_group_of_terminals(plan);
    }
}

/// Nobody has it: terminals belong to whoever makes them.
fn without_group_of_terminals(plan: &mut Plan) {
    for mount in &mut plan.mounts {
        if let MountKind::Fs { name, options, .. } = &mut mount.kind
            && name == "devpts"
        {
            options.retain(|option| !option.starts_with("gid="));
        }
    }
}

/// The group `tty`, to which terminals belong.
const TERMINALS: u32 = 5;

/// Ranges of users and of groups that may be mapped, if both can be.
fn beside(ids: &Subordinate) -> Option<(Vec<Range>, Vec<Range>)> {
    let works =
        [&ids.newuidmap, &ids.newgidmap].into_iter().all(|helper| helper.as_ref().is_some_and(|helper| helper.privileged));
    let some = works && !ids.uids.is_empty() && !ids.gids.is_empty();
    some.then(|| (ids.uids.clone(), ids.gids.clone()))
}

/// Root is who we are; the others are counted from 1.
fn with_root(own: u32, ranges: &[Range]) -> Vec<IdMap> {
    let mut map = vec![IdMap { inside: 0, outside: own, count: 1 }];
    let mut next = 1_u32;
    for range in ranges.iter().take(MOST_RANGES) {
        map.push(IdMap { inside: next, outside: range.first, count: range.count });
        next = next.saturating_add(range.count);
    }
    map
}

/// The kernel takes 340 ranges; one is ours.
const MOST_RANGES: usize = 339;

/// No node can be made in a user namespace, so the host's are bound in; who may use them is said by their permissions alone.
fn devices(plan: &mut Plan, args: &Args, given: &[Given]) -> anyhow::Result<()> {
    for (text, given) in args.device.iter().zip(given) {
        let whole = given.access.contains('r') && given.access.contains('w');
        ensure!(
            whole,
            "--device: {text:?}: access can't be narrowed for a plain user's sandbox; leave the rights out, or run as root"
        );
        let kind = MountKind::Bind { source: given.source.clone(), recursive: false };
        plan.mounts.push(defaults::mount(given.device.path.clone(), kind, attr::NOSUID | attr::NOEXEC));
    }
    plan.devices.clear();
    plan.resources.devices.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_counted_from_one() {
        let ranges = [Range { first: 100_000, count: 10 }, Range { first: 200_000, count: 5 }];
        let map = with_root(1000, &ranges);
        let inside = |outside| map.iter().find_map(|range| range.inside_of(outside));
        assert_eq!([inside(1000), inside(100_000), inside(100_009), inside(200_000)], [Some(0), Some(1), Some(10), Some(11)]);
        assert_eq!([inside(0), inside(100_010), inside(200_005)], [None; 3]);
    }
}
