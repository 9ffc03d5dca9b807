//! Networks of containers: tried, as everything, in a network namespace that goes again.

use super::finding::{Finding, Group};
use insula_network::Support;

const GROUP: Group = Group::Devices;

pub(super) fn findings() -> Vec<Finding> {
    let what = "sandboxes on a bridge of the host's, with published ports (run --network bridge)";
    vec![match insula_network::bridge_support() {
        Support::Works => Finding::ok(GROUP, "bridge networks", what),
        Support::Missing { why, remedy } => Finding::missing(GROUP, "bridge networks", what).why(why).remedy(remedy),
    }]
}
