//! A guest that is Linux itself: another network namespace, joined to the network under test by a tap. The host is a namespace as well, so
//! that nothing here depends on where it runs, and nothing reaches anybody.

use insula_sys::process::{Spaces, join_namespace, unshare};
use insula_sys::tap::{self, Offload};
use insula_usernet::{Config, Network};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, OwnedFd};
use std::fs::File;
use std::io::IoSlice;
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use vm_memory::VolatileSlice;

/// The host's addresses, which aren't its loopback's.
pub(crate) const HOST: &str = "192.0.2.1";
pub(crate) const HOST6: &str = "2001:db8::1";
/// The gateway's, as the guest sees it.
pub(crate) const GATEWAY: &str = "10.0.2.2";
pub(crate) const GATEWAY6: &str = "fd69:6e73:756c::2";

/// What is different from a good cable between two Linuxes of today.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cable {
    /// So many frames are lost: one of ten, of those that go either way.
    pub(crate) loses: u32,
    /// Nobody leaves anything to the other: frames are small and have their checksums.
    pub(crate) plain: bool,
}

/// Host, guest, and the network between them.
pub(crate) struct World {
    host: File,
    guest: File,
    /// Its end is the network's.
    _end: OwnedFd,
    network: Option<JoinHandle<()>>,
}

/// Runs a command that must succeed.
pub(crate) fn must(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Waits for something that takes a moment.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{what} didn't come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Bytes that don't repeat.
pub(crate) fn bytes(length: usize, seed: u32) -> Vec<u8> {
    (0..length as u32).map(|at| (at.wrapping_add(seed).wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

fn new_namespace() -> Option<File> {
    let make = || {
        unshare(Spaces::NET).ok()?;
        must("ip link set lo up");
        File::open("/proc/thread-self/ns/net").ok()
    };
    std::thread::spawn(make).join().unwrap()
}

fn within<T: Send>(namespace: &File, act: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let run = || {
            join_namespace(namespace, Spaces::NET).unwrap();
            act()
        };
        match scope.spawn(run).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

impl World {
    /// None, with a word on standard error, where namespaces can't be had.
    pub(crate) fn new(config: Config) -> Option<World> {
        World::with(config, Cable::default())
    }

    pub(crate) fn with(mut config: Config, cable: Cable) -> Option<World> {
        let (Some(host), Some(guest)) = (new_namespace(), new_namespace()) else {
            eprintln!("skipped: network namespaces need root");
            return None;
        };
        if config.resolv_conf == Config::default().resolv_conf {
            config.resolv_conf = "/dev/null".into();
        }
        // An address that isn't on the loopback device, and a way out, which leads nowhere.
        within(&host, || {
            must("ip tuntap add up0 mode tap && ip link set up0 up && ip addr add 192.0.2.1/24 dev up0");
            must("ip addr add 2001:db8::1/64 dev up0 nodad && ip route add default via 192.0.2.254");
            must("ip -6 route add default via 2001:db8::fe");
            // Nobody there, and nobody who would say so at once otherwise.
            must("ip route add unreachable 198.51.100.0/24");
        });
        let tap = within(&guest, || {
            let tap = tap::open("t0", false).unwrap();
            // To ask for a router at once.
            must("sysctl -qw net.ipv6.conf.t0.router_solicitation_delay=0");
            tap
        });
        let (read, end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let (ready, started) = std::sync::mpsc::channel();
        let namespace = host.try_clone().unwrap();
        let mtu = config.mtu;
        let network = std::thread::spawn(move || {
            join_namespace(namespace, Spaces::NET).unwrap();
            let mut network = Network::new(&config).unwrap();
            ready.send(()).unwrap();
            if cable.loses == 0 && !cable.plain {
                insula_usernet::tap::carry(&mut network, tap, read).unwrap();
            } else {
                carry(&mut network, &tap, &read, cable);
            }
        });
        started.recv().unwrap();
        let world = World { host, guest, _end: end, network: Some(network) };
        world.in_guest(|| {
            must(&format!(
                "ip link set t0 mtu {mtu} up && ip addr add 10.0.2.15/24 dev t0 && ip route add default via {GATEWAY}"
            ));
        });
        Some(world)
    }

    /// With an address of IPv6's, too, which the guest makes by itself.
    pub(crate) fn await_ipv6(&self) {
        self.in_guest(|| {
            eventually("an address and a route of IPv6's", || {
                let addresses = must("ip -6 addr show dev t0 scope global");
                let routes = must("ip -6 route show default");
                let known = addresses.contains("fd69:6e73:756c:0:") && !addresses.contains("tentative");
                (known && routes.contains("via fe80::2")).then_some(())
            });
        });
    }

    pub(crate) fn on_host<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        within(&self.host, act)
    }

    pub(crate) fn in_guest<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        within(&self.guest, act)
    }

    /// Both at once; what either answers.
    pub(crate) fn both<H: Send, G: Send>(&self, host: impl FnOnce() -> H + Send, guest: impl FnOnce() -> G + Send) -> (H, G) {
        std::thread::scope(|scope| {
            let guest = scope.spawn(|| self.in_guest(guest));
            let host = self.on_host(host);
            (host, guest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The pipe's end is what the network waits for.
        let (_, other) = rustix::pipe::pipe().unwrap();
        self._end = other;
        let ended = self.network.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "the network went on until it was told to end");
        }
    }
}

/// As `insula_usernet::tap::carry`, over a cable that isn't good.
fn carry(network: &mut Network, tap: &OwnedFd, end: &OwnedFd, cable: Cable) {
    let offload = if cable.plain { Offload::empty() } else { Offload::CHECKSUM | Offload::TSO4 | Offload::TSO6 };
    tap::set_offload(tap, offload).unwrap();
    network.set_offload(offload);
    let (mut state, mut left) = (1_u64, cable.loses);
    let mut lost = || {
        // Knuth's generator.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let lost = left > 0 && (state >> 33) % 10 == 0;
        left -= u32::from(lost);
        lost
    };
    let mut buffer = vec![0; 70_000];
    loop {
        let mut waited = [tap.as_fd(), network.as_fd(), end.as_fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        poll(&mut waited, None).unwrap();
        let [_, from_host, ended] = waited.map(|fd| !fd.revents().is_empty());
        if ended {
            return;
        }
        if from_host {
            network.poll().unwrap();
        }
        while let Ok(length) = rustix::io::read(tap, &mut buffer) {
            if !lost() {
                network.send(&[VolatileSlice::from(&mut buffer[..length])]);
            }
        }
        while let Some(frame) = network.receive(usize::MAX) {
            if !lost() {
                let _ = rustix::io::writev(tap, &frame.pieces().map(IoSlice::new));
            }
        }
    }
}
