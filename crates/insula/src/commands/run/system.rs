//! `--isolation system`: what a whole system gets that a program in a container doesn't, and what makes no sense for one.

use super::network::Network;
use super::options::Args;
use anyhow::{bail, ensure};
use insula_network::Kind;
use insula_spec::plan::{MadeNetwork, Mount, Namespace, Plan, RootSource, System};
use insula_spec::{CapSet, system};
use std::path::PathBuf;

/// Refuses what an init would not understand.
pub(super) fn check(args: &Args) -> anyhow::Result<()> {
    let refused = [
        (args.bundle.is_some(), "--bundle", "a bundle's configuration says itself all that a container is"),
        (args.keep.is_some(), "--keep", "a system writes to its own root"),
        (args.user.is_some(), "--user", "an init runs as root, and starts others as their users"),
        (args.workdir.is_some(), "--workdir", "an init starts in /"),
        (args.preserve_fds > 0, "--preserve-fds", "an init takes no descriptors"),
        (args.no_new_keyring, "--no-new-keyring", "a system has keys of its own"),
    ];
    if let Some((_, option, why)) = refused.iter().find(|(given, ..)| *given) {
        bail!("{option}: not with --isolation system: {why}");
    }
    ensure!(args.rootfs.is_some(), "--isolation system needs --rootfs: the directory of the system, as debootstrap makes one");
    let others = matches!(args.network, Network::Container(_));
    ensure!(
        !others,
        "--network container: not with --isolation system, which can be started when the other isn't there; use ns:PATH"
    );
    let mapped = args.userns != "host";
    let tap = mapped && args.network == Network::Made(Kind::User);
    ensure!(!tap, "--network user: not with --userns: its root may not open /dev/net/tun; use --network bridge");
    let shared = mapped && args.network == Network::Host;
    ensure!(!shared, "--network host: not with --userns: a /sys can be mounted only by whose the network is; use --network none");
    Ok(())
}

/// What an init may do by default.
pub(super) fn capabilities(args: &Args) -> CapSet {
    system::capabilities(args.network != Network::Host)
}

/// The file systems of the system.
pub(super) fn mounts(args: &Args) -> Vec<Mount> {
    let mut mounts = system::mounts();
    if args.userns == "host" {
        mounts.extend(system::privileged_mounts(&insula_sys::host::filesystems()));
    }
    mounts
}

/// Turns the plan of a container into that of a system.
pub(super) fn complete(args: &Args, plan: &mut Plan) -> anyhow::Result<()> {
    let RootSource::Dir(root) = &plan.root.source else { bail!("--isolation system needs --rootfs") };
    let init = plan.process.args.first().map_or(system::INIT, String::as_str);
    let network = match &args.network {
        Network::Made(kind) => {
            let publish = args.publish.iter().map(ToString::to_string).collect();
            Some(MadeNetwork { bridge: *kind == Kind::Bridge, publish })
        }
        _ => None,
    };
    plan.system = Some(System { shutdown: insula_container::shutdown_of(root, init)?, network });
    plan.writable_paths = system::WRITABLE_PATHS.map(PathBuf::from).to_vec();
    let process = &mut plan.process;
    process.reaper = false;
    process.terminal = true;
    let said = |key: &str| args.security_opt.iter().any(|option| option.starts_with(key));
    if !said("no-new-privileges") {
        // Whoever logs in becomes another user, and su and sudo make them root.
        process.no_new_privileges = false;
    }
    if !said("seccomp") {
        process.seccomp = Some(system::policy(process.capabilities.bounding, plan.namespaces.has(Namespace::User)));
    }
    // By this an init knows where it is: https://systemd.io/CONTAINER_INTERFACE.
    process.env.retain(|text| !text.starts_with("container="));
    process.env.push(format!("container={}", insula_container::container_name(root)?));
    if !process.env.iter().any(|text| text.starts_with("TERM=")) {
        process.env.push("TERM=linux".to_owned());
    }
    Ok(())
}
