//! A container's network namespace, made before the container, which joins it.

use crate::error::{Error, Result};
use crate::netlink::Netlink;
use insula_sys::process::{self, Spaces};
use insula_sys::{Context, net};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use std::thread::JoinHandle;

/// A namespace, and what was opened in it.
#[derive(Debug)]
pub(crate) struct Namespace<T> {
    pub(crate) file: OwnedFd,
    /// A socket to configure it through.
    pub(crate) netlink: Netlink,
    pub(crate) opened: T,
}

/// A namespace that is being made: the kernel takes long over it, and the caller has other things to do.
#[derive(Debug)]
pub(crate) struct Making<T>(JoinHandle<Result<Namespace<T>>>);

/// Makes a namespace with a loopback device, and opens something in it. A thread can be in another namespace than its process; this one makes it,
/// and goes.
pub(crate) fn make<T: Send + 'static>(open: impl FnOnce() -> Result<T> + Send + 'static) -> Result<Making<T>> {
    let thread = std::thread::Builder::new().stack_size(128 << 10).spawn(|| {
        process::unshare(Spaces::NET).on("make", "a network namespace")?;
        net::loopback_up()?;
        set_up()?;
        let file = rustix::fs::open("/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let file = file.on("open", "the new network namespace")?;
        Ok(Namespace { file, netlink: Netlink::open()?, opened: open()? })
    });
    Ok(Making(thread.on("make", "a thread")?))
}

/// A socket to configure a namespace of somebody else's through, made by a thread that is there for a moment.
pub(crate) fn enter(namespace: &OwnedFd) -> Result<Netlink> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, || {
            process::join_namespace(namespace, Spaces::NET).on("join", "the sandbox's network namespace")?;
            Netlink::open()
        });
        let thread = thread.on("make", "a thread")?;
        thread.join().unwrap_or_else(|_| Err(Error::Failed("the thread that joins a network namespace has failed".into())))
    })
}

/// Settings of a network namespace that is a container's own, by a thread in it: every port is there for every user, as nobody else's server can
/// be meant; and what a neighbour says of routers is nothing to go by (CVE-2020-13401). A host without IPv6 has no such setting.
pub(crate) fn set_up() -> Result<()> {
    for (setting, value) in [("ipv4/ip_unprivileged_port_start", "0"), ("ipv6/conf/default/accept_ra", "0")] {
        let path = format!("/proc/sys/net/{setting}");
        match std::fs::write(&path, value) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Ok(Err(error).on("write", path)?),
            _ => {}
        }
    }
    Ok(())
}

impl<T> Making<T> {
    /// Waits until it is there.
    pub(crate) fn wait(self) -> Result<Namespace<T>> {
        self.0.join().unwrap_or_else(|_| Err(Error::Failed("the thread that makes a network namespace has failed".into())))
    }
}
