//! `insula vm update`: what can be changed of a machine that runs.

use super::devices;
use super::machines::Machines;
use super::options::bytes;
use crate::global::Global;
use anyhow::{Context, bail, ensure};
use insula_machine::control::{NewLimits, Request};
use insula_virtio::limiter::Limits;
use std::process::ExitCode;

/// Change the balloon and the limits of a machine that runs
#[derive(clap::Args)]
#[command(after_help = "A device's limits are those given here and no others: `--limit disk0` alone takes all of them away.\n\n\
    Examples:\n  insula vm update web --balloon 128M\n  insula vm update web --limit disk0,bytes=10M,ops=500 --limit net0,tx-bytes=1M:8M")]
pub(crate) struct Args {
    /// The machine
    name: String,
    /// How much memory the guest is to give up in all; 0 gives it all back
    #[arg(long, value_name = "SIZE", required_unless_present = "limit")]
    balloon: Option<String>,
    /// Limit a device, named as `insula vm stats` does; options as with --disk and --net of `insula vm run`; may be given several times
    #[arg(long, value_name = "DEVICE[,LIMIT...]")]
    limit: Vec<String>,
}

pub(crate) fn main(global: &Global, args: Args) -> anyhow::Result<ExitCode> {
    // All of it is understood before any of it is done.
    let mut requests = args.limit.iter().map(|text| limit(text)).collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(text) = &args.balloon {
        let bytes = if text == "0" { 0 } else { bytes("--balloon", text)? };
        requests.push(Request::Balloon { bytes });
    }
    let mut connection = Machines::new(global).find(&args.name)?.connect()?;
    for request in requests {
        connection.ask(&request)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// `DEVICE[,LIMIT...]`
fn limit(text: &str) -> anyhow::Result<Request> {
    let said = || format!("--limit {text}");
    let mut words = text.split(',').filter(|word| !word.is_empty());
    let device = words.next().with_context(|| format!("{}: names no device", said()))?.to_owned();
    let (mut both, mut receive, mut send) = (Limits::default(), Limits::default(), Limits::default());
    let card = device.starts_with("net");
    ensure!(card || device.starts_with("disk"), "{}: {device} has no limits; disk0, …, and net0, … have", said());
    for word in words {
        let understood = match word.split_once('=') {
            Some((name, value)) if card => devices::limit_of_card(&mut receive, &mut send, name, value).with_context(said)?,
            Some((name, value)) => devices::limit(&mut both, name, value, "ops").with_context(said)?,
            None => false,
        };
        if !understood {
            bail!(
                "{}: {word:?} is none of {}",
                said(),
                if card { "rx-bytes=, rx-packets=, tx-bytes=, tx-packets=" } else { "bytes=, ops=" }
            );
        }
    }
    Ok(Request::Limit(Box::new(match card {
        true => NewLimits { device, both: None, receive: Some(receive), send: Some(send) },
        false => NewLimits { device, both: Some(both), receive: None, send: None },
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_for_the_device_they_fit() {
        let Request::Limit(limits) = limit("net1,tx-bytes=1M").unwrap() else { panic!() };
        assert!(limits.device == "net1" && limits.both.is_none() && limits.receive == Some(Limits::default()));
        assert_eq!(limits.send.unwrap().bandwidth.unwrap().size, 1 << 20);
        let Request::Limit(limits) = limit("disk0").unwrap() else { panic!() };
        assert_eq!((limits.both, limits.send), (Some(Limits::default()), None));
        for wrong in ["", "rng0,bytes=1M", "disk0,tx-bytes=1", "net0,bytes=1", "disk0,fast"] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
    }
}
