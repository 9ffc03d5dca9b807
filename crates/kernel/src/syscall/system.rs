//! The machine as a whole: `uname sysinfo sethostname reboot unshare` and what only its owner may do.

use super::{Args, Cx, Entry, Level, full, partial};
use crate::sync::Mutex;
use crate::task::pid_namespaces::of_child;
use crate::task::pidfd::Pidfd;
use crate::task::spaces::Spaces;
use crate::task::{Task, spaces};
use crate::{Errno, Flow, Result, SysResult};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use insula_abi::Sysno;
use insula_abi::general as c;
use insula_abi::process::{Sysinfo, Utsname};
use insula_abi::time::SECOND;

/// What is there only to be refused as Linux would.
const fn refused(number: Sysno, handler: super::Handler) -> Entry {
    Entry { number, level: Level::Partial("refused: the machine isn't the sandbox's"), handler }
}

pub(crate) const CALLS: &[Entry] = &[
    full(Sysno::uname, |cx, [address, ..]| {
        let mut name = *cx.task.spaces().uts.holds.lock();
        if cx.task.personality.load(Ordering::Relaxed) & UNAME26 != 0 {
            name.release = field(OLD_RELEASE);
        }
        cx.task.mm().put(address, &name).map(Flow::from)
    }),
    full(Sysno::sethostname, |cx, [name, len, ..]| set_name(cx, name, len, |names| &mut names.nodename)),
    full(Sysno::setdomainname, |cx, [name, len, ..]| set_name(cx, name, len, |names| &mut names.domainname)),
    partial(Sysno::sysinfo, "no load averages", sysinfo),
    partial(Sysno::unshare, "files, descriptors; namespaces of mounts, UTS, IPC, networks, control groups, users, PIDs", unshare),
    full(Sysno::reboot, reboot),
    refused(Sysno::acct, |cx, [path, ..]| match path {
        // Nothing is accounted, so that is what is asked for.
        0 if cx.task.credentials().has(c::CAP_SYS_PACCT) => Ok(Flow::Done(0)),
        _ => Err(Errno::EPERM),
    }),
    refused(Sysno::swapon, |cx, _| only_with(cx, c::CAP_SYS_ADMIN, Errno::EPERM)),
    refused(Sysno::swapoff, |cx, _| only_with(cx, c::CAP_SYS_ADMIN, Errno::EPERM)),
    refused(
        Sysno::iopl,
        |cx, [level, ..]| if level as u32 > 3 { Err(Errno::EINVAL) } else { only_with(cx, c::CAP_SYS_RAWIO, Errno::EPERM) },
    ),
    refused(Sysno::vhangup, |cx, _| only_with(cx, c::CAP_SYS_TTY_CONFIG, Errno::EPERM)),
    refused(Sysno::ioperm, |cx, [from, count, ..]| match from.checked_add(count) {
        Some(0..=PORTS) if from <= PORTS => only_with(cx, c::CAP_SYS_RAWIO, Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }),
    refused(Sysno::init_module, |cx, _| only_with(cx, c::CAP_SYS_MODULE, Errno::EPERM)),
    refused(Sysno::finit_module, |cx, _| only_with(cx, c::CAP_SYS_MODULE, Errno::EPERM)),
    refused(Sysno::delete_module, |cx, _| only_with(cx, c::CAP_SYS_MODULE, Errno::EPERM)),
    refused(Sysno::kexec_load, |cx, _| only_with(cx, c::CAP_SYS_BOOT, Errno::EPERM)),
    refused(Sysno::kexec_file_load, |cx, _| only_with(cx, c::CAP_SYS_BOOT, Errno::EPERM)),
    refused(Sysno::syslog, |cx, _| only_with(cx, c::CAP_SYSLOG, Errno::EPERM)),
    refused(Sysno::bpf, |cx, _| only_with(cx, c::CAP_BPF, Errno::EPERM)),
    refused(Sysno::perf_event_open, |cx, _| only_with(cx, c::CAP_PERFMON, Errno::ENOSYS)),
    partial(Sysno::setns, "mounts, UTS, IPC, networks, control groups, users, PIDs", |cx, [fd, kind, ..]| {
        let description = cx.task.file(fd as i32)?;
        match description.as_file::<Pidfd>() {
            Some(pidfd) => spaces::enter_of(cx.task, &pidfd.process, kind as u32)?,
            None => spaces::enter(cx.task, &description, kind as u32)?,
        }
        Ok(Flow::Done(0))
    }),
];

/// I/O ports of a machine.
const PORTS: u64 = 65536;

fn only_with(cx: &Cx<'_>, capability: u32, otherwise: Errno) -> SysResult {
    Err(if cx.task.credentials().has(capability) { otherwise } else { Errno::EPERM })
}

/// Copies a text into a field of uname(2), which ends with a zero byte.
fn field(text: &[u8]) -> [u8; 65] {
    let mut field = [0; 65];
    let len = text.len().min(64);
    field[..len].copy_from_slice(&text[..len]);
    field
}

/// `UNAME26` of personality(2).
const UNAME26: u32 = 0x002_0000;

/// The release that programs are told that take 2.6 for all there is (personality(2), `UNAME26`): 6.12 is 2.6.72, as Linux counts.
const OLD_RELEASE: &[u8] = b"2.6.72-insula";

/// What uname(2) tells at first. The version is that of the interface which programs find.
pub(crate) fn names() -> Utsname {
    Utsname {
        sysname: field(b"Linux"),
        nodename: field(b"insula"),
        release: field(b"6.12.0-insula"),
        version: field(b"#1 SMP Insula"),
        machine: field(b"x86_64"),
        domainname: field(b"(none)"),
    }
}

fn set_name(cx: &mut Cx<'_>, name: u64, len: u64, which: fn(&mut Utsname) -> &mut [u8; 65]) -> SysResult {
    if !cx.task.credentials().has_in(&cx.task.spaces().uts.owner, c::CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let len = usize::try_from(len as i32).ok().filter(|len| *len <= 64).ok_or(Errno::EINVAL)?;
    let mut text = [0; 64];
    cx.task.mm().read(name, &mut text[..len])?;
    *which(&mut cx.task.spaces().uts.holds.lock()) = field(&text[..len]);
    Ok(Flow::Done(0))
}

fn sysinfo(cx: &mut Cx<'_>, [address, ..]: Args) -> SysResult {
    let total = cx.kernel.host.memory.limit();
    let info = Sysinfo {
        uptime: (cx.kernel.host.clock.monotonic() / SECOND) as i64,
        totalram: total,
        freeram: total.saturating_sub(cx.kernel.frames.used()),
        procs: u16::try_from(cx.kernel.pids.lock().count()).unwrap_or(u16::MAX),
        mem_unit: 1,
        ..Sysinfo::default()
    };
    cx.task.mm().put(address, &info).map(Flow::from)
}

fn unshare(cx: &mut Cx<'_>, [flags, ..]: Args) -> SysResult {
    let has = |flag: u32| flags & u64::from(flag) != 0;
    let namespaces = crate::task::clone::NAMESPACES;
    let known = u64::from(c::CLONE_THREAD | c::CLONE_FS | c::CLONE_SIGHAND | c::CLONE_VM | c::CLONE_FILES | c::CLONE_SYSVSEM);
    if flags & !(known | namespaces) != 0 {
        return Err(Errno::EINVAL);
    }
    if has(c::CLONE_THREAD | c::CLONE_SIGHAND | c::CLONE_VM | c::CLONE_NEWUSER | c::CLONE_NEWPID)
        && cx.task.process.lock().threads.len() > 1
    {
        return Err(Errno::EINVAL);
    }
    let credentials = spaces::check(cx.task, flags)?;
    let pids = if has(c::CLONE_NEWPID) { Some(of_child(cx.task, flags, &credentials.space)?) } else { None };
    if has(c::CLONE_FILES) {
        let copy = cx.task.descriptors().copy();
        cx.task.set_descriptors(copy);
    }
    if has(c::CLONE_FS | c::CLONE_NEWNS | c::CLONE_NEWUSER) {
        own_place(cx.task);
    }
    spaces::renew(cx.task, flags, &credentials.space)?;
    if has(c::CLONE_NEWUSER) {
        cx.task.set_credentials((*credentials).clone());
    }
    if let Some(pids) = pids {
        cx.task.set_spaces(Spaces { pids, ..cx.task.spaces() });
    }
    Ok(Flow::Done(0))
}

fn own_place(task: &Arc<Task>) {
    let copy = task.fs().lock().clone();
    task.set_fs(Arc::new(Mutex::new(copy)));
}

/// In a sandbox it ends the first process, or that of a PID namespace, by the signal that tells which end was meant, as in a PID namespace of Linux.
fn reboot(cx: &mut Cx<'_>, [magic, magic2, command, ..]: Args) -> SysResult {
    let space = &cx.task.process.space;
    if !cx.task.credentials().has_in(&space.owner(), c::CAP_SYS_BOOT) {
        return Err(Errno::EPERM);
    }
    let second = [c::LINUX_REBOOT_MAGIC2, c::LINUX_REBOOT_MAGIC2A, c::LINUX_REBOOT_MAGIC2B, c::LINUX_REBOOT_MAGIC2C];
    if magic as u32 != c::LINUX_REBOOT_MAGIC1 || !second.contains(&(magic2 as u32)) {
        return Err(Errno::EINVAL);
    }
    let signal = match command as u32 {
        c::LINUX_REBOOT_CMD_RESTART | c::LINUX_REBOOT_CMD_RESTART2 => c::SIGHUP,
        c::LINUX_REBOOT_CMD_HALT | c::LINUX_REBOOT_CMD_POWER_OFF => c::SIGINT,
        _ => return Err(Errno::EINVAL),
    };
    let first = cx.kernel.pids.process(space.init().unwrap_or(1)).ok_or(Errno::EINVAL)?;
    first.end(crate::signal::send::status_of(signal as i32, false));
    Ok(Flow::Done(0))
}

impl crate::Kernel {
    /// What uname(2) calls the sandbox.
    ///
    /// # Errors
    /// `EINVAL`: longer than 64 bytes.
    pub fn set_host_name(&self, name: &[u8]) -> Result<()> {
        if name.len() > 64 {
            return Err(Errno::EINVAL);
        }
        self.spaces.uts.holds.lock().nodename = field(name);
        Ok(())
    }

    /// The sandbox's NIS domain, as uname(2) tells it.
    ///
    /// # Errors
    /// `EINVAL`: longer than 64 bytes.
    pub fn set_domain_name(&self, name: &[u8]) -> Result<()> {
        if name.len() > 64 {
            return Err(Errno::EINVAL);
        }
        self.spaces.uts.holds.lock().domainname = field(name);
        Ok(())
    }
}
