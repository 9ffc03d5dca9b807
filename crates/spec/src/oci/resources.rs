//! `linux.resources` of a configuration.

use super::{number, refuse};
use crate::Error;
use crate::resources::{BlockIo, Cpu, DeviceRule, Memory, Resources, Throttle, WeightDevice};
use oci_spec::runtime as oci;

/// What is limited.
pub(super) fn plan(resources: &oci::LinuxResources) -> Result<Resources, Error> {
    let mut hugepages = std::collections::BTreeMap::new();
    for (i, limit) in resources.hugepage_limits().iter().flatten().enumerate() {
        let field = format!("linux.resources.hugepageLimits[{i}]");
        refuse(!page_size(limit.page_size()), &format!("{field}.pageSize"), format!("{:?} is no page size", limit.page_size()))?;
        let bytes = u64::try_from(limit.limit()).map_err(|_| Error::field(format!("{field}.limit"), "is negative"))?;
        hugepages.insert(limit.page_size().clone(), bytes);
    }
    let network = resources.network().as_ref();
    let priorities = network.and_then(|n| n.priorities().as_ref());
    let unified: std::collections::BTreeMap<_, _> =
        resources.unified().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    for file in unified.keys() {
        let plain = !file.contains('/') && file.contains('.') && !file.starts_with('.');
        refuse(!plain, "linux.resources.unified", format!("{file:?} is no file of a cgroup"))?;
    }
    let rdma = resources.rdma().iter().flatten();
    Ok(Resources {
        devices: devices(resources.devices().as_deref().unwrap_or_default())?,
        memory: resources.memory().as_ref().map(memory).transpose()?.unwrap_or_default(),
        cpu: resources.cpu().as_ref().map(cpu).transpose()?.unwrap_or_default(),
        // Zero means "as it is", as everywhere here: with no process at all there would be no container.
        pids: resources.pids().as_ref().map(oci::LinuxPids::limit).filter(|limit| *limit != 0),
        block_io: resources.block_io().as_ref().map(block_io).transpose()?.unwrap_or_default(),
        hugepages,
        net_class: network.and_then(oci::LinuxNetwork::class_id),
        net_priorities: priorities.into_iter().flatten().map(|p| (p.name().clone(), p.priority())).collect(),
        rdma: rdma.map(|(device, limit)| (device.clone(), (limit.hca_handles(), limit.hca_objects()))).collect(),
        unified,
    })
}

/// `2MB`, `1GB`: the kernel names its files so.
fn page_size(text: &str) -> bool {
    let digits = text.trim_end_matches(['K', 'M', 'G', 'B']);
    text.ends_with('B') && !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())
}

fn devices(list: &[oci::LinuxDeviceCgroup]) -> Result<Vec<DeviceRule>, Error> {
    let convert = |(i, rule): (usize, &oci::LinuxDeviceCgroup)| {
        let field = format!("linux.resources.devices[{i}]");
        let kind = match rule.typ() {
            None | Some(oci::LinuxDeviceType::A) => 'a',
            Some(oci::LinuxDeviceType::B) => 'b',
            Some(oci::LinuxDeviceType::C | oci::LinuxDeviceType::U) => 'c',
            Some(oci::LinuxDeviceType::P) => {
                return Err(Error::field(format!("{field}.type"), "pipes are not limited; use a, b or c"));
            }
        };
        let access = rule.access().clone().filter(|text| !text.is_empty()).unwrap_or_else(|| "rwm".into());
        refuse(!access.chars().all(|c| "rwm".contains(c)), &format!("{field}.access"), format!("{access:?}: use r, w and m"))?;
        // −1 stands for every number, as runc has it.
        let one = |name: &str, value: Option<i64>| value.filter(|n| *n != -1).map(|n| number(&field, name, n)).transpose();
        Ok(DeviceRule {
            allow: rule.allow(),
            kind,
            major: one("major", rule.major())?,
            minor: one("minor", rule.minor())?,
            access,
        })
    };
    list.iter().enumerate().map(convert).collect()
}

fn memory(memory: &oci::LinuxMemory) -> Result<Memory, Error> {
    for (name, value) in
        [("limit", memory.limit()), ("reservation", memory.reservation()), ("swap", memory.swap()), ("kernel", memory.kernel())]
    {
        let field = format!("linux.resources.memory.{name}");
        refuse(value.is_some_and(|v| v < -1), &field, "is negative; -1 is no limit")?;
    }
    let over = memory.swappiness().is_some_and(|v| v > 200);
    refuse(over, "linux.resources.memory.swappiness", "is outside 0 to 200")?;
    let alone = memory.use_hierarchy() == Some(false);
    let problem = "is false; what groups below use always counts, so leave it out";
    refuse(alone, "linux.resources.memory.useHierarchy", problem)?;
    let both = memory.limit().filter(|l| *l > 0).zip(memory.swap().filter(|s| *s > 0));
    let less = both.is_some_and(|(limit, swap)| swap < limit);
    refuse(less, "linux.resources.memory.swap", "is less than memory.limit; it is the limit of both together")?;
    Ok(Memory {
        limit: memory.limit().filter(|v| *v != 0),
        reservation: memory.reservation().filter(|v| *v != 0),
        swap: memory.swap().filter(|v| *v != 0),
        kernel: memory.kernel(),
        kernel_tcp: memory.kernel_tcp(),
        swappiness: memory.swappiness(),
        disable_oom_killer: memory.disable_oom_killer(),
        check_before_update: memory.check_before_update(),
    })
}

fn cpu(cpu: &oci::LinuxCpu) -> Result<Cpu, Error> {
    let list = |name: &str, text: &Option<String>| {
        let bad = text.as_ref().is_some_and(|t| !t.chars().all(|c| c.is_ascii_digit() || ",-".contains(c)) || t.len() > 4096);
        refuse(bad, &format!("linux.resources.cpu.{name}"), "is no list like 0-2,7")?;
        Ok::<_, Error>(text.clone().filter(|t| !t.is_empty()))
    };
    refuse(cpu.quota().is_some_and(|q| q < -1), "linux.resources.cpu.quota", "is negative; -1 is no limit")?;
    // Zero means "as it is" in every tool that writes these files.
    Ok(Cpu {
        shares: cpu.shares().filter(|v| *v != 0),
        quota: cpu.quota().filter(|v| *v != 0),
        burst: cpu.burst(),
        period: cpu.period().filter(|v| *v != 0),
        realtime_runtime: cpu.realtime_runtime().filter(|v| *v != 0),
        realtime_period: cpu.realtime_period().filter(|v| *v != 0),
        cpus: list("cpus", cpu.cpus())?,
        mems: list("mems", cpu.mems())?,
        idle: cpu.idle(),
    })
}

fn block_io(io: &oci::LinuxBlockIo) -> Result<BlockIo, Error> {
    const FIELD: &str = "linux.resources.blockIO";
    let throttle = |name: &str, list: &Option<Vec<oci::LinuxThrottleDevice>>| {
        let field = format!("{FIELD}.{name}");
        let convert = |t: &oci::LinuxThrottleDevice| {
            Ok::<_, Error>(Throttle {
                major: number(&field, "major", t.major())?,
                minor: number(&field, "minor", t.minor())?,
                rate: t.rate(),
            })
        };
        list.iter().flatten().map(convert).collect::<Result<Vec<_>, _>>()
    };
    let weight = |name: &str, value: Option<u16>| {
        refuse(value.is_some_and(|w| w != 0 && !(10..=1000).contains(&w)), &format!("{FIELD}.{name}"), "is outside 10 to 1000")?;
        Ok::<_, Error>(value.filter(|w| *w != 0))
    };
    let mut weight_device = Vec::new();
    for device in io.weight_device().iter().flatten() {
        weight_device.push(WeightDevice {
            major: number(FIELD, "weightDevice.major", device.major())?,
            minor: number(FIELD, "weightDevice.minor", device.minor())?,
            weight: weight("weightDevice.weight", device.weight())?,
            leaf_weight: weight("weightDevice.leafWeight", device.leaf_weight())?,
        });
    }
    Ok(BlockIo {
        weight: weight("weight", io.weight())?,
        leaf_weight: weight("leafWeight", io.leaf_weight())?,
        weight_device,
        read_bps: throttle("throttleReadBpsDevice", io.throttle_read_bps_device())?,
        write_bps: throttle("throttleWriteBpsDevice", io.throttle_write_bps_device())?,
        read_iops: throttle("throttleReadIOPSDevice", io.throttle_read_iops_device())?,
        write_iops: throttle("throttleWriteIOPSDevice", io.throttle_write_iops_device())?,
    })
}
