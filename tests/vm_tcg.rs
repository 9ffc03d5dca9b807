//! Virtual machines on an emulated processor (`--accel tcg`): with QEMU and Debian's cloud kernel, on any host.

mod support;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use support::guest::{initrd, said};
use support::{World, eventually, signal, stderr, told};

/// Debian's kernel, with its modules, in a library for all of these tests.
fn kernel() -> Option<&'static Path> {
    static KERNEL: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    let made = KERNEL.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let import = Command::new(env!("CARGO_BIN_EXE_insula"))
            .args(["kernel", "import", "--debian", "--name", "k", "--library"])
            .arg(dir.path())
            .output();
        let entry = dir.path().join("k");
        import.is_ok_and(|output| output.status.success()).then_some((dir, entry))
    });
    made.as_ref().map(|(_, entry)| entry.as_path())
}

/// What a test needs, where it is there. One after the other: an emulated processor takes all of a real one.
fn place() -> Option<(World, PathBuf, MutexGuard<'static, ()>)> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    for (program, package) in [("qemu-system-x86_64", "qemu-system-x86"), ("busybox", "busybox-static")] {
        if !Command::new(program)
            .arg("--help")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
        {
            eprintln!("skipped: {program} isn't installed ({package})");
            return None;
        }
    }
    let Some(kernel) = kernel() else {
        eprintln!("skipped: Debian's kernel can't be had here");
        return None;
    };
    let world = World::new()?;
    let release = std::fs::read_to_string(kernel.join("kernel.json")).unwrap();
    let release: Value = serde_json::from_str(&release).unwrap();
    let to = world.directory("initrd-root/lib/modules").join(release["version"].as_str().unwrap());
    let copied = Command::new("cp").arg("-r").arg(kernel.join("modules")).arg(to).status().unwrap();
    assert!(copied.success());
    Some((world, kernel.join("image"), turn))
}

/// Drivers first: a machine of QEMU's has its devices on PCI.
const DRIVERS: &str =
    "mount -t devtmpfs dev /dev; for m in virtio_pci virtio_blk virtio_net virtio_balloon; do modprobe $m; done\n";

fn run(world: &World, kernel: &Path, initrd: &Path, more: &[&str]) -> Output {
    let mut args =
        vec!["vm", "run", "--accel", "tcg", "--kernel", kernel.to_str().unwrap(), "--initrd", initrd.to_str().unwrap()];
    args.extend(["--cmdline", "quiet loglevel=0"]);
    args.extend(more);
    world.output(args)
}

const NOTICE: &str = "insula: --accel tcg: QEMU emulates the processor, many times slower than KVM\n";

#[test]
fn the_same_machine_runs_on_an_emulated_processor() {
    let Some((world, kernel, _turn)) = place() else { return };
    let disk = world.path("a disk, with a comma");
    std::fs::write(&disk, [b"on the disk\n".as_slice(), &[0; 4 << 20]].concat()).unwrap();
    let script = DRIVERS.to_owned()
        + "echo cpus $(nproc); free -m | grep Mem; cat /sys/block/vda/serial; head -c 12 /dev/vda; cat /sys/class/net/*/address
           echo from the guest | dd of=/dev/vda bs=4096 seek=1 conv=sync,notrunc,fsync 2>/dev/null; poweroff -f";
    let tap = format!("insula{}", std::process::id() % 10_000);
    assert!(Command::new("ip").args(["tuntap", "add", &tap, "mode", "tap"]).status().unwrap().success());
    // Commas in a disk's name are the command line's own; a link has none.
    let link = world.path("disk");
    std::os::unix::fs::symlink(&disk, &link).unwrap();
    let disk_option = format!("{},serial=S7,bytes=100M", link.display());
    let net_option = format!("tap={tap},mac=02:00:00:00:00:33");
    let more = ["--cpus", "2", "--memory", "200M", "--disk", &disk_option, "--net", &net_option];
    let output = run(&world, &kernel, &initrd(&world, &script), &more);
    let busy = run(&world, &kernel, &kernel, &["--net", &format!("{net_option},queues=2")]);
    assert!(Command::new("ip").args(["link", "del", &tap]).status().unwrap().success());
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), NOTICE), "{}", told(&output));
    let said = said(&output);
    assert!(said.starts_with("cpus 2\nMem:") && said.contains("\nS7on the disk\n"), "{said:?}");
    assert!(said.contains("\n02:00:00:00:00:33\n"), "{said:?}");
    let after = std::fs::read(&disk).unwrap();
    assert!(after.starts_with(b"on the disk\n") && after[4096..].starts_with(b"from the guest\n"));
    assert_eq!(busy.status.code(), Some(125), "{}", told(&busy));
    let why = format!("the tap {tap} was made for one queue");
    assert!(stderr(&busy).contains(&why) && stderr(&busy).lines().count() == 1, "{}", told(&busy));
}

#[test]
fn a_reset_and_a_panic_end_with_one() {
    let Some((world, kernel, _turn)) = place() else { return };
    for script in ["echo resets; reboot -f", "echo panics; exit 3"] {
        let output = run(&world, &kernel, &initrd(&world, script), &[]);
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        assert!(said(&output).starts_with(script.split([' ', ';']).nth(1).unwrap()), "{}", told(&output));
    }
}

#[test]
fn an_emulated_machine_lives_in_the_background() {
    let Some((world, kernel, _turn)) = place() else { return };
    let disk = world.path("disk");
    std::fs::File::create(&disk).unwrap().set_len(8 << 20).unwrap();
    let script = DRIVERS.to_owned() + "echo ready; while read -r line; do eval \"$line\"; echo \"done with $line\"; done";
    let initrd = initrd(&world, &script);
    let start = |name: &str| {
        let mut command = world.insula(["vm", "run", "-d", "--accel", "tcg", "--name", name, "--kernel"]);
        command.arg(&kernel).arg("--initrd").arg(&initrd).arg("--disk").arg(&disk).args(["--balloon", "32M,stats=1"]);
        let output = support::output(command.args(["--cmdline", "quiet loglevel=0"]));
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), NOTICE), "{}", told(&output));
        eventually("the guest is up", || world.ok(["vm", "logs", name]).contains("ready"));
    };
    let seen = || serde_json::from_str::<Value>(&world.ok(["vm", "ps", "--all", "--format", "json"])).unwrap()[0].clone();
    let stats = || serde_json::from_str::<Value>(&world.ok(["vm", "stats", "e", "--format", "json"])).unwrap();
    start("e");
    assert!(seen()["status"] == "running" && seen()["accelerator"] == "tcg", "{}", seen());
    eventually("the guest has given up 32 MiB", || stats()["devices"][1]["actual"] == 32 << 20);
    eventually("the guest tells of its memory", || stats()["devices"][1]["guest"]["total"].as_u64() > Some(64 << 20));
    let told = stats();
    assert!(told["exits"].is_null() && told["memory"]["touched"].as_u64() > Some(16 << 20), "{told}");
    assert!(told["threads"].as_array().unwrap().iter().any(|thread| thread["name"] == "vcpu0"), "{told}");
    world.ok(["vm", "update", "e", "--balloon", "8M", "--limit", "disk0,ops=5000"]);
    eventually("the guest has taken some back", || stats()["devices"][1]["actual"] == 8 << 20);
    assert!(world.fails(1, ["vm", "update", "e", "--limit", "net0,tx-bytes=1M"]).contains("QEMU limits nothing else"));
    let in_use =
        world.fails(125, ["vm", "run", "--accel", "tcg", "--kernel", kernel.to_str().unwrap(), "--disk", disk.to_str().unwrap()]);
    assert!(in_use.contains("is in use by another machine"), "{in_use}");

    // The console, both ways; then the guest ends it.
    let line = world.file("line", "dd if=/dev/vda of=/dev/null bs=64k 2>/dev/null; echo $((6 * 7)); poweroff -f\n");
    let mut console = world.insula(["vm", "console", "e"]);
    console.stdin(std::fs::File::open(line).unwrap());
    let output = support::output(&mut console);
    assert!(said(&output).contains("\n42\n"), "{}", support::told(&output));
    eventually("its end", || seen()["status"] == "stopped");
    assert_eq!(seen()["exitCode"], 0);
    world.ok(["vm", "rm", "e"]);

    // Whoever ends our process ends QEMU.
    start("e");
    let pid = seen()["pid"].to_string();
    let child = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let qemu = PathBuf::from(format!("/proc/{}/exe", child.trim()));
    assert!(std::fs::read_link(&qemu).unwrap().to_str().unwrap().contains("qemu"));
    signal("KILL", &pid);
    eventually("QEMU's end", || std::fs::read_link(&qemu).is_err());
    // Ours may still be on its way out: the signal to QEMU comes from the thread that made it, not from the last one.
    eventually("our own end", || seen()["status"] == "stopped");
    world.ok(["vm", "rm", "e"]);

    // There is no driver for the power button in this guest.
    start("e");
    let output = world.output(["vm", "stop", "--time", "1", "e"]);
    assert!(output.status.success() && stderr(&output).contains("didn't switch off within"), "{}", support::told(&output));
    eventually("its end", || seen()["exitCode"] == 137);
}

#[test]
fn what_qemu_has_not_got_is_refused() {
    let Some((world, kernel, _turn)) = place() else { return };
    let kernel = kernel.to_str().unwrap();
    let text = world.file("text", "#!/bin/sh\n");
    for (args, words) in [
        (vec!["--kernel", kernel, "--vsock", "v"], "--vsock: not with --accel tcg: QEMU's sockets are the host kernel's"),
        (vec!["--kernel", kernel, "--disk", "d,ops=5:5"], "--disk: not with --accel tcg: QEMU has no burst"),
        (vec!["--kernel", kernel, "--net", "tap=t,rx-bytes=1M"], "--net: not with --accel tcg: QEMU doesn't limit network cards"),
        (vec!["--kernel", kernel, "--boot", "pvh"], "--boot: not with --accel tcg"),
        (vec!["--kernel", kernel, "--disk", "missing"], "can't open the disk missing: No such file"),
        (vec!["--kernel", kernel, "--net", "tap=insula-no"], "there is no tap insula-no"),
        (vec!["--kernel", kernel, "--initrd", "missing"], "can't use missing: No such file"),
        (vec!["--kernel", "missing"], "can't use missing: No such file"),
        (vec!["--kernel", text.to_str().unwrap()], "text: not a Linux kernel: it is a script"),
        (vec!["--kernel", kernel, "--cpus", "999"], "--cpus: 999 is outside 1 to 254"),
    ] {
        for detach in [None, Some("-d")] {
            let error = world.fails(125, ["vm", "run", "--accel", "tcg"].into_iter().chain(detach).chain(args.iter().copied()));
            assert!(error.contains(words), "{args:?}: {error}");
        }
    }
    assert_eq!(world.ok(["vm", "ps", "--all", "--quiet"]), "");
    let without = world.insula(["vm", "run", "--accel", "tcg", "--kernel", kernel]).env("PATH", world.path("")).output().unwrap();
    assert!(
        stderr(&without).contains("there is no qemu-system-x86_64; install QEMU") || Path::new("/usr/libexec/qemu-kvm").exists(),
        "{}",
        told(&without)
    );
}
