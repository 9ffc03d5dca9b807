//! What a container uses, as far as a group of it counts that; and word of memory that ran out.

use super::{Group, Groups, files};
use crate::channel::failed;
use insula_boundary::{Alarm, BlockIo, Error, Hugepages, Stats};
use insula_sys::Context;
use rustix::event::EventfdFlags;
use rustix::fs::inotify::{CreateFlags, WatchFlags};
use std::collections::BTreeMap;
use std::os::fd::AsRawFd;

impl Groups {
    /// What is used, as far as a group measures it.
    pub(crate) fn stats(&self) -> Stats {
        self.list.iter().map(of_group).fold(Stats::default(), Stats::or)
    }

    /// Hears of memory that ran out, if a group counts it. Source: `Documentation/admin-guide/cgroup-v1/memory.rst`, chapter 10, and
    /// `cgroup-v2.rst`, `memory.events`.
    pub(crate) fn alarm(&self) -> Result<Option<Alarm>, Error> {
        let Some(group) = self.carrying("memory") else { return Ok(None) };
        if group.is_unified() {
            let counter = group.path.join("memory.events");
            let bell = rustix::fs::inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).on("make", "an inotify instance");
            let bell = bell.map_err(failed)?;
            rustix::fs::inotify::add_watch(&bell, &counter, WatchFlags::MODIFY).on("watch", counter.display()).map_err(failed)?;
            return Ok(Some(Alarm { bell, counter }));
        }
        let counter = group.path.join("memory.oom_control");
        let file = std::fs::File::open(&counter).on("open", counter.display()).map_err(failed)?;
        let bell = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).on("make", "an eventfd");
        let bell = bell.map_err(failed)?;
        let wish = format!("{} {}", bell.as_raw_fd(), file.as_raw_fd());
        files::write(&group.path.join("cgroup.event_control"), &wish)?;
        Ok(Some(Alarm { bell, counter }))
    }
}

fn of_group(group: &Group) -> Stats {
    let text = |file: &str| std::fs::read_to_string(group.path.join(file)).ok();
    let number = |file: &str| text(file)?.trim().parse::<u64>().ok();
    let named = |file: &str, name: &str| {
        text(file)?.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse::<u64>().ok())
    };
    // Nanoseconds here, microseconds there.
    let micros = |file: &str| number(file).map(|ns| ns / 1000);
    Stats {
        memory: number("memory.current").or_else(|| number("memory.usage_in_bytes")),
        memory_limit: number("memory.max").or_else(|| number("memory.limit_in_bytes")),
        memory_peak: number("memory.peak").or_else(|| number("memory.max_usage_in_bytes")),
        memory_cache: named("memory.stat", "file").or_else(|| named("memory.stat", "cache")),
        oom_kills: named("memory.events", "oom_kill").or_else(|| named("memory.oom_control", "oom_kill")),
        pids: number("pids.current"),
        pids_limit: number("pids.max"),
        cpu: named("cpu.stat", "usage_usec").or_else(|| micros("cpuacct.usage")),
        cpu_user: named("cpu.stat", "user_usec").or_else(|| micros("cpuacct.usage_user")),
        cpu_system: named("cpu.stat", "system_usec").or_else(|| micros("cpuacct.usage_sys")),
        cpu_periods: named("cpu.stat", "nr_periods"),
        cpu_throttled_periods: named("cpu.stat", "nr_throttled"),
        cpu_throttled: named("cpu.stat", "throttled_usec").or_else(|| Some(named("cpu.stat", "throttled_time")? / 1000)),
        block_io: if group.is_unified() { io_stat(&text("io.stat").unwrap_or_default()) } else { blkio(&text) },
        hugepages: hugepages(group),
    }
}

/// `MAJOR:MINOR rbytes=N wbytes=N rios=N wios=N …`, a line a device.
fn io_stat(text: &str) -> Vec<BlockIo> {
    let device = |line: &str| {
        let (number, counters) = line.split_once(' ')?;
        let (major, minor) = number.split_once(':')?;
        let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
        let of = |key: &str| {
            let mut words = counters.split_whitespace();
            words.find_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse().ok()).unwrap_or(0)
        };
        let both = [("Read", "rbytes", "rios"), ("Write", "wbytes", "wios")];
        let one = |(operation, bytes, requests): (&str, &str, &str)| BlockIo {
            major,
            minor,
            operation: operation.to_owned(),
            bytes: of(bytes),
            requests: of(requests),
        };
        Some(both.map(one))
    };
    text.lines().filter_map(device).flatten().collect()
}

/// `MAJOR:MINOR OPERATION N`, in one file for bytes and one for requests.
fn blkio(text: &impl Fn(&str) -> Option<String>) -> Vec<BlockIo> {
    let read = |what: &str| text(&format!("blkio.throttle.{what}_recursive")).unwrap_or_default();
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let key = (major.parse().ok()?, minor.parse().ok()?, words.next()?.to_owned());
        Some((key, words.next()?.parse().ok()?))
    };
    let requests: BTreeMap<(u32, u32, String), u64> = read("io_serviced").lines().filter_map(parse).collect();
    let of_bytes = read("io_service_bytes");
    let bytes = of_bytes.lines().filter_map(parse);
    bytes
        .map(|(key, bytes)| {
            let requests = requests.get(&key).copied().unwrap_or(0);
            let (major, minor, operation) = key;
            BlockIo { major, minor, operation, bytes, requests }
        })
        .collect()
}

fn hugepages(group: &Group) -> BTreeMap<String, Hugepages> {
    let mut all = BTreeMap::new();
    if group.controllers.contains(&"hugetlb") {
        for entry in std::fs::read_dir(&group.path).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let size = name.to_str().and_then(|name| name.strip_prefix("hugetlb.")?.split_once('.'));
            let Some((size, "current" | "usage_in_bytes")) = size else { continue };
            let read = |what: &str| std::fs::read_to_string(group.path.join(format!("hugetlb.{size}.{what}"))).ok();
            let number = |what: &str| read(what)?.trim().parse().ok();
            let events = || read("events")?.lines().find_map(|line| line.strip_prefix("max ")?.trim().parse().ok());
            let usage = number("current").or_else(|| number("usage_in_bytes")).unwrap_or(0);
            let failures = number("failcnt").or_else(events).unwrap_or(0);
            all.insert(size.to_owned(), Hugepages { usage, peak: number("max_usage_in_bytes"), failures });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_tell_of_devices() {
        let v2 = io_stat("254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\nnonsense\n8:16 \n");
        assert_eq!(v2.len(), 4);
        assert_eq!((v2[1].operation.as_str(), v2[1].bytes, v2[1].requests), ("Write", 8192, 2));
        let v1 = blkio(&|file: &str| {
            let bytes = file.ends_with("bytes_recursive");
            Some(if bytes { "254:0 Read 4096\n254:0 Total 4096\nTotal 4096\n" } else { "254:0 Read 3\nTotal 3\n" }.to_owned())
        });
        let seen: Vec<_> = v1.iter().map(|one| (one.operation.as_str(), one.bytes, one.requests)).collect();
        assert_eq!(seen, [("Read", 4096, 3), ("Total", 4096, 0)]);
    }
}
