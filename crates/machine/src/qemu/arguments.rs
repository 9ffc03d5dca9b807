//! QEMU's command line for a machine of ours.
//!
//! The machine is a q35: QEMU's own machine of few devices, microvm, has no clock by which a kernel on an emulated processor could find out how
//! fast that is. So a guest finds its devices on PCI, and needs the driver virtio_pci for them.

use crate::config::Config;
use crate::error::{Error, Result};
use insula_virtio::limiter::Limits;
use insula_virtio::{block, net};
use insula_vm::memory::Backing;
use serde_json::json;
use std::ffi::OsString;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// Refuses what QEMU hasn't got, or has in a way that would be another machine.
pub(super) fn check(config: &Config) -> Result<()> {
    let refuse = |option, problem: &str| Err(Error::Config { option, problem: format!("not with --accel tcg: {problem}") });
    if config.sockets.is_some() {
        return refuse("--vsock", "QEMU's sockets are the host kernel's (vhost_vsock), with addresses of their own and no path");
    }
    if config.boot.is_some() {
        return refuse("--boot", "QEMU enters a vmlinuz by Linux's protocol and a vmlinux by PVH");
    }
    let bursts =
        |limits: &Limits| [limits.bandwidth, limits.operations].into_iter().flatten().any(|bucket| bucket.one_time_burst > 0);
    if config.disks.iter().any(|disk| bursts(&disk.limits)) {
        return refuse("--disk", "QEMU has no burst that is granted once; leave out what follows the colon");
    }
    if config.cards.iter().any(|card| [card.receive, card.send] != [Limits::default(); 2]) {
        return refuse("--net", "QEMU doesn't limit network cards; `tc` can limit the tap");
    }
    if config.cards.iter().any(|card| matches!(card.cable, net::Cable::User(_))) {
        return refuse("--net", "QEMU's user network leads the guest to this host's loopback services; give it a tap");
    }
    Ok(())
}

/// The arguments; the guest's serial port and QEMU's monitor are sockets of these numbers.
pub(super) fn arguments(config: &Config, serial: i32, monitor: i32) -> Result<Vec<OsString>> {
    let mut args = Arguments::default();
    // Stopped at first, so that we are told whether all could be made; and a reset is an end.
    args.add("-nodefaults -no-user-config -display none -no-reboot -S");
    args.add("-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    args.add("-name insula,debug-threads=on");
    args.add("-machine q35,usb=off,sata=off,smbus=off,vmport=off,memory-backend=ram");
    args.add("-accel tcg,thread=multi -cpu max");
    args.add(&format!("-smp {}", config.vcpus));
    args.add(&format!("-m {}B", config.memory));
    let size = config.memory;
    args.add("-object").push(match config.backing {
        Backing::Private => format!("memory-backend-ram,id=ram,size={size}"),
        Backing::Shared => format!("memory-backend-memfd,id=ram,size={size},share=on"),
        Backing::Huge => format!("memory-backend-memfd,id=ram,size={size},share=on,hugetlb=on,prealloc=on"),
    });
    args.add("-kernel").push(&config.kernel);
    if let Some(initrd) = &config.initrd {
        args.add("-initrd").push(initrd);
    }
    args.add("-append").push(config.command_line_with_pci());
    args.add(&format!("-chardev socket,id=serial,fd={serial} -serial chardev:serial"));
    args.add(&format!("-chardev socket,id=monitor,fd={monitor} -mon chardev=monitor,mode=control"));
    args.add("-device virtio-rng-pci,id=rng0");
    for (number, disk) in config.disks.iter().enumerate() {
        args.disk(number, disk);
    }
    for (number, card) in config.cards.iter().enumerate() {
        args.card(number, card);
    }
    if let Some(balloon) = &config.balloon {
        let on = |value: bool| if value { "on" } else { "off" };
        args.add("-device").push(format!(
            "virtio-balloon-pci,id=balloon0,deflate-on-oom={},free-page-reporting={}",
            on(balloon.deflate_on_oom),
            on(balloon.free_page_reporting)
        ));
    }
    Ok(args.0)
}

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    /// Adds words.
    fn add(&mut self, words: &str) -> &mut Self {
        self.0.extend(words.split(' ').map(Into::into));
        self
    }

    /// Adds one word, whatever is in it.
    fn push(&mut self, word: impl Into<OsString>) -> &mut Self {
        self.0.push(word.into());
        self
    }

    fn disk(&mut self, number: usize, disk: &block::Config) {
        let is_device = std::fs::metadata(&disk.path).is_ok_and(|data| data.file_type().is_block_device());
        let driver = if is_device { "host_device" } else { "file" };
        let cache = json!({"direct": disk.cache == block::Cache::Direct, "no-flush": false});
        // The path as JSON has it: no character of it means anything to QEMU.
        let node = json!({
            "node-name": format!("node{number}"), "driver": "raw", "read-only": disk.read_only, "discard": "unmap",
            "cache": cache, "file": {"driver": driver, "filename": text(&disk.path), "cache": cache, "discard": "unmap"},
        });
        self.add("-blockdev").push(node.to_string());
        let device = json!({
            "driver": "virtio-blk-pci", "id": format!("disk{number}"), "drive": format!("node{number}"), "serial": disk.serial,
        });
        self.add("-device").push(device.to_string());
    }

    fn card(&mut self, number: usize, card: &net::Config) {
        let queues = card.pairs.max(1);
        let mut tap =
            json!({"type": "tap", "id": format!("tap{number}"), "ifname": card.tap(), "script": "no", "downscript": "no"});
        let mut device = json!({"driver": "virtio-net-pci", "id": format!("net{number}"), "netdev": format!("tap{number}")});
        if queues > 1 {
            tap["queues"] = queues.into();
            device["mq"] = true.into();
            device["vectors"] = (2 * queues + 2).into();
        }
        if let Some(mac) = card.mac {
            device["mac"] = mac.map(|byte| format!("{byte:02x}")).join(":").into();
        }
        if let Some(mtu) = card.mtu {
            device["host_mtu"] = mtu.into();
        }
        self.add("-netdev").push(tap.to_string());
        self.add("-device").push(device.to_string());
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
