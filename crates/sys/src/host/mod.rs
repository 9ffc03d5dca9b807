//! What this host can do for isolation: facts, gathered by trying things and by reading what the kernel says about itself.
//!
//! Each file is one subject. It holds a plain, serialisable struct of facts and the small probes that fill it; none of them judges
//! (what a fact *means* for a user is the business of `insula doctor`). Where only an attempt is honest (may I create a user
//! namespace? does overlayfs mount?) the attempt is made in a forked child ([`trial`]) whose namespaces die with it, so nothing is
//! left behind: no mount, no cgroup, no file, no process.
//!
//! | module | subject |
//! |---|---|
//! | [`trial`] | trying something in a throw-away child, and what came of it |
//! | [`kernel`] | the kernel, the machine under it, who runs us |
//! | [`kvm`] | hardware virtualisation, and the hosts that only seem to have it |
//! | [`cgroup`] | cgroup hierarchies, their controllers, who may write to them |
//! | [`namespaces`] | namespace types, user namespaces, subordinate ids |
//! | [`rehearsal`] | a whole container's set-up, step by step |
//! | [`privileges`] | capabilities and resource limits of this process |
//! | [`mounts`] | overlayfs, the new mount interface, idmapped mounts |
//! | [`process`] | clone3, pidfd, openat2, io_uring |
//! | [`security`] | seccomp, Landlock, security modules, lockdown |
//! | [`devices`] | tun, vhost, huge pages, FUSE, nftables |
//! | [`peers`] | other isolation programs, and their versions |

pub mod cgroup;
pub mod devices;
mod files;
pub mod kernel;
pub mod kvm;
mod kvm_guest;
pub mod mounts;
pub mod namespaces;
pub mod peers;
pub mod privileges;
pub mod process;
pub mod rehearsal;
pub mod security;
pub mod trial;

pub use files::filesystems;
pub use trial::Trial;

use serde::Serialize;

/// Everything known about the host, as seen by this process: another user, or a process in a sandbox, may see another host.
#[derive(Debug, Clone, Serialize)]
pub struct Facts {
    /// The kernel, the machine under it, who runs us.
    pub kernel: kernel::Facts,
    /// Hardware virtualisation.
    pub kvm: kvm::Facts,
    /// Cgroup hierarchies.
    pub cgroup: cgroup::Facts,
    /// Namespaces.
    pub namespaces: namespaces::Facts,
    /// Capabilities and resource limits.
    pub privileges: privileges::Facts,
    /// A container's set-up, tried whole.
    pub rehearsal: rehearsal::Facts,
    /// File systems and the mount interface.
    pub mounts: mounts::Facts,
    /// Process creation and system-call interfaces.
    pub process: process::Facts,
    /// Confinement beyond namespaces.
    pub security: security::Facts,
    /// Device nodes, memory and packet filtering.
    pub devices: devices::Facts,
    /// Installed peers.
    pub peers: Vec<peers::Peer>,
}

impl Facts {
    /// Gathers everything; a few tens of milliseconds, most of it spent waiting for the peers to say their version.
    ///
    /// Call it while the process has a single thread: the trials fork, and see [`trial::run`] for what that asks. Nothing fails:
    /// what can't be found out is a fact too.
    pub fn gather() -> Facts {
        // The slow and harmless part first: started here, collected last. These are processes, so no thread of ours runs when we fork.
        let peers = peers::start();
        let kernel = kernel::gather();
        let privileges = privileges::gather();
        let cgroup = cgroup::gather();
        let namespaces = namespaces::gather();
        let rehearsal = rehearsal::gather();
        let mounts = mounts::gather();
        let process = process::gather(&cgroup);
        let security = security::gather();
        let devices = devices::gather();
        // The last one, since it starts a thread.
        let kvm = kvm::gather();
        let peers = peers.finish();
        Facts { kernel, kvm, cgroup, namespaces, privileges, rehearsal, mounts, process, security, devices, peers }
    }
}
