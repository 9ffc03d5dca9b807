//! Limits in the unified hierarchy. Source: `Documentation/admin-guide/cgroup-v2.rst`; the conversions from values of v1 are the
//! ones runc and crun use, runtime-spec `config-linux.md`.

use super::{Group, devices, files};
use insula_boundary::Error;
use insula_spec::resources::{BlockIo, Cpu, Memory, Resources, Throttle};
use std::path::Path;
use std::time::{Duration, Instant};

/// Makes a group, with its controllers switched on along the way, and writes its limits.
pub(super) fn create(group: &Group, resources: &Resources) -> Result<(), Error> {
    enable(group, &wanted(group, resources))?;
    if group.counts {
        count(group);
    }
    if group.delegated {
        offer(group);
    }
    files::make(&group.path)?;
    limit(group, resources)
}

/// Switches on what the limits need of a group that is there, and writes them.
pub(super) fn fill(group: &Group, resources: &Resources) -> Result<(), Error> {
    enable(group, &wanted(group, resources))?;
    if group.delegated {
        offer(group);
    }
    limit(group, resources)
}

fn limit(group: &Group, resources: &Resources) -> Result<(), Error> {
    write(group, resources)?;
    if group.controllers.contains(&"devices") {
        let program = devices::program(&devices::with_defaults(&resources.devices));
        insula_sys::bpf::attach_device_program(files::open_dir(&group.path)?, &program).map_err(crate::channel::failed)?;
    }
    Ok(())
}

/// The controllers of a group's limits.
fn wanted<'w>(group: &'w Group, resources: &'w Resources) -> Vec<&'w str> {
    let mut controllers: Vec<&str> = group.controllers.iter().filter_map(|name| v2_name(name)).collect();
    for file in resources.unified.keys() {
        let controller = file.split('.').next().unwrap_or_default();
        if controller != "cgroup" && !controllers.contains(&controller) {
            controllers.push(controller);
        }
    }
    controllers
}

/// Switches on what a group that exists is to carry, too.
pub(super) fn switch_on(group: &Group) -> Result<(), Error> {
    let controllers: Vec<&str> = group.controllers.iter().filter_map(|name| v2_name(name)).collect();
    enable(group, &controllers)
}

/// Changes the limits of a group that exists.
pub(super) fn update(group: &Group, resources: &Resources) -> Result<(), Error> {
    write(group, resources)
}

/// Those of v1's names whose controllers a group that exists has.
pub(super) fn carried(dir: &Path, names: &[&'static str]) -> Vec<&'static str> {
    let there = std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    let has = |name: &str| v2_name(name).is_some_and(|name| there.split_whitespace().any(|word| word == name));
    names.iter().copied().filter(|name| has(name)).collect()
}

/// A controller's name here; device nodes are judged by a program, not a controller, and processor time is counted where it is limited.
fn v2_name(name: &str) -> Option<&str> {
    match name {
        "blkio" => Some("io"),
        "cpuacct" => Some("cpu"),
        "devices" | "freezer" => None,
        other => Some(other),
    }
}

/// Switches controllers on in every group above.
fn enable(group: &Group, controllers: &[&str]) -> Result<(), Error> {
    if controllers.is_empty() {
        return Ok(());
    }
    let root = &group.mount_point;
    let mut above: Vec<&Path> = group.path.ancestors().skip(1).take_while(|path| path.starts_with(root)).collect();
    above.reverse();
    for dir in above {
        if !dir.exists() {
            files::make(dir)?;
        }
        let on = files::read(&dir.join("cgroup.subtree_control"))?;
        let missing: Vec<&str> =
            controllers.iter().filter(|name| !on.split_whitespace().any(|word| word == **name)).copied().collect();
        if missing.is_empty() {
            continue;
        }
        let there = files::read(&dir.join("cgroup.controllers"))?;
        if let Some(name) = missing.iter().find(|name| !there.split_whitespace().any(|word| word == **name)) {
            let problem = format!(
                "the cgroup controller {name} isn't available in {}; remove that limit, or have it delegated",
                dir.display()
            );
            return Err(Error::Unsupported(problem));
        }
        if !super::files::writable(&dir.join("cgroup.subtree_control")) && !super::permit::privileged() {
            let problem = format!(
                "the cgroup controllers {} aren't delegated to this user: {} doesn't hand them down; {}, or leave the limit out",
                missing.join(" and "),
                dir.display(),
                super::permit::DELEGATION
            );
            return Err(Error::Unsupported(problem));
        }
        let words: Vec<String> = missing.iter().map(|name| format!("+{name}")).collect();
        files::write(&dir.join("cgroup.subtree_control"), &words.join(" "))?;
    }
    Ok(())
}

/// Switches on what counts, as far as the groups above hand it down. Without a limit nothing depends on it.
fn count(group: &Group) {
    for name in super::COUNTERS.iter().filter_map(|name| v2_name(name)) {
        let _ = enable(group, &[name]);
    }
}

/// Switches on what the container may divide further, as far as the groups above hand it down.
fn offer(group: &Group) {
    let there = files::read(&group.mount_point.join("cgroup.controllers")).unwrap_or_default();
    for name in there.split_whitespace() {
        let _ = enable(group, &[name]);
    }
}

/// Writes what this group carries: on a hybrid host the rest is in hierarchies of v1.
fn write(group: &Group, resources: &Resources) -> Result<(), Error> {
    let dir = &group.path;
    for controller in &group.controllers {
        match *controller {
            "memory" => memory(dir, &resources.memory)?,
            "cpu" => cpu(dir, &resources.cpu)?,
            "cpuset" => cpuset(dir, &resources.cpu)?,
            "pids" => put(dir, "pids.max", resources.pids.map(or_max))?,
            "blkio" => block_io(dir, &resources.block_io)?,
            "hugetlb" => {
                for (size, limit) in &resources.hugepages {
                    put(dir, &format!("hugetlb.{size}.max"), Some(limit))?;
                }
            }
            "rdma" => rdma(dir, resources)?,
            "net_cls" | "net_prio" => {
                let problem = "linux.resources.network: classes and priorities exist in cgroup v1 only; remove them";
                return Err(Error::Unsupported(problem.into()));
            }
            _ => {}
        }
    }
    resources.unified.iter().try_for_each(|(file, value)| files::write(&dir.join(file), value))
}

fn put(dir: &Path, file: &str, value: Option<impl ToString>) -> Result<(), Error> {
    value.map_or(Ok(()), |value| files::write(&dir.join(file), &value.to_string()))
}

/// −1 is written as `max` in both versions' newer files.
pub(super) fn or_max(value: i64) -> String {
    if value < 0 { "max".into() } else { value.to_string() }
}

fn memory(dir: &Path, memory: &Memory) -> Result<(), Error> {
    if let (Some(true), Some(limit)) = (memory.check_before_update, memory.limit.filter(|limit| *limit > 0)) {
        let used = files::read(&dir.join("memory.current")).ok().and_then(|text| text.trim().parse::<i64>().ok());
        if used.is_some_and(|used| used > limit) {
            let problem = format!("linux.resources.memory.limit: {limit} is less than what is in use; free some first");
            return Err(Error::Failed(problem));
        }
    }
    // Here swap is counted alone; the specification counts memory and swap together.
    let swap = match (memory.swap, memory.limit) {
        (None, _) => None,
        (Some(-1), _) => Some(-1),
        (Some(both), Some(limit)) if limit >= 0 => Some(both - limit),
        (Some(_), _) => {
            let problem = "linux.resources.memory.swap: is the limit of memory and swap together, so it needs memory.limit";
            return Err(Error::Failed(problem.into()));
        }
    };
    // A kernel without swap has no such file; no swap is what an equal limit asks for.
    let swap = swap.filter(|_| dir.join("memory.swap.max").exists());
    put(dir, "memory.swap.max", swap.map(or_max))?;
    put(dir, "memory.max", memory.limit.map(or_max))?;
    put(dir, "memory.low", memory.reservation.map(or_max))?;
    let v1_only = memory.swappiness.is_some() || memory.disable_oom_killer == Some(true);
    if v1_only {
        let problem = "linux.resources.memory: swappiness and disableOOMKiller exist in cgroup v1 only; remove them";
        return Err(Error::Unsupported(problem.into()));
    }
    Ok(())
}

fn cpu(dir: &Path, cpu: &Cpu) -> Result<(), Error> {
    put(dir, "cpu.idle", cpu.idle)?;
    put(dir, "cpu.weight", cpu.shares.map(weight_of_shares))?;
    if cpu.quota.is_some() || cpu.period.is_some() {
        let (quota, period) = quota_and_period(dir)?;
        let (quota, period) = (cpu.quota.unwrap_or(quota), cpu.period.unwrap_or(period));
        files::write(&dir.join("cpu.max"), &format!("{} {period}", or_max(quota)))?;
    }
    put(dir, "cpu.max.burst", cpu.burst)?;
    if cpu.realtime_runtime.is_some() || cpu.realtime_period.is_some() {
        let problem = "linux.resources.cpu: realtimeRuntime and realtimePeriod exist in cgroup v1 only; remove them";
        return Err(Error::Unsupported(problem.into()));
    }
    Ok(())
}

/// Microseconds of processor time a period, −1 being no limit, and microseconds of a period, as they are.
pub(super) fn quota_and_period(dir: &Path) -> Result<(i64, u64), Error> {
    let now = files::read(&dir.join("cpu.max"))?;
    let mut now = now.split_whitespace();
    let quota = now.next().and_then(|word| word.parse().ok()).unwrap_or(-1);
    Ok((quota, now.next().and_then(|word| word.parse().ok()).unwrap_or(100_000)))
}

fn cpuset(dir: &Path, cpu: &Cpu) -> Result<(), Error> {
    put(dir, "cpuset.cpus", cpu.cpus.as_ref())?;
    put(dir, "cpuset.mems", cpu.mems.as_ref())
}

/// From 2…262144 to 1…10000, so that the ends meet.
fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

fn block_io(dir: &Path, io: &BlockIo) -> Result<(), Error> {
    if io.leaf_weight.is_some() || io.weight_device.iter().any(|device| device.leaf_weight.is_some()) {
        return Err(Error::Unsupported("linux.resources.blockIO.leafWeight: exists in cgroup v1 only; remove it".into()));
    }
    // The BFQ scheduler keeps the scale of v1; the general file goes to 10000.
    let bfq = dir.join("io.bfq.weight").exists();
    let scale = |weight: u16| if bfq { u64::from(weight) } else { 1 + (u64::from(weight) - 10) * 9999 / 990 };
    let file = if bfq { "io.bfq.weight" } else { "io.weight" };
    put(dir, file, io.weight.map(scale))?;
    for device in &io.weight_device {
        put(dir, file, device.weight.map(|weight| format!("{}:{} {}", device.major, device.minor, scale(weight))))?;
    }
    let each = |list: &[Throttle], key: &str| {
        list.iter().try_for_each(|t| put(dir, "io.max", Some(format!("{}:{} {key}={}", t.major, t.minor, t.rate))))
    };
    each(&io.read_bps, "rbps")?;
    each(&io.write_bps, "wbps")?;
    each(&io.read_iops, "riops")?;
    each(&io.write_iops, "wiops")
}

pub(super) fn rdma(dir: &Path, resources: &Resources) -> Result<(), Error> {
    let limit = |value: Option<u32>| value.map_or_else(|| "max".to_owned(), |n| n.to_string());
    resources.rdma.iter().try_for_each(|(device, (handles, objects))| {
        put(dir, "rdma.max", Some(format!("{device} hca_handle={} hca_object={}", limit(*handles), limit(*objects))))
    })
}

/// Freezes or thaws, and waits until the kernel says that it is so.
pub(super) fn freeze(group: &Group, frozen: bool) -> Result<(), Error> {
    files::write(&group.path.join("cgroup.freeze"), if frozen { "1" } else { "0" })?;
    let wanted = if frozen { "frozen 1" } else { "frozen 0" };
    let deadline = Instant::now() + Duration::from_secs(5);
    while !files::read(&group.path.join("cgroup.events"))?.lines().any(|line| line == wanted) {
        if Instant::now() > deadline {
            files::write(&group.path.join("cgroup.freeze"), "0")?;
            return Err(Error::Failed("the processes can't be frozen: one doesn't stop; try again".into()));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn shares_and_weights_meet_at_the_ends() {
        assert_eq!([2, 1024, 262_144].map(super::weight_of_shares), [1, 39, 10_000]);
    }
}
