//! What was said on the command line, as a plan.

use super::options::Args;
use super::{network, rootless, system, users};
use crate::commands::{plan_of_bundle, read_limited};
use crate::global::Global;
use anyhow::{Context, bail, ensure};
use insula_spec::defaults::{self, attr};
use insula_spec::plan::{
    Capabilities, Device, Hooks, Mount, MountKind, Namespace, Namespaces, Plan, Process, Propagation, PropagationKind, Rlimit,
    Root, RootSource, User,
};
use insula_spec::resources::{DeviceRule, Resources};
use insula_spec::{CapSet, Id, oci, seccomp};
use rustix::fs::FileType;
use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The plan of a bundle, of a root directory, or of the host's own root.
pub(super) fn make(global: &Global, args: &Args) -> anyhow::Result<Plan> {
    if global.of_systems() {
        system::check(args)?;
    }
    if global.behind_sentry() && args.userns != "host" {
        bail!("--userns: behind the sentry no process is the host's, whatever its user; leave the option out");
    }
    let plan = match &args.bundle {
        Some(bundle) => of_bundle(args, bundle)?,
        None => of_words(args, global.of_systems())?,
    };
    insula_spec::plan::check(&plan)?;
    network::check(args, &plan)?;
    Ok(plan)
}

fn of_bundle(args: &Args, bundle: &Path) -> anyhow::Result<Plan> {
    let id = match (args.words.as_slice(), &args.name) {
        ([name], None) | ([], Some(name)) => name.parse()?,
        ([], None) => random_id()?,
        _ => bail!("with --bundle, give one name and nothing else; the program to run is in the bundle's config.json"),
    };
    let mut plan = plan_of_bundle(id, bundle)?;
    match network::namespace(&args.network) {
        // The bundle's own word.
        _ if args.network == network::Network::None => {}
        Some(namespace) => drop(plan.namespaces.list.insert(Namespace::Net, namespace)),
        None => drop(plan.namespaces.list.remove(&Namespace::Net)),
    }
    Ok(plan)
}

fn of_words(args: &Args, system: bool) -> anyhow::Result<Plan> {
    let id = args.name.as_deref().map_or_else(random_id, |name| Ok(name.parse()?))?;
    let here = std::env::current_dir().context("can't find out where we are; change to a directory that exists")?;
    let caps = capabilities(args, if system { system::capabilities(args) } else { CapSet::DEFAULT })?;
    let mut resources = limits(args)?;
    let given = devices(args, caps, &mut resources)?;
    let mut mounts = if system { system::mounts(args) } else { defaults::mounts() };
    if args.rootfs.is_none() {
        // Sockets of the host's services lie there.
        mounts.push(defaults::fs("/run", "tmpfs", &["mode=755"], attr::NOSUID | attr::NODEV));
    }
    mounts.extend(volumes(args)?);
    let mut plan = Plan {
        bundle: here.clone(),
        root: root(args)?,
        process: process(args, &here, caps, system)?,
        mounts,
        namespaces: namespaces(args),
        hostname: Some(args.hostname.clone().unwrap_or_else(|| id.to_string())),
        domainname: None,
        devices: given.iter().map(|given| given.device.clone()).collect(),
        cgroup_path: None,
        scope: None,
        resources,
        masked_paths: defaults::MASKED_PATHS.map(PathBuf::from).to_vec(),
        readonly_paths: defaults::READONLY_PATHS.map(PathBuf::from).to_vec(),
        writable_paths: Vec::new(),
        sysctl: BTreeMap::new(),
        hooks: Hooks::default(),
        propagation: Propagation { kind: PropagationKind::Slave, recursive: true },
        time_offsets: BTreeMap::new(),
        annotations: BTreeMap::new(),
        warnings: Vec::new(),
        system: None,
        id,
    };
    users::map(args, &mut plan)?;
    if rootless::needed() {
        rootless::adapt(&mut plan, args, &given)?;
    } else {
        rootless::adapt_for_root(&mut plan);
    }
    if system {
        system::complete(args, &mut plan)?;
    }
    // Sorted by depth, so that none covers another that lies in it.
    plan.mounts.sort_by_key(|mount| mount.target.components().count());
    Ok(plan)
}

pub(crate) fn random_id() -> anyhow::Result<Id> {
    let mut bytes = [0; 6];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).context("can't make up a name")?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(digits.parse()?)
}

fn root(args: &Args) -> anyhow::Result<Root> {
    let readonly = args.read_only;
    if let Some(dir) = &args.rootfs {
        let dir = std::fs::canonicalize(dir).with_context(|| format!("--rootfs: can't use {}", dir.display()))?;
        return Ok(Root { source: RootSource::Dir(dir), readonly, mapped: false });
    }
    let keep = args.keep.as_ref().map(|dir| {
        // Nobody else gets at what is kept: a program could leave a set-user-ID file of the host's root in it (CVE-2021-41091).
        let mode = if insula_sys::defence::stands("private-layers") { 0o700 } else { 0o755 };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(dir)
            .and_then(|()| std::fs::canonicalize(dir))
            .with_context(|| format!("--keep: can't use {}", dir.display()))
    });
    Ok(Root { source: RootSource::Host { keep: keep.transpose()? }, readonly, mapped: false })
}

fn namespaces(args: &Args) -> Namespaces {
    let mut list: BTreeMap<Namespace, Option<PathBuf>> =
        [Namespace::Mnt, Namespace::Pid, Namespace::Ipc, Namespace::Uts, Namespace::Cgroup].map(|kind| (kind, None)).into();
    list.extend(network::namespace(&args.network).map(|namespace| (Namespace::Net, namespace)));
    Namespaces { list, uid_map: vec![], gid_map: vec![] }
}

fn process(args: &Args, here: &Path, caps: CapSet, system: bool) -> anyhow::Result<Process> {
    let mut words = args.words.clone();
    if let Some(program) = &args.entrypoint {
        words.insert(0, program.clone());
    }
    if system && words.is_empty() {
        words.push(insula_spec::system::INIT.to_owned());
    }
    ensure!(!words.is_empty(), "no program is named; for example: insula run -- ls -l");
    let mut options = SecurityOptions::default();
    for option in &args.security_opt {
        options.add(option)?;
    }
    let seccomp = match options.seccomp {
        Some(choice) => choice,
        None => Some(seccomp::default_policy(caps)),
    };
    let host_root = args.rootfs.is_none();
    let cwd = args.workdir.clone().unwrap_or_else(|| if host_root { here.to_owned() } else { PathBuf::from("/") });
    ensure!(cwd.is_absolute(), "--workdir: {} is not absolute", cwd.display());
    Ok(Process {
        args: words,
        env: environment(args, host_root)?,
        cwd,
        user: user(args, host_root),
        capabilities: Capabilities::uniform(caps),
        no_new_privileges: options.no_new_privileges.unwrap_or(true),
        rlimits: args.ulimit.iter().map(|text| ulimit(text)).collect::<Result<_, _>>()?,
        seccomp,
        terminal: args.tty,
        console_size: None,
        oom_score_adj: None,
        io_priority: None,
        scheduler: None,
        personality: None,
        apparmor: options.apparmor,
        selinux: None,
        reaper: true,
    })
}

fn user(args: &Args, host_root: bool) -> User {
    let ours = |id: u32| if host_root { id } else { 0 };
    let (uid, gid) = (ours(rustix::process::getuid().as_raw()), ours(rustix::process::getgid().as_raw()));
    User { uid, gid, groups: vec![], umask: None, lookup: args.user.clone() }
}

/// Little of ours, as variables hold secrets: the search path only where the files are the host's too.
fn environment(args: &Args, host_root: bool) -> anyhow::Result<Vec<String>> {
    let ours = |name: &str| std::env::var(name).ok();
    let path = if host_root { ours("PATH") } else { None };
    let mut env = BTreeMap::from([("PATH".to_owned(), path.unwrap_or_else(|| defaults::PATH.to_owned()))]);
    let shows_terminal = args.tty || rustix::termios::isatty(rustix::stdio::stdin());
    let passed = [("TERM", shows_terminal), ("LANG", host_root), ("LC_ALL", host_root)];
    for (name, _) in passed.iter().filter(|(_, wanted)| *wanted) {
        env.extend(ours(name).map(|value| ((*name).to_owned(), value)));
    }
    let mut set = |text: &str| -> anyhow::Result<()> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, ours(text)),
        };
        ensure!(!name.is_empty() && !text.contains('\0'), "--env: {text:?} is not NAME=VALUE");
        env.extend(value.map(|value| (name.to_owned(), value)));
        Ok(())
    };
    for path in &args.env_file {
        let bytes = read_limited(path, 4 << 20).with_context(|| format!("--env-file: can't read {}", path.display()))?;
        let text = String::from_utf8(bytes).with_context(|| format!("--env-file: {} is not text", path.display()))?;
        for line in text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            set(line).with_context(|| format!("--env-file: {}", path.display()))?;
        }
    }
    args.env.iter().try_for_each(|text| set(text))?;
    Ok(env.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

fn capabilities(args: &Args, default: CapSet) -> anyhow::Result<CapSet> {
    let mut set = default;
    // ALL goes first, so that "drop all, add one" and "add all, drop one" mean what they say.
    let all = |list: &[String]| list.iter().any(|name| name.eq_ignore_ascii_case("all"));
    if all(&args.cap_drop) {
        set = CapSet::EMPTY;
    }
    if all(&args.cap_add) {
        set = CapSet::ALL;
    }
    let named = |list: &[String]| list.iter().filter(|name| !name.eq_ignore_ascii_case("all")).cloned().collect::<Vec<_>>();
    for name in named(&args.cap_add) {
        set = set.with(&name).context("--cap-add")?;
    }
    for name in named(&args.cap_drop) {
        set = set.without(&name).context("--cap-drop")?;
    }
    Ok(set)
}

#[derive(Default)]
struct SecurityOptions {
    seccomp: Option<Option<seccomp::Policy>>,
    no_new_privileges: Option<bool>,
    apparmor: Option<String>,
}

impl SecurityOptions {
    fn add(&mut self, option: &str) -> anyhow::Result<()> {
        let (key, value) = option.split_once(['=', ':']).map_or((option, None), |(key, value)| (key, Some(value)));
        match (key, value) {
            ("seccomp", Some("unconfined")) => self.seccomp = Some(None),
            ("seccomp", Some(file)) => {
                let path = Path::new(file);
                let json =
                    read_limited(path, oci::MAX_CONFIG).with_context(|| format!("--security-opt seccomp: can't read {file}"))?;
                self.seccomp = Some(Some(oci::seccomp_policy(file, &json)?));
            }
            ("no-new-privileges", None | Some("true")) => self.no_new_privileges = Some(true),
            ("no-new-privileges", Some("false")) => self.no_new_privileges = Some(false),
            ("apparmor", Some(profile)) => self.apparmor = Some(profile.to_owned()),
            _ => bail!(
                "--security-opt: {option:?} is not one of seccomp=FILE, seccomp=unconfined, no-new-privileges, apparmor=PROFILE"
            ),
        }
        Ok(())
    }
}

fn ulimit(text: &str) -> anyhow::Result<Rlimit> {
    let parse = || {
        let (name, values) = text.split_once('=')?;
        let value = |text: &str| if text == "unlimited" || text == "-1" { Some(u64::MAX) } else { text.parse().ok() };
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        Some((name, value(soft)?, value(hard)?))
    };
    let (name, soft, hard) =
        parse().with_context(|| format!("--ulimit: {text:?} is not NAME=SOFT[:HARD], like nofile=1024:4096"))?;
    ensure!(soft <= hard, "--ulimit: {text:?}: the soft limit is above the hard one");
    Ok(Rlimit { resource: oci::rlimit_number(name)?, soft, hard })
}

fn limits(args: &Args) -> anyhow::Result<Resources> {
    let mut resources = Resources::default();
    if let Some(text) = &args.memory {
        let bytes = size(text).with_context(|| format!("--memory: {text:?} is no size; use bytes or k, m or g, like 512m"))?;
        ensure!(bytes >= 512 << 10, "--memory: {text:?} is less than the 512k a program needs to start");
        resources.memory.limit = Some(bytes);
    }
    if let Some(text) = &args.cpus {
        let cpus: f64 = text
            .parse()
            .ok()
            .filter(|n: &f64| n.is_finite() && *n >= 0.01 && *n <= 100_000.0)
            .with_context(|| format!("--cpus: {text:?} is no number of processors; use 0.01 or more, like 1.5"))?;
        const PERIOD: u64 = 100_000;
        resources.cpu.period = Some(PERIOD);
        resources.cpu.quota = Some((cpus * PERIOD as f64) as i64);
    }
    ensure!(args.pids_limit.is_none_or(|n| n == -1 || n > 0), "--pids-limit: use a positive number, or -1 for no limit");
    resources.pids = args.pids_limit;
    Ok(resources)
}

/// `512m` in bytes.
pub(crate) fn size(text: &str) -> Option<i64> {
    let lower = text.to_ascii_lowercase();
    let bare = lower.strip_suffix("ib").or(lower.strip_suffix('b')).unwrap_or(&lower);
    let (digits, shift) = match bare.chars().last()? {
        'k' => (&bare[..bare.len() - 1], 10),
        'm' => (&bare[..bare.len() - 1], 20),
        'g' => (&bare[..bare.len() - 1], 30),
        't' => (&bare[..bare.len() - 1], 40),
        _ => (bare, 0),
    };
    digits.parse::<i64>().ok()?.checked_mul(1 << shift).filter(|bytes| *bytes > 0)
}

/// A device that the program is given.
pub(super) struct Given {
    /// On the host.
    pub(super) source: PathBuf,
    /// In the sandbox.
    pub(super) device: Device,
    /// `r`, `w` and `m`.
    pub(super) access: String,
}

/// Device nodes; and rules for them wherever the program could get at others.
fn devices(args: &Args, caps: CapSet, resources: &mut Resources) -> anyhow::Result<Vec<Given>> {
    let mut devices = Vec::new();
    let deny_all = DeviceRule { allow: false, kind: 'a', major: None, minor: None, access: "rwm".into() };
    if caps.has("MKNOD") || caps.has("SYS_ADMIN") || !args.device.is_empty() {
        resources.devices.push(deny_all);
    }
    for text in &args.device {
        let parts: Vec<&str> = text.split(':').collect();
        let access = |text: &str| !text.is_empty() && text.chars().all(|c| "rwm".contains(c));
        let (source, target, access) = match parts.as_slice() {
            [source] => (*source, *source, "rwm"),
            [source, rights] if access(rights) => (*source, *source, *rights),
            [source, target] => (*source, *target, "rwm"),
            [source, target, rights] if access(rights) => (*source, *target, *rights),
            _ => bail!("--device: {text:?} is not DEVICE[:PATH][:rwm], like /dev/fuse or /dev/sda:/dev/disk:r"),
        };
        let stat = rustix::fs::stat(source).with_context(|| format!("--device: can't use {source}"))?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice => 'c',
            FileType::BlockDevice => 'b',
            _ => bail!("--device: {source} is no device"),
        };
        ensure!(target.starts_with('/'), "--device: {target} is not absolute");
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let mode = stat.st_mode & 0o7777;
        let device = Device { path: PathBuf::from(target), kind, major, minor, mode, uid: stat.st_uid, gid: stat.st_gid };
        devices.push(Given { source: PathBuf::from(source), device, access: access.to_owned() });
        let (major, minor) = (Some(major), Some(minor));
        resources.devices.push(DeviceRule { allow: true, kind, major, minor, access: access.to_owned() });
    }
    Ok(devices)
}

fn volumes(args: &Args) -> anyhow::Result<Vec<Mount>> {
    let mut mounts = Vec::new();
    for text in &args.volume {
        mounts.push(volume(text)?);
    }
    for text in &args.mount {
        mounts.push(mount(text)?);
    }
    for text in &args.tmpfs {
        let (target, options) = text.split_once(':').unwrap_or((text, ""));
        let options: Vec<&str> = ["nosuid", "nodev", "noexec"].into_iter().chain(options.split(',')).collect();
        let target = absolute("--tmpfs", target)?;
        let json = serde_json::json!({"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options});
        mounts.push(oci::mount("--tmpfs", json.to_string().as_bytes())?);
    }
    Ok(mounts)
}

fn absolute(option: &str, target: &str) -> anyhow::Result<PathBuf> {
    let path = Path::new(target);
    let plain = path.is_absolute() && !path.components().any(|part| part == std::path::Component::ParentDir);
    ensure!(plain, "{option}: {target:?} is no absolute path without ..");
    ensure!(path != Path::new("/"), "{option}: nothing can be mounted on /; use --rootfs");
    Ok(path.components().collect())
}

/// A bound file or directory of the host, which must be there.
fn bind(option: &str, source: &str, target: &str, readonly: bool) -> anyhow::Result<Mount> {
    let source = std::fs::canonicalize(source).with_context(|| format!("{option}: can't use {source}"))?;
    // Neither device nodes nor set-user-ID programs come in with the host's files.
    let set = attr::NODEV | attr::NOSUID | if readonly { attr::RDONLY } else { 0 };
    let mut mount = defaults::mount(absolute(option, target)?, MountKind::Bind { source, recursive: true }, 0);
    mount.set_recursive = set;
    mount.propagation = Some(Propagation { kind: PropagationKind::Private, recursive: true });
    Ok(mount)
}

fn volume(text: &str) -> anyhow::Result<Mount> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, *options),
        _ => bail!("--volume: {text:?} is not SOURCE:TARGET[:ro]"),
    };
    let path_like = source.starts_with(['/', '.', '~']) || source.contains('/');
    ensure!(path_like, "--volume: {source:?} is no path; there are no named volumes, write ./{source} for a directory here");
    let mut readonly = false;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => readonly = true,
            "rw" => readonly = false,
            other => bail!("--volume: {other:?} is neither ro nor rw; use --mount for more"),
        }
    }
    bind("--volume", source, target, readonly)
}

fn mount(text: &str) -> anyhow::Result<Mount> {
    let mut fields: BTreeMap<&str, &str> = BTreeMap::new();
    for part in text.split(',') {
        let (key, value) = part.split_once('=').unwrap_or((part, "true"));
        let key = match key {
            "src" => "source",
            "dst" | "destination" => "target",
            "ro" => "readonly",
            key => key,
        };
        fields.insert(key, value);
    }
    let mut take = |key: &str| fields.remove(key);
    let kind = take("type").unwrap_or("bind");
    let target = take("target").with_context(|| format!("--mount: {text:?} has no target"))?;
    let readonly = take("readonly").is_some_and(|value| value == "true" || value == "1");
    let mount = match kind {
        "bind" => {
            let source = take("source").with_context(|| format!("--mount: {text:?} has no source"))?;
            bind("--mount", source, target, readonly)?
        }
        "tmpfs" => {
            let size =
                take("tmpfs-size").map(|text| size(text).with_context(|| format!("--mount: tmpfs-size {text:?} is no size")));
            let mode = take("tmpfs-mode").map(|text| format!("mode={text}"));
            let size = size.transpose()?.map(|bytes| format!("size={bytes}"));
            let options: Vec<String> = size.into_iter().chain(mode).collect();
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            let set = attr::NOSUID | attr::NODEV | attr::NOEXEC | if readonly { attr::RDONLY } else { 0 };
            let target = absolute("--mount", target)?;
            defaults::fs(&target.to_string_lossy(), "tmpfs", &options, set)
        }
        other => bail!("--mount: {other:?} is neither bind nor tmpfs"),
    };
    if let Some(key) = fields.keys().next() {
        bail!("--mount: {key:?} is not known for type={kind}");
    }
    Ok(mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_dockers() {
        assert_eq!(
            [size("512m"), size("1g"), size("100"), size("2kib"), size("7b")],
            [Some(512 << 20), Some(1 << 30), Some(100), Some(2048), Some(7)]
        );
        assert_eq!([size(""), size("m"), size("-1"), size("9999999999g"), size("1.5g")], [None; 5]);
    }

    #[test]
    fn ulimits() {
        assert_eq!(ulimit("nofile=1:2").unwrap(), Rlimit { resource: 7, soft: 1, hard: 2 });
        assert_eq!(ulimit("core=unlimited").unwrap().soft, u64::MAX);
        assert!(ulimit("nofile=2:1").is_err() && ulimit("nofile").is_err() && ulimit("nonsense=1").is_err());
    }

    #[test]
    fn mounts_are_read_strictly() {
        assert!(mount("type=bind,source=/,target=/x,bogus=1").is_err());
        assert!(mount("type=tmpfs,target=relative").is_err());
        assert!(volume("name:/x").is_err() && volume("/:/x:rx").is_err() && volume("/:/../x").is_err());
        assert_eq!(volume("/:/x/").unwrap().target, Path::new("/x"));
    }
}
