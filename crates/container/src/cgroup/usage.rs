//! What a container uses, as far as a group of it counts that; and word of memory that ran out.

use super::{Group, Groups, files};
use crate::channel::failed;
use insula_boundary::{Alarm, Error, Stats};
use insula_sys::Context;
use rustix::event::EventfdFlags;
use rustix::fs::inotify::{CreateFlags, WatchFlags};
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
    }
}
