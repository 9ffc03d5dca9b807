//! `/proc/sys`: how the kernel is set, sysctl(8). Nothing of it can be changed but the names of the sandbox, and who
//! may ask for echoes.

use crate::fs::pseudo::{Body, Fixed, Node};
use crate::fs::{FileType, pipe};
use crate::ipc::mqueue;
use crate::task::spaces;
use crate::task::{Credentials, Task};
use crate::{Errno, Result};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use insula_abi::general as c;
use insula_abi::process::Utsname;

pub(super) fn root() -> Fixed {
    Fixed::default()
        .directory("kernel", kernel)
        .directory("vm", vm)
        .directory("fs", fs)
        .directory("net", net)
        .directory("user", user)
}

/// A field of uname(2).
type Field = fn(&mut Utsname) -> &mut [u8; 65];

fn text(task: &Arc<Task>, field: Field) -> Result<Vec<u8>> {
    let mut name = *task.spaces().uts.holds.lock();
    let mut text: Vec<u8> = field(&mut name).iter().copied().take_while(|byte| *byte != 0).collect();
    text.push(b'\n');
    Ok(text)
}

/// A name that the superuser may change.
fn named(all: Fixed, file: &'static str, field: Field) -> Fixed {
    all.with(file, FileType::Regular, move |at, name| {
        let store = move |task: &Arc<Task>, _: &Credentials, bytes: &[u8]| {
            if !task.credentials().has_in(&task.spaces().uts.owner, c::CAP_SYS_ADMIN) {
                return Err(Errno::EPERM);
            }
            let bytes = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let mut new = [0; 65];
            let len = bytes.len().min(64);
            new[..len].copy_from_slice(&bytes[..len]);
            *field(&mut task.spaces().uts.holds.lock()) = new;
            Ok(())
        };
        Node::make(at.child(name), 0o644, Body::Text(Box::new(move |task| text(task, field)), Some(Box::new(store))))
    })
}

fn kernel() -> Fixed {
    let all = named(Fixed::default(), "hostname", |name| &mut name.nodename);
    named(all, "domainname", |name| &mut name.domainname)
        .text("ostype", |task| text(task, |name| &mut name.sysname))
        .text("osrelease", |task| text(task, |name| &mut name.release))
        .text("version", |task| text(task, |name| &mut name.version))
        .text("pid_max", |_| Ok(format!("{}\n", crate::task::pids::MOST).into_bytes()))
        .constant("threads-max", "32768\n")
        .constant("ngroups_max", "65536\n")
        .constant("cap_last_cap", "40\n")
        .constant("overflowuid", "65534\n")
        .constant("overflowgid", "65534\n")
        .constant("randomize_va_space", "2\n")
        .constant("core_pattern", "core\n")
        .constant("dmesg_restrict", "1\n")
        .constant("kptr_restrict", "1\n")
        .constant("perf_event_paranoid", "3\n")
        .constant("unprivileged_bpf_disabled", "2\n")
        .constant("sched_child_runs_first", "0\n")
        .constant("shmmax", "18446744073692774399\n")
        .constant("shmall", "18446744073692774399\n")
        .constant("shmmni", "4096\n")
        .constant("sem", "32000\t1024000000\t500\t32000\n")
        .constant("msgmax", "8192\n")
        .constant("msgmnb", "16384\n")
        .constant("msgmni", "32000\n")
        .constant("tainted", "0\n")
        .constant("core_uses_pid", "0\n")
        .constant("printk", "4\t4\t1\t7\n")
        .constant("panic", "0\n")
        .constant("sysrq", "0\n")
        .constant("sched_rt_period_us", "1000000\n")
        .constant("sched_rt_runtime_us", "950000\n")
        .directory("pty", || Fixed::default().constant("max", "4096\n"))
        .directory("random", random)
}

fn random() -> Fixed {
    Fixed::default()
        .text("uuid", |task| {
            let mut bytes = [0; 16];
            task.kernel().host.entropy.fill(&mut bytes);
            Ok(uuid(bytes).into_bytes())
        })
        .text("boot_id", |task| Ok(uuid(task.kernel().boot_id).into_bytes()))
        .constant("entropy_avail", "256\n")
        .constant("poolsize", "256\n")
        // These two say nothing any more (since Linux 5.18), and are what they are.
        .constant("write_wakeup_threshold", "256\n")
        .constant("urandom_min_reseed_secs", "60\n")
}

/// A random UUID, RFC 4122 section 4.4.
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}\n", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn vm() -> Fixed {
    Fixed::default()
        .constant("overcommit_memory", "1\n")
        .constant("overcommit_ratio", "50\n")
        .text("max_map_count", |_| Ok(format!("{}\n", crate::mm::MOST_AREAS).into_bytes()))
        .constant("mmap_min_addr", "65536\n")
        .constant("swappiness", "60\n")
        .constant("nr_hugepages", "0\n")
        .constant("drop_caches", "0\n")
        .constant("overcommit_kbytes", "0\n")
        .constant("panic_on_oom", "0\n")
        .constant("dirty_ratio", "20\n")
        .constant("dirty_background_ratio", "10\n")
        .constant("vfs_cache_pressure", "100\n")
}

fn fs() -> Fixed {
    Fixed::default()
        .constant("file-max", "1048576\n")
        .constant("nr_open", "1048576\n")
        .text("pipe-max-size", |_| Ok(format!("{}\n", pipe::MOST).into_bytes()))
        .constant("pipe-user-pages-hard", "0\n")
        .text("pipe-user-pages-soft", |_| Ok(format!("{}\n", pipe::SOFT).into_bytes()))
        .constant("file-nr", "0\t0\t1048576\n")
        .constant("protected_hardlinks", "1\n")
        .constant("protected_symlinks", "1\n")
        .constant("protected_fifos", "0\n")
        .constant("protected_regular", "0\n")
        .constant("overflowuid", "65534\n")
        .constant("overflowgid", "65534\n")
        .constant("suid_dumpable", "0\n")
        .constant("aio-max-nr", "65536\n")
        .directory("inotify", || {
            let all = Fixed::default().constant("max_queued_events", "16384\n");
            all.constant("max_user_instances", "128\n").constant("max_user_watches", "65536\n")
        })
        .directory("epoll", || Fixed::default().constant("max_user_watches", "524288\n"))
        .directory("mqueue", || {
            let names = ["msg_default", "msg_max", "msgsize_default", "msgsize_max", "queues_max"];
            let (messages, bytes) = mqueue::ORDINARY;
            let values = [messages, messages, bytes, bytes, mqueue::MOST_QUEUES as i64];
            names
                .into_iter()
                .zip(values)
                .fold(Fixed::default(), |all, (name, value)| all.text(name, move |_| Ok(format!("{value}\n").into_bytes())))
        })
}

/// How many namespaces there may be, of each kind.
fn user() -> Fixed {
    let names = [
        "max_cgroup_namespaces",
        "max_ipc_namespaces",
        "max_mnt_namespaces",
        "max_net_namespaces",
        "max_pid_namespaces",
        "max_time_namespaces",
        "max_user_namespaces",
        "max_uts_namespaces",
    ];
    names.into_iter().fold(Fixed::default(), |all, name| all.text(name, |_| Ok(format!("{}\n", spaces::MOST).into_bytes())))
}

fn net() -> Fixed {
    let core = || {
        let all = Fixed::default().constant("somaxconn", "4096\n");
        all.constant("rmem_max", "212992\n")
            .constant("wmem_max", "212992\n")
            .constant("rmem_default", "212992\n")
            .constant("wmem_default", "212992\n")
    };
    let ipv4 = || {
        let all = Fixed::default().constant("ip_local_port_range", "32768\t60999\n").with(
            "ip_forward",
            FileType::Regular,
            |at, name| Node::make(at.child(name), 0o644, Body::Text(Box::new(forwards), Some(Box::new(set_forwards)))),
        );
        all.constant("ip_unprivileged_port_start", "1024\n")
            .constant("tcp_rmem", "4096\t131072\t6291456\n")
            .constant("tcp_wmem", "4096\t16384\t4194304\n")
            .constant("tcp_available_congestion_control", "reno cubic\n")
            .constant("tcp_congestion_control", "cubic\n")
            .constant("tcp_fastopen", "1\n")
            .constant("tcp_fin_timeout", "60\n")
            .constant("tcp_keepalive_intvl", "75\n")
            .constant("tcp_keepalive_probes", "9\n")
            .constant("tcp_keepalive_time", "7200\n")
            .constant("tcp_max_syn_backlog", "1024\n")
            .constant("tcp_sack", "1\n")
            .constant("tcp_syncookies", "1\n")
            .constant("tcp_timestamps", "1\n")
            .constant("tcp_window_scaling", "1\n")
            .constant("ip_default_ttl", "64\n")
            .constant("ip_nonlocal_bind", "0\n")
            .with("ping_group_range", FileType::Regular, |at, name| {
                Node::make(at.child(name), 0o644, Body::Text(Box::new(echo_groups), Some(Box::new(set_echo_groups))))
            })
    };
    Fixed::default()
        .directory("core", core)
        .directory("ipv4", ipv4)
        .directory("unix", || Fixed::default().constant("max_dgram_qlen", "10\n"))
}

fn forwards(task: &Arc<Task>) -> Result<Vec<u8>> {
    Ok(format!("{}\n", u8::from(task.net().holds.inet.forwards.load(Ordering::Relaxed))).into_bytes())
}

fn set_forwards(task: &Arc<Task>, _: &Credentials, bytes: &[u8]) -> Result<()> {
    if !task.net().grants(task, c::CAP_NET_ADMIN) {
        return Err(Errno::EPERM);
    }
    let number = core::str::from_utf8(bytes).ok().and_then(|text| text.trim().parse::<i32>().ok()).ok_or(Errno::EINVAL)?;
    task.net().holds.inet.forwards.store(number != 0, Ordering::Relaxed);
    Ok(())
}

fn echo_groups(task: &Arc<Task>) -> Result<Vec<u8>> {
    let (first, last) = *task.net().holds.inet.echo_groups.lock();
    Ok(format!("{first}\t{last}\n").into_bytes())
}

/// Two numbers; if the first is the greater one, nobody may, icmp(7).
fn set_echo_groups(task: &Arc<Task>, _: &Credentials, bytes: &[u8]) -> Result<()> {
    if !task.net().grants(task, c::CAP_NET_ADMIN) {
        return Err(Errno::EPERM);
    }
    let text = core::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
    let numbers: Vec<u32> =
        text.split_ascii_whitespace().map(|word| word.parse().map_err(|_| Errno::EINVAL)).collect::<Result<_>>()?;
    let [first, last] = numbers[..] else { return Err(Errno::EINVAL) };
    *task.net().holds.inet.echo_groups.lock() = if first <= last { (first, last) } else { (1, 0) };
    Ok(())
}
