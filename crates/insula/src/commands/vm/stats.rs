//! `insula vm stats`: how a machine that runs is.

use super::machines::Machines;
use super::options::Format;
use crate::global::Global;
use crate::show::show;
use crate::table;
use anyhow::bail;
use insula_machine::control::{Answer, Request};
use insula_machine::marks::Marks;
use insula_machine::stats::Stats;
use insula_virtio::device::Counters;
use std::process::ExitCode;

/// Show what a machine uses and does
#[derive(clap::Args)]
#[command(
    after_help = "Memory \"touched\" is what of the guest's is in the host's memory; \"beside\" is what our process needs on top of it. \
    \"start\" counts from where our program began; init is seen by the serial console, which the guest's kernel opens for it.\n\n\
    Examples:\n  insula vm stats web\n  insula vm stats web --format json | jq .memory.touched"
)]
pub(crate) struct Args {
    /// The machine
    name: String,
    /// Form of the output
    #[arg(short, long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: Format,
}

pub(crate) fn main(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    let stats = match Machines::new(global).find(&args.name)?.connect()?.ask(&Request::Stats {})? {
        Answer::Stats(stats) => *stats,
        answer => bail!("the machine {} answers {answer:?}", args.name),
    };
    show(match args.format {
        Format::Json => format!("{}\n", serde_json::to_string(&stats)?),
        Format::Table => table::lines(&["WHAT", "VALUE"], &rows(&stats)),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn rows(stats: &Stats) -> Vec<Vec<String>> {
    let mut rows = vec![
        row("accelerator", &stats.accelerator),
        row("running", format!("{:.1} s", stats.running_ms as f64 / 1000.0)),
        row("memory, guest's", mebibytes(stats.memory.guest)),
        row("memory, touched", stats.memory.touched.map_or_else(unknown, mebibytes)),
        row("memory, beside", stats.memory.beside.map_or_else(unknown, mebibytes)),
    ];
    rows.extend(marks(&stats.marks).map(|marks| row("start", marks)));
    if let Some(exits) = stats.exits {
        rows.push(row("exits", format!("{} ports, {} memory, {} others", exits.ports, exits.memory, exits.others)));
    }
    rows.extend(
        stats
            .threads
            .iter()
            .map(|thread| row(format!("time of {}", thread.name), format!("{:.3} s", thread.cpu_ns as f64 / 1e9))),
    );
    rows.extend(stats.devices.iter().map(|device| row(&device.name, counters(&device.counters))));
    rows
}

/// How long after our program began its start got how far; nothing of an emulated one.
pub(super) fn marks(marks: &Marks) -> Option<String> {
    let milliseconds = |time: u64| format!("{:.1} ms", time as f64 / 1000.0);
    let entered = milliseconds(marks.entered_us?);
    let init = marks.init_us.map_or_else(|| "init not seen".into(), |time| format!("init after {}", milliseconds(time)));
    Some(format!("guest entered after {entered}, {init}"))
}

fn row(what: impl Into<String>, value: impl Into<String>) -> Vec<String> {
    vec![what.into(), value.into()]
}

fn unknown() -> String {
    "unknown".into()
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn counters(counters: &Counters) -> String {
    match counters {
        Counters::Rng(rng) => format!("{} bytes", rng.bytes),
        Counters::Block(block) => format!(
            "read {} in {} requests, written {} in {}; {} flushes, {} discards, {} errors",
            mebibytes(block.read_bytes),
            block.reads,
            mebibytes(block.written_bytes),
            block.writes,
            block.flushes,
            block.discards,
            block.errors
        ),
        Counters::Net(net) => format!(
            "got {} in {} packets, {} dropped; sent {} in {}, {} dropped",
            mebibytes(net.received_bytes),
            net.received_packets,
            net.received_dropped,
            mebibytes(net.sent_bytes),
            net.sent_packets,
            net.sent_dropped
        ),
        Counters::Vsock(vsock) => {
            format!("{} connections; got {} packets, sent {}", vsock.connections, vsock.received_packets, vsock.sent_packets)
        }
        Counters::Balloon(balloon) => {
            let guest: Vec<String> = balloon.guest.iter().map(|(name, value)| format!("{name} {value}")).collect();
            let guest = if guest.is_empty() { String::new() } else { format!("; the guest says: {}", guest.join(", ")) };
            let [actual, target, reported] = [balloon.actual, balloon.target, balloon.reported].map(mebibytes);
            format!("{actual} of {target} given up, {reported} reported free{guest}")
        }
    }
}
