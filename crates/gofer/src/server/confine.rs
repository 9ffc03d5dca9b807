//! What a gofer gives up before it reads the first request.
//!
//! Afterwards its whole world is: an empty, read-only root; each export as a mount of its own that is attached nowhere, so that even
//! `..` ends at its root; and `/proc/self/fd`, in the same way, as its working directory. It is alone in its namespaces, keeps the
//! capabilities for files and no other, and can't be looked into.

use super::{Node, Served, attributes};
use crate::config::{Confinement, Export};
use insula_spec::defaults::attr;
use insula_sys::mount::{self, Change};
use insula_sys::process::{self, Spaces};
use insula_sys::{Context, Errno, Result, capability};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::mount::MountPropagationFlags;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::CapabilitiesSecureBits as SecureBits;
use std::path::Path;
use std::sync::Arc;

/// Descriptors beside those of handles: sockets, exports, and what is open while a request is answered.
const RESERVE: u32 = 256;

/// Makes this process, which has one thread, a gofer; gives what it serves and how many handles it can have.
pub(crate) fn enter(exports: &[Export], how: &Confinement, keep: &[BorrowedFd<'_>]) -> Result<(Vec<Served>, u32)> {
    process::leave_caller(keep)?;
    let handles = limit_descriptors(how.handles)?;
    process::unshare(Spaces::MNT | Spaces::IPC | Spaces::UTS | Spaces::NET).on("make", "the gofer's namespaces")?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .on("cut off", "the mounts of the host")?;
    let served = exports.iter().enumerate().map(|(number, export)| open(number, export)).collect::<Result<Vec<Served>>>()?;
    let own_files = mount::copy(rustix::fs::CWD, Path::new("/proc/self/fd"), false).on("copy the mount of", "/proc/self/fd")?;
    enter_empty_root()?;
    rustix::process::fchdir(&own_files).on("enter", "/proc/self/fd")?;
    give_up_privileges(how.capabilities)?;
    Ok((served, handles))
}

/// Makes this process, which has one thread, a net process: nothing of the host is left to it but the network.
pub(crate) fn enter_network(low_ports: bool, keep: &[BorrowedFd<'_>]) -> Result<()> {
    process::leave_caller(keep)?;
    limit_descriptors(RESERVE)?;
    process::unshare(Spaces::MNT | Spaces::IPC | Spaces::UTS).on("make", "the net process's namespaces")?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .on("cut off", "the mounts of the host")?;
    enter_empty_root()?;
    give_up_privileges(if low_ports { 1 << NET_BIND_SERVICE } else { 0 })
}

/// Source: capabilities(7).
const NET_BIND_SERVICE: u32 = 10;

/// Raises the limit of descriptors for the handles, as far as we may.
fn limit_descriptors(handles: u32) -> Result<u32> {
    let wanted = u64::from(handles.saturating_add(RESERVE));
    let most = rustix::process::getrlimit(Resource::Nofile).maximum;
    let limit = |value: u64| rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(value), maximum: Some(value) });
    let got = match limit(wanted) {
        Err(Errno::PERM) => {
            let most = most.unwrap_or(wanted).min(wanted);
            limit(most).map(|()| most)
        }
        result => result.map(|()| wanted),
    };
    let got = got.on("limit", "descriptors")?;
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).on("limit", "core files")?;
    Ok(u32::try_from(got).unwrap_or(u32::MAX).saturating_sub(RESERVE))
}

/// Opens an export as a mount of its own.
fn open(number: usize, export: &Export) -> Result<Served> {
    let name = export.source.display();
    let source = mount::open_place(&export.source, OFlags::empty()).on("export", &name)?;
    let root = mount::copy(&source, Path::new(""), export.recursive).on("copy the mount of", &name)?;
    let mut set = attr::NOSUID | attr::NOSYMFOLLOW;
    set |= if export.read_only { attr::RDONLY } else { 0 };
    set |= if export.devices { 0 } else { attr::NODEV };
    let change = Change { set, recursive: export.recursive, ..Change::default() };
    mount::set_attributes(&root, change).on("change the mount of", &name)?;
    let attr = attributes(&root).on("look at", &name)?;
    let root = Arc::new(Node::new(root, number, &attr));
    let Export { shared, devices, pipes, file_capabilities, .. } = *export;
    Ok(Served { root, shared, devices, pipes, file_capabilities })
}

fn enter_empty_root() -> Result<()> {
    let attributes = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC;
    let root = mount::make("tmpfs", "gofer", &["size=4096".into(), "nr_inodes=2".into(), "mode=555".into()], attributes)?;
    let old = mount::open_place(Path::new("/"), OFlags::DIRECTORY).on("open", "/")?;
    mount::attach(&root, old).on("mount on", "/")?;
    mount::pivot(&root)
}

fn give_up_privileges(keep: u64) -> Result<()> {
    // Capabilities stay as they are when files are made in somebody's name, and root is nobody special.
    let bits = SecureBits::NO_ROOT
        | SecureBits::NO_ROOT_LOCKED
        | SecureBits::NO_SETUID_FIXUP
        | SecureBits::NO_SETUID_FIXUP_LOCKED
        | SecureBits::KEEP_CAPS_LOCKED
        | SecureBits::NO_CAP_AMBIENT_RAISE
        | SecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    rustix::thread::set_capabilities_secure_bits(bits).on("fix", "how capabilities change")?;
    let (_, permitted, _) = capability::get()?;
    let keep = keep & permitted;
    capability::set_ambient(0)?;
    capability::limit_bounding(keep)?;
    capability::set(keep, keep, 0)?;
    rustix::thread::set_no_new_privs(true).on("give up", "new privileges")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).on("hide", "the gofer's memory")
}

/// The descriptors of sockets, to be kept open.
pub(crate) fn borrowed(descriptors: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    descriptors.iter().map(AsFd::as_fd).collect()
}
