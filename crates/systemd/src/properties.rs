//! Limits as systemd's properties on cgroup v2. What has no property (huge pages, RDMA, bursts, device nodes) is written into the
//! delegated cgroup by whoever asked for it.
//!
//! Source: `systemd.resource-control(5)`, `org.freedesktop.systemd1(5)`; values as runc and crun convert them.

use insula_spec::resources::{BlockIo, Cpu, Memory, Resources, Throttle};
use zbus::Variant;

/// Names and values.
pub type Properties = Vec<(&'static str, Variant<'static>)>;

/// What systemd takes for "no limit".
const INFINITY: u64 = u64::MAX;

/// The properties for these limits; none for what isn't limited.
pub fn limits(resources: &Resources) -> Properties {
    let mut properties = Properties::new();
    memory(&resources.memory, &mut properties);
    cpu(&resources.cpu, &mut properties);
    block_io(&resources.block_io, &mut properties);
    put(&mut properties, "TasksMax", resources.pids.map(or_infinity));
    for (file, value) in &resources.unified {
        unified(file, value.trim(), &mut properties);
    }
    properties
}

fn put(properties: &mut Properties, name: &'static str, value: Option<impl Into<Variant<'static>>>) {
    properties.extend(value.map(|value| (name, value.into())));
}

/// −1 is no limit.
fn or_infinity(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(INFINITY)
}

fn memory(memory: &Memory, properties: &mut Properties) {
    put(properties, "MemoryMax", memory.limit.map(or_infinity));
    put(properties, "MemoryLow", memory.reservation.map(or_infinity));
    // The specification counts memory and swap together, systemd swap alone.
    let swap = match (memory.swap, memory.limit) {
        (Some(-1), _) => Some(INFINITY),
        (Some(both), Some(limit)) if limit >= 0 => u64::try_from(both - limit).ok(),
        _ => None,
    };
    put(properties, "MemorySwapMax", swap);
}

fn cpu(cpu: &Cpu, properties: &mut Properties) {
    put(properties, "CPUWeight", cpu.shares.map(weight_of_shares));
    quota(cpu.quota, cpu.period, properties);
    put(properties, "AllowedCPUs", cpu.cpus.as_deref().and_then(mask));
    put(properties, "AllowedMemoryNodes", cpu.mems.as_deref().and_then(mask));
}

/// From 2…262144 to 1…10000, so that the ends meet.
fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// Microseconds a period, as microseconds a second.
fn quota(quota: Option<i64>, period: Option<u64>, properties: &mut Properties) {
    const SECOND: u64 = 1_000_000;
    const USUAL_PERIOD: u64 = 100_000;
    // systemd keeps hundredths of a processor; less than was asked for is not what was asked for.
    const STEP: u64 = SECOND / 100;
    put(properties, "CPUQuotaPeriodUSec", period);
    let period = period.unwrap_or(USUAL_PERIOD).max(1);
    let a_second = |quota: i64| match u64::try_from(quota) {
        Ok(quota) => (quota.saturating_mul(SECOND) / period).next_multiple_of(STEP),
        Err(_) => INFINITY,
    };
    put(properties, "CPUQuotaPerSecUSec", quota.map(a_second));
}

/// A list of numbers, `0-2,7`, as a bit for each, the lowest first; none if it is no such list.
fn mask(list: &str) -> Option<Vec<u8>> {
    /// More than any host has.
    const MOST: usize = 1 << 13;
    let mut mask = Vec::new();
    for part in list.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        mask.resize(mask.len().max(last / 8 + 1), 0_u8);
        (first..=last).for_each(|bit| mask[bit / 8] |= 1 << (bit % 8));
    }
    Some(mask).filter(|mask| !mask.is_empty())
}

fn block_io(io: &BlockIo, properties: &mut Properties) {
    // From 10…1000 to 1…10000.
    let scale = |weight: u16| 1 + u64::from(weight.clamp(10, 1000) - 10) * 9999 / 990;
    put(properties, "IOWeight", io.weight.map(scale));
    let devices =
        io.weight_device.iter().filter_map(|device| Some((device_path(device.major, device.minor), scale(device.weight?))));
    some(properties, "IODeviceWeight", devices.collect());
    let rates = |list: &[Throttle]| list.iter().map(|t| (device_path(t.major, t.minor), t.rate)).collect();
    some(properties, "IOReadBandwidthMax", rates(&io.read_bps));
    some(properties, "IOWriteBandwidthMax", rates(&io.write_bps));
    some(properties, "IOReadIOPSMax", rates(&io.read_iops));
    some(properties, "IOWriteIOPSMax", rates(&io.write_iops));
}

fn device_path(major: u32, minor: u32) -> String {
    format!("/dev/block/{major}:{minor}")
}

fn some(properties: &mut Properties, name: &'static str, list: Vec<(String, u64)>) {
    put(properties, name, Some(list).filter(|list| !list.is_empty()));
}

/// A file of the cgroup that systemd has a property for: it would write its own idea into it one day.
fn unified(file: &str, value: &str, properties: &mut Properties) {
    let number = |text: &str| if text == "max" { Some(INFINITY) } else { text.parse().ok() };
    let name = match file {
        "memory.max" => "MemoryMax",
        "memory.high" => "MemoryHigh",
        "memory.low" => "MemoryLow",
        "memory.min" => "MemoryMin",
        "memory.swap.max" => "MemorySwapMax",
        "pids.max" => "TasksMax",
        "cpu.weight" => "CPUWeight",
        "cpuset.cpus" => return put(properties, "AllowedCPUs", mask(value)),
        "cpuset.mems" => return put(properties, "AllowedMemoryNodes", mask(value)),
        "cpu.max" => {
            let (most, period) = value.split_once(' ').unwrap_or((value, ""));
            let most = if most == "max" { Some(-1) } else { most.parse().ok() };
            return quota(most, period.trim().parse().ok(), properties);
        }
        _ => return,
    };
    put(properties, name, number(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(resources: Resources) -> Vec<(&'static str, String)> {
        limits(&resources).into_iter().map(|(name, value)| (name, format!("{value}"))).collect()
    }

    #[test]
    fn a_quota_is_never_less_than_was_asked_for() {
        let cpu = |quota, period| Resources { cpu: Cpu { quota, period, ..Cpu::default() }, ..Resources::default() };
        let quota = |resources| limits(&resources).into_iter().find(|(name, _)| *name == "CPUQuotaPerSecUSec").unwrap().1;
        assert_eq!(quota(cpu(Some(50_000), None)), Variant::U64(500_000));
        assert_eq!(quota(cpu(Some(1), Some(1_000_000))), Variant::U64(10_000), "a hundredth is the least");
        assert_eq!(quota(cpu(Some(-1), None)), Variant::U64(u64::MAX));
    }

    #[test]
    fn swap_is_counted_alone() {
        let memory = Memory { limit: Some(100), swap: Some(150), ..Memory::default() };
        let found = limits(&Resources { memory, ..Resources::default() });
        assert_eq!(found, [("MemoryMax", Variant::U64(100)), ("MemorySwapMax", Variant::U64(50))]);
    }

    #[test]
    fn processors_are_bits() {
        assert_eq!(mask("0-2,7"), Some(vec![0b1000_0111]));
        assert_eq!(mask("8"), Some(vec![0, 1]));
        for wrong in ["", "3-1", "x", "0-999999999", "1-"] {
            assert_eq!(mask(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn nothing_is_limited_that_was_not_asked_for() {
        assert_eq!(of(Resources::default()), []);
    }

    #[test]
    fn files_of_the_cgroup_that_systemd_writes_are_its_properties() {
        let files = [("memory.high", "max"), ("cpu.max", "20000 100000"), ("hugetlb.2MB.max", "0")];
        let unified = files.map(|(file, value)| (file.to_owned(), value.to_owned())).into();
        let found: Vec<_> = limits(&Resources { unified, ..Resources::default() });
        let expected = [
            ("CPUQuotaPeriodUSec", Variant::U64(100_000)),
            ("CPUQuotaPerSecUSec", Variant::U64(200_000)),
            ("MemoryHigh", Variant::U64(u64::MAX)),
        ];
        assert_eq!(found, expected);
    }
}
