//! Whether a host can have bridge networks, and if not, why.

use crate::addresses::Subnet;
use crate::forwarding;
use crate::namespace;
use crate::{links, rules};
use insula_sys::Errno;
use insula_sys::error::describe;
use insula_sys::process::{self, Spaces};

/// Whether it works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// It does.
    Works,
    /// It doesn't.
    Missing {
        /// Why, in a sentence.
        why: String,
        /// What would change that.
        remedy: &'static str,
    },
}

/// Tries it: a bridge, a link and rules, in a network namespace that goes with this call; and looks whether the host may forward packets.
pub fn bridge() -> Support {
    const PRIVILEGE: &str = "Run as root (CAP_NET_ADMIN), or use --network user, which takes no privilege.";
    if rules::program().is_err() {
        let why = "The program nft isn't here.".into();
        return Support::Missing { why, remedy: "Install nftables, or use --network user." };
    }
    if let Err(errno) = forwarding::possible() {
        let why = format!("The host doesn't forward packets, and net.ipv4.ip_forward can't be set: {}.", describe(errno));
        let refused = matches!(errno, Errno::ACCESS | Errno::PERM);
        return Support::Missing {
            why,
            remedy: if refused { PRIVILEGE } else { "Make /proc/sys writable, or set net.ipv4.ip_forward=1 outside." },
        };
    }
    match std::thread::spawn(try_out).join() {
        Ok(Ok(())) => Support::Works,
        Ok(Err(error)) => {
            let remedy = if rustix::process::geteuid().is_root() {
                "A kernel with bridge, veth and nf_tables with nft_nat, nft_masq and nft_fib_inet (CAP_SYS_ADMIN and CAP_NET_ADMIN for this process)."
            } else {
                PRIVILEGE
            };
            Support::Missing { why: format!("A trial failed: {error}."), remedy }
        }
        Err(_) => Support::Missing { why: "A trial failed.".into(), remedy: PRIVILEGE },
    }
}

/// A thread can be in a network namespace of its own, and the programs that it starts are, too.
fn try_out() -> crate::Result<()> {
    use insula_sys::Context;
    process::unshare(Spaces::NET).on("make", "a network namespace")?;
    let mut netlink = crate::netlink::Netlink::open()?;
    let net = Subnet(0);
    links::make_bridge(&mut netlink, net, [0x02, 0, 0, 0, 0, 1], forwarding::has_ipv6())?;
    let inside = namespace::make(|| Ok(()))?.wait()?;
    links::make_link(&mut netlink, net, 2, &inside.file)?;
    rules::try_out()
}
