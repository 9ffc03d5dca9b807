//! Namespaces, user namespaces, subordinate ids.

use super::finding::{Finding, Group, and, sentence};
use insula_sys::host::Facts;
use insula_sys::host::namespaces::{Helper, Subordinate, Type, Users};
use insula_sys::host::trial::Trial;
use std::collections::BTreeMap;

const GROUP: Group = Group::Namespaces;

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut all = types(facts);
    all.extend(user_namespaces(facts));
    all.extend(subordinate(facts));
    all
}

/// What a type keeps apart.
fn purpose(name: &str) -> &'static str {
    match name {
        "mnt" => "its own file-system tree",
        "pid" => "its own process numbers",
        "net" => "its own network stack",
        "ipc" => "its own System V IPC and message queues",
        "uts" => "its own host name",
        "user" => "its own users and capabilities",
        "cgroup" => "its own view of cgroups",
        "time" => "its own boot and monotonic clocks",
        _ => "a namespace newer than this program",
    }
}

/// A line for the types that work, and one for each reason why others don't.
fn types(facts: &Facts) -> Vec<Finding> {
    let (works, fails): (Vec<_>, Vec<_>) = facts.namespaces.types.iter().partition(|kind| kind.works());
    let names =
        |alone: bool| works.iter().filter(|kind| kind.alone.works() == alone).map(|kind| kind.name.as_str()).collect::<Vec<_>>();
    let mut all = Vec::new();
    let (alone, inside) = (names(true), names(false));
    if !alone.is_empty() {
        all.push(Finding::ok(GROUP, "namespaces", and(&alone)));
    }
    if !inside.is_empty() {
        all.push(Finding::ok(GROUP, "in a user namespace", and(&inside)));
    }
    // One cause usually stops many types: they share a finding.
    let mut by_reason: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for kind in fails {
        by_reason.entry(reason(kind)).or_default().push(&kind.name);
    }
    for (reason, names) in by_reason {
        let lost = and(&names.iter().map(|name| purpose(name)).collect::<Vec<_>>());
        all.push(Finding::missing(GROUP, format!("no {}", names.join(", ")), lost).why(reason).remedy(users_remedy(facts)));
    }
    all
}

fn reason(kind: &Type) -> String {
    let trial = if matches!(kind.with_user_namespace, Trial::Untried { .. }) { &kind.alone } else { &kind.with_user_namespace };
    sentence(&trial.reason())
}

fn user_namespaces(facts: &Facts) -> Vec<Finding> {
    let users = &facts.namespaces.users;
    let limit = users.limit.map_or_else(String::new, |limit| format!(", at most {limit}"));
    let me = format!("a root of one's own, without being root{limit}");
    let mut all = vec![Finding::tried(GROUP, "user namespaces", me, &users.as_me).remedy(users_remedy(facts))];
    if !matches!(users.as_plain_user, Trial::Untried { .. }) {
        let what = "rootless containers for ordinary users of this host";
        all.push(Finding::tried(GROUP, "the same, unprivileged", what, &users.as_plain_user).remedy(users_remedy(facts)));
    }
    all
}

/// What stands in the way of user namespaces, and how to clear it.
pub(super) fn users_remedy(facts: &Facts) -> String {
    match &facts.namespaces.users {
        Users { limit: Some(0), .. } => "As root: sysctl user.max_user_namespaces=10000.".into(),
        Users { unprivileged_clone: Some(0), .. } => "As root: sysctl kernel.unprivileged_userns_clone=1.".into(),
        Users { apparmor_restriction: Some(1..), .. } => {
            "As root: sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for this program with the rule \
             `userns,`."
                .into()
        }
        _ if facts.kernel.inside_container.is_some() || facts.security.seccomp.filters_over_us.unwrap_or(0) > 0 => {
            "A sandbox around this process forbids it: start that one with a seccomp profile that allows unshare and mount (Docker: \
             --security-opt seccomp=unconfined --security-opt systempaths=unconfined), or privileged."
                .into()
        }
        _ => "Run as root; or see what forbids it: a kernel without CONFIG_USER_NS, a security module, a limit of nesting.".into(),
    }
}

fn subordinate(facts: &Facts) -> Option<Finding> {
    let ids = &facts.namespaces.subordinate;
    // Root maps whatever it likes.
    if facts.kernel.uid == 0 && facts.kernel.initial_user_namespace {
        return None;
    }
    let subject = "subordinate ids";
    let purpose = "users beside root in a rootless container";
    let Some(why) = no_ids(ids) else {
        let count: u64 = ids.uids.iter().map(|range| u64::from(range.count)).sum();
        return Some(Finding::ok(GROUP, subject, format!("{count}, by newuidmap and newgidmap")));
    };
    let user = ids.user.as_deref().unwrap_or("USER");
    let remedy = format!(
        "As root: install the helpers (Debian and Ubuntu: uidmap; Fedora: shadow-utils), then usermod --add-subuids 100000-165535 \
         --add-subgids 100000-165535 {user}."
    );
    Some(Finding::missing(GROUP, subject, purpose).why(why).remedy(remedy))
}

/// Why this user can map only one id, if so.
pub(super) fn no_ids(ids: &Subordinate) -> Option<String> {
    let useless = |name: &str, helper: &Option<Helper>| match helper {
        None => Some(format!("{name} isn't installed")),
        Some(helper) if !helper.privileged => Some(format!("{} isn't set-user-id", helper.path.display())),
        Some(_) => None,
    };
    let none = |file: &str, empty: bool| empty.then(|| format!("{file} has no range for this user"));
    let reasons: Vec<String> = [
        useless("newuidmap", &ids.newuidmap),
        useless("newgidmap", &ids.newgidmap),
        none("/etc/subuid", ids.uids.is_empty()),
        none("/etc/subgid", ids.gids.is_empty()),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!reasons.is_empty()).then(|| format!("Only one id can be mapped: {}.", and(&reasons)))
}
