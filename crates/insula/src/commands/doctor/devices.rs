//! Device nodes, huge pages, packet filtering.

use super::finding::{Finding, Group, and, load};
use super::namespaces::users_remedy;
use insula_sys::host::Facts;
use insula_sys::host::devices::{HugePages, Node, State};

const GROUP: Group = Group::Devices;

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let devices = &facts.devices;
    let mut all: Vec<Finding> = devices.nodes.iter().map(|found| node(facts, found)).collect();
    let nftables = "filters and publishes ports of sandboxes";
    all.push(Finding::tried(GROUP, "nftables", nftables, &devices.nftables).remedy(
        if facts.namespaces.types.iter().any(|kind| kind.name == "net" && !kind.works()) {
            users_remedy(facts)
        } else {
            load(facts, "nf_tables")
        },
    ));
    all.push(huge_pages(&devices.huge_pages));
    all.push(transparent(devices.transparent_huge_pages.as_deref()));
    all
}

/// What a node is for, and the module behind it.
fn purpose(path: &str) -> (&'static str, &'static str) {
    match path {
        "/dev/net/tun" => ("tap devices: the network of virtual machines", "tun"),
        "/dev/vhost-net" => ("moves a machine's packets inside the host's kernel", "vhost_net"),
        "/dev/vhost-vsock" => ("sockets between a host and its virtual machines", "vhost_vsock"),
        "/dev/vsock" => ("sockets between machines and hosts: our own side", "vsock"),
        "/dev/fuse" => ("file systems in user space (fuse-overlayfs)", "fuse"),
        "/dev/userfaultfd" => ("page faults answered in user space: snapshots restored lazily", "userfaultfd"),
        _ => ("a device", ""),
    }
}

fn node(facts: &Facts, node: &Node) -> Finding {
    let (what, module) = purpose(&node.path);
    match &node.state {
        State::Opens => Finding::ok(GROUP, &node.path, what),
        State::Unloaded => Finding::ok(GROUP, &node.path, format!("{what}; its driver loads on first use")),
        State::Absent => Finding::missing(GROUP, &node.path, what).why("There is no such node.").remedy(match module {
            "userfaultfd" => "Linux 6.1 or newer; until then the userfaultfd system call, with CAP_SYS_PTRACE.".to_owned(),
            _ if facts.kernel.inside_container.is_some() => "Pass the device into the container we run in.".to_owned(),
            _ => load(facts, module),
        }),
        State::Refused { error } => Finding::missing(GROUP, &node.path, what)
            .why(error.clone())
            .remedy("As root: give this user the node (a udev rule, or setfacl -m u:USER:rw)."),
    }
}

fn huge_pages(sizes: &[HugePages]) -> Finding {
    const MEBIBYTE: u64 = 1 << 20;
    let show = |pages: &HugePages| format!("{} of {} MiB ({} free)", pages.total, pages.size / MEBIBYTE, pages.free);
    let reserved: Vec<String> = sizes.iter().filter(|pages| pages.total > 0).map(show).collect();
    match (sizes, reserved.as_slice()) {
        ([], _) => Finding::missing(GROUP, "huge pages", "large pages under guest memory")
            .why("The kernel has no hugetlbfs.")
            .remedy("A kernel with CONFIG_HUGETLBFS."),
        (_, []) => Finding::limited(GROUP, "huge pages", "available, none reserved")
            .why("Guest memory on reserved huge pages can't be had.")
            .remedy("As root: sysctl vm.nr_hugepages=512 reserves 1 GiB of 2 MiB pages."),
        _ => Finding::ok(GROUP, "huge pages", format!("reserved: {}", and(&reserved))),
    }
}

fn transparent(mode: Option<&str>) -> Finding {
    let subject = "transparent huge pages";
    match mode {
        Some("never") => Finding::limited(GROUP, subject, "never")
            .why("Guest memory is mapped in small pages: more page-table walks, slower memory.")
            .remedy("As root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled."),
        Some("madvise") => Finding::ok(GROUP, subject, "on request (madvise)"),
        Some(mode) => Finding::ok(GROUP, subject, mode),
        None => Finding::missing(GROUP, subject, "large pages without reserving them")
            .why("The kernel was built without them.")
            .remedy("A kernel with CONFIG_TRANSPARENT_HUGEPAGE."),
    }
}
