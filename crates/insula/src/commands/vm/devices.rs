//! What `--disk` and `--net` say.

use anyhow::{Context, bail};
use insula_virtio::{block, net};

/// `FILE[,ro][,direct][,serial=TEXT]`
pub(super) fn disk(text: &str) -> anyhow::Result<block::Config> {
    let (path, options) = split(text);
    let mut config = block::Config { path: path.into(), ..block::Config::default() };
    for option in options {
        match option.split_once('=') {
            None if option == "ro" => config.read_only = true,
            None if option == "direct" => config.cache = block::Cache::Direct,
            Some(("serial", serial)) => config.serial = serial.to_owned(),
            _ => bail!("--disk {text}: {option:?} is none of ro, direct, serial=TEXT"),
        }
    }
    Ok(config)
}

/// `tap=NAME[,mac=ADDRESS][,mtu=N]`
pub(super) fn card(text: &str) -> anyhow::Result<net::Config> {
    let (kind, options) = split(text);
    let tap = match kind.split_once('=') {
        Some(("tap", name)) if !name.is_empty() => name.to_owned(),
        None if kind == "user" => {
            bail!("--net user is not in this version yet; tap=NAME is (`ip tuntap add NAME mode tap` makes one)")
        }
        _ => bail!("--net {text}: write tap=NAME"),
    };
    let mut config = net::Config { tap, ..net::Config::default() };
    for option in options {
        match option.split_once('=') {
            Some(("mac", mac)) => {
                config.mac = Some(address(mac).with_context(|| format!("--net {text}: {mac:?} is no MAC address"))?)
            }
            Some(("mtu", mtu)) => config.mtu = Some(mtu.parse().with_context(|| format!("--net {text}: {mtu:?} is no MTU"))?),
            _ => bail!("--net {text}: {option:?} is none of mac=ADDRESS, mtu=N"),
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
    fn a_card_is_read() {
        let config = card("tap=t0,mac=02:00:00:00:00:0a,mtu=1400").unwrap();
        assert_eq!((config.tap.as_str(), config.mac, config.mtu), ("t0", Some([2, 0, 0, 0, 0, 10]), Some(1400)));
        for wrong in ["t0", "tap=", "tap=t0,mac=1:2", "tap=t0,mtu=x", "tap=t0,speed=9", "user"] {
            assert!(card(wrong).is_err(), "{wrong}");
        }
    }
}
