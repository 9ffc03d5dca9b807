//! `--userns`: users of a container's own, as numbers that are nobody's on the host.

use super::options::Args;
use anyhow::{Context, bail, ensure};
use insula_spec::Plan;
use insula_spec::plan::{IdMap, Namespace, RootSource};
use std::os::unix::fs::MetadataExt;

/// A system has users up to `nobody`, 65534.
const FEWEST: u32 = 65536;

/// Gives the plan the user namespace that was asked for; who owns the root's files decides whether its mount maps them.
pub(super) fn map(args: &Args, plan: &mut Plan) -> anyhow::Result<()> {
    if args.userns != "host" && !rustix::process::geteuid().is_root() {
        bail!(
            "--userns: a plain user's sandbox has users of its own already, by /etc/subuid and /etc/subgid; leave the option out"
        );
    }
    let (users, groups) = match args.userns.as_str() {
        "host" => return Ok(()),
        "auto" => (range("/etc/subuid")?, range("/etc/subgid")?),
        text => {
            let parse = || text.split_once(':').and_then(|(first, count)| Some((first.parse().ok()?, count.parse().ok()?)));
            let range =
                parse().with_context(|| format!("--userns: {text:?} is not host, auto or FIRST:COUNT, like 100000:65536"))?;
            (range, range)
        }
    };
    for (first, count) in [users, groups] {
        let fits = first > 0 && count > 0 && first.checked_add(count).is_some();
        ensure!(fits, "--userns: {first}:{count} is no range of IDs above 0");
    }
    let RootSource::Dir(root) = &plan.root.source else {
        bail!("--userns: the host's own files belong to the host's users; give a root with --rootfs");
    };
    let owner = std::fs::metadata(root).with_context(|| format!("--rootfs: can't look at {}", root.display()))?.uid();
    // Made for this range already, as tools for containers without privilege do it.
    plan.root.mapped = !(users.0..users.0 + users.1).contains(&owner);
    let map = |(first, count): (u32, u32)| vec![IdMap { inside: 0, outside: first, count }];
    plan.namespaces.list.insert(Namespace::User, None);
    (plan.namespaces.uid_map, plan.namespaces.gid_map) = (map(users), map(groups));
    Ok(())
}

/// This user's range in one of the two files, subuid(5).
fn range(file: &str) -> anyhow::Result<(u32, u32)> {
    let uid = rustix::process::getuid().as_raw().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1) == Some(&uid)).then(|| name.to_owned())
    });
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let ours = text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let whose = fields.next()?;
        let range: (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?);
        (whose == uid || Some(whose) == name.as_deref()).then_some(range)
    });
    let found = ours.max_by_key(|(_, count)| *count).filter(|(_, count)| *count >= FEWEST);
    found.with_context(|| {
        let name = name.as_deref().unwrap_or(&uid);
        format!("--userns auto: {file} has no range of {FEWEST} IDs for {name}; add one, or give it: --userns 100000:65536")
    })
}
