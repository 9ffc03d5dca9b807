//! Settings of the host's kernel that a bridge needs, sysctl(8). Those of the bridge go with it; that the host forwards packets at all stays, as
//! others who have come to rely on it (engines, virtual machines, tunnels) don't say so.

use crate::error::Result;
use insula_sys::{Context, Errno};
use std::path::Path;

const IPV4: &str = "/proc/sys/net/ipv4/ip_forward";
const IPV6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";

/// Has the host forward packets between this bridge and elsewhere. Gives the names of the settings that were changed for all of the host.
pub(crate) fn allow(bridge: &str, ipv6: bool) -> Result<Vec<&'static str>> {
    let mut changed = Vec::new();
    if switch_on(IPV4)? {
        changed.push("net.ipv4.ip_forward");
    }
    // For the host's own connections to published ports at 127.0.0.1.
    write(Path::new(&format!("/proc/sys/net/ipv4/conf/{bridge}/route_localnet")), "1")?;
    if !ipv6 {
        return Ok(changed);
    }
    // No container tells the host where to send its packets.
    write(Path::new(&format!("/proc/sys/net/ipv6/conf/{bridge}/accept_ra")), "0")?;
    if is(IPV6, "1") {
        return Ok(changed);
    }
    keep_hearing_routers()?;
    if switch_on(IPV6)? {
        changed.push("net.ipv6.conf.all.forwarding");
    }
    Ok(changed)
}

/// Whether the host's network has IPv6.
pub(crate) fn has_ipv6() -> bool {
    is("/proc/sys/net/ipv6/conf/all/disable_ipv6", "0") && is("/proc/sys/net/ipv6/conf/default/disable_ipv6", "0")
}

/// Whether forwarding is on, or can be switched on; if not, why.
pub(crate) fn possible() -> std::result::Result<(), Errno> {
    if is(IPV4, "1") {
        return Ok(());
    }
    // Asks for the file system, too: a read-only /proc/sys is what containers have.
    match std::fs::OpenOptions::new().write(true).open(IPV4) {
        Ok(_) => Ok(()),
        Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
    }
}

/// Who forwards packets takes itself for a router, and doesn't listen to others any more: the host would lose its own way out. Where it
/// listened, it is told to go on. Source: `Documentation/networking/ip-sysctl.rst`, accept_ra.
fn keep_hearing_routers() -> Result<()> {
    let devices = Path::new("/proc/sys/net/ipv6/conf");
    for entry in std::fs::read_dir(devices).on("read", devices.display())?.flatten() {
        let setting = entry.path().join("accept_ra");
        if is(&setting, "1") && entry.file_name() != "all" {
            write(&setting, "2")?;
        }
    }
    Ok(())
}

fn is(path: impl AsRef<Path>, value: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.trim() == value)
}

/// Whether it had to be switched on.
fn switch_on(path: &str) -> Result<bool> {
    if is(path, "1") {
        return Ok(false);
    }
    write(Path::new(path), "1").map(|()| true)
}

fn write(path: &Path, value: &str) -> Result<()> {
    Ok(std::fs::write(path, value).on("write", path.display())?)
}
