//! What `--disk`, `--net` and `--balloon` say.

use super::options::bytes;
use anyhow::{Context, bail};
use insula_virtio::limiter::{Bucket, Limits};
use insula_virtio::net::{self, Cable};
use insula_virtio::{balloon, block};

/// `FILE[,ro][,direct][,serial=TEXT][,LIMIT...]`
pub(super) fn disk(text: &str) -> anyhow::Result<block::Config> {
    let (path, options) = split(text);
    let mut config = block::Config { path: path.into(), ..block::Config::default() };
    for option in options {
        match option.split_once('=') {
            None if option == "ro" => config.read_only = true,
            None if option == "direct" => config.cache = block::Cache::Direct,
            Some(("serial", serial)) => config.serial = serial.to_owned(),
            Some((name, value)) if limit(&mut config.limits, name, value, "ops").with_context(|| said("--disk", text))? => {}
            _ => bail!("--disk {text}: {option:?} is none of ro, direct, serial=TEXT, bytes=SIZE[:BURST], ops=N[:BURST]"),
        }
    }
    Ok(config)
}

fn said(option: &str, text: &str) -> String {
    format!("{option} {text}")
}

/// Takes `bytes` and what else is counted, if it is one of them: so many a second, and so many more once.
pub(super) fn limit(limits: &mut Limits, name: &str, value: &str, operations: &str) -> anyhow::Result<bool> {
    let number = |text: &str| match name {
        "bytes" => bytes(name, text),
        _ => text.parse().ok().filter(|number| *number > 0).with_context(|| format!("{name}: {text:?} is no number above 0")),
    };
    let place = match name {
        "bytes" => &mut limits.bandwidth,
        name if name == operations => &mut limits.operations,
        _ => return Ok(false),
    };
    let (rate, burst) = value.split_once(':').map_or((value, None), |(rate, burst)| (rate, Some(burst)));
    *place = Some(Bucket { size: number(rate)?, one_time_burst: burst.map_or(Ok(0), number)?, refill_ms: 1000 });
    Ok(true)
}

/// The limits of both ways of a card: `rx-bytes`, `tx-packets`, ….
pub(super) fn limit_of_card(receive: &mut Limits, send: &mut Limits, name: &str, value: &str) -> anyhow::Result<bool> {
    match name.split_once('-') {
        Some(("rx", name)) => limit(receive, name, value, "packets"),
        Some(("tx", name)) => limit(send, name, value, "packets"),
        _ => Ok(false),
    }
}

/// `tap=NAME[,queues=N]`, or `user[,publish=PORTS]…[,host-loopback][,subnet=NETWORK][,hostname=NAME]`; then `[,mac=ADDRESS][,mtu=N][,LIMIT...]`
pub(super) fn card(text: &str) -> anyhow::Result<net::Config> {
    let (kind, options) = split(text);
    let mut config = net::Config::default();
    let mut network = match kind.split_once('=') {
        Some(("tap", name)) if !name.is_empty() => {
            config.cable = Cable::Tap(name.to_owned());
            None
        }
        None if kind == "user" => Some(insula_usernet::Config::default()),
        _ => bail!("--net {text}: write tap=NAME, or user"),
    };
    let said = || said("--net", text);
    for option in options {
        let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        match (name, value, &mut network) {
            ("mac", Some(mac), _) => {
                config.mac = Some(address(mac).with_context(|| format!("{}: {mac:?} is no MAC address", said()))?);
            }
            ("mtu", Some(mtu), _) => {
                config.mtu = Some(mtu.parse().with_context(|| format!("{}: {mtu:?} is no MTU", said()))?);
            }
            ("queues", Some(count), None) => {
                let pairs = count.parse().ok().filter(|pairs| (1..=net::MOST_PAIRS).contains(pairs));
                config.pairs = pairs.with_context(|| format!("{}: {count:?} is not 1 to {}", said(), net::MOST_PAIRS))?;
            }
            ("publish", Some(ports), Some(network)) => network.publish.push(ports.parse().with_context(said)?),
            ("subnet", Some(subnet), Some(network)) => network.subnet = subnet.parse().with_context(said)?,
            ("hostname", Some(name), Some(network)) => network.hostname = Some(name.to_owned()),
            ("host-loopback", None, Some(network)) => network.host_loopback = true,
            (_, Some(value), _) if limit_of_card(&mut config.receive, &mut config.send, name, value).with_context(said)? => {}
            (_, _, network) => {
                let own = match network {
                    Some(_) => {
                        "publish=[HOSTADDR:]HOSTPORT:GUESTPORT[/tcp|/udp], host-loopback, subnet=NETWORK/BITS, hostname=NAME"
                    }
                    None => "queues=N",
                };
                bail!(
                    "{}: {option:?} is none of mac=ADDRESS, mtu=N, rx-bytes=SIZE[:BURST], rx-packets=N[:BURST], tx-bytes=, tx-packets=, {own}",
                    said()
                )
            }
        }
    }
    if let Some(mut network) = network {
        network.mtu = config.mtu.unwrap_or(network.mtu);
        network.check().with_context(said)?;
        config.cable = Cable::User(network);
    }
    Ok(config)
}

/// `[SIZE][,deflate-on-oom][,free-page-reporting][,stats=SECONDS]`
pub(super) fn balloon(text: &str) -> anyhow::Result<balloon::Config> {
    let mut config = balloon::Config::default();
    for (index, option) in text.split(',').filter(|option| !option.is_empty()).enumerate() {
        match option {
            "deflate-on-oom" => config.deflate_on_oom = true,
            "free-page-reporting" => config.free_page_reporting = true,
            "0" if index == 0 => {}
            option => match option.strip_prefix("stats=") {
                Some(seconds) => {
                    let seconds = seconds.parse().ok().filter(|seconds| *seconds > 0);
                    config.statistics_seconds =
                        seconds.with_context(|| format!("--balloon {text}: stats= wants whole seconds"))?;
                }
                None if index == 0 => config.bytes = bytes("--balloon", option)?,
                None => bail!("--balloon {text}: {option:?} is none of deflate-on-oom, free-page-reporting, stats=SECONDS"),
            },
        }
    }
    Ok(config)
}

fn split(text: &str) -> (&str, impl Iterator<Item = &str>) {
    let (first, rest) = text.split_once(',').unwrap_or((text, ""));
    (first, rest.split(',').filter(|option| !option.is_empty()))
}

/// Six numbers of two hexadecimal digits.
fn address(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> =
        text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok().filter(|_| byte.len() == 2)).collect();
    bytes?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_read() {
        let config = disk("/a/b=c.img,ro,serial=S1").unwrap();
        assert_eq!((config.path.to_str(), config.read_only, config.serial.as_str()), (Some("/a/b=c.img"), true, "S1"));
        assert_eq!(disk("d,direct").unwrap().cache, block::Cache::Direct);
        assert!(disk("d,rw").unwrap_err().to_string().contains("none of ro"));
    }

    #[test]
    fn limits_are_read() {
        let bucket = |size, one_time_burst| Some(Bucket { size, one_time_burst, refill_ms: 1000 });
        let limits = disk("d,bytes=10M:1G,ops=500").unwrap().limits;
        assert_eq!((limits.bandwidth, limits.operations), (bucket(10 << 20, 1 << 30), bucket(500, 0)));
        let card = card("tap=t0,rx-bytes=1K,tx-packets=7:9,queues=4").unwrap();
        assert_eq!(
            (card.receive.bandwidth, card.receive.operations, card.send.operations),
            (bucket(1024, 0), None, bucket(7, 9))
        );
        assert_eq!((card.send.bandwidth, card.pairs), (None, 4));
        for wrong in ["d,bytes=0", "d,bytes=x", "d,ops=1K", "d,ops=1:", "d,packets=1", "d,bytes"] {
            assert!(disk(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_balloon_is_read() {
        let all = balloon("64M,deflate-on-oom,free-page-reporting,stats=5").unwrap();
        assert_eq!((all.bytes, all.deflate_on_oom, all.free_page_reporting, all.statistics_seconds), (64 << 20, true, true, 5));
        let none = balloon::Config::default();
        assert_eq!((balloon("0").unwrap(), balloon("").unwrap()), (none, none));
        assert!(balloon("stats=2").unwrap().statistics_seconds == 2 && balloon(",deflate-on-oom").unwrap().deflate_on_oom);
        for wrong in ["much", "deflate-on-oom,64M", "0,stats=0", "0,shrink"] {
            assert!(balloon(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_card_on_a_tap_is_read() {
        let config = card("tap=t0,mac=02:00:00:00:00:0a,mtu=1400").unwrap();
        assert_eq!((config.cable, config.mac, config.mtu), (Cable::Tap("t0".into()), Some([2, 0, 0, 0, 0, 10]), Some(1400)));
        for wrong in [
            "t0",
            "tap=",
            "tap=t0,mac=1:2",
            "tap=t0,mtu=x",
            "tap=t0,speed=9",
            "tap=t0,queues=0",
            "tap=t0,rx-ops=1",
            "tap=t0,publish=1:2",
            "tap=t0,host-loopback",
        ] {
            assert!(card(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_user_network_is_read() {
        let network = |text: &str| match card(text).unwrap().cable {
            Cable::User(network) => network,
            Cable::Tap(name) => panic!("a tap named {name}"),
        };
        assert_eq!(network("user"), insula_usernet::Config::default());
        let text = "user,mtu=1500,publish=8080:80,publish=[::1]:53:53/udp,host-loopback,subnet=10.9.0.0/24,hostname=web";
        let read = network(text);
        assert_eq!(read.publish.iter().map(ToString::to_string).collect::<Vec<_>>(), ["8080:80/tcp", "[::1]:53:53/udp"]);
        assert_eq!((read.mtu, read.host_loopback, read.subnet.guest().to_string().as_str()), (1500, true, "10.9.0.15"));
        assert_eq!(read.hostname.as_deref(), Some("web"));
        for (wrong, why) in [
            ("user=x", "write tap=NAME, or user"),
            ("user,tap=x", "none of mac=ADDRESS"),
            ("user,mtu=1000", "1280 to 65520"),
            ("user,publish=80", "write [HOSTADDR:]"),
            ("user,publish=0:80", "is no port"),
            ("user,publish=1:80/sctp", "neither tcp nor udp"),
            ("user,publish=::1:1:80", "in brackets"),
            ("user,subnet=10.0.2.1/24", "bits set"),
            ("user,subnet=10.0.2.0/30", "8 to 27"),
            ("user,subnet=127.0.0.0/8", "hosts can have"),
            ("user,hostname=a_b", "no host name"),
        ] {
            let error = format!("{:#}", card(wrong).unwrap_err());
            assert!(error.starts_with(&format!("--net {wrong}: ")) && error.contains(why), "{error}");
        }
    }
}
