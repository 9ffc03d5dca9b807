//! `--network` and `--publish`: what a new sandbox reaches, and who reaches it.

use super::options::Args;
use crate::global::Global;
use anyhow::{Context, bail, ensure};
use clap::builder::{PossibleValue, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use insula_boundary::{Boundary, Entry, InNetwork, Sandbox, Status};
use insula_network::{Attachment, Expected, Kind, Wish};
use insula_spec::defaults::{self, attr};
use insula_spec::plan::{MountKind, Namespace, Plan, RootSource};
use insula_spec::{Id, plan};
use insula_sys::process::Spaces;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::Pid;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Whom the host asks for names.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// A value of `--network`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// A loopback device of its own and nothing else.
    None,
    /// All of the host's.
    Host,
    /// A bridge that is shared with others, or a network of its own without privilege.
    Made(Kind),
    /// That of another sandbox.
    Container(Id),
    /// The namespace that a file stands for.
    Path(PathBuf),
}

/// Reads a value of `--network`, and tells of those there are.
#[derive(Clone)]
pub(super) struct Values;

impl TypedValueParser for Values {
    type Value = Network;

    fn parse_ref(&self, command: &clap::Command, _: Option<&clap::Arg>, value: &OsStr) -> Result<Network, clap::Error> {
        let text = value.to_string_lossy();
        let wrong = |why: &str| {
            let mut error = clap::Error::new(ErrorKind::ValueValidation).with_cmd(command);
            error.insert(ContextKind::InvalidArg, ContextValue::String("--network <NETWORK>".into()));
            error.insert(ContextKind::InvalidValue, ContextValue::String(format!("{text}': {why}, not '{text}")));
            error
        };
        match text.split_once(':') {
            Some(("container", name)) => {
                name.parse().map(Network::Container).map_err(|_| wrong("container:NAME wants a sandbox's name"))
            }
            Some(("ns", path)) if path.starts_with('/') => Ok(Network::Path(path.into())),
            Some(("ns", _)) => Err(wrong("ns:PATH wants an absolute path")),
            _ => match &*text {
                // As runsc calls the network of a kernel of its own.
                "none" | "sandbox" => Ok(Network::None),
                "host" => Ok(Network::Host),
                "bridge" => Ok(Network::Made(Kind::Bridge)),
                "user" => Ok(Network::Made(Kind::User)),
                _ => Err(wrong("networks are none, host, bridge, user, container:NAME and ns:PATH")),
            },
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let values = [
            ("none", "A loopback device of its own and nothing else; also called sandbox"),
            ("host", "All of the host's"),
            ("bridge", "A bridge with the other sandboxes; they find each other by name"),
            ("user", "A network of its own, without any right on the host"),
            ("container:NAME", "That of another sandbox"),
            ("ns:PATH", "The network namespace that a file stands for"),
        ];
        Some(Box::new(values.into_iter().map(|(name, help)| PossibleValue::new(name).help(help))))
    }
}

/// The namespace of a new sandbox, as far as it is known before anything is made; none for the host's own.
pub(super) fn namespace(network: &Network) -> Option<Option<PathBuf>> {
    match network {
        Network::None | Network::Made(_) | Network::Container(_) => Some(None),
        Network::Host => None,
        Network::Path(path) => Some(Some(path.clone())),
    }
}

/// Refuses what doesn't go together.
pub(super) fn check(args: &Args, plan: &Plan) -> anyhow::Result<()> {
    let made = matches!(args.network, Network::Made(_));
    ensure!(
        args.publish.is_empty() || made,
        "--publish: only a network of the sandbox's own has ports to publish; add --network bridge or --network user"
    );
    if let Network::Path(path) = &args.network {
        open_namespace(path).with_context(|| format!("--network ns:{}", path.display()))?;
    }
    let root = rustix::process::geteuid().is_root();
    match &args.network {
        Network::None | Network::Host | Network::Made(Kind::User) => {}
        Network::Made(Kind::Bridge) if !root => {
            bail!("--network bridge takes root; use --network user, which takes no privilege")
        }
        // It is made by who has the right, and linked when the system's namespace is there.
        Network::Made(Kind::Bridge) if plan.system.is_some() => {}
        _ if !root => bail!("--network: to join another's network takes root; use --network user"),
        _ if plan.namespaces.has(Namespace::User) => bail!(
            "--network: the sandbox has a user namespace, whose root has no right to a network from outside; use user, none or host"
        ),
        _ => {}
    }
    Ok(())
}

/// A network that is joined: given back when this goes, or with a word on how that went.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    made: Option<Attachment>,
    /// One that the sandbox makes a part of, and what that does for it.
    expected: Option<Expected>,
    in_network: Option<InNetwork>,
    /// What a path of the plan's leads to, `/proc/self/fd/N`.
    _held: Option<OwnedFd>,
}

impl Joined {
    /// Gives it back.
    pub(crate) fn leave(mut self) -> anyhow::Result<()> {
        self.made.take().map_or(Ok(()), |made| Ok(made.leave()?))
    }

    /// What the sandbox has to do for it.
    pub(crate) fn in_network(&mut self) -> Option<InNetwork> {
        self.in_network.take()
    }

    /// Has it served, where the sandbox had to make a part first.
    pub(crate) fn complete(&mut self, global: &Global, sandbox: &mut dyn Sandbox) -> anyhow::Result<()> {
        let Some(expected) = self.expected.take() else { return Ok(()) };
        if let Err(error) = sandbox.ready() {
            expected.abandon();
            return Err(error.into());
        }
        let id = sandbox.entry().plan.id.clone();
        let Some(init) = global.containers().store().find(&id)?.read_init() else {
            expected.abandon();
            bail!("{id} has no first process to give a network to; it was removed meanwhile");
        };
        self.made = Some(expected.complete(init.pid).inspect_err(|_| drop(sandbox.delete(true)))?);
        Ok(())
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        // Something else went wrong, and is what the user hears of; what can't be removed stays on record.
        if let Some(made) = self.made.take() {
            let _ = made.leave();
        }
        if let Some(expected) = self.expected.take() {
            expected.abandon();
        }
    }
}

/// Makes or finds the network that was asked for, and puts it into the plan.
pub(super) fn join(global: &Global, args: &Args, plan: &mut Plan) -> anyhow::Result<Joined> {
    match &args.network {
        Network::None | Network::Host | Network::Path(_) => Ok(Joined::default()),
        Network::Made(kind) => {
            check_name(global, plan)?;
            let id = plan.id.to_string();
            let hostname = plan.hostname.clone().filter(|name| *name != id);
            let (publish, resolv_conf) = (args.publish.clone(), RESOLV_CONF.into());
            make(global, *kind, &Wish { id, hostname, publish, resolv_conf, keeps_address: false }, plan)
        }
        Network::Container(id) => {
            let namespace = of_container(global, id).with_context(|| format!("--network container:{id}"))?;
            plan.namespaces.list.insert(Namespace::Net, Some(format!("/proc/self/fd/{}", namespace.as_raw_fd()).into()));
            if let Some(facts) = insula_network::facts(&global.root(), id.as_str()) {
                show_resolvers(plan, &facts.resolv_conf);
            }
            Ok(Joined { made: None, expected: None, in_network: None, _held: Some(namespace) })
        }
    }
}

/// Makes the network of a system that is about to start: `again`, if it is on record, and its plan one of an earlier start.
pub(crate) fn of_system(global: &Global, plan: &mut Plan, again: bool) -> anyhow::Result<Joined> {
    let Some(network) = plan.system.as_ref().and_then(|system| system.network.clone()) else { return Ok(Joined::default()) };
    if !again {
        check_name(global, plan)?;
    }
    let root = global.root();
    if again && global.containers().open(&plan.id)?.status() == Status::Stopped {
        // Who stayed with it may not have come to that yet.
        insula_network::release(&root, plan.id.as_str())?;
    }
    // What that one had is gone, or is about to be.
    plan.namespaces.list.insert(Namespace::Net, None);
    plan.mounts.retain(|mount| match &mount.kind {
        MountKind::Bind { source, .. } => mount.target != Path::new(RESOLV_CONF) || !source.starts_with(&root),
        _ => true,
    });
    let publish = network.publish.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    let kind = if network.bridge { Kind::Bridge } else { Kind::User };
    let (id, hostname) = (plan.id.to_string(), plan.hostname.clone().filter(|name| *name != plan.id.as_str()));
    make(global, kind, &Wish { id, hostname, publish, resolv_conf: RESOLV_CONF.into(), keeps_address: true }, plan)
}

/// Refuses a new name that somebody has, before anything is made for it.
fn check_name(global: &Global, plan: &Plan) -> anyhow::Result<()> {
    if global.containers().store().find(&plan.id).is_ok() {
        return Err(insula_boundary::Error::Exists(plan.id.clone()).into());
    }
    Ok(())
}

/// Makes a network, and puts it into the plan.
fn make(global: &Global, kind: Kind, wish: &Wish, plan: &mut Plan) -> anyhow::Result<Joined> {
    let say = |notes: &[String]| notes.iter().for_each(|note| crate::show::warn(format_args!("insula: {note}")));
    if plan.namespaces.has(Namespace::User) {
        ensure!(!global.behind_sentry(), "--network user: behind the sentry it takes root; use none or host");
        let (expected, make) = insula_network::expect(&global.root(), kind, wish)?;
        say(expected.notes());
        show_resolvers(plan, expected.resolv_conf());
        let make = InNetwork::new(|| make().map_err(|error| insula_boundary::Error::Failed(error.to_string())));
        return Ok(Joined { made: None, expected: Some(expected), in_network: Some(make), _held: None });
    }
    let made = insula_network::join(&global.root(), kind, wish)?;
    say(made.notes());
    plan.namespaces.list.insert(Namespace::Net, made.namespace());
    show_resolvers(plan, made.resolv_conf());
    Ok(Joined { made: Some(made), expected: None, in_network: None, _held: None })
}

/// Has the sandbox ask these for names, unless it brings its own word on that.
fn show_resolvers(plan: &mut Plan, file: &Path) {
    let target = Path::new(RESOLV_CONF);
    if plan.mounts.iter().any(|mount| mount.target == target) || plan.system.is_some() && is_link(plan, target) {
        return;
    }
    let source = file.to_owned();
    let mut mount = defaults::mount(target.into(), MountKind::Bind { source, recursive: false }, 0);
    // What it would write there, it would write into our records.
    mount.set = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
    plan.mounts.push(mount);
}

/// Whether a file of a system's is a link: then one of its services keeps it (systemd-resolved, resolvconf), and is to go on doing so.
fn is_link(plan: &Plan, path: &Path) -> bool {
    let tops = match &plan.root.source {
        RootSource::Dir(root) => vec![root.clone()],
        RootSource::Over { lower, keep } => vec![keep.join("upper"), lower.clone()],
        RootSource::Host { .. } => vec![],
    };
    let look = |top: PathBuf| {
        let root = insula_sys::mount::open_place(&top, OFlags::DIRECTORY).ok()?;
        let file = insula_sys::mount::open_inside(root, path, OFlags::PATH | OFlags::NOFOLLOW).ok()?;
        Some(rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(file).ok()?.st_mode).is_symlink())
    };
    tops.into_iter().find_map(look).unwrap_or(false)
}

/// The network namespace of another sandbox.
fn of_container(global: &Global, id: &Id) -> anyhow::Result<OwnedFd> {
    let containers = global.containers();
    let sandbox = containers.open(id)?;
    let status = sandbox.status();
    ensure!(
        matches!(status, Status::Created | Status::Running | Status::Paused),
        "{id} is {}; only a sandbox that runs has a network to join",
        status.as_str()
    );
    check_has_own(global, sandbox.entry())?;
    let init = containers.store().find(id)?.read_init().context("it has ended")?;
    let pid = Pid::from_raw(init.pid).context("it has ended")?;
    let namespace = open_namespace(Path::new(&format!("/proc/{}/ns/net", init.pid)))?;
    // As long as the process is still the one that is on record, the number was its own.
    ensure!(insula_sys::process::find(pid, init.started)?.is_some(), "it has ended");
    Ok(namespace)
}

/// Refuses to join what isn't a network of the sandbox's own.
fn check_has_own(global: &Global, entry: &Entry) -> anyhow::Result<()> {
    let plan: &plan::Plan = &entry.plan;
    if !plan.namespaces.has(Namespace::Net) {
        bail!("{} has the host's network; use --network host", plan.id);
    }
    if entry.boundary == "sentry" && insula_network::facts(&global.root(), plan.id.as_str()).is_none() {
        bail!("{}'s network is inside its sentry, where nobody else can be; run it with --network bridge or user", plan.id);
    }
    Ok(())
}

/// Opens a file that stands for a network namespace.
fn open_namespace(path: &Path) -> anyhow::Result<OwnedFd> {
    let file = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty());
    let file = file.with_context(|| format!("can't open {}", path.display()))?;
    let kind = insula_sys::process::namespace_kind(&file);
    ensure!(kind.is_ok_and(|kind| kind == Spaces::NET), "{} is no network namespace", path.display());
    Ok(file)
}
