//! Other isolation programs: what `insula bench` can compare with.

use super::finding::{Finding, Group, and};
use insula_sys::host::Facts;
use insula_sys::host::peers::{Daemon, Peer};

const GROUP: Group = Group::OtherPrograms;

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let (installed, absent): (Vec<&Peer>, Vec<&Peer>) = facts.peers.iter().partition(|peer| peer.path.is_some());
    let mut all: Vec<Finding> = installed.into_iter().map(self::installed).collect();
    if !absent.is_empty() {
        let names: Vec<&str> = absent.iter().map(|peer| peer.name.as_str()).collect();
        all.push(
            Finding::missing(GROUP, "not installed", and(&names))
                .why("Nothing of ours needs them; `insula bench` compares with those that are there."),
        );
    }
    all
}

fn installed(peer: &Peer) -> Finding {
    let place = peer.path.as_ref().map_or_else(String::new, |path| path.display().to_string());
    let version = peer.version.as_deref().unwrap_or("a version it doesn't tell in time");
    let what = format!("{version} ({place})");
    match &peer.daemon {
        None => Finding::ok(GROUP, &peer.name, what),
        Some(Daemon::Answers) => Finding::ok(GROUP, &peer.name, format!("{what}; its daemon answers")),
        Some(Daemon::Silent { error }) => Finding::limited(GROUP, &peer.name, format!("{what}; its daemon doesn't answer"))
            .why(error.clone())
            .remedy("Start the daemon (systemctl start docker, or dockerd as root), and be in its group."),
    }
}
