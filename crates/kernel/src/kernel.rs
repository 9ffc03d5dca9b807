//! The kernel of one sandbox.

use crate::fs::epoll::Epolls;
use crate::fs::locks::Locks;
use crate::fs::pipe::{self, Fifos};
use crate::fs::types::FileSystems;
use crate::futex::Futexes;
use crate::host::Host;
use crate::mm::frames::Frames;
use crate::socket::Sockets;
use crate::task::pids::Pids;
use crate::task::spaces::{Counts, Spaces};
use crate::time::Timers;
use crate::tty::devpts::Terminals;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

/// The kernel of one sandbox: everything that its programs share. There are no globals beside it.
pub struct Kernel {
    /// What it stands on.
    pub host: Host,
    /// The pages of all programs.
    pub frames: Arc<Frames>,
    /// Alarms that are set.
    pub timers: Timers,
    /// Tasks that wait at words of memory.
    pub futexes: Futexes,
    /// What files that wait for others have in common.
    pub epolls: Epolls,
    /// FIFOs that somebody has open.
    pub fifos: Fifos,
    /// What the pipes of each user hold.
    pub pipes: Arc<pipe::Accounts>,
    /// The next number of a file that has no place in the tree.
    inodes: AtomicU64,
    /// Terminals.
    pub terminals: Terminals,
    /// What tells this run of the kernel from any other (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: [u8; 16],
    /// Tasks, by number.
    pub pids: Pids,
    /// The namespaces of its first task.
    pub spaces: Spaces,
    /// How many there are of others.
    pub namespaces: Counts,
    /// File systems that can be mounted, devices that can be opened, and names that are known.
    pub file_systems: FileSystems,
    /// Locks on files.
    pub locks: Arc<Locks>,
    /// What sockets have in common.
    pub sockets: Sockets,
    /// The most idle time that was told (`/proc/uptime`), in nanoseconds.
    pub idle: AtomicU64,
    /// Calls that were made and aren't supported, counted by number.
    pub refused: crate::syscall::Refusals,
}

impl Kernel {
    /// A kernel with no task in it.
    pub fn new(host: Host) -> Arc<Self> {
        let mut boot_id = [0; 16];
        host.entropy.fill(&mut boot_id);
        let kernel = Arc::new(Kernel {
            frames: Frames::new(host.memory.clone(), host.machine.vdso.clone()),
            timers: Timers::new(host.clock.clone()),
            futexes: Futexes::default(),
            epolls: Epolls::default(),
            fifos: Fifos::default(),
            pipes: Arc::default(),
            inodes: AtomicU64::new(1),
            terminals: Terminals::default(),
            boot_id,
            pids: Pids::default(),
            spaces: Spaces::first(host.network.clone()),
            namespaces: Counts::default(),
            file_systems: FileSystems::default(),
            locks: Arc::default(),
            sockets: Sockets::default(),
            idle: AtomicU64::new(0),
            refused: Default::default(),
            host,
        });
        crate::fs::dev::register(&kernel);
        crate::fs::overlay::options::register(&kernel);
        crate::fs::proc::register(&kernel);
        crate::fs::sysfs::register(&kernel);
        crate::tty::devpts::register(&kernel);
        kernel
    }

    /// A number for a file that has no place in the tree: a pipe, a socket.
    pub fn anonymous_inode(&self) -> u64 {
        self.inodes.fetch_add(1, Ordering::Relaxed)
    }
}
