//! Device nodes a sandbox may use, huge pages, and packet filtering.

use super::files;
use super::trial::{self, Failure, IdMaps, Step, Trial, unshare};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use rustix::thread::UnshareFlags;
use serde::Serialize;
use std::path::Path;

/// What is known about devices and memory.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// Device nodes.
    pub nodes: Vec<Node>,
    /// Reserved huge pages, by size.
    pub huge_pages: Vec<HugePages>,
    /// Transparent huge pages: `always`, `madvise` or `never`.
    pub transparent_huge_pages: Option<String>,
    /// Talking to nftables in a network namespace of our own.
    pub nftables: Trial,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its path.
    pub path: String,
    /// What it is worth to this user.
    pub state: State,
}

impl Node {
    /// Whether this user can use it, perhaps after its driver was loaded.
    pub fn usable(&self) -> bool {
        matches!(self.state, State::Opens | State::Unloaded)
    }
}

/// What a device node is worth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// There is no node.
    Absent,
    /// It opens for reading and writing.
    Opens,
    /// This user may open it, and the kernel would load the driver then; that isn't done for a report.
    Unloaded,
    /// It doesn't open.
    Refused {
        /// The error in words.
        error: String,
    },
}

/// Reserved huge pages of one size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HugePages {
    /// Size of a page, in bytes.
    pub size: u64,
    /// How many are reserved.
    pub total: i64,
    /// How many of them nobody uses.
    pub free: i64,
}

/// Nodes, and the driver's name under `/sys/class/misc`.
const NODES: [(&str, &str); 6] = [
    ("/dev/net/tun", "tun"),
    ("/dev/vhost-net", "vhost-net"),
    ("/dev/vhost-vsock", "vhost-vsock"),
    ("/dev/vsock", "vsock"),
    ("/dev/fuse", "fuse"),
    ("/dev/userfaultfd", "userfaultfd"),
];

pub(super) fn gather() -> Facts {
    let thp = files::text("/sys/kernel/mm/transparent_hugepage/enabled");
    Facts {
        nodes: NODES.into_iter().map(node).collect(),
        huge_pages: huge_pages(),
        transparent_huge_pages: thp.and_then(|text| files::bracketed(&text).map(str::to_owned)),
        nftables: nftables(),
    }
}

fn node((path, driver): (&str, &str)) -> Node {
    Node { path: path.to_owned(), state: state(path, driver) }
}

fn state(path: &str, driver: &str) -> State {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    let refused = |errno: Errno| State::Refused { error: std::io::Error::from(errno).to_string() };
    match accessat(CWD, path, Access::READ_OK | Access::WRITE_OK, AtFlags::EACCESS) {
        Err(Errno::NOENT) => return State::Absent,
        Err(errno) => return refused(errno),
        Ok(()) => {}
    }
    if !Path::new("/sys/class/misc").join(driver).exists() && Path::new("/sys/class/misc").exists() {
        return State::Unloaded;
    }
    // Permission bits aren't all: a device cgroup can still say no.
    match rustix::fs::open(path, rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty()) {
        Ok(_) => State::Opens,
        Err(errno) => refused(errno),
    }
}

fn huge_pages() -> Vec<HugePages> {
    let Ok(sizes) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return Vec::new() };
    let mut found: Vec<HugePages> = sizes.flatten().filter_map(|entry| huge_page_size(&entry.path())).collect();
    found.sort_by_key(|pages| pages.size);
    found
}

fn huge_page_size(directory: &Path) -> Option<HugePages> {
    let name = directory.file_name()?.to_str()?;
    let kibibytes: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    let count = |file: &str| files::number(directory.join(file)).unwrap_or(0);
    Some(HugePages { size: kibibytes.saturating_mul(1024), total: count("nr_hugepages"), free: count("free_hugepages") })
}

/// Asks nftables for its generation, in a network namespace of our own. As with any first use, the kernel may load its module.
fn nftables() -> Trial {
    let maps = IdMaps::if_unprivileged();
    trial::run(|| {
        trial::become_root(maps.as_ref())?;
        unshare(UnshareFlags::NEWNET).step("creating a network namespace")?;
        ask_for_generation()
    })
}

fn ask_for_generation() -> Result<(), Failure> {
    /// `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN`, a message of twenty bytes: netlink(7) header and `struct nfgenmsg`.
    const TYPE: u16 = 10 << 8 | 16;
    const NLM_F_REQUEST: u16 = 1;
    const NLMSG_ERROR: u16 = 2;
    let mut message = [0u8; 20];
    message[..4].copy_from_slice(&20u32.to_ne_bytes());
    message[4..6].copy_from_slice(&TYPE.to_ne_bytes());
    message[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());

    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::NETFILTER))
        .step("opening a netfilter socket")?;
    rustix::net::send(&socket, &message, SendFlags::empty()).step("asking nftables")?;
    let mut reply = [0u8; 256];
    // The kernel answers within the send; if nothing is there, nothing will come.
    let (length, _) = rustix::net::recv(&socket, &mut reply, RecvFlags::DONTWAIT).step("hearing from nftables")?;
    let kind = u16::from_ne_bytes([reply[4], reply[5]]);
    let code = i32::from_ne_bytes([reply[16], reply[17], reply[18], reply[19]]);
    match (length, kind) {
        (20.., NLMSG_ERROR) if code != 0 => {
            Err(Failure::new("asking nftables", Errno::from_raw_os_error(code.checked_neg().unwrap_or(libc::EIO))))
        }
        (20.., _) => Ok(()),
        _ => Err(Failure::new("hearing from nftables", Errno::BADMSG)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_absent_or_opens() {
        assert_eq!(state("/dev/no-such-device", "none"), State::Absent);
        assert!(gather().nodes.iter().all(|node| node.path.starts_with("/dev/")));
    }
}
