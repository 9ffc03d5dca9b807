//! What QEMU, and the kernel, tell of a machine of QEMU's.

use super::monitor::Monitor;
use crate::config::Config;
use crate::error::Result;
use crate::marks::Marks;
use crate::stats::{Device, Memory, Stats, Thread, count};
use insula_virtio::device::Counters;
use insula_virtio::{balloon, block, net};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::read_to_string;
use std::time::Instant;

/// Where the balloon is among QEMU's objects.
pub(super) const BALLOON: &str = "/machine/peripheral/balloon0";

/// The taps of network cards. QEMU counts nothing of them, but the kernel does, since they were made.
pub(super) struct Cards(Vec<(String, net::Counters)>);

impl Cards {
    pub(super) fn new(cards: &[net::Config]) -> Cards {
        Cards(cards.iter().filter_map(|card| card.tap()).map(|tap| (tap.to_owned(), of_tap(tap))).collect())
    }

    fn counters(&self) -> impl Iterator<Item = net::Counters> {
        self.0.iter().map(|(tap, before)| {
            let now = of_tap(tap);
            net::Counters {
                received_packets: now.received_packets.saturating_sub(before.received_packets),
                received_bytes: now.received_bytes.saturating_sub(before.received_bytes),
                received_dropped: now.received_dropped.saturating_sub(before.received_dropped),
                sent_packets: now.sent_packets.saturating_sub(before.sent_packets),
                sent_bytes: now.sent_bytes.saturating_sub(before.sent_bytes),
                sent_dropped: now.sent_dropped.saturating_sub(before.sent_dropped),
            }
        })
    }
}

/// What the host's side sends is what the guest's receives.
fn of_tap(tap: &str) -> net::Counters {
    let read = |name: &str| {
        let text = read_to_string(format!("/sys/class/net/{tap}/statistics/{name}"));
        text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    };
    net::Counters {
        received_packets: read("tx_packets"),
        received_bytes: read("tx_bytes"),
        received_dropped: read("tx_dropped"),
        sent_packets: read("rx_packets"),
        sent_bytes: read("rx_bytes"),
        sent_dropped: read("rx_dropped"),
    }
}

pub(super) fn stats(monitor: &mut Monitor, config: &Config, qemu: u32, since: Instant, cards: &Cards) -> Result<Stats> {
    let mut devices = disks(monitor, config.disks.len())?;
    let named = |number, counters| Device { name: format!("net{number}"), counters: Counters::Net(counters) };
    devices.extend(cards.counters().enumerate().map(|(number, counters)| named(number, counters)));
    if config.balloon.is_some() {
        let counters = Counters::Balloon(balloon_of(monitor, config)?);
        devices.push(Device { name: "balloon0".into(), counters });
    }
    Ok(Stats {
        accelerator: "tcg".into(),
        running_ms: u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
        marks: Marks::default(),
        exits: None,
        memory: memory(qemu, config.memory),
        threads: threads(qemu),
        devices,
    })
}

fn disks(monitor: &mut Monitor, disks: usize) -> Result<Vec<Device>> {
    let all = monitor.ask("query-blockstats", json!({}))?;
    let of = |number: usize| {
        all.as_array()?.iter().find(|one| one["qdev"].as_str().is_some_and(|qdev| qdev.contains(&format!("/disk{number}/"))))
    };
    let device = |number: usize| {
        let stats = of(number)?.get("stats")?;
        let read = |name: &str| stats[name].as_u64().unwrap_or(0);
        let errors = ["failed_rd_operations", "failed_wr_operations", "failed_flush_operations", "failed_unmap_operations"];
        let counters = block::Counters {
            reads: read("rd_operations"),
            writes: read("wr_operations"),
            flushes: read("flush_operations"),
            discards: read("unmap_operations"),
            errors: errors.into_iter().map(read).sum(),
            read_bytes: read("rd_bytes"),
            written_bytes: read("wr_bytes"),
        };
        Some(Device { name: format!("disk{number}"), counters: Counters::Block(counters) })
    };
    Ok((0..disks).filter_map(device).collect())
}

fn balloon_of(monitor: &mut Monitor, config: &Config) -> Result<balloon::Counters> {
    let actual = monitor.ask("query-balloon", json!({}))?["actual"].as_u64().unwrap_or(config.memory);
    let mut guest = BTreeMap::new();
    if config.balloon.is_some_and(|balloon| balloon.statistics_seconds > 0) {
        let answer = monitor.ask("qom-get", json!({"path": BALLOON, "property": "guest-stats"}))?;
        let told = answer.get("stats").and_then(Value::as_object).into_iter().flatten();
        // What the guest hasn't told is -1.
        guest.extend(
            told.filter_map(|(name, value)| {
                Some((known_as(name).to_owned(), value.as_u64().filter(|value| *value != u64::MAX)?))
            }),
        );
    }
    let given_up = config.memory.saturating_sub(actual);
    Ok(balloon::Counters { target: given_up, actual: given_up, reported: 0, guest })
}

/// QEMU's name of a statistic in ours.
fn known_as(name: &str) -> &str {
    match name {
        "stat-swap-in" => "swapped_in",
        "stat-swap-out" => "swapped_out",
        "stat-major-faults" => "major_faults",
        "stat-minor-faults" => "minor_faults",
        "stat-free-memory" => "free",
        "stat-total-memory" => "total",
        "stat-available-memory" => "available",
        "stat-disk-caches" => "caches",
        "stat-htlb-pgalloc" => "huge_pages_made",
        "stat-htlb-pgfail" => "huge_pages_failed",
        other => other,
    }
}

/// Of QEMU's memory: the guest's is the mapping of its size.
fn memory(qemu: u32, guest: u64) -> Memory {
    let unknown = Memory { guest, touched: None, beside: None };
    let Ok(smaps) = read_to_string(format!("/proc/{qemu}/smaps")) else { return unknown };
    let ranges = smaps.lines().filter_map(|line| {
        let (start, end) = line.split_whitespace().next()?.split_once('-')?;
        Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
    });
    let Some(place) = ranges.into_iter().find(|range| range.end - range.start == guest) else { return unknown };
    let (touched, beside) = count(&smaps, &[place]);
    Memory { guest, touched: Some(touched), beside: Some(beside) }
}

/// QEMU's threads, by our names: its first is the event loop.
fn threads(qemu: u32) -> Vec<Thread> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{qemu}/task")) else { return Vec::new() };
    let mut threads: Vec<(u32, Thread)> = tasks
        .filter_map(|task| {
            let task = task.ok()?;
            let number = task.file_name().to_str()?.parse().ok()?;
            let name = read_to_string(task.path().join("comm")).ok()?;
            let name = match name.trim_end().strip_prefix("CPU ").and_then(|rest| rest.split('/').next()) {
                Some(cpu) => format!("vcpu{cpu}"),
                None if number == qemu => "events".into(),
                None => name.trim_end().to_owned(),
            };
            let schedstat = read_to_string(task.path().join("schedstat")).ok()?;
            Some((number, Thread { name, cpu_ns: schedstat.split_whitespace().next()?.parse().ok()? }))
        })
        .collect();
    threads.sort_by_key(|(number, _)| *number);
    threads.into_iter().map(|(_, thread)| thread).collect()
}
