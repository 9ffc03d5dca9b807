//! What cgroups limit. Units are the OCI specification's: bytes, microseconds, weights of cgroup v1.
//!
//! Source: runtime-spec `config-linux.md#control-groups`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Limits; an absent field limits nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Which device nodes may be opened: rules in order, the last that fits decides.
    pub devices: Vec<DeviceRule>,
    /// Memory.
    pub memory: Memory,
    /// Processors.
    pub cpu: Cpu,
    /// Processes and threads at one time; −1 is no limit.
    pub pids: Option<i64>,
    /// Block devices.
    pub block_io: BlockIo,
    /// Bytes of huge pages, by page size as the kernel writes it (`2MB`).
    pub hugepages: BTreeMap<String, u64>,
    /// Class of network packets, net_cls.
    pub net_class: Option<u32>,
    /// Priorities of network packets by interface, net_prio.
    pub net_priorities: BTreeMap<String, u32>,
    /// RDMA handles and objects by device; `None` is no limit.
    pub rdma: BTreeMap<String, (Option<u32>, Option<u32>)>,
    /// cgroup v2 files and what is written into them.
    pub unified: BTreeMap<String, String>,
}

/// One rule for device nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Allow or deny.
    pub allow: bool,
    /// `a` (all), `b` or `c`.
    pub kind: char,
    /// Device number; none is any.
    pub major: Option<u32>,
    /// Device number; none is any.
    pub minor: Option<u32>,
    /// Of `r`, `w` and `m`.
    pub access: String,
}

/// Memory limits in bytes; −1 is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// At most this much.
    pub limit: Option<i64>,
    /// Kept when memory is short.
    pub reservation: Option<i64>,
    /// Memory and swap together at most.
    pub swap: Option<i64>,
    /// Kernel memory (v1, no effect since Linux 5.16).
    pub kernel: Option<i64>,
    /// TCP buffers (v1).
    pub kernel_tcp: Option<i64>,
    /// 0 to 100 (v1).
    pub swappiness: Option<u64>,
    /// No kill when the limit is reached (v1).
    pub disable_oom_killer: Option<bool>,
    /// Refuse a limit that is below what is used.
    pub check_before_update: Option<bool>,
}

impl Resources {
    /// Bytes of memory that all processes may have together, if that is limited.
    pub fn memory_limit(&self) -> Option<u64> {
        let unified = self.unified.get("memory.max").and_then(|text| text.trim().parse().ok());
        let limits = [self.memory.limit.and_then(|limit| u64::try_from(limit).ok()), unified];
        limits.into_iter().flatten().filter(|limit| *limit > 0).min()
    }

    /// As a change of limits: whether memory's is among them, and what it is to be, if it is one.
    pub fn memory_change(&self) -> Option<Option<u64>> {
        let named = self.memory.limit.is_some_and(|limit| limit != 0) || self.unified.contains_key("memory.max");
        named.then(|| self.memory_limit())
    }

    /// Bytes that a program may write where that stays in memory: half of what it may have, as a tmpfs has half of a machine's, tmpfs(5).
    pub fn layer_limit(&self) -> Option<u64> {
        self.memory_limit().map(|limit| limit / 2)
    }
}

/// Processor limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpu {
    /// Weight against others, 2 to 262144, 1024 being usual.
    pub shares: Option<u64>,
    /// Microseconds of processor time a period; −1 is no limit.
    pub quota: Option<i64>,
    /// Microseconds that may be saved up.
    pub burst: Option<u64>,
    /// Microseconds.
    pub period: Option<u64>,
    /// Microseconds of real-time scheduling a period.
    pub realtime_runtime: Option<i64>,
    /// Microseconds.
    pub realtime_period: Option<u64>,
    /// Processors, `0-2,7`.
    pub cpus: Option<String>,
    /// Memory nodes, `0-1`.
    pub mems: Option<String>,
    /// 1 runs it only when nothing else wants to.
    pub idle: Option<i64>,
}

/// Block device limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockIo {
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// 10 to 1000 against the cgroup's own children (v1).
    pub leaf_weight: Option<u16>,
    /// Weights by device.
    pub weight_device: Vec<WeightDevice>,
    /// Bytes a second read.
    pub read_bps: Vec<Throttle>,
    /// Bytes a second written.
    pub write_bps: Vec<Throttle>,
    /// Reads a second.
    pub read_iops: Vec<Throttle>,
    /// Writes a second.
    pub write_iops: Vec<Throttle>,
}

/// A weight for one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightDevice {
    /// Device number.
    pub major: u32,
    /// Device number.
    pub minor: u32,
    /// 10 to 1000.
    pub weight: Option<u16>,
    /// 10 to 1000 (v1).
    pub leaf_weight: Option<u16>,
}

/// A rate for one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttle {
    /// Device number.
    pub major: u32,
    /// Device number.
    pub minor: u32,
    /// A second.
    pub rate: u64,
}
