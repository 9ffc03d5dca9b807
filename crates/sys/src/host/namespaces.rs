//! Namespace types, user namespaces, and the subordinate ids that make them useful.

use super::files;
use super::trial::{self, Failure, IdMaps, Step, Trial, unshare};
use rustix::thread::UnshareFlags;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What is known about namespaces.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// The eight types Linux has, present or not.
    pub types: Vec<Type>,
    /// User namespaces, which decide what a plain user can do.
    pub users: Users,
    /// Ids a user may map beside their own.
    pub subordinate: Subordinate,
}

/// One type of namespace.
#[derive(Debug, Clone, Serialize)]
pub struct Type {
    /// Its name under `/proc/self/ns`.
    pub name: String,
    /// Whether the kernel has it.
    pub present: bool,
    /// Creating one as we are.
    pub alone: Trial,
    /// Creating one together with a user namespace of our own; untried if it isn't needed.
    pub with_user_namespace: Trial,
}

impl Type {
    /// Whether this process can have one, one way or the other.
    pub fn works(&self) -> bool {
        self.alone.works() || self.with_user_namespace.works()
    }
}

/// What is known about user namespaces.
#[derive(Debug, Clone, Serialize)]
pub struct Users {
    /// `/proc/sys/user/max_user_namespaces`: how many a user may have.
    pub limit: Option<i64>,
    /// Debian's `kernel.unprivileged_userns_clone`: 0 keeps them from plain users.
    pub unprivileged_clone: Option<i64>,
    /// Ubuntu's `kernel.apparmor_restrict_unprivileged_userns`: 1 leaves a plain user's namespace without any capability.
    pub apparmor_restriction: Option<i64>,
    /// Creating one as we are, mapping ourselves, and mounting in it.
    pub as_me: Trial,
    /// The same as an ordinary user; untried if that is what we are already, or if we can't become one.
    pub as_plain_user: Trial,
}

/// Ids beyond one's own, which a rootless container needs for all users but root.
#[derive(Debug, Clone, Serialize)]
pub struct Subordinate {
    /// This user's name in `/etc/passwd`.
    pub user: Option<String>,
    /// This user's ranges in `/etc/subuid`.
    pub uids: Vec<Range>,
    /// This user's ranges in `/etc/subgid`.
    pub gids: Vec<Range>,
    /// The helper that maps users.
    pub newuidmap: Option<Helper>,
    /// The helper that maps groups.
    pub newgidmap: Option<Helper>,
}

/// A range of ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Range {
    /// The first id.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// An installed helper program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Helper {
    /// Where it is.
    pub path: PathBuf,
    /// Whether it runs with more privilege than its caller: set-user-id, or file capabilities. It is of no use without.
    pub privileged: bool,
}

/// The names under `/proc/self/ns`, and the flags of unshare(2).
const TYPES: [(&str, UnshareFlags); 8] = [
    ("mnt", UnshareFlags::NEWNS),
    ("pid", UnshareFlags::NEWPID),
    ("net", UnshareFlags::NEWNET),
    ("ipc", UnshareFlags::NEWIPC),
    ("uts", UnshareFlags::NEWUTS),
    ("user", UnshareFlags::NEWUSER),
    ("cgroup", UnshareFlags::NEWCGROUP),
    ("time", UnshareFlags::NEWTIME),
];

/// An id that belongs to no one in particular: the kernel's "overflow" id, `nobody` on most distributions.
const PLAIN: u32 = 65534;

pub(super) fn gather() -> Facts {
    Facts { types: TYPES.into_iter().map(probe_type).collect(), users: users(), subordinate: subordinate() }
}

fn probe_type((name, flag): (&str, UnshareFlags)) -> Type {
    let present = Path::new("/proc/self/ns").join(name).symlink_metadata().is_ok();
    if !present {
        let absent = || Trial::untried("the kernel doesn't have this type");
        return Type { name: name.into(), present, alone: absent(), with_user_namespace: absent() };
    }
    let alone = trial::run(|| unshare(flag).step("creating it"));
    let with_user_namespace = match alone {
        Trial::Fails { .. } if flag != UnshareFlags::NEWUSER => {
            let maps = IdMaps::root_is_me();
            trial::run(|| {
                trial::become_root(Some(&maps))?;
                unshare(flag).step("creating it in a user namespace")
            })
        }
        _ => Trial::untried("not needed"),
    };
    Type { name: name.into(), present, alone, with_user_namespace }
}

fn users() -> Users {
    let maps = IdMaps::root_is_me();
    Users {
        limit: files::number("/proc/sys/user/max_user_namespaces"),
        unprivileged_clone: files::number("/proc/sys/kernel/unprivileged_userns_clone"),
        apparmor_restriction: files::number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
        as_me: trial::run(|| use_one(&maps)),
        as_plain_user: as_plain_user(),
    }
}

/// Creates a user namespace and does in it what needs its capabilities. AppArmor's restriction lets the creation pass and takes the
/// capabilities away, so only the use tells.
fn use_one(maps: &IdMaps) -> Result<(), Failure> {
    trial::become_root(Some(maps))?;
    unshare(UnshareFlags::NEWNS).step("creating a mount namespace in a user namespace")?;
    trial::private_stage()
}

fn as_plain_user() -> Trial {
    use rustix::process::{Gid, Uid};
    if !rustix::process::geteuid().is_root() {
        return Trial::untried("this is an ordinary user already");
    }
    if !super::kernel::in_initial_user_namespace() {
        return Trial::untried("users of a user namespace aren't the host's");
    }
    let maps = IdMaps::root_is(PLAIN, PLAIN);
    trial::run(|| {
        let (user, group) = (Uid::from_raw(PLAIN), Gid::from_raw(PLAIN));
        rustix::thread::set_thread_groups(&[]).step("dropping groups to become an ordinary user")?;
        rustix::thread::set_thread_res_gid(group, group, group).step("becoming an ordinary group")?;
        rustix::thread::set_thread_res_uid(user, user, user).step("becoming an ordinary user")?;
        // A process that changed its user isn't dumpable, and its files in /proc then belong to root, the maps among them.
        let dumpable = rustix::process::DumpableBehavior::Dumpable;
        rustix::process::set_dumpable_behavior(dumpable).step("becoming dumpable again")?;
        use_one(&maps)
    })
}

/// Reads what a user may map beside their own ids.
pub fn subordinate() -> Subordinate {
    let uid = rustix::process::getuid().as_raw();
    let user = files::text("/etc/passwd").and_then(|passwd| user_name(&passwd, uid));
    let ranges = |file: &str| {
        let table = files::text(file).unwrap_or_default();
        ranges_of(&table, uid, user.as_deref())
    };
    Subordinate {
        uids: ranges("/etc/subuid"),
        gids: ranges("/etc/subgid"),
        newuidmap: helper("newuidmap"),
        newgidmap: helper("newgidmap"),
        user,
    }
}

fn user_name(passwd: &str, uid: u32) -> Option<String> {
    let line = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let id: u32 = fields.nth(1)?.parse().ok()?;
        (id == uid).then(|| name.to_owned())
    };
    passwd.lines().find_map(line)
}

/// The ranges of a user in a subuid(5) file, where users go by name or by number.
fn ranges_of(table: &str, uid: u32, name: Option<&str>) -> Vec<Range> {
    let line = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let mine = Some(owner) == name || owner.parse() == Ok(uid);
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        mine.then_some(Range { first, count })
    };
    table.lines().filter_map(line).collect()
}

fn helper(name: &str) -> Option<Helper> {
    use std::os::unix::fs::MetadataExt;
    let path = super::peers::find(name)?;
    let set_user_id = path.metadata().is_ok_and(|meta| meta.mode() & 0o4000 != 0 && meta.uid() == 0);
    let mut attribute = [0u8; 64];
    let capabilities = rustix::fs::getxattr(&path, "security.capability", &mut attribute[..]).is_ok();
    Some(Helper { path, privileged: set_user_id || capabilities })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ranges_go_by_name_or_number() {
        let table = "# comment\nada:100000:65536\n1001:300000:10\nbob:165536:65536\nada:bad:1\n";
        assert_eq!(
            ranges_of(table, 1001, Some("ada")),
            [Range { first: 100_000, count: 65536 }, Range { first: 300_000, count: 10 }]
        );
        assert_eq!(ranges_of(table, 7, None), []);
    }

    #[test]
    fn a_user_is_named_by_the_password_file() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nada:x:1001:1001::/home/ada:/bin/sh\n+::::::\n";
        assert_eq!(user_name(passwd, 1001).as_deref(), Some("ada"));
        assert_eq!(user_name(passwd, 7), None);
    }

    #[test]
    fn every_type_of_this_kernel_is_tried() {
        let facts = gather();
        assert_eq!(facts.types.len(), 8);
        let mount = &facts.types[0];
        assert!(mount.present, "every Linux has mount namespaces");
        assert!(!matches!(mount.alone, Trial::Untried { .. }));
    }
}
