//! Limits in hierarchies of version 1. Source: `Documentation/admin-guide/cgroup-v1/`.

use super::{Group, files};
use insula_boundary::Error;
use insula_spec::resources::{BlockIo, Cpu, DeviceRule, Memory, Resources, Throttle};
use std::path::Path;
use std::time::{Duration, Instant};

/// Makes a group and writes its limits.
pub(super) fn create(group: &Group, resources: &Resources) -> Result<(), Error> {
    files::make(&group.path)?;
    if group.controllers.contains(&"cpuset") {
        inherit_cpuset(&group.path, &group.mount_point)?;
    }
    write(group, resources)
}

/// Writes the limits that this group carries.
pub(super) fn write(group: &Group, resources: &Resources) -> Result<(), Error> {
    for controller in &group.controllers {
        let dir = &group.path;
        match *controller {
            "memory" => memory(dir, &resources.memory)?,
            "cpu" => cpu(dir, &resources.cpu)?,
            "cpuset" => cpuset(dir, &resources.cpu)?,
            "pids" => pids(dir, resources.pids)?,
            "blkio" => block_io(dir, &resources.block_io)?,
            "hugetlb" => hugetlb(dir, resources)?,
            "net_cls" => put(dir, "net_cls.classid", resources.net_class)?,
            "net_prio" => {
                for (interface, priority) in &resources.net_priorities {
                    put(dir, "net_prio.ifpriomap", Some(format!("{interface} {priority}")))?;
                }
            }
            "rdma" => super::v2::rdma(dir, resources)?,
            "devices" => devices(dir, &resources.devices)?,
            _ => {}
        }
    }
    Ok(())
}

fn put(dir: &Path, file: &str, value: Option<impl ToString>) -> Result<(), Error> {
    value.map_or(Ok(()), |value| files::write(&dir.join(file), &value.to_string()))
}

fn memory(dir: &Path, memory: &Memory) -> Result<(), Error> {
    let current = |file: &str| files::read(&dir.join(file)).ok()?.trim().parse::<i64>().ok();
    if let (Some(true), Some(limit)) = (memory.check_before_update, memory.limit.filter(|limit| *limit > 0))
        && current("memory.usage_in_bytes").is_some_and(|used| used > limit)
    {
        let problem = format!("linux.resources.memory.limit: {limit} is less than what is in use; free some first");
        return Err(Error::Failed(problem));
    }
    // Memory alone may never be allowed more than memory and swap together, so the order depends on which way it goes.
    let raises_both = match (memory.swap, current("memory.limit_in_bytes")) {
        (Some(-1), _) => true,
        (Some(swap), Some(now)) => swap >= now,
        _ => false,
    };
    let swap_file = dir.join("memory.memsw.limit_in_bytes");
    // A kernel without swap accounting has no such file; without swap there is nothing the limit could change.
    let swap = memory.swap.filter(|_| swap_file.exists());
    if raises_both {
        put(dir, "memory.memsw.limit_in_bytes", swap)?;
    }
    put(dir, "memory.limit_in_bytes", memory.limit)?;
    if !raises_both {
        put(dir, "memory.memsw.limit_in_bytes", swap)?;
    }
    put(dir, "memory.soft_limit_in_bytes", memory.reservation)?;
    put(dir, "memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp.filter(|limit| *limit > 0))?;
    put(dir, "memory.swappiness", memory.swappiness)?;
    put(dir, "memory.oom_control", memory.disable_oom_killer.filter(|off| *off).map(i32::from))
}

fn cpu(dir: &Path, cpu: &Cpu) -> Result<(), Error> {
    put(dir, "cpu.shares", cpu.shares)?;
    // A quota longer than the present period is refused, and so is a period shorter than the present quota.
    put(dir, "cpu.cfs_period_us", cpu.period)?;
    put(dir, "cpu.cfs_quota_us", cpu.quota)?;
    put(dir, "cpu.cfs_burst_us", cpu.burst)?;
    put(dir, "cpu.rt_period_us", cpu.realtime_period)?;
    put(dir, "cpu.rt_runtime_us", cpu.realtime_runtime)?;
    put(dir, "cpu.idle", cpu.idle)
}

/// A new group has neither processors nor memory, and nothing can join it: it gets its parents'.
fn inherit_cpuset(dir: &Path, mount_point: &Path) -> Result<(), Error> {
    let mut levels: Vec<&Path> =
        dir.ancestors().take_while(|path| *path != mount_point && path.starts_with(mount_point)).collect();
    levels.reverse();
    for level in levels {
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if files::read(&level.join(file))?.trim().is_empty() {
                let above = level.parent().unwrap_or(mount_point);
                files::write(&level.join(file), files::read(&above.join(file))?.trim())?;
            }
        }
    }
    Ok(())
}

fn cpuset(dir: &Path, cpu: &Cpu) -> Result<(), Error> {
    put(dir, "cpuset.cpus", cpu.cpus.as_ref())?;
    put(dir, "cpuset.mems", cpu.mems.as_ref())
}

fn pids(dir: &Path, limit: Option<i64>) -> Result<(), Error> {
    put(dir, "pids.max", limit.map(super::v2::or_max))
}

fn block_io(dir: &Path, io: &BlockIo) -> Result<(), Error> {
    // The weight is the BFQ scheduler's since Linux 5.0; older kernels have it without the prefix.
    let weight = if dir.join("blkio.bfq.weight").exists() { "blkio.bfq.weight" } else { "blkio.weight" };
    put(dir, weight, io.weight)?;
    put(dir, "blkio.leaf_weight", io.leaf_weight)?;
    for device in &io.weight_device {
        let value = |weight: u16| format!("{}:{} {weight}", device.major, device.minor);
        put(dir, &format!("{weight}_device"), device.weight.map(value))?;
        put(dir, "blkio.leaf_weight_device", device.leaf_weight.map(value))?;
    }
    let each = |list: &[Throttle], file: &str| {
        list.iter().try_for_each(|t| put(dir, file, Some(format!("{}:{} {}", t.major, t.minor, t.rate))))
    };
    each(&io.read_bps, "blkio.throttle.read_bps_device")?;
    each(&io.write_bps, "blkio.throttle.write_bps_device")?;
    each(&io.read_iops, "blkio.throttle.read_iops_device")?;
    each(&io.write_iops, "blkio.throttle.write_iops_device")
}

fn hugetlb(dir: &Path, resources: &Resources) -> Result<(), Error> {
    resources.hugepages.iter().try_for_each(|(size, limit)| put(dir, &format!("hugetlb.{size}.limit_in_bytes"), Some(limit)))
}

/// Device rules are written one after the other: the kernel keeps the state they add up to.
fn devices(dir: &Path, rules: &[DeviceRule]) -> Result<(), Error> {
    let (allow, deny) = (files::open_write(&dir.join("devices.allow"))?, files::open_write(&dir.join("devices.deny"))?);
    for rule in super::devices::with_defaults(rules) {
        let (name, file) = if rule.allow { ("devices.allow", &allow) } else { ("devices.deny", &deny) };
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        let all = rule.kind == 'a' && rule.major.is_none() && rule.minor.is_none();
        let value = if all {
            "a".to_owned()
        } else {
            format!("{} {}:{} {}", rule.kind, number(rule.major), number(rule.minor), rule.access)
        };
        files::write_to(file, &dir.join(name), &value)?;
    }
    Ok(())
}

/// Freezes or thaws; freezing takes a moment, and a process in the middle of making another needs another try.
pub(super) fn freeze(group: &Group, frozen: bool) -> Result<(), Error> {
    let file = group.path.join("freezer.state");
    let wanted = if frozen { "FROZEN" } else { "THAWED" };
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        files::write(&file, wanted)?;
        if files::read(&file)?.trim() == wanted {
            return Ok(());
        }
        if Instant::now() > deadline {
            files::write(&file, "THAWED")?;
            return Err(Error::Failed("the processes can't be frozen: one doesn't stop; try again".into()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
