//! `insula update`: other limits for a container that runs.

use super::read_limited;
use super::run::size;
use crate::global::Global;
use anyhow::{Context, ensure};
use insula_boundary::Boundary;
use insula_spec::oci;
use insula_spec::resources::Resources;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Change the limits of a running container
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  insula update --memory 1g --pids-limit 200 web\n  insula update --resources limits.json web"
)]
pub(crate) struct Args {
    /// The container
    id: String,
    /// Take the limits from this file (- is standard input), resources in OCI's JSON
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Memory, in bytes or with k, m or g; -1 is no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory: Option<String>,
    /// Memory kept when it is short
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_reservation: Option<String>,
    /// Memory and swap together
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Microseconds of processor time a period; -1 is no limit
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// Length of a period in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// Microseconds that may be saved up
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_burst: Option<u64>,
    /// Weight against others, 2 to 262144
    #[arg(long, visible_alias = "cpu-shares", value_name = "SHARES")]
    cpu_share: Option<u64>,
    /// 1: only when nothing else wants to run
    #[arg(long, value_name = "0|1")]
    cpu_idle: Option<i64>,
    /// Length of a period of real-time scheduling in microseconds (cgroup v1)
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_period: Option<u64>,
    /// Microseconds of real-time scheduling a period (cgroup v1)
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_rt_runtime: Option<i64>,
    /// Processors, like 0-2,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes, like 0-1
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Processes and threads; -1 is no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Weight of block I/O, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
}

pub(crate) fn main(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    let mut resources = match &args.resources {
        Some(path) => from_file(path)?,
        None => Resources::default(),
    };
    let bytes = |option: &str, text: &Option<String>| {
        let one = |text: &String| if text == "-1" { Some(-1) } else { size(text) };
        text.as_ref()
            .map(|text| one(text).with_context(|| format!("--{option}: {text:?} is no size; use bytes or k, m or g")))
            .transpose()
    };
    let memory = &mut resources.memory;
    memory.limit = bytes("memory", &args.memory)?.or(memory.limit);
    memory.reservation = bytes("memory-reservation", &args.memory_reservation)?.or(memory.reservation);
    memory.swap = bytes("memory-swap", &args.memory_swap)?.or(memory.swap);
    let cpu = &mut resources.cpu;
    cpu.quota = args.cpu_quota.or(cpu.quota);
    cpu.period = args.cpu_period.or(cpu.period);
    cpu.burst = args.cpu_burst.or(cpu.burst);
    cpu.shares = args.cpu_share.or(cpu.shares);
    cpu.idle = args.cpu_idle.or(cpu.idle);
    cpu.realtime_period = args.cpu_rt_period.or(cpu.realtime_period);
    cpu.realtime_runtime = args.cpu_rt_runtime.or(cpu.realtime_runtime);
    cpu.cpus = args.cpuset_cpus.or(cpu.cpus.take());
    cpu.mems = args.cpuset_mems.or(cpu.mems.take());
    resources.pids = args.pids_limit.or(resources.pids);
    resources.block_io.weight = args.blkio_weight.or(resources.block_io.weight);
    ensure!(resources != Resources::default(), "nothing to change; for example: insula update --memory 1g {}", args.id);
    global.containers().open(&args.id.parse()?)?.update(&resources)?;
    Ok(ExitCode::SUCCESS)
}

fn from_file(path: &Path) -> anyhow::Result<Resources> {
    let json = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().take(oci::MAX_CONFIG).read_to_end(&mut bytes).context("can't read standard input")?;
        bytes
    } else {
        read_limited(path, oci::MAX_CONFIG).with_context(|| format!("--resources: can't read {}", path.display()))?
    };
    Ok(oci::update_resources(&path.to_string_lossy(), &json)?)
}
