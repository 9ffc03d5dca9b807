//! `insula events`: what a container uses, again and again, and word of memory that ran out; as `runc events` has it.
//!
//! One JSON object a line. What no group of the container's counts isn't in it.

mod network;

use crate::global::Global;
use crate::show::show;
use anyhow::{Context, ensure};
use insula_boundary::{BlockIo, Boundary, Hugepages, Sandbox, Stats, Status};
use insula_spec::Id;
use insula_sys::process;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;

/// Tell what a container uses, and when its memory runs out
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  insula events --stats web\n  insula events --interval 1s web")]
pub(crate) struct Args {
    /// The container
    id: String,
    /// How often to tell what it uses
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// Tell once, and end
    #[arg(long)]
    stats: bool,
}

pub(crate) fn main(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    ensure!(args.interval >= Duration::from_millis(1), "--interval: {:?} is no time to wait; use 1s or more", args.interval);
    let id: Id = args.id.parse()?;
    let containers = global.containers();
    let sandbox = containers.open(&id)?;
    let status = sandbox.status();
    ensure!(status != Status::Stopped, "{id} is {}; only a container that lives uses anything", status.as_str());
    if args.stats {
        let init = containers.store().find(&id)?.read_init().map_or(0, |init| init.pid);
        tell(&id, "stats", Some(usage(&sandbox.stats()?, &network::interfaces(&sandbox.entry().plan, init))))?;
        return Ok(ExitCode::SUCCESS);
    }
    let init = containers.store().find(&id)?.read_init().with_context(|| format!("{id} is still being made; try again"))?;
    let pid = Pid::from_raw(init.pid).with_context(|| format!("{id} has no first process"))?;
    if let Some(first) = process::find(pid, init.started)? {
        follow(sandbox.as_ref(), &id, init.pid, &first, args.interval)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells of the container until it ends.
fn follow(sandbox: &dyn Sandbox, id: &Id, pid: i32, first: &rustix::fd::OwnedFd, interval: Duration) -> anyhow::Result<()> {
    let alarm = sandbox.alarm()?;
    let mut kills = alarm.as_ref().and_then(|alarm| alarm.kills()).unwrap_or(0);
    let wait = Timespec::try_from(interval).context("--interval: is too long")?;
    loop {
        let mut fds = vec![PollFd::new(first, PollFlags::IN)];
        fds.extend(alarm.iter().map(|alarm| PollFd::new(&alarm.bell, PollFlags::IN)));
        let ready = match poll(&mut fds, Some(&wait)) {
            Err(rustix::io::Errno::INTR) => continue,
            ready => ready.context("can't wait for events")?,
        };
        let ended = !fds[0].revents().is_empty();
        drop(fds);
        if let Some(alarm) = &alarm {
            alarm.hush();
            // Without a number the group is gone, and rang for that.
            let now = alarm.kills().unwrap_or(kills);
            for _ in kills..now {
                tell(id, "oom", None)?;
            }
            kills = now;
        }
        if ended {
            return Ok(());
        }
        if ready == 0
            && let Ok(stats) = sandbox.stats()
        {
            tell(id, "stats", Some(usage(&stats, &network::interfaces(&sandbox.entry().plan, pid))))?;
        }
    }
}

fn tell(id: &Id, kind: &str, data: Option<Value>) -> anyhow::Result<()> {
    let mut line = json!({"type": kind, "id": id.to_string()});
    if let Some(data) = data {
        line["data"] = data;
    }
    show(format!("{line}\n"))
}

/// In runc's form: nanoseconds and bytes.
fn usage(stats: &Stats, interfaces: &[Value]) -> Value {
    let block_io = |value: fn(&BlockIo) -> u64| {
        let one = |io: &BlockIo| json!({"major": io.major, "minor": io.minor, "op": io.operation, "value": value(io)});
        (!stats.block_io.is_empty()).then(|| stats.block_io.iter().map(one).collect::<Vec<_>>())
    };
    let pages = |(size, pages): (&String, &Hugepages)| {
        (size.clone(), json!({"usage": pages.usage, "max": pages.peak, "failcnt": pages.failures}))
    };
    let nanoseconds = |time: Option<u64>| time.map(|microseconds| microseconds.saturating_mul(1000));
    let mut data = json!({
        "cpu": {
            "usage": {"total": nanoseconds(stats.cpu), "user": nanoseconds(stats.cpu_user), "kernel": nanoseconds(stats.cpu_system)},
            "throttling": {
                "periods": stats.cpu_periods,
                "throttledPeriods": stats.cpu_throttled_periods,
                "throttledTime": nanoseconds(stats.cpu_throttled)
            }
        },
        "memory": {
            "cache": stats.memory_cache,
            "usage": {"usage": stats.memory, "limit": stats.memory_limit, "max": stats.memory_peak},
            "oomKills": stats.oom_kills
        },
        "pids": {"current": stats.pids, "limit": stats.pids_limit},
        "blkio": {"ioServiceBytesRecursive": block_io(|io| io.bytes), "ioServicedRecursive": block_io(|io| io.requests)},
        "hugetlb": stats.hugepages.iter().map(pages).collect::<serde_json::Map<_, _>>(),
        "network_interfaces": (!interfaces.is_empty()).then_some(interfaces)
    });
    prune(&mut data);
    data
}

/// Leaves out what isn't known.
fn prune(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.values_mut().for_each(prune);
        fields.retain(|_, value| !value.is_null() && value.as_object().is_none_or(|object| !object.is_empty()));
    }
}
