//! Virtual network cards of the kernel's: Ethernet frames by read and write. Source: `Documentation/networking/tuntap.rst`, tun(4).

use crate::error::{Context, Result};
use crate::process::FromC;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

bitflags::bitflags! {
    /// What the reader of a tap can take, and needn't be done for it (TUN_F_*).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Offload: u32 {
        /// Frames without a checksum.
        const CHECKSUM = 0x01;
        /// TCP over IPv4, to be cut into segments.
        const TSO4 = 0x02;
        /// TCP over IPv6, to be cut into segments.
        const TSO6 = 0x04;
        /// TCP segments with congestion marks.
        const ECN = 0x08;
        /// UDP, to be cut into fragments.
        const UFO = 0x10;
    }
}

/// Opens a tap: an existing one of this name, or a new one that goes with its last descriptor. Each frame is led by a `virtio_net_hdr` of
/// 12 bytes. With `several`, it may be opened more than once: a queue each time. Reads and writes don't wait.
///
/// # Errors
/// /dev/net/tun is missing, CAP_NET_ADMIN is, or the device is in use or has another number of queues.
pub fn open(name: &str, several: bool) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let tap = rustix::fs::open("/dev/net/tun", flags, Mode::empty()).on("open", "/dev/net/tun")?;
    // SAFETY: all zeros is a valid value of this plain structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() || name.contains('\0') {
        return Err(Errno::INVAL).on("open the tap", name);
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let several = if several { libc::IFF_MULTI_QUEUE } else { 0 };
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | several) as libc::c_short;
    // SAFETY: the request takes this structure, which lives through the call.
    let result = unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    Errno::result(i64::from(result)).on("open the tap", name)?;
    let size: libc::c_int = 12;
    // SAFETY: the request reads one integer, which lives through the call.
    let result = unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNSETVNETHDRSZ as _, &raw const size) };
    Errno::result(i64::from(result)).on("set the size of headers of the tap", name)?;
    Ok(tap)
}

/// Whether there is a network device of this name in our network namespace.
pub fn exists(name: &str) -> bool {
    let socket = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::DGRAM, None);
    socket.is_ok_and(|socket| rustix::net::netdevice::name_to_index(socket, name).is_ok())
}

/// Says what the reader of the tap can take.
///
/// # Errors
/// It is no tap, or the kernel can't do this.
pub fn set_offload(tap: impl AsFd, offload: Offload) -> Result<()> {
    // SAFETY: the request takes a number, not a pointer.
    let result = unsafe { libc::ioctl(tap.as_fd().as_raw_fd(), libc::TUNSETOFFLOAD as _, libc::c_ulong::from(offload.bits())) };
    Errno::result(i64::from(result)).on("set the offloads of", "the tap").map(drop)
}

/// Lets a queue of a tap take part, or not: frames go to those only that do. (It must have been opened as one of several.)
///
/// # Errors
/// It is no tap, or the only queue.
pub fn set_queue(tap: impl AsFd, attached: bool) -> Result<()> {
    // SAFETY: all zeros is a valid value of this plain structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let flag = if attached { libc::IFF_ATTACH_QUEUE } else { libc::IFF_DETACH_QUEUE };
    request.ifr_ifru.ifru_flags = flag as libc::c_short;
    // SAFETY: the request reads this structure, which lives through the call.
    let result = unsafe { libc::ioctl(tap.as_fd().as_raw_fd(), libc::TUNSETQUEUE as _, &raw const request) };
    Errno::result(i64::from(result)).on("switch a queue of", "the tap").map(drop)
}
